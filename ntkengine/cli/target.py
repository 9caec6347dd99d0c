"""Options that say which kernel is meant, for the commands that start from one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from ntkengine.errors import InputError

if TYPE_CHECKING:
    from ntkengine.experiments.design import Target

__all__ = ["assignments", "read_target", "refuse_without", "target_options"]

#: Options that belong to another one: a value for them without it is an error.
_BELONG = {"noise": "samples", "depth": "net", "w_std": "net", "b_std": "net"}

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
    return Target(parameters=values, kind=kind, **picked)


def refuse_without(context: click.Context, owners: dict[str, str]) -> None:
    """UsageError for the first option that was given although its owner, ``owners[option]``, was not."""
    for name, owner in owners.items():
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError(f"--{name.replace('_', '-')} belongs to --{owner}: give that too")


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
