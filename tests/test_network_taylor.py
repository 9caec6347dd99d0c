"""Power series of network kernels: against series composed at 40 digits, known asymptotics, and the kernels themselves."""

import math

import numpy as np
import pytest

from ntkengine.activations import BUILTIN_NAMES, Activation, ActivationFamily, Kink, activation
from ntkengine.errors import InputError
from ntkengine.infinite import FCN
from ntkengine.infinite._complex import MOST_TERMS, ComplexDual
from ntkengine.infinite._complex_jumps import complex_deficits
from ntkengine.infinite.dual import dual
from ntkengine.kernels.taylor import PowerSeries
from tests.oracles import network_series as oracle
from tests.oracles.kernels import hermite_table, normal_rule

polyval = np.polynomial.polynomial.polyval

CASES = [
    ("relu", {}, oracle.relu()),
    ("step", {}, oracle.step()),
    ("erf", {}, oracle.erf()),
    ("cos", {"b": 1.5, "c": 0.4}, oracle.cosine(1.5, 0.4)),
]


# --- against 40 digits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize(("w_std", "b_std"), [(2**0.5, 0.3), (1.1, 0.0)])
@pytest.mark.parametrize(("name", "parameters", "exact"), CASES, ids=[c[0] for c in CASES])
def test_against_composed_series(name, parameters, exact, w_std, b_std, depth):
    """In ρ = c and in the network's own ρ; readout with biases."""
    net = FCN(activation(name, **parameters), depth, w_std, b_std, 0.8, 0.2)
    for pair in {(1.0, 0.0), (w_std, b_std)}:
        found = oracle.kernel_series(exact, depth, w_std, b_std, 60, (0.8, 0.2), pair)
        for kind, b in zip(("nngp", "ntk"), found):
            kernel = net.kernel(kind)
            series = kernel.taylor(60, w_std=pair[0], b_std=pair[1])
            assert np.abs(series - b).max() <= 2e-15 * max(kernel.value_at_one, 1)
            assert (np.abs(series - b) <= series.error + 1e-15 * np.abs(b)).all()


def test_a_kink_that_is_not_at_0():
    """By its Mehler sum."""
    phi = activation("max(z - b, 0)", b=0.4)
    for depth in (1, 2):
        found = oracle.kernel_series(
            oracle.shifted_relu(0.4, 180), depth, 1.3, 0.5, 16, pair=(1.0, 0.0), digits=20
        )
        for kind, b in zip(("nngp", "ntk"), found):
            series = FCN(phi, depth, 1.3, 0.5).kernel(kind).taylor(16)
            assert np.abs(series - b).max() <= 2e-15


def test_other_variables_with_some_of_the_biases():
    b = oracle.kernel_series(oracle.relu(), 2, 1.2, 0.5, 40, pair=(2.0, 0.3))[1]
    series = FCN("relu", 2, 1.2, 0.5).kernel("ntk").taylor(40, w_std=2.0, b_std=0.3)
    assert np.abs(series - b).max() <= 2e-15


# --- high degrees -----------------------------------------------------------------------------------------------


def relu_ntk_limits(depth):
    """(C₊, C₋) in b_k ~ (C₊ + (−1)^k C₋) k^{−3/2} of the ReLU NTK, σ_w = √2, no biases, readout 1, depth > 1.

    At c = 1, E[φ'φ'] = 1/2 − √(2δ)/2π and δ stays from layer to layer, so Θˡ = 2l − s_l √(2δ), s_{l+1} = s_l + 2l/π. At c = −1
    only the first layer is singular: Θ² = ... − (2/π)√(2η), which later layers multiply by 2 E[φ'φ'] at their ρ. And
    −√(1 ∓ c) has coefficients ~ (±1)^k k^{−3/2}/2√π.
    """
    s = 0.0
    for layer in range(1, depth):
        s += 2 * layer / math.pi
    near = s / 2 + depth / math.pi
    far, rho = 2 / math.pi, 0.0
    for layer in range(2, depth + 1):
        slope = (math.pi - math.acos(rho)) / (2 * math.pi)
        far *= (2 if layer < depth else 1) * slope
        rho = (math.sqrt(1 - rho * rho) + (math.pi - math.acos(rho)) * rho) / math.pi
    return near * math.sqrt(2) / (2 * math.sqrt(math.pi)), far * math.sqrt(2) / (2 * math.sqrt(math.pi))


