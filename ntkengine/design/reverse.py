"""The theorem: from a kernel's power series to the Hermite series of an activation.

Simon, Anand & DeWeese 2022, theorem 3.1, with all variances. For one hidden layer with input standard deviations
(σ_w, σ_b), q = σ_w² + σ_b², ρ = (σ_w² c + σ_b²)/q, readout (ω_w, ω_b), and a_k the Hermite coefficients of z ↦ φ(√q z),

    NNGP = ω_w² Σ a_k² ρ^k + ω_b²,        NTK = ω_w² Σ (1 + k) a_k² ρ^k + ω_b²,

so that K = Σ b_k ρ^k with all b_k >= 0 is the kernel of ``a_k = s_k √b_k/ω_w`` or ``s_k √(b_k/(1 + k))/ω_w``, b_0 less ω_b²,
with any signs s_k. The Hermite polynomials are those of variance q, ``φ(z) = Σ a_k h_k(z/√q)``: as a series in h_k(z) φ would
lose its digits where q is far from 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ntkengine._check import integer, shown
from ntkengine.activations.base import Activation, activation
from ntkengine.activations.series import MAX_SIZE
from ntkengine.design import signs as sign_rules
from ntkengine.design.limit import DEGREE, REACH, SHARPEST, Limit, bias_advice, limit
from ntkengine.design.record import Design
from ntkengine.errors import InputError, NoSeriesError
from ntkengine.infinite._limits import MAX_COUNT
from ntkengine.infinite.fcn import FCN, NetworkKernel, check_kind
from ntkengine.kernels import DotProductKernel, PowerSeries, kernel
from ntkengine.kernels.nearest import nearest, slack
from ntkengine.kernels.taylor import exact

__all__ = ["ReverseDesign", "reverse_engineer"]

Array = NDArray[np.float64]

#: Angles at which the design is compared with its target.
_ANGLES = 181
#: A series whose tail is below this part of K(1) is complete.
_COMPLETE = 1e-13
#: ``degree=None``: where a series that is not complete ends, and to which degrees it is followed to see that;
_HIGHEST, _FOLLOWED = 128, (1024, MAX_SIZE - 1)
#: of a K known to rounding errors only, what they may be;
_NOISE = 1e-11
#: and what is too much to leave out: this part of K(1), or more than 1 % if of that this part is missed at degree 8191 too.
_LOST, _MISSED, _MOST = 0.5, 1e-2, 0.9
#: Coefficients of φ that leave room for fourth powers, and for float32; squared, values of kernels.
_SMALLEST, _LARGEST = 1e-30, 1e30
#: ``degree="all"``: the √q for which tables have nodes where φ bends.
_NARROWEST, _WIDEST = 1e-4, 1e10
#: Coefficients this small, as a part of the largest, still matter to φ at |z| = 8,
_VISIBLE = 1e-28
#: and of those that fall slowly this relative error.
_KNOWN = 1e-6


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

    The rest are those of :class:`~ntkengine.Design`.

    Examples
    --------
    >>> import ntkengine as nk
    >>> design = nk.reverse_engineer("exp(c)", "nngp", 4, signs="plus")
    >>> (design.coefficients**2 * [1, 1, 2, 6, 24]).round(12)
    array([1., 1., 1., 1., 1.])
    >>> design.degree, round(design.tail, 6), design.signs
    (4, 0.009948, 'plus')
    >>> design.limit is None, design.distance
    (True, 0.0)
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
            error = self.limit.error
            known = f"good to {error:.0e}" if error < 1 else "known only near 0, not"
            rows.insert(2, ("degree", f"all (a_k falls {fall}); |φ| <= {self.limit.bound:.3g} and {known} "
                                      f"on |z| <= {far:.3g}"))  # fmt: skip
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
        Where to end the series, 8191 at most. None: where what is left is below 1e-13 of K(1), if that is by degree 8191, else
        at degree 128, as for ReLU networks, whose series falls slowly. ``"all"``: nowhere; φ is the sum of the whole series,
        with the paper's signs, as a table (:mod:`ntkengine.design.limit`).
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
        If k is not positive definite (the degree and the coefficient are named), has no power series or none of its terms up
        to the degree given, is less than readout_b_std² at degree 0, or so large or small that fourth powers of φ leave the
        64-bit numbers; or an argument is not allowed.

    Examples
    --------
    >>> import ntkengine as nk
    >>> design = nk.reverse_engineer(nk.kernel("c**4 + c"), kind="ntk")
    >>> design.coefficients.round(3)
    array([0.   , 0.707, 0.   , 0.   , 0.447])
    >>> nk.reverse_engineer("c**3", "nngp", signs="plus", w_std=2.0).activation  # h_3(z/2)
    hermite(coefficients=[0, 0, 0, 1], variance=4)
    >>> deep = nk.FCN("relu", depth=4, w_std=2**0.5, b_std=0.1).kernel("ntk")
    >>> design = nk.reverse_engineer(deep, degree="all")
    >>> bool(design.limit.bound < 2.4), bool(design.max_error < 1e-4 * deep(1.0))
    (True, True)
    """
    target = kernel(k)
    check_kind(kind)
    top = _check_degree(degree)
    if not isinstance(project, (bool, np.bool_)):
        raise InputError(f"project must be True or False, not {shown(project)}")
    stds = {"w_std": w_std, "b_std": b_std, "readout_w_std": readout_w_std, "readout_b_std": readout_b_std}
    for name, std in stds.items():
        if isinstance(std, (bool, np.bool_)):
            raise InputError(f"{name} must be a number, not {shown(std)}")
    width = integer("width", width, 1)
    if width > MAX_COUNT:
        raise InputError(f"width is {shown(width)}; it can be {MAX_COUNT} at most")
    whole = isinstance(degree, str)
    if whole and not (isinstance(signs, str) and signs in ("smooth", "paper")):
        raise InputError(
            f"signs is {shown(signs)}, but only the paper's signs have a sum to all degrees; leave signs out, or give a finite "
            "degree"
        )
    template = FCN("identity", 1, w_std, b_std, readout_w_std, readout_b_std, radial_lift)
    q, bias = template.w_std * template.w_std + template.b_std * template.b_std, template.readout_b_std
    theta = np.linspace(0.0, np.pi, _ANGLES)
    wanted = np.asarray(target.at_angle(theta))
    _check_size(target, float(np.abs(wanted).max()))
    if whole and not _NARROWEST <= math.sqrt(q) <= _WIDEST:
        raise InputError(
            f'w_std² + b_std² is {q:.3g}; the table of degree="all" takes {_NARROWEST**2:g} to {_WIDEST**2:g}: choose them of '
            "the order of 1, or a finite degree"
        )
    series, distance = _power_series(target, top, template, project, degree, kind)
    scale = float(np.abs(np.asarray(series)).max())
    if not scale > 0:
        raise InputError(
            f"the positive-definite kernel nearest to {target.name} is 0 everywhere; there is nothing to design"
            if distance
            else f"the kernel {target.name} has no term up to degree {top}; "
            + (
                "give a higher degree"
                if top < MAX_SIZE - 1
                else "take a kernel that is less steep at |c| = 1"
            )
        )
    b = np.array(series)
    b[0] -= bias * bias
    if b[0] < -max(float(series.error[0]), 1e-14 * scale):
        raise InputError(
            f"readout_b_std is {bias:g}, whose square exceeds the kernel's constant part b_0 = {series[0]:.6g}; "
            f"choose readout_b_std of at most {math.sqrt(max(series[0], 0.0)):.6g}"
        )
    b = np.maximum(b, 0.0)
    a = np.sqrt(b / (1 + np.arange(b.size)) if kind == "ntk" else b) / template.readout_w_std
    if 0 < a.max() < _SMALLEST or a.max() > _LARGEST:
        raise InputError(
            f"readout_w_std is {template.readout_w_std:g}, and with the kernel {target.name} the coefficients of φ would be of "
            f"size {a.max():.1e}; choose readout_w_std nearer to √K(1) = {math.sqrt(float(b.sum())):.3g}"
        )
    found: Limit | None = None
    if whole:
        order = 1.0 + np.arange(b.size) if kind == "ntk" else np.ones(b.size)
        # Where b_k is 0; elsewhere half the relative error.
        noise = np.sqrt(series.error / order) / template.readout_w_std
        np.divide(0.5 * series.error * a, b, out=noise, where=b > 0)
        advice = ""
        if isinstance(target, NetworkKernel):
            own = target.fcn.b_std / (target.fcn.w_std * target.radius)
            advice = bias_advice(own, template.w_std, template.b_std)
        found = limit(a, noise, q, float(series.tail) <= _COMPLETE * max(scale, float(b.sum())), advice, kind)
        phi, chosen = found.activation, sign_rules.paper(a.size)
        name = "paper"
    else:
        chosen = sign_rules.choose(a, signs, kind, w_std=template.w_std, b_std=template.b_std, width=width)
        name = signs if isinstance(signs, str) else "given"
        phi = _hermite(chosen * a, q)
    fcn = replace(template, activation=phi)
    return ReverseDesign(
        target=target,
        kind=kind,
        fcn=fcn,
        angles=theta,
        target_values=wanted,
        values=np.asarray(fcn.kernel(kind).at_angle(theta)),
        series=series,
        coefficients=chosen * a,
        signs=name,
        limit=found,
        distance=distance,
    )


