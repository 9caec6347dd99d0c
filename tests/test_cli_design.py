"""``ntkengine design`` and ``ntkengine kernel describe``: what they print, write and refuse."""

import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import ntkengine as nk
from ntkengine.cli import main
from ntkengine.experiments.design import Plan, Target, coefficients, run
from ntkengine.store import Store

THETA = np.linspace(0, math.pi, 61)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to work in, with samples of exp(c) as ``k.csv``."""
    rows = "".join(f"{math.cos(t)},{math.exp(math.cos(t))}\n" for t in THETA)
    (tmp_path / "k.csv").write_text("c,K\n" + rows)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments):
    """Exit code of a command in this process."""
    with pytest.raises(SystemExit) as stop:
        main([*arguments])
    return stop.value.code


def table(text):
    """The rows of numbers of a printed table, without the line that sums up the rest."""
    lines = [line.strip("│").split("│") for line in text.splitlines() if line.startswith("│")]
    return np.array([[float(cell) for cell in line] for line in lines if "…" not in line[0]])


def tail(text):
    """The line that sums up the rest: its first degree and its two sums."""
    (line,) = [line for line in text.splitlines() if line.startswith("│ …")]
    first, *sums = re.findall(r"[\d.e+-]+", line.replace("–∞", ""))
    return int(first), [float(value) for value in sums[:2]]


def words(text):
    return " ".join(text.split())


# --- what is printed -------------------------------------------------------------------------------------------


def test_the_table_is_the_theorem(folder, capsys):
    """sinh 2c = Σ 2^k/k! c^k over odd k; a_k = ± √(b_k/(1 + k))."""
    assert call("design", "sinh(2*c)", "--signs", "paper") == 0
    done = capsys.readouterr()
    k, target, made, a = table(done.out).T
    assert_array_equal(k, np.arange(1, 20, 2))
    b = np.array([2.0**n / math.factorial(n) for n in np.arange(1, 20, 2)])
    assert_allclose(target, b, rtol=1e-5)
    assert_allclose(made, b, rtol=1e-5)
    assert_allclose(a, np.where(k % 4 == 1, 1, -1) * np.sqrt(b / (1 + k)), rtol=1e-5)
    assert done.err == ""
    assert "K = Σ b_k c^k, φ(z) = Σ a_k h_k(z)" in done.out
    assert list(folder.iterdir()) == [folder / "k.csv"]


def test_nngp_with_biases_is_a_series_in_rho(folder, capsys):
    """exp(c) = e^{1 − q} Σ q^k/k! ρ^k for σ_w = 1, q = 1 + σ_b², as c = qρ − σ_b²; and a_k = √b_k/ω_w."""
    arguments = ["--kind", "nngp", "--input-b-std", "0.5", "--readout-w-std", "2", "--signs", "plus"]
    assert call("design", "exponential", "--set", "rate=1", *arguments) == 0
    out = capsys.readouterr().out
    k, target, _, a = table(out).T
    q = 1.25
    b = math.exp(1 - q) * q**k / np.array([math.factorial(int(n)) for n in k])
    assert_allclose(target, b, rtol=1e-5)
    assert_allclose(a, np.sqrt(b) / 2, rtol=1e-5)
    assert "ρ = (σ_w² c + σ_b²)/q" in words(out)
    first, sums = tail(out)
    assert first == k[-1] + 1
    assert_allclose(sums, math.e - b.sum(), rtol=1e-3)


def test_a_truncated_design_shows_what_is_left_out(folder, capsys):
    assert call("design", "1/(2-c)", "--degree", "3") == 0
    out = capsys.readouterr().out
    k, target, made, a = table(out).T
    assert_allclose(target, 0.5 ** (k + 1), rtol=1e-5)
    assert_array_equal(made[4:], 0)
    assert_array_equal(a[4:], 0)
    first, sums = tail(out)
    assert first == 12
    assert_allclose(sums[0], 0.5**12, rtol=1e-5)
    assert "largest error" in out
    assert "--degree all sums the whole series" in words(out)


def test_a_list_of_signs_sets_the_degree(folder, capsys):
    assert call("design", "1/(2-c)", "--signs", "-+-") == 0
    a = table(capsys.readouterr().out)[:4, 3]
    assert_array_equal(np.sign(a), [-1, 1, -1, 0])


def test_the_kernel_of_a_network(folder, capsys):
    """The design for a network's NNGP kernel as its NTK; defaults are σ_w = √2 and σ_b = 0.1."""
    arguments = ["--net", "erf", "--set", "b=0.5", "--depth", "2", "--target-kind", "nngp", "--degree", "4"]
    assert call("design", *arguments) == 0
    k, target, *_ = table(capsys.readouterr().out).T
    net = nk.FCN(nk.activation("erf", b=0.5), depth=2, w_std=2**0.5, b_std=0.1)
    assert_allclose(target, np.asarray(net.kernel("nngp").taylor(11))[k.astype(int)], rtol=1e-5)


