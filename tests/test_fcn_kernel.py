"""Kernels of deep networks of infinite width against 40-digit recursions."""

import math
import warnings

import mpmath as mp
import numpy as np
import pytest

from ntkengine.activations import activation
from ntkengine.errors import InputError, UnknownNameError
from ntkengine.infinite import FCN
from ntkengine.kernels import DotProductKernel
from tests.oracles import kernels as oracle

CASES = [
    ("relu", {}, 2**0.5, 0.1, oracle.relu_dual),
    ("relu", {}, 2**0.5, 0.0, oracle.relu_dual),
    ("abs", {}, 1.0, 0.0, oracle.leaky_dual(-1, 1)),
    ("leaky_relu", {"slope": 0.25}, 1.3, 0.2, oracle.leaky_dual(0.25, 1)),
    ("erf", {}, 1.4, 0.3, oracle.erf_dual(1, 1)),
    ("cos", {"b": 1.5, "c": 0.4}, 1.4, 0.3, oracle.cos_dual(mp.mpf(1.5), mp.mpf(0.4))),
    ("sin", {"b": 1.5}, 1.4, 0.0, oracle.cos_dual(mp.mpf(1.5), -mp.pi / 2)),
    ("gaussian", {"b": -0.5}, 1.4, 0.3, oracle.gaussian_dual(-mp.mpf(0.5))),
    ("identity", {}, 0.9, 0.3, oracle.identity_dual),
    ("step", {}, 1.4, 0.3, oracle.step_dual),
    ("sign", {}, 1.4, 0.3, oracle.sign_dual),
]
IDS = [f"{c[0]}-{c[3]}" for c in CASES]


@pytest.mark.parametrize("depth", [1, 2, 4, 10])
@pytest.mark.parametrize(("name", "parameters", "w_std", "b_std", "dual"), CASES, ids=IDS)
def test_against_mpmath(name, parameters, w_std, b_std, dual, depth):
    net = FCN(activation(name, **parameters), depth, w_std, b_std, 0.8, 0.2)
    cosines = np.array([-1.0, -0.9, -0.3, 0.0, 0.5, 0.95, 0.999, 1.0])
    nngp, ntk = net.kernel("nngp"), net.kernel("ntk")
    found = np.array([nngp(cosines), ntk(cosines)])
    exact = np.array(
        [
            [float(v) for v in oracle.kernels(dual, depth, w_std, b_std, 1 - mp.mpf(float(c)), (0.8, 0.2))]
            for c in cosines
        ]
    ).T
    assert np.abs(found - exact).max(axis=1)[0] <= 1e-12 * exact[0, -1]
    assert np.abs(found - exact).max(axis=1)[1] <= 1e-12 * exact[1, -1]


@pytest.mark.parametrize("depth", [1, 4, 10])
@pytest.mark.parametrize(("name", "parameters", "w_std", "b_std", "dual"), CASES, ids=IDS)
def test_near_duplicates_and_antipodes_at_angle(name, parameters, w_std, b_std, dual, depth):
    """1 − c from 1e-3 to 1e-24, and the mirror image near π."""
    net = FCN(activation(name, **parameters), depth, w_std, b_std)
    near = np.sqrt(2 * 10.0 ** -np.arange(3.0, 25.0, 3.0))
    angles = np.concatenate([near, [math.pi - 1e-3, math.pi - 1e-8, math.pi]])
    found = np.array([net.kernel("nngp").at_angle(angles), net.kernel("ntk").at_angle(angles)]).T
    with mp.workdps(60):
        scale = [float(v) for v in oracle.kernels(dual, depth, w_std, b_std, 0)]
        for i, angle in enumerate(angles):
            delta = 2 * mp.sin(mp.mpf(float(angle)) / 2) ** 2 if angle != math.pi else mp.mpf(2)
            exact = [float(v) for v in oracle.kernels(dual, depth, w_std, b_std, delta)]
            assert abs(found[i, 0] - exact[0]) <= 1e-12 * scale[0]
            assert abs(found[i, 1] - exact[1]) <= 1e-12 * scale[1]


def test_known_values_of_the_four_layer_relu():
    k = FCN("relu", depth=4, w_std=2**0.5, b_std=0.1).kernel("ntk")
    assert abs(k(1.0) - 5.07) < 1e-12
    assert abs(k(-1.0) - 1.085666) < 1e-6
    assert abs(k.value_at_one - 5.07) < 1e-12
    assert k.error < 1e-11
    assert k.variances == pytest.approx([2.01, 2.02, 2.03, 2.04])


def test_ntk_against_a_finite_difference_free_sum():
    """1HL theorem: NTK = Σ (1+k) a_k² c^k (Simon et al. 2022, Thm 3.1)."""
    phi = activation("erf", a=1.2, b=0.9)
    a = phi.hermite(120)
    c = np.linspace(-1, 1, 21)
    k = FCN(phi).kernel("ntk")
    exact = sum((1 + i) * a[i] ** 2 * c**i for i in range(121))
    assert np.abs(k(c) - exact).max() < 1e-14


def test_depth_100_stays_finite_and_ordered():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, w_std, b_std in (
            ("relu", 2**0.5, 0.0),
            ("erf", 1.5, 0.05),
            ("relu", 0.5, 0.0),
            ("tanh", 1.1, 0.1),
        ):
            k = FCN(name, 100, w_std, b_std).kernel("ntk")
            values = k.at_angle(np.linspace(0, np.pi, 50))
            assert np.isfinite(values).all()
            assert values[0] == pytest.approx(k.value_at_one)
            assert (np.abs(values) <= values[0] * (1 + 1e-12)).all()


