"""Sliders: one description, a precomputed grid in a page, widgets in a live kernel."""

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


class Explorer:
    """A figure with sliders, shown by being the last expression of a cell; see `explore`."""

    made: list[Explorer] = []  # noqa: RUF012 - a register, so that tests can move every slider

    def __init__(
        self,
        function: Callable[..., Any],
        parameters: Mapping[str, Sequence[Any]],
        start: Mapping[str, Any],
        labels: Mapping[str, str],
        alt: str,
    ) -> None:
        self.function, self.parameters, self.alt = function, dict(parameters), alt
        self.start = {name: start.get(name, values[0]) for name, values in parameters.items()}
        self.labels = {name: labels.get(name, name.replace("_", " ")) for name in parameters}
        Explorer.made.append(self)

    def figure(self, **values: Any) -> go.Figure:
        """The figure at given parameter values (default: where the sliders start)."""
        return self._answer({**self.start, **values})[0]

    def _answer(self, values: Mapping[str, Any]) -> tuple[go.Figure, str]:
        answer = self.function(**values)
        figure, said = answer if isinstance(answer, tuple) else (answer, "")
        if self.alt and not (figure.layout.meta or {}).get("alt"):
            describe(figure, self.alt)
        return figure, said

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
        values = self.parameters[name]
        texts = json.dumps([_show(v) for v in values], ensure_ascii=False)
        at = list(values).index(self.start[name])
        label, shown = html.escape(self.labels[name]), html.escape(_show(self.start[name]))
        return (
            f'<label class="evcm-control"><span>{label}: <output>{shown}</output></span>'
            f'<input type="range" min="0" max="{len(values) - 1}" step="1" value="{at}" '
            f'aria-label="{html.escape(self.labels[name], quote=True)}" aria-valuetext="{shown}" '
            f'data-texts="{html.escape(texts, quote=True)}"></label>'
        )

    def widget(self) -> Any:
        """ipywidgets that call the function again at every move, for a live kernel."""
        import ipywidgets

        sliders = {
            name: ipywidgets.SelectionSlider(
                options=[(_show(v), v) for v in values],
                value=self.start[name],
                description=self.labels[name],
                continuous_update=False,
                style={"description_width": "initial"},
                layout={"width": "28em"},
            )
            for name, values in self.parameters.items()
        }

        def redraw(**values: Any) -> None:
            figure, said = self._answer(values)
            if said:
                print(said)
            figure.show()

        return ipywidgets.interactive(redraw, **sliders)

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
) -> Explorer:
    """A figure with one slider per parameter, from one description for page and kernel.

    In the built book the figures of all combinations are precomputed and a slider shows another of
    them; in a live kernel the function runs again at every move. Make it the last expression of a
    cell.

    Parameters
    ----------
    function : callable
        Called as ``function(**values)``; returns a plotly figure, or a pair (figure, sentence).
    parameters : mapping
        Name of each keyword of `function` and the values its slider offers, in order.
    start : mapping, optional
        Value at which a slider starts; the first one by default.
    labels : mapping, optional
        Text beside a slider, with the unit; the name of the parameter by default.
    alt : str
        What the figure shows, for readers who cannot see it.

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
    checks.done()
    return Explorer(function, values, start or {}, labels or {}, alt)


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
