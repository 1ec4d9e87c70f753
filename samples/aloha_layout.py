"""Writes small recordings as ALOHA and Mobile ALOHA HDF5 files (tonyzhaozh/aloha aloha_scripts/record_episodes.py,
MarkFzp/mobile-aloha): `<task>/episode_<N>.hdf5`, left arm first, images bare or as padded JPEG.

The habits that a reader has to meet are kept: JPEG made from RGB pixels by an encoder that takes BGR, rows padded with
zeros to the longest image, `compress_len` in the recorder's order of cameras (not the file's), actions and observations
in one row although the observations are a step late, gripper values a little beyond 0..1. The followers reach in two
steps what the leaders say.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from samples.drawn import drawn_frames, smooth_joints
from samples.layout_command import layout_parser, write_layout

CAMERAS = ("cam_high", "cam_low", "cam_left_wrist", "cam_right_wrist")
MOBILE_CAMERAS = ("cam_high", "cam_left_wrist", "cam_right_wrist")
JPEG_QUALITY = 50
LATE = 3
"""Steps by which a row's joints are behind its action: two for the arms, one for the recorder."""


def write_episode(
    path: Path,
    *,
    steps: int = 12,
    seed: int = 0,
    compressed: bool = False,
    mobile: bool = False,
    sim: bool = False,
    height: int = 48,
    width: int = 64,
) -> None:
    """One `episode_<N>.hdf5` with all that the recorder writes. Deterministic."""
    import h5py

    cameras = ("top",) if sim else MOBILE_CAMERAS if mobile else CAMERAS
    joints = smooth_joints(steps + LATE, 14, seed=seed)
    joints[:, [6, 13]] = np.linspace(1.4, -0.5, steps + LATE)[:, None]
    told, reached = joints[LATE:], joints[:-LATE]
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs["sim"] = sim
        file["action"] = told.astype(np.float32)
        file["observations/qpos"] = reached.astype(np.float32)
        file["observations/qvel"] = np.gradient(reached, axis=0).astype(np.float32)
        if not sim:
            file["observations/effort"] = np.zeros((steps, 14), np.float32)
        if mobile:
            file["base_action"] = np.column_stack([np.linspace(0, 0.3, steps), np.linspace(-0.1, 0.1, steps)])
        lengths = []
        for view, camera in enumerate(cameras):
            frames = drawn_frames(steps, height=height, width=width, view=view)
            if compressed:
                rows, length = padded_jpeg(frames)
                lengths.append(length)
                file.create_dataset(f"observations/images/{camera}", data=rows, chunks=(1, rows.shape[1]))
            else:
                file.create_dataset(f"observations/images/{camera}", data=frames, chunks=(1, height, width, 3))
        if compressed:
            file.attrs["compress"] = True
            file["compress_len"] = np.array(lengths, np.float32)


def padded_jpeg(frames: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """(uint8 [T, longest] rows of JPEG and zeros, true lengths), channels exchanged as by cv2.imencode on RGB."""
    import simplejpeg

    images = [
        np.frombuffer(simplejpeg.encode_jpeg(frame, quality=JPEG_QUALITY, colorspace="BGR"), np.uint8)
        for frame in frames
    ]
    lengths = [len(image) for image in images]
    rows = np.zeros((len(images), max(lengths)), np.uint8)
    for row, image in zip(rows, images, strict=True):
        row[: len(image)] = image
    return rows, lengths


def main(argv: Sequence[str] | None = None) -> int:
    parser = layout_parser(__doc__, episodes=6)
    parser.add_argument("--layout", choices=("mobile_aloha", "aloha", "aloha_sim"), default="mobile_aloha")

    def write(options: argparse.Namespace) -> None:
        mobile, sim = options.layout == "mobile_aloha", options.layout == "aloha_sim"
        for number in range(options.episodes):
            file = options.out / "wipe_the_table" / f"episode_{number}.hdf5"
            write_episode(file, steps=24, seed=number, compressed=mobile, mobile=mobile, sim=sim)

    return write_layout(parser, argv, write)


if __name__ == "__main__":
    sys.exit(main())
