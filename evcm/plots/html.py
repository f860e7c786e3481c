"""Figures as HTML and plain data for the scripts of the book (see `evcm.plots`)."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio


def in_book() -> bool:
    """Whether the book is being built (figures become static data, sliders a precomputed grid)."""
    return bool(os.environ.get("EVCM_BOOK"))


def describe(figure: go.Figure, alt: str) -> go.Figure:
    """Attach the text that a reader who cannot see the figure is given; return the figure."""
    figure.update_layout(meta={**(figure.layout.meta or {}), "alt": alt})
    return figure


def alt_text(figure: Mapping[str, Any]) -> str:
    """Text that stands for a figure: its own (`describe`), or its title, axes and series."""
    layout = figure.get("layout", {})
    own = (layout.get("meta") or {}).get("alt")
    if own:
        return str(own)
    title = _text(layout.get("title")) or "Figure"
    axes = [_text(layout.get(a, {}).get("title")) for a in ("xaxis", "yaxis")]
    names = [str(t["name"]) for t in figure.get("data", []) if t.get("name")]
    parts = [title]
    if all(axes):
        parts.append(f"{axes[1]} against {axes[0]}")
    if names:
        parts.append("series: " + ", ".join(dict.fromkeys(names)))
    return "; ".join(parts)


def _text(title: Any) -> str:
    return str(title.get("text") or "") if isinstance(title, Mapping) else str(title or "")


def figure_html(figure: go.Figure | Mapping[str, Any]) -> str:
    """A figure as HTML that the shared scripts of the book draw."""
    content = spec(figure)
    return block("evcm-plot", alt_text(content), {"base": content}, height(content))


def spec(figure: go.Figure | Mapping[str, Any]) -> dict[str, Any]:
    """Data and layout as plain JSON values, without the template (the page has it already)."""
    content: dict[str, Any] = json.loads(pio.to_json(figure, validate=False))
    content.get("layout", {}).pop("template", None)
    return {key: content[key] for key in ("data", "layout", "frames") if content.get(key)}


def height(spec: Mapping[str, Any]) -> int:
    """Height of a figure in pixels."""
    return int(spec.get("layout", {}).get("height") or 400)


def block(kind: str, alt: str, content: Mapping[str, Any], height: int, controls: str = "") -> str:
    """HTML of a figure: its controls, the place where it is drawn, and its data."""
    # "<" is escaped, so that no text inside can end the script element.
    data = json.dumps(content, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    label = html.escape(alt, quote=True)
    return (
        f'<div class="{kind}" role="group" aria-label="{label}">{controls}'
        f'<div class="evcm-graph" role="figure" aria-label="{label}" '
        f'style="height:{height}px"></div>'
        f'<script type="application/json" class="evcm-spec">{data}</script></div>'
    )


def difference(base: Any, other: Any) -> list[list[Any]]:
    """Assignments ``[path, value]`` that turn `base` into `other`; an empty path replaces it all.

    A path ends in a key that is set; a value wrapped as ``[path]`` alone removes the key.
    """
    found: list[list[Any]] = []
    _difference(base, other, [], found)
    return found


def _difference(base: Any, other: Any, path: list[Any], found: list[list[Any]]) -> None:
    if isinstance(base, dict) and isinstance(other, dict):
        found.extend([[*path, key]] for key in base.keys() - other.keys())
        for key, value in other.items():
            if key not in base:
                found.append([[*path, key], value])
            else:
                _difference(base[key], value, [*path, key], found)
    elif (
        isinstance(base, list)
        and isinstance(other, list)
        and len(base) == len(other)
        and any(isinstance(v, dict) for v in base)
    ):
        for i, (a, b) in enumerate(zip(base, other, strict=True)):
            _difference(a, b, [*path, i], found)
    elif base != other:
        found.append([path, other])
