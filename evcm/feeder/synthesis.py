"""Transmission results characterised, and synthetic feeder samples drawn from them (2.4.3).

The transmission results of all scenarios, sides, regimes, buses and periods are characterised by
period: the marginals of head voltage, load and car power of one feeder, and their dependence. A
synthetic set is a fraction of the full set, drawn in one of several ways (`METHODS`); each goes
through the feeder, and the voltages it gives are compared with those of the full set.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from evcm import data
from evcm.arrays import FloatArray, IntArray
from evcm.errors import Checks
from evcm.feeder.coupling import FeederCases, feeder_cases
from evcm.feeder.draws import DRAWS, METHODS
from evcm.feeder.ieee13 import circuit
from evcm.feeder.states import FeederStates, solve

LOW_PERCENTILE = 5.0


@dataclass(frozen=True, eq=False)
class Reference:
    """The full set: its columns sorted, their means and low percentiles."""

    ordered: FloatArray
    mean: FloatArray
    low: FloatArray


def prepare(full: FloatArray) -> Reference:
    """Prepare the full set (case, terminal) for many comparisons."""
    ordered = np.sort(full, axis=0)
    weights = np.full(len(full), 1 / len(full))
    low = weighted_percentile(ordered, weights, LOW_PERCENTILE)
    return Reference(ordered, full.mean(axis=0), low)


def distribution_errors(
    reference: Reference, sample: FloatArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Errors of a weighted sample (case, terminal) by terminal.

    Returns the absolute differences of the means and of the 5th percentiles, and the Wasserstein
    distances.
    """
    low = weighted_percentile(sample, weights, LOW_PERCENTILE)
    distance = wasserstein(reference.ordered, sample, weights)
    return np.abs(weights @ sample - reference.mean), np.abs(low - reference.low), distance


def weighted_percentile(values: FloatArray, weights: FloatArray, percent: float) -> FloatArray:
    """Smallest value at which the weighted distribution function reaches `percent`, by column."""
    order = np.argsort(values, axis=0, kind="stable")
    reached = np.cumsum(weights[order], axis=0)
    # the last sum is 1 but for rounding, and so is any other
    at = np.argmax(reached >= percent / 100 * reached[-1] * (1 - 1e-12), axis=0)
    found: FloatArray = np.take_along_axis(values, np.take_along_axis(order, at[None], 0), 0)[0]
    return found


def wasserstein(ordered: FloatArray, sample: FloatArray, weights: FloatArray) -> FloatArray:
    """First Wasserstein distance of an unweighted set and a weighted sample, by column.

    The area between the two distribution functions: both sets are merged in order, and the
    difference of the functions is the running sum of the weights, one set's counted negative.
    """
    merged = np.concatenate([ordered, sample])
    mass = np.concatenate([np.full(len(ordered), 1 / len(ordered)), -weights])
    order = np.argsort(merged, axis=0, kind="stable")
    between = np.abs(np.cumsum(mass[order], axis=0)[:-1])
    steps = np.diff(np.take_along_axis(merged, order, axis=0), axis=0)
    area: FloatArray = (between * steps).sum(axis=0)
    return area


VARIABLES = ("head_v_pu", "load_scale", "ev_kw")
METRICS = ("mean_error_pu", "p5_error_pu", "wasserstein_pu")


@dataclass(frozen=True, eq=False)
class Characterisation:
    """Transmission results by period: the full set of what one feeder sees.

    `periods` (period,) are those that occur, `rows` the cases of each.
    """

    cases: FeederCases
    periods: IntArray
    rows: tuple[IntArray, ...]

    def __len__(self) -> int:
        return len(self.cases)

    @cached_property
    def values(self) -> FloatArray:
        """Head voltage, load scale and car power of the full set, (case, 3)."""
        return np.column_stack([getattr(self.cases, name) for name in VARIABLES])

    @cached_property
    def states(self) -> FeederStates:
        """The feeder's states of the full set."""
        return solve(self.cases)

    def table(self) -> pd.DataFrame:
        """Marginals and dependence by period.

        Columns: period, rows; mean, sd, p5, p50, p95 of each variable (``head_v_pu_mean`` ...), and
        the rank correlations ``voltage_load``, ``voltage_cars``, ``load_cars`` (NaN where a
        variable does not vary).
        """
        found = []
        for period, rows in zip(self.periods, self.rows, strict=True):
            values = self.values[rows]
            entry: dict[str, float] = {"period": int(period), "rows": len(rows)}
            for name, column in zip(VARIABLES, values.T, strict=True):
                entry |= {f"{name}_mean": column.mean(), f"{name}_sd": column.std()}
                entry |= {f"{name}_p{q}": np.percentile(column, q) for q in (5, 50, 95)}
            ranks = pd.DataFrame(values).corr("spearman").to_numpy()
            entry |= {"voltage_load": ranks[0, 1], "voltage_cars": ranks[0, 2]}
            entry["load_cars"] = ranks[1, 2]
            found.append(entry)
        return pd.DataFrame(found)


