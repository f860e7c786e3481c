"""What a building's day is made of: horizon, supply units, bank, sessions; checked here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from evcm.arrays import FloatArray, IntArray, freeze, read_only
from evcm.errors import Checks
from evcm.paper import implements

WEEK_H = 168.0
"""Longest horizon, h."""

STANDARD_KW_PER_M2 = 1.0
"""Irradiance at which panels are rated, I of (4)."""


@implements("1", paper="building")
def panel_peak_w(open_circuit_v: float, short_circuit_a: float, fill_factor: float) -> float:
    """Peak power of a panel, W: Voc · Isc · FF (1)."""
    return open_circuit_v * short_circuit_a * fill_factor


@implements("4", paper="building")
def peak_sun_hours(irradiance_kw_per_m2: FloatArray, step_h: float = 1.0) -> float:
    """Hours at standard irradiance that bring the day's irradiation (4), h."""
    return float(np.sum(irradiance_kw_per_m2) * step_h / STANDARD_KW_PER_M2)


@implements("5", paper="building")
def panel_energy_kwh(peak_kw: float, sun_hours: float, efficiency: float = 0.9) -> float:
    """Energy of panels over a day (5), kWh: peak power · peak sun hours · efficiency."""
    return peak_kw * sun_hours * efficiency


@implements("6", paper="building")
def panel_power_kw(
    peak_kw: float, irradiance_kw_per_m2: FloatArray, efficiency: float = 0.9
) -> FloatArray:
    """Power of panels in each period (6), kW; its sum over the day is (5)."""
    return np.asarray(peak_kw * efficiency * np.asarray(irradiance_kw_per_m2) / STANDARD_KW_PER_M2)


def available_kw(building: Building) -> FloatArray:
    """What each PV group can give, (T, groups) kW, by (6) and at most its rating."""
    sun, share = building.irradiance_kw_per_m2, building.panel_efficiency
    columns = [np.minimum(panel_power_kw(g.rated_kw, sun, share), g.rated_kw)
               for g in building.groups]  # fmt: skip
    return np.column_stack(columns) if columns else np.zeros((building.horizon.periods, 0))


@dataclass(frozen=True)
class Horizon:
    """Equal periods from a clock hour on: the paper's day is 14 hours from 9 to 23."""

    start_h: float = 9.0
    periods: int = 14
    step_h: float = 1.0

    def __post_init__(self) -> None:
        c = Checks("horizon")
        c.require(0 <= self.start_h < 24, "start_h", self.start_h, "0 <= start_h < 24")
        c.require(self.periods >= 1, "periods", self.periods, ">= 1")
        c.require(0 < self.step_h <= 1, "step_h", self.step_h, "0 < step_h <= 1 h")
        c.require(self.periods <= min(WEEK_H / max(self.step_h, 1e-9), 10080) + 1e-9, "periods",
                  self.periods, f"at most {WEEK_H:g} h in all, of a minute at least")  # fmt: skip
        c.done()

    @property
    def end_h(self) -> float:
        """Clock hour at which the last period ends."""
        return self.start_h + self.periods * self.step_h

    @property
    def cyclic(self) -> bool:
        """Whether the horizon is one whole day, so that a stay may go on over its end."""
        return abs(self.periods * self.step_h - 24.0) < 1e-9

    def span(self, arrival: int, departure: int) -> IntArray:
        """Periods of a stay from edge `arrival` to edge `departure`, in order, (n,)."""
        return np.arange(arrival, departure, dtype=np.int64) % self.periods

    def hours(self) -> FloatArray:
        """Clock hour at which each period starts, (T,)."""
        return np.asarray(self.start_h + self.step_h * np.arange(self.periods))

    def clock(self, period: int) -> str:
        """Start of a period as hh:mm."""
        minutes = round(60 * (self.start_h + period * self.step_h))
        return f"{minutes // 60 % 24:02d}:{minutes % 60:02d}"


