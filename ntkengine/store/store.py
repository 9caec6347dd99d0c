"""A store: a folder with one HDF5 file a run. Files appear whole or not at all, and never change."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ntkengine._check import folder_path
from ntkengine.errors import InputError, StoreError
from ntkengine.store.format import encode, read_raw
from ntkengine.store.migrations import RawRun
from ntkengine.store.run import Run, Variable, is_run_id

__all__ = ["Header", "Scan", "Store", "VariableInfo"]

_SUFFIX = ".h5"
_TEMPORARY = re.compile(r"\.[\w.-]+\.[0-9a-f]{12}\.tmp")
#: Temporaries of writers that were killed go when they are older than this (seconds).
_STALE_AFTER = 86_400.0

_REMEDIES = {
    errno.ENOSPC: "free some space or choose another --store",
    errno.EDQUOT: "free some of your quota or choose another --store",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f) or choose another --store",
    errno.EACCES: "choose a --store you may write to",
    errno.EPERM: "choose a --store you may write to",
    errno.EROFS: "the file system is read-only: choose another --store",
    errno.ENAMETOOLONG: "choose a --store with a shorter path",
}


@dataclass(frozen=True)
class VariableInfo:
    """A variable without its values; ``dtype`` is numpy's name, ``"str"`` for text."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    units: str
    doc: str


@dataclass(frozen=True)
class Header:
    """A run without its arrays; fields as in :class:`~ntkengine.store.run.Run`, and the file it lies in."""

    path: Path
    id: str
    kind: str
    created: str
    status: str
    config: dict[str, Any]
    results: dict[str, Any]
    versions: dict[str, Any]
    device: dict[str, Any]
    schema: int
    variables: dict[str, VariableInfo]


class Scan(NamedTuple):
    """What a store holds: good runs, newest last, and one error for each file that is not one."""

    runs: list[Header]
    problems: list[StoreError]


