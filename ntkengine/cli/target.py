"""Options that say which kernel is meant, for the commands that start from one."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from ntkengine.errors import InputError

if TYPE_CHECKING:
    from ntkengine.experiments.design import Target
    from ntkengine.kernels import DotProductKernel

__all__ = ["assignments", "read_target", "refuse_without", "said_as_options", "target_options"]

#: Options that belong to another one: a value for them without it is an error.
_BELONG = {"noise": "samples", "depth": "net", "w_std": "net", "b_std": "net"}
#: Arguments of the functions that compute the target, and their options.
_ARGUMENTS = {"w_std": "--w-std", "b_std": "--b-std", "sigma": "--noise"}
#: What is said of the target network itself: its kernel's name, its own numbers.
_OF_THE_TARGET = (
    r"\((?:\w+=[^(), ]+(?:, )?)+\)|network's own w_std=\S+ b_std=\S+|b_std/w_std of the target network|"
    "a network with larger b_std"
)
#: Advice for callers of functions, and what to do on the command line.
_ADVICE = (
    (r"ntkengine\.kernels\.nearest\.nearest\(k\) is", "the option --project of ntkengine design takes"),
    (r", or None if it is not known", "; leave it out if it is not known"),
    (
        r", as k\.normalized\(\) does, and",
        ", that is, write (...)/size in the formula or divide the samples, and",
    ),
)

_OPTIONS = (
    click.argument("formula", required=False),
    click.option(
        "--set",
        "parameters",
        multiple=True,
        metavar="NAME=VALUE",
        help="Parameter of the formula, of the family or of the activation of --net; repeatable.",
    ),
    click.option(
        "--samples",
        type=click.Path(),
        metavar="FILE",
        help="The target is in a CSV file of two columns, c and K, or angle and K (radians, with a header).",
    ),
    click.option(
        "--noise", type=float, metavar="STD", help="Standard deviation of the samples' noise, if it is known."
    ),
    click.option(
        "--net",
        metavar="NAME",
        help="The target is the kernel of a deep network with this activation, a name or a formula in z.",
    ),
    click.option("--depth", type=click.IntRange(min=1), default=4, help="Hidden layers of --net."),
    click.option(
        "--w-std", type=float, default=2**0.5, show_default="√2", help="Weight std σ_w of --net (> 0)."
    ),
    click.option("--b-std", type=float, default=0.1, help="Bias std σ_b of --net (0: no biases)."),
)


def target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument FORMULA and the options --set, --samples, --noise, --net, --depth, --w-std and --b-std."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read_target(context: click.Context, settings: dict[str, Any], kind: str) -> Target:
    """The target that the options say, taken out of ``settings``; ``kind`` is that of a network's kernel.

    Raises
    ------
    click.UsageError
        If they name no target, or more than one, or an option belongs to another that is not given.
    InputError
        If --set is not NAME=VALUE.
    """
    from ntkengine.experiments.design import Target

    names = ("formula", "samples", "net")
    said = ["a formula" if name == "formula" else f"--{name}" for name in names if settings[name] is not None]
    if len(said) != 1:
        begin = f"{' and '.join(said)} both say" if said else "say"
        raise click.UsageError(
            f"{begin} what the kernel is: give one of a formula in c or a family's name ('sinh(2*c)', gaussian), "
            "--samples FILE and --net NAME"
        )
    refuse_without(context, {name: owner for name, owner in _BELONG.items() if settings[owner] is None})
    if settings["samples"] is not None and settings["parameters"]:
        raise click.UsageError("--set belongs to a formula, a family or --net; samples have no parameters")
    values = assignments("--set", settings.pop("parameters"))
    picked = {name: settings.pop(name) for name in (*names, "noise", "depth", "w_std", "b_std")}

    class OptionTarget(Target):
        """A target whose errors name options."""

        def kernel(self) -> DotProductKernel:
            known = ("sigma",) if self.samples is not None else ("w_std", "b_std")
            with said_as_options({name: _ARGUMENTS[name] for name in known}):
                return super().kernel()

    return OptionTarget(parameters=values, kind=kind, **picked)


def refuse_without(context: click.Context, owners: dict[str, str]) -> None:
    """UsageError for the first option that was given although its owner, ``owners[option]``, was not."""
    for name, owner in owners.items():
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            option = name.replace("_", "-")
            own = any(param.name == f"input_{name}" for param in context.command.params)
            also = f", or --input-{option} for the new network" if own else ""
            raise click.UsageError(f"--{option} belongs to --{owner}: give that too{also}")


@contextlib.contextmanager
def said_as_options(arguments: Mapping[str, str]) -> Iterator[None]:
    """Errors that name an argument of a function, a key of ``arguments``, name its option instead; advice likewise."""
    try:
        yield
    except InputError as error:
        names = "|".join(arguments)

        def said(match: re.Match[str]) -> str:
            if match[1] is None:
                return match[0] if "=" in match[0] else re.sub(r"\b([wb])_std", r"--\1-std", match[0])
            return arguments[match[1]] + (" " if match[2] else "")

        pattern = rf"{_OF_THE_TARGET}|(?<![\w-])({names})\b(?!\.\w)( ?= ?(?=[\d.]))?"
        text = re.sub(pattern, said, str(error))
        for wrong, right in _ADVICE:
            text = re.sub(wrong, right, text)
        error.args = (text, *error.args[1:])
        raise


def assignments(option: str, texts: Sequence[str]) -> dict[str, int | float | list[float]]:
    """Names and values of ``name=number`` or ``name=number,number,...``.

    Raises
    ------
    InputError
        If a text does not look like that, or a name is given twice.
    """
    values: dict[str, int | float | list[float]] = {}
    for text in texts:
        name, value = _assignment(option, text)
        if name in values:
            raise InputError(f"{option} {name} is given twice, {values[name]!r} and {value!r}; give it once")
        values[name] = value
    return values


def _assignment(option: str, text: str) -> tuple[str, int | float | list[float]]:
    name, sign, value = text.partition("=")
    name, parts = name.strip(), value.split(",")
    if len(parts) > 1 and not parts[-1].strip():
        parts.pop()
    try:
        if not sign or not name.isidentifier() or name == "name" or "_" in value:
            raise ValueError(text)
        if "," in value:
            return name, [float(part) for part in parts]
        number = float(value)
        return name, int(number) if number.is_integer() and abs(number) < 2**53 else number
    except ValueError:
        raise InputError(
            f"{option} is {text!r}; it must look like a=2, or coefficients=0,1,0.5 for an array"
        ) from None
