"""Reads an episode of CALVIN: consecutive frames, each an .npz of its own with images, state and action.

Aligned as it lies: the action of a frame is the pose that the robot reached in the next one (recorded state, not a
command, but for the gripper), so observation t, action t, observation t+1. What is not read: depth, tactile images, and
scene_obs, the simulator's own knowledge of every object.

Layout: mees/calvin_env calvin_env/datarenderer.py. TACO Play's raw recordings have the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from oxe_pipeline.episode import DataError, Frames, SourceEpisode
from oxe_pipeline.ingest.calvin_index import Segment
from oxe_pipeline.ingest.npz_file import read_npz

WIDTHS = {"robot_obs": 15, "actions": 7, "rel_actions": 7}
CAMERAS = ("rgb_static", "rgb_gripper")
HELD_BYTES = 32 << 20
"""Pixels of an episode up to this many bytes are read together with the numbers, in one pass over the files; those of
longer ones are read again, one image at a time."""


def read_episode(segment: Segment, *, root: str | Path) -> SourceEpisode:
    """The frames of one segment.

    steps: robot_obs float64 [T, 15], actions and rel_actions float64 [T, 7], rgb_static and rgb_gripper
    uint8 [T, H, W, 3], is_terminal [T] (a window ends when its task is done, a piece of play does not). metadata:
    language_annotation and task, lists as annotated; success, True for a window, whose task an oracle saw done.
    split: "training" or "validation". Raises DataError naming the frame's file: absent, damaged, or of another shape
    than the frame before; and with the segment's own fault.
    """
    root, key = Path(root), str(segment)
    if segment.fault:
        raise DataError(segment.fault, episode=key, field="info/indx")
    files = [f"{segment.folder}/episode_{number:07d}.npz".strip("/") for number in range(segment.first, segment.stop)]
    _require_all(root, files, key)
    first = read_npz(root, files[0], (*WIDTHS, *CAMERAS), key)
    for name, width in WIDTHS.items():
        if first[name].shape != (width,) or first[name].dtype.kind not in "fiu":
            reason = f"{name} must be [{width}] numbers, is {first[name].dtype} {list(first[name].shape)}"
            raise DataError(reason, episode=key, field=files[0].rpartition("/")[2])
    held = sum(first[camera].nbytes for camera in CAMERAS) * len(files) <= HELD_BYTES
    steps: dict[str, np.ndarray | list | Frames] = {}
    steps |= _stacked(root, files, first if held else {name: first[name] for name in WIDTHS}, key)
    steps |= {name: np.asarray(steps[name], np.float64) for name in WIDTHS}
    if not held:
        steps |= {camera: NpzFrames(root=root, files=tuple(files), array=camera, episode=key) for camera in CAMERAS}
    steps["is_terminal"] = np.arange(1, len(files) + 1) == (len(files) if segment.is_window else 0)
    return SourceEpisode(
        key=key,
        source_path=key,
        steps=steps,
        metadata={
            "language_annotation": list(segment.labels),
            "task": list(segment.tasks),
            "success": segment.is_window,
        },
        split=segment.split,
        quality_flags=segment.flags,
    )


@dataclass(frozen=True, kw_only=True)
class NpzFrames(Frames):
    """One image array out of each of several .npz files, one file open at a time."""

    root: Path
    files: tuple[str, ...]
    array: str
    episode: str

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[np.ndarray]:
        for file in self.files:
            yield read_npz(self.root, file, (self.array,), self.episode)[self.array]

    def identity(self) -> bytes:
        """A hash of all pixels: how the files are compressed does not count."""
        digest = xxhash.xxh3_128()
        for image in self:
            digest.update(f"{image.dtype.str}{image.shape}".encode())
            digest.update(image.tobytes())
        return digest.digest()


def _require_all(root: Path, files: list[str], key: str) -> None:
    absent = [file for file in files if not (root / file).is_file()]
    if absent:
        reason = f"{len(absent)} of {len(files)} frame files are missing, the first is this; copy the data set again"
        raise DataError(reason, episode=key, field=absent[0].rpartition("/")[2])


def _stacked(root: Path, files: list[str], first: dict[str, np.ndarray], key: str) -> dict[str, np.ndarray]:
    """name -> [T, ...] over all files, for the arrays of the `first` one."""
    columns = {name: np.empty((len(files), *value.shape), value.dtype) for name, value in first.items()}
    for step, file in enumerate(files):
        for name, value in read_npz(root, file, first, key).items():
            shape, dtype = first[name].shape, first[name].dtype
            if value.shape != shape or value.dtype != dtype:
                reason = f"{name} is {value.dtype} {list(value.shape)}, in the first frame {dtype} {list(shape)}"
                raise DataError(reason, episode=key, field=file.rpartition("/")[2])
            columns[name][step] = value
    return columns
