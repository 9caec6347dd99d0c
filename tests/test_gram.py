"""Gram matrices against 80-digit recursions where the dual has a closed form; properties, output arrays, wrong input."""

import warnings
from functools import cache

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ntkengine as nk
from ntkengine.errors import InputError
from tests.oracles import grams as oracle

BAR = 1e-12
DEEP, SHALLOW = (1, 2, 4, 10), (1, 2, 4)
KINDS = ("nngp", "ntk")
READOUT = (0.8, 0.2)
HERMITE = (0.3, -0.5, 0.4, 0.0, 0.2, 0.1)

#: (id, name, parameters, dual, σ_w, bounded or homogeneous: any norm at any depth)
CASES = [
    ("relu", "relu", {}, oracle.relu, 2**0.5, True),
    ("leaky_relu", "leaky_relu", {"slope": 0.25}, oracle.piecewise_linear(0.25, 1), 1.3, True),
    ("abrelu", "abrelu", {"a": -0.5, "b": 1.5}, oracle.piecewise_linear(-0.5, 1.5), 0.9, True),
    ("abs", "abs", {}, oracle.piecewise_linear(-1, 1), 1.0, True),
    ("step", "step", {}, oracle.step, 1.4, True),
    ("sign", "sign", {}, oracle.sign, 1.4, True),
    ("identity", "identity", {}, oracle.identity, 0.9, True),
    ("erf", "erf", {}, oracle.erf(), 1.4, True),
    ("erf-shifted", "erf", {"a": 1.3, "b": 0.8, "c": 0.2}, oracle.erf(1.3, 0.8, 0.2), 1.4, True),
    ("sin", "sin", {"b": 1.5}, oracle.sine(1, 1.5), 1.4, True),
    ("sin-phase", "sin", {"a": 1.2, "b": 1.5, "c": 0.3}, oracle.sine(1.2, 1.5, 0.3), 1.2, True),
    ("sin-high", "sin", {"a": 0.5, "b": 6.0}, oracle.sine(0.5, 6), 1.0, True),
    ("cos", "cos", {"a": 1.2, "b": 1.5, "c": 0.4}, oracle.cosine(1.2, 1.5, 0.4), 1.2, True),
    ("rbf", "rbf", {"gamma": 0.7}, oracle.rbf(0.7), 1.1, True),
    ("gaussian", "gaussian", {"a": 1.1, "b": -0.7}, oracle.gaussian(1.1, -0.7), 1.4, True),
    ("gelu", "gelu", {}, oracle.gelu, 1.4, True),
    ("exp", "exp", {"a": 0.5, "b": 0.5}, oracle.exponential(0.5, 0.5), 0.9, False),
    ("monomial", "monomial", {"degree": 3}, oracle.polynomial([0, 0, 0, 1]), 0.6, False),
    ("polynomial", "polynomial", {"coefficients": [0.3, -0.6, 0.25]}, oracle.polynomial([0.3, -0.6, 0.25]), 0.8, False),
    ("hermite", "hermite", {"coefficients": HERMITE}, oracle.hermite(HERMITE), 0.8, False),
]  # fmt: skip
BY_ID = {case[0]: case for case in CASES}


