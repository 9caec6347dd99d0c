"""From text to :class:`~ntkengine.formula._program.Program`: Python's syntax tree, walked against a list of allowed nodes."""

from __future__ import annotations

import ast
import math
import re
from difflib import get_close_matches
from typing import Any

from ntkengine.errors import InputError
from ntkengine.formula._program import FoldError, Program
from ntkengine.formula._symbols import FUNCTIONS, number

__all__ = ["MAX_LENGTH", "MAX_NESTING", "error_at", "normal_text", "parse", "shortened"]

MAX_LENGTH = 2000
MAX_NESTING = 64

CONSTANTS = {"pi": math.pi, "e": math.e}
FUNCTION_NAMES = tuple(sorted([*FUNCTIONS, "relu", "step", "heaviside", "min", "max"]))
#: ``nk.activation(name, **parameters)`` has this argument already.
_TAKEN = ("name",)

_TOKEN = re.compile(r" +|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[A-Za-z][A-Za-z0-9]*|\*\*|[-+*/(),]")
#: What an operand must follow.
_SIGNS = ("+", "-", "*", "/", "**", "(", ",")
_HINTS = {
    "^": "; powers are written **",
    "_": "; names have letters and digits only",
    "−": "; the minus sign is -",
    "·": "; products are written *",
    "×": "; products are written *",
    "²": "; powers are written **",
    "π": "; write pi",
    "√": "; write sqrt(...)",
    "=": "; a formula has no equals sign, and parameters are given beside it",
}
_WIDTH = 72


def normal_text(text: str, variable: str = "z") -> str:
    """The text with every run of white space one blank.

    Raises
    ------
    InputError
        If it is empty or longer than 2000 characters.
    """
    if len(text) > MAX_LENGTH:
        raise InputError(
            f"the formula has {len(text)} characters; at most {MAX_LENGTH} are allowed: "
            "name a function in a plugin for anything longer"
        )
    short = " ".join(text.split())
    if not short:
        example = "max(z, 0) + 0.1*cos(4*z)" if variable == "z" else f"exp({variable}) + 0.5*{variable}**2"
        raise InputError(f"the formula is empty; write one such as {example!r}")
    return short


def shortened(text: str) -> str:
    """A text of at most 60 characters that names a formula in a message."""
    return text if len(text) <= 60 else text[:57] + "..."


