"""Figures from stored records and arrays: draws them, computes nothing but axis limits and means.

One style for all: colours of Okabe & Ito (told apart with any colour vision), a legend in every first panel, sizes legible
at a paper's column width. Every function returns a :class:`matplotlib.figure.Figure`; :func:`save` writes it.
"""

from __future__ import annotations

import contextlib
import os
import textwrap
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ntkengine.errors import InputError, StoreError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from ntkengine.store import Run

__all__ = [
    "COLOURS",
    "FIGURES",
    "check_path",
    "draw",
    "figure_format",
    "network_kernel",
    "save",
    "shallowify",
]

COLOURS = {"blue": "#0072B2", "orange": "#D55E00", "green": "#009E73", "pink": "#CC79A7", "grey": "#5F5F5F"}

_STYLE: Any = {
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

#: Colour and line style of the three ensembles of shallowify, in stored order: shallow, deep, mimic.
_ENSEMBLES = ((COLOURS["grey"], ":"), (COLOURS["blue"], "-"), (COLOURS["orange"], "--"))


#: Variables of training curves and their titles, in the order they are drawn.
_CURVES = {
    "train_loss": "training loss",
    "test_loss": "test loss",
    "train_accuracy": "training accuracy",
    "test_accuracy": "test accuracy",
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


def figure_format(path: str | os.PathLike[str]) -> str:
    """The format that a figure's path asks for: ``"png"``, ``"svg"`` or ``"pdf"``; InputError for any other ending."""
    kind = Path(path).suffix.lower().lstrip(".")
    if kind not in ("png", "svg", "pdf"):
        raise InputError(f"a figure's path must end in .png, .svg or .pdf, not {str(path)!r}")
    return kind


def check_path(path: str | os.PathLike[str]) -> None:
    """InputError or StoreError if a figure could not be written there; makes the folder, leaves nothing in it."""
    figure_format(path)
    target = Path(path)
    if target.is_dir():
        raise InputError(f"the figure's path {str(path)!r} is a folder; name a file")
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
    with _writing(target) as temporary, mpl.rc_context(_STYLE):
        figure.savefig(temporary, format=kind, metadata=metadata)
        os.replace(temporary, target)
    return target


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
    with mpl.rc_context(_STYLE):
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
        left.legend()
        if title:
            lines = [textwrap.wrap(line, 92) for line in title.splitlines()]
            short = [[*line[:1], f"{line[1]} …"] if len(line) > 2 else line for line in lines]
            text = "\n".join(chain.from_iterable(short)).replace("$", r"\$")
            for name, symbol in (("σ_w", r"$\sigma_w$"), ("σ_b", r"$\sigma_b$")):
                text = text.replace(name, symbol)
            figure.suptitle(text, fontsize=9.5)
    return figure


def shallowify(run: Run) -> Figure:
    """Activation, kernels and training curves of a ``shallowify`` run, in seven panels (five for regression)."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11.4, 6.0), layout="constrained")
        grid = figure.add_gridspec(2, 12)
        for column, panel in enumerate((_activation_panel, _kernel_panel, _kernel_error_panel)):
            panel(figure.add_subplot(grid[0, 4 * column : 4 * column + 4]), run)
        config, results = run.config, run.results
        shown = [name for name in _CURVES if name in run.variables]
        below = [
            figure.add_subplot(grid[1, 12 * i // len(shown) : 12 * (i + 1) // len(shown)])
            for i in range(len(shown))
        ]
        for ax, name in zip(below, shown):
            _curves_panel(ax, run, name, _CURVES[name])
        if below[0].lines:
            below[0].legend()
        task = results["task"]
        lift = "; mimic radially lifted" if results["radial_lift"] else ""
        several = "; bands ±1 std" if config["members"] > 1 else ""
        each = "1 network each" if config["members"] == 1 else f"{config['members']} networks each"
        state = "" if run.status == "complete" else f"  [{run.status}]"
        title = (
            f"Shallowification of {config['depth']} hidden layers of {config['activation']} on {task['name']}: width "
            f"{config['width']}, {each}, lr {config['lr']:g}{lift}{several}{state}"
        )
        figure.suptitle("\n".join(textwrap.wrap(title, 135)).replace("$", r"\$"), fontsize=10.5)
    return figure


def _activation_panel(ax: Axes, run: Run) -> None:
    z = run.variables["z"].values
    base = run.config["activation"]
    ax.plot(z, run.variables["base_activation"].values, color=COLOURS["grey"], ls=":", label=base)
    ax.plot(
        z,
        run.variables["designed_activation"].values,
        color=COLOURS["orange"],
        label=f"designed ({run.config['family']})",
    )
    ax.set(xlabel="preactivation z", ylabel="φ(z)", title="designed activation")
    ax.legend()


def _kernel_panel(ax: Axes, run: Run) -> None:
    v = run.variables
    c = np.cos(v["angle"].values)
    deep = (
        run.results["networks"].get("deep", {}).get("label")
        or f"{run.config['depth']}HL {run.config['activation']}"
    )
    ax.plot(
        c, v["shallow_kernel"].values, color=COLOURS["grey"], ls=":", label=f"1HL {run.config['activation']}"
    )
    ax.plot(c, v["target_kernel"].values, color=COLOURS["blue"], label=f"{deep} (target)")
    ax.plot(
        c, v["designed_kernel"].values, color=COLOURS["orange"], ls="--", label="designed, infinite width"
    )
    curves = v["empirical_kernel"].values
    ax.errorbar(
        np.cos(v["check_angle"].values),
        curves.mean(axis=0),
        yerr=curves.std(axis=0, ddof=1),
        fmt="o",
        ms=2.5,
        lw=0.9,
        color=COLOURS["green"],
        label=f"designed, width {run.config['width']} (±1 std)",
    )
    ax.set(xlabel="cosine c", ylabel="K(c)", title="neural tangent kernels", xticks=[-1, -0.5, 0, 0.5, 1])
    ax.legend()


def _kernel_error_panel(ax: Axes, run: Run) -> None:
    v = run.variables
    scale = float(np.abs(v["target_kernel"].values).max())
    ax.axhline(0.0, color=COLOURS["blue"], lw=1.0)
    theta = np.degrees(v["angle"].values)
    ax.plot(
        theta,
        (v["designed_kernel"].values - v["target_kernel"].values) / scale * 100,
        color=COLOURS["orange"],
        ls="--",
        label="designed − target",
    )
    curves = v["empirical_kernel"].values
    at = v["check_angle"].values
    target = np.interp(at, v["angle"].values, v["target_kernel"].values)
    ax.errorbar(
        np.degrees(at),
        (curves.mean(axis=0) - target) / scale * 100,
        yerr=curves.std(axis=0, ddof=1) / scale * 100,
        fmt="o",
        ms=2.5,
        lw=0.9,
        color=COLOURS["green"],
        label=f"width {run.config['width']} − target",
    )
    ax.set(
        xlabel="angle (degrees)",
        ylabel="error, % of K(1)",
        title="kernel error",
        xticks=[0, 45, 90, 135, 180],
    )
    ax.legend(loc="lower right")


def _curves_panel(ax: Axes, run: Run, name: str, title: str) -> None:
    epochs = run.variables["epoch"].values
    values = run.variables[name].values
    for i, (colour, style) in enumerate(_ENSEMBLES):
        label = str(run.variables["network"].values[i])
        known = np.isfinite(values[i]).all(axis=0)
        if not known.any():
            continue
        mean, x = values[i][:, known].mean(axis=0), epochs[known]
        ax.plot(x, mean, color=colour, ls=style, label=label)
        if values.shape[1] > 1:
            std = values[i][:, known].std(axis=0, ddof=1)
            low = np.maximum(mean - std, 1e-2 * mean)  # stays on a logarithmic axis
            ax.fill_between(x, low, mean + std, color=colour, alpha=0.18, lw=0)
    ax.set_xscale("symlog", linthresh=1)
    ax.set_xlim(0, max(int(epochs[-1]), 1))
    if not ax.lines:
        ax.text(0.5, 0.5, "not trained", ha="center", va="center", transform=ax.transAxes)
    elif name.endswith("loss"):
        from matplotlib.ticker import LogLocator

        ax.set_yscale("log")
        low, high = ax.get_ylim()
        few = high < 30 * low  # little more than a decade: name some values between its ends
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("")
    ax.set(xlabel="epoch", title=title)


#: Figure functions by kind of run.
FIGURES: dict[str, Callable[[Run], Figure]] = {"shallowify": shallowify}
