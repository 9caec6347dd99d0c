"""Descriptions of kernels whose properties are known."""

import math

import numpy as np
import pytest

import ntkengine as nk
from ntkengine.errors import InputError
from ntkengine.kernels.base import DotProductKernel
from ntkengine.kernels.describe import Description, describe
from ntkengine.kernels.samples import SampledKernel


class Plain(DotProductKernel):
    """A kernel without a power series, a function of the angle."""

    def __init__(self, function):
        self.function = function

    @property
    def name(self):
        return "plain"

    def _values(self, c, complement):
        return self.function(np.arccos(np.clip(c, -1, 1)))

    def _values_at_angle(self, theta):
        return self.function(theta)


def relu(depth):
    return nk.FCN("relu", depth=depth, w_std=2**0.5, b_std=0.1).kernel("ntk")


def test_polynomial():
    found = describe(nk.kernel("1 + 2*c**2 + c**4"))
    assert found.positive_definite is True
    assert (found.first_negative, found.no_series, found.distance, found.noise) == (None, "", None, None)
    assert (found.at_one, found.at_zero, found.at_minus_one) == (4, 1, 4)
    assert (found.trend, found.turning_points) == ("turning", (0.0,))
    assert found.exponent == pytest.approx(1, abs=1e-4)
    assert found.slope == pytest.approx(8, rel=1e-4)
    assert found.parity == "even"
    # halfway from 4 to 1: 2c² + c⁴ = 3/2
    assert math.cos(found.correlation_angle) ** 2 == pytest.approx(math.sqrt(2.5) - 1, rel=1e-12)
    assert (found.constant, found.linear, found.tail) == (0.25, 0.0, 0.0)
    assert (found.median_degree, found.high_degree) == (2, 4)


@pytest.mark.parametrize(
    ("text", "parity", "trend"),
    [
        ("c**3 + c", "odd", "increasing"),
        ("cosh(c)", "even", "turning"),
        ("exp(c)", "neither", "increasing"),
        ("1 - c", "neither", "decreasing"),
        ("3", "even", "constant"),
        ("0", "zero", "constant"),
        ("c**51", "odd", "increasing"),
        ("c**50", "even", "turning"),
    ],
)
def test_parity_and_trend(text, parity, trend):
    found = describe(nk.kernel(text))
    assert (found.parity, found.trend) == (parity, trend)


def test_turning_points():
    assert describe(nk.kernel("c - c**3")).turning_points == pytest.approx((3**-0.5, -(3**-0.5)), abs=1e-3)
    assert describe(nk.kernel("cos(6*c)")).turning_points == pytest.approx(
        (math.pi / 6, 0, -math.pi / 6), abs=1e-3
    )


@pytest.mark.parametrize(
    ("text", "negative"),
    [
        ("c - c**3", (3, -1.0)),
        ("-c", (1, -1.0)),
        ("cos(2*c)", (2, -2.0)),
        ("exp(c) - 2", (0, -1.0)),
        ("log(c + 1.5)", (2, -1 / (2 * 1.5**2))),
    ],
)
def test_first_negative_coefficient(text, negative):
    found = describe(nk.kernel(text))
    assert found.positive_definite is False
    assert found.first_negative == (negative[0], pytest.approx(negative[1], rel=1e-12))
    assert found.distance > 0
    assert (found.constant, found.median_degree, found.tail) == (None, None, None)
    assert f"b_{negative[0]} = {negative[1]:.4g}" in str(found)


def test_negative_beyond_the_degrees_examined():
    k = nk.kernel("c**2 - 0.5*c**300")
    found = describe(k)
    assert found.positive_definite is False
    assert found.first_negative is None
    assert describe(k, degree=300).first_negative == (300, pytest.approx(-0.5))


