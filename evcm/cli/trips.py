"""``evcm trips``: the Monte Carlo simulation of the trips."""

from __future__ import annotations

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("trips")(trips)


def trips(
    scenario: str = typer.Option(
        "all", help="Adoption scenario: 1 (2000 cars), 2 (2500), 3 (3750) or all."
    ),
    law: str = typer.Option(
        "published",
        help="Trip law: published (departures 08:02, arrivals 19:54: what the paper's results "
        "used) or printed (arrivals 22:04: what its text says).",
    ),
    seed: int = typer.Option(1, help="Seed of the draw, 0 or more. Same seed, same result."),
    threads: int | None = typer.Option(
        None, help="Threads; all processors if left out. The result does not depend on it."
    ),
    out: Path | None = typer.Option(
        None, help="Folder for table1.parquet, gchr.parquet and trips.json; made if missing."
    ),
) -> None:
    """Draw every car of every Monte Carlo sample and find the extreme samples.

    Prints the least and the most energy that a scenario's cars need for driving in a day (GChR,
    equation 3) and the cars by bus of departure and arrival in those two samples (Table 1).
    1,000,000 car-days in all; the first run compiles for a few seconds.

    Example: evcm trips --scenario 3 --law printed --seed 7 --out results
    """
    from evcm import files, inputs, montecarlo
    from evcm.errors import Checks

    checks = Checks("evcm trips")
    names = [str(s.number) for s in inputs.scenarios()]
    checks.require(scenario in [*names, "all"], "--scenario", scenario, ", ".join([*names, "all"]))
    if out is not None:
        checks.require(not out.is_file(), "--out", str(out), "a folder")
    checks.done()
    chosen = inputs.scenarios() if scenario == "all" else (inputs.scenario(int(scenario)),)
    trip_law = inputs.trip_law(law)
    results = [montecarlo.simulate(s, trip_law, seed, threads) for s in chosen]
    table = montecarlo.table_1(results)
    for result in results:
        _show(result, table)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        files.write_parquet(out / "table1.parquet", table)
        files.write_parquet(out / "gchr.parquet", montecarlo.gchr_table(results))
        files.write_json(out / "trips.json", {"law": law, "seed": seed, "scenarios": [
            {"number": r.scenario.number, "cars": r.scenario.cars, "samples": r.scenario.samples,
             "min_sample": r.min_sample, "max_sample": r.max_sample,
             "min_mwh": float(r.gchr_mwh.min()), "max_mwh": float(r.gchr_mwh.max())}
            for r in results
        ]})  # fmt: skip
        typer.echo(f"Written to {out}: table1.parquet, gchr.parquet, trips.json")


def _show(result, table) -> None:  # type: ignore[no-untyped-def]
    """Print one scenario's extremes and its part of Table 1."""
    from rich.console import Console
    from rich.table import Table

    s, gchr = result.scenario, result.gchr_mwh
    show = Table(
        title=f"Scenario {s.number}: {s.cars} cars x {s.samples} samples, law {result.law.name}, "
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
    total = mine.groupby("side")[["departures", "arrivals"]].sum()
    show.add_row("all", *(f"{total.loc[a, b]:.0f}" for a in ("min", "max") for b in total.columns))
    Console().print(show)
