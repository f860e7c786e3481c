"""Stored measurements of the scripts in ``benchmarks/``, with the machine that made them.

Runs of many minutes are not repeated when the book is built. Their rows lie in
``benchmarks/results/NAME.json``, one list for each part, with date, processor and commit, and the
book shows them with that origin.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from evcm import data
from evcm.errors import Fault, InputError
from evcm.store import files


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


FOLDER = (data.checkout() or Path()) / "benchmarks" / "results"


@dataclass(frozen=True)
class Benchmark:
    """Rows of one part of a benchmark, and where and when they were measured."""

    table: pd.DataFrame
    machine: Mapping[str, Any]

    def __str__(self) -> str:
        m = self.machine
        return (
            f"Measured {m['date']} UTC on {m['processor']}, {m['cores']} cores "
            f"(load average {m['load_average']:.1f}), Python {m['python']}, code {m['code']}."
        )


def load(name: str, part: str, folder: str | Path = FOLDER) -> Benchmark:
    """Stored measurements of one part of ``benchmarks/NAME.py``.

    Raises
    ------
    InputError
        The file or the part is missing; the message names the command that makes it.
    """
    path = Path(folder) / f"{name}.json"
    content = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    if part not in content:
        fault = Fault(part, "missing", f"made by: python benchmarks/{name}.py")
        raise InputError(str(path), [fault])
    return Benchmark(pd.DataFrame(content[part]["rows"]), content[part]["machine"])


def store(
    name: str, part: str, rows: Sequence[Mapping[str, Any]], folder: str | Path = FOLDER
) -> None:
    """Keep the rows of one part; other parts of the same benchmark keep theirs.

    A number that is not finite is kept as null: JSON has no other.
    """
    path = Path(folder) / f"{name}.json"
    content = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    kept = [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        for row in rows
    ]
    content[part] = {"machine": _machine(), "rows": kept}
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, content)


def _machine() -> dict[str, Any]:
    def git(*words: str) -> str:
        told = ["git", *words]
        return subprocess.run(
            told, capture_output=True, text=True, check=False, cwd=data.root()
        ).stdout.strip()

    code = git("rev-parse", "--short", "HEAD")
    # What is stored part by part lies in the tree while the next part is measured.
    changed = git("status", "--porcelain", "-uno", "--", ":/", ":!/benchmarks/results")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "code": f"{code}-dirty" if changed else code or "unknown",
    }
