"""A parametrised CVXPY problem as plain numbers: its affine map from sliders to the program.

CVXPY's rules for parameters (DPP) make every coefficient of a linear or mixed-integer program an
affine function of the parameters. `Program.model` writes that function down, so that a page builds
the same program for any place of its sliders without CVXPY:

    min c(θ)x + d(θ)  subject to  A(θ)x = b(θ) or <= b(θ),  bounds, integrality.

A parameter is a product of sliders and named by it: ``cars*charger_kw``. What a page shows are
expressions of the same problem, exported in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cvxpy as cp
import numpy as np
import scipy.sparse as sp

from evcm import highs
from evcm.arrays import FloatArray
from evcm.errors import Checks, InfeasibleError, SolverError
from evcm.inputs.values import PriceSteps

Setting = Mapping[str, float]
"""Place of every slider by its name."""

GAP = 1e-3
"""Relative gap to which a page and `Program.solve` solve mixed-integer programs."""


@dataclass(frozen=True)
class Slider:
    """A number that the reader sets. With the range 0 to 1 in one step it is a switch.

    `more` says whether a higher ("at least") or a lower ("at most") value, or None, makes plans
    possible: what a page looks for where no plan exists.
    """

    name: str
    label: str
    low: float
    high: float
    step: float
    start: float
    unit: str = ""
    more: bool | None = None

    def __post_init__(self) -> None:
        c = Checks(f"slider {self.name}")
        c.require(self.low < self.high, "low, high", (self.low, self.high), "low < high")
        c.require(0 < self.step <= self.high - self.low, "step", self.step, "0 < step <= range")
        c.require(self.low <= self.start <= self.high, "start", self.start, "low..high")
        c.done()


@dataclass(frozen=True, eq=False)
class Payment:
    """Energy paid at the price of the system's load: USD of a day, λ(load) times power.

    `load_mw` and `power_mw` name outputs of equal size; entry i weighs `weight_h[i]` hours and
    `level` names the slider that multiplies the price.
    """

    load_mw: str
    power_mw: str
    weight_h: FloatArray
    price: PriceSteps
    level: str

    def usd(self, outputs: Mapping[str, FloatArray], setting: Setting) -> float:
        """What is paid, by `PriceSteps.payment`."""
        paid = self.price.payment(outputs[self.load_mw], outputs[self.power_mw])
        return float(setting[self.level] * (self.weight_h @ paid))


Part = Payment | str
"""A part of the cost: a payment, or the name of an output of size 1."""


@dataclass(frozen=True, eq=False)
class Answer:
    """A solved setting: what a page shows, from Python."""

    setting: dict[str, float]
    outputs: dict[str, FloatArray] = field(repr=False)
    parts_usd: dict[str, float]
    bound_usd: float
    status: str

    @property
    def cost_usd(self) -> float:
        """Sum of the parts."""
        return sum(self.parts_usd.values())

    @property
    def gap(self) -> float:
        """Proven distance from the optimum, as a share of the money that changes hands."""
        turnover = max(1.0, sum(abs(v) for v in self.parts_usd.values()))
        return max(0.0, self.cost_usd - self.bound_usd) / turnover

    def words(self) -> dict[str, float]:
        """Numbers for sentences: sliders, parts, outputs of size 1, cost, bound and gap."""
        single = {k: float(v[0]) for k, v in self.outputs.items() if v.size == 1}
        parts = {k.replace(" ", "_") + "_usd": v for k, v in self.parts_usd.items()}
        found = {"cost_usd": self.cost_usd, "bound_usd": self.bound_usd, "gap": self.gap}
        return {**self.setting, **single, **parts, **found}


@dataclass(frozen=True, eq=False)
class Program:
    """A CVXPY problem whose scalar parameters are products of sliders.

    Attributes
    ----------
    problem : cvxpy.Problem
        Linear or mixed-integer, and DPP.
    outputs : mapping
        Name and affine expression of everything that is shown; flattened in C order.
    parts : mapping
        Parts of the cost. Their sum is at least the problem's optimum, which bounds it.
    attempts : sequence of settings
        Switches of the program that are no sliders, such as a restriction of it. The first bounds
        the optimum; the others are tried until the gap is met, and the cheapest plan is shown.
    gap : float
        Relative gap at which to stop.

    Raises
    ------
    InputError
        The problem is not DPP, or an output is not affine.
    """

    problem: cp.Problem
    outputs: Mapping[str, cp.Expression]
    parts: Mapping[str, Part]
    attempts: Sequence[Setting] = ({},)
    gap: float = GAP

    def __post_init__(self) -> None:
        c = Checks("live program")
        c.require(self.problem.is_dpp(), "problem", "not DPP", "affine in its parameters (DPP)")
        for name, shown in self.outputs.items():
            c.require(shown.is_affine(), f"output {name}", shown.curvature, "affine")
        for name, part in self.parts.items():
            used = (part,) if isinstance(part, str) else (part.load_mw, part.power_mw)
            for one in used:
                c.require(one in self.outputs, f"part {name}", one, "the name of an output")
        c.done()

    def place(self, setting: Setting, **vectors: FloatArray) -> None:
        """Give every parameter its value: products of sliders, and `vectors` by name."""
        for parameter in self.problem.parameters():
            name = parameter.name()
            parameter.value = vectors[name] if name in vectors else product(name, setting)

    def solve(self, setting: Setting, **vectors: FloatArray) -> Answer:
        """Solve a setting with CVXPY and HiGHS.

        Raises
        ------
        InfeasibleError
            No plan exists at this setting.
        SolverError
            HiGHS did not reach the gap.
        """
        best, bound = None, -math.inf
        for attempt in self.attempts:
            found = self._once({**setting, **attempt}, setting, bound, vectors)
            if best is None and found is None:
                raise InfeasibleError("no plan exists at this setting", setting=dict(setting))
            if found is None:
                break
            bound = found.bound_usd
            best = found if best is None or found.cost_usd < best.cost_usd else best
            if best.gap <= self.gap:
                break
        assert best is not None
        return best

    def _once(
        self, full: Setting, setting: Setting, bound: float, vectors: Mapping[str, FloatArray]
    ) -> Answer | None:
        """The answer to one attempt, with the bound of the first; None where there is none."""
        self.place(full, **vectors)
        outcome = highs.run(self.problem, 300.0, mip_rel_gap=self.gap)
        if outcome.infeasible:
            return None
        if not outcome.optimal:
            raise SolverError(f"live program: {outcome.status}")
        if math.isinf(bound):
            bound = outcome.bound
        shown = {k: np.ravel(np.asarray(e.value, float)) for k, e in self.outputs.items()}
        parts = {
            name: float(shown[p][0]) if isinstance(p, str) else p.usd(shown, full)
            for name, p in self.parts.items()
        }
        return Answer({k: float(v) for k, v in setting.items()}, shown, parts, bound, "optimal")

    def model(self, setting: Setting, **vectors: FloatArray) -> dict[str, Any]:
        """The affine map as plain numbers; `setting` is any place, used to check it.

        Raises
        ------
        SolverError
            The map does not give what CVXPY gives: nothing wrong leaves this function.
        """
        self.place({**setting, **self.attempts[0]}, **vectors)
        data, _, _ = self.problem.get_problem_data(cp.HIGHS)
        form, n = data["param_prob"], int(data["param_prob"].x.size)
        rows = int(data["A"].shape[0])
        theta = _theta(form)
        a, b = _split(form.A, rows, n)
        sign_a, sign_b = _sign(a, theta, data["A"], rows), _sign(b, theta, data["b"], rows)
        cost, offset = _split(form.q if hasattr(form, "q") else form.c, 1, n)
        sign_c = _sign(cost, theta, data["c"], n)
        kinds = sorted({int(np.ravel(i)[0]) if np.ndim(i) else int(i)
                        for i in [*data["bool_vars_idx"], *data["int_vars_idx"]]})  # fmt: skip
        low, high = data["lower_bounds"], data["upper_bounds"]
        low = np.full(n, -np.inf) if low is None else np.array(low, float)
        high = np.full(n, np.inf) if high is None else np.array(high, float)
        low[data["bool_vars_idx"]] = np.maximum(low[data["bool_vars_idx"]], 0.0)
        high[data["bool_vars_idx"]] = np.minimum(high[data["bool_vars_idx"]], 1.0)
        return {
            "columns": n, "rows": rows, "equalities": int(data["dims"].zero),
            "parameters": _parameters(form), "size": int(theta.size), "constant": _constant(form),
            "attempts": [dict(a) for a in self.attempts],
            "matrix": _triples(a, rows, sign_a), "right": _triples(b, rows, sign_b),
            "cost": _triples(cost, n, sign_c), "offset": _triples(offset, 1, sign_c),
            "low": _finite(low), "high": _finite(high), "integer": kinds, "gap": self.gap,
            "outputs": {k: self._output(e, form, n) for k, e in self.outputs.items()},
            "parts": {k: _part(p) for k, p in self.parts.items()},
        }  # fmt: skip

    def _output(self, shown: cp.Expression, form: Any, n: int) -> dict[str, Any]:
        """An expression over the columns of the program: its matrix and constant, affine in θ."""
        size = int(shown.size)
        alone = cp.Problem(cp.Minimize(0), [cp.vec(shown, order="C") == 0])
        own = alone.get_problem_data(cp.HIGHS)[0]["param_prob"]
        columns = np.zeros(own.x.size, int)
        for variable in shown.variables():
            first, target = own.var_id_to_col[variable.id], form.var_id_to_col[variable.id]
            columns[first : first + variable.size] = target + np.arange(variable.size)
        places = np.zeros(own.A.shape[1], int)
        places[-1] = _constant(form)
        for parameter in shown.parameters():
            first, target = own.param_id_to_col[parameter.id], form.param_id_to_col[parameter.id]
            places[first : first + parameter.size] = target + np.arange(parameter.size)
        a, b = _split(own.A, size, int(own.x.size))
        sign_a, sign_b = _signs_of(shown, a, b, own)
        matrix, constant = _triples(a, size, sign_a), _triples(b, size, sign_b)
        matrix["j"] = [int(columns[j]) for j in matrix["j"]]
        for part in (matrix, constant):
            part["k"] = [int(places[k]) for k in part["k"]]
        return {"size": size, "matrix": matrix, "constant": constant}


def _signs_of(
    shown: cp.Expression, a: sp.coo_array, b: sp.coo_array, form: Any
) -> tuple[float, float]:
    """Signs with which the map of ``shown == 0`` gives the expression at an arbitrary point."""
    size, theta = int(shown.size), _theta(form)
    rng, x = np.random.default_rng(0), np.zeros(form.x.size)
    kept = {v: v.value for v in shown.variables()}
    for variable in kept:
        first = form.var_id_to_col[variable.id]
        value = rng.uniform(0.5, 1.5, variable.size)
        x[first : first + variable.size] = value
        variable.save_value(value.reshape(variable.shape, order="F"))
    wanted = np.ravel(np.asarray(shown.value, float))
    for variable, value in kept.items():
        variable.save_value(value)
    moving, fixed = np.zeros(size), np.zeros(size)
    np.add.at(moving, a.row % size, a.data * theta[a.col] * x[a.row // size])
    np.add.at(fixed, b.row % size, b.data * theta[b.col])
    for signs in ((1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0), (1.0, -1.0)):
        if np.allclose(signs[0] * moving + signs[1] * fixed, wanted, rtol=1e-9, atol=1e-9):
            return signs
    raise SolverError("live program: the map of an output differs from the expression")


def product(formula: str, setting: Setting) -> float:
    """Value of a product of sliders, such as ``cars*charger_kw``."""
    words = formula.split("*")
    c = Checks("live program")
    for word in words:
        c.require(word in setting, "parameter", formula, "a product of " + ", ".join(setting))
    c.done()
    return math.prod(float(setting[word]) for word in words)


def check_setting(sliders: Sequence[Slider], setting: Setting, subject: str) -> dict[str, float]:
    """All sliders with their values, those left out at their start.

    Raises
    ------
    InputError
        An unknown name, or a value out of a slider's range.
    """
    c, names = Checks(subject), [s.name for s in sliders]
    for name in set(setting) - set(names):
        c.require(False, name, setting[name], "one of " + ", ".join(names))
    full = {s.name: float(setting.get(s.name, s.start)) for s in sliders}
    for s in sliders:
        inside = s.low - 1e-9 <= full[s.name] <= s.high + 1e-9
        c.require(inside, s.name, full[s.name], f"{s.low:g}..{s.high:g}")
    c.done()
    return full


def _constant(form: Any) -> int:
    """Place of the constant 1 among the parameters."""
    own = {p.id for p in form.parameters}
    return int(next(c for i, c in form.param_id_to_col.items() if i not in own))


def _parameters(form: Any) -> list[dict[str, Any]]:
    return [
        {"name": p.name(), "at": int(form.param_id_to_col[p.id]), "size": int(p.size)}
        for p in form.parameters
    ]


def _theta(form: Any) -> FloatArray:
    """Values of all parameters, and 1 for the constant."""
    theta = np.zeros(form.A.shape[1])
    theta[_constant(form)] = 1.0
    for p in form.parameters:
        first = form.param_id_to_col[p.id]
        theta[first : first + p.size] = np.ravel(np.asarray(p.value, float), order="F")
    return theta


def _split(stacked: Any, rows: int, n: int) -> tuple[sp.coo_array, sp.coo_array]:
    """Parts of CVXPY's map of [A | b], stacked column by column, that belong to A and to b.

    In coordinates throughout: the stack has as many rows as A has places.
    """
    whole = sp.coo_array(stacked)
    of_b = whole.row >= rows * n

    def part(mine: Any, first: int, height: int) -> sp.coo_array:
        where = (whole.row[mine] - first, whole.col[mine])
        return sp.coo_array((whole.data[mine], where), shape=(height, whole.shape[1]))

    return part(~of_b, 0, rows * n), part(of_b, rows * n, rows)


def _sign(part: sp.coo_array, theta: FloatArray, wanted: Any, rows: int) -> float:
    """The sign with which a part of the map gives what CVXPY hands to HiGHS."""
    dense: Any = wanted if sp.issparse(wanted) else np.reshape(wanted, (-1, 1))
    target = sp.csc_array(dense)
    where = (part.row % rows, part.row // rows)
    made = sp.coo_array((part.data * theta[part.col], where), shape=target.shape).tocsc()
    largest = max(1.0, float(abs(target).max()))
    for sign in (1.0, -1.0):
        if float(abs(sign * made - target).max()) <= 1e-12 * largest:
            return sign
    raise SolverError("live program: the map differs from CVXPY's program")


def _triples(part: sp.coo_array, rows: int, sign: float) -> dict[str, Any]:
    """Entries (row i, column j, parameter k, value v), sorted by column and row."""
    part = sp.coo_array(part)
    order = np.argsort(part.row, kind="stable")
    place = part.row[order]
    value = sign * part.data[order]
    keep = value != 0
    return {
        "i": (place[keep] % rows).tolist(), "j": (place[keep] // rows).tolist(),
        "k": part.col[order][keep].tolist(), "v": [_short(v) for v in value[keep]],
    }  # fmt: skip


def _short(value: float) -> float | int:
    return int(value) if float(value).is_integer() else float(value)


def _finite(bounds: FloatArray) -> dict[str, list[Any]]:
    at = np.flatnonzero(np.isfinite(bounds))
    return {"at": at.tolist(), "v": [_short(v) for v in bounds[at]]}


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, str):
        return {"output": part}
    return {
        "load": part.load_mw, "power": part.power_mw, "level": part.level,
        "weight": np.asarray(part.weight_h, float).tolist(),
        "edge": part.price.edge_mw.tolist(), "price": part.price.price_usd_per_kwh.tolist(),
    }  # fmt: skip
