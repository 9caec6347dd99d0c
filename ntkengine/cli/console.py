"""What commands share: the consoles, and progress bars that keep quiet when nobody watches."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ntkengine.experiments.progress import Advance

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Bars", "out"]


def out() -> Console:
    """The console for results; as wide as a table needs where the output is not a terminal."""
    from rich.console import Console

    plain: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
    console = Console(**plain)
    return console if console.is_terminal else Console(**plain, width=110)


class Bars:
    """Progress bars on stderr for stages that last; silent where stderr is not a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)

    @contextmanager
    def stage(self, title: str) -> Iterator[Advance]:
        """Show a bar while the stage lasts, then one line with its time."""
        if not self._console.is_terminal or self._console.is_dumb_terminal:
            yield lambda done, total: None
            return
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

        started = time.perf_counter()
        text = TextColumn("{task.description}", markup=False)
        columns = (SpinnerColumn(), text, BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._console, transient=True) as bars:
            task = bars.add_task(title, total=None)
            yield lambda done, total: bars.update(task, completed=done, total=total)
        self._console.print(f"{title}: {time.perf_counter() - started:.1f} s", style="dim")
