"""A commercial building with PV charges EVs: a mixed-integer dispatch of one day.

Companion study after Salazar, García and Carrión (2020): cars come to a few bays, PV groups and the
grid supply them, and the least-cost commitment of the groups is a mixed-integer program, (7)-(14)
of that paper. Beyond it: a tariff with a demand charge, a battery bank that takes PV power, charges
that move within a stay at a comfort price, and V2G. Times are periods of a `Horizon`; powers kW.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evcm import data
from evcm.building.arrivals import ArrivalLaw, ChargingClass, random_day
from evcm.building.inputs import (
    Bank,
    Building,
    Horizon,
    PvGroup,
    Response,
    Sessions,
    available_kw,
    lay_out,
)
from evcm.building.model import Program
from evcm.building.plan import AS_PRINTED, Plan, Variant, burns
from evcm.errors import Checks, SolverError
from evcm.store import files

VARIANTS: dict[str, Variant] = {
    "grid only": Variant(pv=False),
    "as printed": AS_PRINTED,
    "shifting": Variant(shifting=True),
    "shifting and bank": Variant(shifting=True, bank=True),
    "shifting, bank and V2G": Variant(shifting=True, v2g=True, bank=True),
}
"""What may be decided, from the paper's dispatch to everything; V2G includes shifting."""


@cache
def default_building() -> Building:
    """The paper's building: 14 hours from 9 to 23, four bays, 100 kW of PV in four groups.

    What the paper does not print comes from ``data/building``, see its SOURCE.md.
    """
    content = data.read_toml("building/building.toml")
    horizon = Horizon(**content["horizon"])
    groups = tuple(PvGroup(**g) for g in content["pv_group"])
    sun = data.read_table("building/clear_day.csv").set_index("hour")["irradiance_kw_per_m2"]
    price = data.read_table("building/tariff.csv").set_index("hour")["price_usd_per_kwh"]
    hours = horizon.hours().astype(int)
    return Building(
        horizon=horizon, groups=groups, load_kw=np.zeros(horizon.periods),
        irradiance_kw_per_m2=sun[hours].to_numpy(), price_usd_per_kwh=price[hours].to_numpy(),
        bank=Bank(**content["bank"]), response=Response(**content["response"]),
        **content["building"],
    )  # fmt: skip


@cache
def default_law() -> ArrivalLaw:
    """Arrivals of the paper, (2)-(3), with the classes of ``data/building``."""
    content = data.read_toml("building/arrivals.toml")
    classes = tuple(ChargingClass(**c) for c in content["class"])
    law = dict(content["law"])
    return ArrivalLaw(classes=classes, clearness=tuple(law.pop("clearness")), **law)


def sunny(building: Building, clearness: float) -> Building:
    """The building on a day whose irradiance is `clearness` times that of its clear day."""
    return replace(building, irradiance_kw_per_m2=clearness * building.irradiance_kw_per_m2)


def with_pv(building: Building, pv_kw: float) -> Building:
    """The building with its PV groups scaled to `pv_kw` in all."""
    checks = Checks("PV size")
    checks.require(pv_kw >= 0, "pv_kw", pv_kw, ">= 0")
    checks.require(building.pv_kw > 0, "PV groups", building.pv_kw, "a rated power > 0 to scale")
    checks.done()
    return replace(building, groups=tuple(g.scaled(pv_kw / building.pv_kw)
                                          for g in building.groups))  # fmt: skip


def dispatch(
    building: Building,
    sessions: Sessions,
    variant: Variant = AS_PRINTED,
    program: Program | None = None,
) -> Plan:
    """Least-cost dispatch of a day, (7)-(14), proven to a gap below 0.01 %.

    `variant` says what may be decided, the paper's fixed charging by default; a `program` of the
    same shape can be used again.

    Raises
    ------
    InputError
        A session does not fit the day, its bay or its stay.
    InfeasibleError
        The connection is too small; says when and by how much.
    SolverError
        HiGHS did not prove an optimum.
    """
    program = program or Program(building)
    checks = Checks("program")
    checks.require(program.fits(building), "shape", program.shape, "that of the building")
    checks.done()
    plan = program.solve(building, sessions, variant)
    if burns(plan):
        # Charging and giving at once wastes energy; where that pays, binaries forbid it.
        plan = Program(building, exclusive=True).solve(building, sessions, variant)
    if plan.gap > 1e-4:
        raise SolverError(f"building: gap {plan.gap:.2e} above 0.01 %", gap=plan.gap)
    return plan


