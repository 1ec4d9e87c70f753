"""Reads RoboMIND: h5_<embodiment>/<task>/success_episodes/{train,val}/<stamp>/data/trajectory.hdf5, with labels in
files of their own.

Flat keys are the paths in the file: puppet/joint_position (what the robot did), master/joint_position (what it was
told), observations/rgb_images/<camera>. Images are JPEG or PNG of their own length; some cameras stored bare pixels in
their place, known by their size alone. Depth is not read.

Layout: x-humanoid-robomind.github.io static/all_robot_h5_info.md; any4lerobot robomind2lerobot.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from oxe_pipeline.episode import Frames, SourceEpisode
from oxe_pipeline.ingest.hdf5_file import opened, own_group
from oxe_pipeline.ingest.hdf5_frames import HDF5Frames, columns
from oxe_pipeline.ingest.raw_folder import number_order
from oxe_pipeline.ingest.robomind_labels import LabelFiles, labels_of
from oxe_pipeline.quality.image_headers import is_jpeg, is_png

FILE = "trajectory.hdf5"
BARE_SHAPES: Mapping[int, tuple[int, int, int]] = {720 * 1280 * 3: (720, 1280, 3), 480 * 640 * 3: (480, 640, 3)}
"""Bytes of an image that was never encoded, to its shape."""

_GROUPS = ("puppet", "master", "observations/rgb_images")


@dataclass(frozen=True)
class EncodedOrBare(Frames):
    """Images of which some may be bare pixels.

    Bare pixels are the arrays that OpenCV's decoder would have given; their channels are exchanged here, so that they
    agree with what every other decoder makes of the encoded ones, and one colour order in the spec holds for both.
    """

    stored: HDF5Frames

    def __len__(self) -> int:
        return len(self.stored)

    def __iter__(self) -> Iterator[np.ndarray | bytes]:
        for image in self.stored:
            shape = BARE_SHAPES.get(len(image))
            if isinstance(image, bytes) and shape and not (is_jpeg(image) or is_png(image)):
                yield np.frombuffer(image, np.uint8).reshape(shape)[..., ::-1]
            else:
                yield image

    def identity(self) -> bytes:
        return self.stored.identity()


def find_episodes(root: str | Path, embodiments: frozenset[str]) -> list[str]:
    """Keys (paths of trajectory.hdf5 below `root`) of all episodes of these embodiments, folders by name, numbers as
    numbers. `root` may be any folder down to the embodiment's own. Opens nothing."""
    root = Path(root)
    files = (path.relative_to(root).as_posix() for path in root.rglob(FILE))
    return sorted((file for file in files if _place(file, root, embodiments)), key=number_order)


def read_episode(key: str, *, root: str | Path, embodiments: frozenset[str], labels: LabelFiles) -> SourceEpisode:
    """One episode, by a key of `find_episodes`.

    steps: all arrays below puppet and master [T, ...] and the cameras below observations/rgb_images as Frames.
    metadata: embodiment, task, instruction and task_summary (lists of sentences, often empty), success (whether it lies
    below success_episodes). split: the folder train or val. Raises DataError naming file and array when it is damaged,
    beyond the limits, or without one of the groups.
    """
    parts = _place(key, Path(root), embodiments) or (key,)
    task = parts[1] if len(parts) > 1 else ""
    recording = "/".join(parts[:-1])
    instructions, summaries = labels_of(task, recording, labels, root=root)
    steps: dict[str, np.ndarray | list | Frames] = {}
    with opened(root, key) as content:
        for name in _GROUPS:
            for column, values in columns(own_group(content, name, key), key, name, root=root, file=key):
                steps[column] = EncodedOrBare(values) if isinstance(values, HDF5Frames) else values
    return SourceEpisode(
        key=key,
        source_path=key,
        steps=steps,
        metadata={
            "embodiment": parts[0],
            "task": task,
            "instruction": instructions,
            "task_summary": summaries,
            "success": "success_episodes" in parts,
        },
        split=next((part for part in parts if part in ("train", "val", "test")), ""),
    )


def _place(file: str, root: Path, embodiments: frozenset[str]) -> tuple[str, ...]:
    """(embodiment, task, ..., file name), also where the embodiment's folder is `root` or above it; () for another."""
    parts = (*root.resolve().parts, *PurePosixPath(file).parts)
    places = [index for index, part in enumerate(parts) if part in embodiments]
    return parts[places[-1] :] if places else ()
