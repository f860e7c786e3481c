"""Model predictive control: each step, plan for the cars that are there, do the first step, repeat.

The plan is a linear program in CVXPY, solved by HiGHS. It knows prices, building load and PV, and
the cars at the ports with their departures, but no car that is still to come. The taper enters as a
few tangents, so a plan is optimistic by a little; the next plan starts from the true contents.
"""

from __future__ import annotations

from dataclasses import dataclass

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from evcm import highs
from evcm.arrays import FloatArray
from evcm.errors import Checks, SolverError
from evcm.v2x.battery import charge_kwh, charge_slopes
from evcm.v2x.station import Ports, Station

ROUNDS = 8
"""Most solutions of one plan."""

TIME_LIMIT_S = 20.0
"""Most seconds for one solution; the best plan found by then is taken."""


@dataclass(frozen=True)
class ModelPredictive:
    """A rolling plan over `horizon_h` hours under the case's `Weights`."""

    horizon_h: float = 24.0
    tangents: int = 5

    def __post_init__(self) -> None:
        c = Checks("model predictive control")
        c.require(self.horizon_h > 0, "horizon_h", self.horizon_h, "> 0")
        c.require(self.tangents >= 1, "tangents", self.tangents, ">= 1")
        c.done()

    @property
    def __name__(self) -> str:
        """Name in tables."""
        return "model_predictive"

    def __call__(self, station: Station) -> FloatArray:
        """Commands of this step."""
        ports = station.ports()
        at = np.flatnonzero(ports.occupied)
        if at.size == 0:
            return np.zeros(station.world.ports)
        mean_kw = np.zeros(station.world.ports)
        mean_kw[at] = self._plan(station, ports, at)
        return station.commands_for(mean_kw)

    def _plan(self, station: Station, ports: Ports, at: NDArray[np.int64]) -> FloatArray:
        """Mean powers (n,) of the first step for the cars at ports `at`."""
        s, t, w = station.series, station.t, station.case.weights
        step_h, money = s.step_h, station.layout.money
        ahead = max(1, round(min(self.horizon_h, float(ports.hours_left.max())) / step_h + 0.499))
        ahead = min(ahead, station.steps - t)
        (departure, capacity, target, floor, charge_kw, give_kw) = (
            ports.column(name)[at]
            for name in (
                "departure_step", "capacity_kwh", "target_kwh",
                "floor_kwh", "charge_kw", "discharge_kw",
            )
        )  # fmt: skip
        hours = np.clip(departure[:, None] - t - np.arange(ahead), 0.0, 1.0) * step_h
        n = at.size
        x, y, e = (cp.Variable((n, ahead), nonneg=True) for _ in range(3))
        content = ports.content_kwh[at]
        before = cp.hstack([content[:, None], e[:, :-1]]) if ahead > 1 else content[:, None]
        charger = station.layout.port_charger[at]
        eta = station.layout.charge_efficiency[charger][:, None]
        eta_give = station.layout.discharge_efficiency[charger][:, None]
        power = (cp.multiply(1 / eta, x) - cp.multiply(eta_give, y)) / step_h
        rules = [
            e == before + x - y,
            x <= hours * charge_kw[:, None],
            y <= hours * give_kw[:, None],
            e >= floor[:, None],
            e <= capacity[:, None],
        ]
        rules += self._taper(ports, at, hours, x, before)
        grid, overload = self._grid(station, at, power, ahead, rules)
        # Cars that stay beyond the horizon are judged at its end by what they could not catch up.
        missing = cp.pos(target - e[:, -1])
        surplus = cp.pos(e[:, -1] - np.maximum(target, content))
        wear = money[1] * station.arrays.cycle_factor[t : t + ahead]
        rest = money[2] * money[3] * station.arrays.calendar_factor[t : t + ahead]
        ageing = cp.sum(cp.multiply(wear, cp.sum(x + y, axis=0)))
        ageing += cp.sum(cp.multiply(hours * rest / 2, before + e))
        tariff = money[0] * (cp.sum(x - y) - cp.sum(surplus))
        value = w.tariff * tariff - w.ageing * ageing - w.energy_cost * grid
        value -= w.overload_usd_per_kwh * step_h * overload
        value -= w.unserved_usd_per_kwh * cp.sum(missing)
        if w.tracking_usd_per_kwh > 0:
            off = cp.abs(cp.sum(power, axis=0) - s.setpoint_kw[t : t + ahead])
            value -= w.tracking_usd_per_kwh * step_h * cp.sum(off)
        most_x, most_y = hours * charge_kw[:, None], hours * give_kw[:, None]
        self._solve(cp.Maximize(value), rules, x, y, most_x, most_y)
        net = x.value[:, 0] - y.value[:, 0]
        return np.asarray(np.where(net > 0, net / eta[:, 0], net * eta_give[:, 0]) / step_h)

    def _solve(
        self, aim: cp.Maximize, rules: list[cp.Constraint], x: cp.Variable, y: cp.Variable,
        most_x: FloatArray, most_y: FloatArray,
    ) -> None:  # fmt: skip
        """Solve; where a car charges and gives at once, which no port can, add binaries, repeat.

        Only where wasting energy pays (a negative price) do such plans come up.
        """
        kept = np.zeros(x.shape, dtype=bool)
        for _ in range(ROUNDS):
            problem = cp.Problem(aim, rules)
            outcome = highs.run(problem, TIME_LIMIT_S, mip_rel_gap=1e-4)
            if not outcome.solved:
                raise SolverError(f"model predictive control: {outcome.status}")
            both = (x.value > 1e-6) & (y.value > 1e-6) & ~kept
            if not both.any():
                return
            kept |= both
            at = np.nonzero(both)
            charges = cp.Variable(at[0].size, boolean=True)
            rules += [x[at] <= cp.multiply(most_x[at], charges)]
            rules += [y[at] <= cp.multiply(most_y[at], 1 - charges)]

    def _taper(
        self, ports: Ports, at: NDArray[np.int64], hours: FloatArray,
        x: cp.Variable, before: cp.Expression,
    ) -> list[cp.Constraint]:  # fmt: skip
        """Tangents of the energy that a battery can take, as in `evcm.v2x.optimum_model`."""
        names = ("charge_kw", "accept_kw", "transition_soc", "capacity_kwh")
        own, accept, transition, capacity = (ports.column(name)[at] for name in names)
        knee = (1.0 - transition) * capacity * own / accept
        rules = []
        full = float(hours.max())
        for share in np.linspace(0.0, 0.8, self.tangents):
            value, slope, point = np.zeros(hours.shape), np.zeros(hours.shape), capacity - knee
            point = np.maximum(capacity - knee * (1 - 1e-9) - share * own * full, 0.0)
            for i, j in zip(*np.nonzero(hours), strict=True):
                arguments = (point[i], own[i], accept[i], transition[i], capacity[i], hours[i, j])
                value[i, j] = charge_kwh(*arguments)
                slope[i, j] = charge_slopes(*arguments)[0]
            rules.append(x <= value + cp.multiply(slope, before - point[:, None]))
        return rules

    def _grid(
        self, station: Station, at: NDArray[np.int64], power: cp.Expression, ahead: int,
        rules: list[cp.Constraint],
    ) -> tuple[cp.Expression, cp.Expression]:  # fmt: skip
        """Energy cost and overload (kW summed over steps); chargers' own limits go to `rules`."""
        layout, s, t = station.layout, station.series, station.t
        when = slice(t, t + ahead)
        charger = layout.port_charger[at]
        lot = layout.charger_lot[charger]
        transformer = layout.lot_transformer[lot]
        for h in np.unique(charger):
            mine = np.flatnonzero(charger == h)
            if mine.size > 1:
                together = cp.sum(power[mine], axis=0)
                rules += [together <= layout.charger_kw[h], together >= -layout.charger_kw[h]]
        cost, overload, bus = cp.Constant(0.0), cp.Constant(0.0), cp.Constant(np.zeros(ahead))
        for m in range(s.base_kw.shape[1]):
            mine = np.flatnonzero(transformer == m)
            net = s.base_kw[when, m] + (cp.sum(power[mine], axis=0) if mine.size else 0.0)
            spread = s.buy_usd_per_kwh[when] - s.sell_usd_per_kwh[when]
            out = cp.Variable(ahead, nonneg=True)
            cost += s.step_h * (s.buy_usd_per_kwh[when] @ net + spread @ out)
            rules.append(net + out >= 0)
            if (spread < 0).any():
                # Selling pays more than buying costs: a binary keeps the meter to one way.
                most = layout.port_kw[at[mine]].sum() + np.abs(s.base_kw[when, m])
                sells = cp.Variable(ahead, boolean=True)
                rules += [
                    out <= cp.multiply(most, sells),
                    net + out <= cp.multiply(most, 1 - sells),
                ]
            overload += _excess(net, s.import_limit_kw[when, m], s.export_limit_kw[when, m])
            bus += net
        for k in np.unique(lot):
            net = cp.sum(power[np.flatnonzero(lot == k)], axis=0)
            import_kw, export_kw = layout.lot_limit_kw[k]
            overload += _excess(net, np.full(ahead, import_kw), np.full(ahead, export_kw))
        import_kw, export_kw = layout.bus_limit_kw
        overload += _excess(bus, np.full(ahead, import_kw), np.full(ahead, export_kw))
        return cost, overload


def _excess(net: cp.Expression, import_kw: FloatArray, export_kw: FloatArray) -> cp.Expression:
    total = cp.Constant(0.0)
    for sign, limit in ((1.0, import_kw), (-1.0, export_kw)):
        if np.isfinite(limit).all():
            total += cp.sum(cp.pos(sign * net - limit))
    return total
