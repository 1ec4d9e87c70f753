"""Writes small demonstrations as ManiSkill 2 or 3 files: `trajectory.<obs mode>.<control mode>.h5` with groups
traj_<id>, and the .json beside it (haosulab/ManiSkill mani_skill/utils/wrappers/record.py, mani_skill2 likewise).

T actions and T+1 observations, gzip images of bare pixels, quaternions with w first, ids with holes. The hand does in
each step what the controller makes of the action: version 3's turns the other way round, version 2's moves along the
tool's own axes (mani_skill/agents/controllers/pd_ee_pose.py).
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from samples.drawn import drawn_frames, smooth_joints, smooth_poses
from samples.layout_command import layout_parser, write_layout

METRES_PER_UNIT = RADIANS_PER_UNIT = 0.1


def write_file(
    path: Path,
    *,
    version: int = 3,
    mode: str = "pd_ee_delta_pose",
    task: str = "PickCube-v1",
    ids: Sequence[int] = (0,),
    steps: int = 6,
    image_px: int = 16,
) -> None:
    """`path` (.h5) and the .json beside it; odd ids are failures. Deterministic."""
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    entries = []
    with h5py.File(path, "w") as file:
        for number in ids:
            _write_episode(file.create_group(f"traj_{number}"), version, mode, number, steps, image_px)
            outcome = {"success": number % 2 == 0}
            entry = {"episode_id": number, "episode_seed": 1000 + number, "control_mode": mode, "elapsed_steps": steps}
            entries.append(entry | (outcome if version == 3 else {"info": outcome}))
    environment = {"env_id": task, "max_episode_steps": 100, "env_kwargs": {"obs_mode": "rgb", "control_mode": mode}}
    said = {"env_info": environment, "commit_info": {}, "episodes": entries}
    path.with_suffix(".json").write_text(json.dumps(said, indent=1) + "\n")


def _write_episode(group, version: int, mode: str, number: int, steps: int, image_px: int) -> None:
    positions, quaternions = smooth_poses(steps + 1, seed=number)
    joints = smooth_joints(steps + 1, 7, seed=number)
    fingers = np.linspace(0.04, 0.0, steps + 1)
    qpos = np.column_stack([joints, fingers, fingers])
    success = np.zeros(steps, bool)
    success[-1] = number % 2 == 0
    told = _arm_actions(mode, version, positions, quaternions, joints)
    gripper = np.where(np.arange(steps) < steps // 2, 1, -1)
    group["actions"] = np.column_stack([told, gripper]).astype(np.float32)
    group["success"] = success
    group["obs/agent/qpos"] = qpos.astype(np.float32)
    group["obs/agent/qvel"] = np.zeros((steps + 1, 9), np.float32)
    group["obs/extra/tcp_pose"] = np.column_stack([positions, np.roll(quaternions, 1, axis=1)]).astype(np.float32)
    if version == 3:
        group["terminated"], group["truncated"] = success, np.zeros(steps, bool)
        group["env_states/actors/cube"] = np.zeros((steps + 1, 13), np.float32)
        group["env_states/articulations/panda"] = np.zeros((steps + 1, 31), np.float32)
    else:
        group["env_states"] = np.zeros((steps + 1, 44), np.float32)
    cameras, matrices = ("sensor_data", "sensor_param") if version == 3 else ("image", "camera_param")
    for view, camera in enumerate(("base_camera", "hand_camera")):
        frames = drawn_frames(steps + 1, height=image_px, width=image_px, view=view)
        group.create_dataset(f"obs/{cameras}/{camera}/rgb", data=frames, compression="gzip", compression_opts=5)
        depth = np.full((steps + 1, image_px, image_px, 1), 800, np.uint16)
        group.create_dataset(f"obs/{cameras}/{camera}/depth", data=depth, compression="gzip", compression_opts=5)
        group[f"obs/{matrices}/{camera}/extrinsic_cv"] = np.zeros((steps + 1, 4, 4), np.float32)


def _arm_actions(
    mode: str, version: int, positions: np.ndarray, quaternions: np.ndarray, joints: np.ndarray
) -> np.ndarray:
    """float64 [T, 6 or 7] that lead from each pose (quaternions with w last) to the next."""
    from scipy.spatial.transform import Rotation

    if mode == "pd_joint_pos":
        return joints[1:]
    if mode == "pd_joint_delta_pos":
        return np.diff(joints, axis=0) / RADIANS_PER_UNIT
    moved, turned = np.diff(positions, axis=0), Rotation.from_quat(quaternions)
    if version == 2:
        moved, turns = turned[:-1].inv().apply(moved), (turned[:-1].inv() * turned[1:]).as_rotvec()
    else:
        turns = -(turned[1:] * turned[:-1].inv()).as_euler("XYZ")
    return np.column_stack([moved / METRES_PER_UNIT, turns / RADIANS_PER_UNIT])


def main(argv: Sequence[str] | None = None) -> int:
    parser = layout_parser(__doc__, episodes=6)

    def write(options: argparse.Namespace) -> None:
        file = options.out / "PickCube-v1" / "motionplanning" / "trajectory.rgb.pd_ee_delta_pose.h5"
        write_file(file, ids=range(options.episodes), steps=24, image_px=64)

    return write_layout(parser, argv, write)


if __name__ == "__main__":
    sys.exit(main())
