"""Audit of end-effector actions: does the hand go where the action says, when it says, and as far as it says?

The displacement between neighbouring states is what was achieved. Each action is compared with the displacements of
the steps around it (lag -3 to 3), as measured and turned into the hand's own axes, with every exchange and reversal of
axes. Kept are sums of products alone, so one pass is enough; motion_verdicts.py judges them. Traded away: a robot that
hardly follows its commands, or hardly moves, cannot be judged.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from oxe_pipeline.episode import Episode
from oxe_pipeline.quality.orientation import ARMS, Turning
from oxe_pipeline.quality.tally import Sums
from schemas.slots import ACTION_GROUPS, STATE_GROUPS

AUDIT, FLAG = "motion", "outlier"
LAGS = tuple(range(-3, 4))
"""Steps by which the displacement comes later than its action; 0 is right: action t leads from state t to state t+1."""
FRAMES = ("base", "tool")
MIN_STEPS = len(LAGS)
"""Of an episode: with fewer, the outermost lags have next to no pair."""
SPIKE = 20.0
"""A step this many times longer than the episode's median step is a tracking error or a reset and takes no part."""
HAND_M_PER_S = 5.0
"""Arms are built for 1 to 3 m/s, and demonstrations stay far below."""
MARGIN = 0.15
"""By which another frame or order of axes must match better than the declared one to be believed."""
ACTIVE = 0.05
"""An axis with less than this share of the strongest axis's amplitude says nothing."""

_PERMUTATIONS = [
    (order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)
]
"""Every way to exchange and reverse three axes; the first changes nothing."""
_ORDER = np.array([order for order, _ in _PERMUTATIONS])
_SIGN = np.array([signs for _, signs in _PERMUTATIONS])


def measure(episode: Episode, turnings: Mapping[str, Turning]) -> dict[str, Sums]:
    """Slot group -> sums over the episode's pairs of action a and displacement m: `cross` float64 [frames, lags, 3, 3]
    of a·mᵀ, `action` and `motion` float64 [frames, lags, 3] of squares, `pairs` int [lags]."""
    found: dict[str, Sums] = {}
    if len(episode) < MIN_STEPS:
        return found
    for arm in ARMS:
        turning = turnings.get(arm)
        motions = {"eef_position_delta": _displacement(episode, arm)}
        if turning is not None:
            motions["eef_rotation_delta"] = turning.turned
        for name, motion in motions.items():
            columns = list(ACTION_GROUPS[f"{arm}.{name}"].indices)
            if motion is None or episode.action_mask[columns].sum() < 2:
                continue
            action = episode.action[:, columns].astype(np.float64)
            found[f"{arm}.{name}"] = _sums(action, motion, None if turning is None else turning.matrices[:-1])
    return found


def _displacement(episode: Episode, arm: str) -> np.ndarray | None:
    """float64 [T-1, 3] in metres, 0 along an axis that is not recorded; None with fewer than two axes."""
    columns = list(STATE_GROUPS[f"{arm}.eef_position"].indices)
    if episode.state_mask[columns].sum() < 2:
        return None
    return np.diff(episode.state[:, columns].astype(np.float64), axis=0)


def _sums(action: np.ndarray, motion: np.ndarray, matrices: np.ndarray | None) -> Sums:
    in_tool = np.zeros_like(motion) if matrices is None else np.einsum("tji,tj->ti", matrices, motion)
    moved = np.stack([motion, in_tool])
    later = np.arange(len(action)) + np.array(LAGS)[:, None]
    inside = (later >= 0) & (later < len(motion))
    later = np.where(inside, later, 0)
    counted = (inside & _usual(action) & _usual(motion)[later])[..., None]
    acted, reached = np.where(counted, action, 0.0), np.where(counted, moved[:, later], 0.0)
    return {
        "cross": np.swapaxes(acted, 1, 2) @ reached,
        "action": np.broadcast_to(np.square(acted).sum(axis=1), (len(FRAMES), len(LAGS), 3)),
        "motion": np.square(reached).sum(axis=2),
        "pairs": (acted != 0).any(axis=2).sum(axis=1),
    }


