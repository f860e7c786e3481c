"""One loop: stored, else computed; resumable; the same bits here, in processes and on a cluster."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

from evcm.errors import Checks, InfeasibleError, InputError
from evcm.store import each as loop
from evcm.store.each import ClusterError, Interrupted, check_jobs, each
from evcm.store.result import Result
from evcm.store.results import LockedError, Store, versions
from tests.store_tasks import Cluster, Draw, environment


def draws(count, **options):
    return [Draw(seed, **options) for seed in range(count)]


def same(left, right):
    assert [r.record for r in left] == [r.record for r in right]
    for a, b in zip(left, right, strict=True):
        assert a.arrays.keys() == b.arrays.keys()
        for name in a.arrays:
            assert a.arrays[name].tobytes() == b.arrays[name].tobytes()


def test_results_come_in_order_and_are_read_the_second_time(tmp_path, monkeypatch):
    told = []
    tasks = draws(5)[::-1]
    first = each(tasks, Store(tmp_path), "s", progress=lambda *what: told.append(what), label="S")
    same(first, [task.run() for task in tasks])
    assert told == [("S", done, 5) for done in range(6)]
    assert first[0].arrays["of"] == "π"
    monkeypatch.setattr(Draw, "run", None)  # calling it would fail
    same(each(tasks, Store(tmp_path), "s"), first)


def test_a_step_is_one_data_set(tmp_path):
    each(draws(7), Store(tmp_path), "s")
    (file,) = (tmp_path / "steps" / "s").iterdir()
    assert sorted(pq.read_table(file)["name"].to_pylist()) == [f"seed{k}" for k in range(7)]


def test_two_processes_give_the_same_bits_and_leave_when_their_parent_does(tmp_path):
    here = each(draws(9), Store(tmp_path / "one"), "s", 1)
    same(each(draws(9), Store(tmp_path / "two"), "s", 2), here)


def test_a_killed_process_costs_its_tasks_alone(tmp_path):
    tasks = draws(6)
    tasks[2] = Draw(2, kill=str(tmp_path / "died"))
    same(each(tasks, Store(tmp_path), "s", 2), [t.run() for t in draws(6)])
    assert (tmp_path / "died").exists()


def test_a_task_that_fails_says_why_and_the_others_are_kept(tmp_path):
    tasks = [*draws(3), Draw(3, fail=True)]
    for jobs in (1, 2):
        store = Store(tmp_path / str(jobs))
        with pytest.raises(InfeasibleError, match="seed 3 has no plan"):
            each(tasks, store, "s", jobs)
    assert len(Store(tmp_path / "1").step("s")) == 3


def test_errors_travel_between_processes():
    import pickle

    from evcm.errors import Fault

    error = InputError("x", [Fault("field", 1, "2")])
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.faults) == (str(error), error.faults)


@pytest.mark.parametrize("damage", ["row", "cut", "empty", "foreign"])
def test_what_is_damaged_counts_as_absent_and_heals(tmp_path, monkeypatch, damage):
    whole = each(draws(4), Store(tmp_path), "s")
    (file,) = (tmp_path / "steps" / "s").iterdir()
    if damage == "row":
        table = pq.read_table(file)
        rows = table.to_pylist()
        rows[1]["record"] = rows[1]["record"].replace('"total": ', '"total": 5')
        pq.write_table(table.from_pylist(rows, table.schema), file)
    elif damage == "foreign":
        pq.write_table(pq.read_table(file).select(["name", "key"]), file)
    else:
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    run, again = Draw.run, []
    monkeypatch.setattr(Draw, "run", lambda task: again.append(task.seed) or run(task))
    same(each(draws(4), Store(tmp_path), "s"), whole)
    assert again == ([1] if damage == "row" else [0, 1, 2, 3])
    again.clear()
    same(each(draws(4), Store(tmp_path), "s"), whole)
    assert again == []


def test_arrays_of_every_kind_come_back(tmp_path):
    arrays = {
        "flag": np.array([True, False]), "none": np.zeros((0, 3)), "one": np.array(2.5),
        "many": np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1), "whole": np.arange(3),
        "text": np.array(["a", "βγ"]), "phasor": np.array([1 + 2j]),
    }  # fmt: skip
    result = Result({"nan": float("nan")}, arrays)
    again = Result.unpack(*result.pack())
    for name, values in arrays.items():
        np.testing.assert_array_equal(again.arrays[name], values)
        assert again.arrays[name].shape == values.shape
    with pytest.raises(TypeError, match="bad"):
        Result({}, {"bad": np.array([None])}).pack()


def test_thousands_of_results_stay_few_files(tmp_path):
    step = Store(tmp_path).step("s")
    for k in range(300):
        step.add({f"r{k}": ("key", Result({"k": k}), 0.1)})
    step.add({"r7": ("key", Result({"k": -7}), 0.1)})
    assert len(list(step.folder.iterdir())) < 130
    step.merge()
    again = Store(tmp_path).step("s")
    assert len(list(step.folder.iterdir())) == 1
    assert len(again) == 300
    assert again.get("r7", "key").record == {"k": -7}
    assert again.get("r7", "other") is None


def test_one_run_at_a_time_writes_into_a_folder(tmp_path):
    held = (
        "import sys; from pathlib import Path; from evcm.store.results import Store\n"
        "with Store(Path(sys.argv[1])).locked('a run'): print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", held, str(tmp_path)], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, env=environment(),
    ) as other:  # fmt: skip
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(LockedError, match=f"in use by process {other.pid} .a run"):
            Store(tmp_path).locked().__enter__()
        assert str(other.pid) in Store(tmp_path).holder()
        other.kill()
    with Store(tmp_path).locked() as store:  # the lock ends with its process
        assert store.folder == tmp_path
    assert Store(tmp_path).holder() == ""


RUN = """
import signal, sys
from pathlib import Path
from evcm.store.each import each
from evcm.store.results import Store
from tests.store_tasks import Draw
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
jobs = sys.argv[2] if ":" in sys.argv[2] else int(sys.argv[2])
with Store(Path(sys.argv[1])).locked() as store:
    tasks = [Draw(k, wait_s=0.2) for k in range(40)]
    each(tasks, store, "s", jobs, lambda *what: print(what[1], flush=True))
