"""The certificate of a building's plan notices each kind of fault."""

from dataclasses import replace

import numpy as np
import pytest

from evcm import building as bd
from evcm.building.certificate import certify
from evcm.errors import SolverError

DEFAULT, LAW = bd.default_building(), bd.default_law()
CARS = bd.random_day(LAW, DEFAULT.horizon, 4, 0).sessions
PLAN = bd.dispatch(DEFAULT, CARS, bd.VARIANTS["shifting, bank and V2G"])
FIXED = bd.dispatch(DEFAULT, CARS)


def bumped(array, at, by):
    copy = np.array(array)
    copy[at] += by
    return copy


def test_every_variant_is_certified():
    for plan in bd.compare(DEFAULT, CARS).values():
        certify(plan).require()


def test_cost_is_re_evaluated():
    assert certify(PLAN).cost_usd < 1e-6
    assert certify(replace(PLAN, cost_usd=PLAN.cost_usd + 0.01)).cost_usd == pytest.approx(0.01)


FIRST = (int(CARS.arrival[0]), int(CARS.bay[0]))
FAULTS = {
    "cost_usd": {"cost_usd": PLAN.cost_usd + 1.0},
    "balance_kw": {"power_kw": bumped(PLAN.power_kw, (2, 4), 1.0)},
    "limits_kw": {"power_kw": bumped(PLAN.power_kw, (2, 0), 30.0)},
    "commitment": {"start": bumped(PLAN.start, (0, 4), -1.0)},
    "ramps_kw": {"power_kw": bumped(PLAN.power_kw, (2, 0), 60.0)},
    "binaries": {"on": bumped(PLAN.on, (1, 0), 0.5)},
    "bank": {"stored_kwh": bumped(PLAN.stored_kwh, 3, 1.0)},
    "cars": {"charge_kw": bumped(PLAN.charge_kw, FIRST, 1.0)},
    "gap": {"bound_usd": PLAN.cost_usd * 0.99},
    "burning_kw": {
        "charge_kw": bumped(PLAN.charge_kw, FIRST, 1.0),
        "give_kw": bumped(PLAN.give_kw, FIRST, 1.0),
    },
}


@pytest.mark.parametrize("check", FAULTS)
def test_a_fault_is_noticed_where_it_is(check):
    certificate = certify(replace(PLAN, **FAULTS[check]))
    assert getattr(certificate, check) > 1e-3
    with pytest.raises(SolverError, match="building certificate"):
        certificate.require()


def test_reserve_is_checked():
    hungry = replace(DEFAULT, reserve_share=50.0)
    assert certify(replace(PLAN, building=hungry)).reserve_kw > 1.0


def test_fixed_charging_may_not_move():
    t, bay = FIRST
    stay = int(CARS.departure[0])
    charge = bumped(bumped(FIXED.charge_kw, (t, bay), -1.0), (stay - 1, bay), 1.0)
    assert stay - 1 > t
    assert certify(replace(FIXED, charge_kw=charge)).cars >= 1.0
