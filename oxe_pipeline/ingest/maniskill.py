"""Reads ManiSkill 2 and 3 demonstrations: `<name>.h5` with groups traj_<id>, and `<name>.json` beside it, which says
what the numbers mean.

Flat keys are the paths below traj_<id> (obs/agent/qpos, obs/sensor_data/base_camera/rgb, success), but for the actions:
what they are depends on the controller, so their key is actions/<control mode>, and a spec written for one controller
does not take another's by mistake. A file holds T actions and T+1 observations; the last observation is left out here,
because no action follows it.

Layouts: haosulab/ManiSkill docs (concepts/demonstrations, user_guide/datasets/demos) and utils/wrappers/record.py.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from oxe_pipeline.episode import DataError, Frames, SourceEpisode
from oxe_pipeline.ingest.hdf5_file import keys_in_files, opened, own_array, own_group, read_whole
from oxe_pipeline.ingest.hdf5_frames import columns
from oxe_pipeline.ingest.metadata_file import parsed_file

_EPISODE = re.compile(r"traj_\d{1,18}", re.ASCII)
_OF_STATES = frozenset({"obs", "env_states"})
"""Members with one row more than there are actions."""
_NOT_ACTED = _OF_STATES | {"actions", "env_init_state"}

INSTRUCTIONS = {
    "AssemblingKits": "put the kit piece into its slot",
    "LiftCube": "lift the red cube",
    "LiftPegUpright": "stand the peg upright",
    "PegInsertionSide": "insert the peg into the hole of the box from the side",
    "PickCube": "pick up the cube and hold it at the goal position",
    "PickClutterYCB": "pick the marked object out of the clutter and move it to the goal position",
    "PickSingleYCB": "pick up the object and move it to the goal position",
    "PlaceSphere": "put the sphere into the bin",
    "PlugCharger": "plug the charger into the socket",
    "PokeCube": "poke the cube with the peg",
    "PullCube": "pull the cube to the goal region",
    "PushCube": "push the cube to the goal region",
    "RollBall": "roll the ball to the goal region",
    "StackCube": "stack the red cube on the green cube",
    "TurnFaucet": "turn on the faucet",
}
"""What each task asks for, by its id without the version: the files hold no sentence. The words are ours."""


def find_episodes(root: str | Path) -> Iterator[str]:
    """Keys "PickCube-v1/motionplanning/trajectory.h5/traj_3" of all episodes below `root`: files by path, episodes by
    number, whatever numbers there are. A file that cannot be opened or holds no episode gives its own path as the one
    key: reading that key raises the DataError that says why."""
    return keys_in_files(root, lambda file: _episodes_of(file, root))


def _episodes_of(file: str, root: str | Path) -> list[str]:
    with opened(root, file) as content:
        names = [name for name in content if _EPISODE.fullmatch(name)]
    if not names:
        raise DataError("holds no group traj_<id>; not a ManiSkill file", episode=file, field="file")
    return sorted(names, key=lambda name: int(name.removeprefix("traj_")))


def read_episode(key: str, *, root: str | Path) -> SourceEpisode:
    """One episode, by a key of `find_episodes`.

    steps: actions/<control mode> [T, A] float32 as recorded; obs/... and env_states/... [T, ...] without the last row,
    images and depth as Frames; success, fail, terminated, truncated, rewards [T] where recorded. metadata: env_id,
    control_mode, instruction (a list: empty for a task not in INSTRUCTIONS), success_known, success. No split.
    Raises DataError naming file and field when one is damaged, beyond the limits, or missing beside the other.
    """
    file, _, name = key.rpartition("/")
    if not _EPISODE.fullmatch(name):
        _episodes_of(key, root)
        raise DataError("is a file, not one of its episodes", episode=key, field="file")
    said = _said(file, int(name.removeprefix("traj_")), Path(root), key)
    with opened(root, file) as content:
        group = own_group(content, name, key)
        mode = said["control_mode"]
        steps: dict[str, np.ndarray | list | Frames] = {
            f"actions/{mode}": read_whole(own_array(group, "actions", key), key, "actions")
        }
        steps |= columns(group, key, "", root=root, file=file, skip=_NOT_ACTED)
        after = columns(group, key, "", root=root, file=file, skip=frozenset(group) - _OF_STATES, drop_last=1)
        steps |= after
    outcomes = steps.get("success")
    if isinstance(outcomes, np.ndarray) and outcomes.ndim == 1 and len(outcomes) and outcomes.dtype.kind in "biuf":
        said |= {"success_known": True, "success": bool(outcomes[-1])}
    return SourceEpisode(key=key, source_path=key, steps=steps, metadata=said, split="")


def _said(file: str, number: int, root: Path, key: str) -> dict[str, object]:
    """What the JSON file beside `file` says about one episode."""
    beside = PurePosixPath(file).with_suffix(".json")
    environment, episodes = parsed_file(root, beside.as_posix(), _parsed, episode=key)
    entries = episodes.get(number, [])
    if len(entries) != 1:
        raise DataError(f"holds {len(entries)} episodes of id {number}, must hold one", episode=key, field=beside.name)
    entry, options = entries[0], environment.get("env_kwargs")
    mode = entry.get("control_mode") or (options if isinstance(options, dict) else {}).get("control_mode")
    if not isinstance(mode, str):
        raise DataError("names no control mode, so the actions have no meaning", episode=key, field=beside.name)
    task = str(environment.get("env_id", ""))
    ending = entry if "success" in entry else entry.get("info")
    success = ending.get("success") if isinstance(ending, dict) else None
    sentence = INSTRUCTIONS.get(re.sub(r"-v\d+$", "", task))
    return {
        "env_id": task,
        "control_mode": mode,
        "instruction": [sentence] if sentence else [],
        "success_known": success is not None,
        "success": bool(success),
    }


def _parsed(text: str) -> tuple[dict, dict[int, list[dict]]]:
    """(env_info, episodes by id). Raises ValueError when it is not JSON of this layout."""
    content = json.loads(text)
    if not isinstance(content, dict) or not isinstance(content.get("env_info"), dict):
        raise ValueError("no env_info in it")
    by_id: dict[int, list[dict]] = {}
    episodes = content.get("episodes")
    for entry in episodes if isinstance(episodes, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("episode_id"), int):
            by_id.setdefault(entry["episode_id"], []).append(entry)
    return content["env_info"], by_id
