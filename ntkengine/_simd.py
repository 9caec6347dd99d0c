"""Vector instructions written out, for the one loop that LLVM's vectoriser leaves in memory: sums that must stay in registers.

Vectors have 8 float64 lanes; LLVM splits them where registers are shorter.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["LANES", "power_sums"]

#: Points that one call of :func:`power_sums` takes: 4 vectors, so that the latency of one hides behind the others.
LANES = 32

_WIDTH = 8


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
