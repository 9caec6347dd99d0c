"""Compiled duals of truncated powers, the part of an activation that carries its jumps.

For thresholds h, k let ``f_m(z; h) = (z − h)^m₊/m!`` (a step, a ReLU, a parabola, a cubic: m = 0..3) and
``R_mn(ρ) = E[f_m(u; h) f_n(v; k)]``, (u, v) standard normal with correlation ρ = cos θ. By Price's theorem
``dR_mn/dρ = R_{m−1,n−1}``, so with δ = 1 − ρ, d = n − m >= 0 and lo = m

    R_mn(1) − R_mn(ρ) = −Σ_{j=1}^{lo} (−δ)^j/j! R_{m−j,n−j}(1) + (−1)^{lo} ∫_0^θ (cos t − cos θ)^{lo}/lo! g_d(t) dt,
    g_0(t) = e(t)/2π,     g_d(t) = p(h) E[(v − k)^{d−1}₊/(d−1)! | u = h] sin t   at correlation cos t,

and alike for m > n with h, k exchanged. Here e is the *bivariate exponent*, free of cancellation,

    e(t) = exp(−(h−k)²/(8 sin²(t/2)) − (h+k)²/(8 cos²(t/2))),

2π sin t times which is the exponential part of the bivariate density (p, Φ: the normal density and distribution). All are
deficits from ρ = 1, which is what a deep kernel needs near the diagonal.

A *logarithmic cusp* is a term of L(z) = z log|z|. With E log|z| = μ = −(γ + log 2)/2 and ν = 1 + μ,

    E[L'(u)L'(v)] = ν² + ½ arcsin²ρ,     E[L(u)L(v)] = (ν² − 1)ρ + ½ρ arcsin²ρ + √(1 − ρ²) arcsin ρ,

from E[log|u| h_2m] = (−1)^{m−1} 2^{m−1} (m−1)!/√(2m)!, whose squares sum to an arcsin²; and by Price's theorem, for h = 0,

    E[f_m(u)L(v)]:   p(0) [(ν−1)ρ + ½(η log η − δ log δ)],        νρ/2,
                     p(0) [(ν−½)ρ + ¼(η² log η − δ² log δ)],      (3νρ + ρ³)/12      for m = 0..3, η = 1 + ρ.

These close for powers at 0 only: a cusp is split off only where φ jumps nowhere else.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkengine._jit import strict

Array = NDArray[np.float64]

#: Orders of jumps that are split off: of φ, φ', φ'', φ'''.
ORDERS = 4
#: Floats of scratch that the functions here need.
SCRATCH = 64

#: Where the exponent of e(t) is below −60, e is left out.
_LAYER = 1.0 / math.sqrt(120.0)
#: Widest panel in t, for the 20-point rule.
_WIDEST = 0.5
#: exp(−threshold²/2) is 0 beyond.
_FAR = 38.0
_ROOT_HALF = math.sqrt(0.5)
_ROOT_2PI = math.sqrt(2 * math.pi)
#: ν = E[L'(z)] = E[z L(z)], with Euler's constant.
_NU = 1.0 - 0.5 * (np.euler_gamma + math.log(2.0))


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
def sin_minus_t_cos(t: Any) -> Any:
    """Sin t − t cos t, t real or complex, to full relative accuracy: Σ_n (−1)^{n+1} 2n t^{2n+1}/(2n+1)! for small t."""
    if abs(t) > 0.6:
        return np.sin(t) - t * np.cos(t)
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
def truncated_moments(h: float, out: Array) -> None:
    """out[j] = E[(z − h)^j₊], j = 0..len(out)−1, by ``T_j = (j−1) T_{j−2} − h T_{j−1}``.

    Backwards for h > 1.5, where forwards loses all digits: from ratios far out, scaled by T_0 (Miller's algorithm).
    """
    out[0] = normal_tail(h)
    if h <= 1.5:
        out[1] = normal_density(h) - h * out[0]
        for j in range(2, out.size):
            out[j] = (j - 1.0) * out[j - 2] - h * out[j - 1]
        return
    ratio = 0.0  # T_{j+1}/((j+1) T_j), from T_{j+2} = (j+1) T_j − h T_{j+1}
    for j in range(200, -1, -1):
        ratio = 1.0 / (h + (j + 2.0) * ratio)
        if j < out.size - 1:
            out[j + 1] = ratio * (j + 1.0)
    for j in range(1, out.size):
        out[j] *= out[j - 1]


@strict
def pairs_at_one(h: float, k: float, scratch: Array, out: Array) -> None:
    """out[4m + n] = R_mn(1) = E[f_m(z; h) f_n(z; k)], m, n = 0..3."""
    top = max(h, k)
    moments = scratch[:7]
    truncated_moments(top, moments)
    a, b = top - h, top - k
    m_factor = 1.0
    for m in range(ORDERS):
        n_factor = 1.0
        for n in range(ORDERS):
            total, left = 0.0, 1.0  # left = C(m, i) a^i: (z−h)^m = Σ_i C(m, i) a^i (z−top)^{m−i}
            for i in range(m + 1):
                right = left
                for j in range(n + 1):
                    total += right * moments[m - i + n - j]
                    right *= b * (n - j) / (j + 1.0)
                left *= a * (m - i) / (i + 1.0)
            out[4 * m + n] = total / (m_factor * n_factor)
            n_factor *= n + 1.0
        m_factor *= m + 1.0


@strict
def _conditional(h: float, k: float, d: int, sine: float, tangent: float) -> float:
    """E[(v − k)^{d−1}₊/(d−1)! | u = h] at correlation cos t, from sin t and tan(t/2); d = 1, 2, 3."""
    shift = (h - k) - h * sine * tangent  # h cos t − k, the mean of v − k
    x = -shift / sine
    tail = normal_tail(x)
    if d == 1:
        return tail
    spread = sine * normal_density(x)
    if d == 2:
        return spread + shift * tail
    return 0.5 * ((sine * sine + shift * shift) * tail + shift * spread)


@strict
def pair_integrals(
    h: float, k: float, theta: float, orders: int, mixed: bool, x: Array, w: Array, out: Array
) -> None:
    """The integrals from 0 to θ of the module's text.

    Panels double in width away from t = 0, where e has a layer of width |h − k|, and from π, where it is |h + k|.

    Parameters
    ----------
    h, k, theta : float
    orders : int
        Highest order of a truncated power, 0..3.
    mixed : bool
        Whether powers of unequal orders are wanted; without it their integrals are left at 0.
    x, w : arrays
        A Gauss–Legendre rule on [-1, 1].
    out : (28,) array
        ``out[4(d+3) + lo]``, d = n − m = −3..3: ∫ (cos t − cos θ)^lo/lo! g_d dt.
    """
    out[:] = 0.0
    here, there = normal_density(h), normal_density(k)
    if max(abs(h), abs(k)) > _FAR and (not mixed or min(abs(h), abs(k)) > _FAR):
        return
    centred = h == 0.0 and k == 0.0
    if centred and orders <= 1:
        square = 2.0 * math.sin(0.5 * theta) ** 2
        out[12], out[13] = theta / (2.0 * math.pi), sin_minus_t_cos(theta) / (2.0 * math.pi)
        if mixed:
            out[16] = out[8] = here * 0.5 * square
        return
    near, far = _LAYER * abs(h - k), _LAYER * abs(h + k)
    gap, total = (h - k) ** 2 / 8.0, (h + k) ** 2 / 8.0
    t = 0.0
    while t < theta:
        width = theta if centred else _WIDEST
        if near > 0.0:
            width = min(width, max(near, t))
        if far > 0.0:
            width = min(width, max(far, 0.5 * (math.pi - t)))
        end = min(theta, t + width)
        half = 0.5 * (end - t)
        middle = t + half
        for i in range(x.size):
            s, weight = middle + half * x[i], half * w[i]
            drop = 2.0 * math.sin(0.5 * (theta + s)) * math.sin(0.5 * (theta - s))
            e = weight * exponent_e(gap, total, s) / (2.0 * math.pi)
            for m in range(orders + 1):
                out[12 + m] += e
                e *= drop / (m + 1.0)
            if mixed:
                sine, tangent = math.sin(s), math.tan(0.5 * s)
                for d in range(1, orders + 1):
                    up = weight * sine * here * _conditional(h, k, d, sine, tangent)
                    down = weight * sine * there * _conditional(k, h, d, sine, tangent)
                    for m in range(orders + 1 - d):
                        out[12 + 4 * d + m] += up
                        out[12 - 4 * d + m] += down
                        up *= drop / (m + 1.0)
                        down *= drop / (m + 1.0)
        t = end


@strict
def split_coefficients(locations: Array, jumps: Array, values: Array, steps: Array) -> None:
    """Hermite coefficients of the jump part, and of its derivative almost everywhere.

    Parameters
    ----------
    locations : (J,) array
        h_j.
    jumps : (J, 4) array
        Factors of f_m(z; h_j), m = 0..3.
    values, steps : (degree+1,) arrays
        Filled with B_k of ``B = Σ_jm jumps[j, m] f_m(z; h_j)`` and b_k of ``b = Σ_{j, m>=1} jumps[j, m] f_{m−1}(z; h_j)``, from
        ``step_k = h_{k−1}(h) p(h)/√k`` and ``√(k+1) (f_m)_{k+1} = (f_{m−1})_k``.
    """
    values[:] = 0.0
    steps[:] = 0.0
    moments = np.empty(ORDERS)
    for j in range(locations.size):
        h = locations[j]
        j0, j1, j2, j3 = jumps[j, 0], jumps[j, 1], jumps[j, 2], jumps[j, 3]
        truncated_moments(h, moments)
        c0, c1, c2, c3 = moments[0], moments[1], moments[2] / 2.0, moments[3] / 6.0
        root = math.exp(-0.25 * h * h) / math.sqrt(_ROOT_2PI)
        before, here = 0.0, root
        for k in range(values.size):  # here = h_k(h) √p(h)
            values[k] += j0 * c0 + j1 * c1 + j2 * c2 + j3 * c3
            steps[k] += j1 * c0 + j2 * c1 + j3 * c2
            up = 1.0 / math.sqrt(k + 1.0)
            c3, c2, c1, c0 = c2 * up, c1 * up, c0 * up, here * root * up
            before, here = here, (h * here - math.sqrt(k) * before) * up


@strict
def _orders(first: Array, second: Array, i: int, j: int) -> tuple[int, bool]:
    """Highest order with a factor in the pair (i, j), −1 for none, and whether unequal orders meet."""
    highest, mixed = -1, False
    for m in range(ORDERS):
        for n in range(ORDERS):
            if first[i, m] * second[j, n] != 0.0:
                highest = max(highest, max(m, n))
                mixed = mixed or m != n
    return highest, mixed


@strict
def sums_at_one(locations: Array, jumps: Array, scratch: Array) -> tuple[float, float]:
    """E[B(z)²] and E[b(z)²] of the jump part."""
    value, derivative = 0.0, 0.0
    table = scratch[8:24]
    for i in range(locations.size):
        for j in range(locations.size):
            pairs_at_one(locations[i], locations[j], scratch, table)
            for m in range(ORDERS):
                for n in range(ORDERS):
                    factor = jumps[i, m] * jumps[j, n]
                    value += factor * table[4 * m + n]
                    if m > 0 and n > 0:
                        derivative += factor * table[4 * (m - 1) + n - 1]
    return value, derivative


@strict
def deficits(
    first: Array, first_jumps: Array, second: Array, second_jumps: Array, same: bool, delta: float, theta: float,
    x: Array, w: Array, scratch: Array,
) -> tuple[float, float]:  # fmt: skip
    """E[B₁(z)B₂(z)] − E[B₁(u)B₂(v)] and E[b₁(u)b₂(v)] for two jump parts at one angle.

    Parameters
    ----------
    first, second : (J,) arrays
        Thresholds.
    first_jumps, second_jumps : (J, 4) arrays
        Factors of the truncated powers.
    same : bool
        The two are the same: every pair is computed once.
    delta, theta : float
        1 − ρ and the angle.
    x, w : arrays
        Gauss–Legendre rule.
    scratch : (SCRATCH,) array
    """
    deficit, derivative = 0.0, 0.0
    table, integrals = scratch[8:24], scratch[24:52]
    for i in range(first.size):
        for j in range(i + 1 if same else second.size):
            both = 2.0 if same and i != j else 1.0
            highest, mixed = _orders(first_jumps, second_jumps, i, j)
            if highest < 0:
                continue
            pair_integrals(first[i], second[j], theta, highest, mixed, x, w, integrals)
            pairs_at_one(first[i], second[j], scratch, table)
            for m in range(ORDERS):
                for n in range(ORDERS):
                    factor = both * first_jumps[i, m] * second_jumps[j, n]
                    if factor == 0.0:
                        continue
                    low = min(m, n)
                    lost, power, sign = 0.0, 1.0, 1.0
                    for step in range(1, low + 1):
                        power *= -delta / step
                        lost -= power * table[4 * (m - step) + n - step]
                        sign = -sign
                    lost += sign * integrals[4 * (n - m + 3) + low]
                    deficit += factor * lost
                    if low > 0:  # R_{m−1,n−1} at ρ: the same deficit one order down
                        lower, power, sign = 0.0, 1.0, 1.0
                        for step in range(1, low):
                            power *= -delta / step
                            lower -= power * table[4 * (m - 1 - step) + n - 1 - step]
                            sign = -sign
                        lower += sign * integrals[4 * (n - m + 3) + low - 1]
                        derivative += factor * (table[4 * (m - 1) + n - 1] - lower)
    return deficit, derivative


# --- the logarithmic cusp ---------------------------------------------------------------------------------------


@strict
def add_cusp_coefficients(cusp: float, values: Array, steps: Array) -> None:
    """Add the Hermite coefficients of cusp·L(z) to ``values`` and those of its derivative to ``steps``, each (degree+1,)."""
    here = _NU  # E[L' h_k], k even
    for k in range(0, values.size, 2):
        steps[k] += cusp * here
        if k + 1 < values.size:
            values[k + 1] += cusp * here / math.sqrt(k + 1.0)
        here = math.sqrt(0.5) if k == 0 else -here * k / math.sqrt((k + 1.0) * (k + 2.0))


@strict
def cusp_at_one(cross: Array, square: float) -> tuple[float, float]:
    """Σ_m cross[m] E[f_m(z)L(z)] + square E[L(z)²], and the same of derivatives: :func:`cusp_deficits` counts from these."""
    value = square * (_NU * _NU + math.pi**2 / 8.0 - 1.0)
    value += (cross[0] * (_NU - 1.0 + math.log(2.0)) + cross[2] * (_NU - 0.5 + math.log(2.0))) / _ROOT_2PI
    value += cross[1] * 0.5 * _NU + cross[3] * (3.0 * _NU + 1.0) / 12.0
    slope = square * (_NU * _NU + math.pi**2 / 8.0)
    slope += (
        cross[1] * 0.5 * _NU + cross[2] * (_NU + math.log(2.0)) / _ROOT_2PI + cross[3] * (_NU + 1.0) / 4.0
    )
    return value, slope


@strict
def cusp_deficits(cross: Array, square: float, delta: Any, theta: Any) -> tuple[Any, Any]:
    """The cusp's part of E[B₁(z)B₂(z)] − E[B₁(u)B₂(v)] and of E[b₁(u)b₂(v)]; all jumps are at 0.

    Parameters
    ----------
    cross : (4,) array
        Factors of E[f_m(u)L(v)], m = 0..3: of B_i with jumps J_i and cusp_i, cusp₁ J₂ + cusp₂ J₁.
    square : float
        Factor of E[L(u)L(v)]: cusp₁ cusp₂.
    delta, theta : float or complex
        1 − ρ and the angle.
    """
    rho, eta, arc = 1.0 - delta, 2.0 - delta, 0.5 * math.pi - theta
    lost = square * (_NU * _NU + math.pi**2 / 8.0) * delta
    lost += square * (theta * np.sin(theta) - 0.5 * theta * theta * rho - delta)
    lost -= square * 0.5 * math.pi * sin_minus_t_cos(theta)
    lost += cross[1] * 0.5 * _NU * delta + cross[3] * delta * (3.0 * _NU + 3.0 - eta * delta - delta) / 12.0
    slope = square * (_NU * _NU + 0.5 * arc * arc)
    slope += cross[1] * 0.5 * _NU + cross[3] * (_NU + rho * rho) / 4.0
    if cross[0] != 0.0 or cross[2] != 0.0:
        near = delta * np.log(delta) if delta != 0.0 else delta
        far = eta * np.log1p(-0.5 * delta) if eta != 0.0 else eta  # η log(η/2)
        lost += cross[0] / _ROOT_2PI * ((_NU - 1.0 + 0.5 * math.log(2.0)) * delta + 0.5 * (near - far))
        lost += cross[2] / _ROOT_2PI * (_NU - 0.5 + 0.25 * math.log(2.0) * (2.0 + eta)) * delta
        lost += cross[2] / _ROOT_2PI * 0.25 * (delta * near - eta * far)
        slope += cross[2] / _ROOT_2PI * (_NU + 0.5 * (near + far + math.log(2.0) * eta))
    return lost, slope


@strict
def cusp_distances(
    first_jumps: Array, first_cusp: float, second_jumps: Array, second_cusp: float, delta: float, theta: float
) -> tuple[float, float]:
    """The cusp's part of E[(B₁(u) − B₂(v))²] and of E[b₁(u)b₂(v)]; jumps (J, 4), J = 0 or 1, all at 0."""
    cross, change = np.zeros(ORDERS), np.zeros(ORDERS)
    gap = first_cusp - second_cusp
    for j in range(first_jumps.shape[0]):
        for m in range(ORDERS):
            cross[m] += first_cusp * second_jumps[j, m] + second_cusp * first_jumps[j, m]
            change[m] += 2.0 * gap * (first_jumps[j, m] - second_jumps[j, m])
    radial, _ = cusp_at_one(change, gap * gap)
    lost, slope = cusp_deficits(cross, first_cusp * second_cusp, delta, theta)
    return radial + 2.0 * lost, slope


@strict
def add_cusp(cross: Array, square: float, delta: Any, theta: Any, deficit: Any, derivative: Any) -> None:
    """Add :func:`cusp_deficits` at n points to ``deficit`` and ``derivative``, all (n,) and real, or all complex."""
    for i in range(delta.size):
        lost, slope = cusp_deficits(cross, square, delta[i], theta[i])
        deficit[i] += lost
        derivative[i] += slope
