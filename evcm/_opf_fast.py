"""The fast method: all periods through one interior-point kernel; retries, honest failures."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from evcm import _opf_kernels as kernels
from evcm._opf_blocks import Elimination, eliminate
from evcm._opf_problem import ACTIVE, Injections, elastic
from evcm.errors import InfeasibleError, SolverError
from evcm.network import Network

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

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


class _Run:
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
        # fmt: off
        kernels.solve_periods(
            self.grid, self.p, self.q, self.low, self.high, effort,
            self.x, self.u, self.lam, self.mult, todo, self.ended, self.iterations,
        )
        # fmt: on
        return np.asarray(self.ended != kernels.SOLVED)

    def state(self) -> State:
        return State(
            angle_rad=self.x[:, :, 0].copy(),
            v_pu=self.x[:, :, 1].copy(),
            injection=self.u * self.network.base_mva,
            limit_multiplier=self.mult,
            iterations=self.iterations,
        )


def grid(network: Network, inj: Injections) -> kernels.Grid:
    """The kernel's view of a network, per unit."""
    plan = _eliminations.get(network)
    if plan is None:
        plan = eliminate(network.n_bus, network.branch_from, network.branch_to)
        _eliminations[network] = plan
    y = network.admittance_pu()
    base = network.base_mva
    return kernels.Grid(
        plan.order, plan.row, plan.col, plan.start, plan.update_start, plan.update,
        plan.branch_block, plan.branch_forward, network.branch_from, network.branch_to,
        np.stack([y.real, y.imag], axis=2).reshape(len(y), 8),
        (network.limit_mva / base) ** 2,
        network.shunt_g_mw / base, network.shunt_b_mvar / base,
        network.v_min_pu, network.v_max_pu, network.slack,
        inj.bus, inj.kind, inj.sign, inj.cost_per_mw * cost_scale(inj),
    )  # fmt: skip


def cost_scale(inj: Injections) -> float:
    """Scale of the objective inside the kernel: multipliers of thousands cost it its convergence."""
    largest = float(np.abs(inj.cost_per_mw).max(initial=0.0))
    return 1.0 / max(1.0, largest / LARGEST_COST)


def solve(
    network: Network, load_p_mw: FloatArray, load_q_mvar: FloatArray, inj: Injections, what: str
) -> State:
    """Solve every period, or say why one cannot be solved.

    Raises
    ------
    InfeasibleError
        No operating point keeps every limit: the period, what is missing and the limits that bind.
    SolverError
        A period has an operating point and yet no attempt converged.
    """
    run = _Run(network, load_p_mw, load_q_mvar, inj)
    todo = np.ones(load_p_mw.shape[0], bool)
    for effort in EFFORTS:
        run.start(todo)
        todo = run.solve(effort, todo)
        if not todo.any():
            return run.state()
    _last_resort(run, todo, what)
    return run.state()


def _last_resort(run: _Run, todo: NDArray[np.bool_], what: str) -> None:
    """From the nearest operating point, solve again; raise for the periods that have none."""
    which = np.flatnonzero(todo)
    base, n = run.network.base_mva, run.inj.bus.size
    parts = [run.inj.period(int(t)) for t in which]
    low = np.concatenate([p.low for p in parts])
    high = np.concatenate([p.high for p in parts])
    free = run.inj.free_of_cost()
    stretched = Injections(free.bus, free.kind, free.sign, free.cost_per_mw, low, high)
    near = _Run(
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
        _raise_infeasible(near, hopeless, which, missing, n, what)
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


def _raise_infeasible(
    near: _Run, hopeless: IntArray, which: IntArray, missing: FloatArray, n: int, what: str
) -> None:
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


def _lacking(near: _Run, t: int, n: int) -> list[str]:
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


def _binding(near: _Run, t: int, n: int) -> list[str]:
    """Limits whose multipliers hold the nearest point back, strongest first."""
    net, inj, mult = near.network, near.inj, near.mult[t]
    nb, nj, nl, base = net.n_bus, inj.bus.size, net.branch_from.size, net.base_mva
    names: list[tuple[float, str]] = []
    for k in range(nb):
        bus = net.bus_number[k]
        # a voltage's multiplier is per pu of voltage: a hundredth is a sensible step
        names.append((0.01 * mult[k], f"voltage at bus {bus} at least {net.v_min_pu[k]:g} pu"))
        names.append((0.01 * mult[nb + k], f"voltage at bus {bus} at most {net.v_max_pu[k]:g} pu"))
    for j in range(n):
        bus = net.bus_number[inj.bus[j]]
        unit = "MW" if inj.kind[j] == ACTIVE else "Mvar"
        kind = (
            "demand"
            if inj.sign[j] < 0
            else "power not supplied"
            if j >= 2 * net.generator_bus.size
            else "generation"
        )
        low, high = near.low[t, j] * base, near.high[t, j] * base
        held = high - low < 1e-6
        at = f"{kind} at bus {bus}"
        if held:
            continue
        if kind != "power not supplied":
            names.append((mult[2 * nb + j], f"{at} at least {low:.6g} {unit}"))
        names.append((mult[2 * nb + nj + j], f"{at} at most {high:.6g} {unit}"))
    for e in range(nl):
        f, to = net.bus_number[net.branch_from[e]], net.bus_number[net.branch_to[e]]
        strength = max(mult[2 * nb + 2 * nj + e], mult[2 * nb + 2 * nj + nl + e])
        names.append((strength, f"flow on branch {f}-{to} at most {net.limit_mva[e]:g} MVA"))
    strong = sorted((x for x in names if x[0] > 1e-3), key=lambda x: -x[0])
    return [text for _, text in strong[:6]] or ["the power balance itself"]
