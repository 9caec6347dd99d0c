"""``ntkengine reproduce kernels``: targets and polynomials against NumPy, the published numbers, the command."""

import re

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import lsq_linear

import ntkengine as nk
from ntkengine import plots
from ntkengine.cli import main
from ntkengine.errors import InputError
from ntkengine.experiments.kernels import PANELS, PROCEDURES, USED, Plan, run, verdict
from ntkengine.store import Store

SMALL = Plan(width=128, members=3)


@pytest.fixture(scope="module")
def record():
    return run(SMALL)


def layers(kind, dual, c):
    """NNGP kernel or NTK of four hidden layers, σ_w² = 2, σ_b² = 0.01, readout 1 and 0, at cosines c."""
    q, s = 2.01, 2 * c + 0.01
    theta = s
    for layer in range(4):
        top, _ = dual(q, q)
        value, slope = dual(q, s)
        w2, b2 = (2, 0.01) if layer < 3 else (1, 0)
        q, s = w2 * top + b2, w2 * value + b2
        theta = s + w2 * theta * slope
    return s if kind == "nngp" else theta


def relu(q, s):
    """Cho & Saul 2009."""
    angle = np.arccos(np.clip(s / q, -1, 1))
    value = q * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    return value, (np.pi - angle) / (2 * np.pi)


def erf(q, s):
    """Williams 1996."""
    value = 2 / np.pi * np.arcsin(2 * s / (1 + 2 * q))
    return value, 4 / np.pi / np.sqrt((1 + 2 * q) ** 2 - 4 * s**2)


KERNELS = {
    "A": lambda c: layers("nngp", relu, c),
    "B": lambda c: layers("ntk", relu, c),
    "C": lambda c: layers("ntk", erf, c),
    "D": lambda c: c**3,
    "E": lambda c: c**4 + c,
    "F": lambda c: np.sinh(2 * c),
    "G": lambda c: np.cosh(2 * c),
}


def nonnegative(c, K, weight):
    """b_0, ..., b_5 >= 0 of least Σ weight (Σ b_k c^k − K)², by bounded least squares."""
    root = np.sqrt(weight)
    found = lsq_linear(
        root[:, None] * c[:, None] ** np.arange(6), root * K, (0, np.inf), method="bvls", tol=1e-14
    )
    return found.x


def test_targets_are_the_seven_kernels(record):
    v = record.variables
    assert v["target"].values.tolist() == list(KERNELS)
    c = np.cos(v["angle"].values)
    for letter, values in zip(KERNELS, v["target_kernel"].values):
        # The recursion above loses half its digits at c = 1.
        assert_allclose(values, KERNELS[letter](c), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "cosines", "end"),
    [
        ("even cosines", np.linspace(1, -1, 1000), 0.0),
        ("even cosines, ends weighted", np.linspace(1, -1, 1000), 0.1),
        ("even angles", np.cos(np.linspace(0, np.pi, 1000)), 0.0),
        ("even angles, ends weighted", np.cos(np.linspace(0, np.pi, 1000)), 0.1),
    ],
)
def test_least_squares_is_that_of_scipy(name, cosines, end, record):
    weight = np.full(1000, (1 - 2 * end) / 1000)
    weight[[0, -1]] += end
    b = record.variables["kernel_coefficient"].values[list(PROCEDURES).index(name)]
    for i, kernel in enumerate(KERNELS.values()):
        assert_allclose(b[i], nonnegative(cosines, kernel(cosines), weight), rtol=0, atol=2e-6)


def test_taylor_series(record):
    b = record.variables["kernel_coefficient"].values[list(PROCEDURES).index("Taylor series")]
    assert_allclose(
        b[3:], [[0, 0, 0, 1, 0, 0], [0, 1, 0, 0, 1, 0], [0, 2, 0, 4 / 3, 0, 4 / 15], [1, 0, 2, 0, 2 / 3, 0]]
    )
    # The others by the derivatives of the recursion at 0, from its values on a small circle's real points.
    c = 0.2 * np.cos((np.arange(40) + 0.5) * np.pi / 40)
    for i, letter in enumerate("ABC"):
        fit = np.polynomial.Chebyshev.fit(c, KERNELS[letter](c), 18).convert(kind=np.polynomial.Polynomial)
        assert_allclose(b[i], fit.coef[:6], rtol=1e-5)