def test_no_power_series():
    found = describe(nk.kernel("abs(c)"))
    assert found.positive_definite is False
    assert "not analytic" in found.no_series
    # the nearest kernel is b_0 + b_2 c²: E|cos| = 2/π, E|cos|³ = 4/(3π)
    b = np.linalg.solve([[1, 1 / 2], [1 / 2, 3 / 8]], [2 / math.pi, 4 / (3 * math.pi)])
    assert found.distance == pytest.approx(math.sqrt(1 / 2 - b @ [2 / math.pi, 4 / (3 * math.pi)]), rel=1e-6)
    assert "no power series in c was found" in str(found)
    undecided = describe(Plain(relu(4).at_angle))
    assert undecided.positive_definite is None
    assert "not decided" in str(undecided)


@pytest.mark.parametrize(
    "k",
    [
        nk.kernel("gaussian", gamma=2500.0),
        nk.kernel("laplace", length=0.001),
        nk.kernel("matern", nu=2.5, length=0.001),
        nk.kernel("rational_quadratic", alpha=30.0, length=0.001),
        nk.kernel("periodic", length=0.001),
        nk.FCN("sin", depth=4, w_std=5.0).kernel("nngp"),
    ],
    ids=str,
)
def test_narrow_kernels(k):
    found = describe(k)
    assert found.positive_definite is True
    assert found.tail > 0.99
    assert "Most of K(1) is in higher degrees" in found.rows[0][2]


def test_not_decided():
    """Values alone: a narrow positive-definite kernel is far from all series of degree 2000, and yet not disproved."""
    for function in (
        lambda t: np.exp(-5000 * (1 - np.cos(t))),
        lambda t: np.exp(-1e9 * t**2),
    ):
        found = describe(Plain(function))
        assert found.positive_definite is None
        assert found.first_negative is None
        assert "no analytic continuation" in found.no_series
        assert "not decided" in found.rows[0][1]
    for function in (
        lambda t: np.exp(-(t**4)),
        lambda t: 1 - np.cos(t),
    ):
        assert describe(Plain(function)).positive_definite is False
    for text in ("c**2 + 0.001*abs(c)", "exp(c) + 0.01*max(c - 0.3, 0)"):
        assert describe(nk.kernel(text)).positive_definite is False


def test_a_series_that_stops_names_its_negative_coefficient():
    found = describe(nk.kernel("periodic", frequency=12))
    assert found.positive_definite is False
    assert found.first_negative[0] == 2
    assert found.first_negative[1] < 0
    assert "b_2 = " in found.rows[0][1]
    assert "oscillates too fast" in found.no_series


def test_combinations_of_samples():
    theta = np.linspace(0, np.pi, 60)
    wave, good = SampledKernel(theta, np.cos(3 * theta)), SampledKernel(theta, relu(4).at_angle(theta))
    for k in (1.0 * wave, wave + nk.kernel("0.1*c")):
        found = describe(k)
        assert found.positive_definite is False
        assert "made of 60 samples" in found.no_series
    faint = describe(wave + nk.kernel("40*c**3"))  # 4 c³ − 3 c + 40 c³
    assert faint.positive_definite is False
    found = describe(2.0 * good)
    assert found.positive_definite is True
    assert found.exponent == pytest.approx(0.5, abs=0.05)
    assert found.exponent_angle >= theta[1]


def test_turning_points_have_no_more_digits_than_are_known():
    assert describe(nk.kernel("c - c**3")).turning_points == (0.57735, -0.57735)
    assert describe(nk.kernel("c**50")).turning_points == (0.0,)
    theta = np.linspace(0, np.pi, 60)
    rough = describe(SampledKernel(theta, np.cos(3 * theta), sigma=0.01)).turning_points
    assert rough == (0.5, -0.5)
    assert "K turns at c = 0.57735, -0.57735" in str(describe(nk.kernel("c - c**3")))


