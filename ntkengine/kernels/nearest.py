"""The nearest positive-definite kernel: non-negative least squares of a power series in L² over the angle.

A kernel K(c) on the sphere is positive definite in every dimension exactly where ``K = Σ_k b_k c^k`` with all ``b_k ≥ 0``
(Schoenberg 1942). These kernels are a convex cone, so every K has one nearest element in it, found by non-negative least
squares (Lawson & Hanson 1974). Target and powers are given by their coefficients in Chebyshev polynomials ``√2 cos(jθ)``,
orthonormal under the mean over angles, so that inner products are exact, and every power is scaled to norm 1. Then the
Karush-Kuhn-Tucker conditions hold to rounding for all degrees at once.

An optimum at a positive distance has few terms: at its degrees the inner product of the misfit with c^k vanishes, and by
Müntz's theorem it does so for a set of degrees with ``Σ 1/k = ∞`` only where the misfit itself is zero.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkengine._check import real_array, shown
from ntkengine.errors import InputError, NoSeriesError
from ntkengine.kernels.base import DotProductKernel, check_finite
from ntkengine.kernels.taylor import PowerSeries, checked

__all__ = ["NearestKernel", "SeriesKernel", "cone_fit", "disproves", "nearest", "powers", "undetermined"]

Array = NDArray[np.float64]

#: The degrees of a fit go up to this one unless told otherwise, and can go up to the second.
DEGREE = 2000
MAX_DEGREE = 10_000
#: Even angles, (j + ½)π/ANGLES, over which distances are taken.
ANGLES = 8192
#: A term below this part of the whole is what rounding leaves of 0.
ROUNDING = 1e-14
#: Degrees beyond a fit at which its misfit is tried: this many times the one before, up to the second number.
STEP, HIGHEST = 1.03, 1e6
#: A misfit below this part of the largest |K| shows nothing: inner products of size 1 hold to rounding, its square.
ROUNDING_OF_PRODUCTS = 1e-7


class SeriesKernel(DotProductKernel):
    """The kernel ``K(c) = Σ_k b_k ρ^k`` of finitely many coefficients, ``ρ = (σ_w² c + σ_b²)/(σ_w² + σ_b²)``.

    Parameters
    ----------
    coefficients : (n+1,) array_like
        b_k of degree k = 0..n, none of them negative: the kernel is positive definite in every dimension.
    w_std, b_std : float
        σ_w > 0 and σ_b ≥ 0; with the defaults ρ = c.

    Attributes
    ----------
    coefficients : (n+1,) array
    w_std, b_std : float

    Raises
    ------
    InputError
        If a coefficient is negative or not finite, or a standard deviation is not allowed.

    Examples
    --------
    >>> from ntkengine.kernels.nearest import SeriesKernel
    >>> k = SeriesKernel([0.0, 1.0, 0.0, 2.0])
    >>> k([-1.0, 0.5, 1.0])
    array([-3.  ,  0.75,  3.  ])
    """

    def __init__(self, coefficients: ArrayLike, *, w_std: float = 1.0, b_std: float = 0.0) -> None:
        b = real_array("coefficients", coefficients)
        if b.ndim != 1 or b.size == 0:
            raise InputError(
                f"coefficients has shape {b.shape}; it must be a vector (degree + 1,), at least one"
            )
        if b.min() < 0:
            k = int(np.argmax(b < 0))
            raise InputError(
                f"coefficients[{k}] is {b[k]:.6g}; a positive-definite kernel has no negative coefficient: "
                "leave it out, or take the nearest kernel that has none (nearest)"
            )
        _, self.w_std, self.b_std = checked(0, w_std, b_std)
        self.coefficients = np.array(b)
        self.coefficients.flags.writeable = False

    @property
    def name(self) -> str:
        """Degree and number of terms."""
        terms = int(np.count_nonzero(self.coefficients))
        return f"power series of degree {self.degree}, {terms} term{'' if terms == 1 else 's'}"

    @property
    def degree(self) -> int:
        """The largest k with b_k > 0; 0 where there is none."""
        support = np.flatnonzero(self.coefficients)
        return int(support[-1]) if support.size else 0

    def _values(self, c: Array, complement: Array) -> Array:
        return self._sum(1 - _slope(self.w_std, self.b_std) * complement, np.zeros_like(c))

    def _deficit(self, c: Array, complement: Array) -> Array:
        from ntkengine.kernels._difference import Difference

        gain = _slope(self.w_std, self.b_std) * complement
        total = self._sum(Difference(1 - gain, 1.0, gain), Difference.of(0.0))
        return np.array(np.broadcast_to(total.gain, c.shape), dtype=np.float64)

    def _deficit_at_angle(self, theta: Array) -> Array:
        return self._deficit(np.cos(theta), 2 * np.sin(theta / 2) ** 2)

    def _complex(self, c: NDArray[np.complex128]) -> NDArray[np.complex128]:
        return self._sum(1 - _slope(self.w_std, self.b_std) * (1 - c), np.zeros_like(c))

    def _series(self, x: Any) -> Any:
        from flint import arb

        weight, bias = arb(self.w_std) ** 2, arb(self.b_std) ** 2
        return self._sum((x * weight + bias) / (weight + bias), x * 0)

    def _sum(self, rho: Any, zero: Any) -> Any:
        """Σ b_k ρ^k by Horner's rule from term to term, on any ring; ``zero`` is that of the result."""
        support = np.flatnonzero(self.coefficients)
        total = zero
        for k, below in zip(support[::-1], [*support[-2::-1], 0]):
            gap = int(k - below)
            total = total + float(self.coefficients[k])
            if gap:
                total = total * (rho if gap == 1 else rho**gap)
        return total

    def taylor(self, degree: int, *, w_std: float = 1.0, b_std: float = 0.0) -> PowerSeries:
        """The coefficients themselves, or those in the ρ of another pair (:meth:`DotProductKernel.taylor`)."""
        degree, w_std, b_std = checked(degree, w_std, b_std)
        if b_std * self.w_std != self.b_std * w_std:
            return super().taylor(degree, w_std=w_std, b_std=b_std)
        return finite_series(self.coefficients, degree, 0.0)


