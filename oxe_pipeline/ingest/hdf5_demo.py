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
from oxe_pipeline.ingest.hdf5_file import keys_in_files, opened, own_group, own_member, read_whole, text_attribute
from oxe_pipeline.ingest.hdf5_frames import columns

HELD_BYTES = 32 << 20
"""Pixels of one camera of one demo that are read whole, once for id and encoding; more come one image at a time."""

_DEMO = re.compile(r"demo_\d{1,18}", re.ASCII)
_NOT_READ = frozenset({"next_obs"})
_SPLIT_MASKS = {"train": "train", "valid": "val", "test": "test"}
"""robomimic's filter keys that are a split, to our names; its other filter keys are ignored."""

INSTRUCTIONS = {
    "Lift": "lift the cube",
    "PickPlaceCan": "pick up the can and put it into its bin",
    "PickPlace": "put each object into its bin",
    "NutAssemblySquare": "put the square nut on the square peg",
    "NutAssembly": "put each nut on its peg",
    "ToolHang": "put the frame together and hang the tool on it",
    "TwoArmTransport": "pass the hammer from one arm to the other and put it into the bin",
    "Door": "open the door",
    "Stack": "stack the red cube on the green cube",
    "Wipe": "wipe the table",
}
"""What robosuite's tasks ask for: its files hold no sentence. The words are ours."""


def find_episodes(root: str | Path) -> Iterator[str]:
    """Keys "folder/file.hdf5/demo_3" of all demos below `root`: files by path, demos by number (holes are usual).

    A file that cannot be opened, or holds no demo, gives its own path as the one key: reading that key raises the
    DataError that says why. One file is open at a time.
    """
    return keys_in_files(root, lambda file: find_demos(file, root=root))


def find_demos(file: str, *, root: str | Path) -> list[str]:
    """Names of the demos in one file, "demo_2" before "demo_10".

    Raises DataError naming the file when it is truncated, not HDF5, outside `root` by a link, or holds no demo.
    """
    import h5py

    with opened(root, file) as content:
        data = own_member(content, "data", file, "data") if "data" in content else None
        demos = [name for name in data if _DEMO.fullmatch(name)] if isinstance(data, h5py.Group) else []
    if not demos:
        raise DataError("holds no group /data/demo_<N>; not a robomimic or LIBERO file", episode=file, field="data")
    return sorted(demos, key=lambda name: int(name.removeprefix("demo_")))


def read_episode(key: str, *, root: str | Path) -> SourceEpisode:
    """One demo, by a key of `find_episodes`, with all its columns except next_obs.

    steps: every dataset below /data/<demo> by its flat key, arrays [T, ...] as stored, images of more than HELD_BYTES
    as Frames. metadata: file_name; instruction, a list of at most one sentence (ep_meta/lang, or ours for a task in
    INSTRUCTIONS); where the file has them env_name, problem_info/language_instruction (LIBERO), ep_meta/lang
    (RoboCasa), untouched. split: the file's own mask/train, mask/valid or mask/test, "" without one.
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
            steps=dict(columns(group, key, "data", root=root, file=file, skip=_NOT_READ, held_bytes=HELD_BYTES)),
            metadata={"file_name": PurePosixPath(file).name, **_said_in_attributes(data, group, key)},
            split=_split(content, demo, key),
        )


def _file_and_demo(key: str) -> tuple[str, str]:
    """("a/b.hdf5/demo_3") -> ("a/b.hdf5", "demo_3"); a key without a demo gives ""."""
    file, _, last = key.rpartition("/")
    return (file, last) if _DEMO.fullmatch(last) else (key, "")


def _said_in_attributes(data, group, key: str) -> dict[str, object]:
    wanted = (
        ("env_name", data, "env_args", "env_name"),
        ("env_name", data, "env_info", "env_name"),
        ("problem_info/language_instruction", data, "problem_info", "language_instruction"),
        ("ep_meta/lang", group, "ep_meta", "lang"),
    )
    said: dict[str, object] = {}
    for name, holder, attribute, entry in wanted:
        value = _json_attribute(holder, attribute, key).get(entry)
        if value is not None:
            said.setdefault(name, value)
    task = INSTRUCTIONS.get(str(said.get("env_name", "")))
    said["instruction"] = [sentence for sentence in (said.get("ep_meta/lang", task),) if sentence]
    return said


def _json_attribute(holder, attribute: str, key: str) -> dict:
    text = text_attribute(holder, attribute, key) or "{}"
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise DataError("is not JSON", episode=key, field=f"attribute {attribute}") from None
    return content if isinstance(content, dict) else {}


def _split(content, demo: str, key: str) -> str:
    import h5py

    masks = own_group(content, "mask", key) if "mask" in content else {}
    for mask, split in _SPLIT_MASKS.items():
        names = own_member(masks, mask, key, f"mask/{mask}") if mask in masks else None
        if isinstance(names, h5py.Dataset):
            members = np.atleast_1d(read_whole(names, key, f"mask/{mask}")).tolist()
            if demo.encode() in members or demo in members:
                return split
    return ""
