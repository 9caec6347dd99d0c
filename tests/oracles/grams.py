"""Gram matrices of infinitely wide networks at any norms, from the mathematics only.

Two routes that share nothing:

* :func:`gram` carries each pair of inputs, taken as the exact floats they are, through the layers in mpmath, from a
  ``dual(q1, q2, q12) -> (E[φ(u)φ(v)], E[φ'(u)φ'(v)])`` in closed form; (u, v) Gaussian of covariance [[q1, q12], [q12, q2]].
  The tens of spare digits stand for care: points 1e-12 apart lose 24 of 80.
* :func:`numerical_gram` integrates in float64 over the plane, panels broken at the kinks, and hands on 1 − ρ and 1 + ρ as
  means of squares, (φ(u)/|φ(u)| ∓ φ(v)/|φ(v)|)², so that near-duplicates and near-antipodes keep their digits.

A variance of 0 is the limit by hand: u is 0, and φ(u) is φ(0). Where that happens Θ is 0 too, so that E[φ'φ'] does not matter.
"""

import math
from functools import cache

import mpmath as mp
import numpy as np
from scipy.special import expit

DIGITS = 80

# --- closed forms -------------------------------------------------------------------------------------------


def _angle(q1, q2, q12):
    """θ = arccos ρ; π/2 where a variance is 0."""
    if q1 == 0 or q2 == 0:
        return mp.pi / 2
    return mp.acos(max(min(q12 / mp.sqrt(q1 * q2), mp.mpf(1)), mp.mpf(-1)))


def piecewise_linear(negative, positive):
    """negative·min(z, 0) + positive·max(z, 0): arc-cosine kernels of order 1 and 0 (Cho & Saul 2009)."""

    def dual(q1, q2, q12):
        theta = _angle(q1, q2, q12)
        same, cross = mp.mpf(negative) ** 2 + mp.mpf(positive) ** 2, 2 * mp.mpf(negative) * mp.mpf(positive)
        back = mp.pi - theta
        here = mp.sin(theta) + back * mp.cos(theta)  # E[u₊v₊], in √(q1q2)/2π
        there = mp.sin(theta) - theta * mp.cos(theta)  # E[u₊(−v)₊]
        value = mp.sqrt(q1 * q2) * (same * here - cross * there) / (2 * mp.pi)
        return value, (same * back + cross * theta) / (2 * mp.pi)

    return dual


relu = piecewise_linear(0, 1)


def squared_relu(q1, q2, q12):
    """max(z, 0)²: the arc-cosine kernel of order 2."""
    theta = _angle(q1, q2, q12)
    c, s, back = mp.cos(theta), mp.sin(theta), mp.pi - theta
    return q1 * q2 * (3 * s * c + back * (1 + 2 * c * c)) / (2 * mp.pi), 4 * relu(q1, q2, q12)[0]


def step(q1, q2, q12):
    """Orthant probability; step(0) = 0."""
    return (1 - _angle(q1, q2, q12) / mp.pi) / 2 if q1 > 0 and q2 > 0 else mp.mpf(0), mp.mpf(0)


def sign(q1, q2, q12):
    """Arcsine law; sign(0) = 0."""
    return 1 - 2 * _angle(q1, q2, q12) / mp.pi if q1 > 0 and q2 > 0 else mp.mpf(0), mp.mpf(0)


def identity(q1, q2, q12):
    return q12, mp.mpf(1)


def erf(a=1, b=1, c=0):
    """a·erf(bz) + c (Williams 1996)."""

    def dual(q1, q2, q12):
        s = 2 * mp.mpf(b) ** 2
        product = (1 + s * q1) * (1 + s * q2)
        value = 2 * mp.mpf(a) ** 2 / mp.pi * mp.asin(s * q12 / mp.sqrt(product)) + mp.mpf(c) ** 2
        return value, 2 * mp.mpf(a) ** 2 * s / (mp.pi * mp.sqrt(product - (s * q12) ** 2))

    return dual


def cosine(a=1, f=1, g=0):
    """a·cos(fz + g), from E cos of the Gaussians u − v and u + v."""

    def dual(q1, q2, q12):
        f2 = mp.mpf(f) ** 2
        near, far = mp.exp(-f2 * (q1 + q2 - 2 * q12) / 2), mp.exp(-f2 * (q1 + q2 + 2 * q12) / 2)
        amplitude, phase = mp.mpf(a) ** 2 / 2, mp.cos(2 * mp.mpf(g))
        return amplitude * (near + phase * far), amplitude * f2 * (near - phase * far)

    return dual


