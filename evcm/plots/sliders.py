"""Controls of a figure: one description, a precomputed grid in a page, widgets in a live kernel.

A quantity (cars, kW, a share, the time of day) gets a slider; a category gets buttons, or a list
where it has more than `MOST_BUTTONS` values.
"""

from __future__ import annotations

import html
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from evcm.errors import Checks
from evcm.plots.html import alt_text, block, describe, difference, height, in_book, spec

MAX_GRID = 400
"""Most combinations that `explore` precomputes for a page."""


CATEGORIES = frozenset({"scenario", "bus"})
"""Parameters whose numbers are names, not quantities."""

MOST_BUTTONS = 6

PERIOD = "period"
"""The parameter that counts the periods of a day from 1; it is shown as clock time."""


class Explorer:
    """A figure with controls, shown by being the last expression of a cell; see `explore`."""

    made: list[Explorer] = []  # noqa: RUF012 - a register, so that tests can move every slider

    def __init__(
        self,
        function: Callable[..., Any],
        parameters: Mapping[str, Sequence[Any]],
        start: Mapping[str, Any],
        labels: Mapping[str, str],
        alt: str,
        continuous: Iterable[str] = (),
    ) -> None:
        self.function, self.parameters, self.alt = function, dict(parameters), alt
        self.continuous = frozenset(continuous)
        self.start = {name: start.get(name, values[0]) for name, values in parameters.items()}
        self.labels = {name: labels.get(name, name.replace("_", " ")) for name in parameters}
        self.texts = {name: texts(name, values) for name, values in parameters.items()}
        Explorer.made.append(self)

    def figure(self, **values: Any) -> go.Figure:
        """The figure at given parameter values (default: where the sliders start)."""
        return self._answer({**self.start, **values})[0]

    def _answer(self, values: Mapping[str, Any]) -> tuple[go.Figure, str]:
        answer = self.function(**values)
        figure, said = answer if isinstance(answer, tuple) else (answer, "")
        alt = (figure.layout.meta or {}).get("alt") or self.alt
        if said and alt and said not in alt:
            alt = f"{alt.rstrip('.')}. {said}"  # what the figure shows, then what it says
        return describe(figure, alt) if alt else figure, said

    def to_html(self) -> str:
        """Sliders over a precomputed grid, for a page without a kernel."""
        grid = list(itertools.product(*self.parameters.values()))
        specs, said = [], []
        for values in grid:
            figure, sentence = self._answer(dict(zip(self.parameters, values, strict=True)))
            specs.append(spec(_narrow(figure)))
            said.append(sentence)
        index = grid.index(tuple(self.start.values()))
        base = specs[index]
        content: dict[str, Any] = {
            "base": base,
            "sizes": [len(v) for v in self.parameters.values()],
            "patches": [difference(base, spec) for spec in specs],
        }
        if any(said):
            content["said"] = said
        controls = "".join(self._control(name) for name in self.parameters)
        controls = f'<div class="evcm-controls">{controls}</div>'
        if any(said):
            controls += f'<p class="evcm-said" aria-live="polite">{html.escape(said[index])}</p>'
        return block("evcm-plot evcm-explore", alt_text(base), content, height(base), controls)

    def _control(self, name: str) -> str:
        shown, at = self.texts[name], list(self.parameters[name]).index(self.start[name])
        words, kind = (
            [html.escape(text, quote=True) for text in shown],
            control(name, self.parameters[name]),
        )
        label = html.escape(self.labels[name], quote=True)
        if kind == "slider":
            every = html.escape(json.dumps(shown, ensure_ascii=False), quote=True)
            return (
                f'<label class="evcm-control"><span>{label}: <output>{words[at]}</output></span>'
                f'<input type="range" min="0" max="{len(words) - 1}" step="1" value="{at}" '
                f'aria-label="{label}" aria-valuetext="{words[at]}" data-texts="{every}"></label>'
            )
        if kind == "list":
            options = "".join(
                f'<option value="{i}"{" selected" * (i == at)}>{w}</option>'
                for i, w in enumerate(words)
            )
            return (
                f'<label class="evcm-control"><span>{label}</span>'
                f'<select aria-label="{label}">{options}</select></label>'
            )
        buttons = "".join(
            f'<label><input type="radio" value="{i}"{" checked" * (i == at)}><span>{w}</span>'
            "</label>"
            for i, w in enumerate(words)
        )
        return (
            '<fieldset class="evcm-control evcm-buttons" role="radiogroup">'
            f"<legend>{label}</legend>{buttons}</fieldset>"
        )

    def widget(self) -> Any:
        """ipywidgets that call the function again at every move, for a live kernel."""
        import ipywidgets

        def redraw(**values: Any) -> None:
            figure, said = self._answer(values)
            if said:
                print(said)
            figure.show()

        controls = {name: self._widget(name) for name in self.parameters}
        return ipywidgets.interactive(redraw, **controls)

    def _widget(self, name: str) -> Any:
        import ipywidgets

        values, shown = self.parameters[name], self.texts[name]
        look = {
            "value": self.start[name], "description": self.labels[name],
            "style": {"description_width": "initial"}, "layout": {"width": "28em"},
        }  # fmt: skip
        if name in self.continuous:
            low, high = float(min(values)), float(max(values))
            step = (high - low) / 200
            return ipywidgets.FloatSlider(min=low, max=high, step=step, **look)
        kinds = {
            "slider": ipywidgets.SelectionSlider, "list": ipywidgets.Dropdown,
            "buttons": ipywidgets.ToggleButtons,
        }  # fmt: skip
        return kinds[control(name, values)](options=list(zip(shown, values, strict=True)), **look)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        if in_book():
            return {"text/html": self.to_html()}
        bundle: dict[str, Any] = self.widget()._repr_mimebundle_()
        return bundle


