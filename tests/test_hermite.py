"""Hermite polynomials, Gauss–Hermite and kink-aware quadrature against mpmath."""

import math

import mpmath as mp
import numpy as np
import pytest

from ntkengine import quadrature
from ntkengine.activations import ActivationFamily, Kink, activation
from ntkengine.errors import AccuracyWarning, InputError
from ntkengine.hermite import expand, hermite_functions, hermite_series, hermite_values
from tests.oracles import kernels as oracle


@pytest.mark.parametrize("z", [-6.0, -3.3, -0.1, 0.0, 1.0, 2.5, 6.0])
def test_values_to_degree_400(z):
    exact = np.array([float(v) for v in oracle.hermite_values(z, 400)])
    found = hermite_values(z, 400)
    assert found.shape == (401,)
    # relative to the envelope exp(z²/4) that bounds every h_k
    assert np.abs(found - exact).max() <= 1e-12 * max(1.0, math.exp(z * z / 4))


def test_functions_are_bounded_and_orthonormal_at_degree_1000():
    z, w = quadrature.panel_rule(-70, 70, (), 400)
    psi = hermite_functions(z[np.abs(z) < 50], 1000)
    assert np.isfinite(psi).all()
    assert np.abs(psi).max() < 1
    z, w = quadrature.panel_rule(-48, 48, (), 300)
    psi = hermite_functions(z, 500)[:, ::50]
    assert np.allclose(psi.T @ (psi * w[:, None]), np.eye(11), atol=1e-12)


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


def test_expand_warns_where_a_kink_is_not_declared():
    with pytest.warns(AccuracyWarning, match="kinks"):
        expand(_plain("relu_cos"), 20, 1.0)


def test_errors_name_the_value():
    phi = activation("relu")
    with pytest.raises(InputError, match="variance is 0"):
        expand(phi, 3, 0.0)
    with pytest.raises(InputError, match="variance is nan"):
        expand(phi, 3, math.nan)
    with pytest.raises(InputError, match="degree is -1"):
        expand(phi, -1)
    with pytest.raises(InputError, match=r"shape \(2, 2\)"):
        hermite_series(np.ones((2, 2)), 0.0)
    with pytest.raises(InputError, match="nodes, is 0"):
        quadrature.gauss_hermite(0)
    with pytest.raises(InputError, match="not finite"):
        quadrature.reach(lambda z: 1 / (z - z))
