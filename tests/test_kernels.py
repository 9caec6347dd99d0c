"""Families of kernels, their algebra, and values near c = 1, against mpmath."""

import pickle
import textwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp

import ntkengine as nk
from ntkengine.errors import InputError, NoSeriesError, PluginWarning, UnknownNameError
from ntkengine.kernels import BUILTINS, DotProductKernel, KernelFamily, PowerSeries, registry
from ntkengine.kernels.algebra import Composition, Constant, Scaled, Sum
from ntkengine.kernels.angular import ArcCosine, Chebyshev
from ntkengine.kernels.families import _builtins, _check
from ntkengine.parameters import Parameter
from ntkengine.plugins import Registry
from tests.oracles import series as oracle
from tests.test_taylor import FAMILIES, FORMULAS

DEFAULTS = {"monomial": {"degree": 3}, "polynomial": {"degree": 3}}
ANGLES = np.array([0.0, 1e-12, 1e-7, 1e-4, 0.01, 0.3, 0.5, 1.0, 1.3, 2.0, 3.0, np.pi - 1e-6])


def at_angle(function, theta, digits=60):
    with mp.workdps(digits):
        return mp.re(function(mp.cos(mp.mpf(float(theta)))))


def family(key):
    name, *parameters = key
    return nk.kernel(name, **dict(parameters))


# --- values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", FAMILIES, ids=str)
def test_values_of_families(key):
    k, function = family(key), FAMILIES[key]
    scale = max(1.0, k(1.0))
    want = [float(at_angle(function, t)) for t in ANGLES]
    np.testing.assert_allclose(k.at_angle(ANGLES), want, rtol=0, atol=2e-15 * scale)
    c = np.linspace(-1, 1, 9)
    np.testing.assert_allclose(
        k(c), [float(oracle.value(function, x)) for x in c], rtol=0, atol=2e-15 * scale
    )


@pytest.mark.parametrize("key", FAMILIES, ids=str)
def test_continuations_of_families(key):
    rng = np.random.default_rng(1)
    c = 0.98 * np.sqrt(rng.random(20)) * np.exp(2j * np.pi * rng.random(20))
    with mp.workdps(30):
        want = np.array([complex(FAMILIES[key](mp.mpc(x))) for x in c])
    np.testing.assert_allclose(family(key)._complex(c), want, rtol=2e-14)


