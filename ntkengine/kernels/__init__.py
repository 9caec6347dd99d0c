"""Dot-product kernels K(c) on the sphere: the contract (:mod:`.base`), power series (:mod:`.taylor`), algebra, families."""

from ntkengine.kernels.base import DotProductKernel
from ntkengine.kernels.families import KernelFamily, kernel, registry
from ntkengine.kernels.formula import FormulaKernel
from ntkengine.kernels.taylor import PowerSeries

__all__ = [
    "BUILTINS",
    "DotProductKernel",
    "FormulaKernel",
    "KernelFamily",
    "PowerSeries",
    "kernel",
    "registry",
]

#: Names of the built-in families, which :mod:`.builtin` defines as ``<name>_family``.
BUILTINS = (
    "arc_cosine",
    "cosh",
    "exponential",
    "gaussian",
    "geometric",
    "laplace",
    "linear",
    "matern",
    "monomial",
    "periodic",
    "polynomial",
    "rational_quadratic",
    "sinh",
)
