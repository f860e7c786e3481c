"""One study as one page of HTML that needs no network: the answer first, then figures and tables.

The page is made from the tables in a folder of results alone, whatever inputs they were made from.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
from plotly.offline import get_plotlyjs

from evcm.plots import coordination, hosting, network, study
from evcm.plots.html import alt_text
from evcm.store import files
from evcm.store.columns import described, stored_tables
from evcm.store.results import Store
from evcm.study import hosting as hosting_study
from evcm.study.tables import NEGLIGIBLE_MW, system_summary

MARK = "<!-- written by evcm report -->"
"""Second line of every page: a file with it may be written again."""

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1f2933; background: #fff; margin: 2rem auto;
  max-width: 60rem; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.5rem }
table { border-collapse: collapse; font-size: .85rem; display: block; overflow-x: auto }
th, td { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid #d7dce3 }
th { text-align: left } td.text { text-align: left }
figure { margin: 1.5rem 0 } figcaption { font-size: .85rem; color: #52606d }
"""

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
"""What the browser may load: nothing from anywhere."""


@dataclass(frozen=True)
class Results:
    """The tables of one study; `told` are its manifest's facts. Tables of other inputs are absent.

    Raises
    ------
    StaleError
        A table of the study is missing or damaged.
    """

    folder: Path
    _kept: dict[str, pd.DataFrame] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def told(self) -> dict[str, Any]:
        """Settings, inputs, versions and time of the study."""
        return Store(self.folder).record("manifest")

    def table(self, name: str) -> pd.DataFrame:
        """A stored table by its path without ending."""
        if name not in self._kept:
            self._kept[name] = Store(self.folder).load_table(f"{name}.parquet")
        return self._kept[name]

    @cached_property
    def others(self) -> list[str]:
        """Stored tables that were made from other inputs than the study."""
        record, mine = Store(self.folder).record, self.told.get("data")
        return [
            name
            for name in stored_tables(self.folder)
            if record(f"{name}.parquet").get("data", mine) != mine
        ]

    def has(self, group: str) -> bool:
        """Whether the tables of ``coordination`` or ``hosting`` are there, of the same inputs."""
        names = [name for name in stored_tables(self.folder) if name.startswith(f"{group}/")]
        return len(names) > 0 and not set(names) & set(self.others)

    @cached_property
    def hosting(self) -> dict[str, pd.DataFrame]:
        """Tables of the hosting study by name."""
        return {name: self.table(f"hosting/{name}") for name in hosting_study.TABLES}

    @cached_property
    def case(self) -> tuple[int, str]:
        """Scenario and side that the figures show: most cars, most energy."""
        plans = self.table("aggregators")
        number = plans.groupby("scenario")["cars"].sum().idxmax()
        return int(str(number)), "max" if "max" in set(plans["side"]) else "min"

    def mine(self, name: str) -> pd.DataFrame:
        """Rows of the case that is shown."""
        table, (number, side) = self.table(name), self.case
        return table[(table["scenario"] == number) & (table["side"] == side)]

    @property
    def period_h(self) -> float:
        """Length of a period."""
        return float(self.table("system")["period_h"].iloc[0])


def write(folder: Path, out: Path) -> int:
    """Write the page of a folder of results and return its size in bytes.

    Raises
    ------
    InputError
        There is a file that is no such page.
    StaleError
        A table of the study is missing or damaged.
    """
    ours = out.is_file() and MARK in out.read_text("utf-8", errors="replace")[:200]
    files.require_own([out], ours, "evcm report")
    text = page(folder)
    with files.atomic(out) as temporary:
        temporary.write_text(text, "utf-8")
    return len(text.encode())


def page(folder: Path) -> str:
    """The page of a folder of results."""
    r = Results(folder)
    r.table("system")
    title = f"What the cars do: {r.told.get('inputs', folder.name)}"
    parts = [
        f"<h1>{html.escape(title)}</h1>", "<h2>Answer</h2>",
        *(f"<p>{html.escape(text)}</p>" for text in answer(r)),
        "<h2>Figures</h2>", *(_figure(f) for f in figures(r)),
        "<h2>Tables</h2>", *_tables(r), "<h2>Columns of the stored tables</h2>", *_columns(r),
        "<h2>Provenance</h2>", _provenance(r),
    ]  # fmt: skip
    return (
        f"<!doctype html>\n{MARK}\n<html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        "<meta name='viewport' content='width=device-width'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head><body>\n" + "\n".join(parts) + "</body></html>\n"
    )


