"""Power series of network kernels: K = Σ_k b_k ρ^k for the NNGP and NTK of a network of any depth.

With one hidden layer the coefficients follow from the Hermite coefficients of the activation (:func:`one_layer`; Simon,
Anand & DeWeese 2022, theorem 3.1). Deeper kernels are compositions: they are evaluated on a circle |ρ| = r < 1 in the complex
plane, layer by layer (:mod:`ntkengine.infinite._complex`), and Cauchy's integral gives the coefficients, to rounding errors
of K (:func:`ntkengine.kernels.taylor.cauchy`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ntkengine import hermite
from ntkengine.errors import NoSeriesError
from ntkengine.infinite import _jumps
from ntkengine.infinite._complex import ComplexDual
from ntkengine.infinite.dual import Dual, jump_part
from ntkengine.kernels.taylor import CHECKED_DEGREE, GROWTH, PowerSeries, cauchy, checked

if TYPE_CHECKING:
    from ntkengine.infinite.fcn import NetworkKernel

__all__ = ["continuation", "network_series", "one_layer", "values_at"]

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

#: A point this far outside the unit disk is rounding.
ROUNDING = 1e-12
_EPS = float(np.finfo(np.float64).eps)


def values_at(kernel: NetworkKernel, delta: Complex) -> tuple[Complex, Array]:
    """The kernel at complex points, and a bound of what the duals' series leave out there.

    Parameters
    ----------
    kernel : NetworkKernel
    delta : (n,) complex array
        1 − ρ, ρ the correlation before the first activation.

    Returns
    -------
    values : (n,) complex array
    error : (n,) array
        From the errors of the duals, to first order; rounding is not in it.
    """
    fcn = kernel.fcn
    b2 = fcn.b_std**2
    sigma = kernel.variances[0] * (1 - delta)
    theta = kernel._start[0] * (sigma - b2) + kernel._start[1]
    error, theta_error = np.zeros(delta.shape), np.zeros(delta.shape)
    made: dict[Dual, ComplexDual] = {}  # layers of one variance share theirs
    for here, (w_std, b_std), (weight, shift) in zip(kernel.duals, fcn.layer_stds(), kernel._rules):
        w2, b2 = w_std**2, b_std**2
        if here not in made:
            made[here] = ComplexDual(here)
        found = made[here].evaluate(delta)
        slope = np.abs(found.derivative)
        value = here.value_at_one - found.gap
        lost = found.error + slope * error
        theta_error = weight * lost + w2 * (slope * theta_error + np.abs(theta) * found.derivative_error)
        error = w2 * lost
        sigma = w2 * value + b2
        theta = weight * value + shift + w2 * theta * found.derivative
        # Not after the product: complex division squares the divisor.
        shrink = w2 / (w2 * here.value_at_one + b2)
        delta = found.gap * shrink
    return (sigma, error) if kernel.kind == "nngp" else (theta, theta_error)


def continuation(kernel: NetworkKernel, c: Complex) -> Complex:
    """The kernel continued analytically to complex cosines, (n,) to (n,).

    Raises
    ------
    NoSeriesError
        If a point has |ρ| > 1, ρ = (σ_w² c + σ_b²)/(σ_w² + σ_b²) that of the network, unless φ is a polynomial.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkengine as nk
    >>> from ntkengine.infinite.power import continuation
    >>> continuation(nk.FCN("identity").kernel("nngp"), np.array([0.5j]))
    array([0.+0.5j])
    """
    delta = (kernel.fcn.w_std * kernel.radius) ** 2 * (1 - c) / kernel.variances[0]
    outside = np.abs(1 - delta) > 1 + ROUNDING
    if outside.any() and not _is_polynomial(kernel):
        raise NoSeriesError(
            f"c has the value {c[outside][0]:.6g}, outside the disk |ρ| <= 1 into which the kernel {kernel.name!r} is "
            f"continued; there ρ = (σ_w² c + σ_b²)/(σ_w² + σ_b²) with the network's own w_std={kernel.fcn.w_std:g}, "
            f"b_std={kernel.fcn.b_std:g}"
        )
    return values_at(kernel, delta)[0]


def network_series(kernel: NetworkKernel, degree: int, w_std: float, b_std: float) -> PowerSeries:
    """The power series of a network kernel; see :meth:`ntkengine.infinite.fcn.NetworkKernel.taylor`.

    Examples
    --------
    >>> import ntkengine as nk
    >>> from ntkengine.infinite.power import network_series
    >>> network_series(nk.FCN("relu", w_std=2**0.5).kernel("nngp"), 4, 1.0, 0.0).round(6)
    array([0.31831 , 0.5     , 0.159155, 0.      , 0.013263])
    """
    degree, w_std, b_std = checked(degree, w_std, b_std)
    own, wanted = (kernel.fcn.b_std / (kernel.fcn.w_std * kernel.radius)) ** 2, (b_std / w_std) ** 2
    offset = (own - wanted) / (1 + own)  # 1 − ρ of the network is (1 − offset)(1 − ρ)
    if abs(offset) <= 4 * _EPS:
        offset = 0.0
    if offset < 0 and not _is_polynomial(kernel):
        raise NoSeriesError(
            f"b_std/w_std is {b_std:g}/{w_std:g}, larger than the network's own {math.sqrt(own):.6g}: the kernel "
            f"{kernel.name!r} need not be analytic in |ρ| < 1, ρ = (σ_w² c + σ_b²)/(σ_w² + σ_b²), so it has no power series "
            f"there; choose b_std <= {math.sqrt(own):.6g}·w_std (b_std=0 always serves), or a network with larger b_std"
        )
    if kernel.fcn.depth == 1 and offset == 0:
        b, error = one_layer(kernel, degree)
    else:
        b, error = _on_a_circle(kernel, degree, 1 - offset)
    b[np.abs(b) <= error] = 0.0
    return PowerSeries(b, error, kernel.value_at_one - math.fsum(b))


def _is_polynomial(kernel: NetworkKernel) -> bool:
    return kernel.fcn.activation.family.finite_degree is not None


def _on_a_circle(kernel: NetworkKernel, degree: int, scale: float) -> tuple[Array, Array]:
    """Coefficients and errors by Cauchy's integral, in ρ with 1 − ρ¹ = scale (1 − ρ)."""
    left_out = 0.0

    def function(rho: Complex) -> Complex:
        nonlocal left_out
        values, lost = values_at(kernel, scale * (1 - rho))
        left_out = float(lost.mean())  # |b_k| r^k is at most the mean of |K| over the circle
        return values

    b, error = cauchy(function, degree, f"the kernel {kernel.name!r}")
    k = np.arange(degree + 1)
    error += left_out * GROWTH ** (k / max(degree, CHECKED_DEGREE))
    # A layer's rounding of E[φφ] at all points alike moves b_0, and what follows by its derivative.
    error += kernel.fcn.depth * _EPS * (k + 1) * np.abs(b)
    error[0] += kernel.fcn.depth * _EPS * kernel.value_at_one
    return b, error


