"""Exported headers, LaTeX and JSON: what they say, what reads back, what is refused."""

import dataclasses
import json
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ntkengine as nk
from ntkengine.activations import ActivationFamily, Parameter, activation
from ntkengine.cli.design import _FORMATS
from ntkengine.design._printers import LANGUAGES
from ntkengine.design.export import FORMATS, export, read_json
from ntkengine.errors import InputError
from tests.exports import ENTRIES, LONG, design, executed, family, pair, table

# --- texts -----------------------------------------------------------------------------------------------------


def test_the_formats_are_the_languages_and_two_more():
    assert (*LANGUAGES, "latex", "json") == FORMATS
    assert _FORMATS == FORMATS  # the command's own, which imports nothing


@pytest.mark.parametrize("format", ["torch", "jax", "numpy", "numba"])
def test_header_says_what_the_text_is(format):
    text = export(design(activation("relu_cos"), w_std=1.5, b_std=0.1, radial_lift=True), format)
    head = text.partition("\n\n")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    for word in (
        nk.__version__,
        "sinh(2*c)",
        "NTK",
        "0.02",
        "0.004",
        "3.5",
        "relu_cos",
        "σ_w = 1.5",
        "σ_b = 0.1",
        "radial lift",
    ):
        assert word in head
    compile(text, "text", "exec")
    assert max(len(line) for line in text.splitlines() if not line.startswith("#")) <= 110


def test_a_target_s_name_cannot_leave_the_comment():
    name = 'c"""\nimport os\r\n\x0b\x85\u2028raise SystemExit\n' + "x" * 500
    for format in ("torch", "jax", "numpy", "numba", "latex"):
        text = export(design(activation("relu"), target=name), format)
        assert not re.search(r"^\s*(raise|import os)", text, flags=re.MULTILINE)
        if format == "numpy":
            executed(text)
    assert json.loads(export(design(activation("relu"), target=name), "json"))["target"] == name


@pytest.mark.parametrize("phi", [*ENTRIES, table(), table(40, 3, 0)], ids=str)
def test_latex_is_well_formed(phi):
    from matplotlib.mathtext import MathTextParser

    text = export(design(phi, target="f_1^{2}(c) & 50% #$~\\", b_std=0.3, radial_lift=True), "latex")
    body = re.sub(r"^%.*\n", "", text, flags=re.MULTILINE)
    assert body.isascii()
    for escaped in (r"\{", r"\}", r"\$", r"\%"):
        body = body.replace(escaped, "")
    depth = np.cumsum([{"{": 1, "}": -1}.get(ch, 0) for ch in body])
    assert depth.min() >= 0 and depth[-1] == 0  # noqa: PT018
    assert body.count(r"\left") == body.count(r"\right")
    assert re.findall(r"\\begin\{(\w+)\}", body) == re.findall(r"\\end\{(\w+)\}", body)
    assert body.count("$") % 2 == 0
    parser = MathTextParser("path")
    for formula in re.findall(r"\\\[ (?!\\begin)(.*?) \\\]", body):
        parser.parse(f"${formula}$")
    assert r"\varphi(z) = " in body


def test_the_variable_of_a_rescaled_series_is_not_the_input():
    phi = activation("hermite", coefficients=[0.0, 1.0, 0.5], variance=10.0)
    text = export(design(phi), "latex")
    series, network = text.split(r"\[ z = ")
    assert r"h_{2}(t)" in series
    assert r"$t = z / \sqrt{10}$" in series
    assert "(x)" not in series
    assert " x " not in series
    assert r"$x \in \mathbb{R}^d$" in network


def test_latex_has_the_numbers():
    text = export(design(activation("relu_cos"), readout_w_std=0.5), "latex")
    assert r"3.80016\, \max\left( z - 1.06, 0 \right) + 0.0968093\, z + 0.901006 - 0.079361\, \cos" in text
    assert r"\omega_w = 0.5" in text
    text = export(design(activation("hermite", coefficients=LONG)), "latex")
    assert all(f"$a_{{{k}}} = " in text for k in range(LONG.size))
    text = export(design(activation("hermite", coefficients=[0.0, 1.0, 0.0, -0.5])), "latex")
    assert r"\varphi(z) = h_{1}(z) - 0.5\, h_{3}(z)" in text


