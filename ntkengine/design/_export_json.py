"""A design as JSON, and the network read back from it: numbers, names and formulas, nothing that is evaluated."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ntkengine.activations.base import Activation, registry
from ntkengine.activations.series import SeriesFamily
from ntkengine.errors import InputError
from ntkengine.infinite.fcn import FCN, KINDS

__all__ = ["VERSION", "json_text", "read_json"]

#: Raised when a reader of the old text could misunderstand the new one.
#: A "hermite" of version 1 without a variance has the variance 1; since version 2 it is always written.
VERSION = 2

_FORMAT = "ntkengine design"
#: Field -> (type, in words).
_FIELDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "format": (str, f"the text {_FORMAT!r}"),
    "version": (int, f"a number from 1 to {VERSION}"),
    "ntkengine": (str, "the version that wrote the file, as text"),
    "kind": (str, '"ntk" or "nngp"'),
    "target": (str, "the target kernel's name"),
    "max_error": ((int, float, type(None)), "a number of at least 0, or null"),
    "rms_error": ((int, float, type(None)), "a number of at least 0, or null"),
    "activation": (dict, 'an object with "name" or "formula", and "parameters"'),
    "network": (dict, "an object with the fields of FCN"),
}
_NETWORK: dict[str, tuple[type | tuple[type, ...], str]] = {
    "depth": (int, "an integer"),
    "w_std": ((int, float), "a number"),
    "b_std": ((int, float), "a number"),
    "readout_w_std": ((int, float), "a number"),
    "readout_b_std": ((int, float), "a number"),
    "radial_lift": (bool, "true or false"),
    "parameterization": (str, "a text"),
    "width": ((int, type(None)), "an integer or null"),
}


def json_text(fcn: FCN, *, kind: str, target: str, max_error: float, rms_error: float, version: str) -> str:
    """The JSON text of a design; floats are written so that they read back to the same bits.

    Raises
    ------
    InputError
        If reading the text back would not give the same network: an activation that is not registered, or whose parameters
        are out of bounds.
    """
    phi = fcn.activation
    described: dict[str, Any] = {"formula" if phi.family.from_text else "name": phi.family.root.name}
    described["parameters"] = {name: _plain(value) for name, value in phi.parameters.items()}
    if isinstance(phi.family, SeriesFamily) and phi.family.variance is not None:
        described["parameters"]["variance"] = phi.family.variance
    network = {name: getattr(fcn, name) for name in _NETWORK} | {"radial_lift": bool(fcn.radial_lift)}
    document = {
        "format": _FORMAT,
        "version": VERSION,
        "ntkengine": version,
        "kind": kind,
        "target": target,
        "max_error": _finite_or_none(max_error),
        "rms_error": _finite_or_none(rms_error),
        "activation": described,
        "network": network,
    }
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        same = _same(read_json(text), fcn)
    except InputError as error:
        raise InputError(f"activation {phi.name!r} could not be read back from JSON: {error}") from error
    if not same:
        raise InputError(
            f"activation {phi.name!r} could not be read back from JSON: the registered family of that name is another one"
        )
    return text


def _same(one: FCN, other: FCN) -> bool:
    def described(fcn: FCN) -> tuple[Any, ...]:
        phi = fcn.activation
        return phi.family.root, phi.parameters, [getattr(fcn, name) for name in _NETWORK]

    return described(one) == described(other)


def _plain(value: Any) -> Any:
    return [float(v) for v in value] if isinstance(value, (tuple, list)) else value


def _finite_or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def read_json(source: str | os.PathLike[str]) -> FCN:
    """The network of a design that was exported as JSON: the same activation, to the last bit, and the same network.

    Parameters
    ----------
    source : str or path
        The text, which begins with ``{``, or the path of a UTF-8 file that holds it.

    Returns
    -------
    FCN

    Raises
    ------
    InputError
        If the file cannot be read, the text is not JSON, a field is missing, unknown or of the wrong type, or a value is not
        allowed; the text names the field.
    UnknownNameError
        If no activation has the name.

    Examples
    --------
    >>> import ntkengine as nk
    >>> from ntkengine.design.export import read_json
    >>> design = nk.reverse_engineer("c**3 + c", kind="nngp")
    >>> read_json(design.export("json")) == design.fcn
    True
    """
    document = _parsed(_text(source))
    if not isinstance(document, dict):
        raise InputError(f"the JSON text holds {_short(document)}, not an exported design")
    if document.get("format") != _FORMAT:
        raise InputError(
            f'field "format" is {_short(document.get("format"))}; an exported design has {_FORMAT!r}'
        )
    found = document.get("version")
    if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= VERSION:
        raise InputError(
            f'field "version" is {_short(found)}; this version of ntkengine reads 1 to {VERSION}: export the design again, or '
            "install a newer ntkengine"
        )
    _check(document, _FIELDS, "")
    if document["kind"] not in KINDS:
        raise InputError(f'field "kind" is {_short(document["kind"])}; it must be "ntk" or "nngp"')
    for name in ("max_error", "rms_error"):
        if document[name] is not None and not 0 <= document[name] < math.inf:
            raise InputError(f'field "{name}" is {document[name]!r}; it must be {_FIELDS[name][1]}')
    _check(document["network"], _NETWORK, "network.")
    phi = _activation(document["activation"], found)
    try:
        return FCN(phi, **document["network"])
    except InputError as error:
        raise InputError(f'field "network" is not allowed: {error}') from None


def _text(source: Any) -> str:
    if isinstance(source, str) and source.lstrip("\ufeff \t\r\n").startswith("{"):
        return source.lstrip("\ufeff")
    if not isinstance(source, (str, os.PathLike)) or not os.fspath(source):
        raise InputError(f"source is {_short(source)}; it must be JSON text, or the path of a file with it")
    try:
        return Path(source).expanduser().read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"the file {os.fspath(source)!r} is not UTF-8 text") from None
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"the file {_short(os.fspath(source))} cannot be read: {reason}; give JSON text, or a path"
        ) from None


def _parsed(text: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(f"the JSON text has the field {_short(twice)} twice in one object")
        return fields

    def refused(constant: str) -> Any:
        raise InputError(f"the JSON text has the number {constant}; every number must be finite")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=refused)
    except json.JSONDecodeError as error:
        raise InputError(
            f"the text is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"the text cannot be read as JSON: {error}") from None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _check(
    found: Mapping[str, Any], fields: Mapping[str, tuple[type | tuple[type, ...], str]], where: str
) -> None:
    """InputError unless there are just these fields, each of its type (true and false are no numbers)."""
    for name in found:
        if name not in fields:
            raise InputError(f"unknown field {_short(where + name)}; known: {', '.join(fields)}")
    for name, (types, words) in fields.items():
        if name not in found:
            raise InputError(f'field "{where}{name}" is missing; it is {words}')
        value = found[name]
        if not isinstance(value, types) or (isinstance(value, bool) and types is not bool):
            raise InputError(f'field "{where}{name}" is {_short(value)}; it must be {words}')


def _activation(fields: Mapping[str, Any], version: int) -> Activation:
    named = "formula" if "formula" in fields else "name"
    _check(fields, {named: (str, "a text"), "parameters": (dict, "an object")}, "activation.")
    for name, value in fields["parameters"].items():
        entries = value if isinstance(value, list) else [value]
        if not all(isinstance(entry, (int, float)) and not isinstance(entry, bool) for entry in entries):
            raise InputError(
                f'field "activation.parameters.{name}" is {_short(value)}; it must be a number or a list of numbers'
            )
    if named == "name":
        family = registry.get(fields["name"])
        varied = isinstance(family, SeriesFamily) and family.variance is not None
        if version > 1 and varied and "variance" not in fields["parameters"]:
            raise InputError(
                'field "activation.parameters.variance" is missing; it is the variance that the coefficients are for'
            )
        return family(**fields["parameters"])
    from ntkengine.formula import parse_activation

    return parse_activation(fields["formula"], **fields["parameters"])
