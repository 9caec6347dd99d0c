"""Where a formula is not smooth, by how much it jumps there, and where it has no finite value."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from ntkengine.activations.base import Kink
from ntkengine.errors import InputError
from ntkengine.formula import _symbols as fn
from ntkengine.formula._language import shortened
from ntkengine.formula._program import Program
from ntkengine.formula._values import ARRAY, expand, polynomial, polynomials, run, value

__all__ = ["MAX_KINKS", "check_domain", "find_kinks"]

Array = NDArray[np.float64]

MAX_KINKS = 256
#: Roots of arguments that are no polynomials in z are looked for up to here...
REACH = 200.0
#: ...or up to here, where there are too many: beyond it the density of N(0, q) is below 1e-16 up to q = 55.
SHORT_REACH = 64.0
#: Where a formula must have a finite real value.
DOMAIN = 10.0
_POINTS_PER_UNIT = 40
_SAME = 1e-12


def find_kinks(program: Program, slopes: Program, p: Array) -> list[Kink]:
    """All kinks of a program at parameter values ``p``, ordered by location; ``slopes`` is the program differentiated.

    Candidates are the roots of the arguments of switches (and of square roots and logarithms); a candidate is a kink if a
    switch takes another branch on its right than on its left, or if φ or a derivative up to the third jumps or is infinite.
    Jumps that are infinite are given as 0.

    Raises
    ------
    InputError
        If there are more than 256 within |z| <= 64.
    """
    roots = _Roots(slopes, p, REACH)
    places: list[tuple[float, int]] = []
    for expression in program.statements.values():
        for argument in _breaks(expression):
            order = len(places)  # of places that agree up to rounding, the one of the innermost switch stands
            places += [(place, order) for place in roots.of(argument)]
    distinct: list[tuple[float, int]] = []
    for place, order in sorted(places):
        if not distinct or place - distinct[-1][0] > _SAME * (1 + abs(place)):
            distinct.append((place, order))
        elif order < distinct[-1][1]:
            distinct[-1] = place, order
    if len(distinct) > MAX_KINKS:
        distinct = [(place, order) for place, order in distinct if abs(place) <= SHORT_REACH]
    if len(distinct) > MAX_KINKS:
        raise InputError(
            f"the formula has more than {MAX_KINKS} kinks within |z| <= {SHORT_REACH:g}; "
            "lower the frequency inside abs, sign, min, max, relu or step"
        )
    return _described(program, [place for place, _ in distinct], p)


def _described(program: Program, places: list[float], p: Array) -> list[Kink]:
    found = []
    for place in places:
        left, left_branches = expand(program, place, -1, p)
        right, right_branches = expand(program, place, 1, p)
        with np.errstate(invalid="ignore"):
            jumps = right.derivatives - left.derivatives
            size = right.m + left.m
            # of the arithmetic, and of the place itself, which is rounded too
            noise = 1e-13 * size + 1e-15 * (1 + abs(place)) * np.append(size[1:] * (1.0, 2.0, 3.0), size[3])
            noise *= (1.0, 1.0, 2.0, 6.0)
        finite = np.isfinite(jumps)
        jumps = np.where(finite & ~(np.abs(jumps) <= noise), jumps, 0.0)
        if left_branches != right_branches or jumps.any() or not finite.all():
            found.append(Kink(place, *map(float, jumps)))
    return found


def _breaks(expression: Any) -> Iterator[Any]:
    """Expressions at whose roots a statement may not be smooth."""
    if isinstance(expression, (fn.Max, fn.Min, fn.Greater)):
        yield expression.args[0] - expression.args[1]
    elif isinstance(expression, (fn.Abs, fn.Sign, fn.Sqrt, fn.Log)):
        yield expression.args[0]


# --- roots -----------------------------------------------------------------------------------------------------


def _factors(expression: Any, program: Program) -> Iterator[Any]:
    """Expressions whose roots together are those of ``expression``."""
    waiting, seen = [expression], set()
    while waiting:
        expression = waiting.pop()
        if expression in seen or not program.moves(expression):
            continue
        seen.add(expression)
        meaning = program.statements.get(expression, expression)
        if meaning.is_Mul:
            waiting += meaning.args
        elif meaning.is_Pow:
            if meaning.exp > 0:
                waiting.append(meaning.base)
        elif isinstance(meaning, _ZERO_WITH_ARGUMENT):
            waiting.append(meaning.args[0])
        elif not isinstance(meaning, (fn.Exp, fn.Cosh, fn.Sigmoid, fn.Softplus)):
            yield meaning


_ZERO_WITH_ARGUMENT = (fn.Abs, fn.Sqrt, fn.Sign, fn.Tanh, fn.Erf, fn.Sinh, fn.Gelu)


class _Roots:
    """Real roots of expressions in a differentiated program: of polynomials all, of others those with |z| <= reach."""

    def __init__(self, slopes: Program, p: Array, reach: float) -> None:
        self.slopes, self.p, self.reach = slopes, p, reach
        self.polynomials = polynomials(slopes, p)
        # Irregular steps: no period can be a multiple of them.
        steps = 1 + 0.8 * (np.arange(1, int(_POINTS_PER_UNIT * 2 * reach)) * 0.6180339887498949 % 1.0 - 0.5)
        edges = np.concatenate([[0.0], np.cumsum(steps)])
        self.grid = reach * (2 * edges / edges[-1] - 1)

    @cached_property
    def on_grid(self) -> dict[Any, Any]:
        """Values of all symbols on the grid."""
        return run(self.slopes, self.grid, self.p)

    def of(self, expression: Any) -> list[float]:
        """The roots of one expression, in no order."""
        found: list[float] = []
        for factor in _factors(expression, self.slopes):
            function = _Function(factor, self)
            coefficients = polynomial(factor, self.polynomials)
            if coefficients is None:
                found += function.scanned()
                continue
            coefficients = np.trim_zeros(coefficients, "b")
            if coefficients.size == 2:
                found.append(float(-coefficients[0] / coefficients[1]) + 0.0)
            elif coefficients.size > 2:
                candidates = np.polynomial.polynomial.polyroots(coefficients)
                real = candidates.real[np.abs(candidates.imag) <= 1e-6 * (1 + np.abs(candidates))]
                found += [float(x) + 0.0 for x in function.newton(real, 6, 1e-4)]
        return found


class _Function:
    """g and g' of z, for an expression in a differentiated program."""

    def __init__(self, expression: Any, roots: _Roots) -> None:
        self.roots, slopes = roots, roots.slopes.slopes
        slope = sp.Add(
            *(expression.diff(s) * slopes.get(s, 0) for s in sorted(expression.free_symbols, key=str))
        )
        self.expressions = expression, slope
        self.statements = [roots.slopes.needed(e) for e in self.expressions]

    def at(self, z: Array, which: int) -> Array:
        """g (``which`` 0) or g' (1)."""
        return self.value(
            run(self.roots.slopes, z, self.roots.p, statements=self.statements[which]), which, z
        )

    def value(self, known: dict[Any, Any], which: int, z: Array) -> Array:
        with np.errstate(all="ignore"):
            found = np.asarray(value(self.expressions[which], known, ARRAY), dtype=np.float64)
        return np.broadcast_to(found, z.shape)

    def newton(self, z: Array, steps: int, trust: float) -> Array:
        """Roots improved where a step is short and does not make |g| larger."""
        for _ in range(steps):
            g, slope = self.at(z, 0), self.at(z, 1)
            with np.errstate(all="ignore"):
                moved = z - g / slope
                near = np.abs(moved - z) <= trust * (1 + np.abs(z))
            moved = np.where(near, moved, z)
            z = np.where(np.abs(self.at(moved, 0)) <= np.abs(g), moved, z)
        return z

    def scanned(self) -> list[float]:
        """Sign changes and touches found on the grid, then bisected."""
        z = self.roots.grid
        g, slope = (self.value(self.roots.on_grid, which, z) for which in (0, 1))
        sign = np.sign(g)
        crossing = np.flatnonzero(sign[1:] * sign[:-1] < 0)
        isolated = np.flatnonzero((sign[1:-1] == 0) & (sign[:-2] != 0) & (sign[2:] != 0)) + 1
        size = np.abs(g)
        low = (size[1:-1] <= size[:-2]) & (size[1:-1] <= size[2:]) & (sign[1:-1] != 0)
        low &= size[1:-1] <= 8 * np.abs(size[2:] - 2 * size[1:-1] + size[:-2])
        low &= (sign[:-2] == sign[1:-1]) & (sign[2:] == sign[1:-1]) & (slope[2:] * slope[:-2] <= 0)
        touching = np.flatnonzero(low) + 1
        places = self.bisected(z[crossing], z[crossing + 1], 0)
        lowest = self.bisected(z[touching - 1], z[touching + 1], 1)
        around = np.minimum(size[touching - 1], size[touching + 1])
        lowest = lowest[np.abs(self.at(lowest, 0)) <= 1e-9 * around]
        places = self.newton(np.concatenate([places, z[isolated]]), 2, 1e-12)
        return [float(x) + 0.0 for x in np.concatenate([places, lowest])]

    def bisected(self, low: Array, high: Array, which: int) -> Array:
        """Where g (``which`` 0) or g' (1) changes sign between ``low`` and ``high``, elementwise, to the last place."""
        if low.size == 0:
            return low
        at_low = np.sign(self.at(low, which))
        for _ in range(60):
            middle = 0.5 * (low + high)
            if np.all((middle == low) | (middle == high)):
                break
            left = np.sign(self.at(middle, which)) == at_low
            low, high = np.where(left, middle, low), np.where(left, high, middle)
        closer = np.abs(self.at(low, which)) < np.abs(self.at(high, which))
        return np.where(closer, low, high)


