"""The functions of the formula language in the complex plane and on power series in ball arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from ntkengine.formula import _symbols as fn

__all__ = ["COMPLEX", "SERIES", "root"]

Table = dict[Any, Callable[..., Any]]


def _softplus(x: Any) -> Any:
    return np.where(x.real > 0, x, 0) + np.log1p(np.exp(np.where(x.real > 0, -x, x)))


#: NumPy's functions, elementwise in complex128, on their principal branches.
COMPLEX: Table = {
    fn.Exp: np.exp,
    fn.Log: np.log,
    fn.Sqrt: np.sqrt,
    fn.Sin: np.sin,
    fn.Cos: np.cos,
    fn.Tan: np.tan,
    fn.Sinh: np.sinh,
    fn.Cosh: np.cosh,
    fn.Tanh: np.tanh,
    fn.Erf: special.erf,
    fn.Sigmoid: lambda x: 0.5 + 0.5 * np.tanh(0.5 * x),
    fn.Softplus: _softplus,
    fn.Gelu: lambda x: 0.5 * x * special.erfc(-x * math.sqrt(0.5)),
}


def root(x: Any) -> Any:
    """√x of a series; that of the zero series is itself."""
    return x.sqrt() if x.length() else x


def _of_parity(even: bool, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """An even or odd function whose coefficients that vanish by symmetry are 0, not balls around 0."""

    def apply(x: Any) -> Any:
        from flint import arb_series

        coefficients = x.coeffs()
        y = function(x)
        if any(c != 0 for c in coefficients[1::2]):  # not even
            if any(c != 0 for c in coefficients[::2]):
                return y
            return arb_series([b if (k % 2 == 0) == even else 0 for k, b in enumerate(y.coeffs())])
        return arb_series([b if k % 2 == 0 else 0 for k, b in enumerate(y.coeffs())])

    return apply


def _tanh(x: Any) -> Any:
    return 2 / (1 + (-2 * x).exp()) - 1


def _sigmoid(x: Any) -> Any:
    return (1 + SERIES[fn.Tanh](x / 2)) / 2


def _softplus_series(x: Any) -> Any:
    return x / 2 + (2 * SERIES[fn.Cosh](x / 2)).log()


def _gelu(x: Any) -> Any:
    from flint import arb

    return x * (1 + (x / arb(2).sqrt()).erf()) / 2


#: flint's power series whose coefficients are balls.
SERIES: Table = {
    fn.Exp: lambda x: x.exp(),
    fn.Log: lambda x: x.log(),
    fn.Sqrt: root,
    fn.Sin: _of_parity(False, lambda x: x.sin()),
    fn.Cos: _of_parity(True, lambda x: x.cos()),
    fn.Tan: _of_parity(False, lambda x: x.tan()),
    fn.Sinh: _of_parity(False, lambda x: (x.exp() - (-x).exp()) / 2),
    fn.Cosh: _of_parity(True, lambda x: (x.exp() + (-x).exp()) / 2),
    fn.Tanh: _of_parity(False, _tanh),
    fn.Erf: _of_parity(False, lambda x: x.erf()),
    fn.Sigmoid: _sigmoid,
    fn.Softplus: _softplus_series,
    fn.Gelu: _gelu,
}
