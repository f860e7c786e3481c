"""The building: its laws, its program against hand-solved cases, and what the print gets wrong."""

import itertools
from dataclasses import replace

import cvxpy as cp
import numpy as np
import pandas as pd
import pytest

from evcm import building as bd
from evcm.building import arrivals, inputs, model, solve
from evcm.building.certificate import certify
from evcm.errors import InfeasibleError, InputError, SolverError

DEFAULT, LAW = bd.default_building(), bd.default_law()


def sessions(*rows, give_kwh=0.0):
    """Rows are (bay, arrival, departure, energy_kwh, power_kw)."""
    columns = ["bay", "arrival", "departure", "energy_kwh", "power_kw"]
    table = pd.DataFrame(rows, columns=columns)
    return bd.Sessions.from_table(table.assign(give_kwh=give_kwh, kind="car"))


def plain(periods=4, **changes):
    """A building with a flat price of 0.1 and nothing else."""
    entries = {
        "horizon": bd.Horizon(9.0, periods, 1.0), "bays": 2, "load_kw": np.zeros(periods),
        "irradiance_kw_per_m2": np.zeros(periods), "price_usd_per_kwh": np.full(periods, 0.1),
        "groups": (bd.PvGroup("roof", 50.0),), "connection_kw": 500.0, "panel_efficiency": 1.0,
    }  # fmt: skip
    return bd.Building(**entries | changes)


def proven(building, cars, variant=bd.AS_PRINTED):
    plan = bd.dispatch(building, cars, variant)
    certify(plan).require()
    return plan


SHIFT = bd.Variant(shifting=True)
CARS = sessions((0, 0, 3, 9.0, 7.0), (1, 1, 4, 6.0, 4.0))


# ---------------------------------------------------------------- laws and panels


def test_last_trips_follow_the_wrapped_density():
    hour = np.arange(0.005, 24, 0.01)
    density = arrivals.last_trip_density(hour)
    assert density.sum() * 0.01 == pytest.approx(0.9994, abs=1e-4)
    ends = arrivals.last_trip_end_h(np.random.default_rng(0), LAW, 200_000)
    assert ends.min() >= 0
    assert ends.max() < 24
    found, _ = np.histogram(ends, bins=24, range=(0, 24))
    expected = density.reshape(24, 100).sum(axis=1) * 0.01
    np.testing.assert_allclose(found / ends.size, expected, atol=0.004)


def test_daily_kilometres_are_lognormal():
    km = np.log(arrivals.daily_km(np.random.default_rng(0), LAW, 100_000))
    assert km.mean() == pytest.approx(3.1, abs=0.01)
    assert km.std() == pytest.approx(0.87, abs=0.01)


def test_panel_power_adds_up_to_panel_energy():
    peak = inputs.panel_peak_w(45.0, 9.5, 0.75) / 1000
    assert peak == pytest.approx(0.320625)
    sun = DEFAULT.irradiance_kw_per_m2
    energy = inputs.panel_energy_kwh(peak, inputs.peak_sun_hours(sun), 0.9)
    assert inputs.panel_power_kw(peak, sun, 0.9).sum() == pytest.approx(energy)


def test_default_building_is_the_papers():
    assert DEFAULT.pv_kw == 100
    assert (DEFAULT.bays, DEFAULT.horizon.periods, DEFAULT.panel_efficiency) == (4, 14, 0.9)
    assert (DEFAULT.horizon.clock(0), DEFAULT.horizon.clock(14)) == ("09:00", "23:00")
    assert [k.power_min_kw for k in LAW.classes] == [3.8, 7.7, 50.0]
    assert (LAW.end_mean_h, LAW.end_sd_h, LAW.km_log_mean, LAW.km_log_sd) == (16.5, 3.5, 3.1, 0.87)


def test_printed_classes_overlap_and_leave_a_hole():
    def classes(x):
        return [x < 7.4, 3.8 <= x < 8, 50 <= x <= 150]

    assert sum(classes(5.0)) == 2
    assert sum(classes(20.0)) == 0
    for day in range(3):
        for c in bd.hourly_day(LAW, DEFAULT.horizon, 4, 0, day).sessions.power_kw:
            assert c in (3.8, 7.7, 50.0)