def explore(
    function: Callable[..., Any],
    parameters: Mapping[str, Iterable[Any]],
    *,
    start: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
    alt: str = "",
    continuous: Iterable[str] = (),
) -> Explorer:
    """A figure with one control per parameter, from one description for page and kernel.

    In the built book the figures of all combinations are precomputed and a control shows another of
    them; in a live kernel the function runs again at every move. Make it the last expression of a
    cell.

    Parameters
    ----------
    function : callable
        Called as ``function(**values)``; returns a plotly figure, or a pair (figure, sentence).
    parameters : mapping
        Name of each keyword of `function` and the values offered, in order. Numbers get a slider,
        words buttons or a list; ``period`` is shown as clock time.
    start : mapping, optional
        Value at which a control starts; the first one by default.
    labels : mapping, optional
        Text beside a control, with the unit; the name of the parameter by default.
    alt : str
        What the figure shows, for readers who cannot see it.
    continuous : iterable of str
        Parameters for which `function` takes any number between the least and the largest value
        offered: in a live kernel their slider is continuous.

    Raises
    ------
    InputError
        No parameter, a parameter with fewer than two values, a start that is not among the
        values, or more than `MAX_GRID` combinations.
    """
    values = {name: list(v) for name, v in parameters.items()}
    checks = Checks("explore")
    checks.require(bool(values), "parameters", dict(values), "at least one parameter")
    for name, offered in values.items():
        checks.require(len(offered) >= 2, name, offered, "at least two values")
        first = (start or {}).get(name, offered[0] if offered else None)
        checks.require(first in offered, f"start of {name}", first, f"one of {offered}")
    for name in set(start or {}) - set(values):
        checks.require(False, "start", name, "a parameter: " + ", ".join(values))
    count = int(np.prod([len(v) for v in values.values()])) if values else 0
    checks.require(count <= MAX_GRID, "combinations", count, f"<= {MAX_GRID}")
    for name in set(continuous) - set(values):
        checks.require(False, "continuous", name, "a parameter: " + ", ".join(values))
    checks.done()
    return Explorer(function, values, start or {}, labels or {}, alt, continuous)


def control(name: str, values: Sequence[Any]) -> str:
    """Which control a parameter gets: ``slider``, ``buttons`` or ``list``."""
    quantity = all(isinstance(v, (int, float, np.number)) for v in values)
    if quantity and name not in CATEGORIES:
        return "slider"
    return "buttons" if len(values) <= MOST_BUTTONS else "list"


def texts(name: str, values: Sequence[Any]) -> list[str]:
    """How values are shown: periods of a day of 24, 48 or 96 as clock time, thousands set apart."""
    if name == PERIOD:
        minutes = 1440 // next(n for n in (24, 48, 96) if n >= max(values))
        return ["{:02d}:{:02d}".format(*divmod((v - 1) * minutes, 60)) for v in values]
    whole = (int, np.integer)
    return [f"{v:,}" if isinstance(v, whole) and v >= 1000 else _show(v) for v in values]


def _show(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (float, np.floating)) else str(value)


def _narrow(figure: go.Figure) -> go.Figure:
    """Halve the data of a grid: four-byte numbers are exact to the pixel."""
    for trace in figure.data:
        for name in ("x", "y", "z"):
            values = getattr(trace, name, None)
            if isinstance(values, np.ndarray) and values.dtype == np.float64:
                trace[name] = values.astype(np.float32)
    return figure
