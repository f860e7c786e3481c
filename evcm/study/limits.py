"""Which limit ends hosting: generation, branch ratings, voltages, or the loss of any one branch.

The same days go through networks of which one kind of limit is left in force. Voltages stay in
their range in all of them, since losses and ratings mean nothing outside it. The least count of
cars at which power goes unsupplied is the hosting capacity, and the network that says so names it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from evcm.arrays import BoolArray, FloatArray
from evcm.coordination.account import operate
from evcm.errors import Checks
from evcm.network import opf
from evcm.network.case import Day, Network
from evcm.store import fingerprint
from evcm.store.result import Result
from evcm.study.growing import GrowingDays

Limit = Literal["all limits", "generation", "branch ratings", "voltages"]
LIMITS: tuple[Limit, ...] = get_args(Limit)
"""Kinds of limits of the transmission network that can be left in force alone."""

AMPLE_MW = 1e4
"""Power of a slack generator that never binds."""

LATE_H = 13.0
"""A latest departure that hardly any car reaches; 19 % reach the paper's 9.5."""


def only(network: Network, limit: Limit) -> Network:
    """The network with voltages and one kind of limit in force, the others out of reach.

    Raises
    ------
    InputError
        There is no such kind.
    """
    c = Checks("network")
    c.require(limit in LIMITS, "limit", limit, ", ".join(LIMITS))
    c.done()
    changes: dict[str, Any] = {}
    if limit in ("branch ratings", "voltages"):
        at_slack = network.generator_bus == network.slack
        changes["p_max_mw"] = np.where(at_slack, AMPLE_MW, network.p_max_mw)
    if limit in ("generation", "voltages"):
        changes["limit_mva"] = np.full_like(network.limit_mva, np.inf)
    return replace(network, **changes)


def nse_by_limit(site: Day, sample_mw: FloatArray, probability: FloatArray) -> dict[Limit, float]:
    """Energy not supplied in a mean day (MWh) where only one kind of limit is in force.

    `sample_mw` (T, K, N) is the aggregators' power in every real-time day.
    """
    return {
        limit: operate(
            replace(site, network=only(site.network, limit)), sample_mw, probability
        ).nse_mwh
        for limit in LIMITS
    }


def _joined(network: Network, keep: BoolArray) -> BoolArray:
    """Buses that the branches in `keep` join to the slack. (nb,)"""
    ends = network.branch_from[keep], network.branch_to[keep]
    graph = coo_array((np.ones(ends[0].size), ends), shape=(network.n_bus, network.n_bus))
    part = connected_components(graph, directed=False)[1]
    return np.asarray(part == part[network.slack])


def without_branch(network: Network, branch: int) -> Network:
    """The network after the loss of a branch (index).

    Buses that it alone joins to the slack go with it; that is possible where they carry neither
    load nor aggregator, as bus 8 with its condenser.

    Raises
    ------
    InputError
        The loss cuts off load or an aggregator.
    """
    keep = np.arange(network.branch_from.size) != branch
    joined = _joined(network, keep)
    keep &= joined[network.branch_from]
    fields = ("branch_from", "branch_to", "resistance_pu", "reactance_pu", "charging_pu",
              "tap_ratio", "shift_deg", "limit_mva", "angle_min_deg", "angle_max_deg")  # fmt: skip
    changes = {name: getattr(network, name)[keep] for name in fields}
    needed = ~joined & (
        (network.load_p_mw != 0) | np.isin(np.arange(network.n_bus), network.ev_bus)
    )
    c = Checks(f"loss of branch {branch + 1}")
    c.require(
        not needed.any(), "buses cut off", network.bus_number[needed].tolist(), "none with load"
    )
    c.done()
    if not joined.all():
        new = np.cumsum(joined) - 1
        buses = ("bus_number", "bus_type", "load_p_mw", "load_q_mvar", "shunt_g_mw",
                 "shunt_b_mvar", "v_min_pu", "v_max_pu")  # fmt: skip
        units = joined[network.generator_bus]
        machines = ("p_min_mw", "p_max_mw", "q_min_mvar", "q_max_mvar")
        changes |= {name: getattr(network, name)[joined] for name in buses}
        changes |= {name: getattr(network, name)[units] for name in machines}
        changes["generator_bus"] = new[network.generator_bus[units]]
        changes["ev_bus"] = new[network.ev_bus]
        changes["branch_from"] = new[changes["branch_from"]]
        changes["branch_to"] = new[changes["branch_to"]]
    return replace(network, **changes)