def test_samples(folder, capsys):
    assert call("design", "--samples", "k.csv", "--noise", "1e-6") == 0
    out = capsys.readouterr().out
    k, target, *_ = table(out).T
    assert_allclose(target, [1 / math.factorial(int(n)) for n in k], rtol=1e-4)
    assert "noise 1e-06" in out
    assert "MORE THAN" not in out


def test_projection_is_said(folder, capsys):
    assert call("design", "c - 0.2*c**3", "--project") == 0
    out = capsys.readouterr().out
    assert_allclose(table(out)[:, :3], [[1, 1, 0.85], [3, -0.2, 0]], rtol=1e-12, atol=1e-12)
    assert "positive-definite kernels: 3.536e-02 away" in words(out)


def test_verification_is_printed(folder, capsys):
    assert call("design", "c**3", "--verify", "--width", "256", "--members", "5", "--seed", "3") == 0
    found = nk.reverse_engineer("c**3").verify(256, 5, 3)
    text = words(capsys.readouterr().out)
    assert f"5 networks of width 256, seed 3: the mean kernel is {found.z_score:+.2f} standard errors" in text
    assert f"{found.within:.0%} of the angles within 3 standard errors" in text


def test_a_fit(folder, capsys):
    arguments = ["--net", "relu", "--depth", "2", "--family", "relu_cos", "--starts", "1", "--store", "runs"]
    assert call("design", *arguments) == 0
    out = capsys.readouterr().out
    record = Store("runs").read(next(folder.glob("runs/*.h5")))
    results = record.results["design"]
    assert results["family"] == "relu_cos"
    phi = nk.activation("relu_cos", **results["parameters"])
    assert_allclose(record.variables["activation"].values, phi(record.variables["z"].values))
    k, _, made, a = table(out).T
    assert_allclose(a, phi.hermite(11)[k.astype(int)], rtol=2e-5, atol=1e-9)
    assert_allclose(made, (1 + k) * a**2, rtol=5e-5)
    target = nk.FCN("relu", depth=2, w_std=2**0.5, b_std=0.1).kernel("ntk")
    assert results["max_error"] < 0.05 * target(1.0)


# --- what is written -------------------------------------------------------------------------------------------


def test_export_without_a_file_leaves_stdout_to_the_source(folder, capsys):
    assert call("design", "c**2 + c", "--export", "numpy") == 0
    done = capsys.readouterr()
    assert done.out == nk.reverse_engineer("c**2 + c").export("numpy")
    assert "b_k of the target" in done.err


def test_export_to_a_file(folder, capsys):
    assert call("design", "c**2 + c", "--export", "json", "-o", "d.json") == 0
    assert json.loads((folder / "d.json").read_text())["activation"]["name"] == "hermite"
    assert "d.json" in capsys.readouterr().out
    assert call("design", "c", "--export", "json", "-o", "d.json") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert call("design", "c", "--export", "json", "-o", "d.json", "--overwrite") == 0
    found = json.loads((folder / "d.json").read_text())["activation"]["parameters"]["coefficients"]
    assert_allclose(found, [0, 0.5**0.5])


