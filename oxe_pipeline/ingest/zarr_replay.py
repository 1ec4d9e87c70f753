"""Reads replay buffers in Zarr, as Diffusion Policy and UMI write them: all episodes end to end in `data/<key>`, with
their exclusive ends in `meta/episode_ends`. A folder `<name>.zarr` or a file `<name>.zarr.zip`.

Flat keys are the paths in the store: data/action, data/camera0_rgb. Images come as Frames, decoded one chunk at a time;
of numbers only the episode's rows are read. A chunk of numbers that is not there holds the fill value, as Zarr has it;
one of images is a fault, for a camera does not see pure black and a copy may be incomplete. What is not read: rows of
more than MAX_NUMBERS_A_STEP numbers that are no RGB image (depth). Nothing is put right here; UMI's missing actions are
made by the spec.

Layout: real-stanford/diffusion_policy common/replay_buffer.py, real_world/real_data_conversion.py;
real-stanford/universal_manipulation_interface scripts_slam_pipeline/07_generate_replay_buffer.py.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from oxe_pipeline.episode import DataError, Frames, SourceEpisode
from oxe_pipeline.ingest.raw_folder import inside, number_order
from oxe_pipeline.ingest.video import VideoFrames
from oxe_pipeline.ingest.zarr_array import ZarrArray, ZarrStore, open_array

MAX_NUMBERS_A_STEP = 4096
MAX_STEPS = 1 << 20
"""Of one episode: two days at 6 Hz. More is a damaged list of ends."""

MAX_COLUMN_BYTES = 1 << 28
"""Of the numbers of one array in one episode."""

_EPISODE = re.compile(r"episode_(\d+)")


class ZarrFrames(Frames):
    """Rows start to stop of an image array [N, H, W, 3], one chunk in memory at a time.

    Whole numbers of 0 to 255 in any dtype become uint8, as PushT's float images need; anything else is a DataError.
    """

    def __init__(self, array: ZarrArray, start: int, stop: int):
        self._array, self._start, self._stop = array, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __iter__(self) -> Iterator[np.ndarray]:
        step = 0
        for block in self._array.blocks(self._start, self._stop, absent="refuse"):
            for image in block:
                yield self._as_bytes(image, step)
                step += 1

    def identity(self) -> bytes:
        """Of compressed chunks where each image has its own, else of the pixels, at the price of decoding twice."""
        return self._array.identity(self._start, self._stop)

    def _as_bytes(self, image: np.ndarray, step: int) -> np.ndarray:
        if image.dtype == np.uint8:
            return image
        with np.errstate(invalid="ignore"):
            pixels = image.astype(np.uint8)
        if not np.array_equal(pixels, image):
            raise self._array.store.fault(
                self._array.name, f"step {step}: pixels are not whole numbers of 0 to 255, so their scale is not known"
            )
        return pixels


def find_episodes(root: str | Path) -> Iterator[str]:
    """Keys "folder/name.zarr/episode_3" of all episodes of all stores below `root`, stores by path, episodes in order.

    A store that cannot be opened gives its own path as the one key: reading that raises the DataError that says why.
    Stores are not descended into, links to folders not followed.
    """
    root = Path(root)
    for store in find_stores(root):
        try:
            count = len(_episode_ends(ZarrStore(root, store)))
        except DataError:
            yield store
        else:
            yield from (f"{store}/episode_{number}" for number in range(count))


def find_stores(root: str | Path, below: str = "") -> Iterator[str]:
    """Paths of *.zarr folders, folders with .zgroup, *.zarr.zip and *.zip files below `root`, in order. None where
    `root` itself is a store, whose groups would be taken for stores."""
    root = Path(root)
    if not below and (root / ".zgroup").is_file():
        return
    entries = [entry for entry in (root / below).iterdir() if not entry.is_symlink()]
    for entry in sorted(entries, key=lambda entry: number_order(entry.name)):
        path = entry.relative_to(root).as_posix()
        if entry.is_dir():
            is_store = entry.suffix == ".zarr" or (entry / ".zgroup").is_file()
            yield from [path] if is_store else find_stores(root, path)
        elif entry.suffix == ".zip" and entry.is_file():
            yield path


def read_episode(key: str, *, root: str | Path, videos: Sequence[str] = ()) -> SourceEpisode:
    """One episode, by a key of `find_episodes`.

    steps: every array of `data/` under its path: numbers [T, ...] as stored, image arrays [T, H, W, 3] as Frames; and
    for each camera of `videos` the key "videos/<camera>", frames of the MP4 `videos/<episode>/<camera>.mp4` beside the
    store that were shown at the steps' times (data/timestamp, in seconds). A camera without a file gives no key.
    metadata: store_name, folder_name, episode_index. split: "".
    Raises DataError naming store and array: damaged, of a length other than the last end, no column at all.
    """
    root = Path(root)
    name, number = _store_and_number(key)
    store = ZarrStore(root, name)
    ends = _episode_ends(store)
    if number is None or number >= len(ends):
        raise DataError(f"the store holds episodes 0 to {len(ends) - 1}", episode=key, field="meta/episode_ends")
    start, stop = int(ends[number - 1]) if number else 0, int(ends[number])
    steps: dict[str, np.ndarray | list | Frames] = {}
    for column in store.arrays("data"):
        array = open_array(store, f"data/{column}")
        if len(array) != ends[-1]:
            raise DataError(f"{len(array)} rows, but episodes end at {ends[-1]}", episode=name, field=array.name)
        if _holds_images(array):
            steps[array.name] = ZarrFrames(array, start, stop)
        elif math.prod(array.shape[1:]) <= MAX_NUMBERS_A_STEP:
            steps[array.name] = _numbers(array, start, stop)
    for camera in videos:
        if file := _video_file(root, name, number, camera):
            steps[f"videos/{camera}"] = VideoFrames(
                file, times_s=_times(steps, key), episode=key, field=f"videos/{camera}"
            )
    path = Path(name)
    metadata: dict[str, object] = {
        "store_name": path.name,
        "folder_name": path.parent.name,
        "episode_index": number,
    }
    return SourceEpisode(key=key, source_path=key, steps=steps, metadata=metadata, split="")


def _store_and_number(key: str) -> tuple[str, int | None]:
    """("a/b.zarr/episode_3") -> ("a/b.zarr", 3); a key without an episode gives None."""
    store, _, last = key.rpartition("/")
    match = _EPISODE.fullmatch(last)
    return (store, int(match[1])) if match else (key, None)


def _episode_ends(store: ZarrStore) -> np.ndarray:
    """meta/episode_ends int64 [episodes]; DataError unless they are whole, rising, and of a sane distance."""
    array = open_array(store, "meta/episode_ends")
    if array.dtype.kind not in "iu" or len(array.shape) != 1:
        reason = f"must be whole numbers [episodes], is {array.dtype} {list(array.shape)}"
        raise store.fault("meta/episode_ends", reason)
    if len(array) * array.dtype.itemsize > 1 << 26:
        raise store.fault("meta/episode_ends", f"{len(array)} episodes in one store are not sane")
    # Refused, not filled: a damaged length can promise a million chunks that are not there, and each is looked for.
    ends = array.rows(0, len(array), absent="refuse").astype(np.int64)
    if len(ends) == 0:
        raise store.fault("meta/episode_ends", "the store holds no episode")
    lengths = np.diff(ends, prepend=0)
    wrong = np.flatnonzero((lengths <= 0) | (lengths > MAX_STEPS))
    if wrong.size:
        reason = f"episode {wrong[0]} would have {lengths[wrong[0]]} steps; ends must rise, by {MAX_STEPS} at most"
        raise store.fault("meta/episode_ends", reason)
    return ends


def _numbers(array: ZarrArray, start: int, stop: int) -> np.ndarray:
    size = (stop - start) * math.prod(array.shape[1:]) * array.dtype.itemsize
    if size > MAX_COLUMN_BYTES:
        raise array.store.fault(array.name, f"{size} bytes of numbers in one episode are not sane")
    return array.rows(start, stop)


def _holds_images(array: ZarrArray) -> bool:
    return len(array.shape) == 4 and array.shape[3] == 3


def _video_file(root: Path, store: str, number: int, camera: str) -> Path | None:
    path = (root / store).parent / "videos" / str(number) / f"{camera}.mp4"
    return path if inside(root, path, f"{store}/episode_{number}").is_file() else None


def _times(steps: Mapping[str, np.ndarray | list | Frames], key: str) -> np.ndarray:
    """Seconds since the first step, float64 [T]. The recorder starts its files with the episode, so this is the time in
    the file too."""
    times = steps.get("data/timestamp")
    if not isinstance(times, np.ndarray) or times.ndim != 1 or not np.isfinite(times).all():
        reason = "videos are matched by time, so there must be one finite number a step"
        raise DataError(reason, episode=key, field="data/timestamp")
    return times.astype(np.float64) - float(times[0])
