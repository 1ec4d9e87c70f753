"""Reads BridgeData V2 as the lab records it: one folder an episode, `raw/traj_group<G>/traj<N>/`, at any depth.

An episode comes out with the flat keys of the published Bridge RLDS (observation/image_0..3, observation/state, action,
language_instruction), so that one spec fits both. JPEG bytes are passed on as they lie on disk. What is not read: depth
images, and agent_data.pkl, which needs ROS and holds nothing for training.

Layout and alignment: rail-berkeley/bridge_data_v2, data_processing/bridgedata_raw_to_numpy.py.
"""

import datetime
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from oxe_pipeline.episode import DataError, Frames, SourceEpisode
from oxe_pipeline.ingest.raw_folder import inside, number_order, whole_file, whole_files
from oxe_pipeline.ingest.restricted_pickle import load_pickle, plain_numbers
from schemas.rlds import ABSENT_IMAGE

CAMERAS = 4
MAX_STEPS = 100_000
"""The lab's recorder stops after 500."""
LATE_CAMERAS_BEFORE = datetime.date(2021, 7, 23)
"""Until that day images came one step late; the date stands in the name of the dated folder."""

_EPISODE_FOLDER = re.compile(r"traj\d+")
_IMAGE = re.compile(r"im_(\d+)\.jpe?g")
_DATED_FOLDER = re.compile(r"(\d{4})-(\d\d)-(\d\d)(_.*)?")


def find_episodes(root: str | Path) -> Iterator[str]:
    """Paths of the traj<N> folders below `root`, relative to it, folder by folder in order (numbers as numbers).

    Skipped are links to folders and folders with "lmdb" in their name, which hold caches. One folder is listed at a
    time, so the tree may be of any size. Raises NotADirectoryError or FileNotFoundError when `root` is no folder.
    """
    folders = [path for path in Path(root).iterdir() if path.is_dir() and not path.is_symlink()]
    for folder in sorted(folders, key=lambda path: number_order(path.name)):
        if _EPISODE_FOLDER.fullmatch(folder.name):
            yield folder.name
        elif "lmdb" not in folder.name:
            yield from (f"{folder.name}/{below}" for below in find_episodes(folder))


def read_episode(path: str, *, root: str | Path, cameras: Sequence[int] = range(CAMERAS)) -> SourceEpisode:
    """The episode in the folder `path` below `root`: T-1 steps, each an observation and the action that followed it.

    steps: observation/state float64 [T-1, 7] (metres, roll-pitch-yaw, gripper 1 open), action float64 [T-1, A], and
    observation/image_<k> for k in `cameras`, JPEG bytes. A camera without a folder is black in every step, as in the
    published copy. metadata: language_instruction, the lines of lang.txt untouched ([] without the file). An episode
    from before 2021-07-23 is one step shorter: its observations move one step earlier against the actions.

    Raises DataError naming the file: a pickle missing or foreign, an image missing or outside `root` by a link, lengths
    that do not fit, no camera at all.
    """
    root = Path(root)
    folder = inside(root, root / path, path)
    states = _states(_unpickled(root, folder / "obs_dict.pkl", path), path)
    actions = _actions(_unpickled(root, folder / "policy_out.pkl", path), path)
    length = len(states)
    if len(actions) != length - 1:
        reason = f"{len(actions)} actions for {length} observations; there must be one action less"
        raise DataError(reason, episode=path, field="policy_out.pkl")
    late = int(_has_late_cameras(path))
    observed, acted = slice(late, length - 1), slice(0, length - 1 - late)
    steps: dict[str, np.ndarray | list | Frames] = {"observation/state": states[observed], "action": actions[acted]}
    frames = {camera: _frame_paths(folder / f"images{camera}", length, path)[observed] for camera in cameras}
    if not any(frames.values()):
        wanted = ", ".join(f"images{camera}" for camera in cameras)
        raise DataError(f"none of the camera folders {wanted} is there", episode=path, field="images")
    for camera, files in frames.items():
        present = whole_files(root, files, path)
        steps[f"observation/image_{camera}"] = present or [ABSENT_IMAGE] * len(actions[acted])
    return SourceEpisode(
        key=path,
        source_path=path,
        steps=steps,
        metadata={"language_instruction": _labels(root, folder, path)},
        split="",
    )


def _unpickled(root: Path, file: Path, path: str) -> object:
    try:
        return load_pickle(inside(root, file, path))
    except DataError as error:
        raise DataError(error.reason, episode=path, field=file.name) from None


def _states(observations: object, path: str) -> np.ndarray:
    """float64 [T, 7] out of obs_dict.pkl; older recordings have `state` alone, which is the same."""
    if isinstance(observations, dict):
        for key in ("full_state", "state"):
            if key in observations:
                return _matrix(observations[key], path, "obs_dict.pkl", key)
    raise DataError("must be a dict with full_state or state", episode=path, field="obs_dict.pkl")


def _actions(policy_out: object, path: str) -> np.ndarray:
    """float64 [T-1, A] out of policy_out.pkl: a list of dicts with `actions`, or (early recordings) of bare arrays."""
    if not isinstance(policy_out, list) or not policy_out:
        raise DataError("must be a list with one entry a step", episode=path, field="policy_out.pkl")
    if isinstance(policy_out[0], dict):
        if not all(isinstance(entry, dict) and "actions" in entry for entry in policy_out):
            raise DataError("an entry has no `actions`", episode=path, field="policy_out.pkl")
        policy_out = [entry["actions"] for entry in policy_out]
    return _matrix(policy_out, path, "policy_out.pkl", "actions")


def _matrix(values: object, path: str, file: str, key: str) -> np.ndarray:
    try:
        matrix = plain_numbers(values, most_rows=MAX_STEPS)
    except ValueError:
        raise DataError(f"{key} is not a table of numbers", episode=path, field=file) from None
    if matrix.ndim != 2:
        raise DataError(f"{key} must be [steps, values], is {list(matrix.shape)}", episode=path, field=file)
    return matrix


def _frame_paths(folder: Path, length: int, path: str) -> list[Path]:
    """im_0 to im_<length-1> in order of number; [] when the camera has no folder."""
    if not folder.is_dir():
        return []
    numbered = {int(match[1]): file for file in folder.iterdir() if (match := _IMAGE.fullmatch(file.name))}
    lacking = [step for step in range(length) if step not in numbered]
    if lacking or len(numbered) != length:
        what = f"im_{lacking[0]}.jpg is missing" if lacking else "there are more images than observations"
        reason = f"{len(numbered)} images for {length} observations: {what}"
        raise DataError(reason, episode=path, field=folder.name)
    return [numbered[step] for step in range(length)]


def _labels(root: Path, folder: Path, path: str) -> list[bytes]:
    """Every line of lang.txt as bytes; what they say and in which encoding is for the language rules to decide."""
    file = folder / "lang.txt"
    return whole_file(root, file, path).splitlines() if file.exists() else []


def _has_late_cameras(path: str) -> bool:
    for part in reversed(path.split("/")):
        if match := _DATED_FOLDER.fullmatch(part):
            try:
                return datetime.date(int(match[1]), int(match[2]), int(match[3])) < LATE_CAMERAS_BEFORE
            except ValueError:
                raise DataError(
                    f"folder {part} is no date, so its alignment is not known", episode=path, field="path"
                ) from None
    return False
