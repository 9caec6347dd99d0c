"""Fit an activation of a given form so that a network with one hidden layer has a given kernel.

Simon, Anand & DeWeese 2022 searched for the parameters of ``a·relu(z−b)+cz+d+e·cos(fz+g)`` with sampled networks.
Here the kernel of each candidate is exact, so that plain nonlinear least squares does it, and goes further.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from ntkengine import _jit
from ntkengine._check import integer
from ntkengine.activations.base import Activation, ActivationFamily, registry
from ntkengine.design._objective import Objective
from ntkengine.errors import InputError
from ntkengine.infinite.fcn import FCN, NetworkKernel, check_kind
from ntkengine.kernels.base import DotProductKernel

__all__ = ["Design", "fit_activation"]

Array = NDArray[np.float64]

#: Least half-width of the range of random starts, else twice the default, and never beyond the bounds: very high
#: frequencies, for example, only add a spike at c = 1.
_SPREAD = 3.0
#: Random draws of which a start is the best.
_CANDIDATES = 24
#: Trust-region steps from every start, and from the most promising ones after that.
_FIRST_STEPS, _LAST_STEPS = 80, 400
#: Largest value of a target whose squares still leave room to compare them.
_LARGEST = 1e50
#: How many starts are followed to the end.
_FINALISTS = 2


@dataclass(frozen=True, eq=False)
class Design:
    """An activation made for a kernel, and how well it does.

    Attributes
    ----------
    activation : Activation
        φ.
    target : DotProductKernel
        What was asked for.
    kind : "ntk" or "nngp"
        Which kernel of the network should be the target.
    fcn : FCN
        The network with one hidden layer.
    angles : (n,) array
        Where target and kernel were compared, in [0, π].
    target_values, values : (n,) arrays
        The target, and the network's exact kernel, there.
    starts : tuple of float
        Sum of squares reached from each start (the squared error, and what the limit on the neuron variance adds).
    neuron_variance : float
        v, the relative variance of one neuron's share of the kernel at c = 1: the empirical kernel of a network of width N
        scatters by √(v/N) of its value.
    evaluations : int
        Kernels computed.
    seconds : float
        Wall time.

    Examples
    --------
    >>> import ntkengine as nk
    >>> design = nk.fit_activation(nk.FCN("erf").kernel("nngp"), "sin", kind="nngp", starts=2)
    >>> bool(design.max_error < 0.05), design.activation.name
    (True, 'sin')
    """

    activation: Activation
    target: DotProductKernel
    kind: str
    fcn: FCN
    angles: Array
    target_values: Array
    values: Array
    starts: tuple[float, ...]
    neuron_variance: float
    evaluations: int
    seconds: float

    @property
    def kernel(self) -> NetworkKernel:
        """The exact kernel of the network, at any angle."""
        return self.fcn.kernel(self.kind)

    @property
    def squared_error(self) -> float:
        """Σ over the angles of (kernel − target)²."""
        return float(((self.values - self.target_values) ** 2).sum())

    @property
    def max_error(self) -> float:
        """Largest |kernel − target| over the angles."""
        return float(np.abs(self.values - self.target_values).max())

    @property
    def rms_error(self) -> float:
        """Root mean square of kernel − target over the angles."""
        return float(np.sqrt(self.squared_error / self.angles.size))

    def report(self) -> str:
        """A text table: parameters, errors, and what each start reached."""
        scale = float(np.abs(self.target_values).max()) or 1.0
        rows = [
            ("target", self.target.name),
            ("activation", f"{self.activation.name}: {self.activation.family.formula}"),
            *((f"  {name}", f"{value:.10g}") for name, value in self.activation.parameters.items()),
            ("network", f"1 hidden layer, {self.kind.upper()}, w_std {self.fcn.w_std:g}, b_std {self.fcn.b_std:g}, "
                        f"readout {self.fcn.readout_w_std:g}, {self.fcn.readout_b_std:g}"),
            ("squared error", f"{self.squared_error:.4e} over {self.angles.size} angles"),
            ("largest error", f"{self.max_error:.4e} ({self.max_error / scale:.2%} of the largest value)"),
            ("rms error", f"{self.rms_error:.4e}"),
            ("scatter", f"{np.sqrt(self.neuron_variance / 4096):.2%} of K(1) at width 4096 (v = {self.neuron_variance:.3g})"),
            ("starts", ", ".join(f"{error:.3g}" for error in self.starts)),
            ("effort", f"{self.evaluations} kernels in {self.seconds:.2f} s"),
        ]  # fmt: skip
        width = max(len(key) for key, _ in rows)
        return "\n".join(f"{key:<{width}}  {value}" for key, value in rows)


def fit_activation(
    kernel: DotProductKernel,
    family: str | ActivationFamily,
    *,
    kind: str = "ntk",
    w_std: float = 1.0,
    b_std: float = 0.0,
    readout_w_std: float = 1.0,
    readout_b_std: float = 0.0,
    angles: int = 100,
    starts: int = 8,
    seed: int = 0,
    max_neuron_variance: float = 10.0,
    progress: Callable[[int, int], None] | None = None,
) -> Design:
    """The member of a family of activations whose one-hidden-layer network comes nearest to a kernel.

    Least squares over the family's parameters, within their bounds, at evenly spaced angles from 0 to π, with the exact
    kernel of every candidate. The first start is the family's defaults; later ones are random, and more of them find
    better fits. Parameters in which φ is linear start with the amplitude that suits the target.

    Parameters
    ----------
    kernel : DotProductKernel
        The target.
    family : str or ActivationFamily
        A registered family with parameters, such as ``"relu_cos"`` or ``"relu2_cos"``.
    kind : "ntk" or "nngp"
        Which kernel of the network is to match.
    w_std, b_std, readout_w_std, readout_b_std : float
        The network's standard deviations, see :class:`~ntkengine.FCN`.
    angles : int
        n, at least the number of parameters.
    starts : int
        How many starts, at least 1.
    seed : int
        Of the random starts; the same seed gives the same design.
    max_neuron_variance : float
        Softly enforced limit on :attr:`Design.neuron_variance`; ``inf`` for none. Without one, least squares likes huge slopes
        where z hardly ever is: the right kernel at infinite width, and none at any real one.
    progress : callable, optional
        Called as ``progress(finished_starts, starts)``.

    Returns
    -------
    Design

    Raises
    ------
    UnknownNameError
        If no family has the name.
    InputError
        If the family has no parameters, the target is not finite, or an argument is not allowed.

    Examples
    --------
    >>> import ntkengine as nk
    >>> target = nk.FCN("relu", depth=4, w_std=2**0.5, b_std=0.1).kernel("ntk")
    >>> design = fit_activation(target, "relu_cos")
    >>> design.squared_error < 0.0385
    True
    """
    began = time.perf_counter()
    if isinstance(family, str):
        family = registry.get(family)
    _check(kernel, family, angles, starts, seed)
    check_kind(kind)
    if not max_neuron_variance > 0:
        raise InputError(
            f"max_neuron_variance is {max_neuron_variance!r}; it must be above 0, or inf for no limit"
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
    fcn = FCN(family(), 1, w_std, b_std, readout_w_std, readout_b_std)
    objective = Objective(fcn, kind, theta)
    lower = np.array([p.lower for p in family.parameters])
    upper = np.array([p.upper for p in family.parameters])
    scale = float(np.abs(target).max())

    def residual(values: Array) -> Array:
        out = np.empty(angles + 1)
        out[:-1] = objective(values) - target
        out[-1] = scale * math.log(max(1.0, objective.neuron_variance(values) / max_neuron_variance))
        return np.where(np.isfinite(out), out, 1e100)

    def improve(values: Array, steps: int) -> tuple[Array, float]:
        found = least_squares(
            residual,
            values,
            bounds=(lower, upper),
            x_scale="jac",
            ftol=1e-9,
            xtol=1e-9,
            gtol=1e-12,
            max_nfev=steps,
        )
        return found.x, float(found.fun @ found.fun)

    def watched(points: Iterator[Array]) -> Iterator[Array]:
        for done, point in enumerate(points, start=1):
            yield point
            if progress is not None:
                progress(done, starts)

    with _jit.blas_single_thread():  # thousands of small products: a thread pool only stalls them
        reached = [
            improve(start, _FIRST_STEPS)
            for start in watched(_starts(family, objective, target, starts, seed))
        ]
        order = sorted(range(starts), key=lambda i: reached[i][1])
        for i in order[:_FINALISTS]:
            reached[i] = improve(_inside(family, reached[i][0]), _LAST_STEPS)
    best = min(reached, key=lambda pair: pair[1])[0]
    phi = family(**{p.name: float(v) for p, v in zip(family.parameters, best)})
    fcn = FCN(phi, 1, w_std, b_std, readout_w_std, readout_b_std)
    return Design(
        activation=phi,
        target=kernel,
        kind=kind,
        fcn=fcn,
        angles=theta,
        target_values=target,
        values=np.asarray(fcn.kernel(kind).at_angle(theta)),
        starts=tuple(error for _, error in reached),
        neuron_variance=objective.neuron_variance(best),
        evaluations=objective.evaluations,
        seconds=time.perf_counter() - began,
    )


def _check(kernel: DotProductKernel, family: ActivationFamily, angles: int, starts: int, seed: int) -> None:
    if not isinstance(kernel, DotProductKernel):
        raise InputError(
            f"kernel is a {type(kernel).__name__}; it must be a DotProductKernel, such as FCN(...).kernel()"
        )
    if not isinstance(family, ActivationFamily):
        raise InputError(
            f"family is {family!r}; it must be the name of a registered activation, or an ActivationFamily"
        )
    count = len(family.parameters)
    if count == 0:
        raise InputError(
            f"activation {family.name!r} has no parameters, so there is nothing to fit; try 'relu_cos'"
        )
    integer("angles", angles, 1)
    integer("starts", starts, 1)
    integer("seed", seed, 0)
    if angles < max(count, 2):
        raise InputError(
            f"angles is {angles}; {family.name!r} has {count} parameters, so at least {max(count, 2)} angles are needed"
        )


def _starts(
    family: ActivationFamily, objective: Objective, target: Array, count: int, seed: int
) -> Iterator[Array]:
    """The defaults, then each time the best of some random draws: near the defaults every third time, else of any size."""
    defaults = np.array([p.default for p in family.parameters])
    bounds = np.array([(p.lower, p.upper) for p in family.parameters])
    spread = np.maximum(2 * np.abs(defaults), _SPREAD)
    lower, upper = np.clip(-spread, *bounds.T), np.clip(spread, *bounds.T)
    amplitudes = linear_parameters(family)
    generator = np.random.default_rng(np.random.SeedSequence(seed))

    def draw(near: bool) -> Array:
        if near:
            values = defaults * np.exp(0.5 * generator.standard_normal(defaults.size))
            values = values + 0.5 * generator.standard_normal(defaults.size)
        else:
            values = generator.uniform(lower, upper) * 10.0 ** -generator.uniform(0.0, 1.0, defaults.size)
        return _scaled(np.clip(values, *bounds.T), amplitudes, objective, target)

    yield _inside(family, _scaled(defaults, amplitudes, objective, target))
    for i in range(1, count):
        candidates = [draw(near=i % 3 == 1) for _ in range(_CANDIDATES)]
        errors = [float(((objective(values) - target) ** 2).sum()) for values in candidates]
        yield _inside(family, candidates[int(np.argmin(np.nan_to_num(errors, nan=np.inf)))])


def _inside(family: ActivationFamily, values: Array) -> Array:
    """The values moved off their bounds, where a trust region could not move."""
    lower = np.array([p.lower for p in family.parameters])
    upper = np.array([p.upper for p in family.parameters])
    with np.errstate(invalid="ignore"):
        margin = np.where(np.isfinite(upper - lower), 1e-3 * np.minimum(upper - lower, 1.0), 1e-3)
    return np.clip(values, lower + margin, upper - margin)


def _scaled(values: Array, amplitudes: NDArray[np.bool_], objective: Objective, target: Array) -> Array:
    """φ multiplied by the number that brings its kernel nearest to the target, if φ is linear in ``amplitudes``."""
    if not amplitudes.any():
        return values
    here = objective.scalable(values)
    wanted = target - objective.offset
    size = float(here @ here)
    factor = float(here @ wanted) / size if np.isfinite(size) and size > 0 else 0.0
    return np.where(amplitudes, values * np.sqrt(factor), values) if factor > 0 else values


def linear_parameters(family: ActivationFamily) -> NDArray[np.bool_]:
    """Which parameters multiply φ as a whole when scaled together, shape (parameters,); none if there is no such set.

    Found by trying: a parameter belongs if φ is affine in it, and the set is kept only if doubling it doubles φ.
    """
    z = np.linspace(-6.0, 6.0, 97)
    base = np.array([min(max(0.37 + 0.11 * i, p.lower), p.upper) for i, p in enumerate(family.parameters)])
    one = family()
    affine = np.zeros(base.size, dtype=bool)
    for i in range(base.size):
        at = [
            one.with_values(np.where(np.arange(base.size) == i, base + s, base))(z) for s in (-0.5, 0.0, 0.5)
        ]
        affine[i] = bool(np.allclose(at[0] + at[2], 2 * at[1], rtol=1e-9, atol=1e-9))
    once, twice = one.with_values(base)(z), one.with_values(np.where(affine, 2 * base, base))(z)
    return affine if np.allclose(twice, 2 * once, rtol=1e-9, atol=1e-9) else np.zeros_like(affine)
