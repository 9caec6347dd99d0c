"""Activation functions: the contract (:mod:`.base`), families with an array parameter (:mod:`.series`), the built-in ones.

The built-in families read like data: the pair (φ, φ'), the formula, parameters with bounds, kinks, Hermite coefficients and
dual in closed form where there is one, and the source. NaN gives NaN.
"""

from ntkengine.activations.base import Activation, ActivationFamily, Kink, Parameter, activation, registry

__all__ = ["Activation", "ActivationFamily", "Kink", "Parameter", "activation", "registry"]

#: Names of the built-in families by module, which is imported when one is asked for and defines ``<name>_family`` for each.
BUILTINS = {
    "flexible": ("kinks", "spline"),
    "piecewise": ("abrelu", "abs", "elu", "identity", "leaky_relu", "relu", "selu", "sign", "step"),
    "polynomials": ("hermite", "monomial", "polynomial"),
    "tabulated": ("tabulated",),
    "smooth": ("erf", "exp", "gaussian", "gelu", "mish", "sigmoid", "silu", "softplus", "tanh"),
    "waves": ("cos", "rbf", "relu2_cos", "relu_cos", "sin"),
}
BUILTIN_NAMES = tuple(sorted(name for names in BUILTINS.values() for name in names))