def sine(a=1, f=1, g=0):
    """a·sin(fz + g): the cosine a quarter turn back."""
    with mp.workdps(DIGITS + 20):  # π is fixed here, once
        return cosine(a, f, mp.mpf(g) - mp.pi / 2)


def rbf(gamma=1):
    """√2 sin(√(2γ)z + π/4): exp(−γ E(u − v)²)."""

    def dual(q1, q2, q12):
        value = mp.exp(-mp.mpf(gamma) * (q1 + q2 - 2 * q12))
        return value, 2 * mp.mpf(gamma) * value

    return dual


def gaussian(a=1, b=-1):
    """a·exp(bz²): E = det(1 − 2bQ)^(−1/2), and E[φ'φ'] = dE/dq12."""

    def dual(q1, q2, q12):
        s = -2 * mp.mpf(b)
        root = 1 / mp.sqrt((1 + s * q1) * (1 + s * q2) - (s * q12) ** 2)
        return mp.mpf(a) ** 2 * root, mp.mpf(a) ** 2 * s**2 * q12 * root**3

    return dual


def exponential(a=1, b=1):
    """a·exp(bz)."""

    def dual(q1, q2, q12):
        value = mp.mpf(a) ** 2 * mp.exp(mp.mpf(b) ** 2 * (q1 + q2 + 2 * q12) / 2)
        return value, mp.mpf(b) ** 2 * value

    return dual


def gelu(q1, q2, q12):
    """zΦ(z) = E[z 1(z > s)], s a standard normal of its own (t the other one's).

    With y = (u − s, v − t), of covariance C = Q + 1: E[(u, v) | y] = QC⁻¹y = (1 − C⁻¹)y and cov(u, v | y) = 1 − C⁻¹,
    so that E[uv 1(y > 0)] is made of the orthant's probability and second moments.
    """
    c1, c2 = 1 + q1, 1 + q2
    det = c1 * c2 - q12**2
    theta = _angle(c1, c2, q12)
    orthant = (mp.pi - theta) / (2 * mp.pi)
    r = mp.cos(theta)
    square = orthant + mp.sin(theta) * r / (2 * mp.pi)  # E[y₁²; y > 0]/c1
    product = mp.sqrt(c1 * c2) * (r * orthant + mp.sin(theta) / (2 * mp.pi))
    m11, m22, m12 = 1 - c2 / det, 1 - c1 / det, q12 / det  # 1 − C⁻¹
    value = m12 * orthant + (m11 * m22 + m12**2) * product + m12 * (m11 * c1 + m22 * c2) * square
    # φ' = Φ + zp(z), term by term
    slope = orthant + q12 / (2 * mp.pi * mp.sqrt(det)) * (1 / c1 + 1 / c2 + 1 / det)
    return value, slope


@cache
def _ways(i, j, k):
    """k! C(i,k) C(j,k) (i−k−1)!! (j−k−1)!!."""
    pairings = math.prod(
        math.factorial(m) // (2 ** (m // 2) * math.factorial(m // 2)) for m in (i - k, j - k)
    )
    return math.factorial(k) * math.comb(i, k) * math.comb(j, k) * pairings


