"""Duals of truncated powers at complex correlations: :mod:`ntkengine.infinite._jumps` continued into the unit disk.

The integrals there run from 0 to θ = arccos ρ. With ``y = cot²(t/2)``, which maps the disk to the half-plane Re y >= 0 and its
point ρ = 1 to infinity, cos t = (y − 1)/(y + 1) and the bivariate exponent is

    e(t) = exp(−(a + b + a y + b/y)/2),     a = (h − k)²/4, b = (h + k)²/4.

The path is y = y_θ + s, s >= 0: of steepest descent for the first factor of e and, where that matters (near ρ = −1), for the
second, so that the integrand oscillates by no more than a few panels of a Gauss–Legendre rule take. Where e stays (a = 0), or
has died out and left a normal distribution function of 0 or 1, the path ends straight in t.
All is relative to δ = 1 − ρ: gaps keep their digits near ρ = 1.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ntkengine import quadrature
from ntkengine.infinite._jumps import ORDERS, SCRATCH, pairs_at_one

__all__ = ["complex_angle", "complex_deficits", "sine_less_angle"]

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

#: Points in a panel.
PANEL_ORDER = 20
#: How much the exponent may change in a panel: 20 points integrate e^−x over it to rounding.
TURN = 20.0
#: Panels for a doubling of |y|, at most: fewer than are needed only on |ρ| = 1 itself, within 1e-4 of ρ = −1.
MOST_STEPS = 100.0
#: Exponents above count as infinite.
INFINITE = 50.0
_ROOT_2PI = math.sqrt(2 * math.pi)


def complex_angle(delta: Complex) -> Complex:
    """θ = arccos(1 − δ)."""
    return 2 * np.arcsin(np.sqrt(delta / 2))


def sine_less_angle(delta: Complex, theta: Complex) -> Complex:
    """Sin θ − θ cos θ; for small θ by Σ_n (−1)^{n+1} 2n θ^{2n+1}/(2n+1)!."""
    square, total = theta * theta, np.zeros_like(theta)
    for n in range(8, 0, -1):
        total = square * ((-1) ** (n + 1) * 2 * n / math.factorial(2 * n + 1) + total)
    plain = np.sqrt(delta * (2 - delta)) - theta * (1 - delta)
    return np.where(np.abs(theta) < 0.6, theta * total, plain)


class _Pair:
    """E[B₁(z)B₂(z)] − E[B₁(u)B₂(v)] and E[b₁(u)b₂(v)] of one pair of thresholds.

    Attributes
    ----------
    h, k, a, b : float
    weights : (2, 7, 4) array
        Of the integrals ∫ (cos t − cos θ)^lo/lo! g_d dt in the two, by d + 3 and lo.
    polynomials : (2, 4) array
        The rest of the two: coefficients of δ^j.
    mixed : bool
        Whether unequal orders meet (d ≠ 0).
    """

    def __init__(self, h: float, k: float, first: Array, second: Array) -> None:
        self.h, self.k = h, k
        self.a, self.b = (h - k) ** 2 / 4, (h + k) ** 2 / 4
        at_one = np.empty(ORDERS * ORDERS)
        pairs_at_one(h, k, np.empty(SCRATCH), at_one)
        table = at_one.reshape(ORDERS, ORDERS)
        weights, polynomials = np.zeros((2, 2 * ORDERS - 1, ORDERS)), np.zeros((2, ORDERS))
        for m in range(ORDERS):
            for n in range(ORDERS):
                factor, low = float(first[m] * second[n]), min(m, n)
                d = abs(n - m) if h == k else n - m
                if factor == 0.0:
                    continue
                weights[0, d + 3, low] += factor * (-1.0) ** low
                for j in range(1, low + 1):
                    polynomials[0, j] -= factor * (-1.0) ** j / math.factorial(j) * table[m - j, n - j]
                if low > 0:  # R_{m−1,n−1} at ρ: its value at 1 less the same one order down
                    weights[1, d + 3, low - 1] += factor * (-1.0) ** low
                    for j in range(low):
                        sign = (-1.0) ** j / math.factorial(j)
                        polynomials[1, j] += factor * sign * table[m - 1 - j, n - 1 - j]
        self.weights, self.polynomials = weights, polynomials
        self.mixed = bool(np.delete(weights, 3, axis=1).any())

    def integrands(self, y: Complex, drop: Complex) -> Complex:
        """The two integrands by t, (2, n), at points of the path; ``drop`` is cos t − cos θ."""
        size, root = 1 + y, np.sqrt(y)
        sine = 2 * root / size
        e = np.full(y.shape, 0.5 / math.pi, dtype=np.complex128)
        if self.a > 0 or self.b > 0:
            e *= np.exp(-0.5 * (self.a * size + self.b * (1 + 1 / y)))
        out = np.zeros((2, *y.shape), dtype=np.complex128)
        for d in range(1 - ORDERS, ORDERS):
            weights = self.weights[:, d + 3]
            orders = np.flatnonzero(weights.any(axis=0))
            if not orders.size:
                continue
            g = e if d == 0 else sine * self._conditional(d, e, sine, root)
            for low in range(int(orders[-1]) + 1):
                for kind in range(2):
                    if weights[kind, low]:
                        out[kind] += weights[kind, low] / math.factorial(low) * g
                if low < orders[-1]:
                    g = g * drop
        return out

    def _conditional(self, d: int, e: Complex, sine: Complex, root: Complex) -> Complex:
        """p(h) E[(v − k)^{|d|−1}₊/(|d|−1)! | u = h]; h and k exchanged for d < 0."""
        from scipy.special import wofz

        h, k = (self.h, self.k) if d > 0 else (self.k, self.h)
        density = math.exp(-0.5 * h * h) / _ROOT_2PI
        if h == 0.0 and k == 0.0:  # the mean of v is 0
            return (0.5 * density, sine * e, 0.25 * density * sine**2)[abs(d) - 1] * np.ones_like(sine)
        shift = (h - k) - h * sine / root
        x = -shift / sine
        right = x.real >= 0
        tail = 0.5 * _ROOT_2PI * e * wofz(1j * math.sqrt(0.5) * np.where(right, x, -x))
        tail = np.where(right, tail, density - tail)
        if abs(d) == 1:
            return tail
        spread = sine * e
        if abs(d) == 2:
            return spread + shift * tail
        return 0.5 * ((sine**2 + shift**2) * tail + shift * spread)

    def integrals(self, delta: Complex) -> Complex:
        """∫_0^θ of the two integrands, (2, n)."""
        if self.h == self.k == 0.0 and not (self.mixed or self.weights[:, 3, 2:].any()):
            theta = complex_angle(delta)
            basis = np.stack([theta, sine_less_angle(delta, theta)]) / (2 * math.pi)  # steps and ReLUs at 0
            return np.asarray(self.weights[:, 3, :2] @ basis)
        nodes, weights = quadrature.gauss_legendre(PANEL_ORDER)
        rule = list(zip((0.5 + 0.5 * nodes).tolist(), (0.5 * weights).tolist()))
        end = (2 - delta) / delta
        end = np.where(np.abs(end) < 1e-30, 1e-30, end)
        y, total = end.copy(), np.zeros((2, delta.size), dtype=np.complex128)
        while True:
            if self.a > 0:
                left = np.flatnonzero(0.5 * self.a * y.real <= INFINITE)
            else:  # e changes little from here on
                left = np.flatnonzero(np.abs(y) < (max(2.0, self.b) if self.b > 0 else 0.0))
            if not left.size:
                break
            here, target = y[left], end[left]
            size = np.abs(here)
            width = size.copy()
            if self.b > 0:
                seen = (self.a * here + self.b / here).real < 2 * INFINITE
                steps = np.maximum(0.5 * self.b / (TURN * size[seen]), 1.0)
                width[seen] /= np.minimum(steps, MOST_STEPS)
            if self.a > 0:
                width = np.minimum(width, 2 * TURN / self.a)
            for node, weight in rule:
                at = here + node * width
                drop = 2 * (at - target) / ((1 + at) * (1 + target))
                step = weight * width / (np.sqrt(at) * (1 + at))
                total[:, left] += step * self.integrands(at, drop)
            y[left] += width
        if self.a == 0 or self.mixed:
            t_end = 2 * np.arctan(1 / np.sqrt(y))
            for node, weight in rule:
                at = 1 / np.tan(0.5 * node * t_end) ** 2
                drop = 2 * (at - end) / ((1 + at) * (1 + end))
                total += weight * t_end * self.integrands(at, drop)
        return total


def complex_deficits(locations: Array, jumps: Array, delta: Complex) -> tuple[Complex, Complex]:
    """E[B(z)²] − E[B(u)B(v)] and E[b(u)b(v)] of a jump part, as :func:`ntkengine.infinite._jumps.deficits`.

    Parameters
    ----------
    locations, jumps : (J,) and (J, 4) arrays
        Thresholds and factors of the truncated powers.
    delta : (n,) complex array
        1 − ρ, |ρ| <= 1.

    Examples
    --------
    >>> lost, _ = complex_deficits(np.zeros(1), np.array([[1.0, 0, 0, 0]]), np.array([1 + 0j]))
    >>> lost.real * 4                                   # a step at ρ = 0: 1/2 − 1/4
    array([1.])
    """
    delta = np.where(delta == 0, 1e-100, delta)
    found = np.zeros((2, delta.size), dtype=np.complex128)
    for i in range(locations.size):
        for j in range(i + 1):
            pair = _Pair(float(locations[i]), float(locations[j]), jumps[i], jumps[j])
            here = pair.integrals(delta)
            for kind in range(2):
                rest = np.polynomial.polynomial.polyval(delta, pair.polynomials[kind])
                found[kind] += (1 if i == j else 2) * (here[kind] + rest)
    return found[0], found[1]
