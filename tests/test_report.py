"""Results of a study of a small network: dictionary of columns, CSV, the map and the page."""

import re

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from evcm import cli
from evcm.errors import InputError
from evcm.inputs.example import write_example
from evcm.plots import network as plots_network
from evcm.plots import report
from evcm.store import columns
from evcm.store.results import StaleError, Store
from evcm.study import comparison, hosting
from evcm.study.flow import Settings, run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study of case9 with 60 cars: three aggregators, every regime, a few fleets hosted."""
    work = tmp_path_factory.mktemp("case9")
    told = write_example(work / "inputs", "case9", 60)
    settings = Settings(gap=0.1, sides=("max",), cars_per_group=20, jobs=1)
    run(told, settings, work / "results")
    comparison.run(told, settings, work / "results")
    grid = hosting.Grid(
        counts=(400,), regimes=("apart",), seeds=(1,), threshold_start=400,
        capped_seeds=(1,), sweep_counts=(), groups=20, samples=2, gap=0.2, days=2, curve_days=2,
        outage_days=1, block=200, most=800, uncontrolled_charger_kw=(150.0,), feeder_draws=1,
    )  # fmt: skip
    hosting.run(told, grid, work / "results", jobs=1)
    return work / "results"


def test_every_column_of_every_table_has_unit_and_meaning(folder):
    names = columns.stored_tables(folder)
    assert {"flows", "coordination/regimes", "hosting/points"} < set(names)
    for name in names:
        table = Store(folder).load_table(f"{name}.parquet")
        told = columns.described(name, table.columns)
        assert told["column"].tolist() == list(table.columns)
        assert (told["unit"].str.len() > 0).all()
        assert (told["meaning"].str.len() > 5).all()
    for column in ("losses_mw", "cap_mwh", "charger_kw", "v_min_pu", "cost_usd"):
        unit = columns.dictionary().set_index("column").loc[[column], "unit"].iloc[0]
        assert column.endswith(unit.lower())


def test_the_dictionary_knows_what_the_other_commands_store():
    columns.described("hinges/hinges", ["what", "setting", "note", "bill_usd", "first_cars"])
    columns.described("seeds/regimes", ["seed", "paid_usd", "days_short", "joint_bound_usd"])
    with pytest.raises(InputError, match="column: got nonsense"):
        columns.described("flows", ["period", "nonsense"])


def test_tables_as_csv_are_the_tables(folder, tmp_path):
    done = CliRunner().invoke(cli.app, ["results", "csv", str(folder), "--out", f"{tmp_path}/t"])
    assert done.exit_code == 0, done.output
    system = pd.read_csv(tmp_path / "t/system.csv")
    told = Store(folder).load_table("system.parquet")
    assert np.allclose(system["load_mw"], told["load_mw"], atol=1e-6)
    means = pd.read_csv(tmp_path / "t/columns.csv")
    assert set(means["table"]) == set(columns.stored_tables(folder))
    with pytest.raises(InputError, match="a new folder"):
        columns.write_csv(folder, tmp_path / "t")
    with pytest.raises(InputError, match="a folder with tables"):
        columns.write_csv(tmp_path / "nowhere", tmp_path / "u")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t"]


def test_flows_balance_at_a_bus_without_load_or_generator(folder):
    table = Store(folder).load_table
    flows, state = table("flows.parquet"), table("transmission.parquet")
    base = flows[(flows["regime"] == "no cars") & (flows["period"] == 30)]
    load = state[(state["regime"] == "no cars") & (state["period"] == 30)].set_index("bus")
    silent = [b for b in load.index if load.loc[b, "load_mw"] == 0 and b > 3]
    assert silent == [4, 6, 8]
    ends = pd.concat([base["from_bus"], base["to_bus"]])
    for bus in silent:  # branches are lossy: what enters leaves up to the losses
        into = base[base["to_bus"] == bus]["flow_mw"].sum()
        out = base[base["from_bus"] == bus]["flow_mw"].sum()
        assert (ends == bus).sum() >= 2
        assert into == pytest.approx(out, abs=5.0)
    assert (base["flow_mva"] >= base["flow_mw"].abs() - 1e-9).all()
    assert base["loading"].between(0, 1 + 1e-6).all()


def test_the_map_shows_every_bus_and_branch(folder):
    table = Store(folder).load_table
    mine = [t[t["regime"] == "uncontrolled"] for t in map(table, ("transmission.parquet",
                                                                 "flows.parquet"))]  # fmt: skip
    figure = plots_network.network_map(*mine, period=45)
    buses, middles = figure.data[-1], figure.data[-2]
    assert list(buses.text) == [str(b) for b in range(1, 10)]
    assert len(middles.x) == 9
    drawn = sum(t.x.count(None) for t in figure.data if t.mode == "lines")
    assert drawn == 9
    assert "22:00" in figure.layout.title.text
    places = plots_network.layout([(1, 2), (2, 3)])
    near, far = np.subtract(places[1], places[2]), np.subtract(places[1], places[3])
    assert np.hypot(*near) < np.hypot(*far)


def test_the_page_answers_first_and_loads_nothing(folder, tmp_path):
    text = report.page(folder)
    told = list(report.answer(report.Results(folder)))
    body = text[text.index("</script></head>") :]
    assert body.index("Answer") < body.index("Figures") < body.index("Provenance")
    plans = Store(folder).load_table("aggregators.parquet").query("regime == 'apart'")
    assert any(f"{plans['cost_usd'].sum():,.2f} USD" in line for line in told)
    assert any("60 cars leave home" in line for line in told)
    assert any(line.startswith("Hosting, uncontrolled") for line in told)
    assert body.count("<figure") == 9
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", body)
    assert "default-src 'none'" in text
    assert Store(folder).record("manifest")["data"] in body


def test_the_command_writes_its_own_page_again_and_nobody_elses(folder, tmp_path):
    call = CliRunner().invoke
    out = tmp_path / "page.html"
    for _ in range(2):
        assert call(cli.app, ["report", str(folder), "--out", str(out)]).exit_code == 0
    out.write_text("mine")
    failed = call(cli.app, ["report", str(folder), "--out", str(out)])
    assert isinstance(failed.exception, InputError)
    assert out.read_text() == "mine"
    (tmp_path / "empty").mkdir()
    missing = call(cli.app, ["report", str(tmp_path / "empty")])
    assert isinstance(missing.exception, StaleError)
    assert not list((tmp_path / "empty").iterdir())


def test_tables_of_other_inputs_are_left_out(folder, tmp_path):
    import json
    import shutil

    mixed = tmp_path / "mixed"
    shutil.copytree(folder, mixed, ignore=shutil.ignore_patterns("steps"))
    record = mixed / "coordination/regimes.parquet.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"data": "another"}))
    found = report.Results(mixed)
    assert found.others == ["coordination/regimes"]
    assert not found.has("coordination")
    assert found.has("hosting")
    assert "left out, of other inputs" in report.page(mixed)
