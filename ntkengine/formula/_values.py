"""Values of a program without compiling it: on NumPy arrays, on polynomials, and on one-sided Taylor expansions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ntkengine.formula import _symbols as fn
from ntkengine.formula._program import Program

__all__ = ["ARRAY", "Expansion", "expand", "polynomial", "polynomials", "run", "value"]

Array = NDArray[np.float64]
Table = dict[Any, Callable[..., Any]]

_ROOT_HALF = math.sqrt(0.5)
_PEAK = 1 / math.sqrt(2 * math.pi)


def _density(x: Any) -> Any:
    return _PEAK * np.exp(-0.5 * x * x)


#: NumPy's functions for the classes of :mod:`._symbols`, elementwise in float64.
ARRAY: Table = {
    fn.Exp: np.exp,
    fn.Log: np.log,
    fn.Sqrt: np.sqrt,
    fn.Sin: np.sin,
    fn.Cos: np.cos,
    fn.Tan: np.tan,
    fn.Sinh: np.sinh,
    fn.Cosh: np.cosh,
    fn.Tanh: np.tanh,
    fn.Erf: special.erf,
    fn.Sigmoid: special.expit,
    fn.SigmoidSlope: lambda x: special.expit(x) * special.expit(-x),
    fn.Softplus: lambda x: np.logaddexp(x, 0.0),
    fn.Gelu: lambda x: x * special.ndtr(x),
    fn.GeluSlope: lambda x: special.ndtr(x) + x * _density(x),
    fn.Abs: np.abs,
    fn.Sign: np.sign,
    fn.Greater: lambda a, b: 1.0 * np.greater(a, b),
    fn.AtMost: lambda a, b: 1.0 * np.less_equal(a, b),
    fn.Max: np.maximum,
    fn.Min: np.minimum,
}


def value(expression: Any, known: dict[Any, Any], table: Table) -> Any:
    """The value of a SymPy expression, its symbols' values ``known``, its functions those of ``table``."""
    if expression.is_Symbol:
        return known[expression]
    if expression.is_Number:
        return float(expression)
    if expression.is_Pow:
        base = value(expression.base, known, table)
        n = int(expression.exp)
        return base**n if n > 0 else 1.0 / base**-n
    parts = [value(argument, known, table) for argument in expression.args]
    if expression.is_Add or expression.is_Mul:
        total = parts[0]
        for part in parts[1:]:
            total = total + part if expression.is_Add else total * part
        return total
    return table[type(expression)](*parts)


def run(
    program: Program,
    z: Any,
    p: Array,
    complement: Any = None,
    statements: dict[Any, Any] | None = None,
) -> dict[Any, Any]:
    """The float64 values of all symbols of a program, or of ``statements`` of it, elementwise in z; inf and NaN do not warn."""
    known: dict[Any, Any] = {program.variable: z, program.complement: complement}
    known.update(zip(program.parameters.values(), map(np.float64, p)))
    with np.errstate(all="ignore"):
        for symbol, expression in (program.statements if statements is None else statements).items():
            known[symbol] = value(expression, known, ARRAY)
    return known


# --- polynomials -----------------------------------------------------------------------------------------------

_HIGHEST_DEGREE = 32


def polynomials(program: Program, p: Array) -> dict[Any, Array | None]:
    """By symbol, coefficients (lowest first) of what is a polynomial in the variable of degree 32 or less; else None."""
    numbers = run(program, np.float64(0.0), p)
    known: dict[Any, Array | None] = {program.variable: np.array([0.0, 1.0])}
    for symbol in program.parameters.values():
        known[symbol] = np.array([float(numbers[symbol])])
    for symbol, expression in program.statements.items():
        if program.moves(symbol):
            known[symbol] = polynomial(expression, known)
        else:
            known[symbol] = np.array([float(numbers[symbol])])
    return known


