"""Vector instructions written out, for the two loops that LLVM's vectoriser does not do: sums that must stay in registers,
and cubics looked up in a table.

Vectors have 8 lanes; LLVM splits them where registers are shorter.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["LANES", "TABLE_LANES", "power_sums", "table_cubics"]

#: Points that one call of :func:`power_sums` takes: 4 vectors, so that the latency of one hides behind the others.
LANES = 32

_WIDTH = 8

#: Values of z that one call of :func:`table_cubics` takes.
TABLE_LANES = _WIDTH


@intrinsic
def power_sums(typingctx, row, columns, count, first, x, value, slope):
    """Σ_k row[k] columns[k, j] x[j]^k, k < count, and its derivative by x, for LANES points from j = ``first`` (nopython only).

    By Horner's rule, all sums in registers. ``row`` (K,), ``columns`` (K, n), ``x``, ``value``, ``slope`` (n,) are C-contiguous
    float64 arrays; the last two are filled. Nothing is checked.
    """
    arrays = [row, columns, x, value, slope]
    if any(not isinstance(a, types.Array) or a.layout != "C" or a.dtype != types.float64 for a in arrays):
        return None
    sig = types.void(row, columns, types.intp, types.intp, x, value, slope)

    def codegen(context, builder, signature, args):
        def array(i):
            return context.make_array(signature.args[i])(context, builder, args[i])

        real, integer = ir.DoubleType(), context.get_value_type(types.intp)
        vector = ir.VectorType(real, _WIDTH)
        fuse = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{_WIDTH}f64"
        )

        def at(data, position):
            return builder.bitcast(builder.gep(data, [position]), vector.as_pointer())

        def load(data, position):
            found = builder.load(at(data, position))
            found.align = 8
            return found

        offsets = [builder.add(args[3], ir.Constant(integer, _WIDTH * i)) for i in range(LANES // _WIDTH)]
        xs, table, rows = array(4).data, array(1), array(0).data
        stride = builder.extract_value(table.shape, 1)
        points = [load(xs, o) for o in offsets]
        zero = ir.Constant(vector, [0.0] * _WIDTH)
        before = builder.block
        head = builder.append_basic_block("power_sums.head")
        body = builder.append_basic_block("power_sums.body")
        done = builder.append_basic_block("power_sums.done")
        builder.branch(head)

        builder.position_at_end(head)
        left = builder.phi(integer)
        left.add_incoming(args[2], before)
        sums = [builder.phi(vector) for _ in offsets]
        slopes = [builder.phi(vector) for _ in offsets]
        for phi in (*sums, *slopes):
            phi.add_incoming(zero, before)
        builder.cbranch(builder.icmp_signed(">", left, ir.Constant(integer, 0)), body, done)

        builder.position_at_end(body)
        k = builder.sub(left, ir.Constant(integer, 1))
        factor = builder.load(builder.gep(rows, [k]))
        single = builder.insert_element(
            ir.Constant(vector, ir.Undefined), factor, ir.Constant(ir.IntType(32), 0)
        )
        mask = ir.Constant(ir.VectorType(ir.IntType(32), _WIDTH), [0] * _WIDTH)
        factors = builder.shuffle_vector(single, single, mask)
        start = builder.mul(k, stride)
        for phi_sum, phi_slope, point, offset in zip(sums, slopes, points, offsets):
            term = builder.fmul(factors, load(table.data, builder.add(start, offset)))
            phi_slope.add_incoming(builder.call(fuse, [phi_slope, point, phi_sum]), body)
            phi_sum.add_incoming(builder.call(fuse, [phi_sum, point, term]), body)
        left.add_incoming(k, body)
        builder.branch(head)

        builder.position_at_end(done)
        for out, found in ((array(5).data, sums), (array(6).data, slopes)):
            for offset, lanes in zip(offsets, found):
                builder.store(lanes, at(out, offset)).align = 8
        return context.get_dummy_value()

    return sig, codegen


@intrinsic
def table_cubics(typingctx, z, first, table, header, count, density, start, phi, dphi):
    """φ and φ' at the TABLE_LANES points from ``z[first]`` on, by cubics looked up in a table (nopython only).

    With u = |z| + 2^start, interval k of a side begins at the float whose bits are those of 2^start plus k·2^(mantissa −
    density): 2^density intervals to an octave of u. Its row of ``table``, after ``header`` entries, holds c_0..c_3, and
    φ = Σ c_j τ^j, τ = u less that beginning; the side z < 0 has its rows after the ``count`` of the other, and the last row
    goes on for ever. The rows of eight points are loaded whole and transposed in registers; LLVM would make 32 scalar loads.

    ``z``, ``phi``, ``dphi`` (n,) and ``table`` are C-contiguous arrays of one floating type, the rest are integers. Nothing is
    checked; NaN gives NaN.
    """
    real_type = z.dtype
    if real_type not in (types.float32, types.float64) or any(
        a.dtype != real_type for a in (table, phi, dphi)
    ):
        return None
    whole_number = types.intp
    sig = types.void(z, whole_number, table, *[whole_number] * 4, phi, dphi)

    def codegen(context, builder, signature, args):
        bits, mantissa, bias = (64, 52, 1023) if real_type == types.float64 else (32, 23, 127)
        lane = ir.IntType(32)
        real, integer = context.get_value_type(real_type), ir.IntType(bits)
        reals, integers = ir.VectorType(real, _WIDTH), ir.VectorType(integer, _WIDTH)
        quad = ir.VectorType(real, 4)
        suffix = f"v{_WIDTH}f{bits}"

        def data(i):
            return context.make_array(signature.args[i])(context, builder, args[i]).data

        def function(name, arguments):
            kind = ir.FunctionType(reals, [reals] * arguments)
            return cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.{suffix}")

        def shuffle(a, b, mask):
            return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(lane, len(mask)), mask))

        def splat(value, vector):
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(lane, 0))
            return shuffle(one, ir.Constant(vector, ir.Undefined), [0] * _WIDTH)

        def whole(value):
            return splat(builder.trunc(value, integer) if bits < 64 else value, integers)

        def constant(vector, value):
            return ir.Constant(vector, [value] * _WIDTH)

        def at(pointer, position, vector):
            return builder.bitcast(builder.gep(pointer, [position]), vector.as_pointer())

        def load(pointer, position, vector):
            found = builder.load(at(pointer, position, vector))
            found.align = bits // 8
            return found

        x = load(data(0), args[1], reals)
        least = builder.shl(
            builder.add(whole(args[6]), constant(integers, bias)), constant(integers, mantissa)
        )
        u = builder.fadd(builder.call(function("fabs", 1), [x]), builder.bitcast(least, reals))
        shift = builder.sub(constant(integers, mantissa), whole(args[5]))
        origin, last = builder.lshr(least, shift), builder.sub(whole(args[4]), constant(integers, 1))
        k = builder.sub(builder.lshr(builder.bitcast(u, integers), shift), origin)
        k = builder.select(builder.icmp_signed("<", k, last), k, last)
        tau = builder.fsub(u, builder.bitcast(builder.shl(builder.add(k, origin), shift), reals))
        left = builder.fcmp_ordered("<", x, constant(reals, 0.0))
        row = builder.add(k, builder.select(left, whole(args[4]), constant(integers, 0)))
        row = builder.add(builder.shl(row, constant(integers, 2)), whole(args[3]))
        rows = []
        for i in range(_WIDTH):
            position = builder.extract_element(row, ir.Constant(lane, i))
            position = builder.zext(position, ir.IntType(64)) if bits < 64 else position
            rows.append(load(data(2), position, quad))
        columns = [[], [], [], []]
        for i in range(0, _WIDTH, 4):
            a, b, c, d = rows[i : i + 4]
            low, high = [0, 4, 1, 5], [2, 6, 3, 7]
            for j, (p, q) in (
                (0, (shuffle(a, b, low), shuffle(c, d, low))),
                (2, (shuffle(a, b, high), shuffle(c, d, high))),
            ):
                columns[j].append(shuffle(p, q, [0, 1, 4, 5]))
                columns[j + 1].append(shuffle(p, q, [2, 3, 6, 7]))
        c0, c1, c2, c3 = (shuffle(*halves, list(range(_WIDTH))) for halves in columns)

        def fused(a, b, c):
            return builder.call(function("fmuladd", 3), [a, b, c])

        value = fused(tau, fused(tau, fused(tau, c3, c2), c1), c0)
        slope = fused(tau, fused(tau, builder.fmul(c3, constant(reals, 3.0)), builder.fadd(c2, c2)), c1)
        slope = builder.select(left, builder.fsub(constant(reals, -0.0), slope), slope)
        for pointer, lanes in ((data(7), value), (data(8), slope)):
            builder.store(lanes, at(pointer, args[1], reals)).align = bits // 8
        return context.get_dummy_value()

    return sig, codegen