def test_random_days_are_repeatable_fit_and_turn_fewer_away_with_more_bays():
    lost = []
    for bays in (1, 2, 4, 8):
        days = [bd.random_day(LAW, DEFAULT.horizon, bays, 3, d) for d in range(20)]
        for d in days:
            d.sessions.check(DEFAULT.horizon, bays)
        lost.append(sum(d.turned_away for d in days))
        again = bd.random_day(LAW, DEFAULT.horizon, bays, 3, 0)
        pd.testing.assert_frame_equal(again.sessions.table(), days[0].sessions.table())
    assert lost == sorted(lost, reverse=True)
    assert lost[0] > lost[-1]


# ---------------------------------------------------------------- oracles


def test_no_pv_and_a_flat_price_give_energy_times_price():
    for variant in (bd.AS_PRINTED, SHIFT, bd.Variant(shifting=True, v2g=True, bank=True)):
        plan = proven(plain(load_kw=np.array([1.0, 2.0, 3.0, 4.0])), CARS, variant)
        assert plan.cost_usd == pytest.approx((10 + 15) * 0.1)


def test_pv_above_demand_gives_zero_import():
    own = plain(irradiance_kw_per_m2=np.array([0.5, 1.0, 1.0, 0.5]), demand_usd_per_kw=1.0)
    plan = proven(own, CARS)
    assert plan.grid_kw.max() == pytest.approx(0, abs=1e-9)
    assert plan.cost_usd == pytest.approx(0, abs=1e-9)
    assert plan.pv_kw.sum() == pytest.approx(15)


def test_no_demand_charge_leaves_the_peak_free_and_a_huge_one_levels_it():
    own = plain(price_usd_per_kwh=np.array([0.1, 0.3, 0.3, 0.3]))
    one = sessions((0, 0, 4, 12.0, 12.0))
    free = proven(own, one, SHIFT)
    assert free.cost_usd == pytest.approx(1.2)
    assert free.peak_kw == pytest.approx(12)
    level = proven(replace(own, demand_usd_per_kw=1e6), one, SHIFT)
    assert level.peak_kw == pytest.approx(3)
    np.testing.assert_allclose(level.grid_kw, 3.0, atol=1e-6)
    fixed = proven(replace(own, demand_usd_per_kw=1e6), one)
    assert fixed.cost_usd == pytest.approx(1.2 + 12e6)


def test_comfort_price_decides_whether_charging_moves():
    own = plain(price_usd_per_kwh=np.array([0.3, 0.1, 0.1, 0.1]))
    one = sessions((0, 0, 2, 5.0, 5.0))
    for comfort, cost in ((0.0, 0.5), (0.15, 0.5 + 0.75), (0.25, 1.5)):
        asked = replace(own, response=bd.Response(comfort_usd_per_kwh=comfort))
        assert proven(asked, one, SHIFT).cost_usd == pytest.approx(cost)


def test_v2g_gives_what_the_spread_pays_for():
    own = plain(periods=2, load_kw=np.array([10.0, 0.0]), price_usd_per_kwh=np.array([1.0, 0.1]))
    own = replace(own, response=bd.Response(v2g_usd_per_kwh=0.05, v2g_round_trip=0.8))
    one = sessions((0, 0, 2, 2.0, 10.0), give_kwh=5.0)
    plan = proven(own, one, bd.Variant(v2g=True))
    # 5 kWh may leave the battery, 4 of them arrive; 7 are put back at 0.1
    assert plan.give_kw[0, 0] == pytest.approx(4)
    assert plan.cost_usd == pytest.approx(6 + 7 * 0.1 + 4 * 0.05)


def test_bank_carries_pv_to_the_evening_and_never_grid_power():
    own = plain(
        periods=2, load_kw=np.array([0.0, 9.0]), irradiance_kw_per_m2=np.array([0.4, 0.0]),
        price_usd_per_kwh=np.array([0.01, 1.0]), bank=bd.Bank(100, 50, 50, 0.9, 0.9),
    )  # fmt: skip
    plan = proven(own, sessions(), bd.Variant(bank=True))
    assert plan.grid_kw[1] == pytest.approx(0, abs=1e-9)
    assert plan.bank_in_kw[0] == pytest.approx(9 / 0.81)
    dark = replace(own, irradiance_kw_per_m2=np.zeros(2))
    assert proven(dark, sessions(), bd.Variant(bank=True)).bank_in_kw.max() == 0


