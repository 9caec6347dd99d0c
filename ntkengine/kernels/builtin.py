"""Kernels given by a formula in the cosine."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkengine.errors import InputError
from ntkengine.kernels.base import DotProductKernel

__all__ = ["FormulaKernel", "kernel"]

Array = NDArray[np.float64]


class FormulaKernel(DotProductKernel):
    """The kernel K(c) of a formula in the cosine c, evaluated in float64 with NumPy and SciPy.

    Parameters
    ----------
    text : str
        In the language of :mod:`ntkengine.formula`, with c as the variable. A part written ``1 - c`` takes the exact difference
        where the caller knows it (:meth:`at_angle`).
    **parameters : float
        A finite value for every parameter in the text.

    Raises
    ------
    InputError
        If the text is not of the language, a parameter has no value or does not exist, or K is not a finite real number
        somewhere on [-1, 1] (the text names a c).

    Examples
    --------
    >>> from ntkengine.kernels import FormulaKernel
    >>> FormulaKernel("a*c**2 + c", a=3.0)([0.0, 1.0])
    array([0., 4.])
    """

    def __init__(self, text: str, /, **parameters: float) -> None:
        from ntkengine.formula import parse_program

        self.text, self._program = parse_program(text, "c", complement=True)
        self.parameters = _checked(self.text, list(self._program.parameters), parameters)
        grid = np.unique(
            np.concatenate([np.linspace(-1, 1, 2001), np.cos(np.linspace(0, np.pi, 513)), [-1.0, 0.0, 1.0]])
        )
        grid = np.clip(grid, -1.0, 1.0)
        wrong = np.flatnonzero(~np.isfinite(self._values(grid, 1 - grid)))
        if wrong.size:
            raise InputError(
                f"the kernel {self.text!r} has no finite real value at c = {grid[wrong[0]]:.6g} "
                f"(nor at {wrong.size - 1} other points of {grid.size}); it needs one for every c from -1 to 1"
            )

    @property
    def name(self) -> str:
        """The formula, with the values of its parameters."""
        inside = ", ".join(f"{name}={value:.6g}" for name, value in self.parameters.items())
        return f"{self.text} ({inside})" if inside else self.text

    def _values(self, c: Array, complement: Array) -> Array:
        from ntkengine.formula._values import run

        known = run(self._program, c, np.array(list(self.parameters.values())), complement=complement)
        result = self._program.result
        value = float(result) if result.is_Number else known[result]
        return np.array(np.broadcast_to(value, c.shape), dtype=np.float64)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.text, self.parameters)


def _rebuild(text: str, parameters: dict[str, float]) -> FormulaKernel:
    return FormulaKernel(text, **parameters)


def _checked(text: str, names: list[str], given: dict[str, float]) -> dict[str, float]:
    for name in given:
        if name not in names:
            listing = ", ".join(names) or "none"
            raise InputError(f"the kernel {text!r} has no parameter {name!r}; its parameters: {listing}")
    missing = ", ".join(f"{name}=..." for name in names if name not in given)
    if missing:
        raise InputError(
            f"the formula {text!r} needs values for its parameters: give {missing} "
            "(every name that is not c, a constant or a function is a parameter)"
        )
    values = {}
    for name in names:
        try:
            values[name] = float(given[name])
        except (TypeError, ValueError):
            raise InputError(
                f"parameter {name!r} of the kernel {text!r} must be a number, not {given[name]!r}"
            ) from None
        if not np.isfinite(values[name]):
            raise InputError(
                f"parameter {name!r} of the kernel {text!r} is {given[name]!r}; it must be finite"
            )
    return values


def kernel(name: str | DotProductKernel, /, **parameters: float) -> DotProductKernel:
    """A dot-product kernel by a formula in the cosine c.

    Parameters
    ----------
    name : str or DotProductKernel
        A formula such as ``"c**4 + c"`` or ``"sinh(2*c)"`` (the language:
        :mod:`ntkengine.formula`); a kernel is returned as it is.
    **parameters : float
        A value for every parameter of the formula.

    Raises
    ------
    InputError
        If the text is no formula in c, or K is not finite on [-1, 1]; see :class:`FormulaKernel`.

    Examples
    --------
    >>> import ntkengine as nk
    >>> nk.kernel("c**4 + c")([-1.0, 0.0, 1.0])
    array([0., 0., 2.])
    >>> nk.kernel("a*exp(c)", a=2.0)
    <kernel a*exp(c) (a=2)>
    """
    if isinstance(name, DotProductKernel):
        if parameters:
            raise InputError(f"{name!r} has its parameters already; {', '.join(parameters)} cannot be set")
        return name
    if not isinstance(name, str):
        raise InputError(f"a kernel is given by a formula in c, or is a DotProductKernel; not by {name!r}")
    word = name.strip()
    if word.isidentifier() and word != "c":
        raise InputError(
            f"unknown kernel {word!r}: a kernel is given by a formula in the cosine c, such as 'exp({word}*c)' "
            f"with {word}=..., or 'c**4 + c'"
        )
    return FormulaKernel(name, **parameters)
