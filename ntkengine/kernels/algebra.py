"""Sums, products, powers, positive multiples and compositions of dot-product kernels: positive definite if their parts are."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import reduce
from operator import add as plus
from operator import mul as times
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ntkengine._check import integer, shown
from ntkengine.errors import InputError, NoSeriesError
from ntkengine.kernels.base import ROUNDING, DotProductKernel, check_finite, grid
from ntkengine.kernels.taylor import PowerSeries, exact

if TYPE_CHECKING:
    from ntkengine.kernels.samples import SampledKernel

__all__ = ["Combination", "Composition", "Constant", "Normalized", "Power", "Product", "Scaled", "Sum"]

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

MAX_EXPONENT = 1024
_EPS = float(np.finfo(np.float64).eps)
#: A name that needs no brackets beside a sign.
_ATOM = re.compile(r"\w+|\w+\([^()]*\)")


def add(one: Any, other: Any) -> Any:
    """The sum of two kernels, or of a kernel and a number >= 0; NotImplemented for anything else."""
    parts = [k for k in (_as_kernel("added to", x) for x in (one, other)) if k is not None]
    return Sum(*parts) if len(parts) == 2 else NotImplemented


def multiply(one: DotProductKernel, other: Any) -> Any:
    """The product of two kernels, or of a kernel and a number >= 0; NotImplemented for anything else."""
    if isinstance(other, DotProductKernel):
        return Product(one, other)
    return Scaled(one, other) if _is_number(other) else NotImplemented


def _is_number(x: Any) -> bool:
    return isinstance(x, (int, float, np.integer, np.floating)) and not isinstance(x, bool)


def _as_kernel(use: str, x: Any) -> DotProductKernel | None:
    if isinstance(x, DotProductKernel):
        return x
    return Constant(_positive(use, x)) if _is_number(x) else None


def _positive(use: str, x: Any) -> float:
    """A finite number of at least 0; ``use`` says what happens with it."""
    try:
        number = float(x)
    except OverflowError:
        number = math.inf
    if not 0 <= number < math.inf:
        raise InputError(
            f"the number {use} a kernel is {shown(x)}; it must be finite and at least 0, since less would make a "
            "positive-definite kernel one that is not: write the whole kernel as a formula, such as nk.kernel('exp(c) - 0.5*c')"
        )
    return number


def _bracketed(kernel: DotProductKernel) -> str:
    return kernel.name if _ATOM.fullmatch(kernel.name) else f"({kernel.name})"


class Constant(DotProductKernel):
    """The kernel that is one number >= 0 everywhere.

    Examples
    --------
    >>> from ntkengine.kernels.algebra import Constant
    >>> Constant(0.5)([-1.0, 1.0])
    array([0.5, 0.5])
    """

    def __init__(self, value: float) -> None:
        self.value = _positive("that is", value)

    @property
    def name(self) -> str:
        """The number."""
        return f"{self.value:.6g}"

    def _values(self, c: Array, complement: Array) -> Array:
        return np.full(c.shape, self.value)

    def _complex(self, c: Complex) -> Complex:
        return np.full(c.shape, self.value, dtype=np.complex128)

    def _series(self, x: Any) -> Any:
        return x * 0 + self.value


class Combination(DotProductKernel):
    """A kernel made of others by sums and products, the same on floats, complex numbers, power series and differences.

    Attributes
    ----------
    parts : tuple of DotProductKernel

    Raises
    ------
    InputError
        If it is not finite somewhere on [-1, 1].
    """

    def _join(self, values: list[Any]) -> Any:
        """The values of the parts put together."""
        raise NotImplementedError

    def _joined(self, values: list[Any]) -> Any:
        with np.errstate(all="ignore"):  # too large a value is found by check_finite
            return self._join(values)

    def _values(self, c: Array, complement: Array) -> Array:
        return self._joined([k._values(c, complement) for k in self.parts])

    def _values_at_angle(self, theta: Array) -> Array:
        return self._joined([k._values_at_angle(theta) for k in self.parts])

    def _deficit(self, c: Array, complement: Array) -> Array:
        return self._gain([k._deficit(c, complement) for k in self.parts])

    def _deficit_at_angle(self, theta: Array) -> Array:
        return self._gain([k._deficit_at_angle(theta) for k in self.parts])

    def _gain(self, deficits: list[Array]) -> Array:
        from ntkengine.kernels._difference import Difference

        return self._joined(
            [Difference(k._at_one - d, k._at_one, d) for k, d in zip(self.parts, deficits)]
        ).gain

    def _complex(self, c: Complex) -> Complex:
        return self._joined([k._complex(c) for k in self.parts])

    def _series(self, x: Any) -> Any:
        parts = [k._series(x) for k in self.parts]
        return None if any(part is None for part in parts) else self._join(parts)


class Sum(Combination):
    """K(c) = Σ K_i(c).

    Examples
    --------
    >>> import ntkengine as nk
    >>> k = nk.kernel("c") + nk.kernel("c**2") + 0.5
    >>> k, k(1.0)
    (<kernel c + c**2 + 0.5>, np.float64(2.5))
    """

    def __init__(self, *parts: DotProductKernel) -> None:
        self.parts = tuple(inner for k in parts for inner in (k.parts if isinstance(k, Sum) else (k,)))
        check_finite(self)

    @property
    def name(self) -> str:
        """The parts' names."""
        return " + ".join(k.name for k in self.parts)

    def _join(self, values: list[Any]) -> Any:
        return reduce(plus, values)

    def _power_series(self, degree: int, w_std: float, b_std: float) -> PowerSeries:
        each = [k.taylor(degree, w_std=w_std, b_std=b_std) for k in self.parts]
        total = sum(map(np.asarray, each))
        error = sum(s.error for s in each) + _EPS * sum(map(np.abs, each))
        return PowerSeries(total, error, math.fsum(s.tail for s in each))


