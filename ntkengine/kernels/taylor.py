"""Power series of kernels, ``K = Σ_k b_k ρ^k`` with ``ρ = (σ_w² c + σ_b²)/(σ_w² + σ_b²)``: the record and the two algorithms.

:func:`exact` runs the kernel on power series whose coefficients are balls, intervals that enclose the exact numbers
(Johansson, IEEE Trans. Comput. 66 (2017) 1281), and raises the precision until every ball is small. :func:`cauchy` needs no
more than values of K on a circle in the complex plane. Both refuse a kernel whose series stops to represent it inside
the disk |ρ| < 1.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkengine._check import integer
from ntkengine.errors import InputError

if TYPE_CHECKING:
    from ntkengine.kernels.base import DotProductKernel

__all__ = ["MAX_DEGREE", "PowerSeries", "balls", "cauchy", "checked", "continued", "exact"]

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

MAX_DEGREE = 100_000
#: Bits of precision that are tried in turn.
PRECISIONS = (128, 256, 512, 1024)
#: A ball this good holds its number to 2⁻⁴⁸ = 4e-15 relative.
GOOD_BITS = 48
#: Coefficients below this are 0: squares of what a network would make of them underflow.
TINY = 1e-300
#: Whether K is analytic in the disk is judged by at least this many coefficients, and by the second number once more,
CHECKED_DEGREE, RECHECKED_DEGREE = 1024, 4096
#: at ρ = ±0.5 and ±(1 − 60/n), where what n coefficients leave out has fallen by e^-60,
MARGIN = 60.0
#: from a disagreement of this part of the largest |K| on.
DISAGREEMENT = 1e-6
#: Radius of Cauchy's circle: r^-n for n coefficients, by which rounding errors grow.
GROWTH = 20.0
_EPS = float(np.finfo(np.float64).eps)

_lock = threading.RLock()  # flint's precision is one per process


class PowerSeries(np.ndarray):
    """Coefficients b_k of ``K = Σ_k b_k ρ^k``, shape (degree+1,), float64, with what is known of their accuracy.

    Arithmetic, indexing and NumPy's functions give plain arrays.

    Parameters
    ----------
    coefficients : (degree+1,) array_like
    error : float or (degree+1,) array_like
        Bound or estimate of the absolute error of each.
    tail : float
        ``K(1) − Σ_k b_k``, the mass of the terms left out.

    Attributes
    ----------
    error : (degree+1,) array
    tail : float

    Examples
    --------
    >>> import ntkengine as nk
    >>> series = nk.kernel("geometric", rate=0.5).taylor(3)
    >>> series
    PowerSeries([1.   , 0.5  , 0.25 , 0.125])
    >>> series.tail, float(series.error.max()) < 1e-15
    (0.125, True)
    """

    error: Array
    tail: float

    def __new__(cls, coefficients: ArrayLike, error: ArrayLike = 0.0, tail: float = 0.0) -> PowerSeries:  # noqa: D102
        series = np.array(coefficients, dtype=np.float64, ndmin=1).view(cls)
        series.error = np.array(np.broadcast_to(np.asarray(error, dtype=np.float64), series.shape))
        series.tail = float(tail)
        return series

    def __array_finalize__(self, obj: Any) -> None:
        kept = getattr(obj, "shape", None) == self.shape
        if kept and isinstance(obj, PowerSeries):  # a copy
            self.error, self.tail = obj.error, obj.tail

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if "out" in options:
            options["out"] = tuple(_plain(x) for x in options["out"])
        return getattr(ufunc, method)(*map(_plain, inputs), **options)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return func(*map(_plain, args), **{key: _plain(value) for key, value in kwargs.items()})

    def __getitem__(self, key: Any) -> Any:
        return np.asarray(self)[key]

    def __reduce__(self) -> tuple[Any, ...]:
        return PowerSeries, (np.asarray(self), self.error, self.tail)


def _plain(x: Any) -> Any:
    if isinstance(x, PowerSeries):
        return np.asarray(x)
    return type(x)(map(_plain, x)) if type(x) in (list, tuple) else x


def checked(degree: int, w_std: float, b_std: float) -> tuple[int, float, float]:
    """The arguments of :meth:`DotProductKernel.taylor`, or an InputError that names the one that is wrong."""
    degree = integer("degree", degree, 0)
    if degree > MAX_DEGREE:
        raise InputError(f"degree is {degree}; power series are computed to degree {MAX_DEGREE}")
    stds = []
    for name, value in (("w_std", w_std), ("b_std", b_std)):
        try:
            number = float(value) if isinstance(value, (int, float, np.integer, np.floating)) else math.nan
        except OverflowError:
            number = math.inf
        if not (0 <= number < math.inf) or (name == "w_std" and number == 0):
            allowed = "above 0" if name == "w_std" else "of at least 0"
            raise InputError(f"{name} is {value!r}; it must be a finite standard deviation {allowed}")
        stds.append(number)
    if not stds[1] / stds[0] < 1e100:
        raise InputError(f"b_std/w_std is {stds[1]!r}/{stds[0]!r}; the weights vanish beside the biases")
    return degree, stds[0], stds[1]


# --- ball arithmetic -------------------------------------------------------------------------------------------


@contextmanager
def balls(precision: int, degree: int) -> Iterator[None]:
    """flint at ``precision`` bits, its power series cut after ``degree``; the settings before it come back."""
    from flint import ctx

    with _lock:
        before = ctx.prec, ctx.cap
        try:
            ctx.prec, ctx.cap = precision, degree + 1
            yield
        finally:
            ctx.prec, ctx.cap = before


def exact(
    kernel: DotProductKernel, degree: int, w_std: float = 1.0, b_std: float = 0.0
) -> PowerSeries | None:
    """The power series in ball arithmetic; None for a kernel without ``_series``.

    The precision is raised from 128 bits until every coefficient is good to 1e-14 relative or below 1e-300. What 1024 bits
    cannot tell from 0 is 0.

    Parameters
    ----------
    kernel : DotProductKernel
    degree : int
    w_std, b_std : float
        σ_w and σ_b of ρ.

    Raises
    ------
    InputError
        If K has no power series around ρ = 0, or is not analytic in |ρ| < 1, or a coefficient is too large for a float.

    Examples
    --------
    >>> import ntkengine as nk
    >>> from ntkengine.kernels.taylor import exact
    >>> exact(nk.kernel("cosh(c)"), 4) * 24
    array([24.,  0., 12.,  0.,  1.])
    """
    from flint import arb

    with balls(PRECISIONS[-1], 1):
        ratio = (arb(b_std) / arb(w_std)) ** 2
        centre = _coefficients(kernel, [-ratio, 1 + ratio], 1)
    if centre is None:
        return None
    if not all(b.is_finite() for b in centre):
        raise InputError(
            f"the kernel {kernel.name!r} has no power series: it is not analytic at {'ρ' if b_std else 'c'} = 0{_remedy(b_std)}"
        )
    for order in sorted({max(degree, n) for n in (CHECKED_DEGREE, RECHECKED_DEGREE)}):
        for precision in PRECISIONS:
            with balls(precision, order):
                coefficients = _coefficients(kernel, [-ratio, 1 + ratio], order) or []
                agrees = _agrees(kernel, coefficients, ratio)
                if agrees is False:
                    break
                wanted = coefficients[: degree + 1]
                if agrees and (precision == PRECISIONS[-1] or all(map(_good, wanted))):
                    at_one = _coefficients(kernel, [1], 0)[0]  # type: ignore[index]
                    return _floats(kernel, wanted, at_one - sum(wanted, arb(0)))
        else:
            raise InputError(
                f"the power series of the kernel {kernel.name!r} cannot be computed: its terms cancel to more than "
                f"{PRECISIONS[-1]} bits; take a kernel that oscillates less"
            )
    raise _singular(kernel, coefficients, b_std)


def _coefficients(kernel: DotProductKernel, x: list[Any], order: int) -> list[Any] | None:
    """The first order + 1 coefficients of K of a power series, given by its own; balls around NaN where K has none."""
    from flint import arb, arb_series

    try:
        series = kernel._series(arb_series(x))
    except InputError:
        raise
    except ValueError:  # flint divides by no series that begins with 0
        return [arb("nan")] * (order + 1)
    if series is None:
        return None
    found = series.coeffs()[: order + 1]
    return found + [arb(0)] * (order + 1 - len(found))


def _undefined(kernel: DotProductKernel, x: list[Any]) -> bool:
    """Whether K has no value there at the highest precision either."""
    with balls(PRECISIONS[-1], 0):
        return not all(b.is_finite() for b in _coefficients(kernel, x, 0) or [])


def _good(ball: Any) -> bool:
    return ball.rel_accuracy_bits() >= GOOD_BITS or bool(ball.abs_upper() < TINY)


def _agrees(kernel: DotProductKernel, coefficients: list[Any], ratio: Any) -> bool | None:
    """Whether the power series represents K inside the disk; None where balls of this precision cannot say."""
    from flint import arb, arb_poly

    polynomial, order = arb_poly(coefficients), len(coefficients) - 1
    rho = [arb(x) for x in (0.5, -0.5, 1 - MARGIN / order, MARGIN / order - 1)]
    points = [[(1 + ratio) * x - ratio] for x in rho]
    values = [_coefficients(kernel, x, 0)[0] for x in points]  # type: ignore[index]
    if not all(v.is_finite() for v in values):
        return False if any(_undefined(kernel, x) for x in points) else None
    if not all(b.is_finite() for b in coefficients):
        return None
    largest = max(values, key=lambda v: float(v.abs_upper())).abs_upper()
    undecided = False
    for x, v in zip(rho, values):
        gap = polynomial(x) - v
        if bool(gap.abs_lower() > DISAGREEMENT * largest):
            return False
        undecided |= not bool(gap.abs_upper() <= 2 * DISAGREEMENT * largest)
    return None if undecided else True


def _singular(kernel: DotProductKernel, coefficients: list[Any], b_std: float) -> InputError:
    """The error for a series that stops to represent K, with its radius of convergence by the root test."""
    first = len(coefficients) // 2
    roots = [
        float(b.abs_upper().log()) / k
        for k, b in enumerate(coefficients[first:], start=first)
        if bool(b.abs_upper() > 0)
    ]
    growth = min(max(roots, default=0.0), 700.0)
    if growth <= 0:
        return InputError(
            f"the power series of the kernel {kernel.name!r} to degree {len(coefficients) - 1} does not add up to it: it is "
            "too steep or oscillates too fast; ask for a higher degree, or choose a wider kernel"
        )
    radius = math.exp(-growth)
    return InputError(
        f"the power series of the kernel {kernel.name!r} stops to represent it at |{'ρ' if b_std else 'c'}| = {radius:.3g}, "
        f"by {len(coefficients)} terms: the kernel is not analytic in the open unit disk, or oscillates too fast to tell"
        f"{_remedy(b_std)}"
    )


def _remedy(b_std: float) -> str:
    return (
        f", in ρ for b_std={b_std:g}; choose a smaller b_std, or a kernel that is analytic there"
        if b_std
        else "; ntkengine.kernels.nearest.nearest(k) is the nearest kernel that is a sum of terms b_k c^k with b_k >= 0"
    )


def _floats(kernel: DotProductKernel, wanted: list[Any], left: Any) -> PowerSeries:
    b, error = np.zeros(len(wanted)), np.zeros(len(wanted))
    for k, ball in enumerate(wanted):
        if bool(ball.abs_upper() < TINY) or ball.contains(0):
            error[k] = float(ball.abs_upper())
            continue
        b[k] = float(ball.mid())
        error[k] = float(ball.rad()) + _EPS * abs(b[k])
    lost = ~np.isfinite(b) | ~(error <= 1e-12 * max(1.0, float(np.abs(b).max())))
    if lost.any():
        k = int(np.flatnonzero(lost)[0])
        raise InputError(
            f"coefficient {k} of the kernel {kernel.name!r} is {wanted[k].str(3)}, too large for a 64-bit number or not known "
            f"to {PRECISIONS[-1]} bits; divide the kernel by a number, or choose a degree below {k}"
        )
    scale = max(abs(kernel._at_one), float(np.abs(b).max()))
    certain = left.is_finite() and float(left.rad()) <= _EPS * scale
    if not certain:
        return PowerSeries(b, error, kernel._at_one - math.fsum(b))
    return PowerSeries(b, error, 0.0 if left.contains(0) else float(left.mid()))


# --- Cauchy's integral -----------------------------------------------------------------------------------------


def cauchy(
    function: Callable[[Complex], Complex], degree: int, owner: str = "the function", remedy: str = ""
) -> tuple[Array, Array]:
    """Coefficients of a function that is analytic in the unit disk, from its values on a circle.

    ``b_k = r^-k (1/M) Σ_j f(r e^{2πij/M}) e^{−2πijk/M}`` for a function with real coefficients (the values on the lower
    half of the circle are the conjugates), with ``r = 20^(−1/n)`` and ``M >= 16 n``: what the sum adds to b_k, b_{k+M} r^M, has
    fallen by 1e-20, and rounding errors grow by no more than 20 up to degree n = max(degree, 1024).

    Parameters
    ----------
    function : callable
        complex128 (m,) to complex128 (m,), on points of the upper half of the circle.
    degree : int
    owner, remedy : str
        How an error begins and ends.

    Returns
    -------
    b : (degree+1,) array
    error : (degree+1,) array
        Estimate: rounding, and what is found at negative powers, where an analytic function has nothing, times r^-k.
        Coefficients below it are 0.

    Raises
    ------
    InputError
        If a value is not finite, or negative powers are found: the function is not analytic.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkengine.kernels.taylor import cauchy
    >>> b, error = cauchy(np.cosh, 4)
    >>> (b * [1, 1, 2, 6, 24]).round(12)
    array([1., 0., 1., 0., 1.])
    """
    order = max(degree, CHECKED_DEGREE)
    radius = GROWTH ** (-1 / order)
    count = 1 << (16 * order - 1).bit_length()
    angles = np.pi * (np.arange(count // 2 + 1) / (count // 2))
    points = radius * np.exp(1j * angles)
    points[[0, count // 4, -1]] = radius, 1j * radius, -radius
    values = np.asarray(function(points), dtype=np.complex128)
    if not np.isfinite(values).all():
        at = points[int(np.flatnonzero(~np.isfinite(values))[0])]
        raise InputError(
            f"{owner} has no finite value at {at.real:.3g}{at.imag:+.3g}i, inside the unit disk{remedy}"
        )
    terms = np.fft.irfft(np.conj(values), count)
    largest = float(np.abs(values).max())
    beyond = float(np.abs(terms[-count // 8 :]).max())
    if beyond > 1e-11 * largest:
        raise InputError(
            f"{owner} is not analytic in the open unit disk: its Laurent series at radius {radius:.4g} has negative "
            f"powers, of size {beyond:.1e}{remedy}"
        )
    powers = np.exp(np.arange(degree + 1) * (math.log(GROWTH) / order))
    b, error = terms[: degree + 1] * powers, (2 * beyond + _EPS * largest) * powers
    b[np.abs(b) <= error] = 0.0
    return b, error


def continued(kernel: DotProductKernel, degree: int, w_std: float = 1.0, b_std: float = 0.0) -> PowerSeries:
    """The power series by Cauchy's integral of the kernel's continuation ``_complex``.

    Parameters
    ----------
    kernel : DotProductKernel
    degree : int
    w_std, b_std : float
        σ_w and σ_b of ρ.

    Raises
    ------
    InputError
        If the kernel has no continuation, or is not analytic in |ρ| < 1.

    Examples
    --------
    >>> import ntkengine as nk
    >>> from ntkengine.kernels.taylor import continued
    >>> continued(nk.kernel("exp(c)"), 3).round(12)
    array([1.        , 1.        , 0.5       , 0.16666667])
    """
    ratio = (b_std / w_std) ** 2
    order = max(degree, CHECKED_DEGREE)
    owner, remedy = f"the kernel {kernel.name!r}", _remedy(b_std)
    b, error = cauchy(lambda rho: kernel._complex(rho - ratio * (1 - rho)), order, owner, remedy)
    x = np.array([0.5, -0.5, 1 - MARGIN / order, MARGIN / order - 1])
    known = x - ratio * (1 - x) >= -1
    x, complement = x[known], (1 + ratio) * (1 - x[known])
    values = kernel._values(1 - complement, complement)
    gap = np.abs(np.polynomial.polynomial.polyval(x, b) - values)
    if not (gap <= DISAGREEMENT * np.abs(values).max()).all():
        at = int(np.argmax(gap))
        raise InputError(
            f"{owner} misses the value of its power series at ρ = {x[at]:.3g} by {gap[at]:.1e}: it is not analytic in "
            f"the open unit disk{remedy}"
        )
    b, error = b[: degree + 1], error[: degree + 1]
    return PowerSeries(b, error, kernel._at_one - math.fsum(b))
