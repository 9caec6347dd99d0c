"""Training of finite networks by SGD: checks, snapshots and the record; the compiled steps are in :mod:`._sgd_cpu`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkengine import _jit
from ntkengine._jit import thread_count
from ntkengine.errors import InputError
from ntkengine.finite import _layers_cpu, _sgd_cpu
from ntkengine.finite.network import Networks, check_inputs, row_block

__all__ = [
    "History",
    "TrainingInterrupted",
    "check_options",
    "choose_plan",
    "compile_steps",
    "log_spaced",
    "train",
]

Floats = NDArray[np.float64]

#: A gradient of more bytes than this is not accumulated in lanes (plan "rows") if the network is deep.
_ROWS_GRADIENT_BYTES = 512 * 1024
#: Seconds of one call into compiled code: how long Ctrl-C and progress may wait.
_CALL_SECONDS = 0.2
#: Largest array of row orders made at once.
_ORDER_BYTES = 16 * 2**20


@dataclass
class History:
    """What a training saw: S snapshots of E members.

    Attributes
    ----------
    epochs : (S,) int array
        Epochs finished at each snapshot; the first is 0, before any step.
    train_loss, test_loss : (E, S) arrays
        Mean over samples of the sum over outputs of (f − y)², NaN after a member diverged; test_loss None without test data.
    train_accuracy, test_accuracy : (E, S) arrays or None
        Fraction of rows whose predicted class is right (sign of a single output, else the largest output).
    diverged_at : (E,) int array
        Step (from 1) at which a member's loss was no longer finite, 0 if it stayed so.
    steps : int
        SGD steps asked of every member.
    step_seconds : float
        Wall time of the steps alone divided by their number and by E: seconds a step of one network.
    """

    epochs: NDArray[np.int64]
    train_loss: Floats
    test_loss: Floats | None
    train_accuracy: Floats | None
    test_accuracy: Floats | None
    diverged_at: NDArray[np.int64]
    lr: float
    batch_size: int
    centered: bool
    steps: int = 0
    step_seconds: float = float("nan")
    interrupted: bool = field(default=False)

    def _truncate(self, snapshots: int) -> None:
        self.epochs = self.epochs[:snapshots]
        for name in ("train_loss", "test_loss", "train_accuracy", "test_accuracy"):
            values = getattr(self, name)
            if values is not None:
                setattr(self, name, values[:, :snapshots])


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during training; ``history`` holds the snapshots taken until then."""

    def __init__(self, history: History) -> None:
        super().__init__("training was interrupted")
        self.history = history


def log_spaced(epochs: int, count: int = 64) -> NDArray[np.int64]:
    """About ``count`` epochs from 0 to ``epochs``, both included, evenly spaced in log(1 + epoch).

    >>> log_spaced(100, 8)
    array([  0,   1,   3,   6,  13,  26,  51, 100])
    """
    if epochs < 0:
        raise InputError(f"epochs must be ≥ 0, not {epochs}")
    points = np.expm1(np.linspace(0.0, np.log1p(epochs), max(int(count), 2)))
    return np.unique(np.rint(points).astype(np.int64))


def choose_plan(nets: Networks) -> str:
    """``"rows"`` or ``"layers"`` (see :mod:`._sgd_cpu`), from the shape of the networks alone."""
    shallow = len(nets.fan) == 3
    return "rows" if shallow or nets.n_parameters * nets.dtype.itemsize <= _ROWS_GRADIENT_BYTES else "layers"


def _targets(y: ArrayLike, rows: int, outputs: int, name: str, of: str) -> Floats:
    array = np.asarray(y)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{name} must hold real numbers, not {array.dtype}")
    array = np.asarray(array, dtype=np.float64)
    if array.ndim == 1:
        array = array[:, None]
    if array.shape != (rows, outputs):
        raise InputError(
            f"{name} has shape {np.shape(y)}; {of} has {rows} rows and the networks {outputs} outputs"
        )
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise InputError(f"{name}[{row}, {column}] is {array[row, column]}; every target must be finite")
    return array


