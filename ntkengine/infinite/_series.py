"""Compiled Mehler series of duals at unequal variances.

For standard normals u, v with correlation ρ and standard deviations s, t

    E[φ(s u)φ(t v)] = Σ_k A_k(s²) A_k(t²) ρ^k,     A_k(q) = E[φ(√q z) h_k(z)],

and the dual of φ' is its derivative by ρ over st, but for jumps of φ itself. Away from ρ = ±1 the plain sum does
(:func:`plain_row`).
Near ρ = ±1 the sums of activations with kinks converge slowly; there A = S + B is split into a smooth part and truncated powers
(:mod:`ntkengine.infinite._jumps`), and the *distance* E[(φ(su) − φ(tv))²] is summed, which keeps its digits
(:func:`split_pair`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ntkengine._jit import fast, strict
from ntkengine._simd import LANES, power_sums
from ntkengine.infinite._jumps import ORDERS, angle, deficits, normal_density, truncated_moments

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

#: Half-width of the range of z for the radial part.
_REACH = 13.0
#: Widest panel there.
_PANEL = 2.0


@fast
def interpolate(t: float, table: Array, count: int, out: Array) -> None:
    """out[:count] = Σ_m T_m(t) table[m, :count], T_m the Chebyshev polynomials, t in [-1, 1]."""
    for k in range(count):
        out[k] = table[0, k]
    before, here = 1.0, t
    for m in range(1, table.shape[0]):
        row = table[m]
        for k in range(count):
            out[k] += here * row[k]
        before, here = here, 2.0 * t * here - before


@strict
def scale_jumps(std: float, locations: Array, jumps: Array, thresholds: Array, factors: Array) -> None:
    """Thresholds h_j and factors of the truncated powers of z ↦ φ(std z), from kinks at ``locations`` with (J, 4) ``jumps``."""
    for j in range(locations.size):
        thresholds[j] = locations[j] / std
        power = 1.0
        for m in range(ORDERS):
            factors[j, m] = jumps[j, m] * power
            power *= std


@fast
def add_jumps(
    thresholds: Array, factors: Array, roots: Array, count: int, values: Array, steps: Array, separate: bool
) -> None:
    """Add the Hermite coefficients of a jump part to ``values[:count]``, and those of its derivative to ``steps[:count]``.

    As :func:`ntkengine.infinite._jumps.split_coefficients`, with ``roots[k] = 1/√(k+1)`` looked up; ``steps`` only
    if ``separate``.
    """
    moments = np.empty(ORDERS)
    for j in range(thresholds.size):
        h = thresholds[j]
        j0, j1, j2, j3 = factors[j, 0], factors[j, 1], factors[j, 2], factors[j, 3]
        truncated_moments(h, moments)
        density = normal_density(h)
        c0, c1, c2, c3 = moments[0], moments[1], moments[2] / 2.0, moments[3] / 6.0
        before, here, last = 0.0, density, 0.0  # here = h_k(h) p(h), last = √k
        for k in range(count):
            values[k] += j0 * c0 + j1 * c1 + j2 * c2 + j3 * c3
            if separate:
                steps[k] += j1 * c0 + j2 * c1 + j3 * c2
            up = roots[k]
            c3, c2, c1, c0 = c2 * up, c1 * up, c0 * up, here * up
            before, here, last = here, (h * here - last * before) * up, (k + 1.0) * up


@fast
def plain_row(row: Array, columns: Array, lengths: Indices, x: Array, value: Array, slope: Array) -> None:
    """Sums Σ_k row[k] columns[k, j] x[j]^k and their derivatives by x, LANES values of j at a time.

    Parameters
    ----------
    row : (K,) array
    columns : (K, n) array
        n a multiple of LANES.
    lengths : (n/LANES,) array
        Terms to sum in each run; 0: none wanted.
    x, value, slope : (n,) arrays
        The last two are filled.
    """
    for run in range(lengths.size):
        power_sums(row, columns, lengths[run], run * LANES, x, value, slope)


@strict
def _jump_function(z: float, thresholds: Array, factors: Array) -> float:
    total = 0.0
    for j in range(thresholds.size):
        over = z - thresholds[j]
        if over > 0.0:
            total += factors[j, 0] + over * (
                factors[j, 1] + 0.5 * over * (factors[j, 2] + over / 3.0 * factors[j, 3])
            )
    return total


@strict
def radial_distance(
    first: Array, first_factors: Array, second: Array, second_factors: Array, x: Array, w: Array
) -> float:
    """E[(B₁(z) − B₂(z))²] of two jump parts, by Gauss–Legendre panels that end at the thresholds."""
    total, left = 0.0, -_REACH
    while left < _REACH:
        right = min(left + _PANEL, _REACH)
        for j in range(first.size):
            if left < first[j] < right:
                right = first[j]
            if left < second[j] < right:
                right = second[j]
        half = 0.5 * (right - left)
        for i in range(x.size):
            z = left + half + half * x[i]
            difference = _jump_function(z, first, first_factors) - _jump_function(z, second, second_factors)
            total += w[i] * half * difference * difference * normal_density(z)
        left = right
    return total


@strict
def split_pair(
    count: int, smooth1: Array, jump1: Array, step1: Array, thresholds1: Array, factors1: Array, std1: float,
    rms1: float, left1: Array, smooth2: Array, jump2: Array, step2: Array, thresholds2: Array, factors2: Array,
    std2: float, rms2: float, left2: Array, parity: int, delta: float, eta: float, x: Array, w: Array,
    scratch: Array,
) -> tuple[float, float, float]:  # fmt: skip
    """(gap, total, slope) of one pair near ρ = ±1: rms1 rms2 ∓ E[φ(su)φ(tv)] and E[φ'(su)φ'(tv)].

    Parameters
    ----------
    count : int
        Terms of the smooth series.
    smooth, jump, step : (count+1,) arrays of each point
        S_k, B_k and b_k; smooth[count] is 0.
    thresholds, factors : (J,), (J, 4) arrays of each point
        The jump part.
    std, rms : float
        √q and √E[φ²].
    left : (2,) array
        What the series miss at ρ = 1 of E[φ²] and of E[φ'²] q; it is put at degree 2·count.
    parity : int
        1 for even φ, −1 for odd φ, else 0.
    delta, eta : float
        1 − ρ and 1 + ρ.
    x, w : arrays
        Gauss–Legendre rule.
    scratch : array
    """
    mirrored = parity != 0 and eta < delta
    if mirrored:
        delta, eta = eta, delta
    rho = 1.0 - delta if delta <= eta else eta - 1.0
    distance, slope, inner, lost = 0.0, 0.0, 0.0, 0.0
    for k in range(count - 1, -1, -1):
        a, b, p, q = smooth1[k], smooth2[k], jump1[k], jump2[k]
        d = a - b
        distance += d * (d + 2.0 * (p - q))
        lost += delta * inner  # Σ t_k (1 − ρ^k) by Horner: inner = Σ t_k ρ^{k−…}
        inner = inner * rho + a * b + a * q + p * b
        root = math.sqrt(k + 1.0)
        c, e = root * smooth1[k + 1], root * smooth2[k + 1]
        slope = slope * rho + c * e + c * step2[k] + step1[k] * e
    distance += 2.0 * lost
    far = 2.0 * count
    distance += 2.0 * math.copysign(math.sqrt(abs(left1[0] * left2[0])), left1[0]) * (1.0 - rho**far)
    slope += math.copysign(math.sqrt(abs(left1[1] * left2[1])), left1[1]) * rho ** (far - 1.0)
    if thresholds1.size > 0:
        same = std1 == std2
        if not same:
            distance += radial_distance(thresholds1, factors1, thresholds2, factors2, x, w)
        deficit, jumped = deficits(
            thresholds1, factors1, thresholds2, factors2, same, delta, angle(delta, eta), x, w, scratch
        )
        distance += 2.0 * deficit
        slope += jumped
    gap = 0.5 * (distance - (rms1 - rms2) ** 2)
    total = 2.0 * rms1 * rms2 - gap
    slope /= std1 * std2
    if mirrored:
        return (total, gap, slope) if parity < 0 else (gap, total, -slope)
    return gap, total, slope
