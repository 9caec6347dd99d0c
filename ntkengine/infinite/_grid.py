"""Compiled dual of slope jumps plus a smooth part on a fixed, ascending grid of angles, for fits.

Same formulas as :mod:`ntkengine.infinite._jumps`; the integrals from 0 to each angle are running sums over
one set of panels, whose geometry is tabulated once.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ntkengine._jit import strict
from ntkengine.infinite._jumps import exponent_e, normal_tail, relu_pair_at_one

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

_LAYER = 1.0 / math.sqrt(120.0)
#: Points in a tabulated panel; enough where the panel is no wider than half its distance from a layer.
POINTS = 8


@strict
def layer_panel(a: float, b: float, h: float, k: float, x: Array, w: Array) -> tuple[float, float]:
    """∫_a^b e(t) dt and ∫_a^b cos t e(t) dt for a panel that reaches into a layer: panels graded towards 0 and π."""
    near, far = _LAYER * abs(h - k), _LAYER * abs(h + k)
    gap, total = (h - k) ** 2 / 8.0, (h + k) ** 2 / 8.0
    plain, cosine = 0.0, 0.0
    t = max(a, near)
    stop = min(b, math.pi - far)
    while t < stop:
        width = stop - t
        if near > 0.0:
            width = min(width, max(near, t))
        if far > 0.0:
            width = min(width, max(far, 0.5 * (math.pi - t)))
        end = min(stop, t + width)
        half = 0.5 * (end - t)
        for i in range(x.size):
            s = t + half + half * x[i]
            e = w[i] * half * exponent_e(gap, total, s)
            plain += e
            cosine += e * math.cos(s)
        t = end
    return plain, cosine


@strict
def add_pair(
    h: float, k: float, factor: float, edges: Array, stops: Indices, near_table: Array, far_table: Array,
    weights: Array, cosine_weights: Array, delta: Array, x: Array, w: Array, deficit: Array, derivative: Array,
) -> None:  # fmt: skip
    """Add factor · (RR(1) − RR(ρ_i)) to ``deficit`` and factor · P(u>h, v>k) to ``derivative``, at every angle.

    Parameters
    ----------
    h, k, factor : float
    edges : (P+1,) array
        Panel ends, from 0.
    stops : (n,) array
        Angle i is edges[stops[i]].
    near_table, far_table, weights, cosine_weights : (P, POINTS) arrays
        1/(8 sin²(t/2)), 1/(8 cos²(t/2)), the rule's weights, and the weights times cos t.
    delta : (n,) array
        1 − ρ.
    x, w : arrays
        Gauss–Legendre rule for the panels in layers.
    deficit, derivative : (n,) arrays
        Added to.
    """
    gap, total = (h - k) ** 2, (h + k) ** 2
    tail = normal_tail(max(h, k))
    plain, cosine, panel = 0.0, 0.0, 0
    for i in range(stops.size):
        while panel < stops[i]:
            a, b = edges[panel], edges[panel + 1]
            if (gap > 0.0 and a < 2.0 * (b - a)) or (total > 0.0 and math.pi - b < 2.0 * (b - a)):
                more, more_cosine = layer_panel(a, b, h, k, x, w)
                plain += more
                cosine += more_cosine
            else:
                for j in range(POINTS):
                    e = math.exp(-gap * near_table[panel, j] - total * far_table[panel, j])
                    plain += e * weights[panel, j]
                    cosine += e * cosine_weights[panel, j]
            panel += 1
        moment = cosine - (1.0 - delta[i]) * plain
        deficit[i] += factor * (tail * delta[i] - moment / (2.0 * math.pi))
        derivative[i] += factor * (tail - plain / (2.0 * math.pi))


@strict
def grid_dual(
    locations: Array, slopes: Array, terms: Array, derivative_terms: Array, variance: float, edges: Array,
    stops: Indices, near_table: Array, far_table: Array, weights: Array, cosine_weights: Array, rho: Array,
    delta: Array, x: Array, w: Array, value: Array, derivative: Array,
) -> None:  # fmt: skip
    """G(ρ_i) and E[φ'φ'](ρ_i) at every angle of the grid.

    Parameters
    ----------
    locations, slopes : (J,) arrays
        h_j and J_j of z ↦ φ(√q z); no value jumps.
    terms, derivative_terms : (degree+1,) arrays
        Of :func:`ntkengine.infinite._dual.series_terms`.
    variance : float
        q.
    edges, stops, near_table, far_table, weights, cosine_weights, x, w : arrays
        See :func:`add_pair`.
    rho, delta : (n,) arrays
        ρ and 1 − ρ.
    value, derivative : (n,) arrays
        Filled.
    """
    n = rho.size
    value[:] = 0.0
    derivative[:] = 0.0
    at_one = 0.0
    for i in range(locations.size):
        for j in range(i + 1):
            factor = slopes[i] * slopes[j] * (1.0 if i == j else 2.0)
            at_one += factor * relu_pair_at_one(locations[i], locations[j])
            add_pair(
                locations[i], locations[j], factor, edges, stops, near_table, far_table, weights, cosine_weights,
                delta, x, w, value, derivative,
            )  # fmt: skip
    series, slope = np.zeros(n), np.zeros(n)
    for k in range(terms.size - 1, -1, -1):
        a, b = terms[k], derivative_terms[k]
        for i in range(n):
            series[i] = series[i] * rho[i] + a
            slope[i] = slope[i] * rho[i] + b
    for i in range(n):
        value[i] = at_one - value[i] + series[i]
        derivative[i] = (derivative[i] + slope[i]) / variance
