"""Episodes of a robot that moves as robots do: a smooth hand with sensor noise and a controller that lags, a gripper
that takes its time, joints that follow. Good data for the audits; each test plants one fault in them."""

from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from oxe_pipeline.episode import Episode
from oxe_pipeline.quality.audits import Audits, measure
from oxe_pipeline.quality.declared import Declared
from oxe_pipeline.quality.finding import Finding
from oxe_pipeline.stats.statistics import VectorStatistics
from schemas.slots import ACTION_GROUPS, ACTION_NAMES, STATE_GROUPS, STATE_NAMES
from schemas.spec import DatasetSpec
from tests.synthetic import make_episode

HZ = 10.0
EPISODES, STEPS = 30, 60


def group(name: str, what: str) -> list[int]:
    """Slot indices of arm0's group."""
    return list((ACTION_GROUPS if what == "action" else STATE_GROUPS)[f"arm0.{name}"].indices)


def robot_episode(seed: int, *, steps: int = STEPS, cameras=("primary",), image_px: int = 32) -> Episode:
    """Commands are smooth displacements of some millimetres; the hand answers with a first-order delay and noise of
    0.2 mm and 1 mrad. It works around a point 0.5 m before its base, tool pointing down."""
    rng = np.random.default_rng(seed)
    episode = make_episode(seed, steps=steps, cameras=cameras, image_px=image_px, control_hz=HZ)
    told = gaussian_filter1d(rng.normal(0, 0.02, (steps, 3)), 2, axis=0)
    turned = gaussian_filter1d(rng.normal(0, 0.08, (steps, 3)), 2, axis=0)
    position = np.array([0.5, 0.0, 0.3]) + np.cumsum(_delayed(told), axis=0) + rng.normal(0, 2e-4, (steps, 3))
    start = Rotation.from_euler("xyz", [np.pi, 0, rng.uniform(-1, 1)])
    rotations = [start]
    for turn in _delayed(turned)[1:] + rng.normal(0, 1e-3, (steps - 1, 3)):
        rotations.append(Rotation.from_rotvec(turn) * rotations[-1])
    matrices = np.stack([rotation.as_matrix() for rotation in rotations])
    gripper = np.ones(steps)
    gripper[steps // 3 : 2 * steps // 3] = 0
    opening = np.clip(gaussian_filter1d(np.roll(gripper, 2), 1), 0, 1)
    opening[:2] = 1
    joints = 0.8 * gaussian_filter1d(rng.normal(0, 1, (steps, 7)), 8, axis=0) + rng.uniform(-1, 1, 7)
    targets = np.vstack([joints[1:], joints[-1:]])
    action, state = np.zeros((steps, 32), np.float32), np.zeros((steps, 40), np.float32)
    action[:, group("eef_position_delta", "action")] = told
    action[:, group("eef_rotation_delta", "action")] = turned
    action[:, group("gripper", "action")] = gripper[:, None]
    action[:, group("joint_position", "action")] = targets
    state[:, group("eef_position", "state")] = position
    state[:, group("eef_rotation_6d", "state")] = np.concatenate([matrices[:, :, 0], matrices[:, :, 1]], axis=1)
    state[:, group("gripper", "state")] = opening[:, None]
    state[:, group("joint_position", "state")] = joints + rng.normal(0, 1e-3, joints.shape)
    action_mask, state_mask = np.zeros(32, bool), np.zeros(40, bool)
    action_mask[:14], state_mask[:17] = True, True
    euler = np.unwrap(np.stack([rotation.as_euler("xyz") for rotation in rotations]), axis=0)
    raw = np.column_stack([position, euler, 0.08 * opening]).astype(np.float32)
    return replace(
        episode,
        action=action,
        action_mask=action_mask,
        state=state,
        state_mask=state_mask,
        action_raw=action[:, :7].copy(),
        state_raw=raw,
    )


def _delayed(command: np.ndarray) -> np.ndarray:
    """What a controller makes of displacements [T, 3]: row t is the motion from state t-1 to state t, two thirds of the
    way at once, the rest in the steps after."""
    motion, left = np.zeros_like(command), np.zeros(command.shape[1])
    for step in range(1, len(command)):
        left = left + command[step - 1]
        motion[step] = 0.7 * left
        left = left - motion[step]
    return motion


def robot_episodes(count: int = EPISODES, **options) -> list[Episode]:
    return [robot_episode(seed, **options) for seed in range(count)]


def changed(episodes: list[Episode], plant) -> list[Episode]:
    """The episodes after `plant(action, state)` has written a fault into copies of each one's vectors."""
    planted = []
    for episode in episodes:
        action, state = episode.action.copy(), episode.state.copy()
        plant(action, state)
        planted.append(replace(episode, action=action, state=state))
    return planted


def judged(
    episodes: list[Episode], *, spec: DatasetSpec | None = None, step_keys=(), parts: int = 1
) -> dict[tuple[str, str], Finding]:
    """(audit, subject) -> finding, as the shard job comes to it; `parts`: kept apart in so many, then merged."""
    kept = [Audits() for _ in range(parts)]
    for number, episode in enumerate(episodes):
        kept[number % parts].update(episode, measure(episode, len(episodes)))
    merged = Audits()
    for part in kept:
        merged.merge(Audits.from_dict(part.to_dict()))
    declared = Declared(control_hz=episodes[0].control_hz, spec=spec, statistics=summaries(episodes))
    return {(finding.audit, finding.subject): finding for finding in merged.judge(declared, step_keys)}


def summaries(episodes: list[Episode]) -> dict[str, dict[str, dict[str, float]]]:
    """Statistics of the episodes as a manifest holds them."""
    first = episodes[0]
    masks = {"action": first.action_mask, "state": first.state_mask}
    names = {
        "action": [name for name, is_there in zip(ACTION_NAMES, first.action_mask, strict=True) if is_there],
        "state": [name for name, is_there in zip(STATE_NAMES, first.state_mask, strict=True) if is_there],
        "action_raw": [f"action_raw.{i}" for i in range(first.action_raw.shape[1])],
        "state_raw": [f"state_raw.{i}" for i in range(first.state_raw.shape[1])],
    }
    found = {}
    for vector, slots in names.items():
        statistics = VectorStatistics(slots)
        for episode in episodes:
            values = getattr(episode, vector)
            statistics.update(values[:, masks[vector]] if vector in masks else values)
        found[vector] = statistics.summary()
    return found
