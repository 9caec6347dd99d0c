"""Tasks: a table of data, a seeded split into training and test rows, targets and a metric.

A :class:`TaskFamily` is what a name in the registry stands for: a function that returns a :class:`Table`, raw
data before any split. :func:`make_task` splits a table, standardises it, encodes the targets and returns a
:class:`Task`.

Targets
-------
Two classes
    One output, −1 for the first class and +1 for the second; a prediction f means the second where f > 0.
More classes
    One-hot, one output a class in the order of ``class_names``; a prediction is read by argmax.
Regression
    The real targets; where the task is standardised they are centred and scaled by the training rows as well.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkengine.errors import DataError, InputError
from ntkengine.plugins import Registry
from ntkengine.tasks.tabular import Floats, Labels, Table

__all__ = ["DataFile", "Parameter", "Scaling", "Table", "Task", "TaskFamily", "make_task", "registry"]


@dataclass(frozen=True)
class Parameter:
    """A named whole-number parameter of a task: default, closed bounds and what it does."""

    name: str
    default: int
    lower: int
    upper: int
    doc: str = ""


@dataclass(frozen=True)
class DataFile:
    """A file that a task reads and that is not part of this package: name, origin and SHA-256 (hex)."""

    filename: str
    url: str
    sha256: str


@dataclass(frozen=True, eq=False)
class Scaling:
    """Column-wise (x − mean) / std with the population std of some rows; a column with std 0 becomes 0.

    Parameters
    ----------
    mean, std : (k,) arrays

    Examples
    --------
    >>> import numpy as np
    >>> from ntkengine import tasks
    >>> scaling = tasks.Scaling.fit(np.array([[1.0, 7.0], [3.0, 7.0]]))
    >>> scaling.apply(np.array([[4.0, 7.0]]))
    array([[2., 0.]])
    """

    mean: Floats
    std: Floats

    @classmethod
    def fit(cls, columns: Floats) -> Scaling:
        """Mean and std of each column of an (n, k) array; of any size that float64 holds."""
        constant = columns.max(axis=0) == columns.min(axis=0)
        # Powers of two scale without rounding.
        _, exponent = np.frexp(np.abs(columns).max(axis=0))
        unit = np.ldexp(columns, -exponent)
        mean = np.where(constant, columns[0], np.ldexp(unit.mean(axis=0), exponent))
        std = np.where(constant, 0.0, np.ldexp(unit.std(axis=0), exponent))
        return cls(mean, std)

    def apply(self, columns: Floats) -> Floats:
        """Scaled copy of an (n, k) array; inf where the result is outside float64."""
        varies = self.std > 0
        _, exponent = np.frexp(self.std)
        with np.errstate(over="ignore"):
            centred = np.ldexp(columns, -exponent) - np.ldexp(self.mean, -exponent)
            return np.divide(centred, np.ldexp(self.std, -exponent), out=np.zeros_like(columns), where=varies)

    def undo(self, columns: Floats) -> Floats:
        """The inverse of :meth:`apply`, (n, k); a column with std 0 comes back as its mean."""
        return columns * self.std + self.mean


@dataclass(frozen=True)
class TaskFamily:
    """What a task's name stands for.

    Parameters
    ----------
    name : str
    function : callable
        ``function(**parameters) -> Table``.
    parameters : sequence of Parameter
        Whole numbers that ``function`` takes by name.
    standardize : bool
        Whether :func:`make_task` standardises when it is not told.
    doc : str
        One line for people.
    source : str
        Citation or rule.
    shape : (int, int, int), optional
        n, d and the number of classes (0: regression) at the default parameters, for listings.
    file : DataFile, optional
        The file that ``function`` reads; None: it needs none.

    Examples
    --------
    >>> from ntkengine import tasks
    >>> tasks.registry.get("parity").table(bits=3).X.shape
    (8, 3)
    """

    name: str
    function: Callable[..., Table]
    parameters: Sequence[Parameter] = ()
    standardize: bool = True
    doc: str = ""
    source: str = ""
    shape: tuple[int, int, int] | None = None
    file: DataFile | None = None

    def resolve(self, values: Mapping[str, Any]) -> dict[str, int]:
        """Every parameter with its value: the given ones, checked, and the others' defaults.

        Raises
        ------
        InputError
            If a parameter does not exist, is not a whole number, or is out of bounds.
        """
        known = {p.name: p for p in self.parameters}
        resolved = {p.name: p.default for p in self.parameters}
        for name, value in values.items():
            if name not in known:
                listing = ", ".join(known) or "none"
                raise InputError(f"task {self.name!r} has no parameter {name!r}; its parameters: {listing}")
            lower, upper = known[name].lower, known[name].upper
            number = _integer(value)
            if number is None or not lower <= number <= upper:
                raise InputError(
                    f"parameter {name!r} of task {self.name!r} is {value!r}; "
                    f"allowed: whole numbers from {lower} to {upper}"
                )
            resolved[name] = number
        return resolved

    def table(self, **values: int) -> Table:
        """The table at these parameters; the others at their defaults.

        Raises
        ------
        InputError
            If a parameter is not allowed.
        DataError
            If the data cannot be found or used.
        """
        table = self.function(**self.resolve(values))
        if not isinstance(table, Table):
            raise DataError(
                f"task {self.name!r} returned {type(table).__name__}; "
                "its function must return an ntkengine.tasks.Table"
            )
        return table


@dataclass(frozen=True, eq=False)
class Task:
    """Data ready for training; :func:`make_task` makes one.

    Parameters
    ----------
    name : str
    X_train, X_test : (n_train, d) and (n_test, d) float64 arrays
    Y_train, Y_test : (n_train, m) and (n_test, m) float64 arrays
        Targets: −1/+1 for two classes (m = 1), one-hot for more (m classes), real numbers for regression.
    labels_train, labels_test : (n_train,) and (n_test,) int64 arrays or None
        Class indices; None for regression.
    class_names : tuple of str
        Empty for regression.
    standardized : bool
    seed : int
    train_fraction : float
    source : str
    fingerprint : str
        SHA-256 of the table before the split (:attr:`Table.fingerprint`).
    feature_names : tuple of str
    parameters : mapping of str to int
        The task family's parameters.
    input_scaling, target_scaling : Scaling or None
        What the training rows gave; for new rows, and to bring predictions of a regression back to its units.
    loss : "mse"
    metric : "accuracy" or None
    """

    name: str
    X_train: Floats
    Y_train: Floats
    X_test: Floats
    Y_test: Floats
    labels_train: Labels | None
    labels_test: Labels | None
    class_names: tuple[str, ...]
    standardized: bool
    seed: int
    train_fraction: float
    source: str
    fingerprint: str
    feature_names: tuple[str, ...] = ()
    parameters: Mapping[str, int] = field(default_factory=dict)
    input_scaling: Scaling | None = None
    target_scaling: Scaling | None = None
    loss: Literal["mse"] = "mse"
    metric: Literal["accuracy"] | None = None

    @property
    def n_inputs(self) -> int:
        """Number of features, d."""
        return self.X_train.shape[1]

    @property
    def n_outputs(self) -> int:
        """Number of outputs, m."""
        return self.Y_train.shape[1]

    @property
    def norms_vary(self) -> bool:
        """Whether |x|²/d differs between training rows by more than 1e-9 of the largest."""
        norms = np.einsum("ij,ij->i", self.X_train, self.X_train)
        return bool(norms.max() - norms.min() > 1e-9 * norms.max())

    @property
    def chance_accuracy(self) -> float | None:
        """Share of the most frequent class among the test rows; None for regression."""
        if self.labels_test is None:
            return None
        return float(np.bincount(self.labels_test).max() / len(self.labels_test))

    def accuracy(self, outputs: ArrayLike, split: Literal["train", "test"] = "test") -> Any:
        """Share of rows whose class the outputs name: by sign for two classes, by argmax for more.

        A row with an output that is not finite counts as wrong; 0 names the first of two classes.

        Parameters
        ----------
        outputs : (..., n, m) array
            Predictions for the rows of the split; leading axes, such as ensemble members, are kept.
        split : "train" or "test"
            Whose labels the outputs are compared with.

        Returns
        -------
        float or (...) array of float64

        Raises
        ------
        InputError
            If the task is a regression, the split is unknown, or the shape does not fit.

        Examples
        --------
        >>> from ntkengine import tasks
        >>> task = tasks.make_task("parity", bits=4)
        >>> task.accuracy(task.Y_test)
        1.0
        """
        if split not in ("train", "test"):
            raise InputError(f"split is {split!r}; allowed: 'train' and 'test'")
        labels = self.labels_train if split == "train" else self.labels_test
        if labels is None:
            raise InputError(f"task {self.name!r} is a regression and has no accuracy; use the loss")
        f = np.asarray(outputs, dtype=np.float64)
        if f.shape[-2:] != (len(labels), self.n_outputs):
            raise InputError(
                f"outputs has shape {f.shape}; "
                f"expected (..., {len(labels)}, {self.n_outputs}) for the {split} rows"
            )
        found = f[..., 0] > 0 if self.n_outputs == 1 else f.argmax(axis=-1)
        share = ((found == labels) & np.isfinite(f).all(axis=-1)).mean(axis=-1)
        return float(share) if share.ndim == 0 else share


def _check(name: str, found: Any) -> TaskFamily:
    if not isinstance(found, TaskFamily):
        raise TypeError(f"expected an ntkengine.tasks.TaskFamily, found {type(found).__name__}")
    return found


def _builtins() -> dict[str, str]:
    from ntkengine.tasks import BUILTIN_TASKS

    return {name: f"ntkengine.tasks.builtin:{name.replace('-', '_')}_family" for name in BUILTIN_TASKS}


#: Every task family by name, built-ins and plugins.
registry: Registry[TaskFamily] = Registry("task", "ntkengine.tasks", _builtins, _check)


def make_task(
    name_or_table: str | Table,
    *,
    train_fraction: float = 0.5,
    seed: int = 0,
    standardize: bool | None = None,
    **task_parameters: int,
) -> Task:
    """Split a table into training and test rows, standardise the features and encode the targets.

    The rows are ordered by the raw 64-bit output of PCG64 seeded by ``SeedSequence(seed)``, and the first
    ``train_fraction`` of them, rounded half up, are for training: the same on any machine and numpy version.
    Mean and std come from the training rows; a feature that is constant there becomes 0. A class may be
    absent from the training rows.

    Parameters
    ----------
    name_or_table : str or Table
        A registered task, such as ``"wine-quality-red"``, or a table (:func:`ntkengine.tasks.load_csv`).
    train_fraction : float
        Between 0 and 1, both excluded; at least one row must fall on each side.
    seed : int
        Of the split, at least 0.
    standardize : bool, optional
        None: the task family's default; True for a table.
    **task_parameters : int
        Parameters of the task family, such as ``bits`` of ``"parity"``.

    Returns
    -------
    Task

    Raises
    ------
    UnknownNameError
        If no task has that name; the text lists them and suggests the nearest.
    InputError
        If an argument is not allowed.
    DataError
        If the data cannot be found, or a standardised value is outside float64.

    Examples
    --------
    >>> from ntkengine import tasks
    >>> task = tasks.make_task("balance-scale", train_fraction=0.8, seed=1)
    >>> task.X_train.shape, task.Y_test.shape, task.class_names
    ((500, 4), (125, 3), ('L', 'B', 'R'))
    """
    family, table, parameters = _table(name_or_table, task_parameters)
    seed = _checked_seed(seed)
    train_fraction, n_train = _checked_fraction(train_fraction, len(table.X))
    if standardize is None:
        standardize = family.standardize if family is not None else True
    elif not isinstance(standardize, (bool, np.bool_)):
        raise InputError(
            f"standardize is {standardize!r}; allowed: True, False, or None for the task's own default"
        )

    order = _permutation(len(table.X), seed)
    rows = {"train": order[:n_train], "test": order[n_train:]}
    X = {split: table.X[index] for split, index in rows.items()}
    input_scaling = None
    if standardize:
        input_scaling = Scaling.fit(X["train"])
        X = {split: input_scaling.apply(values) for split, values in X.items()}
        _require_finite(table, X["test"])

    labels: dict[str, Labels | None]
    target_scaling = None
    if table.class_names:
        indices = {split: table.y[index].astype(np.int64, copy=False) for split, index in rows.items()}
        labels = {**indices}
        Y = {split: _encode(values, len(table.class_names)) for split, values in indices.items()}
    else:
        labels = {"train": None, "test": None}
        Y = {split: table.y[index].astype(np.float64, copy=False) for split, index in rows.items()}
        if standardize:
            fitted = Scaling.fit(Y["train"])
            # A target that is constant on the training rows is centred only: test rows keep theirs.
            target_scaling = Scaling(fitted.mean, np.where(fitted.std > 0, fitted.std, 1.0))
            Y = {split: target_scaling.apply(values) for split, values in Y.items()}
    return Task(
        name=table.name,
        X_train=X["train"],
        Y_train=Y["train"],
        X_test=X["test"],
        Y_test=Y["test"],
        labels_train=labels["train"],
        labels_test=labels["test"],
        class_names=table.class_names,
        standardized=bool(standardize),
        seed=seed,
        train_fraction=train_fraction,
        source=table.source,
        fingerprint=table.fingerprint,
        feature_names=table.feature_names,
        parameters=parameters,
        input_scaling=input_scaling,
        target_scaling=target_scaling,
        metric="accuracy" if table.class_names else None,
    )


def _table(given: str | Table, values: Mapping[str, int]) -> tuple[TaskFamily | None, Table, dict[str, int]]:
    if isinstance(given, Table):
        if values:
            raise InputError(f"a table has no parameters, but {', '.join(values)} was given: leave it out")
        return None, given, {}
    if not isinstance(given, str):
        raise InputError(f"a task is a registered name or a Table, not {given!r}")
    if given not in registry and ("/" in given or given.lower().endswith((".csv", ".tsv", ".txt"))):
        raise InputError(f"{given!r} looks like a file, not a task's name: pass load_csv({given!r})")
    family = registry.get(given)
    parameters = family.resolve(values)
    return family, family.table(**parameters), parameters


def _integer(value: Any) -> int | None:
    """``value`` as an int, or None where it is not a whole number (a bool is not)."""
    if isinstance(value, (bool, np.bool_)):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _checked_seed(seed: int) -> int:
    number = _integer(seed)
    if number is None or number < 0:
        raise InputError(f"seed is {seed!r}; allowed: whole numbers from 0")
    return number


def _checked_fraction(fraction: float, n: int) -> tuple[float, int]:
    try:
        number = float(fraction)
    except (TypeError, ValueError):
        number = math.nan
    if not 0.0 < number < 1.0:
        raise InputError(f"train_fraction is {fraction!r}; allowed: a number between 0 and 1, both excluded")
    n_train = math.floor(number * n + 0.5)
    if not 1 <= n_train <= n - 1:
        raise InputError(
            f"train_fraction {number:g} of {n} rows leaves {n_train} for training, {n - n_train} for test; "
            f"each side needs at least 1: give a fraction from {1 / n:.3g} to {1 - 1 / n:.3g}"
        )
    return number, n_train


def _permutation(n: int, seed: int) -> NDArray[np.intp]:
    """Order of n rows; bit streams are kept over numpy versions, ``Generator.permutation`` need not be."""
    return np.argsort(np.random.PCG64(np.random.SeedSequence(seed)).random_raw(n), kind="stable")


def _encode(labels: Labels, n_classes: int) -> Floats:
    """Targets (n, 1) of ±1 for two classes, one-hot (n, n_classes) for more."""
    if n_classes == 2:
        return (2 * labels - 1).astype(np.float64)[:, None]
    Y: Floats = np.zeros((len(labels), n_classes))
    Y[np.arange(len(labels)), labels] = 1.0
    return Y


def _require_finite(table: Table, X_test: Floats) -> None:
    columns = np.flatnonzero(~np.isfinite(X_test).all(axis=0))
    if len(columns):
        raise DataError(
            f"table {table.name!r}: feature {table.feature_names[columns[0]]!r} overflows when standardised: "
            "its test values are too far from its training values; rescale it, or pass standardize=False"
        )
