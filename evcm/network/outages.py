"""A day under the loss of any one branch (N-1), by the fast OPF."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from evcm.arrays import FloatArray, IntArray, freeze
from evcm.errors import Checks
from evcm.network.case import Day, branch_name, parts
from evcm.network.injections import Injections
from evcm.network.interior import solve
from evcm.network.opf import SERVED_MW, Assessment, assessment, opf_injections
from evcm.network.status import Status


@dataclass(frozen=True, eq=False)
class OutageDays:
    """The day under each outage; arrays are (outage, period).

    `branch` (n,) are the branches lost, by index; `nsp_mw` is inf where no operating point exists,
    and `losses_mw` and `v_min_pu` are nan there. `cut_off` names the buses that an outage separates
    from the slack; such a day is not solved, and its status is ISLANDED.
    """

    day: Day
    branch: IntArray
    nsp_mw: FloatArray = field(repr=False)
    losses_mw: FloatArray = field(repr=False)
    v_min_pu: FloatArray = field(repr=False)
    status: IntArray = field(repr=False)
    cut_off: tuple[tuple[int, ...], ...] = field(repr=False)

    def __post_init__(self) -> None:
        freeze(self, {"branch": np.int64, "status": np.int64})

    @property
    def islanding(self) -> IntArray:
        """Which of `branch` cut buses off, by position."""
        return np.flatnonzero([bool(buses) for buses in self.cut_off])

    def to_frame(self) -> pd.DataFrame:
        """One row per outage.

        Returns
        -------
        DataFrame
            ``branch`` (its buses and row), ``cut_off`` (buses), ``periods_short``,
            ``periods_without_state``, ``nse_mwh`` (of the periods with a state), ``worst_nsp_mw``,
            ``v_min_pu``.
        """
        known = np.isfinite(self.nsp_mw)
        short = known & (self.nsp_mw >= SERVED_MW)
        nsp = np.where(short, self.nsp_mw, 0.0)
        lowest = np.where(known, self.v_min_pu, np.inf).min(axis=1)
        return pd.DataFrame(
            {
                "branch": [branch_name(self.day.network, int(e)) for e in self.branch],
                "cut_off": [", ".join(map(str, buses)) for buses in self.cut_off],
                "periods_short": short.sum(axis=1),
                "periods_without_state": (~known).sum(axis=1),
                "nse_mwh": nsp.sum(axis=1) * self.day.period_h,
                "worst_nsp_mw": nsp.max(axis=1),
                "v_min_pu": np.where(known.any(axis=1), lowest, np.nan),
            }
        )


def assess_outages(
    day: Day,
    ev_mw: FloatArray | None = None,
    *,
    branches: Sequence[int] | None = None,
    threads: int | None = None,
) -> OutageDays:
    """Solve the AC OPF of every period under the loss of each branch, one at a time.

    `day` is the load without cars, `ev_mw` (T, K) the power of each aggregator, `branches` those to
    lose, by index from 0 (all unless given). The result does not depend on the `threads`, as many
    as the machine has processors unless given. An outage that cuts buses off is named and not
    solved: they would have no supply at all.

    Raises
    ------
    InputError
        No such branch.

    See Also
    --------
    evcm.network.opf.assess : the same day with every branch in service.
    """
    day = day if ev_mw is None else day.with_cars(ev_mw)
    net, count = day.network, day.network.branch_from.size
    lost = np.arange(count) if branches is None else np.asarray(branches, np.int64)
    c = Checks("outages")
    known = bool(((lost >= 0) & (lost < count)).all())
    c.require(known, "branches", lost.tolist(), f"indices of branches, 0..{count - 1}")
    c.done()
    cut_off = tuple(tuple(net.bus_number[parts(net, without=int(e)) != 0].tolist()) for e in lost)
    inj, todo = opf_injections(day), [i for i in range(lost.size) if not cut_off[i]]
    shape = (lost.size, day.n_periods)
    nsp, losses, lowest = np.full(shape, np.inf), np.full(shape, np.nan), np.full(shape, np.nan)
    status = np.full(shape, Status.ISLANDED, np.int64)
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:  # the kernel leaves the lock free
        found = pool.map(lambda i: _without(day, inj, int(lost[i])), todo)
        for i, state in zip(todo, found, strict=True):
            nsp[i], losses[i], lowest[i] = state.nsp_mw, state.losses_mw, state.v_min_pu
            status[i] = state.status
    return OutageDays(day, lost, nsp, losses, lowest, status, cut_off)


def _without(day: Day, inj: Injections, branch: int) -> Assessment:
    return assessment(day, inj, solve.solve(day, inj, without=branch, explain=False))
