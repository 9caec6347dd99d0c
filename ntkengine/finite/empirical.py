"""Empirical kernels of finite networks: what the infinite-width kernels are the limit of.

The empirical NTK is Θ_ij(x, x') = ∂f_i(x)/∂θ · ∂f_j(x')/∂θ, with θ the N(0, 1)-scaled parameters. It is computed layer by
layer, Σ_l (σ_w²/fan_in · H_{l−1} H'_{l−1}ᵀ + σ_b²) ∘ (D_l D'_lᵀ), H the layer's input and D = ∂f/∂z the backpropagated
derivative; no Jacobian is formed (Jacot et al. 2018).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkengine.finite.network import check_inputs

if TYPE_CHECKING:
    from ntkengine.finite.network import Networks

__all__ = ["empirical_nngp", "empirical_ntk", "top_eigenvalue"]

Floats = NDArray[np.floating[Any]]


class _Pass:
    """Forward pass of one member: the input of every affine map, and φ' of every hidden layer."""

    def __init__(self, nets: Networks, member: int, x: NDArray[np.float64]) -> None:
        self.rows, self.scale = nets.prepare(x)
        layout = nets.layout()
        self.weights = [w[member] for w, _ in nets.parameters()]
        biases = [None if b is None else b[member] for _, b in nets.parameters()]
        self.w_scale, self.b_scale = layout.w_scale, layout.b_scale
        self.has_bias = layout.b_offset >= 0  # b_scale is 0 where there is none
        self.inputs, self.slopes = [self.rows], []
        for layer, weight in enumerate(self.weights[:-1]):
            z = self.w_scale[layer] * (self.inputs[-1] @ weight)
            if biases[layer] is not None:
                z += self.b_scale[layer] * biases[layer]
            phi, dphi = nets.fcn.activation.both(z)
            self.inputs.append(phi)
            self.slopes.append(dphi)

    def derivatives(self, output: int) -> list[Floats]:
        """∂f_output/∂z of every hidden layer, (n, N_l) each, by backpropagation."""
        maps = len(self.weights)
        delta = self.slopes[-1] * (self.w_scale[maps - 1] * self.weights[-1][:, output])
        found = [delta]
        for layer in range(maps - 2, 0, -1):
            delta = self.slopes[layer - 1] * (self.w_scale[layer] * (delta @ self.weights[layer].T))
            found.append(delta)
        return found[::-1]

    def pull(self, v: Floats) -> list[tuple[Floats, Floats]]:
        """Jᵀv for v (n, m): the gradients (W, b) of Σ_ij v_ij f_j(x_i), map by map."""
        delta, found = v * self.scale[:, None], []
        for layer in range(len(self.weights) - 1, -1, -1):
            ws, bs = self.w_scale[layer], self.b_scale[layer]
            found.append((ws * (self.inputs[layer].T @ delta), bs * delta.sum(axis=0)))
            if layer:
                delta = self.slopes[layer - 1] * (ws * (delta @ self.weights[layer].T))
        return found[::-1]

    def push(self, direction: list[tuple[Floats, Floats]]) -> Floats:
        """J·direction, (n, m): how the outputs move when the parameters move along (W, b), map by map."""
        moved: Any = 0.0
        for layer, (dw, db) in enumerate(direction):
            ws, bs = self.w_scale[layer], self.b_scale[layer]
            z = ws * (self.inputs[layer] @ dw) + bs * db
            if layer:
                z = z + ws * (moved @ self.weights[layer])
            moved = self.slopes[layer] * z if layer < len(self.slopes) else z
        return np.asarray(moved * self.scale[:, None])


