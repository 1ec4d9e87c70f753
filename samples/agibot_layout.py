"""Writes small recordings as AgiBot World raw files: proprio_stats.h5, MP4 videos, task_info (README of the data set).

Kept habits: commands only for some rows, with their index; arrays of effort and force that are empty; the gripper's
state in another unit than its command; sub-tasks by rows.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from samples.drawn import drawn_frames, smooth_joints, smooth_poses
from samples.layout_command import layout_parser, write_layout
from samples.video_file import write_video

CAMERAS = ("head_color", "hand_left_color", "hand_right_color")
TASK_NAME = "Pack the bag at the counter"
SUB_TASKS = ("Pick up the bag with the left arm", "Put the bag into the box")


def write_episode(
    root: Path, *, task: int = 327, episode: int = 648642, steps: int = 10, fingers: bool = False
) -> None:
    """One episode with all its files, and its entry in task_info. Deterministic."""
    import h5py

    path = root / "proprio_stats" / str(task) / str(episode) / "proprio_stats.h5"
    path.parent.mkdir(parents=True)
    hands = [smooth_poses(steps, seed=2 * episode + side) for side in range(2)]
    joints = smooth_joints(steps + 1, 14, seed=episode)
    commanded = np.arange(2, steps - 1)
    with h5py.File(path, "w") as file:
        file["timestamp"] = np.arange(steps) * 33_333_333
        file["state/joint/position"], file["state/joint/effort"] = joints[:-1], np.zeros(0)
        file["state/effector/position"] = np.tile([35.0, 120.0], (steps, 1))
        file["state/effector/force"] = np.zeros(0)
        file["state/end/position"] = np.stack([positions for positions, _ in hands], axis=1)
        file["state/end/orientation"] = np.stack([quaternions for _, quaternions in hands], axis=1)
        file["state/head/position"] = np.zeros((steps, 2))
        file["action/joint/position"], file["action/joint/index"] = joints[1:][commanded] + 0.01, commanded
        file["action/effector/position"] = np.zeros((steps, 12)) if fingers else np.linspace((0, 1), (1, 0), steps)
        file["action/effector/index"] = np.arange(steps)
        file["action/head/position"], file["action/head/index"] = np.zeros((3, 2)), np.arange(3)
        file["action/robot/velocity"], file["action/robot/index"] = np.zeros((0, 2)), np.zeros(0, np.int64)
    for view, camera in enumerate(CAMERAS):
        video = root / "observations" / str(task) / str(episode) / "videos" / f"{camera}.mp4"
        write_video(video, drawn_frames(steps, height=48, width=64, view=view), rate_hz=30, codec="libx264")
    middle = steps // 2
    rows = ((0, middle), (middle, steps))
    spans = [
        {"start_frame": first, "end_frame": stop, "action_text": text, "skill": text.split()[0]}
        for (first, stop), text in zip(rows, SUB_TASKS, strict=True)
    ]
    entry = {
        "episode_id": episode,
        "task_id": task,
        "task_name": TASK_NAME,
        "init_scene_text": "A bag lies on the counter.",
        "label_info": {"action_config": spans},
    }
    listed = root / "task_info" / f"task_{task}.json"
    listed.parent.mkdir(exist_ok=True)
    entries = json.loads(listed.read_text()) if listed.is_file() else []
    listed.write_text(json.dumps([*entries, entry], indent=1) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    parser = layout_parser(__doc__, episodes=6)

    def write(options: argparse.Namespace) -> None:
        for number in range(options.episodes):
            write_episode(options.out, episode=648642 + number, steps=24)

    return write_layout(parser, argv, write)


if __name__ == "__main__":
    sys.exit(main())
