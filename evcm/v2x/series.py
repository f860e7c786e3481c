"""What a station cannot choose: prices, building load, PV, temperature, limits, set-point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from evcm import data
from evcm.arrays import FloatArray, freeze
from evcm.errors import Checks
from evcm.v2x.world import World

WEEK_H = 168


@dataclass(frozen=True, eq=False)
class Series:
    """Given values of T steps of `step_h` hours from `start_hour` of the week; M transformers.

    Attributes
    ----------
    buy_usd_per_kwh, sell_usd_per_kwh
        (T,) energy prices at each transformer's meter; they may be negative, and selling may pay
        more than buying costs.
    base_kw
        (T, M) building load minus PV.
    import_limit_kw, export_limit_kw
        (T, M) limits of the transformers. An import limit below zero asks for that much export.
    temperature_c
        (T,) battery temperature.
    setpoint_kw
        (T,) wanted total power of the ports, for the tracking term.
    """

    step_h: float
    buy_usd_per_kwh: FloatArray = field(repr=False)
    sell_usd_per_kwh: FloatArray = field(repr=False)
    base_kw: FloatArray = field(repr=False)
    import_limit_kw: FloatArray = field(repr=False)
    export_limit_kw: FloatArray = field(repr=False)
    temperature_c: FloatArray = field(repr=False)
    setpoint_kw: FloatArray = field(repr=False)
    start_hour: float = 0.0

    def __post_init__(self) -> None:
        freeze(self, dict.fromkeys(ARRAYS, float))
        c = Checks("series")
        c.require(self.step_h > 0, "step_h", self.step_h, "> 0")
        c.require(0 <= self.start_hour < WEEK_H, "start_hour", self.start_hour, "0 <= hour < 168")
        steps = self.buy_usd_per_kwh.shape
        for name in ARRAYS:
            shape = getattr(self, name).shape
            limit = name.endswith("limit_kw")
            good = shape == (self.base_kw.shape if limit or name == "base_kw" else steps)
            good = good and len(shape) >= 1 and shape[0] == steps[0]
            c.require(good, name, shape, f"one row for each of the {steps[0]} steps")
            values = getattr(self, name)
            c.require(not np.isnan(values).any(), name, "not a number", "numbers")
            if not limit:
                c.require(not np.isinf(values).any(), name, "infinite", "finite numbers")
        c.done()
        c.require(bool((self.export_limit_kw >= 0).all()), "export_limit_kw", "negative", ">= 0")
        c.done()

    def __len__(self) -> int:
        return int(self.buy_usd_per_kwh.shape[0])

    def with_import_cap(self, cap_kw: FloatArray | float, transformer: int = 0) -> Series:
        """The same series with a transformer's import limit lowered to a cap, (T,) or a number."""
        limit = self.import_limit_kw.copy()
        limit[:, transformer] = np.minimum(limit[:, transformer], cap_kw)
        return replace(self, import_limit_kw=limit)


ARRAYS = (
    "buy_usd_per_kwh",
    "sell_usd_per_kwh",
    "base_kw",
    "import_limit_kw",
    "export_limit_kw",
    "temperature_c",
    "setpoint_kw",
)


class SeriesArrays(NamedTuple):
    """A `Series` as the step kernel reads it."""

    buy: FloatArray
    sell: FloatArray
    base_kw: FloatArray
    import_kw: FloatArray
    export_kw: FloatArray
    cycle_factor: FloatArray
    calendar_factor: FloatArray
    setpoint_kw: FloatArray
    scale: FloatArray
    """(3,) step_h, start hour, price scale of the observation."""


@cache
def week() -> pd.DataFrame:
    """The week of ``data/v2x/week.csv``, hour by hour."""
    return data.read_table("v2x/week.csv")


def week_series(
    world: World,
    steps: int,
    step_h: float,
    start_hour: float = 0.0,
    prices: Sequence[float] | FloatArray | None = None,
) -> Series:
    """Series of a world from the data's week; each step holds the mean over its minutes.

    The transformers' building and PV ratings scale the week's profiles. `prices` are buying prices
    (USD/kWh) by step instead of the data's; the selling price is 80 % of a positive price and equal
    to a negative one.
    """
    checks = Checks("series")
    checks.require(steps >= 1, "steps", steps, ">= 1")
    checks.require(step_h > 0, "step_h", step_h, "> 0")
    checks.require(0 <= start_hour < WEEK_H, "start_hour", start_hour, "0 <= hour < 168")
    checks.done()
    table = week()
    mean = {
        name: _step_means(table[name].to_numpy(float), steps, step_h, start_hour)
        for name in table.columns[2:]
    }
    buy, sell = mean["buy_usd_per_kwh"], mean["sell_usd_per_kwh"]
    if prices is not None:
        buy = np.asarray(prices, dtype=float)
        sell = np.where(buy > 0, 0.8 * buy, buy)
    transformers = world.transformers
    base = np.stack(
        [
            t.building_peak_kw * mean["building_per_peak"] - t.pv_rated_kw * mean["pv_per_rated"]
            for t in transformers
        ],
        axis=1,
    )
    return Series(
        step_h=step_h,
        buy_usd_per_kwh=buy,
        sell_usd_per_kwh=sell,
        base_kw=base,
        import_limit_kw=np.tile([t.import_limit_kw for t in transformers], (steps, 1)),
        export_limit_kw=np.tile([t.export_limit_kw for t in transformers], (steps, 1)),
        temperature_c=mean["temperature_c"],
        setpoint_kw=np.zeros(steps),
        start_hour=start_hour,
    )


def _step_means(hourly: FloatArray, steps: int, step_h: float, start_hour: float) -> FloatArray:
    # Integrate the hourly staircase exactly, so that a day has the same mean at every step length.
    total = np.concatenate([[0.0], np.cumsum(hourly)])
    edges = start_hour + step_h * np.arange(steps + 1)
    weeks, hour = np.divmod(edges, WEEK_H)
    whole = np.minimum(hour.astype(int), WEEK_H - 1)
    integral = weeks * total[-1] + total[whole] + hourly[whole] * (hour - whole)
    return np.asarray(np.diff(integral) / step_h)


def series_arrays(series: Series, world: World) -> SeriesArrays:
    """The series as contiguous arrays, with the ageing factors of the world's batteries."""
    price_scale = max(float(np.abs(series.buy_usd_per_kwh).max()), 1e-9)
    return SeriesArrays(
        buy=np.ascontiguousarray(series.buy_usd_per_kwh),
        sell=np.ascontiguousarray(series.sell_usd_per_kwh),
        base_kw=np.ascontiguousarray(series.base_kw),
        import_kw=np.ascontiguousarray(series.import_limit_kw),
        export_kw=np.ascontiguousarray(series.export_limit_kw),
        cycle_factor=world.ageing.cycle_factor(series.temperature_c),
        calendar_factor=world.ageing.calendar_factor(series.temperature_c),
        setpoint_kw=np.ascontiguousarray(series.setpoint_kw),
        scale=np.array([series.step_h, series.start_hour, price_scale]),
    )