@dataclass(frozen=True, eq=False)
class Synthetic:
    """A synthetic set: cases with weights that sum to 1.

    ``rows`` are places in the full set where the method picks from it; None where it draws anew.
    """

    method: str
    fraction: float
    cases: FeederCases
    weights: FloatArray
    rows: IntArray | None


def characterise(table: pd.DataFrame, feeders: pd.DataFrame | None = None) -> Characterisation:
    """Characterise transmission results (columns of `evcm.feeder.states.feeder_cases`)."""
    cases = feeder_cases(table, feeders)
    periods = np.unique(cases.period)
    rows = tuple(np.flatnonzero(cases.period == p) for p in periods)
    return Characterisation(cases, periods, rows)


def fractions() -> tuple[float, ...]:
    """Fractions of the full set at which the error curve is computed."""
    return tuple(data.read_toml("feeder/synthesis.toml")["fractions"])


def paper_fractions() -> tuple[float, ...]:
    """Fractions at which the paper finds the lowest error (3.3)."""
    return tuple(data.read_toml("feeder/synthesis.toml")["paper_fractions"])


def draw(known: Characterisation, fraction: float, method: str, seed: int = 0) -> Synthetic:
    """Draw a synthetic set, of `fraction` (above 0, at most 1) of the size of the full one.

    Methods are ``monte_carlo``: normal in each period with the means and covariances found, the
    paper's stochastic characterisation; ``copula``: Gaussian copula, marginals as found;
    ``marginals``: marginals as found, no dependence; ``subset``: rows picked at random;
    ``kmedoids``: the rows that stand for clusters, weighted by their size. Same seed, same draw;
    every method and fraction has a stream of its own.

    Notes
    -----
    Draws outside the range found in a period are set to its ends: a normal law has no bounds, a
    bus voltage has. Every period gets its share of the rows; what is left over goes to periods
    picked at random.
    """
    c = Checks("synthesis")
    c.require(0 < fraction <= 1, "fraction", fraction, "above 0, at most 1")
    c.require(method in METHODS, "method", method, ", ".join(METHODS))
    c.require(seed >= 0, "seed", seed, ">= 0")
    c.done()
    rng = np.random.default_rng([seed, METHODS.index(method), round(fraction * 1e6), 2403])
    counts = _counts(known, fraction, rng)
    values, weights, rows, periods = [], [], [], []
    for k, period, members in zip(counts, known.periods, known.rows, strict=True):
        if k == 0:
            continue
        drawn, weight, picked = DRAWS[method](known.values[members], int(k), rng)
        values.append(drawn)
        weights.append(weight * len(members) if method == "kmedoids" else weight * k)
        rows.append(members[picked] if picked is not None else None)
        periods.append(np.full(len(drawn), period))
    v, w = np.concatenate(values), np.concatenate(weights)
    cases = FeederCases(np.concatenate(periods), v[:, 0], v[:, 1], v[:, 2])
    picked_rows = None if rows[0] is None else np.concatenate([r for r in rows if r is not None])
    return Synthetic(method, fraction, cases, w / w.sum(), picked_rows)


def _counts(known: Characterisation, fraction: float, rng: np.random.Generator) -> IntArray:
    """Rows to draw in each period, proportional to the period's share of the full set."""
    total = max(round(fraction * len(known)), 1)
    exact = np.array([len(r) for r in known.rows]) * total / len(known)
    counts = np.floor(exact).astype(np.int64)
    rest = exact - counts
    left = total - int(counts.sum())
    if left:
        counts[rng.choice(len(counts), size=left, replace=False, p=rest / rest.sum())] += 1
    return counts


