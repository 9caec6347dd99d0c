"""Sampled kernels: the interpolant, the coefficients nearest to the samples, files, and what is refused."""

import math
import pickle
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ntkengine as nk
from ntkengine.errors import DataError, InputError
from ntkengine.kernels.nearest import nearest
from ntkengine.kernels.samples import SampledKernel, kernel_from_samples, read_samples
from tests.oracles.nearest import nearest_series

relu = nk.FCN("relu", depth=4, w_std=2**0.5, b_std=0.1).kernel("ntk")


def even(n):
    return np.linspace(0, np.pi, n)


# --- the interpolant -------------------------------------------------------------------------------------------------


def test_exact_at_the_samples_in_any_order():
    rng = np.random.default_rng(1)
    c = np.concatenate([[-1.0, 1.0], np.cos(rng.uniform(0, np.pi, 60))])
    K = rng.standard_normal(62)
    k = kernel_from_samples(c, K)
    np.testing.assert_allclose(k(c), K, atol=1e-12)
    np.testing.assert_allclose(k.at_angle(k.angles), k.values, atol=1e-15)
    shuffled = rng.permutation(62)
    assert (kernel_from_samples(c[shuffled], K[shuffled]).values == k.values).all()
    assert k(0.3) == pytest.approx(k.at_angle(math.acos(0.3)), rel=1e-12)
    assert k.name == "62 samples"


@pytest.mark.parametrize(
    "function", [lambda t: np.exp(np.cos(t)), relu.at_angle, lambda t: np.sin(t + 0.3) ** 2]
)
def test_fourth_order_in_the_angle(function):
    fine = even(3001)

    def error(n):
        return np.abs(SampledKernel(even(n), function(even(n))).at_angle(fine) - function(fine)).max()

    assert error(41) / error(81) > 10
    assert error(161) < 3e-6


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1e-6, 0.01, 0.1, 1.0, 30.0]), min_size=11, max_size=11), st.booleans())
def test_monotonic_where_the_samples_are(steps, rising):
    theta = even(12)
    K = np.concatenate([[0.0], np.cumsum(steps)]) * (1 if rising else -1)
    values = SampledKernel(theta, K).at_angle(even(2001))
    slack = 1e-13 * (1 + np.abs(K).max())
    assert (np.diff(values if rising else -values) >= -slack).all()
    assert values.min() >= K.min() - slack
    assert values.max() <= K.max() + slack


def test_an_extremum_between_samples():
    for n in (39, 40, 41):  # 40 even angles straddle 90°
        for shift in (0.0, 0.01, 0.03):
            k = SampledKernel(even(n), np.cos(even(n) + shift) ** 2)
            assert abs(k.at_angle(np.pi / 2 - shift)) < 2e-5
    steps = SampledKernel(even(40), np.where(even(40) < 1.5, 1.0, 0.0)).at_angle(even(999))
    assert (np.diff(steps) <= 0).all()


def test_margins():
    theta = np.linspace(0.049, np.pi - 0.049, 80)
    for function in (np.cos, lambda t: np.pi - t, lambda t: np.exp(-3 * t)):  # third derivatives to 27
        k = SampledKernel(theta, function(theta))
        ends = np.array([0.0, 0.01, np.pi - 0.02, np.pi])
        np.testing.assert_allclose(k.at_angle(ends), function(ends), atol=0.05**3 * 40)
        # one function, whatever it is asked for together with
        assert k.at_angle(0.01) == k.at_angle(ends)[1]
    assert (np.diff(SampledKernel(theta, np.cos(theta)).at_angle(even(500))) <= 0).all()


def test_margins_do_not_magnify_noise():
    theta = np.linspace(0.049, np.pi, 2000)
    noise = 0.01 * np.random.default_rng(0).standard_normal(2000)
    assert abs(SampledKernel(theta, np.cos(theta) + noise).at_angle(0.0) - 1) < 0.2


def test_repeated_samples():
    theta = np.concatenate([even(20), even(20), [1.0, 1.0 + 1e-9]])
    k = SampledKernel(theta, np.concatenate([np.cos(even(20)), np.cos(even(20)) + 1e-5, [0.5, 0.5004]]))
    assert k.angles.size == 21
    np.testing.assert_allclose(k.at_angle(even(20)), np.cos(even(20)) + 5e-6, atol=1e-12)
    assert k.at_angle(1.0) == pytest.approx(0.5002, abs=1e-6)
    assert k.noise == pytest.approx(1e-3, rel=1e-4)


