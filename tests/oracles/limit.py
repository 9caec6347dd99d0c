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
