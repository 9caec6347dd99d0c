"""``ntkengine kernel``: tables and Gram files against the kernels themselves, and what wrong input does."""

import csv
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import ntkengine as nk
from ntkengine.cli import main
from ntkengine.errors import InputError, StoreError
from ntkengine.store.publish import Disk, hdf5_file, publishing

ROOT2 = "1.4142135623730951"
ROWS = np.random.default_rng(5).normal(size=(23, 3)) * [1.0, 5.0, 0.1] + [0.0, 2.0, 1.0]
KINDS = ["x", "y", "z"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to work in, with a table of numbers ``d.csv``: an id, three features and a text."""
    lines = ["id,a,b,c,kind"] + [
        f"{i},{','.join(map(repr, map(float, row)))},{KINDS[i % 3]}" for i, row in enumerate(ROWS)
    ]
    (tmp_path / "d.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments):
    """Exit code of a command in this process."""
    with pytest.raises(SystemExit) as stop:
        main(["kernel", *arguments])
    return stop.value.code


def command(*arguments, cwd, code="from ntkengine.cli import main; main()"):
    return subprocess.run(
        [sys.executable, "-c", code, "kernel", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )


def table(text):
    """The numbers of a printed table, row by row."""
    lines = [line.strip("│").split("│") for line in text.splitlines() if line.startswith("│")]
    return np.array([[float(cell) for cell in line] for line in lines])


# --- show ------------------------------------------------------------------------------------------------------


def test_show_prints_the_kernels(folder, capsys):
    assert call("show", "--depth", "4", "--w-std", ROOT2, "--b-std", "0.1") == 0
    text = capsys.readouterr().out
    c, angle, nngp, ntk = table(text).T
    net = nk.FCN("relu", depth=4, w_std=2**0.5, b_std=0.1)
    assert_array_equal(c, np.linspace(-1, 1, 9))
    assert_allclose(angle, np.degrees(np.arccos(c)), atol=5e-5)
    assert_allclose(nngp, net.kernel("nngp")(c), rtol=6e-12)
    assert_allclose(ntk, net.kernel("ntk")(c), rtol=6e-12)
    assert text.startswith("network   4 hidden layers of relu, NTK parameterisation ")
    assert "std       σ_w = 1.41421356, σ_b = 0.1; readout σ_w = 1, σ_b = 0 " in text
    assert "2.01, 2.02, 2.03, 2.04 before the activation of hidden layers 1 to 4" in text
    assert f"NTK {net.kernel('ntk').error:.1e}" in text
    assert list(folder.iterdir()) == [folder / "d.csv"]


def test_show_is_the_arc_cosine_kernel(folder, capsys):
    """One hidden ReLU layer, against the closed form of Cho & Saul 2009 written out here."""
    assert call("show", "--w-std", ROOT2, "--points", "5") == 0
    c, _, nngp, ntk = table(capsys.readouterr().out).T
    theta = np.arccos(c)
    expected = (np.sin(theta) + (math.pi - theta) * c) / math.pi
    assert_allclose(nngp, expected, rtol=1e-11, atol=1e-15)
    # The readout has weight std 1, so the second term is σ_w² c · E[φ'φ'] with E[φ'φ'] = (π − θ)/(2π).
    assert_allclose(ntk, expected + 2 * c * (math.pi - theta) / (2 * math.pi), rtol=1e-11, atol=1e-15)


def test_show_writes_17_digits_and_a_figure(folder, capsys):
    arguments = ["show", "--activation", "sin", "--param", "a=0.5", "--param", "b=6", "--points", "7"]
    arguments += ["--readout-w-std", "2", "--readout-b-std", "0.5", "--csv", "t.csv", "--figure", "out/k.svg"]
    (folder / "out").mkdir()
    assert call(*arguments) == 0
    with open("t.csv", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["c", "angle", "nngp", "ntk"]
    c, angle, nngp, ntk = np.array(rows, dtype=float).T
    net = nk.FCN(nk.activation("sin", a=0.5, b=6.0), readout_w_std=2.0, readout_b_std=0.5)
    assert_array_equal(c, np.linspace(-1, 1, 7))
    assert_array_equal(angle, np.degrees(np.arccos(c)))
    assert_array_equal(nngp, net.kernel("nngp")(c))
    assert_array_equal(ntk, net.kernel("ntk")(c))
    assert (folder / "out" / "k.svg").stat().st_size > 5_000
    text = capsys.readouterr().out
    assert "sin(a=0.5, b=6, c=0)" in text
    assert text.rstrip().endswith("k.svg")


def test_show_takes_formulas_and_array_parameters(folder, capsys):
    assert call("show", "--activation", "max(z-1,0)+a*cos(4*z)", "--param", "a=0.1", "--points", "3") == 0
    c, _, _, ntk = table(capsys.readouterr().out).T
    assert_allclose(ntk, nk.FCN(nk.activation("max(z-1,0)+a*cos(4*z)", a=0.1)).kernel()(c), rtol=6e-12)
    for text, values in (("0,1,0.5", [0, 1, 0.5]), ("2,", [2])):
        arguments = ["--activation", "hermite", "--param", f"coefficients={text}", "--points", "3"]
        assert call("show", *arguments) == 0
        c, _, nngp, _ = table(capsys.readouterr().out).T
        assert_allclose(nngp, np.polynomial.polynomial.polyval(c, np.square(values)), rtol=6e-12)


def test_show_long_list_of_variances_says_that_it_is_cut(folder, capsys):
    assert call("show", "--depth", "30", "--w-std", ROOT2, "--b-std", "0.1", "--points", "2") == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "2.08, …, 2.29, 2.3 before the activation of hidden layers 1 to 30" in words


def test_show_overwrites_a_table_only_when_told(folder, capsys):
    before = (folder / "d.csv").read_text()
    assert call("show", "--csv", "d.csv") == 2
    assert "'d.csv' exists" in capsys.readouterr().err
    assert (folder / "d.csv").read_text() == before
    assert call("show", "--csv", "d.csv", "--overwrite") == 0
    assert (folder / "d.csv").read_text().startswith("c,angle,nngp,ntk\n")


def test_show_fits_80_columns(folder, capsys):
    assert call("show", "--depth", "2", "--points", "8") == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80


# --- gram ------------------------------------------------------------------------------------------------------


def test_gram_end_to_end(folder):
    arguments = ["gram", "d.csv", "-o", "g.h5", "--kind", "both", "--drop", "id", "--target", "kind"]
    done = command(*arguments, "--depth", "2", "--w-std", ROOT2, "--b-std", "0.1", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    net = nk.FCN("relu", depth=2, w_std=2**0.5, b_std=0.1)
    with h5py.File("g.h5") as file:
        assert_array_equal(file["X"], ROWS)
        for name in ("ntk", "nngp"):
            expected = getattr(net, name)(ROWS)
            assert file[name].dtype == np.float64
            assert file[name].chunks is not None
            assert file[name].compression is None
            assert_array_equal(file[name], expected)
            assert f"values from {expected.min():.6g} to {expected.max():.6g}" in done.stdout
            assert f"{name:<9}(23, 23) float64" in done.stdout
        assert file["feature"].asstr()[:].tolist() == ["a", "b", "c"]
        assert file["y"].asstr()[:].tolist() == [KINDS[i % 3] for i in range(23)]
        assert_array_equal(file["row"], np.arange(23))
        assert file.attrs["gram_schema"] == 1
        config = json.loads(file.attrs["config"])
        assert "numba" in json.loads(file.attrs["versions"])
    assert config["source"] == {
        "file": "d.csv",
        "sha256": hashlib.sha256((folder / "d.csv").read_bytes()).hexdigest(),
    }
    expected = {
        "activation": "relu",
        "parameters": {},
        "depth": 2,
        "w_std": 2**0.5,
        "b_std": 0.1,
        "target": "kind",
    }
    assert expected.items() <= config.items()
    assert config["left_out"] == {"left out": ["id"], "without numbers": []}
    assert sorted(p.name for p in folder.iterdir()) == ["d.csv", "g.h5"]


def test_gram_opens_in_xarray(folder):
    xarray = pytest.importorskip("xarray")
    assert call("gram", "d.csv", "-o", "g.h5", "--target", "id", "--drop", "4") == 0
    with xarray.open_dataset("g.h5", engine="h5netcdf") as found:
        assert found["ntk"].dims == ("row", "column")
        assert found["X"].dims == ("row", "feature")
        assert_array_equal(found["y"], np.arange(23.0))


def test_gram_leaves_text_columns_out_and_says_so(folder, capsys):
    assert call("gram", "d.csv", "-o", "g.h5", "--dtype", "float32", "--threads", "1") == 0
    assert "23 rows × 4 features of d.csv; without numbers: kind" in capsys.readouterr().out
    with h5py.File("g.h5") as file:
        assert file["ntk"].dtype == np.float32
        expected = nk.FCN("relu").ntk(np.column_stack([np.arange(23.0), ROWS]))
        assert_array_equal(file["ntk"], expected.astype(np.float32))
        assert set(file) == {"X", "ntk", "row", "column", "feature"}


def test_gram_on_the_sphere_is_the_kernel_of_the_cosine(folder):
    """Independent of the Gram engine: standardised rows on the sphere, K(c) of their cosines."""
    arguments = ["--drop", "id", "--standardize", "--normalize", "--activation", "erf", "--depth", "3"]
    assert call("gram", "d.csv", "-o", "g.h5", *arguments) == 0
    unit = (ROWS - ROWS.mean(axis=0)) / ROWS.std(axis=0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    with h5py.File("g.h5") as file:
        assert_allclose(file["X"], unit * 3**0.5, rtol=1e-12, atol=1e-14)
        # Kahan's angle: the cosine alone would lose half the digits near 1.
        gap = np.linalg.norm(unit[:, None] - unit, axis=2)
        angle = 2 * np.arctan2(gap, np.linalg.norm(unit[:, None] + unit, axis=2))
        assert_allclose(
            file["ntk"], nk.FCN("erf", depth=3).kernel("ntk").at_angle(angle), rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize(
    ("text", "shape", "names"),
    [
        ("1\n2\n3\n", (3, 1), ["x0"]),
        ("height\n1\n2\n", (2, 1), ["height"]),
        ("1;2\n", (1, 2), ["x0", "x1"]),
        ("a b\n1 7\n2 7\n", (2, 2), ["a", "b"]),
    ],
)
def test_gram_small_tables(folder, text, shape, names):
    (folder / "s.csv").write_text(text)
    assert call("gram", "s.csv", "-o", "g.h5", "--standardize") == 0
    with h5py.File("g.h5") as file:
        assert file["X"].shape == shape
        assert file["feature"].asstr()[:].tolist() == names
        assert file["ntk"].shape == (shape[0], shape[0])
        spread = np.std(file["X"], axis=0)
        assert_allclose(spread, [1.0] if shape[1] == 1 else np.zeros(2) if shape[0] == 1 else [1.0, 0.0])


def test_gram_header_can_be_told(folder):
    (folder / "s.csv").write_text("1,b\n2,3\n4,5\n")
    assert call("gram", "s.csv", "-o", "g.h5") == 2
    assert call("gram", "s.csv", "-o", "g.h5", "--header") == 0
    with h5py.File("g.h5") as file:
        assert_array_equal(file["X"], [[2, 3], [4, 5]])


def test_gram_overwrites_only_when_told(folder, capsys):
    assert call("gram", "d.csv", "-o", "g.h5", "--drop", "id") == 0
    before = (folder / "g.h5").read_bytes()
    assert call("gram", "d.csv", "-o", "g.h5", "--kind", "nngp") == 2
    assert "'g.h5' exists" in capsys.readouterr().err
    assert (folder / "g.h5").read_bytes() == before
    assert call("gram", "d.csv", "-o", "g.h5", "--kind", "nngp", "--overwrite") == 0
    with h5py.File("g.h5") as file:
        assert "ntk" not in file


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OSError(28, "No space left on device"), 2, "No space left"),
        (MemoryError(), 2, "out of memory"),
        (KeyboardInterrupt(), 130, "nothing was written"),
        (InputError("the variance is inf"), 2, "the variance is inf"),
    ],
)
@pytest.mark.parametrize("exists", [False, True])
def test_gram_leaves_nothing_of_a_failure(folder, monkeypatch, capsys, error, code, words, exists):
    def fail(self, X, out, **options):
        out[:2] = np.ones((2, len(X)))
        raise error

    if exists:
        (folder / "g.h5").write_bytes(b"earlier")
    monkeypatch.setattr(nk.FCN, "ntk", fail)
    assert call("gram", "d.csv", "-o", "g.h5", "--overwrite") == code
    done = capsys.readouterr()
    assert words in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert done.out == ""
    assert sorted(p.name for p in folder.iterdir()) == ["d.csv", "g.h5"][: 1 + exists]
    if exists:
        assert (folder / "g.h5").read_bytes() == b"earlier"


def test_gram_killed_leaves_no_file_of_its_name(folder):
    code = """
import os, signal
from ntkengine.cli import main
from ntkengine.infinite.fcn import FCN
def ntk(self, X, out, **options):
    out[:] = 1.0
    os.kill(os.getpid(), signal.SIGKILL)
FCN.ntk = ntk
main()
"""
    done = command("gram", "d.csv", "-o", "g.h5", cwd=folder, code=code)
    assert done.returncode == -signal.SIGKILL
    assert not (folder / "g.h5").exists()
    (left,) = folder.glob(".g.h5.*.tmp")
    os.utime(left, (0, 0))
    assert call("gram", "d.csv", "-o", "g.h5") == 0
    assert sorted(p.name for p in folder.iterdir()) == ["d.csv", "g.h5"]


@pytest.mark.parametrize("kilobytes", [1, 6, 36])
def test_gram_full_disk_is_one_line(folder, kilobytes):
    """A real failure of the writes below HDF5, at several depths of the file, up to the end of the process."""
    code = f"""
import resource
from ntkengine.cli import main
from ntkengine.cli import kernel
import ntkengine.experiments.gram as gram
original = gram._put_inputs
def limited(*arguments):
    resource.setrlimit(resource.RLIMIT_FSIZE, ({kilobytes} * 1024, resource.RLIM_INFINITY))
    original(*arguments)
gram._put_inputs = limited
main()
"""
    (folder / "long.csv").write_text("\n".join(map(str, range(1, 100))))
    done = command("gram", "long.csv", "-o", "g.h5", cwd=folder, code=code)
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert done.stderr == (
        "Error: cannot write 'g.h5': File too large; free some space or choose another path\n"
    )
    assert sorted(p.name for p in folder.iterdir()) == ["d.csv", "long.csv"]


def test_gram_too_large_for_the_disk_is_refused_before_it_starts(folder, monkeypatch, capsys):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1))
    assert call("gram", "d.csv", "-o", "g.h5") == 2
    assert "needs 4.23e-06 GB, and 1e-09 GB are free there" in capsys.readouterr().err


# --- wrong input ------------------------------------------------------------------------------------------------

FILES = {
    "text.csv": "a,b,y\n1,2,3\n1,oops,3\n3,4,3\n",
    "nan.csv": "a,b\n1,2\n1,nan\n",
    "hole.csv": "a,b\n1,2\n,4\n",
    "empty.csv": "",
    "blank.csv": "\n\n",
    "header.csv": "a,b\n",
    "words.csv": "u,v\nx,y\np,q\n",
    "zero.csv": "a,b\n1,2\n0,0\n",
    "short.csv": "a,b\n1,2\n3\n",
    "late.csv": "a,b\n" + "none,2\n" * 300 + "3,4\n",
    "binary.csv": "a\0b",
    "mixed.csv": "a,y\n1,2\n2,q\n",
    "odd.csv": "1,b\n2,3\n4,5\n",
}
NETWORK = [
    (["--activation", "rellu"], "unknown activation 'rellu'. Did you mean 'relu'?"),
    (["--activation", ""], ""),
    (["--activation", "1 + foo(z)"], "foo"),
    (["--activation", "max(z"], "character"),
    (["--activation", "a*z"], "a=..."),
    (["--activation", "exp(z**2)"], "variance"),
    (["--activation", "sin", "--param", "q=1"], "has no parameter 'q'"),
    (["--activation", "sin", "--param", "a"], "must look like a=2"),
    (["--activation", "sin", "--param", "a="], "must look like a=2"),
    (["--activation", "sin", "--param", "a=two"], "must look like a=2"),
    (["--activation", "sin", "--param", "a=1_0"], "must look like a=2"),
    (["--activation", "sin", "--param", "=1"], "must look like a=2"),
    (["--activation", "sin", "--param", "name=1"], "must look like a=2"),
    (["--activation", "sin", "--param", "a=,"], "must look like a=2"),
    (["--activation", "sin", "--param", "a=nan"], "finite"),
    (["--activation", "sin", "--param", "a=1e999"], "finite"),
    (["--activation", "sin", "--param", "a=1" + "0" * 5000], "finite"),
    (["--activation", "sin", "--param", "a=1,2"], "'a'"),
    (["--activation", "sin", "--param", "a=1", "--param", "a=2"], "given twice"),
    (["--depth", "0"], "--depth"),
    (["--depth", "1.5"], "--depth"),
    (["--w-std", "sqrt(2)"], "--w-std"),
    (["--w-std", "0"], "w_std"),
    (["--w-std", "nan"], "w_std"),
    (["--b-std", "-1"], "b_std"),
    (["--w-std", "1e200"], "variance"),
    (["--nonsense"], "--nonsense"),
]
SHOW = [
    (["--points", "1"], "--points"),
    (["--figure", "a.bmp"], "must end in"),
    (["--figure", "d.csv/a.png"], "cannot write the figure"),
    (["--figure", "nowhere/a.png"], "there is no folder 'nowhere'"),
    (["--csv", "none/t.csv"], "there is no folder 'none'"),
    (["--csv", "."], "a folder; name a file"),
]
GRAM = [
    (["gone.csv"], "'gone.csv' does not exist"),
    (["."], "is a folder"),
    (["text.csv"], "row 2 (line 3), column 'b': found 'oops'"),
    (["nan.csv"], "row 2 (line 3), column 'b': found 'nan'"),
    (["hole.csv"], "row 2 (line 3), column 'a': found ''"),
    (["empty.csv"], "is empty"),
    (["blank.csv"], "is empty"),
    (["header.csv"], "no row of data"),
    (["words.csv"], "no column of numbers"),
    (["zero.csv", "--normalize"], "row 2"),
    (["short.csv"], "line 3"),
    (["late.csv"], "column 'a': found 'none'"),
    (["binary.csv"], "not a text file"),
    (["mixed.csv", "--target", "y"], "target column 'y': found 'q'"),
    (["odd.csv"], "--no-header"),
    (["text.csv", "--drop", "w"], "unknown --drop column 'w'"),
    (["text.csv", "--drop", "3"], "--drop is column 3; there are 3"),
    (["text.csv", "--target", "w"], "unknown --target column 'w'"),
    (["text.csv", "--target", "y", "--drop", "2"], "both --drop and --target"),
    (["text.csv", "--kind", "gp"], "--kind"),
    (["text.csv", "--dtype", "int8"], "--dtype"),
    (["text.csv", "--threads", "0"], "--threads"),
    (["d.csv", "-o", "none/g.h5"], "there is no folder 'none'"),
    (["d.csv", "-o", "."], "a folder; name a file"),
    (["d.csv", "-o", "d.csv", "--overwrite"], "names the data file"),
    (["d.csv", "-o", "/dev/null", "--overwrite"], "not a regular file"),
    (["d.csv", "-o", "/proc/g.h5"], "/proc/g.h5"),
    ([], "DATA.CSV"),
]
CASES = [(["show", *given], words) for given, words in NETWORK + SHOW]
CASES += [(["gram", "d.csv", "-o", "g.h5", *given], words) for given, words in NETWORK]
CASES += [(["gram", "-o", "g.h5", *given], words) for given, words in GRAM]
CASES += [(["gram", "d.csv"], "'-o'"), (["grams"], "grams")]


@pytest.mark.parametrize(("arguments", "words"), CASES)
def test_wrong_input_is_one_line_and_code_2(folder, capsys, arguments, words):
    for name, text in FILES.items():
        (folder / name).write_text(text)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert call(*arguments) == 2
    done = capsys.readouterr()
    assert done.err.startswith("Error: ")
    assert words in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert done.out == ""
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


# --- files -------------------------------------------------------------------------------------------------------


def test_publishing_a_name_that_was_taken_meanwhile(tmp_path):
    path = tmp_path / "a"

    def race():
        with publishing(path, overwrite=False) as temporary:
            temporary.write_text("ours")
            path.write_text("theirs")

    with pytest.raises(InputError, match="exists"):
        race()
    assert path.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_publishing_passes_store_errors_on(tmp_path):
    with pytest.raises(StoreError, match="own words"), publishing(tmp_path / "a", overwrite=True):
        raise StoreError("own words")


def test_disk_keeps_the_first_error_and_swallows_the_rest(tmp_path):
    class Full:
        def __init__(self, file):
            self.file, self.left = file, 4096

        def write(self, data):
            if len(data) > self.left:
                raise OSError(28, "No space left on device")
            self.left -= len(data)
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

    with open(tmp_path / "raw", "xb+", buffering=0) as raw:
        disk = Disk(Full(raw))
        with h5py.File(disk, "w") as file:
            file.create_dataset("x", data=np.ones(10_000))
        with pytest.raises(OSError, match="No space"):
            disk.check()
        assert disk.write(b"abc") == 3
    with pytest.raises(OSError, match="No space"), hdf5_file(tmp_path / "b.h5") as (_, disk):
        disk.error = OSError(28, "No space left on device")
