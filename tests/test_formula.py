"""The formula language: values, derivatives, kinks, errors, parameters, precision, and text that means harm."""

import copy
import json
import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mpmath import mp

import ntkengine as nk
from ntkengine.errors import InputError
from ntkengine.formula import _formula, parse_program
from ntkengine.formula._intervals import _over, unbounded
from ntkengine.formula._values import ARRAY, run, value
from tests.oracles import formulas as oracle

POINTS = np.array([-9.3, -3.1, -1.7, -0.61, -0.0123, 0.0037, 0.29, 0.83, 1.9, 4.4, 8.7])

SMOOTH = {
    "max(z-1, 0) + 0.1*cos(4*z)": {},
    "a*relu(z-b)": {"a": 2.0, "b": 0.5},
    "exp(-z**2/2)*sin(3*z)": {},
    "sinh(z/3) - cosh(0.2*z) + tan(z/8)": {},
    "sinh(1e-5*z)": {},
    "log(1 + z**2) + sqrt(2 + sin(z))": {},
    "gelu(z) + sigmoid(2*z)*softplus(-z) + tanh(z)*erf(z/2)": {},
    "z**7/1e4 + (1+z**2)**-3 + (1+abs(z))**1.5 + (2+cos(z))**-0.5": {},
    "2**z + e**(z/2) + (1 + z**2)**(0.1*z)": {},
    "abs(z)**0.3": {},
    "min(z, 1, z**2) - max(-z, 2, sin(z))": {},
    "sign(z-0.1)*heaviside(z+0.2)*z + step(z)": {},
    "-z**2 + --z - +3": {},
    "sqrt(relu(z)) + z": {},
    "1/(1+exp(-z))": {},
    "relu(z)**2*exp(-relu(z))": {},
    "pi*z/(e + z**2)": {},
    "z**65/1e60": {},
    "3": {},
    "z": {},
}


def plain(text, points, dtype=np.float64, **parameters):
    """φ and φ' at points by the generated pair, as ordinary Python on NumPy scalars: the tile's text, uncompiled."""
    phi = nk.activation(text, **parameters)
    p = tuple(dtype(v) for v in phi.values)
    with np.errstate(all="ignore"):
        pairs = [phi.family.pair(dtype(z), p) for z in points]
    assert {type(x) for pair in pairs for x in pair} == {dtype}
    return np.array(pairs).T


def exact(text):
    with mp.workdps(30):
        want = np.array([float(oracle.value(text, z, **SMOOTH[text])) for z in POINTS])
        return want, np.array([float(oracle.derivative(text, z, **SMOOTH[text])) for z in POINTS])


@pytest.mark.parametrize("text", SMOOTH)
def test_values_and_derivatives(text):
    for got, want in zip(plain(text, POINTS, **SMOOTH[text]), exact(text)):
        np.testing.assert_allclose(got, want, rtol=1e-13, atol=3e-15 * np.abs(want).max())


@pytest.mark.parametrize("text", [text for text in SMOOTH if "z**65" not in text])
def test_single_precision_stays_single(text):
    for got, want in zip(plain(text, POINTS, np.float32, **SMOOTH[text]), exact(text)):
        assert np.max(np.abs(got - want)) <= 1e-5 * np.abs(want).max()


@pytest.mark.parametrize(
    ("text", "parameters"),
    [("a*relu(z-b) + sinh(z/3)*abs(z)", {"a": 2.0, "b": 0.5}), ("max(z-1, 0) + 0.1*cos(4*z)", {})],
)
def test_tiles(text, parameters):
    phi = nk.activation(text, **parameters)
    want = plain(text, POINTS, **parameters)
    np.testing.assert_allclose(phi.both(POINTS), want, rtol=1e-14, atol=1e-15)
    single = phi.both(POINTS.astype(np.float32))
    assert single[0].dtype == single[1].dtype == np.float32
    np.testing.assert_allclose(single, want, rtol=0, atol=1e-6 * np.abs(want).max())


