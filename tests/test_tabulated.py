"""Tabulated activations: the tile against its scalar twin and numpy, at nodes, ends and odd lengths; errors; training."""

import copy
import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ntkengine as nk
from ntkengine.activations import tabulated
from ntkengine.errors import InputError, UnknownNameError
from tests.oracles import networks as network_oracle
from tests.oracles import tables as oracle

TYPES = [np.float32, np.float64]


def made(count=200, density=4, start=-6, seed=0, **more):
    """A table of nothing in particular: smooth on either side, with a kink at 0."""
    z = oracle.nodes(count, density, start)
    rng = np.random.default_rng(seed)
    a, b, c = rng.normal(size=3)
    return {
        "right_values": np.sin(a * z) + c,
        "right_slopes": a * np.cos(a * z),
        "left_values": b * np.expm1(-z / 3) + c,
        "left_slopes": b * np.exp(-z / 3) / 3,
        "density": density,
        "start": start,
        **more,
    }


def points(table, dtype=np.float64):
    """Nodes of both sides, the floats beside them, and what lies between and beyond."""
    at = oracle.nodes(len(table["right_values"]), table["density"], table["start"]).astype(dtype)
    beside = np.concatenate([np.nextafter(at, dtype(0)), at, np.nextafter(at, dtype(np.inf))])
    between = (at[1:] + at[:-1]) / 2
    positive = np.concatenate([beside, between, at[-1] * np.array([1.01, 2.0, 1e3], dtype)])
    return np.concatenate([positive, -positive]).astype(dtype)


# --- values ------------------------------------------------------------------------------------------------------


def test_nodes_are_those_of_the_definition():
    for count, density, start in [(1, 2, 0), (600, 5, -14), (300, 10, -40), (50, 3, -3)]:
        assert tabulated.nodes(count, density, start).tolist() == oracle.nodes(count, density, start).tolist()


@pytest.mark.parametrize(
    ("count", "density", "start"),
    [(200, 4, -6), (2, 2, 0), (549, 5, -14), (3000, 7, -20), (700, 10, -40), (97, 2, -24)],
)
def test_values_are_the_cubics_of_the_table(count, density, start):
    table = made(count, density, start)
    phi, z = nk.activation("tabulated", **table), points(table)
    value, slope = phi.both(z)
    wanted, wanted_slope = oracle.evaluate(table, z)
    size = np.maximum(1.0, np.abs(z))
    # Left of a node and right of it are different cubics, with the same value and slope there.
    assert np.abs((value - wanted) / size).max() < 1e-13
    # The slope of a cubic whose ends differ by rounding is off by that over its length, 2^(start − density) at least.
    assert np.abs(slope - wanted_slope).max() < 1e-13 + 4e-16 * 2.0 ** (density - start) * 3


def test_single_precision_is_as_good_as_it_can_be():
    table = made(549, 5, -14)
    phi, z = nk.activation("tabulated", **table), points(table, np.float32)
    value, slope = phi.both(z)
    assert value.dtype == slope.dtype == np.float32
    wanted, wanted_slope = oracle.evaluate(table, z.astype(np.float64))
    near = np.abs(z) < 10
    assert np.abs(value - wanted)[near].max() < 5e-7
    assert np.abs(slope - wanted_slope)[near].max() < 3e-6


