"""From a kernel to an activation."""

from ntkengine.design.fit import Design, fit_activation

__all__ = ["Design", "fit_activation"]
