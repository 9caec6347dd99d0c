"""Duals of truncated powers, against their definition by quadrature in mpmath: no use of Price's theorem."""

import functools
import itertools
import math

import mpmath as mp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from ntkengine.infinite import _jumps
from ntkengine.quadrature import gauss_legendre
from tests.oracles import kernels as oracle

RULE = gauss_legendre(20)
THRESHOLDS = [
    (0.0, 0.0),
    (1.0, 1.0),
    (0.5, -0.3),
    (1.06, 1.0),
    (-2.0, 2.0),
    (3.0, 0.0),
    (-4.0, 1.0),
    (0.7, 0.7001),
]
ORDERS = list(itertools.product(range(_jumps.ORDERS), repeat=2))
#: E[(z − h)^j₊] loses digits for h > 1 (see the last tests), and with it what has a threshold there.
LOSS = {2.0: 2.0, 3.0: 25.0}

exact_pairs = functools.cache(oracle.truncated_power_pairs)


def near(value, rel):
    """Within ``rel`` of the value; pytest's own absolute tolerance would pass anything small."""
    return pytest.approx(value, rel=rel, abs=0)


def unit(m):
    return np.eye(_jumps.ORDERS)[m : m + 1]


def deficits(first, first_jumps, second, second_jumps, delta, same=False):
    first, second = np.atleast_1d(np.float64(first)), np.atleast_1d(np.float64(second))
    theta = _jumps.angle(delta, 2 - delta) if delta < 2 else math.pi
    scratch = np.empty(_jumps.SCRATCH)
    return _jumps.deficits(first, first_jumps, second, second_jumps, same, delta, theta, *RULE, scratch)


# --- the integrals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("h", "k"), THRESHOLDS)
@pytest.mark.parametrize("theta", [1e-3, 1.5, 2.9, math.pi])
def test_pair_integrals_against_mpmath(h, k, theta):
    """∫e/2π, ∫(cos t − cos θ) e/2π and ∫p(h) P(v > k | u = h) sin t: orders 0 and 1."""
    with mp.workdps(45):
        H, K, T = mp.mpf(h), mp.mpf(k), mp.mpf(theta)
        edges = [T * j / 4 for j in range(5)]
        near = [mp.mpf(10) ** -j for j in range(1, 7) if mp.mpf(10) ** -j < T]
        far = [mp.pi - mp.mpf(10) ** -j for j in range(1, 7) if mp.pi - mp.mpf(10) ** -j < T]

        def values(t):
            c, s = mp.cos(t), mp.sin(t)
            e = mp.exp(-(H * H - 2 * H * K * c + K * K) / (2 * s * s))
            return [e, (c - mp.cos(T)) * e, mp.ncdf((H * c - K) / s) * s]

        plain, moment, first = oracle.over(sorted({*edges, *near, *far}), values, 3)
    found = np.empty(28)
    _jumps.pair_integrals(h, k, theta, 1, True, *RULE, found)
    found *= 2 * math.pi
    assert abs(found[12] - float(plain)) <= 2e-14 * max(theta, 1e-3)
    assert abs(found[13] - float(moment)) <= 2e-14 * theta**2
    density = 2 * math.pi * _jumps.normal_density(h)
    assert abs(found[16] - density * float(first)) <= 2e-14 * density * theta**2


@pytest.mark.parametrize(("h", "k"), [(0.0, 0.0), (0.0, 0.4), (-0.6, 1.1)])
def test_integrals_do_not_depend_on_what_else_is_asked_for(h, k):
    full, part = np.empty(28), np.empty(28)
    _jumps.pair_integrals(h, k, 1.2, 3, True, *RULE, full)
    for orders in range(_jumps.ORDERS):
        for mixed in (False, True):
            part[:] = math.nan
            _jumps.pair_integrals(h, k, 1.2, orders, mixed, *RULE, part)
            for d, low in itertools.product(range(-3, 4), range(4)):
                found, exact = part[4 * (d + 3) + low], full[4 * (d + 3) + low]
                if not mixed and d:
                    assert found == 0.0
                elif low + abs(d) <= orders:
                    assert found == near(exact, 5e-15), (orders, mixed, d, low)


def test_thresholds_beyond_the_density_leave_nothing():
    found = np.full(28, math.nan)
    _jumps.pair_integrals(40.0, 41.0, 2.0, 3, True, *RULE, found)
    assert not found.any()
    _jumps.pair_integrals(40.0, 0.5, 2.0, 3, False, *RULE, found)
    assert not found.any()
    assert deficits(40.0, unit(1), 0.5, unit(2), 0.3) == (0.0, 0.0)


