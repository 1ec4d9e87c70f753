"""Reads the human demonstrations of the Adroit hand (hand_dapg): `<environment>_demos.pickle`, a list with a dict an
episode. No pictures, and no sentence: ours, one an environment, stands in for it.

A file is unpickled whole and the last one is kept, because its episodes are read one after the other; that bounds the
size of a file that is taken. Not read: init_state_dict, with which the simulator could play an episode again.

Layout: aravindr93/hand_dapg dapg/demonstrations; what the numbers mean: vikashplus/mj_envs hand_manipulation_suite.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from oxe_pipeline.episode import DataError, SourceEpisode
from oxe_pipeline.ingest.raw_folder import inside
from oxe_pipeline.ingest.restricted_pickle import load_pickle

MAX_FILE_BYTES = 64 << 20
"""Some ten times the largest published file."""

INSTRUCTIONS = {"door-v0": "undo the latch and open the door"}
"""What an environment asks for: its files hold no sentence. The words are ours."""

_FILE_END = "_demos.pickle"
_COLUMNS = {"actions": ("actions", 2), "observations": ("observations", 2), "rewards": ("reward", 1)}
"""Key in the file to our flat key and its dimensions. RLDS's name of the reward is the one that the spec step knows."""


def find_episodes(root: str | Path, environment: str) -> Iterator[str]:
    """Keys "folder/door-v0_demos.pickle/3" of the episodes in all files of one environment below `root`.

    Files come by path, episodes in the file's order. A file that does not open, or holds something else, gives its own
    path as the one key: reading that key raises the DataError that says why.
    """
    root = Path(root)
    for path in sorted(root.rglob(f"{environment}{_FILE_END}")):
        file = path.relative_to(root).as_posix()
        try:
            count = len(_open_file(root, file))
        except DataError:
            count = 0
        yield from [f"{file}/{number}" for number in range(count)] or [file]


def read_episode(key: str, *, root: str | Path) -> SourceEpisode:
    """One episode, by a key of `find_episodes`. Observation t is from before action t, reward t from after it.

    steps: actions float64 [T, A], fractions of the actuators' ranges; observations float64 [T, O]; reward float64 [T].
    metadata: environment; instruction, a list of at most one sentence. split "".
    Raises DataError naming file, episode and column when the file is damaged, too large, outside `root` by a link, or
    holds something else.
    """
    file, _, number = key.rpartition("/")
    if not number.isdecimal():
        file, number = key, "0"
    demos = _open_file(Path(root), file)
    demo = demos[int(number)] if int(number) < len(demos) else None
    if not isinstance(demo, dict):
        raise DataError("the file holds no such episode", episode=key, field=number)
    environment = Path(file).name.removesuffix(_FILE_END)
    sentence = INSTRUCTIONS.get(environment)
    return SourceEpisode(
        key=key,
        source_path=key,
        steps={ours: _column(demo, name, dimensions, key) for name, (ours, dimensions) in _COLUMNS.items()},
        metadata={"environment": environment, "instruction": [sentence] if sentence else []},
        split="",
    )


def _open_file(root: Path, file: str) -> list:
    path = inside(root, root / file, file)
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", episode=file, field="file") from None
    if stat.st_size > MAX_FILE_BYTES:
        reason = f"{stat.st_size:,} bytes; at most {MAX_FILE_BYTES:,} are read, split the list into several files"
        raise DataError(reason, episode=file, field="file")
    try:
        content = _unpickled(str(path), stat.st_size, stat.st_mtime_ns)
    except DataError as error:
        raise DataError(error.reason, episode=file, field="file") from None
    if not isinstance(content, list) or not content:
        raise DataError("must be a list with a dict for each episode", episode=file, field="file")
    return content


@lru_cache(maxsize=1)
def _unpickled(path: str, size: int, modified_ns: int) -> object:
    """The content of the file as it was at that size and time; the last one read stays in memory."""
    return load_pickle(path)


def _column(demo: dict, name: str, dimensions: int, key: str) -> np.ndarray:
    """float64 [T, ...]. Arrays alone are taken: nested lists of a forged pickle could unfold beyond all memory."""
    values = demo.get(name)
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        raise DataError("must be an array of numbers", episode=key, field=name)
    if values.ndim != dimensions:
        reason = f"must have {dimensions} dimension(s), is {list(values.shape)}"
        raise DataError(reason, episode=key, field=name)
    return values.astype(np.float64)
