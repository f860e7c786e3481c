"""The feeder's certificate accepts solved states and catches any that are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evcm import feeder
from evcm.errors import SolverError
from evcm.feeder import FeederCases, FeederModel
from evcm.feeder.certificate import certify, joined, load_power_kva, network_admittance
from tests.feeder_case import one


@pytest.fixture(scope="module")
def states():
    rng = np.random.default_rng(0)
    n = 300
    head, load = rng.uniform(0.97, 1.05, n), rng.uniform(0.3, 1.0, n)
    cases = FeederCases(rng.integers(1, 49, n), head, load, rng.normal(0, 600, n))
    return feeder.solve(cases)


def again(states, volts=None, ev_factor=1.0, scale_factor=1.0, head_shift=0.0):
    circuit = feeder.circuit(states.model)
    ev = np.outer(states.cases.ev_kw * ev_factor, states.spread.on(circuit)).astype(complex)
    return certify(
        circuit, states.volts if volts is None else volts, states.cases.head_v_pu + head_shift,
        states.cases.load_scale * scale_factor, ev,
        states.certificate.head_kva, states.certificate.losses_kva,
    )  # fmt: skip


def test_solved_states_hold_far_within_the_tolerance(states):
    proof = again(states).require()
    assert proof.energy_error.max() < 1e-7
    assert proof.current_error.max() < 1e-7
    assert proof.worst <= 1e-6


def test_energy_by_hand(states):
    proof = states.certificate
    balance = proof.load_kva + proof.charge_kva + proof.losses_kva - proof.v2g_kva
    assert np.allclose(proof.head_kva.real, balance.real, rtol=1e-6)
    assert (proof.losses_kva.real > 0).all()
    assert ((proof.v2g_kva.real > 0) == (states.cases.ev_kw < 0)).all()


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"ev_factor": 1.001}, "current_error"),
        ({"scale_factor": 1.00001}, "current_error"),
        ({"head_shift": 1e-5}, "head_error_pu"),
    ],
)
def test_a_state_of_another_question_is_caught(states, change, check):
    with pytest.raises(SolverError, match=check):
        again(states, **change).require()


def test_a_voltage_off_by_a_hair_is_caught(states):
    volts = states.volts.copy()
    volts[17, feeder.circuit(states.model).index(states.terminals[20])] *= 1 + 1e-5
    with pytest.raises(SolverError, match="in solve 17"):
        again(states, volts).require()


def test_a_solver_that_misreports_losses_is_caught(states):
    circuit = feeder.circuit(states.model)
    ev = np.outer(states.cases.ev_kw, states.spread.on(circuit)).astype(complex)
    proof = certify(
        circuit, states.volts, states.cases.head_v_pu, states.cases.load_scale, ev,
        states.certificate.head_kva, states.certificate.losses_kva * 1.01,
    )  # fmt: skip
    with pytest.raises(SolverError, match="solver_error"):
        proof.require()


def test_a_solve_that_is_not_a_number_is_caught(states):
    volts = states.volts.copy()
    volts[5] = np.nan
    with pytest.raises(SolverError):
        again(states, volts).require()


def test_admittance_of_lines_has_no_path_to_ground_but_charging():
    circuit = feeder.circuit(FeederModel())
    y = network_admittance(replace(circuit, transformers=()))
    assert np.allclose(y, y.T)
    charging = sum(line.b_s.sum() for line in circuit.lines)
    assert (y.sum()).imag == pytest.approx(charging, rel=1e-6)
    assert abs(y.sum().real) < 1e-6


def test_loads_follow_their_kind():
    circuit = feeder.circuit(FeederModel())
    degrees = [{"a": 0, "b": -120, "c": 120}[t.phase] for t in circuit.terminals]
    flat = circuit.base_v * np.exp(1j * np.radians(degrees))
    nominal = load_power_kva(circuit, flat[None], np.ones(1))[0]
    assert nominal.sum() == pytest.approx(3466 + 2102j)
    lower = load_power_kva(circuit, 0.9 * flat[None], np.ones(1))[0]
    expected = {"pq": 1.0, "i": 0.9, "z": 0.81}
    for load, before, after in zip(circuit.loads, nominal, lower, strict=True):
        assert after / before == pytest.approx(expected[load.kind])


def test_blocks_join(states):
    proof = states.certificate
    both = joined([proof, proof])
    assert both.head_kva.shape == (600,)
    assert both.worst == proof.worst


def test_one_case_is_certified_for_every_spread():
    for name in feeder.spread_names():
        assert feeder.solve(one(ev_kw=250), cars=feeder.spread(name)).certificate.worst < 1e-6
