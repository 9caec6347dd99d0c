"""Power series of kernels against mpmath, and their refusal where they do not represent the kernel."""

import contextlib
import copy
import os
import pickle

import numpy as np
import pytest
from mpmath import mp

import ntkengine as nk
from ntkengine.errors import InputError, NoSeriesError
from ntkengine.kernels import KernelFamily, PowerSeries
from ntkengine.kernels.algebra import Constant
from ntkengine.kernels.base import DotProductKernel
from ntkengine.kernels.taylor import balls, cauchy, continued
from tests.oracles import series as oracle

DEGREE = 60

FORMULAS = [
    "c**4 + c",
    "sinh(2*c)",
    "exp(c)*cosh(0.3*c)",
    "exp(-sqrt(1 - c))",
    "sqrt(1.1 - c)",
    "(1 - c)**1.5 + 3*c",
    "log(c + 1.5)",
    "(2 - c)**(-0.7)",
    "sigmoid(c) + softplus(0.5*c)",
    "gelu(c + 0.2)",
    "erf(c)*tan(0.4*c)",
    "tanh(c) - 0.3*sin(3*c)",
    "2**c/(1.5 + c**2)",
    "cos(3.3*c)**3",
]


def families():
    mpf = mp.mpf
    f = oracle.formula
    return {
        ("linear", ("offset", 0.3)): f("c + o", o=0.3),
        ("polynomial", ("degree", 5), ("offset", 0.7)): f("(c + o)**5", o=0.7),
        ("polynomial", ("degree", 0)): lambda c: mpf(1) + 0 * c,
        ("monomial", ("degree", 7)): f("c**7"),
        ("exponential", ("rate", 2.5)): f("exp(a*c)", a=2.5),
        ("gaussian", ("gamma", 3.0)): f("exp(-2*g*(1 - c))", g=3.0),
        ("laplace", ("length", 0.3)): f("exp(-sqrt(2*(1 - c))/l)", l=0.3),
        ("matern", ("nu", 0.5), ("length", 0.7)): f("exp(-sqrt(2*(1 - c))/l)", l=0.7),
        ("matern", ("nu", 1.5), ("length", 0.7)): f("(1 + sqrt(6*(1 - c))/l)*exp(-sqrt(6*(1 - c))/l)", l=0.7),
        ("matern", ("nu", 2.5), ("length", 2.0)): f(
            "(1 + sqrt(10*(1 - c))/l + (10*(1 - c)/3)/l**2)*exp(-sqrt(10*(1 - c))/l)", l=2.0
        ),
        ("rational_quadratic", ("alpha", 0.6), ("length", 0.4)): lambda c: (
            (1 + (1 - c) / (mpf(0.6) * mpf(0.4) ** 2)) ** (-mpf(0.6))
        ),
        ("geometric", ("rate", 0.9)): f("1/(1 - r*c)", r=0.9),
        ("sinh", ("rate", 1.7)): f("sinh(r*c)", r=1.7),
        ("cosh", ("rate", 1.7)): f("cosh(r*c)", r=1.7),
        ("periodic", ("frequency", 1), ("length", 0.8)): oracle.periodic(1, 0.8),
        ("periodic", ("frequency", 3), ("length", 1.5)): oracle.periodic(3, 1.5),
        ("arc_cosine", ("order", 0)): oracle.arc_cosine(0, 1),
        ("arc_cosine", ("order", 1)): oracle.arc_cosine(1, 1),
        ("arc_cosine", ("order", 2)): oracle.arc_cosine(2, 1),
        ("arc_cosine", ("order", 0), ("depth", 3)): oracle.arc_cosine(0, 3),
        ("arc_cosine", ("order", 1), ("depth", 4)): oracle.arc_cosine(1, 4),
        ("arc_cosine", ("order", 2), ("depth", 3)): oracle.arc_cosine(2, 3),
    }


FAMILIES = families()


