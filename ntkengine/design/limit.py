r"""The activation of a kernel with infinitely many power-series terms, summed to the end.

With signs + + − − the series ``φ(z) = Σ_k s_k a_k h_k(z)`` can be summed where its terms alone never could be (at |z| = 8
they are e^{16} times larger than at 0, and fall like k^{−3/2}). The signs are those of ``h_k(0)`` for even k and of
``h_k'(0)`` for odd k, so that Mehler's formula at x = 0 applies. Write ``a_k = e_k |h_k(0)|`` for even and
``a_k = e_k |h_k'(0)|`` for odd k. Then for ``e_k = ∫ t^{k'} dν(t)``, k' = k or k − 1,

    even part  φ(z) = ∫ (1 − t²)^{−1/2} exp(−z² t²/2(1 − t²)) dν(t),
    odd part   φ(z) = ∫ z (1 − t²)^{−3/2} exp(−z² t²/2(1 − t²)) dν(t):

mixtures of bell curves, bounded wherever ν is tame (the paper's signs make φ(z) exp(−z²/4) the Fourier transform of the
all-plus sum, of which this is the finished form; any other signs leave sums that grow like exp(z²/4)). What matters is how
ν ends at t = 1, that is how e_k falls at large k, and K's singularity at c = 1 decides that: where K(1) − K(c) ~ (1 − c)^p,
a_k ~ k^{−τ} with τ = 1 + p/2 for an NTK and (1 + p)/2 for an NNGP kernel, times a series in 1/k. So from some degree on

    e_k = Σ_j α_j B(m + 1, γ + j + 1),   m = ⌊k/2⌋,   γ = τ − 5/4 (even), τ − 3/4 (odd),

whose mixtures are known, ``∫_0^∞ (1 + u)^p e^{−xu} du``, x = z²/2, p = −γ − j − 3/2 (even), −γ − j − 1/2 (odd): Tricomi's
U(1, p + 2, x). These are summed in closed form, and what is left of e_k below that degree is a short sum of Hermite
polynomials. At z = 0 the closed forms have the cusp of φ: for the NTK of a ReLU network (p = ½) slope_jump·max(z, 0) from the
even part and log_slope·z·log|z| from the odd one. Where b_k falls faster than any power (exponential, erf networks)
there is no cusp and nothing to extrapolate.

The limit is finite at 0 only for τ > 3/4: NNGP kernels with p <= ½ (laplace, the step network) would need a φ with a jump or a
logarithmic pole there. That an infinite sum has a limit says nothing about large z: of bounded φ, those of ReLU networks of
four or more layers stay below 5, of two layers φ grows like |z|, as ReLU itself does.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ntkengine import quadrature
from ntkengine.activations.base import Activation, activation
from ntkengine.activations.tabulated import nodes
from ntkengine.design.signs import paper
from ntkengine.errors import AccuracyWarning, InputError
from ntkengine.hermite import hermite_series

__all__ = ["DEGREE", "Limit", "limit"]

Array = NDArray[np.float64]

#: Degree from which on coefficients are extrapolated, and up to which they are wanted.
DEGREE = 8192
#: The table reaches to here, and φ there is to be good to this much of √E[φ²].
REACH, GOOD = 8.0, 1e-6
#: What the table may miss at most.
_REFUSED = 1e-4
#: From here on a warning tells the error.
_TOLD = 1e-3
#: Beyond: to here, as long as rounding allows; no more than this part of E[φ²] may lie outside.
_FARTHEST, _BEYOND = 10.0, 1e-6
#: The coefficients fall like a power if log-slopes at the upper degrees agree to this.
_SNAP = 1 / 8
_DENSITIES = (5, 6, 7, 8)
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
    """

    activation: Activation
    exponent: float
    error: float
    bound: float


