"""Scalar mathematics, written once for tiles, CUDA device functions and ordinary Python.

Every function takes one ``np.float32`` or ``np.float64`` and computes in that type only: a float64 constant
would turn float32 arithmetic to float64. There are no branches and no calls, so LLVM turns a loop over them
into packed instructions; the C library's functions would stay scalar. In ordinary Python (a simulator, a
test) the same text runs on NumPy scalars; overflow on the way to a correct inf or 0 then gives NumPy's
usual warning.

Accuracy
--------
Bounds are stated per function, for float32 and float64, as relative errors while the result is a normal
number, unless marked *absolute*. They hold with and without fused multiply-adds. NaN gives NaN. The sign of
a zero result is not specified (tiles compile with unsigned zeros). The polynomials interpolate at Chebyshev
points, computed in 50-digit arithmetic; their degrees and errors stand beside the coefficients, lowest
power first.

References
----------
W. J. Cody and W. Waite, *Software Manual for the Elementary Functions*, 1980 (range reduction).
J. L. Schonfelder, Math. Comp. 32 (1978) 1232 (erfc by a polynomial in (x − 3.75)/(x + 3.75)).
"""

from __future__ import annotations

import math

import numpy as np

from ntkengine._scalar_core import MAGIC, bit, polynomial, scale, shared, split, typed

__all__ = [
    "asin",
    "asin_tail",
    "cos",
    "erf",
    "exp",
    "expm1",
    "log",
    "log1p",
    "normal",
    "sigmoid",
    "sin",
    "sincos",
    "softplus",
    "tanh",
]


# --- exponentials -------------------------------------------------------------------------------------------

# (largest and smallest argument that matter, 1/ln 2, the high and the low part of ln 2)
_EXP = (
    (89.0, -104.5, 1 / math.log(2), 0.693145751953125, 1.4286068203094172e-06),
    (710.0, -746.0, 1 / math.log(2), 6.93147180369123816490e-01, 1.90821492927058770002e-10),
)
# (e^r − 1 − r)/r² on |r| <= ln(2)/2: degree 4, error 6.5e-8; degree 9, error 1.1e-16
_EXP_TAIL = (
    (0.5, 0.166665769896987757, 0.0416665546172045742, 0.00836317905272257737, 0.00139261835877134945),
    (
        0.500000000000000102,
        0.166666666666666675,
        0.0416666666666241279,
        0.00833333333333006183,
        0.00138888889172137169,
        0.000198412698630536169,
        0.0000248015212959543751,
        2.75572684599970648e-6,
        2.76200884454097482e-7,
        2.51003854955103191e-8,
    ),
)


@shared
def _exp_reduce(x):
    """(t, p) with e^x = 2^n (1 + p), ``t = magic + n`` and |p| < 0.42."""
    top, bottom, per_ln2, ln2_high, ln2_low = typed(x, _EXP[0], _EXP[1])
    (magic,) = typed(x, MAGIC[0], MAGIC[1])
    v = top if x > top else x  # written so that NaN stays
    v = bottom if v < bottom else v
    t = v * per_ln2 + magic
    n = t - magic
    r = (v - n * ln2_high) - n * ln2_low
    return t, r + r * r * polynomial(r, typed(x, _EXP_TAIL[0], _EXP_TAIL[1]))


@shared
def exp(x):
    """Exponential e^x. Error 1e-7 and 2e-16; a subnormal result is off by its last place at most.

    It is inf from 88.723 (float32) or 709.79 (float64) on, and 0 below −103.98 or −745.14.
    """
    t, p = _exp_reduce(x)
    return scale(type(x)(1.0) + p, t)


@shared
def expm1(x):
    """Exponential less one, e^x − 1. Error 1.5e-7 and 3e-16, near 0 too."""
    T = type(x)
    half = T(0.5)
    t, p = _exp_reduce(x)
    y = scale(half * p, t) + (scale(half, t) - half)  # halves: 2^n alone may overflow where e^x does not
    return y + y


@shared
def tanh(x):
    """Hyperbolic tangent −m/(2 + m), m = e^{−2|x|} − 1, odd in x. Error 2e-7 and 4e-16, near 0 too."""
    T = type(x)
    m = expm1(T(-2.0) * abs(x))
    y = -m / (T(2.0) + m)
    return -y if x < T(0.0) else y