def assert_series(series, want, at_one):
    """To 1e-13 relative; what is 0 in exact arithmetic is 0.0; errors hold; the tail is what is left of K(1)."""
    with mp.workdps(oracle.DIGITS):
        largest = max(map(abs, want))
        for k, (got, b) in enumerate(zip(series, want)):
            if abs(b) < mp.mpf(10) ** -95 * largest:  # the oracle's rounding
                assert got == 0.0, k
            else:
                assert abs(got - b) <= 1e-13 * abs(b), k
                assert abs(got - b) <= series.error[k], k
        tail = at_one - mp.fsum(want)
        assert abs(series.tail - tail) <= 1e-13 * abs(tail) + 1e-30 * largest


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_to_degree_60(text):
    function = oracle.formula(text)
    want = oracle.cauchy(function, DEGREE)
    assert_series(nk.kernel(text).taylor(DEGREE), want, oracle.value(function, 1))


@pytest.mark.parametrize("key", FAMILIES, ids=str)
def test_families_to_degree_60(key):
    name, *parameters = key
    function = FAMILIES[key]
    k = nk.kernel(name, **dict(parameters))
    series, want = k.taylor(DEGREE), oracle.cauchy(function, DEGREE)
    assert_series(series, want, oracle.value(function, 1))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("laplace", {"length": 0.5}),
        ("exponential", {"rate": 2.0}),
        ("geometric", {"rate": 0.5}),
        ("c**3", {}),
        ("1 + erf(c)", {}),
    ],
)
def test_other_input_layers(name, parameters):
    texts = {
        "laplace": "exp(-sqrt(2*(1 - c))/length)",
        "exponential": "exp(rate*c)",
        "geometric": "1/(1 - rate*c)",
    }
    function = oracle.formula(texts.get(name, name), **parameters)
    w_std, b_std = 1.3, 0.4
    want = oracle.cauchy(function, 40, w_std, b_std)
    series = nk.kernel(name, **parameters).taylor(40, w_std=w_std, b_std=b_std)
    assert_series(series, want, oracle.value(function, 1))


@pytest.mark.parametrize("degree", [1000, 10_000])
@pytest.mark.parametrize(
    ("name", "parameters", "coefficients"),
    [
        ("laplace", {"length": 0.8}, lambda n: oracle.laplace_coefficients(0.8, n)),
        ("arc_cosine", {"order": 0}, lambda n: oracle.arc_cosine_coefficients(0, n)),
        ("arc_cosine", {"order": 1}, lambda n: oracle.arc_cosine_coefficients(1, n)),
        ("arc_cosine", {"order": 2}, lambda n: oracle.arc_cosine_coefficients(2, n)),
    ],
)
def test_closed_forms_to_high_degree(name, parameters, coefficients, degree):
    k = nk.kernel(name, **parameters)
    assert_series(k.taylor(degree), coefficients(degree), mp.mpf(3 if parameters.get("order") == 2 else 1))


@pytest.mark.parametrize("text", ["sinh(2*c)", "exp(-sqrt(1 - c))", "gelu(c)", "sqrt(1 - c**2) + 1"])
@pytest.mark.parametrize("b_std", [0.0, 0.2])
def test_cauchy_agrees_with_the_exact_series(text, b_std):
    k = nk.kernel(text)
    if b_std and text.startswith("sqrt"):
        with pytest.raises(InputError, match="Laurent"):
            continued(k, 10, 1.0, b_std)
        return
    for degree in (3, 2000):
        exact, found = k.taylor(degree, b_std=b_std), continued(k, degree, 1.0, b_std)
        assert (np.abs(found - exact) <= found.error + exact.error).all()
        assert found.error.max() < 2e-14 * max(1.0, k(1.0))
        assert ((found == 0) | (np.abs(found) > found.error)).all()
        assert found.tail == pytest.approx(exact.tail, abs=degree * 2e-14)


