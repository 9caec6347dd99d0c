"""The layers plan of the SGD step on CPU threads: layer by layer over all rows of a batch (see :mod:`._sgd_cpu`).

For networks whose GEMMs dominate. Each phase (forward, outputs, backward, update) of a layer is cut into fixed blocks of
its output, which threads share; a block is one single-threaded GEMM with its activation applied while it is in cache.
Weights are updated by the GEMM itself, so no gradient is stored.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ntkengine._jit import call_tile, gemm, prange, strict
from ntkengine.finite._sgd_cpu import Job, Layout, affine_block, gather, pieces, residual_rows, span, together

__all__ = ["fit_apart", "layers_epochs"]

#: Rows of a block of hidden units, and of a block of outputs.
ROW_BLOCK, OUTPUT_BLOCK = 1024, 256
#: Columns of a block of units: the first for layers too narrow for two threads to share the second.
_NARROW, _WIDE = 256, 512
#: Columns of a block of a weight update.
UPDATE_COLUMNS = 1024
#: Members run a thread each only where all their buffers fit in this.
_SETS_BYTES = 2**30


@strict
def _unit_pieces(width):
    """How many blocks the units of a layer are cut into."""
    return pieces(width, _NARROW if width < 2 * _WIDE else _WIDE)


@strict
def _forward_item(item, layout, layer, theta, rows, h, scratch, phi, dphi):
    """A block of hidden layer ``layer + 1``: φ and φ' of z = affine(h)."""
    width = layout.fan[layer + 1]
    columns = _unit_pieces(width)
    top, bottom = span(item // columns, pieces(rows, ROW_BLOCK), rows)
    left, right = span(item % columns, columns, width)
    run = right - left
    fan_in = layout.fan[layer]
    affine_block(layout, layer, theta, bottom - top, h, top * fan_in, fan_in, left, run, scratch, 0)
    for i in range(top, bottom):
        at = i * width + left
        z = (i - top) * run
        call_tile(
            layout.tiles[layer],
            run,
            scratch[z : z + run],
            layout.tile_params[layer],
            phi[at : at + run],
            dphi[at : at + run],
        )


@strict
def _delta_item(item, layout, layer, theta, rows, delta, scratch, dphi):
    """A block of ∂loss/∂z of hidden layer ``layer`` from that of the affine map above it, written over φ'."""
    width, above = layout.fan[layer], layout.fan[layer + 1]
    columns = _unit_pieces(width)
    top, bottom = span(item // columns, pieces(rows, ROW_BLOCK), rows)
    left, right = span(item % columns, columns, width)
    run = right - left
    gemm(
        False,
        True,
        bottom - top,
        run,
        above,
        layout.w_scale[layer],
        (delta, top * above),
        above,
        (theta, layout.w_offset[layer] + left * above),
        above,
        theta.dtype.type(0),
        (scratch, 0),
        run,
    )
    for i in range(bottom - top):
        at = (top + i) * width + left
        back, slope = scratch[i * run : (i + 1) * run], dphi[at : at + run]
        for j in range(run):
            slope[j] *= back[j]


@strict
def _update_item(item, layout, layer, theta, rows, h, delta, ones, lr):
    """W block −= lr · w_scale · hᵀ delta, and the same for b (with the blocks of the first rows of W)."""
    fan_in, fan_out = layout.fan[layer], layout.fan[layer + 1]
    columns = pieces(fan_out, UPDATE_COLUMNS)
    top, bottom = span(item // columns, _unit_pieces(fan_in), fan_in)
    left, right = span(item % columns, columns, fan_out)
    gemm(
        True,
        False,
        bottom - top,
        right - left,
        rows,
        -lr * layout.w_scale[layer],
        (h, top),
        fan_in,
        (delta, left),
        fan_out,
        theta.dtype.type(1),
        (theta, layout.w_offset[layer] + top * fan_out + left),
        fan_out,
    )
    bias = layout.b_offset[layer]
    if bias >= 0 and top == 0:
        gemm(
            True,
            False,
            1,
            right - left,
            rows,
            -lr * layout.b_scale[layer],
            (ones, 0),
            1,
            (delta, left),
            fan_out,
            theta.dtype.type(1),
            (theta, bias + left),
            fan_out,
        )


@strict
def _output_item(item, layout, theta, job, rows, h, target, order, first, out):
    """A block of outputs turned into ∂loss/∂output; returns its sum of squared residuals."""
    layer = layout.fan.size - 2
    fan_in, m = layout.fan[layer], layout.fan[layer + 1]
    top, bottom = span(item, pieces(rows, OUTPUT_BLOCK), rows)
    affine_block(layout, layer, theta, bottom - top, h, top * fan_in, fan_in, 0, m, out, top * m)
    slope = theta.dtype.type(2.0 / rows)
    part = out[top * m : bottom * m]
    return residual_rows(bottom - top, m, order, first + top, target, job.row_scale, slope, part)


def _layers_steps(layout, theta, job, target, orders, scratch, xb, hs, out):
    """All steps of a job for one member; returns the first step with a non-finite loss, or -1.

    The blocks of every phase are dealt to the S slots of ``scratch``; which slot computes a block changes nothing in it.
    """
    n, hidden, slots = job.x.shape[0], layout.fan.size - 2, scratch.shape[0]
    starts = np.zeros(hidden + 1, np.int64)  # where φ_l lies in hs[0] and φ'_l in hs[1]
    for layer in range(hidden):
        starts[layer + 1] = starts[layer] + job.batch_size * layout.fan[layer + 1]
    sums, ones = np.zeros(pieces(job.batch_size, OUTPUT_BLOCK)), np.ones(job.batch_size, theta.dtype)
    step = 0
    for epoch in range(job.epochs):
        order = orders[epoch % orders.shape[0]]
        for first in range(0, n, job.batch_size):
            rows = min(job.batch_size, n - first)
            gather(job.x, order, first, rows, xb)
            h = xb
            for layer in range(hidden):
                phi = hs[0, starts[layer] : starts[layer + 1]]
                dphi = hs[1, starts[layer] : starts[layer + 1]]
                items = pieces(rows, ROW_BLOCK) * _unit_pieces(layout.fan[layer + 1])
                for slot in prange(slots):
                    low, high = span(slot, slots, items)
                    for item in range(low, high):
                        _forward_item(item, layout, layer, theta, rows, h, scratch[slot], phi, dphi)
                h = phi
            items = pieces(rows, OUTPUT_BLOCK)
            for item in prange(items):
                sums[item] = _output_item(item, layout, theta, job, rows, h, target, order, first, out)
            total = 0.0
            for item in range(items):
                total += sums[item]
            if not np.isfinite(total):
                return step
            delta = out
            slope = out
            for back in range(hidden + 1):
                layer = hidden - back
                below = xb
                if layer > 0:
                    below = hs[0, starts[layer - 1] : starts[layer]]
                    slope = hs[1, starts[layer - 1] : starts[layer]]
                    items = pieces(rows, ROW_BLOCK) * _unit_pieces(layout.fan[layer])
                    for slot in prange(slots):
                        low, high = span(slot, slots, items)
                        for item in range(low, high):
                            _delta_item(item, layout, layer, theta, rows, delta, scratch[slot], slope)
                items = _unit_pieces(layout.fan[layer]) * pieces(layout.fan[layer + 1], UPDATE_COLUMNS)
                for item in prange(items):
                    _update_item(item, layout, layer, theta, rows, below, delta, ones, job.lr)
                delta = slope
            step += 1
    return -1


#: The same steps on the calling thread alone, and with the blocks across threads: the same bits.
_layers_alone, _layers_shared = strict(_layers_steps), strict(parallel=True)(_layers_steps)


@strict(parallel=True)
def _layers_members(layout, thetas, job, targets, orders, scratch, xb, hs, out, failed):
    """A member a thread at a time; the buffers have one set for each of S slots."""
    slots = scratch.shape[0]
    for slot in prange(slots):
        low, high = span(slot, slots, thetas.shape[0])
        for e in range(low, high):
            if failed[e] < 0:
                failed[e] = _layers_alone(
                    layout,
                    thetas[e],
                    job,
                    targets[e],
                    orders[:, e],
                    scratch[slot],
                    xb[slot],
                    hs[slot],
                    out[slot],
                )


def fit_apart(batch: int, hidden: int, itemsize: int, thread_count: int) -> bool:
    """Whether every thread may have buffers of its own for ``batch`` rows of ``hidden`` units in all."""
    return thread_count * 2 * batch * hidden * itemsize <= _SETS_BYTES


def layers_epochs(
    layout: Layout, thetas: Any, job: Job, targets: Any, orders: Any, failed: Any, thread_count: int
) -> None:
    """Run a job on every member with ``failed[e] < 0``, by the layers plan; arguments as in ``rows_epochs``."""
    real, fan = thetas.dtype, layout.fan
    batch = min(job.batch_size, job.x.shape[0])
    job = job._replace(batch_size=batch)

    def buffers(*shape: int) -> tuple[Any, Any, Any]:
        hidden = batch * int(fan[1:-1].sum())
        return (
            np.empty((*shape, batch * int(fan[0])), real),
            np.empty((*shape, 2, hidden), real),
            np.empty((*shape, batch * int(fan[-1])), real),
        )

    tile = min(ROW_BLOCK, batch) * _WIDE
    apart = together(thetas.shape[0], thread_count)
    if not fit_apart(batch, int(fan[1:-1].sum()), real.itemsize, thread_count):
        apart = 0  # one set of buffers, shared
    if apart:
        slots = min(thread_count, apart)
        scratch = np.empty((slots, 1, tile), real)
        _layers_members(
            layout,
            thetas[:apart],
            job,
            targets[:apart],
            orders[:, :apart],
            scratch,
            *buffers(slots),
            failed[:apart],
        )
    if apart < thetas.shape[0]:
        scratch, (xb, hs, out) = np.empty((thread_count, tile), real), buffers()
        for e in range(apart, thetas.shape[0]):
            if failed[e] < 0:
                failed[e] = _layers_shared(
                    layout, thetas[e], job, targets[e], orders[:, e], scratch, xb, hs, out
                )
