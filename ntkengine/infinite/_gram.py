"""Compiled drivers of Gram matrices: blocks of BLOCK × BLOCK entries go through all layers while they are in cache.

The state of an entry is δ = 1 − ρ and η = 1 + ρ (whichever is small has full relative accuracy) and, for the NTK, Θ; what
depends on one point only (σ = √Σ, the root mean square a = √E[φ²] of each layer) is computed beforehand. One layer:

    Σ' = σ_w² G + σ_b²,  R = σ₁' σ₂',  R − Σ' = σ_w² gap + σ_w² σ_b² (a₁ − a₂)²/(R + σ_w² a₁a₂ + σ_b²),  δ' = (R − Σ')/R,

with gap = a₁a₂ − G from the dual: no difference of nearly equal numbers is formed. Every entry depends on its two points only,
not on the block or the thread, so the bits are the same at any thread count.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ntkengine._jit import DUAL_STRIDE, call_tile, fast, gemm, prange, strict
from ntkengine.infinite._jumps import ORDERS, SCRATCH
from ntkengine._simd import LANES
from ntkengine.infinite._series import add_jumps, interpolate, plain_row, scale_jumps, split_pair

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

#: Rows and columns of a block.
BLOCK = DUAL_STRIDE
#: Cosines nearer than this to ±1 come from the difference or the sum of the two points, not from their product.
NEAR = 1e-3


@strict
def _half_square(first: Array, second: Array, sign: float) -> float:
    """½|x − sign·x'|² of two rows."""
    total = 0.0
    for k in range(first.size):
        difference = first[k] - sign * second[k]
        total += difference * difference
    return 0.5 * total


@strict
def begin_block(
    first: Array, second: Array, i0: int, m: int, j0: int, n: int, delta: Array, eta: Array
) -> None:
    """1 − c and 1 + c of rows i0..i0+m of ``first`` with rows j0..j0+n of ``second`` (unit vectors, or 0), into the block."""
    p = first.shape[1]
    gemm(False, True, m, n, p, 1.0, (first, i0 * p), p, (second, j0 * p), p, 0.0, (delta, 0), BLOCK)
    for i in range(m):
        near, far = delta[i], eta[i]
        closest = 2.0
        for j in range(n):
            c = near[j]
            near[j] = 1.0 - c
            far[j] = 1.0 + c
            closest = min(closest, 1.0 - abs(c))
        if closest < NEAR:
            for j in range(n):
                if near[j] < NEAR:
                    near[j] = _half_square(first[i0 + i], second[j0 + j], 1.0)
                    far[j] = 2.0 - near[j]
                elif far[j] < NEAR:
                    far[j] = _half_square(first[i0 + i], second[j0 + j], -1.0)
                    near[j] = 2.0 - far[j]


@strict
def store_block(block: Array, i0: int, m: int, j0: int, n: int, diagonal: bool, mirror: bool, out: NDArray) -> None:
    """Write a block, and its mirror image where that lies in ``out``; of a diagonal block the upper half counts."""
    for i in range(m):
        start = i if diagonal else 0
        target, source = out[i0 + i, j0 + start : j0 + n], block[i, start:n]
        for j in range(n - start):
            target[j] = source[j]
    if not (diagonal or mirror):
        return
    few = np.empty((8, BLOCK))  # columns of the block as rows, eight at a time: a line of cache is read once
    rows = min(n, out.shape[0] - j0)
    for first in range(0, rows, 8):
        count = min(8, rows - first)
        for i in range(m):
            source = block[i, first : first + count]
            for j in range(count):
                few[j, i] = source[j]
        for j in range(count):
            length = min(first + j, m) if diagonal else m
            target, column = out[j0 + first + j, i0 : i0 + length], few[j]
            for i in range(length):
                target[i] = column[i]


