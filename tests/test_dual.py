"""Duals of activations: pair integrals against quadrature, every activation against independent duals."""

import itertools
import math

import mpmath as mp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import erf as erf_function
from scipy.special import expit
from scipy.stats import multivariate_normal

from ntkengine.activations import ActivationFamily, Kink, activation
from ntkengine.errors import AccuracyWarning, InputError
from ntkengine.infinite import _dual, dual
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


def evaluate(phi, q, rho):
    d = dual(phi, q)
    rho = np.atleast_1d(np.asarray(rho, dtype=float))
    found = d.evaluate(1 - rho, 1 + rho)
    return d.values(found.excess, found.deficit), found.derivative


@pytest.mark.parametrize(("h", "k"), THRESHOLDS)
@pytest.mark.parametrize("theta", [1e-3, 1.5, 2.9, math.pi])
def test_pair_integrals_against_mpmath(h, k, theta):
    with mp.workdps(45):
        H, K, T = mp.mpf(h), mp.mpf(k), mp.mpf(theta)
        edges = [T * j / 8 for j in range(9)]
        near = [mp.mpf(10) ** -j for j in range(1, 7) if mp.mpf(10) ** -j < T]
        far = [mp.pi - mp.mpf(10) ** -j for j in range(1, 7) if mp.pi - mp.mpf(10) ** -j < T]
        points = sorted({*edges, *near, *far})

        def e(t):
            c, s = mp.cos(t), mp.sin(t)
            return mp.exp(-(H * H - 2 * H * K * c + K * K) / (2 * s * s)) if s > 0 else mp.mpf(0)

        plain = mp.quad(e, points)
        moment = mp.quad(lambda t: (mp.cos(t) - mp.cos(T)) * e(t), points)
        first = mp.quad(
            lambda t: mp.ncdf((H * mp.cos(t) - K) / mp.sin(t)) * mp.sin(t) if t > 0 else 0, points
        )
    found = _dual.pair_integrals(h, k, theta, True, *RULE)
    assert abs(found[0] - float(plain)) <= 2e-14 * max(theta, 1e-3)
    assert abs(found[1] - float(moment)) <= 2e-14 * theta**2
    assert abs(found[2] - float(first)) <= 2e-14 * theta**2


@pytest.mark.parametrize(("h", "k"), THRESHOLDS)
@pytest.mark.parametrize("rho", [-0.9, -0.2, 0.0, 0.6, 0.99])
def test_pair_duals_are_expectations(h, k, rho):
    """P(u>h, v>k) by SciPy's bivariate normal; RR and SR by integrating over u the conditional mean of (v − k)₊."""
    s = math.sqrt(1 - rho**2)

    def tail_mean(u):
        a = (k - rho * u) / s
        return s * (math.exp(-a * a / 2) / math.sqrt(2 * math.pi) - a * 0.5 * math.erfc(a / math.sqrt(2)))

    def normal(u):
        return math.exp(-u * u / 2) / math.sqrt(2 * math.pi)

    options = {"epsabs": 1e-13, "epsrel": 1e-12, "limit": 200}
    relu_relu = quad(lambda u: (u - h) * tail_mean(u) * normal(u), h, h + 12, **options)[0]
    step_relu = quad(lambda u: tail_mean(u) * normal(u), h, h + 12, **options)[0]
    orthant = multivariate_normal([0, 0], [[1, rho], [rho, 1]]).cdf([-h, -k])

    theta, delta = _dual.angle(1 - rho, 1 + rho), 1 - rho
    plain, moment, first, _ = _dual.pair_integrals(h, k, theta, True, *RULE)
    tail = _dual.normal_tail(max(h, k))
    assert abs(tail - plain / (2 * math.pi) - orthant) < 2e-8  # SciPy's own accuracy
    assert abs(_dual.relu_pair_at_one(h, k) - tail * delta + moment / (2 * math.pi) - relu_relu) < 1e-11
    assert abs(_dual.step_relu_at_one(h, k) - _dual.normal_density(h) * first - step_relu) < 1e-11


BUILTINS = [
    ("relu", {}, oracle.relu_dual),
    ("abs", {}, oracle.leaky_dual(-1, 1)),
    ("leaky_relu", {"slope": 0.25}, oracle.leaky_dual(0.25, 1)),
    ("abrelu", {"a": -0.5, "b": 1.5}, oracle.leaky_dual(-0.5, 1.5)),
    ("identity", {}, oracle.identity_dual),
    ("step", {}, oracle.step_dual),
    ("sign", {}, oracle.sign_dual),
    ("erf", {"a": 1.3, "b": 0.8}, oracle.erf_dual(mp.mpf(1.3), mp.mpf(0.8))),
    ("cos", {"b": 3.0, "c": 0.4}, oracle.cos_dual(mp.mpf(3), mp.mpf(0.4))),
    ("gaussian", {"b": -0.7}, oracle.gaussian_dual(-mp.mpf(0.7))),
]


