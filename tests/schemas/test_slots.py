"""The layout that streams and checkpoints depend on: changing a number here breaks what was written before."""

import pytest

from schemas.slots import ACTION_GROUPS, ACTION_NAMES, ACTION_WIDTH, STATE_GROUPS, STATE_NAMES, STATE_WIDTH, slot_unit


def test_names_are_unique_and_fill_both_vectors():
    assert len(set(ACTION_NAMES)) == ACTION_WIDTH == 32
    assert len(set(STATE_NAMES)) == STATE_WIDTH == 40


def test_groups_stand_where_they_always_stood():
    starts = {name: group.start for name, group in ACTION_GROUPS.items()}
    assert starts["arm0.eef_position_delta"] == 0 and starts["arm0.gripper"] == 6 and starts["arm0.joint_position"] == 7
    assert starts["arm1.eef_position_delta"] == 14 and starts["base_velocity"] == 28 and starts["terminate"] == 31
    starts = {name: group.start for name, group in STATE_GROUPS.items()}
    assert starts["arm0.eef_rotation_6d"] == 3 and starts["arm0.gripper"] == 9 and starts["arm0.joint_position"] == 10
    assert starts["arm1.eef_position"] == 17 and starts["base_pose"] == 34 and starts["reserved"] == 38


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("arm0.eef_position_delta.x", "m"),
        ("arm1.eef_rotation_delta.z", "rad"),
        ("arm0.gripper", "1"),
        ("base_velocity.yaw", "rad/s"),
        ("base_pose.cos_yaw", "1"),
    ],
)
def test_every_slot_has_its_own_unit(name, unit):
    assert slot_unit(name) == unit


def test_a_slot_that_does_not_exist_has_no_unit():
    with pytest.raises(KeyError):
        slot_unit("arm2.gripper")
