"""``ntkengine reproduce``: published results again, from scratch, beside the published numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

    from ntkengine.store import Run

__all__ = ["reproduce"]

#: Of fewer networks than this a mean that is off decides nothing.
_FEW = 8
_SETTINGS = {"show_default": True, "max_content_width": 100}


@click.group()
def reproduce() -> None:
    """Compute results of Simon, Anand & DeWeese (ICML 2022) again, beside what was published."""


def _settings(width: int, members: int, what: str, quick: str) -> Callable[[Any], Any]:
    """The options of a command that compares networks with theory."""
    options = (
        click.option("--width", type=click.IntRange(min=1), default=width, help="Hidden units of the networks."),
        click.option("--members", type=click.IntRange(min=2), default=members, help=f"Networks for each {what}."),
        click.option("--seed", type=click.IntRange(min=0), default=0, help="Of the networks."),
        click.option(
            "--store", "store_path", type=click.Path(), default="runs", metavar="FOLDER",
            help="Where the run (HDF5) and its figure go.",
        ),
        click.option("--figure", type=click.Path(), metavar="FILE", help="Also write the figure here (.png, .svg or .pdf)."),
        click.option("--quick", is_flag=True, help=quick),
    )  # fmt: skip
    return lambda command: reduce(lambda made, option: option(made), reversed(options), command)


@reproduce.command(context_settings=_SETTINGS)
@_settings(2**14, 16, "of the seven kernels", "Width 1024 and 4 networks; what is given stays.")
@click.pass_context
def kernels(context: click.Context, **settings: Any) -> None:
    """Figure 1: seven kernels as NTKs of one hidden layer.

    The NNGP kernel and the NTK of four ReLU layers, the NTK of four erf layers, c³, c⁴ + c, sinh 2c and cosh 2c are made by
    activations that are polynomials of degree 5. Prints their Hermite coefficients beside the published ones, by five ways of
    approximating a kernel by a polynomial, and compares the empirical NTK of wide networks with theory. Writes one HDF5 run
    and one figure.

    \b
    Examples:
      ntkengine reproduce kernels --quick
      ntkengine reproduce kernels --figure fig1.pdf
    """
    from ntkengine.experiments import kernels as experiment

    _carry_out(context, experiment, settings, (_coefficients, _networks))


@reproduce.command(context_settings=_SETTINGS)
@_settings(512, 400, "kernel and rule", "50 networks; what is given stays.")
@click.pass_context
def signs(context: click.Context, **settings: Any) -> None:
    """What the signs of Hermite coefficients do at finite width.

    Three kernels, as NTK and as NNGP kernel of one hidden layer, with the signs of four rules: how far the kernels of networks
    are from their limit, as theory predicts and as networks have it. Writes one HDF5 run and one figure.

    \b
    Examples:
      ntkengine reproduce signs --quick
      ntkengine reproduce signs --width 4096 --figure signs.pdf
    """
    from ntkengine.experiments import signs as experiment

    _carry_out(context, experiment, settings, (_distances, _falls))


def _carry_out(
    context: click.Context,
    experiment: Any,
    settings: dict[str, Any],
    tables: Sequence[Callable[[Run], Table]],
) -> None:
    """Run an experiment's plan; store the run and its figure, and print its tables."""
    from ntkengine import plots
    from ntkengine.cli.console import Bars, out
    from ntkengine.store import Store

    store_path, figure = settings.pop("store_path"), settings.pop("figure")
    if settings.pop("quick"):
        source = context.get_parameter_source
        given = {name for name in settings if source(name) is not click.core.ParameterSource.DEFAULT}
        settings.update({name: value for name, value in experiment.QUICK.items() if name not in given})
    store = Store(store_path)
    if figure is not None:
        plots.figure_format(figure)

    def ready() -> None:
        store.check_writable()
        if figure is not None:
            plots.check_path(figure)

    bars = Bars()
    record = experiment.run(experiment.Plan(**settings), bars, ready)
    with bars.stage("drawing"):
        drawing = plots.draw(record)
    path = store.write(record)
    images = [plots.save(drawing, path.with_suffix(".png"))]
    images += [plots.save(drawing, figure)] if figure is not None else []
    console = out()
    for table in tables:
        console.print(table(record))
    console.print(f"run     {path}", soft_wrap=True)
    for image in images:
        console.print(f"figure  {image}", soft_wrap=True)


