"""Commands of AgiBot World, one for every row: the recorder stores them only for rows in which the operator sent some,
with an `index` of those rows beside them.

What the robot was told in between is not known. Filled in is what makes it do what it did: the state reached next (as
GO-1, the authors' own model, is trained), the gripper's last command, a base that stands.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from oxe_pipeline.episode import DataError

FILLED: Mapping[str, Literal["next state", "hold", "zero"]] = {
    "action/joint/position": "next state",
    "action/end/position": "next state",
    "action/end/orientation": "next state",
    "action/effector/position": "hold",
    "action/robot/velocity": "zero",
}
BASE_WIDTH = 2
"""Numbers of the base's speed where not a single one was recorded: forward, turning."""


def commands_of_every_row(found: Mapping[str, np.ndarray], length: int, episode: str) -> dict[str, np.ndarray]:
    """Columns "action/..." with `length` rows each, out of all arrays of the file by their path.

    Those in FILLED are filled where commands are absent, or left out where nothing says with what (no command of a
    gripper at all, no state of the same width); others are left out unless they have every row. Raises DataError for
    more commands than rows, and for an index that does not fit.
    """
    commands = {}
    for column, values in found.items():
        if not column.startswith("action/") or column.endswith("/index"):
            continue
        if len(values) == length:
            commands[column] = values
        elif column in FILLED:
            rows = _rows(found, column, length, episode)
            filled = _filled(values, rows, found.get(column.replace("action", "state", 1)), length, FILLED[column])
            if filled is not None:
                commands[column] = filled
    return commands


def _rows(found: Mapping[str, np.ndarray], column: str, length: int, episode: str) -> np.ndarray:
    """Ascending numbers of the rows that have a command of this column."""
    count = len(found[column])
    if count > length:
        raise DataError(f"{count} commands for {length} states: corrupt", episode=episode, field=column)
    own = found.get(f"{column.rpartition('/')[0]}/index", np.zeros(0, np.int64))
    # The index of the end effectors is often empty, and theirs is that of the joints.
    index = own if len(own) or "/end/" not in column else found.get("action/joint/index", own)
    if not count:
        return np.zeros(0, np.int64)
    if index.shape != (count,) or not np.issubdtype(index.dtype, np.integer):
        raise DataError(f"{count} commands with an index {list(index.shape)}", episode=episode, field=column)
    if index.min() < 0 or index.max() >= length or (np.diff(index.astype(np.int64)) <= 0).any():
        reason = f"commands at rows {index.min()} to {index.max()}, ascending or not, of {length} states"
        raise DataError(reason, episode=episode, field=column)
    return index.astype(np.int64)


def _filled(values: np.ndarray, rows: np.ndarray, state: np.ndarray | None, length: int, how: str) -> np.ndarray | None:
    if how == "hold":
        latest = np.searchsorted(rows, np.arange(length), side="right").clip(1) - 1
        return values[latest] if len(values) else None
    if how == "zero":
        full = np.zeros((length, *(values.shape[1:] if len(values) else (BASE_WIDTH,))))
    elif state is None or len(state) != length or (len(values) and values.shape[1:] != state.shape[1:]):
        return None
    else:
        full = np.concatenate([state[1:], state[-1:]]).astype(np.float64)
    if len(values):
        full[rows] = values
    return full
