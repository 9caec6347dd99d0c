"""Gram matrices of deep networks against one matrix product of the inputs, and the memory they need."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np
from threadpoolctl import threadpool_limits

import ntkengine as nk
from ratios import Row
from ratios.start import in_new_process

__all__ = ["large", "rows"]

FEATURES, DEPTH, THREADS = 32, 4, 2
ACTIVATIONS = ("relu", "erf", "tanh", "max(z-1, 0) + 0.1*cos(4*z)")
#: Largest time over that of ``X @ X.T``.
LIMITS = {"sphere": 4.0, "general": 12.0}

#: Resident bytes now (VmRSS) and at most (VmHWM). The peak that ``getrusage`` gives can be the parent's.
_PRELUDE = """
import sys, time
import numpy as np
import ntkengine as nk
def resident(field):
    with open("/proc/self/status") as lines:
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))
def inputs(n):
    X = np.random.default_rng(0).standard_normal((n, {features}))
    return X * (np.sqrt({features}) / np.linalg.norm(X, axis=1))[:, None] if {sphere} else X
net = nk.FCN(nk.activation({name!r}), {depth}, 2**0.5, 0.1)
"""
#: What compiling took at its peak is forgotten, or it would hide the call.
_MEMORY = """
X = inputs({n})
net.ntk(inputs(300), threads={threads})
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = resident("VmRSS")
K = net.ntk(X, threads={threads})
print([(resident("VmHWM") - before) / K.nbytes])
"""
_STREAM = """
import h5py
X = inputs({n})
net.ntk(inputs(300), threads={threads})
with h5py.File({path!r}, "w") as file:
    out = file.create_dataset("ntk", shape=({n}, {n}), dtype="float64", chunks=(256, 256))
    start = time.perf_counter()
    net.ntk(X, out=out, threads={threads})
    file.flush()
    print([time.perf_counter() - start, resident("VmHWM")])
"""


def _inputs(n: int, sphere: bool, seed: int) -> np.ndarray:
    X = np.random.default_rng(seed).standard_normal((n, FEATURES))
    return X * (math.sqrt(FEATURES) / np.linalg.norm(X, axis=1))[:, None] if sphere else X


def _medians(runs: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Median seconds of each, in ``repeats`` alternating turns after one that does not count; results are dropped."""
    seconds: list[list[float]] = [[] for _ in runs]
    for turn in range(repeats + 1):
        for run, kept in zip(runs, seconds):
            start = time.perf_counter()
            run()
            if turn:
                kept.append(time.perf_counter() - start)
    return [median(kept) for kept in seconds]


def _child(body: str, name: str, sphere: bool, n: int, path: str = "") -> list[float]:
    code = _PRELUDE.format(features=FEATURES, sphere=sphere, name=name, depth=DEPTH)
    return in_new_process(code + body.format(n=n, threads=THREADS, path=path))


def rows(n: int = 3000, repeats: int = 9) -> Iterator[Row]:
    for case, limit in LIMITS.items():
        X, other = (_inputs(n, case == "sphere", seed) for seed in (0, 1))
        for name in ACTIVATIONS:
            net, what = nk.FCN(nk.activation(name), DEPTH, 2**0.5, 0.1), f"{name}, {case}, n = {n}"
            runs = (
                lambda net=net, X=X: net.ntk(X, threads=THREADS),
                lambda net=net, X=X, other=other: net.ntk(X, other, threads=THREADS),
                lambda X=X: X @ X.T,
            )
            with threadpool_limits(THREADS, user_api="blas"):
                symmetric, rectangular, product = _medians(runs, repeats)
            yield Row(f"{what} / X @ X.T", symmetric / product, limit)
            yield Row(f"{what} / the rectangular one", symmetric / rectangular, 0.65)
    yield from _memory(n)


def _memory(n: int) -> Iterator[Row]:
    """Peak memory of a call over the bytes of its result; on Linux."""
    if not Path("/proc/self/clear_refs").exists():
        return
    for case in LIMITS:
        for name in ACTIVATIONS:
            (peak,) = _child(_MEMORY, name, case == "sphere", n)
            yield Row(f"{name}, {case}, n = {n}: memory / result", peak, 1.3)


def large(n: int = 40_000) -> Iterator[Row]:
    """A matrix larger than the memory it may take, into HDF5 in the folder for temporary files; on Linux."""
    folder = tempfile.gettempdir()
    needed, free = 8 * n * n, shutil.disk_usage(folder).free
    if free < 1.05 * needed:
        raise OSError(
            f"{folder!r} has {free / 1e9:.3g} GB free and n = {n} needs {needed / 1e9:.3g} GB; set TMPDIR to another folder"
        )
    with tempfile.TemporaryDirectory(prefix="ntkengine-bench-") as name:
        seconds, peak = _child(_STREAM, "relu", False, n, str(Path(name, "gram.h5")))
    what = f"relu, general, n = {n} into HDF5"
    yield Row(f"{what}: GiB resident at most", peak / 2**30, 2.0)
    yield Row(f"{what}: seconds", seconds, "reported")
