"""Fully-connected networks as an architecture, and their kernels at infinite width on the sphere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ntkengine._check import shown
from ntkengine.activations.base import Activation, activation
from ntkengine.errors import InputError
from ntkengine.infinite._limits import count, layers, std
from ntkengine.infinite.dual import Dual, dual
from ntkengine.kernels.base import DotProductKernel

if TYPE_CHECKING:
    from ntkengine.finite.network import Networks
    from ntkengine.kernels.taylor import PowerSeries

__all__ = ["FCN", "NetworkKernel"]

Array = NDArray[np.float64]

KINDS = ("ntk", "nngp")
PARAMETERIZATIONS = ("ntk", "standard")


def check_kind(kind: str) -> str:
    """The kind of kernel; InputError unless it is "ntk" or "nngp"."""
    if kind not in KINDS:
        raise InputError(f'kind is {shown(kind)}; it must be "ntk" or "nngp"')
    return kind


@dataclass(frozen=True)
class FCN:
    """A fully-connected network and its kernels at infinite width.

    ``z¹ = σ_w/√d W¹x + σ_b b¹, zˡ⁺¹ = σ_w/√N Wˡ⁺¹ φ(zˡ) + σ_b bˡ⁺¹``, all W, b entries N(0, 1); the last layer has its
    own standard deviations. This is the NTK parameterisation. In the standard one the scales are in the parameters,
    W ~ N(0, σ_w²/fan_in) and b ~ N(0, σ_b²): the same functions at initialisation, so the same NNGP kernel, but gradients
    and with them the NTK grow with the width (Sohl-Dickstein et al. 2020, arXiv 2001.07301).

    Parameters
    ----------
    activation : Activation or str
        φ, or the registered name of one.
    depth : int
        Hidden layers L, 1 to 100,000.
    w_std, b_std : float
        σ_w from 1e-30 to 1e30 and σ_b from 0 to 1e30, of the hidden layers.
    readout_w_std, readout_b_std : float
        The same of the output layer.
    radial_lift : bool
        f(x) = r g(x/r), r = |x|/√d: the network sees the direction, its output scales with the norm. On the sphere the
        kernel is the same.
    parameterization : "ntk" or "standard"
        Which parameters the NTK differentiates by.
    width : int, optional
        N, which the NTK of the standard parameterisation depends on: ``Θ¹ = x·x' + 1``,
        ``Θˡ⁺¹ = N E[φφ] + 1 + σ_w² Θˡ E[φ'φ']``, with the 1 where there are biases. Only for that.

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
    parameterization: str = "ntk"
    width: int | None = None

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
            parameterization: str = "ntk",
            width: int | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "activation", activation(self.activation))
        object.__setattr__(self, "depth", layers(self.depth))
        for name in ("w_std", "b_std", "readout_w_std", "readout_b_std"):
            object.__setattr__(self, name, std(name, getattr(self, name), positive=name.endswith("w_std")))
        if not isinstance(self.radial_lift, (bool, np.bool_)):
            raise InputError(f"radial_lift must be True or False, not {shown(self.radial_lift)}")
        if self.parameterization not in PARAMETERIZATIONS:
            raise InputError(
                f'parameterization is {shown(self.parameterization)}; it must be "ntk" or "standard"'
            )
        if self.width is not None:
            if self.parameterization == "ntk":
                raise InputError(
                    f"width is {shown(self.width)}, but in the NTK parameterization no kernel depends on it; leave it out"
                )
            object.__setattr__(self, "width", count("width", self.width, " or None"))

    def layer_stds(self) -> Iterator[tuple[float, float]]:
        """(weight std, bias std) of each layer after the first: depth − 1 hidden ones, then the readout."""
        for _ in range(self.depth - 1):
            yield self.w_std, self.b_std
        yield self.readout_w_std, self.readout_b_std

    def theta_rules(self, n_inputs: int | None) -> tuple[tuple[float, float], list[tuple[float, float]]]:
        """How Θ starts and what each affine map adds: Θ¹ = α (Σ¹ − σ_b²) + β, Θˡ⁺¹ = α' E[φφ] + β' + σ_w² Θˡ E[φ'φ'].

        Raises
        ------
        InputError
            In the standard parameterization, if the width or the number of inputs is not known.
        """
        if self.parameterization == "ntk":
            return (1.0, self.b_std * self.b_std), [(w * w, b * b) for w, b in self.layer_stds()]
        if self.width is None:
            raise InputError(
                "width is None; in the standard parameterization the NTK grows with the width N: give FCN(..., width=N)"
            )
        if n_inputs is None:
            raise InputError(
                "n_inputs is None; in the standard parameterization the NTK depends on the number of inputs d: "
                'give kernel("ntk", n_inputs=d)'
            )
        start = n_inputs / (self.w_std * self.w_std), float(self.b_std > 0)
        return start, [(float(self.width), float(b > 0)) for _, b in self.layer_stds()]

    def nngp(
        self,
        X1: ArrayLike,
        X2: ArrayLike | None = None,
        *,
        out: Any = None,
        dtype: DTypeLike | None = None,
        threads: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Any:
        """Gram matrix of the NNGP kernel, the covariance of the outputs of an infinitely wide network at initialisation.

        Arguments, errors and warnings as for :meth:`ntk`.

        Examples
        --------
        >>> import ntkengine as nk
        >>> nk.FCN("relu", w_std=2**0.5).nngp([[1.0, 1.0], [2.0, 2.0], [1.0, -1.0]]).round(6)
        array([[1.     , 2.     , 0.31831],
               [2.     , 4.     , 0.63662],
               [0.31831, 0.63662, 1.     ]])
        """
        from ntkengine.infinite.gram import gram

        return gram(self, "nngp", X1, X2, out=out, dtype=dtype, threads=threads, progress=progress)

    def ntk(
        self,
        X1: ArrayLike,
        X2: ArrayLike | None = None,
        *,
        out: Any = None,
        dtype: DTypeLike | None = None,
        threads: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Any:
        """Gram matrix of the neural tangent kernel at infinite width.

        Points of any norm, the zero vector included. Where all norms are equal the whole depth is one function of the cosine,
        which is tabulated once (:mod:`ntkengine.infinite.profile`); else every entry goes through all layers.

        Parameters
        ----------
        X1 : (n1, d) array_like
            float32 input is computed in float64.
        X2 : (n2, d) array_like, optional
            None: X1, and then the result is symmetric to the last bit and costs about half.
        out : (n1, n2) array or h5py dataset, float64 or float32, optional
            Filled and returned. A dataset is filled by row stripes, so that it may be larger than memory.
        dtype : "float64" or "float32", optional
            Of the result (default: that of ``out``, else float64). The arithmetic is float64 in either case.
        threads : int, optional
            At most all that numba was started with, which is the default. The bits do not depend on it.
        progress : callable, optional
            Called with (rows done, rows in all) after each stripe.

        Returns
        -------
        (n1, n2) array, or ``out``

        Raises
        ------
        InputError
            If shapes disagree, an entry is not finite, the activation has no finite E[φ²] at a variance met, or the signal
            vanishes or explodes; nothing is written then.

        Warns
        -----
        AccuracyWarning
            If a numerical dual misses 1e-9 (see :func:`ntkengine.infinite.dual.dual`).

        Examples
        --------
        >>> import ntkengine as nk
        >>> net = nk.FCN("relu", depth=4, w_std=2**0.5, b_std=0.1)
        >>> net.ntk([[1.0, 1.0], [1.0, -1.0], [0.0, 0.0]]).round(6)
        array([[5.07    , 1.474731, 0.171449],
               [1.474731, 5.07    , 0.171449],
               [0.171449, 0.171449, 0.07    ]])
        """
        from ntkengine.infinite.gram import gram

        return gram(self, "ntk", X1, X2, out=out, dtype=dtype, threads=threads, progress=progress)

    def kernel(self, kind: str = "ntk", *, n_inputs: int | None = None) -> NetworkKernel:
        """The kernel at infinite width, on the sphere |x|² = d.

        Parameters
        ----------
        kind : "ntk" or "nngp"
        n_inputs : int, optional
            d, which only the NTK of the standard parameterization depends on.

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
        return NetworkKernel(self, kind, n_inputs=n_inputs)

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
    radius : float
        |x|/√d of the points; 1 but for the tables of Gram matrices.
    error : float
        Estimated absolute error, from the duals' own estimates carried through the layers (to first order; the shift of
        E[φ'φ'] with the layer's own covariance is left out).
    """

    #: Of combinations: their power series come from this kernel's own (:meth:`taylor`), not from balls through all layers.
    _balls_are_slow = True

    def __init__(
        self, fcn: FCN, kind: str = "ntk", *, radius: float = 1.0, n_inputs: int | None = None
    ) -> None:
        self.fcn, self.kind, self.radius = fcn, check_kind(kind), radius
        if n_inputs is not None:
            n_inputs = count("n_inputs", n_inputs, " or None")
        self._start, self._rules = (
            fcn.theta_rules(n_inputs) if kind == "ntk" else ((1.0, 0.0), [(0.0, 0.0)] * fcn.depth)
        )
        scaled = fcn.w_std * radius
        w2, b2 = scaled * scaled, fcn.b_std * fcn.b_std  # inf, where ** would raise
        q = w2 + b2
        theta, error, theta_error = self._start[0] * w2 + self._start[1], 0.0, 0.0
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
            weight, shift = self._rules[layer - 1]
            theta_error = weight * (here.error + here.derivative_at_one * error) + w2 * (
                here.derivative_at_one * theta_error + theta * here.derivative_error
            )
            q = w2 * here.value_at_one + b_std * b_std
            error = w2 * (here.error + here.derivative_at_one * error)
            theta = weight * here.value_at_one + shift + w2 * theta * here.derivative_at_one
        self.duals = tuple(duals)
        self.variances = tuple(d.variance for d in duals)
        self.error = error if kind == "nngp" else theta_error
        self.value_at_one = q if kind == "nngp" else theta
        self._n_inputs = n_inputs
        if not math.isfinite(self.value_at_one):
            raise InputError(
                f"the {kind.upper()} of {fcn.depth}-hidden-layer {fcn.activation} is {self.value_at_one:g} at c = 1: with "
                f"w_std={fcn.w_std:g}, b_std={fcn.b_std:g}, readout_w_std={fcn.readout_w_std:g}, "
                f"readout_b_std={fcn.readout_b_std:g} it leaves the 64-bit numbers; choose them nearer to 1"
            )

    @property
    def name(self) -> str:
        """Kind, depth and activation, and what differs from the defaults of :class:`FCN` that the kernel depends on."""
        fcn = self.fcn
        parts = [
            f"{field.name}={value:.6g}"
            for field in fields(fcn)
            if field.name.endswith("_std") and (value := getattr(fcn, field.name)) != field.default
        ]
        if self.kind == "ntk" and fcn.parameterization == "standard":
            parts.append(f"standard parameterization, width={fcn.width}, n_inputs={self._n_inputs}")
        name = f"{self.kind.upper()} of {fcn.depth}-hidden-layer {fcn.activation}"
        return f"{name} ({', '.join(parts)})" if parts else name

    def _values(self, c: Array, complement: Array) -> Array:
        return self._recursion(complement, 1 + c)

    def _values_at_angle(self, theta: Array) -> Array:
        return self._recursion(2 * np.sin(theta / 2) ** 2, 2 * np.sin((np.pi - theta) / 2) ** 2)

    def _complex(self, c: NDArray[np.complex128]) -> NDArray[np.complex128]:
        from ntkengine.infinite.power import continuation

        return continuation(self, c)

    def _series(self, x: Any) -> Any:
        from ntkengine.infinite._balls import network_series

        return network_series(self, x)

    def taylor(self, degree: int, *, w_std: float = 1.0, b_std: float = 0.0) -> PowerSeries:
        """Coefficients b_k of ``K = Σ_k b_k ρ^k``, ``ρ = (σ_w² c + σ_b²)/(σ_w² + σ_b²)``; with the defaults ρ = c.

        One hidden layer, in the network's own ρ: from the Hermite coefficients of φ, ``b_k = ω_w² a_k²`` (NNGP) or
        ``ω_w² (1 + k) a_k²`` (NTK), plus ω_b² in b_0 (Simon, Anand & DeWeese 2022, theorem 3.1), to relative accuracy where
        these have a closed form. Else by Cauchy's integral of the kernel continued into the unit disk, layer by layer, at any
        depth: to about 1e-14 K(1) up to degree 10,000, or 1e-12 K(1) where derivatives of φ jump at every order (elu, selu).

        Parameters
        ----------
        degree : int
            The largest k, 0 to 100,000.
        w_std, b_std : float
            σ_w > 0 and σ_b >= 0 of ρ; not those of this network, but those of a network that is to have its kernel.

        Returns
        -------
        PowerSeries, shape (degree+1,)
            With the absolute ``error`` of each coefficient and the ``tail`` K(1) − Σ b_k. What is within its error of 0 is 0.

        Raises
        ------
        InputError
            If an argument is not allowed.
        NoSeriesError
            If σ_b/σ_w is larger than that of the network (and φ is not a polynomial): then K need not be analytic in |ρ| < 1.

        Examples
        --------
        >>> import ntkengine as nk
        >>> k = nk.FCN("relu", depth=4, w_std=2**0.5, b_std=0.1).kernel("ntk")
        >>> series = k.taylor(5)
        >>> series.round(3)
        array([1.475, 0.886, 0.688, 0.376, 0.253, 0.159])
        >>> round(series.tail, 3), bool(abs(series.sum() + series.tail - k(1.0)) < 1e-12)
        (1.234, True)
        """
        return super().taylor(degree, w_std=w_std, b_std=b_std)

    def _power_series(self, degree: int, w_std: float, b_std: float) -> PowerSeries:
        from ntkengine.infinite.power import network_series

        return network_series(self, degree, w_std, b_std)

    def _recursion(self, complement: Array, supplement: Array) -> Array:
        """The kernel at points given by 1 − c and 1 + c, each (n,)."""
        w2, b2 = (self.fcn.w_std * self.radius) ** 2, self.fcn.b_std**2
        q = w2 + b2
        delta, eta = w2 * complement / q, (w2 * supplement + 2 * b2) / q
        sigma = np.where(delta <= eta, q - q * delta, q * eta - q)
        theta = self._start[0] * (sigma - b2) + self._start[1]
        for here, (w_std, b_std), (weight, shift) in zip(self.duals, self.fcn.layer_stds(), self._rules):
            w2, b2 = w_std**2, b_std**2
            deficit, excess, derivative = here.evaluate(delta, eta)
            value = here.values(excess, deficit)
            sigma = w2 * value + b2
            theta = weight * value + shift + w2 * theta * derivative
            q = w2 * here.value_at_one + b2
            delta, eta = w2 * deficit / q, (w2 * excess + 2 * b2) / q
            delta, eta = np.clip(delta, 0.0, 2.0), np.clip(eta, 0.0, 2.0)
        return sigma if self.kind == "nngp" else theta
