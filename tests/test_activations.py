"""Built-in activations: values, derivatives, kinks, Hermite coefficients, precision, errors, machine code."""

import math
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ntkengine.activations as activations
from ntkengine import _jit
from ntkengine.activations import Activation, Kink, activation, registry
from ntkengine.errors import InputError, UnknownNameError
from tests.oracles import activations as oracle

#: Families of functions given by arrays have tests of their own.
NAMES = [name for name in activations.BUILTIN_NAMES if name not in ("kinks", "spline", "tabulated")]
CLOSED = [name for name in NAMES if registry.get(name).coefficients is not None]
VARIANCES = [0.01, 1.0, 7.3]

# What has no default, and beside the defaults one set of parameters that is nothing special.
NEEDED = {
    "monomial": {"degree": 3},
    "polynomial": {"coefficients": [0.3, -1.0, 0.5, 0.2]},
    "hermite": {"coefficients": [0.1, 0.8, -0.6, 0.0, 0.25]},
}
OTHERS = {
    "monomial": {"degree": 4},
    "elu": {"alpha": 1.7},
    "leaky_relu": {"slope": -0.4},
    "abrelu": {"a": 0.3, "b": -1.7},
    "sin": {"a": 0.5, "b": -6.0, "c": 0.3},
    "cos": {"a": -1.5, "b": 2.5, "c": -1.1},
    "rbf": {"gamma": 0.2},
    "erf": {"a": 1.3, "b": -0.6, "c": 0.4},
    "gaussian": {"a": -2.0, "b": -0.3},
    "exp": {"a": 0.7, "b": -0.9},
    "relu_cos": {"a": -2.0, "b": -0.4, "c": 0.3, "d": -1.0, "e": 0.8, "f": 3.0, "g": 2.0},
    "relu2_cos": {
        "a": 1.0,
        "b": 0.7,
        "a2": -3.0,
        "b2": -1.2,
        "c": 0.5,
        "d": 0.1,
        "e": 0.6,
        "f": 2.0,
        "g": 1.0,
    },
}
DEFAULTS = {name: activation(name, **NEEDED.get(name, {})) for name in NAMES}
ENTRIES = [*DEFAULTS.values(), *(activation(name, **p) for name, p in OTHERS.items())]
CLOSED_ENTRIES = [phi for phi in ENTRIES if phi.name in CLOSED]


def away_from_kinks(phi, z, distance=1e-3):
    keep = np.ones(z.shape, dtype=bool)
    for kink in phi.kinks:
        keep &= np.abs(z - kink.location) > distance
    return z[keep]


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(11)
    return np.concatenate([np.linspace(-9, 9, 601), rng.normal(size=400), 1e-3 * rng.normal(size=50)])


def test_the_oracle_knows_every_built_in():
    assert set(oracle.DEFINITIONS) == set(NAMES)
    assert {name for name in NAMES if registry.get(name).parameters} == set(OTHERS)


@pytest.mark.parametrize("phi", ENTRIES, ids=str)
def test_values_and_derivatives(phi, points):
    z = away_from_kinks(phi, points)
    value, slope, _ = oracle.DEFINITIONS[phi.name]
    got, got_slope = phi.both(z)
    size = 1 + np.abs(value(z, *phi.values)) + np.abs(slope(z, *phi.values))
    assert np.max(np.abs(got - value(z, *phi.values)) / size) < 3e-15 * (
        1 + np.max(np.abs(phi.values), initial=0)
    )
    assert np.max(np.abs(got_slope - slope(z, *phi.values)) / size) < 3e-15 * (
        1 + np.max(np.abs(phi.values), initial=0)
    )
    np.testing.assert_array_equal(phi(z), got)
    np.testing.assert_array_equal(phi.derivative(z), got_slope)


@pytest.mark.parametrize("phi", ENTRIES, ids=str)
def test_the_derivative_is_that_of_the_value(phi, points):
    """Central differences, on the values of the package itself."""
    z = away_from_kinks(phi, points)
    step = 1e-5
    scale = 1 + np.abs(phi(z)) + np.abs(phi.derivative(z))
    difference = (phi(z + step) - phi(z - step)) / (2 * step)
    curvature = 1 + np.max(np.abs(phi.values), initial=1) ** 3  # bounds φ''' for the entries of this file
    assert np.max(np.abs(difference - phi.derivative(z)) / scale) < 1e-10 * curvature + 1e-10


