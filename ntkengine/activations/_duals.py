"""Duals of the built-in activations in closed form, to be compiled into loops, and their second moments.

For Gaussians (u, v) with standard deviations s, t >= 0, correlation ρ and c = s t ρ, write G = E[φ(u)φ(v)]. Then

    dual(s, t, a, b, delta, eta, p) -> (gap, total, slope)
    gap = ab − G,  total = ab + G,  slope = E[φ'(u)φ'(v)] = ∂G/∂c   (φ' almost everywhere)
    moments(q, p) -> (E[φ(√q z)²], E[φ'(√q z)²])                    for an array of variances q >= 0

with a = √E[φ(u)²], b = √E[φ(v)²], delta = 1 − ρ, eta = 1 + ρ (the smaller one is trusted) and p the parameters in
their family's order. A dual is float64 arithmetic without branches or calls, so that loops over it vectorise.

Accuracy
--------
gap and total are good to about 1e-15·ab (for exp, 1e-15·(1 + B²(s² + t²))·ab, as a and b are known no better), gap is
never negative, and more holds where points nearly coincide:

- kinks at 0 (identity, relu, leaky_relu, abrelu, abs, step, sign): full relative accuracy of gap, and of total.
- gaussian, rbf: full relative accuracy of gap; exp: the same for given a and b.
- sin, cos, erf: through the distance M = E[(φ(u) − φ(v))²], which keeps its digits: ``gap = ½(M − (a − b)²)`` is off by
  about 1e-15·√(ab M), so √M, a distance in the next layer, is off by 1e-15·√(ab). Where s = t, gap has full relative
  accuracy. The same for total where φ is odd. For erf with an offset C this holds for ρ >= 0.
- gelu: gap is off by about 1e-15·√(ab gap) where s = t, by 1e-15·ab elsewhere.

Where a and b lie far apart, M says nothing about gap, and ab − G is taken as it stands.

References
----------
Y. Cho and L. Saul, *Kernel Methods for Deep Learning*, NeurIPS 2009, eqs. 3–6 (step, relu).
C. Williams, *Computing with Infinite Networks*, NeurIPS 1996, eq. 11 (erf).
A. Daniely, R. Frostig and Y. Singer, *Toward Deeper Understanding of Neural Networks*, NeurIPS 2016 (dual activations;
the dual of φ' is the derivative of the dual).
A. Rahimi and B. Recht, *Random Features for Large-Scale Kernel Machines*, NeurIPS 2007 (rbf).
R. Tsuchida, T. Pearce, C. van der Heide, F. Roosta and M. Gallagher, *Avoiding Kernel Fixed Points: Computing with ELU
and GELU Infinite Networks*, AAAI 2021 (gelu).

Examples
--------
>>> gap, total, slope = relu_dual(1.0, 1.0, 0.5**0.5, 0.5**0.5, 1e-20, 2.0, ())
>>> float(round(gap * 1e20, 9)), float(round(slope, 9))
(0.5, 0.5)
"""

# mypy: disallow-untyped-defs=False, check-untyped-defs=False
from __future__ import annotations

import math

import numpy as np

from ntkengine import _scalar
from ntkengine._scalar_core import shared

_PI = math.pi
_HALF_PI = math.pi / 2
_ROOT_TWO = math.sqrt(2)
_SMALLEST = 2.3e-308  # keeps 0/0 a 0

# --- shared parts -------------------------------------------------------------------------------------------


@shared
def _at_least_0(x):
    return 0.0 if x < 0.0 else x  # NaN stays


@shared
def _half_chord(delta, eta):
    """(near, m, x, P): near = ρ >= 0, m = min(1 − ρ, 1 + ρ), x = √(m/2), asin x = x + x³P.

    2 asin x is the angle θ = arccos ρ where ρ >= 0, and π − θ elsewhere.
    """
    near = delta <= eta
    m = delta if near else eta
    w = 0.5 * m
    return near, m, np.sqrt(w), _scalar.asin_tail(w)


@shared
def _angle(sine, per_sine, cosine, per_cosine):
    """Angle in [0, π/2] from its sine and cosine, two quotients, by the arcsine of the smaller."""
    low = sine * per_cosine <= cosine * per_sine
    x = (sine if low else cosine) / (per_sine if low else per_cosine)
    w = x * x
    y = x + x * (w * _scalar.asin_tail(w))
    return y if low else _HALF_PI - y


# --- kinks at 0 ---------------------------------------------------------------------------------------------


