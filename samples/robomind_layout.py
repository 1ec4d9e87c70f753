"""Writes small recordings as RoboMIND raw files (x-humanoid-robomind.github.io static/all_robot_h5_info.md):
h5_<embodiment>/<task>/success_episodes/<split>/<stamp>/data/trajectory.hdf5 and the two files of labels.

Images are JPEG of their own length: Franka's and UR's in true colours, the others' with channels exchanged. The labels
have the published dirt: a task twice in the table, blanks, a full stop, a zero-width character.
"""

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from samples.drawn import drawn_frames, smooth_joints
from samples.layout_command import layout_parser, write_layout

EXCHANGED = ("h5_agilex_3rgb", "h5_tienkung_gello_1rgb")
CAMERAS = {
    "h5_franka_3rgb": ("camera_left", "camera_right", "camera_top"),
    "h5_ur_1rgb": ("camera_top",),
    "h5_agilex_3rgb": ("camera_front", "camera_left_wrist", "camera_right_wrist"),
    "h5_tienkung_gello_1rgb": ("camera_top",),
}
JOINTS = {"h5_franka_3rgb": 8, "h5_ur_1rgb": 7, "h5_tienkung_gello_1rgb": 16}


def write_episode(
    root: Path,
    embodiment: str,
    task: str,
    *,
    split: str = "train",
    stamp: str = "1014_152855",
    steps: int = 6,
    seed: int = 0,
) -> str:
    """One trajectory.hdf5; gives its path below `root`. Deterministic."""
    import h5py
    import simplejpeg

    name = f"{embodiment}/{task}/success_episodes/{split}/{stamp}/data/trajectory.hdf5"
    (root / name).parent.mkdir(parents=True)
    with h5py.File(root / name, "w") as file:
        file.attrs["sim"], file.attrs["compress"] = False, True
        for side, late in (("puppet", 0), ("master", 1)):
            for key, values in _arms(embodiment, steps + 1, seed).items():
                file[f"{side}/{key}"] = values[late : late + steps]
        for view, camera in enumerate(CAMERAS[embodiment]):
            images = file.create_dataset(f"observations/rgb_images/{camera}", (steps,), h5py.vlen_dtype(np.uint8))
            for step, frame in enumerate(drawn_frames(steps, height=48, width=64, view=view)):
                order = "BGR" if embodiment in EXCHANGED else "RGB"
                images[step] = np.frombuffer(simplejpeg.encode_jpeg(frame, colorspace=order), np.uint8)
    return name


def _arms(embodiment: str, rows: int, seed: int) -> dict[str, np.ndarray]:
    if embodiment == "h5_agilex_3rgb":
        sides = enumerate(("left", "right"))
        return {f"joint_position_{side}": smooth_joints(rows, 7, seed=2 * seed + number) for number, side in sides}
    arrays = {"joint_position": smooth_joints(rows, JOINTS[embodiment], seed=2 * seed)}
    if embodiment in ("h5_franka_3rgb", "h5_ur_1rgb"):
        arrays["end_effector"] = smooth_joints(rows, 6, seed=2 * seed + 1)
    return arrays


def write_labels(root: Path, embodiment: str, sentences: dict[str, list[str]], summaries: dict[str, str]) -> None:
    """The table (task to sentences, one row each) and the descriptions (path of an episode's folder to summary)."""
    root.mkdir(parents=True, exist_ok=True)
    with open(root / "RoboMIND_v1_2_instr.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["", "task", "instruction"])
        rows = [(task, sentence) for task, found in sentences.items() for sentence in found]
        writer.writerows((number, task, sentence) for number, (task, sentence) in enumerate(rows))
    steps = [{"step_description": "", "start_frame": "camera_top_0000.jpg", "end_frame": "camera_top_0003.jpg"}]
    entries = [{"id": path, "response": {"task_summary": text, "steps": steps}} for path, text in summaries.items()]
    folder = root / "language_description_annotation_json"
    folder.mkdir(exist_ok=True)
    (folder / f"{embodiment}.json").write_text(json.dumps(entries, indent=1, ensure_ascii=False), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    parser = layout_parser(__doc__, episodes=6)
    parser.add_argument("--robot", choices=tuple(CAMERAS), default="h5_franka_3rgb")

    def write(options: argparse.Namespace) -> None:
        for number in range(options.episodes):
            stamp = f"1014_15{number:04d}"
            write_episode(options.out, options.robot, "10_packplate", stamp=stamp, steps=24, seed=number)
        place = f"{options.robot}/10_packplate/success_episodes/train/1014_150000/data"
        write_labels(
            options.out, options.robot, {"10_packplate": ["Pack the plate. "]}, {place: "Put the plate into the box"}
        )

    return write_layout(parser, argv, write)


if __name__ == "__main__":
    sys.exit(main())
