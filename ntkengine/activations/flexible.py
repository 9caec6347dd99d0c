"""Flexible families, of any size up to 64, made for fits to kernels: piecewise linear and piecewise cubic functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from typing import Any, ClassVar

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkengine import _cache, _jit
from ntkengine._check import integer, real_array, shown
from ntkengine.activations import _expansions, tabulated
from ntkengine.activations.base import Activation, ActivationFamily, Kink, Parameter
from ntkengine.activations.series import Coefficients
from ntkengine.errors import InputError

__all__ = ["MAX_SIZE", "FlexibleFamily", "KinksFamily", "SplineFamily", "spline_expansion", "spline_knots"]

Array = NDArray[np.float64]

#: Largest size J of a flexible family.
MAX_SIZE = 64
#: Most kinks for which ``pair`` is unrolled, half of them at a time: LLVM gives up on longer loops.
UNROLLED = 32
_HALF = UNROLLED // 2
#: Values of z that a longer sum works on at a time.
_BLOCK = 128
#: How much kinks crowd at 0, in the order in which fits try it (see :func:`_graded`).
_RATIOS = (3.0, 2.0, 4.0, 1.0)
#: Fits put no knots nearer to 0 than 2^−_NEAREST standard deviations: where curvature changes faster, kernels lose accuracy.
_NEAREST = 6
#: Standard deviations that the default kinks and knots reach.
_REACH = 3.0


@dataclass(frozen=True, eq=False)
class FlexibleFamily(ActivationFamily):
    """A family of functions of any size J; called with its vectors it makes the activation.

    The family of that activation is :meth:`of_size`, in which every entry of a vector is a :class:`Parameter` of its own: that
    is what fits see.

    Parameters
    ----------
    maker : FlexibleFamily, optional
        The family of any size that this one of one size comes from.
    """

    maker: FlexibleFamily | None = field(default=None, kw_only=True)

    #: Smallest size, and the one that fits take unless told.
    least: ClassVar[int] = 1
    usual: ClassVar[int] = 8
    #: Names of the vectors, and what the names of their entries begin with.
    vectors: ClassVar[dict[str, str]] = {}
    #: Names of the other parameters.
    numbers: ClassVar[tuple[str, ...]] = ()

    @property
    def root(self) -> FlexibleFamily:
        """The family of any size."""
        return self.maker or self

    def of_size(self, size: int) -> FlexibleFamily:
        """The family of one size J.

        Raises
        ------
        InputError
            If there is no such size.
        """
        return _of_size(self.root, self._checked_size(size))

    def _checked_size(self, size: int) -> int:
        size = integer(f"size of activation {self.name!r}", size, self.least)
        if size > MAX_SIZE:
            raise InputError(
                f"size of activation {self.name!r} is {shown(size)}; from {self.least} to {MAX_SIZE} are allowed"
            )
        return size

    def entries(self, size: int) -> tuple[Parameter, ...]:
        """The parameters of one size, in the order of their values."""
        raise NotImplementedError

    def resembling(self, function: Callable[[Array], Array], scale: float, trial: int) -> tuple[float, ...]:
        """Values of a member near a function of z, for |z| up to a few ``scale``; with other places for other trials."""
        raise NotImplementedError

    @property
    def kinds(self) -> int:
        """How many choices of places :meth:`resembling` has."""
        raise NotImplementedError

    def __call__(self, /, **values: Any) -> Activation:
        """The activation with these vectors and numbers; or, of a family of one size, with these entries by name."""
        if self.maker is not None and not any(name in self.vectors for name in values):
            return super().__call__(**values)
        owner = f"activation {self.name!r}"
        for name in values:
            if name not in self.vectors and name not in self.numbers:
                listing = ", ".join([*self.vectors, *self.numbers])
                raise InputError(f"{owner} has no parameter {name!r}; its parameters: {listing}")
        vectors = {}
        for name in self.vectors:
            if name not in values:
                raise InputError(f"{owner} needs {name}, a vector")
            vectors[name] = real_array(f"{name} of {owner}", values[name])
            if vectors[name].ndim != 1:
                raise InputError(f"{name} of {owner} has shape {vectors[name].shape}; it must be a vector")
        lengths = {name: vector.size for name, vector in vectors.items()}
        if len(set(lengths.values())) > 1:
            raise InputError(f"vectors of {owner} differ in length: {lengths}")
        numbers = {name: values[name] for name in self.numbers if name in values}
        entries = {
            f"{self.vectors[name]}{j + 1}": entry
            for name, vector in vectors.items()
            for j, entry in enumerate(vector.tolist())
        }
        family = self.of_size(lengths.popitem()[1])
        return super(FlexibleFamily, family).__call__(**numbers, **entries)


@lru_cache(maxsize=4 * MAX_SIZE)
def _of_size(maker: FlexibleFamily, size: int) -> FlexibleFamily:
    return replace(maker, parameters=maker.entries(size), maker=maker)


def _graded(count: int, ratio: float) -> Array:
    """``count`` places from −1 to 1, evenly spaced in sinh⁻¹(sinh(ratio)·place): crowded at 0."""
    return np.sinh(ratio * np.linspace(-1.0, 1.0, count)) / math.sinh(ratio) if count > 1 else np.zeros(1)


# --- kinks --------------------------------------------------------------------------------------------------


def _kinks_pair(z, p):  # type: ignore[no-untyped-def]
    T = type(z)
    zero, count = T(0.0), (len(p) - 2) // 2
    phi, dphi = p[0] * z + p[1], p[0]
    for j in range(min(count, _HALF)):
        a, v = p[2 + j], z - p[2 + count + j]
        phi += a * (zero if v < zero else v)
        dphi += a if v > zero else zero
    for j in range(_HALF, count):
        a, v = p[2 + j], z - p[2 + count + j]
        phi += a * (zero if v < zero else v)
        dphi += a if v > zero else zero
    return phi, dphi


@cache  # never dropped: compiled loops hold its address
def _kinks_tile(dtype: np.dtype[Any]) -> Any:
    return _jit._compile(_kinks_run, dtype, f"{_cache.code_identity(_kinks_run)}|{dtype}")


def _kinks_run(n, z, params, phi, dphi):  # type: ignore[no-untyped-def]
    """The tile of :meth:`KinksFamily.packed` parameters: four kinks at a time, over a block of z."""
    size = int(numba.carray(params, 1)[0])
    p = numba.carray(params, 3 + 2 * size)
    z_run, phi_run, dphi_run = numba.carray(z, n), numba.carray(phi, n), numba.carray(dphi, n)
    rows = np.zeros(3 * _BLOCK, z_run.dtype)
    slope, offset, zero = p[1], p[2], rows[0]
    for first in range(0, n, _BLOCK):
        count = min(_BLOCK, n - first)
        for i in range(count):
            rows[i] = z_run[first + i]
        for i in range(_BLOCK):
            rows[i + _BLOCK], rows[i + 2 * _BLOCK] = slope * rows[i] + offset, slope
        for k in range(3, 3 + 2 * size, 8):
            a0, b0, a1, b1 = p[k], p[k + 1], p[k + 2], p[k + 3]
            a2, b2, a3, b3 = p[k + 4], p[k + 5], p[k + 6], p[k + 7]
            for i in range(_BLOCK):
                x = rows[i]
                v0, v1, v2, v3 = x - b0, x - b1, x - b2, x - b3
                low = a0 * (zero if v0 < zero else v0) + a1 * (zero if v1 < zero else v1)
                high = a2 * (zero if v2 < zero else v2) + a3 * (zero if v3 < zero else v3)
                rows[i + _BLOCK] += low + high
                left = (a0 if v0 > zero else zero) + (a1 if v1 > zero else zero)
                right = (a2 if v2 > zero else zero) + (a3 if v3 > zero else zero)
                rows[i + 2 * _BLOCK] += left + right
        for i in range(count):
            phi_run[first + i], dphi_run[first + i] = rows[i + _BLOCK], rows[i + 2 * _BLOCK]


@dataclass(frozen=True, eq=False)
class KinksFamily(FlexibleFamily):
    """φ(z) = c z + d + Σ_j a_j max(z − b_j, 0): J shifted ReLUs and an affine part; J from 1 to 64.

    Parameters of the call
    ----------------------
    a, b : (J,) array_like
        Jumps of the slope, and where they are.
    c, d : float
        Slope and value at 0 of the affine part (default 0).

    Examples
    --------
    >>> import ntkengine as nk
    >>> phi = nk.activation("kinks", a=[1.0, -1.0], b=[-1.0, 1.0], d=-1.0)
    >>> phi([-2.0, 0.5, 3.0])
    array([-1. ,  0.5,  1. ])
    >>> phi
    kinks(a=[1, -1], b=[-1, 1], c=0, d=-1)
    >>> [p.name for p in phi.family.parameters]
    ['c', 'd', 'a1', 'a2', 'b1', 'b2']
    """

    vectors: ClassVar[dict[str, str]] = {"a": "a", "b": "b"}
    numbers = ("c", "d")

    def entries(self, size: int) -> tuple[Parameter, ...]:
        """c, d, a1, ..., b1, ...: by default the kinks crowd at 0 and the slope rises from 0 to 1."""
        places = _REACH * _graded(size, 3.0)
        return (
            Parameter.amplitude("c", 0.0, "slope of the affine part"),
            Parameter.amplitude("d", 0.0, "offset"),
            *(Parameter.amplitude(f"a{j + 1}", 1 / size, "jump of the slope") for j in range(size)),
            *(Parameter.shift(f"b{j + 1}", float(places[j]), "kink") for j in range(size)),
        )

    def named(self, values: tuple[float, ...]) -> dict[str, Any]:
        """The vectors and numbers, as they are given to the family."""
        size = (len(values) - 2) // 2
        a, b = Coefficients(values[2 : 2 + size]), Coefficients(values[2 + size :])
        return {"a": a, "b": b, "c": values[0], "d": values[1]}

    def compile(self, dtype: np.dtype[Any]) -> Any:
        """The tile for a dtype: one for this size if it is small, else the one of all larger sizes."""
        return super().compile(dtype) if len(self.parameters) <= 2 + 2 * UNROLLED else _kinks_tile(dtype)

    def packed(self, values: tuple[float, ...]) -> ArrayLike:
        """The parameters as the tile reads them: many kinks as count, c, d, then pairs a_j, b_j made up to fours by halves."""
        size = (len(values) - 2) // 2
        if size <= UNROLLED:
            return values
        pairs = np.zeros((-(-size // 4) * 4, 2))
        pairs[:size, 0], pairs[:size, 1] = values[2 : 2 + size], values[2 + size :]
        for j in range(size, len(pairs)):  # not by zeros, or φ(inf) would be 0·inf
            pairs[j] = pairs[j - 1]
            pairs[j - 1 : j + 1, 0] /= 2
        return np.concatenate([[len(pairs), values[0], values[1]], pairs.ravel()])

    @property
    def kinds(self) -> int:
        """How many choices of places there are."""
        return len(_RATIOS)

    def resembling(self, function: Callable[[Array], Array], scale: float, trial: int) -> tuple[float, ...]:
        """The function interpolated linearly between kinks, which crowd at 0 more or less."""
        size = (len(self.parameters) - 2) // 2
        b = scale * _REACH * _graded(size, _RATIOS[trial % self.kinds])
        places = np.concatenate([[-4 * scale], b, [4 * scale]])
        f = function(places)
        slopes = np.diff(f) / np.diff(places)
        offset = f[0] - slopes[0] * places[0]
        return (float(slopes[0]), float(offset), *np.diff(slopes).tolist(), *b.tolist())


def _kinks_of(p: Array) -> list[Kink]:
    size = (len(p) - 2) // 2
    return [Kink(float(b), slope_jump=float(a)) for a, b in zip(p[2 : 2 + size], p[2 + size :])]


def _kinks_coefficients(p: Array, variance: float, degree: int) -> Array:
    size = (len(p) - 2) // 2
    ramps = _powers_beyond(p[2 + size :] / math.sqrt(variance), 1, degree)
    return _expansions.line(p[1], p[0], variance, degree) + math.sqrt(variance) * (p[2 : 2 + size] @ ramps)


def _powers_beyond(h: Array, order: int, degree: int) -> Array:
    """Hermite coefficients of (z − h_j)^m₊/m!, m = ``order``; (J, degree+1).

    ``h_{k−m−1}(h) p(h)/√(k(k−1)···(k−m))`` for k > m, from ``√(k+1) (f_m)_{k+1} = (f_{m−1})_k``; before that
    ``E[(z − h)^{m−k}₊]/((m−k)! √k!)``, with ``T_j = (j−1) T_{j−2} − h T_{j−1}``.
    """
    from ntkengine.hermite import hermite_functions  # which imports this package

    out = np.zeros((h.size, degree + 1))
    tail = np.array([0.5 * math.erfc(x * math.sqrt(0.5)) for x in h])
    moments = [tail, np.exp(-0.5 * h * h) / math.sqrt(2 * math.pi) - h * tail]
    for j in range(2, order + 1):
        moments.append((j - 1) * moments[j - 2] - h * moments[j - 1])
    for k in range(min(order, degree) + 1):
        out[:, k] = moments[order - k] / (math.factorial(order - k) * math.sqrt(math.factorial(k)))
    if degree > order:
        root = np.exp(-0.25 * h * h)[:, None] / (2 * math.pi) ** 0.25
        degrees = np.arange(order + 1.0, degree + 1)
        falling = np.prod([degrees - i for i in range(order + 1)], axis=0)
        out[:, order + 1 :] = root * hermite_functions(h, degree - order - 1) / np.sqrt(falling)
    return out


kinks_family = KinksFamily(
    "kinks",
    _kinks_pair,
    formula="c*z + d + Σ a_j max(z - b_j, 0)",
    kinks=_kinks_of,
    coefficients=_kinks_coefficients,
)


# --- splines ------------------------------------------------------------------------------------------------


def spline_knots(size: int, density: int, start: int) -> Array:
    """The knots of a spline, ascending: 0 and ± the first nodes of :func:`ntkengine.activations.tabulated.nodes`; (size,).

    Examples
    --------
    >>> spline_knots(5, 1, 2), spline_knots(7, 0, -1)
    (array([-4., -2.,  0.,  2.,  4.]), array([-3.5, -1.5, -0.5,  0. ,  0.5,  1.5,  3.5]))
    """
    right = tabulated.nodes(size // 2 + 1, density, start)
    return np.concatenate([-right[:0:-1], right])


@lru_cache(maxsize=256)
def _slope_matrix(size: int, density: int, start: int) -> Array:
    """The slopes at the knots of the natural cubic spline, as a linear map of the values; (size, size), read-only.

    φ'' is continuous at the inner knots and 0 at the outer ones:
    ``d_{i−1}/h_{i−1} + 2 (1/h_{i−1} + 1/h_i) d_i + d_{i+1}/h_i = 3 (r_{i−1}/h_{i−1} + r_i/h_i)``, r the slopes of the chords.
    """
    t = spline_knots(size, density, start)
    inverse = 1 / np.diff(t)
    chords = inverse[:, None] * np.diff(np.eye(size), axis=0)
    near, far = np.append(inverse, 0.0), np.append(0.0, inverse)  # of the intervals right and left of a knot
    system = np.diag(2 * (near + far)) + np.diag(inverse, 1) + np.diag(inverse, -1)
    wanted = np.zeros((size, size))
    wanted[:-1] += 3 * inverse[:, None] * chords
    wanted[1:] += 3 * inverse[:, None] * chords
    matrix = np.linalg.solve(system, wanted)
    matrix.flags.writeable = False
    return matrix


def _split(p: ArrayLike) -> tuple[Array, int, int]:
    """Values, density and start of a spline's parameters."""
    p = np.asarray(p, dtype=np.float64)
    return p[2:], int(p[0]), int(p[1])


