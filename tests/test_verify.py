"""Designs at finite width: the empirical kernel by hand, its scatter against theory, the 1/√width law, z-scores, report."""

import dataclasses
import functools
import math

import numpy as np
import pytest

import ntkengine as nk
from ntkengine.design import signs
from ntkengine.design.verify import ANGLES, Verification
from ntkengine.errors import InputError

NETWORK = {"w_std": 1.3, "b_std": 0.4, "readout_w_std": 0.8, "readout_b_std": 0.3}


@functools.cache
def design(kind="ntk", degree=None, signs="smooth", **network):
    return nk.reverse_engineer("exp(c)", kind, degree, signs=signs, **network)


def by_hand(one, member, width, seed, d=16):
    """Kernel of one network between the first point and all, in float64 from its parameters; and the points."""
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1 << 20,)))
    frame, _ = np.linalg.qr(generator.standard_normal((d, 2)))
    theta = np.linspace(0.0, np.pi, ANGLES)
    x = np.sqrt(d) * (np.outer(np.cos(theta), frame[:, 0]) + np.outer(np.sin(theta), frame[:, 1]))
    fcn = one.fcn
    parameters = fcn.init(width=width, n_inputs=d, seed=seed, members=[member]).parameters()
    (w1, b1), (w2, _) = [
        (w[0].astype(float), None if b is None else b[0].astype(float)) for w, b in parameters
    ]
    z = fcn.w_std / math.sqrt(d) * x @ w1 + (0 if b1 is None else fcn.b_std * b1)
    phi, slope = fcn.activation.both(z)
    kernel = fcn.readout_w_std**2 / width * phi[0] @ phi.T
    if one.kind == "ntk":
        inputs = fcn.w_std**2 * np.cos(theta) + fcn.b_std**2
        kernel = kernel + fcn.readout_w_std**2 / width * inputs * ((slope * w2[:, 0] ** 2)[0] @ slope.T)
    return kernel + fcn.readout_b_std**2


@pytest.mark.parametrize("degree", [None, "all"])
@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_curves_are_the_networks_kernels(kind, degree):
    one = design(kind, degree, **NETWORK)
    found = one.verify(width=300, members=3, seed=7)
    for member in range(3):
        wanted = by_hand(one, member, 300, 7)
        np.testing.assert_allclose(found.curves[member], wanted, atol=2e-6 * one.target(1.0))
    np.testing.assert_array_equal(found.designed, one.kernel.at_angle(found.angles))
    np.testing.assert_array_equal(found.target, one.target.at_angle(found.angles))
    assert found.angles[[0, -1]].tolist() == [0.0, np.pi]
    assert found.curves.shape == (3, ANGLES)


def test_statistics_are_those_of_the_curves():
    found = design().verify(width=64, members=5, seed=1)
    sem = found.curves.std(axis=0, ddof=1) / math.sqrt(5)
    np.testing.assert_allclose(found.mean, found.curves.mean(axis=0))
    np.testing.assert_allclose(found.standard_error, sem)
    np.testing.assert_allclose(found.z, (found.mean - found.target) / sem)
    away = (found.curves - found.target).mean(axis=1)
    assert found.z_score == pytest.approx(away.mean() / (away.std(ddof=1) / math.sqrt(5)))
    assert found.rms_error == pytest.approx(math.sqrt(((found.curves - found.designed) ** 2).mean()))
    assert found.within == (np.abs(found.z) <= 3).mean()


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_z_scores_over_seeds_are_those_of_chance(kind):
    one = design(kind)
    scores = np.array([one.verify(width=256, members=24, seed=seed).z_score for seed in range(60)])
    # Student with 23 degrees of freedom: variance 23/21. Mean and mean square of 60 within 3.5 of their standard errors.
    spread = 23 / 21
    assert abs(scores.mean()) < 3.5 * math.sqrt(spread / 60)
    assert abs((scores**2).mean() / spread - 1) < 3.5 * math.sqrt(2.6 / 60)
    assert np.abs(scores).max() < 4.5


def test_a_wrong_kernel_is_noticed():
    one = design()
    wrong = dataclasses.replace(one, target=nk.kernel("1.03*exp(c)"))
    assert abs(wrong.verify(width=4096, members=32).z_score) > 4
    assert abs(one.verify(width=4096, members=32).z_score) < 4


