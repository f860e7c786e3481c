"""Gymnasium: registration, spaces, masks, projection, vector environment."""

import ast
from pathlib import Path

import gymnasium as gym
import numba
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import evcm.v2x
from evcm.errors import InfeasibleError, InputError
from evcm.v2x import arrivals, kernel
from evcm.v2x.environment import LEVELS, ChargingStation
from evcm.v2x.projection import Limits, ProjectLimits, _convex, limits, project
from evcm.v2x.rewards import BALANCED, SERVICE, TRACKING_ONLY, Weights
from evcm.v2x.series import week_series
from evcm.v2x.station import make_case
from evcm.v2x.vector import ChargingStations
from evcm.v2x.world import example_world


@pytest.mark.parametrize("discrete", [False, True])
def test_gymnasium_checker_finds_nothing(discrete):
    env = gym.make(evcm.v2x.ENVIRONMENT, world=example_world(6), discrete=discrete)
    check_env(env.unwrapped)
    env.reset(seed=3)
    for _ in range(96):
        *_, truncated, _ = env.step(env.action_space.sample())
    assert truncated


def test_reset_draws_new_days_and_a_seed_repeats_them():
    env = ChargingStation(example_world(8))
    first, _ = env.reset(seed=5)
    one = env.case().sessions.values
    env.reset()
    other = env.case().sessions.values
    assert one.shape != other.shape or not np.array_equal(one, other)
    again, _ = env.reset(seed=5)
    np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(env.case().sessions.values, one)


def test_reset_options_choose_the_day_or_a_case():
    env = ChargingStation(example_world(8))
    env.reset(seed=1, options={"start_day": 5})
    saturday = len(env.case().sessions)
    env.reset(seed=1, options={"start_day": 1})
    assert len(env.case().sessions) > saturday  # a workplace
    case = make_case(example_world(8), seed=77)
    env.reset(options={"case": case})
    np.testing.assert_array_equal(env.case().sessions.values, case.sessions.values)
    with pytest.raises(InputError, match="start_day"):
        env.reset(options={"start_day": 9})
    with pytest.raises(InputError, match="options"):
        env.reset(options={"colour": "red"})


def test_rewards_and_observations_are_pluggable():
    class PortsOnly:
        def space(self, world):
            return gym.spaces.Box(0, 1, (world.ports,), np.float32)

        def __call__(self, station):
            return station.occupied().astype(np.float32)

    env = ChargingStation(
        example_world(4),
        observation=PortsOnly(),
        reward=lambda result: -float(result.transformer_kw.max()),
    )
    observation, _ = env.reset(seed=0)
    assert observation.shape == (env.world.ports,)
    _, reward, _, _, info = env.step(env.action_space.sample())
    assert reward == -info["transformer_kw"].max()
    for weights in (SERVICE, TRACKING_ONLY, BALANCED):
        env = ChargingStation(example_world(4), reward=weights)
        env.reset(seed=0)
        _, reward, _, _, info = env.step(env.action_space.sample())
        terms = np.array([info[name] for name in kernel.TERMS])
        assert reward == pytest.approx(terms @ weights.vector())
    with pytest.raises(InputError, match="overload_usd_per_kwh"):
        Weights(overload_usd_per_kwh=-1.0)


