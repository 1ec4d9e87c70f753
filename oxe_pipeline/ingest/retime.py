"""Episode operations on steps: some are dropped, some merged, and observations moved against actions.

Each returns a new Episode and leaves its input alone. `action_raw` and `state_raw` are the source's own vectors, so
they are only selected, never computed. Rewards follow their steps.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from oxe_pipeline.episode import Episode
from oxe_pipeline.ingest.rotations import convert_rotation
from schemas.slots import ACTION_GROUPS, ACTION_NAMES

_PER_STEP = ("action", "state", "action_raw", "state_raw", "reward", "discount")


def select_steps(episode: Episode, steps: slice | np.ndarray) -> Episode:
    """The episode with only `steps` (a slice, or ascending numbers) of every column."""
    columns = {name: column[steps] for name in _PER_STEP if (column := getattr(episode, name)) is not None}
    chosen = range(len(episode))[steps] if isinstance(steps, slice) else steps
    images = {camera: [frames[step] for step in chosen] for camera, frames in episode.images.items()}
    return replace(episode, **columns, images=images)


def keep_every(episode: Episode, steps: int, kinds: Mapping[str, str]) -> Episode:
    """One observation in `steps` is kept with one action that does what the `steps` actions did together.

    Position deltas are summed and rotation deltas composed (later on the left: base frame), an absolute target is the
    last one, a velocity the mean. Rewards are summed, discounts multiplied. A shorter last group is kept. `control_hz`
    is divided by `steps`.
    """
    starts = np.arange(0, len(episode), steps)
    kept = select_steps(episode, slice(None, None, steps))
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


def throw_between(episode: Episode, steps: int) -> Episode:
    """One step in `steps` as it stands; what the others did and earned is lost. `control_hz` is divided by `steps`."""
    kept = select_steps(episode, slice(None, None, steps))
    return replace(kept, control_hz=episode.control_hz / steps)


def _composed(rotation_vectors: np.ndarray, starts: np.ndarray, last: np.ndarray) -> np.ndarray:
    """The product of each group's rotations, later ones on the left, as rotation vectors [groups, 3]."""
    matrices = convert_rotation(rotation_vectors, "rotation_vector", "matrix").reshape(-1, 3, 3)
    product = matrices[starts]
    for offset in range(1, int((last - starts).max()) + 1):
        rows = starts + offset
        inside = rows <= last
        product[inside] = matrices[rows[inside]] @ product[inside]
    return convert_rotation(product.reshape(-1, 9), "matrix", "rotation_vector")


def shift_observations(episode: Episode, steps: int) -> Episode:
    """Row t holds the observation made *after* action t: observations move `steps` later, so that each stands before
    the action it led to, and the ends without a partner are dropped."""
    return _paired(episode, observed=slice(None, -steps), acted=slice(steps, None))


def shift_actions(episode: Episode, steps: int) -> Episode:
    """Row t holds an observation of `steps` rows before: it is paired with the action of row t - `steps`; the ends
    without a partner are dropped. Rewards stay with their actions."""
    return _paired(episode, observed=slice(steps, None), acted=slice(None, -steps))


def _paired(episode: Episode, *, observed: slice, acted: slice) -> Episode:
    """Observations of one stretch of rows beside the actions, and what they earned, of another of the same length."""
    acting = select_steps(episode, acted)
    images = {camera: frames[observed] for camera, frames in episode.images.items()}
    return replace(acting, state=episode.state[observed], state_raw=episode.state_raw[observed], images=images)


def drop_no_ops(episode: Episode, threshold: float) -> Episode:
    """Steps whose own action (`action_raw`: motion, then one gripper number) neither moves nor changes the gripper
    against the step kept before are dropped; rewards of dropped steps are added to the step kept before them.

    Raises DataError when no step is left.
    """
    motion, gripper = np.linalg.norm(episode.action_raw[:, :-1], axis=1), episode.action_raw[:, -1]
    kept: list[int] = []
    for step in range(len(episode)):
        if motion[step] >= threshold or (kept and gripper[step] != gripper[kept[-1]]):
            kept.append(step)
    if not kept:
        raise episode.fault("action_raw", f"no step moves by {threshold} or works the gripper; drop_no_ops leaves none")
    shortened = select_steps(episode, np.array(kept))
    if episode.reward is not None:
        starts = np.array([0, *kept[1:]])
        shortened = replace(shortened, reward=np.add.reduceat(episode.reward, starts))
    return shortened
