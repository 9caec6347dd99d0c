"""Hermite polynomials, Gauss–Hermite and kink-aware quadrature against mpmath."""

import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from ntkengine import _jit, hermite, quadrature
from ntkengine.activations import ActivationFamily, Kink, activation
from ntkengine.errors import AccuracyWarning, InputError
from ntkengine.hermite import expand, hermite_functions, hermite_series, hermite_values, project
from tests.oracles import hermite as exact_hermite
from tests.oracles import kernels as oracle


@pytest.mark.parametrize("z", [-6.0, -3.3, -0.1, 0.0, 1.0, 2.5, 6.0])
def test_values_to_degree_400(z):
    exact = np.array([float(v) for v in oracle.hermite_values(z, 400)])
    found = hermite_values(z, 400)
    assert found.shape == (401,)
    # relative to the envelope exp(z²/4) that bounds every h_k
    assert np.abs(found - exact).max() <= 1e-14 * math.exp(z * z / 4)


@pytest.mark.parametrize("degree", [0, 1, 6, 7, 8, 9, 15, 16])
def test_every_degree_is_written_once_and_in_its_place(degree):
    z = np.linspace(-3, 3, 300)  # more than one block, and a short one
    exact = np.array([[float(v) for v in oracle.hermite_values(x, degree)] for x in z[::23]])
    assert hermite_values(z, degree).shape == (300, degree + 1)
    assert_allclose(hermite_values(z, degree)[::23], exact, rtol=1e-13, atol=1e-13)
    series = hermite_series(np.arange(1.0, degree + 2), z)
    assert_allclose(series[::23], exact @ np.arange(1.0, degree + 2), rtol=1e-13, atol=1e-11)


def test_functions_are_bounded_and_orthonormal_at_degree_1000():
    z, w = quadrature.panel_rule(-70, 70, (), 400)
    psi = hermite_functions(z, 1000)
    assert np.isfinite(psi).all()
    assert np.abs(psi).max() < 1
    psi = psi[:, ::100]  # the turning point of degree 1000 is at 63: all of it is inside
    assert np.allclose(psi.T @ (psi * w[:, None]), np.eye(11), rtol=0, atol=1e-12)


@pytest.mark.parametrize("z", [0.3, -12.3, 38.0, 50.1, -50.5, 60.2, 80.0])
def test_functions_where_the_density_underflows(z):
    """At |z| > 54 the root of the density is no number; ψ_k is 0.3 there for k > z²/4."""
    exact = exact_hermite.functions(z, 2000)
    found = hermite_functions(z, 2000)
    assert np.abs(found - exact).max() < 1e-14
    seen = np.abs(exact) > 1e-150
    grows = slice(0, int(z * z / 4))
    assert_allclose(found[grows][seen[grows]], exact[grows][seen[grows]], rtol=3e-14)


def test_far_points_and_points_that_are_no_numbers():
    assert_array_equal(hermite_functions([1e5, -1e7, 1e300, np.inf, -np.inf], 50), 0.0)
    assert np.isnan(hermite_functions([np.nan, 1.0], 3)).tolist() == [[True] * 4, [False] * 4]
    assert np.isnan(hermite_values(np.nan, 3)[1:]).all()
    assert not np.isfinite(hermite_series([1.0, 2.0, 3.0], [np.nan, np.inf])).any()
    assert hermite_values([], 3).shape == (0, 4)
    assert hermite_series([1.0], np.empty((0, 2))).shape == (0, 2)


SHAPES_OF_DECAY = {
    "none": lambda k: np.ones(k.size),
    "power": lambda k: (1 + k) ** -1.5,
    "geometric": lambda k: 0.9**k,
}


@pytest.mark.parametrize("decay", SHAPES_OF_DECAY)
@pytest.mark.parametrize(("degree", "reach"), [(3, 6), (60, 6), (400, 6), (1000, 30)])
def test_series_against_mpmath(decay, degree, reach):
    rng = np.random.default_rng(degree)
    a = rng.standard_normal(degree + 1) * SHAPES_OF_DECAY[decay](np.arange(degree + 1.0))
    z = np.concatenate([[-reach, 0.0, 0.7, reach], rng.uniform(-reach, reach, 4)])
    exact = exact_hermite.series(a, z)
    size = exact_hermite.series(np.abs(a), z, absolute=True)
    assert np.isfinite(size).all()
    assert np.abs((hermite_series(a, z) - exact) / size).max() < 1e-14  # the promise is 1e-12


