"""The fast method: all periods through one interior-point kernel; retries, honest failures."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from evcm.arrays import FloatArray, IntArray
from evcm.errors import InfeasibleError, SolverError
from evcm.network.case import Network
from evcm.network.injections import ACTIVE, Injections, elastic
from evcm.network.interior import kernels
from evcm.network.interior.blocks import Elimination, eliminate
from evcm.network.interior.branch import Grid


def raise_infeasible(
    near: Run, hopeless: IntArray, which: IntArray, missing: FloatArray, n: int, what: str
) -> None:
    """Raise for the rows `hopeless` of `near`, periods `which`; `n` injections are real."""
    first = int(hopeless[0])
    period = int(which[first]) + 1
    lacking = _lacking(near, first, n)
    binding = _binding(near, first, n)
    others = [int(which[t]) + 1 for t in hopeless[1:]]
    text = f"{what}, period {period}: no operating point keeps every limit. Nearest one: "
    text += ", ".join(lacking) + ". Limits that bind there: " + "; ".join(binding)
    if others:
        text += f". Also infeasible: {len(others)} more, first period {others[0]}"
    raise InfeasibleError(
        text,
        period=period,
        periods=[period, *others],
        missing=float(missing[first]),
        lacking=lacking,
        binding=binding,
    )


def _lacking(near: Run, t: int, n: int) -> list[str]:
    """Power that the nearest point invents or throws away, largest first."""
    net, inj = near.network, near.inj
    amount = near.u[t, n:] * net.base_mva
    found = []
    for j in np.argsort(-amount)[:4]:
        if amount[j] > max(1e-4, 0.01 * amount.max()):
            unit = "MW" if inj.kind[n + j] == ACTIVE else "Mvar"
            word = "too little" if inj.sign[n + j] > 0 else "too much"
            found.append(f"{amount[j]:.4g} {unit} {word} at bus {net.bus_number[inj.bus[n + j]]}")
    return found


def _binding(near: Run, t: int, n: int) -> list[str]:
    """Limits whose multipliers hold the nearest point back: generation first, strongest first."""
    found = []
    for names in (
        _generation(near, t, n),
        _flows(near, t),
        _voltages(near, t),
        _demand(near, t, n),
    ):
        strong = sorted((x for x in names if x[0] > 1e-3), key=lambda x: -x[0])
        found += [text for _, text in strong[:3]]
    return found or ["the power balance itself"]


_Names = list[tuple[float, str]]


def _injection(near: Run, t: int, j: int, kind: str) -> _Names:
    """Both limits of injection j with their multipliers; none where it is fixed."""
    net, inj, mult = near.network, near.inj, near.mult[t]
    low, high = near.low[t, j] * net.base_mva, near.high[t, j] * net.base_mva
    if high - low < 1e-6:
        return []
    unit = "MW" if inj.kind[j] == ACTIVE else "Mvar"
    at, first = f"{kind} at bus {net.bus_number[inj.bus[j]]}", 2 * net.n_bus
    return [
        (mult[first + j], f"{at} at least {low:.6g} {unit}"),
        (mult[first + inj.bus.size + j], f"{at} at most {high:.6g} {unit}"),
    ]


def _generation(near: Run, t: int, n: int) -> _Names:
    own = range(min(n, 2 * near.network.generator_bus.size))
    return [x for j in own for x in _injection(near, t, j, "generation")]


def _demand(near: Run, t: int, n: int) -> _Names:
    """Caps and power not supplied; that nothing need be shed holds nothing back."""
    names: _Names = []
    for j in range(2 * near.network.generator_bus.size, n):
        if near.inj.sign[j] < 0:
            names += _injection(near, t, j, "cap")
        else:
            names += _injection(near, t, j, "power not supplied")[1:]
    return names


def _voltages(near: Run, t: int) -> _Names:
    """Voltage limits; their multipliers are per pu, so a hundredth is the step to weigh."""
    net, mult = near.network, near.mult[t] / 100.0
    names: _Names = []
    for k, bus in enumerate(net.bus_number):
        names.append((mult[k], f"voltage at bus {bus} at least {net.v_min_pu[k]:g} pu"))
        names.append((mult[net.n_bus + k], f"voltage at bus {bus} at most {net.v_max_pu[k]:g} pu"))
    return names


def _flows(near: Run, t: int) -> _Names:
    net, nl = near.network, near.network.branch_from.size
    both_ends = near.mult[t, -2 * nl :].reshape(2, nl).max(axis=0)
    ends = zip(net.bus_number[net.branch_from], net.bus_number[net.branch_to], strict=True)
    return [
        (both_ends[e], f"flow on branch {f}-{to} at most {net.limit_mva[e]:g} MVA")
        for e, (f, to) in enumerate(ends)
    ]


TOLERANCE = 1e-8
"""Largest residual and gap of a converged period, per unit and scaled."""

GAP = 2e-7
"""Largest complementarity gap of a converged period, relative to its objective."""

LARGEST_COST = 5.0
"""Largest cost per pu inside the kernel."""

EFFORTS = (
    kernels.Effort(TOLERANCE, GAP, 60, 0.1, 1.0, 1e-5),
    kernels.Effort(TOLERANCE, GAP, 150, 0.3, 1.0, 1e-4),
    kernels.Effort(TOLERANCE, GAP, 300, 0.5, 10.0, 1e-3),
)
"""Attempts, from quick to patient."""

_eliminations: WeakKeyDictionary[Network, Elimination] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class State:
    """Solution of T periods: angle (rad) and voltage (pu), injections (MW, Mvar), multipliers."""

    angle_rad: FloatArray
    v_pu: FloatArray
    injection: FloatArray
    limit_multiplier: FloatArray
    iterations: IntArray


class Run:
    """Arrays of one run; the kernel fills them in place."""

    def __init__(
        self, network: Network, p_mw: FloatArray, q_mvar: FloatArray, inj: Injections
    ) -> None:
        periods, base = p_mw.shape[0], network.base_mva
        self.network, self.inj = network, inj
        self.grid = grid(network, inj)
        self.p, self.q = np.ascontiguousarray(p_mw / base), np.ascontiguousarray(q_mvar / base)
        self.low, self.high = inj.low / base, inj.high / base
        limits = 2 * (network.n_bus + inj.bus.size + network.branch_from.size)
        self.x = np.zeros((periods, network.n_bus, 2))
        self.u = np.zeros_like(self.low)
        self.lam = np.zeros_like(self.x)
        self.mult = np.zeros((periods, limits))
        self.ended = np.full(periods, kernels.ITERATIONS, np.int64)
        self.iterations = np.zeros(periods, np.int64)
        self.start(np.ones(periods, bool))

    def start(self, which: NDArray[np.bool_]) -> None:
        """Flat start in the middle of all bounds."""
        self.x[which, :, 0] = 0.0
        self.x[which, :, 1] = 0.5 * (self.network.v_min_pu + self.network.v_max_pu)
        low = np.where(np.isfinite(self.low), self.low, np.minimum(self.high, 1.0) - 1.0)
        high = np.where(np.isfinite(self.high), self.high, np.maximum(low, -1.0) + 1.0)
        self.u[which] = 0.5 * (low + high)[which]
        self.lam[which] = 0.0

    def solve(self, effort: kernels.Effort, todo: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Run the kernel on the periods of `todo`; return those that are still not solved."""
        try:
            self._kernel(effort, todo)
        except np.linalg.LinAlgError:  # one period's singular system must not stop the others
            for period in np.flatnonzero(todo & (self.ended != kernels.SOLVED)):
                only = np.arange(todo.size) == period
                with contextlib.suppress(np.linalg.LinAlgError):
                    self._kernel(effort, only)
        return np.asarray(self.ended != kernels.SOLVED)

    def _kernel(self, effort: kernels.Effort, todo: NDArray[np.bool_]) -> None:
        # fmt: off
        kernels.solve_periods(
            self.grid, self.p, self.q, self.low, self.high, effort,
            self.x, self.u, self.lam, self.mult, todo, self.ended, self.iterations,
        )
        # fmt: on

    def state(self) -> State:
        """Copy of the operating point as it stands."""
        return State(
            angle_rad=self.x[:, :, 0].copy(),
            v_pu=self.x[:, :, 1].copy(),
            injection=self.u * self.network.base_mva,
            limit_multiplier=self.mult,
            iterations=self.iterations,
        )