@pytest.mark.parametrize(("kind", "degree"), [("ntk", None), ("nngp", None), ("ntk", "all")])
def test_error_falls_as_one_over_the_root_of_the_width(kind, degree):
    one, widths = design(kind, degree), [256, 512, 1024, 2048, 4096]
    errors = [one.verify(width=width, members=96, seed=3).rms_error for width in widths]
    slope = np.polyfit(np.log(widths), np.log(errors), 1)[0]
    assert abs(slope + 0.5) < 0.12


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_scatter_is_what_one_neuron_predicts(kind):
    """At c = 1 the relative variance is v/N; over all angles it is the criterion of the rule "concentrated"."""
    one = design(kind)
    found = one.verify(width=512, members=600, seed=5)
    top = found.curves[:, 0].var(ddof=1) * 512 / one.target(1.0) ** 2
    assert top == pytest.approx(one.neuron_variance, rel=0.25)
    a, chosen = np.abs(one.coefficients), np.sign(one.coefficients) + (one.coefficients == 0)
    predicted = signs.spread(a, chosen, kind, width=1 << 20)
    inner = slice(1, -1)  # trapezoids of the angle
    measured = (
        found.curves.var(axis=0, ddof=1)[inner].sum() + found.curves[:, [0, -1]].var(axis=0, ddof=1).sum() / 2
    )
    mean = (one.kernel.at_angle(found.angles) ** 2)[inner].sum() + (one.kernel.at_angle(found.angles) ** 2)[
        [0, -1]
    ].sum() / 2
    assert 512 * measured / mean == pytest.approx(predicted, rel=0.2)


def test_same_seed_same_bits_and_other_seeds_other_networks():
    one = design()
    first, again = one.verify(width=128, members=4, seed=2), one.verify(width=128, members=4, seed=2)
    np.testing.assert_array_equal(first.curves, again.curves)
    np.testing.assert_array_equal(one.verify(width=128, members=6, seed=2).curves[:4], first.curves)
    assert (one.verify(width=128, members=4, seed=3).curves != first.curves).any()


def test_the_lift_changes_nothing_on_the_sphere():
    plain, lifted = design(), design(radial_lift=True)
    np.testing.assert_allclose(
        lifted.verify(width=128, members=3).curves, plain.verify(width=128, members=3).curves, rtol=1e-5
    )


def test_other_numbers_of_inputs():
    for d in (2, 3, 50):
        found = design().verify(width=200, members=40, seed=1, n_inputs=d)
        assert abs(found.z_score) < 4