def test_zeros_by_parity_are_zeros():
    for text in ("tanh(1.2*c)", "sin(2*c)*c**2", "erf(c)", "sinh(c) + tan(c/2)"):
        assert not nk.kernel(text).taylor(101)[::2].any()
    for text in ("cosh(3*c)", "cos(c)*c**2", "gelu(c) - 0.5*c", "softplus(c) - 0.5*c", "exp(c**2)"):
        assert not nk.kernel(text).taylor(101)[1::2].any()


def test_small_coefficients_keep_their_digits_down_to_1e_300():
    series = nk.kernel("exp(c)").taylor(200)
    want = [1 / mp.factorial(k) for k in range(201)]
    for k in range(167):
        assert abs(series[k] * mp.factorial(k) - 1) < 1e-14
    assert want[167] < 1e-300
    assert not series[167:].any()
    assert (series.error[167:] >= np.array(want[167:], dtype=float)).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1/(c**2 + 0.25)", r"\|c\| = 0\.5,"),
        ("1/(c**2 + 0.81)", r"\|c\| = 0\.9,"),
        ("tanh(2*c)", r"\|c\| = 0\.785,"),
        ("sqrt(c**2 + 0.1)", r"\|c\| = 0\.31"),
        ("abs(c)", "abs changes branch at c = 0"),
        ("max(c, 0.25) + c", "max changes branch at c = 0.25"),
        ("exp(c)*step(c - 0.1)", r"step changes branch at c = 0\.1"),
        ("sign(1 - c)", "sign changes branch at c = 1"),
        ("(c**2)**0.3", "not analytic at c = 0|abs changes"),
        ("cos(5000*c)", "oscillates too fast"),
        ("periodic", "oscillates too fast"),
        ("sqrt(c**4)", "begins with 0"),
        ("cos(c) + 1/(c**2 + 0.9409)", r"\|c\| = 0\.97"),
        ("exp(c) + 1e-8/(c**2 + 0.9409)", "not analytic"),
        ("1/(c**2 + 0.98)", r"\|c\| = 0\.99"),
        *((text, "not analytic at c = 0") for text in ("exp(-1/c**2)", "exp(-1/c**4)", "exp(-c**-2)", "tanh(1/c)",
                                                       "c**2*exp(-1/c**2)", "max(-1/c**2,-5)+5")),
    ],
)  # fmt: skip
def test_kernels_without_a_power_series_in_the_disk(text, words):
    k = nk.kernel(text, frequency=12) if text == "periodic" else nk.kernel(text)
    with pytest.raises(NoSeriesError, match=words):
        k.taylor(5)
    if text not in ("cos(5000*c)", "periodic", "sqrt(c**4)"):
        with pytest.raises(NoSeriesError, match="not analytic"):
            continued(k, 5)


@pytest.mark.parametrize(
    ("text", "negative"),
    [
        ("1/(c**2 + 0.25)", (2, -16.0)),
        ("cos(5000*c)", (2, -12.5e6)),
        ("exp(c) + 0.1/(c**2 + 0.81)", (6, 1 / 720 - 0.1 / 0.81**4)),
        ("abs(c)", None),
    ],
)
def test_a_refusal_names_a_negative_coefficient(text, negative):
    with pytest.raises(NoSeriesError) as caught:
        nk.kernel(text).taylor(5)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.negative == caught.value.negative
    if negative is None:
        assert again.negative is None
    else:
        assert again.negative == (negative[0], pytest.approx(negative[1], rel=1e-12))


@pytest.mark.parametrize("length", [0.01, 0.002])
def test_narrow_kernels(length):
    """Coefficients that grow for thousands of degrees, from far below 1e-300."""
    series, want = nk.kernel("laplace", length=length).taylor(1500), oracle.laplace_coefficients(length, 1500)
    assert float(want[1500]) > 1e-300
    for k in range(0, 1501, 50):
        assert series[k] == pytest.approx(float(want[k]), rel=1e-13, abs=1e-300)
    assert series.tail == pytest.approx(1 - float(mp.fsum(want)), rel=1e-13)
    gauss = nk.kernel("gaussian", gamma=2500.0).taylor(5000)
    with mp.workdps(40):
        assert gauss[5000] == pytest.approx(
            float(mp.exp(-5000) * mp.mpf(5000) ** 5000 / mp.factorial(5000)), rel=1e-13
        )
    assert gauss.tail == pytest.approx(0.5, abs=0.01)


