"""The store under attack: damaged and hostile files, full disks, kills at any moment, many writers."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from ntkengine.errors import NtkengineError, StoreError
from ntkengine.store import Run, Store, format
from tests.test_store import ROOT, example_run, left_over


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


# --- damage -------------------------------------------------------------------------------------------------


def one_line(error: BaseException, path: Path) -> bool:
    return str(path) in str(error) and "\n" not in str(error)


def test_truncated_files_are_refused(store):
    run = example_run()
    path = store.write(run)
    content = path.read_bytes()
    for length in [0, 1, 7, 8, 100, len(content) // 2, len(content) - 200]:
        path.write_bytes(content[:length])
        with pytest.raises(StoreError) as caught:
            store.read(run.id)
        assert one_line(caught.value, path)
        assert len(store.scan().problems) == 1
    for length in (len(content) - 1, len(content) - 40):  # only the seal is cut: nothing is lost
        path.write_bytes(content[:length])
        with contextlib.suppress(StoreError):
            assert store.read(run.id) == run


def test_flipped_bytes_never_pass(store):
    run = example_run()
    path = store.write(run)
    content, rng = path.read_bytes(), random.Random(5)
    tail = range(len(content) - 90, len(content))
    refused = 0
    for position in [rng.randrange(len(content)) for _ in range(300)] + list(tail):
        damaged = bytearray(content)
        damaged[position] ^= rng.randrange(1, 256)
        path.write_bytes(damaged)
        error = None
        try:
            found = store.read(run.id)
        except StoreError as caught:
            error = caught
        assert one_line(error, path) if error else found == run, f"byte {position}"
        refused += error is not None
    assert refused >= 300


def test_bytes_flipped_in_an_unsealed_file_never_pass():
    """In a process of its own: without the seal HDF5 itself parses the damage, headers only and whole."""
    script = """
import random, sys, tempfile
from tests.test_store_reliability import *
store = Store(tempfile.mkdtemp())
run = example_run()
path = store.write(run)
body, rng = path.read_bytes().rpartition(b"\\nntkengine sha256 ")[0], random.Random(11)
good = store.scan().runs
refused = 0
for _ in range(100):
    damaged = bytearray(body)
    damaged[rng.randrange(len(body) if _ % 2 else 12_000)] ^= rng.randrange(1, 256)
    path.write_bytes(damaged)
    runs, problems = store.scan()
    assert runs in ([], good) and len(runs) + len(problems) == 1, problems
    try:
        assert store.read(run.id) == run
    except StoreError:
        refused += 1
shutil.rmtree(store.path)
assert refused > 20, refused
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]