class NearestKernel(SeriesKernel):
    r"""What :func:`nearest` returns: the positive-definite kernel nearest to a target.

    Attributes
    ----------
    target : DotProductKernel
    distance : float
        Root of the mean of (K − target)² over 8192 even angles in [0, π].
    max_distance : float
        Largest \|K − target\\| over these angles and at c = ±1.
    kkt : float or None
        Largest violation of the optimality conditions, ``⟨K − target, ρ^k⟩ ≥ 0`` with equality where b_k > 0, over all
        degrees of the fit, relative to the norms of target and ρ^k. None where nothing was fitted: the coefficients are
        the target's own.

    Examples
    --------
    >>> import ntkengine as nk
    >>> from ntkengine.kernels.nearest import nearest
    >>> near = nearest(nk.kernel("c - 1"))
    >>> near, round(near.max_distance, 9)
    (<kernel positive-definite kernel nearest to c - 1>, 1.0)
    """

    def __init__(
        self,
        coefficients: ArrayLike,
        target: DotProductKernel,
        *,
        w_std: float = 1.0,
        b_std: float = 0.0,
        kkt: float | None = None,
    ) -> None:
        super().__init__(coefficients, w_std=w_std, b_std=b_std)
        self.target, self.kkt = target, kkt
        angles = np.concatenate([even_angles(ANGLES), [0.0, np.pi]])
        misfit = np.abs(self._values_at_angle(angles) - target._values_at_angle(angles))
        self.distance = _rms(misfit[:-2])
        self.max_distance = float(misfit.max())

    @property
    def name(self) -> str:
        """The target's name, said to be met by the nearest positive-definite kernel."""
        return f"positive-definite kernel nearest to {self.target.name}"


