"""Writes small demonstrations as ManiSkill 2 or 3 files: `trajectory.<obs mode>.<control mode>.h5` with groups
traj_<id>, and the .json beside it (haosulab/ManiSkill mani_skill/utils/wrappers/record.py, mani_skill2 likewise).

T actions and T+1 observations, gzip images of bare pixels, quaternions with w first, ids with holes.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from samples.drawn import drawn_frames, smooth_joints

WIDTHS = {"pd_joint_pos": 8, "pd_joint_delta_pos": 8, "pd_ee_delta_pose": 7}


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
            _write_episode(file.create_group(f"traj_{number}"), version, WIDTHS[mode], number, steps, image_px)
            outcome = {"success": number % 2 == 0}
            entry = {"episode_id": number, "episode_seed": 1000 + number, "control_mode": mode, "elapsed_steps": steps}
            entries.append(entry | (outcome if version == 3 else {"info": outcome}))
    environment = {"env_id": task, "max_episode_steps": 100, "env_kwargs": {"obs_mode": "rgb", "control_mode": mode}}
    said = {"env_info": environment, "commit_info": {}, "episodes": entries}
    path.with_suffix(".json").write_text(json.dumps(said, indent=1) + "\n")


def _write_episode(group, version: int, width: int, number: int, steps: int, image_px: int) -> None:
    rng = np.random.default_rng(number)
    quaternions = rng.normal(size=(steps + 1, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    qpos = np.column_stack([smooth_joints(steps + 1, 7, seed=number), np.full((steps + 1, 2), 0.03)])
    success = np.zeros(steps, bool)
    success[-1] = number % 2 == 0
    group["actions"] = rng.uniform(-0.5, 0.5, (steps, width)).astype(np.float32)
    group["success"] = success
    group["obs/agent/qpos"] = qpos.astype(np.float32)
    group["obs/agent/qvel"] = np.zeros((steps + 1, 9), np.float32)
    group["obs/extra/tcp_pose"] = np.column_stack([rng.normal(size=(steps + 1, 3)), quaternions]).astype(np.float32)
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