def _check_degree(degree: int | str | None) -> int:
    if degree is None:
        return _HIGHEST
    if isinstance(degree, str):
        if degree != "all":
            raise InputError(f'degree is {shown(degree)}; it must be an integer of at least 0, None or "all"')
        return DEGREE
    top = integer("degree", degree, 0, ', None or "all"')
    if top >= MAX_SIZE:
        raise InputError(
            f'degree is {shown(top)}; it can be {MAX_SIZE - 1} at most: degree="all" sums the whole series'
        )
    return top


def _check_size(target: DotProductKernel, size: float) -> None:
    """InputError unless the largest |K|, ``size``, leaves room for squares."""
    if size == 0:
        raise InputError(f"the kernel {target.name} is 0 everywhere; there is nothing to design")
    if not _SMALLEST**2 <= size <= _LARGEST**2:
        raise InputError(
            f"the kernel {target.name} is of size {size:.1e}; a design takes {_SMALLEST**2:g} to {_LARGEST**2:g}: divide the "
            "kernel by its size, as k.normalized() does, and scale the outputs"
        )


def _power_series(
    target: DotProductKernel, top: int, fcn: FCN, project: bool, degree: int | str | None, kind: str
) -> tuple[PowerSeries, float]:
    """b_k >= 0 of the target in ρ, or of the nearest kernel that has such, and how far that is.

    To degree ``top``, or as far as a ``degree`` of None or "all" wants it.
    """
    sampled = next((s for s in target.samples if not s.positive_definite), None)
    wrong = next((s for s in target.samples if s.positive_definite is False), None)
    if wrong is not None and not project:
        raise InputError(
            f"{wrong.name} are not those of a positive-definite kernel: the nearest is {wrong.misfit:.3g} away (rms), "
            f"more than the noise {wrong.noise:.3g}; project=True designs for it"
        )
    try:
        series = target.taylor(top, w_std=fcn.w_std, b_std=fcn.b_std)
    except NoSeriesError:
        if not project:
            raise
        series = None
    if sampled is not None and sampled is not target:
        series = None  # which is that of the nearest samples, and not of the nearest kernel
    if series is not None:
        if degree == "all":
            series = _resolved(target, series, fcn)
        elif degree is None:
            series = _followed(target, series, fcn, kind)
        b = np.asarray(series)
        negative = np.flatnonzero(b < -np.maximum(series.error, 1e-14 * np.abs(b).max()))
        if not negative.size and float(series.tail) >= -slack(series):
            return series, 0.0 if sampled is None else sampled.misfit
        if not project and not negative.size:
            raise InputError(
                f"the kernel {target.name} is not positive definite on spheres of every dimension: the coefficients beyond "
                f"degree {b.size - 1} sum to {series.tail:.6g}; project=True designs for the nearest positive-definite kernel"
            )
        if not project:
            variable = "c" if fcn.b_std == 0 else f"ρ = (σ_w² c + σ_b²)/(σ_w² + σ_b²), b_std = {fcn.b_std:g}"
            more = f" (and {negative.size - 1} others up to degree {b.size - 1})" if negative.size > 1 else ""
            raise InputError(
                f"the kernel {target.name} is not positive definite on spheres of every dimension: the coefficient of degree "
                f"{negative[0]} of its power series in {variable} is {b[negative[0]]:.6g}{more}, and a network's are never "
                "negative; project=True designs for the nearest positive-definite kernel"
            )
    near = nearest(target, degree=top, w_std=fcn.w_std, b_std=fcn.b_std)
    return near.taylor(top, w_std=fcn.w_std, b_std=fcn.b_std), float(near.distance)


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


