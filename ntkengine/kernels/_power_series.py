"""The record of a power series: its coefficients, and what is known of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkengine._check import real_array, shown
from ntkengine.errors import InputError

__all__ = ["PowerSeries"]

Array = NDArray[np.float64]


class PowerSeries(np.ndarray):
    """Coefficients b_k of ``K = Σ_k b_k ρ^k``, shape (degree+1,), float64, with what is known of their accuracy.

    Read-only, so that what is known of the coefficients stays true; all that is derived from it, but a copy, is a plain array.

    Parameters
    ----------
    coefficients : (degree+1,) array_like
    error : float or (degree+1,) array_like
        Bound or estimate of the absolute error of each.
    tail : float
        ``K(1) − Σ_k b_k``, the mass of the terms left out.

    Raises
    ------
    InputError
        If the coefficients are not a vector of finite numbers, at least one; or ``error`` has not their shape, is negative or
        nan; or ``tail`` is no number.

    Attributes
    ----------
    error : (degree+1,) array
    tail : float

    Examples
    --------
    >>> import ntkengine as nk
    >>> series = nk.kernel("geometric", rate=0.5).taylor(3)
    >>> series
    PowerSeries([1.   , 0.5  , 0.25 , 0.125])
    >>> series.tail, float(series.error.max()) < 1e-15
    (0.125, True)
    """

    error: Array
    tail: float

    def __new__(cls, coefficients: ArrayLike, error: ArrayLike = 0.0, tail: float = 0.0) -> PowerSeries:
        b = np.array(real_array("coefficients", coefficients))
        if b.ndim != 1 or b.size == 0:
            raise InputError(
                f"coefficients has shape {b.shape}; it must be a vector (degree + 1,), at least one"
            )
        try:
            known = np.array(np.broadcast_to(np.asarray(error, dtype=np.float64), b.shape))
            left_out = float(tail)
        except (TypeError, ValueError) as wrong:
            raise InputError(
                f"error and tail are {shown(error)} and {shown(tail)}; error must be one number, or one for each of the "
                f"{b.size} coefficients, and tail a number: {wrong}"
            ) from None
        if not (known >= 0).all() or math.isnan(left_out):
            raise InputError(
                f"the least error is {known.min():.6g} and tail is {left_out:.6g}; no error can be below 0, and neither nan"
            )
        b.flags.writeable = known.flags.writeable = False
        series = b.view(cls)
        series.error, series.tail = known, left_out
        return series

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("error", "tail") or name in self.__dict__:
            raise AttributeError(
                f"a PowerSeries is read-only, and {name} cannot be set; np.array(series) is a plain array that can be changed"
            )
        super().__setattr__(name, value)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if "out" in options:
            options["out"] = tuple(_plain(x) for x in options["out"])
        return getattr(ufunc, method)(*map(_plain, inputs), **options)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return func(*map(_plain, args), **{key: _plain(value) for key, value in kwargs.items()})

    def __getitem__(self, key: Any) -> Any:
        return np.asarray(self)[key]

    def __reduce__(self) -> tuple[Any, ...]:
        return PowerSeries, (np.asarray(self), self.error, self.tail)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return self.__reduce__()

    def copy(self, order: Any = "C") -> PowerSeries:
        """The same series with what is known of it; ``np.array(series)`` is a plain array that can be changed."""
        return PowerSeries(np.asarray(self), self.error, self.tail)

    def __copy__(self) -> PowerSeries:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> PowerSeries:
        return self.copy()


def _of_plain(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, of the plain array."""

    @wraps(method, assigned=("__name__",))
    def call(self: PowerSeries, *args: Any, **options: Any) -> Any:
        return method(np.asarray(self), *args, **options)

    return call


for _name in ("argmax", "argmin", "argpartition", "argsort", "astype", "byteswap", "clip", "compress", "conj", "conjugate",
              "cumprod", "cumsum", "diagonal", "dot", "flatten", "getfield", "ravel", "repeat", "reshape", "round", "squeeze",
              "swapaxes", "take", "transpose", "view"):  # fmt: skip
    setattr(PowerSeries, _name, _of_plain(getattr(np.ndarray, _name)))
for _name in ("T", "flat", "imag", "real"):
    setattr(PowerSeries, _name, property(_of_plain(getattr(np.ndarray, _name).__get__)))


def _plain(x: Any) -> Any:
    if isinstance(x, PowerSeries):
        return np.asarray(x)
    return type(x)(map(_plain, x)) if type(x) in (list, tuple) else x