def answer(r: Results) -> Iterator[str]:
    """What was found, in sentences: numbers, proven gaps, and under which conditions they hold."""
    number, side = r.case
    days = system_summary(r.table("system"), r.table("transmission"))
    days = days[days["scenario"].isin([0, number]) & days["side"].isin(["none", side])]
    by_regime = {str(row["regime"]): row for row in days.to_dict("records")}
    mine, drawn = r.mine("aggregators"), r.table("gchr")
    need = drawn.loc[drawn["scenario"] == number, "gchr_mwh"]
    buses = r.mine("table_1")
    yield (
        f"The network alone peaks at {by_regime['no cars']['peak_load_mw']:,.2f} MW and "
        f"{_short(by_regime['no cars'])}. In scenario {number} {buses['departures'].sum():,} cars "
        f"leave home; over {len(need)} samples they need {need.min():.2f} to {need.max():.2f} MWh "
        f"for driving. What follows is the sample with the {'most' if side == 'max' else 'least'} "
        "energy."
    )
    said = {
        "uncontrolled": "Where each car recharges at once",
        "apart": "Where each aggregator plans apart",
        "maximum total": "Under the operator's caps of the largest sum",
    }
    for regime, words in said.items():
        row = by_regime[regime]
        yield (
            f"{words}, the peak is {row['peak_load_mw']:,.2f} MW, the lowest voltage "
            f"{row['v_min_pu']:.4f} pu, losses are {row['losses_mwh']:,.2f} MWh, and {_short(row)}."
        )
    for name, rows in mine.groupby("regime", sort=False):
        yield (
            f"Planned by the rule {name}, {len(rows)} aggregators expect to pay "
            f"{rows['cost_usd'].sum():,.2f} USD; it is proven that they cannot expect less than "
            f"{rows['bound_usd'].sum():,.2f} USD (largest gap of a plan {rows['gap'].max():.2%} of "
            f"its turnover).{_raised(rows)}"
        )
    if r.has("coordination"):
        yield _paid(r)
    if r.has("hosting"):
        yield from _hosted(r)
    groups = int(mine.groupby("regime")["groups"].sum().max())
    yield (
        f"These numbers hold for a horizon of {r.period_h * r.table('system')['period'].max():g} "
        f"hours in periods of {60 * r.period_h:g} minutes, seed {r.told['settings']['seed']}, and "
        f"{groups} schedules, each of a group of cars at a bus. Samples with the least and the "
        "most energy bound what was drawn, not what can happen. Every plan and every state of the "
        "network was checked again without the solver that made it."
    )


def _raised(rows: pd.DataFrame) -> str:
    raised = rows[rows["cap_raised_percent"] > 0].sort_values("cap_raised_percent")
    if not len(raised):
        return ""
    worst = raised.to_dict("records")[-1]
    return (
        f" {len(raised)} of them cannot live with their cap: at bus {worst['bus']} it had to rise "
        f"by {worst['cap_raised_percent']:.1f} %."
    )


def _short(row: Mapping[Hashable, Any]) -> str:
    if not row["nse_mwh"] > NEGLIGIBLE_MW:
        return "all power is supplied"
    buses = row["nsp_buses"].split(", ")
    where = f"bus {buses[0]}" if len(buses) == 1 else f"{len(buses)} buses"
    return f"{row['nse_mwh']:,.3f} MWh are not supplied, at {where}"


def _paid(r: Results) -> str:
    rows = r.mine("coordination/regimes")
    paid = rows.set_index("regime")["paid_usd"]
    bound = float(rows["joint_bound_usd"].iloc[0])
    ended = r.mine("coordination/equilibrium")
    return (
        "What is really paid, at the operator's own load with all cars: "
        + ", ".join(f"{name} {value:,.2f} USD" for name, value in paid.drop("no cars").items())
        + f". Were the forecast true, no plans of all cars would cost less than {bound:,.2f} USD "
        "(proven). In the equilibrium no aggregator can gain more than "
        f"{ended['epsilon_max_usd'].iloc[0]:.2f} USD alone."
    )


def _hosted(r: Results) -> Iterator[str]:
    for row in hosting_study.first_counts(r.hosting).to_dict("records"):
        if row["median"] < float("inf"):
            yield (
                f"Hosting, {row['regime']}: half of the {row['draws']} draws run short from "
                f"{row['median']:,.0f} cars on ({_sure(row)}); limit: {row['limit']}."
            )
        else:
            yield f"Hosting, {row['regime']}: half of the draws are served at all counts tried."


