"""Which episodes, steps and rows of a stream a report looks at: a pure function of the stream and a seed.

A data set can have thousands of shards, and each shard of a remote stream is downloaded whole, so only a few are
opened, spread evenly over the list. What is traded away: episodes of one shard may come from one place or day, and a
report of eight shards has seen eight such places.
"""

from dataclasses import dataclass

import numpy as np

from oxe_pipeline.mixture.counter_rng import name_key
from oxe_pipeline.mixture.permutation import permute
from oxe_pipeline.stream.reader import Stream


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """What a report looks at; arrays are int64 positions in the stream's own lists."""

    seed: int
    shards: np.ndarray
    """Opened shards, ascending."""
    episodes: np.ndarray
    """All episodes of these shards, in random order: a prefix of it is a random sample."""


def select(stream: Stream, *, seed: int, shards: int) -> Selection:
    """At most `shards` shards of the stream, spread evenly, and their episodes in a random order."""
    chosen = spread(len(stream.manifest.shards), shards)
    candidates = np.flatnonzero(np.isin(stream.episodes.shard, chosen))
    order = permute(np.arange(len(candidates)), max(1, len(candidates)), _key(seed, "episodes"))
    return Selection(seed=seed, shards=chosen, episodes=candidates[order])


def spread(count: int, most: int) -> np.ndarray:
    """int64 [min(count, most)]: that many of range(count), ascending, each from the middle of an equal part."""
    taken = min(count, most)
    return (2 * np.arange(taken, dtype=np.int64) + 1) * count // max(1, 2 * taken)


def film_steps(length: int, frames: int) -> np.ndarray:
    """int64 [min(length, frames)]: steps of an episode from the first to the last, evenly spaced."""
    return np.linspace(0, length - 1, min(length, frames)).round().astype(np.int64)


def random_steps(stream: Stream, episodes: np.ndarray, *, seed: int) -> np.ndarray:
    """int64 [n]: one step of each episode, uniform over its length; an episode's step does not depend on the others."""
    if not len(episodes):
        return np.zeros(0, np.int64)
    keys = np.uint64(_key(seed, "steps")) + episodes.astype(np.uint64)
    return permute(0, stream.episodes.length[episodes], keys)


def sampled_rows(stream: Stream, selection: Selection, *, most: int) -> dict[int, np.ndarray]:
    """Shard -> rows int64, ascending, evenly spaced over the train steps of the selected shards; `most` in all.

    Statistics are those of the train split, so what is drawn beside them is too; a stream without that split gives
    rows of all.
    """
    episodes = stream.episodes
    counted = episodes.split_is("train")
    if not counted.any():
        counted = np.ones(len(episodes), bool)
    rows_of = {}
    for shard in selection.shards.tolist():
        inside = np.flatnonzero((episodes.shard == shard) & counted)
        runs = zip(episodes.first_row[inside].tolist(), episodes.length[inside].tolist(), strict=True)
        rows_of[shard] = np.concatenate([np.zeros(0, np.int64), *(np.arange(a, a + n) for a, n in runs)])
    total = sum(map(len, rows_of.values()))
    kept = spread(total, most)
    bounds = np.cumsum([0, *map(len, rows_of.values())])
    return {
        shard: rows[kept[(kept >= start) & (kept < start + len(rows))] - start]
        for (shard, rows), start in zip(rows_of.items(), bounds[:-1].tolist(), strict=True)
    }


def _key(seed: int, purpose: str) -> int:
    return name_key(f"inspect {purpose} {seed}")
