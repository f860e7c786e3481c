"""`evcm synthesis`: the feeder's error curve from the study's transmission results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    app.command("synthesis")(synthesis)


def synthesis(
    out: Annotated[
        Path, typer.Option(help="Folder of the results, where `evcm study` put its tables.")
    ] = Path("results"),
    repeats: Annotated[
        int, typer.Option(min=1, max=1000, help="Synthetic sets drawn for each point.")
    ] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Worker processes.")] = 2,
) -> None:
    """Synthesise the feeder's inputs from transmission results, and measure the error made.

    Draws synthetic sets of 1 % to 50 % of the full set by five methods, runs each
    through the IEEE 13-node feeder, and compares its voltages with the full set's.
    Writes OUT/feeder/synthesis.parquet. What is stored and valid is kept.

    Example: evcm study --out results && evcm synthesis --out results
    """
    from evcm import feeder_study
    from evcm.cli import console
    from evcm.results import Store

    transmission = Store(out).load_table("transmission.parquet")
    with console.status("Synthesising and solving feeder states"):
        curve = feeder_study.synthesis_curve(transmission, out, repeats, seed, jobs)
    names = ", ".join(sorted(set(curve["method"])))
    typer.echo(f"{out / feeder_study.CURVE}: {len(curve)} rows, methods {names}")
