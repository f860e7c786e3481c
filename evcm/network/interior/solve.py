"""The fast method: all periods through one interior-point kernel; retries, honest failures."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np

from evcm.arrays import BoolArray, FloatArray, IntArray
from evcm.errors import InfeasibleError, SolverError
from evcm.network.case import Day, Network
from evcm.network.injections import ACTIVE, Injections, Part, elastic
from evcm.network.interior import kernels
from evcm.network.interior.blocks import Elimination, eliminate
from evcm.network.interior.branch import Grid
from evcm.network.limits import Limit, Multipliers, binding
from evcm.network.status import Status

TOLERANCE = 1e-8
"""Largest residual and gap of a converged period, per unit and scaled."""

GAP = 2e-7
"""Largest complementarity gap of a converged period, relative to its objective."""

LARGEST_COST = 5.0
"""Largest cost per pu inside the kernel, which converges badly with costs of thousands."""

MISSING_MW = 1e-4
"""Power that the nearest point invents or throws away from which a period has no point."""

EFFORTS = (
    kernels.Effort(TOLERANCE, GAP, 60, 0.1, 1.0, 1e-5),
    kernels.Effort(TOLERANCE, GAP, 150, 0.3, 1.0, 1e-4),
    kernels.Effort(TOLERANCE, GAP, 300, 0.5, 10.0, 1e-3),
)
"""Attempts, from quick to patient."""

_eliminations: WeakKeyDictionary[Network, Elimination] = WeakKeyDictionary()


@dataclass(frozen=True)
class Nearest:
    """Why a period has no operating point: what the nearest one lacks, and what holds it back."""

    missing: float
    lacking: tuple[str, ...]
    limits: tuple[Limit, ...]


@dataclass(frozen=True, eq=False)
class State:
    """Solution of T periods: angle (rad), voltage (pu), injections (MW, Mvar) and multipliers.

    `price` (T, n_bus, 2) is what one MW, one Mvar more at a bus costs, in units of the objective.
    Only periods of status OPTIMAL hold a solution; `nearest` says why others have none.
    """

    status: IntArray
    iterations: IntArray
    angle_rad: FloatArray
    v_pu: FloatArray
    injection: FloatArray
    price: FloatArray
    multipliers: Multipliers
    nearest: dict[int, Nearest] = field(default_factory=dict)

    @property
    def solved(self) -> BoolArray:
        """Which periods have a solution. (T,)"""
        return np.asarray(self.status == Status.OPTIMAL)

    def require(self, what: str) -> State:
        """This state, or an error that names the first period without a solution.

        Raises
        ------
        InfeasibleError
            No operating point keeps every limit: what is missing, and the limits that bind.
        SolverError
            A period has an operating point and yet no attempt converged.
        """
        lost = [t + 1 for t in self.nearest]
        if lost:
            why, period = self.nearest[lost[0] - 1], lost[0]
            limits = [x.text for x in _strongest(why.limits)] or ["the power balance itself"]
            text = f"{what}, period {period}: no operating point keeps every limit. Nearest one: "
            text += ", ".join(why.lacking) + ". Limits that bind there: " + "; ".join(limits)
            if lost[1:]:
                text += f". Also infeasible: {len(lost) - 1} more, first period {lost[1]}"
            raise InfeasibleError(
                text, period=period, periods=lost, missing=why.missing,
                lacking=list(why.lacking), binding=limits,
            )  # fmt: skip
        failed = (np.flatnonzero(~self.solved) + 1).tolist()
        if failed:
            status = Status(self.status[failed[0] - 1])
            raise SolverError(
                f"{what}, period {failed[0]}: no convergence in {len(EFFORTS) + 1} attempts of up "
                f"to {EFFORTS[-1].iterations} iterations ({status.words}), and no proof of "
                f"infeasibility was found. Remedy: {status.remedy}",
                period=failed[0], periods=failed, status=status,
            )  # fmt: skip
        return self


def _strongest(limits: tuple[Limit, ...], each: int = 3) -> list[Limit]:
    """The first few limits of each kind."""
    return [x for i, x in enumerate(limits) if sum(y.kind == x.kind for y in limits[:i]) < each]


class Run:
    """Arrays of one run; the kernel fills them in place."""

    def __init__(self, day: Day, inj: Injections, without: int | None = None) -> None:
        net, base = day.network, day.network.base_mva
        self.day, self.inj, self.without = day, inj, without
        self.scale = 1.0 / max(1.0, float(np.abs(inj.cost_per_mw).max(initial=0.0)) / LARGEST_COST)
        self.grid = grid(net, inj, self.scale, without)
        self.p = np.ascontiguousarray(day.load_p_mw / base)
        self.q = np.ascontiguousarray(day.load_q_mvar / base)
        self.low, self.high = inj.low / base, inj.high / base
        limits = 2 * (net.n_bus + inj.bus.size) + 4 * net.branch_from.size
        self.x = np.zeros((day.n_periods, net.n_bus, 2))
        self.u = np.zeros_like(self.low)
        self.lam = np.zeros_like(self.x)
        self.mult = np.zeros((day.n_periods, limits))
        self.ended = np.full(day.n_periods, kernels.ITERATIONS, np.int64)
        self.iterations = np.zeros(day.n_periods, np.int64)
        self.start(np.ones(day.n_periods, np.bool_))

    def start(self, which: BoolArray) -> None:
        """Flat start in the middle of all bounds."""
        net = self.day.network
        self.x[which, :, 0] = 0.0
        self.x[which, :, 1] = 0.5 * (net.v_min_pu + net.v_max_pu)
        low = np.where(np.isfinite(self.low), self.low, np.minimum(self.high, 1.0) - 1.0)
        high = np.where(np.isfinite(self.high), self.high, np.maximum(low, -1.0) + 1.0)
        self.u[which] = 0.5 * (low + high)[which]
        self.lam[which] = 0.0

    def solve(self, effort: kernels.Effort, todo: BoolArray) -> BoolArray:
        """Run the kernel on the periods of `todo`; return those that are still not solved."""
        try:
            self._kernel(effort, todo)
        except np.linalg.LinAlgError:  # one period's singular system must not stop the others
            for period in np.flatnonzero(todo & (self.ended != kernels.SOLVED)):
                only = np.arange(todo.size) == period
                with contextlib.suppress(np.linalg.LinAlgError):
                    self._kernel(effort, only)
        return np.asarray(self.ended != kernels.SOLVED)

    def _kernel(self, effort: kernels.Effort, todo: BoolArray) -> None:
        # fmt: off
        kernels.solve_periods(
            self.grid, self.p, self.q, self.low, self.high, effort,
            self.x, self.u, self.lam, self.mult, todo, self.ended, self.iterations,
        )
        # fmt: on

    def multipliers(self) -> Multipliers:
        """Multipliers of the limits, in the units of `Multipliers`; one place knows their order."""
        net, nl = self.day.network, self.day.network.branch_from.size
        sizes = [net.n_bus] * 2 + [self.inj.bus.size] * 2 + [nl] * 4
        v_low, v_high, low, high, at_from, at_to, a_low, a_high = np.split(
            self.mult / self.scale, np.cumsum(sizes)[:-1], axis=1
        )
        limit = np.where(np.isfinite(net.limit_mva), net.limit_mva, 0.0) / net.base_mva
        return Multipliers(
            v_low * net.base_mva / 100.0, v_high * net.base_mva / 100.0, low, high,
            2.0 * limit * np.maximum(at_from, at_to),
            np.deg2rad(net.base_mva * np.maximum(a_low, a_high)),
        )  # fmt: skip

    def state(self, nearest: dict[int, Nearest] | None = None) -> State:
        """What the run found, in MW and Mvar."""
        status = self.ended.copy()
        status[list(nearest or {})] = Status.INFEASIBLE
        return State(
            status=status,
            iterations=self.iterations,
            angle_rad=self.x[:, :, 0].copy(),
            v_pu=self.x[:, :, 1].copy(),
            injection=self.u * self.day.network.base_mva,
            price=self.lam / self.scale,
            multipliers=self.multipliers(),
            nearest=nearest or {},
        )


def grid(network: Network, inj: Injections, scale: float, without: int | None = None) -> Grid:
    """The kernel's view of a network, per unit; costs times `scale`, `without` one branch."""
    plan = _eliminations.get(network)
    if plan is None:
        plan = eliminate(network.n_bus, network.branch_from, network.branch_to)
        _eliminations[network] = plan
    y, base = network.admittance_pu(), network.base_mva
    limit, low, high = (
        np.array(a) for a in (network.limit_mva, network.angle_min_deg, network.angle_max_deg)
    )
    if without is not None:  # the order of elimination stays as it is
        y[without], limit[without], low[without], high[without] = 0.0, np.inf, -np.inf, np.inf
    return Grid(
        plan, network.branch_from, network.branch_to,
        np.stack([y.real, y.imag], axis=2).reshape(len(y), 8),
        (limit / base) ** 2,
        np.deg2rad(low), np.deg2rad(high),
        network.shunt_g_mw / base, network.shunt_b_mvar / base,
        network.v_min_pu, network.v_max_pu, network.slack,
        inj.bus, inj.kind, inj.sign, inj.cost_per_mw * scale,
    )  # fmt: skip


