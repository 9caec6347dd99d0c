"""The theorem's series summed to all degrees: φ, φ', kernel and size, against sums and integrals of the tests' own."""

import functools
import math

import numpy as np
import pytest

import ntkengine as nk
from ntkengine.design import limit
from ntkengine.errors import AccuracyWarning, InputError
from tests.oracles import limit as oracle

#: Of the target networks: [RE] takes σ_w = √2, σ_b = 0.1.
W_STD, B_STD = 2**0.5, 0.1
DEGREE = 4096
GOOD = 1e-6


@functools.cache
def network(name, depth):
    return nk.FCN(name, depth=depth, w_std=W_STD, b_std=B_STD).kernel("ntk")


@functools.cache
def deep_design(name, depth):
    return nk.reverse_engineer(network(name, depth), degree="all")


@functools.cache
def named_design(name, kind="ntk"):
    return nk.reverse_engineer(name, kind, "all")


@functools.cache
def network_coefficients(name, depth, kind="ntk"):
    nngp, ntk = oracle.network(getattr(oracle, name), depth, W_STD, B_STD, DEGREE)
    return oracle.hermite_coefficients(ntk if kind == "ntk" else nngp, kind)


def laplace_coefficients():
    return oracle.hermite_coefficients(oracle.laplace(DEGREE), "ntk")


#: Design and a_k of the tests' own; the last two fall faster than any power.
SUMS = {
    "2HL relu": lambda: (deep_design("relu", 2), network_coefficients("relu", 2)),
    "4HL relu": lambda: (deep_design("relu", 4), network_coefficients("relu", 4)),
    "laplace": lambda: (named_design("laplace"), laplace_coefficients()),
    "4HL erf": lambda: (deep_design("erf", 4), network_coefficients("erf", 4)),
    "exponential": lambda: (
        named_design("exponential"),
        oracle.hermite_coefficients(oracle.exponential(200), "ntk"),
    ),
}


def assert_sums(design, a, good=GOOD):
    """φ on |z| <= 8, within what the design says of itself too."""
    size = float(np.sqrt(a @ a))
    inner = np.concatenate([-np.geomspace(3.0, 1e-6, 40), [0.0], np.geomspace(1e-6, 3.0, 40)])
    outer = np.concatenate([np.linspace(-8.0, -3.0, 61), np.linspace(3.0, 8.0, 61)])
    if a[-1] < 1e-20:  # nothing left to extrapolate
        z = np.concatenate([inner, outer]).astype(np.longdouble)
        expected, doubt = oracle.hermite_sums(oracle.signed(a)[None], z)[0].astype(float), 0.0
    else:
        far, estimate = oracle.abel(a, outer, orders=12)
        expected, doubt = np.concatenate([oracle.near(a, inner)[0], far]), float(estimate.max())
        assert doubt < 1e-8 * size
    error = np.abs(design.activation(np.concatenate([inner, outer])) - expected).max()
    assert error <= good * size
    assert error <= 1.5 * design.limit.error * size + doubt


def test_oracles_agree_with_each_other_where_both_hold():
    a = network_coefficients("relu", 4)
    z = np.array([-4.0, -3.0, 3.0, 4.0])
    far, doubt = oracle.abel(a, z, orders=12)
    np.testing.assert_allclose(oracle.near(a, z)[0], far, atol=1e-7)
    assert doubt.max() < 1e-9
    for theta in (0.3, 2.0):
        nngp, ntk = oracle.kernels(lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0, theta)
        expected = (math.sin(theta) + (math.pi - theta) * math.cos(theta)) / (2 * math.pi)
        assert nngp == pytest.approx(expected, abs=1e-12)
        assert ntk - nngp == pytest.approx((math.pi - theta) / (2 * math.pi) * math.cos(theta), abs=1e-12)


@pytest.mark.parametrize("name", SUMS)
def test_phi_is_the_sum_of_the_whole_series(name):
    design, a = SUMS[name]()
    assert_sums(design, a)
    assert design.limit.error <= GOOD


@pytest.mark.heavy
@pytest.mark.filterwarnings(
    "ignore::ntkengine.errors.AccuracyWarning"
)  # of E[φ'φ'], which the NNGP kernel does not have
@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize(("name", "depth"), [("relu", 2), ("relu", 8), ("relu", 16), ("erf", 4)])
def test_phi_is_the_sum_for_more_networks(name, depth, kind):
    kernel = nk.FCN(name, depth=depth, w_std=W_STD, b_std=B_STD).kernel(kind)
    assert_sums(nk.reverse_engineer(kernel, kind, "all"), network_coefficients(name, depth, kind))


