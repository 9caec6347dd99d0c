"""Networks of infinite width: duals of activations, and the kernels made of them."""

from ntkengine.infinite.dual import Dual, DualValues, dual
from ntkengine.infinite.fcn import FCN, NetworkKernel

__all__ = ["FCN", "Dual", "DualValues", "NetworkKernel", "dual"]
