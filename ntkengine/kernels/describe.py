"""A kernel in words: what its values and its power series say about networks and regressions that have it.

A kernel is an inductive bias: functions of small norm in its Hilbert space are learned from few samples. Which functions these
are can be read from K(c); how well a given task is learned cannot.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkengine._check import shown
from ntkengine.errors import InputError, NoSeriesError
from ntkengine.kernels import _shape as shape
from ntkengine.kernels.base import DotProductKernel, check_finite
from ntkengine.kernels.nearest import DEGREE, disproves, nearest, negative, slack
from ntkengine.kernels.samples import OUTLIER, SampledKernel
from ntkengine.kernels.taylor import checked, value_of_balls

__all__ = ["Description", "describe"]

Array = NDArray[np.float64]

#: Values that differ by less than this part of the largest are equal.
SAME = 1e-10
#: Coefficients below 1e-300 are 0, so that a kernel must be larger than this, or 0.
SMALLEST = 1e-280


@dataclass(frozen=True)
class Description:
    """What :func:`describe` found; ``str()`` gives a table in plain words.

    Attributes
    ----------
    name : str
        Of the kernel.
    degree : int
        Largest k of the power series ``K = Σ b_k c^k`` that was examined.
    positive_definite : bool or None
        In every dimension. None: no power series was found, or none that meets the samples, and neither a negative coefficient
        nor a plane that separates K from all positive-definite kernels (:func:`ntkengine.kernels.nearest.disproves`).
    first_negative : (int, float) or None
        Degree and value of the first negative coefficient, of degrees up to 4096 where there is no series.
    no_series : str
        Why no power series was found; empty where there is one.
    distance : float or None
        Root mean square distance from the nearest positive-definite kernel: over even angles, or over the samples of a sampled
        kernel. None where K is positive definite.
    noise : float or None
        Of a sampled kernel: it counts as positive definite where the nearest such kernel is within the noise.
    at_one, at_zero, at_minus_one : float
        K(1), K(0) and K(−1); 0 where rounding of the largest |K| leaves no digit, and ball arithmetic gives none.
    trend : str
        "constant", or "increasing" or "decreasing" in c on [-1, 1], or "turning".
    turning_points : tuple of float
        Cosines at which K turns, from 1 down; rounded to the digits that are known.
    exponent : float or None
        p of ``K(1) − K(c) ~ (1 − c)^p`` for c → 1, extrapolated from small angles; None where K does not fall from c = 1.
    exponent_angle : float or None
        The smallest of these angles, in radians.
    slope : float or None
        K'(1): inf where p < 1, 0 where p > 1.
    correlation_angle : float or None
        The smallest angle, in radians, at which K is halfway from K(1) down to K(0). None where K(0) is not below K(1).
    parity : str
        "even", "odd" or "neither"; "zero" for the kernel 0.
    constant, linear, tail : float or None
        b_0, b_1 and what is beyond the degree examined, as parts of K(1). None, as the next two, unless K is positive definite;
        b_1 also where the degree examined is 0.
    median_degree, high_degree : int or None
        The smallest n for which degrees 1..n hold half, and nine tenths, of K(1) − b_0. None also where n is larger than the
        degree examined.

    Examples
    --------
    >>> import ntkengine as nk
    >>> from ntkengine.kernels.describe import describe
    >>> for label, value, _ in describe(nk.kernel("c**2")).rows[:3]:
    ...     print(f"{label}: {value}")
    positive definite: yes, to degree 200
    K(1), K(0), K(-1): 1, 0, 1
    monotonic: no, K turns at c = 0
    """

    name: str
    degree: int
    positive_definite: bool | None
    first_negative: tuple[int, float] | None
    no_series: str
    distance: float | None
    noise: float | None
    at_one: float
    at_zero: float
    at_minus_one: float
    trend: str
    turning_points: tuple[float, ...]
    exponent: float | None
    exponent_angle: float | None
    slope: float | None
    correlation_angle: float | None
    parity: str
    constant: float | None = None
    linear: float | None = None
    tail: float | None = None
    median_degree: int | None = None
    high_degree: int | None = None

    @property
    def rows(self) -> tuple[tuple[str, str, str], ...]:
        """The table: property, value and what it means for learning."""
        rows = [
            self._definite(),
            self._ends(),
            self._trend(),
            self._near_one(),
            self._angle(),
            self._parity(),
        ]
        if self.constant is not None:
            rows += [self._constant(), self._degrees(), self._tail()]
        return tuple(rows)

    def __str__(self) -> str:
        lines = [f"kernel {self.name}"]
        for label, value, meaning in self.rows:
            lines += textwrap.wrap(f"{label:<19} {value}", 110, subsequent_indent=" " * 20)
            lines += textwrap.wrap(meaning, 110, initial_indent=" " * 20, subsequent_indent=" " * 20)
        return "\n".join(lines)

    # --- one row each ----------------------------------------------------------------------------------------------

    def _definite(self) -> tuple[str, str, str]:
        label = "positive definite"
        network = "a network with one hidden layer has this kernel, as its NNGP kernel or as its NTK"
        if self.noise is not None:
            word = {True: "yes", False: "no", None: "not decided"}[self.positive_definite]
            value = (
                f"{word}: the nearest such kernel misses the samples by {self.distance:.3g} (rms), "
                f"their noise is {self.noise:.3g}"
            )
            if self.positive_definite:
                return label, value, f"Within the noise {network}."
            if self.positive_definite is None:
                meaning = (
                    "That is more than the noise, but nothing shows that a series of other degrees does not come nearer: "
                    "reverse_engineer(k, project=True) designs for the nearest that was found, or give a larger sigma."
                )
                return label, value, meaning
            return label, value, self._not_definite("is that one")
        away = None if self.distance is None else f"is {self.distance:.3g} away (rms over angles)"
        if self.no_series and self.first_negative is None:
            word = "no" if self.positive_definite is False else "not decided"
            value = f"{word}: no power series in c was found"
            if self.positive_definite is False:
                value += ", and none with b_k >= 0 comes near enough to be K"
                return label, value, f"{self._not_definite(away)} Of the series: {self.no_series}"
            meaning = (
                "Nothing shows that it is positive definite, or that it is not. The nearest kernel that is, of degree "
                f"{DEGREE} or less, {away}: reverse_engineer(k, project=True) designs for it. Of the series: {self.no_series}"
            )
            return label, value, meaning
        if self.positive_definite:
            meaning = f"No coefficient of K = Σ b_k c^k to that degree is negative: {network}."
            if self.tail is not None and self.tail > 0.5:
                meaning += (
                    " Most of K(1) is in higher degrees, of which only the sum is seen: take a larger degree."
                )
            return label, f"yes, to degree {self.degree}", meaning
        if self.first_negative is None:
            value = f"no: the coefficients above degree {self.degree} have a negative sum"
        else:
            value = f"no: b_{self.first_negative[0]} = {self.first_negative[1]:.4g} is negative"
        return label, value, self._not_definite(away)

    @staticmethod
    def _not_definite(away: str | None) -> str:
        return (
            "In spaces of enough dimensions it has Gram matrices with negative eigenvalues, so no network and no Gaussian "
            f"process has it. The nearest kernel that is positive definite {away}: reverse_engineer(k, project=True) designs "
            "for it."
        )

    def _ends(self) -> tuple[str, str, str]:
        value = ", ".join(f"{x:.6g}" for x in (self.at_one, self.at_zero, self.at_minus_one))
        return (
            "K(1), K(0), K(-1)",
            value,
            "One point with itself, two points at right angles, two opposite points.",
        )

    def _trend(self) -> tuple[str, str, str]:
        if self.trend != "turning":
            meaning = {
                "constant": "All points are the same to it: only a constant can be learned.",
                "increasing": "The nearer two points are, the more of what is learned at one is carried to the other.",
                "decreasing": "The farther apart two points are, the more is carried from one to the other.",
            }[self.trend]
            return "monotonic", f"yes, {self.trend} in c", meaning
        where = ", ".join(f"{c:.15g}" for c in self.turning_points[:3])
        more = len(self.turning_points) - 3
        value = f"no, K turns at c = {where}" + (f" and {more} more points" if more > 0 else "")
        return "monotonic", value, "Some points farther away are treated as more similar than nearer ones."

    def _near_one(self) -> tuple[str, str, str]:
        label = "near c = 1"
        if self.exponent is None or self.slope is None:
            return (
                label,
                "K does not fall from K(1)",
                "The diagonal is no peak: a point is not what is most similar to itself.",
            )
        digits = 3 if self.noise is None else 2
        law = f"K(1) - K(c) ~ (1 - c)^{self.exponent:.{digits}g}, from angles of {self.exponent_angle:.1g} up"
        if math.isinf(self.slope):
            meaning = (
                "The slope diverges: a cusp, as with the NTK of ReLU networks. Close neighbours are told apart sharply, and "
                "rough functions, with kinks, cost little."
            )
            return label, f"{law}: slope infinite", meaning
        if self.slope == 0:
            return (
                label,
                f"{law}: slope 0",
                "No sum of powers of c with positive coefficients is so flat at its top.",
            )
        meaning = "Smooth at the top: neighbours get nearly the same values; functions that change over small angles cost much."
        if self.constant is not None:
            meaning += (
                f" The mean degree of the power series, slope/K(1), is {self.slope / self.at_one:.{digits}g}."
            )
        return label, f"{law}: slope {self.slope:.{4 if digits == 3 else 2}g}", meaning

    def _angle(self) -> tuple[str, str, str]:
        label = "correlation angle"
        definition = "Where K is halfway from K(1) to K(0), its value for unrelated directions"
        if self.correlation_angle is None:
            return label, "none, K(0) is not below K(1)", f"{definition}."
        degrees = math.degrees(self.correlation_angle)
        if degrees < 35:
            meaning = (
                "Peaked at c = 1: points farther apart are treated as nearly uncorrelated, what is learned stays near the "
                "training points, and with few samples it is close to memorising."
            )
        elif degrees < 50:
            meaning = "Between local and broad: what is learned reaches neighbourhoods, and fades for unrelated points."
        else:
            meaning = (
                "Broad: distant points are treated as similar, what is learned is spread over the sphere."
            )
        return (
            label,
            f"{degrees:.3g}° ({self.correlation_angle:.4g} rad)",
            f"{definition} (60° for K = c). {meaning}",
        )

    def _parity(self) -> tuple[str, str, str]:
        meaning = {
            "even": "K(-c) = K(c): only even functions, f(-x) = f(x), can be learned.",
            "odd": "K(-c) = -K(c): only odd functions, f(-x) = -f(x), can be learned, and no constant.",
            "neither": "Even and odd functions can be learned.",
            "zero": "Nothing can be learned.",
        }
        return "parity", self.parity, meaning[self.parity]

    def _constant(self) -> tuple[str, str, str]:
        assert self.constant is not None
        if self.constant > 0.5 + SAME:
            meaning = "Most of the kernel is constant: the mean of the targets is learned first, and all else much later."
        elif self.constant > 1e-3:
            meaning = "The constant part learns the mean of the targets; the rest of K tells points apart."
        else:
            meaning = "Hardly a constant can be learned: centre the targets, or add a constant to K (a bias of the readout)."
        return "constant part b_0", f"{_percent(self.constant)} of K(1)", meaning

    def _degrees(self) -> tuple[str, str, str]:
        if self.trend == "constant":
            return "effective degree", "0: there is nothing but the constant", "Points are not told apart."
        if self.linear is None:
            return (
                "effective degree",
                "not known: the series was examined to degree 0",
                "Take a larger degree.",
            )
        half, most = (
            f"1 to {n}" if n is not None else f"1 to beyond {self.degree}"
            for n in (self.median_degree, self.high_degree)
        )
        value = f"half of K(1) - b_0 is in degrees {half}, nine tenths in {most}; b_1 is {_percent(self.linear)} of K(1)"
        if self.median_degree is not None and self.median_degree <= 2:
            meaning = (
                "Mass at low degrees: linear and quadratic parts of a function are learned first; functions of high degree, as "
                "the parity of many inputs, need the more samples the less mass their degrees have."
            )
        else:
            meaning = (
                "Mass at high degrees: functions of high degree, as the parity of many inputs, need fewer samples than with a "
                "kernel of low degrees, and the linear part is learned later."
            )
        return "effective degree", value, meaning

    def _tail(self) -> tuple[str, str, str]:
        meaning = "What a power series that ends there leaves out of K(1)."
        return f"above degree {self.degree}", f"{_percent(self.tail or 0.0)} of K(1)", meaning


def _percent(part: float) -> str:
    return f"{100 * part:.3g}%" if part > 1e-12 else "0%"


def describe(k: DotProductKernel, *, degree: int = 200) -> Description:
    """A kernel in words: positive definite or not, its shape, its degrees, and what they mean for learning.

    Parameters
    ----------
    k : DotProductKernel
    degree : int
        Coefficients of degree 0..degree are examined, at most 100,000.

    Returns
    -------
    Description

    Raises
    ------
    InputError
        If an argument is not allowed, K is not finite somewhere on [-1, 1], or its largest value is not 0 and below 1e-280.

    Examples
    --------
    >>> import ntkengine as nk
    >>> from ntkengine.kernels.describe import describe
    >>> found = describe(nk.kernel("c + c**3"))
    >>> found.positive_definite, found.parity, round(found.slope, 3), found.median_degree, found.high_degree
    (True, 'odd', 4.0, 1, 3)
    >>> describe(nk.kernel("c - c**3")).first_negative
    (3, -1.0)
    """
    degree, _, _ = checked(degree, 1.0, 0.0)
    if not isinstance(k, DotProductKernel):
        raise InputError(f"k must be a DotProductKernel, such as nk.kernel('c**2'), not {shown(k)}")
    check_finite(k)
    theta = shape.angles()
    K = k._values_at_angle(theta)
    largest = float(np.abs(K).max())
    if 0 < largest < SMALLEST:
        raise InputError(
            f"the largest |K| of the kernel {k.name!r} is {largest:.1e}; its coefficients would be taken for 0: multiply it by "
            "a number"
        )
    at_one, at_zero, at_minus_one = (_value(k, c, SAME * largest) for c in (1.0, 0.0, -1.0))
    noise = _noise(k, largest)
    tolerance = max(SAME * largest, OUTLIER * noise)
    trend, turns = shape.trend(K, tolerance)
    exponent, exponent_angle, slope = shape.near_one(k, K, noise)
    definite, first_negative, no_series, distance, shares = _definite(k, degree, noise)
    return Description(
        name=k.name,
        degree=degree,
        positive_definite=definite,
        first_negative=first_negative,
        no_series=no_series,
        distance=distance,
        noise=noise if isinstance(k, SampledKernel) else None,
        at_one=at_one,
        at_zero=at_zero,
        at_minus_one=at_minus_one,
        trend=trend,
        turning_points=shape.turning_points(k, theta, K, turns, tolerance),
        exponent=exponent,
        exponent_angle=exponent_angle,
        slope=slope,
        correlation_angle=shape.correlation_angle(k, theta, K, at_one, at_zero, tolerance),
        parity=shape.parity(K, k._values_at_angle(np.pi - theta), tolerance),
        **shares,
    )


def _value(k: DotProductKernel, c: float, least: float) -> float:
    """K(c); of a smaller size than ``least`` only what ball arithmetic knows of it, else 0."""
    value = float(k(c))
    return value if abs(value) >= least else value_of_balls(k, c) or 0.0


def _noise(k: DotProductKernel, largest: float) -> float:
    """Of a sampled kernel; of one made of such, the same parts of its largest value; else 0."""
    if isinstance(k, SampledKernel):
        return k.noise
    return largest * sum(s.noise / (float(np.abs(s.values).max()) or 1.0) for s in k.samples)


def _definite(
    k: DotProductKernel, degree: int, noise: float
) -> tuple[bool | None, tuple[int, float] | None, str, float | None, dict[str, Any]]:
    """Positive definite or not, the first negative coefficient, why there is no series, distance, and the shares."""
    try:
        series = k.taylor(degree)
        reason = "" if isinstance(k, SampledKernel) else _reason_of_samples(k)
        below = None
    except NoSeriesError as error:
        reason, below = str(error), error.negative
    if reason:
        near = nearest(k)
        no = below is not None or (near.distance > noise and disproves(near))
        return (False if no else None), below, reason, near.distance, {}
    b, tail = np.array(series), float(series.tail or 0.0)
    if isinstance(k, SampledKernel):
        definite = k.positive_definite
        return definite, None, "", k.misfit, _shares(b, tail) if definite else {}
    found = np.flatnonzero(negative(series))
    first = (int(found[0]), float(b[found[0]])) if found.size else None
    if first is not None or tail < -slack(series):
        return False, first, "", nearest(k).distance, {}
    return True, None, "", None, _shares(np.maximum(b, 0.0), tail)


def _reason_of_samples(k: DotProductKernel) -> str:
    wrong = [s for s in k.samples if not s.positive_definite]
    if not wrong:
        return ""
    return (
        f"it is made of {wrong[0].name}, and the nearest positive-definite kernel misses these by {wrong[0].misfit:.3g} (rms), "
        f"their noise is {wrong[0].noise:.3g}"
    )


def _shares(b: Array, tail: float) -> dict[str, Any]:
    """The fields of a :class:`Description` that speak of degrees."""
    total = float(b.sum()) + max(tail, 0.0)
    if total <= 0:
        return {}
    held = np.cumsum(b[1:])
    rest = total - b[0]
    reached = [np.flatnonzero(held >= part * rest * (1 - SAME)) for part in (0.5, 0.9)]
    median, high = (int(found[0]) + 1 if found.size and rest > SAME * total else None for found in reached)
    return {
        "constant": float(b[0] / total),
        "linear": float(b[1] / total) if b.size > 1 else None,
        "tail": max(tail, 0.0) / total,
        "median_degree": median,
        "high_degree": high,
    }
