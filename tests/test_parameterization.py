"""The standard parameterization: its NTK by hand, by finite networks, and what it refuses."""

import math

import numpy as np
import pytest
from scipy.special import erf

import ntkengine as nk
from ntkengine.errors import InputError
from tests.oracles import kernels as oracle

X = np.array([[1.0, -0.5, 0.3], [0.9, -0.4, 0.5], [-1.0, 0.2, 1.1], [0.1, 2.0, -0.7]])
ON_SPHERE = X * math.sqrt(3) / np.linalg.norm(X, axis=1)[:, None]
ARCHITECTURES = [
    (1, 1.2, 0.0, 0.9, 0.0),
    (1, 1.2, 0.3, 0.9, 0.2),
    (2, 0.8, 0.3, 1.1, 0.0),
    (4, 1.1, 0.0, 0.7, 0.5),
]


def networks(name, depth, *stds, **options):
    ntk = nk.FCN(name, depth, *stds)
    return ntk, nk.FCN(name, depth, *stds, parameterization="standard", **options)


def tanh_layers(points, depth, w_std, b_std):
    """Σ¹ and the (E[φφ], E[φ'φ']) of each hidden layer of tanh, all (n, n): u on a rule, v given u on another."""
    z, w = oracle.normal_rule(reach=9.0, panels=12)
    weights = np.outer(w, w)
    sigma = first = w_std**2 * points @ points.T / points.shape[1] + b_std**2
    found = []
    for _ in range(depth):
        value, slope = np.empty_like(sigma), np.empty_like(sigma)
        for i, j in np.ndindex(sigma.shape):
            rho = 1.0 if i == j else sigma[i, j] / math.sqrt(sigma[i, i] * sigma[j, j])
            u = math.sqrt(sigma[i, i]) * z[:, None]
            v = math.sqrt(sigma[j, j]) * (rho * z[:, None] + math.sqrt(1 - rho**2) * z)
            value[i, j] = (weights * np.tanh(u) * np.tanh(v)).sum()
            slope[i, j] = (weights * np.cosh(u) ** -2 * np.cosh(v) ** -2).sum()
        found.append((value, slope))
        sigma = w_std**2 * value + b_std**2
    return first, found


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_nngp_is_the_same_in_both(name, architecture):
    for points in (X, ON_SPHERE):
        ntk, standard = networks(name, *architecture)
        assert np.array_equal(ntk.nngp(points), standard.nngp(points))
    c = np.linspace(-1, 1, 7)
    assert np.array_equal(ntk.kernel("nngp")(c), standard.kernel("nngp")(c))


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
@pytest.mark.parametrize("points", [X, ON_SPHERE], ids=["any norm", "sphere"])
def test_ntk_of_relu_against_the_recursion_by_hand(architecture, points):
    """E[φφ] and E[φ'φ'] from the angles (Cho & Saul 2009)."""
    depth, w_std, b_std, *readout = architecture
    sigma = w_std**2 * points @ points.T / 3 + b_std**2
    first, expectations = sigma, []
    for _ in range(depth):
        norms = np.sqrt(np.outer(np.diag(sigma), np.diag(sigma)))
        cosine = np.clip(sigma / norms, -1, 1)
        np.fill_diagonal(cosine, 1.0)
        theta = np.arccos(cosine)
        value = norms * (np.sin(theta) + (np.pi - theta) * cosine) / (2 * np.pi)
        expectations.append((value, (np.pi - theta) / (2 * np.pi)))
        sigma = w_std**2 * value + b_std**2
    for width in (1, 64, 4096):
        exact = oracle.standard_ntk(first, expectations, 3, width, w_std, b_std, readout)
        found = networks("relu", depth, w_std, b_std, *readout, width=width)[1].ntk(points)
        np.testing.assert_allclose(found, exact, rtol=1e-12)


@pytest.mark.parametrize("architecture", [(1, 1.2, 0.3, 0.9, 0.2), (2, 0.8, 0.3, 1.1, 0.0)], ids=str)
@pytest.mark.parametrize("points", [X[:3], ON_SPHERE[:3]], ids=["any norm", "sphere"])
def test_ntk_of_tanh_against_the_recursion_by_hand(architecture, points):
    depth, w_std, b_std, *readout = architecture
    first, expectations = tanh_layers(points, depth, w_std, b_std)
    exact = oracle.standard_ntk(first, expectations, 3, 512, w_std, b_std, readout)
    found = networks("tanh", depth, w_std, b_std, *readout, width=512)[1].ntk(points)
    np.testing.assert_allclose(found, exact, rtol=1e-11)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
