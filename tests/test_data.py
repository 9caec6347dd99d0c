"""Data files that are not part of the package: where they are looked for, the download, and the `data` commands."""

import hashlib
import http.server
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from ntkengine import tasks
from ntkengine.cli.data import data as data_group
from ntkengine.errors import DataError, InputError, UnknownNameError
from ntkengine.tasks import builtin

WINE = tasks.registry.get("wine-quality-red")


CONTENT = b'"a";"quality"\n' + b"1.5;3\n2.5;4\n" * 4000


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No data folder of the machine counts: an empty cache folder, and no shared folder."""
    monkeypatch.delenv("NTKENGINE_DATA", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *a, **k: tmp_path / "cache")
    monkeypatch.setattr(builtin, "_shared_folders", lambda: [tmp_path / "shared"])
    return tmp_path


@pytest.fixture
def server(monkeypatch):
    """A local server: /good, /wrong, /short (fewer bytes than announced), anything else is 404."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path not in ("/good", "/wrong", "/short"):
                self.send_error(404)
                return
            body = CONTENT[:-1] if self.path == "/wrong" else CONTENT
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:5000] if self.path == "/short" else body)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def data_file(url):
    return tasks.DataFile("some.csv", url, hashlib.sha256(CONTENT).hexdigest())


def test_a_download_is_checked_and_put_in_place(server, nowhere):
    path = builtin.fetch(data_file(server + "/good"), nowhere / "new" / "folder")
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["some.csv"]
    again = builtin.fetch(data_file("http://127.0.0.1:9/never-asked"), path.parent)
    assert again == path


def test_default_folder_is_the_cache_or_the_named_one(server, nowhere, monkeypatch):
    assert builtin.fetch(data_file(server + "/good")).parent == nowhere / "cache" / "data"
    monkeypatch.setenv("NTKENGINE_DATA", str(nowhere / "named"))
    assert builtin.fetch(data_file(server + "/good")).parent == nowhere / "named"


@pytest.mark.parametrize(
    ("page", "cause"),
    [
        (
            "/wrong",
            rf"{hashlib.sha256(CONTENT[:-1]).hexdigest()}, expected {hashlib.sha256(CONTENT).hexdigest()}",
        ),
        ("/short", r"IncompleteRead|5000 bytes"),
        ("/gone", "404"),
    ],
)
def test_a_bad_download_is_one_error_and_leaves_nothing(server, nowhere, page, cause):
    with pytest.raises(DataError, match=cause) as caught:
        builtin.fetch(data_file(server + page), nowhere / "to")
    text = str(caught.value)
    assert server + page in text
    assert "NTKENGINE_DATA" in text
    assert "\n" not in text
    assert list((nowhere / "to").iterdir()) == []


