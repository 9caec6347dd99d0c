"""The main job: its record, its figure, its command, and what wrong input does to them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import ntkengine as nk
from ntkengine import plots
from ntkengine.cli import main
from ntkengine.errors import DivergenceError, InputError, StoreError
from ntkengine.experiments.shallowify import NETWORKS, Plan, run
from ntkengine.finite import sgd
from ntkengine.store import Store

TINY = {
    "width": 24,
    "members": 2,
    "epochs": 6,
    "starts": 1,
    "check_members": 3,
    "depth": 2,
    "family": "relu_cos",
}


@pytest.fixture(scope="module")
def record():
    return run(Plan(**TINY))


def test_record_holds_what_was_measured(record):
    v = record.variables
    assert record.status == "complete"
    assert record.config["lr"] == 0.1
    assert v["train_loss"].dims == ("network", "member", "epoch")
    for name in ("train_loss", "test_loss", "train_accuracy", "test_accuracy"):
        assert v[name].values.shape == (3, 2, v["epoch"].values.size)
        assert np.isfinite(v[name].values).all()
    assert_array_equal(v["epoch"].values[[0, -1]], [0, 6])
    target = nk.FCN("relu", depth=2, w_std=2**0.5, b_std=0.1).kernel("ntk")
    assert_allclose(v["target_kernel"].values, target.at_angle(v["angle"].values))
    phi = nk.activation("relu_cos", **record.results["design"]["parameters"])
    assert_allclose(v["designed_activation"].values, phi(v["z"].values))
    assert_allclose(
        v["designed_kernel"].values, nk.FCN(phi).kernel("ntk").at_angle(v["angle"].values), rtol=1e-12
    )


def test_tracking_distance_is_the_largest_gap_of_the_mean_curves(record):
    for name, i in (("mimic", NETWORKS.index("mimic")), ("shallow", NETWORKS.index("shallow"))):
        for part in ("train", "test"):
            mean = record.variables[f"{part}_loss"].values.mean(axis=1)
            gap = np.abs(mean[i] - mean[NETWORKS.index("deep")]).max()
            assert_allclose(record.results["tracking"][name][part], gap)


def test_same_plan_same_numbers(record):
    again = run(Plan(**TINY, threads=1))
    for name, variable in record.variables.items():
        assert_array_equal(again.variables[name].values, variable.values)


def test_lift_is_used_where_norms_vary_and_only_there(record):
    assert record.results["radial_lift"]
    assert record.results["task"]["norms_vary"]
    flat = run(Plan(**{**TINY, "task": "parity"}))
    assert not flat.results["radial_lift"]
    off = run(Plan(**TINY, lift="off"))
    assert not off.results["radial_lift"]
    deep = NETWORKS.index("deep")
    assert_array_equal(off.variables["train_loss"].values[deep], record.variables["train_loss"].values[deep])


def test_stored_run_draws_the_same_figure(record, tmp_path):
    store = Store(tmp_path)
    back = store.read(store.write(record))
    for suffix in ("png", "svg", "pdf"):
        path = plots.save(plots.draw(back), tmp_path / f"a.{suffix}")
        assert path.stat().st_size > 10_000
    text = (tmp_path / "a.svg").read_text()
    assert "<svg" in text
    with pytest.raises(InputError, match="must end in"):
        plots.save(plots.draw(back), tmp_path / "a.gif")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write the figure"):
        plots.save(plots.draw(back), tmp_path / "file" / "a.png")
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".tmp")]


def test_a_regression_task_has_losses_but_no_accuracy(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 3))
    path = tmp_path / "r.csv"
    path.write_text("a,b,c,y\n" + "\n".join(",".join(f"{v:.6f}" for v in (*row, row.sum())) for row in x))
    found = run(Plan(**TINY, csv=str(path), target="y"))
    assert "test_accuracy" not in found.variables
    assert found.results["networks"]["mimic"]["test_accuracy"] is None
    plots.save(plots.draw(found), tmp_path / "r.png")


def test_divergence_names_step_and_stable_rates():
    with pytest.raises(
        DivergenceError, match=r"diverged at step \d+, with lr 10000.*Choose lr below"
    ) as caught:
        run(Plan(**{**TINY, "epochs": 60}, lr=1e4))
    limit = float(str(caught.value).rsplit("below ", 1)[1].rstrip("."))
    assert 0.01 < limit < 10


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"activation": "rellu"}, "unknown activation 'rellu'. Did you mean 'relu'"),
        ({"family": "relu3_cos"}, "Did you mean 'relu"),
        ({"family": "relu"}, "no parameters"),
        ({"task": "tictactoe"}, "Did you mean 'tic-tac-toe'"),
        ({"width": 0}, "width"),
        ({"members": 0}, "members"),
        ({"w_std": -1.0}, "w_std"),
        ({"b_std": -0.1}, "b_std"),
        ({"lr": 0.0}, "lr"),
        ({"depth": 0}, "depth"),
        ({"epochs": -1}, "epochs"),
        ({"batch_size": 10**6}, "exceeds the 313 training rows"),
        ({"lift": "no"}, "lift"),
        ({"device": "cuda"}, "device"),
        ({"check_members": 1}, "check_members"),
        ({"train_fraction": 1.5}, "train_fraction"),
    ],
)
def test_bad_plans(change, words):
    with pytest.raises(InputError, match=re.escape(words)):
        run(Plan(**{**TINY, **change}))


# --- the command, as a user runs it ----------------------------------------------------------------------------


def command(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "ntkengine", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
    )


FLAGS = [
    "--width",
    "24",
    "--members",
    "2",
    "--epochs",
    "6",
    "--starts",
    "1",
    "--check-members",
    "3",
    "--depth",
    "2",
    "--family",
    "relu_cos",
]


def test_command_end_to_end(tmp_path):
    (tmp_path / "out").mkdir()
    done = command("shallowify", *FLAGS, "--figure", "out/f.svg", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for words in ("2HL relu", "1HL mimic", "tracking distance", "squared", "radial lift", "ms a step"):
        assert words in done.stdout
    files = sorted(p.suffix for p in (tmp_path / "runs").iterdir())
    assert files == [".h5", ".png"]
    assert (tmp_path / "out" / "f.svg").stat().st_size > 10_000
    found = Store(tmp_path / "runs").read(next((tmp_path / "runs").glob("*.h5")))
    assert json.dumps(found.config)
    assert found.config["width"] == 24


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--activation", "rellu"], "unknown activation 'rellu'. Did you mean 'relu'?"),
        (["--task", "wine"], "unknown task 'wine'"),
        (["--family", "relu9"], "unknown activation 'relu9'"),
        (["--width", "0"], "--width"),
        (["--width", "many"], "--width"),
        (["--w-std", "-1"], "w_std"),
        (["--b-std", "-1"], "b_std"),
        (["--csv", "none.csv"], "none.csv"),
        (["--csv", "bad.csv"], "row 2"),
        (["--lr", "1e9"], "diverged at step"),
        (["--store", "file"], "is a file"),
        (["--store", "/proc/runs"], "/proc/runs"),
        (["--figure", "a.bmp"], "must end in"),
        (["--device", "cuda"], "cuda"),
        (["--target", "y"], "give --csv too"),
        (["--csv", "bad.csv", "--task", "parity"], "give one of them"),
        (["--w-std", "1e200"], "variance"),
        (["--w-std", "nan"], "w_std"),
        (["--b-std", "1e100"], "b_std is 1e+100, too large"),
        (["--w-std", "1e150"], "Error"),
        (["--activation", "exp", "--depth", "3"], "infinite at variance"),
        (["--task", "parity", "--task-option", "bits"], "bits=8"),
        (["--task", "parity", "--task-option", "bits=many"], "bits=8"),
        (["--task", "parity", "--task-option", "bits=99"], "bits"),
        (["--task-option", "bits=9"], "bits"),
        (["--csv", "bad.csv", "--task-option", "bits=9"], "belongs to --task"),
        (["--store", ""], "is empty"),
        (["--threads", "0"], "--threads"),
        (["--seed", "-1"], "--seed"),
        (["--figure", "bad.csv/a.png"], "cannot write the figure"),
        (["--figure", "folder.png"], "is a folder"),
        (["--epochs", "1", "--lr", "1e30"], "diverged at step 1"),
        (["--epochs", "4", "--lr", "30"], "diverged"),
        (["--nonsense"], "--nonsense"),
        (["--batch-size", "1000000"], "exceeds"),
        (["--lr", "nan"], "lr"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(arguments, words, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "bad.csv").write_text("a,b,y\n1,2,x\n1,oops,z\n3,4,x\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["shallowify", *FLAGS, *arguments])
    done = capsys.readouterr()
    assert stop.value.code == 2
    assert words in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert done.err.startswith("Error: ")
    assert done.out == ""
    assert not list(tmp_path.glob("**/*.h5"))
    assert not list(tmp_path.glob("**/*.tmp"))


def test_no_traceback_reaches_a_user(tmp_path):
    done = command("shallowify", "--activation", "rellu", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: unknown activation 'rellu'. Did you mean 'relu'?")
    assert len(done.stderr.splitlines()) == 1


INTERRUPTED = """
import os, signal, sys
import ntkengine.experiments.shallowify as experiment
from ntkengine.cli import main
original, calls = experiment.train, []
def train(nets, *arguments, progress, **options):
    calls.append(nets)
    def watched(done, total):
        if len(calls) == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGINT)
        progress(done, total)
    return original(nets, *arguments, progress=watched, **options)
