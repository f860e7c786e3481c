"""Every verdict on a claim of the paper is computed: other numbers give other verdicts."""

import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import pandas as pd
import pytest

from evcm import data, inputs
from evcm.coordination.regimes import STUDY
from evcm.feeder.states import far_nodes
from evcm.feeder.synthesis import METRICS, paper_fractions
from evcm.inputs import paper
from evcm.study import claims
from evcm.study.claims import Evidence, Verdict

BOOK = Path(__file__).resolve().parents[1] / "book"
CASES = tuple(product((1, 2, 3), ("min", "max")))


@pytest.fixture
def evidence():
    """Tables of the study's form, by hand: everything supplied, apart flatter but with losses."""
    extra = {"no cars": 0.0, "uncontrolled": 2.0, "apart": 4.0, "maximum total": 3.0}
    factor = {"no cars": 0.914, "uncontrolled": 0.91, "apart": 0.92, "maximum total": 0.921}
    summary = [
        {"scenario": s, "side": side, "regime": r, "peak_load_mw": 250.1 + (r == "uncontrolled"),
         "load_factor": factor[r], "losses_mwh": 251.4 + extra[r], "nse_mwh": 0.0}
        for r in STUDY
        for s, side in (((0, "none"),) if r == "no cars" else CASES)
    ]  # fmt: skip
    aggregators = [
        {"scenario": s, "side": side, "regime": r, "bus": b, "energy_mwh": 4.0}
        for s, side in CASES for r in ("apart", "maximum total") for b in (2, 3)
    ]  # fmt: skip
    gchr = [{"scenario": s, "side": x, "gchr_mwh": 17.0 + (x == "max")} for s, x in CASES]
    price = {"uncontrolled": 3.0, "apart": 10.0, "maximum total": 5.0, "re-allocated": 10.0,
             "joint": 2.0}  # fmt: skip
    regimes = [
        {"scenario": s, "side": side, "regime": r, "paid_usd": v,
         "expected_usd": 2.0 if r == "maximum total" else 1.0}
        for s, side in CASES for r, v in price.items()
    ]  # fmt: skip
    quality = [
        {"scenario": s, "side": x, "regime": r, "node": n, "phase": p,
         "hours_under": 9.6 + (r == "apart") * (0.1 if p == "a" else 0.02)}
        for r in STUDY for s, x in (((0, "none"),) if r == "no cars" else CASES)
        for n in far_nodes() for p in "ac"
    ]  # fmt: skip
    fractions = (*paper_fractions(), 0.2, 0.3)
    curve = [
        {"method": "subset", "fraction": f, "repeat": k, **dict.fromkeys(METRICS, 0.1 - 0.1 * f)}
        for f in fractions for k in range(2)
    ]  # fmt: skip
    frames = (summary, aggregators, gchr, regimes, quality, curve)
    return Evidence(paper().day, *(pd.DataFrame(rows) for rows in frames))


def verdict(evidence, start):
    (found,) = (c for c in claims.judge(evidence) if c.says.startswith(start))
    return found.verdict


def test_at_least_ten_claims_each_with_numbers_and_a_chapter(evidence):
    judged = claims.judge(evidence)
    assert len(judged) >= 10
    labels = {
        m
        for page in BOOK.glob("*.md")
        for m in re.findall(r"(?m)^\((\w+)\)=", page.read_text("utf-8"))
    }
    for claim in judged:
        assert claim.published
        assert claim.ours
        assert claim.chapter in labels


def test_the_base_day_and_the_sizing_are_reproduced(evidence):
    assert verdict(evidence, "The day without cars") is Verdict.REPRODUCED
    assert verdict(evidence, "PV and battery") is Verdict.REPRODUCED


def test_apart_improves_on_uncontrolled_in_part_only(evidence):
    """Peak and load factor; not losses, not the bill."""
    assert verdict(evidence, "Decentralised management") is Verdict.PARTLY
    summary = evidence.summary.copy()
    summary.loc[summary["regime"] == "apart", "losses_mwh"] = 252.0
    regimes = evidence.regimes.copy()
    regimes.loc[regimes["regime"] == "apart", "paid_usd"] = 1.0
    better = replace(evidence, summary=summary, regimes=regimes)
    assert verdict(better, "Decentralised management") is Verdict.HOLDS


def test_a_shortage_changes_the_verdicts(evidence):
    assert verdict(evidence, "Scenario 3 falls short") is Verdict.FAILS
    assert verdict(evidence, "Scenarios 1 and 2") is Verdict.HOLDS
    summary = evidence.summary.copy()
    summary.loc[summary["regime"] == "apart", "nse_mwh"] = 1.0
    short = replace(evidence, summary=summary)
    assert verdict(short, "Scenario 3 falls short") is Verdict.HOLDS
    assert verdict(short, "Scenarios 1 and 2") is Verdict.FAILS


def test_caps_cost_aggregators_much(evidence):
    assert verdict(evidence, "Coordination asks for little") is Verdict.FAILS
    regimes = evidence.regimes.assign(expected_usd=1.0)
    assert verdict(replace(evidence, regimes=regimes), "Coordination asks") is Verdict.HOLDS


def test_far_nodes_can_differ_by_mean_and_by_worst_phase(evidence):
    assert verdict(evidence, "Far nodes") is Verdict.FAILS
    quality = evidence.quality.copy()
    apart = quality["regime"] == "apart"
    quality.loc[apart & (quality["phase"] == "a"), "hours_under"] = 9.4
    quality.loc[apart & (quality["phase"] == "c"), "hours_under"] = 9.5
    assert verdict(replace(evidence, quality=quality), "Far nodes") is Verdict.HOLDS
    quality.loc[apart & (quality["phase"] == "c"), "hours_under"] = 9.61
    assert verdict(replace(evidence, quality=quality), "Far nodes") is Verdict.PARTLY


def test_the_printed_rise_of_losses_is_a_slip():
    table = data.read_table("published/table5.csv").set_index("side")["losses_mwh"]
    rise = 100 * (table / table["none"] - 1)
    assert rise["min"] == pytest.approx(7.39, abs=0.005)
    assert rise["max"] == pytest.approx(5.90, abs=0.005)


def test_published_plans_under_caps_buy_several_times_what_their_cars_need():
    bought = data.read_table("published/table4.csv").groupby("side")["energy_mwh"].sum()
    driven = data.read_table("published/gchr_capped.csv").set_index("side")["gchr_mwh"]
    times = bought / (driven / inputs.paper().vehicles[0].charger.charge_efficiency)
    assert times["min"] == pytest.approx(6.6, abs=0.05)
    assert times["max"] == pytest.approx(4.4, abs=0.05)


def test_published_curves_add_up_to_the_published_tables():
    loads = data.read_table("published/load_scenario3.csv")
    printed = data.read_table("published/table3.csv").set_index(["scenario", "side"])
    for side, rows in loads.groupby("side"):
        assert rows["period"].tolist() == list(range(1, 49))
        row = printed.loc[(3, side)]
        assert 0.5 * rows["load_mw"].sum() == pytest.approx(row["demand_mwh"], abs=0.01)
        assert 0.5 * rows["nsp_mw"].sum() == pytest.approx(row["nse_mwh"], abs=0.02)
        assert rows["load_mw"].max() == pytest.approx(row["peak_mw"], abs=0.01)
    assert len(data.read_table("published/caps_total.csv")) == 48
