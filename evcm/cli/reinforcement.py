"""`evcm reinforce`: PV and battery against not-supplied energy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evcm.cli.common import InputsFolder, which_inputs


def reinforce(
    nsp: Annotated[
        Path,
        typer.Option(help="What evcm opf wrote, or a CSV of period and MW per bus (bus14_mw)."),
    ],
    out: Annotated[Path, typer.Option(help="CSV to write: bus, pv_mw, battery_mwh, cost_usd.")],
    pv_cost: Annotated[
        float | None, typer.Option(help="PV cost, USD per kW.  [default: 1000]")
    ] = None,
    battery_cost: Annotated[
        float | None, typer.Option(help="Battery cost, USD per kWh.  [default: 400]")
    ] = None,
    inputs: InputsFolder = None,
) -> None:
    """Size PV and a battery at each deficit bus, at least cost: nothing stays unsupplied."""
    from evcm import reinforcement
    from evcm.errors import Checks
    from evcm.store import files

    costs = reinforcement.default_costs()
    costs = reinforcement.ReinforcementCosts(
        costs.pv_usd_per_mw if pv_cost is None else pv_cost * 1000,
        costs.battery_usd_per_mwh if battery_cost is None else battery_cost * 1000,
    )
    checks = Checks("evcm reinforce")
    checks.require(not out.exists() or out.resolve() != nsp.resolve(), "--out", str(out),
                   "another file than --nsp")  # fmt: skip
    checks.done()
    clock = which_inputs(inputs).clock
    deficits = reinforcement.read_deficits(nsp, clock)
    sizes = reinforcement.size_buses(deficits, costs, clock)
    table = reinforcement.table(sizes)
    files.write_csv(out, table)
    for r in sizes:
        typer.echo(
            f"bus {r.bus}: PV {r.pv_mw:.4f} MW, battery {r.battery_mwh:.4f} MWh, "
            f"{r.cost_usd:,.2f} USD (or {r.constant_mw:.4f} MW of constant generation)"
        )
    typer.echo(f"{len(sizes)} buses, {table['cost_usd'].sum():,.2f} USD in all")


commands = (reinforce,)
