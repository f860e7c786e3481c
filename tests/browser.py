"""Driving the built book in Chromium: pages, figures and sliders."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
HTML = Path(os.environ.get("EVCM_BOOK_HTML", ROOT / "_build" / "html"))
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]

# What is drawn of a figure: the shapes of its marks, and what it was told to draw.
MARKS = """graph => {
  const marks = graph.querySelectorAll(
    '.trace, .points path, .bars path, .heatmaplayer image, .hm image, .slice, .js-line, ' +
    '.js-fill, .sankey-link, g.textpoint, .table, .indicatorlayer text, .contourlines path');
  const canvas = graph.querySelectorAll('.gl-canvas, .gl-container canvas');
  let drawn = 0;
  for (const m of marks) {
    const box = m.getBBox ? m.getBBox() : m.getBoundingClientRect();
    if (box.width > 0 || box.height > 0) drawn += 1;
  }
  const gl = canvas.length > 0 && (graph.data || []).some(t => t.type.includes('gl'));
  return drawn + (gl ? 1 : 0);
}"""

SIGNATURE = """graph => JSON.stringify([
  Array.from(graph.querySelectorAll('.cartesianlayer path, .barlayer path, .pielayer path'))
    .map(p => p.getAttribute('d')),
  Array.from(graph.querySelectorAll('.cartesianlayer image')).map(i => i.getAttribute('href')),
  (graph.data || []).map(t => [t.x, t.y, t.z, t.values, t.text, t.marker && t.marker.color]),
  Array.from(graph.querySelectorAll('.shapelayer path')).map(p => p.getAttribute('d')),
  Array.from(graph.querySelectorAll('.gtitle, .annotation-text')).map(t => t.textContent)])"""


@dataclass
class Visit:
    """A page that was opened, and what went wrong on it."""

    page: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def pages() -> list[str]:
    """All built pages below the root, without the theme's own."""
    return sorted(p.relative_to(HTML).as_posix() for p in HTML.glob("book/**/*.html"))


@contextmanager
def visit(browser: Any, address: str, **options: Any) -> Iterator[Visit]:
    """Open a page with every request outside of the book refused and noted."""
    context = browser.new_context(**options)
    try:
        tab = context.new_page()
        seen = Visit(tab)

        def handle(route: Any) -> None:
            url = route.request.url
            allowed = url.startswith(("file:", "data:", "blob:", "http://127.0.0.1:"))
            if allowed:
                route.continue_()
            else:
                seen.requests.append(url)
                route.abort()

        context.route("**/*", handle)
        tab.on("pageerror", lambda error: seen.errors.append(str(error)))
        tab.on(
            "console",
            lambda message: seen.errors.append(message.text) if message.type == "error" else None,
        )
        tab.goto(address, wait_until="load")
        if tab.query_selector(".evcm-plot"):
            tab.wait_for_selector("html[data-evcm-figures]", state="attached", timeout=60_000)
        # MathJax typesets after loading.
        tab.evaluate("window.MathJax && MathJax.startup ? MathJax.startup.promise : null")
        yield seen
    finally:
        context.close()


def signature(graph: Any) -> str:
    """What a figure shows now."""
    return str(graph.evaluate(SIGNATURE))


def move(tab: Any, graph: Any, slider: Any) -> list[str]:
    """Move a slider by keyboard over all its positions; what the figure shows at each."""
    slider.focus()
    tab.keyboard.press("Home")
    last = int(slider.get_attribute("max"))
    shown = []
    for step in range(last + 1):
        if step:
            tab.keyboard.press("ArrowRight")
        tab.wait_for_timeout(30)
        assert slider.input_value() == str(step)
        shown.append(signature(graph))
    return shown


def choose(tab: Any, graph: Any, control: Any) -> list[str]:
    """Go through the values of a list or of buttons; what the figure shows at each."""
    radios = control.query_selector_all("input[type=radio]")
    values = control.query_selector_all("option")
    shown = []
    for radio in radios:
        radio.evaluate("r => r.click()")
        tab.wait_for_timeout(30)
        shown.append(signature(graph))
    for value in values:
        control.query_selector("select").select_option(value.get_attribute("value"))
        tab.wait_for_timeout(30)
        shown.append(signature(graph))
    return shown


def frames(graph: Any) -> list[str]:
    """What a figure with plotly's own slider shows at each of the slider's steps."""
    count = graph.evaluate("g => g._fullLayout.sliders[0].steps.length")
    shown = []
    for step in sorted({0, count // 2, count - 1}):
        graph.evaluate(
            """(g, k) => {
              const step = g._fullLayout.sliders[0].steps[k];
              const [first, second] = step.args;
              if (step.method === 'animate') return Plotly.animate(g, first, second);
              return Plotly[step.method](g, ...step.args);
            }""",
            step,
        )
        shown.append(signature(graph))
    return shown


def manifest(tab: Any) -> dict[str, Any]:
    """Times of the page's loading, milliseconds."""
    content: dict[str, Any] = json.loads(
        tab.evaluate("JSON.stringify(performance.getEntriesByType('navigation')[0])")
    )
    return content
