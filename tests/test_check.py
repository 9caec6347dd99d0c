"""Checks of arguments: whatever the value is, the error is an InputError with a text that can be read."""

import re

import numpy as np
import pytest

import ntkengine as nk
from ntkengine._check import integer, shown
from ntkengine.activations import activation, registry
from ntkengine.design.export import export
from ntkengine.errors import InputError
from ntkengine.hermite import check_variance
from ntkengine.parameters import Parameter

#: Python does not write it: "Exceeds the limit (4300 digits) for integer string conversion".
HUGE = 10**5000
SIDES = {name: [0.0, 1.0] for name in ("right_values", "right_slopes", "left_values", "left_slopes")}
CHOSEN = Parameter("p", 1.0, choices=(1.0, 2.0))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (HUGE, "an integer of 16610 bits"),
        (-HUGE, "an integer of 16610 bits"),
        ([HUGE], "a list"),
        ({"a": (HUGE,)}, "a dict"),
        ({HUGE}, "a set"),
        (np.array([HUGE], dtype=object), "<ndarray instance at .*>"),
        ("x" * 500, "'x{37}\\.\\.\\.x{38}'"),
        ([0.5, "a"], r"\[0.5, 'a'\]"),
    ],
    ids=lambda x: x if isinstance(x, str) and len(x) < 60 else type(x).__name__,
)
def test_shown(value, text):
    assert re.fullmatch(text, shown(value)), shown(value)


class Design:
    """All that is read before the format is."""


def _fit(**options):
    from ntkengine.design.fit import fit_activation

    options = {"family": "relu_cos", "starts": 1} | options
    return fit_activation(nk.kernel("exp(c)"), **options)


#: What is called with a value, and the beginning of the error.
CALLS = {
    "integer": (lambda x: integer("degree", [x], 0), "degree must be an integer ≥ 0, not "),
    "variance": (check_variance, "variance is "),
    "parameter": (lambda x: CHOSEN.checked("kernel 'k'", x), "parameter 'p' of kernel 'k' "),
    "activation": (lambda x: activation("sin", b=x), "parameter 'b' of activation 'sin' "),
    "coefficients": (lambda x: activation("polynomial", coefficients={0: x}), "coefficients of .* are "),
    "coefficient": (lambda x: activation("polynomial", coefficients=[0, (x,)]), "coefficients"),
    "series variance": (lambda x: activation("hermite", coefficients=[1], variance=x), "parameter 'variance'"),
    "size of a family": (lambda x: registry.get("kinks").of_size(x), "size of activation 'kinks' "),
    "density": (lambda x: activation("tabulated", **SIDES, density=x), "density "),
    "accuracy": (lambda x: activation("tabulated", **SIDES, accuracy=x), "accuracy of activation 'tabulated' is "),
    "kernel": (lambda x: nk.kernel("a*c", a=x), "parameter 'a' of the kernel 'a\\*c' "),
    "kernel's integer": (lambda x: nk.kernel("arc_cosine", order=x), "parameter 'order' of "),
    "fit: size": (lambda x: _fit(family="kinks", size=x), "size "),
    "fit: size of no size": (lambda x: _fit(size=x), "size is "),
    "fit: family": (lambda x: _fit(family=x), "family is "),
    "fit: bounds": (lambda x: _fit(bounds=x), "bounds is "),
    "fit: a name in bounds": (lambda x: _fit(bounds={(str(type(x)), HUGE): x}), "bounds name "),
    "fit: bounds of a name": (lambda x: _fit(bounds={"a": (0, x)}), "bounds of 'a' are "),
    "fit: penalty": (lambda x: _fit(kurtosis_penalty=x), "kurtosis_penalty is "),
    "fit: kind": (lambda x: _fit(kind=x), "kind is "),
    "kind": (lambda x: nk.FCN("relu").kernel(x), "kind is "),
    "depth": (lambda x: nk.FCN("relu", depth=x), "depth is "),
    "w_std": (lambda x: nk.FCN("relu", w_std=x), "w_std is "),
    "radial_lift": (lambda x: nk.FCN("relu", radial_lift=x), "radial_lift must be True or False, not "),
    "parameterization": (lambda x: nk.FCN("relu", parameterization=x), "parameterization is "),
    "width of no width": (lambda x: nk.FCN("relu", width=x), "width is "),
    "width": (lambda x: nk.FCN("relu", parameterization="standard", width=x), "width "),
    "n_inputs": (lambda x: nk.FCN("relu").kernel(n_inputs=x), "n_inputs "),
    "init: width": (lambda x: nk.FCN("relu").init(x, 3), "width "),
    "init: n_inputs": (lambda x: nk.FCN("relu").init(8, x), "n_inputs "),
    "init: members": (lambda x: nk.FCN("relu").init(8, 3, members=x if x == HUGE else [x]), "members is |a member's number "),
    "init: members twice": (lambda x: nk.FCN("relu").init(8, 3, members=[x, x]), "members must |a member's number "),
    "init: dtype": (lambda x: nk.FCN("relu").init(8, 3, dtype=x), "dtype must be float32 or float64, not "),
    "verify: width": (lambda x: nk.reverse_engineer("exp(c)", degree=3).verify(width=x), "width "),
    "format": (lambda x: export(Design(), x), "format is "),
}  # fmt: skip


@pytest.mark.parametrize("value", [HUGE, [HUGE]], ids=["the integer", "a list"])
@pytest.mark.parametrize("name", CALLS)
def test_a_number_that_cannot_be_written(name, value):
    call, words = CALLS[name]
    with pytest.raises(InputError, match=f"^{words}") as caught:
        call(value)
    assert len(str(caught.value)) < 500
