"""Dot-product kernels K(c) on the sphere."""

from ntkengine.kernels.base import DotProductKernel
from ntkengine.kernels.builtin import FormulaKernel, kernel

__all__ = ["DotProductKernel", "FormulaKernel", "kernel"]
