"""The cone relaxation bounds the OPF and the caps from the other side, and closely."""

from dataclasses import replace

import pytest

from evcm.inputs import paper
from evcm.network import caps, opf, relaxation


@pytest.fixture(scope="module")
def day():
    return paper().day.at([0, 7, 22, 29])


def test_no_operating_point_is_better_than_the_bound(day):
    found = opf.solve_day(day).objective
    gap = 1 - relaxation.opf_bound(day) / found
    assert (gap > 0).all()
    assert gap.max() < 0.0012


def test_no_caps_are_larger_than_the_bound(day):
    gap = 1 - caps.solve_caps(day).total_mw / relaxation.caps_bound(day)
    assert (gap > 0).all()
    assert gap.max() < 0.03


def test_the_bound_knows_shortages(day):
    more = replace(day, load_p_mw=day.load_p_mw * 1.2)
    found, bound = opf.solve_day(more), relaxation.opf_bound(more)
    assert found.nse_mwh > 1
    assert (bound <= found.objective).all()
    assert bound.sum() > 0.98 * found.objective.sum()
