"""Windows of a batch: the history of states and the chunk of actions around each sample's step.

Rows are gathered from the memory-mapped columns, one indexing operation per shard that the batch touches. What a window
lacks at either end of its episode is padded, and masked: history holds the first state; absolute targets hold the last
one, while deltas and velocities are zero, since repeating a motion would be another motion.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from oxe_pipeline.stream.reader import Stream
from schemas.slots import ACTION_NAMES
from schemas.spec import Channel, slot_indices


@dataclass(frozen=True, slots=True)
class Samples:
    """Where the samples of a batch lie, int64 [B] each; `dataset` indexes the mixture's, `episode` its stream's."""

    g: np.ndarray
    dataset: np.ndarray
    episode: np.ndarray
    step: np.ndarray

    def __len__(self) -> int:
        return len(self.g)

    def by_dataset(self) -> Iterator[tuple[int, np.ndarray]]:
        """Each data set that occurs, with the rows int64 [n] of the batch that come from it."""
        for number in np.unique(self.dataset).tolist():
            yield number, np.flatnonzero(self.dataset == number)


def history_steps(step: np.ndarray, history: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps t-history+1 .. t, clamped to the episode, int64 [B, history], and which of them exist, bool [B,
    history]."""
    steps = step[:, None] + np.arange(1 - history, 1)
    return np.maximum(steps, 0), steps >= 0


def chunk_steps(step: np.ndarray, length: np.ndarray, chunk: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps t .. t+chunk-1, clamped to the episode, int64 [B, chunk], and which of them exist, bool [B, chunk]."""
    steps = step[:, None] + np.arange(chunk)
    return np.minimum(steps, length[:, None] - 1), steps < length[:, None]


def gather(stream: Stream, vector: str, episode: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """float32 [B, T, width]: the rows `steps` int64 [B, T] of episodes `episode` int64 [B]; width as stored."""
    shards = stream.episodes.shard[episode]
    rows = stream.episodes.first_row[episode][:, None] + steps
    distinct = np.unique(shards)
    if len(distinct) == 1:
        return stream.shard(int(distinct[0])).vectors[vector][rows]
    width = stream.shard(int(distinct[0])).vectors[vector].shape[1]
    gathered = np.empty((*rows.shape, width), np.float32)
    for number in distinct:
        here = np.flatnonzero(shards == number)
        gathered[here] = stream.shard(int(number)).vectors[vector][rows[here]]
    return gathered


def kind_masks(spec: dict) -> tuple[np.ndarray, np.ndarray]:
    """(delta bool [32], velocity bool [32]) of the action slots, from a manifest's spec; the rest is absolute."""
    masks = {kind: np.zeros(len(ACTION_NAMES), bool) for kind in ("delta", "velocity", "absolute")}
    for content in spec.get("action", ()):
        channel = Channel.model_validate(content)
        masks[channel.kind][slot_indices(channel.slots, "action")] = True
    return masks["delta"], masks["velocity"]
