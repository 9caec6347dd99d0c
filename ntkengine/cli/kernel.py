"""``ntkengine kernel``: any kernel in words; those of infinitely wide networks as a table, a figure, or the Gram matrix of a
CSV file's rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ntkengine.cli.target import assignments, read_target, refuse_without, target_options
from ntkengine.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.table import Table

    from ntkengine.infinite.fcn import FCN, NetworkKernel

    Floats = NDArray[np.float64]

__all__ = ["kernel"]

_ARCHITECTURE = (
    click.option(
        "--activation",
        default="relu",
        metavar="NAME",
        help="A registered name, or a formula in z such as 'max(z-1,0)+0.1*cos(4*z)'.",
    ),
    click.option(
        "--param",
        "parameters",
        multiple=True,
        metavar="NAME=VALUE",
        help="Parameter of the activation: a=2, or an array, coefficients=0,1,0.5 (of one entry: 1,); repeatable.",
    ),
    click.option("--depth", type=click.IntRange(min=1), default=1, help="Hidden layers."),
    click.option(
        "--w-std",
        type=float,
        default=1.0,
        help="Weight std σ_w of the hidden layers (> 0); √2 = 1.4142135623730951 keeps the variance of relu.",
    ),
    click.option(
        "--b-std", type=float, default=0.0, help="Bias std σ_b of the hidden layers (0: no biases)."
    ),
    click.option("--readout-w-std", type=float, default=1.0, help="Weight std of the output layer (> 0)."),
    click.option(
        "--readout-b-std", type=float, default=0.0, help="Bias std of the output layer (0: no biases)."
    ),
)
_SETTINGS = {"show_default": True, "max_content_width": 100}


def _architecture(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that describe a network."""
    for option in reversed(_ARCHITECTURE):
        command = option(command)
    return command


@click.group()
def kernel() -> None:
    """Kernels in words; NNGP and NTK of infinitely wide fully-connected networks."""


# --- describe ------------------------------------------------------------------------------------------------------


@kernel.command(context_settings=_SETTINGS, no_args_is_help=True)
@target_options
@click.option(
    "--kind", type=click.Choice(["ntk", "nngp"]), default="ntk", help="Which kernel of --net is described."
)
@click.option(
    "--degree",
    type=click.IntRange(0, 10_000),
    default=200,
    help="Power-series coefficients are examined up to here.",
)
@click.pass_context
def describe(context: click.Context, kind: str, degree: int, **settings: Any) -> None:
    """Say in words what a kernel K(c) is like, and what that means for learning.

    c is the cosine of the angle between two inputs. FORMULA is a formula in c, or the name of a family of kernels; or the
    kernel comes from --samples, or is that of a deep network, --net. Says whether it is positive definite, monotonic, smooth
    or cusped at c = 1, how far it correlates, its parity, and which degrees hold its mass.

    \b
    Examples:
      ntkengine kernel describe "sinh(2*c)"
      ntkengine kernel describe laplace --set length=0.5
      ntkengine kernel describe --net relu --depth 8 --kind nngp
      ntkengine kernel describe --samples k.csv
    """
    from ntkengine.kernels.describe import describe as in_words

    if settings["net"] is None:
        refuse_without(context, {"kind": "net"})
    click.echo(in_words(read_target(context, settings, kind).kernel(), degree=degree))


# --- show --------------------------------------------------------------------------------------------------------


