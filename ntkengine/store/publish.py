"""Single files, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ntkengine.errors import InputError, StoreError
from ntkengine.store.store import Store, _publish, _sync_folder

__all__ = ["Disk", "check_output", "hdf5_file", "publishing"]

#: Bytes of the chunk cache, so that a chunk filled in several steps is written to the disk once.
CHUNK_CACHE = 64 * 2**20


def check_output(option: str, path: Path, overwrite: bool) -> None:
    """Refuse a path that cannot or must not be written, before anything is computed.

    ``option`` names it in the error. The folder must exist; a file that exists needs ``overwrite``.

    Raises
    ------
    InputError

    Examples
    --------
    >>> from pathlib import Path
    >>> from ntkengine.store.publish import check_output
    >>> check_output("-o", Path("no-such-folder/gram.h5"), overwrite=False)
    Traceback (most recent call last):
    ntkengine.errors.InputError: -o is 'no-such-folder/gram.h5', and there is no folder 'no-such-folder': make it, ...
    """
    if path.is_dir():
        raise InputError(f"{option} is {str(path)!r}, a folder; name a file")
    if not path.parent.is_dir():
        raise InputError(
            f"{option} is {str(path)!r}, and there is no folder {str(path.parent)!r}: make it, or choose another"
        )
    if os.path.lexists(path):
        if not path.is_file():
            raise InputError(f"{option} is {str(path)!r}, which is not a regular file; name one")
        if not overwrite:
            raise _exists(path)


def _exists(path: Path) -> InputError:
    return InputError(f"{str(path)!r} exists; choose another name, or replace it with --overwrite")


@contextlib.contextmanager
def publishing(path: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary path beside ``path`` that becomes it, flushed to the disk, when the block ends; removed on failure.

    Raises
    ------
    InputError
        If the file exists when its name is to be taken, and may not be overwritten.
    StoreError
        If it cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from ntkengine.store.publish import publishing
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> with publishing(folder / "table.csv", overwrite=False) as temporary:
    ...     _ = temporary.write_text("c,ntk")
    >>> [path.name for path in folder.iterdir()]
    ['table.csv']
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    Store(path.parent)._remove_stale()  # what killed writers left in this folder
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        if overwrite:
            os.replace(temporary, path)
        else:
            _publish(temporary, path)
        _sync_folder(path.parent)
    except StoreError:
        raise
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        known = error.errno is not None and error.errno in errno.errorcode
        cause = os.strerror(error.errno or 0) if known else str(error)
        raise StoreError(
            f"cannot write {str(path)!r}: {cause}; free some space or choose another path"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


class Disk:
    """The file below HDF5. After a write has failed it swallows the rest and keeps the error for its owner to raise.

    The HDF5 library cannot give up on a file that it cannot write to: it crashes when the process ends.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self.error: BaseException | None = None
        self.seek, self.tell, self.read = file.seek, file.tell, file.read

    def flush(self) -> None:
        """Nothing is kept back."""

    def write(self, data: Any) -> int:
        """Write a buffer; its size."""
        rest = memoryview(data)
        size = rest.nbytes
        try:
            while rest and self.error is None:
                rest = rest[self._file.write(rest) :]
        except BaseException as error:
            self.error = error
        return size

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, with zeros beyond the end."""
        view = memoryview(buffer)
        found: int = self._file.readinto(view)
        view[found:] = bytes(view.nbytes - found)
        return view.nbytes

    def truncate(self, size: int) -> int:
        """Set the file's size."""
        try:
            if self.error is None:
                self._file.truncate(size)
        except OSError as error:
            self.error = error
        return size

    def check(self) -> None:
        """Raise what went wrong."""
        if self.error is not None:
            raise self.error


@contextlib.contextmanager
def hdf5_file(path: Path) -> Iterator[tuple[Any, Disk]]:
    """A new HDF5 file to be filled in blocks, and the disk file below it.

    Whoever writes much calls :meth:`Disk.check` in between, so as to stop where the disk is full.

    Raises
    ------
    OSError
        At the end of the block, if something could not be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from ntkengine.store.publish import hdf5_file
    >>> path = pathlib.Path(tempfile.mkdtemp(), "a.h5")
    >>> with hdf5_file(path) as (file, disk):
    ...     file["x"] = [1.0, 2.0]
    ...     disk.check()
    >>> path.stat().st_size > 0
    True
    """
    import h5py

    options: dict[str, Any] = {"rdcc_nbytes": CHUNK_CACHE, "rdcc_nslots": 10_007, "rdcc_w0": 1.0}
    with open(path, "xb+", buffering=0) as raw:
        disk = Disk(raw)
        with h5py.File(disk, "w", libver=("v110", "v110"), track_order=True, **options) as file:
            yield file, disk
        disk.check()
