"""The machine at hand, in words, for pages that report times."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path


def processor() -> str:
    """The processor's model."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        found = re.search(r"model name\s*:\s*(.+)", info.read_text("utf-8", errors="replace"))
        model = found[1] if found else model
    return model


def described() -> str:
    """The machine that built the book, in words: processor, cores, memory, system."""
    model = processor()
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{model}, {cores} cores, {pages:.0f} GiB memory, {platform.system()} {platform.machine()}"
    )
