"""Notebooks in kernels that are forks of one process, without the stalls of a lost wake-up.

That process has the modules of the chapters imported and nothing else done; every notebook starts
from a copy of it, so that the imports are paid once and nothing passes from one page to another.

A poll of a kernel's socket now and then misses that a message has come, and finds it only when
the poll ends, which for a cell's reply is the cell's time-out. Polls of a second find it in one.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
import uuid
from collections.abc import Iterable
from multiprocessing.context import ForkServerProcess
from queue import Empty
from typing import Any

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner
from traitlets import DottedObjectName, Type

SLICE_S = 1.0
"""Longest poll of a socket."""


def preload(modules: Iterable[str]) -> None:
    """Name the modules that every kernel to come has imported; it holds before the first one."""
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # no debugger, no advice on it
    multiprocessing.get_context("forkserver").set_forkserver_preload(
        ["ipykernel.kernelapp", "ipykernel.debugger", *modules, f"{__package__}.warm"]
    )


def serve(arguments: list[str], env: dict[str, str], cwd: str | None) -> None:
    """Be a kernel until it is shut down."""
    from ipykernel.kernelapp import IPKernelApp

    parent = multiprocessing.parent_process()
    if parent is not None:  # without the builder, no kernel
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    os.setsid()  # a signal to the kernel reaches what it starts
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd or ".")
    IPKernelApp.launch_instance([*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"])


class Fork(ForkServerProcess):
    """A kernel's process, with what `jupyter_client` asks of a `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def poll(self) -> int | None:
        """Its exit code, once it has ended."""
        return self.exitcode

    def wait(self) -> int | None:
        """Its exit code, when it has ended."""
        self.join()
        return self.exitcode

    def send_signal(self, number: int) -> None:
        """Signal it, if it still runs."""
        if self.pid is not None and self.exitcode is None:
            os.kill(self.pid, number)


class ForkProvisioner(LocalProvisioner):
    """Starts a kernel as a fork."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> dict[str, Any]:
        """Fork; `cmd` is that of the kernel's specification, python and all."""
        arguments = cmd[cmd.index("-f") :]
        process = Fork(target=serve, args=(arguments, kwargs["env"], kwargs.get("cwd")))
        process.start()
        self.process, self.pid, self.pgid = process, process.pid, process.pid
        return self.connection_info


class SlicedChannel(AsyncZMQSocketChannel):
    """A channel that waits in slices of `SLICE_S`."""

    async def get_msg(self, timeout: float | None = None) -> dict[str, Any]:  # type: ignore[override]
        """The next message; raises `queue.Empty` if none comes within `timeout` seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = SLICE_S if end is None else min(SLICE_S, end - time.monotonic())
            try:
                return await super().get_msg(max(left, 0.0))
            except Empty:
                if end is not None and time.monotonic() >= end:
                    raise


class SlicedClient(AsyncKernelClient):
    """A kernel's client with such channels."""

    shell_channel_class = Type(SlicedChannel)  # type: ignore[assignment]
    iopub_channel_class = Type(SlicedChannel)  # type: ignore[assignment]


class SlicedManager(AsyncKernelManager):
    """For ``kernel_manager_class`` of `nbclient.NotebookClient` and of what wraps it."""

    client_class = DottedObjectName(f"{__name__}.SlicedClient")
    client_factory = Type(SlicedClient)


class ForkManager(SlicedManager):
    """The same, for kernels that are forks."""

    async def _async_pre_start_kernel(self, **kw: Any) -> tuple[list[str], dict[str, Any]]:
        if self.provisioner is None:
            self.kernel_id = self.kernel_id or str(uuid.uuid4())
            self.provisioner = ForkProvisioner(
                kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self
            )
        return await super()._async_pre_start_kernel(**kw)