def test_a_narrow_kernel_is_shown_where_its_terms_are(folder, capsys):
    """exp(−500(1 − c)) has the coefficients of a Poisson distribution of mean 500."""
    assert call("design", "exp(-500*(1-c))", "--degree", "700") == 0
    out = capsys.readouterr().out
    rows = [line.strip("│").split("│") for line in out.splitlines() if line.startswith("│")]
    k = np.array([int(row[0]) for row in rows[:-1]])
    assert_array_equal(k, np.arange(494, 506))
    b = [math.exp(n * math.log(500) - 500 - math.lgamma(n + 1)) for n in k]
    assert_allclose([float(row[1]) for row in rows[:-1]], b, rtol=1e-5)
    assert rows[-1][0].strip() == "others"
    assert_allclose([float(cell) for cell in rows[-1][1:3]], 1 - sum(b), rtol=1e-5)


def test_record_and_figures(folder, capsys):
    arguments = [
        "--verify",
        "--width",
        "64",
        "--members",
        "3",
        "--store",
        "runs",
        "--figure",
        "out/f.svg",
        "--lift",
    ]
    (folder / "out").mkdir()
    assert call("design", "gaussian", "--set", "gamma=0.5", *arguments) == 0
    record = Store("runs").read(next(folder.glob("runs/*.h5")))
    assert record.kind == "design"
    assert record.config["target"]["parameters"] == {"gamma": 0.5}
    v, theta = record.variables, record.variables["angle"].values
    assert_allclose(v["target_kernel"].values, np.exp(np.cos(theta) - 1), rtol=1e-13)
    assert_allclose(v["designed_kernel"].values, v["target_kernel"].values, rtol=0, atol=1e-12)
    assert v["empirical_kernel"].dims == ("check_member", "check_angle")
    assert record.results["check"]["members"] == 3
    assert record.config["radial_lift"]
    assert (folder / "out" / "f.svg").stat().st_size > 10_000
    assert len(list(folder.glob("runs/*.png"))) == 1
    assert "out/f.svg" in capsys.readouterr().out


def test_outcome_has_the_coefficients_of_all_terms():
    """Of a table as of a series: b_k of the design are those of the target to the table's accuracy."""
    found = run(Plan(Target("laplace"), degree="all"))
    assert found.record.results["design"]["limit"]["exponent"] == 1.25
    known = found.coefficients
    assert known.design.shape == known.target.shape == known.hermite.shape == (401,)
    assert_allclose(known.design[:30], known.target[:30], rtol=1e-5)
    assert_allclose((1 + np.arange(401)) * known.hermite**2, known.target, rtol=1e-12)


def test_coefficients_of_a_target_without_a_series():
    design = nk.reverse_engineer("abs(c)", project=True, degree=6)
    found = coefficients(design)
    assert found.target is None
    assert_allclose(found.design.sum() + found.design_tail, design.kernel(1.0), rtol=1e-13)


# --- wrong input -----------------------------------------------------------------------------------------------

