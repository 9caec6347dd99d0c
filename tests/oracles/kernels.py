"""Kernels of infinitely wide networks by independent means: mpmath recursions, quadrature and sampling.

Nothing here splits activations into jumps and a rest, and nothing imports the package under test.
"""

import mpmath as mp
import numpy as np

DIGITS = 40


def hermite_values(z, degree):
    """h_0(z)..h_degree(z), orthonormal probabilists', as mpf."""
    with mp.workdps(DIGITS + 20):
        z = mp.mpf(z)
        values = [mp.mpf(1), z]
        for k in range(1, degree):
            values.append((z * values[k] - mp.sqrt(k) * values[k - 1]) / mp.sqrt(k + 1))
        return values[: degree + 1]


def coefficient(f, k, kinks=(), reach=14):
    """E[f(z) h_k(z)] by mpmath quadrature between kinks, to about 20 digits."""
    with mp.workdps(22):

        def term(z):
            before, here = mp.mpf(0), mp.mpf(1)
            for i in range(k):
                before, here = here, (z * here - mp.sqrt(i) * before) / mp.sqrt(i + 1)
            return f(z) * here * mp.npdf(z)

        return mp.quad(term, sorted({*range(-reach, reach + 1, 2), *kinks}), maxdegree=5)


def _angle(delta):
    """θ with 1 − cos θ = delta."""
    return 2 * mp.asin(mp.sqrt(delta / 2))


def relu_dual(q, delta):
    """E[φφ] and E[φ'φ'] for ReLU at variance q (Cho & Saul 2009, order 1 and 0)."""
    theta = _angle(delta)
    value = q * (mp.sin(theta) + (mp.pi - theta) * mp.cos(theta)) / (2 * mp.pi)
    return value, (mp.pi - theta) / (2 * mp.pi)


def leaky_dual(negative, positive):
    """The same for negative·min(z, 0) + positive·max(z, 0), from the ReLU's at θ and π − θ."""

    def dual(q, delta):
        here, slope = relu_dual(q, delta)
        there, other = relu_dual(q, 2 - delta)
        same, cross = negative**2 + positive**2, -2 * negative * positive
        return same * here + cross * there, same * slope - cross * other

    return dual


def sign_dual(q, delta):
    """Sign: arcsine law."""
    return 1 - 2 * _angle(delta) / mp.pi, mp.mpf(0)


def step_dual(q, delta):
    """Step: orthant probability."""
    return (1 - _angle(delta) / mp.pi) / 2, mp.mpf(0)


def identity_dual(q, delta):
    """φ(z) = z."""
    return q * (1 - delta), mp.mpf(1)


def erf_dual(a, b):
    """a·erf(bz): Williams 1996."""

    def dual(q, delta):
        s, rho = 2 * b**2 * q, 1 - delta
        value = 2 * a**2 / mp.pi * mp.asin(s * rho / (1 + s))
        slope = 4 * a**2 * b**2 / (mp.pi * mp.sqrt((1 + s) ** 2 - (s * rho) ** 2))
        return value, slope

    return dual


def cos_dual(f, g):
    """cos(fz + g), from E cos of Gaussians."""

    def dual(q, delta):
        near, far = mp.exp(-(f**2) * q * delta), mp.exp(-(f**2) * q * (2 - delta))
        phase = mp.cos(2 * g)
        return (near + phase * far) / 2, f**2 * (near - phase * far) / 2

    return dual


def gaussian_dual(b):
    """exp(b z²), b < 0: a Gaussian integral."""

    def dual(q, delta):
        rho = 1 - delta
        s = -2 * b * q
        determinant = (1 + s) ** 2 - (s * rho) ** 2
        value = 1 / mp.sqrt(determinant)
        # E[φ'φ'] = dG/d(covariance), covariance = qρ
        return value, s**2 * rho / (q * determinant * mp.sqrt(determinant))

    return dual


def kernels(dual, depth, w_std, b_std, delta, readout=(1, 0)):
    """(NNGP, NTK) of a deep network at 1 − c = delta, from a dual(q, 1 − ρ), to 40 digits."""
    with mp.workdps(DIGITS + 40):
        delta = mp.mpf(delta)
        w2, b2 = mp.mpf(w_std) ** 2, mp.mpf(b_std) ** 2
        q = w2 + b2
        sigma = theta = q - w2 * delta
        for layer in range(depth):
            if layer == depth - 1:
                out_w2, out_b2 = mp.mpf(readout[0]) ** 2, mp.mpf(readout[1]) ** 2
            else:
                out_w2, out_b2 = w2, b2
            value, slope = dual(q, 1 - sigma / q)
            top = dual(q, mp.mpf(0))[0]
            sigma = out_w2 * value + out_b2
            theta = sigma + out_w2 * theta * slope
            q = out_w2 * top + out_b2
        return sigma, theta


def dual_by_quadrature(phi, dphi, q, rho, nodes=80, reach=9.0, panels=30, kinks=()):
    """E[φφ] and E[φ'φ'] by brute-force two-dimensional numpy quadrature.

    u = z₁, v = ρ z₁ + √(1−ρ²) z₂; panels end at the kinks in u, and, for each u, at the kinks in v.
    """
    x, w = np.polynomial.legendre.leggauss(nodes)
    root, s = np.sqrt(q), np.sqrt(1 - rho**2)

    def rule(breaks):
        ends = np.unique(
            np.clip(np.concatenate([np.linspace(-reach, reach, panels + 1), breaks]), -reach, reach)
        )
        half = np.diff(ends)[:, None] / 2
        z = (ends[:-1, None] + half + half * x).ravel()
        return z, (half * w).ravel() * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)

    kinks = np.asarray(kinks, dtype=float) / root
    u, wu = rule(kinks)
    value = slope = 0.0
    for ui, wi in zip(u, wu):
        z, wz = rule((kinks - rho * ui) / s)
        v = rho * ui + s * z
        value += wi * phi(root * ui) * float(wz @ phi(root * v))
        slope += wi * dphi(root * ui) * float(wz @ dphi(root * v))
    return value, slope


def dual_by_mehler(phi, q, rho, degree=600, nodes=3000, reach=13.0):
    """E[φφ] and E[φ'φ'] of a smooth φ by the plain Hermite sum, on a fine composite rule in numpy."""
    x, w = np.polynomial.legendre.leggauss(20)
    ends = np.linspace(-reach, reach, nodes // 20 + 1)
    half = np.diff(ends)[:, None] / 2
    z = (ends[:-1, None] + half + half * x).ravel()
    f = phi(np.sqrt(q) * z) * (half * w).ravel() * np.exp(-z * z / 4)
    before, here = np.zeros_like(z), np.exp(-z * z / 4)
    value = slope = 0.0
    for k in range(degree + 1):
        a = float((f * here).sum()) / np.sqrt(2 * np.pi)
        value += a * a * rho**k
        slope += k * a * a * rho ** max(k - 1, 0) / q
        before, here = here, (z * here - np.sqrt(k) * before) / np.sqrt(k + 1)
    return value, slope
