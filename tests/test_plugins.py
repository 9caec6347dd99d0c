"""Discovery through real metadata: small distributions written into a folder on the path."""

import subprocess
import sys
import textwrap

import pytest

from ntkengine.activations.base import _builtins, _check
from ntkengine.errors import InputError, PluginWarning, UnknownNameError
from ntkengine.plugins import Registry

GOOD = """
    from ntkengine.activations import ActivationFamily, Parameter

    def pair(z, p):
        T = type(z)
        return p[0] * z * z * z, T(3) * p[0] * z * z

    cubic = ActivationFamily("cubic", pair, "a z³", [Parameter("a", 2.0)])
    number = 3
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install(distribution, entry points, module text): puts a distribution on the path of this process."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("NTKENGINE_PLUGINS", raising=False)

    def write(distribution, entries, text, group="ntkengine.activations"):
        module = distribution.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(text))
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = [f"{name} = {module}:{attribute}" for name, attribute in entries.items()]
        (info / "entry_points.txt").write_text(f"[{group}]\n" + "\n".join(lines) + "\n")
        return tmp_path

    return write


def registry():
    return Registry("activation", "ntkengine.activations", _builtins, _check)


def test_a_plugin_is_found_and_works_like_a_builtin(install):
    install("cubic-plugin", {"cubic": "cubic"}, GOOD)
    found = registry()
    assert "cubic" in found
    assert {"cubic", "relu"} <= set(found.names())
    phi = found.get("cubic")(a=0.5)
    assert phi(2.0) == 4.0
    assert phi.derivative(2.0) == 6.0


def test_names_import_nothing(install):
    install("loud-plugin", {"loud": "loud"}, "raise RuntimeError('imported')")
    assert "loud" in registry().names()


@pytest.mark.parametrize(
    ("text", "attribute", "cause"),
    [
        ("raise RuntimeError('no such thing')", "x", "RuntimeError: no such thing"),
        ("import a_module_that_is_not_there", "x", "ModuleNotFoundError"),
        (GOOD, "missing", "AttributeError"),
        (GOOD, "number", "expected an ntkengine.activations.ActivationFamily, found int"),
    ],
)
def test_a_broken_plugin_is_one_warning_and_the_rest_works(install, text, attribute, cause):
    install(f"broken-{abs(hash((text, attribute))) % 10**8}", {"broken": attribute}, text)
    found = registry()
    with pytest.warns(PluginWarning, match=cause) as caught, pytest.raises(UnknownNameError, match="broken"):
        found.get("broken")
    assert len(caught) == 1
    assert found.get("relu")()(1.0) == 1.0


def test_two_plugins_with_one_name_are_an_error_that_names_both(install):
    install("first-one", {"twin": "cubic"}, GOOD)
    install("second-one", {"twin": "cubic"}, GOOD)
    with pytest.raises(
        InputError, match=r"'twin' is registered twice, by '(first|second)-one' and by '(first|second)-one'"
    ):
        registry().names()


def test_a_plugin_cannot_take_a_builtin_name(install):
    install("greedy-plugin", {"relu": "cubic"}, GOOD)
    with pytest.raises(InputError, match="by 'ntkengine' and by 'greedy-plugin'"):
        registry().get("relu")


def test_environment_restricts_loading(install, monkeypatch):
    install("one-plugin", {"one": "cubic"}, GOOD)
    install("two-plugin", {"two": "cubic"}, GOOD)
    monkeypatch.setenv("NTKENGINE_PLUGINS", "One_Plugin")
    names = registry().names()
    assert "one" in names
    assert "two" not in names
    monkeypatch.setenv("NTKENGINE_PLUGINS", "")
    assert registry().names() == tuple(sorted(_builtins()))


def test_unknown_name_lists_and_suggests():
    with pytest.raises(
        UnknownNameError,
        match=r"unknown activation 'softpluss'\. Did you mean 'softplus'\? Known: abrelu, abs",
    ):
        registry().get("softpluss")


def test_a_plugins_tile_is_compiled_anew_when_its_helper_changes(install, tmp_path):
    """The machine-code cache is keyed by all of a plugin's sources: an edited helper in another file is noticed."""
    package = tmp_path / "kinked"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "family.py").write_text(
        "from ntkengine.activations import ActivationFamily\n"
        "from ntkengine._jit import strict\n"
        "from kinked.helper import factor\n"
        "def pair(z, p):\n    T = type(z)\n    return T(factor) * z, T(factor)\n"
        "family = ActivationFamily('kinked', pair, 'c z')\n"
    )
    code = "from kinked.family import family; print(family()(1.0))"
    seen = []
    for factor in (2.0, 5.0):
        (package / "helper.py").write_text(f"factor = {factor}\n")
        done = subprocess.run(
            [sys.executable, "-B", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        seen.append(float(done.stdout))
    assert seen == [2.0, 5.0]
