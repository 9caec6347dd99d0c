"""Hermite series, functions and Gauss–Hermite nodes in mpmath, straight from the definitions."""

import mpmath as mp
import numpy as np

from tests.oracles.kernels import hermite_values

DIGITS = 60


def series(coefficients, z, absolute=False):
    """Σ a_k h_k(z), or Σ |a_k h_k(z)|, summed to 60 digits: float array of the shape of z, a vector."""
    found = []
    with mp.workdps(DIGITS):
        for point in z:
            terms = [
                mp.mpf(float(a)) * h for a, h in zip(coefficients, hermite_values(point, len(coefficients)))
            ]
            found.append(float(mp.fsum(terms, absolute=absolute)))
    return np.array(found)


def functions(z, degree):
    """ψ_0(z)..ψ_degree(z) as floats."""
    with mp.workdps(DIGITS):
        root = mp.sqrt(mp.npdf(mp.mpf(z)))
        return np.array([float(root * h) for h in hermite_values(z, degree)])


def gauss_node(n, near):
    """The node of the n-point Gauss–Hermite rule next to ``near``, and its weight 1/(n h_{n−1}²), as mpf."""
    with mp.workdps(DIGITS):
        x = mp.mpf(float(near))
        for _ in range(5):  # Newton: h_n' = √n h_{n−1}
            before, here = hermite_values(x, n)[-2:]
            x -= here / (mp.sqrt(n) * before)
        return x, 1 / (n * hermite_values(x, n)[-2] ** 2)