# Rows of the flat workspace of one row of a block. The first seven are those of a closed-form dual's tile. Offsets are
# constants, so that the compiler sees that rows do not overlap.
_STD, _RMS, _DELTA, _ETA, _GAP, _TOTAL, _SLOPE = (k * BLOCK for k in range(7))
_THETA, _NEXT, _INVERSE, _RHO, _POWER, _VALUE, _RAW = (k * BLOCK for k in range(7, 14))
ROWS = 14


@fast
def load_columns(work: Array, stds: Array, rms: Array, after: Array, n: int) -> None:
    """What a layer needs of the columns' points: √Σ and √E[φ²], and √Σ of the next layer and its inverse, 0 where Σ is 0."""
    for j in range(n):
        work[j + _STD] = stds[j]
        work[j + _RMS] = rms[j]
        work[j + _NEXT] = after[j]
        work[j + _INVERSE] = 1.0 / after[j] if after[j] > 0.0 else 0.0


@fast
def load_row(work: Array, delta: Array, eta: Array, theta: Array, n: int) -> None:
    """The state of a row into the workspace."""
    for j in range(n):
        work[j + _DELTA] = delta[j]
        work[j + _ETA] = eta[j]
        work[j + _THETA] = theta[j]


@fast
def save_row(work: Array, delta: Array, eta: Array, theta: Array, n: int) -> None:
    """The state of a row out of the workspace."""
    for j in range(n):
        delta[j] = work[j + _DELTA]
        eta[j] = work[j + _ETA]
        theta[j] = work[j + _THETA]


@fast
def start_theta(work: Array, std: float, start: Array, n: int) -> None:
    """Θ¹ = scale (Σ¹ − σ_b²) + shift of one row, ``start`` = (scale, σ_b², shift); in the NTK parameterisation that is Σ¹."""
    scale, b2, shift = start[0], start[1], start[2]
    for j in range(n):
        delta, eta = work[j + _DELTA], work[j + _ETA]
        rho = 1.0 - delta if delta <= eta else eta - 1.0
        work[j + _THETA] = scale * (std * work[j + _STD] * rho - b2) + shift


@fast
def advance(work: Array, rms: float, after: float, layer: Array, last: bool, ntk: bool, n: int) -> None:
    """One row through one affine map: gap, total, slope, θ, δ, η of the workspace into the new θ, δ, η.

    Parameters
    ----------
    work : flat (ROWS, BLOCK) array
    rms, after : float
        √E[φ²] and the next √Σ of the row's point.
    layer : (4,) array
        σ_w², σ_b², and Θ' = layer[2] G + layer[3] + σ_w² Θ slope.
    last, ntk : bool
        After the last layer θ holds the kernel: Θ, or Σ if not ``ntk``.
    n : int
    """
    w2, b2, weight, shift = layer[0], layer[1], layer[2], layer[3]
    if not ntk:
        weight, shift = w2, b2
    slope_weight = w2 if ntk else 0.0
    inverse = 1.0 / after if after > 0.0 else 0.0
    tiny = 1e-300  # 0/0 is 0
    for j in range(n):
        gap, total = work[j + _GAP], work[j + _TOTAL]
        product = rms * work[j + _RMS]
        value = product - gap if gap <= total else total - product
        work[j + _THETA] = weight * value + shift + slope_weight * work[j + _THETA] * work[j + _SLOPE]
    if last:
        return
    for j in range(n):
        gap, total, other = work[j + _GAP], work[j + _TOTAL], work[j + _RMS]
        difference = rms - other
        sigma = w2 * rms * other + b2
        spread = w2 * b2 * difference * difference / (after * work[j + _NEXT] + sigma + tiny)
        both = inverse * work[j + _INVERSE]
        near = (spread + w2 * gap) * both
        far = (spread + w2 * total + 2.0 * b2) * both
        near = near if near > 0.0 else 0.0
        near = near if near < 2.0 else 2.0
        far = far if far > 0.0 else 0.0
        far = far if far < 2.0 else 2.0
        work[j + _DELTA] = near if both > 0.0 else 1.0
        work[j + _ETA] = far if both > 0.0 else 1.0


