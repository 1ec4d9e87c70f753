"""Wraps in raw angles and jumps of rotations."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from oxe_pipeline.quality.orientation import orientations, turns
from tests.quality.motions import changed, group, judged


def test_continuous_angles_are_ok(good_episodes):
    found = judged(good_episodes)
    subjects = ("state_raw", "action_raw", "arm0.joint_position")
    assert {found["angle_wrap", subject].verdict for subject in subjects} == {"ok"}
    assert found["rotation_jump", "arm0.eef_rotation_6d"].verdict == "ok"
    assert found["rotation_jump", "arm0.eef_rotation_delta"].verdict == "ok"


@pytest.mark.parametrize(("turn", "unit"), [(2 * np.pi, "rad"), (360.0, "degrees")])
def test_a_raw_angle_that_wraps_is_suspect_with_its_column_and_unit(good_episodes, turn, unit):
    wrapped = []
    for episode in good_episodes:
        raw = episode.state_raw.copy()
        angle = raw[:, 3].astype(np.float64) * turn / (2 * np.pi)
        raw[:, 3] = (angle + turn / 2) % turn - turn / 2
        wrapped.append(replace(episode, state_raw=raw))
    found = judged(wrapped)["angle_wrap", "state_raw"]
    assert (
        found.verdict == "suspect"
        and f"column 3 by a whole turn in {unit} {found.numbers['wraps']} times" in found.evidence
    )


def test_a_value_that_toggles_by_a_turns_size_is_no_angle(good_episodes):
    toggled = []
    for episode in good_episodes:
        raw = np.column_stack([episode.state_raw, 2 * np.pi * (np.arange(len(episode)) % 2)]).astype(np.float32)
        toggled.append(replace(episode, state_raw=raw))
    assert judged(toggled)["angle_wrap", "state_raw"].verdict == "ok"


def test_a_wrapped_joint_of_the_unified_state_is_a_fault(good_episodes):
    column = group("joint_position", "state")[6]

    def plant(action, state):
        state[30, column] += 2 * np.pi if state[30, column] < 0 else -2 * np.pi

    found = judged(changed(good_episodes, plant))["angle_wrap", "arm0.joint_position"]
    assert found.verdict == "fault" and found.numbers["wraps"] == 2 * len(good_episodes), "there and back"


def test_a_difference_across_a_wrap_is_a_fault(good_episodes):
    column = group("eef_rotation_delta", "action")[0]

    def plant(action, state):
        action[20, column] -= 2 * np.pi

    found = judged(changed(good_episodes, plant))["rotation_jump", "arm0.eef_rotation_delta"]
    assert found.verdict == "fault" and found.numbers["jumps"] == len(good_episodes)


def test_an_orientation_that_jumps_is_a_fault(good_episodes):
    columns = group("eef_rotation_6d", "state")

    def plant(action, state):
        state[25:, columns] *= np.array([1, 1, 1, -1, -1, -1], np.float32)

    assert judged(changed(good_episodes, plant))["rotation_jump", "arm0.eef_rotation_6d"].verdict == "fault"


def test_turns_are_those_of_scipy(good_episodes):
    matrices = orientations(good_episodes[0], "arm0")
    rotations = Rotation.from_matrix(matrices)
    np.testing.assert_allclose(turns(matrices), (rotations[1:] * rotations[:-1].inv()).as_rotvec(), atol=1e-7)
