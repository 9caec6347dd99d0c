"""Compiled drivers of Gram matrices: blocks of BLOCK × BLOCK entries go through all layers while they are in cache.

The state of an entry is δ = 1 − ρ and η = 1 + ρ (whichever is small has full relative accuracy) and, for the NTK, Θ; what
depends on one point only (σ = √Σ, the root mean square a = √E[φ²] of each layer) is computed beforehand. One layer:

    Σ' = σ_w² G + σ_b²,  R = σ₁' σ₂',  R − Σ' = σ_w² gap + σ_w² σ_b² (a₁ − a₂)²/(R + σ_w² a₁a₂ + σ_b²),  δ' = (R − Σ')/R,

with gap = a₁a₂ − G from the dual: no difference of nearly equal numbers is formed. Every entry depends on its two points only,
not on the block or the thread, so the bits are the same at any thread count.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ntkengine._jit import DUAL_STRIDE, call_tile, fast, gemm, prange, strict

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

#: Rows and columns of a block.
BLOCK = DUAL_STRIDE
#: Cosines nearer than this to ±1 come from the difference or the sum of the two points, not from their product.
NEAR = 1e-3


class Side(NamedTuple):
    """The points of one side of a Gram matrix, for compiled code."""

    unit: Any  # (n, p): unit vectors (or 0) with the cosines of Σ¹, or of the points
    scale: Any  # (n,): factor of the kernel
    stds: Any  # (L, n): √Σ before each activation
    rms: Any  # (L, n): √E[φ²] after it


class Layers(NamedTuple):
    """The affine maps after the first, for compiled code."""

    affine: Any  # (L, 4): see :func:`advance`
    start: Any  # (3,): see :func:`start_theta`
    ntk: bool


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
def store_block(
    block: Array, i0: int, m: int, j0: int, n: int, diagonal: bool, mirror: bool, out: NDArray
) -> None:
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
STD, RMS, DELTA, ETA, GAP, TOTAL, SLOPE = (k * BLOCK for k in range(7))
THETA, NEXT, INVERSE, RHO, POWER, VALUE, RAW = (k * BLOCK for k in range(7, 14))
ROWS = 14


@fast
def load_columns(work: Array, stds: Array, rms: Array, after: Array, n: int) -> None:
    """What a layer needs of the columns' points: √Σ and √E[φ²], and √Σ of the next layer and its inverse, 0 where Σ is 0."""
    for j in range(n):
        work[j + STD] = stds[j]
        work[j + RMS] = rms[j]
        work[j + NEXT] = after[j]
        work[j + INVERSE] = 1.0 / after[j] if after[j] > 0.0 else 0.0


@fast
def load_row(work: Array, delta: Array, eta: Array, theta: Array, n: int) -> None:
    """The state of a row into the workspace."""
    for j in range(n):
        work[j + DELTA] = delta[j]
        work[j + ETA] = eta[j]
        work[j + THETA] = theta[j]


@fast
def save_row(work: Array, delta: Array, eta: Array, theta: Array, n: int) -> None:
    """The state of a row out of the workspace."""
    for j in range(n):
        delta[j] = work[j + DELTA]
        eta[j] = work[j + ETA]
        theta[j] = work[j + THETA]


@fast
def start_theta(work: Array, std: float, start: Array, n: int) -> None:
    """Θ¹ = scale (Σ¹ − σ_b²) + shift of one row, ``start`` = (scale, σ_b², shift); in the NTK parameterisation that is Σ¹."""
    scale, b2, shift = start[0], start[1], start[2]
    for j in range(n):
        delta, eta = work[j + DELTA], work[j + ETA]
        rho = 1.0 - delta if delta <= eta else eta - 1.0
        work[j + THETA] = scale * (std * work[j + STD] * rho - b2) + shift


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
        gap, total = work[j + GAP], work[j + TOTAL]
        product = rms * work[j + RMS]
        value = product - gap if gap <= total else total - product
        work[j + THETA] = weight * value + shift + slope_weight * work[j + THETA] * work[j + SLOPE]
    if last:
        return
    for j in range(n):
        gap, total, other = work[j + GAP], work[j + TOTAL], work[j + RMS]
        difference = rms - other
        sigma = w2 * rms * other + b2
        spread = w2 * b2 * difference * difference / (after * work[j + NEXT] + sigma + tiny)
        both = inverse * work[j + INVERSE]
        near = (spread + w2 * gap) * both
        far = (spread + w2 * total + 2.0 * b2) * both
        near = near if near > 0.0 else 0.0
        near = near if near < 2.0 else 2.0
        far = far if far > 0.0 else 0.0
        far = far if far < 2.0 else 2.0
        work[j + DELTA] = near if both > 0.0 else 1.0
        work[j + ETA] = far if both > 0.0 else 1.0


