"""Rules that need no model: what an optimum, or a learner, has to beat.

Each rule is a policy: a callable from a `Station` to commands (P,). All but `as_fast_as_possible`
keep the import limits of chargers, lots, transformers and the bus. They stop at the driver's wish.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evcm.arrays import FloatArray, IntArray
from evcm.errors import Checks
from evcm.v2x.battery import hours_to_reach
from evcm.v2x.station import Policy, Ports, Station, limits


@dataclass(frozen=True, eq=False)
class Headroom:
    """What may still flow in this step: nodes (chargers, lots, transformers, bus) over ports.

    `member` (nodes, P) says which ports a node carries, `left_kw` (nodes,) what it has left.
    """

    member: NDArray[np.bool_]
    left_kw: FloatArray

    def within(self, port: int) -> float:
        """Power that one more port may draw."""
        return float(self.left_kw[self.member[:, port]].min())

    def take(self, port: int, kw: float) -> None:
        """Book power for a port."""
        self.left_kw[self.member[:, port]] -= kw


def headroom(station: Station, export: bool = False) -> Headroom:
    """Import (or export) headroom of this step before any port draws."""
    bounds = limits(station)
    left = -bounds.node_low if export else bounds.node_up
    return Headroom(bounds.member > 0, np.maximum(left, 0.0))


def wanted_kw(station: Station, ports: Ports) -> FloatArray:
    """Mean power (P,) kW that each port can use now: what its car takes up, until the wish."""
    eta = station.layout.charge_efficiency[station.layout.port_charger]
    return np.minimum(ports.charge_kw, ports.needed_kwh / eta / station.series.step_h)


def hours_needed(ports: Ports) -> FloatArray:
    """Hours (P,) at full power, taper included, until the wish; 0 at empty ports."""
    names = ("target_kwh", "charge_kw", "accept_kw", "transition_soc", "capacity_kwh")
    columns = [ports.content_kwh, *(ports.column(name) for name in names)]
    out = np.zeros(ports.occupied.size)
    for p in np.flatnonzero(ports.occupied):
        out[p] = hours_to_reach(*(float(column[p]) for column in columns))
    return out


def laxity_h(ports: Ports) -> FloatArray:
    """Hours (P,) that a car may wait and still be served; infinite at empty ports."""
    return np.where(ports.occupied, ports.hours_left - hours_needed(ports), np.inf)


def as_fast_as_possible(station: Station) -> FloatArray:
    """Uncontrolled: full power from arrival on, whatever the limits."""
    return station.commands_for(wanted_kw(station, station.ports()))


def as_late_as_possible(station: Station) -> FloatArray:
    """Wait until the laxity is used up, then full power within the limits, tightest first."""
    ports = station.ports()
    laxity = laxity_h(ports)
    kw = np.where(laxity < station.series.step_h, wanted_kw(station, ports), 0.0)
    return station.commands_for(in_order(station, kw, np.argsort(laxity, kind="stable")))


def in_order(
    station: Station, kw: FloatArray, order: IntArray, export: bool = False
) -> FloatArray:  # fmt: skip
    """Give each port in `order` what it wants, while the limits last."""
    room, out = headroom(station, export), np.zeros_like(kw)
    for p in order:
        if kw[p] > 0.0:
            out[p] = min(kw[p], max(room.within(int(p)), 0.0))
            room.take(int(p), out[p])
    return out


def _sorted(station: Station, key: Callable[[Ports], FloatArray]) -> FloatArray:
    """Commands that serve ports by a key, least first."""
    ports = station.ports()
    order = np.argsort(np.where(ports.occupied, key(ports), np.inf), kind="stable")
    return station.commands_for(in_order(station, wanted_kw(station, ports), order))


def first_come(station: Station) -> FloatArray:
    """First come, first served within the limits."""
    return _sorted(station, lambda ports: ports.column("arrival_step"))


def earliest_deadline(station: Station) -> FloatArray:
    """Who leaves first is served first."""
    return _sorted(station, lambda ports: ports.column("departure_step"))


def least_laxity(station: Station) -> FloatArray:
    """Who can wait least is served first."""
    return _sorted(station, laxity_h)


def round_robin(station: Station) -> FloatArray:
    """Power goes round in small portions: all ports rise together until a limit stops them."""
    kw = wanted_kw(station, station.ports())
    room, out = headroom(station), np.zeros(kw.size)
    open_ = kw > 1e-12
    while open_.any():
        active = (room.member & open_).sum(axis=1)
        used = active > 0
        rise = min(
            float((kw - out)[open_].min()),
            float((np.maximum(room.left_kw[used], 0.0) / active[used]).min()),
        )
        out[open_] += rise
        room.left_kw[:] -= rise * active
        full = (room.member & (room.left_kw <= 1e-9)[:, None]).any(axis=0)
        open_ &= (kw - out > 1e-12) & ~full
    return station.commands_for(out)


@dataclass(frozen=True)
class PriceThreshold:
    """Charge in the cheap part of the run, give in the expensive part, and never miss a wish.

    `cheap` and `expensive` are quantiles of the run's buying price. A car whose laxity is used up
    charges at any price; a car gives only while it could still be refilled in time.
    """

    cheap: float = 0.35
    expensive: float = 0.85

    def __post_init__(self) -> None:
        c = Checks("price threshold")
        found = (self.cheap, self.expensive)
        c.require(0 <= found[0] <= found[1] <= 1, "cheap, expensive", found, "0..1")
        c.done()

    @property
    def __name__(self) -> str:
        """Name in tables."""
        return "price_threshold"

    def __call__(self, station: Station) -> FloatArray:
        """Commands of this step."""
        prices = station.series.buy_usd_per_kwh
        low, high = np.quantile(prices, [self.cheap, self.expensive])
        price, step_h = prices[station.t], station.series.step_h
        ports = station.ports()
        laxity = laxity_h(ports)
        wait = (price > low) & (laxity >= step_h)
        kw = np.where(wait, 0.0, wanted_kw(station, ports))
        out = in_order(station, kw, np.argsort(laxity, kind="stable"))
        if price >= high and high > low:
            # Giving for a step costs a step now and at least as long to refill.
            refill = ports.discharge_kw / np.maximum(ports.charge_kw, 1e-9)
            spare = (out == 0) & (laxity > (1.5 + 2.0 * refill) * step_h)
            gives = np.where(spare, ports.discharge_kw, 0.0)
            out -= in_order(station, gives, np.arange(gives.size), export=True)
        return station.commands_for(out)


def baselines() -> dict[str, Policy]:
    """All rules by name."""
    rules: tuple[Policy, ...] = (
        as_fast_as_possible,
        as_late_as_possible,
        first_come,
        round_robin,
        least_laxity,
        earliest_deadline,
        PriceThreshold(),
    )
    return {getattr(rule, "__name__", str(rule)): rule for rule in rules}
