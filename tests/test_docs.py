"""Every example in a docstring and every Python block of the README runs and shows what it says."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import click
import pytest

import ntkengine

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    m.name for m in pkgutil.walk_packages(ntkengine.__path__, "ntkengine.") if not m.name.endswith("__main__")
)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.parametrize("name", ["ntkengine", *MODULES])
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} says nothing about itself"
    assert doctest.testmod(module, optionflags=FLAGS).failed == 0


def test_public_names_exist_and_have_an_example():
    for name in ntkengine._HOME:
        found = getattr(ntkengine, name)
        assert ">>>" in (found.__doc__ or ""), name
    assert set(ntkengine._HOME) <= set(dir(ntkengine))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ntkengine.nothing


def test_readme_blocks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert blocks
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "README", "README.md", 0)
    assert test.examples
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    runner.run(test)
    assert runner.failures == 0


def test_readme_links_lead_somewhere_and_nothing_is_left_to_fill_in():
    text = (ROOT / "README.md").read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (ROOT / target).is_file(), target
    assert not re.search(r"\b[A-Z]+_(TRAIN|TEST)\b", text)


def test_readme_commands_exist():
    """Every `ntkengine ...` and `make ...` line of the README names something that is there."""
    text = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\S+)", text, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    from ntkengine.cli import cli

    context = cli.make_context("ntkengine", ["shallowify"], resilient_parsing=True)
    for line in re.findall(r"^ntkengine (.+)$", text, flags=re.MULTILINE):
        words = line.split()
        command = cli.get_command(context, words[0])
        if isinstance(command, click.Group):
            command = command.get_command(context, words[1])
        assert command is not None, line
        known = {option for p in command.params for option in p.opts}
        for flag in re.findall(r" (--?[a-z-]+)", line.partition("#")[0]):
            assert flag in known, (line, flag)


def test_import_is_light():
    """Importing the package, or asking for help, loads neither the compiler nor what draws."""
    import subprocess
    import sys

    code = "import sys, ntkengine, ntkengine.cli; print([m for m in ('numba','scipy','h5py','matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
