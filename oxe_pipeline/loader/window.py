"""Windows of a batch: the history of states and the chunk of actions around each sample's step.

Rows are gathered from the memory-mapped columns, one indexing operation per shard that the batch touches. What a window
lacks at either end of its episode is padded, and masked: history holds the first state; absolute targets hold the last
one, while deltas and velocities are zero, since repeating a motion would be another motion.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from oxe_pipeline.stream.reader import Shard, Stream
from schemas.slots import ACTION_NAMES
from schemas.spec_parts import Channel, slot_indices


@dataclass(frozen=True, slots=True)
class Samples:
    """Where the samples of a batch lie, int64 [B] each; `dataset` indexes the mixture's, `episode` its stream's."""

    g: np.ndarray
    dataset: np.ndarray
    episode: np.ndarray
    step: np.ndarray

    def __len__(self) -> int:
        return len(self.g)

    @classmethod
    def joined(cls, pieces: "Sequence[Samples]") -> "Samples":
        """One after the other."""
        if len(pieces) == 1:
            return pieces[0]
        columns = zip(*((piece.g, piece.dataset, piece.episode, piece.step) for piece in pieces), strict=True)
        return cls(*map(np.concatenate, columns))

    def rows(self, start: int, stop: int) -> "Samples":
        """Samples start .. stop-1, in memory of their own."""
        return Samples(*(column[start:stop].copy() for column in (self.g, self.dataset, self.episode, self.step)))


@dataclass(frozen=True, slots=True)
class DatasetPart:
    """The samples of a batch that come from one data set, those of one shard together.

    int64 [n] each; `here` are their rows of the batch, the rest is theirs. It holds shards open: not to be kept.
    """

    dataset: int
    here: np.ndarray
    episode: np.ndarray
    step: np.ndarray
    first_row: np.ndarray
    length: np.ndarray
    shards: list[tuple[Shard, slice]]
    """Each shard that occurs, with the range of samples it holds."""

    def gather(self, vector: str, steps: np.ndarray) -> np.ndarray:
        """float32 [n, T, width]: the rows at `steps` int64 [n, T] of each sample's episode; width as stored."""
        # `take` does what indexing does, in a third of the time for rows as short as these.
        rows = self.first_row[:, None] + steps
        columns = [shard.vectors[vector] for shard, _ in self.shards]
        if len(columns) == 1:
            return columns[0].take(rows, axis=0)
        gathered = np.empty((*rows.shape, columns[0].shape[1]), np.float32)
        for column, (_, part) in zip(columns, self.shards, strict=True):
            gathered[part] = column.take(rows[part], axis=0)
        return gathered


def dataset_parts(streams: Sequence[Stream], samples: Samples) -> list[DatasetPart]:
    """A part per data set that occurs in the batch, by number; maps the shards that it needs."""
    return [_part(number, streams[number], samples, here) for number, here in _groups(samples.dataset)]


def _part(number: int, stream: Stream, samples: Samples, here: np.ndarray) -> DatasetPart:
    by_shard = _groups(stream.episodes.shard[samples.episode[here]])
    if len(by_shard) > 1:
        here = here[np.concatenate([group for _, group in by_shard])]
    episode = samples.episode[here]
    shards, start = [], 0
    for shard, group in by_shard:
        shards.append((stream.shard(shard), slice(start, start + len(group))))
        start += len(group)
    return DatasetPart(
        dataset=number,
        here=here,
        episode=episode,
        step=samples.step[here],
        first_row=stream.episodes.first_row[episode],
        length=stream.episodes.length[episode],
        shards=shards,
    )


def _groups(keys: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Each distinct key, ascending, with its positions int64 [n], ascending; keys int [B]."""
    order = keys.argsort(kind="stable")
    ordered = keys[order]
    cuts = (np.flatnonzero(ordered[1:] != ordered[:-1]) + 1).tolist()
    edges = [0, *cuts, len(keys)] if len(keys) else []
    return [(int(ordered[a]), order[a:b]) for a, b in pairwise(edges)]


def history_steps(step: np.ndarray, history: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps t-history+1 .. t, clamped to the episode, int64 [B, history], and which of them exist, bool [B,
    history]."""
    steps = step[:, None] + np.arange(1 - history, 1)
    return np.maximum(steps, 0), steps >= 0


def chunk_steps(step: np.ndarray, length: np.ndarray, chunk: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps t .. t+chunk-1, clamped to the episode, int64 [B, chunk], and which of them exist, bool [B, chunk]."""
    steps = step[:, None] + np.arange(chunk)
    return np.minimum(steps, length[:, None] - 1), steps < length[:, None]


def kind_masks(spec: dict) -> tuple[np.ndarray, np.ndarray]:
    """(delta bool [32], velocity bool [32]) of the action slots, from a manifest's spec; the rest is absolute."""
    masks = {kind: np.zeros(len(ACTION_NAMES), bool) for kind in ("delta", "velocity", "absolute")}
    for content in spec.get("action", ()):
        channel = Channel.model_validate(content)
        masks[channel.kind][slot_indices(channel.slots, "action")] = True
    return masks["delta"], masks["velocity"]
