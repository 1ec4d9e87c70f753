"""Actions computed from states and targets, against hand-made episodes and matrices multiplied here."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.episode_operations import apply_episode_operation
from schemas.slots import ACTION_GROUPS, ACTION_NAMES, STATE_GROUPS
from tests.ingest.numbered_episode import (
    BASE,
    GRIPPER,
    KINDS,
    POSITION,
    ROTATION,
    frames,
    make_episode,
    parse,
    run,
    z_matrix,
)


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


def test_delta_of_targets_is_each_target_against_the_one_before_and_drops_the_first_step():
    episode = make_episode(4)
    episode.action[:, POSITION] = [[0, 0, 0], [1, 0, 0], [3, 0, 0], [3, 1, 0]]
    episode.action[:, ROTATION] = [[0, 0, 3.0], [0, 0, 3.1], [0, 0, -3.1], [0, 0, -3.0]]
    got = run(episode, op="delta_of_targets")
    assert frames(got) == [1, 2, 3] and got.action[:, GRIPPER].tolist() == [1, 2, 3]
    np.testing.assert_allclose(got.action[:, POSITION], [[1, 0, 0], [2, 0, 0], [0, 1, 0]], atol=1e-6)
    np.testing.assert_allclose(got.action[:, 5], [0.1, 2 * np.pi - 6.2, 0.1], atol=1e-5)
    with pytest.raises(DataError, match="delta_of_targets drops 1"):
        run(make_episode(1), op="delta_of_targets")


def test_a_gripper_without_a_command_is_told_to_become_what_it_is_next():
    episode = make_episode(4)
    episode.state_mask[9] = True
    episode.state[:, 9] = [1, 1, 0, 0.5]
    got = run(episode, op="gripper_from_state")
    assert got.action[:, GRIPPER].tolist() == [1, 0, 0.5, 0.5] and len(got) == 4


def test_the_motion_of_a_base_is_seen_from_itself_and_its_turn_never_wraps():
    episode, slots = make_episode(3), list(range(BASE, BASE + 3))
    pose = STATE_GROUPS["base_pose"].indices
    yaw = np.array([np.pi / 2, 3.1, -3.1])
    episode.action_mask[slots], episode.state_mask[list(pose)] = True, True
    episode.state[:, pose.start : pose.stop] = np.stack([[0, 0, -1], [0, 2, 2], np.cos(yaw), np.sin(yaw)], axis=1)
    kinds = KINDS | {name: "velocity" for name in ACTION_NAMES[BASE : BASE + 3]}
    got = apply_episode_operation(episode, parse({"op": "base_motion_from_state", "per": "step"}), kinds)
    ahead, to_its_left = np.cos(3.1 - np.pi), np.sin(3.1 - np.pi)  # of a way of -1 along x, seen from a yaw of 3.1
    wanted = [[2, 0, 3.1 - np.pi / 2], [ahead, -to_its_left, 2 * np.pi - 6.2]]
    np.testing.assert_allclose(got.action[:, slots], wanted, atol=1e-5)
    per_second = apply_episode_operation(episode, parse({"op": "base_motion_from_state"}), kinds)
    np.testing.assert_allclose(per_second.action[:, slots], np.array(wanted) * 30, atol=1e-3)
    assert frames(got) == [0, 1]


def with_joints(steps: int):
    """An episode whose joints are 10 times the step and whose joint actions are the step."""
    episode = make_episode(steps)
    joints, targets = STATE_GROUPS["arm0.joint_position"].indices, ACTION_GROUPS["arm0.joint_position"].indices
    episode.action_mask[list(targets)] = episode.state_mask[list(joints)] = True
    episode.state[:, joints.start : joints.stop] = 10 * np.arange(steps)[:, None]
    episode.action[:, targets.start : targets.stop] = np.arange(steps)[:, None]
    return episode, slice(targets.start, targets.stop)


def test_the_motion_achieved_by_joints_is_their_change():
    episode, joints = with_joints(4)
    np.testing.assert_array_equal(run(episode, op="action_from_state").action[:, joints], np.full((3, 7), 10))


def test_angles_subtracted_like_lengths_jump_as_published():
    episode = make_episode(3)
    episode.state[:, 3:6] = [[0, 0, 3.1], [0, 0, -3.1], [0.5, 0, -3.0]]
    got = run(episode, op="action_from_state", angles="subtracted")
    np.testing.assert_allclose(got.action[:, ROTATION], [[0, 0, -6.2], [0.5, 0, 0.1]], atol=1e-6)
    np.testing.assert_allclose(got.action[:, POSITION], [[1, 0, 0]] * 2)


def test_a_change_of_joints_becomes_the_joints_to_reach():
    episode, joints = with_joints(3)
    got = run(episode, op="joint_delta_to_target")
    np.testing.assert_array_equal(got.action[:, joints], np.repeat([[0], [11], [22]], 7, axis=1))
    np.testing.assert_array_equal(episode.action[:, joints], np.repeat([[0], [1], [2]], 7, axis=1))


@pytest.mark.parametrize(("part", "position"), [("pose", [0, 1, 0]), ("rotation", [1, 0, 0])])
def test_a_motion_along_the_tools_axes_is_told_along_those_of_the_base(part, position):
    episode = make_episode(1, yaw=[np.pi / 2])
    episode.action[:, POSITION], episode.action[:, ROTATION] = [1, 0, 0], [0.2, 0, 0]
    got = run(episode, op="tool_to_base_frame", part=part).action[0]
    np.testing.assert_allclose(got[POSITION], position, atol=1e-6)
    present, about_tool_x = (
        z_matrix(np.pi / 2),
        np.array([[1, 0, 0], [0, np.cos(0.2), -np.sin(0.2)], [0, np.sin(0.2), np.cos(0.2)]]),
    )
    in_base = present @ about_tool_x @ present.T  # D' with D'·R = R·D
    np.testing.assert_allclose(got[ROTATION], [0, np.arcsin(in_base[0, 2]), 0], atol=1e-6)


@given(st.lists(st.floats(-np.pi, np.pi), min_size=2, max_size=12))
def test_the_motions_achieved_lead_from_the_first_state_to_the_last(yaw):
    episode = make_episode(len(yaw), yaw=yaw)
    action = run(episode, op="action_from_state").action.astype(np.float64)
    reached = episode.state[0, POSITION] + action[:, POSITION].sum(axis=0)
    np.testing.assert_allclose(reached, episode.state[-1, POSITION], atol=1e-5)
    turned = z_matrix(yaw[0])
    for step in action:
        turned = z_matrix(step[5]) @ turned
    np.testing.assert_allclose(turned, z_matrix(yaw[-1]), atol=1e-5)
    assert np.abs(action[:, 5]).max() <= np.pi + 1e-6
