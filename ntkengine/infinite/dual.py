"""The dual of an activation: G(ρ) = E[φ(√q u)φ(√q v)] for standard normals u, v with correlation ρ.

In closed form where the family has one. Else by Mehler's formula ``G(ρ) = Σ_k a_k² ρ^k``, which converges slowly for
activations
with kinks (at ρ = 1 like degree^{-1/2}). Therefore the jumps of φ and of its first three derivatives are split off,

    φ(√q z) = B(z) + S(z),     B(z) = Σ_j Σ_m J_jm (z − h_j)^m₊/m!,     m = 0..3,

the dual of B is known (:mod:`ntkengine.infinite._jumps`), and the rest ``Σ_k (A_k² − B_k²) ρ^k`` converges
fast. A logarithmic cusp z log|z| at 0 goes with B too, where φ jumps nowhere else. Daniely et al. 2016 (dual activations);
Cho & Saul 2009 is the case of one ReLU at 0.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ntkengine import hermite, quadrature
from ntkengine.activations.base import Activation
from ntkengine.errors import AccuracyWarning, InputError
from ntkengine.infinite import _dual, _jumps

__all__ = ["Dual", "DualValues", "dual"]

Array = NDArray[np.float64]

#: Degrees tried, one after the other, until the terms have died out.
DEGREES = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
#: A term below this part of the whole is left out.
NEGLIGIBLE = 1e-17
#: Where the derivative's terms fall like a power of k (jumps of φ'''' do that): the part beyond the last at which to stop.
SLOW_ENOUGH = 1e-10
#: Gauss–Legendre points in a panel of the pair integrals.
PAIR_ORDER = 20
#: Relative error above which a dual warns.
WARN_ABOVE = 1e-9
#: Relative error above which there is no dual.
REFUSE_ABOVE = 1e-2
#: Jumps of higher derivatives are split off as long as E[B²] stays below this many E[φ²]: B cancels against S.
LARGEST_JUMP_PART = 1e5


class DualValues(NamedTuple):
    """The dual at n points, each (n,)."""

    deficit: Array  #: G(1) − G(ρ), to full relative accuracy near ρ = 1
    excess: Array  #: G(1) + G(ρ), to full relative accuracy near ρ = −1 for odd φ
    derivative: Array  #: E[φ'(√q u)φ'(√q v)]


@dataclass(frozen=True, eq=False)
class Series:
    """The Mehler series of a dual less its jump part.

    Attributes
    ----------
    locations, jumps : (J,) and (J, 4) arrays
        h_j and J_jm of z ↦ φ(√q z).
    tails, derivative_terms : (degree+1,) arrays
        Σ_{k>j} (A_k² − B_k²), and the like terms of the derivative's series.
    parity : int
        1 for even φ, −1 for odd, 0 for neither.
    count : int
        Terms that matter at ρ = 1 to the accuracy that the family promises, without the one in which a remainder is put.
    orders : int
        Jumps of derivatives below this order are split off.
    cusp : float
        Factor of z log|z| in z ↦ φ(√q z), split off too; 0 if there is none, or it is left in the series.
    """

    locations: Array
    jumps: Array
    tails: Array
    derivative_terms: Array
    parity: int
    count: int
    orders: int
    cusp: float = 0.0


@dataclass(frozen=True, eq=False)
class Dual:
    """The dual of one activation at one variance; made by :func:`dual`.

    Attributes
    ----------
    activation : Activation
    variance : float
        q.
    value_at_one, derivative_at_one : float
        E[φ²], E[φ'²].
    error, derivative_error : float
        Absolute error estimates of G and of E[φ'φ'], any ρ.
    series : Series or None
        None: closed form.
    """

    activation: Activation
    variance: float
    value_at_one: float
    derivative_at_one: float
    error: float
    derivative_error: float
    series: Series | None = None

    @property
    def degree(self) -> int:
        """Where the series was cut; 0 for a closed form."""
        return self.series.tails.size - 1 if self.series else 0

    def evaluate(self, delta: Array, eta: Array) -> DualValues:
        """The dual at points given by 1 − ρ and 1 + ρ.

        Parameters
        ----------
        delta, eta : (n,) C-contiguous float64 arrays
            1 − ρ and 1 + ρ in [0, 2]; the smaller of the two decides.

        Returns
        -------
        DualValues
        """
        if self.series is None:
            return self._closed(delta, eta)
        deficit, excess, derivative = np.empty_like(delta), np.empty_like(delta), np.empty_like(delta)
        x, w = quadrature.gauss_legendre(PAIR_ORDER)
        part = self.series
        _dual.evaluate(
            delta, eta, part.parity, part.locations, part.jumps, part.cusp, part.tails, part.derivative_terms,
            self.value_at_one, self.variance, x, w, deficit, excess, derivative,
        )  # fmt: skip
        return DualValues(deficit, excess, derivative)

    def _closed(self, delta: Array, eta: Array) -> DualValues:
        out = np.empty((3, delta.size))
        row = np.array([math.sqrt(self.variance), math.sqrt(self.value_at_one)])
        address = self.activation.dual_tile().address
        _dual.evaluate_closed(address, self.activation.tile_parameters(np.float64), row, delta, eta, out)
        return DualValues(*out)

    def values(self, excess: Array, deficit: Array) -> Array:
        """G(ρ) from its two distances, whichever is small deciding."""
        return np.where(deficit <= excess, self.value_at_one - deficit, excess - self.value_at_one)


def jump_part(activation: Activation, variance: float, orders: int = _jumps.ORDERS) -> tuple[Array, Array]:
    """h_j (J,) and J_jm (J, 4), m < ``orders``, of z ↦ φ(√q z); kinks without such jumps are left out."""
    root = math.sqrt(variance)
    jumps = np.array([kink.jumps for kink in activation.kinks], dtype=np.float64).reshape(-1, _jumps.ORDERS)
    jumps = jumps * root ** np.arange(_jumps.ORDERS)
    jumps[:, orders:] = 0.0
    locations = np.array([kink.location for kink in activation.kinks], dtype=np.float64) / root
    some = jumps.any(axis=1)
    return locations[some], np.ascontiguousarray(jumps[some])


def cusp_part(activation: Activation, variance: float) -> float:
    """Factor of z log|z| in z ↦ φ(√q z) that can be split off: the cusp at 0, where φ has all its jumps there; else 0."""
    kinks = activation.kinks
    if any(kink.location and any(kink.jumps) for kink in kinks):
        return 0.0
    return math.sqrt(variance) * sum(kink.log_slope for kink in kinks if kink.location == 0.0)


def part_coefficients(locations: Array, jumps: Array, cusp: float, size: int) -> tuple[Array, Array]:
    """Hermite coefficients of what is split off, B_k, and of its derivative, b_k, each (size,)."""
    values, steps = np.empty(size), np.empty(size)
    _jumps.split_coefficients(locations, jumps, values, steps)
    if cusp:
        _jumps.add_cusp_coefficients(cusp, values, steps)
    return values, steps


def part_at_one(locations: Array, jumps: Array, cusp: float) -> tuple[float, float]:
    """E[B²] and E[b²] of what is split off."""
    value, slope = _jumps.sums_at_one(locations, jumps, np.empty(_jumps.SCRATCH))
    if cusp:
        more = _jumps.cusp_at_one(2.0 * cusp * jumps.sum(axis=0), cusp * cusp)
        value, slope = value + more[0], slope + more[1]
    return value, slope


def closed_moments(activation: Activation, variances: Array) -> tuple[Array, Array]:
    """E[φ²] and E[φ'²], each (n,), of a family with a closed-form dual; InputError where they are infinite."""
    moments = activation.family.moments
    assert moments is not None
    with np.errstate(over="ignore"):
        value, slope = moments(variances, activation.values)
    value, slope = (np.broadcast_to(np.asarray(m, dtype=np.float64), variances.shape) for m in (value, slope))
    wrong = ~np.isfinite(value)
    if wrong.any():
        raise infinite_variance(activation, float(variances[wrong][0]))
    return value, slope


def infinite_variance(activation: Activation, variance: float) -> InputError:
    """The error for E[φ²] = ∞, or beyond what a float64 holds."""
    return InputError(
        f"E[φ²] of {activation} is infinite at variance {variance:g} (or φ is beyond float64): there is no kernel; "
        "choose a smaller w_std, b_std or depth, inputs of smaller norm, or an activation that grows more slowly"
    )


def _tail_estimate(terms: Array) -> tuple[float, bool]:
    """Σ |terms| beyond the last, and whether they fall slowly, like a power of k (then by octaves, else by quarters)."""
    size = np.abs(terms)
    n = size.size
    if n < 32:
        return 0.0, False
    third, fourth = float(size[n // 2 : 3 * n // 4].sum()), float(size[3 * n // 4 :].sum())
    if fourth <= 0.25 * third or fourth == 0.0:
        return fourth, False
    earlier = float(size[n // 4 : n // 2].sum())
    ratio = min((third + fourth) / earlier, 0.9) if earlier > 0 else 0.9
    return (third + fourth) * ratio / (1 - ratio), True


def _with_remainder(
    terms: Array,
    derivative_terms: Array,
    value: tuple[float, float],
    derivative: tuple[float, float],
    parity: int,
) -> tuple[Array, Array]:
    """The series with what it misses at ρ = 1 and at ρ = −1 put in one even and one odd term of twice the degree."""
    size = 2 * terms.size + 2
    even = size - 1 - (size - 1) % 2
    long_terms, long_derivative = np.zeros(size), np.zeros(size)
    long_terms[: terms.size], long_derivative[: derivative_terms.size] = terms, derivative_terms
    if parity >= 0:
        long_terms[even] = (value[0] + value[1]) / 2
        long_derivative[even - 1] = (derivative[0] - derivative[1]) / 2
    if parity <= 0:
        long_terms[even - 1] = (value[0] - value[1]) / 2
        long_derivative[even] = (derivative[0] + derivative[1]) / 2
    return long_terms, long_derivative


def _significant(terms: Array, small: float) -> int:
    """How many terms to keep so that the rest sums to less than ``small``."""
    tails = np.cumsum(np.abs(terms[::-1]))[::-1]
    return int(np.count_nonzero(tails > small))


def _died_out(terms: Array, floor: Array) -> bool:
    late = slice(3 * terms.size // 4, None)
    return bool((np.abs(terms[late]) <= floor[late]).all())


def _parity(coefficients: Array) -> int:
    size = math.sqrt(float((coefficients**2).sum()))
    if float(np.abs(coefficients[1::2]).max(initial=0.0)) <= 1e-15 * size:
        return 1
    if float(np.abs(coefficients[::2]).max(initial=0.0)) <= 1e-15 * size:
        return -1
    return 0


def second_moment(
    activation: Activation, variance: float, f: Callable[[Array], Array], breaks: tuple[float, ...]
) -> tuple[float, float]:
    """E[f(z)²] and its error; InputError where it is infinite.

    Infinite means: f² p still grows at the edge of the range of the density, or does not fit a float64.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        edge = np.array([-37.5, -30.0, 30.0, 37.5])
        size = 2 * np.log(np.abs(f(edge)) + 1e-300) - edge * edge / 2
        far, near = size[[0, 3]], size[[1, 2]]
        if not (far < np.maximum(near, -500.0)).all():
            raise infinite_variance(activation, variance)
        value, error = quadrature.expectation(lambda z: f(z) ** 2, breaks)
    if not math.isfinite(value):
        raise infinite_variance(activation, variance)
    return value, error


def dual(activation: Activation, variance: float) -> Dual:
    """The dual of an activation at variance q.

    The degree of the series grows until its terms fall below 1e-17 of the whole **and** the sums at ρ = 1 agree with
    E[φ²] and E[φ'²] by quadrature; what is missing then is the error estimate.

    Parameters
    ----------
    activation : Activation
    variance : float
        q > 0.

    Returns
    -------
    Dual

    Raises
    ------
    InputError
        If the variance is not positive and finite, or φ is not finite.

    Warns
    -----
    AccuracyWarning
        If the estimated error is above 1e-9 (or what the family promises, if that is more) of E[φ²] or E[φ'²], as for a φ
        with kinks that are not declared.

    Examples
    --------
    >>> import ntkengine as nk
    >>> d = dual(nk.activation("relu"), 2.0)
    >>> round(d.value_at_one, 12), round(d.derivative_at_one, 12)
    (1.0, 0.5)
    """
    q = hermite.check_variance(variance)
    if activation.family.dual is not None:
        value, derivative = (float(m[0]) for m in closed_moments(activation, np.array([q])))
        return Dual(activation, q, value, derivative, 4e-16 * value, 4e-16 * derivative)
    root = math.sqrt(q)
    breaks = tuple(kink.location / root for kink in activation.kinks)

    def scaled(z: Array) -> tuple[Array, Array]:
        phi, dphi = activation.both(root * z)
        return np.asarray(phi, dtype=np.float64), np.asarray(root * dphi, dtype=np.float64)

    finite = activation.family.finite_degree
    if finite is None:
        square, square_error = second_moment(activation, q, lambda z: scaled(z)[0], breaks)
        slope, slope_error = second_moment(activation, q, lambda z: scaled(z)[1], breaks)
    else:  # a polynomial: the sums are finite
        a = hermite.expand(activation, max(finite(np.array(activation.values)), 1), q)
        with np.errstate(over="ignore"):
            square, slope = float(a @ a), float((np.arange(a.size) * a) @ a)
        square_error = slope_error = 0.0
        if not math.isfinite(slope):
            raise infinite_variance(activation, q)
    slope_scale = max(slope, square)  # a step has no slope to measure errors by
    cusp = cusp_part(activation, q)
    for orders in range(_jumps.ORDERS, 1, -1):
        locations, jumps = jump_part(activation, q, orders)
        jump_square, jump_slope = part_at_one(locations, jumps, cusp)
        if jump_square <= LARGEST_JUMP_PART * square:
            break
    # Quadrature leaves noise of about this size in every coefficient; closed forms do not.
    noise = 1e-15 * math.sqrt(square) if activation.family.coefficients is None else 0.0
    degrees = DEGREES if finite is None else (max(finite(np.array(activation.values)), 1),)
    accuracy, last = activation.family.accuracy, math.inf
    for degree in degrees:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AccuracyWarning)  # told below, in terms of the dual
            coefficients = hermite.expand(activation, degree, q)
        values, steps = part_coefficients(locations, jumps, cusp, degree + 1)
        terms, derivative_terms = np.empty(degree + 1), np.empty(degree + 1)
        _dual.series_terms(coefficients, values, steps, terms, derivative_terms)
        missing = abs(square - float(terms.sum()) - jump_square)
        derivative_missing = abs(slope - float(derivative_terms.sum()) - jump_slope)
        floor = NEGLIGIBLE * square + 2 * noise * np.abs(values)
        derivative_floor = NEGLIGIBLE * slope_scale + 2 * noise * np.sqrt(
            np.arange(1.0, degree + 2)
        ) * np.abs(steps)
        tail, slow = _tail_estimate(terms)
        derivative_tail, derivative_slow = _tail_estimate(derivative_terms)
        # What is missing at ρ = ±1 is put back below, in two terms: of slow tails about a tenth stays wrong elsewhere.
        doubt = 0.3 if derivative_slow else 1.0
        if accuracy:
            lost, slope_lost = max(tail, missing), doubt * max(derivative_tail, derivative_missing)
            left = max(lost / (square or 1.0), slope_lost / (slope_scale or 1.0))
            if left <= 0.01 * accuracy or 0.5 * last < left <= accuracy:
                break  # the rest is the formula's own error
            last = left
        if (
            max(tail, missing) <= 1e-12 * square
            and max(derivative_tail, derivative_missing)
            <= (SLOW_ENOUGH if derivative_slow else 1e-12) * slope_scale
            and (
                slow
                or derivative_slow
                or (_died_out(terms, floor) and _died_out(derivative_terms, derivative_floor))
            )
        ):
            break
    if locations.size or cusp:
        error = max(missing, tail) + square_error
        derivative_error = doubt * max(derivative_missing, derivative_tail) + slope_error
    else:  # every term is positive: what is missing at ρ = 1 is all that is missing anywhere
        error, derivative_error = missing + square_error, derivative_missing + slope_error
    error += 2e-15 * (square + jump_square)  # rounding, of B against S too
    derivative_error += 2e-15 * (slope + jump_slope)
    if error > REFUSE_ABOVE * square or derivative_error > REFUSE_ABOVE * (slope + 1e-6 * square):
        raise InputError(
            f"the kernel of {activation} at variance {q:g} is out of reach: {degree} terms leave {min(error / square, 1):.2g} "
            f"of E[φ²] and {min(derivative_error / slope, 1) if slope else 0:.2g} of E[φ'²] unexplained; standardise the "
            "inputs or choose smaller w_std and b_std, a lower frequency, a smoother activation"
        )
    allowed = max(WARN_ABOVE, accuracy)
    if error > allowed * square or derivative_error > allowed * slope_scale:
        warnings.warn(
            f"the dual of {activation} at variance {q:g} is good to {error:.1e} (E[φ²] = {square:.3g}) and that of its "
            f"derivative to {derivative_error / q:.1e} (E[φ'²] = {slope / q:.3g}), with {degree} terms; "
            "kinks that are not declared, jumps of high derivatives or very high frequencies do that",
            AccuracyWarning,
            stacklevel=2,
        )
    # A remainder is put back only where there is a jump part.
    small = max(1e-15, accuracy if locations.size or cusp else 0.01 * accuracy)
    count = max(_significant(terms, small * square), _significant(derivative_terms, small * slope_scale) + 1)
    used = np.nonzero((np.abs(terms) > floor) | (np.abs(derivative_terms) > derivative_floor))[0]
    keep = min(int(used[-1]) + 2, terms.size) if used.size else 1
    parity = _parity(coefficients)
    if missing > 1e-13 * square or derivative_missing > 1e-13 * (slope + 1e-6 * square):
        mirror = (*breaks, *(-h for h in breaks))
        opposite, _ = quadrature.expectation(lambda z: scaled(z)[0] * scaled(-z)[0], mirror)
        slope_opposite, _ = quadrature.expectation(lambda z: scaled(z)[1] * scaled(-z)[1], mirror)
        x, w = quadrature.gauss_legendre(PAIR_ORDER)
        lost, jumped = _jumps.deficits(
            locations, jumps, locations, jumps, True, 2.0, math.pi, x, w, np.empty(_jumps.SCRATCH)
        )
        if cusp:
            more = _jumps.cusp_deficits(2.0 * cusp * jumps.sum(axis=0), cusp * cusp, 2.0, math.pi)
            lost, jumped = lost + more[0], jumped + more[1]
        signs = (-1.0) ** np.arange(terms.size)
        terms, derivative_terms = _with_remainder(
            terms,
            derivative_terms,
            (
                square - float(terms.sum()) - jump_square,
                opposite - float(terms @ signs) - (jump_square - lost),
            ),
            (
                slope - float(derivative_terms.sum()) - jump_slope,
                slope_opposite - float(derivative_terms @ signs) - jumped,
            ),
            parity,
        )
        keep = terms.size
    terms, derivative_terms = (np.ascontiguousarray(t[:keep]) for t in (terms, derivative_terms))
    tails = np.empty(keep)
    _dual.tail_sums(terms, tails)
    return Dual(
        activation,
        q,
        value_at_one=float(terms.sum()) + jump_square,
        derivative_at_one=(float(derivative_terms.sum()) + jump_slope) / q,
        error=error,
        derivative_error=derivative_error / q,
        series=Series(
            locations, jumps, tails, derivative_terms, parity, min(count, degree + 1), orders, cusp
        ),
    )
