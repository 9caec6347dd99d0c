"""Duals E[φ(u)φ(v)], E[φ'(u)φ'(v)] and second moments of activations in mpmath, by forms of their own.

Piecewise-linear ones by arccos formulas, waves by characteristic functions, Gaussians by determinants, erf by its
arcsine, GELU by conditioning on the signs of two auxiliary variables. They subtract without care and use so many digits
that 40 are left for 1 − ρ = 1e-30. :func:`quadrature` is the definition itself, in polar coordinates, to 11 digits.
"""

import numpy as np
from mpmath import mp, mpf

DIGITS = 110


def _angle(delta):
    """θ with 1 − cos θ = delta, in [0, π]."""
    return mp.acos(1 - delta)


def linear(negative, positive):
    """negative·min(z, 0) + positive·max(z, 0), from relu(u)relu(v) and relu(u)relu(−v)."""
    n, p = mpf(negative), mpf(positive)

    def dual(s, t, delta):
        theta = _angle(delta)
        same = (mp.sin(theta) + (mp.pi - theta) * mp.cos(theta)) / (2 * mp.pi)
        other = (mp.sin(theta) - theta * mp.cos(theta)) / (2 * mp.pi)
        value = s * t * ((n**2 + p**2) * same - 2 * n * p * other)
        return value, (n**2 + p**2) * (mp.pi - theta) / (2 * mp.pi) + 2 * n * p * theta / (2 * mp.pi)

    return dual


def step(s, t, delta):
    """1 for z > 0: orthant probability."""
    return (mpf(1) / 2 - _angle(delta) / (2 * mp.pi)) * (s * t > 0), mpf(0)


def sign(s, t, delta):
    """sign(z): orthant probabilities."""
    return (1 - 2 * _angle(delta) / mp.pi) * (s * t > 0), mpf(0)


def identity(s, t, delta):
    """z."""
    return s * t * (1 - delta), mpf(1)


def wave(amplitude, frequency, phase):
    """amplitude·sin(frequency·z + phase), by products to sums and characteristic functions."""
    a, f, c = mpf(amplitude), mpf(frequency), phase

    def dual(s, t, delta):
        cov = s * t * (1 - delta)
        minus = mp.exp(-(f**2) * (s**2 + t**2 - 2 * cov) / 2)
        plus = mp.exp(-(f**2) * (s**2 + t**2 + 2 * cov) / 2) * mp.cos(2 * c)
        return a**2 * (minus - plus) / 2, a**2 * f**2 * (minus + plus) / 2

    return dual


def erf(amplitude, steepness, offset):
    """amplitude·erf(steepness·z) + offset: an orthant probability of u − w, v − w' with normal w, w'."""
    a, b, c = mpf(amplitude), mpf(steepness), mpf(offset)

    def dual(s, t, delta):
        s2, t2, cov = 2 * b**2 * s**2, 2 * b**2 * t**2, 2 * b**2 * s * t * (1 - delta)
        root = mp.sqrt((1 + s2) * (1 + t2))
        value = 2 * a**2 / mp.pi * mp.asin(cov / root) + c**2
        return value, 4 * a**2 * b**2 / (mp.pi * mp.sqrt((1 + s2) * (1 + t2) - cov**2))

    return dual


def gaussian(amplitude, exponent):
    """amplitude·exp(exponent·z²): det(1 − 2·exponent·Σ)^{−1/2}, and the slope by Wick in the tilted measure."""
    a, b = mpf(amplitude), mpf(exponent)

    def dual(s, t, delta):
        cov = s * t * (1 - delta)
        det = (1 - 2 * b * s**2) * (1 - 2 * b * t**2) - (2 * b * cov) ** 2
        value = a**2 / mp.sqrt(det)
        return value, 4 * b**2 * value * cov / det  # E[uv] under Σ' = (Σ⁻¹ − 2b)⁻¹ is cov/det

    return dual


def exponential(amplitude, rate):
    """amplitude·exp(rate·z): log-normal mean."""
    a, b = mpf(amplitude), mpf(rate)

    def dual(s, t, delta):
        value = a**2 * mp.exp(b**2 * (s**2 + t**2 + 2 * s * t * (1 - delta)) / 2)
        return value, b**2 * value

    return dual


