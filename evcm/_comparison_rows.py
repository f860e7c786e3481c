"""Rows of the comparison's tables: one function per table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from evcm import opf
from evcm._joint_accounting import Account, Trade
from evcm.aggregator.plan import AggregatorPlan
from evcm.inputs import LOAD_BUSES, PERIOD_H, FloatArray
from evcm.reallocation import Reallocation, peak_use_mw

if TYPE_CHECKING:
    from evcm.comparison import CaseRun


def allocation_row(
    case: CaseRun, k: int, rule: str, cap_mw: FloatArray, plan: AggregatorPlan, raised: float,
    free: AggregatorPlan,
) -> dict[str, object]:  # fmt: skip
    use = peak_use_mw(plan)
    return {
        "scenario": case.number,
        "side": case.side,
        "rule": rule,
        "bus": LOAD_BUSES[k],
        "cars": int(case.cars_met[k]),
        "feasible": raised == 0.0,
        "least_raise_percent": raised,
        "cost_usd": plan.cost_usd,
        "bound_usd": plan.bound_usd,
        "free_cost_usd": free.cost_usd,
        "free_bound_usd": free.bound_usd,
        "cap_mwh": float(PERIOD_H * cap_mw.sum()),
        "unused_share": float(np.maximum(cap_mw - np.maximum(use, 0), 0).sum() / cap_mw.sum()),
        "periods_at_cap": int((use >= cap_mw - 1e-4).sum()),
    }


def regime_row(
    case: CaseRun, regime: str, trade: Trade, priced: Account, bound_usd: float
) -> dict[str, object]:
    day = opf.study_day(trade.day_ahead_mw)
    return {
        "scenario": case.number,
        "side": case.side,
        "cars": case.fleet.cars,
        "regime": regime,
        "cost_usd": priced.total_usd,
        "day_ahead_usd": priced.day_ahead_usd,
        "real_time_usd": priced.real_time_usd,
        "battery_usd": priced.battery_usd,
        "seen_usd": priced.seen_usd,
        "joint_bound_usd": bound_usd,
        "energy_mwh": float(PERIOD_H * trade.total_mw.sum()),
        "peak_ev_mw": float(trade.total_mw.max()),
        "peak_mw": day.peak_mw,
        "losses_mwh": day.losses_mwh,
        "nse_mwh": day.nse_mwh,
        "v_min_pu": float(day.v_min_pu.min()),
    }


def loop_row(case: CaseRun, loop: Reallocation) -> dict[str, object]:
    return {
        "scenario": case.number,
        "side": case.side,
        "rounds": len(loop.rounds),
        "residual_usd": float(loop.residual_usd.max()),
        "gain_usd": float(sum(r.gain_usd.sum() for r in loop.rounds)),
        "without_plan": sum(plan is None for plan in loop.start),
        "nse_mwh": loop.nse_mwh,
        "status": loop.status,
    }


def total_table(case: CaseRun, regime: str, trade: Trade) -> pd.DataFrame:
    total = trade.total_mw
    return pd.DataFrame(
        {
            "scenario": case.number,
            "side": case.side,
            "regime": regime,
            "period": np.arange(1, total.size + 1),
            "power_mw": total,
        }
    )