# --- domain ----------------------------------------------------------------------------------------------------

_REASONS = {
    fn.Log: (
        "the logarithm of a negative number",
        "write log(0.01 + abs(...)) for a logarithm on both sides",
    ),
    fn.Sqrt: ("the square root of a negative number", "write sqrt(abs(...))"),
}


def check_domain(program: Program, slopes: Program, p: Array, name: str) -> None:
    """Refuse a formula that is not real, or has a pole, somewhere in |z| <= 10.

    Values too large for float64 are no fault here: whether a formula grows too fast its variance decides.

    Raises
    ------
    InputError
        Names a z.
    """
    z = np.arange(-1000, 1001) * DOMAIN / 1000
    known = run(program, z, p)
    with np.errstate(all="ignore"):
        phi = np.broadcast_to(np.asarray(value(program.result, known, ARRAY), dtype=np.float64), z.shape)
    wrong = np.flatnonzero(~np.isfinite(phi))
    for i in wrong[np.argsort(np.abs(z[wrong]), kind="stable")]:
        cause = _cause(program, known, i)
        if np.isnan(phi[i]) or cause == "pole":
            raise _refused(name, float(z[i]), cause)
    roots = _Roots(slopes, p, DOMAIN)
    for expression in program.statements.values():
        for base in _divisors(expression):
            for place in sorted(roots.of(base), key=abs):
                if abs(place) <= DOMAIN and _explodes(program, place, p):
                    raise _refused(name, place, "pole")


