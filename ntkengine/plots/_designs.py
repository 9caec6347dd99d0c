"""Figures of designs: an activation, its kernel beside the target, and how far they are apart."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ntkengine.plots._style import COLOURS, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ntkengine.store import Run

__all__ = ["design", "seven_kernels", "signs"]

#: Errors below this part of the largest value are drawn as this.
_LEAST = 1e-17
#: Up to this degree coefficients are stems on a linear axis, beyond it points on a logarithmic one.
_STEMS = 32
#: Characters of a title's line at the usual size, and most of them, in a smaller one.
_FULL, _LONGEST = 95, 112


def design(run: Run) -> Figure:
    """Activation, kernels, errors and coefficients of a ``design`` run, in four panels.

    Examples
    --------
    >>> from ntkengine import plots
    >>> from ntkengine.experiments.design import Plan, Target, run
    >>> figure = plots.design(run(Plan(Target("sinh(2*c)"))).record)
    >>> [ax.get_title() for ax in figure.axes]
    ['activation', 'kernels at infinite width', 'error', 'power series']
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 5.6), layout="constrained")
        panels = (_activation_panel, _kernel_panel, _error_panel, _coefficient_panel)
        for ax, panel in zip(figure.subplots(2, 2).flat, panels):
            panel(ax, run)
        title = _title(run)
        longest = max(len(line.replace("$", "")) for line in title.replace(r"\sigma", "σ").splitlines())
        figure.suptitle(title, fontsize=9.5 * min(1.0, _FULL / longest))
    return figure


def _title(run: Run) -> str:
    config, results = run.config, run.results["design"]
    if config["family"] is not None:
        how = f"fit of {config['family']}" + ("" if config["size"] is None else f" of size {config['size']}")
    elif "limit" in results:
        how = "the whole Hermite series"
    else:
        how = f"Hermite series to degree {results['degree']}, {results['signs']} signs"
    biases = f", σ_b = {config['b_std']:g}" if config["b_std"] else ""
    lift = "; radial lift" if config["radial_lift"] else ""
    network = f"{config['kind'].upper()} of one hidden layer with σ_w = {config['w_std']:g}{biases}{lift}"
    target = results["target"]
    room = max(_LONGEST - len(f", as the {network}"), 20)
    target = target if len(target) <= room else target[: room - 1] + "…"
    lines = (f"{target}, as the {network}", textwrap.shorten(f"φ: {how}", _LONGEST, placeholder=" …"))
    text = "\n".join(lines).replace("$", r"\$")
    return text.replace("σ_w", r"$\sigma_w$").replace("σ_b", r"$\sigma_b$")


def _activation_panel(ax: Axes, run: Run) -> None:
    v = run.variables
    ax.plot(v["z"].values, v["activation"].values, color=COLOURS["orange"])
    ax.set(xlabel="preactivation z", ylabel="φ(z)", title="activation")
    ax.margins(x=0.02)


def _angles(ax: Axes) -> None:
    ax.set(xlabel="angle θ (degrees)", xticks=[0, 45, 90, 135, 180])
    ax.margins(x=0.02)


def _kernel_panel(ax: Axes, run: Run) -> None:
    v, check = run.variables, run.results["check"]
    theta = np.degrees(v["angle"].values)
    ax.plot(theta, v["target_kernel"].values, color=COLOURS["blue"], label="target")
    ax.plot(theta, v["designed_kernel"].values, color=COLOURS["orange"], ls="--", label="design")
    if check is not None:
        curves = v["empirical_kernel"].values
        label = f"{check['members']} × width {check['width']}\n(± standard error)"
        ax.errorbar(
            np.degrees(v["check_angle"].values),
            curves.mean(axis=0),
            yerr=curves.std(axis=0, ddof=1) / np.sqrt(len(curves)),
            fmt="o", ms=2.5, lw=0.9, color=COLOURS["green"], label=label,
        )  # fmt: skip
    title = "kernels at infinite width" if check is None else "kernels at infinite and finite width"
    ax.set(ylabel="K(cos θ)", title=title)
    _angles(ax)
    ax.legend(loc="upper right")


def _error_panel(ax: Axes, run: Run) -> None:
    v = run.variables
    scale = float(np.abs(v["target_kernel"].values).max()) or 1.0

    def part(values: Any) -> Any:
        return np.maximum(np.abs(values) / scale, _LEAST)

    theta = np.degrees(v["angle"].values)
    error = part(v["designed_kernel"].values - v["target_kernel"].values)
    ax.plot(theta, error, color=COLOURS["orange"], lw=1.2, label="design")
    shown = [np.quantile(error, 0.05)]  # where an error changes its sign is of no interest
    if run.results["check"] is not None:
        at, curves = np.degrees(v["check_angle"].values), v["empirical_kernel"].values
        gap = curves.mean(axis=0) - v["check_target"].values
        ax.plot(at, part(gap), "o", ms=2.5, color=COLOURS["green"], label="mean of networks")
        shown.append(np.quantile(part(gap), 0.05))
        spread = curves.std(axis=0, ddof=1) / np.sqrt(len(curves))
        ax.plot(at, part(spread), color=COLOURS["green"], lw=0.9, ls=":", label="standard error")
        ax.legend(loc="upper center")
    ax.set(yscale="log", ylabel="|K − target| / max |target|", title="error")
    low, high = 0.3 * max(min(shown), _LEAST), ax.get_ylim()[1]
    ax.set_ylim(
        low, high if run.results["check"] is None else high * (high / low) ** 0.4
    )  # room for the legend
    _angles(ax)


