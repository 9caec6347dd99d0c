"""Source text in four languages for the graphs of :mod:`ntkengine.design._export_graph`.

The languages differ in how functions, conditions and selections are written; arithmetic is the same in all. The text is made
from a fixed set of node kinds and from numbers, which are written so that reading them gives the same float64.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ntkengine.design._export_graph import GATES, Graph

__all__ = ["LANGUAGES", "Language", "array_text", "body", "complete", "number"]

#: A longer expression gets a line of its own; longer sums are set one term a line.
_INLINE, _WIDTH = 72, 100


def number(value: float) -> str:
    """A float as text that reads back as the same float."""
    return repr(float(value))


def array_text(values: Iterable[float], width: int = 100) -> str:
    """A list of numbers, as many on a line as fit, each as it reads back."""
    lines, line = ["["], "   "
    for value in values:
        text = f" {number(value)},"
        if len(line) + len(text) > width and line.strip():
            lines.append(line)
            line = "   "
        line += text
    return "\n".join([*lines, line, "]"])


@dataclass(frozen=True)
class Language:
    """How one language writes what is not plain arithmetic.

    Parameters
    ----------
    name : str
    imports : tuple of str
        Lines every text begins with.
    functions : mapping
        Name in a graph -> text with ``{0}``, ``{1}`` for the arguments, or the name of a helper.
    helpers : mapping
        Name -> definition of a function that the language lacks.
    needs : mapping
        Import line -> what in a text asks for it.
    both : str
        Joins two conditions.
    select : str
        Text with ``{0}`` where the condition ``{1}`` holds, else ``{2}``.
    indicator : str
        1 where the condition ``{0}`` holds, else 0; to be multiplied by a number.
    constant : str
        The number ``{0}`` in the shape of z.
    finite_or_zero : str
        ``{0}``, but 0 where that is NaN and z is finite.
    prelude : str
        First line of a function whose body speaks of z as an array, or "".
    """

    name: str
    imports: tuple[str, ...]
    functions: Mapping[str, str]
    helpers: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)
    both: str = "({0}) & ({1})"
    select: str = ""
    indicator: str = ""
    constant: str = ""
    finite_or_zero: str = ""
    prelude: str = ""


def _module(module: str, names: str) -> dict[str, str]:
    return {name: f"{module}.{name}({{0}})" for name in names.split()}


_SMOOTH = "exp expm1 log sqrt sin cos tan sinh cosh tanh"

NUMPY = Language(
    "numpy",
    ("import numpy as np",),
    _module("np", _SMOOTH + " abs sign")
    | {
        "erf": "special.erf({0})",
        "softplus": "np.logaddexp({0}, 0.0)",
        "max": "np.maximum({0}, {1})",
        "min": "np.minimum({0}, {1})",
    },
    {
        "sigmoid": '''def sigmoid(x):
    """Logistic function 1/(1 + e^-x), without overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0.0, e, 1.0) / (1.0 + e)''',
        "sigmoid_slope": '''def sigmoid_slope(x):
    """Derivative of the logistic function."""
    e = np.exp(-np.abs(x))
    return e / (1.0 + e) ** 2''',
        "gelu": '''def gelu(x):
    """x Φ(x), Φ the distribution function of N(0, 1)."""
    return x * special.ndtr(x)''',
        "gelu_slope": '''def gelu_slope(x):
    """Derivative of gelu."""
    return special.ndtr(x) + x * np.exp(-0.5 * x * x) / np.sqrt(2.0 * np.pi)''',
    },
    {"import math": "math.", "from scipy import special": "special."},
    select="np.where({1}, {0}, {2})",
    indicator="({0})",
    constant="np.full_like(z, {0})",
    finite_or_zero="np.where(np.isnan({0}) & np.isfinite(z), 0.0, {0})",
    prelude="z = np.asarray(z, dtype=np.float64)",
)

NUMBA = Language(
    "numba",
    ("import numba", "import numpy as np"),
    _module("math", _SMOOTH + " erf")
    | {
        "abs": "abs({0})",
        "sign": "np.sign({0})",
        "max": "max({0}, {1})",
        "min": "min({0}, {1})",
    },
    {
        "sigmoid": '''@numba.njit
