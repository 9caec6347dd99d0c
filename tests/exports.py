"""What the tests of exports share: activations of every kind, a stand-in for a design, and how exact is exact."""

from types import SimpleNamespace

import numpy as np

import ntkengine as nk
from ntkengine.activations import BUILTIN_NAMES, ActivationFamily, Kink, Parameter, activation
from ntkengine.activations.tabulated import nodes

#: Parameters of the built-in families that are nothing special; those not listed are taken with their defaults.
OTHERS = {
    "abrelu": {"a": 0.3, "b": -1.7},
    "cos": {"a": -1.5, "b": 2.5, "c": -1.1},
    "elu": {"alpha": 1.7},
    "erf": {"a": 1.3, "b": -0.6, "c": 0.4},
    "exp": {"a": 0.7, "b": -0.9},
    "gaussian": {"a": -2.0, "b": -0.3},
    "hermite": {"coefficients": [0.1, 0.8, -0.6, 0.0, 0.25]},
    "kinks": {"a": [1.5, -0.7, 0.4], "b": [-1.2, 0.0, 0.9], "c": 0.3, "d": -1.0},
    "leaky_relu": {"slope": -0.4},
    "monomial": {"degree": 5},
    "polynomial": {"coefficients": [0.3, -1.0, 0.5, 0.2]},
    "rbf": {"gamma": 0.2},
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
    "relu_cos": {"a": -2.0, "b": -0.4, "c": 0.3, "d": -1.0, "e": 0.8, "f": 3.0, "g": 2.0},
    "sin": {"a": 0.5, "b": -4.0, "c": 0.3},
    "spline": {"values": [-0.4, 0.2, 0.1, 1.5, 1.1], "density": 1, "start": 2},
}
LONG = np.random.default_rng(5).normal(size=41) / (1 + np.arange(41.0))
FORMULAS = [
    ("max(z, 0) + 0.1*cos(4*z)", {}),
    ("a*max(z - b, 0) + min(0.5, z)*tanh(z)", {"a": -1.5, "b": 0.25}),
    ("1/(1 + exp(-z))", {}),
    ("z*step(1 - z)*exp(z/2) + abs(z - 2)**3 - 1", {}),
    ("(z - 1)*(z + 2)/(1 + z**2)**2 - 2**z/9", {}),
    ("sqrt(abs(z)) + sign(z - 1)*sinh(z/3) + cosh(z/4)", {}),
    ("log(1 + z**2) + gelu(z)*sigmoid(2*z) + softplus(z) + erf(z/3)", {}),
    ("tan(z/9)*max(z, min(2, z**2)) - relu(z)**2", {}),
    ("exp(-z**2)*(k*z**3 - 3*z)", {"k": 1.0}),
    ("0.25", {}),
]
ENTRIES = [
    *(activation(name, **OTHERS.get(name, {})) for name in BUILTIN_NAMES if name != "tabulated"),
    *(activation(name) for name in ("abrelu", "relu_cos", "relu2_cos", "sin", "leaky_relu")),
    activation("monomial", degree=0),
    activation("hermite", coefficients=[0.7]),
    activation("polynomial", coefficients=LONG[:20] * 0.3 ** np.arange(20)),
    activation("hermite", coefficients=LONG),
    activation("hermite", coefficients=[0.1, 0.8, -0.6, 0.0, 0.25], variance=2.5),
    activation("hermite", coefficients=LONG, variance=0.7),
    *(activation(text, **p) for text, p in FORMULAS),
]  # fmt: skip


class Target:
    """A kernel of any name, 3.5 everywhere."""

    def __init__(self, name):
        self.name = name

    def __call__(self, c):
        return np.full(np.shape(c), 3.5)


def design(phi, target="sinh(2*c)", kind="ntk", **network):
    """What is exported of a design."""
    return SimpleNamespace(
        activation=phi,
        target=Target(target),
        kind=kind,
        fcn=nk.FCN(phi, **network),
        max_error=0.02,
        rms_error=0.004,
    )


def executed(text):
    namespace = {"__name__": "exported"}
    exec(compile(text, "<exported>", "exec"), namespace)
    return namespace


def points(phi, reach, size=400):
    """|z| up to ``reach``, kinks and what is beside them included."""
    rng = np.random.default_rng(3)
    kinks = np.array([0.0, *(kink.location for kink in phi.kinks)])
    random = rng.uniform(-reach, reach, size)
    return np.concatenate([np.linspace(-reach, reach, size), random, kinks, kinks - 0.01, kinks + 0.01])


def assert_close(found, wanted, tolerance):
    found = np.asarray(found)
    assert found.shape == wanted.shape
    worst = np.abs(found - wanted) / np.maximum(1, np.abs(wanted))
    assert worst.max() <= tolerance


def assert_same_function(made, phi, size=400):
    """1e-14 where a network's z are; farther out arguments such as 4z + 1 are rounded differently with and without FMA.

    Long sums are rounded in proportion to the sum of the sizes of their terms.
    """
    terms = float(np.abs(LONG).sum()) if phi.values[:1] == (LONG[0],) else 1.0
    for reach, tolerance in ((4.5, 1e-14), (9.0, 5e-14)):
        z = points(phi, reach, size)
        variance = phi.parameters.get("variance", 1.0)
        growth = np.exp(reach**2 / variance / 8) if terms > 1 and phi.name == "hermite" else 1.0
        with np.errstate(all="ignore"):  # compiled ufuncs report the 0/0 that they replace
            assert_close(made["phi"](z), phi(z), tolerance * terms * growth)
            assert_close(made["dphi"](z), phi.derivative(z), tolerance * terms * growth)


def table(count=300, density=4, start=-8):
    at = nodes(count, density, start)
    return activation(
        "tabulated",
        right_values=0.4 * at + np.sin(at),
        right_slopes=0.4 + np.cos(at),
        left_values=0.1 * at - np.sin(at),
        left_slopes=-0.1 + np.cos(at),
        density=density,
        start=start,
    )


def pair(z, p):
    T = type(z)
    return (p[0] * z if z > T(0.0) else z), (p[0] if z > T(0.0) else T(1.0))


def family(formula, **options):
    family = ActivationFamily(
        "mine", pair, formula, (Parameter("a", 2.0),), lambda p: [Kink(0.0, slope_jump=p[0] - 1)]
    )
    for name, value in options.items():
        object.__setattr__(family, name, value)
    return family


NETWORKS = [
    {},
    {"w_std": 1.3, "b_std": 0.2},
    {"readout_w_std": 0.7, "readout_b_std": 0.4},
    {"w_std": 1.3, "b_std": 0.2, "readout_w_std": 0.7, "readout_b_std": 0.4, "radial_lift": True},
]


def given_parameters(fcn, d=5, width=33, m=3):
    rng = np.random.default_rng(8)
    biases = rng.normal(size=width), rng.normal(size=m)
    first = rng.normal(size=(d, width)), biases[0] if fcn.b_std else None
    return [first, (rng.normal(size=(width, m)), biases[1] if fcn.readout_b_std else None)]


def inputs(d=5):
    x = np.random.default_rng(9).normal(size=(12, d))
    x[3], x[4] = 0.0, 1e3 * x[4]
    return x
