"""The published rules written out in plain numpy, one number at a time where that is clearer: the reference against
which specs are compared. Nothing here uses the code under test, nor scipy.

Columns are [T, k]; `numbers` makes a source's column one. Gripper rules follow octo/data/utils/data_utils.py.
"""

import numpy as np


def numbers(column) -> np.ndarray:
    """A step column as float64 [T, k]; a scalar a step is one wide."""
    return np.asarray(column, np.float64).reshape(len(column), -1)


def zeros(like, width: int = 3) -> np.ndarray:
    return np.zeros((len(like), width))


def beside(*columns) -> np.ndarray:
    """Columns next to each other: [T, sum of widths]."""
    return np.concatenate([numbers(column) for column in columns], axis=1)


def inverted(values) -> np.ndarray:
    return 1 - numbers(values)


def clipped(values) -> np.ndarray:
    return np.clip(numbers(values), 0, 1)


def clipped_and_inverted(values) -> np.ndarray:
    return 1 - clipped(values)


def integrated(commands) -> np.ndarray:
    """RT-1's rule: +1 close, -1 open, between them keep; before the first command its opposite; 1 open, 0 closed."""
    commands = numbers(commands)[:, 0]
    spoken = [command for command in commands if abs(command) > 0.1]
    is_open = not spoken or spoken[0] > 0
    states = []
    for command in commands:
        if command > 0.1:
            is_open = False
        elif command < -0.1:
            is_open = True
        states.append([float(is_open)])
    return np.array(states)


def binarized(values) -> np.ndarray:
    """Above 0.95 open, below 0.05 closed; between, what is reached next; a tail that never settles keeps the last."""
    values = numbers(values)[:, 0]
    result = []
    for step in range(len(values)):
        decided = [1.0 if v > 0.95 else 0.0 for v in values[step:] if v > 0.95 or v < 0.05]
        result.append([decided[0] if decided else values[-1]])
    return np.array(result)


def rotation_x(angle: float) -> np.ndarray:
    return np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])


def rotation_y(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])


def rotation_z(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])


def from_roll_pitch_yaw(angles) -> np.ndarray:
    """[T, 3] about fixed axes -> matrices [T, 3, 3]: Rz·Ry·Rx."""
    return np.stack([rotation_z(yaw) @ rotation_y(pitch) @ rotation_x(roll) for roll, pitch, yaw in numbers(angles)])


def from_yaw_pitch_roll(angles) -> np.ndarray:
    """The same rotations written down in the other order."""
    return from_roll_pitch_yaw(numbers(angles)[:, ::-1])


def from_zxy(angles) -> np.ndarray:
    """scipy's as_euler("zxy"): first about the fixed z, then x, then y."""
    return np.stack([rotation_y(c) @ rotation_x(b) @ rotation_z(a) for a, b, c in numbers(angles)])


def from_quaternions(xyzw) -> np.ndarray:
    """[T, 4] of any length but zero -> matrices."""
    matrices = []
    for quaternion in numbers(xyzw):
        x, y, z, w = quaternion / np.linalg.norm(quaternion)
        vector, cross = np.array([x, y, z]), np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        matrices.append((w * w - vector @ vector) * np.eye(3) + 2 * np.outer(vector, vector) + 2 * w * cross)
    return np.stack(matrices)


def scalar_last(wxyz) -> np.ndarray:
    return np.roll(numbers(wxyz), -1, axis=1)


def from_rotation_vectors(vectors) -> np.ndarray:
    """Rodrigues' formula."""
    matrices = []
    for vector in numbers(vectors):
        angle = np.linalg.norm(vector)
        x, y, z = vector / angle if angle else vector
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        matrices.append(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)
    return np.stack(matrices)


def rotation_vectors(matrices) -> np.ndarray:
    """[T, 3, 3] -> [T, 3]; not for turns of exactly pi."""
    vectors = []
    for matrix in matrices:
        angle = np.arccos(np.clip((np.trace(matrix) - 1) / 2, -1, 1))
        axis = np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]])
        vectors.append(axis / 2 if angle < 1e-6 else axis / (2 * np.sin(angle)) * angle)
    return np.array(vectors)


def turn(later, earlier) -> np.ndarray:
    """The rotation in the base frame from one run of matrices to another, as rotation vectors."""
    return rotation_vectors(np.einsum("tij,tkj->tik", later, earlier))


def six_d(matrices) -> np.ndarray:
    """First two columns of each matrix, end to end."""
    return np.concatenate([matrices[:, :, 0], matrices[:, :, 1]], axis=1)


def euler_of(matrices) -> np.ndarray:
    """Roll, pitch, yaw about fixed axes, away from pitch = ±pi/2."""
    roll, yaw = np.arctan2(matrices[:, 2, 1], matrices[:, 2, 2]), np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0])
    return np.stack([roll, -np.arcsin(np.clip(matrices[:, 2, 0], -1, 1)), yaw], axis=1)


def small_numbers(rng, steps: int, width: int, **columns) -> np.ndarray:
    """Random numbers [steps, width] with single columns given, e.g. c6=..."""
    values = rng.normal(0, 0.3, (steps, width))
    for name, column in columns.items():
        values[:, int(name.removeprefix("c"))] = column
    return values


def unit_quaternions(rng, steps: int) -> np.ndarray:
    """Random rotations as quaternions [T, 4], whatever their order."""
    values = rng.normal(size=(steps, 4))
    return values / np.linalg.norm(values, axis=1, keepdims=True)
