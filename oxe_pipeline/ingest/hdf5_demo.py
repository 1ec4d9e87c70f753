"""Reads demonstrations in HDF5 as robomimic lays them out: /data/demo_<N>/{actions, states, obs/<key>, ...}. LIBERO's
files are the same tree, with the task's sentence in an attribute and in the file name.

Flat keys are the paths in the file without the demo's number: data/actions, data/obs/agentview_rgb. Memory: one demo at
a time; `next_obs` is never read, because it repeats `obs` one step later. Nothing is put right here (LIBERO's images on
their heads, its observations one step late): the spec says it.

Layouts: robomimic docs/datasets/overview.md, Lifelong-Robot-Learning/LIBERO scripts/create_dataset.py.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from oxe_pipeline.episode import DataError, SourceEpisode
from oxe_pipeline.ingest.hdf5_file import columns, opened, own_group

SUFFIXES = (".hdf5", ".h5")

_DEMO = re.compile(r"demo_\d+")
_NOT_READ = frozenset({"next_obs"})
_SPLIT_MASKS = {"train": "train", "valid": "val", "test": "test"}
"""robomimic's filter keys that are a split, to our names; its other filter keys are ignored."""


def find_episodes(root: str | Path) -> Iterator[str]:
    """Keys "folder/file.hdf5/demo_3" of all demos below `root`: files by path, demos by number (holes are usual).

    A file that cannot be opened, or holds no demo, gives its own path as the one key: reading that key raises the
    DataError that says why. One file is open at a time.
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
    """Names of the demos in one file, "demo_2" before "demo_10".

    Raises DataError naming the file when it is truncated, not HDF5, outside `root` by a link, or holds no demo.
    """
    import h5py

    with opened(root, file) as content:
        data = content.get("data")
        demos = [name for name in data if _DEMO.fullmatch(name)] if isinstance(data, h5py.Group) else []
    if not demos:
        raise DataError("holds no group /data/demo_<N>; not a robomimic or LIBERO file", episode=file, field="data")
    return sorted(demos, key=lambda name: int(name.removeprefix("demo_")))


def read_episode(key: str, *, root: str | Path) -> SourceEpisode:
    """One demo, by a key of `find_episodes`, with all its columns except next_obs.

    steps: every dataset below /data/<demo> by its flat key, arrays [T, ...] as stored. metadata: file_name; where the
    file has them env_name, problem_info/language_instruction (LIBERO), ep_meta/lang (RoboCasa), untouched. split: the
    file's own mask/train, mask/valid or mask/test, "" without one. The file is opened for this read alone.
    Raises DataError naming file, demo and dataset when the file is truncated or damaged.
    """
    file, demo = _file_and_demo(key)
    if not demo:
        find_demos(file, root=root)
    with opened(root, file) as content:
        data = own_group(content, "data", key)
        group = own_group(data, demo, key)
        return SourceEpisode(
            key=key,
            source_path=key,
            steps=dict(columns(group, key, "data", skip=_NOT_READ)),
            metadata={"file_name": PurePosixPath(file).name, **_said_in_attributes(data, group, key)},
            split=_split(content, demo),
        )


def _file_and_demo(key: str) -> tuple[str, str]:
    """("a/b.hdf5/demo_3") -> ("a/b.hdf5", "demo_3"); a key without a demo gives ""."""
    file, _, last = key.rpartition("/")
    return (file, last) if _DEMO.fullmatch(last) else (key, "")


def _said_in_attributes(data, group, key: str) -> dict[str, object]:
    wanted = (
        ("env_name", data, "env_args", "env_name"),
        ("problem_info/language_instruction", data, "problem_info", "language_instruction"),
        ("ep_meta/lang", group, "ep_meta", "lang"),
    )
    said: dict[str, object] = {}
    for name, holder, attribute, entry in wanted:
        value = _json_attribute(holder, attribute, key).get(entry)
        if value is not None:
            said[name] = value
    return said


def _json_attribute(holder, attribute: str, key: str) -> dict:
    text = holder.attrs.get(attribute, "{}")
    try:
        content = json.loads(text)
    except (TypeError, ValueError):
        raise DataError("is not JSON", episode=key, field=f"attribute {attribute}") from None
    return content if isinstance(content, dict) else {}


def _split(content, demo: str) -> str:
    import h5py

    for mask, split in _SPLIT_MASKS.items():
        names = content.get(f"mask/{mask}")
        if isinstance(names, h5py.Dataset) and demo.encode() in np.atleast_1d(names[()]).tolist():
            return split
    return ""