@pytest.mark.parametrize("depth", [2, 4])
def test_asymptotics_of_the_relu_ntk(depth):
    """k^{3/2} b_k at even and at odd k, extrapolated in powers of 1/k: all singularities are odd powers of √δ, √η."""
    series = FCN("relu", depth, 2**0.5).kernel("ntk").taylor(10_001)
    plus, minus = relu_ntk_limits(depth)
    for shift, limit in ((0, plus + minus), (1, plus - minus)):
        k = np.array([626, 1250, 2500, 5000, 10_000]) + shift
        extrapolated = np.linalg.solve(k[:, None] ** -np.arange(5.0), series[k] * k**1.5)[0]
        assert extrapolated == pytest.approx(limit, rel=1e-9)
    assert series.error[-1] < 1e-12 * series[0]
    assert (series > 0).all()


def test_the_theorem_at_degree_10_000():
    """One ReLU: b_k = (1 + k) a_k², a_k² = [(k−3)!!]²/(2π k!) for even k, by its ratios."""
    series = FCN("relu").kernel("ntk").taylor(10_000)
    exact = np.zeros(10_001)
    exact[[0, 1, 2]] = 1 / (2 * math.pi), 0.25, 1 / (4 * math.pi)
    for k in range(2, 9999, 2):
        exact[k + 2] = exact[k] * (k - 1) ** 2 / ((k + 1) * (k + 2))
    exact *= 1 + np.arange(10_001)
    assert np.abs(series - exact).max() <= 1e-15
    assert np.abs(series[2::2] / exact[2::2] - 1).max() <= 1e-11
    assert not series[3::2].any()


@pytest.mark.parametrize(("text", "name"), [("max(z, 0)", "relu"), ("erf(z)", "erf"), ("step(z)", "step")])
def test_numerical_duals_agree_with_closed_forms(text, name):
    """To degree 10,000: the same function as a formula, without a closed form."""
    series, exact = (FCN(phi, 3, 1.4, 0.2).kernel("ntk").taylor(10_000) for phi in (text, name))
    assert np.abs(series - exact).max() <= 5e-15
    assert (np.abs(series - exact) <= series.error + exact.error).all()


def test_shifted_kinks_at_degree_10_000():
    """b_k k^{3/2} of an NTK with a kink at 1/2 and biases tends to C/2√π, K = K(1) − C√δ + ...: only c = 1 is singular."""
    kernel = FCN(activation("max(z - b, 0)", b=0.5), 2, 1.0, 0.5).kernel("ntk")
    series = kernel.taylor(10_000)
    assert series.error.max() < 1e-12
    delta = 1e-7 / np.array([1.0, 4.0])
    root = (kernel(1.0) - kernel.at_angle(2 * np.arcsin(np.sqrt(delta / 2)))) / np.sqrt(delta)
    limit = (2 * root[1] - root[0]) / (2 * math.sqrt(math.pi))
    k = np.arange(1250, 10_001)
    fit = np.linalg.lstsq(k[:, None] ** -np.array([0.0, 0.5, 1.0, 1.5]), series[k] * k**1.5, rcond=None)[0]
    assert fit[0] == pytest.approx(limit, rel=2e-3)


# --- against the kernel -------------------------------------------------------------------------------------------

VALUES = {
    "monomial": {"degree": 3},
    "polynomial": {"coefficients": [0.2, 1.0, 0.3]},
    "hermite": {"coefficients": [0.1, 1, 0, 0.4]},
}
SMALL = {"relu_cos": 0.3, "relu2_cos": 0.3, "exp": 0.5, "selu": 0.8}
#: Given by tables of numbers; their kernels are no others than those of the families here.
TABLES = ("tabulated", "kinks", "spline")