# --- R_mn ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("h", "k"), THRESHOLDS)
def test_all_pairs_of_orders_against_the_definition(h, k):
    """R_mn(1) − R_mn(ρ) and R_{m−1,n−1}(ρ), from ρ = 1 to −1; relative to the difference for equal thresholds."""
    bar = 2e-14 * max(LOSS.get(t, 1.0) for t in (h, k))
    top = exact_pairs(h, k, 0)
    for delta in (1e-8, 1e-3, 0.4, 1.3, 2 - 1e-6, 2.0):
        exact = exact_pairs(h, k, delta)
        for m, n in ORDERS:
            lost, slope = deficits(h, unit(m), k, unit(n), delta)
            with mp.workdps(40):
                true = top[m][n] - exact[m][n]
                error = abs(lost - float(true))
            at = (h, k, delta, m, n, lost, float(true))
            below = top[m - 1][n - 1] if m and n else mp.mpf(0)
            floor = 0.0 if h == k else min(delta, 1.0) * float(max(top[m][n], below))
            assert error <= bar * (abs(float(true)) + floor), at
            if m and n:
                assert abs(slope - float(exact[m - 1][n - 1])) <= bar * float(top[m - 1][n - 1]), at
            else:
                assert slope == 0.0
            assert deficits(k, unit(n), h, unit(m), delta) == (lost, slope), at


@pytest.mark.parametrize("h", [0.0, 0.8])
def test_deficits_keep_their_digits_at_any_distance(h):
    """Of equal thresholds, where R(1) − R(ρ) is a power of 1 − ρ: to 1e-14 of itself, down to 1 − ρ = 1e-20."""
    for exponent in (8, 14, 20):
        delta = 10.0**-exponent
        top, exact = exact_pairs(h, h, 0, 60), exact_pairs(h, h, delta, 60)
        for m, n in ORDERS:
            with mp.workdps(60):
                true = float(top[m][n] - exact[m][n])
            assert deficits(h, unit(m), h, unit(n), delta)[0] == near(true, 1e-14), (delta, m, n)


@pytest.mark.parametrize(("h", "k"), THRESHOLDS)
@pytest.mark.parametrize("rho", [-0.9, -0.2, 0.0, 0.6, 0.99])
def test_steps_are_orthant_probabilities(h, k, rho):
    lost, _ = deficits(h, unit(0), k, unit(0), 1 - rho)
    orthant = multivariate_normal([0, 0], [[1, rho], [rho, 1]]).cdf([-h, -k])
    assert abs(_jumps.normal_tail(max(h, k)) - lost - orthant) < 2e-8  # SciPy's own accuracy


def test_two_jump_parts_are_the_sum_of_their_pairs():
    rng = np.random.default_rng(2)
    first, second = np.array([-1.2, 0.0, 0.9]), np.array([0.0, 1.4])
    ones, others = rng.standard_normal((3, 4)), rng.standard_normal((2, 4))
    ones[1, 2] = others[0, 1] = others[1, 3] = 0.0
    for delta in (1e-6, 0.7, 1.9):
        lost = slope = lost_same = slope_same = 0.0
        for a, b in itertools.product(first, second):
            for m, n in ORDERS:
                factor = ones[first == a][0, m] * others[second == b][0, n]
                part = deficits(a, unit(m), b, unit(n), delta)
                lost, slope = lost + factor * part[0], slope + factor * part[1]
        for a, b in itertools.product(first, first):
            for m, n in ORDERS:
                factor = ones[first == a][0, m] * ones[first == b][0, n]
                part = deficits(a, unit(m), b, unit(n), delta)
                lost_same, slope_same = lost_same + factor * part[0], slope_same + factor * part[1]
        assert deficits(first, ones, second, others, delta) == near((lost, slope), 1e-12)
        assert deficits(first, ones, first, ones, delta, True) == near((lost_same, slope_same), 1e-12)
        assert deficits(first, ones, first, ones, delta, False) == near((lost_same, slope_same), 1e-12)


# --- at ρ = 1, and Hermite coefficients -----------------------------------------------------------------------------