def test_series_has_no_overflow_where_single_terms_would():
    """exp(tz − t²/2) = Σ t^k h_k(z)/√k!, at z where h_1000 itself is 1e716."""
    k = np.arange(1, 1001)
    for t, z in ((1.0, 100.0), (2.0, 60.0), (-0.1, -80.0)):
        a = np.concatenate([[1.0], np.cumprod(t / np.sqrt(k))])
        assert_allclose(hermite_series(a, z), math.exp(t * z - t * t / 2), rtol=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(1, 700),
    start=st.integers(0, 699),
    stop=st.integers(1, 700),
    degree=st.integers(0, 40),
    spread=st.sampled_from([1.0, 70.0]),
)
def test_a_point_has_the_same_bits_wherever_it_stands(size, start, stop, degree, spread):
    rng = np.random.default_rng(degree)
    z, a = spread * rng.standard_normal(700), rng.standard_normal(degree + 1)
    for part in (slice(start, stop), slice(0, size), slice(start, None, 3)):
        assert_array_equal(hermite_series(a, z)[part], hermite_series(a, z[part]))
        assert_array_equal(hermite_values(z, degree)[part], hermite_values(z[part], degree))
        assert_array_equal(hermite_functions(z, degree)[part], hermite_functions(z[part], degree))


def test_threads_do_not_change_a_bit(monkeypatch):
    rng = np.random.default_rng(5)
    z, a = 20 * rng.standard_normal(3 * hermite._PIECE + 137), rng.standard_normal(31)
    calls = (
        lambda: hermite_series(a, z),
        lambda: hermite_values(z, 30),
        lambda: hermite_functions(z, 30),
    )
    serial = [call() for call in calls]
    monkeypatch.setattr(hermite, "_PARALLEL_FROM", 1)
    for count in (1, 2, 4):
        with _jit.threads(count):
            for call, expected in zip(calls, serial):
                assert_array_equal(call(), expected)


def test_shapes_and_series():
    z = np.linspace(-4, 4, 12).reshape(3, 4)
    a = np.random.default_rng(0).standard_normal(60)
    values = hermite_values(z, 59)
    assert values.shape == (3, 4, 60)
    assert np.allclose(hermite_series(a, z), values @ a, rtol=1e-12, atol=1e-11)
    step = 1e-5
    slope = (hermite_series(a, z + step) - hermite_series(a, z - step)) / (2 * step)
    assert np.allclose(hermite_series(a, z, derivative=1), slope, rtol=1e-5, atol=1e-4)
    assert np.all(hermite_series([2.0], z, derivative=1) == 0)
    assert np.all(hermite_series(a, z, derivative=10**9) == 0)
    assert_allclose(hermite_series([0, 0, 0, 6**0.5], 2.0, derivative=3), 6.0, rtol=1e-14)  # (z³ − 3z)


def test_any_real_array_is_taken_and_none_is_changed():
    z = np.arange(-3, 4)
    expected = hermite_values(z.astype(float), 4)
    fixed = z.astype(float)
    fixed.flags.writeable = False
    for points in (z, z.astype(np.float32), fixed, list(z), z.astype(float)[::-1][::-1]):
        assert_array_equal(hermite_values(points, 4), expected)
        assert_array_equal(hermite_functions(points, 4), hermite_functions(z.astype(float), 4))
    assert_array_equal(fixed, z)


@pytest.mark.parametrize("n", [1, 2, 3, 20, 400, 1000, 1500])
def test_gauss_hermite_moments(n):
    x, w = quadrature.gauss_hermite(n)
    assert abs(w.sum() - 1) < 1e-13
    exact = 1.0
    for m in range(2, min(2 * n, 24), 2):
        exact *= m - 1
        assert abs((w * x**m).sum() / exact - 1) < 1e-12


def test_gauss_hermite_nodes_against_numpy_and_exponential_moment():
    x, w = quadrature.gauss_hermite(60)
    reference, weights = np.polynomial.hermite_e.hermegauss(60)
    assert np.allclose(x, reference, atol=1e-13)
    assert np.allclose(w, weights / math.sqrt(2 * math.pi), rtol=1e-11, atol=0)
    x, w = quadrature.gauss_hermite(1000)
    assert abs((w * np.cos(20 * x)).sum() - math.exp(-200)) < 1e-14
    assert abs((w * np.exp(3 * x)).sum() / math.exp(4.5) - 1) < 1e-12