@shared
def _linear_dual(s, t, delta, eta, negative, positive):
    """Dual of n·min(z, 0) + p·max(z, 0); orders 1 and 0 of Cho & Saul 2009.

    G = st/2 [(n² + p²) ρ + (p − n)² A(θ)/π] with A(θ) = sin θ − θ cos θ = A(π − θ) + π cos(π − θ), and
    slope = (n² + p²)/2 − (p − n)² θ/2π. At h, the smaller of θ and π − θ, with w = x² = sin²(h/2),

        A(h) = h (1 − cos h) − (h − sin h) = x³ [4 + (4w − 2) P − 2/(1 + √(1 − w))].
    """
    near, m, x, tail = _half_chord(delta, eta)
    w = 0.5 * m
    both, cross = negative * negative + positive * positive, negative * positive
    bend, mean = (positive - negative) * (positive - negative), (positive + negative) * (positive + negative)
    h = 2.0 * x + 2.0 * x * (w * tail)
    area = x * w * (4.0 + (4.0 * w - 2.0) * tail - 2.0 / (1.0 + np.sqrt(1.0 - w)))
    curved = bend * (1 / _PI) * area
    half = 0.5 * s * t
    turn = bend * (0.5 / _PI) * h
    gap = (both * m if near else mean - 2.0 * cross * m) - curved
    total = (both * (2.0 - m) if near else bend + 2.0 * cross * m) + curved
    return half * gap, half * total, 0.5 * both - turn if near else cross + turn


def _linear_moments(q, negative, positive):
    both = negative * negative + positive * positive
    return 0.5 * both * q, np.full_like(q, 0.5 * both)


def identity_dual(s, t, a, b, delta, eta, p):
    """φ = z: G = st ρ."""
    return s * t * delta, s * t * eta, 1.0


def identity_moments(q, p):
    """(q, 1)."""
    return 1.0 * q, np.ones_like(q)


def relu_dual(s, t, a, b, delta, eta, p):
    """φ = max(z, 0), the arc-cosine kernel of order 1: G = st (sin θ + (π − θ) cos θ)/2π [Cho & Saul 2009, eq. 6]."""
    return _linear_dual(s, t, delta, eta, 0.0, 1.0)


def relu_moments(q, p):
    """(q/2, 1/2)."""
    return _linear_moments(q, 0.0, 1.0)


def leaky_relu_dual(s, t, a, b, delta, eta, p):
    """φ = max(z, 0) + slope·min(z, 0), p = (slope,)."""
    return _linear_dual(s, t, delta, eta, p[0], 1.0)


def leaky_relu_moments(q, p):
    """((1 + slope²) q/2, (1 + slope²)/2)."""
    return _linear_moments(q, p[0], 1.0)


def abrelu_dual(s, t, a, b, delta, eta, p):
    """φ = p₀·min(z, 0) + p₁·max(z, 0), p = (a, b) of the family."""
    return _linear_dual(s, t, delta, eta, p[0], p[1])


def abrelu_moments(q, p):
    """((p₀² + p₁²) q/2, (p₀² + p₁²)/2)."""
    return _linear_moments(q, p[0], p[1])


def abs_dual(s, t, a, b, delta, eta, p):
    """φ = |z|: relu(z) + relu(−z)."""
    return _linear_dual(s, t, delta, eta, -1.0, 1.0)


def abs_moments(q, p):
    """(q, 1)."""
    return _linear_moments(q, -1.0, 1.0)


def step_dual(s, t, a, b, delta, eta, p):
    """φ = 1 for z > 0, else 0, the arc-cosine kernel of order 0: G/ab = 1 − θ/π [Cho & Saul 2009, eq. 5]."""
    near, m, x, tail = _half_chord(delta, eta)
    part = (2.0 / _PI) * (x + x * (0.5 * m * tail))
    size = a * b
    return size * (part if near else 1.0 - part), size * (2.0 - part if near else 1.0 + part), 0.0


def step_moments(q, p):
    """(1/2, 0); (0, 0) at q = 0, as φ(0) = 0."""
    return np.where(q > 0, 0.5, 0.0 * q), np.zeros_like(q)


def sign_dual(s, t, a, b, delta, eta, p):
    """φ = sign(z) = 2 step(z) − 1: G/ab = 1 − 2θ/π."""
    near, m, x, tail = _half_chord(delta, eta)
    part = (4.0 / _PI) * (x + x * (0.5 * m * tail))
    size = a * b
    return size * (part if near else 2.0 - part), size * (2.0 - part if near else part), 0.0


def sign_moments(q, p):
    """(1, 0); (0, 0) at q = 0, as φ(0) = 0."""
    return np.where(q > 0, 1.0, 0.0 * q), np.zeros_like(q)


# --- sine waves ---------------------------------------------------------------------------------------------