def test_contradicting_samples():
    theta, K = np.append(even(20), even(20)[7]), np.append(np.cos(even(20)), 0.9)
    with pytest.raises(
        InputError, match=r"2 samples at c = 0\.\d+ .* contradict each other: K from 0\.\d+ to 0\.9"
    ):
        SampledKernel(theta, K)
    assert SampledKernel(theta, K, sigma=0.2).angles.size == 20
    with pytest.raises(InputError, match="give a larger sigma"):
        SampledKernel(theta, K, sigma=0.01)


# --- the nearest power series ----------------------------------------------------------------------------------------


def test_coefficients_of_a_polynomial():
    k = kernel_from_samples(np.cos(even(50)), 1 + 2 * np.cos(even(50)) ** 3)
    series = k.taylor(5)
    np.testing.assert_allclose(series, [1, 0, 0, 2, 0, 0], atol=1e-10)
    assert k.misfit < 1e-12
    assert (series.error > k.misfit).all()
    assert series.error.max() < 0.2
    assert k.taylor(2).tail == pytest.approx(2, abs=1e-10)
    assert k.positive_definite
    # in another variable: c = (1.25 ρ − 0.25), 2c³ has negative coefficients in ρ
    assert k.taylor(3, b_std=0.5).error[0] > 0.05


@pytest.mark.parametrize("b_std", [0.0, 0.4])
def test_against_an_active_set(b_std):
    theta = np.concatenate([even(30), [0.2, 0.21, 2.0]])
    K = np.cos(3 * theta) + np.cos(theta) ** 2 + np.exp(-theta)
    k = SampledKernel(theta, K)
    series = k.taylor(4000, w_std=2.0, b_std=2 * b_std)
    rho = (np.cos(theta) + b_std**2) / (1 + b_std**2)
    powers = rho[:, None] ** np.arange(4001)
    _, misfit = nearest_series(K, powers)
    assert series.error.min() >= misfit * (1 - 1e-6)
    np.testing.assert_allclose(np.sqrt(np.mean((powers @ series - K) ** 2)), misfit, rtol=1e-6)
    assert (np.asarray(series) >= 0).all()


def test_deep_relu():
    k = SampledKernel(even(100), relu.at_angle(even(100)))
    assert k.misfit < 1e-3
    assert k.positive_definite
    series = k.taylor(2000)
    assert series.sum() + series.tail == pytest.approx(5.07, abs=5e-3)
    assert series[0] == pytest.approx(relu(0.0), abs=1e-2)


def test_noise_decides_whether_it_is_positive_definite():
    rng = np.random.default_rng(3)
    noisy = relu.at_angle(even(100)) + 0.05 * rng.standard_normal(100)
    assert SampledKernel(even(100), noisy, sigma=0.05).positive_definite
    assert not SampledKernel(even(100), noisy, sigma=0.01).positive_definite
    assert not SampledKernel(even(100), noisy).positive_definite
    wave = SampledKernel(even(100), np.cos(3 * even(100)))
    assert not wave.positive_definite
    assert wave.misfit > 0.5


def test_many_samples():
    theta = np.random.default_rng(5).uniform(0, np.pi, 20_000)
    K = np.exp(np.cos(theta)) + 0.1 * np.random.default_rng(6).standard_normal(20_000)
    k = SampledKernel(theta, K, sigma=0.1)
    assert k.misfit == pytest.approx(0.1, rel=0.02)
    assert k.positive_definite
    c = np.cos(even(200))
    np.testing.assert_allclose(np.polynomial.polynomial.polyval(c, k.taylor(2000)), np.exp(c), atol=0.03)


