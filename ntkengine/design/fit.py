"""Fit an activation of a given form so that a network with one hidden layer has a given kernel.

Simon, Anand & DeWeese 2022 searched for the parameters of ``a·relu(z−b)+cz+d+e·cos(fz+g)`` with sampled networks.
Here the kernel of each candidate is exact, and its Jacobian known: plain nonlinear least squares does it, and goes further.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

from ntkengine import _jit
from ntkengine._check import integer, real_array, shown
from ntkengine.activations.base import ActivationFamily, registry
from ntkengine.activations.flexible import MAX_SIZE, FlexibleFamily
from ntkengine.activations.series import SeriesFamily
from ntkengine.design._objective import Objective
from ntkengine.design._scatter import Scatter
from ntkengine.design._starts import inside
from ntkengine.design._starts import starts as start_values
from ntkengine.design.record import Design
from ntkengine.errors import AccuracyWarning, InputError
from ntkengine.infinite.fcn import FCN, check_kind
from ntkengine.kernels.base import DotProductKernel

__all__ = ["FittedDesign", "fit_activation"]

Array = NDArray[np.float64]

#: Angles, unless there are more parameters.
_ANGLES = 100
#: Trust-region steps from every start, and from the most promising ones after that.
_FIRST_STEPS, _LAST_STEPS = 80, 400
#: How many starts are followed to the end.
_FINALISTS = 2
#: Residual of a candidate that has no finite kernel.
_NOTHING = 1e100
#: An error of the kernel is told if it is more than this part of the fit's.
_UNIMPORTANT = 0.01
#: Largest value of a target whose squares still leave room to compare them.
_LARGEST = 1e50


@dataclass(frozen=True, eq=False, repr=False)
class FittedDesign(Design):
    """A design found by :func:`fit_activation`.

    Attributes
    ----------
    starts : tuple of float
        What was minimised, reached from each start: the weighted sum of squares, and what the penalties add.
    evaluations : int
        Kernels computed.
    seconds : float
        Wall time.

    The rest are those of :class:`Design`.

    Examples
    --------
    >>> import ntkengine as nk
    >>> design = nk.fit_activation(nk.FCN("erf").kernel("nngp"), "sin", kind="nngp", starts=2)
    >>> bool(design.max_error < 0.05), design.activation.name, len(design.starts)
    (True, 'sin', 2)
    """

    starts: tuple[float, ...]
    evaluations: int
    seconds: float

    def rows(self) -> list[tuple[str, str]]:
        """What :meth:`report` shows: that of every design, and the search."""
        return [
            *super().rows(),
            ("starts", ", ".join(f"{error:.3g}" for error in self.starts)),
            ("effort", f"{self.evaluations} kernels in {self.seconds:.2f} s"),
        ]


def fit_activation(
    kernel: DotProductKernel,
    family: str | ActivationFamily,
    *,
    kind: str = "ntk",
    w_std: float = 1.0,
    b_std: float = 0.0,
    readout_w_std: float = 1.0,
    readout_b_std: float = 0.0,
    radial_lift: bool = False,
    size: int | None = None,
    angles: int | None = None,
    weights: Callable[[Array], ArrayLike] | ArrayLike | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    max_neuron_variance: float = 10.0,
    kurtosis_penalty: float = 0.0,
    starts: int = 8,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> FittedDesign:
    """The member of a family of activations whose one-hidden-layer network comes nearest to a kernel.

    Least squares over the family's parameters, within their bounds, at evenly spaced angles from 0 to π, with the exact kernel
    of every candidate and its Jacobian, ``∂K/∂p = 2 E[φ(u) ∂φ(v)/∂p]`` for the NNGP kernel. Parameters that are integers stay
    at their defaults. The first start is the family's defaults; later ones are random, and more of them find better fits.
    The flexible families ``"kinks"`` and ``"spline"`` start from the activations of theorem 3.1 of Simon, Anand & DeWeese 2022.

    Parameters
    ----------
    kernel : DotProductKernel
        The target.
    family : str or ActivationFamily
        A registered family with parameters, such as ``"relu_cos"``, ``"relu2_cos"``, ``"kinks"`` or ``"spline"``.
    kind : "ntk" or "nngp"
        Which kernel of the network is to match.
    w_std, b_std, readout_w_std, readout_b_std : float
        The network's standard deviations, see :class:`~ntkengine.FCN`.
    radial_lift : bool
        The design's network is f(x) = r g(x/r), r = |x|/√d; on the sphere its kernel is the same.
    size : int, optional
        How many numbers a family of any size gets, 1 to 64: J of ``"kinks"`` (8 unless given) and ``"spline"`` (17; odd), the
        number of coefficients of ``"polynomial"`` and ``"hermite"``.
    angles : int, optional
        n, at least the number of parameters, and at least 2. Default: 100, or the number of parameters if that is more.
    weights : callable or (n,) array_like, optional
        Non-negative weight of every squared error: as a function of the angles, (n,) to (n,), or at them.
    bounds : mapping of name to (lower, upper), optional
        Bounds of parameters, besides their own. Entries a1, a2, ... of a vector can be named together: ``{"b": (-4, 4)}``.
    max_neuron_variance : float
        Softly enforced limit on v, the relative variance of one neuron's share of the kernel at c = 1, over all z (not only
        those that a network visits, as in :attr:`Design.neuron_variance`); ``inf`` for none. Without one, least squares likes
        huge slopes where z hardly ever is: the right kernel at infinite width, and none at any real one.
    kurtosis_penalty : float
        λ ≥ 0: λ max|K|² E[φ⁴]/E[φ²]² is added to the squared error, for an activation with fewer extremes.
    starts : int
        How many starts, at least 1.
    seed : int
        Of the random starts; the same seed gives the same design.
    progress : callable, optional
        Called as ``progress(finished_starts, starts)``.

    Returns
    -------
    FittedDesign

    Raises
    ------
    UnknownNameError
        If no family has the name.
    InputError
        If the family has no parameters to fit, the target is not finite, or an argument is not allowed.

    Examples
    --------
    >>> import ntkengine as nk
    >>> target = nk.FCN("relu", depth=4, w_std=2**0.5, b_std=0.1).kernel("ntk")
    >>> fit_activation(target, "relu_cos").squared_error < 0.0385
    True
    >>> design = fit_activation(target, "kinks", size=8)
    >>> bool(design.max_error < 1e-3 * target(1.0)), design.neuron_variance < 10
    (True, True)
    """
    began = time.perf_counter()
    check_kind(kind)
    family = _family(family, size)
    theta, target = _target(kernel, family, angles)
    integer("starts", starts, 1)
    integer("seed", seed, 0)
    search = _Search(
        Objective(FCN(family(), 1, w_std, b_std, readout_w_std, readout_b_std, radial_lift), kind, theta),
        target,
        _weights(weights, theta),
        _bounds(family, bounds),
        _number("max_neuron_variance", max_neuron_variance, "above 0, or inf for no limit", lambda x: x > 0),
        _number("kurtosis_penalty", kurtosis_penalty, "finite and at least 0", lambda x: 0 <= x < math.inf),
    )

    def watched(points: Iterable[Array]) -> Iterator[Array]:
        for done, point in enumerate(points, start=1):
            yield point
            if progress is not None:
                progress(done, starts)

    objective = search.objective
    with _jit.blas_single_thread():  # thousands of small products: a thread pool only stalls them
        points = start_values(family, objective, target, search.bounds, starts, seed)
        reached = [search.improve(point, _FIRST_STEPS) for point in watched(points)]
        order = sorted(range(starts), key=lambda i: reached[i][1])
        for i in order[:_FINALISTS]:
            reached[i] = search.improve(inside(family, search.bounds, reached[i][0]), _LAST_STEPS)
    best, least = min(reached, key=lambda pair: pair[1])
    if least >= _NOTHING**2:
        raise InputError(
            f"no start of activation {family.name!r} has a finite kernel and a finite neuron variance; raise the limit "
            "(max_neuron_variance=inf), set bounds that keep φ small, or choose smaller w_std and b_std"
        )
    phi = family(**{p.name: float(v) for p, v in zip(family.parameters, best)})
    fcn = FCN(phi, 1, w_std, b_std, readout_w_std, readout_b_std, radial_lift)
    return FittedDesign(
        target=kernel,
        kind=kind,
        fcn=fcn,
        angles=theta,
        target_values=target,
        values=_kernel_values(fcn, kind, theta, target),
        starts=tuple(error for _, error in reached),
        evaluations=objective.evaluations,
        seconds=time.perf_counter() - began,
    )


def _kernel_values(fcn: FCN, kind: str, theta: Array, target: Array) -> Array:
    """The kernel at the angles by the general dual, whose warning is repeated only where the inaccuracy matters to the fit."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AccuracyWarning)
        kernel = fcn.kernel(kind)
    values = np.asarray(kernel.at_angle(theta))
    matters = kernel.error > _UNIMPORTANT * np.abs(values - target).max()
    for warning in caught:
        if matters or not issubclass(warning.category, AccuracyWarning):
            warnings.warn(warning.message, stacklevel=3)
    return values


