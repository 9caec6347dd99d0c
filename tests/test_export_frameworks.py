"""Exported PyTorch and JAX texts, executed where these are installed: values, automatic derivatives, networks."""

import math

import numpy as np
import pytest

from ntkengine.activations import activation
from ntkengine.design.export import export
from tests.exports import (
    ENTRIES,
    LONG,
    NETWORKS,
    assert_close,
    design,
    executed,
    given_parameters,
    inputs,
    points,
    table,
)

FRAMEWORKS = [*ENTRIES, activation("max(z, 0) + 0.5*max(z - 1, 0) - z*min(z, 1)"), activation("sqrt(abs(z))")]


def assert_single(found, wanted, tolerance=1e-6):
    """In float32: to a part of the largest value."""
    assert found.dtype == np.float32
    assert np.abs(found - wanted).max() <= tolerance * max(1.0, np.abs(wanted).max())


def assert_double(found, wanted, tolerance=0.0):
    assert found.dtype == np.float64
    assert_close(found, wanted, 1e-12)


def reach_of(phi):
    """Where Σ |a_k h_k(z)| is not much larger than φ, which float32 could not forgive."""
    return 2.5 * math.sqrt(phi.parameters.get("variance", 1.0)) if len(phi.values) == LONG.size else 4.5


@pytest.mark.parametrize("phi", FRAMEWORKS, ids=str)
def test_torch_text_is_phi_and_differentiates_to_its_derivative(phi):
    torch = pytest.importorskip("torch")
    made = executed(export(design(phi), "torch"))
    for real, check in ((torch.float32, assert_single), (torch.float64, assert_double)):
        z = torch.tensor(points(phi, reach_of(phi)), dtype=real, requires_grad=True)
        exact = z.detach().numpy().astype(np.float64)
        value = made["phi"](z)
        check(value.detach().numpy(), phi(exact))
        check(made["dphi"](z.detach()).numpy(), phi.derivative(exact))
        if value.requires_grad:
            (slope,) = torch.autograd.grad(value.sum(), z)
            check(slope.numpy(), phi.derivative(exact), 3e-6)
        else:
            assert not phi.derivative(exact).any()


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_torch_network(network):
    torch = pytest.importorskip("torch")
    exported = design(activation("relu_cos"), **network)
    made = executed(export(exported, "torch"))
    torch.manual_seed(0)
    net = made["Network"](5, 33, 3)
    parameters, x = given_parameters(exported.fcn), inputs()
    with torch.no_grad():
        for (weight, bias), i in zip(parameters, (1, 2)):
            drawn = getattr(net, f"weight{i}")
            assert abs(drawn.std().item() - 1) < 5 / math.sqrt(drawn.numel())
            drawn.copy_(torch.tensor(weight.T))
            if bias is not None:
                getattr(net, f"bias{i}").copy_(torch.tensor(bias))
    assert sum(p.numel() for p in net.parameters()) == exported.fcn.init(33, 5, 3).n_parameters
    wanted = exported.fcn.from_parameters(parameters, dtype="float64").predict(x)[0]
    found = net(torch.tensor(x, dtype=torch.float32)).detach().numpy()
    assert np.abs(found - wanted).max() <= 1e-6 * np.abs(wanted).max()
    net = net.double()
    points_in = torch.tensor(x, requires_grad=True)
    outputs = net(points_in)
    np.testing.assert_allclose(outputs.detach().numpy(), wanted, rtol=1e-6, atol=1e-6 * np.abs(wanted).max())
    outputs.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())
    assert torch.isfinite(points_in.grad).all()  # at the zero vector too


def test_torch_functions_go_through_transforms():
    torch = pytest.importorskip("torch")
    for phi in (activation("relu_cos"), activation("hermite", coefficients=LONG), activation("sqrt(abs(z))")):
        made = executed(export(design(phi), "torch"))
        z = torch.linspace(-3, 3, 7, dtype=torch.float64)
        slopes = torch.func.vmap(torch.func.grad(made["phi"]))(z)
        assert_close(slopes.numpy(), phi.derivative(z.numpy()), 1e-12)


@pytest.mark.parametrize("phi", FRAMEWORKS, ids=str)
def test_jax_text_is_phi_and_differentiates_to_its_derivative(phi):
    jax = pytest.importorskip("jax")
    made = executed(export(design(phi), "jax"))
    for x64, check in ((False, assert_single), (True, assert_double)):
        with jax.enable_x64(x64):
            z = jax.numpy.asarray(points(phi, reach_of(phi)))
            exact = np.asarray(z, dtype=np.float64)
            check(np.asarray(made["phi"](z)), phi(exact))
            check(np.asarray(made["dphi"](z)), phi.derivative(exact), 3e-6)
            check(np.asarray(jax.vmap(jax.grad(made["phi"]))(z)), phi.derivative(exact), 3e-6)
            check(np.asarray(jax.jit(made["phi"])(z)), phi(exact))


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_jax_network(network):
    jax = pytest.importorskip("jax")
    exported = design(activation("relu_cos"), **network)
    made = executed(export(exported, "jax"))
    parameters, x = given_parameters(exported.fcn), inputs()
    wanted = exported.fcn.from_parameters(parameters, dtype="float64").predict(x)[0]
    as_jax = jax.tree.map(jax.numpy.asarray, parameters)
    found = np.asarray(made["apply"](as_jax, jax.numpy.asarray(x)))
    assert np.abs(found - wanted).max() <= 1e-6 * np.abs(wanted).max()
    drawn = made["init"](jax.random.key(0), 5, 33, 3)
    assert jax.tree.map(np.shape, drawn) == jax.tree.map(np.shape, as_jax)
    assert abs(np.asarray(drawn[0][0]).std() - 1) < 5 / math.sqrt(5 * 33)
    slopes = jax.grad(lambda p, x: made["apply"](p, x).sum(), argnums=(0, 1))(drawn, jax.numpy.asarray(x))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


def test_tabulated_text_in_other_frameworks():
    phi, z = table(), np.linspace(-8, 8, 801)
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    made = executed(export(design(phi), "torch"))
    at = torch.tensor(z, dtype=torch.float32, requires_grad=True)
    exact = at.detach().numpy().astype(np.float64)
    value = made["phi"](at)
    assert_single(value.detach().numpy(), phi(exact))
    (slope,) = torch.autograd.grad(value.sum(), at)
    assert_single(slope.numpy(), phi.derivative(exact), 3e-6)
    made = executed(export(design(phi), "jax"))
    exact = np.float64(np.float32(z))
    assert_single(np.asarray(made["phi"](jax.numpy.asarray(z))), phi(exact))
    assert_single(
        np.asarray(jax.vmap(jax.grad(made["phi"]))(jax.numpy.asarray(z))), phi.derivative(exact), 3e-6
    )
