"""Reads LeRobot folders, v2.0, v2.1 and v3.0: Parquet tables beside videos of any codec, or images in the tables.

Flat keys are LeRobot's own feature names ("observation.state", "action", "observation.images.front"). The format does
not say what an action means (joint angles in degrees, per cent of a servo's range, displacements ...): that is for the
spec. Copies are often partial: episodes whose files are not there are counted, not faults.

What frames say about their task decides: an episode whose frames change from one task to another comes out as one
episode a run of frames with the same task. The price: its parts may fall on both sides of a split by hash; a spec keeps
them together with `split: {group_by: episode_index}`. Where the frames have one task and meta/ lists several, the
others are alternatives.
"""

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oxe_pipeline.episode import DataError, Frames, SourceEpisode
from oxe_pipeline.ingest.lerobot_meta import DeclaredEpisode, FolderInfo, declared_episodes, read_info, task_names
from oxe_pipeline.ingest.lerobot_table import EPISODE_INDEX, Rows, all_rows, episode_rows, read_columns
from oxe_pipeline.ingest.video import VideoFrames

TASK = "task"
TIMESTAMP = "timestamp"
FRAME_INDEX = "frame_index"
TASK_INDEX = "task_index"

METADATA = (TASK, EPISODE_INDEX, "robot_type")
"""Keys that an episode has beside its features."""

UNEVEN = "timestamps_uneven"
"""Two rows are half a period or more nearer or further apart than the folder's fps says."""
RATE_DIFFERS = "rate_differs_from_fps"
"""The rows of the episode take over 2 % more or less time than the folder's fps says."""
LONGER_VIDEO = "video_longer_than_rows"
"""A video has frames after its last row; they are not used."""

_LFS_POINTER = b"version https://git-lfs"
_RATE_TOLERANCE = 0.02
_LENGTH_TOLERANCE_S = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeKey:
    """One episode to read: what meta/ says of it, so that reading it needs no table of all episodes."""

    declared: DeclaredEpisode
    fps: float
    robot_type: str
    split: str
    tasks: tuple[str, ...]
    """Main one first."""
    part: Rows | None = None
    """Rows of the episode that have the same task; None for all."""

    def __str__(self) -> str:
        name = f"episode_{self.declared.index:06d}"
        return f"{name}/rows_{self.part.first}_{self.part.end}" if self.part else name


@dataclass(frozen=True, kw_only=True, slots=True)
class Copied:
    """The episodes of a folder whose files are there."""

    keys: list[EpisodeKey]
    declared: int
    """Episodes in the folder's table."""
    absent: dict[str, int]
    """File that is declared and not there (or a git LFS pointer) -> episodes that need it."""

    @property
    def not_copied(self) -> int:
        """Episodes declared whose files are not there."""
        return sum(self.absent.values())


def find_episodes(root: str | Path, *, cameras: Collection[str] = (), optional: Collection[str] = ()) -> Copied:
    """All episodes whose table and whose videos of `cameras` are there, in the folder's order. A camera that is also in
    `optional` may lack.

    Reads meta/, and the task column of episodes that have not exactly one task. Raises DataError when meta/ is absent,
    damaged or of another version, or names a path out of the folder.
    """
    root = Path(root)
    info = read_info(root)
    names: dict[int, str] | None = None
    keys: list[EpisodeKey] = []
    absent: dict[str, int] = {}
    there: dict[str, bool] = {}
    declared = 0
    for episode in declared_episodes(root, info, cameras):
        declared += 1
        files = [episode.data_file, *(p.file for name, p in episode.videos.items() if name not in optional)]
        for file in files:
            if file not in there:
                there[file] = _is_copied(root / file)
        lacking = next((file for file in files if not there[file]), None)
        if lacking is not None:
            absent[lacking] = absent.get(lacking, 0) + 1
        elif len(episode.tasks) == 1:
            keys.append(_key(info, episode, episode.tasks))
        else:
            names = task_names(root, info) if names is None else names
            keys.extend(_keys_by_task(root, info, episode, names))
    return Copied(keys=keys, declared=declared, absent=absent)


def read_episode(
    key: EpisodeKey, *, root: str | Path, features: Collection[str], optional: Collection[str] = ()
) -> SourceEpisode:
    """The episode with those of `features` that the folder has, and its rows' timestamp and frame_index.

    steps: numbers as arrays [T, ...], text as a list of T str, images as encoded bytes or, from videos, VideoFrames. A
    video of a feature in `optional` that is not there is left out. metadata: task (list of sentences, main one first),
    episode_index, robot_type. quality_flags: UNEVEN, RATE_DIFFERS, LONGER_VIDEO.

    Raises DataError naming the file or column: absent, damaged, rows that are not those meta/ declares, a video that is
    shorter than the rows or has no frame at their time.
    """
    root = Path(root)
    try:
        return _read(key, root, features, optional)
    except DataError as error:
        raise DataError(error.reason, episode=str(key), field=error.field) from None


