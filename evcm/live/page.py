"""A program with its sliders, figure and sentence as a block of a page.

In the built book the block carries the affine map, the figure at the start of the sliders, and the
scripts `live.js` and `worker.js` solve every other setting in the reader's browser. In a live
kernel the same sliders call Python.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from evcm.arrays import FloatArray
from evcm.errors import Checks
from evcm.live.program import Answer, Program, Slider, check_setting
from evcm.plots import html as plain
from evcm.store.files import read_toml

SCRIPTS = Path(__file__).parent
"""Folder of live.js, worker.js and live.css."""


@dataclass(frozen=True, eq=False)
class Page:
    """A live figure; make it the last expression of a cell.

    Attributes
    ----------
    name : str
        Names files and links.
    sliders : sequence of Slider
    programs : sequence of Program
        One, or one for each value of the slider `by`.
    figure : callable
        From an answer to a plotly figure. A trace with ``meta={"output": name}`` is drawn again
        from that output; ``over`` and ``times`` name sliders, ``factor`` is a number, ``shown``
        marks the entries that exist.
    said : str
        Sentence with fields such as ``{cost_usd:.2f}``: sliders, parts, outputs of size 1.
    notebook : sequence of str
        Cells that solve a setting with the package; ``{setting}`` stands for it. None: no download.
    by : str, optional
        Slider that chooses among programs.
    """

    name: str
    sliders: Sequence[Slider]
    programs: Sequence[Program]
    figure: Callable[[Answer], go.Figure]
    said: str
    notebook: Sequence[str] = ()
    by: str | None = None
    kind: str = "single"
    extra: Mapping[str, Any] = field(default_factory=dict)

    def setting(self, **values: float) -> dict[str, float]:
        """A checked setting; sliders left out stand at their start."""
        return check_setting(self.sliders, values, f"page {self.name}")

    def choices(self) -> list[float]:
        """Values of the slider `by`, one for each program."""
        if self.by is None:
            return []
        s = next(s for s in self.sliders if s.name == self.by)
        return [s.low + k * s.step for k in range(len(self.programs))]

    def solve(self, **values: float) -> Answer:
        """The answer in Python to a setting.

        Raises
        ------
        InputError
            A name or a value that no slider has.
        InfeasibleError
            No plan exists.
        """
        setting = self.setting(**values)
        k = 0 if self.by is None else self.choices().index(setting[self.by])
        return self.programs[k].solve(setting)

    def content(self, **vectors: FloatArray) -> dict[str, Any]:
        """Everything that the scripts need."""
        start = self.setting()
        return {
            "name": self.name, "kind": self.kind, "said": self.said, "by": self.by,
            "choices": self.choices(), "notebook": list(self.notebook),
            "sliders": [vars(s) for s in self.sliders],
            "models": [packed(p.model(start, **vectors)) for p in self.programs], **self.extra,
        }  # fmt: skip

    def to_html(self) -> str:
        """The block: sliders, sentence, figure at the start of the sliders, tools, model."""
        answer = self.solve()
        figure = plain.spec(self.figure(answer))
        data = json.dumps(self.content(), separators=(",", ":")).replace("<", "\\u003c")
        tools = (("link", "Link to this setting"), ("toml", "Setting as TOML"),
                 ("notebook", "Notebook"), ("reset", "Start again"))  # fmt: skip
        buttons = "".join(
            f'<button type="button" data-tool="{tool}">{label}</button>'
            for tool, label in tools
            if tool != "notebook" or self.notebook
        )
        said = html.escape(self.said.format(**answer.words()))
        drawn = plain.block(
            "evcm-plot", plain.alt_text(figure), {"base": figure}, plain.height(figure)
        )
        return (
            f'<div class="evcm-live" data-name="{self.name}">'
            f'<div class="evcm-controls evcm-live-only" hidden>{self._controls()}</div>'
            f'<p class="evcm-said" aria-live="polite">{said}</p>{drawn}{self.table(answer)}'
            '<p class="evcm-live-state" role="status"></p>'
            f'<div class="evcm-live-tools evcm-live-only" hidden>{buttons}'
            '<input class="evcm-live-link" aria-label="Link to this setting" readonly hidden></div>'
            f'<script type="application/json" class="evcm-live-model">{data}</script></div>'
        )

    def table(self, answer: Answer) -> str:
        """A table below the figure; none by default."""
        return ""

    def _controls(self) -> str:
        return "".join(_control(s) for s in self.sliders)

    def widget(self) -> Any:
        """ipywidgets that solve in Python, for a live kernel."""
        import ipywidgets

        made = {
            s.name: ipywidgets.FloatSlider(
                value=s.start, min=s.low, max=s.high, step=s.step, description=s.label,
                continuous_update=False, style={"description_width": "initial"},
                layout={"width": "28em"},
            )
            for s in self.sliders
        }  # fmt: skip

        def redraw(**values: float) -> None:
            answer = self.solve(**values)
            print(self.said.format(**answer.words()))
            self.figure(answer).show()

        return ipywidgets.interactive(redraw, **made)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        if plain.in_book():
            return {"text/html": self.to_html()}
        bundle: dict[str, Any] = self.widget()._repr_mimebundle_()
        return bundle


def packed(model: Any) -> Any:
    """A model with its entries (i, j, k, v) in an order that repeats, as differences.

    Compressed, they take a twentieth of the room; ``worker.js`` puts them back.
    """
    if not isinstance(model, dict):
        return model
    if set(model) != {"i", "j", "k", "v"}:
        return {name: packed(part) for name, part in model.items()}
    order = np.lexsort([np.array(model[name], float) for name in ("j", "i", "v", "k")])
    places = {n: np.diff(np.array(model[n], int)[order], prepend=0).tolist() for n in "ijk"}
    return {**places, "v": [model["v"][entry] for entry in order]}


def _control(s: Slider) -> str:
    label = html.escape(s.label, quote=True)
    if (s.low, s.high, s.step) == (0, 1, 1):
        kind = f'type="checkbox"{" checked" if s.start else ""}'
    else:
        ends = f'min="{s.low:g}" max="{s.high:g}" step="{s.step:g}"'
        kind = f'type="range" {ends} value="{s.start:g}"'
    return (
        f'<label class="evcm-control"><span>{label}: <output>{s.start:g} {s.unit}</output></span>'
        f'<input {kind} data-slider="{s.name}" aria-label="{label}"></label>'
    )


def read_setting(path: str | Path, page: Page) -> dict[str, float]:
    """Read a setting that a page's reader has downloaded (.toml).

    Raises
    ------
    InputError
        Not a setting of this page; every fault is named.
    """
    path = Path(path)
    content, c = read_toml(path), Checks(str(path))
    c.require(content.get("page") == page.name, "page", content.get("page"), page.name)
    for name in set(content) - {"page", "setting"}:
        c.require(False, name, content[name], "page and [setting]")
    values = content.get("setting")
    if not isinstance(values, dict):
        c.require(False, "setting", values, "a table of numbers")
        values = {}
    for name, value in values.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        c.require(number, f"setting.{name}", value, "a number")
    c.done()
    return check_setting(page.sliders, values, str(path))
