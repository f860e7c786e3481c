"""A transmission table for the feeder's tests: plausible, complete, made here."""

from __future__ import annotations

import numpy as np
import pandas as pd

from evcm.coordination.regimes import STUDY
from evcm.inputs import paper

PEAK_MW = dict(
    zip(paper().buses, (21.7, 94.2, 47.8, 7.6, 11.2, 29.5, 9.0, 3.5, 6.1, 13.5, 14.9), strict=True)
)
REGIMES = STUDY


def transmission(
    scenarios: tuple[int, ...] = (1,),
    sides: tuple[str, ...] = ("min", "max"),
    regimes: tuple[str, ...] = REGIMES,
    buses: tuple[int, ...] = paper().buses,
    seed: int = 1,
) -> pd.DataFrame:
    """Daily load with a morning and an evening peak; voltage falls with load; cars by regime."""
    rng = np.random.default_rng(seed)
    hour = np.arange(paper().periods) / 2
    factor = (
        0.85 + 0.08 * np.sin((hour - 8) / 24 * 2 * np.pi) + 0.07 * np.exp(-((hour - 19) ** 2) / 6)
    )
    rows = []
    for scenario in scenarios:
        for side in sides:
            for bus in buses:
                plug = rng.normal(0, 0.25, paper().periods) * scenario
                for regime in regimes:
                    ev = {
                        "no cars": 0 * hour,
                        "uncontrolled": 0.3 * scenario * np.exp(-((hour - 20) ** 2) / 8),
                        "apart": plug,
                        "maximum total": 0.6 * plug,
                    }[regime]
                    load = PEAK_MW[bus] * factor
                    v = 1.045 - 0.03 * factor - 0.002 * (bus % 5) - 0.0004 * ev
                    rows.append(
                        pd.DataFrame(
                            {
                                "scenario": scenario,
                                "side": side,
                                "regime": regime,
                                "period": np.arange(1, paper().periods + 1),
                                "bus": bus,
                                "v_pu": v,
                                "load_mw": load + ev,
                                "ev_mw": ev,
                                "nsp_mw": 0.0,
                            }
                        )
                    )
    return pd.concat(rows, ignore_index=True)


def one(head_v_pu: float = 1.0, load_scale: float = 1.0, ev_kw: float = 0.0, period: int = 1):  # type: ignore[no-untyped-def]
    """A single feeder case."""
    from evcm.feeder import FeederCases

    return FeederCases(
        np.array([period]), np.array([head_v_pu]), np.array([load_scale]), np.array([ev_kw])
    )
