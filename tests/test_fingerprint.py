import numpy as np
import pytest

from evcm import inputs
from evcm.store import fingerprint


def test_closure_follows_imports_inside_functions_and_packages():
    names = fingerprint.closure(["evcm.cli.reinforcement"])
    assert "evcm.reinforcement" in names  # imported inside the command
    assert "evcm.store.files" in names  # imported by what is imported
    assert "evcm.study.flow" not in names


def test_relative_imports_are_resolved():
    source = "from . import data\nfrom .inputs import Battery\nimport numpy"
    assert fingerprint.imported_modules(source, "evcm.x") >= {"evcm.data", "evcm.inputs"}


def test_an_edit_changes_exactly_the_dependent_fingerprints(monkeypatch):
    before = {
        name: fingerprint.of_modules(name) for name in ("evcm.reinforcement", "evcm.trips.legs")
    }
    read = fingerprint.Path.read_bytes

    def edited(path):
        return read(path) + (b"#" if path.name == "reinforcement.py" else b"")

    monkeypatch.setattr(fingerprint.Path, "read_bytes", edited)
    assert fingerprint.of_modules("evcm.reinforcement") != before["evcm.reinforcement"]
    assert fingerprint.of_modules("evcm.trips.legs") == before["evcm.trips.legs"]


def test_content():
    a = np.arange(3.0)
    assert fingerprint.of_content(a) == fingerprint.of_content(a.copy())
    assert fingerprint.of_content(a) != fingerprint.of_content(a.astype(np.float32))
    assert fingerprint.of_content(a) != fingerprint.of_content(a.reshape(3, 1))
    assert fingerprint.of_content({"x": 1, "y": 2}) == fingerprint.of_content({"y": 2, "x": 1})
    assert fingerprint.of_content(1, None) != fingerprint.of_content(1)
    assert fingerprint.of_content(inputs.paper().market.price) == fingerprint.of_content(
        inputs.paper().market.price
    )
    cheaper = inputs.PriceSteps(
        inputs.paper().market.price.edge_mw, inputs.paper().market.price.price_usd_per_kwh * 0.9
    )
    assert fingerprint.of_content(inputs.paper().market.price) != fingerprint.of_content(cheaper)


@pytest.mark.parametrize("folder", ["market", "trips"])
def test_data_folders_differ(folder):
    assert fingerprint.of_data(folder) != fingerprint.of_data("load")


def test_parts_are_kept_apart():
    """`--repeats 1 --seed 11` is not `--repeats 11 --seed 1`, nor is "a", "bc" "ab", "c"."""
    of = fingerprint.of_content
    different = [
        of(1, 11), of(11, 1), of(111), of("1", "11"), of("11", "1"), of([1, 11]), of([1], 11),
        of([[1, 11]]), of({"a": 1}), of({"a": "1"}), of("a", "1"), of(b"a", b"bc"), of(b"ab", b"c"),
        of(b"abc"), of(None), of(), of(()), of("None"), of(1.0), of(True),
        of(np.array([1, 11])), of(np.array([11, 1])), of(np.array([1]), np.array([11])),
    ]  # fmt: skip
    assert len(set(different)) == len(different)


CODE = """
import evcm.reinforcement
from evcm.trips import legs

LIMIT = 3

def used(x):
    return helper(x) + LIMIT

def helper(x):
    return legs.draw(x)

def other(x):
    return evcm.reinforcement.table(x)

class Task:
    def run(self):
        return used(self)
"""


def reached(monkeypatch, edit=lambda source: source, start="Task"):
    """What `Task` reaches in `CODE` after an edit."""
    return fingerprint._reached("evcm.made_up", edit(CODE), start)


def test_code_is_what_a_class_reaches_and_nothing_else(monkeypatch):
    before = reached(monkeypatch)
    assert before[1] == {"evcm.trips.legs"}
    for old, new, changes in (
        ("LIMIT = 3", "LIMIT = 4", True),
        ("legs.draw(x)", "legs.draw(x, 1)", True),
        ("used(self)", "used(self) + 1", True),
        ("reinforcement.table(x)", "reinforcement.table(x, 1)", False),
        ("\nLIMIT", "\n# a comment\nLIMIT", False),
    ):
        after = reached(monkeypatch, lambda source, o=old, n=new: source.replace(o, n))
        assert (after != before) == changes, old
    assert reached(monkeypatch, start="other")[1] >= {"evcm.reinforcement"}


def test_an_edit_of_one_method_leaves_the_plans_of_the_others_valid(monkeypatch):
    from evcm.aggregator import methods
    from evcm.study.tasks import DayTask, PlanTask

    def keys():
        found = {name: methods.code(name) for name in methods.SOLVERS}
        return found | {t.__name__: fingerprint.of_code(t) for t in (PlanTask, DayTask)}

    read = fingerprint.Path.read_bytes

    def after_edit_of(module):
        file = fingerprint._module_file(module)

        def edited(path):
            return read(path) + (b"\n# edited" if path == file else b"")

        monkeypatch.setattr(fingerprint.Path, "read_bytes", edited)
        found = keys()
        monkeypatch.setattr(fingerprint.Path, "read_bytes", read)
        return found

    before = keys()
    for method, place in methods.SOLVERS.items():
        after = after_edit_of(place.partition(":")[0])
        assert {name for name in before if after[name] != before[name]} == {method}
    after = after_edit_of("evcm.network.opf")
    assert {name for name in before if after[name] != before[name]} == {"DayTask"}
    after = after_edit_of("evcm.coordination.capped")
    assert {name for name in before if after[name] != before[name]} == {"PlanTask"}
    after = after_edit_of("evcm.aggregator.certificate")
    assert {name for name in before if after[name] != before[name]} == {
        *methods.SOLVERS, "PlanTask",
    }  # fmt: skip


def test_every_run_depends_on_code_data_and_what_is_asked_alike():
    from evcm.study import comparison, flow, hosting

    told, settings = inputs.paper(), flow.Settings()
    assert flow.study_key(told, settings) != comparison.comparison_key(told, settings)
    for key, same, other in (
        (flow.study_key, flow.Settings(jobs=7), flow.Settings(seed=7)),
        (comparison.comparison_key, flow.Settings(jobs=7), flow.Settings(gap=0.1)),
        (hosting.hosting_key, hosting.Grid(), hosting.Grid(days=30)),
    ):
        start = settings if key is not hosting.hosting_key else hosting.Grid()
        assert key(told, start) == key(told, same)
        assert key(told, start) != key(told, other)
