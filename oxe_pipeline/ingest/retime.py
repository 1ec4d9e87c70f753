"""Operations on whole episodes: steps dropped or merged, actions computed from states, observations moved.

Each returns a new Episode and leaves its input alone. `action_raw` and `state_raw` are the source's own vectors, so
they are only selected, never computed. Rewards follow their steps. That an operation finds the states it needs is
checked when the spec is loaded.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from oxe_pipeline.episode import Episode
from oxe_pipeline.ingest.rotations import convert_rotation, rotation_difference, to_rotation
from schemas import operations as ops
from schemas.slots import ACTION_GROUPS, ACTION_NAMES, STATE_GROUPS

_PER_STEP = ("action", "state", "action_raw", "state_raw", "reward", "discount")


def apply_episode_operation(episode: Episode, op: ops.EpisodeOperation, kinds: Mapping[str, str]) -> Episode:
    """One operation on one episode. `kinds` maps an action slot's name to "delta", "absolute" or "velocity".

    Pure and deterministic. Raises DataError when the episode is too short for the operation to leave a step.
    """
    lost = _steps_lost(op)
    if len(episode) <= lost:
        raise episode.fault("steps", f"{len(episode)} step(s) long; {op.op} drops {lost} and would leave nothing")
    match op:
        case ops.DropFirst():
            return _select(episode, slice(op.steps, None))
        case ops.DropLast():
            return _select(episode, slice(None, -op.steps))
        case ops.KeepEvery():
            return keep_every(episode, op.steps, kinds)
        case ops.ActionFromState():
            return action_from_state(episode, op.arm)
        case ops.TargetToDelta():
            return target_to_delta(episode, op.arm)
        case ops.ShiftObservations():
            return shift_observations(episode, op.steps)


def _steps_lost(op: ops.EpisodeOperation) -> int:
    if isinstance(op, ops.ActionFromState):
        return 1
    return op.steps if isinstance(op, ops.DropFirst | ops.DropLast | ops.ShiftObservations) else 0


def _select(episode: Episode, steps: slice) -> Episode:
    """The episode with only `steps` of every column."""
    columns = {name: column[steps] for name in _PER_STEP if (column := getattr(episode, name)) is not None}
    images = {camera: frames[steps] for camera, frames in episode.images.items()}
    return replace(episode, **columns, images=images)


def keep_every(episode: Episode, steps: int, kinds: Mapping[str, str]) -> Episode:
    """One observation in `steps` is kept with one action that does what the `steps` actions did together.

    Position deltas are summed and rotation deltas composed (later on the left: base frame), an absolute target is the
    last one, a velocity the mean. Rewards are summed, discounts multiplied. A shorter last group is kept. `control_hz`
    is divided by `steps`.
    """
    starts = np.arange(0, len(episode), steps)
    kept = _select(episode, slice(None, None, steps))
    action = np.array(kept.action)
    last = np.minimum(starts + steps, len(episode)) - 1
    counts = (last - starts + 1).astype(np.float64)
    for index in np.flatnonzero(episode.action_mask):
        kind, column = kinds[ACTION_NAMES[index]], episode.action[:, index].astype(np.float64)
        if kind == "absolute":
            action[:, index] = column[last]
        else:
            total = np.add.reduceat(column, starts)
            action[:, index] = total if kind == "delta" else total / counts
    for arm in ("arm0", "arm1"):
        columns = list(ACTION_GROUPS[f"{arm}.eef_rotation_delta"].indices)
        if episode.action_mask[columns].all() and all(kinds[ACTION_NAMES[i]] == "delta" for i in columns):
            action[:, columns] = _composed(episode.action[:, columns], starts, last)
    changed: dict[str, Any] = {"action": action}
    if episode.reward is not None:
        changed["reward"] = np.add.reduceat(episode.reward, starts)
    if episode.discount is not None:
        changed["discount"] = np.multiply.reduceat(episode.discount, starts)
    return replace(kept, **changed, control_hz=episode.control_hz / steps)


def _composed(rotation_vectors: np.ndarray, starts: np.ndarray, last: np.ndarray) -> np.ndarray:
    """The product of each group's rotations, later ones on the left, as rotation vectors [groups, 3]."""
    matrices = convert_rotation(rotation_vectors, "rotation_vector", "matrix").reshape(-1, 3, 3)
    product = matrices[starts]
    for offset in range(1, int((last - starts).max()) + 1):
        rows = starts + offset
        inside = rows <= last
        product[inside] = matrices[rows[inside]] @ product[inside]
    return convert_rotation(product.reshape(-1, 9), "matrix", "rotation_vector")


