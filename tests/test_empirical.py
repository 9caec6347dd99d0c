"""Empirical kernels: against explicit Jacobians, and towards the infinite-width kernels at the rate 1/√N."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import ntkengine as nk
from ntkengine.errors import InputError
from ntkengine.predict import max_learning_rate
from tests.oracles import networks as oracle

STDS = {"w_std": 1.3, "b_std": 0.2, "readout_w_std": 0.9, "readout_b_std": 0.4}


def as_oracle(nets, member=0):
    return [
        (w[member].astype(float), None if b is None else b[member].astype(float))
        for w, b in nets.parameters()
    ]


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("lift", [False, True])
def test_ntk_is_the_product_of_jacobians(depth, lift):
    rng = np.random.default_rng(0)
    x1, x2 = rng.standard_normal((4, 3)), rng.standard_normal((5, 3))
    nets = nk.FCN("tanh", depth=depth, radial_lift=lift, **STDS).init(
        width=9, n_inputs=3, n_outputs=2, members=2, dtype="float64"
    )
    (rows1, r1), (rows2, r2) = (oracle.lifted(x) if lift else (x, np.ones(len(x))) for x in (x1, x2))
    for member in range(2):
        net = as_oracle(nets, member)
        j1 = r1[:, None, None] * oracle.jacobian(net, rows1, "tanh", STDS)
        j2 = r2[:, None, None] * oracle.jacobian(net, rows2, "tanh", STDS)
        expected = np.einsum("aip,bip->ab", j1, j2) / 2
        assert_allclose(nets.empirical_ntk(x1, x2)[member], expected, rtol=1e-10, atol=1e-12)
        h1, h2 = (oracle.forward(net, x, "tanh", STDS)[1][-1] for x in (rows1, rows2))
        nngp = (STDS["readout_w_std"] ** 2 / 9 * h1 @ h2.T + STDS["readout_b_std"] ** 2) * r1[:, None] * r2
        assert_allclose(nets.empirical_nngp(x1, x2)[member], nngp, rtol=1e-10, atol=1e-12)


def test_symmetric_case_is_exactly_symmetric_and_equals_the_rectangular_one():
    x = np.random.default_rng(1).standard_normal((6, 3))
    nets = nk.FCN("relu", depth=3, **STDS).init(width=40, n_inputs=3, n_outputs=2)
    kernel = nets.empirical_ntk(x)
    assert_array_equal(kernel, kernel.transpose(0, 2, 1))
    assert_allclose(kernel, nets.empirical_ntk(x, x), rtol=1e-5)
    assert np.linalg.eigvalsh(kernel[0].astype(float)).min() > -1e-5 * kernel.max()


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize("depth", [1, 3])
def test_spread_falls_as_one_over_root_width(kind, depth):
    """Root mean square deviation from the exact kernel over 32 members, at widths 32 to 512: slope −1/2 in log-log."""
    fcn = nk.FCN("relu", depth=depth, w_std=2**0.5, b_std=0.1)
    theta = np.linspace(0, np.pi, 9)
    points = np.sqrt(2) * np.stack([np.cos(theta), np.sin(theta)], axis=1)
    exact = fcn.kernel(kind).at_angle(theta)
    widths, errors = np.array([32, 64, 128, 256, 512]), []
    for width in widths:
        nets = fcn.init(width=int(width), n_inputs=2, seed=int(width), members=32)
        curves = (nets.empirical_ntk if kind == "ntk" else nets.empirical_nngp)(points[:1], points)[:, 0]
        errors.append(np.sqrt(((curves - exact) ** 2).mean()))
    slope = np.polyfit(np.log(widths), np.log(errors), 1)[0]
    assert -0.65 < slope < -0.35


def test_mean_over_members_agrees_with_the_exact_kernel():
    """z-scores of the mean over 36 members stay within 4."""
    fcn = nk.FCN("relu", depth=2, w_std=2**0.5, b_std=0.1)
    theta = np.linspace(0, np.pi, 9)
    points = np.sqrt(3) * np.stack([np.cos(theta), np.sin(theta), 0 * theta], axis=1)
    curves = (
        fcn.init(width=1024, n_inputs=3, seed=3, members=36)
        .empirical_ntk(points[:1], points)[:, 0]
        .astype(float)
    )
    z = (curves.mean(0) - fcn.kernel("ntk").at_angle(theta)) / (curves.std(0, ddof=1) / 6)
    assert np.abs(z).max() < 4


def test_largest_stable_rate_is_n_over_the_top_eigenvalue_and_bounds_training():
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((40, 4)), rng.standard_normal((40, 1))
    fcn = nk.FCN("identity", w_std=1.0)
    nets = fcn.init(width=4000, n_inputs=4, dtype="float64")
    rate = max_learning_rate(nets, x)
    assert_allclose(rate, 40 / np.linalg.eigvalsh(nets.empirical_ntk(x)[0])[-1], rtol=1e-4)
    below = nk.train(nets, x, y, lr=0.9 * rate, epochs=20)
    assert below.train_loss[0, -1] < below.train_loss[0, 0]
    above = nk.train(fcn.init(width=4000, n_inputs=4, dtype="float64"), x, y, lr=1.2 * rate, epochs=8)
    assert above.train_loss[0, -1] > above.train_loss[0, 0]


@pytest.mark.parametrize("lift", [False, True])
def test_largest_stable_rate_couples_the_outputs(lift):
    """n over the top eigenvalue of J Jᵀ with all outputs, J from the oracle; the smallest over the members."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((7, 3))
    nets = nk.FCN("tanh", depth=3, radial_lift=lift, **STDS).init(
        width=12, n_inputs=3, n_outputs=4, members=2, dtype="float64"
    )
    rows, r = oracle.lifted(x) if lift else (x, np.ones(7))
    tops = []
    for member in range(2):
        j = r[:, None, None] * oracle.jacobian(as_oracle(nets, member), rows, "tanh", STDS)
        j = j.reshape(28, -1)
        tops.append(np.linalg.eigvalsh(j @ j.T)[-1])
    assert_allclose(max_learning_rate(nets, x), 7 / max(tops), rtol=2e-4)


def test_bad_inputs_are_named():
    nets = nk.FCN("relu").init(width=4, n_inputs=3)
    with pytest.raises(InputError, match="X2 has 2 columns"):
        nets.empirical_ntk(np.zeros((2, 3)), np.zeros((2, 2)))
    with pytest.raises(InputError, match=r"X1\[1, 2\] is nan"):
        nets.empirical_ntk(np.array([[0, 0, 0], [0, 0, np.nan]]))