@pytest.mark.parametrize("text", FORMULAS)
def test_continuations_of_formulas(text):
    rng = np.random.default_rng(2)
    c = 0.98 * np.sqrt(rng.random(20)) * np.exp(2j * np.pi * rng.random(20))
    with mp.workdps(30):
        want = np.array([complex(oracle.formula(text)(mp.mpc(x))) for x in c])
    np.testing.assert_allclose(nk.kernel(text)._complex(c), want, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("text", [*FORMULAS, "laplace", "arc_cosine", "gaussian", "periodic", "matern"])
def test_what_is_missing_to_the_value_at_one(text):
    """K(1) − K(cos θ), to a small part of itself at tiny angles, where the subtraction leaves nothing of it."""
    functions = {
        "laplace": oracle.formula("exp(-sqrt(2*(1 - c)))"),
        "arc_cosine": oracle.arc_cosine(1, 1),
        "gaussian": oracle.formula("exp(-2*(1 - c))"),
        "periodic": oracle.periodic(1, 1.0),
        "matern": oracle.formula("(1 + sqrt(6*(1 - c)))*exp(-sqrt(6*(1 - c)))"),
    }
    function, k = functions.get(text) or oracle.formula(text), nk.kernel(text)
    for theta in (1e-9, 1e-4, 0.1, 2.0):
        with mp.workdps(60):
            want = float(at_angle(function, 0) - at_angle(function, theta))
        # of two increases that cancel, matern keeps the digits of the angle
        relative = 1e-15 / theta if text == "matern" and theta < 1 else 2e-13
        got = k._deficit_at_angle(np.array([theta]))[0]
        assert got == pytest.approx(want, rel=relative, abs=1e-300)
        assert k._deficit(np.cos([theta]), 2 * np.sin(np.array([theta]) / 2) ** 2)[0] == pytest.approx(
            want, rel=relative, abs=1e-300
        )


@pytest.mark.parametrize("function", ["exp", "log", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh", "erf",
                                      "sigmoid", "softplus", "gelu", "abs", "1/"])  # fmt: skip
def test_every_function_keeps_small_differences(function):
    text = f"{function}(0.9 + 0.3*c - c**3/5)" if function != "1/" else "1/(0.9 + 0.3*c - 0.2*c**3)"
    text = text.replace("c**3/5", "0.2*c**3")
    k, want = nk.kernel(text), oracle.formula(text)
    for theta in (1e-6, 1e-2, 1.0, 2.5):
        with mp.workdps(60):
            gap = float(at_angle(want, 0) - at_angle(want, theta))
        tolerance = 1e-3 if function == "abs" and theta == 1e-6 else 1e-11 if function == "abs" else 1e-13
        assert k._deficit_at_angle(np.array([theta]))[0] == pytest.approx(gap, rel=tolerance)


def test_compositions_near_one():
    """laplace is smooth in √(1 − c) only, so the inner kernel must hand on 1 − inner(c) with its digits."""
    inner = "exp(3*c - 3)*c**2"
    k = nk.kernel("laplace").compose(nk.kernel(inner).normalized())
    function, laplace = oracle.formula(inner), oracle.formula("exp(-sqrt(2*(1 - c)))")
    theta = np.array([1e-12, 1e-8, 1e-3, 0.5, 3.0])
    want = [float(at_angle(lambda c: laplace(function(c)), t)) for t in theta]
    np.testing.assert_allclose(k.at_angle(theta), want, rtol=1e-15, atol=1e-15)
    assert 1 - k.at_angle(1e-12) == pytest.approx(5**0.5 * 1e-12, rel=1e-3)  # the float nearest 1 − 2.2e-12
    twice = nk.kernel("laplace").compose(k)
    assert 1 - twice.at_angle(1e-12) == pytest.approx(-np.expm1(-((2 * 5**0.5 * 1e-12) ** 0.5)), rel=1e-9)
    deep = nk.kernel("arc_cosine", order=0, depth=64)  # time linear in the depth
    assert 0 < deep.at_angle(1e-3) < 1


def test_compositions_that_do_not_reach_one():
    k = nk.kernel("laplace").compose(nk.kernel("0.5*c**2"))
    want = np.exp(-np.sqrt(2 * (1 - 0.5 * np.cos([0.0, 1.0]) ** 2)))
    np.testing.assert_allclose(k.at_angle([0.0, 1.0]), want, rtol=1e-15)
    np.testing.assert_allclose(k._deficit_at_angle(np.array([0.0, 1.0])), want[0] - want, atol=1e-16)


# --- algebra -----------------------------------------------------------------------------------------------------

LEAVES = [nk.kernel("c"), nk.kernel("exp(c)"), nk.kernel("gaussian"), nk.kernel("laplace", length=2.0),
          nk.kernel("arc_cosine"), nk.kernel("geometric", rate=0.3), nk.kernel("c**3 + 0.5"), Constant(0.7)]  # fmt: skip
kernels = st.sampled_from(LEAVES)
positive = st.floats(0.0, 100.0)
POINTS = np.linspace(-1, 1, 33)


@settings(max_examples=15, deadline=None)
@given(kernels, kernels, positive, st.integers(0, 6))
def test_operations_are_those_of_the_values(one, other, number, exponent):
    a, b = one(POINTS), other(POINTS)
    pairs = [
        (one + other, a + b),
        (one * other, a * b),
        (number * one, number * a),
        (one * number, number * a),
        (np.float64(number) * one, number * a),
        (one / (1 + number), a / (1 + number)),
        (one + number, a + number),
        (np.float64(number) + one, a + number),
        (one**exponent, a**exponent),
        (one.normalized(), a / one(1.0)),
        (one.compose(other.normalized()), one(np.clip(other.normalized()(POINTS), -1, 1))),
    ]
    for k, want in pairs:
        np.testing.assert_allclose(
            k(POINTS), want, rtol=1e-13, atol=2e-8 if isinstance(k, Composition) else 1e-14
        )
        theta = np.array([0.0, 1e-9, 0.7, 3.0])
        far = [0.0, 0.7, 3.0]
        np.testing.assert_allclose(k.at_angle(far), k(np.cos(far)), rtol=1e-7, atol=1e-7)
        np.testing.assert_allclose(
            k._deficit_at_angle(theta), k.at_angle(0.0) - k.at_angle(theta), atol=1e-14 * max(1, k(1.0))
        )
    z = 0.6 * np.exp(1j * np.arange(5.0))
    for k, _ in pairs[:2] + pairs[-1:]:
        np.testing.assert_allclose(
            k._complex(z), np.polynomial.polynomial.polyval(z, k.taylor(150)), rtol=1e-12, atol=1e-13
        )


@settings(max_examples=25, deadline=None)
@given(kernels, kernels, st.floats(0.0, 0.3))
def test_the_series_of_a_product_is_the_convolution(one, other, b_std):
    if "arc_cosine" in one.name + other.name:
        b_std = 0.0
    a, b = one.taylor(40, b_std=b_std), other.taylor(40, b_std=b_std)
    size = np.convolve(np.abs(a), np.abs(b))[:41]
    product = (one * other).taylor(40, b_std=b_std)
    np.testing.assert_array_less(np.abs(product - np.convolve(a, b)[:41]), 1e-14 * size + 1e-300)
    total = (one + other).taylor(40, b_std=b_std)
    np.testing.assert_array_less(np.abs(total - (a + b)), 1e-14 * (np.abs(a) + np.abs(b)) + 1e-300)
    assert total.tail == pytest.approx(a.tail + b.tail, abs=1e-14)


def test_kernels_from_anywhere_combine():
    net = nk.FCN("relu", depth=2, w_std=2**0.5).kernel("ntk")
    k = 0.5 * net + nk.kernel("gaussian") * net + nk.kernel("c**2")
    np.testing.assert_allclose(
        k(POINTS), 0.5 * net(POINTS) + np.exp(-2 * (1 - POINTS)) * net(POINTS) + POINTS**2, rtol=1e-14
    )
    assert k.name == f"0.5 * ({net.name}) + gaussian(gamma=1) * ({net.name}) + c**2"
    inner = nk.kernel("laplace").compose(net.normalized())
    assert inner.at_angle(0.0) == 1.0
    theta = np.array([1e-3, 1.0, np.pi])
    np.testing.assert_allclose(
        inner.at_angle(theta), np.exp(-np.sqrt(2 * (1 - net.at_angle(theta) / net(1.0)))), rtol=1e-12
    )


def test_names_and_flat_sums():
    c, e = nk.kernel("c"), nk.kernel("exp(c)")
    assert [((c + e) + (c + 1)).name, (c * (e * c)).name] == ["c + exp(c) + c + 1", "c * exp(c) * c"]
    assert len((c + e + c).parts) == 3
    assert ((c + e) * 2).name == "2 * (c + exp(c))"
    assert ((c + e) ** 2).name == "(c + exp(c))**2"
    assert repr(nk.kernel("gaussian").compose(c**2)) == "<kernel gaussian(gamma=1) of (c**2)>"


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        (lambda k: -1.0 * k, "the number times a kernel is -1.0; it must be finite and at least 0"),
        (lambda k: k * np.nan, "is nan; it must be finite"),
        (lambda k: k * 10**400, "it must be finite"),
        (lambda k: k + -0.5, "the number added to a kernel is -0.5"),
        (lambda k: np.inf + k, "is inf"),
        (lambda k: k**-1, "exponent must be an integer ≥ 0, at most 1024, not -1"),
        (lambda k: k**0.5, "exponent must be an integer"),
        (lambda k: k**1025, "exponent is 1025"),
        (lambda k: k.compose(k), r"value at c = 1 is 2.71828; .* take inner.normalized\(\)"),
        (lambda k: k.compose("c"), "inner must be a DotProductKernel"),
        (lambda k: nk.kernel("c**2 - c").normalized(), "its value at c = 1 is 0, not above 0"),
        (lambda k: Constant(-1), "is -1; it must be finite"),
        (lambda k: k / 0, "a kernel is divided by 0; the number must be finite and above 0"),
        (lambda k: k / -1.0, "a kernel is divided by -1.0; .* as a formula"),
        (lambda k: k / np.inf, "divided by inf"),
        (lambda k: k / 10**400, r"divided by 10{17}\.\.\.0{19}; "),
        (lambda k: k / 5e-324, "and so must one over it"),
        (lambda k: k / k, "kernels are divided by positive numbers only"),
        (
            lambda k: 2 / k,
            "kernels are divided by positive numbers only.* write the whole kernel as a formula",
        ),
        (lambda k: np.float64(2) / k, "kernels are divided by"),
        (lambda k: k - k, "kernels are not subtracted or negated.* write the whole kernel as a formula"),
        (lambda k: k - 0.5, "not subtracted"),
        (lambda k: 1 - k, "not subtracted"),
        (lambda k: -k, "not subtracted or negated"),
        (lambda k: ArcCosine(3), "order is 3"),
    ],
)
def test_operations_that_are_refused(operation, words):
    with pytest.raises(InputError, match=words):
        operation(nk.kernel("exp(c)"))


