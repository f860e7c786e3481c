"""Live pages: the exported program is CVXPY's, its answers are the package's, also in a browser."""

from __future__ import annotations

import functools
import gzip
import http.server
import json
import threading
import tomllib

import cvxpy as cp
import numpy as np
import plotly
import plotly.graph_objects as go
import pytest
import scipy.sparse as sp

from book._ext import evcm_live
from evcm import plots
from evcm.aggregator import solve
from evcm.building import dispatch
from evcm.coordination.equilibrium import against
from evcm.coordination.joint import joint_problem
from evcm.errors import InfeasibleError, InputError
from evcm.live import aggregator, building, market, page, program
from tests import browser as b

AGGREGATOR = (
    {},
    {"cars": 144, "wear": 2.0},
    {"v2g": 0, "level": 3.0},
    {"cap_mw": 0.2, "departure_kwh": 65.0},
    {"charger_kw": 7.4, "efficiency": 0.8, "wear": 0.5},
)
BUILDING = (
    {},
    {"pv_kw": 0},
    {"pv_kw": 35, "bays": 8, "level": 2.5},
    {"shifting": 0, "bays": 6, "demand_usd_per_kw": 0.8},
    {"connection_kw": 30, "bays": 2},
)
MARKET = ({}, {"aggregators": 2, "cars": 160}, {"v2g": 1, "cars": 160}, {"cars": 480, "level": 2.0})


@functools.cache
def pages():
    own = {"aggregator": aggregator.page(), "building": building.page(), "market": market.page()}
    return {**own, "one_car": one_car()}


PRICE = np.array([5.0, 3.0, 2.0, 4.0, 6.0, 9.0])


def one_car():
    """A page around a linear program of three lines: energy in the cheapest hours."""
    charge = cp.Variable(6, nonneg=True)
    kw, need = (cp.Parameter(nonneg=True, name=name) for name in ("charger_kw", "need_kwh"))
    problem = cp.Problem(cp.Minimize(PRICE @ charge), [charge <= kw, cp.sum(charge) == need])
    made = program.Program(problem, {"kw": charge, "cents": PRICE @ charge}, {"energy": "cents"})
    sliders = (
        program.Slider("charger_kw", "charger", 1, 11, 0.5, 4, "kW", more=True),
        program.Slider("need_kwh", "energy", 0, 40, 0.5, 10, "kWh", more=False),
    )

    def figure(answer):
        return go.Figure(go.Bar(y=answer.outputs["kw"], meta={"output": "kw"}))

    return page.Page("one_car", sliders, [made], figure, "{need_kwh:.1f} kWh: {cost_usd:.2f} USD")


def program_of(model, theta):
    """A, b, c of an exported map at a point, as a page builds them."""
    m, n = model["rows"], model["columns"]

    def sparse(part, shape):
        value = np.array(part["v"], float) * theta[part["k"]]
        return sp.coo_array((value, (part["i"], part["j"])), shape=shape).tocsc()

    return (
        sparse(model["matrix"], (m, n)),
        sparse(model["right"], (m, 1)).toarray().ravel(),
        sparse(model["cost"], (n, 1)).toarray().ravel(),
    )


def theta_of(model, setting, vectors):
    theta = np.zeros(model["size"])
    theta[model["constant"]] = 1.0
    for p in model["parameters"]:
        if p["name"] in vectors:
            theta[p["at"] : p["at"] + p["size"]] = vectors[p["name"]]
        else:
            theta[p["at"]] = program.product(p["name"], setting)
    return theta


def vectors_of(name, setting):
    if name != "market":
        return {}
    base = market.references()[0]
    return market.ends(base, setting, base.system_load_mw + 1.0)


