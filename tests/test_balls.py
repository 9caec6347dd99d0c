"""Network kernels as power series of balls: they enclose the truth, and are as narrow as their precision promises."""

import math
from types import SimpleNamespace

import flint
import mpmath as mp
import numpy as np
import pytest

import ntkengine as nk
from ntkengine.activations import Activation, ActivationFamily, Kink
from ntkengine.infinite import _balls
from ntkengine.kernels.taylor import balls, exact
from tests.oracles import kernels as oracle
from tests.oracles import limit as series_oracle

FAMILIES = {
    "identity": {},
    "relu": {},
    "abs": {},
    "leaky_relu": {"slope": -0.3},
    "abrelu": {"a": 0.4, "b": -1.2},
    "erf": {"a": 1.3, "b": 0.7, "c": 0.4},
    "sin": {"a": 0.9, "b": 1.4, "c": 0.3},
    "cos": {"a": -1.1, "b": 0.8, "c": -0.5},
    "rbf": {"gamma": 0.4},
    "exp": {"a": 0.6, "b": 0.5},
    "gaussian": {"a": 1.2, "b": -0.6},
    "monomial": {"degree": 3},
    "polynomial": {"coefficients": [0.2, -0.5, 0.3]},
    "hermite": {"coefficients": [0.1, 0.7, 0.0, -0.4]},
}
#: Their squares are floats, so that the truth is one number.
STDS = {"w_std": 1.125, "b_std": 0.25, "readout_w_std": 0.75, "readout_b_std": 0.5}


def network(name, depth, kind="ntk", **options):
    return nk.FCN(nk.activation(name, **FAMILIES[name]), depth=depth, **{**STDS, **options}).kernel(kind)


def coefficients(kernel, degree, precision=128):
    """Balls of the coefficients in c."""
    with balls(precision, degree):
        found = _balls.network_series(kernel, flint.arb_series([0, 1])).coeffs()
        return found + [flint.arb(0)] * (degree + 1 - len(found))


def values(kernel, c, precision=128):
    with balls(precision, 0):
        return [_balls.network_series(kernel, flint.arb_series([x])).coeffs()[0] for x in c]


# --- values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize("name", FAMILIES)
def test_values_are_those_of_the_kernel(name, kind):
    c = np.array([-0.95, -0.4, 0.0, 0.3, 0.9])
    for depth in (1, 3):
        kernel = network(name, depth, kind)
        found = values(kernel, c)
        np.testing.assert_allclose(
            [float(b.mid()) for b in found], kernel(c), rtol=0, atol=2e-14 * kernel(1.0)
        )
        assert max(float(b.rad()) for b in found) < 1e-30 * kernel(1.0)


@pytest.mark.parametrize(("dual", "name"), [
    (oracle.relu_dual, "relu"),
    (oracle.leaky_dual(mp.mpf(-0.3), 1), "leaky_relu"),
    (oracle.leaky_dual(mp.mpf(0.4), mp.mpf(-1.2)), "abrelu"),
    (oracle.leaky_dual(-1, 1), "abs"),
])  # fmt: skip
def test_balls_enclose_the_truth_to_forty_digits(dual, name):
    for depth in (1, 4):
        for c in (-0.7, 0.25, 0.875):
            truth = oracle.kernels(dual, depth, 1.125, 0.25, mp.mpf(1) - mp.mpf(c), readout=(0.75, 0.5))
            for kind, wanted in zip(("nngp", "ntk"), truth):
                with mp.workdps(40):
                    text = mp.nstr(wanted, 36)
                with balls(160, 0):
                    (ball,) = _balls.network_series(
                        network(name, depth, kind), flint.arb_series([c])
                    ).coeffs()
                    assert ball.overlaps(flint.arb(text) + flint.arb(0, 1e-33))
                    assert float(ball.rad()) < 1e-35


@pytest.mark.parametrize(("name", "dual"), [("erf", oracle.erf_dual), ("gaussian", oracle.gaussian_dual)])
def test_smooth_families_to_forty_digits(name, dual):
    phi = {"erf": {"a": 1.3, "b": 0.75}, "gaussian": {"b": -0.5}}[name]
    kernel = nk.FCN(nk.activation(name, **phi), depth=2, **STDS).kernel("ntk")
    c = 0.375
    _, wanted = oracle.kernels(
        dual(*map(mp.mpf, phi.values())), 2, 1.125, 0.25, mp.mpf(1) - c, readout=(0.75, 0.5)
    )
    with mp.workdps(40):
        text = mp.nstr(wanted, 36)
    with balls(160, 0):
        (ball,) = _balls.network_series(kernel, flint.arb_series([c])).coeffs()
        assert ball.overlaps(flint.arb(text) + flint.arb(0, 1e-33))


