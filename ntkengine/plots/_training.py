"""Figures of training runs."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from ntkengine.plots._style import COLOURS, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ntkengine.store import Run

__all__ = ["shallowify"]

#: Colour and line style of the three ensembles of shallowify, in stored order: shallow, deep, mimic.
_ENSEMBLES = ((COLOURS["grey"], ":"), (COLOURS["blue"], "-"), (COLOURS["orange"], "--"))

#: Variables of training curves and their titles, in the order they are drawn.
_CURVES = {
    "train_loss": "training loss",
    "test_loss": "test loss",
    "train_accuracy": "training accuracy",
    "test_accuracy": "test accuracy",
}


def shallowify(run: Run) -> Figure:
    """Activation, kernels and training curves of a ``shallowify`` run, in seven panels (five for regression)."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
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
            below[0].legend(loc="upper right")
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
    ax.legend(loc="upper left")


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
