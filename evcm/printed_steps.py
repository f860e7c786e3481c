"""The printed price steps (25)-(27), (31)-(36) of one period, and what is wrong with them.

One period of one aggregator, power given: the least cost that the printed inequalities allow. It
shows by computation why the step indicator must be forced both ways and why the inequalities that
switch a step off take M·PQP, not M·(1 - PQP). `evcm.aggregator.model` needs neither.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from evcm.errors import Checks, SolverError
from evcm.inputs import PERIOD_H, PriceSteps

Form = Literal["printed", "switch corrected", "corrected"]

FORMS: tuple[Form, ...] = ("printed", "switch corrected", "corrected")
"""As printed; with (33) and (36) corrected; with (27) forced both ways, too."""


def least_cost_usd(
    power_mw: float, system_load_mw: float, prices: PriceSteps, form: Form, big_m_mw: float = 1000.0
) -> float:
    """Least day-ahead cost (22) of a period under a form of the printed inequalities.

    Parameters
    ----------
    power_mw : float
        Power bought (negative: sold), given.
    system_load_mw : float
        Load of the rest of the system.
    prices : PriceSteps
    form : {"printed", "switch corrected", "corrected"}
        Which inequalities hold.
    big_m_mw : float
        The constant M_big of the formulation. A sound form does not depend on it.

    Returns
    -------
    float
        USD for the half-hour.

    Raises
    ------
    InputError
        An unknown form, or a constant that is too small for the load.
    SolverError
        The solver did not reach an optimum.
    """
    checks = Checks("printed price steps")
    checks.require(form in FORMS, "form", form, ", ".join(FORMS))
    least = abs(power_mw) + system_load_mw + float(prices.edge_mw[-1])
    checks.require(big_m_mw >= least, "big_m_mw", big_m_mw, f">= {least:g}")
    checks.done()
    cost, rows = _problem(power_mw, system_load_mw, prices, form, big_m_mw)
    steps = len(prices)
    integer = np.concatenate([np.zeros(2 + 2 * steps), np.ones(steps)])
    upper = np.concatenate([np.full(2 + 2 * steps, np.inf), np.ones(steps)])
    answer = milp(
        cost, constraints=rows, integrality=integer, bounds=Bounds(np.zeros(upper.size), upper)
    )
    if not answer.success:
        raise SolverError(f"printed price steps, {form}: {answer.message}")
    return float(answer.fun)


def _problem(
    power_mw: float, load_mw: float, prices: PriceSteps, form: Form, big_m: float
) -> tuple[np.ndarray, LinearConstraint]:
    """Objective (22) and rows; columns: bought, sold, effective bought and sold by step, PQP."""
    steps = len(prices)
    columns = 2 + 3 * steps
    rise = np.diff(prices.price_usd_per_kwh, prepend=0.0) * 1000.0 * PERIOD_H
    cost = np.concatenate([[0.0, 0.0], rise, -rise, np.zeros(steps)])
    rows: list[tuple[dict[int, float], float, float]] = []
    rows.append(({0: 1.0, 1: -1.0}, power_mw, power_mw))  # (25), the power is given
    total = power_mw + load_mw
    for b in range(steps):
        # Step b begins at the upper edge of the step before; the first begins at nothing.
        edge = float(prices.edge_mw[b - 1]) if b else 0.0
        pqp = 2 + 2 * steps + b
        rows.append(({pqp: edge}, -np.inf, total))  # (27)
        if form == "corrected":
            rows.append(({pqp: -big_m}, -np.inf, edge - total))  # (27) the other way
        for part, whole in ((2 + b, 0), (2 + steps + b, 1)):
            # (31), (34): effective >= whole - M (1 - PQP)
            rows.append(({part: 1.0, whole: -1.0, pqp: -big_m}, -big_m, np.inf))
            rows.append(({part: 1.0, whole: -1.0}, -np.inf, 0.0))  # (32), (35)
            if form == "printed":
                rows.append(({part: 1.0, pqp: big_m}, -np.inf, big_m))  # (33), (36)
            else:
                rows.append(({part: 1.0, pqp: -big_m}, -np.inf, 0.0))
    matrix = np.zeros((len(rows), columns))
    for i, (entries, _, _) in enumerate(rows):
        for column, value in entries.items():
            matrix[i, column] = value
    return cost, LinearConstraint(matrix, [r[1] for r in rows], [r[2] for r in rows])
