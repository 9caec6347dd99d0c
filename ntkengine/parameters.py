"""Named real parameters of families of activations and of kernels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ntkengine._check import shown
from ntkengine.errors import InputError

__all__ = ["Parameter", "read_parameters"]


@dataclass(frozen=True)
class Parameter:
    """A named real parameter: default (NaN: it must be given), closed bounds (for fits and for checks) and what it does.

    Parameters
    ----------
    name : str
    default : float
    lower, upper : float
    doc : str
    integer : bool
        Whole numbers only.
    choices : tuple of float
        The values allowed, where only a few are; empty: all within the bounds.

    Examples
    --------
    >>> from ntkengine.parameters import Parameter
    >>> Parameter("length", 1.0, 1e-3, 1e3).checked("kernel 'laplace'", 2)
    2.0
    """

    name: str
    default: float
    lower: float = -math.inf
    upper: float = math.inf
    doc: str = ""
    integer: bool = False
    choices: tuple[float, ...] = ()

    @classmethod
    def amplitude(cls, name: str, default: float, doc: str = "") -> Parameter:
        """A factor or an offset of φ: at most 1e6 in size."""
        return cls(name, default, -1e6, 1e6, doc)

    @classmethod
    def shift(cls, name: str, default: float, doc: str = "") -> Parameter:
        """A place on the z axis, a phase, a steepness: at most 1e3 in size."""
        return cls(name, default, -1e3, 1e3, doc)

    @classmethod
    def frequency(cls, name: str, default: float, doc: str = "") -> Parameter:
        """A frequency: at most 200 in size."""
        return cls(name, default, -200.0, 200.0, doc)

    def checked(self, owner: str, value: Any) -> float:
        """``value`` as a float; InputError, naming the owner (``"activation 'sin'"``), unless it is a number allowed."""
        where = f"parameter {self.name!r} of {owner}"
        if self.choices:
            allowed = " or ".join(f"{choice:g}" for choice in self.choices)
        else:
            allowed = f"{'integers' if self.integer else 'finite'}, from {self.lower:g} to {self.upper:g}"
        try:
            if isinstance(value, (str, bytes, bool, np.bool_)):
                raise TypeError
            number = float(value)
        except (TypeError, ValueError):
            raise InputError(f"{where} must be a number, not {shown(value)}") from None
        except OverflowError:
            raise InputError(f"{where} is beyond the largest float; allowed: {allowed}") from None
        whole = not self.integer or number.is_integer()
        chosen = not self.choices or number in self.choices
        if not (math.isfinite(number) and whole and chosen and self.lower <= number <= self.upper):
            raise InputError(f"{where} is {shown(value)}; allowed: {allowed}")
        return number


def read_parameters(
    owner: str, parameters: Sequence[Parameter], given: Mapping[str, Any]
) -> tuple[float, ...]:
    """The values of ``parameters``, in their order: those given, checked, and the defaults of the others.

    Parameters
    ----------
    owner : str
        Whose they are, in an error's words: ``"kernel 'gaussian'"``.
    parameters : sequence of Parameter
    given : mapping
        Values by name.

    Raises
    ------
    InputError
        If a name does not exist, a value is not allowed, or one without a default is missing.

    Examples
    --------
    >>> from ntkengine.parameters import Parameter, read_parameters
    >>> read_parameters("kernel 'k'", [Parameter("a", 1.0), Parameter("b", 2.0)], {"b": 3})
    (1.0, 3.0)
    """
    known = {p.name: p for p in parameters}
    for name in given:
        if name not in known:
            listing = ", ".join(known) or "none"
            raise InputError(f"{owner} has no parameter {name!r}; its parameters: {listing}")
    missing = [p for p in parameters if p.name not in given and math.isnan(p.default)]
    if missing:
        raise InputError(f"{owner} needs a value of {missing[0].name!r}: {missing[0].doc}")
    return tuple(p.checked(owner, given[p.name]) if p.name in given else float(p.default) for p in parameters)