def nearest(
    k: DotProductKernel, *, degree: int = DEGREE, w_std: float = 1.0, b_std: float = 0.0
) -> NearestKernel:
    """The positive-definite kernel nearest to a kernel, in L² over the angle.

    Minimises ``∫ (K(cos θ) − Σ_k b_k ρ^k)² dθ`` over ``b_k ≥ 0``, k = 0..degree, ρ as in :class:`SeriesKernel`; even and
    odd degrees apart where ρ = c, as they are orthogonal. A target whose own coefficients to that degree are not negative,
    nor their tail, is its own nearest kernel: they are kept, and what is left out is the tail.

    Parameters
    ----------
    k : DotProductKernel
    degree : int
        Largest degree of the series, at most 10,000. A kink at c = ±1 is resolved to an angle of about 1/√degree.
    w_std, b_std : float
        σ_w > 0 and σ_b ≥ 0 of ρ: the input layer of the network the coefficients are meant for.

    Returns
    -------
    NearestKernel

    Raises
    ------
    InputError
        If an argument is not allowed, or K is not finite somewhere on [-1, 1].

    Examples
    --------
    >>> import ntkengine as nk
    >>> from ntkengine.kernels.nearest import nearest
    >>> near = nearest(nk.kernel("c**2 - 0.1*c**4"))  # not positive definite
    >>> [(k, round(float(b), 4)) for k, b in enumerate(near.coefficients) if b > 0]
    [(0, 0.0125), (2, 0.9)]
    >>> round(near.distance, 4), near.kkt < 1e-12
    (0.0088, True)
    """
    degree, w_std, b_std = checked(degree, w_std, b_std)
    if not isinstance(k, DotProductKernel):
        raise InputError(f"k must be a DotProductKernel, such as nk.kernel('c**2'), not {shown(k)}")
    if degree > MAX_DEGREE:
        raise InputError(f"degree is {degree}; for the nearest kernel it goes from 0 to {MAX_DEGREE}")
    check_finite(k)
    own = _own_coefficients(k, degree, w_std, b_std)
    if own is not None:
        return NearestKernel(own, k, w_std=w_std, b_std=b_std)

    columns = powers(degree, w_std, b_std)
    values = k._values_at_angle(even_angles(ANGLES))
    size = float(np.abs(values).max()) or 1.0
    aim = chebyshev(values / size)[: len(columns)]
    coefficients, kkt, norm = np.zeros(degree + 1), 0.0, float(np.linalg.norm(aim))
    for part in [slice(0, None, 2), slice(1, None, 2)] if b_std == 0 else [slice(None)]:
        if coefficients[part].size:
            coefficients[part], violation = cone_fit(columns[part, part], aim[part], norm)
            kkt = max(kkt, violation)
    return NearestKernel(size * coefficients, k, w_std=w_std, b_std=b_std, kkt=kkt / norm if norm else 0.0)


def _own_coefficients(k: DotProductKernel, degree: int, w_std: float, b_std: float) -> Array | None:
    """The target's coefficients where they exist and neither they nor the tail are negative beyond their error."""
    if not all(s.positive_definite for s in k.samples):  # the coefficients are not the target's
        return None
    try:
        series = k.taylor(degree, w_std=w_std, b_std=b_std)
    except NoSeriesError:
        return None
    b = np.array(series)
    if negative(series).any() or (series.tail or 0.0) < -slack(series):
        return None
    return np.maximum(b, 0.0)


