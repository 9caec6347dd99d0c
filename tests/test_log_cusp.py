"""Duals of activations with a logarithmic cusp z log|z| at 0, against quadrature in polar coordinates."""

import math
import warnings

import mpmath as mp
import numpy as np
import pytest

import ntkengine as nk
from ntkengine import _scalar, hermite, quadrature
from ntkengine.activations import ActivationFamily, Kink, Parameter
from ntkengine.errors import AccuracyWarning
from ntkengine.infinite import _jumps
from ntkengine.infinite.dual import cusp_part, dual, part_coefficients
from tests.oracles import log_cusp as oracle

DELTAS = ["1e-12", "1e-6", "0.02", "0.5", "1", "1.5", "1.99", "1.999999", "2"]


@_scalar.shared
def _log(z):
    T = type(z)
    size = abs(z)
    return _scalar.log(size if size > T(0.0) else T(1.0)), T(1.0) if size > T(0.0) else T(0.0)


def _family(name, pair, *kinks, **more):
    return ActivationFamily(name, pair, name, kinks=lambda p: kinks, **more)


def _bend(z, p):
    T = type(z)
    log, on = _log(z)
    sign = T(1.0) if z > T(0.0) else -on
    t = _scalar.tanh(z)
    return z * log + T(0.7) * abs(z) + t, log + on + T(0.7) * sign + T(1.0) - t * t


def _odd(z, p):
    log, on = _log(z)
    return z * log + _scalar.sin(z), log + on + _scalar.cos(z)


def _everything(z, p):
    T = type(z)
    log, on = _log(z)
    right = T(1.0) if z > T(0.0) else T(0.0)
    return (
        T(0.5) * z * log + right * (T(1.0) + z * z * (T(0.3) - T(0.2) * z)) + _scalar.cos(z),
        T(0.5) * (log + on) + right * z * (T(0.6) - T(0.6) * z) - _scalar.sin(z),
    )


def _shifted(z, p):
    T = type(z)
    log, on = _log(z)
    right = T(1.0) if z > T(1.0) else T(0.0)
    return z * log + right * (z - T(1.0)), log + on + right


def _safe_log(z):
    return np.log(np.abs(z) + 1e-300)


BEND = _family("z·log|z| + 0.7|z| + tanh", _bend, Kink(0.0, slope_jump=1.4, log_slope=1.0))()
ODD = _family("z·log|z| + sin", _odd, Kink(0.0, log_slope=1.0))()
EVERYTHING = _family(
    "½z·log|z| + jumps of all orders + cos", _everything, Kink(0.0, 1.0, 0.0, 0.6, -1.2, log_slope=0.5)
)()
SHIFTED = _family("z·log|z| + relu(z − 1)", _shifted, Kink(0.0, log_slope=1.0), Kink(1.0, slope_jump=1.0))()
NUMPY = {
    BEND: (
        lambda z: z * _safe_log(z) + 0.7 * np.abs(z) + np.tanh(z),
        lambda z: _safe_log(z) + 1 + 0.7 * np.sign(z) + np.cosh(z) ** -2.0,
    ),
    ODD: (lambda z: z * _safe_log(z) + np.sin(z), lambda z: _safe_log(z) + 1 + np.cos(z)),
    EVERYTHING: (
        lambda z: 0.5 * z * _safe_log(z) + (z > 0) * (1 + 0.3 * z**2 - 0.2 * z**3) + np.cos(z),
        lambda z: 0.5 * _safe_log(z) + 0.5 + (z > 0) * (0.6 * z - 0.6 * z**2) - np.sin(z),
    ),
    SHIFTED: (lambda z: z * _safe_log(z) + np.maximum(z - 1, 0), lambda z: _safe_log(z) + 1 + (z > 1)),
}


def unit(m):
    """Factors of :func:`_jumps.cusp_deficits`: one of the crosses, or the square for None."""
    return (np.zeros(4), 1.0) if m is None else (np.eye(4)[m], 0.0)


