r"""Signs of Hermite coefficients: the theorem leaves them free, φ and its finite networks do not.

``"paper"``
    + + − − + + − − ..., Simon, Anand & DeWeese 2022.
``"plus"``
    All +.
``"smooth"``
    The signs that keep φ tame: least ``∫_{−R}^{R} φ(z)² dz``, R = 5, every z that a network visits counted alike (of a
    million Gaussians, less than one lies beyond 5). Under the Gaussian weight all signs are equal, E[φ²] = Σ a_k²; a flat
    weight sees how φ grows. This is a quadratic form in the signs, in which even and odd degrees decouple.
``"concentrated"``
    The least distance of the empirical kernel of a network of N neurons from K. One neuron adds ``X/N`` to the kernel of
    two points at cosine c, with w ~ N(0, 1) its output weight, (u, v) what it receives, and S = σ_w² c + σ_b²,

        NNGP:  X = ω_w² φ(u)φ(v),        NTK:  X = ω_w² [φ(u)φ(v) + w² S φ'(u)φ'(v)].

    The neurons are independent, so the kernel's variance is ``(E[X²] − K²)/N``; E[X] = K whatever the signs; E[X²] is

        NNGP:  ω_w⁴ E[φ(u)²φ(v)²],
        NTK:   ω_w⁴ (E[φ(u)²φ(v)²] + 2 S E[φ(u)φ'(u) φ(v)φ'(v)] + 3 S² E[φ'(u)²φ'(v)²])     (E w² = 1, E w⁴ = 3).

    Over the whole line the fourth moment of a polynomial is made where no network ever is. So expectations are over
    |u|, |v| <= R(10⁴ N), the median of the largest of as many absolute Gaussians: no neuron of 10⁴ such networks is likely to
    be beyond. What K has out there, those networks lack. With X° = X within the range and 0 outside, and the bars for the
    average over angles even from 0 to π, the criterion is N times their mean square distance from K,

        N · mean (K̂ − K)² / mean K² = mean[ E[X°²] − E[X°]² + N (K − E[X°])² ] / mean K².

    (Without the last term the search would hide K just beyond the range.) All are duals, ``E[f(u)f(v)] = Σ_k f_k² ρ^k``, f_k
    the Hermite coefficients of φ, φ' (for E[X°]), φ², φφ' and φ'² within the range.

    Measured at width 512 (``ntkengine reproduce signs``: 400 networks, the same for every rule), the square distance of
    "concentrated" as a part of that of "paper", predicted and found, with its standard error:

                                    NTK                     NNGP
        4HL ReLU NTK, degree 60     0.791  0.798 (0.027)    0.832  0.842 (0.025)
        4HL erf NTK, degree 30      0.744  0.756 (0.023)    0.958  0.923 (0.016)
        laplace, degree 20          0.848  0.874 (0.056)    0.911  0.952 (0.022)

Up to 12 signs are tried in all ways. More: both searches start from the paper's signs, all plus and random ones, and turn
single signs, the best three of them pairs too, until nothing helps. Series that go beyond degree 128 keep the paper's signs
there, and the search starts from these alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from ntkengine import quadrature
from ntkengine._check import real_array, shown
from ntkengine.errors import InputError
from ntkengine.hermite import hermite_series, hermite_values

__all__ = ["RULES", "SMOOTH_REACH", "choose", "paper", "reach", "roughness", "spread"]

Array = NDArray[np.float64]

RULES = ("smooth", "paper", "plus", "concentrated")
#: R of the rule "smooth".
SMOOTH_REACH = 5.0
#: Networks, of whose neurons none may be beyond the range of the rule "concentrated".
ENSEMBLE = 10_000
#: Degrees to which f_k of the rule "concentrated" are computed. The cut at R(N) makes f_k² fall like k^{−3/2}: what is missing
#: of E[f²] is spread over the degrees that follow in this way.
_DUAL_DEGREE = 128
_ANGLES = 33
#: Random starts, and how many of all descents go on with pairs.
_RANDOM_STARTS, _PROMISING = 6, 3
#: Signs are turned below this degree, those that follow are the paper's; pairs of signs among so many of the lowest degrees.
_TURNED, _PAIRED = 128, 40
#: So many signs are tried in all ways.
_ALL = 12
_NONE = np.empty(0)


def paper(count: int) -> Array:
    """+ + − − + + − − ..., (count,)."""
    return np.where(np.arange(count) % 4 < 2, 1.0, -1.0)


def reach(width: int) -> float:
    """R(N): the median of the largest of N absolute standard Gaussians.

    Examples
    --------
    >>> round(reach(512), 2), round(reach(1 << 20), 2)
    (3.2, 4.97)
    """
    return float(-ndtri(-math.expm1(math.log(0.5) / width) / 2))


class _Rule:
    """Points, weights and tables that a criterion is computed from.

    Parameters
    ----------
    a : (degree+1,) array
        a_k >= 0.
    signs : (degree+1,) array
        Those of the degrees from ``turned`` on; the criterion is a function of those below.
    turned : int
    far : float
        R.
    """

    def __init__(self, a: Array, signs: Array, turned: int, far: float) -> None:
        self.turned = min(turned, a.size)
        panels = max(16, math.ceil(far * math.sqrt(a.size) / 4))
        self.z, self.w = quadrature.panel_rule(-far, far, (0.0,), panels)
        self.low = hermite_values(self.z, self.turned) * np.append(a, 0.0)[: self.turned + 1]
        self.rest = a * signs
        self.rest[: self.turned] = 0.0
        self.phi = hermite_series(self.rest, self.z)

    def value(self, signs: Array) -> Array:
        """φ at the points."""
        return np.asarray(self.low[:, : signs.size] @ signs + self.phi)


class Roughness(_Rule):
    """∫_{−R}^{R} φ² dz as a function of the signs."""

    def __init__(self, a: Array, signs: Array, turned: int, far: float) -> None:
        super().__init__(a, signs, turned, far)
        low, rest = np.sqrt(self.w)[:, None] * self.low, np.sqrt(self.w) * self.phi
        self.square, self.mixed, self.constant = low.T @ low, 2 * (low.T @ rest), float(rest @ rest)

    def __call__(self, signs: Array) -> float:
        n = signs.size
        return float(signs @ self.square[:n, :n] @ signs + self.mixed[:n] @ signs) + self.constant


class Spread(_Rule):
    """N times the mean square distance of the kernel of N neurons from K, over the mean of K², as a function of the signs."""

    def __init__(
        self, a: Array, signs: Array, turned: int, kind: str, w2: float, b2: float, width: int
    ) -> None:
        super().__init__(a, signs, turned, reach(ENSEMBLE * width))
        q, theta = w2 + b2, (np.arange(_ANGLES) + 0.5) * np.pi / _ANGLES
        s = w2 * np.cos(theta) + b2
        self.ntk, self.width, self.overlap = kind == "ntk", width, s
        k = np.arange(a.size)
        slopes = np.append(a * np.sqrt(k / q), 0.0)  # φ' = Σ_k slopes_{k+1} h_k
        self.low_slopes = np.zeros_like(self.low)
        self.low_slopes[:, 1:-1] = (
            hermite_values(self.z, self.turned)[:, : self.turned - 1] * slopes[1 : self.turned]
        )
        self.slope = hermite_series(self.rest, self.z, derivative=1) / math.sqrt(q)
        self.p = self.w * quadrature.density(self.z)
        self.project = (hermite_values(self.z, _DUAL_DEGREE) * self.p[:, None]).T
        beyond = np.arange(_DUAL_DEGREE + 1, 64 * _DUAL_DEGREE)
        fall = beyond**-1.5 / (2 / math.sqrt(_DUAL_DEGREE + 0.5))
        powers = (s / q) ** np.arange(_DUAL_DEGREE + 1)[:, None]
        self.powers = np.concatenate([powers, [fall @ (s / q) ** beyond[:, None]]])
        self.moments = np.stack([(self.powers * (j + 1.0) * s**j).mean(axis=1) for j in range(3)], axis=1)
        self.whole = np.stack([self._rows(a), self._rows(slopes[1:])], axis=1)[:, : 1 + self.ntk] ** 2
        self.kernel = np.polynomial.polynomial.polyval(s / q, a * a * (1 + k if self.ntk else 1.0))
        self.mean = float((self.kernel**2).mean())

    @staticmethod
    def _rows(f: Array) -> Array:
        """f_0, ..., f_128 and the root of what is missing of Σ f_k², (130,)."""
        low = np.zeros(_DUAL_DEGREE + 2)
        low[: min(f.size, _DUAL_DEGREE + 1)] = f[: _DUAL_DEGREE + 1]
        low[-1] = math.sqrt(float(f[_DUAL_DEGREE + 1 :] @ f[_DUAL_DEGREE + 1 :]))
        return low

    def __call__(self, signs: Array) -> float:
        phi = self.value(signs)
        columns = [phi, phi * phi]
        if self.ntk:
            slope = self.low_slopes[:, : signs.size] @ signs + self.slope
            columns = [phi, slope, phi * phi, phi * slope, slope * slope]
        f = np.stack(columns, axis=1)
        squares = (self.project @ f) ** 2
        squares = np.concatenate([squares, [self.p @ (f * f) - squares.sum(axis=0)]])
        first = 1 + self.ntk
        second = float((self.moments[:, : len(columns) - first] * squares[:, first:]).sum())
        outside = self.powers.T @ (self.whole - squares[:, :first])  # of E[φφ] and E[φ'φ'], at each angle
        lost = outside[:, 0] + self.overlap * outside[:, 1] if self.ntk else outside[:, 0]
        distance = second + float((self.width * lost**2 - (self.kernel - lost) ** 2).mean())
        return distance / self.mean if self.mean > 0 else math.inf


def roughness(a: ArrayLike, signs: ArrayLike, far: float = SMOOTH_REACH) -> float:
    """∫_{−R}^{R} φ² dz of φ = Σ s_k a_k h_k(z): the criterion of the rule "smooth".

    Examples
    --------
    >>> a = [1.0, 0.0, 0.5, 0.0, 0.25]
    >>> roughness(a, paper(5)) < roughness(a, [1, 1, 1, 1, 1])
    True
    """
    return Roughness(np.asarray(a, dtype=np.float64), np.asarray(signs, dtype=np.float64), 0, far)(_NONE)


def spread(
    a: ArrayLike, signs: ArrayLike, kind: str, *, w_std: float = 1.0, b_std: float = 0.0, width: int = 512
) -> float:
    """N times the mean square distance of a network's kernel from K, relative to K²: the criterion of the rule "concentrated".

    To a percent or so; where φ is largest at the edge of the range, as single high powers are, to some 10 %.

    Examples
    --------
    >>> a = [0.5, 1.0, 0.5, 0.25]
    >>> spread(a, choose(np.array(a), "concentrated", "ntk"), "ntk") < spread(a, [1, 1, 1, 1], "ntk")
    True
    """
    given, chosen = np.asarray(a, dtype=np.float64), np.asarray(signs, dtype=np.float64)
    return Spread(given, chosen, 0, kind, w_std**2, b_std**2, width)(_NONE)


def choose(
    a: Array,
    rule: str | Sequence[float],
    kind: str,
    *,
    w_std: float = 1.0,
    b_std: float = 0.0,
    width: int = 512,
) -> Array:
    """The signs of a rule for coefficients a_k >= 0; +1 where a_k = 0.

    Parameters
    ----------
    a : (degree+1,) array
    rule : str or sequence of ±1
        See the module's text; a sequence of length degree+1 is taken as it is.
    kind : "ntk" or "nngp"
    w_std, b_std : float
        Of the input layer.
    width : int
        N, for "concentrated".

    Returns
    -------
    (degree+1,) array of ±1.0

    Raises
    ------
    InputError
        If the rule is unknown, or a list has the wrong length or other entries.

    Examples
    --------
    >>> choose(np.array([1.0, 0.5, 0.25, 0.1]), "smooth", "nngp")
    array([ 1.,  1., -1., -1.])
    """
    if isinstance(rule, str):
        if rule not in RULES:
            raise InputError(
                f"signs is {shown(rule)}; it must be one of {', '.join(map(repr, RULES))}, or a list of {a.size} signs ±1"
            )
        if rule == "paper":
            return np.where(a > 0, paper(a.size), 1.0)
        if rule == "plus":
            return np.ones(a.size)
        signs = np.where(a > 0, paper(a.size), 1.0)
        criterion = (
            Roughness(a, signs, _TURNED, SMOOTH_REACH)
            if rule == "smooth"
            else Spread(a, signs, _TURNED, kind, w_std**2, b_std**2, width)
        )
        random = _RANDOM_STARTS if a.size <= _TURNED else 0
        signs[:_TURNED] = _search(a[:_TURNED], criterion, random, flips_decouple=rule == "smooth")
        return signs
    given = real_array("signs", rule)
    if given.shape != (a.size,):
        raise InputError(
            f"signs have shape {given.shape}; one sign ±1 for each degree 0..{a.size - 1} is needed"
        )
    wrong = np.flatnonzero(np.abs(given) != 1.0)
    if wrong.size:
        raise InputError(f"signs[{wrong[0]}] is {given[wrong[0]]:g}; every sign must be 1 or -1")
    return given


def _search(a: Array, criterion: Callable[[Array], float], random: int, *, flips_decouple: bool) -> Array:
    """Signs at which turning one, or a pair of low degrees, lowers the criterion no more, the best of several starts, so many
    of them ``random``; of few signs the best of all.

    φ(z), −φ(z) and φ(−z) are alike, so the first coefficient of either parity is positive.
    """
    active = np.flatnonzero(a > 0)
    fixed = {int(active[active % 2 == parity][0]) for parity in (0, 1) if (active % 2 == parity).any()}
    free = [int(k) for k in active if k not in fixed]
    signs = np.ones(a.size)
    if len(free) <= _ALL:
        values = {}
        for choice in itertools.product((1.0, -1.0), repeat=len(free)):
            signs[free] = choice
            values[choice] = criterion(signs)
        signs[free] = min(values, key=values.__getitem__)
        return signs
    generator = np.random.default_rng(np.random.SeedSequence(0))
    starts = [paper(a.size)]
    if random:
        starts += [np.ones(a.size), *(generator.choice([-1.0, 1.0], a.size) for _ in range(random))]
    moves: list[tuple[int, ...]] = [(k,) for k in free]
    low = free[:_PAIRED]
    pairs: list[tuple[int, ...]] = [
        (i, j) for i in low for j in low if i < j and (not flips_decouple or (i - j) % 2 == 0)
    ]
    found: list[tuple[float, Array]] = []
    for start in starts:
        signs = np.where(a > 0, start, 1.0)
        for k in fixed:
            if signs[k] < 0:
                signs[k % 2 :: 2] *= -1
        signs[a == 0] = 1.0
        found.append((_descend(signs, criterion(signs), criterion, moves), signs))
    found.sort(key=lambda each: each[0])
    best: tuple[float, Array] | None = None
    for value, signs in found[:_PROMISING]:
        value = _descend(signs, value, criterion, moves + pairs)
        if best is None or value < best[0] * (1 - 1e-12):
            best = value, signs
    assert best is not None
    return best[1]


def _descend(
    signs: Array, value: float, criterion: Callable[[Array], float], moves: Sequence[tuple[int, ...]]
) -> float:
    """Turn signs, in place, while a move helps; returns the criterion."""
    helped = True
    while helped:
        helped = False
        for move in moves:
            signs[list(move)] *= -1
            new = criterion(signs)
            if new < value * (1 - 1e-13):
                value, helped = new, True
            else:
                signs[list(move)] *= -1
    return value
