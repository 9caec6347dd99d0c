"""Forward pass and SGD step of fully-connected networks on CPU threads: the compiled part of :mod:`ntkengine.finite`.

Shapes: n rows in the data, B rows in a block, d inputs, N_l units of hidden layer l, m outputs, E members, P parameters
a member. A member's parameters are one flat run: W¹ (d, N_1) row-major, b¹ (N_1,) if it exists, W², ... .

Two plans, chosen by the network's shape alone (:func:`ntkengine.finite.sgd.choose_plan`), so that the bits never depend
on threads:

rows     Here. A block of B rows goes through the whole network, forward and back, without leaving the cache; nothing of
         size n × N exists. Blocks are dealt to a fixed number of *lanes*, each with its own gradient; lanes are added up
         in order. For networks whose gradient fits in cache, and for every shallow one.
layers   In :mod:`._layers_cpu`, for networks whose GEMMs dominate.

The steps of one member are one function, compiled twice: serial, for ensembles (a member a thread), and parallel, for
members left over. BLAS must be single-threaded around every call here (:func:`ntkengine._jit.threads`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ntkengine._jit import call_tile, gemm, prange, strict

__all__ = [
    "LANES",
    "Job",
    "Layout",
    "affine_block",
    "forward_members",
    "gather",
    "pieces",
    "residual_rows",
    "rows_epochs",
    "span",
    "together",
]

#: Lanes of the rows plan: how many gradients are accumulated side by side and then added in order.
LANES = 8


class Layout(NamedTuple):
    """Where a member's parameters lie, and how they enter; L hidden layers, so L + 1 affine maps."""

    fan: Any  # (L+2,) int64: d, N_1, ..., N_L, m
    w_offset: Any  # (L+1,) int64: first element of W of each affine map
    b_offset: Any  # (L+1,) int64: first element of b, or -1 where there is no bias
    w_scale: Any  # (L+1,) T: σ_w/√fan_in, what multiplies W x (1 in the standard parameterisation)
    b_scale: Any  # (L+1,) T: σ_b (0 or 1 in the standard parameterisation)
    tiles: Any  # (L,) int64: addresses of the activations' tiles
    tile_params: Any  # (L, ·) T: their parameters, one row a layer


class Job(NamedTuple):
    """Some epochs of SGD on n rows: the same for all members."""

    x: Any  # (n, d) T
    row_scale: Any  # (n,) T: factor of each row's outputs (the radial lift's r, else 1)
    epochs: int
    batch_size: int
    block: int  # rows of a block in the rows plan
    lr: Any  # T


@strict
def span(item, pieces, size):
    """The item-th of ``pieces`` nearly equal parts of range(size)."""
    return item * size // pieces, (item + 1) * size // pieces


@strict
def pieces(size, block):
    return (size + block - 1) // block


# --- one block of rows -----------------------------------------------------------------------------------------


@strict
def affine_block(layout, layer, theta, rows, x, x_first, x_stride, first_column, columns, z, z_first):
    """z (rows, columns), contiguous = w_scale · x W[:, columns] + b_scale · b[columns]."""
    fan_in, fan_out = layout.fan[layer], layout.fan[layer + 1]
    bias = layout.b_offset[layer]
    beta = theta.dtype.type(0)
    if bias >= 0:
        beta = theta.dtype.type(1)
        scale = layout.b_scale[layer]
        for i in range(rows):
            for j in range(columns):
                z[z_first + i * columns + j] = scale * theta[bias + first_column + j]
    gemm(
        False,
        False,
        rows,
        columns,
        fan_in,
        layout.w_scale[layer],
        (x, x_first),
        x_stride,
        (theta, layout.w_offset[layer] + first_column),
        fan_out,
        beta,
        (z, z_first),
        columns,
    )


@strict
def residual_rows(rows, m, order, order_first, target, row_scale, slope, f):
    """Turns outputs f (rows, m) into ∂loss/∂(unscaled output), in place; returns the sum of squared residuals.

    The network's output is row_scale · f (the radial lift's r, else 1); slope is 2/(rows of the batch).
    """
    total = 0.0
    for i in range(rows):
        row = order[order_first + i]
        r = row_scale[row]
        for j in range(m):
            gap = r * f[i * m + j] - target[row, j]
            total += np.float64(gap) * np.float64(gap)
            f[i * m + j] = slope * gap * r
    return total


@strict
def _workspace_size(layout, rows):
    """Elements that :func:`_rows_item` needs for a block of ``rows`` rows."""
    hidden, widest = 0, 0
    for layer in range(layout.fan.size - 2):
        hidden += layout.fan[layer + 1]
        widest = max(widest, layout.fan[layer + 1])
    return rows * (layout.fan[0] + layout.fan[layout.fan.size - 1] + widest + 2 * hidden)


