"""Training of finite networks by SGD: checks, snapshots and the record; the compiled steps are in :mod:`._sgd_cpu`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkengine import _jit
from ntkengine._check import integer, real_array
from ntkengine._jit import thread_count
from ntkengine.errors import InputError
from ntkengine.finite import _layers_cpu, _sgd_cpu
from ntkengine.finite.network import Networks, available_bytes, check_inputs, row_block

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

#: A gradient of more bytes than this is not accumulated in lanes (plan "rows"): it should stay in cache if the network is
#: deep, and all lanes' gradients should stay small if it is shallow.
_ROWS_GRADIENT_BYTES = 512 * 1024
_SHALLOW_GRADIENT_BYTES = 32 * 2**20
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
        Step (from 1) after which a member's loss was no longer finite (1 if it was not to begin with), 0 if it stayed so.
    steps : int
        SGD steps asked of every member.
    step_seconds : float
        Wall time of the steps alone divided by their number and by E: seconds a step of one network.

    Examples
    --------
    >>> import ntkengine as nk
    >>> nets = nk.FCN("relu").init(width=32, n_inputs=2, members=3)
    >>> history = nk.train(nets, [[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0], lr=0.1, epochs=10, snapshots=[0, 5, 10])
    >>> history.epochs
    array([ 0,  5, 10])
    >>> history.train_loss.shape
    (3, 3)
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


def choose_plan(fan: Sequence[int], n_parameters: int, itemsize: int) -> str:
    """``"rows"`` or ``"layers"`` (see :mod:`._sgd_cpu`), from the shape of the networks alone."""
    limit = _SHALLOW_GRADIENT_BYTES if len(fan) == 3 else _ROWS_GRADIENT_BYTES
    return "rows" if n_parameters * itemsize <= limit else "layers"


def check_memory(
    fan: Sequence[int], n_parameters: int, members: int, itemsize: int, rows: int, batch: int, threads: int
) -> None:
    """InputError if training on that many rows would need more memory than is free, with both sizes."""
    hidden, apart = sum(fan[1:-1]), min(threads, members)
    if choose_plan(fan, n_parameters, itemsize) == "rows":
        buffers = apart * _sgd_cpu.LANES * n_parameters
    else:
        sets = apart if _layers_cpu.fit_apart(batch, hidden, itemsize, threads) else 1
        buffers = sets * batch * (2 * hidden + fan[0] + fan[-1])
    parameters = 2 * members * n_parameters  # now, and for a moment those at initialisation
    data = rows * fan[0] + 3 * members * rows * fan[-1]  # inputs; targets, outputs, outputs at initialisation
    needed, free = itemsize * (buffers + parameters + data), available_bytes()
    if needed > free:
        raise InputError(
            f"training {members} networks of {n_parameters:,} parameters on {rows} rows, {batch} a step, needs about "
            f"{needed / 2**30:.1f} GiB, but {free / 2**30:.1f} GiB are free; lower width, members or batch_size"
        )


def _targets(y: ArrayLike, rows: int, outputs: int, name: str, of: str) -> Floats:
    array = real_array(name, y)
    if array.ndim == 1:
        array = array[:, None]
    if array.shape != (rows, outputs):
        raise InputError(
            f"{name} has shape {np.shape(y)}; {of} has {rows} rows and the networks {outputs} outputs"
        )
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
        Learning rate for the loss below. (Lee et al. 2019 use half that loss: their rate is twice this one.)
    epochs : int ≥ 0
        Passes over the rows; with a full batch, steps.
    batch_size : int, optional
        Rows a step; None or ≥ n: full batch. Minibatches are drawn without replacement, in an order shuffled every epoch
        by the member's own stream; the last of an epoch may be smaller and is averaged over its own rows.
    loss : "mse"
        Mean over samples of the sum over outputs of (f − y)², without ½ (as in Simon, Anand & DeWeese 2022).
    centered : bool
        Train f(x; θ) − f(x; θ₀) instead of f(x; θ), as Simon, Anand & DeWeese 2022 do: the outputs start at zero.
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
    if not isinstance(nets, Networks):
        raise InputError(f"nets must be Networks, such as FCN(...).init(...), not {type(nets).__name__}")
    seed = integer("seed", seed, 0)
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

    marks = log_spaced(epochs) if snapshots is None else _marks(snapshots, epochs)

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
        check_memory(nets.fan, nets.n_parameters, nets.members, nets.dtype.itemsize, n, batch, count)
        _Trainer(nets, x64, y, x_test, y_test, history, seed, count).run(progress)
    return history


def _marks(snapshots: Iterable[int], epochs: int) -> NDArray[np.int64]:
    if not isinstance(snapshots, Iterable) or isinstance(snapshots, str):
        raise InputError(f"snapshots must be a sequence of epochs, not {snapshots!r}")
    wanted = {0, epochs, *(integer("a snapshot", mark, 0) for mark in snapshots)}
    if max(wanted) > epochs:
        raise InputError(f"snapshots must lie between 0 and epochs = {epochs}, not at {max(wanted)}")
    return np.array(sorted(wanted), np.int64)


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
        trainer.plan = choose_plan(nets.fan, nets.n_parameters, nets.dtype.itemsize)
        trainer.run(None)


def check_options(
    lr: float, epochs: int, batch_size: int | None, n: int, loss: str, metric: str | None, device: str
) -> tuple[float, int]:
    """The learning rate and the batch size of :func:`train`; InputError for what is not allowed."""
    if isinstance(lr, (bool, str)) or not isinstance(lr, (int, float, np.integer, np.floating)):
        raise InputError(f"lr must be a number > 0, not {lr!r}")
    rate = float(lr)
    if not np.isfinite(rate) or rate <= 0:
        raise InputError(f"lr must be finite and > 0, not {lr!r}")
    integer("epochs", epochs, 0)
    if batch_size is not None and integer("batch_size", batch_size, 1, " or None (full batch)") > n:
        raise InputError(
            f"batch_size {batch_size} exceeds the {n} training rows; leave it out for the full batch"
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
        self.plan = choose_plan(nets.fan, nets.n_parameters, nets.dtype.itemsize)
        self.block = row_block(nets.fan, nets.dtype, min(history.batch_size, x.shape[0]))
        self.offset: Any = 0.0
        self.test_offset: Any = 0.0
        if history.centered:
            initial = nets.initial().theta
            self.offset = self._forward(initial, self.x, self.row_scale)
            if self.test is not None:
                self.test_offset = self._forward(initial, *self.test)
        shape = (nets.members, *y.shape)
        self.targets = nets.cast(np.broadcast_to(y[None] + self.offset, shape), "a target")
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
        self.history.diverged_at[new] = np.maximum(first_epoch * self._steps_per_epoch + failed[new], 1)

    @property
    def _steps_per_epoch(self) -> int:
        return -(-self.x.shape[0] // self.history.batch_size)

    def _measure(self, at: int, epochs: int) -> None:
        history, alive = self.history, self.history.diverged_at == 0
        sets = [("train", (self.x, self.row_scale), self.y, self.offset)]
        if self.test is not None and self.y_test is not None:
            sets.append(("test", self.test, self.y_test, self.test_offset))
        for name, (rows, scale), y, offset in sets:
            outputs = self._forward(self.nets.theta, rows, scale) - offset
            losses = _loss(outputs, y)
            if name == "train":  # the last step's own damage, which no later step would notice
                history.diverged_at[alive & ~np.isfinite(losses)] = max(epochs * self._steps_per_epoch, 1)
                alive = history.diverged_at == 0
            getattr(history, f"{name}_loss")[alive, at] = losses[alive]
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
                self._measure(at, done)
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
