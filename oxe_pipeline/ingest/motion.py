"""Episode operations that compute actions: from states, from targets, from one frame into another.

Each returns a new Episode and leaves its input alone. `action_raw` and `state_raw` are the source's own vectors and are
never computed. That an operation finds the states it needs is checked when the spec is loaded.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from oxe_pipeline.episode import Episode
from oxe_pipeline.ingest.retime import select_steps
from oxe_pipeline.ingest.rotations import rotation_difference, to_rotation
from schemas.slots import ACTION_GROUPS, STATE_GROUPS

_MOVED = {"eef_position": "eef_position_delta", "joint_position": "joint_position"}
"""State group to the action group that holds its change."""


def action_from_state(episode: Episode, arm: str, *, subtract_angles: bool = False) -> Episode:
    """The arm's commanded motion is replaced by the achieved one: position[t+1] - position[t], R[t+1]·R[t]^T and
    joints[t+1] - joints[t].

    Only slots that the data set has are written; the gripper stays the command. The last step has no next state and
    is dropped; the reward given there belongs to reaching that state and goes to the step before. With
    `subtract_angles` the state's first three rotation slots hold angles, which are subtracted as published code does.
    """
    shortened = _last_dropped(episode)
    action = np.array(shortened.action)
    earlier, later = slice(None, -1), slice(1, None)
    action_slots, state_slots = _matching_slots(episode, arm, ["eef_position", "joint_position"])
    if subtract_angles:
        turn = list(ACTION_GROUPS[f"{arm}.eef_rotation_delta"].indices)
        angles = list(STATE_GROUPS[f"{arm}.eef_rotation_6d"].indices)[:3]
        action[:, turn] = episode.state[later][:, angles].astype(np.float64) - episode.state[earlier][:, angles]
    else:
        _write_turn(episode, arm, action, later=later, earlier=earlier)
    values = episode.state[:, state_slots].astype(np.float64)
    action[:, action_slots] = values[later] - values[earlier]
    return replace(shortened, action=action)


def target_to_delta(episode: Episode, arm: str) -> Episode:
    """The arm's delta slots hold an absolute target pose (rotation as a rotation vector); they become that target
    against the present state: target - position, R_target·R_state^T."""
    action = np.array(episode.action)
    targets, present_slots = _matching_slots(episode, arm, ["eef_position"])
    action[:, targets] -= episode.state[:, present_slots]
    rotation = list(STATE_GROUPS[f"{arm}.eef_rotation_6d"].indices)
    turn = list(ACTION_GROUPS[f"{arm}.eef_rotation_delta"].indices)
    if episode.action_mask[turn].all():
        present = to_rotation(episode.state[:, rotation], "rotation_6d")
        action[:, turn] = rotation_difference(to_rotation(episode.action[:, turn], "rotation_vector"), present)
    return replace(episode, action=action)


def joint_delta_to_target(episode: Episode, arm: str) -> Episode:
    """The arm's joint slots hold a change of the joints; they become the joints to reach: present plus change."""
    action = np.array(episode.action)
    changes, present_slots = _matching_slots(episode, arm, ["joint_position"])
    action[:, changes] += episode.state[:, present_slots]
    return replace(episode, action=action)


def delta_of_targets(episode: Episode, arm: str) -> Episode:
    """The arm's delta slots hold absolute target poses (rotation as a rotation vector); each becomes target[t] -
    target[t-1], R[t]·R[t-1]^T. The first step is dropped."""
    kept = select_steps(episode, slice(1, None))
    action = np.array(kept.action)
    delta, _ = _matching_slots(episode, arm, ["eef_position"])
    targets = episode.action[:, delta].astype(np.float64)
    action[:, delta] = targets[1:] - targets[:-1]
    turn = list(ACTION_GROUPS[f"{arm}.eef_rotation_delta"].indices)
    if episode.action_mask[turn].all():
        orientation = to_rotation(episode.action[:, turn], "rotation_vector")
        action[:, turn] = rotation_difference(orientation[1:], orientation[:-1])
    return replace(kept, action=action)