@strict
def closed_block(
    first: Side, second: Side, layers: Layers, address: int, params: Array, i0: int, j0: int, mirror: bool,
    out: NDArray,
) -> None:  # fmt: skip
    """One block of :func:`closed_blocks`, rows from i0 and columns from j0."""
    depth = layers.affine.shape[0]
    m, n = min(BLOCK, first.unit.shape[0] - i0), min(BLOCK, second.unit.shape[0] - j0)
    delta, eta, theta = np.empty((BLOCK, BLOCK)), np.empty((BLOCK, BLOCK)), np.empty((BLOCK, BLOCK))
    work, row = np.zeros(ROWS * BLOCK), np.empty(2)
    begin_block(first.unit, second.unit, i0, m, j0, n, delta, eta)
    for layer in range(depth):
        last = layer == depth - 1
        after = layer if last else layer + 1
        columns = slice(j0, j0 + n)
        load_columns(
            work, second.stds[layer, columns], second.rms[layer, columns], second.stds[after, columns], n
        )
        for i in range(m):
            row[0], row[1] = first.stds[layer, i0 + i], first.rms[layer, i0 + i]
            load_row(work, delta[i], eta[i], theta[i], n)
            if layer == 0:
                start_theta(work, row[0], layers.start, n)
            call_tile(address, n, work, params, row, row)
            advance(work, row[1], first.stds[after, i0 + i], layers.affine[layer], last, layers.ntk, n)
            save_row(work, delta[i], eta[i], theta[i], n)
    store_block(theta, i0, m, j0, n, mirror and i0 == j0, mirror, out)


@strict(parallel=True)
def closed_blocks(
    first: Side, second: Side, layers: Layers, address: int, params: Array, tasks: Indices, mirror: bool,
    out: NDArray,
) -> None:  # fmt: skip
    """Gram matrix of an activation whose dual is a compiled tile.

    Parameters
    ----------
    first, second : Side
        n1 and n2 points.
    layers : Layers
    address : int
    params : array
        The tile (:func:`ntkengine._jit.compile_dual`) and its parameters.
    tasks : (T, 2) array
        Row and column numbers of the blocks wanted.
    mirror : bool
        Blocks off the diagonal are written to their mirror images too, where ``out`` has these rows; those on it are symmetric.
    out : (n1, n2) array
    """
    for task in prange(tasks.shape[0]):
        closed_block(
            first,
            second,
            layers,
            address,
            params,
            tasks[task, 0] * BLOCK,
            tasks[task, 1] * BLOCK,
            mirror,
            out,
        )


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
        out[j] = value * (scale * scales[j])


@strict
def profile_block(
    first: Side, second: Side, index: Indices, pieces: Array, i0: int, j0: int, mirror: bool, out: NDArray
) -> None:
    """One block of :func:`profile_blocks`, rows from i0 and columns from j0."""
    m, n = min(BLOCK, first.unit.shape[0] - i0), min(BLOCK, second.unit.shape[0] - j0)
    delta, eta = np.empty((BLOCK, BLOCK)), np.empty((BLOCK, BLOCK))
    begin_block(first.unit, second.unit, i0, m, j0, n, delta, eta)
    for i in range(m):
        profile_row(
            delta[i, :n],
            eta[i, :n],
            first.scale[i0 + i],
            second.scale[j0 : j0 + n],
            index,
            pieces,
            delta[i, :n],
        )
    store_block(delta, i0, m, j0, n, mirror and i0 == j0, mirror, out)


@strict(parallel=True)
def profile_blocks(
    first: Side, second: Side, index: Indices, pieces: Array, tasks: Indices, mirror: bool, out: NDArray
) -> None:
    """Gram matrix scale₁ scale₂ K(c) of a dot-product kernel in pieces; the rest as in :func:`closed_blocks`."""
    for task in prange(tasks.shape[0]):
        profile_block(
            first, second, index, pieces, tasks[task, 0] * BLOCK, tasks[task, 1] * BLOCK, mirror, out
        )
