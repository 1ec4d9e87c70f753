"""Writes small demonstrations as the Adroit hand's files hold them (aravindr93/hand_dapg dapg/demonstrations): a pickle
an environment, a list with a dict an episode.

The motion is drawn, not simulated: arm and wrist creep to where their servos pull them, the fingers wave, the door
opens in the second half. Kept from the real files: commands beyond 1, rewards from after the action, a start state of
zeros.
"""

import pickle
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from samples.layout_command import layout_parser, write_layout

JOINTS = 28
"""ARTz, ARRx, ARRy, ARRz, WRJ1, WRJ0, then 22 of the fingers."""
REST_FACTOR = np.array([1.875, 1.875, 3.75, 0.3495, 0.7])
REST_OFFSET = np.array([0, 0, 1.25, -0.1745, -0.09])
"""Where the servos of ARRx to WRJ0 come to rest, in rad: factor x command + offset."""


def make_demo(steps: int, *, seed: int = 0) -> dict:
    """One episode of `steps` rows, with the keys and widths of door-v0."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 1, steps + 1)
    actions = np.sin(3 * time[:-1, None] + rng.uniform(0, 6, JOINTS)) * rng.uniform(0.1, 1.1, JOINTS)
    joints = np.zeros((steps + 1, JOINTS - 1))
    for step, command in enumerate(np.clip(actions, -1, 1)):
        rest = np.concatenate([REST_FACTOR * command[1:6] + REST_OFFSET, 0.5 + 0.5 * command[6:]])
        joints[step + 1] = joints[step] + 0.1 * (rest - joints[step])
    hinge = np.maximum(0, 2 * time - 1) * 1.2
    palm = np.column_stack([0.2 * time, -0.2 + 0.1 * time, np.full(steps + 1, 0.2)])
    handle = np.column_stack([0.1 + 0.3 * hinge, 0.1 - 0.3 * hinge, np.full(steps + 1, 0.3)])
    latch = np.minimum(1.8, 4 * time)
    is_open = np.where(hinge > 1, 1.0, -1.0)
    observations = np.column_stack([joints, latch, hinge, palm, handle, palm - handle, is_open])
    distance = np.linalg.norm(palm - handle, axis=1)
    rewards = -0.1 * distance - 0.1 * (hinge - 1.57) ** 2 + 2 * (hinge > 0.2) + 8 * (hinge > 1)
    start = {"qpos": np.zeros(JOINTS + 2), "qvel": np.zeros(JOINTS + 2), "door_body_pos": np.array([-0.2, 0.3, 0.3])}
    return {"actions": actions, "observations": observations[:-1], "rewards": rewards[1:], "init_state_dict": start}


def write_file(folder: Path, demos: Sequence[dict], *, environment: str = "door-v0") -> Path:
    """`<environment>_demos.pickle` in `folder`, which is made; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{environment}_demos.pickle"
    path.write_bytes(pickle.dumps(list(demos), protocol=3))
    return path


def main(argv: Sequence[str] | None = None) -> int:
    parser = layout_parser(__doc__, episodes=6)
    return write_layout(
        parser, argv, lambda options: write_file(options.out, [make_demo(80, seed=n) for n in range(options.episodes)])
    )


if __name__ == "__main__":
    sys.exit(main())
