"""Chunks by seconds: the actions of data sets recorded at different rates, brought to one time base.

A chunk of N actions spans `chunk_s` seconds from the sample's step in N equal intervals. Action t of the source holds
during [t, t+1) source periods. Over an interval a delta is the sum of the source's deltas, a step that is cut counting
by its share; a velocity is the mean; an absolute target is the last one commanded before the interval ends. Where the
interval equals the source's period all three give the source's own actions back. Rotation vectors are summed like the
rest: right to first order for the small turns of one interval.

What it trades away: at a lower rate than the source's, motion within an interval; at a higher one, nothing is invented,
a step's motion is spread evenly.
"""

import numpy as np

_ROUNDING = 1e-6
"""Boundaries this near to a whole source step count as on it: 0.1 s at 50 Hz is five steps, not 5.0000000000000004."""


def interval_edges(control_hz: np.ndarray, chunk: int, chunk_s: float) -> np.ndarray:
    """float64 [B, chunk+1]: where the intervals begin and end, in source steps after the sample's own."""
    edges = np.asarray(control_hz, np.float64)[:, None] * np.linspace(0.0, chunk_s, chunk + 1)
    nearest = np.rint(edges)
    return np.where(np.abs(edges - nearest) < _ROUNDING, nearest, edges)


def steps_needed(edges: np.ndarray) -> int:
    """How many source steps from the sample's own the longest chunk of the batch touches."""
    return int(np.ceil(edges[:, -1].max()))


def resample(
    actions: np.ndarray, remaining: np.ndarray, edges: np.ndarray, delta: np.ndarray, velocity: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Source actions to one action per interval: (float32 [B, chunk, A], mask bool [B, chunk]).

    `actions` float32 [B, n, A] are the source's from the sample's step on, n >= steps_needed(edges), padded past the
    episode's end; `remaining` int64 [B] >= 1 how many of them exist; `edges` from interval_edges; `delta` and
    `velocity` bool [A]. The mask is true where the whole interval lies inside the episode; past the end motion is
    zero and targets hold.
    """
    exists = np.arange(actions.shape[1]) < remaining[:, None]
    moving = np.where(exists[..., None], actions, 0).astype(np.float64)
    distance = np.concatenate([np.zeros_like(moving[:, :1]), np.cumsum(moving, axis=1)], axis=1)
    travelled = np.diff(_interpolate(distance, edges), axis=1)
    width = np.diff(edges, axis=1)[..., None]
    last_commanded = np.ceil(edges[:, 1:]).astype(np.int64) - 1
    held = _rows(actions, np.minimum(last_commanded, remaining[:, None] - 1))
    moved = np.where(velocity, travelled / width, travelled)
    values = np.where(delta | velocity, moved, held)
    return values.astype(np.float32), edges[:, 1:] <= remaining[:, None]


def _rows(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    return np.take_along_axis(values, index[..., None], axis=1)


def _interpolate(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Linear interpolation of [B, n+1, A], given at 0 .. n, at float64 [B, K] within 0 .. n."""
    lower = np.minimum(np.floor(at).astype(np.int64), values.shape[1] - 2)
    share = (at - lower)[..., None]
    return _rows(values, lower) * (1 - share) + _rows(values, lower + 1) * share