WRONG = [
    (["gausian"], "unknown kernel 'gausian'. Did you mean 'gaussian'?"),
    (["sinh(2*c"], "never closed"),
    (["1/(1-c)"], "no finite real value at c = 1"),
    (["log(c)"], "no finite real value"),
    (["c - 0.2*c**3"], "degree 3 of its power series in c is -0.2"),
    (["c - 0.2*c**3"], "--project designs for the nearest"),
    (["abs(c)"], "not analytic"),
    (["0*c"], "0 everywhere"),
    (["c", "--signs", "smoth"], "'smooth', 'paper'"),
    (["c", "--degree", "3", "--signs", "++"], "one sign ±1 for each degree 0..3"),
    (["c", "--degree", "-1"], "--degree is '-1'; it must be a whole number of at least 0, all or auto"),
    (["c", "--degree", "2.5"], "--degree is '2.5'"),
    (["c", "--degree", "99999"], "--degree all sums the whole series"),
    (["c", "--degree", "all", "--signs", "plus"], "only the paper's signs"),
    (["laplace", "--kind", "nngp", "--degree", "all"], "take --kind ntk"),
    (["c", "--family", "relu9"], "unknown activation 'relu9'"),
    (["c", "--family", "relu"], "relu"),
    (["c", "--family", "relu_cos", "--degree", "3"], "--family fits instead"),
    (["c", "--size", "3"], "--size belongs to --family"),
    (["c", "--starts", "3"], "--starts belongs to --family"),
    (["c", "--members", "3"], "--members belongs to --verify"),
    (["c", "--width", "3"], "--width belongs to --verify"),
    (["c", "--verify", "--members", "1"], "--members"),
    (["c", "--verify", "--width", "1000000000000"], "GiB"),
    (["c", "--depth", "3"], "--depth belongs to --net"),
    (["c", "--target-kind", "ntk"], "--target-kind belongs to --net"),
    (["c", "--noise", "1"], "--noise belongs to --samples"),
    (["c", "--net", "relu"], "a formula and --net both say what the kernel is"),
    (["--net", "rellu"], "Did you mean 'relu'?"),
    (["--net", "relu", "--w-std", "nan"], "Error: --w-std is nan"),
    (["--net", "exp"], "infinite"),
    (["c", "--input-w-std", "0"], "--input-w-std"),
    (["c", "--input-w-std", "nan"], "Error: --input-w-std is nan"),
    (["c", "--readout-b-std", "1"], "Error: --readout-b-std is 1, whose square exceeds"),
    (["c", "--readout-b-std", "1"], "choose --readout-b-std of at most 0"),
    (
        ["--samples", "k.csv", "--noise", "-1"],
        "Error: --noise is -1.0; it must be a standard deviation above 0; leave it out",
    ),
    (["exp(sigma*c)"], "give sigma=..."),
    (["--net", "relu", "--input-b-std", "0.2", "--degree", "4"], "--input-b-std/--input-w-std is 0.2/1"),
    (["--net", "relu", "--input-b-std", "0.2", "--degree", "4"], "relu (w_std=1.41421, b_std=0.1)'"),
    (
        ["--net", "relu", "--input-b-std", "0.2", "--degree", "4"],
        "(--input-b-std 0 always serves), or a network with larger --b-std",
    ),
    (["abs(c)"], "--project of ntkengine design takes the nearest kernel"),
    (["c*1e-200"], "divide the kernel by its size, that is, write (...)/size in the formula"),
    (["c", "--signs", "foo"], "'concentrated', or 2 signs in a row as in ++--"),
    (["c", "--signs", "-"], "no term up to degree 0, where --signs ends the series: give more signs"),
    (["c", "--w-std", "3"], "--w-std belongs to --net: give that too, or --input-w-std for the new network"),
    (["c**"], "ends after character 3, where a number, a name or a bracket must follow: c** -->"),
    (["c+*2"], "cannot be read from character 3 on: c+ --> *2"),
    (["c + c^2"], "powers are written **: c + c --> ^2"),
    ([""], "write one such as 'exp(c) + 0.5*c**2'"),
    (["sin(c)/c"], "where only the limit is finite, as that of sin(c)/c at 0, write its power series"),
    (["a*c"], "give a=..."),
    (["a*c", "--set", "a=nan"], "is nan"),
    (["a*c", "--set", "a"], "--set is 'a'"),
    (["a*c", "--set", "a=1", "--set", "a=2"], "--set a is given twice"),
    (["gaussian", "--set", "gamma=-1"], "gamma"),
    (["--samples", "holes.csv"], "leave out the angles from 0.99"),
    (["--samples", "nan.csv"], "line 3: found 'nan'"),
    (["--samples", "none.csv"], "does not exist"),
    (["--samples", "k.csv", "--set", "a=1"], "samples have no parameters"),
    (["c", "--export", "torch", "-o", "nowhere/a.py"], "no folder 'nowhere'"),
    (["c", "--export", "torch", "-o", "/proc/a.py"], "cannot write '/proc/a.py'"),
    (["c", "--export", "torch", "-o", "k.csv"], "'k.csv' exists"),
    (["c", "--export", "c"], "--export"),
    (["c", "-o", "a.py"], "give that too"),
    (["c", "--overwrite"], "--overwrite belongs to -o"),
    (["c", "--figure", "a.bmp"], "must end in"),
    (["c", "--figure", "k.csv/a.png"], "cannot write the figure"),
    (["c", "--figure", "nowhere/a.png"], "there is no folder 'nowhere'; make it"),
    (["c", "--store", "k.csv"], "is a file"),
    (["c", "--nonsense"], "--nonsense"),
]


