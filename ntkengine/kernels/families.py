"""Kernels by name: families of kernels with parameters, the registry of them, and :func:`kernel`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkengine._check import shown
from ntkengine.errors import InputError, NoSeriesError, UnknownNameError
from ntkengine.kernels.base import DotProductKernel, check_finite
from ntkengine.kernels.formula import FormulaKernel
from ntkengine.kernels.taylor import DISAGREEMENT, PowerSeries, continued
from ntkengine.parameters import Parameter, read_parameters
from ntkengine.plugins import Registry

__all__ = ["FamilyKernel", "KernelFamily", "kernel", "registry"]

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]


@dataclass(frozen=True)
class KernelFamily:
    """A dot-product kernel with parameters.

    On the sphere the distance of two unit vectors is ``r = √(2 (1 − c))``.

    Parameters
    ----------
    name : str
    formula : str or callable
        In c and the parameters' names. Where ``function`` and ``made_of`` are None it is the definition, in the language of
        :mod:`ntkengine.formula` and with 1 − c written ``(1 - c)``; a callable is called with the parameters by name and
        returns the text. Else it is for people.
    parameters : sequence of Parameter
    function : callable, optional
        ``function(c, complement, *values) -> K``, elementwise in NumPy, with complement = 1 − c exact near c = 1 and the
        parameters' values in their order; real for real c. If it takes complex c too, it must be analytic in |c| < 1, and
        power series come from that.
    taylor : callable, optional
        With ``function``: ``taylor(degree, *values) -> (degree+1,) array``, the coefficients b_k of ``K = Σ b_k c^k``. They are
        checked against the function at |c| = 0.5, 0.8, 0.95 and 1 − 4/(degree + 8), as far as the terms left out allow.
    citation : str
    made_of : callable, optional
        ``made_of(*values) -> DotProductKernel``, for a family that is a combination of other kernels.

    Examples
    --------
    >>> from ntkengine.kernels import KernelFamily
    >>> from ntkengine.parameters import Parameter
    >>> family = KernelFamily("quartic", "a*c**4 + c", [Parameter("a", 1.0, 0.0, 10.0, "factor of c⁴")])
    >>> k = family(a=2.0)
    >>> k, k(1.0), k.taylor(4)
    (<kernel quartic(a=2)>, np.float64(3.0), PowerSeries([0., 1., 0., 0., 2.]))
    """

    name: str
    formula: str | Callable[..., str]
    parameters: Sequence[Parameter] = ()
    function: Callable[..., Any] | None = None
    taylor: Callable[..., ArrayLike] | None = None
    citation: str = ""
    made_of: Callable[..., DotProductKernel] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", tuple(self.parameters))

    def __call__(self, /, **values: Any) -> FamilyKernel:
        """The kernel with these parameter values; the others at their defaults.

        Raises
        ------
        InputError
            If a parameter does not exist, its value is not allowed, or K is not finite on [-1, 1].
        """
        return FamilyKernel(self, read_parameters(f"kernel {self.name!r}", self.parameters, values))


class FamilyKernel(DotProductKernel):
    """A member of a family of kernels.

    Attributes
    ----------
    family : KernelFamily
    values : tuple of float
        Of the parameters, in the family's order.

    Examples
    --------
    >>> import ntkengine as nk
    >>> k = nk.kernel("matern", nu=1.5, length=2.0)
    >>> k.parameters
    {'nu': 1.5, 'length': 2.0}
    """

    def __init__(self, family: KernelFamily, values: Sequence[float]) -> None:
        self.family, self.values = family, tuple(values)
        self.parts = (self.definition,)
        check_finite(self)

    @property
    def name(self) -> str:
        """The family's name, with the parameters' values."""
        inside = ", ".join(f"{name}={value:.6g}" for name, value in self.parameters.items())
        return f"{self.family.name}({inside})" if inside else self.family.name

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameter values by name."""
        pairs = zip(self.family.parameters, self.values)
        return {p.name: int(value) if p.integer else value for p, value in pairs}

    @cached_property
    def definition(self) -> DotProductKernel:
        """The kernel of the family's formula or function, with these values."""
        if self.family.made_of is not None:
            made = self.family.made_of(*self.parameters.values())
            if not isinstance(made, DotProductKernel):
                raise InputError(
                    f"the made_of of the kernel {self.name!r} returned {shown(made)}; it must be a DotProductKernel"
                )
            return made
        if self.family.function is not None:
            return _FunctionKernel(self)
        from ntkengine.formula import parse_program

        formula = self.family.formula
        text = formula if isinstance(formula, str) else formula(**self.parameters)
        if not isinstance(text, str):
            raise InputError(
                f"the formula of the kernel {self.name!r} returned {shown(text)}; it must be a text"
            )
        _, program = parse_program(text, "c", complement=True)
        known = self.parameters
        return FormulaKernel(text, **{name: known[name] for name in program.parameters if name in known})

    def _values(self, c: Array, complement: Array) -> Array:
        return self.definition._values(c, complement)

    def _values_at_angle(self, theta: Array) -> Array:
        return self.definition._values_at_angle(theta)

    def _deficit(self, c: Array, complement: Array) -> Array:
        return self.definition._deficit(c, complement)

    def _deficit_at_angle(self, theta: Array) -> Array:
        return self.definition._deficit_at_angle(theta)

    def _complex(self, c: Complex) -> Complex:
        return self.definition._complex(c)

    def _series(self, x: Any) -> Any:
        return self.definition._series(x)

    def _power_series(self, degree: int, w_std: float, b_std: float) -> PowerSeries:
        return self.definition._power_series(degree, w_std, b_std)

    def __reduce__(self) -> tuple[Any, ...]:
        name = self.family.name
        if name in registry and registry.get(name) is self.family:
            return _rebuild, (name, self.parameters)
        return FamilyKernel, (self.family, self.values)