class _Search:
    """Nonlinear least squares from one start."""

    def __init__(
        self, objective: Objective, target: Array, weights: Array, bounds: Array, limit: float, penalty: float
    ) -> None:
        self.objective, self.target, self.bounds = objective, target, bounds
        self.limit, self.penalty = limit, penalty
        self.scatter = Scatter(objective.fcn, objective.kind)
        self.roots = np.sqrt(weights)
        self.scale = float(np.abs(target).max()) or 1.0
        self.free = np.array([not p.integer for p in objective.family.parameters])

    def improve(self, values: Array, steps: int) -> tuple[Array, float]:
        """Better values, and the sum of squares there."""
        whole = values.copy()
        last: list[tuple[Array, Array, Array]] = []

        def evaluated(free: Array) -> tuple[Array, Array, Array]:
            if not last or not np.array_equal(last[0][0], free):
                whole[self.free] = free
                last[:] = [(free.copy(), *self.residuals(whole))]
            return last[0]

        def errors(free: Array) -> Array:
            return evaluated(free)[1]

        def jacobian(free: Array) -> Array:
            return evaluated(free)[2]

        found = least_squares(
            errors,
            values[self.free],
            jac=jacobian,
            bounds=self.bounds[self.free].T,
            x_scale="jac",
            ftol=1e-9,
            xtol=1e-9,
            gtol=1e-12,
            max_nfev=steps,
        )
        whole[self.free] = found.x
        return whole, float(found.fun @ found.fun)

    def residuals(self, values: Array) -> tuple[Array, Array]:
        """Weighted errors and the roots of the penalties, (n+2,), and their derivatives by the free parameters."""
        kernel, jacobian = self.objective.linearised(values)
        out, by = np.zeros(kernel.size + 2), np.zeros((kernel.size + 2, values.size))
        out[:-2], by[:-2] = self.roots * (kernel - self.target), self.roots[:, None] * jacobian
        if self.penalty > 0 or (self.limit < math.inf and self.scatter(values).neuron_variance > self.limit):
            out[-2:], by[-2:] = self._penalties(values)
        if not (np.isfinite(out).all() and np.isfinite(by).all()):
            out, by = np.full_like(out, _NOTHING), np.zeros_like(by)
        return out, by[:, self.free]

    def _penalties(self, values: Array) -> tuple[Array, Array]:
        """Roots of what the limit on the neuron variance and the kurtosis add, (2,), and their derivatives, (2, P)."""
        (variance, kurtosis), (by_variance, by_kurtosis) = self.scatter.linearised(values)
        excess, root = 0.0, 0.0
        if variance > self.limit:
            excess = self.scale * math.log(variance / self.limit)
            by_variance = by_variance * (self.scale / variance)
        else:
            by_variance = np.zeros_like(by_variance)
        if self.penalty:
            root = self.scale * math.sqrt(self.penalty * kurtosis)
        return np.array([excess, root]), np.array([by_variance, by_kurtosis * (0.5 * root / kurtosis)])


