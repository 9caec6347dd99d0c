"""Formulas evaluated by mpmath: Python reads the test's own text, with mpmath's functions for the names in it."""

from mpmath import mp


def _sign(x):
    return mp.mpf((x > 0) - (x < 0))


def _step(x):
    return mp.mpf(1) if x > 0 else mp.mpf(0)


def _gelu(x):
    return x * mp.erfc(-x / mp.sqrt(2)) / 2


FUNCTIONS = {
    name: getattr(mp, name)
    for name in ("exp", "log", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh", "erf")
} | {
    "abs": abs,
    "sign": _sign,
    "min": min,
    "max": max,
    "relu": lambda x: x if x > 0 else mp.mpf(0),
    "heaviside": _step,
    "step": _step,
    "gelu": _gelu,
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
    "softplus": lambda x: mp.log(1 + mp.exp(x)),
    "pi": mp.pi,
    "e": mp.e,
}


def value(text, z, variable="z", **parameters):
    """The formula at z, in the working precision of mpmath; numbers in the text are Python's floats."""
    names = FUNCTIONS | {variable: mp.mpf(z)} | {name: mp.mpf(v) for name, v in parameters.items()}
    return mp.mpf(eval(text, {"__builtins__": {}}, names))


def derivative(text, z, order=1, side=0, **parameters):
    """A derivative by finite differences at 60 (200) digits; from one side of z with ``side`` = ±1."""
    with mp.workdps(200 if side else 60):
        function = lambda x: value(text, x, **parameters)  # noqa: E731
        if side == 0:
            return mp.diff(function, mp.mpf(z), order)
        h = mp.mpf(10) ** -12
        # one-sided: the polynomial through 8 points beside z, differentiated at z
        nodes = [mp.mpf(z) + side * h * k for k in range(1, 9)]
        coefficients = mp.lu_solve(
            mp.matrix([[(x - mp.mpf(z)) ** k for k in range(8)] for x in nodes]),
            mp.matrix([function(x) for x in nodes]),
        )
        return coefficients[order] * mp.factorial(order)
