"""The style of all figures, and how a figure becomes a file: whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ntkengine.errors import InputError, StoreError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "STYLE", "check_path", "figure_format", "save"]

COLOURS = {"blue": "#0072B2", "orange": "#D55E00", "green": "#009E73", "pink": "#CC79A7", "grey": "#5F5F5F"}

#: matplotlib's settings.
STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "svg.hashsalt": "ntkengine",
    "savefig.dpi": 160,
}


def figure_format(path: str | os.PathLike[str]) -> str:
    """The format that a figure's path asks for: ``"png"``, ``"svg"`` or ``"pdf"``; InputError for any other ending."""
    kind = Path(path).suffix.lower().lstrip(".")
    if kind not in ("png", "svg", "pdf"):
        raise InputError(f"a figure's path must end in .png, .svg or .pdf, not {str(path)!r}")
    return kind


def check_path(path: str | os.PathLike[str]) -> None:
    """InputError or StoreError if a figure could not be written there, as where there is no folder; leaves nothing."""
    figure_format(path)
    target = Path(path)
    if target.is_dir():
        raise InputError(f"the figure's path {str(path)!r} is a folder; name a file")
    if not target.parent.is_dir():
        raise StoreError(
            f"cannot write the figure {target}: there is no folder {str(target.parent)!r}; make it, or choose another path"
        )
    with _writing(target) as temporary:
        temporary.touch()
        temporary.unlink()


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[Path]:
    """A temporary path beside ``target``; on failure it is removed and the cause becomes a StoreError."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StoreError(
            f"cannot write the figure {target}: {error.strerror or error}; choose another path"
        ) from error


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure as PNG, SVG or PDF, by the path's ending; whole or not at all.

    Raises
    ------
    InputError
        If the ending is not one of these.
    StoreError
        If the file cannot be written.
    """
    import matplotlib as mpl

    kind = figure_format(path)
    target = Path(path)
    metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    with _writing(target) as temporary, mpl.rc_context(STYLE):
        figure.savefig(temporary, format=kind, metadata=metadata)
        os.replace(temporary, target)
    return target
