"""Kernels given by a formula in the cosine."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkengine._check import shown
from ntkengine.errors import InputError, NoSeriesError
from ntkengine.kernels.base import DotProductKernel, check_finite, grid

__all__ = ["FormulaKernel"]

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]


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
        check_finite(self)
        self._check_bounded()

    def _check_bounded(self) -> None:
        """InputError, naming a c, if K has a pole between the points of :func:`check_finite`."""
        from ntkengine.formula._intervals import unbounded

        pole = unbounded(self._program, np.array(list(self.parameters.values())))
        if pole is not None:
            raise InputError(
                f"the kernel {self.name!r} has no finite real value at c = {pole:.6g}, where it is infinite or undefined; it "
                "needs one for every c from -1 to 1: keep divisors and the arguments of log away from 0"
            )

    @property
    def name(self) -> str:
        """The formula, with the values of its parameters."""
        inside = ", ".join(f"{name}={value:.6g}" for name, value in self.parameters.items())
        return f"{self.text} ({inside})" if inside else self.text

    def _values(self, c: Array, complement: Array) -> Array:
        known = self._known(c, complement)
        result = self._program.result
        value = float(result) if result.is_Number else known[result]
        return np.array(np.broadcast_to(value, c.shape), dtype=np.float64)

    def _deficit(self, c: Array, complement: Array) -> Array:
        from ntkengine.kernels._difference import DIFFERENCES, Difference

        gain = Difference.of(
            self._run(Difference(c, 1.0, complement), Difference(complement, 0.0, -complement), DIFFERENCES)
        ).gain
        return np.array(np.broadcast_to(gain, c.shape), dtype=np.float64)

    def _deficit_at_angle(self, theta: Array) -> Array:
        return self._deficit(np.cos(theta), 2 * np.sin(theta / 2) ** 2)

    def _complex(self, c: Complex) -> Complex:
        from ntkengine.kernels._analytic import COMPLEX

        values = self._run(c, 1 - c, COMPLEX, np.complex128)
        return np.array(np.broadcast_to(values, c.shape), dtype=np.complex128)

    def _series(self, x: Any) -> Any:
        from flint import arb_series

        from ntkengine.kernels._analytic import SERIES

        return x * 0 + self._run(x, 1 - x, SERIES, lambda number: arb_series([number]))

    def _known(self, c: Any, complement: Any) -> dict[Any, Any]:
        from ntkengine.formula._values import run

        return run(self._program, c, np.array(list(self.parameters.values())), complement=complement)

    def _run(self, c: Any, complement: Any, table: Any, number: Callable[[float], Any] = float) -> Any:
        """The result of the program on numbers of another kind: with the functions of ``table``, and floats as ``number``.

        A switch that the table lacks takes the one branch that it has on [-1, 1].
        """
        from ntkengine.formula._symbols import SWITCHES
        from ntkengine.formula._values import value

        program = self._program
        known: dict[Any, Any] = {program.variable: c, program.complement: complement}
        known.update(zip(program.parameters.values(), map(number, self.parameters.values())))
        with np.errstate(all="ignore"):
            for symbol, expression in program.statements.items():
                if isinstance(expression, SWITCHES) and type(expression) not in table:
                    arguments = [value(a, known, table) for a in expression.args]
                    known[symbol] = _branch(expression, self._signs[symbol], arguments, number)
                else:
                    known[symbol] = value(expression, known, table)
            return value(program.result, known, table)

    @cached_property
    def _signs(self) -> dict[Any, int]:
        """By statement that is a switch, the one sign on [-1, 1] of its argument, or of the difference of its two."""
        from ntkengine.formula import _symbols as fn
        from ntkengine.formula._values import ARRAY, value

        c = grid()
        known = self._known(c, 1 - c)
        signs = {}
        for symbol, expression in self._program.statements.items():
            if not isinstance(expression, fn.SWITCHES):
                continue
            first, *rest = (value(a, known, ARRAY) for a in expression.args)
            sides = np.broadcast_to(np.sign(first - rest[0] if rest else first), c.shape)
            least, most = int(sides.min()), int(sides.max())
            if least * most < 0 or (
                least != most and isinstance(expression, (fn.Sign, fn.Greater, fn.AtMost))
            ):
                at = c[int(np.argmax(sides != sides[0]))]
                word = {fn.Greater: "step", fn.AtMost: "step"}.get(
                    type(expression), type(expression).__name__.lower()
                )
                raise NoSeriesError(
                    f"the kernel {self.name!r} is not analytic as it is written: its {word} changes branch at c = {at:.3g}, so "
                    "no power series is found; if its branches are one function, write that one, else "
                    "ntkengine.kernels.nearest.nearest(k) is the nearest kernel that has one"
                )
            signs[symbol] = least + most
        return signs

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.text, self.parameters)


def _branch(expression: Any, sign: int, arguments: list[Any], number: Callable[[float], Any]) -> Any:
    """The value of a switch whose argument, or the difference of its two, has one sign everywhere."""
    name = type(expression).__name__
    if name == "Abs":
        return arguments[0] if sign >= 0 else -arguments[0]
    if name in ("Max", "Min"):
        return arguments[(sign < 0) == (name == "Max")]
    return number(
        {"Sign": float(np.sign(sign)), "Greater": float(sign > 0), "AtMost": float(sign <= 0)}[name]
    )


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
            if isinstance(given[name], (str, bytes)):
                raise TypeError
            values[name] = float(given[name])
        except (TypeError, ValueError):
            raise InputError(
                f"parameter {name!r} of the kernel {text!r} must be a number, not {shown(given[name])}"
            ) from None
        except OverflowError:
            raise InputError(
                f"parameter {name!r} of the kernel {text!r} is beyond the largest float; it must be finite"
            ) from None
        if not np.isfinite(values[name]):
            raise InputError(
                f"parameter {name!r} of the kernel {text!r} is {shown(given[name])}; it must be finite"
            )
    return values
