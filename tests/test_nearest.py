"""The nearest positive-definite kernel against an active set of its own, its optimality conditions and known cases."""

import math
import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ntkengine as nk
from ntkengine.errors import InputError
from ntkengine.kernels.base import DotProductKernel
from ntkengine.kernels.nearest import (
    NearestKernel,
    SeriesKernel,
    cone_fit,
    disproves,
    nearest,
    powers,
    undetermined,
)
from tests.oracles.nearest import angles, nearest_series, series_at


class Plain(DotProductKernel):
    """A kernel that is a function of the angle and nothing else: no power series."""

    def __init__(self, function):
        self.function = function

    @property
    def name(self):
        return "plain"

    def _values(self, c, complement):
        return self._values_at_angle(np.arccos(np.clip(c, -1, 1)))

    def _values_at_angle(self, theta):
        return self.function(theta)


def polynomial(b):
    return Plain(lambda theta: np.polynomial.polynomial.polyval(np.cos(theta), b))


TARGETS = {
    "abs": lambda t: np.abs(np.cos(t)),
    "cos 3 theta": lambda t: np.cos(3 * t),
    "one negative": lambda t: np.cos(t) ** 2 - 0.1 * np.cos(t) ** 4 + np.cos(t) ** 7,
    "cosine of a cosine": lambda t: np.cos(3 * np.cos(t)) + np.cos(t),
    "laplace less a cube": lambda t: np.exp(-2 * np.sin(t / 2)) - 0.3 * np.cos(t) ** 3,
    "narrow peak at right angles": lambda t: np.exp(-20 * np.cos(t) ** 2),
    "negative": lambda t: np.cos(t) - 3.0,
}


@pytest.mark.parametrize("b_std", [0.0, 0.4])
@pytest.mark.parametrize("name", TARGETS)
def test_against_an_active_set_on_a_grid(name, b_std):
    target, degree, w_std = TARGETS[name], 40, 1.3
    found = nearest(Plain(target), degree=degree, w_std=w_std, b_std=b_std)
    theta = angles(3000)
    rho = (w_std**2 * np.cos(theta) + b_std**2) / (w_std**2 + b_std**2)
    b, distance = nearest_series(target(theta), rho[:, None] ** np.arange(degree + 1))
    scale = np.abs(target(theta)).max()
    # a projection on a convex set is one function, whatever its coefficients
    np.testing.assert_allclose(found.at_angle(theta), series_at(b, rho), atol=1e-5 * scale)
    assert found.distance == pytest.approx(distance, rel=1e-5)
    assert found.kkt <= 1e-13
    misfit = found.at_angle(theta) - target(theta)
    assert found.max_distance == pytest.approx(np.abs(misfit).max(), abs=0.02 * scale)
    assert found.max_distance >= np.abs(misfit).max() - 1e-6 * scale


@pytest.mark.parametrize("b_std", [0.0, 0.7])
def test_no_degree_improves_the_fit(b_std):
    """KKT over the angles, power by power: ⟨K − target, ρ^k⟩ ≥ 0, and 0 where b_k > 0."""
    found = nearest(Plain(TARGETS["laplace less a cube"]), degree=1500, b_std=b_std)
    theta = angles(8192)
    misfit = found.at_angle(theta) - found.target.at_angle(theta)
    assert found.distance == pytest.approx(np.sqrt(np.mean(misfit**2)), rel=1e-12)
    for k in [*range(60), 100, 333, 1000, 1499, 1500]:
        power = ((np.cos(theta) + b_std**2) / (1 + b_std**2)) ** k
        slope = np.mean(misfit * power) / np.sqrt(np.mean(power**2))
        assert slope >= -1e-13
        if found.coefficients[k] > 1e-6:
            assert abs(slope) <= 1e-13


def test_known_projections():
    assert nearest(nk.kernel("-c**3")).distance == pytest.approx(math.sqrt(5 / 16))  # E cos⁶ = 5/16
    assert not nearest(nk.kernel("-c**3")).coefficients.any()
    # c² − c⁴/10: the projection on 1 and c², E cos² = 1/2, E cos⁴ = 3/8, E cos⁶ = 5/16, E cos⁸ = 35/128
    b = np.linalg.solve([[1, 1 / 2], [1 / 2, 3 / 8]], [1 / 2 - 3 / 80, 3 / 8 - 5 / 160])
    found = nearest(nk.kernel("c**2 - 0.1*c**4"), degree=500)
    np.testing.assert_allclose(found.coefficients[[0, 2]], b, rtol=1e-12)
    assert np.count_nonzero(found.coefficients) == 2
    square = 3 / 8 - 2 * 5 / 160 + 0.01 * 35 / 128 - b @ [1 / 2 - 3 / 80, 3 / 8 - 5 / 160]
    assert found.distance == pytest.approx(math.sqrt(square), rel=1e-9)


