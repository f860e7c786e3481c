"""How a node of the search is split: by the steps that its relaxed solution mixes."""

from __future__ import annotations

import numpy as np

from evcm.aggregator._highs import Answer
from evcm.aggregator._market import Steps, choose_steps
from evcm.aggregator._relaxation import Relaxation
from evcm.inputs import BoolArray, FloatArray


def split(
    relaxation: Relaxation, steps: Steps, answer: Answer, t: int
) -> tuple[list[Steps], str] | None:
    """Two parts of a node that no longer mix the steps of period `t`, and what was split.

    First the day-ahead step; where that is settled, the step of the sample whose true real-time
    cost exceeds the relaxed one most. None where nothing is mixed.
    """
    block, z, lp = relaxation.blocks[t], answer.column, relaxation.lp
    N, S = lp.problem.samples, lp.steps.real_time.shape[2]
    n, _, b = block.pair.T
    upper = _upper_half(np.bincount(block.step, z[block.z], S).astype(float))
    if upper is not None:
        parts = []
        for half in (~upper, upper):
            day_ahead = steps.day_ahead.copy()
            day_ahead[t] &= half
            parts.append(steps.restricted(day_ahead, steps.real_time))
        return parts, f"day-ahead step of period {t + 1}"
    weight = np.bincount(n * S + b, z[block.pair_z], N * S).reshape(N, S)
    for sample in np.argsort(-_sample_gaps(relaxation, answer, t)):
        upper = _upper_half(weight[sample])
        if upper is not None:
            parts = []
            for half in (~upper, upper):
                real_time = steps.real_time.copy()
                real_time[t, sample] &= half
                parts.append(steps.restricted(steps.day_ahead, real_time))
            return parts, f"real-time step of period {t + 1}, sample {sample + 1}"
    return None


def _sample_gaps(relaxation: Relaxation, answer: Answer, t: int) -> FloatArray:
    """True less relaxed real-time cost of each sample in period `t` (N,)."""
    lp, block, z = relaxation.lp, relaxation.blocks[t], answer.column
    power, traded = lp.power(z), lp.traded(z)
    a, b = choose_steps(lp.problem, lp.steps, power, traded)
    price = lp.steps.price_usd_per_mw
    true = (price[b[t]] - price[a[t]]) * (traded[t] - power[t]) * lp.problem.probability
    paid = block.cost * z[block.first : block.first + block.cost.size]
    pairs = paid[2 * block.step.size :].reshape(3, -1).sum(axis=0)
    return np.asarray(true - np.bincount(block.pair[:, 0], pairs, lp.problem.samples))


def _upper_half(weight: FloatArray) -> BoolArray | None:
    """Steps of the upper half of the weight; None where it lies on one step."""
    below = np.cumsum(weight)
    inside = np.flatnonzero((below > 1e-4) & (below < 1 - 1e-4))
    if not inside.size:
        return None
    middle = inside[np.argmin(np.abs(below[inside] - 0.5))]
    return np.asarray(np.arange(weight.size) > middle)


def halve(steps: Steps) -> list[Steps]:
    """Two parts of a node without a look at any solution; none where every step is settled."""
    for which in ("day_ahead", "real_time"):
        masks: BoolArray = getattr(steps, which)
        count = masks.sum(axis=-1)
        if count.max() > 1:
            at = np.unravel_index(int(np.argmax(count)), count.shape)
            allowed = np.flatnonzero(masks[at])
            upper = np.arange(masks.shape[-1]) >= allowed[allowed.size // 2]
            parts = []
            for half in (~upper, upper):
                mask = masks.copy()
                mask[at] &= half
                both = {"day_ahead": steps.day_ahead, "real_time": steps.real_time} | {which: mask}
                parts.append(steps.restricted(both["day_ahead"], both["real_time"]))
            return parts
    return []
