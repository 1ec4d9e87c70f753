"""Small episodes whose numbers tell their step, for the tests of episode operations."""

import numpy as np
from pydantic import TypeAdapter

from oxe_pipeline.episode import Episode
from oxe_pipeline.ingest.episode_operations import apply_episode_operation
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