@pytest.mark.parametrize("name", ["aggregator", "building", "market", "one_car"])
def test_the_exported_map_is_what_cvxpy_hands_to_highs(name):
    live = pages()[name]
    rng = np.random.default_rng(0)
    for one in live.programs:
        model = one.model(live.setting(), **vectors_of(name, live.setting()))
        for _ in range(3):
            setting = {s.name: rng.uniform(s.low, s.high) for s in live.sliders}
            full, vectors = {**setting, **one.attempts[-1]}, vectors_of(name, setting)
            one.place(full, **vectors)
            data = one.problem.get_problem_data("HIGHS")[0]
            a, right, cost = program_of(model, theta_of(model, full, vectors))
            assert abs(a - sp.csc_array(data["A"])).max() < 1e-9
            np.testing.assert_allclose(right, data["b"], rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(cost, data["c"], rtol=1e-12, atol=1e-12)


def test_a_packed_model_holds_the_same_entries():
    model = pages()["one_car"].programs[0].model(pages()["one_car"].setting())
    for name in ("matrix", "right", "cost"):
        part = page.packed(model)[name]
        back = [np.cumsum(part[n]).tolist() for n in "ijk"] + [part["v"]]
        assert sorted(zip(*back, strict=True)) == sorted(
            zip(*(model[name][n] for n in "ijkv"), strict=True)
        )


@pytest.mark.parametrize("setting", AGGREGATOR, ids=str)
def test_the_page_and_the_package_agree_within_their_proven_gaps(setting):
    answer = pages()["aggregator"].solve(**setting)
    plan = solve(aggregator.problem(setting), gap=1e-3)
    slack = 1e-6 * plan.cost.turnover_usd
    assert answer.bound_usd <= plan.cost_usd + slack
    assert plan.bound_usd <= answer.cost_usd + slack
    assert answer.gap < 0.02


@pytest.mark.parametrize("setting", BUILDING, ids=str)
def test_the_building_costs_what_the_package_says(setting):
    here, drawn, variant = building.day(setting)
    plan, answer = dispatch(here, drawn.sessions, variant), pages()["building"].solve(**setting)
    assert answer.cost_usd == pytest.approx(plan.cost_usd, rel=1e-4, abs=1e-6)
    assert answer.bound_usd <= plan.cost_usd + 1e-6
    assert answer.outputs["grid_kw"].max() == pytest.approx(answer.outputs["peak_kw"][0], abs=1e-6)


@pytest.mark.parametrize("setting", MARKET, ids=str)
def test_an_owner_of_the_market_page_is_an_aggregator_of_the_package(setting):
    live = pages()["market"]
    full = live.setting(**setting)
    each, bases = market.problems(setting), market.references()
    for base, one, known in zip(bases, live.programs, each, strict=False):
        for others in (0.0, 2.5):
            here = against(known, np.full(base.periods, others))
            answer = one.solve(full, **market.ends(base, full, here.system_load_mw))
            plan = solve(here, gap=1e-3)
            assert answer.bound_usd <= plan.cost_usd + 1e-6
            assert plan.bound_usd <= answer.cost_usd + 1e-6


def test_nobody_pays_less_together_than_the_joint_bound():
    answer = pages()["market"].solve(aggregators=2, cars=160, v2g=1)
    for regime in market.REGIMES:
        assert answer.parts_usd[regime] >= answer.bound_usd - 1e-6
    table = pages()["market"].table(answer)
    assert f"{answer.parts_usd['joint']:.2f}" in table


def test_an_impossible_setting_raises_in_both():
    live = pages()["aggregator"]
    with pytest.raises(InfeasibleError):
        live.solve(cap_mw=0.0)
    with pytest.raises(InfeasibleError):
        solve(aggregator.problem({"cap_mw": 0.0}))
    with pytest.raises(InfeasibleError):
        pages()["building"].solve(connection_kw=5.0, pv_kw=0.0)


def test_settings_are_checked_with_all_faults_at_once():
    with pytest.raises(InputError) as error:
        pages()["aggregator"].setting(cars=1e6, lorries=3.0)
    assert {f.field for f in error.value.faults} == {"cars", "lorries"}


def test_a_program_must_be_affine_in_its_parameters():
    x, a, c = cp.Variable(), cp.Parameter(name="a"), cp.Parameter(name="c")
    with pytest.raises(InputError, match="DPP"):
        program.Program(cp.Problem(cp.Minimize(a * c * x), [x >= 0]), {}, {})
    with pytest.raises(InputError, match="output y"):
        program.Program(cp.Problem(cp.Minimize(x), [x >= 0]), {"y": cp.abs(x)}, {})
    with pytest.raises(InputError, match="a product of"):
        program.product("a*b", {"a": 1.0})


def test_a_downloaded_setting_is_read_and_a_wrong_one_refused(tmp_path):
    live = pages()["aggregator"]
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text('page = "aggregator"\n\n[setting]\ncars = 24.0\n')
    assert page.read_setting(good, live) == live.setting(cars=24.0)
    bad.write_text('page = "building"\nmore = 1\n[setting]\ncars = "many"\n')
    with pytest.raises(InputError) as error:
        page.read_setting(bad, live)
    assert {f.field for f in error.value.faults} == {"page", "more", "setting.cars"}
    with pytest.raises(InputError, match="TOML"):
        page.read_setting(tmp_path / "none.toml", live)


def test_a_live_kernel_gets_widgets_that_solve_in_python():
    widget = pages()["aggregator"].widget()
    names = [c.description for c in widget.children[:-1]]
    assert names == [s.label for s in aggregator.SLIDERS]


# ---------------------------------------------------------------------------- the npm packages


def test_a_package_with_another_hash_is_refused(tmp_path):
    with pytest.raises(evcm_live.MissingError, match="pinned hash"):
        evcm_live.check(evcm_live.SOLVER, b"something else")


def test_without_npm_the_reason_is_named(tmp_path, monkeypatch):
    def none():
        raise evcm_live.MissingError("npm is not installed")

    monkeypatch.setattr(evcm_live, "npm", none)
    with pytest.raises(evcm_live.MissingError, match="npm is not installed"):
        evcm_live.fetch(evcm_live.SOLVER, tmp_path / "packages")


# ---------------------------------------------------------------------------- in a browser

PACKAGES = b.ROOT / "_build" / ".npm"
HEAD = """<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<link rel="stylesheet" href="evcm.css"><link rel="stylesheet" href="evcm-live.css"></head><body>
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The pages with their scripts, without the rest of the book; skipped without the packages."""
    if not b.CHROMIUM.is_file():
        pytest.skip(f"{b.CHROMIUM} is not installed")
    made = tmp_path_factory.mktemp("live")
    try:
        solver = evcm_live.solver_script(PACKAGES)
        drawing = evcm_live.member(evcm_live.DRAWING, PACKAGES, "plotly-basic.min.js")
    except evcm_live.MissingError as error:
        pytest.skip(f"the npm packages cannot be had: {error}")
    (made / "evcm-highs.js").write_text(solver)
    (made / "plotly.js").write_bytes(drawing)
    (made / "templates.js").write_text(f"window.evcmTemplates={json.dumps(plots.templates())};")
    assets = b.ROOT / "book" / "_ext" / "assets"
    (made / "evcm.js").write_bytes((assets / "evcm.js").read_bytes())
    (made / "evcm.css").write_bytes((assets / "evcm.css").read_bytes())
    for name in ("live.js", "live.css"):
        (made / f"evcm-{name}").write_bytes((page.SCRIPTS / name).read_bytes())
    names = ("plotly.js", "templates.js", "evcm.js", "evcm-highs.js", "evcm-live.js")
    for name, one in pages().items():
        block = one.to_html()
        for file, kept in ((name, names), (f"{name}-bare", names[:3] + names[4:])):
            scripts = "".join(f'<script defer src="{n}"></script>' for n in kept)
            (made / f"{file}.html").write_text(f"{HEAD}{block}{scripts}</body></html>")
    return made


@pytest.fixture(scope="module")
def addresses(folder):
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {"http": f"http://127.0.0.1:{server.server_port}", "file": f"file://{folder}"}
    server.shutdown()
    server.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=str(b.CHROMIUM), args=b.FLAGS)
        yield browser
        browser.close()


