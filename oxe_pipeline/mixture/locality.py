"""A shuffle that stays within a few shards at a time, for streams that do not lie on this host.

A uniform shuffle over a data set touches every shard all the time: right for local disks, ruinous for a cache that is
smaller than the data. Here an epoch takes the shards in a random order, some of them (a pool) at a time, and shuffles
uniformly within the pool. Still a pure function of the draw, still every window exactly once per epoch; the price is
mixing, since episodes of different pools never meet in a batch: `python -m oxe_pipeline.mix` prints how much that is.
"""

from functools import lru_cache

import numpy as np

from oxe_pipeline.mixture.permutation import permute


class PooledWindows:
    """The windows of one data set, `windows_per_shard` int [S] >= 1 in their order, in pools of `pool_shards` >= 1.

    Memory and time per epoch grow with the shards, not with the windows. Pickles as its arguments; safe from threads.
    """

    def __init__(self, windows_per_shard: np.ndarray, pool_shards: int):
        if pool_shards < 1:
            raise ValueError(f"pool_shards must be 1 or more, is {pool_shards}")
        self._arguments = (windows_per_shard, pool_shards)
        self._windows_per_shard = np.asarray(windows_per_shard, np.int64)
        self._first_window = np.cumsum(self._windows_per_shard) - self._windows_per_shard
        self._pool_shards = pool_shards
        self._order_of_epoch = lru_cache(maxsize=4)(self._find_order)

    def __reduce__(self):
        return PooledWindows, self._arguments

    def window(self, draw: np.ndarray, key: int) -> np.ndarray:
        """int64 [N] in range(number of windows): where draws int64 [N] of the epoch of `key` (64 bits) lead.

        A bijection of range(number of windows) for each key.
        """
        shard_of_place, start_of_place, start_of_pool = self._order_of_epoch(key)
        pool = np.searchsorted(start_of_pool, draw, side="right") - 1
        start, size = start_of_pool[pool], np.diff(start_of_pool)[pool]
        pool_key = np.uint64(key) ^ (pool.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        position = start + permute(draw - start, size, pool_key)
        place = np.searchsorted(start_of_place, position, side="right") - 1
        return self._first_window[shard_of_place[place]] + position - start_of_place[place]

    def _find_order(self, key: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(shard of each place [S], first draw of each place [S], first draw of each pool [P + 1] with the end)."""
        shards = len(self._windows_per_shard)
        shard_of_place = permute(np.arange(shards), shards, np.uint64(key))
        ends = np.cumsum(self._windows_per_shard[shard_of_place])
        starts = ends - self._windows_per_shard[shard_of_place]
        return shard_of_place, starts, np.append(starts[:: self._pool_shards], ends[-1])


def windows_per_run(windows: np.ndarray, shard: np.ndarray) -> np.ndarray:
    """int64 [S]: `windows` int [R] of ranges that lie in `shard` int [R], summed over each run of equal shards."""
    if not len(shard):
        return np.zeros(0, np.int64)
    starts = np.flatnonzero(np.append(True, np.diff(shard) != 0))
    return np.add.reduceat(np.asarray(windows, np.int64), starts)
