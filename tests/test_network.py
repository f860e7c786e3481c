"""The network: the study's figures, both variants, bus loads (43), and case files."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evcm.errors import InputError
from evcm.inputs import paper
from evcm.network import case as network
from evcm.network import opf, readers
from evcm.network.case import published_variant
from evcm.network.certificate import certify_day

CASES = Path(__file__).resolve().parent / "cases"


def test_study_network_has_the_papers_totals():
    net = paper().network
    assert net.load_p_mw.sum() == pytest.approx(259.0)
    assert net.load_q_mvar.sum() == pytest.approx(73.5)
    assert net.ev_bus_number == paper().buses
    assert net.bus_number[net.sheddable].tolist() == [4, 5, 7, 9, 10, 11, 12, 13, 14]
    assert net.limit_mva.tolist() == [175] + [150] * 6 + [100] * 13
    assert net.p_max_mw.tolist() == [232.4, 40, 0, 0, 0]


def test_published_variant_is_series_admittance_alone():
    net = published_variant(paper().network)
    y = net.admittance_pu()
    assert np.allclose(y[:, 0], -y[:, 1])
    assert np.allclose(y[:, 3], -y[:, 2])
    tap = paper().network.tap_ratio[7]
    assert y[7, 0] == pytest.approx(1 / (tap * 0.20912j))
    assert not net.shunt_b_mvar.any()


def test_bus_loads_add_what_aggregators_buy():
    ev = np.zeros((48, 11))
    ev[3, paper().buses.index(14)] = 2.5
    ev[4, paper().buses.index(2)] = -30.0
    factor = paper().load_factor
    day = paper().day
    load = day.with_cars(ev).load_p_mw
    assert load.shape == (48, 14)
    assert load[3, 13] == pytest.approx(14.9 * factor[3] + 2.5)
    assert load[4, 1] == pytest.approx(21.7 * factor[4] - 30.0)
    assert load.sum() - day.load_p_mw.sum() == pytest.approx(ev.sum())


def test_bus_loads_refuse_a_wrong_shape():
    with pytest.raises(InputError, match=r"\(48, 11\)"):
        paper().day.with_cars(np.zeros((48, 12)))


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
    net = paper().network
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
        ("a.m", "mpc.baseMVA = 100;\nmpc.bus = [1 2 x];\n", "line 2.*x is no value.*savecase"),
        ("a.m", "mpc.baseMVA = 1;\nmpc.bus(:, 3) = mpc.bus(:, 3) / 1e3;\n", "line 2.*no value yet"),
        ("a.m", "mpc.bus = load('x.mat');\n", "line 1.*load is no value or function"),
        ("a.m", "mpc.bus = [1 2\n3 4", "without its end"),
        ("a.m", "mpc = scale_load(2, mpc);\n", "line 1.*scale_load"),
        ("a.m", "if 1\nmpc.baseMVA = 1;\nend\n", "line 1.*no assignment"),
        ("a.m", "system('ls');\n", "line 1.*no assignment|no value"),
        ("a.m", "nothing", "line 1.*no assignment"),
        ("a.json", "[1, 2]", "JSON object"),
        ("a.json", "{", "JSON"),
        ("a.py", "def", "Python"),
        ("a.py", "import os\n", "line 1.*an import of os"),
        ("a.py", "ppc = {'bus': [[1] * 10**9]}\n", "line 1.*arithmetic on what is no number"),
        ("a.py", "ppc = {'bus': open('x')}\n", "line 1.*open has no value"),
        ("a.py", "ppc = {}\nfor x in ppc: pass\n", "line 2.*no assignment"),
        ("a.txt", "", "MATPOWER"),
    ],
)
def test_bad_case_files(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        readers.from_case(tmp_path / name)


def _ring(**tables):
    """Four buses in a ring as a PYPOWER dictionary; `tables` replaces parts of it."""
    bus = [[b, 1 + 2 * (b == 1), p, p / 4, 0, 0, 1, 1, 0, 110, 1, 1.05, 0.95]
           for b, p in zip((1, 2, 3, 4), (0, 40, 60, 30), strict=True)]  # fmt: skip
    branch = [[f, t, 0.02, 0.06, 0.03, 0, 0, 0, 0, 0, 1, -360, 360]
              for f, t in ((1, 2), (2, 3), (3, 4), (4, 1))]  # fmt: skip
    gen = [[1, 0, 0, 300, -300, 1, 100, 1, 400, 0]]
    return {"baseMVA": 100.0, "bus": bus, "gen": gen, "branch": branch} | tables


def _with(key, row, column, value):
    case = _ring()
    case[key][row][column] = value
    return case


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (_with("gen", 0, 0, 33), "table gen, row 1, GEN_BUS: got 33"),
        (_with("branch", 2, 1, 7), "table branch, row 3, T_BUS: got 7"),
        (_with("branch", 2, 1, 3), "table branch, row 3, T_BUS: got 3; allowed: another bus"),
        (_with("bus", 3, 0, 2), "table bus, row 4, BUS_I: got 2; allowed: each bus once"),
        (_with("bus", 3, 0, 14.7), "table bus, row 4, BUS_I: got 14.7"),
        (_with("bus", 1, 1, 7), "table bus, row 2, BUS_TYPE: got 7"),
        (_with("bus", 1, 1, 1.9), "table bus, row 2, BUS_TYPE: got 1.9"),
        (_with("bus", 1, 2, "40"), "table bus, row 2, PD: got 40; allowed: a number"),
        (_with("branch", 1, 10, float("nan")), "table branch, row 2, BR_STATUS: got nan"),
        (_with("gen", 0, 7, float("nan")), "table gen, row 1, GEN_STATUS: got nan"),
        (_ring(baseMVA=float("inf")), "baseMVA: got inf"),
        (_ring(baseMVA="100"), "baseMVA: got 100"),
        (_ring(storage=[[1, 2, 3]]), "table storage"),
        (_ring(gen=[]), "table gen: got no rows"),
    ],
)
def test_contradictions_are_named_with_table_row_and_value(case, message):
    with pytest.raises(InputError, match=message):
        network.Network.from_case(case)


def test_every_offending_row_is_named():
    case = _ring()
    for row in (0, 2):
        case["branch"][row][2:4] = [0, 0]
    with pytest.raises(InputError) as caught:
        network.Network.from_case(case)
    assert [f.field for f in caught.value.faults] == [
        f"table branch, row {n}, BR_X" for n in (1, 3)
    ]


def test_only_isolated_buses_and_what_is_out_of_service_are_left_out():
    case = _ring()
    case["bus"].append([5, 4, 10, 0, 0, 0, 1, 1, 0, 110, 1, 1.05, 0.95])
    case["branch"].append([4, 5, 0.02, 0.06, 0, 0, 0, 0, 0, 0, 1, -360, 360])
    case["branch"].append([1, 3, 0.02, 0.06, 0, 0, 0, 0, 0, 0, 0, -360, 360])
    net = network.Network.from_case(case)
    assert (net.n_bus, net.branch_from.size, net.load_p_mw.sum()) == (4, 4, 130)


def test_a_network_goes_out_as_pypower_case_and_comes_back():
    for net in (paper().network, readers.from_case("case118")):
        back = network.Network.from_case(net.to_ppc())
        for name in ("bus_number", "bus_type", "load_p_mw", "reactance_pu", "tap_ratio",
                     "limit_mva", "angle_min_deg", "q_min_mvar", "p_max_mw"):  # fmt: skip
            assert np.array_equal(getattr(net, name), getattr(back, name)), name


def test_own_units_are_converted_as_the_file_says():
    net = readers.from_case(CASES / "feeder_ohm.m")
    assert np.allclose(net.resistance_pu, 0.05)  # 0.5 ohm on 10 kV and 10 MVA
    assert np.allclose(net.reactance_pu, 0.04)
    assert np.allclose(net.load_p_mw, [0, 0.4, 0.25])
    assert np.allclose(net.load_q_mvar, [0, 0.15, 0.1])


def test_version_1_files_are_read():
    assert readers.from_case(CASES / "version1.m").load_p_mw.tolist() == [0, 40]


def test_a_pypower_file_may_scale_its_tables():
    net = readers.from_case(CASES / "doubled.py")
    assert (net.resistance_pu[0], net.reactance_pu[0], net.limit_mva[0]) == (0.02, 0.06, 90)
    assert net.load_p_mw.tolist() == [0, 40]


REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference" / "files"


@pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"case files are not at {REFERENCE}")
@pytest.mark.parametrize(
    ("file", "right"),
    [
        ("py-scaled/scaled.py", {"losses_mw": 3.6343, "v_min_pu": 0.9880}),
        ("m-logical-index/ring4_geq.m", {"generation_mw": 114.5475, "nsp_mw": 12.6306}),
        ("m-dcline/ring4_dc.m", {"losses_mw": 0.8589}),
        ("m-dispatchable/ring4_disp.m", {"slack_mw": 179.84}),
        ("m-angle-limits/tight04.m",
         {"generation_mw": 126.6185, "losses_mw": 1.1013, "v_min_pu": 1.0089, "angle_deg": 0.4}),
        ("m-text/clean.m", {"generation_mw": 127.4922, "nsp_mw": 0.0}),
        ("m-text/odd.m", {"generation_mw": 127.4922, "nsp_mw": 0.0}),
    ],
)  # fmt: skip
def test_files_that_people_have_give_the_right_state(file, right):
    asked = paper().day_on(readers.from_case(REFERENCE / file)).at([23])
    for method in opf.METHODS:
        day = opf.solve_day(asked, method=method)
        assert certify_day(day).holds
        found = {
            "losses_mw": day.losses_mw[0], "v_min_pu": day.v_min_pu[0],
            "generation_mw": day.generation_mw[0], "nsp_mw": day.nsp_mw[0].sum(),
            "slack_mw": day.generation_p_mw[0, 0],
            "angle_deg": day.angle_deg[0, 0] - day.angle_deg[0, 1],
        }  # fmt: skip
        for name, value in right.items():  # the yardstick's own optimum is good to 1e-3
            assert found[name] == pytest.approx(value, abs=2e-3), (method, name)


def test_unknown_cases(tmp_path):
    with pytest.raises(InputError, match="missing"):
        readers.from_case(tmp_path / "none.m")
    with pytest.raises(InputError, match="case118"):
        readers.from_case("case31")
