"""One loop for all heavy work: what is stored is read, the rest computed, wherever there are hands.

Tasks are pure: they hold their problem, and give a `Result`. Only the process that calls `each`
writes. The hands are this process, processes of this machine, or a Dask cluster.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from functools import cache
from statistics import fmean
from typing import Any, Protocol

from evcm.errors import Checks, EvcmError, SolverError
from evcm.store import fingerprint
from evcm.store.result import Result
from evcm.store.results import StaleError, Store, versions

Progress = Callable[[str, int, int], None]
"""Called as (step, done, total) whenever something is done."""

Jobs = int | str
"""Number of processes of this machine, or the address of a Dask scheduler."""

log = logging.getLogger("evcm")

DEATHS = 3
"""Times that workers may die with no result between before the step gives up."""

ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA", "NUMEXPR")}


class Task(Protocol):
    """One piece of work."""

    @property
    def name(self) -> str:
        """Name of the result within its step."""

    def key(self) -> str:
        """Fingerprint of all that the result depends on."""

    def run(self) -> Result:
        """Do the work: pure, and the same bits on every machine of one kind."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or a signal ended a step; the message says what was kept."""


class ClusterError(EvcmError):
    """A cluster cannot be used: unreachable, gone, or its workers hold another package."""


def check_jobs(checks: Checks, jobs: Jobs) -> None:
    """Jobs are 1 to 256 processes, or an address such as ``tcp://host:8786``."""
    local = isinstance(jobs, int) and not isinstance(jobs, bool)
    fine = 1 <= int(jobs) <= 256 if local else isinstance(jobs, str) and ":" in jobs
    checks.require(fine, "jobs", jobs, "1..256 processes, or the address of a Dask scheduler")


def each(
    tasks: Sequence[Task], store: Store, step: str, jobs: Jobs = 1,
    progress: Progress = lambda *_: None, label: str = "",
) -> list[Result]:  # fmt: skip
    """Results of all tasks in order: those stored under their keys, and the others computed.

    Every result is stored as soon as it is there, so that an interrupted step goes on where it
    stopped. Workers that die, and machines that leave the cluster, cost their running tasks alone.

    Names of tasks are unique within the step, the data set of the store that results go to. Jobs
    are processes (1: this one), or the address of a Dask scheduler. `progress` is told (label,
    done, total).

    Raises
    ------
    Interrupted
        On Ctrl-C: workers are ended, and the message says what was kept.
    ClusterError
        The cluster cannot be reached, is lost, or runs other code, data or versions.
    SolverError
        Workers died again and again, for want of memory for example.
    """
    label = label or step
    kept = store.step(step)
    keys = {task.name: task.key() for task in tasks}
    found = {name: result for name, key in keys.items() if (result := kept.get(name, key))}
    todo = [task for task in tasks if task.name not in found]
    total = len(tasks)
    progress(label, total - len(todo), total)
    if not todo:
        return [found[task.name] for task in tasks]
    _announce(label, len(todo), total, kept.seconds(), jobs)
    clock = time.perf_counter()
    try:
        for ended in _finished(todo, jobs):
            kept.add({t.name: (keys[t.name], result, s) for t, result, s in ended})
            found |= {t.name: result for t, result, _ in ended}
            progress(label, len(found), total)
            for t, _, seconds in ended:
                log.info("%s: %s took %.2f s (%d of %d)", label, t.name, seconds, len(found), total)
        kept.merge()
    except KeyboardInterrupt as stop:
        said = (
            f"{label}: {len(found)} of {total} results are kept in {store.folder}; the same "
            "command goes on from there"
        )
        log.warning(said)
        raise Interrupted(said) from stop
    log.info("%s: done in %.1f s", label, time.perf_counter() - clock)
    return [found[task.name] for task in tasks]


def in_parts(call: Callable[..., Any], parts: Sequence[tuple[Any, ...]], jobs: int) -> list[Any]:
    """`call(*part)` of every part in order, in this process or in `jobs` of this machine.

    For work whose results are not stored one by one. An error of any part is raised.
    """
    if jobs == 1 or len(parts) == 1:
        return [call(*part) for part in parts]
    with _hands(jobs) as (submit, _):
        running = [submit(call, *part) for part in parts]
        return [future.result() for future in running]


def required(store: Store, step: str, task: Task) -> Result:
    """The stored result of a task.

    Raises
    ------
    StaleError
        It is missing, damaged, or was made under another key.
    """
    result = store.step(step).get(task.name, task.key())
    if result is None:
        raise StaleError(f"{store.folder}: {step} {task.name}: missing or made by other code")
    return result


