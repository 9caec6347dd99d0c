"""Tables of data: the record (:class:`Table`) and the reader of CSV files (:func:`load_csv`).

The separator is the one that gives the same number of columns on the most lines; a first line is a header
where it has texts above columns of numbers; a target is classes where it is text or few whole numbers. What
cannot be told is an error that says what was found, never a guess.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import operator
import os
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkengine.errors import DataError, InputError, UnknownNameError

__all__ = ["Table", "load_csv"]

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

#: Separators tried, the preferred one first where two fit equally well.
SEPARATORS = ("\t", ";", ",", " ")
_SAMPLE = 200  # lines looked at to find the separator, and to tell a header from data
#: Whole numbers are classes up to this many distinct values (and at most a fifth of the rows).
MAX_CLASSES = 50

Record = tuple[int, list[str]]


@dataclass(frozen=True, eq=False)
class Table:
    """Raw data before any split: what a task's function returns.

    Parameters
    ----------
    name : str
    X : (n, d) array
        Features; kept as C-contiguous float64.
    y : (n,) array of int or (n, m) array of float
        Class indices into ``class_names``, or, where that is empty, real targets.
    feature_names : sequence of str
        d names.
    class_names : sequence of str
        At least two; empty for regression.
    source : str
        Citation, address, or the rule that generated the rows.

    Raises
    ------
    DataError
        If shapes or counts disagree, a value is not finite, or a class index has no name.

    Examples
    --------
    >>> from ntkengine import tasks
    >>> table = tasks.Table("xor", [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0], ("p", "q"), ("no", "yes"))
    >>> table.X.shape, table.y
    ((4, 2), array([0, 1, 1, 0]))
    """

    name: str
    X: Floats
    y: Floats | Labels
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        X = self._floats("X", self.X, "(n, d)")
        n, d = X.shape
        names, classes = tuple(self.feature_names), tuple(self.class_names)
        if n < 2 or d < 1:
            raise self._error(f"X has shape {X.shape}; at least 2 rows and 1 feature are needed")
        if len(names) != d:
            raise self._error(f"{len(names)} feature names are given for {d} features: give one for each")
        y: Floats | Labels
        if classes:
            y = self._labels(n, classes)
        else:
            y = self._floats("y", self.y, "(n, m) for regression (class_names is empty)")
            if len(y) != n or y.shape[1] < 1:
                raise self._error(f"y has shape {y.shape}; expected ({n}, m) with m at least 1")
        for key, value in {"X": X, "y": y, "feature_names": names, "class_names": classes}.items():
            object.__setattr__(self, key, value)

    def _error(self, text: str) -> DataError:
        return DataError(f"table {self.name!r}: {text}")

    def _floats(self, label: str, values: ArrayLike, shape: str) -> Floats:
        try:
            array = np.ascontiguousarray(values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise self._error(f"{label} is not an array of real numbers: {error}") from None
        if array.ndim != 2:
            raise self._error(f"{label} has {array.ndim} dimensions; expected the shape {shape}")
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            row, column = (int(i) for i in bad[0])
            raise self._error(
                f"{label}[{row}, {column}] is {array[row, column]}; expected finite numbers only"
            )
        return array

    def _labels(self, n: int, classes: tuple[str, ...]) -> Labels:
        if len(classes) == 1:
            raise self._error(f"there is one class only, {classes[0]!r}; at least two are needed")
        if len(set(classes)) < len(classes):
            raise self._error(f"class_names {classes} has a name twice; names must differ")
        y = np.asarray(self.y)
        if y.shape != (n,) or y.dtype.kind not in "iu":
            raise self._error(
                f"y has shape {y.shape} and type {y.dtype}; expected ({n},) integers, the class indices"
            )
        wrong = np.flatnonzero((y < 0) | (y >= len(classes)))
        if len(wrong):
            raise self._error(
                f"y[{wrong[0]}] is {y[wrong[0]]}; class indices go from 0 to {len(classes) - 1}"
            )
        return np.ascontiguousarray(y, dtype=np.int64)

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of the bytes of X and then y (little-endian float64; class indices as int64)."""
        digest = hashlib.sha256()
        digest.update(self.X.astype("<f8", copy=False).tobytes())
        digest.update(self.y.astype("<i8" if self.class_names else "<f8", copy=False).tobytes())
        return digest.hexdigest()


