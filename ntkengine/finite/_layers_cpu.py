"""The layers plan of the SGD step on CPU threads: layer by layer over all rows of a batch (see :mod:`._sgd_cpu`).

For networks whose GEMMs dominate. Each phase (forward, outputs, backward, update) of a layer is cut into fixed blocks of
its output, which threads share; a block is one single-threaded GEMM with its activation applied while it is in cache.
Weights are updated by the GEMM itself, so no gradient is stored.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from ntkengine._jit import call_tile, gemm, prange, strict
from ntkengine.finite._sgd_cpu import Layout, affine_block, gather, pieces, residual_rows, span

__all__ = ["layers_epochs"]

#: Rows of a block of hidden units, and of a block of outputs.
ROW_BLOCK, OUTPUT_BLOCK = 1024, 256
#: Columns of a block of units: the first for layers too narrow for two threads to share the second.
_NARROW, _WIDE = 256, 512
#: Columns of a block of a weight update.
UPDATE_COLUMNS = 1024


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
def _output_item(item, layout, theta, rows, h, target, row_scale, order, first, batch, out):
    """A block of outputs turned into ∂loss/∂output; returns its sum of squared residuals."""
    layer = layout.fan.size - 2
    fan_in, m = layout.fan[layer], layout.fan[layer + 1]
    top, bottom = span(item, pieces(rows, OUTPUT_BLOCK), rows)
    affine_block(layout, layer, theta, bottom - top, h, top * fan_in, fan_in, 0, m, out, top * m)
    slope = theta.dtype.type(2.0 / batch)
    return residual_rows(
        bottom - top, m, order, first + top, target, row_scale, slope, out[top * m : bottom * m]
    )


@strict(parallel=True)
def _layers_member(layout, theta, x, target, row_scale, orders, epochs, batch_size, lr, scratch, xb, hs, out):
    """All steps of some epochs of one member, each phase's blocks across threads."""
    n, hidden = x.shape[0], layout.fan.size - 2
    starts = np.zeros(hidden + 1, np.int64)  # where φ_l lies in hs[0] and φ'_l in hs[1]
    for layer in range(hidden):
        starts[layer + 1] = starts[layer] + batch_size * layout.fan[layer + 1]
    sums, ones = np.zeros(pieces(batch_size, OUTPUT_BLOCK)), np.ones(batch_size, theta.dtype)
    step = 0
    for epoch in range(epochs):
        order = orders[epoch % orders.shape[0]]
        for first in range(0, n, batch_size):
            rows = min(batch_size, n - first)
            row_pieces = pieces(rows, ROW_BLOCK)
            gather(x, order, first, rows, xb)
            h = xb
            for layer in range(hidden):
                phi = hs[0, starts[layer] : starts[layer + 1]]
                dphi = hs[1, starts[layer] : starts[layer + 1]]
                for item in prange(row_pieces * _unit_pieces(layout.fan[layer + 1])):
                    _forward_item(
                        item, layout, layer, theta, rows, h, scratch[numba.get_thread_id()], phi, dphi
                    )
                h = phi
            output_pieces = pieces(rows, OUTPUT_BLOCK)
            for item in prange(output_pieces):
                sums[item] = _output_item(
                    item, layout, theta, rows, h, target, row_scale, order, first, rows, out
                )
            total = 0.0
            for item in range(output_pieces):
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
                    for item in prange(row_pieces * _unit_pieces(layout.fan[layer])):
                        _delta_item(
                            item, layout, layer, theta, rows, delta, scratch[numba.get_thread_id()], slope
                        )
                items = _unit_pieces(layout.fan[layer]) * pieces(layout.fan[layer + 1], UPDATE_COLUMNS)
                for item in prange(items):
                    _update_item(item, layout, layer, theta, rows, below, delta, ones, lr)
                if layer > 0:
                    delta = slope
            step += 1
    return -1


def layers_epochs(
    layout: Layout,
    thetas: Any,
    x: Any,
    targets: Any,
    row_scale: Any,
    orders: Any,
    epochs: int,
    batch_size: int,
    lr: Any,
    failed: Any,
    thread_count: int,
) -> None:
    """Run ``epochs`` epochs of the layers plan, member after member; arguments as in :func:`rows_epochs`."""
    dtype = thetas.dtype
    batch = min(batch_size, x.shape[0])
    fan = layout.fan
    scratch = np.empty((thread_count, ROW_BLOCK * _WIDE), dtype)
    xb, out = np.empty(batch * int(fan[0]), dtype), np.empty(batch * int(fan[-1]), dtype)
    hs = np.empty((2, batch * int(fan[1:-1].sum())), dtype)
    for e in range(thetas.shape[0]):
        if failed[e] < 0:
            failed[e] = _layers_member(
                layout,
                thetas[e],
                x,
                targets[e],
                row_scale,
                orders[:, e],
                epochs,
                batch,
                lr,
                scratch,
                xb,
                hs,
                out,
            )
