"""Activation functions: the contract (:mod:`.base`) and the built-in families (:mod:`.builtin`)."""

from ntkengine.activations.base import Activation, ActivationFamily, Kink, Parameter, activation, registry

__all__ = ["Activation", "ActivationFamily", "Kink", "Parameter", "activation", "registry"]

#: Names of the built-in families; ``builtin.py`` defines ``<name>_family`` for each.
BUILTIN_NAMES = (
    "abrelu",
    "abs",
    "cos",
    "erf",
    "exp",
    "gaussian",
    "gelu",
    "identity",
    "leaky_relu",
    "rbf",
    "relu",
    "relu2_cos",
    "relu_cos",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "softplus",
    "step",
    "tanh",
)