def cloud(name, free):
    """Points of one kind; ``free``: norms from 1e-6 to 1e3, else from 0.05 to 1.2, in units of √d."""
    rng = np.random.default_rng(7)
    d = {"line": 1, "plane": 2, "space": 11, "sphere": 11}[name]
    x, y, z, side = rng.standard_normal((4, d))
    x, y, z = (v * np.sqrt(d / (v @ v)) for v in (x, y, z))
    side -= (side @ x) / (x @ x) * x
    side *= np.sqrt(d / (side @ side)) if d > 1 else 0.0
    tiny, big, huge = (1e-6, 30.0, 1e3) if free else (0.05, 1.2, 0.6)
    if name == "sphere":
        rows = [x, x, -x, y, z, *(x + e * side for e in (1e-3, 1e-6, 1e-9, 1e-12)), 1e-7 * side - x]
        rows = [v * np.sqrt(d / (v @ v)) for v in rows]
        return np.array([*rows, x * (1 + 1e-11), y * (1 - 1e-12)])
    rows = [x, -x, 0 * x, tiny * x, huge * y, big * z, -huge * y]
    for e in (1e-3, 1e-6, 1e-9, 1e-12) if name == "space" else (1e-9,):
        rows += [x * (1 + e), x + e * side] if d > 1 else [x * (1 + e)]
    for e in (1e-3, 1e-6, 1e-9):
        rows += [huge * y * (1 - e), huge * (y + e * side)] if d > 1 else [huge * y * (1 - e)]
    return np.array([*rows, x, 1e-7 * side - x])


CLOUDS = [("space", 0.0), ("space", 0.3), ("plane", 0.0), ("line", 0.3), ("sphere", 0.1)]


@cache
def exact(case, where, b_std):
    _, _, _, dual, w_std, free = BY_ID[case]
    return oracle.gram(dual, cloud(where, free), DEEP if free else SHALLOW, w_std, b_std, READOUT)


def network(case, depth, b_std, readout=READOUT, **more):
    _, name, parameters, _, w_std, _ = BY_ID[case]
    return nk.FCN(nk.activation(name, **parameters), depth, w_std, b_std, *readout, **more)


def failures(found, exact, bar, label):
    """A line for each matrix beyond the bar: where it is worst, and by how much."""
    error = oracle.relative_error(found, exact)
    if (error <= bar).all():
        return []
    i, j = np.unravel_index(np.argmax(np.where(np.isnan(error), np.inf, error)), error.shape)
    wrong = f"K[{i}, {j}] = {found[i, j]!r}, exact {exact[i, j]!r}, error {error[i, j]:.2e}"
    return [f"{label}: {int((~(error <= bar)).sum())} entries, {wrong}"]


#: Step and sign turn an angle θ into √θ in each layer, high frequencies multiply the distance of near-duplicates: beyond this
#: depth the last bit of X is worth more than 1e-12 of the exact kernel.
SENSITIVE = {"step": 1, "sign": 1, "sin": 2, "sin-phase": 2, "sin-high": 2, "cos": 2}


