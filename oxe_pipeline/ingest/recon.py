"""Reads RECON's recordings of a Jackal outdoors: one HDF5 file each, images as JPEG bytes of their own length.

Every column of a row is of one moment, 0.25 s before the next row. Only the columns that specs name are read; laser,
thermal images, GPS, inertial and bumper readings are left, but that a collision was noticed is flagged.

Layout: robodhruv/visualnav-transformer train/process_recon.py; gkahn13/badgr names the columns.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from oxe_pipeline.episode import Frames, SourceEpisode
from oxe_pipeline.ingest.columns import number_table
from oxe_pipeline.ingest.hdf5_file import SUFFIXES, holds, opened, own_array, read_whole
from oxe_pipeline.ingest.hdf5_frames import frames_of
from oxe_pipeline.ingest.raw_folder import number_order

NUMBERS = {
    "jackal/position": 3,
    "jackal/yaw": 1,
    "commands/linear_velocity": 1,
    "commands/angular_velocity": 1,
}
"""Column to its width."""
CAMERAS = ("images/rgb_left", "images/rgb_right")
COLLISION = "collision/any"
COLLISION_FLAG = "collision"


def find_episodes(root: str | Path) -> Iterator[str]:
    """Paths of all .hdf5 files below `root`, relative to it, in order. None is opened."""
    root = Path(root)
    files = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.suffix in SUFFIXES]
    yield from sorted(files, key=number_order)


def read_episode(path: str, *, root: str | Path) -> SourceEpisode:
    """The recording in one file.

    steps: jackal/position float64 [T, 3] (m, odometry), jackal/yaw [T, 1] (rad), commands/linear_velocity and
    commands/angular_velocity [T, 1] (m/s, rad/s), images/rgb_left and, where the file has it, images/rgb_right, JPEGs.
    quality_flags: "collision" where one was noticed. No split, label or outcome. Raises DataError naming the column
    that is absent, damaged, of another shape, or beyond what is read.
    """
    with opened(root, path) as content:
        steps: dict[str, np.ndarray | list | Frames] = {}
        for name, width in NUMBERS.items():
            values = read_whole(own_array(content, name, path), path, name)
            steps[name] = number_table(values, width, episode=path, field=name)
        for camera in CAMERAS:
            if camera == CAMERAS[0] or holds(content, camera, path):
                steps[camera] = frames_of(own_array(content, camera, path), root=root, file=path, episode=path)
        bumped = holds(content, COLLISION, path)
        collided = bumped and read_whole(own_array(content, COLLISION, path), path, COLLISION).any()
    return SourceEpisode(
        key=path,
        source_path=path,
        steps=steps,
        split="",
        quality_flags=(COLLISION_FLAG,) if collided else (),
    )