@strict(parallel=True)
def closed_blocks(
    first: Array, second: Array, stds1: Array, stds2: Array, rms1: Array, rms2: Array, layers: Array, start: Array,
    ntk: bool, address: int, params: Array, tasks: Indices, mirror: bool, out: NDArray,
) -> None:  # fmt: skip
    """Gram matrix of an activation whose dual is a compiled tile.

    Parameters
    ----------
    first, second : (n1, p), (n2, p) arrays
        Unit vectors with the cosines of Σ¹.
    stds1, stds2 : (L, n1), (L, n2) arrays
        √Σ before each activation.
    rms1, rms2 : (L, n1), (L, n2) arrays
        √E[φ²] after it.
    layers : (L, 4) array
        See :func:`advance`.
    start : (3,) array
        See :func:`start_theta`: scale, σ_b², shift.
    ntk : bool
    address : int
    params : array
        The tile and its parameters.
    tasks : (T, 2) array
        Row and column numbers of the blocks wanted.
    mirror : bool
        Blocks off the diagonal are written to their mirror images too, where ``out`` has these rows; those on it are symmetric.
    out : (n1, n2) array
    """
    depth, n1, n2 = layers.shape[0], first.shape[0], second.shape[0]
    for task in prange(tasks.shape[0]):
        i0, j0 = tasks[task, 0] * BLOCK, tasks[task, 1] * BLOCK
        m, n = min(BLOCK, n1 - i0), min(BLOCK, n2 - j0)
        delta, eta, theta = np.empty((BLOCK, BLOCK)), np.empty((BLOCK, BLOCK)), np.empty((BLOCK, BLOCK))
        work, row = np.zeros(ROWS * BLOCK), np.empty(2)
        begin_block(first, second, i0, m, j0, n, delta, eta)
        for layer in range(depth):
            last = layer == depth - 1
            after = layer if last else layer + 1
            load_columns(work, stds2[layer, j0 : j0 + n], rms2[layer, j0 : j0 + n], stds2[after, j0 : j0 + n], n)
            for i in range(m):
                row[0], row[1] = stds1[layer, i0 + i], rms1[layer, i0 + i]
                load_row(work, delta[i], eta[i], theta[i], n)
                if layer == 0:
                    start_theta(work, row[0], start, n)
                call_tile(address, n, work, params, row, row)
                advance(work, row[1], stds1[after, i0 + i], layers[layer], last, ntk, n)
                save_row(work, delta[i], eta[i], theta[i], n)
        store_block(theta, i0, m, j0, n, mirror and i0 == j0, mirror, out)


@fast
def before_series(work: Array, compact: bool, n: int) -> None:
    """ρ, and the variable of the series: ρ² where every second term is 0."""
    for j in range(n):
        delta, eta = work[j + _DELTA], work[j + _ETA]
        rho = 1.0 - delta if delta <= eta else eta - 1.0
        work[j + _RHO] = rho
        work[j + _POWER] = rho * rho if compact else rho


@fast
def after_series(work: Array, std: float, rms: float, compact: bool, odd: bool, n: int) -> None:
    """Gap, total and slope from the sums of the series and of its derivative (by its variable)."""
    tiny = 1e-300  # at variance 0 the slope is not needed
    for j in range(n):
        rho, value, slope = work[j + _RHO], work[j + _VALUE], work[j + _RAW]
        chained = 2.0 * rho * slope
        slope = (value + rho * chained if odd else chained) if compact else slope
        value = rho * value if odd else value
        product = rms * work[j + _RMS]
        work[j + _GAP] = product - value
        work[j + _TOTAL] = product + value
        work[j + _SLOPE] = slope / (std * work[j + _STD] + tiny)


