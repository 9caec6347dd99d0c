"""What a design is: an activation made for a kernel, and how well it does."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ntkengine import quadrature
from ntkengine.activations.base import Activation
from ntkengine.design.signs import reach
from ntkengine.errors import InputError
from ntkengine.infinite.fcn import FCN, NetworkKernel
from ntkengine.kernels.base import DotProductKernel

if TYPE_CHECKING:
    from ntkengine.design.verify import Verification

__all__ = ["Design", "Moments", "moments"]

Array = NDArray[np.float64]

#: The width whose neurons' range moments are taken over.
WIDTH = 4096
#: A function that varies by no more than this part of itself is constant.
_ROUNDING = 1e-13
#: Where networks have less than this part of K(1) − ω_b², reports say so.
_SEEN = 0.99


@dataclass(frozen=True)
class Moments:
    """Moments of φ before which z ~ N(0, q), over the z that a network of a given width visits, |z| <= √q R(N).

    Attributes
    ----------
    second, kurtosis : float
        E[φ²], E[φ⁴]/E[φ²]²; the kurtosis of φ = 0 is inf.
    neuron_variance : float
        v, the relative variance of one neuron's share of the kernel at c = 1: the empirical kernel of a network of width N
        scatters by √(v/N) of what it has of its value less ω_b², the readout bias's constant part. A neuron adds X = φ² (NNGP)
        or φ² + q r² φ'² (NTK; r its output weight, E r² = 1, E r⁴ = 3), and v = E[X²]/E[X]² − 1; 0 for a constant φ.
    largest : float
        max |φ|.
    visited : float
        E[X] as a part of what it is over all z: the share of K(1) − ω_b² that the network has. Where it is well below 1, as
        for high powers, the rest is made by z that one network in many visits: most kernels lie that far below K(1). 1 for
        φ = 0.

    Examples
    --------
    >>> import ntkengine as nk
    >>> found = nk.reverse_engineer("exp(c)", kind="nngp").moments
    >>> round(found.second, 3), round(found.kurtosis, 3), round(found.fourth, 2)
    (2.718, 1.5, 11.08)
    >>> round(found.visited, 2), round(nk.reverse_engineer("c**10").moments.visited, 2)
    (1.0, 0.41)
    """

    second: float
    kurtosis: float
    neuron_variance: float
    largest: float
    visited: float = 1.0

    @property
    def fourth(self) -> float:
        """E[φ⁴].

        Raises
        ------
        InputError
            If it exceeds the range of floats.
        """
        return _square(self.second, self.kurtosis, "E[φ⁴]") if self.second else 0.0


def moments(fcn: FCN, kind: str, width: int = WIDTH) -> Moments:
    """Moments of the activation of a network with one hidden layer, on the sphere.

    Parameters
    ----------
    fcn : FCN
    kind : "ntk" or "nngp"
    width : int
        N, of the network whose range of z is taken.

    Raises
    ------
    InputError
        If φ is not finite there.

    Examples
    --------
    >>> import ntkengine as nk
    >>> found = moments(nk.FCN("relu"), "nngp")
    >>> round(found.second, 3), round(found.fourth, 2), round(found.neuron_variance, 1)
    (0.499, 1.48, 4.9)
    """
    q = fcn.w_std**2 + fcn.b_std**2
    root, far = math.sqrt(q), reach(width)
    breaks = [kink.location / root for kink in fcn.activation.kinks]
    z, w = quadrature.panel_rule(-far, far, breaks, 128)
    phi, slope = fcn.activation.both(root * z)
    slope = root * slope * (kind == "ntk")
    largest = float(np.abs(phi).max())
    unit = max(largest, float(np.abs(slope).max()))
    if not math.isfinite(unit):
        raise InputError(
            f"activation {fcn.activation} is not finite for |z| <= {root * far:.3g}, where a network of width {width} goes; "
            "choose smaller w_std and b_std"
        )
    unit = unit or 1.0
    p = w * quadrature.density(z)
    value, moved = (phi / unit) ** 2, (slope / unit) ** 2
    second, mean = float(p @ value), float(p @ (value + moved))
    square = float(p @ (value * value + 2 * value * moved + 3 * moved * moved))
    constant = np.ptp(phi) <= _ROUNDING * largest and not moved.any()
    whole = float(unbiased(replace(fcn, readout_w_std=1.0), kind, np.zeros(1))[0]) / unit / unit
    return Moments(
        second * unit * unit,
        float(p @ (value * value)) / second**2 if second > 0 else math.inf,
        0.0 if constant else square / mean**2 - 1,
        largest,
        min(mean / whole, 1.0) if whole > 0 else 1.0,
    )


def unbiased(fcn: FCN, kind: str, angles: Array) -> Array:
    """The kernel less ω_b² at angles, (n,), with all its digits."""
    with np.errstate(invalid="ignore"):  # 0/0 of φ = 0
        return np.asarray(replace(fcn, readout_b_std=0.0).kernel(kind).at_angle(angles))


def _square(number: float, factor: float, name: str) -> float:
    """factor·number², or an InputError where that is no float."""
    found = factor * number * number
    if not math.isfinite(found):
        raise InputError(
            f"{name} is {_decimal(number, factor):.3g}, beyond the range of floats; divide the target kernel by its scale, and "
            "multiply readout_w_std by the root of it"
        )
    return found


def _decimal(number: float, factor: float) -> float | Decimal:
    """factor·number² for texts, whatever its size."""
    found = factor * number * number
    if 1e-300 < found < math.inf:
        return found
    return Decimal(factor) * Decimal(number) ** 2 if number else 0.0


@dataclass(frozen=True, eq=False, repr=False)
class Design:
    """An activation made for a kernel, and how well it does.

    Attributes
    ----------
    target : DotProductKernel
        What was asked for.
    kind : "ntk" or "nngp"
        Which kernel of the network should be the target.
    fcn : FCN
        The network with one hidden layer.
    angles : (n,) array
        Where target and kernel were compared, in [0, π].
    target_values, values : (n,) arrays
        The target, and the network's kernel at infinite width, there.

    Examples
    --------
    >>> import ntkengine as nk
    >>> design = nk.reverse_engineer("c**3 + c", kind="nngp")
    >>> design.activation, bool(design.max_error < 1e-12)
    (hermite(coefficients=[0, 1, 0, -1]), True)
    """

    target: DotProductKernel
    kind: str
    fcn: FCN
    angles: Array
    target_values: Array
    values: Array

    def __repr__(self) -> str:
        return f"<design of {self.activation} for {self.target.name}, {self.kind.upper()}>"

    @property
    def activation(self) -> Activation:
        """φ."""
        return self.fcn.activation

    @cached_property
    def kernel(self) -> NetworkKernel:
        """The network's kernel at infinite width, at any angle."""
        return self.fcn.kernel(self.kind)

    @cached_property
    def moments(self) -> Moments:
        """Moments of φ over the range of z that a network of width 4096 visits."""
        return moments(self.fcn, self.kind)

    @property
    def neuron_variance(self) -> float:
        """v: the kernel of a network of width N scatters by √(v/N) of what it has of K(1) − ω_b², see :class:`Moments`."""
        return self.moments.neuron_variance

    @property
    def squared_error(self) -> float:
        """Σ over the angles of (kernel − target)².

        Raises
        ------
        InputError
            If it exceeds the range of floats.
        """
        return _square(self.rms_error, self.angles.size, "the squared error")

    @property
    def max_error(self) -> float:
        """Largest |kernel − target| over the angles."""
        return float(np.abs(self.values - self.target_values).max())

    @property
    def rms_error(self) -> float:
        """Root mean square of kernel − target over the angles."""
        unit = self.max_error or 1.0
        return unit * math.sqrt(float(np.mean(((self.values - self.target_values) / unit) ** 2)))

    def verify(
        self,
        width: int = 4096,
        members: int = 16,
        seed: int = 0,
        *,
        n_inputs: int = 16,
        progress: Callable[[int, int], None] | None = None,
    ) -> Verification:
        """The empirical kernel of finite networks against the target: see :func:`ntkengine.design.verify.verify`."""
        from ntkengine.design.verify import verify

        return verify(self, width, members, seed, n_inputs=n_inputs, progress=progress)

    def export(self, format: str) -> str:
        """The activation and its network as source or data: "torch", "jax", "numpy", "numba", "latex" or "json".

        See :func:`ntkengine.design.export.export`.
        """
        from ntkengine.design.export import export

        return export(self, format)

    def rows(self) -> list[tuple[str, str]]:
        """What :meth:`report` shows, as (name, text)."""
        scale = float(np.abs(self.target_values).max()) or 1.0
        fcn, found = self.fcn, self.moments
        lift = ", radial lift" if fcn.radial_lift else ""
        top = float(self.values[0])  # at the angle 0
        scatter = found.visited * math.sqrt(found.neuron_variance / WIDTH)
        scatter *= 1 - fcn.readout_b_std**2 / top if top else 0.0
        fourth, kurtosis = "0", "φ = 0"
        if found.second:
            fourth, kurtosis = (
                f"{_decimal(found.second, found.kurtosis):.6g}",
                f"kurtosis {found.kurtosis:.3g}",
            )
        rows = [
            ("target", self.target.name),
            ("activation", str(self.activation)),
            ("network", f"1 hidden layer, {self.kind.upper()}, w_std {fcn.w_std:g}, b_std {fcn.b_std:g}, "
                        f"readout {fcn.readout_w_std:g}, {fcn.readout_b_std:g}{lift}"),
            ("largest error", f"{self.max_error:.4e} ({100 * self.max_error / scale:.2g} % of the largest value)"),
            ("rms error", f"{self.rms_error:.4e}"),
            ("squared error", f"{_decimal(self.rms_error, self.angles.size):.4e} over {self.angles.size} angles"),
            ("E[φ²], E[φ⁴]", f"{found.second:.6g}, {fourth} ({kurtosis}) over the z that width {WIDTH} visits"),
            ("scatter", f"{scatter:.2%} of K(1) at width {WIDTH} (v = {found.neuron_variance:.3g})"),
        ]  # fmt: skip
        if found.visited < _SEEN:
            less = " − ω_b²" if fcn.readout_b_std else ""
            seen = f"networks of width {WIDTH} see {found.visited:.1%} of K(1){less}: the rest is made where one in many goes"
            rows.append(("visited", seen))
        return rows

    def report(self) -> str:
        """A text table: the activation, the network, and how near its kernel is to the target."""
        rows = self.rows()
        width = max(len(key) for key, _ in rows)
        return "\n".join(f"{key:<{width}}  {value}" for key, value in rows)
