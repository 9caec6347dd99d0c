"""Families of any size: sums of shifted ReLUs and splines."""

import math
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from scipy.interpolate import CubicSpline

from ntkengine import _jit
from ntkengine.activations import Activation, activation, flexible, registry
from ntkengine.activations.flexible import MAX_SIZE, UNROLLED, kinks_family, spline_family, spline_knots
from ntkengine.errors import InputError
from ntkengine.infinite import FCN
from tests.oracles import activations as oracle
from tests.oracles import grams

#: (size, density, start): evenly spaced, one octave and more, crowded at 0, many.
SHAPES = [(3, 0, 1), (5, 1, 2), (9, 2, 0), (17, 1, -2), (31, 2, -1), (63, 3, -2)]
POINTS = np.concatenate([np.linspace(-9, 9, 2001), np.random.default_rng(4).standard_normal(1500)])


def kinks(size, seed=0):
    rng = np.random.default_rng([size, seed])
    return {"a": rng.standard_normal(size), "b": 1.5 * rng.standard_normal(size), "c": 0.3, "d": -0.2}


def ramps(z, a, b, c=0.0, d=0.0):
    beyond = np.asarray(z, dtype=np.float64)[..., None] - np.asarray(b)
    return c * z + d + np.maximum(beyond, 0.0) @ a, c + (beyond > 0) @ np.asarray(a)


