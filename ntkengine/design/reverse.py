"""The theorem: from a kernel's power series to the Hermite series of an activation.

Simon, Anand & DeWeese 2022, theorem 3.1, with all variances. For one hidden layer with input standard deviations
(σ_w, σ_b), q = σ_w² + σ_b², ρ = (σ_w² c + σ_b²)/q, readout (ω_w, ω_b), and a_k the Hermite coefficients of z ↦ φ(√q z),

    NNGP = ω_w² Σ a_k² ρ^k + ω_b²,        NTK = ω_w² Σ (1 + k) a_k² ρ^k + ω_b²,

so that K = Σ b_k ρ^k with all b_k >= 0 is the kernel of ``a_k = s_k √b_k/ω_w`` or ``s_k √(b_k/(1 + k))/ω_w``, b_0 less ω_b²,
with any signs s_k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ntkengine import quadrature
from ntkengine._check import integer
from ntkengine.activations._expansions import rescaled
from ntkengine.activations.base import Activation, activation
from ntkengine.activations.series import MAX_SIZE
from ntkengine.design import signs as sign_rules
from ntkengine.design.limit import DEGREE, REACH, Limit, limit
from ntkengine.design.record import Design
from ntkengine.errors import InputError
from ntkengine.hermite import hermite_values
from ntkengine.infinite.fcn import FCN, check_kind
from ntkengine.kernels import DotProductKernel, PowerSeries, kernel
from ntkengine.kernels.nearest import nearest, slack
from ntkengine.kernels.samples import SampledKernel
from ntkengine.kernels.taylor import exact

__all__ = ["ReverseDesign", "reverse_engineer"]

Array = NDArray[np.float64]

#: Angles at which the design is compared with its target.
_ANGLES = 181
#: A series whose tail is below this part of K(1) is complete.
_COMPLETE = 1e-13
#: ``degree=None``: the highest degree taken, and the tail at which to stop if the series is not complete by then.
_HIGHEST, _ENOUGH = 128, 1e-2
#: What rounding may do to the kernel of a design with variances other than 1, as a part of K(1).
_LOST = 1e-9
#: Coefficients this small, as a part of the largest, still matter to φ at |z| = 8,
_VISIBLE = 1e-28
#: and of those that fall slowly this relative error.
_KNOWN = 1e-6
#: ``degree=None``: what a sum of h_k(z) may lose of the kernel, and how much larger than φ its terms may be.
_SPARED = 1e-11, 1e3


@dataclass(frozen=True, eq=False, repr=False)
class ReverseDesign(Design):
    """A design by the theorem.

    Attributes
    ----------
    series : PowerSeries
        b_k in ρ, k = 0..degree, of the target, or of the positive-definite kernel nearest to it.
    coefficients : (degree+1,) array
        a_k with their signs: the Hermite coefficients of z ↦ φ(√q z). Of a design with all terms, the first of them.
    signs : str
        The rule, or "given".
    limit : Limit or None
        Of a design with all terms: how the series was completed.
    distance : float
        Root mean square distance, over even angles, of the target from the kernel that was designed for; 0 unless ``project``
        was needed.
    """

    series: PowerSeries
    coefficients: Array
    signs: str
    limit: Limit | None
    distance: float

    @property
    def degree(self) -> int:
        """Of the coefficients; of a design with all terms, where the closed form takes over."""
        return int(self.coefficients.size - 1)

    @property
    def tail(self) -> float:
        """What K(1) loses by ending the series: no value of the kernel is further from the target's (but for ``distance``)."""
        return 0.0 if self.limit is not None else float(self.series.tail)

    def rows(self) -> list[tuple[str, str]]:
        """What :meth:`Design.report` shows."""
        rows = super().rows()
        scale = float(np.abs(self.target_values).max()) or 1.0
        if self.limit is None:
            rows.insert(
                2, ("degree", f"{self.degree}; the terms left out hold {self.tail / scale:.2e} of K(1)")
            )
            if self.tail > 1e-6 * scale:
                rows.insert(3, ("", 'degree="all" sums the whole series'))
        else:
            fall = (
                "faster than any power"
                if math.isinf(self.limit.exponent)
                else f"like k^-{self.limit.exponent:g}"
            )
            far = REACH * math.hypot(self.fcn.w_std, self.fcn.b_std)
            rows.insert(2, ("degree", f"all (a_k falls {fall}); |φ| <= {self.limit.bound:.3g} and good to "
                                      f"{self.limit.error:.0e} on |z| <= {far:.3g}"))  # fmt: skip
        rows.insert(2, ("signs", self.signs))
        if self.distance:
            rows.insert(
                1, ("projected", f"onto the positive-definite kernels: {self.distance:.3e} away (rms)")
            )
        return rows