def _followed(target: DotProductKernel, series: PowerSeries, fcn: FCN, kind: str) -> PowerSeries:
    """The series of ``degree=None``: ended at the least degree that completes it, or, if there is none, as it is given.

    Raises
    ------
    InputError
        If it is not complete, and half of K(1) is missed and not to be had, or nearly all that is missed is out of reach.
    """
    size, farthest = float(np.abs(series).sum()) + abs(series.tail), series
    for degree in (series.size - 1, *_FOLLOWED):
        if degree >= farthest.size:
            try:
                farthest = target.taylor(degree, w_std=fcn.w_std, b_std=fcn.b_std)
            except NoSeriesError:  # it is known to degree 128, but not that far
                break
        if abs(farthest.tail) <= _COMPLETE * size:
            return _shortened(farthest, float(farthest.tail))
    if abs(farthest.tail) <= min(float(farthest.error.sum()), _NOISE * size):
        return _shortened(farthest, 0.0)
    if series.tail > _LOST * size or (series.tail > _MISSED * size and farthest.tail > _MOST * series.tail):
        more = ', or degree="all"' if _falls(farthest, kind) else ""
        more = ", or a degree" * (_share(farthest.tail / size) != "all") + more
        raise InputError(
            f"degree is None, but the terms of the kernel {target.name} up to degree {_HIGHEST} leave out "
            f"{_share(series.tail / size)} of K(1), and those up to degree {farthest.size - 1} "
            f"{_share(farthest.tail / size)}; choose a kernel that is less steep at |c| = 1{more}"
        )
    return series


