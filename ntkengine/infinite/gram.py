"""Gram matrices of networks of infinite width: what is checked, what is computed once, and the stripes that are written."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ntkengine import _jit, quadrature
from ntkengine._check import real_array, shown
from ntkengine.activations.base import Activation
from ntkengine.errors import InputError
from ntkengine.infinite import _gram, _gram_series
from ntkengine.infinite.dual import PAIR_ORDER, closed_moments
from ntkengine.infinite.profile import profile
from ntkengine.infinite.tables import PLAIN_TERMS, Table, expanded, tabulate

if TYPE_CHECKING:
    from ntkengine.infinite.fcn import FCN, NetworkKernel

__all__ = ["gram"]

Array = NDArray[np.float64]

#: Norms equal to this are one sphere.
SAME_NORM = 1e-14
#: Error of a table, relative to K(x, x), above which entries are computed one by one.
STEEP = 1e-13
#: E[φ²] below this is 0.
NOTHING = 1e-150
#: A variance below this has lost its digits.
UNDERFLOW = 1e-290
#: Bytes of a stripe that is written to a dataset.
STRIPE = 128 * 2**20


@dataclass(frozen=True, eq=False)
class _Points:
    """One side of a Gram matrix: unit vectors whose cosines are those of Σ¹ (or of the points), and all their layers."""

    unit: Array
    scale: Array
    stds: Array
    rms: Array
    tables: list[Table]

    def part(self, rows: slice) -> _Points:
        tables = [table.part(rows) for table in self.tables]
        return _Points(
            self.unit[rows],
            self.scale[rows],
            np.ascontiguousarray(self.stds[:, rows]),
            np.ascontiguousarray(self.rms[:, rows]),
            tables,
        )

    def side(self) -> _gram.Side:
        return _gram.Side(self.unit, self.scale, self.stds, self.rms)

    def series_side(self) -> _gram_series.SeriesSide:
        fields = _gram_series.SeriesSide._fields
        return _gram_series.SeriesSide(
            *(np.array([getattr(t, name) for t in self.tables]) for name in fields)
        )


#: Fills (first points, second points, blocks wanted, whether to mirror, stripe).
_Fill = Callable[[_Points, _Points, NDArray[np.int64], bool, Any], None]


def gram(
    fcn: FCN,
    kind: str,
    X1: ArrayLike,
    X2: ArrayLike | None = None,
    *,
    out: Any = None,
    dtype: DTypeLike | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Any:
    """The Gram matrix of :meth:`ntkengine.FCN.ntk` and :meth:`ntkengine.FCN.nngp`.

    Parameters
    ----------
    fcn : FCN
    kind : "ntk" or "nngp"
    X1, X2, out, dtype, threads, progress
        See :meth:`ntkengine.FCN.ntk`.

    Returns
    -------
    (n1, n2) array, or ``out``

    Raises
    ------
    InputError
        See :meth:`ntkengine.FCN.ntk`.
    """
    first = _matrix("X1", X1)
    second = first if X2 is None else _matrix("X2", X2)
    if first.shape[1] != second.shape[1]:
        raise InputError(
            f"X1 has {first.shape[1]} columns and X2 has {second.shape[1]}; both must have the same d features"
        )
    shape = (first.shape[0], second.shape[0])
    _jit.thread_count(threads)
    if progress is not None and not callable(progress):
        raise InputError(
            f"progress is {shown(progress)}; it must be a function of (rows done, rows in all), or None"
        )
    kept = _output(out, dtype, shape)
    if 0 in shape:
        return np.empty(shape, dtype=kept) if out is None else out
    left, right, fill, block = _prepare(fcn, kind, first, second if X2 is not None else None)
    target = np.empty(shape, dtype=kept) if out is None else out
    in_place = isinstance(target, np.ndarray) and target.flags.c_contiguous and target.flags.aligned
    with _jit.threads(threads):
        for start, stop in _stripes(shape, in_place, np.dtype(kept).itemsize, block):
            rows = left.part(slice(start, stop)) if stop - start < shape[0] else left
            if X2 is None:
                _symmetric_stripe(rows, left, start, stop, fill, block, in_place, target)
            else:
                stripe = target[start:stop] if in_place else np.empty((stop - start, shape[1]), dtype=kept)
                fill(rows, right, _blocks(stop - start, shape[1], block, False), False, stripe)
                if not in_place:
                    target[start:stop] = stripe
            if progress is not None:
                progress(stop, shape[0])
    return target


def _symmetric_stripe(
    rows: _Points,
    points: _Points,
    start: int,
    stop: int,
    fill: _Fill,
    block: int,
    in_place: bool,
    target: Any,
) -> None:
    """Rows start..stop from their diagonal on, and the mirror image of what lies beyond ``stop``."""
    n = points.unit.shape[0]
    columns = points.part(slice(start, n)) if start else points
    if in_place:  # one stripe holds all
        fill(rows, columns, _blocks(stop - start, n - start, block, True), True, target)
        return
    stripe = np.empty((stop - start, n - start), dtype=target.dtype)
    fill(rows, columns, _blocks(stop - start, n - start, block, True), True, stripe)
    target[start:stop, start:] = stripe
    if stop < n:
        target[stop:, start:stop] = np.ascontiguousarray(stripe[:, stop - start :].T)


def _matrix(name: str, value: ArrayLike) -> Array:
    array = np.ascontiguousarray(real_array(name, value))
    if array.ndim != 2 or array.shape[1] == 0:
        raise InputError(
            f"{name} has shape {array.shape}; it must be (n, d), one row a point, with at least one feature"
        )
    return array


def _output(out: Any, dtype: DTypeLike | None, shape: tuple[int, int]) -> np.dtype[Any]:
    """The type of the result; InputError if ``out`` or ``dtype`` cannot be it."""
    allowed = (np.dtype(np.float64), np.dtype(np.float32))
    try:
        wanted = None if dtype is None else np.dtype(dtype)
    except TypeError:
        wanted = np.dtype(object)
    if wanted is not None and wanted not in allowed:
        raise InputError(f'dtype is {shown(dtype)}; it must be "float64" or "float32"')
    if out is None:
        return wanted or allowed[0]
    if not isinstance(out, np.ndarray) and hasattr(out, "id") and not out:  # an h5py dataset of a closed file
        raise InputError("out is a dataset of a file that is closed; open the file for writing")
    if not (hasattr(out, "shape") and hasattr(out, "dtype") and hasattr(out, "__setitem__")):
        raise InputError(
            f"out is of type {type(out).__name__}; it must be an array or an h5py dataset of shape {shape}"
        )
    if tuple(out.shape) != shape:
        raise InputError(f"out has shape {tuple(out.shape)}; the Gram matrix has {shape}")
    if out.dtype not in allowed or (wanted is not None and out.dtype != wanted):
        raise InputError(f"out has dtype {out.dtype}; it must be {wanted or 'float64 or float32'}")
    if isinstance(out, np.ma.MaskedArray) or (
        isinstance(out, np.ndarray) and 0 in out.strides and out.size > 1
    ):
        raise InputError(
            "out cannot hold every entry (it is masked, or entries share memory); give a plain array"
        )
    file = getattr(out, "file", None) if bool(out.shape) and not isinstance(out, np.ndarray) else None
    if (isinstance(out, np.ndarray) and not out.flags.writeable) or getattr(file, "mode", "r+") == "r":
        raise InputError("out is read-only; give an array or a dataset that may be written to")
    return np.dtype(out.dtype)


def _stripes(shape: tuple[int, int], in_place: bool, itemsize: int, block: int) -> Iterator[tuple[int, int]]:
    rows = shape[0]
    if not in_place:
        rows = max(block, STRIPE // (itemsize * shape[1]) // block * block)
    for start in range(0, shape[0], rows):
        yield start, min(start + rows, shape[0])


def _blocks(rows: int, columns: int, block: int, upper: bool) -> NDArray[np.int64]:
    """Numbers (T, 2) of the blocks of a stripe; with ``upper`` those on and above its diagonal."""
    down, across = math.ceil(rows / block), math.ceil(columns / block)
    found = [(i, j) for i in range(down) for j in range(i if upper else 0, across)]
    return np.array(found, dtype=np.int64)


def _prepare(fcn: FCN, kind: str, first: Array, second: Array | None) -> tuple[_Points, _Points, _Fill, int]:
    """Both sides, the function that fills blocks, and the size of these."""
    from ntkengine.infinite.fcn import NetworkKernel, check_kind

    check_kind(kind)
    n1, d = first.shape
    points = first if second is None else np.concatenate([first, second])
    norms, unit = _normalised(points)
    radii = norms / math.sqrt(d)
    one_sphere = float(np.ptp(radii)) <= SAME_NORM * float(radii[0]) and radii[0] > 0
    found = None
    if fcn.radial_lift or one_sphere:
        radius = 1.0 if fcn.radial_lift else float(np.median(radii))
        kernel = NetworkKernel(fcn, kind, radius=radius, n_inputs=d)
        found = _profiled(kernel, unit, radii if fcn.radial_lift else np.ones(radii.size))
    if found is None and fcn.radial_lift:
        everything, fill, block = _general(replace(fcn, radial_lift=False), kind, unit * math.sqrt(d))
        found = replace(everything, scale=radii), _lifted(fill), block
    everything, fill, block = found or _general(fcn, kind, points)
    if second is None:
        return everything, everything, fill, block
    return everything.part(slice(0, n1)), everything.part(slice(n1, None)), fill, block


def _lifted(fill: _Fill) -> _Fill:
    """The kernel r r' K of the radial lift, from the driver of K."""

    def lifted(rows: _Points, columns: _Points, tasks: Any, mirror: bool, out: Any) -> None:
        fill(rows, columns, tasks, mirror, out)
        for i, scale in enumerate(rows.scale):
            out[i] *= scale * columns.scale

    return lifted


