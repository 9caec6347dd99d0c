"""The non-negative power series nearest to samples, and what shows that none is nearer than their noise."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ntkengine.kernels.nearest import DEGREE, ROUNDING_OF_PRODUCTS, cone_fit, undetermined

__all__ = ["SAME_ANGLE", "Fit", "disproved", "fit"]

Array = NDArray[np.float64]

#: Angles nearer than this are one: a cosine in float64 knows a small angle no better.
SAME_ANGLE = 1e-7
#: A fit takes up to this many points; more are averaged in bins of even width in the angle, but for the first and the last,
POINTS = 2000
#: and what that changes is put back this many times.
CORRECTIONS = 2
#: Where a power is e to minus this number at the samples nearest to ±1, higher ones are the same at all samples.
SPENT = 20.0
#: Degrees above those taken one by one grow by the first factor; by the second where all are tried, and twice as far.
STEP, FINE_STEP = 1.02, 1.01


class Fit(NamedTuple):
    """Coefficients b_k and their errors, (p,) each, of the degrees (p,) that were tried, ascending; and the rms misfit."""

    degrees: Array
    b: Array
    error: Array
    misfit: float


def fit(theta: Array, K: Array, ratio: float, noise: float, enough: float) -> Fit:
    """The non-negative series in ρ, σ_b/σ_w = ratio, nearest to samples (n,) of K at sorted angles (n,), in least squares.

    Of degrees to 2000; where that misses the samples by more than ``enough`` (rms), also of higher ones, 2 % apart, until
    the samples tell them apart no more. ``noise``, the samples' standard deviation, is for the errors.
    """
    starts, counts = _bins(theta)
    points, means = (np.add.reduceat(x, starts) / counts for x in (theta, K))
    weight = np.sqrt(counts)
    ends = np.minimum(points, np.pi - points)
    top = math.ceil(2 * SPENT / float(ends[ends > SAME_ANGLE].min()) ** 2)
    degrees = np.arange(min(DEGREE, top) + 1.0)
    while True:
        columns = _powers(points, degrees, ratio) * weight[:, None]
        aim, last = means, top <= degrees[-1]
        for _ in range(1 + CORRECTIONS if last and points.size < theta.size else 1):
            b, _ = cone_fit(columns, weight * aim)
            some = b > 0
            off = K - _powers(theta, degrees[some], ratio) @ b[some]
            misfit = float(np.sqrt(np.mean(off**2)))
            if misfit <= enough:
                break
            aim = columns @ b / weight + np.add.reduceat(off, starts) / counts
        if misfit <= enough or last:
            return Fit(degrees, b, misfit + undetermined(columns, b, max(noise, misfit), degrees), misfit)
        degrees = np.concatenate([degrees, _both_parities(DEGREE + 1, top, STEP)])


def disproved(theta: Array, K: Array, found: Fit, there: float, enough: float) -> bool:
    """Whether a fit in ρ = c shows that every positive-definite kernel misses the samples by more than ``enough`` (rms).

    With m the misfit, samples less fit, and ⟨,⟩ the mean over the samples: were ``P = Σ b_k c^k`` with b_k ≥ 0 within
    ``enough`` of them, then ``⟨m, K⟩ = ⟨m, K − P⟩ + ⟨m, P⟩ ≤ ‖m‖ enough + T sup_k ⟨m, (c/c_0)^k⟩`` with ``T = P(c_0)`` and
    c_0 > 0 the largest size of a cosine sampled. P(c_0) is at most ``there``, the value of K, and √n times ``enough``.
    All degrees to 2000 are tried, and higher ones 1 % apart. A misfit of less than 1e-7 of the largest value shows nothing:
    products hold to rounding only.
    """
    size = float(np.abs(K).max()) or 1.0
    some = found.b > 0
    misfit = (K - _powers(theta, found.degrees[some], 0.0) @ found.b[some]) / size
    distance = float(np.sqrt(np.mean(misfit**2)))
    if distance <= max(ROUNDING_OF_PRODUCTS, enough / size):
        return False
    logs, signs = _logs(theta, 0.0)
    logs -= logs.max()
    others = logs[logs < -(SAME_ANGLE**2)]
    top = -4 * SPENT / float(others.max()) if others.size else 1.0
    rest = 0.0
    for k in np.concatenate([np.arange(DEGREE + 1.0), _both_parities(DEGREE + 1, top, FINE_STEP)]):
        rest = max(rest, float(np.mean(misfit * np.exp(k * logs) * (signs if k % 2 else 1.0))))
    mass = max(there, 0.0) / size + math.sqrt(theta.size) * enough / size
    return float(np.mean(misfit * K)) / size - 1.1 * mass * rest > distance * enough / size


def _both_parities(first: float, last: float, step: float) -> Array:
    """Whole numbers from ``first``, an odd and an even one for each of a geometric grid to ``last``."""
    if last < first:
        return np.zeros(0)
    grid = np.geomspace(first, last, math.ceil(math.log(last / first) / math.log(step)) + 1).round()
    return np.unique(np.concatenate([grid, grid + 1]))


def _logs(theta: Array, ratio: float) -> tuple[Array, Array]:
    """log|ρ| with the digits that it has near ρ = ±1, and the sign of ρ; (n,) each."""
    above = 2 * np.sin(theta / 2) ** 2 / (1 + ratio**2)  # 1 − ρ
    below = 2 * (np.cos(theta / 2) ** 2 + ratio**2) / (1 + ratio**2)
    with np.errstate(divide="ignore"):
        return np.maximum(np.log1p(-np.minimum(above, below)), -1e290), np.where(above > 1, -1.0, 1.0)


def _powers(theta: Array, degrees: Array, ratio: float) -> Array:
    """ρ^k: shape (n, p)."""
    logs, signs = _logs(theta, ratio)
    powers = np.exp(logs[:, None] * degrees)
    powers[np.ix_(signs < 0, degrees % 2 == 1)] *= -1
    return powers


def _bins(theta: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first of the samples that are one point of a fit, and their number: at most about POINTS points, or all samples."""
    if theta.size <= POINTS:
        return np.arange(theta.size), np.ones(theta.size, dtype=np.int64)
    bins = np.minimum((theta * (POINTS / np.pi)).astype(np.int64), POINTS - 1)
    alone = (bins == 0) | (bins == POINTS - 1)
    starts = np.flatnonzero(np.concatenate([[True], (np.diff(bins) > 0) | alone[1:]]))
    return starts, np.diff([*starts, theta.size])
