"""Activations with array parameters (polynomial, hermite) and monomials: values, lengths, coefficients, errors, tiles."""

import json
import math
import pickle
import re
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp

import ntkengine as nk
from ntkengine import _jit
from ntkengine.activations import activation, registry, series
from ntkengine.errors import InputError
from tests.oracles import activations as oracle

SERIES = ["polynomial", "hermite"]
LENGTHS = [1, 2, 3, 8, 15, 16, 17, 18, 19, 20, 21, 40]


def decaying(size, seed=0, power=1.5):
    return np.random.default_rng(seed).normal(size=size) / np.arange(1, size + 1) ** power


def exact_hermite(c, z):
    """Σ c_k h_k(z), its derivative, and Σ |c_k h_k(z)|, Σ |√k c_k h_{k−1}(z)|, in 50 digits."""
    with mp.workdps(50):
        z, before, here = mp.mpf(float(z)), mp.mpf(0), mp.mpf(1)
        sums = [mp.mpf(0)] * 4
        for k, a in enumerate(map(float, c)):
            terms = a * here, mp.sqrt(k) * a * before
            sums = [sums[0] + terms[0], sums[1] + terms[1], sums[2] + abs(terms[0]), sums[3] + abs(terms[1])]
            before, here = here, (z * here - mp.sqrt(k) * before) / mp.sqrt(k + 1)
        return sums


# --- values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", LENGTHS)
def test_every_length_against_the_plain_sum(size, dtype):
    """Short and long tiles, whatever is left over after steps of four."""
    c, z = decaying(size, seed=size), np.linspace(-1.9, 1.9, 301).astype(dtype)
    for name in SERIES:
        value, slope, _ = oracle.DEFINITIONS[name]
        got, got_slope = activation(name, coefficients=c).both(z)
        assert got.dtype == got_slope.dtype == dtype
        x, rounding = z.astype(np.float64), np.finfo(dtype).eps * (size + 4)
        basis = np.array([[value(x, *np.eye(size)[k]), slope(x, *np.eye(size)[k])] for k in range(size)])
        sums = np.einsum("k,kij->ij", np.abs(c), np.abs(basis))
        assert np.all(np.abs(got - value(x, *c)) <= rounding * (1 + sums[0]))
        assert np.all(np.abs(got_slope - slope(x, *c)) <= rounding * (1 + sums[1]))


@pytest.mark.parametrize("size", [16, 101, 400])
def test_hermite_sums_keep_twelve_digits(size):
    """Within 1e-12 of Σ|c_k h_k| on |z| <= 6, against 50-digit arithmetic."""
    c = decaying(size, power=0.5)
    phi = activation("hermite", coefficients=c)
    z = np.array([-6.0, -4.3, -1.0, 0.0, 0.01, 0.9, 2.5, 5.1, 6.0])
    for x, value, slope in zip(z, *phi.both(z)):
        want, want_slope, size_of, slope_size = exact_hermite(c, x)
        assert abs(value - want) < 1e-13 * size_of
        assert abs(slope - want_slope) < 1e-13 * slope_size + 1e-300


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", SERIES)
def test_a_value_does_not_depend_on_its_neighbours(name, dtype):
    phi = activation(name, coefficients=decaying(37))
    z = np.random.default_rng(5).normal(size=1000).astype(dtype)
    value, slope = phi.both(z)
    for first, count in [(0, 1), (3, 127), (11, 128), (400, 129), (0, 300), (999, 1), (5, 0)]:
        part, part_slope = phi.both(z[first : first + count])
        np.testing.assert_array_equal(part, value[first : first + count])
        np.testing.assert_array_equal(part_slope, slope[first : first + count])