def _profiled(kernel: NetworkKernel, unit: Array, scale: Array) -> tuple[_Points, _Fill, int] | None:
    """The driver for one function of the cosine; None where that function is too steep to be tabulated (deep step networks)."""
    table = profile(kernel._recursion)
    if table.error > STEEP * abs(kernel.value_at_one):
        return None

    def fill(rows: _Points, columns: _Points, tasks: Any, mirror: bool, out: Any) -> None:
        _gram.profile_blocks(rows.side(), columns.side(), table.index, table.pieces, tasks, mirror, out)

    none = np.empty((0, scale.size))
    return _Points(unit, scale, none, none, []), fill, _gram.BLOCK


def _normalised(points: Array) -> tuple[Array, Array]:
    """Norms (n,), and the points over their norms (0 for the zero vector); nothing overflows on the way."""
    largest = np.abs(points).max(axis=1)
    safe = np.where(largest > 0, largest, 1.0)
    unit = points / safe[:, None]
    norms = np.sqrt(np.einsum("nd,nd->n", unit, unit))
    unit /= np.where(norms > 0, norms, 1.0)[:, None]
    return norms * safe, unit


def _general(fcn: FCN, kind: str, points: Array) -> tuple[_Points, _Fill, int]:
    """Points of any norms: variances layer by layer, and the driver for the activation's kind of dual."""
    n, d = points.shape
    bias = np.full((n, 1), fcn.b_std)
    with np.errstate(over="ignore"):
        scaled = points * (fcn.w_std / math.sqrt(d))
    if not np.isfinite(scaled).all():
        raise InputError(
            f"w_std={fcn.w_std:g} times an input of size {np.abs(points).max():g} is beyond float64; rescale the inputs"
        )
    norms, unit = _normalised(np.concatenate([scaled, bias], axis=1))
    if fcn.b_std == 0:
        unit = np.ascontiguousarray(unit[:, :-1])
    ntk = kind == "ntk"
    (alpha, beta), rules = fcn.theta_rules(d) if ntk else ((1.0, 0.0), [(0.0, 0.0)] * fcn.depth)
    start = np.array([alpha, fcn.b_std * fcn.b_std, beta])
    affine = list(fcn.layer_stds())
    layers = _gram.Layers(
        np.array([[w * w, b * b, *rule] for (w, b), rule in zip(affine, rules)]), start, ntk
    )
    stds, rms, tables = np.empty((fcn.depth, n)), np.empty((fcn.depth, n)), []
    closed = fcn.activation.family.dual is not None
    std = norms
    for layer, (w_std, b_std) in enumerate(affine):
        with np.errstate(over="ignore", under="ignore"):
            q = std * std
        _check_variances(fcn, layer, q, std)
        stds[layer] = std
        if closed:
            rms[layer] = np.sqrt(closed_moments(fcn.activation, q)[0])
        else:
            table = _table(fcn, q)
            tables.append(table)
            rms[layer] = table.rms
        std = np.hypot(w_std * rms[layer], b_std)
    everything = _Points(unit, np.ones(n), stds, rms, tables)
    if closed:
        return everything, _closed_fill(fcn, layers), _gram.BLOCK
    return everything, *_series_fill(fcn, tables, layers)