def _coefficient_panel(ax: Axes, run: Run) -> None:
    from matplotlib.ticker import MaxNLocator

    v = run.variables
    k = v["degree"].values
    wanted = v["target_coefficient"].values if "target_coefficient" in v else np.zeros(k.size)
    series = [("design", v["design_coefficient"].values, "orange", "x", 4.0)]
    if "target_coefficient" in v:
        series.insert(0, ("target", wanted, "blue", "o", 4.5))
    few = k.size <= _STEMS + 1
    for label, b, colour, marker, size in series:
        style: Any = {"color": COLOURS[colour], "mfc": "none", "ms": size if few else 2.0, "ls": "none"}
        plus, minus = b > 0, b < 0
        if few and label == series[0][0]:
            ax.vlines(k[plus], 0, b[plus], color=COLOURS[colour], lw=0.8)
        ax.plot(k[plus], b[plus], marker, label=label, **style)
        if minus.any():
            ax.plot(k[minus], -b[minus], "v", label=f"{label}, negative", **style)
    every = np.concatenate([np.abs(b) for _, b, *_ in series])
    shown = every[every > 0]
    if few:
        last = max(int(k[(v["design_coefficient"].values != 0) | (wanted != 0)].max(initial=0)), 4)
        ax.set_xlim(-0.6, last + 0.6)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if shown.size:
        low, high = max(shown.min(), 1e-17 * shown.max()), shown.max()
        seen = np.flatnonzero(np.max([np.abs(b) for _, b, *_ in series], axis=0) >= low)
        first, last = int(k[seen[0]]), int(k[seen[-1]])
    legend: Literal["upper right", "lower center"] = "upper right"
    if not few and shown.size and first > 0.25 * last:  # a narrow kernel: its terms lie far out
        legend = "lower center"
        pad = max(0.05 * (last - first), 2)
        ax.set_xlim(first - pad, last + pad)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    elif not few:
        ax.set_xscale("symlog", linthresh=1)
        ax.set_xlim(-0.1, 1.1 * k[-1])
        ax.xaxis.set_major_formatter("{x:g}")
    if shown.size:
        ax.set(yscale="log", ylim=(min(0.4 * low, 0.1 * high), 4 * high))
        ax.legend(loc=legend)
    variable = "ρ" if run.config["b_std"] else "c"
    ax.set(xlabel="degree k", ylabel=f"$b_k$,  K = Σ $b_k$ {variable}$^k$", title="power series")


