"""The shape of a kernel's values: trend, turning points, behaviour at c = 1, correlation angle, parity."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ntkengine.kernels.base import DotProductKernel

__all__ = ["angles", "correlation_angle", "near_one", "parity", "trend", "turning_points"]

Array = NDArray[np.float64]

#: The exponent at c = 1 is read where K has fallen by these parts of its range, of its largest value and of its noise.
FALL, FALL_OF_LARGEST, FALL_OF_NOISE = 1e-6, 1e-9, 20.0
#: An exponent nearer to 1 than this is 1, and the slope at c = 1 is finite; samples tell less.
EXPONENT, EXPONENT_OF_SAMPLES = 0.02, 0.25
#: A turning point is known to this much of its cosine at best.
RESOLVED = 1e-6


def angles() -> Array:
    """Even angles from 0 to π, and ever smaller ones at both ends; sorted, (n,)."""
    small = 2.0 ** -np.arange(1.0, 500.0)
    return np.unique(np.concatenate([np.linspace(0, np.pi, 4001), small, np.pi - small[:40]]))


def trend(K: Array, tolerance: float) -> tuple[str, list[int]]:
    """The trend in c of K (n,), by growing angle, and the indices at which it turns by more than the tolerance.

    The trend is "constant", "increasing", "decreasing" or "turning".
    """
    if np.ptp(K) <= tolerance:
        return "constant", []
    # Runs up and down that are larger than the tolerance: the extremum of each run is where K turns.
    turning: list[int] = []
    direction, low, high = 0, 0, 0
    for i, value in enumerate(K):
        if value > K[high]:
            high = i
        if value < K[low]:
            low = i
        if direction >= 0 and K[high] - value > tolerance:
            if direction > 0:
                turning.append(high)
            direction, low = -1, i
        elif direction <= 0 and value - K[low] > tolerance:
            if direction < 0:
                turning.append(low)
            direction, high = 1, i
        if direction < 0:
            high = low
        elif direction > 0:
            low = high
    if turning:
        return "turning", turning
    return ("increasing" if direction < 0 else "decreasing"), []


def turning_points(
    k: DotProductKernel, theta: Array, K: Array, turns: list[int], tolerance: float
) -> tuple[float, ...]:
    """Cosines of the turns, by golden sections between the neighbouring angles, to the digits in which K is not flat.

    ``K`` (n,) has the values at ``theta`` (n,), ``turns`` the indices that :func:`trend` found.
    """
    if not turns:
        return ()
    at = np.array(turns)
    low, high, golden = theta[at - 1], theta[at + 1], (math.sqrt(5) - 1) / 2
    sign = np.where(K[at] >= np.maximum(K[at - 1], K[at + 1]), 1.0, -1.0)
    for _ in range(40):
        one, other = high - golden * (high - low), low + golden * (high - low)
        left = sign * (k._values_at_angle(one) - k._values_at_angle(other)) > 0
        low, high = np.where(left, low, one), np.where(left, other, high)
    points = []
    for i, c in zip(turns, np.sin(np.pi / 2 - (low + high) / 2)):
        far = np.abs(K - K[i]) > tolerance
        before = i - int(np.argmax(far[i::-1]))
        after = i + int(np.argmax(far[i:]))
        flat = (math.cos(theta[before + 1]) - math.cos(theta[after - 1])) / 2
        points.append(round(float(c), max(0, math.floor(-math.log10(max(flat, RESOLVED))))) + 0.0)
    return tuple(points)


def near_one(k: DotProductKernel, K: Array, noise: float) -> tuple[float | None, float | None, float | None]:
    """Exponent at c = 1, the smallest angle it was read from, and the slope.

    From the fall of K, whose values on [0, π] are given, (n,), by more than rounding and noise, over angles θ, 2θ and 4θ:
    extrapolated to 0 as if the local exponent, and the local slope, were linear in the angle, since kernels of ReLU type are
    series in θ. None where it cannot be read.
    """
    least = max(FALL * float(np.ptp(K)), FALL_OF_LARGEST * float(np.abs(K).max()), FALL_OF_NOISE * noise)
    finest = max((s.finest_angle for s in k.samples), default=2.0**-500)
    theta = finest * 2.0 ** np.arange(0.0, math.floor(math.log2(2.0 / finest)) + 1)
    fall = k._deficit_at_angle(theta)
    fallen = np.flatnonzero(fall >= least)
    if not fallen.size or fallen[0] + 2 >= theta.size or (fall[: fallen[0] + 3] < -least).any():
        return None, None, None
    at = np.arange(fallen[0], fallen[0] + 3)
    drop, complement = fall[at], 2 * np.sin(theta[at] / 2) ** 2
    if not (drop > 0).all():
        return None, None, None
    local = np.diff(np.log(drop)) / np.diff(np.log(complement))
    exponent = float(2 * local[0] - local[1])
    margin = EXPONENT_OF_SAMPLES if k.samples else EXPONENT
    if exponent < 1 - margin:
        slope = math.inf
    elif exponent > 1 + margin:
        slope = 0.0
    else:
        secants = drop / complement
        slope = float(2 * secants[0] - secants[1])
    return exponent, float(theta[at[0]]), slope


def correlation_angle(
    k: DotProductKernel, theta: Array, K: Array, at_one: float, at_zero: float, tolerance: float
) -> float | None:
    """The smallest angle at which K is halfway from K(1) to K(0), by bisection; None if it does not fall from c = 1 to 0.

    ``K`` (n,) has the values at ``theta`` (n,), ascending from 0.
    """
    if not at_one - at_zero > tolerance:
        return None
    half = (at_one + at_zero) / 2
    first = int(np.argmax(half >= K))
    low, high = float(theta[first - 1]), float(theta[first])
    for _ in range(60):
        middle = (low + high) / 2
        if k._values_at_angle(np.array([middle]))[0] > half:
            low = middle
        else:
            high = middle
    return high


def parity(K: Array, mirrored: Array, tolerance: float) -> str:
    """Whether K is "even", "odd", "zero" (both) or "neither", from its values at c and at −c, (n,) each.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkengine.kernels._shape import parity
    >>> c = np.linspace(-1.0, 1.0, 5)
    >>> parity(c**2, (-c) ** 2, 1e-12), parity(c**3, (-c) ** 3, 1e-12)
    ('even', 'odd')
    """
    even, odd = np.abs(K - mirrored).max() <= tolerance, np.abs(K + mirrored).max() <= tolerance
    if even and odd:
        return "zero"
    return "even" if even else "odd" if odd else "neither"