def test_operations_that_mean_nothing():
    k = nk.kernel("exp(c)")
    for operation in (lambda: k - "c", lambda: "c" - k, lambda: k / "c", lambda: None / k, lambda: k / True,
                      lambda: k * "c", lambda: "c" + k, lambda: k + "c", lambda: k + True,
                      lambda: k + None):  # fmt: skip
        with pytest.raises(TypeError):
            operation()
    for operation in (lambda: np.ones(2) * k, lambda: k / np.ones(2)):
        with pytest.raises(InputError, match=r"array of shape \(2,\)"):
            operation()


# --- families ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILTINS)
def test_every_builtin_family(name):
    family = registry.get(name)
    assert family.name == name
    assert family.citation
    k = nk.kernel(name, **DEFAULTS.get(name, {}))
    assert np.isfinite(k(POINTS)).all()
    series = k.taylor(40)
    assert (series >= 0).all()  # positive definite at the defaults
    assert k(1.0) == pytest.approx(series.sum() + series.tail, rel=1e-14)
    again = pickle.loads(pickle.dumps(k))
    assert again.family is family
    assert again.values == k.values
    for parameter in family.parameters:
        assert parameter.doc
        for value in (parameter.lower, parameter.upper):
            if np.isfinite(value):
                assert np.isfinite(
                    nk.kernel(name, **DEFAULTS.get(name, {}) | {parameter.name: value})(POINTS)
                ).all()


