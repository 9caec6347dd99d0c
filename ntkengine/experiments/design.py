"""From a kernel to an activation, checked and recorded: what ``ntkengine design`` does.

Theorem 3.1 of Simon, Anand & DeWeese 2022 (:func:`ntkengine.reverse_engineer`), or a fit (:func:`ntkengine.fit_activation`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkengine._check import integer
from ntkengine.activations import activation
from ntkengine.activations import registry as families
from ntkengine.design import Design, ReverseDesign, fit_activation, reverse_engineer
from ntkengine.design.record import WIDTH
from ntkengine.design.verify import Verification
from ntkengine.errors import InputError
from ntkengine.experiments.progress import Progress, Silent
from ntkengine.finite.network import check_shape
from ntkengine.infinite.fcn import FCN
from ntkengine.kernels import DotProductKernel, kernel
from ntkengine.kernels.samples import SampledKernel, read_samples
from ntkengine.store import Run, Variable

__all__ = ["Coefficients", "Outcome", "Plan", "Target", "coefficients", "run"]

Array = NDArray[np.float64]

_ANGLES = 361
#: z/√q over which φ is recorded, and at how many points.
_REACH, _POINTS = 4.0, 801
#: Coefficients are recorded up to the design's degree, but at least and at most to these; a narrow kernel, with a b_k beyond
#: that is more than the part _LARGE of the largest, has them to the last one above _SMALL of it, at most to _FARTHEST.
_LEAST_DEGREE, _MOST_DEGREE, _FARTHEST = 16, 400, 20_000
_LARGE, _SMALL = 1e-3, 1e-6


@dataclass(frozen=True)
class Target:
    """What says which kernel is meant: exactly one of ``formula``, ``samples`` and ``net``.

    Attributes
    ----------
    formula : str or None
        A formula in c, or the name of a registered family of kernels.
    parameters : dict
        Values of the formula's, the family's or the network's activation's parameters.
    samples : str or None
        Path of a CSV file, see :func:`ntkengine.kernels.samples.read_samples`.
    noise : float or None
        Standard deviation of the samples' noise, where it is known.
    net : str or None
        The activation of a deep network: a registered name, or a formula in z.
    depth, w_std, b_std, kind
        Of that network, whose readout has the standard deviations 1 and 0, and which of its kernels.

    Examples
    --------
    >>> from ntkengine.experiments.design import Target
    >>> Target("gaussian", {"gamma": 2}).kernel()
    <kernel gaussian(gamma=2)>
    >>> Target(net="erf", kind="nngp").kernel()
    <kernel NNGP of 4-hidden-layer erf(a=1, b=1, c=0) (w_std=1.41421, b_std=0.1)>
    """

    formula: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    samples: str | None = None
    noise: float | None = None
    net: str | None = None
    depth: int = 4
    w_std: float = 2**0.5
    b_std: float = 0.1
    kind: str = "ntk"

    def kernel(self) -> DotProductKernel:
        """The kernel.

        Raises
        ------
        InputError, UnknownNameError
            If not exactly one of the three is given, or it is no kernel.
        DataError
            If the file of samples cannot be used.
        """
        given = [name for name in ("formula", "samples", "net") if getattr(self, name) is not None]
        if len(given) != 1:
            raise InputError(
                f"{' and '.join(given) or 'nothing'} given as the target; give one of formula, samples and net"
            )
        if self.formula is not None:
            return kernel(self.formula, **self.parameters)
        if self.samples is not None:
            return read_samples(self.samples, sigma=self.noise)
        assert self.net is not None
        phi = activation(self.net, **self.parameters)
        return FCN(phi, self.depth, self.w_std, self.b_std).kernel(self.kind)


@dataclass(frozen=True)
class Plan:
    """Everything that decides the outcome of a run; plain data, stored with it.

    Attributes
    ----------
    target : Target
    kind : "ntk" or "nngp"
        Which kernel of the network with one hidden layer shall be the target.
    degree, signs, project
        Of the theorem, see :func:`ntkengine.reverse_engineer`.
    family : str or None
        Fit this family of activations instead of using the theorem.
    size : int or None
        Of a family of any size.
    starts : int
        Of the fit.
    w_std, b_std, readout_w_std, readout_b_std, radial_lift
        Of the network with one hidden layer.
    verify : bool
        Compare with networks of finite width.
    width, members : int
        Of these networks; ``width`` is also what signs="concentrated" is for.
    seed : int
        Of the fit and the networks.
    """

    target: Target
    kind: str = "ntk"
    degree: int | str | None = None
    signs: str | tuple[int, ...] = "smooth"
    project: bool = False
    family: str | None = None
    size: int | None = None
    starts: int = 8
    w_std: float = 1.0
    b_std: float = 0.0
    readout_w_std: float = 1.0
    readout_b_std: float = 0.0
    radial_lift: bool = False
    verify: bool = False
    width: int = WIDTH
    members: int = 16
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Coefficients:
    """``K = Σ b_k ρ^k`` of target and design, and φ(√q z) = Σ a_k h_k(z).

    Attributes
    ----------
    target : (degree+1,) array or None
        b_k; None where the target has no power series.
    design, hermite : (degree+1,) array
        b_k and a_k.
    target_tail, design_tail : float
        K(1) − Σ b_k.
    """

    target: Array | None
    design: Array
    hermite: Array
    target_tail: float
    design_tail: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a run gives: the design, its check at finite width if there was one, its coefficients and the record."""

    design: Design
    verification: Verification | None
    coefficients: Coefficients
    record: Run


