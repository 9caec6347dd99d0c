"""The oracles of Gram matrices against each other; then activations without a closed form, and their error estimates."""

import math
import warnings

import mpmath as mp
import numpy as np
import pytest
from scipy.special import erf, ndtr

import ntkengine as nk
from ntkengine.errors import AccuracyWarning
from tests.oracles import grams as oracle
from tests.oracles import kernels as sphere_oracle

BAR = 1e-10
KINDS = ("nngp", "ntk")
READOUT = (0.9, 0.1)
RELU_COS = (3.80016, 1.06, 0.0968093, 0.901006, -0.0793610, 11.81057, 0.934055)  # the family's defaults


def _wave(a, f, g):
    return lambda z: a * np.sin(f * z + g), lambda z: a * f * np.cos(f * z + g), (), 4.0 / f


def _bends(relus, c, d, e, f, g):
    return (
        lambda z: sum(a * np.maximum(z - b, 0) for a, b in relus) + c * z + d + e * np.cos(f * z + g),
        lambda z: sum(a * (z > b) for a, b in relus) + c - e * f * np.sin(f * z + g),
        tuple(b for _, b in relus),
        4.0 / max(f, 1),
    )


# --- the oracles against each other ---------------------------------------------------------------------------

BENDS = [(3.80016, 1.06), (-0.8, 0.0)], 0.0968093, 0.901006, -0.0793610, 3.81057, 0.934055
HERMITE = (0.3, -1.0, 0.5, 0.2)

#: Closed form, and the same activation for the plane.
TWINS = {
    "relu": (oracle.relu, (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0, (0.0,), 9.0)),
    "abrelu": (
        oracle.piecewise_linear(-0.3, 1.2),
        (lambda z: np.where(z > 0, 1.2, -0.3) * z, lambda z: np.where(z > 0, 1.2, -0.3), (0.0,), 9.0),
    ),
    "step": (oracle.step, (lambda z: (z > 0) * 1.0, np.zeros_like, (0.0,), 9.0)),
    "sign": (oracle.sign, (np.sign, np.zeros_like, (0.0,), 9.0)),
    "identity": (oracle.identity, (lambda z: z, np.ones_like, (), 9.0)),
    "squared relu": (
        oracle.squared_relu,
        (lambda z: np.maximum(z, 0) ** 2, lambda z: 2 * np.maximum(z, 0), (0.0,), 9.0),
    ),
    "erf": (
        oracle.erf(1.3, 0.8, 0.2),
        (
            lambda z: 1.3 * erf(0.8 * z) + 0.2,
            lambda z: 2.08 / np.sqrt(np.pi) * np.exp(-0.64 * z * z),
            (),
            2.0,
        ),
    ),
    "sin": (oracle.sine(1.2, 1.5, 0.3), _wave(1.2, 1.5, 0.3)),
    "cos": (oracle.cosine(1.2, 1.5, 0.3 - np.pi / 2), _wave(1.2, 1.5, 0.3)),
    "rbf": (oracle.rbf(0.7), _wave(np.sqrt(2), np.sqrt(1.4), np.pi / 4)),
    "gaussian": (
        oracle.gaussian(1.1, -0.7),
        (lambda z: 1.1 * np.exp(-0.7 * z * z), lambda z: -1.54 * z * np.exp(-0.7 * z * z), (), 2.0),
    ),
    "exp": (
        oracle.exponential(0.5, 0.05),
        (lambda z: 0.5 * np.exp(0.05 * z), lambda z: 0.025 * np.exp(0.05 * z), (), 9.0),
    ),
    "gelu": (
        oracle.gelu,
        (lambda z: z * ndtr(z), lambda z: ndtr(z) + z * np.exp(-z * z / 2) / np.sqrt(2 * np.pi), (), 2.0),
    ),
    "polynomial": (
        oracle.polynomial([0.3, -1, 0.5, 0.2]),
        (lambda z: 0.3 - z + 0.5 * z**2 + 0.2 * z**3, lambda z: -1 + z + 0.6 * z**2, (), 9.0),
    ),
    "hermite": (
        oracle.hermite(HERMITE),
        (
            lambda z: 0.3 - z + 0.5 * (z * z - 1) / 2**0.5 + 0.2 * (z**3 - 3 * z) / 6**0.5,
            lambda z: -1 + z / 2**0.5 + 0.6 * (z * z - 1) / 6**0.5,
            (),
            9.0,
        ),
    ),
    "bends": (oracle.relus_and_cosine(*BENDS), _bends(*BENDS)),
}
#: (q1, q2, θ), near ±1 and at ±1 as well.
COVARIANCES = [
    (1.0, 1.0, 1e-9),
    (1.0, 1.0, 0.7),
    (2.0, 0.01, 2.5),
    (100.0, 0.3, 0.2),
    (100.0, 99.0, 1e-3),
    (4.0, 4.0, math.pi - 1e-6),
    (3.0, 1.0, 0.0),
    (3.0, 1.0, math.pi),
    (0.01, 0.01, 1.0),
    (2.0, 0.0, math.pi / 2),
    (0.0, 0.0, math.pi / 2),
]


