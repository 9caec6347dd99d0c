"""What :mod:`ntkengine._scalar` is made of: constants by precision, polynomials, and the bits of a float.

Each helper exists twice: as ordinary Python on NumPy scalars, and as LLVM instructions without branches or
calls, which numba takes in its place. Both give the same numbers.
"""

# mypy: disallow-untyped-defs=False, check-untyped-defs=False
from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload, register_jitable

# Inlined whatever its size: a call left inside the loop would stop the vectoriser.
shared = register_jitable(forceinline=True, error_model="numpy")


def typed(x, single, double):
    """The constants for the precision of ``x``, in its type."""
    T = type(x)
    return tuple(T(c) for c in (single if T is np.float32 else double))


def polynomial(x, coefficients):
    """Σ_k coefficients[k] x^k by Horner's rule."""
    value = coefficients[-1]
    for c in coefficients[-2::-1]:
        value = value * x + c
    return value


def _bits(t):
    return int(t.view(np.int32)) if type(t) is np.float32 else int(np.float64(t).view(np.int64))


def bit(t, index):
    """Bit ``index`` (0 or 1) of the integer n in ``t = magic + n``."""
    return (_bits(t) >> index) & 1 == 1


def scale(y, t):
    """``y·2^n`` for ``t = magic + n``, |n| <= 1100, through overflow and gradual underflow."""
    magic = 0x4B400000 if type(t) is np.float32 else 0x4338000000000000
    return np.ldexp(y, _bits(t) - magic if t == t else 0)


def split(x):
    """(m, n) with ``x = 2^n m`` and m in [√½, √2), n a float of the type of ``x``; for positive normal x."""
    T = type(x)
    if not 0 < x < np.inf:
        return x, T(0.0)
    m, n = np.frexp(x)
    return (m, T(n)) if m >= T(math.sqrt(0.5)) else (m + m, T(n - 1))


# x + magic rounds x to an integer, which then stands in the low bits: 1.5·2^23 and 1.5·2^52.
MAGIC = (12582912.0,), (6755399441055744.0,)


@intrinsic
def _typed_compiled(typingctx, x, single, double):
    if x not in (types.float32, types.float64):
        return None
    chosen = 1 if x == types.float32 else 2
    constants = single if chosen == 1 else double

    def codegen(context, builder, signature, args):
        real = context.get_value_type(x)
        values = [
            builder.extract_value(args[chosen], i)
            if constants.dtype == x
            else builder.fptrunc(builder.extract_value(args[chosen], i), real)
            for i in range(constants.count)
        ]
        return cgutils.pack_array(builder, values, ty=real)

    return types.UniTuple(x, constants.count)(x, single, double), codegen


@intrinsic
def _polynomial_compiled(typingctx, x, coefficients):
    def codegen(context, builder, signature, args):
        z, table = args
        value = builder.extract_value(table, coefficients.count - 1)
        for k in reversed(range(coefficients.count - 1)):
            value = builder.fadd(builder.fmul(value, z), builder.extract_value(table, k))
        return value

    return x(x, coefficients), codegen


def _as_integer(builder, value, real):
    width, mantissa, magic = (32, 23, 0x4B400000) if real == types.float32 else (64, 52, 0x4338000000000000)
    integer = ir.IntType(width)
    return builder.bitcast(value, integer), integer, mantissa, magic


@intrinsic
def _bit_compiled(typingctx, t, index):
    def codegen(context, builder, signature, args):
        bits, integer, _, _ = _as_integer(builder, args[0], t)
        mask = ir.Constant(integer, 1 << index.literal_value)
        return builder.icmp_unsigned("!=", builder.and_(bits, mask), ir.Constant(integer, 0))

    if not isinstance(index, types.IntegerLiteral):
        return None
    return types.boolean(t, index), codegen


@intrinsic
def _scale_compiled(typingctx, y, t):
    def codegen(context, builder, signature, args):
        bits, integer, mantissa, magic = _as_integer(builder, args[1], t)
        bias = ir.Constant(integer, (1 << (integer.width - mantissa - 2)) - 1)
        shift = ir.Constant(integer, mantissa)
        n = builder.sub(bits, ir.Constant(integer, magic))
        half = builder.ashr(n, ir.Constant(integer, 1))
        result = args[0]
        for part in (half, builder.sub(n, half)):  # two factors: 2^n itself may be out of range
            power = builder.shl(builder.add(part, bias), shift)
            result = builder.fmul(result, builder.bitcast(power, context.get_value_type(t)))
        return result

    return y(y, t), codegen


@intrinsic
def _split_compiled(typingctx, x):
    def codegen(context, builder, signature, args):
        bits, integer, mantissa, magic = _as_integer(builder, args[0], x)
        real, shift = context.get_value_type(x), ir.Constant(integer, mantissa)
        root_half = ir.Constant(integer, 0x3F3504F3 if x == types.float32 else 0x3FE6A09E667F3BCD)
        n = builder.ashr(builder.sub(bits, root_half), shift)
        m = builder.bitcast(builder.sub(bits, builder.shl(n, shift)), real)
        shifted = builder.bitcast(builder.add(n, ir.Constant(integer, magic)), real)
        n = builder.fsub(shifted, builder.bitcast(ir.Constant(integer, magic), real))
        return cgutils.pack_array(builder, [m, n], ty=real)

    return types.UniTuple(x, 2)(x), codegen


@overload(typed, jit_options={"forceinline": True})
def _typed_overload(x, single, double):
    return lambda x, single, double: _typed_compiled(x, single, double)


@overload(polynomial, jit_options={"forceinline": True})
def _polynomial_overload(x, coefficients):
    return lambda x, coefficients: _polynomial_compiled(x, coefficients)


@overload(bit, jit_options={"forceinline": True}, prefer_literal=True)
def _bit_overload(t, index):
    if isinstance(index, types.IntegerLiteral):
        return lambda t, index: _bit_compiled(t, index)
    return None


@overload(scale, jit_options={"forceinline": True})
def _scale_overload(y, t):
    return lambda y, t: _scale_compiled(y, t)


@overload(split, jit_options={"forceinline": True})
def _split_overload(x):
    return lambda x: _split_compiled(x)
