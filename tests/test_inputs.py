"""Inputs, data files, errors and file handling: what is read, what is refused, what is written."""

from __future__ import annotations

import os
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pandas as pd
import pytest

from evcm import data, inputs
from evcm.errors import Checks, Fault, InfeasibleError, InputError, SolverError
from evcm.inputs import Battery, Charger, PriceSteps, Scenario, SpeedBand
from evcm.store import files


def test_scenarios_are_the_papers():
    assert [(s.number, s.cars, s.samples, s.market_share) for s in inputs.scenarios()] == [
        (1, 2000, 200, 0.08), (2, 2500, 120, 0.10), (3, 3750, 80, 0.15),
    ]  # fmt: skip
    assert all(s.real_time_samples == 10 for s in inputs.scenarios())
    assert inputs.scenario(2) is inputs.scenarios()[1]


def test_trip_law_presets():
    published, printed = inputs.trip_law(), inputs.trip_law("printed")
    assert published.name == "published"
    assert published.arrival_mean_h == pytest.approx(19.9)  # 19:54
    assert printed.arrival_mean_h == pytest.approx(22 + 4 / 60)  # 22:04
    assert printed.arrival_sd_h == pytest.approx(4.3)  # 4 h 18 min
    assert published.departure_mean_h == pytest.approx(8 + 2 / 60, abs=0.005)
    assert printed.departure_sd_h == pytest.approx(71 / 60)
    assert published.speed_bands == printed.speed_bands


def test_printed_arrival_is_the_share_before_midnight_read_as_a_time():
    # A spreadsheet shows the number 0.9197 as 22:04 when its cell is formatted as a time.
    minutes = round(0.9197 * 24 * 60)
    assert divmod(minutes, 60) == (22, 4)
    table = data.read_table("trips/histograms.csv")
    arrival = table[table["event"] == "arrival"]
    before = arrival.loc[arrival["half_hour"] < 48, "cars_per_10000"].sum() / 10_000
    assert before == pytest.approx(0.9197, abs=1e-9)


def test_vehicle_and_market():
    assert inputs.battery() == Battery(80.0, 12.0, 76.0, 60.0)
    assert inputs.charger() == Charger(150.0, 0.9, 0.9)
    law = inputs.wear_law()
    assert law.slope(np.array([100.0, 120.0, 140.0])) == pytest.approx([0.0006, 0.00115, 0.0017])
    price = inputs.price_steps()
    assert len(price) == 19
    assert price.edge_mw[-1] == inputs.system_cap_mw() == 259.0
    assert price.price_usd_per_kwh[0] == pytest.approx(0.0125842 / 4.08)


def test_load_profile_is_the_reference_day():
    factor = inputs.load_profile().load_factor
    assert factor.sum() * 0.5 * 259 == pytest.approx(5486.083, abs=0.005)
    assert int(np.argmax(factor)) + 1 == 30
    assert factor.max() * 259 == pytest.approx(250.114, abs=0.001)
    above = np.flatnonzero(inputs.load_profile().aggregator_forecast_mw > 259) + 1
    assert above.tolist() == [23, 24]


def test_price_at_an_edge_admits_both_neighbours():
    price = PriceSteps(np.array([10.0, 20.0]), np.array([1.0, 2.0]))
    low, high = price.admissible(np.array([5.0, 10.0, 15.0, 20.0, 30.0]))
    assert low.tolist() == [1, 1, 2, 2, 2]
    assert high.tolist() == [1, 2, 2, 2, 2]
    paid = price.payment(np.array([10.0, 10.0]), np.array([3.0, -3.0]))
    assert paid.tolist() == [3000.0, -6000.0]


def test_inputs_are_frozen_and_their_arrays_read_only():
    with pytest.raises(FrozenInstanceError):
        inputs.battery().capacity_kwh = 1.0
    with pytest.raises(ValueError, match="read-only"):
        inputs.price_steps().edge_mw[0] = 1.0
    source = np.array([1.0, 2.0])
    price = PriceSteps(source, source)
    source[0] = 99.0
    assert price.edge_mw[0] == 1.0


LAW = inputs.trip_law()


