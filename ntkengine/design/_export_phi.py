"""Source of φ and φ' of any activation: from its formula, from its series, or from the family itself.

A formula becomes straight-line code; φ' is its derivative with the value that training uses at kinks. A sum of polynomials
(:class:`~ntkengine.activations.series.SeriesFamily`) becomes its coefficients and Clenshaw's recurrence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ntkengine.activations.base import Activation
from ntkengine.activations.series import UNROLLED, SeriesFamily
from ntkengine.design._export_graph import Graph
from ntkengine.design._export_pieces import pieces_of, pieces_source
from ntkengine.design._printers import Language, array_text, body
from ntkengine.errors import InputError
from ntkengine.formula import parse_program

__all__ = ["activation_source", "formula_of", "own_source", "ramps_of"]

#: Built-in families whose formula for people overflows far out, or has another derivative at the kink than training uses
#: (φ' of z − max(z, 0) at 0 is 1, that of min(z, 0) is 0): the same functions, in the formula language.
_TEXTS = {
    "abrelu": "b*max(z, 0) + a*(z - max(z, 0))",
    "elu": "max(z, 0) + alpha*(exp(z - max(z, 0)) - 1)",
    "gelu": "gelu(z)",
    "leaky_relu": "max(z, 0) + slope*(z - max(z, 0))",
    "mish": "z*tanh(softplus(z))",
    "selu": "1.0507009873554805*max(z, 0) + 1.7580993408473768*(exp(z - max(z, 0)) - 1)",
    "sigmoid": "sigmoid(z)",
    "silu": "z*sigmoid(z)",
    "softplus": "softplus(z)",
}
_WORD = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[A-Za-z_]\w*")


@dataclass(frozen=True)
class _Parts:
    """What the definitions of φ and φ' are put together from.

    ``plain``: automatic derivatives of φ are φ'; ``mended``: NaN and inf arise in φ' and are replaced.
    """

    phi: list[str]
    dphi: list[str]
    before: str = ""
    plain: bool = False
    mended: bool = False


def activation_source(phi: Activation, language: Language) -> str:
    """Definitions of ``phi(z)`` and ``dphi(z)``, without imports; in numba's case with ``phi_scalar`` and ``dphi_scalar``.

    Raises
    ------
    InputError
        If the family's formula is not of the formula language or is not what its ``pair`` computes, and the family has no
        ``source`` of its own.
    """
    own = own_source(phi, language.name)
    if own is not None:
        return own
    pieces = pieces_of(phi)
    if pieces is not None:
        before, value, slope = pieces_source(pieces, language)
        parts = _Parts(value, slope, before, plain=True)
    elif isinstance(phi.family, SeriesFamily) and len(phi.values) > 1:
        parts = _series_parts(phi, language)
    else:
        parts = _formula_parts(phi, language)
    return _FORMS[language.name](parts)


def own_source(phi: Activation, language: str) -> str | None:
    """What ``family.source(values, language)`` gives, if the family has such a method."""
    source: Callable[..., str] | None = getattr(phi.family.root, "source", None)
    return None if source is None else source(phi.values, language)


# --- formulas --------------------------------------------------------------------------------------------------


def _in_language(phi: Activation) -> tuple[str, dict[str, float]]:
    """A text in the formula language for φ, and its parameters' values; q0, q1, ... where a name means something there."""
    family = phi.family
    if family.name == "monomial":
        return f"z**{int(phi.values[0])}", {}
    if isinstance(family, SeriesFamily):  # of one coefficient
        return repr(phi.values[0]), {}
    names = [p.name for p in family.parameters]
    if family.from_text:
        return family.name, dict(zip(names, phi.values, strict=True))
    new = {name: f"q{i}" for i, name in enumerate(names)}
    text = _WORD.sub(
        lambda word: new.get(word.group(), word.group()), _TEXTS.get(family.name, family.formula)
    )
    return text, dict(zip(new.values(), phi.values, strict=True))


def ramps_of(phi: Activation) -> dict[str, Any] | None:
    """Parameters of ``c z + d + Σ a_j max(z − b_j, 0)``, if that is what the activation is by its family, else None."""
    return phi.parameters if phi.name == "kinks" and set(phi.parameters) == set("abcd") else None


def formula_of(phi: Activation) -> Graph:
    """φ and φ' as a graph; see :func:`activation_source` for the errors."""
    ramps = ramps_of(phi)
    if ramps is None:
        graph = _parsed(phi)
    else:  # more terms than a formula may have operations
        graph = Graph()
        terms, slopes = (
            [graph.product([(graph.z, 1)], ramps["c"]), graph.number(ramps["d"])],
            [graph.number(ramps["c"])],
        )
        for a, b in zip(ramps["a"], ramps["b"], strict=True):
            above = graph.call("max", graph.sum([(1, graph.z)], -b), graph.number(0.0))
            terms.append(graph.product([(above, 1)], a))
            slopes.append(
                graph.product(
                    [(graph.call("greater", graph.sum([(1, graph.z)], -b), graph.number(0.0)), 1)], a
                )
            )
        graph.phi, graph.dphi = (graph.sum([(1, term) for term in row]) for row in (terms, slopes))
    if not phi.family.from_text:
        _check(phi, graph)
    return graph