def test_the_error_covers_what_samples_leave_open():
    """Over seeds, coefficients fitted to noise lie within a few errors of the true ones; less noise, smaller errors."""
    theta, want = even(60), nk.kernel("exp(c) + 0.3*c**9").taylor(30)
    errors = []
    for sigma in (0.1, 0.01, 1e-4):
        off = []
        for seed in range(5):
            noise = sigma * np.random.default_rng(seed).standard_normal(60)
            series = SampledKernel(
                theta, np.exp(np.cos(theta)) + 0.3 * np.cos(theta) ** 9 + noise, sigma=sigma
            ).taylor(30)
            off.append(np.abs(series - want) / series.error)
        assert np.mean(np.array(off) < 3) > 0.95
        errors.append(series.error)
    for before, after in pairwise(errors):
        assert (after[:4] < 0.5 * before[:4]).all()


def test_the_tail_has_what_is_beyond_the_fit():
    """A spike at c = 1 between two samples, narrower than c^2000."""
    K = np.exp(np.cos(even(300)))
    plain = SampledKernel(even(300), K, sigma=1e-6).taylor(2000)
    assert plain.tail == 0.0
    K[0] += 0.5
    series = SampledKernel(even(300), K, sigma=1e-6).taylor(2000)
    assert series.tail > 0.2
    assert series.sum() + series.tail == pytest.approx(np.e + 0.5, rel=1e-12)


CLEAN = {
    "exp": np.exp,
    "linear": lambda c: c,
    "cubic": lambda c: c**3 + c,
    "constant": lambda c: 2.0 + 0 * c,
    "gaussian": lambda c: np.exp(-10 * (1 - c)),
    "laplace": lambda c: np.exp(-np.sqrt(2 - 2 * c)),
}


@pytest.mark.parametrize("count", [11, 41, 200])
@pytest.mark.parametrize("name", CLEAN)
def test_samples_without_noise(name, count):
    """The fit reaches rounding, and what samples leave open is told, however small the noise that is declared."""
    c = np.cos(even(count))
    for sigma in (3e-8, 1e-9, 1e-100):
        k = kernel_from_samples(c, CLEAN[name](c), sigma=sigma)
        assert k.positive_definite is True
        assert k.noise == max(sigma, 1e-12 * np.abs(k.values).max())
        series = k.taylor(5)
        assert np.isfinite(series.error).all()
        assert (series.error >= k.misfit).all()
        assert np.isfinite(k.taylor(5, b_std=0.5).error).all()
    if name == "exp" and count == 41:
        assert (np.abs(series - 1 / np.array([1, 1, 2, 6, 24, 120])) <= 3 * series.error + 1e-12).all()


@pytest.mark.parametrize("kernel", [relu, nk.kernel("laplace"), nk.FCN("step").kernel("nngp")], ids=str)
def test_slowly_falling_series_are_met(kernel):
    """No series of degree 2000 comes nearer than 1e-4; its mass is in higher degrees, and the tail tells how much of it."""
    theta = even(200)
    k = SampledKernel(theta, kernel.at_angle(theta), sigma=1e-9)
    assert k.positive_definite is True
    assert k.misfit < 1e-12
    for degree in (100, 1000):
        series = k.taylor(degree)
        assert series.sum() + series.tail == pytest.approx(kernel(1.0), rel=1e-12)
        assert series.tail == pytest.approx(kernel.taylor(degree).tail, rel=0.05)


def test_not_decided_from_samples():
    """A power between the degrees tried is missed by more than noise; one with the wrong sign, by as much, is disproved."""
    theta = even(200)
    high = SampledKernel(theta, np.cos(theta) ** 5037, sigma=1e-10)
    assert high.misfit > 100 * high.noise
    assert high.positive_definite is None
    assert SampledKernel(theta, np.cos(theta) ** 5037, sigma=1e-5).positive_definite is True
    for K in (
        np.exp(np.cos(theta)) - 1e-4 * np.cos(theta) ** 9,
        np.cos(theta) ** 2 - 1e-5 * np.cos(theta) ** 4,
    ):
        assert SampledKernel(theta, K, sigma=1e-9).positive_definite is False
        assert SampledKernel(theta, K, sigma=1e-5).positive_definite is True


def test_more_samples_than_a_fit_takes(monkeypatch):
    monkeypatch.setattr("ntkengine.kernels._sample_fit.POINTS", 300)
    theta = even(1100)
    clean = SampledKernel(theta, np.exp(-2 * np.sin(theta / 2)), sigma=1e-6)
    assert clean.positive_definite is True
    wave = SampledKernel(theta, np.cos(3 * theta))
    assert wave.positive_definite is False
    assert wave.misfit == pytest.approx(
        0.5813, rel=1e-3
    )  # at samples nearer to the ends a narrower spike is met


