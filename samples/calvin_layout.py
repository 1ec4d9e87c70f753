"""Writes a small CALVIN data set in the layout of its renderer (mees/calvin_env calvin_env/datarenderer.py): one .npz a
frame, numbered through with gaps, index files beside them, and a pickled dictionary of language windows.

    python -m samples.calvin_layout --out FOLDER

The scene is drawn, not simulated: a hand that follows a smooth path over a table with a block. Four habits of the real
files are kept: the action of a frame is the pose of the next one, relative actions are cut off at 0.02 m and 0.05 rad,
the roll angle runs over +-pi, and windows overlap.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samples.layout_command import layout_parser, write_layout

STATIC_PX, GRIPPER_PX = 200, 84
WINDOW_STEPS, WINDOW_SPACING = 16, 12
"""Of the command's windows: each shares frames with the next."""
MAX_METRES, MAX_RADIANS = 0.02, 0.05
"""What a relative action of 1 means; more is cut off."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """A stretch of frames, `end` excluded, with what an annotator said."""

    start: int
    end: int
    sentence: str
    task: str


def write_split(
    folder: Path, runs: Sequence[tuple[int, int]], windows: Sequence[Window] = (), *, seed: int = 0
) -> None:
    """One split folder ("training" or "validation"). `runs`: first and last frame number of each recording."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for first, last in runs:
        poses = _path(last - first + 2, rng)
        for step, number in enumerate(range(first, last + 1)):
            write_frame(folder, number, poses[step], poses[step + 1])
    np.save(folder / "ep_start_end_ids.npy", np.array(runs))
    np.save(folder / "ep_lens.npy", np.array([last - first + 1 for first, last in runs]))
    if windows:
        write_windows(folder / "lang_annotations", windows)


def write_windows(folder: Path, windows: Sequence[Window]) -> None:
    """auto_lang_ann.npy, as calvin_agent's automatic annotator saves it."""
    folder.mkdir(exist_ok=True)
    content = {
        "language": {
            "ann": [window.sentence for window in windows],
            "task": [window.task for window in windows],
            "emb": np.zeros((len(windows), 1, 384), np.float32),
        },
        "info": {"episodes": [], "indx": [(window.start, window.end) for window in windows]},
    }
    np.save(folder / "auto_lang_ann.npy", content)  # type: ignore[arg-type]


def write_frame(folder: Path, number: int, pose: np.ndarray, next_pose: np.ndarray) -> None:
    """One frame. Poses: [7], metres, roll-pitch-yaw, gripper command -1 or +1."""
    robot_obs = np.zeros(15)
    robot_obs[:6], robot_obs[6], robot_obs[14] = pose[:6], 0.04 + 0.04 * pose[6], pose[6]
    robot_obs[7:14] = np.concatenate([pose[:6], pose[:1]]) - 1
    np.savez_compressed(
        folder / f"episode_{number:07d}.npz",
        actions=next_pose,
        rel_actions=_relative(next_pose, pose),
        robot_obs=robot_obs,
        scene_obs=np.zeros(24),
        rgb_static=_picture(STATIC_PX, pose, number),
        rgb_gripper=_picture(GRIPPER_PX, pose, -number),
        rgb_tactile=np.zeros((160, 120, 6), np.uint8),
        depth_static=np.full((STATIC_PX, STATIC_PX), 3.5, np.float32),
        depth_gripper=np.full((GRIPPER_PX, GRIPPER_PX), 0.2, np.float32),
        depth_tactile=np.zeros((160, 120, 2), np.float32),
    )


def _path(length: int, rng: np.random.Generator) -> np.ndarray:
    """[length, 7]: now and then faster than a relative action can say, with a roll that runs over pi."""
    phase = rng.uniform(0, 2 * np.pi, 6)
    t = np.arange(length)[:, None] / 30
    position = np.array([0.0, -0.1, 0.5]) + 0.15 * np.sin((1.0, 1.7, 2.9) * t + phase[:3])
    angles = np.array([np.pi, 0.0, 1.5]) + (0.3, 0.2, 0.5) * np.sin((2.0, 1.1, 0.7) * t + phase[3:])
    gripper = np.where(np.arange(length) // 10 % 2, -1.0, 1.0)
    return np.column_stack([position, _wrapped(angles), gripper])


def _relative(target: np.ndarray, pose: np.ndarray) -> np.ndarray:
    moved = np.clip(target[:3] - pose[:3], -MAX_METRES, MAX_METRES) / MAX_METRES
    turned = np.clip(_wrapped(target[3:6] - pose[3:6]), -MAX_RADIANS, MAX_RADIANS) / MAX_RADIANS
    return np.concatenate([moved, turned, target[6:]])


def _wrapped(angles: np.ndarray) -> np.ndarray:
    return (angles + np.pi) % (2 * np.pi) - np.pi


def _picture(side: int, pose: np.ndarray, number: int) -> np.ndarray:
    """A table, a block, and the hand where it is; a few pixels of the top row tell the frame's number."""
    rows, columns = np.mgrid[:side, :side] / side
    image = np.stack([170 + 40 * rows, 140 + 30 * columns, 110 + 20 * rows], axis=-1)
    image[(abs(rows - 0.7) < 0.06) & (abs(columns - 0.3) < 0.06)] = (60, 90, 220)
    reach = 0.05 if pose[6] < 0 else 0.08
    hand = np.hypot(rows - 0.5 - pose[1], columns - 0.5 - pose[0]) < reach
    image[hand] = (30, 30, 30)
    image[:8, :8] = number % 256
    return image.astype(np.uint8)


def write_sample(folder: Path, windows: int) -> None:
    """training with so many windows, validation with one."""
    tasks = ("lift_blue_block_table", "push_blue_block_left", "turn_on_led")
    starts = [60 + WINDOW_SPACING * number for number in range(windows)]
    said = [
        Window(start=start, end=start + WINDOW_STEPS, sentence=task.replace("_", " "), task=task)
        for start, task in zip(starts, tasks * windows, strict=False)
    ]
    write_split(folder / "training", [(60, said[-1].end), (900, 920)], said)
    write_split(folder / "validation", [(0, WINDOW_STEPS)], [Window(start=0, end=12, sentence="lift it", task="lift")])


def main(argv: Sequence[str] | None = None) -> int:
    parser = layout_parser(__doc__, episodes=3)
    return write_layout(parser, argv, lambda options: write_sample(options.out, options.episodes))


if __name__ == "__main__":
    sys.exit(main())
