"""Chapters in JupyterLab: opened from another folder, run whole, a slider moved."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from book._tools import build as book
from tests import browser as b

pytest.importorskip("jupyterlab", reason="requirements-lab.txt is not installed (make lab)")

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = ("scenarios", "price", "hosting")
MINUTES = 10


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A server over a folder that is not the checkout, with the chapters as `make lab` has them."""
    from book._tools import notebook

    folder = tmp_path_factory.mktemp("lab")
    notebook.write_all(folder)
    options = [
        "--no-browser", "--ip=127.0.0.1", "--port=0", "--allow-root", "--IdentityProvider.token=",
        "--ServerApp.password=", "--LabApp.expose_app_in_browser=True", f"--notebook-dir={folder}",
    ]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if k != "EVCM_BOOK"}
    environment |= {"PYTHONPATH": os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])}
    environment |= {"JUPYTER_CONFIG_DIR": str(folder / ".config")}
    log = folder / ".server.log"
    with log.open("w") as stream:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], cwd=folder, env=environment,
            stdout=stream, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        yield _address(server, log)
    finally:
        server.terminate()
        server.wait(60)


def _address(server, log):
    for _ in range(600):
        found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text("utf-8"))
        if found and server.poll() is None:
            urlopen(f"{found[0]}/api", timeout=60).close()
            return found[0]
        time.sleep(0.2)
    pytest.fail(f"JupyterLab does not answer: {log.read_text('utf-8')[-2000:]}")


RUN = """async () => {
  const panel = window.jupyterapp.shell.currentWidget;
  await panel.context.ready;
  await panel.revealed;
  await panel.sessionContext.ready;
  return window.jupyterapp.commands.execute('notebook:run-all-cells');
}"""

BUSY = """() =>
  window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'busy'"""

STATE = """() => {
  const panel = window.jupyterapp.shell.currentWidget;
  const cells = panel.content.widgets.map(w => w.model).filter(m => m.type === 'code');
  const outputs = cells.map(m => m.sharedModel.getSource().trim() ? m.executionCount : 0);
  const errors = Array.from(panel.node.querySelectorAll('[data-mime-type*="error"]'));
  return {left: outputs.filter(c => c === null).length, errors: errors.map(e => e.textContent)};
}"""

DRAWN = """() => Array.from(document.querySelectorAll('.js-plotly-plot path')).map(
  p => p.getAttribute('d') + p.getAttribute('transform')).join('')"""


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(not b.CHROMIUM.is_file(), reason=f"{b.CHROMIUM} is not installed")
@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_runs_and_its_slider_redraws(lab, name):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(b.CHROMIUM), args=b.FLAGS)
        tab = browser.new_page(viewport={"width": 1280, "height": 3000})
        # a workspace of its own, or the tabs of the chapters before come back and hold sliders, too
        tab.goto(f"{lab}/lab/workspaces/{name}/tree/{name}.ipynb", timeout=120_000)
        tab.wait_for_function(
            "() => window.jupyterapp && window.jupyterapp.shell.currentWidget?.sessionContext"
            "?.session?.kernel?.status === 'idle'",
            timeout=120_000,
        )
        for second in range(60 * MINUTES):
            if second % 20 == 0 and not tab.evaluate(BUSY):
                tab.evaluate(RUN)  # again, where the first came before the cells were there
            state = tab.evaluate(STATE)
            if state["errors"] or not state["left"]:
                break
            tab.wait_for_timeout(1000)
        assert state == {"left": 0, "errors": []}
        slider = tab.locator(".widget-slider .noUi-handle, .widget-toggle-button").last
        slider.scroll_into_view_if_needed()
        tab.wait_for_timeout(3000)
        before = tab.evaluate(DRAWN)
        assert before
        if "noUi-handle" in (slider.get_attribute("class") or ""):
            slider.focus()
            tab.keyboard.press("ArrowLeft")
            tab.keyboard.press("ArrowLeft")
        else:
            slider.click()
        for _ in range(60):
            tab.wait_for_timeout(500)
            if tab.evaluate(DRAWN) not in ("", before):
                break
        else:
            pytest.fail("the slider redraws nothing")
        browser.close()


# ------------------------------------------------------- scripts of other machines


@pytest.mark.parametrize("name", [".binder/postBuild", ".ci/results", ".ci/run"])
def test_scripts_are_sound_shell_and_run_what_exists(name):
    script = ROOT / name
    assert os.access(script, os.X_OK)
    shell = "bash" if "bash" in script.read_text("utf-8").splitlines()[0] else "sh"
    subprocess.run([shell, "-n", str(script)], check=True)
    for file in re.findall(r"requirements[\w-]*\.txt|\.ci/\w+", script.read_text("utf-8")):
        assert (ROOT / file).exists(), file


def test_results_script_asks_every_step_for_the_same_folder(tmp_path):
    """Run with a stand-in for the command: it says what it would have been asked."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "results", tmp_path / ".ci" / "results")
    said = subprocess.run(
        [str(tmp_path / ".ci" / "results")], env={**os.environ, "EVCM": "echo", "JOBS": "3"},
        check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    assert all(line.endswith(" --jobs 3 --out results") for line in said)
    steps = [" ".join(re.findall(r"^[a-z ]+[a-z]|--seeds", line)) for line in said]
    assert steps == [
        "study", "compare", "hosting", "hinges", "study --seeds", "synthesis", "building days",
    ]  # fmt: skip


STAND_IN = """#!/bin/sh
echo "$(basename "$0") $*" >> "$CALLS"
"""


@pytest.mark.parametrize("address", ["", "https://example.org/book"])
def test_binder_makes_notebooks_and_the_tables_that_chapters_read(address, tmp_path):
    """The script is run, with stand-ins for python and evcm that note what they are asked."""
    for name in (".binder/postBuild", ".ci/results"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    for name in ("python", "evcm"):
        (tmp_path / "bin" / name).write_text(STAND_IN)
        (tmp_path / "bin" / name).chmod(0o755)
    calls = tmp_path / "calls"
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    environment |= {"CALLS": str(calls), "EVCM_BOOK_ADDRESS": address, "JOBS": "1"}
    environment.pop("EVCM", None)
    subprocess.run([".binder/postBuild"], cwd=tmp_path, env=environment, check=True)
    asked = calls.read_text("utf-8").splitlines()
    assert "python -m book._tools.notebook lab" in asked
    made = [line for line in asked if line.startswith("evcm ")]
    if address:
        assert made == [f"evcm results get {address} --out results"]
    else:
        assert len(made) == 7
        assert all(line.endswith("--out results") for line in made)


def test_the_development_container_asks_make_for_targets_that_exist():
    settings = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text("utf-8"))
    rules = re.findall(r"^([^\s:#]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    rules = [rule.replace("$(VENV)", ".venv") for rule in rules]
    asked = re.findall(r"make (\S+)", settings["postCreateCommand"])
    assert asked
    assert set(asked) <= set(rules)
    workflow = (ROOT / ".github" / "workflows" / "pages.yml").read_text("utf-8")
    for line in re.findall(r"- run: make (.+)", workflow):
        assert set(line.split()) <= set(rules)


def test_every_chapter_that_reads_results_is_served_by_the_script():
    """What chapters read is made: no table of another command is named in a chapter."""
    made = {
        "stored", "comparison", "hosting", "hinges", "seeds", "feeder_days", "building_days",
    }  # fmt: skip
    for page in book.chapters():
        if book.is_executed(page):
            readers = re.findall(r"(\w+)\.\w+\([^)]*stored\.FOLDER", book.code(page))
            assert set(readers) <= made, page.stem