def _cause(program: Program, known: dict[Any, Any], i: int) -> Any:
    """The class of the first statement without a finite value at point i, or "pole"."""

    def at(expression: Any) -> float:
        with np.errstate(all="ignore"):
            x = np.asarray(value(expression, known, ARRAY), dtype=np.float64)
        return float(x if x.ndim == 0 else x[i])

    for symbol, expression in program.statements.items():
        if not np.isfinite(at(symbol)):
            return "pole" if any(at(base) == 0 for base in _divisors(expression)) else type(expression)
    return None


def _refused(name: str, z: float, cause: Any) -> InputError:
    if cause == "pole":
        why, remedy = (
            "it is infinite or undefined there",
            "keep divisors and arguments of log away from 0, as in 1/(1 + z**2)",
        )
    elif cause in _REASONS:
        why, remedy = f"it takes {_REASONS[cause][0]} there", _REASONS[cause][1]
    else:
        why, remedy = "infinities cancel there", "write it so that no part overflows"
    return InputError(
        f"the activation {shortened(name)!r} has no finite real value at z = {z:.6g}: {why}; an activation needs one "
        f"for every z with |z| <= {DOMAIN:g} ({remedy})"
    )


def _divisors(expression: Any) -> Iterator[Any]:
    """Expressions at whose roots a statement is infinite or undefined."""
    for factor in sp.Mul.make_args(expression):
        base, exponent = factor.as_base_exp()
        if exponent.is_Integer and exponent < 0:
            yield base
    if isinstance(expression, fn.Log):
        yield expression.args[0]
    if isinstance(expression, fn.Tan):
        yield fn.Cos(expression.args[0])


def _explodes(program: Program, z: float, p: Array) -> bool:
    """Whether φ has no value at z, or its increments towards z do not shrink, as at poles and logarithms."""
    steps = np.array([0.0, 1.0, 2.0, 16.0, 32.0, -1.0, -2.0, -16.0, -32.0])
    points = z + 1e-9 * (1 + abs(z)) * steps
    with np.errstate(all="ignore"):
        phi = np.asarray(value(program.result, run(program, points, p), ARRAY), dtype=np.float64)
    if phi.ndim == 0:
        return not np.isfinite(phi)
    if not np.isfinite(phi).all():
        return True
    for one, two, far, farther in (phi[1:5], phi[5:9]):
        near_step, far_step = abs(one - two), abs(far - farther)
        if near_step > max(0.98 * far_step, 1e-6 * (1 + abs(one))) and abs(one) > abs(two):
            return True
    return False