def test_values_at_the_kinks_and_far_out():
    assert plain("relu(z)+0.5*z", [0.0])[1] == 0.5
    assert plain("abs(z)*1.5", [0.0])[1] == 0
    np.testing.assert_array_equal(
        plain("sign(z)+10*heaviside(z)", [-1.0, 0.0, 2.0]), [[-1, 0, 11], [0, 0, 0]]
    )
    np.testing.assert_array_equal(plain("sqrt(abs(z))", [0.0]), [[0], [0]])
    np.testing.assert_array_equal(
        plain("sqrt(relu(z)) + z", [-2.0, 0.0])[1], [1, 1]
    )  # the root's branch is not taken
    far = plain("gelu(z)/(1+exp(-z)) + relu(z)*exp(-z)", [-1e3, -1e300, 800.0])
    np.testing.assert_allclose(far, [[0, 0, 800], [0, 0, 1]])
    np.testing.assert_array_equal(plain("gelu(z)*2", [-np.inf, np.inf])[1], [0, 2])
    np.testing.assert_array_equal(plain("sinh(z/2)", [-1e6, 1e6]), [[-np.inf, np.inf], [np.inf, np.inf]])
    np.testing.assert_allclose(plain("cosh(z)", [-710.2, 710.2])[1], np.sinh([-710.2, 710.2]), rtol=1e-12)
    assert np.isnan(plain("2*step(z)*exp(z)", [np.nan])).all()
    assert np.isnan(plain("max(z, 0) + min(z, 2)", [np.nan])).all()


# --- kinks -----------------------------------------------------------------------------------------------------

KINKS = {
    "max(z-1, 0)": [1],
    "min(max(z, -1), 1)": [-1, 1],
    "abs(abs(z)-1)": [-1, 0, 1],
    "relu(z)**2": [0],
    "relu(z)*tanh(z)": [0],
    "max(z, -z)": [0],
    "max(z, 0) - max(z, 0)": [],
    "abs(z**2-2*z+1) + abs(z**2)": [],
    "abs(z)**3": [0],
    "abs((z-1)**3)": [1],
    "sqrt(z**2)": [0],
    "abs(z-3.7)*exp(-z**2/2)": [3.7],
    "max(2*z-0.6, 0) + max(z/3-1, 0)": [0.3, 3],
    "z*heaviside(z-250)": [250],
    "max(relu(z), 0) + 1/(1+abs(z-2))": [0, 2],
    "max(z, z**3)*sin(z)": [-1, 0, 1],
    "sign(sign(z)+0.5)": [0],
}


@pytest.mark.parametrize("text", KINKS)
def test_kinks(text):
    kinks = nk.activation(text).kinks
    assert [k.location for k in kinks] == KINKS[text]
    for kink in kinks:
        for order, jump in enumerate(kink.jumps):
            right, left = (oracle.derivative(text, kink.location, order, side) for side in (1, -1))
            assert jump == pytest.approx(float(right - left), abs=1e-8, rel=1e-8), order


def test_kinks_of_general_arguments():
    kinks = nk.activation("abs(sin(3*z))").kinks
    near = [k for k in kinks if abs(k.location) < 40]
    np.testing.assert_allclose(
        [k.location for k in near], np.pi / 3 * np.arange(-38, 39), rtol=1e-15, atol=1e-16
    )
    for kink in near:
        assert kink.jumps == pytest.approx((0, 6, 0, -54), rel=1e-12, abs=0)
    (low, high) = nk.activation("max(exp(z)-2, z)").kinks
    with mp.workdps(30):
        want = [mp.findroot(lambda x: mp.exp(x) - 2 - x, start) for start in (-1.8, 1.1)]
    assert [low.location, high.location] == pytest.approx([float(x) for x in want], rel=4e-16)
    assert high.slope_jump == pytest.approx(float(mp.exp(want[1]) - 1), rel=1e-14)
    assert high.third_jump == pytest.approx(float(mp.exp(want[1])), rel=1e-14)


