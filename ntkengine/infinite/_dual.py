"""Compiled parts of the dual of an activation: pair integrals of shifted steps and ReLUs, and the Mehler series.

Two standard normals u, v with correlation ρ = cos θ. For thresholds h, k (p, Φ the normal density and distribution,
m = max(h, k)) the *bivariate exponent* is, free of cancellation,

    e(t) = exp(−(h−k)²/(8 sin²(t/2)) − (h+k)²/(8 cos²(t/2))),

2π sin t times which is the exponential part of the bivariate density at (h, k) with correlation cos t. Then, because
d/dρ E[f(u)g(v)] = E[f'(u)g'(v)] (Price's theorem),

    P(u>h, v>k)                  = Φ(−m) − (1/2π) ∫_0^θ e(t) dt
    RR(1) − RR(ρ)                = Φ(−m)(1 − cos θ) − (1/2π) ∫_0^θ (cos t − cos θ) e(t) dt,   RR = E[(u−h)₊(v−k)₊]
    SR(1) − SR(ρ)                = p(h) ∫_0^θ Φ((h cos t − k)/sin t) sin t dt,                SR = E[step(u−h)(v−k)₊]

All are written as deficits from ρ = 1, which is what a deep kernel needs near the diagonal.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ntkengine._jit import strict

Array = NDArray[np.float64]

#: Where the exponent of e(t) is below −60, e is left out.
_LAYER = 1.0 / math.sqrt(120.0)
#: Widest panel in t, for the 20-point rule.
_WIDEST = 0.5
_ROOT_HALF = math.sqrt(0.5)
_ROOT_2PI = math.sqrt(2 * math.pi)


@strict
def normal_density(x: float) -> float:
    """p(x)."""
    return math.exp(-0.5 * x * x) / _ROOT_2PI


@strict
def normal_tail(x: float) -> float:
    """Φ(−x)."""
    return 0.5 * math.erfc(_ROOT_HALF * x)


@strict
def angle(delta: float, eta: float) -> float:
    """θ with 1 − cos θ = delta and 1 + cos θ = eta; relative accuracy from whichever is small."""
    if delta <= eta:
        return 2.0 * math.asin(math.sqrt(0.5 * delta))
    return math.pi - 2.0 * math.asin(math.sqrt(0.5 * eta))


@strict
def sin_minus_t_cos(t: float) -> float:
    """Sin t − t cos t, to full relative accuracy: Σ_n (−1)^{n+1} 2n t^{2n+1}/(2n+1)! for small t."""
    if t > 0.6:
        return math.sin(t) - t * math.cos(t)
    square, term, total = t * t, t * t * t / 6.0, 0.0
    for n in range(1, 9):
        total += 2.0 * n * term
        term *= -square / ((2.0 * n + 2.0) * (2.0 * n + 3.0))
    return total


@strict
def exponent_e(gap: float, total: float, t: float) -> float:
    """e(t), from gap = (h−k)²/8 and total = (h+k)²/8."""
    power = 0.0
    if gap > 0.0:
        power += gap / math.sin(0.5 * t) ** 2
    if total > 0.0:
        power += total / math.cos(0.5 * t) ** 2
    return math.exp(-power)


@strict
def relu_pair_at_one(h: float, k: float) -> float:
    """E[(z−h)₊(z−k)₊]."""
    m, n = max(h, k), min(h, k)
    return (1.0 + m * n) * normal_tail(m) - n * normal_density(m)


@strict
def step_relu_at_one(h: float, k: float) -> float:
    """E[step(z−h)(z−k)₊]."""
    m = max(h, k)
    return normal_density(m) - k * normal_tail(m)


@strict
def pair_integrals(
    h: float, k: float, theta: float, with_steps: bool, x: Array, w: Array
) -> tuple[float, float, float, float]:
    """∫_0^θ of e(t), of (cos t − cos θ) e(t), of Φ((h cos t − k)/sin t) sin t, and of the last with h, k exchanged.

    Panels double in width away from t = 0, where e has a layer of width |h − k|, and from π, where it is |h + k|.
    The last two are computed only ``with_steps``, else 0. ``x, w``: a Gauss–Legendre rule on [-1, 1].
    """
    if h == 0.0 and k == 0.0:
        half = 0.5 * (2.0 * math.sin(0.5 * theta) ** 2)
        return theta, sin_minus_t_cos(theta), half, half
    near, far = _LAYER * abs(h - k), _LAYER * abs(h + k)
    gap, total = (h - k) ** 2 / 8.0, (h + k) ** 2 / 8.0
    plain, moment, first, second = 0.0, 0.0, 0.0, 0.0
    t = 0.0
    while t < theta:
        width = _WIDEST
        if near > 0.0:
            width = min(width, max(near, t))
        if far > 0.0:
            width = min(width, max(far, 0.5 * (math.pi - t)))
        end = min(theta, t + width)
        half = 0.5 * (end - t)
        middle = t + half
        for i in range(x.size):
            s = middle + half * x[i]
            e = w[i] * half * exponent_e(gap, total, s)
            plain += e
            moment += e * 2.0 * math.sin(0.5 * (theta + s)) * math.sin(0.5 * (theta - s))
            if with_steps:
                sine, tangent = math.sin(s), math.tan(0.5 * s)
                weight = w[i] * half * sine
                first += weight * normal_tail((k - h) / sine + h * tangent)
                second += weight * normal_tail((h - k) / sine + k * tangent)
        t = end
    return plain, moment, first, second


@strict
def split_coefficients(locations: Array, jumps: Array, slopes: Array, values: Array, steps: Array) -> None:
    """Hermite coefficients B_k of Σ_j [V_j step(z−h_j) + J_j (z−h_j)₊], and b_k of Σ_j J_j step(z−h_j).

    Fills ``values`` and ``steps``, each (degree+1,). ``step_k = h_{k−1}(h)p(h)/√k``, ``√(k+1) relu_{k+1} = step_k``.
    """
    values[:] = 0.0
    steps[:] = 0.0
    for j in range(locations.size):
        h, jump, slope = locations[j], jumps[j], slopes[j]
        tail, root = normal_tail(h), math.exp(-0.25 * h * h) / math.sqrt(_ROOT_2PI)
        steps[0] += slope * tail
        values[0] += jump * tail + slope * (normal_density(h) - h * tail)
        step, before, here = tail, 0.0, root
        for k in range(values.size - 1):  # here = h_k(h) √p(h); step = k-th coefficient of step(z−h)
            values[k + 1] += slope * step / math.sqrt(k + 1.0)
            step = here * root / math.sqrt(k + 1.0)
            values[k + 1] += jump * step
            steps[k + 1] += slope * step
            before, here = here, (h * here - math.sqrt(k) * before) / math.sqrt(k + 1.0)


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
def jump_sums_at_one(locations: Array, jumps: Array, slopes: Array) -> tuple[float, float]:
    """E[B(z)²] and E[b(z)²] of the jump part B and of b = Σ_j J_j step(z−h_j)."""
    value, derivative = 0.0, 0.0
    for i in range(locations.size):
        for j in range(locations.size):
            h, k = locations[i], locations[j]
            tail = normal_tail(max(h, k))
            derivative += slopes[i] * slopes[j] * tail
            value += slopes[i] * slopes[j] * relu_pair_at_one(h, k) + jumps[i] * jumps[j] * tail
            if jumps[i] != 0.0:
                value += 2.0 * jumps[i] * slopes[j] * step_relu_at_one(h, k)
    return value, derivative


@strict
def jump_deficits(
    locations: Array, jumps: Array, slopes: Array, delta: float, theta: float, x: Array, w: Array
) -> tuple[float, float]:
    """E[B(z)²] − E[B(u)B(v)], and E[b(u)b(v)], for the jump part at one angle."""
    deficit, derivative = 0.0, 0.0
    for i in range(locations.size):
        for j in range(i + 1):
            h, k = locations[i], locations[j]
            both = 1.0 if i == j else 2.0
            rr, ss = both * slopes[i] * slopes[j], both * jumps[i] * jumps[j]
            sr, rs = both * jumps[i] * slopes[j], both * slopes[i] * jumps[j]
            plain, moment, first, second = pair_integrals(h, k, theta, sr != 0.0 or rs != 0.0, x, w)
            tail = normal_tail(max(h, k))
            deficit += rr * (tail * delta - moment / (2.0 * math.pi)) + ss * plain / (2.0 * math.pi)
            deficit += sr * normal_density(h) * first + rs * normal_density(k) * second
            derivative += rr * (tail - plain / (2.0 * math.pi))
    return deficit, derivative


@strict
def evaluate(
    delta: Array, eta: Array, parity: int, locations: Array, jumps: Array, slopes: Array, tails: Array,
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
    locations, jumps, slopes : (J,) arrays
        h_j, V_j, J_j of z ↦ φ(√q z).
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
        lost, jumped = 0.0, 0.0
        if locations.size > 0:
            lost, jumped = jump_deficits(locations, jumps, slopes, near, angle(near, far), x, w)
        lost += near * slow
        if mirrored and parity < 0:
            deficit[i], excess[i] = 2.0 * at_one - lost, lost
        else:
            deficit[i], excess[i] = lost, 2.0 * at_one - lost
        derivative[i] = (slope + jumped) / variance
        if mirrored and parity > 0:
            derivative[i] = -derivative[i]