@pytest.mark.parametrize("size", [1, 5, 40])
def test_nan_and_beyond_the_range(size):
    for name in SERIES:
        phi = activation(name, coefficients=np.ones(size))
        value, _ = phi.both(np.array([np.nan, 0.5, np.nan]))
        np.testing.assert_array_equal(np.isnan(value), [True, False, True])
        assert np.isfinite(phi(1e300)) == (size == 1)
    assert activation("polynomial", coefficients=[1.0, 2.0, 3.0])(-np.inf) == np.inf


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 7, 31, 32, 33, 63, 64])
def test_monomials(degree):
    phi = activation("monomial", degree=degree)
    z = np.array([-1.75, -1.0, -0.3, 0.0, 0.5, 1.0, 2.25])
    np.testing.assert_allclose(phi(z), z**degree, rtol=2e-15)
    want = degree * z ** (degree - 1) if degree else np.zeros(7)
    np.testing.assert_allclose(phi.derivative(z), want, rtol=2e-15)
    assert np.isnan(phi(np.nan))
    assert phi(z.astype(np.float32)).dtype == np.float32


# --- Hermite coefficients -------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", [0.01, 0.3, 1.0, 7.3])
def test_monomial_coefficients_are_gaussian_moments(variance):
    """E[(√q z)^n h_k] = q^{n/2} n!/((n−k)!! √k!) for even n − k (E[z^n He_k] by parts), to 30 digits."""
    for n in (0, 1, 5, 20, 64):
        got = activation("monomial", degree=n).hermite(70, variance)
        with mp.workdps(30):
            for k in range(71):
                want = mp.mpf(0)
                if k <= n and (n - k) % 2 == 0:
                    want = mp.mpf(variance) ** (mp.mpf(n) / 2) * mp.factorial(n)
                    want /= mp.fac2(n - k) * mp.sqrt(mp.factorial(k))
                assert got[k] == pytest.approx(float(want), rel=2e-14, abs=0)


@pytest.mark.parametrize("variance", [0.01, 0.3, 1.0, 1.001, 4.0])
@pytest.mark.parametrize("name", SERIES)
def test_coefficients_against_quadrature(name, variance):
    c = decaying(13, seed=3)
    phi = activation(name, coefficients=c)
    want = oracle.hermite_coefficients(name, tuple(c), variance, 20)
    size = math.sqrt(oracle.second_moment(name, tuple(c), variance))
    for degree in (0, 1, 7, 20):
        np.testing.assert_allclose(
            phi.hermite(degree, variance), want[: degree + 1], rtol=0, atol=1e-14 * size
        )


@pytest.mark.parametrize("variance", [1e-3, 0.1, 0.8, 1.2])
def test_many_hermite_coefficients_at_another_variance(variance):
    """Three of 901 sums against 60-digit arithmetic, where weights such as q^{k/2} underflow on their own."""
    c = decaying(901)
    got = activation("hermite", coefficients=c).hermite(900, variance)
    with mp.workdps(60):
        q = mp.mpf(variance)
        for j in (0, 3, 95):
            terms = [
                c[j + 2 * m] * mp.sqrt(q) ** j * (q - 1) ** m
                * mp.sqrt(mp.factorial(j + 2 * m) / mp.factorial(j)) / (2**m * mp.factorial(m))
                for m in range((900 - j) // 2 + 1)
            ]  # fmt: skip
            assert abs(got[j] - mp.fsum(terms)) < 1e-13 * mp.fsum(map(abs, terms))


def test_weights_that_underflow_at_first_still_count():
    """h_7000(√0.1 z): its coefficient of h_700 begins with 0.1^350, and is 0.05 in the end."""
    c = np.zeros(7001)
    c[7000] = 1.0
    got = activation("hermite", coefficients=c).hermite(700, 0.1)[700]
    with mp.workdps(50):
        q, m = mp.mpf(0.1), 3150
        want = (
            q**350
            * (q - 1) ** m
            * mp.sqrt(mp.factorial(7000) / mp.factorial(700))
            / mp.factorial(m)
            / mp.mpf(2) ** m
        )
        assert abs(got / want - 1) < 1e-11
        assert abs(want) > 0.01


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=30), st.floats(0.1, 3), st.floats(0.3, 2))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_scaling_twice_is_scaling_once(c, first, second):
    """φ(√q₁ √q₂ z): the coefficients at q₁ make an activation, whose coefficients at q₂ are those of φ at q₁q₂."""
    top = len(c) - 1
    phi = activation("hermite", coefficients=c)
    between = activation("hermite", coefficients=phi.hermite(top, first))
    want = phi.hermite(top, first * second)
    scale = 1 + float(np.abs(want).max()) + float(np.abs(between.values).max())
    np.testing.assert_allclose(between.hermite(top, second), want, rtol=0, atol=1e-9 * scale)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=24), st.floats(0.05, 6))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_the_expansion_is_the_polynomial(c, variance):
    """φ(√q z) = Σ a_k(q) h_k(z): values of one against values of the other."""
    z = np.linspace(-2, 2, 9)
    for name in SERIES:
        phi = activation(name, coefficients=c)
        a = phi.hermite(len(c) - 1, variance)
        scale = 1 + sum(abs(x) * np.abs(oracle._hermite_sum(z, *np.eye(len(c))[k])) for k, x in enumerate(a))
        assert np.all(np.abs(phi(math.sqrt(variance) * z) - oracle._hermite_sum(z, *a)) < 1e-9 * scale)