@pytest.mark.parametrize("format", [*FORMATS[:5]])
def test_networks_that_source_does_not_describe_are_refused(format):
    for network in ({"depth": 2}, {"parameterization": "standard"}):
        with pytest.raises(InputError, match="only networks of depth 1"):
            export(design(activation("relu"), **network), format)


@pytest.mark.parametrize("format", ["Torch", "tensorflow", "", None, 3, ["json"]])
def test_an_unknown_format_lists_the_formats(format):
    with pytest.raises(InputError, match="torch, jax, numpy, numba, latex, json"):
        export(design(activation("relu")), format)


# --- JSON ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phi", [*ENTRIES, table()], ids=str)
def test_json_reads_back_to_the_same_bits(phi, tmp_path):
    exported = design(
        phi, w_std=1 / 3, b_std=0.1, readout_w_std=2**0.5, readout_b_std=1e-17, radial_lift=True
    )
    text = export(exported, "json")
    path = tmp_path / "design.json"
    path.write_text(text, encoding="utf-8")
    z = np.linspace(-5, 5, 101)
    for source in (text, "\n" + text, path, str(path)):
        read = read_json(source)
        assert dataclasses.replace(read, activation="relu") == dataclasses.replace(
            exported.fcn, activation="relu"
        )
        assert read.activation.parameters == phi.parameters
        assert read.activation(z).tobytes() == phi(z).tobytes()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-40.0, 40.0), min_size=7, max_size=7), st.floats(1e-9, 1e9))
def test_json_keeps_every_bit(values, w_std):
    values[5] = abs(values[5])
    phi = activation("relu_cos", **dict(zip("abcdefg", values)))
    read = read_json(export(design(phi, w_std=w_std), "json"))
    assert np.array(read.activation.values).tobytes() == np.array(phi.values).tobytes()
    assert read.w_std.hex() == w_std.hex()


def test_json_of_deep_networks_and_of_unknown_errors():
    exported = design(activation("relu"), depth=3, parameterization="standard", width=256)
    exported.max_error = math.nan
    text = export(exported, "json")
    assert read_json(text) == exported.fcn
    assert json.loads(text)["max_error"] is None


def test_json_of_an_activation_that_cannot_be_read_back_is_refused():
    with pytest.raises(InputError, match="could not be read back"):
        export(design(family("a*max(z, 0) + min(z, 0)")()), "json")
    relu = ActivationFamily("relu", pair, "a*max(z, 0) + min(z, 0)", (Parameter("a", 2.0),))
    with pytest.raises(InputError, match="could not be read back"):
        export(design(relu()), "json")
    with pytest.raises(InputError, match="could not be read back"):
        export(design(activation("relu_cos").with_values([1e9, 0, 0, 0, 0, 0, 0])), "json")


def changed(path, value):
    """The JSON of a design with one field set, or taken away (``value`` is ...)."""
    document = json.loads(export(design(activation("sin", b=2.0)), "json"))
    *outer, last = path.split(".")
    inside = document
    for name in outer:
        inside = inside[name]
    if value is ...:
        del inside[last]
    else:
        inside[last] = value
    return json.dumps(document)


BAD_FIELDS = [
    ("format", "something", "format"), ("format", ..., "format"), ("format", 1, "format"),
    ("version", 3, "reads 1 to 2"), ("version", 0, "reads 1 to 2"),
    ("version", True, "reads 1"), ("version", "1", "reads 1"), ("version", 1.0, "reads 1"),
    ("version", ..., "reads 1"), ("ntkengine", 3, "ntkengine"), ("kind", "NTK", "kind"), ("kind", None, "kind"),
    ("target", ..., '"target" is missing'), ("max_error", -1.0, "max_error"), ("max_error", "0", "max_error"),
    ("rms_error", True, "rms_error"), ("rms_error", [1], "rms_error"), ("extra", 1, "unknown field 'extra'"),
    ("activation", "relu", "activation"), ("activation.name", 5, "activation.name"),
    ("activation.name", "nothing", "unknown activation"), ("activation.name", ..., '"activation.name" is missing'),
    ("activation.formula", "z", "unknown field 'activation.name'"), ("activation.extra", 1, "activation.extra"),
    ("activation.parameters", [1], "activation.parameters"), ("activation.parameters.q", 1.0, "no parameter 'q'"),
    ("activation.parameters.b", "2", "activation.parameters.b"), ("activation.parameters.b", None, "activation.parameters.b"),
    ("activation.parameters.b", True, "activation.parameters.b"), ("activation.parameters.b", 1e6, "allowed"),
    ("activation.parameters.b", [1.0], "'b'"), ("activation.parameters.b", [True], "activation.parameters.b"),
    ("activation.parameters.b", {"x": 1}, "activation.parameters.b"), ("network", [], "network"),
    ("network.depth", 1.0, "network.depth"), ("network.depth", True, "network.depth"), ("network.depth", 0, "depth"),
    ("network.w_std", 0, "w_std"), ("network.w_std", "1", "network.w_std"), ("network.b_std", -0.1, "b_std"),
    ("network.b_std", ..., '"network.b_std" is missing'), ("network.radial_lift", 1, "network.radial_lift"),
    ("network.radial_lift", None, "network.radial_lift"), ("network.parameterization", "mup", "parameterization"),
    ("network.width", 10, "width"), ("network.width", "10", "network.width"),
    ("network.activation", "relu", "network.activation"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "words"), BAD_FIELDS)
