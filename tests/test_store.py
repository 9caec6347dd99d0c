"""The store: what is written is read back to the bit, through kills, full disks, damage and many writers."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ntkengine.errors import InputError, StoreError
from ntkengine.store import Header, Run, Store, Variable, format, migrations
from ntkengine.store.run import plain_json

ROOT = Path(__file__).parents[1]


def example_run(kind: str = "shallowify", seed: int = 0) -> Run:
    """Coordinates, a bare dimension, every kind of dtype, a compressed array, NaN and a wide seed."""
    rng = np.random.default_rng(seed)
    loss = rng.standard_normal((3, 2, 4))
    loss[1, 1, 1], loss[2, 0, 0] = np.nan, -np.inf
    variables = {
        "epoch": Variable(("epoch",), np.array([0, 10, 20]), doc="training epoch"),
        "net": Variable(("net",), ["4HL ReLU", "φ of (13)"]),
        "loss": Variable(("epoch", "net", "member"), loss, "1", "training loss"),
        "seconds": Variable(("epoch",), rng.random(3).astype("f4"), units="s"),
        "diverged": Variable(("member",), [False, True, False, False]),
        "best": Variable((), -0.0),
        "note": Variable((), "ü"),
        "gram": Variable(("row", "column"), rng.standard_normal((96, 96)).round(2)),
    }
    config = {"seed": 2**127 + seed, "lr": 0.1, "widths": [64, 128], "nested": {"depth": None, "lift": True}}
    return Run.new(kind, config, variables, {"final": {"train": 0.25}})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def left_over(store: Store) -> list[str]:
    return [name for name in os.listdir(store.path) if name.endswith(".tmp")]


# --- runs in memory -----------------------------------------------------------------------------------------


def test_new_run_says_where_and_when_it_was_made():
    run = Run.new("demo", {})
    assert run.id.endswith(tuple("0123456789abcdef"))
    assert run.id[:8] == run.created[:10].replace("-", "")
    assert run.created.endswith("+00:00")
    assert set(run.versions) == {"python", "ntkengine", "numba", "numpy", "scipy", "h5py"}
    assert run.versions["numpy"] == np.__version__
    assert run.device["cores"] >= 1
    assert run.device["cpu"]


def test_ids_follow_creation_even_when_the_clock_stands_still(monkeypatch):
    from ntkengine.store import run as module

    class Stopped(module.datetime):
        @classmethod
        def now(cls, tz=None):
            return module.datetime(2030, 1, 1, tzinfo=tz)

    ids: list[str] = [Run.new("demo", {}).id for _ in range(50)]
    monkeypatch.setattr(module, "_last_moment", module._last_moment)
    monkeypatch.setattr(module, "datetime", Stopped)
    ids += [Run.new("demo", {}).id for _ in range(50)]
    assert ids == sorted(ids)
    assert len({text.split("-")[0] for text in ids}) == 100


@pytest.mark.parametrize("kind", ["", "a/b", "..", "-a", "a b", "x" * 65, 3, "a\n"])
def test_kind_is_part_of_a_file_name(kind):
    with pytest.raises(InputError, match="kind"):
        Run.new(kind, {})


@pytest.mark.parametrize(
    ("dims", "values", "said"),
    [
        (("x",), np.zeros((2, 2)), r"1 axes.*\(2, 2\)"),
        (("x", "x"), np.zeros((2, 2)), "twice"),
        (("a/b",), [1.0], "'a/b'"),
        (("_x",), [1.0], "'_x'"),
        (("x",), np.array([1j]), "complex128"),
        (("x",), np.array(["2020-01-01"], "M8[D]"), "datetime64"),
        (("x",), np.array([None, 1], object), "NoneType"),
        (("x",), ["a", 1], "int"),
        (("x",), ["a\0"], "NUL"),
        (("x",), ["\ud800"], "surrogate"),
        (("x",), np.ma.masked_equal([1, 2], 1), "mask"),
        (("x", "y"), [[1], [2, 3]], "do not form an array"),
        (("x",), np.zeros(1, np.longdouble), "allowed"),
    ],
)
def test_variables_that_hdf5_could_not_keep_are_refused(dims, values, said):
    with pytest.raises(InputError, match=said):
        Variable(dims, values)


def test_dimension_sizes_must_agree():
    run = Run.new("demo", {}, {"a": Variable(("t",), [1, 2]), "b": Variable(("u", "t"), np.zeros((2, 3)))})
    with pytest.raises(InputError, match=r"'b' has size 3 along 't', but 'a' has 2"):
        run.validate()


def test_a_dimensions_name_belongs_to_its_coordinate():
    run = Run.new("demo", {}, {"t": Variable(("u",), [1, 2]), "b": Variable(("t",), [1.0])})
    with pytest.raises(InputError, match=r"'t' has the name of a dimension"):
        run.validate()


@pytest.mark.parametrize(
    "change",
    [{"kind": "a/b"}, {"id": "../x"}, {"status": "done"}, {"schema": 2}, {"config": [1]}, {"created": "\0"}],
)
def test_a_run_that_is_not_valid_is_not_written(store, change):
    with pytest.raises(InputError, match=next(iter(change))):
        store.write(replace(example_run(), **change))
    assert not store.path.exists()


def test_variables_are_equal_when_their_bits_are():
    a = Variable(("x",), [0.0, np.nan])
    assert a == Variable(("x",), [0.0, np.nan])
    assert a != Variable(("x",), [-0.0, np.nan])
    assert a != Variable(("x",), np.array([0.0, np.nan], "f4"))
    assert a != Variable(("y",), [0.0, np.nan])
    assert Variable(("x",), np.array([1, 2], ">i4")) == Variable(("x",), np.array([1, 2], "<i4"))


def test_json_is_plain_and_strict():
    given_ = {
        "a": np.float32(0.5),
        "b": (np.int8(3), np.array([[1.0, np.nan], [np.inf, -np.inf]])),
        "c": np.True_,
    }
    plain = plain_json(given_)
    assert plain == {"a": 0.5, "b": [3, [[1.0, "NaN"], ["Infinity", "-Infinity"]]], "c": True}
    assert [type(v) for v in (plain["a"], plain["b"][0], plain["c"])] == [float, int, bool]
    json.dumps(plain, allow_nan=False)
    assert float(plain["b"][1][1][1]) == -np.inf


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": {1: 2}}, r"config\['a'\] has the key 1"),
        ({"a": [0, Path("x")]}, r"config\['a'\]\[1\] is .*Path"),
        ({"a": 1j}, "complex"),
        ({"a": b"x"}, "bytes"),
        ({"a": 10**5000}, "bits"),
    ],
)
def test_json_names_the_place_of_what_it_cannot_hold(value, said):
    with pytest.raises(InputError, match=said):
        plain_json(value, "config")


def test_json_that_contains_itself_is_refused():
    knot: dict = {}
    knot["a"] = [knot]
    with pytest.raises(InputError, match="nested"):
        plain_json(knot)


# --- round trips --------------------------------------------------------------------------------------------


def test_round_trip(store):
    run = example_run()
    path = store.write(run)
    assert path == store.path_of(run.id)
    assert store.read(run.id) == store.read(path) == run
    assert list(store.read(run.id).variables) == list(run.variables)
    assert store.ids() == [run.id]
    assert run.id in store
    assert len(store) == 1
    assert left_over(store) == []


@pytest.mark.parametrize("size", [1_000_000, 70_000])
def test_json_beyond_the_limit_of_hdf5_attributes(store, size):
    run = example_run()
    run.config["text"] = "".join(random.Random(size).choices('abé"\\\n\0', k=size))
    run.results["curve"] = list(range(20_000))
    store.write(run)
    assert store.read(run.id) == run


def test_undecodable_file_names_survive(store):
    run = Run.new("demo", {"path": os.fsdecode(b"/data/\xff.csv"), "nul": "a\0b"})
    store.write(run)
    assert store.read(run.id) == run


def test_json_beyond_the_size_limit_is_refused(store, monkeypatch):
    run = Run.new("demo", {"text": "x" * 5000})
    store.write(run)
    monkeypatch.setattr(format, "MAX_JSON", 4000)
    with pytest.raises(StoreError, match="longer than"):
        store.read(run.id)
    with pytest.raises(InputError, match=r"config is .* of JSON"):
        store.write(Run.new("demo", {"text": "x" * 5000}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
DTYPES = st.sampled_from(
    ["f2", "f4", "f8", ">f8", "i1", "i2", "i4", "i8", ">i4", "u1", "u2", "u4", "u8", "?"]
)


@st.composite
def runs(draw) -> Run:
    sizes = draw(
        st.dictionaries(st.sampled_from(["t", "net", "angle_2", "Θ"]), st.integers(0, 3), max_size=4)
    )
    variables = {}
    for name in draw(st.lists(st.sampled_from(["a", "K", "loss", "λ"]), unique=True)):
        dims = tuple(draw(st.permutations(sorted(sizes)))[: draw(st.integers(0, len(sizes)))])
        elements = {"dtype": draw(DTYPES)} if draw(st.booleans()) else {"dtype": object, "elements": TEXT}
        values = draw(hnp.arrays(shape=tuple(sizes[d] for d in dims), **elements))
        variables[name] = Variable(dims, values, draw(TEXT), draw(TEXT))
    for dim in draw(st.sets(st.sampled_from(sorted(sizes)))) if sizes else ():
        variables[dim] = Variable((dim,), draw(hnp.arrays(draw(DTYPES), (sizes[dim],))))
    config = draw(st.dictionaries(st.text(), JSON, max_size=3))
    return Run.new(
        "demo", config, variables, {"r": draw(JSON)}, draw(st.sampled_from(["complete", "interrupted"]))
    )


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(run=runs())
def test_any_run_round_trips(run, tmp_path_factory):
    store = Store(tmp_path_factory.getbasetemp() / "hypothesis")
    store.write(run)
    assert store.read(run.id) == run
    header = next(h for h in store.scan().runs if h.id == run.id)
    assert {n: (v.dims, v.shape) for n, v in header.variables.items()} == {
        n: (v.dims, v.values.shape) for n, v in run.variables.items()
    }
    os.unlink(store.path_of(run.id))


# --- what other tools see -----------------------------------------------------------------------------------


def test_xarray_opens_a_run_without_a_warning(store):
    import xarray

    run = example_run()
    run.config["text"] = "x" * 1_000_000
    run.variables["nothing"] = Variable(("empty", "epoch"), np.zeros((0, 3)))
    with xarray.open_dataset(store.write(run), engine="h5netcdf") as data:
        data.load()
        assert set(data.coords) == {"epoch", "net"}
        assert dict(data.sizes) == {"epoch": 3, "net": 2, "member": 4, "row": 96, "column": 96, "empty": 0}
        assert data["loss"].dims == ("epoch", "net", "member")
        np.testing.assert_array_equal(
            data["loss"].sel(epoch=20, net="φ of (13)"), run.variables["loss"].values[2, 1]
        )
        np.testing.assert_array_equal(data["gram"], run.variables["gram"].values)
        assert data["diverged"].dtype == bool
        assert data["diverged"].values.tolist() == [False, True, False, False]
        assert data["seconds"].attrs["units"] == "s"
        assert data["seconds"].dtype == np.float32
        assert data["loss"].attrs["long_name"] == "training loss"
        assert str(data["note"].values) == "ü"
        assert json.loads(data.attrs["config"]) == run.config
        assert data.attrs["schema"] == 1


def test_plain_h5py_sees_scales_compression_and_json(store):
    run = example_run()
    with h5py.File(store.write(run), "r") as file:
        for name, variable in run.variables.items():
            assert [d.label for d in file[name].dims] == list(variable.dims)
            if variable.dims != (name,):
                assert [d[0].name for d in file[name].dims] == [f"/{dim}" for dim in variable.dims]
        assert file["epoch"].is_scale
        assert file["member"].is_scale
        assert (file["gram"].compression, file["gram"].shuffle, file["loss"].compression) == (
            "gzip",
            True,
            None,
        )
        np.testing.assert_array_equal(file["gram"][()], run.variables["gram"].values)
        for name in ("config", "results", "versions", "device"):
            assert json.loads(file.attrs[name]) == getattr(run, name)
        assert (file.attrs["id"], file.attrs["kind"], file.attrs["status"]) == (
            run.id,
            "shallowify",
            "complete",
        )


def test_seal_is_the_sha256_of_all_that_stands_before_it(store):
    content = store.write(example_run()).read_bytes()
    body, _, seal = content.rpartition(b"\nntkengine sha256 ")
    assert seal == hashlib.sha256(body).hexdigest().encode() + b"\n"


def test_a_file_that_other_tools_added_to_is_still_read(store):
    run = example_run()
    path = store.write(run)
    with h5py.File(path, "r+") as file:
        file.attrs["remark"] = "x" * 100_000
    assert store.read(run.id) == run


@pytest.mark.parametrize("name", ["loss", "epoch", "net"])
def test_a_changed_value_is_found_without_the_seal(store, name):
    path = store.write(example_run())
    with h5py.File(path, "r+") as file:
        file[name][0] = file[name][-1]
    with pytest.raises(StoreError, match="values do not have the checksum"):
        store.read(path)
    assert len(store.scan().runs) == 1  # the header is good


def test_a_changed_header_is_found_without_reading_the_arrays(store):
    path = store.write(example_run())
    with h5py.File(path, "r+") as file:
        file.attrs["config"] = file.attrs["config"].replace("0.1", "0.2")
    runs, problems = store.scan()
    assert runs == []
    assert "header does not have the checksum" in str(problems[0])


# --- listing ------------------------------------------------------------------------------------------------


def test_scan_lists_newest_last_and_reports_the_rest(store):
    written = [example_run(seed=i) for i in range(4)]
    for run in (written[2], written[0], written[3], written[1]):
        store.write(run)
    (store.path / "notes.h5").write_text("not HDF5")
    (store.path / ".hidden.h5").write_text("")
    (store.path / "readme.txt").write_text("")
    store.path_of(written[1].id).write_bytes(b"")
    runs, problems = store.scan()
    assert [h.id for h in runs] == [written[i].id for i in (0, 2, 3)] == [h.id for h in store]
    assert sorted(Path(str(p).split("cannot read ")[1].split(": ")[0]).name for p in problems) == sorted(
        ["notes.h5", f"{written[1].id}.h5"]
    )
    assert store.ids() == [run.id for run in written]
    header = runs[0]
    assert isinstance(header, Header)
    assert (header.config, header.results, header.status) == (
        written[0].config,
        written[0].results,
        "complete",
    )
    assert (header.variables["net"].dtype, header.variables["diverged"].dtype) == ("str", "bool")
    assert header.variables["loss"].shape == (3, 2, 4)


def test_scan_reads_no_array(store, monkeypatch):
    store.write(example_run())

    def refuse(self, *args, **kwargs):
        raise AssertionError("an array was read")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", refuse)
    assert len(store.scan().runs) == 1
    assert store.scan().problems == []


def test_a_store_not_yet_there_is_empty(store):
    assert (store.ids(), list(store), len(store), store.scan()) == ([], [], 0, ([], []))


def test_a_missing_run_names_the_newest(store):
    run = example_run()
    store.write(run)
    absent = Run.new("demo", {}).id
    with pytest.raises(StoreError, match=rf"no run {absent}.*1 runs.*{run.id}"):
        store.read(absent)
    assert absent not in store


def test_a_renamed_file_is_not_taken_for_another_run(store):
    path, other = store.write(example_run()), Run.new("demo", {}).id
    path.rename(store.path_of(other))
    with pytest.raises(StoreError, match="it holds run"):
        store.read(other)
    assert len(store.scan().problems) == 1


@pytest.mark.parametrize(
    "run_id", ["../secret", "a/b", "..", "", "/etc/passwd", "20260131T142536.123456Z-a/../b-1a2b3c"]
)
def test_ids_cannot_leave_the_folder(store, run_id):
    for method in (store.path_of, store.read):
        with pytest.raises(InputError, match="run id"):
            method(run_id)
    assert run_id not in store


def test_check_writable_creates_the_folder_and_leaves_nothing(tmp_path):
    store = Store(tmp_path / "a" / "b")
    store.check_writable()
    assert list(store.path.iterdir()) == []


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Store("~/runs").path == tmp_path / "runs"


# --- schemas ------------------------------------------------------------------------------------------------


def test_older_runs_are_migrated_in_order(store, monkeypatch):
    run = example_run()
    store.write(run)

    def first(raw):
        assert raw.header["schema"] == 1
        raw.header["config"]["learning_rate"] = raw.header["config"].pop("lr")
        return raw

    def second(raw):
        assert raw.header["schema"] == 2
        assert "learning_rate" in raw.header["config"]
        raw.variables["losses"] = raw.variables.pop("loss")
        return raw

    for module in (format, migrations, sys.modules["ntkengine.store.run"]):
        monkeypatch.setattr(module, "SCHEMA", 3)
    monkeypatch.setattr(migrations, "MIGRATIONS", {1: first, 2: second})
    found = store.read(run.id)
    assert found.schema == 3
    assert found.config == {**{k: v for k, v in run.config.items() if k != "lr"}, "learning_rate": 0.1}
    assert found.variables["losses"] == run.variables["loss"]
    assert "losses" in store.scan().runs[0].variables
    monkeypatch.setattr(migrations, "MIGRATIONS", {1: first})
    with pytest.raises(StoreError, match="schema 2 is unknown"):
        store.read(run.id)


def test_importing_the_store_is_light():
    script = (
        "import sys, ntkengine.store as s; s.Run.new('demo', {}); s.Store('x').ids(); "
        "heavy = {'h5py', 'numba', 'scipy', 'matplotlib', 'sympy', 'pandas', 'click'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