# --- closed forms -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [0, 1, 2, 3, None])
def test_closed_forms_against_the_definition(m):
    """E[f_m L] and E[L L] and their derivatives' from ρ = 1 to −1, deficits relative to themselves."""
    with mp.workdps(40):
        top = oracle.power_product(m, mp.mpf(0))
        assert _jumps.cusp_at_one(*unit(m)) == pytest.approx([float(t) for t in top], rel=1e-15, abs=1e-16)
        for delta in map(float, DELTAS):
            value, slope = oracle.power_product(m, mp.mpf(delta))
            found = _jumps.cusp_deficits(*unit(m), delta, _jumps.angle(delta, 2 - delta))
            assert found[0] == pytest.approx(float(top[0] - value), rel=2e-15, abs=0), delta
            assert found[1] == pytest.approx(float(slope), rel=2e-15, abs=2e-16), delta
        assert _jumps.cusp_deficits(*unit(m), 0.0, 0.0) == (0.0, pytest.approx(float(top[1]), abs=1e-15))


def test_coefficients_are_those_of_the_cusp():
    """By quadrature, and by the moments that their squares sum to."""
    values, steps = np.zeros(40), np.zeros(40)
    _jumps.add_cusp_coefficients(1.0, values, steps)
    breaks = tuple(2.0**k for k in range(-50, 4))
    exact, error = hermite.project(lambda z: z * _safe_log(z), breaks, 39)
    assert error < 1e-14
    assert np.abs(values - exact).max() < 2e-15
    exact, _ = hermite.project(lambda z: _safe_log(z) + 1, breaks, 39)
    assert np.abs(steps - exact).max() < 1e-13
    # k a_k² falls like k^{-3/2}, and Σ k a_k² converges to E[L'²] like k^{-1/2}
    values, steps = np.zeros(1 << 20), np.zeros(1 << 20)
    _jumps.add_cusp_coefficients(1.0, values, steps)
    value, slope = _jumps.cusp_at_one(np.zeros(4), 1.0)
    assert value - float(values @ values) == pytest.approx(0.0, abs=1e-8)
    left = [slope - float(steps[:n] @ steps[:n]) for n in (1 << 16, 1 << 18, 1 << 20)]
    assert left[0] / left[1] == pytest.approx(2.0, rel=1e-4)
    assert left[1] / left[2] == pytest.approx(2.0, rel=1e-4)


@pytest.mark.parametrize("orders", [(), (0,), (1,), (2,), (3,), (0, 1, 2, 3)])
def test_complex_correlations_against_the_mehler_sum(orders):
    """Inside the disk, where the sum of the coefficients' products converges."""
    jumps, cusp = np.zeros((1, 4)), 0.7
    jumps[0, list(orders)] = 0.5
    values, steps = part_coefficients(np.zeros(1), jumps, cusp, 400)
    plain = part_coefficients(np.zeros(1), jumps, 0.0, 400)
    rho = 0.9 * np.exp(1j * np.linspace(0, 2 * np.pi, 9))
    powers = rho[:, None] ** np.arange(400)
    exact, slope = powers @ (values**2 - plain[0] ** 2), powers @ (steps**2 - plain[1] ** 2)
    delta = 1 - rho
    deficit, derivative = np.zeros(9, dtype=complex), np.zeros(9, dtype=complex)
    cross = 2 * cusp * jumps[0]
    _jumps.add_cusp(cross, cusp**2, delta, 2 * np.arcsin(np.sqrt(delta / 2)), deficit, derivative)
    assert np.abs(_jumps.cusp_at_one(cross, cusp**2)[0] - deficit - exact).max() < 1e-14
    assert np.abs(derivative - slope).max() < 1e-13


# --- activations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phi", "q"), [(BEND, 1.0), (BEND, 0.3), (BEND, 2.0), (ODD, 1.3), (EVERYTHING, 0.6)], ids=str
)
def test_duals_against_quadrature(phi, q):
    """Values and derivatives to 1e-13, distances near ρ = 1 to relative accuracy; no warning."""
    d, functions, s = dual(phi, q), NUMPY[phi], math.sqrt(q)
    assert d.series.cusp == pytest.approx(s * (0.5 if phi is EVERYTHING else 1.0))
    square, slope = oracle.second_moments(*functions, q)
    assert d.value_at_one == pytest.approx(square, rel=1e-14)
    assert d.derivative_at_one == pytest.approx(slope, rel=1e-13)
    assert d.error < 1e-13 * square
    assert d.derivative_error < 1e-12 * slope
    delta = np.array([1e-10, 1e-4, 0.5, 1.3, 2 - 2.0**-20, 2.0])
    found = d.evaluate(delta, 2 - delta)
    for i, at in enumerate(delta):
        value, derivative, distance = oracle.pair(*functions, s, s, at)
        loose = 1e-8 if at < 1e-6 else 2e-12  # the oracle subtracts
        assert found.deficit[i] == pytest.approx(distance / 2, rel=loose)
        assert abs(found.excess[i] - square - value) < 1e-13 * square
        assert abs(found.derivative[i] - derivative) < 2e-13 * slope
    if phi is ODD:
        assert d.series.parity == -1
        assert np.array_equal(d.evaluate(2 - delta, delta).excess, found.deficit)


