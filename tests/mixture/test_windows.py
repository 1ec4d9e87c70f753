"""Window numbers lead to episode and step."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from oxe_pipeline.mixture.windows import WindowIndex
from oxe_pipeline.overlays.window_ranges import WindowRanges

EPISODES = st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=12)


@given(st.lists(EPISODES, min_size=1, max_size=4))
def test_windows_are_the_steps_of_eligible_episodes_in_order(datasets):
    lengths = [np.array([length for length, _ in episodes], np.int64) for episodes in datasets]
    eligible = [np.array([mask for _, mask in episodes], bool) for episodes in datasets]
    index = WindowIndex.of_episodes(lengths, eligible)
    for dataset, episodes in enumerate(datasets):
        expected = [(e, step) for e, (length, mask) in enumerate(episodes) if mask for step in range(length)]
        assert index.windows_per_dataset[dataset] == len(expected)
        assert index.episodes_per_dataset[dataset] == len({episode for episode, _ in expected})
        window = np.arange(len(expected))
        episode, step = index.locate(np.full(len(expected), dataset), window)
        assert list(zip(episode.tolist(), step.tolist(), strict=True)) == expected


REPEATS = st.lists(st.lists(st.integers(0, 4), max_size=7), max_size=6)
"""Per episode how often each of its steps comes."""


@given(st.lists(REPEATS, min_size=1, max_size=4))
def test_a_filtered_step_never_comes_and_a_repeated_one_exactly_as_often(datasets):
    ranges = []
    for episodes in datasets:
        flat = np.array([times for episode in episodes for times in episode], np.int64)
        ranges.append(WindowRanges.of_steps(flat, np.array([len(episode) for episode in episodes], np.int64)))
    index = WindowIndex(ranges)
    for dataset, episodes in enumerate(datasets):
        expected = Counter({(e, s): n for e, episode in enumerate(episodes) for s, n in enumerate(episode) if n})
        assert index.windows_per_dataset[dataset] == expected.total()
        assert index.episodes_per_dataset[dataset] == len({episode for episode, _ in expected})
        window = np.arange(expected.total())
        episode, step = index.locate(np.full(len(window), dataset), window)
        assert Counter(zip(episode.tolist(), step.tolist(), strict=True)) == expected
        assert episode.dtype == step.dtype == np.int64


def test_memory_grows_with_ranges_and_not_with_windows():
    def size(index: WindowIndex) -> int:
        return sum(array.nbytes for array in vars(index).values())

    eligible = [np.ones(1000, bool)]
    short, long = (WindowIndex.of_episodes([np.full(1000, steps)], eligible) for steps in (10, 10_000_000))
    assert size(short) == size(long) <= 20 * 1000 + 100
    assert long.locate(np.array([0]), np.array([9_999_999_999])) == (999, 9_999_999)


def test_one_call_may_mix_data_sets():
    index = WindowIndex.of_episodes([np.array([2, 3]), np.array([4])], [np.array([True, True]), np.array([True])])
    episode, step = index.locate(np.array([1, 0, 0, 1]), np.array([3, 1, 2, 0]))
    assert episode.tolist() == [0, 0, 1, 0] and step.tolist() == [3, 1, 0, 0]
