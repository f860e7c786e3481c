"""A thin wrapper of HiGHS: arrays in, arrays out, statuses checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from evcm.arrays import FloatArray
from evcm.errors import SolverError

Int32Array = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Answer:
    """What a solve returned. `status` is optimal, infeasible or stopped (at the time limit).

    `bound` is HiGHS's proven bound of a program with integers, the value of one without.
    """

    status: str
    value: float
    column: FloatArray
    row_dual: FloatArray
    column_dual: FloatArray
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

    def solve(self, solver: str = "choose", time_limit_s: float = np.inf) -> Answer:
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
                np.asarray(found.row_dual), np.asarray(found.col_dual),
                max(0, info.simplex_iteration_count) + max(0, info.ipm_iteration_count),
                info.mip_dual_bound if self.integers else self.highs.getObjectiveValue(),
                max(0, info.mip_node_count),
            )  # fmt: skip
        if status in (kinds.kInfeasible, kinds.kUnboundedOrInfeasible):
            _, has, ray = self.highs.getDualRay()
            dual = np.asarray(ray) if has else np.zeros(0)
            return Answer("infeasible", np.inf, np.zeros(0), dual, np.zeros(0), 0)
        raise SolverError(
            f"HiGHS ended with status {self.highs.modelStatusToString(status)}", status=str(status)
        )


def solve_barrier(
    matrix: sparse.csc_matrix, cost: FloatArray, low: FloatArray, high: FloatArray,
    row_low: FloatArray, row_high: FloatArray, tolerance: float, exact: bool,
) -> Answer:  # fmt: skip
    """One linear program by the interior-point method, without crossover unless `exact`.

    Where it fails, once more with presolve, then with crossover, then by simplex. `status` of the
    answer is optimal, infeasible, or the word of HiGHS.
    """
    kinds = highspy.HighsModelStatus
    quick: dict[str, object] = {
        "run_crossover": "off", "ipm_optimality_tolerance": tolerance, "presolve": "off",
    }  # fmt: skip
    tries: list[dict[str, object]] = [{"solver": "ipx"}, {"solver": "simplex"}]
    if not exact:
        tries = [{"solver": "ipx", **quick}, {"solver": "ipx", **quick, "presolve": "on"}, *tries]
    word = ""
    for options in tries:
        program = LP(matrix, cost, low, high, row_low, row_high)
        limits = {"ipm_iteration_limit": 300, "simplex_iteration_limit": 500_000}
        for name, value in (limits | options | {"time_limit": 600.0}).items():
            program.option(name, value)
        program.highs.run()
        status, info = program.highs.getModelStatus(), program.highs.getInfo()
        found = program.highs.getSolution()
        word = program.highs.modelStatusToString(status)
        near = not exact and status == kinds.kUnknown and found.dual_valid
        if status == kinds.kOptimal or (near and info.max_primal_infeasibility < 0.01):
            return Answer(
                "optimal", info.objective_function_value, np.asarray(found.col_value),
                np.asarray(found.row_dual), np.asarray(found.col_dual), 0,
            )  # fmt: skip
        if status == kinds.kInfeasible:
            word = "infeasible"
            break
    return Answer(word, np.inf, np.zeros(0), np.zeros(0), np.zeros(0), 0)