@pytest.mark.parametrize("dtype", TYPES)
def test_tile_is_its_scalar_twin(dtype):
    """φ = c_0 + τ(c_1 + τ(...)) of the row that the exponent of |z| + 2^start names, one value at a time."""
    table = made(120, 3, -9)
    phi = nk.activation("tabulated", **table)
    parameters = phi.tile_parameters(dtype)
    z = np.concatenate([points(table, dtype), np.array([0.0, -0.0, 1e-30, -1e-30], dtype)])
    value, slope = phi.both(z)
    # The tile fuses products with sums, and a scalar of Python does not.
    tolerance = 4 * np.finfo(dtype).eps
    for i, x in enumerate(z):
        one, moved = phi.family.pair(x, parameters)
        size = max(1.0, abs(float(x)))
        assert abs(float(one) - float(value[i])) <= tolerance * size
        assert abs(float(moved) - float(slope[i])) <= tolerance * 4


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("slopes", [(0.5, -2.0), (-0.5, 2.0), (0.0, 0.0)])
def test_infinite_arguments_are_the_ends_of_the_straight_lines(slopes, dtype):
    table = made(count=8)
    for side, slope in zip(("right", "left"), slopes):
        table[f"{side}_slopes"][-1] = slope
    phi = nk.activation("tabulated", **table)
    z = np.array([0.1, np.inf, 0.2, -np.inf, np.nan, *np.linspace(-1, 1, 40)], dtype)
    value, slope = phi.both(z)
    ends = [table[f"{side}_values"][-1] for side in ("right", "left")]
    expected = [end + s * inf if s else end for end, s, inf in zip(ends, slopes, (np.inf, -np.inf))]
    np.testing.assert_array_equal(value[[1, 3]], np.array(expected, dtype))
    np.testing.assert_array_equal(slope[[1, 3]], np.array(slopes, dtype))
    assert np.isnan([value[4], slope[4]]).all()
    np.testing.assert_array_equal(np.delete(value, [1, 3, 4]), phi(np.delete(z, [1, 3, 4])))
    twin = tabulated._pair(dtype(-np.inf), phi.family.packed(()).astype(dtype))
    assert [float(x) for x in twin] == [float(value[3]), float(slope[3])]


@pytest.mark.parametrize("dtype", TYPES)
def test_every_length_and_what_is_not_a_number(dtype):
    phi = nk.activation("tabulated", **made())
    z = np.random.default_rng(1).normal(size=41).astype(dtype) * 3
    z[7], z[20], z[40] = np.nan, np.inf, np.nan
    whole = phi.both(z)
    assert np.isnan(whole[0][[7, 40]]).all()
    assert np.isnan(whole[1][[7, 40]]).all()
    assert np.isfinite(np.delete(whole[0], [7, 20, 40])).all()
    for length in range(41):
        value, slope = phi.both(z[:length])
        assert value.shape == (length,)
        np.testing.assert_array_equal(value, whole[0][:length])
        np.testing.assert_array_equal(slope, whole[1][:length])


@pytest.mark.parametrize("dtype", TYPES)
def test_layout_does_not_matter(dtype):
    phi = nk.activation("tabulated", **made())
    z = np.random.default_rng(2).normal(size=(13, 22)).astype(dtype)
    for view in (z[::2, ::3], z.T, z[::-1], np.asfortranarray(z), z.reshape(2, 11, 13)):
        np.testing.assert_array_equal(phi(view), phi(np.ascontiguousarray(view)))
        assert phi(view).shape == view.shape
    assert phi(dtype(0.3)) == phi(np.array([0.3], dtype))[0]
    assert phi(2) == phi(2.0)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 400), st.integers(2, 7), st.integers(-30, 0), st.integers(0, 1000))
def test_any_table_goes_through_its_nodes(count, density, start, seed):
    table = made(count, density, start, seed)
    phi, at = nk.activation("tabulated", **table), oracle.nodes(count, density, start)
    for side, sign in (("right", 1), ("left", -1)):
        inside = slice(0 if sign > 0 else 1, None)  # 0 belongs to the right
        np.testing.assert_allclose(
            phi(sign * at[inside]), table[f"{side}_values"][inside], rtol=0, atol=1e-14
        )
        slopes = phi.derivative(sign * at[inside])
        np.testing.assert_allclose(slopes, table[f"{side}_slopes"][inside], rtol=0, atol=1e-14)


def test_cubics_of_a_cubic_are_that_cubic():
    z = oracle.nodes(80, 3, -4)
    phi = nk.activation(
        "tabulated",
        right_values=z**3 - z,
        right_slopes=3 * z**2 - 1,
        left_values=-(z**3) + z,
        left_slopes=3 * z**2 - 1,
        density=3,
        start=-4,
    )
    x = np.linspace(-z[-1], z[-1], 999)
    np.testing.assert_allclose(phi(x), x**3 - x, atol=1e-12 * z[-1] ** 3)
    np.testing.assert_allclose(phi.derivative(x), 3 * x**2 - 1, atol=1e-12 * z[-1] ** 2)