def grid(network: Network, inj: Injections) -> Grid:
    """The kernel's view of a network, per unit."""
    plan = _eliminations.get(network)
    if plan is None:
        plan = eliminate(network.n_bus, network.branch_from, network.branch_to)
        _eliminations[network] = plan
    y = network.admittance_pu()
    base = network.base_mva
    return Grid(
        plan.order, plan.row, plan.col, plan.start, plan.update_start, plan.update,
        plan.branch_block, plan.branch_forward, network.branch_from, network.branch_to,
        np.stack([y.real, y.imag], axis=2).reshape(len(y), 8),
        (network.limit_mva / base) ** 2,
        network.shunt_g_mw / base, network.shunt_b_mvar / base,
        network.v_min_pu, network.v_max_pu, network.slack,
        inj.bus, inj.kind, inj.sign, inj.cost_per_mw * cost_scale(inj),
    )  # fmt: skip


def cost_scale(inj: Injections) -> float:
    """Scale of the objective inside the kernel: it converges badly with costs of thousands."""
    largest = float(np.abs(inj.cost_per_mw).max(initial=0.0))
    return 1.0 / max(1.0, largest / LARGEST_COST)


def solve(
    network: Network,
    load_p_mw: FloatArray,
    load_q_mvar: FloatArray,
    inj: Injections,
    what: str,
    gap: float = GAP,
) -> State:
    """Solve every period to a relative `gap`, or say why one cannot be solved.

    Raises
    ------
    InfeasibleError
        No operating point keeps every limit: the period, what is missing and the limits that bind.
    SolverError
        A period has an operating point and yet no attempt converged.
    """
    run = Run(network, load_p_mw, load_q_mvar, inj)
    todo = np.ones(load_p_mw.shape[0], bool)
    for effort in EFFORTS:
        run.start(todo)
        todo = run.solve(effort._replace(gap=gap), todo)
        if not todo.any():
            return run.state()
    _last_resort(run, todo, what)
    return run.state()


