"""Idle steps against loops that follow the definition step by step."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxe_pipeline.overlays.idle import IdleRule, action_speeds, moving_steps, speed_limits
from oxe_pipeline.overlays.overlay import OverlayError
from oxe_pipeline.stream.reader import open_stream
from tests.synthetic import make_episode, write_stream

EPISODES = st.lists(
    st.tuples(st.lists(st.booleans(), min_size=1, max_size=14), st.sampled_from([3, 5, 10])), max_size=5
)
DURATIONS = st.sampled_from([0.0, 0.1, 0.2, 0.35, 0.6, 1.0])


def kept_by_hand(idle: list[bool], hz: int, rule: IdleRule) -> list[bool]:
    """One episode, by the words of IdleRule."""
    steps = {
        key: math.ceil(round(getattr(rule, key) * hz, 6)) for key in ("min_s", "keep_s", "before_s", "min_motion_s")
    }
    length, position = len(idle), 0
    kept: list[bool | None] = [True] * length
    while position < length:
        end = position
        while end < length and idle[end] == idle[position]:
            end += 1
        if idle[position] and end - position >= max(1, steps["min_s"]):
            last = end if end == length else end - steps["keep_s"]
            for step in range(max(0, position - steps["before_s"]), position):
                kept[step] = False
            for step in range(position, last):
                kept[step] = False
        position = end
    position = 0
    while position < length:
        end = position
        while end < length and kept[end] == kept[position]:
            end += 1
        if kept[position] and end - position < steps["min_motion_s"] and end - position < length:
            for step in range(position, end):
                kept[step] = None
        position = end
    return [value is True for value in kept]


@given(EPISODES, DURATIONS, DURATIONS, DURATIONS, DURATIONS)
def test_stretches_go_as_the_rule_says(episodes, min_s, keep_s, before_s, min_motion_s):
    rule = IdleRule(min_s=min_s, keep_s=keep_s, before_s=before_s, min_motion_s=min_motion_s)
    expected = [value for idle, hz in episodes for value in kept_by_hand(idle, hz, rule)]
    idle = np.array([value for steps, _ in episodes for value in steps], bool)
    length = np.array([len(steps) for steps, _ in episodes], np.int64)
    rate_hz = np.array([hz for _, hz in episodes], np.float32)
    assert moving_steps(idle, length, rate_hz, rule).tolist() == expected


def test_the_setting_of_droid_drops_seven_steps_and_keeps_sixteen():
    """openpi at 15 Hz: idle stretches of 7 steps or more go, with the 10 steps before, what is left below 16 too."""
    rule = IdleRule(min_s=7 / 15, before_s=10 / 15, min_motion_s=16 / 15)
    idle = np.array([False] * 30 + [True] * 7 + [False] * 20 + [True] * 6 + [False] * 4 + [True] * 7 + [False] * 15)
    kept = moving_steps(idle, np.array([len(idle)]), np.array([15.0], np.float32), rule)
    expected = [True] * 20 + [False] * 17 + [True] * 20 + [False] * 10 + [False] * 7 + [False] * 15
    assert kept.tolist() == expected


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 1000))
def test_speeds_are_per_second_whatever_the_kind_of_a_slot(lengths, seed):
    rng = np.random.default_rng(seed)
    action = rng.normal(size=(sum(lengths), 3)).astype(np.float32)
    rate_hz = rng.choice([3.0, 10.0, 50.0], len(lengths)).astype(np.float32)
    speeds = action_speeds(
        action, np.array(lengths), rate_hz, np.array([True, False, False]), np.array([False, True, False])
    )
    start = 0
    for length, hz in zip(lengths, rate_hz.tolist(), strict=True):
        for step in range(length):
            delta, velocity, target = (float(value) for value in action[start + step])
            other = start + step - 1 if step else start + min(1, length - 1)
            expected = [abs(delta) * hz, abs(velocity), abs(target - float(action[other, 2])) * hz]
            np.testing.assert_allclose(speeds[start + step], expected, rtol=1e-12, atol=0)
        start += length


def spec(unit: str, slots: str = "arm0.eef_position_delta", kind: str = "delta") -> dict:
    gripper = {"slots": "arm0.gripper", "source": "a[6]", "unit": "1"}
    return {"action": [{"slots": slots, "source": "a[0:3]", "kind": kind, "unit": unit}, gripper]}


@pytest.fixture
def manifest(tmp_path):
    return open_stream(write_stream(tmp_path / "s", [make_episode(0)])).manifest


def test_limits_follow_the_units_that_the_spec_states(manifest):
    stated = manifest.model_copy(update={"spec": spec("m"), "action_slots": [0, 1, 2, 6, 31]})
    limit, is_delta, is_velocity = speed_limits(stated, IdleRule(m_per_s=0.02, gripper_per_s=0.3))
    assert limit.tolist() == [0.02, 0.02, 0.02, 0.3, math.inf]  # the terminate flag is no motion
    assert is_delta.tolist() == [True, True, True, False, False] and not is_velocity.any()


def test_a_unit_that_nobody_states_needs_a_limit_of_its_own(manifest):
    unstated = manifest.model_copy(update={"spec": spec("source"), "action_slots": [0, 1, 2, 6]})
    with pytest.raises(OverlayError, match=r"unit of arm0.eef_position_delta.x.*--idle-source-per-s"):
        speed_limits(unstated, IdleRule())
    assert speed_limits(unstated, IdleRule(source_per_s=0.7))[0].tolist() == [0.7, 0.7, 0.7, 0.1]


def test_an_action_in_which_nothing_moves_has_no_idle_steps(manifest):
    with pytest.raises(OverlayError, match="no slot that moves"):
        speed_limits(manifest.model_copy(update={"spec": {}, "action_slots": [31]}), IdleRule())
