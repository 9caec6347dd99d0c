"""Figures from stored records and arrays: draws them, computes nothing but axis limits and means.

One style for all: colours of Okabe & Ito (told apart with any colour vision), a legend in every first panel, sizes legible
at a paper's column width. Every function returns a :class:`matplotlib.figure.Figure`; :func:`save` writes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ntkengine.errors import InputError
from ntkengine.plots._designs import design, seven_kernels, signs
from ntkengine.plots._network import network_kernel
from ntkengine.plots._style import COLOURS, check_path, figure_format, save
from ntkengine.plots._training import shallowify

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ntkengine.store import Run

__all__ = [
    "COLOURS",
    "FIGURES",
    "check_path",
    "design",
    "draw",
    "figure_format",
    "network_kernel",
    "save",
    "seven_kernels",
    "shallowify",
    "signs",
]

#: Figure functions by kind of run.
FIGURES: dict[str, Callable[[Run], Figure]] = {
    "design": design,
    "reproduce-kernels": seven_kernels,
    "shallowify": shallowify,
    "signs": signs,
}


def draw(run: Run) -> Figure:
    """The figure of a run, by its kind.

    Raises
    ------
    InputError
        If there is no figure for that kind.
    """
    if run.kind not in FIGURES:
        raise InputError(
            f"no figure is drawn for runs of kind {run.kind!r}; known: {', '.join(sorted(FIGURES))}"
        )
    return FIGURES[run.kind](run)