@shared
def sigmoid(x):
    """Logistic function s = 1/(1 + e^{−x}) and its derivative, (s, s'). Error 4e-7 and 8e-16."""
    T = type(x)
    e = exp(-abs(x))
    r = T(1.0) / (T(1.0) + e)
    tail = e * r
    return tail if x < T(0.0) else r, tail * r


# (atanh(s)/s − 1)/s² in s², 0 <= s <= 1/3: degree 4, error 3.6e-9; degree 10, error 1.2e-18
_ATANH = (
    (
        0.333333336604357516,
        0.199998531034124831,
        0.142961823975988082,
        0.108532304985978462,
        0.116124608856072909,
    ),
    (
        0.333333333333333334,
        0.19999999999999761,
        0.142857142858001321,
        0.111111110991080563,
        0.0909090994963397949,
        0.0769227195887658227,
        0.0666758983075785514,
        0.0586713258968829656,
        0.0542264551638990638,
        0.0374581973033663279,
        0.0781576735371561224,
    ),
)


@shared
def softplus(x):
    """Softplus ln(1 + e^x) = max(x, 0) + 2 atanh(e/(2 + e)), e = e^{−|x|}. Error 2.5e-7 and 5e-16."""
    T = type(x)
    e = exp(-abs(x))
    s = e / (T(2.0) + e)
    w = s * s
    log = s + s * (w * polynomial(w, typed(x, _ATANH[0], _ATANH[1])))
    return (x if x > T(0.0) else T(0.0)) + (log + log)


# --- logarithms ---------------------------------------------------------------------------------------------

# (smallest normal number, the power of two that makes subnormal ones normal, its exponent)
_SUBNORMAL = (1.1754943508222875e-38, 2.0**25, 25.0), (2.2250738585072014e-308, 2.0**54, 54.0)


@shared
def _log_mantissa(x, m):
    """ln m on [√½, √2] as f − s(f − 2s² P(s²)), f = m − 1, s = f/(2 + f): near 1 the rounding of s hardly matters."""
    T = type(x)
    f = m - T(1.0)
    s = f / (T(1.0) + m)
    w = s * s
    series = w * polynomial(w, typed(x, _ATANH[0], _ATANH[1]))
    return f - s * (f - (series + series))


@shared
def log(x):
    """Natural logarithm, −inf at 0 and NaN below. Error 1e-7 and 2e-16."""
    T = type(x)
    zero, infinity, undefined = T(0.0), T(math.inf), T(math.nan)
    tiny, factor, exponent = typed(x, _SUBNORMAL[0], _SUBNORMAL[1])
    ln2_high, ln2_low = typed(x, _EXP[0][3:], _EXP[1][3:])
    m, n = split(x * factor if x < tiny else x)
    n = n - (exponent if x < tiny else zero)
    y = n * ln2_high + (_log_mantissa(x, m) + n * ln2_low)
    y = y if x < infinity else x
    edge = undefined if x < zero else -infinity
    return edge if x <= zero else y


@shared
def log1p(x):
    """ln(1 + x), −inf at −1 and NaN below; what 1 + x rounds away is added to first order. Error 1.5e-7 and 2.5e-16."""
    T = type(x)
    one, infinity, undefined = T(1.0), T(math.inf), T(math.nan)
    ln2_high, ln2_low = typed(x, _EXP[0][3:], _EXP[1][3:])
    u = one + x
    m, n = split(u)
    y = n * ln2_high + (_log_mantissa(x, m) + (n * ln2_low + (x - (u - one)) / u))
    y = y if x < infinity else x
    edge = undefined if x < -one else -infinity
    return edge if x <= -one else y


# --- sine and cosine ----------------------------------------------------------------------------------------

