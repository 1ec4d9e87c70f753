"""Writes recordings as BridgeData V2 raw folders, as the lab's own recorder does (rail-berkeley/bridge_data_robot).

<set>/<environment>/<task>/<NN>/<date>/raw/traj_group0/traj<N>/
    images0/im_<t>.jpg  images1/im_<t>.jpg  obs_dict.pkl  policy_out.pkl  agent_data.pkl  lang.txt
"""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from samples.scene import FINGER_TRAVEL_M, Control, Recording, View

CONTROL = Control(hz=5, max_speed_m_s=0.25, first_step_still=True, steps_after_success=1)
VIEWS = {
    "images0": View(azimuth_deg=-40, elevation_deg=-35),
    "images1": View(azimuth_deg=-160, elevation_deg=-40, distance_m=0.9),
}
IMAGE_PX = 112
JPEG_QUALITY = 90

NEUTRAL_HAND = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
"""The hand's orientation that reads as roll = pitch = yaw = 0: fingers down (widowx_envs transformation_utils)."""


def write_session(folder: Path, *, task: str, date: str) -> None:
    """The two JSON files that stand beside `raw/` in a dated folder."""
    folder.mkdir(parents=True)
    metadata = {
        "date_time": f"_{date}",
        "robot": "Rethink Sawyer, simulated (Meta-World)",
        "environment": "tabletop",
        "task": task,
        "policy_desc": "scripted expert",
    }
    config = {"camera_topics": list(VIEWS), "move_duration": 1 / CONTROL.hz, "image_size": [IMAGE_PX, IMAGE_PX]}
    (folder / "collection_metadata.json").write_text(json.dumps(metadata, indent=1) + "\n")
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def write_episode(folder: Path, recording: Recording, *, cameras: Sequence[str], sentences: Sequence[str]) -> None:
    """One `traj<N>` folder. T observations, T-1 actions. No sentences: no lang.txt, as when never annotated."""
    import simplejpeg

    folder.mkdir(parents=True)
    for camera in cameras:
        (folder / camera).mkdir()
        for step, image in enumerate(recording.images[camera]):
            encoded = simplejpeg.encode_jpeg(image, quality=JPEG_QUALITY, colorsubsampling="420")
            (folder / camera / f"im_{step}.jpg").write_bytes(encoded)
    steps = len(recording.hand_position)
    agent = {"traj_ok": True, "camera_info": [], "depth_camera_info": [], "term_t": steps - 1}
    for name, content in (
        ("obs_dict", _observations(recording)),
        ("policy_out", _policy_out(recording)),
        ("agent_data", agent),
    ):
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(content, protocol=4))
    if sentences:
        (folder / "lang.txt").write_text("\n".join([*sentences, "confidence: 1"]) + "\n")


def _observations(recording: Recording) -> dict[str, object]:
    position, matrix = np.array(recording.hand_position), np.array(recording.hand_matrix)
    opening = np.array(recording.finger_opening).sum(1) / sum(FINGER_TRAVEL_M)
    transform = np.tile(np.eye(4), (len(position), 1, 1))
    transform[:, :3, :3], transform[:, :3, 3] = matrix, position
    state = np.column_stack([position, _roll_pitch_yaw(matrix), opening])
    told = np.column_stack([recording.target_position, np.zeros_like(position), [1.0, *recording.gripper_open]])
    steps = len(position)
    return {
        "qpos": np.array(recording.joint_position),
        "qvel": np.array(recording.joint_velocity),
        "full_state": state,
        "state": state,
        "desired_state": told,
        "eef_transform": transform,
        "time_stamp": [step / CONTROL.hz for step in range(steps)],
        "t_get_obs": [0.0] * steps,
        "env_done": [False] * steps,
        "task_stage": [0] * steps,
    }


def _policy_out(recording: Recording) -> list[dict[str, object]]:
    entries: list[dict[str, object]] = []
    for displacement, is_open, target in zip(
        recording.displacement, recording.gripper_open, recording.target_position[1:], strict=True
    ):
        moved, reached = np.eye(4), np.eye(4)
        moved[:3, 3], reached[:3, 3], reached[:3, :3] = displacement, target, NEUTRAL_HAND
        entries.append(
            {
                "actions": np.concatenate([displacement, np.zeros(3), [is_open]]),
                "new_robot_transform": reached,
                "delta_robot_transform": moved,
                "policy_type": "ScriptedPolicy",
            }
        )
    return entries


def _roll_pitch_yaw(matrix: np.ndarray) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(matrix @ NEUTRAL_HAND.T).as_euler("xyz")