def polynomial(expression: Any, known: dict[Any, Array | None]) -> Array | None:
    """Coefficients of an expression in symbols whose coefficients are ``known``; None if it is no such polynomial."""
    if expression.is_Number:
        return np.array([float(expression)])
    if expression.is_Symbol:
        return known[expression]
    if expression.is_Add or expression.is_Mul:
        join = np.polynomial.polynomial.polyadd if expression.is_Add else np.polynomial.polynomial.polymul
        parts = [polynomial(argument, known) for argument in expression.args]
    elif expression.is_Pow and 0 < expression.exp <= _HIGHEST_DEGREE:
        join = np.polynomial.polynomial.polymul
        parts = [polynomial(expression.base, known)] * int(expression.exp)
    else:
        return None
    total: Array | None = None
    for part in parts:
        if part is None:
            return None
        with np.errstate(all="ignore"):
            total = part if total is None else np.asarray(join(total, part), dtype=np.float64)
        if total.size - 1 > _HIGHEST_DEGREE or not np.isfinite(total).all():
            return None
    return total


# --- one-sided Taylor expansions -------------------------------------------------------------------------------

_ORDER = 4
_FACTORIALS = np.array([1.0, 1.0, 2.0, 6.0])


class Expansion:
    """Taylor coefficients f, f', f''/2, f'''/6 at a point, and bounds of the sizes of the terms that were added up."""

    __slots__ = ("c", "m")
    __array_ufunc__ = None  # NumPy numbers leave the arithmetic to this class

    def __init__(self, c: Array, m: Array) -> None:
        self.c, self.m = c, m

    @staticmethod
    def of(x: Any) -> Expansion:
        """An expansion as it is; a number as a constant."""
        if isinstance(x, Expansion):
            return x
        c = np.array([float(x), 0.0, 0.0, 0.0])
        return Expansion(c, np.abs(c))

    def __add__(self, other: Any) -> Expansion:
        other = Expansion.of(other)
        return Expansion(self.c + other.c, self.m + other.m)

    __radd__ = __add__

    def __mul__(self, other: Any) -> Expansion:
        other = Expansion.of(other)
        return Expansion(np.convolve(self.c, other.c)[:_ORDER], np.convolve(self.m, other.m)[:_ORDER])

    __rmul__ = __mul__

    def __pow__(self, n: int) -> Expansion:
        x = self.c[0]
        return self.through(
            [
                x**n,
                n * x ** (n - 1),
                *(
                    n * (n - 1) * x ** (n - 2) if n > 1 else 0.0,
                    n * (n - 1) * (n - 2) * x ** (n - 3) if n > 2 else 0.0,
                ),
            ]
        )

    def __rtruediv__(self, other: Any) -> Expansion:
        r = 1.0 / self.c[0]
        return Expansion.of(other) * self.through([r, -(r**2), 2 * r**3, -6 * r**4])

    @property
    def derivatives(self) -> Array:
        """f, f', f'', f'''."""
        return self.c * _FACTORIALS

    def through(self, derivatives: Any) -> Expansion:
        """g(f), from g and its derivatives at f's value."""
        d = np.array(derivatives, dtype=np.float64)
        out = Expansion(_chain(d, self.c), _chain(np.abs(d), self.m))
        out.m[0] += abs(d[1]) * self.m[0] if d[1] else 0.0
        return out

    def sign(self, side: int, z: float) -> int:
        """Sign on one side (±1) of the point, 0 if it cannot be told from the coefficients."""
        reach = 1 + abs(z)
        noise = 1e-12 * (self.m + reach * np.append(self.m[1:], 0.0))
        for k in range(_ORDER):
            if abs(self.c[k]) > noise[k]:
                return int(np.sign(self.c[k])) * side**k
        return 0


def _chain(d: Array, c: Array) -> Array:
    x1, x2, x3 = c[1:]
    return np.array(
        [
            d[0],
            d[1] * x1 if x1 else 0.0,
            (d[1] * x2 if x2 else 0.0) + (d[2] / 2 * x1**2 if x1 else 0.0),
            (d[1] * x3 if x3 else 0.0)
            + (d[2] * x1 * x2 if x1 and x2 else 0.0)
            + (d[3] / 6 * x1**3 if x1 else 0.0),
        ]
    )


def _tan(x: Any) -> list[Any]:
    y = np.tan(x)
    s = 1 + y * y
    return [y, s, 2 * y * s, 2 * s * s + 4 * y * y * s]


def _tanh(x: Any) -> list[Any]:
    y = np.tanh(x)
    s = 1 - y * y
    return [y, s, -2 * y * s, -2 * s * s + 4 * y * y * s]