@pytest.mark.parametrize("kind", ["nngp", "ntk"])
@pytest.mark.parametrize("depth", [1, 2])
def test_kernels(kind, depth):
    """The recursion of conventions.md over duals by quadrature."""
    net = nk.FCN(BEND, depth=depth, w_std=0.8, b_std=0.3)
    kernel = net.kernel(kind)
    for c in (1 - 1e-5, 0.4, -0.9):
        q, delta = 0.73, 0.64 / 0.73 * (1 - c)
        theta = sigma = q * (1 - delta)
        for layer in range(depth):
            w, b = ((0.64, 0.09), (1.0, 0.0))[layer == depth - 1]
            value, slope, distance = oracle.pair(*NUMPY[BEND], math.sqrt(q), math.sqrt(q), delta)
            sigma = w * value + b
            theta = sigma + w * theta * slope
            top = w * oracle.second_moments(*NUMPY[BEND], q)[0] + b
            delta, q = w * distance / 2 / top, top
        assert kernel(c) == pytest.approx(theta if kind == "ntk" else sigma, rel=1e-12)


@pytest.mark.parametrize("phi", [BEND, EVERYTHING], ids=str)
def test_gram_matrices_at_unequal_norms(phi):
    rng = np.random.default_rng(3)
    points = rng.normal(size=(9, 3))
    points[1], points[2], points[3] = 2 * points[0], -1.5 * points[0], points[0] * (1 + 2.0**-30)
    points[4] = points[0] + 2.0**-20 * np.array([1.0, 1.0, -1.0])
    net = nk.FCN(phi, w_std=1.3)
    nngp, ntk = net.nngp(points), net.ntk(points)
    assert np.array_equal(nngp, nngp.T)
    norms = 1.3 * np.linalg.norm(points, axis=1) / math.sqrt(3)
    directions = points / np.linalg.norm(points, axis=1)[:, None]
    for i, j in [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (2, 4), (5, 6), (7, 8), (1, 6)]:
        sign = math.copysign(1.0, directions[i] @ directions[j])
        away = float(np.sum((directions[i] - sign * directions[j]) ** 2)) / 2
        away = 0.0 if away < 1e-30 else away
        value, slope, _ = oracle.pair(*NUMPY[phi], norms[i], sign * norms[j], away)
        assert abs(nngp[i, j] - value) <= 1e-13 * math.sqrt(nngp[i, i] * nngp[j, j])
        whole = value + sign * norms[i] * norms[j] * (1 - away) * slope
        assert abs(ntk[i, j] - whole) <= 2e-13 * math.sqrt(ntk[i, i] * ntk[j, j])


def test_antipodes_at_unequal_norms():
    """x and −1.5x of an odd φ: the mirror image of x and 1.5x."""
    x = np.array([[0.3, -1.1, 0.4], [0.45, -1.65, 0.6], [-0.45, 1.65, -0.6]])
    for gram in (nk.FCN(ODD).nngp(x), nk.FCN(ODD).ntk(x)):
        assert gram[0, 2] == pytest.approx(-gram[0, 1], rel=1e-14)


def test_zero_vector_and_a_second_layer():
    """The diagonal, once as a sphere of its own, once among points of other norms."""
    x = np.array([[0.0, 0.0], [0.5, -1.0], [2.0, 0.1]])
    net = nk.FCN(BEND, depth=2, w_std=1.1)
    gram = net.ntk(x)
    assert not gram[0].any()
    for i in (1, 2):
        assert gram[i, i] == pytest.approx(net.ntk(x[i : i + 1])[0, 0], rel=1e-12)


# --- breaks, accuracy ---------------------------------------------------------------------------------------------


def test_kinks_around_a_cusp():
    """Integrals break in octaves around it; jumps and logarithms that coincide add up."""
    family = _family("twice", _odd, Kink(0.5, log_slope=1.0), Kink(0.5, slope_jump=2.0, log_slope=0.5))
    kinks = {kink.location: kink for kink in family().kinks}
    assert kinks[0.5] == Kink(0.5, slope_jump=2.0, log_slope=1.5)
    assert kinks[0.5].jumps == (0.0, 2.0, 0.0, 0.0)
    assert all(kink == Kink(at) for at, kink in kinks.items() if at != 0.5)
    assert {0.5 + 2.0**k for k in range(-40, 3)} < set(kinks)
    assert cusp_part(family(), 1.0) == 0.0  # not at 0