def test_call_clips_rounding_and_keeps_shape():
    k = FCN("relu").kernel("nngp")
    assert k(1 + 1e-13) == k(1.0)
    assert isinstance(k(0.3), np.float64)
    assert k(np.zeros((2, 3))).shape == (2, 3)
    assert k([]).shape == (0,)
    assert "relu" in repr(k)
    assert k.at_angle(np.pi / 2) == pytest.approx(k(0.0), abs=1e-15)


@pytest.mark.parametrize("value", [1.001, -1.1, math.nan, math.inf])
def test_cosines_outside_are_refused(value):
    with pytest.raises(InputError, match="c has the value"):
        FCN("relu").kernel()([0.0, value])


def test_angles_outside_are_refused():
    with pytest.raises(InputError, match=r"theta has the value 4\.0"):
        FCN("relu").kernel().at_angle(4.0)
    with pytest.raises(InputError, match="'text'"):
        FCN("relu").kernel()("text")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"depth": 0}, "depth is 0"),
        ({"depth": 1.5}, r"depth is 1\.5"),
        ({"w_std": 0.0}, r"w_std is 0\.0"),
        ({"w_std": -1.0}, r"w_std is -1\.0"),
        ({"b_std": -0.1}, r"b_std is -0\.1"),
        ({"b_std": math.nan}, "b_std is nan"),
        ({"readout_w_std": 0}, "readout_w_std is 0"),
        ({"readout_b_std": "x"}, "readout_b_std is 'x'"),
        ({"w_std": 1e200}, r"w_std is 1e\+200, too large .* from 1e-30 to 1e\+30"),
        ({"w_std": 1e-300}, "w_std is 1e-300, too small"),
        ({"w_std": 10**400}, r"w_std is 1000.*; it must be a finite"),
        ({"readout_w_std": 1e-40}, "readout_w_std is 1e-40, too small"),
        ({"b_std": 1e31}, r"b_std is 1e\+31, too large .* from 0 to"),
        ({"readout_b_std": 1e200}, r"readout_b_std is 1e\+200, too large"),
        ({"depth": 10**400}, "depth is 1000.* from 1 to 100000"),
        ({"depth": -(10**5000)}, "depth is an integer"),
        ({"depth": "4"}, "depth is '4'"),
        ({"width": 10**400}, "width is 1000"),
        ({"parameterization": "standard", "width": 10**400}, "width is 1000.* from 1 to 9007199254740992"),
        ({"parameterization": "standard", "width": np.uint64(2**60)}, "width is .* 1 to 900719"),
        ({"parameterization": "standard", "width": np.int64(-(2**63))}, "width must be an integer ≥ 1"),
        ({"parameterization": "standard", "width": "wide"}, "width must be an integer .* not 'wide'"),
    ],
)
def test_bad_architectures(arguments, text):
    with pytest.raises(InputError, match=text):
        FCN("relu", **arguments)


def test_sizes_beyond_the_floats():
    net = FCN("relu", parameterization="standard", width=4)
    with pytest.raises(InputError, match="n_inputs is 1000"):
        net.kernel("ntk", n_inputs=10**400)
    with pytest.raises(
        InputError, match=r"NTK of 1-hidden-layer monomial.* is inf at c = 1: with w_std=1e\+30"
    ):
        FCN(activation("monomial", degree=5), w_std=1e30, readout_w_std=1e30).kernel()
    for name in ("relu", "erf", "gelu", "gaussian", "sin", "rbf"):
        for w_std in (1e30, 1e-30):
            assert np.isfinite(FCN(name, w_std=w_std).kernel()([-1.0, 0.3, 1.0])).all()


def test_names_say_what_the_kernel_depends_on():
    assert FCN("relu").kernel("nngp").name == "NNGP of 1-hidden-layer relu"
    assert (
        FCN("relu", 4, 2**0.5, 0.1).kernel().name == "NTK of 4-hidden-layer relu (w_std=1.41421, b_std=0.1)"
    )
    net = FCN("erf", readout_w_std=0.5, readout_b_std=2.0, parameterization="standard", width=64)
    readout = "readout_w_std=0.5, readout_b_std=2"
    assert net.kernel("nngp").name == f"NNGP of 1-hidden-layer erf(a=1, b=1, c=0) ({readout})"
    assert net.kernel("ntk", n_inputs=3).name.endswith(
        f"({readout}, standard parameterization, width=64, n_inputs=3)"
    )


def test_unknown_names():
    with pytest.raises(InputError, match="kind is 'NTK'"):
        FCN("relu").kernel("NTK")
    with pytest.raises(UnknownNameError, match="relu"):
        FCN("rellu")


def test_vanishing_and_exploding_signals_are_named():
    with pytest.raises(InputError, match="hidden layer 2"):
        FCN(activation("sin", a=0.0), depth=2).kernel()
    with pytest.raises(InputError, match=r"infinite at variance|explode"):
        FCN("exp", depth=6, w_std=2.0).kernel()


def test_a_kernel_is_a_dot_product_kernel():
    class Power(DotProductKernel):
        name = "c³"

        def _values(self, c, complement):
            assert np.array_equal(complement, 1 - c) or complement[0] < 1e-20
            return c**3

    assert Power()(0.5) == 0.125
    assert Power().at_angle(1e-11) == 1.0
