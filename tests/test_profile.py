"""Tables of kernels on the sphere: pieces, what they say of their error, and what happens where none will do."""

import math

import mpmath as mp
import numpy as np
import pytest

import ntkengine as nk
from ntkengine.infinite.profile import FINEST, ORDER, profile
from tests.oracles import kernels as oracle

HALF = 1 << FINEST


def look_up(table, delta, eta):
    """The table's value, read by its own description."""
    near = delta <= eta
    x = np.sqrt(np.where(near, delta, eta))
    place = np.minimum((x * HALF).astype(int), HALF - 1) + np.where(near, 0, HALF)
    piece = table.pieces[table.index[place]]
    t = (x - piece[:, 0]) * piece[:, 1]
    assert (np.abs(t) <= 1 + 1e-9).all()
    return (piece[:, 2:] * t[:, None] ** np.arange(ORDER + 1)).sum(axis=1)


def points():
    """1 − c and 1 + c: dense, at both ends and near the middle, none of them where the table was made."""
    rng = np.random.default_rng(0)
    small = np.concatenate([rng.uniform(0, 1, 4000), 10.0 ** -rng.uniform(0, 30, 500), [0.0, 1.0]])
    return np.concatenate([small, 2 - small]), np.concatenate([2 - small, small])


def worst(table, kernel):
    delta, eta = points()
    return np.abs(look_up(table, delta, eta) - kernel(delta, eta)).max()


KERNELS = {
    "constant": (lambda delta, eta: np.full_like(delta, 0.7), 2),
    "cubic": (lambda delta, eta: (1 - delta) ** 3, 2),
    "root at 1": (lambda delta, eta: 1 - np.sqrt(delta), None),
    "root at −1": (lambda delta, eta: np.sqrt(eta), None),
    "both roots": (lambda delta, eta: np.sqrt(delta) - 0.3 * np.sqrt(eta) * eta, None),
    "narrow": (lambda delta, eta: 1 / (1 + 1e4 * delta), None),
    "wiggly": (lambda delta, eta: np.sin(40 * delta), None),
    "large": (lambda delta, eta: 1e8 * np.exp(-delta), None),
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_that_can_be_tabulated(name):
    kernel, pieces = KERNELS[name]
    table = profile(kernel)
    scale = np.abs(kernel(np.array([0.0, 1.0, 2.0]), np.array([2.0, 1.0, 0.0]))).max()
    assert pieces is None or len(table.pieces) == pieces
    assert table.error <= 2e-14 * scale
    assert worst(table, kernel) <= 6e-14 * scale


@pytest.mark.parametrize("name", [*KERNELS, "steep"])
def test_pieces_cover_both_sides_once(name):
    kernel = KERNELS[name][0] if name in KERNELS else lambda delta, eta: 1 - delta**0.1
    table = profile(kernel)
    assert table.index.shape == (2 * HALF,)
    assert table.pieces.shape[1] == ORDER + 3
    assert np.array_equal(np.unique(table.index), np.arange(len(table.pieces)))
    middle, half = table.pieces[:, 0], 1 / table.pieces[:, 1]
    sides = [np.unique(table.index[:HALF]), np.unique(table.index[HALF:])]
    assert not set(sides[0]) & set(sides[1])
    for side, entries in zip(sides, (table.index[:HALF], table.index[HALF:])):
        order = side[np.argsort(middle[side])]
        ends = np.concatenate([[0.0], (middle + half)[order]])
        assert np.array_equal(ends[:-1], (middle - half)[order])
        assert ends[-1] == 1.0
        assert (half[order] >= 0.5 / HALF).all()
        start = np.arange(HALF) / HALF  # every step of the index lies in its piece
        assert ((middle - half)[entries] <= start).all()
        assert ((middle + half)[entries] >= start + 1 / HALF).all()


@pytest.mark.parametrize("power", [0.01, 0.03, 0.1, 0.25])
def test_what_is_too_steep_is_owned_up_to(power):
    """δ^p with p < ½ is no polynomial in √δ near 0, however short the piece: the error reported is the size of the true one."""

    def kernel(delta, eta):
        return 1 - delta**power

    table = profile(kernel)
    true = worst(table, kernel)
    assert true > 1e-8
    at_test_points = np.abs(
        look_up(table, *_inside_the_first_piece()) - kernel(*_inside_the_first_piece())
    ).max()
    assert 0.3 * at_test_points <= table.error <= true * (1 + 1e-12)


def _inside_the_first_piece():
    x = np.linspace(0.002, 1, 300) / HALF
    return x * x, 2 - x * x


NETWORKS = [
    ("relu", 1, 2**0.5, 0.1),
    ("relu", 4, 2**0.5, 0.0),
    ("erf", 4, 1.4, 0.1),
    ("abs", 3, 1.0, 0.0),
    ("tanh", 2, 1.5, 0.2),
    ("gelu", 3, 1.4, 0.0),
    ("sign", 1, 1.0, 0.0),
    ("relu_cos", 1, 1.0, 0.0),
]


@pytest.mark.parametrize(
    ("name", "depth", "w_std", "b_std"), NETWORKS, ids=[f"{n[0]}-{n[1]}" for n in NETWORKS]
)
@pytest.mark.parametrize("kind", ["nngp", "ntk"])
def test_kernels_of_networks(name, depth, w_std, b_std, kind):
    kernel = nk.FCN(name, depth, w_std, b_std).kernel(kind)
    table = profile(kernel._recursion)
    delta, eta = (v[::7] for v in points())
    true = np.abs(look_up(table, delta, eta) - kernel._recursion(delta, eta)).max()
    scale = max(abs(kernel.value_at_one), 1e-300)
    assert true <= 3 * table.error + 5e-15 * scale, (true / scale, table.error / scale)
    assert table.error <= 1e-13 * scale


def test_deep_steps_are_too_steep_and_are_computed_entry_by_entry():
    """K of a 4-layer step network is 1 − O(δ^{1/32}) near the diagonal: the Gram matrix on the sphere against 80 digits."""
    net = nk.FCN("step", 4, 1.4, 0.3)
    kernel = net.kernel("nngp")
    assert profile(kernel._recursion).error > 1e-4 * kernel.value_at_one
    angles = [0.0, 1e-12, 1e-8, 1e-4, 0.01, 0.7, 1.6, 2.5, math.pi - 1e-6, math.pi]
    X = math.sqrt(2) * np.column_stack([np.cos(angles), np.sin(angles)])
    found = {kind: getattr(net, kind)(X) for kind in ("nngp", "ntk")}
    for i, j in [(0, j) for j in range(len(X))] + [(3, 5), (4, 8), (5, 5), (6, 9)]:
        with mp.workdps(80):
            one, other = ([mp.mpf(float(v)) for v in X[k]] for k in (i, j))
            lengths = mp.sqrt(mp.fdot(one, one) * mp.fdot(other, other))
            gap = mp.fdot([a - b for a, b in zip(one, other)], [a - b for a, b in zip(one, other)])
            delta = (gap - (mp.sqrt(mp.fdot(one, one)) - mp.sqrt(mp.fdot(other, other))) ** 2) / (2 * lengths)
            exact = [float(k) for k in oracle.kernels(oracle.step_dual, 4, 1.4, 0.3, max(delta, mp.mpf(0)))]
        for kind, value in zip(("nngp", "ntk"), exact):
            assert abs(found[kind][i, j] - value) <= 1e-12 * exact[0], (kind, i, j)
    assert np.array_equal(found["nngp"], found["nngp"].T)