@strict
def _block_forward(layout, theta, rows, work):
    """Forward through all layers for the rows gathered at the start of ``work``; returns where the outputs begin.

    ``work`` holds x (rows, d), outputs (rows, m), scratch z (rows, widest), then φ_l and φ'_l (rows, N_l) layer by layer.
    """
    maps = layout.fan.size - 1
    d, m = layout.fan[0], layout.fan[maps]
    widest = 0
    for layer in range(maps - 1):
        widest = max(widest, layout.fan[layer + 1])
    out = rows * d
    z = out + rows * m
    phi = z + rows * widest
    x, x_stride = 0, d
    for layer in range(maps - 1):
        width = layout.fan[layer + 1]
        size = rows * width
        affine_block(layout, layer, theta, rows, work, x, x_stride, 0, width, work, z)
        call_tile(
            layout.tiles[layer],
            size,
            work[z : z + size],
            layout.tile_params[layer],
            work[phi : phi + size],
            work[phi + size : phi + 2 * size],
        )
        x, x_stride = phi, width
        phi += 2 * size
    affine_block(layout, maps - 1, theta, rows, work, x, x_stride, 0, m, work, out)
    return out


@strict
def _block_backward(layout, theta, rows, work, gradient):
    """Adds the block's gradient to ``gradient``, from ∂loss/∂output stored where the outputs were."""
    maps = layout.fan.size - 1
    d, m = layout.fan[0], layout.fan[maps]
    one = theta.dtype.type(1)
    zero = theta.dtype.type(0)
    widest, hidden = 0, 0
    for layer in range(maps - 1):
        widest = max(widest, layout.fan[layer + 1])
        hidden += layout.fan[layer + 1]
    delta, delta_stride = rows * d, m
    z = rows * (d + m)
    phi = z + rows * widest + 2 * rows * hidden  # the end of the last layer's pair
    for step in range(maps):
        layer = maps - 1 - step
        fan_in, fan_out = layout.fan[layer], layout.fan[layer + 1]
        source = 0
        if layer > 0:
            phi -= 2 * rows * fan_in
            source = phi
        gemm(
            True,
            False,
            fan_in,
            fan_out,
            rows,
            layout.w_scale[layer],
            (work, source),
            fan_in,
            (work, delta),
            delta_stride,
            one,
            (gradient, layout.w_offset[layer]),
            fan_out,
        )
        bias = layout.b_offset[layer]
        if bias >= 0:
            scale = layout.b_scale[layer]
            for i in range(rows):
                for j in range(fan_out):
                    gradient[bias + j] += scale * work[delta + i * delta_stride + j]
        if layer > 0:
            size = rows * fan_in
            gemm(
                False,
                True,
                rows,
                fan_in,
                fan_out,
                layout.w_scale[layer],
                (work, delta),
                delta_stride,
                (theta, layout.w_offset[layer]),
                fan_out,
                zero,
                (work, z),
                fan_in,
            )
            back, slope = work[z : z + size], work[phi + size : phi + 2 * size]
            for i in range(size):
                slope[i] *= back[i]
            delta, delta_stride = phi + size, fan_in


@strict
def gather(x, order, order_first, rows, work):
    d = x.shape[1]
    for i in range(rows):
        row = order[order_first + i]
        for j in range(d):
            work[i * d + j] = x[row, j]


# --- plan "rows" -----------------------------------------------------------------------------------------------


@strict
def _rows_item(lane, layout, theta, job, target, order, first, batch, work, gradient):
    """Gradient and squared residuals of one lane's share of the batch ``order[first:first+batch]``."""
    gradient[:] = 0
    blocks = pieces(batch, job.block)
    low, high = span(lane, min(LANES, blocks), blocks)
    m = layout.fan[layout.fan.size - 1]
    slope = theta.dtype.type(2.0 / batch)
    total = 0.0
    for b in range(low, high):
        start = first + b * job.block
        rows = min(job.block, first + batch - start)
        gather(job.x, order, start, rows, work)
        out = _block_forward(layout, theta, rows, work)
        total += residual_rows(
            rows, m, order, start, target, job.row_scale, slope, work[out : out + rows * m]
        )
        _block_backward(layout, theta, rows, work, gradient)
    return total


@strict
def _rows_update(theta, gradients, lanes, lr, start, stop):
    """θ −= lr · (the lanes' gradients, added in order), elements start to stop."""
    total = gradients[0]
    for lane in range(1, lanes):
        gradient = gradients[lane]
        for i in range(start, stop):
            total[i] += gradient[i]
    for i in range(start, stop):
        theta[i] -= lr * total[i]


