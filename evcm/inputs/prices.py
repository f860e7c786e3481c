"""Prices of a price taker: a series per period, with real-time prices of their own."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from evcm.arrays import FloatArray, read_only
from evcm.errors import Checks


@dataclass(frozen=True, eq=False)
class PriceSeries:
    """Prices that the aggregator does not move, USD/kWh; negative prices are normal.

    The printed (7), (8) with λ- and λ+ as given numbers: a deficit P- pays the price for buying
    in real time, a surplus P+ earns the one for selling.

    Attributes
    ----------
    day_ahead_usd_per_kwh : (T,)
        Price of P^EM.
    buy_usd_per_kwh, sell_usd_per_kwh : (T,) or (T, N), optional
        Real-time prices; the day-ahead price by default. Selling never earns more than buying
        costs: the two at once would be free money.

    Raises
    ------
    InputError
        A price is not finite, shapes do not fit, or selling earns more than buying costs.

    See Also
    --------
    evcm.inputs.values.PriceSteps : prices that the aggregator moves.
    """

    day_ahead_usd_per_kwh: FloatArray = field(repr=False)
    buy_usd_per_kwh: FloatArray | None = field(default=None, repr=False)
    sell_usd_per_kwh: FloatArray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        c = Checks("price series")
        for name in ("day_ahead_usd_per_kwh", "buy_usd_per_kwh", "sell_usd_per_kwh"):
            value = getattr(self, name)
            if value is None:
                continue
            array = np.asarray(value)
            sizes = (1,) if name.startswith("day") else (1, 2)
            if c.require(
                array.dtype.kind in "iuf" and array.ndim in sizes and array.size > 0,
                name, f"shape {array.shape}, type {array.dtype}", "numbers (T,) or (T, N)",
            ):  # fmt: skip
                bad = np.argwhere(~np.isfinite(array))
                if bad.size:
                    where = ", ".join(str(i + 1) for i in bad[0])
                    c.require(False, f"{name}[{where}]", array[tuple(bad[0])], "a finite number")
                object.__setattr__(self, name, read_only(array))
        c.done()
        T = self.day_ahead_usd_per_kwh.size
        for name in ("buy_usd_per_kwh", "sell_usd_per_kwh"):
            value = getattr(self, name)
            shape = (T,) if value is None else value.shape
            c.require(shape[0] == T, name, f"shape {shape}", f"T = {T} as in day_ahead_usd_per_kwh")
        c.done()
        buy, sell = self._column(self.buy_usd_per_kwh), self._column(self.sell_usd_per_kwh)
        if c.require(
            buy.shape[1] in (1, sell.shape[1]) or sell.shape[1] == 1,
            "sell_usd_per_kwh", f"{sell.shape[1]} samples", f"{buy.shape[1]} as in buy_usd_per_kwh",
        ):  # fmt: skip
            bad = np.argwhere(sell > buy)
            if bad.size:
                t = int(bad[0, 0])
                c.require(
                    False, f"sell_usd_per_kwh, period {t + 1}", float(sell[t].max()),
                    f"at most what buying costs then, {float(buy[t].min()):g}",
                )  # fmt: skip
        c.done()

    def _column(self, price: FloatArray | None) -> FloatArray:
        price = self.day_ahead_usd_per_kwh if price is None else price
        return price[:, None] if price.ndim == 1 else price

    @property
    def periods(self) -> int:
        """T."""
        return int(self.day_ahead_usd_per_kwh.size)

    @property
    def samples(self) -> int:
        """N of real-time prices per sample, or 1."""
        shapes = [self._column(p).shape for p in (self.buy_usd_per_kwh, self.sell_usd_per_kwh)]
        return int(max(shape[1] for shape in shapes))

    def real_time_usd_per_kwh(self, samples: int) -> tuple[FloatArray, FloatArray]:
        """Price for buying and for selling in real time, (T, N) each."""
        shape = (self.periods, samples)
        return (
            np.broadcast_to(self._column(self.buy_usd_per_kwh), shape),
            np.broadcast_to(self._column(self.sell_usd_per_kwh), shape),
        )

    @property
    def one_price(self) -> bool:
        """Whether real-time trade costs the day-ahead price in every sample."""
        return bool(
            (self._column(self.buy_usd_per_kwh) == self.day_ahead_usd_per_kwh[:, None]).all()
            and (self._column(self.sell_usd_per_kwh) == self.day_ahead_usd_per_kwh[:, None]).all()
        )
