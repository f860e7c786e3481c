"""Reinforcement against not-supplied energy: constant generation, or PV with a battery.

The planning study that the paper compares with (Ingenius 30, 2023) removes not-supplied energy by
building generation at the deficit bus instead of moving the charging. For one bus and one day it
sizes PV and a battery by a linear programme (`size_bus`). Times are half-hours; the battery is
lossless, starts empty at period 1 and ends as it began.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cvxpy as cp
import numpy as np
import pandas as pd

from evcm import data
from evcm.arrays import FloatArray, read_only
from evcm.errors import Checks, InfeasibleError, SolverError
from evcm.inputs import PERIOD_H, PERIODS
from evcm.network.opf import OpfDay


@dataclass(frozen=True)
class ReinforcementCosts:
    """Investment costs: PV in USD per MW of peak, battery in USD per MWh."""

    pv_usd_per_mw: float
    battery_usd_per_mwh: float

    def __post_init__(self) -> None:
        c = Checks("reinforcement costs")
        for name in ("pv_usd_per_mw", "battery_usd_per_mwh"):
            c.require(getattr(self, name) > 0, name, getattr(self, name), "> 0")
        c.done()


@dataclass(frozen=True, eq=False)
class Reinforcement:
    """Size and cost of PV and battery at one bus, with the day that proves they suffice.

    `charge_mwh` (48) is the energy put into the battery in each period (negative: taken out),
    `stored_mwh` (48) the energy in it at the start of each period.
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


@cache
def pv_shape() -> FloatArray:
    """PV output of the reference day per unit of its peak, shape (48,)."""
    output = data.read_table("reinforcement/pv_shape.csv")["output"].to_numpy(float)
    return read_only(output / output.max())


def size_bus(
    deficit_mw: FloatArray, bus: int = 0, costs: ReinforcementCosts | None = None
) -> Reinforcement:
    """Least-cost PV and battery that cover a bus's not-supplied power in every period.

    Minimises ``c_pv*PV + c_b*B`` subject to, per half-hour, ``0.5*PV*S >= 0.5*L + E``,
    ``soc[t] = soc[t-1] + E[t-1]`` (cyclic, ``soc[1] = 0``), ``|E| <= B`` and ``0 <= soc <= B``.

    Parameters
    ----------
    deficit_mw : array (48,)
        Not-supplied power per period, MW, >= 0.
    bus : int
        Bus number, for messages and the result.
    costs : ReinforcementCosts, optional
        Investment costs; those of the planning study by default.

    Raises
    ------
    InputError
        The deficit has not 48 periods, or is negative or not finite.
    SolverError
        HiGHS did not reach the optimum.

    References
    ----------
    Villanueva-Machado, Luyo, Ríos-Villacorta, Ingenius 30 (2023) 120-134.
    """
    costs = costs or default_costs()
    deficit = _checked(deficit_mw, bus)

    pv, battery = cp.Variable(nonneg=True), cp.Variable(nonneg=True)
    charge, stored = cp.Variable(PERIODS), cp.Variable(PERIODS, nonneg=True)
    constraints = [
        PERIOD_H * pv * pv_shape() >= PERIOD_H * deficit + charge,
        stored[1:] == stored[:-1] + charge[:-1],
        stored[0] == stored[-1] + charge[-1],
        stored[0] == 0,
        cp.abs(charge) <= battery,
        stored <= battery,
    ]
    cost = costs.pv_usd_per_mw * pv + costs.battery_usd_per_mwh * battery
    problem = cp.Problem(cp.Minimize(cost), constraints)
    problem.solve(solver=cp.HIGHS)
    if problem.status == cp.INFEASIBLE:
        raise InfeasibleError(f"bus {bus}: no PV and battery can cover this deficit", bus=bus)
    if problem.status != cp.OPTIMAL:
        raise SolverError(f"bus {bus}: HiGHS ended with '{problem.status}'", bus=bus)
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
    deficits_mw: dict[int, FloatArray], costs: ReinforcementCosts | None = None
) -> list[Reinforcement]:
    """Size every bus with a deficit; buses that lack nothing are left out."""
    checked = {bus: _checked(deficit, bus) for bus, deficit in sorted(deficits_mw.items())}
    return [size_bus(deficit, bus, costs) for bus, deficit in checked.items() if deficit.any()]


def deficits_mw(day: OpfDay, negligible_mw: float = 1e-4) -> dict[int, FloatArray]:
    """Not-supplied power (48,) of an OPF day by bus, for the buses that lack any."""
    short = np.where(day.nsp_mw < negligible_mw, 0.0, day.nsp_mw)
    return {
        int(day.network.bus_number[k]): np.asarray(short[:, k])
        for k in np.flatnonzero(short.any(axis=0))
    }


def supply_mw(built: Reinforcement) -> FloatArray:
    """What PV and battery at a bus can bring in each period (48,), nothing curtailed, MW."""
    return np.asarray(built.pv_mw * pv_shape() - built.charge_mwh / PERIOD_H)


def _checked(deficit_mw: FloatArray, bus: int) -> FloatArray:
    deficit = np.asarray(deficit_mw, dtype=float)
    checks = Checks(f"not-supplied power at bus {bus}")
    if checks.require(deficit.shape == (PERIODS,), "nsp_mw", deficit.shape, f"({PERIODS},)"):
        bad = np.flatnonzero(~(np.isfinite(deficit) & (deficit >= 0)))
        if bad.size:
            checks.require(False, f"nsp_mw, period {bad[0] + 1}", float(deficit[bad[0]]), ">= 0")
    checks.done()
    return deficit


def table(reinforcements: list[Reinforcement]) -> pd.DataFrame:
    """One row per bus: bus, pv_mw, battery_mwh, cost_usd."""
    return pd.DataFrame(
        [(r.bus, r.pv_mw, r.battery_mwh, r.cost_usd) for r in reinforcements],
        columns=["bus", "pv_mw", "battery_mwh", "cost_usd"],
    )