def disproves(near: NearestKernel) -> bool:
    """Whether the misfit of the nearest kernel in ρ = c shows that no kernel of whatever degrees is the target.

    With n the degree of the fit, P the nearest kernel and m = K − P, ``⟨m, P⟩ = 0`` and ``⟨m, c^k⟩ ≤ 0`` for k ≤ n. Were
    ``K = Σ b_k c^k`` with b_k ≥ 0, then ``‖m‖² = ⟨m, K⟩ ≤ T sup_{k > n} ⟨m, c^k⟩`` with ``T = Σ_{k > n} b_k``, and for c from
    0 to 1 ``K(1) − K(c) ≥ T (1 − c^{n+1})``: where this fails, m is a plane that separates K from all such kernels. Inner
    products are means over 8192 even angles, for k on a geometric grid to 1e6; beyond it ``⟨m, c^k⟩ ≤ √(2/(πk)) max|m|``. A
    misfit of less than 1e-7 of the largest |K| shows nothing: both hold to rounding only.

    Parameters
    ----------
    near : NearestKernel
        Of :func:`nearest` in ρ = c.

    Returns
    -------
    bool
        False where nothing is shown.

    Examples
    --------
    >>> import ntkengine as nk
    >>> from ntkengine.kernels.nearest import disproves, nearest
    >>> disproves(nearest(nk.kernel("abs(c)"))), disproves(nearest(nk.kernel("c**2")))
    (True, False)
    """
    if near.kkt is None:
        return False
    theta = even_angles(ANGLES)
    values = near.target._values_at_angle(theta)
    size = float(np.abs(values).max()) or 1.0
    misfit = (values - near._values_at_angle(theta)) / size
    distance = float(np.sqrt(np.mean(misfit**2)))
    if distance <= ROUNDING_OF_PRODUCTS:
        return False
    rest, c = math.sqrt(2 / (math.pi * HIGHEST)) * float(np.abs(misfit).max()), np.cos(theta)
    with np.errstate(under="ignore"):
        for k in np.unique(
            np.geomspace(near.coefficients.size, HIGHEST, int(math.log(HIGHEST) / math.log(STEP))).round()
        ):
            power = np.abs(c) ** k
            even, odd = np.mean(misfit * power), np.mean(misfit * power * np.sign(c))
            rest = max(rest, float(even), float(odd))
    small = theta[theta < np.pi / 2]
    drops = near.target._deficit_at_angle(small) / (1 - np.cos(small) ** near.coefficients.size)
    mass = min(near.target._at_one, float(drops.min())) / size
    return distance**2 > 1.1 * max(mass, 0.0) * rest


def negative(series: PowerSeries) -> NDArray[np.bool_]:
    """Where coefficients are negative, by more than their error."""
    b, error = np.asarray(series), np.asarray(series.error)
    return np.asarray(b < -error)


def slack(series: PowerSeries) -> float:
    """What rounding and the coefficients' errors make of a tail that is 0."""
    assert series.error is not None
    return float(series.error.sum()) + 1e-12 * float(np.abs(np.asarray(series)).sum())


def cone_fit(columns: Array, aim: Array, scale: float = 0.0) -> tuple[Array, float]:
    """Non-negative least squares ``min |columns @ b − aim|`` over b ≥ 0, every column scaled to norm 1.

    Parameters
    ----------
    columns : (m, p) array
    aim : (m,) array
    scale : float
        Norm of the whole where ``aim`` is a part.

    Returns
    -------
    b : (p,) array
        0 where the scaled column would get less than 1e-14 of the norm of ``aim``, or of the whole.
    kkt : float
        Largest violation of the optimality conditions: of ``g ≥ 0`` and, where b > 0, of ``g = 0``, with g the inner
        products of the scaled columns with the misfit.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkengine.kernels.nearest import cone_fit
    >>> cone_fit(np.eye(2), np.array([2.0, -1.0]))[0]
    array([2., 0.])
    """
    from scipy.optimize import nnls

    norms: Array = np.sqrt(np.sum(columns**2, axis=0))
    norms[norms == 0] = 1.0
    scaled = np.ascontiguousarray(columns / norms)
    x, _ = nnls(scaled, aim, maxiter=30 * scaled.shape[1] + 300)
    x[x < ROUNDING * max(scale, float(np.linalg.norm(aim)))] = 0.0
    gradient = scaled.T @ (scaled @ x - aim)
    violation = np.where(x > 0, np.abs(gradient), -gradient)
    return x / norms, max(0.0, float(violation.max(initial=0.0)))


