"""Designs: milliseconds of an objective, seconds of fits and series, and training with a tabulated φ over relu_cos.

The target of the fits is the NTK of four ReLU layers (σ_w = √2, σ_b = 0.1); their squared errors are sums over 100 angles even
from 0 to π. Published: relu_cos to 0.32 after two hours on a GPU (Simon, Anand & DeWeese 2022).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import numpy as np

import ntkengine as nk
from ntkengine.activations import activation
from ntkengine.activations.flexible import kinks_family
from ntkengine.design._objective import Objective
from ratios import Row, compare

__all__ = ["rows"]

_ANGLES = np.linspace(0, np.pi, 100)
#: Family -> what it is called with; seconds, squared error and largest error (in thousandths of K(1)) allowed.
_FITS: dict[str, tuple[dict[str, Any], float, float, float | str]] = {
    "relu_cos": ({}, 1.0, 0.0385, "reported"),
    "relu2_cos": ({}, 5.0, 0.004, "reported"),
    "kinks": ({"size": 8}, 30.0, 0.0385, 1.0),
}


def _seconds(run: Callable[[], object], repeats: int) -> float:
    """Median time of a call, in ``repeats`` after one."""
    found = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return median(found[1:])


def _objectives(repeats: int) -> Iterator[Row]:
    made = {"relu_cos": activation("relu_cos"), "relu2_cos": activation("relu2_cos")}
    made |= {f"kinks({size})": kinks_family.of_size(size)() for size in (8, 16, 64)}
    for name, phi in made.items():
        objective, values = Objective(nk.FCN(phi), "ntk", _ANGLES), np.array(phi.values)
        for what, run in (("100 angles", objective), ("with Jacobian", objective.linearised)):
            seconds = _seconds(partial(run, values), 6 * repeats)
            yield Row(
                f"objective of {name}, {what}: ms", 1e3 * seconds, 2.0 if run is objective else "reported"
            )


def rows(width: int = 4096, degree: int = 10_000, repeats: int = 5) -> Iterator[Row]:
    target = nk.FCN("relu", depth=4, w_std=2**0.5, b_std=0.1).kernel("ntk")
    yield from _objectives(repeats)
    for name, (size, seconds, squared, largest) in _FITS.items():
        fit = partial(nk.fit_activation, target, name, kind="ntk", **size)
        best = fit()
        gap = np.asarray(best.kernel.at_angle(_ANGLES) - target.at_angle(_ANGLES))
        label = name if not size else f"{name}({size['size']})"
        yield Row(f"fit of {label}: seconds", _seconds(fit, repeats), seconds)
        yield Row(f"fit of {label}: squared error", float(gap @ gap), squared)
        worst = 1e3 * float(np.abs(gap).max() / target(1.0))
        yield Row(f"fit of {label}: largest error, thousandths of K(1)", worst, largest)
    yield Row(
        f"series to degree {degree}: seconds", _seconds(lambda: target.taylor(degree), repeats), "reported"
    )
    whole = nk.reverse_engineer(target, degree="all")
    seconds = _seconds(lambda: nk.reverse_engineer(target, degree="all"), repeats)
    yield Row("φ of the whole series: seconds", seconds, "reported")
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((800, 11)), rng.standard_normal((800, 6))

    def trained(phi: Any) -> Callable[[], object]:
        nets = nk.FCN(phi).init(width=width, n_inputs=11, n_outputs=6, seed=0, members=1)
        return lambda: nk.train(nets, X, Y, lr=1e-3, epochs=20)

    ratio = compare(trained(whole.activation), trained("relu_cos"), repeats)
    yield Row(f"20 steps, 800 × 11, width {width}, tabulated φ / relu_cos", ratio, 1.25)
