"""Entry-point discovery and the registries of named things: activations, kernels and tasks.

Each registry has a table of built-ins, ``name -> "module:attribute"``, and adds the entry points of its group that other
distributions declare; both load through the same door. Looking a name up loads that one entry; listing names loads nothing.
A plugin that fails to load becomes one :class:`~ntkengine.errors.PluginWarning`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from ntkengine.errors import InputError, PluginWarning, UnknownNameError

__all__ = ["Registry", "enabled_distributions"]

T = TypeVar("T")

#: This distribution's name, whose entry points are the built-ins.
BUILTIN = "ntkengine"


def enabled_distributions() -> frozenset[str] | None:
    """Distributions named by ``NTKENGINE_PLUGINS`` (comma separated; empty: built-ins only); None allows all."""
    text = os.environ.get("NTKENGINE_PLUGINS")
    if text is None:
        return None
    return frozenset(_normal(part) for part in text.split(",") if part.strip())


def _normal(name: str) -> str:
    return name.strip().lower().replace("_", "-")


def _distribution(entry: EntryPoint) -> str:
    return _normal(entry.dist.name) if entry.dist is not None else "unknown distribution"


class Registry(Generic[T]):
    """Names of one kind, found through one entry-point group.

    Parameters
    ----------
    kind : str
        What a name names, in the words of an error message: ``"activation"``.
    group : str
        Entry-point group, such as ``"ntkengine.activations"``.
    builtins : callable
        Returns the table ``{name: "module:attribute"}`` of built-ins.
    check : callable
        Turns a loaded object into the registered thing, or raises ``TypeError`` saying what it should have been.
    """

    def __init__(
        self, kind: str, group: str, builtins: Callable[[], dict[str, str]], check: Callable[[str, Any], T]
    ) -> None:
        self.kind, self.group = kind, group
        self._builtins, self._check = builtins, check
        self._loaded: dict[str, T] = {}

    @cache  # noqa: B019  registries live as long as the process
    def _entries(self) -> dict[str, EntryPoint]:
        table = {
            name: EntryPoint(name=name, value=value, group=self.group)
            for name, value in self._builtins().items()
        }
        allowed = enabled_distributions()
        owners = dict.fromkeys(table, BUILTIN)
        for entry in entry_points(group=self.group):
            owner = _distribution(entry)
            if owner == BUILTIN or (allowed is not None and owner not in allowed):
                continue
            if entry.name in table:
                raise InputError(
                    f"{self.kind} {entry.name!r} is registered twice, by {owners[entry.name]!r} and by {owner!r}: "
                    "uninstall one, or set NTKENGINE_PLUGINS to the distributions that may load"
                )
            table[entry.name], owners[entry.name] = entry, owner
        return table

    def names(self) -> tuple[str, ...]:
        """All names, sorted; nothing is imported."""
        return tuple(sorted(self._entries()))

    def __contains__(self, name: str) -> bool:
        return name in self._entries()

    def get(self, name: str) -> T:
        """The thing called ``name``.

        Raises
        ------
        UnknownNameError
            If there is none, or its plugin cannot be loaded (then a PluginWarning has said why).
        """
        if name not in self._loaded:
            entry = self._entries().get(name)
            if entry is None:
                raise UnknownNameError(self.kind, name, self.names())
            try:
                self._loaded[name] = self._check(name, entry.load())
            except Exception as error:
                if entry.dist is None:  # a built-in: a fault of ours, not of a plugin
                    raise
                warnings.warn(
                    f"{self.kind} {name!r} of {_distribution(entry)!r} cannot be loaded: {type(error).__name__}: {error}",
                    PluginWarning,
                    stacklevel=2,
                )
                rest = [n for n in self.names() if n != name]
                raise UnknownNameError(self.kind, name, rest) from error
        return self._loaded[name]