def _last_resort(run: Run, todo: NDArray[np.bool_], what: str) -> None:
    """From the nearest operating point, solve again; raise for the periods that have none."""
    which = np.flatnonzero(todo)
    base, n = run.network.base_mva, run.inj.bus.size
    parts = [run.inj.period(int(t)) for t in which]
    low = np.concatenate([p.low for p in parts])
    high = np.concatenate([p.high for p in parts])
    free = run.inj.free_of_cost()
    stretched = Injections(free.bus, free.kind, free.sign, free.cost_per_mw, low, high)
    near = Run(
        run.network, run.p[which] * base, run.q[which] * base,
        stretched + elastic(run.network, which.size),
    )  # fmt: skip
    left = np.ones(which.size, bool)
    for effort in EFFORTS:
        near.start(left)
        left = near.solve(effort._replace(tolerance=1e-7, gap=1e-4), left)
    missing = near.u[:, n:].sum(axis=1) * base
    hopeless = np.flatnonzero(~left & (missing > 1e-4))
    if hopeless.size:
        raise_infeasible(near, hopeless, which, missing, n, what)
    run.x[which], run.u[which] = near.x, near.u[:, :n]
    run.lam[which] = 0.0
    for effort in EFFORTS:
        todo = run.solve(effort, todo)
        if not todo.any():
            return
        run.lam[todo] = 0.0
    period = int(np.flatnonzero(todo)[0]) + 1
    raise SolverError(
        f"{what}, period {period}: no convergence in {len(EFFORTS) + 1} attempts of up to "
        f"{EFFORTS[-1].iterations} iterations, and no proof of infeasibility was found",
        period=period,
        periods=(np.flatnonzero(todo) + 1).tolist(),
    )