@shared
def _wave_dual(s, t, a, b, delta, eta, amplitude, frequency, even, odd):
    """Dual of A [√even cos(fz) ± √odd sin(fz)], even + odd = 1, from E cos(f(u ± v)) = e^{−f²E[(u ± v)²]/2}.

    With X, Y the means of cos(f(u − v)), cos(f(u + v)), k = odd − even and g(s) = e^{−f²s²}:
    2G = A²(X − kY) = A²[even (X + Y) + odd (X − Y)], slope the same with even and odd exchanged, times f²,
    E[(φ(u) ∓ φ(v))²] = A²[(1 ∓ X)(1 ± kY) − ½k (g(s) − g(t))²], where g(s)g(t) = XY.
    """
    size, rate = amplitude * amplitude, frequency * frequency
    near = delta <= eta
    m = delta if near else eta
    st, apart = s * t, s - t
    least = apart * apart + 2.0 * st * m  # the smaller one of E[(u ± v)²]
    close = _scalar.expm1(-0.5 * rate * least)
    further = _scalar.expm1(-2.0 * rate * st * (1.0 - m))
    wide = close + further * (1.0 + close)
    x1, y1 = close if near else wide, wide if near else close  # X − 1, Y − 1
    x, y = 1.0 + x1, 1.0 + y1
    difference = -further * (1.0 + close)
    difference = difference if near else -difference
    mean = 0.5 * (even * (x + y) + odd * difference)
    slope = 0.5 * rate * (odd * (x + y) + even * difference)
    k = odd - even
    uneven = _scalar.expm1(-rate * abs(apart) * (s + t))
    ratio = 1.0 + uneven
    ratio = ratio if ratio > _SMALLEST else 1.0  # then XY is 0 too, or the plain difference is taken below
    spread = 0.5 * k * (x * y * (uneven * uneven) / ratio)
    norm, radial = a * b, (a - b) * (a - b)
    minus = size * (-x1 * (2.0 * odd + k * y1) - spread)
    plus = size * ((1.0 + x) * (2.0 * even - k * y1) - spread)
    plain = (rate * least > 1.0) | (radial > 0.5 * norm)
    gap = norm - size * mean if plain else 0.5 * (minus - radial)
    total = norm + size * mean if plain else 0.5 * (plus - radial)
    return _at_least_0(gap), _at_least_0(total), size * slope


def _wave_moments(q, amplitude, frequency, even, odd):
    size, rate = amplitude * amplitude, frequency * frequency
    half = -0.5 * np.expm1(-2.0 * rate * q)  # E[sin(f√q z)²]
    return size * (odd * half + even * (1.0 - half)), size * rate * (even * half + odd * (1.0 - half))


def sin_dual(s, t, a, b, delta, eta, p):
    """φ = A sin(fz + c), p = (A, f, c)."""
    sine, cosine = _scalar.sincos(p[2])
    return _wave_dual(s, t, a, b, delta, eta, p[0], p[1], sine * sine, cosine * cosine)


def sin_moments(q, p):
    """E[φ²] = A² [cos²c (1 − e^{−2f²q}) + sin²c (1 + e^{−2f²q})]/2, and f² times it with cos and sin exchanged."""
    return _wave_moments(q, p[0], p[1], math.sin(p[2]) ** 2, math.cos(p[2]) ** 2)


def cos_dual(s, t, a, b, delta, eta, p):
    """φ = A cos(fz + c), p = (A, f, c)."""
    sine, cosine = _scalar.sincos(p[2])
    return _wave_dual(s, t, a, b, delta, eta, p[0], p[1], cosine * cosine, sine * sine)


def cos_moments(q, p):
    """As for the sine with cos c and sin c exchanged."""
    return _wave_moments(q, p[0], p[1], math.cos(p[2]) ** 2, math.sin(p[2]) ** 2)


def rbf_dual(s, t, a, b, delta, eta, p):
    """φ = √2 sin(√(2γ) z + π/4), p = (γ,): G = exp(−γ E[(u − v)²]) [Rahimi & Recht 2007], slope = 2γG."""
    apart = s - t
    x1 = _scalar.expm1(-p[0] * (apart * apart + 2.0 * (s * t) * delta))
    return -x1, 2.0 + x1, 2.0 * p[0] * (1.0 + x1)


def rbf_moments(q, p):
    """(1, 2γ)."""
    return np.ones_like(q), np.full_like(q, 2.0 * p[0])


# --- smooth -------------------------------------------------------------------------------------------------


