"""A formula as a straight-line program: statements ``t_k = expression``, each one operation of the text.

Short statements keep SymPy's work proportional to the length of the text, where the derivative of one deep expression grows
like its square or exhausts Python's stack, and they keep the order of the arithmetic as written. Equal expressions are one
statement. Numbers are folded here, in floats with overflow an error: SymPy never computes a power or a function.
"""

from __future__ import annotations

import math
from typing import Any

import sympy as sp

from ntkengine.formula import _symbols as fn
from ntkengine.formula._symbols import number

__all__ = ["MAX_EXPONENT", "MAX_OPERATIONS", "FoldError", "Program"]

MAX_OPERATIONS = 256
#: Whole-number exponents are multiplied out, up to this size.
MAX_EXPONENT = 1024
_LARGEST_ROOT = 32


class FoldError(ValueError):
    """An operation that has no finite real value, or is too large; the text says which."""


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


_OF_NUMBERS = {
    "sigmoid": _sigmoid,
    "softplus": lambda x: max(x, 0.0) + math.log1p(math.exp(-abs(x))),
    "gelu": lambda x: 0.5 * x * math.erfc(-x * math.sqrt(0.5)),
    "abs": abs,
    "sign": lambda x: float((x > 0) - (x < 0)),
}


class Program:
    """Statements in one variable and parameters, built from the inside out.

    Attributes
    ----------
    variable : Symbol
    complement : Symbol or None
        Stands for 1 − variable where that is given separately.
    parameters : dict
        Name -> Symbol, in order of first appearance.
    statements : dict
        Symbol -> SymPy expression in earlier symbols, in order.
    slopes : dict
        Symbol -> its derivative with respect to the variable; symbols that do not depend on it are left out.
    result : SymPy Symbol or number
    """

    def __init__(self, variable: str, complement: bool = False) -> None:
        self.variable = sp.Symbol(variable)
        self.complement = sp.Symbol("w") if complement else None
        self.parameters: dict[str, Any] = {}
        self.statements: dict[Any, Any] = {}
        self.slopes: dict[Any, Any] = {self.variable: sp.S.One}
        self.result: Any = sp.S.Zero
        self._known: dict[Any, Any] = {}
        self._moving = {self.variable, self.complement}

    def parameter(self, name: str) -> Any:
        """The symbol of a parameter, made when first met."""
        return self.parameters.setdefault(name, sp.Symbol(f"p{len(self.parameters)}"))

    def assign(self, expression: Any) -> Any:
        """The symbol that has the value of ``expression``; a number or a symbol stands for itself."""
        if expression.is_Number:
            return number(_finite(float(expression)))
        if expression.is_Symbol:
            return expression
        if self.complement is not None and expression == 1 - self.variable:
            return self.complement
        symbol = self._known.get(expression)
        if symbol is None:
            if len(self.statements) >= MAX_OPERATIONS:
                raise FoldError(f"is one operation more than the {MAX_OPERATIONS} a formula may have")
            symbol = self._known[expression] = sp.Symbol(f"t{len(self.statements)}")
            self.statements[symbol] = expression
            if self.moves(expression):
                self._moving.add(symbol)
        return symbol

    def moves(self, expression: Any) -> bool:
        """Whether an expression depends on the variable."""
        return not self._moving.isdisjoint(expression.free_symbols)

    # --- operations on symbols and numbers ---------------------------------------------------------------------

    def add(self, a: Any, b: Any) -> Any:
        """a + b."""
        if a.is_Number and b.is_Number:
            return number(_finite(float(a) + float(b)))
        return self.assign(a + b)

    def subtract(self, a: Any, b: Any) -> Any:
        """a − b."""
        if a.is_Number and b.is_Number:
            return number(_finite(float(a) - float(b)))
        return self.assign(a - b)

    def negate(self, a: Any) -> Any:
        """−a."""
        return self.assign(-a)

    def multiply(self, a: Any, b: Any) -> Any:
        """a·b."""
        if a.is_Number and b.is_Number:
            return number(_finite(float(a) * float(b)))
        return self.assign(a * b)

    def divide(self, a: Any, b: Any) -> Any:
        """a/b."""
        if b.is_Number:
            if b == 0:
                raise FoldError("divides by zero")
            if a.is_Number:
                return number(_finite(float(a) / float(b)))
            return self.assign(a * number(_finite(1 / float(b))))
        return self.assign(a / b)

    def power(self, base: Any, exponent: Any) -> Any:
        """base**exponent, real: a base that may be negative needs a whole number as exponent."""
        if base.is_Number and exponent.is_Number:
            return number(_power(float(base), float(exponent)))
        if exponent.is_Number:
            twice = 2 * float(exponent)
            if exponent.is_Integer:
                if abs(int(exponent)) > MAX_EXPONENT:
                    raise FoldError(
                        f"raises to the power {float(exponent):g}; whole-number exponents go up to {MAX_EXPONENT} in size"
                    )
                return self.assign(base ** int(exponent))
            if twice == int(twice) and abs(twice) <= 2 * _LARGEST_ROOT:
                root = self.function("sqrt", base)
                return self.assign(root ** int(twice))
        if base.is_Number:
            if base <= 0:
                raise FoldError(
                    f"raises {float(base):g} to a power that is not a fixed number; the base must be positive"
                )
            logarithm: Any = number(math.log(float(base)))
        else:
            logarithm = self.function("log", base)
        return self.function("exp", self.multiply(exponent, logarithm))

    def function(self, name: str, a: Any) -> Any:
        """A function of one argument, by its name in the language."""
        if name == "relu":
            return self.extreme("max", a, sp.S.Zero)
        if name in ("step", "heaviside"):
            return number(float(float(a) > 0)) if a.is_Number else self.assign(fn.Greater(a, sp.S.Zero))
        if a.is_Number:
            of_numbers = _OF_NUMBERS.get(name) or getattr(math, name)
            try:
                return number(_finite(of_numbers(float(a))))
            except (ValueError, OverflowError):
                raise FoldError(f"takes {name} of {float(a):g}, which is not a finite number") from None
        inner = self.statements.get(a)
        if name == "sqrt" and inner is not None and inner.is_Pow and inner.exp == 2:
            return self.function("abs", inner.base)
        return self.assign(fn.FUNCTIONS[name](a))

    def extreme(self, name: str, a: Any, b: Any) -> Any:
        """``max`` or ``min`` of two; a constant becomes the second, whose derivative counts at a tie."""
        if a.is_Number and b.is_Number:
            return number((max if name == "max" else min)(float(a), float(b)))
        if a == b:
            return a
        if not self.moves(a) and self.moves(b):
            a, b = b, a
        return self.assign((fn.Max if name == "max" else fn.Min)(a, b))

    def needed(self, *expressions: Any) -> dict[Any, Any]:
        """The statements that these expressions need, in order."""
        symbols = set().union(*(expression.free_symbols for expression in expressions))
        for symbol, expression in reversed(self.statements.items()):
            if symbol in symbols:
                symbols |= expression.free_symbols
        return {s: e for s, e in self.statements.items() if s in symbols}

    def prune(self) -> None:
        """Drop the statements that the result does not need, such as both of ``max(z, 0) - max(z, 0)``."""
        self.statements = self.needed(self.result)
        self._known = {e: s for s, e in self.statements.items()}

    # --- derivative --------------------------------------------------------------------------------------------

    def differentiated(self) -> Program:
        """A copy whose ``slopes`` are filled in: forward mode, statement by statement, with SymPy's partial derivatives.

        A slope keeps its 0-or-1 factors (``Greater``, ``AtMost``, ``Sign``) in sight, before the symbol of the rest, so that
        what stands in a branch not taken cannot turn 0·∞ into NaN.
        """
        out = Program(self.variable.name)
        out.parameters, out.result = dict(self.parameters), self.result
        out.statements, out._known = dict(self.statements), dict(self._known)
        out._moving = set(self._moving)
        count = len(self.statements)
        for symbol, expression in self.statements.items():
            terms = []
            for inner in sorted(expression.free_symbols, key=str):
                slope = out.slopes.get(inner)
                if slope is not None:
                    terms.append(expression.diff(inner) * slope)
            total = sp.Add(*terms)
            if total != 0:
                gates: list[Any] = []
                rest: list[Any] = []
                for factor in sp.Mul.make_args(total):
                    gate = isinstance(factor.as_base_exp()[0], (fn.Greater, fn.AtMost, fn.Sign))
                    (gates if gate else rest).append(factor)
                out.slopes[symbol] = sp.Mul(*gates) * out._attach(sp.Mul(*rest), count)
        return out

    def _attach(self, expression: Any, count: int) -> Any:
        if expression.is_Number or expression.is_Symbol:
            return expression
        symbol = self._known.get(expression)
        if symbol is None:
            symbol = self._known[expression] = sp.Symbol(f"d{len(self.statements) - count}")
            self.statements[symbol] = expression
        return symbol

    @property
    def slope(self) -> Any:
        """The derivative of the result (of a differentiated program)."""
        return self.slopes.get(self.result, sp.S.Zero)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise FoldError("is too large for a 64-bit number")
    return value


def _power(base: float, exponent: float) -> float:
    if base == 0 and exponent < 0:
        raise FoldError("divides by zero: 0 to a negative power")
    try:
        value = base**exponent
    except OverflowError:
        raise FoldError("is too large for a 64-bit number") from None
    if isinstance(value, complex):
        raise FoldError(f"raises {base:g} to the power {exponent:g}, which is not a real number")
    return _finite(value)
