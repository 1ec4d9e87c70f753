"""Reads navigation recordings as GNM, ViNT and NoMaD train on them: one folder a recording, with the camera's images
0.jpg, 1.jpg, ... and traj_data.pkl, which holds where the robot was.

JPEG bytes are passed on as they lie on disk. No command is in these files: a spec makes the action from the next pose.
Some copies hold one image more than poses, made after the last of them; it is left out.

Layout: robodhruv/visualnav-transformer README.md ("Data Wrangling") and train/process_bags.py.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from oxe_pipeline.episode import DataError, SourceEpisode
from oxe_pipeline.ingest.raw_folder import inside, number_order
from oxe_pipeline.ingest.restricted_pickle import load_pickle, plain_numbers

POSES_FILE = "traj_data.pkl"
MAX_POSES = 100_000
MAX_FILE_BYTES = 64 << 20
"""Of one image, or of the poses."""

_IMAGE = re.compile(r"(0|[1-9]\d{0,7})\.jpe?g")


def find_episodes(root: str | Path) -> Iterator[str]:
    """Paths of the folders below `root` that hold traj_data.pkl, relative to it, folder by folder in order (numbers as
    numbers). Links to folders are not followed. One folder is listed at a time."""
    folders = [path for path in Path(root).iterdir() if path.is_dir() and not path.is_symlink()]
    for folder in sorted(folders, key=lambda path: number_order(path.name)):
        if (folder / POSES_FILE).exists():
            yield folder.name
        else:
            yield from (f"{folder.name}/{below}" for below in find_episodes(folder))


def read_episode(path: str, *, root: str | Path) -> SourceEpisode:
    """The recording in the folder `path` below `root`.

    steps: image, T JPEGs as bytes; position float64 [T, 2], metres; yaw float64 [T, 1], rad, wrapped or not as stored.
    metadata: dataset, the folder above. No split, label or outcome. Raises DataError naming the file: absent, foreign
    or damaged, poses of different numbers, an image missing, too large, or outside `root` by a link.
    """
    root = Path(root)
    folder = inside(root, root / path, path)
    position, yaw = _poses(root, folder, path)
    images = [_content(root, file, path) for file in _image_files(folder, len(position), path)]
    return SourceEpisode(
        key=path,
        source_path=path,
        steps={"image": images, "position": position, "yaw": yaw},
        metadata={"dataset": path.rpartition("/")[0].rpartition("/")[2]},
        split="",
    )


def _poses(root: Path, folder: Path, path: str) -> tuple[np.ndarray, np.ndarray]:
    """float64 [T, 2] and [T, 1]; some copies hold yaw as a list, or one wide."""
    file = inside(root, folder / POSES_FILE, path)
    where = {"episode": path, "field": POSES_FILE}
    if file.is_file() and file.stat().st_size > MAX_FILE_BYTES:
        raise DataError(f"{file.stat().st_size} bytes; at most {MAX_FILE_BYTES} are read", **where)
    try:
        content = load_pickle(file)
    except DataError as error:
        raise DataError(error.reason, **where) from None
    if not isinstance(content, dict) or not {"position", "yaw"} <= content.keys():
        raise DataError("must be a dict with position and yaw", **where)
    try:
        position = plain_numbers(content["position"], most_rows=MAX_POSES)
        yaw = plain_numbers(content["yaw"], most_rows=MAX_POSES)
    except ValueError as error:
        raise DataError(f"position or yaw is not numbers: {error}", **where) from None
    if position.ndim != 2 or position.shape[1] != 2 or not 0 < len(position) <= MAX_POSES:
        raise DataError(f"position must be [T, 2] of 1 to {MAX_POSES} poses, is {list(position.shape)}", **where)
    if yaw.shape not in ((len(position),), (len(position), 1)):
        raise DataError(f"yaw is {list(yaw.shape)} for {len(position)} positions", **where)
    return position, yaw.reshape(-1, 1)


def _image_files(folder: Path, length: int, path: str) -> list[Path]:
    numbered = {int(match[1]): file for file in folder.iterdir() if (match := _IMAGE.fullmatch(file.name))}
    lacking = [step for step in range(length) if step not in numbered]
    if lacking or len(numbered) > length + 1:
        what = f"{lacking[0]}.jpg is missing" if lacking else "at most one more is usual"
        raise DataError(f"{len(numbered)} images for {length} poses: {what}", episode=path, field="images")
    return [numbered[step] for step in range(length)]


def _content(root: Path, file: Path, path: str) -> bytes:
    file = inside(root, file, path)
    if not file.is_file() or file.stat().st_size > MAX_FILE_BYTES:
        raise DataError(f"must be a file of at most {MAX_FILE_BYTES} bytes", episode=path, field=file.name)
    return file.read_bytes()
