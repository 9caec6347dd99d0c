"""Activations: a scalar function, its derivative almost everywhere, its parameters and its kinks.

An :class:`ActivationFamily` is the formula; an :class:`Activation` is the formula with numbers in it. Everything that
needs φ (the trainer, quadrature, figures) gets it from the one scalar function of the family, compiled into a tile
(see :mod:`ntkengine._jit`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ntkengine import _cache, _jit
from ntkengine._check import shown
from ntkengine.errors import InputError
from ntkengine.parameters import Parameter, read_parameters
from ntkengine.plugins import Registry

__all__ = ["Activation", "ActivationFamily", "Kink", "Parameter", "activation", "registry"]

Floats = NDArray[np.floating[Any]]

#: Distances from a logarithmic cusp at which integrals break.
_OCTAVES = tuple(2.0**k for k in range(-50, 4))


@dataclass(frozen=True)
class Kink:
    """A point where φ or one of its first three derivatives jumps: limits from the right less limits from the left.

    With everything 0 it is still a point where φ is not smooth, at which integrals break.

    ``log_slope`` is the factor of ``(z − location)·log|z − location|`` in φ: there φ' has a logarithmic pole of this size. The
    jumps are those of what remains of φ without that term.
    """

    location: float
    jump: float = 0.0
    slope_jump: float = 0.0
    curvature_jump: float = 0.0
    third_jump: float = 0.0
    log_slope: float = 0.0

    @property
    def jumps(self) -> tuple[float, float, float, float]:
        """The jumps of φ and of its first, second and third derivative."""
        return self.jump, self.slope_jump, self.curvature_jump, self.third_jump


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
    dual : callable, optional
        ``dual(s, t, a, b, delta, eta, p) -> (gap, total, slope)``: the dual in closed form, plain Python on float64 scalars
        like ``pair``, so that a loop over it vectorises. For Gaussians (u, v) of variances s², t² and correlation ρ, with
        a = √E[φ(u)²], b = √E[φ(v)²], delta = 1 − ρ and eta = 1 + ρ (the smaller one is the one to trust):
        ``gap = ab − E[φ(u)φ(v)]``, ``total = ab + E[φ(u)φ(v)]``, ``slope = E[φ'(u)φ'(v)]``. Both differences are to be good
        to about 1e-16 ab; gap, for activations with kinks at 0, to full relative accuracy as delta goes to 0. None: numerical.
    moments : callable, needed with ``dual``
        ``moments(q, p) -> (E[φ(√q z)²], E[φ'(√q z)²])`` for an array of variances q >= 0, elementwise (NumPy).
    finite_degree : callable, optional
        ``finite_degree(p) -> int``, for polynomials: the highest k with a_k(q) ≠ 0, the same at every variance q > 0.
        None: the Hermite expansion does not end.
    from_text : bool
        The name is a formula, and the family is made again by parsing it.
    citation : str, optional
    accuracy : float
        Relative accuracy that the formula itself promises, where it stands for another function (a table, for example): what is
        computed from φ need not be better than this, and no warning is given down to it. 0: φ is what it is.
    """

    name: str
    pair: Callable[[Any, Any], tuple[Any, Any]]
    formula: str
    parameters: Sequence[Parameter] = ()
    kinks: Callable[[NDArray[np.float64]], Sequence[Kink]] | None = None
    coefficients: Callable[[NDArray[np.float64], float, int], NDArray[np.float64]] | None = None
    dual: Callable[..., tuple[Any, Any, Any]] | None = None
    moments: Callable[..., tuple[Any, Any]] | None = None
    finite_degree: Callable[[NDArray[np.float64]], int] | None = None
    from_text: bool = False
    citation: str = ""
    accuracy: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", tuple(self.parameters))

    @cached_property
    def identity(self) -> str | None:
        """Names the compiled tile in the machine-code cache: the same text always means the same function.

        None where that cannot be promised (see :func:`ntkengine._cache.code_identity`), and then nothing is cached.
        """
        return _cache.code_identity(self.pair)

    def __hash__(self) -> int:
        return hash((self.name, self.pair, len(self.parameters)))

    @property
    def root(self) -> ActivationFamily:
        """The family as it is registered: itself, except for one size of a family of any size."""
        return self

    def __call__(self, /, **values: Any) -> Activation:
        """The activation with these parameter values; the others at their defaults."""
        return Activation(self, read_parameters(f"activation {self.name!r}", self.parameters, values))

    def named(self, values: tuple[float, ...]) -> dict[str, Any]:
        """Parameter values by name, as they are given to the family."""
        return {p.name: int(v) if p.integer else v for p, v in zip(self.parameters, values)}

    def text(self, values: tuple[float, ...]) -> str:
        """The activation with these parameter values, for people."""
        inside = ", ".join(f"{name}={value:.6g}" for name, value in self.named(values).items())
        return f"{self.name}({inside})" if inside else self.name

    def compile(self, dtype: np.dtype[Any]) -> Any:
        """The tile for a dtype, compiled or loaded (see :func:`ntkengine._jit.compile_tile`)."""
        return _jit.compile_tile(self.pair, len(self.parameters), dtype, self.identity)

    def packed(self, values: tuple[float, ...]) -> ArrayLike:
        """The parameters as the tile reads them; never empty."""
        return values or (0.0,)


