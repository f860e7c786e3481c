"""Synthesis: the characterisation, each way to draw, the errors and the curve."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wasserstein_distance

from evcm.errors import InputError
from evcm.feeder import synthesis
from evcm.feeder.draws import copula, kmedoids, marginals, monte_carlo
from evcm.feeder.synthesis import (
    METHODS,
    METRICS,
    distribution_errors,
    prepare,
    wasserstein,
    weighted_percentile,
)
from tests.feeder_case import transmission


@pytest.fixture(scope="module")
def known():
    return synthesis.characterise(transmission(scenarios=(1, 3)))


@pytest.fixture(scope="module")
def curve():
    table = transmission(sides=("max",), regimes=("no cars", "apart"))
    some = (0.02, 0.05, 0.14, 0.5)
    return synthesis.error_curve(synthesis.characterise(table), some, repeats=2)


def test_characterisation_counts_every_row_once(known):
    assert len(known) == 2 * 2 * 4 * 11 * 48
    rows = np.sort(np.concatenate(known.rows))
    assert np.array_equal(rows, np.arange(len(known)))
    for period, members in zip(known.periods, known.rows, strict=True):
        assert np.all(known.cases.period[members] == period)


def test_characterisation_table(known):
    table = known.table()
    assert list(table["period"]) == list(range(1, 49))
    rows = known.rows[10]
    entry = table.iloc[10]
    assert entry["ev_kw_mean"] == pytest.approx(known.cases.ev_kw[rows].mean())
    assert entry["head_v_pu_p5"] == pytest.approx(np.percentile(known.cases.head_v_pu[rows], 5))
    assert table[["voltage_load", "voltage_cars", "load_cars"]].abs().max().max() <= 1
    # in the table made for these tests voltage falls where cars charge
    assert table["voltage_cars"].mean() < -0.02


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.5])
def test_draws_have_the_size_asked_for_and_stay_in_range(known, method, fraction):
    drawn = synthesis.draw(known, fraction, method, seed=4)
    assert len(drawn.cases) == round(fraction * len(known))
    assert drawn.weights.sum() == pytest.approx(1)
    assert (drawn.weights >= 0).all()
    for name in synthesis.VARIABLES:
        new, full = getattr(drawn.cases, name), getattr(known.cases, name)
        assert full.min() - 1e-12 <= new.min()
        assert new.max() <= full.max() + 1e-12
    counts = np.bincount(drawn.cases.period, minlength=49)[1:]
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("method", METHODS)
def test_draws_are_reproducible_and_differ_by_seed(known, method):
    one, same = (synthesis.draw(known, 0.05, method, seed=1) for _ in range(2))
    other = synthesis.draw(known, 0.05, method, seed=2)
    assert np.array_equal(one.cases.ev_kw, same.cases.ev_kw)
    assert not np.array_equal(one.cases.ev_kw, other.cases.ev_kw)


@pytest.mark.parametrize("method", ["subset", "kmedoids"])
def test_picked_rows_are_rows_of_the_full_set(known, method):
    drawn = synthesis.draw(known, 0.1, method)
    assert len(np.unique(drawn.rows)) == len(drawn.rows)
    assert np.array_equal(drawn.cases.head_v_pu, known.cases.head_v_pu[drawn.rows])
    assert np.array_equal(drawn.cases.period, known.cases.period[drawn.rows])


def test_the_whole_set_drawn_without_replacement_has_no_error(known):
    for method in ("subset", "kmedoids"):
        drawn = synthesis.draw(known, 1.0, method)
        assert np.array_equal(np.sort(drawn.rows), np.arange(len(known)))


def correlated(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    x[:, 1] = 0.8 * x[:, 0] + 0.6 * x[:, 1]
    x[:, 2] = np.exp(x[:, 2])  # skewed
    return x


def test_monte_carlo_keeps_means_and_covariances():
    found = correlated()
    values, weights, _ = monte_carlo(found, 20000, np.random.default_rng(1))
    assert weights.sum() == pytest.approx(1)
    assert np.allclose(values[:, :2].mean(axis=0), found[:, :2].mean(axis=0), atol=0.03)
    assert np.corrcoef(values[:, 0], values[:, 1])[0, 1] == pytest.approx(
        np.corrcoef(found[:, 0], found[:, 1])[0, 1], abs=0.02
    )


def test_copula_keeps_marginals_and_dependence():
    found = correlated()
    values, _, _ = copula(found, 20000, np.random.default_rng(1))
    for i in range(3):
        assert wasserstein_distance(values[:, i], found[:, i]) < 0.05
    assert np.corrcoef(values[:, 0], values[:, 1])[0, 1] > 0.75
    alone, _, _ = marginals(found, 20000, np.random.default_rng(1))
    assert abs(np.corrcoef(alone[:, 0], alone[:, 1])[0, 1]) < 0.03


def test_kmedoids_finds_clusters_and_their_sizes():
    rng = np.random.default_rng(3)
    centres = np.array([[0, 0, 0], [10, 0, 5], [0, 10, 10]], float)
    sizes = (50, 30, 20)
    found = np.concatenate(
        [c + rng.normal(0, 0.1, (n, 3)) for c, n in zip(centres, sizes, strict=True)]
    )
    values, weights, rows = kmedoids(found, 3, np.random.default_rng(0))
    order = np.lexsort((values[:, 1].round(), values[:, 0].round()))
    assert np.allclose(values[order], centres[[0, 2, 1]], atol=0.3)
    assert np.allclose(np.sort(weights), [0.2, 0.3, 0.5])
    assert np.array_equal(found[rows], values)


def test_kmedoids_with_doubles():
    _, weights, rows = kmedoids(np.ones((10, 3)), 4, np.random.default_rng(0))
    assert len(set(rows.tolist())) == 4
    assert weights.sum() == pytest.approx(1)


def test_degenerate_periods_are_drawn():
    for draw_one in (monte_carlo, copula, marginals):
        values, _, _ = draw_one(np.array([[1.0, 0.5, 0.0]]), 5, np.random.default_rng(0))
        assert np.allclose(values, [[1.0, 0.5, 0.0]] * 5)


@pytest.mark.parametrize("seed", range(5))
def test_wasserstein_agrees_with_scipy(seed):
    rng = np.random.default_rng(seed)
    full, sample = rng.normal(size=(200, 3)), rng.normal(0.3, 2, size=(37, 3)).round(1)
    weights = rng.random(37)
    weights /= weights.sum()
    ours = wasserstein(np.sort(full, axis=0), sample, weights)
    theirs = [wasserstein_distance(full[:, i], sample[:, i], None, weights) for i in range(3)]
    assert np.allclose(ours, theirs, rtol=1e-10)


def test_percentile_by_hand():
    values = np.array([[3.0], [1.0], [2.0], [4.0]])
    weights = np.array([0.25, 0.05, 0.45, 0.25])
    assert weighted_percentile(values, weights, 5)[0] == 1.0
    assert weighted_percentile(values, weights, 6)[0] == 2.0
    assert weighted_percentile(values, weights, 100)[0] == 4.0


def test_errors_of_a_shifted_copy():
    full = np.random.default_rng(0).normal(1.0, 0.02, (500, 4))
    mean, low, distance = distribution_errors(prepare(full), full + 0.003, np.full(500, 1 / 500))
    assert np.allclose(mean, 0.003)
    assert np.allclose(low, 0.003)
    assert np.allclose(distance, 0.003)


def test_curve_shape(curve):
    terminals = curve.groupby(["node", "phase"]).ngroups
    assert len(curve) == len(METHODS) * 4 * 2 * terminals
    assert (curve[list(METRICS)] >= 0).all().all()
    # a difference of means is never larger than the Wasserstein distance
    assert (curve["mean_error_pu"] <= curve["wasserstein_pu"] + 1e-12).all()
    assert "650" not in set(curve["node"])


def test_curve_falls_where_rows_are_picked(curve):
    table = synthesis.summarise(curve)
    table = table[table["metric"] == "wasserstein_pu"].pivot_table("error_pu", "method", "fraction")
    for method in ("subset", "kmedoids"):
        assert table.loc[method, 0.5] < table.loc[method, 0.14] < table.loc[method, 0.02]


def test_judging_fractions(curve):
    judged = synthesis.judge_fractions(curve)
    assert set(judged["fraction"]) == {0.05, 0.14}
    kmedoids_rows = judged[judged["method"] == "kmedoids"]
    assert not kmedoids_rows["is_minimum"].any()
    assert (kmedoids_rows["lowest_at"] == 0.5).all()
    with pytest.raises(InputError, match="marked"):
        synthesis.judge_fractions(curve, (0.33,))


def test_a_minimum_by_luck_is_not_clear():
    rng = np.random.default_rng(0)
    rows = [
        {"method": m, "fraction": f, "repeat": r, "wasserstein_pu": e + rng.normal(0, 1e-4)}
        for m, errors in {"flat": (1e-3, 1e-3, 1e-3), "dip": (2e-3, 1e-3, 2e-3)}.items()
        for f, e in zip((0.05, 0.14, 0.5), errors, strict=True)
        for r in range(6)
    ]
    judged = synthesis.judge_fractions(pd.DataFrame(rows)).set_index(["method", "fraction"])
    assert judged.loc[("dip", 0.14), "is_clear"]
    assert not judged.loc["flat", "is_clear"].any()


def test_smallest_sufficient_on_a_curve_made_by_hand():
    rows = [("a", f, e) for f, e in ((0.1, 3e-4), (0.2, 9e-4), (0.3, 4e-4), (0.4, 1e-4))]
    rows += [("b", f, 1e-3) for f in (0.1, 0.2, 0.3, 0.4)]
    table = pd.DataFrame(rows, columns=["method", "fraction", "wasserstein_pu"])
    table = table.assign(repeat=0, node="671", phase="a", mean_error_pu=0.0, p5_error_pu=0.0)
    found = synthesis.smallest_sufficient(table, 5e-4).set_index("method")
    assert found.loc["a", "fraction"] == 0.3  # at 0.1 it was luck: 0.2 is worse
    assert np.isnan(found.loc["b", "fraction"])


def test_bad_input_is_refused(known):
    with pytest.raises(InputError, match=r"fraction: got 0.*method: got 'x'|fraction.*method"):
        synthesis.draw(known, 0.0, "x")
    with pytest.raises(InputError, match="repeats"):
        synthesis.error_curve(known, repeats=0)
