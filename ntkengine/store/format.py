"""One run as the bytes of an HDF5 file, and back.

Layout
------
Root attributes: ``schema`` (integer) and the texts ``kind, id, created, status``, the JSON texts ``config,
results, versions, device``, and two checksums. Every variable is a dataset of the root group with a
dimension scale attached to each axis, named and labelled by the dimension. A coordinate is its own scale; a
dimension without coordinate has netCDF's "dimension but not a variable". Texts are variable-length UTF-8
(no 64 kB limit on attributes). Bools are int8 with the attribute ``dtype = "bool"``, as xarray writes and
reads them. The library version is bounded to HDF5 1.10, whose metadata carry checksums of their own.

Integrity
---------
``header_checksum`` is the SHA-256 of the header's texts and of every variable's name, dims, shape, dtype and
texts; ``checksum`` adds the values. They speak about the content and survive a rewriting of the file by other
tools. After the HDF5 data comes a line of text with the SHA-256 of all bytes before it, which HDF5 ignores:
a damaged file is recognised before its structure is trusted. Tools that append to a file cut this line off,
and then the checksums decide.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkengine.errors import InputError, StoreError
from ntkengine.store.migrations import RawRun, RawVariable, migrate
from ntkengine.store.run import SCHEMA, Run, is_run_id, plain_json

__all__ = ["encode", "read_raw"]

_TEXTS = ("kind", "id", "created", "status")
_JSONS = ("config", "results", "versions", "device")

#: Longest JSON text that is written or read, in bytes.
MAX_JSON = 64 * 2**20
#: Arrays of at least so many bytes are compressed.
COMPRESS_FROM = 64 * 1024

_SEAL_PREFIX = b"\nntkengine sha256 "
_SEAL_LENGTH = len(_SEAL_PREFIX) + 64 + 1
_PURE_DIMENSION = "This is a netCDF dimension but not a netCDF variable."
#: gzip cannot shrink more than this; a file that claims more would only fill the memory.
_MAX_DEFLATE_RATIO = 1100


# --- checksums ----------------------------------------------------------------------------------------------


def header_checksum(header: dict[str, Any], variables: dict[str, RawVariable]) -> str:
    """SHA-256 of the root attributes, JSON as text, and of all about the variables but their values."""
    texts = [str(header[name]).encode() for name in ("schema", *_TEXTS, *_JSONS)]
    for name in sorted(variables):
        variable, values = variables[name], variables[name].values
        dtype = "text" if values.dtype.kind == "U" else values.dtype.name
        texts.append(
            json.dumps([name, variable.dims, values.shape, dtype, variable.units, variable.doc]).encode()
        )
    return _digest(*texts).hexdigest()


def checksum(header_digest: str, variables: dict[str, RawVariable]) -> str:
    """SHA-256 of the header's checksum and of the variables' values, in the order of their names."""
    total = _digest(header_digest.encode())
    for name in sorted(variables):
        values = variables[name].values
        if values.dtype.kind == "U":
            content: bytes | memoryview = json.dumps(values.reshape(-1).tolist()).encode()
        else:
            plain = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
            content = plain.reshape(-1).view(np.uint8).data
        total.update(_digest(content).digest())
    return str(total.hexdigest())


def _digest(*parts: bytes | memoryview) -> Any:
    """SHA-256 of parts; each one's length goes in too, so that no two lists of parts look alike."""
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total


# --- writing ------------------------------------------------------------------------------------------------


def encode(run: Run) -> tuple[bytes, bytes]:
    """The bytes of a run's file in two parts, HDF5 and the line that seals it; everything is checked first.

    Raises
    ------
    InputError
        If the run is not valid (see :meth:`Run.validate`) or its JSON parts cannot be JSON, or are longer
        than :data:`MAX_JSON`.
    """
    import h5py

    sizes = run.validate()
    header: dict[str, Any] = {"schema": run.schema} | {name: getattr(run, name) for name in _TEXTS}
    for name in _JSONS:
        header[name] = _json_text(name, getattr(run, name))
    raw = {name: RawVariable(v.dims, v.values, v.units, v.doc) for name, v in run.variables.items()}
    header["header_checksum"] = header_checksum(header, raw)
    header["checksum"] = checksum(header["header_checksum"], raw)

    options: dict[str, Any] = {"driver": "core", "backing_store": False, "libver": ("v110", "v110")}
    with h5py.File(run.id, "w", track_order=True, **options) as file:
        for name, value in header.items():
            file.attrs[name] = value
        for name, variable in raw.items():
            _put_variable(file, name, variable)
        for dim, size in sizes.items():
            if dim in raw:
                file[dim].make_scale(dim)
            else:
                file.create_dataset(dim, shape=(size,), dtype=">f4").make_scale(
                    f"{_PURE_DIMENSION} {size:10d}"
                )
        for name, variable in raw.items():
            for axis, dim in enumerate(variable.dims):
                file[name].dims[axis].label = dim
                if name != dim:
                    file[name].dims[axis].attach_scale(file[dim])
        file.flush()
        image: bytes = file.id.get_file_image()
    return image, _SEAL_PREFIX + hashlib.sha256(image).hexdigest().encode() + b"\n"


