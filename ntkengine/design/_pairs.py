"""Kernels of sums of shifted ReLUs on fixed angles, with derivatives by slopes and locations: the inner loop of fits.

For (u, v) standard normal with correlation ρ = cos θ, thresholds h, k, and the normal density and distribution p, Φ:

    P = P(u > h, v > k) = Φ(−max(h, k)) − ∫_0^θ e(t) dt/2π,
    A = P(u > h | v = k) = Φ((ρk − h)/sin θ),    B = P(v > k | u = h) = Φ((ρh − k)/sin θ),
    E[(u − h)₊(v − k)₊] = (ρ + hk) P − k p(h) B − h p(k) A + sin θ e(θ)/2π,

with e of :mod:`ntkengine.infinite._jumps` (Rosenbaum, J. R. Stat. Soc. B 23 (1961) 405, in other letters). The derivatives by h
are ``−p(h) B`` of P and ``−E[1(u>h) (v−k)₊] = k P − p(k) A − ρ p(h) B`` of the last line. The integrals to all angles are
running sums over one set of points, which suits any two thresholds: Gauss–Legendre in the logarithm of the distance to the
nearer of 0 and π, where e is analytic, and at most 1, in a strip of one width for all thresholds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ntkengine import _scalar, quadrature
from ntkengine._jit import call_tile, fast, strict
from ntkengine.infinite._jumps import normal_density, normal_tail

__all__ = ["AngleRule", "evaluate_rows", "pair_sums", "ramp_coefficients", "subtract_ramps"]

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

#: Nearer to 0 or π than this, e is not resolved: it does not exceed 1.
_NEAREST = 1e-10
#: Widths of logarithmic panels and the points that integrate e over them to 1e-10.
_ORDERS = ((0.06, 3), (0.15, 4), (0.3, 6), (0.6, 8), (1.0, 10))
#: Exponents beyond which e is left out.
_NOTHING = 40.0


@dataclass(frozen=True, eq=False)
class AngleRule:
    """Points for ∫_0^θ e(t) dt/2π at ascending angles.

    Attributes
    ----------
    angles : (5, n) array
        Per angle ρ, sin θ/2π, 1/sin θ, 1/(8 sin²(θ/2)) and 1/(8 cos²(θ/2)); what is infinite is 1e300.
    points : (3, P) array
        Per point 1/(8 sin²(t/2)), 1/(8 cos²(t/2)) and its weight over 2π.
    stops : (n,) array
        Angle i is reached after stops[i] points.
    """

    angles: Array
    points: Array
    stops: Indices

    @classmethod
    def of(cls, delta: Array) -> AngleRule:
        """The rule for angles given by δ = 1 − ρ, ascending in [0, 2]."""
        theta = 2 * np.arcsin(np.sqrt(np.clip(delta / 2, 0.0, 1.0)))
        points, weights, stops = [np.zeros(0)], [np.zeros(0)], []
        last, count = 0.0, 0
        for angle in theta.tolist():
            for a, b in ((last, min(angle, np.pi / 2)), (max(last, np.pi / 2), angle)):
                if b > a:
                    t, w = _panels(a, b) if b <= np.pi / 2 else _panels(np.pi - b, np.pi - a)
                    points.append(t if b <= np.pi / 2 else np.pi - t)
                    weights.append(w)
                    count += t.size
            last = angle
            stops.append(count)
        t, w = np.concatenate(points), np.concatenate(weights)
        sine = np.sin(theta)
        rows = [1 - delta, sine / (2 * np.pi), 1 / (sine + 1e-300), *_factors(theta)]
        return cls(np.array(rows), np.array([*_factors(t), w / (2 * np.pi)]), np.array(stops, dtype=np.int64))


def _factors(t: Array) -> list[Array]:
    with np.errstate(divide="ignore"):
        return [np.minimum(1 / (8 * f(t / 2) ** 2), 1e300) for f in (np.sin, np.cos)]


def _panels(a: float, b: float) -> tuple[Array, Array]:
    """Points and weights on [a, b], 0 <= a < b <= π/2, for what is rough at 0."""
    start = max(a, min(_NEAREST, b / 2))
    top, length = math.log(b), math.log(b / start)
    widths = np.array([length])
    if length > _ORDERS[-1][0]:  # the nearer to 0, the less a panel adds, and the wider it may be
        widths = np.append(0.0, 1 + np.arange(math.ceil(length)) / 3)
        ends = np.cumsum(widths)
        widths = np.diff(np.append(ends[ends < length - 0.3], length))
    points, weights = [], []
    for width in widths.tolist():
        order = next((n for widest, n in _ORDERS if width <= widest), _ORDERS[-1][1])
        x, w = quadrature.gauss_legendre(order)
        t = np.exp(top - width / 2 + width / 2 * x)
        points.append(t)
        weights.append(width / 2 * w * t)
        top -= width
    if a == 0.0:
        x, w = quadrature.gauss_legendre(4)
        points.append(start / 2 * (1 + x))
        weights.append(start / 2 * w)
    return np.concatenate(points), np.concatenate(weights)


@fast
def _pair(
    h: float, k: float, weight: float, angles: Array, points: Array, stops: Indices, gradient: bool, work: Array,
    value: Array, by_first: Array, by_second: Array,
) -> None:  # fmt: skip
    """E[(u−h)₊(v−k)₊] + weight ρ P(u>h, v>k) at every angle, and its derivatives by h and by k.

    Parameters
    ----------
    h, k, weight : float
    angles, points, stops : arrays
        Of :class:`AngleRule`.
    gradient : bool
        Whether the derivatives are wanted.
    work : (W,) array
        Scratch, W >= P and W >= 3n.
    value, by_first, by_second : (n,) arrays
        Filled.
    """
    n = stops.size
    gap, total = (h - k) * (h - k), (h + k) * (h + k)
    near, far, weights = points[0], points[1], points[2]
    rho, sine, inverse, end_near, end_far = angles[0], angles[1], angles[2], angles[3], angles[4]
    # e is 0 up to the angle of one layer, and from that of the other on.
    begin, end = 0, n
    while begin < n and gap * end_near[begin] > _NOTHING:
        begin += 1
    while end > begin and total * end_far[end - 1] > _NOTHING:
        end -= 1
    end = min(end + 1, n)
    at = stops[begin - 1] if begin > 0 else 0
    for m in range(at, stops[end - 1]):
        work[m] = weights[m] * _scalar.exp(-gap * near[m] - total * far[m])
    tail, running = normal_tail(max(h, k)), 0.0
    for i in range(n):
        panel = 0.0  # a sum of its own: the processor need not wait for the last one
        if begin <= i < end:
            for m in range(at, stops[i]):
                panel += work[m]
            at = stops[i]
        running += panel
        value[i] = tail - running
    here, there = normal_density(h), normal_density(k)
    up, across, edge = work[:n], work[n : 2 * n], work[2 * n : 3 * n]
    # One array written per loop: with more of them LLVM gives up showing that they do not overlap.
    for i in range(n):
        up[i] = here * _scalar.normal((rho[i] * h - k) * inverse[i])[0]
    for i in range(n):
        across[i] = there * _scalar.normal((rho[i] * k - h) * inverse[i])[0]
    for i in range(n):
        edge[i] = sine[i] * _scalar.exp(-gap * end_near[i] - total * end_far[i])
    both, product = 1.0 + weight, h * k
    if gradient:
        for i in range(n):
            by_first[i] = k * value[i] - across[i] - both * rho[i] * up[i]
        for i in range(n):
            by_second[i] = h * value[i] - up[i] - both * rho[i] * across[i]
    for i in range(n):
        value[i] = (both * rho[i] + product) * value[i] + edge[i] - k * up[i] - h * across[i]


@fast
def _pairs(
    locations: Array, slopes: Array, weight: float, angles: Array, points: Array, stops: Indices, gradient: bool,
    sums: Array,
) -> None:  # fmt: skip
    """Fill ``sums`` (2J+1, n) with the kernel, its derivatives by s_j and those by h_j."""
    n, count = stops.size, locations.size
    work = np.empty(max(points.shape[1], 3 * n))
    pair, first, second = np.empty(n), np.zeros(n), np.zeros(n)
    sums[:] = 0.0
    for j in range(count):
        for k in range(j + 1):
            _pair(
                locations[j], locations[k], weight, angles, points, stops, gradient, work, pair, first, second,
            )  # fmt: skip
            both = 1.0 if j == k else 2.0
            factor = both * slopes[j] * slopes[k]
            for i in range(n):
                sums[0, i] += factor * pair[i]
            if gradient:
                for i in range(n):
                    sums[1 + j, i] += both * slopes[k] * pair[i]
                for i in range(n):
                    sums[1 + k, i] += both * slopes[j] * pair[i]
                for i in range(n):
                    sums[1 + count + j, i] += factor * first[i]
                for i in range(n):
                    sums[1 + count + k, i] += factor * second[i]


def pair_sums(
    rule: AngleRule, locations: Array, slopes: Array, weight: float, gradient: bool
) -> tuple[Array, Array, Array]:
    """K_i = Σ_jk s_j s_k (E[(u−h_j)₊(v−h_k)₊] + weight ρ_i P(u>h_j, v>h_k)) and its derivatives.

    On one thread: fits call it a thousand times a second, and waking another thread takes as long as it would save.

    Parameters
    ----------
    rule : AngleRule
        Of n angles.
    locations, slopes : (J,) arrays
        h_j and s_j.
    weight : float
        1 for the NTK, 0 for the NNGP kernel.
    gradient : bool
        Whether the derivatives are wanted.

    Returns
    -------
    value : (n,) array
    by_slope, by_location : (J, n) arrays
        Derivatives by s_j and by h_j; zeros unless wanted.
    """
    count = locations.size
    sums = np.empty((2 * count + 1, rule.stops.size))
    _pairs(locations, slopes, weight, rule.angles, rule.points, rule.stops, gradient, sums)
    return sums[0], sums[1 : 1 + count], sums[1 + count :]


@strict
def ramp_coefficients(locations: Array, steps: Array, ramps: Array) -> None:
    """Hermite coefficients of the steps z > h_j and of the ramps (z − h_j)₊, k < D.

    ``step_k = h_{k−1}(h) p(h)/√k``, ``√(k+1) ramp_{k+1} = step_k``.

    Parameters
    ----------
    locations : (J,) array
        h_j.
    steps, ramps : (J, D) arrays
        Filled.
    """
    for j in range(locations.size):
        h = locations[j]
        root = math.exp(-0.25 * h * h) / (2 * math.pi) ** 0.25
        step = normal_tail(h)
        ramp = normal_density(h) - h * step
        before, here = 0.0, root  # h_k(h) √p(h)
        for k in range(steps.shape[1]):
            steps[j, k], ramps[j, k] = step, ramp
            up = 1.0 / math.sqrt(k + 1.0)
            ramp, step = step * up, here * root * up
            before, here = here, (h * here - math.sqrt(k) * before) * up


@strict
def evaluate_rows(address: int, points: Array, params: Array, phi: Array, dphi: Array) -> None:
    """φ and φ' at n points for R sets of parameters (R, m), as the tile at ``address`` reads them; fills two (R, n) arrays."""
    for r in range(params.shape[0]):
        call_tile(address, points.size, points, params[r], phi[r], dphi[r])


@strict
def subtract_ramps(nodes: Array, locations: Array, slopes: Array, rows: Array) -> None:
    """rows[r] −= Σ_j slopes[r, j] (nodes − locations[r, j])₊; (n,), (R, J), (R, J) and (R, n) arrays."""
    for r in range(rows.shape[0]):
        row = rows[r]
        for j in range(slopes.shape[1]):
            h, slope = locations[r, j], slopes[r, j]
            for i in range(nodes.size):
                row[i] -= slope * max(nodes[i] - h, 0.0)