@kernel.command(context_settings=_SETTINGS)
@_architecture
@click.option("--points", type=click.IntRange(2, 10_000), default=9, help="Cosines, evenly from −1 to 1.")
@click.option(
    "--figure",
    type=click.Path(),
    metavar="FILE",
    help="Draw both kernels (.png, .svg or .pdf) [default: no figure].",
)
@click.option(
    "--csv",
    "table_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the table here, 17 digits, the angle in degrees [default: no file].",
)
@click.option("--overwrite", is_flag=True, help="Replace the --csv file where it exists.")
def show(points: int, figure: str | None, table_path: Path | None, overwrite: bool, **network: Any) -> None:
    """Tabulate a network's kernels K(c) on the sphere |x|² = d.

    c is the cosine of the angle between two inputs. Prints the NNGP kernel and the NTK at infinite width, estimates of
    their error, and the variance before every activation.

    \b
    Examples:
      ntkengine kernel show --depth 4 --w-std 1.41421356 --figure kernel.png
      ntkengine kernel show --activation "a*tanh(z)" --param a=0.5 --csv table.csv
    """
    import numpy as np

    from ntkengine import plots
    from ntkengine.cli.console import out
    from ntkengine.store.publish import check_output, publishing

    if figure is not None:
        plots.figure_format(figure)
    if table_path is not None:
        check_output("--csv", table_path, overwrite)
    net = _network(**network)
    kernels = {kind: net.kernel(kind) for kind in ("nngp", "ntk")}
    c = np.linspace(-1.0, 1.0, points)
    angle = np.degrees(np.arccos(c))
    nngp, ntk = (np.asarray(k(c)) for k in kernels.values())
    if figure is not None:
        plots.check_path(figure)
    console = out()
    console.print(_words(net, kernels))
    console.print(_table(c, angle, nngp, ntk))
    if table_path is not None:
        lines = ["c,angle,nngp,ntk"]
        lines += [",".join(f"{value:.17g}" for value in row) for row in zip(c, angle, nngp, ntk)]
        with publishing(table_path, overwrite) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        console.print(f"table     {table_path}", soft_wrap=True)
    if figure is not None:
        theta = np.linspace(0.0, np.pi, 361)
        nngp, ntk = (np.asarray(k.at_angle(theta)) for k in kernels.values())
        path = plots.save(plots.network_kernel(theta, nngp, ntk, "\n".join(_describe(net))), figure)
        console.print(f"figure    {path}", soft_wrap=True)


def _words(net: FCN, kernels: dict[str, NetworkKernel]) -> Table:
    from rich.table import Table

    variances = [f"{q:.6g}" for q in kernels["ntk"].variances]
    listed = variances if len(variances) <= 12 else [*variances[:8], "…", *variances[-2:]]
    layers = "the hidden layer" if net.depth == 1 else f"hidden layers 1 to {net.depth}"
    words = Table.grid(padding=(0, 2))
    words.add_column(no_wrap=True)
    words.add_column(overflow="fold")
    for heading, text in zip(("network", "std"), _describe(net)):
        words.add_row(heading, text)
    words.add_row("variance", f"{', '.join(listed)} before the activation of {layers}")
    errors = ", ".join(f"{kind.upper()} {k.error:.1e}" for kind, k in kernels.items())
    words.add_row("error", f"{errors} (estimates, absolute, at any c)")
    return words