def _rebuild(name: str, parameters: Mapping[str, Any]) -> FamilyKernel:
    return registry.get(name)(**parameters)


class _FunctionKernel(DotProductKernel):
    """The kernel of a family's NumPy function and, where it has them, Taylor coefficients."""

    def __init__(self, owner: FamilyKernel) -> None:
        self.family, self.values, self._name = owner.family, tuple(owner.parameters.values()), owner.name

    @property
    def name(self) -> str:
        return self._name

    def _call(self, c: Any, complement: Any) -> Any:
        assert self.family.function is not None
        with np.errstate(all="ignore"):
            return self.family.function(c, complement, *self.values)

    def _vector(self, values: Any, shape: tuple[int, ...], kinds: str, numbers: str) -> NDArray[Any]:
        """What the function returned, of that shape and of dtypes of these kinds; or an InputError that names it."""
        try:
            found = np.array(np.broadcast_to(values, shape))
        except (TypeError, ValueError):
            got = f"an array of shape {values.shape}" if isinstance(values, np.ndarray) else shown(values)
            raise InputError(
                f"the function of the kernel {self.name!r} returned {got} for cosines of shape {shape}; it must return one "
                "number for each"
            ) from None
        if found.dtype.kind not in kinds:
            raise InputError(
                f"the function of the kernel {self.name!r} returned {found.dtype}, not {numbers} numbers"
            )
        return found

    def _values(self, c: Array, complement: Array) -> Array:
        try:
            values = self._call(c, complement)
        except Exception as error:  # of another's function
            raise InputError(f"the function of the kernel {self.name!r} failed: {error!r}") from error
        return self._vector(values, c.shape, "fiub", "real").astype(np.float64)

    def _complex(self, c: Complex) -> Complex:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", np.exceptions.ComplexWarning)
                values = self._call(c, 1 - c)
            return self._vector(values, c.shape, "fiubc", "complex").astype(np.complex128)
        except Exception as error:  # of another's function
            raise NoSeriesError(
                f"the function of the kernel {self.name!r} takes no complex numbers ({error}), so that it has no power series; "
                "give its family taylor=..., or write it for complex arrays"
            ) from error

    def _power_series(self, degree: int, w_std: float, b_std: float) -> PowerSeries:
        taylor = self.family.taylor
        if taylor is None or b_std > 0:
            return continued(self, degree, w_std, b_std)
        try:
            found = taylor(degree, *self.values)
        except NoSeriesError:
            raise
        except Exception as error:  # of another's function
            raise InputError(f"the taylor of the kernel {self.name!r} failed: {error!r}") from error
        try:
            b = np.asarray(found)
            if b.dtype.kind not in "fiub":
                raise TypeError
            b = b.astype(np.float64)
        except (TypeError, ValueError):
            raise InputError(
                f"the taylor of the kernel {self.name!r} returned {shown(found)}; it must return ({degree + 1},) real numbers"
            ) from None
        if b.shape != (degree + 1,) or not np.isfinite(b).all():
            raise InputError(
                f"the Taylor coefficients of the kernel {self.name!r} to degree {degree} have shape {b.shape}; its taylor "
                f"must return ({degree + 1},) finite numbers"
            )
        tail = self._at_one - float(b.sum())
        near = 1 - 4 / (degree + 8)
        x = np.array([0.5, -0.5, 0.8, -0.8, 0.95, -0.95, near, -near])
        values, size = self._values(x, 1 - x), np.abs(x)
        gap = np.abs(np.polynomial.polynomial.polyval(x, b) - values)
        # What is left out: at most the tail where no term is negative; else terms no larger than the last half of those known.
        left_out = size ** (degree + 1) * (abs(tail) + np.abs(b[degree // 2 :]).max() / (1 - size))
        over = gap - left_out - DISAGREEMENT * max(abs(self._at_one), float(np.abs(values).max()))
        if not (over <= 0).all():
            at = int(np.argmax(over))
            raise InputError(
                f"the Taylor coefficients of the kernel {self.name!r} disagree with its function by {gap[at]:.1e} at "
                f"c = {x[at]:g}; correct the one or the other"
            )
        return PowerSeries(b, 2.0**-50 * np.abs(b), tail)


def _check(name: str, found: Any) -> KernelFamily:
    if not isinstance(found, KernelFamily):
        raise TypeError(f"expected an ntkengine.kernels.KernelFamily, found {type(found).__name__}")
    return found


def _builtins() -> dict[str, str]:
    from ntkengine.kernels import BUILTINS

    return {name: f"ntkengine.kernels.builtin:{name}_family" for name in BUILTINS}


#: Every family of kernels by name, built-ins and plugins.
registry: Registry[KernelFamily] = Registry("kernel", "ntkengine.kernels", _builtins, _check)


def kernel(name: str | DotProductKernel, /, **parameters: Any) -> DotProductKernel:
    """A dot-product kernel by its registered name, or by a formula in the cosine c.

    Parameters
    ----------
    name : str or DotProductKernel
        A registered family, such as ``"gaussian"`` or ``"arc_cosine"``, or a formula such as ``"c**4 + c"`` or
        ``"sinh(2*c)"`` (the language: :mod:`ntkengine.formula`); a kernel is returned as it is.
    **parameters : float or int
        Values of the family's parameters, the others keep their defaults; or a value for every parameter of the formula.

    Raises
    ------
    UnknownNameError
        If a single word is neither; the text lists the families and suggests the nearest.
    InputError
        If a parameter does not exist or its value is not allowed, if the text is no formula in c, or if K is not finite
        on [-1, 1].

    Examples
    --------
    >>> import ntkengine as nk
    >>> nk.kernel("c**4 + c")([-1.0, 0.0, 1.0])
    array([0., 0., 2.])
    >>> nk.kernel("gaussian", gamma=0.5)
    <kernel gaussian(gamma=0.5)>
    >>> nk.kernel("a*exp(c)", a=2.0)
    <kernel a*exp(c) (a=2)>
    """
    if isinstance(name, DotProductKernel):
        if parameters:
            raise InputError(f"{name!r} has its parameters already; {', '.join(parameters)} cannot be set")
        return name
    if not isinstance(name, str):
        raise InputError(
            f"a kernel is given by a name or by a formula in c, or is a DotProductKernel; not by {shown(name)}"
        )
    word = name.strip()
    if word != "c" and len(word) <= 200 and (word.isidentifier() or word in registry):
        if word not in registry:
            error = UnknownNameError("kernel", word, registry.names())
            hint = "A kernel is also given by a formula in the cosine c, such as 'c**4 + c' or 'exp(a*c)' with a=..."
            error.args = (f"{error} {hint}",)
            raise error
        return registry.get(word)(**parameters)
    return FormulaKernel(name, **parameters)
