"""Gaussian expectations of L(z) = z log|z| and of functions with such a cusp at 0, by polar coordinates.

u = s r cos α, v = t r cos(α − θ): under N(0, 1) the angle α is uniform and r has density r exp(−r²/2). Singularities lie on the
two rays u = 0 and v = 0.
"""

import functools

import mpmath as mp
import numpy as np


@functools.cache
def _radial(power, logs, digits):
    """∫ r^power log^logs(r) r exp(−r²/2) dr, from derivatives of the Gamma function."""
    with mp.workdps(digits + 20):
        return mp.diff(lambda x: mp.mpf(2) ** (x / 2) * mp.gamma(1 + x / 2), power, logs)


def power_product(m, delta):
    """E[f_m(u)L(v)] and E[f_{m−1}(u)L'(v)] (0 for m = 0), f_m(z) = z^m₊/m!; m = None: E[L(u)L(v)], E[L'(u)L'(v)]; as mpf.

    At 1 − ρ = ``delta``, to the digits of mpmath's context. The radial integrals are known; that over α goes from ray to ray.
    """
    theta = 2 * mp.asin(mp.sqrt(delta / 2))
    rays = sorted({-mp.pi / 2, mp.pi / 2, theta - mp.pi / 2, theta + mp.pi / 2, 3 * mp.pi / 2})

    def moment(power, logs):
        return _radial(power, logs, mp.mp.dps)

    def value(alpha):
        a, b = mp.cos(alpha), mp.cos(alpha - theta)
        if a == 0 or b == 0 or (m is not None and a < 0):
            return mp.mpf(0)
        x, y = mp.log(abs(a)), mp.log(abs(b))
        if m is None:
            return a * b * (moment(2, 2) + moment(2, 1) * (x + y) + moment(2, 0) * x * y)
        return a**m / mp.factorial(m) * b * (moment(m + 1, 1) + moment(m + 1, 0) * y)

    def slope(alpha):
        a, b = mp.cos(alpha), mp.cos(alpha - theta)
        if a == 0 or b == 0 or (m is not None and (a < 0 or m == 0)):
            return mp.mpf(0)
        x, y = mp.log(abs(a)), mp.log(abs(b))
        if m is None:
            return moment(0, 2) + moment(0, 1) * (x + y + 2) + (x + 1) * (y + 1)
        return a ** (m - 1) / mp.factorial(m - 1) * (moment(m - 1, 1) + moment(m - 1, 0) * (y + 1))

    return tuple(mp.quad(f, rays) / (2 * mp.pi) for f in (value, slope))


def _graded(length, levels):
    """Gauss–Legendre rule on [0, length] in panels that crowd towards 0, each three times as wide as what is left below it."""
    return _rule(np.concatenate([[0.0], length * 0.25 ** np.arange(levels, -1.0, -1.0)]))


def _rule(edges):
    x, w = np.polynomial.legendre.leggauss(16)
    half = np.diff(edges)[:, None] / 2
    return (edges[:-1, None] + half + half * x).ravel(), (half * w).ravel()


def _half_line():
    inner, tail = _graded(2.0, 21.0), _rule(np.arange(2.0, 16.0, 2.0))
    return (np.concatenate([a, b]) for a, b in zip(inner, tail))


def pair(phi, slope, s, t, delta):
    """E[φ(u)φ(v)], E[φ'(u)φ'(v)] and E[(φ(u) − φ(v))²] for NumPy functions with a cusp at 0.

    The standard deviations are s and t, and 1 − ρ is ``delta``; near ρ = −1, give −t and 1 + ρ.
    The angle from one ray to the other and back is cut in halves, each measured by its distance y from a ray; (u, v) and
    (−u, −v) have the same density.
    """
    theta = 2 * np.arcsin(np.sqrt(delta / 2))
    r, radial = _half_line()
    radial = radial * r * np.exp(-r * r / 2)
    short, long = _graded(theta / 2, 21.0), _graded((np.pi - theta) / 2, 21.0)
    totals = np.zeros(3)
    for (_, weights), at_u, at_v in (
        (short, short[0], short[0] - theta),
        (short, theta - short[0], -short[0]),
        (long, theta + long[0], long[0]),
        (long, long[0], theta + long[0]),
    ):
        for sign in (s, -s) if weights.any() else ():
            u, v = sign * np.outer(r, np.sin(at_u)), sign * t / s * np.outer(r, np.sin(at_v))
            a, b = phi(u), phi(v)
            for i, values in enumerate((a * b, slope(u) * slope(v), (a - b) ** 2)):
                totals[i] += radial @ values @ weights
    return totals / (2 * np.pi)


def second_moments(phi, slope, q):
    """E[φ²] and E[φ'²] at variance q."""
    z, weights = _half_line()
    weights = weights * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    z = z * np.sqrt(q)
    return tuple(float((f(z) ** 2 + f(-z) ** 2) @ weights) for f in (phi, slope))
