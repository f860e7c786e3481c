"""Figures for pages and kernels: one description of a slider gives both."""

import base64
import json
import re

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evcm import plots
from evcm.coordination.regimes import REGIMES
from evcm.errors import InputError
from evcm.plots import cover, html
from evcm.plots import sliders as plots_explore
from evcm.plots import study as plots_front


def waves(number, name):
    x = np.linspace(0, 24, 49)
    figure = go.Figure(go.Scatter(x=x, y=np.sin(number * x), name=name))
    figure.update_layout(title_text=f"Waves {number}", xaxis_title_text="h", yaxis_title_text="MW")
    return figure, f"{number} waves"


def applied(base, patch):
    """What the page's script does with a patch."""
    spec = json.loads(json.dumps(base))
    for item in patch:
        path = item[0]
        if not path:
            spec = item[1]
            continue
        at = spec
        for key in path[:-1]:
            at = at[key]
        if len(item) == 1:
            del at[path[-1]]
        else:
            at[path[-1]] = item[1]
    return spec


def embedded(page):
    return json.loads(re.search(r'class="evcm-spec">(.*?)</script>', page, re.DOTALL)[1])


values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(values, values)
def test_difference_turns_one_value_into_the_other(base, other):
    assert applied(base, html.difference(base, other)) == other


def test_page_holds_the_figure_of_every_combination():
    explorer = plots.explore(
        waves, {"number": [1, 2, 5], "name": ["a", "b"]}, start={"number": 2}, alt="Waves"
    )
    page = explorer.to_html()
    content = embedded(page)
    assert content["sizes"] == [3, 2]
    assert len(content["patches"]) == 6
    assert content["said"][4] == "5 waves"
    spec = applied(content["base"], content["patches"][5])
    assert spec["layout"]["title"]["text"] == "Waves 5"
    assert spec["data"][0]["name"] == "b"
    packed = spec["data"][0]["y"]  # plotly packs numbers as base64
    assert packed["dtype"] == "f4"
    drawn = np.frombuffer(base64.b64decode(packed["bdata"]), "<f4")
    assert drawn == pytest.approx(np.sin(5 * np.linspace(0, 24, 49)), abs=1e-6)
    assert "template" not in content["base"]["layout"]
    assert page.count('type="range"') == 1
    assert page.count('type="radio"') == 2
    assert 'aria-label="Waves. 2 waves"' in page


def test_a_continuous_quantity_takes_any_value_in_a_kernel():
    explorer = plots.explore(
        waves, {"number": [1, 2, 5], "name": ["a", "b"]}, continuous=["number"]
    )
    widget = explorer.widget()
    widget.children[0].value = 3.5
    assert widget.children[0].max == 5
    with pytest.raises(InputError, match="continuous: got x"):
        plots.explore(waves, {"number": [1, 2]}, continuous=["x"])


def test_widgets_call_the_function_again():
    called = []

    def recorded(**values):
        called.append(values)
        return waves(**values)

    explorer = plots.explore(recorded, {"number": [1, 2], "name": ["a", "b"]})
    widget = explorer.widget()
    widget.children[0].value = 2
    assert called[-1] == {"number": 2, "name": "a"}
    assert explorer.figure(name="b").data[0].name == "b"


@pytest.mark.parametrize(
    ("parameters", "start", "field"),
    [
        ({}, {}, "at least one parameter"),
        ({"number": [1]}, {}, "at least two values"),
        ({"number": [1, 2]}, {"number": 7}, "start of number"),
        ({"number": [1, 2]}, {"other": 1}, "a parameter: number"),
        ({"number": range(30), "name": range(30)}, {}, "combinations: got 900"),
    ],
)
def test_bad_sliders_are_refused(parameters, start, field):
    with pytest.raises(InputError, match=field):
        plots.explore(waves, parameters, start=start)


def test_text_of_a_figure_cannot_leave_its_script():
    figure = go.Figure(layout_title_text="</script><b>")
    page = plots.figure_html(figure)
    assert page.count("</script>") == 1
    assert embedded(page)["base"]["layout"]["title"]["text"] == "</script><b>"


def test_every_figure_has_a_text():
    figure, _ = waves(2, "sine")
    assert html.alt_text(figure.to_dict()) == "Waves 2; MW against h; series: sine"
    assert html.alt_text(plots.describe(figure, "Two waves").to_dict()) == "Two waves"


def test_renderer_serves_pages_only_while_the_book_is_built(monkeypatch):
    assert pio.renderers.default != "evcm"
    monkeypatch.setenv("EVCM_BOOK", "1")
    assert plots.in_book()
    bundle = plots.BookRenderer().to_mimebundle(waves(1, "a")[0].to_dict())
    assert list(bundle) == ["text/html"]
    explorer = plots.explore(waves, {"number": [1, 2], "name": ["a", "b"]})
    assert "evcm-explore" in explorer._repr_mimebundle_()["text/html"]
    monkeypatch.delenv("EVCM_BOOK")
    assert "application/vnd.jupyter.widget-view+json" in explorer._repr_mimebundle_()


def test_both_templates_are_complete_and_differ():
    light, dark = plots.templates()["light"], plots.templates()["dark"]
    assert light.keys() == dark.keys()
    assert light["layout"]["font"]["color"] != dark["layout"]["font"]["color"]
    assert pio.templates.default == "evcm"