def test_error_of_a_cubic_interpolant_falls_with_the_fourth_power_of_the_step():
    errors, x = [], np.linspace(0.1, 6.0, 3001)
    for density in (3, 4, 5, 6):
        count = int(np.searchsorted(oracle.nodes(4000, density, -6), 8.0))
        z = oracle.nodes(count, density, -6)
        phi = nk.activation("tabulated", right_values=np.sin(z), right_slopes=np.cos(z), left_values=-np.sin(z),
                            left_slopes=np.cos(z), density=density, start=-6)  # fmt: skip
        errors.append(np.abs(phi(x) - np.sin(x)).max())
    rate = np.polyfit([3, 4, 5, 6], np.log2(errors), 1)[0]
    assert rate == pytest.approx(-4, abs=0.15)


# --- the object -------------------------------------------------------------------------------------------------


def test_equality_copies_and_pickles():
    phi = nk.activation("tabulated", **made())
    same, other = nk.activation("tabulated", **made()), nk.activation("tabulated", **made(accuracy=1e-9))
    assert phi == same
    assert hash(phi) == hash(same)
    assert phi != other
    assert phi != nk.activation("relu")
    for again in (pickle.loads(pickle.dumps(phi)), copy.deepcopy(phi), nk.activation(phi)):
        assert again == phi
        z = np.linspace(-9, 9, 300)
        np.testing.assert_array_equal(again(z), phi(z))


def test_parameters_are_plain_and_make_the_table_again():
    phi = nk.activation("tabulated", **made(log_slope=0.5, accuracy=1e-7))
    text = json.dumps({k: list(v) if isinstance(v, tuple) else v for k, v in phi.parameters.items()})
    assert nk.activation("tabulated", **json.loads(text)) == phi
    assert phi.name == "tabulated"
    assert str(phi) == f"tabulated(200 nodes a side, |z| <= {oracle.nodes(200, 4, -6)[-1]:.3g})"
    assert phi.family.accuracy == 1e-7
    assert phi.values == ()


def test_kinks_are_the_cusp_and_the_nodes():
    table = made(30, 3, -4)
    phi = nk.activation("tabulated", **table)
    at = oracle.nodes(30, 3, -4)
    assert [k.location for k in phi.kinks] == [*(-at[:0:-1]), *at]
    (cusp,) = [k for k in phi.kinks if k.location == 0]
    assert cusp.slope_jump == table["right_slopes"][0] - table["left_slopes"][0]
    given_jump = nk.activation("tabulated", **{**table, "slope_jump": 0.25, "log_slope": -1.5})
    (cusp,) = [k for k in given_jump.kinks if k.location == 0]
    assert (cusp.slope_jump, cusp.log_slope) == (0.25, -1.5)


BAD = [
    ({"right_values": None}, "needs right_values"),
    ({"rigth_values": [1, 2]}, "no parameter 'rigth_values'"),
    ({"left_slopes": [1.0]}, "left_slopes .* has shape"),
    ({"left_slopes": np.zeros((2, 100))}, "left_slopes .* has shape"),
    ({"right_slopes": [math.nan] * 200}, r"right_slopes\[0\] is nan"),
    ({"right_slopes": ["a"] * 200}, "right_slopes must hold real numbers"),
    ({"right_values": np.ones(200), "left_values": np.zeros(200)}, "jumps at 0"),
    ({"density": 1}, "density must be an integer ≥ 2"),
    ({"density": 11}, "density .* is 11; it must be from 2 to 10"),
    ({"density": 4.5}, "density must be an integer"),
    ({"start": 1}, "start .* is 1; it must be from -40 to 0"),
    ({"start": -41}, "start must be an integer ≥ -40"),
    ({"log_slope": math.inf}, "log_slope .* is inf"),
    ({"accuracy": -1e-3}, "accuracy .* is -0.001"),
    ({"accuracy": "high"}, "accuracy .* is 'high'"),
    ({"slope_jump": "1"}, "slope_jump .* is '1'; it must be a finite number"),
    ({"slope_jump": [1.0, 2.0]}, r"slope_jump .* is \[1.0, 2.0\]"),
    ({"slope_jump": 1j}, "slope_jump .* is 1j"),
    ({"slope_jump": math.nan}, "slope_jump .* is nan"),
    ({"log_slope": 10**400}, "log_slope .* is 1000"),
    ({"left_values": [[1.0], [1.0, 2.0]]}, "left_values must be a rectangular array"),
    ({"left_values": np.ones(200) * 1j}, "left_values must hold real numbers, not complex128"),
]


