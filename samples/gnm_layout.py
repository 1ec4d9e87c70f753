"""Writes small navigation recordings in two real layouts: image folders with traj_data.pkl, as GNM's scripts make them
(robodhruv/visualnav-transformer train/process_bags.py), and RECON's HDF5 files (train/process_recon.py reads them).

    python -m samples.gnm_layout --out FOLDER --layout gnm

The drive is drawn, not simulated: a robot on a winding way whose heading runs over +-pi. Kept from the real files:
image names without leading zeros, one image more than poses, a yaw that is one wide.
"""

import argparse
import pickle
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samples.layout_command import layout_parser, write_layout

SECONDS_PER_STEP = 0.25
JPEG_QUALITY = 90


@dataclass(frozen=True, kw_only=True)
class Drive:
    """T poses of a robot on the ground."""

    position: np.ndarray
    """[T, 2], metres."""
    yaw: np.ndarray
    """[T], rad, in (-pi, pi]."""


def make_drive(steps: int, *, seed: int = 0) -> Drive:
    """A drive at about 1 m/s whose heading passes pi."""
    rng = np.random.default_rng(seed)
    turn_rad_s = 0.6 + 0.3 * np.sin(np.arange(steps) * 0.4 + rng.uniform(0, 6))
    heading = 2.8 + np.cumsum(turn_rad_s) * SECONDS_PER_STEP
    speed = 1 + 0.3 * np.sin(np.arange(steps) * 0.3)
    moved = speed[:, None] * np.column_stack([np.cos(heading), np.sin(heading)]) * SECONDS_PER_STEP
    return Drive(position=np.cumsum(moved, axis=0), yaw=(heading + np.pi) % (2 * np.pi) - np.pi)


def write_folder(folder: Path, drive: Drive, *, images: int | None = None) -> None:
    """One recording as a folder of 160x120 images and traj_data.pkl; by default one image more than poses."""
    folder.mkdir(parents=True)
    steps = len(drive.yaw)
    for step in range(steps + 1 if images is None else images):
        (folder / f"{step}.jpg").write_bytes(_picture(drive, min(step, steps - 1), height=120, width=160))
    (folder / "traj_data.pkl").write_bytes(pickle.dumps({"position": drive.position, "yaw": drive.yaw}, protocol=4))


def write_recon(path: Path, drive: Drive, *, collided: bool = False) -> None:
    """One recording as a RECON file."""
    import h5py

    steps = len(drive.yaw)
    speed = np.linalg.norm(np.diff(drive.position, axis=0, append=drive.position[-1:]), axis=1) / SECONDS_PER_STEP
    with h5py.File(path, "w") as file:
        for camera, apart_px in (("rgb_left", 0), ("rgb_right", 6)):
            images = file.create_dataset(f"images/{camera}", (steps,), h5py.vlen_dtype(np.uint8))
            for step in range(steps):
                images[step] = np.frombuffer(_picture(drive, step, height=240, width=320, apart_px=apart_px), np.uint8)
        file["images/thermal"] = np.zeros((steps, 32, 32), np.float32)
        file["lidar"] = np.full((steps, 360), np.inf, np.float32)
        file["jackal/position"] = np.column_stack([drive.position, np.zeros(steps)])
        file["jackal/yaw"] = drive.yaw[:, None]
        file["jackal/linear_velocity"] = speed[:, None]
        file["commands/linear_velocity"] = speed[:, None]
        file["commands/angular_velocity"] = np.zeros((steps, 1))
        file["collision/any"] = np.arange(steps) == (2 if collided else -1)


def _picture(drive: Drive, step: int, *, height: int, width: int, apart_px: int = 0) -> bytes:
    """Grass below a horizon, and a pole that stands still in the world, so that it wanders as the robot turns. A camera
    further right has the pole `apart_px` further left."""
    import simplejpeg

    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    image = np.empty((height, width, 3), np.uint8)
    image[:] = (150, 190, 230)
    image[rows > height * 0.5 + 4 * np.sin(step)] = (70, 130, 60)
    pole = width * (0.5 + 0.4 * np.sin(drive.yaw[step])) - apart_px
    image[(abs(columns - pole) < 4) & (rows > height * 0.3)] = (120, 60, 30)
    return simplejpeg.encode_jpeg(image, quality=JPEG_QUALITY, colorsubsampling="420")


def main(argv: Sequence[str] | None = None) -> int:
    parser = layout_parser(__doc__, episodes=3)
    parser.add_argument("--layout", choices=("gnm", "recon"), default="gnm")

    def write(options: argparse.Namespace) -> None:
        options.out.mkdir(parents=True)
        for number in range(options.episodes):
            drive, name = make_drive(20 + number, seed=number), f"jackal_{number}"
            if options.layout == "gnm":
                write_folder(options.out / "drawn" / name, drive)
            else:
                write_recon(options.out / f"{name}.hdf5", drive, collided=number == 1)

    return write_layout(parser, argv, write)


if __name__ == "__main__":
    sys.exit(main())
