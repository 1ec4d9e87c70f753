"""Reads RoboNet's raw files: one HDF5 an episode, each camera a video inside it, as MP4 bytes or as single JPEGs.

Two things differ from file to file and are brought together here, because no spec can tell files apart: the channel
order of the images, and the gripper, which many robots' actions lack. What is not read: bounding boxes, tactile
sensors.

Layout: SudeepDasari/RoboNet robonet/datasets/util/hdf5_loader.py, metadata_helper.py.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import xxhash

from oxe_pipeline.episode import DataError, Frames, SourceEpisode
from oxe_pipeline.ingest.hdf5_file import SUFFIXES, opened, own_array, own_group, read_whole, reading, text_attribute
from oxe_pipeline.ingest.images import decode
from oxe_pipeline.ingest.raw_folder import number_order
from oxe_pipeline.ingest.video import VideoFrames

MAX_CAMERAS = 8
POSE_WIDTH = 4
"""x, y, z and the turn about the vertical, in state and action alike; what follows differs from robot to robot."""
MIN_STATE_WIDTH = 5

_SAID = ("robot", "gripper", "primitives", "camera_configuration", "bin_type", "object_classes")


@dataclass(frozen=True, kw_only=True)
class MP4Frames(Frames):
    """The images of an MP4 file that lies inside an HDF5 file. The decoder wants a file, so each pass writes it to a
    temporary one."""

    root: Path
    file: str
    array: str
    length: int
    swapped: bool
    """Whether the file was written with red and blue exchanged."""

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[np.ndarray]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "frames.mp4"
            path.write_bytes(self._content())
            for image in VideoFrames(path, stop=self.length, episode=self.file, field=self.array):
                yield image[..., ::-1] if self.swapped else image

    def identity(self) -> bytes:
        """Hash of the MP4 file and of what is taken of it."""
        return xxhash.xxh3_128(self._content() + bytes([self.swapped]) + self.length.to_bytes(8, "little")).digest()

    def _content(self) -> bytes:
        with opened(self.root, self.file) as content:
            return _bytes_of(own_array(content, self.array, self.file), self.file, self.array)


@dataclass(frozen=True, kw_only=True)
class SwappedFrames(Frames):
    """JPEGs that were written with red and blue exchanged, as pixels put right."""

    encoded: list[bytes]

    def __len__(self) -> int:
        return len(self.encoded)

    def __iter__(self) -> Iterator[np.ndarray]:
        for image in self.encoded:
            yield decode(image)[..., ::-1]

    def identity(self) -> bytes:
        digest = xxhash.xxh3_128(b"swapped")
        for image in self.encoded:
            digest.update(len(image).to_bytes(8, "little"))
            digest.update(image)
        return digest.digest()


def find_episodes(root: str | Path) -> list[str]:
    """Paths of all .hdf5 and .h5 files below `root`, in order (numbers as numbers). Nothing is opened."""
    root = Path(root)
    paths = (path for path in root.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    return sorted((path.relative_to(root).as_posix() for path in paths), key=number_order)


def read_episode(path: str, *, root: str | Path) -> SourceEpisode:
    """The episode in one file: T steps, each a state and the action that followed it; T is one less than the shortest
    of states, images and actions + 1, as in the lab's own loader.

    steps: state float64 [T, 4] (position and turn) and state_full [T, S] as stored; action [T, 4] and action_full
    [T, A] as stored; gripper [T, 1], +1 where the last number of the *next* state is above the middle of its bounds,
    else -1 (the lab's rule for robots that grasp by themselves, used for all, because the stored command's scale
    differs); cam<k> for each camera. metadata: file_name; robot, gripper, primitives, ... as far as said.
    Raises DataError naming file and array: damaged, missing, of a width or length that does not fit.
    """
    root = Path(root)
    with opened(root, path) as content:
        env = own_group(content, "env", path)
        states = _matrix(env, "state", path)
        actions = _matrix(own_group(content, "policy", path), "actions", path)
        if states.shape[1] < MIN_STATE_WIDTH or actions.shape[1] < POSE_WIDTH:
            reason = f"{states.shape[1]} wide with actions {actions.shape[1]} wide; at least {MIN_STATE_WIDTH} and 4"
            raise DataError(reason, episode=path, field="env/state")
        cameras = _cameras(root, path, env)
        length = min(len(states), *map(len, cameras.values()), len(actions) + 1) - 1
        if length < 1:
            raise DataError("no action stands between two states with images", episode=path, field="policy/actions")
        gripper = _gripper(env, states[1 : length + 1, -1], path)
        metadata: dict[str, object] = {"file_name": PurePosixPath(path).name, **_said(content, path)}
    steps: dict[str, np.ndarray | list | Frames] = {
        "state": states[:length, :POSE_WIDTH],
        "state_full": states[:length],
        "action": actions[:length, :POSE_WIDTH],
        "action_full": actions[:length],
        "gripper": gripper,
    }
    steps |= {name: _first(frames, length) for name, frames in cameras.items()}
    return SourceEpisode(key=path, source_path=path, steps=steps, metadata=metadata, split="")


def _matrix(group, name: str, path: str) -> np.ndarray:
    values = read_whole(own_array(group, name, path), path, name)
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        reason = f"must be numbers [steps, values], is {values.dtype} {list(values.shape)}"
        raise DataError(reason, episode=path, field=name)
    return values.astype(np.float64)


def _gripper(env, following: np.ndarray, path: str) -> np.ndarray:
    """float64 [T, 1]: +1 or -1 by the gripper's state after each action."""
    low, high = (read_whole(own_array(env, name, path), path, name).reshape(-1) for name in ("low_bound", "high_bound"))
    if not len(low) or not len(high):
        raise DataError("says no bounds of the gripper", episode=path, field="env/low_bound")
    middle = (float(low[-1]) + float(high[-1])) / 2
    return np.where(following > middle, 1.0, -1.0)[:, None]