def polynomial(coefficients):
    """Σ c_i z^i: E[uⁱvʲ] counts the pairings of i + j points, k of them between the u's and the v's (Isserlis)."""

    def expectation(c, q1, q2, q12):
        powers = [[mp.mpf(1)] for _ in range(3)]
        for q, power in zip((q1, q2, q12), powers):
            for _ in c:
                power.append(power[-1] * q)
        terms, total = [(i, a) for i, a in enumerate(c) if a], mp.mpf(0)
        for i, a in terms:
            for j, b in terms:
                if (i + j) % 2 == 0:
                    for k in range(i % 2, min(i, j) + 1, 2):
                        total += (
                            a
                            * b
                            * _ways(i, j, k)
                            * powers[0][(i - k) // 2]
                            * powers[1][(j - k) // 2]
                            * powers[2][k]
                        )
        return total

    def dual(q1, q2, q12):
        c = [mp.mpf(a) for a in coefficients]
        return expectation(c, q1, q2, q12), expectation([i * a for i, a in enumerate(c)][1:], q1, q2, q12)

    return dual


def hermite(coefficients):
    """Σ a_k h_k(z), orthonormal probabilists', through its monomials."""
    with mp.workdps(DIGITS + 20):
        before, here = [], [mp.mpf(1)]
        total = [mp.mpf(0)] * len(coefficients)
        for k, a in enumerate(coefficients):
            for i, c in enumerate(here):
                total[i] += mp.mpf(a) * c
            after = [mp.mpf(0), *here]
            for i, c in enumerate(before):
                after[i] -= mp.sqrt(k) * c
            before, here = here, [c / mp.sqrt(k + 1) for c in after]
        return polynomial(total)


def _density(h):
    return mp.exp(-h * h / 2) / mp.sqrt(2 * mp.pi)


def _upper(h):
    return mp.erfc(h / mp.sqrt(2)) / 2


def _owen(h, y):
    """Owen's T(h, y/h); h = 0 stands for its limit from above."""
    turn = -1 if (y < 0) != (h < 0) else 1
    h, y = abs(h), abs(y)
    if y > h:
        first, second = _upper(-h), _upper(-y)
        return turn * ((first + second) / 2 - first * second - _owen(y, h))
    if h == 0 or h * h > 1400:
        return mp.mpf(0)
    inside = mp.quad(lambda x: mp.exp(-h * h * x * x / 2) / (1 + x * x), [0, y / h], method="gauss-legendre")
    return turn * mp.exp(-h * h / 2) * inside / (2 * mp.pi)


def _corner(h, k, rho, s):
    """P(U > h, V > k) of standard normals of correlation ρ, s = √(1 − ρ²) (Owen 1956)."""
    if h == 0 and k == 0:
        return (1 - mp.acos(rho) / mp.pi) / 2
    h, k = -h, -k
    split = mp.mpf(0) if (h >= 0) == (k >= 0) else mp.mpf(1) / 2
    halves = (_upper(-h) + _upper(-k)) / 2
    return halves - _owen(h, (k - rho * h) / s) - _owen(k, (h - rho * k) / s) - split


def relus_and_cosine(relus, c, d, e, f, g):
    """Σ a_j (z − b_j)₊ + cz + d + e·cos(fz + g), ``relus`` the pairs (a_j, b_j).

    Two ReLUs by Owen's T; a ReLU and the cosine by the complex erf, as E[r(u) e^{ifv}] = e^{−f²q2/2} E[r(u + ifq12)].
    """
    relus = [(mp.mpf(a), mp.mpf(b)) for a, b in relus]
    c, d, e, f, g = (mp.mpf(x) for x in (c, d, e, f, g))
    waves = cosine(e, f, g)

    def mean(q):
        if q == 0:
            return sum(a * max(-b, mp.mpf(0)) for a, b in relus) + d + e * mp.cos(g)
        r = mp.sqrt(q)
        ramps = sum(a * (r * _density(b / r) - b * _upper(b / r)) for a, b in relus)
        return ramps + d + e * mp.exp(-f * f * q / 2) * mp.cos(g)

    def relu_with_wave(b, q1, q2, q12):
        """E[(u − b)₊ cos(fv + g)] and E[1(u > b) sin(fv + g)]."""
        r, shift = mp.sqrt(q1), mp.mpc(0, f * q12)
        h = (b - shift) / r
        factor = mp.exp(mp.mpc(-f * f * q2 / 2, g))
        tail = mp.erfc(h / mp.sqrt(2)) / 2
        return (factor * (r * _density(h) + (shift - b) * tail)).real, (factor * tail).imag

    def dual(q1, q2, q12):
        if q1 == 0 or q2 == 0:
            return mean(q1) * mean(q2), mp.mpf(0)
        r1, r2 = mp.sqrt(q1), mp.sqrt(q2)
        # a singular covariance is moved off by 1e-30 in the angle
        s = mp.sqrt(max((q1 * q2 - q12**2) / (q1 * q2), mp.mpf(10) ** -60))
        rho = mp.sign(q12) * mp.sqrt(1 - s * s) if s < 0.1 else q12 / (r1 * r2)
        value, slope = waves(q1, q2, q12)
        value += c * c * q12 + d * d
        slope += c * c
        for qu, qv in ((q1, q2), (q2, q1)):  # terms that are not symmetric, both ways round
            fading = mp.exp(-f * f * qv / 2)
            value += d * e * fading * mp.cos(g) - c * e * f * q12 * fading * mp.sin(g)
            slope -= c * e * f * fading * mp.sin(g)
            for a, b in relus:
                r = mp.sqrt(qu)
                tail = _upper(b / r)
                with_cosine, with_sine = relu_with_wave(b, qu, qv, q12)
                value += a * (c * q12 * tail + d * (r * _density(b / r) - b * tail) + e * with_cosine)
                slope += a * (c * tail - e * f * with_sine)
        for a, b in relus:
            for a2, b2 in relus:
                h, k = b / r1, b2 / r2
                both, x, y = _corner(h, k, rho, s), (k - rho * h) / s, (h - rho * k) / s
                ph, pk = _density(h) * _upper(x), _density(k) * _upper(y)
                # E[U; both], E[V; both], E[UV; both]
                first, second = ph + rho * pk, pk + rho * ph
                cross = rho * (both + h * ph + k * pk) + s * _density(h) * _density(x)
                value += a * a2 * r1 * r2 * (cross - h * second - k * first + h * k * both)
                slope += a * a2 * both
        return value, slope

    return dual


def gram(dual, X, depths, w_std, b_std, readout=(1, 0), digits=DIGITS):
    """{depth: (NNGP, NTK)}, each (n, n) float64, of the rows of X (n, d) taken as the exact floats they are."""
    with mp.workdps(digits):
        rows = [[mp.mpf(float(v)) for v in row] for row in X]
        n, d = len(rows), len(rows[0])
        w2, b2 = mp.mpf(w_std) ** 2, mp.mpf(b_std) ** 2
        out_w2, out_b2 = mp.mpf(readout[0]) ** 2, mp.mpf(readout[1]) ** 2
        pairs = [(i, j) for i in range(n) for j in range(i, n)]
        sigma = {(i, j): w2 * mp.fdot(rows[i], rows[j]) / d + b2 for i, j in pairs}
        theta, found = dict(sigma), {}
        for layer in range(1, max(depths) + 1):
            expected = {(i, j): dual(sigma[i, i], sigma[j, j], sigma[i, j]) for i, j in pairs}

            def after(w2, b2, sigma=sigma, theta=theta, expected=expected):
                here = {p: w2 * expected[p][0] + b2 for p in pairs}
                return here, {p: here[p] + w2 * theta[p] * expected[p][1] for p in pairs}

            if layer in depths:
                found[layer] = tuple(_matrix(k, n) for k in after(out_w2, out_b2))
            sigma, theta = after(w2, b2)
        return found


def _matrix(entries, n):
    matrix = np.empty((n, n))
    for (i, j), value in entries.items():
        matrix[i, j] = matrix[j, i] = float(value)
    return matrix


# --- any activation, by quadrature over the plane ------------------------------------------------------------

REACH, ORDER = 9.0, 24


def _edges(half_width, breaks, grading):
    """Panel ends, (rows, panels + 1), for the breaks of each row (rows, J); ``grading`` more on each side of a break."""
    plain = np.linspace(-REACH, REACH, int(np.ceil(REACH / min(half_width, 1.0))) + 1)
    offsets = np.array([0.0, *(side * 0.15**k for k in range(grading) for side in (1, -1))])
    breaks = (breaks[:, :, None] + offsets).reshape(breaks.shape[0], -1)
    plain = np.broadcast_to(plain, (breaks.shape[0], plain.size))
    return np.sort(np.concatenate([plain, np.clip(breaks, -REACH, REACH)], axis=1), axis=1)


def _normal_rule(edges):
    """Gauss–Legendre nodes and weights of the normal density, (rows, nodes)."""
    x, w = np.polynomial.legendre.leggauss(ORDER)
    half, rows = np.diff(edges)[:, :, None] / 2, len(edges)
    z = edges[:, :-1, None] + half + half * x
    weights = half * w * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    return z.reshape(rows, -1), weights.reshape(rows, -1)


def plane_sums(activation, q1, q2, halves, norms=(1.0, 1.0), grading=0):
    """E[φφ], E[φ'φ'], E[(φ(u)/r1 − φ(v)/r2)²] and E[(φ(u)/r1 + φ(v)/r2)²] at ``halves`` (sin²(t/2), cos²(t/2)), cos t = ρ.

    u/√q1 = cos(t/2) x − sin(t/2) y and v/√q2 = cos(t/2) x + sin(t/2) y with x, y independent; the inner integral runs
    along the axis that u and v share most, which every kink line crosses steeply, so that the outer integrand is smooth
    but where two lines meet. ``activation`` is (φ, φ', kinks, half-width of a panel at variance 1), ``norms`` (r1, r2).
    """
    phi, dphi, kinks, width = activation
    s = np.sqrt(halves[0] if halves[0] <= 0.5 else 1 - halves[1])
    c = np.sqrt(1 - halves[0] if halves[0] <= 0.5 else halves[1])
    inner, outer = (np.array([c, c]), np.array([-s, s])) if s <= c else (np.array([-s, s]), np.array([c, c]))
    roots = np.sqrt([q1, q2])
    lines = [(i, k / roots[i]) for i in (0, 1) for k in kinks if abs(k) <= 20 * roots[i] > 0]
    resolved = width / max(roots.max(), 1e-300)
    y, wy = np.zeros(1), np.ones(1)
    if outer[1] > 0:
        first, second = [h for i, h in lines if i == 0], [h for i, h in lines if i == 1]
        meetings = [(k - h * inner[1] / inner[0]) / (2 * outer[1]) for h in first for k in second]
        meetings = np.array([[m for m in meetings if abs(m) < REACH]])
        y, wy = (a[0] for a in _normal_rule(_edges(resolved / outer[1], meetings, grading)))
    sums = np.zeros(4)
    for block in range(0, y.size, 64):
        part = y[block : block + 64]
        breaks = np.empty((part.size, len(lines)))
        for column, (i, h) in enumerate(lines):
            breaks[:, column] = (h - outer[i] * part) / inner[i]
        x, weights = _normal_rule(_edges(resolved, breaks, grading))
        weights *= wy[block : block + 64, None]
        u, v = (roots[i] * (inner[i] * x + outer[i] * part[:, None]) for i in (0, 1))
        fu, fv = phi(u), phi(v)
        near, far = (fu / norms[0] - fv / norms[1]) ** 2, (fu / norms[0] + fv / norms[1]) ** 2
        sums += [(weights * f).sum() for f in (fu * fv, dphi(u) * dphi(v), near, far)]
    return sums


def numerical_gram(activation, X, depths, w_std, b_std, readout=(1, 0), grading=0):
    """:func:`gram` for an activation (φ, φ', kinks, half-width of a panel at variance 1), in float64 after the first layer."""
    n, d = X.shape
    w2, b2, out_w2, out_b2 = w_std**2, b_std**2, readout[0] ** 2, readout[1] ** 2
    pairs = [(i, j) for i in range(n) for j in range(i, n)]
    with mp.workdps(DIGITS):
        rows = [[mp.mpf(float(v)) for v in row] for row in X]
        exact = {
            p: mp.mpf(w_std) ** 2 * mp.fdot(rows[p[0]], rows[p[1]]) / d + mp.mpf(b_std) ** 2 for p in pairs
        }
        sigma, angles = {p: float(exact[p]) for p in pairs}, {}
        for i, j in pairs:
            length = mp.sqrt(exact[i, i] * exact[j, j])
            cosine = exact[i, j] / length if length else mp.mpf(1)
            halves = (1 - cosine) / 2, (1 + cosine) / 2
            angles[i, j] = tuple(float(h) if h > mp.mpf(10) ** -60 else 0.0 for h in halves)
    theta, found = dict(sigma), {}
    for layer in range(1, max(depths) + 1):
        q = [sigma[i, i] for i in range(n)]
        tops = (plane_sums(activation, v, v, (0.0, 1.0), grading=grading)[0] for v in q)
        r = [np.sqrt(w2 * top + b2) or 1.0 for top in tops]
        sums = {}
        for i, j in pairs:
            sums[i, j] = plane_sums(activation, q[i], q[j], angles[i, j], (r[i], r[j]), grading)

        def after(w2, b2, sums=sums, theta=theta):
            here = {p: w2 * sums[p][0] + b2 for p in pairs}
            return here, {p: here[p] + w2 * theta[p] * sums[p][1] for p in pairs}

        if layer in depths:
            found[layer] = tuple(_matrix(k, n) for k in after(out_w2, out_b2))
        sigma, theta = after(w2, b2)
        for i, j in pairs:
            near, far = sums[i, j][2:]
            one, other = 1 / r[i], 1 / r[j]
            halves = (w2 * near + b2 * (one - other) ** 2) / 4, (w2 * far + b2 * (one + other) ** 2) / 4
            angles[i, j] = (0.0, 1.0) if i == j else tuple(min(h, 1.0) for h in halves)
    return found


def series(phi, q1, q2, rho, degree=400, reach=14.0, panels=700):
    """E[φφ] and E[φ'φ'] of a smooth φ by Mehler's sum over coefficients from a composite rule: the check on the plane."""
    x, w = np.polynomial.legendre.leggauss(20)
    half = reach / panels
    z = (np.linspace(-reach, reach, panels + 1)[:-1, None] + half + half * x).ravel()
    rule = np.tile(half * w, panels) * np.exp(-z * z / 4) / np.sqrt(2 * np.pi)
    f, g = phi(np.sqrt(q1) * z) * rule, phi(np.sqrt(q2) * z) * rule
    before, here = np.zeros_like(z), np.exp(-z * z / 4)
    value = slope = 0.0
    for k in range(degree + 1):
        product = float((f * here).sum()) * float((g * here).sum())
        value += product * rho**k
        slope += k * product * rho ** max(k - 1, 0) / np.sqrt(q1 * q2)
        before, here = here, (z * here - np.sqrt(k) * before) / np.sqrt(k + 1)
    return value, slope


# --- activations without a closed form: (φ, φ', kinks, half-width of a panel at variance 1) --------------------


def _softplus(z):
    return np.logaddexp(z, 0.0)


def _elu(scale, alpha):
    return (
        lambda z: scale * np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0.0))),
        lambda z: scale * np.where(z > 0, 1.0, alpha * np.exp(np.minimum(z, 0.0))),
        (0.0,),
        3.0,
    )


