"""Small pure tasks for the tests of the loop, and a Dask cluster of processes on this machine."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evcm.errors import InfeasibleError
from evcm.store.result import Result

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Draw:
    """Random numbers of a seed; `kill` names a file: without it the worker makes it and dies."""

    seed: int
    wait_s: float = 0.0
    kill: str = ""
    fail: bool = False

    @property
    def name(self):
        return f"seed{self.seed}"

    def key(self):
        return f"draw-{self.seed}"

    def run(self):
        if self.kill and not Path(self.kill).exists():
            Path(self.kill).write_text("")
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fail:
            raise InfeasibleError(f"seed {self.seed} has no plan")
        time.sleep(self.wait_s)
        numbers = np.random.default_rng(self.seed).normal(size=(3, 4))
        return Result({"total": float(numbers.sum())}, {"numbers": numbers, "of": np.array("π")})


def environment():
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cluster:
    """A scheduler and workers, each a process in a folder of its own."""

    def __init__(self, folder, workers=2):
        self.folder = folder
        port = free_port()
        self.address = f"tcp://127.0.0.1:{port}"
        self.scheduler = self.start(
            "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--no-show"
        )
        self.workers = [self.add_worker() for _ in range(workers)]

    def start(self, *what):
        home = self.folder / f"process{time.monotonic_ns()}"
        home.mkdir(parents=True)
        with (home / "log").open("w") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *what], cwd=home, env=environment(),
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def add_worker(self):
        return self.start(
            "worker", self.address, "--nthreads", "1", "--no-dashboard", "--no-nanny",
            "--death-timeout", "60",
        )  # fmt: skip

    def wait_for(self, workers, seconds=120):
        from distributed import Client

        with Client(self.address, timeout=seconds, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=seconds)
        return self

    def stop(self):
        for process in (*self.workers, self.scheduler):
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