def contrast(colour, ground):
    def luminance(code):
        parts = [int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(colour), luminance(ground)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colour", sorted({*plots.REGIME_COLOURS.values(), *plots.SERIES}))
def test_colours_stand_out_on_light_and_on_dark(colour):
    # 2.5 of WCAG's ratio: lines and bars, beside labels that carry the same information.
    assert contrast(colour, "#ffffff") > 2.5
    assert contrast(colour, "#121212") > 2.5


def test_adoption_and_pairs_hold_their_data():
    growth = [{"region": "A", "percent": 17}, {"region": "B", "percent": 46}]
    figure = plots_front.adoption(growth)
    assert list(figure.data[0].x) == [17, 46]
    table = pd.DataFrame({"bus": [2, 3], "energy_mwh": [1.0, 2.0]})
    pairs = plots_front.beside(table, table * 2, "bus", "energy_mwh", "Energy", "MWh")
    assert [list(t.y) for t in pairs.data] == [[1.0, 2.0], [2.0, 4.0]]


def test_the_flow_chart_has_every_box_and_the_arrows_between():
    notes = plots_front.flow_chart().layout.annotations
    assert [a.text for a in notes if a.text] == [text for text, _, _ in plots_front.FLOW]
    assert sum(bool(a.showarrow) for a in notes) == len(plots_front.FLOW) - 1


def test_published_load_and_capacity_stand_beside_ours():
    rows = [
        {"scenario": n, "side": side, "regime": regime, "period": t, "load_mw": 200.0 + n + t}
        for n, side, regime in ((0, "none", "no cars"), (3, "max", "apart"))
        for t in (1, 2)
    ]
    theirs = pd.DataFrame({"side": ["max", "max"], "period": [1, 2], "load_mw": [260.0, 190.0]})
    figure = plots_front.system_load(
        pd.DataFrame(rows), "apart", "max", theirs, np.array([250.0, 255.0])
    )
    drawn = {trace.name: list(trace.y) for trace in figure.data}
    assert drawn["scenario 3, published"] == [260.0, 190.0]
    assert drawn["capacity"] == [250.0, 255.0]
    assert drawn["scenario 3"] == [204.0, 205.0]


def test_an_interval_is_written_in_two_languages():
    assert cover.interval(1912.4, 1834, 1960) == "1,912 (1,834 to 1,960)"
    assert cover.interval(4.246, 3.8, 4.5, "es", 2) == "4,25 (de 3,80 a 4,50)"


def hosted():
    """Two regimes of a hosting study, and the bills of two of its sizes."""
    free = pd.DataFrame({"charger_kw": 150.0, "cars": [0, 5000, 10_000], "nse_mwh": [0, 0, 8.0]})
    points = pd.DataFrame(
        {"regime": "apart", "charger_kw": 150.0, "v2g_share": 1.0, "feasible": True,
         "cars": [5000, 10_000], "nse_mwh": [0.0, 6.0]}
    )  # fmt: skip
    regimes = pd.DataFrame(
        {"cars": [2000, 2000, 4000, 4000], "side": "max",
         "regime": ["apart", "joint", "apart", "joint"], "paid_usd": [50.0, 20.0, 99.0, 40.0]}
    )  # fmt: skip
    return {"uncontrolled": free, "points": points}, regimes


@pytest.mark.parametrize(
    ("cars", "language", "said"),
    [
        (4000, "en", "At 4,000 cars everybody is supplied in every regime. What differs is the "
                     "bill: 40 USD joint, 99 USD apart."),
        (10_000, "en", "At 10,000 cars, energy not supplied in a day: uncontrolled 8.0 MWh; "
                       "apart 6.0 MWh."),
        (10_000, "es", "Con 10\u202f000 vehículos, energía no suministrada en un día: sin control "
                       "8,0 MWh; por separado 6,0 MWh."),
    ],
)  # fmt: skip
def test_cover_says_what_it_shows(cars, language, said):
    figure, sentence = cover.cover(*hosted(), 150.0, cars, 1.0, language)
    assert sentence == said
    assert said in figure.layout.meta["alt"]
    assert list(figure.data[-1].y) == [99.0, 40.0]  # the largest studied size that is not above


def test_every_regime_of_the_cover_has_a_spanish_name():
    assert set(cover.SPANISH) == set(REGIMES)
    assert cover.WORDS["en"].keys() == cover.WORDS["es"].keys()


def test_quantities_get_a_slider_and_categories_buttons_or_a_list():
    buses = {"bus": list(range(2, 10))}
    words = {"power": [1, 2.5], "side": ["min", "max"], **buses}
    page = plots.explore(lambda **_: waves(1, "a"), words)._control
    day = plots.explore(lambda **_: waves(1, "a"), {"period": range(1, 49)})._control
    assert 'type="range"' in page("power")
    assert page("side").count('type="radio"') == 2
    assert page("side").count("checked") == 1
    assert page("bus").count("<option") == 8
    assert plots_explore.texts("period", range(1, 49))[29] == "14:30"
    assert "23:30" in day("period")


def test_whole_numbers_are_shown_as_such():
    assert plots_explore._show(150.0) == "150"
    assert plots_explore._show("min") == "min"


def test_a_frame_is_shown_for_reading(monkeypatch):
    from evcm.plots import pages

    said = []
    monkeypatch.setattr(pages, "show", said.append)
    rows = pd.DataFrame({"bus": [2, 3], "nse_mwh": [1234.5678, np.nan], "is_short": [True, False]})
    pages.frame(rows)
    pages.frame(rows.set_index("bus")["nse_mwh"], 1)
    assert said[0].split("\n") == [
        "| bus | NSE, MWh | is short |", "|---:|---:|---|",
        "| 2 | 1,234.57 | yes |", "| 3 |  | no |",
    ]  # fmt: skip
    assert said[1].split("\n")[0] == "| bus | NSE, MWh |"
    assert pages.heading(("max", "peak_mw")) == "max peak, MW"
