"""The ratio benchmarks at tiny sizes: topics, rows, exit codes. Nothing here is timed."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import ntkengine as nk

BENCH = Path(__file__).resolve().parents[1] / "asv_bench"
TOPICS = ("design", "gram", "hermite", "start", "train")


@pytest.fixture
def topic(monkeypatch):
    """``topic(name)``: the module of that topic."""
    monkeypatch.syspath_prepend(BENCH)
    return lambda name: import_module(f"ratios.{name}")


def check(rows, count):
    rows = list(rows)
    assert len(rows) == count
    assert len({row.what for row in rows}) == count
    for what, value, limit in rows:
        assert 0 < len(what) <= 66, "the table has 66 columns for it"
        assert math.isfinite(value)
        assert value > 0
        assert isinstance(limit, str) or limit > 0
    return rows


@pytest.mark.parametrize("name", TOPICS)
def test_a_topic_has_rows(topic, name):
    assert callable(topic(name).rows)


def test_gram_rows(topic, monkeypatch):
    gram = topic("gram")
    monkeypatch.setattr(gram, "in_new_process", lambda code: [compile(code, "child", "exec") and 1.1])
    rows = check(gram.rows(n=40, repeats=1), 24 if Path("/proc/self/clear_refs").exists() else 16)
    assert [row.limit for row in rows[:2]] == [4.0, 0.65]
    assert sum(row.limit == 12.0 for row in rows) == 4


def test_design_rows(topic, monkeypatch):
    design = topic("design")
    monkeypatch.setattr(design, "_FITS", {"relu_cos": ({}, 1.0, 0.0385, 50.0)})
    rows = check(design.rows(width=16, degree=50, repeats=1), 16)
    assert [row.limit for row in rows[:10:2]] == [2.0] * 5
    assert rows[11].what == "fit of relu_cos: squared error"
    for row in rows[11:13]:  # what does not depend on the machine
        assert row.ratio <= row.limit


def test_train_rows(topic):
    train = topic("train")
    tiny = [replace(work, n=16, width=8, against=("NumPy",)) for work in train.WORKS]
    tiny = [work if work.batch is None else replace(work, batch=4) for work in tiny]
    rows = check(train.rows(tuple(tiny), seconds=0.0), 18)
    assert [row.limit for row in rows[2::3]] == [work.limit for work in train.WORKS]
    assert all("NumPy" in row.what for row in rows[2::3])


@pytest.mark.parametrize("name", ["sin", "relu", "relu_cos"])
@pytest.mark.parametrize("depth", [1, 3])
def test_the_rivals_take_our_steps(topic, name, depth):
    """NumPy's parameters after three full-batch steps are ours, from the same start."""
    topic("train")
    rivals = import_module("ratios._rivals")
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 3)).astype(np.float32), rng.standard_normal((20, 2)).astype(np.float32)
    fan = [3, *[16] * depth, 2]
    weights = [rng.standard_normal(pair).astype(np.float32) for pair in pairwise(fan)]
    parameters = dict(zip("abcdefg", rivals.relu_cos)) if name == "relu_cos" else {}
    nets = nk.FCN(nk.activation(name, **parameters), depth).from_parameters([(w, None) for w in weights])
    nk.train(nets, x, y, lr=0.01, epochs=3, centered=False)
    found = rivals.numpy_steps(name, x, y, weights, 0.01, 20)(3)
    for ours, theirs in zip(nets.parameters(), found, strict=True):
        np.testing.assert_allclose(ours[0][0], theirs, rtol=2e-4, atol=2e-5)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is read from Linux's /proc")
def test_memory_counts_the_result_itself(topic):
    gram = topic("gram")
    (share,) = gram._child(gram._MEMORY, "relu", True, 1500)
    assert 0.95 < share < 3


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is read from Linux's /proc")
def test_large_matrix_is_streamed(topic):
    peak, seconds = check(topic("gram").large(n=300), 2)
    assert peak.limit == 2.0
    assert seconds.limit == "reported"


def test_large_matrix_needs_its_space_first(topic, monkeypatch):
    gram = topic("gram")
    monkeypatch.setattr(gram.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    with pytest.raises(OSError, match=r"1 GB free and n = 40000 needs 12\.8 GB; set TMPDIR"):
        next(gram.large())


def test_start_rows(topic, monkeypatch):
    start = topic("start")
    caches = []

    def fake(code, cache):
        compile(code, "child", "exec")
        caches.append(Path(cache))
        assert caches[-1].is_dir()
        caches[-1].joinpath(str(len(caches))).touch()
        return [0.1, 0.2, 0.3 if len(list(caches[-1].iterdir())) > 1 else 9.0]

    monkeypatch.setattr(start, "in_new_process", fake)
    rows = check(start.rows(repeats=3), 9)
    assert rows[0][1:] == (0.1, 0.5)
    assert [row.ratio for row in rows[2:6]] == [0.3] * 4, "these caches were filled before"
    assert [row.ratio for row in rows[6:]] == [9.0] * 3, "these were empty"
    assert [row.limit for row in rows[2:6]] == [0.3, 0.3, 0.3, 3.0]
    assert not any(cache.exists() for cache in caches)


def test_new_process_gets_the_cache_folder_and_gives_numbers(topic, tmp_path):
    code = "import os; print('noise'); print([1, 2.5, len(os.environ['NTKENGINE_CACHE_DIR'])])"
    assert topic("start").in_new_process(code, tmp_path) == [1.0, 2.5, len(str(tmp_path))]


def test_new_process_that_fails_is_an_error_with_its_cause(topic):
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        topic("start").in_new_process("1/0")


@pytest.mark.parametrize(
    ("value", "code", "verdict"), [(0.9, 0, "ok"), (1.1, 1, "MISSED"), (math.nan, 1, "MISSED")]
)
def test_exit_code_says_whether_a_limit_is_missed(topic, monkeypatch, capsys, value, code, verdict):
    main, start = topic("__main__"), topic("start")
    monkeypatch.setattr(start, "rows", lambda: [start.Row("a", value, 1.0), start.Row("b", 5.0, "reported")])
    assert main.main(["start"]) == code
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("start")
    assert first.endswith(verdict)
    assert second.endswith("5.000  reported")


def test_heavy_topics_run_only_when_named(topic, monkeypatch, capsys):
    main, ran = topic("__main__"), []
    for name in TOPICS:
        monkeypatch.setattr(topic(name), "rows", lambda name=name: ran.append(name) or [])
    monkeypatch.setattr(topic("gram"), "large", lambda: ran.append("gram-large") or [])
    assert main.main([]) == 0
    assert ran == list(TOPICS)
    assert main.main(["gram-large"]) == 0
    assert ran[-1] == "gram-large"


def test_as_a_script_it_names_the_topics():
    done = subprocess.run(
        [sys.executable, BENCH / "ratios", "nonsense"], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 2
    assert done.stderr == "no topic nonsense; topics: design, gram, hermite, start, train, gram-large\n"
