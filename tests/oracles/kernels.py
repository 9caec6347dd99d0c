"""Kernels of infinitely wide networks by independent means: mpmath recursions, quadrature and sampling.

Nothing here splits activations into jumps and a rest, and nothing imports the package under test.
"""

import functools
import itertools

import mpmath as mp
import numpy as np
from mpmath.calculus.quadrature import GaussLegendre

DIGITS = 40


def hermite_values(z, degree):
    """h_0(z)..h_degree(z), orthonormal probabilists', as mpf."""
    with mp.workdps(DIGITS + 20):
        z = mp.mpf(z)
        values = [mp.mpf(1), z]
        for k in range(1, degree):
            values.append((z * values[k] - mp.sqrt(k) * values[k - 1]) / mp.sqrt(k + 1))
        return values[: degree + 1]


def coefficient(f, k, kinks=(), reach=14):
    """E[f(z) h_k(z)] by mpmath quadrature between kinks, to about 20 digits."""
    with mp.workdps(22):

        def term(z):
            before, here = mp.mpf(0), mp.mpf(1)
            for i in range(k):
                before, here = here, (z * here - mp.sqrt(i) * before) / mp.sqrt(i + 1)
            return f(z) * here * mp.npdf(z)

        return mp.quad(term, sorted({*range(-reach, reach + 1, 2), *kinks}), maxdegree=5)


def _angle(delta):
    """θ with 1 − cos θ = delta."""
    return 2 * mp.asin(mp.sqrt(delta / 2))


def relu_dual(q, delta):
    """E[φφ] and E[φ'φ'] for ReLU at variance q (Cho & Saul 2009, order 1 and 0)."""
    theta = _angle(delta)
    value = q * (mp.sin(theta) + (mp.pi - theta) * mp.cos(theta)) / (2 * mp.pi)
    return value, (mp.pi - theta) / (2 * mp.pi)


def leaky_dual(negative, positive):
    """The same for negative·min(z, 0) + positive·max(z, 0), from the ReLU's at θ and π − θ."""

    def dual(q, delta):
        here, slope = relu_dual(q, delta)
        there, other = relu_dual(q, 2 - delta)
        same, cross = negative**2 + positive**2, -2 * negative * positive
        return same * here + cross * there, same * slope - cross * other

    return dual


def sign_dual(q, delta):
    """Sign: arcsine law."""
    return 1 - 2 * _angle(delta) / mp.pi, mp.mpf(0)


def step_dual(q, delta):
    """Step: orthant probability."""
    return (1 - _angle(delta) / mp.pi) / 2, mp.mpf(0)


def identity_dual(q, delta):
    """φ(z) = z."""
    return q * (1 - delta), mp.mpf(1)


def erf_dual(a, b):
    """a·erf(bz): Williams 1996."""

    def dual(q, delta):
        s, rho = 2 * b**2 * q, 1 - delta
        value = 2 * a**2 / mp.pi * mp.asin(s * rho / (1 + s))
        slope = 4 * a**2 * b**2 / (mp.pi * mp.sqrt((1 + s) ** 2 - (s * rho) ** 2))
        return value, slope

    return dual


def cos_dual(f, g):
    """cos(fz + g), from E cos of Gaussians."""

    def dual(q, delta):
        near, far = mp.exp(-(f**2) * q * delta), mp.exp(-(f**2) * q * (2 - delta))
        phase = mp.cos(2 * g)
        return (near + phase * far) / 2, f**2 * (near - phase * far) / 2

    return dual


def gaussian_dual(b):
    """exp(b z²), b < 0: a Gaussian integral."""

    def dual(q, delta):
        rho = 1 - delta
        s = -2 * b * q
        determinant = (1 + s) ** 2 - (s * rho) ** 2
        value = 1 / mp.sqrt(determinant)
        # E[φ'φ'] = dG/d(covariance), covariance = qρ
        return value, s**2 * rho / (q * determinant * mp.sqrt(determinant))

    return dual


def kernels(dual, depth, w_std, b_std, delta, readout=(1, 0)):
    """(NNGP, NTK) of a deep network at 1 − c = delta, from a dual(q, 1 − ρ), to 40 digits."""
    with mp.workdps(DIGITS + 40):
        delta = mp.mpf(delta)
        w2, b2 = mp.mpf(w_std) ** 2, mp.mpf(b_std) ** 2
        q = w2 + b2
        sigma = theta = q - w2 * delta
        for layer in range(depth):
            if layer == depth - 1:
                out_w2, out_b2 = mp.mpf(readout[0]) ** 2, mp.mpf(readout[1]) ** 2
            else:
                out_w2, out_b2 = w2, b2
            value, slope = dual(q, 1 - sigma / q)
            top = dual(q, mp.mpf(0))[0]
            sigma = out_w2 * value + out_b2
            theta = sigma + out_w2 * theta * slope
            q = out_w2 * top + out_b2
        return sigma, theta


