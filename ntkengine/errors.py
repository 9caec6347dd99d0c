"""Exceptions and warnings: few, and each says what was wrong, what is allowed and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "AccuracyWarning",
    "DataError",
    "DivergenceError",
    "InputError",
    "NoSeriesError",
    "NtkengineError",
    "PluginWarning",
    "StoreError",
    "UnknownNameError",
]


class NtkengineError(Exception):
    """Base of every error raised on purpose; the command line prints its text and exits with code 2."""


class InputError(NtkengineError, ValueError):
    """An argument has a value that is not allowed. The text names the argument, the value and the remedy."""


class NoSeriesError(InputError):
    """A kernel has no power series in the open unit disk, or none that could be computed; the text says which and why.

    Parameters
    ----------
    text : str
    negative : (int, float), optional
        Degree and value of the first coefficient that is certain to be negative: the kernel is not positive definite, whatever
        became of the rest of the series.

    Attributes
    ----------
    negative : (int, float) or None

    Examples
    --------
    >>> import ntkengine as nk
    >>> try:
    ...     nk.kernel("1/(c**2 + 0.25)").taylor(5)  # poles at c = ±i/2; 4 − 16 c² + ... near 0
    ... except nk.errors.NoSeriesError as error:
    ...     error.negative
    (2, -16.0)
    """

    def __init__(self, text: str, negative: tuple[int, float] | None = None) -> None:
        super().__init__(text)
        self.negative = negative

    def __reduce__(self) -> tuple[type[NoSeriesError], tuple[str, tuple[int, float] | None]]:
        return NoSeriesError, (str(self), self.negative)


class UnknownNameError(InputError):
    """A name is not in a registry.

    Parameters
    ----------
    kind : str
        What the name should have named, such as ``"activation"``.
    name : str
        The name given.
    known : iterable of str
        The names that exist; the nearest one is suggested.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        wanted = name.lower()
        near = get_close_matches(wanted, names, n=1, cutoff=0.5) or [
            n for n in names if wanted and wanted in n
        ]
        hint = f" Did you mean {near[0]!r}?" if near else ""
        listing = ", ".join(names) if names else "none is installed"
        super().__init__(f"unknown {kind} {name!r}.{hint} Known: {listing}.")
        self.kind, self.name, self.known = kind, name, tuple(names)

    def __reduce__(self) -> tuple[type[UnknownNameError], tuple[str, str, tuple[str, ...]]]:
        return UnknownNameError, (self.kind, self.name, self.known)


class DataError(NtkengineError, ValueError):
    """A data file cannot be used; the text says where (file, row, column) and what was found."""


class DivergenceError(NtkengineError, ArithmeticError):
    """Training left the finite numbers; the text says at which step and which learning rates are stable."""


class StoreError(NtkengineError, OSError):
    """A run cannot be written or read; nothing half-written is left behind."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class AccuracyWarning(UserWarning):
    """A result is good only to the accuracy named in the text."""


class PluginWarning(UserWarning):
    """An installed plugin could not be used; the text names the distribution and the cause."""
