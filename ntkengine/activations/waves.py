# mypy: disallow-untyped-defs=False, check-untyped-defs=False
"""Activations made of sines and cosines, and the parametric families of the reverse-engineering paper.

At a kink φ' is the left derivative.
"""

from __future__ import annotations

import math

import numpy as np

from ntkengine import _scalar
from ntkengine.activations import _duals, _expansions
from ntkengine.activations.base import ActivationFamily, Kink, Parameter


def _sin_pair(z, p):
    sine, cosine = _scalar.sincos(p[1] * z + p[2])
    return p[0] * sine, p[0] * p[1] * cosine


sin_family = ActivationFamily(
    "sin",
    _sin_pair,
    formula="a*sin(b*z + c)",
    parameters=(
        Parameter.amplitude("a", 1.0),
        Parameter.frequency("b", 1.0, "frequency"),
        Parameter.shift("c", 0.0, "phase"),
    ),
    coefficients=lambda p, variance, degree: p[0] * _expansions.wave(p[1], p[2], -1, variance, degree),
    dual=_duals.sin_dual,
    moments=_duals.sin_moments,
)


def _cos_pair(z, p):
    sine, cosine = _scalar.sincos(p[1] * z + p[2])
    return p[0] * cosine, -p[0] * p[1] * sine


cos_family = ActivationFamily(
    "cos",
    _cos_pair,
    formula="a*cos(b*z + c)",
    parameters=(
        Parameter.amplitude("a", 1.0),
        Parameter.frequency("b", 1.0, "frequency"),
        Parameter.shift("c", 0.0, "phase"),
    ),
    coefficients=lambda p, variance, degree: p[0] * _expansions.wave(p[1], p[2], 0, variance, degree),
    dual=_duals.cos_dual,
    moments=_duals.cos_moments,
)

_ROOT_TWO, _QUARTER_PI = math.sqrt(2), math.pi / 4


def _rbf_pair(z, p):
    T = type(z)
    amplitude, frequency = T(_ROOT_TWO), T(_ROOT_TWO) * np.sqrt(p[0])
    sine, cosine = _scalar.sincos(frequency * z + T(_QUARTER_PI))
    return amplitude * sine, amplitude * frequency * cosine


rbf_family = ActivationFamily(
    "rbf",
    _rbf_pair,
    formula="sqrt(2)*sin(sqrt(2*gamma)*z + pi/4)",
    parameters=(Parameter("gamma", 1.0, 0.0, 1e4, "E[φ(u)φ(v)] = exp(-gamma*E[(u - v)²])"),),
    coefficients=lambda p, variance, degree: (
        _ROOT_TWO * _expansions.wave(math.sqrt(2 * p[0]), _QUARTER_PI, -1, variance, degree)
    ),
    dual=_duals.rbf_dual,
    moments=_duals.rbf_moments,
    citation="Rahimi & Recht, Random features for large-scale kernel machines, NeurIPS 2007",
)

_RE = "Simon, Anand & DeWeese, Reverse engineering the neural tangent kernel, ICML 2022 (arXiv 2106.03186)"


def _relu_cos_pair(z, p):
    a, zero = p[0], type(z)(0.0)
    v = z - p[1]
    sine, cosine = _scalar.sincos(p[5] * z + p[6])
    phi = a * (zero if v < zero else v) + p[2] * z + p[3] + p[4] * cosine
    return phi, (a if v > zero else zero) + p[2] - p[4] * p[5] * sine


relu_cos_family = ActivationFamily(
    "relu_cos",
    _relu_cos_pair,
    formula="a*max(z - b, 0) + c*z + d + e*cos(f*z + g)",
    parameters=(
        Parameter.amplitude("a", 3.80016),
        Parameter.shift("b", 1.06000, "kink"),
        Parameter.amplitude("c", 0.0968093),
        Parameter.amplitude("d", 0.901006),
        Parameter.amplitude("e", -0.0793610),
        Parameter("f", 11.81057, 0.0, 40.0, "frequency"),
        Parameter.shift("g", 0.934055, "phase"),
    ),
    kinks=lambda p: [Kink(p[1], slope_jump=p[0])],
    coefficients=lambda p, variance, degree: (
        p[0] * _expansions.relu(p[1], variance, degree)
        + _expansions.line(p[3], p[2], variance, degree)
        + p[4] * _expansions.wave(p[5], p[6], 0, variance, degree)
    ),
    citation=_RE,
)


def _relu2_cos_pair(z, p):
    a, a2, zero = p[0], p[2], type(z)(0.0)
    v, v2 = z - p[1], z - p[3]
    sine, cosine = _scalar.sincos(p[7] * z + p[8])
    phi = a * (zero if v < zero else v) + a2 * (zero if v2 < zero else v2) + p[4] * z + p[5] + p[6] * cosine
    return phi, (a if v > zero else zero) + (a2 if v2 > zero else zero) + p[4] - p[6] * p[7] * sine


relu2_cos_family = ActivationFamily(
    "relu2_cos",
    _relu2_cos_pair,
    formula="a*max(z - b, 0) + a2*max(z - b2, 0) + c*z + d + e*cos(f*z + g)",
    parameters=(
        Parameter.amplitude("a", 3.80016),
        Parameter.shift("b", 1.06000, "first kink"),
        Parameter.amplitude("a2", 0.1),
        Parameter.shift("b2", 0.0, "second kink"),
        Parameter.amplitude("c", 0.0968093),
        Parameter.amplitude("d", 0.901006),
        Parameter.amplitude("e", -0.0793610),
        Parameter("f", 11.81057, 0.0, 40.0, "frequency"),
        Parameter.shift("g", 0.934055, "phase"),
    ),
    kinks=lambda p: [Kink(p[1], slope_jump=p[0]), Kink(p[3], slope_jump=p[2])],
    coefficients=lambda p, variance, degree: (
        p[0] * _expansions.relu(p[1], variance, degree)
        + p[2] * _expansions.relu(p[3], variance, degree)
        + _expansions.line(p[5], p[4], variance, degree)
        + p[6] * _expansions.wave(p[7], p[8], 0, variance, degree)
    ),
    citation=_RE + ", with one more shifted ReLU",
)
