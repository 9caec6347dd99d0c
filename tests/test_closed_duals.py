"""Closed-form duals against mpmath: values, near-coincident and antipodal points, extreme variances, packed loops."""

import functools
import math
import re

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntkengine.activations import _duals
from tests.oracles import duals as oracle
from tests.oracles.activations import DEFINITIONS

CASES = [
    ("identity", ()),
    ("relu", ()),
    ("leaky_relu", (0.1,)),
    ("leaky_relu", (1.0,)),
    ("leaky_relu", (-1.0,)),
    ("abrelu", (-1.0, 1.0)),
    ("abrelu", (0.3, -0.7)),
    ("abs", ()),
    ("step", ()),
    ("sign", ()),
    ("erf", (1.0, 1.0, 0.0)),
    ("erf", (0.7, -2.0, 0.5)),
    ("sin", (1.0, 1.0, 0.0)),
    ("sin", (2.0, 1.5, 0.6)),
    ("sin", (0.5, -6.0, math.pi / 2)),
    ("cos", (1.0, 1.0, 0.0)),
    ("cos", (0.5, 3.0, 0.4)),
    ("rbf", (0.7,)),
    ("gaussian", (1.0, -1.0)),
    ("gaussian", (-0.5, -0.03)),
    ("exp", (1.0, 1.0)),
    ("exp", (0.5, -0.3)),
    ("gelu", ()),
]
IDS = [f"{name}{p}" for name, p in CASES]
KINKED = {"identity", "relu", "leaky_relu", "abrelu", "abs", "step", "sign"}
WAVES = {"sin", "cos", "erf"}
ODD = [
    ("identity", ()),
    ("leaky_relu", (1.0,)),
    ("sign", ()),
    ("erf", (1.0, 1.0, 0.0)),
    ("sin", (1.0, 1.0, 0.0)),
]
DEVIATIONS = [0.0, 1e-9, 0.1, 1.0, 1.5, 30.0, 1e3]
DISTANCES = [1e-30, 1e-12, 1e-6, 0.1, 1.0]


@functools.cache
def compiled(name):
    """The dual in a loop, compiled as the package's own loops are."""
    flags = {"error_model": "numpy", "fastmath": {"contract", "nsz"}}
    scalar = numba.njit(getattr(_duals, f"{name}_dual"), forceinline=True, **flags)

    def loop(s, t, a, b, delta, eta, p, gap, total, slope):
        for i in range(s.size):
            gap[i], total[i], slope[i] = scalar(s[i], t[i], a[i], b[i], delta[i], eta[i], p)

    return numba.njit(loop, **flags)


def moments(name, p, q):
    return getattr(_duals, f"{name}_moments")(np.asarray(q, dtype=float), p or (0.0,))


def evaluate(name, p, s, t, small, far):
    """(gap, total, slope), each (n,); ``small`` is 1 − ρ, or where ``far`` 1 + ρ."""
    s, t, small = (np.array(v, dtype=float) for v in np.broadcast_arrays(s, t, small))
    a, b = np.sqrt(moments(name, p, s * s)[0]), np.sqrt(moments(name, p, t * t)[0])
    delta, eta = np.where(far, 2 - small, small), np.where(far, small, 2 - small)
    out = np.empty((3, s.size))
    compiled(name)(s, t, a, b, delta, eta, p or (0.0,), *out)
    return out


def check(name, p, s, t, small, far):
    """Hold every point to the accuracy that the module promises."""
    got = evaluate(name, p, s, t, small, far).T
    for (gap, total, slope), *point in zip(got, s, t, small, far):
        at = f"{name}{p} at s, t, small, far = {point}"
        delta = oracle.antipode(point[2]) if point[3] else point[2]
        ab, want_gap, want_total, want_slope, slopes, apart = oracle.reference(name, p, *point[:2], delta)
        growth = 1 + p[1] ** 2 * (point[0] ** 2 + point[1] ** 2) if name == "exp" else 1
        gap_error, total_error = abs(gap - want_gap), abs(total - want_total)
        noise = 1e-90 * ab  # what the reference's own subtractions leave
        assert gap >= 0, at
        assert gap_error <= 2e-15 * growth * ab, at
        assert total_error <= 2e-15 * growth * ab, at
        assert abs(slope - want_slope) <= 2e-15 * growth * slopes + 1e-300, at
        if name in KINKED:
            assert gap_error <= 1e-15 * want_gap + noise, at
            assert total_error <= 1e-15 * want_total + noise, at
        if name in {"gaussian", "rbf", "exp"}:
            assert gap_error <= 2e-15 * growth * want_gap + noise, at
        if name in WAVES and (name != "erf" or p[2] == 0 or not point[3]):
            assert gap_error**2 <= (2e-15) ** 2 * ab * (apart + noise), at
            if point[0] == point[1]:
                assert gap_error <= 2e-15 * want_gap + noise, at
        if name == "gelu" and point[0] == point[1]:
            assert gap_error**2 <= (2e-15) ** 2 * ab * (want_gap + noise), at