@strict
def fill_points(
    layer: int, i0: int, m: int, stds: Array, bins: Indices, places: Array, table: Array, offset: int, step: int,
    count: int, locations: Array, jumps: Array, roots: Array, separate: bool, smooth_only: bool, smooth_count: int,
    values: Array, steps: Array,
) -> None:  # fmt: skip
    """Coefficients of m points, in the rows of ``values`` (and of ``steps``: those of the derivative, times √q).

    Parameters
    ----------
    layer, i0, m : int
        Points i0..i0+m at this layer.
    stds, bins, places : (L, n) arrays
        √q, and where the table is interpolated.
    table : (bins, M, smooth_count) array
        Chebyshev coefficients in log q of the smooth part S_k, or of all of A_{offset + step·k} where φ has no jumps.
    offset, step : int
        Which k the table holds.
    count : int
        Columns wanted.
    locations, jumps : (J,), (J, 4) arrays
        The jump part, to be added unless ``smooth_only``.
    roots : array
        1/√(k+1).
    separate, smooth_only : bool
    smooth_count : int
    values, steps : (m or more, count or more) arrays
    """
    thresholds, factors = np.empty(locations.size), np.empty((locations.size, ORDERS))
    available = min(count, smooth_count)
    for i in range(m):
        row = values[i]
        interpolate(places[layer, i0 + i], table[bins[layer, i0 + i]], available, row)
        for k in range(available, count):
            row[k] = 0.0
        if separate:
            derivative = steps[i]
            for k in range(count):  # c_k = √(k+1) S_{k+1}
                above = row[k + 1] if k + 1 < count else 0.0
                derivative[k] = (k + 1.0) * roots[k] * above
        if locations.size > 0 and not smooth_only and stds[layer, i0 + i] > 0.0:  # at 0, φ(√q z) is a number
            scale_jumps(stds[layer, i0 + i], locations, jumps, thresholds, factors)
            add_jumps(thresholds, factors, roots, count, row, steps[min(i, steps.shape[0] - 1)], separate)