def _accuracy(outputs: NDArray[Any], y: Floats) -> Floats:
    """Share of right classes, (E,): sign of one output, else the largest of several."""
    if y.shape[1] == 1:
        right = (outputs[:, :, 0] > 0) == (y[:, 0] > 0)[None]
    else:
        right = outputs.argmax(axis=2) == y.argmax(axis=1)[None]
    return right.mean(axis=1)


def _loss(outputs: NDArray[Any], y: Floats) -> Floats:
    with np.errstate(over="ignore", invalid="ignore"):
        gap = outputs.astype(np.float64) - y[None]
        return (gap * gap).sum(axis=2).mean(axis=1)


def train(
    nets: Networks,
    X: ArrayLike,
    Y: ArrayLike,
    *,
    lr: float,
    epochs: int,
    batch_size: int | None = None,
    loss: str = "mse",
    centered: bool = True,
    X_test: ArrayLike | None = None,
    Y_test: ArrayLike | None = None,
    metric: str | None = None,
    snapshots: Iterable[int] | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> History:
    """Train every member by SGD, in place, and return what happened.

    Parameters
    ----------
    nets : Networks
        Changed in place; on return it holds the trained parameters.
    X : (n, d) array
    Y : (n, m) array, or (n,) when m = 1
    lr : float > 0
        Learning rate for the loss below. ([LXS] uses half that loss: its rate is twice this one.)
    epochs : int ≥ 0
        Passes over the rows; with a full batch, steps.
    batch_size : int, optional
        Rows a step; None or ≥ n: full batch. Minibatches are drawn without replacement, in an order shuffled every epoch
        by the member's own stream; the last of an epoch may be smaller and is averaged over its own rows.
    loss : "mse"
        Mean over samples of the sum over outputs of (f − y)², without ½ (DESIGN §2, as in [RE]).
    centered : bool
        Train f(x; θ) − f(x; θ₀) instead of f(x; θ), as [RE] does: the outputs start at zero.
    X_test, Y_test : arrays, optional
        Only measured, never trained on.
    metric : "accuracy", optional
        Also measure the share of rows whose class is right: the sign of a single output, else the largest output.
    snapshots : sequence of int, optional
        Epochs at which losses are measured; default :func:`log_spaced`. 0 and ``epochs`` are always included.
    seed : int
        Of the minibatch order; member i uses stream i whatever the other members are.
    device : "auto" or "cpu"
    threads : int, optional
        The results do not depend on it, to the last bit.
    progress : callable, optional
        Called as ``progress(epochs_done, epochs)`` a few times a second.

    Returns
    -------
    History

    Raises
    ------
    InputError
        If shapes disagree, a number is not finite, or an option is out of range.
    TrainingInterrupted
        On Ctrl-C, with the history so far.

    Examples
    --------
    >>> import numpy as np, ntkengine as nk
    >>> X = np.random.default_rng(0).standard_normal((32, 3)); y = np.sign(X[:, 0])
    >>> nets = nk.FCN("relu", w_std=2**0.5).init(width=128, n_inputs=3, seed=0, members=2)
    >>> history = nk.train(nets, X, y, lr=0.2, epochs=50)
    >>> bool((history.train_loss[:, -1] < 0.5 * history.train_loss[:, 0]).all())
    True
    """
    x64 = check_inputs(X, nets.n_inputs)
    y = _targets(Y, x64.shape[0], nets.n_outputs, "Y", "X")
    if (X_test is None) != (Y_test is None):
        raise InputError("X_test and Y_test go together: give both or neither")
    x_test = None if X_test is None else check_inputs(X_test, nets.n_inputs, "X_test")
    y_test = (
        None
        if x_test is None or Y_test is None
        else _targets(Y_test, x_test.shape[0], nets.n_outputs, "Y_test", "X_test")
    )
    n = x64.shape[0]
    rate, batch = check_options(lr, epochs, batch_size, n, loss, metric, device)

    marks = (
        log_spaced(epochs)
        if snapshots is None
        else np.asarray(sorted({0, epochs, *map(int, snapshots)}), np.int64)
    )
    if marks[0] < 0 or marks[-1] > epochs:
        raise InputError(
            f"snapshots must lie between 0 and epochs = {epochs}, not {int(marks[0])} to {int(marks[-1])}"
        )

    shape = (nets.members, marks.size)

    def blank(wanted: bool) -> Any:
        return np.full(shape, np.nan) if wanted else None

    measured = metric is not None
    history = History(
        epochs=marks,
        train_loss=np.full(shape, np.nan),
        test_loss=blank(y_test is not None),
        train_accuracy=blank(measured),
        test_accuracy=blank(measured and y_test is not None),
        diverged_at=np.zeros(nets.members, np.int64),
        lr=rate,
        batch_size=batch,
        centered=bool(centered),
    )
    with _jit.threads(threads) as count:
        _Trainer(nets, x64, y, x_test, y_test, history, seed, count).run(progress)
    return history


def compile_steps(nets: Networks) -> None:
    """Compile, or load from the cache, all that :func:`train` needs for networks of this shape; trains nothing."""
    x, y = np.zeros((2, nets.n_inputs)), np.zeros((2, nets.n_outputs))
    toy = Networks.init(
        nets.fcn,
        width=1,
        n_inputs=nets.n_inputs,
        n_outputs=nets.n_outputs,
        members=thread_count() + 1,
        dtype=nets.dtype,
    )
    blank = np.zeros((toy.members, 2))
    history = History(
        np.array([0, 1]), blank, None, None, None, np.zeros(toy.members, np.int64), 1e-9, 2, False
    )
    with _jit.threads() as count:
        trainer = _Trainer(toy, x, y, None, None, history, 0, count)
        trainer.plan = choose_plan(nets)
        trainer.run(None)


def check_options(
    lr: float, epochs: int, batch_size: int | None, n: int, loss: str, metric: str | None, device: str
) -> tuple[float, int]:
    """The learning rate and the batch size of :func:`train`; InputError for what is not allowed."""
    try:
        rate = float(lr)
    except (TypeError, ValueError):
        raise InputError(f"lr must be a number > 0, not {lr!r}") from None
    if not np.isfinite(rate) or rate <= 0:
        raise InputError(f"lr must be finite and > 0, not {lr!r}")
    if isinstance(epochs, bool) or not isinstance(epochs, (int, np.integer)) or epochs < 0:
        raise InputError(f"epochs must be an integer ≥ 0, not {epochs!r}")
    if batch_size is not None and (
        isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1
    ):
        raise InputError(f"batch_size must be an integer ≥ 1 or None (full batch), not {batch_size!r}")
    if batch_size is not None and batch_size > n:
        raise InputError(
            f"batch_size {batch_size} exceeds the {n} training rows; use None for the full batch"
        )
    if loss != "mse":
        raise InputError(f"loss must be 'mse', not {loss!r}")
    if metric not in (None, "accuracy"):
        raise InputError(f"metric must be 'accuracy' or None, not {metric!r}")
    if device not in ("auto", "cpu"):
        raise InputError(
            f"device must be 'auto' or 'cpu', not {device!r}: this version trains on CPU threads only"
        )
    return rate, n if batch_size is None else int(batch_size)


class _Trainer:
    """One call of :func:`train`: prepared arrays, the loop over calls into compiled code, the measurements."""

    def __init__(
        self,
        nets: Networks,
        x: Floats,
        y: Floats,
        x_test: Floats | None,
        y_test: Floats | None,
        history: History,
        seed: int,
        threads: int,
    ) -> None:
        self.nets, self.history, self.seed, self.threads = nets, history, seed, threads
        self.y, self.y_test = y, y_test
        self.layout = nets.layout()
        self.x, self.row_scale = nets.prepare(x)
        self.test = None if x_test is None else nets.prepare(x_test)
        self.plan = choose_plan(nets)
        self.block = row_block(nets.fan, nets.dtype, min(history.batch_size, x.shape[0]))
        self.offset: Any = 0.0
        self.test_offset: Any = 0.0
        if history.centered:
            initial = nets.initial().theta
            self.offset = self._forward(initial, self.x, self.row_scale)
            if self.test is not None:
                self.test_offset = self._forward(initial, *self.test)
        shape = (nets.members, *y.shape)
        self.targets = np.ascontiguousarray(np.broadcast_to(y[None] + self.offset, shape), nets.dtype)
        self.seconds = 0.0

    def _forward(self, thetas: Any, rows: Any, scale: Any) -> Any:
        block = row_block(self.nets.fan, self.nets.dtype, rows.shape[0])
        return _sgd_cpu.forward_members(self.layout, thetas, rows, scale, block, self.threads)

    def _orders(self, first_epoch: int, epochs: int) -> NDArray[np.int32]:
        """Row orders (C, E, n) of some epochs; one, unshuffled, for the full batch."""
        n = self.x.shape[0]
        if self.history.batch_size >= n:
            return np.ascontiguousarray(
                np.broadcast_to(np.arange(n, dtype=np.int32), (1, self.nets.members, n))
            )
        orders = np.empty((epochs, self.nets.members, n), np.int32)
        for e, member in enumerate(self.nets.member_numbers):
            for i in range(epochs):
                stream = np.random.SeedSequence(self.seed, spawn_key=(member, 1, first_epoch + i))
                orders[i, e] = np.random.Generator(np.random.PCG64(stream)).permutation(n)
        return orders

    def _epochs(self, first_epoch: int, epochs: int) -> None:
        failed = np.where(self.history.diverged_at > 0, 0, -1)
        job = _sgd_cpu.Job(
            self.x,
            self.row_scale,
            epochs,
            self.history.batch_size,
            self.block,
            self.nets.dtype.type(self.history.lr),
        )
        run = _sgd_cpu.rows_epochs if self.plan == "rows" else _layers_cpu.layers_epochs
        orders = self._orders(first_epoch, epochs)
        started = time.perf_counter()
        run(self.layout, self.nets.theta, job, self.targets, orders, failed, self.threads)
        self.seconds += time.perf_counter() - started
        new = (failed >= 0) & (self.history.diverged_at == 0)
        self.history.diverged_at[new] = first_epoch * self._steps_per_epoch + failed[new] + 1

    @property
    def _steps_per_epoch(self) -> int:
        return -(-self.x.shape[0] // self.history.batch_size)

    def _measure(self, at: int) -> None:
        history, alive = self.history, self.history.diverged_at == 0
        sets = [("train", (self.x, self.row_scale), self.y, self.offset)]
        if self.test is not None and self.y_test is not None:
            sets.append(("test", self.test, self.y_test, self.test_offset))
        for name, (rows, scale), y, offset in sets:
            outputs = self._forward(self.nets.theta, rows, scale) - offset
            getattr(history, f"{name}_loss")[alive, at] = _loss(outputs, y)[alive]
            accuracy = getattr(history, f"{name}_accuracy")
            if accuracy is not None:
                accuracy[alive, at] = _accuracy(outputs, y)[alive]

    def run(self, progress: Callable[[int, int], None] | None) -> None:
        history, done, measured = self.history, 0, 0
        total = int(history.epochs[-1])
        limit = max(1, _ORDER_BYTES // (4 * self.nets.members * self.x.shape[0]))
        chunk = 1
        try:
            for at, mark in enumerate(history.epochs):
                while done < mark and not history.diverged_at.all():
                    epochs = int(min(chunk, mark - done))
                    before = self.seconds
                    self._epochs(done, epochs)
                    done += epochs
                    spent = max(self.seconds - before, 1e-6)
                    chunk = max(1, min(limit, 2 * chunk, int(epochs * _CALL_SECONDS / spent)))
                    if progress is not None:
                        progress(done, total)
                done = int(mark)
                self._measure(at)
                measured = at + 1
        except KeyboardInterrupt as stop:
            history.interrupted = True
            history._truncate(measured)
            self._account(done)
            raise TrainingInterrupted(history) from stop
        self._account(done)
        if progress is not None:
            progress(total, total)

    def _account(self, epochs: int) -> None:
        steps = epochs * self._steps_per_epoch
        self.history.steps = steps
        if steps:
            self.history.step_seconds = self.seconds / steps / self.nets.members
