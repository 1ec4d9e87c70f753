"""Reads DROID as its labs recorded it: <LAB>/{success,failure}/<date>/<time>/ with trajectory.h5, metadata_<uuid>.json
and one MP4 a camera; the sentences stand in one file for all, aggregated-annotations-<MMDDYY>.json.

Flat keys are those of the published DROID RLDS wherever that has the same thing, so that one spec style fits both. Not
read: SVO recordings, `<serial>-stereo.mp4`, extrinsics. An MP4 often has one frame less than there are rows; the last
row is dropped then, the only one whose image can be missing.

Layout: droid-dataset/droid, docs/the-droid-dataset.md and droid/trajectory_utils/trajectory_writer.py.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from oxe_pipeline.episode import DataError, Frames, SourceEpisode
from oxe_pipeline.ingest.columns import number_table
from oxe_pipeline.ingest.hdf5_file import holds, opened, own_array, own_group, read_whole
from oxe_pipeline.ingest.metadata_file import parsed_file
from oxe_pipeline.ingest.raw_folder import inside
from oxe_pipeline.ingest.video import VideoFrames

ROWS = "trajectory.h5"
VIDEOS = "recordings/MP4"

WRIST = "observation/wrist_image_left"
EXTERIORS = ("observation/exterior_image_1_left", "observation/exterior_image_2_left")
"""In order of their serial numbers as text, as in the published copy: the order says nothing about left and right."""
CAMERAS = (WRIST, *EXTERIORS)

INSTRUCTIONS = ("language_instruction", "language_instruction_2", "language_instruction_3")
FILE_PATH = "episode_metadata/file_path"

LONGER_VIDEO = "video_longer_than_rows"
IDLE = "idle_{}_percent"
"""So many per cent of the steps, rounded down to tens, are idle: the operator had not enabled movement, or nothing was
commanded. None below ten."""

_COLUMNS = {
    "observation/cartesian_position": "observation/robot_state/cartesian_position",
    "observation/joint_position": "observation/robot_state/joint_positions",
    "observation/gripper_position": "observation/robot_state/gripper_position",
    "action_dict/cartesian_position": "action/cartesian_position",
    "action_dict/cartesian_velocity": "action/cartesian_velocity",
    "action_dict/joint_position": "action/joint_position",
    "action_dict/joint_velocity": "action/joint_velocity",
    "action_dict/gripper_position": "action/gripper_position",
}
_CLOCK = "action_dict/cartesian_velocity"
_WIDTHS = {"cartesian_position": 6, "cartesian_velocity": 6, "joint_position": 7, "joint_velocity": 7}
_MAY_LACK = {
    "action_dict/gripper_velocity": "action/gripper_velocity",
    "movement_enabled": "observation/controller_info/movement_enabled",
}
"""Not in every recording: gripper_velocity lacks where the gripper was commanded by position."""
_CAMERA_TYPES = "observation/camera_type"
_OUTCOMES = ("failure", "success")
_ANNOTATIONS = re.compile(r"aggregated-annotations-(\d\d)(\d\d)(\d\d)\.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeFolder:
    """One episode to read, with the sentences that the common file has for it."""

    path: str
    """Below the raw folder."""
    sentences: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.path


def find_episodes(
    root: str | Path, annotations: Mapping[str, tuple[str, ...]] = MappingProxyType({})
) -> Iterator[EpisodeFolder]:
    """The <date>/<time> folders below every folder named success or failure, in order of their paths. Links to folders
    are not followed. A folder without its files is one too: reading it says what lacks.

    `annotations`: of `read_annotations`. One lab's folder is listed at a time.
    """
    root = Path(root)
    for outcome in _outcome_folders(root):
        for date in _folders(outcome):
            for folder in [date] if (date / ROWS).is_file() else _folders(date):
                path = folder.relative_to(root).as_posix()
                yield EpisodeFolder(path=path, sentences=annotations.get(_uuid(folder), ()))


def annotation_files(root: str | Path) -> list[str]:
    """Paths of the files of sentences in `root` or in a folder of it, oldest first by the date in their names."""
    root = Path(root)
    dated = []
    for path in (*root.glob("aggregated-annotations-*.json"), *root.glob("*/aggregated-annotations-*.json")):
        if match := _ANNOTATIONS.fullmatch(path.name):
            month, day, year = match.groups()
            dated.append(((year, month, day), path.relative_to(root).as_posix()))
    return [path for _, path in sorted(dated)]


def read_annotations(root: str | Path) -> dict[str, tuple[str, ...]]:
    """Episode uuid to its one to three sentences, untouched; of two files that name an episode the later one counts.
    Raises DataError for a file that is damaged."""
    root, sentences = Path(root), {}
    for name in annotation_files(root):
        content = _json_object(root, root / name, name)
        for uuid, said in content.items():
            if not isinstance(said, dict):
                raise DataError(f"{uuid} must be a mapping of sentences", episode=name, field="annotations")
            texts = [said.get(f"language_instruction{number}") for number in (1, 2, 3)]
            sentences[uuid] = tuple(text for text in texts if isinstance(text, str) and text.strip())
    return sentences


def read_episode(
    key: EpisodeFolder, *, root: str | Path, cameras: Collection[str] = CAMERAS, optional: Collection[str] = ()
) -> SourceEpisode:
    """The episode with those of CAMERAS that are wanted; T rows, one less where a video lacks its last frame.

    steps: arrays float64 [T, k] as stored (metres, radians, gripper 0 open; cartesian_velocity normalised), the vector
    action [T, 7] (absolute Cartesian and gripper position, as published), reward and the flags of RLDS,
    movement_enabled where recorded, VideoFrames. A camera in `optional` that is not there is left out. metadata: the
    three instructions ("" for none), FILE_PATH, and lab, building, scene_id, current_task where the lab wrote them.
    quality_flags: IDLE, LONGER_VIDEO.

    Raises DataError naming the file or array: absent, damaged, no such camera, lengths that do not fit.
    """
    root = Path(root)
    inside(root, root / key.path, key.path)
    rows, serials = _rows(root, key)
    length = len(rows[_CLOCK])
    videos, flags = {}, set()
    for camera in CAMERAS:
        if camera in cameras:
            video = _video(root, key, camera, serials, required=camera not in optional)
            if video is not None:
                videos[camera] = video
    frames = min((len(video) for video in videos.values()), default=length)
    for camera, video in videos.items():
        if len(video) < length - 1:
            raise DataError(f"{len(video)} images for {length} rows", episode=key.path, field=camera)
        flags |= {LONGER_VIDEO} if len(video) > length else set()
    length = min(length, frames)
    steps: dict[str, np.ndarray | list | Frames] = {name: column[:length] for name, column in rows.items()}
    steps |= {camera: video[:length] for camera, video in videos.items()}
    succeeded = "success" in key.path.split("/")
    steps |= _outcome(length, succeeded)
    flags |= _idle_flag(rows, length)
    said = dict.fromkeys(INSTRUCTIONS, "") | dict(zip(INSTRUCTIONS, key.sentences, strict=False))
    return SourceEpisode(
        key=key.path,
        source_path=key.path,
        steps=steps,
        metadata={**_said_by_lab(root, key), **said, FILE_PATH: f"{root.resolve().name}/{key.path}/{ROWS}"},
        split="",
        quality_flags=tuple(sorted(flags)),
    )


def _rows(root: Path, key: EpisodeFolder) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """(columns [T, k], camera serial to its type)."""
    file = f"{key.path}/{ROWS}"
    with opened(root, file) as content:
        rows = {}
        for name, place in (_COLUMNS | _MAY_LACK).items():
            if name in _MAY_LACK and not holds(content, place, key.path):
                continue
            column = np.asarray(read_whole(own_array(content, place, key.path), key.path, place))
            width = _WIDTHS.get(name.rpartition("/")[2], 1)
            rows[name] = number_table(column, width, episode=key.path, field=place)
        types = own_group(content, _CAMERA_TYPES, key.path)
        serials = {}
        for serial in types:
            values = read_whole(own_array(types, serial, key.path), key.path, f"{_CAMERA_TYPES}/{serial}")
            if values.size:
                serials[str(serial)] = int(values.ravel()[0])
    for name, column in rows.items():
        if len(column) != len(rows[_CLOCK]):
            reason = f"{len(column)} rows, but {_CLOCK} has {len(rows[_CLOCK])}"
            raise DataError(reason, episode=key.path, field=name)
    rows["action"] = np.concatenate(
        [rows["action_dict/cartesian_position"], rows["action_dict/gripper_position"]], axis=1
    )
    return rows, serials


def _video(
    root: Path, key: EpisodeFolder, camera: str, serials: dict[str, int], *, required: bool
) -> VideoFrames | None:
    """Type 0 is the hand; 1 and 2 stand outside."""
    here = sorted(serial for serial, kind in serials.items() if (kind == 0) == (camera == WRIST))
    number = 0 if camera == WRIST else EXTERIORS.index(camera)
    if number >= len(here):
        if required:
            reason = f"trajectory.h5 names {len(here)} camera(s) of this kind: {', '.join(here) or 'none'}"
            raise DataError(reason, episode=key.path, field=camera)
        return None
    path = root / key.path / VIDEOS / f"{here[number]}.mp4"
    if not required and not path.is_file():
        return None
    return VideoFrames(inside(root, path, key.path), episode=key.path, field=camera)


def _outcome(length: int, succeeded: bool) -> dict[str, np.ndarray]:
    last = np.arange(length) == length - 1
    return {
        "reward": (last & succeeded).astype(np.float32),
        "discount": np.ones(length, np.float32),
        "is_first": np.arange(length) == 0,
        "is_last": last,
        "is_terminal": last,
    }


def _idle_flag(rows: dict[str, np.ndarray], length: int) -> set[str]:
    idle = ~rows[_CLOCK][:length].any(axis=1)
    if "movement_enabled" in rows:
        idle |= rows["movement_enabled"][:length, 0] == 0
    tens = int(10 * idle.mean()) if length else 0
    return {IDLE.format(10 * tens)} if tens else set()


def _said_by_lab(root: Path, key: EpisodeFolder) -> dict[str, object]:
    """What metadata_<uuid>.json says about the scene; {} without the file."""
    wanted = ("uuid", "lab", "building", "scene_id", "current_task")
    for path in sorted((root / key.path).glob("metadata_*.json")):
        content = _json_object(root, path, key.path)
        return {name: content[name] for name in wanted if isinstance(content.get(name), str | int)}
    return {}


def _json_object(root: Path, path: Path, episode: str) -> dict:
    content = parsed_file(root, path.relative_to(root).as_posix(), json.loads, episode=episode)
    if not isinstance(content, dict):
        raise DataError("must be a JSON object", episode=episode, field=path.name)
    return content


def _uuid(folder: Path) -> str:
    """The part after metadata_ of the JSON file's name, which is the key of the annotations; "" without one."""
    return min((path.stem.removeprefix("metadata_") for path in folder.glob("metadata_*.json")), default="")


def _outcome_folders(folder: Path) -> Iterator[Path]:
    for below in _folders(folder):
        if below.name in _OUTCOMES:
            yield below
        else:
            yield from _outcome_folders(below)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