def _parsed(phi: Activation) -> Graph:
    text, values = _in_language(phi)
    try:
        program = parse_program(text, "z")[1]
    except InputError as error:
        raise InputError(
            f"activation {phi.name!r} cannot be exported as source: its formula {phi.family.formula!r} is not of the formula "
            "language; write it in that language, or give the family a method source(values, language)"
        ) from error
    unknown = [name for name in program.parameters if name not in values]
    if unknown:
        raise InputError(
            f"activation {phi.name!r} cannot be exported as source: its formula {phi.family.formula!r} has the name "
            f"{unknown[0]!r}, which is not one of its parameters"
        )
    return Graph.of_program(program.differentiated(), [values[name] for name in program.parameters])


def _check(phi: Activation, graph: Graph) -> None:
    """InputError unless the graph is what the activation computes, between its kinks."""
    z = 12.0 * np.sin(0.618 * np.arange(400.0) ** 1.5)
    for kink in phi.kinks:
        z = z[np.abs(z - kink.location) > 1e-6]
    for name, found, wanted in zip(("φ", "φ'"), graph.both(z), phi.both(z), strict=True):
        known = np.isfinite(wanted)
        with np.errstate(all="ignore"):
            far = ~(np.abs(found - wanted) <= 1e-8 * (1 + np.abs(wanted[known]).max(initial=0.0))) & known
        if far.any():
            at = int(np.flatnonzero(far)[0])
            raise InputError(
                f"activation {phi.name!r} cannot be exported as source: by its formula {phi.family.formula!r}, "
                f"{name}({z[at]:.6g}) is {found[at]:.6g}, but it computes {wanted[at]:.6g}; correct the formula, or give the "
                "family a method source(values, language)"
            )


def _formula_parts(phi: Activation, language: Language) -> _Parts:
    graph = formula_of(phi)
    corrections: tuple[dict[float, float], dict[float, float]] = ({}, {})
    for kink in phi.kinks:
        at = np.float64(kink.location)
        for points, found, wanted in zip(corrections, graph.both(at), phi.both(at), strict=True):
            if not abs(found - wanted) <= 1e-9 * (1 + abs(wanted)):
                points[float(at)] = float(wanted)
    far = np.concatenate([[0.0], np.logspace(-3, 4, 141)])
    far = np.concatenate([-far[::-1], far])
    wanted = phi.derivative(far)
    guard = any(
        bool((np.isnan(graph.both(far.astype(real))[1]) & np.isfinite(wanted)).any())
        for real in (np.float32, np.float64)
    )
    return _Parts(
        body(language, graph, graph.phi, corrections[0], False),
        body(language, graph, graph.dphi, corrections[1], guard),
        plain=not (corrections[0] or corrections[1] or guard or graph.selects(graph.phi)),
        mended=guard or bool(corrections[1]),
    )


# --- series ----------------------------------------------------------------------------------------------------


_HERMITE = """# φ = Σ C_k h_k{of} in the orthonormal probabilists' Hermite polynomials: h_0 = 1, h_1 = z,
# √(k+1) h_{{k+1}} = z h_k − √k h_{{k−1}}, and h_k' = √k h_{{k−1}}."""
_OTHER = "# φ = Σ C_k f_k: f_0 = 1, f_{k+1} = RATE_k z f_k − FALL_{k−1} f_{k−1}, and f_k' = FACTOR_k f_{k−1}."

_CLENSHAW = """here, above = {full}, {zero}
    for k in range(len(c) - 2, -1, -1):
        here, above = c[k] + (RATE[k] * z * here - FALL[k] * above), here
    return here"""
_HORNER = """here = {full}
    for k in range(len(c) - 2, -1, -1):
        here = c[k] + z * here
    return here"""
_JAX_CLENSHAW = """def step(carry, row):
        here, above = carry
        c_k, rate, fall = row
        return (c_k + (rate * z * here - fall * above), here), None

    start = jnp.full_like(z, c[-1]), jnp.zeros_like(z)
    rows = tuple(jnp.asarray(row[: len(c) - 1], z.dtype) for row in (c, RATE, FALL))
    (here, _), _ = jax.lax.scan(step, start, rows, reverse=True)
    return here"""
_JAX_HORNER = "return jnp.polyval(jnp.asarray(c[::-1], z.dtype), z)"
_FILLS = {
    "numpy": ("np.full_like(z, c[-1])", "np.zeros_like(z)"),
    "torch": ("torch.full_like(z, c[-1])", "torch.zeros_like(z)"),
    "numba": ("c[-1] + 0.0 * z", "0.0 * z"),
}