def test_builtins_are_the_table():
    assert tuple(sorted(BUILTINS)) == BUILTINS
    assert set(BUILTINS) <= set(registry.names())


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("gaussian", {"gama": 1.0}, "kernel 'gaussian' has no parameter 'gama'; its parameters: gamma"),
        (
            "gaussian",
            {"gamma": -1.0},
            "parameter 'gamma' of kernel 'gaussian' is -1.0; allowed: finite, from 0",
        ),
        ("gaussian", {"gamma": "x"}, "parameter 'gamma' of kernel 'gaussian' must be a number, not 'x'"),
        ("gaussian", {"gamma": np.nan}, "is nan"),
        ("matern", {"nu": 2.0}, "parameter 'nu' of kernel 'matern' is 2.0; allowed: 0.5 or 1.5 or 2.5"),
        ("monomial", {}, "kernel 'monomial' needs a value of 'degree': power"),
        ("monomial", {"degree": -1}, "allowed: integers, from 0 to 512"),
        ("arc_cosine", {"order": 3}, "allowed: integers, from 0 to 2"),
        ("arc_cosine", {"order": 2, "depth": 10}, "'depth' of kernel 'arc_cosine' is 10; .* depth below 10"),
        ("geometric", {"rate": 1.0}, "from 0 to 0.999999"),
        ("laplace", {"length": 0.0}, "from 0.001 to 1000"),
        ("gausian", {}, r"unknown kernel 'gausian'\. Did you mean 'gaussian'\? .* formula in the cosine c"),
        ("a*c", {"a": None}, "must be a number, not None"),
        (3, {}, "not by 3"),
    ],
)
def test_bad_names_and_parameters(name, parameters, words):
    with pytest.raises(InputError, match=words) as caught:
        nk.kernel(name, **parameters)
    assert isinstance(caught.value, UnknownNameError) == (name == "gausian")


