"""Writes a small RoboTurk file with its videos, in the layout of the lab's aligned real-robot data
(RoboTurk-Platform/roboturk_real_dataset scripts/parse_aligned_hdf5.py). The arm swings, the scene is drawn.

    python -m samples.roboturk_layout --out FOLDER

Kept from the real files: user_control may be empty, a video may be shorter than its demo, or missing.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from samples.drawn import drawn_frames, smooth_joints
from samples.layout_command import layout_parser, write_layout
from samples.video_file import write_video

RATE_HZ = 10
HEIGHT_PX, WIDTH_PX = 96, 128
VIDEOS = {"front_rgb_video_file": "front_rgb", "top_rgb_video_file": "top_rgb", "top_depth_video_file": "top_depth"}


def write_demo(
    file: Path, user: str, demo: str, *, steps: int, video_images: Mapping[str, int] | None = None, seed: int = 0
) -> None:
    """Adds /data/<user>/<demo> to the HDF5 file. `video_images`: number of images of "front_rgb" and "top_rgb" where
    it is not `steps`; 0 for a file that is named but missing."""
    import h5py
    from scipy.spatial.transform import Rotation

    joints = smooth_joints(steps, 9, seed=seed)
    position = np.array([0.6, 0.0, 0.2]) + 0.2 * joints[:, :3]
    turned = Rotation.from_euler("xyz", np.array([np.pi, 0, 0]) + joints[:, 3:6])
    with h5py.File(file, "a") as content:
        group = content.create_group(f"data/{user}/{demo}")
        observed = group.create_group("robot_observation")
        observed["eef_poses"] = np.column_stack([position, turned.as_quat()]).astype(np.float32)
        observed["joint_states_arm"] = np.stack([joints, 0 * joints, 0 * joints], axis=2).reshape(steps, 27)
        observed["joint_states_gripper"] = np.column_stack([np.full(steps, 0.02), np.zeros((steps, 2))])
        group.create_group("user_control")["user_control"] = np.zeros((0, 22))
        for attribute, camera in VIDEOS.items():
            name = f"{file.name.partition('_')[0]}_videos/{user}_{demo}_{camera}.mp4"
            group.attrs[attribute] = name
            images = (video_images or {}).get(camera, steps)
            if camera != "top_depth" and images:
                frames = drawn_frames(images, height=HEIGHT_PX, width=WIDTH_PX, view=camera == "top_rgb")
                write_video(file.parent / name, frames, rate_hz=RATE_HZ, codec="mpeg4")


def write_sample(folder: Path, demos: int) -> None:
    """One file of so many demos; the second one's top video ends early."""
    folder.mkdir(parents=True)
    for number in range(demos):
        images = {"top_rgb": 12} if number == 1 else None
        file = folder / "SawyerTowerCreation_aligned_dataset.hdf5"
        write_demo(file, "user_1", f"demo_{number}", steps=15, video_images=images, seed=number)


def main(argv: Sequence[str] | None = None) -> int:
    parser = layout_parser(__doc__, episodes=3)
    return write_layout(parser, argv, lambda options: write_sample(options.out, options.episodes))


if __name__ == "__main__":
    sys.exit(main())