@pytest.mark.parametrize(("where", "b_std"), CLOUDS, ids=[f"{w}-{b}" for w, b in CLOUDS])
@pytest.mark.parametrize("case", BY_ID)
def test_closed_forms_at_any_norm(case, where, b_std):
    """Duplicates, antipodes, points 1e-12 apart, norms from 1e-6 to 1e3 and the zero vector in one matrix."""
    X = cloud(where, BY_ID[case][5])
    wrong = []
    for depth, matrices in exact(case, where, b_std).items():
        if depth > SENSITIVE.get(case, 10):
            continue
        net = network(case, depth, b_std)
        bar = 3 * BAR if case == "gelu" and depth == 10 else BAR  # 2.4e-12 at norm 1e3, nearly parallel
        for kind, truth in zip(KINDS, matrices):
            wrong += failures(getattr(net, kind)(X), truth, bar, f"{kind}, depth {depth}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("where", "b_std"), [("space", 0.3), ("plane", 0.0), ("sphere", 0.1)])
@pytest.mark.parametrize("case", SENSITIVE)
def test_sensitive_cases_to_the_last_bit_of_the_inputs(case, where, b_std):
    """As far off as the exact kernel moves when each row is rounded otherwise; duplicates and antipodes move together."""
    X = cloud(where, True)
    rows, which = np.unique(np.abs(X), axis=0, return_inverse=True)
    _, _, _, dual, w_std, _ = BY_ID[case]
    truth, rng = exact(case, where, b_std), np.random.default_rng(0)
    moved = [
        oracle.gram(
            dual, X * (1 + eps * rng.choice([-1.0, 0.0, 1.0], rows.shape)[which]), DEEP, w_std, b_std, READOUT
        )
        for eps in [2.0**-52] * 3
    ]
    for depth, matrices in truth.items():
        if depth == 10 and case in ("step", "sign"):  # a thousandth root of the angle
            continue
        for k, kind in enumerate(KINDS):
            change = np.max([oracle.relative_error(other[depth][k], matrices[k]) for other in moved], axis=0)
            error = oracle.relative_error(getattr(network(case, depth, b_std), kind)(X), matrices[k])
            assert (error <= BAR + 8 * change).all(), (kind, depth, (error / (BAR + 8 * change)).max())


@pytest.mark.parametrize("case", ["relu", "erf", "sin-phase", "gelu", "hermite"])
@pytest.mark.parametrize("kind", KINDS)
def test_two_sets_of_points(case, kind):
    X = cloud("space", BY_ID[case][5])
    truth = exact(case, "space", 0.3)[2][KINDS.index(kind)]
    found = truth.copy()
    found[:9, 9:] = getattr(network(case, 2, 0.3), kind)(X[:9], X[9:])
    found[9:, :9] = getattr(network(case, 2, 0.3), kind)(X[9:], X[:9])
    assert not failures(found, truth, BAR, "blocks")
    again = getattr(network(case, 2, 0.3), kind)(X, X.copy())
    assert not failures(again, getattr(network(case, 2, 0.3), kind)(X), BAR, "X2 = X")


@pytest.mark.parametrize("case", ["relu", "erf-shifted"])
def test_radial_lift(case):
    """f(x) = r g(x/r): the kernel is r r' times that of the directions."""
    X = cloud("space", True)
    net, lifted = network(case, 3, 0.1), network(case, 3, 0.1, radial_lift=True)
    r = np.sqrt((X * X).sum(axis=1) / X.shape[1])
    unit = X / np.where(r > 0, r, 1.0)[:, None]
    for kind in KINDS:
        expected = np.outer(r, r) * getattr(net, kind)(unit)
        assert not failures(getattr(lifted, kind)(X), expected, BAR, kind)


# --- properties ---------------------------------------------------------------------------------------------


def points(n, d=5, seed=0, spread=0.3):
    """Random points of random norms, with duplicates, antipodes, near-duplicates and a zero vector among them."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) * np.exp(spread * rng.standard_normal((n, 1)))
    X[1], X[2], X[3], X[4] = X[0], -X[0], X[0] * (1 + 1e-9), 0.0
    X[5] = X[6] + 1e-8 * rng.standard_normal(d)
    return X


PROPERTY_NETS = [
    ("relu", 2**0.5, 0.0),
    ("relu", 2**0.5, 0.1),
    ("erf", 1.5, 0.05),
    ("sin", 1.4, 0.1),
    ("tanh", 1.3, 0.1),
    ("max(z-1, 0) + 0.1*cos(4*z)", 1.2, 0.1),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "w_std", "b_std"), PROPERTY_NETS)
def test_symmetric_positive_and_the_same_bits_at_any_thread_count(name, w_std, b_std, kind):
    compute = getattr(nk.FCN(name, 3, w_std, b_std), kind)
    sphere = points(150) + np.eye(1, 5)
    for X in (points(150), sphere / np.linalg.norm(sphere, axis=1)[:, None]):
        K = compute(X, threads=1)
        assert K.dtype == np.float64
        assert K.flags.c_contiguous
        assert np.array_equal(K, K.T)
        values = np.linalg.eigvalsh(K)
        assert values[0] >= -1e-12 * X.shape[0] * values[-1]
        for threads in (2, 4, None):
            assert np.array_equal(compute(X, threads=threads), K)
        block = compute(X, X[:37], threads=1)
        for threads in (2, 4):
            assert np.array_equal(compute(X, X[:37], threads=threads), block)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "w_std", "b_std"), PROPERTY_NETS)
def test_the_sphere_agrees_with_the_general_path(name, w_std, b_std, kind):
    """One row of another norm takes all rows off the sphere."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((70, 6))
    X[1] = -X[0]
    X[2:6] = X[0] + 10.0 ** np.array([-3, -6, -9, -12])[:, None] * rng.standard_normal((4, 6))
    for radius in (1.0, 4.0):
        X *= radius * np.sqrt(6) / np.linalg.norm(X, axis=1)[:, None]
        off = np.concatenate([X, 2 * X[:1]])
        for depth in (1, 4):
            compute = getattr(nk.FCN(name, depth, w_std, b_std), kind)
            assert not failures(compute(X), compute(off)[:-1, :-1], BAR, f"depth {depth}, radius {radius}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "w_std", "b_std"), PROPERTY_NETS)
def test_the_kernel_of_the_cosine_is_the_same_one(name, w_std, b_std, kind):
    theta = np.array([0.0, 1e-6, 0.3, 1.0, 2.0, np.pi - 1e-6])
    X = np.sqrt(2) * np.column_stack([np.cos(theta), np.sin(theta)])
    net = nk.FCN(name, 3, w_std, b_std)
    found = getattr(net, kind)(np.concatenate([X, 3 * X]))[0, : theta.size]
    expected = net.kernel(kind).at_angle(theta)
    assert np.abs(found - expected).max() <= 1e-12 * expected[0]


def test_depth_100_stays_finite_and_within_cauchy_schwarz():
    nets = {
        "relu": (2**0.5, 0.0),
        "erf": (1.5, 0.05),
        "sin": (1.5, 0.0),
        "gelu": (1.5, 0.1),
        "abs": (1.0, 0.0),
    }
    nets |= {"cos": (1.4, 0.1), "leaky_relu": (0.5, 0.0), "tanh": (1.1, 0.1), "silu": (1.4, 0.1)}
    wide = np.concatenate([points(40, spread=2.0), [[1e3] * 5, [1e-6] * 5]])
    narrow = np.clip(wide, -4, 4)  # variances below 100, where the numerical duals are
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, kind in ((name, kind) for name in nets for kind in KINDS):
            K = getattr(nk.FCN(name, 100, *nets[name]), kind)(narrow if name in ("tanh", "silu") else wide)
            root = np.sqrt(np.diag(K))
            assert np.isfinite(K).all(), (name, kind)
            assert (np.abs(K) <= np.outer(root, root) * (1 + 1e-12)).all(), (name, kind)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 4),
    st.lists(st.floats(-6.0, 6.0).map(lambda e: 10.0**e), min_size=7, max_size=7),
    st.integers(0, 2**32 - 1),
)
def test_relu_kernels_are_homogeneous(depth, scales, seed):
    """K(αx, βx') = αβK(x, x') without biases, whatever the norms."""
    X = np.random.default_rng(seed).standard_normal((7, 3))
    net = nk.FCN("relu", depth, 2**0.5)
    for kind in KINDS:
        expected = np.outer(scales, scales) * getattr(net, kind)(X)
        assert not failures(getattr(net, kind)(np.array(scales)[:, None] * X), expected, BAR, kind)


