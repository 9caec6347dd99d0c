"""Where fits start: values of a family's parameters that are worth improving."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from ntkengine.activations.base import ActivationFamily
from ntkengine.activations.flexible import FlexibleFamily
from ntkengine.design._objective import Objective
from ntkengine.design.signs import paper
from ntkengine.errors import InputError
from ntkengine.hermite import hermite_series

__all__ = ["inside", "linear_parameters", "starts"]

Array = NDArray[np.float64]

#: Least half-width of the range of random starts, else twice the default, and never beyond the bounds: very high
#: frequencies, for example, only add a spike at c = 1.
_SPREAD = 3.0
#: Random draws of which a start is the best.
_CANDIDATES = 24
#: Degree of the power series behind the starts of flexible families, and how smooth it is to be.
_DEGREE, _SMOOTH = 256, 1e-2
#: Degrees below this get random signs.
_TOSSED = 8
#: Standard deviations within which a power series is followed.
_FOLLOWED = 3.5


def starts(
    family: ActivationFamily, objective: Objective, target: Array, bounds: Array, count: int, seed: int
) -> Iterator[Array]:
    """``count`` vectors of parameter values, (P,) each, within the bounds (P, 2)."""
    generator = np.random.default_rng(np.random.SeedSequence(seed))
    if isinstance(family, FlexibleFamily):
        found = _likenesses(family, objective, target, count, generator)
    else:
        found = _draws(family, objective, target, bounds, count, generator)
    for values in found:
        yield inside(family, bounds, values)


def inside(family: ActivationFamily, bounds: Array, values: Array) -> Array:
    """The values moved off their bounds, where a trust region could not move; integers as they are."""
    lower, upper = bounds.T
    with np.errstate(invalid="ignore"):
        margin = np.where(np.isfinite(upper - lower), 1e-3 * np.minimum(upper - lower, 1.0), 1e-3)
    fixed = [p.integer for p in family.parameters]
    return np.where(fixed, values, np.clip(values, lower + margin, upper - margin))


# --- flexible families ------------------------------------------------------------------------------------------


def _likenesses(
    family: FlexibleFamily, objective: Objective, target: Array, count: int, generator: np.random.Generator
) -> Iterator[Array]:
    """Members of the family like ``φ = Σ_k s_k a_k h_k`` (theorem 3.1 of Simon, Anand & DeWeese 2022).

    The signs s_k are + + − −, ..., for which φ stays small; after one start of every kind, those of low degrees are random.
    """
    series = _power_series(objective, target)
    k = np.arange(series.size)
    sizes = np.sqrt(series / (1 + k * objective.ntk) / objective.scale) * np.exp(
        -((2.5 * k / _DEGREE) ** 2) / 2
    )
    for trial in range(count):
        signs = paper(k.size)
        if trial >= family.kinds:
            signs[:_TOSSED] = generator.choice([-1.0, 1.0], _TOSSED)
        yield np.array(family.resembling(_followed(signs * sizes, objective.root), objective.root, trial))


def _followed(coefficients: Array, root: float) -> Callable[[Array], Array]:
    """Σ_k a_k h_k(z/√q), constant where the series is cut off too early to be followed."""
    return lambda z: hermite_series(coefficients, np.clip(z / root, -_FOLLOWED, _FOLLOWED))


def _power_series(objective: Objective, target: Array) -> Array:
    """Non-negative b_k with Σ_k b_k ρ^k near the target, (_DEGREE+1,), by least squares.

    Powers are nearly dependent on each other; differences between b_k and b_{k+2} that fall slower than those of k^{−3/2} cost.
    """
    k = np.arange(_DEGREE + 1)
    first = np.arange(_DEGREE - 1)
    steps = np.zeros((first.size, k.size))
    steps[first, first + 2] = _SMOOTH * (1 + first) ** 1.5
    steps[first, first] = -steps[first, first + 2]
    size = float(np.abs(target).max()) or 1.0
    wanted = np.concatenate([(target - objective.offset) / size, np.zeros(first.size)])
    found, _ = nnls(np.vstack([objective.rho[:, None] ** k, steps]), wanted, maxiter=100 * k.size)
    if not found.any():
        raise InputError(
            f"the positive-definite kernel nearest to the target, less readout_b_std² = {objective.offset:g}, is 0: there is "
            "nothing that an activation could do; choose another target, or a smaller readout_b_std"
        )
    return size * found


# --- all others -------------------------------------------------------------------------------------------------


def _draws(
    family: ActivationFamily, objective: Objective, target: Array, bounds: Array, count: int, generator: np.random.Generator
) -> Iterator[Array]:  # fmt: skip
    """The defaults, then each time the best of some random draws: near the defaults every third time, else of any size."""
    defaults = np.clip([p.default for p in family.parameters], *bounds.T)
    spread = np.maximum(2 * np.abs(defaults), _SPREAD)
    lower, upper = np.clip(-spread, *bounds.T), np.clip(spread, *bounds.T)
    amplitudes = linear_parameters(family)

    def draw(near: bool) -> Array:
        if near:
            values = defaults * np.exp(0.5 * generator.standard_normal(defaults.size))
            values = values + 0.5 * generator.standard_normal(defaults.size)
        else:
            values = generator.uniform(lower, upper) * 10.0 ** -generator.uniform(0.0, 1.0, defaults.size)
        return np.clip(_scaled(np.clip(values, *bounds.T), amplitudes, objective, target), *bounds.T)

    yield _scaled(defaults, amplitudes, objective, target)
    for i in range(1, count):
        candidates = [draw(near=i % 3 == 1) for _ in range(_CANDIDATES)]
        errors = [float(((objective(values) - target) ** 2).sum()) for values in candidates]
        yield candidates[int(np.argmin(np.nan_to_num(errors, nan=np.inf)))]


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
    """Which parameters multiply φ as a whole when scaled together, shape (P,); none if there is no such set.

    Found by trying: a parameter belongs if φ is affine in it, and the set is kept only if doubling it doubles φ.
    """
    z = np.linspace(-6.0, 6.0, 97)
    base = np.array([min(max(0.37 + 0.11 * i, p.lower), p.upper) for i, p in enumerate(family.parameters)])
    whole = np.array([p.integer for p in family.parameters])
    base[whole] = [p.default for p in family.parameters if p.integer]
    one = family()
    affine = np.zeros(base.size, dtype=bool)
    for i in np.flatnonzero(~whole):
        at = [
            one.with_values(np.where(np.arange(base.size) == i, base + s, base))(z) for s in (-0.5, 0.0, 0.5)
        ]
        affine[i] = bool(np.allclose(at[0] + at[2], 2 * at[1], rtol=1e-9, atol=1e-9))
    once, twice = one.with_values(base)(z), one.with_values(np.where(affine, 2 * base, base))(z)
    return affine if np.allclose(twice, 2 * once, rtol=1e-9, atol=1e-9) else np.zeros_like(affine)
