"""SGD steps of finite networks over those of NumPy, PyTorch and JAX (the latter two where they are installed).

float32, MSE, no biases. Every rival runs on one thread and on two (JAX on as many as it takes), and its better time counts; the
best rival sets the ratio. Ours runs first, then they.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import ntkengine as nk
from ntkengine.activations import activation
from ratios import Row
from ratios._rivals import MAKERS, available, relu_cos

__all__ = ["WORKS", "Work", "rows"]


@dataclass(frozen=True)
class Work:
    """What is trained: n rows, d inputs, m outputs, depth × width, and the ratio to reach."""

    name: str
    activation: str
    n: int
    d: int
    m: int
    width: int
    depth: int
    batch: int | None
    limit: float
    against: tuple[str, ...] = tuple(MAKERS)


WORKS = (
    Work("parity1", "sin", 1024, 11, 1, 128, 1, None, 1 / 3.5),
    Work("parity1, minibatch 64", "sin", 1024, 11, 1, 128, 1, 64, 1 / 2.5, ("NumPy",)),
    Work("parity4", "relu", 1024, 11, 1, 128, 4, None, 1 / 2),
    Work("wine1", "relu", 800, 11, 6, 4096, 1, None, 1 / 3),
    Work("mimic", "relu_cos", 800, 11, 6, 4096, 1, None, 1 / 3.5),
    Work("wine4", "relu", 800, 11, 6, 1024, 4, None, 1 / 1.1),
)


def _timed(run: Callable[[], object], seconds: float = 0.0) -> float:
    """Least time of a call, of three or as many as fit in ``seconds``."""
    best, spent, count = float("inf"), 0.0, 0
    while count < 3 or spent < seconds:
        start = time.perf_counter()
        run()
        last = time.perf_counter() - start
        best, spent, count = min(best, last), spent + last, count + 1
    return best


def _ours(work: Work, x: Any, y: Any, threads: int, seconds: float, members: int = 1) -> float:
    """Seconds a step of one network."""
    phi = activation(
        work.activation, **dict(zip("abcdefg", relu_cos)) if work.activation == "relu_cos" else {}
    )
    net = nk.FCN(phi, depth=work.depth)
    nets = net.init(width=work.width, n_inputs=work.d, n_outputs=work.m, seed=0, members=members)
    best, epochs, spent = float("inf"), 2, 0.0
    while spent < seconds or best == float("inf"):
        start = time.perf_counter()
        found = nk.train(
            nets, x, y, lr=1e-4, epochs=epochs, batch_size=work.batch, centered=False, snapshots=[0], threads=threads
        )  # fmt: skip
        last = time.perf_counter() - start
        if spent:  # the first call compiles
            best = min(best, found.step_seconds)
        spent += last
        epochs = min(
            max(epochs, int(0.1 / max(found.step_seconds * members, 1e-7) * epochs / found.steps)), 2000
        )
    return best


def rows(works: tuple[Work, ...] = WORKS, seconds: float = 1.0) -> Iterator[Row]:
    for work in works:
        rng = np.random.default_rng(0)
        x = rng.standard_normal((work.n, work.d)).astype(np.float32)
        y = rng.standard_normal((work.n, work.m)).astype(np.float32)
        fan = [work.d, *[work.width] * work.depth, work.m]
        weights = [rng.standard_normal(pair).astype(np.float32) for pair in pairwise(fan)]
        ours = {threads: _ours(work, x, y, threads, seconds) for threads in (1, 2)}
        best = ("", float("inf"))
        for name in work.against:
            library, make = MAKERS[name]
            if not available(library):
                continue
            for threads in (1, 2):
                found = _rival(library, make, work, x, y, weights, threads, seconds)
                if found < best[1]:
                    best = f"{name}, {threads} threads", found
        for threads, step in ours.items():
            yield Row(f"{work.name}: µs a step, {threads} thread(s)", 1e6 * step, "reported")
        yield Row(f"{work.name}, 2 threads / {best[0]}", ours[2] / best[1], work.limit)


def _rival(
    library: str, make: Any, work: Work, x: Any, y: Any, weights: Any, threads: int, seconds: float
) -> float:
    if library == "torch":
        import torch

        torch.set_num_threads(threads)
    with threadpool_limits(threads):
        run = make(work.activation, x, y, weights, 1e-4, work.batch or work.n)
        run(2)
        start = time.perf_counter()
        run(2)
        steps = max(2, int(0.1 / max((time.perf_counter() - start) / 2, 1e-7)))
        return _timed(lambda: run(steps), seconds) / steps
