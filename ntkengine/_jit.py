"""The one file that touches numba's decorators: presets, the machine-code cache, tiles, BLAS and threads.

Presets
-------
``strict``   IEEE arithmetic; numpy's error model (a division by zero is inf, not a Python exception).
``fast``     ``strict`` plus FMA contraction and unsigned zeros. Never numba's ``fastmath=True``: that deletes NaN
             checks and compensated sums.
Both take ``parallel=True`` for the drivers that own threads.

Cache
-----
Machine code is kept in ``$NTKENGINE_CACHE_DIR`` (default: the user's cache folder), in a folder named by a hash of
this package's sources and of the compiler's versions. numba's own ``cache=True`` looks only at the file of the
function itself and so runs stale code after a callee in another file was edited; a changed hash cannot.
Entries are files named by the hash of their whole key, so that processes compiling at the same time cannot hand
each other the wrong code. ``NTKENGINE_CACHE_DIR=""`` switches the cache off.

Tiles
-----
An activation enters a hot loop as the address of a compiled function
``tile(n, z, params, phi, dphi)`` over a contiguous run of ``n`` values. Loops call it through :func:`call_tile`, so
they are compiled once for all activations.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import llvmlite
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, event
from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc
from numba.extending import intrinsic
from numba.np.unsafe.ndarray import to_fixed_tuple
from threadpoolctl import ThreadpoolController

from ntkengine._check import integer

__all__ = [
    "blas_single_thread",
    "cache_directory",
    "call_tile",
    "compile_clock",
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


# --- cache -----------------------------------------------------------------------------------------------------


@cache
def source_hash() -> str:
    """Hash of this package's Python sources and of the compiler's versions (16 hex digits)."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    digest.update(f"{numba.__version__} {llvmlite.__version__} {sys.version}".encode())
    return digest.hexdigest()[:16]


def code_identity(function: Callable[..., Any]) -> str | None:
    """A text that is the same only for the same code: bytecode, constants, defaults, and all it refers to, recursively.

    None if that cannot be told: a closure, or a global that is neither a number, nor a function of which the same holds,
    nor a module of this package or of plain mathematics (the sources of this package are in the cache folder's name).
    """
    parts: list[str] = []
    return hashlib.sha256("|".join(parts).encode()).hexdigest() if _describe(function, parts, set()) else None


def _describe(function: Any, parts: list[str], seen: set[int]) -> bool:
    function = getattr(function, "py_func", function)
    if id(function) in seen:
        return True
    seen.add(id(function))
    if not isinstance(function, FunctionType) or function.__closure__:
        return False
    if function.__module__.partition(".")[0] == __package__:
        parts.append(f"{function.__module__}.{function.__qualname__}:{function.__code__.co_firstlineno}")
        return True
    parts.append(repr((function.__defaults__, function.__kwdefaults__)))
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        constants = [c for c in code.co_consts if not isinstance(c, CodeType)]
        parts.append(repr((code.co_code, constants, code.co_names, code.co_varnames)))
        codes += [c for c in code.co_consts if isinstance(c, CodeType)]
        for name in code.co_names:
            if name in function.__globals__ and not _describe_value(
                name, function.__globals__[name], parts, seen
            ):
                return False
    return True


def _describe_value(name: str, value: Any, parts: list[str], seen: set[int]) -> bool:
    if isinstance(value, (bool, int, float, np.generic)):
        parts.append(f"{name}={value!r}")
        return True
    if isinstance(value, ModuleType):
        parts.append(f"{name}={value.__name__}")
        return value.__name__.partition(".")[0] in (__package__, "math", "numpy")
    if isinstance(value, (np.ufunc, BuiltinFunctionType)):
        parts.append(f"{name}={value.__name__}")
        return isinstance(value, np.ufunc) or value.__module__ in ("math", "builtins")
    return _describe(value, parts, seen)