@functools.cache
def _rule(digits):
    """24 Gauss–Legendre nodes and weights on [−1, 1], or 48 for more than 40 digits."""
    with mp.workdps(digits):
        return GaussLegendre(mp.mp).calc_nodes(4 if digits <= 40 else 5, mp.mp.prec)


def over(ends, function, size):
    """∫ function(z) dz over panels between ``ends``; ``function`` returns a list of ``size`` integrands."""
    total = [mp.mpf(0)] * size
    for left, right in itertools.pairwise(ends):
        middle, half = (left + right) / 2, (right - left) / 2
        for x, w in _rule(mp.mp.dps):
            values = function(middle + half * x)
            total = [t + half * w * v for t, v in zip(total, values)]
    return total


def standard_ntk(sigma, expectations, n_inputs, width, w_std, b_std, readout=(1, 0)):
    """NTK of the standard parameterization (Sohl-Dickstein et al. 2020), written out.

    Θ¹ = x·x' + 1[b], Θˡ⁺¹ = N E[φφ] + 1[b] + σ_w² Θˡ E[φ'φ']; 1[b] is 1 where there are biases.
    ``sigma`` is Σ¹ of one pair of points, ``expectations`` the (E[φφ], E[φ'φ']) of the hidden layers.
    """
    theta = n_inputs * (sigma - b_std**2) / w_std**2 + (b_std > 0)
    for layer, (value, slope) in enumerate(expectations, start=1):
        w, b = readout if layer == len(expectations) else (w_std, b_std)
        theta = width * value + (b > 0) + w**2 * theta * slope
    return theta


def standard_network(X, widths, phi, dphi, w_std, b_std, readout, seed):
    """Empirical NTK (n, n) of one network f(x) with W ~ N(0, σ_w²/fan_in), b ~ N(0, σ_b²), as parts: one of each affine map.

    Backpropagation by hand: the gradient of f by W of a map is (what comes in) ⊗ (∂f/∂z), that by b is ∂f/∂z.
    """
    rng = np.random.default_rng(seed)
    sizes = [X.shape[1], *widths, 1]
    stds = [(w_std, b_std)] * len(widths) + [readout]
    maps = [
        (rng.standard_normal((fan_in, fan_out)) * w / np.sqrt(fan_in), rng.standard_normal(fan_out) * b)
        for fan_in, fan_out, (w, b) in zip(sizes[:-1], sizes[1:], stds)
    ]
    inputs, slopes = [X], []
    for w, b in maps[:-1]:
        z = inputs[-1] @ w + b
        inputs.append(phi(z))
        slopes.append(dphi(z))
    back, parts = np.ones((len(X), 1)), []
    for layer in range(len(maps) - 1, -1, -1):
        parts.append((inputs[layer] @ inputs[layer].T + (stds[layer][1] > 0)) * (back @ back.T))
        if layer:
            back = (back @ maps[layer][0].T) * slopes[layer - 1]
    return parts[::-1]


