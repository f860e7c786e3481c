"""The tables behind the book: packed by the build, fetched from a file or from the book's site."""

import functools
import http.server
import threading
import zipfile

import pandas as pd
import pytest
from typer.testing import CliRunner

from evcm.cli import app
from evcm.errors import EvcmError, InputError
from evcm.store import archive
from evcm.store.results import StaleError, Store


@pytest.fixture
def packed(tmp_path):
    """An archive of two tables, and the folder that it was made from."""
    results = tmp_path / "results"
    table = pd.DataFrame({"bus": [2, 3], "energy_mwh": [1.5, 2.5]})
    for name in ("system.parquet", "hosting/points.parquet", f"{archive.STEPS}/1.parquet"):
        Store(results).save_table(name, "key", table)
    target = tmp_path / "site" / archive.NAME
    assert archive.pack(results, target) == 2
    return results, target


def test_an_archive_brings_the_tables_with_their_records(packed, tmp_path):
    _, file = packed
    names = archive.fetch(str(file), tmp_path / "home")
    assert sorted(n for n in names if n.endswith("parquet")) == [
        "hosting/points.parquet", "system.parquet",
    ]  # fmt: skip
    again = Store(tmp_path / "home").load_table("system.parquet", "key")
    assert again["energy_mwh"].tolist() == [1.5, 2.5]


def test_the_same_tables_give_the_same_archive(packed, tmp_path):
    results, file = packed
    archive.pack(results, tmp_path / "other.zip")
    assert (tmp_path / "other.zip").read_bytes() == file.read_bytes()


def test_the_address_of_a_page_leads_to_the_archive(packed, tmp_path):
    handler = functools.partial(Quiet, directory=str(packed[1].parent))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        site = f"http://127.0.0.1:{server.server_port}"
        for address in (site, f"{site}/", f"{site}/book/hosting.html", f"{site}/{archive.NAME}"):
            assert archive.fetch(address, tmp_path / "home"), address
        with pytest.raises(EvcmError, match="404"):
            archive.fetch(f"{site}/elsewhere.zip", tmp_path / "home")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.mark.parametrize("name", ["../evil.parquet", "/etc/evil.json", "run.py", "a\\..\\b.json"])
def test_an_archive_of_something_else_writes_nothing(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as bad:
        bad.writestr("system.parquet", b"1")
        bad.writestr(name, b"1")
    with pytest.raises(InputError, match="file in the archive"):
        archive.fetch(str(tmp_path / "bad.zip"), tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_what_is_no_archive_is_named(tmp_path):
    (tmp_path / "page.html").write_text("<html>")
    for source in (str(tmp_path / "page.html"), "nowhere", "ftp://host/book"):
        with pytest.raises(InputError, match="source: got"):
            archive.fetch(source, tmp_path / "home")


def test_command_fetches_to_where_chapters_look(packed, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setenv("EVCM_RESULTS", str(tmp_path / "share" / "evcm" / "results"))
    said = CliRunner().invoke(app, ["results", "get", str(packed[1])])
    assert said.exit_code == 0, said.output
    where = CliRunner().invoke(app, ["results", "where"]).output.strip()
    assert (tmp_path / "share" / "evcm" / "results" / "system.parquet").is_file()
    assert where == str(tmp_path / "share" / "evcm" / "results")


def test_a_wheel_reads_what_was_fetched_never_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("EVCM_RESULTS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(archive.data, "checkout", lambda: None)
    assert archive.folder() == tmp_path / "evcm" / "results"


def test_a_missing_table_says_what_cures_it(tmp_path):
    with pytest.raises(StaleError, match=r"evcm results get .*evcm study --scenario 1 --side max"):
        Store(tmp_path).load_table("system.parquet")