@pytest.mark.parametrize("name", ["relu", "softplus"])
@pytest.mark.parametrize("kind", KINDS)
def test_float32(name, kind):
    """Input in float32 is computed in float64; output in float32 is the float64 result, rounded."""
    X = points(60).astype(np.float32)
    compute = getattr(nk.FCN(name, 2, 1.3, 0.1), kind)
    K = compute(X.astype(np.float64))
    assert np.array_equal(compute(X), K)
    for dtype in ("float32", np.float32):
        rounded = compute(X, dtype=dtype)
        assert rounded.dtype == np.float32
        assert np.array_equal(rounded, K.astype(np.float32))
    assert compute(X, dtype="float64").dtype == np.float64


def test_other_layouts_and_types_of_input():
    X = points(30)
    net = nk.FCN("relu", 2, 1.3, 0.1)
    K = net.ntk(X)
    wide = np.zeros((60, 10))
    wide[::2, ::2] = X
    assert np.array_equal(net.ntk(np.asfortranarray(X)), K)
    assert np.array_equal(net.ntk(wide[::2, ::2]), K)
    assert np.array_equal(net.ntk(X.tolist()), K)
    assert np.array_equal(net.ntk(np.round(X).astype(np.int32)), net.ntk(np.round(X)))
    before = X.copy()
    X.setflags(write=False)
    assert np.array_equal(net.ntk(X), K)
    assert np.array_equal(X, before)