def error_curve(
    known: Characterisation,
    at: tuple[float, ...] | None = None,
    methods: tuple[str, ...] = METHODS,
    repeats: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Error of the voltage distribution by method, fraction and repeat, at every terminal.

    Returns
    -------
    DataFrame
        Columns method, fraction, repeat, node, phase, and the errors against the full set:
        mean_error_pu and p5_error_pu (absolute difference of the means and of the 5th
        percentiles), wasserstein_pu (Wasserstein distance). The head is not in it.

    Raises
    ------
    SolverError
        A power flow failed, see `evcm.feeder.states.solve`.
    """
    c = Checks("error curve")
    c.require(repeats >= 1, "repeats", repeats, ">= 1")
    c.done()
    full = known.states
    feeder = circuit(full.model)
    inner = np.array([t.node != feeder.head for t in feeder.terminals])
    reference = prepare(full.v_pu[:, inner])
    terminals = [t for t, keep in zip(feeder.terminals, inner, strict=True) if keep]
    found = []
    for repeat in range(repeats):
        sets = [draw(known, f, m, seed + repeat) for m in methods for f in at or fractions()]
        voltages = _voltages(sets, full)
        for one, v_pu in zip(sets, voltages, strict=True):
            errors = distribution_errors(reference, v_pu[:, inner], one.weights)
            found.append(
                pd.DataFrame(
                    {
                        "method": one.method,
                        "fraction": one.fraction,
                        "repeat": repeat,
                        "node": [t.node for t in terminals],
                        "phase": [t.phase for t in terminals],
                        **dict(zip(METRICS, errors, strict=True)),
                    }
                )
            )
    return pd.concat(found, ignore_index=True)


def _voltages(sets: list[Synthetic], full: FeederStates) -> list[FloatArray]:
    """Voltages of each set: picked rows are solved already, new draws go through the feeder."""
    new = [s for s in sets if s.rows is None]
    solved: list[FloatArray] = []
    if new:
        period, head, load, ev = (
            np.concatenate([getattr(s.cases, name) for s in new]) for name in ("period", *VARIABLES)
        )
        states = solve(FeederCases(period, head, load, ev))
        ends = np.cumsum([len(s.cases) for s in new])
        solved = np.split(states.v_pu, ends[:-1])
    of_full = full.v_pu
    anew = iter(solved)
    return [next(anew) if s.rows is None else of_full[s.rows] for s in sets]


def summarise(curve: pd.DataFrame) -> pd.DataFrame:
    """Errors averaged over terminals: mean and standard error over repeats, by method and fraction.

    Columns method, fraction, metric, error_pu, standard_error_pu (NaN for one repeat).
    """
    by_repeat = curve.groupby(["method", "fraction", "repeat"])[list(METRICS)].mean().reset_index()
    long = by_repeat.melt(
        ["method", "fraction", "repeat"], var_name="metric", value_name="error_pu"
    )
    groups = long.groupby(["method", "fraction", "metric"])["error_pu"]
    table = groups.agg(["mean", "sem"]).reset_index()
    return table.rename(columns={"mean": "error_pu", "sem": "standard_error_pu"})


def judge_fractions(
    curve: pd.DataFrame, marked: tuple[float, ...] | None = None, metric: str = "wasserstein_pu"
) -> pd.DataFrame:
    """Whether the error is lowest at the marked fractions (the paper's 5 % and 14 % by default).

    One row per method and marked fraction: error, the fraction of the lowest error and that error,
    ``is_minimum`` (of the average over repeats); ``is_clear``: it is a minimum, and lower than
    every other by more than two standard errors of the difference; and, because one draw is what
    a paper shows, ``minimum_in_repeats``: the share of single repeats with their minimum there.
    """
    c = Checks("judge fractions")
    c.require(metric in METRICS, "metric", metric, ", ".join(METRICS))
    marked = marked or paper_fractions()
    c.require(set(marked) <= set(curve["fraction"]), "marked", marked, "fractions of the curve")
    c.done()
    mean = curve.pivot_table(metric, ["method", "repeat"], "fraction", aggfunc="mean")
    found = []
    for method, by_repeat in mean.groupby("method"):
        average, variance = by_repeat.mean(), by_repeat.var() / len(by_repeat)
        for fraction in marked:
            lead = average.drop(fraction) - average[fraction]
            noise = 2 * np.sqrt(variance.drop(fraction) + variance[fraction])
            found.append(
                {
                    "method": method,
                    "fraction": fraction,
                    "error_pu": average[fraction],
                    "lowest_at": average.idxmin(),
                    "lowest_error_pu": average.min(),
                    "is_minimum": bool(average.idxmin() == fraction),
                    "is_clear": bool((lead > noise).all()),
                    "minimum_in_repeats": float((by_repeat.idxmin(axis=1) == fraction).mean()),
                }
            )
    return pd.DataFrame(found)


def smallest_sufficient(
    curve: pd.DataFrame, tolerance_pu: float = 5e-4, metric: str = "wasserstein_pu"
) -> pd.DataFrame:
    """Smallest fraction from which on the error of a method stays within `tolerance_pu`.

    Columns method, fraction (NaN where the method never gets there), error_pu at that fraction (or
    at the largest), sorted: the first row is the method that the curve chooses.
    """
    table = summarise(curve)
    found = []
    for method, rows in table[table["metric"] == metric].groupby("method"):
        rows = rows.sort_values("fraction")
        within = (rows["error_pu"] <= tolerance_pu).to_numpy()
        first = len(within) - int(np.argmin(within[::-1])) if not within.all() else 0
        at = min(first, len(rows) - 1)
        fraction = float(rows["fraction"].iloc[at]) if first < len(rows) else np.nan
        error = float(rows["error_pu"].iloc[at])
        found.append({"method": method, "fraction": fraction, "error_pu": error})
    return pd.DataFrame(found).sort_values(["fraction", "error_pu"], ignore_index=True)
