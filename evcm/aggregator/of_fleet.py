"""From a fleet to the problem of the aggregator at one bus."""

from __future__ import annotations

from typing import Any

import numpy as np

from evcm import inputs
from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import FloatArray
from evcm.errors import Checks
from evcm.inputs import PERIOD_H, check_bus
from evcm.trips.fleet import Fleet


def aggregator_problem(
    fleet: Fleet, bus: int, trading_cap_mw: FloatArray | None = None, **options: Any
) -> AggregatorProblem:
    """One aggregator's problem, with the paper's market, battery and charger.

    Parameters
    ----------
    fleet
        The vehicles of all buses.
    bus
        The aggregator's bus.
    trading_cap_mw : (T) array, optional
        The operator's caps (56)-(57); the system cap (29)-(30) holds if left out.
    **options
        Any field of `AggregatorProblem`, such as ``price``, ``battery`` or ``real_time_limit``.

    Raises
    ------
    InputError
        The bus carries no load, no vehicle lives or works there, or an option is out of range.
    """
    check_bus(bus)
    mine = np.flatnonzero((fleet.from_bus == bus) | (fleet.to_bus == bus))
    checks = Checks(fleet.name or "fleet")
    checks.require(mine.size > 0, "bus", bus, "a bus where at least one car lives or works")
    checks.done()
    trips, home = fleet.trips, (fleet.from_bus[mine] == bus)[None, :, None]
    content: dict[str, Any] = {
        "system_load_mw": inputs.load_profile().aggregator_forecast_mw,
        "price": inputs.price_steps(),
        "battery": inputs.battery(),
        "charger": inputs.charger(),
        "system_cap_mw": inputs.system_cap_mw() if trading_cap_mw is None else None,
        "trading_cap_mw": trading_cap_mw,
        "name": fleet.name,
    }
    return AggregatorProblem(
        period_h=PERIOD_H,
        probability=fleet.probability,
        available=np.where(home, trips.at_from[:, mine], trips.at_to[:, mine]),
        travelling=trips.travelling[:, mine],
        trip_energy_kwh=trips.energy_kwh[:, mine],
        group_size=fleet.group_size[mine].astype(float),
        storage_cost_usd_per_kwh=fleet.storage_cost_usd_per_kwh[mine],
        degradation_slope=fleet.slope[mine],
        bus=bus,
        **(content | options),
    )