def test_nngp_of_relu_whose_coefficients_drown_in_rounding():
    # a_k² = b_k falls like k^-2.5, to 1e-10 of K(1) where the extrapolation begins.
    kernel = network("relu", 4).fcn.kernel("nngp")
    assert_sums(nk.reverse_engineer(kernel, "nngp", "all"), network_coefficients("relu", 4, "nngp"))


def test_other_input_variances_scale_z():
    a, stds = laplace_coefficients(), {"w_std": 1.7, "readout_w_std": 0.6}
    design = nk.reverse_engineer("laplace", "ntk", "all", **stds)
    z = np.linspace(-8.0, 8.0, 401)
    reference = named_design("laplace").activation(z) / 0.6
    np.testing.assert_allclose(design.activation(1.7 * z), reference, atol=3e-7)
    assert f"|z| <= {8 * 1.7:.3g}" in design.report()
    assert float(np.sqrt(a @ a)) == pytest.approx(float(np.linalg.norm(design.coefficients)) * 0.6, rel=1e-2)


@pytest.mark.parametrize("w_std", [0.6, 0.1, 1e-2, 1e-3, 1e-4])
def test_narrow_inputs_keep_the_digits(w_std):
    """The cusp scales with the input: so do the nodes that follow it."""
    design, plain = nk.reverse_engineer("laplace", degree="all", w_std=w_std), named_design("laplace")
    z = np.linspace(-8.0, 8.0, 401)
    np.testing.assert_allclose(design.activation(w_std * z), plain.activation(z), atol=3e-8)
    assert design.limit.error < 3e-8
    assert design.max_error < 5e-8


@pytest.mark.parametrize("name", SUMS)
def test_hermite_coefficients_of_phi(name):
    design, a = SUMS[name]()
    side, w = oracle.half_line(reach=13.0)
    z, w = (
        np.concatenate([-side, side]),
        np.concatenate([w, w]) * np.exp(-(np.concatenate([side, side]) ** 2) / 2),
    )
    phi = design.activation(z) * w / math.sqrt(2 * math.pi)
    before, here = np.zeros_like(z), np.ones_like(z)
    signed = oracle.signed(a)
    for k in range(61):
        if k:
            before, here = here, (z * here - math.sqrt(k - 1) * before) / math.sqrt(k)
        assert abs(float(phi @ here) - float(signed[k])) <= GOOD


def test_integral_representation():
    """Where e_k = a_k/|h_k(0)| or a_k/|h_k'(0)| are moments of a known measure, φ is that mixture of bell curves.

    Chosen: even a_k = |h_k(0)|/(m + 1) = |h_k(0)| ∫ t^{2m} 2t dt, odd a_k = |h_k'(0)|/(m + 2)², the moments of −4 t³ log t.
    """
    from scipy.integrate import quad

    m = np.arange(DEGREE)
    unit = np.concatenate([[1.0], np.cumprod(np.sqrt((2 * m[1:] - 1) / (2 * m[1:])))])
    a = np.empty(2 * m.size)
    a[::2], a[1::2] = unit / (m + 1), unit * np.sqrt(2 * m + 1.0) / (m + 2.0) ** 2
    made = limit.limit(a, 1e-16 * a, 1.0, settled=False)
    assert made.exponent == 1.25

    def even(t, z):
        return 2 * t * math.exp(-z * z * t * t / 2 / (1 - t * t)) / math.sqrt(1 - t * t)

    def odd(t, z):
        return -4 * t**3 * math.log(t) * z * math.exp(-z * z * t * t / 2 / (1 - t * t)) * (1 - t * t) ** -1.5

    for z in (0.03, 0.5, 1.0, 3.0, 7.5):
        options = {"args": (z,), "limit": 400, "epsabs": 1e-11, "points": [0.9, 0.99, 0.9999]}
        sums = [quad(f, 0, 1, **options)[0] for f in (even, odd)]
        for sign in (1, -1):
            assert float(made.activation(sign * z)) == pytest.approx(sums[0] + sign * sums[1], abs=1e-6)


# --- how large φ is ---------------------------------------------------------------------------------------------