def _check_variances(fcn: FCN, layer: int, q: Array, std: Array) -> None:
    if np.isfinite(q).all() and (q[std > 0] > UNDERFLOW).all():
        return
    bad = q[~np.isfinite(q)] if not np.isfinite(q).all() else q[(std > 0) & (q <= UNDERFLOW)]
    way = "explodes" if not np.isfinite(q).all() else "vanishes"
    raise InputError(
        f"the variance before the activation of hidden layer {layer + 1} is {bad[0]:g} for {bad.size} of {q.size} points: "
        f"the signal {way} with {fcn.activation}, w_std={fcn.w_std:g}, b_std={fcn.b_std:g}; choose w_std nearer to the value "
        "that keeps it, another depth, or scale the inputs"
    )


def _table(fcn: FCN, q: Array) -> Table:
    """The table for the variances that count; points for which φ(√q z) is the number φ(0) are put in.

    These are the points of variance 0, and those so small, with φ = 0 up to a kink far out, that E[φ²] is nothing.
    """
    at_zero = float(fcn.activation(0.0))
    positive = (q > 0) if at_zero else q >= _smallest(fcn.activation, q)
    if positive.all():
        return tabulate(fcn.activation, q)
    found = tabulate(fcn.activation, q[positive] if positive.any() else np.ones(1))
    extra = np.zeros((1, *found.smooth.shape[1:]))
    if found.smooth.shape[2] and not (found.compact and found.parity < 0):
        extra[0, 0, 0] = at_zero
    bins, places, rms = (
        np.full(q.size, found.smooth.shape[0]),
        np.zeros(q.size),
        np.full(q.size, abs(at_zero)),
    )
    left, classes = np.zeros((q.size, 2)), np.zeros(q.size, dtype=np.int64)
    if positive.any():
        classes[positive] = found.classes
        bins[positive], places[positive] = found.bins, found.places
        rms[positive], left[positive] = found.rms, found.left
    smooth = np.concatenate([found.smooth, extra])
    return replace(found, smooth=smooth, bins=bins, places=places, rms=rms, left=left, classes=classes)


