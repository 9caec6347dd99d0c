"""Combinations of kernels: power series from those of the parts, overflow, small differences where exponents are large."""

import numpy as np
import pytest
from mpmath import mp

import ntkengine as nk
from ntkengine.errors import InputError, NoSeriesError
from ntkengine.infinite.power import continuation
from ntkengine.kernels import KernelFamily, taylor
from ntkengine.kernels.algebra import Combination, Normalized
from tests.oracles import series as oracle

polyval = np.polynomial.polynomial.polyval
POINTS = np.array([-1.0, -0.6, 0.0, 0.3, 0.8, 1.0])


def network(name="relu", depth=3, kind="ntk", **options):
    return nk.FCN(name, depth=depth, **{"w_std": 2**0.5, "b_std": 0.1, **options}).kernel(kind)


# --- power series with networks ----------------------------------------------------------------------------------


def made_of(net):
    """Combinations of a network's kernel, each with the same done to values."""
    one, value = net(1.0), net
    laplace, e = nk.kernel("laplace"), nk.kernel("exp(c)")
    return {
        "multiple": (2.0 * net, lambda c: 2 * value(c)),
        "sum": (net + laplace + 0.5, lambda c: value(c) + laplace(c) + 0.5),
        "product": (net * e * net, lambda c: value(c) ** 2 * e(c)),
        "power": (net**3, lambda c: value(c) ** 3),
        "normalized": (net.normalized(), lambda c: value(c) / one),
        "nested": ((0.5 * (net + e)) ** 2 * laplace, lambda c: 0.25 * (value(c) + e(c)) ** 2 * laplace(c)),
        "outside": (laplace.compose(net.normalized()), lambda c: laplace(value(c) / one)),
        "inside": (net.compose(nk.kernel("c**2")), lambda c: value(c**2)),
        "further": (e.compose(net.normalized()) + net, lambda c: e(value(c) / one) + value(c)),
    }


@pytest.mark.parametrize("name", ["relu", "erf"])
def test_series_of_combinations_of_networks(name, monkeypatch):
    """They sum to the kernel, and no balls go through the network's layers."""
    net = network(name)
    monkeypatch.setattr(type(net), "_series", lambda self, x: pytest.fail("balls"))
    for key, (k, values) in made_of(net).items():
        series = k.taylor(400)
        size = k(1.0)
        assert isinstance(series, taylor.PowerSeries), key
        c = np.array([-0.9, -0.3, 0.2, 0.9])
        np.testing.assert_allclose(
            polyval(c, np.asarray(series)), values(c), rtol=0, atol=1e-12 * size, err_msg=key
        )
        assert series.sum() + series.tail == pytest.approx(size, rel=1e-12), key
        assert series.error.max() < 1e-12 * size, key


def test_series_of_combinations_against_balls_of_the_whole():
    """The errors reported hold, in ρ = c and with biases."""
    net = network(depth=2)
    every = made_of(net)
    for key, b_std in (("nested", 0.1), ("outside", 0.0)):
        k, _ = every[key]
        found, exact = k.taylor(60, w_std=2**0.5, b_std=b_std), taylor.exact(k, 60, 2**0.5, b_std)
        assert (np.abs(np.asarray(found) - np.asarray(exact)) <= found.error + exact.error).all(), key


def test_multiples_of_a_network_have_exact_series_on_demand():
    """What is far below the rounding of K, as the sum of a whole series needs it."""
    net = nk.FCN("erf").kernel("ntk")
    one, three = taylor.exact(net, 100), taylor.exact(3.0 * net, 100)
    np.testing.assert_allclose(np.asarray(three), 3 * np.asarray(one), rtol=1e-14)
    assert 0 < three[99] < 1e-15


def test_combinations_of_formulas_stay_exact():
    """To 1e-13 relative each, also where coefficients are far below the largest."""
    k = (nk.kernel("exp(c)") + nk.kernel("gaussian", gamma=0.25)) ** 2 * nk.kernel("sinh(c)")
    want = oracle.cauchy(oracle.formula("(exp(c) + exp(-0.5*(1 - c)))**2*sinh(c)"), 60)
    np.testing.assert_allclose(np.asarray(k.taylor(60)), [float(b) for b in want], rtol=1e-13, atol=1e-90)


