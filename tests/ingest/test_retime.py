"""Operations on steps against hand-made episodes; rotations against matrices multiplied here."""

from dataclasses import replace

import numpy as np
import pytest

from oxe_pipeline.episode import DataError
from tests.ingest.numbered_episode import BASE, GRIPPER, ROTATION, frames, make_episode, run, z_matrix


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


def test_keep_every_without_merging_throws_the_other_steps_away():
    episode = run(make_episode(7, reward=True), op="keep_every", steps=3, merge=False)
    for column in (episode.action[:, 0], episode.action[:, GRIPPER], episode.state[:, 0], episode.reward):
        np.testing.assert_array_equal(column, [0, 3, 6])
    assert frames(episode) == [0, 3, 6] and episode.control_hz == 10.0


def test_shifted_actions_go_to_the_observation_that_shows_their_moment():
    episode = run(make_episode(5, reward=True), op="shift_actions", steps=2)
    np.testing.assert_array_equal(episode.action_raw[:, 0], [0, 1, 2])
    np.testing.assert_array_equal(episode.reward, [0, 1, 2])
    np.testing.assert_array_equal(episode.state[:, 0], [2, 3, 4])
    np.testing.assert_array_equal(episode.state_raw[:, 0], [2, 3, 4])
    assert frames(episode) == [2, 3, 4]


def test_rewards_of_dropped_no_ops_go_to_the_step_kept_before_them():
    raw = np.zeros((6, 7), np.float32)
    raw[[1, 4], 0] = 0.5
    episode = run(replace(make_episode(6, reward=True), action_raw=raw), op="drop_no_ops")
    assert frames(episode) == [1, 4]
    np.testing.assert_array_equal(episode.reward, [0 + 1 + 2 + 3, 4 + 5])