def costs(plan: Plan) -> dict[str, float]:
    """Parts of a plan's cost by resource, USD; their sum is its cost."""
    b, step = plan.building, plan.building.horizon.step_h
    parts = {}
    for k, g in enumerate(b.groups):
        running = step * (
            g.cost_usd_per_kwh * plan.power_kw[:, k] + g.cost_usd_per_h * plan.on[:, k]
        )
        switching = g.start_usd * plan.start[:, k] + g.stop_usd * plan.stop[:, k]
        parts[g.name] = float((running + switching).sum())
    parts["grid energy"] = float(step * b.price_usd_per_kwh @ plan.grid_kw)
    parts["grid connection"] = float(step * b.connection_usd_per_h * plan.on[:, -1].sum())
    if b.feed_in_usd_per_kwh is not None:
        parts["feed-in"] = -float(step * b.feed_in_usd_per_kwh @ plan.export_kw)
    parts["grid demand"] = b.demand_usd_per_kw * plan.peak_kw
    parts["bank wear"] = float(step * b.bank.wear_usd_per_kwh * plan.bank_out_kw.sum())
    day = lay_out(plan.sessions, b.horizon, b.bays)
    moved = np.maximum(day.plain_kw - plan.charge_kw, 0.0).sum()
    parts["comfort"] = float(step * b.response.comfort_usd_per_kwh * moved)
    parts["V2G"] = float(step * b.response.v2g_usd_per_kwh * plan.give_kw.sum())
    return parts


def summary(plan: Plan) -> dict[str, float]:
    """Cost, energies and peak of a plan."""
    step = plan.building.horizon.step_h
    pv = step * float(plan.pv_kw.sum())
    able = step * float(available_kw(plan.building).sum()) * plan.variant.pv
    return {
        "cost_usd": plan.cost_usd,
        "import_kwh": step * float(plan.grid_kw.sum()),
        "export_kwh": step * float(plan.export_kw.sum()),
        "peak_kw": plan.peak_kw,
        "pv_kwh": pv,
        "pv_unused_kwh": able - pv,
        "bank_kwh": step * float(plan.bank_out_kw.sum()),
        "v2g_kwh": step * float(plan.give_kw.sum()),
        "charged_kwh": step * float(plan.charge_kw.sum()),
        "gap": plan.gap,
        "seconds": plan.seconds,
    }


def compare(
    building: Building, sessions: Sessions, variants: Mapping[str, Variant] | None = None
) -> dict[str, Plan]:
    """Plans of the same day under each variant (`VARIANTS` by default)."""
    program = Program(building)
    chosen = variants or VARIANTS
    return {name: dispatch(building, sessions, v, program) for name, v in chosen.items()}


DISTRIBUTION: dict[str, Variant] = {
    "neither": Variant(pv=False),
    "shifting": Variant(pv=False, shifting=True),
    "PV": Variant(),
    "PV and shifting": Variant(shifting=True),
}
"""With and without PV, with and without shifting."""


def distribution(
    building: Building,
    law: ArrivalLaw,
    days: Iterable[int],
    seed: int = 0,
    variants: Mapping[str, Variant] | None = None,
) -> pd.DataFrame:
    """Random days under each variant: one row per day and variant, every plan certified.

    Columns: day, variant, clearness, cars, turned_away and those of a plan's summary.
    """
    from evcm.building.certificate import certify

    program, rows = Program(building), []
    for day in days:
        drawn = random_day(law, building.horizon, building.bays, seed, day)
        today = sunny(building, drawn.clearness)
        for name, variant in (variants or DISTRIBUTION).items():
            plan = dispatch(today, drawn.sessions, variant, program)
            certify(plan).require()
            head: dict[str, Any] = {
                "day": day, "variant": name, "clearness": drawn.clearness,
                "cars": len(drawn.sessions), "turned_away": drawn.turned_away,
            }  # fmt: skip
            rows.append(head | summary(plan))
    return pd.DataFrame(rows)


def write_example(folder: str | Path, force: bool = False) -> list[Path]:
    """Write an example of a reader's own building into a folder; return the files.

    An office of 96 quarter-hours with six bays; its texts are in ``data/building/example.toml``.
    The folder is made if it is not there. With `force`, files of these names are written over.

    Raises
    ------
    InputError
        A file of one of these names is there and says something else.
    """
    folder = Path(folder)
    horizon = Horizon(0.0, 96, 0.25)
    cars = random_day(default_law(), horizon, 6, seed=7).sessions.table()
    for name in ("arrival", "departure"):
        cars[name] = horizon.start_h + horizon.step_h * cars[name]
    cars["bay"] += 1
    cars["energy_kwh"] = np.floor(cars["energy_kwh"] * 1000) / 1000
    columns = ["arrival", "departure", "energy_kwh", "power_kw", "bay", "kind"]
    content = {"building.toml": data.path("building/example.toml").read_text("utf-8")}
    for name, source in (("load", "office_load"), ("pv", "clear_day"), ("tariff", "tariff")):
        table = data.read_table(f"building/{source}.csv")
        content[f"{name}.csv"] = table.to_csv(index=False, float_format="%.6f")
    content["sessions.csv"] = cars[columns].to_csv(index=False, float_format="%.3f")
    written = {folder / name: text for name, text in content.items()}
    other = [p for p, text in written.items() if p.exists() and p.read_bytes() != text.encode()]
    files.require_own(other, False, str(folder), force)
    folder.mkdir(exist_ok=True)
    for path, text in written.items():
        with files.atomic(path) as temporary:
            temporary.write_text(text, "utf-8", newline="")
    return list(written)
