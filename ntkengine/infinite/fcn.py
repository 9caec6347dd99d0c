"""Fully-connected networks as an architecture, and their kernels at infinite width on the sphere."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ntkengine.activations.base import Activation, activation
from ntkengine.errors import InputError
from ntkengine.infinite.dual import Dual, dual
from ntkengine.kernels.base import DotProductKernel

if TYPE_CHECKING:
    from ntkengine.finite.network import Networks

__all__ = ["FCN", "NetworkKernel"]

Array = NDArray[np.float64]

KINDS = ("ntk", "nngp")


def check_kind(kind: str) -> str:
    """The kind of kernel; InputError unless it is "ntk" or "nngp"."""
    if kind not in KINDS:
        raise InputError(f'kind is {kind!r}; it must be "ntk" or "nngp"')
    return kind


def _std(name: str, value: float, *, positive: bool) -> float:
    number = float(value) if isinstance(value, (int, float, np.integer, np.floating)) else math.nan
    if not math.isfinite(number) or number < 0 or (positive and number == 0):
        allowed = "above 0" if positive else "of at least 0"
        why = "; with no weights the network does not see its input" if positive and number == 0 else ""
        raise InputError(f"{name} is {value!r}; it must be a finite standard deviation {allowed}{why}")
    return number


@dataclass(frozen=True)
class FCN:
    """A fully-connected network in the NTK parameterisation, of any width.

    ``z¹ = σ_w/√d W¹x + σ_b b¹, zˡ⁺¹ = σ_w/√N Wˡ⁺¹ φ(zˡ) + σ_b bˡ⁺¹``, all W, b entries N(0, 1); the last layer has its
    own standard deviations.

    Parameters
    ----------
    activation : Activation or str
        φ, or the registered name of one.
    depth : int
        Hidden layers L, at least 1.
    w_std, b_std : float
        σ_w > 0 and σ_b ≥ 0 of the hidden layers.
    readout_w_std, readout_b_std : float
        The same of the output layer.
    radial_lift : bool
        f(x) = r g(x/r), r = |x|/√d: the network sees the direction, its output scales with the norm. On the sphere the
        kernel is the same.

    Raises
    ------
    InputError
        If a value is not allowed.
    UnknownNameError
        If no activation has the name.

    Examples
    --------
    >>> import ntkengine as nk
    >>> net = nk.FCN("relu", depth=4, w_std=2**0.5, b_std=0.1)
    >>> k = net.kernel("ntk")
    >>> k([1.0, -1.0]).round(6)
    array([5.07    , 1.085666])
    """

    activation: Activation
    depth: int = 1
    w_std: float = 1.0
    b_std: float = 0.0
    readout_w_std: float = 1.0
    readout_b_std: float = 0.0
    radial_lift: bool = False

    if TYPE_CHECKING:  # what the constructor takes is wider than what the field holds

        def __init__(
            self,
            activation: Activation | str,
            depth: int = 1,
            w_std: float = 1.0,
            b_std: float = 0.0,
            readout_w_std: float = 1.0,
            readout_b_std: float = 0.0,
            radial_lift: bool = False,
        ) -> None: ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "activation", activation(self.activation))
        if isinstance(self.depth, bool) or not isinstance(self.depth, (int, np.integer)) or self.depth < 1:
            raise InputError(
                f"depth is {self.depth!r}; it counts hidden layers and must be an integer of at least 1"
            )
        object.__setattr__(self, "depth", int(self.depth))
        for name in ("w_std", "b_std", "readout_w_std", "readout_b_std"):
            object.__setattr__(self, name, _std(name, getattr(self, name), positive=name.endswith("w_std")))
        if not isinstance(self.radial_lift, (bool, np.bool_)):
            raise InputError(f"radial_lift must be True or False, not {self.radial_lift!r}")

    def layer_stds(self) -> Iterator[tuple[float, float]]:
        """(weight std, bias std) of each layer after the first: depth − 1 hidden ones, then the readout."""
        for _ in range(self.depth - 1):
            yield self.w_std, self.b_std
        yield self.readout_w_std, self.readout_b_std

    def kernel(self, kind: str = "ntk") -> NetworkKernel:
        """The kernel at infinite width, on the sphere |x|² = d.

        Parameters
        ----------
        kind : "ntk" or "nngp"

        Returns
        -------
        NetworkKernel

        Raises
        ------
        InputError
            If the kind is unknown, or a layer's variance becomes 0 or infinite.

        Warns
        -----
        AccuracyWarning
            If the activation's dual misses 1e-9 (see :func:`ntkengine.infinite.dual.dual`).
        """
        return NetworkKernel(self, kind)

    def init(
        self,
        width: int | Sequence[int],
        n_inputs: int,
        n_outputs: int = 1,
        seed: int = 0,
        members: int | Iterable[int] = 1,
        dtype: DTypeLike = "float32",
    ) -> Networks:
        """Finite networks of this architecture with N(0, 1) parameters.

        Parameters
        ----------
        width : int or sequence of int
            N, units of every hidden layer, or of each.
        n_inputs, n_outputs : int
            d and m.
        seed : int
            Member i draws from ``SeedSequence(seed, spawn_key=(i, 0))``: the same numbers in both precisions, whatever
            the other members are.
        members : int or sequence of int
            E, networks side by side; or the numbers i of the members wanted.
        dtype : "float32" or "float64"

        Returns
        -------
        Networks

        Raises
        ------
        InputError
            If a size is not a positive integer, or the networks do not fit into memory.

        Examples
        --------
        >>> import ntkengine as nk
        >>> nets = nk.FCN("relu", depth=2).init(width=64, n_inputs=3, n_outputs=2, members=5)
        >>> nets.theta.shape, [w.shape for w, _ in nets.parameters()]
        ((5, 4416), [(5, 3, 64), (5, 64, 64), (5, 64, 2)])
        """
        from ntkengine.finite.network import Networks

        return Networks.init(
            self, width=width, n_inputs=n_inputs, n_outputs=n_outputs, seed=seed, members=members, dtype=dtype
        )

    def from_parameters(
        self, parameters: Sequence[tuple[ArrayLike, ArrayLike | None]], dtype: DTypeLike = "float32"
    ) -> Networks:
        """One finite network with given parameters.

        Parameters
        ----------
        parameters : sequence of (W, b)
            Per affine map W (fan_in, fan_out) and b (fan_out,), or None where the bias std is 0: the N(0, 1)-scaled ones.
        dtype : "float32" or "float64"

        Raises
        ------
        InputError
            If the number of layers or a shape does not fit, or a value is not finite.

        Examples
        --------
        >>> import ntkengine as nk
        >>> net = nk.FCN("relu").from_parameters([([[1.0, -1.0]], None), ([[1.0], [1.0]], None)])
        >>> net.predict([[2.0], [-2.0]]).ravel().round(4)
        array([1.4142, 1.4142], dtype=float32)
        """
        from ntkengine.finite.network import Networks

        return Networks.from_parameters(self, parameters, dtype)


class NetworkKernel(DotProductKernel):
    """NNGP or NTK of an :class:`FCN` at infinite width, as a function of the cosine.

    ``Σˡ⁺¹ = σ_w² E[φφ] + σ_b², Θˡ⁺¹ = Σˡ⁺¹ + σ_w² Θˡ E[φ'φ']`` (Jacot et al. 2018; Lee et al. 2018), with 1 − ρˡ
    and 1 + ρˡ handed from layer to layer instead of ρˡ, so that near-duplicates keep their digits at any depth.

    Attributes
    ----------
    fcn : FCN
    kind : str
    duals : tuple of Dual
        One per hidden layer.
    variances : tuple of float
        q of each hidden layer.
    error : float
        Estimated absolute error, from the duals' own estimates carried through the layers (to first order; the shift of
        E[φ'φ'] with the layer's own covariance is left out).
    """

    def __init__(self, fcn: FCN, kind: str = "ntk") -> None:
        self.fcn, self.kind = fcn, check_kind(kind)
        q = fcn.w_std * fcn.w_std + fcn.b_std * fcn.b_std
        theta, error, theta_error = q, 0.0, 0.0
        duals: list[Dual] = []
        for layer, (w_std, b_std) in enumerate(fcn.layer_stds(), start=1):
            if not (math.isfinite(q) and q > 0):
                raise InputError(
                    f"the variance before the activation of hidden layer {layer} is {q:g}: with w_std={fcn.w_std:g}, "
                    f"b_std={fcn.b_std:g} {fcn.activation} lets the signal {'explode' if q > 0 else 'vanish'}; "
                    "choose w_std nearer to the value that keeps it, or b_std above 0, or a smaller depth"
                )
            here = duals[-1] if duals and duals[-1].variance == q else dual(fcn.activation, q)
            duals.append(here)
            w2 = w_std * w_std
            theta_error = w2 * (
                here.error + here.derivative_at_one * (theta_error + error) + theta * here.derivative_error
            )
            q, error = w2 * here.value_at_one + b_std**2, w2 * (here.error + here.derivative_at_one * error)
            theta = q + w2 * theta * here.derivative_at_one
        self.duals = tuple(duals)
        self.variances = tuple(d.variance for d in duals)
        self.error = error if kind == "nngp" else theta_error
        self.value_at_one = q if kind == "nngp" else theta

    @property
    def name(self) -> str:
        """Kind, depth and activation."""
        return f"{self.kind.upper()} of {self.fcn.depth}-hidden-layer {self.fcn.activation}"

    def _values(self, c: Array, complement: Array) -> Array:
        return self._recursion(complement, 1 + c)

    def _values_at_angle(self, theta: Array) -> Array:
        return self._recursion(2 * np.sin(theta / 2) ** 2, 2 * np.sin((np.pi - theta) / 2) ** 2)

    def _recursion(self, complement: Array, supplement: Array) -> Array:
        """The kernel at points given by 1 − c and 1 + c, each (n,)."""
        w2, b2 = self.fcn.w_std**2, self.fcn.b_std**2
        q = w2 + b2
        delta, eta = w2 * complement / q, (w2 * supplement + 2 * b2) / q
        theta = np.where(delta <= eta, q - q * delta, q * eta - q)
        sigma = theta
        for here, (w_std, b_std) in zip(self.duals, self.fcn.layer_stds()):
            w2, b2 = w_std**2, b_std**2
            deficit, excess, derivative = here.evaluate(delta, eta)
            sigma = w2 * here.values(excess, deficit) + b2
            theta = sigma + w2 * theta * derivative
            q = w2 * here.value_at_one + b2
            delta, eta = w2 * deficit / q, (w2 * excess + 2 * b2) / q
            delta, eta = np.clip(delta, 0.0, 2.0), np.clip(eta, 0.0, 2.0)
        return sigma if self.kind == "nngp" else theta