SET = """values => {
  const last = Object.keys(values).pop();
  for (const [name, value] of Object.entries(values)) {
    const input = document.querySelector(`[data-slider="${name}"]`);
    if (input.type === 'checkbox') input.checked = Boolean(value); else input.value = value;
    input.dispatchEvent(new Event('input', { bubbles: true }));
  }
}"""
SETTLED = """values => {
  const block = document.querySelector('.evcm-live'), found = block.evcmAnswer;
  return found && !block.hasAttribute('aria-busy') &&
    Object.entries(values).every(([name, value]) => Math.abs(found.setting[name] - value) < 1e-9);
}"""
ANSWER = """() => {
  const { outputs, ...found } = document.querySelector('.evcm-live').evcmAnswer;
  const shown = Object.entries(outputs || {}).map(([name, y]) => [name, Array.from(y)]);
  return { ...found, outputs: Object.fromEntries(shown) };
}"""


def answer_of(tab, values):
    """Move the sliders and wait for the page's own answer."""
    tab.evaluate(SET, values)
    tab.wait_for_function(SETTLED, arg=values, timeout=120_000)
    return tab.evaluate(ANSWER)


ONE_CAR = ({}, {"need_kwh": 0.0}, {"need_kwh": 23.5, "charger_kw": 4.5})
GRID = {"aggregator": AGGREGATOR, "building": BUILDING, "one_car": ONE_CAR}


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["http", "file"])
@pytest.mark.parametrize("name", sorted(GRID))
def test_the_browser_finds_what_python_finds(name, scheme, chromium, addresses):
    live = pages()[name]
    with b.visit(chromium, f"{addresses[scheme]}/{name}.html") as seen:
        for changes in GRID[name]:
            setting = live.setting(**changes)
            found, known = answer_of(seen.page, setting), live.solve(**changes)
            turnover = max(1.0, sum(map(abs, known.parts_usd.values())))
            assert found["bound"] <= known.cost_usd + 1e-6 * turnover
            assert known.bound_usd <= found["cost"] + 1e-6 * turnover
            assert (
                abs(found["cost"] - known.cost_usd) <= (found["gap"] + known.gap + 1e-6) * turnover
            )
            if not live.programs[0].problem.is_mixed_integer():
                assert found["cost"] == pytest.approx(known.cost_usd, rel=1e-9, abs=1e-9)
            assert found["cost"] == pytest.approx(sum(found["parts"].values()))
            said = seen.page.inner_text(".evcm-said")
            assert f"{found['cost']:.2f} USD" in said
            drawn = seen.page.evaluate("document.querySelector('.evcm-graph').data[0].y")
            first = seen.page.evaluate("document.querySelector('.evcm-graph').data[0].meta.output")
            np.testing.assert_allclose(drawn, found["outputs"][first], atol=1e-12)
        assert seen.errors == []
        assert seen.requests == []


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["http", "file"])
def test_the_market_in_the_browser_is_the_package_s(scheme, chromium, addresses):
    live = pages()["market"]
    with b.visit(chromium, f"{addresses[scheme]}/market.html") as seen:
        for changes in MARKET[1:]:
            found = answer_of(seen.page, live.setting(**changes))
            shown, each = found["outputs"], market.problems(changes)
            for k, problem in enumerate(each):
                plan = solve(problem, gap=1e-3)
                slack = 2e-3 * plan.cost.turnover_usd
                assert plan.bound_usd - 1e-6 <= shown[f"expected_{k}_usd"][0]
                assert shown[f"expected_{k}_usd"][0] <= plan.cost_usd + slack
            power = np.array([shown[f"power_equilibrium_{k}"] for k in range(len(each))])
            for k, problem in enumerate(each):
                here = against(problem, power.sum(axis=0) - power[k])
                paid = here.day_ahead_payment_usd(power[k]).sum() + shown["wear_equilibrium"][k]
                best = solve(here, gap=1e-3)
                assert best.cost_usd >= paid - shown["epsilon_usd"][0] - 1e-6
            whole = solve(joint_problem(each), gap=1e-3)
            slack = 1e-6 * whole.cost.turnover_usd
            assert found["bound"] <= whole.cost_usd + slack
            assert whole.bound_usd <= found["cost"] + slack
            cells = seen.page.locator("tr[data-row=joint] td").all_inner_texts()
            assert cells[-1] == f"{found['parts']['joint']:.2f}"
            assert sum(map(float, filter(None, cells[:-1]))) == pytest.approx(
                float(cells[-1]), abs=0.03
            )
        assert seen.errors == []