class Product(Combination):
    """K(c) = Π K_i(c).

    Its power series to degree n takes n² multiplications where a part is a network's: seconds at n = 30,000.

    Examples
    --------
    >>> import ntkengine as nk
    >>> k = nk.kernel("c") * nk.kernel("gaussian", gamma=0.5)
    >>> k, k(1.0)
    (<kernel c * gaussian(gamma=0.5)>, np.float64(1.0))
    """

    def __init__(self, *parts: DotProductKernel) -> None:
        self.parts = tuple(inner for k in parts for inner in (k.parts if isinstance(k, Product) else (k,)))
        check_finite(self)

    @property
    def name(self) -> str:
        """The parts' names."""
        return " * ".join(map(_bracketed, self.parts))

    def _join(self, values: list[Any]) -> Any:
        return reduce(times, values)

    def _power_series(self, degree: int, w_std: float, b_std: float) -> PowerSeries:
        return reduce(_convolved, (k.taylor(degree, w_std=w_std, b_std=b_std) for k in self.parts))


class Scaled(Combination):
    """K(c) = factor · k(c), the factor at least 0.

    Examples
    --------
    >>> import ntkengine as nk
    >>> k = 2.0 * nk.kernel("c + c**2")
    >>> k, k(1.0)
    (<kernel 2 * (c + c**2)>, np.float64(4.0))
    """

    def __init__(self, kernel: DotProductKernel, factor: float) -> None:
        self.parts, self.factor = (kernel,), _positive("times", factor)
        check_finite(self)

    @property
    def name(self) -> str:
        """The factor and the kernel's name."""
        return f"{self.factor:.6g} * {_bracketed(self.parts[0])}"

    @property
    def samples(self) -> tuple[SampledKernel, ...]:
        """Those of the kernel; none where the factor is 0."""
        return self.parts[0].samples if self.factor else ()

    def _join(self, values: list[Any]) -> Any:
        return values[0] * self.factor

    def _power_series(self, degree: int, w_std: float, b_std: float) -> PowerSeries:
        series = self.parts[0].taylor(degree, w_std=w_std, b_std=b_std)
        return _mapped(series, lambda b: b * self.factor)