@strict(parallel=True)
def series_blocks(
    first: Array, second: Array, stds1: Array, stds2: Array, rms1: Array, rms2: Array, layers: Array, start: Array,
    ntk: bool, bins1: Indices, bins2: Indices, places1: Array, places2: Array, left1: Array, left2: Array,
    classes1: Indices, classes2: Indices, tables: Array, shapes: Indices, needed: Indices, edges: Array, locations: Array, jumps: Array, parity: int, compact: bool, separate: bool,
    block: int, roots: Array, x: Array, w: Array, tasks: Indices, mirror: bool, out: NDArray,
) -> None:  # fmt: skip
    """Gram matrix by Mehler series; parameters as in :func:`closed_blocks`, and:

    Parameters
    ----------
    bins1, places1, ... : (L, n1) arrays, and alike for the second points
        Piece of the table and place in it, of each point's variance.
    left1, left2 : (L, n1, 2), (L, n2, 2) arrays
        What the series miss at ρ = 1.
    tables : flat array
    shapes : (L, 4) array
        Per layer: first element in ``tables``, bins, M, columns.
    classes1, classes2, needed, edges : (L, n1), (L, n2), (L, C, C, BINS+1), (L,) arrays
        See :class:`ntkengine.infinite.tables.Table`.
    locations, jumps : (J,), (L, J, 4) arrays
        Kinks of φ.
    parity : int
        1 for even, −1 for odd φ, else 0.
    compact : bool
        The tables hold the k of that parity only.
    separate : bool
        φ itself jumps, so φ' has coefficients of its own.
    block : int
        Rows and columns of a block.
    roots : array
        1/√(k+1) for all k in use.
    x, w : arrays
        Gauss–Legendre rule.
    """
    depth, n1, n2 = layers.shape[0], first.shape[0], second.shape[0]
    kinks = locations.size
    offset = 1 if compact and parity < 0 else 0
    step = 2 if compact else 1
    for task in prange(tasks.shape[0]):
        i0, j0 = tasks[task, 0] * block, tasks[task, 1] * block
        m, n = min(block, n1 - i0), min(block, n2 - j0)
        delta, eta, theta = np.empty((block, BLOCK)), np.empty((block, BLOCK)), np.empty((block, BLOCK))
        work, scratch, unused = np.zeros(ROWS * BLOCK), np.empty(SCRATCH), np.empty(BLOCK)
        lengths = np.zeros((block, BLOCK // LANES), dtype=np.int64)
        begin_block(first, second, i0, m, j0, n, delta, eta)
        for layer in range(depth):
            last = layer == depth - 1
            after = layer if last else layer + 1
            load_columns(work, stds2[layer, j0 : j0 + n], rms2[layer, j0 : j0 + n], stds2[after, j0 : j0 + n], n)
            base, count = shapes[layer, 0], shapes[layer, 3]
            table = tables[base : base + shapes[layer, 1] * shapes[layer, 2] * count].reshape(
                (shapes[layer, 1], shapes[layer, 2], count)
            )
            # how long the plain sums of the runs must be, and which entries are too near to ±1 for them
            edge, fine, wanted = edges[layer], False, 1
            bins = needed.shape[3] - 1
            for i in range(m):
                lists = needed[layer, classes1[layer, i0 + i]]
                for run in range((n + LANES - 1) // LANES):
                    largest, group = 0.0, 0
                    for j in range(run * LANES, min(n, (run + 1) * LANES)):
                        size = abs(1.0 - delta[i, j])
                        group = max(group, classes2[layer, j0 + j])
                        if size < edge:
                            largest = max(largest, size)
                        else:
                            fine = True
                    lengths[i, run] = lists[group, min(int(largest * bins) + 1, bins)]
                    wanted = max(wanted, lengths[i, run])
            rows, steps1 = np.empty((m, wanted)), np.empty((m if separate else 1, wanted))
            columns, steps2 = np.empty((n, wanted)), np.empty((n if separate else 1, wanted))
            fill_points(
                layer, i0, m, stds1, bins1, places1, table, offset, step, wanted, locations, jumps[layer], roots,
                separate, False, count, rows, steps1,
            )  # fmt: skip
            fill_points(
                layer, j0, n, stds2, bins2, places2, table, offset, step, wanted, locations, jumps[layer], roots,
                separate, False, count, columns, steps2,
            )  # fmt: skip
            across = np.empty((wanted, BLOCK))
            for k in range(wanted):
                for j in range(n):
                    across[k, j] = columns[j, k]
            across_steps = np.empty((wanted if separate else 1, BLOCK))
            if separate:
                for k in range(wanted):
                    for j in range(n):
                        across_steps[k, j] = steps2[j, k]
            terms = count + 1 if fine else 1
            smooth1, jump1, step1 = np.zeros((m, terms)), np.zeros((m, terms)), np.zeros((m, terms))
            smooth2, jump2, step2 = np.zeros((n, terms)), np.zeros((n, terms)), np.zeros((n, terms))
            thresholds1, factors1 = np.empty((m, kinks)), np.empty((m, kinks, ORDERS))
            thresholds2, factors2 = np.empty((n, kinks)), np.empty((n, kinks, ORDERS))
            if fine:
                nothing = np.empty((1, 1))
                fill_points(
                    layer, i0, m, stds1, bins1, places1, table, 0, 1, count, locations, jumps[layer], roots, False,
                    True, count, smooth1, nothing,
                )  # fmt: skip
                fill_points(
                    layer, j0, n, stds2, bins2, places2, table, 0, 1, count, locations, jumps[layer], roots, False,
                    True, count, smooth2, nothing,
                )  # fmt: skip
                for i in range(m):
                    if stds1[layer, i0 + i] > 0.0:
                        scale_jumps(stds1[layer, i0 + i], locations, jumps[layer], thresholds1[i], factors1[i])
                        add_jumps(thresholds1[i], factors1[i], roots, count, jump1[i], step1[i], True)
                for j in range(n):
                    if stds2[layer, j0 + j] > 0.0:
                        scale_jumps(stds2[layer, j0 + j], locations, jumps[layer], thresholds2[j], factors2[j])
                        add_jumps(thresholds2[j], factors2[j], roots, count, jump2[j], step2[j], True)
            for i in range(m):
                std1, a1 = stds1[layer, i0 + i], rms1[layer, i0 + i]
                load_row(work, delta[i], eta[i], theta[i], n)
                if layer == 0:
                    start_theta(work, std1, start, n)
                before_series(work, compact, n)
                power, value = work[_POWER : _POWER + BLOCK], work[_VALUE : _VALUE + BLOCK]
                raw = work[_RAW : _RAW + BLOCK]
                plain_row(rows[i], across, lengths[i], power, value, raw)
                if separate:
                    plain_row(steps1[i], across_steps, lengths[i], power, raw, unused)
                after_series(work, std1, a1, compact, compact and parity < 0, n)
                if fine:
                    for j in range(n):
                        std2 = work[j + _STD]
                        if abs(1.0 - delta[i, j]) >= edge and std1 > 0.0 and std2 > 0.0:
                            work[j + _GAP], work[j + _TOTAL], work[j + _SLOPE] = split_pair(
                                count, smooth1[i], jump1[i], step1[i], thresholds1[i], factors1[i], std1, a1,
                                left1[layer, i0 + i], smooth2[j], jump2[j], step2[j], thresholds2[j], factors2[j],
                                std2, work[j + _RMS], left2[layer, j0 + j], parity, delta[i, j], eta[i, j], x, w,
                                scratch,
                            )  # fmt: skip
                advance(work, a1, stds1[after, i0 + i], layers[layer], last, ntk, n)
                save_row(work, delta[i], eta[i], theta[i], n)
        store_block(theta, i0, m, j0, n, mirror and i0 == j0, mirror, out)


@fast
def profile_row(
    near: Array, far: Array, scale: float, scales: Array, index: Indices, pieces: Array, out: Array
) -> None:
    """K(c) scale scales[j] of one row from 1 − c and 1 + c, by the pieces of :class:`ntkengine.infinite.profile.Profile`."""
    half = index.size // 2
    order = pieces.shape[1] - 3  # value = Σ_k piece[k + 2] t^k
    for j in range(out.size):
        first = near[j] <= far[j]
        x = np.sqrt(near[j] if first else far[j])
        place = min(int(x * half), half - 1) + (0 if first else half)
        piece = pieces[index[place]]
        t = (x - piece[0]) * piece[1]
        value = piece[order + 2]
        for k in range(order - 1, -1, -1):
            value = value * t + piece[k + 2]
        out[j] = value * scale * scales[j]


@strict(parallel=True)
def profile_blocks(
    first: Array, second: Array, scales1: Array, scales2: Array, index: Indices, pieces: Array, tasks: Indices,
    mirror: bool, out: NDArray,
) -> None:  # fmt: skip
    """Gram matrix scale₁ scale₂ K(c) of a dot-product kernel in pieces; ``first``, ``second``: unit vectors."""
    n1, n2 = first.shape[0], second.shape[0]
    for task in prange(tasks.shape[0]):
        i0, j0 = tasks[task, 0] * BLOCK, tasks[task, 1] * BLOCK
        m, n = min(BLOCK, n1 - i0), min(BLOCK, n2 - j0)
        delta, eta = np.empty((BLOCK, BLOCK)), np.empty((BLOCK, BLOCK))
        begin_block(first, second, i0, m, j0, n, delta, eta)
        for i in range(m):
            profile_row(
                delta[i, :n], eta[i, :n], scales1[i0 + i], scales2[j0 : j0 + n], index, pieces, delta[i, :n]
            )
        store_block(delta, i0, m, j0, n, mirror and i0 == j0, mirror, out)
