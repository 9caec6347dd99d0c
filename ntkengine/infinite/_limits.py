"""What the numbers of an architecture may be: standard deviations, layers, units."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ntkengine._check import integer, shown
from ntkengine.errors import InputError

__all__ = ["LARGEST_STD", "MAX_COUNT", "MAX_DEPTH", "SMALLEST_STD", "count", "layers", "std"]

#: Hidden layers of the deepest network, units of the widest layer.
MAX_DEPTH, MAX_COUNT = 100_000, 2**53
#: Bounds of weights' standard deviations, the second of biases' too: their eighth powers, in the duals, are 64-bit numbers.
SMALLEST_STD, LARGEST_STD = 1e-30, 1e30


def std(name: str, value: Any, *, positive: bool) -> float:
    """A standard deviation as a float; InputError unless it is 0 or more, or ``positive``, and its powers are numbers.

    Examples
    --------
    >>> from ntkengine.infinite._limits import std
    >>> std("w_std", 2, positive=True)
    2.0
    """
    try:
        number = float(value) if isinstance(value, (int, float, np.integer, np.floating)) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number < 0 or (positive and number == 0):
        allowed = "above 0" if positive else "of at least 0"
        why = "; with no weights the network does not see its input" if positive and number == 0 else ""
        raise InputError(f"{name} is {shown(value)}; it must be a finite standard deviation {allowed}{why}")
    least = SMALLEST_STD if positive else 0.0
    if not least <= number <= LARGEST_STD:
        raise InputError(
            f"{name} is {shown(value)}, too {'large' if number > 1 else 'small'} for variances in 64-bit numbers; choose it "
            f"from {least:g} to {LARGEST_STD:g}"
        )
    return number


def count(name: str, value: Any, also: str = "") -> int:
    """A number of units or of networks, from 1 to 2⁵³, as an int; ``also`` names other things allowed, for the error.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkengine.infinite._limits import count
    >>> count("width", np.int64(64))
    64
    """
    if isinstance(value, (int, np.integer)) and value > MAX_COUNT:
        raise InputError(f"{name} is {shown(value)}; it must be an integer from 1 to {MAX_COUNT}{also}")
    return integer(name, value, 1, also)


def layers(depth: Any) -> int:
    """The number of hidden layers, from 1 to 100,000, as an int.

    Examples
    --------
    >>> from ntkengine.infinite._limits import layers
    >>> layers(4)
    4
    """
    counted = isinstance(depth, (int, np.integer)) and not isinstance(depth, bool)
    if not counted or not 1 <= depth <= MAX_DEPTH:
        raise InputError(
            f"depth is {shown(depth)}; it counts hidden layers and must be an integer from 1 to {MAX_DEPTH}"
        )
    return int(depth)
