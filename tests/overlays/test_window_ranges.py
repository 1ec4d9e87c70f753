"""Ranges of window starts against sets of steps written out one by one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from oxe_pipeline.overlays.window_ranges import WindowRanges, runs

EPISODES = st.lists(st.lists(st.integers(0, 3), max_size=9), max_size=8)
"""Per episode how often each of its steps comes."""


def flat(episodes) -> tuple[np.ndarray, np.ndarray]:
    length = np.array([len(episode) for episode in episodes], np.int64)
    return np.array([value for episode in episodes for value in episode], np.int64), length


def written_out(ranges: WindowRanges) -> list[tuple[int, int, int]]:
    """(episode, step, repeats) of every step, in the order of the ranges."""
    rows = zip(
        *(getattr(ranges, name).tolist() for name in ("episode", "first_step", "end_step", "repeats")), strict=True
    )
    return [(episode, step, repeats) for episode, first, end, repeats in rows for step in range(first, end)]


@given(EPISODES)
def test_ranges_of_steps_hold_exactly_the_steps_that_come_in_order(episodes):
    ranges = WindowRanges.of_steps(*flat(episodes))
    expected = [(e, s, times) for e, episode in enumerate(episodes) for s, times in enumerate(episode) if times]
    assert written_out(ranges) == expected
    assert ranges.num_steps == len(expected)
    assert ranges.num_windows == sum(times for _, _, times in expected)
    assert ranges.num_episodes == len({episode for episode, _, _ in expected})


@given(EPISODES)
def test_ranges_are_as_few_as_can_be(episodes):
    ranges = WindowRanges.of_steps(*flat(episodes))
    touching = (ranges.episode[1:] == ranges.episode[:-1]) & (ranges.first_step[1:] == ranges.end_step[:-1])
    assert not (touching & (ranges.repeats[1:] == ranges.repeats[:-1])).any()


@given(EPISODES)
def test_runs_cover_everything_and_never_cross_an_episode(episodes):
    values, length = flat(episodes)
    first, end = runs(values, length)
    covered = [position for a, b in zip(first.tolist(), end.tolist(), strict=True) for position in range(a, b)]
    assert covered == list(range(len(values)))
    episode = np.repeat(np.arange(len(length)), length)
    for a, b in zip(first, end, strict=True):
        assert len(set(values[a:b].tolist())) == 1 and len(set(episode[a:b].tolist())) == 1


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=9))
def test_whole_episodes_are_one_range_each(episodes):
    length = np.array([steps for steps, _ in episodes], np.int64)
    kept = np.array([keep for _, keep in episodes], bool)
    expected = [(e, s, 1) for e, (steps, keep) in enumerate(episodes) if keep for s in range(steps)]
    assert written_out(WindowRanges.of_episodes(length, kept)) == expected


@given(EPISODES, st.integers(0, 255))
def test_a_split_takes_the_ranges_of_its_episodes(episodes, bits):
    mask = np.array([bits >> number & 1 for number in range(len(episodes))], bool)
    ranges = WindowRanges.of_steps(*flat(episodes))
    assert written_out(ranges.within(mask)) == [row for row in written_out(ranges) if mask[row[0]]]
