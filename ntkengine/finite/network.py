"""Networks of finite width: parameters, outputs, empirical kernels.

One :class:`Networks` object holds E members of one architecture side by side, each with its own random stream.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ntkengine import _jit
from ntkengine._check import integer, real_array, shown
from ntkengine.errors import InputError
from ntkengine.finite import _sgd_cpu
from ntkengine.infinite._limits import count

if TYPE_CHECKING:
    from ntkengine.infinite.fcn import FCN

__all__ = [
    "Networks",
    "available_bytes",
    "check_inputs",
    "check_shape",
    "lift",
    "parameter_count",
    "row_block",
]

Floats = NDArray[np.floating[Any]]

#: A block of rows should keep its z, φ and φ' in a core's own cache.
_CACHE_BYTES = 832 * 1024
_DRAW = 1 << 20


def check_inputs(x: ArrayLike, n_inputs: int | None, name: str = "X") -> NDArray[np.float64]:
    """``x`` as a finite float64 array (n, d); InputError names what is wrong and where."""
    array = real_array(name, x)
    if array.ndim != 2 or array.shape[0] == 0:
        raise InputError(f"{name} must have shape (n, d) with n ≥ 1, not {array.shape}")
    if n_inputs is not None and array.shape[1] != n_inputs:
        raise InputError(f"{name} has {array.shape[1]} columns; the networks take {n_inputs} inputs")
    return array


def lift(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The radial lift's two factors: x/r (zero where r = 0) and r = |x|/√d, of shapes (n, d) and (n,)."""
    largest = np.abs(x).max(axis=1)  # so that no square overflows or vanishes
    unit = x / np.where(largest > 0, largest, 1.0)[:, None]
    length = np.sqrt(np.einsum("ij,ij->i", unit, unit) / x.shape[1])
    return unit / np.where(length > 0, length, 1.0)[:, None], largest * length


