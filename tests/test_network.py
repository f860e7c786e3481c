"""The network: the study's figures, both variants, bus loads (43), and case files."""

import json
from dataclasses import replace

import numpy as np
import pytest

from evcm.errors import InputError
from evcm.inputs import LOAD_BUSES, load_profile
from evcm.network import case as network
from evcm.network import readers


def test_study_network_has_the_papers_totals():
    net = network.ieee14()
    assert net.load_p_mw.sum() == pytest.approx(259.0)
    assert net.load_q_mvar.sum() == pytest.approx(73.5)
    assert net.ev_bus_number == LOAD_BUSES
    assert net.bus_number[net.sheddable].tolist() == [4, 5, 7, 9, 10, 11, 12, 13, 14]
    assert net.limit_mva.tolist() == [175] + [150] * 6 + [100] * 13
    assert net.p_max_mw.tolist() == [232.4, 40, 0, 0, 0]


def test_published_variant_is_series_admittance_alone():
    net = network.ieee14(as_published=True)
    y = net.admittance_pu()
    assert np.allclose(y[:, 0], -y[:, 1])
    assert np.allclose(y[:, 3], -y[:, 2])
    tap = network.ieee14().tap_ratio[7]
    assert y[7, 0] == pytest.approx(1 / (tap * 0.20912j))
    assert not net.shunt_b_mvar.any()


def test_bus_loads_add_what_aggregators_buy():
    ev = np.zeros((48, 11))
    ev[3, LOAD_BUSES.index(14)] = 2.5
    ev[4, LOAD_BUSES.index(2)] = -30.0
    factor = load_profile().load_factor
    day = network.reference_day()
    load = day.with_cars(ev).load_p_mw
    assert load.shape == (48, 14)
    assert load[3, 13] == pytest.approx(14.9 * factor[3] + 2.5)
    assert load[4, 1] == pytest.approx(21.7 * factor[4] - 30.0)
    assert load.sum() - day.load_p_mw.sum() == pytest.approx(ev.sum())


def test_bus_loads_refuse_a_wrong_shape():
    with pytest.raises(InputError, match=r"\(48, 11\)"):
        network.reference_day().with_cars(np.zeros((48, 12)))


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("bus_type", lambda a: np.where(a == 3, 2, a), "exactly one"),
        ("v_min_pu", lambda a: a + 0.2, "low <= high.*bus 14"),
        ("tap_ratio", lambda a: a * 0, "tap_ratio"),
        ("load_p_mw", lambda a: a * np.nan, "finite"),
        ("branch_to", lambda a: np.where(a == 7, 6, a), "not connected to the slack"),
        ("limit_mva", lambda a: a * 0, "limit_mva"),
    ],
)
def test_faults_are_named(field, change, message):
    net = network.ieee14()
    with pytest.raises(InputError, match=message):
        replace(net, **{field: change(getattr(net, field))})


def _m_text(case):
    def table(key):
        rows = [" ".join(f"{v:.10g}" for v in row) + ";" for row in case[key]]
        return f"mpc.{key} = [ % a comment; with a ]\n" + "\n".join(rows) + "\n];\n"

    head = (
        f"function mpc = small\n%% comment\nmpc.version = '2';\nmpc.baseMVA = {case['baseMVA']};\n"
    )
    return head + table("bus") + table("gen") + table("branch")


def _same(a, b):
    for name in ("load_p_mw", "reactance_pu", "limit_mva", "q_min_mvar", "tap_ratio", "ev_bus"):
        assert np.allclose(getattr(a, name), getattr(b, name)), name


def test_case_files_of_all_three_kinds_agree(tmp_path):
    from evcm.network.pypower import built_in_case

    case = built_in_case("case30")
    expected = readers.from_case("case30")
    assert expected.n_bus == 30
    (tmp_path / "small.m").write_text(_m_text(case))
    tables = {k: case[k].tolist() for k in ("bus", "gen", "branch")} | {"baseMVA": 100.0}
    (tmp_path / "small.json").write_text(json.dumps(tables))
    lines = ["from numpy import array", "def small():", "    ppc = {'baseMVA': 100.0}"]
    lines += [f"    ppc['{k}'] = array({tables[k]})" for k in ("bus", "gen", "branch")]
    (tmp_path / "small.py").write_text("\n".join([*lines, "    return ppc", ""]))
    for name in ("small.m", "small.json", "small.py"):
        _same(readers.from_case(tmp_path / name), expected)


def test_reading_a_case_runs_none_of_its_code(tmp_path):
    target = tmp_path / "made"
    (tmp_path / "bad.py").write_text(
        f"open({str(target)!r}, 'w')\nppc = {{'baseMVA': 100.0, 'bus': make(), 'gen': []}}\n"
    )
    with pytest.raises(InputError):
        readers.from_case(tmp_path / "bad.py")
    assert not target.exists()


def test_rows_out_of_service_are_left_out(tmp_path):
    from evcm.network.pypower import built_in_case

    case = built_in_case("case30")
    case["branch"][0, 10] = 0
    case["gen"][1, 7] = 0
    (tmp_path / "c.m").write_text(_m_text(case))
    net = readers.from_case(tmp_path / "c.m")
    assert net.branch_from.size == len(case["branch"]) - 1
    assert net.generator_bus.size == len(case["gen"]) - 1
    assert net.bus_type[net.bus_number == case["gen"][1, 0]] == network.PQ


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.m", "mpc.baseMVA = 100;\n", "table bus.*missing"),
        ("a.m", "mpc.baseMVA = 100;\nmpc.bus = [1 2 x];\n", "table bus, row 1.*a number"),
        ("a.m", "mpc.baseMVA = 100;\nmpc.bus(:, 3) = mpc.bus(:, 3) / 1e3;\n", "savecase"),
        ("a.m", "nothing", "baseMVA.*missing"),
        ("a.json", "[1, 2]", "JSON object"),
        ("a.json", "{", "JSON"),
        ("a.py", "def", "Python"),
        ("a.txt", "", "MATPOWER"),
    ],
)
def test_bad_case_files(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        readers.from_case(tmp_path / name)


def test_unknown_cases(tmp_path):
    with pytest.raises(InputError, match="missing"):
        readers.from_case(tmp_path / "none.m")
    with pytest.raises(InputError, match="case118"):
        readers.from_case("case31")
