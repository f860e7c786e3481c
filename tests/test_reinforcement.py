from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from mutations import refused_or_done
from typer.testing import CliRunner

from evcm import cli, reinforcement
from evcm.errors import InputError
from evcm.inputs import paper
from evcm.network import opf, tables
from evcm.store.files import write_csv


def deficit(power_mw: float, period: int = 23) -> np.ndarray:
    profile = np.zeros(48)
    profile[period - 1] = power_mw
    return profile


# The published deficits are rounded to 0.0005 MW, hence the relative tolerance of 1e-4.
@pytest.mark.parametrize(
    ("power_mw", "pv_mw", "battery_mwh", "cost_usd"),
    [(4.2905, 0.7571, 1.7866, 1_471_770.90), (5.474, 0.9659, 2.2793, 1_877_658.44)],
)
def test_published_sizes(power_mw, pv_mw, battery_mwh, cost_usd):
    sized = reinforcement.size_bus(deficit(power_mw), 14)
    assert sized.pv_mw == pytest.approx(pv_mw, rel=1.1e-4)
    assert sized.battery_mwh == pytest.approx(battery_mwh, rel=1.1e-4)
    assert sized.cost_usd == pytest.approx(cost_usd, rel=1.1e-4)


def test_the_day_is_covered_and_lossless():
    need = np.zeros(48)
    need[[18, 35, 40]] = 3.0, 1.0, 2.0
    sized = reinforcement.size_bus(need, 14)
    surplus = 0.5 * sized.pv_mw * reinforcement.pv_shape() - 0.5 * need - sized.charge_mwh
    assert surplus.min() > -1e-7
    assert sized.charge_mwh.sum() == pytest.approx(0, abs=1e-7)
    assert np.abs(sized.charge_mwh).max() <= sized.battery_mwh + 1e-7
    assert sized.stored_mwh.min() > -1e-7
    assert sized.stored_mwh.max() <= sized.battery_mwh + 1e-7
    assert sized.stored_mwh[0] == pytest.approx(0, abs=1e-7)
    np.testing.assert_allclose(np.diff(sized.stored_mwh), sized.charge_mwh[:-1], rtol=0, atol=1e-7)


def test_cost_is_homogeneous():
    one, two = (reinforcement.size_bus(deficit(p)).cost_usd for p in (1.0, 2.0))
    assert two == pytest.approx(2 * one)


def test_with_a_priceless_battery_pv_meets_the_deficit_at_once():
    costs = reinforcement.ReinforcementCosts(1e6, 1e12)
    sized = reinforcement.size_bus(deficit(1.0, 24), costs=costs)
    assert sized.pv_mw == pytest.approx(1 / reinforcement.pv_shape()[23])
    assert sized.battery_mwh == pytest.approx(0, abs=1e-6)


def test_at_night_the_battery_holds_the_whole_deficit():
    sized = reinforcement.size_bus(deficit(1.0, 44))
    assert sized.battery_mwh == pytest.approx(0.5)
    assert sized.pv_mw == pytest.approx(1 / reinforcement.pv_shape().sum())


@pytest.mark.parametrize("period", [1, 7, 13])
def test_a_shortage_before_sunrise_is_met_from_the_day_before(period):
    sized = reinforcement.size_bus(deficit(1.0, period))
    # All sun of the day fills the battery, which holds the half-hour's 0.5 MWh over midnight.
    assert sized.battery_mwh == pytest.approx(0.5)
    assert sized.pv_mw == pytest.approx(1 / reinforcement.pv_shape().sum())
    assert sized.stored_mwh[0] == pytest.approx(0.5)
    assert sized.stored_mwh[13] == pytest.approx(0, abs=1e-9)
    assert sized.charge_mwh.sum() == pytest.approx(0, abs=1e-9)


def test_a_shortage_costs_most_just_after_sunrise():
    usd = [reinforcement.size_bus(deficit(1.0, period)).cost_usd for period in range(1, 49)]
    assert int(np.argmax(usd)) + 1 == 14
    assert usd[13] == pytest.approx(1e6 / reinforcement.pv_shape()[13])
    assert 28 <= int(np.argmin(usd)) + 1 <= 34


def test_dearer_battery_never_makes_it_cheaper_nor_larger():
    cheap = reinforcement.size_bus(deficit(1.0, 44))
    dear = reinforcement.size_bus(
        deficit(1.0, 44), costs=reinforcement.ReinforcementCosts(1e6, 8e5)
    )
    assert dear.cost_usd >= cheap.cost_usd
    assert dear.battery_mwh <= cheap.battery_mwh + 1e-7


