"""Writes small demonstrations as robomimic image files (robomimic docs/datasets/overview.md): observations before their
actions, images upright, quaternions with w last, rewards that tell the outcome, masks for the split. The hand does in
each step what the action says."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from samples.drawn import drawn_frames, smooth_joints, smooth_poses
from samples.layout_command import layout_parser, write_layout

CAMERAS = ("agentview_image", "robot0_eye_in_hand_image")
METRES_PER_UNIT, RADIANS_PER_UNIT = 0.05, 0.5


def write_file(
    path: Path, *, task: str = "PickPlaceCan", demos: Sequence[int] = (0, 1), steps: int = 6, image_px: int = 24
) -> None:
    """One `image.hdf5`; odd demos fail and are the mask "valid". Deterministic."""
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": task, "type": 1, "env_kwargs": {"control_freq": 20}})
        data.attrs["total"] = steps * len(demos)
        for number in demos:
            _write_demo(data.create_group(f"demo_{number}"), number, steps, image_px)
        for mask, rest in (("train", 0), ("valid", 1)):
            file[f"mask/{mask}"] = np.array([f"demo_{number}".encode() for number in demos if number % 2 == rest])


def _write_demo(group, number: int, steps: int, image_px: int) -> None:
    from scipy.spatial.transform import Rotation

    positions, quaternions = smooth_poses(steps + 1, seed=number)
    turned = Rotation.from_quat(quaternions)
    seen = {
        "robot0_eef_pos": positions,
        "robot0_eef_quat": quaternions,
        "robot0_gripper_qpos": np.linspace((0.04, -0.04), (0.01, -0.01), steps + 1),
        "robot0_joint_pos": smooth_joints(steps + 1, 7, seed=number),
    }
    for view, camera in enumerate(CAMERAS):
        seen[camera] = drawn_frames(steps + 1, height=image_px, width=image_px, view=view)
    actions = np.column_stack(
        [
            np.diff(positions, axis=0) / METRES_PER_UNIT,
            (turned[1:] * turned[:-1].inv()).as_rotvec() / RADIANS_PER_UNIT,
            np.where(np.arange(steps) < steps // 2, -1, 1),
        ]
    )
    outcome = np.zeros(steps)
    outcome[-1] = number % 2 == 0
    group.attrs["num_samples"] = steps
    group["actions"], group["rewards"], group["dones"] = actions, outcome, np.ones(steps, np.int64)
    group["states"] = np.zeros((steps, 45))
    for key, values in seen.items():
        group[f"obs/{key}"], group[f"next_obs/{key}"] = values[:-1], values[1:]


def main(argv: Sequence[str] | None = None) -> int:
    parser = layout_parser(__doc__, episodes=6)

    def write(options: argparse.Namespace) -> None:
        write_file(options.out / "can" / "image.hdf5", demos=range(options.episodes), steps=24, image_px=64)

    return write_layout(parser, argv, write)


if __name__ == "__main__":
    sys.exit(main())
