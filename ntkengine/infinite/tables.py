"""Coefficients of an activation over a range of variances: what Gram matrices of points of unequal norms need at each layer.

``A_k(q) = E[φ(√q z) h_k(z)]`` and E[φ²] are smooth functions of log q, so they are computed at a few Chebyshev nodes
and interpolated; how well is checked at variances between the nodes, in the units of the kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ntkengine import hermite, quadrature
from ntkengine.activations.base import Activation
from ntkengine.infinite import _dual
from ntkengine.infinite.dual import cusp_part, dual, jump_part, part_at_one, part_coefficients

__all__ = ["Table", "expanded", "tabulate"]

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

#: Nodes tried in a piece of the range of log q; if none suffice, every variance is its own piece.
NODES = (24, 48, 96)
#: Widest piece.
PIECE = math.log(8.0)
#: Errors of interpolation allowed in E[φφ] and in E[φ'φ'], relative to their values at ρ = 1.
GOOD = 1e-13
#: Panels of the one rule for E[φ²] at a node.
PANELS = 48
#: Steps of |ρ| in which the length of the plain sum is tabulated.
BINS = 64
#: Quantiles of the variances that bound the classes.
CLASSES = (0.5, 0.9, 0.99, 1.0)
#: Longest plain sum of an activation with kinks; beyond, splitting off what is known of them costs less.
PLAIN_TERMS = 2048
#: Part of E[φ²] and of E[φ'²] that a plain sum may leave out.
LEFT_OUT = 3e-16, 1e-15


@dataclass(frozen=True, eq=False)
class Table:
    """Coefficients at all variances of a layer.

    Attributes
    ----------
    smooth : (bins, M, count) array
        Chebyshev coefficients in log q, piece by piece, of S_k (of A_k where φ has no jumps; then only every second
        k where φ is even or odd).
    bins, places : (n,) arrays
        Piece of each variance, and its place in [-1, 1] there.
    rms : (n,) array
        √E[φ²] at each variance.
    left : (n, 2) array
        What the series miss at ρ = 1 of E[φ²] and of q E[φ'²].
    jumps : (J, 4) array
        Jumps of φ and its derivatives that are split off.
    cusp : float
        Factor of z log|z| in φ that is split off too.
    parity : int
        1 for even, −1 for odd φ, else 0.
    compact : bool
        ``smooth`` holds the k of that parity only.
    classes : (n,) array
        Class of each variance, by size: large ones need more terms.
    needed : (C, C, BINS+1) array
        Entry (b, c, i): how many columns the plain sum Σ A_k A_k ρ^k needs for |ρ| < i/BINS and points of classes up
        to b and c.
    edge : float
        Largest |ρ| at which the plain sum does; 2 if it does at 1.
    """

    smooth: Array
    bins: Indices
    places: Array
    rms: Array
    left: Array
    jumps: Array
    cusp: float
    parity: int
    compact: bool
    classes: Indices
    needed: Indices
    edge: float

    def part(self, points: slice) -> Table:
        """The table for some of the variances."""
        per_point = ("bins", "places", "rms", "left", "classes")
        return replace(self, **{name: getattr(self, name)[points] for name in per_point})


@dataclass(frozen=True, eq=False)
class _Recipe:
    """How to get the coefficients at one variance; the same for the whole table."""

    activation: Activation
    count: int
    orders: int
    columns: slice
    range: tuple[float, float]

    def part(self, q: float) -> tuple[Array, Array, float]:
        """What is split off: thresholds, jumps and the factor of z log|z|."""
        return *jump_part(self.activation, q, self.orders), cusp_part(self.activation, q)

    def node(self, q: float, rtol: float) -> tuple[Array, Array]:
        """S_k of the columns wanted, and (E[φ²], what the two series miss of E[φ²] and of q E[φ'²])."""
        phi, root = self.activation, math.sqrt(q)
        breaks = tuple(kink.location / root for kink in phi.kinks)
        if phi.family.coefficients is not None:
            a = np.asarray(phi.family.coefficients(np.array(phi.values), q, self.count), dtype=np.float64)
        else:
            a, _ = hermite.project(lambda z: phi(root * z), breaks, self.count, rtol)
        square, slope = _second_moments(phi, q, breaks, None if rtol < math.inf else self.range)
        part = self.part(q)
        if not (part[0].size or part[2]):
            return a[: self.count][self.columns], np.array([square, 0.0, 0.0])
        values, steps = part_coefficients(*part, a.size)
        terms, derivative_terms = np.empty(a.size), np.empty(a.size)
        _dual.series_terms(a, values, steps, terms, derivative_terms)
        jump_square, jump_slope = part_at_one(*part)
        left = (
            square - float(terms[: self.count].sum()) - jump_square,
            slope - float(derivative_terms[: self.count - 1].sum()) - jump_slope,
        )
        return (a - values)[: self.count][self.columns], np.array([square, *left])

    def plain(self, q: float) -> tuple[Array, Array]:
        """A_k² and k A_k² for k < PLAIN_TERMS at least, relative to their sums at ρ = 1."""
        smooth, moments = self.node(q, math.inf)
        a = np.zeros(max(self.count, PLAIN_TERMS))
        a[: self.count][self.columns] = smooth
        a += part_coefficients(*self.part(q), a.size)[0]
        weighted = np.arange(a.size) * a * a
        square = float(moments[0]) or 1.0
        return a * a / square, weighted / max(float(weighted.sum()), square)

    def miss(self, q: float, found: Array, exact: Array) -> float:
        """Effect of an error of the coefficients on E[φφ] and E[φ'φ'] at ρ = 1, relative, in units of GOOD for the first."""
        k = np.arange(self.count, dtype=np.float64)[self.columns]
        values, _ = part_coefficients(*self.part(q), self.count)
        wrong, size = np.abs(found - exact), np.abs(exact) + np.abs(values[self.columns])
        scale = float(size @ size) or 1.0
        slope_scale = max(float((k * size) @ size), scale)
        return max(float(wrong @ size) / scale, float((k * wrong) @ size) / slope_scale / 10.0)


def _second_moments(
    phi: Activation, q: float, breaks: tuple[float, ...], range: tuple[float, float] | None
) -> tuple[float, float]:
    """E[φ²] and q E[φ'²]: by one rule over a range (what it misses is checked elsewhere), or refined until they stand still."""
    root = math.sqrt(q)
    if range is None:
        square, _ = quadrature.expectation(lambda z: phi(root * z) ** 2, breaks)
        slope, _ = quadrature.expectation(lambda z: (root * phi.derivative(root * z)) ** 2, breaks)
        return square, slope
    z, w = quadrature.panel_rule(*range, (0.0, *breaks), PANELS, thin=True)
    value, slope_values = phi.both(root * z)
    weight = quadrature.density(z) * w
    return float((value * value) @ weight), q * float((slope_values * slope_values) @ weight)


def _chebyshev(values: Array) -> Array:
    """Coefficients (M, ...) of the interpolant through values (M, ...) at cos(π (i + ½)/M)."""
    m = values.shape[0]
    transform = np.cos(np.pi * np.outer(np.arange(m), np.arange(m) + 0.5) / m) * (2.0 / m)
    transform[0] /= 2
    out: Array = np.tensordot(transform, values, axes=1)
    return out


def _sum(coefficients: Array, t: float) -> Array:
    out: Array = np.cos(np.arange(coefficients.shape[0]) * math.acos(t)) @ coefficients
    return out


def expanded(table: Table) -> Table:
    """The same table with a column for every k."""
    if not table.compact:
        return table
    first = 1 if table.parity < 0 else 0
    smooth = np.zeros((*table.smooth.shape[:2], 2 * table.smooth.shape[2] + first))
    smooth[:, :, first : first + 2 * table.smooth.shape[2] : 2] = table.smooth
    needed = np.minimum(2 * table.needed + first, smooth.shape[2])
    return replace(table, smooth=smooth, needed=needed, compact=False)


def tabulate(activation: Activation, variances: Array) -> Table:
    """The table of a numerical dual for the variances of one layer.

    Parameters
    ----------
    activation : Activation
    variances : (n,) array
        All above 0.

    Returns
    -------
    Table

    Raises
    ------
    InputError
        As :func:`ntkengine.infinite.dual.dual`, at the smallest or the largest variance.

    Warns
    -----
    AccuracyWarning
        Likewise.
    """
    low, high = float(variances.min()), float(variances.max())
    top = dual(activation, high)
    both = [top] if low == high else [dual(activation, low), top]
    series = [d.series for d in both if d.series is not None]
    count = max(2, *(part.count for part in series))
    parity = series[-1].parity if all(part.parity == series[-1].parity for part in series) else 0
    has_part = bool(series[-1].locations.size or series[-1].cusp)
    compact = parity != 0 and not has_part
    columns = slice(1 if compact and parity < 0 else 0, None, 2 if compact else 1)
    root = math.sqrt(high)
    reach = quadrature.reach(lambda z: activation(root * z) ** 2, 1.0)
    recipe = _Recipe(activation, count, min(part.orders for part in series), columns, reach)
    _, jumps, cusp = recipe.part(1.0)
    smooth, values, bins, places = _pieces(recipe, variances)
    per_point = np.einsum(
        "nm,nmj->nj", np.cos(np.arange(values.shape[1]) * np.arccos(places)[:, None]), values[bins]
    )
    tops = np.unique(np.quantile(variances, CLASSES, method="inverted_cdf"))
    needed, edge = _lengths(recipe, low, tops, has_part)
    return Table(
        np.ascontiguousarray(smooth), bins, places, np.sqrt(np.maximum(per_point[:, 0], 0.0)),
        np.ascontiguousarray(per_point[:, 1:]), jumps, cusp, parity, compact, np.searchsorted(tops, variances), needed,
        edge,
    )  # fmt: skip


def _lengths(recipe: _Recipe, low: float, tops: Array, has_part: bool) -> tuple[Indices, float]:
    """``needed`` and ``edge`` of a table; class c holds the variances up to tops[c].

    By Cauchy's inequality Σ_{k>=K} A_k B_k ρ^k is below the root of Σ A_k² |ρ|^k times Σ B_k² |ρ|^k.
    """
    size = PLAIN_TERMS if has_part else recipe.count
    terms = np.array([recipe.plain(q) for q in (low, *tops)])[:, :, :size]  # (1 + C, 2, size)
    classes = tops.size
    needed = np.full((classes, classes, BINS + 1), size, dtype=np.int64)
    edge, length, powers = 2.0, size, np.arange(float(size))
    # Beyond the last term: with kinks the slope's sum falls like K^{-1/2}, so it is 2.4 times the last octave's.
    beyond = 2.5 * terms[:, :, size // 2 :].sum(axis=2) if has_part else np.zeros(terms.shape[:2])
    for i in range(BINS, 0, -1):  # from |ρ| = 1 down, no sum longer than the longest before
        damping = np.exp(powers[:length] * math.log(i / BINS))
        tails = np.cumsum((terms[:, :, :length] * damping)[:, :, ::-1], axis=2)[:, :, ::-1]
        tails = tails + (beyond * (i / BINS) ** size)[:, :, None]
        logs = np.log(
            np.maximum.accumulate(tails, axis=0)[1:] + 1e-300
        )  # a class is no better than those below
        found = np.zeros((classes, classes), dtype=np.int64)
        for j, small in enumerate(LEFT_OUT):
            both = logs[:, None, j] + logs[None, :, j]
            found = np.maximum(found, np.count_nonzero(both > 2 * math.log(small), axis=2))
        longest = int(found.max())
        if longest >= size - 1 and has_part:
            edge = (i - 1) / BINS
        else:
            needed[:, :, i] = np.minimum(found + 1, size)
            length = min(longest + 1, size)
    step = recipe.columns.step
    needed[:, :, 0] = needed[:, :, 1]
    return (needed + step - 1) // step, edge


def _pieces(recipe: _Recipe, variances: Array) -> tuple[Array, Array, Indices, Array]:
    """Chebyshev tables (bins, M, columns) and (bins, M, 3), and piece and place of every variance."""
    distinct, inverse = np.unique(variances, return_inverse=True)
    y, low, high = np.log(variances), math.log(distinct[0]), math.log(distinct[-1])
    rng = np.random.default_rng(0)
    allowed = max(GOOD, 0.01 * recipe.activation.family.accuracy)
    for nodes in NODES:
        pieces = max(1, math.ceil((high - low) / PIECE))
        if pieces * nodes >= distinct.size:
            break
        width = (high - low) / pieces
        at = np.cos(np.pi * (np.arange(nodes) + 0.5) / nodes)
        tables, good = [], True
        for piece in range(pieces):
            start = low + piece * width
            found = [recipe.node(math.exp(start + (t + 1) * width / 2), math.inf) for t in at]
            table = tuple(_chebyshev(np.array([f[i] for f in found])) for i in range(2))
            tables.append(table)
            t = float(rng.uniform(-1, 1))
            q = math.exp(start + (t + 1) * width / 2)
            exact, moments = recipe.node(q, 1e-14)
            good = recipe.miss(q, _sum(table[0], t), exact) <= allowed
            good = good and abs(_sum(table[1], t)[0] - moments[0]) <= allowed * moments[0]
            if not good:
                break
        if good:
            bins = np.minimum(((y - low) / width).astype(np.int64), pieces - 1)
            places = np.clip(2 * (y - low - bins * width) / width - 1, -1.0, 1.0)
            return np.array([t[0] for t in tables]), np.array([t[1] for t in tables]), bins, places
    found = [recipe.node(float(q), 1e-14) for q in distinct]
    rows, values = np.array([f[0] for f in found]), np.array([f[1] for f in found])
    return rows[:, None], values[:, None], inverse.astype(np.int64).ravel(), np.zeros(variances.size)