def undetermined(columns: Array, b: Array, noise: float, degrees: Array | None = None) -> Array:
    """How much samples leave open in the coefficients of a fit: standard deviations (p,).

    Those of Gaussian coefficients given samples with independent noise. Their prior is that of the fit's mass at degrees j/2 to
    2j put all on one of these, as sparse fits do: the root mean square of coefficient j is that mass over the root of their
    number.

    Parameters
    ----------
    columns : (m, p) array
        ``columns[i, j]`` is the power j at sample i; rows may be weighted.
    b : (p,) array
        The fit, none of them negative.
    noise : float
        Standard deviation of the samples' noise, for a row of weight 1.
    degrees : (p,) array, optional
        The powers, ascending, where they are not 0..p−1.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkengine.kernels.nearest import undetermined
    >>> rho = np.linspace(-1, 1, 9)[:, None]
    >>> undetermined(rho ** np.arange(3.0), np.array([1.0, 1.0, 0.0]), 0.01).round(4)
    array([0.0051, 0.0052, 0.0091])
    """
    from scipy.linalg import LinAlgError, cholesky, eigh, solve_triangular

    if noise == 0:
        return np.zeros(b.size)
    j, total = np.arange(b.size) if degrees is None else degrees, np.concatenate([[0.0], np.cumsum(b)])
    first, end = np.searchsorted(j, j // 2), np.searchsorted(j, 2 * j, side="right")
    free = (total[end] - total[first]) / np.sqrt(end - first) + noise
    scaled = columns * (free / noise)
    products = scaled @ scaled.T
    try:
        factor = cholesky(products + np.eye(len(products)), lower=True)
        known = np.sum(solve_triangular(factor, scaled, lower=True) ** 2, axis=0)
    except LinAlgError:  # the noise is below rounding: directions that this hides count as not told
        told, directions = eigh(products)
        above = told > len(told) * float(np.finfo(np.float64).eps) * told[-1]
        known = np.sum((directions[:, above].T @ scaled) ** 2 / (1 + told[above, None]), axis=0)
    return np.asarray(free * np.sqrt(np.clip(1 - known, 0.0, 1.0)))


def _rms(x: Array) -> float:
    """Root mean square, whatever the scale."""
    size = float(np.abs(x).max()) or 1.0
    return size * float(np.sqrt(np.mean((x / size) ** 2)))


def even_angles(count: int) -> Array:
    """``(j + ½)π/count``, j = 0..count−1: the angles of the Chebyshev nodes of the first kind."""
    return (np.arange(count, dtype=np.float64) + 0.5) * (math.pi / count)


def chebyshev(values: Array) -> Array:
    """Coefficients in the polynomials ``1, √2 cos θ, √2 cos 2θ, ...``, orthonormal under the mean over angles.

    ``values`` (n,) or (n, m) are taken at :func:`even_angles`, along the first axis; the sum of the squares of the
    coefficients is the mean of the squares of the values. ``values`` may be overwritten.
    """
    from scipy.fft import dct

    coefficients = dct(values, type=2, axis=0, norm="ortho", overwrite_x=True) / math.sqrt(len(values))
    return np.asarray(coefficients, dtype=np.float64)


def powers(degree: int, w_std: float = 1.0, b_std: float = 0.0) -> Array:
    """Chebyshev coefficients of ρ^k, k = 0..degree: shape (J, degree+1).

    Those of c^k are binomial, of width √k, so that J = 10 √degree + 40 leave out less than 1e-20.

    Examples
    --------
    >>> from ntkengine.kernels.nearest import powers
    >>> (powers(2)[:3] * [1, 2**0.5, 1]).round(3) + 0.0  # c² = ½ + ½ cos 2θ
    array([[1.   , 0.   , 0.5  ],
           [0.   , 1.   , 0.   ],
           [0.   , 0.   , 0.354]])
    """
    rows = int(10 * math.sqrt(degree)) + 40
    count = 1 << (2 * rows - 1).bit_length()
    rho = 1 - _slope(w_std, b_std) * (2 * np.sin(even_angles(count) / 2) ** 2)
    return chebyshev(np.power(rho[:, None], np.arange(degree + 1.0)))[:rows]


def finite_series(coefficients: Array, degree: int, error: ArrayLike) -> PowerSeries:
    """The first degree + 1 of all the coefficients there are, with zeros where there are no more; the rest is the tail."""
    kept = np.zeros(degree + 1)
    kept[: coefficients.size] = coefficients[: degree + 1]
    return PowerSeries(kept, error=error, tail=math.fsum(coefficients[degree + 1 :]))


def _slope(w_std: float, b_std: float) -> float:
    """dρ/dc."""
    return 1 / (1 + (b_std / w_std) ** 2)