def sigmoid(x):
    """Logistic function 1/(1 + e^-x), without overflow."""
    e = math.exp(-abs(x))
    return (e if x < 0.0 else 1.0) / (1.0 + e)''',
        "sigmoid_slope": '''@numba.njit
def sigmoid_slope(x):
    """Derivative of the logistic function."""
    e = math.exp(-abs(x))
    return e / (1.0 + e) ** 2''',
        "softplus": '''@numba.njit
def softplus(x):
    """ln(1 + e^x), without overflow."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))''',
        "gelu": '''@numba.njit
def gelu(x):
    """x Φ(x), Φ the distribution function of N(0, 1)."""
    return 0.5 * x * math.erfc(-x * math.sqrt(0.5))''',
        "gelu_slope": '''@numba.njit
def gelu_slope(x):
    """Derivative of gelu."""
    density = math.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
    return 0.5 * math.erfc(-x * math.sqrt(0.5)) + x * density''',
    },
    {"import math": "math."},
    both="{0} and {1}",
    select="({0} if {1} else {2})",
    indicator="({0})",
    constant="{0} + 0.0 * z",
    finite_or_zero="0.0 if math.isnan({0}) and math.isfinite(z) else {0}",
)

TORCH = Language(
    "torch",
    ("import torch", "from torch import nn"),
    _module("torch", _SMOOTH + " erf abs sign sigmoid")
    | {
        "sigmoid_slope": "(torch.sigmoid({0}) * torch.sigmoid(-({0})))",
        "softplus": "nn.functional.softplus({0}, threshold=40.0)",
        "gelu": "nn.functional.gelu({0})",
        "relu": "torch.relu({0})",
        "max": "torch.where({0} > {1}, {0}, {1})",  # torch.maximum would share the gradient of a tie
        "min": "torch.where({0} < {1}, {0}, {1})",
    },
    {
        "gelu_slope": '''def gelu_slope(x):
    """Derivative of gelu."""
    return torch.special.ndtr(x) + x * torch.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)''',
    },
    {"import functools": "functools.", "import math": "math."},
    select="torch.where({1}, {0}, {2})",
    indicator="({0}).to(z.dtype)",
    constant="torch.full_like(z, {0})",
    finite_or_zero="torch.where(torch.isnan({0}) & torch.isfinite(z), 0.0, {0})",
)

JAX = Language(
    "jax",
    ("import jax",),
    _module("jnp", _SMOOTH + " sign")
    | {
        "abs": "({0} * jnp.sign({0}))",  # jnp.abs has the derivative 1 at 0
        "erf": "jax.scipy.special.erf({0})",
        "sigmoid": "jax.nn.sigmoid({0})",
        "sigmoid_slope": "(jax.nn.sigmoid({0}) * jax.nn.sigmoid(-({0})))",
        "softplus": "jax.nn.softplus({0})",
        "gelu": "jax.nn.gelu({0}, approximate=False)",
        "relu": "jax.nn.relu({0})",
        "max": "jnp.where({0} > {1}, {0}, {1})",  # jnp.maximum would share the derivative of a tie
        "min": "jnp.where({0} < {1}, {0}, {1})",
    },
    {
        "gelu_slope": '''def gelu_slope(x):
    """Derivative of gelu."""
    return jax.scipy.stats.norm.cdf(x) + x * jax.scipy.stats.norm.pdf(x)''',
    },
    {"import math": "math.", "import numpy as np": " np.", "import jax.numpy as jnp": "jnp."},
    select="jnp.where({1}, {0}, {2})",
    indicator="({0}).astype(z.dtype)",
    constant="jnp.full_like(z, {0})",
    finite_or_zero="jnp.where(jnp.isnan({0}) & jnp.isfinite(z), 0.0, {0})",
    prelude="z = jnp.asarray(z)",
)

#: The languages by name.
LANGUAGES = {language.name: language for language in (TORCH, JAX, NUMPY, NUMBA)}


def body(
    language: Language, graph: Graph, root: int, points: Mapping[float, float], guard: bool
) -> list[str]:
    """Lines of a function of z that end with a return.

    Parameters
    ----------
    language : Language
    graph : Graph
    root : int
        What is returned.
    points : mapping
        z -> value there, where the graph has another one.
    guard : bool
        0 instead of NaN at finite z.
    """
    return _Body(language, graph, root).lines(points, guard)


@dataclass
class _Sum:
    """(sign, text without it) of each term, in the order of addition."""

    terms: list[tuple[int, str]]

    def text(self, joint: str = " ") -> str:
        terms = self.terms
        if len(terms) == 2 and terms[0][0] < 0 < terms[1][0]:
            terms = terms[::-1]
        (sign, text), *rest = terms
        pieces = [f"-{text}" if sign < 0 else text]
        return joint.join([*pieces, *(f"{'-' if s < 0 else '+'} {t}" for s, t in rest)])


@dataclass
class _Product:
    """A coefficient, factors and divisors that need no more brackets, conditions."""

    coefficient: float
    factors: list[str]
    divisors: list[str]
    conditions: list[str]


class _Body:
    def __init__(self, language: Language, graph: Graph, root: int) -> None:
        self.language, self.graph, self.root = language, graph, root
        self.order = graph.needed(root)
        self.uses = Counter(operand for node in self.order for operand in graph.operands(node))
        firsts = [(node, graph.nodes[node]) for node in self.order if graph.nodes[node][0] == "sum"]
        #: Sums that a longer sum begins with.
        self.begun = {node[2][0][1] for _, node in firsts if node[2][0][0] > 0}
        self.made: dict[int, Any] = {}  # node -> text of an atom, or a _Sum or a _Product still open
        self.written: list[str] = []
        self.named = 0

    def lines(self, points: Mapping[float, float], guard: bool) -> list[str]:
        for node in self.order:
            self.made[node] = self.make(node)
            if node != self.root:
                self.close(node)
        value = self.graph.value(self.root)
        if value is not None:
            result = self.language.constant.format(number(value))
        else:
            result = self.set(self.made[self.root])
        if points or guard:
            self.written.append(f"y = {result}")
            if guard:
                self.written.append(f"y = {self.language.finite_or_zero.format('y')}")
            for z, there in points.items():
                at = self.language.select.format(number(there), f"z == {number(z)}", "y")
                self.written.append(f"y = {at}")
            result = "y"
        lines = [*self.written, f"return {result}"]
        if self.language.prelude and any("_like(z" in line or "z.dtype" in line for line in lines):
            lines.insert(0, self.language.prelude)
        return [part for line in lines for part in line.split("\n")]

    def close(self, node: int) -> None:
        """Give a node a line of its own if it is used twice, or long."""
        if self.graph.nodes[node][0] in ("z", "number", *GATES):
            return
        text = self.text(self.made[node])
        long = len(text) > _INLINE and not (isinstance(self.made[node], _Sum) and node in self.begun)
        if (self.uses[node] > 1 and not text.isidentifier()) or long:
            self.named += 1
            self.written.append(f"t{self.named} = {self.set(self.made[node])}")
            self.made[node] = f"t{self.named}"

    # --- texts ---

    def text(self, made: Any) -> str:
        """On one line, without brackets around it."""
        if isinstance(made, _Sum):
            return made.text()
        return self.product(made) if isinstance(made, _Product) else str(made)

    def set(self, made: Any) -> str:
        """On one line if it is short, else, if it is a sum, a line a term."""
        text = self.text(made)
        if len(text) <= _WIDTH - 12 or not isinstance(made, _Sum):
            return text
        joint = "\n    "
        return f"({joint}{made.text(joint)}\n)"

    def atom(self, made: Any) -> str:
        """In brackets, unless it can stand as a factor."""
        if isinstance(made, _Sum):
            return f"({made.text()})"
        return f"({self.product(made)})" if isinstance(made, _Product) else str(made)

    def product(self, made: _Product) -> str:
        factors, coefficient = list(made.factors), made.coefficient
        sign = ""
        if made.conditions and not factors and not made.divisors:
            condition = self.condition(made.conditions)
            indicator = self.language.indicator.format(condition)
            bare = self.language.indicator == "({0})"  # a bool until it is multiplied
            return indicator if coefficient == 1 and not bare else f"{number(coefficient)} * {indicator}"
        if coefficient == -1 and factors:
            sign = "-"
        elif coefficient != 1 or not factors:
            factors.insert(0, number(coefficient))
        text = sign + " * ".join(factors)
        if len(made.divisors) > 1:
            text += f" / ({' * '.join(made.divisors)})"
        elif made.divisors:
            text += f" / {made.divisors[0]}"
        if made.conditions:
            return self.language.select.format(text, self.condition(made.conditions), "0.0")
        return text

    def condition(self, conditions: list[str]) -> str:
        text = conditions[0]
        for other in conditions[1:]:
            text = self.language.both.format(text, other)
        return text

    # --- nodes ---

    def make(self, node: int) -> Any:
        kind, *rest = self.graph.nodes[node]
        if kind == "z":
            return "z"
        if kind == "number":
            return number(rest[0]) if rest[0] >= 0 else f"({number(rest[0])})"
        if kind == "sum":
            return self.make_sum(*rest)
        if kind == "product":
            return self.make_product(*rest)
        if kind in GATES:
            return _Product(1.0, [], [], [self.compare(node)])
        return self.make_call(kind, rest)

    def make_sum(self, constant: float, terms: tuple[tuple[int, int], ...]) -> _Sum:
        made = _Sum([])
        for sign, node in terms:
            term = self.made[node]
            if isinstance(term, _Sum):
                if sign > 0 and not made.terms:
                    made.terms += term.terms
                else:
                    made.terms.append((sign, self.atom(term)))
            elif isinstance(term, _Product) and term.coefficient < 0:
                flipped = _Product(-term.coefficient, term.factors, term.divisors, term.conditions)
                made.terms.append((-sign, self.product(flipped)))
            else:
                made.terms.append((sign, self.text(term)))
        if constant:
            made.terms.append((-1 if constant < 0 else 1, number(abs(constant))))
        return made

    def make_product(self, coefficient: float, powers: tuple[tuple[int, int], ...]) -> _Product:
        made = _Product(coefficient, [], [], [])
        for node, power in powers:
            if self.graph.nodes[node][0] in GATES:
                made.conditions.append(self.compare(node))
                continue
            inner = self.made[node]
            if isinstance(inner, _Product) and power == 1 and not inner.conditions:
                made.coefficient *= inner.coefficient
                made.factors += inner.factors
                made.divisors += inner.divisors
                continue
            text = self.atom(inner)
            if abs(power) > 1:
                text = f"{text}**{abs(power)}"
            (made.factors if power > 0 else made.divisors).append(text)
        return made

    def compare(self, node: int) -> str:
        """The condition of a gate; ``x - b > 0`` as ``x > b``."""
        kind, a, b = self.graph.nodes[node]
        sign, turned = (">", "<") if kind == "greater" else ("<=", ">=")
        if isinstance(self.made[a], _Sum) and self.graph.value(b) == 0:
            _, constant, terms = self.graph.nodes[a]
            if len(terms) == 1:
                direction, inner = terms[0]
                left = self.text(self.made[inner])
                return f"{left} {sign if direction > 0 else turned} {number(-direction * constant)}"
        return f"{self.text(self.made[a])} {sign} {self.text(self.made[b])}"

    def make_call(self, kind: str, operands: list[int]) -> str:
        arguments = [self.text(self.made[operand]) for operand in operands]
        if kind == "max" and self.graph.value(operands[1]) == 0 and "relu" in self.language.functions:
            kind, arguments = "relu", arguments[:1]
        text = self.language.functions.get(kind, kind + "({0})")
        if text.count("{0}") > 1 and not arguments[0].isidentifier():
            self.named += 1
            self.written.append(f"t{self.named} = {arguments[0]}")
            self.made[operands[0]] = arguments[0] = f"t{self.named}"
        return text.format(*arguments)


def complete(language: Language, text: str) -> str:
    """A text with the imports and helpers that it asks for before it."""
    helpers = [definition for name, definition in language.helpers.items() if f"{name}(" in text]
    whole = "\n\n\n".join([*helpers, text])
    lines = [*language.imports, *(line for line, sign in language.needs.items() if sign in whole)]
    standard = [line for line in lines if line in ("import functools", "import math")]
    others = sorted(line for line in lines if line not in standard)
    others.sort(key=lambda line: line.startswith("from"))
    gap = "\n\n\n" if helpers else "\n\n"
    return "\n".join([*standard, *([""] if standard else []), *others]) + gap + whole
