"""Power series of kernels by recurrences whose terms are all positive, and sums Σ s_k a_k h_k(z), s = + + − −, to all degrees.

Nothing here continues a kernel into the complex plane, uses balls, Beta functions or tables, or imports the package under test:
numpy in extended precision, where a recurrence of positive terms loses a few units in the last place only.
"""

import numpy as np

WIDE = np.longdouble
PI = WIDE("3.14159265358979323846264338327950288")


# --- power series, (n + 1,) coefficients ------------------------------------------------------------------------


def times(a, b):
    """The product of two series, cut to their length."""
    if (a[0::2] == 0).all() or (a[1::2] == 0).all():
        return _sparse_times(a, b)
    n = a.size
    out = np.zeros(n, WIDE)
    for k in range(n):
        out[k] = a[: k + 1] @ b[k::-1]
    return out


def _sparse_times(a, b):
    """The same where a has one parity only."""
    parity = int((a[0::2] == 0).all())
    out, half = np.zeros(a.size, WIDE), a[parity::2]
    for k in range(parity, a.size):
        there = b[k - parity :: -2]
        out[k] = half[: there.size] @ there
    return out


def slope(a):
    """The derivative, of the same length, the last coefficient unknown and 0."""
    out = np.zeros(a.size, WIDE)
    out[:-1] = a[1:] * np.arange(1, a.size, dtype=WIDE)
    return out


def integral(a, start):
    """The integral that begins with ``start``."""
    out = np.empty(a.size, WIDE)
    out[0], out[1:] = start, a[:-1] / np.arange(1, a.size, dtype=WIDE)
    return out


def inverse_root(square, power):
    """(1 − s)^(−power) of a series s with coefficients >= 0: (1 − s) g' = power s' g."""
    n = square.size
    moved, g = slope(square), np.zeros(n, WIDE)
    g[0] = (1 - square[0]) ** (-WIDE(power))
    for k in range(n - 1):
        # (k + 1)(1 − s_0) g_{k+1} = power Σ s'_i g_{k−i} + Σ_{i>=1} s_i (k + 1 − i) g_{k+1−i}
        total = WIDE(power) * (moved[: k + 1] @ g[k::-1])
        if k:
            total += square[1 : k + 1] @ (np.arange(k, 0, -1, dtype=WIDE) * g[k:0:-1])
        g[k + 1] = total / ((k + 1) * (1 - square[0]))
    return g


def relu(rho, q):
    """E[φφ], E[φ'φ'] of ReLU at variance q as series in c, ρ given as one (Cho & Saul 2009), and E[φ²]."""
    moved = slope(rho)
    step = integral(times(inverse_root(times(rho, rho), 0.5), moved), WIDE(0)) / (2 * PI)
    step[0] = (PI - np.arccos(rho[0])) / (2 * PI)
    start = (np.sqrt(1 - rho[0] ** 2) + (PI - np.arccos(rho[0])) * rho[0]) / (2 * PI)
    return integral(times(step, moved), start) * q, step, q / 2


def erf(rho, q):
    """The same for erf(z) (Williams 1996)."""
    inside = 2 * q / (1 + 2 * q)
    s = rho * inside
    g = inverse_root(times(s, s), 0.5)
    value = integral(times(g, slope(s)), np.arcsin(s[0])) * (2 / PI)
    return value, g * (4 / PI / (1 + 2 * q)), 2 / PI * np.arcsin(inside)


def network(dual, depth, w_std, b_std, degree, readout=(1.0, 0.0)):
    """Coefficients of the NNGP kernel and of the NTK in c, each (degree+1,)."""
    w2, b2 = WIDE(w_std) ** 2, WIDE(b_std) ** 2
    sigma = np.zeros(degree + 2, WIDE)
    sigma[:2] = b2, w2
    q, theta = w2 + b2, sigma
    for layer in range(depth):
        value, moved, top = dual(sigma / q, q)
        out_w2, out_b2 = (WIDE(r) ** 2 for r in readout) if layer == depth - 1 else (w2, b2)
        sigma = out_w2 * value
        sigma[0] += out_b2
        theta = sigma + out_w2 * times(theta, moved)
        q = out_w2 * top + out_b2
    return sigma[:-1], theta[:-1]


