"""The IEEE 13-node feeder: published solution, physics, coupling, refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evcm import data, feeder
from evcm.errors import InputError, SolverError
from evcm.feeder import FeederCases, FeederModel
from evcm.feeder.certificate import network_admittance
from evcm.feeder.ieee13 import Terminal
from evcm.feeder.states import BLOCK_SIZE
from tests.feeder_case import one, transmission

_A = np.exp(2j * np.pi / 3)
FORTESCUE = np.array([[1, 1, 1], [1, _A**2, _A], [1, _A, _A**2]])


@pytest.fixture(scope="module")
def published():
    return feeder.solve(one(), feeder.published_model())


def test_published_voltages(published):
    both = feeder.published_solution().merge(
        published.voltages(), on=["node", "phase"], suffixes=("", "_ours")
    )
    assert len(both) == 35
    assert (both["v_pu"] - both["v_pu_ours"]).abs().max() <= 5e-4
    turn = (both["angle_deg"] - both["angle_deg_ours"] + 180) % 360 - 180
    assert turn.abs().max() <= 0.1


def test_published_source_power(published):
    stated = data.read_toml("feeder/feeder.toml")["published"]
    head = published.certificate.head_kva[0]
    assert head.real == pytest.approx(stated["source_kw"], rel=2e-3)
    assert head.imag == pytest.approx(stated["source_kvar"], rel=2e-3)


def test_published_nodes_are_all_ours(published):
    ours = {(t.node, t.phase) for t in published.terminals}
    theirs = set(feeder.published_solution()[["node", "phase"]].itertuples(index=False, name=None))
    # the only point of ours that the publication does not list carries the spread load
    assert ours - theirs == {("670", p) for p in "abc"}
    assert theirs <= ours


def test_nominal_load():
    circuit = feeder.circuit(FeederModel())
    assert circuit.nominal_kw == pytest.approx(3466)
    assert circuit.nominal_kvar == pytest.approx(2102)


def test_without_load_voltages_are_the_heads():
    states = feeder.solve(one(1.02, load_scale=1e-9), FeederModel())
    # what is left is the rise from capacitors and line charging
    assert np.all(states.v_pu >= 1.02 - 1e-6)
    assert states.v_pu.max() < 1.06
    highest = states.terminals[int(np.argmax(states.v_pu[0]))]
    assert (highest.node, highest.phase) == ("611", "c")  # at the end of the phase with both banks
    assert states.certificate.losses_kva.real[0] < 12


@pytest.mark.parametrize("substation", [False, True])
@pytest.mark.parametrize("taps", [None, (10, 8, 11), (-16, 0, 16)])
def test_every_option_is_certified(substation, taps):
    model = FeederModel(regulator_taps=taps, substation_transformer=substation)
    for ev in (0.0, 500.0, -500.0):
        assert feeder.solve(one(ev_kw=ev), model).certificate.worst <= 1e-6


def test_substation_transformer_lowers_and_turns_the_head():
    with_it = feeder.solve(one(), FeederModel(substation_transformer=True))
    index = feeder.circuit(with_it.model).index(Terminal("650", "a"))
    angle = np.degrees(np.angle(with_it.volts[0, index]))
    assert -36 < angle < -30  # delta-wye turns by 30 degrees, the load by a little more
    assert with_it.at("650", "a")[0] < 1.0
    assert (
        with_it.certificate.losses_kva.real[0] > feeder.solve(one()).certificate.losses_kva.real[0]
    )


def test_generators_and_negative_loads_agree():
    a = feeder.solve(one(ev_kw=-900), FeederModel(v2g_as_generators=True))
    b = feeder.solve(one(ev_kw=-900), FeederModel(v2g_as_generators=False))
    assert np.abs(a.volts - b.volts).max() / 2400 < 1e-8


def test_exporting_feeder():
    states = feeder.solve(one(ev_kw=-6000))
    proof = states.certificate
    assert proof.head_kva.real[0] < -2000
    assert proof.losses_kva.real[0] > 0
    assert proof.energy_error[0] < 1e-8
    far = feeder.solve(one(ev_kw=0))
    assert states.at("671", "a")[0] > far.at("671", "a")[0]


def test_all_loads_negative():
    states = feeder.solve(one(load_scale=-0.8))
    assert states.certificate.head_kva.real[0] < 0
    assert states.certificate.losses_kva.real[0] > 0
    assert states.v_pu.max() > 1.0


def test_charger_power_factor_draws_reactive_power_only_while_charging():
    model = FeederModel(charger_power_factor=0.95)
    charging = feeder.solve(one(ev_kw=300), model)
    assert charging.certificate.charge_kva[0] == pytest.approx(
        300 + 300j * np.tan(np.arccos(0.95)), rel=1e-9
    )
    feeding = feeder.solve(one(ev_kw=-300), model)
    assert feeding.certificate.v2g_kva[0] == pytest.approx(300 + 0j, abs=1e-9)
    assert charging.at("675", "a") < feeder.solve(one(ev_kw=300)).at("675", "a")


def sequence_impedance(circuit, node):
    """Short-circuit impedance of a node in sequence components (0, 1, 2), ohm, without loads."""
    y = network_admittance(circuit)
    for cap in circuit.capacitors:
        i = circuit.index(cap.terminal)
        y[i, i] += 1j * cap.kvar * 1000 / (cap.base_kv * 1000) ** 2
    free = [i for i, t in enumerate(circuit.terminals) if t.node != circuit.head]
    z = np.linalg.inv(y[np.ix_(free, free)])
    at = [free.index(circuit.index(Terminal(node, p))) for p in "abc"]
    return np.linalg.inv(FORTESCUE) @ z[np.ix_(at, at)] @ FORTESCUE


def sequences(states, node):
    """Zero, positive and negative sequence voltage of a node, V."""
    circuit = feeder.circuit(states.model)
    return np.linalg.inv(FORTESCUE) @ [
        states.volts[0, circuit.index(Terminal(node, p))] for p in "abc"
    ]


@pytest.mark.parametrize("phase", ["a", "b", "c"])
def test_one_single_phase_car_moves_unbalance_as_theory_says(phase):
    """On a feeder without load, the negative sequence voltage moves by -(Z of sequences) x I."""
    circuit = feeder.circuit(FeederModel())
    cars = feeder.spread_of({f"671.{phase}": 1})
    kw = 10.0
    empty = feeder.solve(one(load_scale=0.0), cars=cars)
    plugged = feeder.solve(one(load_scale=0.0, ev_kw=kw), cars=cars)
    current = np.zeros(3, complex)
    k = "abc".index(phase)
    current[k] = np.conj(kw * 1000 / plugged.volts[0, circuit.index(Terminal("671", phase))])
    z = sequence_impedance(circuit, "671")
    expected = -(z @ np.linalg.inv(FORTESCUE) @ current)
    moved = sequences(plugged, "671") - sequences(empty, "671")
    assert np.abs(moved - expected).max() <= 1e-5 * np.abs(expected).max()
    # the textbook estimate: single-phase power over three-phase short-circuit power
    short_circuit_kva = 3 * 2401.8**2 / abs(z[2, 2]) / 1000
    factor = 100 * abs(moved[2]) / abs(sequences(empty, "671")[1])
    assert factor == pytest.approx(100 * kw / short_circuit_kva, rel=0.2)


def test_a_car_on_a_balanced_node_raises_unbalance_in_proportion():
    factors = []
    for kw in (0.0, 50.0, 100.0, 200.0):
        cars = feeder.spread_of({"671.a": 1})
        factors.append(
            feeder.solve(one(load_scale=0.0, ev_kw=kw), cars=cars).unbalance_percent("671")[0]
        )
    steps = np.diff(factors) / [50, 50, 100]
    assert np.all(steps > 0)
    assert steps.max() / steps.min() < 1.2


def test_car_on_the_weak_phase_worsens_unbalance_and_on_the_strong_one_eases_it():
    base = feeder.solve(one())
    change = {}
    for phase in "abc":
        states = feeder.solve(one(ev_kw=60.0), cars=feeder.spread_of({f"671.{phase}": 1}))
        change[phase] = (states.unbalance_percent("671") - base.unbalance_percent("671"))[0]
    # phase b carries the least load and stands highest; a car there evens the phases out
    assert change["b"] < 0 < max(change["a"], change["c"])


def test_balanced_cars_move_unbalance_less_than_single_phase_cars():
    nodes = {f"671.{p}": 1.0 for p in "abc"}
    base = feeder.solve(one()).unbalance_percent("671")
    even = feeder.solve(one(ev_kw=200), cars=feeder.spread_of(nodes)).unbalance_percent("671")
    single = feeder.solve(one(ev_kw=200), cars=feeder.spread_of({"671.c": 1})).unbalance_percent(
        "671"
    )
    assert abs(even - base) < abs(single - base)


def test_absent_phase_is_refused_by_name():
    with pytest.raises(InputError, match=r"node 611, phase: got a; allowed: node 611 has phase c"):
        feeder.spread_of({"611.a": 1.0})
    with pytest.raises(InputError, match=r"node 684, phase: got b"):
        feeder.solve(one()).at("684", "b")
    with pytest.raises(InputError, match=r"node: got 999"):
        feeder.spread_of({"999.a": 1.0})


def test_failed_flow_names_period_and_node():
    cases = FeederCases(
        np.array([7, 8]), np.array([1.0, 1.0]), np.array([1.0, 1.0]), np.array([0.0, 40000.0])
    )
    with pytest.raises(
        SolverError, match=r"period 8, node \w+ phase [abc]: .*cars 40000"
    ) as caught:
        feeder.solve(cases)
    assert caught.value.details["period"] == 8
    assert caught.value.details["node"] in {t.node for t in feeder.circuit(FeederModel()).terminals}


def test_failed_flow_in_a_worker_process_names_period_and_node():
    n = BLOCK_SIZE + 10
    ev = np.zeros(n)
    ev[-1] = 40000.0
    cases = FeederCases(np.full(n, 33), np.ones(n), np.ones(n), ev)
    with pytest.raises(SolverError, match="period 33, node"):
        feeder.solve(cases, jobs=2)


def test_inputs_are_checked_together():
    with pytest.raises(InputError) as caught:
        FeederCases(np.array([0]), np.array([3.0]), np.array([np.nan]), np.array([0.0]))
    assert {f.field.split(",")[0] for f in caught.value.faults} == {
        "head_v_pu",
        "load_scale",
        "period",
    }
    with pytest.raises(InputError, match="regulator_taps"):
        FeederModel(regulator_taps=(1, 2, 40))
    with pytest.raises(InputError, match="charger_power_factor"):
        FeederModel(charger_power_factor=0.0)
    with pytest.raises(InputError, match="at least one"):
        FeederCases(np.zeros(0, int), np.zeros(0), np.zeros(0), np.zeros(0))


@pytest.mark.parametrize("name", feeder.spread_names())
def test_spreads_sum_to_one_on_the_feeder(name):
    rule = feeder.spread(name)
    assert rule.shares.sum() == pytest.approx(1)
    assert rule.on(feeder.circuit(FeederModel())).sum() == pytest.approx(1)


def test_by_load_follows_the_loads():
    rule = feeder.spread("by_load")
    table = data.read_table("feeder/loads.csv")
    total = table["kw"].sum()
    for node, group in table.groupby(table["node"].astype(str)):
        share = sum(s for t, s in zip(rule.terminals, rule.shares, strict=True) if t.node == node)
        assert share == pytest.approx(group["kw"].sum() / total)


def test_many_single_phase_cars_even_out():
    few, many = feeder.single_phase_cars(10), feeder.single_phase_cars(20000)
    by_load = feeder.spread("by_load")

    def by_node(rule):
        return {n: sum(s for t, s in zip(rule.terminals, rule.shares, strict=True) if t.node == n)
                for n in {t.node for t in by_load.terminals}}  # fmt: skip

    distance = [
        sum(abs(by_node(r)[n] - by_node(by_load)[n]) for n in by_node(by_load)) for r in (few, many)
    ]
    assert distance[1] < distance[0]
    assert distance[1] < 0.05
    again = feeder.single_phase_cars(10)
    assert again.terminals == few.terminals
    assert np.array_equal(again.shares, few.shares)


def test_feeders_at_bus_carry_load_and_fleet():
    table = transmission()
    counts = feeder.feeders_at_bus(table).set_index("bus")
    peak = table[table["regime"] == "no cars"].groupby("bus")["load_mw"].max()
    assert counts.loc[3, "feeders"] == np.ceil(peak[3] / 3.466)
    assert (counts["feeders"] >= counts[["for_load", "for_fleet"]].max(axis=1)).all()
    table.loc[(table["bus"] == 11) & (table["period"] == 5), ["ev_mw", "load_mw"]] = 22.0, 25.0
    assert feeder.feeders_at_bus(table).set_index("bus").loc[11, "feeders"] >= 5


def test_cases_split_load_and_cars_evenly():
    table = transmission(regimes=("uncontrolled",), buses=(3, 11))
    cases = feeder.feeder_cases(table)
    n = cases.labels["feeders"].to_numpy()
    assert np.allclose(cases.load_scale * n * 3.466, table["load_mw"] - table["ev_mw"])
    assert np.allclose(cases.ev_kw * n / 1000, table["ev_mw"])
    assert np.array_equal(cases.head_v_pu, table["v_pu"])
    assert cases.load_scale.max() <= 1 + 1e-9


def test_buses_without_load_are_left_out():
    table = transmission(regimes=("no cars",), buses=(3,))
    more = pd.concat([table, table.assign(bus=7, load_mw=0.0)], ignore_index=True)
    assert len(feeder.feeder_cases(more)) == len(table)
    with pytest.raises(InputError, match="some bus with load"):
        feeder.feeder_cases(table.assign(load_mw=0.0, ev_mw=0.0))


def test_not_supplied_power_is_taken_off_the_load():
    table = transmission(regimes=("no cars",), buses=(3,))
    less = table.assign(nsp_mw=3.0)
    counts = feeder.feeders_at_bus(table)
    difference = (
        feeder.feeder_cases(table, counts).load_scale - feeder.feeder_cases(less, counts).load_scale
    )
    assert np.allclose(difference * counts["feeders"].iloc[0] * 3.466, 3.0)


def test_bad_transmission_tables_are_refused():
    table = transmission(regimes=("no cars",), buses=(3,))
    with pytest.raises(InputError, match="column v_pu: got missing"):
        feeder.feeder_cases(table.drop(columns="v_pu"))
    with pytest.raises(InputError, match="column ev_mw, row 4"):
        feeder.feeder_cases(table.assign(ev_mw=[*[0.0] * 3, np.nan, *[0.0] * (len(table) - 4)]))
    with pytest.raises(InputError, match="period"):
        feeder.feeder_cases(table.assign(period=table["period"] - 1))


def test_day_runs_and_jobs_do_not_change_a_bit():
    table = transmission(sides=("min",))
    one_job = feeder.run_day(table)
    two_jobs = feeder.run_day(table, jobs=2)
    assert np.array_equal(one_job.volts, two_jobs.volts)
    assert len(one_job.voltages()) == len(table) * len(one_job.terminals)
    flows = one_job.flows()
    balance = flows["load_kw"] + flows["charge_kw"] + flows["losses_kw"] - flows["v2g_kw"]
    assert np.allclose(flows["head_kw"], balance, rtol=1e-6)


def test_order_of_solves_does_not_matter():
    table = transmission(sides=("min",), buses=(2, 14))
    cases = feeder.feeder_cases(table)
    forward = feeder.solve(cases)
    shuffle = np.random.default_rng(0).permutation(len(cases))
    shuffled = feeder.solve(cases.take(shuffle))
    assert np.abs(forward.volts[shuffle] - shuffled.volts).max() / 2400 < 1e-8


def test_more_cars_never_raise_the_lowest_voltage():
    low = [feeder.solve(one(ev_kw=kw)).v_pu.min() for kw in (0, 200, 400, 800)]
    assert np.all(np.diff(low) < 0)