@pytest.mark.browser
def test_a_page_weighs_less_than_two_megabytes(folder):
    for name in pages():
        files = ["evcm-highs.js", "plotly.js", "evcm.js", "evcm-live.js", f"{name}.html"]
        assert sum(len(gzip.compress((folder / f).read_bytes())) for f in files) < 2_000_000


@pytest.mark.browser
def test_an_impossible_setting_says_which_limits_stand_in_the_way(chromium, addresses):
    live = pages()["aggregator"]
    with b.visit(chromium, f"{addresses['file']}/aggregator.html") as seen:
        setting = live.setting(cap_mw=0.01)
        found = answer_of(seen.page, setting)
        said = seen.page.inner_text(".evcm-said")
        assert "No plan exists" in said
        ways = {w["name"]: w["value"] for w in found["ways"]}
        assert f"cap of at least {ways['cap_mw']:.2f} MW" in said
        for name, value in ways.items():
            slider = next(s for s in live.sliders if s.name == name)
            live.solve(**{**setting, name: round(value, 6)})  # a plan exists there
            before = value - slider.step if slider.more else value + slider.step
            with pytest.raises(InfeasibleError):
                live.solve(**{**setting, name: round(before, 6)})


@pytest.mark.browser
def test_a_connection_that_is_too_small_is_named(chromium, addresses):
    live = pages()["building"]
    with b.visit(chromium, f"{addresses['http']}/building.html") as seen:
        setting = live.setting(connection_kw=5, pv_kw=0, shifting=0)
        found = answer_of(seen.page, setting)
        value = {w["name"]: w["value"] for w in found["ways"]}["connection_kw"]
        assert f"connection of at least {value:.0f} kW" in seen.page.inner_text(".evcm-said")
        live.solve(**{**setting, "connection_kw": value})
        with pytest.raises(InfeasibleError):
            live.solve(**{**setting, "connection_kw": value - 5})


