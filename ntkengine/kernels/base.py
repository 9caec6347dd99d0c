"""Dot-product kernels: functions K(c) of the cosine between two points of the sphere |x|² = d."""

from __future__ import annotations

import abc
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkengine._check import shown
from ntkengine.errors import InputError, NoSeriesError

if TYPE_CHECKING:
    from ntkengine.kernels.algebra import Combination, Composition
    from ntkengine.kernels.describe import Description
    from ntkengine.kernels.samples import SampledKernel
    from ntkengine.kernels.taylor import PowerSeries

__all__ = ["DotProductKernel", "check_finite"]

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

#: A cosine this far outside [-1, 1] is rounding, and is clipped.
ROUNDING = 1e-12


class DotProductKernel(abc.ABC):
    """A kernel K(c), c the cosine of the angle between two points of the sphere.

    Kernels of ReLU type are smooth in √(1 − c), not in c, so a cosine rounded to float64 loses half the digits near
    c = 1. Subclasses therefore get 1 − c separately: exactly, where the caller knows the angle (:meth:`at_angle`).

    Kernels add, multiply and compose: ``k + k2``, ``k + 0.5``, ``k * k2``, ``2.0 * k``, ``k / 2``, ``k ** 3``,
    :meth:`compose`; these keep kernels positive definite, which is why there is no difference and no negative multiple.

    Subclasses define :meth:`_values` and :attr:`name`, and for :meth:`taylor` either :meth:`_series` or :meth:`_complex`.

    Attributes
    ----------
    parts : tuple of DotProductKernel
        The kernels it is made of; of a family, the kernel that defines it; none for formulas, samples and networks.

    Examples
    --------
    >>> import ntkengine as nk
    >>> k = nk.FCN("relu", w_std=2**0.5).kernel("nngp")
    >>> k.at_angle([0.0, 1e-3]).round(9)
    array([1.       , 0.9999995])
    >>> nk.kernel("gaussian").name
    'gaussian(gamma=1)'
    """

    parts: tuple[DotProductKernel, ...] = ()

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """A short name, for tables and figures."""

    @property
    def samples(self) -> tuple[SampledKernel, ...]:
        """The sampled kernels that it is, or is made of: where one is not positive definite, nor is what :meth:`taylor` gives.

        Examples
        --------
        >>> import numpy as np
        >>> import ntkengine as nk
        >>> c = np.linspace(-1, 1, 41)
        >>> k = 2.0 * nk.kernel_from_samples(c, np.cos(6 * c)) + nk.kernel("c**2")
        >>> [s.positive_definite for s in k.samples]
        [False]
        """
        return tuple(s for part in self.parts for s in part.samples)

    @property
    def _balls_are_slow(self) -> bool:
        """Whether :meth:`_series` takes a minute where another way takes a second: it goes through a network's layers."""
        return any(part._balls_are_slow for part in self.parts)

    @abc.abstractmethod
    def _values(self, c: Array, complement: Array) -> Array:
        """K for C-contiguous float64 vectors of cosines, shape (n,), and of 1 − c, shape (n,); returns (n,)."""

    def _values_at_angle(self, theta: Array) -> Array:
        """K for a vector of angles, shape (n,)."""
        return self._values(np.cos(theta), 2 * np.sin(theta / 2) ** 2)

    @cached_property
    def _at_one(self) -> float:
        """K(1)."""
        return float(self._values(np.ones(1), np.zeros(1))[0])

    def _deficit(self, c: Array, complement: Array) -> Array:
        """K(1) − K(c), arguments as for :meth:`_values`; overridden where it can keep its digits near c = 1."""
        return self._at_one - self._values(c, complement)

    def _deficit_at_angle(self, theta: Array) -> Array:
        """K(1) − K(cos θ) for a vector of angles, shape (n,)."""
        return self._at_one - self._values_at_angle(theta)

    def _complex(self, c: Complex) -> Complex:
        """K continued analytically from [-1, 1], at least into the open unit disk; complex128 (n,) to complex128 (n,)."""
        raise NoSeriesError(
            f"the kernel {self.name!r} has no analytic continuation into the complex plane, and so no power series that could "
            "be computed; give it as a formula or a family, or take the nearest kernel that is a power series"
        )

    def _series(self, x: Any) -> Any:
        """K of a power series in ball arithmetic (flint.arb_series) at flint's precision and cap; None: not available."""
        return None

    def taylor(self, degree: int, *, w_std: float = 1.0, b_std: float = 0.0) -> PowerSeries:
        """Coefficients b_k of ``K = Σ_k b_k ρ^k``, ``ρ = (σ_w² c + σ_b²)/(σ_w² + σ_b²)``; with the defaults ρ = c.

        ρ is the cosine after the input layer of a network with these standard deviations. K is positive definite on the
        spheres of every dimension exactly where the coefficients in ρ = c are non-negative (Schoenberg 1942).

        Parameters
        ----------
        degree : int
            The largest k, 0 to 100,000.
        w_std, b_std : float
            σ_w > 0 and σ_b >= 0.

        Returns
        -------
        PowerSeries, shape (degree+1,)
            With the absolute ``error`` of each coefficient and the ``tail`` K(1) − Σ b_k. Formulas and families: to 1e-14
            relative, by series arithmetic with balls (:func:`ntkengine.kernels.taylor.exact`). Other kernels: by Cauchy's
            integral, to rounding errors of K (:func:`ntkengine.kernels.taylor.cauchy`). What cannot be told from 0 is 0.
            Samples: of the nearest positive-definite kernel, with what they leave open as the ``error``.

        Raises
        ------
        InputError
            If an argument is not allowed.
        NoSeriesError
            An InputError too: if K is not analytic in the open disk |ρ| < 1, or its series cannot be computed. A singularity
            at |ρ| > 0.997, or a very weak one, may be missed; both algorithms say what they check.

        Examples
        --------
        >>> import ntkengine as nk
        >>> series = nk.kernel("exp(c)").taylor(4)
        >>> series * [1, 1, 2, 6, 24]
        array([1., 1., 1., 1., 1.])
        >>> round(series.tail, 6)
        0.009948
        """
        from ntkengine.kernels.taylor import checked, exact

        arguments = checked(degree, w_std, b_std)
        found = None if self._balls_are_slow else exact(self, *arguments)
        return self._power_series(*arguments) if found is None else found

    def _power_series(self, degree: int, w_std: float, b_std: float) -> PowerSeries:
        """What :meth:`taylor` gives where :meth:`_series` is not available."""
        from ntkengine.kernels.taylor import continued

        return continued(self, degree, w_std, b_std)

    def __call__(self, c: ArrayLike) -> Array | np.float64:
        """K(c), elementwise.

        Parameters
        ----------
        c : array_like
            Cosines in [-1, 1]; beyond that by at most 1e-12 (rounding) they are clipped.

        Returns
        -------
        float64 scalar or array of the shape of ``c``

        Raises
        ------
        InputError
            If a cosine is not finite or outside [-1, 1].

        Examples
        --------
        >>> import ntkengine as nk
        >>> k = nk.FCN("relu").kernel("nngp")
        >>> k([-1.0, 0.0, 1.0]).round(6)
        array([0.      , 0.159155, 0.5     ])
        """
        points, flat = _vector("c", c)
        _check("c", flat, "a cosine, from -1 to 1", -1 - ROUNDING, 1 + ROUNDING)
        flat = np.clip(flat, -1.0, 1.0)
        return _shaped(self._values(flat, 1 - flat), points)

    def at_angle(self, theta: ArrayLike) -> Array | np.float64:
        """K(cos θ) without loss for nearly equal points.

        Parameters
        ----------
        theta : array_like
            Angles in [0, π].

        Returns
        -------
        float64 scalar or array of the shape of ``theta``

        Raises
        ------
        InputError
            If an angle is not finite or outside [0, π].

        Examples
        --------
        >>> import ntkengine as nk
        >>> k = nk.FCN("relu").kernel("ntk")
        >>> bool(k.at_angle(1e-12) < k.at_angle(0.0))
        True
        """
        points, flat = _vector("theta", theta)
        _check("theta", flat, "an angle in radians, from 0 to π", -ROUNDING, np.pi + ROUNDING)
        return _shaped(self._values_at_angle(np.clip(flat, 0.0, np.pi)), points)

    # --- algebra -----------------------------------------------------------------------------------------------

    __array_ufunc__ = None  # NumPy numbers leave the arithmetic to this class

    def __add__(self, other: DotProductKernel | float) -> Combination:
        from ntkengine.kernels import algebra

        return algebra.add(self, _operand(other))

    def __radd__(self, other: float) -> Combination:
        from ntkengine.kernels import algebra

        return algebra.add(_operand(other), self)

    def __mul__(self, other: DotProductKernel | float) -> Combination:
        from ntkengine.kernels import algebra

        return algebra.multiply(self, _operand(other))

    __rmul__ = __mul__

    def __truediv__(self, other: float) -> Combination:
        from ntkengine.kernels import algebra

        other = _operand(other)
        if isinstance(other, DotProductKernel):
            raise _no_quotient()
        if isinstance(other, (bool, np.bool_)) or not isinstance(
            other, (int, float, np.integer, np.floating)
        ):
            return NotImplemented
        try:
            factor = 1 / float(other) if 0 < other < np.inf else 0.0
        except OverflowError:
            factor = 0.0
        if not 0 < factor < np.inf:
            raise InputError(
                f"a kernel is divided by {shown(other)}; the number must be finite and above 0, and so must one over it. For a "
                "negative multiple write the whole kernel as a formula, such as nk.kernel('-exp(c)/2')"
            )
        return algebra.multiply(self, factor)

    def __rtruediv__(self, other: float) -> Combination:
        if isinstance(_operand(other), (int, float, np.integer, np.floating)):
            raise _no_quotient()
        return NotImplemented

    def __sub__(self, other: DotProductKernel | float) -> Combination:
        if isinstance(_operand(other), (DotProductKernel, int, float, np.integer, np.floating)):
            raise _no_difference()
        return NotImplemented

    __rsub__ = __sub__

    def __neg__(self) -> Combination:
        raise _no_difference()

    def __pow__(self, exponent: int) -> Combination:
        from ntkengine.kernels import algebra

        return algebra.Power(self, _operand(exponent))

    def compose(self, inner: DotProductKernel) -> Composition:
        """The kernel c -> K(inner(c)), positive definite where both are.

        Parameters
        ----------
        inner : DotProductKernel
            With values in [-1, 1], such as ``k.normalized()``.

        Raises
        ------
        InputError
            If a value of ``inner`` is outside [-1, 1].

        Examples
        --------
        >>> import ntkengine as nk
        >>> k = nk.kernel("exp(c)").compose(nk.kernel("c**2"))
        >>> k
        <kernel exp(c) of (c**2)>
        >>> k.taylor(4)
        PowerSeries([1. , 0. , 1. , 0. , 0.5])
        """
        from ntkengine.kernels.algebra import Composition

        return Composition(self, inner)

    def normalized(self) -> Combination:
        """K/K(1), which is 1 at c = 1.

        Raises
        ------
        InputError
            If K(1) is not positive.

        Examples
        --------
        >>> import ntkengine as nk
        >>> nk.FCN("relu", depth=3).kernel("ntk").normalized()(1.0)
        np.float64(1.0)
        """
        from ntkengine.kernels.algebra import Normalized

        return Normalized(self)

    def describe(self, *, degree: int = 200) -> Description:
        """What the kernel is like, in numbers and in words: see :func:`ntkengine.kernels.describe.describe`."""
        from ntkengine.kernels.describe import describe

        return describe(self, degree=degree)

    def __repr__(self) -> str:
        return f"<kernel {self.name}>"


