"""A thin wrapper of HiGHS: arrays or a CVXPY problem in, statuses checked, every call limited."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import highspy
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from evcm.arrays import FloatArray
from evcm.errors import SolverError

if TYPE_CHECKING:  # it takes a second to load
    import cvxpy as cp

Int32Array = NDArray[np.int32]

LIMIT_S = 600.0
"""Most seconds of a linear program for which no limit is told."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a solve returned. `status` is optimal, infeasible or stopped (at the time limit).

    `bound` is HiGHS's proven bound of a program with integers, the value of one without.
    """

    status: str
    value: float
    column: FloatArray
    row_dual: FloatArray
    iterations: int
    bound: float = np.nan
    nodes: int = 0


class LP:
    """One HiGHS object, to which rows and columns are added.

    Parameters
    ----------
    matrix : scipy.sparse.csc_matrix
        (rows, columns).
    cost, low, high : array
        (columns,) objective and bounds; infinite bounds are ``np.inf``.
    row_low, row_high : array
        (rows,) limits of each row.
    offset : float
        Constant of the objective.

    Raises
    ------
    SolverError
        HiGHS refuses a part of the program.
    """

    def __init__(
        self,
        matrix: sparse.csc_matrix,
        cost: FloatArray,
        low: FloatArray,
        high: FloatArray,
        row_low: FloatArray,
        row_high: FloatArray,
        offset: float = 0.0,
    ) -> None:
        lp = highspy.HighsLp()
        lp.offset_ = offset
        lp.num_row_, lp.num_col_ = matrix.shape
        lp.col_cost_, lp.col_lower_, lp.col_upper_ = cost, low, high
        lp.row_lower_, lp.row_upper_ = row_low, row_high
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_, lp.a_matrix_.index_ = matrix.indptr, matrix.indices
        lp.a_matrix_.value_ = matrix.data
        self.highs = highspy.Highs()
        self.columns, self.rows = lp.num_col_, lp.num_row_
        self.integers = 0
        self.option("output_flag", False)
        self.option("threads", 1)
        self._check(self.highs.passModel(lp), "passModel")

    def _check(self, status: Any, what: str) -> None:
        if status == highspy.HighsStatus.kError:
            raise SolverError(f"HiGHS refused {what}")

    def option(self, name: str, value: object) -> None:
        """Set an option of HiGHS."""
        self._check(self.highs.setOptionValue(name, value), f"option {name} = {value}")

    def integer(self, column: ArrayLike) -> None:
        """Let some columns take whole values only."""
        at = np.unique(np.asarray(column, np.int32))
        kind = np.full(at.size, highspy.HighsVarType.kInteger)
        if at.size:
            status = self.highs.changeColsIntegrality(at.size, at, kind)
            self._check(status, "integrality")
        self.integers += at.size

    def change(
        self, cost: FloatArray, low: FloatArray, high: FloatArray,
        row_low: FloatArray, row_high: FloatArray,
    ) -> None:  # fmt: skip
        """Replace all costs and bounds; the basis stays."""
        h, columns = self.highs, np.arange(self.columns, dtype=np.int32)
        rows = np.arange(self.rows, dtype=np.int32)
        self._check(h.changeColsCost(self.columns, columns, cost), "costs")
        self._check(h.changeColsBounds(self.columns, columns, low, high), "bounds")
        self._check(h.changeRowsBounds(self.rows, rows, row_low, row_high), "bounds of rows")

    def add_columns(self, cost: FloatArray, low: FloatArray, high: FloatArray) -> int:
        """Add empty columns; returns the number of the first."""
        first, count = self.columns, len(cost)
        none, zero = np.zeros(0), np.zeros(0, np.int32)
        status = self.highs.addCols(
            count, cost, low, high, 0, np.zeros(count, np.int32), zero, none
        )
        self._check(status, "columns")
        self.columns += count
        return first

    def add_rows(self, matrix: sparse.csr_matrix, low: FloatArray, high: FloatArray) -> None:
        """Add rows over all columns."""
        count = matrix.shape[0]
        status = self.highs.addRows(
            count, low, high, matrix.nnz, matrix.indptr[:-1].astype(np.int32),
            matrix.indices.astype(np.int32), matrix.data,
        )  # fmt: skip
        self._check(status, "rows")
        self.rows += count

    def solve(self, solver: str = "choose", time_limit_s: float = LIMIT_S) -> Answer:
        """Solve; `solver` is choose, ipm or simplex (which starts from the last basis)."""
        self.option("solver", solver)
        # HiGHS measures its limit from the object's first run on.
        self.option("time_limit", min(1e30, self.highs.getRunTime() + max(0.0, time_limit_s)))
        kinds = highspy.HighsModelStatus
        settled = (
            kinds.kOptimal, kinds.kTimeLimit, kinds.kInfeasible, kinds.kUnboundedOrInfeasible
        )  # fmt: skip
        self._check(self.highs.run(), "run")
        if self.highs.getModelStatus() not in settled:
            # Once more from nothing: a basis can be too ill-conditioned to go on from.
            self.highs.clearSolver()
            self.option("solver", "choose")
            self._check(self.highs.run(), "run")
        status, info = self.highs.getModelStatus(), self.highs.getInfo()
        if status in (kinds.kOptimal, kinds.kTimeLimit):
            found = self.highs.getSolution()
            return Answer(
                "optimal" if status == kinds.kOptimal else "stopped",
                self.highs.getObjectiveValue(), np.asarray(found.col_value),
                np.asarray(found.row_dual),
                max(0, info.simplex_iteration_count) + max(0, info.ipm_iteration_count),
                info.mip_dual_bound if self.integers else self.highs.getObjectiveValue(),
                max(0, info.mip_node_count),
            )  # fmt: skip
        if status in (kinds.kInfeasible, kinds.kUnboundedOrInfeasible):
            return Answer("infeasible", np.inf, np.zeros(0), np.zeros(0), 0)
        raise SolverError(
            f"HiGHS ended with status {self.highs.modelStatusToString(status)}", status=str(status)
        )


_FEASIBLE = 2  # HiGHS: kSolutionStatusFeasible


@dataclass(frozen=True)
class Outcome:
    """How HiGHS ended with a CVXPY problem, whose variables hold what it found.

    `solved` tells that a feasible point is known, `optimal` that it is proven to the gap asked for;
    `bound` is on the objective, -inf where none is proven; of a program with integers for which no
    point is known, on the objective without its constant. `status` is HiGHS's own word.
    """

    solved: bool
    optimal: bool
    infeasible: bool
    bound: float
    status: str


def run(
    problem: cp.Problem, time_limit_s: float, warm_start: bool = True, **options: object
) -> Outcome:
    """Give a CVXPY problem, whose objective has a bound, to HiGHS on one thread.

    `options` are those of HiGHS. An error of the solver is an outcome that is not solved.
    """
    import cvxpy as cp

    if time_limit_s <= 0:
        return Outcome(False, False, False, -np.inf, "no time left")
    asked = {"time_limit": float(time_limit_s), "threads": 1, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CVXPY warns of limits; the status says the same
        try:
            problem.solve(solver=cp.HIGHS, highs_options=asked, warm_start=warm_start)
        except cp.error.SolverError as error:
            return Outcome(False, False, False, -np.inf, f"HiGHS failed: {error}")
    none = (cp.INFEASIBLE, cp.INFEASIBLE_INACCURATE, "infeasible_or_unbounded")
    info = getattr(problem.solver_stats, "extra_stats", None)
    # A stopped solver may hand back a point that is not feasible.
    feasible = info is not None and info.primal_solution_status == _FEASIBLE
    solved = bool(feasible and problem.value is not None and np.isfinite(problem.value))
    optimal = solved and problem.status == cp.OPTIMAL
    bound = float(problem.value) if optimal else -np.inf
    if problem.is_mixed_integer() and info is not None:
        bound = float(info.mip_dual_bound)
        if solved:  # HiGHS's own lacks the constant of the objective
            bound = float(problem.value) - max(0.0, info.objective_function_value - bound)
    return Outcome(solved, optimal, problem.status in none, bound, f"HiGHS: {problem.status}")
