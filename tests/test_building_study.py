"""Random days of the building: stored by parts, resumed, the same for any number of workers."""

import pandas as pd
import pyarrow.parquet as pq
import pytest

from evcm.building import solve
from evcm.errors import InputError
from evcm.study import building_days


def same(left, right):
    pd.testing.assert_frame_equal(left.drop(columns="seconds"), right.drop(columns="seconds"))


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(building_days, "PART", 2)


def test_days_are_those_of_the_distribution_and_are_stored(tmp_path, monkeypatch):
    told = []
    first = building_days.random_days(
        tmp_path, 4, seed=3, progress=lambda step, done, total: told.append((done, total))
    )
    direct = solve.distribution(solve.default_building(), solve.default_law(), range(4), seed=3)
    same(first, direct)
    assert told == [(0, 4), (2, 4), (4, 4)]

    monkeypatch.setattr(building_days.DaysTask, "run", None)  # calling it would fail
    pd.testing.assert_frame_equal(building_days.random_days(tmp_path, 4, seed=3), first)


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    whole = building_days.random_days(tmp_path, 4)
    (stored,) = (tmp_path / "steps/building").iterdir()
    rows = pq.read_table(stored)
    pq.write_table(rows.slice(0, 1), stored)  # the second part is lost
    solved, run = [], building_days.DaysTask.run
    monkeypatch.setattr(building_days.DaysTask, "run", lambda t: solved.append(t.first) or run(t))
    same(building_days.random_days(tmp_path, 4), whole)
    assert solved == [2]


@pytest.mark.parametrize(
    ("days", "jobs", "field"), [(3, 1, "days"), (0, 1, "days"), (2, 0, "jobs")]
)
def test_bad_input_names_the_field(tmp_path, days, jobs, field):
    with pytest.raises(InputError, match=field):
        building_days.random_days(tmp_path, days, jobs=jobs)
