"""φ and the network's scaling as displayed LaTeX formulas, numbers in place of parameters (amsmath, amssymb)."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ntkengine.activations.base import Activation
from ntkengine.activations.series import SeriesFamily
from ntkengine.design._export_phi import formula_of, own_source, ramps_of
from ntkengine.design._export_pieces import Pieces, pieces_of
from ntkengine.infinite.fcn import FCN

__all__ = ["escaped", "latex_number", "network_latex"]

#: Significant digits.
DIGITS = 10
#: Most terms on a line, most terms of a series that are written out, most characters of a formula on one line.
_TERMS, _SERIES, _LINE = 4, 12, 150
#: Most nodes of a piecewise cubic that are listed.
_NODES = 80

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def escaped(text: str) -> str:
    """Text as LaTeX sets it; what is not printable ASCII becomes a question mark."""
    return "".join(_SPECIAL.get(ch, ch) if " " <= ch <= "~" else "?" for ch in text)


def latex_number(value: float) -> str:
    r"""A number with 10 significant digits.

    Examples
    --------
    >>> print(latex_number(0.5), latex_number(-1.25e-7))
    0.5 -1.25 \cdot 10^{-7}
    """
    mantissa, _, exponent = f"{value + 0.0:.{DIGITS}g}".partition("e")
    return rf"{mantissa} \cdot 10^{{{int(exponent)}}}" if exponent else mantissa


def network_latex(fcn: FCN) -> str:
    """Displayed formulas for φ, the network and, if there is one, the radial lift."""
    b1, b2, lift = fcn.b_std > 0, fcn.readout_b_std > 0, fcn.radial_lift
    x, f = (r"\frac{x}{r}", r"\frac{f(x)}{r}") if lift else ("x", "f(x)")
    hidden = rf"z = \frac{{\sigma_w}}{{\sqrt{{d}}}}\, W {x}" + (r" + \sigma_b\, b" if b1 else "")
    readout = rf"{f} = \frac{{\omega_w}}{{\sqrt{{N}}}}\, V \varphi(z)" + (r" + \omega_b\, b'" if b2 else "")
    scales = [
        (r"\sigma_w", fcn.w_std),
        (r"\sigma_b", fcn.b_std),
        (r"\omega_w", fcn.readout_w_std),
        (r"\omega_b", fcn.readout_b_std),
    ]
    numbers = r",\quad ".join(f"{name} = {latex_number(value)}" for name, value in scales if value)
    random = ["$W$", *(["$b$"] if b1 else []), "$V$", *(["$b'$"] if b2 else [])]
    radius = r", and $r = |x| / \sqrt{d}$: the network sees directions, and its output scales with the norm; $f(0) = 0$"
    return "\n".join(
        [
            activation_latex(fcn.activation),
            rf"\[ {hidden}, \qquad {readout}, \]",
            rf"\[ {numbers}, \]",
            r"where $x \in \mathbb{R}^d$, $N$ is the width, all entries of "
            + f"{', '.join(random[:-1])} and {random[-1]} "
            + r"are $\mathcal{N}(0, 1)$ parameters" + (radius if lift else "") + ".",
        ]
    )  # fmt: skip


def activation_latex(phi: Activation) -> str:
    r"""``\varphi(z) = ...``, displayed."""
    own = own_source(phi, "latex")
    if own is not None:
        return own
    pieces = pieces_of(phi)
    if pieces is not None:
        return _pieces(pieces)
    if isinstance(phi.family, SeriesFamily) and len(phi.values) > 1:
        return _series(phi)
    formula_of(phi)  # refuses a formula that is not what φ computes, or not of the language
    ramps = ramps_of(phi)
    if ramps is not None:
        z = Text("z", 3)
        terms = [_times(_number(ramps["c"]), z), _number(ramps["d"])]
        for a, b in zip(ramps["a"], ramps["b"], strict=True):
            terms.append(_times(_number(a), _called("max", [_plus(z, _number(-b)), _number(0.0)])))
        return displayed([term for term in terms if term.value != 0] or [_number(0.0)])
    family = phi.family
    if isinstance(family, SeriesFamily):
        return displayed([_number(phi.values[0])])
    values = dict(zip((p.name for p in family.parameters), phi.values, strict=True))
    read = _read(ast.parse(family.name if family.from_text else family.formula, mode="eval").body, values)
    return displayed(list(read.terms) or [read])


def displayed(terms: list[Text]) -> str:
    """A sum as a displayed formula of one or more lines."""
    pieces = [
        ("-" if term.negative else "+" if i else "") + (" " if i else "") + term.text
        for i, term in enumerate(terms)
    ]
    rows, row = [], [pieces[0]]
    for piece in pieces[1:]:
        if len(row) == _TERMS or sum(map(len, row)) + len(piece) > _LINE:
            rows.append(row)
            row = []
        row.append(piece)
    rows.append(row)
    lines = [" ".join(row) for row in rows]
    if len(lines) == 1:
        return rf"\[ \varphi(z) = {lines[0]} \]"
    body = " \\\\\n".join(f"& {line}" for line in lines)
    return "\\[ \\begin{aligned}\n\\varphi(z) = {} " + body + "\n\\end{aligned} \\]"


def _series(phi: Activation) -> str:
    family, hermite = phi.family, phi.name == "hermite"
    assert isinstance(family, SeriesFamily)
    variance = family.variance or 1.0
    t, scaled = ("z", "") if variance == 1 else ("t", rf" in $t = z / \sqrt{{{latex_number(variance)}}}$")
    if phi.name == "polynomial":
        functions = ["", "z", *(f"z^{{{k}}}" for k in range(2, len(phi.values)))]
        symbol, where = "z^{k}", ""
    else:
        symbol = "h" if hermite else "f"
        functions = [f"{symbol}_{{{k}}}({t})" for k in range(len(phi.values))]
        symbol += f"_k({t})"
        where = (
            rf" with the orthonormal Hermite polynomials $h_0 = 1$, $h_1 = {t}$, "
            rf"$\sqrt{{k + 1}}\, h_{{k+1}} = {t} h_k - \sqrt{{k}}\, h_{{k-1}}$"
            if hermite
            else f" in the polynomials $f_k$ of the family {escaped(phi.name)}"
        ) + scaled
    terms = [(k, a) for k, a in enumerate(phi.values) if a] or [(0, 0.0)]
    if len(terms) <= _SERIES:
        right = displayed([_times(_number(a), Text(functions[k], 2)) for k, a in terms])
        return right + (f"\n{where.strip()}." if where else "")
    listed = ", ".join(f"$a_{{{k}}} = {latex_number(a)}$" for k, a in terms)
    others = "; the other coefficients are 0" if len(terms) < len(phi.values) else ""
    return rf"\[ \varphi(z) = \sum_{{k=0}}^{{{terms[-1][0]}}} a_k\, {symbol} \]" + (
        f"\n{where.strip()} and the coefficients\n{listed}{others}."
        if where
        else f"\nwith the coefficients\n{listed}{others}."
    )


def _pieces(pieces: Pieces) -> str:
    lines = [
        r"\[ \varphi(z) = \varphi_k + d_k t + \left( 3 s_k - 2 d_k - d_{k+1} \right) \frac{t^2}{h_k}"
        r" + \left( d_k + d_{k+1} - 2 s_k \right) \frac{t^3}{h_k^2}, \qquad z_k \leq z < z_{k+1}, \]",
        r"\[ t = z - z_k, \qquad h_k = z_{k+1} - z_k, \qquad s_k = \frac{\varphi_{k+1} - \varphi_k}{h_k}, \]",
        rf"a piecewise cubic with straight lines outside its {pieces.nodes.size} nodes",
    ]
    if pieces.nodes.size > _NODES:
        low, high = latex_number(pieces.nodes[0]), latex_number(pieces.nodes[-1])
        lines[-1] += (
            rf" from ${low}$ to ${high}$, whose values $\varphi_k$ and slopes $d_k$ are in the export as JSON."
        )
        return "\n".join(lines)
    lines[-1] += r" $z_k$ with values $\varphi_k$ and slopes $d_k$ (a kink where two nodes coincide):"
    rows = zip(pieces.nodes, pieces.values, pieces.slopes)
    table = [" & ".join(f"${latex_number(x)}$" for x in row) + r" \\" for row in rows]
    head = r"$z_k$ & $\varphi_k$ & $d_k$ \\ \hline"
    return "\n".join([*lines, "", r"\begin{tabular}{rrr}", head, *table, r"\end{tabular}", ""])


# --- formulas --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Text:
    """A part of a formula without its sign. Level 0: a sum, 1: a product, 2: can be a factor, 3: can be raised to a power."""

    text: str
    level: int
    negative: bool = False
    value: float | None = None
    terms: tuple[Text, ...] = ()

    @property
    def signed(self) -> str:
        """With its sign."""
        return f"-{self.text}" if self.negative else self.text

    def within(self, level: int) -> str:
        """With its sign, in brackets unless it is at least of this level and positive."""
        inner = self.level >= level and not self.negative
        return self.text if inner else rf"\left( {self.signed} \right)"


_FUNCTIONS = {name: rf"\{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")} | {"log": r"\ln"}


def _number(value: float) -> Text:
    text = latex_number(abs(value))
    return Text(text, 3 if "cdot" not in text else 2, value < 0, value)


def _negated(a: Text) -> Text:
    if a.value is not None:
        return _number(-a.value)
    if a.level == 0:
        return Text(a.within(1), 2, True)
    return replace(a, negative=not a.negative)


def _plus(a: Text, b: Text) -> Text:
    if a.value is not None and b.value is not None:
        return _number(a.value + b.value)
    if a.value == 0 or b.value == 0:
        return b if a.value == 0 else a
    terms = (*(a.terms or (a,)), *(b.terms or (b,)))
    text = terms[0].signed + "".join(f" {'-' if t.negative else '+'} {t.text}" for t in terms[1:])
    return Text(text, 0, terms=terms)


def _times(a: Text, b: Text) -> Text:
    if a.value is not None and b.value is not None:
        return _number(a.value * b.value)
    if b.value is not None:
        a, b = b, a
    if a.value == 0:
        return _number(0.0)
    if not b.text:  # the constant term of a polynomial
        return a
    negative = a.negative != b.negative
    if a.value is not None and abs(a.value) == 1:
        return Text(b.text, b.level, negative, terms=b.terms) if b.level else Text(b.within(1), 2, negative)
    left, right = (replace(x, negative=False).within(1) for x in (a, b))
    joint = r" \cdot " if right[0].isdigit() else r"\, "
    return Text(left + joint + right, 1, negative)


def _over(a: Text, b: Text) -> Text:
    if b.value is not None and abs(b.value) == 1:
        return a if b.value > 0 else _negated(a)
    above, below = (x if x.level == 0 else replace(x, negative=False) for x in (a, b))
    return Text(rf"\frac{{{above.signed}}}{{{below.signed}}}", 2, a.negative != b.negative)


def _power(a: Text, b: Text) -> Text:
    if b.value == 1:
        return a
    if b.value == 0.5:
        return Text(rf"\sqrt{{{a.signed}}}", 3)
    return Text(rf"{a.within(3)}^{{{b.signed}}}", 2)


def _called(name: str, arguments: list[Text]) -> Text:
    inside = ", ".join(argument.signed for argument in arguments)
    if name in _FUNCTIONS:
        return Text(rf"{_FUNCTIONS[name]}\left( {inside} \right)", 2)
    if name == "exp":
        return Text(f"e^{{{inside}}}", 2)
    if name == "sqrt":
        return Text(rf"\sqrt{{{inside}}}", 3)
    if name == "abs":
        return Text(rf"\left| {inside} \right|", 3)
    if name in ("step", "heaviside"):
        return Text(rf"\mathbf{{1}}\left[ {inside} > 0 \right]", 3)
    if name in ("min", "max", "relu"):
        zero = ", 0" if name == "relu" else ""
        return Text(rf"\{'min' if name == 'min' else 'max'}\left( {inside}{zero} \right)", 3)
    return Text(rf"\operatorname{{{name}}}\left( {inside} \right)", 2)


_JOINED = {
    ast.Add: _plus,
    ast.Sub: lambda a, b: _plus(a, _negated(b)),
    ast.Mult: _times,
    ast.Div: _over,
    ast.Pow: _power,
}


def _read(node: ast.expr, values: Mapping[str, float]) -> Text:
    """A syntax tree that the formula language has accepted; chains of signs in a loop, not by recursion."""
    chain = []
    while isinstance(node, ast.BinOp):
        chain.append(node)
        node = node.left
    found = _operand(node, values)
    for outer in reversed(chain):
        found = _JOINED[type(outer.op)](found, _read(outer.right, values))
    return found


def _operand(node: ast.expr, values: Mapping[str, float]) -> Text:
    negative = False
    while isinstance(node, ast.UnaryOp):
        negative ^= isinstance(node.op, ast.USub)
        node = node.operand
    if isinstance(node, ast.BinOp):
        found = _read(node, values)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        found = _called(node.func.id, [_read(argument, values) for argument in node.args])
    elif isinstance(node, ast.Name) and node.id in values:
        found = _number(values[node.id])
    elif isinstance(node, ast.Name):
        found = Text(r"\pi" if node.id == "pi" else node.id, 3)
    else:
        assert isinstance(node, ast.Constant)
        assert isinstance(node.value, (int, float))
        found = _number(float(node.value))
    return _negated(found) if negative else found
