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


def _hermite_sum(z, *c):
    """Σ_k c_k h_k(z), from the values of h_k by the recurrence."""
    before, here, total = 0 * z, 1 + 0 * z, 0 * z
    for k, weight in enumerate(c):
        total = total + weight * here
        before, here = here, (z * here - np.sqrt(k) * before) / np.sqrt(k + 1)
    return total


def _hermite_slope(z, *c):
    """From h_k' = √k h_{k−1}."""
    return _hermite_sum(z, *(np.sqrt(k) * c[k] for k in range(1, len(c))))


SELU_SCALE, SELU_ALPHA = 1.0507009873554804934, 1.6732632423543772848


def _elu(z, alpha):
    return np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0)))


def _elu_slope(z, alpha):
    return np.where(z > 0, 1.0, alpha * np.exp(np.minimum(z, 0)))


def _mish_slope(z):
    gate = np.tanh(np.logaddexp(z, 0.0))
    return gate + z * (1 - gate**2) * _logistic(z)


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
    "elu": (_elu, _elu_slope, _zero),
    "selu": (
        lambda z: SELU_SCALE * _elu(z, SELU_ALPHA),
        lambda z: SELU_SCALE * _elu_slope(z, SELU_ALPHA),
        _zero,
    ),
    "mish": (lambda z: z * np.tanh(np.logaddexp(z, 0.0)), _mish_slope, _none),
    "monomial": (lambda z, n: z**n, lambda z, n: n * z ** (n - 1), _none),
    "polynomial": (
        lambda z, *c: np.polynomial.polynomial.polyval(z, c),
        lambda z, *c: np.polynomial.polynomial.polyval(z, np.polynomial.polynomial.polyder(c)),
        _none,
    ),
    "hermite": (_hermite_sum, _hermite_slope, _none),
}

# The same in mpmath, for those whose tails, kinks or coefficients are looked at closely.
PRECISE = {
    "relu": lambda y: max(y, mp.mpf(0)),
    "leaky_relu": lambda y, slope: y if y > 0 else slope * y,
    "abrelu": lambda y, a, b: b * y if y > 0 else a * y,
    "abs": abs,
    "sign": mp.sign,
    "step": lambda y: mp.mpf(y > 0),
    "elu": lambda y, alpha: y if y > 0 else alpha * mp.expm1(y),
    "selu": lambda y: (
        mp.mpf("1.0507009873554804934193349852946")
        * (y if y > 0 else mp.mpf("1.6732632423543772848170429916717") * mp.expm1(y))
    ),
    "mish": lambda y: y * mp.tanh(mp.log1p(mp.exp(y))),
    "gelu": lambda y: y * mp.ncdf(y),
    "erf": lambda y, a, b, c: a * mp.erf(b * y) + c,
    "sin": lambda y, a, b, c: a * mp.sin(b * y + c),
    "gaussian": lambda y, a, b: a * mp.exp(b * y * y),
    "monomial": lambda y, n: y ** int(n),
    "polynomial": lambda y, *c: mp.polyval(c[::-1], y),
    "hermite": lambda y, *c: mp.fsum(a * hermite_value(k, y) for k, a in enumerate(c)),
    "relu_cos": lambda y, a, b, c, d, e, f, g: a * max(y - b, mp.mpf(0)) + c * y + d + e * mp.cos(f * y + g),
    "relu2_cos": lambda y, a, b, a2, b2, *rest: (
        a2 * max(y - b2, mp.mpf(0)) + PRECISE["relu_cos"](y, a, b, *rest)
    ),
}


def precise(name, parameters, y, order=0):
    """φ(y), or a derivative of it, to 20 digits; by central differences, so not within 1e-15 of a kink."""
    with mp.workdps(80):
        return mp.diff(lambda x: PRECISE[name](x, *parameters), mp.mpf(y), order, h=mp.mpf("1e-16"))


def jump(name, parameters, location, order):
    """A derivative just to the right of a kink less the same just to the left, to 10 digits."""
    with mp.workdps(80):
        at, near = mp.mpf(location), mp.mpf("1e-14")
        return precise(name, parameters, at + near, order) - precise(name, parameters, at - near, order)


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
    """a_k(q) by mpmath's adaptive quadrature at 30 digits, for the smooth and the piecewise-linear."""
    with mp.workdps(30):
        scale = mp.sqrt(mp.mpf(variance))

        def integrand(z):
            return PRECISE[name](scale * z, *parameters) * hermite_value(k, z) * mp.npdf(z)

        return mp.quad(integrand, [-16, -8, -4, -2, 0, 2, 4, 8, 16])
