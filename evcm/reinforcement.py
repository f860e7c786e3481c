"""Reinforcement against not-supplied energy: constant generation, or PV with a battery.

The planning study that the paper compares with (Ingenius 30, 2023) removes not-supplied energy by
building generation at the deficit bus instead of moving the charging. For one bus and one day it
sizes PV and a battery by a linear programme (`size_bus`). Times are half-hours of a cyclic day; the
battery is lossless and empty when the sun rises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cvxpy as cp
import numpy as np
import pandas as pd

from evcm import data, highs
from evcm.arrays import FloatArray, read_only
from evcm.errors import Checks, InfeasibleError, SolverError
from evcm.inputs.values import Clock
from evcm.network import tables
from evcm.network.opf import OpfDay
from evcm.store import times

TIME_LIMIT_S = 60.0
"""Most seconds for one bus; a millisecond is usual."""

NEGLIGIBLE_MW = 1e-4
"""Not-supplied power below this is a rounding error of the OPF."""

MOST_MW, MOST_USD = 1e6, 1e15
"""Largest deficit of a bus, and largest cost per MW or MWh, that are taken for meant."""


@dataclass(frozen=True)
class ReinforcementCosts:
    """Investment costs: PV in USD per MW of peak, battery in USD per MWh."""

    pv_usd_per_mw: float
    battery_usd_per_mwh: float

    def __post_init__(self) -> None:
        c = Checks("reinforcement costs")
        names = ("pv_usd_per_mw", "battery_usd_per_mwh")
        c.each(self, names, lambda v: 0 < v <= MOST_USD, f"> 0, at most {MOST_USD:g}")
        c.done()


@dataclass(frozen=True, eq=False)
class Reinforcement:
    """Size and cost of PV and battery at one bus, with the day that proves they suffice.

    `charge_mwh` (T) is the energy put into the battery in each period (negative: taken out),
    `stored_mwh` (T) the energy in it at the start of each period.
    """

    bus: int
    pv_mw: float
    battery_mwh: float
    cost_usd: float
    constant_mw: float
    charge_mwh: FloatArray
    stored_mwh: FloatArray


@cache
def default_costs() -> ReinforcementCosts:
    """Costs of the planning study: 1000 USD/kW of PV, 400 USD/kWh of battery."""
    return ReinforcementCosts(**data.read_toml("reinforcement/costs.toml"))


REFERENCE_CLOCK = Clock(0.5)
"""The planning study's own: 48 half-hours."""


@cache
def pv_shape(clock: Clock = REFERENCE_CLOCK) -> FloatArray:
    """PV output of the reference day per unit of its peak, by period of a clock, shape (T,).

    A period's output is the mean of the reference day's over the hours that it shows.
    """
    output = data.read_table("reinforcement/pv_shape.csv")["output"].to_numpy(float)
    shape = output / output.max()
    hours = np.arange(2 * shape.size + 1) * (24.0 / shape.size)
    energy = np.concatenate([[0.0], np.cumsum(np.tile(shape, 2)) * (24.0 / shape.size)])
    begin = clock.clock_h()
    means = np.interp(begin + clock.period_h, hours, energy) - np.interp(begin, hours, energy)
    same = clock.periods == shape.size and clock.period_h == 24.0 / shape.size
    return read_only(shape if same else means / clock.period_h)


def size_bus(
    deficit_mw: FloatArray, bus: int = 0, costs: ReinforcementCosts | None = None,
    clock: Clock = REFERENCE_CLOCK,
) -> Reinforcement:  # fmt: skip
    """Least-cost PV and battery that cover a bus's not-supplied power in every period.

    Minimises ``c_pv*PV + c_b*B`` subject to, per half-hour, ``0.5*PV*S >= 0.5*L + E``,
    ``soc[t] = soc[t-1] + E[t-1]`` (cyclic), ``|E| <= B`` and ``0 <= soc <= B``. The print has
    ``soc[1] = 0``; here the battery is empty in the first half-hour of sun. Where nothing lacks
    between midnight and then, that is the same programme; where something does, the printed form
    has no solution.

    Parameters
    ----------
    deficit_mw : array (T,)
        Not-supplied power per period, MW, >= 0.
    bus : int
        Bus number, for messages and the result.
    costs : ReinforcementCosts, optional
        Investment costs; those of the planning study by default.
    clock : Clock
        The periods; half-hours of one day by default.

    Raises
    ------
    InputError
        The deficit has not T periods, or is negative or not finite.
    SolverError
        HiGHS did not reach the optimum.

    See Also
    --------
    size_buses : all buses of a day. deficits_mw : what an OPF day lacks.

    References
    ----------
    Villanueva-Machado, Luyo, Ríos-Villacorta, Ingenius 30 (2023) 120-134.
    """
    costs = costs or default_costs()
    deficit = _checked(deficit_mw, bus, clock)

    shape = pv_shape(clock)
    period_h, sunrise = clock.period_h, int(np.flatnonzero(shape)[0])
    pv, battery = cp.Variable(nonneg=True), cp.Variable(nonneg=True)
    charge, stored = cp.Variable(shape.size), cp.Variable(shape.size, nonneg=True)
    constraints = [
        period_h * pv * shape >= period_h * deficit + charge,
        stored[1:] == stored[:-1] + charge[:-1],
        stored[0] == stored[-1] + charge[-1],
        stored[sunrise] == 0,
        charge >= -period_h * deficit,  # it gives what is lacking, no more
        cp.abs(charge) <= battery,
        stored <= battery,
    ]
    cost = costs.pv_usd_per_mw * pv + costs.battery_usd_per_mwh * battery
    problem = cp.Problem(cp.Minimize(cost), constraints)
    outcome = highs.run(problem, TIME_LIMIT_S)
    if outcome.infeasible:
        raise InfeasibleError(f"bus {bus}: no PV and battery can cover this deficit", bus=bus)
    if not outcome.optimal:
        raise SolverError(f"bus {bus}: {outcome.status}", bus=bus)
    return Reinforcement(
        bus=bus,
        pv_mw=float(pv.value),
        battery_mwh=float(battery.value),
        cost_usd=float(cost.value),
        constant_mw=float(deficit.max()),
        charge_mwh=read_only(charge.value),
        stored_mwh=read_only(stored.value),
    )