def test_formulas_and_names_do_not_mix():
    assert nk.kernel("c").name == "c"
    assert nk.kernel(" gaussian ").name == "gaussian(gamma=1)"
    assert nk.kernel("gamma*c", gamma=2.0)(1.0) == 2.0
    k = nk.kernel("laplace")
    assert nk.kernel(k) is k
    with pytest.raises(InputError, match="has its parameters already"):
        nk.kernel(k, length=2.0)


def _bump(c, complement, width):
    return np.exp(-complement / width)


def _bump_taylor(degree, width):
    k = np.arange(degree + 1)
    return np.exp(-1 / width) * np.cumprod(np.concatenate([[1.0], 1 / (width * k[1:])]))


WIDTH = [Parameter("width", 0.5, 0.1, 10.0, "of the bump")]


def test_a_family_of_a_function():
    real_only = KernelFamily(
        "real", "exp(...)", WIDTH, function=lambda c, w, width: np.vectorize(_real)(w, width)
    )
    plain = KernelFamily("bump", "exp(-(1 - c)/width)", WIDTH, function=_bump)
    closed = KernelFamily("bump", "exp(-(1 - c)/width)", WIDTH, function=_bump, taylor=_bump_taylor)
    want = nk.kernel("exp(-(1 - c)/w)", w=2.0)
    for found in (plain(width=2.0), closed(width=2.0)):
        np.testing.assert_array_equal(found(POINTS), want(POINTS))
        for b_std in (0.0, 0.4):
            np.testing.assert_allclose(
                found.taylor(20, b_std=b_std), want.taylor(20, b_std=b_std), atol=3e-15
            )
        assert found.taylor(3).tail == pytest.approx(want.taylor(3).tail, rel=1e-12)
        assert isinstance((found * nk.kernel("c")).taylor(5), PowerSeries)
    np.testing.assert_allclose(closed(width=2.0).taylor(20), want.taylor(20), rtol=1e-14)
    odd = KernelFamily("odd", "exp(...)", WIDTH, function=_not_of_complex)
    for family in (real_only, odd):
        with pytest.raises(NoSeriesError, match="takes no complex numbers"):
            family().taylor(3)


def _not_of_complex(c, complement, width):
    if np.iscomplexobj(c):
        raise RuntimeError("no branch for complex")
    return _bump(c, complement, width)


def _real(w, width):
    return float(np.exp(-float(w) / width)) if np.isreal(w) else float(w)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"taylor": lambda n, width: np.ones(3)}, r"have shape \(3,\); its taylor must return \(6,\)"),
        ({"taylor": lambda n, width: np.full(n + 1, np.nan)}, "finite numbers"),
        ({"taylor": lambda n, width: 0.9 * _bump_taylor(n, width)}, "disagree with its function by"),
        ({"function": lambda c, w, width: np.log(c)}, "no finite real value at c = -1"),
        (
            {"taylor": lambda n, width: "abc"},
            r"the taylor of the kernel .* returned 'abc'; it must return \(6,\) real",
        ),
        ({"taylor": lambda n, width: 1j * np.ones(n + 1)}, "returned array.* real numbers"),
        ({"taylor": lambda n, width: [[1], [1, 2]]}, "returned .* real numbers"),
        ({"taylor": lambda n, width: None}, "of the kernel 'bump"),
        ({"taylor": lambda n: np.ones(n + 1)}, "the taylor of the kernel .* failed: TypeError"),
        ({"taylor": lambda n, width: {}[n]}, r"the taylor of the kernel .* failed: KeyError\(5\)"),
        ({"function": lambda c, w, width: 1j * c}, "returned complex128, not real numbers"),
        (
            {"function": lambda c, w, width: np.ones(3)},
            r"'bump\(width=0.5\)' returned an array of shape \(3,\) for cosines",
        ),
        ({"function": lambda c, w, width: np.full(c.shape, "x")}, "returned <U1, not real numbers"),
        ({"function": lambda c, w, width: None}, "returned object, not real numbers"),
        ({"function": lambda c, w, width: c * np.nan}, "no finite real value at c = -1"),
        ({"function": lambda c, w: c}, "the function of the kernel 'bump.*' failed: TypeError"),
        (
            {"function": None, "made_of": lambda width: width},
            r"the made_of of the kernel .* returned 0\.5; it must be",
        ),
        (
            {"function": None, "formula": lambda width: 3},
            "the formula of the kernel .* returned 3; it must be a text",
        ),
        ({"function": lambda c, w, width: np.abs(c)}, "not analytic"),
        (
            {"function": None, "formula": "exp(width*c) + b"},
            r"needs values for its parameters: give b=\.\.\.",
        ),
    ],
)
def test_families_that_are_wrong(changes, words):
    arguments = {"formula": "exp(-(1 - c)/width)", "parameters": WIDTH, "function": _bump} | changes
    with pytest.raises(InputError, match=words):
        KernelFamily("bump", **arguments)().taylor(5)


