"""Starting prices: the price at the system's own load, the same in every sample.

Two other starts were measured on 682 single cars and did not pay: prices of the problem with free
real-time trade (one multiplier per period) cost 0.8 s and saved at most one round in thirty, and a
coarse start with 8 clusters per sample took longer than starting with all 64, since a round costs
what the market's rows cost.
"""

from __future__ import annotations

import numpy as np

from evcm.aggregator._sc_market import Duals, Market
from evcm.inputs import FloatArray


def system_prices(market: Market) -> FloatArray:
    """Price of each period at the system load without the aggregator, USD per MW (T)."""
    p = market.problem
    step = np.searchsorted(p.price.edge_mw, p.system_load_mw)
    return np.asarray(market.usd_per_mwh[np.minimum(step, len(p.price) - 1)])


def spread(market: Market, price: FloatArray) -> Duals:
    """Multipliers with one price per period, the real-time limit without value."""
    T, N = market.shape
    wide = price[:, None] * market.problem.probability
    none = np.zeros((T, N))
    return Duals(wide, none, none, price, wide, none)