def test_combinations_know_their_samples():
    wave = kernel_from_samples(GOOD, np.cos(2 * np.arccos(GOOD)) - 0.5)
    good = kernel_from_samples(GOOD, GOOD**2)
    assert wave.samples == (wave,)
    for k in (1.0 * wave, wave + nk.kernel("c**2"), good * wave, wave / 2, (wave + 1) ** 2):
        assert not all(s.positive_definite for s in k.samples)
        near = nearest(k)  # fitted, not the coefficients that are no kernel's
        assert near.kkt < 1e-12
        assert (1.0 * near).samples == ()
    assert nearest(2.0 * good).kkt is None
    assert nk.kernel("gaussian").samples == ()
    inner = kernel_from_samples(GOOD, np.cos(2 * np.arccos(GOOD)))
    assert nk.kernel("exp(c)").compose(inner).samples == (inner,)


def test_algebra_and_pickle():
    k = kernel_from_samples(np.cos(even(40)), np.cos(even(40)) ** 2)
    both = k + nk.kernel("c**3")
    np.testing.assert_allclose(both.taylor(4), [0, 0, 1, 1, 0], atol=1e-9)
    np.testing.assert_allclose((2.0 * k)([0.0, 0.5, 1.0]), [0, 0.5, 2], atol=4e-5)
    again = pickle.loads(pickle.dumps(k))
    c = np.linspace(-1, 1, 11)
    assert (again(c) == k(c)).all()
    assert again.misfit == k.misfit


@pytest.mark.parametrize("size", [3e-99, 1e-30, 1e99])
def test_every_scale_gives_the_same(size):
    K = np.exp(np.cos(even(40))) - 0.3 * np.cos(even(40)) ** 3
    k, other = SampledKernel(even(40), K), SampledKernel(even(40), size / 3 * K)
    assert other.misfit * 3 / size == pytest.approx(k.misfit, rel=1e-6)
    series = k.taylor(20)
    np.testing.assert_allclose(other.taylor(20) / (size / 3), series, atol=1e-9)
    np.testing.assert_allclose(other.taylor(20).error / (size / 3), series.error, rtol=1e-4)
    near = nearest(nk.kernel("a*(c**2 - 0.1*c**4)", a=size**2))
    assert near.distance / size**2 == pytest.approx(nearest(nk.kernel("c**2 - 0.1*c**4")).distance, rel=1e-9)


def test_zero():
    k = SampledKernel(even(12), np.zeros(12))
    assert k.positive_definite
    assert not k.taylor(4).any()


# --- what is refused -------------------------------------------------------------------------------------------------

GOOD = np.cos(even(12))


@pytest.mark.parametrize(
    ("c", "K", "message"),
    [
        ([1.0, -1.0], [1.0, 0.0], "c has 2 entries; a kernel needs at least 3"),
        ([1.0, 0.0, -1.0], [1.0, 0.0], "c has 3 entries and K has 2"),
        (GOOD + 0.01, GOOD, r"c\[0\] is 1.01; each must be a cosine"),
        (np.append(GOOD, np.nan), np.append(GOOD, 0), r"c\[12\] is nan"),
        (GOOD, np.where(GOOD < -0.99, np.inf, GOOD), r"K\[11\] is inf"),
        (GOOD[None], GOOD[None], "must be a vector"),
        (["a", "b", "c"], GOOD[:3], "real numbers"),
        (GOOD[1:], GOOD[1:], r"angles from 0 to 0.2856 \(c from 1 down to 0.959"),
        (GOOD[:-1], GOOD[:-1], r"angles from 2.856 to 3.142 .* at either end"),
        (np.delete(GOOD, [4, 5]), np.delete(GOOD, [4, 5]), r"angles from 0.8568 to 1.714 .* between samples"),
        (GOOD * 0.5, GOOD, "leave out the angles"),
        (GOOD, 1e308 * GOOD, r"values\[0\] = 1e\+308; its size must be from 1e-100 to 1e\+100: multiply"),
        (GOOD, 1e-200 * GOOD, r"values\[0\] = 1e-200; its size"),
    ],
)  # fmt: skip
def test_bad_samples(c, K, message):
    with pytest.raises(InputError, match=message):
        kernel_from_samples(c, K)