def test_a_network_of_what_leaves_the_disk():
    """T₂(c) = 2c² − 1 is −3 at c = i: outside the disk of the continuation, but a network of sines is analytic there."""
    net = nk.FCN("sin").kernel("ntk")
    inner = nk.kernel("2*c**2 - 1")
    with pytest.raises(NoSeriesError, match="outside the disk"):
        continuation(net, inner._complex(np.array([0.9j])))
    series = net.compose(inner).taylor(60)
    np.testing.assert_allclose(polyval(POINTS, np.asarray(series)), net(2 * POINTS**2 - 1), atol=1e-14)


def test_a_family_made_of_a_network_has_the_networks_series():
    net = network(depth=2)
    family = KernelFamily("deep", "that of a network", made_of=lambda: net)
    np.testing.assert_array_equal(family().taylor(40), net.taylor(40))
    np.testing.assert_array_equal((2.0 * family()).taylor(40), 2.0 * np.asarray(net.taylor(40)))


def test_errors_name_the_network_whose_biases_are_too_small():
    k = 2.0 * network(depth=2) + nk.kernel("c")
    with pytest.raises(NoSeriesError, match="larger than the network's own"):
        k.taylor(5, b_std=1.0)
    with pytest.raises(InputError, match="degree must be"):
        k.taylor(-1)


def test_a_composition_is_no_combination_of_values():
    k = nk.kernel("c").compose(nk.kernel("c**2"))
    assert not isinstance(k, Combination)
    assert [part.name for part in k.parts] == ["c", "c**2"]


# --- overflow ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: nk.kernel("exp(c)") ** 1024, r"exp\(c\)\*\*1024.* at c = 0\.69"),
        (lambda: 1e300 * nk.kernel("exp(100*c)"), r"1e\+300 \* exp\(100\*c\).* at c = 0\.19"),
        (lambda: nk.kernel("exp(600*c)") * nk.kernel("exp(600*c)"), r"at c = 0\.59"),
        (lambda: nk.kernel("1e308*c") + nk.kernel("1e308*c"), "at c = -1 "),
        (lambda: nk.kernel("1e-310 + c*(c - 1)").normalized(), "/ 1e-310.* at c = -1 "),
    ],
)
def test_infinite_combinations_are_refused(made, words):
    with pytest.raises(InputError, match=f"no finite real value.*{words}|{words}.*"):
        made()


def test_a_composition_must_be_finite():
    class Hollow(nk.kernels.DotProductKernel):
        name = "hollow"

        def _values(self, c, complement):
            return np.where(np.abs(c) < 0.5, np.inf, 1.0)

    with pytest.raises(InputError, match=r"'hollow of c' has no finite real value at c = -0\.49"):
        Hollow().compose(nk.kernel("c"))


def test_multiples_of_tiny_kernels():
    k = Normalized(nk.kernel("1e-310*(1 + c)"))
    np.testing.assert_allclose(k([-1.0, 0.0, 1.0]), [0.0, 0.5, 1.0], rtol=1e-12)
    net = Normalized(nk.FCN("relu", w_std=1e-30, depth=5, readout_w_std=1e-6).kernel("nngp"))
    np.testing.assert_allclose(net.taylor(50).sum() + net.taylor(50).tail, 1.0, rtol=1e-9)


# --- small differences -------------------------------------------------------------------------------------------

STEEP = [
    "exp(-1000*(1 + c))",
    "exp(-700*(1 + c)) + c",
    "exp(700*c - 700)",
    "tanh(400*c)",
    "sigmoid(800*c)",
    "sigmoid(-800*c)",
    "softplus(-800*c)",
    "softplus(40*c - 5)",
    "log(1.0000001 - c)",
    "log(1 + 1e12*(1 + c))",
    "1/(1e-160 + 1e160*(1 - c))",
    "cosh(700*c)",
    "(1 - c)**0.3",
    "(1 - c**2)**0.3 + c",
    "exp(-(1 - c)**0.3)",
    "(c**2)**0.7",
    "1/(1 + 1/c**2)",
]


