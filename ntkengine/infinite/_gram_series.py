"""Compiled driver of Gram matrices whose duals are Mehler series (:mod:`ntkengine.infinite._series`).

A block goes through a layer at once: the coefficients of its points are interpolated from the layer's table, then every row of
entries is summed, with as many terms as its largest correlation asks for. Entries too near to ρ = ±1 take the split sums.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ntkengine._jit import fast, prange, strict
from ntkengine._simd import LANES
from ntkengine.infinite._gram import (
    BLOCK,
    DELTA,
    ETA,
    GAP,
    POWER,
    RAW,
    RHO,
    RMS,
    ROWS,
    SLOPE,
    STD,
    TOTAL,
    VALUE,
    Layers,
    Side,
    advance,
    begin_block,
    load_columns,
    load_row,
    save_row,
    start_theta,
    store_block,
)  # fmt: skip
from ntkengine.infinite._jumps import ORDERS, SCRATCH, add_cusp_coefficients, angle, cusp_distances
from ntkengine.infinite._series import add_jumps, interpolate, plain_row, scale_jumps, split_pair

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


@fast
def before_series(work: Array, compact: bool, n: int) -> None:
    """ρ, and the variable of the series: ρ² where every second term is 0."""
    for j in range(n):
        delta, eta = work[j + DELTA], work[j + ETA]
        rho = 1.0 - delta if delta <= eta else eta - 1.0
        work[j + RHO] = rho
        work[j + POWER] = rho * rho if compact else rho


@fast
def after_series(work: Array, std: float, rms: float, compact: bool, odd: bool, n: int) -> None:
    """Gap, total and slope from the sums of the series and of its derivative (by its variable)."""
    tiny = 1e-300  # at variance 0 the slope is not needed
    for j in range(n):
        rho, value, slope = work[j + RHO], work[j + VALUE], work[j + RAW]
        chained = 2.0 * rho * slope
        slope = (value + rho * chained if odd else chained) if compact else slope
        value = rho * value if odd else value
        product = rms * work[j + RMS]
        work[j + GAP] = product - value
        work[j + TOTAL] = product + value
        work[j + SLOPE] = slope / (std * work[j + STD] + tiny)


class SeriesSide(NamedTuple):
    """What the tables say of the points of one side; see :class:`ntkengine.infinite.tables.Table`."""

    bins: Any  # (L, n): piece of the table
    places: Any  # (L, n): place in it
    left: Any  # (L, n, 2): what the series miss at ρ = 1
    classes: Any  # (L, n): class for the lengths of sums
    cusp: Any  # (L,): factor of z log|z| in φ that is split off, the same for all points


class SeriesPlan(NamedTuple):
    """The tables of all layers, for compiled code; see :class:`ntkengine.infinite.tables.Table`."""

    tables: Any  # flat: S_k, layer after layer
    shapes: Any  # (L, 4): first element in tables, bins, M, columns
    needed: Any  # (L, C, C, BINS+1): terms of the plain sums
    edges: Any  # (L,): largest |ρ| for them
    locations: Any  # (J,): kinks of φ
    jumps: Any  # (L, J, 4): their jumps that are split off
    parity: int  # 1 for even, −1 for odd φ, else 0
    compact: bool  # the tables hold the k of that parity only
    separate: bool  # φ itself jumps, so that φ' has coefficients of its own
    block: int  # rows and columns of a block
    roots: Any  # 1/√(k+1) for all k in use
    x: Any  # Gauss–Legendre rule on [-1, 1] …
    w: Any  # … and its weights


@strict
def _table(plan: SeriesPlan, layer: int) -> Array:
    """The (bins, M, columns) table of a layer."""
    first, bins, nodes, count = plan.shapes[layer]
    return plan.tables[first : first + bins * nodes * count].reshape((bins, nodes, count))


@strict
def plain_coefficients(
    plan: SeriesPlan, layer: int, stds: Array, side: SeriesSide, first: int, n: int, count: int, values: Array,
    steps: Array,
) -> None:  # fmt: skip
    """A_k of the points first..first+n, into ``values`` (n, count), and, where φ jumps, those of √q φ' into ``steps``."""
    table, locations, jumps = _table(plan, layer), plan.locations, plan.jumps[layer]
    thresholds, factors = np.empty(locations.size), np.empty((locations.size, ORDERS))
    available = min(count, table.shape[2])
    for i in range(n):
        row, derivative = values[i], steps[i if plan.separate else 0]
        interpolate(side.places[layer, first + i], table[side.bins[layer, first + i]], available, row)
        for k in range(available, count):
            row[k] = 0.0
        if plan.separate:
            for k in range(count):  # c_k = √(k+1) S_{k+1}
                above = row[k + 1] if k + 1 < count else 0.0
                derivative[k] = (k + 1.0) * plan.roots[k] * above
        std = stds[layer, first + i]
        if locations.size > 0 and std > 0.0:  # at variance 0, φ(√q z) is a number
            scale_jumps(std, locations, jumps, thresholds, factors)
            add_jumps(thresholds, factors, plan.roots, count, row, derivative, plan.separate)
        if side.cusp[layer] != 0.0 and std > 0.0:
            add_cusp_coefficients(side.cusp[layer] * std, row, derivative)


