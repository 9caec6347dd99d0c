"""Checks of arguments that many public functions share; each error names the argument, the value and what is allowed."""

from __future__ import annotations

import os
import reprlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkengine.errors import InputError

__all__ = ["folder_path", "integer", "real_array", "shown"]

_short = reprlib.Repr()
_short.maxlong, _short.maxstring, _short.maxother = 40, 80, 80


def shown(value: Any) -> str:
    """``repr(value)`` for an error's text, cut where it is long: an integer has any number of digits, an array any size.

    Where Python writes none, as of an integer of more than some thousand digits, what the value is.

    Examples
    --------
    >>> from ntkengine._check import shown
    >>> shown(10**400)
    '100000000000000000...0000000000000000000'
    >>> shown(-0.5)
    '-0.5'
    """
    try:
        return _short.repr(value)
    except ValueError:  # of a large integer, which may be anywhere in the value
        return (
            f"an integer of {value.bit_length()} bits"
            if isinstance(value, int)
            else f"a {type(value).__name__}"
        )


def integer(name: str, value: Any, minimum: int, also: str = "") -> int:
    """``value`` as an int of at least ``minimum``; ``also`` names other things allowed, for the error."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or value < minimum:
        raise InputError(f"{name} must be an integer ≥ {minimum}{also}, not {shown(value)}")
    return int(value)


def real_array(name: str, value: ArrayLike) -> NDArray[np.float64]:
    """``value`` as a float64 array of finite numbers; an error says which entry is not."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
        raise InputError(f"{name} has masked entries; fill them, or leave their rows out")
    try:
        array = np.asarray(value)
    except ValueError:
        raise InputError(f"{name} must be a rectangular array; its rows differ in length") from None
    except Exception as error:  # of another library's __array__: a tensor on a GPU, say
        raise InputError(
            f"{name} of type {type(value).__name__} cannot be read as an array: {error}"
        ) from None
    if array.dtype.kind not in "fiub":
        raise InputError(f"{name} must hold real numbers, not {array.dtype}")
    array = np.asarray(array, dtype=np.float64)
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        place = f"{name}[{', '.join(map(str, where))}]" if where else name
        raise InputError(f"{place} is {array[where]}; every entry must be finite")
    return array


def folder_path(name: str, value: Any) -> Path:
    """``value`` as a path, a leading ``~`` expanded where that user exists; an empty one is refused."""
    try:
        text = os.fspath(value)
    except TypeError:
        raise InputError(f"{name} must be a path, not {shown(value)}") from None
    if not text:
        raise InputError(f"{name} is empty; name a folder ('.' is this one)")
    return Path(os.path.expanduser(text))