@pytest.mark.parametrize("day", range(3))
def test_cheaper_never_costs_more(day):
    drawn = bd.random_day(LAW, DEFAULT.horizon, 4, 1, day)
    today = solve.sunny(DEFAULT, drawn.clearness)
    cost = {n: p.cost_usd for n, p in bd.compare(today, drawn.sessions).items()}
    order = list(bd.VARIANTS)
    for less, more in itertools.pairwise(order):
        assert cost[more] <= cost[less] + 1e-4 * abs(cost[less]) + 1e-9
    base = bd.dispatch(today, drawn.sessions, SHIFT).cost_usd
    for cheaper in (
        replace(today, price_usd_per_kwh=0.8 * today.price_usd_per_kwh),
        replace(today, demand_usd_per_kw=0.5 * today.demand_usd_per_kw),
        replace(today, response=replace(today.response, comfort_usd_per_kwh=0.0)),
        replace(today, reserve_share=0.0),
    ):
        assert bd.dispatch(cheaper, drawn.sessions, SHIFT).cost_usd <= base * (1 + 1e-4) + 1e-9


# ---------------------------------------------------------------- commitment and the print


def test_the_first_start_is_paid():
    group = bd.PvGroup("roof", 50.0, start_usd=0.2, stop_usd=0.1, cost_usd_per_h=0.05)
    own = plain(groups=(group,), irradiance_kw_per_m2=np.array([1.0, 1.0, 0.0, 1.0]))
    own = replace(own, load_kw=np.array([10.0, 10.0, 10.0, 1.0]))
    plan = proven(own, sessions())
    assert plan.start[:, 0].tolist() == [1, 0, 0, 0]
    # Being on without sun for an hour costs less than a stop and a second start.
    assert plan.on[:, 0].tolist() == [1, 1, 1, 1]
    assert plan.cost_usd == pytest.approx(0.2 + 4 * 0.05 + 10 * 0.1)


def test_pv_follows_the_sun():
    own = plain(irradiance_kw_per_m2=np.array([0.1, 0.2, 0.02, 0.0]), load_kw=np.full(4, 100.0))
    own = replace(own, groups=(bd.PvGroup("roof", 50.0, min_kw=2.0),))
    plan = proven(own, sessions())
    # 1 kW is below the least power: the group is off
    np.testing.assert_allclose(plan.pv_kw, [5.0, 10.0, 0.0, 0.0], atol=1e-9)


@pytest.mark.parametrize("step_h", [1.0, 0.25])
def test_ramps_hold_from_zero_and_per_hour(step_h):
    own = plain(irradiance_kw_per_m2=np.array([1.0, 1.0, 1.0, 0.5]), load_kw=np.full(4, 100.0))
    group = bd.PvGroup("roof", 40.0, ramp_up_kw_per_h=10.0, ramp_down_kw_per_h=4.0)
    own = replace(own, groups=(group,), horizon=bd.Horizon(9.0, 4, step_h))
    plan = proven(own, sessions())
    expected = np.array([10.0, 20.0, 24.0, 20.0]) if step_h == 1 else np.arange(1, 5) * 2.5
    np.testing.assert_allclose(plan.pv_kw, expected, atol=1e-6)


def test_stops_cannot_meet_a_demand():
    day = bd.random_day(LAW, DEFAULT.horizon, 4, 0)
    plan = proven(DEFAULT, day.sessions)
    assert plan.demand_kw.max() > plan.stop.shape[1] >= plan.stop.sum(axis=1).max()
    np.testing.assert_allclose(plan.power_kw.sum(axis=1), plan.demand_kw, atol=1e-6)


def test_reserve_as_an_equality_has_no_dispatch():
    day = bd.random_day(LAW, DEFAULT.horizon, 4, 0)
    plan = proven(DEFAULT, day.sessions)
    units = np.column_stack([inputs.available_kw(DEFAULT), np.full(14, DEFAULT.connection_kw)])
    for t in np.flatnonzero(plan.demand_kw > 0):
        sums = [units[t] @ on for on in itertools.product((0, 1), repeat=5)]
        assert np.abs(np.array(sums) - 1.1 * plan.demand_kw[t]).min() > 1e-6


def test_reserve_limits_how_far_units_are_loaded():
    own = plain(load_kw=np.full(4, 10.0), connection_kw=10.5, reserve_share=0.0)
    proven(own, sessions())
    with pytest.raises(InfeasibleError, match=r"too small by 0\.500 kW at 09:00"):
        bd.dispatch(replace(own, reserve_share=0.1), sessions())