@pytest.mark.parametrize(("name", "parameters", "exact"), BUILTINS, ids=[b[0] for b in BUILTINS])
@pytest.mark.parametrize("q", [0.03, 2.01])
def test_builtin_duals(name, parameters, exact, q):
    phi = activation(name, **parameters)
    rho = np.array([-1.0, -0.999, -0.5, 0.0, 0.3, 0.9, 0.9999, 1.0])
    value, derivative = evaluate(phi, q, rho)
    top = [float(v) for v in exact(mp.mpf(q), mp.mpf(0))]
    for i, r in enumerate(rho):
        expected = exact(mp.mpf(q), 1 - mp.mpf(float(r)))
        assert abs(value[i] - float(expected[0])) <= 1e-13 * top[0]
        assert abs(derivative[i] - float(expected[1])) <= 1e-12 * max(abs(top[1]), top[0] / q)


@pytest.mark.parametrize(("name", "parameters", "exact"), BUILTINS, ids=[b[0] for b in BUILTINS])
def test_deficits_keep_their_digits(name, parameters, exact):
    """G(1) − G(1 − δ) to full relative accuracy, far below the rounding of G."""
    d = dual(activation(name, **parameters), 1.3)
    delta = 10.0 ** -np.arange(1, 25)
    found = d.evaluate(delta, 2 - delta).deficit
    with mp.workdps(80):
        for i, value in enumerate(delta):
            expected = exact(mp.mpf(1.3), mp.mpf(0))[0] - exact(mp.mpf(1.3), mp.mpf(float(value)))[0]
            assert abs(found[i] / float(expected) - 1) < 5e-13


def test_value_and_slope_jumps_together_against_brute_force():
    """A made-up φ with a value jump and two slope jumps, against two-dimensional quadrature in numpy."""

    def pair(z, p):
        T = type(z)
        up = T(1.0) if z > p[0] else T(0.0)
        bend = T(1.0) if z > p[1] else T(0.0)
        both = T(0.25) * z * z
        return both + up * (T(0.7) + T(1.5) * (z - p[0])) - T(2.0) * bend * (z - p[1]), (
            T(0.5) * z + T(1.5) * up - T(2.0) * bend
        )

    from ntkengine.activations import Parameter

    family = ActivationFamily(
        "jumpy",
        pair,
        "made up",
        (Parameter("h", 0.4), Parameter("k", -0.9)),
        kinks=lambda p: (Kink(p[0], 0.7, 1.5), Kink(p[1], 0.0, -2.0)),
    )

    def phi(z):
        return 0.25 * z**2 + (z > 0.4) * (0.7 + 1.5 * (z - 0.4)) - 2 * (z > -0.9) * (z + 0.9)

    def slope(z):
        return 0.5 * z + 1.5 * (z > 0.4) - 2.0 * (z > -0.9)

    for rho in (-0.95, -0.3, 0.5, 0.97):
        value, derivative = evaluate(family(), 1.4, rho)
        exact = oracle.dual_by_quadrature(phi, slope, 1.4, rho, nodes=16, panels=24, kinks=(-0.9, 0.4))
        top = dual(family(), 1.4)
        assert abs(value[0] - exact[0]) < 1e-10 * top.value_at_one
        assert abs(derivative[0] - exact[1]) < 1e-10 * top.derivative_at_one


@pytest.mark.parametrize(("name", "kinks"), [("relu_cos", (1.06,)), ("relu2_cos", (0.0, 1.06))])
def test_mimics_against_brute_force(name, kinks):
    phi = activation(name)
    p = phi.parameters

    def value_of(z):
        total = (
            p["a"] * np.maximum(z - p["b"], 0) + p["c"] * z + p["d"] + p["e"] * np.cos(p["f"] * z + p["g"])
        )
        return total + (p["a2"] * np.maximum(z - p["b2"], 0) if "a2" in p else 0)

    def slope_of(z):
        total = p["a"] * (z > p["b"]) + p["c"] - p["e"] * p["f"] * np.sin(p["f"] * z + p["g"])
        return total + (p["a2"] * (z > p["b2"]) if "a2" in p else 0)

    top = dual(phi, 1.0)
    for rho in (-0.8, 0.2, 0.95):
        value, derivative = evaluate(phi, 1.0, rho)
        exact = oracle.dual_by_quadrature(value_of, slope_of, 1.0, rho, nodes=20, panels=36, kinks=kinks)
        assert abs(value[0] - exact[0]) < 1e-12 * top.value_at_one
        assert abs(derivative[0] - exact[1]) < 1e-12 * top.derivative_at_one


SMOOTH = [
    ("tanh", np.tanh),
    ("sigmoid", expit),
    ("softplus", lambda z: np.logaddexp(0, z)),
    ("silu", lambda z: z * expit(z)),
    ("gelu", lambda z: z * (1 + erf_function(z / np.sqrt(2))) / 2),
]


