"""Quadrature against the standard normal density: Gauss–Hermite to high order, and a rule that knows about kinks.

Everything here is for ``E[f(z)]``, z ~ N(0, 1). The Gauss–Hermite rule is exact for polynomials and converges fast for
smooth f; one kink reduces it to algebraic convergence, so functions with kinks go through composite Gauss–Legendre
panels that end at the kinks (:func:`expectation`), which report the error they were checked against.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkengine._jit import strict
from ntkengine.errors import AccuracyWarning, InputError

__all__ = ["expectation", "gauss_hermite", "gauss_legendre", "panel_rule", "reach"]

Array = NDArray[np.float64]

#: Half-width of the domain for bounded integrands: exp(-13²/4) = 4e-19.
DEFAULT_REACH = 13.0
#: Farthest point tried for growing integrands; the density underflows just beyond.
MAX_REACH = 38.0
#: Gauss–Legendre points in a panel.
ORDER = 24

_LOG_ROOT_2PI = 0.5 * math.log(2 * math.pi)


@strict
def _newton_and_weights(nodes: Array, n: int, weights: Array) -> None:
    """One Newton step on h_n, then w_i = 1/(n h_{n-1}(x_i)²), with h_k kept as mantissa · 2^exponent."""
    for i in range(nodes.size):
        x = nodes[i]
        for refine in range(2):
            before, here, exponent = 0.0, 1.0, 0
            for k in range(n):
                step = x * here - math.sqrt(k) * before
                before, here = here, step / math.sqrt(k + 1.0)
                if abs(here) > 1e100:
                    before, here, exponent = before * 2.0**-300, here * 2.0**-300, exponent + 300
            if refine == 0:  # h_n' = √n h_{n-1}
                x -= here / (math.sqrt(n) * before)
            else:
                weights[i] = math.ldexp(math.ldexp(1.0 / (n * before * before), -exponent), -exponent)
        nodes[i] = x


@lru_cache(maxsize=32)
def gauss_hermite(n: int) -> tuple[Array, Array]:
    """Gauss–Hermite rule for the standard normal density.

    Nodes from the Jacobi matrix (Golub & Welsch 1969) with one Newton step; weights ``1/(n h_{n-1}(x_i)²)`` with a
    separate exponent, so nothing overflows. The sum of the weights and the moments 2, 4, 6 are checked.

    Parameters
    ----------
    n : int
        Number of nodes, at least 1. Checked in the tests to 1500.

    Returns
    -------
    nodes, weights : (n,) arrays, read-only
        ``E[f(z)] ≈ Σ weights · f(nodes)``; exact for polynomials of degree 2n − 1.

    Raises
    ------
    InputError
        If n is not a positive integer.

    Warns
    -----
    AccuracyWarning
        If the weights or the moments are wrong by more than 1e-12.

    Examples
    --------
    >>> x, w = gauss_hermite(20)
    >>> bool(abs((w * x**4).sum() - 3) < 1e-13)
    True
    """
    if int(n) != n or n < 1:
        raise InputError(
            f"n, the number of Gauss–Hermite nodes, is {n!r}; it must be an integer of at least 1"
        )
    from scipy.linalg import eigh_tridiagonal  # 0.15 s to import, and only needed here

    n = int(n)
    nodes = np.array(eigh_tridiagonal(np.zeros(n), np.sqrt(np.arange(1.0, n)), eigvals_only=True))
    weights = np.empty(n)
    _newton_and_weights(nodes, n, weights)
    nodes, weights = (nodes - nodes[::-1]) / 2, (weights + weights[::-1]) / 2
    moments = {0: 1.0, 2: 1.0, 4: 3.0, 6: 15.0}
    worst = max(
        abs(float((weights * nodes**m).sum()) / exact - 1) for m, exact in moments.items() if m < 2 * n
    )
    if not worst < 1e-12:
        warnings.warn(
            f"Gauss–Hermite rule with n={n} has moments wrong by {worst:.1e}", AccuracyWarning, stacklevel=2
        )
    nodes.flags.writeable = weights.flags.writeable = False
    return nodes, weights


@lru_cache(maxsize=32)
def gauss_legendre(n: int) -> tuple[Array, Array]:
    """Gauss–Legendre nodes and weights on [-1, 1], each (n,) and read-only."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    nodes.flags.writeable = weights.flags.writeable = False
    return nodes, weights