@pytest.mark.parametrize("phi", ENTRIES, ids=str)
def test_float32_agrees_with_float64(phi, points):
    z = away_from_kinks(phi, points).astype(np.float32)
    single, single_slope = phi.both(z)
    assert single.dtype == single_slope.dtype == np.float32
    double, slope = phi.both(z.astype(np.float64))
    # A phase f·z + g is rounded in float32: an error of up to half a unit in its last place, times φ'.
    phase = 2.0**-23 * (4 + np.abs(z)) * (1 + np.max(np.abs(phi.values), initial=0)) ** 2
    scale = 1 + np.abs(double) + np.abs(slope)
    assert np.all(np.abs(single - double) <= phase * scale)
    assert np.all(np.abs(single_slope - slope) <= phase * scale)


@pytest.mark.parametrize("phi", ENTRIES, ids=str)
def test_kinks_are_where_the_function_jumps(phi):
    """The jumps of φ and of three derivatives are the differences of one-sided limits, and there are no other kinks."""
    assert {k.location for k in phi.kinks} == set(oracle.DEFINITIONS[phi.name][2](*phi.values))
    for kink in phi.kinks:
        for order, found in enumerate(kink.jumps):
            want = float(oracle.jump(phi.name, phi.values, kink.location, order))
            assert found == pytest.approx(want, rel=1e-10, abs=1e-8)
            assert type(found) is float
    z = np.linspace(-4, 4, 40_001) + 1e-5 * math.e
    jumps = np.abs(np.diff(phi(z))) > 0.02 * (1 + np.abs(phi.derivative(z[1:])))
    turns = np.abs(np.diff(phi.derivative(z))) > 0.1 * (1 + np.max(np.abs(phi.values), initial=1))
    where = z[1:][jumps | turns]
    assert all(any(abs(x - k.location) < 1e-3 for k in phi.kinks) for x in where)


def test_slope_at_a_kink_is_what_training_uses():
    for name, value, slope in [
        ("relu", 0, 0),
        ("abs", 0, 0),
        ("sign", 0, 0),
        ("step", 0, 0),
        ("leaky_relu", 0, 0.01),
        ("elu", 0, 1),
        ("selu", 0, 1.7580993408473769),
    ]:
        assert activation(name)(0.0) == value
        assert activation(name).derivative(0.0) == pytest.approx(slope)
    phi = activation("relu_cos", e=0.0, c=0.0)
    assert phi.derivative(phi.parameters["b"]) == 0


def test_coinciding_kinks_merge():
    (kink,) = activation("relu2_cos", b=0.5, b2=0.5, a=1.0, a2=2.0).kinks
    assert (kink.location, kink.slope_jump) == (0.5, 3.0)
    assert activation("relu2_cos", a=1.0, a2=-1.0, b=0.5, b2=0.5).kinks == (Kink(0.5),)
    assert activation("elu", alpha=1.0).kinks == (Kink(0.0, 0.0, 0.0, -1.0, -1.0),)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_nan_and_infinity(name, dtype):
    phi = DEFAULTS[name]
    assert np.isnan(phi(dtype(np.nan)))
    if name in ("sin", "cos", "rbf", "relu_cos", "relu2_cos", "hermite"):
        return
    limits = {
        "abrelu": (np.inf, np.inf), "abs": (np.inf, np.inf), "identity": (-np.inf, np.inf),
        "leaky_relu": (-np.inf, np.inf), "relu": (0, np.inf), "sign": (-1, 1), "step": (0, 1), "erf": (-1, 1),
        "gaussian": (0, 0), "exp": (0, np.inf), "gelu": (0, np.inf), "tanh": (-1, 1), "sigmoid": (0, 1),
        "softplus": (0, np.inf), "silu": (0, np.inf), "mish": (0, np.inf), "elu": (-1, np.inf),
        "selu": (-1.7580993408473769, np.inf), "monomial": (-np.inf, np.inf),
        "polynomial": (-np.inf, np.inf),
    }  # fmt: skip
    np.testing.assert_array_equal(
        phi(np.array([-np.inf, np.inf], dtype=dtype)), np.array(limits[name], dtype=dtype)
    )
    huge = np.array([-1e30, 1e30], dtype=dtype)
    if name in NEEDED:
        huge = np.array([-1e10, 1e10], dtype=dtype)
    assert np.all(np.isfinite(phi.derivative(huge if name != "exp" else np.minimum(huge, dtype(80)))))


@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 2e-15), (np.float32, 1.2e-6)])
@pytest.mark.parametrize("name", ["elu", "selu", "mish"])
def test_exponential_tails_keep_their_digits(name, dtype, bound):
    """Relative errors far out on the left, next to 0 and on the right; mish' changes sign near −1.19."""
    phi = activation(name)
    z = np.array([-80, -30.5, -17, -5.25, -2, -0.75, -1e-3, -1e-9, 1e-9, 1e-3, 0.7, 3.5, 19, 60], dtype=dtype)
    value, slope = phi.both(z)
    for x, v, s in zip(z, value, slope):
        want, want_slope = (float(oracle.precise(name, phi.values, float(x), k)) for k in (0, 1))
        assert v == pytest.approx(want, rel=bound, abs=0)
        assert s == pytest.approx(want_slope, rel=bound, abs=0)