@dataclass(frozen=True)
class PvGroup:
    """One PV group: limits in kW, ramps in kW/h, and the maintenance costs of (7).

    `cost_usd_per_kwh` is a, `cost_usd_per_h` b, `start_usd` ca and `stop_usd` cp.
    """

    name: str
    rated_kw: float
    min_kw: float = 0.0
    ramp_up_kw_per_h: float = float("inf")
    ramp_down_kw_per_h: float = float("inf")
    cost_usd_per_kwh: float = 0.0
    cost_usd_per_h: float = 0.0
    start_usd: float = 0.0
    stop_usd: float = 0.0

    def __post_init__(self) -> None:
        c = Checks(f"PV group {self.name}")
        c.name(self.name)
        names = ("cost_usd_per_kwh", "cost_usd_per_h", "start_usd", "stop_usd", "rated_kw")
        c.each(self, names, lambda v: np.isfinite(v) and v >= 0, "a number >= 0")
        c.require(0 <= self.min_kw <= self.rated_kw, "min_kw", self.min_kw, "0 .. rated_kw")
        c.each(self, ("ramp_up_kw_per_h", "ramp_down_kw_per_h"), lambda v: v > 0, "> 0")
        c.done()

    def scaled(self, factor: float) -> PvGroup:
        """The group at `factor` times its size; costs per hour, start and stop scale with it."""
        return PvGroup(
            self.name, self.rated_kw * factor, self.min_kw * factor,
            self.ramp_up_kw_per_h * max(factor, 1e-9), self.ramp_down_kw_per_h * max(factor, 1e-9),
            self.cost_usd_per_kwh, self.cost_usd_per_h * factor, self.start_usd * factor,
            self.stop_usd * factor,
        )  # fmt: skip


@dataclass(frozen=True)
class Bank:
    """Battery bank that takes PV power and gives it back; it ends the day as it began.

    Powers at its terminals, kW; `wear_usd_per_kwh` per kWh given.
    """

    capacity_kwh: float = 0.0
    charge_kw: float = 0.0
    discharge_kw: float = 0.0
    charge_efficiency: float = 0.95
    discharge_efficiency: float = 0.95
    start_share: float = 0.0
    wear_usd_per_kwh: float = 0.0

    def __post_init__(self) -> None:
        c = Checks("battery bank")
        names = ("capacity_kwh", "charge_kw", "discharge_kw", "wear_usd_per_kwh")
        c.each(self, names, lambda v: np.isfinite(v) and v >= 0, "a number >= 0")
        shares = ("charge_efficiency", "discharge_efficiency")
        c.each(self, shares, lambda v: 0 < v <= 1, "0 < share <= 1")
        c.require(0 <= self.start_share <= 1, "start_share", self.start_share, "0 .. 1")
        c.done()


@dataclass(frozen=True)
class Response:
    """What drivers are paid: to be charged in another period than asked, and to give energy back.

    `comfort_usd_per_kwh` per kWh moved out of the period of plain charging;
    `v2g_usd_per_kwh` per kWh given (0 < `v2g_round_trip` <= 1 of what is put back); a battery of
    `battery_kwh` is full after the session and never falls below `floor_share`.
    """

    comfort_usd_per_kwh: float = 0.0
    v2g_usd_per_kwh: float = 0.0
    v2g_round_trip: float = 0.85
    battery_kwh: float = 30.0
    floor_share: float = 0.2

    def __post_init__(self) -> None:
        c = Checks("demand response")
        names = ("comfort_usd_per_kwh", "v2g_usd_per_kwh", "battery_kwh")
        c.each(self, names, lambda v: np.isfinite(v) and v >= 0, "a number >= 0")
        c.require(0 < self.v2g_round_trip <= 1, "v2g_round_trip", self.v2g_round_trip, "0 .. 1")
        c.require(0 <= self.floor_share <= 1, "floor_share", self.floor_share, "0 .. 1")
        c.done()


COSTS = (
    "grid energy", "grid connection", "feed-in", "grid demand", "bank wear", "comfort", "V2G",
)  # fmt: skip
"""Parts of a day's cost besides the PV groups'."""