def _smallest(activation: Activation, q: Array) -> float:
    """The smallest variance at which E[φ²] is not negligible; infinite if there is none."""
    distinct = np.unique(q[q > 0])

    def counts(i: int) -> bool:
        root = math.sqrt(distinct[i])
        breaks = tuple(kink.location / root for kink in activation.kinks)
        with np.errstate(over="ignore", invalid="ignore"):
            return not quadrature.expectation(lambda z: activation(root * z) ** 2, breaks)[0] < NOTHING

    if not distinct.size or counts(0):
        return float(distinct[0]) if distinct.size else math.inf
    low, high = 0, distinct.size  # the first that counts is above low, at high or below
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if counts(middle) else (middle, high)
    return float(distinct[high]) if high < distinct.size else math.inf


def _closed_fill(fcn: FCN, layers: _gram.Layers) -> _Fill:
    address = fcn.activation.dual_tile().address
    params = fcn.activation.tile_parameters(np.float64)

    def fill(rows: _Points, columns: _Points, tasks: Any, mirror: bool, out: Any) -> None:
        _gram.closed_blocks(rows.side(), columns.side(), layers, address, params, tasks, mirror, out)

    return fill


def _series_fill(fcn: FCN, tables: list[Table], layers: _gram.Layers) -> tuple[_Fill, int]:
    parity = tables[0].parity if all(t.parity == tables[0].parity for t in tables) else 0
    compact = parity != 0 and all(t.compact for t in tables)
    if not compact:
        tables = [expanded(t) for t in tables]
    counts = [table.smooth.shape[2] for table in tables]
    starts = np.concatenate([[0], np.cumsum([table.smooth.size for table in tables])])
    kinks = fcn.activation.kinks
    jumps = np.array([_padded(table.jumps, kinks) for table in tables]).reshape(len(tables), -1, 4)
    classes = max(len(t.needed) for t in tables)
    x, w = quadrature.gauss_legendre(PAIR_ORDER)
    plan = _gram_series.SeriesPlan(
        tables=np.concatenate([table.smooth.ravel() for table in tables]),
        shapes=np.array([[start, *table.smooth.shape] for start, table in zip(starts, tables)]),
        needed=np.array([np.pad(t.needed, ((0, classes - len(t.needed)),) * 2 + ((0, 0),)) for t in tables]),
        edges=np.array([t.edge for t in tables]),
        locations=np.array([kink.location for kink in kinks if any(kink.jumps)], dtype=np.float64),
        jumps=jumps,
        parity=parity,
        compact=compact,
        separate=bool(jumps[:, :, 0].any()),
        block=_gram.BLOCK if max(counts) <= PLAIN_TERMS else 64,
        roots=1 / np.sqrt(np.arange(1.0, max(PLAIN_TERMS, *counts) + 3)),
        x=x,
        w=w,
    )

    def fill(rows: _Points, columns: _Points, tasks: Any, mirror: bool, out: Any) -> None:
        _gram_series.series_blocks(
            rows.side(),
            rows.series_side(),
            columns.side(),
            columns.series_side(),
            layers,
            plan,
            tasks,
            mirror,
            out,
        )

    return fill, plan.block


def _padded(jumps: Array, kinks: Any) -> Array:
    """Jumps (J, 4) for all kinks that jump at all; those whose jumps a table leaves out get zeros."""
    some = np.array([k.jumps for k in kinks if any(k.jumps)], dtype=np.float64).reshape(-1, 4)
    keep = jumps.any(axis=0) if jumps.size else np.zeros(4, dtype=bool)
    return np.where(keep, some, 0.0)