# --- Hermite coefficients ------------------------------------------------------------------------------


def closed(phi, variance, degree):
    return phi.family.coefficients(np.array(phi.values), variance, degree)


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("phi", CLOSED_ENTRIES, ids=str)
def test_coefficients_against_quadrature(phi, variance):
    want = oracle.hermite_coefficients(phi.name, phi.values, variance, 40)
    got = closed(phi, variance, 40)
    size = math.sqrt(oracle.second_moment(phi.name, phi.values, variance))
    assert got.shape == (41,)
    assert np.max(np.abs(got - want)) < 5e-15 * size


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("relu", ()),
        ("gelu", ()),
        ("erf", (1.3, -0.6, 0.4)),
        ("sin", (0.5, -6.0, 0.3)),
        ("gaussian", (-2.0, -0.3)),
        ("monomial", (12,)),
    ],
)
def test_coefficients_against_thirty_digits(name, parameters):
    """Small coefficients too keep their digits."""
    phi = registry.get(name)(**dict(zip((p.name for p in registry.get(name).parameters), parameters)))
    got = closed(phi, 0.7, 20)
    for k in (0, 1, 12):
        want = float(oracle.precise_coefficient(name, parameters, 0.7, k))
        assert got[k] == pytest.approx(want, rel=2e-14, abs=1e-22)


@pytest.mark.parametrize("phi", CLOSED_ENTRIES, ids=str)
def test_low_degrees_are_beginnings_of_high_ones(phi):
    long = closed(phi, 1.7, 300)
    assert np.all(np.isfinite(long))
    for degree in (0, 1, 2, 3, 8):
        got = closed(phi, 1.7, degree)
        assert got.shape == (degree + 1,)
        np.testing.assert_allclose(got, long[: degree + 1], rtol=1e-13, atol=1e-300)


@pytest.mark.parametrize("threshold", [0.0, 0.7, -3.1])
def test_shifted_relu_at_high_degree(threshold):
    """a_k = √q h_{k−2}(h) p(h)/√(k(k−1)) with h_k from 60-digit arithmetic, to degree 3000."""
    variance = 1.44
    h = threshold / 1.2
    phi = activation("relu_cos", a=1.0, b=threshold, c=0.0, d=0.0, e=0.0)
    got = closed(phi, variance, 3000)
    size = 1.2 * math.exp(-h * h / 4) / 3000
    for k in (41, 500, 3000):
        factor = 1.2 * math.exp(-h * h / 2) / math.sqrt(2 * math.pi * k * (k - 1))
        assert got[k] == pytest.approx(
            float(oracle.hermite_value(k - 2, h)) * factor, rel=1e-11, abs=1e-12 * size
        )


@pytest.mark.parametrize("variance", VARIANCES)
def test_coefficients_without_a_closed_form(variance):
    """elu, selu and mish by the kink-aware rule, against an integration in steps of 1/8."""
    for phi in (activation("elu", alpha=1.7), activation("selu"), activation("mish")):
        want = oracle.hermite_coefficients(phi.name, phi.values, variance, 40)
        size = math.sqrt(oracle.second_moment(phi.name, phi.values, variance))
        assert np.max(np.abs(phi.hermite(40, variance) - want)) < 1e-14 * size


@pytest.mark.parametrize("name", CLOSED)
def test_parseval_to_degree_ten_thousand(name):
    """The squares sum to E[φ²]; a kink costs O(degree^{−3/2}), a jump O(degree^{−1/2})."""
    phi = DEFAULTS[name]
    a = closed(phi, 1.0, 10_000)
    assert np.all(np.isfinite(a))
    moment = oracle.second_moment(name, phi.values, 1.0)
    missing = 1 - np.sum(a * a) / moment
    assert -1e-14 < missing < (0.01 if name in ("sign", "step") else 1e-6)


@given(
    a=st.floats(-5, 5), b=st.floats(-4, 4), a2=st.floats(-5, 5), b2=st.floats(-4, 4), c=st.floats(-2, 2),
    e=st.floats(-2, 2), f=st.floats(0, 5), g=st.floats(-4, 4), variance=st.floats(0.05, 8),
)  # fmt: skip
@settings(max_examples=20, deadline=None, derandomize=True)
def test_bessel_inequality(a, b, a2, b2, c, e, f, g, variance):
    values = (a, b, a2, b2, c, 0.5, e, f, g)
    phi = activation("relu2_cos").with_values(values)
    moment = oracle.second_moment("relu2_cos", values, variance)
    squares = np.sum(closed(phi, variance, 400) ** 2)
    assert squares <= moment * (1 + 1e-12)
    # A shifted ReLU has |a_k| = O(√q k^{−5/4}), so the rest is O((|a| + |a2|)² q·400^{−3/2}).
    assert moment - squares <= 0.01 * (abs(a) + abs(a2)) ** 2 * variance + 1e-12 * moment


