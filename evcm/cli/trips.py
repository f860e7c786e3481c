"""``evcm trips``: the Monte Carlo simulation of the trips."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evcm.cli.common import InputsFolder, which_cases, which_inputs

if TYPE_CHECKING:
    import pandas as pd

    from evcm.trips.montecarlo import MonteCarlo


def trips(
    inputs: InputsFolder = None,
    scenario: Annotated[
        str, typer.Option(help="Adoption scenario: 1 (2000 cars), 2 (2500), 3 (3750) or all.")
    ] = "all",
    law: Annotated[
        str | None,
        typer.Option(
            help="Trip law of the inputs; the paper's: published (mean departure 08:02, arrival "
            "19:54: behind the paper's results) or printed (mean arrival 22:04: its text)."
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of the draw, 0 or more. Same seed, same result.")
    ] = 1,
    threads: Annotated[
        int | None,
        typer.Option(help="Threads; all processors if left out. The result does not depend on it."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for table1.parquet, gchr.parquet, trips.json; made if missing."),
    ] = None,
) -> None:
    """Draw every car of every Monte Carlo sample and find the extreme samples.

    Prints the least and the most energy that the cars of a scenario need
    for driving in a day (GChR, equation 3), and in those two samples the
    cars by bus of departure and arrival (Table 1). All scenarios together
    draw 1,000,000 car-days; the first run compiles for a few seconds.

    Example: evcm trips --scenario 3 --law printed --seed 7 --out results
    """
    from evcm.errors import Checks
    from evcm.store import files
    from evcm.trips import montecarlo

    told = which_inputs(inputs)
    checks = Checks("evcm trips")
    checks.require(out is None or not out.is_file(), "--out", str(out), "a folder")
    chosen = [told.scenario(n) for n in which_cases(scenario, "both", told, checks)[0]]
    trip_law = told.law(law) if told.laws else None
    results = [montecarlo.simulate(told, s, trip_law, seed, threads) for s in chosen]
    table = montecarlo.table_1(results)
    for result in results:
        _show(result, table)
    if out is not None:
        files.make_folder(out)
        files.write_parquet(out / "table1.parquet", table)
        files.write_parquet(out / "gchr.parquet", montecarlo.gchr_table(results))
        files.write_json(out / "trips.json", {"law": _law(results[0]), "seed": seed, "scenarios": [
            {"number": r.scenario.number, "cars": r.scenario.cars, "samples": r.scenario.samples,
             "min_sample": r.min_sample, "max_sample": r.max_sample,
             "min_mwh": float(r.gchr_mwh.min()), "max_mwh": float(r.gchr_mwh.max())}
            for r in results
        ]})  # fmt: skip
        typer.echo(f"Written to {out}: table1.parquet, gchr.parquet, trips.json")


def _law(result: MonteCarlo) -> str:
    return "none" if result.law is None else result.law.name


def _show(result: MonteCarlo, table: pd.DataFrame) -> None:
    """Print one scenario's extremes and its part of Table 1."""
    from rich.console import Console
    from rich.table import Table

    s, gchr = result.scenario, result.gchr_mwh
    show = Table(
        title=f"Scenario {s.number}: {s.cars} cars x {s.samples} samples, law {_law(result)}, "
        f"seed {result.seed}",
        caption=f"{s.car_days:,} car-days in {result.seconds:.3f} s on {result.threads} threads. "
        f"GChR: least {gchr.min():.4f} MWh (sample {result.min_sample}), most {gchr.max():.4f} MWh "
        f"(sample {result.max_sample}), mean {gchr.mean():.4f} MWh",
    )
    for name in ("Bus", "min Dep.", "min Arr.", "max Dep.", "max Arr."):
        show.add_column(name, justify="right")
    mine = table[table["scenario"] == s.number]
    wide = mine.pivot_table(index="bus", columns="side", values=["departures", "arrivals"])
    for bus, row in wide.iterrows():
        cells = [
            row["departures", "min"], row["arrivals", "min"],
            row["departures", "max"], row["arrivals", "max"],
        ]  # fmt: skip
        show.add_row(str(bus), *(f"{c:.0f}" for c in cells))
    total = mine.groupby("side")[["departures", "arrivals"]].sum().loc[["min", "max"]]
    show.add_row("all", *(f"{sum_:.0f}" for sum_ in total.to_numpy(float).ravel()))
    Console().print(show)


commands = (trips,)