def available_bytes() -> int:
    """Memory that can be had without swapping, as far as the system tells."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 62


class Networks:
    """E fully-connected networks of one architecture.

    In the NTK parameterisation every entry of W and b is an N(0, 1) parameter; the standard deviations and 1/√fan_in are
    applied in the forward pass. In the standard one they are in the parameters, W ~ N(0, σ_w²/fan_in) and b ~ N(0, σ_b²). A
    bias exists, and is trained, only where its standard deviation is positive.

    Made by :meth:`FCN.init <ntkengine.infinite.fcn.FCN.init>` or :meth:`from_parameters`.

    Attributes
    ----------
    fcn : FCN
    fan : tuple of int
        (d, N_1, ..., N_L, m).
    theta : (E, P) array
        All parameters, member by member: W¹ (d, N_1) row-major, b¹, W², ...; changed in place by training.

    Examples
    --------
    >>> import ntkengine as nk
    >>> nets = nk.FCN("relu", depth=2, w_std=2**0.5).init(width=64, n_inputs=3, n_outputs=2, members=5)
    >>> nets.members, nets.n_parameters
    (5, 4416)
    >>> nets.predict([[1.0, 0.0, -1.0]]).shape
    (5, 1, 2)
    """

    def __init__(
        self, fcn: FCN, fan: Sequence[int], theta: Floats, origin: tuple[int, tuple[int, ...]] | Floats
    ) -> None:
        self.fcn, self.fan, self.theta = fcn, tuple(int(f) for f in fan), theta
        self._origin = origin  # how to draw the parameters at initialisation again, or a copy of them

    # --- making ---

    @classmethod
    def init(
        cls,
        fcn: FCN,
        *,
        width: int | Sequence[int],
        n_inputs: int,
        n_outputs: int = 1,
        seed: int = 0,
        members: int | Iterable[int] = 1,
        dtype: DTypeLike = np.float32,
    ) -> Networks:
        """Draw E networks; see :meth:`FCN.init <ntkengine.infinite.fcn.FCN.init>` for the parameters."""
        fan, indices, real = check_shape(fcn, width, n_inputs, n_outputs, members, dtype)
        seed = integer("seed", seed, 0)
        theta = np.empty((len(indices), parameter_count(fcn, fan)), real)
        for row, member in enumerate(indices):
            _draw(theta[row], int(seed), member)
        nets = cls(fcn, fan, theta, (int(seed), indices))
        if fcn.parameterization == "standard":
            for layer, (weights, biases) in enumerate(nets.parameters()):
                w_std, b_std = _stds(fcn, layer)
                weights *= w_std / np.sqrt(fan[layer])
                if biases is not None:
                    biases *= b_std
        return nets

    @classmethod
    def from_parameters(
        cls, fcn: FCN, parameters: Sequence[tuple[ArrayLike, ArrayLike | None]], dtype: DTypeLike = np.float32
    ) -> Networks:
        """One member with given parameters, scaled as by :meth:`init`: (W (fan_in, fan_out), b (fan_out,) or None) each."""
        maps = fcn.depth + 1
        if len(parameters) != maps:
            raise InputError(
                f"parameters name {len(parameters)} layers; depth {fcn.depth} needs {maps}, the readout included"
            )
        runs: list[NDArray[np.float64]] = []
        fan: list[int] = []
        for layer, (weight, bias) in enumerate(parameters):
            w = np.asarray(weight, dtype=np.float64)
            if w.ndim != 2 or (fan and w.shape[0] != fan[-1]):
                raise InputError(
                    f"W of layer {layer + 1} has shape {w.shape}; expected ({fan[-1] if fan else 'd'}, fan_out)"
                )
            fan = fan or [w.shape[0]]
            fan.append(w.shape[1])
            runs.append(w.ravel())
            wants_bias = _stds(fcn, layer)[1] > 0
            if wants_bias != (bias is not None):
                state = "positive: a bias is needed" if wants_bias else "0: there is no bias"
                raise InputError(f"b of layer {layer + 1}: the architecture's bias std is {state}")
            if bias is not None:
                b = np.asarray(bias, dtype=np.float64)
                if b.shape != (w.shape[1],):
                    raise InputError(f"b of layer {layer + 1} has shape {b.shape}; expected ({w.shape[1]},)")
                runs.append(b)
        theta = np.concatenate(runs)[None].astype(dtype)
        if not np.isfinite(theta).all():
            raise InputError("parameters hold non-finite values")
        return cls(fcn, fan, theta, theta.copy())

    # --- looking ---

    @property
    def members(self) -> int:
        """E."""
        return int(self.theta.shape[0])

    @property
    def member_numbers(self) -> tuple[int, ...]:
        """Which stream each member draws from: member i of many is bit-equal to member i alone."""
        return self._origin[1] if isinstance(self._origin, tuple) else tuple(range(self.members))

    @property
    def n_inputs(self) -> int:
        """d."""
        return self.fan[0]

    @property
    def n_outputs(self) -> int:
        """m."""
        return self.fan[-1]

    @property
    def n_parameters(self) -> int:
        """P, of one member."""
        return int(self.theta.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self.theta.dtype

    def parameters(self) -> list[tuple[Floats, Floats | None]]:
        """Views of the parameters: per affine map W (E, fan_in, fan_out) and b (E, fan_out) or None."""
        layout, out = self.layout(), []
        for layer in range(len(self.fan) - 1):
            fan_in, fan_out = self.fan[layer], self.fan[layer + 1]
            at, bias = int(layout.w_offset[layer]), int(layout.b_offset[layer])
            w = self.theta[:, at : at + fan_in * fan_out].reshape(self.members, fan_in, fan_out)
            out.append((w, self.theta[:, bias : bias + fan_out] if bias >= 0 else None))
        return out

    def layout(self) -> _sgd_cpu.Layout:
        """Where parameters lie and how they enter, for compiled code."""
        maps, real = len(self.fan) - 1, self.dtype
        w_offset, b_offset = np.empty(maps, np.int64), np.full(maps, -1, np.int64)
        w_scale, b_scale = np.empty(maps, real), np.empty(maps, real)
        at = 0
        for layer in range(maps):
            w_std, b_std = _stds(self.fcn, layer)
            w_offset[layer] = at
            at += self.fan[layer] * self.fan[layer + 1]
            if b_std > 0:
                b_offset[layer] = at
                at += self.fan[layer + 1]
            if self.fcn.parameterization == "standard":
                w_scale[layer], b_scale[layer] = 1.0, float(b_std > 0)
            else:
                w_scale[layer], b_scale[layer] = w_std / np.sqrt(self.fan[layer]), b_std
        tile = self.fcn.activation.tile(real)
        params = self.fcn.activation.tile_parameters(real)
        return _sgd_cpu.Layout(
            np.array(self.fan, np.int64),
            w_offset,
            b_offset,
            w_scale,
            b_scale,
            np.full(maps - 1, tile.address, np.int64),
            np.tile(params, (maps - 1, 1)),
        )

    def initial(self) -> Networks:
        """The same networks as they were before any training (drawn again from their seeds)."""
        if isinstance(self._origin, tuple):
            seed, indices = self._origin
            return Networks.init(
                self.fcn,
                width=self.fan[1:-1],
                n_inputs=self.n_inputs,
                n_outputs=self.n_outputs,
                seed=seed,
                members=indices,
                dtype=self.dtype,
            )
        return Networks(self.fcn, self.fan, self._origin.copy(), self._origin)

    def prepare(self, x: NDArray[np.float64]) -> tuple[Floats, Floats]:
        """Inputs as the compiled code takes them: rows (n, d) and the factor (n,) of each row's outputs."""
        rows, scale = lift(x) if self.fcn.radial_lift else (x, np.ones(x.shape[0]))
        return self.cast(rows, "an input"), self.cast(scale, "an input's norm")

    def cast(self, values: NDArray[np.float64], what: str) -> Floats:
        """``values`` in the networks' precision, C-contiguous; InputError if one is too large for it."""
        with np.errstate(over="ignore"):
            found = np.ascontiguousarray(values, self.dtype)
        if not np.isfinite(found).all():
            worst = float(np.abs(values).max())
            raise InputError(
                f"{what} of size {worst:.3g} is too large for {self.dtype}; rescale it, or use dtype='float64'"
            )
        return found

    # --- computing ---

    def predict(self, X: ArrayLike, *, centered: bool = False, threads: int | None = None) -> Floats:
        """Outputs f(x; θ) of every member, shape (E, n, m).

        Parameters
        ----------
        X : (n, d) array
        centered : bool
            Subtract the outputs at initialisation, as centered training does: f(x; θ) − f(x; θ₀).
        threads : int, optional

        Examples
        --------
        >>> import ntkengine as nk
        >>> nets = nk.FCN("relu", depth=2, w_std=2**0.5).init(width=64, n_inputs=3, seed=0, members=2)
        >>> nets.predict([[1.0, 0.0, -1.0]]).shape
        (2, 1, 1)
        """
        rows, scale = self.prepare(check_inputs(X, self.n_inputs))
        with _jit.threads(threads) as count:
            layout, block = self.layout(), row_block(self.fan, self.dtype, rows.shape[0])
            outputs = _sgd_cpu.forward_members(layout, self.theta, rows, scale, block, count)
            if centered:
                outputs -= _sgd_cpu.forward_members(layout, self.initial().theta, rows, scale, block, count)
        return outputs

    def empirical_ntk(self, X1: ArrayLike, X2: ArrayLike | None = None) -> Floats:
        """Empirical NTK of every member, averaged over outputs: see :func:`ntkengine.finite.empirical.empirical_ntk`."""
        from ntkengine.finite.empirical import empirical_ntk

        return empirical_ntk(self, X1, X2)

    def empirical_nngp(self, X1: ArrayLike, X2: ArrayLike | None = None) -> Floats:
        """Empirical NNGP kernel of every member: see :func:`ntkengine.finite.empirical.empirical_nngp`."""
        from ntkengine.finite.empirical import empirical_nngp

        return empirical_nngp(self, X1, X2)


