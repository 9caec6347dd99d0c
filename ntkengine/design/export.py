"""Designs as source text for other frameworks, as LaTeX and as JSON.

The texts are complete: φ and φ' with the value that training uses at kinks, initialisation and the forward pass with the
scaling of the NTK parameterisation, ``z = σ_w/√d W x + σ_b b, f = ω_w/√N V φ(z) + ω_b b'`` (Jacot et al. 2018), and the radial
lift if the network has one. They are written to be read, and import their framework only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import ntkengine
from ntkengine._check import shown
from ntkengine.activations.base import Activation
from ntkengine.design._export_json import json_text, read_json
from ntkengine.errors import InputError
from ntkengine.infinite.fcn import FCN
from ntkengine.kernels.base import DotProductKernel

__all__ = ["FORMATS", "Exportable", "export", "read_json"]

#: What a design can be exported as.
FORMATS = ("torch", "jax", "numpy", "numba", "latex", "json")

_SHOWN = 200


class Exportable(Protocol):
    r"""What of a design is exported: anything that has these can be.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import ntkengine as nk
    >>> from ntkengine.design.export import export
    >>> net = nk.FCN("relu")
    >>> facts = {"target": net.kernel(), "kind": "ntk", "max_error": 0.0, "rms_error": 0.0}
    >>> text = export(SimpleNamespace(activation=net.activation, fcn=net, **facts), "latex")
    >>> r"\varphi(z) = \max\left( z, 0 \right)" in text
    True
    """

    @property
    def activation(self) -> Activation:
        """φ."""

    @property
    def target(self) -> DotProductKernel:
        """What the kernel should be."""

    @property
    def kind(self) -> str:
        """Which kernel: "ntk" or "nngp"."""

    @property
    def fcn(self) -> FCN:
        """The network, with this activation."""

    @property
    def max_error(self) -> float:
        """Largest |kernel − target|."""

    @property
    def rms_error(self) -> float:
        """Root mean square of kernel − target."""


def export(design: Exportable, format: str) -> str:
    """A design as text.

    Parameters
    ----------
    design : Design
        Or anything with its ``activation``, ``target``, ``kind``, ``fcn``, ``max_error`` and ``rms_error``.
    format : str
        ``"torch"``: an ``nn.Module``; ``"jax"``: pure functions ``init`` and ``apply``; ``"numpy"`` (float64): functions;
        ``"numba"`` (float64): the same with compiled φ and φ'; ``"latex"``: displayed formulas with 10 significant digits;
        ``"json"``: everything that :func:`read_json` needs for the same network, to the last bit.

    Returns
    -------
    str

    Raises
    ------
    InputError
        If the format is unknown; for source and LaTeX, if the network has more than one hidden layer or the standard
        parameterisation, or the activation is neither a formula nor a series.

    Notes
    -----
    A family that is neither may have a method ``source(values, language)``. For "torch", "jax" and "numpy" it returns the
    definitions of ``phi(z)`` and ``dphi(z)``, for "numba" of ``phi_scalar(z)`` and ``dphi_scalar(z)`` too, without imports
    (``np``, ``math``, ``torch``, ``nn``, ``jax``, ``jnp``, ``numba`` are there), phi's automatic derivative being dphi; for
    "latex" a displayed formula.

    Examples
    --------
    >>> import ntkengine as nk
    >>> from ntkengine.design.export import export
    >>> text = export(nk.reverse_engineer("c**3 + c", kind="nngp"), "numpy")
    >>> "def phi(z):" in text, "def forward(parameters, x):" in text
    (True, True)
    """
    if format not in FORMATS:
        raise InputError(f"format is {shown(format)}; a design is exported as one of: {', '.join(FORMATS)}")
    fcn = design.fcn
    if format == "json":
        return json_text(
            fcn,
            kind=design.kind,
            target=design.target.name,
            max_error=float(design.max_error),
            rms_error=float(design.rms_error),
            version=ntkengine.__version__,
        )
    if fcn.depth != 1 or fcn.parameterization != "ntk":
        raise InputError(
            f"the network has depth {fcn.depth} and the parameterization {fcn.parameterization!r}; as {format} only "
            'networks of depth 1 in the "ntk" parameterization are exported ("json" takes any)'
        )
    if format == "latex":
        # Which import SymPy, as the next ones do.
        from ntkengine.design._export_latex import escaped, network_latex

        texts = (_comment("%", _facts(design)), _described(design, escaped), network_latex(fcn))
        return "\n".join(texts) + "\n"
    from ntkengine.design._export_network import network_source, scales_source
    from ntkengine.design._export_phi import activation_source
    from ntkengine.design._printers import LANGUAGES, complete

    language = LANGUAGES[format]
    parts = [scales_source(fcn), activation_source(fcn.activation, language), network_source(fcn, format)]
    joined = parts[0] + "\n\n" + ("" if parts[1].startswith("#") else "\n") + "\n\n\n".join(parts[1:])
    return _comment("#", _facts(design)) + "\n\n" + complete(language, joined) + "\n"


def _one_line(text: str) -> str:
    """Text from elsewhere as it can stand in a comment: one line, printable, not too long."""
    line = " ".join("".join(ch if ch.isprintable() else " " for ch in text).split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 3] + "..."


def _comment(sign: str, lines: list[str]) -> str:
    return "\n".join(f"{sign} {line}".rstrip() for line in lines)


def _facts(design: Exportable) -> list[str]:
    fcn = design.fcn
    phi = fcn.activation
    formula = "" if phi.family.from_text else f": {phi.family.formula}"
    b1, b2 = fcn.b_std > 0, fcn.readout_b_std > 0
    names = ["W", *(["b"] if b1 else []), "V", *(["b'"] if b2 else [])]
    x, f = ("x/r", "f/r") if fcn.radial_lift else ("x", "f")
    bias, readout_bias = " + σ_b b" if b1 else "", " + ω_b b'" if b2 else ""
    rows = [
        ("target", _one_line(design.target.name)),
        ("kernel", f"{design.kind.upper()}; largest error {design.max_error:.3g}, rms {design.rms_error:.3g}, target at c = 1 "
                   f"{float(design.target(1.0)):.6g}"),
        ("activation", _one_line(f"{phi}{formula}")),
        ("network", f"z = σ_w/√d·W {x}{bias},  {f} = ω_w/√N·V φ(z){readout_bias}"),
        ("", f"d inputs, N hidden units; all entries of {', '.join(names)} are N(0, 1) parameters"),
        ("", f"σ_w = {fcn.w_std:.10g}, σ_b = {fcn.b_std:.10g}, ω_w = {fcn.readout_w_std:.10g}, ω_b = {fcn.readout_b_std:.10g}"),
    ]  # fmt: skip
    if fcn.radial_lift:
        rows.append(
            ("radial lift", "r = |x|/√d: the network sees the direction x/r; the zero vector gives 0")
        )
    return [
        f"A network with one hidden layer designed for a kernel. Written by ntkengine {ntkengine.__version__}.",
        *(f"{key:<11} {value}" for key, value in rows),
    ]


def _described(design: Exportable, escaped: Callable[[str], str]) -> str:
    """What the LaTeX formulas are, in a sentence."""
    return (
        rf"An activation $\varphi$ for the kernel \texttt{{{escaped(_one_line(design.target.name))}}} "
        f"as the {design.kind.upper()} of a network with one hidden layer:"
    )