def test_positive_definite_targets_come_back():
    found = nearest(nk.kernel("exp(c)"), degree=30)
    np.testing.assert_allclose(found.coefficients, [1 / math.factorial(k) for k in range(31)], rtol=1e-13)
    assert found.kkt is None
    assert found.max_distance < 1e-14

    short = nearest(nk.kernel("exp(c)"), degree=5)
    tail = math.e - sum(1 / math.factorial(k) for k in range(6))
    assert short.max_distance == pytest.approx(tail, rel=1e-9)
    assert short.distance < short.max_distance

    blind = nearest(Plain(lambda t: np.exp(np.cos(t))), degree=200)  # from values alone
    assert blind.max_distance < 1e-13
    np.testing.assert_allclose(blind.coefficients[:6], [1 / math.factorial(k) for k in range(6)], rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=12))
def test_elements_of_the_cone_are_their_own_nearest(b):
    found = nearest(polynomial(b), degree=60)
    assert found.max_distance <= 1e-12 * max(1, sum(b))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=10), st.sampled_from([0.0, 0.5]))
def test_projection_on_a_cone(b, b_std):
    """The misfit is orthogonal to the projection, which is nearer than 0 and than the positive part of the series."""
    target = polynomial(b)
    found = nearest(target, degree=50, b_std=b_std)
    theta = angles(8192)
    K, near = target.at_angle(theta), found.at_angle(theta)
    assert abs(np.mean((K - near) * near)) <= 1e-11 * (1 + np.mean(K**2))
    assert found.distance <= np.sqrt(np.mean(K**2)) * (1 + 1e-12) + 1e-150  # where squares underflow
    if b_std == 0:
        clipped = np.polynomial.polynomial.polyval(np.cos(theta), np.maximum(b, 0))
        assert found.distance <= np.sqrt(np.mean((K - clipped) ** 2)) + 1e-12


def test_parity_is_kept():
    even = nearest(Plain(TARGETS["abs"]))
    odd = nearest(Plain(TARGETS["cos 3 theta"]))
    assert not even.coefficients[1::2].any()
    assert not odd.coefficients[0::2].any()


def test_a_kink_is_met_better_with_more_degrees():
    """From the values alone: degree n resolves angles of 1/√n, over which K is missed by 1/√n, so rms by n^{-3/4}."""
    laplace = Plain(lambda t: np.exp(-2 * np.sin(t / 2)))
    distances = [nearest(laplace, degree=degree).distance for degree in (20, 80, 320, 1280)]
    for before, after in pairwise(distances):
        assert math.log(before / after, 4) == pytest.approx(0.75, abs=0.03)
    assert distances[-1] < 4e-4


def test_network_kernel_less_something():
    k = nk.FCN("relu", depth=4, w_std=2**0.5, b_std=0.1).kernel("ntk")
    found = nearest(Plain(lambda t: k.at_angle(t) - np.cos(t) ** 3))
    assert 1e-3 < found.distance < np.sqrt(5 / 16)
    assert found.kkt < 1e-12