def erf_dual(s, t, a, b, delta, eta, p):
    """φ = A erf(Bz) + C, p = (A, B, C): G = (2A²/π) γ + C², sin γ = S T ρ/√(P_s P_t) [Williams 1996, eq. 11].

    S = √2 |B| s, T alike, P_s = 1 + S², R_s = √(1 + 2S²), Q = P_s P_t − (S T ρ)²; slope = 4A²B²/(π√Q). For ρ >= 0,
    E[(φ(u) − φ(v))²] = (4A²/π) h, and for ρ <= 0 and C = 0 E[(φ(u) + φ(v))²], with

        2 sin h = (R − 2STρ)(R + 2STρ)/[R √Q + (R_s + R_t) S T |ρ|],   R = R_s R_t − 1,
        R ∓ 2STρ = 2 (S − T)²/(R_s R_t + 1 + 2ST) + 2 S T (1 ∓ ρ),
        2 cos h = [(R_s + R_t) √Q + R S T |ρ|]/(P_s P_t).
    """
    square, offset = p[0] * p[0], p[2] * p[2]
    scale = _ROOT_TWO * abs(p[1])
    S, T = scale * s, scale * t
    s2, t2, st = S * S, T * T, S * T
    near = delta <= eta
    m = delta if near else eta
    rs, rt = np.sqrt(1.0 + 2.0 * s2), np.sqrt(1.0 + 2.0 * t2)
    apart, sides = S - T, rs + rt
    excess = 2.0 * (apart * apart) / (rs * rt + 1.0 + 2.0 * st)
    whole = excess + 2.0 * st
    norms = (1.0 + s2) * (1.0 + t2)
    root = np.sqrt(1.0 + s2 + t2 + st * st * (delta * eta))
    overlap = st * (1.0 - m)
    sine = 0.5 * (excess + 2.0 * st * delta) * (excess + 2.0 * st * eta)
    per_sine = whole * root + sides * overlap + _SMALLEST
    cosine = 0.5 * (sides * root + whole * overlap)
    norm, radial = a * b, (a - b) * (a - b)
    plain = radial > 0.5 * norm
    length = np.sqrt(norms)
    angle = _angle(
        overlap if plain else sine,
        length if plain else per_sine,
        root if plain else cosine,
        length if plain else norms,
    )
    mean = (2.0 / _PI) * square * angle
    mean = (mean if near else -mean) + offset
    part = 0.5 * ((4.0 / _PI) * square * angle - radial)
    smaller = part if near else part + 2.0 * offset
    larger = 2.0 * norm - smaller
    gap = norm - mean if plain else (smaller if near else larger)
    total = norm + mean if plain else (larger if near else smaller)
    slope = (4.0 / _PI) * square * (p[1] * p[1]) / root
    return _at_least_0(gap), _at_least_0(total), slope


def erf_moments(q, p):
    """((2A²/π) asin(S²/(1 + S²)) + C², 4A²B²/(πR)), S² = 2B²q, R = √(1 + 2S²); the arcsine is 2 atan((R − 1)/(R + 1))."""
    square = p[0] * p[0]
    s2 = 2.0 * (p[1] * p[1]) * q
    root = np.sqrt(1.0 + 2.0 * s2)
    angle = 2.0 * np.arctan(2.0 * s2 / (1.0 + root) ** 2)
    return (2.0 / _PI) * square * angle + p[2] * p[2], (4.0 / _PI) * square * (p[1] * p[1]) / root


def gaussian_dual(s, t, a, b, delta, eta, p):
    """φ = A e^{Bz²}, B <= 0, p = (A, B): G = A²/√Q, Q = det(1 − 2BΣ), slope = 4A²B² c Q^{−3/2}.

    With β = −2B: ab = A² V^{−1/4}, V = (1 + 2βs²)(1 + 2βt²), and Q² − V = β²(s² − t²)² + π(2 + 2β(s² + t²) + π) with
    π = β²s²t²(1 − ρ²) has no cancellation, from which gap = A² (√Q − V^{1/4})/(V^{1/4} √Q).
    """
    square, beta = p[0] * p[0], -2.0 * p[1]
    s2, t2, st = beta * (s * s), beta * (t * t), beta * (s * t)
    apart = beta * ((s - t) * (s + t))
    cross = st * st * (delta * eta)
    q = 1.0 + s2 + t2 + cross
    root, root_v = np.sqrt(q), np.sqrt((1.0 + 2.0 * s2) * (1.0 + 2.0 * t2))
    fourth = np.sqrt(root_v)
    per_product = 1.0 / (fourth * root)
    per_root = fourth * per_product
    excess = apart * apart + cross * (2.0 + 2.0 * (s2 + t2) + cross)
    gap = square * excess * per_product / ((root + fourth) * (q + root_v))
    mean = square * per_root
    rho = 1.0 - delta if delta <= eta else eta - 1.0
    return gap, square * root * per_product + mean, beta * st * rho * mean * (per_root * per_root)


