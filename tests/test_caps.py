"""Caps (54), (55): the published table, PYPOWER's optimum, and what a cap promises."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evcm.errors import InfeasibleError, InputError
from evcm.network import caps, case, opf
from evcm.network.case import Day
from evcm.network.certificate import certify_caps

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference" / "opf"
needs_reference = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason=f"the published caps are not at {REFERENCE}"
)


@needs_reference
def test_published_caps_are_reproduced():
    table = pd.read_csv(REFERENCE / "published_caps_mw.csv").iloc[:, 1:].to_numpy()
    found = caps.study_caps(as_published=True)
    assert np.abs(found.total_mw / table.sum(axis=1) - 1).max() < 0.0005
    assert np.abs(found.cap_mw - table).max() < 0.02


@needs_reference
def test_pi_branches_give_nearly_the_same_total():
    table = pd.read_csv(REFERENCE / "published_caps_mw.csv").iloc[:, 1:].to_numpy()
    assert np.abs(caps.study_caps().total_mw / table.sum(axis=1) - 1).max() < 0.005


def test_caps_keep_their_range_and_are_certified():
    found = caps.study_caps()
    load = found.load_p_mw[:, found.network.ev_bus]
    assert (found.cap_mw >= 0.025 * load - 1e-6).all()
    assert (found.cap_mw <= load + 1e-6).all()
    assert certify_caps(found).holds


def test_buying_every_cap_leaves_nothing_unsupplied():
    found = caps.study_caps()
    assert opf.study_day(found.cap_mw).nsp_mw.max() < 1e-3


def test_the_total_is_the_most_that_pypower_finds():
    day = case.reference_day().at([7, 22])
    fast, slow = (caps.solve_caps(day, method=m) for m in ("fast", "pypower"))
    assert certify_caps(slow).holds
    assert np.abs(fast.total_mw / slow.total_mw - 1).max() < 1e-4


def test_more_load_leaves_less_room():
    found = caps.solve_caps(Day.scaled(case.ieee14(), np.linspace(0.8, 0.97, 8), 0.5))
    spare = found.total_mw - 0.025 * found.load_p_mw.sum(axis=1)
    assert (np.diff(spare) < 0).all()


def test_least_caps_that_do_not_fit_are_infeasible():
    with pytest.raises(InfeasibleError, match=r"caps, period 1.*Limits that bind"):
        caps.solve_caps(Day.scaled(case.ieee14(), np.array([1.1]), 0.5))


def test_shares_out_of_order_are_named():
    with pytest.raises(InputError, match="share_min"):
        caps.solve_caps(case.reference_day(), share_min=0.5, share_max=0.1)
