"""From a fleet to the problem of the aggregator at one bus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import FloatArray
from evcm.errors import Checks
from evcm.inputs.study import Inputs
from evcm.network.case import Day
from evcm.trips.fleet import Fleet, batteries, chargers, feeds_in


def buses_with_cars(fleet: Fleet) -> tuple[int, ...]:
    """Buses at which at least one car lives or works, in the order of `inputs.buses`."""
    there = set(fleet.from_bus.tolist()) | set(fleet.to_bus.tolist())
    return tuple(bus for bus in fleet.inputs.buses if bus in there)


def site(fleet: Fleet) -> Day:
    """The network and its load, with an aggregator at every bus where the fleet has cars."""
    return _only(fleet.inputs, buses_with_cars(fleet))


def site_of(problems: Sequence[AggregatorProblem], inputs: Inputs) -> Day:
    """The network and its load, with the aggregators of some problems alone."""
    return _only(inputs, tuple(p.bus for p in problems if p.bus is not None))


def _only(inputs: Inputs, there: tuple[int, ...]) -> Day:
    day = inputs.day
    if there == inputs.buses:
        return day
    net = day.network
    keep = np.isin(net.bus_number[net.ev_bus], there)
    return replace(day, network=replace(net, ev_bus=net.ev_bus[keep]))


def aggregator_problems(fleet: Fleet) -> tuple[AggregatorProblem, ...]:
    """The problems of all aggregators that have cars, in the order of `site`."""
    return tuple(aggregator_problem(fleet, bus) for bus in buses_with_cars(fleet))


def aggregator_problem(
    fleet: Fleet, bus: int, trading_cap_mw: FloatArray | None = None, **options: Any
) -> AggregatorProblem:
    """One aggregator's problem, with the market and the vehicle classes of the fleet's inputs.

    The operator's caps `trading_cap_mw` (T,), (56)-(57), take the place of the system cap
    (29)-(30). `options` are fields of `AggregatorProblem`, such as ``price`` or ``battery``.

    Raises
    ------
    InputError
        The bus has no aggregator, no vehicle lives or works there, or an option is out of range.
    """
    told = fleet.inputs
    checks = Checks(fleet.name or "fleet")
    allowed = "a bus with an aggregator: " + ", ".join(map(str, told.buses))
    checks.require(bus in told.buses, "bus", bus, allowed)
    mine = np.flatnonzero((fleet.from_bus == bus) | (fleet.to_bus == bus))
    checks.require(mine.size > 0, "bus", bus, "a bus where at least one car lives or works")
    checks.done()
    trips, home = fleet.trips, (fleet.from_bus[mine] == bus)[None, :, None]
    content: dict[str, Any] = {
        "system_load_mw": told.forecast_mw,
        "price": told.market.price,
        "battery": batteries(fleet, mine),
        "charger": chargers(fleet, mine),
        "feeds_in": feeds_in(fleet, mine),
        "system_cap_mw": told.market.system_cap_mw if trading_cap_mw is None else None,
        "trading_cap_mw": trading_cap_mw,
        "real_time_limit": told.market.real_time_limit,
        "name": fleet.name,
    }
    return AggregatorProblem(
        period_h=told.period_h,
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
