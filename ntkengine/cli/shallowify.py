"""``ntkengine shallowify``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

    from ntkengine.store import Run

__all__ = ["shallowify"]

_POSITIVE = click.IntRange(min=1)


@click.command(context_settings={"show_default": True, "max_content_width": 100})
@click.option(
    "--depth", type=_POSITIVE, default=4, help="Hidden layers of the deep network whose kernel is the target."
)
@click.option("--activation", default="relu", metavar="NAME", help="Activation of the deep network.")
@click.option(
    "--w-std", type=float, default=2**0.5, show_default="√2", help="Weight std σ_w of the deep network (> 0)."
)
@click.option("--b-std", type=float, default=0.1, help="Bias std σ_b of the deep network (0: no biases).")
@click.option(
    "--family",
    default="exact",
    metavar="NAME",
    help="exact: the whole series of the theorem, nothing to fit; or an activation fitted to the kernel, any registered one "
    "with parameters (relu_cos is the published one).",
)
@click.option(
    "--starts", type=_POSITIVE, default=8, help="Starting points of the fit; the best result is kept."
)
@click.option(
    "--task", default="balance-scale", metavar="NAME", help="What to train on; see `ntkengine data list`."
)
@click.option(
    "--task-option",
    "task_options",
    multiple=True,
    metavar="NAME=N",
    help="A setting of the task itself, such as bits=8 for parity; may be repeated.",
)
@click.option(
    "--csv",
    type=click.Path(),
    default=None,
    metavar="FILE",
    help="Train on a CSV file instead; header, separator and classes are detected.",
)
@click.option(
    "--target",
    default=None,
    metavar="COLUMN",
    help="Target column of the CSV file: a name, or a number from 0 [default: the last].",
)
@click.option(
    "--train-fraction",
    type=float,
    default=0.5,
    help="Share of the rows to train on; the rest is the test set.",
)
@click.option("--width", type=_POSITIVE, default=512, help="Hidden units a layer, in all three networks.")
@click.option("--members", type=_POSITIVE, default=3, help="Networks an ensemble, each with its own seed.")
@click.option("--epochs", type=click.IntRange(min=0), default=400, help="Passes over the training rows.")
@click.option("--batch-size", type=_POSITIVE, default=None, help="Rows a step [default: all of them].")
@click.option(
    "--lr",
    type=float,
    default=0.1,
    help="Learning rate, for the mean over samples of the squared error (no ½).",
)
@click.option(
    "--lift",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    help="Radial lift f(x) = r g(x/r) of the mimic; auto: where the inputs' norms vary.",
)
@click.option(
    "--check-members",
    type=click.IntRange(min=2),
    default=16,
    help="Networks for the check of the kernel at finite width.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    help="Of everything random: split, fit, weights, batches.",
)
@click.option(
    "--store",
    "store_path",
    type=click.Path(),
    default="runs",
    metavar="FOLDER",
    help="Where the run (HDF5) and its figure go.",
)
@click.option(
    "--figure",
    type=click.Path(),
    default=None,
    metavar="FILE",
    help="Also write the figure here (.png, .svg or .pdf).",
)
@click.option("--device", type=click.Choice(["auto", "cpu"]), default="auto", help="Where to train.")
@click.option(
    "--threads", type=_POSITIVE, default=None, help="CPU threads [default: all]. Results do not depend on it."
)
@click.option(
    "--quick",
    is_flag=True,
    help="A first look, in seconds: width 128, 2 members, 64 epochs, 4 networks for the check; what is given stays.",
)
@click.pass_context
def shallowify(
    context: click.Context, quick: bool, store_path: str, figure: str | None, **settings: Any
) -> None:
    """Give a one-hidden-layer network the kernel of a deep one, and train both.

    Computes the NTK of a deep network, fits an activation function so that ONE hidden layer has that kernel, checks it
    on networks of finite width, trains three ensembles on the same task (one hidden layer, the deep network, the mimic)
    and says how closely the mimic tracks the deep network. Writes one HDF5 run and one figure. Ctrl-C ends the training
    and keeps the ensembles that are finished.

    \b
    Examples:
      ntkengine shallowify
      ntkengine shallowify --task wine-quality-red --width 4096 --epochs 1024
      ntkengine shallowify --csv mydata.csv --target label --family relu_cos
    """
    from ntkengine import plots
    from ntkengine.cli.console import Bars, out
    from ntkengine.experiments.shallowify import QUICK, Plan, run
    from ntkengine.store import Store

    given = {
        name
        for name in settings
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
    }
    settings["task_options"] = dict(map(_task_option, settings["task_options"]))
    if settings["csv"] is not None and settings["task_options"]:
        raise click.UsageError("--task-option belongs to --task; a CSV file has none")
    if settings["csv"] is None and settings["target"] is not None:
        raise click.UsageError("--target names a column of a CSV file: give --csv too")
    if settings["csv"] is not None and "task" in given:
        raise click.UsageError("--csv and --task both say what to train on: give one of them")
    if quick:
        settings.update({name: value for name, value in QUICK.items() if name not in given})
    store = Store(store_path)

    def ready() -> None:
        store.check_writable()
        if figure is not None:
            plots.check_path(figure)

    if figure is not None:
        plots.figure_format(figure)
    bars = Bars()
    record = run(Plan(**settings), bars, ready)
    path = store.write(record)
    console = out()
    for part in _report(record):
        console.print(part)
    console.print(f"run     {path}", soft_wrap=True)
    try:
        with bars.stage("drawing"):
            drawing = plots.draw(record)
            images = [plots.save(drawing, path.with_suffix(".png"))]
            images += [plots.save(drawing, figure)] if figure is not None else []
    except KeyboardInterrupt:
        click.echo("Interrupted while drawing; the run is kept.", err=True)
        raise SystemExit(130) from None
    for image in images:
        console.print(f"figure  {image}", soft_wrap=True)
    if record.status != "complete":
        click.echo("Interrupted: what was finished is kept.", err=True)
        raise SystemExit(130)


def _task_option(text: str) -> tuple[str, int]:
    name, sign, value = text.partition("=")
    try:
        if name and sign:
            return name, int(value)
    except ValueError:
        pass
    raise click.UsageError(f"--task-option must look like bits=8, not {text!r}")


def _report(record: Run) -> list[Table]:
    """The run in words and tables, for the terminal."""
    from rich.table import Table

    results, config = record.results, record.config
    design, check, task = results["design"], results["check"], results["task"]
    lift = "no radial lift"
    if results["radial_lift"]:
        lift = "mimic with the radial lift f(x) = r g(x/r), r = |x|/√d"
        lift = ("the inputs' norms vary: " if task["norms_vary"] else "") + lift
    chance = "" if task["chance_accuracy"] is None else f", largest class {task['chance_accuracy']:.1%}"
    seconds = results["compile_seconds"]
    words = Table.grid(padding=(0, 2))
    words.add_column(no_wrap=True)
    words.add_column(overflow="fold")
    layers = "1 hidden layer" if config["depth"] == 1 else f"{config['depth']} hidden layers"
    words.add_row(
        "target",
        f"NTK of {layers} of {config['activation']}, σ_w {config['w_std']:.4g}, σ_b "
        f"{config['b_std']:g}; K(1) = {design['target_at_1']:.6g}",
    )
    words.add_row("design", design["activation"])
    poor = design["max_error"] > 0.05 * abs(design["target_at_1"])
    words.add_row(
        "error",
        f"squared {design['squared_error']:.4g} over {design['angles']} angles, largest {design['max_error']:.3g} "
        f"({100 * design['max_error'] / design['target_at_1']:.2g} % of K(1)); found in {design['seconds']:.1f} s"
        + (f"; POOR: {design['family']} cannot follow this kernel, try another --family" if poor else ""),
    )
    words.add_row(
        "check",
        f"mean NTK of {check['members']} networks of width {check['width']}: within {check['max_gap_to_target']:.3g} of "
        f"the target, {check['max_deviation']:.3g} of the designed kernel (rms z-score {check['rms_z_score']:.2f}); "
        f"std over networks at c = 1: {check['spread_at_1']:.3g}",
    )
    words.add_row(
        "task",
        f"{task['name']}: {task['rows_train']} rows to train, {task['rows_test']} to test{chance}; {task['inputs']} inputs, "
        f"{task['outputs']} outputs; {lift}",
    )
    words.add_row(
        "compile", f"{seconds:.1f} s of this run" if seconds >= 1 else "nothing: all code was in the cache"
    )
    parts = [words]
    if results["networks"]:
        parts.append(_networks_table(record))
    if results["tracking"]:
        parts.append(_tracking_table(record))
    return parts


def _networks_table(record: Run) -> Table:
    from rich.table import Table

    several = record.config["members"] > 1
    spread = f" (mean ± std over {record.config['members']} networks)" if several else ""
    table = Table(
        title=f"after {record.config['epochs']} epochs{spread}"
        if record.status == "complete"
        else f"so far{spread}",
        caption="* of one network: the ensemble's time / (steps × networks), without compilation",
    )
    for heading in (
        "network",
        "parameters",
        "train loss",
        "test loss",
        "train acc.",
        "test acc.",
        "ms a step*",
    ):
        table.add_column(heading, justify="left" if heading == "network" else "right", overflow="fold")

    def number(value: float, digits: int) -> str:
        return f"{value:.{digits}f}" if abs(value) < 1e4 else f"{value:.3g}"

    def cell(value: dict[str, float] | None, scale: float = 1.0, digits: int = 4, unit: str = "") -> str:
        if value is None:
            return "–"
        spread = f" ± {number(scale * value['std'], digits)}" if several else ""
        return f"{number(scale * value['mean'], digits)}{spread}{unit}"

    for summary in record.results["networks"].values():
        stopped = "" if summary["epoch"] == record.config["epochs"] else f" (epoch {summary['epoch']})"
        step = summary["seconds_per_step"]
        table.add_row(
            summary["label"] + stopped,
            f"{summary['parameters']:,}",
            cell(summary["train_loss"]),
            cell(summary["test_loss"]),
            cell(summary["train_accuracy"], 100, 1, " %"),
            cell(summary["test_accuracy"], 100, 1, " %"),
            f"{1e3 * float(step):.3g}",
        )
    table.caption = (
        "* of one network: time of the ensemble's steps / (steps × networks), compilation left out"
    )
    return table


def _tracking_table(record: Run) -> Table:
    from rich.table import Table

    deep = record.results["networks"]["deep"]["label"]
    table = Table(title=f"tracking distance from {deep}: largest gap of mean losses over all snapshots")
    for heading in ("network", "train loss", "test loss"):
        table.add_column(heading, justify="left" if heading == "network" else "right", overflow="fold")
    for name, gaps in record.results["tracking"].items():
        table.add_row(
            record.results["networks"][name]["label"], f"{gaps['train']:.4f}", f"{gaps['test']:.4f}"
        )
    return table
