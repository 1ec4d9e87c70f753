"""The order of samples: every window once per epoch, the same for ever, whatever else is in the mixture."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxe_pipeline.mixture.order import Order, shuffled_in_block
from oxe_pipeline.mixture.schedule import BLOCK, Schedule
from oxe_pipeline.mixture.shares import WeightError


def draws_of(order: Order, name: str, samples: int) -> list[tuple[int, int]]:
    """(epoch, window) of one data set's samples, in the order of its own count k."""
    g = np.arange(samples)
    draw = order.locate(g)
    k = order.schedule.locate(np.where(order.schedule.mixes(g), shuffled_in_block(g, order.seed), g))[1]
    mine = np.flatnonzero(draw.dataset == order.schedule.names.index(name))
    mine = mine[np.argsort(k[mine])]
    return list(zip(draw.epoch[mine].tolist(), draw.window[mine].tolist(), strict=True))


@given(
    windows=st.lists(st.integers(1, 40), min_size=3, max_size=3),
    weights=st.lists(st.integers(1, 7), min_size=3, max_size=3),
    seed=st.integers(0, 2**64 - 1),
)
@settings(max_examples=40, deadline=None)
def test_every_window_comes_exactly_once_per_epoch_of_its_data_set(windows, weights, seed):
    order = Order(
        Schedule.from_mapping({0: dict(zip("abc", weights, strict=True)), 320: {"a": 1, "b": 1}}),
        dict(zip("abc", windows, strict=True)),
        seed,
    )
    for name, count in zip("abc", windows, strict=True):
        draws = draws_of(order, name, 50 * BLOCK)
        for epoch in range(len(draws) // count):
            of_epoch = draws[epoch * count : (epoch + 1) * count]
            assert sorted(of_epoch) == [(epoch, window) for window in range(count)]


def test_the_order_never_changes():
    schedule = Schedule.from_mapping({0: {"bridge": 1, "droid": 0.5, "kuka": 0.25}, 64: {"bridge": 1, "kuka": 1}})
    order = Order(schedule, {"bridge": 10, "droid": 1000, "kuka": 7}, seed=17)
    draw = order.locate(np.arange(24))
    assert draw.dataset.tolist() == [0, 0, 1, 0, 0, 1, 0, 1, 2, 0, 0, 1, 2, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0]
    assert draw.epoch.tolist() == [1, 1, 0, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0]
    assert draw.window.tolist() == [
        9, 3, 200, 4, 0, 770, 6, 565, 0, 6, 3, 339, 4, 7, 5, 8, 677, 890, 977, 7, 0, 9, 2, 4,
    ]  # fmt: skip
    far = order.locate([60, 64, 65, 1000, 10**6, 10**12])
    assert far.dataset.tolist() == [0, 0, 2, 0, 0, 0]
    assert far.epoch.tolist() == [2, 4, 2, 50, 50001, 50000000001]
    assert far.window.tolist() == [9, 0, 4, 0, 9, 7]


def test_any_piece_of_the_order_equals_the_whole():
    order = Order(Schedule.from_weights({"a": 1, "b": 2}), {"a": 100, "b": 33}, seed=1)
    whole = order.locate(np.arange(1000))
    for start, stop in ((0, 1), (31, 33), (500, 777)):
        piece = order.locate(np.arange(start, stop))
        assert (piece.dataset == whole.dataset[start:stop]).all()
        assert (piece.window == whole.window[start:stop]).all()
    scattered = np.random.default_rng(0).permutation(1000)
    assert (order.locate(scattered).window == whole.window[scattered]).all()


def test_a_data_sets_windows_keep_their_order_when_another_is_added_or_weights_change():
    alone = Order(Schedule.from_weights({"b": 1}), {"b": 33}, seed=1)
    among = Order(Schedule.from_weights({"a": 3, "b": 2, "c": 1}), {"a": 5, "b": 33, "c": 9}, seed=1)
    draws = draws_of(among, "b", 20 * BLOCK)
    assert draws == draws_of(alone, "b", 20 * BLOCK)[: len(draws)]


def test_a_data_set_alone_has_its_epochs_end_to_end_until_another_joins_it():
    schedule = Schedule.from_weights({"a": 1}).reweighted(64, {"a": 1, "b": 1})
    alone, joined = (Order(s, {"a": 50, "b": 7}, seed=4) for s in (Schedule.from_weights({"a": 1}), schedule))
    draw = alone.locate(np.arange(500))
    assert draw.epoch.tolist() == np.repeat(np.arange(10), 50).tolist()
    assert all(sorted(draw.window[e * 50 : (e + 1) * 50]) == list(range(50)) for e in range(10))
    assert (joined.locate(np.arange(64)).window == draw.window[:64]).all()


def test_epochs_seeds_and_names_give_different_orders():
    def first_epochs(name: str, seed: int) -> list[list[int]]:
        draws = draws_of(Order(Schedule.from_weights({name: 1}), {name: 64}, seed), name, 4 * 64)
        return [[window for epoch, window in draws if epoch == e] for e in range(4)]

    orders = [tuple(o) for name in ("a", "b") for seed in (0, 1) for o in first_epochs(name, seed)]
    assert len(set(orders)) == 16


def test_shares_hold_to_one_sample_at_every_block_boundary():
    order = Order(Schedule.from_weights({"a": 5, "b": 3, "c": 0.7}), {"a": 10, "b": 10, "c": 10}, seed=3)
    dataset = order.locate(np.arange(400 * BLOCK)).dataset
    for number, share in enumerate((5 / 8.7, 3 / 8.7, 0.7 / 8.7)):
        drawn = np.cumsum(dataset == number)[BLOCK - 1 :: BLOCK]
        assert np.abs(drawn - share * BLOCK * np.arange(1, 401)).max() < 1


def test_blocks_are_shuffled_within_themselves_and_each_differently():
    places = shuffled_in_block(np.arange(100 * BLOCK), seed=0).reshape(100, BLOCK)
    assert (np.sort(places, axis=1) == np.arange(100 * BLOCK).reshape(100, BLOCK)).all()
    assert len({tuple(row % BLOCK) for row in places}) == 100


def test_what_cannot_be_drawn_is_refused_before_work_starts():
    schedule = Schedule.from_weights({"a": 1, "b": 1})
    with pytest.raises(WeightError, match="data set b has a weight but no window"):
        Order(schedule, {"a": 1, "b": 0}, seed=0)
    with pytest.raises(WeightError, match="data set 'b', which the mixture does not hold"):
        Order(schedule, {"a": 1}, seed=0)
    with pytest.raises(ValueError, match="sample numbers start at 0, got -1"):
        Order(schedule, {"a": 1, "b": 1}, seed=0).locate([-1])
    Order(Schedule.from_weights({"a": 1, "b": 0}), {"a": 1, "b": 0}, seed=0)