# (2/π, parts of π/2: the first ones short, so that their products with n are exact for |n| < 2^13 and 2^20)
_QUARTER = (
    (2 / math.pi, 1.5703125, 0.0004837512969970703, 7.549533620476723e-08, 2.5633440682570896e-12),
    (2 / math.pi, 1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21, 0.0),
)
# (sin(r)/r − 1)/r² in r², |r| <= 0.8: degree 2, error 2.3e-8; degree 5, error 2.6e-17
_SIN = (
    (-0.166666644287822059, 0.00833270372436047392, -0.000195784439643401419),
    (
        -0.166666666666666641,
        0.00833333333333046684,
        -0.000198412698360435735,
        2.75573157385868472e-6,
        -2.50510573944921275e-8,
        1.5912864224903484e-10,
    ),
)
# (cos(r) − 1 + r²/2)/r⁴ in r², |r| <= 0.8: degree 2, error 2.3e-9; degree 5, error 1.6e-18
_COS = (
    (0.0416666644255244507, -0.00138882583975176557, 0.0000245384748836315913),
    (
        0.0416666666666666651,
        -0.00138888888888870959,
        0.0000248015872983183939,
        -2.75573170440356698e-7,
        2.08760996923149254e-9,
        -1.13793385852981366e-11,
    ),
)


@shared
def sincos(x):
    """Sine and cosine, (sin x, cos x), from one reduction modulo π/2.

    Error *absolute* 1.2e-7 and 2.5e-16 for |x| <= 1e4; relative at the numbers nearest to multiples of π/2.
    Beyond, it grows like the spacing of the numbers near x; from about 4e6 (float32) or 2e15 (float64) on,
    where that spacing reaches the size of a turn, the values are arbitrary in [−1, 1]. ±inf gives NaN.
    """
    T = type(x)
    per_quarter, part1, part2, part3, part4 = typed(x, _QUARTER[0], _QUARTER[1])
    (magic,) = typed(x, MAGIC[0], MAGIC[1])
    t = x * per_quarter + magic
    n = t - magic
    r = (((x - n * part1) - n * part2) - n * part3) - n * part4
    edge = T(0.8)
    r = edge if r > edge else r
    r = -edge if r < -edge else r
    u = r * r
    s = r + r * (u * polynomial(u, typed(x, _SIN[0], _SIN[1])))
    c = (T(1.0) - T(0.5) * u) + u * u * polynomial(u, typed(x, _COS[0], _COS[1]))
    odd, half_turn = bit(t, 0), bit(t, 1)
    sine = c if odd else s
    cosine = s if odd else c
    return -sine if half_turn else sine, -cosine if odd != half_turn else cosine


@shared
def sin(x):
    """Sine: see :func:`sincos`."""
    return sincos(x)[0]


@shared
def cos(x):
    """Cosine: see :func:`sincos`."""
    return sincos(x)[1]


# --- arcsine ------------------------------------------------------------------------------------------------

_HALF_PI = math.pi / 2
# (asin(√w)/√w − 1)/w, 0 <= w <= 1/2: degree 7, error 1.7e-8; degree 19, error 3.3e-18
_ASIN = (
    (
        0.166666656782222757,
        0.0750025216608859366,
        0.044538813066111232,
        0.0319902515823272893,
        0.0104352469116393491,
        0.06379723326209698,
        -0.0797211260596290744,
        0.0946976048513895259,
    ),
    (
        0.166666666666666665,
        0.0750000000000028024,
        0.044642857142113915,
        0.0303819445225043905,
        0.0223721547654179903,
        0.0173529104887696191,
        0.0139615694364375226,
        0.0116032997595550902,
        0.00917159846452921711,
        0.013442485325884277,
        -0.0255818992267746338,
        0.171014168636605454,
        -0.62972363096930705,
        1.89634589739990226,
        -4.29764403642856991,
        7.35870982573148927,
        -9.15869939479508523,
        7.88302402589173505,
        -4.20194738795429436,
        1.0656739743044426,
    ),
)


@shared
def asin_tail(w):
    """What follows the first term of the arcsine: P(w) with asin(x) = x + x³ P(x²), for 0 <= w <= 1/2."""
    return polynomial(w, typed(w, _ASIN[0], _ASIN[1]))


@shared
def asin(x):
    """Arcsine in radians, NaN outside [−1, 1]. Error 1.7e-7 and 3e-16, near 0 too.

    Beyond w = x² = 1/2 it is π/2 − 2 asin √((1 − |x|)/2).
    """
    T = type(x)
    one, half = T(1.0), T(0.5)
    a = abs(x)
    square, rest = a * a, half * (one - a)
    near = square <= half
    w = square if near else rest
    r = a if near else np.sqrt(rest)
    y = r + r * (w * asin_tail(w))
    y = y if near else T(_HALF_PI) - (y + y)
    return -y if x < T(0.0) else y


