"""The kernel of a one-hidden-layer network at fixed angles as a fast function of the activation's parameters, with Jacobian.

With φ(√q z) = B(z) + S(z), B a sum of ramps s_j (z − h_j)₊ and S smooth, w_k = 1 (NNGP) or 1 + k (NTK):

    K(ρ) = K_B(ρ) + Σ_k w_k S_k (S_k + 2 B_k) ρ^k,    dK = dK_B + 2 Σ_k w_k ((B_k + S_k) dS_k + S_k dB_k) ρ^k,

where K_B and its derivatives are known (:mod:`ntkengine.design._pairs`) and S_k falls fast (Simon, Anand & DeWeese 2022,
theorem 3.1).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ntkengine import quadrature
from ntkengine.activations.flexible import KinksFamily, SplineFamily, spline_expansion, spline_knots
from ntkengine.design._pairs import AngleRule, evaluate_rows, pair_sums, ramp_coefficients, subtract_ramps
from ntkengine.design._scatter import moved, steps
from ntkengine.errors import AccuracyWarning, InputError
from ntkengine.hermite import hermite_functions
from ntkengine.infinite.dual import dual
from ntkengine.infinite.fcn import FCN

__all__ = ["Objective"]

Array = NDArray[np.float64]

#: Terms below this part of the whole are left out, and the smooth part's energy must be found to within it.
_SMALL = 1e-12
#: Domain and density of the rule for the smooth part.
_REACH, _PER_UNIT = 12.0, 56
_DEGREES = (64, 96, 128, 160, 192, 224, 256, 288, 320, 384, 448, 512, 640, 768, 1024, 1280, 1536, 2048)
#: Terms of the series of splines, whose a_k² fall like k^{−9/2}.
_SPLINE_DEGREE = 16384
#: A power of ρ below e^−40 is left out.
_LAST = 40.0


@dataclass(frozen=True, eq=False)
class _Parts:
    """B and S at one set of P parameters.

    Attributes
    ----------
    locations, slopes : (J,) arrays
        h_j and s_j.
    smooth : (D,) array
        S_k.
    by : tuple of a (J, P), a (J, P) and a (D, P) array, or None
        Their derivatives by the parameters.
    """

    locations: Array
    slopes: Array
    smooth: Array
    by: tuple[Array, Array, Array] | None


class Objective:
    """K(θ_i; p) for the NNGP or NTK of ``fcn`` with other parameter values p.

    Where B and S cannot be had (jumps of φ or of its curvature, very high frequencies) the general dual steps in.

    Parameters
    ----------
    fcn : FCN
        One hidden layer; its activation gives the family.
    kind : "ntk" or "nngp"
    theta : (n,) array
        Ascending angles from 0 to π.

    Attributes
    ----------
    evaluations : int
        Kernels computed, with or without Jacobian.
    """

    def __init__(self, fcn: FCN, kind: str, theta: Array) -> None:
        self.fcn, self.kind = fcn, kind
        self.family, self.ntk = fcn.activation.family, kind == "ntk"
        self.evaluations = 0
        self.variance = fcn.w_std**2 + fcn.b_std**2
        self.root = math.sqrt(self.variance)
        self.offset = fcn.readout_b_std**2
        self.scale = fcn.readout_w_std**2
        self.delta = fcn.w_std**2 * 2 * np.sin(theta / 2) ** 2 / self.variance
        self.rho = 1 - self.delta
        self._rule = AngleRule.of(self.delta)
        self._powers = np.empty((theta.size, 0))
        panels = round(2 * _REACH * _PER_UNIT / quadrature.ORDER)
        self._nodes, self._weights = quadrature.panel_rule(-_REACH, _REACH, (), panels)
        self._density_root = np.sqrt(quadrature.density(self._nodes))
        self._points = self.root * self._nodes
        self._table = np.empty((0, self._nodes.size))
        self._level = 0

    # --- the kernel ---------------------------------------------------------------------------------------------

    def __call__(self, values: Array) -> Array:
        """The kernel at the angles, (n,), for parameter values p, (P,)."""
        return self._compute(values, False)[0] + self.offset

    def linearised(self, values: Array) -> tuple[Array, Array]:
        """The kernel, (n,), and its derivatives by the parameters, (n, P); 0 for those that are integers."""
        kernel, jacobian = self._compute(values, True)
        if jacobian is None:
            jacobian = np.zeros((kernel.size, values.size))
            for i, step in enumerate(steps(self.family, values)):
                if step:
                    jacobian[:, i] = (self._compute(moved(values, i, step), False)[0] - kernel) / step
        return kernel + self.offset, jacobian

    def scalable(self, values: Array) -> Array:
        """The kernel less the output bias's part: proportional to the square of a factor of φ."""
        return self._compute(values, False)[0]

    def _compute(self, values: Array, gradient: bool) -> tuple[Array, Array | None]:
        self.evaluations += 1
        if isinstance(self.family, SplineFamily):
            forms = self._forms(values.size - 2, int(values[0]), int(values[1]))
            found = forms @ values[2:]
            by = np.hstack([np.zeros((self.rho.size, 2)), 2 * found]) if gradient else None
            return found @ values[2:], by
        parts = (
            self._kinks(values, gradient)
            if isinstance(self.family, KinksFamily)
            else self._sampled(values, gradient)
        )
        return self._general(values) if parts is None else self._assembled(parts)

    def _assembled(self, parts: _Parts) -> tuple[Array, Array | None]:
        h, s, smooth, by = parts.locations, parts.slopes, parts.smooth, parts.by
        value, by_slope, by_location = pair_sums(self._rule, h, s, float(self.ntk), by is not None)
        powers = self._weighted_powers(smooth.size)
        jumps, ramps = np.empty((2, h.size, smooth.size))
        ramp_coefficients(h, jumps, ramps)
        kinked = s @ ramps
        value = value + powers @ (smooth * (smooth + 2 * kinked))
        if by is None:
            return self.scale * value, None
        shifted, bent, by_smooth = by
        by_kinked = ramps.T @ bent - (jumps * s[:, None]).T @ shifted
        series = (smooth + kinked)[:, None] * by_smooth + smooth[:, None] * by_kinked
        jacobian = by_slope.T @ bent + by_location.T @ shifted + 2 * (powers @ series)
        return self.scale * value, self.scale * jacobian

    def _weighted_powers(self, count: int) -> Array:
        """w_k ρ^k, k < count, (n, count)."""
        if self._powers.shape[1] < count:
            k = np.arange(max(count, 2 * self._powers.shape[1]))
            self._powers = self.rho[:, None] ** k * (1 + k if self.ntk else 1)
        return self._powers[:, :count]

    def _general(self, values: Array) -> tuple[Array, None]:
        phi = self.fcn.activation.with_values(values)
        with warnings.catch_warnings():
            # The finished design is evaluated with warnings on.
            warnings.simplefilter("ignore", AccuracyWarning)
            try:
                here = dual(phi, self.variance)
            except InputError:
                return np.full(self.rho.size, math.nan), None
        found = here.evaluate(self.delta, 2 - self.delta)
        value = here.values(found.excess, found.deficit)
        return self.scale * (value + self.ntk * self.variance * self.rho * found.derivative), None

    # --- parts --------------------------------------------------------------------------------------------------

    def _kinks(self, values: Array, gradient: bool) -> _Parts:
        """The parts of :class:`KinksFamily`: S is the affine part."""
        count = (values.size - 2) // 2
        bends, places = slice(2, 2 + count), slice(2 + count, None)
        smooth = np.array([values[1], self.root * values[0]])
        by = None
        if gradient:
            shifted, bent, by_smooth = (np.zeros((m, values.size)) for m in (count, count, 2))
            shifted[:, places], bent[:, bends] = np.eye(count) / self.root, np.eye(count) * self.root
            by_smooth[0, 1], by_smooth[1, 0] = 1.0, self.root
            by = shifted, bent, by_smooth
        return _Parts(values[places] / self.root, values[bends] * self.root, smooth, by)

    def _sampled(self, values: Array, gradient: bool) -> _Parts | None:
        """The parts of any family whose only jumps are those of the slope: S projected on Hermite functions.

        The derivatives of S and of the ramps are differences, over steps that only φ is computed for.
        """
        span = steps(self.family, values) if gradient else np.zeros(values.size)
        moving = np.flatnonzero(span).tolist()
        rows = np.vstack([values, *(moved(values, i, span[i]) for i in moving)])
        ramps = [self._ramps(row) for row in rows]
        if any(found is None or found[0].size != ramps[0][0].size for found in ramps):  # type: ignore[index]
            return None
        locations, slopes = (np.array([found[i] for found in ramps]) for i in (0, 1))  # type: ignore[index]
        params = np.array([self.family.packed(tuple(row.tolist())) for row in rows], dtype=np.float64)
        smooth, unused = np.empty((2, len(rows), self._nodes.size))
        evaluate_rows(self.fcn.activation.tile(np.float64).address, self._points, params, smooth, unused)
        subtract_ramps(self._nodes, locations, slopes, smooth)
        smooth *= self._density_root
        smooth[1:] -= smooth[0]
        coefficients = self._projected(smooth)
        if coefficients is None:
            return None
        by = None
        if gradient:
            shifted, bent = (np.zeros((locations.shape[1], values.size)) for _ in range(2))
            by_smooth = np.zeros((coefficients.shape[1], values.size))
            shifted[:, moving] = ((locations[1:] - locations[0]) / span[moving][:, None]).T
            bent[:, moving] = ((slopes[1:] - slopes[0]) / span[moving][:, None]).T
            by_smooth[:, moving] = (coefficients[1:] / span[moving][:, None]).T
            by = shifted, bent, by_smooth
        return _Parts(locations[0], slopes[0], coefficients[0], by)

    def _ramps(self, values: Array) -> tuple[Array, Array] | None:
        """h_j and s_j of z ↦ φ(√q z), in the family's order; None if φ has jumps of another kind."""
        kinks = self.family.kinks(values) if self.family.kinks is not None else ()
        if any(kink.jump or kink.curvature_jump or kink.third_jump or kink.log_slope for kink in kinks):
            return None
        found = np.array(
            [(kink.location / self.root, kink.slope_jump * self.root) for kink in kinks]
        ).reshape(-1, 2)
        return found[:, 0].copy(), found[:, 1].copy()

    def _projected(self, rows: Array) -> Array | None:
        """Hermite coefficients of the rows, (R, D), D where the first one has died out; None if it does not."""
        energy = float((rows[0] * rows[0]) @ self._weights)
        if not math.isfinite(energy):
            return None
        while self._level < len(_DEGREES):
            degree = _DEGREES[self._level]
            first = self._functions(degree) @ rows[0]
            late = np.abs(first[15 * degree // 16 :]).max()
            if late * late <= _SMALL**2 * energy and abs(float(first @ first) - energy) <= _SMALL * energy:
                break
            self._level += 1
        else:
            self._level = 0
            return None
        significant = np.nonzero(np.abs(first) > _SMALL * math.sqrt(energy))[0]
        used = int(significant[-1]) + 2 if significant.size else 1
        if self._level and used < 15 * _DEGREES[self._level - 1] // 16:
            self._level -= 1
        used = min(used, degree + 1)
        if len(rows) == 1:
            return first[None, :used]
        return np.vstack([first[:used], rows[1:] @ self._functions(used - 1).T])

    def _functions(self, degree: int) -> Array:
        """ψ_k at the nodes times their weights, (degree+1, nodes)."""
        if self._table.shape[0] <= degree:
            level = min(
                max(degree, 2 * self._table.shape[0]), _DEGREES[-1]
            )  # few tables, each twice as long as the last
            self._table = np.ascontiguousarray(hermite_functions(self._nodes, level).T * self._weights)
        return self._table[: degree + 1]

    @lru_cache(maxsize=16)  # noqa: B019  an objective lives as long as one fit
    def _forms(self, size: int, density: int, start: int) -> Array:
        """The kernel as quadratic forms in the values of a spline at its knots, (n, size, size)."""
        below = self.delta[self.delta > 0]
        degree = int(min(_LAST / below.min(), _SPLINE_DEGREE)) if below.size else 1
        basis = spline_expansion(np.eye(size), density, start, self.variance, degree)
        weights = 1.0 + np.arange(degree + 1) * self.ntk
        forms = np.empty((self.rho.size, size, size))
        with np.errstate(under="ignore"):
            for form, rho in zip(forms, self.rho):
                last = (
                    degree + 1
                    if abs(rho) == 1
                    else min(int(-_LAST / math.log(abs(rho) + 1e-300)), degree) + 1
                )
                form[:] = (basis[:, :last] * (weights[:last] * rho ** np.arange(last))) @ basis[:, :last].T
            # What the series leaves out is known at ρ = ±1, and falls at least like ρ to the last power.
            z, w = quadrature.panel_rule(-13.0, 13.0, spline_knots(size, density, start) / self.root, 120)
            w = w * quadrature.density(z)
            phi, slope = np.empty((2, size, z.size))
            for j, unit in enumerate(np.eye(size)):
                phi[j], slope[j] = self.fcn.activation.with_values([density, start, *unit]).both(
                    self.root * z
                )
            for sign in (1, -1):  # the nodes are symmetric
                whole = (phi * w) @ phi[:, ::sign].T + sign * self.ntk * self.variance * (
                    (slope * w) @ slope[:, ::sign].T
                )
                missing = whole - (basis * (weights * sign ** np.arange(degree + 1))) @ basis.T
                forms += missing * ((sign * self.rho).clip(0.0) ** (1.5 * degree))[:, None, None]
        return self.scale * forms