@pytest.mark.parametrize(
    ("k", "exponent"),
    [
        (relu(1), 0.5),
        (relu(4), 0.5),
        (relu(16), 0.5),
        (nk.FCN("relu", depth=3).kernel("nngp"), 1.0),
        (nk.FCN("step").kernel("nngp"), 0.5),
        (nk.FCN("step", depth=4).kernel("nngp"), 1 / 16),
        (nk.FCN("erf", depth=4).kernel("ntk"), 1.0),
        (nk.kernel("exp(-3*(1-c)**0.5)"), 0.5),
        (nk.kernel("exp(1e6*(c-1))"), 1.0),
        (nk.kernel("1 - (1-c)**2"), 2.0),
        (nk.kernel("1 - (1-c)**1.5"), 1.5),
        (nk.kernel("100 + 1e-3*c"), 1.0),
    ],
    ids=str,
)
def test_exponent_at_one(k, exponent):
    found = describe(k, degree=20)
    assert found.exponent == pytest.approx(exponent, abs=2e-3)
    if exponent < 1:
        assert found.slope == math.inf
    if exponent > 1:
        assert found.slope == 0


def test_slopes():
    assert describe(nk.kernel("exp(1e6*(c-1))")).slope == pytest.approx(1e6, rel=1e-3)
    assert describe(nk.kernel("sinh(2*c)")).slope == pytest.approx(2 * math.cosh(2), rel=1e-4)
    assert describe(nk.FCN("relu", w_std=2**0.5).kernel("nngp")).slope == pytest.approx(1, rel=1e-4)
    assert describe(nk.kernel("100 + 1e-3*c")).slope == pytest.approx(1e-3, rel=1e-4)


@pytest.mark.parametrize("text", ["1 - c", "2", "c - c**3", "c**2 - 0.5*c**30"])
def test_no_peak_at_one(text):
    found = describe(nk.kernel(text))
    assert (found.exponent, found.slope, found.exponent_angle) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "angle"),
    [
        ("c", math.pi / 3),
        ("5 + c", math.pi / 3),
        ("c**3", math.acos(0.5 ** (1 / 3))),
        ("exp(1e6*(c-1))", math.acos(1 - math.log(2) * 1e-6)),
        ("(2 + c)**2", math.acos(math.sqrt(6.5) - 2)),
    ],
)
def test_correlation_angle(text, angle):
    assert describe(nk.kernel(text)).correlation_angle == pytest.approx(angle, rel=1e-7)


def test_no_correlation_angle():
    assert describe(nk.kernel("1 - c")).correlation_angle is None
    assert describe(nk.kernel("2")).correlation_angle is None


def test_degrees():
    """b_k = 2^-(k+1): degrees above n hold 2^-n of the half that is not constant."""
    found = describe(nk.kernel("1/(2 - c)"))
    assert (found.constant, found.linear) == (pytest.approx(0.5), pytest.approx(0.25))
    assert (found.median_degree, found.high_degree) == (1, 4)
    assert describe(nk.kernel("c**7")).median_degree == 7
    short = describe(nk.kernel("c**7 + c"), degree=5)
    assert (short.median_degree, short.high_degree) == (1, None)
    assert short.tail == pytest.approx(0.5)
    assert describe(nk.kernel("c**7"), degree=5).median_degree is None