def test_finite_degree():
    def degree(phi):
        return phi.family.finite_degree(np.array(phi.values))

    assert degree(activation("identity")) == 1
    assert degree(activation("monomial", degree=5)) == 5
    assert degree(activation("polynomial", coefficients=[1.0, 2.0, 0.0, 0.0])) == 1
    assert degree(activation("hermite", coefficients=[0.0, 0.0, 0.0, 1e-300])) == 3
    assert degree(activation("hermite", coefficients=[0.0, 0.0])) == 0
    for name in ("relu", "sin", "gelu", "elu", "tanh"):
        assert registry.get(name).finite_degree is None


def test_no_more_coefficients_than_the_degree():
    for phi in (activation("monomial", degree=4), activation("polynomial", coefficients=[0, 1, 2, 3, 4]),
                activation("hermite", coefficients=[0, 1, 2, 3, 4])):  # fmt: skip
        a = phi.hermite(50, 2.5)
        assert a[4] != 0
        assert np.all(a[5:] == 0)


# --- parameters -----------------------------------------------------------------------------------------


def test_array_parameters():
    phi = nk.activation("polynomial", coefficients=[0, 1, 0.5])
    assert phi.values == (0.0, 1.0, 0.5)
    assert phi.parameters == {"coefficients": (0.0, 1.0, 0.5)}
    assert str(phi) == "polynomial(coefficients=[0, 1, 0.5])"
    assert json.dumps(phi.parameters) == '{"coefficients": [0.0, 1.0, 0.5]}'
    assert phi == nk.activation("polynomial", coefficients=np.array([0, 1, 0.5], dtype=np.float32))
    assert phi == nk.activation("polynomial", coefficients=(False, Fraction(1), 0.5))
    assert phi != nk.activation("hermite", coefficients=[0, 1, 0.5])
    assert hash(phi) == hash(nk.activation("polynomial", coefficients=[0, 1, 0.5]))
    assert phi.family is nk.activation("polynomial", coefficients=[5, 6, 7]).family
    assert phi.family is not nk.activation("polynomial", coefficients=[5, 6]).family


def test_long_arrays_are_shortened_in_print():
    text = str(activation("hermite", coefficients=np.arange(400.0)))
    assert text == "hermite(coefficients=[0, 1, 2, ..., 399: 400 entries])"


def test_monomial_parameters():
    phi = nk.activation("monomial", degree=3)
    assert phi.parameters == {"degree": 3}
    assert type(phi.parameters["degree"]) is int
    assert str(phi) == "monomial(degree=3)"
    assert phi == nk.activation("monomial", degree=np.int64(3)) == nk.activation("monomial", degree=3.0)


