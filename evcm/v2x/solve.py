"""The exact optimum of a saved run: a linear program on HiGHS that is the simulator's own optimum.

The program maximises the case's reward over every schedule that the simulator can follow, with all
sessions, prices and loads known. Three steps make it exact:

1. The taper enters as tangents of a concave function (see `evcm.v2x.optimum_model`); where the
   solution stands outside the true curve, tangents at that point are added and it is solved again.
2. Charging and giving in the same step, which no port can do, is netted; should that ever cost
   reward (negative prices), the steps concerned get a binary variable.
3. The schedule is turned into commands and replayed by the simulator. The answer is given only when
   the replayed reward equals the program's bound within the tolerance.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from evcm.arrays import FloatArray
from evcm.errors import Checks, InfeasibleError, SolverError
from evcm.highs import LP
from evcm.v2x.kernel import OVERLOAD
from evcm.v2x.optimum_model import Model, build, first_cuts, uptake
from evcm.v2x.station import Case, Run, run


@dataclass(frozen=True, eq=False)
class Optimum:
    """The best possible run of a case, and the proof.

    `bound_usd` is the program's optimum, which no schedule can exceed; `run` is the replay of the
    schedule by the simulator, with ``run.reward`` within the tolerance of the bound.
    """

    run: Run
    bound_usd: float
    status: str
    rounds: int
    cuts: int
    binaries: int
    seconds: float
    columns: int = field(default=0)
    rows: int = field(default=0)

    @property
    def reward(self) -> float:
        """Reward of the replayed schedule."""
        return self.run.reward

    @property
    def gap_usd(self) -> float:
        """Bound minus replayed reward."""
        return self.bound_usd - self.run.reward


def optimum(
    case: Case,
    *,
    hard_limits: bool = False,
    tolerance: float = 1e-6,
    time_limit_s: float = 600.0,
    max_rounds: int = 60,
) -> Optimum:
    """The best run of a case under its `Weights`, proven and replayed.

    With `hard_limits`, overload is forbidden instead of priced. `tolerance` is the largest bound
    minus replayed reward, relative to max(1, |bound|); rounds, `max_rounds` at most and within
    `time_limit_s` together, go on to a hundredth of it while tangents still cut something off.

    Raises
    ------
    InfeasibleError
        With `hard_limits`, where building load alone breaks a limit.
    SolverError
        HiGHS did not finish, or the tolerance was not reached. Days without negative prices take
        seconds; where wasting energy pays in many steps, the binaries can take minutes.
    """
    checks = Checks("optimum")
    checks.require(tolerance > 0, "tolerance", tolerance, "> 0")
    checks.require(time_limit_s > 0, "time_limit_s", time_limit_s, "> 0")
    checks.done()
    begun = time.perf_counter()
    model = build(case, hard_limits)
    solver = _Solver(model, tolerance)
    upper, rows = first_cuts(model)
    solver.add(upper, rows)
    for rounds in range(1, max_rounds + 1):
        left = time_limit_s - (time.perf_counter() - begun)
        solution, bound = solver.solve(left)
        found = _replay(model, solution)
        allowed = tolerance * max(1.0, abs(bound))
        gap = bound - found.reward
        if gap > 0.01 * allowed and rounds < max_rounds and solver.refine(solution):
            continue
        if gap <= allowed and not (hard_limits and found.terms[:, OVERLOAD].max() > 1e-6):
            status = (
                f"optimal: the replayed schedule is within {max(gap, 0.0):.1e} USD of the bound "
                f"after {rounds} rounds"
            )
            return Optimum(
                found, bound, status, rounds, solver.cuts, solver.binaries,
                time.perf_counter() - begun, model.program.size, model.program.rows,
            )  # fmt: skip
        break
    raise SolverError(
        f"the optimum stands {gap:.3g} USD above the replayed schedule after {rounds} rounds; "
        f"allowed: {allowed:.1g}",
        bound_usd=bound,
        reward_usd=found.reward,
    )


class _Solver:
    """HiGHS with the program of a model, cuts and lazily added binaries."""

    def __init__(self, model: Model, tolerance: float) -> None:
        self.model = model
        self.cuts = 0
        self._binary: set[int] = set()
        p = model.program
        self.lp = LP(
            p.matrix().tocsc(), np.concatenate(p.cost), np.concatenate(p.lower),
            np.concatenate(p.upper), np.concatenate(p.row_lower), np.concatenate(p.row_upper),
            p.constant,
        )  # fmt: skip
        for kind in ("primal", "dual", "mip"):
            self.lp.option(f"{kind}_feasibility_tolerance", 1e-9)
        whole = np.concatenate([np.zeros(0, dtype=np.int64), *p.integers])
        self.lp.integer(whole)
        self.binaries = whole.size
        for kind in ("rel", "abs"):
            self.lp.option(f"mip_{kind}_gap", 0.3 * tolerance)

    def add(self, upper: FloatArray, rows: sparse.csr_matrix) -> None:
        """Add rows <= upper."""
        self.cuts += upper.size
        self.lp.add_rows(rows, np.full(upper.size, -np.inf), upper)

    def solve(self, time_left_s: float) -> tuple[FloatArray, float]:
        """Solve; return the columns' values and the greatest reward."""
        answer = self.lp.solve(time_limit_s=time_left_s)
        if answer.status == "infeasible":
            raise InfeasibleError(
                "the limits cannot all be kept: building load or PV alone breaks one of them; "
                "price the overload instead (hard_limits=False), or raise the limit"
            )
        if answer.status != "optimal":
            raise SolverError("HiGHS stopped without an optimum: time limit reached")
        return answer.column, -answer.bound

    def refine(self, solution: FloatArray) -> bool:
        """Add tangents where the taper is exceeded, binaries where a port does both ways."""
        m = self.model
        content, command = m.before(solution), m.commands(solution)
        charge, give = solution[m.charge], solution[m.give]
        every = np.flatnonzero(charge > 1e-9)
        reach = uptake(m.steps, every, content[every], command[every])[0]
        out = every[charge[every] > reach + 1e-9]
        if out.size:
            self.add(*m.cuts(out, content[out], np.maximum(command[out], 1e-9)))
        both = [n for n in np.flatnonzero((charge > 1e-7) & (give > 1e-7)) if n not in self._binary]
        for n in both:
            self._one_way(int(n))
        return bool(out.size or both)

    def _one_way(self, n: int) -> None:
        """x <= X z, y <= Y (1 − z) with z binary."""
        m, zero, one = self.model, np.zeros(1), np.ones(1)
        most_charge = float(m.program.upper[0][n])
        most_give = float(m.program.upper[1][n])
        z = self.lp.add_columns(zero, zero, one)
        self.lp.integer(z)
        entry = [1.0, -most_charge, 1.0, most_give]
        column = [m.charge[n], z, m.give[n], z]
        rows = sparse.csr_matrix((entry, ([0, 0, 1, 1], column)), shape=(2, z + 1))
        self.lp.add_rows(rows, np.full(2, -np.inf), np.array([0.0, most_give]))
        self._binary.add(n)
        self.binaries += 1


def _replay(model: Model, solution: FloatArray) -> Run:
    """Run the netted schedule through the simulator."""
    case, steps = model.case, model.steps
    net = solution[model.charge] - solution[model.give]
    charger = case.world.layout.port_charger[steps.port]
    grid = np.where(
        net > 0,
        net / case.world.layout.charge_efficiency[charger],
        net * case.world.layout.discharge_efficiency[charger],
    )
    mean_kw = np.zeros((len(case.series), case.world.ports))
    mean_kw[steps.step, steps.port] = grid / case.series.step_h
    return run(case, lambda station: station.commands_for(mean_kw[station.t]), "optimum")