def test_zero_and_constant():
    assert nearest(nk.kernel("0")).distance == 0
    found = nearest(nk.kernel("-2"))
    assert not found.coefficients.any()
    assert found.distance == pytest.approx(2)
    assert nearest(nk.kernel("c - 1"), degree=0).coefficients == pytest.approx([0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"degree": -1}, "degree must be an integer"),
        ({"degree": 2.5}, "2.5"),
        ({"degree": 10_001}, "10000"),
        ({"w_std": 0}, "w_std is 0"),
        ({"b_std": -0.1}, "b_std is -0.1"),
        ({"b_std": float("nan")}, "b_std is nan"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        nearest(nk.kernel("c"), **arguments)


def test_no_value():
    with pytest.raises(InputError, match="no finite real value at c = -1"):
        nearest(Plain(lambda t: np.where(t > 3, np.nan, 1.0)))


def test_no_kernel():
    with pytest.raises(InputError, match="must be a DotProductKernel"):
        nearest("c**2")


# --- SeriesKernel ----------------------------------------------------------------------------------------------------

B = [0.5, 0.0, 1.0, 0.0, 0.0, 0.25]


@pytest.mark.parametrize(("w_std", "b_std"), [(1.0, 0.0), (1.4, 0.3)])
def test_series_kernel(w_std, b_std):
    k = SeriesKernel(B, w_std=w_std, b_std=b_std)
    c = np.linspace(-1, 1, 41)
    q = w_std**2 + b_std**2
    rho = (w_std**2 * c + b_std**2) / q
    np.testing.assert_allclose(k(c), series_at(B, rho), rtol=1e-14)
    z = 0.7 * np.exp(1j * np.linspace(0, 6, 9))
    np.testing.assert_allclose(k._complex(z), series_at(B, (w_std**2 * z + b_std**2) / q), rtol=1e-14)
    small = np.array([1e-9, 1e-4])
    slope = sum(j * b for j, b in enumerate(B)) * w_std**2 / q
    np.testing.assert_allclose(k._deficit_at_angle(small), slope * small**2 / 2, rtol=1e-6)
    assert k.degree == 5
    assert k.coefficients.tolist() == B

    own = k.taylor(3, w_std=2 * w_std, b_std=2 * b_std)  # the same ρ
    assert own.tolist() == B[:4]
    assert own.tail == 0.25
    assert k.taylor(8, w_std=w_std, b_std=b_std).tolist() == [*B, 0, 0, 0]

    other = k.taylor(5, w_std=1.0, b_std=0.9)
    moved = (c + 0.81) / 1.81
    np.testing.assert_allclose(series_at(np.asarray(other), moved), k(c), rtol=1e-13)
    assert abs(other.tail) < 1e-14

    again = pickle.loads(pickle.dumps(k))
    assert (again(c) == k(c)).all()


def test_empty_series():
    assert SeriesKernel([0.0, 0.0])([-1.0, 1.0]).tolist() == [0, 0]
    assert SeriesKernel([0.0]).taylor(2).tolist() == [0, 0, 0]
    assert SeriesKernel([0.0]).degree == 0


def test_pickle_of_the_nearest():
    found = nearest(nk.kernel("c - 0.5*c**2"))
    again = pickle.loads(pickle.dumps(found))
    assert isinstance(again, NearestKernel)
    assert (again.distance, again.name) == (found.distance, found.name)
    assert "c - 0.5*c**2" in again.name


@pytest.mark.parametrize(
    ("coefficients", "message"),
    [
        ([], "shape"),
        ([[1.0]], "shape"),
        ([1.0, -1e-3], r"coefficients\[1\] is -0.001"),
        ([1.0, np.nan], "nan"),
        (["x"], "real numbers"),
    ],
)
def test_bad_series(coefficients, message):
    with pytest.raises(InputError, match=message):
        SeriesKernel(coefficients)


# --- the parts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("b_std", [0.0, 0.6])
def test_powers_by_quadrature(b_std):
    columns = powers(300, 1.0, b_std)
    theta = angles(5000)
    for k in (0, 1, 2, 7, 50, 299, 300):
        power = ((np.cos(theta) + b_std**2) / (1 + b_std**2)) ** k
        assert columns[0, k] == pytest.approx(power.mean(), abs=1e-14)
        for j in (1, 2, 5, 40):
            expected = np.mean(power * np.sqrt(2) * np.cos(j * theta))
            assert columns[j, k] == pytest.approx(expected, abs=1e-14)
        assert np.sum(columns[:, k] ** 2) == pytest.approx(np.mean(power**2), rel=1e-12)


def test_cone_fit_ignores_scales_and_empty_columns():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((30, 8)) * 10.0 ** np.arange(-8, 8, 2)
    A[:, 3] = 0
    aim = rng.standard_normal(30)
    b, kkt = cone_fit(A, aim)
    expected, _ = nearest_series(aim, np.delete(A, 3, axis=1))
    np.testing.assert_allclose(np.delete(b, 3), expected, rtol=1e-9)
    assert b[3] == 0
    assert kkt < 1e-12


@pytest.mark.parametrize(
    "terms",
    [
        {2001: 1.0},
        {2500: 1.0, 0: 0.1},
        {7: 3.0, 30_000: 1.0},
        {1: 1.0, 2: 5.0, 10_001: 1e-3},
        {3_000_000: 1.0},
    ],
)
def test_what_is_positive_definite_is_not_disproved(terms):
    """Powers beyond the degrees of the fit, near to them and far."""
    near = nearest(Plain(lambda t: sum(b * np.cos(t) ** k for k, b in terms.items())))
    assert not disproves(near)
    if min(terms) < 2000:  # and with one coefficient negative it is
        low = min(terms)
        near = nearest(
            Plain(
                lambda t: (
                    sum(b * np.cos(t) ** k for k, b in terms.items()) - 2 * terms[low] * np.cos(t) ** low
                )
            )
        )
        assert disproves(near)


def test_what_samples_leave_open():
    """The posterior of Gaussian coefficients, by the inverse of its precision."""
    rng = np.random.default_rng(0)
    columns, b, noise = rng.uniform(-1, 1, 30)[:, None] ** np.arange(8.0), rng.random(8), 0.05
    columns *= rng.uniform(1, 3, 30)[:, None]
    free = []
    for j in range(8):
        window = b[j // 2 : 2 * j + 1]
        free.append(window.sum() / math.sqrt(window.size) + noise)
    precision = columns.T @ columns / noise**2 + np.diag(np.power(free, -2.0))
    np.testing.assert_allclose(
        undetermined(columns, b, noise), np.sqrt(np.diag(np.linalg.inv(precision))), rtol=1e-9
    )
    assert not undetermined(columns, b, 0.0).any()
