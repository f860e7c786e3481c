"""Hinges change one assumption and nothing else; seeds tell how far a headline moves."""

import numpy as np
import pandas as pd
import pytest

from evcm import inputs
from evcm.errors import InputError
from evcm.store.results import StaleError
from evcm.study import hinges, seeds
from evcm.study.hinges import BASE, HINGES, Hinge


def test_every_hinge_differs_from_the_paper_in_one_assumption():
    assert HINGES[0] is BASE
    names = [(h.what, h.setting) for h in HINGES]
    assert len(set(names)) == len(names)
    settings = [v for v in vars(BASE) if v not in ("what", "setting")]
    for hinge in HINGES[1:]:
        changed = [v for v in settings if getattr(hinge, v) != getattr(BASE, v)]
        assert len(changed) == 1, hinge


def test_prices_stretch_about_their_mean_and_stay_above_zero():
    price = inputs.paper().market.price
    double = hinges.stretched(price, 2.0)
    assert double.price_usd_per_kwh.min() >= 0.0
    assert (np.diff(double.price_usd_per_kwh) >= 0).all()
    half = hinges.stretched(price, 0.5)
    assert np.ptp(half.price_usd_per_kwh) == pytest.approx(0.5 * np.ptp(price.price_usd_per_kwh))
    assert half.price_usd_per_kwh.mean() == pytest.approx(price.price_usd_per_kwh.mean())


def test_weighted_groups_keep_the_number_of_cars():
    plain = hinges.problems_of(inputs.paper(), BASE, 4000)
    heavy = hinges.problems_of(inputs.paper(), Hinge("groups", "", weights=(0.7, 1.3)), 4000)
    assert sum(p.cars for p in plain) == sum(p.cars for p in heavy) == 8000
    assert set(np.concatenate([p.group_size for p in heavy])) == {14.0, 26.0}
    driven = [sum((p.trip_energy_kwh.sum(axis=0).mean(axis=1) * p.group_size).sum() for p in fleet)
              for fleet in (plain, heavy)]  # fmt: skip
    assert driven[1] > driven[0]


def test_a_hinge_reaches_the_problem():
    worn = hinges.problems_of(inputs.paper(), Hinge("wear", "", wear=10.0), 4000)[5]
    plain = hinges.problems_of(inputs.paper(), BASE, 4000)[5]
    np.testing.assert_allclose(worn.wear_usd_per_kwh, 10 * plain.wear_usd_per_kwh)
    known = hinges.problems_of(inputs.paper(), Hinge("forecast", "", true_forecast=True), 4000)[5]
    assert (known.system_load_mw < plain.system_load_mw).all()
    later = hinges.problems_of(inputs.paper(), Hinge("clamp", "", latest_h=13.0), 4000)[5]
    assert not np.array_equal(later.available, plain.available)


def test_the_papers_inputs_have_every_hinge_and_the_default_crowd():
    assert hinges.hinges_for(inputs.paper()) == HINGES
    assert hinges.crowd_for(inputs.paper()) == hinges.Crowd()


def test_hinges_turn_on_another_network_and_clock(tmp_path):
    """case30 on an hourly day with prices by period and a charger of 22 kW, few cars."""
    folder = tmp_path / "case30"
    inputs.write_example(folder, case="case30", cars=100)
    study, law = folder / "study.toml", folder / "vehicle/vehicle.toml"
    study.write_text(study.read_text().replace("period_minutes = 30", "period_minutes = 60"))
    law.write_text(law.read_text().replace("power_kw = 150.0", "power_kw = 22.0"))
    hours = range(1, 25)
    (folder / "load/profile.csv").write_text(
        "period,load_factor\n" + "".join(f"{t},0.7\n" for t in hours)
    )
    (folder / "market/price_steps.csv").unlink()
    (folder / "market/prices.csv").write_text(
        "period,price_per_kwh\n" + "".join(f"{t},{-0.01 if t < 6 else 0.1}\n" for t in hours)
    )
    told = inputs.read(folder)
    turned = hinges.hinges_for(told)
    assert {(h.what, h.setting) for h in HINGES} - {(h.what, h.setting) for h in turned} == {
        ("charger", "22 kW"), ("forecast", "equal to the load"),
    }  # fmt: skip
    few = hinges.Crowd(groups=40, cars=80, counts=(80,))
    known = {h.what: h for h in turned}
    asked = (BASE, known["cars that feed in"], known["spread of prices"], known["others' plans"])
    table = hinges.run(told, tmp_path / "out", 1, hinges=asked, crowd=few)
    assert table["bill_usd"].notna().all()
    assert (table["note"] == "").all()
    bill = table["bill_usd"].to_numpy()
    assert bill[1] >= bill[0] - 1e-6  # 5 % of the cars that feed in earn less
    # a price taker's plans do not move the price: the others' plans change nothing
    assert bill[3] == pytest.approx(bill[0], abs=0.05 * abs(bill[0]) + 1e-6)
    base, double = (
        hinges.problems_of(told, h, 80, 40)[0].price.day_ahead_usd_per_kwh
        for h in (BASE, known["spread of prices"])
    )
    assert double - double.mean() == pytest.approx(2 * (base - base.mean()))
    with pytest.raises(StaleError):
        hinges.load(told, tmp_path / "out")  # that is the table of all hinges


def test_cars_of_hinges_are_checked():
    with pytest.raises(InputError, match="multiples of 200"):
        hinges.Crowd(cars=4100, counts=(4100,))
    with pytest.raises(InputError, match="one of the counts"):
        hinges.Crowd(cars=600)


def test_seeds_are_read_from_text():
    assert seeds.parse("1-4") == (1, 2, 3, 4)
    assert seeds.parse("3, 7-8") == (3, 7, 8)
    with pytest.raises(InputError, match="whole numbers and ranges"):
        seeds.parse("4-1")


def test_intervals_of_a_value_and_of_a_ratio():
    rows = [
        {"scenario": 3, "side": "max", "regime": r, "seed": s, "paid_usd": (s + 1.0) * f}
        for s in range(20)
        for r, f in (("apart", 4.0), ("joint", 1.0))
    ]
    table = pd.DataFrame(rows)
    found = seeds.intervals(table, "paid_usd").loc[(3, "max")]
    assert found.loc["joint", "median"] == pytest.approx(10.5)
    assert found.loc["joint", "low"] < 3 < 18 < found.loc["joint", "high"]
    ratio = seeds.intervals(table, "paid_usd", over="joint").loc[(3, "max")]
    assert ratio.loc["apart", ["median", "low", "high"]].tolist() == pytest.approx([4.0] * 3)
    assert (ratio["seeds"] == 20).all()


def test_an_interval_is_scaled_to_the_value_it_stands_beside():
    row = pd.Series({"seeds": 8, "median": 10.0, "low": 9.0, "high": 12.0})
    assert seeds.around(20.0, row) == pytest.approx((18.0, 24.0))
    assert seeds.around(0.0, pd.Series({"median": 0.0, "low": 0.0, "high": 0.1})) == (0.0, 0.1)
