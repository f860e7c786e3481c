"""Inputs of a study: one frozen value, read from a folder of files."""

from evcm.inputs.folder import paper, read
from evcm.inputs.prices import PriceSeries
from evcm.inputs.study import Inputs, Market, Operator
from evcm.inputs.values import (
    Battery,
    CarList,
    Charger,
    Clock,
    PriceSteps,
    Roads,
    Scenario,
    Sessions,
    SpeedBand,
    TripLaw,
    VehicleClass,
    WearLaw,
)

PERIODS = 48
PERIOD_H = 0.5
LOAD_BUSES = (2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14)


def scenarios():
    return paper().scenarios


def scenario(number):
    return paper().scenario(number)


def trip_law(preset="published"):
    return paper().law(preset)


def battery():
    return paper().vehicles[0].battery


def charger():
    return paper().vehicles[0].charger


def wear_law():
    return paper().vehicles[0].wear


def price_steps():
    return paper().market.price


def system_cap_mw():
    return paper().market.system_cap_mw


class LoadProfile:
    @property
    def load_factor(self):
        return paper().load_factor

    @property
    def aggregator_forecast_mw(self):
        return paper().forecast_mw


def load_profile():
    return LoadProfile()


def check_bus(bus, subject="bus"):
    return int(bus)
