"""The kernel of a one-hidden-layer network at fixed angles as a fast function of the activation's parameters."""

from __future__ import annotations

import math
import warnings

import numpy as np
from numpy.typing import NDArray

from ntkengine import quadrature
from ntkengine.activations.base import Activation
from ntkengine.errors import AccuracyWarning, InputError
from ntkengine.hermite import hermite_functions
from ntkengine.infinite import _dual, _grid, _jumps
from ntkengine.infinite.dual import PAIR_ORDER, dual, jump_part
from ntkengine.infinite.fcn import FCN

__all__ = ["Objective"]

Array = NDArray[np.float64]

#: Widest tabulated panel.
_PANEL = 0.04
#: Terms below this part of the whole are left out, and the smooth part's energy must be found to within it.
_SMALL = 1e-12
#: Domain and density of the rule for the smooth part.
_REACH, _PER_UNIT = 12.0, 56
_DEGREES = (64, 96, 128, 160, 192, 224, 256, 288, 320, 384, 448, 512, 640, 768, 1024, 1280, 1536, 2048)


class Objective:
    """K(θ_i; p) for the NNGP or NTK of ``fcn`` with other parameter values p.

    Slope jumps are treated as in :mod:`ntkengine.infinite.dual`; the smooth rest is projected on Hermite functions
    tabulated at fixed nodes. Where the tables do not suffice (jumps of φ or of its curvature, very high frequencies)
    the general dual steps in.

    Parameters
    ----------
    fcn : FCN
        One hidden layer; its activation gives the family.
    kind : "ntk" or "nngp"
    theta : (n,) array
        Ascending angles from 0 to π.
    """

    def __init__(self, fcn: FCN, kind: str, theta: Array) -> None:
        self.fcn, self.kind, self.theta = fcn, kind, theta
        self.evaluations = 0
        self.variance = q = fcn.w_std**2 + fcn.b_std**2
        self.offset = fcn.readout_b_std**2
        self.delta = fcn.w_std**2 * 2 * np.sin(theta / 2) ** 2 / q
        self.rho = 1 - self.delta
        self.first = fcn.w_std**2 * np.cos(theta) + fcn.b_std**2
        self._tabulate_angles()
        self._tabulate_nodes()
        self._level = 0

    def _tabulate_angles(self) -> None:
        angles = 2 * np.arcsin(np.sqrt(np.clip(self.delta / 2, 0.0, 1.0)))
        pieces = [np.zeros(1)]
        for a, b in zip(np.concatenate([[0.0], angles[:-1]]), angles):
            count = math.ceil((b - a) / _PANEL)
            pieces.append(a + (b - a) * np.arange(1, count + 1) / max(count, 1))
        self.stops = np.cumsum([p.size for p in pieces[1:]]).astype(np.int64)
        self.edges = np.concatenate(pieces)
        x, w = quadrature.gauss_legendre(_grid.POINTS)
        half = np.diff(self.edges)[:, None] / 2
        t = self.edges[:-1, None] + half + half * x
        self.near, self.far = 1 / (8 * np.sin(t / 2) ** 2), 1 / (8 * np.cos(t / 2) ** 2)
        self.weights = half * w
        self.cosine_weights = self.weights * np.cos(t)

    def _tabulate_nodes(self) -> None:
        panels = round(2 * _REACH * _PER_UNIT / quadrature.ORDER)
        self.nodes, weights = quadrature.panel_rule(-_REACH, _REACH, (), panels)
        self.root = math.sqrt(self.variance)
        self.points = self.root * self.nodes
        self._sizes = weights
        self._density_root = np.sqrt(quadrature.density(self.nodes))
        self._table = np.empty((0, self.nodes.size))

    def _functions(self, degree: int) -> Array:
        """ψ_k at the nodes times their weights, (degree+1, nodes)."""
        if self._table.shape[0] <= degree:
            self._table = np.ascontiguousarray(hermite_functions(self.nodes, degree).T * self._sizes)
        return self._table[: degree + 1]

    def __call__(self, values: Array) -> Array:
        """The kernel at the angles, (n,), for parameter values p, (parameters,)."""
        return self.scalable(values) + self.offset

    def scalable(self, values: Array) -> Array:
        """The kernel less the output bias's part: proportional to the square of a factor of φ."""
        self.evaluations += 1
        phi = self.fcn.activation.with_values(values)
        locations, jumps = jump_part(phi, self.variance)
        only_slopes = not jumps[:, [0, 2, 3]].any()
        found = self._tabulated(phi, locations, np.ascontiguousarray(jumps[:, 1])) if only_slopes else None
        value, derivative = found if found is not None else self._general(phi)
        scale = self.fcn.readout_w_std**2
        return scale * (value if self.kind == "nngp" else value + self.first * derivative)

    def neuron_variance(self, values: Array) -> float:
        """Relative variance of one neuron's share of the network's kernel at c = 1.

        A neuron adds X = φ² (NNGP), X = φ² + q r² φ'² (NTK; r its output weight, E r² = 1, E r⁴ = 3) to the kernel, so that
        the empirical kernel of width N scatters by √(Var X / E[X]² / N).
        """
        phi, slope = self.fcn.activation.with_values(values).both(self.points)
        weights = self._density_root**2 * self._sizes
        value, moved = phi * phi, self.variance * slope * slope * (self.kind == "ntk")
        mean = float(weights @ (value + moved))
        fourth = weights * (value * value + 2 * value * moved + 3 * moved * moved)
        second = float(fourth.sum())
        if (
            max(fourth[0], fourth[-1]) > 1e-12 * second
        ):  # φ⁴ grows so fast that its mass lies beyond the nodes
            return math.inf
        return second / mean**2 - 1 if mean > 0 else math.inf

    def _tabulated(self, phi: Activation, locations: Array, slopes: Array) -> tuple[Array, Array] | None:
        smooth = phi(self.points)
        for h, jump in zip(locations, slopes):
            smooth = smooth - jump * np.maximum(self.nodes - h, 0.0)
        scaled = smooth * self._density_root
        energy = float((scaled * scaled) @ self._sizes)
        if not math.isfinite(energy):
            return None
        while self._level < len(_DEGREES):
            degree = _DEGREES[self._level]
            rest = self._functions(degree) @ scaled
            late = np.abs(rest[15 * degree // 16 :]).max()
            if (
                late * late <= _SMALL * _SMALL * energy
                and abs(float(rest @ rest) - energy) <= _SMALL * energy
            ):
                break
            self._level += 1
        else:
            self._level = 0
            return None
        significant = np.nonzero(np.abs(rest) > _SMALL * math.sqrt(energy))[0]
        used = int(significant[-1]) + 2 if significant.size else 1
        if self._level and used < 15 * _DEGREES[self._level - 1] // 16:
            self._level -= 1
        return self._sum(rest[:used], locations, slopes)

    def _sum(self, rest: Array, locations: Array, slopes: Array) -> tuple[Array, Array]:
        values, steps = np.empty(rest.size + 1), np.empty(rest.size + 1)
        jumps = np.zeros((slopes.size, _jumps.ORDERS))
        jumps[:, 1] = slopes
        _jumps.split_coefficients(locations, jumps, values, steps)
        coefficients = values.copy()
        coefficients[:-1] += rest
        terms, derivative_terms = np.empty(rest.size + 1), np.empty(rest.size + 1)
        _dual.series_terms(coefficients, values, steps, terms, derivative_terms)
        x, w = quadrature.gauss_legendre(PAIR_ORDER)
        value, derivative = np.empty(self.rho.size), np.empty(self.rho.size)
        _grid.grid_dual(
            locations, slopes, terms, derivative_terms, self.variance, self.edges, self.stops, self.near, self.far,
            self.weights, self.cosine_weights, self.rho, self.delta, x, w, value, derivative,
        )  # fmt: skip
        return value, derivative

    def _general(self, phi: Activation) -> tuple[Array, Array]:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", AccuracyWarning
            )  # the finished design is evaluated with warnings on
            try:
                here = dual(phi, self.variance)
            except InputError:
                return np.full(self.rho.size, math.nan), np.full(self.rho.size, math.nan)
        found = here.evaluate(self.delta, 2 - self.delta)
        return here.values(found.excess, found.deficit), found.derivative