def _usual(values: np.ndarray) -> np.ndarray:
    """bool [T]: false for a spike."""
    length = np.sqrt(np.square(values).sum(axis=1))
    moving = np.sort(length[length > 0])
    return length <= SPIKE * moving[len(moving) // 2] if len(moving) else np.ones(len(values), bool)


def flags(episode: Episode) -> set[str]:
    """{"outlier"} for an episode in which the hand is told to move, or moves, in one step SPIKE times further than in
    its median step and faster than HAND_M_PER_S."""
    limit_m2 = (HAND_M_PER_S / episode.control_hz) ** 2
    for arm in ARMS:
        told = list(ACTION_GROUPS[f"{arm}.eef_position_delta"].indices)
        motions = [episode.action[:, told]] if episode.action_mask[told].any() else []
        for motion in (*motions, _displacement(episode, arm)):
            if motion is None or not len(motion):
                continue
            far = np.einsum("ti,ti->t", motion, motion) > limit_m2
            if far.any() and (far & ~_usual(motion)).any():
                return {FLAG}
    return set()


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """How action and displacement fit best."""

    frame: str
    order: tuple[int, ...]
    """Axis i of the action is axis order[i] of the displacement ..."""
    signs: tuple[int, ...]
    """... times signs[i]."""
    lag: int
    score: float
    """Mean correlation over the active axes, at most 1."""
    score_as_declared: float
    """The same for unchanged axes in the base frame."""
    score_at_lag_0: float
    gain: float
    """Displacement per unit of action."""

    @property
    def is_identity(self) -> bool:
        return self.order == (0, 1, 2) and self.signs == (1, 1, 1)


def best_match(sums: Sums) -> Match:
    """The match of tallied sums. Unchanged axes in the base frame are preferred, then unchanged ones in the tool's,
    then exchanged ones; each must be better by MARGIN than all before it."""
    scores = _scores(sums)
    chosen, best = (0, 0), float(scores[0, :, 0].max())
    rivals = [(1, slice(0, 1)), (0, slice(1, None)), (1, slice(1, None))]
    for frame, others in rivals:
        rival = scores[frame, :, others].max(axis=0)
        if rival.max() > best + MARGIN:
            best = float(rival.max())
            chosen = (frame, int(rival.argmax()) + (others.start or 0))
    frame, way = chosen
    number = int(scores[frame, :, way].argmax())
    order, signs = _PERMUTATIONS[way]
    active = _active(sums["action"][frame, number])
    matched = sum(signs[i] * sums["cross"][frame, number, i, order[i]] for i in np.flatnonzero(active))
    told = sums["action"][frame, number][active].sum()
    return Match(
        frame=FRAMES[frame],
        order=order,
        signs=signs,
        lag=LAGS[number],
        score=float(scores[frame, number, way]),
        score_as_declared=float(scores[0, number, 0]),
        score_at_lag_0=float(scores[frame, LAGS.index(0), way]),
        gain=float(matched / told) if told > 0 else 0.0,
    )


def _scores(sums: Sums) -> np.ndarray:
    """float64 [frames, lags, permutations]: mean correlation over the active axes."""
    size = np.sqrt(sums["action"][..., :, None] * sums["motion"][..., None, :])
    correlation = np.divide(sums["cross"], size, out=np.zeros_like(sums["cross"]), where=size > 0)
    active = _active(sums["action"])[..., :, None] & _active(sums["motion"])[..., None, :]
    correlation = np.where(active, correlation, 0.0)
    matched = (correlation[..., np.arange(3), _ORDER] * _SIGN).sum(axis=-1)
    return matched / np.maximum(_active(sums["action"]).sum(axis=-1), 1)[..., None]


def _active(squares: np.ndarray) -> np.ndarray:
    strongest = squares.max(axis=-1, keepdims=True)
    return (squares > 0) & (squares >= ACTIVE**2 * strongest)
