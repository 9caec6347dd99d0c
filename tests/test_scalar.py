"""Scalar maths: the stated error bounds against mpmath, edge values, types, and packed machine code."""

import functools
import math
import re

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from scipy import special

from ntkengine import _scalar

FLAGS = {"strict": frozenset(), "fast": frozenset({"contract", "nsz"})}
DTYPES = [np.float32, np.float64]


def relative(x, want):
    return np.abs(want)


def absolute(x, want):
    return np.ones_like(want)


def tail(x, want):
    return np.abs(want) * (1 + x * x)


# name: (function, index in its result or None, reference to 30 digits, reference in float64,
#        bounds (float32, float64), ranges (float32, float64), scale of the error)
CASES = {
    "exp": (_scalar.exp, None, mp.exp, np.exp, (1e-7, 2e-16), ((-87, 88.7), (-708, 709.7)), relative),
    "expm1": (
        _scalar.expm1,
        None,
        mp.expm1,
        np.expm1,
        (1.5e-7, 3e-16),
        ((-90, 88.7), (-720, 709.7)),
        relative,
    ),
    "tanh": (_scalar.tanh, None, mp.tanh, np.tanh, (2e-7, 4e-16), ((-12, 12), (-25, 25)), relative),
    "sigmoid": (
        *(_scalar.sigmoid, 0, lambda v: 1 / (1 + mp.exp(-v)), special.expit),
        *((4e-7, 8e-16), ((-87, 30), (-707, 50)), relative),
    ),
    "sigmoid'": (
        *(_scalar.sigmoid, 1, lambda v: 1 / (2 + 2 * mp.cosh(v)), lambda v: 1 / (2 + 2 * np.cosh(v))),
        *((4e-7, 8e-16), ((-87, 87), (-707, 707)), relative),
    ),
    "softplus": (
        *(_scalar.softplus, None, lambda v: mp.log1p(mp.exp(v)), lambda v: np.logaddexp(v, 0)),
        *((2.5e-7, 5e-16), ((-87, 30), (-707, 50)), relative),
    ),
    "sin": (_scalar.sin, None, mp.sin, np.sin, (1.2e-7, 2.5e-16), ((-1e4, 1e4),) * 2, absolute),
    "cos": (_scalar.cos, None, mp.cos, np.cos, (1.2e-7, 2.5e-16), ((-1e4, 1e4),) * 2, absolute),
    "log": (
        *(_scalar.log, None, mp.log, np.log, (1e-7, 2e-16)),
        *(((1.2e-38, 3.4e38), (2.3e-308, 1.7e308)), relative),
    ),
    "log1p": (
        *(_scalar.log1p, None, mp.log1p, np.log1p, (1.5e-7, 2.5e-16)),
        *(((-0.9999999, 3e38), (-0.999999999999999, 1e308)), relative),
    ),
    "asin": (_scalar.asin, None, mp.asin, np.arcsin, (1.7e-7, 3e-16), ((-1, 1),) * 2, relative),
    "erf": (_scalar.erf, None, mp.erf, special.erf, (2.5e-7, 4e-16), ((-5, 5), (-7, 7)), relative),
    "normal cdf": (_scalar.normal, 0, mp.ncdf, special.ndtr, (5e-7, 1e-15), ((-1, 7), (-1, 9)), relative),
    "normal cdf tail": (
        *(_scalar.normal, 0, mp.ncdf, special.ndtr),
        *((1.5e-7, 3e-16), ((-12.9, -1), (-37, -1)), tail),
    ),
    "normal density": (
        *(_scalar.normal, 1, mp.npdf, lambda v: np.exp(-v * v / 2) / np.sqrt(2 * np.pi)),
        *((1.5e-7, 3e-16), ((-13, 13), (-37, 37)), tail),
    ),
}


@functools.cache
def compiled(name, flags="fast"):
    """A loop over one scalar function, compiled without any cache."""
    function, index = CASES[name][:2]
    if index is None:

        def loop(x, out):
            for i in range(x.size):
                out[i] = function(x[i])
    else:

        def loop(x, out):
            for i in range(x.size):
                out[i] = function(x[i])[index]

    return numba.njit(loop, fastmath=set(FLAGS[flags]), error_model="numpy")


