"""The dual of an activation: G(ρ) = E[φ(√q u)φ(√q v)] for standard normals u, v with correlation ρ.

Mehler's formula ``G(ρ) = Σ_k a_k² ρ^k`` converges slowly for activations with kinks (at ρ = 1 like degree^{-1/2}).
Here the jumps of φ and of φ' are split off,

    φ(√q z) = B(z) + S(z),     B(z) = Σ_j [V_j step(z − h_j) + J_j (z − h_j)₊],

the dual of B is known (:mod:`ntkengine.infinite._dual`), and the rest ``Σ_k (A_k² − B_k²) ρ^k`` converges
fast. Daniely et al. 2016 (dual activations); Cho & Saul 2009 is the case of one ReLU at 0.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ntkengine import hermite, quadrature
from ntkengine.activations.base import Activation
from ntkengine.errors import AccuracyWarning, InputError
from ntkengine.infinite import _dual

__all__ = ["Dual", "DualValues", "dual"]

Array = NDArray[np.float64]

#: Degrees tried, one after the other, until the terms have died out.
DEGREES = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
#: A term below this part of the whole is left out.
NEGLIGIBLE = 1e-17
#: Gauss–Legendre points in a panel of the pair integrals.
PAIR_ORDER = 20
#: Relative error above which a dual warns.
WARN_ABOVE = 1e-9
#: Relative error above which there is no dual.
REFUSE_ABOVE = 1e-2


class DualValues(NamedTuple):
    """The dual at n points, each (n,)."""

    deficit: Array  #: G(1) − G(ρ), to full relative accuracy near ρ = 1
    excess: Array  #: G(1) + G(ρ), to full relative accuracy near ρ = −1 for odd φ
    derivative: Array  #: E[φ'(√q u)φ'(√q v)]


@dataclass(frozen=True, eq=False)
class Dual:
    """The dual of one activation at one variance; made by :func:`dual`.

    Attributes
    ----------
    activation : Activation
    variance : float
        q.
    locations, jumps, slopes : (J,) arrays
        h_j, V_j, J_j of the jump part of z ↦ φ(√q z).
    tails, derivative_terms : (degree+1,) arrays
        Σ_{k>j} (A_k² − B_k²), and the like terms of the derivative's series.
    value_at_one, derivative_at_one : float
        E[φ²], E[φ'²].
    parity : int
        1 for even φ, −1 for odd, 0 for neither.
    error, derivative_error : float
        Absolute error estimates of G and of E[φ'φ'], any ρ.
    """

    activation: Activation
    variance: float
    locations: Array
    jumps: Array
    slopes: Array
    tails: Array
    derivative_terms: Array
    value_at_one: float
    derivative_at_one: float
    parity: int
    error: float
    derivative_error: float

    @property
    def degree(self) -> int:
        """Where the series was cut."""
        return self.tails.size - 1

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
        deficit, excess, derivative = np.empty_like(delta), np.empty_like(delta), np.empty_like(delta)
        x, w = quadrature.gauss_legendre(PAIR_ORDER)
        _dual.evaluate(
            delta, eta, self.parity, self.locations, self.jumps, self.slopes, self.tails, self.derivative_terms,
            self.value_at_one, self.variance, x, w, deficit, excess, derivative,
        )  # fmt: skip
        return DualValues(deficit, excess, derivative)

    def values(self, excess: Array, deficit: Array) -> Array:
        """G(ρ) from its two distances, whichever is small deciding."""
        return np.where(deficit <= excess, self.value_at_one - deficit, excess - self.value_at_one)


def jump_part(activation: Activation, variance: float) -> tuple[Array, Array, Array]:
    """h_j, V_j, J_j of z ↦ φ(√q z), each (J,), from the kinks an activation declares."""
    root = math.sqrt(variance)
    kinks = activation.kinks
    return (
        np.array([kink.location / root for kink in kinks], dtype=np.float64),
        np.array([kink.jump for kink in kinks], dtype=np.float64),
        np.array([kink.slope_jump * root for kink in kinks], dtype=np.float64),
    )


def _tail_estimate(terms: Array) -> float:
    """Σ |terms| beyond the last: geometric by quarters where they fall fast, else by octaves, as powers of k fall."""
    size, n = np.abs(terms), terms.size
    third, fourth = float(size[n // 2 : 3 * n // 4].sum()), float(size[3 * n // 4 :].sum())
    if fourth <= 0.25 * third or fourth == 0.0:
        return fourth
    earlier = float(size[n // 4 : n // 2].sum())
    ratio = min((third + fourth) / earlier, 0.9) if earlier > 0 else 0.9
    return (third + fourth) * ratio / (1 - ratio)


def _with_remainder(
    terms: Array, derivative_terms: Array, value: float, derivative: float, parity: int
) -> tuple[Array, Array]:
    """The series with what is missing at ρ = 1 put in one term of twice the degree: right at ρ = 1 and away from it."""
    size = 2 * terms.size
    at = size - 1 - (parity == 1) * ((size - 1) % 2) - (parity == -1) * (size % 2)
    long_terms, long_derivative = np.zeros(size), np.zeros(size)
    long_terms[: terms.size], long_derivative[: derivative_terms.size] = terms, derivative_terms
    long_terms[at], long_derivative[at - 1] = value, derivative
    return long_terms, long_derivative


def _parity(coefficients: Array) -> int:
    size = math.sqrt(float((coefficients**2).sum()))
    if float(np.abs(coefficients[1::2]).max(initial=0.0)) <= 1e-15 * size:
        return 1
    if float(np.abs(coefficients[::2]).max(initial=0.0)) <= 1e-15 * size:
        return -1
    return 0


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
        If the estimated error is above 1e-9 of E[φ²] or E[φ'²], as for a φ whose second derivative jumps.

    Examples
    --------
    >>> import ntkengine as nk
    >>> d = dual(nk.activation("relu"), 2.0)
    >>> round(d.value_at_one, 12), round(d.derivative_at_one, 12)
    (1.0, 0.5)
    """
    q = hermite.check_variance(variance)
    root = math.sqrt(q)
    locations, jumps, slopes = jump_part(activation, q)
    breaks = tuple(locations)

    def scaled(z: Array) -> tuple[Array, Array]:
        phi, dphi = activation.both(root * z)
        return np.asarray(phi, dtype=np.float64), np.asarray(root * dphi, dtype=np.float64)

    square, square_error = quadrature.expectation(lambda z: scaled(z)[0] ** 2, breaks)
    slope, slope_error = quadrature.expectation(lambda z: scaled(z)[1] ** 2, breaks)
    slope_scale = max(slope, square)  # a step has no slope to measure errors by
    jump_square, jump_slope = _dual.jump_sums_at_one(locations, jumps, slopes)
    # Quadrature leaves noise of about this size in every coefficient; closed forms do not.
    noise = 1e-15 * math.sqrt(square) if activation.family.coefficients is None else 0.0
    for degree in DEGREES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AccuracyWarning)  # told below, in terms of the dual
            coefficients = hermite.expand(activation, degree, q)
        values, steps = np.empty(degree + 1), np.empty(degree + 1)
        _dual.split_coefficients(locations, jumps, slopes, values, steps)
        terms, derivative_terms = np.empty(degree + 1), np.empty(degree + 1)
        _dual.series_terms(coefficients, values, steps, terms, derivative_terms)
        missing = abs(square - float(terms.sum()) - jump_square)
        derivative_missing = abs(slope - float(derivative_terms.sum()) - jump_slope)
        floor = NEGLIGIBLE * square + 2 * noise * np.abs(values)
        derivative_floor = NEGLIGIBLE * slope_scale + 2 * noise * np.sqrt(
            np.arange(1.0, degree + 2)
        ) * np.abs(steps)
        late = slice(3 * degree // 4, None)
        if (
            (np.abs(terms[late]) <= floor[late]).all()
            and (np.abs(derivative_terms[late]) <= derivative_floor[late]).all()
            and missing <= 1e-12 * square
            and derivative_missing <= 1e-12 * slope_scale
        ):
            break
    error = max(missing, _tail_estimate(terms)) + square_error
    derivative_error = max(derivative_missing, _tail_estimate(derivative_terms)) + slope_error
    if error > REFUSE_ABOVE * square or derivative_error > REFUSE_ABOVE * (slope + 1e-6 * square):
        raise InputError(
            f"the kernel of {activation} at variance {q:g} is out of reach: {degree} terms leave {min(error / square, 1):.0%} "
            f"of E[φ²] and {min(derivative_error / slope, 1) if slope else 0:.0%} of E[φ'²] unexplained; choose smaller "
            "w_std and b_std, a lower frequency, or declare the kinks"
        )
    if error > WARN_ABOVE * square or derivative_error > WARN_ABOVE * slope_scale:
        warnings.warn(
            f"the dual of {activation} at variance {q:g} is good to {error:.1e} (E[φ²] = {square:.3g}) and that of its "
            f"derivative to {derivative_error / q:.1e} (E[φ'²] = {slope / q:.3g}), with {degree} terms; "
            "kinks that are not declared, jumps of φ'' or very high frequencies do that",
            AccuracyWarning,
            stacklevel=2,
        )
    used = np.nonzero((np.abs(terms) > floor) | (np.abs(derivative_terms) > derivative_floor))[0]
    keep = int(used[-1]) + 2 if used.size else 1
    parity = _parity(coefficients)
    if missing > 1e-12 * square or derivative_missing > 1e-12 * (slope + 1e-6 * square):
        terms, derivative_terms = _with_remainder(
            terms,
            derivative_terms,
            square - float(terms.sum()) - jump_square,
            slope - float(derivative_terms.sum()) - jump_slope,
            parity,
        )
        keep = terms.size
    tails = np.empty(keep)
    _dual.tail_sums(np.ascontiguousarray(terms[:keep]), tails)
    return Dual(
        activation=activation,
        variance=q,
        locations=locations,
        jumps=jumps,
        slopes=slopes,
        tails=tails,
        derivative_terms=np.ascontiguousarray(derivative_terms[:keep]),
        value_at_one=float(terms[:keep].sum()) + jump_square,
        derivative_at_one=(float(derivative_terms[:keep].sum()) + jump_slope) / q,
        parity=parity,
        error=error,
        derivative_error=derivative_error / q,
    )
