"""Reads ALOHA and Mobile ALOHA recordings: one `episode_<N>.hdf5` an episode, one folder a task.

Flat keys are the paths in the file: observations/qpos, action, base_action, observations/images/cam_high. Where images
are stored as JPEG in rows padded to one width, their key ends in ".jpeg": those bytes were made from RGB pixels by an
encoder that takes BGR, so that their channels are swapped for everybody else, and a spec written for bare pixels must
not be taken for them by mistake. `compress_len`, which should tell the padding, keeps its old length and another order
of cameras in shortened files; it is not used, because a JPEG never ends in the zeros that pad it.

Layouts: tonyzhaozh/aloha and act (record_episodes.py, record_sim_episodes.py), MarkFzp/mobile-aloha and act-plus-plus.
"""

import re
from pathlib import Path, PurePosixPath

from oxe_pipeline.episode import SourceEpisode
from oxe_pipeline.ingest.hdf5_file import files_below, opened
from oxe_pipeline.ingest.hdf5_frames import HDF5Frames, columns
from oxe_pipeline.ingest.raw_folder import number_order

ENCODED = ".jpeg"
"""Ending of the key of a camera whose images are stored encoded."""

_EPISODE = re.compile(r"episode_\d+")
_SPLITS = frozenset({"train", "val", "test"})
"""Folders between task and episodes that name a split (moojink/rlds_dataset_builder)."""
_NOT_STEPS = frozenset({"compress_len"})


def find_episodes(root: str | Path) -> tuple[list[str], list[str]]:
    """(keys of the episodes, other HDF5 files), both as paths below `root`: folders by name, episodes by number.

    Only `episode_<N>` is an episode. `mirror_episode_<N>` is one with left and right exchanged, made from it, and files
    of features hold no recording; they are the others. Nothing is opened.
    """
    files = files_below(root)
    episodes = [file for file in files if _EPISODE.fullmatch(PurePosixPath(file).stem)]
    return sorted(episodes, key=number_order), sorted(set(files) - set(episodes), key=number_order)


def read_episode(key: str, *, root: str | Path) -> SourceEpisode:
    """One episode, by a key of `find_episodes`.

    steps: action [T, 14], base_action [T, 2] where recorded, observations/{qpos, qvel, effort} [T, 14] as stored, left
    arm first; observations/images/<camera> as Frames of pixels, or observations/images/<camera>.jpeg as Frames of JPEG
    bytes. metadata: task_folder, the only label there is. split: the folder train, val or test where the episodes lie
    in one, else "". Raises DataError naming file and array when it is damaged or beyond the limits.
    """
    with opened(root, key) as content:
        found = dict(columns(content, key, "", root=root, file=key, skip=_NOT_STEPS))
    encoded = {name for name, column in found.items() if isinstance(column, HDF5Frames) and column.encoded}
    folder, split = _task_and_split(key, Path(root))
    return SourceEpisode(
        key=key,
        source_path=key,
        steps={name + ENCODED if name in encoded else name: column for name, column in found.items()},
        metadata={"task_folder": folder},
        split=split,
    )


def _task_and_split(key: str, root: Path) -> tuple[str, str]:
    """(name of the task's folder, split or "")."""
    folders = [root.resolve().name, *PurePosixPath(key).parts[:-1]]
    split = folders.pop() if folders[-1] in _SPLITS and len(folders) > 1 else ""
    return folders[-1], split