def test_four_relu_layers_are_bounded_and_flat():
    design = deep_design("relu", 4)
    z = np.linspace(-8.0, 8.0, 16001)
    phi = design.activation(z)
    assert design.limit.bound == pytest.approx(np.abs(phi).max(), abs=1e-6)
    assert np.abs(phi).max() <= 2.4
    density = np.exp(-z * z / 2)
    kurtosis = (phi**4 @ density) * density.sum() / (phi**2 @ density) ** 2
    assert kurtosis == pytest.approx(1.73, abs=0.01)
    assert design.moments.kurtosis == pytest.approx(kurtosis, abs=0.002)
    # a_k falls like k^-5/4, as those of any kernel with K(1) − K(c) ~ √(1 − c)
    assert design.limit.exponent == 1.25


@pytest.mark.parametrize("name", ["gaussian", "exponential", "laplace"])
def test_named_kernels_stay_bounded(name):
    assert named_design(name).limit.bound <= 2.0


def test_other_signs_do_not():
    a = np.abs(deep_design("relu", 4).coefficients[:401]).astype(np.longdouble)
    z = np.linspace(-5, 5, 201).astype(np.longdouble)
    plus = np.abs(oracle.hermite_sums(a[None], z)[0]).max()
    paper = np.abs(oracle.hermite_sums(oracle.signed(a)[None], z)[0]).max()
    assert paper < 2.5
    assert plus > 150


# --- the kernel -------------------------------------------------------------------------------------------------

