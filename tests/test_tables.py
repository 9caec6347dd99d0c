"""Tables of Hermite coefficients over a range of variances: interpolation, lengths of plain sums, variance 0."""

import functools
import math

import numpy as np
import pytest

import ntkengine as nk
from ntkengine import hermite, quadrature
from ntkengine.errors import InputError
from ntkengine.infinite import _jumps, tables
from ntkengine.infinite.dual import jump_part
from tests.oracles import kernels as oracle

ACTIVATIONS = [
    "tanh",
    "softplus",
    "silu",
    "mish",
    "elu",
    "relu_cos",
    "0.5*sin(6*z)",
    "cos(3*z)",
    "max(z-1, 0) + 0.1*cos(4*z)",
    "heaviside(z-0.3)*cos(z)",
    "min(max(z, -1), 1)",
]
#: Tens of thousands of coefficients, a tenth of a second a variance.
LONG = ("elu", "heaviside(z-0.3)*cos(z)")
#: Lowest, highest and number of the variances: interpolated, one, interpolated or each for itself, few.
RANGES = [(0.3, 3.0, 250), (1.0, 1.0, 4), (0.01, 20.0, 100), (0.5, 1.5, 5)]


def variances(low, high, n=60, seed=0):
    return np.exp(np.random.default_rng(seed).uniform(math.log(low), math.log(high), n))


@functools.cache
def spread(name):
    """Variances, and their table."""
    q = variances(*((0.5, 1.5, 5) if name in LONG else (0.1, 10.0, 40)), seed=3)
    return q, tables.tabulate(nk.activation(name), q)


def smooth_part(table, i):
    """S_k (of compact tables: the nonzero A_k) of point i, as the table describes it."""
    piece, t = table.smooth[table.bins[i]], table.places[i]
    return np.cos(np.arange(piece.shape[0]) * math.acos(t)) @ piece


def coefficients(phi, table, q, i, size):
    """A_k of point i for k < size."""
    values = np.zeros(max(size, 2 * table.smooth.shape[2] + 2))
    part = smooth_part(table, i)
    start, step = (int(table.parity < 0), 2) if table.compact else (0, 1)
    values[start : start + step * part.size : step] = part
    if table.jumps.any():
        locations, jumps = jump_part(phi, q)
        jumps = np.where(table.jumps != 0, jumps, 0.0)
        jumped, steps = np.empty(values.size), np.empty(values.size)
        _jumps.split_coefficients(locations, jumps, jumped, steps)
        values += jumped
    return values[:size]


@pytest.mark.parametrize(
    ("name", "low", "high", "n"),
    [(name, *given) for name in ACTIVATIONS for given in RANGES if name not in LONG or given[2] < 10],
)
def test_interpolated_coefficients(name, low, high, n):
    """Against quadrature at each variance: each to 2e-12 of √E[φ²], and what that does to E[φ²]."""
    phi, q = nk.activation(name), variances(low, high, n)
    table = tables.tabulate(phi, q)
    assert np.isfinite(table.smooth).all()
    assert (np.abs(table.places) <= 1).all()
    assert ((table.bins >= 0) & (table.bins < len(table.smooth))).all()
    for i in np.random.default_rng(1).integers(0, n, 6):
        root = math.sqrt(q[i])
        z, w = oracle.normal_rule([k.location / root for k in phi.kinks if abs(k.location / root) < 14])
        rms = math.sqrt(w @ phi(root * z) ** 2)
        assert table.rms[i] == pytest.approx(rms, rel=1e-13)
        size = min(table.smooth.shape[2] * (1 + table.compact), 300)
        exact = hermite.expand(phi, size - 1, q[i])
        wrong = np.abs(coefficients(phi, table, q[i], i, size) - exact)
        assert wrong.max() <= 2e-12 * rms
        assert (
            wrong @ np.abs(exact) <= 10 * tables.GOOD * rms**2
        )  # the table itself checks one variance a piece


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_plain_sums_of_the_length_needed_are_the_full_sums(name):
    """Σ A_k(q) A_k(q') ρ^k and Σ k A_k A_k' ρ^(k−1), for pairs of variances and ρ up to the edge of each bin."""
    phi = nk.activation(name)
    q, table = spread(name)
    size = tables.PLAIN_TERMS
    found = [coefficients(phi, table, v, i, size) for i, v in enumerate(q)]
    slopes = np.sqrt([oracle_slope(phi, v) for v in q])
    k = np.arange(float(size))
    start, step = (int(table.parity < 0), 2) if table.compact else (0, 1)
    rng = np.random.default_rng(5)
    bins = table.needed.shape[-1] - 1
    assert bins == tables.BINS
    for _ in range(60):
        i, j = rng.integers(0, q.size, 2)
        rho = rng.choice([-1, 1]) * min(rng.uniform(0, 1) ** 0.5, table.edge)
        rho = np.nextafter(rho, 0)
        place = min(int(abs(rho) * bins) + 1, bins)
        columns = table.needed[table.classes[i], table.classes[j], place]
        length = min(start + step * columns, size)
        terms = found[i] * found[j] * np.abs(rho) ** k
        assert np.abs(terms[length:]).sum() <= tables.GOOD * table.rms[i] * table.rms[j]
        left_out = (k * np.abs(terms))[length:].sum() / max(abs(rho), 0.1)
        assert left_out <= tables.GOOD * max(slopes[i] * slopes[j], table.rms[i] * table.rms[j])


