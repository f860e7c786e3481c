"""Stored measurements: kept by part, refused by name where they are missing."""

import json

import pytest

from evcm.errors import InputError
from evcm.store import measured


def test_parts_are_kept_side_by_side(tmp_path):
    measured.store("some", "a", [{"cars": 1, "gap": 0.5}], tmp_path)
    measured.store("some", "b", [{"cars": 2, "gap": None, "first_cars": float("inf")}], tmp_path)
    measured.store("some", "a", [{"cars": 3, "gap": 0.25}], tmp_path)
    assert measured.load("some", "a", tmp_path).table.to_dict("records") == [
        {"cars": 3, "gap": 0.25}
    ]
    found = measured.load("some", "b", tmp_path)
    assert found.table["cars"].tolist() == [2]
    assert found.table["gap"].isna().all()
    assert found.table["first_cars"].isna().all()
    assert "Infinity" not in (tmp_path / "some.json").read_text("utf-8")
    assert found.machine["processor"] in str(found)


def test_a_missing_part_names_the_script(tmp_path):
    with pytest.raises(InputError, match=r"python benchmarks/some\.py"):
        measured.load("some", "a", tmp_path)


def test_what_is_stored_was_certified_within_the_gaps():
    """Every row that the book shows: a proven gap, a certificate, and where it was measured."""
    for path in measured.FOLDER.glob("*.json"):
        for part, content in json.loads(path.read_text("utf-8")).items():
            assert {"date", "processor", "cores", "code"} <= content["machine"].keys(), (path, part)
            for row in content["rows"]:
                if "worst_residual" in row:
                    assert row["worst_residual"] < 1e-3
                    assert row["gap"] <= 0.01
