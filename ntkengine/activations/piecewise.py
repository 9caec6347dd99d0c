# mypy: disallow-untyped-defs=False, check-untyped-defs=False
"""Activations in pieces: linear, constant or exponential between kinks.

At a kink φ' is the left derivative (relu: 0), except for ``abs``, ``sign`` and ``step``, whose φ' is 0 there.
Pairs are written without branches that load, divide or call, so that their tiles vectorise: parameters used under a condition
are read before it.
"""

from __future__ import annotations

from ntkengine import _scalar
from ntkengine.activations import _duals, _expansions
from ntkengine.activations.base import ActivationFamily, Kink, Parameter


def _identity_pair(z, p):
    return z, type(z)(1.0)


identity_family = ActivationFamily(
    "identity",
    _identity_pair,
    formula="z",
    finite_degree=lambda p: 1,
    coefficients=lambda p, variance, degree: _expansions.line(0.0, 1.0, variance, degree),
    dual=_duals.identity_dual,
    moments=_duals.identity_moments,
)


def _relu_pair(z, p):
    T = type(z)
    zero = T(0.0)
    return zero if z < zero else z, T(1.0) if z > zero else zero


relu_family = ActivationFamily(
    "relu",
    _relu_pair,
    formula="max(z, 0)",
    kinks=lambda p: [Kink(0.0, slope_jump=1.0)],
    coefficients=lambda p, variance, degree: _expansions.relu(0.0, variance, degree),
    dual=_duals.relu_dual,
    moments=_duals.relu_moments,
    citation="Cho & Saul, Kernel methods for deep learning, NeurIPS 2009 (its kernel)",
)


def _leaky_relu_pair(z, p):
    T = type(z)
    below = p[0]
    slope = T(1.0) if z > T(0.0) else below
    return slope * z, slope


leaky_relu_family = ActivationFamily(
    "leaky_relu",
    _leaky_relu_pair,
    formula="max(z, 0) + slope*min(z, 0)",
    parameters=(Parameter.amplitude("slope", 0.01, "slope for z < 0"),),
    kinks=lambda p: [Kink(0.0, slope_jump=1.0 - p[0])],
    coefficients=lambda p, variance, degree: (
        _expansions.line(0.0, p[0], variance, degree) + (1 - p[0]) * _expansions.relu(0.0, variance, degree)
    ),
    dual=_duals.leaky_relu_dual,
    moments=_duals.leaky_relu_moments,
    citation="Maas, Hannun & Ng, Rectifier nonlinearities improve neural network acoustic models, 2013",
)


def _abrelu_pair(z, p):
    a, b = p[0], p[1]
    slope = b if z > type(z)(0.0) else a
    return slope * z, slope


abrelu_family = ActivationFamily(
    "abrelu",
    _abrelu_pair,
    formula="a*min(z, 0) + b*max(z, 0)",
    parameters=(
        Parameter.amplitude("a", -1.0, "slope for z < 0"),
        Parameter.amplitude("b", 1.0, "slope for z > 0"),
    ),
    kinks=lambda p: [Kink(0.0, slope_jump=p[1] - p[0])],
    coefficients=lambda p, variance, degree: (
        _expansions.line(0.0, p[0], variance, degree)
        + (p[1] - p[0]) * _expansions.relu(0.0, variance, degree)
    ),
    dual=_duals.abrelu_dual,
    moments=_duals.abrelu_moments,
)


def _abs_pair(z, p):
    T = type(z)
    zero, one = T(0.0), T(1.0)
    return abs(z), one if z > zero else (-one if z < zero else zero)


abs_family = ActivationFamily(
    "abs",
    _abs_pair,
    formula="abs(z)",
    kinks=lambda p: [Kink(0.0, slope_jump=2.0)],
    coefficients=lambda p, variance, degree: (
        2 * _expansions.relu(0.0, variance, degree) - _expansions.line(0.0, 1.0, variance, degree)
    ),
    dual=_duals.abs_dual,
    moments=_duals.abs_moments,
)


def _sign_pair(z, p):
    T = type(z)
    zero, one = T(0.0), T(1.0)
    return one if z > zero else (-one if z < zero else z), zero


sign_family = ActivationFamily(
    "sign",
    _sign_pair,
    formula="sign(z)",
    kinks=lambda p: [Kink(0.0, jump=2.0)],
    coefficients=lambda p, variance, degree: (
        2 * _expansions.step(0.0, variance, degree) - _expansions.unit(0, degree)
    ),
    dual=_duals.sign_dual,
    moments=_duals.sign_moments,
)


def _step_pair(z, p):
    T = type(z)
    zero, one = T(0.0), T(1.0)
    return one if z > zero else (zero if z <= zero else z), zero


step_family = ActivationFamily(
    "step",
    _step_pair,
    formula="step(z)",
    kinks=lambda p: [Kink(0.0, jump=1.0)],
    coefficients=lambda p, variance, degree: _expansions.step(0.0, variance, degree),
    dual=_duals.step_dual,
    moments=_duals.step_moments,
    citation="Cho & Saul, Kernel methods for deep learning, NeurIPS 2009 (its kernel)",
)


def _elu_pair(z, p):
    T = type(z)
    alpha, zero, one = p[0], T(0.0), T(1.0)
    v = zero if z > zero else z
    below, slope = alpha * _scalar.expm1(v), alpha * _scalar.exp(v)
    return z if z > zero else below, one if z > zero else slope


elu_family = ActivationFamily(
    "elu",
    _elu_pair,
    formula="max(z, 0) + alpha*(exp(min(z, 0)) - 1)",
    parameters=(Parameter.amplitude("alpha", 1.0, "-alpha is the limit at -inf"),),
    kinks=lambda p: [Kink(0.0, 0.0, 1.0 - p[0], -p[0], -p[0])],
    citation="Clevert, Unterthiner & Hochreiter, Exponential linear units, ICLR 2016 (arXiv 1511.07289)",
)

_SELU_SCALE = 1.0507009873554804934193349852946
_SELU_BELOW = 1.7580993408473768599402175208123


def _selu_pair(z, p):
    T = type(z)
    scale, below, zero = T(_SELU_SCALE), T(_SELU_BELOW), T(0.0)
    v = zero if z > zero else z
    value, slope = below * _scalar.expm1(v), below * _scalar.exp(v)
    return scale * z if z > zero else value, scale if z > zero else slope


selu_family = ActivationFamily(
    "selu",
    _selu_pair,
    formula="1.0507009873554805*max(z, 0) + 1.7580993408473768*(exp(min(z, 0)) - 1)",
    kinks=lambda p: [Kink(0.0, 0.0, _SELU_SCALE - _SELU_BELOW, -_SELU_BELOW, -_SELU_BELOW)],
    citation="Klambauer et al., Self-normalizing neural networks, NeurIPS 2017 (arXiv 1706.02515)",
)
