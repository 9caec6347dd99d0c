"""Hermite series, values and projections against NumPy."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.polynomial.hermite_e import hermeval

from ntkengine import _jit
from ntkengine.activations import activation
from ntkengine.hermite import hermite_series, hermite_values, project
from ratios import Row, compare


def _values_by_numpy(z: np.ndarray, degree: int) -> np.ndarray:
    out = np.empty((degree + 1, z.size))
    out[0], out[1] = 1.0, z
    for k in range(1, degree):
        out[k + 1] = (z * out[k] - math.sqrt(k) * out[k - 1]) / math.sqrt(k + 1)
    return np.ascontiguousarray(out.T)


def _project_by_numpy(z: np.ndarray, values: np.ndarray, degree: int) -> np.ndarray:
    out, before, here = np.empty(degree + 1), np.zeros(z.size), np.exp(-0.25 * z * z)
    for k in range(degree + 1):
        out[k] = values @ here
        before, here = here, (z * here - math.sqrt(k) * before) / math.sqrt(k + 1)
    return out


def rows() -> Iterator[Row]:
    rng = np.random.default_rng(0)
    z, a = rng.standard_normal(10**6), rng.standard_normal(61)
    monic = a / np.sqrt([float(math.factorial(k)) for k in range(61)])
    for count, limit in ((1, 1 / 8), (2, 1 / 12)):
        with _jit.threads(count) as threads:
            ratio = compare(lambda: hermite_series(a, z), lambda: hermeval(z, monic))
        yield Row(f"series, 1e6 points, degree 60, {threads} thread(s) / hermeval", ratio, limit)
    few = z[:500_000]
    for count in (1, 2):
        with _jit.threads(count) as threads:
            ratio = compare(lambda: hermite_values(few, 60), lambda: np.empty((few.size, 61)).fill(1.0))
        yield Row(f"values, 5e5 × 61, {threads} thread(s) / filling the array", ratio, "a floor: 1")
    some = z[:100_000]
    ratio = compare(lambda: hermite_values(some, 60), lambda: _values_by_numpy(some, 60))
    yield Row("values, 1e5 × 61 / NumPy", ratio, 1.0)
    tanh, degree = activation("tanh"), 2048
    grid = np.linspace(-13, 13, 12_000)  # about as many points as `project` takes in all its rules
    with _jit.threads(1):
        ratio = compare(
            lambda: project(lambda x: np.asarray(tanh(x), dtype=np.float64), (), degree),
            lambda: _project_by_numpy(grid, np.tanh(grid), degree),
        )
    yield Row(f"coefficients of tanh to degree {degree} / one NumPy pass", ratio, 0.5)
