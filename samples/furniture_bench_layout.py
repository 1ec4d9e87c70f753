"""Writes small FurnitureBench pickles as the lab's collector does: one observation more than actions, the rotation of
an action about the tool's own axes."""

import argparse
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from samples.drawn import drawn_frames, smooth_joints
from samples.layout_command import layout_parser, write_layout

IMAGE_PX = 224


def write_episode(
    path: Path, *, steps: int = 6, success: bool = True, furniture: str = "square_table", image_px: int = IMAGE_PX
) -> dict:
    """Writes one pickle and gives back what it holds. The tool turns about its own axes by each action's quaternion,
    exactly."""
    from scipy.spatial.transform import Rotation

    moved = np.tile([0.01, -0.005, 0.002], (steps, 1)) * np.linspace(0.5, 1, steps)[:, None]
    tilt = 0.1 * np.sin(np.arange(steps))
    turned = Rotation.from_rotvec(np.stack([tilt, np.full(steps, 0.05), np.zeros(steps)], axis=1))
    position, orientation = [np.array([0.5, 0.0, 0.2])], [Rotation.from_rotvec([3.0, 0.0, 0.4])]
    for step in range(steps):
        position.append(position[-1] + moved[step])
        orientation.append(orientation[-1] * turned[step])
    joints = smooth_joints(steps + 1, 7, seed=1)
    front = drawn_frames(steps + 1, height=image_px, width=image_px)
    wrist = drawn_frames(steps + 1, height=image_px, width=image_px, view=1)
    observations = [
        {
            "color_image1": wrist[t],
            "color_image2": front[t],
            "robot_state": {
                "ee_pos": position[t].astype(np.float32),
                "ee_quat": orientation[t].as_quat().astype(np.float32),
                "ee_pos_vel": np.zeros(3, np.float32),
                "ee_ori_vel": np.zeros(3, np.float32),
                "joint_positions": joints[t].astype(np.float32),
                "joint_velocities": np.zeros(7, np.float32),
                "joint_torques": np.zeros(7, np.float32),
                "gripper_width": np.array(0.08 * (1 - t / steps), np.float32),
            },
            "parts_poses": np.zeros(35, np.float32),
        }
        for t in range(steps + 1)
    ]
    gripper = np.where(np.arange(steps) < steps // 2, -1.0, 1.0)
    actions = np.concatenate([moved, turned.as_quat(), gripper[:, None]], axis=1).astype(np.float32)
    content = {
        "observations": observations,
        "actions": list(actions),
        "rewards": [0] * (steps - 1) + [1 if success else 0],
        "skills": [0] * steps,
        "success": success,
        "furniture": furniture,
        "error": False,
        "error_description": "",
        "cam2_to_base": np.eye(4),
        "cam2_intr": np.eye(3),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return content


def main(argv: Sequence[str] | None = None) -> int:
    parser = layout_parser(__doc__, episodes=6)

    def write(options: argparse.Namespace) -> None:
        for number in range(options.episodes):
            file = options.out / "low" / "square_table" / f"2022-12-03-01:{number:02d}:00.pkl"
            write_episode(file, steps=24 + number, success=number % 3 != 2, image_px=96)

    return write_layout(parser, argv, write)


if __name__ == "__main__":
    sys.exit(main())