@pytest.mark.parametrize("text", STEEP)
def test_differences_where_exponents_are_large(text):
    k, function = nk.kernel(text), oracle.formula(text)
    theta = np.array([0.0, 1e-5, 0.01, 1.0, 1.2, 2.0, 3.0, np.pi])
    with mp.workdps(60):
        top = mp.re(function(mp.mpf(1)))
        want = [float(top - mp.re(function(1 - 2 * mp.sin(mp.mpf(t) / 2) ** 2))) for t in theta.tolist()]
    got = k._deficit_at_angle(theta)
    scale = max(1.0, float(np.abs(k.at_angle(theta)).max()))
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-11 * scale)


@pytest.mark.parametrize("text", ["(1 - c)**0.3/2", "exp(-1000*(1 + c))", "exp(700*c - 700)", "tanh(400*c)"])
def test_compositions_of_steep_kernels(text):
    inner, outer = nk.kernel(text), nk.kernel("laplace")
    k = outer.compose(inner)
    values = inner(POINTS)
    np.testing.assert_allclose(k(POINTS), np.exp(-np.sqrt(2 * (1 - values))), rtol=1e-7)
    theta = np.array([0.0, 1e-9, 1.0, np.pi])
    assert np.isfinite(k.at_angle(theta)).all()
    assert np.isfinite((2.0 * k + inner)._deficit_at_angle(theta)).all()


def test_powers_whose_squares_overflow():
    """K⁵ is finite where K⁸, a square on the way, is not."""
    k = nk.kernel("exp(100*c)") ** 5
    theta = np.array([0.0, 1e-8, 1.0])
    want = -np.exp(500.0) * np.expm1(-1000 * np.sin(theta / 2) ** 2)
    np.testing.assert_allclose(k._deficit_at_angle(theta), want, rtol=1e-12)


# --- how much work it is -----------------------------------------------------------------------------------------


def test_constructing_a_combination_is_cheap():
    """No series, no compilation: ten thousand points of the parts at the most."""
    net = network(depth=2)
    net(0.5)
    calls = []
    original = type(net)._values

    def counted(self, c, complement):
        calls.append(c.size)
        return original(self, c, complement)

    type(net)._values = counted
    try:
        2.0 * net + nk.kernel("c")
    finally:
        type(net)._values = original
    assert sum(calls) < 10_000


# --- numbers of NumPy ------------------------------------------------------------------------------------------


def test_arrays_without_axes_are_numbers():
    k, two = nk.kernel("exp(c)"), np.array(2.0)
    for made in (k * two, two * k, k / np.array(0.5)):
        assert made(0.3) == 2 * k(0.3)
    for made in (k + two, two + k):
        assert made(0.3) == k(0.3) + 2
    assert (k ** np.array(2))(0.3) == k(0.3) ** 2


@pytest.mark.parametrize(
    "wrong",
    [
        lambda k, x: k * x, lambda k, x: x * k, lambda k, x: k / x, lambda k, x: x / k, lambda k, x: k + x,
        lambda k, x: x + k, lambda k, x: k - x, lambda k, x: x - k, lambda k, x: k**x,
    ],
)  # fmt: skip
def test_arrays_are_refused_with_advice(wrong):
    with pytest.raises(InputError, match=r"array of shape \(2,\).*write k\(c\)\*array"):
        wrong(nk.kernel("exp(c)"), np.array([1.0, 2.0]))


def test_what_is_multiplied_by_0_has_no_samples():
    c = np.linspace(-1, 1, 41)
    bad = nk.kernel_from_samples(c, np.cos(6 * c))
    assert (bad + 1.0).samples == (2 * bad).samples == (bad**2).samples == (bad,)
    assert (0 * bad).samples == (bad**0).samples == ()
    design = nk.reverse_engineer(0 * bad + nk.kernel("exp(c)"))
    assert design.max_error < 1e-12


@pytest.mark.parametrize("c", [None, [None, 0.5], "0.5", 1j, np.array([0.5j])])
def test_cosines_are_numbers(c):
    for values in (nk.kernel("exp(c)"), nk.kernel("exp(c)").at_angle):
        with pytest.raises(InputError, match="must be a real number or an array of real numbers"):
            values(c)


def test_values_that_are_missing_come_with_advice():
    with pytest.raises(InputError, match=r"at c = 0\.5; it needs .* keep divisors away from 0") as caught:
        nk.kernel("1/(1-2*c)")
    assert "other" not in str(caught.value)
    with pytest.raises(InputError, match=r"at c = -1 \(nor at \d+ of the other 2511 points tried\)"):
        nk.kernel("log(c)")
