"""The nearest non-negative power series by an active set of its own, in plain numpy on a fine grid of angles."""

import numpy as np


def angles(count):
    """Even angles (j + ½)π/count."""
    return (np.arange(count) + 0.5) * np.pi / count


def nearest_series(target, powers, rounds=1000):
    """min |powers @ b − target| over b ≥ 0 by coordinate descent over supports.

    ``powers`` (m, p) at m angles. Columns enter where the gradient is most negative; within the support least squares, and the
    column that turns negative first along the way leaves (Lawson & Hanson 1974, algorithm 23.10, written out).
    Returns the coefficients (p,), and the root of the mean square.
    """
    norms = np.linalg.norm(powers, axis=0)
    A = powers / norms
    b, inside = np.zeros(A.shape[1]), np.zeros(A.shape[1], dtype=bool)
    for _ in range(rounds):
        gain = A.T @ (target - A @ b)
        gain[inside] = -np.inf
        if gain.max() <= 1e-11 * np.linalg.norm(target):
            break
        inside[np.argmax(gain)] = True
        while True:
            best = np.zeros_like(b)
            best[inside] = np.linalg.lstsq(A[:, inside], target, rcond=None)[0]
            if best[inside].min() > 0:
                b = best
                break
            falling = inside & (best <= 0)
            step = (b[falling] / (b[falling] - best[falling])).min()
            b = b + step * (best - b)
            inside &= b > 1e-14
            b[~inside] = 0
    else:
        raise RuntimeError("the active set did not settle")
    return b / norms, np.sqrt(np.mean((A @ b - target) ** 2))


def series_at(coefficients, rho):
    """Σ b_k ρ^k, powers one by one."""
    return sum(b * rho**k for k, b in enumerate(coefficients))
