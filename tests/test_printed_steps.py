"""The printed price steps give energy away; the corrected ones price it, whatever M is."""

import numpy as np
import pytest

from evcm import inputs
from evcm.aggregator.bigm import least_cost_usd
from evcm.errors import InputError

PRICES = inputs.paper().market.price


def step_price(load_mw: float) -> float:
    return float(PRICES.admissible(np.array(load_mw))[0])


@pytest.mark.parametrize("power_mw", [0.5, 3.0, 8.0])
def test_printed_cost_runs_to_minus_infinity_with_m(power_mw):
    costs = [least_cost_usd(power_mw, 230.0, PRICES, 0.5, "printed", m) for m in (1e3, 2e3, 4e3)]
    last = float(PRICES.price_usd_per_kwh[-1]) * 1000 * 0.5
    assert costs[0] < 0
    # Each further MW of M is "sold" at the last price.
    assert np.diff(costs) == pytest.approx([-1e3 * last, -2e3 * last], rel=1e-6)


@pytest.mark.parametrize("power_mw", [0.5, 3.0, 8.0])
def test_an_indicator_forced_one_way_makes_energy_free(power_mw):
    assert least_cost_usd(power_mw, 230.0, PRICES, 0.5, "switch corrected") == pytest.approx(
        0, abs=1e-6
    )


@pytest.mark.parametrize("power_mw", [-4.0, 0.5, 3.0, 8.0])
@pytest.mark.parametrize("big_m_mw", [600.0, 6000.0])
def test_corrected_cost_is_the_step_price_for_any_m(power_mw, big_m_mw):
    cost = least_cost_usd(power_mw, 230.0, PRICES, 0.5, "corrected", big_m_mw)
    assert cost == pytest.approx(step_price(230.0 + power_mw) * power_mw * 500.0, rel=1e-6)


def test_bad_input_is_named():
    with pytest.raises(InputError, match=r"form.*big_m_mw"):
        least_cost_usd(1.0, 230.0, PRICES, 0.5, "loose", 10.0)  # type: ignore[arg-type]