def test_a_kernel_that_oscillates_to_300_digits():
    series = nk.kernel("cos(700*c)").taylor(800)
    for k in (0, 2, 100, 800):
        with mp.workdps(40):
            assert series[k] == pytest.approx(
                float((-1) ** (k // 2) * mp.mpf(700) ** k / mp.factorial(k)), rel=1e-13
            )
    assert not series[1::2].any()


def test_a_narrow_network_kernel():
    """Rounding of K is of the size of K(1), which no point of Cauchy's circle sees."""
    k = nk.FCN("sin", depth=4, w_std=5.0).kernel("nngp")
    series = k.taylor(50)
    assert series.error.max() < 1e-14
    assert (series >= 0).all()
    assert series.sum() + series.tail == pytest.approx(k(1.0), rel=1e-14)


def test_branches_that_do_not_change_are_continued():
    same = {
        "abs(c - 2)": "2 - c",
        "sqrt((1 - c)**2)": "1 - c",
        "min(c, 3)*step(c + 2) + sign(c - 4)": "c - 1",
        "max(c + 1, 0)**2": "(c + 1)**2",
    }
    for text, plain in same.items():
        np.testing.assert_allclose(nk.kernel(text).taylor(4), nk.kernel(plain).taylor(4), rtol=1e-15)
        np.testing.assert_allclose(continued(nk.kernel(text), 4), nk.kernel(plain).taylor(4), atol=1e-14)


def test_a_kernel_singular_inside_the_disk_of_another_input_layer():
    k = nk.kernel("arc_cosine")
    with pytest.raises(InputError, match=r"ρ.*b_std=0\.5"):
        k.taylor(10, b_std=0.5)
    with pytest.raises(InputError, match="not analytic at ρ = 0, in ρ for b_std=2"):
        k.taylor(10, b_std=2.0)
    assert k.taylor(10, b_std=0.0).shape == (11,)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"degree": -1}, "degree must be an integer ≥ 0, not -1"),
        ({"degree": 2.0}, "degree must be an integer"),
        ({"degree": True}, "degree must be an integer"),
        ({"degree": 100_001}, "to degree 100000"),
        ({"degree": 3, "w_std": 0.0}, "w_std is 0.0; it must be a finite standard deviation above 0"),
        ({"degree": 3, "b_std": -1.0}, "b_std is -1.0"),
        ({"degree": 3, "b_std": np.nan}, "b_std is nan"),
        ({"degree": 3, "w_std": "1"}, "w_std is '1'"),
        ({"degree": 3, "w_std": 1e-150, "b_std": 1.0}, "vanish beside"),
        ({"degree": 3, "b_std": 10**400}, "b_std is 1000"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(InputError, match=words):
        nk.kernel("c").taylor(**arguments)


def test_the_record():
    series = nk.kernel("exp(c)").taylor(3)
    assert type(series) is PowerSeries
    for derived in (series + 1, series[1:], np.cumsum(series), np.sqrt(series), np.concatenate([series, series]),
                    np.convolve(series, series), series.sum(), series.cumsum(), np.sort(series)):  # fmt: skip
        assert not isinstance(derived, PowerSeries)
    for derived in (series.reshape(2, 2), series.ravel(), series.flatten(), series.view(), series.astype(np.float32), series.T,
                    series.real, series.imag, series.take([0]), series.repeat(2), series.squeeze(), series.round(1), series[:],
                    series[series > 0], series[None], abs(series), -series, 2 * series, np.array(series), np.copy(series),
                    np.asarray(series), np.reshape(series, (2, 2)), series.transpose(), series.clip(0, 1)):  # fmt: skip
        assert type(derived) is np.ndarray
    for change in (lambda: series.__setitem__(0, 5.0), lambda: series.sort(), lambda: series.fill(0.0),
                   lambda: np.add(series, 1, out=series), lambda: np.asarray(series).__setitem__(0, 5.0),
                   lambda: series.error.__setitem__(0, 1.0), lambda: series.__iadd__(1.0), lambda: series.put(0, 1.0),
                   lambda: series.setflags(write=True)):  # fmt: skip
        with pytest.raises(ValueError, match=r"read-only|WRITEABLE|writeable"):
            change()
    changed = np.array(series)
    changed[0] = 5.0
    assert series[0] == 1.0
    assert type(series[2]) is np.float64
    for same in (pickle.loads(pickle.dumps(series)), copy.copy(series), copy.deepcopy(series), series.copy()):
        assert type(same) is PowerSeries
        np.testing.assert_array_equal(same, series)
        np.testing.assert_array_equal(same.error, series.error)
        assert same.tail == series.tail
    target = np.zeros(4)
    np.add(series, 1, out=target)
    assert target[0] == 2.0
    made = PowerSeries([1, 2], error=0.5, tail=0.25)
    np.testing.assert_array_equal(made.error, [0.5, 0.5])
    for name, value in (
        ("shape", (2, 2)),
        ("dtype", np.int64),
        ("strides", (0,)),
        ("error", 0.0),
        ("tail", 1.0),
        ("x", 1),
    ):
        with pytest.raises(AttributeError, match=f"read-only, and {name} cannot be set"):
            setattr(series, name, value)
    assert series.shape == (4,)
    assert series.dtype == np.float64


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([1, 2, 3], [1, 2]), r"error and tail are \[1, 2\] and .* one for each of the 3 coefficients"),
        (([1, 2, 3], "x"), "error and tail are 'x'"),
        (([1, 2, 3], -1.0), "the least error is -1"),
        (([1, 2, 3], [0, np.nan, 0]), "the least error is nan"),
        (([1, np.nan],), r"coefficients\[1\] is nan"),
        (([1, np.inf],), r"coefficients\[1\] is inf"),
        (([[1.0, 2.0]],), r"coefficients has shape \(1, 2\)"),
        ((1.0,), r"coefficients has shape \(\)"),
        (([],), r"coefficients has shape \(0,\)"),
        ((["x"],), "real numbers"),
        (([1.0], 0.0, np.nan), "tail is nan"),
        (([1.0], 0.0, [1, 2]), r"error and tail are 0\.0 and \[1, 2\]"),
    ],
)
def test_records_that_are_none(arguments, words):
    with pytest.raises(InputError, match=words):
        PowerSeries(*arguments)


