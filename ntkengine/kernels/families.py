"""Kernels by name: families of kernels with parameters, the registry of them, and :func:`kernel`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkengine.errors import InputError, UnknownNameError
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
        parameters' values in their order. If it takes complex c too, it must be analytic in |c| < 1, and power series
        come from that.
    taylor : callable, optional
        With ``function``: ``taylor(degree, *values) -> (degree+1,) array``, the coefficients b_k of ``K = Σ b_k c^k``.
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
            return self.family.made_of(*self.parameters.values())
        if self.family.function is not None:
            return _FunctionKernel(self)
        from ntkengine.formula import parse_program

        formula = self.family.formula
        text = formula if isinstance(formula, str) else formula(**self.parameters)
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
            return np.array(np.broadcast_to(self.family.function(c, complement, *self.values), c.shape))

    def _values(self, c: Array, complement: Array) -> Array:
        values = self._call(c, complement)
        if values.dtype.kind not in "fiub":
            raise InputError(
                f"the function of the kernel {self.name!r} returned {values.dtype}, not real numbers"
            )
        return values.astype(np.float64)

    def _complex(self, c: Complex) -> Complex:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", np.exceptions.ComplexWarning)
                return self._call(c, 1 - c).astype(np.complex128)
        except (TypeError, ValueError, np.exceptions.ComplexWarning) as error:
            raise InputError(
                f"the function of the kernel {self.name!r} takes no complex numbers ({error}), so that it has no power series; "
                "give its family taylor=..., or write it for complex arrays"
            ) from error

    def _power_series(self, degree: int, w_std: float, b_std: float) -> PowerSeries:
        taylor = self.family.taylor
        if taylor is None or b_std > 0:
            return continued(self, degree, w_std, b_std)
        b = np.asarray(taylor(degree, *self.values), dtype=np.float64)
        if b.shape != (degree + 1,) or not np.isfinite(b).all():
            raise InputError(
                f"the Taylor coefficients of the kernel {self.name!r} to degree {degree} have shape {b.shape}; its taylor "
                f"must return ({degree + 1},) finite numbers"
            )
        tail = self._at_one - float(b.sum())
        x = np.array([0.5, -0.5])
        gap = np.abs(np.polynomial.polynomial.polyval(x, b) - self._values(x, 1 - x))
        left_out = 0.5**degree * max(abs(tail), float(np.abs(b).max()))
        if not gap.max() <= DISAGREEMENT * max(1.0, abs(self._at_one)) + left_out:
            raise InputError(
                f"the Taylor coefficients of the kernel {self.name!r} disagree with its function by {gap.max():.1e} at "
                f"c = {x[int(gap.argmax())]:g}; correct the one or the other"
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
            f"a kernel is given by a name or by a formula in c, or is a DotProductKernel; not by {name!r}"
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
