"""Rules for signs: their criteria against plain quadrature, the search against all signs there are, what each is for."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ntkengine as nk
from ntkengine.design import signs
from ntkengine.errors import InputError
from tests.oracles import signs as oracle


def coefficients(kernel, degree, kind="ntk"):
    """a_k >= 0 of the theorem."""
    b = np.asarray(kernel.taylor(degree))
    return np.sqrt(b / (1 + np.arange(b.size)) if kind == "ntk" else b)


def deep():
    return nk.FCN("relu", depth=4, w_std=2**0.5, b_std=0.1).kernel("ntk")


TARGETS = {
    "4HL relu": lambda: coefficients(deep(), 20),
    "sinh": lambda: coefficients(nk.kernel("sinh(2*c)"), 15),
    "laplace": lambda: coefficients(nk.kernel("laplace"), 20),
    "gaussian": lambda: coefficients(nk.kernel("gaussian", gamma=2.0), 24),
}


def falling(seed, size):
    rng = np.random.default_rng(seed)
    return rng.exponential(size=size) / (1 + np.arange(size)) ** 0.75


# --- criteria ---------------------------------------------------------------------------------------------------


def test_reach_is_the_median_of_the_largest():
    for width in (1, 2, 64, 512, 4096, 1 << 20):
        assert signs.reach(width) == pytest.approx(oracle.reach(width), abs=1e-10)
    draws = np.abs(np.random.default_rng(0).standard_normal((4000, 512))).max(axis=1)
    assert np.median(draws) == pytest.approx(signs.reach(512), abs=0.02)


@pytest.mark.parametrize("size", [1, 2, 5, 12, 40])
def test_roughness_is_the_integral(size):
    a = falling(size, size)
    chosen = np.random.default_rng(1).choice([-1.0, 1.0], size)
    for far in (5.0, 2.0):
        expected = oracle.roughness(chosen * a, far)
        assert signs.roughness(a, chosen, far) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize(
    ("size", "w_std", "b_std", "width"),
    [(1, 1.0, 0.0, 512), (4, 1.0, 0.0, 512), (7, 1.3, 0.4, 64), (12, 0.7, 0.1, 4096), (21, 1.0, 0.0, 512)],
)
def test_spread_is_the_distance_by_plain_quadrature(kind, size, w_std, b_std, width):
    a = falling(size, size)
    for chosen in (signs.paper(size), np.ones(size)):
        found = signs.spread(a, chosen, kind, w_std=w_std, b_std=b_std, width=width)
        assert found == pytest.approx(oracle.spread(chosen * a, kind, w_std, b_std, width), rel=0.01)


def test_spread_is_the_distance_of_empirical_kernels():
    """Plain Monte Carlo over neurons; what is beyond the range is nothing here."""
    a = TARGETS["sinh"]()
    chosen, rng, theta = signs.paper(a.size), np.random.default_rng(5), (np.arange(33) + 0.5) * np.pi / 33
    g = rng.standard_normal((2, 400_000))
    r2 = rng.standard_normal(g.shape[1]) ** 2
    total, mean = 0.0, 0.0
    for t in theta:
        u, v = g[0], math.cos(t) * g[0] + math.sin(t) * g[1]
        (fu, du), (fv, dv) = oracle.series(chosen * a, u), oracle.series(chosen * a, v)
        total += float((fu * fv + r2 * math.cos(t) * du * dv).var())
        mean += oracle.kernel(a, "ntk", math.cos(t), 1.0, 0.0) ** 2
    assert signs.spread(a, chosen, "ntk") == pytest.approx(total / mean, rel=0.03)


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_what_lies_beyond_the_range_counts_as_missing(kind):
    """φ = h_30: a part of K lies beyond R(10⁴ N), so networks are that far from it; N times the square of that."""
    a = np.eye(31)[30]
    expected = oracle.spread(a, kind)
    assert expected > 1000
    assert signs.spread(a, np.ones(31), kind) == pytest.approx(
        expected, rel=0.1
    )  # f² is cut where it is large


# --- the search --------------------------------------------------------------------------------------------------


def all_signs(a):
    """Every choice; φ, −φ and φ(−z) are alike, so the first sign of either parity is +."""
    free = [k for k in range(2, a.size) if a[k] > 0]
    for choice in itertools.product([1.0, -1.0], repeat=len(free)):
        chosen = np.ones(a.size)
        chosen[free] = choice
        yield chosen


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rule", ["smooth", "concentrated"])
def test_search_finds_the_best_of_all_signs(rule, seed):
    a = falling(seed, 9 if rule == "smooth" else 8)
    if rule == "smooth":
        criterion = signs.roughness
    else:

        def criterion(a, chosen):
            return signs.spread(a, chosen, "ntk")

    least = min(criterion(a, chosen) for chosen in all_signs(a))
    assert criterion(a, signs.choose(a, rule, "ntk")) == pytest.approx(least, rel=1e-9)


@pytest.mark.parametrize("name", TARGETS)
def test_smooth_is_no_rougher_than_the_papers_signs_and_far_below_others(name):
    a = TARGETS[name]()
    smooth = signs.roughness(a, signs.choose(a, "smooth", "ntk"))
    assert smooth <= signs.roughness(a, signs.paper(a.size)) * (1 + 1e-12)
    rng = np.random.default_rng(0)
    random = np.median([signs.roughness(a, rng.choice([-1.0, 1.0], a.size)) for _ in range(50)])
    assert smooth < 0.1 * random
    assert smooth < 0.05 * signs.roughness(a, np.ones(a.size))


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize("name", TARGETS)
def test_concentrated_scatters_least(name, kind):
    a = TARGETS[name]()
    least = signs.spread(a, signs.choose(a, "concentrated", kind), kind)
    rng = np.random.default_rng(0)
    others = [signs.paper(a.size), np.ones(a.size), signs.choose(a, "smooth", kind)]
    others += [rng.choice([-1.0, 1.0], a.size) for _ in range(20)]
    assert least <= min(signs.spread(a, other, kind) for other in others) * (1 + 1e-12)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0]), min_size=1, max_size=12),
    st.sampled_from(signs.RULES),
)
def test_chosen_signs_are_signs(a, rule):
    a = np.array(a)
    chosen = signs.choose(a, rule, "nngp")
    assert chosen.shape == a.shape
    assert set(chosen.tolist()) <= {1.0, -1.0}
    assert (chosen[a == 0] == 1).all()
    for parity in (0, 1):  # of φ, −φ, φ(−z) and −φ(−z), one
        first = np.flatnonzero(a[parity::2])
        if rule in ("smooth", "concentrated") and first.size:
            assert chosen[parity::2][first[0]] == 1


def test_rules_do_not_see_how_large_the_kernel_is():
    a = TARGETS["4HL relu"]()
    for rule in ("smooth", "concentrated"):
        chosen = signs.choose(a, rule, "ntk")
        np.testing.assert_array_equal(signs.choose(1e6 * a, rule, "ntk"), chosen)
        np.testing.assert_array_equal(signs.choose(a, rule, "ntk"), chosen)
    assert signs.roughness(3 * a, chosen) == pytest.approx(9 * signs.roughness(a, chosen))
    assert signs.spread(3 * a, chosen, "ntk") == pytest.approx(signs.spread(a, chosen, "ntk"))


def test_criteria_are_even_in_phi_and_in_z():
    a, alternating = TARGETS["4HL relu"](), np.where(np.arange(21) % 2, -1.0, 1.0)
    chosen = signs.choose(a, "concentrated", "ntk")
    for same in (-chosen, chosen * alternating, -chosen * alternating):
        assert signs.roughness(a, same) == pytest.approx(signs.roughness(a, chosen))
        assert signs.spread(a, same, "ntk") == pytest.approx(signs.spread(a, chosen, "ntk"))


def test_papers_signs():
    assert signs.paper(9).tolist() == [1, 1, -1, -1, 1, 1, -1, -1, 1]
    a = np.array([1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0])
    assert signs.choose(a, "paper", "ntk").tolist() == [1, 1, 1, -1, 1, 1, -1]


def test_series_of_any_length():
    b = np.asarray(nk.kernel("laplace").taylor(3000))
    a = np.sqrt(b / (1 + np.arange(b.size)))
    chosen = signs.choose(a, "smooth", "ntk")
    np.testing.assert_array_equal(chosen[128:], signs.paper(a.size)[128:])
    assert signs.roughness(a, chosen) <= signs.roughness(a, signs.paper(a.size))


# --- through the theorem ------------------------------------------------------------------------------------------


def test_signs_given_are_signs_used():
    for given_signs in ([1, -1, 1, 1], (1.0, 1.0, -1.0, -1.0), np.array([1, 1, 1, -1])):
        design = nk.reverse_engineer("c**3 + c**2 + c + 1", "nngp", signs=given_signs)
        np.testing.assert_allclose(design.coefficients, np.asarray(given_signs, dtype=float), atol=1e-14)
        assert design.signs == "given"


def test_rule_of_the_design_is_the_rule_of_this_module():
    for rule in signs.RULES:
        design = nk.reverse_engineer(deep(), degree=20, signs=rule, width=64)
        a = np.abs(design.coefficients)
        chosen = signs.choose(a, rule, "ntk", width=64)
        np.testing.assert_array_equal(np.sign(design.coefficients), chosen)
        assert design.signs == rule


BAD = [
    ("rough", "signs is 'rough'; it must be one of 'smooth', 'paper', 'plus', 'concentrated'"),
    ("", "signs is ''"),
    ([1, 1], r"signs have shape \(2,\); one sign ±1 for each degree 0..3"),
    ([[1, 1, 1, 1]], r"signs have shape \(1, 4\)"),
    (1.0, r"signs have shape \(\)"),
    ([1, 0.5, 1, 1], r"signs\[1\] is 0.5; every sign must be 1 or -1"),
    ([1, 1, 0, 1], r"signs\[2\] is 0"),
    ([1, math.nan, 1, 1], r"signs\[1\] is nan"),
    ([1, 1j, 1, 1], "signs must hold real numbers"),
    (["+", "-", "+", "-"], "signs must hold real numbers"),
    (None, "signs must hold real numbers"),
    ([[1], [1, 1]], "signs must be a rectangular array"),
]


@pytest.mark.parametrize(("bad", "text"), BAD, ids=str)
def test_bad_signs(bad, text):
    with pytest.raises(InputError, match=text):
        nk.reverse_engineer("c**3 + c", signs=bad)


def test_bad_width():
    for width in (0, -3, 2.5, "many"):
        with pytest.raises(InputError, match="width must be an integer ≥ 1"):
            nk.reverse_engineer("c**3 + c", signs="concentrated", width=width)