def action_from_state(episode: Episode, arm: str) -> Episode:
    """The arm's commanded motion is replaced by the achieved one: position[t+1] - position[t] and R[t+1]·R[t]^T.

    Only slots that the data set has are written; the gripper stays the command. The last step has no next state and
    is dropped; the reward given there belongs to reaching that state and goes to the step before.
    """
    shortened = _select(episode, slice(None, -1))
    action = np.array(shortened.action)
    _write_motion(episode, arm, action, later=slice(1, None), earlier=slice(None, -1))
    changed: dict[str, Any] = {"action": action}
    if episode.reward is not None:
        changed["reward"] = np.append(episode.reward[:-2], episode.reward[-2] + episode.reward[-1])
    if episode.discount is not None:
        changed["discount"] = np.append(episode.discount[:-2], episode.discount[-2] * episode.discount[-1])
    return replace(shortened, **changed)


def _write_motion(episode: Episode, arm: str, action: np.ndarray, *, later: slice, earlier: slice) -> None:
    """Fills the arm's delta slots of `action` with the motion between two stretches of states."""
    position = np.asarray(STATE_GROUPS[f"{arm}.eef_position"].indices)
    delta = np.asarray(ACTION_GROUPS[f"{arm}.eef_position_delta"].indices)
    filled = episode.action_mask[delta]
    positions = episode.state[:, position[filled]].astype(np.float64)
    action[:, delta[filled]] = positions[later] - positions[earlier]
    rotation = list(STATE_GROUPS[f"{arm}.eef_rotation_6d"].indices)
    turn = list(ACTION_GROUPS[f"{arm}.eef_rotation_delta"].indices)
    if episode.action_mask[turn].all():
        orientation = to_rotation(episode.state[:, rotation], "rotation_6d")
        action[:, turn] = rotation_difference(orientation[later], orientation[earlier])


def target_to_delta(episode: Episode, arm: str) -> Episode:
    """The arm's delta slots hold an absolute target pose (rotation as a rotation vector); they become that target
    against the present state: target - position, R_target·R_state^T."""
    action = np.array(episode.action)
    position = np.asarray(STATE_GROUPS[f"{arm}.eef_position"].indices)
    delta = np.asarray(ACTION_GROUPS[f"{arm}.eef_position_delta"].indices)
    filled = episode.action_mask[delta]
    action[:, delta[filled]] -= episode.state[:, position[filled]]
    rotation = list(STATE_GROUPS[f"{arm}.eef_rotation_6d"].indices)
    turn = list(ACTION_GROUPS[f"{arm}.eef_rotation_delta"].indices)
    if episode.action_mask[turn].all():
        present = to_rotation(episode.state[:, rotation], "rotation_6d")
        action[:, turn] = rotation_difference(to_rotation(episode.action[:, turn], "rotation_vector"), present)
    return replace(episode, action=action)


def shift_observations(episode: Episode, steps: int) -> Episode:
    """Row t holds the observation made *after* action t: observations move `steps` later, so that each stands before
    the action it led to, and the ends without a partner are dropped."""
    observed, acted = slice(None, -steps), slice(steps, None)
    columns = {name: column[acted] for name in _PER_STEP if (column := getattr(episode, name)) is not None}
    columns["state"], columns["state_raw"] = episode.state[observed], episode.state_raw[observed]
    images = {camera: frames[observed] for camera, frames in episode.images.items()}
    return replace(episode, **columns, images=images)
