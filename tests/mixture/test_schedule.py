"""Weights that change during a run: counts go on, nothing already drawn changes."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxe_pipeline.mixture.schedule import BLOCK, Schedule, block_start, parse_schedule, parse_weights
from oxe_pipeline.mixture.shares import WeightError

WEIGHTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 9), min_size=1).filter(lambda w: any(w.values()))


@given(st.dictionaries(st.integers(1, 40), WEIGHTS, max_size=4), WEIGHTS)
@settings(max_examples=50)
def test_each_data_set_counts_on_across_changes_of_weights(changes, first):
    schedule = Schedule.from_mapping({0: first, **{block * BLOCK: weights for block, weights in changes.items()}})
    total = 45 * BLOCK
    dataset, k = schedule.locate(np.arange(total))
    for number in range(len(schedule.names)):
        assert k[dataset == number].tolist() == list(range((dataset == number).sum()))
    for prefix in range(0, total, BLOCK):
        expected = np.bincount(dataset[:prefix], minlength=len(schedule.names))
        assert schedule.drawn_before(prefix).tolist() == expected.tolist()


def worst_error(weights: list[dict[str, int]], length: int) -> float:
    """Largest |samples drawn - samples due| of any data set after any block; `length` samples per entry."""
    schedule = Schedule.from_mapping({number * length: of_part for number, of_part in enumerate(weights)})
    shares = np.array([[part.get(name, 0) / sum(part.values()) for name in schedule.names] for part in weights])
    due = np.repeat(shares, length, axis=0).cumsum(axis=0)
    dataset, _ = schedule.locate(np.arange(len(due)))
    drawn = (dataset[:, None] == np.arange(len(schedule.names))).cumsum(axis=0)
    return float(np.abs(drawn - due)[BLOCK - 1 :: BLOCK].max())


@given(
    st.lists(st.tuples(*[st.integers(1, 9)] * 4), min_size=1, max_size=20),
    st.integers(1, 5),
    st.integers(2, 4),
)
@settings(max_examples=40, deadline=None)
def test_shares_hold_to_one_sample_over_any_number_of_changes(weights, blocks, datasets):
    parts = [dict(zip("abcd"[:datasets], of_part, strict=False)) for of_part in weights]
    assert worst_error(parts, blocks * BLOCK) <= 1 + 1e-9


@given(st.lists(WEIGHTS, min_size=2, max_size=20), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_data_sets_that_come_and_go_leave_the_others_less_than_two_samples_off(weights, blocks):
    assert worst_error(weights, blocks * BLOCK) < 2


def test_sample_numbers_may_come_in_any_order():
    schedule = Schedule.from_mapping({0: {"a": 1, "b": 3}, 96: {"b": 1, "c": 1}})
    g = np.random.default_rng(0).permutation(300)
    dataset, k = schedule.locate(g)
    in_order = schedule.locate(np.arange(300))
    assert (dataset == in_order[0][g]).all() and (k == in_order[1][g]).all()


def test_listing_order_has_no_influence():
    g = np.arange(100)
    forwards, backwards = (
        Schedule.from_weights({"a": 1, "b": 2, "c": 2}),
        Schedule.from_weights({"c": 2, "b": 2, "a": 1}),
    )
    assert forwards == backwards
    assert (forwards.locate(g)[0] == backwards.locate(g)[0]).all()


def test_a_change_takes_effect_at_the_next_block():
    schedule = Schedule.from_mapping({0: {"a": 1}, 50_000: {"b": 1}, 100: {"a": 1, "b": 1}})
    assert [segment.start for segment in schedule.segments] == [0, 128, 50_016]
    assert schedule.shares_at(127) == {"a": 1.0, "b": 0.0}
    assert schedule.shares_at(128) == {"a": 0.5, "b": 0.5}
    assert block_start(0) == 0 and block_start(1) == BLOCK


def test_reweighting_keeps_what_came_before_and_may_add_a_data_set():
    old = Schedule.from_mapping({0: {"a": 1, "c": 2}, 10_000: {"a": 1}})
    new = old.reweighted(1000, {"b": 1, "c": 1})
    before, after = old.locate(np.arange(1024)), new.locate(np.arange(1024))
    assert [old.names[d] for d in before[0]] == [new.names[d] for d in after[0]]
    assert (before[1] == after[1]).all()
    assert new.shares_at(20_000) == {"a": 0.0, "b": 0.5, "c": 0.5}
    assert new.agrees_before(old, 1024) and not new.agrees_before(old, 1025)


def test_state_survives_json_exactly_even_where_weights_are_rounded():
    schedule = Schedule.from_mapping({0: {"a": 0.54087122203, "b": 0.8341046294, "c": 1}, 64: {"a": 1, "b": 0.5}})
    restored = Schedule.from_state(json.loads(json.dumps(schedule.state())))
    assert restored == schedule and restored.segments == schedule.segments


def test_written_weights_and_schedules_parse():
    assert parse_weights("a=1, b=0.5,c") == {"a": 1.0, "b": 0.5, "c": 1.0}
    assert parse_schedule("0: a=1,b=1; 50000: a=2,b=1;") == {0: {"a": 1, "b": 1}, 50_000: {"a": 2, "b": 1}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a=1,,b=2", "empty part"),
        ("a=1,a=2", "name data set a twice"),
        ("a=one", "weight 'one' of data set a is not a number"),
        ("a=", "weight '' of data set a is not a number"),
        ("a=nan", "weight 'nan' of data set a is not a number"),
        ("a=-2", "weight -2 of data set a is negative"),
    ],
)
def test_weights_that_do_not_parse_are_refused(text, message):
    with pytest.raises(WeightError, match=message):
        parse_weights(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "schedule is empty"),
        ("a=1", "part 'a=1' does not parse"),
        ("0: a=1; x: a=2", "part 'x: a=2' does not parse"),
        ("0: a=1; 0: a=2", "from 0 on twice"),
    ],
)
def test_schedules_that_do_not_parse_are_refused(text, message):
    with pytest.raises(WeightError, match=message):
        parse_schedule(text)


def test_schedules_that_cannot_be_followed_are_refused():
    with pytest.raises(WeightError, match="starts at 10; say the weights from 0"):
        Schedule.from_mapping({10: {"a": 1}})
    with pytest.raises(WeightError, match="two changes of weights within 32 samples at 60"):
        Schedule.from_mapping({0: {"a": 1}, 50: {"a": 1}, 60: {"b": 1}})
    with pytest.raises(WeightError, match="zero in total"):
        Schedule.from_mapping({0: {"a": 1}, 64: {"a": 0}})