def test_kinks_depend_on_the_parameters_and_infinite_jumps_are_left_out():
    assert [k.location for k in nk.activation("a*max(z-b, 0)", a=-2.0, b=0.7).kinks] == [0.7]
    assert nk.activation("a*max(z-b, 0)", a=-2.0, b=0.7).kinks[0].slope_jump == -2
    for text in ("sqrt(abs(z))", "abs(z)**0.3", "relu(z)**5"):
        (kink,) = nk.activation(text).kinks
        assert kink.location == 0
        assert kink.jumps == (0, 0, 0, 0)
    places = [k.location for k in nk.activation("sqrt(1-cos(z))").kinks if abs(k.location) < 7]
    assert places == pytest.approx([-2 * np.pi, 0, 2 * np.pi], abs=1e-15)


def test_too_many_kinks():
    with pytest.raises(InputError, match="more than 256 kinks"):
        _ = nk.activation("abs(sin(70*z))").kinks


# --- what the text may be --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("1 + foo(z)", 5, "unknown function 'foo'"),
        ("tanhh(z) + 1", 1, "Did you mean 'tanh'"),
        ("z^2", 2, r"powers are written \*\*"),
        ("2*z + 3z", 8, "lacks a sign"),
        ("z + é*2", 5, "not allowed"),
        ("z.real", 2, "not allowed"),
        ("(z + 1", 1, "never closed"),
        ("z) + 1", 2, "closes nothing"),
        ("z + 1/0", 5, "divides by zero"),
        ("z + max(z)", 5, "takes 2 or more"),
        ("z + sin(z, 1)", 5, "takes 1"),
        ("z + sin", 5, "without its argument"),
        ("z + a_b", 6, "letters and digits"),
        ("z * name", 5, "parameter cannot have"),
        ("z // 2", 1, "operation"),
    ],
)
def test_errors_point_at_the_character(text, position, words):
    with pytest.raises(InputError, match=words) as caught:
        nk.activation(text)
    problem, line, caret = str(caught.value).split("\n")
    assert f"character {position}" in problem
    assert line == "  " + text
    assert caret == " " * (position + 1) + "^"


def test_the_caret_stays_under_its_character_in_a_long_text():
    text = "+".join(["sin(z)"] * 100) + "+foo(z)" + "+cos(z)" * 30
    with pytest.raises(InputError, match="'foo' at character 701") as caught:
        nk.activation(text)
    _, line, caret = str(caught.value).split("\n")
    assert line[caret.index("^") :].startswith("foo(z)")
    assert len(line) < 90


HOSTILE = [
    "z.__class__", "z[0]", "lambda: z", "foo(z)", "exp(x=z)", "__import__('os')", "'abc'", "z<1", "(w:=z)",
    "[x for x in z]", "(x for x in z)", "f'{z}'", "(" * 10000 + "z" + ")" * 10000, "(" * 900 + "z" + ")" * 900,
    "9**9**9**9", "2**10**9", "1/0", "0**-1", "log(0)", "max()", "1 if z else 2", "z\0", "", " \t\n", "z+" * 500000 + "z",
    "z+" * 5000 + "z", "z+" * 999 + "z", "((((z", "z**" * 600 + "z", "2**" * 600 + "2", "9" * 10**6, "9" * 1999, "1e999*z",
    "ехр(z)", "\u200bz+1", "z²", "exp(*z)", "exp(**z)", "exp(z)(z)", "~z", "not z", "z@z", "1j*z", "0x10*z", "1_0*z",
    "yield z", "*z", "z;z", "#z", "\\", "007*z", "0**z", "(-2)**z", "1/(z-z)", "exp(z-z+1000)", "sqrt(-1)+z", "1e308*10*z",
    "log(z)", "sqrt(z)", "1/z", "tan(z)", "1/(z-0.3333)", "1/relu(z)", "z**-1.5", "z**1e300", "e" * 1990 + "*z", "\ud800*z",
    "exp(exp(exp(z)))-exp(exp(exp(z+1)))", "z*" * 999 + "z", "max(" + ",".join(f"{k}*z" for k in range(280)) + ")",
]  # fmt: skip
LEGITIMATE = [
    "-" * 1999 + "z", "exp(exp(exp(exp(z))))", "(z+1)*" * 150 + "1", "sin(z*" * 60 + "z" + ")" * 60, "z\n+1",
    "1/(1+" * 60 + "z" + ")" * 60, "abs(1-" * 40 + "z" + ")" * 40, "heaviside(0)*z + sign(0)", "(((z**64)**64)**64)",
    "+".join(f"{k}.5*sin({k}*z)" for k in range(1, 64)), "max(" + ",".join(["z"] * 900) + ")", "exp(z**2)",
    "min(1/abs(z), 5)", "(0.5*z)**1000**1", "log(0.01 + abs(z))",
]  # fmt: skip