@pytest.mark.parametrize(
    ("make", "field", "allowed"),
    [
        (lambda: Scenario(1, 0, 5), "cars", ">= 1"),
        (lambda: Scenario(1, 5, 0), "samples", ">= 1"),
        (lambda: Scenario(1, 5, 5, market_share=1.5), "market_share", "0..1"),
        (lambda: inputs.scenario(4), "number", "1, 2, 3"),
        (lambda: inputs.trip_law("guess"), "law", "published, printed"),
        (lambda: replace(LAW, departure_sd_h=-1.0), "departure_sd_h", ">= 0"),
        (lambda: replace(LAW, departure_latest_h=24), "departure_latest_h", "< 24"),
        (lambda: replace(LAW, arrival_range_h=(25, 20)), "arrival_range_h", "low <="),
        (lambda: replace(LAW, minimum_separation_h=0), "minimum_separation_h", "0 < hours"),
        (lambda: replace(LAW, driving_share=1.5), "driving_share", "0..1"),
        (lambda: replace(LAW, speed_range_kmh=(0.0, 10.0)), "speed_range_kmh", "0 < low"),
        (lambda: replace(LAW, consumption_kwh_per_km=(0.3, 0.2)), "consumption_kwh_per_km", "high"),
        (lambda: replace(LAW, distance_share=0.0), "distance_share", "> 0"),
        (
            lambda: replace(LAW, speed_bands=(SpeedBand("all", 50.0, 1.0, ((0, 23),)),)),
            "speed_bands", "exactly one band",
        ),
        (lambda: Battery(0.0, 0.0, 0.0, 0.0), "capacity_kwh", "> 0"),
        (lambda: Battery(80.0, 20.0, 10.0, 15.0), "soc_min_kwh, soc_max_kwh", "soc_min_kwh <="),
        (lambda: Battery(80.0, 12.0, 76.0, 77.0), "departure_soc_kwh", "soc_min_kwh..soc_max_kwh"),
        (lambda: Charger(0.0, 0.9, 0.9), "power_kw", "> 0"),
        (lambda: Charger(10.0, 1.1, 0.9), "charge_efficiency", "0 < value <= 1"),
        (lambda: PriceSteps(np.ones(2), np.ones(3)), "price_edge_mw", "equally long"),
        (lambda: PriceSteps(np.array([2.0, 1.0]), np.ones(2)), "price_edge_mw[1]", "increasing"),
        (
            lambda: PriceSteps(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])),
            "price_usd_per_kwh[2]: got 2 after 3", "does not decrease",
        ),
        (lambda: PriceSteps(np.array([1.0, np.nan]), np.ones(2)), "price_edge_mw", "finite"),
    ],
)  # fmt: skip
def test_bad_inputs_name_field_value_and_what_is_allowed(make, field, allowed):
    with pytest.raises(InputError) as caught:
        make()
    assert field in str(caught.value)
    assert allowed in str(caught.value)


def test_all_faults_come_together():
    with pytest.raises(InputError) as caught:
        Scenario(1, 0, -2, market_share=2.0)
    assert [f.field for f in caught.value.faults] == ["cars", "samples", "market_share"]
    assert isinstance(caught.value, ValueError)


def test_checks_and_faults():
    checks = Checks("thing")
    assert checks.require(True, "a", 1, "anything")
    checks.done()
    assert not checks.require(False, "b", "x" * 200, "short")
    with pytest.raises(InputError, match=r"thing: b: got x{77}\.\.\.; allowed: short"):
        checks.done()
    assert str(Fault("f", 3, "4")) == "f: got 3; allowed: 4"
    for kind in (InfeasibleError, SolverError):
        assert kind("message", bus=3).details == {"bus": 3}


def test_every_data_folder_has_a_source():
    folders = [f for f in data.root().iterdir() if f.is_dir() and any(f.iterdir())]
    assert len(folders) >= 5
    for folder in folders:
        assert len(data.source(folder.name)) > 40, folder


def test_missing_data_is_named():
    with pytest.raises(InputError, match=r"trips/nothing\.csv"):
        data.path("trips/nothing.csv")


def test_atomic_leaves_nothing_behind(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def interrupted():
        with files.atomic(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]
    with files.atomic(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"
    with pytest.raises(InputError, match="existing folder"), files.atomic(tmp_path / "no" / "b"):
        pass


def test_tables_and_arrays_survive_the_round_trip(tmp_path):
    table = pd.DataFrame({"x": [1.0, 0.5], "y": [2.0, 3.0]})
    files.write_csv(tmp_path / "t.csv", table)
    assert (tmp_path / "t.csv").read_text() == "x,y\n1.000000,2.000000\n0.500000,3.000000\n"
    pd.testing.assert_frame_equal(files.read_csv(tmp_path / "t.csv", ["x", "y"]), table)
    files.write_parquet(tmp_path / "t.parquet", table)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), table)
    files.write_npz(tmp_path / "a.npz", a=np.arange(3), b=np.array(2.5))
    arrays = files.read_npz(tmp_path / "a.npz", ["a", "b"])
    assert arrays["a"].tolist() == [0, 1, 2]
    assert arrays["b"] == 2.5
    files.write_json(tmp_path / "j.json", {"b": 1, "a": [1, 2]})
    assert (tmp_path / "j.json").read_text().index('"a"') < 10


@pytest.mark.parametrize(
    ("content", "required", "match"),
    [
        (None, ["x"], "missing; allowed: an existing"),
        ("x,y\n1,2\n", ["x", "z"], "column z: got missing; allowed: found: x, y"),
        ("x\n1\nabc\n", ["x"], "column x, row 2: got abc"),
        ("x\n1\ninf\n", ["x"], "a finite number"),
        ("", ["x"], "a CSV table"),
    ],
)
def test_bad_csv_is_named(tmp_path, content, required, match):
    path = tmp_path / "t.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=match):
        files.read_csv(path, required)


def test_bad_npz_is_named(tmp_path):
    with pytest.raises(InputError, match="missing; allowed: an existing"):
        files.read_npz(tmp_path / "no.npz", ["a"])
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(InputError, match="plain arrays"):
        files.read_npz(tmp_path / "text.npz", ["a"])
    np.savez(tmp_path / "pickle.npz", a=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="plain arrays"):
        files.read_npz(tmp_path / "pickle.npz", ["a"])
    np.savez(tmp_path / "lacking.npz", a=np.ones(1))
    with pytest.raises(InputError, match="array b: got missing"):
        files.read_npz(tmp_path / "lacking.npz", ["a", "b"])
