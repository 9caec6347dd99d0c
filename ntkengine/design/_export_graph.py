"""φ and φ' of a formula as one graph of operations with numbers in it, from which source text is printed.

The formula language's program (:mod:`ntkengine.formula._program`) has symbols for parameters and SymPy expressions for
operations. Here parameters are numbers, what does not depend on z is folded in float64, and equal parts are one node.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkengine.formula import _symbols as fn
from ntkengine.formula._program import Program
from ntkengine.formula._values import ARRAY

__all__ = ["GATES", "Graph"]

Floats = NDArray[np.floating[Any]]
Node = tuple[Any, ...]

#: Nodes that are 1 where a condition holds, else 0.
GATES = ("greater", "at_most")

_NAMES = {
    fn.Exp: "exp", fn.Log: "log", fn.Sqrt: "sqrt", fn.Sin: "sin", fn.Cos: "cos", fn.Tan: "tan", fn.Sinh: "sinh",
    fn.Cosh: "cosh", fn.Tanh: "tanh", fn.Erf: "erf", fn.Sigmoid: "sigmoid", fn.SigmoidSlope: "sigmoid_slope",
    fn.Softplus: "softplus", fn.Gelu: "gelu", fn.GeluSlope: "gelu_slope", fn.Abs: "abs", fn.Sign: "sign",
    fn.Greater: "greater", fn.AtMost: "at_most", fn.Max: "max", fn.Min: "min",
}  # fmt: skip
_VALUES = {name: ARRAY[kind] for kind, name in _NAMES.items()} | {"expm1": np.expm1}


class Graph:
    """Operations on z, each once, in an order in which operands come first.

    Attributes
    ----------
    nodes : list of tuple
        ``("z",)``; ``("number", value)``; ``("sum", constant, ((±1, node), ...))``;
        ``("product", coefficient, ((node, power), ...))``, powers whole numbers other than 0; ``(function, node)``; ``("max" or
        "min" or one of GATES, node, node)``. Nodes are named by their place in the list.
    phi, dphi : int
        Nodes of φ and of φ', or -1 before they are known.

    Examples
    --------
    >>> from ntkengine.formula import parse_program
    >>> graph = Graph.of_program(parse_program("a*max(z, 0)", "z")[1].differentiated(), [3.0])
    >>> graph.both([-1.0, 2.0])
    (array([0., 6.]), array([0., 3.]))
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._known: dict[Node, int] = {}
        self.z = self._put(("z",))
        self.phi = self.dphi = -1

    @classmethod
    def of_program(cls, slopes: Program, values: Iterable[float]) -> Graph:
        """The graph of a differentiated program with these parameter values."""
        graph = cls()
        place: dict[Any, int] = {slopes.variable: graph.z}
        for symbol, number in zip(slopes.parameters.values(), values, strict=True):
            place[symbol] = graph.number(number)
        for symbol, expression in slopes.statements.items():
            place[symbol] = graph._read(expression, place)
        graph.phi, graph.dphi = graph._read(slopes.result, place), graph._read(slopes.slope, place)
        return graph

    def _put(self, node: Node) -> int:
        place = self._known.setdefault(node, len(self.nodes))
        if place == len(self.nodes):
            self.nodes.append(node)
        return place

    def _read(self, expression: Any, place: dict[Any, int]) -> int:
        if expression.is_Symbol:
            return place[expression]
        if expression.is_Number:
            return self.number(float(expression))
        if expression.is_Pow:
            return self.product([(self._read(expression.base, place), int(expression.exp))])
        parts = [self._read(argument, place) for argument in expression.args]
        if expression.is_Add:
            return self.sum([(1, part) for part in parts])
        if expression.is_Mul:
            return self.product([(part, 1) for part in parts])
        return self.call(_NAMES[type(expression)], *parts)

    # --- making nodes ---

    def value(self, node: int) -> float | None:
        """The value of a number; None for what depends on z."""
        return self.nodes[node][1] if self.nodes[node][0] == "number" else None

    def number(self, value: float) -> int:
        """A number."""
        return self._put(("number", float(value) + 0.0))

    def sum(self, terms: Iterable[tuple[int, int]], constant: float = 0.0) -> int:
        """``constant`` + Σ ±node."""
        kept = []
        for sign, node in terms:
            value = self.value(node)
            if value is None:
                kept.append((sign, node))
            else:
                constant += sign * value
        kept.sort(key=lambda term: term[1])
        if not kept:
            return self.number(constant)
        if constant == 0 and len(kept) == 1:
            return self.product([(kept[0][1], 1)], float(kept[0][0]))
        if constant == -1 and len(kept) == 1 and kept[0][0] == 1 and self.nodes[kept[0][1]][0] == "exp":
            return self.call("expm1", self.nodes[kept[0][1]][1])
        return self._put(("sum", constant, tuple(kept)))

    def product(self, factors: Iterable[tuple[int, int]], coefficient: float = 1.0) -> int:
        """``coefficient``·Π node**power."""
        powers: dict[int, int] = {}

        def multiply(node: int, power: int) -> None:
            nonlocal coefficient
            kind, *rest = self.nodes[node]
            if kind == "number":
                coefficient *= rest[0] ** power
            elif kind == "product" and (power == 1 or len(rest[1]) == 1):
                coefficient *= rest[0] ** power
                for inner, inner_power in rest[1]:
                    multiply(inner, power * inner_power)
            elif kind in GATES and power > 0:
                powers[node] = 1
            else:
                powers[node] = powers.get(node, 0) + power

        with np.errstate(all="ignore"):
            for node, power in factors:
                multiply(node, power)
        powers = {node: power for node, power in powers.items() if power}
        if coefficient == 0 or not powers:
            return self.number(coefficient)
        if len(powers) > 1:
            # max(x, 0) times something is something only where x > 0: 0·∞ is 0.
            for node in list(powers):
                kind, *rest = self.nodes[node]
                if kind == "max" and self.value(rest[1]) == 0 and powers[node] > 0:
                    powers[self.call("greater", *rest)] = 1
                    powers[rest[0]] = powers.get(rest[0], 0) + powers.pop(node)
        (only, power), *more = powers.items()
        if coefficient == 1 and power == 1 and not more:
            return only
        return self._put(("product", coefficient, tuple(sorted(powers.items()))))

    def call(self, name: str, *arguments: int) -> int:
        """A function of the formula language."""
        values = [self.value(argument) for argument in arguments]
        if all(value is not None for value in values):
            with np.errstate(all="ignore"):
                return self.number(float(_VALUES[name](*(np.float64(v) for v in values))))
        return self._put((name, *arguments))

    # --- looking ---

    def operands(self, node: int) -> tuple[int, ...]:
        """The nodes that a node is made of."""
        kind, *rest = self.nodes[node]
        if kind == "sum":
            return tuple(term for _, term in rest[1])
        if kind == "product":
            return tuple(factor for factor, _ in rest[1])
        return () if kind in ("z", "number") else tuple(rest)

    def needed(self, root: int) -> list[int]:
        """``root`` and all it is made of, operands first."""
        wanted = {root}
        for node in range(root, -1, -1):
            if node in wanted:
                wanted.update(self.operands(node))
        return sorted(wanted)

    def selects(self, root: int) -> bool:
        """Whether something that depends on z is multiplied by a condition: then automatic derivatives may meet 0·∞."""
        for node in self.needed(root):
            kinds = [self.nodes[operand][0] for operand in self.operands(node)]
            if self.nodes[node][0] == "product" and set(GATES) & set(kinds) and set(kinds) - set(GATES):
                return True
        return False

    def both(self, z: ArrayLike) -> tuple[Floats, Floats]:
        """φ(z) and φ'(z) by NumPy, in the precision of z."""
        points = np.asarray(z)
        known: dict[int, Any] = {}
        with np.errstate(all="ignore"):
            for node in sorted({*self.needed(self.phi), *self.needed(self.dphi)}):
                known[node] = self._evaluate(node, points, known)
        phi, dphi = (np.broadcast_to(known[root], points.shape) for root in (self.phi, self.dphi))
        return phi, dphi

    def _evaluate(self, node: int, z: Floats, known: dict[int, Any]) -> Any:
        kind, *rest = self.nodes[node]
        if kind == "z":
            return z
        total: Any = z.dtype.type(rest[0]) if kind in ("number", "sum", "product") else None
        if kind == "sum":
            for sign, term in rest[1]:
                total = total + sign * known[term]
        if kind == "product":
            gates = []
            for factor, power in rest[1]:
                if self.nodes[factor][0] in GATES:
                    gates.append(known[factor])
                else:
                    total = total * known[factor] ** power if power > 0 else total / known[factor] ** -power
            for gate in gates:
                total = np.where(gate == 0, gate, total)
        return _VALUES[kind](*(known[argument] for argument in rest)) if total is None else total