ANGLES = [0.0, 1e-4, 1e-2, 0.1, 0.3, 0.7, 1.2, 1.6, 2.1, 2.6, 3.0, math.pi]
KERNELS = {
    "2HL relu": (lambda: deep_design("relu", 2), lambda t: oracle.deep_ntk("relu", 2, W_STD, B_STD, t)),
    "4HL relu": (lambda: deep_design("relu", 4), lambda t: oracle.deep_ntk("relu", 4, W_STD, B_STD, t)),
    "8HL relu": (lambda: deep_design("relu", 8), lambda t: oracle.deep_ntk("relu", 8, W_STD, B_STD, t)),
    "16HL relu": (lambda: deep_design("relu", 16), lambda t: oracle.deep_ntk("relu", 16, W_STD, B_STD, t)),
    "4HL erf": (lambda: deep_design("erf", 4), lambda t: oracle.deep_ntk("erf", 4, W_STD, B_STD, t)),
    "laplace": (lambda: named_design("laplace"), lambda t: np.exp(-2 * np.sin(t / 2))),
    "gaussian": (lambda: named_design("gaussian"), lambda t: np.exp(-4 * np.sin(t / 2) ** 2)),
    "exponential": (lambda: named_design("exponential"), lambda t: np.exp(np.cos(t))),
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_of_phi_is_the_target_by_independent_quadrature(name):
    """To 1e-6 of K(1): the bar is 1e-4."""
    made, target = KERNELS[name]
    phi = made().activation
    top = float(target(np.float64(0.0)))
    for theta in ANGLES:
        _, ntk = oracle.kernels(phi, phi.derivative, theta, octaves=22)
        assert abs(ntk - float(target(np.float64(theta)))) <= 1e-6 * top
    assert made().max_error <= 1e-6 * top


#: Laws a_k ~ k^−τ that are no multiples of 1/8, singularities outside the disk, designs with a bias ratio of their own; and τ.
MORE = {
    "1 - ((1-c)/2)**0.7": ({}, 1.35),
    "((1-c)/2)**1.3 + 2*c + 3*c**2": ({}, 1.65),
    "2 - ((1-c)/2)**0.5 - 0.5*((1.01+c)/2)**0.5 + 2*c": ({}, 1.25),
    "2 - ((1.01-c)/2)**0.5": ({}, math.inf),
    "1/(1 - 0.99*c)": ({}, math.inf),
    "exp(400*(c-1))": ({}, math.inf),
    "network": ({"w_std": 1.5, "b_std": 0.05}, 1.25),
    "the network's own": ({"w_std": 1.5, "b_std": B_STD / W_STD * 1.5}, 1.25),
}


@pytest.mark.filterwarnings(
    "ignore::ntkengine.errors.AccuracyWarning"
)  # of the package's kernel of φ, not of φ
@pytest.mark.parametrize("name", MORE)
def test_kernel_of_phi_for_less_simple_series(name):
    stds, tau = MORE[name]
    design = nk.reverse_engineer(network("relu", 4) if "network" in name else name, degree="all", **stds)
    w, b = stds.get("w_std", 1.0), stds.get("b_std", 0.0)
    q, top = w * w + b * b, float(design.target(1.0))
    root = math.sqrt(q)
    for theta in (0.0, 0.01, 0.3, 1.2, 2.5, math.pi):
        angle = math.acos((w * w * math.cos(theta) + b * b) / q)
        _, ntk = oracle.kernels(
            lambda z: design.activation(root * z), lambda z: root * design.activation.derivative(root * z), angle, octaves=22
        )  # fmt: skip
        assert abs(ntk - float(design.target.at_angle(theta))) <= 1e-4 * top
    assert design.limit.exponent == pytest.approx(tau, abs=1e-9)
    assert design.limit.error < 2e-5
    assert design.activation.family.accuracy >= 1e-6


def test_exponents_need_not_be_fractions():
    """The power law of a known series, e_k = B(m+1, γ+1) + B(m+1, γ+2)/3 with γ of no simple form."""
    from scipy.special import beta

    m, gamma = np.arange(DEGREE), math.pi / 20
    unit = np.concatenate([[1.0], np.cumprod(np.sqrt((2 * m[1:] - 1) / (2 * m[1:])))])
    a = np.zeros(2 * m.size)
    a[::2] = unit * (beta(m + 1, gamma + 1) + beta(m + 1, gamma + 2) / 3)
    found = limit.limit(a, 1e-10 * a, 1.0, settled=False)  # that of SciPy's beta
    assert found.exponent == pytest.approx(gamma + 1.25, abs=2e-7)


def test_noise_of_coefficients_that_are_zero_counts():
    a = 0.5 ** np.arange(64.0)
    a[10] = 0.0
    noise = np.zeros(64)
    exact = limit.limit(a, noise, 1.0, settled=True)
    noise[10] = 1e-3 * np.linalg.norm(a)
    with pytest.warns(nk.errors.AccuracyWarning, match="good to about"):
        unsure = limit.limit(a, noise, 1.0, settled=True)
    assert exact.activation.family.accuracy == 1e-6
    assert unsure.activation.family.accuracy == pytest.approx(1e-3, rel=0.01)
    h = abs(
        float(
            oracle.hermite_sums(np.eye(11)[10:].astype(np.longdouble), np.array([8.0], np.longdouble))[0, 0]
        )
    )
    assert unsure.error >= 0.3 * 1e-3 * h


def test_advice_about_the_bias():
    assert limit.bias_advice(0.1, 1.0, 0.1) == limit.bias_advice(0.0, 1.0, 0.0) == ""
    assert "choose b_std = 0.03, the" in limit.bias_advice(0.03, 1.0, 0.0)
    assert "or at most" not in limit.bias_advice(0.03, 1.0, 0.0)
    text = limit.bias_advice(B_STD / W_STD, 1.5, 0.1)
    assert text.startswith(
        f"choose b_std = {B_STD / W_STD * 1.5:.15g}, the b_std/w_std of the target network, or at most 0.066"
    )
    most = {"w_std": 1.5, "b_std": 0.066}
    assert nk.reverse_engineer(network("relu", 4), degree="all", **most).limit.error < GOOD


def test_the_error_of_phi_does_not_depend_on_the_readout():
    """It is relative, and φ the same function times 1/ω_w; coefficients that are 0 only to rounding are in it."""
    tanh = nk.FCN("tanh", depth=2).kernel("ntk")
    with pytest.warns(AccuracyWarning, match="only"):
        made = [nk.reverse_engineer(tanh, degree="all", readout_w_std=w) for w in (1e-3, 1.0, 1e3)]
    np.testing.assert_allclose([one.limit.error for one in made], made[1].limit.error, rtol=1e-6)


# --- the derivative ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["4HL relu", "laplace"])
def test_derivative_near_the_cusp(name):
    design, a = SUMS[name]()
    phi = design.activation
    z = np.geomspace(1e-6, 1.0, 60)
    z = np.concatenate([-z[::-1], z])
    _, slope = oracle.near(a, z)
    np.testing.assert_allclose(phi.derivative(z), slope, rtol=1e-5, atol=1e-5)
    step = 1e-3 * np.abs(z)  # differences of the oracle's φ: away from 0 they have the digits
    values, _ = oracle.near(a, np.concatenate([z - step, z + step]))
    difference = (values[z.size :] - values[: z.size]) / (2 * step)
    away = np.abs(z) > 1e-3
    np.testing.assert_allclose(phi.derivative(z)[away], difference[away], rtol=1e-4)
    # The cusp: φ' = log_slope·log|z| + ..., and a jump between the sides.
    (cusp,) = [kink for kink in phi.kinks if kink.location == 0]
    right, left = phi.derivative(np.array([1e-3, 1e-5])), phi.derivative(np.array([-1e-3, -1e-5]))
    assert (right[1] - right[0]) / math.log(1e-2) == pytest.approx(cusp.log_slope, rel=0.01)
    assert (left[1] - left[0]) / math.log(1e-2) == pytest.approx(cusp.log_slope, rel=0.01)
    assert right[1] - left[1] == pytest.approx(cusp.slope_jump, rel=1e-3)


def test_derivative_elsewhere_is_the_slope_of_phi():
    for name in SUMS:
        phi = SUMS[name]()[0].activation
        z = np.concatenate([np.linspace(-8.0, -0.5, 200), np.linspace(0.5, 8.0, 200)])
        h = 1e-4
        np.testing.assert_allclose(phi.derivative(z), (phi(z + h) - phi(z - h)) / (2 * h), atol=2e-4)


# --- what has no limit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "kind", "text"), [
    ("laplace", "nngp", "no finite value at 0"),
    (nk.FCN("step").kernel("nngp"), "nngp", "no finite value at 0"),
    (nk.FCN("step").kernel("ntk"), "nngp", "no finite value at 0"),
    (nk.FCN("step", depth=3).kernel("ntk"), "ntk", "fixed power of the degree"),
    (nk.FCN("step", 2, 1.5, 0.1).kernel("ntk"), "ntk",
     r"no fixed power of the degree .* continues it: the best misses \de-0\d of .* \(a_k falls like k\^-1.125 there\)"),
    ("2-(1-c)**0.3", "ntk", r"only \(the kernel is too steep at \|c\| = 1\); take a smoother kernel"),
    ("2-(1-c)**0.3", "nngp", "take a smoother kernel"),
    ("laplace", "nngp", 'take kind="ntk", a smoother kernel'),
    (nk.kernel_from_samples(np.linspace(-1, 1, 50), np.exp(np.linspace(-1, 1, 50))), "ntk",
     "high degrees of the series are not known; give a finite degree"),
    (nk.kernel("monomial", degree=30), "ntk", "high powers"),
    (nk.kernel("geometric", rate=0.998), "ntk", "not complete at degree 8192.*needs more terms.*give a finite degree"),
    ("1/(1 - 0.99999*c)", "ntk", "needs more terms"),
    ("2 - ((1.00001-c)/2)**0.5", "ntk", "needs more terms"),
    ("2 - ((1.000000001-c)/2)**0.5", "ntk", "needs more terms"),
    ("1 - ((1-c)/2)**0.3", "ntk", r"a cusp \|z\|\^0.8 at 0, too sharp"),
    ("1 - ((1-c)/2)**0.3", "nngp", "no finite value at 0"),
    ("1 - ((1-c)/2)**0.7", "nngp", "too sharp for a table"),
    (nk.kernel("gaussian", gamma=2000.0), "ntk", "high powers|oscillates too fast"),
])  # fmt: skip
def test_refusals(target, kind, text):
    with pytest.raises(InputError, match=text):
        nk.reverse_engineer(target, kind, "all")


@pytest.mark.heavy
def test_refusal_of_a_network_too_deep_for_these_degrees():
    kernel = nk.FCN("relu", depth=64, w_std=W_STD, b_std=B_STD).kernel("ntk")
    with pytest.raises(InputError, match=r"needs more terms|far beyond degree 8192"):
        nk.reverse_engineer(kernel, "ntk", "all")


@pytest.mark.parametrize("b_std", [0.09, 0.099])
def test_refusal_of_a_bias_near_the_networks_own(b_std):
    with pytest.raises(InputError, match="needs more terms"):
        nk.reverse_engineer(network("relu", 4), degree="all", w_std=W_STD, b_std=b_std)


def test_only_the_papers_signs_have_a_limit():
    for signs in ("plus", "concentrated", [1, 1, -1]):
        with pytest.raises(InputError, match="only the paper's signs"):
            nk.reverse_engineer("laplace", degree="all", signs=signs)


def test_report_says_how_the_series_falls():
    assert "like k^-1.25" in named_design("laplace").report()
    assert "faster than any power" in named_design("exponential").report()
    assert named_design("laplace").tail == 0.0