def test_a_family_may_say_that_it_has_no_series():
    def taylor(degree):
        raise NoSeriesError("none", (3, -1.0))

    with pytest.raises(NoSeriesError, match="none") as caught:
        KernelFamily(
            "exponential", "exp(c)", function=lambda c, complement: np.exp(c), taylor=taylor
        )().taylor(5)
    assert caught.value.negative == (3, -1.0)


#: Arguments of the methods of arrays that need any.
METHOD_ARGUMENTS = {
    "argpartition": (1,), "astype": (int,), "choose": ([np.zeros(4)] * 2,), "clip": (0, 1), "compress": ([True] * 4,),
    "dot": (np.eye(4),), "dump": (os.devnull,), "fill": (1.0,), "getfield": (np.float64,), "item": (0,), "partition": (1,),
    "put": (0, 1.0), "repeat": (2,), "reshape": (2, 2), "resize": (8,), "searchsorted": (0.5,), "setfield": (1.0, np.float64),
    "swapaxes": (0, 0), "take": ([0],), "to_device": ("cpu",), "tofile": (os.devnull,),
}  # fmt: skip
#: Methods and attributes that this array cannot have: of one axis, read-only, no indices.
IMPOSSIBLE = {"choose", "diagonal", "fill", "mT", "partition", "put", "resize", "setfield", "sort", "trace"}


