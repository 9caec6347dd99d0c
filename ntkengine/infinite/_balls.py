"""Kernels of networks as power series in ball arithmetic: activations whose dual has a closed form.

Where coefficients fall geometrically (erf, sin, Gaussian networks) the sum of the theorem needs them far below the rounding of
K, which Cauchy's integral in float64 cannot give. At a given variance q every dual is a function of ρ alone; the formulas
are those of :mod:`ntkengine.activations._duals`, at equal variances. Here they are plain values: precision makes up for what
cancels, and what is 0 by parity stays an exact 0, where the gaps of :mod:`ntkengine.infinite._complex`, which keep digits in
float64, would leave a ball around it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ntkengine.activations import _duals

if TYPE_CHECKING:
    from ntkengine.infinite.fcn import NetworkKernel

__all__ = ["has_balls", "network_series"]


def _linear(rho: Any, q: Any, negative: Any, positive: Any) -> tuple[Any, Any]:
    from flint import arb

    turn, pi = rho.acos(), arb.pi()
    both, cross = negative * negative + positive * positive, 2 * negative * positive
    root = (1 - rho * rho).sqrt()
    value = both * (root + (pi - turn) * rho) - cross * (root - turn * rho)
    return value * q * (1 / (2 * pi)), (both * (pi - turn) + cross * turn) * (1 / (2 * pi))


def _erf(rho: Any, q: Any, a: Any, b: Any, c: Any) -> tuple[Any, Any]:
    from flint import arb

    x = 2 * b * b * q
    s = rho * (x / (1 + x))
    scale = 2 * a * a / arb.pi()
    return s.asin() * scale + c * c, (1 - s * s).rsqrt() * (scale * 2 * b * b / (1 + x))


def _wave(rho: Any, q: Any, size: Any, rate: Any, side: Any) -> tuple[Any, Any]:
    # G = size (X + side Y), X = e^{−rate q (1 − ρ)}, Y = e^{−rate q (1 + ρ)}; side is −cos 2c of a sine, cos 2c of a cosine.
    near, far = ((rho - 1) * (rate * q)).exp(), ((-1 - rho) * (rate * q)).exp() * side
    return (near + far) * size, (near - far) * (size * rate)


def _sin(rho: Any, q: Any, a: Any, b: Any, c: Any) -> tuple[Any, Any]:
    return _wave(rho, q, a * a / 2, b * b, -(2 * c).cos())


def _cos(rho: Any, q: Any, a: Any, b: Any, c: Any) -> tuple[Any, Any]:
    return _wave(rho, q, a * a / 2, b * b, (2 * c).cos())


def _exp(rho: Any, q: Any, a: Any, b: Any) -> tuple[Any, Any]:
    value = ((rho + 1) * (b * b * q)).exp() * (a * a)
    return value, value * (b * b)


def _gaussian(rho: Any, q: Any, a: Any, b: Any) -> tuple[Any, Any]:
    root = ((1 - 2 * b * q) * (1 - 2 * b * q) - (rho * (2 * b * q)) * (rho * (2 * b * q))).rsqrt()
    return root * (a * a), rho * root * root * root * (4 * a * a * b * b * q)


#: (ρ, q, parameters) -> (E[φφ], E[φ'φ']) for balls and for series of balls, by the family's own closed form in float64, so that
#: a plugin of the same name is not taken for a built-in activation. Polynomials (identity too) go by their coefficients.
_DUALS: dict[Callable[..., Any] | None, Callable[..., tuple[Any, Any]]] = {
    _duals.relu_dual: lambda rho, q: _linear(rho, q, 0 * q, 0 * q + 1),
    _duals.abs_dual: lambda rho, q: _linear(rho, q, 0 * q - 1, 0 * q + 1),
    _duals.leaky_relu_dual: lambda rho, q, slope: _linear(rho, q, slope, 0 * q + 1),
    _duals.abrelu_dual: _linear,
    _duals.erf_dual: _erf,
    _duals.sin_dual: _sin,
    _duals.cos_dual: _cos,
    _duals.rbf_dual: lambda rho, q, gamma: _wave(rho, q, 0 * q + 1, 2 * gamma, 0 * q),
    _duals.exp_dual: _exp,
    _duals.gaussian_dual: _gaussian,
}


def _polynomial(a: Sequence[float]) -> Callable[..., tuple[Any, Any]]:
    def dual(rho: Any, q: Any) -> tuple[Any, Any]:
        from flint import arb

        value, slope = rho * 0, rho * 0
        for k in range(len(a) - 1, -1, -1):
            square = arb(a[k]) * arb(a[k])
            value = value * rho + square
            if k:
                slope = slope * rho + square * k
        return value, slope * (1 / q)

    return dual


def has_balls(kernel: NetworkKernel) -> bool:
    """Whether :func:`network_series` knows the network's activation."""
    family = kernel.fcn.activation.family
    return family.dual in _DUALS or family.finite_degree is not None


def network_series(kernel: NetworkKernel, x: Any) -> Any:
    """K of a series of balls (arb_series) for the cosine; None where the dual has no closed form here."""
    from flint import arb

    if not has_balls(kernel):
        return None
    fcn = kernel.fcn
    phi = fcn.activation
    parameters = [arb(float(v)) for v in phi.values] if phi.family.finite_degree is None else []

    def square(value: float) -> Any:
        return arb(value) * arb(value)

    w2, b2 = square(fcn.w_std * kernel.radius), square(fcn.b_std)
    q = w2 + b2
    rho, one = (x * w2 + b2) * (1 / q), arb(1)
    start, shift = kernel._start
    theta = (rho * q - b2) * arb(float(start)) + arb(float(shift))
    for (w_std, b_std), (weight, add), variance in zip(fcn.layer_stds(), kernel._rules, kernel.variances):
        if phi.family.finite_degree is None:
            dual = _DUALS[phi.family.dual]
        else:
            top = max(phi.family.finite_degree(np.array(phi.values)), 1)
            dual = _polynomial(phi.hermite(top, variance).tolist())
        w2, b2 = square(w_std), square(b_std)
        value, slope = dual(rho, q, *parameters)
        sigma = value * w2 + b2
        theta = value * arb(float(weight)) + arb(float(add)) + theta * slope * w2
        q = dual(one, q, *parameters)[0] * w2 + b2
        rho = sigma * (1 / q)
    return sigma if kernel.kind == "nngp" else theta