@pytest.mark.parametrize(("name", "phi"), SMOOTH, ids=[s[0] for s in SMOOTH])
@pytest.mark.parametrize("q", [0.2, 4.0])
def test_smooth_duals(name, phi, q):
    d = dual(activation(name), q)
    for rho in (-1.0, -0.4, 0.7, 1.0):
        value, derivative = evaluate(activation(name), q, rho)
        exact = oracle.dual_by_mehler(phi, q, rho)
        assert abs(value[0] - exact[0]) < 1e-13 * d.value_at_one
        assert abs(derivative[0] - exact[1]) < 1e-12 * d.derivative_at_one
    assert d.error < 1e-12 * d.value_at_one


def test_high_frequencies_are_not_missed():
    """At degree 64 every coefficient of cos(30z) is below 1e-100: only the sum shows that more are needed."""
    phi = activation("cos", b=30.0, c=0.3)
    value, _ = evaluate(phi, 1.0, [1.0, 0.999])
    exact = [oracle.cos_dual(mp.mpf(30), mp.mpf(0.3))(mp.mpf(1), mp.mpf(x))[0] for x in (0.0, 1 - 0.999)]
    assert np.allclose(value, [float(e) for e in exact], rtol=0, atol=1e-12)


def _bent(z, p):
    T = type(z)
    on = T(1.0) if z > T(0.0) else T(0.0)
    return on * z * z, T(2.0) * on * z


def test_a_jump_of_the_second_derivative_is_owned_up_to():
    """φ = (z₊)²: E[φ'φ'] = 4·(ReLU's dual) is known, and the estimated error must cover the true one."""
    phi = ActivationFamily("bent", _bent, "z₊²")()
    with pytest.warns(AccuracyWarning, match="jumps of φ''"):
        d = dual(phi, 1.0)
    found = d.evaluate(np.array([0.0, 0.5]), np.array([2.0, 1.5]))
    for i, delta in enumerate((0.0, 0.5)):
        exact = 4 * float(oracle.relu_dual(1, mp.mpf(delta))[0])
        assert abs(found.derivative[i] - exact) <= 2 * d.derivative_error
    assert abs(d.value_at_one - 1.5) <= 2 * d.error
    assert 1e-9 < d.derivative_error < 1e-2


def test_parity_makes_antipodes_exact():
    delta = 10.0 ** -np.arange(2, 20)
    for name, parity in (("erf", -1), ("sign", -1), ("abs", 1), ("relu", 0)):
        d = dual(activation(name), 1.0)
        assert d.parity == parity
        near, far = d.evaluate(delta, 2 - delta), d.evaluate(2 - delta, delta)
        if parity == -1:
            assert np.array_equal(near.deficit, far.excess)
            assert np.array_equal(near.derivative, far.derivative)
        if parity == 1:
            assert np.array_equal(near.deficit, far.deficit)
            assert np.array_equal(near.derivative, -far.derivative)


def test_errors():
    with pytest.raises(InputError, match="variance is -1"):
        dual(activation("relu"), -1.0)
    with pytest.raises(InputError, match="not finite"):
        dual(activation("exp", b=10.0), 1e4)


@pytest.mark.filterwarnings("ignore::ntkengine.errors.AccuracyWarning")
@pytest.mark.parametrize("q", [1.0, 100.0, 400.0])
def test_values_at_one_are_the_expectations_even_where_the_series_falls_short(q):
    """tanh at high variance is nearly a step; what the last term of the series leaves out is not lost."""
    here = dual(activation("tanh"), q)
    root = math.sqrt(q)
    edges = [0.0, *np.geomspace(1e-4, 1.0, 30), 3.0, 6.0, 12.0]
    parts = [
        (
            quad(lambda x: 2 * np.tanh(root * x) ** 2 * np.exp(-x * x / 2), a, b, epsabs=0, epsrel=1e-13)[0],
            quad(lambda x: 2 * np.cosh(root * x) ** -4.0 * np.exp(-x * x / 2), a, b, epsabs=0, epsrel=1e-13)[
                0
            ],
        )
        for a, b in itertools.pairwise(edges)
    ]
    square, slope = np.sum(parts, axis=0) / math.sqrt(2 * math.pi)
    assert here.value_at_one == pytest.approx(square, rel=1e-11)
    assert here.derivative_at_one == pytest.approx(slope, rel=1e-9)
    found = here.evaluate(np.zeros(1), np.full(1, 2.0))
    assert found.derivative[0] == pytest.approx(slope, rel=1e-9)
    assert found.deficit[0] == 0


def test_a_kernel_that_cannot_be_had_is_refused():
    with pytest.raises(InputError, match=r"out of reach: 8192 terms leave 100% of E\[φ²\]"):
        dual(activation("cos", b=190.0), 1.0)