def test_whatever_arrays_have_gives_plain_arrays():
    series = nk.kernel("exp(c)").taylor(3)

    def derived(name, **options):
        found = getattr(series, name)
        return found(*METHOD_ARGUMENTS.get(name, ()), **options) if callable(found) else found

    for name in dir(np.ndarray):
        if name.startswith("_") or name == "copy":
            continue
        if name in IMPOSSIBLE:
            with pytest.raises((ValueError, TypeError)):
                derived(name)
            continue
        results = [derived(name)]
        with contextlib.suppress(TypeError):
            results.append(derived(name, keepdims=True))
        for found in results:
            for part in found if isinstance(found, tuple) else (found,):
                assert part is series or not isinstance(part, PowerSeries), name
    assert type(series.flat[:]) is type(series.flat[1:3]) is type(series.argmax(keepdims=True)) is np.ndarray
    assert series.to_device("cpu") is series


def test_flint_is_left_as_it_was():
    import flint

    before = flint.ctx.prec, flint.ctx.cap
    nk.kernel("exp(c)").taylor(30)
    with balls(333, 44):
        assert (flint.ctx.prec, flint.ctx.cap) == (333, 45)
    with pytest.raises(InputError):
        nk.kernel("1/(c**2 + 0.25)").taylor(3)
    assert (flint.ctx.prec, flint.ctx.cap) == before


class Bare(DotProductKernel):
    """A kernel from a function, without a continuation of its own."""

    def __init__(self, function, complex_function=None):
        self.function, self.complex_function = function, complex_function

    name = "bare"

    def _values(self, c, complement):
        return self.function(c)

    def _complex(self, c):
        return super()._complex(c) if self.complex_function is None else self.complex_function(c)


def test_continuations_that_are_none():
    with pytest.raises(InputError, match="'bare' has no analytic continuation"):
        Bare(np.exp).taylor(3)
    with pytest.raises(InputError, match="misses the value of its power series"):
        Bare(np.exp, np.cosh).taylor(3)
    with pytest.raises(InputError, match=r"misses|Laurent"):
        Bare(np.exp, lambda c: np.exp(np.abs(c)) + 0j).taylor(3)
    with pytest.raises(InputError, match="no finite value at"):
        Bare(np.exp, lambda c: c * np.nan).taylor(3)
    found = Bare(np.exp, np.exp).taylor(10)
    np.testing.assert_allclose(found, nk.kernel("exp(c)").taylor(10), atol=1e-14)


def test_algebra_of_kernels_without_exact_series():
    """Sums and products by their parts: an exact one and one by Cauchy's integral."""
    bare, laplace = Bare(np.exp, np.exp), nk.kernel("laplace")
    exact = nk.kernel("exp(c)")
    pairs = [
        (bare + laplace + 0.5, exact + laplace + 0.5),
        (bare * laplace, exact * laplace),
        (3.0 * bare, 3.0 * exact),
        (bare**5, exact**5),
        (bare**0, Constant(1.0)),
        (bare.normalized(), exact.normalized()),
        (laplace.compose(bare.normalized()), laplace.compose(exact.normalized())),
    ]
    for found, want in pairs:
        for b_std in (0.0, 0.1):
            got, right = found.taylor(300, b_std=b_std), want.taylor(300, b_std=b_std)
            scale = want(1.0)
            assert (np.abs(got - right) <= got.error + right.error).all()
            assert got.error.max() < 1e-13 * scale
            assert got.tail == pytest.approx(right.tail, abs=1e-12 * scale)


def test_cauchy_on_its_own():
    b, error = cauchy(lambda c: 1 / (1 - 0.5 * c), 40)
    np.testing.assert_allclose(b, 0.5 ** np.arange(41), atol=1e-14)
    assert (np.abs(b - 0.5 ** np.arange(41)) <= error).all()
    with pytest.raises(InputError, match=r"the thing is not analytic .* powers, of size .* so there"):
        cauchy(lambda c: 1 / (c - 0.5), 3, "the thing", "; so there")