def laplace(degree):
    """Coefficients of exp(−√(2(1 − c))), from 2(1 − c) f'' = f' + f."""
    b = np.empty(degree + 1, WIDE)
    b[0] = np.exp(-np.sqrt(WIDE(2)))
    b[1] = b[0] / np.sqrt(WIDE(2))
    for k in range(degree - 1):
        b[k + 2] = ((k + 1) * (2 * k + 1) * b[k + 1] + b[k]) / (2 * (k + 2) * WIDE(k + 1))
    return b


def exponential(degree, rate=1.0):
    """Coefficients of exp(rate c)."""
    return np.cumprod(np.concatenate([[WIDE(1)], WIDE(rate) / np.arange(1, degree + 1, dtype=WIDE)]))


def hermite_coefficients(b, kind):
    """a_k >= 0 of the theorem at ω_w = 1, ω_b = 0."""
    return np.sqrt(b / (1 + np.arange(b.size)) if kind == "ntk" else b)


# --- sums over all degrees ---------------------------------------------------------------------------------------


def signed(a):
    """With the signs + + − −."""
    return np.where(np.arange(a.size) % 4 < 2, a, -a)


def hermite_sums(c, z):
    """Σ_k c[i, k] h_k(z) for rows of coefficients, (rows, n)."""
    before, here = np.zeros(z.size, WIDE), np.ones(z.size, WIDE)
    total = np.outer(c[:, 0], here)
    for k in range(1, c.shape[1]):
        before, here = here, (z * here - np.sqrt(WIDE(k - 1)) * before) / np.sqrt(WIDE(k))
        total += np.outer(c[:, k], here)
    return total


def abel(a, z, orders=9, strongest=None):
    """Σ s_k a_k h_k(z) for |z| >= 1, as the limit of Σ s_k a_k r^k h_k(z), r = e^−t, at t -> 0: and an error estimate.

    That sum is E[φ(rz + √(1 − r²) g)], g ~ N(0, 1): the heat flow of φ, which away from a singularity of φ is a power series in
    t. It is computed for ``orders`` equally spaced t, the least of which lets r^k h_k(z) die out within the terms given, and
    extrapolated to t = 0 by a polynomial. The estimate is the difference to the polynomial without the last t.
    """
    z = np.asarray(z, dtype=WIDE)
    least = strongest or 75 / WIDE(a.size)
    t = least * (1 + np.arange(orders, dtype=WIDE) / 2)
    damped = np.exp(-np.outer(t, np.arange(a.size, dtype=WIDE))) * signed(a)
    sums = hermite_sums(damped, z)

    def at_zero(size):
        weights = [np.prod([t[j] / (t[j] - t[i]) for j in range(size) if j != i]) for i in range(size)]
        return np.array(weights) @ sums[:size]

    found = at_zero(orders)
    return found.astype(float), np.abs(found - at_zero(orders - 1)).astype(float)