def within_range(name, p, s):
    """Standard deviations at which E[φ²] is a float64."""
    return np.minimum(s, 18 / abs(p[1])) if name == "exp" else s


# --- the oracle ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "p"), CASES, ids=IDS)
def test_the_oracle_is_the_expectation(name, p):
    phi, dphi, _ = DEFINITIONS[name]
    for s, t, rho in ((1.0, 1.0, 0.3), (0.6, 1.4, -0.8), (1.1, 0.2, 0.95)):
        delta = 1 - np.float64(rho)
        ab, gap, _, slope, _, _ = oracle.reference(name, p, s, t, delta)
        np.testing.assert_allclose(
            oracle.quadrature(lambda z: phi(z, *p), s, t, rho), float(ab - gap), rtol=1e-10, atol=1e-12
        )
        np.testing.assert_allclose(
            oracle.quadrature(lambda z: dphi(z, *p), s, t, rho), float(slope), rtol=1e-10, atol=1e-12
        )


# --- values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "p"), CASES, ids=IDS)
def test_grid(name, p):
    """Every pair of magnitudes, from coincidence through independence to the antipode."""
    pairs = [(s, t) for i, s in enumerate(DEVIATIONS) for t in DEVIATIONS[i:]]
    points = [(*pair, small, far) for pair in pairs for small in DISTANCES for far in (False, True)]
    s, t, small, far = (np.array(v) for v in zip(*points))
    swap = np.arange(s.size) % 2 == 1
    s, t = within_range(name, p, np.where(swap, t, s)), within_range(name, p, np.where(swap, s, t))
    check(name, p, s, t, small, far)


@pytest.mark.parametrize(("name", "p"), CASES, ids=IDS)
def test_nearly_equal_deviations(name, p):
    """Points apart by length alone, or by length and angle alike: where a − b rounds, gap must not turn negative."""
    rng = np.random.default_rng(8)
    apart = np.repeat(10.0 ** np.arange(-15, -1), 4)
    s = rng.uniform(0.3, 3, apart.size)
    small = np.where(np.arange(apart.size) % 4 < 2, 1e-30, apart**2)
    check(name, p, s, s * (1 + apart), small, np.arange(apart.size) % 4 == 3)


@given(
    case=st.sampled_from(CASES),
    log_s=st.floats(-7, 7),
    ratio=st.one_of(st.just(0.0), st.floats(-9, 0).map(lambda x: 10**x), st.floats(-7, 7)),
    log_small=st.floats(-30, 0),
    far=st.booleans(),
)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_anywhere(case, log_s, ratio, log_small, far):
    name, p = case
    s = within_range(name, p, np.array([math.exp(log_s)]))
    t = within_range(name, p, s * math.exp(ratio))
    check(name, p, s, t, np.array([10**log_small]), np.array([far]))


@pytest.mark.parametrize(("name", "p"), ODD, ids=[f"{name}{p}" for name, p in ODD])
def test_odd_activations_see_antipodes_as_coincidences(name, p):
    """total at (δ, η) is gap at (η, δ) where φ(−z) = −φ(z)."""
    rng = np.random.default_rng(5)
    s, t = np.exp(rng.uniform(-3, 3, 200)), np.exp(rng.uniform(-3, 3, 200))
    t[::2] = s[::2]
    small = 10.0 ** rng.uniform(-30, 0, 200)
    gap, total, _ = evaluate(name, p, s, t, small, np.zeros(200, bool))
    far_gap, far_total, _ = evaluate(name, p, s, t, small, np.ones(200, bool))
    a, b = (np.sqrt(moments(name, p, v * v)[0]) for v in (s, t))
    assert np.all(np.abs(far_total - gap) <= 1e-15 * (gap + np.sqrt(a * b) * np.abs(a - b)))
    np.testing.assert_allclose(far_gap, total, rtol=1e-15)