def run(plan: Plan, progress: Progress | None = None, ready: Callable[[], None] | None = None) -> Outcome:
    """Carry out a plan.

    Parameters
    ----------
    plan : Plan
    progress : Progress, optional
    ready : callable, optional
        Called once the plan has been checked and before anything long is computed.

    Returns
    -------
    Outcome
        Its record is of kind ``"design"``.

    Raises
    ------
    InputError, UnknownNameError, DataError
        If the plan cannot be carried out, the kernel has no such activation among these.

    Examples
    --------
    >>> from ntkengine.experiments.design import Plan, Target, run
    >>> found = run(Plan(Target("c**3"), signs="paper"))
    >>> found.design.activation
    hermite(coefficients=[0, 0, 0, -0.5])
    >>> sorted(found.record.variables)[:4]
    ['activation', 'angle', 'degree', 'derivative']
    """
    watch: Progress = progress or Silent()
    began = time.perf_counter()
    _check(plan)
    with watch.stage("computing the target"):
        target = plan.target.kernel()
    if ready is not None:
        ready()
    design = _design(plan, target, watch)
    seconds = time.perf_counter() - began
    found = None
    if plan.verify:
        title = f"drawing {plan.members} networks of width {plan.width}"
        with watch.stage(title) as advance:
            found = design.verify(plan.width, plan.members, plan.seed, progress=advance)
    known = coefficients(design)
    return Outcome(design, found, known, _record(plan, design, found, known, seconds))


def _check(plan: Plan) -> None:
    """What of a plan can be wrong apart from the design itself, found before that is computed."""
    fcn = FCN("identity", 1, plan.w_std, plan.b_std, plan.readout_w_std, plan.readout_b_std, plan.radial_lift)
    if plan.family is not None:
        families.get(plan.family)
    if plan.verify:
        integer("members", plan.members, 2)
        integer("seed", plan.seed, 0)
        check_shape(fcn, plan.width, 16, 1, 1, np.float32)


def _design(plan: Plan, target: DotProductKernel, watch: Progress) -> Design:
    network = {
        name: getattr(plan, name)
        for name in ("w_std", "b_std", "readout_w_std", "readout_b_std", "radial_lift")
    }
    if plan.family is None:
        with watch.stage("summing the series" if plan.degree == "all" else "choosing the signs"):
            return reverse_engineer(
                target,
                plan.kind,
                plan.degree,
                signs=plan.signs,
                project=plan.project,
                width=plan.width,
                **network,
            )
    with watch.stage(f"fitting {plan.family}") as advance:
        return fit_activation(
            target,
            plan.family,
            kind=plan.kind,
            starts=plan.starts,
            seed=plan.seed,
            progress=advance,
            size=plan.size,
            **network,
        )


def coefficients(design: Design, degree: int | None = None) -> Coefficients:
    """Coefficients of a design and of its target, in the ρ of the design's network.

    Parameters
    ----------
    design : Design
    degree : int, optional
        The largest; by default that of a design by the theorem, but from 16 to 400, or as far as b_k is large.

    Examples
    --------
    >>> import ntkengine as nk
    >>> found = coefficients(nk.reverse_engineer("c**4 + c"), 4)
    >>> found.target, found.hermite.round(3)
    (array([0., 1., 0., 0., 1.]), array([0.   , 0.707, 0.   , 0.   , 0.447]))
    """
    fcn = design.fcn
    q = fcn.w_std**2 + fcn.b_std**2
    if degree is None:
        own = design.degree if isinstance(design, ReverseDesign) else 0
        degree = max(min(max(own, _LEAST_DEGREE), _MOST_DEGREE), _farthest(design))
    made = design.kernel.taylor(degree, w_std=fcn.w_std, b_std=fcn.b_std)
    a = np.zeros(degree + 1)
    if isinstance(design, ReverseDesign):
        kept = design.coefficients[: degree + 1]
        a[: kept.size] = kept
    else:
        a = np.asarray(design.activation.hermite(degree, q))
    try:
        wanted = design.target.taylor(degree, w_std=fcn.w_std, b_std=fcn.b_std)
    except InputError:
        return Coefficients(None, np.array(made), a, float("nan"), made.tail)
    return Coefficients(np.array(wanted), np.array(made), a, wanted.tail, made.tail)