@pytest.mark.parametrize("name", ["erf", "tanh"])
def test_kernel_on_the_sphere_is_the_gram_matrix(name, architecture):
    standard = networks(name, *architecture, width=300)[1]
    kernel = standard.kernel("ntk", n_inputs=3)
    cosines = np.clip(ON_SPHERE @ ON_SPHERE.T / 3, -1, 1)
    np.testing.assert_allclose(kernel(cosines), standard.ntk(ON_SPHERE), rtol=1e-12)
    assert kernel(1.0) == pytest.approx(kernel.value_at_one, rel=1e-14)
    assert kernel.error < 1e-9 * kernel.value_at_one


def test_the_ntk_grows_with_the_width_and_the_radial_lift_scales_it():
    wide = [networks("erf", 2, 1.1, 0.0, width=width)[1].ntk(X) for width in (100, 200, 300)]
    np.testing.assert_allclose(
        wide[2] - wide[1], wide[1] - wide[0], rtol=1e-10
    )  # affine in N: a term N E[φφ] per map
    lifted = nk.FCN("erf", 2, 1.1, radial_lift=True, parameterization="standard", width=100)
    r = np.linalg.norm(X, axis=1) / math.sqrt(3)
    on_sphere = nk.FCN("erf", 2, 1.1, parameterization="standard", width=100).ntk(X / r[:, None])
    np.testing.assert_allclose(lifted.ntk(X), np.outer(r, r) * on_sphere, rtol=1e-12)


FUNCTIONS = {
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
    "erf": (erf, lambda z: 2 / math.sqrt(math.pi) * np.exp(-z * z)),
}


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_finite_networks_have_this_ntk(name, depth):
    """Backpropagation by hand at width 2048, mean of 4 networks: the spread falls as 1/√N."""
    width, members, w_std, b_std, readout = 2048, 4, 1.3, 0.4, (0.9, 0.3)
    stds = (w_std, b_std, *readout)
    found = [
        oracle.standard_network(X, [width] * depth, *FUNCTIONS[name], w_std, b_std, readout, seed)
        for seed in range(members)
    ]
    parts = np.mean(found, axis=0)
    standard = networks(name, depth, *stds, width=width)[1]
    exact = standard.ntk(X)
    scale = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    spread = 1 / math.sqrt(width * members)
    assert np.abs(parts.sum(axis=0) - exact).max() <= 5 * spread * scale.max()
    assert (np.abs(parts.sum(axis=0) - exact) <= 8 * spread * scale).all()
    # what the readout has is N E[φφ] + 1; the rest, hundreds of times smaller, is that of the layers below
    last = width * (standard.nngp(X) - readout[1] ** 2) / readout[0] ** 2 + 1
    below = exact - last
    scale = np.sqrt(np.outer(np.diag(below), np.diag(below)))
    assert (np.abs(parts[:-1].sum(axis=0) - below) <= 8 * spread * scale).all()
    without_biases = networks(name, depth, w_std, 0.0, *readout, width=width)[1]
    assert np.abs(without_biases.ntk(X) - exact).max() > 20 * spread * scale.max()


def test_what_is_missing_or_too_much_is_named():
    with pytest.raises(InputError, match=r"width is None; .* give FCN\(\.\.\., width=N\)"):
        nk.FCN("relu", parameterization="standard").ntk(X)
    with pytest.raises(InputError, match="width is None"):
        nk.FCN("relu", parameterization="standard").kernel("ntk", n_inputs=3)
    with pytest.raises(InputError, match=r'n_inputs is None; .* give kernel\("ntk", n_inputs=d\)'):
        nk.FCN("relu", parameterization="standard", width=10).kernel("ntk")
    with pytest.raises(
        InputError, match="width is 10, but in the NTK parameterization no kernel depends on it"
    ):
        nk.FCN("relu", width=10)
    with pytest.raises(
        InputError, match='parameterization is \'mean field\'; it must be "ntk" or "standard"'
    ):
        nk.FCN("relu", parameterization="mean field")
    for width in (0, -3, 2.5, True, "wide"):
        with pytest.raises(InputError, match="width must be an integer ≥ 1"):
            nk.FCN("relu", parameterization="standard", width=width)


@pytest.mark.parametrize("value", [0, -1, 2.5, math.nan, "3"])
def test_n_inputs_is_checked(value):
    with pytest.raises(InputError, match="n_inputs"):
        nk.FCN("relu", parameterization="standard", width=10).kernel("ntk", n_inputs=value)
