"""`evcm study`: the whole study, stored and resumable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from evcm.study.flow import StudyResult


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    app.command("study")(study)


def study(
    scenario: Annotated[
        str, typer.Option(help="Adoption scenario: 1 (2000 cars), 2 (2500), 3 (3750) or all.")
    ] = "all",
    side: Annotated[
        str, typer.Option(help="Extreme Monte Carlo sample: min, max or both.")
    ] = "both",
    seed: Annotated[int, typer.Option(help="Seed of all draws, 0 or more.")] = 1,
    jobs: Annotated[int, typer.Option(help="Worker processes for the aggregators.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("results"),
    gap: Annotated[
        float, typer.Option(help="Gap to prove for every plan, as a share of its turnover.")
    ] = 2e-3,
    law: Annotated[str, typer.Option(help="Trip law: published or printed.")] = "published",
    cars_per_group: Annotated[
        int, typer.Option(help="Cars that share one schedule; 1: single cars, which takes hours.")
    ] = 10,
) -> None:
    """Run the study: trips, aggregators, OPF days, caps, aggregators under caps, OPF days.

    Results are Parquet tables with a manifest. What is stored and still
    valid is not computed again, so an interrupted run goes on where it
    stopped. Prints Tables 1 to 5.

    Example: evcm study --scenario 1 --side max --out results-1
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
    )  # fmt: skip

    from evcm import inputs
    from evcm.cli import console
    from evcm.errors import Checks
    from evcm.study.flow import Settings, run
    from evcm.trips.montecarlo import SIDES

    checks = Checks("evcm study")
    names = [str(s.number) for s in inputs.scenarios()]
    checks.require(scenario in [*names, "all"], "--scenario", scenario, ", ".join([*names, "all"]))
    checks.require(side in ("min", "max", "both"), "--side", side, "min, max, both")
    checks.require(not out.is_file(), "--out", str(out), "a folder")
    checks.done()
    settings = Settings(
        scenarios=tuple(map(int, names)) if scenario == "all" else (int(scenario),),
        sides=SIDES if side == "both" else (side,),  # type: ignore[arg-type]
        seed=seed,
        law=law,
        gap=gap,
        cars_per_group=cars_per_group,
        jobs=jobs,
    )
    label = TextColumn("{task.description:<24}")
    columns = (label, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        steps: dict[str, TaskID] = {}

        def progress(step: str, done: int, total: int) -> None:
            if step not in steps:
                steps[step] = bar.add_task(step, total=total)
            bar.update(steps[step], completed=done)

        result = run(settings, out, progress)
    _show(result)


def _show(result: StudyResult) -> None:
    from evcm.study import tables

    echo = typer.echo
    echo("Table 1. Cars by bus of departure and of arrival")
    echo(
        result.table_1.pivot_table(
            index="bus", columns=["scenario", "side"], values=["departures", "arrivals"]
        ).to_string()
    )
    for number, regime in ((2, "apart"), (4, "maximum total")):
        echo(f"\nTable {number}. Day-ahead energy by bus, MWh a day, {regime}")
        echo(tables.energy_by_bus(result.aggregators, regime).round(3).to_string())
    echo("\nTables 3 and 5. The operator's day")
    echo(tables.system_summary(result.system, result.transmission).round(3).to_string(index=False))
    plans = result.aggregators
    echo(
        f"\n{len(plans)} plans, all certified; largest proven gap {plans['gap'].max():.4%} of "
        f"turnover, median time {plans['seconds'].median():.2f} s. Results in {result.folder} "
        f"({result.seconds:.0f} s)."
    )
    for row in plans[plans["cap_raised_percent"] > 0].itertuples():
        echo(
            f"scenario {row.scenario} {row.side}, bus {row.bus}: no plan can live with the "
            f"operator's cap; the least uniform increase is {row.cap_raised_percent:.1f} %"
        )