def _erf(x: Any) -> list[Any]:
    s = 2 / math.sqrt(math.pi) * np.exp(-x * x)
    return [special.erf(x), s, -2 * x * s, (4 * x * x - 2) * s]


def _sigmoid(x: Any) -> list[Any]:
    y, t = special.expit(x), special.expit(-x)
    s = y * t
    return [y, s, s * (t - y), s * ((t - y) ** 2 - 2 * s)]


def _gelu(x: Any) -> list[Any]:
    p = _density(x)
    return [x * special.ndtr(x), special.ndtr(x) + x * p, (2 - x * x) * p, (x * x - 4) * x * p]


def _sqrt(x: Any) -> list[Any]:
    y = np.sqrt(x)
    return [y, 0.5 / y, -0.25 / (x * y), 0.375 / (x * x * y)]


#: Value and three derivatives at a point.
_DERIVATIVES: dict[Any, Callable[[Any], list[Any]]] = {
    fn.Exp: lambda x: [np.exp(x)] * 4,
    fn.Log: lambda x: [np.log(x), 1 / x, -1 / x**2, 2 / x**3],
    fn.Sqrt: _sqrt,
    fn.Sin: lambda x: [np.sin(x), np.cos(x), -np.sin(x), -np.cos(x)],
    fn.Cos: lambda x: [np.cos(x), -np.sin(x), -np.cos(x), np.sin(x)],
    fn.Tan: _tan,
    fn.Sinh: lambda x: [np.sinh(x), np.cosh(x), np.sinh(x), np.cosh(x)],
    fn.Cosh: lambda x: [np.cosh(x), np.sinh(x), np.cosh(x), np.sinh(x)],
    fn.Tanh: _tanh,
    fn.Erf: _erf,
    fn.Sigmoid: _sigmoid,
    fn.Softplus: lambda x: [np.logaddexp(x, 0.0), *_sigmoid(x)[:3]],
    fn.Gelu: _gelu,
}


def expand(program: Program, z: float, side: int, p: Array) -> tuple[Expansion, list[int]]:
    """The expansion of a program's result on one side (±1) of z, and the branches its switches take there.

    Where a switch's argument vanishes to third order, its sign is that at a small distance.
    """
    beside = run(program, np.float64(z + side * 1e-3 * (1 + abs(z))), p)
    branches: list[int] = []

    def switch(kind: Any) -> Callable[..., Expansion]:
        def chosen(*arguments: Any) -> Expansion:
            a = Expansion.of(arguments[0])
            b = Expansion.of(arguments[1] if len(arguments) > 1 else 0.0)
            sign = (a + -1.0 * b).sign(side, z) or int(np.nan_to_num(np.sign(beside_argument(current[0]))))
            branches.append(sign)
            if kind is fn.Abs:
                return a * sign
            if kind is fn.Sign:
                return Expansion.of(sign)
            if kind is fn.Greater:
                return Expansion.of(float(sign > 0))
            return a if (sign > 0) == (kind is fn.Max) else b

        return chosen

    def beside_argument(expression: Any) -> Any:
        return value(
            expression.args[0] - expression.args[1] if len(expression.args) > 1 else expression.args[0],
            beside,
            ARRAY,
        )

    def smooth(derivatives: Callable[[Any], list[Any]]) -> Callable[[Any], Any]:
        return lambda x: (
            x.through(derivatives(x.c[0])) if isinstance(x, Expansion) else derivatives(np.float64(x))[0]
        )

    table: Table = {kind: smooth(derivatives) for kind, derivatives in _DERIVATIVES.items()}
    table |= {kind: switch(kind) for kind in fn.SWITCHES}
    known: dict[Any, Any] = {
        program.variable: Expansion(np.array([z, 1.0, 0.0, 0.0]), np.array([abs(z), 1.0, 0.0, 0.0]))
    }
    known.update(zip(program.parameters.values(), map(np.float64, p)))
    current = [None]
    with np.errstate(all="ignore"):
        for symbol, expression in program.statements.items():
            current[0] = expression
            known[symbol] = value(expression, known, table)
        return Expansion.of(value(program.result, known, table)), branches