def gripper_from_state(episode: Episode, arm: str) -> Episode:
    """The arm's gripper action becomes the next step's gripper state; the last step holds its own."""
    action = np.array(episode.action)
    present = episode.state[:, STATE_GROUPS[f"{arm}.gripper"].start]
    action[:, ACTION_GROUPS[f"{arm}.gripper"].start] = np.append(present[1:], present[-1])
    return replace(episode, action=action)


def base_motion_from_state(episode: Episode, *, per_second: bool) -> Episode:
    """The base's slots become its displacement to the next pose, seen from the pose itself, and its turn: times
    `control_hz` for a velocity, or as they are for a displacement. The last step is dropped."""
    kept = _last_dropped(episode)
    pose = episode.state[:, list(STATE_GROUPS["base_pose"].indices)].astype(np.float64)
    x, y, cos, sin = pose.T
    (dx, dy), c, s = (np.diff(x), np.diff(y)), cos[:-1], sin[:-1]
    yaw = np.arctan2(cos[:-1] * sin[1:] - sin[:-1] * cos[1:], cos[:-1] * cos[1:] + sin[:-1] * sin[1:])
    motion = np.stack([c * dx + s * dy, c * dy - s * dx, yaw], axis=1) * (episode.control_hz if per_second else 1.0)
    slots = np.asarray(ACTION_GROUPS["base_velocity"].indices)
    filled = episode.action_mask[slots]
    action = np.array(kept.action)
    action[:, slots[filled]] = motion[:, filled]
    return replace(kept, action=action)


def tool_to_base_frame(episode: Episode, arm: str, *, rotation_only: bool = False) -> Episode:
    """The arm's displacement and rotation vector, given along the tool's axes, along those of the state's frame: with
    the present orientation R, exp(w) on the right of R is exp(R·w) on its left."""
    action = np.array(episode.action)
    present = to_rotation(episode.state[:, list(STATE_GROUPS[f"{arm}.eef_rotation_6d"].indices)], "rotation_6d")
    groups = ("eef_rotation_delta",) if rotation_only else ("eef_position_delta", "eef_rotation_delta")
    for group in groups:
        slots = list(ACTION_GROUPS[f"{arm}.{group}"].indices)
        if episode.action_mask[slots].all():
            action[:, slots] = present.apply(episode.action[:, slots].astype(np.float64))
    return replace(episode, action=action)


def _last_dropped(episode: Episode) -> Episode:
    """Without the last step, which has no next state; what is earned there goes to the step that leads to it."""
    shortened = select_steps(episode, slice(None, -1))
    changed: dict[str, Any] = {}
    if episode.reward is not None:
        changed["reward"] = np.append(episode.reward[:-2], episode.reward[-2] + episode.reward[-1])
    if episode.discount is not None:
        changed["discount"] = np.append(episode.discount[:-2], episode.discount[-2] * episode.discount[-1])
    return replace(shortened, **changed)


def _matching_slots(episode: Episode, arm: str, groups: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Action slots of an arm that the data set has, and the state slots that they move."""
    action_slots = np.concatenate([ACTION_GROUPS[f"{arm}.{_MOVED[group]}"].indices for group in groups])
    state_slots = np.concatenate([STATE_GROUPS[f"{arm}.{group}"].indices for group in groups])
    filled = episode.action_mask[action_slots]
    return action_slots[filled], state_slots[filled]


def _write_turn(episode: Episode, arm: str, action: np.ndarray, *, later: slice, earlier: slice) -> None:
    """Fills the arm's rotation slots of `action`, where the data set has them, with the turn between two stretches of
    states."""
    turn = list(ACTION_GROUPS[f"{arm}.eef_rotation_delta"].indices)
    if episode.action_mask[turn].all():
        rotation = list(STATE_GROUPS[f"{arm}.eef_rotation_6d"].indices)
        orientation = to_rotation(episode.state[:, rotation], "rotation_6d")
        action[:, turn] = rotation_difference(orientation[later], orientation[earlier])
