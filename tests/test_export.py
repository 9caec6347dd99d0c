"""Exported source that runs here: NumPy and Numba texts, executed, are φ, φ' and the network."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntkengine.activations import activation
from ntkengine.activations.series import SeriesFamily
from ntkengine.activations.tabulated import nodes
from ntkengine.design._export_graph import Graph
from ntkengine.design.export import export
from ntkengine.errors import InputError
from ntkengine.formula import parse_program
from tests.exports import (
    ENTRIES,
    NETWORKS,
    OTHERS,
    assert_close,
    assert_same_function,
    design,
    executed,
    family,
    given_parameters,
    inputs,
    table,
)
from tests.oracles import activations as oracle
from tests.oracles import networks as network_oracle

# --- source that runs here -------------------------------------------------------------------------------------


@pytest.mark.parametrize("phi", ENTRIES, ids=str)
def test_numpy_text_is_phi_and_its_derivative(phi):
    made = executed(export(design(phi), "numpy"))
    assert_same_function(made, phi)
    made["phi"](0.0), made["dphi"](0.0)  # and without warnings
    assert float(made["phi"](0.5)) == pytest.approx(float(phi(0.5)), rel=1e-14)


#: One of every kind: compiling takes its time.
COMPILED = [
    phi
    for phi in ENTRIES
    if (phi.name in ("elu", "hermite", "polynomial") and len(phi.values) < 20) or phi.name.startswith(("log", "sqrt", "z*step"))
]  # fmt: skip


@pytest.mark.parametrize("phi", COMPILED, ids=str)
def test_numba_text_is_phi_and_its_derivative(phi):
    made = executed(export(design(phi), "numba"))
    assert_same_function(made, phi, 50)
    assert made["phi_scalar"](0.5) == pytest.approx(float(phi(0.5)), rel=1e-14)


@pytest.mark.parametrize("text", [
    "max(z, 0) + 0.5*max(z - 1, 0) - z", "abs(z - 1)", "relu(z)*step(z - 1)", "min(z, 1)", "max(0.5, z)*z", "sqrt(abs(z))",
    "max(z, 2*z)", "sign(z)*z",
])  # fmt: skip
def test_kinks_have_the_derivative_of_training(text):
    phi = activation(text)
    at = np.array([0.0, *(kink.location for kink in phi.kinks)])
    made = executed(export(design(phi), "numpy"))
    assert made["dphi"](at).tolist() == phi.derivative(at).tolist()


def test_far_out_nothing_is_lost_to_overflow():
    far = np.array([-1e4, -800.0, -90.0, 90.0, 800.0, 1e4])
    for name in ("sigmoid", "softplus", "silu", "mish", "gelu", "elu", "selu", "tanh"):
        phi = activation(name)
        made = executed(export(design(phi), "numpy"))
        np.testing.assert_allclose(made["phi"](far), phi(far), rtol=1e-14, atol=1e-30)
        np.testing.assert_allclose(made["dphi"](far), phi.derivative(far), rtol=1e-14, atol=1e-30)
    phi = activation("1/(1 + exp(-z))")
    made = executed(export(design(phi), "numpy"))
    np.testing.assert_allclose(made["dphi"](far), phi.derivative(far), atol=1e-30)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.sampled_from(["hermite", "polynomial"]))
def test_coefficients_are_exact(coefficients, name):
    made = executed(export(design(activation(name, coefficients=coefficients)), "numpy"))
    if len(coefficients) > 1:
        assert made["C"] == coefficients
    else:
        assert made["phi"](3.0) == coefficients[0]


@pytest.mark.parametrize("network", NETWORKS, ids=str)
@pytest.mark.parametrize("language", ["numpy", "numba"])
def test_forward_pass_is_that_of_finite_networks(network, language):
    exported = design(activation("relu_cos"), **network)
    parameters, x = given_parameters(exported.fcn), inputs()
    made = executed(export(exported, language))
    wanted = exported.fcn.from_parameters(parameters, dtype="float64").predict(x)[0]
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(made["forward"](parameters, x), wanted, rtol=1e-12, atol=1e-12 * scale)
    by_hand, stds = x, {"w_std": 1.0, "b_std": 0.0, "readout_w_std": 1.0, "readout_b_std": 0.0, **network}
    radii = np.ones(len(x))
    if stds.pop("radial_lift", False):
        by_hand, radii = network_oracle.lifted(x)
        assert not made["forward"](parameters, x)[3].any()
    outputs, _, _ = network_oracle.forward(parameters, by_hand, "relu_cos", stds)
    np.testing.assert_allclose(
        made["forward"](parameters, x), radii[:, None] * outputs, rtol=1e-12, atol=1e-12 * scale
    )


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_initial_parameters_are_standard_normal(network):
    exported = design(activation("relu"), **network)
    made = executed(export(exported, "numpy"))
    drawn = made["init"](40, 500, 30, seed=1)
    again = exported.fcn.from_parameters(drawn, dtype="float64")
    assert again.fan == (40, 500, 30)
    for values in [drawn[0][0], drawn[1][0]]:
        assert abs(values.mean()) < 5 / math.sqrt(values.size)
        assert abs(values.std() - 1) < 5 / math.sqrt(2 * values.size)
    assert made["forward"](drawn, np.ones((2, 40))).shape == (2, 30)
    assert (made["init"](4, 5, seed=2)[0][0] != made["init"](4, 5, seed=3)[0][0]).all()


# --- activations that are no built-in formula ------------------------------------------------------------------


@pytest.mark.parametrize("language", ["numpy", "numba"])
def test_tabulated_text(language):
    phi = table()
    made = executed(export(design(phi), language))
    z = np.concatenate([np.linspace(-8, 8, 801), nodes(300, 4, -8), -nodes(300, 4, -8), [1e-7, -1e-7, -0.0]])
    z = z[np.abs(z) < 100]
    assert_close(made["phi"](z), phi(z), 1e-14)
    assert_close(made["dphi"](z), phi.derivative(z), 1e-14)


def test_a_family_of_ones_own_is_exported_by_its_formula():
    phi = family("a*max(z, 0) + min(z, 0)")(a=3.0)
    made = executed(export(design(phi), "numpy"))
    z = np.linspace(-2, 2, 9)
    assert made["phi"](z).tolist() == phi(z).tolist()
    assert (
        made["dphi"](z).tolist() == phi.derivative(z).tolist()
    )  # 1 at the kink, where the formula's own would be 0
    for language in ("torch", "jax"):
        assert "value" in export(design(phi), language) or "custom_jvp" in export(design(phi), language)


@pytest.mark.parametrize(("formula", "words"), [
    ("a if z > 0 else z", "not of the formula language"),
    ("a*max(z, 0)", "but it computes"),
    ("a*max(z, 0) + min(z, 0) + 1", "but it computes"),
    ("b*max(z, 0)", "'b', which is not one of its parameters"),
    ("__import__('os')", "not of the formula language"),
])  # fmt: skip
@pytest.mark.parametrize("format", ["numpy", "latex"])
def test_a_formula_that_is_not_the_function_is_refused(formula, words, format):
    with pytest.raises(InputError, match=re.escape(words)):
        export(design(family(formula)()), format)


def test_a_family_may_bring_its_own_source():
    def source(values, language):
        if language == "latex":
            return r"\[ \varphi(z) = \ldots \]"
        return f"def phi(z):\n    return np.where(z > 0.0, {values[0]!r} * z, z)\n\n\ndef dphi(z):\n    return z * 0.0"

    phi = family("see the paper", source=source)(a=4.0)
    assert executed(export(design(phi), "numpy"))["phi"](np.array([1.0, -1.0])).tolist() == [4.0, -1.0]
    assert r"\ldots" in export(design(phi), "latex")


def test_another_series_brings_its_recurrence():
    pair = activation("hermite", coefficients=[1.0]).family.pair  # not called here
    halves = SeriesFamily(
        "halves",
        pair,
        "sum",
        recurrence=lambda n: (np.full(n, 0.5), np.zeros(n), np.arange(n) * 0.5),  # f_k = (z/2)^k
    )
    phi = halves(coefficients=[1.0, 2.0, 3.0])
    made = executed(export(design(phi), "numpy"))
    z = np.linspace(-2, 2, 5)
    np.testing.assert_allclose(made["phi"](z), 1 + z + 0.75 * z**2, rtol=1e-15)
    np.testing.assert_allclose(made["dphi"](z), 1 + 1.5 * z, rtol=1e-15)


# --- the graph -------------------------------------------------------------------------------------------------


def test_graph_shares_and_folds():
    program = parse_program("a*sin(b*z) + a*sin(b*z)**2 + sqrt(4*a) - 0*z", "z")[1].differentiated()
    graph = Graph.of_program(program, [4.0, 1.0])
    kinds = [graph.nodes[node][0] for node in graph.needed(graph.phi)]
    assert kinds.count("sin") == 1
    assert ("number", 4.0) not in [graph.nodes[node] for node in graph.needed(graph.phi)]
    z = np.linspace(-2, 2, 9)
    np.testing.assert_allclose(graph.both(z)[0], 4 * np.sin(z) + 4 * np.sin(z) ** 2 + 4, rtol=1e-15)
    assert Graph().value(Graph().z) is None


def test_the_oracle_agrees_with_a_text():
    for name in (
        "abrelu",
        "cos",
        "elu",
        "erf",
        "exp",
        "gaussian",
        "leaky_relu",
        "rbf",
        "relu2_cos",
        "relu_cos",
        "sin",
    ):
        phi = activation(name, **OTHERS[name])
        made = executed(export(design(phi), "numpy"))
        z = np.linspace(-3.3, 3.1, 77)
        value, slope, _ = oracle.DEFINITIONS[name]
        assert_close(made["phi"](z), value(z, *phi.values), 1e-13)
        assert_close(made["dphi"](z), slope(z, *phi.values), 1e-13)
