"""Shuffling within pools of shards: a permutation like any other, that keeps to few shards at a time."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxe_pipeline.mixture.locality import PooledWindows, windows_per_run
from oxe_pipeline.mixture.order import Order
from oxe_pipeline.mixture.schedule import Schedule

SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=12)


@given(SIZES, st.integers(1, 15), st.integers(0, 2**64 - 1))
def test_every_window_comes_exactly_once_per_epoch(windows_per_shard, pool_shards, key):
    total = sum(windows_per_shard)
    drawn = PooledWindows(np.array(windows_per_shard), pool_shards).window(np.arange(total), key)
    assert sorted(drawn.tolist()) == list(range(total))


@given(SIZES, st.integers(1, 15), st.integers(0, 2**64 - 1))
def test_shards_come_in_pools_one_after_the_other(windows_per_shard, pool_shards, key):
    drawn = PooledWindows(np.array(windows_per_shard), pool_shards).window(np.arange(sum(windows_per_shard)), key)
    shard = np.searchsorted(np.cumsum(windows_per_shard), drawn, side="right")
    pools, start = [], 0
    while start < len(shard):
        pool = set(shard[start:].tolist()[:1])
        end = start
        # A pool is over when all windows of its shards have come; until then at most `pool_shards` shards are seen.
        while end - start < sum(windows_per_shard[s] for s in pool):
            pool.add(int(shard[end]))
            end += 1
        assert set(shard[start:end].tolist()) == pool
        pools.append(pool)
        start = end
    assert all(len(pool) <= pool_shards for pool in pools)


def test_epochs_take_shards_and_windows_in_other_orders_and_pools_are_shuffled_within():
    windows = PooledWindows(np.full(64, 50), 4)
    first, second = windows.window(np.arange(3200), 1), windows.window(np.arange(3200), 2)
    assert (first == second).sum() < 20
    shard_of_first_pool = first[:200] // 50
    assert np.count_nonzero(np.diff(shard_of_first_pool)) > 120


def test_the_order_never_changes():
    windows = PooledWindows(np.array([3, 5, 2, 4]), 2)
    assert windows.window(np.arange(14), 7).tolist() == [5, 6, 4, 8, 7, 3, 9, 2, 13, 10, 0, 1, 12, 11]


def test_a_pickled_order_is_the_same():
    windows = PooledWindows(np.array([3, 5, 2, 4]), 2)
    assert (pickle.loads(pickle.dumps(windows)).window(np.arange(14), 7) == windows.window(np.arange(14), 7)).all()


def test_a_pool_of_no_shard_is_refused():
    with pytest.raises(ValueError, match="pool_shards must be 1 or more, is 0"):
        PooledWindows(np.array([3]), 0)


def test_ranges_are_summed_over_runs_of_one_shard():
    assert windows_per_run(np.array([2, 3, 1, 4]), np.array([0, 0, 1, 3])).tolist() == [5, 1, 4]
    assert windows_per_run(np.zeros(0), np.zeros(0)).tolist() == []


def test_one_data_set_may_be_pooled_while_another_is_shuffled_uniformly():
    steps = {"far": 100, "near": 60}
    schedule = Schedule.from_weights({"far": 1, "near": 1})
    uniform = Order(schedule, steps, seed=3)
    mixed = Order(schedule, steps, seed=3, pools={"far": PooledWindows(np.full(10, 10), 2)})
    g = np.arange(320)
    before, after = uniform.locate(g), mixed.locate(g)
    near = before.dataset == 1
    assert (after.dataset == before.dataset).all() and (after.window[near] == before.window[near]).all()
    far = after.window[~near & (after.epoch == 0)]
    assert sorted(far.tolist()) == list(range(100))
    assert len(np.unique(far[:18] // 10)) <= 3
