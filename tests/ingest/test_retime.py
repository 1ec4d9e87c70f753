"""Episode operations against hand-made episodes; rotations against matrices multiplied here."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter

from oxe_pipeline.episode import DataError, Episode
from oxe_pipeline.ingest.retime import apply_episode_operation
from schemas.operations import EpisodeOperation
from schemas.slots import ACTION_GROUPS, ACTION_NAMES

parse = TypeAdapter(EpisodeOperation).validate_python
POSITION, ROTATION = slice(0, 3), slice(3, 6)
GRIPPER, BASE = 6, ACTION_GROUPS["base_velocity"].start
KINDS = {name: "delta" for name in ACTION_NAMES[:6]} | {"arm0.gripper": "absolute", ACTION_NAMES[BASE]: "velocity"}


def z_matrix(angle):
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def make_episode(steps=6, yaw=None, reward=False) -> Episode:
    """Position = (t, 0, 0), yaw as given (default 0), action slots numbered by step, two bytes an image."""
    yaw = np.zeros(steps) if yaw is None else np.asarray(yaw)
    action, state = np.zeros((steps, 32), np.float32), np.zeros((steps, 40), np.float32)
    action_mask, state_mask = np.zeros(32, bool), np.zeros(40, bool)
    action_mask[[*range(7), BASE]], state_mask[:9] = True, True
    action[:, 0], action[:, GRIPPER], action[:, BASE] = np.arange(steps), np.arange(steps), np.arange(steps)
    state[:, 0] = np.arange(steps)
    state[:, 3:9] = [[*z_matrix(angle)[:, 0], *z_matrix(angle)[:, 1]] for angle in yaw]
    return Episode(
        dataset="d",
        episode_id="0" * 16,
        split="train",
        action=action,
        action_mask=action_mask,
        state=state,
        state_mask=state_mask,
        action_raw=np.arange(steps, dtype=np.float32)[:, None],
        state_raw=np.arange(steps, dtype=np.float32)[:, None],
        images={"primary": [bytes([t, t]) for t in range(steps)]},
        control_hz=30.0,
        reward=np.arange(steps, dtype=np.float32) if reward else None,
        discount=np.full(steps, 0.5, np.float32) if reward else None,
    )


def run(episode, **operation):
    return apply_episode_operation(episode, parse(operation), KINDS)


def frames(episode):
    return [frame[0] for frame in episode.images["primary"]]


def test_dropping_takes_the_same_steps_off_every_column():
    first = run(make_episode(reward=True), op="drop_first", steps=2)
    last = run(make_episode(reward=True), op="drop_last", steps=2)
    for episode, kept in ((first, [2, 3, 4, 5]), (last, [0, 1, 2, 3])):
        for column in (episode.action[:, 0], episode.state[:, 0], episode.action_raw[:, 0], episode.reward):
            np.testing.assert_array_equal(column, kept)
        assert frames(episode) == kept


def test_keep_every_sums_deltas_takes_the_last_absolute_and_the_mean_velocity():
    episode = run(make_episode(7, reward=True), op="keep_every", steps=3)
    np.testing.assert_array_equal(episode.action[:, 0], [0 + 1 + 2, 3 + 4 + 5, 6])
    np.testing.assert_array_equal(episode.action[:, GRIPPER], [2, 5, 6])
    np.testing.assert_array_equal(episode.action[:, BASE], [1, 4, 6])
    np.testing.assert_array_equal(episode.state[:, 0], [0, 3, 6])
    np.testing.assert_array_equal(episode.reward, [3, 12, 6])
    np.testing.assert_allclose(episode.discount, [0.125, 0.125, 0.5])
    assert frames(episode) == [0, 3, 6]
    assert episode.control_hz == 10.0


def test_keep_every_composes_rotations_later_ones_on_the_left():
    episode = make_episode(2)
    episode.action[:, ROTATION] = [[np.pi / 2, 0, 0], [0, 0, np.pi / 2]]
    merged = run(episode, op="keep_every", steps=2).action[0, ROTATION]
    x_quarter = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0.0]])
    expected = z_matrix(np.pi / 2) @ x_quarter
    angle = np.arccos((np.trace(expected) - 1) / 2)
    skew = (expected - expected.T) / (2 * np.sin(angle)) * angle
    np.testing.assert_allclose(merged, [skew[2, 1], skew[0, 2], skew[1, 0]], atol=1e-6)


def test_action_from_state_is_the_motion_achieved_and_does_not_wrap():
    yaw = [3.0, 3.1, -3.1, -3.0]
    episode = run(make_episode(4, yaw=yaw), op="action_from_state")
    assert len(episode) == 3
    np.testing.assert_allclose(episode.action[:, POSITION], [[1, 0, 0]] * 3)
    turn = 2 * np.pi - 6.2
    np.testing.assert_allclose(episode.action[:, ROTATION], [[0, 0, 0.1], [0, 0, turn], [0, 0, 0.1]], atol=1e-6)
    np.testing.assert_array_equal(episode.action[:, GRIPPER], [0, 1, 2])
    assert frames(episode) == [0, 1, 2]


def test_action_from_state_keeps_the_reward_of_the_state_it_reaches():
    episode = run(make_episode(4, reward=True), op="action_from_state")
    np.testing.assert_array_equal(episode.reward, [0, 1, 2 + 3])


def test_target_to_delta_compares_the_target_with_the_present_pose():
    episode = make_episode(2, yaw=[3.1, 0.0])
    episode.action[:, POSITION] = [[0.5, 1, 2], [3, 1, 2]]
    episode.action[:, ROTATION] = [[0, 0, -3.1], [0, 0, 0.2]]
    action = run(episode, op="target_to_delta").action
    np.testing.assert_allclose(action[:, POSITION], [[0.5, 1, 2], [2, 1, 2]])
    np.testing.assert_allclose(action[:, ROTATION], [[0, 0, 2 * np.pi - 6.2], [0, 0, 0.2]], atol=1e-6)


def test_shifted_observations_stand_before_the_action_they_led_to():
    episode = run(make_episode(5), op="shift_observations", steps=2)
    np.testing.assert_array_equal(episode.state[:, 0], [0, 1, 2])
    np.testing.assert_array_equal(episode.action_raw[:, 0], [2, 3, 4])
    np.testing.assert_array_equal(episode.state_raw[:, 0], [0, 1, 2])
    assert frames(episode) == [0, 1, 2]


@pytest.mark.parametrize("op", ["drop_first", "drop_last", "action_from_state", "shift_observations"])
def test_an_episode_that_would_be_emptied_is_refused_with_both_numbers(op):
    with pytest.raises(DataError, match=rf"1 step\(s\) long; {op} drops 1"):
        run(make_episode(1), op=op)


@pytest.mark.parametrize(
    "op", ["drop_first", "keep_every", "action_from_state", "target_to_delta", "shift_observations"]
)
def test_the_input_is_left_alone(op):
    episode = make_episode(6, reward=True)
    before = replace(episode, action=episode.action.copy(), state=episode.state.copy())
    run(episode, op=op, **({"steps": 2} if op == "keep_every" else {}))
    np.testing.assert_array_equal(episode.action, before.action)
    np.testing.assert_array_equal(episode.state, before.state)
    assert len(episode.images["primary"]) == 6
