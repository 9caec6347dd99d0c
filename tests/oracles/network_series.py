"""Power series of network kernels in mpmath: truncated power series at 40 digits, composed layer by layer.

A series is a list of mpf, s_0..s_n. Duals are operations on series: powers and exponentials by their differential equations,
arcsines by integration, Mehler sums by Horner's rule. Nothing here evaluates a kernel at complex points, and nothing imports
the package under test.
"""

import mpmath as mp

DIGITS = 40


def times(x, y):
    """The product, to the order of x."""
    return [mp.fdot((x[i], y[k - i]) for i in range(k + 1)) for k in range(len(x))]


def scaled(x, factor, constant=0):
    """factor·x + constant."""
    return [factor * x[0] + constant, *(factor * a for a in x[1:])]


def added(x, y):
    """x + y."""
    return [a + b for a, b in zip(x, y)]


def power(x, exponent):
    """x^exponent, x_0 > 0, from y' x = exponent y x'."""
    y = [mp.mpf(x[0]) ** exponent]
    for k in range(1, len(x)):
        total = mp.fdot(((exponent * j - (k - j)) * x[j], y[k - j]) for j in range(1, k + 1))
        y.append(total / (k * x[0]))
    return y


def exponential(x):
    """exp x, from y' = y x'."""
    y = [mp.exp(x[0])]
    for k in range(1, len(x)):
        y.append(mp.fdot((j * x[j], y[k - j]) for j in range(1, k + 1)) / k)
    return y


def arcsine(x):
    """Asin x, |x_0| < 1, by integrating x'/√(1 − x²)."""
    root = power(scaled(times(x, x), -1, 1), -mp.mpf(1) / 2)
    slope = times(root, [*(k * x[k] for k in range(1, len(x))), mp.mpf(0)])
    return [mp.asin(x[0]), *(slope[k] / (k + 1) for k in range(len(x) - 1))]


# Each activation: top(q) = E[φ²] and dual(q, s) = (E[φφ], E[φ'φ']) at correlation s, a series.


def relu():
    """max(z, 0) (Cho & Saul 2009)."""

    def dual(q, s):
        turn = scaled(arcsine(s), 1, mp.pi / 2)  # π − θ
        root = power(scaled(times(s, s), -1, 1), mp.mpf(1) / 2)
        return scaled(added(root, times(turn, s)), q / (2 * mp.pi)), scaled(turn, 1 / (2 * mp.pi))

    return lambda q: q / 2, dual


def step():
    """1 for z > 0: orthant probability; φ' = 0."""
    return lambda q: mp.mpf(1) / 2, lambda q, s: (
        scaled(arcsine(s), 1 / (2 * mp.pi), mp.mpf(1) / 4),
        [mp.mpf(0)] * len(s),
    )


def erf():
    """erf(z) (Williams 1996)."""

    def dual(q, s):
        inner = scaled(s, 2 * q / (1 + 2 * q))
        slope = power(scaled(times(inner, inner), -1, 1), -mp.mpf(1) / 2)
        return scaled(arcsine(inner), 2 / mp.pi), scaled(slope, 4 / (mp.pi * (1 + 2 * q)))

    return lambda q: 2 / mp.pi * mp.asin(2 * q / (1 + 2 * q)), dual


def cosine(frequency, phase):
    """cos(fz + g), from E cos of Gaussians."""
    f2, turn = mp.mpf(frequency) ** 2, mp.cos(2 * mp.mpf(phase))

    def dual(q, s):
        near = exponential(scaled(s, f2 * q, -f2 * q))
        far = scaled(exponential(scaled(s, -f2 * q, -f2 * q)), turn)
        return scaled(added(near, far), mp.mpf(1) / 2), scaled(added(near, scaled(far, -1)), f2 / 2)

    return lambda q: (1 + turn * mp.exp(-2 * f2 * q)) / 2, dual


def shifted_relu(threshold, terms=400):
    """max(z − b, 0), by its Mehler series: a_k = √q h_{k−2}(h) p(h)/√(k(k−1)), h = b/√q."""

    def top(q):
        h = mp.mpf(threshold) / mp.sqrt(q)
        return q * ((1 + h * h) * mp.ncdf(-h) - h * mp.npdf(h))

    def dual(q, s):
        h = mp.mpf(threshold) / mp.sqrt(q)
        squares = [(mp.npdf(h) - h * mp.ncdf(-h)) ** 2, mp.ncdf(-h) ** 2]
        before, here = mp.mpf(0), mp.mpf(1)
        for k in range(2, terms):
            squares.append((here * mp.npdf(h)) ** 2 / (k * (k - 1)))
            before, here = here, (h * here - mp.sqrt(k - 2) * before) / mp.sqrt(k - 1)
        value, slope = [mp.mpf(0)] * len(s), [mp.mpf(0)] * len(s)
        for k in range(terms - 1, -1, -1):
            slope = added(times(slope, s), value)
            value = times(value, s)
            value[0] += q * squares[k]
        return value, scaled(slope, 1 / q)

    return top, dual


def kernel_series(activation, depth, w_std, b_std, degree, readout=(1, 0), pair=None, digits=DIGITS):
    """(NNGP, NTK) coefficients b_0..b_degree in ρ = (σ_w² c + σ_b²)/(σ_w² + σ_b²), σ the ``pair`` or the network's own."""
    with mp.workdps(digits):
        top, dual = activation
        w2, b2 = mp.mpf(w_std) ** 2, mp.mpf(b_std) ** 2
        other_w2, other_b2 = (mp.mpf(std) ** 2 for std in pair or (w_std, b_std))
        q = w2 + b2
        cosine_slope = (other_w2 + other_b2) / other_w2
        sigma = [mp.mpf(0)] * (degree + 1)
        sigma[0] = b2 - w2 * other_b2 / other_w2
        sigma[1] = w2 * cosine_slope
        theta = list(sigma)
        for layer in range(depth):
            if layer == depth - 1:
                w2, b2 = mp.mpf(readout[0]) ** 2, mp.mpf(readout[1]) ** 2
            value, slope = dual(q, scaled(sigma, 1 / q))
            sigma, q = scaled(value, w2, b2), w2 * top(q) + b2
            theta = added(sigma, scaled(times(theta, slope), w2))
        return [float(b) for b in sigma], [float(b) for b in theta]
