"""``ntkengine reproduce signs``: the record against designs made anew, theory against networks, figure and command."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

import ntkengine as nk
from ntkengine import plots
from ntkengine.cli import main
from ntkengine.errors import InputError
from ntkengine.experiments.signs import CASES, Plan, run
from ntkengine.store import Store
from tests.oracles import signs as oracle

CALM = [0, 1, 3]  # all but "plus", whose mean is made by one network in thousands


@pytest.fixture(scope="module")
def record():
    return run(Plan(members=150))


def test_networks_are_as_far_from_the_kernel_as_predicted(record):
    v = record.variables
    predicted, found, error = (
        v[name].values[..., CALM] for name in ("predicted", "measured", "standard_error")
    )
    assert (np.abs(found - predicted) < 4 * error + 0.05 * predicted).all()
    assert (v["median"].values[..., CALM] < found).all()


def test_concentrated_lowers_the_distance_as_predicted(record):
    falls = record.results["concentrated_over_paper"]
    assert [(row["target"], row["kind"]) for row in falls] == [
        (case.title, kind) for case in CASES for kind in ("ntk", "nngp")
    ]
    for row in falls:
        assert row["predicted"] < 1
        assert row["measured"] < 1 + 2 * row["standard_error"]
        assert abs(row["measured"] - row["predicted"]) < 4 * row["standard_error"] + 0.02
    assert min(row["measured"] for row in falls) < 0.85


def test_predictions_are_those_of_plain_quadrature(record):
    v = record.variables
    for kind, rule in (("ntk", "concentrated"), ("nngp", "paper")):
        design = nk.reverse_engineer("laplace", kind, 20, signs=rule, width=512)
        at = 2, v["kind"].values.tolist().index(kind), v["rule"].values.tolist().index(rule)
        assert_allclose(v["predicted"].values[at], oracle.spread(design.coefficients, kind), rtol=0.02)
        assert_allclose(v["activation"].values[at], design.activation(v["z"].values), rtol=1e-12)


def test_bad_plans():
    for change, words in (({"width": 0}, "width"), ({"members": 1}, "members"), ({"seed": -1}, "seed")):
        with pytest.raises(InputError, match=words):
            run(Plan(**change))


def test_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", "signs", "--quick", "--width", "64", "--members", "5", "--figure", "f.pdf"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "5 networks of width 64, seed 0" in out
    for case in CASES:
        assert out.count(case.title) == 3  # once among the rules, twice among the ratios
    found = Store("runs").read(next(tmp_path.glob("runs/*.h5")))
    assert found.config == {"width": 64, "members": 5, "seed": 0}
    assert (tmp_path / "f.pdf").stat().st_size > 5_000
    assert len(plots.draw(found).axes) == 6
