r"""The activation of a kernel with infinitely many power-series terms, summed to the end.

With signs + + − − the series ``φ(z) = Σ_k s_k a_k h_k(z)`` can be summed where its terms alone never could be (at |z| = 8
they are e^{16} times larger than at 0, and fall like k^{−3/2}). The signs are those of ``h_k(0)`` for even k and of
``h_k'(0)`` for odd k, so that Mehler's formula at x = 0 applies. Write ``a_k = e_k |h_k(0)|`` for even and
``a_k = e_k |h_k'(0)|`` for odd k. Then for ``e_k = ∫ t^{k'} dν(t)``, k' = k or k − 1,

    even part  φ(z) = ∫ (1 − t²)^{−1/2} exp(−z² t²/2(1 − t²)) dν(t),
    odd part   φ(z) = ∫ z (1 − t²)^{−3/2} exp(−z² t²/2(1 − t²)) dν(t):

mixtures of bell curves, bounded wherever ν is tame. (The paper's signs make φ(z) exp(−z²/4) the Fourier transform of the
all-plus sum, of which this is the finished form. The sum with all plus, or with signs drawn at random, grows like exp(z²/4)
times a power; signs turned at finitely many degrees add a polynomial to φ, φ(−z) and −φ have signs of their own.) What
matters is how ν ends at t = 1, that is how e_k falls at large k, and K's singularities at c = ±1 decide that: where the first
non-analytic term of K is (1 ∓ c)^p, p no integer (or times a logarithm), a_k ~ k^{−τ} with τ = 1 + p/2 for an NTK and
(1 + p)/2 for an NNGP kernel, times a series in 1/k. So from some degree on

    e_k = Σ_j α_j B(m + 1, γ + j + 1),   m = ⌊k/2⌋,   γ = τ − 5/4 (even), τ − 3/4 (odd),

whose mixtures are known, ``∫_0^∞ (1 + u)^p e^{−xu} du``, x = z²/2, p = −γ − j − 3/2 (even), −γ − j − 1/2 (odd): Tricomi's
U(1, p + 2, x). These are summed in closed form, and what is left of e_k below that degree is a short sum of Hermite
polynomials. At z = 0 the closed forms have the cusp of φ: for the NTK of a ReLU network (p = ½) slope_jump·max(z, 0) from the
even part and log_slope·z·log|z| from the odd one. Where b_k falls faster than any power (exponential, erf networks)
there is no cusp and nothing to extrapolate. Whether the a_k are such a power law is seen from the fit of it over three octaves.
A singularity of K just outside |ρ| = 1 makes terms ρ^{−k} that have died out at neither end: such a series is refused.

The cusp is |z|^{2τ−3/2}. The limit is finite at 0 only for τ > 3/4: NNGP kernels with p <= ½ (laplace, the step network)
would need a φ with a jump or a logarithmic pole there; below τ = 5/4 the cusp is too sharp for a table. That an infinite sum
has a limit says nothing about large z: of bounded φ, those of ReLU networks of four or more layers stay below 5, of two layers
φ grows like |z|, as ReLU itself does.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from ntkengine import quadrature
from ntkengine.activations.base import Activation, activation
from ntkengine.activations.tabulated import nodes
from ntkengine.design.signs import paper
from ntkengine.errors import AccuracyWarning, InputError
from ntkengine.hermite import hermite_series

__all__ = ["DEGREE", "SHARPEST", "Limit", "bias_advice", "limit"]

Array = NDArray[np.float64]

#: Degree from which on coefficients are extrapolated, and up to which they are wanted.
DEGREE = 8192
#: The table reaches to here, and φ there is to be good to this much of √E[φ²].
REACH, GOOD = 8.0, 1e-6
#: What the table may miss at most.
_REFUSED = 1e-4
#: From here on a warning tells the error; and the most that coefficients may leave unknown in the mean square.
_TOLD, _UNKNOWN = 1e-3, 1e-2
#: Beyond: to here, as long as rounding allows; no more than this part of E[φ²] may lie outside.
_FARTHEST, _BEYOND = 10.0, 1e-6
#: Exponents tried first are multiples of this.
_SNAP = 1 / 8
#: What a fitted power law may miss of coefficients over the last three octaves, and what its mean may miss of the last fifth,
#: besides so many times their noise.
_FITS, _NOISE = (1e-4, 1e-11), (1e3, 1.0)
#: The best γ is known to this.
_FRACTION = 1e-7
#: A singularity at ρ = −(1 + this) or further out leaves nothing to see in the last three octaves.
_APART = 0.006
#: The least τ whose cusp a table follows.
SHARPEST = 1.25
_DENSITIES = (5, 6, 7, 8)
#: Where φ has no cusp nodes can be as fine as this, and need not crowd at 0.
_FINEST, _SMOOTH_START = 10, -4
#: Below |z| = 2^(start − density) the table has no cusp: the logarithm in φ' lost there is 1e-8 of a kernel.
_START = -18


@dataclass(frozen=True)
class Limit:
    """φ and how good it is.

    Attributes
    ----------
    activation : Activation
        Of family ``tabulated``.
    exponent : float
        τ, a_k ~ k^{−τ}; inf where they fall faster than any power.
    error : float
        Estimated error of φ on |z| <= 8√q, relative to √E[φ²]: of the coefficients, of their extrapolation and of the table.
    bound : float
        max |φ(z)| over |z| <= 8√q.

    Examples
    --------
    >>> import ntkengine as nk
    >>> found = nk.reverse_engineer("laplace", degree="all").limit
    >>> found.exponent, found.error < 1e-6, round(found.bound, 4)
    (1.25, True, 1.0017)
    """

    activation: Activation
    exponent: float
    error: float
    bound: float


def limit(a: Array, noise: Array, variance: float, settled: bool, advice: str = "", kind: str = "") -> Limit:
    """φ of the coefficients a_k >= 0, k = 0..degree, and of those that follow.

    Parameters
    ----------
    a : (degree+1,) array
        Of z ↦ φ(√q z), without their signs.
    noise : (degree+1,) array
        How far each may be off.
    variance : float
        q.
    settled : bool
        The rest of the series is negligible; else it is extrapolated.
    advice : str
        What to do, besides giving a finite degree, if the coefficients do not fall like a power: see :func:`bias_advice`.
    kind : "ntk" or "nngp"
        Of the design, for what errors advise.

    Raises
    ------
    InputError
        If the coefficients do not fall like a power of k times a series in 1/k, or not yet at these degrees, or so slowly
        that φ has no value at 0, or too sharp a cusp; or if φ oscillates too fast for a table, or is a polynomial of so high a
        degree that its range is not the table's; or if the coefficients are known so badly that φ is not.

    Examples
    --------
    >>> k = np.arange(200)
    >>> a = np.exp(-k / 4)
    >>> found = limit(a, 1e-16 * a, 1.0, settled=True)
    >>> found.exponent, found.error < 1e-6
    (inf, True)
    """
    scale = math.sqrt(float(a @ a))
    if not scale > 0:
        raise InputError("the kernel is 0 but for a constant; there is no activation to find")
    parts = [
        _Part.finite(a, noise, parity) if settled else _Part.of(a, noise, parity, scale, advice, kind)
        for parity in (0, 1)
    ]
    exponents = [part.exponent for part in parts if part.exponent < math.inf]
    table, error, far = _tabulate(parts, variance, scale)
    doubt, missed = (math.hypot(*doubts) / scale for doubts in zip(*(part.doubts for part in parts)))
    phi = activation("tabulated", **table, accuracy=max(error + missed, GOOD))
    if settled:
        z, w = quadrature.panel_rule(-far, far, (0.0,), 256)
        inside = float(w * quadrature.density(z) @ phi(math.sqrt(variance) * z) ** 2)
        if abs(inside / scale**2 - 1) > _BEYOND:
            raise InputError(
                f"{abs(inside / scale**2 - 1):.1e} of E[φ²] comes from |z| > {far:g}, where no table follows φ: the series "
                f"is one of high powers (up to {int(np.flatnonzero(a)[-1])}) only; give a finite degree"
            )
    if error > _REFUSED and settled:
        raise InputError(
            f"φ oscillates too fast for a table, which would miss {error:.0e} of √E[φ²]: the kernel's power series lies at "
            f"degrees around {int(a.argmax())}; give a finite degree, or take a kernel less steep at c = 1"
        )
    if error > _REFUSED:
        raise InputError(
            f"φ could be given to {error:.0e} of √E[φ²] only: the kernel is so near to a singular one that its power series "
            f"takes the form it has at high degrees far beyond degree {a.size - 1}; give a finite degree"
        )
    if missed > _UNKNOWN:
        raise InputError(
            f"φ would be known to {missed:.0e} of √E[φ²] only: high degrees of the series are not known; give a finite degree"
        )
    error = max(error + doubt, 1e-15)
    if error > _TOLD:
        warnings.warn(
            f"φ is good to about {error:.0e} of √E[φ²] at |z| = {REACH:g} only, for the kernel's power series is known to "
            "rounding errors; near 0, where most of the kernel is made, it is far better",
            AccuracyWarning,
            stacklevel=3,
        )
    z = np.linspace(-REACH, REACH, 4001) * math.sqrt(variance)
    return Limit(phi, min(exponents, default=math.inf), error, float(np.abs(phi(z)).max()))


class _Part:
    """The even or the odd half of φ: closed forms and a rest of Hermite polynomials.

    Attributes
    ----------
    parity : int
    rest : (degree+1,) array
        Signed coefficients of the rest.
    alpha : (J,) array
    first : float
        p of the first closed form; those of the others are 1 less each.
    exponent : float
        τ.
    doubts : (float, float)
        Estimated error at |z| = 8, and in the mean square under N(0, 1).
    """

    def __init__(
        self,
        parity: int,
        rest: Array,
        alpha: Array,
        first: float,
        exponent: float,
        doubts: tuple[float, float],
    ) -> None:
        self.parity, self.rest, self.alpha = parity, rest, alpha
        self.first, self.exponent, self.doubts = first, exponent, doubts

    @classmethod
    def finite(cls, a: Array, noise: Array, parity: int) -> _Part:
        """All of it in the Hermite polynomials; what is unknown after the last coefficient falls as those before it."""
        rest = a * paper(a.size)
        rest[1 - parity :: 2] = 0.0
        size, used = _size(a.size), np.flatnonzero(rest)
        unsure = np.where(np.arange(a.size) % 2 == parity, noise, 0.0)
        unsure[int(used.max(initial=0)) + 1 :] = 0.0
        doubts = np.array([np.linalg.norm(unsure * size), np.linalg.norm(unsure)])
        if used.size > 2 and noise[used[-1] :][2::2].any():
            last, half = int(used[-1]), int(used[used.size // 2])
            fall = min(float(a[last] / a[half]) ** (2 / (last - half)), 0.9)
            doubts += a[last] * fall / (1 - fall) * np.array([size[last], 1.0])
        return cls(parity, rest, np.empty(0), 0.0, math.inf, (float(doubts[0]), float(doubts[1])))

    @classmethod
    def of(cls, a: Array, noise: Array, parity: int, scale: float, advice: str, kind: str) -> _Part:
        """With the coefficients at high degrees fitted, and continued."""
        own = a[parity::2]
        if not own[own.size // 2 :].max(initial=0.0) > 1e-14 * scale:
            return cls.finite(a, noise, parity)
        if own[own.size // 8 :].min() <= 0:
            raise InputError(
                "some coefficients at high degrees are 0 and others are not: the series cannot be continued; "
                "give a finite degree"
            )
        unit = _unit(own.size, parity)
        e, unsure = own / unit, noise[parity::2].copy()
        exponent, gamma, alpha, fitted, misfit = _power_law(own, unit, unsure, parity, advice, kind)
        rest = np.zeros(a.size)
        rest[parity::2] = (e - fitted) * unit * paper(a.size)[parity::2]
        size = _size(a.size)[parity::2]
        upper, left = slice(own.size // 2, None), np.abs(e - fitted) * unit
        # The misfit shows how large the noise is; where there is nothing else in it, the fit knows better.
        within = bool((left[upper] <= unsure[upper]).all())
        unsure *= min(
            1.0, float(np.linalg.norm(left[upper])) / max(float(np.linalg.norm(unsure[upper])), 1e-300)
        )
        if within:
            rest[parity::2][upper] = 0.0
            unsure[upper] = misfit * own[upper]
        # Terms beyond the last add up over half a period of cos(√k z).
        doubt = float(np.linalg.norm(unsure * size))
        doubt += misfit * float(own[-1] * size[-1]) * 2 * math.sqrt(a.size) / REACH
        missed = math.hypot(float(np.linalg.norm(unsure)), misfit * float(own[-1]) * math.sqrt(own.size))
        return cls(parity, rest, alpha, -gamma - (1.5 if parity == 0 else 0.5), exponent, (doubt, missed))

    def __call__(self, z: Array) -> tuple[Array, Array]:
        """φ and φ' at z > 0, each (n,)."""
        value, slope = hermite_series(self.rest, z), hermite_series(self.rest, z, derivative=1)
        if self.alpha.size:
            own, before = _mixtures(self.first, self.alpha, z * z / 2)
            if self.parity == 0:
                value, slope = value + own, slope + z * (own - before)
            else:
                value, slope = value + z * own, slope + own + z * z * (own - before)
        return value, slope

    def at_zero(self) -> float:
        """φ(0); of an odd half 0."""
        if self.parity:
            return 0.0
        powers = self.first - np.arange(self.alpha.size)
        return float(hermite_series(self.rest, 0.0)) - float((self.alpha / (powers + 1)).sum())

    def cusp(self) -> tuple[float, float]:
        """Jump of the slope and coefficient of z·log|z|, at 0."""
        if not self.alpha.size:
            return 0.0, 0.0
        if self.parity == 0:
            whole = abs(self.first + 1.5) < 1e-9
            return (-2 * math.sqrt(2 * math.pi) * float(self.alpha[0]) if whole else 0.0), 0.0
        return 0.0, (-2 * float(self.alpha[0]) if abs(self.first + 1) < 1e-9 else 0.0)

    def rounding(self, z: float) -> float:
        """What rounding may do to φ at z."""
        root = math.exp(z * z / 4)
        return 1e-16 * root * float(np.abs(self.rest).sum()) if root < 1e300 else math.inf