def reverse_engineer(
    k: DotProductKernel | str,
    kind: str = "ntk",
    degree: int | str | None = None,
    *,
    signs: str | Sequence[float] = "smooth",
    w_std: float = 1.0,
    b_std: float = 0.0,
    readout_w_std: float = 1.0,
    readout_b_std: float = 0.0,
    radial_lift: bool = False,
    project: bool = False,
    width: int = 512,
) -> ReverseDesign:
    """The activation whose one-hidden-layer network has a given kernel.

    Parameters
    ----------
    k : DotProductKernel or str
        The target: positive definite, that is, with no negative coefficient in its power series in ρ. A text is a formula or
        family name for :func:`ntkengine.kernel`.
    kind : "ntk" or "nngp"
        Which kernel of the network it shall be.
    degree : int, None or "all"
        Where to end the series. None: where what is left is below 1e-13 of K(1), or 1 % if the series is too long for that, but
        128 at most, and less where q = w_std² + b_std² is far from 1: there φ, a sum of h_k(z) of a preactivation z of
        variance q, loses its digits. ``"all"``: nowhere; φ is the sum of the whole series, with the paper's signs, as a table
        (:mod:`ntkengine.design.limit`).
    signs : str or sequence of ±1
        ``"smooth"``, ``"paper"``, ``"plus"``, ``"concentrated"`` (:mod:`ntkengine.design.signs`), or one sign for each degree.
    w_std, b_std, readout_w_std, readout_b_std, radial_lift
        Of the network, see :class:`~ntkengine.FCN`.
    project : bool
        If k is not positive definite, take the positive-definite kernel nearest to it instead of refusing.
    width : int
        N, for ``"concentrated"``.

    Returns
    -------
    ReverseDesign

    Raises
    ------
    InputError
        If k is not positive definite (the degree and the coefficient are named), has no power series, is less than
        readout_b_std² at degree 0, the degree given is too high for w_std² + b_std², or an argument is not allowed.

    Examples
    --------
    >>> import ntkengine as nk
    >>> design = nk.reverse_engineer(nk.kernel("c**4 + c"), kind="ntk")
    >>> design.coefficients.round(3)
    array([0.   , 0.707, 0.   , 0.   , 0.447])
    >>> deep = nk.FCN("relu", depth=4, w_std=2**0.5, b_std=0.1).kernel("ntk")
    >>> design = nk.reverse_engineer(deep, degree="all")
    >>> bool(design.limit.bound < 2.4), bool(design.max_error < 1e-4 * deep(1.0))
    (True, True)
    """
    target = kernel(k)
    check_kind(kind)
    top = _check_degree(degree)
    whole = degree == "all"
    if whole and not (isinstance(signs, str) and signs in ("smooth", "paper")):
        raise InputError(
            f"signs is {signs!r}, but only the paper's signs have a sum to all degrees; leave signs out, or give a finite "
            "degree"
        )
    template = FCN("identity", 1, w_std, b_std, readout_w_std, readout_b_std, radial_lift)
    series, distance = _power_series(target, top, template, project, whole)
    scale = float(np.abs(np.asarray(series)).max())
    if not scale > 0:
        nothing = "the nearest positive-definite kernel" if project else "the kernel"
        raise InputError(f"{nothing} ({target.name}) is 0 everywhere; there is nothing to design")
    q = w_std**2 + b_std**2
    if degree is None:
        series = _shortened(series)
        series = _representable(series, q, kind) if q != 1 else series
    b = np.array(series)
    b[0] -= readout_b_std**2
    if b[0] < -max(float(series.error[0]), 1e-14 * scale):
        raise InputError(
            f"readout_b_std is {readout_b_std:g}, whose square exceeds the kernel's constant part "
            f"b_0 = {b[0] + readout_b_std**2:.6g}; choose readout_b_std of at most "
            f"{math.sqrt(max(b[0] + readout_b_std**2, 0.0)):.6g}"
        )
    b = np.maximum(b, 0.0)
    a = np.sqrt(b / (1 + np.arange(b.size)) if kind == "ntk" else b) / readout_w_std
    found: Limit | None = None
    if whole:
        noise = np.sqrt(series.error)  # where b_k is 0; elsewhere half the relative error
        np.divide(0.5 * series.error * a, b, out=noise, where=b > 0)
        found = limit(a, noise, q, settled=float(series.tail) <= _COMPLETE * max(scale, float(b.sum())))
        phi, chosen = found.activation, sign_rules.paper(a.size)
        name = "paper"
    else:
        chosen = sign_rules.choose(a, signs, kind, w_std=w_std, b_std=b_std, width=integer("width", width, 1))
        name = signs if isinstance(signs, str) else "given"
        phi = _hermite(chosen * a, q)
    fcn = FCN(phi, 1, w_std, b_std, readout_w_std, readout_b_std, radial_lift)
    theta = np.linspace(0.0, np.pi, _ANGLES)
    values = np.asarray(fcn.kernel(kind).at_angle(theta))
    if found is None and q != 1:
        _check_expansion(values, np.asarray(series), theta, w_std, b_std)
    return ReverseDesign(
        target=target,
        kind=kind,
        fcn=fcn,
        angles=theta,
        target_values=np.asarray(target.at_angle(theta)),
        values=values,
        series=series,
        coefficients=chosen * a,
        signs=name,
        limit=found,
        distance=distance,
    )


