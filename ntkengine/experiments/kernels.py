"""Figure 1 of Simon, Anand & DeWeese 2022 again: seven kernels as NTKs of one hidden layer with a polynomial of degree 5.

Every target is approximated by ``Σ_{k<=5} b_k c^k`` with b_k >= 0; theorem 3.1 turns that into ``φ = Σ s_k √(b_k/(1+k)) h_k``
with the signs + + − − + +, and the empirical NTK of wide networks with this φ is compared with the polynomial.

The paper gives the Hermite coefficients of the seven φ but not how the polynomials were found. Its public notebook has
non-negative least squares at cosines evenly spaced in [-1, 1], with a tenth of the weight moved to each end. Evenly spaced
angles, weighted in the same way, come nearest to the published numbers; that is what the networks are made from. The other
candidates, the Taylor series among them, are recorded beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkengine._check import integer
from ntkengine.design import Design, reverse_engineer
from ntkengine.design.verify import Verification
from ntkengine.experiments.design import Target
from ntkengine.experiments.progress import Progress, Silent
from ntkengine.finite.network import check_shape
from ntkengine.infinite.fcn import FCN
from ntkengine.kernels import DotProductKernel
from ntkengine.kernels.nearest import SeriesKernel, cone_fit
from ntkengine.store import Run, Variable

__all__ = ["DEGREE", "PANELS", "PROCEDURES", "QUICK", "Panel", "Plan", "bound", "run", "verdict"]

Array = NDArray[np.float64]

#: Of all polynomials.
DEGREE = 5
#: Points of the least squares, and the part of the weight at each end where the ends are weighted.
_POINTS, _END = 1000, 0.1
_ANGLES = 181
_REACH = 2.5
#: Largest differences from the published coefficients, given to three decimals, that are called so.
_VERDICTS = ((0.005, "agrees"), (0.02, "near"))
#: Part of the angles at which the mean kernel is to lie within the bound.
_SHARE = 0.95


@dataclass(frozen=True)
class Panel:
    """A panel of the figure: letter, title, target, and the published coefficients of h_0, ..., h_5."""

    letter: str
    title: str
    target: Target
    published: tuple[float, ...]


#: The deep networks have σ_w = √2, σ_b = 0.1 and a readout without biases of weight std 1.
PANELS = (
    Panel("A", "4HL ReLU NNGP", Target(net="relu", kind="nngp"), (0.837, 0.271, -0.151, -0.050, 0.101, 0.084)),
    Panel("B", "4HL ReLU NTK", Target(net="relu", kind="ntk"), (1.230, 0.639, 0.0, 0.0, 0.539, 0.426)),
    Panel("C", "4HL erf NTK", Target(net="erf", kind="ntk"), (0.153, 0.826, 0.0, 0.0, 0.219, 0.577)),
    Panel("D", "c³", Target("c**3"), (0.0, 0.0, 0.0, -0.500, 0.0, 0.0)),
    Panel("E", "c⁴ + c", Target("c**4 + c"), (0.0, 0.707, 0.0, 0.0, 0.447, 0.0)),
    Panel("F", "sinh 2c", Target("sinh(2*c)"), (0.0, 1.001, 0.0, -0.572, 0.0, 0.229)),
    Panel("G", "cosh 2c", Target("cosh(2*c)"), (1.002, 0.0, -0.805, 0.0, 0.404, 0.0)),
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Everything that decides the outcome of a run; plain data, stored with it.

    ``width`` and ``members`` are those of the networks whose empirical NTK is taken, ``seed`` is theirs too.
    """

    width: int = 2**14
    members: int = 16
    seed: int = 0


#: What ``--quick`` makes of settings that were not given.
QUICK: dict[str, Any] = {"width": 1024, "members": 4}


# --- polynomials -----------------------------------------------------------------------------------------------


def _taylor(k: DotProductKernel) -> Array:
    return np.array(k.taylor(DEGREE))


def _least_squares(theta: Array, end: float, k: DotProductKernel) -> Array:
    """b_k >= 0 nearest to K at these angles, from 0 to π; both ends together have ``2·end`` of the weight besides their own."""
    weight = np.full(theta.size, (1 - 2 * end) / theta.size)
    weight[[0, -1]] += end
    root = np.sqrt(weight)
    columns = np.cos(theta)[:, None] ** np.arange(DEGREE + 1.0)
    return cone_fit(root[:, None] * columns, root * np.asarray(k.at_angle(theta)))[0]


def _cosines(end: float) -> Callable[[DotProductKernel], Array]:
    theta = np.arccos(np.linspace(1.0, -1.0, _POINTS))
    return lambda k: _least_squares(theta, end, k)


def _angles(end: float) -> Callable[[DotProductKernel], Array]:
    theta = np.linspace(0.0, np.pi, _POINTS)
    return lambda k: _least_squares(theta, end, k)


#: Ways to a polynomial: name -> function that gives b_0, ..., b_5 of a kernel. The last one is used.
PROCEDURES: dict[str, Callable[[DotProductKernel], Array]] = {
    "Taylor series": _taylor,
    "even cosines": _cosines(0.0),
    "even cosines, ends weighted": _cosines(_END),
    "even angles": _angles(0.0),
    "even angles, ends weighted": _angles(_END),
}
USED = "even angles, ends weighted"


def _hermite(b: Array) -> Array:
    """a_k of the theorem, for the NTK, with the paper's signs."""
    signs = np.where(np.arange(b.size) % 4 < 2, 1.0, -1.0)
    return np.asarray(signs * np.sqrt(np.maximum(b, 0.0) / (1 + np.arange(b.size))))