def _rows_steps(layout, theta, job, target, orders, works, gradients):
    """All steps of a job for one member; returns the first step with a non-finite loss, or -1.

    Lane l works in ``works[l % S]`` and leaves its gradient in ``gradients[l]``.
    """
    n, slots = job.x.shape[0], works.shape[0]
    sums = np.zeros(LANES)
    parts = pieces(theta.size, 16384)
    step = 0
    for epoch in range(job.epochs):
        order = orders[epoch % orders.shape[0]]
        for first in range(0, n, job.batch_size):
            batch = min(job.batch_size, n - first)
            lanes = min(LANES, pieces(batch, job.block))
            for lane in prange(lanes):
                sums[lane] = _rows_item(
                    lane,
                    layout,
                    theta,
                    job,
                    target,
                    order,
                    first,
                    batch,
                    works[lane % slots],
                    gradients[lane],
                )
            total = 0.0
            for lane in range(lanes):
                total += sums[lane]
            if not np.isfinite(total):
                return step
            for part in prange(parts):
                start, stop = span(part, parts, theta.size)
                _rows_update(theta, gradients, lanes, job.lr, start, stop)
            step += 1
    return -1


#: The same steps on the calling thread alone, and with the lanes across threads: the same bits.
_rows_alone, _rows_shared = strict(_rows_steps), strict(parallel=True)(_rows_steps)


@strict(parallel=True)
def _rows_members(layout, thetas, job, targets, orders, works, gradients, failed):
    """A member a thread at a time; ``works`` and ``gradients`` hold a set of buffers for each of S slots."""
    slots = works.shape[0]
    for slot in prange(slots):
        low, high = span(slot, slots, thetas.shape[0])
        for e in range(low, high):
            if failed[e] < 0:
                failed[e] = _rows_alone(
                    layout, thetas[e], job, targets[e], orders[:, e], works[slot], gradients[slot]
                )


def together(members: int, thread_count: int) -> int:
    """How many members run a thread each; the rest share all threads, one after the other."""
    return members - members % thread_count


def rows_epochs(
    layout: Layout, thetas: Any, job: Job, targets: Any, orders: Any, failed: Any, thread_count: int
) -> None:
    """Run a job on every member with ``failed[e] < 0``, by the rows plan.

    Parameters
    ----------
    thetas : (E, P) array, changed in place
    targets : (E, n, m) array
    orders : (C, E, n) int32 array
        The row order of each epoch; epoch t uses ``orders[t % C]``.
    failed : (E,) int64 array, changed in place
        Step (counted from this call) of a member's first non-finite loss.
    """
    size, real = thetas.shape[1], thetas.dtype
    work = int(_workspace_size(layout, min(job.block, job.batch_size, job.x.shape[0])))
    apart = together(thetas.shape[0], thread_count)
    if apart:
        slots = min(thread_count, apart)
        works, gradients = np.empty((slots, 1, work), real), np.empty((slots, LANES, size), real)
        _rows_members(
            layout, thetas[:apart], job, targets[:apart], orders[:, :apart], works, gradients, failed[:apart]
        )
    if apart < thetas.shape[0]:
        works, gradients = np.empty((LANES, work), real), np.empty((LANES, size), real)
        for e in range(apart, thetas.shape[0]):
            if failed[e] < 0:
                failed[e] = _rows_shared(layout, thetas[e], job, targets[e], orders[:, e], works, gradients)


# --- forward ---------------------------------------------------------------------------------------------------


@strict(parallel=True)
def _forward_members(layout, thetas, x, row_scale, block, order, works, outputs):
    members, n, m = outputs.shape
    blocks = pieces(n, block)
    slots = works.shape[0]
    for slot in prange(slots):
        low, high = span(slot, slots, members * blocks)
        for item in range(low, high):
            e, start = item // blocks, (item % blocks) * block
            rows = min(block, n - start)
            gather(x, order, start, rows, works[slot])
            out = _block_forward(layout, thetas[e], rows, works[slot])
            for i in range(rows):
                for j in range(m):
                    outputs[e, start + i, j] = row_scale[start + i] * works[slot, out + i * m + j]


def forward_members(
    layout: Layout, thetas: Any, x: Any, row_scale: Any, block: int, thread_count: int
) -> Any:
    """Outputs (E, n, m) of every member on x (n, d), in fixed blocks of rows."""
    n = x.shape[0]
    outputs = np.empty((thetas.shape[0], n, int(layout.fan[-1])), thetas.dtype)
    works = np.empty((thread_count, int(_workspace_size(layout, min(block, n)))), thetas.dtype)
    _forward_members(layout, thetas, x, row_scale, block, np.arange(n, dtype=np.int32), works, outputs)
    return outputs