def panel_rule(
    lower: float, upper: float, breaks: Iterable[float], panels: int, order: int = ORDER, thin: bool = False
) -> tuple[Array, Array]:
    """Composite Gauss–Legendre rule on [lower, upper] (the density is not included).

    Parameters
    ----------
    lower, upper : float
    breaks : iterable of float
        Points where a panel must end; those outside the interval are ignored.
    panels : int
        Panels wanted over the whole interval; each piece between breaks gets its share, at least one.
    order : int
        Points in a panel.
    thin : bool
        Fewer points, half and a third, in panels narrower than a quarter and a sixteenth of the others: as accurate where the
        integrand is smooth on the scale of these.

    Returns
    -------
    nodes, weights : (n,) arrays, nodes ascending
    """
    ends = np.array([lower, *sorted({float(b) for b in breaks if lower < b < upper}), upper])
    share = panels * np.diff(ends) / (upper - lower)
    counts = np.maximum(np.ceil(share), 1.0).astype(np.int64)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    half = np.repeat(np.diff(ends) / counts, counts) / 2
    middle = np.repeat(ends[:-1], counts) + (2 * number + 1) * half
    sizes = np.where(share > 1 / 4, order, np.where(share > 1 / 16, order // 2, order // 3))
    points = np.repeat(sizes, counts) if thin else np.full(half.size, order)
    nodes, weights = [], []
    for size in np.unique(points):
        some = points == size
        x, w = gauss_legendre(int(size))
        nodes.append((middle[some, None] + half[some, None] * x).ravel())
        weights.append((half[some, None] * w).ravel())
    z = np.concatenate(nodes)
    ascending = np.argsort(z, kind="stable")
    return z[ascending], np.concatenate(weights)[ascending]


def density(z: Array) -> Array:
    """The standard normal density p(z)."""
    return np.exp(-0.5 * z * z - _LOG_ROOT_2PI)


def reach(f: Callable[[Array], NDArray[Any]], power: float = 0.5) -> tuple[float, float]:
    """Interval outside which ``|f(z)| p(z)^power`` is below 1e-18 of its largest value.

    Parameters
    ----------
    f : callable
        Array to array.
    power : float
        ½ for integrands f·h_k·p (a Hermite polynomial uses up the other half), 1 for f·p.

    Returns
    -------
    lower, upper : float
        At least [-13, 13], at most [-38, 38].

    Raises
    ------
    InputError
        If f is not finite on [-13, 13]: the activation cannot be integrated at this variance.
    """
    z = np.linspace(-MAX_REACH, MAX_REACH, 1217)
    with np.errstate(all="ignore"):
        size = np.log(np.abs(f(z))) - power * 0.5 * z * z
    core = np.abs(z) <= DEFAULT_REACH
    if np.isnan(size).any() or np.isposinf(size[core]).any():
        bad = float(z[np.isnan(size) | (np.isposinf(size) & core)][0])
        raise InputError(
            f"the activation is not finite {bad:.3g} standard deviations from zero: "
            "its Gaussian expectations do not exist; use a smaller variance (w_std, b_std) or a tamer activation"
        )
    significant = z[size > np.max(size) - 41.5] if np.isfinite(np.max(size)) else z[core]
    step = z[1] - z[0]
    return (
        max(-MAX_REACH, min(-DEFAULT_REACH, float(significant[0]) - step)),
        min(MAX_REACH, max(DEFAULT_REACH, float(significant[-1]) + step)),
    )


def expectation(
    f: Callable[[Array], NDArray[Any]],
    breaks: Iterable[float] = (),
    *,
    rtol: float = 1e-14,
    max_panels: int = 4096,
) -> tuple[float, float]:
    """``E[f(z)]``, z ~ N(0, 1), for f smooth between ``breaks``.

    Panels are doubled until two successive values agree to ``rtol`` of E|f|.

    Parameters
    ----------
    f : callable
        ``f(z)`` for z of shape (n,), returns (n,).
    breaks : iterable of float
        Where f or a derivative of it jumps.
    rtol : float
        Accuracy wanted, relative to E|f|.
    max_panels : int
        Where to give up; the error returned then says how far the last doubling moved the value.

    Returns
    -------
    value, error : float
        ``error`` is the absolute change of the last doubling.

    Examples
    --------
    >>> value, error = expectation(lambda z: np.maximum(z, 0.0) ** 2, breaks=[0.0])
    >>> abs(value - 0.5) < 1e-15
    True
    """
    breaks = (0.0, *breaks)
    lower, upper = reach(f, 1.0)
    last, value, error, panels = math.nan, math.nan, math.inf, 16
    while panels <= max_panels:
        z, w = panel_rule(lower, upper, breaks, panels, thin=True)
        terms = f(z) * density(z) * w
        last, value = value, float(terms.sum())
        error = abs(value - last)
        if error <= rtol * float(np.abs(terms).sum()):
            break
        panels *= 2
    return value, error if math.isfinite(error) else math.inf
