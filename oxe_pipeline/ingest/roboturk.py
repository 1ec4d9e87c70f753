"""Reads RoboTurk's real-robot recordings (Sawyer): one HDF5 file a task, /data/<user>/<demo>, with videos beside it
that are named in the demo's attributes.

No command is in the files in a documented form (user_control, 22 numbers of the operator's telephone, is empty in some
demos and not read); a spec makes the action from the poses. What else is not read: the depth video. A video may have
fewer images than there are rows; the demo then ends with the shortest one, and is flagged.

Layout: RoboTurk-Platform/roboturk_real_dataset scripts/parse_aligned_hdf5.py, scripts/generate_files.py.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from oxe_pipeline.episode import DataError, Frames, SourceEpisode
from oxe_pipeline.ingest.columns import number_table
from oxe_pipeline.ingest.hdf5_file import SUFFIXES, opened, own_array, own_group, read_whole, text_attribute
from oxe_pipeline.ingest.raw_folder import inside, number_order
from oxe_pipeline.ingest.video import VideoFrames

NUMBERS = {"eef_poses": 7, "joint_states_arm": 27, "joint_states_gripper": 3}
"""Array of robot_observation to its width."""
VIDEOS = {"front_rgb": "front_rgb_video_file", "top_rgb": "top_rgb_video_file"}
"""Camera to the attribute that names its file."""
MAX_DEMOS = 100_000
SHORTER_VIDEO, LONGER_VIDEO = "video_shorter_than_rows", "video_longer_than_rows"
_TASK = re.compile(r"Sawyer([A-Z][A-Za-z]+)_aligned")


def find_episodes(root: str | Path) -> Iterator[str]:
    """Keys "folder/file.hdf5/user/demo" below `root`: files by path, users and demos in the order of their numbers.

    A file that cannot be opened, or holds no demo, gives its own path as the one key: reading that key raises the
    DataError that says why.
    """
    root = Path(root)
    for path in sorted(path for path in root.rglob("*") if path.suffix in SUFFIXES):
        file = path.relative_to(root).as_posix()
        try:
            demos = find_demos(file, root=root)
        except DataError:
            demos = []
        yield from [f"{file}/{demo}" for demo in demos] or [file]


def find_demos(file: str, *, root: str | Path) -> list[str]:
    """ "user/demo" of every demo in one file. DataError when it does not open, or has none."""
    with opened(root, file) as content:
        data = own_group(content, "data", file)
        found = [f"{user}/{demo}" for user in _members(data) for demo in _members(own_group(data, user, file))]
    if not found:
        raise DataError("holds no group /data/<user>/<demo>; not a RoboTurk file", episode=file, field="data")
    return found


def read_episode(key: str, *, root: str | Path) -> SourceEpisode:
    """One demo, by a key of `find_episodes`.

    steps: eef_poses float64 [T, 7] (m, quaternion), joint_states_arm [T, 27] (position, velocity, effort of head_pan,
    right_j0 to right_j6, torso), joint_states_gripper [T, 3], and front_rgb, top_rgb as far as their videos are there.
    metadata: task, words of the file's name ("tower creation"); user. quality_flags: SHORTER_VIDEO, LONGER_VIDEO.
    Raises DataError naming what is absent, damaged or leads out of `root`, and columns of different lengths; a demo
    without any video is not read.
    """
    root = Path(root)
    file, user, demo = _parts(key)
    if not demo:
        find_demos(key, root=root)
    with opened(root, file) as content:
        group = own_group(content, f"data/{user}/{demo}", key)
        observed = own_group(group, "robot_observation", key)
        arrays = {name: read_whole(own_array(observed, name, key), key, name) for name in NUMBERS}
        numbers = {name: number_table(arrays[name], width, episode=key, field=name) for name, width in NUMBERS.items()}
        named = {camera: text_attribute(group, attribute, key) for camera, attribute in VIDEOS.items()}
    videos = {camera: _video(root, file, name, key, camera) for camera, name in named.items()}
    present = {camera: video for camera, video in videos.items() if video is not None}
    if not present:
        raise DataError(f"none of the videos {', '.join(named.values())} is there", episode=key, field="videos")
    rows = len(numbers["eef_poses"])
    for name, values in numbers.items():
        if len(values) != rows:
            raise DataError(f"{len(values)} rows, but eef_poses has {rows}", episode=key, field=name)
    length = min(rows, *map(len, present.values()))
    flags = {SHORTER_VIDEO if len(video) < rows else LONGER_VIDEO for video in present.values() if len(video) != rows}
    steps: dict[str, np.ndarray | list | Frames] = {name: values[:length] for name, values in numbers.items()}
    steps |= {camera: video[:length] for camera, video in present.items()}
    task = _TASK.match(PurePosixPath(file).name)
    return SourceEpisode(
        key=key,
        source_path=key,
        steps=steps,
        metadata={"task": " ".join(re.findall("[A-Z][a-z]*", task[1])).lower() if task else "", "user": user},
        split="",
        quality_flags=tuple(sorted(flags)),
    )


def _members(group) -> list[str]:
    if len(group) > MAX_DEMOS:
        raise DataError(f"{len(group)} members; at most {MAX_DEMOS} are read", field=group.name)
    return sorted(group, key=number_order)


def _parts(key: str) -> tuple[str, str, str]:
    """("a/b.hdf5/user/demo") -> ("a/b.hdf5", "user", "demo"); a file alone has no user and demo."""
    parts = PurePosixPath(key).parts
    if len(parts) < 3 or PurePosixPath(parts[-3]).suffix not in SUFFIXES:
        return key, "", ""
    return "/".join(parts[:-2]), parts[-2], parts[-1]


def _video(root: Path, file: str, name: str, key: str, camera: str) -> VideoFrames | None:
    """The video `name`, a path from the HDF5 file's folder or the one above it; None where neither has it."""
    folder = (root / file).parent
    for base in (folder, folder.parent) if folder != root else (folder,):
        path = base / name
        if name and "\0" not in name and inside(root, path, key).is_file():
            return VideoFrames(path, episode=key, field=camera)
    return None