# --- output arrays ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["relu", "softplus"])
def test_out_arrays(name):
    X, Y = points(50), points(21, seed=1)
    net = nk.FCN(name, 2, 1.3, 0.1)
    for second, shape in ((None, (50, 50)), (Y, (50, 21))):
        K = net.ntk(X, second)
        big = np.full((2 * shape[0], 3 * shape[1]), np.nan)
        for out in (np.full(shape, np.nan), np.full(shape[::-1], np.nan).T, big[::2, ::3]):
            assert net.ntk(X, second, out=out) is out
            assert np.array_equal(out, K)
        assert np.isnan(big[1::2]).all()
        assert np.isnan(np.delete(big, np.s_[::3], axis=1)).all()
        single = np.zeros(shape, dtype=np.float32)
        assert net.ntk(X, second, out=single, dtype="float32") is single
        assert np.array_equal(single, K.astype(np.float32))


def test_out_dataset(tmp_path):
    X = points(50)
    net = nk.FCN("relu", 2, 1.3, 0.1)
    with h5py.File(tmp_path / "gram.h5", "w") as file:
        for name, dtype in (("double", "float64"), ("single", "float32")):
            dataset = file.create_dataset(name, (50, 50), dtype, chunks=(16, 16))
            assert net.ntk(X, out=dataset, dtype=dtype) is dataset
            assert np.array_equal(dataset[...], net.ntk(X).astype(dtype))
        block = file.create_dataset("block", (50, 8), "float64")
        net.nngp(X, X[:8], out=block)
        assert np.array_equal(block[...], net.nngp(X, X[:8]))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((6, 5), "float64"),
        ((5,), "float64"),
        ((6, 6, 1), "float64"),
        ((6, 6), "int64"),
        ((6, 6), "complex128"),
        ((6, 6), "float16"),
    ],
)
def test_wrong_out_is_refused_and_untouched(shape, dtype, tmp_path):
    X, net = points(7)[:6], nk.FCN("relu")
    out = np.full(shape, 7, dtype=dtype)
    with pytest.raises(InputError, match="out"):
        net.ntk(X, out=out)
    assert (out == 7).all()
    with h5py.File(tmp_path / "gram.h5", "w") as file:
        dataset = file.create_dataset("K", data=out)
        with pytest.raises(InputError, match="out"):
            net.ntk(X, out=dataset)
        assert (dataset[...] == 7).all()


def test_out_that_cannot_be_written_or_is_no_array():
    X, net = points(7)[:6], nk.FCN("relu")
    frozen = np.zeros((6, 6))
    frozen.setflags(write=False)
    for out in (frozen, [[0.0] * 6] * 6, "gram.h5", 1.0):
        with pytest.raises(InputError, match="out"):
            net.ntk(X, out=out)
    for dtype in ("int32", "float16", "nonsense", complex):
        with pytest.raises(InputError, match="dtype"):
            net.ntk(X, dtype=dtype)
    clash = np.full((6, 6), 7.0)
    with pytest.raises(InputError, match="out"):
        net.ntk(X, out=clash, dtype="float32")
    assert (clash == 7).all()