class Normalized(Combination):
    """K(c) = k(c)/k(1).

    Examples
    --------
    >>> import ntkengine as nk
    >>> nk.kernel("exp(c)").normalized()
    <kernel exp(c) / 2.71828>
    """

    def __init__(self, kernel: DotProductKernel) -> None:
        if not 0 < kernel._at_one < math.inf:
            raise InputError(
                f"the kernel {kernel.name!r} cannot be normalized: its value at c = 1 is {kernel._at_one:g}, not above 0"
            )
        self.parts = (kernel,)
        check_finite(self)

    @property
    def name(self) -> str:
        """The kernel's name and its value at c = 1."""
        return f"{_bracketed(self.parts[0])} / {self.parts[0]._at_one:.6g}"

    def _join(self, values: list[Any]) -> Any:
        return values[0] / self.parts[0]._at_one

    def _series(self, x: Any) -> Any:
        from flint import arb_series

        series, at_one = self.parts[0]._series(x), self.parts[0]._series(arb_series([1]))
        if series is None:
            return None
        return series / (at_one if all(b.is_finite() for b in at_one.coeffs()) else self.parts[0]._at_one)

    def _power_series(self, degree: int, w_std: float, b_std: float) -> PowerSeries:
        series = self.parts[0].taylor(degree, w_std=w_std, b_std=b_std)
        return _mapped(series, lambda b: b / self.parts[0]._at_one)


class Power(Combination):
    """K(c) = k(c)ⁿ, n a whole number from 0 to 1024.

    Examples
    --------
    >>> import ntkengine as nk
    >>> k = nk.kernel("1 + c") ** 3
    >>> k, k(1.0)
    (<kernel (1 + c)**3>, np.float64(8.0))
    """

    def __init__(self, kernel: DotProductKernel, exponent: int) -> None:
        self.parts, self.exponent = (kernel,), integer("exponent", exponent, 0, f", at most {MAX_EXPONENT}")
        if self.exponent > MAX_EXPONENT:
            raise InputError(
                f"exponent is {shown(exponent)}; a kernel is raised to whole powers from 0 to {MAX_EXPONENT}"
            )
        check_finite(self)

    @property
    def name(self) -> str:
        """The kernel's name and the exponent."""
        return f"{_bracketed(self.parts[0])}**{self.exponent}"

    @property
    def samples(self) -> tuple[SampledKernel, ...]:
        """Those of the kernel; none where the exponent is 0."""
        return self.parts[0].samples if self.exponent else ()

    def _join(self, values: list[Any]) -> Any:
        return values[0] ** self.exponent

    def _power_series(self, degree: int, w_std: float, b_std: float) -> PowerSeries:
        base = self.parts[0].taylor(degree, w_std=w_std, b_std=b_std)
        result = PowerSeries(np.eye(1, degree + 1)[0])
        for bit in f"{self.exponent:b}":
            result = _convolved(result, result)
            result = _convolved(result, base) if bit == "1" else result
        return result