def _check_degree(degree: int | str | None) -> int:
    if degree is None:
        return _HIGHEST
    if degree == "all":
        return DEGREE
    if isinstance(degree, str):
        raise InputError(f'degree is {degree!r}; it must be an integer of at least 0, None or "all"')
    top = integer("degree", degree, 0, ', None or "all"')
    if top >= MAX_SIZE:
        raise InputError(
            f'degree is {top}; it can be {MAX_SIZE - 1} at most: degree="all" sums the whole series'
        )
    return top


def _power_series(
    target: DotProductKernel, degree: int, fcn: FCN, project: bool, whole: bool
) -> tuple[PowerSeries, float]:
    """b_k >= 0 of the target in ρ, or of the nearest kernel that has such, and how far that is."""
    if isinstance(target, SampledKernel) and not target.positive_definite and not project:
        raise InputError(
            f"{target.name} are not those of a positive-definite kernel: the nearest is {target.misfit:.3g} away (rms), "
            f"more than the noise {target.noise:.3g}; project=True designs for it"
        )
    try:
        series = target.taylor(degree, w_std=fcn.w_std, b_std=fcn.b_std)
    except InputError:
        if not project:
            raise
        series = None
    if series is not None:
        if whole:
            series = _resolved(target, series, fcn)
        b = np.asarray(series)
        negative = np.flatnonzero(b < -np.maximum(series.error, 1e-14 * np.abs(b).max()))
        if not negative.size and float(series.tail) >= -slack(series):
            sampled = isinstance(target, SampledKernel) and not target.positive_definite
            return series, getattr(target, "misfit", 0.0) if sampled else 0.0
        if not project and not negative.size:
            raise InputError(
                f"the kernel {target.name} is not positive definite on spheres of every dimension: the coefficients beyond "
                f"degree {degree} sum to {series.tail:.6g}; project=True designs for the nearest positive-definite kernel"
            )
        if not project:
            variable = "c" if fcn.b_std == 0 else f"ρ = (σ_w² c + σ_b²)/(σ_w² + σ_b²), b_std = {fcn.b_std:g}"
            more = f" (and {negative.size - 1} others up to degree {degree})" if negative.size > 1 else ""
            raise InputError(
                f"the kernel {target.name} is not positive definite on spheres of every dimension: the coefficient of degree "
                f"{negative[0]} of its power series in {variable} is {b[negative[0]]:.6g}{more}, and a network's are never "
                "negative; project=True designs for the nearest positive-definite kernel"
            )
    near = nearest(target, degree=degree, w_std=fcn.w_std, b_std=fcn.b_std)
    return near.taylor(degree, w_std=fcn.w_std, b_std=fcn.b_std), float(near.distance)