def gelu(s, t, delta):
    """zΦ(z): E[φφ] = E[uv 1(w < u) 1(w' < v)] by conditioning on x = u − w, y = v − w'.

    Given (x, y), (u, v) is linear plus independent noise; moments over the quadrant x, y > 0 of a centred Gaussian with
    standard deviations σ, τ and correlation r are E[xx] = σ²(Π + rκ), E[xy] = στ(rΠ + κ), with Π the orthant
    probability and κ = √(1 − r²)/2π. The slope is the derivative in the covariance.
    """

    def value(cov):
        sx, sy = mp.sqrt(1 + s**2), mp.sqrt(1 + t**2)
        r = cov / (sx * sy)
        quadrant, kappa = mpf(1) / 4 + mp.asin(r) / (2 * mp.pi), mp.sqrt(1 - r**2) / (2 * mp.pi)
        xx, yy = sx**2 * (quadrant + r * kappa), sy**2 * (quadrant + r * kappa)
        xy = sx * sy * (r * quadrant + kappa)
        inverse = mp.matrix([[sx**2, cov], [cov, sy**2]]) ** -1
        gain = mp.matrix([[s**2, cov], [cov, t**2]]) * inverse  # E[(u, v) | x, y] = gain (x, y)
        left = mp.matrix([[s**2, cov], [cov, t**2]]) - gain * mp.matrix([[s**2, cov], [cov, t**2]])
        return (
            gain[0, 0] * gain[1, 0] * xx
            + (gain[0, 0] * gain[1, 1] + gain[0, 1] * gain[1, 0]) * xy
            + gain[0, 1] * gain[1, 1] * yy
            + left[0, 1] * quadrant
        )

    cov = s * t * (1 - delta)
    step = mpf(10) ** -35 * (1 + s * t)
    slope = (value(cov + step) - value(cov - step)) / (2 * step)
    return value(cov), slope


def rbf(gamma):
    """√2 sin(√(2γ)z + π/4): the Gaussian kernel of u − v."""
    g = mpf(gamma)

    def dual(s, t, delta):
        value = mp.exp(-g * (s**2 + t**2 - 2 * s * t * (1 - delta)))
        return value, 2 * g * value

    return dual


FORMS = {
    "identity": lambda: identity,
    "relu": lambda: linear(0, 1),
    "leaky_relu": lambda slope: linear(slope, 1),
    "abrelu": linear,
    "abs": lambda: linear(-1, 1),
    "step": lambda: step,
    "sign": lambda: sign,
    "erf": erf,
    "sin": lambda a, b, c: wave(a, b, mpf(c)),
    "cos": lambda a, b, c: wave(a, b, mpf(c) + mp.pi / 2),
    "rbf": rbf,
    "gaussian": gaussian,
    "exp": exponential,
    "gelu": lambda: gelu,
}


def reference(name, p, s, t, delta):
    """ab, gap, total, slope, √E[φ'(u)²]E[φ'(v)²]^{1/2} and E[(φ(u) − φ(v))²] at 1 − ρ = ``delta``, as mpf."""
    with mp.workdps(DIGITS):
        form = FORMS[name](*p)
        s, t, delta = mpf(s), mpf(t), mpf(delta)
        (a2, da2), (b2, db2) = form(s, s, mpf(0)), form(t, t, mpf(0))
        value, slope = form(s, t, delta)
        ab = mp.sqrt(a2) * mp.sqrt(b2)
        return ab, ab - value, ab + value, slope, mp.sqrt(da2 * db2), a2 + b2 - 2 * value


def antipode(eta):
    """1 − ρ at 1 + ρ = ``eta``, without rounding."""
    with mp.workdps(DIGITS):
        return 2 - mpf(eta)


def moments(name, p, q):
    """(E[φ²], E[φ'²]) at variance q, as mpf."""
    with mp.workdps(DIGITS):
        s = mp.sqrt(mpf(q))
        return FORMS[name](*p)(s, s, mpf(0))


def quadrature(phi, s, t, rho):
    """E[φ(u)φ(v)] for a NumPy φ that is smooth but at 0, where u = s r cos α, v = t r cos(α − arccos ρ).

    Gauss–Legendre in r and, between the rays u = 0 and v = 0, in α.
    """
    x, w = np.polynomial.legendre.leggauss(200)
    r, wr = 6 * (x + 1), 6 * w
    x, w = np.polynomial.legendre.leggauss(90)
    turn = np.arccos(rho)
    breaks = np.sort(np.mod([np.pi / 2, -np.pi / 2, turn + np.pi / 2, turn - np.pi / 2], 2 * np.pi))
    total = 0.0
    for low, high in zip(breaks, [*breaks[1:], breaks[0] + 2 * np.pi]):
        alpha, half = (low + high) / 2 + (high - low) / 2 * x, (high - low) / 2
        values = phi(s * np.outer(r, np.cos(alpha))) * phi(t * np.outer(r, np.cos(alpha - turn)))
        total += half * np.sum(np.outer(wr * r * np.exp(-r * r / 2), w) * values) / (2 * np.pi)
    return total
