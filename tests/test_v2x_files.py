"""A reader's own station: TOML of chargers, CSV of sessions and prices."""

import pytest
from mutations import refused_or_done
from typer.testing import CliRunner

from evcm.building.inputs import Horizon
from evcm.cli import app
from evcm.errors import InputError
from evcm.v2x import trace
from evcm.v2x.certificate import certify
from evcm.v2x.files import read_case, read_prices, read_sessions, read_station
from evcm.v2x.rules import first_come
from evcm.v2x.solve import optimum
from evcm.v2x.station import run

STATION = """
[station]
name = "depot"
tariff_usd_per_kwh = 0.0

[transformer]
import_limit_kw = 20.0

[lot]
place = "home"

[[charger]]
type = "AC wall box, one phase"
count = 2
charge_efficiency = 1.0
"""
SESSIONS = """arrival,departure,energy_kwh,capacity_kwh,arrival_kwh
18:00,22:00,10,60,20
17:30,23:45,5.5,60,20
"""
PRICES = "hour;buy_usd_per_kwh;building_kw\n" + "".join(
    f"{h:02d}:00;{'0,1' if h == 20 else '0,3'};0\n" for h in range(24)
)


@pytest.fixture
def own(tmp_path):
    """Files of two wall boxes, two cars and a cheap hour at 20:00; the case they make."""
    (tmp_path / "station.toml").write_text(STATION)
    (tmp_path / "sessions.csv").write_text(SESSIONS)
    (tmp_path / "prices.csv").write_text(PRICES)
    return tmp_path


def case_of(folder):
    return read_case(folder / "station.toml", folder / "sessions.csv", folder / "prices.csv")


def test_a_case_from_files_is_read_right(own):
    case = case_of(own)
    assert case.world.name == "depot"
    assert case.world.ports == 2
    assert case.world.transformers[0].import_limit_kw == 20.0
    # The car that comes first takes the first port.
    assert case.sessions.port.tolist() == [0, 1]
    assert case.sessions.column("arrival_step").tolist() == [70, 72]
    assert case.sessions.column("departure_step").tolist() == [95, 88]
    assert case.sessions.column("target_kwh").tolist() == [25.5, 30.0]
    price = case.series.buy_usd_per_kwh
    assert price[79:85] == pytest.approx([0.3, 0.1, 0.1, 0.1, 0.1, 0.3])
    assert case.series.sell_usd_per_kwh == pytest.approx(0.8 * price)
    assert not case.series.base_kw.any()
    best = optimum(case)
    certify(best.run).require()
    # 7.36 kW: one cheap hour for each car, the rest of the first car's 10 kWh in a dear one.
    cost = 0.1 * (7.36 + 5.5) + 0.3 * (10 - 7.36)
    assert best.run.total["energy_cost_usd"] == pytest.approx(cost)
    assert best.run.total["unserved_kwh"] == pytest.approx(0, abs=1e-9)


def test_the_command_takes_files(own):
    runner = CliRunner()
    files = [f"--{n}={own / n}.{'toml' if n == 'station' else 'csv'}"
             for n in ("station", "sessions", "prices")]  # fmt: skip
    out = own / "day.json"
    result = runner.invoke(app, ["v2x", "run", str(out), "--rule", "optimum", *files])
    assert result.exit_code == 0, result.output
    assert "station    depot, 2 ports" in result.output
    assert trace.load(out).case.world.name == "depot"
    result = runner.invoke(app, ["v2x", "compare", *files[1:], "--chargers", "2"])
    assert result.exit_code == 0, result.output
    for wrong in (["--chargers", "3"], ["--place", "home"], ["--seed", "1"]):
        result = runner.invoke(app, ["v2x", "compare", *files, *wrong])
        assert isinstance(result.exception, InputError)
        assert "not together with" in str(result.exception)


def test_a_night_needs_a_run_that_lasts_it(own):
    (own / "sessions.csv").write_text("arrival,departure,energy_kwh\n22:00,6:00,10\n")
    with pytest.raises(InputError, match=r"row 1, stay: got 22:00 to 6:00"):
        case_of(own)
    world = read_station(own / "station.toml")
    cars = read_sessions(own / "sessions.csv", world, Horizon(18.0, 18, 1.0))
    assert cars.column("arrival_step").tolist() == [4]
    assert cars.column("departure_step").tolist() == [12]
    series = read_prices(own / "prices.csv", world, Horizon(18.0, 24, 1.0), day=6)
    assert series.start_hour == 162.0
    assert series.buy_usd_per_kwh[2] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("station.toml", "[[charger]]", "[charger]", r"section charger: got .*\[\[charger\]\]"),
        ("station.toml", "AC wall box, one phase", "plug", "type: got plug; allowed: AC wall box"),
        ("station.toml", "count = 2", "count = 0", r"count: got 0; allowed: 1..10000"),
        ("station.toml", "count = 2", "number = 2", "number: got 2; allowed: an entry of"),
        ("station.toml", "20.0", "-20.0", "import_limit_kw: got -20.0"),
        ("station.toml", '"home"', '"moon"', "place: got moon"),
        ("sessions.csv", "10,60,20", "50,60,20", "row 1, energy_kwh: got 50.0; allowed: <= 40"),
        ("sessions.csv", "18:00", "noon", "row 1, arrival: got noon"),
        ("sessions.csv", "18:00", "22:00", "row 1, stay"),
        ("sessions.csv", "arrival_kwh", "soc", "column soc: got not used"),
        ("prices.csv", "07:00;0,3;0\n", "", "hour 07:00: got missing"),
        ("prices.csv", "0,1", "cheap", "row 21, buy_usd_per_kwh: got cheap"),
    ],
)
def test_what_does_not_fit_is_refused(own, file, old, new, message):
    text = (own / file).read_text()
    assert old in text
    (own / file).write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        case_of(own)


def test_more_cars_than_ports_are_refused(own):
    (own / "sessions.csv").write_text(SESSIONS + "18:00,19:00,1,60,20\n")
    with pytest.raises(InputError, match="row 3, port: got all 2 ports are taken"):
        case_of(own)


def fuzz(folder, seeds):
    def use():
        case = case_of(folder)
        if case.world.ports < 200:
            certify(run(case, first_come)).require()

    return refused_or_done(folder.iterdir(), use, seeds)


def test_anything_is_refused_or_certified(own):
    assert fuzz(own, range(80)) > 0


@pytest.mark.slow
def test_anything_at_all_is_refused_or_certified(own):
    assert fuzz(own, range(80, 2000)) > 20


def trace_fuzz(folder, seeds):
    path = trace.save(run(case_of(folder), first_come), folder / "run.json")

    def use():
        certify(trace.load(path).replay(1.0)).require()

    return refused_or_done([path], use, seeds)


def test_any_trace_is_refused_or_certified(own):
    assert trace_fuzz(own, range(60)) >= 0


@pytest.mark.slow
def test_any_trace_at_all_is_refused_or_certified(own):
    assert trace_fuzz(own, range(60, 1500)) > 0
