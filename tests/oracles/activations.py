"""Plain definitions of the built-in activations, and their Hermite coefficients by quadrature.

``DEFINITIONS[name] = (phi, dphi, kinks)``: NumPy functions of ``(z, *parameters)``, and the places where
phi or dphi jumps as a function of the parameters. At a kink the value is not defined here.
"""

import numpy as np
from mpmath import mp
from scipy import special

SQRT2 = np.sqrt(2.0)


def _density(z):
    return np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)


def _relu(z):
    return np.maximum(z, 0.0)


def _step(z):
    return (z > 0) * 1.0


def _logistic(z):
    return special.expit(z)


def _none(*_):
    return ()


def _zero(*_):
    return (0.0,)


DEFINITIONS = {
    "identity": (lambda z: z, lambda z: np.ones_like(z), _none),
    "relu": (_relu, _step, _zero),
    "leaky_relu": (lambda z, s: np.where(z > 0, z, s * z), lambda z, s: np.where(z > 0, 1.0, s), _zero),
    "abrelu": (
        lambda z, a, b: a * np.minimum(z, 0) + b * np.maximum(z, 0),
        lambda z, a, b: np.where(z > 0, b, a),
        _zero,
    ),
    "abs": (np.abs, np.sign, _zero),
    "sign": (np.sign, np.zeros_like, _zero),
    "step": (_step, np.zeros_like, _zero),
    "sin": (lambda z, a, b, c: a * np.sin(b * z + c), lambda z, a, b, c: a * b * np.cos(b * z + c), _none),
    "cos": (lambda z, a, b, c: a * np.cos(b * z + c), lambda z, a, b, c: -a * b * np.sin(b * z + c), _none),
    "rbf": (
        lambda z, g: SQRT2 * np.sin(np.sqrt(2 * g) * z + np.pi / 4),
        lambda z, g: 2 * np.sqrt(g) * np.cos(np.sqrt(2 * g) * z + np.pi / 4),
        _none,
    ),
    "relu_cos": (
        lambda z, a, b, c, d, e, f, g: a * _relu(z - b) + c * z + d + e * np.cos(f * z + g),
        lambda z, a, b, c, d, e, f, g: a * _step(z - b) + c - e * f * np.sin(f * z + g),
        lambda a, b, *_: (b,),
    ),
    "relu2_cos": (
        lambda z, a, b, a2, b2, c, d, e, f, g: (
            a * _relu(z - b) + a2 * _relu(z - b2) + c * z + d + e * np.cos(f * z + g)
        ),
        lambda z, a, b, a2, b2, c, d, e, f, g: (
            a * _step(z - b) + a2 * _step(z - b2) + c - e * f * np.sin(f * z + g)
        ),
        lambda a, b, a2, b2, *_: (b, b2),
    ),
    "erf": (
        lambda z, a, b, c: a * special.erf(b * z) + c,
        lambda z, a, b, c: 2 * a * b / np.sqrt(np.pi) * np.exp(-((b * z) ** 2)),
        _none,
    ),
    "gaussian": (
        lambda z, a, b: a * np.exp(b * z * z),
        lambda z, a, b: 2 * a * b * z * np.exp(b * z * z),
        _none,
    ),
    "exp": (lambda z, a, b: a * np.exp(b * z), lambda z, a, b: a * b * np.exp(b * z), _none),
    "gelu": (lambda z: z * special.ndtr(z), lambda z: special.ndtr(z) + z * _density(z), _none),
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2, _none),
    "sigmoid": (_logistic, lambda z: _logistic(z) * _logistic(-z), _none),
    "softplus": (lambda z: np.logaddexp(z, 0.0), _logistic, _none),
    "silu": (
        lambda z: z * _logistic(z),
        lambda z: _logistic(z) * (1 + z * _logistic(-z)),
        _none,
    ),
}


def gauss_panels(breaks, reach=32.0, width=0.125, order=16):
    """Nodes and weights on [−reach, reach] of composite Gauss-Legendre, panels ending at ``breaks``."""
    edges = np.union1d(np.arange(-reach, reach + width / 2, width), [b for b in breaks if abs(b) < reach])
    x, w = np.polynomial.legendre.leggauss(order)
    half, middle = np.diff(edges) / 2, (edges[1:] + edges[:-1]) / 2
    return (middle[:, None] + half[:, None] * x).ravel(), (half[:, None] * w).ravel()


def hermite_coefficients(name, parameters, variance, degree):
    """a_k(q) = E[phi(√q z) h_k(z)] for k = 0..degree by composite quadrature in float64."""
    phi, _, kinks = DEFINITIONS[name]
    scale = np.sqrt(variance)
    z, w = gauss_panels([b / scale for b in kinks(*parameters)])
    return _project(phi(scale * z, *parameters) * w * _density(z), z, degree)


def _project(weighted, z, degree):
    before, h = np.zeros_like(z), np.ones_like(z)
    coefficients = []
    for k in range(degree + 1):
        coefficients.append(np.dot(weighted, h))
        before, h = h, (z * h - np.sqrt(k) * before) / np.sqrt(k + 1)
    return np.array(coefficients)


def second_moment(name, parameters, variance):
    """E[phi(√q z)²]."""
    phi, _, kinks = DEFINITIONS[name]
    scale = np.sqrt(variance)
    z, w = gauss_panels([b / scale for b in kinks(*parameters)])
    return np.dot(phi(scale * z, *parameters) ** 2, w * _density(z))


def hermite_value(k, x):
    """h_k(x) to 40 digits, from mpmath's own Hermite function where k is small, else by the recurrence."""
    with mp.workdps(60):
        x = mp.mpf(x)
        if k <= 40:
            return mp.hermite(k, x / mp.sqrt(2)) / mp.sqrt(mp.mpf(2) ** k * mp.factorial(k))
        before, value = mp.mpf(0), mp.mpf(1)
        for j in range(k):
            before, value = value, (x * value - mp.sqrt(j) * before) / mp.sqrt(j + 1)
        return value


def precise_coefficient(name, parameters, variance, k):
    """a_k(q) by mpmath's adaptive quadrature at 30 digits, for a few smooth or piecewise-linear entries."""
    definitions = {
        "relu": lambda y: max(y, mp.mpf(0)),
        "gelu": lambda y: y * mp.ncdf(y),
        "erf": lambda y, a, b, c: a * mp.erf(b * y) + c,
        "sin": lambda y, a, b, c: a * mp.sin(b * y + c),
        "gaussian": lambda y, a, b: a * mp.exp(b * y * y),
    }
    with mp.workdps(30):
        scale = mp.sqrt(mp.mpf(variance))

        def integrand(z):
            return definitions[name](scale * z, *parameters) * hermite_value(k, z) * mp.npdf(z)

        return mp.quad(integrand, [-16, -8, -4, -2, 0, 2, 4, 8, 16])