@pytest.mark.parametrize(
    ("arguments", "text"), WRONG, ids=lambda value: None if isinstance(value, str) else " ".join(value)
)
def test_wrong_input_is_one_line_and_leaves_nothing(arguments, text, folder, capsys):
    rows = [f"{math.cos(t)},{math.cos(t)}\n" for t in THETA if not 1 < t < 2]
    (folder / "holes.csv").write_text("c,K\n" + "".join(rows))
    (folder / "nan.csv").write_text("c,K\n1,2\n0.5,nan\n0,1\n")
    before = sorted(folder.rglob("*"))
    outputs = (
        [] if {"--store", "--figure"} & set(arguments) else ["--store", "new/runs", "--figure", "new/f.png"]
    )
    assert call("design", *arguments, *outputs) == 2
    done = capsys.readouterr()
    assert text in done.err
    assert done.err.startswith("Error: ")
    assert len(done.err.strip().splitlines()) == 1
    assert done.out == ""
    assert sorted(folder.rglob("*")) == before


def test_an_existing_empty_folder_stays(folder, capsys):
    (folder / "runs").mkdir()
    assert call("design", "c - c**2", "--store", "runs") == 2
    assert (folder / "runs").is_dir()


def test_ctrl_c_leaves_nothing(folder, monkeypatch, capsys):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("ntkengine.design.verify.verify", interrupt)
    assert call("design", "c", "--verify", "--store", "runs", "--export", "json", "-o", "a.json") == 130
    assert "nothing was written" in capsys.readouterr().err
    assert list(folder.iterdir()) == [folder / "k.csv"]


def test_odd_names_neither_break_nor_bend_what_is_printed(folder, capsys):
    (folder / "a$b^$[red]c.csv").write_text((folder / "k.csv").read_text())
    (folder / "f[").mkdir()
    assert call("design", "--samples", "a$b^$[red]c.csv", "--figure", "f[/b].png") == 0
    out = capsys.readouterr().out
    assert "samples of a$b^$[red]c.csv" in out
    assert (folder / "f[/b].png").is_file()


def test_from_the_shell(folder):
    """No traceback, a source that is whole, and the table beside it."""
    code = "from ntkengine.cli import main; main()"
    arguments = ["design", "c**3 + c", "--export", "json"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["target"] == "c**3 + c"
    assert "E[φ²]" in done.stderr


def test_help_is_shown_without_arguments(folder, capsys):
    assert call("design") == 0
    out = capsys.readouterr().out
    for option in (
        "--samples",
        "--net",
        "--signs",
        "--project",
        "--family",
        "--verify",
        "--export",
        "--figure",
    ):
        assert option in out


# --- kernel describe -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "kernel"),
    [
        (["sinh(2*c)"], lambda: nk.kernel("sinh(2*c)")),
        (["laplace", "--set", "length=0.5"], lambda: nk.kernel("laplace", length=0.5)),
        (["--net", "relu", "--depth", "2", "--kind", "nngp", "--w-std", "1", "--b-std", "0"],
         lambda: nk.FCN("relu", depth=2).kernel("nngp")),
    ],
)  # fmt: skip
def test_describe(arguments, kernel, folder, capsys):
    assert call("kernel", "describe", *arguments) == 0
    assert capsys.readouterr().out == f"{kernel().describe()}\n"


def test_describe_samples_to_a_degree(folder, capsys):
    assert call("kernel", "describe", "--samples", "k.csv", "--degree", "30") == 0
    out = capsys.readouterr().out
    assert out.startswith("kernel samples of k.csv\npositive definite   yes")
    assert "above degree 30" in out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["1/(1-c)"], "no finite real value"),
        (["c", "--kind", "ntk"], "--kind belongs to --net"),
        (["c", "--samples", "k.csv"], "both say"),
        (["c", "--degree", "-1"], "--degree"),
        (["--set", "a=1"], "say what the kernel is"),
    ],
)
def test_describe_refuses(arguments, text, folder, capsys):
    assert call("kernel", "describe", *arguments) == 2
    done = capsys.readouterr()
    assert text in done.err
    assert done.out == ""
    assert len(done.err.strip().splitlines()) == 1