def test_plants_at_the_deficit_buses_end_the_shortage():
    ev = np.zeros((48, 11))
    ev[36:40, 10] = 30.0  # bus 14, in the evening
    before = opf.solve_day(paper().day.with_cars(ev))
    short = reinforcement.deficits_mw(before)
    assert sum(s.sum() for s in short.values()) * 0.5 == pytest.approx(before.nse_mwh, abs=1e-3)
    load = before.load_p_mw.copy()
    for plant in reinforcement.size_buses(short):
        supply = reinforcement.supply_mw(plant)
        assert (supply >= short[plant.bus] - 1e-6).all()
        column = list(before.network.bus_number).index(plant.bus)
        load[:, column] -= np.minimum(supply, short[plant.bus])
    assert before.nse_mwh > 1
    assert opf.solve_day(replace(before.day, load_p_mw=load)).nse_mwh < 1e-3


def test_a_day_without_shortage_needs_no_plant():
    assert reinforcement.deficits_mw(opf.solve_day(paper().day)) == {}


def test_bad_deficit_is_refused():
    bad = deficit(1.0)
    bad[4] = -2.0
    with pytest.raises(InputError, match=r"bus 14: nsp_mw, period 5: got -2.0; allowed: >= 0"):
        reinforcement.size_bus(bad, 14)
    with pytest.raises(InputError, match=r"nsp_mw: got \(3,\)"):
        reinforcement.size_bus(np.zeros(3))
    with pytest.raises(InputError, match="pv_usd_per_mw"):
        reinforcement.ReinforcementCosts(-1.0, 1.0)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, ["reinforce", *arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        return 2, str(result.exception)
    return result.exit_code, result.output


def test_command_line(tmp_path):
    source, target = tmp_path / "nsp.csv", tmp_path / "out.csv"
    table = pd.DataFrame({"period": range(1, 49), "bus13_mw": 0.0, "bus14_mw": deficit(4.2905)})
    table.to_csv(source, index=False)
    code, output = run("--nsp", str(source), "--out", str(target))
    assert code == 0, output
    written = pd.read_csv(target)
    assert written.columns.tolist() == ["bus", "pv_mw", "battery_mwh", "cost_usd"]
    assert written["bus"].tolist() == [14]
    assert written["pv_mw"].iloc[0] == pytest.approx(0.7571, abs=1e-4)


def test_the_command_reads_what_the_opf_command_writes(tmp_path):
    ev = np.zeros((48, 11))
    ev[36:40, 10] = 30.0
    day = opf.solve_day(paper().day.with_cars(ev))
    write_csv(tmp_path / "day.csv", tables.opf_table(day))
    code, output = run("--nsp", str(tmp_path / "day.csv"), "--out", str(tmp_path / "out.csv"))
    assert code == 0, output
    expected = reinforcement.table(reinforcement.size_buses(reinforcement.deficits_mw(day)))
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out.csv"), expected, atol=1e-3)
    code, output = run("--nsp", str(tmp_path / "day.csv"), "--out", str(tmp_path / "day.csv"))
    assert code == 2
    assert "another file" in output
    (tmp_path / "cut.csv").write_text((tmp_path / "day.csv").read_text().rsplit("\n", 3)[0])
    code, output = run("--nsp", str(tmp_path / "cut.csv"), "--out", str(tmp_path / "no.csv"))
    assert code == 2
    assert "each of 1..48 once" in output


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="period"), "column period: got missing"),
        (lambda t: t.rename(columns={"bus14_mw": "node_a"}), "column node_a"),
        (lambda t: t.iloc[:-1], "each of 1..48 once"),
        (lambda t: t.assign(bus14_mw="x"), "a finite number"),
        (lambda t: t.assign(bus14_mw=-1.0), ">= 0"),
    ],
)
def test_command_line_refuses_bad_files(tmp_path, change, message):
    source, target = tmp_path / "nsp.csv", tmp_path / "out.csv"
    table = pd.DataFrame({"period": range(1, 49), "bus14_mw": deficit(1.0)})
    change(table).to_csv(source, index=False)
    code, output = run("--nsp", str(source), "--out", str(target))
    assert code == 2
    assert message in output
    assert not target.exists()


def fuzz(path, seeds):
    table = pd.DataFrame({"period": range(1, 49), "bus13_mw": 0.0, "bus14_mw": deficit(4.2905)})
    if path.stem == "day":
        rest = dict.fromkeys(("load_mw", "generation_mw", "nsp_mw", "losses_mw", "v_min_pu"), 1.0)
        table = table.rename(columns=lambda n: f"nsp_{n}" if n.startswith("bus") else n)
        table = table.assign(**rest, status="solved")
    table.to_csv(path, index=False)

    def use():
        for built in reinforcement.size_buses(reinforcement.read_deficits(path)):
            assert np.isfinite(built.cost_usd)

    return refused_or_done([path], use, seeds)


@pytest.mark.parametrize("name", ["day.csv", "nsp.csv"])
def test_any_table_is_refused_or_sized(tmp_path, name):
    assert fuzz(tmp_path / name, range(40)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["day.csv", "nsp.csv"])
def test_any_table_at_all_is_refused_or_sized(tmp_path, name):
    assert fuzz(tmp_path / name, range(40, 1000)) > 20