@strict
def split_coefficients(
    plan: SeriesPlan, layer: int, stds: Array, side: SeriesSide, first: int, smooth: Array, jump: Array, step: Array,
    thresholds: Array, factors: Array,
) -> None:  # fmt: skip
    """S_k, B_k, b_k and the scaled jumps of the points first..first+n, into arrays of n rows, zero before."""
    table = _table(plan, layer)
    count = table.shape[2]
    for i in range(smooth.shape[0]):
        interpolate(side.places[layer, first + i], table[side.bins[layer, first + i]], count, smooth[i])
        std = stds[layer, first + i]
        if std > 0.0:
            scale_jumps(std, plan.locations, plan.jumps[layer], thresholds[i], factors[i])
            add_jumps(thresholds[i], factors[i], plan.roots, count, jump[i], step[i], True)
            if side.cusp[layer] != 0.0:
                add_cusp_coefficients(side.cusp[layer] * std, jump[i, :count], step[i, :count])


@strict
def sum_lengths(
    plan: SeriesPlan, layer: int, one: SeriesSide, two: SeriesSide, i0: int, m: int, j0: int, n: int, delta: Array,
    lengths: Indices,
) -> tuple[int, bool]:  # fmt: skip
    """Terms of the plain sums, run by run, into ``lengths``; the largest, and whether entries are too near to ±1 for them."""
    edge, fine, most = plan.edges[layer], False, 1
    bins = plan.needed.shape[3] - 1
    for i in range(m):
        lists = plan.needed[layer, one.classes[layer, i0 + i]]
        for run in range((n + LANES - 1) // LANES):
            largest, group = 0.0, 0
            for j in range(run * LANES, min(n, (run + 1) * LANES)):
                size = abs(1.0 - delta[i, j])
                group = max(group, two.classes[layer, j0 + j])
                if size < edge:
                    largest = max(largest, size)
                else:
                    fine = True
            lengths[i, run] = lists[group, min(int(largest * bins) + 1, bins)]
            most = max(most, lengths[i, run])
    return most, fine


@strict
def transposed(points: Array, n: int) -> Array:
    """(K, BLOCK) array with points[:n] (n, K) as its first columns."""
    out = np.zeros((points.shape[1], BLOCK))
    for k in range(points.shape[1]):
        for j in range(n):
            out[k, j] = points[j, k]
    return out


@strict
def add_cusp(
    work: Array, j: int, cusp: float, factors1: Array, std1: float, factors2: Array, std2: float, parity: int,
    delta: float, eta: float,
) -> None:  # fmt: skip
    """Add to gap, total and slope of entry j what :func:`ntkengine.infinite._series.split_pair` leaves out: the cusp's dual."""
    mirrored = parity != 0 and eta < delta  # φ is odd then
    near, far = (eta, delta) if mirrored else (delta, eta)
    distance, slope = cusp_distances(factors1, cusp * std1, factors2, cusp * std2, near, angle(near, far))
    change = -0.5 * distance if mirrored else 0.5 * distance
    work[j + GAP] += change
    work[j + TOTAL] -= change
    work[j + SLOPE] += slope / (std1 * std2)


@strict
def series_layer(
    plan: SeriesPlan, layers: Layers, layer: int, first: Side, one: SeriesSide, second: Side, two: SeriesSide,
    i0: int, m: int, j0: int, n: int, delta: Array, eta: Array, theta: Array, work: Array,
) -> None:  # fmt: skip
    """One block through one activation and the affine map after it."""
    last = layer == layers.affine.shape[0] - 1
    after = layer if last else layer + 1
    columns, kinks = slice(j0, j0 + n), plan.locations.size
    load_columns(
        work, second.stds[layer, columns], second.rms[layer, columns], second.stds[after, columns], n
    )
    lengths = np.zeros((m, BLOCK // LANES), dtype=np.int64)
    wanted, fine = sum_lengths(plan, layer, one, two, i0, m, j0, n, delta, lengths)
    rows1, steps1 = np.empty((m, wanted)), np.empty((m if plan.separate else 1, wanted))
    rows2, steps2 = np.empty((n, wanted)), np.empty((n if plan.separate else 1, wanted))
    plain_coefficients(plan, layer, first.stds, one, i0, m, wanted, rows1, steps1)
    plain_coefficients(plan, layer, second.stds, two, j0, n, wanted, rows2, steps2)
    across, across_steps = transposed(rows2, n), transposed(steps2, n if plan.separate else 1)

    count = plan.shapes[layer, 3]
    terms, f1, f2 = (count + 1, m, n) if fine else (1, 0, 0)
    smooth1, jump1, step1 = np.zeros((f1, terms)), np.zeros((f1, terms)), np.zeros((f1, terms))
    smooth2, jump2, step2 = np.zeros((f2, terms)), np.zeros((f2, terms)), np.zeros((f2, terms))
    thresholds1, factors1 = np.zeros((f1, kinks)), np.zeros((f1, kinks, ORDERS))
    thresholds2, factors2 = np.zeros((f2, kinks)), np.zeros((f2, kinks, ORDERS))
    split_coefficients(plan, layer, first.stds, one, i0, smooth1, jump1, step1, thresholds1, factors1)
    split_coefficients(plan, layer, second.stds, two, j0, smooth2, jump2, step2, thresholds2, factors2)

    power, value, raw = work[POWER : POWER + BLOCK], work[VALUE : VALUE + BLOCK], work[RAW : RAW + BLOCK]
    scratch, unused = np.empty(SCRATCH), np.empty(BLOCK)
    for i in range(m):
        std, rms = first.stds[layer, i0 + i], first.rms[layer, i0 + i]
        load_row(work, delta[i], eta[i], theta[i], n)
        if layer == 0:
            start_theta(work, std, layers.start, n)
        before_series(work, plan.compact, n)
        plain_row(rows1[i], across, lengths[i], power, value, raw)
        if plan.separate:
            plain_row(steps1[i], across_steps, lengths[i], power, raw, unused)
        after_series(work, std, rms, plan.compact, plan.compact and plan.parity < 0, n)
        if fine:
            for j in range(n):
                other = work[j + STD]
                if abs(1.0 - delta[i, j]) >= plan.edges[layer] and std > 0.0 and other > 0.0:
                    work[j + GAP], work[j + TOTAL], work[j + SLOPE] = split_pair(
                        count, smooth1[i], jump1[i], step1[i], thresholds1[i], factors1[i], std, rms,
                        one.left[layer, i0 + i], smooth2[j], jump2[j], step2[j], thresholds2[j], factors2[j], other,
                        work[j + RMS], two.left[layer, j0 + j], plan.parity, delta[i, j], eta[i, j], plan.x,
                        plan.w, scratch,
                    )  # fmt: skip
                    if one.cusp[layer] != 0.0:
                        add_cusp(
                            work, j, one.cusp[layer], factors1[i], std, factors2[j], other, plan.parity, delta[i, j],
                            eta[i, j],
                        )  # fmt: skip
        advance(work, rms, first.stds[after, i0 + i], layers.affine[layer], last, layers.ntk, n)
        save_row(work, delta[i], eta[i], theta[i], n)


@strict
def series_block(
    first: Side, one: SeriesSide, second: Side, two: SeriesSide, layers: Layers, plan: SeriesPlan, i0: int, j0: int,
    mirror: bool, out: NDArray,
) -> None:  # fmt: skip
    """One block of :func:`series_blocks`, rows from i0 and columns from j0."""
    block = plan.block
    m, n = min(block, first.unit.shape[0] - i0), min(block, second.unit.shape[0] - j0)
    delta, eta, theta = np.empty((block, BLOCK)), np.empty((block, BLOCK)), np.empty((block, BLOCK))
    work = np.zeros(ROWS * BLOCK)
    begin_block(first.unit, second.unit, i0, m, j0, n, delta, eta)
    for layer in range(layers.affine.shape[0]):
        series_layer(plan, layers, layer, first, one, second, two, i0, m, j0, n, delta, eta, theta, work)
    store_block(theta, i0, m, j0, n, mirror and i0 == j0, mirror, out)


@strict(parallel=True)
def series_blocks(
    first: Side, one: SeriesSide, second: Side, two: SeriesSide, layers: Layers, plan: SeriesPlan, tasks: Indices,
    mirror: bool, out: NDArray,
) -> None:  # fmt: skip
    """Gram matrix by Mehler series; the rest as in :func:`ntkengine.infinite._gram.closed_blocks`."""
    for task in prange(tasks.shape[0]):
        i0, j0 = tasks[task, 0] * plan.block, tasks[task, 1] * plan.block
        series_block(first, one, second, two, layers, plan, i0, j0, mirror, out)