def verdict(difference: float) -> str:
    """A word for the largest difference from the published coefficients.

    Examples
    --------
    >>> verdict(0.002), verdict(0.01), verdict(0.1)
    ('agrees', 'near', 'differs')
    """
    return next((word for limit, word in _VERDICTS if difference <= limit), "differs")


def bound(members: int) -> float:
    """As many estimated standard errors as are, for a mean over ``members``, what 3 known ones are (Student's t).

    Examples
    --------
    >>> round(bound(16), 2), round(bound(1000), 2)
    (3.59, 3.01)
    """
    from scipy.special import ndtr, stdtrit

    return float(stdtrit(members - 1, ndtr(3.0)))


# --- the run ---------------------------------------------------------------------------------------------------


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
        Kind ``"reproduce-kernels"``.

    Raises
    ------
    InputError
        If a number of the plan is out of range, or the networks do not fit into memory.

    Examples
    --------
    >>> from ntkengine.experiments.kernels import Plan, run
    >>> record = run(Plan(width=64, members=2))
    >>> [panel["verdict"] for panel in record.results["panels"]]
    ['agrees', 'agrees', 'near', 'agrees', 'agrees', 'agrees', 'agrees']
    """
    watch: Progress = progress or Silent()
    integer("members", plan.members, 2)
    integer("seed", plan.seed, 0)
    check_shape(FCN("identity"), plan.width, 16, 1, 1, np.float32)
    if ready is not None:
        ready()
    began = time.perf_counter()
    targets, polynomials = [], []
    with watch.stage("seven kernels and their polynomials") as advance:
        for done, panel in enumerate(PANELS, start=1):
            target = panel.target.kernel()
            targets.append(target)
            polynomials.append([procedure(target) for procedure in PROCEDURES.values()])
            advance(done, len(PANELS))
    b = np.array(polynomials).transpose(1, 0, 2)
    used = list(PROCEDURES).index(USED)
    designs: list[Design] = []
    checks = []
    with watch.stage(f"7 × {plan.members} networks of width {plan.width}") as advance:
        for i, row in enumerate(b[used]):
            designs.append(reverse_engineer(SeriesKernel(row), "ntk", DEGREE, signs="paper"))
            checks.append(designs[i].verify(plan.width, plan.members, plan.seed))
            advance(i + 1, len(PANELS))
    return _record(plan, targets, b, designs, checks, time.perf_counter() - began)


def _record(
    plan: Plan,
    targets: list[DotProductKernel],
    b: Array,
    designs: list[Design],
    checks: list[Verification],
    seconds: float,
) -> Run:
    theta = np.linspace(0.0, np.pi, _ANGLES)
    z = np.linspace(-_REACH, _REACH, 401)
    a = np.array([[_hermite(row) for row in part] for part in b])
    published = np.array([panel.published for panel in PANELS])
    curves = np.array([np.asarray(target.at_angle(theta)) for target in targets])
    made = np.array([np.asarray(design.kernel.at_angle(theta)) for design in designs])
    record = Run.new("reproduce-kernels", asdict(plan))
    record.variables = {
        "target": Variable(("target",), np.array([panel.letter for panel in PANELS]), "", "panels of the figure"),
        "title": Variable(("target",), np.array([panel.title for panel in PANELS]), "", "what the targets are"),
        "procedure": Variable(("procedure",), np.array(list(PROCEDURES)), "", "ways to a polynomial"),
        "degree": Variable(("degree",), np.arange(DEGREE + 1), "", "k"),
        "published_coefficient": Variable(("target", "degree"), published, "", "a_k, Simon, Anand & DeWeese 2022"),
        "hermite_coefficient": Variable(("procedure", "target", "degree"), a, "", "a_k of φ = Σ a_k h_k"),
        "kernel_coefficient": Variable(("procedure", "target", "degree"), b, "", "b_k of the polynomial"),
        "angle": Variable(("angle",), theta, "rad", "angle between two points of the sphere"),
        "target_kernel": Variable(("target", "angle"), curves, "", "targets"),
        "designed_kernel": Variable(("target", "angle"), made, "", f"NTK at infinite width, by {USED}"),
        "check_angle": Variable(("check_angle",), checks[0].angles, "rad", "angles of the empirical kernels"),
        "designed_at_check": Variable(
            ("target", "check_angle"), np.array([check.designed for check in checks]), "", "NTK at infinite width"
        ),
        "empirical_kernel": Variable(
            ("target", "check_member", "check_angle"), np.array([check.curves for check in checks]), "",
            f"empirical NTK, width {plan.width}",
        ),
        "z": Variable(("z",), z, "", "preactivation"),
        "activation": Variable(("target", "z"), np.array([design.activation(z) for design in designs]), "", "φ"),
    }  # fmt: skip
    differences = np.abs(a - published).max(axis=2)
    limit = bound(plan.members)
    used = list(PROCEDURES).index(USED)
    record.results = {
        "used": USED,
        "bound": limit,
        "differences": {
            name: dict(zip("ABCDEFG", row.tolist())) for name, row in zip(PROCEDURES, differences)
        },
        "panels": [
            {
                "letter": panel.letter,
                "title": panel.title,
                "target": target.name,
                "activation": str(design.activation),
                "target_at_1": float(target(1.0)),
                "difference": float(differences[used, i]),
                "verdict": verdict(float(differences[used, i])),
                "distance": float(np.abs(made[i] - curves[i]).max()),
                "z_score": check.z_score,
                "largest_z": float(np.abs(check.z).max()),
                "within": check.within,
                "verified": bool((np.abs(check.z) <= limit).mean() >= _SHARE),
                "scatter": check.rms_error,
            }
            for i, (panel, target, design, check) in enumerate(zip(PANELS, targets, designs, checks))
        ],
        "seconds": seconds,
    }
    return record
