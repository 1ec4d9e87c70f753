"""Reads AgiBot World: proprio_stats/<task>/<episode>/proprio_stats.h5, videos below observations/<task>/<episode>,
labels in task_info/task_<task>.json.

Flat keys are the paths in the HDF5 file (state/joint/position, action/end/orientation) and videos/<camera>. Rows of an
action where no command was sent are filled (`agibot_commands`). A hand with fingers has its numbers under
".../hand/..." instead of ".../effector/...", so that they are not taken for a gripper's.

Layout: README of the data set; any4lerobot agibot2lerobot; LeRobot's port_agibot.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from oxe_pipeline.episode import DataError, Frames, SourceEpisode
from oxe_pipeline.ingest.agibot_commands import commands_of_every_row
from oxe_pipeline.ingest.hdf5_file import opened, own_group
from oxe_pipeline.ingest.hdf5_frames import columns
from oxe_pipeline.ingest.metadata_file import parsed_file
from oxe_pipeline.ingest.raw_folder import inside, number_order

LENGTH_KEY = "state/joint/position"
"""The column that says how many steps an episode has."""
GRIPPER_WIDTH = 2

_KEY = re.compile(r"(?P<task>\d{1,18})/(?P<episode>\d{1,18})(#(?P<span>\d{1,18}))?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class TaskEntry:
    """What task_info says about one episode."""

    task_name: str
    spans: tuple[tuple[int, int, str], ...]
    """(first row, row after the last, sentence) of each sub-task."""


def find_episodes(root: str | Path, *, spans: bool = False) -> tuple[list[str], int]:
    """(keys "327/648642" of the episodes whose HDF5 file is there, number of listed ones whose file is not).

    With `spans` the keys are of sub-tasks, "327/648642#0"; an episode without any, or with a list that cannot be read,
    keeps its own key, whose reading says why. A partial copy is usual, so what is absent is only counted.
    """
    root = Path(root)
    files = sorted(root.glob("proprio_stats/*/*/proprio_stats.h5"), key=lambda path: number_order(path.as_posix()))
    keys = [f"{path.parent.parent.name}/{path.parent.name}" for path in files]
    keys = [key for key in keys if _KEY.fullmatch(key)]
    listed: set[str] = set()
    for path in sorted(root.glob("task_info/task_*.json")):
        task = path.stem.removeprefix("task_")
        listed |= {f"{task}/{episode}" for episode in _entries(root, task, path.name, silent=True)}
    absent = len(listed - set(keys))
    return ([key for name in keys for key in _span_keys(root, name)] if spans else keys), absent


def _span_keys(root: Path, key: str) -> Iterator[str]:
    task, episode = key.split("/")
    entry = _entries(root, task, key, silent=True).get(int(episode))
    yield from [f"{key}#{number}" for number in range(len(entry.spans))] if entry and entry.spans else [key]


def read_episode(key: str, *, root: str | Path, cameras: Sequence[str], spans: bool = False) -> SourceEpisode:
    """One episode, or one of its sub-tasks, by a key of `find_episodes`.

    steps: state/... and action/... [T, ...] with absent commands filled, videos/<camera> as Frames for those of
    `cameras` whose file is there; empty arrays are left out. metadata: recording (<task>/<episode>), task_id,
    task_name, and action_text, the sentence of the sub-task (a list, empty for a whole episode). No split. Raises
    DataError: a damaged file, more commands than states, a command at a row that is not there, a damaged video.
    """
    root, match = Path(root), _KEY.fullmatch(key)
    if match is None:
        raise DataError("is no <task>/<episode>", episode=key, field="key")
    place = f"{match['task']}/{match['episode']}"
    entry = _entries(root, match["task"], key).get(int(match["episode"]))
    span = int(match["span"]) if match["span"] else -1
    if entry is None or (spans and span < 0) or span >= len(entry.spans):
        what = "sub-task with rows and a sentence" if entry else "such episode"
        raise DataError(f"lists no {what}", episode=key, field=f"task_{match['task']}.json")
    steps = _numbers(root, f"proprio_stats/{place}/proprio_stats.h5", key) | _videos(root, place, cameras, key)
    sentences = []
    if span >= 0:
        first, stop, sentence = entry.spans[span]
        steps, sentences = _cut(steps, first, stop, key), [sentence]
    metadata = {"recording": place, "task_id": match["task"], "task_name": entry.task_name, "action_text": sentences}
    return SourceEpisode(key=key, source_path=key, steps=steps, metadata=metadata, split="")


def _entries(root: Path, task: str, episode: str, *, silent: bool = False) -> dict[int, TaskEntry]:
    """Episode id to what task_info says; with `silent` a file that cannot be read is an empty one."""
    try:
        return parsed_file(root, f"task_info/task_{task}.json", _parsed_task, episode=episode)
    except DataError:
        if silent:
            return {}
        raise


def _parsed_task(text: str) -> dict[int, TaskEntry]:
    content = json.loads(text)
    if not isinstance(content, list):
        raise ValueError("no list of episodes")
    entries = {}
    for entry in content:
        if isinstance(entry, dict) and isinstance(entry.get("episode_id"), int):
            spans = tuple(_spans(entry.get("label_info")))
            entries[entry["episode_id"]] = TaskEntry(task_name=str(entry.get("task_name") or ""), spans=spans)
    return entries


def _spans(label_info: object) -> Iterator[tuple[int, int, str]]:
    """Sub-tasks with two whole numbers and a sentence; others say nothing that could be used."""
    listed = label_info.get("action_config") if isinstance(label_info, dict) else None
    for span in listed if isinstance(listed, list) else []:
        if isinstance(span, dict):
            first, stop, sentence = (span.get(name) for name in ("start_frame", "end_frame", "action_text"))
            if isinstance(first, int) and isinstance(stop, int) and isinstance(sentence, str) and sentence.strip():
                yield first, stop, sentence


def _numbers(root: Path, file: str, key: str) -> dict[str, np.ndarray | list | Frames]:
    with opened(root, file) as content:
        found: dict[str, np.ndarray] = {}
        for name in ("state", "action"):
            group = own_group(content, name, key)
            found |= {
                column: values
                for column, values in columns(group, key, name, root=root, file=file)
                if isinstance(values, np.ndarray)
            }
    length = len(found.get(LENGTH_KEY, ()))
    if not length:
        raise DataError("is absent or empty, so the episode has no steps", episode=key, field=LENGTH_KEY)
    states = {column: values for column, values in found.items() if column.startswith("state/") and len(values)}
    steps = states | commands_of_every_row(found, length, key)
    return {_hand_or_gripper(column, values): values for column, values in steps.items()}


def _hand_or_gripper(column: str, values: np.ndarray) -> str:
    is_hand = "/effector/" in column and values.ndim == 2 and values.shape[1] != GRIPPER_WIDTH
    return column.replace("/effector/", "/hand/") if is_hand else column


def _videos(root: Path, place: str, cameras: Sequence[str], key: str) -> dict[str, np.ndarray | list | Frames]:
    from oxe_pipeline.ingest.video import VideoFrames

    found: dict[str, np.ndarray | list | Frames] = {}
    for camera in cameras:
        path = inside(root, root / "observations" / place / "videos" / f"{camera}.mp4", key)
        if path.is_file():
            found[f"videos/{camera}"] = VideoFrames(path, episode=key, field=f"videos/{camera}")
    return found


def _cut(steps: dict[str, Any], first: int, stop: int, key: str) -> dict[str, Any]:
    """Rows `first` to `stop` of every column."""
    lengths = {name: len(column) for name, column in steps.items()}
    length = lengths[LENGTH_KEY]
    uneven = [name for name, found in lengths.items() if found != length]
    if uneven:
        raise DataError(f"{lengths[uneven[0]]} steps, but {LENGTH_KEY} has {length}", episode=key, field=uneven[0])
    if not 0 <= first < stop <= length:
        raise DataError(f"the sub-task's rows are {first} to {stop} of {length}", episode=key, field="action_config")
    return {name: column[first:stop] for name, column in steps.items()}
