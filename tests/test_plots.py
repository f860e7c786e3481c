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

from evcm import inputs, plots
from evcm.coordination.regimes import STUDY
from evcm.errors import InputError
from evcm.plots import html
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
    assert page.count('type="range"') == 2
    assert 'aria-label="Waves"' in page


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


def test_day_shows_each_regime_against_the_capacity():
    rows = []
    for k, regime in enumerate(STUDY):
        scenario, side = (0, "none") if k == 0 else (3, "max")
        rows += [
            {
                "scenario": scenario,
                "side": side,
                "regime": regime,
                "period": p,
                "load_mw": 200.0 + k,
            }
            for p in range(1, inputs.PERIODS + 1)
        ]
    figure = plots_front.day(pd.DataFrame(rows), 3, "max", 259.0)
    assert [float(t.y[0]) for t in figure.data] == [200.0, 201.0, 202.0, 203.0]
    assert float(figure.data[0].x[-1]) == 23.5
    assert figure.layout.shapes[0].y0 == 259.0


def test_whole_numbers_are_shown_as_such():
    assert plots_explore._show(150.0) == "150"
    assert plots_explore._show("min") == "min"
