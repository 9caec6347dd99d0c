"""Duals continued to complex correlations: G(ρ) and E[φ'φ'](ρ) for |ρ| <= 1, at one variance.

The Taylor coefficients of a kernel are integrals over a circle in the complex plane, so every layer is needed there. Its Mehler
series has no negative coefficient: ρ ↦ G(ρ)/G(1) maps the unit disk into itself, and no branch cut (they start at ±1) is met
at any depth. Points are given by δ = 1 − ρ and duals by their *gap* G(1) − G(ρ), both to full relative accuracy, so that a
deep network whose layers draw all points together keeps its digits.

Closed forms are those of :mod:`ntkengine.activations._duals` at equal variances, for NumPy. All other duals are the series of
:mod:`ntkengine.infinite.dual`: a smooth part plus the dual of truncated powers (:mod:`ntkengine.infinite._complex_jumps`)
and of a logarithmic cusp (:mod:`ntkengine.infinite._jumps`). Where some kink is not at 0, the dual of the powers costs more
than its own Mehler sum, of 33/(−log |ρ|) terms at a point (e^−33 = 5e-15), unless |ρ| is very close to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ntkengine._jit import fast, prange
from ntkengine.activations import _duals
from ntkengine.activations.base import Activation
from ntkengine.infinite import _dual, _jumps
from ntkengine.infinite._complex_jumps import complex_angle, complex_deficits, sine_less_angle
from ntkengine.infinite.dual import Dual, Series, dual, part_at_one, part_coefficients

__all__ = ["ComplexDual", "ComplexValues"]

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]
Closed = Callable[[Complex, float, tuple[float, ...]], tuple[Any, Any]]

#: Most terms of a jump part's Mehler sum.
MOST_TERMS = 1 << 17
#: −log of the part of a sum that its terms leave out.
DIGITS = 33.0
#: Points that go through a series together.
_BLOCK = 64
_PI = math.pi


class ComplexValues(NamedTuple):
    """A dual at n complex points, each (n,)."""

    gap: Complex  #: G(1) − G(ρ)
    derivative: Complex  #: E[φ'φ']
    error: Array  #: bound of the gap's absolute error beyond rounding
    derivative_error: Array


# --- closed forms: (δ, q, parameters) -> (gap, E[φ'φ']) -------------------------------------------------------


def _linear(negative: float, positive: float, delta: Complex, q: float) -> tuple[Any, Any]:
    """negative·min(z, 0) + positive·max(z, 0) [Cho & Saul 2009]."""
    theta = complex_angle(delta)
    both, bend = negative**2 + positive**2, (positive - negative) ** 2
    gap = 0.5 * q * (both * delta - bend / _PI * sine_less_angle(delta, theta))
    return gap, 0.5 * both - bend / (2 * _PI) * theta


def _wave(size: float, rate: float, k: float, delta: Complex, q: float) -> tuple[Any, Any]:
    """G = size (X − k Y), X = e^{−rate q δ}, Y = e^{−rate q (2 − δ)}."""
    close = np.expm1(-rate * q * delta)
    further = np.exp(-rate * q * (2 - delta))
    return -size * close * (1 + k * further), size * rate * (1 + close + k * further)


def _arcsine_gap(delta: Complex, kappa: float, rest: float) -> Complex:
    """Asin κ − asin κρ, ``rest`` = √(1 − κ²): by the sine of the difference where Re ρ > 0."""
    rho, sharp = 1 - delta, delta * (2 - delta)
    root = np.sqrt(rest**2 + kappa**2 * sharp)
    near = np.arcsin(kappa * sharp / (root + np.where(rho.real > 0, rho, 1.0) * rest))
    return np.where(rho.real > 0, near, math.asin(kappa) - np.arcsin(kappa * rho))


def _sin(delta: Complex, q: float, p: tuple[float, ...]) -> tuple[Any, Any]:
    return _wave(0.5 * p[0] ** 2, p[1] ** 2, 1 - 2 * math.sin(p[2]) ** 2, delta, q)


def _cos(delta: Complex, q: float, p: tuple[float, ...]) -> tuple[Any, Any]:
    return _wave(0.5 * p[0] ** 2, p[1] ** 2, 1 - 2 * math.cos(p[2]) ** 2, delta, q)


def _exp(delta: Complex, q: float, p: tuple[float, ...]) -> tuple[Any, Any]:
    rate = p[1] ** 2 * q
    value = p[0] ** 2 * np.exp(rate * (2 - delta))
    return -(p[0] ** 2) * math.exp(2 * rate) * np.expm1(-rate * delta), p[1] ** 2 * value


def _gaussian(delta: Complex, q: float, p: tuple[float, ...]) -> tuple[Any, Any]:
    """A e^{Bz²}: G = A²/√Q, Q = 1 + 2s + s²(1 − ρ²), s = −2Bq."""
    beta = -2 * p[1]
    s = beta * q
    v, rise = 1 + 2 * s, s**2 * delta * (2 - delta)
    root = np.sqrt(v + rise)
    gap = p[0] ** 2 * rise / (math.sqrt(v) * root * (math.sqrt(v) + root))
    return gap, p[0] ** 2 * beta * s * (1 - delta) / root**3


def _erf(delta: Complex, q: float, p: tuple[float, ...]) -> tuple[Any, Any]:
    """A erf(Bz) + C: G = (2A²/π) asin κρ + C², κ = s/(1 + s), s = 2B²q [Williams 1996]."""
    s = 2 * p[1] ** 2 * q
    kappa, rest = s / (1 + s), math.sqrt(1 + 2 * s) / (1 + s)
    root = np.sqrt(1 + 2 * s + s**2 * delta * (2 - delta))
    gap = 2 * p[0] ** 2 / _PI * _arcsine_gap(delta, kappa, rest)
    return gap, 4 * p[0] ** 2 * p[1] ** 2 / (_PI * root)


def _gelu(delta: Complex, q: float, p: tuple[float, ...]) -> tuple[Any, Any]:
    """As :func:`ntkengine.activations._duals.gelu_dual` [Tsuchida et al. 2021]."""
    rho, sharp, norm = 1 - delta, delta * (2 - delta), (1 + q) ** 2
    kappa, root1 = q / (1 + q), math.sqrt(1 + 2 * q)
    fall = _arcsine_gap(delta, kappa, root1 / (1 + q))
    arc = math.asin(kappa) - fall
    root = np.sqrt(1 + 2 * q + q**2 * sharp)
    rise = q**2 * sharp / (root + root1)
    drop = sharp / root - rise * (1 - 1 / (root * root1))
    gap = q * (delta / 4 + (fall + delta * arc + q / norm * drop) / (2 * _PI))
    c = q * rho
    turn = arc + c * (3 + 2 * q + c**2 / root**2) / (norm * root)
    return gap, 0.25 + turn / (2 * _PI)


#: By the family's own closed form, so that a plugin of the same name is not taken for a built-in activation.
CLOSED: dict[Callable[..., Any], Closed] = {
    _duals.identity_dual: lambda d, q, p: (q * d, np.ones_like(d)),
    _duals.relu_dual: lambda d, q, p: _linear(0.0, 1.0, d, q),
    _duals.leaky_relu_dual: lambda d, q, p: _linear(p[0], 1.0, d, q),
    _duals.abrelu_dual: lambda d, q, p: _linear(p[0], p[1], d, q),
    _duals.abs_dual: lambda d, q, p: _linear(-1.0, 1.0, d, q),
    _duals.step_dual: lambda d, q, p: (complex_angle(d) / (2 * _PI), np.zeros_like(d)),
    _duals.sign_dual: lambda d, q, p: (complex_angle(d) * (2 / _PI), np.zeros_like(d)),
    _duals.sin_dual: _sin,
    _duals.cos_dual: _cos,
    _duals.rbf_dual: lambda d, q, p: _wave(1.0, 2 * p[0], 0.0, d, q),
    _duals.exp_dual: _exp,
    _duals.gaussian_dual: _gaussian,
    _duals.erf_dual: _erf,
    _duals.gelu_dual: _gelu,
}


# --- series ---------------------------------------------------------------------------------------------------


@fast
def _power_sums_block(
    tails: Array, slopes: Array, count: int, points: Array, out: Array, block: int, w: Array
) -> None:
    """Four terms of the sums in :func:`_power_sums` at a time, for one block; ``w`` is scratch, (6, 64)."""
    for i in range(_BLOCK):
        w[0, i], w[1, i] = points[block, 0, i], points[block, 1, i]
        w[2, i], w[3, i], w[4, i], w[5, i] = 0.0, 0.0, 0.0, 0.0
    for k in range(count - 4, -1, -4):
        a0, a1, a2, a3 = tails[k], tails[k + 1], tails[k + 2], tails[k + 3]
        b0, b1, b2, b3 = slopes[k], slopes[k + 1], slopes[k + 2], slopes[k + 3]
        for i in range(_BLOCK):
            x, y, r, s = w[0, i], w[1, i], w[2, i], w[3, i]
            r, s = (r * x - s * y) + a3, r * y + s * x
            r, s = (r * x - s * y) + a2, r * y + s * x
            r, s = (r * x - s * y) + a1, r * y + s * x
            w[2, i], w[3, i] = (r * x - s * y) + a0, r * y + s * x
            r, s = w[4, i], w[5, i]
            r, s = (r * x - s * y) + b3, r * y + s * x
            r, s = (r * x - s * y) + b2, r * y + s * x
            r, s = (r * x - s * y) + b1, r * y + s * x
            w[4, i], w[5, i] = (r * x - s * y) + b0, r * y + s * x
    for row in range(4):
        for i in range(_BLOCK):
            out[block, row, i] = w[2 + row, i]


@fast(parallel=True)
def _power_sums(tails: Array, slopes: Array, counts: NDArray[np.int64], points: Array, out: Array) -> None:
    """Σ_k tails[k] ρ^k and Σ_k slopes[k] ρ^k by Horner's rule, blocks of points with one number of terms each.

    Parameters
    ----------
    tails, slopes : (K,) arrays
    counts : (blocks,) array
        Terms of each block, multiples of 4; descending, so that workers of equal work take every 64th block.
    points : (blocks, 2, 64) array
        Real and imaginary parts of ρ.
    out : (blocks, 4, 64) array
        Filled with real and imaginary parts of the two sums.
    """
    for worker in prange(64):
        w = np.empty((6, _BLOCK))
        for block in range(worker, counts.size, 64):
            _power_sums_block(tails, slopes, counts[block], points, out, block, w)


def _sums(tails: Array, slopes: Array, rho: Complex, counts: NDArray[np.int64]) -> tuple[Complex, Complex]:
    """The two power sums at n points, each with at least ``counts`` (n,) terms."""
    size = -(-tails.size // 4) * 4
    tails, slopes = (np.pad(a, (0, size - a.size)) for a in (tails, slopes))
    order = np.argsort(-counts, kind="stable")
    blocks = -(-rho.size // _BLOCK)
    flat = np.zeros(blocks * _BLOCK, dtype=np.complex128)
    flat[: rho.size] = rho[order]
    points = np.ascontiguousarray(
        np.stack([flat.real, flat.imag], axis=1).reshape(blocks, _BLOCK, 2).transpose(0, 2, 1)
    )
    first = np.minimum(-(-counts[order[::_BLOCK]] // 4) * 4, size)
    out = np.empty((blocks, 4, _BLOCK))
    _power_sums(tails, slopes, first, points, out)
    rows = out.transpose(1, 0, 2).reshape(4, -1)[:, : rho.size]
    found = np.empty((2, rho.size), dtype=np.complex128)
    found[:, order] = rows[::2] + 1j * rows[1::2]
    return found[0], found[1]


class ComplexDual:
    """The dual of one activation at one variance, for complex correlations.

    Parameters
    ----------
    real : Dual

    Examples
    --------
    >>> import ntkengine as nk
    >>> from ntkengine.infinite.dual import dual
    >>> here = ComplexDual(dual(nk.activation("identity"), 2.0))
    >>> here.evaluate(np.array([1 - 0.5j])).gap                        # G = 2ρ, at ρ = i/2
    array([2.-1.j])
    """

    def __init__(self, real: Dual) -> None:
        self.real = real
        self._closed = CLOSED.get(real.activation.family.dual) if real.activation.family.dual else None
        self._series: Series | None = real.series
        if self._closed is None and self._series is None:  # a closed form, but not one of those above
            family = replace(real.activation.family, dual=None, moments=None)
            self._series = dual(Activation(family, real.activation.values), real.variance).series

    def evaluate(self, delta: Complex) -> ComplexValues:
        """The dual at n points 1 − ρ, |ρ| <= 1 (any ρ if φ is a polynomial)."""
        none = np.zeros(delta.shape)
        if self._closed is not None:
            gap, slope = self._closed(delta, self.real.variance, self.real.activation.values)
            return ComplexValues(gap, slope + np.zeros_like(delta), none, none)
        assert self._series is not None
        part, q = self._series, self.real.variance
        rho = 1 - delta
        shrinkage = np.clip(np.abs(delta) ** 2 - 2 * delta.real, -1.0, 0.0)  # |ρ|² − 1
        with np.errstate(divide="ignore"):
            rate = -0.5 * np.log1p(shrinkage)  # −log |ρ|
        counts = np.ceil(DIGITS / np.maximum(rate, DIGITS / (4 * MOST_TERMS))).astype(np.int64) + 1
        far = np.exp(-rate * part.tails.size)
        gap, slope = np.empty_like(delta), np.empty_like(delta)
        summed = (counts <= MOST_TERMS) & bool(part.locations.any())
        if summed.any():
            tails, slopes = self._with_jumps(int(counts[summed].max()))
            smooth, slope[summed] = _sums(tails, slopes, rho[summed], counts[summed])
            gap[summed] = delta[summed] * smooth
        rest = ~summed
        if rest.any():
            some = delta[rest]
            smooth, derivative = _sums(
                part.tails, part.derivative_terms, rho[rest], np.minimum(counts[rest], part.tails.size)
            )
            lost, jumped = complex_deficits(part.locations, part.jumps, some)
            if part.cusp:
                cross = 2.0 * part.cusp * part.jumps.sum(axis=0)
                _jumps.add_cusp(cross, part.cusp**2, some, complex_angle(some), lost, jumped)
            gap[rest], slope[rest] = some * smooth + lost, derivative + jumped
        return ComplexValues(gap, slope / q, self.real.error * far, self.real.derivative_error * far)

    def _with_jumps(self, count: int) -> tuple[Array, Array]:
        """The sums' coefficients with ``count`` (at least) of the jump part's."""
        part = self._series
        assert part is not None
        size = max(count, part.tails.size)
        values, steps = (a**2 for a in part_coefficients(part.locations, part.jumps, part.cusp, size))
        whole, _ = part_at_one(part.locations, part.jumps, part.cusp)
        tails = np.empty(size)
        _dual.tail_sums(values, tails)
        tails += max(whole - float(values.sum()), 0.0)
        tails[: part.tails.size] += part.tails
        steps[: part.derivative_terms.size] += part.derivative_terms
        return tails, steps
