"""Full-batch and minibatch SGD steps by others: plain NumPy, PyTorch (if it is installed) and JAX (if it is installed).

All take the same step: NTK parameterisation without biases, w_std 1, readout 1, MSE as in :func:`ntkengine.train`, float32. A
maker takes ``(activation, X, Y, parameters, lr, batch)`` and gives ``run(steps)``, which goes on from where it stopped.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["MAKERS", "available", "relu_cos"]

Run = Callable[[int], object]
#: a, b, c, d, e, f, g of the published activation.
relu_cos = (3.80016, 1.06, 0.0968093, 0.901006, -0.079361, 11.81057, 0.934055)


def available(library: str) -> bool:
    """Whether it can be imported."""
    return importlib.util.find_spec(library) is not None


def _functions(name: str, m: Any) -> Callable[[Any], tuple[Any, Any]]:
    """φ and φ' of an activation, in the functions of the module ``m`` (NumPy or torch)."""
    if name == "sin":
        return lambda z: (m.sin(z), m.cos(z))
    if name == "relu":
        return lambda z: (z * (z > 0), z > 0)
    a, b, c, d, e, f, g = relu_cos

    def pair(z: Any) -> tuple[Any, Any]:
        on, turn = z > b, f * z + g
        return a * (z - b) * on + c * z + d + e * m.cos(turn), a * on + (c - e * f * m.sin(turn))

    return pair


def _step(pair: Any, x: Any, y: Any, weights: list[Any], lr: float) -> None:
    """One step, in place, on arrays of NumPy or torch; weights (fan_in, fan_out)."""
    h, states = x, []
    for w in weights[:-1]:
        phi, slope = pair((h @ w) * (1 / w.shape[0] ** 0.5))
        states.append((h, slope))
        h = phi
    scale = 1 / weights[-1].shape[0] ** 0.5
    delta = (scale * (h @ weights[-1]) - y) * (2 * scale / x.shape[0])
    back = delta @ weights[-1].T
    weights[-1] -= lr * (h.T @ delta)
    for layer in range(len(weights) - 2, -1, -1):
        below, slope = states[layer]
        w = weights[layer]
        delta = back * slope * (1 / w.shape[0] ** 0.5)
        if layer:
            back = delta @ w.T
        w -= lr * (below.T @ delta)


def _batches(n: int, batch: int, steps: int) -> Any:
    rng = np.random.default_rng(0)
    count = 0
    while count < steps:
        order = rng.permutation(n)
        for first in range(0, n - batch + 1, batch):
            yield order[first : first + batch]
            count += 1
            if count == steps:
                return


def numpy_steps(name: str, x: Any, y: Any, weights: list[Any], lr: float, batch: int) -> Run:
    """Plain NumPy."""
    pair, weights = _functions(name, np), [w.copy() for w in weights]

    def run(steps: int) -> object:
        if batch == x.shape[0]:
            for _ in range(steps):
                _step(pair, x, y, weights, lr)
        else:
            for rows in _batches(x.shape[0], batch, steps):
                _step(pair, x[rows], y[rows], weights, lr)
        return weights

    return run


def torch_by_hand(name: str, x: Any, y: Any, weights: list[Any], lr: float, batch: int) -> Run:
    """The same step on torch tensors, without autograd."""
    import torch

    pair = _functions(name, torch)
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)
    tw = [torch.from_numpy(w.copy()) for w in weights]

    def run(steps: int) -> object:
        with torch.no_grad():
            if batch == x.shape[0]:
                for _ in range(steps):
                    _step(pair, tx, ty, tw, lr)
            else:
                for rows in _batches(x.shape[0], batch, steps):
                    chosen = torch.from_numpy(rows)
                    _step(pair, tx[chosen], ty[chosen], tw, lr)
        return tw

    return run


def _torch_loss(name: str) -> Any:
    import torch

    pair = _functions(name, torch)

    def loss(weights: list[Any], x: Any, y: Any) -> Any:
        h = x
        for w in weights[:-1]:
            h = pair((h @ w) * (1 / w.shape[0] ** 0.5))[0]
        return ((h @ weights[-1] * (1 / weights[-1].shape[0] ** 0.5) - y) ** 2).sum(1).mean()

    return loss


def torch_eager(
    name: str, x: Any, y: Any, weights: list[Any], lr: float, batch: int, compiled: bool = False
) -> Run:
    """torch.autograd and a plain SGD update; ``compiled``: the loss through torch.compile."""
    import torch

    loss = _torch_loss(name)
    function = torch.compile(loss) if compiled else loss
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)
    tw = [torch.from_numpy(w.copy()).requires_grad_() for w in weights]

    def one(bx: Any, by: Any) -> None:
        gradients = torch.autograd.grad(function(tw, bx, by), tw)
        with torch.no_grad():
            for w, g in zip(tw, gradients):
                w -= lr * g

    def run(steps: int) -> object:
        if batch == x.shape[0]:
            for _ in range(steps):
                one(tx, ty)
        else:
            for rows in _batches(x.shape[0], batch, steps):
                chosen = torch.from_numpy(rows)
                one(tx[chosen], ty[chosen])
        return tw

    return run


def torch_compiled(name: str, x: Any, y: Any, weights: list[Any], lr: float, batch: int) -> Run:
    """torch.compile."""
    return torch_eager(name, x, y, weights, lr, batch, compiled=True)


def jax_steps(name: str, x: Any, y: Any, weights: list[Any], lr: float, batch: int) -> Run:
    """jax.grad and jax.jit of the whole step."""
    import jax
    import jax.numpy as jnp

    pair = _functions(name, jnp)

    def loss(ws: Any, bx: Any, by: Any) -> Any:
        h = bx
        for w in ws[:-1]:
            h = pair((h @ w) * (1 / w.shape[0] ** 0.5))[0]
        return ((h @ ws[-1] * (1 / ws[-1].shape[0] ** 0.5) - by) ** 2).sum(1).mean()

    step = jax.jit(lambda ws, bx, by: [w - lr * g for w, g in zip(ws, jax.grad(loss)(ws, bx, by))])
    state, jx, jy = [[jnp.asarray(w) for w in weights]], jnp.asarray(x), jnp.asarray(y)

    def run(steps: int) -> object:
        if batch == x.shape[0]:
            for _ in range(steps):
                state[0] = step(state[0], jx, jy)
        else:
            for rows in _batches(x.shape[0], batch, steps):
                state[0] = step(state[0], jx[rows], jy[rows])
        return jax.block_until_ready(state[0])

    return run


#: Name -> maker, with the library that it needs.
MAKERS: dict[str, tuple[str, Callable[..., Run]]] = {
    "NumPy": ("numpy", numpy_steps),
    "torch by hand": ("torch", torch_by_hand),
    "torch eager": ("torch", torch_eager),
    "torch.compile": ("torch", torch_compiled),
    "JAX": ("jax", jax_steps),
}
