"""Gram matrices of a CSV file's rows, written to HDF5 in blocks.

Layout
------
Root attributes: ``gram_schema`` (integer), the texts ``kind, created``, and the JSON texts ``config, versions, device``.
Datasets, each with dimension scales: ``ntk`` and/or ``nngp`` (row, column), the inputs as used ``X`` (row, feature),
``y`` (row) where the data have a target, and the scales ``row``, ``column`` (numbers from 0) and ``feature`` (names).
Every matrix is computed straight into its dataset, so that n is limited by the disk and not by memory.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkengine.errors import DataError, InputError, StoreError, UnknownNameError
from ntkengine.experiments.progress import Progress, Silent
from ntkengine.infinite.fcn import FCN
from ntkengine.store.publish import Disk, hdf5_file, publishing
from ntkengine.store.run import Run, plain_json
from ntkengine.tasks import Scaling, tabular

__all__ = ["Rows", "Written", "read_rows", "scaled", "write_gram"]

Floats = NDArray[np.float64]

#: Version of the layout.
GRAM_SCHEMA = 1
#: Rows and columns of one HDF5 chunk at most: 512 KiB in float64.
CHUNK = 256


# --- rows of a CSV file -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """The rows of a CSV file as inputs of a network; made by :func:`read_rows`.

    Attributes
    ----------
    X : (n, d) array
        The features as they stand in the file.
    features : list of str
        d names.
    y : list of float or str, or None
        The target column's n values.
    target : str or None
        Its name.
    left_out : dict of str to list of str
        Names of the other columns, by the reason why they are no features.
    sha256 : str
        Of the file's bytes, in hex.
    """

    X: Floats
    features: list[str]
    y: list[float] | list[str] | None
    target: str | None
    left_out: dict[str, list[str]]
    sha256: str


def read_rows(
    file: Path, drop: Sequence[str] = (), target: str | None = None, header: bool | None = None
) -> Rows:
    r"""Every column of numbers of a CSV file; format and detection are those of :func:`ntkengine.tasks.load_csv`.

    Parameters
    ----------
    file : Path
    drop : sequence of str
        Columns to leave out, each a name or a number from 0. Columns without any number are left out by themselves.
    target : str, optional
        The column to keep as ``y``.
    header : bool, optional
        Whether the first line holds names. None: found from the file.

    Raises
    ------
    DataError
        If the file cannot be read or used; the text names row, line and column, and what was found there.
    InputError, UnknownNameError
        If there is no such column.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from ntkengine.experiments.gram import read_rows
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "flowers.csv")
    ...     _ = file.write_text("length,width,kind\n5.1,3.5,iris\n2.0,1.0,daisy\n")
    ...     rows = read_rows(file)
    >>> rows.X.shape, rows.features, rows.left_out["without numbers"]
    ((2, 2), ['length', 'width'], ['kind'])
    """
    where = f"file {str(file)!r}"
    data = tabular.read_bytes(file)
    text = tabular._decode(data, where)
    separator, header, names, body = _layout(text, where, header)
    dropped = {_column("--drop", name, names) for name in drop}
    at = None if target is None else _column("--target", target, names)
    if at in dropped:
        raise InputError(f"column {names[at]!r} is both --drop and --target; give one of them")
    rest = [j for j in range(len(names)) if j not in dropped and j != at]
    features = [j for j in rest if any(tabular._is_number(row[j]) for _, row in body if j < len(row))]
    texts = [j for j in rest if j not in features]
    if not features:
        raise DataError(f"{where}: no column of numbers is left as a feature; columns: {', '.join(names)}")

    def bad(row: int, line: int, j: int, cell: str) -> DataError:
        found = tabular._bad_cell(where, row, line, names[j], cell)
        return DataError(f"{found}; or leave the column out: --drop {names[j]!r}")

    values, targets, lines = array("d"), [], []
    records = islice(tabular._records(text, separator, where), int(header), None)
    for row, (line, cells) in enumerate(records, start=1):
        if len(cells) != len(names):
            raise DataError(
                f"{where}, line {line}: {len(cells)} columns, expected {len(names)} as on the first line; "
                "mend the line (a cell that holds the separator must be quoted)"
            )
        try:
            values.extend([tabular._plain_float(cells[j]) for j in features])
        except ValueError:
            j = next(j for j in features if not tabular._is_number(cells[j]))
            raise bad(row, line, j, cells[j]) from None
        for j in texts:  # judged by the first rows only, so far
            if tabular._is_number(cells[j]):
                raise bad(1, body[0][0], j, body[0][1][j])
        if at is not None:
            targets.append(cells[at].strip())
        lines.append(line)
    X = np.array(values, dtype=np.float64).reshape(len(lines), len(features))
    wrong = np.argwhere(~np.isfinite(X))
    if len(wrong):
        i, k = (int(index) for index in wrong[0])
        raise bad(i + 1, lines[i], features[k], str(X[i, k]))
    return Rows(
        X,
        [names[j] for j in features],
        None if at is None else _target_values(targets, lines, names[at], where),
        None if at is None else names[at],
        {"left out": [names[j] for j in sorted(dropped)], "without numbers": [names[j] for j in texts]},
        hashlib.sha256(data).hexdigest(),
    )


def _layout(
    text: str, where: str, header: bool | None
) -> tuple[str, bool, tuple[str, ...], list[tabular.Record]]:
    """Separator, whether there is a header, the columns' names, and the first rows."""
    try:
        separator = tabular._detect_separator(text, where)
    except DataError:  # one column, which needs none
        separator = ","
    head = list(islice(tabular._records(text, separator, where), tabular._SAMPLE))
    if not head:
        raise DataError(f"{where} is empty; expected lines of numbers, with or without a header")
    if header is None:
        try:
            header = tabular._detect_header(head, where)
        except DataError as error:
            raise DataError(f"{error} (--header or --no-header)") from None
    first, body = head[0], head[int(header) :]
    names = tabular._checked_names(first, where) if header else tuple(f"x{j}" for j in range(len(first[1])))
    if not body:
        raise DataError(f"{where} holds a header and no row of data; at least 1 is needed")
    return separator, header, names, body


