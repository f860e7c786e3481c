"""`evcm study`: the whole study, stored and resumable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evcm.cli.common import (
    Cluster,
    InputsFolder,
    Log,
    Out,
    Processes,
    ScenarioName,
    Seed,
    SideName,
    which_cases,
    which_inputs,
    which_jobs,
    working,
)

if TYPE_CHECKING:
    import pandas as pd

    from evcm.study.flow import StudyResult


def study(
    inputs: InputsFolder = None,
    scenario: ScenarioName = "all",
    side: SideName = "both",
    seed: Seed = 1,
    jobs: Processes = 2,
    cluster: Cluster = None,
    out: Out = Path("results"),
    log: Log = None,
    gap: Annotated[
        float, typer.Option(help="Gap to prove for every plan, as a share of its turnover.")
    ] = 1e-3,
    law: Annotated[
        str | None,
        typer.Option(help="Trip law of the inputs; the paper's: published or printed."),
    ] = None,
    cars_per_group: Annotated[
        int | None,
        typer.Option(
            max=10**6,
            help="Cars that share one schedule; 1: single cars, which takes several times as long.",
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(help="Many seeds instead of one, such as 1-20: how far the headlines move."),
    ] = None,
) -> None:
    """Run the study: trips, aggregators, OPF days, caps, aggregators under caps, OPF days.

    Results are Parquet tables with a manifest. What is stored and still
    valid is not computed again, so an interrupted run goes on where it
    stopped. Prints Tables 1 to 5.

    With --seeds, every seed is drawn, planned and operated on its own under
    uncontrolled, apart, equilibrium, maximum total, proportional and joint,
    and medians with 90 % intervals are printed instead.

    Example: evcm study --inputs mine --scenario 1 --side max
    """
    from evcm.study.flow import Settings, run

    told = which_inputs(inputs)
    scenarios, sides = which_cases(scenario, side, told)
    settings = Settings(
        scenarios=scenarios,
        sides=sides,
        seed=seed,
        law=law,
        gap=gap,
        cars_per_group=cars_per_group,
        jobs=which_jobs(jobs, cluster),
    )
    if seeds is not None:
        from evcm.study.seeds import parse
        from evcm.study.seeds import run as run_seeds

        many = parse(seeds)
        with working(log) as progress:
            table = run_seeds(told, settings, many, out, progress)
        _show_seeds(table)
        return
    with working(log) as progress:
        result = run(told, settings, out, progress)
    _show(result)


def _show_seeds(table: pd.DataFrame) -> None:
    from evcm.study.seeds import intervals

    for value in ("paid_usd", "nse_mwh", "fed_in_mwh", "losses_mwh", "peak_mw"):
        typer.echo(f"{value}, over the seeds")
        typer.echo(intervals(table, value).round(3).to_string())


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
        echo(f"\nTable {number}. Day-ahead energy by bus, MWh, {regime}")
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


commands = (study,)