def test_masks_leave_only_actions_that_do_something():
    env = ChargingStation(example_world(25), discrete=True)
    env.reset(seed=2, options={"start_day": 1})
    rest = np.full(env.world.ports, LEVELS // 2)
    for _ in range(44):
        _, _, _, _, info = env.step(rest)
    mask = info["action_mask"]
    occupied = env.station.occupied()
    assert 5 < occupied.sum() < env.world.ports
    assert (mask[~occupied].sum(axis=1) == 1).all()
    assert mask[:, LEVELS // 2].all()
    gives = env.station.ports().discharge_kw > 0
    assert gives.any()
    assert not gives[occupied].all()
    np.testing.assert_array_equal(mask[:, 0] == 1, gives)
    np.testing.assert_array_equal(mask[:, -1] == 1, occupied)
    # What the mask forbids moves no energy.
    low = np.where(mask[:, 0] == 0, 0, rest)
    result = env.station.step(env.command_kw(np.where(occupied, low, LEVELS - 1)))
    assert np.abs(result.grid_kwh).sum() == 0.0


def test_render_shows_each_charger():
    env = ChargingStation(example_world(5), render_mode="ansi")
    env.reset(seed=0)
    text = env.render()
    assert text is not None
    assert len(text.splitlines()) == 6


def test_projected_actions_overload_nothing():
    world = example_world(25, "home")
    env = ProjectLimits(ChargingStation(world))
    env.reset(seed=1, options={"start_day": 1})
    rng = np.random.default_rng(0)
    found = set()
    plain_overload = 0.0
    plain = ChargingStation(world)
    plain.reset(seed=1, options={"start_day": 1})
    for step in range(96):
        sign = 1.0 if step % 2 else rng.choice([1.0, -1.0])
        action = (sign * rng.uniform(0.2, 1, world.ports)).astype(np.float32)
        *_, info = env.step(action)
        found.add(info["projection"])
        assert info["overload_kwh"] < 1e-6
        plain_overload += plain.step(action)[4]["overload_kwh"]
    assert plain_overload > 10
    assert {"inside", "one limit"} <= found


def test_closed_form_is_the_convex_answer():
    rng = np.random.default_rng(3)
    ways = []
    for _ in range(40):
        n = 8
        member = np.zeros((3, n))
        member[0, :4], member[1, 4:], member[2] = 1, 1, 1
        bounds = Limits(
            low=-rng.uniform(0, 10, n), up=rng.uniform(0, 10, n), member=member,
            node_low=np.array([-8.0, -8.0, -rng.uniform(2, 16)]),
            node_up=np.array([8.0, np.inf, rng.uniform(2, 16)]),
        )  # fmt: skip
        wanted = rng.uniform(-15, 15, n)
        found, how = project(wanted, bounds)
        ways.append(how)
        solved = _convex(wanted, bounds)
        np.testing.assert_allclose(found, solved, atol=2e-4)
        total = member @ found
        assert (total <= bounds.node_up + 1e-6).all()
        assert (total >= bounds.node_low - 1e-6).all()
    assert {"inside", "one limit", "convex"} == set(ways)


def test_projection_says_when_nothing_fits():
    bounds = Limits(np.zeros(2), np.ones(2), np.ones((1, 2)), np.array([3.0]), np.array([4.0]))
    with pytest.raises(InfeasibleError, match="no powers of the ports"):
        project(np.zeros(2), bounds)
    env = ChargingStation(example_world(3))
    env.reset(seed=0)
    assert limits(env.station).member.shape == (3 + 1 + 1 + 1, env.world.ports)


def trajectory(threads, steps=110):
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        env = ChargingStations(16, example_world(4, "public"), random_start=True, copy=True)
        observation, _ = env.reset(seed=9)
        rng = np.random.default_rng(1)
        record = [observation.tobytes()]
        for _ in range(steps):
            action = rng.uniform(-1, 1, (16, env.world.ports)).astype(np.float32)
            observation, reward, _, truncated, info = env.step(action)
            record.append(observation.tobytes() + reward.tobytes() + info["terms"].tobytes())
            record.append(truncated.tobytes())
        return record
    finally:
        numba.set_num_threads(before)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one processor only")
def test_same_seed_same_bits_on_any_number_of_threads():
    one, two = trajectory(1), trajectory(2)
    assert one == two


def test_vector_rows_are_single_stations():
    world = example_world(6, "public")
    env = ChargingStations(5, world)
    env.reset(seed=4)
    rng = np.random.default_rng(2)
    singles = []
    from evcm.v2x.arrivals import unpack
    from evcm.v2x.station import Case, Station

    for b in range(5):
        sessions = unpack(env.state.rows[b], env.state.visits[b])
        singles.append(Station(Case(world, env.series, sessions)))
    assert len({len(s.case.sessions) for s in singles}) > 1
    for _ in range(95):
        action = rng.uniform(-1, 1, (5, world.ports)).astype(np.float32)
        _, reward, _, _, infos = env.step(action)
        for b, single in enumerate(singles):
            result = single.step(action[b].astype(float) * world.layout.port_kw)
            np.testing.assert_allclose(infos["terms"][b], result.terms, rtol=1e-12, atol=1e-12)
            assert reward[b] == pytest.approx(BALANCED(result))
    masks = env.action_masks()
    np.testing.assert_array_equal(masks[2], singles[2].occupied())


def test_vector_environment_resets_itself_and_through_gymnasium():
    env = gym.make_vec(evcm.v2x.ENVIRONMENT, num_envs=3, vectorization_mode="vector_entry_point")
    assert isinstance(env.unwrapped, ChargingStations)
    env.reset(seed=0)
    for step in range(97):
        observation, _, _, truncated, infos = env.step(env.action_space.sample())
        assert truncated.all() == (step == 95)
        if step == 95:
            assert infos["final_obs"].shape == observation.shape
            assert observation[0, 4] == 0.0
            assert infos["final_obs"][0, 4] == 1.0


def test_vector_environment_takes_tenths_and_refuses_bad_shapes():
    world = example_world(4)
    plain, tenths = ChargingStations(2, world, copy=True), ChargingStations(2, world, discrete=True)
    plain.reset(seed=1)
    tenths.reset(seed=1)
    levels = np.full((2, world.ports), 16)
    for _ in range(50):
        a = plain.step(np.full((2, world.ports), 0.6, dtype=np.float32))[1]
        b = tenths.step(levels)[1]
        np.testing.assert_allclose(a, b, atol=1e-6)
    with pytest.raises(InputError, match="actions"):
        plain.step(np.zeros((2, 1), dtype=np.float32))
    with pytest.raises(InputError, match="num_envs"):
        ChargingStations(0, world)
    with pytest.raises(InputError, match="series"):
        ChargingStations(1, world, week_series(world, 10, 0.25))


def test_threaded_kernels_in_plain_python():
    world = example_world(3)
    env = ChargingStations(2, world, copy=True)
    env.reset(seed=1)
    state = kernel.State(*(a.copy() for a in env.state))
    flows = kernel.Flows(*(a.copy() for a in env.flows))
    action = np.full((2, world.ports), 0.5, dtype=np.float32)
    observation, reward, *_ = env.step(action)
    out, value = np.zeros_like(observation), np.zeros(2)
    for function in (kernel.step_all.py_func,):
        function(
            env.layout, env.arrays, state, action, True, flows, BALANCED.vector(), 96, out, value
        )
    np.testing.assert_allclose(out, observation, atol=1e-6)
    np.testing.assert_allclose(value, reward, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("compiled", [True, False])
def test_a_new_episode_shows_no_power_of_the_last_one(compiled):
    env = ChargingStations(4, example_world(5, "home"))
    env.reset(seed=3)
    env.flows.transformer_kw[:] = 7.0
    start_all = kernel.start_all if compiled else kernel.start_all.py_func
    start_all(
        env.layout, env.arrays, env.state, arrivals.arrival_tables(), 3, 0, env.steps, env.flows,
        env._obs, env._full,
    )  # fmt: skip
    assert not env.flows.transformer_kw.any()
    assert not env._obs[:, kernel.GLOBAL_FEATURES + 3].any()


def test_autoreset_and_reset_start_alike():
    world = example_world(3, "home")
    env = ChargingStations(2, world, steps=4, copy=True)
    env.reset(seed=1)
    for _ in range(4):
        observation = env.step(np.ones((2, world.ports), dtype=np.float32))[0]
    assert not observation[:, kernel.GLOBAL_FEATURES + 3].any()


PARALLEL = [
    (path, node)
    for path in sorted(Path(kernel.__file__).parents[1].rglob("*.py"))
    for node in ast.walk(ast.parse(path.read_text("utf-8")))
    if isinstance(node, ast.FunctionDef) and any(
        isinstance(keyword, ast.keyword) and keyword.arg == "parallel"
        for decorator in node.decorator_list for keyword in ast.walk(decorator)
    )
]  # fmt: skip


@pytest.mark.parametrize(("path", "node"), PARALLEL, ids=[n.name for _, n in PARALLEL])
def test_no_parallel_kernel_writes_through_a_field(path, node):
    """Numba drops such a store: its dead-code pass does not see that it reaches an argument."""
    written = [
        target
        for inner in ast.walk(node)
        if isinstance(inner, ast.Assign | ast.AugAssign)
        for target in (inner.targets if isinstance(inner, ast.Assign) else [inner.target])
        if isinstance(target, ast.Subscript)
    ]
    assert [ast.unparse(t) for t in written if "." in ast.unparse(t.value)] == []


def test_actions_that_are_no_numbers_are_refused():
    world = example_world(2)
    env, tenths = ChargingStations(2, world), ChargingStations(2, world, discrete=True)
    env.reset(seed=1)
    tenths.reset(seed=1)
    bad = np.zeros((2, world.ports), dtype=np.float32)
    bad[1, 0] = np.nan
    with pytest.raises(InputError, match=r"actions\[1, 0\]: got nan; allowed: a finite number"):
        env.step(bad)
    with pytest.raises(InputError, match=r"actions\[0, 0\]: got -1"):
        tenths.step(np.full((2, world.ports), -1))
    one = ChargingStation(world, discrete=True)
    one.reset(seed=1)
    with pytest.raises(InputError, match=r"action\[0\]: got 20.5; allowed: a whole number"):
        one.step(np.full(world.ports, 20.5))
    with pytest.raises(InputError, match="action"):
        ChargingStation(world).step(np.full(world.ports, np.inf))
