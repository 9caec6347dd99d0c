"""Ratio benchmarks: this package's time over a rival's, on the same data, in one process, in alternating runs.

A topic is a module of this folder, its name without a leading underscore, with one function::

    def rows() -> Iterable[Row]

which yields as it measures. Data are seeded and made before the clock starts; :func:`compare` warms both sides up,
compilation included. Ratios move by some 20 % on a busy machine; limits are set with that in mind.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Row", "compare"]


class Row(NamedTuple):
    """One line of the table."""

    what: str  #: What is measured, with its size and threads, and the rival.
    ratio: float  #: Ours over the rival's; below 1 is faster.
    limit: float | str  #: The ratio allowed, or a text where nothing is demanded.


def compare(ours: Callable[[], object], rival: Callable[[], object], repeats: int = 9) -> float:
    """Least time of ``ours`` over least time of ``rival``, in ``repeats`` alternating runs after one of each."""
    best = [float("inf"), float("inf")]
    for turn in range(repeats + 1):
        for side, run in enumerate((ours, rival)):
            start = time.perf_counter()
            run()
            if turn:
                best[side] = min(best[side], time.perf_counter() - start)
    return best[0] / best[1]