def _coefficients(record: Run) -> Table:
    """Published and computed Hermite coefficients; procedures that agree to three decimals share a line."""
    import numpy as np
    from rich.table import Table

    from ntkengine.experiments.kernels import verdict

    v = record.variables
    table = Table(
        title="Hermite coefficients of φ",
        caption=f"used: {record.results['used']} (a tenth of the weight at each end); difference: the largest, of all six",
    )
    table.add_column("", no_wrap=True)
    table.add_column("procedure", overflow="fold")
    for k in v["degree"].values:
        table.add_column(f"a_{k}", justify="right", no_wrap=True)
    table.add_column("difference", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    names = v["procedure"].values.tolist()
    for i, (letter, title) in enumerate(zip(v["target"].values, v["title"].values)):
        published = v["published_coefficient"].values[i]
        table.add_row(letter, f"{title}: published", *map(_number, published), "", "")
        lines: dict[tuple[str, ...], list[int]] = {}
        for p in range(len(names)):
            cells = tuple(map(_number, v["hermite_coefficient"].values[p, i]))
            lines.setdefault(cells, []).append(p)
        for cells, group in lines.items():
            who = "all procedures" if len(group) == len(names) else "; ".join(names[p] for p in group)
            gap = float(np.abs(v["hermite_coefficient"].values[group[-1], i] - published).max())
            table.add_row("", f"  {who}", *cells, f"{gap:.4f}", verdict(gap))
        table.add_section()
    return table


def _number(value: float) -> str:
    return "0" if abs(value) < 5e-4 else f"{value:.3f}"


def _networks(record: Run) -> Table:
    from rich.table import Table

    config = record.config
    table = Table(
        title=f"NTK of {config['members']} networks of width {config['width']} against theory, seed {config['seed']}",
        caption="polynomial: its largest distance from the target; scatter: of one network (rms); z-score: of the mean over "
        f"angles; verified: at 95 % of the angles within {record.results['bound']:.2f} standard errors of theory, which are "
        f"for {config['members']} networks what 3 are for many"
        + (f"; –: undecided, {config['members']} networks are too few" if config["members"] < _FEW else ""),
    )
    for heading in ("", "kernel", "K(1)", "polynomial", "scatter", "z-score", "within 3 s.e.", "verified"):
        table.add_column(
            heading, justify="left" if heading in ("", "kernel", "verified") else "right", no_wrap=True
        )
    for panel in record.results["panels"]:
        scale = abs(panel["target_at_1"]) or 1.0
        table.add_row(
            panel["letter"],
            panel["title"],
            f"{panel['target_at_1']:.5g}",
            "exact" if panel["distance"] < 1e-10 * scale else f"{panel['distance'] / scale:.2%}",
            f"{panel['scatter'] / scale:.1%}",
            f"{panel['z_score']:+.2f}",
            f"{panel['within']:.0%} of angles",
            "yes" if panel["verified"] else "–" if config["members"] < _FEW else "NO",
        )
    return table


def _distances(record: Run) -> Table:
    """N times the square distance from the kernel, over K², by rule: predicted, and of the networks."""
    from rich.table import Table

    v, config = record.variables, record.config
    table = Table(
        title=f"square distance of a network's kernel from K: {config['members']} networks of width {config['width']}, "
        f"seed {config['seed']}",
        caption="times the width, over K²: predicted; mean of the networks ± standard error; their median",
    )
    for heading in ("kernel", "", "signs", "predicted", "networks", "median"):
        table.add_column(
            heading, justify="left" if heading in ("kernel", "", "signs") else "right", no_wrap=True
        )
    for i, title in enumerate(v["target"].values):
        for j, kind in enumerate(v["kind"].values):
            for k, rule in enumerate(v["rule"].values):
                at = i, j, k
                table.add_row(
                    title if j + k == 0 else "",
                    kind.upper() if k == 0 else "",
                    rule,
                    f"{v['predicted'].values[at]:.4g}",
                    f"{v['measured'].values[at]:.4g} ± {v['standard_error'].values[at]:.2g}",
                    f"{v['median'].values[at]:.4g}",
                )
        table.add_section()
    return table


def _falls(record: Run) -> Table:
    from rich.table import Table

    table = Table(
        title="square distance with concentrated signs, as a part of that with the paper's",
        caption="the same networks for both",
    )
    for heading in ("kernel", "", "predicted", "networks", "median"):
        table.add_column(heading, justify="left" if heading in ("kernel", "") else "right", no_wrap=True)
    for row in record.results["concentrated_over_paper"]:
        table.add_row(
            row["target"],
            row["kind"].upper(),
            f"{row['predicted']:.3f}",
            f"{row['measured']:.3f} ± {row['standard_error']:.3f}",
            f"{row['median']:.3f}",
        )
    return table