@pytest.mark.parametrize("name", TWINS)
def test_the_plane_agrees_with_closed_forms(name):
    closed, plane = TWINS[name]
    for q1, q2, theta in COVARIANCES:
        with mp.workdps(60):
            angle = mp.pi if theta == math.pi else mp.mpf(theta)
            value, slope = closed(mp.mpf(q1), mp.mpf(q2), mp.sqrt(mp.mpf(q1) * q2) * mp.cos(angle))
            tops = [closed(mp.mpf(q), mp.mpf(q), mp.mpf(q)) for q in (q1, q2)]
            scale = [float(mp.sqrt(tops[0][i] * tops[1][i])) for i in (0, 1)]
            halves = [
                float(h) if h > 1e-50 else 0.0 for h in (mp.sin(angle / 2) ** 2, mp.cos(angle / 2) ** 2)
            ]
        found = oracle.plane_sums(plane, q1, q2, halves)
        assert abs(found[0] - float(value)) <= 3e-14 * scale[0], (q1, q2, theta)
        if q1 * q2 > 0:  # at variance 0 the slope multiplies 0
            assert abs(found[1] - float(slope)) <= 3e-14 * scale[1], (q1, q2, theta)
        assert found[2] + found[3] == pytest.approx(2 * (float(tops[0][0]) + float(tops[1][0])), rel=1e-13)


@pytest.mark.parametrize("name", ["tanh", "softplus", "silu", "mish", "sigmoid"])
def test_the_plane_agrees_with_mehler_sums(name):
    activation = oracle.NUMERICAL[name]
    for q1, q2, rho in ((1.0, 1.0, 0.9), (0.3, 2.5, -0.8), (0.01, 4.0, 0.3), (4.0, 1.0, 0.97)):
        found = oracle.plane_sums(activation, q1, q2, ((1 - rho) / 2, (1 + rho) / 2))
        expected = oracle.series(activation[0], q1, q2, rho)
        tops = [oracle.plane_sums(activation, q, q, (0.0, 1.0)) for q in (q1, q2)]
        for i in (0, 1):
            assert abs(found[i] - expected[i]) <= 1e-13 * math.sqrt(tops[0][i] * tops[1][i])