experiment.train = train
main(sys.argv[2:])
"""


@pytest.mark.parametrize(("ensemble", "finished"), [(1, []), (2, ["shallow"]), (3, ["shallow", "mimic"])])
def test_ctrl_c_keeps_what_is_finished(ensemble, finished, tmp_path):
    """A real SIGINT at the first progress of an ensemble: exit code 130, and a whole run with all that was before it."""
    child = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(ensemble), "shallowify", *FLAGS], cwd=tmp_path, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert child.returncode == 130, child.stderr
    assert child.stderr.splitlines() == ["Interrupted: what was finished is kept."]
    found = Store(tmp_path / "runs").read(next((tmp_path / "runs").glob("*.h5")))
    assert found.status == "interrupted"
    assert np.isfinite(found.variables["designed_kernel"].values).all()
    for name in finished:
        assert np.isfinite(found.variables["train_loss"].values[NETWORKS.index(name)]).all()
    assert "so far" in child.stdout
    assert len(list((tmp_path / "runs").glob("*.png"))) == 1


def test_ctrl_c_before_anything_is_finished_writes_nothing(tmp_path, monkeypatch, capsys):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ntkengine.experiments.shallowify.fit_activation", interrupt)
    with pytest.raises(SystemExit) as stop:
        main(["shallowify", *FLAGS])
    assert stop.value.code == 130
    assert "nothing was written" in capsys.readouterr().err
    assert not list(tmp_path.glob("**/*.h5"))


def test_ctrl_c_while_drawing_says_that_the_run_is_kept(tmp_path, monkeypatch, capsys):
    def interrupt(record):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plots, "draw", interrupt)
    with pytest.raises(SystemExit) as stop:
        main(["shallowify", *FLAGS])
    assert stop.value.code == 130
    done = capsys.readouterr()
    assert "the run is kept" in done.err
    assert len(list(tmp_path.glob("runs/*.h5"))) == 1


def test_interrupted_record_is_whole(monkeypatch):
    """The same, without a signal: the second ensemble is stopped half-way."""
    original, calls = sgd.train, []

    def interrupted(nets, *arguments, **options):
        calls.append(nets)

        def stop(done, total):
            if len(calls) == 2 and done >= 3:
                raise KeyboardInterrupt

        return original(nets, *arguments, **{**options, "progress": stop, "snapshots": range(7)})

    monkeypatch.setattr("ntkengine.experiments.shallowify.train", interrupted)
    monkeypatch.setattr("ntkengine.experiments.shallowify.log_spaced", lambda epochs: np.arange(epochs + 1))
    found = run(Plan(**TINY))
    assert found.status == "interrupted"
    assert len(found.results["networks"]) == 2
    losses = found.variables["train_loss"].values
    finished = [i for i in range(3) if np.isfinite(losses[i]).all()]
    partial = [i for i in range(3) if np.isfinite(losses[i]).any() and i not in finished]
    assert len(finished) == 1
    assert len(partial) == 1
    assert found.results["tracking"] == {}
    plots.draw(found)


def test_task_options_reach_the_task(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["shallowify", *FLAGS, "--task", "parity", "--task-option", "bits=6"])
    assert stop.value.code == 0
    assert "32 rows to train, 32 to test" in " ".join(capsys.readouterr().out.split())


def test_odd_names_neither_break_nor_bend_what_is_printed(tmp_path, monkeypatch, capsys):
    """Dollars are not mathematics in a title, brackets not markup in a path."""
    rows = "\n".join(f"{i % 5},{i % 7},{'ab'[i % 3 == 0]}" for i in range(40))
    (tmp_path / "a$b^$[red]c.csv").write_text("x,y,z\n" + rows)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["shallowify", *FLAGS, "--csv", "a$b^$[red]c.csv", "--store", "st[/b]:smile:"])
    assert stop.value.code == 0
    printed = re.search(r"^run +(.*)$", capsys.readouterr().out, flags=re.MULTILINE).group(1)
    assert (tmp_path / printed).is_file()


def test_help_is_written_for_a_person(tmp_path):
    root = command("--help", cwd=tmp_path)
    assert root.returncode == 0
    assert "shallowify" in root.stdout
    assert "data" in root.stdout
    page = command("shallowify", "--help", cwd=tmp_path)
    flags = [
        "depth",
        "activation",
        "w-std",
        "b-std",
        "task",
        "csv",
        "target",
        "family",
        "width",
        "members",
        "epochs",
        "batch-size",
        "lr",
        "seed",
        "store",
        "device",
        "threads",
        "quick",
    ]
    for flag in flags:
        assert f"--{flag}" in page.stdout
    assert command("--version", cwd=tmp_path).stdout.strip() == f"ntkengine, version {nk.__version__}"
    assert command("shalowify", cwd=tmp_path).returncode == 2


def test_run_is_readable_by_xarray(record, tmp_path):
    xarray = pytest.importorskip("xarray")
    path = Store(tmp_path).write(record)
    with xarray.open_dataset(path, engine="h5netcdf") as data:
        assert list(data["network"].values) == ["1HL relu", "2HL relu", "1HL mimic"]
        assert_array_equal(
            data["train_loss"].sel(network="2HL relu").values, record.variables["train_loss"].values[1]
        )
    assert isinstance(path, Path)
