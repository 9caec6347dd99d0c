"""``ntkengine design``: from a kernel to an activation, as a table, a figure, a record and source text."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ntkengine.cli.target import read_target, refuse_without, said_as_options, target_options
from ntkengine.errors import InputError, StoreError

if TYPE_CHECKING:
    from rich.table import Table

    from ntkengine.experiments.design import Outcome, Plan
    from ntkengine.store import Run, Store

__all__ = ["design"]

#: FORMATS of :mod:`ntkengine.design.export`, written again because that takes long to import.
_FORMATS = ("torch", "jax", "numpy", "numba", "latex", "json")
#: Rows of the table of coefficients.
_ROWS = 12
_THEOREM = ("degree", "signs", "project")
_WEIGHTS, _BIASES = click.FloatRange(min=0, min_open=True), click.FloatRange(min=0)
_FIT = {"size": "family", "starts": "family"}
#: Arguments of the functions that design, and their options.
_ARGUMENTS = {
    "readout_w_std": "--readout-w-std",
    "readout_b_std": "--readout-b-std",
    "w_std": "--input-w-std",
    "b_std": "--input-b-std",
}


@click.command(context_settings={"show_default": True, "max_content_width": 100}, no_args_is_help=True)
@target_options
@click.option(
    "--kind",
    type=click.Choice(["ntk", "nngp"]),
    default="ntk",
    help="Which kernel of the new network shall be the target.",
)
@click.option(
    "--target-kind",
    type=click.Choice(["ntk", "nngp"]),
    help="Which kernel of --net is the target [default: the same].",
)
@click.option(
    "--degree",
    default="auto",
    metavar="N|all|auto",
    help="Where to end the series; all: nowhere, φ becomes a table; auto: where next to nothing is left, at most 128.",
)
@click.option(
    "--signs",
    default="smooth",
    metavar="RULE",
    help="Signs of the Hermite coefficients: smooth, paper, plus, concentrated, or one for each degree as in ++--.",
)
@click.option(
    "--project",
    is_flag=True,
    help="If the target is not positive definite, design for the nearest kernel that is.",
)
@click.option(
    "--family",
    metavar="NAME",
    help="Fit an activation of this family instead: relu2_cos, kinks, spline, any registered one with parameters.",
)
@click.option(
    "--size",
    type=click.IntRange(min=1),
    metavar="J",
    help="Kinks or knots of a --family of any size [default: the family's own].",
)
@click.option("--starts", type=click.IntRange(min=1), default=8, help="Starting points of the fit.")
@click.option(
    "--input-w-std", type=_WEIGHTS, default=1.0, help="Weight std of the new network's first layer."
)
@click.option(
    "--input-b-std",
    type=_BIASES,
    default=0.0,
    help="Bias std of the new network's first layer (0: no biases).",
)
@click.option("--readout-w-std", type=_WEIGHTS, default=1.0, help="Weight std of its output layer.")
@click.option(
    "--readout-b-std", type=_BIASES, default=0.0, help="Bias std of its output layer (0: no biases)."
)
@click.option(
    "--lift",
    is_flag=True,
    help="Radial lift f(x) = r g(x/r), r = |x|/√d: the kernel off the sphere is r r' K(c).",
)
@click.option(
    "--verify",
    is_flag=True,
    help="Compare the kernel with those of networks of finite width, drawn at random.",
)
@click.option(
    "--width",
    type=click.IntRange(min=1),
    default=4096,
    help="Hidden units of these networks, and what signs concentrated is for.",
)
@click.option("--members", type=click.IntRange(min=2), default=16, help="How many of them.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of the fit and of these networks.")
@click.option(
    "--export",
    "export_format",
    type=click.Choice(_FORMATS),
    help="Print the network as source, LaTeX or JSON; the table then goes to stderr.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write what --export gives here instead.",
)
@click.option("--overwrite", is_flag=True, help="Replace the -o file where it exists.")
@click.option(
    "--figure",
    type=click.Path(),
    metavar="FILE",
    help="Draw φ, kernels, error and coefficients (.png, .svg or .pdf).",
)
@click.option(
    "--store",
    "store_path",
    type=click.Path(),
    metavar="FOLDER",
    help="Keep the run (HDF5) and its figure here.",
)
@click.pass_context
def design(
    context: click.Context,
    export_format: str | None,
    output: Path | None,
    overwrite: bool,
    figure: str | None,
    store_path: str | None,
    **settings: Any,
) -> None:
    """Find the activation that gives a network with ONE hidden layer a given kernel.

    The kernel is a function K(c) of the cosine c between two inputs on the sphere |x|² = d. FORMULA is a formula in c, or the
    name of a family of kernels; or the kernel comes from --samples, or is that of a deep network, --net.

    By the theorem of Simon, Anand & DeWeese (2022) φ is a series of Hermite polynomials, exact where the power series of K
    ends, else as good as --degree says. With --family an activation of a given form is fitted instead.

    \b
    Examples:
      ntkengine design "sinh(2*c)"
      ntkengine design gaussian --set gamma=2 --kind nngp --figure design.png
      ntkengine design --samples k.csv --project
      ntkengine design --net relu --depth 4 --degree all --verify
      ntkengine design --net relu --family relu2_cos --verify --export torch -o mimic.py
    """
    from ntkengine import plots
    from ntkengine.cli.console import Bars, out
    from ntkengine.experiments.design import run
    from ntkengine.store import Store
    from ntkengine.store.publish import check_output

    plan = _plan(context, settings)
    _check_export(export_format, output, overwrite)
    if output is not None:
        check_output("-o", output, overwrite)
    if figure is not None:
        plots.figure_format(figure)
    store = None if store_path is None else Store(store_path)

    def ready() -> None:
        if output is not None:
            _probe(output)
        if store is not None:
            store.check_writable()
        if figure is not None:
            plots.check_path(figure)

    bars = Bars()
    with _left_as_found(*([store.path] if store is not None else [])), _said_as_options(plan):
        found = run(plan, bars, ready)
        source = found.design.export(export_format) if export_format is not None else None
        drawing = None
        if store is not None or figure is not None:
            with bars.stage("drawing"):
                drawing = plots.design(found.record)
        written = _write(source, output, overwrite, store, found.record)
    if drawing is not None:
        images = [written[-1][1].with_suffix(".png")] if store is not None else []
        images += [Path(figure)] if figure is not None else []
        written += [("figure", plots.save(drawing, image)) for image in images]
    console = out()
    console.stderr = source is not None and output is None
    for part in _report(found):
        console.print(part)
    for name, path in written:
        console.print(f"{name:<14}{path}", soft_wrap=True)
    if console.stderr:
        click.echo(source, nl=False)


def _plan(context: click.Context, settings: dict[str, Any]) -> Plan:
    from ntkengine.experiments.design import Plan

    given = [
        name
        for name in settings
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
    ]
    if settings["net"] is None:
        refuse_without(context, {"target_kind": "net"})
    target_kind = settings.pop("target_kind")
    target = read_target(context, settings, target_kind or settings["kind"])
    for name in _THEOREM:
        if settings["family"] is not None and name in given:
            raise click.UsageError(
                f"--{name} belongs to the theorem, and --family fits instead: give one of them"
            )
    if settings["family"] is None:
        refuse_without(context, _FIT)
    if not settings["verify"]:
        owners = {"members": "verify"}
        refuse_without(
            context, owners if settings["signs"] == "concentrated" else {"width": "verify", **owners}
        )
    signs, degree = _signs(settings.pop("signs")), _degree(settings.pop("degree"))
    if isinstance(signs, tuple) and degree is None:
        degree = len(signs) - 1
    network = {"w_std": settings.pop("input_w_std"), "b_std": settings.pop("input_b_std")}
    return Plan(target, signs=signs, degree=degree, radial_lift=settings.pop("lift"), **network, **settings)


def _degree(text: str) -> int | str | None:
    if text in ("auto", "all"):
        return None if text == "auto" else text
    if not re.fullmatch(r"\d{1,9}", text):
        raise InputError(f"--degree is {text!r}; it must be a whole number of at least 0, all or auto")
    return int(text)


def _signs(text: str) -> str | tuple[int, ...]:
    if re.fullmatch("[+-]+", text):
        return tuple(1 if sign == "+" else -1 for sign in text)
    return text


def _check_export(export_format: str | None, output: Path | None, overwrite: bool) -> None:
    if output is not None and export_format is None:
        raise click.UsageError(f"-o says where --export goes: give that too, one of {', '.join(_FORMATS)}")
    if overwrite and output is None:
        raise click.UsageError("--overwrite belongs to -o: give that too")


@contextlib.contextmanager
def _said_as_options(plan: Plan) -> Iterator[None]:
    """Errors that name or advise an argument of a function name the option instead."""
    try:
        with said_as_options(_ARGUMENTS):
            yield
    except InputError as error:
        text = _as_options(str(error))
        if isinstance(plan.signs, tuple) and plan.degree == len(plan.signs) - 1:
            text = text.replace(
                "; give a higher degree", ", where --signs ends the series: give more signs, from degree 0 on"
            )
        error.args = (text, *error.args[1:])
        raise


def _as_options(text: str) -> str:
    """``project=True`` as ``--project``, ``degree="all"`` as ``--degree all``, a list of signs as one text."""
    text = re.sub(
        r"^signs is (.*)or a list of (\d+) signs ±1", r"--signs is \1or \2 signs in a row as in ++--", text
    )
    return re.sub(r'\b(degree|kind|signs)="(\w+)"', r"--\1 \2", text.replace("project=True", "--project"))


# --- files -----------------------------------------------------------------------------------------------------


def _write(
    source: str | None, output: Path | None, overwrite: bool, store: Store | None, record: Run
) -> list[tuple[str, Path]]:
    """Write the source and the run where that is wanted; what each file is, the run last."""
    from ntkengine.store.publish import publishing

    written = []
    if source is not None and output is not None:
        with publishing(output, overwrite) as temporary:
            temporary.write_text(source, encoding="utf-8")
        written.append(("source", output))
    if store is not None:
        written.append(("run", store.write(record)))
    return written


def _probe(path: Path) -> None:
    """StoreError if a file cannot be made beside ``path``; leaves nothing."""
    probe = path.with_name(f".{path.name}.probe")
    try:
        probe.write_bytes(b"\0" * 4096)
    except OSError as error:
        raise StoreError(
            f"cannot write {str(path)!r}: {error.strerror or error}; choose another path"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


@contextlib.contextmanager
def _left_as_found(*folders: Path) -> Iterator[None]:
    """If the block fails, remove those of the folders that it made and left empty."""
    missing = {p for folder in folders for p in (folder, *folder.parents) if not p.exists()}
    try:
        yield
    except BaseException:
        for folder in sorted(missing, key=lambda p: len(p.parts), reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


# --- the report ------------------------------------------------------------------------------------------------


def _report(found: Outcome) -> list[Table]:
    """The design in words and as a table, for the terminal."""
    from rich.table import Table

    words = Table.grid(padding=(0, 2))
    words.add_column(no_wrap=True, min_width=12)
    words.add_column(overflow="fold")
    for name, text in found.design.rows():
        words.add_row(name, _as_options(text))
    samples = found.record.results["design"].get("samples")
    if samples is not None:
        beyond = (
            " MORE THAN THE NOISE: no network has this kernel" if samples["misfit"] > samples["noise"] else ""
        )
        words.add_row(
            "samples",
            f"the nearest positive-definite kernel misses them by {samples['misfit']:.3g} (rms); noise "
            f"{samples['noise']:.3g}{beyond}",
        )
    check = found.record.results["check"]
    if check is not None:
        scale = abs(found.record.results["design"]["target_at_1"]) or 1.0
        networks = f"{check['members']} networks of width {check['width']}, seed {check['seed']}"
        words.add_row(
            "verified",
            f"{networks}: the mean kernel is {check['z_score']:+.2f} standard errors from the target "
            f"({check['z_score_of_design']:+.2f} from the designed kernel), averaged over angles",
        )
        words.add_row(
            "",
            f"{check['within']:.0%} of the angles within 3 standard errors of the target, the farthest at "
            f"{check['largest_z']:.2f}; one network is {check['rms_error'] / scale:.2%} of K(1) off (rms)",
        )
    return [words, _coefficients(found)]


def _coefficients(found: Outcome) -> Table:
    import numpy as np
    from rich.table import Table

    known, fcn = found.coefficients, found.design.fcn
    rho = "c" if fcn.b_std == 0 else "ρ"
    caption = f"K = Σ b_k {rho}^k, φ({'z' if fcn.w_std**2 + fcn.b_std**2 == 1 else '√q z'}) = Σ a_k h_k(z)"
    if fcn.b_std:
        caption += f"; ρ = (σ_w² c + σ_b²)/q, q = σ_w² + σ_b² = {fcn.w_std**2 + fcn.b_std**2:.6g}"
    table = Table(caption=caption)
    for heading in ("k", "b_k of the target", "b_k of the design", "a_k"):
        table.add_column(heading, justify="right", no_wrap=True)
    target = np.full(known.design.size, np.nan) if known.target is None else known.target
    used = np.flatnonzero((np.nan_to_num(target) != 0) | (known.design != 0) | (known.hermite != 0))
    size = np.maximum(np.abs(np.nan_to_num(target)), np.abs(known.design))
    shown, largest = used[:_ROWS], np.sort(used[np.argsort(-size[used], kind="stable")][:_ROWS])
    if size[shown].sum() < 0.5 * size[largest].sum():  # a narrow kernel has its terms far out
        shown = largest

    def cell(value: float) -> str:
        return "–" if np.isnan(value) else "0" if value == 0 else f"{value:.6g}"

    for k in shown:
        table.add_row(str(k), cell(target[k]), cell(known.design[k]), cell(known.hermite[k]))
    last = int(shown[-1]) if shown.size else 0
    rest = np.ones(known.design.size, dtype=bool)
    rest[shown if shown is largest else slice(last + 1)] = False
    left = [
        float(values[rest].sum()) + tail
        for values, tail in ((target, known.target_tail), (known.design, known.design_tail))
    ]
    scale = float(np.abs(known.design).max()) or 1.0
    if any(abs(part) > 1e-12 * scale for part in left) or np.abs(known.hermite[rest]).max(initial=0) > 0:
        table.add_row(
            "others" if shown is largest else f"… {last + 1}–∞",
            *(cell(part) for part in left),
            "…" if used.size > shown.size else "",
        )
    return table
