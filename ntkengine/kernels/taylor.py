"""Power series of kernels, ``K = Σ_k b_k ρ^k`` with ``ρ = (σ_w² c + σ_b²)/(σ_w² + σ_b²)``: the two algorithms.

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
from numpy.typing import NDArray

from ntkengine._check import integer, shown
from ntkengine.errors import InputError, NoSeriesError
from ntkengine.kernels._power_series import PowerSeries

if TYPE_CHECKING:
    from ntkengine.kernels.base import DotProductKernel

__all__ = ["MAX_DEGREE", "PowerSeries", "balls", "cauchy", "checked", "continued", "exact", "value_of_balls"]

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

MAX_DEGREE = 100_000
#: Bits of precision that are tried in turn.
PRECISIONS = (128, 256, 512, 1024, 4096)
#: A ball this good holds its number to 2⁻⁴⁸ = 4e-15 relative.
GOOD_BITS = 48
#: Coefficients below this are 0: squares of what a network would make of them underflow.
TINY = 1e-300
#: Whether K is analytic in the disk is judged by at least this many coefficients, and by the second number once more,
CHECKED_DEGREE, RECHECKED_DEGREE = 1024, 4096
#: at ρ = ±0.5 and ±(1 − 60/n), where what n coefficients leave out has fallen by e^-60,
MARGIN = 60.0
#: from a disagreement of this part of the largest |K| on,
DISAGREEMENT = 1e-6
#: and where the largest coefficient of degree n/2 to n is e^6 times that of n/4 to n/2, as with a singularity at 0.997, and
#: above the largest |K|; the first numbers are for the first judgement.
GROWS = ((2.0, 1e-3), (6.0, 1.0))
#: Radius of Cauchy's circle: r^-n for n coefficients, by which rounding errors grow.
GROWTH = 20.0
_EPS = float(np.finfo(np.float64).eps)

_lock = threading.RLock()  # flint's precision is one per process


def checked(degree: int, w_std: float, b_std: float) -> tuple[int, float, float]:
    """The arguments of :meth:`DotProductKernel.taylor`, as an int and two floats.

    Parameters
    ----------
    degree : int
        The largest k, 0 to 100,000.
    w_std, b_std : float
        σ_w > 0 and σ_b >= 0 of ρ.

    Raises
    ------
    InputError
        If the degree is not from 0 to 100,000, a standard deviation is not finite or negative, w_std is 0, or b_std/w_std is
        1e100 or more.

    Examples
    --------
    >>> from ntkengine.kernels.taylor import checked
    >>> checked(5, 1, 0)
    (5, 1.0, 0.0)
    """
    degree = integer("degree", degree, 0)
    if degree > MAX_DEGREE:
        raise InputError(f"degree is {shown(degree)}; power series are computed to degree {MAX_DEGREE}")
    stds = []
    for name, value in (("w_std", w_std), ("b_std", b_std)):
        try:
            number = float(value) if isinstance(value, (int, float, np.integer, np.floating)) else math.nan
        except OverflowError:
            number = math.inf
        if not (0 <= number < math.inf) or (name == "w_std" and number == 0):
            allowed = "above 0" if name == "w_std" else "of at least 0"
            raise InputError(f"{name} is {shown(value)}; it must be a finite standard deviation {allowed}")
        stds.append(number)
    if not stds[1] / stds[0] < 1e100:
        raise InputError(f"b_std/w_std is {stds[1]!r}/{stds[0]!r}; the weights vanish beside the biases")
    return degree, stds[0], stds[1]


# --- ball arithmetic -------------------------------------------------------------------------------------------


@contextmanager
def balls(precision: int, degree: int) -> Iterator[None]:
    """flint at ``precision`` bits, its power series cut after ``degree``; the settings before it come back.

    One thread at a time: they are of the process.

    Examples
    --------
    >>> from flint import arb_series
    >>> from ntkengine.kernels.taylor import balls
    >>> with balls(64, 2):
    ...     (1 / arb_series([1, -2])).coeffs() == [1, 2, 4]
    True
    """
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

    The precision is raised from 128 bits until every coefficient is good to 1e-14 relative or below 1e-300. What 4096 bits
    cannot tell from 0 is 0.

    Whether the series represents K in the disk is judged by its coefficients to degree 1024, in doubt 4096, or the degree
    asked for: they must not grow, and must sum to K at ρ = ±0.5 and ±(1 − 60/1024). A singularity at |ρ| > 0.997, or one that
    changes coefficients of degree 1024 by less than 1e-3 of the largest |K|, may be missed.

    Parameters
    ----------
    kernel : DotProductKernel
    degree : int
    w_std, b_std : float
        σ_w and σ_b of ρ.

    Raises
    ------
    NoSeriesError
        If K has no power series around ρ = 0, or is not analytic in |ρ| < 1, or 4096 bits are not enough to tell, or a
        coefficient is too large for a float. The error has the first negative coefficient, if one is certain.

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
        raise NoSeriesError(
            f"the kernel {kernel.name!r} has no power series: it is not analytic at {'ρ' if b_std else 'c'} = 0{_remedy(b_std)}"
        )
    c = np.array([1.0, -1.0])
    size = float(np.abs(kernel._values(c, 1 - c)).max())
    orders = sorted({max(degree, n) for n in (CHECKED_DEGREE, RECHECKED_DEGREE)})
    for order in orders:
        for precision in PRECISIONS:
            with balls(precision, order):
                coefficients = _coefficients(kernel, [-ratio, 1 + ratio], order) or []
                agrees = _agrees(kernel, coefficients, ratio, size)
                if agrees is False:
                    break
                wanted = coefficients[: degree + 1]
                last = precision == PRECISIONS[-1]
                grows = agrees and _grows(coefficients, size, *GROWS[order == orders[-1]])
                if grows:
                    break
                if agrees and (last or (grows is False and all(map(_good, wanted)))):
                    at_one = _coefficients(kernel, [1], 0)[0]  # type: ignore[index]
                    return _floats(kernel, wanted, at_one - sum(wanted, arb(0)))
        else:
            raise _unresolved(kernel, coefficients)
    raise _singular(kernel, coefficients, b_std)


def _coefficients(kernel: DotProductKernel, x: list[Any], order: int) -> list[Any] | None:
    """The first order + 1 coefficients of K of a power series, given by its own; balls around NaN where K has none."""
    from flint import arb, arb_series

    try:
        series = kernel._series(arb_series(x))
    except InputError:
        raise
    except (ValueError, ZeroDivisionError):  # flint divides by no series that begins with 0, nor by that of 0
        return [arb("nan")] * (order + 1)
    if series is None:
        return None
    found = series.coeffs()[: order + 1]
    return found + [arb(0)] * (order + 1 - len(found))


def value_of_balls(kernel: DotProductKernel, c: float) -> float | None:
    """K(c) to 4e-15 relative, however small; 0 where 4096 bits cannot tell it from 0. None where balls do not give it.

    Examples
    --------
    >>> import ntkengine as nk
    >>> from ntkengine.kernels.taylor import value_of_balls
    >>> value_of_balls(nk.kernel("(1 + c)**300 - 2**300"), 1.0), value_of_balls(nk.FCN("relu").kernel("nngp"), 1.0)
    (0.0, None)
    """
    if kernel._balls_are_slow:
        return None
    for precision in PRECISIONS:
        with balls(precision, 0):
            try:
                found = _coefficients(kernel, [c], 0)
            except NoSeriesError:
                return None
            if found is None or (found[0].is_finite() and _good(found[0])):
                return None if found is None else float(found[0].mid())
    return 0.0 if found is not None and found[0].contains(0) and found[0].is_finite() else None


def _undefined(kernel: DotProductKernel, x: list[Any]) -> bool:
    """Whether K has no value there at the highest precision either."""
    with balls(PRECISIONS[-1], 0):
        return not all(b.is_finite() for b in _coefficients(kernel, x, 0) or [])


def _good(ball: Any) -> bool:
    return ball.rel_accuracy_bits() >= GOOD_BITS or bool(ball.abs_upper() < TINY)


def _agrees(kernel: DotProductKernel, coefficients: list[Any], ratio: Any, size: float) -> bool | None:
    """Whether the power series sums to K inside the disk, to a part of the largest value there or of ``size``, that at c = ±1.

    None where balls of this precision cannot say.
    """
    from flint import arb, arb_poly

    polynomial, order = arb_poly(coefficients), len(coefficients) - 1
    rho = [arb(x) for x in (0.5, -0.5, 1 - MARGIN / order, MARGIN / order - 1)]
    points = [[(1 + ratio) * x - ratio] for x in rho]
    values = [_coefficients(kernel, x, 0)[0] for x in points]  # type: ignore[index]
    if not all(v.is_finite() for v in values):
        return False if any(_undefined(kernel, x) for x in points) else None
    if not all(b.is_finite() for b in coefficients):
        return None
    largest = max([v.abs_upper() for v in values] + ([arb(size)] if math.isfinite(size) else []))
    undecided = False
    for x, v in zip(rho, values):
        gap = polynomial(x) - v
        if bool(gap.abs_lower() > DISAGREEMENT * largest):
            return False
        undecided |= not bool(gap.abs_upper() <= 2 * DISAGREEMENT * largest)
    return None if undecided else True


def _grows(coefficients: list[Any], size: float, factor: float, part: float) -> bool | None:
    """Whether they grow as with a singularity in the disk, by e^factor and to more than that part of ``size``.

    None where balls of this precision cannot say.
    """
    end = len(coefficients)
    half, rest = coefficients[end // 4 : end // 2], coefficients[end // 2 :]
    before, upper = max(b.abs_upper() for b in half), max(b.abs_upper() for b in rest)
    if bool(before == 0) or not (bool(upper > part * size) and bool(upper > before * math.exp(factor))):
        return False
    lower = max(b.abs_lower() for b in rest)
    return True if bool(lower > part * size) and bool(lower > before * math.exp(factor)) else None


def _first_negative(coefficients: list[Any]) -> tuple[int, float] | None:
    return next(((k, float(b.mid())) for k, b in enumerate(coefficients) if bool(b < 0)), None)


def _unresolved(kernel: DotProductKernel, coefficients: list[Any]) -> NoSeriesError:
    """The error where the highest precision does not decide."""
    if all(b.is_finite() for b in coefficients):
        reason = f"its terms cancel to more than {PRECISIONS[-1]} bits; take a wider kernel, or one that oscillates less"
    else:
        reason = (
            "a root, a logarithm or a quotient in it begins with 0, or with what cannot be told from 0; write it without, or "
            "take the nearest kernel that is a power series (ntkengine.kernels.nearest.nearest)"
        )
    text = f"the power series of the kernel {kernel.name!r} cannot be computed: {reason}"
    return NoSeriesError(text, _first_negative(coefficients))


def _singular(kernel: DotProductKernel, coefficients: list[Any], b_std: float) -> NoSeriesError:
    """The error for a series that stops to represent K, with its radius of convergence by the root test."""
    first = len(coefficients) // 2
    roots = [
        float(b.abs_upper().log()) / k
        for k, b in enumerate(coefficients[first:], start=first)
        if bool(b.abs_upper() > 0)
    ]
    negative = _first_negative(coefficients)
    growth = min(max(roots, default=0.0), 700.0)
    if growth <= 0:
        return NoSeriesError(
            f"the power series of the kernel {kernel.name!r} to degree {len(coefficients) - 1} does not add up to it: it is "
            "too steep or oscillates too fast; ask for a higher degree, or choose a wider kernel",
            negative,
        )
    radius = math.exp(-growth)
    return NoSeriesError(
        f"the power series of the kernel {kernel.name!r} stops to represent it at |{'ρ' if b_std else 'c'}| = {radius:.3g}, "
        f"by {len(coefficients)} terms: the kernel is not analytic in the open unit disk, or oscillates too fast to tell"
        f"{_remedy(b_std)}",
        negative,
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
        raise NoSeriesError(
            f"coefficient {k} of the kernel {kernel.name!r} is {wanted[k].str(3)}, too large for a 64-bit number or not known "
            f"to {PRECISIONS[-1]} bits; divide the kernel by a number, or choose a degree below {k}",
            _first_negative(wanted),
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
    fallen by 1e-20, and rounding errors grow by no more than 20 up to degree n = max(degree, 1024). A singularity inside the
    circle, or outside but at |ρ| below 0.998, shows at negative powers; one nearer to 1 may be missed, and changes
    coefficients of degree k by its own size times e^(k/500) at most.

    Parameters
    ----------
    function : callable
        complex128 (m,) to complex128 (m,), on points of the upper half of the circle; and on the point 1, since a narrow
        kernel's values are good to rounding of the largest, which is there.
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
    NoSeriesError
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
    with np.errstate(all="ignore"):
        top = float(np.abs(function(np.ones(1, dtype=np.complex128)))[0])
    values = np.asarray(function(points), dtype=np.complex128)
    if not np.isfinite(values).all():
        at = points[int(np.flatnonzero(~np.isfinite(values))[0])]
        raise NoSeriesError(
            f"{owner} has no finite value at {at.real:.3g}{at.imag:+.3g}i, inside the unit disk{remedy}"
        )
    terms = np.fft.irfft(np.conj(values), count)
    largest = max(float(np.abs(values).max()), top if math.isfinite(top) else 0.0)
    beyond = float(np.abs(terms[-count // 8 :]).max())
    if beyond > 1e-11 * largest:
        raise NoSeriesError(
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
    NoSeriesError
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
    if not (gap <= DISAGREEMENT * max(np.abs(values).max(), abs(kernel._at_one))).all():
        at = int(np.argmax(gap))
        raise NoSeriesError(
            f"{owner} misses the value of its power series at ρ = {x[at]:.3g} by {gap[at]:.1e}: it is not analytic in "
            f"the open unit disk{remedy}"
        )
    b, error = b[: degree + 1], error[: degree + 1]
    return PowerSeries(b, error, kernel._at_one - math.fsum(b))