def _sure(row: dict[Hashable, Any]) -> str:
    if row["median_low"] != row["median_low"]:
        return "too few draws for a 95 % interval of the median"
    low, high = row["median_low"], row["median_high"]
    return f"95 % interval of the median {low:,.0f} to {high:,.0f}"


def figures(r: Results) -> Iterator[go.Figure]:
    """The figures of the book for this study: bills, loads, voltages, hosting, caps, maps."""
    number, side = r.case
    system, transmission = r.table("system"), r.table("transmission")
    if r.has("coordination"):
        yield coordination.bills(r.table("coordination/regimes"), number, side)
        yield coordination.totals(r.table("coordination/totals"), number, side, r.period_h)
    for what in ("load", "generation"):
        yield study.operation(system, number, side, what)
    yield study.voltages_by_bus(transmission, number, side)
    if r.has("hosting"):
        first = hosting_study.first_counts(r.hosting)
        yield hosting.slide(r.hosting, first, hosting_study.own_charger_kw(r.hosting))
    yield study.caps_by_bus(r.table("caps"), r.period_h)
    mine = r.mine("transmission"), r.mine("flows")
    ends = mine[1].drop_duplicates("branch")[["from_bus", "to_bus"]]
    places = network.layout(ends.itertuples(index=False, name=None))
    for regime in ("uncontrolled", "maximum total"):
        state, flow = (rows[rows["regime"] == regime] for rows in mine)
        highest = int(str(state.groupby("period")["ev_mw"].sum().idxmax()))
        figure = network.network_map(state, flow, highest, places)
        title = f"{regime}: {figure.layout.title.text}, when the cars take most"
        yield figure.update_layout(title_text=title)


def _figure(figure: go.Figure) -> str:
    drawn = pio.to_html(
        figure, include_plotlyjs=False, full_html=False, validate=False,
        config={"responsive": True, "displaylogo": False},
    )  # fmt: skip
    text = html.escape(alt_text(figure.to_dict()), quote=True)
    return f'<figure aria-label="{text}">{drawn}<figcaption>{text}</figcaption></figure>'


def _table(table: pd.DataFrame, decimals: int = 3) -> str:
    def cell(value: Any) -> str:
        if isinstance(value, float):
            return f"<td>{value:,.{decimals}f}</td>"
        kind = "" if isinstance(value, int) else " class='text'"
        return f"<td{kind}>{html.escape(str(value))}</td>"

    head = "".join(f"<th>{html.escape(str(c))}</th>" for c in table.columns)
    rows = (
        "<tr>" + "".join(map(cell, row)) + "</tr>"
        for row in zip(*(table[c].tolist() for c in table.columns), strict=True)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{html.escape(title)}</summary>{content}</details>"


def _tables(r: Results) -> Iterator[str]:
    shown: dict[str, Callable[[], pd.DataFrame]] = {
        "The operator's day by case": lambda: system_summary(
            r.table("system"), r.table("transmission")
        ),
        "Plans of the aggregators": lambda: r.table("aggregators"),
        "Cars by bus": lambda: r.table("table_1"),
    }
    if r.has("coordination"):
        shown["Regimes side by side"] = lambda: r.table("coordination/regimes")
        shown["What a cap costs each aggregator"] = lambda: r.table("coordination/allocation")
    if r.has("hosting"):
        shown["First numbers of cars that run short"] = lambda: hosting_study.first_counts(
            r.hosting
        )
    for title, make in shown.items():
        yield _folded(title, _table(make()))


def _columns(r: Results) -> Iterator[str]:
    yield (
        "<p>The tables lie in the folder of the results as Parquet files; <code>evcm results csv"
        "</code> writes them as CSV.</p>"
    )
    for name in stored_tables(r.folder):
        if name not in r.others:
            names = Store(r.folder).load_table(f"{name}.parquet").columns
            yield _folded(name, _table(described(name, names)))


def _provenance(r: Results) -> str:
    told = r.told
    facts = {
        "inputs": told.get("inputs"), "fingerprint of the inputs": told.get("data"),
        "made": told.get("made"), "seconds": f"{told.get('seconds', float('nan')):.0f}",
        "code": told.get("code"), "key of the run": told.get("key"),
        **{f"setting: {k}": v for k, v in told.get("settings", {}).items()},
        **{f"version: {k}": v for k, v in told.get("versions", {}).items()},
    }  # fmt: skip
    if r.others:
        facts["left out, of other inputs"] = ", ".join(r.others)
    table = pd.DataFrame({"fact": list(facts), "value": [str(v) for v in facts.values()]})
    return _table(table)
