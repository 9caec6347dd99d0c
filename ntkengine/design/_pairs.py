"""Kernels of sums of shifted ReLUs on fixed angles, with derivatives by slopes and locations: the inner loop of fits.

For (u, v) standard normal with correlation ρ = cos θ, thresholds h, k, m = max(h, k), the normal density p and its tail Φ(−·),

    P(u > h, v > k) = Φ(−m) − ∫_0^θ e(t) dt/2π,        e(t) = exp(−(h² + k² − 2hk cos t)/(2 sin² t)),
    E[(u − h)₊(v − k)₊] = E[(u − h)₊(u − k)₊] − (1 − ρ) Φ(−m) + ∫_0^θ e(t) (cos t − ρ) dt/2π,

as d/dρ of the second is the first and d/dθ of the first is −e/2π (Rosenbaum, J. R. Stat. Soc. B 23 (1961) 405, in other
letters). So e is all that a pair of thresholds costs: slopes times e are summed over the pairs first, and integrated to all
angles by running sums after that. The derivative by h has ``−e(t) (h − k cos t)/sin² t`` in place of e. The points suit any two
thresholds: Gauss–Legendre in the logarithm of the distance to the nearer of 0 and π, where e is analytic, and at most 1, in a
strip of one width for all thresholds.
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
    rho : (n,) array
        cos θ.
    points : (7, P) array
        Per point, ascending, 1/(8 sin²(t/2)) and 1/(8 cos²(t/2)); σ = ±1, to which cos t is nearer, and σ − cos t; the weight
        over 2π, the same over sin² t, and cos t.
    stops : (n,) array
        Angle i is reached after stops[i] points.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkengine.design._pairs import AngleRule
    >>> rule = AngleRule.of(np.array([0.0, 1.0, 2.0]))
    >>> rule.rho, bool(rule.stops[-1] == rule.points.shape[1])
    (array([ 1.,  0., -1.]), True)
    >>> round(float(rule.points[4].sum()), 9)  # ∫_0^π dt/2π
    0.5
    """

    rho: Array
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
        order = np.argsort(t)  # within the intervals, which ascend
        t, w = t[order], w[order]
        near, far = (1 / (8 * f(t / 2) ** 2) for f in (np.sin, np.cos))
        side = np.where(t <= np.pi / 2, 1.0, -1.0)
        rows = [near, far, side, side / (4 * np.maximum(near, far)), w / (2 * np.pi)]
        rows += [w / (2 * np.pi * np.sin(t) ** 2), np.cos(t)]
        return cls(1 - delta, np.array(rows), np.array(stops, dtype=np.int64))


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
def _range(h: float, k: float, points: Array) -> tuple[int, int]:
    """The points first..last−1 beyond which e is 0."""
    gap, total = (h - k) * (h - k), (h + k) * (h + k)
    near, far = points[0], points[1]
    low, high = 0, near.size
    while low < high:  # near falls from point to point, far rises
        middle = (low + high) // 2
        if gap * near[middle] > _NOTHING:
            low = middle + 1
        else:
            high = middle
    first = low
    low, high = first, near.size
    while low < high:
        middle = (low + high) // 2
        if total * far[middle] > _NOTHING:
            high = middle
        else:
            low = middle + 1
    return first, low


@fast
def _pairs(locations: Array, slopes: Array, points: Array, layers: Array, starts: Array) -> None:
    """Sums over the pairs: of e at the points, and of what holds at θ = 0.

    Parameters
    ----------
    locations, slopes : (J,) arrays
        h_j and s_j.
    points : (7, P) array
    layers : (2J+1, P) array
        Filled: J rows Σ_k s_k e_jk, J rows Σ_k s_k e_jk (h_j − h_k cos t), and scratch.
    starts : (4, J) array
        Filled: Σ_k s_k times E[(u−h_j)₊(u−h_k)₊], P(u > h_j, u > h_k) and their derivatives by h_j.
    """
    count = locations.size
    near, far, side, aside = points[0], points[1], points[2], points[3]
    layers[:] = 0.0
    starts[:] = 0.0
    e = layers[2 * count]
    for j in range(count):
        h, by_h = locations[j], slopes[j]
        here, moved_here = layers[j], layers[count + j]
        for i in range(j + 1):
            k, by_k = locations[i], slopes[i]
            first, last = _range(h, k, points)
            gap, total, top = (h - k) * (h - k), (h + k) * (h + k), max(h, k)
            for m in range(first, last):
                e[m] = _scalar.exp(-gap * near[m] - total * far[m])
            tail, density = normal_tail(top), normal_density(top)
            both = (1.0 + h * k) * tail - min(h, k) * density
            starts[0, j] += by_k * both
            starts[1, j] += by_k * tail
            starts[2, j] += by_k * (k * tail - density)
            starts[3, j] -= by_k * density * (1.0 if h > k else 0.5 if h == k else 0.0)
            for m in range(first, last):
                here[m] += by_k * e[m]
            for m in range(first, last):
                moved_here[m] += by_k * e[m] * ((h - side[m] * k) + aside[m] * k)
            if i == j:
                continue
            there, moved_there = layers[i], layers[count + i]
            starts[0, i] += by_h * both
            starts[1, i] += by_h * tail
            starts[2, i] += by_h * (h * tail - density)
            starts[3, i] -= by_h * density * (1.0 if k > h else 0.5 if h == k else 0.0)
            for m in range(first, last):
                there[m] += by_h * e[m]
            for m in range(first, last):
                moved_there[m] += by_h * e[m] * ((k - side[m] * h) + aside[m] * h)