def test_report_and_progress():
    seen = []
    found = design().verify(
        width=128, members=4, seed=9, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    lines = found.report().splitlines()
    assert lines[0].split(None, 1) == ["networks", "4 of width 128, seed 9"]
    assert lines[1].split(None, 1) == [
        "z-score",
        f"{found.z_score:+.2f} (of the average over {ANGLES} angles)",
    ]
    assert f"{found.within:.0%} within 3 standard errors" in lines[2]
    assert f"{found.rms_error / np.e:.2%} of K(1)" in lines[3]
    assert isinstance(found, Verification)


def test_a_kernel_without_scatter():
    """A constant kernel: every network has it exactly, and nothing is divided by 0."""
    found = nk.reverse_engineer("4", "nngp", readout_b_std=2.0).verify(width=8, members=3)
    assert found.z_score == 0.0
    assert not found.z.any()
    assert found.within == 1.0
    assert "0.00% of K(1)" in found.report()


def test_networks_that_are_all_alike_and_wrong_are_infinitely_far():
    one = nk.reverse_engineer("4", "nngp", readout_b_std=2.0)
    for target, sign in (("3", 1), ("5", -1)):
        found = dataclasses.replace(one, target=nk.kernel(target)).verify(width=8, members=3)
        assert found.z_score == sign * math.inf
        assert (found.z == sign * math.inf).all()
        assert found.within == 0.0
        assert "inf (of the average over 33 angles): the networks are all alike, and up to" in found.report()
    found = Verification(8, 3, 0, np.zeros(2), np.array([[1.0, 2.0]] * 3), np.ones(2), np.array([1.0, 1.0]))
    assert found.z.tolist() == [0.0, math.inf]
    assert repr(found) == "<verification of 3 networks of width 8, seed 0, at 2 angles>"


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize("size", [1e-200, 1e-30, 1e30, 1e200])
def test_statistics_do_not_depend_on_the_size_of_the_kernel(size, kind):
    """By scaling φ of a design: what is a ratio stays, what is a kernel scales, nothing overflows or vanishes."""
    one, root = design(kind), math.sqrt(size)
    phi = nk.activation("hermite", coefficients=root * np.array(one.activation.parameters["coefficients"]))
    scaled = dataclasses.replace(
        one,
        target=size * one.target,
        fcn=nk.FCN(phi),
        target_values=size * one.target_values,
        values=size * one.values,
    )
    for name in ("neuron_variance", "kurtosis"):
        assert getattr(scaled.moments, name) == pytest.approx(getattr(one.moments, name), rel=1e-9)
    assert scaled.moments.second == pytest.approx(size * one.moments.second, rel=1e-9)
    assert scaled.rms_error == pytest.approx(size * one.rms_error, rel=1e-3)
    if size == 1e200:
        with pytest.raises(InputError, match=r"E\[φ⁴\] is .*e\+40.*divide the target kernel by its scale"):
            _ = scaled.moments.fourth
        with pytest.raises(InputError, match="the squared error is"):
            _ = dataclasses.replace(scaled, values=2 * scaled.values).squared_error
    lines = dict(line.split("  ", 1) for line in scaled.report().splitlines())
    assert not any(word in scaled.report() for word in ("inf", "nan"))
    assert lines["scatter"] == dict(line.split("  ", 1) for line in one.report().splitlines())["scatter"]
    found, plain = scaled.verify(width=64, members=3), one.verify(width=64, members=3)
    np.testing.assert_allclose(found.curves, size * plain.curves, rtol=1e-4, atol=1e-5 * size)
    np.testing.assert_allclose(found.standard_error, size * plain.standard_error, rtol=1e-3)
    assert found.z_score == pytest.approx(plain.z_score, rel=1e-3)
    assert found.rms_error == pytest.approx(size * plain.rms_error, rel=1e-3)
    assert found.report() == plain.report()


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_networks_with_standard_deviations_far_from_1(kind):
    """What overflows float32 between the layers is computed in float64: the same networks, the same statistics."""
    plain = nk.reverse_engineer("exp(c)", kind).verify(64, 3)
    for std in ({"readout_w_std": 1e-22}, {"readout_w_std": 1e22}, {"w_std": 1e-25}, {"w_std": 1e25}):
        found = nk.reverse_engineer("exp(c)", kind, **std).verify(64, 3)
        np.testing.assert_allclose(found.curves, plain.curves, rtol=1e-4)
        assert found.z_score == pytest.approx(plain.z_score, rel=1e-3)


def test_constants_do_not_scatter():
    for one in (nk.reverse_engineer("1"), nk.reverse_engineer("4", "nngp", readout_b_std=2.0)):
        assert one.neuron_variance == 0.0
        assert "0.00% of K(1) at width 4096 (v = 0)" in one.report()
        assert "inf" not in one.report()


def test_scatter_is_of_what_the_readout_bias_leaves():
    plain, shifted = design(), nk.reverse_engineer("exp(c) + 100", readout_b_std=10.0)
    assert shifted.neuron_variance == pytest.approx(plain.neuron_variance, rel=1e-6)
    part = math.sqrt(plain.neuron_variance / 4096) * math.e / (100 + math.e)
    assert f"{part:.2%} of K(1) at width 4096" in shifted.report()
    found = shifted.verify(width=512, members=400, seed=1)
    measured = found.curves[:, 0].std(ddof=1) / shifted.target(1.0)
    assert measured == pytest.approx(part * math.sqrt(8), rel=0.25)


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize("size", [1e2, 1e6])
def test_statistics_do_not_depend_on_the_bias_of_the_readout(size, kind):
    """The same networks; float32 must not round away what they add to ω_b²."""
    plain = nk.reverse_engineer("c**3 + c", kind)
    shifted = nk.reverse_engineer(f"{size:.0f} + c**3 + c", kind, 3, readout_b_std=math.sqrt(size))
    one, other = (design.verify(width=256, members=8) for design in (plain, shifted))
    np.testing.assert_allclose(other.curves - size, one.curves, atol=1e-6)
    np.testing.assert_allclose(other.z, one.z, rtol=1e-4)
    assert other.z_score == pytest.approx(one.z_score, rel=1e-4)
    assert other.bias == pytest.approx(size)
    wrong = dataclasses.replace(shifted, target=nk.kernel(f"{size:.0f} + 1.5*(c**3 + c)"))
    assert np.abs(wrong.verify(width=4096, members=32).z).max() > 4


def test_kernels_lost_beside_the_bias_are_refused():
    lost = nk.reverse_engineer("1e20 + c", degree=1, readout_b_std=1e10)
    with pytest.raises(
        InputError, match=r"readout_b_std is 1e\+10, and beside its square .* 1, is lost in rounding"
    ):
        lost.verify(width=16, members=2)
    rounded = nk.reverse_engineer("0.36", "nngp", readout_b_std=0.6).verify(width=8, members=3)
    assert rounded.z_score == 0.0


@pytest.mark.parametrize(("bad", "text"), [
    ({"width": 0}, "width must be an integer ≥ 1, not 0"),
    ({"width": 2.5}, "width must be an integer"),
    ({"members": 1}, "members must be an integer ≥ 2, not 1"),
    ({"members": True}, "members must be an integer"),
    ({"seed": -1}, "seed must be an integer ≥ 0, not -1"),
    ({"n_inputs": 1}, "n_inputs must be an integer ≥ 2, not 1"),
    ({"width": 10**13}, "GiB are free; lower width"),
    ({"members": 10**9}, "1000000000 members .* GiB are free; lower width, members or n_inputs"),
    ({"members": 10**9, "width": 10**7}, "GiB are free"),
    ({"width": 1, "n_inputs": 10**10}, "GiB are free"),
    ({"n_inputs": 10**5000}, "n_inputs is an integer of"),
    ({"progress": 3}, r"progress must be a function of \(members_done, members\), or None, not 3"),
])  # fmt: skip
def test_bad_input(bad, text):
    with pytest.raises(InputError, match=text):
        design().verify(**bad)