def _json_text(name: str, value: Any) -> str:
    if not isinstance(value, dict):
        raise InputError(f"{name} must be a dict, not {value!r}")
    # Pure ASCII: NUL, and half surrogate pairs such as undecodable file names hold, are escaped.
    text = json.dumps(plain_json(value, name), allow_nan=False)
    if len(text) > MAX_JSON:
        raise InputError(
            f"{name} is {len(text) / 2**20:.0f} MB of JSON; allowed: {MAX_JSON // 2**20} MB. "
            "Store arrays as variables"
        )
    return text


def _put_variable(file: Any, name: str, variable: RawVariable) -> None:
    import h5py

    values = variable.values
    options: dict[str, Any] = {}
    if values.dtype.kind == "U":
        data, options["dtype"] = values.astype(object), h5py.string_dtype("utf-8")
    else:
        data = values.astype(np.int8) if values.dtype.kind == "b" else values
        if data.nbytes >= COMPRESS_FROM and data.ndim:
            options |= {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    dataset = file.create_dataset(name, data=data, **options)
    if values.dtype.kind == "b":
        dataset.attrs["dtype"] = "bool"
    if variable.units:
        dataset.attrs["units"] = variable.units
    if variable.doc:
        dataset.attrs["long_name"] = variable.doc


# --- reading ------------------------------------------------------------------------------------------------


def read_raw(path: Path, *, values: bool = True) -> RawRun:
    """What a file holds, checked and brought to today's schema.

    Parameters
    ----------
    path : Path
        The file.
    values : bool
        False: read and check the header, and of the variables only names, dims, shapes and dtypes.

    Raises
    ------
    StoreError
        If the file cannot be read, is damaged, is no run, holds what a run may not hold, or has a newer
        schema.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError("it is not a regular file")
        if values:
            _check_seal(path)
        raw = migrate(_parse(path, values))
        if not is_run_id(raw.header["id"]):
            raise ValueError(f"it says its run id is {raw.header['id']!r}, which is none")
        return raw
    except Exception as error:  # h5py answers damage with nearly every type there is
        cause = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        if isinstance(error, OSError) and error.strerror:
            cause = error.strerror
        raise StoreError(f"cannot read {path}: {' '.join(cause.split()) or type(error).__name__}") from error


def _check_seal(path: Path) -> None:
    """Compare the file's bytes with the SHA-256 in its last line; a file without that line passes."""
    with open(path, "rb") as file:
        body = os.fstat(file.fileno()).st_size - _SEAL_LENGTH
        if body < 0:
            return
        file.seek(body)
        seal = file.read(_SEAL_LENGTH)
        if not seal.startswith(_SEAL_PREFIX):
            return
        file.seek(0)
        digest = hashlib.sha256()
        while body > 0 and (part := file.read(min(body, 2**20))):
            digest.update(part)
            body -= len(part)
    if seal != _SEAL_PREFIX + digest.hexdigest().encode() + b"\n":
        raise ValueError("the file is damaged: its bytes do not have the checksum in its last line")


def _parse(path: Path, values: bool) -> RawRun:
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        if "schema" not in file.attrs:
            raise ValueError("it is an HDF5 file, but not a run of ntkengine: it has no attribute 'schema'")
        schema = int(file.attrs["schema"])
        if schema > SCHEMA:
            return RawRun({"schema": schema}, {})  # another layout; migrate() says what to do
        header: dict[str, Any] = {"schema": schema}
        for name in (*_TEXTS, *_JSONS, "header_checksum", "checksum"):
            header[name] = _text_attribute(file, name)
        variables: dict[str, RawVariable] = {}
        for name in file:
            if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{name!r} is a soft or external link; a run holds plain datasets only")
            dataset = file[name]
            _check_dataset(name, dataset)
            if not _text_attribute(dataset, "NAME", "").startswith(_PURE_DIMENSION):
                variables[name] = _get_variable(dataset, values)
    header_digest, total = header.pop("header_checksum"), header.pop("checksum")
    if header_checksum(header, variables) != header_digest:
        raise ValueError("the file is damaged: its header does not have the checksum stored with it")
    if values and checksum(header_digest, variables) != total:
        raise ValueError("the file is damaged: its values do not have the checksum stored with them")
    for name in _JSONS:
        header[name] = json.loads(header[name], parse_constant=_refuse_constant)
        if not isinstance(header[name], dict):
            raise ValueError(f"attribute {name!r} holds a JSON {type(header[name]).__name__}, not an object")
    return RawRun(header, variables)


def _refuse_constant(token: str) -> None:
    raise ValueError(f"{token} is not JSON")


def _text_attribute(owner: Any, name: str, default: str | None = None) -> str:
    value = owner.attrs.get(name, default)
    if value is None:
        raise ValueError(f"attribute {name!r} is missing")
    if isinstance(value, bytes):  # fixed-length ASCII, as the HDF5 library itself writes NAME
        value = value.decode()
    if not isinstance(value, str):
        raise ValueError(f"attribute {name!r} is not text")
    if len(value) > MAX_JSON:
        raise ValueError(f"attribute {name!r} is longer than {MAX_JSON // 2**20} MB")
    return value


def _check_dataset(name: str, dataset: Any) -> None:
    """Refuse whatever a run never holds and whose reading could do more than read this file."""
    import h5py

    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{name!r} is a {type(dataset).__name__.lower()}; a run holds plain datasets only")
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{name!r} keeps its values in other files, which is refused")
    creation = dataset.id.get_create_plist()
    known = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
    if {creation.get_filter(i)[0] for i in range(creation.get_nfilters())} - known:
        raise ValueError(
            f"{name!r} is stored with a filter other than gzip, shuffle and fletcher32, which is refused"
        )
    text = h5py.check_string_dtype(dataset.dtype)
    if dataset.shape is None or not (
        dataset.dtype.kind in "fiu" or (text is not None and text.length is None)
    ):
        raise ValueError(f"{name!r} holds neither numbers nor text (dtype {dataset.dtype}), which is refused")


def _dimension_labels(dataset: Any) -> tuple[str, ...]:
    """The label of each axis. ``dataset.dims[i].label`` would crash the interpreter on some damaged files."""
    if dataset.ndim == 0:
        return ()
    labels = tuple(np.asarray(dataset.attrs.get("DIMENSION_LABELS"), dtype=object).reshape(-1).tolist())
    if len(labels) != dataset.ndim or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"{dataset.name!r} does not have a name for each of its {dataset.ndim} axes")
    return labels


def _get_variable(dataset: Any, values: bool) -> RawVariable:
    import h5py

    dims = _dimension_labels(dataset)
    is_bool = _text_attribute(dataset, "dtype", "") == "bool"
    is_text = h5py.check_string_dtype(dataset.dtype) is not None
    if not values:
        dtype = np.dtype(bool if is_bool else "U1" if is_text else dataset.dtype)
        array: NDArray[Any] = np.broadcast_to(np.zeros((), dtype), dataset.shape)
    elif dataset.nbytes > _MAX_DEFLATE_RATIO * dataset.id.get_storage_size() + 4096:
        raise ValueError(f"{dataset.name!r} claims {dataset.nbytes} bytes, of which the file holds too few")
    elif is_text:
        elements = np.asarray(dataset.asstr()[()], dtype=object)
        width = max(map(len, elements.reshape(-1)), default=1)
        array = elements.astype(f"U{max(width, 1)}")
    else:
        array = np.asarray(dataset[()]).astype(dataset.dtype.newbyteorder("="), copy=False)
        array = array.astype(bool) if is_bool else array
    return RawVariable(
        dims, array, _text_attribute(dataset, "units", ""), _text_attribute(dataset, "long_name", "")
    )
