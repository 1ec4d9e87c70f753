"""Reads FurnitureBench as its collector writes it: one pickle an episode, released as
`<low|med|high>/<furniture>/<time>.pkl`.

Only the pickle is read, by the restricted unpickler; the videos and depth images beside it repeat it at full size. A
pickle cannot be read in parts, so a whole episode's pixels are in memory (300 kB a step): the price of the format.

Layout: clvrai/furniture-bench furniture_bench/data/data_collector.py, robot/robot_state.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import xxhash

from oxe_pipeline.episode import DataError, Frames, SourceEpisode
from oxe_pipeline.ingest.columns import number_table
from oxe_pipeline.ingest.raw_folder import inside, number_order
from oxe_pipeline.ingest.restricted_pickle import load_pickle, plain_numbers

MAX_FILE_BYTES = 4 << 30
"""Four hours at 10 Hz would fit; the pickle's content is about as large as the file."""
CAMERAS = ("color_image1", "color_image2")
ROBOT_STATE = {"ee_pos": 3, "ee_quat": 4, "joint_positions": 7, "gripper_width": 1}
"""What is read of robot_state, with its width; velocities and torques are not."""
ACTION_WIDTH = 8
RANDOMNESS = ("low", "med", "high")


class HeldFrames(Frames):
    """Images that are in memory anyway, each uint8 [H, W, 3]: handed out one by one, so that they are not copied into
    one array."""

    def __init__(self, images: Sequence[np.ndarray]):
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self._images)

    def identity(self) -> bytes:
        digest = xxhash.xxh3_128()
        for image in self._images:
            digest.update(f"{image.dtype.str}{image.shape}".encode())
            digest.update(np.ascontiguousarray(image).tobytes())
        return digest.digest()


def find_episodes(root: str | Path) -> list[str]:
    """Paths of all .pkl files below `root`, in order (numbers as numbers). Nothing is opened."""
    root = Path(root)
    paths = (path.relative_to(root).as_posix() for path in root.rglob("*.pkl") if path.is_file())
    return sorted(paths, key=number_order)


def read_episode(path: str, *, root: str | Path) -> SourceEpisode:
    """The episode in one pickle: T steps, each an observation and the action that followed it.

    steps: observation/color_image1 (wrist) and color_image2 (front) as Frames of uint8 [H, W, 3], RGB;
    observation/robot_state/<name> float64 [T, k] (m; quaternion xyzw; rad; m), action float64 [T, 8], reward float64
    [T]. metadata: furniture ("square_table"), instruction ("assemble square table"), success, randomness ("low", "med",
    "high" where the path says it, else ""), error_description. The last observation, which no action follows, is
    dropped.

    Raises DataError naming the file and what is wrong: empty, a class that is not numpy, lengths that do not fit,
    images that are no pixels, an absurd size.
    """
    root = Path(root)
    file = inside(root, root / path, path)
    if file.is_file() and file.stat().st_size > MAX_FILE_BYTES:
        raise DataError(f"is larger than {MAX_FILE_BYTES >> 30} GB", episode=path, field="file")
    try:
        content = load_pickle(file)
    except DataError as error:
        raise DataError(error.reason, episode=path, field="file") from None
    if not isinstance(content, Mapping):
        raise DataError(f"holds {type(content).__name__}, must hold a dict", episode=path, field="file")
    actions = _table(_listed(content, "actions", path), ACTION_WIDTH, path, "actions")
    length = len(actions)
    observations = _listed(content, "observations", path)
    rewards = _listed(content, "rewards", path)
    if len(observations) not in (length, length + 1) or len(rewards) != length or not length:
        reason = f"{len(observations)} observations and {len(rewards)} rewards for {length} actions"
        raise DataError(f"{reason}; there must be one observation more", episode=path, field="observations")
    steps: dict[str, np.ndarray | list | Frames] = {
        "action": actions,
        "reward": _table(rewards, 1, path, "rewards")[:, 0],
    }
    for camera in CAMERAS:
        steps[f"observation/{camera}"] = HeldFrames([_image(each, camera, path) for each in observations[:length]])
    for name, width in ROBOT_STATE.items():
        values = [_robot_state(each, name, path) for each in observations[:length]]
        steps[f"observation/robot_state/{name}"] = _table(values, width, path, f"robot_state/{name}")
    metadata = _said(content, path)
    return SourceEpisode(key=path, source_path=path, steps=steps, metadata=metadata, split="")


def _listed(content: Mapping, key: str, path: str) -> list:
    value = content.get(key)
    if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0):
        return list(value)
    raise DataError(f"must be a list with one entry a step, is {type(value).__name__}", episode=path, field=key)


def _table(values: list, width: int, path: str, field: str) -> np.ndarray:
    """float64 [T, width]; one number a step may stand alone."""
    try:
        table = np.array([plain_numbers([value], most_rows=1).ravel() for value in values])
    except ValueError:
        raise DataError("is not a table of numbers", episode=path, field=field) from None
    return number_table(table, width, episode=path, field=field)


def _robot_state(observation: object, name: str, path: str) -> object:
    state = observation.get("robot_state") if isinstance(observation, Mapping) else None
    if not isinstance(state, Mapping) or name not in state:
        raise DataError(f"an observation has no robot_state/{name}", episode=path, field="observations")
    return state[name]


def _image(observation: object, camera: str, path: str) -> np.ndarray:
    image = observation.get(camera) if isinstance(observation, Mapping) else None
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        said = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise DataError(f"an image is {said}, must be uint8 [H, W, 3]", episode=path, field=camera)
    return image


def _said(content: Mapping, path: str) -> dict[str, object]:
    furniture = content.get("furniture")
    if not isinstance(furniture, str) or not furniture:
        raise DataError("must name the furniture", episode=path, field="furniture")
    success = content.get("success")
    if not isinstance(success, bool | np.bool_):
        raise DataError("must be true or false", episode=path, field="success")
    folders, description = PurePosixPath(path).parts[:-1], content.get("error_description")
    return {
        "furniture": furniture,
        "instruction": f"assemble {furniture.replace('_', ' ')}",
        "success": bool(success),
        "randomness": next((folder for folder in folders if folder in RANDOMNESS), ""),
        "error_description": description if isinstance(description, str) else "",
    }
