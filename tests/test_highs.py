"""The door to HiGHS: outcomes say what is known, bounds hold the whole objective."""

import cvxpy as cp
import numpy as np
import pytest

from evcm import highs


def test_a_bound_holds_the_constant_of_the_objective():
    x = cp.Variable(3, integer=True)
    problem = cp.Problem(cp.Minimize(cp.sum(x) + 100.0), [x >= 0.5])
    found = highs.run(problem, 60.0)
    assert found.solved
    assert found.optimal
    assert found.bound == pytest.approx(103.0)
    assert found.bound <= problem.value


def test_outcomes_without_a_solution():
    x = cp.Variable()
    none = highs.run(cp.Problem(cp.Minimize(x), [x >= 1, x <= 0]), 60.0)
    assert none.infeasible
    assert not none.solved
    late = highs.run(cp.Problem(cp.Minimize(x), [x >= 1]), 0.0)
    assert (late.solved, late.infeasible, late.bound) == (False, False, -np.inf)