def _interval_rows(values: Array, density: int, start: int) -> Array:
    """c_0..c_3 in powers of the distance from the left knot, from knot to knot; values (..., J) to (..., J−1, 4)."""
    size = values.shape[-1]
    slopes = values @ _slope_matrix(size, density, start).T
    h = np.diff(spline_knots(size, density, start))
    rise, left, right = np.diff(values) / h, slopes[..., :-1], slopes[..., 1:]
    return np.stack(
        [values[..., :-1], left, (3 * rise - 2 * left - right) / h, (left + right - 2 * rise) / h**2], axis=-1
    )


def spline_expansion(values: Array, density: int, start: int, variance: float, degree: int) -> Array:
    """Hermite coefficients a_k(q), q the variance, of splines given by their values (..., J); (..., degree+1).

    The cubic right of 0, and what is added to it beyond every knot, seen from 0: sums that cancel little.
    """
    size = values.shape[-1]
    rows = _interval_rows(values, density, start)
    jumps = variance**1.5 * 6 * np.diff(rows[..., 3], prepend=0.0, append=0.0)
    h, right = spline_knots(size, density, start) / math.sqrt(variance), size // 2 + 1
    powers = np.array([_expansions.powers(unit, variance, degree) for unit in np.eye(4)])
    signs = (-1.0) ** np.arange(degree + 1)
    return (
        rows[..., size // 2, :] @ powers
        + jumps[..., right:] @ _powers_beyond(h[right:], 3, degree)
        + jumps[..., :right] @ (signs * _powers_beyond(-h[:right], 3, degree))
    )


@dataclass(frozen=True, eq=False)
class SplineFamily(FlexibleFamily):
    """The natural cubic spline through J values: C², piecewise cubic, linear beyond the outer knots; J odd, from 3 to 63.

    The knots are 0 and ± the first nodes of a table (:func:`spline_knots`), so that the tile of tables serves splines too:
    evenly spaced up to 2^start, then twice as wide in every octave. φ is linear in the values.

    Parameters of the call
    ----------------------
    values : (J,) array_like
        φ at the knots, ascending.
    density, start : int
        2^density intervals to an octave of |z| + 2^start. Default: evenly spaced knots that reach 3 to 6.

    Examples
    --------
    >>> import ntkengine as nk
    >>> phi = nk.activation("spline", values=[0.0, 0.0, 0.0, 2.0, 4.0], density=1, start=2)
    >>> phi([-3.0, 2.0, 6.0]).round(6) + 0.0
    array([0.053571, 2.      , 5.857143])
    >>> [p.name for p in phi.family.parameters]
    ['density', 'start', 'y1', 'y2', 'y3', 'y4', 'y5']
    """

    least = 3
    usual = 17
    vectors: ClassVar[dict[str, str]] = {"values": "y"}
    numbers = ("density", "start")

    def _checked_size(self, size: int) -> int:
        size = super()._checked_size(size)
        if size % 2 == 0:
            raise InputError(
                f"size of activation {self.name!r} is {size}; splines have an odd number of knots, 3 to 63, one of them at 0"
            )
        return size

    def entries(self, size: int) -> tuple[Parameter, ...]:
        """density, start, y1, ..., yJ: by default a ReLU at evenly spaced knots."""
        density, start = _shape(size, _finest(size), 1.0)
        knots = spline_knots(size, density, start)
        return (
            Parameter("density", density, 0, 10, "2^density intervals to an octave", integer=True),
            Parameter("start", start, -40, 10, "the knots are evenly spaced up to 2^start", integer=True),
            *(
                Parameter.amplitude(f"y{j + 1}", max(float(t), 0.0), "value at a knot")
                for j, t in enumerate(knots)
            ),
        )

    def named(self, values: tuple[float, ...]) -> dict[str, Any]:
        """The vectors and numbers, as they are given to the family."""
        return {"values": Coefficients(values[2:]), "density": int(values[0]), "start": int(values[1])}

    def compile(self, dtype: np.dtype[Any]) -> Any:
        """The tile for a dtype: that of tables."""
        return tabulated._table_tile(dtype)

    def packed(self, values: tuple[float, ...]) -> ArrayLike:
        """The parameters as the tile of tables reads them: a header, c_0..c_3 from each knot outwards, right side first."""
        y, density, start = _split(values)
        count = y.size // 2 + 1
        slopes = _slope_matrix(y.size, density, start) @ y
        rows = _interval_rows(y, density, start)
        at, width = rows[: count - 1][::-1], np.diff(tabulated.nodes(count, density, start))[:, None]
        table = np.zeros((2 * count, 4))
        table[: count - 1] = rows[count - 1 :]
        table[count - 1, :2] = y[-1], slopes[-1]
        c1, c2, c3 = at[:, 1:2], at[:, 2:3], at[:, 3:4]  # seen from the right end, with the axis turned
        inwards = np.hstack([-(c1 + width * (2 * c2 + 3 * width * c3)), c2 + 3 * width * c3, -c3])
        table[count : 2 * count - 1, 0] = y[count - 1 : 0 : -1]
        table[count : 2 * count - 1, 1:] = inwards
        table[2 * count - 1, :2] = y[0], -slopes[0]
        return np.concatenate([[count, density, start, 0.0], table.ravel()])

    @property
    def kinds(self) -> int:
        """How many choices of places there are: as long as knots are not nearer to 0 than 2^−_NEAREST."""
        size = len(self.parameters) - 2
        shapes = [_shape(size, density, 1.0) for density in range(_finest(size) + 1)]
        return sum(start - density >= -_NEAREST for density, start in shapes)

    def resembling(self, function: Callable[[Array], Array], scale: float, trial: int) -> tuple[float, ...]:
        """The function at the knots, which are evenly spaced, then crowd at 0 more and more."""
        size = len(self.parameters) - 2
        density, start = _shape(size, _finest(size) - trial % self.kinds, scale)
        values = function(spline_knots(size, density, start))
        return (float(density), float(start), *values.tolist())


def _finest(size: int) -> int:
    """The density with which all knots lie within an octave, evenly spaced."""
    return math.ceil(math.log2(size // 2))


def _shape(size: int, density: int, scale: float) -> tuple[int, int]:
    """(density, start) with the outer knots between 3 and 6 times the scale."""
    farthest = float(tabulated.nodes(size // 2 + 1, density, 0)[-1])
    return density, min(max(math.ceil(math.log2(_REACH * scale / farthest)), -40), 10)


def _spline_kinks(p: Array) -> Sequence[Kink]:
    values, density, start = _split(p)
    jumps = 6 * np.diff(_interval_rows(values, density, start)[:, 3], prepend=0.0, append=0.0)
    knots = spline_knots(values.size, density, start)
    return [Kink(float(t), third_jump=float(jump)) for t, jump in zip(knots, jumps)]


def _spline_coefficients(p: Array, variance: float, degree: int) -> Array:
    return spline_expansion(*_split(p), variance, degree)


spline_family = SplineFamily(
    "spline",
    tabulated._pair,
    formula="the natural cubic spline through values at 2^density knots to an octave of |z| + 2^start",
    kinks=_spline_kinks,
    coefficients=_spline_coefficients,
)
