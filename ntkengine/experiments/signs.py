"""What the signs of the theorem do at finite width: predicted and measured scatter of the kernel, rule by rule.

A network of N neurons has the kernel ``(1/N) Σ X_i`` with independent X_i, and the signs of the Hermite coefficients decide how
far it is from K in the mean square, over angles and networks (:mod:`ntkengine.design.signs`, rule "concentrated"). Three
kernels, both kinds, four rules: the prediction against networks drawn at random, the same ones for every rule.

A polynomial φ grows like its highest power where few networks ever go, and one of these can outweigh a thousand others in a
mean square; its standard error is large then. The record therefore has the median of the networks' distances too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkengine._check import integer
from ntkengine.design import ReverseDesign, reverse_engineer
from ntkengine.design.signs import RULES, spread
from ntkengine.design.verify import Verification
from ntkengine.experiments.design import Target
from ntkengine.experiments.progress import Progress, Silent
from ntkengine.finite.network import check_shape
from ntkengine.infinite.fcn import FCN, KINDS
from ntkengine.store import Run, Variable

__all__ = ["CASES", "QUICK", "Case", "Plan", "run"]

Array = NDArray[np.float64]

#: z over which φ is recorded.
_REACH = 5.0


@dataclass(frozen=True)
class Case:
    """A kernel and the degree to which its series is taken.

    Attributes
    ----------
    title : str
        What it is called in tables and figures.
    target : Target
        Which kernel.
    degree : int
        Of the series.

    Examples
    --------
    >>> from ntkengine.experiments.design import Target
    >>> from ntkengine.experiments.signs import Case
    >>> case = Case("laplace, degree 20", Target("laplace"), 20)
    >>> case.target.kernel(), case.degree
    (<kernel laplace(length=1)>, 20)
    """

    title: str
    target: Target
    degree: int


CASES = (
    Case("4HL ReLU NTK, degree 60", Target(net="relu"), 60),
    Case("4HL erf NTK, degree 30", Target(net="erf"), 30),
    Case("laplace, degree 20", Target("laplace"), 20),
)


@dataclass(frozen=True)
class Plan:
    """Everything that decides the outcome of a run; plain data, stored with it.

    Attributes
    ----------
    width : int
        Units of the networks, and the N of the rule "concentrated".
    members : int
        E, networks of each design, at least 2.
    seed : int
        What they are drawn from.

    Examples
    --------
    >>> from ntkengine.experiments.signs import Plan
    >>> Plan(members=50)
    Plan(width=512, members=50, seed=0)
    """

    width: int = 512
    members: int = 400
    seed: int = 0


#: What ``--quick`` makes of settings that were not given.
QUICK: dict[str, Any] = {"members": 50}


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
        Kind ``"signs"``. Variables ``predicted``, ``measured``, ``standard_error``, ``median`` (target, kind, rule): N times
        the square distance of a network's kernel from K, relative to K²; ``activation`` (target, kind, rule, z). Results:
        ``concentrated_over_paper``, the ratios predicted and found.

    Raises
    ------
    InputError
        If a number of the plan is out of range, or the networks do not fit into memory.

    Examples
    --------
    >>> from ntkengine.experiments.signs import Plan, run
    >>> record = run(Plan(width=64, members=20))
    >>> predicted = record.variables["predicted"].values                          # smooth, paper, plus, concentrated
    >>> bool((predicted[..., 3:] <= predicted * (1 + 1e-9)).all())
    True
    """
    watch: Progress = progress or Silent()
    integer("members", plan.members, 2)
    integer("seed", plan.seed, 0)
    check_shape(FCN("identity"), plan.width, 16, 1, 1, np.float32)
    if ready is not None:
        ready()
    designs: list[ReverseDesign] = []
    checks: list[Verification] = []
    with watch.stage(f"{len(CASES)} kernels, 2 kinds, {len(RULES)} rules") as advance:
        for case in CASES:
            target = case.target.kernel()
            for kind in KINDS:
                for rule in RULES:
                    designs.append(reverse_engineer(target, kind, case.degree, signs=rule, width=plan.width))
                    advance(len(designs), 2 * len(CASES) * len(RULES))
    with watch.stage(f"{len(designs)} × {plan.members} networks of width {plan.width}") as advance:
        for design in designs:
            checks.append(design.verify(plan.width, plan.members, plan.seed))
            advance(len(checks), len(designs))
    return _record(plan, designs, checks)


def _distances(check: Verification) -> Array:
    """Every network's mean square distance, over the angle, from the kernel at infinite width, relative to K²: (members,)."""
    weight = np.ones(check.angles.size)
    weight[[0, -1]] = 0.5
    weight /= weight @ check.designed**2
    return np.asarray((check.curves - check.designed) ** 2 @ weight)


def _ratio(above: Array, below: Array) -> tuple[float, float]:
    """Mean of one over mean of the other, of the same networks, and its standard error."""
    ratio = float(above.mean() / below.mean())
    error = float((above - ratio * below).std(ddof=1) / below.mean() / math.sqrt(above.size))
    return ratio, error


def _record(plan: Plan, designs: list[ReverseDesign], checks: list[Verification]) -> Run:
    shape = len(CASES), len(KINDS), len(RULES)
    distances = [plan.width * _distances(check) for check in checks]
    median = [float(np.median(d)) for d in distances]
    predicted = []
    for design in designs:
        signs = np.where(design.coefficients < 0, -1.0, 1.0)
        predicted.append(spread(np.abs(design.coefficients), signs, design.kind, width=plan.width))
    z = np.linspace(-_REACH, _REACH, 401)
    phi = np.array([design.activation(z) for design in designs])
    mean = np.array([d.mean() for d in distances])
    error = np.array([d.std(ddof=1) for d in distances]) / math.sqrt(plan.members)
    dims = ("target", "kind", "rule")

    def by_rule(values: Any, doc: str) -> Variable:
        return Variable(dims, np.reshape(values, shape), "", doc)

    record = Run.new("signs", asdict(plan))
    record.variables = {
        "target": Variable(("target",), np.array([case.title for case in CASES]), "", "kernels"),
        "kind": Variable(("kind",), np.array(KINDS), "", "which kernel of the network is the target"),
        "rule": Variable(("rule",), np.array(RULES), "", "rules for signs"),
        "predicted": by_rule(
            predicted, "N times the mean square distance of a network's kernel from K, over K²: predicted"
        ),
        "measured": by_rule(mean, "the same, of networks drawn at random"),
        "standard_error": by_rule(error, "of the measured one"),
        "median": by_rule(median, "median of the networks' square distances"),
        "z": Variable(("z",), z, "", "preactivation"),
        "activation": Variable((*dims, "z"), phi.reshape(*shape, z.size), "", "φ(z)"),
    }
    old, new = RULES.index("paper"), RULES.index("concentrated")
    falls = []
    for i, case in enumerate(CASES):
        for j, kind in enumerate(KINDS):
            first = (i * len(KINDS) + j) * len(RULES)
            ratio, doubt = _ratio(distances[first + new], distances[first + old])
            falls.append({
                "target": case.title,
                "kind": kind,
                "predicted": predicted[first + new] / predicted[first + old],
                "measured": ratio,
                "standard_error": doubt,
                "median": median[first + new] / median[first + old],
            })  # fmt: skip
    record.results = {"concentrated_over_paper": falls}
    return record