def test_deep_relu():
    found = describe(relu(4))
    assert found.positive_definite
    assert found.at_one == pytest.approx(5.07)
    assert found.at_minus_one == pytest.approx(1.085666, abs=1e-6)
    assert found.constant == pytest.approx(relu(4)(0.0) / 5.07)
    assert found.tail == pytest.approx(1 - relu(4).taylor(200).sum() / 5.07)
    assert found.tail > 0.01
    assert found.trend == "turning"  # it rises again near c = −1
    text = str(found)
    for word in ("positive definite", "slope infinite", "correlation angle", "29.1%", "above degree 200"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 110


def test_samples():
    theta = np.linspace(0, np.pi, 60)
    found = describe(SampledKernel(theta, relu(4).at_angle(theta)))
    assert found.positive_definite
    assert found.distance < found.noise == pytest.approx(5.07e-3)
    assert found.exponent == pytest.approx(0.5, abs=0.05)
    assert found.exponent_angle >= theta[1]
    assert found.constant == pytest.approx(0.29, abs=0.01)
    noisy = np.cos(3 * theta) + 0.01 * np.random.default_rng(0).standard_normal(60)
    wave = describe(SampledKernel(theta, noisy, sigma=0.01))
    assert wave.positive_definite is False
    assert wave.distance > 0.5
    assert wave.parity == "odd"
    assert wave.turning_points == pytest.approx((0.5, -0.5), abs=0.05)
    assert wave.slope == pytest.approx(9, rel=0.2)
    assert wave.constant is None
    assert "no: the nearest such kernel misses the samples by" in str(wave)


def test_samples_that_decide_nothing():
    theta = np.linspace(0, np.pi, 200)
    found = describe(SampledKernel(theta, np.cos(theta) ** 5037, sigma=1e-10))
    assert found.positive_definite is None
    assert found.distance > found.noise
    assert found.constant is None
    assert "not decided: the nearest such kernel misses the samples by" in found.rows[0][1]
    assert "no network" not in found.rows[0][2]


def test_small_values_that_are_known():
    found = describe(nk.kernel("(1+c)**300"))
    assert (found.at_one, found.at_zero, found.at_minus_one) == (pytest.approx(2.0**300), 1, 0)
    assert found.rows[1][1] == "2.03704e+90, 1, 0"
    sine = describe(nk.kernel("sin(a*c)", a=math.pi))
    assert sine.at_one == pytest.approx(1.2246467991473532e-16, rel=1e-12)
    assert describe(nk.FCN("sin", depth=3).kernel("nngp"), degree=5).at_zero == 0  # rounding leaves 6e-17


def test_degree_zero_tells_nothing_of_higher_ones():
    for text in ("c", "exp(c)"):
        found = describe(nk.kernel(text), degree=0)
        assert found.linear is None
        assert found.constant is not None
        assert "b_1" not in str(found)
        assert "not known" in str(found)
    assert describe(nk.kernel("exp(c)"), degree=1).linear == pytest.approx(1 / math.e)


def test_sum_of_kernels_and_the_method():
    k = nk.kernel("c") + nk.FCN("relu").kernel("nngp")
    found = k.describe()
    assert isinstance(found, Description)
    assert found.positive_definite
    assert found.at_one == pytest.approx(1.5)


def test_rows_have_three_texts():
    for text in ("exp(c)", "abs(c)", "2", "0", "c - c**3", "c**7"):
        found = describe(nk.kernel(text))
        assert all(len(row) == 3 and all(isinstance(x, str) and x for x in row) for row in found.rows)
        assert str(found).startswith(f"kernel {text}\n")


@pytest.mark.parametrize("degree", [-1, 1.5, "x", True, 10**9, "1e400", np.arange(9000)])
def test_bad_degree(degree):
    with pytest.raises(InputError, match="degree") as caught:
        describe(Plain(relu(4).at_angle), degree=degree)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("digits", [400, 5000])
def test_a_degree_of_many_digits(digits):
    for degree in (10**digits, -(10**digits)):
        with pytest.raises(InputError, match="degree") as caught:
            describe(Plain(relu(4).at_angle), degree=degree)
        assert len(str(caught.value)) < 150


def test_no_value():
    with pytest.raises(InputError, match="no finite real value at c = -1"):
        describe(Plain(lambda t: np.where(t > 3, np.inf, 1.0)))


def test_too_small():
    with pytest.raises(InputError, match=r"is 1\.5e-290; .* multiply it by a number"):
        describe(nk.kernel("a*(c - 0.5)", a=1e-290))


def test_no_kernel():
    with pytest.raises(InputError, match="must be a DotProductKernel"):
        describe("c**2")
