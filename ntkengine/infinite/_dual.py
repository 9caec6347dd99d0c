"""Compiled Mehler series of a dual at one variance, with the jump part taken out (:mod:`ntkengine.infinite._jumps`)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ntkengine._jit import DUAL_STRIDE, call_tile, strict
from ntkengine.infinite._jumps import ORDERS, SCRATCH, angle, cusp_deficits, deficits

Array = NDArray[np.float64]


@strict
def series_terms(
    coefficients: Array, values: Array, steps: Array, terms: Array, derivative_terms: Array
) -> None:
    """What is left of the Mehler sums when the jump part is taken out.

    With S = A − B: ``terms[k] = A_k² − B_k² = S_k (S_k + 2 B_k)``, and, c_k = √(k+1) S_{k+1} the coefficients of S',
    ``derivative_terms[k] = c_k (c_k + 2 b_k)``. The last entry of ``derivative_terms`` is 0.
    """
    last = terms.size - 1
    for k in range(terms.size):
        smooth = coefficients[k] - values[k]
        terms[k] = smooth * (smooth + 2.0 * values[k])
        derivative_terms[k] = 0.0
        if k < last:
            c = math.sqrt(k + 1.0) * (coefficients[k + 1] - values[k + 1])
            derivative_terms[k] = c * (c + 2.0 * steps[k])


@strict
def tail_sums(terms: Array, tails: Array) -> None:
    """tails[j] = Σ_{k>j} terms[k]: Σ_k terms[k](1 − ρ^k) = (1 − ρ) Σ_j tails[j] ρ^j."""
    total = 0.0
    for j in range(terms.size - 1, -1, -1):
        tails[j] = total
        total += terms[j]


@strict
def evaluate(
    delta: Array, eta: Array, parity: int, locations: Array, jumps: Array, cusp: float, tails: Array,
    derivative_terms: Array, at_one: float, variance: float, x: Array, w: Array, deficit: Array, excess: Array,
    derivative: Array,
) -> None:  # fmt: skip
    """The dual at n points of the sphere.

    Parameters
    ----------
    delta, eta : (n,) arrays
        1 − ρ and 1 + ρ.
    parity : int
        1 if φ is even, −1 if odd: then the half ρ < 0 is the mirror image of the other; 0 if neither.
    locations, jumps : (J,) and (J, 4) arrays
        Thresholds and factors of the truncated powers of z ↦ φ(√q z).
    cusp : float
        Its factor of z log|z|; if not 0, the only threshold is 0.
    tails, derivative_terms : (degree+1,) arrays
    at_one : float
        G(1).
    variance : float
        q.
    x, w : arrays
        Gauss–Legendre rule.
    deficit, excess, derivative : (n,) arrays
        Filled with G(1) − G(ρ), G(1) + G(ρ) and E[φ'(√q u)φ'(√q v)].
    """
    scratch, cross = np.empty(SCRATCH), np.zeros(ORDERS)
    for j in range(locations.size):
        for m in range(ORDERS):
            cross[m] += 2.0 * cusp * jumps[j, m]
    for i in range(delta.size):
        near, far = delta[i], eta[i]
        mirrored = parity != 0 and near > far
        if mirrored:
            near, far = far, near
        rho = 1.0 - near if near <= far else far - 1.0
        slow, slope = 0.0, 0.0
        for k in range(tails.size - 1, -1, -1):
            slow = slow * rho + tails[k]
            slope = slope * rho + derivative_terms[k]
        lost, jumped, theta = 0.0, 0.0, angle(near, far)
        if locations.size > 0:
            lost, jumped = deficits(locations, jumps, locations, jumps, True, near, theta, x, w, scratch)
        if cusp != 0.0:
            more, more_slope = cusp_deficits(cross, cusp * cusp, near, theta)
            lost, jumped = lost + more, jumped + more_slope
        lost += near * slow
        if mirrored and parity < 0:
            deficit[i], excess[i] = 2.0 * at_one - lost, lost
        else:
            deficit[i], excess[i] = lost, 2.0 * at_one - lost
        derivative[i] = (slope + jumped) / variance
        if mirrored and parity > 0:
            derivative[i] = -derivative[i]


@strict
def evaluate_closed(address: int, params: Array, row: Array, delta: Array, eta: Array, out: Array) -> None:
    """The closed-form dual of equal variances at n points.

    Parameters
    ----------
    address : int
        Of the tile (:func:`ntkengine._jit.compile_dual`).
    params : array
    row : (2,) array
        √q and √E[φ²].
    delta, eta : (n,) arrays
    out : (3, n) array
        Filled with gap, total and slope.
    """
    work = np.empty((7, DUAL_STRIDE))
    for start in range(0, delta.size, DUAL_STRIDE):
        n = min(DUAL_STRIDE, delta.size - start)
        for j in range(n):
            work[0, j], work[1, j] = row[0], row[1]
            work[2, j], work[3, j] = delta[start + j], eta[start + j]
        call_tile(address, n, work, params, row, row)
        for j in range(n):
            for i in range(3):
                out[i, start + j] = work[4 + i, j]
