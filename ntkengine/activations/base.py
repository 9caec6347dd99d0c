"""Activations: a scalar function, its derivative almost everywhere, its parameters and its kinks.

An :class:`ActivationFamily` is the formula; an :class:`Activation` is the formula with numbers in it. Everything that
needs φ (the trainer, quadrature, figures) gets it from the one scalar function of the family, compiled into a tile
(see :mod:`ntkengine._jit`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ntkengine import _cache, _jit
from ntkengine.errors import InputError
from ntkengine.plugins import Registry

__all__ = ["Activation", "ActivationFamily", "Kink", "Parameter", "activation", "registry"]

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Parameter:
    """A named real parameter: default, closed bounds (for fits and for checks) and what it does."""

    name: str
    default: float
    lower: float = -math.inf
    upper: float = math.inf
    doc: str = ""


@dataclass(frozen=True)
class Kink:
    """A point where φ or φ' jumps: ``jump`` = φ(z+) − φ(z−), ``slope_jump`` = φ'(z+) − φ'(z−)."""

    location: float
    jump: float = 0.0
    slope_jump: float = 0.0


@dataclass(frozen=True)
class ActivationFamily:
    """A formula with parameters.

    Parameters
    ----------
    name : str
    pair : callable
        ``pair(z, p) -> (phi, dphi)``: plain Python on scalars, compilable by numba, written with the functions of
        :mod:`ntkengine._scalar`. ``z`` and the parameters ``p`` have one floating type T, and so must the results:
        constants are written ``T(0.5)`` with ``T = type(z)``, or the arithmetic turns to float64 and loses its speed.
        At a kink dphi is the value that training sees (for a step: 0).
    formula : str
        For people, in z and the parameters' names.
    parameters : sequence of Parameter
        In the order of ``p``.
    kinks : callable, optional
        ``kinks(p) -> sequence of Kink``. Between kinks φ must be smooth. None: smooth everywhere.
    coefficients : callable, optional
        ``coefficients(p, variance, degree) -> (degree+1,) array``: Hermite coefficients a_k(q) = E[φ(√q z) h_k(z)] in
        closed form, with orthonormal probabilists' h_k. None: by quadrature.
    citation : str, optional
    """

    name: str
    pair: Callable[[Any, Any], tuple[Any, Any]]
    formula: str
    parameters: Sequence[Parameter] = ()
    kinks: Callable[[NDArray[np.float64]], Sequence[Kink]] | None = None
    coefficients: Callable[[NDArray[np.float64], float, int], NDArray[np.float64]] | None = None
    citation: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", tuple(self.parameters))

    @cached_property
    def identity(self) -> str | None:
        """Names the compiled tile in the machine-code cache: the same text always means the same function.

        None where that cannot be promised (see :func:`ntkengine._cache.code_identity`), and then nothing is cached.
        """
        return _cache.code_identity(self.pair)

    def __call__(self, **values: float) -> Activation:
        """The activation with these parameter values; the others at their defaults."""
        known = {p.name: p for p in self.parameters}
        for name, value in values.items():
            if name not in known:
                listing = ", ".join(known) or "none"
                raise InputError(
                    f"activation {self.name!r} has no parameter {name!r}; its parameters: {listing}"
                )
            bounds = known[name]
            try:
                number = float(value)
            except (TypeError, ValueError):
                raise InputError(
                    f"parameter {name!r} of activation {self.name!r} must be a number, not {value!r}"
                ) from None
            if not math.isfinite(number) or not bounds.lower <= number <= bounds.upper:
                raise InputError(
                    f"parameter {name!r} of activation {self.name!r} is {value!r}; "
                    f"allowed: finite, from {bounds.lower:g} to {bounds.upper:g}"
                )
        return Activation(self, tuple(float(values.get(p.name, p.default)) for p in self.parameters))


@cache  # never dropped: compiled loops hold the tiles' addresses
def _tile(family: ActivationFamily, dtype: np.dtype[Any]) -> Any:
    return _jit.compile_tile(family.pair, len(family.parameters), dtype, family.identity)


@_jit.strict
def _evaluate(address: Any, z: Any, params: Any, phi: Any, dphi: Any) -> None:
    _jit.call_tile(address, z.size, z, params, phi, dphi)