@fast
def _summed(locations: Array, slopes: Array, points: Array, layer: Array) -> tuple[float, float]:
    """Fill ``layer`` (P,) with Σ_jk s_j s_k e_jk; returns what holds at θ = 0, as in :func:`_pairs`."""
    layer[:] = 0.0
    near, far, e = points[0], points[1], np.empty(layer.size)
    value = share = 0.0
    tails, densities = np.empty(locations.size), np.empty(locations.size)
    for j in range(locations.size):
        h = locations[j]
        tails[j], densities[j] = normal_tail(h), normal_density(h)
        for i in range(j + 1):
            k = locations[i]
            first, last = _range(h, k, points)
            factor = slopes[j] * slopes[i] * (1.0 if i == j else 2.0)
            gap, total, top = (h - k) * (h - k), (h + k) * (h + k), j if h > k else i
            tail = tails[top]
            value += factor * ((1.0 + h * k) * tail - min(h, k) * densities[top])
            share += factor * tail
            for m in range(first, last):
                e[m] = _scalar.exp(-gap * near[m] - total * far[m])
            for m in range(first, last):
                layer[m] += factor * e[m]
    return value, share


@fast
def _integrated(
    layer: Array, weights: Array, cosines: Array, stops: Indices, rho: Array, weight: float, value: float,
    share: float, out: Array,
) -> None:  # fmt: skip
    """``out`` = value − (1 − ρ) share + ∫_0^θ layer·(cos t − ρ) + weight ρ (share − ∫_0^θ layer), at the angles."""
    at, whole, tilted = 0, 0.0, 0.0
    for i in range(stops.size):
        piece, leaning = 0.0, 0.0  # sums of their own: the processor need not wait for the last ones
        for m in range(at, stops[i]):
            piece += weights[m] * layer[m]
            leaning += weights[m] * layer[m] * cosines[m]
        at = stops[i]
        whole += piece
        tilted += leaning
        out[i] = value - (1.0 - rho[i]) * share + tilted - rho[i] * whole + weight * rho[i] * (share - whole)


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
        Derivatives by s_j and by h_j; zeros unless wanted. Those by h_j are good to 1e-4 only where |h_j ± h_k| is below
        1e-4: there are no more points near 0 and π than the other sums need.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkengine.design._pairs import AngleRule, pair_sums
    >>> rule = AngleRule.of(np.array([0.0, 1.0, 2.0]))
    >>> value, by_slope, _ = pair_sums(rule, np.zeros(1), np.ones(1), 0.0, True)
    >>> (value * 2 * np.pi).round(9) + 0.0  # E[u₊ v₊], of the ReLU: π, 1 and 0 over 2π
    array([3.14159265, 1.        , 0.        ])
    >>> bool(np.allclose(by_slope, 2 * value))
    True
    """
    count, points, stops, rho = locations.size, rule.points, rule.stops, rule.rho
    value, by_slope, by_location = (
        np.empty(rho.size),
        np.zeros((count, rho.size)),
        np.zeros((count, rho.size)),
    )
    if not gradient:
        layer = np.empty(points.shape[1])
        start, share = _summed(locations, slopes, points, layer)
        _integrated(layer, points[4], points[6], stops, rho, weight, start, share, value)
        return value, by_slope, by_location
    layers, starts = np.empty((2 * count + 1, points.shape[1])), np.empty((4, count))
    _pairs(locations, slopes, points, layers, starts)
    _integrals(layers, points, stops, rho, weight, starts, by_slope, by_location)
    value = slopes @ by_slope
    by_slope *= 2.0
    by_location *= 2.0 * slopes[:, None]
    return value, by_slope, by_location


@fast
def _integrals(
    layers: Array, points: Array, stops: Indices, rho: Array, weight: float, starts: Array, by_slope: Array,
    by_location: Array,
) -> None:  # fmt: skip
    """Half the derivatives of the kernel by s_j, and by h_j but for the factor s_j; two (J, n) arrays, filled."""
    count = starts.shape[1]
    for j in range(count):
        _integrated(
            layers[j], points[4], points[6], stops, rho, weight, starts[0, j], starts[1, j], by_slope[j]
        )
        minus = layers[count + j]
        for m in range(minus.size):
            minus[m] = -minus[m]
        _integrated(
            minus, points[5], points[6], stops, rho, weight, starts[2, j], starts[3, j], by_location[j]
        )


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