@pytest.mark.parametrize(("degree", "wrong"), [(40, 30), (200, 60)])
def test_taylor_coefficients_are_checked_near_one_too(degree, wrong):
    """One coefficient in excess by half of K(1): at |c| = 0.5 nothing of it is seen."""

    def taylor(n, width):
        b = _bump_taylor(n, width)
        b[wrong] += 0.5
        return b

    right = KernelFamily("bump", "exp(...)", WIDTH, function=_bump, taylor=_bump_taylor)
    np.testing.assert_allclose(right().taylor(degree)[:9], _bump_taylor(8, 0.5))
    with pytest.raises(InputError, match="disagree with its function"):
        KernelFamily("bump", "exp(...)", WIDTH, function=_bump, taylor=taylor)().taylor(degree)


def test_unregistered_families_are_pickled_by_value():
    k = KernelFamily("gaussian", "exp(-(1 - c)/width)", WIDTH, function=_bump)(width=2.0)
    again = pickle.loads(pickle.dumps(k))
    assert again.name == "gaussian(width=2)"
    np.testing.assert_array_equal(again(POINTS), k(POINTS))


@pytest.mark.parametrize(
    "k",
    [
        2.0 * nk.kernel("gaussian") + 1.0,
        nk.kernel("c") * nk.kernel("exp(c)"),
        nk.kernel("a*c + c**2", a=2.0) ** 3,
        nk.kernel("laplace").compose(nk.kernel("exp(c)").normalized()),
        Sum(Chebyshev(2), ArcCosine(0)),
        Scaled(nk.FCN("relu").kernel("ntk"), 3.0),
    ],
    ids=lambda k: k.name,
)
def test_combinations_are_pickled(k):
    again = pickle.loads(pickle.dumps(k))
    assert again.name == k.name
    np.testing.assert_array_equal(again(POINTS), k(POINTS))


# --- plugins -----------------------------------------------------------------------------------------------------

PLUGIN = """
    import numpy as np
    from ntkengine.kernels import KernelFamily
    from ntkengine.parameters import Parameter

    def function(c, complement, rate):
        return np.exp(-rate * complement)

    bump = KernelFamily("bump", "exp(-rate*(1 - c))", [Parameter("rate", 2.0, 0.0, 9.0)], function)
    number = 3
"""


@pytest.fixture
def found(tmp_path, monkeypatch):
    """A registry that sees one synthetic distribution."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("NTKENGINE_PLUGINS", raising=False)
    (tmp_path / "bump_plugin.py").write_text(textwrap.dedent(PLUGIN))
    info = tmp_path / "bump_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bump-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[ntkengine.kernels]\nbump = bump_plugin:bump\nbroken = bump_plugin:number\n"
    )
    return Registry("kernel", "ntkengine.kernels", _builtins, _check)


def test_a_plugin_works_like_a_builtin(found, monkeypatch):
    monkeypatch.setattr("ntkengine.kernels.families.registry", found)
    assert {"bump", "gaussian", "broken"} <= set(found.names())
    k = nk.kernel("bump", rate=1.0)
    np.testing.assert_allclose(k(POINTS), np.exp(POINTS - 1))
    np.testing.assert_allclose(k.taylor(8), nk.kernel("exp(c - 1)").taylor(8), atol=1e-15)
    assert isinstance(k, DotProductKernel)
    assert pickle.loads(pickle.dumps(k)).name == k.name
    with pytest.warns(PluginWarning, match="KernelFamily, found int"), pytest.raises(UnknownNameError):
        nk.kernel("broken")
