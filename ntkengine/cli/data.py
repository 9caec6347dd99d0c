"""``ntkengine data``: which tasks there are, and the download of the files some of them read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

__all__ = ["data"]


@click.group()
def data() -> None:
    """List tasks, and download the files that some of them read."""


@data.command("list")
def list_tasks() -> None:
    """List the tasks, built-in and from plugins. Nothing is downloaded."""
    from rich.table import Table

    from ntkengine.cli.console import out
    from ntkengine.errors import UnknownNameError
    from ntkengine.tasks import registry
    from ntkengine.tasks.builtin import availability

    table = Table()
    table.add_column("task", no_wrap=True)
    for heading in ("rows", "features", "classes"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("available", no_wrap=True)
    table.add_column("source", overflow="fold")
    for name in registry.names():
        try:
            family = registry.get(name)
        except UnknownNameError:  # a plugin that cannot be loaded; a warning has said why
            continue
        rows, features, classes = ("?", "?", "?") if family.shape is None else map(str, family.shape)
        table.add_row(
            name, rows, features, "none" if classes == "0" else classes, availability(family), family.source
        )
    out().print(table)


@data.command("fetch")
@click.argument("name")
@click.option(
    "--to",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder to put the file in. Default: $NTKENGINE_DATA where it is set, else the user's cache folder.",
)
def fetch_file(name: str, folder: Path | None) -> None:
    """Download the data file of task NAME and check it.

    A file that is already there is only checked.
    """
    from ntkengine.errors import InputError
    from ntkengine.tasks import registry
    from ntkengine.tasks.builtin import fetch

    family = registry.get(name)
    if family.file is None:
        raise InputError(f"task {name!r} is generated and reads no file: there is nothing to fetch")
    with _progress(family.file.filename) as progress:
        path = fetch(family.file, folder, progress)
    click.echo(f"{path} (SHA-256 {family.file.sha256})")


class _Bar:
    """What pooch takes for a progress bar, drawn by rich."""

    def __init__(self, progress: Any, task: Any) -> None:
        self._progress, self._task = progress, task

    @property
    def total(self) -> float | None:
        return None

    @total.setter
    def total(self, value: float) -> None:
        self._progress.update(self._task, total=value or None)

    def update(self, amount: float) -> None:
        self._progress.update(self._task, advance=amount)

    def reset(self) -> None:
        self._progress.update(self._task, completed=0)

    def close(self) -> None:
        """Nothing is held open: the surrounding ``with`` ends the display."""


@contextlib.contextmanager
def _progress(label: str) -> Iterator[_Bar | None]:
    """A progress bar on standard error where that is a terminal, else None."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bar(progress, progress.add_task(label, total=None))