def test_bad_fields_are_named(path, value, words):
    with pytest.raises(InputError, match=re.escape(words)):
        read_json(changed(path, value))


def with_formula(formula, **parameters):
    document = json.loads(changed("activation", {"formula": formula, "parameters": parameters}))
    return json.dumps(document)


def with_number(path, text):
    return changed(path, 0.12345).replace("0.12345", text)


BAD_TEXTS = [
    ("{", "not JSON"), ("{}", "format"), ('{"format": 1e', "not JSON"), ("{" + "[" * 100_000, "JSON"),
    (with_number("max_error", "NaN"), "NaN"), (with_number("max_error", "-Infinity"), "Infinity"),
    (with_number("max_error", "1e999"), "max_error"), (with_number("max_error", "9" * 5000), "JSON"),
    (with_number("network.w_std", "1e999"), "w_std"),
    (with_number("network.w_std", "1" + "0" * 400), "w_std"),
    (changed("kind", "ntk").replace('"kind":', '"kind": "nngp", "kind":'), "twice"),
    (with_formula("__import__('os').system('true')"), "formula"), (with_formula("z.real"), "formula"),
    (with_formula("z*" * 1500 + "z"), "2000"), (with_formula("a*z"), "needs values"), (with_formula("a*z", a=[1.0]), "'a'"),
    (with_formula("z", b=1.0), "no parameter"), (with_formula("1/z"), "finite"), (with_formula(""), "empty"),
    ("", "source"), ("no such file.json", "cannot be read"), (b"{}", "source"), (None, "source"), (7, "source"),
    ("a\0b", "cannot be read"), ("[1, 2]", "cannot be read"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), BAD_TEXTS, ids=lambda value: repr(value)[:40])
def test_bad_texts_are_refused(text, words):
    with pytest.raises(InputError, match=re.escape(words)):
        read_json(text)


def test_bad_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_json(tmp_path)
    path = tmp_path / "design.json"
    path.write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(InputError, match="not UTF-8"):
        read_json(path)
    path.write_text("[1, 2]")
    with pytest.raises(InputError, match="not an exported design"):
        read_json(path)
    path.write_text("\ufeff" + export(design(activation("relu")), "json"), encoding="utf-8")
    assert read_json(path) == nk.FCN("relu")


@pytest.mark.parametrize("variance", [1.0, 4.0])
def test_the_variance_of_a_hermite_series_is_written_and_needed(variance):
    phi = activation("hermite", coefficients=[0.0, 1.0, 0.5], variance=variance)
    document = json.loads(export(design(phi), "json"))
    assert document["version"] == 2
    assert document["activation"]["parameters"].pop("variance") == variance
    with pytest.raises(InputError, match=r"activation\.parameters\.variance. is missing"):
        read_json(json.dumps(document))
    document["version"] = 1  # such files have no variance where it is 1
    assert read_json(json.dumps(document)).activation == activation("hermite", coefficients=[0.0, 1.0, 0.5])


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=4) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
PATHS = [
    "kind", "max_error", "activation", "activation.name", "activation.parameters", "activation.parameters.b", "network",
    "network.depth", "network.w_std", "network.radial_lift", "network.width",
]  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(JSON_VALUES, st.sampled_from(PATHS))
def test_whatever_stands_in_a_field_it_is_read_or_refused(value, path):
    try:
        read = read_json(changed(path, value))
    except InputError:
        return
    assert isinstance(read, nk.FCN)