def _shortened(series: PowerSeries, tail: float) -> PowerSeries:
    """The series, ended at the least degree that leaves out 1e-13 of K(1), of which ``tail`` is left out already."""
    b = np.asarray(series)
    left = np.append(np.cumsum(np.abs(b[:0:-1]))[::-1], 0.0) + max(tail, 0.0)
    end = int(np.flatnonzero(left <= _COMPLETE * max(float(np.abs(b).sum()) + tail, 1e13 * tail))[0]) + 1
    return PowerSeries(b[:end], error=series.error[:end], tail=float(b[end:].sum() + series.tail))


def _share(part: float) -> str:
    return f"{part:.3g}" if part < 0.9995 else "all"


def _falls(series: PowerSeries, kind: str) -> bool:
    """Whether the last terms fall like a power of the degree, at which ``degree="all"`` has a sum."""
    ends = [series.size >> octave for octave in range(4)]
    mass = [float(np.asarray(series)[low:high].sum()) for high, low in pairwise(ends)]
    if min(mass) <= 0:
        return False
    last, before = (math.log2(more / less) for less, more in pairwise(mass))
    return abs(last - before) < 0.02 and last > 2 * (SHARPEST - 1) + (kind != "ntk") - 0.02


def _hermite(a: Array, q: float) -> Activation:
    """φ with φ(√q z) = Σ a_k h_k(z)."""
    return activation("hermite", coefficients=a[: int(np.flatnonzero(a).max(initial=0)) + 1], variance=q)