def check_shape(
    fcn: FCN,
    width: int | Sequence[int],
    n_inputs: int,
    n_outputs: int,
    members: int | Iterable[int],
    dtype: DTypeLike,
) -> tuple[list[int], tuple[int, ...], np.dtype[Any]]:
    """(d, N_1, ..., N_L, m), the members' numbers and the dtype; InputError for what is not allowed or does not fit.

    Nothing is allocated: networks larger than the free memory are refused here, with both sizes.
    """
    widths = list(width) if isinstance(width, (list, tuple, np.ndarray)) else [width] * fcn.depth
    if len(widths) != fcn.depth:
        raise InputError(f"width names {len(widths)} layers, but the network has depth {fcn.depth}")
    fan = [
        count("n_inputs", n_inputs),
        *(count("width", w) for w in widths),
        count("n_outputs", n_outputs),
    ]
    indices = _member_indices(members)
    try:
        real = np.dtype(dtype)
    except (TypeError, ValueError):  # ValueError: of a number too long for NumPy's own text
        raise InputError(f"dtype must be float32 or float64, not {shown(dtype)}") from None
    if real not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise InputError(f"dtype must be float32 or float64, not {real}")
    size = parameter_count(fcn, fan)
    needed, free = len(indices) * size * real.itemsize, available_bytes()
    if needed > free:
        raise InputError(
            f"{len(indices)} networks of {size:,} parameters need {needed / 2**30:.1f} GiB, but "
            f"{free / 2**30:.1f} GiB are free; lower width, depth or members"
        )
    return fan, tuple(indices), real


