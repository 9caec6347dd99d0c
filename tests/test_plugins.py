"""Discovery through real metadata: small distributions written into a folder on the path."""

import copy
import os
import pickle
import subprocess
import sys
import textwrap

import pytest

import ntkengine as nk
from ntkengine.activations import ActivationFamily
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


CHILD = """
import sys
sys.path.insert(0, ".")
from {module} import *
print([float(f()(3.0)) for f in families])
"""

HEADER = "from ntkengine.activations import ActivationFamily\n"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (  # an edited helper in another file of the package
            [
                "from helper import k\ndef pair(z, p):\n    return k(z), z\nfamilies = [ActivationFamily('a', pair, '')]"
            ]
            * 2,
            [[6.0], [15.0]],
        ),
        (  # two lambdas on lines that look alike, a reused name, other defaults
            [
                "families = [ActivationFamily('a', lambda z, p: (z, z), ''), "
                "ActivationFamily('a', lambda z, p: (z + z, z), '')]",
                "def pair(z, p):\n    return z * z, z\none = pair\ndef pair(z, p):\n    return z * z * z, z\n"
                "families = [ActivationFamily('a', one, ''), ActivationFamily('a', pair, '')]",
                "def make(k):\n    def pair(z, p, k=k):\n        return z * k, z\n    return pair\n"
                "families = [ActivationFamily('a', make(5.0), ''), ActivationFamily('a', make(7.0), '')]",
                "def make(k):\n    def pair(z, p):\n        return z * k, z\n    return pair\n"
                "families = [ActivationFamily('a', make(5.0), ''), ActivationFamily('a', make(7.0), '')]",
            ],
            [[3.0, 6.0], [9.0, 27.0], [15.0, 21.0], [15.0, 21.0]],
        ),
    ],
)
def test_cached_code_is_never_another_functions(texts, expected, tmp_path):
    """Each text is run twice in fresh processes with one cache: the second time, what can be cached comes from it."""
    environment = {**os.environ, "NTKENGINE_CACHE_DIR": str(tmp_path / "cache")}
    for number, (text, values) in enumerate(zip(texts, expected)):
        (tmp_path / "helper.py").write_text(
            f"FACTOR = {[2.0, 5.0][number % 2]}\nfrom numba import njit\n@njit\ndef k(z):\n    return FACTOR * z\n"
        )
        (tmp_path / "family_module.py").write_text(HEADER + text + "\n")
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, "-B", "-c", CHILD.format(module="family_module")],
                capture_output=True, text=True, check=True, cwd=tmp_path, env=environment,
            )  # fmt: skip
            assert done.stdout.strip() == str(values)


def test_activations_of_unregistered_families_copy_and_pickle(monkeypatch):
    """By value where the registry does not know the family, even if its name is a built-in's."""
    phi = ActivationFamily("relu", _leaky, "max(z, 0.5 z)")()
    for copied in (copy.deepcopy(phi), pickle.loads(pickle.dumps(phi))):
        assert copied(-1.0) == -0.5
    registered = nk.activation("sin", a=0.5, b=6.0)
    assert pickle.loads(pickle.dumps(registered)) == registered


def _leaky(z, p):
    half = type(z)(0.5)
    return max(z, half * z), half
