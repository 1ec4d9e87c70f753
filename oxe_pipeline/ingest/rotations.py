"""Conversions between the ways labs write a rotation, and differences that never wrap. scipy's Rotation does the work.

Every conversion goes through a rotation object, so the result is always a proper rotation: a quaternion is normalised,
a matrix that is slightly off is made orthogonal, in exchange for a few microseconds a step.
"""

import numpy as np

from schemas.operations import Rotation as Form

WIDTHS: dict[str, int] = {
    "rotation_vector": 3,
    "euler_xyz": 3,
    "euler_zyx": 3,
    "euler_zxy": 3,
    "euler_XYZ": 3,
    "quaternion_xyzw": 4,
    "quaternion_wxyz": 4,
    "matrix": 9,
    "rotation_6d": 6,
}
"""Numbers per step of each form."""


def to_rotation(values: np.ndarray, form: Form, *, degrees: bool = False):
    """[T, WIDTHS[form]] -> scipy Rotation of T rotations.

    `degrees` concerns Euler angles and rotation vectors alone. Raises ValueError for a wrong width, and for a
    zero quaternion or a zero 6-D column, which are no rotation.
    """
    from scipy.spatial.transform import Rotation

    values = np.asarray(values, np.float64)
    if values.ndim != 2 or values.shape[1] != WIDTHS[form]:
        raise ValueError(f"{form} takes [T, {WIDTHS[form]}], got {list(values.shape)}")
    if form == "rotation_vector":
        return Rotation.from_rotvec(values, degrees=degrees)
    if form.startswith("euler_"):
        return Rotation.from_euler(form.removeprefix("euler_"), values, degrees=degrees)
    if form == "quaternion_xyzw":
        return Rotation.from_quat(values)
    if form == "quaternion_wxyz":
        return Rotation.from_quat(values, scalar_first=True)
    if form == "matrix":
        return Rotation.from_matrix(values.reshape(-1, 3, 3))
    return Rotation.from_matrix(_orthogonal_from_6d(values))


def from_rotation(rotation, form: Form, *, degrees: bool = False) -> np.ndarray:
    """scipy Rotation of T rotations -> float64 [T, WIDTHS[form]]. Rotation vectors have an angle of at most pi."""
    if form == "rotation_vector":
        return rotation.as_rotvec(degrees=degrees)
    if form.startswith("euler_"):
        return rotation.as_euler(form.removeprefix("euler_"), degrees=degrees)
    if form == "quaternion_xyzw":
        return rotation.as_quat()
    if form == "quaternion_wxyz":
        return rotation.as_quat(scalar_first=True)
    matrices = rotation.as_matrix()
    if form == "matrix":
        return matrices.reshape(-1, 9)
    return np.concatenate([matrices[:, :, 0], matrices[:, :, 1]], axis=1)


def convert_rotation(values: np.ndarray, source: Form, target: Form, *, degrees: bool = False) -> np.ndarray:
    """[T, WIDTHS[source]] -> float64 [T, WIDTHS[target]]; `degrees` says the source's angles are degrees, results are
    radians."""
    return from_rotation(to_rotation(values, source, degrees=degrees), target)


def rotation_difference(later, earlier) -> np.ndarray:
    """The rotation that leads from `earlier` to `later`, in the base frame: later · earlier⁻¹ as rotation vectors
    float64 [T, 3]. Unlike a difference of angles this cannot jump by 2 pi."""
    return (later * earlier.inv()).as_rotvec()


def _orthogonal_from_6d(values: np.ndarray) -> np.ndarray:
    """[T, 6] -> [T, 3, 3] by Gram-Schmidt (Zhou et al. 2019, arXiv 1812.07035)."""
    first, second = values[:, :3], values[:, 3:]
    length = np.linalg.norm(first, axis=1, keepdims=True)
    if np.any(length < 1e-8):
        raise ValueError("rotation_6d: a first column of length zero is no rotation")
    first = first / length
    second = second - np.sum(first * second, axis=1, keepdims=True) * first
    length = np.linalg.norm(second, axis=1, keepdims=True)
    if np.any(length < 1e-8):
        raise ValueError("rotation_6d: the two columns are parallel, which is no rotation")
    second = second / length
    return np.stack([first, second, np.cross(first, second)], axis=2)