# --- arguments --------------------------------------------------------------------------------------------------


def _family(family: str | ActivationFamily, size: int | None) -> ActivationFamily:
    """The family of one size with something to fit."""
    if isinstance(family, str):
        family = registry.get(family)
    if not isinstance(family, ActivationFamily):
        raise InputError(
            f"family is {shown(family)}; it must be the name of a registered activation, or an ActivationFamily"
        )
    if isinstance(family, (FlexibleFamily, SeriesFamily)) and family.maker is None:
        if size is None and isinstance(family, FlexibleFamily):
            size = family.usual
        if size is None:
            raise InputError(
                f"activation {family.name!r} has any number of coefficients; give one, such as size=8"
            )
        if integer("size", size, 1) > MAX_SIZE:
            raise InputError(f"size is {shown(size)}; 1 to {MAX_SIZE} are allowed")
        family = family.of_size(size)
    elif size is not None:
        raise InputError(
            f"size is {shown(size)}, but activation {family.name!r} has one size only; leave it out"
        )
    if all(p.integer for p in family.parameters):
        which = "no parameters" if not family.parameters else "only parameters that are integers"
        raise InputError(
            f"activation {family.name!r} has {which}, so there is nothing to fit; try 'relu_cos'"
        )
    return family


def _target(kernel: DotProductKernel, family: ActivationFamily, angles: int | None) -> tuple[Array, Array]:
    """The angles and the target there."""
    if not isinstance(kernel, DotProductKernel):
        raise InputError(
            f"kernel is a {type(kernel).__name__}; it must be a DotProductKernel, such as FCN(...).kernel()"
        )
    count = len(family.parameters)
    least = max(sum(not p.integer for p in family.parameters), 2)
    if angles is None:
        angles = max(_ANGLES, count)
    elif integer("angles", angles, 1) < least:
        raise InputError(
            f"angles is {angles}; {family.name!r} has {count} parameters, so at least {least} angles are needed"
        )
    theta = np.linspace(0.0, np.pi, angles)
    target = np.asarray(kernel.at_angle(theta), dtype=np.float64)
    if not np.isfinite(target).all():
        bad = theta[~np.isfinite(target)][0]
        raise InputError(
            f"kernel {kernel.name} is not finite at the angle {bad:.6g}; a target must be finite on [0, π]"
        )
    if np.abs(target).max() > _LARGEST:
        raise InputError(
            f"kernel {kernel.name} reaches {np.abs(target).max():.1e}, beyond what least squares can square; its variances "
            "(w_std, b_std) are out of all proportion: choose them of the order of 1"
        )
    return theta, target