def _table(c: Floats, angle: Floats, nngp: Floats, ntk: Floats) -> Table:
    from rich.table import Table

    table = Table()
    for heading in ("c", "angle (°)", "NNGP", "NTK"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in zip(c, angle, nngp, ntk):
        table.add_row(f"{row[0]:.12g}", f"{row[1]:.4f}", f"{row[2]:#.12g}", f"{row[3]:#.12g}")
    return table


# --- gram ----------------------------------------------------------------------------------------------------


@kernel.command(context_settings=_SETTINGS)
@click.argument("data", type=click.Path(path_type=Path), metavar="DATA.CSV")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="HDF5 file to write; whole or not at all.",
)
@click.option("--kind", type=click.Choice(["ntk", "nngp", "both"]), default="ntk", help="Which kernel.")
@_architecture
@click.option(
    "--drop",
    multiple=True,
    metavar="COLUMN",
    help="Leave a column out: a name, or a number from 0; repeatable.",
)
@click.option(
    "--target", metavar="COLUMN", help="Keep this column as y instead of a feature [default: there is none]."
)
@click.option(
    "--header/--no-header", default=None, help="Whether the first line holds names [default: detected]."
)
@click.option(
    "--standardize/--raw",
    default=False,
    help="Bring every feature to mean 0 and std 1 over all rows (constant ones to 0).",
)
@click.option("--normalize", is_flag=True, help="Then scale every row x to the sphere |x|² = d.")
@click.option(
    "--dtype", type=click.Choice(["float64", "float32"]), default="float64", help="Of what is stored."
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads [default: all].")
@click.option("--overwrite", is_flag=True, help="Replace the output file where it exists.")
def gram(
    data: Path,
    output: Path,
    kind: str,
    drop: tuple[str, ...],
    target: str | None,
    header: bool | None,
    standardize: bool,
    normalize: bool,
    dtype: str,
    threads: int | None,
    overwrite: bool,
    **network: Any,
) -> None:
    """Write the Gram matrix of a CSV file's rows to an HDF5 file.

    Every column of numbers is a feature; a column without any number is left out, and named. The file holds ntk and nngp
    (n, n), X (n, d) as used, the features' names, and the configuration. The matrix goes to the disk in blocks of rows: it
    need not fit into memory.

    \b
    Examples:
      ntkengine kernel gram wine.csv -o wine.h5 --target quality --standardize
      ntkengine kernel gram a.csv -o a.h5 --kind both --activation erf --drop id
    """
    from ntkengine.cli.console import Bars, out
    from ntkengine.experiments.gram import read_rows, scaled, write_gram
    from ntkengine.store.publish import check_output

    check_output("-o", output, overwrite)
    if output.exists() and data.exists() and output.samefile(data):
        raise InputError(f"-o names the data file {str(data)!r} itself; choose another file to write")
    net = _network(**network)
    rows = read_rows(data, drop, target, header)
    X = scaled(rows, standardize, normalize)
    source = {"file": data.name, "sha256": rows.sha256}
    config = {"standardize": standardize, "normalize": normalize, "source": source}
    kinds = ("ntk", "nngp") if kind == "both" else (kind,)
    written = write_gram(output, net, rows, X, config, kinds, dtype, threads, overwrite, Bars())
    n, d = X.shape
    left_out = "".join(f"; {reason}: {', '.join(names)}" for reason, names in rows.left_out.items() if names)
    console = out()
    for heading, text in zip(("network", "std"), _describe(net)):
        console.print(f"{heading:<9}{text}", soft_wrap=True)
    console.print(
        f"inputs   {n} rows × {d} feature{'s' if d > 1 else ''} of {data.name}{left_out}", soft_wrap=True
    )
    for matrix in written:
        console.print(
            f"{matrix.kind:<9}{matrix.shape} {matrix.dtype}, {_bytes(matrix.nbytes)}, {matrix.seconds:.1f} s, "
            f"values from {matrix.low:.6g} to {matrix.high:.6g}",
            soft_wrap=True,
        )
    console.print(f"file     {output}", soft_wrap=True)


def _bytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB" if size >= 1e6 else f"{size} B"


# --- a network from options ----------------------------------------------------------------------------------------


def _network(activation: str, parameters: Sequence[str], **layers: Any) -> FCN:
    from ntkengine.activations import activation as named
    from ntkengine.infinite.fcn import FCN

    return FCN(named(activation, **assignments("--param", parameters)), **layers)


def _describe(net: FCN) -> tuple[str, str]:
    """The architecture, and its standard deviations."""
    layers = "1 hidden layer" if net.depth == 1 else f"{net.depth} hidden layers"
    stds = f"σ_w = {net.w_std:.9g}, σ_b = {net.b_std:.9g}"
    readout = f"readout σ_w = {net.readout_w_std:.9g}, σ_b = {net.readout_b_std:.9g}"
    return f"{layers} of {net.activation}, NTK parameterisation", f"{stds}; {readout}"
