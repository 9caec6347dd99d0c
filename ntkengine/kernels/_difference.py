"""Arithmetic that keeps the digits of f(1) − f(c) as c tends to 1, where the subtraction of two values loses them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from ntkengine.formula import _symbols as fn
from ntkengine.formula._values import ARRAY

__all__ = ["DIFFERENCES", "Difference"]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(10)
_ROOT_HALF = math.sqrt(0.5)


class Difference:
    """A quantity at c, at 1, and its increase Δf from c to 1, as accurate as the increases that it is the sum of.

    Every operation takes increases to an increase: ``Δ(fg) = Δf g(1) + f(c) Δg``, ``Δeᶠ = −e^{f(1)} (e^{−Δf} − 1)``. Where
    that leaves the finite numbers (an overflow, log 0 on the way to a power of 0) the increase is f(1) − f(c) as it stands.

    Parameters
    ----------
    here : float or (n,) array
        f(c).
    there : float
        f(1).
    gain : float or (n,) array
        f(1) − f(c).
    """

    __slots__ = ("gain", "here", "there")
    __array_ufunc__ = None

    def __init__(self, here: Any, there: Any, gain: Any) -> None:
        finite = np.isfinite(gain)
        if not finite.all():
            with np.errstate(all="ignore"):
                gain = np.where(finite, gain, there - here)
        self.here, self.there, self.gain = here, there, gain

    @staticmethod
    def of(x: Any) -> Difference:
        """A difference as it is; a number as a constant."""
        return x if isinstance(x, Difference) else Difference(x, x, 0.0)

    def __add__(self, other: Any) -> Difference:
        other = Difference.of(other)
        return Difference(self.here + other.here, self.there + other.there, self.gain + other.gain)

    __radd__ = __add__

    def __mul__(self, other: Any) -> Difference:
        other = Difference.of(other)
        return Difference(
            self.here * other.here,
            self.there * other.there,
            self.gain * other.there + self.here * other.gain,
        )

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Difference:
        return Difference(self.here / divisor, self.there / divisor, self.gain / divisor)

    def __rtruediv__(self, numerator: float) -> Difference:
        gain = -numerator * self.gain / self.here / self.there
        return Difference(numerator / self.here, numerator / self.there, gain)

    def __pow__(self, n: int) -> Difference:
        result, base = Difference.of(1.0), self
        while n:
            if n & 1:
                result = result * base
            base, n = base * base, n >> 1
        return result


def _sqrt_gain(a: Any, b: Any, d: Any) -> Any:
    total = np.sqrt(a) + np.sqrt(b)
    return np.where(total > 0, d / np.where(total > 0, total, 1.0), np.where(total == 0, 0.0, np.nan))


def _erf_gain(a: Any, b: Any, d: Any) -> Any:
    """By Gauss-Legendre quadrature of the density over short steps, by subtraction over long ones."""
    middle = a + 0.5 * d
    steps = np.multiply.outer(0.5 * d, _NODES)
    density = np.exp(-((np.expand_dims(middle, -1) + steps) ** 2)) @ _WEIGHTS
    return np.where(np.abs(d) < 0.5, d * density / math.sqrt(math.pi), special.erf(b) - special.erf(a))


def _log_gain(a: Any, b: Any, d: Any) -> Any:
    ratio = d / a
    return np.where(np.abs(ratio) < 0.5, np.log1p(ratio), np.log(b) - np.log(a))


def _exp_gain(a: Any, b: Any, d: Any) -> Any:
    return np.sign(d) * np.exp(np.maximum(a, b)) * -np.expm1(-np.abs(d))


def _sigmoid_gain(a: Any, b: Any, d: Any) -> Any:
    sides = special.expit(np.maximum(a, b)) * special.expit(-np.minimum(a, b))
    return np.sign(d) * sides * -np.expm1(-np.abs(d))


def _softplus_gain(a: Any, b: Any, d: Any) -> Any:
    return np.sign(d) * np.log1p(special.expit(np.minimum(a, b)) * np.expm1(np.abs(d)))


def _gelu_gain(a: Any, b: Any, d: Any) -> Any:
    steep = 0.5 * _erf_gain(a * _ROOT_HALF, b * _ROOT_HALF, d * _ROOT_HALF)
    return d * special.ndtr(b) + a * steep


#: f(b) − f(a) from a, b and d = b − a.
_GAINS: dict[Any, Callable[[Any, Any, Any], Any]] = {
    fn.Exp: _exp_gain,
    fn.Log: _log_gain,
    fn.Sqrt: _sqrt_gain,
    fn.Sin: lambda a, b, d: 2 * np.cos(a + d / 2) * np.sin(d / 2),
    fn.Cos: lambda a, b, d: -2 * np.sin(a + d / 2) * np.sin(d / 2),
    fn.Tan: lambda a, b, d: np.sin(d) / (np.cos(a) * np.cos(b)),
    fn.Sinh: lambda a, b, d: 2 * np.cosh(a + d / 2) * np.sinh(d / 2),
    fn.Cosh: lambda a, b, d: 2 * np.sinh(a + d / 2) * np.sinh(d / 2),
    fn.Tanh: lambda a, b, d: np.sinh(d) / (np.cosh(a) * np.cosh(b)),
    fn.Erf: _erf_gain,
    fn.Sigmoid: _sigmoid_gain,
    fn.Softplus: _softplus_gain,
    fn.Gelu: _gelu_gain,
}


def _smooth(kind: Any) -> Callable[[Any], Any]:
    def apply(x: Any) -> Any:
        x = Difference.of(x)
        return Difference(ARRAY[kind](x.here), ARRAY[kind](x.there), _GAINS[kind](x.here, x.there, x.gain))

    return apply


def _switch(kind: Any) -> Callable[..., Any]:
    def apply(*arguments: Any) -> Any:
        each = [Difference.of(x) for x in arguments]
        here, there = ARRAY[kind](*(x.here for x in each)), ARRAY[kind](*(x.there for x in each))
        return Difference(here, there, there - here)

    return apply


#: The functions of the formula language on differences; where a formula changes branch, plain subtraction.
DIFFERENCES: dict[Any, Callable[..., Any]] = {kind: _smooth(kind) for kind in _GAINS} | {
    kind: _switch(kind) for kind in fn.SWITCHES
}
