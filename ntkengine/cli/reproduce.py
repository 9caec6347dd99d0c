"""``ntkengine reproduce``: published results again, from scratch, beside the published numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

    from ntkengine.store import Run

__all__ = ["reproduce"]

_SETTINGS = {"show_default": True, "max_content_width": 100}


@click.group()
def reproduce() -> None:
    """Compute results of Simon, Anand & DeWeese (ICML 2022) again, beside what was published."""


@reproduce.command(context_settings=_SETTINGS)
@click.option("--width", type=click.IntRange(min=1), default=2**14, help="Hidden units of the networks.")
@click.option(
    "--members", type=click.IntRange(min=2), default=16, help="Networks for each of the seven kernels."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of the networks.")
@click.option(
    "--store",
    "store_path",
    type=click.Path(),
    default="runs",
    metavar="FOLDER",
    help="Where the run (HDF5) and its figure go.",
)
@click.option(
    "--figure", type=click.Path(), metavar="FILE", help="Also write the figure here (.png, .svg or .pdf)."
)
@click.option("--quick", is_flag=True, help="Width 1024 and 4 networks; what is given stays.")
@click.pass_context
def kernels(
    context: click.Context, quick: bool, store_path: str, figure: str | None, **settings: Any
) -> None:
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
    from ntkengine import plots
    from ntkengine.cli.console import Bars, out
    from ntkengine.experiments.kernels import QUICK, Plan, run
    from ntkengine.store import Store

    if quick:
        source = context.get_parameter_source
        given = {name for name in settings if source(name) is not click.core.ParameterSource.DEFAULT}
        settings.update({name: value for name, value in QUICK.items() if name not in given})
    store = Store(store_path)
    if figure is not None:
        plots.figure_format(figure)

    def ready() -> None:
        store.check_writable()
        if figure is not None:
            plots.check_path(figure)

    bars = Bars()
    record = run(Plan(**settings), bars, ready)
    with bars.stage("drawing"):
        drawing = plots.draw(record)
    path = store.write(record)
    images = [plots.save(drawing, path.with_suffix(".png"))]
    images += [plots.save(drawing, figure)] if figure is not None else []
    console = out()
    for part in (_coefficients(record), _networks(record)):
        console.print(part)
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
        + ("; so few networks decide little" if config["members"] < 8 else ""),
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
            "yes" if panel["verified"] else "NO",
        )
    return table
