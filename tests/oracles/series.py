"""Power series of kernels by mpmath: Cauchy's sum at 130 digits, recurrences and closed forms to any degree."""

from mpmath import mp

from tests.oracles.formulas import FUNCTIONS

DIGITS = 130


def formula(text, **parameters):
    """A formula in c as a function of an mpmath number, real or complex; numbers in the text are Python's floats."""

    def function(c):
        names = FUNCTIONS | {"c": c} | {name: mp.mpf(v) for name, v in parameters.items()}
        return eval(text, {"__builtins__": {}}, names)

    return function


def cauchy(function, degree, w_std=1.0, b_std=0.0, radius=0.5):
    """b_k of ``function(c) = Σ b_k ρ^k``, k = 0..degree, by Cauchy's sum on a circle inside the disk of convergence."""
    with mp.workdps(DIGITS):
        ratio = (mp.mpf(b_std) / mp.mpf(w_std)) ** 2
        r, count = mp.mpf(radius), 320
        turns = [mp.expjpi(mp.mpf(2 * j) / count) for j in range(count)]
        values = [mp.mpc(function((1 + ratio) * r * t - ratio)) for t in turns]
        return [
            mp.fsum(v * mp.conj(turns[j * k % count]) for j, v in enumerate(values)).real / count / r**k
            for k in range(degree + 1)
        ]


def value(function, c):
    """The function at a real c."""
    with mp.workdps(DIGITS):
        return mp.re(function(mp.mpf(c)))


# --- functions in the angle --------------------------------------------------------------------------------------


def _arc_cosine(order, c):
    """J_n(θ)/π of Cho & Saul 2009, eqs. 5-7."""
    theta = mp.acos(c)
    s = mp.sqrt((1 - c) * (1 + c))
    return [
        mp.pi - theta,
        s + (mp.pi - theta) * c,
        3 * s * c + (mp.pi - theta) * (1 + 2 * c * c),
    ][order] / mp.pi


def arc_cosine(order, depth):
    """The kernel after ``depth`` layers, by their recursion."""

    def function(c):
        k, at_one = c, mp.mpf(1)
        for _ in range(depth):
            k, at_one = (
                at_one**order * _arc_cosine(order, k / at_one),
                at_one**order * _arc_cosine(order, mp.mpf(1)),
            )
        return k

    return function


def periodic(frequency, length):
    return lambda c: mp.exp(-2 * mp.sin(frequency * mp.acos(c) / 2) ** 2 / mp.mpf(length) ** 2)


# --- closed forms --------------------------------------------------------------------------------------------------


def laplace_coefficients(length, degree):
    """exp(−a √(1 − c)), a = √2/ℓ, solves 4 (1 − c) y'' − 2 y' − a² y = 0: a recurrence in k."""
    with mp.workdps(40):
        a = mp.sqrt(2) / mp.mpf(length)
        b = [mp.exp(-a), a / 2 * mp.exp(-a)]
        for k in range(degree - 1):
            b.append(((4 * k + 2) * (k + 1) * b[k + 1] + a * a * b[k]) / (4 * (k + 2) * (k + 1)))
        return b[: degree + 1]


def arc_cosine_coefficients(order, degree):
    """One layer: from the series of arcsin c and √(1 − c²)."""
    with mp.workdps(40):
        opposite = [mp.mpf(0)] * (degree + 1)  # π − arccos c
        sine = [mp.mpf(0)] * (degree + 1)
        opposite[0], term, root = mp.pi / 2, mp.mpf(1), mp.mpf(1)
        for m in range(degree // 2 + 1):
            sine[2 * m] = root
            if 2 * m + 1 <= degree:
                opposite[2 * m + 1] = term / (2 * m + 1)
            term *= mp.mpf(2 * m + 1) / (2 * m + 2)
            root *= mp.mpf(2 * m - 1) / (2 * m + 2)

        def shifted(x, n):
            return [mp.mpf(0)] * n + x[: degree + 1 - n]

        rows = [
            [opposite],
            [sine, shifted(opposite, 1)],
            [[3 * x for x in shifted(sine, 1)], opposite, [2 * x for x in shifted(opposite, 2)]],
        ][order]
        return [mp.fsum(column) / mp.pi for column in zip(*rows)]