@pytest.mark.browser
def test_a_long_solve_shows_progress_and_a_new_move_ends_it(chromium, addresses):
    live = pages()["market"]
    with b.visit(chromium, f"{addresses['http']}/market.html") as seen:
        tab = seen.page
        answer_of(tab, live.setting())
        tab.evaluate(SET, {"cars": 480, "v2g": 1, "wear": 0.1})
        tab.wait_for_selector(".evcm-live[data-state=solving]")
        assert tab.inner_text(".evcm-live-state").startswith("Solving: ")
        assert tab.is_enabled("[data-slider=cars]")
        for cars in (400, 320, 240, 160):
            tab.evaluate(SET, {"cars": cars, "v2g": 0, "wear": 1.0})
        last = live.setting(cars=160)
        tab.wait_for_function(SETTLED, arg=last, timeout=120_000)
        assert "480" not in tab.inner_text(".evcm-said")
        assert int(tab.get_attribute(".evcm-live", "data-solved")) < 12
        assert seen.errors == []


@pytest.mark.browser
def test_without_the_solver_the_precomputed_figure_says_so(chromium, addresses):
    address = f"{addresses['http']}/aggregator-bare.html"
    with b.visit(chromium, address) as seen:
        seen.page.wait_for_selector(".evcm-live[data-state=precomputed]")
        assert "built without the solver" in seen.page.inner_text(".evcm-live-state")
        assert not seen.page.is_visible("[data-slider=cars]")
        assert seen.page.evaluate("document.querySelector('.evcm-graph').data.length") == 3
    with b.visit(chromium, addresses["http"] + "/aggregator-bare.html") as seen:
        seen.page.add_init_script("delete window.WebAssembly")
        seen.page.goto(addresses["http"] + "/aggregator.html")
        seen.page.wait_for_selector(".evcm-live[data-state=precomputed]")
        assert "no WebAssembly" in seen.page.inner_text(".evcm-live-state")


@pytest.mark.browser
def test_link_toml_and_notebook_carry_the_setting(chromium, addresses, tmp_path):
    live = pages()["aggregator"]
    setting = live.setting(cars=48, wear=3.0, v2g=0)
    with b.visit(chromium, f"{addresses['http']}/aggregator.html") as seen:
        tab = seen.page
        first = answer_of(tab, setting)
        tab.click("[data-tool=link]")
        link = tab.input_value(".evcm-live-link")
        files = {}
        for tool in ("toml", "notebook"):
            with tab.expect_download() as waited:
                tab.click(f"[data-tool={tool}]")
            files[tool] = tmp_path / waited.value.suggested_filename
            waited.value.save_as(files[tool])
        tab.goto(link)
        tab.wait_for_function(SETTLED, arg=setting, timeout=60_000)
        again = tab.evaluate(ANSWER)
        assert again["cost"] == pytest.approx(first["cost"], rel=1e-9)
    assert page.read_setting(files["toml"], live) == setting
    assert tomllib.loads(files["toml"].read_text())["page"] == "aggregator"
    cells = json.loads(files["notebook"].read_text())["cells"]
    space = {}
    for cell in cells:
        exec("".join(cell["source"]), space)
    assert space["plan"].bound_usd <= first["cost"] + 1e-6
    assert first["bound"] <= space["plan"].cost_usd + 1e-6


@pytest.mark.browser
def test_a_phone_has_room_and_the_keyboard_moves_a_slider(chromium, addresses):
    with b.visit(
        chromium, f"{addresses['http']}/aggregator.html", viewport={"width": 375, "height": 800}
    ) as seen:
        tab = seen.page
        answer_of(tab, pages()["aggregator"].setting())
        assert tab.evaluate("document.documentElement.scrollWidth") <= 375
        tab.focus("[data-slider=wear]")
        tab.keyboard.press("ArrowRight")
        tab.wait_for_function(SETTLED, arg={"wear": 1.1}, timeout=60_000)
        tab.evaluate("document.documentElement.dataset.theme = 'dark'")
        ink = plots.templates()["dark"]["layout"]["font"]["color"]
        tab.wait_for_function(
            "ink => document.querySelector('.evcm-graph')._fullLayout.font.color === ink", arg=ink
        )
        assert seen.errors == []


def test_the_drawing_library_is_the_one_of_plotly_in_this_environment():
    from importlib import metadata

    script = metadata.distribution("plotly").locate_file("plotly/package_data/plotly.min.js")
    assert evcm_live.DRAWING.version == evcm_live.CARTESIAN.version
    assert f"plotly.js v{evcm_live.DRAWING.version}" in script.read_text("utf-8")[:200]
    assert plotly.__version__
