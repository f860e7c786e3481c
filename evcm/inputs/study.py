"""`Inputs`: everything that a study is told, as one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from evcm.arrays import FloatArray, freeze
from evcm.errors import Checks
from evcm.inputs.prices import PriceSeries
from evcm.inputs.values import (
    CarList,
    Clock,
    PriceSteps,
    Roads,
    Scenario,
    Sessions,
    TripLaw,
    VehicleClass,
)
from evcm.network.case import Day, Network
from evcm.paper import implements
from evcm.store import fingerprint


@implements("4")
@dataclass(frozen=True, eq=False)
class Market:
    """Prices and what limits trade.

    `price` follows the system's load in steps (the aggregators move it), or is a series by period
    (they do not). `system_cap_mw` is P^SYScap of (4). `real_time_limit` says what bounds real-time
    trade: the energy fed back, (10), or the plugs in use. Prices are kept in USD; `currency` is the
    label of the files and `per_usd` its rate.
    """

    price: PriceSteps | PriceSeries
    system_cap_mw: float
    real_time_limit: Literal["v2g", "plug"] = "v2g"
    currency: str = "USD"
    per_usd: float = 1.0


@dataclass(frozen=True, eq=False)
class Inputs:
    """Everything that a study is told. T periods, K aggregators.

    Attributes
    ----------
    name : str
        For titles and messages.
    clock : Clock
        Length of a period and the days of the horizon.
    network : Network
        Its `ev_bus` are the buses that have an aggregator; it knows the operator's rules.
    load_p_mw, load_q_mvar : (T, n_bus)
        Load at every bus without cars; own generation counts as negative load.
    forecast_mw : (T,)
        Load of the rest of the system that the aggregators are told, Psys.
    market : Market
    laws : mapping
        Trip laws by name; `clock.laws` says which holds on which day.
    cars : Roads, CarList or Sessions
        Where cars drive by the law, or cars one by one, or recorded charging sessions.
    vehicles : tuple of VehicleClass
    scenarios : tuple of Scenario

    Raises
    ------
    InputError
        Parts do not fit one another; all faults are named.

    See Also
    --------
    evcm.inputs.folder.read : the value of a folder of files.
    """

    name: str
    clock: Clock
    network: Network
    load_p_mw: FloatArray = field(repr=False)
    load_q_mvar: FloatArray = field(repr=False)
    forecast_mw: FloatArray = field(repr=False)
    market: Market
    laws: Mapping[str, TripLaw] = field(repr=False)
    cars: Roads | CarList | Sessions = field(repr=False)
    vehicles: tuple[VehicleClass, ...]
    scenarios: tuple[Scenario, ...]

    def __post_init__(self) -> None:
        freeze(self)
        c = Checks(self.name)
        T, buses = self.clock.periods, self.network.n_bus
        for name, shape in (
            ("load_p_mw", (T, buses)), ("load_q_mvar", (T, buses)), ("forecast_mw", (T,)),
        ):  # fmt: skip
            value = getattr(self, name)
            if c.require(value.shape == shape, name, value.shape, str(shape)):
                c.require(bool(np.isfinite(value).all()), name, "not finite", "finite numbers")
        if isinstance(self.market.price, PriceSeries):
            c.require(
                self.market.price.periods == T, "prices", self.market.price.periods, f"{T} periods"
            )
        c.require(len(self.buses) > 0, "aggregators", "none", "at least one bus")
        c.require(len(self.scenarios) > 0, "scenarios", "none", "at least one")
        numbers = [s.number for s in self.scenarios]
        c.require(len(set(numbers)) == len(numbers), "scenarios", numbers, "different numbers")
        shares = [v.share for v in self.vehicles]
        c.require(
            len(shares) > 0 and abs(sum(shares) - 1) < 1e-9 and min(shares) >= 0,
            "shares of vehicle classes", shares, "numbers >= 0 that sum to 1",
        )  # fmt: skip
        for law in () if isinstance(self.cars, Sessions) else self.clock.laws:
            c.require(law in self.laws, "law of a day", law, ", ".join(self.laws))
        c.done()

    @property
    def periods(self) -> int:
        """T."""
        return self.clock.periods

    @property
    def period_h(self) -> float:
        """Length of a period in hours."""
        return self.clock.period_h

    @property
    def buses(self) -> tuple[int, ...]:
        """Numbers of the buses that have an aggregator, in array order (K)."""
        return self.network.ev_bus_number

    @cached_property
    def day(self) -> Day:
        """The network and its load without cars."""
        return Day(self.network, self.load_p_mw, self.load_q_mvar, self.clock.period_h)

    def day_on(self, network: Network) -> Day:
        """Another network, its own loads times these inputs' load factors."""
        return Day.scaled(network, self.load_factor, self.clock.period_h)

    @cached_property
    def load_factor(self) -> FloatArray:
        """Load of the system over the sum of the network's nominal loads. (T,)"""
        return np.asarray(self.load_p_mw.sum(axis=1) / self.network.load_p_mw.sum())

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the content: equal inputs have equal fingerprints wherever they come from."""
        return fingerprint.of_content(self)

    def scenario(self, number: int) -> Scenario:
        """Scenario by its number; raises `InputError` for one that does not exist."""
        checks = Checks("scenario")
        found = {s.number: s for s in self.scenarios}
        checks.require(number in found, "number", number, ", ".join(map(str, found)))
        checks.done()
        return found[number]

    def law(self, name: str | None = None) -> TripLaw:
        """Trip law by name; that of the first day if left out."""
        name = self.clock.laws[0] if name is None else name
        checks = Checks("trip law")
        checks.require(name in self.laws, "law", name, ", ".join(self.laws))
        checks.done()
        return self.laws[name]

    def day_laws(self, law: TripLaw | None = None) -> tuple[TripLaw, ...]:
        """Law of every day; `law` stands in for the first day's and its like, not for others."""
        first = self.clock.laws[0]
        return tuple(
            law if law is not None and name == first else self.law(name) for name in self.clock.laws
        )
