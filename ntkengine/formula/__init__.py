"""The formula language: activations in z and kernels in c, from text to compiled code, without evaluating the text.

Numbers, ``+ - * / **``, brackets, ``pi``, ``e``, the functions below, and names: any other name is a parameter. The text is
parsed into Python's syntax tree, the tree is walked against a list of what is allowed, and every operation becomes one
statement over SymPy symbols, which SymPy differentiates. Anything else is an :class:`~ntkengine.errors.InputError` that points
at the character. A text has at most 2000 characters, 64 brackets inside each other and 256 operations.

Functions: ``exp log sqrt sin cos tan sinh cosh tanh erf sigmoid softplus gelu relu abs sign step heaviside`` (the last two are
the same: 1 for z > 0, else 0) and ``min``, ``max`` of two or more. Where the derivative jumps, training sees 0 for ``abs``,
``sign`` and ``relu``, and at a tie of ``min`` or ``max`` the derivative of the constant, else of the second argument.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from ntkengine.activations.base import Activation, ActivationFamily, Parameter
from ntkengine.errors import InputError
from ntkengine.formula._code import pair_function
from ntkengine.formula._kinks import check_domain, find_kinks
from ntkengine.formula._language import normal_text, parse, shortened
from ntkengine.formula._program import Program

__all__ = ["parse_activation", "parse_program"]


@dataclass(frozen=True)
class _Formula:
    program: Program
    slopes: Program
    family: ActivationFamily


_lock = threading.Lock()
_known: dict[str, _Formula] = {}  # a family owns compiled tiles, which are never dropped either


def parse_activation(text: str, /, **parameters: float) -> Activation:
    """The activation that a formula in z describes.

    Parameters
    ----------
    text : str
        Such as ``"a*max(z - b, 0) + 0.1*cos(4*z)"``; see the text of :mod:`ntkengine.formula` for the language.
    **parameters : float
        A finite value for every parameter, that is every name in the text that is not z, a constant or a function.

    Raises
    ------
    InputError
        If the text is not of the language (with the character), if a parameter has no value or does not exist, or if φ is
        not a finite real number somewhere in |z| <= 10 (with the z).

    Examples
    --------
    >>> import ntkengine as nk
    >>> phi = nk.activation("max(z - b, 0) + 0.1*z**2", b=1.0)
    >>> phi([0.0, 1.0, 2.0])
    array([0. , 0.1, 1.4])
    >>> phi.derivative([0.0, 2.0])
    array([0. , 1.4])
    >>> phi.kinks
    (Kink(location=1.0, jump=0.0, slope_jump=1.0, curvature_jump=0.0, third_jump=0.0, log_slope=0.0),)
    """
    name = normal_text(text)
    formula = _formula(name)
    activation = formula.family(**parameters)
    missing = [p.name for p in formula.family.parameters if p.name not in parameters]
    if missing:
        needed = ", ".join(f"{shortened(name)}=..." for name in missing)
        raise InputError(
            f"the formula {shortened(name)!r} needs values for its parameters: give {needed} "
            "(every name that is not z, a constant or a function is a parameter)"
        )
    check_domain(formula.program, formula.slopes, np.array(activation.values), name)
    return activation


def parse_program(text: str, variable: str, complement: bool = False) -> tuple[str, Program]:
    """The normalised text and the program of a formula in one variable.

    Parameters
    ----------
    text : str
    variable : str
        The variable's name.
    complement : bool
        Give ``1 - variable`` a symbol of its own, for callers that know it more exactly than by subtraction.

    Raises
    ------
    InputError
        If the text is not of the language.

    Examples
    --------
    >>> from ntkengine.formula import parse_program
    >>> name, program = parse_program("a * exp( c )", "c")
    >>> name, list(program.parameters)
    ('a * exp( c )', ['a'])
    """
    name = normal_text(text, variable)
    return name, _guarded(name, lambda: parse(name, variable, complement))


def _guarded(name: str, work: Any) -> Any:
    """Nothing but an InputError leaves: what SymPy raises on a strange formula is a refusal of that formula."""
    try:
        return work()
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"the formula {shortened(name)!r} cannot be worked out ({type(error).__name__}: {error}); write it more simply"
        ) from error


def _formula(name: str) -> _Formula:
    with _lock:
        if name not in _known:
            _known[name] = _guarded(name, lambda: _made(name))
        return _known[name]


def _made(name: str) -> _Formula:
    program = parse(name, "z")
    slopes = program.differentiated()
    family = ActivationFamily(
        name,
        pair_function(slopes),
        formula=name,
        parameters=tuple(Parameter(p, 0.0) for p in program.parameters),
        kinks=lambda p: find_kinks(program, slopes, p),
        from_text=True,
    )
    return _Formula(program, slopes, family)
