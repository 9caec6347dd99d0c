"""Families with one array parameter: φ(z) = Σ_k c_k f_k(z) in polynomials f_k with a three-term recurrence.

Short sums compile into tiles of their own, from the family's ``pair`` with its loop unrolled. Long ones share one tile
for every family and length, by Clenshaw's recurrence over blocks of z (Clenshaw, Math. Comp. 9 (1955) 118).
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkengine import _cache, _jit
from ntkengine._check import shown
from ntkengine.activations.base import Activation, ActivationFamily, Parameter
from ntkengine.errors import InputError

__all__ = ["MAX_SIZE", "MAX_VARIANCE", "UNROLLED", "Coefficients", "SeriesFamily"]

Array = NDArray[np.float64]

#: Most coefficients in an activation.
MAX_SIZE = 8192
#: The variance of a family is at most this, and at least its inverse: √v is a number of float32 then.
MAX_VARIANCE = 1e64
#: Most coefficients for which ``pair`` is unrolled: LLVM gives up unrolling, and then vectorising, beyond about 20.
UNROLLED = 16
#: Values of z that a long sum works on at a time: five rows of them stay in the first-level cache.
_BLOCK = 128
#: More coefficients than that are shortened in print.
_SHOWN = 6


class Coefficients(tuple[float, ...]):
    """A tuple of floats that formats like a list of numbers, shortened where it is long.

    Examples
    --------
    >>> f"{Coefficients((0.0, 1.0, 0.123456789)):.3g}"
    '[0, 1, 0.123]'
    >>> f"{Coefficients(k / 8 for k in range(400)):.3g}"
    '[0, 0.125, 0.25, ..., 49.9: 400 entries]'
    """

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        texts = [format(c, spec) for c in (self if len(self) <= _SHOWN else (*self[:3], self[-1]))]
        if len(self) <= _SHOWN:
            return f"[{', '.join(texts)}]"
        return f"[{', '.join(texts[:3])}, ..., {texts[3]}: {len(self)} entries]"


@dataclass(frozen=True, eq=False)
class SeriesFamily(ActivationFamily):
    """A family whose one parameter is a vector, ``coefficients``, of any length from 1 to 8192.

    Called with the vector it makes the activation. The family of that activation is :meth:`of_size`, in which every entry
    is a :class:`Parameter` of its own, called c0, c1, ..., without bounds and by default 2^−k, where fits start: that is what
    optimisers and fits see. A ``variance`` belongs to the family of one size, and no fit moves it: at any v the same functions
    are in reach.

    Parameters
    ----------
    recurrence : callable
        ``recurrence(n) -> (rate, fall, slope)``, three (n,) arrays for k = 0..n−1, n the number of coefficients:
        ``f_0 = 1, f_{k+1} = rate_k z f_k − fall_{k−1} f_{k−1}``, ``f_k' = slope_k f_{k−1}``.
    maker : SeriesFamily, optional
        The family of any size that this one of one size comes from.
    variance : float, optional
        v, which makes φ(z) = Σ_k c_k f_k(z/√v); of the family of any size the default, 1. None: f_k are functions of z itself,
        and the call takes no ``variance``.

    The rest are those of :class:`ActivationFamily`; ``pair`` loops over the ``len(p)`` coefficients, which 1/√v follows in p
    where the family has a variance. ``coefficients`` are those at v = 1.

    Examples
    --------
    >>> import ntkengine as nk
    >>> phi = nk.activation("polynomial", coefficients=[0, 1, 0.5])
    >>> phi([0.0, 2.0])
    array([0., 4.])
    >>> [p.name for p in phi.family.parameters]
    ['c0', 'c1', 'c2']
    >>> phi = nk.activation("hermite", coefficients=[0, 1, 0.5], variance=4.0)
    >>> phi([0.0, 2.0]).round(6)  # z/2 + (z²/4 − 1)/√8
    array([-0.353553,  1.      ])
    >>> phi.hermite(2, variance=4.0)
    array([0. , 1. , 0.5])
    """

    recurrence: Callable[[int], tuple[Array, Array, Array]] = field(kw_only=True)
    maker: SeriesFamily | None = field(default=None, kw_only=True)
    variance: float | None = field(default=None, kw_only=True)

    def __eq__(self, other: object) -> bool:
        same = super().__eq__(other)
        return same if same is not True else self.variance == other.variance  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return super().__hash__()

    @property
    def root(self) -> SeriesFamily:
        """The family of any size."""
        return self.maker or self

    def of_size(self, size: int, variance: float | None = None) -> SeriesFamily:
        """The family of one size and variance (None: its own), the same object each time (of those last used)."""
        return _of_size(self.root, size, self.variance if variance is None else variance)

    def __call__(self, /, **values: Any) -> Activation:
        """The activation with these ``coefficients``, a vector, and this ``variance``, if the family has one.

        Of a family of one size also with entries by name.

        Raises
        ------
        InputError
            If an entry is not a finite number, there are none or too many, or the variance is not from 1e-64 to 1e64.
        """
        known = ["coefficients"] if self.variance is None else ["coefficients", "variance"]
        if self.maker is not None and not any(name in known for name in values):
            return super().__call__(**values)
        for name in values:
            if name not in known:
                raise InputError(
                    f"activation {self.name!r} has no parameter {name!r}; its parameters: {', '.join(known)}"
                )
        if "coefficients" not in values:
            raise InputError(
                f"activation {self.name!r} needs coefficients, a vector c_0, ..., c_n, such as coefficients=[0, 1, 0.5]"
            )
        entries = _read(f"activation {self.name!r}", values["coefficients"])
        variance = self.variance
        if "variance" in values:
            allowed = Parameter("variance", 1.0, 1 / MAX_VARIANCE, MAX_VARIANCE)
            variance = allowed.checked(f"activation {self.name!r}", values["variance"])
        return Activation(self.of_size(len(entries), variance), entries)

    def named(self, values: tuple[float, ...]) -> dict[str, Any]:
        """The coefficients, and the variance if it is not the default, as they are given to the family."""
        given: dict[str, Any] = {"coefficients": Coefficients(values)}
        return given if self.variance == self.root.variance else {**given, "variance": self.variance}

    def scaled_recurrence(self, size: int) -> tuple[Array, Array, Array]:
        """The recurrence of f_k(z/√v), k = 0..size−1: ``rate``, ``fall`` and ``slope`` as in ``recurrence``.

        Examples
        --------
        >>> import ntkengine as nk
        >>> family = nk.activation("hermite", coefficients=[0, 1], variance=4.0).family
        >>> [row.round(4).tolist() for row in family.scaled_recurrence(2)]
        [[0.5, 0.3536], [0.7071, 0.8165], [0.0, 0.5]]
        """
        rate, fall, slope = self.recurrence(size)
        return rate * self._inverse, fall, slope * self._inverse

    @property
    def _inverse(self) -> float:
        """1/√v."""
        return 1 / math.sqrt(1.0 if self.variance is None else self.variance)

    def compile(self, dtype: np.dtype[Any]) -> Any:
        """The tile for a dtype: one for this size if it is short, else the one of all long sums; whatever the variance."""
        size = len(self.parameters)
        if size > UNROLLED:
            return _long_tile(dtype)
        return _short_tile(self.pair, size + (self.variance is not None), dtype, self.identity)

    def packed(self, values: tuple[float, ...]) -> ArrayLike:
        """The parameters as the tile reads them: for a long sum its length n, then c_k, slope_{k+1} c_{k+1}, rate_k, fall_k."""
        size = len(values)
        if size <= UNROLLED:
            return values if self.variance is None else (*values, self._inverse)
        rate, fall, slope = self.scaled_recurrence(size)
        c = np.array(values)
        rows = np.zeros((size, 4))
        rows[:, 0], rows[:, 2], rows[:, 3] = c, rate, fall
        rows[:-1, 1] = slope[1:] * c[1:]
        return np.concatenate([[size], rows.reshape(-1)])


@lru_cache(maxsize=64)
def _of_size(maker: SeriesFamily, size: int, variance: float | None) -> SeriesFamily:
    if variance == maker.variance:
        entries = tuple(Parameter(f"c{k}", 2.0**-k) for k in range(size))
        return replace(maker, parameters=entries, maker=maker)
    plain = _of_size(maker, size, maker.variance)
    closed = None if plain.coefficients is None else _Rescaled(plain.coefficients, float(variance or 1.0))
    return replace(plain, variance=variance, coefficients=closed)


@dataclass(frozen=True)
class _Rescaled:
    """``coefficients`` of z ↦ φ(z/√v): at variance q those of φ at q/v, which is 1 where but rounding keeps it from 1."""

    coefficients: Callable[[Array, float, int], Array]
    variance: float

    def __call__(self, p: Array, variance: float, degree: int) -> Array:
        ratio = min(max(variance / self.variance, 1e-300), 1e300)
        return self.coefficients(p, 1.0 if abs(ratio - 1) < 1e-15 else ratio, degree)


def _read(owner: str, coefficients: Any) -> tuple[float, ...]:
    """The coefficients as floats; InputError names the entry that is wrong."""
    where = f"coefficients of {owner}"
    try:
        array = np.asarray(coefficients)
    except ValueError:
        raise InputError(f"{where} must be a vector; the rows given differ in length") from None
    if array.ndim != 1:
        shape = f"have shape {array.shape}" if array.ndim else f"are {shown(coefficients)}"
        raise InputError(f"{where} {shape}; a vector c_0, ..., c_n is needed")
    if not 1 <= array.size <= MAX_SIZE:
        raise InputError(f"{where} have {array.size} entries; 1 to {MAX_SIZE} are allowed")
    entries = array.tolist() if array.dtype.kind in "fiub" else list(coefficients)
    floats = []
    for k, entry in enumerate(entries):
        if not isinstance(entry, numbers.Real):
            raise InputError(f"coefficients[{k}] of {owner} must be a number, not {shown(entry)}")
        try:
            number = float(entry)
        except OverflowError:
            number = np.inf
        if not np.isfinite(number):
            raise InputError(f"coefficients[{k}] of {owner} is {number}; every coefficient must be finite")
        floats.append(number)
    return tuple(floats)


# --- tiles --------------------------------------------------------------------------------------------------


@cache  # never dropped: compiled loops hold its address
def _short_tile(pair: Callable[..., Any], count: int, dtype: np.dtype[Any], identity: str | None) -> Any:
    return _jit.compile_tile(pair, count, dtype, identity)


@cache  # never dropped: compiled loops hold its address
def _long_tile(dtype: np.dtype[Any]) -> Any:
    return _jit._compile(_long_run, dtype, f"{_cache.code_identity(_long_run)}|{dtype}")


def _long_run(n, z, params, phi, dphi):  # type: ignore[no-untyped-def]
    """The tile of :meth:`SeriesFamily.packed` parameters, compiled for pointers.

    ``b_k = c_k + rate_k z b_{k+1} − fall_k b_{k+2}``, φ = b_0, and the same with slope_{k+1} c_{k+1} for φ'. Four steps at a
    time, so that the rows of the block (z, b_{k+1}, b_{k+2} and the derivative's two) are read and written a quarter as
    often; one array holds them all, or LLVM would have to check that they do not overlap.
    """
    size = int(numba.carray(params, 1)[0])
    p = numba.carray(params, 1 + 4 * size)
    z_run, phi_run, dphi_run = numba.carray(z, n), numba.carray(phi, n), numba.carray(dphi, n)
    rows = np.zeros(5 * _BLOCK, z_run.dtype)
    top, zero = p[4 * size - 3], p[4 * size - 2]
    for first in range(0, n, _BLOCK):
        count = min(_BLOCK, n - first)
        for i in range(count):
            rows[i] = z_run[first + i]
        for i in range(_BLOCK):
            x = rows[i]
            rows[i + _BLOCK], rows[i + 2 * _BLOCK] = top if x == x else x, zero
            rows[i + 3 * _BLOCK], rows[i + 4 * _BLOCK] = zero, zero
        k = 4 * (size - 2) + 1  # where c_k stands
        for _ in range((size - 1) % 4):
            c, d, rate, fall = p[k], p[k + 1], p[k + 2], p[k + 3]
            for i in range(_BLOCK):
                x, b, above = rate * rows[i], rows[i + _BLOCK], rows[i + 2 * _BLOCK]
                e, beyond = rows[i + 3 * _BLOCK], rows[i + 4 * _BLOCK]
                rows[i + _BLOCK], rows[i + 2 * _BLOCK] = c + (x * b - fall * above), b
                rows[i + 3 * _BLOCK], rows[i + 4 * _BLOCK] = d + (x * e - fall * beyond), e
            k -= 4
        while k > 0:
            c0, d0, rate0, fall0 = p[k], p[k + 1], p[k + 2], p[k + 3]
            c1, d1, rate1, fall1 = p[k - 4], p[k - 3], p[k - 2], p[k - 1]
            c2, d2, rate2, fall2 = p[k - 8], p[k - 7], p[k - 6], p[k - 5]
            c3, d3, rate3, fall3 = p[k - 12], p[k - 11], p[k - 10], p[k - 9]
            for i in range(_BLOCK):
                x, b, above = rows[i], rows[i + _BLOCK], rows[i + 2 * _BLOCK]
                e, beyond = rows[i + 3 * _BLOCK], rows[i + 4 * _BLOCK]
                above = c0 + ((rate0 * x) * b - fall0 * above)
                beyond = d0 + ((rate0 * x) * e - fall0 * beyond)
                b = c1 + ((rate1 * x) * above - fall1 * b)
                e = d1 + ((rate1 * x) * beyond - fall1 * e)
                above = c2 + ((rate2 * x) * b - fall2 * above)
                beyond = d2 + ((rate2 * x) * e - fall2 * beyond)
                b = c3 + ((rate3 * x) * above - fall3 * b)
                e = d3 + ((rate3 * x) * beyond - fall3 * e)
                rows[i + _BLOCK], rows[i + 2 * _BLOCK] = b, above
                rows[i + 3 * _BLOCK], rows[i + 4 * _BLOCK] = e, beyond
            k -= 16
        for i in range(count):
            phi_run[first + i], dphi_run[first + i] = rows[i + _BLOCK], rows[i + 3 * _BLOCK]