@pytest.mark.parametrize("options", [
    {"b_std": 0.0},
    {"readout_b_std": 0.0, "w_std": 0.5},
    {"radial_lift": True},
    {"parameterization": "standard", "width": 300},
])  # fmt: skip
def test_other_networks(options):
    c = np.array([-0.6, 0.1, 0.8])
    stds = {**STDS, **options}
    n_inputs = 7 if "parameterization" in options else None
    for kind in ("ntk", "nngp"):
        kernel = nk.FCN("relu", depth=3, **stds).kernel(kind, n_inputs=n_inputs)
        found = [float(b.mid()) for b in values(kernel, c)]
        np.testing.assert_allclose(found, kernel(c), rtol=1e-13)


# --- coefficients -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize("name", FAMILIES)
def test_coefficients_are_those_of_the_kernel(name, kind):
    """Against Cauchy's integral of the kernel continued into the disk."""
    for depth in (1, 2):
        kernel = network(name, depth, kind)
        found, series = coefficients(kernel, 40), kernel.taylor(40)
        wanted, bound = np.asarray(series), series.error + 2e-15 * np.abs(np.asarray(series)) + 1e-30
        assert (np.abs([float(b.mid()) for b in found] - wanted) <= 4 * bound).all()


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize(("name", "depth"), [("relu", 1), ("relu", 3), ("erf", 4)])
def test_coefficients_by_recurrences_of_positive_terms(name, depth, kind):
    dual = getattr(series_oracle, name)
    wanted = series_oracle.network(dual, depth, 1.25, 0.25, 120)[kind == "ntk"]
    kernel = nk.FCN(name, depth=depth, w_std=1.25, b_std=0.25).kernel(kind)
    found = coefficients(kernel, 120, 256)
    for ball, b in zip(found, wanted):
        assert float(ball.mid()) == pytest.approx(float(b), rel=1e-15 if b > 1e-300 else 0, abs=1e-24)
        assert b == 0 or float(ball.rad()) < 1e-25 * float(b)


def test_small_coefficients_keep_their_digits():
    """Of an erf network b_k falls by e^-0.5 a degree, far below the rounding of K; its sum at |z| = 8 needs them."""
    kernel = nk.FCN("erf").kernel("ntk")
    found = exact(kernel, 100)
    k = np.arange(1, 100, 2)
    # K = Σ (2/π) binomial s^k/k-type series: b_k = (1 + k) (2/π) C s^k/k with s = 2/3, C the coefficients of (1 − x²)^-1/2
    central = np.concatenate([[1.0], np.cumprod((2 * np.arange(1, k.size) - 1) / (2 * np.arange(1, k.size)))])
    wanted = (1 + k) * 2 / math.pi * central / k * (2 / 3) ** k
    np.testing.assert_allclose(np.asarray(found)[1::2], wanted, rtol=2e-14)
    assert not np.asarray(found)[::2].any()
    assert (found.error[1::2] <= 1e-15 * wanted).all()


def test_precision_pays():
    kernel = network("relu", 3)
    rough, fine = coefficients(kernel, 60, 64), coefficients(kernel, 60, 256)
    for a, b in zip(rough, fine):
        assert a.overlaps(b)
    assert max(float(b.rad()) for b in fine) < 1e-40 < max(float(a.rad()) for a in rough)


# --- what there is ------------------------------------------------------------------------------------------------


def test_activations_without_a_closed_form_have_none():
    for name in ("tanh", "gelu", "step", "max(z, 0) + 0.1*cos(z)"):
        kernel = nk.FCN(name).kernel("ntk")
        assert not _balls.has_balls(kernel)
        assert _balls.network_series(kernel, flint.arb_series([0, 1])) is None
    for name in FAMILIES:
        assert _balls.has_balls(network(name, 1))


def test_an_activation_that_only_has_the_name_has_none():
    """Balls belong to the closed form, not to the name: a plugin's "relu" may be another function."""
    family = ActivationFamily(
        "relu", lambda z, p: (abs(z), np.sign(z)), "abs(z)", kinks=lambda p: [Kink(0.0, slope_jump=2.0)]
    )
    kernel = SimpleNamespace(fcn=nk.FCN(Activation(family, ())))
    assert kernel.fcn.activation.name == "relu"
    assert not _balls.has_balls(kernel)
    assert _balls.network_series(kernel, flint.arb_series([0, 1])) is None


def test_flints_settings_come_back():
    before = flint.ctx.prec, flint.ctx.cap
    exact(network("relu", 2), 30)
    nk.reverse_engineer(network("erf", 2), degree="all")
    assert (flint.ctx.prec, flint.ctx.cap) == before
