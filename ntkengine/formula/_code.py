"""Python source of ``pair(z, p) -> (phi, dphi)`` for a differentiated program, in the form that tiles vectorise.

The text is made from a fixed set of node kinds; names in it are z, p, T, the program's own v0, v1, ... and functions of
:mod:`ntkengine._scalar`, never anything of the user's text. Selects stand in for branches, constants have the type of z.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import sympy as sp

from ntkengine import _scalar
from ntkengine.formula import _symbols as fn
from ntkengine.formula._program import Program

__all__ = ["pair_function", "pair_source"]

_FROM_SCALAR = ("exp", "expm1", "log", "sincos", "tanh", "erf", "sigmoid", "softplus", "normal")
_GATES = (fn.Greater, fn.AtMost, fn.Sign)


def pair_function(program: Program) -> Callable[[Any, Any], tuple[Any, Any]]:
    """The pair of a differentiated program as a Python function, to be compiled by :func:`ntkengine._jit.compile_tile`."""
    source = pair_source(program)
    # The machine-code cache knows a function of this package by its name, so the name holds a hash of the source.
    name = f"pair_{hashlib.sha256(source.encode()).hexdigest()}"
    namespace: dict[str, Any] = {function: getattr(_scalar, function) for function in _FROM_SCALAR}
    namespace.update({"sqrt": np.sqrt, "__name__": __name__})
    exec(compile(source.replace("def pair(", f"def {name}(", 1), "<formula>", "exec"), namespace)
    function: Callable[[Any, Any], tuple[Any, Any]] = namespace[name]
    return function


def pair_source(program: Program) -> str:
    """Source text of the pair (see the module's text)."""
    return _Writer(program).source()


class _Writer:
    def __init__(self, program: Program) -> None:
        self.program, self.lines = program, []  # type: Program, list[str]
        self.written: dict[Any, str] = {program.variable: "z"}
        self.shared: dict[tuple[str, str], tuple[str, str]] = {}
        for i, symbol in enumerate(program.parameters.values()):
            self.written[symbol] = self.new(f"p[{i}]")

    def source(self) -> str:
        for symbol in self.program.statements:  # in order, so that no recursion gets deep
            self.write(symbol)
        phi = self.write(self.program.result)
        slope = self.program.slope
        dphi = self.write(slope)
        if not slope.is_Number:
            # φ finite and its derivative 0·∞: flat in the limit, like 1/(1 + exp(-z)) far out, or one point of measure 0.
            phi = self.name(phi)
            dphi = self.name(dphi)
            dphi = self.new(
                f"{dphi} if {dphi} == {dphi} else (T(0.0) if {phi} - {phi} == T(0.0) else {dphi})"
            )
        body = ["T = type(z)", *self.lines, f"return {phi}, {dphi}"]
        return "def pair(z, p):\n" + "".join(f"    {line}\n" for line in body)

    def new(self, text: str) -> str:
        self.lines.append(f"v{len(self.lines)} = {text}")
        return f"v{len(self.lines) - 1}"

    def name(self, text: str) -> str:
        """``text`` as a variable, for use in more than one place."""
        return text if text == "z" or text.startswith("v") else self.new(text)

    def write(self, expression: Any) -> str:
        """A variable or constant with the value of ``expression``; the lines that compute it are written before."""
        if expression.is_Number:
            return f"T({float(expression)!r})"
        if expression not in self.written:
            if expression.is_Symbol:
                text = self.write(self.program.statements[expression])
            elif expression.is_Add:
                text = self.sum(expression)
            elif expression.is_Mul or expression.is_Pow or isinstance(expression, _GATES):
                text = self.product(expression)
            else:
                text = self.function(expression)
            self.written[expression] = text
        return self.written[expression]

    def sum(self, expression: Any) -> str:
        text = ""
        terms = sorted(expression.args, key=lambda term: term.could_extract_minus_sign())
        for term in terms:
            if text and term.could_extract_minus_sign():
                text += f" - {self.write(-term)}"
            else:
                text += f" + {self.write(term)}" if text else self.write(term)
        return self.new(text)

    # --- products ----------------------------------------------------------------------------------------------

    def product(self, expression: Any) -> str:
        """A product; its 0-or-1 factors become selects around the rest, so that 0·∞ is 0."""
        coefficient, factors = 1.0, []
        gates: list[tuple[Any, int]] = []
        divisors = []
        for factor in sp.Mul.make_args(expression):
            if factor.is_Number:
                coefficient *= float(factor)
                continue
            base, exponent = factor.as_base_exp()
            meaning = self.program.statements.get(base, base)
            n = int(exponent)
            if n > 0 and isinstance(meaning, _GATES):
                gates.append((meaning, n))
            elif n > 0 and isinstance(meaning, fn.Max) and meaning.args[1] == 0 and len(expression.args) > 1:
                gates.append((fn.Greater(*meaning.args), 1))
                factors.append(self.whole_power(self.write(meaning.args[0]), n))
            elif n > 0:
                factors.append(self.whole_power(self.write(base), n))
            else:
                divisors.append((self.write(base), -n))
        if len(divisors) == 1 and divisors[0][1] == 1:
            below = f" / {divisors[0][0]}"
        else:
            below = ""
            factors += [self.whole_power(self.new(f"T(1.0) / {base}"), n) for base, n in divisors]
        sign = "-" if coefficient == -1 and factors else ""
        if not factors or not (sign or coefficient == 1):
            factors = [f"T({coefficient!r})", *factors]
        text = sign + " * ".join(factors) + below
        if len(factors) == 1 and not below and not sign:
            result = text
        else:
            result = self.new(text)
        for gate, n in gates:
            result = self.select(gate, n, result)
        return result

    def select(self, gate: Any, n: int, value: str) -> str:
        a = self.name(self.write(gate.args[0]))
        if isinstance(gate, fn.Sign):
            negative = f"-{value}" if n % 2 else value
            return self.new(f"{value} if {a} > T(0.0) else ({negative} if {a} < T(0.0) else {a})")
        b = self.write(gate.args[1])
        yes, no = (">", "<=") if isinstance(gate, fn.Greater) else ("<=", ">")
        return self.new(f"{value} if {a} {yes} {b} else (T(0.0) if {a} {no} {b} else {a})")  # NaN stays

    def whole_power(self, base: str, n: int) -> str:
        """base**n, n >= 1, by repeated squaring."""
        if n == 1:
            return base
        square, result = self.name(base), ""
        while n:
            if n & 1:
                result = self.new(f"{result} * {square}") if result else square
            n >>= 1
            if n:
                square = self.once(square)
        return result

    def once(self, base: str) -> str:
        if ("square", base) not in self.shared:
            self.shared["square", base] = (self.new(f"{base} * {base}"), "")
        return self.shared["square", base][0]

    # --- functions ---------------------------------------------------------------------------------------------

    def two(self, function: str, a: str) -> tuple[str, str]:
        """Both results of a function that has two, called once for each argument."""
        key = (function, a)
        if key not in self.shared:
            first, second = f"v{len(self.lines)}", f"v{len(self.lines)}b"
            self.lines.append(f"{first}, {second} = {function}({a})")
            self.shared[key] = (first, second)
        return self.shared[key]

    def function(self, expression: Any) -> str:
        a = self.name(self.write(expression.args[0]))
        if isinstance(expression, (fn.Max, fn.Min)):
            b = self.write(expression.args[1])
            return self.new(f"{b} if {a} {'<' if isinstance(expression, fn.Max) else '>'} {b} else {a}")
        if isinstance(expression, (fn.Sin, fn.Cos)):
            return self.two("sincos", a)[0 if isinstance(expression, fn.Sin) else 1]
        if isinstance(expression, fn.Tan):
            sine, cosine = self.two("sincos", a)
            return self.new(f"{sine} / {cosine}")
        if isinstance(expression, (fn.Sigmoid, fn.SigmoidSlope)):
            return self.two("sigmoid", a)[0 if isinstance(expression, fn.Sigmoid) else 1]
        if isinstance(expression, (fn.Gelu, fn.GeluSlope)):
            low = self.new(
                f"T(-100.0) if {a} < T(-100.0) else {a}"
            )  # Φ(−100) is 0, and 0·(−inf) would be NaN
            cdf, density = self.two("normal", low)
            if isinstance(expression, fn.Gelu):
                return self.new(f"{low} * {cdf}")
            bounded = self.new(f"T(100.0) if {low} > T(100.0) else {low}")
            return self.new(f"{cdf} + {bounded} * {density}")
        if isinstance(expression, (fn.Sinh, fn.Cosh)):
            return self.hyperbolic(expression, a)
        return self.new(f"{type(expression).__name__.lower()}({a})")

    def hyperbolic(self, expression: Any, a: str) -> str:
        """Sinh and cosh from m = e^{|x|/2} − 1: no cancellation near 0, no overflow before the result's, no ∞·0."""
        size = self.new(f"abs({a})")
        m = self.new(f"expm1(T(0.5) * {size})")
        root = self.new(f"T(1.0) + {m}")
        inverse = self.new(f"T(1.0) / {root}")
        if isinstance(expression, fn.Cosh):
            return self.new(f"T(0.5) * {root} * {root} + T(0.5) * {inverse} * {inverse}")
        gap = self.new(f"{m} * {inverse} if {m} < T(1.0) else T(1.0) - {inverse}")
        value = self.new(f"T(0.5) * ({m} + {gap}) * ({root} + {inverse})")
        return self.new(f"-{value} if {a} < T(0.0) else {value}")
