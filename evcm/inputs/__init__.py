"""Inputs of a study: one frozen value, read from a folder of files."""

from evcm.errors import Checks
from evcm.inputs.folder import paper as paper
from evcm.inputs.folder import read as read
from evcm.inputs.prices import PriceSeries as PriceSeries
from evcm.inputs.study import Inputs as Inputs
from evcm.inputs.study import Market as Market
from evcm.inputs.values import Battery as Battery
from evcm.inputs.values import CarList as CarList
from evcm.inputs.values import Charger as Charger
from evcm.inputs.values import Clock as Clock
from evcm.inputs.values import PriceSteps as PriceSteps
from evcm.inputs.values import Roads as Roads
from evcm.inputs.values import Scenario as Scenario
from evcm.inputs.values import Sessions as Sessions
from evcm.inputs.values import SpeedBand as SpeedBand
from evcm.inputs.values import TripLaw as TripLaw
from evcm.inputs.values import VehicleClass as VehicleClass
from evcm.inputs.values import WearLaw as WearLaw

PERIODS = 48
"""Half-hour periods of the paper's day."""

PERIOD_H = 0.5
"""Their length in hours."""

LOAD_BUSES = (2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14)
"""Buses with an aggregator in the paper's network."""


def scenarios() -> tuple[Scenario, ...]:
    """Return the paper's three scenarios."""
    return paper().scenarios


def scenario(number: int) -> Scenario:
    """Scenario of the paper by its number."""
    return paper().scenario(number)


def trip_law(preset: str = "published") -> TripLaw:
    """Trip law of the paper by its name."""
    return paper().law(preset)


def battery() -> Battery:
    """Return the paper's battery."""
    return paper().vehicles[0].battery


def charger() -> Charger:
    """Return the paper's charger."""
    return paper().vehicles[0].charger


def wear_law() -> WearLaw:
    """Return the paper's wear law."""
    return paper().vehicles[0].wear


def price_steps() -> PriceSteps:
    """Return the paper's price curve."""
    price = paper().market.price
    assert isinstance(price, PriceSteps)
    return price


def system_cap_mw() -> float:
    """Return the paper's system cap, MW."""
    return paper().market.system_cap_mw


class LoadProfile:
    """Load factors and forecast of the paper's day."""

    load_factor = property(lambda self: paper().load_factor)
    aggregator_forecast_mw = property(lambda self: paper().forecast_mw)


def load_profile() -> LoadProfile:
    """Return the paper's day."""
    return LoadProfile()


def check_bus(bus: int, subject: str = "bus") -> int:
    """`bus`, if it has an aggregator in the paper's network."""
    checks = Checks(subject)
    checks.require(bus in LOAD_BUSES, "bus", bus, ", ".join(map(str, LOAD_BUSES)))
    checks.done()
    return int(bus)
