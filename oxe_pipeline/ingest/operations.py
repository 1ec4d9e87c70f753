"""The arithmetic of column operations: what `schemas/operations.py` names, as pure functions over [T, k] arrays.

Everything is computed in float64 and rounded once, when the slots are filled. Gripper rules reproduce the published
transforms of Octo and OpenVLA exactly (`octo/data/utils/data_utils.py`), so that results can be compared.
"""

import numpy as np

from oxe_pipeline.ingest.rotations import convert_rotation
from schemas import operations as ops


def apply_column(op: ops.ColumnOperation, values: np.ndarray) -> np.ndarray:
    """One operation on one column run: [T, k] -> float64 [T, m].

    Pure and deterministic. Raises ValueError when the values do not fit the operation (width, no rotation).
    """
    match op:
        case ops.Scale():
            return values * np.asarray(op.factor, np.float64) + np.asarray(op.offset, np.float64)
        case ops.Clip():
            return np.clip(values, op.low, op.high)
        case ops.Invert():
            return 1.0 - values
        case ops.BinarizeGripper():
            return binarize_gripper(values, open_above=op.open_above, closed_below=op.closed_below)
        case ops.GripperRelativeToAbsolute():
            return gripper_relative_to_absolute(values, threshold=op.threshold)
        case ops.GripperWidth():
            return np.clip(np.abs(values).sum(axis=1, keepdims=True) / op.open_width, 0.0, 1.0)
        case ops.ConvertRotation():
            return convert_rotation(values, op.from_, op.to, degrees=op.degrees)
        case ops.Constant():
            return np.full(np.shape(values), op.value)
        case ops.Select():
            return select_columns(values, op.columns)
        case ops.AngleToCosSin():
            return np.concatenate([np.cos(values), np.sin(values)], axis=1)
        case ops.Plus():
            raise ValueError("plus needs another column of the source, which only apply_spec has")


def binarize_gripper(values: np.ndarray, *, open_above: float, closed_below: float) -> np.ndarray:
    """[T, k] continuous -> [T, k] of 1 (open) and 0 (closed).

    A value between the thresholds takes the state reached afterwards; a tail that never settles takes the raw last
    value, as published. A NaN stays one, so that the checks meet it.
    """
    result = np.empty_like(values, dtype=np.float64)
    state = np.array(values[-1], np.float64)
    for step in range(len(values) - 1, -1, -1):
        state = np.where(values[step] > open_above, 1.0, np.where(values[step] < closed_below, 0.0, state))
        result[step] = state
    return np.where(np.isnan(values), np.nan, result)


def gripper_relative_to_absolute(values: np.ndarray, *, threshold: float) -> np.ndarray:
    """[T, k] commands, above `threshold` close, below its negative open, between keep -> [T, k], 1 open or 0 closed.

    Before the first command the gripper is taken to be in the opposite state (the first command is not redundant);
    without any command it is open. This is RT-1's rule. A NaN stays one.
    """
    commands = np.where(values < -threshold, 1.0, np.where(values > threshold, -1.0, 0.0))
    first = np.argmax(commands != 0, axis=0)
    start = -np.take_along_axis(commands, first[None], axis=0)[0]
    state = np.where(start == 0, 1.0, start)
    result = np.empty_like(commands)
    for step in range(len(commands)):
        state = np.where(commands[step] == 0, state, commands[step])
        result[step] = state
    return np.where(np.isnan(values), np.nan, result / 2 + 0.5)


def select_columns(values: np.ndarray, columns: list[int]) -> np.ndarray:
    """[T, k] -> [T, len(columns)]; ValueError for a column that is not there."""
    width = values.shape[1]
    if not all(-width <= column < width for column in columns):
        raise ValueError(f"select: columns {columns} of {width}; name columns that are there")
    return values[:, columns]