def seven_kernels(run: Run) -> Figure:
    """Seven targets with the kernels of their networks, and the seven activations: a ``reproduce-kernels`` run in 8 panels.

    After figure 1 of Simon, Anand & DeWeese 2022.

    Examples
    --------
    >>> from ntkengine import plots
    >>> from ntkengine.experiments.kernels import Plan, run
    >>> figure = plots.seven_kernels(run(Plan(width=64, members=2)))
    >>> [ax.get_title() for ax in figure.axes][-2:]
    ['G  cosh 2c', 'H  activations']
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    v = run.variables
    c, at = np.cos(v["angle"].values), np.cos(v["check_angle"].values)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11.4, 5.4), layout="constrained")
        *panels, last = figure.subplots(2, 4).flat
        for i, ax in enumerate(panels):
            curves = v["empirical_kernel"].values[i]
            ax.plot(c, v["target_kernel"].values[i], color=COLOURS["grey"], ls=":", lw=2.2, label="target")
            ax.plot(
                c, v["designed_kernel"].values[i], color=COLOURS["orange"], lw=1.3, label="polynomial, theory"
            )
            ax.errorbar(
                at,
                curves.mean(axis=0),
                yerr=curves.std(axis=0, ddof=1) / np.sqrt(len(curves)),
                fmt="o", ms=2.5, lw=0.9, color=COLOURS["green"], label="networks (± s.e.)",
            )  # fmt: skip
            ax.set(title=f"{v['target'].values[i]}  {v['title'].values[i]}", xticks=[-1, -0.5, 0, 0.5, 1])
            ax.set_xlabel("cosine c" if i > 3 else "")
            ax.set_ylabel("NTK" if i % 4 == 0 else "")
        panels[0].legend(loc="upper left")
        dashes = ("-", "--", "-.", ":")
        for i, letter in enumerate(v["target"].values):
            colour, style = list(COLOURS.values())[i % 5], dashes[i // 2]
            last.plot(
                v["z"].values,
                v["activation"].values[i],
                color=colour,
                ls=style,
                lw=1.3,
                label=rf"$\varphi_{letter}$",
            )
        low, high = last.get_ylim()
        last.set(title="H  activations", xlabel="preactivation z", ylim=(low - 0.4 * (high - low), high))
        last.legend(ncol=4, loc="lower center", handlelength=1.8, columnspacing=1.0)
        config = run.config
        figure.suptitle(
            "Seven kernels as the NTK of one hidden layer whose activation is a polynomial of degree 5: "
            f"{config['members']} networks of width {config['width']}",
            fontsize=10.5,
        )
    return figure


#: Rules for signs: colour and dashes.
_RULES = {
    "smooth": ("blue", "-"),
    "paper": ("green", "--"),
    "plus": ("grey", ":"),
    "concentrated": ("orange", "-."),
}


def signs(run: Run) -> Figure:
    """How far networks are from the kernel by rule for the signs, predicted and found, and φ: a ``signs`` run in 6 panels.

    Examples
    --------
    >>> from ntkengine import plots
    >>> from ntkengine.experiments.signs import Plan, run
    >>> figure = plots.signs(run(Plan(width=64, members=4)))
    >>> [ax.get_title() for ax in figure.axes][:3]
    ['4HL ReLU NTK, degree 60', '4HL erf NTK, degree 30', 'laplace, degree 20']
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    v, config = run.variables, run.config
    rules, kinds = v["rule"].values.tolist(), v["kind"].values.tolist()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 5.2), layout="constrained")
        above, below = figure.subplots(2, v["target"].values.size)
        for i, (ax, low) in enumerate(zip(above, below)):
            calm = [k for k, rule in enumerate(rules) if rule != "plus"]
            top = 1.15 * float((v["measured"].values + v["standard_error"].values)[i][:, calm].max())
            for j, kind in enumerate(kinds):
                x = np.arange(len(rules)) + j * (len(rules) + 1.0)
                found, error = v["measured"].values[i, j], v["standard_error"].values[i, j]
                colours = [COLOURS[_RULES[rule][0]] for rule in rules]
                ax.bar(x, v["predicted"].values[i, j], 0.8, color=colours, alpha=0.45)
                ax.errorbar(x - 0.15, found, error, fmt="o", ms=3, lw=1, color="black")
                ax.plot(x + 0.2, v["median"].values[i, j], "D", ms=3, mfc="white", mec="black", mew=0.8)
                where = {"transform": ax.get_xaxis_transform(), "ha": "center", "va": "bottom"}
                ax.text(x.mean(), 1.02, kind.upper(), fontsize=7, **where)
                predicted = v["predicted"].values[i, j]
                for far in np.flatnonzero(predicted > top):  # what is off the scale, in figures
                    note = f"{predicted[far]:.0f}; found {found[far]:.0f}"
                    ax.text(x[far], 0.5 * top, note, rotation=90, ha="center", va="center", fontsize=6.5)
            ax.set(xticks=[], xlim=(-0.8, len(kinds) * (len(rules) + 1.0) - 1.2), ylim=(0, top))
            ax.set_title(v["target"].values[i], pad=14)
            ax.grid(axis="x", visible=False)
            for k, rule in enumerate(rules):
                colour, dashes = _RULES[rule]
                phi = v["activation"].values[i, 0, k]
                low.plot(v["z"].values, phi, color=COLOURS[colour], ls=dashes, lw=1.3, label=rule)
            tame = np.abs(v["activation"].values[i, 0, rules.index("paper")]).max()
            low.set(xlabel="preactivation z", ylim=(-2.2 * tame, 2.2 * tame))
            low.margins(x=0.02)
        above[0].set_ylabel("N · mean square distance / K²")
        below[0].set_ylabel("φ(z), for the NTK")
        key: list[Any] = []
        for rule in rules:
            key.append(
                mpl.patches.Patch(color=COLOURS[_RULES[rule][0]], alpha=0.45, label=f"{rule}, predicted")
            )
        dots: Any = {"color": "black", "ls": "none", "ms": 3}
        key += [
            mpl.lines.Line2D([], [], marker="o", label="networks, mean ± s.e.", **dots),
            mpl.lines.Line2D([], [], marker="D", mfc="white", mew=0.8, label="networks, median", **dots),
        ]
        figure.legend(handles=key, loc="outside lower center", ncol=3)
        figure.suptitle(
            f"Signs of Hermite coefficients: {config['members']} networks of width {config['width']}, the same for every rule",
            fontsize=9.5,
        )
    return figure