def test_no_network_is_one_error(nowhere, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(DataError, match=r"cannot be downloaded from http://127.0.0.1:9/x: .*NTKENGINE_DATA"):
        builtin.fetch(data_file("http://127.0.0.1:9/x"), nowhere)
    with pytest.raises(DataError, match="cannot be downloaded from gopher://x"):
        builtin.fetch(data_file("gopher://x"), nowhere)


def test_a_folder_that_cannot_be_written(nowhere):
    (nowhere / "taken").write_text("a file")
    with pytest.raises(DataError, match=r"taken.*cannot be written"):
        builtin.fetch(data_file("http://127.0.0.1:9/x"), nowhere / "taken")


def test_a_wrong_file_in_place_is_not_overwritten(nowhere):
    (nowhere / "some.csv").write_text("mine")
    with pytest.raises(DataError, match="remove it and fetch it again"):
        builtin.fetch(data_file("http://127.0.0.1:9/x"), nowhere)
    assert (nowhere / "some.csv").read_text() == "mine"


def test_places_are_tried_in_order(nowhere, monkeypatch):
    file = WINE.file
    with pytest.raises(DataError, match=r"not on this machine .*`ntkengine data fetch wine-quality-red`"):
        tasks.make_task("wine-quality-red")
    for folder in (nowhere / "shared", nowhere / "cache" / "data", nowhere / "named"):
        folder.mkdir(parents=True)
        (folder / file.filename).write_bytes(b"x")
        if folder.name == "named":
            monkeypatch.setenv("NTKENGINE_DATA", str(folder))
        assert builtin.locate("wine-quality-red", file).parent == folder
    monkeypatch.setenv("NTKENGINE_DATA", str(nowhere / "empty"))
    with pytest.raises(
        DataError, match=r"NTKENGINE_DATA is '.*empty' but '.*winequality-red.csv' is no file"
    ):
        tasks.make_task("wine-quality-red")


def test_a_copy_with_a_wrong_hash_is_named(nowhere, monkeypatch):
    monkeypatch.setenv("NTKENGINE_DATA", str(nowhere))
    (nowhere / WINE.file.filename).write_bytes(b"x")
    found = hashlib.sha256(b"x").hexdigest()
    with pytest.raises(DataError, match=rf"winequality-red.csv' .*{found}, expected {WINE.file.sha256}"):
        tasks.make_task("wine-quality-red")
    assert builtin.availability(WINE) == "damaged"


def test_the_shared_folder_lies_beside_the_current_one(monkeypatch, tmp_path):
    (tmp_path / "checkout").mkdir()
    monkeypatch.chdir(tmp_path / "checkout")
    folders = builtin._shared_folders()
    assert folders[0] == tmp_path / "shared" / "data"
    assert all(folder.parts[-2:] == ("shared", "data") for folder in folders)


# --- the commands -------------------------------------------------------------------------------------------


def use_wine_url(monkeypatch, url):
    family = replace(WINE, file=data_file(url))
    monkeypatch.setitem(tasks.registry._loaded, "wine-quality-red", family)


def test_data_list_never_downloads(nowhere, monkeypatch):
    monkeypatch.setattr(builtin, "_download", lambda *a: pytest.fail("data list downloads"))
    done = CliRunner().invoke(data_group, ["list"])
    assert done.exit_code == 0, done.output
    rows = {
        line.split("│")[1].strip(): line.split("│")[2:6] for line in done.output.splitlines() if "│" in line
    }
    cells = {name: [cell.strip() for cell in row] for name, row in rows.items() if name}
    assert cells["wine-quality-red"] == ["1599", "11", "6", "no"]
    assert cells["tic-tac-toe"] == ["958", "9", "2", "generated"]
    assert cells["balance-scale"] == ["625", "4", "3", "generated"]
    assert cells["parity"] == ["2048", "11", "2", "generated"]
    assert "Cortez" in done.output


def test_data_fetch(server, nowhere, monkeypatch):
    use_wine_url(monkeypatch, server + "/good")
    done = CliRunner().invoke(data_group, ["fetch", "wine-quality-red", "--to", str(nowhere / "here")])
    assert done.exit_code == 0, done.output
    assert done.output.startswith(str(nowhere / "here" / "some.csv"))
    assert (nowhere / "here" / "some.csv").read_bytes() == CONTENT


def test_data_fetch_draws_progress_on_a_terminal_only(server, nowhere, monkeypatch):
    use_wine_url(monkeypatch, server + "/good")
    plain = CliRunner().invoke(data_group, ["fetch", "wine-quality-red", "--to", str(nowhere / "a")])
    assert plain.stderr == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    drawn = CliRunner().invoke(data_group, ["fetch", "wine-quality-red", "--to", str(nowhere / "b")])
    assert drawn.exit_code == 0, drawn.exception
    assert "some.csv" in drawn.stderr
    assert drawn.stdout.startswith(str(nowhere / "b"))


def test_data_fetch_errors(nowhere, monkeypatch):
    def fails_with(*arguments):
        return CliRunner().invoke(data_group, ["fetch", *arguments]).exception

    unknown = fails_with("wine-quality")
    assert isinstance(unknown, UnknownNameError)
    assert "Did you mean 'wine-quality-red'?" in str(unknown)
    generated = fails_with("parity")
    assert isinstance(generated, InputError)
    assert "nothing to fetch" in str(generated)
    use_wine_url(monkeypatch, "http://127.0.0.1:9/x")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert isinstance(fails_with("wine-quality-red", "--to", str(nowhere)), DataError)


def test_the_repository_holds_no_wine_file():
    root = Path(__file__).resolve().parents[1]
    assert not list((root / "data").rglob("*.csv"))
    assert not list((root / "ntkengine").rglob("*.csv"))