def solve(
    day: Day,
    inj: Injections,
    gap: float = GAP,
    *,
    without: int | None = None,
    explain: bool = True,
    once: bool = False,
) -> State:
    """Solve every period to a relative `gap`, or say of each that cannot be solved why.

    `without` leaves one branch out, by index; without `explain` the limits that bind at the nearest
    operating point of an infeasible period are not looked up. `once` leaves it at one attempt.

    See Also
    --------
    State.require : turns periods without a solution into an error.
    """
    run = Run(day, inj, without)
    todo = np.ones(day.n_periods, np.bool_)
    for effort in EFFORTS:
        run.start(todo)
        todo = run.solve(effort._replace(gap=gap), todo)
        if once or not todo.any():
            return run.state()
    return run.state(_last_resort(run, todo, explain))


def _last_resort(run: Run, todo: BoolArray, explain: bool) -> dict[int, Nearest]:
    """From the nearest operating point, solve again; say why of the periods that have none."""
    which = np.flatnonzero(todo)
    real = run.inj.at(which).free_of_cost()
    near = Run(run.day.at(which), real + elastic(run.day.network, which.size), run.without)
    left = np.ones(which.size, np.bool_)
    for effort in EFFORTS:
        near.start(left)
        left = near.solve(effort._replace(tolerance=1e-7, gap=1e-4), left)
    state = near.state()
    amount = near.inj.unpack(state.injection)
    missing = (amount[Part.LACK] + amount[Part.EXCESS]).sum(axis=1)
    hopeless = ~left & (missing > MISSING_MW)
    why = {
        int(which[t]): Nearest(
            float(missing[t]), _lacking(near, state, t),
            tuple(binding(run.day.network, near.inj, t, state.multipliers) if explain else ()),
        )
        for t in np.flatnonzero(hopeless).tolist()
    }  # fmt: skip
    run.x[which], run.u[which] = near.x, near.u[:, : run.inj.bus.size]
    run.lam[which] = 0.0
    todo[which[hopeless]] = False
    for effort in EFFORTS:
        if not todo.any():
            break
        todo = run.solve(effort, todo)
        todo[which[hopeless]] = False
        run.lam[todo] = 0.0
    return why


def _lacking(near: Run, state: State, t: int) -> tuple[str, ...]:
    """Power that the nearest point invents or throws away, largest first."""
    net, inj = near.day.network, near.inj
    amount, bus, kind = (inj.unpack(a) for a in (state.injection[t], inj.bus, inj.kind))
    found = [
        (float(mw), "MW" if k == ACTIVE else "Mvar", part.value, net.bus_number[b])
        for part in (Part.LACK, Part.EXCESS)
        for mw, b, k in zip(amount[part], bus[part], kind[part], strict=True)
    ]
    largest = max(x[0] for x in found)
    strong = sorted((x for x in found if x[0] > max(1e-4, 0.01 * largest)), reverse=True)
    return tuple(f"{mw:.4g} {unit} {word} at bus {b}" for mw, unit, word, b in strong[:4])