def test_charging_and_giving_at_once_is_forbidden_where_it_would_pay():
    group = bd.PvGroup("roof", 50.0, min_kw=6.0, start_usd=100.0)
    own = plain(
        periods=3, groups=(group,), irradiance_kw_per_m2=np.ones(3),
        load_kw=np.array([10.0, 3.0, 10.0]), price_usd_per_kwh=np.full(3, 10.0),
        bank=bd.Bank(0.1, 50, 50, 0.5, 0.5),
    )  # fmt: skip
    variant = bd.Variant(bank=True)
    loose = model.Program(own).solve(own, sessions(), variant)
    plan = proven(own, sessions(), variant)
    assert loose.cost_usd == pytest.approx(100)
    assert plan.cost_usd > 200


# ---------------------------------------------------------------- refusals and speed


def test_a_connection_that_is_too_small_says_when_and_by_how_much():
    with pytest.raises(
        InfeasibleError, match=r"connection of 4 kW is too small by 7\.000 kW at 10"
    ) as e:
        bd.dispatch(plain(connection_kw=4.0), sessions((0, 1, 2, 11.0, 11.0)))
    np.testing.assert_allclose(e.value.details["short_kw"], [0, 7, 0, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, 0, 2, 9.0, 4.0)], r"row 1, energy_kwh: got 9.0; allowed: <= 8 kWh"),
        ([(0, 0, 2, 1.0, 4.0), (0, 1, 3, 1.0, 4.0)], r"row 2, bay: got bay 1 at 10:00; .*row 1"),
        ([(2, 0, 2, 1.0, 4.0)], r"row 1, bay: got 3; allowed: 1..2"),
        ([(0, 3, 5, 1.0, 4.0)], r"row 1, stay: got 12:00 to 14:00"),
        ([(0, 0, 2, 1.0, 0.0)], r"row 1, power_kw: got 0.0"),
    ],
)
def test_sessions_that_do_not_fit_are_refused(rows, message):
    with pytest.raises(InputError, match=message):
        bd.dispatch(plain(), sessions(*rows))


def test_bad_buildings_are_refused():
    with pytest.raises(InputError, match=r"irradiance_kw_per_m2, period 2 \(10:00\): got -0.1"):
        plain(irradiance_kw_per_m2=np.array([0.0, -0.1, 0.0, 0.0]))
    with pytest.raises(InputError, match=r"price_usd_per_kwh: got \(3,\); allowed: \(4,\)"):
        plain(price_usd_per_kwh=np.ones(3))
    with pytest.raises(InputError, match="ramps of PV group roof"):
        plain(groups=(bd.PvGroup("roof", 9.0, 5.0, 4.0),))
    with pytest.raises(InputError, match="min_kw"):
        bd.PvGroup("roof", 9.0, 10.0)


def test_scaling_pv_to_nothing_is_the_grid_alone():
    day = bd.random_day(LAW, DEFAULT.horizon, 4, 0)
    none = proven(bd.with_pv(DEFAULT, 0.0), day.sessions).cost_usd
    assert none == pytest.approx(proven(DEFAULT, day.sessions, bd.VARIANTS["grid only"]).cost_usd)
    assert bd.with_pv(DEFAULT, 40.0).pv_kw == pytest.approx(40)


def test_costs_add_up():
    day = bd.random_day(LAW, DEFAULT.horizon, 4, 5)
    for plan in bd.compare(DEFAULT, day.sessions).values():
        assert sum(bd.costs(plan).values()) == pytest.approx(plan.cost_usd, abs=1e-6)


def test_a_day_of_quarter_hours_with_twenty_bays_is_proven():
    quarter = replace(
        DEFAULT, horizon=bd.Horizon(0.0, 96, 0.25), bays=20, load_kw=np.zeros(96),
        irradiance_kw_per_m2=np.clip(np.sin((np.arange(96) / 4 - 6) / 12 * np.pi), 0, None),
        price_usd_per_kwh=np.full(96, 0.1), connection_kw=1100.0,
    )  # fmt: skip
    cars = bd.random_day(replace(LAW, cars_per_day=200.0), quarter.horizon, quarter.bays, 2)
    plan = bd.dispatch(quarter, cars.sessions, bd.VARIANTS["shifting, bank and V2G"])
    assert plan.gap <= 1e-4
    certify(plan).require()


# ---------------------------------------------------------------- meter, reserve, nights, hulls


