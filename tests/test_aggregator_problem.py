from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from instances import random_problem

from evcm.aggregator import load_problem, methods, save_problem, visits
from evcm.aggregator.infeasible import require_reachable
from evcm.aggregator.problem import AggregatorProblem
from evcm.errors import InfeasibleError, InputError
from evcm.inputs import Battery, Charger
from evcm.inputs.prices import PriceSeries

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference" / "eva"
TOOLS = REFERENCE.parents[1] / "tools"


def test_faults_are_reported_together_with_field_and_value() -> None:
    p = random_problem(0)
    load = p.system_load_mw.copy()
    load[3] = np.inf
    available = p.available.astype(np.int8)
    available[2, 1, 0] = 7
    with pytest.raises(InputError) as caught:
        p.with_options(
            system_load_mw=load,
            available=available,
            probability=np.array([0.5, 0.6]),
            group_size=np.array([1, 2, 0, 4]),
        )
    text = str(caught.value)
    for part in ("system_load_mw[4]: got inf", "available[3, 2, 1]: got 7", "sum 1.1"):
        assert part in text
    assert "group_size[3]" in text
    assert len(caught.value.faults) == 4


def test_others_may_feed_in_more_than_the_loads_take() -> None:
    p = random_problem(0)
    there = p.with_options(system_load_mw=p.system_load_mw - p.system_load_mw.max() - 1.0)
    plans = [methods.solve(there, method=method, gap=1e-4) for method in ("interior", "model")]
    apart = abs(plans[0].objective_usd - plans[1].objective_usd)
    assert apart <= 2e-4 * plans[0].cost.turnover_usd


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"system_cap_mw": None}, "neither"),
        ({"trading_cap_mw": np.ones(12)}, "both"),
        ({"system_cap_mw": float("nan")}, "system_cap_mw"),
        ({"period_h": 0.0}, "period_h"),
        ({"real_time_limit": "grid"}, "v2g or plug"),
        ({"risk_alpha": 1.0}, "risk_alpha"),
        ({"risk_weight": 1.5}, "risk_weight"),
        ({"probability": np.ones(3) / 3}, "N = 2"),
        ({"system_load_mw": np.ones(7)}, "T = 12"),
        ({"available": np.ones((12, 4))}, "(T, V, N)"),
        ({"available": np.full((12, 4, 2), "x")}, "numbers"),
        ({"trip_energy_kwh": np.full((12, 4, 2), np.nan)}, "trip_energy_kwh[1, 1, 1]"),
        ({"trip_energy_kwh": np.ones((12, 4, 2))}, "does not travel"),
        ({"midnight_soc_kwh": np.full((4, 2), 5.0)}, "12..76"),
        ({"degradation_slope": np.array([1, 2, -1, 1.0])}, "degradation_slope[3]"),
    ],
)
def test_each_fault_names_its_field(changes: dict[str, object], part: str) -> None:
    with pytest.raises(InputError) as caught:
        random_problem(0).with_options(**changes)
    assert part in str(caught.value)


def test_arrays_are_read_only() -> None:
    p = random_problem(0)
    with pytest.raises(ValueError, match="read-only"):
        p.available[0, 0, 0] = False


