"""Source of a network with one hidden layer, in four languages: parameters, their initialisation, the forward pass.

The text reads ``phi`` and the four standard deviations; a bias that does not exist is nowhere in it. Parameters are those of
:meth:`ntkengine.FCN.from_parameters`, per affine map W (fan_in, fan_out) and b (fan_out,) or None; PyTorch's weights are
transposed, as its users expect.
"""

from __future__ import annotations

from ntkengine.infinite.fcn import FCN

__all__ = ["network_source", "scales_source"]


def scales_source(fcn: FCN) -> str:
    """The standard deviations as constants."""
    return "\n".join(
        [
            f"W_STD, B_STD = {fcn.w_std!r}, {fcn.b_std!r}  # σ_w, σ_b",
            f"READOUT_W_STD, READOUT_B_STD = {fcn.readout_w_std!r}, {fcn.readout_b_std!r}  # ω_w, ω_b",
        ]
    )


def network_source(fcn: FCN, language: str) -> str:
    """Definitions of the network; see the module's text."""
    return _WRITERS[language](fcn)


def _lines(*parts: str | bool) -> str:
    """Lines joined; False leaves one out."""
    return "\n".join(part for part in parts if isinstance(part, str))


def _numpy(fcn: FCN) -> str:
    b1, b2, lift = fcn.b_std > 0, fcn.readout_b_std > 0, fcn.radial_lift
    return _lines(
        "def init(n_inputs, width, n_outputs=1, seed=0):",
        '    """Parameters [(W, b), (V, b2)] from N(0, 1): W (d, N), b (N,), V (N, m), b2 (m,)'
        + ('."""' if b1 and b2 else '; None: no bias."""'),
        "    draw = np.random.default_rng(seed).standard_normal",
        f"    hidden = draw((n_inputs, width)), {'draw(width)' if b1 else None}",
        f"    readout = draw((width, n_outputs)), {'draw(n_outputs)' if b2 else None}",
        "    return [hidden, readout]",
        "",
        "",
        "def forward(parameters, x):",
        '    """Outputs f(x), shape (n, m), of the rows of x, shape (n, d)."""',
        "    (W, b), (V, b2) = parameters",
        "    x = np.asarray(x, dtype=np.float64)",
        lift and "    r = np.sqrt(np.mean(x * x, axis=1, keepdims=True))  # |x|/√d",
        lift and "    x = x / np.where(r > 0.0, r, 1.0)",
        "    z = W_STD / np.sqrt(W.shape[0]) * (x @ W)" + (" + B_STD * b" if b1 else ""),
        "    f = READOUT_W_STD / np.sqrt(V.shape[0]) * (phi(z) @ V)"
        + (" + READOUT_B_STD * b2" if b2 else ""),
        "    return r * f" if lift else "    return f",
    )


def _jax(fcn: FCN) -> str:
    b1, b2, lift = fcn.b_std > 0, fcn.readout_b_std > 0, fcn.radial_lift
    return _lines(
        "def init(key, n_inputs, width, n_outputs=1):",
        '    """Parameters [(W, b), (V, b2)] from N(0, 1): W (d, N), b (N,), V (N, m), b2 (m,)'
        + ('."""' if b1 and b2 else '; None: no bias."""'),
        "    keys = jax.random.split(key, 4)",
        "    draw = jax.random.normal",
        f"    hidden = draw(keys[0], (n_inputs, width)), {'draw(keys[1], (width,))' if b1 else None}",
        f"    readout = draw(keys[2], (width, n_outputs)), {'draw(keys[3], (n_outputs,))' if b2 else None}",
        "    return [hidden, readout]",
        "",
        "",
        "def apply(parameters, x):",
        '    """Outputs f(x), shape (n, m), of the rows of x, shape (n, d)."""',
        "    (W, b), (V, b2) = parameters",
        lift and "    square = jnp.mean(x * x, axis=1, keepdims=True)",
        lift and "    r = jnp.sqrt(jnp.where(square > 0.0, square, 1.0))  # |x|/√d; 1 for the zero vector",
        lift and "    x = x / r",
        "    z = W_STD / W.shape[0] ** 0.5 * (x @ W)" + (" + B_STD * b" if b1 else ""),
        "    f = READOUT_W_STD / V.shape[0] ** 0.5 * (phi(z) @ V)" + (" + READOUT_B_STD * b2" if b2 else ""),
        "    return jnp.where(square > 0.0, r, 0.0) * f" if lift else "    return f",
    )


def _torch(fcn: FCN) -> str:
    b1, b2, lift = fcn.b_std > 0, fcn.readout_b_std > 0, fcn.radial_lift
    return _lines(
        "class Network(nn.Module):",
        '    """f(x), shape (n, m), of the rows of x, shape (n, d): one hidden layer of width N.',
        "",
        "    Parameters are N(0, 1): weight1 (N, d), " + ("bias1 (N,), " if b1 else "")
        + ("weight2 (m, N), bias2 (m,)." if b2 else "weight2 (m, N)."),
        '    """',
        "",
        "    def __init__(self, n_inputs, width, n_outputs=1):",
        "        super().__init__()",
        "        self.weight1 = nn.Parameter(torch.empty(width, n_inputs))",
        b1 and "        self.bias1 = nn.Parameter(torch.empty(width))",
        "        self.weight2 = nn.Parameter(torch.empty(n_outputs, width))",
        b2 and "        self.bias2 = nn.Parameter(torch.empty(n_outputs))",
        "        self.reset_parameters()",
        "",
        "    def reset_parameters(self):",
        '        """Draw all parameters anew from N(0, 1)."""',
        "        for parameter in self.parameters():",
        "            nn.init.normal_(parameter)",
        "",
        "    def forward(self, x):",
        lift and "        r = torch.linalg.vector_norm(x, dim=-1, keepdim=True) / math.sqrt(x.shape[-1])  # |x|/√d",
        lift and "        x = x / torch.where(r > 0.0, r, 1.0)",
        "        z = W_STD / math.sqrt(self.weight1.shape[1]) * (x @ self.weight1.T)"
        + (" + B_STD * self.bias1" if b1 else ""),
        "        f = READOUT_W_STD / math.sqrt(self.weight2.shape[1]) * (phi(z) @ self.weight2.T)",
        b2 and "        f = f + READOUT_B_STD * self.bias2",
        "        return r * f" if lift else "        return f",
    )  # fmt: skip


_WRITERS = {"numpy": _numpy, "numba": _numpy, "torch": _torch, "jax": _jax}
