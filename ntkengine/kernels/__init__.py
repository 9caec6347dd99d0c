"""Dot-product kernels K(c) on the sphere."""

from ntkengine.kernels.base import DotProductKernel

__all__ = ["DotProductKernel"]