def limit(a: Array, noise: Array, variance: float, settled: bool) -> Limit:
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

    Raises
    ------
    InputError
        If the coefficients do not fall like a power of k times a series in 1/k, or not yet at these degrees, or so slowly
        that φ has no value at 0; or if φ is a polynomial of so high a degree that its range is not the table's.
    """
    scale = math.sqrt(float(a @ a))
    if not scale > 0:
        raise InputError("the kernel is 0 but for a constant; there is no activation to find")
    parts = [(_Part.finite if settled else _Part.of)(a, noise, parity, scale) for parity in (0, 1)]
    exponents = [part.exponent for part in parts if part.exponent < math.inf]
    table, error, far = _tabulate(parts, variance, scale)
    doubt = math.hypot(*(part.doubt for part in parts)) / scale
    phi = activation("tabulated", **table, accuracy=max(error, GOOD))
    if settled:
        z, w = quadrature.panel_rule(-far, far, (0.0,), 256)
        inside = float(w * quadrature.density(z) @ phi(math.sqrt(variance) * z) ** 2)
        if abs(inside / scale**2 - 1) > _BEYOND:
            raise InputError(
                f"{abs(inside / scale**2 - 1):.1e} of E[φ²] comes from |z| > {far:g}, where no table follows φ: the series "
                f"is one of high powers (up to {int(np.flatnonzero(a)[-1])}) only; give a finite degree"
            )
    if error > _REFUSED:
        raise InputError(
            f"φ could be given to {error:.0e} of √E[φ²] only: the kernel is so near to a singular one that its power series "
            f"takes the form it has at high degrees far beyond degree {a.size - 1}; give a finite degree"
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
    doubt : float
        Estimated error at |z| = 8.
    """

    def __init__(
        self, parity: int, rest: Array, alpha: Array, first: float, exponent: float, doubt: float
    ) -> None:
        self.parity, self.rest, self.alpha = parity, rest, alpha
        self.first, self.exponent, self.doubt = first, exponent, doubt

    @classmethod
    def finite(cls, a: Array, noise: Array, parity: int, scale: float) -> _Part:
        """All of it in the Hermite polynomials; what is unknown after the last coefficient falls as those before it."""
        rest = a * paper(a.size)
        rest[1 - parity :: 2] = 0.0
        used = np.flatnonzero(rest)
        doubt = float(np.linalg.norm((noise * _size(a.size))[used]))
        if used.size > 2 and noise[used[-1] :][2::2].any():
            last, half = int(used[-1]), int(used[used.size // 2])
            fall = min(float(a[last] / a[half]) ** (2 / (last - half)), 0.9)
            doubt += float(a[last] * _size(a.size)[last]) * fall / (1 - fall)
        return cls(parity, rest, np.empty(0), 0.0, math.inf, doubt)

    @classmethod
    def of(cls, a: Array, noise: Array, parity: int, scale: float) -> _Part:
        """With the coefficients at high degrees fitted, and continued."""
        own = a[parity::2]
        if not own[own.size // 2 :].max(initial=0.0) > 1e-14 * scale:
            return cls.finite(a, noise, parity, scale)
        if own[own.size // 8 :].min() <= 0:
            raise InputError(
                "some coefficients at high degrees are 0 and others are not: the series cannot be continued; "
                "give a finite degree"
            )
        unit = _unit(own.size, parity)
        e = own / unit
        exponent, gamma = _exponent(own, parity)
        alpha, fitted, misfit = _fit(e, gamma)
        rest = np.zeros(a.size)
        rest[parity::2] = (e - fitted) * unit * paper(a.size)[parity::2]
        size, doubts = _size(a.size)[parity::2], noise[parity::2].copy()
        upper, left = slice(own.size // 2, None), np.abs(e - fitted) * unit
        # The misfit shows how large the noise is; where there is nothing else in it, the fit knows better.
        doubts *= min(
            1.0, float(np.linalg.norm(left[upper])) / max(float(np.linalg.norm(doubts[upper])), 1e-300)
        )
        if (left[upper] <= noise[parity::2][upper]).all():
            rest[parity::2][upper] = doubts[upper] = 0.0
        # Terms beyond the last add up over half a period of cos(√k z).
        doubt = float(np.linalg.norm(doubts * size))
        doubt += misfit * float(own[-1] * size[-1]) * 2 * math.sqrt(a.size) / REACH
        return cls(parity, rest, alpha, -gamma - (1.5 if parity == 0 else 0.5), exponent, doubt)

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


def _exponent(own: Array, parity: int) -> tuple[float, float]:
    """τ and γ, by the slope of log a against log k, extrapolated, to the next eighth."""
    n = own.size - 1
    k = 2.0 * np.array([n // 4, n // 2, n]) + parity
    values = np.log(own[[n // 4, n // 2, n]])
    early, late = -np.diff(values) / np.diff(np.log(k))
    tau = round((2 * late - early) / _SNAP) * _SNAP
    if abs(2 * late - early - tau) > _SNAP / 4:
        raise InputError(
            "the kernel's power series falls neither fast nor like a fixed power of the degree "
            f"(a_k like k^-{2 * late - early:.3f} at the end): its sum cannot be completed; give a finite degree"
        )
    if tau <= 0.75:
        raise InputError(
            f"the activation has no finite value at 0: a_k falls like k^-{tau:g} only (the kernel is too steep at c = 1 for "
            'this kind); take kind="ntk", a smoother kernel, or a finite degree'
        )
    return tau, tau - (1.25 if parity == 0 else 0.75)


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

    for density in _DENSITIES:
        count = int(np.searchsorted(nodes(1 << 13, density, _START), far * root, side="right"))
        at = nodes(count, density, _START)
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
            "start": _START,
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