def top_eigenvalue(nets: Networks, X: ArrayLike) -> Floats:
    """Largest eigenvalue of every member's full empirical NTK on X, outputs coupled: (nm × nm), shape (E,).

    By Lanczos iteration on products J(Jᵀv), each of the cost of two SGD steps; relative tolerance 1e-4.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh

    x = check_inputs(X, nets.n_inputs)
    n, m = x.shape[0], nets.n_outputs
    found = []
    for member in range(nets.members):
        run = _Pass(nets, member, x)

        def product(v: Floats, run: _Pass = run) -> Floats:
            return run.push(run.pull(v.reshape(n, m).astype(nets.dtype))).ravel().astype(np.float64)

        if n * m == 1:
            found.append(float(product(np.ones(1))[0]))
            continue
        operator = LinearOperator((n * m, n * m), matvec=product, dtype=np.float64)
        start = np.random.default_rng(0).standard_normal(n * m)
        found.append(
            float(eigsh(operator, k=1, which="LA", v0=start, tol=1e-4, return_eigenvectors=False)[0])
        )
    return np.array(found)


def _layer_gram(a: _Pass, b: _Pass, layer: int) -> Floats:
    """Gram matrix of the gradients' input side: σ_w²/fan_in · H H'ᵀ, plus σ_b² where there is a bias."""
    gram = a.w_scale[layer] ** 2 * (a.inputs[layer] @ b.inputs[layer].T)
    if a.has_bias[layer]:
        gram += a.b_scale[layer] ** 2
    return gram


def _pairs(
    nets: Networks, X1: ArrayLike, X2: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    x1 = check_inputs(X1, nets.n_inputs, "X1")
    return x1, None if X2 is None else check_inputs(X2, nets.n_inputs, "X2")


def empirical_ntk(nets: Networks, X1: ArrayLike, X2: ArrayLike | None = None) -> Floats:
    """Empirical NTK of every member, averaged over outputs: (1/m) Σ_i Θ_ii(x, x'), shape (E, n1, n2).

    It tends to the NTK of the architecture as the width grows, with a spread over members that falls as 1/√width.

    Parameters
    ----------
    nets : Networks
    X1 : (n1, d) array
    X2 : (n2, d) array, optional
        Default: X1, and then the result is exactly symmetric.

    Raises
    ------
    InputError
        If a shape disagrees with the networks, or an entry is not finite.

    Examples
    --------
    >>> import ntkengine as nk
    >>> nets = nk.FCN("relu", w_std=2**0.5).init(width=256, n_inputs=4, seed=0, members=3)
    >>> nets.empirical_ntk([[1.0, -1.0, 1.0, 1.0]]).shape
    (3, 1, 1)
    """
    x1, x2 = _pairs(nets, X1, X2)
    kernels = []
    for member in range(nets.members):
        a = _Pass(nets, member, x1)
        b = a if x2 is None else _Pass(nets, member, x2)
        maps = len(a.weights)
        kernel = _layer_gram(a, b, maps - 1)
        signal = [np.zeros_like(kernel) for _ in range(maps - 1)]
        for output in range(nets.n_outputs):
            left = a.derivatives(output)
            right = left if a is b else b.derivatives(output)
            for layer in range(maps - 1):
                signal[layer] += left[layer] @ right[layer].T
        for layer in range(maps - 1):
            kernel += _layer_gram(a, b, layer) * (signal[layer] / nets.dtype.type(nets.n_outputs))
        kernels.append(_finish(kernel, a, b))
    return np.stack(kernels)


def empirical_nngp(nets: Networks, X1: ArrayLike, X2: ArrayLike | None = None) -> Floats:
    """Empirical NNGP kernel of every member, shape (E, n1, n2): the readout layer's share of the empirical NTK.

    σ_w²/N · φ(z^L) φ(z'^L)ᵀ + σ_b² with the readout's stds: the covariance of the outputs over a fresh readout.
    """
    x1, x2 = _pairs(nets, X1, X2)
    kernels = []
    for member in range(nets.members):
        a = _Pass(nets, member, x1)
        b = a if x2 is None else _Pass(nets, member, x2)
        kernels.append(_finish(_layer_gram(a, b, len(a.weights) - 1), a, b))
    return np.stack(kernels)


def _finish(kernel: Floats, a: _Pass, b: _Pass) -> Floats:
    kernel = kernel * a.scale[:, None] * b.scale[None, :]
    return (kernel + kernel.T) / 2 if a is b else kernel
