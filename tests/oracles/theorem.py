"""Theorem 3.1 of Simon, Anand & DeWeese 2022 by hand: kernels of Hermite series, and moments, in numpy."""

import numpy as np


def kernel(a, kind, rho, readout_w_std=1.0, readout_b_std=0.0):
    """ω_w² Σ a_k² ρ^k + ω_b², with (1 + k) for the NTK."""
    k = np.arange(len(a))
    b = readout_w_std**2 * np.asarray(a) ** 2 * (1 + k if kind == "ntk" else 1)
    return np.polynomial.polynomial.polyval(rho, b) + readout_b_std**2


def rho(c, w_std, b_std):
    """The correlation after the input layer."""
    return (w_std**2 * c + b_std**2) / (w_std**2 + b_std**2)


def correlations(phi, slope, rho, q, nodes=90):
    """E[φ(u)φ(v)] and E[φ'(u)φ'(v)], u and v of variance q and correlation ρ, of polynomials, by a product of Gauss rules."""
    x, w = np.polynomial.hermite_e.hermegauss(nodes)
    w = w / np.sqrt(2 * np.pi)
    u = np.sqrt(q) * x[:, None]
    v = np.sqrt(q) * (rho * x[:, None] + np.sqrt((1 - rho) * (1 + rho)) * x)
    return w @ (phi(u) * phi(v)) @ w, w @ (slope(u) * slope(v)) @ w