_ATTACK = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
import ntkengine as nk
answers = []
for text in json.load(sys.stdin):
    try:
        nk.activation(text)
        answers.append("valid")
    except nk.errors.InputError as error:
        answers.append(str(error))
json.dump(answers, sys.stdout)
"""


def test_hostile_text_is_refused_quickly_and_in_bounded_memory():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _ATTACK],
        input=json.dumps(HOSTILE + LEGITIMATE),
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
        env={**os.environ, "NUMBA_NUM_THREADS": "2"},
    )
    answers = json.loads(done.stdout)
    for text, answer in zip(HOSTILE, answers):
        assert answer != "valid", text[:50]
        assert len(answer) < 700, text[:50]
        assert "Error" not in answer, (text[:50], answer)  # no other exception in disguise
    assert answers[len(HOSTILE) :] == ["valid"] * len(LEGITIMATE)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.text(alphabet="z0123456789.+-*/() ,abcexpsinmaxlogrelu_^='[]", max_size=25))
def test_any_text_gives_an_activation_or_an_input_error(text):
    try:
        nk.activation(text)
    except InputError as error:
        message = str(error)
    else:
        return
    assert message


# --- random formulas -------------------------------------------------------------------------------------------

_numbers = st.sampled_from(["0.5", "2", "1.25", "3", "0.1", "pi", "a"])
_formulas = st.recursive(
    st.one_of(st.just("z"), _numbers),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(inner, inner).map(lambda t: f"({t[0]})/(1.5 + ({t[1]})**2)"),
        st.tuples(inner, st.sampled_from(["2", "3", "5"])).map(lambda t: f"({t[0]})**{t[1]}"),
        st.tuples(
            st.sampled_from(
                "sin cos tanh erf sigmoid softplus gelu abs relu sign step".split()  # noqa: SIM905
            ),
            inner,
        ).map(lambda t: f"{t[0]}({t[1]})"),
        inner.map(lambda t: f"exp(-({t})**2)"),
        inner.map(lambda t: f"sqrt(1 + abs({t}))"),
        inner.map(lambda t: f"log(2 + abs({t}))"),
        inner.map(lambda t: f"-({t})"),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda t: f"{t[0]}({t[1]}, {t[2]})"),
    ),
    max_leaves=7,
)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(_formulas, st.sampled_from([-2.713, -0.391, 0.177, 1.618]))
def test_random_formulas_agree_with_the_oracle(text, z):
    """The program and its derivative (by NumPy, without compiling) against mpmath, where the formula is smooth."""
    p = {"a": 0.75} if "a" in re.findall(r"[a-z]+", text) else {}
    phi = nk.activation("z*0 + " + text, **p)
    assume(all(abs(kink.location - z) > 1e-3 for kink in phi.kinks))
    with mp.workdps(40):
        want, slope = oracle.value(text, z, **p), oracle.derivative(text, z, **p)
        size = max(1, abs(want), abs(slope))
    assume(size < 1e8)
    program = _formula(phi.name).slopes
    known = run(program, np.float64(z), np.array(phi.values))
    assert float(value(program.result, known, ARRAY)) == pytest.approx(float(want), abs=float(size) * 1e-10)
    assert float(value(program.slope, known, ARRAY)) == pytest.approx(float(slope), abs=float(size) * 1e-9)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(_formulas, st.floats(-4, 4))
def test_the_generated_source_is_the_program(text, z):
    """The printed pair, run as plain Python on NumPy scalars, against the program's own value."""
    p = {"a": 0.75} if "a" in re.findall(r"[a-z]+", text) else {}
    phi = nk.activation("z*0 + " + text, **p)
    program = _formula(phi.name).slopes
    known = run(program, np.float64(z), np.array(phi.values))
    with np.errstate(all="ignore"):
        got, slope = phi.family.pair(np.float64(z), tuple(np.float64(x) for x in phi.values))
        want, want_slope = (float(value(e, known, ARRAY)) for e in (program.result, program.slope))
    assume(np.isfinite([want, want_slope]).all())
    scale = max(1, abs(want), abs(want_slope))
    assert got == pytest.approx(want, abs=1e-11 * scale)
    assert slope == pytest.approx(want_slope, abs=1e-10 * scale)


