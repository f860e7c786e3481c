"""`evcm hosting` and `evcm compare`: hosting capacity, and every regime side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evcm.cli.common import (
    Cluster,
    InputsFolder,
    Log,
    Out,
    Processes,
    ScenarioName,
    SideName,
    which_cases,
    which_inputs,
    which_jobs,
    working,
)


def _numbers(text: str, option: str) -> tuple[int, ...]:
    from evcm.errors import Fault, InputError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        fault = Fault(option, text, "whole numbers with commas between them")
        raise InputError("evcm hosting", [fault]) from None


def hosting(
    inputs: InputsFolder = None,
    out: Out = Path("results"),
    counts: Annotated[
        str | None,
        typer.Option(
            help="Numbers of cars, multiples of 200 (of more where there are many buses).  "
            "[default: 2000 ... 30000, scaled to where the inputs run short]"
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Fleets drawn.")] = 40,
    days: Annotated[
        int, typer.Option(min=1, max=10_000, help="Days drawn for uncontrolled charging.")
    ] = 100,
    jobs: Processes = 2,
    cluster: Cluster = None,
    log: Log = None,
) -> None:
    """Find how many cars the network hosts under each regime, and which limit ends it.

    Writes tables to OUT/hosting. What is stored and still valid is not computed again. Every fleet
    drawn takes about five plannings of all aggregators.

    Example: evcm hosting --counts 6000,7000,8000,9000 --seeds 8
    """
    from dataclasses import replace

    from evcm.study.hosting import first_counts, grid_for, run

    own = tuple(range(1, seeds + 1))
    told, few = which_inputs(inputs), min(20, days)
    grid = grid_for(told)
    grid = replace(grid, seeds=own, capped_seeds=own[: len(grid.capped_seeds)], days=days,
                   curve_days=few, outage_days=few)  # fmt: skip
    if counts is not None:
        asked = _numbers(counts, "--counts")
        grid = replace(grid, counts=asked, sweep_counts=asked)
    with working(log) as progress:
        tables = run(told, grid, out, which_jobs(jobs, cluster), progress)
    typer.echo("First count at which half of the days run short, or a cap is below the trips")
    typer.echo(first_counts(tables).round(0).to_string(index=False))


def compare(
    inputs: InputsFolder = None,
    scenario: ScenarioName = "all",
    side: SideName = "both",
    gap: Annotated[
        float, typer.Option(help="Gap of the study's plans, as a share of turnover.")
    ] = 1e-3,
    cars_per_group: Annotated[
        int | None,
        typer.Option(min=1, max=10**6, help="Cars that share one schedule, as in the study."),
    ] = None,
    jobs: Processes = 2,
    cluster: Cluster = None,
    log: Log = None,
    out: Out = Path("results"),
) -> None:
    """Compare all regimes: uncontrolled, apart, caps by every rule, loop, joint optimum.

    Uses the study's plans where they are stored in OUT and writes tables to OUT/coordination.

    Example: evcm compare --scenario 1 --side max
    """
    from evcm.study import comparison
    from evcm.study.flow import Settings

    told = which_inputs(inputs)
    scenarios, sides = which_cases(scenario, side, told)
    jobs_or_address = which_jobs(jobs, cluster)
    settings = Settings(
        scenarios=scenarios, sides=sides, gap=gap, cars_per_group=cars_per_group,
        jobs=jobs_or_address,
    )  # fmt: skip
    with working(log) as progress:
        tables = comparison.run(told, settings, out, progress)
    columns = ["scenario", "side", "regime", "paid_usd", "expected_usd", "energy_mwh", "peak_mw",
               "losses_mwh", "nse_mwh", "v_min_pu"]  # fmt: skip
    typer.echo(tables["regimes"][columns].round(3).to_string(index=False))
    typer.echo(tables["loop"].round(3).to_string(index=False))


def hinges(
    inputs: InputsFolder = None,
    out: Out = Path("results"),
    jobs: Processes = 2,
    cluster: Cluster = None,
    log: Log = None,
) -> None:
    """Turn one assumption at a time: wear, feeding in, chargers, clamp, forecast, prices, draws.

    Writes OUT/hinges: bill, energy not supplied, energy fed in and first shortage of each.

    Example: evcm hinges --inputs mine
    """
    from evcm.study import hinges as study

    told = which_inputs(inputs)
    with working(log) as progress:
        table = study.run(told, out, which_jobs(jobs, cluster), progress)
    typer.echo(table.round(2).to_string(index=False))


commands = (hosting, compare, hinges)
