"""The built-in families of kernels: formula, parameters with bounds, and source. Lengths are in units of the sphere's radius.

Dot products c are those of unit vectors, their distance is r = √(2(1 − c)).
"""

from __future__ import annotations

import math

from ntkengine.errors import InputError
from ntkengine.kernels.algebra import Composition, Scaled
from ntkengine.kernels.angular import ArcCosine, Chebyshev
from ntkengine.kernels.base import DotProductKernel
from ntkengine.kernels.families import KernelFamily
from ntkengine.kernels.formula import FormulaKernel
from ntkengine.parameters import Parameter

RASMUSSEN = "Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006, section 4.2"

length = Parameter("length", 1.0, 1e-3, 1e3, "length scale ℓ")
rate = Parameter("rate", 1.0, 0.0, 700.0, "factor of c inside")
offset = Parameter("offset", 1.0, 0.0, 1e6, "constant added to c")
degree = Parameter("degree", math.nan, 0, 512, "power, a whole number", integer=True)

linear_family = KernelFamily(
    "linear",
    "c + offset",
    [Parameter("offset", 0.0, 0.0, 1e6, "constant part")],
    citation="the kernel of linear regression, with a prior on the constant",
)

polynomial_family = KernelFamily(
    "polynomial",
    lambda degree, offset: f"(c + offset)**{degree}" if degree else "1",
    [degree, offset],
    citation=RASMUSSEN + ".2",
)

monomial_family = KernelFamily(
    "monomial",
    lambda degree: f"c**{degree}" if degree else "1",
    [degree],
    citation="Schoenberg, Positive definite functions on spheres, Duke Math. J. 9, 1942",
)

exponential_family = KernelFamily(
    "exponential",
    "exp(rate*c)",
    [rate],
    citation="Smola, Óvári & Williamson, Regularization with dot-product kernels, NeurIPS 2000",
)

sinh_family = KernelFamily("sinh", "sinh(rate*c)", [rate], citation="the odd part of exponential")

cosh_family = KernelFamily("cosh", "cosh(rate*c)", [rate], citation="the even part of exponential")

geometric_family = KernelFamily(
    "geometric",
    "1/(1 - rate*c)",
    [Parameter("rate", 0.5, 0.0, 0.999999, "ratio of a coefficient to the one before")],
    citation="Smola, Óvári & Williamson, Regularization with dot-product kernels, NeurIPS 2000",
)

gaussian_family = KernelFamily(  # exp(−γ r²)
    "gaussian",
    "exp(-2*gamma*(1 - c))",
    [Parameter("gamma", 1.0, 0.0, 1e4, "inverse square of a length, 1/(2ℓ²)")],
    citation=RASMUSSEN + ".1",
)

laplace_family = KernelFamily(  # exp(−r/ℓ)
    "laplace",
    "exp(-sqrt(2*(1 - c))/length)",
    [length],
    citation=RASMUSSEN + ".1",
)

matern_family = KernelFamily(  # in x = √(2ν) r/ℓ = 2 √(ν (1 − c))/ℓ
    "matern",
    lambda nu, length: {
        0.5: "exp(-sqrt(2*(1 - c))/length)",
        1.5: "(1 + sqrt(6*(1 - c))/length)*exp(-sqrt(6*(1 - c))/length)",
        2.5: "(1 + sqrt(10*(1 - c))/length + 10*(1 - c)/(3*length**2))*exp(-sqrt(10*(1 - c))/length)",
    }[nu],
    [Parameter("nu", 1.5, doc="smoothness ν", choices=(0.5, 1.5, 2.5)), length],
    citation=RASMUSSEN + ".1, eqs. 4.14-4.17",
)

rational_quadratic_family = KernelFamily(  # (1 + r²/(2αℓ²))^−α
    "rational_quadratic",
    "(1 + (1 - c)/(alpha*length**2))**(-alpha)",
    [Parameter("alpha", 1.0, 1e-3, 1e3, "power of the fall at large distances"), length],
    citation=RASMUSSEN + ".1, eq. 4.19",
)


def _periodic(frequency: int, length: float) -> DotProductKernel:
    return Composition(FormulaKernel("exp(-(1 - c)/length**2)", length=length), Chebyshev(frequency))


periodic_family = KernelFamily(
    "periodic",
    "exp(-2*sin(frequency*θ/2)**2/length**2), θ = arccos c",
    [Parameter("frequency", 1, 1, 64, "periods in 2π of the angle θ", integer=True), length],
    made_of=_periodic,
    citation=RASMUSSEN + ".3, eq. 4.31, with the angle as the input",
)


def _arc_cosine(order: int, depth: int) -> DotProductKernel:
    """``k¹ = J_n(θ)/π, kˡ⁺¹ = kˡ(1)ⁿ J_n(θˡ)/π, cos θˡ = kˡ/kˡ(1)`` (Cho & Saul 2009, eqs. 3, 10 and 11)."""
    layer = ArcCosine(order)
    kernel: DotProductKernel = layer
    at_one, top = 1.0, (1.0, 1.0, 3.0)[order]
    for hidden in range(depth):
        if hidden:
            kernel = Composition(layer, kernel)
        try:
            at_one = at_one**order * top
        except OverflowError:
            at_one = math.inf
    if not math.isfinite(at_one):
        raise InputError(
            f"parameter 'depth' of kernel 'arc_cosine' is {depth}; at order 2 its value at c = 1 is 3^(2^depth − 1), "
            "too large for a 64-bit number: choose a depth below 10"
        )
    return kernel if at_one == 1 else Scaled(kernel, at_one)


arc_cosine_family = KernelFamily(
    "arc_cosine",
    "J_n(θ)/π, θ = arccos c, repeated",
    [
        Parameter("order", 1, 0, 2, "n: 0 for steps, 1 for relu, 2 for relu²", integer=True),
        Parameter("depth", 1, 1, 64, "hidden layers", integer=True),
    ],
    made_of=_arc_cosine,
    citation="Cho & Saul, Kernel Methods for Deep Learning, NeurIPS 2009",
)
