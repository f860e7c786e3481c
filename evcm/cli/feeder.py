"""`evcm feeder`: the published case of the IEEE 13-node feeder, or one of your own, as a table."""

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
    Seed,
    which_inputs,
    which_jobs,
    working,
)


def synthesis(
    inputs: InputsFolder = None,
    out: Out = Path("results"),
    repeats: Annotated[
        int, typer.Option(min=1, max=1000, help="Synthetic sets drawn for each point.")
    ] = 5,
    seed: Seed = 0,
    jobs: Processes = 2,
    cluster: Cluster = None,
    log: Log = None,
) -> None:
    """Synthesise the feeder's inputs from transmission results, and measure the error made.

    Draws synthetic sets of 1 % to 50 % of the full set by five methods, runs each
    through the IEEE 13-node feeder, and compares its voltages with the full set's.
    Writes OUT/feeder/synthesis.parquet. What is stored and valid is kept.

    Example: evcm study && evcm synthesis
    """
    from evcm.store.results import StaleError, Store
    from evcm.study import feeder_days

    # Another draw is written to a folder of its own, from the study in the usual one.
    study = out if (out / "transmission.parquet").is_file() else Path("results")
    store = Store(study)
    transmission = store.load_table("transmission.parquet")
    made = store.record("manifest").get("data")
    if inputs is not None and made != which_inputs(inputs).fingerprint:
        raise StaleError(f"{study}: made from other inputs than {inputs}; run evcm study first")
    where = which_jobs(jobs, cluster)
    with working(log) as progress:
        curve = feeder_days.synthesis_curve(transmission, out, repeats, seed, where, progress)
    names = ", ".join(sorted(set(curve["method"])))
    typer.echo(f"{out / feeder_days.CURVE}: {len(curve)} rows, methods {names}")


def feeder(
    out: Annotated[Path, typer.Option(help="CSV to write: node, phase, v_pu, angle_deg.")],
    head_pu: Annotated[float, typer.Option(help="Voltage at the head, per unit.")] = 1.0,
    load_scale: Annotated[float, typer.Option(help="Multiple of the nominal load.")] = 1.0,
    ev_kw: Annotated[
        float, typer.Option(help="Power of the cars, kW; below 0 they feed in.")
    ] = 0.0,
    spread: Annotated[str, typer.Option(help="Rule of data/feeder/spread.csv.")] = "by_load",
    ev_at: Annotated[
        str | None, typer.Option(help="Put all cars on one phase of one node instead, like 671.a.")
    ] = None,
    regulator: Annotated[
        bool, typer.Option(help="Head regulator at its published taps, or none (as in the paper).")
    ] = True,
    substation_transformer: Annotated[
        bool, typer.Option(help="Model the 115 / 4.16 kV transformer before the head.")
    ] = False,
) -> None:
    """Solve the unbalanced IEEE 13-node feeder; the published case unless told otherwise."""
    from dataclasses import replace

    import numpy as np

    from evcm.feeder.coupling import FeederCases
    from evcm.feeder.ieee13 import FeederModel, published_model
    from evcm.feeder.spreads import spread as by_rule
    from evcm.feeder.spreads import spread_of
    from evcm.feeder.states import solve
    from evcm.store import files

    chosen = published_model() if regulator else FeederModel()
    chosen = replace(chosen, substation_transformer=substation_transformer)
    cars = by_rule(spread) if ev_at is None else spread_of({ev_at: 1.0}, ev_at)
    case = FeederCases(
        period=np.array([1]), head_v_pu=np.array([head_pu]),
        load_scale=np.array([load_scale]), ev_kw=np.array([ev_kw]),
    )  # fmt: skip
    states = solve(case, chosen, cars)
    table = states.voltages()[["node", "phase", "v_pu", "angle_deg"]]
    files.write_csv(out, table)
    proof = states.certificate
    head, losses = proof.head_kva[0], proof.losses_kva[0]
    sign = "+" if head.imag >= 0 else "-"
    typer.echo(f"head      {head.real:.3f} {sign} j{abs(head.imag):.3f} kVA")
    typer.echo(f"losses    {losses.real:.3f} kW")
    typer.echo(f"voltage   {states.v_pu.min():.4f} .. {states.v_pu.max():.4f} pu")
    typer.echo(f"certified to {proof.worst:.1e} in {states.iterations[0]} iterations")
    typer.echo(f"written   {out}")


commands = (feeder, synthesis)