@pytest.mark.parametrize("name", [name for name in BUILTIN_NAMES if name not in TABLES])
def test_every_built_in_against_its_kernel(name):
    """|c| <= 0.9, where 300 terms are all; depths 1, 2, 4, with and without biases, both kinds."""
    phi = activation(name, **VALUES.get(name, {}))
    c = np.array([-0.9, -0.5, -0.1, 0.0, 0.3, 0.7, 0.9])
    for depth in (1, 2, 4):
        for b_std in (0.0, 0.3):
            net = FCN(phi, depth, SMALL.get(name, 1.0), b_std)
            for kind in ("nngp", "ntk"):
                kernel = net.kernel(kind)
                size = max(kernel.value_at_one, 1)
                series = kernel.taylor(300)
                assert isinstance(series, PowerSeries)
                assert np.abs(polyval(c, series) - kernel(c)).max() <= 1e-12 * size
                assert abs(series.sum() + series.tail - kernel(1.0)) <= 1e-13 * size
                assert series.min() >= 0
                assert series.error.max() <= 1e-12 * size
        own = kernel.taylor(800, w_std=net.w_std, b_std=b_std)
        rho = (net.w_std**2 * c + b_std**2) / (net.w_std**2 + b_std**2)
        assert np.abs(polyval(rho, own) - kernel(c)).max() <= 1e-12 * size


def test_a_logarithmic_cusp():
    """φ = z log|z| + max(z, 0) near 0, and tame beyond."""
    family = ActivationFamily(
        "cusp",
        lambda z, p: (
            0.5 * z * math.log(z * z + 1e-300) + (z if z > 0 else 0.0),
            0.5 * math.log(z * z + 1e-300) + 1.0 + (1.0 if z > 0 else 0.0),
        ),
        formula="z*log(abs(z)) + max(z, 0)",
        kinks=lambda p: [Kink(0.0, slope_jump=1.0, log_slope=1.0)],
    )
    c = np.array([-0.9, -0.4, 0.0, 0.5, 0.9])
    for depth, kind in ((1, "ntk"), (2, "nngp"), (3, "ntk")):
        kernel = FCN(Activation(family, ()), depth, 1.1, 0.2).kernel(kind)
        series = kernel.taylor(300)
        assert np.abs(polyval(c, series) - kernel(c)).max() <= 1e-12 * kernel(1.0)
        assert series.min() >= 0


@pytest.mark.parametrize(
    ("name", "even"),
    [("erf", False), ("sin", False), ("tanh", False), ("abs", True), ("cos", True), ("sign", False)],
)
def test_parity_gives_zeros(name, even):
    for depth in (1, 3):
        for kind in ("nngp", "ntk"):
            series = FCN(name, depth).kernel(kind).taylor(200)
            if even and kind == "nngp":
                assert not series[1::2].any()
            if not even:
                assert not series[::2].any()
                assert series[1] > 0


def test_deep_networks_that_draw_points_together():
    """24 layers and a kink off 0: δ falls below 1e-9, where no sum of the jump part is long enough."""
    phi = activation("max(z + 0.2, 0)")
    kernel = FCN(phi, 24, 0.9, 0.6).kernel("ntk")
    series = kernel.taylor(300)
    c = np.array([-0.8, 0.0, 0.8])
    assert np.abs(polyval(c, series) - kernel(c)).max() <= 1e-13 * kernel(1.0)


def test_standard_parameterization():
    c = np.array([-0.8, 0.0, 0.8])
    for depth in (1, 3):
        net = FCN("erf", depth, 1.2, 0.4, parameterization="standard", width=64)
        kernel = net.kernel("ntk", n_inputs=10)
        for std in ((1.0, 0.0), (1.2, 0.4)):
            series = kernel.taylor(300, w_std=std[0], b_std=std[1])
            rho = (std[0] ** 2 * c + std[1] ** 2) / (std[0] ** 2 + std[1] ** 2)
            assert np.abs(polyval(rho, series) - kernel(c)).max() <= 1e-12 * kernel(1.0)


# --- the parts ------------------------------------------------------------------------------------------------


def test_continuation_agrees_with_the_kernel_on_the_line():
    c = np.array([-1.0, -0.99, -0.2, 0.0, 0.5, 0.999, 1.0])
    for name in (
        "relu",
        "gelu",
        "tanh",
        "elu",
        "relu2_cos",
        "max(z - 1, 0) + max(z + 1, 0)**2 + step(z - 1/2)/5",
    ):
        for kind in ("nngp", "ntk"):
            kernel = FCN(name, 2, 0.8, 0.1).kernel(kind)
            found = kernel._complex(c.astype(complex))
            assert np.abs(found - kernel(c)).max() <= 1e-13 * kernel(1.0)


