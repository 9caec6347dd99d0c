"""Piecewise cubics between nodes that crowd towards 0, evaluated with numpy by search: no bits of floats, no compiled code."""

import numpy as np


def nodes(count, density, start):
    """|z| of the nodes, by the definition: 2^density equal steps to each octave of |z| + 2^start."""
    k = np.arange(count)
    steps = 2**density
    return 2.0 ** (start + k // steps) * (1 + (k % steps) / steps) - 2.0**start


def evaluate(table, z):
    """φ and φ' at z (float64): on each side the cubic with the values and slopes of its ends, beyond the last node a line."""
    z = np.asarray(z, dtype=np.float64)
    at = nodes(len(table["right_values"]), table["density"], table["start"])
    phi, dphi = np.empty_like(z), np.empty_like(z)
    for side, sign in (("right", 1.0), ("left", -1.0)):
        here = ~(z < 0) if sign > 0 else z < 0
        f, d = np.array(table[f"{side}_values"]), sign * np.array(table[f"{side}_slopes"])
        x = np.abs(z[here])
        i = np.clip(np.searchsorted(at, x, side="right") - 1, 0, at.size - 2)
        h = at[i + 1] - at[i]
        t = (x - at[i]) / h
        # Hermite's basis
        value = (1 + 2 * t) * (1 - t) ** 2 * f[i] + t * (1 - t) ** 2 * h * d[i]
        value += t * t * (3 - 2 * t) * f[i + 1] + t * t * (t - 1) * h * d[i + 1]
        slope = (
            6 * t * (1 - t) * (f[i + 1] - f[i]) / h
            + (1 - t) * (1 - 3 * t) * d[i]
            + t * (3 * t - 2) * d[i + 1]
        )
        far = x > at[-1]
        phi[here] = np.where(far, f[-1] + d[-1] * (x - at[-1]), value)
        dphi[here] = sign * np.where(far, d[-1], slope)
    return phi, dphi