@pytest.mark.parametrize("size", [3, 50])
def test_pickles_and_other_values(size):
    phi = activation("hermite", coefficients=decaying(size))
    again = pickle.loads(pickle.dumps(phi))
    assert again == phi
    assert again.family is phi.family
    other = phi.with_values(2 * np.array(phi.values))
    np.testing.assert_allclose(other([0.3, -1.0]), 2 * phi([0.3, -1.0]), rtol=1e-14)
    assert pickle.loads(pickle.dumps(other)) == other
    assert pickle.loads(pickle.dumps(activation("monomial", degree=3))) == activation("monomial", degree=3)
    with pytest.raises(InputError, match=rf"values have shape \(2,\); 'hermite' has {size} parameters"):
        phi.with_values([1.0, 2.0])


def test_a_family_of_one_size_is_what_fits_see():
    family = activation("polynomial", coefficients=[1.0, 2.0, 3.0]).family
    assert [p.name for p in family.parameters] == ["c0", "c1", "c2"]
    assert family().values == (1.0, 0.5, 0.25)
    assert family(c1=2.0) == activation("polynomial", coefficients=[1.0, 2.0, 0.25])
    assert family(coefficients=[1.0, 2.0]).values == (1.0, 2.0)
    with pytest.raises(InputError, match=r"'c1' of activation 'polynomial' is nan"):
        family(c1=math.nan)


def test_a_fit_finds_a_polynomial():
    """The NNGP kernel c³ is that of h_3 up to its sign."""
    target = nk.FCN(activation("hermite", coefficients=[0.0, 0.0, 0.0, 1.0])).kernel("nngp")
    family = activation("hermite", coefficients=np.zeros(4)).family
    design = nk.fit_activation(target, family, kind="nngp", starts=1, angles=20, max_neuron_variance=np.inf)
    assert design.max_error < 1e-4
    assert abs(design.activation.values[3]) == pytest.approx(1.0, abs=1e-3)
    assert "coefficients" in design.report()