@dataclass(frozen=True, eq=False)
class Building:
    """A building for one day: horizon, load, sun, PV groups, connection, tariff, bank, response.

    `load_kw` (T,) is the load besides the cars; `irradiance_kw_per_m2` (T,). `price_usd_per_kwh`
    (T,) may be negative; `feed_in_usd_per_kwh` (T,) is paid for what is fed in, None where nothing
    may be. `demand_usd_per_kw` is paid for the day's highest import, `connection_usd_per_h` while
    the grid is connected. `reserve_share` is R of (9), held by the grid too if
    `reserve_from_grid`. `panel_efficiency` is r of (5).

    Raises
    ------
    InputError
        Every fault of its parts: wrong shapes, negative or infinite numbers, ramps that are too
        slow for a group to start, names used twice.

    See Also
    --------
    evcm.building.files.read_building : from a reader's own files.
    """

    horizon: Horizon
    bays: int
    load_kw: FloatArray
    irradiance_kw_per_m2: FloatArray
    price_usd_per_kwh: FloatArray
    groups: tuple[PvGroup, ...]
    connection_kw: float
    demand_usd_per_kw: float = 0.0
    reserve_share: float = 0.0
    panel_efficiency: float = 0.9
    bank: Bank = Bank()
    response: Response = Response()
    feed_in_usd_per_kwh: FloatArray | None = None
    connection_usd_per_h: float = 0.0
    reserve_from_grid: bool = True

    def __post_init__(self) -> None:
        c, periods = Checks("building"), self.horizon.periods
        series = ["load_kw", "irradiance_kw_per_m2", "price_usd_per_kwh"]
        if self.feed_in_usd_per_kwh is not None:
            series.append("feed_in_usd_per_kwh")
        freeze(self, dict.fromkeys(series, float))
        for name in series:
            values = getattr(self, name)
            if c.require(values.shape == (periods,), name, values.shape, f"({periods},)"):
                least = -np.inf if name.endswith("usd_per_kwh") else 0.0
                for t in np.flatnonzero(~(np.isfinite(values) & (values >= least))):
                    where = f"{name}, period {t + 1} ({self.horizon.clock(int(t))})"
                    allowed = "a number" if least < 0 else "a number >= 0"
                    c.require(False, where, float(values[t]), allowed)
        c.require(1 <= self.bays <= 1000, "bays", self.bays, "1 .. 1000")
        given = ("connection_kw", "demand_usd_per_kw", "reserve_share", "connection_usd_per_h")
        c.each(self, given, lambda v: np.isfinite(v) and v >= 0, "a number >= 0")
        c.require(0 < self.panel_efficiency <= 1, "panel_efficiency", self.panel_efficiency, "0..1")
        names = [g.name for g in self.groups]
        c.require(len(set(names)) == len(names), "PV groups", names, "each name once")
        taken = sorted(set(names) & set(COSTS))
        c.require(not taken, "PV groups", taken, "no name of a part of the cost")
        for g in self.groups:
            low = self.horizon.step_h * min(g.ramp_up_kw_per_h, g.ramp_down_kw_per_h)
            c.require(low >= g.min_kw, f"ramps of PV group {g.name}", low,
                      f">= {g.min_kw:g} = min_kw in a period, or it never starts")  # fmt: skip
        c.done()

    @property
    def pv_kw(self) -> float:
        """Rated PV power of all groups."""
        return float(sum(g.rated_kw for g in self.groups))


