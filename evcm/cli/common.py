"""What commands share: options, progress, the log, and folders proved before any work is done."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from evcm.errors import Checks
    from evcm.inputs.study import Inputs
    from evcm.store.each import Jobs, Progress
    from evcm.trips.montecarlo import Side

ScenarioName = Annotated[
    str,
    typer.Option(
        "--scenario",
        help="Scenario of the inputs, or all; the paper's: 1 (2000 cars), 2 (2500), 3 (3750).",
    ),
]
InputsFolder = Annotated[
    Path | None,
    typer.Option(
        "--inputs", metavar="FOLDER",
        help="Folder of inputs, as `evcm inputs example` writes it; the paper's without it.",
    ),
]  # fmt: skip
SideName = Annotated[
    str, typer.Option("--side", help="Extreme Monte Carlo sample: min, max or both.")
]
Processes = Annotated[
    int, typer.Option("--jobs", min=1, max=256, help="Processes on this machine.")
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster", metavar="ADDRESS", envvar="DASK_SCHEDULER_ADDRESS",
        help="Work on an existing Dask cluster, such as tcp://host:8786, instead of --jobs.",
    ),
]  # fmt: skip
Log = Annotated[
    Path | None, typer.Option("--log", metavar="FILE", help="Append to this file what runs.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program instead of text.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of all draws.")]


HOW = frozenset({"jobs", "cluster", "log", "out"})
"""Options that say how a command works, not what it computes."""


def _own_folder(context: typer.Context, out: Path) -> Path:
    """The folder that was asked for; else ``results`` for all that the command computes.

    A part of it, or another study, goes to a folder named after the options that ask for it: the
    tables of the whole are never replaced by those of a part. Every given option is known here,
    since what was not given is processed last.
    """
    source = context.get_parameter_source("out")
    if source is None or source.name != "DEFAULT":
        return out
    given = [
        f"{param.name}-{context.params[param.name]}".replace("_", "-")
        for param in context.command.params
        if param.name and param.name not in HOW
        and context.params.get(param.name, param.default) != param.default
    ]  # fmt: skip
    if not given:
        return out
    name = "-".join([str(out), *(re.sub(r"[^\w.,-]+", "-", part).strip("-") for part in given)])
    if len(name) > 100:
        name = f"{name[:90]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    typer.echo(f"not the whole: results go to {name} (--out names another folder)", err=True)
    return Path(name)


Out = Annotated[
    Path,
    typer.Option(
        "--out", callback=_own_folder,
        help="Folder of the results; made if missing. Without it, a part of the whole goes to a "
        "folder named after its options, such as results-scenario-1.",
    ),
]  # fmt: skip


def which_inputs(folder: Path | None) -> Inputs:
    """Inputs of the option ``--inputs``; the paper's without it."""
    from evcm.inputs.folder import paper, read

    return paper() if folder is None else read(folder)


def which_cases(
    scenario: str, side: str, inputs: Inputs, checks: Checks | None = None
) -> tuple[tuple[int, ...], tuple[Side, ...]]:
    """Scenario numbers and sides of the options ``--scenario`` and ``--side``.

    Raises
    ------
    InputError
        One of them is none of the names; what `checks` found before is told with it.
    """
    from evcm.errors import Checks
    from evcm.trips.montecarlo import SIDES

    checks = checks or Checks("command line")
    names = [str(s.number) for s in inputs.scenarios]
    checks.require(scenario in [*names, "all"], "--scenario", scenario, ", ".join([*names, "all"]))
    checks.require(side in (*SIDES, "both"), "--side", side, ", ".join((*SIDES, "both")))
    checks.done()
    numbers = tuple(map(int, names)) if scenario == "all" else (int(scenario),)
    sides = SIDES if side == "both" else tuple(s for s in SIDES if s == side)
    return numbers, sides


def which_jobs(processes: int, cluster: str | None) -> Jobs:
    """Where work runs: on a cluster where one is named, else in processes of this machine."""
    return cluster or processes


@contextmanager
def working(log: Path | None = None) -> Iterator[Progress]:
    """Show steps as bars with the time left, and what runs on standard error and in a log file.

    Raises
    ------
    InputError
        The log file cannot be written.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    from evcm.cli import console

    columns = (
        TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    logger = logging.getLogger("evcm")
    with Bars(*columns, console=console) as bars, _handlers(logger, bars.console.print, log):
        shown: dict[str, TaskID] = {}

        def progress(step: str, done: int, total: int) -> None:
            if step and step not in shown:
                shown[step] = bars.add_task(step, total=total)
            if step:
                bars.update(shown[step], completed=done, total=total)

        yield progress


@contextmanager
def _handlers(logger: logging.Logger, show: Any, log: Path | None) -> Iterator[None]:
    """Send what is announced to the screen, and all that is logged to the file."""

    class Screen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            show(record.getMessage(), markup=False, soft_wrap=True)

    screen = Screen(logging.WARNING)
    screen.addFilter(lambda record: True)
    handlers: list[logging.Handler] = [screen]
    if log is not None:
        from evcm.store import files

        files.check_target(log, "--log")
        file = logging.FileHandler(log, encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        handlers.append(file)
    before = logger.level
    logger.setLevel(logging.INFO)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    except BaseException as error:
        logger.info("stopped: %s", error or type(error).__name__)
        raise
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(before)


def print_json(content: Any) -> None:
    """Print content as JSON: tables as lists of rows, numbers that JSON does not have as null."""
    typer.echo(json.dumps(plain(content), indent=2, allow_nan=False))


def plain(value: Any) -> Any:
    """A value in the terms of JSON."""
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return plain(value.to_dict("records"))
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not -1e308 < value < 1e308:
        return None
    return str(value) if isinstance(value, Path) else value