def _tame(z, p):
    T = type(z)
    t = _scalar.tanh(z)
    return t + z, T(2.0) - t * t


def test_many_breaks_are_integrated_exactly():
    """Thousands of nodes where nothing jumps change the rule, and nothing else."""
    at = np.linspace(-9.0, 9.0, 4001)
    tame = ActivationFamily("plain", _tame, "tanh + z")()
    broken = ActivationFamily("broken", _tame, "tanh + z", kinks=lambda p: [Kink(z) for z in at])()
    assert np.abs(tame.hermite(300) - broken.hermite(300)).max() < 1e-15
    one, two = dual(tame, 1.7), dual(broken, 1.7)
    assert two.value_at_one == pytest.approx(one.value_at_one, rel=2e-15)
    assert two.degree == one.degree


def _rough(z, p):
    T = type(z)
    t = _scalar.tanh(z)
    on = z if z > T(0.0) else T(0.0)
    return t + p[0] * on * on, T(1.0) - t * t + T(2.0) * p[0] * on


@pytest.mark.parametrize("accuracy", [0.0, 1e-5])
def test_accuracy_that_a_family_promises(accuracy):
    """A jump that is not declared: many terms and a warning, or few and none where no more is promised."""
    bend = (Parameter("j", 0.5),)
    declared = _family("declared", _rough, Kink(0.0, curvature_jump=1.0), parameters=bend)()
    phi = ActivationFamily("rough", _rough, "tanh + j z₊²", bend, accuracy=accuracy)()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        d = dual(phi, 1.0)
    assert [w.category for w in told] == ([] if accuracy else [AccuracyWarning])
    assert (d.degree < 10_000) == (accuracy > 0)
    exact, delta = dual(declared, 1.0), np.array([0.0, 1e-3, 0.5, 1.5, 2.0])
    one, two = d.evaluate(delta, 2 - delta), exact.evaluate(delta, 2 - delta)
    bar = accuracy or 1e-7
    assert np.abs(one.derivative - two.derivative).max() <= bar * exact.derivative_at_one
    assert np.abs(one.deficit - two.deficit).max() <= bar * exact.value_at_one
    assert d.series.count <= d.degree


def test_a_cusp_that_cannot_be_split_off_is_owned_up_to():
    """With a jump elsewhere the logarithm stays in the series; the estimate covers the true error, and says so."""
    assert cusp_part(SHIFTED, 1.0) == 0.0
    with pytest.warns(AccuracyWarning):
        d = dual(SHIFTED, 1.0)
    found = d.evaluate(np.array([0.3, 1e-4, 1.7]), np.array([1.7, 2 - 1e-4, 0.3]))
    for i, delta in enumerate((0.3, 1e-4, 1.7)):
        value, slope, _ = _shifted_pair(delta)
        assert abs(found.excess[i] - d.value_at_one - value) <= 2 * d.error
        assert abs(found.derivative[i] - slope) <= 2 * d.derivative_error
    assert 1e-9 < d.derivative_error < 1e-2 * d.derivative_at_one


def _shifted_pair(delta):
    """E over a fine grid in both variables: φ has a kink at 1 too, which the polar oracle does not know."""
    phi, slope = NUMPY[SHIFTED]
    grades = 2.0 ** np.arange(-40.0, 4.0)
    z, w = quadrature.panel_rule(-9.0, 9.0, (0.0, 1.0, *grades, *-grades), 90, 8)
    w = w * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    rho = 1 - delta
    spread = math.sqrt(1 - rho * rho)
    totals = np.zeros(3)
    for f, i in ((phi, 0), (slope, 1)):
        inner = np.array([_conditional_mean(f, rho * u, spread) for u in z])
        totals[i] = (w * f(z)) @ inner
    return totals


def _conditional_mean(f, mean, spread):
    low, high = mean - 8.5 * spread, mean + 8.5 * spread
    grades = 2.0 ** np.arange(-30.0, 4.0)
    z, w = quadrature.panel_rule(low, high, (0.0, 1.0, *grades, *-grades), 12, 10)
    return (w * np.exp(-0.5 * ((z - mean) / spread) ** 2)) @ f(z) / (spread * math.sqrt(2 * math.pi))