@pytest.mark.parametrize(("name", "p"), CASES, ids=IDS)
def test_coincident_points_have_no_gap(name, p):
    s = within_range(name, p, np.array([0.0, 1e-9, 0.3, 1.0, 40.0, 1e3]))
    gap, total, slope = evaluate(name, p, s, s, 0.0, np.zeros(6, bool))
    second, slope_square = moments(name, p, s * s)
    np.testing.assert_array_equal(gap, 0)
    np.testing.assert_allclose(total, 2 * second, rtol=2e-15)
    np.testing.assert_allclose(slope[1:], slope_square[1:], rtol=1e-14)


@pytest.mark.parametrize(("name", "p"), CASES, ids=IDS)
def test_gap_falls_to_0_without_a_jump(name, p):
    """gap and slope are monotone where φ is far from even: no seam between formulas above their rounding."""
    small = np.geomspace(1e-30, 1.0, 2000)
    s, t = np.ones(2000), np.ones(2000)
    gap, _, _ = evaluate(name, p, s, t, small, np.zeros(2000, bool))
    assert np.all(np.diff(gap) >= -4e-16 * gap[1:])


@pytest.mark.parametrize(("name", "p"), CASES, ids=IDS)
def test_moments(name, p):
    q = within_range(name, p, np.array([0.0, 1e-18, 1e-6, 0.3, 1.0, 2.5, 900.0, 1e6]) ** 0.5) ** 2
    value, slope = moments(name, p, q)
    for i in range(q.size):
        want, want_slope = oracle.moments(name, p, q[i]) if q[i] or name not in {"step", "sign"} else (0, 0)
        growth = 1 + 2 * p[1] ** 2 * q[i] if name == "exp" else 1
        assert abs(value[i] - want) <= 1e-15 * growth * want, (q[i], value[i])
        assert abs(slope[i] - want_slope) <= 1e-15 * growth * want_slope, (q[i], slope[i])


def test_exp_overflows_to_infinity_and_not_to_nan():
    s = np.array([30.0, 30.0, 30.0, 1e3])
    small, far = np.array([0.0, 0.3, 0.0, 0.5]), np.array([False, False, True, False])
    gap, total, slope = evaluate("exp", (1.0, 1.0), s, s, small, far)
    np.testing.assert_array_equal(gap, [0, np.inf, np.inf, np.inf])
    np.testing.assert_array_equal(total, np.inf)
    np.testing.assert_array_equal(slope, [np.inf, np.inf, 1, np.inf])


@pytest.mark.parametrize(("name", "p"), CASES, ids=IDS)
def test_nan_is_not_hidden(name, p):
    out = np.empty((3, 1))
    one, nan = np.ones(1), np.full(1, np.nan)
    compiled(name)(nan, one, nan, one, one, one, p or (0.0,), *out)
    assert np.all(np.isnan(out[:2]))


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_plain_python_gives_the_same(name):
    p = next(q for n, q in CASES if n == name)
    s, t, small = 0.8, 1.3, 0.2
    for far in (False, True):
        delta, eta = (2 - small, small) if far else (small, 2 - small)
        a, b = (float(np.sqrt(moments(name, p, v * v)[0])) for v in (s, t))
        got = getattr(_duals, f"{name}_dual")(
            *map(np.float64, (s, t, a, b, delta, eta)), np.array(p or (0.0,))
        )
        np.testing.assert_allclose(got, evaluate(name, p, [s], [t], small, far)[:, 0], rtol=5e-15)


# --- machine code -------------------------------------------------------------------------------------------

LIBM = re.compile(r"\b(sin|cos|sincos|exp|expm1|log|erf|asin|acos|atan2?|pow|fmin|fmax)\b")


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_loops_become_packed_instructions(name):
    p = next(q for n, q in CASES if n == name)
    evaluate(name, p, [1.0], [1.0], 0.5, np.zeros(1, bool))
    loop = compiled(name)
    (signature,) = loop.signatures
    llvm = loop.inspect_llvm(signature)
    assert len(re.findall(r"= fmul [a-z ]*<\d+ x double>", llvm)) >= 3
    assert LIBM.findall(loop.inspect_asm(signature)) == []