def _column(option: str, column: str, names: Sequence[str]) -> int:
    """The index of a column given by its name, or by its number from 0."""
    if column in names:
        return list(names).index(column)
    if not (column.isascii() and column.isdigit() and len(column) < 10):
        raise UnknownNameError(f"{option} column", column, names)
    if int(column) >= len(names):
        raise InputError(
            f"{option} is column {column}; there are {len(names)}, numbered from 0: {', '.join(names)}"
        )
    return int(column)


def _target_values(cells: list[str], lines: Sequence[int], name: str, where: str) -> list[float] | list[str]:
    """A target as finite numbers, or as texts where no cell is a number."""
    numeric = [tabular._is_number(cell) for cell in cells]
    for i, cell in enumerate(cells):
        if not cell or numeric[i] != numeric[0] or (numeric[i] and not math.isfinite(float(cell))):
            raise DataError(
                f"{where}, row {i + 1} (line {lines[i]}), target column {name!r}: found {cell!r}; "
                "expected finite numbers throughout, or texts throughout"
            )
    return [float(cell) for cell in cells] if numeric[0] else cells


def scaled(rows: Rows, standardize: bool, normalize: bool) -> Floats:
    """The inputs as the kernel sees them, (n, d).

    Parameters
    ----------
    rows : Rows
    standardize : bool
        Every column to mean 0 and std 1 over all rows; a constant one to 0.
    normalize : bool
        Then every row to the sphere |x|² = d.

    Raises
    ------
    InputError
        If a row to be normalised is the zero vector.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkengine.experiments.gram import Rows, scaled
    >>> rows = Rows(np.array([[3.0, 4.0], [0.0, 2.0]]), ["a", "b"], None, None, {}, "")
    >>> (scaled(rows, standardize=False, normalize=True) ** 2).sum(axis=1).round(12)
    array([2., 2.])
    """
    X = Scaling.fit(rows.X).apply(rows.X) if standardize else rows.X
    if not normalize:
        return X
    largest = np.abs(X).max(axis=1)
    if not largest.all():
        where = int(np.argmin(largest))
        why = "; after --standardize it is the mean row" if standardize else ""
        raise InputError(
            f"--normalize: row {where + 1} of the data is the zero vector, which has no direction{why}; "
            "remove the row, or leave --normalize out"
        )
    unit = X / largest[:, None]
    return unit * (np.sqrt(X.shape[1]) / np.linalg.norm(unit, axis=1))[:, None]


# --- the file ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Written:
    """One matrix in the file: its kind, shape and dtype, bytes, seconds, smallest and largest value."""

    kind: str
    shape: tuple[int, int]
    dtype: str
    nbytes: int
    seconds: float
    low: float
    high: float