@dataclass(frozen=True)
class Activation:
    """An activation function φ with its derivative.

    Calling it evaluates φ elementwise: float32 in, float32 out; everything else is computed in float64.

    Examples
    --------
    >>> import ntkengine as nk
    >>> phi = nk.activation("leaky_relu", slope=0.1)
    >>> phi([-1.0, 0.0, 2.0])
    array([-0.1,  0. ,  2. ])
    >>> phi.derivative([-1.0, 2.0])
    array([0.1, 1. ])
    """

    family: ActivationFamily
    values: tuple[float, ...]

    @property
    def name(self) -> str:
        """The family's name."""
        return self.family.name

    @property
    def parameters(self) -> dict[str, float]:
        """Parameter values by name."""
        return {p.name: v for p, v in zip(self.family.parameters, self.values)}

    def with_values(self, values: ArrayLike) -> Activation:
        """The same family with other parameter values, in the family's order, bounds unchecked (for optimisers)."""
        return Activation(self.family, tuple(float(v) for v in np.asarray(values, dtype=np.float64)))

    @cached_property
    def kinks(self) -> tuple[Kink, ...]:
        """Points where φ or φ' jumps, ordered by location; coinciding ones merged, vanishing ones left out."""
        if self.family.kinks is None:
            return ()
        merged: dict[float, Kink] = {}
        for kink in self.family.kinks(np.array(self.values)):
            seen = merged.get(kink.location, Kink(kink.location))
            merged[kink.location] = Kink(
                kink.location, seen.jump + kink.jump, seen.slope_jump + kink.slope_jump
            )
        return tuple(k for _, k in sorted(merged.items()) if k.jump != 0 or k.slope_jump != 0)

    def tile(self, dtype: DTypeLike) -> Any:
        """The compiled tile for a dtype (see :func:`ntkengine._jit.compile_tile`); compiled or loaded once."""
        return _tile(self.family, np.dtype(dtype))

    def tile_parameters(self, dtype: DTypeLike) -> Floats:
        """The parameter array that goes with :meth:`tile`; never empty."""
        return np.array(self.values or (0.0,), dtype=dtype)

    def both(self, z: ArrayLike) -> tuple[Floats, Floats]:
        """φ(z) and φ'(z), each of the shape of ``z``."""
        array = np.asarray(z)
        if array.dtype.kind not in "fiub":
            raise InputError(f"z must hold real numbers, not {array.dtype}")
        dtype = np.dtype(np.float32) if array.dtype == np.float32 else np.dtype(np.float64)
        run = np.ascontiguousarray(array, dtype=dtype).reshape(-1)
        phi, dphi = np.empty_like(run), np.empty_like(run)
        _evaluate(self.tile(dtype).address, run, self.tile_parameters(dtype), phi, dphi)
        return phi.reshape(array.shape), dphi.reshape(array.shape)

    def __call__(self, z: ArrayLike) -> Floats:
        """φ(z), of the shape of ``z``."""
        return self.both(z)[0]

    def derivative(self, z: ArrayLike) -> Floats:
        """φ'(z) almost everywhere; at a kink, what training uses there."""
        return self.both(z)[1]

    def hermite(self, degree: int, variance: float = 1.0) -> NDArray[np.float64]:
        """Hermite coefficients a_k(q) = E[φ(√q z) h_k(z)], z ~ N(0, 1), k = 0..degree, shape (degree+1,).

        ``h_k`` are the orthonormal probabilists' polynomials, q the variance. In closed form where the family has one,
        else by the kink-aware rule of :mod:`ntkengine.quadrature`.
        """
        from ntkengine.hermite import expand

        return expand(self, degree, variance)

    def __reduce__(self) -> tuple[Any, ...]:
        registered = self.name in registry and registry.get(self.name) is self.family
        return (
            (_rebuild, (self.name, self.parameters))
            if registered
            else (Activation, (self.family, self.values))
        )

    def __str__(self) -> str:
        inside = ", ".join(f"{name}={value:.6g}" for name, value in self.parameters.items())
        return f"{self.name}({inside})" if inside else self.name

    __repr__ = __str__


def _rebuild(name: str, parameters: Mapping[str, float]) -> Activation:
    return activation(name, **parameters)


def _check(name: str, found: Any) -> ActivationFamily:
    if not isinstance(found, ActivationFamily):
        raise TypeError(f"expected an ntkengine.activations.ActivationFamily, found {type(found).__name__}")
    return found


def _builtins() -> dict[str, str]:
    from ntkengine.activations import BUILTIN_NAMES

    return {name: f"ntkengine.activations.builtin:{name}_family" for name in BUILTIN_NAMES}


#: Every activation family by name, built-ins and plugins.
registry: Registry[ActivationFamily] = Registry("activation", "ntkengine.activations", _builtins, _check)


def activation(name: str | Activation, **parameters: float) -> Activation:
    """An activation by its registered name.

    Parameters
    ----------
    name : str
        A registered family, such as ``"relu"``, ``"sin"`` or ``"relu_cos"``; an Activation is returned as it is.
    **parameters : float
        Values of the family's parameters; the others keep their defaults.

    Raises
    ------
    UnknownNameError
        If no family has that name; the text lists them and suggests the nearest.
    InputError
        If a parameter does not exist, or its value is out of bounds.

    Examples
    --------
    >>> import ntkengine as nk
    >>> nk.activation("sin", a=0.5, b=6.0)
    sin(a=0.5, b=6, c=0)
    """
    if isinstance(name, Activation):
        if parameters:
            raise InputError(
                f"{name} has its parameters already; name the family, {name.name!r}, to set {parameters}"
            )
        return name
    if not isinstance(name, str):
        raise InputError(f"an activation is named by a text, not by {name!r}")
    return registry.get(name)(**parameters)
