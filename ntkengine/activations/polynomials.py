# mypy: disallow-untyped-defs=False, check-untyped-defs=False
"""Polynomial activations: one power, sums of powers, sums of Hermite polynomials.

Their Hermite expansions end (``finite_degree``), so that their kernels are polynomials too.
"""

from __future__ import annotations

import numpy as np

from ntkengine.activations import _expansions
from ntkengine.activations.base import ActivationFamily, Parameter
from ntkengine.activations.series import SeriesFamily

_LARGEST_POWER = 64


def _monomial_pair(z, p):
    # By the binary digits of n − 1, whatever n: one tile serves every degree, and its choices are the same for all z.
    T = type(z)
    one, degree = T(1.0), int(p[0])
    rest = degree - 1 if degree > 0 else 0
    power, square = one, z
    for bit in range(6):
        power = power * square if (rest >> bit) & 1 else power
        square = square * square
    constant = one if z == z else z
    return z * power if degree > 0 else constant, p[0] * power


monomial_family = ActivationFamily(
    "monomial",
    _monomial_pair,
    formula="z**degree",
    parameters=(
        Parameter("degree", float("nan"), 0.0, _LARGEST_POWER, "an integer from 0 to 64", integer=True),
    ),
    coefficients=lambda p, variance, degree: _expansions.powers(
        _expansions.unit(int(p[0]), int(p[0])), variance, degree
    ),
    finite_degree=lambda p: int(p[0]),
)


def _polynomial_pair(z, p):
    top = p[len(p) - 1]
    value, slope = top if z == z else z, type(z)(0.0)
    for k in range(len(p) - 2, -1, -1):
        slope = value + z * slope
        value = p[k] + z * value
    return value, slope


polynomial_family = SeriesFamily(
    "polynomial",
    _polynomial_pair,
    formula="sum of coefficients[k]*z**k",
    coefficients=_expansions.powers,
    finite_degree=_expansions.highest,
    recurrence=lambda n: (np.ones(n), np.zeros(n), np.arange(float(n))),
)


def _hermite_pair(z, p):
    # Clenshaw's recurrence for Σ c_k h_k(z/√v) and for its derivative, Σ √(k+1) c_{k+1} h_k(z/√v)/√v; p ends with 1/√v.
    # The highest term is set apart inside the loop: shorter loops over p LLVM does not unroll at some lengths.
    T = type(z)
    n, one, zero = len(p) - 1, T(1.0), T(0.0)
    y, c = p[n] * z, zero
    value, value_above, slope, slope_above = y, zero, zero, zero
    for k in range(n - 1, -1, -1):
        root = np.sqrt(T(k + 1.0))
        x, fall = y * (one / root), root / np.sqrt(T(k + 2.0))
        slope, slope_above = root * c + (x * slope - fall * slope_above) if k < n - 1 else zero, slope
        c = p[k]
        lower, first = c + (x * value - fall * value_above), c if z == z else z
        value, value_above = lower if k < n - 1 else first, value if k < n - 1 else zero
    return value, p[n] * slope


def _hermite_recurrence(n):
    k = np.arange(float(n))
    return 1 / np.sqrt(k + 1), np.sqrt((k + 1) / (k + 2)), np.sqrt(k)


hermite_family = SeriesFamily(
    "hermite",
    _hermite_pair,
    formula="sum of coefficients[k]*h_k(z/sqrt(variance)), h_k the orthonormal probabilists' Hermite polynomials",
    coefficients=_expansions.rescaled,
    finite_degree=_expansions.highest,
    recurrence=_hermite_recurrence,
    variance=1.0,
    citation="Clenshaw, A note on the summation of Chebyshev series, Math. Comp. 9 (1955) 118 (its evaluation)",
)