def normal_rule(breaks=(), reach=14.0, panels=112, nodes=24):
    """Composite Gauss–Legendre nodes and weights of the normal density, panels ending at the breaks too."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    ends = np.unique(np.concatenate([np.linspace(-reach, reach, panels + 1), breaks]))
    half = np.diff(ends)[:, None] / 2
    z = (ends[:-1, None] + half + half * x).ravel()
    return z, (half * w).ravel() * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)


def hermite_table(z, degree):
    """h_0(z)..h_degree(z) in float64, (degree+1, n): for sums against the density, which tames them."""
    found = np.empty((degree + 1, z.size))
    found[0], found[1:2] = 1.0, z
    for k in range(1, degree):
        found[k + 1] = (z * found[k] - np.sqrt(k) * found[k - 1]) / np.sqrt(k + 1)
    return found


def truncated_power_pairs(h, k, delta, digits=40):
    """R_mn = E[(u − h)^m₊/m! (v − k)^n₊/n!] at 1 − ρ = delta, m, n = 0..3: nested lists of mpf, from the definition.

    Given u, v is Gaussian: its truncated moments are closed. The integral over u is done by panels, fine where v crosses k.
    At ρ = ±1 one integral over z is left.
    """
    with mp.workdps(digits):
        h, k, delta = mp.mpf(h), mp.mpf(k), mp.mpf(delta)
        rho, variance = 1 - delta, delta * (2 - delta)
        reach, factorials = mp.mpf(15), [1, 1, 2, 6]
        if variance == 0:
            low, high = (max(h, k), reach) if rho > 0 else (h, -k)
            if low >= high:
                return [[mp.mpf(0)] * 4] * 4

            def product(u):
                p, a, b = mp.npdf(u), u - h, rho * u - k
                return [p * a**m * b**n / (factorials[m] * factorials[n]) for m in range(4) for n in range(4)]

            flat = over(mp.linspace(low, high, 9), product, 16)
            return [flat[4 * m : 4 * m + 4] for m in range(4)]
        s = mp.sqrt(variance)

        def conditional(u):
            p, a, shift = mp.npdf(u), u - h, rho * u - k
            moments = [mp.erfc(-shift / (s * mp.sqrt(2))) / 2]
            moments.append(shift * moments[0] + s * mp.npdf(shift / s))
            for j in (2, 3):  # E[(c + s z)^j₊] = c (that of j−1) + (j−1) s² (that of j−2)
                moments.append(shift * moments[j - 1] + (j - 1) * variance * moments[j - 2])
            return [
                p * a**m * moments[n] / (factorials[m] * factorials[n]) for m in range(4) for n in range(4)
            ]

        ends = {h, reach, *(mp.mpf(j) for j in range(-14, 15, 3) if j > h)}
        if rho:
            width = s / abs(rho)
            layer = (
                k / rho + side * width * step for side in (-1, 1) for step in (0, 3, 6, 10, 15, 25, 50, 100)
            )
            ends |= {end for end in layer if h < end < reach}
        flat = over(sorted(ends), conditional, 16)
        return [flat[4 * m : 4 * m + 4] for m in range(4)]


def dual_by_quadrature(phi, dphi, q, rho, nodes=24, reach=13.5, panels=27, kinks=(), rows=64):
    """E[φφ] and E[φ'φ'] by brute-force two-dimensional numpy quadrature.

    u = z₁, v = ρ z₁ + s z₂, s = √(1−ρ²). Inner panels end where v meets a kink. The inner integral is then a smooth function
    of z₁, but with layers of width s/ρ at the kinks of v: outer panels end at the kinks of u and double in width away from
    these layers. At ρ = ±1 one integral is left. Good to about 2e-15 of E[φ²] where ``panels`` resolve φ(√q z).
    """
    x, w = np.polynomial.legendre.leggauss(nodes)
    root, s = np.sqrt(q), np.sqrt((1 - rho) * (1 + rho))
    plain, kinks = np.linspace(-reach, reach, panels + 1), np.asarray(kinks, dtype=float) / root

    def rule(ends):
        """Nodes and weights of the density, (rows, nodes), for panel ends (rows, panels + 1)."""
        ends = np.sort(np.clip(ends, -reach, reach), axis=1)
        half = np.diff(ends)[:, :, None] / 2
        z = (ends[:, :-1, None] + half + half * x).reshape(len(ends), -1)
        return z, (half * w).reshape(len(ends), -1) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)

    if s == 0:
        z, weights = rule(np.concatenate([plain, kinks, rho * kinks])[None])
        return tuple(float((weights * f(root * z) * f(root * rho * z)).sum()) for f in (phi, dphi))
    layers = (
        s / abs(rho) * np.array([0.0, *(side * 2**j for j in range(24) for side in (1, -1))]) if rho else 0.0
    )
    centres = kinks / rho if rho else kinks
    graded = (centres[:, None] + layers).ravel()
    u, outer = (
        a[0] for a in rule(np.unique(np.concatenate([plain, kinks, graded[np.abs(graded) < reach]]))[None])
    )
    outer_phi, outer_slope = outer * phi(root * u), outer * dphi(root * u)
    value = slope = 0.0
    for block in range(0, u.size, rows):
        part = slice(block, block + rows)
        breaks = (kinks - rho * u[part, None]) / s
        z, inner = rule(np.concatenate([np.broadcast_to(plain, (len(breaks), plain.size)), breaks], axis=1))
        v = root * (rho * u[part, None] + s * z)
        value += float(outer_phi[part] @ (inner * phi(v)).sum(axis=1))
        slope += float(outer_slope[part] @ (inner * dphi(v)).sum(axis=1))
    return value, slope


def dual_by_mehler(phi, q, rho, degree=600, nodes=3000, reach=13.0):
    """E[φφ] and E[φ'φ'] of a smooth φ by the plain Hermite sum, on a fine composite rule in numpy."""
    x, w = np.polynomial.legendre.leggauss(20)
    ends = np.linspace(-reach, reach, nodes // 20 + 1)
    half = np.diff(ends)[:, None] / 2
    z = (ends[:-1, None] + half + half * x).ravel()
    f = phi(np.sqrt(q) * z) * (half * w).ravel() * np.exp(-z * z / 4)
    before, here = np.zeros_like(z), np.exp(-z * z / 4)
    value = slope = 0.0
    for k in range(degree + 1):
        a = float((f * here).sum()) / np.sqrt(2 * np.pi)
        value += a * a * rho**k
        slope += k * a * a * rho ** max(k - 1, 0) / q
        before, here = here, (z * here - np.sqrt(k) * before) / np.sqrt(k + 1)
    return value, slope
