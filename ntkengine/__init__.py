"""ntkengine: design a neural network by designing its kernel.

From a kernel (an architecture's NNGP or neural tangent kernel) to the activation function that gives a one-hidden-layer
network that kernel, checked at finite width and trained. Names are imported when first used, so that ``import ntkengine``
is light.

>>> import ntkengine as nk
>>> deep = nk.FCN("relu", depth=4, w_std=2**0.5, b_std=0.1).kernel("ntk")
>>> round(float(deep(1.0)), 9)
5.07
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

#: Public name -> module that defines it.
_HOME = {
    "Activation": "ntkengine.activations",
    "Design": "ntkengine.design",
    "DotProductKernel": "ntkengine.kernels",
    "FCN": "ntkengine.infinite.fcn",
    "History": "ntkengine.finite.sgd",
    "Networks": "ntkengine.finite.network",
    "Run": "ntkengine.store",
    "Store": "ntkengine.store",
    "activation": "ntkengine.activations",
    "fit_activation": "ntkengine.design",
    "kernel": "ntkengine.kernels",
    "kernel_from_samples": "ntkengine.kernels.samples",
    "load_csv": "ntkengine.tasks",
    "make_task": "ntkengine.tasks",
    "read_samples": "ntkengine.kernels.samples",
    "reverse_engineer": "ntkengine.design",
    "train": "ntkengine.finite.sgd",
}
_MODULES = (
    "activations",
    "design",
    "errors",
    "experiments",
    "finite",
    "infinite",
    "kernels",
    "plots",
    "predict",
    "store",
    "tasks",
)

__all__ = ["__version__", *_HOME, *_MODULES]

if TYPE_CHECKING:
    from ntkengine.activations import Activation, activation
    from ntkengine.design import Design, fit_activation, reverse_engineer
    from ntkengine.finite.network import Networks
    from ntkengine.finite.sgd import History, train
    from ntkengine.infinite.fcn import FCN
    from ntkengine.kernels import DotProductKernel, kernel
    from ntkengine.kernels.samples import kernel_from_samples, read_samples
    from ntkengine.store import Run, Store
    from ntkengine.tasks import load_csv, make_task


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
    elif name in _MODULES:
        value = import_module(f"ntkengine.{name}")
    else:
        raise AttributeError(f"module 'ntkengine' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