def _resolved(target: DotProductKernel, series: PowerSeries, fcn: FCN) -> PowerSeries:
    """A series as the sum of all terms needs it: φ at |z| = 8 sees b_k of 1e-28.

    One that has died out into the rounding of K to 1e-14 relative, where ball arithmetic can. One that falls slowly, and is
    known from Cauchy's integral, from a circle nearer to |ρ| = 1, where rounding errors grow less.
    """
    b = np.asarray(series)
    last = int(np.flatnonzero(b).max(initial=0))
    if series.tail > _COMPLETE * float(b.sum()):
        if ((b > 0) & (series.error > _KNOWN * b)).any():
            longer = target.taylor(4 * (b.size - 1), w_std=fcn.w_std, b_std=fcn.b_std)
            series = PowerSeries(longer[: b.size], error=longer.error[: b.size], tail=series.tail)
        return series
    if last == b.size - 1 or b[last] <= _VISIBLE * b.max():
        return series
    found = exact(target, min(4 * last + 64, b.size - 1), fcn.w_std, fcn.b_std)
    return found if found is not None else series


def _shortened(series: PowerSeries) -> PowerSeries:
    """The series, ended at the least degree that leaves out 1e-13 of K(1), or else 1 %, if there is one."""
    b, tail = np.asarray(series), max(float(series.tail), 0.0)
    left = np.concatenate([np.cumsum(b[:0:-1])[::-1], [0.0]]) + tail
    for part in (_COMPLETE, _ENOUGH):
        done = np.flatnonzero(left <= part * (float(b.sum()) + tail))
        if done.size:
            end = int(done[0]) + 1
            return PowerSeries(b[:end], error=series.error[:end], tail=float(left[end - 1]))
    return series


def _check_expansion(values: Array, b: Array, theta: Array, w_std: float, b_std: float) -> None:
    """InputError if the kernel of the network is not Σ b_k ρ^k: φ as a series in h_k(z) cancels where q is far from 1."""
    rho = (w_std**2 * np.cos(theta) + b_std**2) / (w_std**2 + b_std**2)
    wanted = np.polynomial.polynomial.polyval(rho, b)
    lost = float(np.abs(values - wanted).max()) / float(np.abs(wanted).max())
    if not lost <= _LOST:
        raise InputError(
            f"w_std is {w_std:g} and b_std {b_std:g}: to degree {b.size - 1} the Hermite series of φ(z) loses its digits there "
            f"(its kernel would be off by {lost:.1e} of K(1)); choose w_std² + b_std² nearer to 1, or a lower degree"
        )


def _representable(series: PowerSeries, q: float, kind: str) -> PowerSeries:
    """As much of the series as has digits to spare when φ becomes a sum of h_k(z), z of variance q."""
    b = np.maximum(np.asarray(series), 0.0)
    a = np.sqrt(b / (1 + np.arange(b.size)) if kind == "ntk" else b)
    end = a.size
    while end > 1 and _cancels(a[:end], q):
        end -= max(end // 16, 1)
    if end == a.size:
        return series
    return PowerSeries(b[:end], error=series.error[:end], tail=float(b[end:].sum()) + float(series.tail))


def _cancels(a: Array, q: float) -> bool:
    """Whether Σ c_k h_k(√q z) = Σ s_k a_k h_k(z) loses digits: of the kernel on the way back, or of φ."""
    c = rescaled(sign_rules.paper(a.size) * a, 1 / q, a.size - 1)
    if not np.isfinite(c).all():
        return True
    back, weight = rescaled(c, q, a.size - 1), 1 + np.arange(a.size)
    lost = float(weight @ np.abs(back**2 - a * a)) / max(float(weight @ (a * a)), 1e-300)
    z, w = quadrature.panel_rule(-5.0, 5.0, (), 32)
    terms = np.abs(hermite_values(math.sqrt(q) * z, a.size - 1)) @ np.abs(c)
    grown = math.sqrt(float(w * quadrature.density(z) @ terms**2) / max(float(a @ a), 1e-300))
    return not (lost <= _SPARED[0] and grown <= _SPARED[1])


def _hermite(a: Array, q: float) -> Activation:
    """φ with φ(√q z) = Σ a_k h_k(z)."""
    used = int(np.flatnonzero(a).max(initial=0)) + 1
    return activation("hermite", coefficients=rescaled(a[:used], 1 / q, used - 1) if q != 1.0 else a[:used])