@pytest.mark.parametrize("name", oracle.NUMERICAL)
def test_the_plane_agrees_with_itself_on_finer_panels(name):
    """And, at equal variances and a moderate angle, with a plain conditional rule."""
    phi, dphi, kinks, width = oracle.NUMERICAL[name]
    grading = 10 if "1.5" in name else 0  # a root of z at the kink
    for q1, q2, theta in (
        (1.0, 1.0, 1e-6),
        (0.3, 2.5, 2.0),
        (100.0, 80.0, 0.4),
        (100.0, 100.0, 0.0),
        (1.0, 1.0, math.pi - 1e-4),
    ):
        halves = math.sin(theta / 2) ** 2, math.cos(theta / 2) ** 2
        found = oracle.plane_sums((phi, dphi, kinks, width), q1, q2, halves, grading=grading)
        finer = oracle.plane_sums((phi, dphi, kinks, 0.6 * width), q1, q2, halves, grading=grading)
        assert found == pytest.approx(finer, rel=1e-13, abs=1e-14 * abs(found).max())
    found = oracle.plane_sums((phi, dphi, kinks, width), 1.3, 1.3, (0.35, 0.65), grading=grading)
    other = sphere_oracle.dual_by_quadrature(phi, dphi, 1.3, 0.3, nodes=20, panels=36, kinks=kinks)
    assert found[:2] == pytest.approx(other, rel=3e-6 if grading else 1e-13)


def cloud(largest=100.0, smallest=0.01, w_std=1.2, d=3):
    """Points whose variances σ_w²|x|²/d run from ``smallest`` to ``largest``; x and its neighbours between."""
    rng = np.random.default_rng(3)
    x, y, side = rng.standard_normal((3, d))
    side -= (side @ x) / (x @ x) * x
    x, y, side = (v * np.sqrt(d / (v @ v)) / w_std for v in (x, y, side))
    x, side, y = math.sqrt(largest) / 10 * x, math.sqrt(largest) / 10 * side, math.sqrt(largest) * y
    low = 10 * math.sqrt(smallest / largest) * x
    return np.array([x, x + 1e-8 * side, x * (1 + 1e-7), y, low, -x, 0 * x, 0.5 * y - x])


@pytest.mark.parametrize(
    ("name", "b_std"),
    [("relu", 0.0), ("relu", 0.3), ("abrelu", 0.0), ("step", 0.0), ("gelu", 0.3), ("bends", 0.3)],
)
def test_the_two_recursions_agree(name, b_std):
    closed, plane = TWINS[name]
    X = cloud(1.0 if name in ("gelu", "bends") else 100.0)
    deep = oracle.gram(closed, X, (1, 3), 1.2, b_std, READOUT, 40)
    found = oracle.numerical_gram(plane, X, (1, 3), 1.2, b_std, READOUT)
    for depth in (1, 3):
        for kind in (0, 1):
            assert oracle.relative_error(found[depth][kind], deep[depth][kind]).max() <= 1e-13


def test_the_recursion_agrees_with_the_one_on_the_sphere():
    X = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    for here, there in (
        (oracle.piecewise_linear(-0.3, 1.2), sphere_oracle.leaky_dual(-0.3, 1.2)),
        (oracle.erf(1.3, 0.8), sphere_oracle.erf_dual(mp.mpf(1.3), mp.mpf(0.8))),
        (oracle.cosine(1, 1.5, 0.4), sphere_oracle.cos_dual(mp.mpf(1.5), mp.mpf(0.4))),
        (oracle.gaussian(1, -0.7), sphere_oracle.gaussian_dual(-mp.mpf(0.7))),
        (oracle.step, sphere_oracle.step_dual),
    ):
        for depth, found in oracle.gram(here, X, (1, 4, 10), 1.2, 0.3, READOUT).items():
            for j, delta in ((0, 0), (1, 1), (2, 2)):
                exact = sphere_oracle.kernels(there, depth, 1.2, 0.3, delta, READOUT)
                assert [k[0, j] for k in found] == pytest.approx([float(v) for v in exact], rel=1e-14)


# --- the engine -----------------------------------------------------------------------------------------------

CLIP = [(1, -1), (-1, 1)], 0, -1, 0, 0, 0
BUMP = [(1, 1)], 0, 0, 0.1, 4, 0
BEND = [RELU_COS[:2]], *RELU_COS[2:]
TWO_BENDS = [RELU_COS[:2], (0.1, 0.0)], *RELU_COS[2:]

