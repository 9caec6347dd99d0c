"""Criteria for signs by plain two-dimensional quadrature in numpy: no Hermite expansion of squares, no quadratic forms."""

import math

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm


def series(a, z):
    """Σ a_k h_k(z) and its derivative, by the recurrence."""
    before, here = np.zeros_like(z), np.ones_like(z)
    value, slope = a[0] * here, np.zeros_like(z)
    for k in range(1, len(a)):
        before, here = here, (z * here - math.sqrt(k - 1) * before) / math.sqrt(k)
        value = value + a[k] * here
        slope = slope + a[k] * math.sqrt(k) * before
    return value, slope


def reach(width):
    """The median of the largest of ``width`` absolute Gaussians, from its distribution function."""
    return brentq(lambda x: (1 - 2 * norm.sf(x)) ** width - 0.5, 0.1, 9.0, xtol=1e-13)


def roughness(a, far=5.0, nodes=400):
    """∫ φ² over |z| <= far."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    return far * float(w @ series(a, far * x)[0] ** 2)


def moments(a, kind, c, w_std, b_std, far, nodes=80):
    """E[X] and E[X²] of one neuron's share X of the kernel at cosine c, over |u|, |v| <= far·√q.

    The plane is turned so that (u, v)/√q = (ρ₊ s + ρ₋ t, ρ₊ s − ρ₋ t) with s, t independent: the square becomes a rhombus,
    over which
    a product of Gauss rules runs. ``a`` are the coefficients, with signs, of z ↦ φ(√q z).
    """
    q, s_cov = w_std**2 + b_std**2, w_std**2 * c + b_std**2
    rho = s_cov / q
    plus, minus = math.sqrt((1 + rho) / 2), math.sqrt(max((1 - rho) / 2, 0.0))
    x, w = np.polynomial.legendre.leggauss(nodes)

    def integrand(u, v):
        (fu, du), (fv, dv) = series(a, u), series(a, v)
        first, second = fu * fv, s_cov / q * du * dv
        if kind == "nngp":
            return np.array([first, first**2])
        return np.array([first + second, first**2 + 2 * first * second + 3 * second**2])

    if minus < 1e-8 or plus < 1e-8:  # one line
        z, weight = far * x, far * w * np.exp(-((far * x) ** 2) / 2) / math.sqrt(2 * math.pi)
        return integrand(z, z if rho > 0 else -z) @ weight
    # |plus s + minus t| <= far and |plus s − minus t| <= far: |s| <= far/plus and |t| <= (far − plus |s|)/minus
    span = min(far / plus, 9.0)
    s = span * np.concatenate([(x - 1) / 2, (x + 1) / 2])
    limit = np.minimum((far - plus * np.abs(s)) / minus, 9.0)
    t = limit[:, None] * x
    weight = (
        np.outer(np.concatenate([w, w]) * span / 2 * limit, w)
        * np.exp(-(t * t + s[:, None] ** 2) / 2)
        / (2 * math.pi)
    )
    values = integrand(plus * s[:, None] + minus * t, plus * s[:, None] - minus * t)
    return (weight * values).sum(axis=(1, 2))


def kernel(a, kind, c, w_std, b_std):
    """K(c) of the theorem."""
    rho = (w_std**2 * c + b_std**2) / (w_std**2 + b_std**2)
    k = np.arange(len(a))
    return float(((np.asarray(a) ** 2) * (1 + k if kind == "ntk" else 1.0)) @ rho**k)


def spread(a, kind, w_std=1.0, b_std=0.0, width=512, angles=33):
    """N (Var X/N + (K − E[X])²), X within the range of 10⁴ networks, over K²: means over the midpoints of parts of [0, π]."""
    far, top, bottom = reach(10_000 * width), 0.0, 0.0
    for t in (np.arange(angles) + 0.5) * np.pi / angles:
        k = kernel(a, kind, math.cos(t), w_std, b_std)
        first, second = moments(a, kind, math.cos(t), w_std, b_std, far)
        top += second - first**2 + width * (k - first) ** 2
        bottom += k**2
    return top / bottom
