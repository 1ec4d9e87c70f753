"""Rotation matrices and turns from the state's 6-D orientations, in numpy alone.

Audits compute them for thousands of short episodes, where one call into scipy costs more than the arithmetic. Traded
away: exactness of turns near half a turn, which no hand makes in a step.
"""

from dataclasses import dataclass

import numpy as np

from oxe_pipeline.episode import Episode
from schemas.slots import STATE_GROUPS

ARMS = ("arm0", "arm1")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Turning:
    """How one hand stands and turns; several audits ask for it."""

    matrices: np.ndarray
    """float64 [T, 3, 3], see orientations."""
    turned: np.ndarray
    """float64 [T-1, 3] in rad, see turns."""


def turnings(episode: Episode) -> dict[str, Turning]:
    """Arm to its Turning, of the arms whose orientation the state holds."""
    found = {arm: matrices for arm in ARMS if (matrices := orientations(episode, arm)) is not None}
    return {arm: Turning(matrices=matrices, turned=turns(matrices)) for arm, matrices in found.items()}


def orientations(episode: Episode, arm: str) -> np.ndarray | None:
    """Rotation matrices float64 [T, 3, 3] of an arm's hand; None where the state has none."""
    columns = list(STATE_GROUPS[f"{arm}.eef_rotation_6d"].indices)
    if not episode.state_mask[columns].all():
        return None
    values = episode.state[:, columns].astype(np.float64)
    first = _unit(values[:, :3])
    second = _unit(values[:, 3:] - (first * values[:, 3:]).sum(axis=1, keepdims=True) * first)
    third = np.empty_like(first)
    third[:, 0] = first[:, 1] * second[:, 2] - first[:, 2] * second[:, 1]
    third[:, 1] = first[:, 2] * second[:, 0] - first[:, 0] * second[:, 2]
    third[:, 2] = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    return np.stack([first, second, third], axis=2)


def turns(matrices: np.ndarray) -> np.ndarray:
    """Rotation vectors float64 [T-1, 3] in rad from each orientation to the next, in the base frame: R[t+1]·R[t]ᵀ."""
    difference = matrices[1:] @ np.swapaxes(matrices[:-1], 1, 2)
    axis = np.stack(
        [
            difference[:, 2, 1] - difference[:, 1, 2],
            difference[:, 0, 2] - difference[:, 2, 0],
            difference[:, 1, 0] - difference[:, 0, 1],
        ],
        axis=1,
    )
    cosine = (np.trace(difference, axis1=1, axis2=2) - 1) / 2
    angle = np.arctan2(np.sqrt(np.square(axis).sum(axis=1)) / 2, cosine)
    return _unit(axis) * angle[:, None]


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.sqrt(np.square(vectors).sum(axis=1, keepdims=True))
    return vectors / np.maximum(length, 1e-12)
