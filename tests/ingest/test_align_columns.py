"""Alignment by time, against loops that say the rule word for word."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxe_pipeline.ingest.align_columns import (
    FOREVER_NS,
    MAX_STEPS,
    NS,
    TimedColumn,
    align,
    even_ticks,
    is_even,
    latest_at,
)

times = st.lists(st.integers(0, 400), max_size=30).map(lambda values: np.array(sorted(values), np.int64))
ages = st.one_of(st.integers(0, 100), st.just(FOREVER_NS))
ticks_of = st.lists(st.integers(0, 400), min_size=1, max_size=30, unique=True).map(
    lambda v: np.array(sorted(v), np.int64)
)


@given(times, ticks_of, ages)
def test_each_tick_gets_the_last_value_that_is_not_from_its_future_and_not_too_old(times_ns, ticks_ns, age):
    chosen = latest_at(times_ns, ticks_ns, age)
    for tick, number in zip(ticks_ns, chosen, strict=True):
        candidates = [k for k, time in enumerate(times_ns) if tick - age <= time <= tick]
        assert number == (candidates[-1] if candidates else -1)


@given(times, ticks_of, ages)
def test_chosen_messages_never_go_back(times_ns, ticks_ns, age):
    chosen = latest_at(times_ns, ticks_ns, age)
    assert (np.diff(chosen[chosen >= 0]) >= 0).all()


@given(times, times, ticks_of, ages, ages, st.booleans(), st.one_of(st.integers(1, 60), st.just(FOREVER_NS)))
def test_pieces_are_whole_in_order_and_hold_no_value_from_after_the_step(
    first, second, ticks_ns, first_age, second_age, before_next, max_step
):
    columns = {
        "observation": TimedColumn(times_ns=first, max_age_ns=first_age),
        "command": TimedColumn(times_ns=second, max_age_ns=second_age, before_next=before_next),
    }
    pieces, missing = align(columns, ticks_ns, max_step_ns=max_step)
    assert all(len(absent) == len(ticks_ns) for absent in missing.values())
    last = -1
    for piece in pieces:
        assert len(piece.ticks_ns) > 0 and piece.ticks_ns[0] > last
        last = piece.ticks_ns[-1]
        assert (np.diff(piece.ticks_ns) <= max_step).all()
        places = np.searchsorted(ticks_ns, piece.ticks_ns)
        np.testing.assert_array_equal(np.diff(places), 1)  # no step inside is left out
        for step, tick in enumerate(piece.ticks_ns):
            seen = first[piece.chosen["observation"][step]]
            assert 0 <= tick - seen <= first_age
            told = second[piece.chosen["command"][step]]
            if before_next:
                following = ticks_ns[places[step] + 1]
                assert told < following and following - 1 - told <= second_age
            else:
                assert 0 <= tick - told <= second_age


@given(times, ticks_of, ages)
def test_no_step_that_could_be_taken_is_lost(times_ns, ticks_ns, age):
    pieces, missing = align({"only": TimedColumn(times_ns=times_ns, max_age_ns=age)}, ticks_ns)
    assert sum(len(piece.ticks_ns) for piece in pieces) == int((~missing["only"]).sum())


def test_a_command_sent_between_two_observations_belongs_to_the_first():
    ticks = np.array([0, 100, 200])
    commands = TimedColumn(times_ns=np.array([10, 110]), before_next=True)
    [piece], _ = align({"command": commands}, ticks)
    assert piece.ticks_ns.tolist() == [0, 100] and piece.chosen["command"].tolist() == [0, 1]


def test_a_clock_that_stops_for_too_long_begins_a_new_piece():
    ticks = np.array([0, 100, 200, 900, 1000])
    pieces, _ = align({"clock": TimedColumn(times_ns=ticks)}, ticks, max_step_ns=150)
    assert [piece.ticks_ns.tolist() for piece in pieces] == [[0, 100, 200], [900, 1000]]


@given(st.integers(0, 2**60), st.integers(0, 20 * NS), st.floats(0.5, 200))
def test_even_ticks_do_not_drift_and_end_with_the_recording(first, length, rate):
    ticks = even_ticks(first, first + length, rate)
    assert ticks[0] == first and ticks[-1] <= first + length < ticks[-1] + 1.001 * NS / rate + 1
    exact = np.arange(len(ticks)) * (NS / rate)
    assert np.abs(ticks - first - exact).max() <= 1
    assert is_even(ticks, rate)


def test_times_of_two_clocks_are_an_error_not_a_hang():
    with pytest.raises(ValueError, match="the columns' clocks do not agree"):
        even_ticks(0, MAX_STEPS * NS, 2.0)
    assert len(even_ticks(5, 4, 10.0)) == 0