def _announce(label: str, todo: int, total: int, seconds: list[float], jobs: Jobs) -> None:
    """Say what is to do and, from the measured costs of stored results, how long it will take."""
    text = f"{label}: {todo} of {total} to compute"
    if seconds:
        work = fmean(seconds) * todo
        hands = f"{jobs} processes" if isinstance(jobs, int) else f"the cluster at {jobs}"
        if isinstance(jobs, int):
            work /= min(jobs, os.cpu_count() or 1)
            text += f", about {work:.0f} s on {hands}, at {fmean(seconds):.2f} s each as measured"
        else:
            text += f", about {work:.0f} s of work for {hands}"
    log.info(text)


def _finished(
    todo: Sequence[Task], jobs: Jobs
) -> Iterator[list[tuple[Task, Result, float]]]:  # fmt: skip
    """Lists of tasks as they end, with result and seconds."""
    if jobs == 1:
        for task in todo:
            yield [(task, *_call(task))]
        return
    waiting, deaths = list(todo)[::-1], 0
    while waiting:
        with _hands(jobs) as (submit, window):
            running: dict[futures.Future[Any], Task] = {}
            try:
                while waiting or running:
                    while waiting and len(running) < window:
                        running[submit(_call, waiting[-1])] = waiting[-1]
                        waiting.pop()
                    ended, _ = futures.wait(running, return_when=futures.FIRST_COMPLETED)
                    good: list[tuple[Task, Result, float]] = []
                    failed: Exception | None = None
                    for future in ended:
                        try:
                            good.append((running[future], *future.result()))
                            del running[future]
                        except futures.BrokenExecutor as error:
                            failed = error
                        except futures.CancelledError as error:
                            failed = ClusterError(f"{jobs}: the scheduler is gone")
                            failed.__cause__ = error
                        except Exception as error:
                            failed = failed or error
                    if good:
                        deaths = 0
                        yield good
                    if failed:
                        raise failed
            except futures.BrokenExecutor as error:
                deaths += 1
                if deaths > DEATHS:
                    raise SolverError(
                        "worker processes die again and again; with less memory at hand than they "
                        "need, ask for fewer with --jobs"
                    ) from error
                log.warning("a worker died; %d tasks are done again", len(running))
                waiting += running.values()


@contextmanager
def _hands(jobs: Jobs) -> Iterator[tuple[Callable[..., futures.Future[Any]], int]]:
    """How to submit work, and how many tasks to have under way."""
    if isinstance(jobs, str):
        with _cluster(jobs) as hands:
            yield hands
        return
    from joblib.externals.loky import get_reusable_executor

    # a worker that has grown, as by compiled kernels, is replaced by a new one: nothing is lost
    warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
    pool = get_reusable_executor(
        jobs, timeout=60, initializer=_start_worker, initargs=(os.getpid(),), env=ONE_THREAD
    )
    try:
        yield pool.submit, 2 * jobs
    except BaseException:
        pool.shutdown(wait=True, kill_workers=True)
        raise


def _start_worker(parent: int) -> None:
    """Leave Ctrl-C to the coordinator, and end with it however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _call(task: Task, wanted: str | None = None) -> tuple[Result, float]:
    """Run a task in a worker: result, and seconds measured."""
    if wanted is not None and wanted != _identity_key():
        raise ClusterError("a worker holds another package, other data or other versions")
    clock = time.perf_counter()
    return task.run(), time.perf_counter() - clock


@cache
def identity() -> dict[str, str]:
    """Versions of the packages and fingerprint of code and data: equal on all machines."""
    return versions() | {"evcm code and data": fingerprint.of_package()}


@cache
def _identity_key() -> str:
    return fingerprint.of_content(identity())


@contextmanager
def _cluster(address: str) -> Iterator[tuple[Callable[..., futures.Future[Any]], int]]:
    """The workers of an existing Dask cluster, after a look at what they hold."""
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise ClusterError("a cluster needs Dask: pip install 'evcm[cluster]'") from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        client = Client(address, timeout="10s", set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise ClusterError(f"{address}: no Dask scheduler answers there") from error
    try:
        _same_everywhere(client, address)
        threads = sum(client.nthreads().values())
        pool = client.get_executor(pure=False)
        wanted = _identity_key()
        yield lambda call, task: pool.submit(call, task, wanted), max(16, 3 * threads)
    finally:
        with contextlib.suppress(Exception):
            client.close(timeout=5)


def _same_everywhere(client: Any, address: str) -> None:
    """Refuse workers that hold another package, other data or other versions, in words."""
    try:
        held = client.run(identity)
    except Exception as error:
        raise ClusterError(f"{address}: evcm does not run on the workers ({error})") from error
    if not held:
        raise ClusterError(f"{address}: the scheduler has no workers")
    here = identity()
    wrong = [
        f"worker {worker}: {name} is {there.get(name)}, here {value}"
        for worker, there in held.items()
        for name, value in here.items()
        if there.get(name) != value
    ]
    if wrong:
        raise ClusterError(f"{address}: results would differ; " + "; ".join(wrong[:6]))
