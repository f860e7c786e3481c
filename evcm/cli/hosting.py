"""`evcm hosting` and `evcm compare`: hosting capacity, and every regime side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

Progress = Callable[[str, int, int], None]

Out = Annotated[Path, typer.Option(help="Folder of the results.")]
Jobs = Annotated[int, typer.Option(min=1, max=256, help="Worker processes.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    app.command("hosting")(hosting)
    app.command("compare")(compare)


@contextmanager
def bars() -> Iterator[Progress]:
    """A progress bar for every step that reports itself."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    from evcm.cli import console

    label = TextColumn("{task.description:<28}")
    with Bars(label, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console) as b:
        steps: dict[str, int] = {}

        def progress(step: str, done: int, total: int) -> None:
            if step not in steps:
                steps[step] = b.add_task(step, total=total)
            b.update(steps[step], completed=done)  # type: ignore[arg-type]

        yield progress


def _numbers(text: str, option: str) -> tuple[int, ...]:
    from evcm.errors import Fault, InputError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        fault = Fault(option, text, "whole numbers with commas between them")
        raise InputError("evcm hosting", [fault]) from None


def _check_out(out: Path, command: str) -> None:
    from evcm.errors import Checks

    checks = Checks(command)
    checks.require(not out.is_file(), "--out", str(out), "a folder")
    checks.done()


def hosting(
    out: Out = Path("results"),
    counts: Annotated[
        str | None,
        typer.Option(help="Numbers of cars, multiples of 200.  [default: 2000 ... 30000]"),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Fleets drawn.")] = 4,
    days: Annotated[
        int, typer.Option(min=1, max=10_000, help="Days drawn for uncontrolled charging.")
    ] = 100,
    jobs: Jobs = 2,
) -> None:
    """Find how many cars the network hosts: uncontrolled, apart and under proportional caps.

    Writes tables to OUT/hosting. What is stored and still valid is not computed again. A finer
    grid takes longer: about 6 s of processor time for each count and seed.

    Example: evcm hosting --out results --counts 6000,7000,8000,9000 --seeds 8
    """
    from dataclasses import replace

    from evcm.study.hosting import Grid, first_counts, run

    _check_out(out, "evcm hosting")
    own = tuple(range(1, seeds + 1))
    grid = replace(Grid(), seeds=own, capped_seeds=own[:2], days=days, curve_days=min(20, days))
    if counts is not None:
        asked = _numbers(counts, "--counts")
        grid = replace(grid, counts=asked, repeated_counts=asked, sweep_counts=asked)
    with bars() as progress:
        tables = run(grid, out, jobs, progress)
    typer.echo("First count with energy not supplied (inf: none on the grid)")
    typer.echo(first_counts(tables).to_string(index=False))
    least = tables["caps"].groupby("rule")["most_cars"].min()
    typer.echo("\nCount at which the first aggregator cannot live with its cap any more")
    typer.echo(least.round(0).to_string())


def compare(
    scenario: Annotated[
        str, typer.Option(help="Adoption scenario: 1 (2000 cars), 2 (2500), 3 (3750) or all.")
    ] = "all",
    side: Annotated[
        str, typer.Option(help="Extreme Monte Carlo sample: min, max or both.")
    ] = "both",
    gap: Annotated[
        float, typer.Option(help="Gap of the study's plans, as a share of turnover.")
    ] = 2e-3,
    jobs: Jobs = 2,
    out: Out = Path("results"),
) -> None:
    """Compare all regimes: uncontrolled, apart, caps by every rule, loop, joint optimum.

    Uses the study's plans where they are stored in OUT and writes tables to OUT/coordination.

    Example: evcm compare --scenario 1 --side max --out results
    """
    from evcm import inputs
    from evcm.errors import Checks
    from evcm.study import comparison
    from evcm.study.flow import Settings
    from evcm.trips.montecarlo import SIDES

    checks = Checks("evcm compare")
    names = [str(s.number) for s in inputs.scenarios()]
    checks.require(scenario in [*names, "all"], "--scenario", scenario, ", ".join([*names, "all"]))
    checks.require(side in ("min", "max", "both"), "--side", side, "min, max, both")
    checks.done()
    _check_out(out, "evcm compare")
    settings = Settings(
        scenarios=tuple(map(int, names)) if scenario == "all" else (int(scenario),),
        sides=SIDES if side == "both" else (side,),  # type: ignore[arg-type]
        gap=gap,
        jobs=jobs,
    )
    with bars() as progress:
        tables = comparison.run(settings, out, progress)
    columns = ["scenario", "side", "regime", "cost_usd", "seen_usd", "energy_mwh", "peak_mw",
               "losses_mwh", "nse_mwh", "v_min_pu"]  # fmt: skip
    typer.echo(tables["regimes"][columns].round(3).to_string(index=False))
    typer.echo(tables["loop"].round(3).to_string(index=False))
