"""Compiled kernels: a cut cache, a folder that cannot be written, and an edit of a neighbour."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

KERNEL = """
from evcm.compiled import njit
from neighbour import addend

@njit(cache=True)
def add(x):
    return x + addend()
"""
NEIGHBOUR = """
from evcm.compiled import njit

@njit(cache=True)
def addend():
    return {0}
"""
CALL = "import kernel; print(kernel.add(1), sum(kernel.add.stats.cache_misses.values()))"


def called(folder, **environment):
    done = subprocess.run(
        [sys.executable, "-c", CALL], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def written(folder, addend=1):
    (folder / "kernel.py").write_text(KERNEL)
    (folder / "neighbour.py").write_text(NEIGHBOUR.format(addend))


def test_a_cut_cache_is_compiled_again_and_healed(tmp_path):
    written(tmp_path)
    assert called(tmp_path) == ["2", "1"]
    assert called(tmp_path) == ["2", "0"]
    for suffix in ("nbc", "nbi"):
        for file in tmp_path.rglob(f"*.{suffix}"):
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        assert called(tmp_path)[0] == "2"
        assert called(tmp_path) == ["2", "0"]


def test_of_two_processes_one_compiles_and_the_other_waits(tmp_path):
    written(tmp_path)
    told = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    both = [
        subprocess.Popen([sys.executable, "-c", CALL], cwd=tmp_path, stdout=-1, text=True, env=told)
        for _ in range(2)
    ]
    said = [process.communicate()[0].split() for process in both]
    assert sorted(said) == [["2", "0"], ["2", "1"]]
    assert not list(tmp_path.rglob("*.lock"))


def test_an_edit_in_another_folder_of_the_room_is_seen(tmp_path):
    room = tmp_path / "top" / "room"
    (room / "inner").mkdir(parents=True)
    for package in (room.parent, room, room / "inner"):
        (package / "__init__.py").touch()
    (room / "inner" / "kernel.py").write_text(KERNEL.replace("neighbour", "top.room.neighbour"))
    (tmp_path / "kernel.py").write_text("from top.room.inner.kernel import add")
    for addend in (1, 10):
        (room / "neighbour.py").write_text(NEIGHBOUR.format(addend))
        assert called(tmp_path)[0] == str(1 + addend)


def test_an_edit_of_a_function_that_a_kernel_calls_is_seen(tmp_path):
    written(tmp_path)
    assert called(tmp_path)[0] == "2"
    written(tmp_path, addend=10)
    assert called(tmp_path)[0] == "11"


def test_without_a_folder_to_write_the_cache_is_temporary(tmp_path):
    package, temporary = tmp_path / "package", tmp_path / "temporary"
    package.mkdir()
    temporary.mkdir()
    written(package)
    # a file where the cache's folders should be: not even root can write there
    (package / "__pycache__").write_text("")
    home = tmp_path / "home"
    home.write_text("")
    where = {"HOME": str(home), "XDG_CACHE_HOME": str(home), "TMPDIR": str(temporary)}
    assert called(package, **where) == ["2", "1"]
    assert called(package, **where) == ["2", "0"]
    assert list(temporary.glob("evcm-compiled-*/*/*.nbi"))