# --- one hidden layer -------------------------------------------------------------------------------------------


def _coefficients(here: Dual, degree: int) -> tuple[Array, Array]:
    """a_k(q) and their errors, each (degree+1,)."""
    activation, q = here.activation, here.variance
    size, k = math.sqrt(here.value_at_one), np.arange(degree + 1)
    if activation.family.coefficients is not None:
        a = hermite.expand(activation, degree, q)
        envelope = np.abs(a)
        envelope[1:-1] = np.maximum(envelope[1:-1], np.maximum(envelope[:-2], envelope[2:]))
        exact = 0.0 if activation.family.finite_degree is None else 0.5 * _EPS * size
        return a, np.asarray((4 + k) * _EPS * envelope + exact)
    root = math.sqrt(q)
    breaks = tuple(kink.location / root for kink in activation.kinks)
    a, error = hermite.project(lambda z: np.asarray(activation(root * z), dtype=np.float64), breaks, degree)
    return a, np.full(degree + 1, max(error, 4 * _EPS) * size)


def one_layer(kernel: NetworkKernel, degree: int) -> tuple[Array, Array]:
    """Coefficients b_k of a kernel with one hidden layer in the network's own ρ, and their errors, each (degree+1,).

    With ``E[φφ] = Σ A_k² ρ^k``, ``q E[φ'φ'] = Σ D_k² ρ^k``, ``D_k = √(k+1) A_{k+1}`` (less what a jump of φ adds to A: φ' is
    the derivative almost everywhere) and ``Θ¹ = α (qρ − σ_b²) + β``,

        K = α' Σ A_k² ρ^k + β' + ω_w² (α ρ + (β − α σ_b²)/q) Σ D_k² ρ^k.

    In the NTK parametrisation α = 1, β = σ_b²: the theorem ``b_k = ω_w² (1 + k) A_k²`` (plus ω_b² in b_0).

    Examples
    --------
    >>> import ntkengine as nk
    >>> from ntkengine.infinite.power import one_layer
    >>> b, error = one_layer(nk.FCN("sin").kernel("ntk"), 5)
    >>> (b * [1, 1, 1, 1.5, 1, 20]).round(6)                              # (1 + k) e^−1/k! for odd k
    array([0.      , 0.735759, 0.      , 0.367879, 0.      , 0.367879])
    """
    fcn, here = kernel.fcn, kernel.duals[0]
    ((w_std, b_std),), ((weight, shift),) = fcn.layer_stds(), kernel._rules
    a, error = _coefficients(here, degree + 1)
    if kernel.kind == "nngp":
        weight, shift = w_std**2, b_std**2
    b, b_error = weight * a[:-1] ** 2, weight * (2 * np.abs(a[:-1]) + error[:-1]) * error[:-1]
    b[0] += shift
    if kernel.kind == "ntk":
        root = np.sqrt(np.arange(1.0, degree + 2))
        locations, jumps = jump_part(here.activation, here.variance, 1)
        steps = np.zeros(degree + 2)
        _jumps.split_coefficients(locations, jumps, steps, np.empty(degree + 2))
        slope, slope_error = root * (a - steps)[1:], root * error[1:]
        square, square_error = slope**2, (2 * np.abs(slope) + slope_error) * slope_error
        start, constant = kernel._start[0], kernel._start[1] - kernel._start[0] * fcn.b_std**2
        b[1:] += w_std**2 * start * square[:-1]
        b += w_std**2 * constant / here.variance * square
        b_error[1:] += w_std**2 * start * square_error[:-1]
        b_error += w_std**2 * abs(constant) / here.variance * square_error
    return b, b_error + _EPS * np.abs(b)