def error_at(text: str, position: int, problem: str) -> InputError:
    """An InputError whose text shows the formula with a caret under ``position`` (from 0)."""
    position = min(max(position, 0), len(text))
    start = max(0, min(position - _WIDTH // 2, len(text) - _WIDTH))
    line = text[start : start + _WIDTH]
    before, after = "..." if start else "", "..." if start + _WIDTH < len(text) else ""
    line = "".join(ch if ch.isprintable() else "\N{REPLACEMENT CHARACTER}" for ch in line)
    caret = " " * (len(before) + position - start) + "^"
    return InputError(f"{problem}\n  {before}{line}{after}\n  {caret}")


def parse(text: str, variable: str, complement: bool = False) -> Program:
    """The program of a formula in one variable; ``text`` as :func:`normal_text` gives it.

    Raises
    ------
    InputError
        If anything in the text is not of the language; its text points at the character.
    """
    _scan(text)
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError as error:
        position = _lacking(text, (error.offset or 1) - 1)
        problem = (
            f"ends after character {position}, where a number, a name or a bracket must follow"
            if position == len(text)
            else f"cannot be read from character {position + 1} on"
        )
        raise error_at(text, position, f"the formula {problem}") from None
    except (ValueError, MemoryError, RecursionError):
        raise error_at(text, 0, "the formula is nested too deeply") from None
    walker = _Walker(text, Program(variable, complement))
    try:
        walker.program.result = walker.value(tree.body, 0)
    except RecursionError:
        raise error_at(text, 0, "the formula is nested too deeply") from None
    walker.program.prune()
    return walker.program


def _scan(text: str) -> None:
    """Characters, brackets and missing signs, before Python's parser sees the text."""
    position, open_at, operand = 0, [], False
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            character = text[position]
            shown = repr(character) if character.isprintable() else f"U+{ord(character):04X}"
            hint = _HINTS.get(character, "")
            raise error_at(
                text,
                position,
                f"the formula has {shown} at character {position + 1}, which is not allowed in a formula{hint}",
            )
        token = match.group()
        starts_operand = token[0].isalnum() or token[0] == "."
        if starts_operand and operand:
            raise error_at(
                text, position, f"the formula lacks a sign before character {position + 1}, such as *"
            )
        if token == "(":
            open_at.append(position)
            if len(open_at) > MAX_NESTING:
                raise error_at(
                    text, position, f"the formula has more than {MAX_NESTING} brackets inside each other"
                )
        elif token == ")":
            if not open_at:
                raise error_at(
                    text,
                    position,
                    f"the formula has a ')' at character {position + 1} that closes nothing",
                )
            open_at.pop()
        if token[0] != " ":
            operand = starts_operand or token == ")"
        position = match.end()
    if open_at:
        raise error_at(
            text, open_at[-1], f"the formula has a '(' at character {open_at[-1] + 1} that is never closed"
        )


def _lacking(text: str, otherwise: int) -> int:
    """Where the first operand is missing, ``len(text)`` at its end; ``otherwise`` if none is."""
    before = "("
    for match in re.finditer(_TOKEN, text):
        token = match.group()
        if token[0] == " ":
            continue
        if token in ("*", "/", "**", ",", ")") and before in _SIGNS and (before, token) != ("(", ")"):
            return match.start()
        before = token
    return len(text) if before in _SIGNS else otherwise


class _Walker:
    def __init__(self, text: str, program: Program) -> None:
        self.text, self.program = text, program

    def fail(self, node: Any, problem: str) -> InputError:
        """The error for a node; ``problem`` completes "the formula ...", with {at} where the character is named."""
        position = node.col_offset  # bytes are characters: the scan lets ASCII through only
        return error_at(
            self.text, position, "the formula " + problem.replace("{at}", f"at character {position + 1}")
        )

    def value(self, node: Any, depth: int) -> Any:
        """The symbol or number of a node. A chain of signs of any length is taken in a loop, not by recursion."""
        if depth > 2 * MAX_NESTING:
            raise self.fail(node, "is nested too deeply {at}")
        chain = []
        while isinstance(node, ast.BinOp):
            chain.append(node)
            node = node.left
        value = self.operand(node, depth)
        for outer in reversed(chain):
            right = self.value(outer.right, depth + 1)
            operation = {
                ast.Add: self.program.add,
                ast.Sub: self.program.subtract,
                ast.Mult: self.program.multiply,
                ast.Div: self.program.divide,
                ast.Pow: self.program.power,
            }.get(type(outer.op))
            if operation is None:
                raise self.fail(outer, "has an operation {at} that is not one of + - * / **")
            value = self.computed(outer, operation, value, right)
        return value

    def computed(self, node: Any, operation: Any, *operands: Any) -> Any:
        try:
            return operation(*operands)
        except FoldError as error:
            raise self.fail(
                node, f"has a part from character {node.col_offset + 1} on that {error}"
            ) from None

    def operand(self, node: Any, depth: int) -> Any:
        negative = False
        first = node
        while isinstance(node, ast.UnaryOp):
            if not isinstance(node.op, (ast.UAdd, ast.USub)):
                raise self.fail(node, "has an operation {at} that is not allowed; allowed: + - * / **")
            negative ^= isinstance(node.op, ast.USub)
            node = node.operand
        if node is not first:
            value = self.value(node, depth + 1)
            return self.computed(first, self.program.negate, value) if negative else value
        if isinstance(node, ast.Constant):
            return self.literal(node)
        if isinstance(node, ast.Name):
            return self.name(node)
        if isinstance(node, ast.Call):
            return self.call(node, depth)
        raise self.fail(
            node, "has something {at} that is not a number, a name, a sign or a function of the language"
        )

    def literal(self, node: Any) -> Any:
        if type(node.value) not in (int, float):
            raise self.fail(node, "has something {at} that is not a real number")
        try:
            value = float(node.value)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise self.fail(node, "has a number {at} that is too large for a 64-bit number")
        return number(value)

    def name(self, node: Any) -> Any:
        name = node.id
        if name == self.program.variable.name:
            return self.program.variable
        if name in CONSTANTS:
            return number(CONSTANTS[name])
        if name in FUNCTION_NAMES:
            raise self.fail(node, f"has the function {name!r} {{at}} without its argument; write {name}(...)")
        if name in _TAKEN or (name in ("z", "c")):
            raise self.fail(
                node,
                f"has the name {name!r} {{at}}, which a parameter cannot have; "
                f"the variable is {self.program.variable.name!r}",
            )
        return self.program.parameter(name)

    def call(self, node: Any, depth: int) -> Any:
        if not isinstance(node.func, ast.Name):
            raise self.fail(node, "has brackets {at} after something that is not a function")
        name = node.func.id
        if name not in FUNCTION_NAMES:
            near = get_close_matches(name.lower(), FUNCTION_NAMES, n=1, cutoff=0.5)
            hint = f". Did you mean {near[0]!r}?" if near else ""
            raise self.fail(
                node,
                f"has an unknown function {name!r} {{at}}{hint}; known functions: {', '.join(FUNCTION_NAMES)}",
            )
        if node.keywords:
            raise self.fail(
                node, f"has a named argument in the function {name!r} {{at}}; arguments have no names"
            )
        count = len(node.args)
        if name in ("min", "max"):
            if count < 2:
                raise self.fail(node, f"has {name!r} {{at}} with {count} arguments; it takes 2 or more")
        elif count != 1:
            raise self.fail(node, f"has {name!r} {{at}} with {count} arguments; it takes 1")
        values = [self.value(argument, depth + 1) for argument in node.args]
        if name not in ("min", "max"):
            return self.computed(node, self.program.function, name, values[0])
        value = values[0]
        for other in values[1:]:
            value = self.computed(node, self.program.extreme, name, value, other)
        return value
