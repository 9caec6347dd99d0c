"""A run in memory: configuration, named arrays, small results. Knows nothing of files."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkengine.errors import InputError

__all__ = ["SCHEMA", "STATUSES", "Run", "Variable", "is_run_id", "plain_json"]

#: Version of the file layout that this package writes.
SCHEMA = 1

#: What a run's status may be.
STATUSES = ("complete", "interrupted")

_KIND = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_RUN_ID = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[A-Za-z0-9][A-Za-z0-9_-]{0,63}-[0-9a-f]{6}")
_PACKAGES = ("ntkengine", "numba", "numpy", "scipy", "h5py")
_MAX_JSON_DEPTH = 100  # far below the interpreter's recursion limit, so that what was written can be read
_MAX_JSON_BITS = 4096  # Python refuses to read back integers of more than 4300 digits
_REAL = frozenset({"float16", "float32", "float64", "int8", "int16", "int32", "int64"}) | frozenset(
    {"uint8", "uint16", "uint32", "uint64", "bool"}
)


# --- variables ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Variable:
    """An array with a name for each of its dimensions.

    Two variables are equal when their names, texts, dtypes and bits are: NaN equals NaN, and -0.0 is not 0.0.

    Parameters
    ----------
    dims : tuple of str
        One Python identifier per axis, without leading underscore, all different.
    values : array_like
        Real floats (16, 32, 64 bits), integers, bools or text. Kept without a copy where it is already an
        array of such a dtype in native byte order. Text becomes a ``str`` array of the least width.
    units, doc : str
        For people; stored as the CF attributes ``units`` and ``long_name``.

    Raises
    ------
    InputError
        If the number of names is not the number of axes, a name or the dtype is not allowed, or a text
        holds what HDF5 cannot keep (NUL, half a surrogate pair).

    Examples
    --------
    >>> from ntkengine.store import Variable
    >>> loss = Variable(("epoch", "net"), [[1.0, 0.9], [0.5, 0.4]], doc="training loss")
    >>> loss.values.shape
    (2, 2)
    """

    dims: tuple[str, ...]
    values: NDArray[Any]
    units: str = ""
    doc: str = ""

    def __post_init__(self) -> None:
        dims = (self.dims,) if isinstance(self.dims, str) else tuple(self.dims)
        for dim in dims:
            _check_name("dimension", dim)
        if len(set(dims)) != len(dims):
            raise InputError(
                f"dims {dims} name one dimension twice; give each axis its own name, such as 'sample_2'"
            )
        values = _check_values(self.values)
        if values.ndim != len(dims):
            raise InputError(
                f"dims {dims} name {len(dims)} axes, but values have shape {values.shape}; name each once"
            )
        _check_text("units", self.units)
        _check_text("doc", self.doc)
        object.__setattr__(self, "dims", dims)
        object.__setattr__(self, "values", values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Variable):
            return NotImplemented
        return (
            (self.dims, self.units, self.doc) == (other.dims, other.units, other.doc)
            and self.values.dtype == other.values.dtype
            and self.values.shape == other.values.shape
            and self.values.tobytes() == other.values.tobytes()
        )

    __hash__ = None  # type: ignore[assignment]


def _check_name(what: str, name: object) -> None:
    if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
        raise InputError(
            f"{what} name {name!r} is not allowed; use letters, digits and underscores, a letter first"
        )


def _check_text(what: str, text: object) -> None:
    if not isinstance(text, str):
        raise InputError(f"{what} must be text, not {text!r}")
    if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
        raise InputError(
            f"{what} {text!r} holds a NUL or half a surrogate pair, which HDF5 cannot keep; remove it"
        )


def _check_values(values: Any) -> NDArray[Any]:
    if isinstance(values, np.ma.MaskedArray):
        raise InputError(
            "values are a masked array, whose mask would be lost; fill it first, for example with nan"
        )
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InputError(f"values do not form an array: {error}") from None
    if array.dtype.kind == "U" and not isinstance(values, np.ndarray):
        # numpy has turned numbers among texts to text, and cut trailing NULs.
        array = np.asarray(values, dtype=object)
    if array.dtype.kind in "OUT":
        return _as_text(array)
    if array.dtype.name not in _REAL:
        raise InputError(
            f"values have dtype {array.dtype}; allowed: real floats of 16, 32 or 64 bits, integers, bools, "
            "text (store a complex array as two real ones)"
        )
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _as_text(array: NDArray[Any]) -> NDArray[np.str_]:
    """A ``str`` array of the least width that holds every element."""
    elements = array.reshape(-1).tolist()
    for element in elements:
        if not isinstance(element, str):
            raise InputError(
                f"values hold {element!r} ({type(element).__name__}) in an array of dtype {array.dtype}; "
                "allowed: real numbers, bools, or text throughout"
            )
        _check_text("a text among the values", element)
    width = max(map(len, elements), default=1)
    return np.array(elements, dtype=f"U{max(width, 1)}").reshape(array.shape)


# --- JSON ---------------------------------------------------------------------------------------------------


def plain_json(value: Any, where: str = "value") -> Any:
    """The value as JSON keeps it: dicts with text keys, lists, text, numbers, bools, None.

    numpy scalars and arrays become numbers and nested lists, tuples become lists. JSON has no NaN:
    non-finite floats become the texts ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``, which ``float()``
    turns back.

    Parameters
    ----------
    value : object
        What to convert.
    where : str
        The argument's name, for errors.

    Raises
    ------
    InputError
        If something else is inside, a key is not text, or the nesting has no end; the text says where.

    Examples
    --------
    >>> import numpy as np
    >>> plain_json({"seed": np.int64(3), "losses": np.array([0.5, np.inf]), "shape": (2, 3)})
    {'seed': 3, 'losses': [0.5, 'Infinity'], 'shape': [2, 3]}
    """
    return _plain(value, where, 0)


def _plain(value: Any, where: str, depth: int) -> Any:
    if depth > _MAX_JSON_DEPTH:
        raise InputError(
            f"{where[:80]}... is nested more than {_MAX_JSON_DEPTH} deep, or holds itself; flatten it"
        )
    if value is None or isinstance(value, bool | np.bool_):
        return None if value is None else bool(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int | np.integer):
        if int(value).bit_length() > _MAX_JSON_BITS:
            raise InputError(
                f"{where} is an integer of {int(value).bit_length()} bits; allowed: {_MAX_JSON_BITS}"
            )
        return int(value)
    if isinstance(value, float | np.floating):
        number = float(value)
        if math.isfinite(number):
            return number
        return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InputError(f"{where} has the key {key!r}; JSON keys are text: use str(key)")
        return {str.__str__(key): _plain(item, f"{where}[{key!r}]", depth + 1) for key, item in value.items()}
    if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
        return _plain(value.tolist(), where, depth)
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    raise InputError(
        f"{where} is {value!r} ({type(value).__name__}), which JSON cannot hold; "
        "allowed: dict, list, text, numbers, bools, None, numpy scalars and arrays"
    )


# --- runs ---------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """The record of one experiment. Make one with :meth:`Run.new`.

    Parameters
    ----------
    kind : str
        The experiment's name, such as ``"shallowify"``: letters, digits, ``-`` and ``_``.
    config : dict
        The whole configuration, seeds included; what :func:`plain_json` can turn to JSON.
    variables : dict of str to Variable
        A variable whose name equals its only dimension is that dimension's coordinate (``"epoch"``,
        ``"angle"``).
    results : dict
        Small results, such as the numbers of a table; JSON as ``config`` is.
    status : {"complete", "interrupted"}
    created : str
        UTC time in ISO format.
    id : str
        Names the run and its file; sorts by time.
    versions, device : dict
        Software versions by package; platform, CPU and number of cores.
    schema : int
        Version of the layout.

    Examples
    --------
    >>> from ntkengine.store import Run, Variable
    >>> run = Run.new("demo", {"seed": 0})
    >>> run.variables["epoch"] = Variable(("epoch",), [0, 10, 20])
    >>> run.variables["loss"] = Variable(("epoch",), [1.0, 0.5, 0.25])
    >>> run.results["final loss"] = 0.25
    >>> run.validate()
    {'epoch': 3}
    """

    kind: str
    config: dict[str, Any]
    variables: dict[str, Variable]
    results: dict[str, Any]
    status: str
    created: str
    id: str
    versions: dict[str, Any] = field(default_factory=dict)
    device: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    @classmethod
    def new(
        cls,
        kind: str,
        config: dict[str, Any],
        variables: dict[str, Variable] | None = None,
        results: dict[str, Any] | None = None,
        status: str = "complete",
    ) -> Run:
        """A run created now, on this machine, with these versions of the software.

        Parameters
        ----------
        kind, config, variables, results, status
            As for the class.

        Returns
        -------
        Run
            Its ``id`` differs from every other process's, and runs created one after the other sort in that
            order.

        Raises
        ------
        InputError
            If ``kind`` cannot be part of a file's name.
        """
        if not isinstance(kind, str) or not _KIND.fullmatch(kind):
            raise InputError(
                f"kind {kind!r} is not allowed; use up to 64 letters, digits, '-' and '_', no '-' first"
            )
        moment = _next_moment()
        return cls(
            kind=kind,
            config=config,
            variables={} if variables is None else variables,
            results={} if results is None else results,
            status=status,
            created=moment.isoformat(timespec="microseconds"),
            id=f"{moment:%Y%m%dT%H%M%S.%f}Z-{kind}-{secrets.token_hex(3)}",
            versions=dict(_versions()),
            device=dict(_device()),
        )

    def validate(self) -> dict[str, int]:
        """Check everything but the JSON; return each dimension's size, in order of appearance.

        Raises
        ------
        InputError
            If two variables disagree on a dimension's size, a name is not allowed or is both a dimension's
            and another variable's, or kind, id, status or schema is not what this package writes.
        """
        if not isinstance(self.kind, str) or not _KIND.fullmatch(self.kind):
            raise InputError(f"kind {self.kind!r} is not allowed; use up to 64 letters, digits, '-' and '_'")
        if not is_run_id(self.id):
            raise InputError(f"id {self.id!r} is not a run id; make the run with Run.new")
        if self.status not in STATUSES:
            raise InputError(f"status {self.status!r} is not allowed; use one of {', '.join(STATUSES)}")
        if self.schema != SCHEMA:
            raise InputError(f"schema is {self.schema!r}, but this version of ntkengine writes {SCHEMA}")
        _check_text("created", self.created)
        return check_dimensions(self.variables)


def check_dimensions(variables: Mapping[str, Variable]) -> dict[str, int]:
    """Size of each dimension, in order of appearance; InputError where variables contradict each other."""
    sizes: dict[str, int] = {}
    first: dict[str, str] = {}
    for name, variable in variables.items():
        _check_name("variable", name)
        if not isinstance(variable, Variable):
            raise InputError(
                f"variables[{name!r}] is a {type(variable).__name__}; wrap it: Variable(dims, values)"
            )
        for dim, size in zip(variable.dims, variable.values.shape):
            if sizes.setdefault(dim, size) != size:
                raise InputError(
                    f"variable {name!r} has size {size} along {dim!r}, but {first[dim]!r} has {sizes[dim]}; "
                    "one dimension has one size"
                )
            first.setdefault(dim, name)
    for name, variable in variables.items():
        if name in sizes and variable.dims != (name,):
            raise InputError(
                f"variable {name!r} has the name of a dimension, but dims {variable.dims}; "
                f"only ({name!r},) is allowed: rename the variable or the dimension"
            )
    return sizes


def is_run_id(text: object) -> bool:
    """Whether the text has the form of a run's id; such a text is a safe file name."""
    return isinstance(text, str) and _RUN_ID.fullmatch(text) is not None


_moment_lock = threading.Lock()
_last_moment = datetime.min.replace(tzinfo=UTC)


def _next_moment() -> datetime:
    """Now, but at least a microsecond after the last answer: a clock may stand still, or be set back."""
    global _last_moment
    with _moment_lock:
        _last_moment = max(datetime.now(UTC), _last_moment + timedelta(microseconds=1))
        return _last_moment


@lru_cache(maxsize=1)
def _versions() -> tuple[tuple[str, str], ...]:
    found = [("python", platform.python_version())]
    for package in _PACKAGES:
        try:
            found.append((package, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            found.append((package, "unknown"))
    return tuple(found)


@lru_cache(maxsize=1)
def _device() -> tuple[tuple[str, str | int], ...]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (("platform", platform.platform()), ("cpu", _cpu_name()), ("cores", usable or 1))


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()
