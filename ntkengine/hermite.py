"""Orthonormal probabilists' Hermite polynomials: values, series, and expansions of activations.

``h_0 = 1, h_1 = z, √(k+1) h_{k+1} = z h_k − √k h_{k−1}``, orthonormal under N(0, 1); ``h_k' = √k h_{k−1}``.
The *Hermite functions* ``ψ_k(z) = h_k(z) p(z)^½`` (p the normal density) stay bounded by 1 at every degree and are what
is computed wherever a polynomial alone could overflow.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkengine import quadrature
from ntkengine._jit import strict
from ntkengine.errors import AccuracyWarning, InputError

if TYPE_CHECKING:
    from ntkengine.activations.base import Activation

__all__ = ["expand", "hermite_functions", "hermite_series", "hermite_values"]

Array = NDArray[np.float64]

_ROOT4_2PI = (2 * math.pi) ** 0.25


@strict
def _recur(z: Array, start: Array, out: Array) -> None:
    """out[i, k] = start[i] · h_k(z[i])."""
    for i in range(z.size):
        before, here = 0.0, start[i]
        out[i, 0] = here
        for k in range(out.shape[1] - 1):
            before, here = here, (z[i] * here - math.sqrt(k) * before) / math.sqrt(k + 1.0)
            out[i, k + 1] = here


@strict
def _clenshaw(coefficients: Array, z: Array, out: Array) -> None:
    """Out = Σ_k coefficients[k] h_k(z), backwards."""
    degree = coefficients.size - 1
    for i in range(z.size):
        above, here = 0.0, 0.0
        for k in range(degree, -1, -1):
            step = (
                coefficients[k] + z[i] * here / math.sqrt(k + 1.0) - math.sqrt((k + 1.0) / (k + 2.0)) * above
            )
            above, here = here, step
        out[i] = here


@strict
def _project(z: Array, values: Array, out: Array) -> None:
    """out[k] = Σ_i values[i] ψ_k(z[i]); two rows of ψ are all that is kept."""
    before, here = np.zeros(z.size), np.exp(-0.25 * z * z) / _ROOT4_2PI
    for k in range(out.size):
        out[k] = np.dot(values, here)
        up, down = 1.0 / math.sqrt(k + 1.0), math.sqrt(k / (k + 1.0))
        for i in range(z.size):
            before[i] = z[i] * here[i] * up - down * before[i]
        before, here = here, before


def _degree(degree: int) -> int:
    if isinstance(degree, bool) or int(degree) != degree or degree < 0:
        raise InputError(f"degree is {degree!r}; it must be an integer of at least 0")
    return int(degree)


def hermite_values(z: ArrayLike, degree: int) -> Array:
    """h_0(z), ..., h_degree(z).

    Parameters
    ----------
    z : array_like, shape (n,) or any
    degree : int

    Returns
    -------
    (n, degree+1) float64 array (for z of another shape: that shape + (degree+1,))
        Beyond |z| = 2√degree values grow like z^k/√k! and may overflow to inf; :func:`hermite_functions` never does.

    Raises
    ------
    InputError
        If the degree is not an integer of at least 0.

    Examples
    --------
    >>> hermite_values([0.0, 1.0], 3).round(4)
    array([[ 1.    ,  0.    , -0.7071, -0.    ],
           [ 1.    ,  1.    ,  0.    , -0.8165]])
    """
    points = np.asarray(z, dtype=np.float64)
    flat = np.ascontiguousarray(points).reshape(-1)
    out = np.empty((flat.size, _degree(degree) + 1))
    _recur(flat, np.ones(flat.size), out)
    return out.reshape(*points.shape, -1)


def hermite_functions(z: ArrayLike, degree: int) -> Array:
    """ψ_k(z) = h_k(z) p(z)^½, k = 0..degree: orthonormal on the real line, |ψ_k| < 1 at every degree.

    Parameters
    ----------
    z : array_like, shape (n,) or any
        Up to |z| ≈ 50; beyond that p(z)^½ underflows and the values are 0.
    degree : int

    Returns
    -------
    (n, degree+1) float64 array (for z of another shape: that shape + (degree+1,))

    Raises
    ------
    InputError
        If the degree is not an integer of at least 0.

    Examples
    --------
    >>> bool(np.abs(hermite_functions(np.linspace(-40, 40, 9), 2000)).max() < 1)
    True
    """
    points = np.asarray(z, dtype=np.float64)
    flat = np.ascontiguousarray(points).reshape(-1)
    out = np.empty((flat.size, _degree(degree) + 1))
    _recur(flat, np.exp(-0.25 * flat * flat) / _ROOT4_2PI, out)
    return out.reshape(*points.shape, -1)


def hermite_series(coefficients: ArrayLike, z: ArrayLike, derivative: int = 0) -> Array:
    """Σ_k a_k h_k(z), or a derivative of it, by Clenshaw's recurrence.

    Parameters
    ----------
    coefficients : array_like, shape (degree+1,)
        a_k.
    z : array_like
    derivative : int
        Order of the derivative, from ``h_k' = √k h_{k−1}``.

    Returns
    -------
    float64 array of the shape of ``z``

    Raises
    ------
    InputError
        If ``coefficients`` is not a non-empty vector.

    Examples
    --------
    >>> hermite_series([0.0, 1.0, 2**0.5], [0.0, 2.0])      # z + z² − 1
    array([-1.,  5.])
    """
    a = np.ascontiguousarray(coefficients, dtype=np.float64)
    if a.ndim != 1 or a.size == 0:
        raise InputError(
            f"coefficients have shape {a.shape}; a non-empty vector a_0, ..., a_degree is needed"
        )
    for _ in range(_degree(derivative)):
        a = a[1:] * np.sqrt(np.arange(1.0, a.size)) if a.size > 1 else np.zeros(1)
    points = np.asarray(z, dtype=np.float64)
    flat = np.ascontiguousarray(points).reshape(-1)
    out = np.empty(flat.size)
    _clenshaw(np.ascontiguousarray(a), flat, out)
    return out.reshape(points.shape)


def check_variance(variance: float) -> float:
    """The variance as a float; InputError unless it is positive and finite."""
    try:
        q = float(variance)
    except (TypeError, ValueError):
        q = math.nan
    if not (math.isfinite(q) and q > 0):
        raise InputError(f"variance is {variance!r}; it must be a finite number above 0")
    return q


def project(
    f: Callable[[Array], Array], breaks: tuple[float, ...], degree: int, rtol: float = 1e-14
) -> tuple[Array, float]:
    """Hermite coefficients E[f(z) h_k(z)] of a function smooth between ``breaks``, and their error.

    Panels are narrow enough for the oscillation of h_degree, and doubled until no coefficient moves by
    more than ``rtol`` of the root mean square of f.

    Parameters
    ----------
    f : callable
        ``f(z)`` for z of shape (n,).
    breaks : tuple of float
    degree : int
    rtol : float

    Returns
    -------
    coefficients : (degree+1,) array
    error : float
        Largest change of a coefficient in the last doubling, relative to √E[f²].
    """
    lower, upper = quadrature.reach(f)
    panels = max(12, math.ceil((upper - lower) * math.sqrt(degree + 1.0) / 20.0))
    last, error = np.full(degree + 1, math.inf), math.inf
    for _ in range(9):
        z, w = quadrature.panel_rule(lower, upper, (0.0, *breaks), panels)  # many an activation bends at 0
        values, root = f(z), np.exp(-0.25 * z * z) / _ROOT4_2PI
        scale = math.sqrt(float(((values * root) ** 2 * w).sum())) or 1.0
        out = np.empty(degree + 1)
        _project(z, values * root * w, out)
        before, error, last = error, float(np.max(np.abs(out - last))) / scale, out
        stuck = error <= 1e-13 and error > 0.1 * before  # rounding, not the rule
        if error <= rtol or stuck or not math.isfinite(scale) or z.size > 30_000:
            break
        panels *= 2
    return last, error


def expand(activation: Activation, degree: int, variance: float = 1.0) -> Array:
    """Hermite coefficients a_k(q) = E[φ(√q z) h_k(z)], z ~ N(0, 1), of an activation.

    The family's closed form where it has one, else composite Gauss–Legendre panels that end at the kinks, refined
    until the coefficients stand still.

    Parameters
    ----------
    activation : Activation
    degree : int
        Highest k.
    variance : float
        q > 0.

    Returns
    -------
    (degree+1,) float64 array

    Raises
    ------
    InputError
        If the degree or the variance is not allowed, or φ is not finite.

    Warns
    -----
    AccuracyWarning
        If quadrature does not reach 1e-13 of √E[φ²] (a kink that the family does not declare, for example).

    Examples
    --------
    >>> import ntkengine as nk
    >>> expand(nk.activation("relu"), 2).round(6)
    array([0.398942, 0.5     , 0.282095])
    """
    degree, q = _degree(degree), check_variance(variance)
    family = activation.family
    if family.coefficients is not None:
        closed = np.asarray(family.coefficients(np.array(activation.values), q, degree), dtype=np.float64)
        if closed.shape != (degree + 1,) or not np.isfinite(closed).all():
            raise InputError(
                f"the closed-form coefficients of {activation} at variance {q:g} and degree {degree} have shape "
                f"{closed.shape} and {int((~np.isfinite(closed)).sum())} values that are not finite; "
                "check the variance, and `coefficients` of the family"
            )
        return closed
    root = math.sqrt(q)
    breaks = tuple(kink.location / root for kink in activation.kinks)
    coefficients, error = project(
        lambda z: np.asarray(activation(root * z), dtype=np.float64), breaks, degree
    )
    if not error <= 1e-13:
        warnings.warn(
            f"Hermite coefficients of {activation} at variance {q:g} are good to {error:.1e} of √E[φ²] only; "
            "does the family declare all its kinks?",
            AccuracyWarning,
            stacklevel=2,
        )
    return coefficients
