"""The figure of one network's kernels."""

from __future__ import annotations

import textwrap
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from ntkengine.plots._style import COLOURS, STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

__all__ = ["network_kernel"]


def network_kernel(angle: ArrayLike, nngp: ArrayLike, ntk: ArrayLike, title: str = "") -> Figure:
    """NNGP kernel and NTK of one network: K(c) against the cosine, and K(cos θ)/K(1) against the angle.

    The second panel shows both shapes where one kernel is much larger than the other.

    Parameters
    ----------
    angle : (n,) array
        θ in radians, increasing from 0 to π.
    nngp, ntk : (n,) arrays
        Both kernels at these angles.
    title : str
        Above both panels, each line wrapped; ``σ_w`` and ``σ_b`` are set as symbols.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkengine as nk
    >>> net, angle = nk.FCN("relu", depth=3, w_std=2**0.5), np.linspace(0, np.pi, 181)
    >>> nngp, ntk = (net.kernel(kind).at_angle(angle) for kind in ("nngp", "ntk"))
    >>> figure = nk.plots.network_kernel(angle, nngp, ntk, "3 hidden layers of relu, σ_w = √2")
    >>> [ax.get_xlabel() for ax in figure.axes]
    ['cosine c', 'angle θ (degrees)']
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    theta = np.asarray(angle, dtype=np.float64)
    curves = (("NTK", ntk, COLOURS["blue"], "-"), ("NNGP", nngp, COLOURS["orange"], "--"))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.1), layout="constrained")
        left, right = figure.subplots(1, 2)
        for label, values, colour, style in curves:
            k = np.asarray(values, dtype=np.float64)
            left.plot(np.cos(theta), k, color=colour, ls=style, label=label)
            right.plot(np.degrees(theta), k / (k[0] or 1.0), color=colour, ls=style)
        left.set(xlabel="cosine c", ylabel="K(c)", xticks=[-1, -0.5, 0, 0.5, 1])
        right.set(xlabel="angle θ (degrees)", ylabel="K(cos θ) / K(1)", xticks=[0, 45, 90, 135, 180])
        for ax in (left, right):
            ax.margins(x=0.02)
        left.legend(loc="upper left")
        if title:
            lines = [textwrap.wrap(line, 92) for line in title.splitlines()]
            short = [[*line[:1], f"{line[1]} …"] if len(line) > 2 else line for line in lines]
            text = "\n".join(chain.from_iterable(short)).replace("$", r"\$")
            for name, symbol in (("σ_w", r"$\sigma_w$"), ("σ_b", r"$\sigma_b$")):
                text = text.replace(name, symbol)
            figure.suptitle(text, fontsize=9.5)
    return figure
