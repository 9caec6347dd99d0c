"""The command line: ``ntkengine``. One thin file per command group; domain errors become one line and exit code 2."""

from __future__ import annotations

import importlib
import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import click

from ntkengine import __version__
from ntkengine.errors import AccuracyWarning, NtkengineError, PluginWarning

__all__ = ["cli", "main"]

#: Command -> (where it is defined, the line ``--help`` shows for it). Nothing is imported to show the list.
_COMMANDS = {
    "data": ("ntkengine.cli.data:data", "List the tasks; fetch data files that are not part of the package."),
    "design": (
        "ntkengine.cli.design:design",
        "Find the activation that gives one hidden layer a given kernel.",
    ),
    "kernel": (
        "ntkengine.cli.kernel:kernel",
        "A kernel in words; NNGP and NTK of a network: a table, a figure, Gram matrices.",
    ),
    "reproduce": (
        "ntkengine.cli.reproduce:reproduce",
        "Results of the paper again, beside what was published.",
    ),
    "shallowify": (
        "ntkengine.cli.shallowify:shallowify",
        "Give one hidden layer a deep network's kernel, and train both.",
    ),
}


class _LazyGroup(click.Group):
    """A group that imports a command when it is run or its own help is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        found: click.Command = getattr(importlib.import_module(module), attribute)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ntkengine")
def cli() -> None:
    """Design a neural network by designing its kernel.

    Start from a kernel (a deep network's neural tangent kernel), get the activation function that gives a one-hidden-layer
    network that kernel, check it at finite width, and train it.

    \b
    First steps:
      ntkengine shallowify              the main job, on data that needs no download
      ntkengine shallowify --help       its settings
      ntkengine design "sinh(2*c)"      the activation of a kernel that is written down
      ntkengine kernel show --depth 4   a deep network's kernels, as a table
      ntkengine data list               the tasks there are
    """


def _show_warnings() -> None:
    """Our own warnings in one line each, a kernel's accuracy once for all; nobody else's."""
    seen: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        key = category.__name__ if issubclass(category, AccuracyWarning) else str(message)
        if issubclass(category, (AccuracyWarning, PluginWarning)) and key not in seen:
            seen.add(key)
            click.echo(f"Warning: {_one_line(str(message))}", err=True)

    warnings.showwarning = show


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 bad input, 130 interrupted."""
    _show_warnings()
    for stream in (
        sys.stdout,
        sys.stderr,
    ):  # a terminal without our letters gets question marks, not a traceback
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        code = cli.main(args=args, prog_name="ntkengine", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(0)
    except click.ClickException as error:
        click.echo(f"Error: {_one_line(error.format_message())}", err=True)
        sys.exit(2)
    except NtkengineError as error:
        click.echo(f"Error: {_one_line(str(error))}", err=True)
        sys.exit(2)
    except MemoryError as error:
        click.echo(
            f"Error: out of memory ({_one_line(str(error)) or 'no size given'}); lower width, members or batch size",
            err=True,
        )
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted: nothing was finished, so nothing was written.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        _abandon_output()
        sys.exit(1)
    except OSError as error:
        _abandon_output()
        click.echo(f"Error: {_one_line(str(error))}", err=True)
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)


def _abandon_output() -> None:
    """Let nothing that is still buffered fail once more when Python exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(text: str) -> str:
    """The text in one line; a caret under a character becomes an arrow before it."""
    *above, line, caret = ["", "", *text.split("\n")]
    if caret.strip() == "^":
        at = caret.index("^")
        text = f"{' '.join(above)}: {line[:at]} --> {line[at:]}"
    return " ".join(text.split())