# --- bounds over intervals: poles of kernels ---------------------------------------------------------------------

POLES = {
    "1/(c-0.1234567)": [0.1234567], "tan(3*c)": [-np.pi / 6, np.pi / 6], "1/(c**2 - 0.3)": [-(0.3**0.5), 0.3**0.5],
    "log(c+0.9999)": [-1.0], "1/sinh(c + 0.7777713)": [-0.7777713], "1/(exp(a*c) - 1.3)": [np.log(1.3) / 2],
    "c/(abs(c) - 0.2222221)": [-0.2222221, 0.2222221], "(c - 0.1234567)**-2 + log(1.1 + c)": [0.1234567],
    "1/(1.6 + sin(1000*c) + cos(1000*c)) + 1e-3/(c - 0.3141)": [0.3141],
}  # fmt: skip
BOUNDED = [
    "sqrt(1 - c**2)", "abs(c)", "(1 - c)**0.5", "(1 - c)**0.3", "(1 - c**2)**1.7", "exp(-sqrt(2*(1 - c)))", "(c**2)**0.3",
    "1/(1 + 1/c**2)", "1/(1.0000001 + sin(1000*c))", "1/(1 + c**2 - 2*c + 1e-8)", "1/(1.0000000001 - c)", "exp(700*c)",
    "min(1/abs(c - 0.1234567), 5)", "tan(1.57*c)", "gelu(-3*c)*softplus(9*c) + erf(c)*sigmoid(c)", "log(c + 1.0001)",
    "sqrt(c**2 + 2*c + 1)", "cosh(5*c) - sinh(c)**3", "step(c - 0.3)*sign(c)", "tanh(1/(2 + c))", "3", "a*0 + 2",
]  # fmt: skip


@pytest.mark.parametrize("text", POLES)
def test_poles_of_kernels(text):
    """Between the points of any grid; the error names one."""
    with pytest.raises(InputError, match="no finite real value at c = ") as caught:
        nk.kernel(text, **({"a": 2.0} if "a*c" in text else {}))
    found = float(re.search(r"at c = ([-\d.e]+)[ ,]", str(caught.value))[1])
    assert min(abs(found - c) for c in POLES[text]) < 2e-6


@pytest.mark.parametrize("text", BOUNDED)
def test_kernels_without_poles(text):
    assert np.isfinite(nk.kernel(text, **({"a": 2.0} if "a*0" in text else {}))([-1.0, 0.3, 1.0])).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(_formulas, st.floats(-1, 1), st.floats(0, 1e-3))
def test_bounds_hold_the_values(text, c, width):
    """Random formulas, bounded by construction: no pole is found, and no value is outside the bounds."""
    _, program = parse_program(text.replace("z", "c"), "c", complement=True)
    p = np.full(len(program.parameters), 0.75)
    assert unbounded(program, p) is None
    low, high = np.array([c, -1.0]), np.array([c + width, 1.0])
    bounds = _over(program, p, low, high)
    points = np.clip(np.linspace(low, high, 9), low, high)
    known = run(program, points, p, complement=1 - points)
    values = value(program.result, known, ARRAY)
    assert (bounds.low <= values).all()
    assert (values <= bounds.high).all()


# --- parameters, identity, pickles -----------------------------------------------------------------------------


def test_parameters_are_found_in_order_and_must_be_given():
    family = nk.activation("b*relu(z - a) + b*c2", a=1.0, b=2.0, c2=3.0).family
    assert [p.name for p in family.parameters] == ["b", "a", "c2"]
    with pytest.raises(InputError, match=r"give b=\.\.\., c2=\.\.\."):
        nk.activation("b*relu(z - a) + b*c2", a=1.0)
    with pytest.raises(InputError, match="has no parameter 'd'"):
        nk.activation("a*z", a=1.0, d=1.0)
    with pytest.raises(InputError, match=r"'a' of activation .* is nan"):
        nk.activation("a*z", a=float("nan"))
    with pytest.raises(InputError, match="no finite real value at z = 2"):
        nk.activation("1/(z-a)", a=2.0)