def row_block(fan: Sequence[int], dtype: np.dtype[Any], rows: int) -> int:
    """Rows a block: as many as stay in cache, at least 8, and few enough that every lane has a share of ``rows``."""
    per_row = (fan[0] + fan[-1] + max(fan[1:-1]) + 2 * sum(fan[1:-1])) * dtype.itemsize
    share = -(-rows // _sgd_cpu.LANES)
    return int(max(8, min(_CACHE_BYTES // per_row // 8 * 8, -(-share // 8) * 8)))


def _stds(fcn: FCN, layer: int) -> tuple[float, float]:
    if layer == fcn.depth:
        return fcn.readout_w_std, fcn.readout_b_std
    return fcn.w_std, fcn.b_std


def parameter_count(fcn: FCN, fan: Sequence[int]) -> int:
    """P: parameters of one member with layers (d, N_1, ..., N_L, m)."""
    return sum(fan[i] * fan[i + 1] + (fan[i + 1] if _stds(fcn, i)[1] > 0 else 0) for i in range(len(fan) - 1))


def _member_indices(members: int | Iterable[int]) -> Sequence[int]:
    if (
        isinstance(members, (int, np.integer))
        or not isinstance(members, Iterable)
        or isinstance(members, str)
    ):
        return range(count("members", members, " or a sequence of member numbers"))
    indices = tuple(integer("a member's number", i, 0) for i in members)
    if not indices or len(set(indices)) < len(indices):
        raise InputError(f"members must name at least one member, and none twice, not {shown(list(indices))}")
    return indices


def _draw(theta: Floats, seed: int, member: int) -> None:
    """Fill one member's parameters with N(0, 1) from its own stream, the same values in float32 and float64."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(member, 0))))
    for start in range(0, theta.size, _DRAW):
        stop = min(start + _DRAW, theta.size)
        theta[start:stop] = rng.standard_normal(stop - start)