def _read(key: EpisodeKey, root: Path, features: Collection[str], optional: Collection[str]) -> SourceEpisode:
    declared = key.declared
    rows = _rows(root, declared)
    if len(rows) != declared.length:
        raise DataError(f"{len(rows)} rows; meta/ declares {declared.length}", episode=str(key), field="length")
    part = key.part or Rows(first=0, end=len(rows))
    chosen = Rows(first=rows.first + part.first, end=rows.first + part.end)
    steps: dict[str, np.ndarray | list | Frames] = dict(
        read_columns(root, declared.data_file, chosen, [*features, TIMESTAMP, FRAME_INDEX])
    )
    timestamps = _checked_clock(steps, key)
    flags = _clock_flags(timestamps, key.fps)
    for name in features:
        place = declared.videos.get(name)
        if place is None or (name in optional and not (root / place.file).is_file()):
            continue
        path = root / place.file
        if place.from_s is None:
            video = VideoFrames(path, episode=str(key), field=name)
            if len(video) < len(rows):
                raise DataError(f"{len(video)} images for {len(rows)} rows", episode=str(key), field=name)
            flags |= {LONGER_VIDEO} if len(video) > len(rows) else set()
            steps[name] = video[part.first : part.end]
        else:
            times_s = place.from_s + timestamps
            if timestamps[0] < -_LENGTH_TOLERANCE_S:
                reason = f"its first row is {-timestamps[0]:.3f} s before the start of its part of {path.name}"
                raise DataError(reason, episode=str(key), field=name)
            if times_s[-1] >= place.to_s + _LENGTH_TOLERANCE_S:
                reason = f"its last row is {times_s[-1] - place.to_s:.3f} s after the end of its part of {path.name}"
                raise DataError(reason, episode=str(key), field=name)
            steps[name] = VideoFrames(path, times_s=times_s, tolerance_s=0.5 / key.fps, episode=str(key), field=name)
    return SourceEpisode(
        key=str(key),
        source_path=f"{declared.data_file}#{key}",
        steps=steps,
        metadata=dict(zip(METADATA, (list(key.tasks), declared.index, key.robot_type), strict=True)),
        split=key.split,
        quality_flags=tuple(sorted(flags)),
    )


def _rows(root: Path, declared: DeclaredEpisode) -> Rows:
    """A file of v2 is the episode, whatever its episode_index says (merging tools leave it stale)."""
    if declared.shares_file:
        return episode_rows(root, declared.data_file, declared.index)
    return all_rows(root, declared.data_file)


def _checked_clock(steps: dict[str, np.ndarray | list | Frames], key: EpisodeKey) -> np.ndarray:
    """float64 [T] timestamps in seconds. DataError unless there are some, finite, and frame_index counts up by one."""
    timestamps, numbers = steps.get(TIMESTAMP), steps.get(FRAME_INDEX)
    if not isinstance(timestamps, np.ndarray) or timestamps.size != len(timestamps) or timestamps.dtype.kind != "f":
        raise DataError("must be one time in seconds a row", episode=str(key), field=TIMESTAMP)
    if not np.isfinite(timestamps).all():
        raise DataError("holds NaN or infinity", episode=str(key), field=TIMESTAMP)
    if isinstance(numbers, np.ndarray) and (np.diff(numbers) != 1).any():
        row = int(np.flatnonzero(np.diff(numbers) != 1)[0])
        reason = f"goes from {numbers[row]} to {numbers[row + 1]} at row {row + 1}: rows are lost or double"
        raise DataError(reason, episode=str(key), field=FRAME_INDEX)
    return timestamps.astype(np.float64).reshape(-1)


def _clock_flags(timestamps: np.ndarray, fps: float) -> set[str]:
    gaps = np.diff(timestamps) * fps
    flags = set()
    if (np.abs(gaps - 1) >= 0.5).any():
        flags.add(UNEVEN)
    if len(gaps) and abs(gaps.mean() - 1) > _RATE_TOLERANCE:
        flags.add(RATE_DIFFERS)
    return flags


def _keys_by_task(
    root: Path, info: FolderInfo, episode: DeclaredEpisode, names: dict[int, str]
) -> Iterator[EpisodeKey]:
    """One key a run of rows with the same task_index. Where that cannot be read, one key: reading it says why."""
    try:
        rows = _rows(root, episode)
        column = read_columns(root, episode.data_file, rows, [TASK_INDEX]).get(TASK_INDEX)
    except DataError:
        column = None
    if not isinstance(column, np.ndarray) or column.ndim != 1 or not len(column):
        yield _key(info, episode, episode.tasks)
        return
    borders = [0, *(np.flatnonzero(np.diff(column)) + 1).tolist(), len(column)]
    for first, end in itertools.pairwise(borders):
        said = names.get(int(column[first]), "")
        if len(borders) == 2:
            others = tuple(task for task in episode.tasks if task != said)
            yield _key(info, episode, (said, *others) if said else others)
        else:
            yield _key(info, episode, (said,) if said else (), Rows(first=first, end=end))


def _is_copied(path: Path) -> bool:
    """Whether the file is there, and not the pointer that git leaves in its place where LFS is not set up."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_LFS_POINTER)) != _LFS_POINTER


def _key(info: FolderInfo, episode: DeclaredEpisode, tasks: tuple[str, ...], part: Rows | None = None) -> EpisodeKey:
    return EpisodeKey(
        declared=episode,
        fps=info.fps,
        robot_type=info.robot_type,
        split=info.split_of(episode.index),
        tasks=tasks,
        part=part,
    )
