"""The distribution analysis of the study: days of the feeder, supply quality, synthesis curve.

Works on the study's table ``transmission``. A day of all cases takes seconds and is computed when
asked for; the synthesis curve takes a minute or so and is stored under a fingerprint.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from evcm.errors import Checks
from evcm.feeder import synthesis
from evcm.feeder.states import FeederStates, supply_band
from evcm.feeder.synthesis import Characterisation
from evcm.store import fingerprint
from evcm.store.each import Jobs, Progress, each
from evcm.store.result import Result
from evcm.store.results import Store

CASE = ["scenario", "side", "regime"]
CURVE = "feeder/synthesis.parquet"


def day_totals(states: FeederStates) -> pd.DataFrame:
    """One row per scenario, side and regime: all feeders of all buses through the day.

    Columns: head_mwh (net energy into the feeders), losses_mwh, losses_percent (of what the loads
    and charging cars take), v2g_mwh, v_min_pu, v_max_pu, vuf_p95_percent, vuf_max_percent,
    hours_under and hours_over (of an average feeder and terminal, outside Peru's band).
    """
    flows, dt = states.flows(), states.cases.period_h
    low, high = supply_band()
    v = states.v_pu
    flows["under"] = (v < low).mean(axis=1)
    flows["over"] = (v > high).mean(axis=1)
    found = []
    for case, rows in flows.groupby(CASE, sort=False):
        n = rows["feeders"].to_numpy(float)
        mwh = {k: float(rows[f"{k}_kw"] @ n) * dt / 1000 for k in ("head", "losses", "v2g")}
        taken = float((rows["load_kw"] + rows["charge_kw"]) @ n) * dt / 1000
        periods = rows["period"].nunique()
        day_h = periods * dt
        found.append(
            {
                **dict(zip(CASE, case, strict=True)),
                "head_mwh": mwh["head"],
                "losses_mwh": mwh["losses"],
                "losses_percent": 100 * mwh["losses"] / taken,
                "v2g_mwh": mwh["v2g"],
                "v_min_pu": rows["v_min_pu"].min(),
                "v_max_pu": rows["v_max_pu"].max(),
                "vuf_p95_percent": float(np.percentile(rows["vuf_max_percent"], 95)),
                "vuf_max_percent": rows["vuf_max_percent"].max(),
                "hours_under": float(rows["under"] @ n / n.sum()) * day_h,
                "hours_over": float(rows["over"] @ n / n.sum()) * day_h,
            }
        )
    return pd.DataFrame(found)


def supply_quality(states: FeederStates, rural: bool = False) -> pd.DataFrame:
    """Voltage at every terminal by scenario, side and regime, against Peru's band.

    Columns scenario, side, regime, node, phase, v_min_pu, v_mean_pu, v_max_pu, hours_under,
    hours_over: hours of the day that an average feeder spends below and above the band there.
    """
    low, high = supply_band(rural)
    v, labels = states.v_pu, states.cases.labels
    found = []
    for case, rows in labels.groupby(CASE, sort=False):
        at = rows.index.to_numpy()
        weight = rows["feeders"].to_numpy(float)
        weight = weight / weight.sum()
        day_h = np.unique(states.cases.period[at]).size * states.cases.period_h
        found.append(
            pd.DataFrame(
                {
                    **dict(zip(CASE, case, strict=True)),
                    "node": [t.node for t in states.terminals],
                    "phase": [t.phase for t in states.terminals],
                    "v_min_pu": v[at].min(axis=0),
                    "v_mean_pu": weight @ v[at],
                    "v_max_pu": v[at].max(axis=0),
                    "hours_under": weight @ (v[at] < low) * day_h,
                    "hours_over": weight @ (v[at] > high) * day_h,
                }
            )
        )
    return pd.concat(found, ignore_index=True)


def day_profile(
    states: FeederStates, scenario: int, side: str, regime: str, bus: int | None = None
) -> pd.DataFrame:
    """Voltage by period and terminal of one case: columns period, node, phase, v_pu.

    The average over the buses' feeders, or that of one bus.
    """
    labels = states.cases.labels
    chosen = labels["regime"] == regime
    exact = chosen & (labels["scenario"] == scenario) & (labels["side"] == side)
    if exact.any() or regime != "no cars":  # the day without cars may stand once for all scenarios
        chosen = exact
    if bus is not None:
        chosen &= labels["bus"] == bus
    at = np.flatnonzero(chosen)
    c = Checks("day profile")
    asked = (scenario, side, regime, bus)
    c.require(at.size > 0, "scenario, side, regime, bus", asked, "a case that was solved")
    c.done()
    weight = labels["feeders"].to_numpy(float)[at]
    period = states.cases.period[at]
    v_pu = states.v_pu[at]
    found = []
    for p in np.unique(period):
        w = weight * (period == p)
        found.append(
            pd.DataFrame(
                {
                    "period": p,
                    "node": [t.node for t in states.terminals],
                    "phase": [t.phase for t in states.terminals],
                    "v_pu": w @ v_pu / w.sum(),
                }
            )
        )
    return pd.concat(found, ignore_index=True)


@dataclass(frozen=True, eq=False)
class RepeatTask:
    """Synthetic sets of one seed by every method and fraction, and their errors."""

    known: Characterisation
    seed: int

    @property
    def name(self) -> str:
        """Name in the step ``synthesis``."""
        return f"seed{self.seed}"

    def key(self) -> str:
        """Fingerprint of the full set, the seed, the feeder's data and the code."""
        code, data = fingerprint.of_code(RepeatTask), fingerprint.of_data("feeder")
        return fingerprint.of_content(code, data, self.known, self.seed)

    def run(self) -> Result:
        """Draw, solve and compare with the full set."""
        return Result.of_tables(curve=synthesis.error_curve(self.known, repeats=1, seed=self.seed))


def synthesis_curve(
    transmission: pd.DataFrame, folder: Path, repeats: int = 5, seed: int = 0, jobs: Jobs = 1,
    progress: Progress = lambda *_: None,
) -> pd.DataFrame:  # fmt: skip
    """The error curve of all methods, from `folder` if it is stored and fresh, else computed.

    Columns as in `evcm.feeder.synthesis.error_curve`.
    """
    known = synthesis.characterise(transmission)
    tasks = [RepeatTask(known, seed + repeat) for repeat in range(repeats)]
    key = fingerprint.of_content([task.key() for task in tasks])
    with Store(folder).locked("evcm synthesis") as store:
        if store.is_fresh(CURVE, key):
            return store.load_table(CURVE, key)
        known.states  # noqa: B018 (solved here once, not by every task)
        found = each(tasks, store, "synthesis", jobs, progress, "Synthesis")
        parts = [r.table("curve").assign(repeat=k) for k, r in enumerate(found)]
        facts = {"full_set": len(known), "repeats": repeats, "seed": seed}
        return store.save_table(CURVE, key, pd.concat(parts, ignore_index=True), facts)