def test_complex_deficits_against_mehler_sums():
    """All orders of jumps at −0.7, 0 and 1.1, |ρ| = 0.95: the integrals against sums of (∫ f h_k p)² by quadrature."""
    locations, jumps = np.array([-0.7, 0.0, 1.1]), np.random.default_rng(0).normal(size=(3, 4))
    rho = 0.95 * np.exp(1j * np.linspace(0, math.pi, 41))
    z, density = normal_rule(locations, panels=200)
    over = np.maximum(z[:, None] - locations, 0.0)
    powers = [(over > 0).astype(float), over, over**2 / 2, over**3 / 6]
    value = sum((powers[m] * jumps[:, m]).sum(axis=1) for m in range(4))
    slope = sum((powers[m - 1] * jumps[:, m]).sum(axis=1) for m in range(1, 4))
    h = hermite_table(z, 700)
    a, b = h @ (value * density), h @ (slope * density)
    size, rest = (value**2) @ density, slope**2 @ density
    lost, derivative = complex_deficits(locations, jumps, 1 - rho)
    assert np.abs(lost - (size - polyval(rho, a**2))).max() <= 1e-12 * size
    assert np.abs(derivative - polyval(rho, b**2)).max() <= 1e-12 * rest


def test_mehler_sums_and_integrals_meet():
    """Points on both sides of the longest sum give one function: no step where the method changes."""
    here = ComplexDual(dual(activation("max(z - 1, 0) + z/2"), 1.3))
    edge = 33.0 / MOST_TERMS
    turn = np.exp(0.3j)
    found = here.evaluate(1 - turn * np.exp(-edge * np.array([1.001, 0.999])))
    for values in (found.gap, found.derivative):
        assert abs(values[0] - values[1]) <= 2e-6 * abs(values[0])
        assert abs(values[0] - values[1]) > 0


def test_a_plugin_with_a_closed_form_of_its_own_goes_through_its_series():
    """A family that only looks like relu: the closed forms are found by the function, not by the name."""
    built_in = activation("relu").family
    family = ActivationFamily(
        "relu", lambda z, p: (abs(z), np.sign(z)), formula="abs(z)", kinks=lambda p: [Kink(0.0, slope_jump=2.0)],
        coefficients=activation("abs").family.coefficients, moments=activation("abs").family.moments,
        dual=lambda s, t, a, b, delta, eta, p: activation("abs").family.dual(s, t, a, b, delta, eta, p),
    )  # fmt: skip
    assert family.name == built_in.name
    kernel = FCN(Activation(family, ()), 2).kernel("ntk")
    series = FCN("abs", 2).kernel("ntk").taylor(50)
    assert np.abs(kernel.taylor(50) - series).max() <= 1e-14


# --- errors ---------------------------------------------------------------------------------------------------


def test_a_variable_with_more_bias_than_the_network_is_refused():
    kernel = FCN("relu", 2, b_std=0.1).kernel("ntk")
    with pytest.raises(
        InputError, match=r"b_std/w_std is 0\.2/1, larger than the network's own 0\.1: .* b_std <= 0\.1·w_std"
    ):
        kernel.taylor(5, b_std=0.2)
    assert kernel.taylor(5, w_std=2.0, b_std=0.2).shape == (6,)


def test_polynomials_take_any_variable():
    """K is a polynomial: 2 layers of z + z²/2 have degree 4; in a variable with biases it keeps its value at every c."""
    kernel = FCN(activation("polynomial", coefficients=[0.0, 1.0, 0.5]), 2).kernel("ntk")
    series = kernel.taylor(6, b_std=0.7)
    c = np.linspace(-1, 1, 9)
    assert np.abs(polyval((c + 0.49) / 1.49, series) - kernel(c)).max() <= 1e-12 * kernel(1.0)
    assert not series[5:].any()


def test_points_outside_the_disk_are_refused():
    kernel = FCN("relu", b_std=1.0).kernel("ntk")
    assert np.isfinite(kernel._complex(np.array([-2.9 + 0j]))).all()
    with pytest.raises(InputError, match=r"c has the value -3\.1.* b_std=1"):
        kernel._complex(np.array([-3.1 + 0j]))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"degree": -1}, "degree"),
        ({"degree": 2.5}, "degree"),
        ({"degree": 3, "w_std": 0.0}, "w_std is 0"),
        ({"degree": 3, "b_std": math.nan}, "b_std is nan"),
    ],
)
def test_bad_arguments(arguments, text):
    with pytest.raises(InputError, match=text):
        FCN("relu").kernel("ntk").taylor(**arguments)