@pytest.mark.parametrize("n", [5, 64, 400, 1000])
def test_gauss_hermite_nodes_and_weights_against_mpmath(n):
    x, w = quadrature.gauss_hermite(n)
    assert (np.diff(x) > 0).all()
    assert_array_equal(x, -x[::-1])
    # the outermost, with tiny weights, some between, and the innermost
    for i in sorted({0, 1, 2, n // 10, n // 4, n // 2 - 1, n // 2}):
        node, weight = exact_hermite.gauss_node(n, x[i])
        assert abs(float(x[i] - node)) <= 4e-16 * math.sqrt(n)
        if weight > 1e-300:
            assert abs(float(w[i] / weight - 1)) < 1e-11
        else:
            assert 0 <= w[i] < 1e-299


def test_expectation_with_kinks():
    value, error = quadrature.expectation(lambda z: np.abs(z - 0.3), breaks=[0.3])
    exact = math.sqrt(2 / math.pi) * math.exp(-0.045) + 0.3 * math.erf(0.3 / math.sqrt(2))
    assert abs(value - exact) < 1e-15
    assert error < 1e-14
    value, error = quadrature.expectation(lambda z: np.exp(8 * z))
    assert abs(value / math.exp(32) - 1) < 1e-12


def test_expectation_reports_an_undeclared_kink():
    exact = math.sqrt(2 / math.pi)
    value, error = quadrature.expectation(lambda z: np.where(z > 0.123, 1.0, 0.0), max_panels=128)
    exact = 0.5 * math.erfc(0.123 / math.sqrt(2))
    assert error > 1e-8
    assert abs(value - exact) < 100 * error


def _plain(name, kinks=()):
    """A built-in without its closed form, so that quadrature has to do it."""
    family = activation(name).family
    return ActivationFamily(
        family.name, family.pair, family.formula, family.parameters, kinks=lambda p: kinks
    )()


def test_expand_by_quadrature_against_mpmath():
    phi, q = _plain("relu", (Kink(0.0, slope_jump=1.0),)), 1.7
    found = expand(phi, 300, q)
    root = mp.sqrt(q)
    for k in (0, 1, 2, 5, 12):
        exact = oracle.coefficient(lambda z: max(root * z, 0), k, (0,))
        assert abs(found[k] - float(exact)) < 1e-14
    # a_k = √q h_{k−2}(0) p(0)/√(k(k−1))
    h = oracle.hermite_values(0, 300)
    exact = math.sqrt(q) * float(h[298]) / math.sqrt(2 * math.pi * 300 * 299)
    assert abs(found[300] - exact) < 1e-15


def test_expand_smooth_against_mpmath():
    found = expand(activation("tanh"), 21, 2.3)
    root = mp.sqrt(mp.mpf("2.3"))
    for k in (1, 7, 21):
        assert abs(found[k] - float(oracle.coefficient(lambda z: mp.tanh(root * z), k))) < 2e-15
    assert np.abs(found[::2]).max() < 1e-15


def test_projection_to_a_high_degree():
    """E[cos(bz + g) h_k(z)] = b^k exp(−b²/2) cos(g + kπ/2)/√k!, and a shifted ramp has jumps at a point off 0."""
    b, g = 12.0, 0.4
    with mp.workdps(30):
        sizes = [mp.exp(-b * b / 2) * mp.mpf(b) ** k / mp.sqrt(mp.factorial(k)) for k in range(2001)]
        exact = np.array([float(size * mp.cos(mp.mpf(g) + k * mp.pi / 2)) for k, size in enumerate(sizes)])
    found, error = project(lambda z: np.cos(b * z + g), (), 2000)
    assert error < 1e-13
    assert np.abs(found - exact).max() < 2e-15
    found, _ = project(lambda z: np.maximum(z - 0.7, 0.0), (0.7,), 8192)
    h = np.array(hermite_values(0.7, 8190))  # a_k = h_{k−2}(b) p(b)/√(k(k−1)), k >= 2
    k = np.arange(2.0, 8193)
    exact = h * math.exp(-0.245) / math.sqrt(2 * math.pi) / np.sqrt(k * (k - 1))
    assert np.abs(found[2:] - exact).max() < 1e-15


def test_parity_is_exact():
    odd, _ = project(np.sin, (), 50)
    even, _ = project(np.cos, (0.3,), 50)
    assert (odd[::2] == 0).all()
    assert (even[1::2] == 0).all()
    assert (odd[1::2] != 0).any()


def test_expand_warns_where_a_kink_is_not_declared():
    with pytest.warns(AccuracyWarning, match="kinks"):
        expand(_plain("relu_cos"), 20, 1.0)


def test_errors_name_the_value():
    phi = activation("relu")
    with pytest.raises(InputError, match="variance is 0"):
        expand(phi, 3, 0.0)
    with pytest.raises(InputError, match="variance is nan"):
        expand(phi, 3, math.nan)
    for call in (
        lambda: expand(phi, -1),
        lambda: hermite_values(0.0, -1),
        lambda: hermite_functions(0.0, -1),
    ):
        with pytest.raises(InputError, match="degree must be an integer ≥ 0, not -1"):
            call()
    with pytest.raises(InputError, match=r"degree must be an integer ≥ 0, not 2\.5"):
        hermite_values(0.0, 2.5)
    with pytest.raises(InputError, match="derivative must be an integer ≥ 0, not -2"):
        hermite_series([1.0], 0.0, derivative=-2)
    with pytest.raises(InputError, match=r"coefficients\[1\] is nan"):
        hermite_series([1.0, math.nan], 0.0)
    for call in (hermite_values, hermite_functions):
        with pytest.raises(InputError, match="z must hold real numbers, not complex128"):
            call(np.ones(2) * 1j, 3)
    with pytest.raises(InputError, match=r"shape \(2, 2\)"):
        hermite_series(np.ones((2, 2)), 0.0)
    with pytest.raises(InputError, match="nodes, is 0"):
        quadrature.gauss_hermite(0)
    with pytest.raises(InputError, match="not finite"):
        quadrature.reach(lambda z: 1 / (z - z))
