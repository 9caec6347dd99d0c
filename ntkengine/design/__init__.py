"""From a kernel to an activation: by the theorem (:mod:`.reverse`), or by fitting a family (:mod:`.fit`)."""

from ntkengine.design._export_json import read_json
from ntkengine.design.fit import FittedDesign, fit_activation
from ntkengine.design.record import Design
from ntkengine.design.reverse import ReverseDesign, reverse_engineer

__all__ = ["Design", "FittedDesign", "ReverseDesign", "fit_activation", "read_json", "reverse_engineer"]