def knots(size, density, start):
    """The definition: |z| + 2^start runs through 2^density equal steps to each octave from 2^start on."""
    u = [
        2.0 ** (start + k // 2**density) * (1 + k % 2**density / 2**density) - 2.0**start
        for k in range(size // 2 + 1)
    ]
    return np.array([*(-x for x in u[:0:-1]), *u])


def wavy(t, seed=1):
    return np.tanh(t) * np.log(np.abs(t) + 0.3) + 0.1 * np.random.default_rng(seed).standard_normal(t.size)


class Spline:
    """SciPy's natural cubic spline, with straight lines outside."""

    def __init__(self, t, y):
        self.inner, self.low, self.high = CubicSpline(t, y, bc_type="natural"), t[0], t[-1]

    def __call__(self, z):
        near = np.clip(z, self.low, self.high)
        return self.inner(near) + self.inner(near, 1) * (z - near)

    def slope(self, z):
        return self.inner(np.clip(z, self.low, self.high), 1)


def splines(shape):
    t = knots(*shape)
    y = wavy(t)
    return activation("spline", values=y, density=shape[1], start=shape[2]), Spline(t, y), t


# --- values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 8, 17, 33, 64])
def test_kinks_are_shifted_relus(size):
    given_ = kinks(size)
    phi = activation("kinks", **given_)
    value, slope = ramps(POINTS, **given_)
    found, found_slope = phi.both(POINTS)
    bound = 1e-15 * size * np.abs(given_["a"]).max() * 15
    assert np.abs(found - value).max() <= bound
    assert np.abs(found_slope - slope).max() <= bound
    single = phi.both(POINTS.astype(np.float32))
    assert single[0].dtype == np.float32
    assert np.abs(single[0] - value).max() <= 1e9 * bound
    away = np.abs(POINTS[:, None] - given_["b"]).min(axis=1) > 1e-5
    assert np.abs(single[1] - slope)[away].max() <= 1e9 * bound


@given(
    pairs=st.lists(st.tuples(st.floats(-5, 5), st.floats(-6, 6)), min_size=8, max_size=8),
    c=st.floats(-2, 2),
    d=st.floats(-2, 2),
    z=st.floats(-8, 8),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_kinks_anywhere(pairs, c, d, z):
    a, b = (np.array(x) for x in zip(*pairs))
    phi = activation("kinks", a=a, b=b, c=c, d=d)
    value, slope = ramps(np.array([z]), a, b, c, d)
    found, found_slope = phi.both([z])
    assert found[0] == pytest.approx(value[0], abs=1e-13)
    assert found_slope[0] == pytest.approx(slope[0], abs=1e-14)


@pytest.mark.parametrize("shape", SHAPES)
def test_splines_are_natural_cubic_splines(shape):
    phi, exact, t = splines(shape)
    np.testing.assert_array_equal(spline_knots(*shape), t)
    size = np.abs(exact(POINTS)).max()
    assert np.abs(phi(POINTS) - exact(POINTS)).max() <= 2e-14 * size
    assert np.abs(phi.derivative(POINTS) - exact.slope(POINTS)).max() <= 2e-14 * np.abs(exact.slope(t)).max()
    assert np.abs(phi(POINTS.astype(np.float32)) - exact(POINTS)).max() <= 2e-6 * size
    np.testing.assert_allclose(phi(t), phi.parameters["values"], atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_not_a_number(dtype):
    for size in (8, UNROLLED + 1):
        phi = activation("kinks", a=np.ones(size), b=np.linspace(-1, 1, size), c=0.5)
        assert np.isnan(phi(dtype(np.nan)))
    phi, _, _ = splines(SHAPES[1])
    assert np.isnan(phi(dtype(np.nan)))


@pytest.mark.parametrize("size", [8, UNROLLED + 1])
def test_slope_at_a_kink_is_that_on_the_left(size):
    phi = activation("kinks", a=np.ones(size), b=np.arange(size))
    np.testing.assert_array_equal(phi.derivative(np.arange(3.0)), [0, 1, 2])


# --- kinks, coefficients, kernels ---------------------------------------------------------------------------


def test_kinks_are_declared():
    given_ = kinks(5)
    phi = activation("kinks", **given_)
    order = np.argsort(given_["b"])
    assert [k.location for k in phi.kinks] == given_["b"][order].tolist()
    assert [k.jumps for k in phi.kinks] == [(0, a, 0, 0) for a in given_["a"][order]]
    assert len(activation("kinks", a=[1.0, 2.0], b=[0.5, 0.5]).kinks) == 1


@pytest.mark.parametrize("shape", SHAPES[1:4])
def test_jumps_of_the_third_derivative_are_declared(shape):
    phi, exact, t = splines(shape)
    assert [k.location for k in phi.kinks] == t.tolist()
    thirds = np.concatenate([[0.0], 6 * exact.inner.c[0], [0.0]])
    for kink, jump in zip(phi.kinks, np.diff(thirds)):
        assert kink.jumps[:3] == (0, 0, 0)
        assert kink.third_jump == pytest.approx(jump, rel=1e-10, abs=1e-10)


def coefficients(phi, variance, degree):
    """By quadrature between kinks."""
    z, w = oracle.gauss_panels([k.location / math.sqrt(variance) for k in phi.kinks])
    values = phi(math.sqrt(variance) * z) * w * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    before, here, found = 0 * z, 1 + 0 * z, []
    for k in range(degree + 1):
        found.append(here @ values)
        before, here = here, (z * here - np.sqrt(k) * before) / np.sqrt(k + 1)
    return np.array(found)


@pytest.mark.parametrize("variance", [0.3, 1.0, 2.5])
@pytest.mark.parametrize(
    "phi",
    [activation("kinks", **kinks(8)), activation("kinks", **kinks(40)), *(splines(s)[0] for s in SHAPES[:4])],
    ids=str,
)
def test_coefficients_against_quadrature(phi, variance):
    want = coefficients(phi, variance, 24)
    got = phi.family.coefficients(np.array(phi.values), variance, 24)
    assert np.abs(got - want).max() <= 2e-13 * np.abs(want).max()
    long = phi.family.coefficients(np.array(phi.values), variance, 600)
    for degree in (0, 1, 2, 3, 4, 24):
        short = phi.family.coefficients(np.array(phi.values), variance, degree)
        np.testing.assert_allclose(short, long[: degree + 1], atol=1e-13 * np.abs(want).max())


@pytest.mark.parametrize("kind", ["nngp", "ntk"])
def test_kernel_of_kinks_by_owens_function(kind):
    given_ = kinks(8, seed=2)
    given_["a"][3:] = 0.0
    theta = np.array([1e-3, 0.4, 1.7, 3.0])
    net = FCN(activation("kinks", **given_), 1, 1.2, 0.3, 0.9, 0.2)
    with mp.workdps(25):
        dual = grams.relus_and_cosine(
            list(zip(given_["a"][:3], given_["b"])), given_["c"], given_["d"], 0, 1, 0
        )
        want = []
        for t in theta:
            cross = 1.44 * mp.cos(mp.mpf(float(t))) + 0.09
            value, slope = dual(mp.mpf(1.53), mp.mpf(1.53), cross)
            want.append(float(0.81 * (value + (cross * slope if kind == "ntk" else 0)) + 0.04))
    assert np.abs(net.kernel(kind).at_angle(theta) - want).max() <= 1e-11 * max(want)


def test_kernel_of_a_spline_by_quadrature_over_the_plane():
    phi, exact, t = splines((9, 2, 0))
    kernel = FCN(phi).kernel("ntk")
    for angle in (0.0, 0.7, 2.4):
        halves = math.sin(angle / 2) ** 2, math.cos(angle / 2) ** 2
        value, slope = grams.plane_sums((exact, exact.slope, t.tolist(), 1.0), 1.0, 1.0, halves)[:2]
        want = value + math.cos(angle) * slope
        assert kernel.at_angle(angle) == pytest.approx(want, rel=1e-9)


# --- parameters ---------------------------------------------------------------------------------------------


def test_parameters_rebuild_the_activation():
    for phi in (
        activation("kinks", **kinks(4)),
        activation("kinks", a=[1.0], b=[0.0]),
        activation("kinks", **kinks(50)),
        splines(SHAPES[3])[0],
        activation("spline", values=[1.0, 0.0, 1.0]),
    ):
        again = activation(phi.name, **phi.parameters)
        assert again == phi
        assert again.family is phi.family
        assert pickle.loads(pickle.dumps(phi)) == phi
        named = dict(zip((p.name for p in phi.family.parameters), phi.values))
        assert phi.family(**named) == phi
        assert isinstance(phi.family.root(**phi.parameters), Activation)
    assert activation("kinks", **kinks(4)) != activation("kinks", **kinks(4, seed=1))
    assert splines((9, 2, 0))[0] != activation("spline", values=wavy(knots(9, 2, 0)), density=3, start=2)


def test_families_of_one_size():
    family = kinks_family.of_size(3)
    assert family is kinks_family.of_size(3)
    assert [p.name for p in family.parameters] == ["c", "d", "a1", "a2", "a3", "b1", "b2", "b3"]
    assert str(family(b2=0.5)).startswith("kinks(a=[0.333333, 0.333333, 0.333333], b=[-3, 0.5, 3]")
    assert kinks_family.parameters == ()
    spline = spline_family.of_size(5)
    assert [p.name for p in spline.parameters] == ["density", "start", "y1", "y2", "y3", "y4", "y5"]
    np.testing.assert_allclose(spline()(spline_knots(5, 1, 2)), [0, 0, 0, 2, 4], atol=1e-14)
    assert spline(y1=3.0).parameters == {"values": (3.0, 0.0, 0.0, 2.0, 4.0), "density": 1, "start": 2}
    for size in range(3, MAX_SIZE, 2):
        reach = max(k.location for k in spline_family.of_size(size)().kinks)
        assert 3 <= reach < 6


@pytest.mark.parametrize("family", [kinks_family.of_size(17), spline_family.of_size(33)])
@pytest.mark.parametrize("scale", [1.0, 1.7])
def test_members_resemble_functions(family, scale):
    z = scale * np.linspace(-2, 2, 101)
    found = []
    for trial in range(family.kinds):
        member = Activation(family, family.resembling(np.tanh, scale, trial))
        assert np.abs(member(z) - np.tanh(z)).max() < 0.15
        found.append(member)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("name", "parameters", "text"),
    [
        ("kinks", {"a": [1.0]}, "activation 'kinks' needs b, a vector"),
        ("kinks", {"a": [1.0], "b": [1.0, 2.0]}, r"vectors of activation 'kinks' differ in length: {'a': 1, 'b': 2}"),
        ("kinks", {"a": 1.0, "b": 2.0}, r"a of activation 'kinks' has shape \(\); it must be a vector"),
        ("kinks", {"a": [], "b": []}, "size of activation 'kinks' must be an integer ≥ 1, not 0"),
        ("kinks", {"a": np.ones(65), "b": np.ones(65)}, "is 65; from 1 to 64 are allowed"),
        ("kinks", {"a": [np.nan], "b": [0.0]}, r"a of activation 'kinks'\[0\] is nan"),
        ("kinks", {"a": [1.0], "b": [1e4]}, "'b1' of activation 'kinks' is 10000.0"),
        ("kinks", {"a": [1.0], "b": [1.0], "e": 1.0}, "no parameter 'e'; its parameters: a, b, c, d"),
        ("spline", {"values": [1.0, 2.0, 3.0, 4.0]}, "size of activation 'spline' is 4; splines have an odd number"),
        ("spline", {"values": [1.0]}, "size of activation 'spline' must be an integer ≥ 3, not 1"),
        ("spline", {"values": np.ones(65)}, "is 65; from 3 to 64 are allowed"),
        ("spline", {"values": np.ones(5), "density": 1.5}, "'density' of activation 'spline' is 1.5; allowed: integers"),
        ("spline", {"values": np.ones((3, 3))}, r"has shape \(3, 3\); it must be a vector"),
    ],
)  # fmt: skip
def test_errors(name, parameters, text):
    with pytest.raises(InputError, match=text):
        activation(name, **parameters)


# --- machine code -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "size"), [("kinks", 8), ("kinks", 32), ("kinks", 64)])
def test_tiles_are_packed_instructions(name, size, dtype, monkeypatch):
    monkeypatch.setattr(_jit, "cache_directory", lambda: None)  # machine code from a cache has no LLVM text
    family = registry.get(name).of_size(size)
    tile = (
        family.compile(np.dtype(dtype))
        if size <= UNROLLED
        else flexible._kinks_tile.__wrapped__(np.dtype(dtype))
    )
    library = tile._library
    kind = {"float32": "float", "float64": "double"}[dtype]
    assert len(re.findall(rf"<\d+ x {kind}>", library.get_llvm_str())) >= 4