def test_fits_leave_the_variance_alone():
    target = nk.FCN(activation("hermite", coefficients=[0.0, 0.0, 0.0, 1.0]), w_std=2.0).kernel("nngp")
    family = activation("hermite", coefficients=np.zeros(5), variance=4.0).family
    found = nk.fit_activation(
        target, family, kind="nngp", w_std=2.0, starts=1, angles=20, max_neuron_variance=np.inf
    )
    assert found.activation.family.variance == 4.0
    assert found.max_error < 1e-3 * target(1.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_networks_run_long_sums(dtype):
    """A network of two hidden layers with 30 coefficients against NumPy."""
    c = decaying(30, power=2)
    nets = nk.FCN(activation("hermite", coefficients=c), depth=2).init(
        width=16, n_inputs=3, n_outputs=2, seed=0, members=1, dtype=dtype
    )
    x = np.random.default_rng(1).normal(size=(7, 3))
    got, h = nets.predict(x), x
    for w, _ in nets.parameters()[:-1]:
        h = oracle._hermite_sum(h @ np.asarray(w[0], dtype=np.float64) / math.sqrt(h.shape[1]), *c)
    w = np.asarray(nets.parameters()[-1][0][0], dtype=np.float64)
    want = h @ w / math.sqrt(h.shape[1])
    np.testing.assert_allclose(
        np.squeeze(got), want, rtol=0, atol={"float32": 2e-5, "float64": 1e-12}[dtype] * 10
    )


@pytest.mark.parametrize(
    ("coefficients", "message"),
    [
        ([], r"have 0 entries; 1 to 8192 are allowed"),
        (np.zeros(8193), r"have 8193 entries; 1 to 8192 are allowed"),
        (
            [1.0, math.nan, 2.0],
            r"coefficients\[1\] of activation 'NAME' is nan; every coefficient must be finite",
        ),
        ([1.0, 2.0, -math.inf], r"coefficients\[2\] of activation 'NAME' is -inf"),
        ([1, 10**400], r"coefficients\[1\] of activation 'NAME' is inf"),
        ([0.0, "a"], r"coefficients\[1\] of activation 'NAME' must be a number, not 'a'"),
        ([0.0, None], r"coefficients\[1\] of activation 'NAME' must be a number, not None"),
        ([0.0, 1j], r"coefficients\[0\] of activation 'NAME' must be a number|coefficients\[1\].*1j"),
        ([Decimal(1)], r"coefficients\[0\] of activation 'NAME' must be a number"),
        ([[0.0, 1.0]], r"have shape \(1, 2\); a vector"),
        ([[0.0], [1.0, 2.0]], r"must be a vector; the rows given differ in length"),
        (2.5, r"are 2.5; a vector"),
        ("1,2", r"are '1,2'; a vector"),
        (None, r"are None; a vector"),
    ],
)
@pytest.mark.parametrize("name", SERIES)
def test_bad_coefficients(name, coefficients, message):
    with pytest.raises(InputError, match=message.replace("NAME", name)):
        activation(name, coefficients=coefficients)


def test_other_bad_input():
    with pytest.raises(InputError, match=r"activation 'hermite' needs coefficients, a vector"):
        activation("hermite")
    with pytest.raises(
        InputError, match=r"'polynomial' has no parameter 'degree'; its parameters: coefficients"
    ):
        activation("polynomial", degree=3)
    with pytest.raises(
        InputError, match=r"activation 'monomial' needs a value of 'degree': an integer from 0 to 64"
    ):
        activation("monomial")
    for degree in (-1, 65, 2.5, math.nan, 10**30):
        with pytest.raises(
            InputError, match=rf"'degree' of activation 'monomial' is {degree}; allowed: integers, from 0"
        ):
            activation("monomial", degree=degree)
    with pytest.raises(InputError, match="is beyond the largest float; allowed: integers, from 0 to 64"):
        activation("monomial", degree=10**400)
    for degree in ("three", "3", True):
        with pytest.raises(InputError, match=f"must be a number, not {degree!r}"):
            activation("monomial", degree=degree)


# --- machine code ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [12, series.UNROLLED, None])
@pytest.mark.parametrize("name", SERIES)
def test_tiles_are_packed_instructions(name, size, dtype, monkeypatch):
    """The longest sum that is unrolled and a shorter one, and the tile of all longer ones."""
    monkeypatch.setattr(_jit, "cache_directory", lambda: None)  # machine code from a cache has no LLVM text
    real = np.dtype(dtype)
    if size is None:
        library = series._long_tile.__wrapped__(real)._library
    else:
        count = size + (name == "hermite")  # 1/√v
        library = _jit.compile_tile(registry.get(name).pair, count, real, None)._library
    kind = {"float32": "float", "float64": "double"}[dtype]
    packed = re.findall(rf"fmul[a-z ]* <\d+ x {kind}>", library.get_llvm_str())
    assert len(packed) >= (size or 12)  # twelve products in four steps
    assert re.search(r"\bvsqrts[sd]\b", library.get_asm_str()) is None  # no scalar roots left


CHILD = """
import ntkengine as nk
for size in (5, 30, 31):
    phi = nk.activation("hermite", coefficients=[1.0] * size)
    print(float(phi(0.3)), phi.tile("float64").cache_hits)
"""


def test_another_process_loads_the_tiles(tmp_path, monkeypatch):
    monkeypatch.setenv("NTKENGINE_CACHE_DIR", str(tmp_path))
    first, second = (
        subprocess.run(
            [sys.executable, "-c", CHILD], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    )
    assert first[::2] == second[::2]
    assert first[1::2] == ["0", "0", "0"]  # 31 entries use the tile that 30 compiled
    assert second[1::2] == ["1", "1", "1"]