def outage_day(site: Day, branch: int) -> Day:
    """The day after the loss of a branch."""
    net = without_branch(site.network, branch)
    kept = np.isin(site.network.bus_number, net.bus_number)
    return replace(
        site, network=net, load_p_mw=site.load_p_mw[:, kept], load_q_mvar=site.load_q_mvar[:, kept]
    )


@dataclass(frozen=True)
class LimitsTask:
    """First shortage of uncontrolled charging under one clamp of departures, limit by limit.

    `counts` for the curve.
    """

    latest_h: float
    counts: tuple[int, ...]
    fleet: GrowingDays

    @property
    def name(self) -> str:
        """Name in the step ``limits``."""
        return f"latest{self.latest_h:g}h-{self.fleet}"

    def key(self) -> str:
        """Fingerprint of the code, the inputs and what is asked."""
        return fingerprint.of_content(fingerprint.of_code(LimitsTask), self)

    def run(self) -> Result:
        """Tables ``first`` (limit, day, first_cars), ``curve`` and ``added`` (MW by period)."""
        fleet, told = self.fleet, self.fleet.inputs
        site, days = told.day, fleet.days
        law = replace(told.law(), departure_latest_h=self.latest_h)
        power, _ = fleet.drawn(law=law)
        firsts = []
        for limit in LIMITS:
            block, first = fleet.first_cars(replace(site, network=only(site.network, limit)), power)
            firsts.append(pd.DataFrame({"limit": limit, "day": range(days), "first_cars": first}))
            if limit == "all limits":
                at = np.minimum(block, power.shape[1] - 1)
        weight = np.full(days, 1.0 / days)
        curve = [
            {"cars": n, "nse_mwh": operate(site, samples, weight).nse_mwh}
            for n in self.counts
            for samples in [power[:, fleet.at(n)].transpose(1, 2, 0)]
        ]
        final = power[np.arange(days), at]
        short = opf.assess(site.repeated(days), final.reshape(-1, final.shape[2])).short_mw
        added = pd.DataFrame(
            {
                "period": np.arange(1, final.shape[1] + 1),
                "mw_per_1000_cars": 1000.0 * power[:, -1].sum(axis=2).mean(axis=0) / fleet.most,
                "days_first_short": (short.reshape(days, -1) > 0).sum(axis=0),
            }
        )
        return Result.of_tables(
            first=pd.concat(firsts, ignore_index=True), curve=pd.DataFrame(curve), added=added
        )


@dataclass(frozen=True)
class OutageTask:
    """First shortage of uncontrolled charging after the loss of one branch (index)."""

    branch: int
    fleet: GrowingDays

    @property
    def name(self) -> str:
        """Name in the step ``outages``."""
        return f"branch{self.branch + 1}-{self.fleet}"

    def key(self) -> str:
        """Fingerprint of the code, the inputs and what is asked."""
        return fingerprint.of_content(fingerprint.of_code(OutageTask), self)

    def run(self) -> Result:
        """Buses of the branch, energy not supplied without cars, first counts by day.

        Where the loss cuts load off, that load is what is not supplied, and no car is. Where it
        leaves load unsupplied without any car, no car is either.
        """
        whole = self.fleet.inputs.day
        net, branches = whole.network, np.arange(whole.network.branch_from.size)
        off = ~_joined(net, branches != self.branch)
        if (whole.load_p_mw[:, off] != 0).any() or off[net.ev_bus].any():
            lost = whole.period_h * float(np.maximum(whole.load_p_mw[:, off], 0).sum())
            return self._found(lost, np.zeros(1))
        site = outage_day(whole, self.branch)
        base = float(site.period_h * opf.assess(site).short_mw.sum())
        if base > 0:
            return self._found(base, np.zeros(1))
        return self._found(0.0, self.fleet.first_cars(site, self.fleet.power_mw())[1])

    def _found(self, nse_mwh: float, first: FloatArray) -> Result:
        net = self.fleet.inputs.network
        return Result(
            {
                "from_bus": int(net.bus_number[net.branch_from[self.branch]]),
                "to_bus": int(net.bus_number[net.branch_to[self.branch]]),
                "nse_without_cars_mwh": nse_mwh,
                "median_first_cars": float(np.median(first)),
                "least_first_cars": float(first.min()),
            }
        )
