"""Orthonormal probabilists' Hermite polynomials: values, series, and expansions of activations.

``h_0 = 1, h_1 = z, √(k+1) h_{k+1} = z h_k − √k h_{k−1}``, orthonormal under N(0, 1); ``h_k' = √k h_{k−1}``.
The *Hermite functions* ``ψ_k(z) = h_k(z) p(z)^½`` (p the normal density) stay bounded by 1 at every degree and are what
is computed wherever a polynomial alone could overflow.

Every loop runs the recurrence of ``g_k = h_k/s_k``, with scales s_k ~ k^{-¼} chosen so that its last factor is 1:
``g_{k+1} = γ_k z g_k − g_{k−1}``. That is one product and one fused multiply-add a degree, and nothing grows that h_k
does not. Points go in blocks that stay in the L1 cache, several degrees to a pass over the block; short blocks are
filled up with zeros, so a point has the same bits wherever it stands and however many threads share the blocks.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkengine import quadrature
from ntkengine._check import integer, real_array, shown
from ntkengine._jit import fast, prange
from ntkengine.errors import AccuracyWarning, InputError

if TYPE_CHECKING:
    from ntkengine.activations.base import Activation

__all__ = ["expand", "hermite_functions", "hermite_series", "hermite_values"]

Array = NDArray[np.float64]

_ROOT4_2PI = (2 * math.pi) ** 0.25
#: Degrees in one pass over a block; tables are padded to a multiple of it.
_STEP = 8
#: Points in a block of a series.
_BLOCK = 256
#: Points in a block of values, which are written across: 64 lines of the output stay in L1 too.
_ROWS = 64
#: Points in a thread's piece of work, a multiple of both.
_PIECE = 16 * _BLOCK
#: Points times degrees from which threads pay.
_PARALLEL_FROM = 1 << 24
#: ψ is carried as mantissa · 2^(−512 · exponent) where its start underflows.
_HIGH, _LOW = 2.0**512, 2.0**-512
#: 512 log 2 in two parts: products of the first, which has 33 bits, with integers below 2^20 are exact.
_LOG_HIGH, _LOG_REST = 354.89135640859604, 3.809595960326347e-08


# --- compiled ---------------------------------------------------------------------------------------------------


@fast
def _series_block(c: Array, gamma: Array, z: Array, out: Array, first: int, last: int) -> None:
    """out[i] = Σ_k c[k] g_k(z[i]) for first <= i < last, by Clenshaw's recurrence; c has a multiple of 8 entries."""
    w = np.empty((3, _BLOCK))  # z, b_{k+1}, b_{k+2}
    for start in range(first, last, _BLOCK):
        count = min(_BLOCK, last - start)
        w[:] = 0.0
        w[0, :count] = z[start : start + count]
        for k in range(c.size - 8, -1, -8):
            c0, c1, c2, c3, c4, c5, c6, c7 = (
                c[k], c[k + 1], c[k + 2], c[k + 3], c[k + 4], c[k + 5], c[k + 6], c[k + 7],
            )  # fmt: skip
            y0, y1, y2, y3, y4, y5, y6, y7 = (
                gamma[k], gamma[k + 1], gamma[k + 2], gamma[k + 3],
                gamma[k + 4], gamma[k + 5], gamma[k + 6], gamma[k + 7],
            )  # fmt: skip
            for j in range(_BLOCK):
                x, above = w[0, j], w[1, j]
                b7 = (y7 * x) * above + (c7 - w[2, j])
                b6 = (y6 * x) * b7 + (c6 - above)
                b5 = (y5 * x) * b6 + (c5 - b7)
                b4 = (y4 * x) * b5 + (c4 - b6)
                b3 = (y3 * x) * b4 + (c3 - b5)
                b2 = (y2 * x) * b3 + (c2 - b4)
                b1 = (y1 * x) * b2 + (c1 - b3)
                w[1, j] = (y0 * x) * b1 + (c0 - b2)
                w[2, j] = b1
        out[start : start + count] = w[1, :count]