class Composition(DotProductKernel):
    """K(c) = outer(inner(c)), the values of ``inner`` in [-1, 1].

    Where inner(1) is 1 to rounding, 1 − inner(c) is handed on with the digits that ``inner`` keeps of it, since outer may be
    smooth in √(1 − c) only.

    Parameters
    ----------
    outer, inner : DotProductKernel

    Raises
    ------
    InputError
        If a value of ``inner`` is outside [-1, 1] by more than 1e-12, or the composition is not finite somewhere.

    Examples
    --------
    >>> import ntkengine as nk
    >>> k = nk.kernel("laplace").compose(nk.kernel("c**2"))
    >>> float(k.at_angle(1e-12)) - 1  # r = √(2(1 − cos²θ)) = √2 θ
    -1.4142...e-12
    """

    def __init__(self, outer: DotProductKernel, inner: DotProductKernel) -> None:
        if not isinstance(inner, DotProductKernel):
            raise InputError(
                f"inner must be a DotProductKernel, such as nk.kernel('c**2'), not {shown(inner)}"
            )
        self.parts = self.outer, self.inner = outer, inner
        c = grid()
        values = inner._values(c, 1 - c)
        worst = int(np.argmax(np.abs(values)))
        if not abs(values[worst]) <= 1 + ROUNDING:
            raise InputError(
                f"inner is the kernel {inner.name!r}, whose value at c = {c[worst]:.6g} is {values[worst]:.6g}; to be composed "
                "it must stay within [-1, 1]: take inner.normalized()"
            )
        check_finite(self)

    @property
    def name(self) -> str:
        """Both names."""
        return f"{_bracketed(self.outer)} of {_bracketed(self.inner)}"

    def _power_series(self, degree: int, w_std: float, b_std: float) -> PowerSeries:
        try:
            return super()._power_series(degree, w_std, b_std)
        except NoSeriesError:
            # Inner leaves the disk into which outer is continued; balls may know outer there.
            found = exact(self, degree, w_std, b_std) if self._balls_are_slow else None
            if found is None:
                raise
            return found

    @property
    def _gap(self) -> float:
        """1 − inner(1), or 0 where that is rounding."""
        gap = 1 - self.inner._at_one
        return gap if abs(gap) > ROUNDING else 0.0

    def _of(self, function: Callable[[Array, Array], Array], deficit: Array) -> Array:
        complement = np.clip(self._gap + deficit, 0.0, 2.0)
        return function(1 - complement, complement)

    def _values(self, c: Array, complement: Array) -> Array:
        return self._of(self.outer._values, self.inner._deficit(c, complement))

    def _values_at_angle(self, theta: Array) -> Array:
        return self._of(self.outer._values, self.inner._deficit_at_angle(theta))

    def _deficit(self, c: Array, complement: Array) -> Array:
        if self._gap:
            return super()._deficit(c, complement)
        return self._of(self.outer._deficit, self.inner._deficit(c, complement))

    def _deficit_at_angle(self, theta: Array) -> Array:
        if self._gap:
            return super()._deficit_at_angle(theta)
        return self._of(self.outer._deficit, self.inner._deficit_at_angle(theta))

    def _complex(self, c: Complex) -> Complex:
        return self.outer._complex(self.inner._complex(c))

    def _series(self, x: Any) -> Any:
        if x.coeffs() == [1] and not self._gap:
            return self.outer._series(x)
        inner = self.inner._series(x)
        return None if inner is None else self.outer._series(inner)


def _mapped(series: PowerSeries, scale: Callable[[Any], Any]) -> PowerSeries:
    """A multiple of a series, ``scale`` that of a number."""
    b = scale(np.asarray(series))
    return PowerSeries(b, scale(series.error) + _EPS * np.abs(b), scale(series.tail))


def _convolved(one: PowerSeries, other: PowerSeries) -> PowerSeries:
    """The power series of a product: ``Σ_i a_i b_{k−i}``, its error carried from those of both."""
    a, b, n = np.asarray(one), np.asarray(other), one.size
    size_a, size_b = np.abs(a), np.abs(b)
    coefficients = np.convolve(a, b)[:n]
    error = np.convolve(size_a + one.error, other.error)[:n] + np.convolve(one.error, size_b)[:n]
    error += 4 * _EPS * np.convolve(size_a, size_b)[:n]
    # What rounding makes is 0; what samples leave open (their error is larger) is their best estimate.
    coefficients[np.abs(coefficients) <= np.minimum(error, 1e-10 * np.abs(coefficients).max())] = 0.0
    total = (math.fsum(a) + one.tail) * (math.fsum(b) + other.tail)
    return PowerSeries(coefficients, error, total - math.fsum(coefficients))