def test_failed_inputs_leave_out_untouched():
    out = np.full((2, 2), 7.0)
    with pytest.raises(InputError):
        nk.FCN("relu").ntk([[1.0, np.nan], [0.0, 1.0]], out=out)
    with pytest.raises(InputError):
        nk.FCN("exp", depth=4).ntk([[1.0, 2.0], [40.0, 50.0]], out=out)
    assert (out == 7).all()


# --- wrong input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (([1.0, 2.0],), "X1"),
        ((3.0,), "X1"),
        (([[[1.0]]],), "X1"),
        (([[1.0, 2.0], [3.0]],), "X1"),
        (([[1.0, 2.0]], [[1.0]]), "2.*1|1.*2"),
        (([[1.0, 2.0]], [1.0, 2.0]), "X2"),
        (([[1.0, 2.0], [3.0, np.nan]],), r"X1\[1, 1\] is nan"),
        (([[1.0, 2.0]], [[1.0, 2.0], [-np.inf, 0.0]]), r"X2\[1, 0\] is -inf"),
        (([[1.0 + 0j]],), "real numbers.*complex"),
        (([["a", "b"]],), "real numbers"),
        (("text",), "X1"),
        ((None,), "X1"),
        ((np.zeros((3, 0)),), "X1"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_wrong_points(arguments, text, kind):
    with pytest.raises(InputError, match=text):
        getattr(nk.FCN("relu"), kind)(*arguments)


@pytest.mark.parametrize("threads", [0, -1, 1.5, "two"])
def test_wrong_threads(threads):
    with pytest.raises(InputError, match="threads"):
        nk.FCN("relu").ntk([[1.0]], threads=threads)


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_no_rows(name):
    net, none, X = nk.FCN(name), np.zeros((0, 3)), np.ones((4, 3))
    assert net.ntk(none).shape == (0, 0)
    assert net.ntk(none, X).shape == (0, 4)
    assert net.nngp(X, none).shape == (4, 0)
    assert net.ntk(X[:1]).shape == (1, 1)


@pytest.mark.parametrize("name", ["relu", "step", "sin", "tanh", "elu"])
def test_zero_vectors_alone(name):
    K = nk.FCN(name, 3, 1.2).ntk(np.zeros((3, 2)))
    assert np.array_equal(K, np.zeros((3, 3)))


@pytest.mark.parametrize("kind", KINDS)
def test_variances_at_which_a_moment_is_infinite_are_named(kind):
    X = np.array([[0.1, 0.1], [1.0, 1.0]])
    with pytest.raises(InputError, match="variance"):
        getattr(nk.FCN("exp(z**2)"), kind)(X)
    with pytest.raises(InputError, match="variance"):
        getattr(nk.FCN("exp", depth=3), kind)(np.array([[1.0, 1.0], [30.0, 40.0]]))
    with pytest.raises(InputError, match="variance"):
        getattr(nk.FCN("relu"), kind)([[1.0, 0.0], [1e200, 1e200]])
    with pytest.raises(InputError, match="variance"):
        getattr(nk.FCN("relu", 400, 1e2), kind)([[1.0, 0.0]])
    with pytest.raises(InputError, match="variance"):
        getattr(nk.FCN(nk.activation("monomial", degree=9), depth=6), kind)([[30.0, 10.0]])


@pytest.mark.parametrize("kind", KINDS)
def test_a_formula_near_its_last_finite_variance_is_right_or_says_so(kind):
    """exp(z²) has E[φ²] = (1 − 4q)^(−1/2) up to q = 1/4, and E[φ'²] likewise."""
    for q in (0.05, 0.15, 0.2, 0.24):
        X = np.array([[1.0, 1.0], [1.0, -1.0], [0.5, 0.1]])
        truth = oracle.gram(oracle.gaussian(1, 1), X, (1,), q**0.5, 0.0)[1][KINDS.index(kind)]
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                found = getattr(nk.FCN("exp(z**2)", 1, q**0.5), kind)(X)
            except InputError as error:
                assert "variance" in str(error)  # noqa: PT017
                continue
        assert told or not failures(found, truth, 1e-10, f"variance {q}")