@cache
def cache_directory() -> Path | None:
    """Folder of cached machine code for exactly these sources, or None when caching is off or impossible."""
    base = os.environ.get("NTKENGINE_CACHE_DIR")
    if base is None:
        from platformdirs import user_cache_path

        root = user_cache_path("ntkengine", appauthor=False) / "jit"
    elif base.strip():
        root = Path(os.path.expanduser(base)) / "jit"
    else:
        return None
    folder = root / source_hash()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{uuid.uuid4().hex}"
        probe.touch()
        probe.unlink()
    except OSError:
        return None
    _forget_old(folder)
    return folder


def _forget_old(current: Path) -> None:
    """Remove the folders of other versions that were not used for a month; mark this one as used."""
    with contextlib.suppress(OSError):
        os.utime(current)
        for folder in current.parent.iterdir():
            if folder != current and time.time() - folder.stat().st_mtime > 30 * 86400:
                shutil.rmtree(folder, ignore_errors=True)


class _EntryFile:
    """Cache entries of one function: one file per key, named by the key's hash, written atomically."""

    def __init__(self, folder: Path, stem: str) -> None:
        self.folder, self.stem = folder, stem

    def _path(self, key: Any) -> Path:
        return self.folder / f"{self.stem}.{hashlib.sha256(repr(key).encode()).hexdigest()[:24]}.nbc"

    def load(self, key: Any) -> Any:
        try:
            return pickle.loads(self._path(key).read_bytes())
        except (OSError, pickle.UnpicklingError, EOFError):
            return None

    def save(self, key: Any, data: Any) -> None:
        from numba.core.serialize import dumps

        path = self._path(key)
        temporary = path.with_suffix(f".{uuid.uuid4().hex[:12]}.tmp")
        try:
            temporary.write_bytes(dumps(data))
            os.replace(temporary, path)
        except OSError:  # a full or vanished cache folder costs a recompilation, nothing else
            with contextlib.suppress(OSError):
                temporary.unlink()

    def flush(self) -> None:
        for path in self.folder.glob(f"{self.stem}.*.nbc"):
            path.unlink(missing_ok=True)


class _Cache(FunctionCache):
    """numba's function cache, put in :func:`cache_directory`.

    The key holds the compilation ``options`` too (one function may be compiled serial and parallel), and ``identity``, where
    given, in place of the closure.
    """

    def __init__(
        self, py_func: Callable[..., Any], folder: Path, options: str, identity: str | None = None
    ) -> None:
        super().__init__(py_func)
        self._options, self._identity = options, identity
        stem = f"{py_func.__module__}.{py_func.__qualname__}-{py_func.__code__.co_firstlineno}"
        self._cache_file = _EntryFile(folder, stem.replace("<", "").replace(">", ""))
        self._folder = folder

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        if self._identity is None:
            return (*super()._index_key(sig, codegen), self._options)
        return (str(sig), codegen.magic_tuple(), self._identity, self._options)

    def _save_overload(self, sig: Any, data: Any) -> None:
        if self._enabled and self._impl.check_cachable(data):
            self._cache_file.save(self._index_key(sig, data.codegen), self._impl.reduce(data))


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
        dispatcher._cache = _Cache(function, folder, _text(options))
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
    # Inlined by force: a call left in the loop keeps LLVM from vectorising it (ten times slower for a long scalar).
    pair = numba.njit(scalar, forceinline=True, nogil=True, error_model="numpy", fastmath=set(_FAST_FLAGS))
    length = max(n_params, 1)

    def tile(n, z, params, phi, dphi):
        z_run, phi_run, dphi_run = numba.carray(z, n), numba.carray(phi, n), numba.carray(dphi, n)
        p = to_fixed_tuple(numba.carray(params, length), length)  # values: phi and dphi cannot alias them
        for i in range(n):
            phi_run[i], dphi_run[i] = pair(z_run[i], p)

    args, _ = numba.core.sigutils.normalize_signature(_tile_signature(dtype))
    options = {"error_model": "numpy", "nogil": True, "fastmath": set(_FAST_FLAGS)}
    compiled: Any = CFunc(tile, (args, types.void), locals={}, options={"nopython": True, **options})
    folder = cache_directory()
    if folder is not None and identity is not None:
        compiled._cache = _Cache(tile, folder, _text(options), f"{identity}|{n_params}|{dtype}")
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