def test_one_text_is_one_family():
    first, second = nk.activation("a*relu(z) + 1", a=1.0), nk.activation("  a*relu(z)   + 1", a=2.0)
    assert first.family is second.family
    assert first.family.from_text
    assert first.name == first.family.formula == "a*relu(z) + 1"
    assert first.tile(np.float64) is second.tile(np.float64)
    assert first.family.identity is not None
    assert first.family.identity != nk.activation("a*relu(z) + 2", a=1.0).family.identity


def test_pickle_goes_through_the_text():
    phi = nk.activation("a*relu(z - 0.5)", a=1.5)
    again = pickle.loads(pickle.dumps(phi))
    assert again.family is phi.family
    assert again.parameters == {"a": 1.5}
    assert copy.deepcopy(phi).family is phi.family


def test_a_second_process_loads_the_machine_code(tmp_path):
    code = (
        "import ntkengine as nk, numba.core.event as event\n"
        "seen = []\n"
        "class Seen(event.Listener):\n"
        "    def on_start(self, e): seen.append(e.data['dispatcher'].__name__)\n"
        "    def on_end(self, e): pass\n"
        "event.register('numba:compile', Seen())\n"
        "from ntkengine import _jit\n"
        "nk.activation('max(z-1, 0) + 0.1*cos(4*z)').tile('f8')\n"
        "print(any('pair' in n for n in seen))\n"
    )
    env = {**os.environ, "NTKENGINE_CACHE_DIR": str(tmp_path), "NUMBA_NUM_THREADS": "2"}
    outs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
        ).stdout
        for _ in range(2)
    ]
    assert [out.strip() for out in outs] == ["True", "False"]


# --- kernels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("c**4 + c", {}),
        ("sinh(2*c)", {}),
        ("a*exp(c)", {"a": 2.0}),
        ("exp(-sqrt(1 - c))", {}),
        ("5", {}),
        ("c", {}),
    ],
)
def test_kernels(text, parameters):
    k = nk.kernel(text, **parameters)
    c = np.linspace(-1, 1, 41)
    with mp.workdps(30):
        want = [float(oracle.value(text, x, variable="c", **parameters)) for x in c]
    np.testing.assert_allclose(k(c), want, rtol=1e-14, atol=1e-15)
    again = pickle.loads(pickle.dumps(k))
    np.testing.assert_array_equal(again(c), k(c))
    assert again.name == k.name
    assert nk.kernel(k) is k


def test_kernel_takes_the_exact_complement():
    k = nk.kernel("-sqrt(1 - c)")
    theta = 1e-9
    assert -k.at_angle(theta) == pytest.approx(theta / 2**0.5, rel=1e-14)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gaussiann", "formula in the cosine c"),
        ("log(c)", "no finite real value at c = -1"),
        ("1/c", "no finite real value at c = 0"),
        ("1/(1-c)", "no finite real value at c = 1"),
        ("z**2", "parameter cannot have"),
        ("a*c", r"give a=\.\.\."),
        ("c + foo(c)", "unknown function 'foo' at character 5"),
        ("", "empty"),
    ],
)
def test_kernel_errors(text, words):
    with pytest.raises(InputError, match=words):
        nk.kernel(text)


def test_kernel_arguments():
    with pytest.raises(InputError, match="no parameter 'b'"):
        nk.kernel("a*c", a=1.0, b=1.0)
    with pytest.raises(InputError, match="must be a number"):
        nk.kernel("a*c", a="one")
    with pytest.raises(InputError, match="must be finite"):
        nk.kernel("a*c", a=np.inf)
    with pytest.raises(InputError, match="has its parameters already"):
        nk.kernel(nk.kernel("c"), a=1.0)
    with pytest.raises(InputError, match="not by 3"):
        nk.kernel(3)