def test_damaged_heaps_do_not_crash_the_interpreter(tmp_path):
    """HDF5's own way to ask for an axis's label does, where the heap that holds the text is damaged."""
    script = f"""
from tests.test_store_reliability import *
store = Store({str(tmp_path)!r})
path = store.write(example_run())
body = path.read_bytes().rpartition(b"\\nntkengine sha256 ")[0]
texts = [i for name in (b"epoch", b"member", b"column") for i in range(len(body)) if body.startswith(name, i)]
refused = 0
for place in [text - 16 for text in texts]:  # an object of the heap: its number, its size, then its text
    damaged = bytearray(body)
    damaged[place] ^= 0xFF
    path.write_bytes(damaged)
    refused += len(store.scan().problems)
assert refused > 5, refused
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])


def rewrite(path: Path, change) -> None:
    with h5py.File(path, "r+") as file:
        change(file)


def foreign_group(file):
    file.create_group("g")


def soft_link(file):
    file["loss2"] = h5py.SoftLink("/loss")


def external_link(file):
    file["loss2"] = h5py.ExternalLink("/etc/passwd", "/x")


def external_storage(file):
    file.create_dataset("x", (3,), "f8", external=[("/etc/passwd", 0, 24)])


def virtual(file):
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource("/other.h5", "x", (3,))
    file.create_virtual_dataset("x", layout)


def compound(file):
    file["x"] = np.zeros(2, [("a", "f8")])


def references(file):
    file["x"] = np.array([file["loss"].ref], h5py.ref_dtype)


def opaque(file):
    file["x"] = np.void(b"abc")


def null_space(file):
    file["x"] = h5py.Empty("f8")


def other_filter(file):
    file.create_dataset("x", data=np.zeros(100), compression="lzf")


def bomb(file):
    file.create_dataset("x", (2**50,), "f8", chunks=(2**20,))
    file["x"].dims[0].label = "huge"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (foreign_group, "group"),
        (soft_link, "soft or external link"),
        (external_link, "soft or external link"),
        (external_storage, "other files"),
        (virtual, "other files"),
        (compound, "neither numbers nor text"),
        (references, "neither numbers nor text"),
        (opaque, "neither numbers nor text"),
        (null_space, "neither numbers nor text"),
        (other_filter, "filter"),
        (bomb, "claims"),
        (lambda f: f.attrs.modify("schema", 99), "schema 99.*upgrade"),
        (lambda f: f.attrs.modify("schema", 0), "schema 0 is unknown|checksum"),
        (lambda f: f.attrs.pop("schema"), "not a run of ntkengine"),
        (lambda f: f.attrs.pop("config"), "'config' is missing"),
        (lambda f: f.attrs.create("config", 3), "'config' is not text"),
        (lambda f: f["loss"].attrs.pop("DIMENSION_LABELS"), "name for each of its 3 axes"),
        (lambda f: f.pop("loss"), "checksum"),
    ],
)
def test_what_a_run_never_holds_is_refused(store, change, said):
    path = store.write(example_run())
    rewrite(path, change)
    with pytest.raises(StoreError, match=said) as caught:
        store.read(path)
    assert one_line(caught.value, path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "JSON list, not an object"),
        ("{", "Expecting"),
        ('{"a": NaN}', "NaN is not JSON"),
        ("[" * 100_000, "recursion|nested"),
    ],
)
def test_json_that_is_none_is_refused(store, monkeypatch, text, said):
    monkeypatch.setattr(format, "_json_text", lambda name, value: text if name == "config" else "{}")
    path = store.write(example_run())
    with pytest.raises(StoreError, match=said) as caught:
        store.read(path)
    assert one_line(caught.value, path)
    assert len(store.scan().problems) == 1


def test_what_is_no_file_is_refused(store):
    store.path.mkdir()
    (store.path / "folder.h5").mkdir()
    os.mkfifo(store.path / "pipe.h5")
    assert [("regular" in str(p)) for p in store.scan().problems] == [True, True]
    with pytest.raises(StoreError, match="No such file"):
        store.read(store.path / "absent.h5")


# --- folders and disks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", [False, True])
def test_a_file_is_no_folder(tmp_path, below):
    file = tmp_path / "runs"
    file.write_text("mine")
    store = Store(file / "deeper" if below else file)
    for action in (store.check_writable, lambda: store.write(example_run())):
        with pytest.raises(StoreError, match=f"store path {file} is a file; name a folder"):
            action()
    if not below:
        with pytest.raises(StoreError, match="name a folder"):
            store.ids()
    assert file.read_text() == "mine"


def test_an_existing_run_is_never_overwritten(store):
    run = example_run()
    before = store.write(run).read_bytes()
    with pytest.raises(StoreError, match="never overwritten"):
        store.write(replace(run, config={"other": 1}))
    assert store.path_of(run.id).read_bytes() == before
    assert left_over(store) == []


def test_file_systems_without_hard_links(store, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    run = example_run()
    store.write(run)
    assert store.read(run.id) == run
    with pytest.raises(StoreError, match="never overwritten"):
        store.write(run)
    assert left_over(store) == []


def test_only_old_temporaries_are_removed(store):
    store.check_writable()
    old, fresh, foreign = (
        store.path / n for n in (f".x.{'a' * 12}.tmp", f".y.{'b' * 12}.tmp", ".foreign.tmp")
    )
    for path in (old, fresh, foreign):
        path.write_bytes(b"")
    two_days_ago = time.time() - 2 * 86400
    for path in (old, foreign):
        os.utime(path, (two_days_ago, two_days_ago))
    store.write(example_run())
    assert (old.exists(), fresh.exists(), foreign.exists()) == (False, True, True)
    assert len(store.scan().runs) == 1
    assert store.scan().problems == []


@pytest.mark.parametrize(
    ("call", "code", "remedy"),
    [
        ("write", errno.ENOSPC, "free some space"),
        ("fsync", errno.ENOSPC, "free some space"),
        ("close", errno.EDQUOT, "quota"),
        ("open", errno.EACCES, "may write"),
        ("open", errno.EROFS, "read-only"),
        ("link", errno.EIO, "choose another --store"),
    ],
)
def test_failures_of_the_system_name_path_cause_and_remedy(store, monkeypatch, call, code, remedy):
    earlier = example_run()
    store.write(earlier)
    real = getattr(os, call)

    def fail(*args, **kwargs):
        if call == "close":
            real(*args)
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        for action in (lambda: store.write(example_run()), store.check_writable)[
            : 1 if call == "link" else 2
        ]:
            with pytest.raises(StoreError, match=remedy) as caught:
                action()
            assert str(store.path) in str(caught.value)
            assert os.strerror(code) in str(caught.value)
    assert os.listdir(store.path) == [f"{earlier.id}.h5"]
    assert store.read(earlier.id) == earlier


def test_an_interrupted_write_leaves_nothing(store, monkeypatch):
    store.check_writable()

    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.write(example_run())
    assert os.listdir(store.path) == []


def test_partial_writes_are_completed(store, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data[:1000])))
    run = example_run()
    store.write(run)
    monkeypatch.undo()
    assert store.read(run.id) == run


def mounted(folder: Path, options: str):
    """Mount a tmpfs, or skip the test; the caller unmounts."""
    folder.mkdir()
    if not shutil.which("mount"):
        pytest.skip("no mount command on this machine")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"this user may not mount a tmpfs: {done.stderr.strip()}")


def test_a_disk_that_is_really_full(tmp_path):
    folder = tmp_path / "disk"
    mounted(folder, "size=256k")
    try:
        store = Store(folder / "runs")
        kept, text = [], ""
        for i in range(20):
            run = example_run(seed=i)
            try:
                store.write(run)
            except StoreError as error:
                text = str(error)
                break
            kept.append(run)
        assert "No space left on device; free some space or choose another --store" in text
        assert kept
        assert left_over(store) == []
        assert [store.read(run_id) for run_id in store.ids()] == kept
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_read_only(tmp_path):
    folder = tmp_path / "disk"
    mounted(folder, "size=256k,ro")
    try:
        for store in (Store(folder), Store(folder / "runs")):
            with pytest.raises(StoreError, match=r"[Rr]ead-only file system; the file system is read-only"):
                store.check_writable()
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc on this machine")
def test_a_folder_that_cannot_be_created():
    with pytest.raises(StoreError, match=r"cannot create store /proc/ntkengine: .*choose"):
        Store("/proc/ntkengine").check_writable()


def test_a_limit_on_file_sizes(tmp_path):
    script = f"""