@pytest.mark.parametrize(
    ("change", "text"), BAD, ids=[next(iter(c)) + str(i) for i, (c, _) in enumerate(BAD)]
)
def test_bad_tables(change, text):
    table = {name: value for name, value in {**made(), **change}.items() if value is not None}
    with pytest.raises(InputError, match=text):
        nk.activation("tabulated", **table)


def test_tables_that_are_too_small_or_too_large():
    for count in (1, (1 << 14) + 1):
        zeros = [0.0] * count
        with pytest.raises(InputError, match="from 2 to 16384"):
            nk.activation(
                "tabulated", right_values=zeros, right_slopes=zeros, left_values=zeros, left_slopes=zeros
            )


def test_a_finished_table_is_registered_like_any_other():
    with pytest.raises(UnknownNameError, match="tabulated"):
        nk.activation("tabulatd")
    with pytest.raises(InputError, match="needs right_values, right_slopes, left_values, left_slopes"):
        nk.activation("tabulated")


# --- networks ----------------------------------------------------------------------------------------------------


def smooth_table():
    z = oracle.nodes(700, 6, -8)
    return nk.activation("tabulated", right_values=np.tanh(z), right_slopes=1 / np.cosh(z) ** 2, left_values=-np.tanh(z),
                         left_slopes=1 / np.cosh(z) ** 2, density=6, start=-8)  # fmt: skip


def test_kernel_is_that_of_the_function_it_stands_for():
    found, wanted = nk.FCN(smooth_table(), w_std=1.5).kernel("ntk"), nk.FCN("tanh", w_std=1.5).kernel("ntk")
    theta = np.linspace(0, np.pi, 31)
    np.testing.assert_allclose(found.at_angle(theta), wanted.at_angle(theta), atol=1e-7)


def test_trains_with_the_same_bits_on_one_and_two_threads():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(40, 5)), rng.normal(size=(40, 2))
    losses, outputs = [], []
    for threads in (1, 2):
        nets = nk.FCN(smooth_table(), w_std=1.5, b_std=0.3).init(width=70, n_inputs=5, n_outputs=2, members=3)
        history = nk.train(nets, x, y, lr=0.3, epochs=30, batch_size=16, threads=threads)
        losses.append(history.train_loss)
        outputs.append(nets.predict(x))
    np.testing.assert_array_equal(losses[0], losses[1])
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert losses[0][:, -1].max() < 0.8 * losses[0][:, 0].min()


def test_gradients_in_double_precision_are_those_of_tanh():
    """NTK and training of a network of a table of tanh against the plain numpy network of tanh: they differ by the table."""
    stds = {"w_std": 1.5, "b_std": 0.3, "readout_w_std": 1.0, "readout_b_std": 0.0}
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(6, 4)), rng.normal(size=(6, 2))
    parameters = [(rng.normal(size=(4, 19)), rng.normal(size=19)), (rng.normal(size=(19, 2)), None)]
    nets = nk.FCN(smooth_table(), **stds).from_parameters(parameters, dtype="float64")
    jacobian = network_oracle.jacobian(parameters, x, "tanh", stds)
    wanted = np.einsum("imp,jmp->ij", jacobian, jacobian) / 2
    np.testing.assert_allclose(nets.empirical_ntk(x)[0], wanted, atol=1e-5 * np.abs(wanted).max())
    losses, trained = network_oracle.sgd(parameters, x, y, "tanh", stds, 0.05, [np.arange(6)] * 10)
    history = nk.train(nets, x, y, lr=0.05, epochs=10, centered=False)
    outputs, _, _ = network_oracle.forward(trained, x, "tanh", stds)
    np.testing.assert_allclose(
        history.train_loss[0, [0, -1]], [losses[0], network_oracle.loss(outputs, y)], rtol=1e-5
    )