def gaussian_moments(q, p):
    """(A²(1 + 2βq)^{−1/2}, A²β²q(1 + 2βq)^{−3/2}), β = −2B."""
    square, beta = p[0] * p[0], -2.0 * p[1]
    root = np.sqrt(1.0 + 2.0 * beta * q)
    return square / root, square * beta * (beta * q) / root**3


def exp_dual(s, t, a, b, delta, eta, p):
    """φ = A e^{Bz}, p = (A, B): G = A² e^{B²E[(u + v)²]/2} = ab e^{−B²E[(u − v)²]/2}, slope = B²G.

    inf where ab or G exceed the largest float64.
    """
    rate = p[1] * p[1]
    apart = s - t
    x1 = _scalar.expm1(-0.5 * rate * (apart * apart + 2.0 * (s * t) * delta))
    mean = p[0] * p[0] * _scalar.exp(0.5 * rate * (apart * apart + 2.0 * (s * t) * eta))
    norm = a * b
    return 0.0 if x1 == 0.0 else -norm * x1, norm * (2.0 + x1), rate * mean


def exp_moments(q, p):
    """(A² e^{2B²q}, B² times it); inf where that exceeds the largest float64."""
    with np.errstate(over="ignore"):
        value = p[0] * p[0] * np.exp(2.0 * (p[1] * p[1]) * q)
        return value, p[1] * p[1] * value


def gelu_dual(s, t, a, b, delta, eta, p):
    """φ = zΦ(z), exact: Φ is a mean of steps, and two integrations by parts leave orthant terms [Tsuchida et al. 2021].

    With P = (1 + s²)(1 + t²), Q = P − c², Q₁ = 1 + s² + t² (Q at ρ = 1) and sin γ = c/√P

        G = c/4 + cγ/2π + s²t² (√Q + ρ²/√Q)/(2πP),    slope = 1/4 + γ/2π + c (Q₁ + 2 + c²/Q)/(2πP√Q).

    For ρ >= 0 the part of gap that is due to the angle, G(ρ=1) − G(ρ), comes from ε = γ(ρ=1) − γ,
    sin ε = st(1 − ρ²)/(√Q + ρ√Q₁), and √Q − √Q₁ = s²t²(1 − ρ²)/(√Q + √Q₁); for s = t it is all of gap.
    """
    s2, t2, st = s * s, t * t, s * t
    near = delta <= eta
    m = delta if near else eta
    r = 1.0 - m  # |ρ|
    sharp = delta * eta
    norms = (1.0 + s2) * (1.0 + t2)
    q1 = 1.0 + s2 + t2
    q = q1 + st * st * sharp
    root, root1 = np.sqrt(q), np.sqrt(q1)
    length, both = np.sqrt(norms), root * root1
    per_norms, per_both = 1.0 / norms, 1.0 / both
    per_root = root1 * per_both
    angle = _angle(st * r, length, root, length)
    rest = _angle(st * sharp, root + r * root1, both + st * st * r, norms)
    signed = r if near else -r
    mean = 0.25 * signed + (0.5 / _PI) * (r * angle + st * per_norms * (root + r * r * per_root))
    rise = st * st * sharp / (root + root1)
    drop = sharp * per_root - rise * (1.0 - per_both)
    drop = st * (0.25 * m + (0.5 / _PI) * (rest + m * angle + st * per_norms * drop))
    mean = st * mean
    norm = a * b
    radial = 0.0 if s == t else _at_least_0(norm - (mean + drop))
    c = st * r
    turn = (0.5 / _PI) * (angle + c * (q1 + 2.0 + c * per_root * (c * per_root)) * per_norms * per_root)
    gap = radial + drop if near else norm - mean
    return gap, _at_least_0(norm + mean), 0.25 + turn if near else 0.25 - turn


def gelu_moments(q, p):
    """(q [1/4 + α/2π + q/(πPR)], 1/4 + α/2π + q (3 + 5q)/(2πPR³)), P = 1 + q, R = √(1 + 2q), sin α = q/P."""
    root = np.sqrt(1.0 + 2.0 * q)
    turn = 0.25 + np.arctan(2.0 * q / (1.0 + root) ** 2) / _PI
    part = q / ((1.0 + q) * root)
    return q * (turn + part / _PI), turn + (0.5 / _PI) * part * (3.0 + 5.0 * q) / (1.0 + 2.0 * q)