@pytest.mark.parametrize("sigma", [0, -1, float("nan"), "x", [0.1, 0.2]])
def test_bad_sigma(sigma):
    with pytest.raises(InputError, match="sigma"):
        kernel_from_samples(GOOD, GOOD, sigma=sigma)


def test_bad_angles():
    with pytest.raises(InputError, match=re.escape("angles[2] is 3.2; each must be an angle in radians")):
        SampledKernel([0.0, 1.0, 3.2], [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    "arguments", [{"degree": -1}, {"degree": 3, "w_std": 0}, {"degree": 3, "b_std": "x"}]
)
def test_bad_taylor(arguments):
    with pytest.raises(InputError):
        kernel_from_samples(GOOD, GOOD).taylor(**arguments)


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t", " ", "   ", ", "])
@pytest.mark.parametrize("header", ["", "c,K", "cosine,kernel", "K,c", "angle,K", "Theta,value", "K,angle"])
def test_formats(tmp_path, separator, header):
    theta = even(33)
    K = np.exp(np.cos(theta))
    names = header.split(",")
    angle = {"angle", "theta"} & set(header.lower().split(","))
    x = theta if angle else np.cos(theta)
    rows = [(f"{a:.17g}", f"{b:.17g}") for a, b in zip(x, K)]
    if names[0] == "K":
        rows = [(b, a) for a, b in rows]
    lines = ["# measured", *([separator.join(names)] if header else []), *map(separator.join, rows), "", " "]
    file = tmp_path / "k.csv"
    file.write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    k = read_samples(file)
    np.testing.assert_allclose(k.angles, theta, atol=3e-8)
    np.testing.assert_allclose(k.values, K, rtol=1e-12)
    assert k.name == "samples of k.csv"


ROWS = [f"{c!r},{c!r}" for c in GOOD.tolist()]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "holds 0 samples"),
        (["c,K", *ROWS[:2]], "holds 2 samples"),
        (["c,K", "1,2,3"], "line 2: 3 columns, expected 2"),
        (["1", "0.5"], "line 1: 1 column, expected 2"),
        ([*ROWS, "0.5"], "line 13: 1 column"),
        ([*ROWS, "x,1"], "line 13: found 'x', expected a finite number"),
        ([*ROWS, "0.5,nan"], "line 13: found 'nan'"),
        ([*ROWS, "0.5,"], "line 13: found ''"),
        ([*ROWS, "0.5,1_0"], "line 13: found '1_0'"),
        ([*ROWS, "# note", "", "1.5,1"], "line 15: c is 1.5; a cosine is from -1 to 1"),
        (["angle,K", *ROWS], "line 6: the angle is|line 8: the angle is"),
        (["x,y", *ROWS], "line 1: the header is 'x', 'y'"),
        (["0,5;1,0", "1;2"], "line 1: the header is '0,5', '1,0'.*decimal point"),
        (["c;K", "0,5;1,0", "1;2"], "line 2: found '0,5', expected a finite number with a decimal point"),
        (['c,"K', *ROWS], "line 1 cannot be read.*quotes"),
        (ROWS[:-1], "leave out the angles from 2.856 to 3.142"),
        ([*ROWS, "1.0,7"], "contradict each other"),
    ],
)  # fmt: skip
def test_bad_files(tmp_path, lines, message):
    file = tmp_path / "k.csv"
    file.write_text("\n".join(lines))
    with pytest.raises(DataError, match=message) as caught:
        read_samples(file)
    assert str(file) in str(caught.value)


def test_unreadable_files(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_samples(tmp_path / "none.csv")
    with pytest.raises(DataError, match="is a folder"):
        read_samples(tmp_path)
    (tmp_path / "k.csv").write_bytes(b"\xff\xfe1,2")
    with pytest.raises(DataError, match="not UTF-8"):
        read_samples(tmp_path / "k.csv")
    with pytest.raises(InputError, match="path is 3"):
        read_samples(3)
    (tmp_path / "k.csv").write_text("\n".join(ROWS))
    with pytest.raises(InputError, match="sigma is 0"):
        read_samples(tmp_path / "k.csv", sigma=0)
