"""The machine-code cache: where compiled functions are kept between processes, and under which names.

Machine code is kept in ``$NTKENGINE_CACHE_DIR`` (default: the user's cache folder), in a folder named by a hash of
this package's sources and of the compiler's versions. numba's own ``cache=True`` looks only at the file of the
function itself and so runs stale code after a callee in another file was edited; a changed hash cannot.
Entries are files named by the hash of their whole key, so that processes compiling at the same time cannot hand
each other the wrong code. ``NTKENGINE_CACHE_DIR=""`` switches the cache off.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import shutil
import sys
import time
import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core.caching import FunctionCache

__all__ = ["MachineCodeCache", "cache_directory", "code_identity", "source_hash"]


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


class MachineCodeCache(FunctionCache):
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
