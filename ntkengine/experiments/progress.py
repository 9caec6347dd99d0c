"""How an experiment tells what it is doing: stages, opened and advanced. Nothing here prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

__all__ = ["Advance", "Progress", "Silent"]

#: ``advance(done, total)``.
Advance = Callable[[int, int], None]


class Progress(Protocol):
    """What an experiment needs of whoever watches it."""

    def stage(self, title: str) -> AbstractContextManager[Advance]:
        """Open a stage; the value of the ``with`` block is called as work advances."""
        ...


class Silent:
    """Watches nothing."""

    @contextmanager
    def stage(self, title: str) -> Iterator[Advance]:
        """See :class:`Progress`."""
        yield lambda done, total: None
