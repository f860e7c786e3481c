"""The certificate accepts what holds and refuses every kind of violation."""

from dataclasses import replace

import numpy as np
import pytest

from evcm.errors import SolverError
from evcm.inputs import paper
from evcm.network import caps, opf
from evcm.network import certificate as flow
from evcm.network.case import published_variant


@pytest.fixture(scope="module")
def day():
    return opf.solve_day(paper().day)


def test_a_solved_day_is_certified(day):
    certificate = flow.certify_day(day).require()
    assert certificate.largest_pu < 1e-6
    assert set(certificate.residual_pu) == {
        "45", "46", "49", "50", "51", "52", "53", "NSP", "angles",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("field", "change", "equation"),
    [
        ("generation_p_mw", lambda a: a + 0.01, "45"),
        ("generation_q_mvar", lambda a: a + 0.01, "46"),
        ("v_pu", lambda a: a + 0.06, "50"),
        ("angle_deg", lambda a: a + 1.0, "51"),
        ("angle_deg", lambda a: a * 3.0, "49"),
        ("generation_p_mw", lambda a: a + 50.0, "52"),
        ("generation_q_mvar", lambda a: a + 60.0, "53"),
        ("nsp_mw", lambda a: a - 1.0, "NSP"),
        ("nsp_mw", lambda a: a + 60.0, "NSP"),
        ("v_pu", lambda a: a * np.nan, "45"),
    ],
)
def test_each_violation_is_found(day, field, change, equation):
    certificate = flow.certify_day(replace(day, **{field: change(getattr(day, field))}))
    assert not certificate.residual_pu[equation] < 1e-6
    assert not certificate.holds
    with pytest.raises(SolverError, match="off by"):
        certificate.require()


def test_another_load_is_found(day):
    other = replace(day, day=replace(day.day, load_p_mw=day.load_p_mw * 1.001))
    assert flow.certify_day(other).residual_pu["45"] > 1e-6


def test_the_period_of_the_worst_residual_is_named(day):
    generation = day.generation_p_mw.copy()
    generation[17, 0] += 5.0
    certificate = flow.certify_day(replace(day, generation_p_mw=generation))
    assert certificate.period["45"] == 18
    assert certificate.residual_pu["45"] == pytest.approx(0.05, abs=1e-6)


def test_flows_are_the_papers_form_on_a_series_network(day):
    net = published_variant(paper().network)
    v, angle = day.v_pu, np.deg2rad(day.angle_deg)
    y = -1.0 / (net.resistance_pu + 1j * net.reactance_pu)  # off-diagonal element of the matrix
    f, t = net.branch_from, net.branch_to
    d = angle[:, t] - angle[:, f] + np.angle(y)
    vf, vt, size = v[:, f], v[:, t], np.abs(y)
    p = vf * vt * size * np.cos(d) - vf**2 * size * np.cos(np.angle(y))
    q = -vf * vt * size * np.sin(d) + vf**2 * size * np.sin(np.angle(y))
    assert np.allclose(flow.active_flow_pu(net, v, angle)[:, :, 0], p, atol=1e-12)
    assert np.allclose(flow.reactive_flow_pu(net, v, angle)[:, :, 0], q, atol=1e-12)


def test_printed_47_lacks_an_admittance(day):
    """As printed, V^2 cos(tau) lacks Y: a line between equal voltages would carry power."""
    net = published_variant(paper().network)
    y = -1.0 / (net.resistance_pu[0] + 1j * net.reactance_pu[0])
    printed = np.abs(y) * np.cos(np.angle(y)) - np.cos(np.angle(y))
    adopted = flow.active_flow_pu(net, np.ones((1, 14)), np.zeros((1, 14)))[0, 0, 0]
    assert adopted == pytest.approx(0.0, abs=1e-12)
    assert abs(printed) > 1.0


def test_caps_are_certified_and_faults_found():
    found = caps.solve_caps(paper().day)
    assert flow.certify_caps(found).require().largest_pu < 1e-6
    assert flow.certify_caps(replace(found, cap_mw=found.cap_mw + 0.1)).residual_pu["54"] > 9e-4
    assert flow.certify_caps(replace(found, share_max=0.5)).residual_pu["55"] > 1e-3