def load_csv(
    path: str | os.PathLike[str],
    target: str | int | None = None,
    separator: str | None = None,
    *,
    header: bool | None = None,
) -> Table:
    r"""Read a table from a CSV file: numeric features and one target column.

    The file is UTF-8 (with or without a byte-order mark), with any line ends. Cells may be quoted by ``"``,
    blank lines are left out, numbers have a decimal point. The target is

    - classes, where it is text, or whole numbers with at most 50 distinct values and at most one for 5 rows
      (two values always are classes): class names are sorted, whole numbers by value;
    - else one real number (regression).

    Parameters
    ----------
    path : str or path
        The file.
    target : str or int, optional
        The column to predict: a name in the header, else a number from 0, or back from −1. None: the last.
    separator : str, optional
        One character. None: tab, ``;``, ``,`` or space (a run of spaces is one), whichever fits.
    header : bool, optional
        Whether the first line holds names. None: found from the file. Without it columns are ``x0, x1, ...``.

    Returns
    -------
    Table

    Raises
    ------
    DataError
        If the file cannot be read or used: the text names the line, the column and what was found there.
    UnknownNameError
        If no column is called ``target``.
    InputError
        If another argument is not allowed.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from ntkengine import tasks
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "flowers.csv")
    ...     _ = file.write_text("length;width;kind\n5.1;3.5;iris\n2.0;1.0;daisy\n4.9;3.0;iris\n")
    ...     table = tasks.load_csv(file, target="kind")
    >>> table.X.shape, table.y, table.class_names
    ((3, 2), array([1, 0, 1]), ('daisy', 'iris'))
    """
    try:
        file = Path(path).expanduser()
    except (TypeError, RuntimeError) as error:
        raise InputError(f"path is {path!r}; expected the path of a file: {error}") from None
    return parse_csv(read_bytes(file), str(path), target, separator, header)


