# mypy: disallow-untyped-defs=False, check-untyped-defs=False
"""Smooth activations that are not polynomials and not waves.

Pairs hold back arguments so that no product of 0 and inf arises at ±inf.
"""

from __future__ import annotations

import math

from ntkengine import _scalar
from ntkengine.activations import _duals, _expansions
from ntkengine.activations.base import ActivationFamily, Parameter

_TWO_PER_ROOT_PI = 2 / math.sqrt(math.pi)


def _erf_pair(z, p):
    v = p[1] * z
    slope = p[0] * p[1] * type(z)(_TWO_PER_ROOT_PI)
    return p[0] * _scalar.erf(v) + p[2], slope * _scalar.exp(-v * v)


erf_family = ActivationFamily(
    "erf",
    _erf_pair,
    formula="a*erf(b*z) + c",
    parameters=(
        Parameter.amplitude("a", 1.0),
        Parameter.shift("b", 1.0, "steepness"),
        Parameter.amplitude("c", 0.0),
    ),
    coefficients=lambda p, variance, degree: (
        p[0] * _expansions.erf(p[1], variance, degree) + _expansions.line(p[2], 0.0, variance, degree)
    ),
    dual=_duals.erf_dual,
    moments=_duals.erf_moments,
    citation="Williams, Computing with infinite networks, NeurIPS 1996 (its kernel)",
)


def _gaussian_pair(z, p):
    value = p[0] * _scalar.exp(p[1] * z * z)
    return value, type(z)(2.0) * p[1] * z * value


gaussian_family = ActivationFamily(
    "gaussian",
    _gaussian_pair,
    formula="a*exp(b*z**2)",
    parameters=(
        Parameter.amplitude("a", 1.0),
        Parameter("b", -1.0, -1e3, 0.0, "not positive: moments stay finite"),
    ),
    coefficients=lambda p, variance, degree: p[0] * _expansions.gaussian(p[1], variance, degree),
    dual=_duals.gaussian_dual,
    moments=_duals.gaussian_moments,
)


def _exp_pair(z, p):
    value = p[0] * _scalar.exp(p[1] * z)
    return value, p[1] * value


exp_family = ActivationFamily(
    "exp",
    _exp_pair,
    formula="a*exp(b*z)",
    parameters=(Parameter.amplitude("a", 1.0), Parameter("b", 1.0, -10.0, 10.0, "rate")),
    coefficients=lambda p, variance, degree: p[0] * _expansions.exp(p[1], variance, degree),
    dual=_duals.exp_dual,
    moments=_duals.exp_moments,
    citation="Daniely, Frostig & Singer, Toward deeper understanding of neural networks, NeurIPS 2016",
)


def _gelu_pair(z, p):
    T = type(z)
    v = T(-100.0) if z < T(-100.0) else z  # Φ(−100) is 0, and 0·(−inf) would be NaN
    cdf, density = _scalar.normal(v)
    bounded = T(100.0) if v > T(100.0) else v
    return v * cdf, cdf + bounded * density


gelu_family = ActivationFamily(
    "gelu",
    _gelu_pair,
    formula="z*(1 + erf(z/sqrt(2)))/2",
    coefficients=lambda p, variance, degree: _expansions.gelu(variance, degree),
    dual=_duals.gelu_dual,
    moments=_duals.gelu_moments,
    citation="Hendrycks & Gimpel, Gaussian error linear units, 2016 (arXiv 1606.08415), exact form",
)


def _tanh_pair(z, p):
    value = _scalar.tanh(z)
    return value, type(z)(1.0) - value * value


tanh_family = ActivationFamily("tanh", _tanh_pair, formula="tanh(z)")


def _sigmoid_pair(z, p):
    return _scalar.sigmoid(z)


sigmoid_family = ActivationFamily("sigmoid", _sigmoid_pair, formula="1/(1 + exp(-z))")


def _softplus_pair(z, p):
    return _scalar.softplus(z), _scalar.sigmoid(z)[0]


softplus_family = ActivationFamily("softplus", _softplus_pair, formula="log(1 + exp(z))")


def _silu_pair(z, p):
    T = type(z)
    v = T(-1000.0) if z < T(-1000.0) else z  # the sigmoid is 0 there, and 0·(−inf) would be NaN
    value, slope = _scalar.sigmoid(v)
    bounded = T(1000.0) if v > T(1000.0) else v
    return v * value, value + bounded * slope


silu_family = ActivationFamily(
    "silu",
    _silu_pair,
    formula="z/(1 + exp(-z))",
    citation="Elfwing, Uchibe & Doya, Neural Networks 107 (2018) 3 (arXiv 1702.03118)",
)


def _mish_pair(z, p):
    # With e = exp(-|z|), tanh(softplus(z)) is a quotient of polynomials in e with positive coefficients only.
    T = type(z)
    zero, one, two, far = T(0.0), T(1.0), T(2.0), T(1000.0)
    v = -far if z < -far else z  # the quotient is 0 there, and 0·(−inf) would be NaN
    e = _scalar.exp(-abs(v))
    below, above = e * (e + two), one + two * e
    square = e * e
    r = one / (two + below if v < zero else above + two * square)
    ratio = (below if v < zero else above) * r
    slope = T(4.0) * (one + e) * (e if v < zero else square) * (r * r)
    bounded = far if v > far else v
    return v * ratio, ratio + bounded * slope


mish_family = ActivationFamily(
    "mish",
    _mish_pair,
    formula="z*tanh(log(1 + exp(z)))",
    citation="Misra, Mish: a self regularized non-monotonic activation function, BMVC 2020 (arXiv 1908.08681)",
)
