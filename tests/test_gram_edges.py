"""Gram matrices where something underflows, changes with the layer, or is narrower than any grid."""

import warnings

import numpy as np
import pytest
from scipy.integrate import quad

import ntkengine as nk
from ntkengine.errors import InputError


@pytest.mark.parametrize("formula", ["relu(z-1)", "step(z-1)"])
@pytest.mark.parametrize("kind", ["nngp", "ntk"])
def test_a_point_at_which_phi_is_nothing_leaves_the_others_alone(formula, kind):
    X = np.array([[0.02, 0.0], [0.6, 0.8], [1.0, -1.0], [1e-6, 0.0], [0.0, 0.0]])
    net = nk.FCN(formula)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, alone = getattr(net, kind)(X), getattr(net, kind)(X[1:3])
    assert np.abs(found[1:3, 1:3] - alone).max() <= 1e-12 * alone.max()
    assert not found[3:].any()
    many = np.geomspace(1e-3, 1.0, 300)[:, None] * np.random.default_rng(0).standard_normal((300, 2))
    assert np.isfinite(getattr(net, kind)(many)).all()


@pytest.mark.parametrize("formula", ["0", "0*z"])
def test_the_zero_function(formula):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not nk.FCN(formula).ntk(np.eye(3) * [[1.0], [2.0], [3.0]]).any()


def second_moment(phi, root):
    """E[φ(root z)²] of an even φ²."""
    return quad(lambda z: 2 * float(phi(root * z)) ** 2 * np.exp(-z * z / 2), 0, 20 / root, epsrel=1e-11)[
        0
    ] / np.sqrt(2 * np.pi)


@pytest.mark.parametrize(
    ("formula", "norms"), [("z*abs(z)*exp(-z**2)", (5.0, 6.0, 9.0)), ("exp(-abs(z)**3)", (10.0, 12.0, 20.0))]
)
def test_layers_of_which_only_one_has_jumps_to_split(formula, norms):
    """At a large variance the jumps are left in the series; the next layer splits them off."""
    phi = nk.activation(formula)
    X = np.diag(norms)
    q = np.array(norms) ** 2 / 3
    for _ in range(2):
        root = np.sqrt(q)
        q = np.array([second_moment(phi, r) for r in root])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nk.errors.AccuracyWarning)
        found = np.diag(nk.FCN(formula, depth=2).nngp(X))
    assert found == pytest.approx(q, rel=1e-6)


@pytest.mark.parametrize(
    ("formula", "depth", "w_std", "b_std"), [("sin(100*z)", 2, 1.0, 0.0), ("step", 100, 0.9, 0.3)]
)
def test_a_peak_narrower_than_the_nodes_is_met_on_the_sphere(formula, depth, w_std, b_std):
    S = np.random.default_rng(0).standard_normal((5, 3))
    S *= 3**0.5 / np.linalg.norm(S, axis=1, keepdims=True)
    net = nk.FCN(formula, depth=depth, w_std=w_std, b_std=b_std)
    assert np.diag(net.nngp(S)) == pytest.approx(np.full(5, float(net.kernel("nngp")(1.0))), rel=1e-10)


def test_a_polynomial_of_high_degree_is_a_finite_sum():
    phi = nk.activation("hermite", coefficients=np.ones(40))
    net = nk.FCN(phi)
    assert float(net.kernel("nngp")(1.0)) == pytest.approx(40.0, rel=1e-12)
    assert net.nngp([[1.0, 1.0], [1.0, -1.2]]).shape == (2, 2)


def test_outputs_that_cannot_hold_the_result_are_refused():
    net, X = nk.FCN("relu"), np.eye(3)
    for out, text in (
        (np.ma.masked_array(np.zeros((3, 3)), mask=True), "masked"),
        (np.lib.stride_tricks.as_strided(np.zeros(3), (3, 3), (0, 8)), "share memory"),
    ):
        with pytest.raises(InputError, match=text):
            net.ntk(X, out=out)
    with pytest.raises(InputError, match="masked entries"):
        net.ntk(np.ma.masked_array(X, mask=X > 0.5))
    with pytest.raises(InputError, match="progress is 3"):
        net.ntk(X, progress=3)


def test_datasets_that_cannot_be_written_are_refused_before_any_work(tmp_path):
    import h5py

    net, X, path = nk.FCN("relu"), np.eye(3), tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("k", (3, 3), dtype="f4")
        net.ntk(X, out=dataset)
        assert np.array_equal(dataset[...], net.ntk(X, dtype="float32"))
    with pytest.raises(InputError, match="closed"):
        net.ntk(X, out=dataset)
    with h5py.File(path, "r") as file, pytest.raises(InputError, match="read-only"):
        net.ntk(X, out=file["k"])


@pytest.mark.parametrize("name", ["tanh", "elu", "relu"])
def test_tiny_inputs_are_right_or_refused(name):
    for size in (1e-140, 1e-155, 1e-160, 1e-200):
        X, net = np.array([[size, 1.5 * size], [size, -size]]), nk.FCN(name, depth=2)
        if size > 1e-142:
            assert np.isfinite(net.ntk(X)).all()
        else:
            with pytest.raises(InputError, match=r"vanishes|variance"):
                net.ntk(X)
