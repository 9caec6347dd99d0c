"""The one file that touches numba's decorators: presets, tiles, BLAS and threads (the cache is in :mod:`._cache`).

Presets
-------
``strict``   IEEE arithmetic; numpy's error model (a division by zero is inf, not a Python exception).
``fast``     ``strict`` plus FMA contraction and unsigned zeros. Never numba's ``fastmath=True``: that deletes NaN
             checks and compensated sums.
Both take ``parallel=True`` for the drivers that own threads.

Tiles
-----
An activation enters a hot loop as the address of a compiled function
``tile(n, z, params, phi, dphi)`` over a contiguous run of ``n`` values. Loops call it through :func:`call_tile`, so
they are compiled once for all activations.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, event
from numba.core.ccallback import CFunc
from numba.extending import intrinsic
from numba.np.unsafe.ndarray import to_fixed_tuple
from threadpoolctl import ThreadpoolController

from ntkengine._cache import MachineCodeCache, cache_directory
from ntkengine._check import integer

__all__ = [
    "DUAL_STRIDE",
    "blas_single_thread",
    "call_tile",
    "compile_clock",
    "compile_dual",
    "compile_tile",
    "fast",
    "gemm",
    "prange",
    "strict",
    "thread_count",
    "threads",
]

prange = numba.prange

_STRICT: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
_FAST_FLAGS = frozenset({"contract", "nsz"})
#: Only loops written as prange run on threads; numba rewrites no array expression behind our back.
_PRANGE_ONLY = {
    "prange": True,
    "comprehension": False,
    "reduction": False,
    "inplace_binop": False,
    "setitem": False,
    "numpy": False,
    "stencil": False,
    "fusion": False,
}


# --- presets ---------------------------------------------------------------------------------------------------


def _text(options: dict[str, Any]) -> str:
    """Options in words that do not change from process to process (a set's order does)."""
    return repr(sorted((k, sorted(v) if isinstance(v, set) else v) for k, v in options.items()))


def _decorate(options: dict[str, Any], function: Callable[..., Any]) -> Any:
    if options["parallel"]:
        options = {**options, "parallel": _PRANGE_ONLY}
    dispatcher = numba.njit(**options)(function)
    folder = cache_directory()
    # The folder's name speaks for this package's sources only, so nothing from elsewhere is kept in it.
    if folder is not None and function.__module__.partition(".")[0] == __package__:
        dispatcher._cache = MachineCodeCache(function, folder, _text(options))
    return dispatcher


def strict(
    function: Callable[..., Any] | None = None, *, parallel: bool = False, inline: str = "never"
) -> Any:
    """Compile with IEEE arithmetic (see the module's text)."""
    options = {**_STRICT, "parallel": parallel, "inline": inline}
    return _decorate(options, function) if function else lambda f: _decorate(options, f)


def fast(function: Callable[..., Any] | None = None, *, parallel: bool = False, inline: str = "never") -> Any:
    """Compile with FMA contraction and unsigned zeros allowed (see the module's text)."""
    options = {**_STRICT, "parallel": parallel, "inline": inline, "fastmath": set(_FAST_FLAGS)}
    return _decorate(options, function) if function else lambda f: _decorate(options, f)


#: Longest run of a closed-form dual's tile, and the distance of the rows of its workspace.
DUAL_STRIDE = 256

# --- tiles -----------------------------------------------------------------------------------------------------


def _tile_signature(dtype: np.dtype) -> Any:
    pointer = types.CPointer(numba.from_dtype(dtype))
    return types.void(types.intp, pointer, pointer, pointer, pointer)


def compile_tile(scalar: Callable[..., Any], n_params: int, dtype: Any, identity: str | None) -> CFunc:
    """Compile ``scalar(z, p) -> (phi, dphi)`` into a tile for one dtype.

    Parameters
    ----------
    scalar : callable
        Plain Python function of a value ``z`` and an indexable of parameters ``p``, all of one floating type.
    n_params : int
        Length of ``p``.
    dtype : float32 or float64
    identity : str or None
        Names the machine code in the cache: the same text must always mean the same function. None: not cached.

    Returns
    -------
    CFunc
        Keep it alive as long as its ``address`` is in use.
    """
    dtype = np.dtype(dtype)
    pair, length = _inlined(scalar), max(n_params, 1)

    def tile(n, z, params, phi, dphi):
        z_run, phi_run, dphi_run = numba.carray(z, n), numba.carray(phi, n), numba.carray(dphi, n)
        p = to_fixed_tuple(numba.carray(params, length), length)  # values: phi and dphi cannot alias them
        for i in range(n):
            phi_run[i], dphi_run[i] = pair(z_run[i], p)

    return _compile(tile, dtype, identity and f"{identity}|{n_params}|{dtype}")


def compile_dual(scalar: Callable[..., Any], n_params: int, identity: str | None) -> CFunc:
    """Compile a closed-form dual ``scalar(s, t, a, b, delta, eta, p) -> (gap, total, slope)`` into a tile (float64).

    The tile, called through :func:`call_tile` as ``(address, n, work, params, row, row)``, n <= DUAL_STRIDE, reads
    ``row = (s, a)``
    and the rows t, b, delta, eta of ``work`` (7, DUAL_STRIDE), and fills its rows gap, total, slope. The fixed stride lets
    LLVM see that rows do not overlap; with that many separate pointers it would not vectorise.

    Parameters
    ----------
    scalar : callable
        See :class:`ntkengine.activations.ActivationFamily`.
    n_params : int
    identity : str or None
        As for :func:`compile_tile`.
    """
    dual, length, stride = _inlined(scalar), max(n_params, 1), DUAL_STRIDE

    def tile(n, work, params, row, _):
        rows, s, a = numba.carray(work, 7 * stride), numba.carray(row, 2)[0], numba.carray(row, 2)[1]
        p = to_fixed_tuple(numba.carray(params, length), length)
        for i in range(n):
            gap, total, slope = dual(
                s, rows[i], a, rows[i + stride], rows[i + 2 * stride], rows[i + 3 * stride], p
            )
            rows[i + 4 * stride], rows[i + 5 * stride], rows[i + 6 * stride] = gap, total, slope

    return _compile(tile, np.dtype(np.float64), identity and f"{identity}|{n_params}|dual")


def _inlined(scalar: Callable[..., Any]) -> Any:
    # Inlined by force: a call left in the loop keeps LLVM from vectorising it (ten times slower for a long scalar).
    return numba.njit(scalar, forceinline=True, nogil=True, error_model="numpy", fastmath=set(_FAST_FLAGS))


def _compile(tile: Callable[..., Any], dtype: np.dtype, identity: str | None) -> CFunc:
    args, _ = numba.core.sigutils.normalize_signature(_tile_signature(dtype))
    options = {"error_model": "numpy", "nogil": True, "fastmath": set(_FAST_FLAGS)}
    compiled: Any = CFunc(tile, (args, types.void), locals={}, options={"nopython": True, **options})
    folder = cache_directory()
    if folder is not None and identity is not None:
        compiled._cache = MachineCodeCache(tile, folder, _text(options), identity)
    with _clocked():
        compiled.compile()
    return compiled


@intrinsic
def call_tile(typingctx, address, n, z, params, phi, dphi):
    """Call the tile at ``address`` on the first ``n`` values of the C-contiguous arrays z, phi, dphi (nopython only)."""
    sig = types.void(types.intp, types.intp, z, params, phi, dphi)

    def codegen(context, builder, signature, args):
        arrays = [
            context.make_array(ty)(context, builder, value).data
            for ty, value in zip(signature.args[2:], args[2:])
        ]
        size = context.get_value_type(types.intp)
        function_type = ir.FunctionType(ir.VoidType(), [size] + [a.type for a in arrays])
        function = builder.inttoptr(args[0], function_type.as_pointer())
        builder.call(function, [args[1], *arrays])
        return context.get_dummy_value()

    return sig, codegen


# --- BLAS ------------------------------------------------------------------------------------------------------

_BLAS_KIND = {"float32": ord("s"), "float64": ord("d")}


@intrinsic
def _xxgemm(typingctx, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    """Column-major ``C = alpha op(A) op(B) + beta C`` on raw positions ``(array, first element)`` (nopython only)."""
    real = c[0].dtype
    kind = _BLAS_KIND[str(real)]
    sig = types.intc(
        types.intp,
        types.intp,
        types.intp,
        types.intp,
        types.intp,
        real,
        a,
        types.intp,
        b,
        types.intp,
        real,
        c,
        types.intp,
    )

    def codegen(context, builder, signature, args):
        from numba.np.linalg import ensure_blas

        ensure_blas()
        char, size = ir.IntType(8), context.get_value_type(types.intp)
        pointer = ir.IntType(8).as_pointer()

        def position(ty, value):
            array = context.make_array(ty[0])(context, builder, builder.extract_value(value, 0))
            first = builder.gep(array.data, [builder.extract_value(value, 1)])
            return builder.bitcast(first, pointer)

        def scalar(value):
            return builder.bitcast(cgutils.alloca_once_value(builder, value), pointer)

        ta, tb, mm, nn, kk, al, aa, la, bb, lb, be, cc, lc = args
        types_in = signature.args
        function_type = ir.FunctionType(
            ir.IntType(32),
            [
                char,
                char,
                char,
                size,
                size,
                size,
                pointer,
                pointer,
                size,
                pointer,
                size,
                pointer,
                pointer,
                size,
            ],
        )
        function = cgutils.get_or_insert_function(builder.module, function_type, "numba_xxgemm")
        return builder.call(
            function,
            [
                ir.Constant(char, kind),
                builder.trunc(ta, char),
                builder.trunc(tb, char),
                mm,
                nn,
                kk,
                scalar(al),
                position(types_in[6], aa),
                la,
                position(types_in[8], bb),
                lb,
                scalar(be),
                position(types_in[11], cc),
                lc,
            ],
        )

    return sig, codegen


@strict(inline="always")
def gemm(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    """Row-major ``C (m, n) = alpha op(A) op(B) + beta C`` through BLAS, on parts of larger arrays (nopython only).

    ``a``, ``b``, ``c`` are pairs (C-contiguous array, flat index of the first element); ``lda`` etc. are the row
    strides; ``op`` transposes where the flag is True, and then A is stored (k, m), B stored (n, k). BLAS is column-major:
    the same memory read as Cᵀ = op(B)ᵀ op(A)ᵀ. The array of ``c`` decides the precision; alpha and beta must have it.
    """
    return _xxgemm(84 if trans_b else 78, 84 if trans_a else 78, n, m, k, alpha, b, ldb, a, lda, beta, c, ldc)


# --- threads ---------------------------------------------------------------------------------------------------


@cache
def _blas_controller() -> ThreadpoolController:
    import scipy.linalg.cython_blas  # noqa: F401  numba calls this BLAS: it must be loaded before it is looked for

    return ThreadpoolController()


class _BlasLimit:
    """One BLAS thread while anybody, in any Python thread, is inside; the caller's settings when the last one leaves."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._limiter: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._limiter = _blas_controller().limit(limits=1, user_api="blas")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._limiter.restore_original_limits()


_blas_limit = _BlasLimit()


def blas_single_thread() -> AbstractContextManager[None]:
    """Inside, every BLAS uses one thread: two pools on the same cores stall each other. Restored on the way out."""
    return _blas_limit


def thread_count(requested: int | None = None) -> int:
    """Number of threads to use: ``requested``, at most what numba was started with; None means all of those.

    Raises
    ------
    InputError
        If ``requested`` is not an integer ≥ 1.
    """
    available = int(numba.config.NUMBA_NUM_THREADS)
    return (
        available if requested is None else min(integer("threads", requested, 1, " or None (all)"), available)
    )


@contextlib.contextmanager
def threads(requested: int | None = None) -> Iterator[int]:
    """Run parallel drivers on ``requested`` threads with single-threaded BLAS; restores the caller's settings."""
    before = numba.get_num_threads()
    count = thread_count(requested) if requested is not None else before
    numba.set_num_threads(count)
    try:
        with blas_single_thread():
            yield count
    finally:
        numba.set_num_threads(before)


# --- how long compilation took ---------------------------------------------------------------------------------


class _CompileClock(event.Listener):
    """Adds up the wall time spent inside numba's compiler, nested compilations counted once."""

    def __init__(self) -> None:
        self.seconds, self._depth, self._since = 0.0, 0, 0.0
        self._lock = threading.RLock()

    def enter(self) -> None:
        with self._lock:
            if self._depth == 0:
                self._since = time.perf_counter()
            self._depth += 1

    def leave(self) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                self.seconds += time.perf_counter() - self._since

    def on_start(self, _event: Any) -> None:
        self.enter()

    def on_end(self, _event: Any) -> None:
        self.leave()


compile_clock = _CompileClock()
event.register("numba:compile", compile_clock)


@contextlib.contextmanager
def _clocked() -> Iterator[None]:
    compile_clock.enter()
    try:
        yield
    finally:
        compile_clock.leave()