def _power(p, width):
    def slope(z):
        return p * np.sign(z - 0.5) * np.abs(z - 0.5) ** (p - 1)

    return lambda z: np.abs(z - 0.5) ** p, slope, (0.5,), width


def _sech2(z):
    """1 − tanh²z, without cancellation."""
    small = np.exp(-2 * np.abs(z))
    return 4 * small / (1 + small) ** 2


def _mish_slope(z):
    p = _softplus(z)
    return np.tanh(p) + z * expit(z) * _sech2(p)


#: Registered names and formulas; what has a closed form is not here.
NUMERICAL = {
    "tanh": (np.tanh, _sech2, (), 1.6),
    "sigmoid": (expit, lambda z: expit(z) * expit(-z), (), 3.2),
    "softplus": (_softplus, expit, (), 3.2),
    "silu": (lambda z: z * expit(z), lambda z: expit(z) * (1 + z * expit(-z)), (), 3.0),
    "elu": _elu(1.0, 1.0),
    "selu": _elu(1.0507009873554804934, 1.6732632423543772848),
    "mish": (lambda z: z * np.tanh(_softplus(z)), _mish_slope, (), 2.0),
    "relu(z)*tanh(z)": (
        lambda z: np.maximum(z, 0.0) * np.tanh(z),
        lambda z: np.where(z > 0, np.tanh(z) + z * _sech2(z), 0.0),
        (0.0,),
        1.6,
    ),
    "abs(z - 0.5)**3": _power(3, 9.0),
    "abs(z - 0.5)**1.5": _power(1.5, 2.0),
}


def relative_error(found, exact):
    """|found − exact| in units of √(K(x,x)K(x',x')); inf where that is 0 and ``found`` is not."""
    root = np.sqrt(np.diag(exact))
    scale, error = np.outer(root, root), np.abs(found - exact)
    return np.where(scale > 0, error / np.where(scale > 0, scale, 1.0), np.where(error == 0, 0.0, np.inf))
