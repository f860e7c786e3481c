"""Caps (54), (55): the published table, PYPOWER's optimum, and what a cap promises."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evcm.errors import InfeasibleError, InputError
from evcm.inputs import paper
from evcm.network import caps, opf
from evcm.network.case import Day
from evcm.network.certificate import certify_caps

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference" / "opf"
needs_reference = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason=f"the published caps are not at {REFERENCE}"
)


@needs_reference
def test_published_caps_are_reproduced():
    table = pd.read_csv(REFERENCE / "published_caps_mw.csv").iloc[:, 1:].to_numpy()
    found = caps.solve_caps(paper().day.as_published)
    assert np.abs(found.total_mw / table.sum(axis=1) - 1).max() < 0.0005
    assert np.abs(found.cap_mw - table).max() < 0.02


@needs_reference
def test_pi_branches_give_nearly_the_same_total():
    table = pd.read_csv(REFERENCE / "published_caps_mw.csv").iloc[:, 1:].to_numpy()
    assert np.abs(caps.solve_caps(paper().day).total_mw / table.sum(axis=1) - 1).max() < 0.005


def test_caps_keep_their_range_and_are_certified():
    found = caps.solve_caps(paper().day)
    load = found.load_p_mw[:, found.network.ev_bus]
    assert (found.cap_mw >= 0.025 * load - 1e-6).all()
    assert (found.cap_mw <= load + 1e-6).all()
    assert certify_caps(found).holds


def test_buying_every_cap_leaves_nothing_unsupplied():
    found = caps.solve_caps(paper().day)
    assert opf.solve_day(paper().day.with_cars(found.cap_mw)).nsp_mw.max() < 1e-3


def test_the_total_is_the_most_that_pypower_finds():
    day = paper().day.at([7, 22])
    fast, slow = (caps.solve_caps(day, method=m) for m in ("fast", "pypower"))
    assert certify_caps(slow).holds
    assert np.abs(fast.total_mw / slow.total_mw - 1).max() < 1e-4


def test_more_load_leaves_less_room():
    found = caps.solve_caps(Day.scaled(paper().network, np.linspace(0.8, 0.97, 8), 0.5))
    spare = found.total_mw - 0.025 * found.load_p_mw.sum(axis=1)
    assert (np.diff(spare) < 0).all()


def test_least_caps_that_do_not_fit_are_infeasible():
    with pytest.raises(InfeasibleError, match=r"caps, period 1.*Limits that bind"):
        caps.solve_caps(Day.scaled(paper().network, np.array([1.1]), 0.5))


def test_shares_out_of_order_are_named():
    with pytest.raises(InputError, match="share_min"):
        caps.solve_caps(paper().day, share_min=0.5, share_max=0.1)


@pytest.fixture(scope="module")
def both_ways():
    day = paper().day
    return caps.solve_caps(day), caps.solve_exports(day)


def test_export_limits_are_certified_and_within_their_range(both_ways):
    _, out = both_ways
    assert certify_caps(out).holds
    assert (out.cap_mw <= out.day.aggregator_load_mw + 1e-6).all()
    assert out.total_mw.min() > 150


def test_feeding_in_within_the_import_caps_alone_is_no_promise():
    """Eleven buses that feed in 20 MW each are more than the generators can fall."""
    states = opf.assess(paper().day, np.full((48, 11), -20.0))
    assert np.isinf(states.nsp_mw).sum() == 15


@pytest.mark.parametrize("seed", range(6))
def test_any_plan_within_both_limits_is_served(both_ways, seed):
    """Random plans of both signs, corners of the box and its two extremes among them."""
    bought, fed = (c.cap_mw for c in both_ways)
    rng = np.random.default_rng(seed)
    share = rng.random(bought.shape) if seed % 2 else (rng.random(bought.shape) < 0.7) * 1.0
    buys = rng.random(bought.shape) < (0.0, 1.0, 0.5, 0.5, 0.2, 0.8)[seed]
    plan = np.where(buys, share * bought, -share * fed)
    assert opf.assess(paper().day, plan).short_mw.max() == 0


def test_what_a_cap_is_worth_is_what_the_others_lose():
    day = paper().day.at([7])
    found = caps.solve_caps(day)
    step = np.zeros((1, 11))
    step[0, 3] = 0.1
    less = caps.solve_caps(replace(day, load_p_mw=day.with_cars(step).load_p_mw), share_max=1.0)
    # the bus's own cap may grow with its load; take that out
    own = less.cap_mw[0, 3] - found.cap_mw[0, 3] if found.cap_mw[0, 3] > 6.5 else 0.0
    lost = found.total_mw[0] - less.total_mw[0] + own * (1 - found.worth[0, 3])
    assert lost == pytest.approx(0.1 * found.worth[0, 3], rel=0.2)


def test_a_negative_share_is_named():
    with pytest.raises(InputError, match="share_max"):
        caps.solve_exports(paper().day, share_max=-1.0)
