"""What a file says before it becomes a run, and the steps from older layouts to today's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from ntkengine.store.run import SCHEMA

__all__ = ["MIGRATIONS", "RawRun", "RawVariable", "migrate"]


@dataclass
class RawVariable:
    """A variable as found in a file. Where headers only are read, ``values`` are zeros without memory."""

    dims: tuple[str, ...]
    values: NDArray[Any]
    units: str
    doc: str


@dataclass
class RawRun:
    """A run as found in a file: ``header`` has the root attributes by name, JSON already parsed."""

    header: dict[str, Any]
    variables: dict[str, RawVariable]


#: For each older schema v, the function that turns its raw run into one of schema v + 1. It may change the
#: header from the header, and variables from both; ``header["schema"]`` is set for it. No header may depend
#: on values: see RawVariable.
MIGRATIONS: dict[int, Callable[[RawRun], RawRun]] = {}


def migrate(raw: RawRun) -> RawRun:
    """Apply every step between the file's schema and today's, in order.

    Raises
    ------
    ValueError
        If the schema is newer than today's, or one without a known step.
    """
    schema = raw.header["schema"]
    if schema > SCHEMA:
        raise ValueError(
            f"it was written with schema {schema}, and this version of ntkengine reads up to {SCHEMA}; "
            "upgrade ntkengine"
        )
    for version in range(schema, SCHEMA):
        if version not in MIGRATIONS:
            raise ValueError(f"schema {version} is unknown; this version of ntkengine writes {SCHEMA}")
        raw = MIGRATIONS[version](raw)
        raw.header["schema"] = version + 1
    return raw