def evaluate(name, x, flags="fast"):
    out = np.empty_like(x)
    compiled(name, flags)(x, out)
    return out


def plain(name, x):
    function, index = CASES[name][:2]
    with np.errstate(all="ignore"):
        values = [function(v) for v in x]
    return np.array(values if index is None else [v[index] for v in values])


def reference(function, x):
    """The function at the given machine numbers, as long doubles good to about 1e-18 on x86."""
    out = np.empty(x.size, dtype=np.longdouble)
    with mp.workdps(30):
        for i, v in enumerate(x):
            y = function(mp.mpf(float(v)))
            head = float(y)
            out[i] = np.longdouble(head) + np.longdouble(float(y - head))
    return out


def grid(low, high, dtype, n):
    """Even over the range, dense within ±3, and approaching 0."""
    rng = np.random.default_rng(20)
    near = rng.uniform(max(low, -3), min(high, 3), n // 2)
    towards_0 = rng.choice([-1, 1], n // 4) * 10.0 ** rng.uniform(-30, 0, n // 4)
    x = np.concatenate([np.linspace(low, high, n), near, towards_0]).astype(dtype)
    return x[(x >= low) & (x <= high)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_stated_error_bound(name, dtype):
    _, _, exact, in_double, bounds, ranges, scale = CASES[name]
    which = DTYPES.index(dtype)
    x = grid(*ranges[which], dtype, (40_000, 600)[which])
    want = in_double(x.astype(np.float64)) if dtype is np.float32 else reference(exact, x)
    allowed = bounds[which] * scale(x.astype(np.float64), want)
    for flags in FLAGS:
        error = np.abs(evaluate(name, x, flags) - want)
        worst = np.argmax(error / (allowed + 1e-300))
        assert error[worst] <= allowed[worst], (flags, x[worst], float(error[worst]), float(allowed[worst]))
    few = slice(None, None, x.size // 50)
    assert np.all(np.abs(plain(name, x[few]) - want[few]) <= allowed[few])


@pytest.mark.parametrize("dtype", DTYPES)
def test_near_multiples_of_a_quarter_turn(dtype):
    """Where range reduction cancels most, at the numbers nearest to nπ/2: a small relative error."""
    n = np.unique(np.concatenate([np.arange(1, 200), np.random.default_rng(1).integers(200, 6366, 200)]))
    x = (n * (np.pi / 2)).astype(dtype)
    for name, exact in (("sin", mp.sin), ("cos", mp.cos)):
        want = reference(exact, x)
        assert np.max(np.abs(evaluate(name, x) / want - 1)) < (1.2e-7 if dtype is np.float32 else 2.5e-16)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sincos_loses_accuracy_gracefully(dtype):
    limit = 1e6 if dtype is np.float32 else 1e14
    x = np.geomspace(1e4, limit, 200).astype(dtype)
    for name, exact in (("sin", mp.sin), ("cos", mp.cos)):
        error = np.abs(evaluate(name, x, "strict") - reference(exact, x))
        assert np.all(error <= 1.2e-7 * (dtype is np.float32) + 4e-16 + 4 * np.spacing(x))
        beyond = np.concatenate([np.geomspace(limit, 1e38, 500), -np.geomspace(limit, 1e38, 500)]).astype(
            dtype
        )
        assert np.all(np.abs(evaluate(name, beyond)) <= 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_logarithms_over_all_magnitudes_and_near_1(dtype):
    rng, info = np.random.default_rng(3), np.finfo(dtype)
    towards_0 = 10.0 ** rng.uniform(math.log10(info.eps) - 3, -0.5, 400) * rng.choice([-1, 1], 400)
    for name, exact, bound in (("log", mp.log, (1e-7, 2e-16)), ("log1p", mp.log1p, (1.5e-7, 2.5e-16))):
        everywhere = 10.0 ** rng.uniform(math.log10(info.smallest_subnormal), math.log10(info.max), 600)
        x = np.concatenate([everywhere, (name == "log") + towards_0]).astype(dtype)
        x = x[(x > 0) & (x != 1)] if name == "log" else x
        error = np.abs(evaluate(name, x) / reference(exact, x) - 1)
        normal = np.abs(x) >= info.tiny if name == "log1p" else np.ones(x.size, bool)
        assert np.max(error[normal]) <= bound[DTYPES.index(dtype)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_arcsine_tail(dtype):
    """asin x = x + x³ P(x²), on the whole of the range on which P is promised."""
    w = np.linspace(0.001, 0.5, 300).astype(dtype)
    got = np.array([_scalar.asin_tail(v) for v in w])
    want = reference(lambda v: (mp.asin(mp.sqrt(v)) / mp.sqrt(v) - 1) / v, w)
    np.testing.assert_allclose(got, want.astype(float), rtol=3e-7 if dtype is np.float32 else 6e-16)
    assert all(type(v) is dtype for v in (_scalar.asin_tail(w[0]), got[0]))


def _edges(dtype):
    info = np.finfo(dtype)
    return info.smallest_subnormal, info.max


INF, NAN = math.inf, math.nan
# values at: 0, -0, +subnormal, -subnormal, +inf, -inf, nan, +huge, -huge;
# "x": the argument itself; a function: its value there
EDGES = {
    "exp": (1, 1, 1, 1, INF, 0, NAN, INF, 0),
    "expm1": (0, 0, 0, 0, INF, -1, NAN, INF, -1),
    "tanh": (0, 0, "x", "x", 1, -1, NAN, 1, -1),
    "sigmoid": (0.5, 0.5, 0.5, 0.5, 1, 0, NAN, 1, 0),
    "sigmoid'": (0.25, 0.25, 0.25, 0.25, 0, 0, NAN, 0, 0),
    "softplus": (math.log(2),) * 4 + (INF, 0, NAN, "x", 0),
    "sin": (0, 0, "x", "x", NAN, NAN, NAN, None, None),
    "cos": (1, 1, 1, 1, NAN, NAN, NAN, None, None),
    "log": (-INF, -INF, math.log, NAN, INF, NAN, NAN, math.log, NAN),
    "log1p": (0, 0, "x", "x", INF, NAN, NAN, math.log, NAN),
    "asin": (0, 0, "x", "x", NAN, NAN, NAN, NAN, NAN),
    "erf": (0, 0, "x", "x", 1, -1, NAN, 1, -1),
    "normal cdf": (0.5, 0.5, 0.5, 0.5, 1, 0, NAN, 1, 0),
    "normal density": (1 / math.sqrt(2 * math.pi),) * 4 + (0, 0, NAN, 0, 0),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EDGES)
def test_edge_values(name, dtype):
    tiny, huge = _edges(dtype)
    x = np.array([0, -0.0, tiny, -tiny, np.inf, -np.inf, np.nan, huge, -huge], dtype=dtype)
    want = [x[i] if w == "x" else w(x[i]) if callable(w) else w for i, w in enumerate(EDGES[name])]
    for got in (evaluate(name, x), evaluate(name, x, "strict"), plain(name, x)):
        for value, expected, at in zip(got, want, x):
            if expected is None:
                assert abs(value) <= 1
            else:
                # one unit in the last place of a subnormal argument, 4 of a normal result
                np.testing.assert_allclose(
                    value, expected, rtol=4 * np.finfo(dtype).eps, atol=tiny, err_msg=f"{at}"
                )


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_overflows_and_underflows_where_it_should(dtype):
    info = np.finfo(dtype)
    top = dtype(math.log(float(info.max)))
    x = np.array(
        [top * dtype(0.999999), np.nextafter(top, dtype(np.inf)) * dtype(1 + 4 * info.eps)], dtype=dtype
    )
    below, above = evaluate("exp", x)
    assert np.isfinite(below)
    assert above == np.inf
    # through the subnormals, to within their spacing, and then 0
    bottom = math.log(float(info.tiny)), math.log(float(info.smallest_subnormal)) - 2
    x = np.linspace(bottom[0], bottom[1], 200).astype(dtype)
    got = evaluate("exp", x)
    error = np.abs(got.astype(np.longdouble) - reference(mp.exp, x))
    assert np.all(error <= 1.01 * info.smallest_subnormal + 2e-7 * (dtype is np.float32) * info.tiny)
    assert got[-1] == 0
    assert np.count_nonzero((got > 0) & (got < info.tiny)) > 50


@pytest.mark.parametrize("dtype", DTYPES)
def test_domain_ends(dtype):
    one = dtype(1)
    beyond = np.nextafter(one, dtype(2))
    np.testing.assert_array_equal(
        evaluate("log1p", np.array([-one, -beyond], dtype=dtype)), np.array([-np.inf, np.nan])
    )
    got = evaluate("asin", np.array([one, -one, beyond, -beyond], dtype=dtype))
    np.testing.assert_array_equal(got, np.array([np.pi / 2, -np.pi / 2, np.nan, np.nan], dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_types_are_preserved(dtype):
    x = dtype(0.7)
    for name, (function, index, *_) in CASES.items():
        value = function(x)
        assert all(type(v) is dtype for v in (value if index is not None else (value,))), name
    assert all(type(v) is dtype for v in _scalar.sincos(x))


@pytest.mark.parametrize("dtype", DTYPES)
@given(values=st.lists(st.floats(-9e3, 9e3, width=32), min_size=1, max_size=30))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_symmetries(dtype, values):
    x = np.array(values, dtype=dtype)
    eps = np.finfo(dtype).eps
    for name, sign in (
        ("sin", -1),
        ("tanh", -1),
        ("erf", -1),
        ("cos", 1),
        ("normal density", 1),
        ("sigmoid'", 1),
    ):
        np.testing.assert_array_equal(evaluate(name, -x), sign * evaluate(name, x))
    unit = (x / dtype(9e3)).astype(dtype)
    np.testing.assert_array_equal(evaluate("asin", -unit), -evaluate("asin", unit))
    np.testing.assert_allclose(evaluate("sin", x) ** 2 + evaluate("cos", x) ** 2, 1, rtol=4 * eps)
    for name in ("sigmoid", "normal cdf"):
        np.testing.assert_allclose(evaluate(name, -x) + evaluate(name, x), 1, rtol=4 * eps)
    near = np.clip(x, -80, 80)
    np.testing.assert_allclose(
        evaluate("softplus", near) - evaluate("softplus", -near), near, rtol=8 * eps, atol=4 * eps
    )


# --- machine code -------------------------------------------------------------------------------------------

LIBM = re.compile(
    r"\b(sin|cos|tan|sincos|exp|exp2|expm1|log|log1p|tanh|erf|erfc|pow|ldexp|rint|round|floor)f?\b"
)


def _code(dispatcher, dtype):
    vector = numba.from_dtype(np.dtype(dtype))[::1]
    dispatcher.compile((vector, vector))
    signature = dispatcher.signatures[[s[0].dtype for s in dispatcher.signatures].index(vector.dtype)]
    return dispatcher.inspect_llvm(signature), dispatcher.inspect_asm(signature)


def packed_products(llvm, dtype):
    """Number of multiplications on packed values of this type in optimised LLVM code."""
    kind = "float" if dtype is np.float32 else "double"
    return len(re.findall(rf"= fmul [a-z ]*<\d+ x {kind}>", llvm))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_loops_become_packed_instructions(name, dtype):
    llvm, assembly = _code(compiled(name), dtype)
    assert packed_products(llvm, dtype) >= 5
    assert LIBM.findall(assembly) == []
    if dtype is np.float32:
        assert " double" not in "".join(line for line in llvm.splitlines() if "= f" in line)


@pytest.mark.skipif(numba.config.USING_SVML, reason="with SVML numba vectorises its own sine")
def test_the_test_sees_a_library_call():
    @numba.njit(error_model="numpy")
    def loop(x, out):
        for i in range(x.size):
            out[i] = math.sin(x[i])

    llvm, assembly = _code(loop, np.float64)
    assert packed_products(llvm, np.float64) == 0
    assert LIBM.findall(assembly) != []