def _farthest(design: Design) -> int:
    """The degree to which the large b_k of a narrow kernel reach; 0 for a kernel that has none beyond _MOST_DEGREE."""
    if not isinstance(design, ReverseDesign):
        return 0
    k = np.arange(design.coefficients.size)
    b = (design.coefficients / np.abs(design.coefficients).max()) ** 2 * (
        1.0 + k if design.kind == "ntk" else 1.0
    )
    if b[_MOST_DEGREE + 1 :].max(initial=0.0) <= _LARGE * b.max():
        return 0
    return min(int(k[b > _SMALL * b.max()][-1]), _FARTHEST)


# --- the record ------------------------------------------------------------------------------------------------


def _record(
    plan: Plan, design: Design, found: Verification | None, known: Coefficients, seconds: float
) -> Run:
    target, fcn, name = design.target, design.fcn, design.kind.upper()
    theta = np.linspace(0.0, np.pi, _ANGLES)
    z = np.linspace(-_REACH, _REACH, _POINTS) * (fcn.w_std**2 + fcn.b_std**2) ** 0.5
    phi, slope = design.activation.both(z)
    degrees = np.arange(known.design.size)
    variables = {
        "angle": Variable(("angle",), theta, "rad", "angle between two points of the sphere"),
        "target_kernel": Variable(("angle",), np.asarray(target.at_angle(theta)), "", target.name),
        "designed_kernel": Variable(
            ("angle",), np.asarray(design.kernel.at_angle(theta)), "", f"{name} of the designed network"
        ),
        "z": Variable(("z",), z, "", "preactivation"),
        "activation": Variable(("z",), phi, "", str(design.activation)),
        "derivative": Variable(("z",), slope, "", "dφ/dz"),
        "degree": Variable(("degree",), degrees, "", "k"),
        "design_coefficient": Variable(("degree",), known.design, "", "b_k of the designed kernel"),
        "hermite_coefficient": Variable(("degree",), known.hermite, "", "a_k of z ↦ φ(√q z)"),
    }
    if known.target is not None:
        variables["target_coefficient"] = Variable(("degree",), known.target, "", "b_k of the target")
    if found is not None:
        variables["check_angle"] = Variable(
            ("check_angle",), found.angles, "rad", "angles of the finite-width check"
        )
        variables["check_target"] = Variable(("check_angle",), found.target, "", target.name)
        variables["empirical_kernel"] = Variable(
            ("check_member", "check_angle"), found.curves, "", f"empirical {name}, width {found.width}"
        )
    record = Run.new("design", asdict(plan))
    record.variables = variables
    record.results = {
        "design": _results(design, known, seconds),
        "check": None if found is None else _check_results(found),
    }
    return record


def _results(design: Design, known: Coefficients, seconds: float) -> dict[str, Any]:
    moments = design.moments
    results = {
        "target": design.target.name,
        "target_at_1": float(design.target(1.0)),
        "activation": str(design.activation),
        "family": design.activation.name,
        "parameters": design.activation.parameters,
        "squared_error": design.squared_error,
        "max_error": design.max_error,
        "rms_error": design.rms_error,
        "second_moment": moments.second,
        "fourth_moment": moments.fourth,
        "kurtosis": moments.kurtosis,
        "neuron_variance": moments.neuron_variance,
        "target_tail": None if known.target is None else known.target_tail,
        "design_tail": known.design_tail,
        "seconds": seconds,
    }
    if isinstance(design, ReverseDesign):
        results |= {"degree": design.degree, "signs": design.signs, "distance": design.distance}
        if design.limit is not None:
            limit = design.limit
            results["limit"] = {"exponent": limit.exponent, "error": limit.error, "bound": limit.bound}
    if isinstance(design.target, SampledKernel):
        results["samples"] = {"misfit": design.target.misfit, "noise": design.target.noise}
    return results


def _check_results(found: Verification) -> dict[str, Any]:
    return {
        "width": found.width,
        "members": found.members,
        "seed": found.seed,
        "z_score": found.z_score,
        "z_score_of_design": replace(found, target=found.designed).z_score,
        "within": found.within,
        "largest_z": float(np.abs(found.z).max()),
        "rms_error": found.rms_error,
    }