def _operand(other: Any) -> Any:
    """What stands beside a kernel in its arithmetic: an array without axes is its one entry, others are refused."""
    if not isinstance(other, np.ndarray):
        return other
    if other.ndim == 0:
        return other[()]
    raise InputError(
        f"a kernel is combined with an array of shape {other.shape}; it takes numbers and kernels. For products with the "
        "kernel's values write k(c)*array; for several kernels combine it with one number at a time"
    )


def _no_difference() -> InputError:
    return InputError(
        "kernels are not subtracted or negated, since that would make positive-definite kernels one that is not: write the "
        "whole kernel as a formula, such as nk.kernel('exp(c) - 0.5*c')"
    )


def _no_quotient() -> InputError:
    return InputError(
        "kernels are divided by positive numbers only, since a quotient of positive-definite kernels need not be one: write "
        "the whole kernel as a formula, such as nk.kernel('exp(c)/(2 - c)')"
    )


def check_finite(kernel: DotProductKernel) -> None:
    """InputError, naming a c, if K is not a finite real number at one of 2,500 points of [-1, 1]."""
    c = grid()
    wrong = np.flatnonzero(~np.isfinite(kernel._values(c, 1 - c)))
    if wrong.size:
        others = (
            f" (nor at {wrong.size - 1} of the other {c.size - 1} points tried)" if wrong.size > 1 else ""
        )
        raise InputError(
            f"the kernel {kernel.name!r} has no finite real value at c = {c[wrong[0]]:.6g}{others}; it needs one for every c "
            "from -1 to 1: keep divisors away from 0, the arguments of log and sqrt positive and values within float64; where "
            "only the limit is finite, as that of sin(c)/c at 0, write its power series, 1 - c**2/6 + c**4/120 - ..."
        )


def grid() -> Array:
    """Cosines on which kernels are checked: 2001 even in c and 513 even in the angle, increasing."""
    even, angles = np.linspace(-1, 1, 2001), np.linspace(0, np.pi, 513)
    return np.clip(np.unique(np.concatenate([even, np.cos(angles), [-1.0, 0.0, 1.0]])), -1.0, 1.0)


def _vector(argument: str, values: ArrayLike) -> tuple[Array, Array]:
    try:
        given = np.asarray(values)
        if given.dtype.kind not in "fiubO" or (given.dtype == object and None in given.flat):
            raise TypeError
        points = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            f"{argument} must be a real number or an array of real numbers, not {shown(values)}"
        ) from None
    return points, np.ascontiguousarray(points).reshape(-1)


def _check(argument: str, flat: Array, allowed: str, lower: float, upper: float) -> None:
    wrong = ~((flat >= lower) & (flat <= upper))
    if wrong.any():
        raise InputError(
            f"{argument} has the value {flat[wrong][0]!s} ({int(wrong.sum())} of {flat.size} values are not allowed); "
            f"each must be {allowed}"
        )


def _shaped(values: Array, points: Array) -> Array | np.float64:
    return values.reshape(points.shape) if points.ndim else np.float64(values[0])