def test_hermite_coefficients_are_the_theorem_with_the_papers_signs(record):
    v = record.variables
    b, a = v["kernel_coefficient"].values, v["hermite_coefficient"].values
    assert_allclose(a, [1, 1, -1, -1, 1, 1] * np.sqrt(b / np.arange(1, 7)), atol=1e-15)
    for i, row in enumerate(v["kernel_coefficient"].values[list(PROCEDURES).index(USED)]):
        c = np.cos(v["angle"].values)
        assert_allclose(v["designed_kernel"].values[i], np.polynomial.polynomial.polyval(c, row), atol=1e-12)


def test_published_numbers(record):
    """All within 0.01, A, B and D to G within 0.005, by the procedure that is used; the others do worse on A, B and C."""
    differences = record.results["differences"]
    used = differences[USED]
    assert max(used.values()) < 0.01
    assert max(used[letter] for letter in "ABDEFG") < 0.005
    assert used["D"] < 5e-4
    assert used["E"] < 5e-4
    for name, row in differences.items():
        if name != USED:
            assert all(row[letter] > 2 * used[letter] for letter in "ABC")
    assert [panel["verdict"] for panel in record.results["panels"]] == [
        verdict(value) for value in used.values()
    ]


def test_networks_agree_with_theory():
    """Width 2¹⁴ as in the paper: every kernel is met by the mean of 16 networks."""
    panels = run(Plan()).results["panels"]
    assert all(panel["verified"] for panel in panels)
    assert max(abs(panel["z_score"]) for panel in panels) < 3.6


def test_empirical_kernels_are_those_of_the_networks(record):
    v = record.variables
    a = v["hermite_coefficient"].values[-1, 4]
    assert list(PROCEDURES)[-1] == USED
    design = nk.reverse_engineer("c**4 + c", signs="paper")
    assert_allclose(design.coefficients, a[:5], atol=1e-12)
    check = design.verify(128, 3, 0)
    assert_allclose(v["empirical_kernel"].values[4], check.curves, rtol=1e-4, atol=1e-4)
    assert_array_equal(v["check_angle"].values, check.angles)


def test_bad_plans():
    for change, words in (({"width": 0}, "width"), ({"members": 1}, "members"), ({"seed": -1}, "seed")):
        with pytest.raises(InputError, match=words):
            run(Plan(**change))


# --- the command -----------------------------------------------------------------------------------------------


def call(*arguments):
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", *arguments])
    return stop.value.code


def test_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call("kernels", "--quick", "--width", "64", "--figure", "f.svg") == 0
    out = capsys.readouterr().out
    for panel in PANELS:
        assert f"│ {panel.letter} │ {panel.title}: published" in out
    assert re.search(
        r"even angles, ends weighted +│ 1\.230 │ 0\.640 │ +0 │ +0 │ 0\.541 │ 0\.425 │ +0\.002\d │ agrees", out
    )
    assert "NTK of 4 networks of width 64 against theory, seed 0" in out
    found = Store("runs").read(next(tmp_path.glob("runs/*.h5")))
    assert found.config == {"width": 64, "members": 4, "seed": 0}
    assert (tmp_path / "f.svg").stat().st_size > 10_000
    assert len(plots.draw(found).axes) == 8
    assert len(list(tmp_path.glob("runs/*.png"))) == 1


def test_few_networks_refute_nothing(tmp_path, monkeypatch, capsys):
    """By chance the mean of 4 networks is out of the bound for panel C with the default seed."""
    monkeypatch.chdir(tmp_path)
    assert call("kernels", "--quick") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert " NO " not in out
    assert "–: undecided, 4 networks are too few" in out
    record = Store("runs").read(next(tmp_path.glob("runs/*.h5")))
    assert [p["letter"] for p in record.results["panels"] if not p["verified"]] == ["C"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["kernels", "--width", "0"], "--width"),
        (["kernels", "--members", "1"], "--members"),
        (["kernels", "--width", "1000000000000"], "GiB"),
        (["kernels", "--store", "file"], "is a file"),
        (["kernels", "--figure", "a.gif"], "must end in"),
        (["kernel"], "No such command"),
    ],
)
def test_wrong_input(arguments, words, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    assert call(*arguments) == 2
    done = capsys.readouterr()
    assert words in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert done.out == ""
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