@pytest.mark.parametrize(("h", "k"), THRESHOLDS)
def test_pairs_at_one(h, k):
    found = np.empty(16)
    _jumps.pairs_at_one(h, k, np.empty(_jumps.SCRATCH), found)
    exact = exact_pairs(h, k, 0)
    bar = 2e-14 * max(LOSS.get(t, 1.0) for t in (h, k))
    for m, n in ORDERS:
        assert found[4 * m + n] == near(float(exact[m][n]), bar), (m, n)


def test_sums_at_one_are_the_moments_of_the_jump_part():
    locations = np.array([-0.8, 0.3, 1.5])
    jumps = np.random.default_rng(4).standard_normal((3, 4))

    def part(z, order):
        over = np.maximum(z - locations[:, None], 0.0)
        powers = [(z > locations[:, None]) * 1.0, over, over**2 / 2, over**3 / 6]
        return sum(jumps[:, m] @ powers[m - order] for m in range(order, 4))

    found = _jumps.sums_at_one(locations, jumps, np.empty(_jumps.SCRATCH))
    for order in (0, 1):
        z, w = oracle.normal_rule(locations)
        assert found[order] == near(float(w @ part(z, order) ** 2), 1e-13)


@pytest.mark.parametrize("h", [0.0, 0.7, -1.3, 2.0, 3.0, -5.0])
def test_split_coefficients(h):
    """Against E[f_m h_k] by a composite rule with Hermite functions, k to 300; relative to √E[f_m²]."""
    degree = 300
    z, w = oracle.normal_rule([h])
    hermite = oracle.hermite_table(z, degree)
    for m in range(_jumps.ORDERS):
        values, steps = np.empty(degree + 1), np.empty(degree + 1)
        _jumps.split_coefficients(np.array([h]), unit(m), values, steps)
        f = [
            np.where(z > h, np.maximum(z - h, 0.0) ** j / math.factorial(j), 0.0)
            for j in (m, m - 1)
            if j >= 0
        ]
        assert np.abs(values - hermite @ (w * f[0])).max() <= 4e-15 * math.sqrt(w @ f[0] ** 2) + 1e-15
        if m == 0:
            assert not steps.any()
        else:
            assert np.abs(steps - hermite @ (w * f[1])).max() <= 4e-15 * math.sqrt(w @ f[1] ** 2) + 1e-15


def test_split_coefficients_add_up():
    locations, jumps = np.array([-0.4, 1.1]), np.random.default_rng(5).standard_normal((2, 4))
    values, steps, one, other = np.empty(80), np.empty(80), np.empty(80), np.empty(80)
    _jumps.split_coefficients(locations, jumps, values, steps)
    total, slopes = np.zeros(80), np.zeros(80)
    for j, m in itertools.product(range(2), range(4)):
        _jumps.split_coefficients(locations[j : j + 1], unit(m), one, other)
        total += jumps[j, m] * one
        slopes += jumps[j, m] * other
    np.testing.assert_allclose(values, total, rtol=0, atol=2e-15)
    np.testing.assert_allclose(steps, slopes, rtol=0, atol=2e-15)


@pytest.mark.parametrize("h", [-3.0, 0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0])
def test_truncated_moments(h):
    """E[(z − h)^j₊] to 1e-12 of itself; a kink far out (inputs of small variance) has nothing else to be measured by."""
    found = np.empty(7)
    _jumps.truncated_moments(h, found)
    with mp.workdps(40):
        ends = [mp.mpf(h) + step for step in (0, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 10, 13, 16)]
        exact = oracle.over(ends, lambda z: [(z - h) ** j * mp.npdf(z) for j in range(7)], 7)
    for j in range(7):
        assert found[j] == near(float(exact[j]), 1e-12), j


# --- small functions ------------------------------------------------------------------------------------------------


def test_angle_and_sine_keep_relative_accuracy():
    for small in 10.0 ** -np.arange(0.0, 31.0, 3.0):
        with mp.workdps(60):
            exact = mp.acos(1 - mp.mpf(float(small)))
            assert _jumps.angle(small, 2 - small) == near(float(exact), 4e-16)
            assert _jumps.angle(2 - small, small) == near(float(mp.pi - exact), 4e-16)
    for t in (1e-8, 1e-3, 0.1, 0.59, 0.61, 2.0, math.pi):
        with mp.workdps(60):
            exact = float(mp.sin(mp.mpf(t)) - mp.mpf(t) * mp.cos(mp.mpf(t)))
        assert _jumps.sin_minus_t_cos(t) == near(exact, 2e-15)
