"""Bounds of a program's result over intervals of its variable: where it can be infinite is found by bisection.

Interval arithmetic (Moore, *Interval Analysis*, 1966) on NumPy arrays of intervals. Every operation gives an interval that
contains its values for all arguments in the intervals given, widened by more than rounding; a bound may be infinite. What has
no value anywhere on an interval, like the logarithm of a negative number, is NaN; where an argument is partly outside the
domain of a root or logarithm the part inside counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkengine.formula import _symbols as fn
from ntkengine.formula._program import Program
from ntkengine.formula._values import ARRAY, value

__all__ = ["INTERVALS", "Interval", "unbounded"]

Array = NDArray[np.float64]

_LARGEST = float(np.finfo(np.float64).max)
#: Beyond the rounding of NumPy's and SciPy's functions, relative.
_SLACK = 16 * float(np.finfo(np.float64).eps)
#: Where gelu is least.
_GELU_LOW = -0.7517915246935645
#: Pieces to begin with, into how many each is cut, how often, and how many are followed.
_PIECES, _CUTS, _ROUNDS, _MOST = 64, 8, 12, 1 << 16


class Interval:
    """Numbers from ``low`` to ``high``, elementwise; of what overflows float64 the inner bound is the largest float64.

    Parameters
    ----------
    low, high : float or (n,) array
    """

    __slots__ = ("high", "low")
    __array_ufunc__ = None  # NumPy numbers leave the arithmetic to this class

    def __init__(self, low: Any, high: Any) -> None:
        self.low, self.high = low, high

    @staticmethod
    def of(x: Any) -> Interval:
        """An interval as it is; a number as the interval that holds it alone."""
        return x if isinstance(x, Interval) else Interval(np.float64(x), np.float64(x))

    @staticmethod
    def around(low: Any, high: Any) -> Interval:
        """The interval widened for rounding."""
        low, high = np.minimum(low, _LARGEST), np.maximum(high, -_LARGEST)
        return Interval(low - _SLACK * np.abs(low), high + _SLACK * np.abs(high))

    @property
    def size(self) -> Interval:
        """Of the absolute values."""
        largest = np.maximum(np.abs(self.low), np.abs(self.high))
        around_0 = (self.low <= 0) & (self.high >= 0)
        return Interval(np.where(around_0, 0.0, np.minimum(np.abs(self.low), np.abs(self.high))), largest)

    def __add__(self, other: Any) -> Interval:
        other = Interval.of(other)
        low, high = self.low + other.low, self.high + other.high
        known = ~(np.isnan(self.low) | np.isnan(other.low))  # ∞ − ∞ may be anything
        return Interval.around(
            np.where(known & np.isnan(low), -math.inf, low), np.where(known & np.isnan(high), math.inf, high)
        )

    __radd__ = __add__

    def __mul__(self, other: Any) -> Interval:
        other = Interval.of(other)
        ends = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        products = np.array(np.broadcast_arrays(*ends))
        products[np.isnan(products)] = 0.0  # a bound that is infinite is not attained
        empty = np.isnan(self.low) | np.isnan(other.low)
        low, high = (np.where(empty, math.nan, end) for end in (products.min(axis=0), products.max(axis=0)))
        return Interval.around(low, high)

    __rmul__ = __mul__

    def __rtruediv__(self, numerator: Any) -> Interval:
        low = np.where(self.high == 0, -math.inf, 1 / self.high)
        high = np.where(self.low == 0, math.inf, 1 / self.low)
        across = ((self.low < 0) & (self.high > 0)) | ((self.low == 0) & (self.high == 0))
        low, high = np.where(across, -math.inf, low), np.where(across, math.inf, high)
        return Interval.around(low, high) * numerator

    def __pow__(self, n: int) -> Interval:
        base = self if n % 2 else self.size
        return Interval.around(base.low**n, base.high**n)


def _rising(kind: Any) -> Callable[[Any], Interval]:
    def apply(x: Any) -> Interval:
        x = Interval.of(x)
        return Interval.around(ARRAY[kind](x.low), ARRAY[kind](x.high))

    return apply


def _rising_from_0(kind: Any) -> Callable[[Any], Interval]:
    def apply(x: Any) -> Interval:
        x = Interval.of(x)
        inside = np.where(x.high < 0, math.nan, np.maximum(x.low, 0.0))
        return Interval.around(ARRAY[kind](inside), ARRAY[kind](x.high))

    return apply


def _passes(x: Interval, phase: float, period: float) -> Any:
    """Whether ``phase`` plus a multiple of ``period`` lies in the interval; where it is infinite, yes."""
    room = _SLACK * (1 + np.abs(x.low) + np.abs(x.high))
    passed = np.ceil((x.low - room - phase) / period) <= np.floor((x.high + room - phase) / period)
    return passed | ~np.isfinite(x.high - x.low)


def _wave(kind: Any, top: float) -> Callable[[Any], Interval]:
    """Sine or cosine, which is 1 at ``top``."""

    def apply(x: Any) -> Interval:
        x = Interval.of(x)
        ends = ARRAY[kind](x.low), ARRAY[kind](x.high)
        low = np.where(_passes(x, top + math.pi, 2 * math.pi), -1.0, np.minimum(*ends))
        high = np.where(_passes(x, top, 2 * math.pi), 1.0, np.maximum(*ends))
        empty = np.isnan(x.low)
        return Interval.around(np.where(empty, math.nan, low), np.where(empty, math.nan, high))

    return apply


def _tan(x: Any) -> Interval:
    x = Interval.of(x)
    pole = _passes(x, math.pi / 2, math.pi) & ~np.isnan(x.low)
    low, high = np.where(pole, -math.inf, np.tan(x.low)), np.where(pole, math.inf, np.tan(x.high))
    return Interval.around(low, high)


def _cosh(x: Any) -> Interval:
    size = Interval.of(x).size
    return Interval.around(np.cosh(size.low), np.cosh(size.high))


def _gelu(x: Any) -> Interval:
    x = Interval.of(x)
    ends = [ARRAY[fn.Gelu](np.maximum(end, -100.0)) for end in (x.low, x.high)]
    least = ARRAY[fn.Gelu](_GELU_LOW)
    low = np.where((x.low < _GELU_LOW) & (x.high > _GELU_LOW), least, np.minimum(*ends))
    return Interval.around(low, np.maximum(*ends))


def _greater(a: Any, b: Any) -> Interval:
    a, b = Interval.of(a), Interval.of(b)
    return Interval(1.0 * (a.low > b.high), 1.0 * (a.high > b.low))


def _at_most(a: Any, b: Any) -> Interval:
    a, b = Interval.of(a), Interval.of(b)
    return Interval(1.0 * (a.high <= b.low), 1.0 * (a.low <= b.high))


def _extreme(kind: Any) -> Callable[[Any, Any], Interval]:
    def apply(a: Any, b: Any) -> Interval:
        a, b = Interval.of(a), Interval.of(b)
        return Interval(ARRAY[kind](a.low, b.low), ARRAY[kind](a.high, b.high))

    return apply


#: The functions of the formula language on intervals.
INTERVALS: dict[Any, Callable[..., Interval]] = {
    **{kind: _rising(kind) for kind in (fn.Exp, fn.Sinh, fn.Tanh, fn.Erf, fn.Sigmoid, fn.Softplus, fn.Sign)},
    **{kind: _rising_from_0(kind) for kind in (fn.Log, fn.Sqrt)},
    fn.Sin: _wave(fn.Sin, math.pi / 2),
    fn.Cos: _wave(fn.Cos, 0.0),
    fn.Tan: _tan,
    fn.Cosh: _cosh,
    fn.Gelu: _gelu,
    fn.Abs: lambda x: Interval.of(x).size,
    fn.Greater: _greater,
    fn.AtMost: _at_most,
    fn.Max: _extreme(fn.Max),
    fn.Min: _extreme(fn.Min),
}


def unbounded(program: Program, p: Array) -> float | None:
    """A point of [-1, 1] at which a program has a pole or no value, or changes too fast to be bounded; None if there is none.

    Pieces of [-1, 1] whose bounds are infinite are cut until none is left, or one of width 1e-12 is. Of more than 8,000 such
    pieces at a time only some are followed, evenly, so that a pole of a function as wild as that may be missed.

    Parameters
    ----------
    program : Program
        With a complement, 1 − variable.
    p : (P,) array
        Values of its parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkengine.formula import parse_program
    >>> from ntkengine.formula._intervals import unbounded
    >>> _, program = parse_program("1/(c - 0.1234567)", "c", complement=True)
    >>> round(unbounded(program, np.empty(0)), 9)
    0.1234567
    >>> _, program = parse_program("exp(0.3*log(1 - c)) + sqrt(1 - c**2)", "c", complement=True)
    >>> unbounded(program, np.empty(0)) is None
    True
    """
    edges = np.linspace(-1.0, 1.0, _PIECES + 1)
    low, high = edges[:-1], edges[1:]
    for _ in range(_ROUNDS):
        found = _over(program, p, low, high)
        empty = np.flatnonzero(np.isnan(found.low) | np.isnan(found.high))
        if empty.size:
            return 0.5 * float(low[empty[0]] + high[empty[0]])
        left = np.flatnonzero(~(np.isfinite(found.low) & np.isfinite(found.high)))
        if not left.size:
            return None
        left = left[:: -(-left.size * _CUTS // _MOST)]
        parts = np.linspace(low[left], high[left], _CUTS + 1)
        low, high = parts[:-1].ravel(), parts[1:].ravel()
    return 0.5 * float(low[0] + high[0])


def _over(program: Program, p: Array, low: Array, high: Array) -> Interval:
    """The result's bounds on the pieces from ``low`` to ``high``, each (n,)."""
    known: dict[Any, Any] = {
        program.variable: Interval(low, high),
        program.complement: Interval.around(1 - high, 1 - low),
    }
    known.update(zip(program.parameters.values(), map(Interval.of, p)))
    with np.errstate(all="ignore"):
        for symbol, expression in program.statements.items():
            known[symbol] = value(expression, known, INTERVALS)
        result = Interval.of(value(program.result, known, INTERVALS))
    return Interval(np.broadcast_to(result.low, low.shape), np.broadcast_to(result.high, low.shape))