def write_gram(
    path: Path,
    net: FCN,
    rows: Rows,
    X: Floats,
    config: dict[str, Any],
    kinds: Sequence[str] = ("ntk",),
    dtype: str = "float64",
    threads: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Written]:
    """Compute the Gram matrices of X and write them to a new HDF5 file, whole or not at all.

    Parameters
    ----------
    path : Path
    net : FCN
    rows : Rows
        Names and target.
    X : (n, d) array
        The inputs (see :func:`scaled`).
    config : dict
        What else the file's configuration is to say; JSON.
    kinds : sequence of "ntk" and "nngp"
    dtype : "float64" or "float32"
        Of what is stored; the arithmetic is float64.
    threads : int, optional
        None: all.
    overwrite : bool
    progress : Progress, optional

    Raises
    ------
    InputError
        If the file exists and may not be overwritten, or the kernel does not exist at these inputs.
    StoreError
        If it cannot be written, or does not fit on the disk.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import h5py, numpy as np, ntkengine as nk
    >>> from ntkengine.experiments.gram import Rows, write_gram
    >>> rows = Rows(np.eye(2), ["a", "b"], None, None, {}, "")
    >>> path = pathlib.Path(tempfile.mkdtemp(), "gram.h5")
    >>> written = write_gram(path, nk.FCN("relu", w_std=2**0.5), rows, rows.X, {})
    >>> with h5py.File(path) as file:
    ...     file["ntk"][:].round(6)
    array([[1.      , 0.159155],
           [0.159155, 1.      ]])
    """
    progress = progress or Silent()
    phi, n, results = net.activation, len(X), []
    config = {
        "activation": phi.name,
        "parameters": phi.parameters,
        "depth": net.depth,
        "w_std": net.w_std,
        "b_std": net.b_std,
        "readout_w_std": net.readout_w_std,
        "readout_b_std": net.readout_b_std,
        "parameterization": net.parameterization,
        "width": net.width,
        "radial_lift": net.radial_lift,
        "kinds": kinds,
        "dtype": dtype,
        "target": rows.target,
        "left_out": rows.left_out,
        **config,
    }
    _check_space(path, n * n * len(kinds) * np.dtype(dtype).itemsize)
    with publishing(path, overwrite) as temporary, hdf5_file(temporary) as (file, disk):
        _put_inputs(file, config, rows, X)
        for kind in kinds:
            started = time.perf_counter()
            with progress.stage(f"{kind} of {n} rows") as advance:
                dataset = _watched(_put_matrix(file, kind, n, dtype), disk, advance)
                getattr(net, kind)(X, out=dataset, dtype=dtype, threads=threads)
                file.flush()
            seconds = time.perf_counter() - started
            results.append(Written(kind, (n, n), dtype, dataset.nbytes, seconds, dataset.low, dataset.high))
    return results


def _check_space(path: Path, size: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if size > free:
        raise StoreError(
            f"{str(path)!r} needs {size / 1e9:.3g} GB, and {free / 1e9:.3g} GB are free there; choose another folder, "
            "fewer rows or --dtype float32"
        )


def _put_inputs(file: Any, config: dict[str, Any], rows: Rows, X: Floats) -> None:
    """The header as attributes of the root; inputs, target and the names of rows and features as datasets."""
    import h5py

    header = Run.new("gram", config)
    file.attrs["gram_schema"] = GRAM_SCHEMA
    file.attrs["kind"], file.attrs["created"] = header.kind, header.created
    for name in ("config", "versions", "device"):
        file.attrs[name] = json.dumps(plain_json(getattr(header, name), name), allow_nan=False)
    text = h5py.string_dtype("utf-8")
    for name, doc in (("row", "row of the data, from 0"), ("column", "the same, for the second axis")):
        file.create_dataset(name, data=np.arange(len(X))).make_scale(name)
        file[name].attrs["long_name"] = doc
    file.create_dataset("feature", data=rows.features, dtype=text).make_scale("feature")
    _label(file.create_dataset("X", data=X), file, "inputs as used", "row", "feature")
    if rows.y is not None:
        kept = file.create_dataset("y", data=rows.y, dtype=text if isinstance(rows.y[0], str) else np.float64)
        _label(kept, file, f"target {rows.target}", "row")


def _put_matrix(file: Any, name: str, n: int, dtype: str) -> Any:
    # Small matrices get equal chunks: the last one of a row is padded. Large ones keep to the engine's blocks.
    side = CHUNK if n >= 8 * CHUNK else -(-n // -(-n // CHUNK))
    dataset = file.create_dataset(name, shape=(n, n), dtype=dtype, chunks=(side, side))
    _label(dataset, file, f"{name.upper()} Gram matrix of the rows of X", "row", "column")
    return dataset


def _label(dataset: Any, file: Any, doc: str, *dims: str) -> None:
    dataset.attrs["long_name"] = doc
    for axis, dim in enumerate(dims):
        dataset.dims[axis].label = dim
        dataset.dims[axis].attach_scale(file[dim])


def _watched(dataset: Any, disk: Disk, advance: Callable[[int, int], None]) -> Any:
    """The same HDF5 dataset; what is written to it advances the bar, and its extremes are kept as ``low`` and ``high``."""
    import h5py

    class Watched(h5py.Dataset):
        low, high, written = math.inf, -math.inf, 0

        def __setitem__(self, where: Any, values: Any) -> None:
            super().__setitem__(where, values)
            disk.check()
            self.low = min(self.low, float(np.min(values, initial=math.inf)))
            self.high = max(self.high, float(np.max(values, initial=-math.inf)))
            self.written = min(self.written + np.size(values), self.size)
            advance(self.written, self.size)

    return Watched(dataset.id)