"""


def started(folder, jobs):
    """A run in a process, up to its fifth result."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder), str(jobs)], env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    for line in process.stdout:
        if int(line) >= 5:
            break
    return process


def group_is_gone(group, seconds=20):
    for _ in range(seconds * 10):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_ended_run_keeps_its_results_and_leaves_no_workers(tmp_path, number):
    run = started(tmp_path, 2)
    os.kill(run.pid, number)
    _, said = run.communicate(timeout=60)
    assert run.returncode != 0
    if number == signal.SIGINT:
        assert "of 40 results are kept in" in said
    assert group_is_gone(run.pid)
    kept = len(Store(tmp_path).step("s"))
    assert 5 <= kept < 40
    with Store(tmp_path).locked() as store:
        same(each(draws(40), store, "s", 2), [t.run() for t in draws(40)])
    assert not list(tmp_path.rglob(".part*"))


def test_jobs_are_checked():
    for good in (1, 256, "tcp://10.0.0.1:8786"):
        checks = Checks("x")
        check_jobs(checks, good)
        checks.done()
    for bad in (0, 257, "nowhere", True):
        checks = Checks("x")
        check_jobs(checks, bad)
        assert checks.faults, bad


def test_an_interruption_in_this_process_says_what_was_kept(tmp_path, monkeypatch):
    def stop(task):
        if task.seed == 3:
            raise KeyboardInterrupt
        return Result({})

    monkeypatch.setattr(Draw, "run", stop)
    with pytest.raises(Interrupted, match="s: 3 of 5 results are kept in"):
        each(draws(5), Store(tmp_path), "s")
    assert len(Store(tmp_path).step("s")) == 3


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    pytest.importorskip("distributed")
    found = Cluster(tmp_path_factory.mktemp("cluster"))
    yield found.wait_for(2)
    found.stop()


@pytest.mark.slow
def test_a_cluster_gives_the_same_bits(cluster, tmp_path):
    here = each(draws(20), Store(tmp_path / "here"), "s", 1)
    there = each(draws(20), Store(tmp_path / "there"), "s", cluster.address)
    same(there, here)
    four = Cluster(tmp_path / "four", 4).wait_for(4)
    try:
        same(each(draws(20), Store(tmp_path / "4"), "s", four.address), here)
    finally:
        four.stop()


@pytest.mark.slow
def test_a_worker_killed_in_mid_run_changes_nothing(tmp_path):
    cluster = Cluster(tmp_path / "cluster").wait_for(2)
    victims = cluster.workers[:1]

    def progress(_, done, __):
        if done >= 5 and victims:  # several tasks may end at once
            victims.pop().kill()

    try:
        found = each(draws(20, wait_s=0.1), Store(tmp_path / "r"), "s", cluster.address, progress)
        same(found, [t.run() for t in draws(20)])
    finally:
        cluster.stop()


@pytest.mark.slow
def test_a_coordinator_killed_and_started_again_resumes(cluster, tmp_path):
    run = started(tmp_path, cluster.address)
    run.kill()
    run.communicate()
    kept = len(Store(tmp_path).step("s"))
    assert 5 <= kept < 40
    solved = []
    found = each(
        draws(40), Store(tmp_path), "s", cluster.address, lambda *what: solved.append(what[1])
    )
    assert solved[0] == kept
    same(found, [t.run() for t in draws(40)])


@pytest.mark.slow
def test_a_dead_scheduler_loses_no_finished_result(tmp_path):
    cluster = Cluster(tmp_path / "cluster").wait_for(2)

    def progress(_, done, __):
        if done >= 5:  # several tasks may end at once
            cluster.scheduler.kill()

    try:
        with pytest.raises(ClusterError, match="scheduler is gone"):
            each(draws(40, wait_s=0.1), Store(tmp_path / "r"), "s", cluster.address, progress)
    finally:
        cluster.stop()
    assert len(Store(tmp_path / "r").step("s")) >= 5


def test_no_scheduler_is_said_in_words(tmp_path):
    pytest.importorskip("distributed")
    with pytest.raises(ClusterError, match="no Dask scheduler answers"):
        each(draws(1), Store(tmp_path), "s", "tcp://127.0.0.1:9")


@pytest.mark.slow
def test_workers_with_another_package_are_refused_in_words(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "versions", lambda: {**versions(), "numpy": "0.1"})
    loop.identity.cache_clear()
    with pytest.raises(ClusterError, match=r"worker tcp://.*: numpy is .*, here 0\.1"):
        each(draws(1), Store(tmp_path), "s", cluster.address)
    loop.identity.cache_clear()