def _weights(weights: Callable[[Array], ArrayLike] | ArrayLike | None, theta: Array) -> Array:
    if weights is None:
        return np.ones(theta.size)
    if callable(weights):
        try:
            weights = weights(theta)
        except Exception as error:
            raise InputError(
                f"weights, called with the angles as an array {theta.shape}, raised {type(error).__name__}: {error}"
            ) from error
    found = real_array("weights", weights)
    if found.shape != theta.shape:
        raise InputError(
            f"weights have shape {found.shape}; one is needed for each of the {theta.size} angles"
        )
    if (found < 0).any() or not found.any():
        raise InputError(
            f"weights go from {found.min():g} to {found.max():g}; none may be negative, and not all 0"
        )
    return found


def _bounds(family: ActivationFamily, given: Mapping[str, tuple[float, float]] | None) -> Array:
    """Bounds of all parameters, (P, 2): their own and those given."""
    out = np.array([(p.lower, p.upper) for p in family.parameters])
    names = [p.name for p in family.parameters]
    if given is not None and not isinstance(given, Mapping):
        raise InputError(f"bounds is {shown(given)}; it must map names of parameters to pairs (lower, upper)")
    for name, pair in (given or {}).items():
        chosen = [i for i, known in enumerate(names) if known == name] or [
            i
            for i, known in enumerate(names)
            if isinstance(name, str) and known.startswith(name) and known[len(name) :].isdigit()
        ]
        if not chosen or family.parameters[chosen[0]].integer:
            listing = ", ".join(p.name for p in family.parameters if not p.integer)
            raise InputError(
                f"bounds name {shown(name)}, but the parameters of activation {family.name!r} to fit are: {listing}"
            )
        try:
            lower, upper = (float(x) for x in pair)
            if isinstance(pair, str):
                raise TypeError
        except (TypeError, ValueError, OverflowError):
            raise InputError(
                f"bounds of {name!r} are {shown(pair)}; a pair (lower, upper) of numbers is needed"
            ) from None
        for i in chosen:
            low, high = max(lower, out[i, 0]), min(upper, out[i, 1])
            if not low < high or not lower < upper:
                raise InputError(
                    f"bounds of {name!r} are {shown(pair)}; lower must be below upper, within {out[i, 0]:g} to {out[i, 1]:g}"
                )
            out[i] = low, high
    return out


def _number(name: str, value: Any, allowed: str, holds: Callable[[float], bool]) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not holds(number):
        raise InputError(f"{name} is {shown(value)}; it must be {allowed}")
    return number
