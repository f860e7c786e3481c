import numpy as np
import pytest

from evcm import inputs
from evcm.store import fingerprint


def test_closure_follows_imports_inside_functions_and_packages():
    names = fingerprint.closure(["evcm.cli.reinforcement"])
    assert "evcm.reinforcement" in names  # imported inside the command
    assert "evcm.inputs" in names  # imported by what is imported
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
    assert fingerprint.of_content(inputs.price_steps()) == fingerprint.of_content(
        inputs.price_steps()
    )
    cheaper = inputs.PriceSteps(
        inputs.price_steps().edge_mw, inputs.price_steps().price_usd_per_kwh * 0.9
    )
    assert fingerprint.of_content(inputs.price_steps()) != fingerprint.of_content(cheaper)


@pytest.mark.parametrize("folder", ["market", "trips"])
def test_data_folders_differ(folder):
    assert fingerprint.of_data(folder) != fingerprint.of_data("load")
