"""``evcm building``: dispatch a reader's own building, write an example, or draw many days."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evcm.cli.common import Cluster, Log, Out, Processes, Seed, which_jobs, working

Force = Annotated[bool, typer.Option("--force", help="Write over files of other origin.")]

commands = typer.Typer(
    name="building",
    no_args_is_help=True,
    help="Dispatch a building with PV that charges cars, write an example, or draw many days.",
)


def _check_folder(command: str, option: str, out: Path) -> None:
    from evcm.errors import Checks

    checks = Checks(f"evcm building {command}")
    checks.require(out.parent.is_dir() and not out.is_file(), option, str(out),
                   "a folder, or a new name in an existing one")  # fmt: skip
    checks.done()


@commands.command("run")
def run_command(
    config: Annotated[Path, typer.Option(help="TOML file of the building; names its CSV files.")],
    out: Annotated[Path, typer.Option(help="Folder for the tables; made if it is not there.")],
    force: Force = False,
) -> None:
    """Dispatch the day as printed and with shifting, bank and V2G; certify and write tables."""
    from dataclasses import asdict

    from evcm.building import solve
    from evcm.building.certificate import certify
    from evcm.building.files import RESULTS, read_building, tables
    from evcm.store import files

    _check_folder("run", "--out", out)
    ours = (out / "certificate.json").is_file()
    files.require_own([out / name for name in RESULTS], ours, str(out), force)
    own, sessions = read_building(config)
    plans = solve.compare(own, sessions)
    proofs = {name: asdict(certify(plan).require()) for name, plan in plans.items()}
    out.mkdir(exist_ok=True)
    for name, table in tables(plans).items():
        files.write_csv(out / f"{name}.csv", table)
    files.write_json(out / "certificate.json", proofs)
    typer.echo(
        f"{'variant':26s}{'cost USD':>12s}{'import kWh':>12s}{'peak kW':>10s}{'PV kWh':>10s}"
    )
    for name, plan in plans.items():
        row = solve.summary(plan)
        typer.echo(f"{name:26s}{row['cost_usd']:12.3f}{row['import_kwh']:12.2f}"
                   f"{row['peak_kw']:10.2f}{row['pv_kwh']:10.2f}")  # fmt: skip
    typer.echo(
        f"{len(sessions)} sessions; plans are certified and proven to 0.01 %; tables in {out}"
    )


@commands.command("example")
def example_command(
    out: Annotated[Path, typer.Argument(help="Folder for the example; made if it is not there.")],
    force: Force = False,
) -> None:
    """Write a configuration with its CSV files: an office of 96 quarter-hours with six bays."""
    from evcm.building import solve

    _check_folder("example", "folder", out)
    for file in solve.write_example(out, force):
        typer.echo(str(file))


@commands.command("days")
def days_command(
    out: Out = Path("results"),
    days: Annotated[int, typer.Option(max=10**6, help="Random days, a multiple of 50.")] = 1000,
    seed: Seed = 0,
    jobs: Processes = 2,
    cluster: Cluster = None,
    log: Log = None,
) -> None:
    """Cost of random days with and without PV and shifting; stored days are not computed again."""
    from evcm.study import building_days

    with working(log) as progress:
        table = building_days.random_days(out, days, seed, which_jobs(jobs, cluster), progress)
    typer.echo(f"{days} days, every plan certified; cost, USD/day")
    found = table.groupby("variant", sort=False)["cost_usd"]
    typer.echo(found.describe().drop(columns="count").round(2).to_string())
