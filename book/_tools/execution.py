"""Notebooks in kernels of their own, without the stalls of a lost wake-up.

A poll of a kernel's socket now and then misses that a message has come, and finds it only when
the poll ends, which for a cell's reply is the cell's time-out. Polls of a second find it in one.
"""

from __future__ import annotations

import time
from queue import Empty
from typing import Any

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.manager import AsyncKernelManager
from traitlets import DottedObjectName, Type

SLICE_S = 1.0
"""Longest poll of a socket."""


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