@fast(parallel=True)
def _series(c: Array, gamma: Array, z: Array, out: Array) -> None:
    for piece in prange((z.size + _PIECE - 1) // _PIECE):
        _series_block(c, gamma, z, out, piece * _PIECE, min((piece + 1) * _PIECE, z.size))


@fast
def _values_block(
    s: Array, gamma: Array, z: Array, mantissa: Array, exponent: Array, out: Array, first: int, last: int
) -> None:
    """out[i, k] = mantissa[i] · 2^(−512 exponent[i]) · h_k(z[i]) for first <= i < last.

    Where the exponent is positive, mantissas that outgrow 2^512 give 512 of it back.
    """
    w = np.empty((12, _ROWS))  # z, exponent, g_k, g_{k−1}, then eight rows of results
    for start in range(first, last, _ROWS):
        count = min(_ROWS, last - start)
        w[:4] = 0.0
        w[0, :count] = z[start : start + count]
        w[1, :count] = exponent[start : start + count]
        w[2, :count] = mantissa[start : start + count]
        for k in range(0, out.shape[1], 8):
            s0, s1, s2, s3, s4, s5, s6, s7 = (
                s[k], s[k + 1], s[k + 2], s[k + 3], s[k + 4], s[k + 5], s[k + 6], s[k + 7],
            )  # fmt: skip
            y0, y1, y2, y3, y4, y5, y6, y7 = (
                gamma[k], gamma[k + 1], gamma[k + 2], gamma[k + 3],
                gamma[k + 4], gamma[k + 5], gamma[k + 6], gamma[k + 7],
            )  # fmt: skip
            for j in range(_ROWS):
                x, left, g0 = w[0, j], w[1, j], w[2, j]
                unit = 1.0 if left <= 0.0 else (_LOW if left == 1.0 else 0.0)
                g1 = (y0 * x) * g0 - w[3, j]
                g2 = (y1 * x) * g1 - g0
                g3 = (y2 * x) * g2 - g1
                g4 = (y3 * x) * g3 - g2
                g5 = (y4 * x) * g4 - g3
                g6 = (y5 * x) * g5 - g4
                g7 = (y6 * x) * g6 - g5
                g8 = (y7 * x) * g7 - g6
                w[4, j], w[5, j], w[6, j], w[7, j] = (
                    s0 * g0 * unit, s1 * g1 * unit, s2 * g2 * unit, s3 * g3 * unit,
                )  # fmt: skip
                w[8, j], w[9, j], w[10, j], w[11, j] = (
                    s4 * g4 * unit, s5 * g5 * unit, s6 * g6 * unit, s7 * g7 * unit,
                )  # fmt: skip
                release = left > 0.0 and abs(g8) > _HIGH
                factor = _LOW if release else 1.0
                w[1, j] = left - 1.0 if release else left
                w[2, j] = g8 * factor
                w[3, j] = g7 * factor
            for j in range(min(8, out.shape[1] - k)):
                for i in range(count):
                    out[start + i, k + j] = w[4 + j, i]


@fast(parallel=True)
def _values(s: Array, gamma: Array, z: Array, mantissa: Array, exponent: Array, out: Array) -> None:
    for piece in prange((z.size + _PIECE - 1) // _PIECE):
        _values_block(s, gamma, z, mantissa, exponent, out, piece * _PIECE, min((piece + 1) * _PIECE, z.size))


@fast
def _project(gamma: Array, z: Array, root: Array, even: Array, odd: Array, out: Array) -> None:
    """out[k] += Σ_i (even[i] or odd[i], as k is) · root[i] · g_k(z[i]); out has a multiple of 4 entries.

    Blocks of 8 rows of 64 points, 4 degrees to a pass; sums over rows by lane, then over lanes, then over blocks.
    """
    w = np.empty((44, 64))  # rows 0-3 sums, 4-11 z, 12-19 g_k, 20-27 g_{k−1}, 28-35 even, 36-43 odd
    for start in range(0, z.size, 512):
        w[:] = 0.0
        for i in range(start, min(start + 512, z.size)):
            row, j = (i - start) // 64, (i - start) % 64
            w[4 + row, j], w[12 + row, j], w[28 + row, j], w[36 + row, j] = z[i], root[i], even[i], odd[i]
        for k in range(0, out.size, 4):
            y0, y1, y2, y3 = gamma[k], gamma[k + 1], gamma[k + 2], gamma[k + 3]
            w[:4] = 0.0
            for row in range(4, 12, 2):
                for j in range(64):
                    x, a0, e, o = w[row, j], w[row + 8, j], w[row + 24, j], w[row + 32, j]
                    a1 = (y0 * x) * a0 - w[row + 16, j]
                    a2 = (y1 * x) * a1 - a0
                    a3 = (y2 * x) * a2 - a1
                    w[row + 8, j] = (y3 * x) * a3 - a2
                    w[row + 16, j] = a3
                    x, b0, f, p = w[row + 1, j], w[row + 9, j], w[row + 25, j], w[row + 33, j]
                    b1 = (y0 * x) * b0 - w[row + 17, j]
                    b2 = (y1 * x) * b1 - b0
                    b3 = (y2 * x) * b2 - b1
                    w[row + 9, j] = (y3 * x) * b3 - b2
                    w[row + 17, j] = b3
                    w[0, j] += a0 * e + b0 * f
                    w[1, j] += a1 * o + b1 * p
                    w[2, j] += a2 * e + b2 * f
                    w[3, j] += a3 * o + b3 * p
            for n in range(4):
                for j in range(8):
                    w[n, j] = ((w[n, j] + w[n, j + 8]) + (w[n, j + 16] + w[n, j + 24])) + (
                        (w[n, j + 32] + w[n, j + 40]) + (w[n, j + 48] + w[n, j + 56])
                    )
                out[k + n] += ((w[n, 0] + w[n, 1]) + (w[n, 2] + w[n, 3])) + (
                    (w[n, 4] + w[n, 5]) + (w[n, 6] + w[n, 7])
                )


# --- tables and starts ------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _table(degree: int) -> tuple[Array, Array]:
    """s_k and γ_k = s_k/(s_{k+1} √(k+1)), k = 0..degree and on to a multiple of the step.

    ``s_0 = s_1 = 1, s_{k+1} = s_{k−1} √(k/(k+1))``.
    """
    size = _STEP * (degree // _STEP + 1)
    k = np.arange(1.0, size + 1)
    s = np.ones(size + 1)
    ratio = np.sqrt(k[:-1] / k[1:])
    s[2::2], s[3::2] = np.cumprod(ratio[::2]), np.cumprod(ratio[1::2])
    return s[:-1].copy(), s[:-1] / (s[1:] * np.sqrt(k))


def _density_root(z: Array) -> tuple[Array, Array]:
    """p(z)^½ as (mantissa, exponent), worth mantissa · 2^(−512 exponent); the exponent is 0 for |z| <= 50.

    z² is split into an exact part and a small one, so the relative error is a few ulp at any z.
    """
    near = np.rint(z * 4096.0) / 4096.0
    size = 0.25 * near * near
    exponent = np.maximum(np.ceil((size - 630.0) / _LOG_HIGH), 0.0)
    rest = 0.25 * (z - near) * (z + near) - exponent * _LOG_REST
    return np.exp(exponent * _LOG_HIGH - size) * np.exp(-rest) / _ROOT4_2PI, exponent


def _points(z: ArrayLike) -> tuple[Array, tuple[int, ...]]:
    """z as a writeable (one machine code for all) C-contiguous vector, and its shape."""
    points = np.asarray(z)
    if points.dtype.kind not in "fiub":
        raise InputError(f"z must hold real numbers, not {points.dtype}")
    return np.require(points.reshape(-1), np.float64, ["C", "W", "A"]), points.shape


def _tabulate(z: Array, mantissa: Array, exponent: Array, degree: int) -> Array:
    s, gamma = _table(degree)
    out = np.empty((z.size, degree + 1))
    if out.size < _PARALLEL_FROM:
        _values_block(s, gamma, z, mantissa, exponent, out, 0, z.size)
    else:
        _values(s, gamma, z, mantissa, exponent, out)
    return out


# --- public -----------------------------------------------------------------------------------------------------


def hermite_values(z: ArrayLike, degree: int) -> Array:
    """h_0(z), ..., h_degree(z).

    Parameters
    ----------
    z : array_like, shape (n,) or any
    degree : int

    Returns
    -------
    (n, degree+1) float64 array (for z of another shape: that shape + (degree+1,))
        Good to 1e-12 of the envelope exp(z²/4) up to degree 400. Values overflow, to inf and then NaN, where the
        envelope does: |z| > 53. :func:`hermite_functions` never does.

    Raises
    ------
    InputError
        If the degree is not an integer of at least 0, or z does not hold real numbers.

    Examples
    --------
    >>> hermite_values([0.0, 1.0], 3).round(4) + 0.0
    array([[ 1.    ,  0.    , -0.7071,  0.    ],
           [ 1.    ,  1.    ,  0.    , -0.8165]])
    """
    points, shape = _points(z)
    degree = integer("degree", degree, 0)
    found = _tabulate(points, np.ones(points.size), np.zeros(points.size), degree)
    return found.reshape(*shape, degree + 1)


def hermite_functions(z: ArrayLike, degree: int) -> Array:
    """ψ_k(z) = h_k(z) p(z)^½, k = 0..degree: orthonormal on the real line, |ψ_k| < 1 at every degree.

    Parameters
    ----------
    z : array_like, shape (n,) or any
        Any finite values: the start is kept apart from its exponent, so ψ_k is right where p(z)^½ underflows.
    degree : int

    Returns
    -------
    (n, degree+1) float64 array (for z of another shape: that shape + (degree+1,))
        Good to about 1e-14; values below 1e-154 may be 0 for |z| > 60.

    Raises
    ------
    InputError
        If the degree is not an integer of at least 0, or z does not hold real numbers.

    Examples
    --------
    >>> bool(np.abs(hermite_functions(np.linspace(-100, 100, 9), 2000)).max() < 1)
    True
    """
    points, shape = _points(z)
    degree = integer("degree", degree, 0)
    far = np.abs(points) > 1e6  # beyond every turning point: degrees would have to reach 2.5e11
    if far.any():
        points = np.where(far, 0.0, points)
    mantissa, exponent = _density_root(points)
    mantissa[far] = 0.0
    return _tabulate(points, mantissa, exponent, degree).reshape(*shape, degree + 1)


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
        Good to 1e-12 of Σ |a_k h_k(z)| up to degree 400, and free of overflow as long as that sum is; the same bits
        on any number of threads. Not finite where z is not.

    Raises
    ------
    InputError
        If ``coefficients`` is not a non-empty vector of finite numbers, the order not an integer of at least 0, or z does
        not hold real numbers.

    Examples
    --------
    >>> hermite_series([0.0, 1.0, 2**0.5], [0.0, 2.0])      # z + z² − 1
    array([-1.,  5.])
    """
    a = real_array("coefficients", coefficients)
    if a.ndim != 1 or a.size == 0:
        raise InputError(
            f"coefficients have shape {a.shape}; a non-empty vector a_0, ..., a_degree is needed"
        )
    for _ in range(min(integer("derivative", derivative, 0), a.size)):
        a = a[1:] * np.sqrt(np.arange(1.0, a.size)) if a.size > 1 else np.zeros(1)
    points, shape = _points(z)
    s, gamma = _table(a.size - 1)
    c = np.zeros(s.size)
    c[: a.size] = a * s[: a.size]
    out = np.empty(points.size)
    if points.size * c.size < _PARALLEL_FROM:
        _series_block(c, gamma, points, out, 0, points.size)
    else:
        _series(c, gamma, points, out)
    return out.reshape(shape)


def check_variance(variance: float) -> float:
    """The variance as a float; InputError unless it is positive and finite."""
    try:
        q = float(variance)
    except (TypeError, ValueError, OverflowError):
        q = math.nan
    if not (math.isfinite(q) and q > 0):
        raise InputError(f"variance is {shown(variance)}; it must be a finite number above 0")
    return q


def project(
    f: Callable[[Array], NDArray[Any]], breaks: tuple[float, ...], degree: int, rtol: float = 1e-14
) -> tuple[Array, float]:
    """Hermite coefficients E[f(z) h_k(z)] of a function smooth between ``breaks``, and their error.

    Even coefficients need only f(z) + f(−z) and odd ones f(z) − f(−z), z > 0, so the rule covers half the line. Panels
    are narrow enough for the oscillation of h_degree, and doubled until no coefficient moves by more than ``rtol`` of
    the root mean square of f.

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
    far = max(abs(end) for end in quadrature.reach(f))
    panels = max(6, math.ceil(far * math.sqrt(degree + 1.0) / 20.0))
    folded = tuple(abs(b) for b in breaks)
    s, gamma = _table(degree)
    last, error = np.full(degree + 1, math.inf), math.inf
    for _ in range(9):
        z, w = quadrature.panel_rule(0.0, far, folded, panels, thin=True)
        root, _ = _density_root(z)
        right, left = f(z) * root, f(-z) * root
        scale = math.sqrt(float(((right**2 + left**2) * w).sum())) or 1.0
        sums = np.zeros(s.size)
        _project(gamma, z, root, (right + left) * w, (right - left) * w, sums)
        out = (s * sums)[: degree + 1]
        before, error, last = error, float(np.max(np.abs(out - last))) / scale, out
        stuck = error <= 1e-13 and error > 0.1 * before  # rounding, not the rule
        if error <= rtol or stuck or not math.isfinite(scale) or (z.size > 15_000 and error < math.inf):
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
    degree, q = integer("degree", degree, 0), check_variance(variance)
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
