"""Shallowification: a deep network, a one-hidden-layer network designed to have the deep one's NTK, and how they train.

Simon, Anand & DeWeese 2022, §4.1 and the figure "1HL ReLU, 4HL ReLU, 1HL mimic": the NTK of a deep network is computed,
an activation function is found that gives a single hidden layer that kernel (the whole series of the theorem, or a fit),
the kernel is checked on networks of finite width, and three ensembles (one hidden layer with the plain activation, the deep
network, the mimic) are trained on the same task with the same seeds.

Away from the sphere |x|² = d a mimic's kernel differs from the deep network's, so where the norms of the inputs vary the
mimic is trained with the radial lift f(x) = r g(x/r), r = |x|/√d.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkengine import _jit
from ntkengine.activations import Activation, activation
from ntkengine.activations import registry as families
from ntkengine.design import Design, fit_activation, reverse_engineer
from ntkengine.design.verify import Verification
from ntkengine.errors import DivergenceError, InputError
from ntkengine.experiments.progress import Advance, Progress, Silent
from ntkengine.finite.network import Networks, check_shape, parameter_count
from ntkengine.finite.sgd import (
    History,
    TrainingInterrupted,
    check_memory,
    check_options,
    compile_steps,
    log_spaced,
    train,
)
from ntkengine.infinite.fcn import FCN
from ntkengine.kernels import DotProductKernel
from ntkengine.predict import max_learning_rate
from ntkengine.store import Run, Variable
from ntkengine.tasks import Task, load_csv, make_task

__all__ = ["NETWORKS", "Plan", "run"]

#: The three ensembles, in stored order.
NETWORKS = ("shallow", "deep", "mimic")
#: The order of training: the costly one last, so that an interrupted run keeps the others.
_TRAINING_ORDER = ("shallow", "mimic", "deep")

#: A loss this many times its first value has diverged, finite or not.
_GROWN = 1e3
_ANGLES = 181
#: The family that stands for the whole series of the theorem, with nothing to fit.
EXACT = "exact"


@dataclass(frozen=True)
class Plan:
    """Everything that decides the outcome of a run; plain data, stored with it.

    ``task_options`` are the task's own settings, such as the bits of ``parity``. ``csv`` (a path) takes the place of ``task``;
    ``target`` is its target column. ``lift`` is ``"auto"`` (lift the mimic if the norms of the task's inputs vary), ``"on"`` or
    ``"off"``. ``batch_size`` None is the full batch.
    """

    depth: int = 4
    activation: str = "relu"
    w_std: float = 2**0.5
    b_std: float = 0.1
    family: str = "exact"
    task: str = "balance-scale"
    task_options: dict[str, Any] = field(default_factory=dict)
    csv: str | None = None
    target: str | None = None
    train_fraction: float = 0.5
    width: int = 512
    members: int = 3
    epochs: int = 400
    batch_size: int | None = None
    lr: float = 0.1
    seed: int = 0
    starts: int = 8
    check_members: int = 16
    lift: str = "auto"
    device: str = "auto"
    threads: int | None = None


#: What ``--quick`` makes of settings that were not given.
QUICK: dict[str, Any] = {"width": 128, "members": 2, "epochs": 64, "check_members": 4}


@dataclass
class _State:
    """What is known so far; :func:`_record` turns it into a run at any moment after the check."""

    plan: Plan
    task: Task
    design: Design
    design_seconds: float
    base: Activation
    lifted: bool
    check: Verification
    networks: dict[str, FCN]
    sizes: dict[str, int] = field(default_factory=dict)
    histories: dict[str, History] = field(default_factory=dict)


def load(plan: Plan) -> Task:
    """The plan's task, split and standardised.

    Raises
    ------
    UnknownNameError, DataError, InputError
        If there is no such task, or its data cannot be used.
    """
    if plan.csv is not None:
        table = load_csv(plan.csv, target=plan.target)
        return make_task(table, train_fraction=plan.train_fraction, seed=plan.seed)
    return make_task(plan.task, train_fraction=plan.train_fraction, seed=plan.seed, **plan.task_options)


def run(plan: Plan, progress: Progress | None = None, ready: Callable[[], None] | None = None) -> Run:
    """Carry out a plan.

    Parameters
    ----------
    plan : Plan
    progress : Progress, optional
    ready : callable, optional
        Called once the plan has been checked and before anything long is computed.

    Returns
    -------
    Run
        Kind ``"shallowify"``; ``status`` is ``"interrupted"`` if Ctrl-C came while the ensembles were trained, and then the
        variables hold what was measured until then and NaN for the rest.

    Raises
    ------
    InputError, UnknownNameError, DataError
        If the plan cannot be carried out; nothing has been computed then.
    DivergenceError
        If an ensemble's loss left the finite numbers; the text names the step and the largest stable learning rate.

    Examples
    --------
    >>> from ntkengine.experiments.shallowify import Plan, run
    >>> record = run(Plan(task="balance-scale", epochs=8, width=32, members=2, starts=1))
    >>> sorted(record.results["tracking"])
    ['mimic', 'shallow']
    """
    watch: Progress = progress or Silent()
    before = _jit.compile_clock.seconds
    base, shallow, deep, task = _check(plan, watch)
    if ready is not None:
        ready()
    state = _design(plan, base, shallow, deep, task, watch)
    status = "complete"
    try:
        with watch.stage("compiling the trainer"):
            for name in _TRAINING_ORDER:
                compile_steps(_init(state, name, members=1))
        for name in _TRAINING_ORDER:
            with watch.stage(f"training {plan.members} × {label(plan, name)}") as advance:
                _train(state, name, advance, watch)
    except KeyboardInterrupt:
        status = "interrupted"
    return _record(state, status, _jit.compile_clock.seconds - before)


def label(plan: Plan, name: str) -> str:
    """What a table or figure calls one of the three networks; no two alike."""
    deep = f"{plan.depth}HL {plan.activation}" + (" (target)" if plan.depth == 1 else "")
    return {"shallow": f"1HL {plan.activation}", "deep": deep, "mimic": "1HL mimic"}[name]


# --- steps -----------------------------------------------------------------------------------------------------


def _check(plan: Plan, watch: Progress) -> tuple[Activation, FCN, FCN, Task]:
    """Everything about a plan that can be wrong, found before anything long is computed."""
    if plan.lift not in ("auto", "on", "off"):
        raise InputError(f"lift must be 'auto', 'on' or 'off', not {plan.lift!r}")
    if plan.check_members < 2:
        raise InputError(f"check_members must be ≥ 2, so that a spread exists, not {plan.check_members}")
    _jit.thread_count(plan.threads)
    base = activation(plan.activation)
    if plan.family != EXACT:
        families.get(plan.family)
    deep = FCN(base, depth=plan.depth, w_std=plan.w_std, b_std=plan.b_std)
    shallow = FCN(base, depth=1, w_std=plan.w_std, b_std=plan.b_std)
    with watch.stage("reading the data"):
        task = load(plan)
    rows = task.X_train.shape[0]
    _, batch = check_options(plan.lr, plan.epochs, plan.batch_size, rows, task.loss, task.metric, plan.device)
    for fcn in (shallow, deep):
        fan, indices, real = check_shape(
            fcn, plan.width, task.n_inputs, task.n_outputs, plan.members, np.float32
        )
        size, threads = parameter_count(fcn, fan), _jit.thread_count(plan.threads)
        check_memory(fan, size, len(indices), real.itemsize, rows, batch, threads)
    return base, shallow, deep, task


def _design(plan: Plan, base: Activation, shallow: FCN, deep: FCN, task: Task, watch: Progress) -> _State:
    """Compute the target, fit it, and check the fit at finite width."""
    what = "summing the series for" if plan.family == EXACT else f"fitting {plan.family} to"
    began = time.perf_counter()
    with watch.stage(f"{what} the NTK of {label(plan, 'deep')}") as advance:
        target = deep.kernel("ntk")
        if plan.family == EXACT:
            design: Design = reverse_engineer(target, "ntk", "all")
        else:
            design = fit_activation(target, plan.family, starts=plan.starts, seed=plan.seed, progress=advance)
    seconds = time.perf_counter() - began
    lifted = plan.lift == "on" or (plan.lift == "auto" and task.norms_vary)
    mimic = replace(design.fcn, radial_lift=lifted)
    with watch.stage(f"checking the NTK at width {plan.width}") as advance:
        check = design.verify(
            plan.width, plan.check_members, plan.seed, n_inputs=max(task.n_inputs, 2), progress=advance
        )
    networks = {"shallow": shallow, "deep": deep, "mimic": mimic}
    return _State(plan, task, design, seconds, base, lifted, check, networks)


def _init(state: _State, name: str, members: int) -> Networks:
    plan, task = state.plan, state.task
    return state.networks[name].init(
        width=plan.width, n_inputs=task.n_inputs, n_outputs=task.n_outputs, seed=plan.seed, members=members
    )


def _train(state: _State, name: str, advance: Advance, watch: Progress) -> None:
    plan, task = state.plan, state.task
    nets = _init(state, name, plan.members)
    state.sizes[name] = nets.n_parameters
    try:
        history = train(
            nets,
            task.X_train,
            task.Y_train,
            lr=plan.lr,
            epochs=plan.epochs,
            batch_size=plan.batch_size,
            centered=True,
            X_test=task.X_test,
            Y_test=task.Y_test,
            metric=task.metric,
            snapshots=log_spaced(plan.epochs),
            seed=plan.seed,
            device=plan.device,
            threads=plan.threads,
            progress=advance,
        )
    except TrainingInterrupted as stop:
        state.histories[name] = stop.history
        raise
    _refuse_divergence(state, name, history, watch)
    state.histories[name] = history


def _refuse_divergence(state: _State, name: str, history: History, watch: Progress) -> None:
    """DivergenceError if a loss is no longer finite, or ends far above where it began."""
    plan = state.plan
    diverged = np.flatnonzero(history.diverged_at)
    if diverged.size:
        member = int(diverged[history.diverged_at[diverged].argmin()])
        what = f"(member {member}) diverged at step {int(history.diverged_at[member])}"
    else:
        growth = history.train_loss[:, -1] / np.maximum(history.train_loss[:, 0], np.finfo(float).tiny)
        member = int(growth.argmax())
        if growth[member] < _GROWN:
            return
        what = f"(member {member}) diverged: after {history.steps} steps its loss is {growth[member]:.1e} times the first"
    with watch.stage("looking for the largest stable learning rate"):
        limits = {key: max_learning_rate(_init(state, key, 1), state.task.X_train) for key in NETWORKS}
    stable = ", ".join(f"{label(plan, key)} {limit:.3g}" for key, limit in limits.items())
    raise DivergenceError(
        f"training {label(plan, name)} {what}, with lr {plan.lr:g}; largest stable rates by the NTK's top eigenvalue: "
        f"{stable}. Choose lr below {min(limits.values()):.3g}."
    )


# --- the record ------------------------------------------------------------------------------------------------


def _gap(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Largest distance of two mean curves over the snapshots both have."""
    both = min(a.shape[1], b.shape[1])
    if both == 0:
        return float("nan")
    return float(np.abs(a[:, :both].mean(axis=0) - b[:, :both].mean(axis=0)).max())


def _tracking(histories: dict[str, History]) -> dict[str, dict[str, float]]:
    """Tracking distance of mimic and shallow network from the deep one: largest gap of mean losses over all snapshots."""
    if "deep" not in histories:
        return {}
    deep = histories["deep"]
    assert deep.test_loss is not None
    found: dict[str, dict[str, float]] = {}
    for name in ("mimic", "shallow"):
        if name in histories:
            other = histories[name]
            assert other.test_loss is not None
            found[name] = {
                "train": _gap(other.train_loss, deep.train_loss),
                "test": _gap(other.test_loss, deep.test_loss),
            }
    return found


def _summary(state: _State, name: str) -> dict[str, Any]:
    history = state.histories[name]

    def last(values: NDArray[np.float64] | None) -> dict[str, float] | None:
        if values is None or values.shape[1] == 0:
            return None
        return {
            "mean": float(values[:, -1].mean()),
            "std": float(values[:, -1].std(ddof=1 if values.shape[0] > 1 else 0)),
        }

    return {
        "label": label(state.plan, name),
        "parameters": state.sizes[name],
        "epoch": int(history.epochs[-1]) if history.epochs.size else 0,
        "train_loss": last(history.train_loss),
        "test_loss": last(history.test_loss),
        "train_accuracy": last(history.train_accuracy),
        "test_accuracy": last(history.test_accuracy),
        "seconds_per_step": history.step_seconds,
    }


def _record(state: _State, status: str, compile_seconds: float) -> Run:
    plan, task, design = state.plan, state.task, state.design
    angles = np.linspace(0.0, np.pi, _ANGLES)
    z = np.linspace(-4.0, 4.0, 401)

    def curve(kernel: DotProductKernel) -> NDArray[np.float64]:
        return np.asarray(kernel.at_angle(angles))

    epochs = log_spaced(plan.epochs)
    variables = {
        "angle": Variable(("angle",), angles, "rad", "angle between two points of the sphere"),
        "target_kernel": Variable(("angle",), curve(design.target), "", "NTK of the deep network"),
        "designed_kernel": Variable(("angle",), curve(design.kernel), "", "NTK of the designed network"),
        "shallow_kernel": Variable(
            ("angle",),
            curve(state.networks["shallow"].kernel("ntk")),
            "",
            "NTK of one hidden layer of the base activation",
        ),
        "check_angle": Variable(
            ("check_angle",), state.check.angles, "rad", "angles of the finite-width check"
        ),
        "empirical_kernel": Variable(
            ("check_member", "check_angle"),
            state.check.curves,
            "",
            f"empirical NTK of the designed network, width {plan.width}",
        ),
        "z": Variable(("z",), z, "", "preactivation"),
        "designed_activation": Variable(("z",), design.activation(z), "", str(design.activation)),
        "base_activation": Variable(("z",), state.base(z), "", str(state.base)),
        "network": Variable(
            ("network",), np.array([label(plan, name) for name in NETWORKS]), "", "ensembles"
        ),
        "member": Variable(("member",), np.arange(plan.members), "", "ensemble members"),
        "epoch": Variable(("epoch",), epochs, "", "epochs finished"),
    }
    quantities = ["train_loss", "test_loss"]
    if task.metric is not None:
        quantities += ["train_accuracy", "test_accuracy"]
    for quantity in quantities:
        values = np.full((len(NETWORKS), plan.members, epochs.size), np.nan)
        for i, name in enumerate(NETWORKS):
            if name in state.histories:
                measured = getattr(state.histories[name], quantity)
                values[i, :, : measured.shape[1]] = measured
        variables[quantity] = Variable(("network", "member", "epoch"), values)
    record = Run.new("shallowify", asdict(plan))
    record.variables = variables
    record.status = status
    check = state.check
    sem, bias, gap = check.standard_error, check.mean - check.designed, check.mean - check.target
    record.results = {
        "design": {
            "family": plan.family,
            "activation": str(design.activation),
            "parameters": design.activation.parameters,
            "angles": design.angles.size,
            "squared_error": design.squared_error,
            "max_error": design.max_error,
            "rms_error": design.rms_error,
            "target_at_1": float(design.target(1.0)),
            "seconds": state.design_seconds,
        },
        "check": {
            "width": plan.width,
            "members": plan.check_members,
            "max_deviation": float(np.abs(bias).max()),
            "max_gap_to_target": float(np.abs(gap).max()),
            "rms_z_score": float(np.sqrt(np.mean((bias[sem > 0] / sem[sem > 0]) ** 2)))
            if (sem > 0).any()
            else 0.0,
            "spread_at_1": float(check.curves[:, 0].std(ddof=1)),
        },
        "task": {
            "name": task.name,
            "rows_train": task.X_train.shape[0],
            "rows_test": task.X_test.shape[0],
            "inputs": task.n_inputs,
            "outputs": task.n_outputs,
            "norms_vary": task.norms_vary,
            "fingerprint": task.fingerprint,
            "chance_accuracy": task.chance_accuracy,
            "metric": task.metric,
        },
        "radial_lift": state.lifted,
        "networks": {name: _summary(state, name) for name in NETWORKS if name in state.histories},
        "tracking": _tracking(state.histories),
        "compile_seconds": compile_seconds,
    }
    return record
