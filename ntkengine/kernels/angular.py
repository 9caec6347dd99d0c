"""Kernels that are formulas in the angle θ = arccos c: arc-cosine kernels and cosines of multiples of the angle."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkengine._check import integer
from ntkengine.errors import InputError
from ntkengine.kernels.base import DotProductKernel

__all__ = ["ArcCosine", "Chebyshev"]

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

#: Below this angle, sums of sines and cosines that cancel are taken from their power series, of this many terms.
_SMALL, _TERMS = 1.0, 12


def angle(c: Array, complement: Array) -> Array:
    """θ from c and 1 − c, to about its own relative accuracy near 0."""
    near = 2 * np.arcsin(np.sqrt(np.clip(complement, 0.0, 2.0) / 2))
    return np.where(c >= 0, near, np.pi - 2 * np.arcsin(np.sqrt(np.clip(1 + c, 0.0, 2.0) / 2)))


def _odd_series(x: Array, scale: int, first: int) -> Array:
    """``Σ_{k >= first} (−1)^{k+1} (2k − scale)/(2k+1)! x^{2k+1}``."""
    total = np.zeros_like(x)
    for k in range(first + _TERMS, first - 1, -1):
        total = total * x * x + (-1) ** (k + 1) * (2 * k - scale) / math.factorial(2 * k + 1)
    return total * x ** (2 * first + 1)


class ArcCosine(DotProductKernel):
    """The arc-cosine kernel ``J_n(θ)/J_n(0)`` of order n = 0, 1 or 2, which is 1 at c = 1.

    ``J_0 = π − θ, J_1 = sin θ + (π − θ) cos θ, J_2 = 3 sin θ cos θ + (π − θ)(1 + 2 cos²θ)`` (Cho & Saul 2009, eqs. 5-7): the
    NNGP kernels of one hidden layer of steps, of relu and of relu², up to a factor.

    Examples
    --------
    >>> from ntkengine.kernels.angular import ArcCosine
    >>> ArcCosine(1)([-1.0, 0.0, 1.0]).round(6)
    array([0.     , 0.31831, 1.     ])
    """

    def __init__(self, order: int) -> None:
        self.order = integer("order", order, 0, ", at most 2")
        if self.order > 2:
            raise InputError(f"order is {order}; arc-cosine kernels have order 0, 1 or 2")

    @property
    def name(self) -> str:
        """The family's name and the order."""
        return f"arc_cosine(order={self.order})"

    def _values(self, c: Array, complement: Array) -> Array:
        return 1 - self._deficit(c, complement)

    def _values_at_angle(self, theta: Array) -> Array:
        return 1 - self._deficit_at_angle(theta)

    def _deficit(self, c: Array, complement: Array) -> Array:
        return self._deficit_at_angle(angle(c, complement))

    def _deficit_at_angle(self, theta: Array) -> Array:
        if self.order == 0:
            return theta / np.pi
        if self.order == 1:  # 1 − cos θ − (sin θ − θ cos θ)/π
            rest = np.where(
                theta < _SMALL,
                _odd_series(np.minimum(theta, _SMALL), 0, 1),
                np.sin(theta) - theta * np.cos(theta),
            )
            return 2 * np.sin(theta / 2) ** 2 - rest / np.pi
        # (2 sin²θ − (3 sin θ cos θ − θ (1 + 2 cos²θ))/π)/3
        rest = np.where(
            theta < _SMALL / 2,
            _odd_series(2 * np.minimum(theta, _SMALL / 2), 2, 2) / 2,
            3 * np.sin(theta) * np.cos(theta) - theta * (1 + 2 * np.cos(theta) ** 2),
        )
        return (2 * np.sin(theta) ** 2 - rest / np.pi) / 3

    def _complex(self, c: Complex) -> Complex:
        return self._closed(c, np.sqrt((1 - c) * (1 + c)), np.pi - np.arccos(c), np.pi)

    def _series(self, x: Any) -> Any:
        from flint import arb

        if x.coeffs() == [1]:
            return x
        square = 1 - x * x
        inverse = square.rsqrt()
        opposite = (x.derivative() * inverse).integral() + (arb.pi() - x[0].acos())
        return self._closed(x, square * inverse, opposite, arb.pi())

    def _closed(self, c: Any, sine: Any, opposite: Any, pi: Any) -> Any:
        """J_n/J_n(0) from cos θ, sin θ and π − θ."""
        if self.order == 0:
            return opposite / pi
        if self.order == 1:
            return (sine + opposite * c) / pi
        return (3 * sine * c + opposite * (1 + 2 * c * c)) / (3 * pi)


class Chebyshev(DotProductKernel):
    """cos nθ, the Chebyshev polynomial T_n(c); positive definite for n <= 1 only.

    Examples
    --------
    >>> from ntkengine.kernels.angular import Chebyshev
    >>> Chebyshev(3).taylor(3)
    PowerSeries([ 0., -3.,  0.,  4.])
    """

    def __init__(self, degree: int) -> None:
        self.degree = integer("degree", degree, 0)

    @property
    def name(self) -> str:
        """The polynomial's name."""
        return f"T{self.degree}(c)"

    def _values(self, c: Array, complement: Array) -> Array:
        return 1 - self._deficit(c, complement)

    def _values_at_angle(self, theta: Array) -> Array:
        return 1 - self._deficit_at_angle(theta)

    def _deficit(self, c: Array, complement: Array) -> Array:
        return self._deficit_at_angle(angle(c, complement))

    def _deficit_at_angle(self, theta: Array) -> Array:
        return 2 * np.sin(self.degree * theta / 2) ** 2

    def _complex(self, c: Complex) -> Complex:
        return np.cos(self.degree * np.arccos(c))

    def _series(self, x: Any) -> Any:
        """By ``T_2m = 2 T_m² − 1, T_{2m+1} = 2 T_m T_{m+1} − x``, along the binary digits of n."""
        low, high = x * 0 + 1, x
        for bit in f"{self.degree:b}":
            odd = 2 * low * high - x
            low, high = (odd, 2 * high * high - 1) if bit == "1" else (2 * low * low - 1, odd)
        return low