@pytest.mark.parametrize("frequency", [40.0, 200.0])
@pytest.mark.parametrize("variance", [1.0, 1e8])
def test_fast_waves_neither_overflow_nor_fill_memory(frequency, variance):
    a = closed(activation("sin", b=frequency), variance, 3000)
    assert np.all(np.isfinite(a))
    w2 = frequency**2 * variance
    if w2 == 1600:  # square roots of Poisson probabilities: E[sin²] = (1 − e^{−2w²})/2 is all in
        assert np.sum(a * a) == pytest.approx(0.5, rel=1e-12)
    else:
        assert np.max(np.abs(a)) == 0


# --- parameters and errors -----------------------------------------------------------------------------


def test_published_parameters_are_the_defaults():
    assert activation("relu_cos").values == (
        3.80016,
        1.06000,
        0.0968093,
        0.901006,
        -0.0793610,
        11.81057,
        0.934055,
    )
    assert list(activation("relu2_cos").parameters) == ["a", "b", "a2", "b2", "c", "d", "e", "f", "g"]
    assert activation("relu2_cos").parameters["a2"] != 0  # a fit could not move the kink of a vanished ReLU


def test_every_entry_describes_itself():
    for name in NAMES:
        family = registry.get(name)
        assert family.name == name
        assert family.formula
        for parameter in family.parameters:
            assert name in NEEDED or parameter.lower <= parameter.default <= parameter.upper
            assert math.isfinite(parameter.lower)
            assert math.isfinite(parameter.upper)
            assert re.search(rf"\b{parameter.name}\b", family.formula)


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match=r"'sigmoyd'.*Did you mean 'sigmoid'\?.*Known: abrelu, abs"):
        activation("sigmoyd")


def test_parameter_errors_name_what_is_allowed():
    with pytest.raises(InputError, match=r"'sin' has no parameter 'omega'; its parameters: a, b, c"):
        activation("sin", omega=2.0)
    with pytest.raises(InputError, match=r"'relu' has no parameter 'slope'; its parameters: none"):
        activation("relu", slope=2.0)
    with pytest.raises(
        InputError, match=r"'b' of activation 'gaussian' is 0.5; allowed: finite, from -1000 to 0"
    ):
        activation("gaussian", b=0.5)
    with pytest.raises(
        InputError, match=r"'f' of activation 'relu_cos' is 41.0; allowed: finite, from 0 to 40"
    ):
        activation("relu_cos", f=41.0)
    for value in (math.nan, math.inf):
        with pytest.raises(InputError, match=r"'a' of activation 'sin' is (nan|inf); allowed: finite"):
            activation("sin", a=value)
    with pytest.raises(InputError, match="must be a number, not 'fast'"):
        activation("sin", b="fast")


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (4, 0, 2)])
def test_shapes(shape):
    phi = activation("tanh")
    z = np.random.default_rng(3).normal(size=shape)
    value, slope = phi.both(z)
    assert value.shape == slope.shape == shape
    np.testing.assert_allclose(value, np.tanh(z), rtol=1e-15)
    assert phi(z.T.astype(np.float32)).dtype == np.float32


def test_pickles():
    phi = activation("relu_cos", f=3.0)
    again = pickle.loads(pickle.dumps(phi))
    assert isinstance(again, Activation)
    assert again == phi


# --- machine code --------------------------------------------------------------------------------------

LIBM = re.compile(r"\b(sin|cos|sincos|exp|exp2|expm1|log|log1p|tanh|erf|erfc|pow|ldexp)f?\b")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "name",
    [
        "relu",
        "leaky_relu",
        "elu",
        "selu",
        "relu2_cos",
        "rbf",
        "erf",
        "gelu",
        "softplus",
        "silu",
        "mish",
        "tanh",
        "monomial",
    ],
)
def test_tiles_are_packed_instructions(name, dtype, monkeypatch):
    monkeypatch.setattr(_jit, "cache_directory", lambda: None)  # machine code from a cache has no LLVM text
    family = registry.get(name)
    library = _jit.compile_tile(family.pair, len(family.parameters), dtype, family.identity)._library
    kind = {"float32": "float", "float64": "double"}[dtype]
    packed = re.findall(rf"<\d+ x {kind}>", library.get_llvm_str())
    assert len(packed) >= 4
    assert LIBM.findall(library.get_asm_str()) == []