@dataclass(frozen=True, eq=False)
class Sessions:
    """Cars at the bays: bay (0-based), arrival and departure (period edges), energy, power.

    A car stays in periods arrival .. departure − 1; in a horizon of one whole day `departure` may
    lie beyond its end, and the stay goes on in the first periods. `energy_kwh` and `power_kw` are
    at the plug; `give_kwh` is how far V2G may take the battery below its charge at arrival. `kind`
    names the class of charging; `row` is the row of the reader's file.
    """

    bay: IntArray
    arrival: IntArray
    departure: IntArray
    energy_kwh: FloatArray
    power_kw: FloatArray
    give_kwh: FloatArray
    kind: tuple[str, ...]
    row: IntArray

    def __len__(self) -> int:
        return len(self.kind)

    @classmethod
    def from_table(cls, table: pd.DataFrame) -> Sessions:
        """From columns bay, arrival, departure, energy_kwh, power_kw, give_kwh, kind (and row)."""
        rows = table["row"] if "row" in table else np.arange(1, len(table) + 1)
        bay, arrival, departure, row = (
            np.asarray(c, np.int64)
            for c in (table["bay"], table["arrival"], table["departure"], rows)
        )
        energy, power, give = (read_only(table[n]) for n in ("energy_kwh", "power_kw", "give_kwh"))
        kind = tuple(map(str, table["kind"]))
        return cls(bay, arrival, departure, energy, power, give, kind, row)

    def table(self) -> pd.DataFrame:
        """One row per car."""
        return pd.DataFrame(vars(self))

    def check(self, horizon: Horizon, bays: int) -> Sessions:
        """Return self if every session fits the horizon, its bay and its stay.

        Raises
        ------
        InputError
            Every fault with its row: outside the day, a stay too short for the energy, a bay that
            two cars hold at once.
        """
        c = Checks("sessions")
        for n in range(len(self)):
            first, last = int(self.arrival[n]), int(self.departure[n])
            where = f"row {self.row[n]}"
            stay = f"{horizon.clock(first)} to {horizon.clock(last)}"
            end = first + horizon.periods if horizon.cyclic else horizon.periods
            good = 0 <= first < min(last, horizon.periods) and last <= end
            c.require(good, f"{where}, stay", stay, f"whole periods within {horizon.clock(0)} to "
                      f"{horizon.clock(horizon.periods)}")  # fmt: skip
            c.require(0 <= self.bay[n] < bays, f"{where}, bay", int(self.bay[n]) + 1, f"1..{bays}")
            c.require(self.power_kw[n] > 0, f"{where}, power_kw", float(self.power_kw[n]), "> 0")
            c.require(self.energy_kwh[n] >= 0, f"{where}, energy_kwh", float(self.energy_kwh[n]),
                      ">= 0")  # fmt: skip
            most = max(last - first, 0) * horizon.step_h * self.power_kw[n]
            c.require(self.energy_kwh[n] <= most + 1e-9, f"{where}, energy_kwh",
                      float(self.energy_kwh[n]), f"<= {most:g} kWh, what {self.power_kw[n]:g} kW "
                      "brings in the whole periods of the stay")  # fmt: skip
        self._check_bays(c, horizon)
        c.done()
        return self

    def _check_bays(self, c: Checks, horizon: Horizon) -> None:
        holder: dict[tuple[int, int], int] = {}
        for n in np.lexsort((self.row, self.arrival)):
            span = horizon.span(int(self.arrival[n]), int(self.departure[n]))
            cells = [(int(self.bay[n]), int(t)) for t in span]
            held = [cell for cell in cells if cell in holder]
            if held:
                bay, t = held[0]
                c.require(False, f"row {self.row[n]}, bay", f"bay {bay + 1} at {horizon.clock(t)}",
                          f"a free bay; row {holder[held[0]]} holds it then")  # fmt: skip
            holder |= dict.fromkeys(cells, int(self.row[n]))


@dataclass(frozen=True, eq=False)
class BayDay:
    """Sessions laid out on (period, bay); a cell belongs to one car at most.

    `plain_kw` is charging as printed: full power from arrival until the energy is met. `kept` is 1
    where the car of the cell stood there one period before; `low_kwh` and `high_kwh` bound the
    energy received since arrival, equal to the energy asked for at the end of the stay.
    """

    power_kw: FloatArray
    plain_kw: FloatArray
    kept: FloatArray
    low_kwh: FloatArray
    high_kwh: FloatArray
    session: IntArray


@lru_cache(maxsize=1)
def lay_out(sessions: Sessions, horizon: Horizon, bays: int) -> BayDay:
    """Lay sessions out on (period, bay) after checking them."""
    sessions.check(horizon, bays)
    shape = (horizon.periods, bays)
    power, plain, kept, low, high = (np.zeros(shape) for _ in range(5))
    number = np.full(shape, -1, dtype=np.int64)
    for n in range(len(sessions)):
        span = horizon.span(int(sessions.arrival[n]), int(sessions.departure[n]))
        bay = sessions.bay[n]
        energy, kw = float(sessions.energy_kwh[n]), float(sessions.power_kw[n])
        power[span, bay], number[span, bay] = kw, n
        kept[span[1:], bay] = 1.0
        full = kw * horizon.step_h
        plain[span, bay] = np.clip(energy - full * np.arange(span.size), 0.0, full) / horizon.step_h
        low[span, bay], high[span, bay] = -float(sessions.give_kwh[n]), energy
        low[span[-1], bay] = energy
    arrays = (read_only(a) for a in (power, plain, kept, low, high))
    power, plain, kept, low, high = arrays
    return BayDay(power, plain, kept, low, high, session=read_only(number, np.int64))
