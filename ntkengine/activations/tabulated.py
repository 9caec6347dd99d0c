"""A family of tabulated functions: piecewise cubics between nodes that crowd towards 0, where designed activations have a cusp.

The nodes of either side are u_k − 2^start, u_k running through 2^density equal steps to each octave from 2^start on, so that
the bits of the float |z| + 2^start name its interval: no division, no search, and a cusp such as z·log|z| is followed down to
|z| = 2^(start − density). The cubics meet with their first derivatives; φ' is the derivative of the very cubic that φ is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkengine import _cache, _jit, _simd
from ntkengine._check import integer, real_array, shown
from ntkengine.activations.base import Activation, ActivationFamily, Kink
from ntkengine.activations.series import Coefficients
from ntkengine.errors import InputError

__all__ = ["TabulatedFamily", "nodes"]

Array = NDArray[np.float64]

#: Numbers before the rows in the parameters of the tile: count, density, start, and one that is not used.
_HEADER = 4
_DENSITIES, _STARTS, _LARGEST = (2, 10), (-40, 0), 1 << 14
_VECTORS = ("right_values", "right_slopes", "left_values", "left_slopes")
_NUMBERS = {"density": 5, "start": -14, "slope_jump": None, "log_slope": 0.0, "accuracy": 0.0}


def nodes(count: int, density: int, start: int) -> Array:
    """|z| of the first ``count`` nodes: ``2^(start + k // n) (1 + (k mod n)/n) − 2^start`` with n = 2^density; (count,).

    Examples
    --------
    >>> nodes(6, 2, 0)
    array([0.  , 0.25, 0.5 , 0.75, 1.  , 1.5 ])
    """
    octave, step = np.divmod(np.arange(count), 1 << density)
    return np.ldexp(1 + step / (1 << density), octave + start) - np.ldexp(1.0, start)


def _pair(z, p):  # type: ignore[no-untyped-def]
    """One value at a time, by the exponent of u; what the tile does with bits."""
    T = type(z)
    count, steps, least = int(p[0]), math.ldexp(1.0, int(p[1])), math.ldexp(1.0, int(p[2]))
    u = abs(z) + T(least)
    fraction, exponent = math.frexp(u / T(least)) if u == u and u < T(np.inf) else (0.5, 1 << 20)
    k = (exponent - 1) * int(steps) + int((2 * fraction - 1) * steps)
    k = min(k, count - 1)
    begin = math.ldexp(1 + (k % int(steps)) / steps, k // int(steps)) * least
    t, row = u - T(begin), _HEADER + 4 * (k if not z < 0 else k + count)
    c1, c2, c3 = p[row + 1], p[row + 2], p[row + 3]
    if t == T(np.inf):  # the straight line's end, where 0·inf is no value
        return p[row] if c1 == T(0.0) else p[row] + t * c1, -c1 if z < 0 else c1
    slope = c1 + t * (T(2) * c2 + t * (T(3) * c3))
    return p[row] + t * (c1 + t * (c2 + t * c3)), -slope if z < 0 else slope


@dataclass(frozen=True, eq=False)
class TabulatedFamily(ActivationFamily):
    """The family of all tabulated functions; called with a table, it makes the activation.

    Parameters of the call
    ----------------------
    right_values, right_slopes : (count,) array_like
        φ and dφ/dz at the nodes z = node_k (:func:`nodes`); beyond the last node φ goes on as a straight line.
    left_values, left_slopes : (count,) array_like
        φ and dφ/dz at z = −node_k.
    density, start : int
        2^density intervals to an octave, 2 to 10 (default 5), from 2^start on, start from −40 to 0 (default −14).
    slope_jump, log_slope : float
        The cusp that the table follows: φ has ``slope_jump·max(z, 0) + log_slope·z·log|z|`` at 0. Default: the jump of the
        slopes given, no logarithm. Kernels need it (:class:`Kink`).
    accuracy : float
        How far the table may be from the function it stands for, relative to √E[φ²]; kernels do not claim more.

    Examples
    --------
    >>> import ntkengine as nk
    >>> z = nodes(400, 5, -8)
    >>> phi = nk.activation("tabulated", right_values=np.sin(z), right_slopes=np.cos(z), left_values=-np.sin(z),
    ...                     left_slopes=np.cos(z), density=5, start=-8)
    >>> bool(abs(phi(1.0) - np.sin(1.0)) < 1e-7), bool(abs(phi.derivative(-1.0) - np.cos(1.0)) < 1e-5)
    (True, True)
    """

    table: dict[str, Any] | None = field(default=None, kw_only=True, repr=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TabulatedFamily) and self.name == other.name and self.table == other.table

    def __hash__(self) -> int:
        return hash((self.name, None if self.table is None else tuple(self.table.values())))

    @property
    def root(self) -> ActivationFamily:
        """The family of all tables."""
        return tabulated_family

    def __call__(self, /, **values: Any) -> Activation:
        """The activation with this table."""
        if self.table is not None:
            return Activation(self, ()) if not values else tabulated_family(**{**self.table, **values})
        table = _checked(values)
        family = replace(self, table=table, accuracy=table["accuracy"])
        object.__setattr__(family, "kinks", family._find_kinks)
        return Activation(family, ())

    def named(self, values: tuple[float, ...]) -> dict[str, Any]:
        """The table, as it is given to the family."""
        return dict(self.table or {})

    def text(self, values: tuple[float, ...]) -> str:
        """How large the table is."""
        if self.table is None:
            return self.name
        count, density, start = len(self.table["right_values"]), self.table["density"], self.table["start"]
        return f"{self.name}({count} nodes a side, |z| <= {nodes(count, density, start)[-1]:.3g})"

    @cached_property
    def rows(self) -> Array:
        """c_0..c_3 of every interval in powers of the distance from its beginning, right side then left: (2·count, 4)."""
        assert self.table is not None
        table = self.table
        at = nodes(len(table["right_values"]), table["density"], table["start"])
        sides = []
        for side, sign in (("right", 1.0), ("left", -1.0)):
            f, d = np.array(table[f"{side}_values"]), sign * np.array(table[f"{side}_slopes"])
            h, rise = np.diff(at), np.diff(f)
            c = np.zeros((f.size, 4))
            c[:, 0], c[:, 1] = f, d
            c[:-1, 2] = (3 * rise / h - 2 * d[:-1] - d[1:]) / h
            c[:-1, 3] = (d[:-1] + d[1:] - 2 * rise / h) / h**2
            sides.append(c)
        return np.concatenate(sides)

    def packed(self, values: tuple[float, ...]) -> ArrayLike:
        """The parameters as the tile reads them: count, density, start, then the rows."""
        assert self.table is not None
        header = [self.rows.shape[0] // 2, self.table["density"], self.table["start"], 0.0]
        return np.concatenate([header, self.rows.ravel()])

    def compile(self, dtype: np.dtype[Any]) -> Any:
        """The tile for a dtype: one for all tables."""
        return _table_tile(dtype)

    def _find_kinks(self, p: Array) -> Sequence[Kink]:
        """The cusp at 0, and the nodes, where integrals break."""
        assert self.table is not None
        at = nodes(len(self.table["right_values"]), self.table["density"], self.table["start"])[1:]
        cusp = Kink(0.0, 0.0, self.table["slope_jump"], log_slope=self.table["log_slope"])
        return [*(Kink(-z) for z in at[::-1].tolist()), cusp, *(Kink(z) for z in at.tolist())]


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    owner = "activation 'tabulated'"
    for name in values:
        if name not in _VECTORS and name not in _NUMBERS:
            listing = ", ".join([*_VECTORS, *_NUMBERS])
            raise InputError(f"{owner} has no parameter {name!r}; its parameters: {listing}")
    missing = [name for name in _VECTORS if name not in values]
    if missing:
        raise InputError(f"{owner} needs {', '.join(missing)}: φ and φ' at the nodes of either side")
    table: dict[str, Any] = {name: real_array(name, values[name]) for name in _VECTORS}
    count = table["right_values"].size
    for name in _VECTORS:
        if table[name].ndim != 1 or not 2 <= count <= _LARGEST or table[name].size != count:
            raise InputError(
                f"{name} of {owner} has shape {table[name].shape}; all four are vectors of one length, from 2 to {_LARGEST}"
            )
        table[name] = Coefficients(table[name].tolist())
    given = {**_NUMBERS, **values}
    for name, (low, high) in (("density", _DENSITIES), ("start", _STARTS)):
        table[name] = integer(name, given[name], low)
        if table[name] > high:
            raise InputError(f"{name} of {owner} is {shown(table[name])}; it must be from {low} to {high}")
    if given["slope_jump"] is None:
        given["slope_jump"] = table["right_slopes"][0] - table["left_slopes"][0]
    for name in ("slope_jump", "log_slope", "accuracy"):
        try:
            number = real_array(name, given[name])
        except InputError:
            number = np.full(1, math.nan)
        if number.shape or (name == "accuracy" and number < 0):
            least = ", at least 0" if name == "accuracy" else ""
            raise InputError(f"{name} of {owner} is {shown(given[name])}; it must be a finite number{least}")
        table[name] = float(number)
    if table["right_values"][0] != table["left_values"][0]:
        raise InputError(
            f"{owner} jumps at 0: right_values[0] is {table['right_values'][0]:g}, left_values[0] {table['left_values'][0]:g}; "
            "they must be equal"
        )
    return table


@cache  # never dropped: compiled loops hold its address
def _table_tile(dtype: np.dtype[Any]) -> Any:
    return _jit._compile(_table_run, dtype, f"{_cache.code_identity(_table_run)}|{dtype}")


def _table_run(n, z, params, phi, dphi):  # type: ignore[no-untyped-def]
    """The tile of :meth:`TabulatedFamily.packed` parameters, compiled for pointers."""
    lanes = _simd.TABLE_LANES
    head = numba.carray(params, _HEADER)
    count, density, start = int(head[0]), int(head[1]), int(head[2])
    table = numba.carray(params, _HEADER + 8 * count)
    z_run, phi_run, dphi_run = numba.carray(z, n), numba.carray(phi, n), numba.carray(dphi, n)
    whole = n - n % lanes
    for first in range(0, whole, lanes):
        _simd.table_cubics(z_run, first, table, _HEADER, count, density, start, phi_run, dphi_run)
    if whole < n:
        rest = np.zeros(3 * lanes, z_run.dtype)
        for i in range(n - whole):
            rest[i] = z_run[whole + i]
        _simd.table_cubics(
            rest, 0, table, _HEADER, count, density, start, rest[lanes : 2 * lanes], rest[2 * lanes :]
        )
        for i in range(n - whole):
            phi_run[whole + i], dphi_run[whole + i] = rest[lanes + i], rest[2 * lanes + i]
    lost = 0
    for i in range(n):
        lost += phi_run[i] != phi_run[i]
    if lost:  # at ±inf, where the cubic has 0·inf for the straight line's end, or at NaN
        for i in range(n):
            if math.isinf(z_run[i]):
                row = _HEADER + 4 * (count - 1 if z_run[i] > 0 else 2 * count - 1)
                rise = table[row + 1]
                phi_run[i] = table[row] if rise == 0 else table[row] + rise * abs(z_run[i])
                dphi_run[i] = rise if z_run[i] > 0 else -rise


tabulated_family = TabulatedFamily(
    "tabulated",
    _pair,
    formula="piecewise cubic between the nodes of a table",
)