def read_bytes(file: Path) -> bytes:
    """The bytes of a data file, or a DataError that says why there are none."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise DataError(f"file {str(file)!r} does not exist: check the path") from None
    except IsADirectoryError:
        raise DataError(f"{str(file)!r} is a folder; give the path of a file in it") from None
    except (OSError, ValueError) as error:
        raise DataError(f"file {str(file)!r} cannot be read: {error}") from None


def parse_csv(
    data: bytes, label: str, target: str | int | None, separator: str | None, header: bool | None = None
) -> Table:
    """:func:`load_csv` on the bytes of a file; ``label`` names the file in errors and in the source."""
    where = f"file {label!r}"
    text = _decode(data, where)
    separator = _detect_separator(text, where) if separator is None else _checked_separator(separator)
    head = list(islice(_records(text, separator, where), _SAMPLE))
    if not head:
        raise DataError(f"{where} is empty; expected lines of numbers, with or without a header")
    width = len(head[0][1])
    if width < 2:
        raise DataError(
            f"{where}, line {head[0][0]}: one column with the separator {separator!r}; "
            "expected features and a target: give another separator"
        )
    if header is None:
        header = _detect_header(head, where)
    names = _checked_names(head[0], where) if header else tuple(f"x{j}" for j in range(width))
    column = _target_column(target, names if header else (), width)
    X, targets, lines = _read_rows(text, separator, where, header, names, column)
    if len(lines) < 2:
        found = "a header and " if header else ""
        raise DataError(f"{where} holds {found}{len(lines)} row(s) of data; at least 2 are needed")
    y, classes = _read_target(targets, lines, names[column], where)
    return Table(Path(label).stem, X, y, names[:column] + names[column + 1 :], classes, f"file {label}")


def _decode(data: bytes, where: str) -> str:
    zero = data.find(b"\0")
    if zero >= 0:
        raise DataError(
            f"{where} is not a text file: byte {zero + 1} is 0; "
            "expected CSV text in UTF-8: export it as such (a spreadsheet, an archive or UTF-16 is not)"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{where}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from None


def _records(text: str, separator: str, where: str) -> Iterator[Record]:
    """Records that are not blank, each with the line it starts on (from 1)."""
    stream: Iterator[str] = io.StringIO(text, newline="")
    if separator == " ":
        stream = (line.rstrip() + "\n" for line in stream)
    reader = csv.reader(stream, delimiter=separator, skipinitialspace=True, strict=True)
    line = 1
    try:
        for cells in reader:
            if len(cells) > 1 or (cells and cells[0].strip()):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{where}: the record that starts on line {line} cannot be read: {error}; "
            'check its quotes: a cell is quoted whole, and a " inside it is written ""'
        ) from None


def _detect_separator(text: str, where: str) -> str:
    """The separator with the most even columns, and of those the one that leaves the most numbers."""
    best, best_score = "", (0.0, 0.0)
    found = []
    for separator in SEPARATORS:
        rows: list[list[str]] = []
        try:
            for _, cells in islice(_records(text, separator, where), _SAMPLE):
                rows.append(cells)
        except DataError:  # judged by the records before it
            pass
        counts = Counter(map(len, rows))
        if not counts:
            continue
        width, times = max(counts.items(), key=lambda item: (item[1], item[0]))
        found.append(f"{separator!r}: {width}")
        if width < 2:
            continue
        cells = list(chain.from_iterable(rows))
        score = (times / len(rows), sum(map(_is_number, cells)) / len(cells))
        if score > best_score:
            best, best_score = separator, score
    if not found:  # the first record cannot be read whatever the separator: its reader says why
        return ","
    if not best:
        raise DataError(
            f"{where}: no separator gives two or more columns on most lines (found {', '.join(found)}); "
            "expected features and a target, separated by tab, ';', ',' or space"
        )
    return best


def _checked_separator(separator: str) -> str:
    if not isinstance(separator, str) or len(separator) != 1 or separator in '"\r\n':
        raise InputError(
            f"separator is {separator!r}; allowed: one character, no quote or line end, or None to find it"
        )
    return separator


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def _detect_header(head: Sequence[Record], where: str) -> bool:
    """Whether the first record holds names: texts above columns that are mostly numbers."""
    (line, first), rest = head[0], [cells for _, cells in head[1:]]
    numeric = [_is_number(cell) for cell in first]
    if not rest:
        return not any(numeric)
    below = [
        2 * sum(_is_number(cells[j]) for cells in rest if j < len(cells)) > len(rest)
        for j in range(len(first))
    ]
    texts = [j for j in range(len(first)) if below[j] and not numeric[j]]
    numbers = [j for j in range(len(first)) if below[j] and numeric[j]]
    if not numbers:
        return bool(texts) or not any(numeric)
    counting = [first[j] for j in numbers] in ([str(j) for j in numbers], [str(j + 1) for j in numbers])
    if texts or (counting and len(numbers) > 2 and len(numbers) < len(first)):
        odd = texts[0] if texts else next(j for j in range(len(first)) if not numeric[j])
        raise DataError(
            f"{where}, line {line}: cannot tell whether it is a header: column {odd} holds {first[odd]!r} "
            f"and column {numbers[0]} the number {first[numbers[0]]!r}; mend it, or pass header=True or False"
        )
    return False


def _checked_names(record: Record, where: str) -> tuple[str, ...]:
    line, cells = record
    names = tuple(cell.strip() for cell in cells)
    if "" in names:
        raise DataError(
            f"{where}, line {line}: column {names.index('')} (counted from 0) has no name; "
            "name it, or remove it if it only numbers the rows"
        )
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise DataError(
            f"{where}, line {line}: the column name {twice[0]!r} appears {names.count(twice[0])} times; "
            "names must differ: rename all but one"
        )
    return names


def _target_column(target: str | int | None, names: Sequence[str], width: int) -> int:
    if target is None:
        return width - 1
    if isinstance(target, str):
        if target in names:
            return list(names).index(target)
        try:
            number = int(target)
        except ValueError:
            if names:
                raise UnknownNameError("target column", target, names) from None
            raise InputError(
                f"target is {target!r}, but the file has no header: give a column's number, 0 to {width - 1}"
            ) from None
    else:
        try:
            number = operator.index(target)
        except TypeError:
            raise InputError(
                f"target is {target!r}; expected a column's name or its 0-based number"
            ) from None
    if not -width <= number < width:
        listing = f" ({', '.join(names)})" if names else ""
        raise InputError(
            f"target is column {number}; there are {width}{listing}: allowed {-width} to {width - 1}"
        )
    return number % width


def _read_rows(
    text: str, separator: str, where: str, header: bool, names: Sequence[str], column: int
) -> tuple[Floats, list[str], list[int]]:
    """Features (n, d), the target's cells and each row's line."""
    # Python reads 1_000 as a number; in a data file it more likely is an identifier. Names often hold a _.
    underscore = text.find("_", text.find("\n") + 1 if header else 0) >= 0
    convert: Callable[[str], float] = _plain_float if underscore else float
    features = [name for j, name in enumerate(names) if j != column]
    values, targets, lines = array("d"), [], []
    records = islice(_records(text, separator, where), int(header), None)
    for row, (line, cells) in enumerate(records, start=1):
        if len(cells) != len(names):
            raise DataError(
                f"{where}, line {line}: {len(cells)} columns, expected {len(names)} as on the first line; "
                "mend the line (a cell that holds the separator must be quoted)"
            )
        targets.append(cells.pop(column).strip())
        lines.append(line)
        try:
            values.extend(map(convert, cells))
        except ValueError:
            j = next(j for j, cell in enumerate(cells) if not _is_number(cell))
            raise _bad_cell(where, row, line, features[j], cells[j]) from None
    X = np.array(values, dtype=np.float64).reshape(len(lines), len(features))
    bad = np.argwhere(~np.isfinite(X))
    if len(bad):
        i, j = (int(k) for k in bad[0])
        _, cells = next(islice(_records(text, separator, where), i + int(header), None))
        raise _bad_cell(where, i + 1, lines[i], features[j], cells[j + (j >= column)])
    return X, targets, lines


def _plain_float(cell: str) -> float:
    if "_" in cell:
        raise ValueError(cell)
    return float(cell)


def _bad_cell(where: str, row: int, line: int, name: str, cell: str) -> DataError:
    cell = cell.strip()
    if not cell or _is_number(cell):
        advice = "fill the cell in, or leave the row out"
    elif re.fullmatch(r"[+-]?\d+,\d+", cell):
        advice = "write numbers with a decimal point"
    else:
        advice = (
            "texts are no features here: encode them as numbers, for instance one 0/1 column for each value"
        )
    place = f"{where}, row {row} (line {line}), column {name!r}"
    return DataError(f"{place}: found {cell!r}, expected a finite number; {advice}")


def _read_target(
    cells: Sequence[str], lines: Sequence[int], name: str, where: str
) -> tuple[Floats | Labels, tuple[str, ...]]:
    """Target and class names: classes for text and few whole numbers, else one column of real numbers."""
    n, distinct = len(cells), sorted(set(cells))
    numeric = {cell: _is_number(cell) for cell in distinct}

    def culprit(is_bad: Callable[[str], bool], expected: str) -> DataError:
        i = next(i for i, cell in enumerate(cells) if is_bad(cell))
        place = f"{where}, row {i + 1} (line {lines[i]}), target column {name!r}"
        return DataError(f"{place}: found {cells[i]!r}, expected {expected}")

    if "" in numeric:
        raise culprit(lambda cell: not cell, "a class or a number; fill it in, or leave the row out")
    if any(numeric.values()) and not all(numeric.values()):
        mostly_numbers = 2 * sum(numeric[cell] for cell in cells) >= n
        raise culprit(
            lambda cell: numeric[cell] != mostly_numbers,
            f"a {'number' if mostly_numbers else 'text'} as in most rows; a target is all of one kind",
        )
    if not numeric[distinct[0]]:
        limit = max(2, min(n - 1, max(MAX_CLASSES, n // 5)))
        if len(distinct) > limit:
            raise DataError(
                f"{where}: target column {name!r} holds {len(distinct)} texts in {n} rows: {cells[0]!r}...; "
                f"expected at most {limit} classes: name another target"
            )
        return _classes(dict(zip(distinct, distinct)), distinct, cells, name, where)

    value = {cell: float(cell) for cell in distinct}
    if not all(map(math.isfinite, value.values())):
        raise culprit(
            lambda cell: not math.isfinite(value[cell]), "a finite number; fill it in, or leave the row out"
        )
    levels = sorted(set(value.values()))
    few = len(levels) <= 2 or len(levels) <= min(MAX_CLASSES, n / 5)
    if few and all(level.is_integer() for level in levels):
        names = [str(int(level)) for level in levels]
        return _classes({cell: str(int(v)) for cell, v in value.items()}, names, cells, name, where)
    if len(levels) == 1:
        raise DataError(f"{where}: target column {name!r} is {cells[0]} in every row; name another target")
    return np.array([[value[cell]] for cell in cells]), ()


def _classes(
    class_of: dict[str, str], names: Sequence[str], cells: Sequence[str], name: str, where: str
) -> tuple[Labels, tuple[str, ...]]:
    if len(names) < 2:
        raise DataError(
            f"{where}: target column {name!r} has one class only, {names[0]!r}; at least two are needed: "
            "name another target"
        )
    index = {known: i for i, known in enumerate(names)}
    return np.array([index[class_of[cell]] for cell in cells], dtype=np.int64), tuple(names)