def oracle_slope(phi, q):
    """q E[φ'²]."""
    root = math.sqrt(q)
    z, w = oracle.normal_rule([k.location / root for k in phi.kinks if abs(k.location / root) < 14])
    return q * float(w @ phi.derivative(root * z) ** 2)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_lengths_grow_with_the_cosine_and_with_the_variance(name):
    _, table = spread(name)
    usable = table.needed[:, :, : int(min(table.edge, 1.0) * tables.BINS) + 1]
    assert (np.diff(usable, axis=2) >= 0).all()
    assert (np.diff(usable, axis=0) >= 0).all()
    assert (np.diff(usable, axis=1) >= 0).all()
    assert np.array_equal(usable, np.swapaxes(usable, 0, 1))
    assert (usable >= 1).all()
    if table.jumps.any():
        assert 0 < table.edge < 1
        assert usable.max() <= tables.PLAIN_TERMS
    else:
        assert table.edge == 2.0
        assert usable.max() <= table.smooth.shape[2]


def test_what_a_table_of_a_smooth_activation_looks_like():
    odd, even, neither = (
        tables.tabulate(nk.activation(n), variances(0.5, 2, 90)) for n in ("tanh", "cos(3*z)", "silu")
    )
    assert (odd.parity, even.parity, neither.parity) == (-1, 1, 0)
    assert (odd.compact, even.compact, neither.compact) == (True, True, False)
    for table in (odd, even, neither):
        assert not table.jumps.any()
        assert not table.left.any()
        assert table.bins.max() == len(table.smooth) - 1


def test_few_variances_are_each_their_own_piece():
    q = np.array([0.3, 0.3, 5.0, 0.7])
    table = tables.tabulate(nk.activation("tanh"), q)
    assert table.smooth.shape[:2] == (3, 1)
    assert table.bins.tolist() == [0, 0, 2, 1]
    assert not table.places.any()


def test_what_the_series_miss_makes_the_sums_whole():
    """Σ (S_k² + 2 S_k B_k) + E[B²] + left = E[φ²], by the table's own parts."""
    phi = nk.activation("elu")
    q = variances(0.2, 2.0, 8)
    table = tables.tabulate(phi, q)
    assert table.jumps.any()
    count = table.smooth.shape[2]
    for i in range(0, 8, 3):
        locations, jumps = jump_part(phi, q[i])
        values, steps = np.empty(count), np.empty(count)
        _jumps.split_coefficients(locations, jumps, values, steps)
        square, _ = _jumps.sums_at_one(locations, jumps, np.empty(_jumps.SCRATCH))
        s = smooth_part(table, i)
        root = math.sqrt(q[i])
        total = s @ (s + 2 * values) + square + table.left[i, 0]
        exact, _ = quadrature.expectation(lambda z, root=root: phi(root * z) ** 2, (0.0,))
        assert total == pytest.approx(exact, rel=1e-13)


@pytest.mark.parametrize(
    "name", ["max(z-1, 0) + 0.1*cos(4*z)", "silu", "tanh", "cos(3*z)", "heaviside(z+0.5)"]
)
@pytest.mark.parametrize("others", [1, 6])
def test_variance_zero(name, others):
    """Where Σ is 0, φ(√q z) is the number φ(0): K(0, x) = σ_w² φ(0) E[φ(√q z)], with and without points beside it."""
    phi = nk.activation(name)
    at_zero = float(phi(0.0))
    X = np.random.default_rng(6).standard_normal((others, 3)) * np.geomspace(0.3, 3, others)[:, None]
    net = nk.FCN(name, 1, 1.3, 0.0, 0.7, 0.0)
    both = np.concatenate([np.zeros((1, 3)), X])
    for found in (net.nngp(both), net.ntk(both)):
        assert found[0, 0] == pytest.approx(0.49 * at_zero**2, rel=1e-14, abs=0)
        for i, x in enumerate(X, start=1):
            root = 1.3 * math.sqrt(x @ x / 3)
            z, w = oracle.normal_rule([k.location / root for k in phi.kinks if abs(k.location / root) < 14])
            expected = 0.49 * at_zero * float(w @ phi(root * z))
            assert abs(found[0, i] - expected) <= 1e-13 * math.sqrt(found[0, 0] * found[i, i]) + 1e-300
            assert found[i, 0] == found[0, i]
    alone = nk.FCN(name, 1, 1.3, 0.0, 0.7, 0.0).nngp(np.zeros((2, 3)))
    assert alone == pytest.approx(np.full((2, 2), 0.49 * at_zero**2), rel=1e-14, abs=0)


def test_variances_beyond_reach_are_refused():
    with pytest.raises(InputError, match="infinite at variance"):
        tables.tabulate(nk.activation("exp(z**2/8)"), np.array([0.5, 5.0]))