def size_buses(
    deficits_mw: dict[int, FloatArray], costs: ReinforcementCosts | None = None,
    clock: Clock = REFERENCE_CLOCK,
) -> list[Reinforcement]:  # fmt: skip
    """Size every bus with a deficit; buses that lack nothing are left out."""
    checked = {bus: _checked(deficit, bus, clock) for bus, deficit in sorted(deficits_mw.items())}
    return [
        size_bus(deficit, bus, costs, clock) for bus, deficit in checked.items() if deficit.any()
    ]


def deficits_mw(day: OpfDay) -> dict[int, FloatArray]:
    """Not-supplied power (T,) of an OPF day by bus, for the buses that lack any, MW."""
    short = np.where(day.nsp_mw < NEGLIGIBLE_MW, 0.0, day.nsp_mw)
    return {
        int(day.network.bus_number[k]): np.asarray(short[:, k])
        for k in np.flatnonzero(short.any(axis=0))
    }


def read_deficits(path: str | Path, clock: Clock = REFERENCE_CLOCK) -> dict[int, FloatArray]:
    """Not-supplied power by bus, each (T,) MW, from a table.

    Parameters
    ----------
    path : path
        What ``evcm opf`` writes (its columns ``nsp_busNN_mw`` are read), or a CSV with the columns
        period and one per bus, ``bus14_mw``.

    Raises
    ------
    InputError
        As `evcm.network.tables.read_bus_table`; a value below zero is found by `size_buses`.
    """
    names = times.columns(path)
    if not any(name.startswith("nsp_bus") for name in names):
        return tables.read_bus_table(path, clock.periods)
    day = ["load_mw", "generation_mw", "nsp_mw", "losses_mw", "v_min_pu", "status"]
    found = {n: re.fullmatch(r"nsp_bus0*(\d+)_mw", n) for n in names}
    buses = {n: int(m[1]) for n, m in found.items() if m}
    table, c = times.read_table(path, ["period"], [*day, *buses]), Checks(str(path))
    period = times.numbers(table, "period", c, 1.0)
    power = {bus: times.numbers(table, name, c) for name, bus in buses.items()}
    wanted = np.arange(1, clock.periods + 1)
    order = np.argsort(period)
    c.require(np.array_equal(period[order], wanted), "column period", f"{len(table)} rows",
              f"each of 1..{wanted.size} once")  # fmt: skip
    c.done()
    return {bus: np.where(mw < NEGLIGIBLE_MW, 0.0, mw)[order] for bus, mw in power.items()}


def supply_mw(built: Reinforcement, clock: Clock = REFERENCE_CLOCK) -> FloatArray:
    """What PV and battery at a bus can bring in each period (T,), nothing curtailed, MW."""
    return np.asarray(built.pv_mw * pv_shape(clock) - built.charge_mwh / clock.period_h)


def _checked(deficit_mw: FloatArray, bus: int, clock: Clock) -> FloatArray:
    deficit = np.asarray(deficit_mw, dtype=float)
    checks, shape = Checks(f"not-supplied power at bus {bus}"), (clock.periods,)
    if checks.require(deficit.shape == shape, "nsp_mw", deficit.shape, str(shape)):
        for t in np.flatnonzero(~((deficit >= 0) & (deficit <= MOST_MW))):
            allowed = f">= 0, at most {MOST_MW:g}"
            checks.require(False, f"nsp_mw, period {t + 1}", float(deficit[t]), allowed)
    checks.done()
    return deficit


def table(reinforcements: list[Reinforcement]) -> pd.DataFrame:
    """One row per bus: bus, pv_mw, battery_mwh, cost_usd."""
    return pd.DataFrame(
        [(r.bus, r.pv_mw, r.battery_mwh, r.cost_usd) for r in reinforcements],
        columns=["bus", "pv_mw", "battery_mwh", "cost_usd"],
    )
