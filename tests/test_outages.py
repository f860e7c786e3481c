"""The day under the loss of one branch: as if the branch had never been there."""

from dataclasses import replace

import numpy as np
import pytest

from evcm.errors import InputError
from evcm.inputs import paper
from evcm.network import opf, outages
from evcm.network.status import Status

PER_BRANCH = (
    "branch_from", "branch_to", "resistance_pu", "reactance_pu", "charging_pu", "tap_ratio",
    "shift_deg", "limit_mva", "angle_min_deg", "angle_max_deg",
)  # fmt: skip


def without(net, branch):
    """The network built anew, with one branch less."""
    return replace(net, **{f: np.delete(getattr(net, f), branch) for f in PER_BRANCH})


@pytest.fixture(scope="module")
def found():
    return outages.assess_outages(paper().day)


@pytest.mark.parametrize("branch", [0, 2, 9, 18])
def test_an_outage_is_the_network_without_the_branch(found, branch):
    day = paper().day
    alone = opf.assess(replace(day, network=without(day.network, branch)))
    assert np.allclose(found.nsp_mw[branch], alone.nsp_mw, atol=2e-4)
    assert np.allclose(found.losses_mw[branch], alone.losses_mw, atol=2e-4)
    assert np.allclose(found.v_min_pu[branch], alone.v_min_pu, atol=1e-4)


def test_outages_that_cut_buses_off_are_named(found):
    assert found.islanding.tolist() == [13]
    assert found.cut_off[13] == (8,)
    assert (found.status[13] == Status.ISLANDED).all()
    row = found.to_frame().iloc[13]
    assert (row["branch"], row["cut_off"], row["periods_without_state"]) == (
        "7-8 (row 14)",
        "8",
        48,
    )
    assert np.isfinite(np.delete(found.nsp_mw, 13, axis=0)).all()


def test_the_worst_outage_is_at_the_only_large_generator(found):
    table = found.to_frame()
    assert table["nse_mwh"].idxmax() == 0
    assert np.delete(found.nsp_mw, 13, axis=0).max() > 70


def test_the_answer_does_not_depend_on_threads(found):
    some = outages.assess_outages(paper().day, branches=[2, 0], threads=1)
    assert np.array_equal(some.nsp_mw, found.nsp_mw[[2, 0]])


def test_parallel_branches_keep_each_other_up():
    day = paper().day
    net = day.network
    twice = {f: np.append(getattr(net, f), getattr(net, f)[13]) for f in PER_BRANCH}
    double = outages.assess_outages(replace(day, network=replace(net, **twice)), branches=[13])
    assert not double.islanding.size
    assert np.isfinite(double.nsp_mw).all()


def test_unknown_branches_are_refused():
    with pytest.raises(InputError, match=r"0\.\.19"):
        outages.assess_outages(paper().day, branches=[20])


@pytest.mark.slow
def test_a_whole_day_of_118_buses_under_every_outage():
    from evcm.network.readers import from_case

    day = paper().day_on(from_case("case118"))
    found = outages.assess_outages(day)
    assert found.nsp_mw.shape == (186, 48)
    assert found.islanding.size == 9
    solved = np.setdiff1d(np.arange(186), found.islanding)
    assert (found.status[solved] == Status.OPTIMAL).all()
