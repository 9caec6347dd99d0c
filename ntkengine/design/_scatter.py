"""How widely the empirical kernel of finite networks scatters, as a function of the activation's parameters, with gradient."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ntkengine import quadrature
from ntkengine.activations.base import ActivationFamily
from ntkengine.activations.flexible import KinksFamily, SplineFamily, spline_knots
from ntkengine.design._pairs import evaluate_rows
from ntkengine.infinite.fcn import FCN

__all__ = ["STEP", "Scatter", "Spread", "moved", "steps"]

Array = NDArray[np.float64]
Reals = NDArray[np.floating[Any]]

#: The rule ends this many standard deviations out, and has this many panels between.
_REACH, _PANELS = 12.0, 56
#: Relative step of a parameter for the derivative of φ by it.
STEP = 1e-7


class Spread(NamedTuple):
    """Scatter of one neuron's share of the kernel.

    ``neuron_variance``: v, the relative variance of one neuron's share at c = 1. A neuron adds X = φ² (NNGP) or φ² + q r² φ'²
    (NTK; r its output weight, E r² = 1, E r⁴ = 3), v = E[X²]/E[X]² − 1, and the empirical kernel of width N scatters by √(v/N)
    of K(1) − ω_b².
    ``kurtosis``: E[φ⁴]/E[φ²]².
    """

    neuron_variance: float
    kurtosis: float


class Scatter:
    """:class:`Spread` of the activation of ``fcn`` with other parameter values p, by panels that end at the kinks.

    Parameters
    ----------
    fcn : FCN
        One hidden layer; its activation gives the family.
    kind : "ntk" or "nngp"
    """

    def __init__(self, fcn: FCN, kind: str) -> None:
        self.activation, self.family = fcn.activation, fcn.activation.family
        self.variance = fcn.w_std**2 + fcn.b_std**2
        self.root = math.sqrt(self.variance)
        self.slope_weight = self.variance * (kind == "ntk")
        self._edges = np.linspace(-_REACH, _REACH, _PANELS + 1)

    def __call__(self, values: Array) -> Spread:
        """The spread at parameter values p, (P,); infinite where φ⁴ grows too fast."""
        z, weights = self._rule(self._locations(values))
        return self._spread(*self.activation.with_values(values).both(self.root * z), weights)[0]

    def linearised(self, values: Array) -> tuple[Spread, Array]:
        """The spread, and the derivatives of its two numbers by the parameters, (2, P); 0 where it is infinite.

        ``∂_p ∫ F p dz = ∫ (F_φ ∂_p φ + F_φ' ∂_p φ') p dz − Σ_j ∂_p h_j [F(h_j + 0) − F(h_j − 0)] p(h_j)``, h_j the kinks.
        """
        locations = self._locations(values)
        z, weights = self._rule(locations)
        phi, slope, by_phi, by_slope = self._tangents(values, z)
        spread, integrals = self._spread(phi, slope, weights)
        if not math.isfinite(spread.neuron_variance) or integrals[2] == 0:
            return spread, np.zeros((2, values.size))
        m = self.slope_weight
        factors = [
            (2 * phi, 2 * m * slope),
            (4 * phi**3 + 4 * m * phi * slope**2, 4 * m * phi**2 * slope + 12 * m * m * slope**3),
            (2 * phi, None),
            (4 * phi**3, None),
        ]
        derivatives = np.array(
            [by_phi @ (weights * f) + (0.0 if g is None else by_slope @ (weights * g)) for f, g in factors]
        )
        moving = self._moving(values, locations)
        if moving is not None:
            phi_at = self.activation.with_values(values)
            at, aside = self.root * locations, 1e-12 * (1 + np.abs(self.root * locations))
            sides = [phi_at.both(at - aside), phi_at.both(at + aside)]
            left, right = (np.array(self._integrands(*side)) for side in sides)
            derivatives -= ((right - left) * quadrature.density(locations)) @ moving
        mean, fourth, second, quartic = integrals
        return spread, np.array(
            [
                derivatives[1] / mean**2 - 2 * fourth / mean**3 * derivatives[0],
                derivatives[3] / second**2 - 2 * quartic / second**3 * derivatives[2],
            ]
        )

    def _integrands(self, phi: Reals, slope: Reals) -> tuple[Reals, Reals, Reals, Reals]:
        """X, X² averaged over r, φ² and φ⁴."""
        value, moved_part = phi * phi, self.slope_weight * slope * slope
        fourth = value * value + 2 * value * moved_part + 3 * moved_part * moved_part
        return value + moved_part, fourth, value, value * value

    def _spread(self, phi: Reals, slope: Reals, weights: Array) -> tuple[Spread, Array]:
        """The spread and the four integrals that it is made of."""
        with np.errstate(over="ignore", invalid="ignore"):
            integrands = self._integrands(phi, slope)
            mean, fourth, second, quartic = integrals = np.array(integrands) @ weights
            ends = integrands[1] * weights
        if not max(ends[0], ends[-1]) <= 1e-12 * fourth < math.inf:  # the mass of φ⁴ lies beyond the nodes
            return Spread(math.inf, math.inf), integrals
        return Spread(
            float(fourth / mean**2 - 1) if mean > 0 else math.inf,
            float(quartic / second**2) if second > 0 else math.inf,
        ), integrals

    def _rule(self, locations: Array) -> tuple[Array, Array]:
        """Nodes, and weights with the density; from end to end of the range whatever the kinks."""
        inner = locations[np.abs(locations) < _REACH]
        ends = np.sort(np.concatenate([self._edges, inner]))
        x, w = quadrature.gauss_legendre(quadrature.ORDER)
        half = np.diff(ends)[:, None] / 2
        nodes = (ends[:-1, None] + half + half * x).ravel()
        return nodes, (half * w).ravel() * quadrature.density(nodes)

    def _locations(self, values: Array) -> Array:
        """Kinks of z ↦ φ(√q z), in the family's order."""
        if isinstance(self.family, KinksFamily):
            return values[2 + (values.size - 2) // 2 :] / self.root
        if isinstance(self.family, SplineFamily):
            return spline_knots(values.size - 2, int(values[0]), int(values[1])) / self.root
        kinks = self.family.kinks(values) if self.family.kinks is not None else ()
        return np.array([kink.location / self.root for kink in kinks])

    def _moving(self, values: Array, locations: Array) -> Array | None:
        """Derivatives of the kinks' locations by the parameters, (J, P); None if none moves."""
        if locations.size == 0 or isinstance(self.family, SplineFamily):
            return None
        out = np.zeros((locations.size, values.size))
        if isinstance(self.family, KinksFamily):
            out[:, 2 + locations.size :] = np.eye(locations.size) / self.root
            return out
        for i, step in enumerate(steps(self.family, values)):
            there = self._locations(moved(values, i, step)) if step else locations
            if there.size != locations.size:
                return None
            out[:, i] = (there - locations) / (step or 1.0)
        return out

    def _tangents(self, values: Array, z: Array) -> tuple[Reals, Reals, Array, Array]:
        """φ and φ' at √q z, (n,), and their derivatives by the parameters, (P, n)."""
        if isinstance(self.family, KinksFamily):
            count = (values.size - 2) // 2
            y = self.root * z
            beyond = y - values[2 + count :, None]
            on = (beyond > 0) * 1.0
            a = values[2 : 2 + count, None]
            zero, one = np.zeros_like(y), np.ones_like(y)
            by_phi = np.vstack([y, one, beyond * on, -a * on])
            by_slope = np.vstack([one, zero, on, np.zeros_like(on)])
            phi, slope = self.activation.with_values(values).both(y)
            return phi, slope, by_phi, by_slope
        if isinstance(self.family, SplineFamily):
            basis, slopes = self._spline_basis(values.size - 2, int(values[0]), int(values[1]))
            return values[2:] @ basis[2:], values[2:] @ slopes[2:], basis, slopes
        span = steps(self.family, values)
        moving = np.flatnonzero(span).tolist()
        phi, slope = self._rows(np.vstack([values, *(moved(values, i, span[i]) for i in moving)]), z)
        by_phi, by_slope = np.zeros((2, values.size, z.size))
        by_phi[moving] = (phi[1:] - phi[0]) / span[moving][:, None]
        by_slope[moving] = (slope[1:] - slope[0]) / span[moving][:, None]
        return phi[0], slope[0], by_phi, by_slope

    def _rows(self, rows: Array, z: Array) -> tuple[Array, Array]:
        params = np.array([self.family.packed(tuple(row.tolist())) for row in rows], dtype=np.float64)
        phi, slope = np.empty((2, len(rows), z.size))
        evaluate_rows(self.activation.tile(np.float64).address, self.root * z, params, phi, slope)
        return phi, slope

    @lru_cache(maxsize=16)  # noqa: B019  lives as long as one fit
    def _spline_basis(self, size: int, density: int, start: int) -> tuple[Array, Array]:
        """φ and φ' by density, start and the values, at the nodes of the rule: zeros, and splines with one value 1; (P, n)."""
        rows = np.hstack([np.tile([density, start], (size, 1)), np.eye(size)])
        z, _ = self._rule(self._locations(rows[0]))
        phi, slope = self._rows(rows, z)
        empty = np.zeros((2, z.size))
        return np.vstack([empty, phi]), np.vstack([empty, slope])


def steps(family: ActivationFamily, values: Array) -> Array:
    """Steps of the parameters for differences, (P,), towards the inside of their bounds; 0 for integers."""
    out = STEP * np.maximum(1.0, np.abs(values))
    for i, parameter in enumerate(family.parameters):
        if parameter.integer:
            out[i] = 0.0
        elif values[i] + out[i] > parameter.upper:
            out[i] = -out[i]
    return out


def moved(values: Array, index: int, step: float) -> Array:
    """The values with one of them moved."""
    out = values.copy()
    out[index] += step
    return out