def near(a, z, terms=6, shift=0.75):
    """Σ s_k a_k h_k(z) and its derivative for small |z|, with a tail of the terms given, (n,) each.

    With h_{2m}(0) (or h'_{2m+1}(0)) taken out, a_k is fitted by powers of m + shift at the upper half of the degrees; a
    power is ``∫ s^{p−1} e^{−(m + shift) s} ds/Γ(p)``, and Mehler's formula sums the terms under the integral, done here by
    a rule in log s.
    """
    z = np.asarray(z, dtype=WIDE)
    k = np.arange(a.size)
    even = np.concatenate(
        [[WIDE(1)], np.cumprod(np.sqrt(1 - 1 / (2 * np.arange(1, a.size // 2 + 1, dtype=WIDE))))]
    )
    tau = np.log(a[a.size // 2] / a[-1]) / np.log(WIDE(k[-1]) / k[a.size // 2])
    tau = float(np.round(8 * tau) / 8)
    x, w = np.polynomial.legendre.leggauss(20)
    log_s = np.linspace(-80.0, 5.0, 171)
    half = np.diff(log_s)[:, None] / 2
    s = np.exp((log_s[:-1, None] + half + half * x).ravel().astype(WIDE))
    weight = (half * w).ravel() * s
    rho2, gap = np.exp(-s), -np.expm1(-s)
    rest, value, moved = signed(a).astype(WIDE), np.zeros(z.size, WIDE), np.zeros(z.size, WIDE)
    for parity in (0, 1):
        m = np.arange(a[parity::2].size)
        unit = even[: m.size] * np.sqrt(WIDE(2) * m + 1 if parity else WIDE(1))
        powers = tau - 0.25 + 0.5 * parity + np.arange(terms)
        table = (m[:, None] + WIDE(shift)) ** -powers.astype(WIDE)
        e = a[parity::2] / unit
        used = slice(m.size // 2, None, 7)
        rows = (table[used] / e[used, None]).astype(float)
        size = np.linalg.norm(rows, axis=0)
        c = np.linalg.lstsq(rows / size, np.ones(rows.shape[0]), rcond=None)[0] / size
        rest[parity::2] -= np.where(m % 2, -1, 1) * unit * (table @ c)
        gammas = np.array([_gamma(p) for p in powers])
        mixture = weight * np.exp(-shift * s) * (c / gammas * s[:, None] ** (powers - 1)).sum(axis=1)
        bell = np.exp(-np.outer(z * z / 2, rho2 / gap))
        if parity:
            density = mixture * gap ** WIDE(-1.5)
            value += z * (bell @ density)
            moved += bell @ density - z * z * (bell @ (density * rho2 / gap))
        else:
            density = mixture * gap ** WIDE(-0.5)
            value += bell @ density
            moved -= z * (bell @ (density * rho2 / gap))
    slopes = rest[1:] * np.sqrt(k[1:].astype(WIDE))
    value += hermite_sums(rest[None], z)[0]
    moved += hermite_sums(slopes[None], z)[0]
    return value.astype(float), moved.astype(float)


def _gamma(x):
    from scipy.special import gamma

    return float(gamma(x))


# --- kernels of φ by quadrature ----------------------------------------------------------------------------------


def _rule(edges, nodes=12):
    x, w = np.polynomial.legendre.leggauss(nodes)
    half = np.diff(edges)[:, None] / 2
    return (edges[:-1, None] + half + half * x).ravel(), (half * w).ravel()


def _octaves(length, count):
    return _rule(np.concatenate([[0.0], length * 0.5 ** np.arange(count, -1.0, -1.0)]))


def half_line(octaves=26, reach=10.0):
    """Nodes and weights on [0, reach], graded towards 0."""
    return _rule(
        np.concatenate([[0.0], 0.5 ** np.arange(octaves, -1.0, -1.0), np.arange(1.5, reach + 0.5, 0.5)])
    )


def kernels(phi, slope, theta, octaves=26):
    """(NNGP, NTK) at angle θ of one hidden layer of φ with w_std = 1, without biases: E[φφ], E[φφ] + cos θ E[φ'φ'].

    u = r sin y and v = r sin(y ± θ), y the angle from the ray u = 0: φ may have a cusp at 0, towards which rule and rays are
    graded. Good to about 1e-9 for tables of cubics.
    """
    r, radial = half_line(octaves)
    radial = radial * r * np.exp(-r * r / 2)
    totals = np.zeros(2)
    for length, ahead in ((theta / 2, -theta), ((np.pi - theta) / 2, theta)):
        if length == 0:
            continue
        y, weights = _octaves(length, octaves)
        for at_u, at_v in ((y, y + ahead), (y + ahead, y)):
            for sign in (1.0, -1.0):
                u, v = sign * np.outer(r, np.sin(at_u)), sign * np.outer(r, np.sin(at_v))
                totals[0] += radial @ (phi(u) * phi(v)) @ weights
                totals[1] += radial @ (slope(u) * slope(v)) @ weights
    value, moved = totals / (2 * np.pi)
    return value, value + np.cos(theta) * moved


def deep_ntk(name, depth, w_std, b_std, theta):
    """NTK of a deep network of ReLU or erf at angles θ, layer by layer (Cho & Saul 2009; Williams 1996), float64."""
    w2, b2 = w_std**2, b_std**2
    q = w2 + b2
    c = np.cos(theta)
    rho, ntk = (w2 * c + b2) / q, w2 * c + b2
    for layer in range(depth):
        if name == "relu":
            angle = np.arccos(np.minimum(rho, 1.0))
            value = q * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
            moved, top = (np.pi - angle) / (2 * np.pi), q / 2
        else:
            s = 2 * q * rho / (1 + 2 * q)
            value, top = 2 / np.pi * np.arcsin(s), 2 / np.pi * np.arcsin(2 * q / (1 + 2 * q))
            moved = 4 / np.pi / np.sqrt((1 + 2 * q) ** 2 - (2 * q * rho) ** 2)
        out_w2, out_b2 = (1.0, 0.0) if layer == depth - 1 else (w2, b2)
        sigma = out_w2 * value + out_b2
        ntk = sigma + out_w2 * ntk * moved
        q = out_w2 * top + out_b2
        rho = sigma / q
    return ntk