class Store:
    """A folder of runs.

    Parameters
    ----------
    path : str or path
        The folder; created when something is first written. ``~`` is the user's home.

    Examples
    --------
    >>> import tempfile
    >>> from ntkengine.store import Run, Store, Variable
    >>> store = Store(tempfile.mkdtemp())
    >>> run = Run.new("demo", {"seed": 0}, {"loss": Variable(("epoch",), [1.0, 0.5])})
    >>> path = store.write(run)
    >>> store.read(run.id) == run
    True
    >>> [header.kind for header in store]
    ['demo']
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = folder_path("path", path)

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    # --- writing ---

    def check_writable(self) -> None:
        """Create the folder if need be and write a probe to it, so that a long computation does not end in
        an error.

        Raises
        ------
        StoreError
            If the path is a file, or the folder cannot be created or written to.
        """
        self._create_folder()
        with self._failures("write to"):
            os.unlink(self._write_temporary("probe", b"\0" * 4096))

    def write(self, run: Run) -> Path:
        """Add a run; on return it is on disk, whole.

        Parameters
        ----------
        run : Run
            It must be valid (see :meth:`Run.validate`).

        Returns
        -------
        Path
            The new file.

        Raises
        ------
        InputError
            If the run is not valid.
        StoreError
            If it cannot be written, or the store has a run of this id already. Nothing half-written is left
            behind, and the runs already in the store are untouched.
        """
        parts = encode(run)
        path = self.path_of(run.id)
        self._create_folder()
        self._remove_stale()
        with self._failures(f"write run {run.id} to"):
            temporary = self._write_temporary(run.id, *parts)
            try:
                _publish(temporary, path)
            except FileExistsError:
                raise StoreError(
                    f"store {self.path} has a run {run.id} already; runs are never overwritten: "
                    "create the run anew"
                ) from None
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
            _sync_folder(self.path)
        return path

    def _create_folder(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            occupied = next(p for p in (self.path, *self.path.parents) if os.path.lexists(p))
            raise StoreError(f"store path {occupied} is a file; name a folder") from None
        except OSError as error:
            raise self._failure("create", error) from error

    def _write_temporary(self, stem: str, *parts: bytes) -> Path:
        """Write bytes to a new hidden file and flush it to the disk; on any failure remove it."""
        path = self.path / f".{stem}.{secrets.token_hex(6)}.tmp"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            try:
                for part in parts:
                    rest = memoryview(part)
                    while rest:
                        rest = rest[os.write(descriptor, rest) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise
        return path

    def _remove_stale(self) -> None:
        """Remove temporaries that killed writers left behind, once they are old enough to be nobody's."""
        with contextlib.suppress(OSError), os.scandir(self.path) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if (
                        _TEMPORARY.fullmatch(entry.name)
                        and entry.is_file(follow_symlinks=False)
                        and entry.stat(follow_symlinks=False).st_mtime < time.time() - _STALE_AFTER
                    ):
                        os.unlink(entry.path)

    @contextlib.contextmanager
    def _failures(self, action: str) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except OSError as error:
            raise self._failure(action, error) from error

    def _failure(self, action: str, error: OSError) -> StoreError:
        remedy = _REMEDIES.get(error.errno or 0, "choose another --store")
        return StoreError(f"cannot {action} store {self.path}: {error.strerror or error}; {remedy}")

    # --- reading ---

    def path_of(self, run_id: str) -> Path:
        """The file of a run of this id, whether it exists or not.

        Raises
        ------
        InputError
            If the text is not a run id: nothing outside the folder can be named.
        """
        if not is_run_id(run_id):
            raise InputError(
                f"run id {run_id!r} is not allowed; ids look like 20260131T142536.123456Z-shallowify-1a2b3c"
            )
        return self.path / f"{run_id}{_SUFFIX}"

    def read(self, run: str | os.PathLike[str]) -> Run:
        """Read one run, and check every byte of it.

        Parameters
        ----------
        run : str or path
            A text is the id of a run in this store; a path object is a file anywhere.

        Raises
        ------
        InputError
            If a text is not a run id.
        StoreError
            If there is no such run, or its file is damaged or no run. The text names the file and the cause.
        """
        path = self._existing(run)
        raw = read_raw(path)
        try:
            found = Run(
                variables={n: Variable(v.dims, v.values, v.units, v.doc) for n, v in raw.variables.items()},
                **raw.header,
            )
            found.validate()
        except (InputError, TypeError) as error:
            raise StoreError(f"cannot read {path}: {error}") from error
        self._check_name(path, found.id, run)
        return found

    def ids(self) -> list[str]:
        """Ids of the runs in the folder by the files' names, oldest first; none before the folder exists."""
        names = (name.removesuffix(_SUFFIX) for name in self._files())
        return [name for name in names if is_run_id(name)]

    def scan(self) -> Scan:
        """Read every run's header, and no array.

        Returns
        -------
        Scan
            Headers, newest last, and a :class:`~ntkengine.errors.StoreError` for each ``.h5`` file that is
            not a good run.
        """
        result = Scan([], [])
        for name in self._files():
            path = self.path / name
            try:
                header = _header(path, read_raw(path, values=False))
                self._check_name(path, header.id, name.removesuffix(_SUFFIX))
                result.runs.append(header)
            except StoreError as error:
                result.problems.append(error)
        return result

    def __iter__(self) -> Iterator[Header]:
        """Headers of the good runs, newest last; :meth:`scan` tells about the others too."""
        return iter(self.scan().runs)

    def __len__(self) -> int:
        return len(self.ids())

    def __contains__(self, run_id: object) -> bool:
        return is_run_id(run_id) and self.path_of(str(run_id)).is_file()

    def _files(self) -> list[str]:
        try:
            return sorted(n for n in os.listdir(self.path) if n.endswith(_SUFFIX) and not n.startswith("."))
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            raise StoreError(f"store path {self.path} is a file; name a folder") from None
        except OSError as error:
            raise self._failure("list", error) from error

    def _existing(self, run: str | os.PathLike[str]) -> Path:
        if not isinstance(run, str):
            return Path(run)
        path = self.path_of(run)
        if not path.exists():
            ids = self.ids()
            newest = f"; the newest is {ids[-1]}" if ids else ""
            raise StoreError(f"store {self.path} has no run {run} (it has {len(ids)} runs{newest})")
        return path

    def _check_name(self, path: Path, found: str, expected: str | os.PathLike[str]) -> None:
        if isinstance(expected, str) and found != expected:
            raise StoreError(
                f"cannot read {path}: it holds run {found!r}; rename the file to {found}{_SUFFIX}"
            )


def _header(path: Path, raw: RawRun) -> Header:
    infos: dict[str, VariableInfo] = {}
    for name, variable in raw.variables.items():
        values = variable.values
        dtype = "str" if values.dtype.kind == "U" else values.dtype.name
        infos[name] = VariableInfo(variable.dims, values.shape, dtype, variable.units, variable.doc)
    return Header(path=path, variables=infos, **raw.header)


def _publish(temporary: Path, path: Path) -> None:
    """Give a finished file its name; FileExistsError where the name is taken."""
    try:
        os.link(temporary, path)  # unlike a rename, refuses to overwrite
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        # A file system without hard links. Two writers of one id, which is random, could pass this check
        # together.
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.rename(temporary, path)


def _sync_folder(path: Path) -> None:
    """Flush the folder's list of names, where the system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)