def test_feeding_in_above_the_price_needs_a_binary():
    # 12 kW of sun at noon; a load of 5 kW all day; feeding in pays 0.3, buying costs 0.1.
    day = plain(
        load_kw=np.full(4, 5.0), irradiance_kw_per_m2=np.array([0.0, 0.24, 0.24, 0.0]),
        feed_in_usd_per_kwh=np.array([0.3, 0.3, 0.05, 0.3]), connection_kw=20.0,
    )  # fmt: skip
    plan = proven(day, sessions())
    # Nothing is bought in order to be sold: 7 kWh are fed in in each hour of sun.
    assert plan.grid_kw == pytest.approx([5.0, 0.0, 0.0, 5.0], abs=1e-6)
    assert plan.export_kw == pytest.approx([0.0, 7.0, 7.0, 0.0], abs=1e-6)
    assert plan.cost_usd == pytest.approx(10 * 0.1 - 7 * 0.3 - 7 * 0.05, abs=1e-6)
    assert sum(bd.costs(plan).values()) == pytest.approx(plan.cost_usd, abs=1e-9)
    both = replace(
        plan, power_kw=plan.power_kw + np.array([0, 1.0]), export_kw=plan.export_kw + 1.0
    )
    with pytest.raises(SolverError, match="burning_kw is off by 1"):
        certify(both).require()


def test_feeding_in_passes_the_connection():
    day = plain(
        irradiance_kw_per_m2=np.full(4, 0.24), feed_in_usd_per_kwh=np.full(4, 0.05),
        connection_kw=10.0,
    )  # fmt: skip
    plan = proven(day, sessions())
    assert plan.export_kw == pytest.approx(np.full(4, 10.0), abs=1e-6)
    assert bd.summary(plan)["pv_unused_kwh"] == pytest.approx(8.0, abs=1e-5)
    # Nobody pays for being fed at a loss.
    none = proven(replace(day, feed_in_usd_per_kwh=np.full(4, -0.01)), sessions())
    assert none.export_kw == pytest.approx(np.zeros(4), abs=1e-6)


def test_a_bank_buys_nothing_at_a_negative_price_but_cars_do():
    prices = np.array([0.1, -0.5, 0.1, 0.1])
    cars = sessions((0, 0, 4, 9.0, 6.0), give_kwh=20.0)
    plan = proven(plain(price_usd_per_kwh=prices), cars, bd.VARIANTS["shifting, bank and V2G"])
    assert plan.charge_kw[1, 0] == pytest.approx(6.0, abs=1e-6)
    assert np.minimum(plan.charge_kw, plan.give_kw).max() < 1e-6
    assert plan.cost_usd < -2.5


def test_a_connection_is_paid_for_while_it_is_needed():
    # (cfijo of the pseudocode) 3 USD an hour; the sun covers the two hours of noon.
    day = plain(
        load_kw=np.full(4, 5.0), irradiance_kw_per_m2=np.array([0.0, 0.24, 0.24, 0.0]),
        connection_usd_per_h=3.0,
    )  # fmt: skip
    plan = proven(day, sessions())
    assert plan.on[:, -1].tolist() == [1, 0, 0, 1]
    assert plan.cost_usd == pytest.approx(10 * 0.1 + 2 * 3.0, abs=1e-6)
    assert bd.costs(plan)["grid connection"] == pytest.approx(6.0)
    # A night without sun shows that it is the sun that saves it.
    dark = proven(replace(day, irradiance_kw_per_m2=np.zeros(4)), sessions())
    assert dark.on[:, -1].tolist() == [1, 1, 1, 1]


def test_reserve_binds_only_where_the_grid_does_not_count():
    # 20 kW of load, 24 kW of sun: with the grid (9) is vacuous, without it 20 % (4 kW) just fit.
    day = plain(load_kw=np.full(4, 20.0), irradiance_kw_per_m2=np.full(4, 0.48))
    free = proven(day, sessions())
    for share in (0.1, 0.5, 10.0):
        assert proven(replace(day, reserve_share=share), sessions()).cost_usd == pytest.approx(
            free.cost_usd)  # fmt: skip
    own = replace(day, reserve_share=0.3, reserve_from_grid=False)
    plan = proven(own, sessions())
    # 6 kW must be kept back of 24: 2 kW come from the grid instead.
    assert plan.pv_kw == pytest.approx(np.full(4, 18.0), abs=1e-6)
    assert plan.cost_usd == pytest.approx(0.1 * 2 * 4, abs=1e-6)
    with pytest.raises(InfeasibleError, match="reserve included"):
        bd.dispatch(replace(own, reserve_share=2.0), sessions())
    bank = replace(own, bank=bd.Bank(40.0, 10.0, 10.0, 1.0, 1.0, start_share=1.0))
    held = proven(bank, sessions(), bd.Variant(bank=True))
    assert held.cost_usd < 1e-6
    assert held.ready_kw.min() >= 2.0 - 1e-6
    with pytest.raises(SolverError, match="reserve_kw"):
        certify(replace(held, ready_kw=held.ready_kw - 3.0)).require()