def _cameras(root: Path, path: str, env) -> dict[str, MP4Frames | SwappedFrames | list[bytes]]:
    count = _number(env, "n_cams", path)
    if not 1 <= count <= MAX_CAMERAS:
        raise DataError(f"{count} cameras; 1 to {MAX_CAMERAS} are sane", episode=path, field="n_cams")
    encoding = text_attribute(env, "cam_encoding", path)
    if encoding not in ("mp4", "jpg"):
        raise DataError(f"is {encoding!r}; mp4 and jpg are read", episode=path, field="cam_encoding")
    read = _mp4 if encoding == "mp4" else _jpegs
    return {f"cam{number}": read(root, path, env, f"cam{number}_video") for number in range(count)}


def _mp4(root: Path, path: str, env, camera: str) -> MP4Frames:
    array = own_array(env, f"{camera}/frames", path)
    # A film player gives RGB, so a file that calls its content BGR was written from swapped images.
    swapped = _image_format(array, path) == "BGR"
    length = _number(array, "T", path)
    if not 0 <= length <= 100_000:
        raise DataError(f"{length} images in one episode are not sane", episode=path, field=f"env/{camera}/frames")
    return MP4Frames(root=root, file=path, array=f"env/{camera}/frames", length=length, swapped=swapped)


def _jpegs(root: Path, path: str, env, camera: str) -> SwappedFrames | list[bytes]:
    group = own_group(env, camera, path)
    with reading(path, camera):
        count = len(group)
    arrays = [own_array(group, f"frame{number}", path) for number in range(count)]
    encoded = [_bytes_of(array, path, f"{camera}/frame{number}") for number, array in enumerate(arrays)]
    # The encoder took every image for BGR: a file that calls its content RGB holds swapped JPEGs.
    swapped = bool(arrays) and _image_format(arrays[0], path) == "RGB"
    return SwappedFrames(encoded=encoded) if swapped else encoded


def _bytes_of(array, path: str, field: str) -> bytes:
    values = read_whole(array, path, field)
    if values.dtype != np.uint8:
        raise DataError(f"must be bytes, is {values.dtype}", episode=path, field=field)
    return values.tobytes()


def _image_format(array, path: str) -> str:
    said = text_attribute(array, "image_format", path)
    if said not in ("RGB", "BGR"):
        raise DataError(f"is {said!r}; RGB and BGR are known", episode=path, field="image_format")
    return said


def _number(holder, name: str, path: str) -> int:
    with reading(path, f"attribute {name}"):
        value: Any = holder.attrs.get(name, 0)
        return int(value)


def _first(frames: MP4Frames | SwappedFrames | list[bytes], length: int) -> Frames | list[bytes]:
    """The first `length` images of a camera."""
    if isinstance(frames, MP4Frames):
        return replace(frames, length=length)
    if isinstance(frames, SwappedFrames):
        return SwappedFrames(encoded=frames.encoded[:length])
    return frames[:length]


def _said(content, path: str) -> dict[str, str]:
    """What the group `metadata` says in words."""
    if "metadata" not in content:
        return {}
    group = own_group(content, "metadata", path)
    said = {}
    for name in _SAID:
        with reading(path, f"attribute {name}"):
            is_text = isinstance(group.attrs.get(name), str | bytes)
        if is_text:
            said[name] = text_attribute(group, name, path)
    return said
