"""`evcm quickstart`: a figure and five numbers in a minute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evcm.cli.common import AsJson, Cluster, Log, print_json, which_inputs, which_jobs, working


def quickstart(
    case: Annotated[
        str | None,
        typer.Option("--case", metavar="FILE", help="A network instead: .m, .py, .json or a name."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for figure, numbers and example files.")
    ] = Path("evcm-quickstart"),
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, max=256, help="Processes; all by default.")
    ] = None,
    cluster: Cluster = None,
    log: Log = None,
    as_json: AsJson = False,
) -> None:
    """Give a first answer: five numbers and a figure for 2000 cars, or for a network of yours.

    Writes example files for the other commands as well, and says which. The first run compiles
    for half a minute.

    Example: evcm quickstart --case case30
    """
    import os
    import time

    from evcm.plots import network as plots
    from evcm.store import files
    from evcm.study import quickstart as first

    clock = time.perf_counter()
    processes = jobs or min(os.cpu_count() or 1, 8)
    with working(log) as progress:
        told = which_inputs(None)
        if case is None:
            workers = which_jobs(processes, cluster)
            found = first.of_scenario(told, 1, out, workers, progress)
        else:
            found = first.of_case(told, case, out, progress)
        figure = plots.day_curves(found.days)
        with files.atomic(out / "figure.html") as temporary:
            figure.write_html(temporary, include_plotlyjs=True)
    if as_json:
        print_json({"numbers": found.numbers, "files": [*found.written, out / "figure.html"]})
        return
    for name, value in found.numbers.items():
        typer.echo(f"{value:12,.3f}  {name}")
    typer.echo(f"\nfigure        {out / 'figure.html'} (open it in a browser)")
    typer.echo(f"files         {', '.join(str(path) for path in found.written)}")
    typer.echo(f"What was done {_done(case, first.CARS_PER_GROUP, first.GAP)}")
    typer.echo(f"              in {time.perf_counter() - clock:.0f} s, every result certified.")
    typer.echo("Next")
    for line in _next(case, out):
        typer.echo(f"  {line}")


def _done(case: str | None, cars_per_group: int, gap: float) -> str:
    if case is not None:
        return f"48 AC OPFs of the reference day on {case}, and the caps (54)"
    return (
        "a million car-days drawn; the 2000 cars of scenario 1 on the day of most energy, charged\n"
        "              at once or by 11 aggregators that each plan alone (groups of "
        f"{cars_per_group} cars,\n              gap of {gap:.0%}); 3 x 48 AC OPFs"
    )


def _next(case: str | None, out: Path) -> list[str]:
    if case is not None:
        return [
            f"evcm caps --case {case} --out caps.csv       # what the network leaves for cars",
            "evcm inputs --help                            # a study of your own",
        ]
    return [
        f"evcm aggregator solve {out}/instance-bus14.npz --out plan.npz",
        f"evcm opf --ev {out}/ev.csv --out day.csv       # an operator's day with these cars",
        f"evcm reinforce --nsp {out}/day.csv --out sizes.csv",
        "evcm study --scenario 1                       # the same to 0.1 %, and with caps",
    ]


commands = (quickstart,)