#: id: (activation, closed form or None, σ_w, σ_b, largest variance, depths)
ENGINE = {
    "tanh": ("tanh", None, 1.2, 0.0, 100.0, (1, 2, 4)),
    "tanh biased": ("tanh", None, 1.2, 0.3, 100.0, (1, 2, 4)),
    "sigmoid": ("sigmoid", None, 1.2, 0.0, 100.0, (1, 2)),
    "softplus": ("softplus", None, 1.2, 0.3, 100.0, (1, 2, 4)),
    "silu": ("silu", None, 1.2, 0.0, 100.0, (1, 2)),
    "elu": ("elu", None, 1.2, 0.0, 100.0, (1, 2, 4)),
    "elu biased": ("elu", None, 1.2, 0.3, 10.0, (4,)),
    "selu": ("selu", None, 0.9, 0.0, 100.0, (1,)),
    "selu biased": ("selu", None, 0.9, 0.3, 10.0, (2,)),
    "mish": ("mish", None, 1.2, 0.0, 100.0, (1, 2)),
    "mish biased": ("mish", None, 1.2, 0.3, 10.0, (1, 2, 4)),
    "relu-tanh": ("relu(z)*tanh(z)", None, 1.2, 0.0, 100.0, (1,)),
    "relu-tanh biased": ("relu(z)*tanh(z)", None, 1.2, 0.3, 10.0, (2,)),
    "cube": ("abs(z - 0.5)**3", None, 1.2, 0.3, 100.0, (1,)),
    "deep cube": ("abs(z - 0.5)**3", None, 0.18, 0.0, 1.0, (1, 2, 4)),
    "square": ("relu(z)**2", oracle.squared_relu, 1.2, 0.3, 100.0, (1,)),
    "deep square": ("relu(z)**2", oracle.squared_relu, 0.6, 0.0, 1.0, (1, 2, 4)),
    "clip": ("min(max(z, -1), 1)", oracle.relus_and_cosine(*CLIP), 1.2, 0.0, 100.0, (1, 2)),
    "bump": ("max(z-1, 0) + 0.1*cos(4*z)", oracle.relus_and_cosine(*BUMP), 1.2, 0.0, 100.0, (1, 2, 4)),
    "bump biased": ("max(z-1, 0) + 0.1*cos(4*z)", oracle.relus_and_cosine(*BUMP), 1.2, 0.3, 100.0, (1, 2)),
    "sine formula": ("0.5*sin(6*z)", oracle.sine(0.5, 6), 1.2, 0.3, 100.0, (1, 2, 4)),
    "sine built in": (("sin", {"a": 0.5, "b": 6.0}), oracle.sine(0.5, 6), 1.2, 0.3, 100.0, (1, 2, 4)),
    "relu_cos": ("relu_cos", oracle.relus_and_cosine(*BEND), 0.4, 0.3, 100.0, (1, 2)),
    "relu2_cos": ("relu2_cos", oracle.relus_and_cosine(*TWO_BENDS), 0.4, 0.0, 100.0, (1, 2)),
}


def _network(spec, *architecture):
    name, parameters = spec if isinstance(spec, tuple) else (spec, {})
    return nk.FCN(nk.activation(name, **parameters), *architecture)