@pytest.mark.parametrize("compiled", [True, False])
def test_visits_wrap_around_midnight_and_start_with_the_trip_driven(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    available = np.zeros((6, 2, 1), bool)
    travelling = np.zeros((6, 2, 1), bool)
    energy = np.zeros((6, 2, 1))
    available[[5, 0, 1], 0, 0] = True
    travelling[[3, 4], 0, 0] = True
    energy[[3, 4], 0, 0] = 4.0, 2.5
    available[:, 1, 0] = True
    if not compiled:
        monkeypatch.setattr(visits, "_fill", visits._fill.py_func)
    v = visits.find_visits(available, travelling, energy, 60.0)
    assert v.vehicle.tolist() == [0, 1]
    assert v.start.tolist() == [5, 0]
    assert v.length.tolist() == [3, 6]
    assert v.arrival_soc_kwh[0] == 53.5
    assert v.always_plugged.tolist() == [False, True]


def test_a_visit_too_short_says_which_car_and_by_how_much() -> None:
    p = random_problem(1, charger_kw=20.0)
    available, travelling = p.available.copy(), p.travelling.copy()
    energy = p.trip_energy_kwh.copy()
    available[:, 2, 1] = False
    available[0, 2, 1] = True
    travelling[:, 2, 1] = False
    travelling[11, 2, 1] = True
    energy[:, 2, 1] = 0.0
    energy[11, 2, 1] = 45.0
    # 45 kWh driven, one period of 2 h at 20 kW and 90 %: 36 kWh gained, 9 missing.
    q = p.with_options(available=available, travelling=travelling, trip_energy_kwh=energy)
    with pytest.raises(InfeasibleError) as caught:
        require_reachable(q)
    assert "car 3, sample 2, periods 1 to 1" in str(caught.value)
    assert caught.value.details["lacking_kwh"] == pytest.approx(9.0)
    require_reachable(p)


def test_arrival_below_the_floor_and_below_zero() -> None:
    p = random_problem(1, charger_kw=100.0)
    travelling, energy = p.travelling, p.trip_energy_kwh.copy()
    first = tuple(np.argwhere(travelling)[0])
    energy[first] = 50.0  # arrives with 10 kWh, below 12, charged above it at once
    require_reachable(p.with_options(trip_energy_kwh=energy))
    energy = np.where(travelling, 61.0, 0.0)
    with pytest.raises(InfeasibleError, match="missing"):
        require_reachable(p.with_options(trip_energy_kwh=energy))


def test_midnight_charge_out_of_reach() -> None:
    p = random_problem(1, charger_kw=3.0)
    require_reachable(p)
    with pytest.raises(InfeasibleError):
        require_reachable(p.with_options(midnight_soc_kwh=np.full((4, 2), 12.0)))


def test_an_instance_survives_the_round_trip(tmp_path: Path) -> None:
    for cap in ("system", "trading"):
        p = random_problem(3, cap=cap)
        path = tmp_path / f"{cap}-bus09.npz"
        save_problem(path, p)
        q = load_problem(path)
        assert q.bus == 9
        assert q.name == f"{cap}-bus09"
        for f in fields(AggregatorProblem):
            a, b = getattr(p, f.name), getattr(q, f.name)
            if isinstance(a, np.ndarray):
                np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(p.price.edge_mw, q.price.edge_mw)
        assert p.battery == q.battery
        assert p.charger == q.charger
        assert p.system_cap_mw == q.system_cap_mw


def test_vehicles_of_different_kinds_survive_the_round_trip(tmp_path: Path) -> None:
    p = random_problem(3, vehicles=3)
    q = p.with_options(
        battery=Battery(np.array([40.0, 60.0, 80.0]), 4.0, np.array([40.0, 57.0, 76.0]), 30.0),
        charger=Charger(np.array([7.4, 11.0, 22.0]), np.array([0.9, 0.92, 0.95]), 0.9),
        feeds_in=np.array([True, False, True]),
        price=PriceSeries(np.linspace(-0.02, 0.05, 12), np.full((12, 2), 0.06), np.full(12, -0.03)),
    )
    save_problem(tmp_path / "p.npz", q)
    again = load_problem(tmp_path / "p.npz")
    assert (again.battery, again.charger) == (q.battery, q.charger)
    np.testing.assert_array_equal(again.feeds_in, q.feeds_in)
    np.testing.assert_array_equal(again.price.buy_usd_per_kwh, q.price.buy_usd_per_kwh)
    np.testing.assert_array_equal(q.discharge_step_kwh, q.period_h * np.array([7.4, 0.0, 22.0]))


def test_figures_that_do_not_fit_are_named() -> None:
    p = random_problem(3, vehicles=3)
    with pytest.raises(InputError, match=r"charger_kw: got shape \(2,\)"):
        p.with_options(charger=Charger(np.array([7.0, 8.0]), 0.9, 0.9))
    with pytest.raises(InputError, match="11 periods"):
        p.with_options(price=PriceSeries(np.zeros(11)))
    with pytest.raises(InputError, match=r"feeds_in\[2\]: got 3"):
        p.with_options(feeds_in=np.array([1, 3, 0]))
    with pytest.raises(InputError, match="sell_usd_per_kwh, period 2"):
        PriceSeries(np.zeros(3), np.zeros(3), np.array([0.0, 0.1, 0.0]))
    with pytest.raises(InputError, match="soc_min_kwh <= soc_max_kwh"):
        Battery(80.0, np.array([10.0, 90.0]), 76.0, 60.0)


def test_files_that_are_no_instance(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing"):
        load_problem(tmp_path / "none.npz")
    text = tmp_path / "text.npz"
    text.write_text("no archive")
    with pytest.raises(InputError, match="plain arrays"):
        load_problem(text)
    other = tmp_path / "other.npz"
    np.savez(other, a=np.ones(3))
    with pytest.raises(InputError, match="array available: got missing"):
        load_problem(other)
    good = tmp_path / "good.npz"
    save_problem(good, random_problem(0))
    content = dict(np.load(good))
    content["soc_min_kwh"] = np.float64(90.0)
    content["charger_kw"] = np.ones(2)
    content["price_usd_per_kwh"] = content["price_usd_per_kwh"][::-1]
    np.savez(other, **content)
    with pytest.raises(InputError) as caught:
        load_problem(other)
    for part in ("soc_min_kwh", "charger_kw: got shape (2,)", "does not decrease"):
        assert part in str(caught.value)


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference instances are not there")
def test_visits_of_a_reference_instance() -> None:
    sys.path.insert(0, str(TOOLS))
    try:
        import check_plan
    finally:
        sys.path.pop(0)
    path = REFERENCE / "sc1-max-bus06.npz"  # has cars that are always plugged in
    p = load_problem(path)
    arrival, start = check_plan.arrival_soc(dict(np.load(path)))
    v = p.visits
    begins = ~v.always_plugged
    assert begins.sum() == start.sum()
    found = arrival[v.start[begins], v.vehicle[begins], v.sample[begins]]
    np.testing.assert_allclose(v.arrival_soc_kwh[begins], found, atol=1e-9)
    assert int(v.length.sum()) == int(p.available.sum())
    require_reachable(p)


def test_midnight_soc_is_an_option(tmp_path: Path) -> None:
    p = random_problem(0).with_options(midnight_soc_kwh=np.full((4, 2), 60.0))
    path = tmp_path / "a.npz"
    save_problem(path, p)
    assert load_problem(path).midnight_soc_kwh is None
    kept = load_problem(path, midnight_soc=True).midnight_soc_kwh
    assert kept is not None
    assert (kept == 60.0).all()