def test_a_stay_over_midnight_is_one_stay():
    day = plain(
        24, horizon=bd.Horizon(0.0, 24, 1.0), irradiance_kw_per_m2=np.zeros(24),
        price_usd_per_kwh=np.where(np.arange(24) == 4, 0.01, 0.1),
    )  # fmt: skip
    cars = sessions((0, 22, 30, 10.0, 7.0), (0, 6, 22, 3.0, 7.0))
    plan = proven(day, cars, SHIFT)
    assert plan.charge_kw[4, 0] == pytest.approx(7.0, abs=1e-6)
    assert plan.cost_usd == pytest.approx(0.07 + 0.3 + 0.3, abs=1e-6)
    early = replace(plan, charge_kw=np.roll(plan.charge_kw, 3, axis=0))
    assert certify(early).cars > 1.0
    with pytest.raises(InputError, match=r"row 1, bay: got bay 1 at 00:00"):
        bd.dispatch(day, sessions((0, 22, 30, 10.0, 7.0), (0, 0, 3, 1.0, 7.0)))
    with pytest.raises(InputError, match=r"row 1, stay"):
        bd.dispatch(day, sessions((0, 22, 47, 10.0, 7.0)))


@pytest.mark.parametrize("seed", range(6))
def test_tighter_ramps_cut_off_no_plan(seed):
    """The hulls of (10), (12) and (13) against the rules as printed, on random days."""
    rng = np.random.default_rng(seed)
    groups = tuple(
        bd.PvGroup(f"g{k}", 20.0, float(rng.uniform(0, 4)), *rng.uniform(5, 15, 2),
                   *rng.uniform(0, 0.05, 2), *rng.uniform(0, 0.3, 2))
        for k in range(2)
    )  # fmt: skip
    day = plain(6, groups=groups, load_kw=rng.uniform(0, 40, 6),
                irradiance_kw_per_m2=rng.uniform(0, 1, 6),
                price_usd_per_kwh=rng.uniform(0.02, 0.3, 6))  # fmt: skip
    best = proven(day, sessions()).cost_usd
    assert best == pytest.approx(printed_optimum(day), rel=1.1e-4)


def printed_optimum(day):
    """Least cost by (7)-(14) as they stand, with binaries for starts and stops."""
    h, units = day.horizon, len(day.groups)
    power, grid = cp.Variable((h.periods, units), nonneg=True), cp.Variable(h.periods, nonneg=True)
    on, start, stop = (cp.Variable((h.periods, units), boolean=True) for _ in range(3))
    sun, rules, cost = inputs.available_kw(day), [grid <= day.connection_kw], 0
    rules.append(cp.sum(power, axis=1) + grid == day.load_kw)
    for k, g in enumerate(day.groups):
        p, a = power[:, k], on[:, k]
        rules += [g.min_kw * a <= p, p <= cp.multiply(sun[:, k], a)]
        for t in range(h.periods):
            before, was = (p[t - 1], a[t - 1]) if t else (0, 0)
            rules += [a[t] - was == start[t, k] - stop[t, k], start[t, k] + stop[t, k] <= 1]
            rules += [p[t] - before <= g.ramp_up_kw_per_h, before - p[t] <= g.ramp_down_kw_per_h]
        cost += g.cost_usd_per_kwh * cp.sum(p) + g.cost_usd_per_h * cp.sum(a)
        cost += g.start_usd * cp.sum(start[:, k]) + g.stop_usd * cp.sum(stop[:, k])
    problem = cp.Problem(cp.Minimize(cost + day.price_usd_per_kwh @ grid), rules)
    return problem.solve(solver=cp.HIGHS, mip_rel_gap=1e-6)