import resource, signal, sys
from tests.test_store_reliability import *
store = Store({str(tmp_path)!r})
small = Run.new("demo", {{}})
store.write(small)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
try:
    store.write(example_run())
except StoreError as error:
    assert "File too large; raise the limit on file sizes" in str(error), error
else:
    raise AssertionError("no error")
assert os.listdir(store.path) == [f"{{small.id}}.h5"]
assert store.read(small.id) == small
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]


# --- kills and many writers ---------------------------------------------------------------------------------

WRITER = """
import sys
import numpy as np
from ntkengine.store import Run, Store, Variable

def write(store, i):
    values = np.random.default_rng(i).standard_normal((100, 200))
    run = Run.new("writer", {"seed": i}, {"a": Variable(("x", "y"), values)})
    store.write(run)

store = Store(sys.argv[1])
"""


def check_writers_run(run: Run) -> None:
    expected = np.random.default_rng(run.config["seed"]).standard_normal((100, 200))
    np.testing.assert_array_equal(run.variables["a"].values, expected)


def test_kills_at_random_moments_leave_whole_runs_only(store):
    script = (
        WRITER
        + """
import os, random, signal, time
rng = random.Random(3)
write(store, 0)
for number in range(60):
    child = os.fork()
    if child == 0:
        i = 1000 * number
        while True:
            i += 1
            write(store, i)
    time.sleep(rng.uniform(0.0, 0.06))
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
"""
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(store.path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    runs, problems = store.scan()
    assert problems == []
    assert len(runs) > 30
    for header in runs:
        check_writers_run(store.read(header.id))
    assert left_over(store), "no kill fell into a write: the test proves nothing"


def test_four_processes_write_at_once(store):
    script = WRITER + "for i in range(25): write(store, 100 * int(sys.argv[2]) + i)"
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(store.path), str(k)], cwd=ROOT) for k in range(4)
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0] * 4
    found = [store.read(run_id) for run_id in store.ids()]
    assert sorted(run.config["seed"] for run in found) == [100 * k + i for k in range(4) for i in range(25)]
    for run in found:
        check_writers_run(run)
    assert left_over(store) == []


def test_threads_write_at_once(store):
    errors: list[BaseException] = []

    def work(k: int) -> None:
        try:
            for i in range(5):
                store.write(example_run(seed=10 * k + i))
        except NtkengineError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(store.read(i).config["seed"] - 2**127 for i in store.ids()) == sorted(
        10 * k + i for k in range(4) for i in range(5)
    )