@pytest.mark.filterwarnings(
    "ignore::ntkengine.errors.AccuracyWarning"
)  # at variance 100 some estimates are above 1e-9
@pytest.mark.parametrize("case", ENGINE)
def test_numerical_duals_at_any_norm(case):
    """Variances from 0.01 to 100 in one matrix: duplicates, antipodes, points 1e-8 apart, the zero vector."""
    spec, closed, w_std, b_std, largest, depths = ENGINE[case]
    X = cloud(largest, largest / 1e4, w_std)
    if closed is None:
        truth = oracle.numerical_gram(oracle.NUMERICAL[spec], X, depths, w_std, b_std, READOUT)
    else:
        truth = oracle.gram(closed, X, depths, w_std, b_std, READOUT, 40)
    twice = [*range(len(X)), 0, 3]  # exact duplicates cost the oracle nothing
    wrong = []
    for depth in depths:
        net = _network(spec, depth, w_std, b_std, *READOUT)
        for kind, expected in zip(KINDS, (matrix[np.ix_(twice, twice)] for matrix in truth[depth])):
            found = getattr(net, kind)(X[twice])
            error = oracle.relative_error(found, expected)
            if not (error <= BAR).all():
                i, j = np.unravel_index(np.argmax(np.where(np.isnan(error), np.inf, error)), error.shape)
                wrong.append(
                    f"{kind}, depth {depth}: {int((~(error <= BAR)).sum())} entries, K[{i}, {j}] = {found[i, j]!r}, "
                    f"exact {expected[i, j]!r}, error {error[i, j]:.2e}"
                )
    assert not wrong, "\n".join(wrong)


def test_a_formula_and_the_built_in_agree():
    X = cloud()
    formula, built_in = (_network(ENGINE[f"sine {k}"][0], 2, 1.2, 0.3) for k in ("formula", "built in"))
    for kind in KINDS:
        assert oracle.relative_error(getattr(formula, kind)(X), getattr(built_in, kind)(X)).max() <= 2 * BAR


#: (activation, closed form or None, σ_w, σ_b, grading of the oracle's panels)
ESTIMATED = [
    ("tanh", None, 1.2, 0.3, 0),
    ("tanh", None, 10.0, 0.0, 0),
    ("elu", None, 1.5, 0.0, 0),
    ("mish", None, 3.0, 0.1, 0),
    ("relu(z)*tanh(z)", None, 1.2, 0.3, 0),
    ("abs(z - 0.5)**3", None, 1.0, 0.0, 0),
    ("abs(z - 0.5)**1.5", None, 1.0, 0.0, 10),
    ("relu(z)**2", oracle.squared_relu, 1.1, 0.0, 0),
    ("0.5*sin(6*z)", oracle.sine(0.5, 6), 1.0, 0.0, 0),
    ("0.5*sin(6*z)", oracle.sine(0.5, 6), 3.0, 0.0, 0),
    ("max(z-1, 0) + 0.1*cos(4*z)", oracle.relus_and_cosine(*BUMP), 1.4, 0.1, 0),
    ("relu_cos", oracle.relus_and_cosine(*BEND), 1.0, 0.0, 0),
]


@pytest.mark.parametrize(
    ("name", "closed", "w_std", "b_std", "grading", "depth"),
    [(*case, depth) for case in ESTIMATED for depth in ((1,) if case[-1] else (1, 2))],
)
def test_error_estimates_on_the_sphere_cover_the_error(name, closed, w_std, b_std, grading, depth):
    """Within a factor of 3, above the rounding of a few operations a layer."""
    theta = np.array([0.0, 1e-3, 0.5, 1.6, 2.6, np.pi])
    X = math.sqrt(2) * np.column_stack([np.cos(theta), np.sin(theta)])
    if closed is None:
        truth = oracle.numerical_gram(oracle.NUMERICAL[name], X, (depth,), w_std, b_std, grading=grading)
    else:
        truth = oracle.gram(closed, X, (depth,), w_std, b_std, digits=40)
    net = nk.FCN(name, depth, w_std, b_std)
    for kind, expected in zip(KINDS, truth[depth]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AccuracyWarning)
            kernel = net.kernel(kind)
        error = np.abs(kernel.at_angle(theta) - expected[0]).max()
        assert error <= 3 * kernel.error + 2e-14 * depth * expected[0, 0], (kind, error, kernel.error)
        assert kernel.error <= 1e-10 * expected[0, 0] or grading, (kind, kernel.error)
