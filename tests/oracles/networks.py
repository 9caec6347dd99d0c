"""Fully-connected networks in plain numpy float64, written for reading: forward, gradients by hand, SGD, Jacobians.

A network is a list of (W (fan_in, fan_out), b (fan_out,) or None) with N(0, 1)-scaled entries and a dict of standard
deviations ``w_std, b_std, readout_w_std, readout_b_std``. Imports numpy only.
"""

import numpy as np

ACTIVATIONS = {
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
    "sin": (lambda z: 0.5 * np.sin(6 * z + 0.3), lambda z: 3 * np.cos(6 * z + 0.3)),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "relu_cos": (
        lambda z: (
            3.80016 * np.maximum(z - 1.06, 0)
            + 0.0968093 * z
            + 0.901006
            - 0.0793610 * np.cos(11.81057 * z + 0.934055)
        ),
        lambda z: 3.80016 * (z > 1.06) + 0.0968093 + 0.0793610 * 11.81057 * np.sin(11.81057 * z + 0.934055),
    ),
}


def scales(net, stds):
    """What multiplies W x and b in every affine map."""
    last = len(net) - 1
    return [
        ((stds["readout_w_std"] if i == last else stds["w_std"]) / np.sqrt(w.shape[0]),
         stds["readout_b_std"] if i == last else stds["b_std"])
        for i, (w, _) in enumerate(net)
    ]  # fmt: skip


def forward(net, x, activation, stds):
    """Outputs (n, m), the inputs of every affine map, and φ' of every hidden layer."""
    phi, dphi = ACTIVATIONS[activation]
    inputs, slopes = [x], []
    for i, ((w, b), (sw, sb)) in enumerate(zip(net, scales(net, stds))):
        z = sw * inputs[-1] @ w + (0 if b is None else sb * b)
        if i == len(net) - 1:
            return z, inputs, slopes
        inputs.append(phi(z))
        slopes.append(dphi(z))
    raise AssertionError


def lifted(x):
    """The radial lift's factors: x/r and r, r = |x|/√d; a zero row stays zero."""
    r = np.sqrt((x**2).sum(1) / x.shape[1])
    return np.divide(x, r[:, None], out=np.zeros_like(x), where=r[:, None] > 0), r


def gradients(net, x, delta, activation, stds):
    """(∂/∂W, ∂/∂b) of Σ_ij delta_ij f_j(x_i), map by map."""
    _, inputs, slopes = forward(net, x, activation, stds)
    found = []
    for i in range(len(net) - 1, -1, -1):
        w, b = net[i]
        sw, sb = scales(net, stds)[i]
        found.append((sw * inputs[i].T @ delta, None if b is None else sb * delta.sum(0)))
        if i:
            delta = (sw * delta @ w.T) * slopes[i - 1]
    return found[::-1]


def loss(f, y):
    return ((f - y) ** 2).sum(1).mean()


def sgd(net, x, y, activation, stds, lr, batches, lift=None):
    """Loss before every step, and the trained network; ``batches`` is a list of row-index arrays; ``lift`` the rows' r."""
    r = np.ones(len(x)) if lift is None else lift
    losses = []
    for rows in batches:
        f = r[rows, None] * forward(net, x[rows], activation, stds)[0]
        losses.append(loss(f, y[rows]))
        delta = 2 / len(rows) * (f - y[rows]) * r[rows, None]
        net = [
            (w - lr * gw, None if b is None else b - lr * gb)
            for (w, b), (gw, gb) in zip(net, gradients(net, x[rows], delta, activation, stds))
        ]
    return losses, net


def jacobian(net, x, activation, stds):
    """∂f_j(x_i)/∂θ as (n, m, P)."""
    n, m = len(x), net[-1][0].shape[1]
    rows = []
    for i in range(n):
        for j in range(m):
            delta = np.zeros((1, m))
            delta[0, j] = 1
            parts = gradients(net, x[i : i + 1], delta, activation, stds)
            rows.append(np.concatenate([g.ravel() for pair in parts for g in pair if g is not None]))
    return np.array(rows).reshape(n, m, -1)


def numeric_gradients(net, x, y, activation, stds, step=1e-6):
    """Central differences of the loss, map by map: (∂W, ∂b)."""
    found = []
    for i, pair in enumerate(net):
        parts = []
        for which in (0, 1):
            if pair[which] is None:
                parts.append(None)
                continue
            grad = np.zeros_like(pair[which])
            for index in np.ndindex(grad.shape):
                values = []
                for sign in (1, -1):
                    shifted = [list(p) for p in net]
                    shifted[i][which] = shifted[i][which].copy()
                    shifted[i][which][index] += sign * step
                    values.append(loss(forward([tuple(p) for p in shifted], x, activation, stds)[0], y))
                grad[index] = (values[0] - values[1]) / (2 * step)
            parts.append(grad)
        found.append(tuple(parts))
    return found