# --- error function and the normal distribution -------------------------------------------------------------

# (centre a of the map t = (x − a)/(x + a), largest x that matters)
_ERFCX_MAP = (3.0, 10.0), (3.75, 28.0)
# (1 + 2x) e^{x²} erfc(x) in t: degree 9, error 4.1e-8; degree 22, error 1.5e-17
_ERFCX = (
    (
        1.25300809678988821,
        -0.135621063755664751,
        -0.0475658748054795898,
        0.129642790284090401,
        -0.119221296851435512,
        0.0683549409276441226,
        -0.0240183823316464295,
        0.00222593322127557223,
        0.00223602740089582139,
        -0.000164071550395973186,
    ),
    (
        1.23751263083782758,
        -0.140240598585546681,
        0.00358541548546377914,
        0.0822767384901120369,
        -0.108803930141712359,
        0.0923043211615311556,
        -0.0586933985903094125,
        0.0283622774004577225,
        -0.00974657955343187366,
        0.00175562601715200385,
        0.00029371366631088616,
        -0.000290154965295709261,
        0.0000516489134695998619,
        0.0000223872596382301343,
        -0.0000114429909268054383,
        -9.80166675585857751e-7,
        1.74811904683919643e-6,
        -4.81583962167284902e-8,
        -2.52614652677155047e-7,
        1.59963352155737078e-8,
        3.28508355623331591e-8,
        -8.78212573480352024e-10,
        -2.41082153654223304e-9,
    ),
)
# erf(x)/x in x², |x| <= 1: degree 6, error 1.2e-9; degree 12, error 1.3e-19
_ERF = (
    (
        1.12837916584835095,
        -0.37612626666720331,
        0.112835947151602177,
        -0.0268542120106264124,
        0.00518908742343397399,
        -0.000801686428716586953,
        0.0000787587506268548834,
    ),
    (
        1.12837916709551257,
        -0.376126389031837481,
        0.112837916709548787,
        -0.0268661706450767932,
        0.00522397762481801447,
        -0.000854832698083378991,
        0.000120553311116427109,
        -0.0000149255952668311816,
        1.6461000484121368e-6,
        -1.6350312701054695e-7,
        1.46597752740474358e-8,
        -1.13728488567916737e-9,
        5.9571761477489114e-11,
    ),
)


@shared
def _erfcx(x):
    """e^{x²} erfc(x) for x >= 0, as at the largest x that matters beyond it."""
    T = type(x)
    a, top = typed(x, _ERFCX_MAP[0], _ERFCX_MAP[1])
    v = top if x > top else x
    plus, scale = v + a, T(1.0) + T(2.0) * v
    r = T(1.0) / (plus * scale)
    t = (v - a) * scale * r
    return polynomial(t, typed(x, _ERFCX[0], _ERFCX[1])) * (plus * r)


@shared
def erf(x):
    """Error function 2/√π ∫₀ˣ e^{−s²} ds. Error 2.5e-7 and 4e-16, near 0 too."""
    T = type(x)
    one = T(1.0)
    a = abs(x)
    near = one if a > one else a
    small = near * polynomial(near * near, typed(x, _ERF[0], _ERF[1]))
    large = one - exp(-a * a) * _erfcx(a)
    y = small if a < one else large
    return -y if x < T(0.0) else y


_ROOT_HALF = math.sqrt(0.5)
_PEAK = 1 / math.sqrt(2 * math.pi)


@shared
def normal(z):
    """Distribution function and density of N(0, 1) at z, (Φ, p).

    Error 5e-7 and 1e-15 for Φ where z >= −1. For z < −1, and for p everywhere, it grows with the rounding
    of z²: (1 + z²)·1.5e-7 and (1 + z²)·3e-16.
    """
    T = type(z)
    e = exp(T(-0.5) * (z * z))
    tail = T(0.5) * e * _erfcx(T(_ROOT_HALF) * abs(z))
    return tail if z < T(0.0) else T(1.0) - tail, T(_PEAK) * e