@cache  # never dropped: compiled loops hold the tiles' addresses
def _tile(family: ActivationFamily, dtype: np.dtype[Any]) -> Any:
    return family.compile(dtype)


@cache
def _dual_tile(family: ActivationFamily) -> Any:
    assert family.dual is not None
    identity = _cache.code_identity(family.dual)
    return _jit.compile_dual(family.dual, len(family.parameters), identity)


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
    def parameters(self) -> dict[str, Any]:
        """Parameter values by name: a float, an int or, for an array, a tuple of floats."""
        return self.family.named(self.values)

    def with_values(self, values: ArrayLike) -> Activation:
        """The same family with other parameter values, in the family's order, bounds unchecked (for optimisers).

        Raises
        ------
        InputError
            If there are not as many values as parameters.
        """
        flat = np.asarray(values, dtype=np.float64)
        if flat.shape != (len(self.values),):
            raise InputError(
                f"values have shape {flat.shape}; {self.name!r} has {len(self.values)} parameters"
            )
        return Activation(self.family, tuple(flat.tolist()))

    @cached_property
    def kinks(self) -> tuple[Kink, ...]:
        """Points where φ is not smooth, ordered by location; those that coincide are merged.

        Around a logarithmic cusp there are points in octaves, so that what lies between two of them is smooth on its own scale
        and integrals that break there converge.
        """
        if self.family.kinks is None:
            return ()
        merged: dict[float, Kink] = {}
        found = list(self.family.kinks(np.array(self.values)))
        for cusp in [kink for kink in found if kink.log_slope]:
            found += [Kink(cusp.location + end * size) for size in _OCTAVES for end in (-1.0, 1.0)]
        for kink in found:
            at = float(kink.location)
            seen = merged.get(at, Kink(at))
            both = zip((*seen.jumps, seen.log_slope), (*kink.jumps, kink.log_slope))
            merged[at] = Kink(at, *(float(old + new) for old, new in both))
        return tuple(kink for _, kink in sorted(merged.items()))

    def tile(self, dtype: DTypeLike) -> Any:
        """The compiled tile for a dtype (see :func:`ntkengine._jit.compile_tile`); compiled or loaded once."""
        return _tile(self.family, np.dtype(dtype))

    def dual_tile(self) -> Any:
        """The compiled closed-form dual (see :func:`ntkengine._jit.compile_dual`) of a family that has one."""
        return _dual_tile(self.family)

    def tile_parameters(self, dtype: DTypeLike) -> Floats:
        """The parameter array that goes with :meth:`tile`; never empty."""
        return np.array(self.family.packed(self.values), dtype=dtype)

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
        registered = self.family.from_text or (
            self.name in registry and registry.get(self.name) is self.family.root
        )
        return (
            (_rebuild, (self.name, self.parameters))
            if registered
            else (Activation, (self.family, self.values))
        )

    def __str__(self) -> str:
        return self.family.text(self.values)

    __repr__ = __str__


def _rebuild(name: str, parameters: Mapping[str, Any]) -> Activation:
    return activation(name, **parameters)


def _check(name: str, found: Any) -> ActivationFamily:
    if not isinstance(found, ActivationFamily):
        raise TypeError(f"expected an ntkengine.activations.ActivationFamily, found {type(found).__name__}")
    return found


def _builtins() -> dict[str, str]:
    from ntkengine.activations import BUILTINS

    return {
        name: f"ntkengine.activations.{module}:{name}_family"
        for module, names in BUILTINS.items()
        for name in names
    }


#: Every activation family by name, built-ins and plugins.
registry: Registry[ActivationFamily] = Registry("activation", "ntkengine.activations", _builtins, _check)


def activation(name: str | Activation, /, **parameters: Any) -> Activation:
    """An activation by its registered name.

    Parameters
    ----------
    name : str
        A registered family, such as ``"relu"``, ``"sin"`` or ``"relu_cos"``; an Activation is returned as it is.
    **parameters : float, int or array_like
        Values of the family's parameters; the others keep their defaults. ``degree`` of ``"monomial"`` is an integer,
        ``coefficients`` of ``"polynomial"`` and ``"hermite"`` are a vector, and both must be given; ``variance``
        of ``"hermite"`` (default 1) is the v of h_k(z/√v).

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
    >>> nk.activation("polynomial", coefficients=[0, 1, 0.5])
    polynomial(coefficients=[0, 1, 0.5])
    """
    if isinstance(name, Activation):
        if parameters:
            raise InputError(
                f"{name} has its parameters already; name the family, {name.name!r}, to set {parameters}"
            )
        return name
    if not isinstance(name, str):
        raise InputError(f"an activation is named by a text, not by {shown(name)}")
    if name != "z" and len(name) <= 200 and (name.isidentifier() or name in registry):
        return registry.get(name)(**parameters)
    from ntkengine.formula import parse_activation

    return parse_activation(name, **parameters)
