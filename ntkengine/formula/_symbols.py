"""The functions of the formula language as SymPy functions that know their derivative and nothing else.

SymPy's own ``exp``, ``Max`` and ``Piecewise`` simplify and evaluate by themselves, in time that no bound holds for; these do
not. At a switch the derivative is the one training sees: 0 for ``sign``, ``abs`` and a step at 0, and at a tie of ``max`` or
``min`` that of the second argument.
"""

from __future__ import annotations

import math
from typing import Any

import sympy as sp

__all__ = ["FUNCTIONS", "SWITCHES", "number"]

#: Whole numbers up to here are exact in float64.
EXACT = 2**53


def number(value: float) -> Any:
    """A finite float as a SymPy number: an Integer where it is a whole number up to 2⁵³, else a Float."""
    return sp.Integer(int(value)) if value == int(value) and abs(value) <= EXACT else sp.Float(value)


class Unary(sp.Function):
    """A function of one argument."""

    nargs = 1


class Binary(sp.Function):
    """A function of two arguments."""

    nargs = 2


class Exp(Unary):
    """Exponential."""

    def fdiff(self, argindex: int = 1) -> Any:
        return self


class Log(Unary):
    """Natural logarithm."""

    def fdiff(self, argindex: int = 1) -> Any:
        return 1 / self.args[0]


class Sqrt(Unary):
    """Square root."""

    def fdiff(self, argindex: int = 1) -> Any:
        return sp.Float(0.5) / self


class Sin(Unary):
    """Sine."""

    def fdiff(self, argindex: int = 1) -> Any:
        return Cos(self.args[0])


class Cos(Unary):
    """Cosine."""

    def fdiff(self, argindex: int = 1) -> Any:
        return -Sin(self.args[0])


class Tan(Unary):
    """Tangent."""

    def fdiff(self, argindex: int = 1) -> Any:
        return 1 + self**2


class Sinh(Unary):
    """Hyperbolic sine."""

    def fdiff(self, argindex: int = 1) -> Any:
        return Cosh(self.args[0])


class Cosh(Unary):
    """Hyperbolic cosine."""

    def fdiff(self, argindex: int = 1) -> Any:
        return Sinh(self.args[0])


class Tanh(Unary):
    """Hyperbolic tangent."""

    def fdiff(self, argindex: int = 1) -> Any:
        return 1 - self**2


class Erf(Unary):
    """Error function."""

    def fdiff(self, argindex: int = 1) -> Any:
        return sp.Float(2 / math.sqrt(math.pi)) * Exp(-(self.args[0] ** 2))


class Sigmoid(Unary):
    """Logistic function 1/(1 + e^{−x})."""

    def fdiff(self, argindex: int = 1) -> Any:
        return SigmoidSlope(self.args[0])


class SigmoidSlope(Unary):
    """Derivative of the logistic function."""


class Softplus(Unary):
    """ln(1 + e^x)."""

    def fdiff(self, argindex: int = 1) -> Any:
        return Sigmoid(self.args[0])


class Gelu(Unary):
    """x Φ(x), Φ the distribution function of N(0, 1)."""

    def fdiff(self, argindex: int = 1) -> Any:
        return GeluSlope(self.args[0])


class GeluSlope(Unary):
    """Φ(x) + x p(x), p the density of N(0, 1)."""


class Abs(Unary):
    """Absolute value."""

    def fdiff(self, argindex: int = 1) -> Any:
        return Sign(self.args[0])


class Sign(Unary):
    """−1, 0 or 1."""

    def fdiff(self, argindex: int = 1) -> Any:
        return sp.S.Zero


class Greater(Binary):
    """1 where a > b, else 0."""

    def fdiff(self, argindex: int = 1) -> Any:
        return sp.S.Zero


class AtMost(Binary):
    """1 where a <= b, else 0."""

    def fdiff(self, argindex: int = 1) -> Any:
        return sp.S.Zero


class Max(Binary):
    """The larger of a and b."""

    def fdiff(self, argindex: int = 1) -> Any:
        return (Greater if argindex == 1 else AtMost)(*self.args)


class Min(Binary):
    """The smaller of a and b."""

    def fdiff(self, argindex: int = 1) -> Any:
        return (Greater if argindex == 1 else AtMost)(*reversed(self.args))


#: Smooth functions of one argument by the name they have in a formula.
FUNCTIONS: dict[str, Any] = {
    "exp": Exp,
    "log": Log,
    "sqrt": Sqrt,
    "sin": Sin,
    "cos": Cos,
    "tan": Tan,
    "sinh": Sinh,
    "cosh": Cosh,
    "tanh": Tanh,
    "erf": Erf,
    "sigmoid": Sigmoid,
    "softplus": Softplus,
    "gelu": Gelu,
    "abs": Abs,
    "sign": Sign,
}

#: Functions that change branch where their argument, or the difference of their two, changes sign.
SWITCHES = (Abs, Sign, Greater, AtMost, Max, Min)