def _size(count: int) -> Array:
    """The envelope of h_k(z) at z = 8, k < count: e^{z²/4} (2/πk)^{1/4}."""
    return np.asarray(math.exp(REACH**2 / 4) * (2 / (math.pi * np.maximum(np.arange(count), 1))) ** 0.25)


def _unit(count: int, parity: int) -> Array:
    """|h_{2m}(0)| or |h_{2m+1}'(0)|, m < count."""
    m = np.arange(1.0, count)
    even = np.concatenate([[1.0], np.cumprod(np.sqrt((2 * m - 1) / (2 * m)))])
    return even if parity == 0 else even * np.sqrt(2 * np.arange(count) + 1.0)


def _power_law(
    own: Array, unit: Array, noise: Array, parity: int, advice: str, kind: str
) -> tuple[float, float, Array, Array, float]:
    """τ, γ, and what :func:`_fit` finds for it: first for the multiple of 1/8 next to the slope of log a against log k, then
    for the γ that fits best. Whether it is one shows in the fit from an eighth of the degrees to the last.
    """
    e, n = own / unit, own.size - 1
    at = np.array([n // 8, n // 4, n // 2, n])
    slopes = -np.diff(np.log(own[at])) / np.diff(np.log(2.0 * at + parity))
    slope = float(slopes @ [1, -6, 8]) / 3
    shift = 1.25 if parity == 0 else 0.75
    tail = slice(n // 8, None)
    known = float(np.sqrt(((noise[tail] / own[tail]) ** 2).mean()))
    best = math.inf, math.inf
    for gamma in _choices(e, slope, shift):
        alpha, fitted, misfit = _fit(e, gamma)
        apart = float(np.abs(fitted[tail] / e[tail] - 1).max())
        best = min(best, (apart, misfit))
        if apart <= _FITS[0] + _NOISE[0] * known and misfit <= _FITS[1] + _NOISE[1] * known:
            break
    else:
        raise InputError(
            f"the kernel's power series is not complete at degree {2 * n + parity}, and no fixed power of the degree times a "
            f"series in 1/degree continues it: the best misses {best[0]:.0e} of the last three octaves and {best[1]:.0e} of "
            f"the last fifth (a_k falls like k^-{slopes[-1]:.3f} there); the sum needs more terms: {advice}give a finite degree"
        )
    tau = gamma + shift
    sharp = SHARPEST - 10 * _FRACTION
    if tau < sharp:
        cusp = f"a cusp |z|^{2 * tau - 1.5:.3g} at 0, too sharp for a table"
        better = 'kind="ntk", ' if kind == "nngp" and tau + 0.5 >= sharp else ""
        raise InputError(
            f"the activation has {cusp if tau > 0.75 + 1e-9 else 'no finite value at 0'}: a_k falls like k^-{tau:.7g} only "
            f"(the kernel is too steep at |c| = 1); take {better}a smoother kernel, or a finite degree"
        )
    return tau, gamma, alpha, fitted, misfit


def _choices(e: Array, slope: float, shift: float) -> Iterator[float]:
    """γ by the slope, to the next eighth of τ; then that with which B(m+1, γ+j+1), j < 6, fit the last three octaves best, as
    a fraction and as it is.
    """
    yield max(round(slope / _SNAP) * _SNAP - shift, -0.9)
    used = np.unique(np.geomspace(e.size // 8, e.size - 1, 400).astype(int))

    def missed(gamma: float) -> float:
        table = _betas(e.size, gamma, 6)
        return float(np.linalg.norm(_solve(table, e, used) @ table[:, used] / e[used] - 1))

    around = max(slope - shift, -0.8)
    bounds = around - 0.05, around + 0.05
    found = float(minimize_scalar(missed, bounds=bounds, method="bounded", options={"xatol": 1e-13}).x)
    near = float(Fraction(found).limit_denominator(1000))
    if abs(near - found) < _FRACTION:
        yield near
    yield found


def bias_advice(own: float, w_std: float, b_std: float) -> str:
    """What b_std to choose for a target network, or "": its kernel is singular at ρ = −1 where b_std/w_std is the network's own
    ratio, and just outside |ρ| = 1 where it is a little less.

    Parameters
    ----------
    own : float
        b_std/w_std of the target network.
    w_std, b_std : float
        Of the design.

    Examples
    --------
    >>> bias_advice(0.1, 1.5, 0.14)
    'choose b_std = 0.15, the b_std/w_std of the target network, or at most 0.125; or '
    >>> bias_advice(0.1, 1.5, 0.1)
    ''
    """
    ratio = b_std / w_std
    apart = 2 * (own**2 - ratio**2) / (1 + ratio**2)  # of the singularity from −1
    if not 0 < apart < _APART:
        return ""
    text = f"choose b_std = {own * w_std:.15g}, the b_std/w_std of the target network"
    most = (2 * own**2 - _APART) / (2 + _APART)
    if most >= 0:
        text += f", or at most {math.floor(1e3 * math.sqrt(most) * w_std) / 1e3:g}"
    return text + "; or "


def _fit(e: Array, gamma: float) -> tuple[Array, Array, float]:
    """Coefficients of B(m+1, γ+j+1), the sum for every m, and its relative error on the last fifth, kept out of the fit.

    Size J and where the fit begins are chosen by its largest error there; then the last fifth is fitted too. The error
    returned is the largest of eight means, in which noise counts little.
    """
    n = e.size
    best: tuple[float, Array, float] | None = None
    table = _betas(n, gamma, 8)
    for size in range(3, 9):
        for share in (2, 3, 4, 8):
            held = np.unique(np.geomspace(n // share, 4 * n // 5, 400).astype(int))
            alpha = _solve(table[:size], e, held)
            tail = np.arange(4 * n // 5, n)
            apart = alpha @ table[:size][:, tail] / e[tail] - 1
            error = float(np.abs(apart).max())
            if best is None or error < 0.5 * best[0]:
                used = np.unique(np.geomspace(n // share, n - 1, 500).astype(int))
                mean = max(abs(float(part.mean())) for part in np.array_split(apart, 8))
                best = error, _solve(table[:size], e, used), mean
    assert best is not None
    return best[1], best[1] @ table[: best[1].size], best[2]


def _solve(table: Array, e: Array, used: NDArray[np.intp]) -> Array:
    rows = (table[:, used] / e[used]).T
    size = np.linalg.norm(rows, axis=0)
    found = np.linalg.lstsq(rows / size, np.ones(used.size), rcond=1e-15)[0]
    return np.asarray(found / size)


def _betas(n: int, gamma: float, size: int) -> Array:
    """B(m+1, γ+j+1), (size, n)."""
    m = np.arange(1.0, n)
    out = np.empty((size, n))
    for j in range(size):
        c = gamma + j + 1
        out[j] = np.concatenate([[1.0], np.cumprod(m / (m + c))]) / c
    return out


def _mixtures(first: float, alpha: Array, x: Array) -> tuple[Array, Array]:
    """Σ_j α_j ∫_0^∞ (1+u)^{p_j} e^{−xu} du and the same with p_j + 1, p_j = first − j, for x > 0; each (n,).

    With v = log(1 + u) the integrand is e^{(p+1)v} exp(−x(e^v − 1)): it dies doubly exponentially beyond v = log(1/x).
    """
    far = max(math.log1p(745 / float(x.min())), 1.0)
    edges = np.concatenate([np.linspace(0.0, min(1.0, far), 41), np.arange(1.25, far + 0.25, 0.25)])
    v, w = quadrature.panel_rule(0.0, far, tuple(edges[1:-1]), 1)
    powers = first - np.arange(alpha.size)
    weight = np.exp(np.outer(v, powers + 1)) @ alpha
    columns = np.stack([w * weight, w * weight * np.exp(v)], axis=1)
    out = np.empty((x.size, 2))
    for start in range(0, x.size, 256):
        part = slice(start, start + 256)
        out[part] = np.exp(-x[part, None] * np.expm1(v)) @ columns
    return out[:, 0], out[:, 1]


def _tabulate(parts: list[_Part], variance: float, scale: float) -> tuple[dict[str, object], float, float]:
    """The table of φ, how far it is from φ, relative to ``scale``, and |z|/√q at its end; at the least density that will do."""
    root = math.sqrt(variance)
    far = _FARTHEST
    while far > REACH and sum(part.rounding(far) for part in parts) > 0.1 * GOOD * scale:
        far -= 0.25

    def both(z: Array) -> list[tuple[Array, Array]]:
        return [part(z / root) for part in parts]

    smooth = not any(part.alpha.size for part in parts)
    choices = [(density, _START) for density in _DENSITIES]
    if smooth:
        choices += [(density, _SMOOTH_START) for density in range(_DENSITIES[-1] + 1, _FINEST + 1)]
    octaves = min(math.floor(math.log2(root)), 0)  # where φ is narrower, so are the nodes
    for density, start in ((density, start + octaves) for density, start in choices):
        count = int(np.searchsorted(nodes(1 << 13, density, start), far * root, side="right"))
        at = nodes(count, density, start)
        (even, even_slope), (odd, odd_slope) = both(np.maximum(at, 0.25 * at[1]))
        even[0], odd[0] = parts[0].at_zero(), 0.0
        slopes = even_slope / root, odd_slope / root
        jump, log_slope = (sum(c) / root for c in zip(*(part.cusp() for part in parts)))
        table: dict[str, object] = {
            "right_values": even + odd,
            "right_slopes": slopes[0] + slopes[1],
            "left_values": even - odd,
            "left_slopes": slopes[1] - slopes[0],
            "density": density,
            "start": start,
            "slope_jump": jump,
            "log_slope": log_slope,
        }
        phi = activation("tabulated", **table)
        middle = (at[1:] + at[:-1]) / 2
        middle = middle[middle <= REACH * root]
        (even, _), (odd, _) = both(middle)
        error = max(
            float(np.abs(phi(middle) - even - odd).max()), float(np.abs(phi(-middle) - even + odd).max())
        )
        if error <= 0.3 * GOOD * scale:
            break
    return table, error / scale, far