def _series_parts(phi: Activation, language: Language) -> _Parts:
    family = phi.family
    assert isinstance(family, SeriesFamily)
    lines = [f"C = {array_text(phi.values)}"]
    if family.name == "polynomial":
        note, rows, doc, factor = "# φ = Σ C_k z^k.", "C, SLOPE", "Σ c_k z^k, by Horner's rule", "k"
    else:
        rows, factor = "C, RATE, FALL, SLOPE", "math.sqrt(k)"
        if family.name == "hermite":
            of, root = "", "math.sqrt(k + 1.0)"
            if family.variance not in (None, 1.0):
                of, root, factor = "(z/√V)", "math.sqrt(V * (k + 1.0))", "math.sqrt(k / V)"
                lines.append(f"V = {family.variance!r}")
            note, doc = _HERMITE.format(of=of), f"Σ c_k h_k{of or '(z)'}, by Clenshaw's recurrence"
            lines.append(f"RATE = [1.0 / {root} for k in range(len(C))]")
            lines.append("FALL = [math.sqrt((k + 1.0) / (k + 2.0)) for k in range(len(C))]")
        else:
            note, doc, factor = _OTHER, "Σ c_k f_k(z), by Clenshaw's recurrence", "FACTOR[k]"
            tables = zip(("RATE", "FALL", "FACTOR"), family.scaled_recurrence(len(phi.values)), strict=True)
            lines += [f"{name} = {array_text(row)}" for name, row in tables]
    lines.append(f"SLOPE = [{factor} * C[k] for k in range(1, len(C))]  # the coefficients of φ'")
    decorator = ""
    if language.name == "numba":
        decorator = "@numba.njit\n"
        lines.append(f"{rows} = (np.array(row) for row in ({rows}))")
    if language.name == "jax":
        loop = _JAX_HORNER if family.name == "polynomial" else _JAX_CLENSHAW
    else:
        full, zero = _FILLS[language.name]
        loop = (_HORNER if family.name == "polynomial" else _CLENSHAW).format(full=full, zero=zero)
    series = f'{decorator}def series(c, z):\n    """{doc}."""\n    {loop}'
    start = [language.prelude] if language.prelude else []
    return _Parts(
        [*start, "return series(C, z)"],
        [*start, "return series(SLOPE, z)"],
        before="\n".join([note, *lines]) + "\n\n\n" + series,
        plain=len(phi.values) <= UNROLLED,
    )


# --- forms -----------------------------------------------------------------------------------------------------

_PHI_DOC = '"""Activation φ, elementwise."""'
_DPHI_DOC = '"""Derivative φ\', elementwise; at a kink the value that training uses."""'


def _function(name: str, doc: str, lines: Sequence[str], decorator: str = "") -> str:
    head = [decorator] if decorator else []
    return "\n".join([*head, f"def {name}(z):", f"    {doc}", *(f"    {line}" for line in lines)])


def _joined(*texts: str) -> str:
    return "\n\n\n".join(text for text in texts if text)


def _numpy_form(parts: _Parts) -> str:
    quiet = '@np.errstate(all="ignore")' if parts.mended else ""
    return _joined(
        parts.before, _function("phi", _PHI_DOC, parts.phi), _function("dphi", _DPHI_DOC, parts.dphi, quiet)
    )


def _numba_form(parts: _Parts) -> str:
    compiled = '@numba.njit(error_model="numpy")'
    of_number = '"""{} of a number, for use in compiled loops."""'
    return _joined(
        parts.before,
        _function("phi_scalar", of_number.format("φ"), parts.phi, compiled),
        _function("dphi_scalar", of_number.format("φ'"), parts.dphi, compiled),
        _function("phi", _PHI_DOC, ["return phi_scalar(z)"], "@numba.vectorize"),
        _function("dphi", _DPHI_DOC, ["return dphi_scalar(z)"], "@numba.vectorize"),
    )


_TORCH_FUNCTION = '''class _Phi(torch.autograd.Function):
    """φ, differentiated as φ'."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z):
        return value(z)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        (z,) = ctx.saved_tensors
        return gradient * dphi(z)


def phi(z):
    """Activation φ, elementwise."""
    return _Phi.apply(z)'''


def _torch_form(parts: _Parts) -> str:
    if parts.plain:  # and then not mended
        return _numpy_form(parts)
    return _joined(
        parts.before,
        _function("value", '"""φ without its derivative."""', parts.phi),
        _function("dphi", _DPHI_DOC, parts.dphi),
        _TORCH_FUNCTION,
    )


_JAX_RULE = """@phi.defjvp
def _phi_jvp(primals, tangents):
    (z,), (dz,) = primals, tangents
    return phi(z), dphi(z) * dz"""


def _jax_form(parts: _Parts) -> str:
    if parts.plain:
        return _numpy_form(parts)
    return _joined(
        parts.before,
        _function("phi", _PHI_DOC, parts.phi, "@jax.custom_jvp"),
        _function("dphi", _DPHI_DOC, parts.dphi),
        _JAX_RULE,
    )


_FORMS = {"numpy": _numpy_form, "numba": _numba_form, "torch": _torch_form, "jax": _jax_form}
