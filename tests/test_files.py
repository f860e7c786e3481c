"""Files that people really have: devices, pipes, links, modes, full disks, bombs, old leftovers."""

import os
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest

from evcm.errors import InputError
from evcm.store import files

TABLE = pd.DataFrame({"a": [1.0, 2.0]})


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_device_stays_a_device():
    before = os.stat("/dev/null")
    files.write_csv("/dev/null", TABLE)
    after = os.stat("/dev/null")
    assert (after.st_mode, after.st_rdev, after.st_ino) == (
        before.st_mode, before.st_rdev, before.st_ino,
    )  # fmt: skip


def test_a_pipe_is_written_through(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    files.write_csv(pipe, TABLE, 1)
    reader.join(timeout=20)
    assert read == ["a\n1.0\n2.0\n"]
    assert pipe.is_fifo()


def test_a_link_is_followed_and_stays(tmp_path):
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "t.csv", tmp_path / "t.csv"
    target.write_text("old")
    link.symlink_to(target)
    files.write_csv(link, TABLE, 1)
    assert link.is_symlink()
    assert target.read_text() == "a\n1.0\n2.0\n"
    assert names(tmp_path / "real") == ["t.csv"]
    new = tmp_path / "new.csv"  # a link to nothing yet
    new.symlink_to(tmp_path / "real" / "new.csv")
    files.write_csv(new, TABLE)
    assert (tmp_path / "real" / "new.csv").is_file()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_the_mode_is_kept(tmp_path, mode):
    file = tmp_path / "t.csv"
    file.write_text("")
    file.chmod(mode)
    files.write_csv(file, TABLE)
    assert file.stat().st_mode & 0o777 == mode


def test_a_new_file_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_csv(tmp_path / "t.csv", TABLE)
    finally:
        os.umask(before)
    assert (tmp_path / "t.csv").stat().st_mode & 0o777 == 0o640


def test_leftovers_of_killed_processes_go_and_those_of_running_ones_stay(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as running:
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        old, new = (tmp_path / f".t.csv.{p.pid}-0123abcd.csv" for p in (dead, running))
        foreign = tmp_path / ".t.csv.mine"
        for file in (old, new, foreign):
            file.write_text("half")
        files.write_csv(tmp_path / "t.csv", TABLE)
        assert not old.exists()
        assert new.exists()
        assert foreign.exists()
        running.kill()


@pytest.mark.parametrize("where", ["missing/t.csv", "file/t.csv", ".", "x" * 300])
def test_impossible_targets_are_one_message(tmp_path, where):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError):
        files.write_csv(tmp_path / where, TABLE)
    with pytest.raises(InputError):
        files.check_target(tmp_path / where)
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("where", ["file", "file/below", "\0", "x" * 300])
def test_impossible_folders_are_one_message_before_any_work(tmp_path, where):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a folder that can be written"):
        files.make_folder(f"{tmp_path}/{where}")


def test_a_read_only_folder_is_one_message(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write into read-only folders")
    tmp_path.chmod(0o500)
    with pytest.raises(InputError):
        files.write_csv(tmp_path / "t.csv", TABLE)
    with pytest.raises(InputError):
        files.make_folder(tmp_path / "below")


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode != 0:
        pytest.skip(f"a small file system needs root: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # somebody may still look at it


def test_a_full_disk_is_one_message_and_leaves_what_was_there(small_disk):
    target = small_disk / "t.npz"
    files.write_npz(target, a=np.arange(3))
    rng = np.random.default_rng(0)
    for write in (
        lambda: files.write_npz(target, a=rng.normal(size=100_000)),
        lambda: files.write_parquet(target, pd.DataFrame({"a": rng.normal(size=100_000)})),
        lambda: files.write_csv(target, pd.DataFrame({"a": rng.normal(size=100_000)})),
        lambda: files.write_json(target, rng.normal(size=100_000).tolist()),
    ):
        with pytest.raises(InputError, match="space"):
            write()
        assert names(small_disk) == ["t.npz"]
    assert files.read_npz(target, ["a"])["a"].tolist() == [0, 1, 2]


def test_a_full_disk_loses_no_finished_result(small_disk):
    from evcm.store.each import each
    from evcm.store.result import Result
    from evcm.store.results import Store
    from tests.store_tasks import Draw

    class Large(Draw):
        def run(self):
            return Result({}, {"x": np.random.default_rng(self.seed).normal(size=8000)})

    with pytest.raises(InputError, match="space"):
        each([Large(seed) for seed in range(10)], Store(small_disk), "s")
    kept = len(Store(small_disk).step("s"))
    assert 1 <= kept < 10
    found = [Store(small_disk).step("s").get(f"seed{k}", f"draw-{k}") for k in range(kept)]
    assert all(result is not None for result in found)


def test_an_archive_that_unpacks_to_gigabytes_is_refused_unread(tmp_path, monkeypatch):
    bomb = tmp_path / "bomb.npz"
    files.write_npz(bomb, a=np.zeros(2**24))  # 128 MiB in 128 kB
    monkeypatch.setattr(np, "load", None)  # calling it would fail
    monkeypatch.setattr(files, "UNPACKED_BYTES", 2**26)
    with pytest.raises(InputError, match="an archive that unpacks to at most"):
        files.read_npz(bomb, ["a"])


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (files.read_json, "[" * 100_000), (files.read_json, "{"), (files.read_json, "\0"),
        (files.read_toml, "a = " + "[" * 100_000), (files.read_toml, "a = 1\na = 2"),
        (lambda p: files.read_csv(p, ["a"]), ""), (lambda p: files.read_csv(p, ["a"]), "b\n1"),
        (lambda p: files.read_npz(p, ["a"]), "PK"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_message(tmp_path, read, text):
    file = tmp_path / "input"
    file.write_text(text)
    with pytest.raises(InputError, match="input"):
        read(file)
    with pytest.raises(InputError):
        read(tmp_path)
    with pytest.raises(InputError, match="missing"):
        read(tmp_path / "absent")


def test_offending_rows_are_named_and_counted(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("a\n" + "x\n" * 9)
    with pytest.raises(InputError, match=r"row 1: .*row 5: .*4 more rows"):
        files.read_csv(file, ["a"])
