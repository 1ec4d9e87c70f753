"""Window numbers lead to episode and step."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from oxe_pipeline.mixture.windows import WindowIndex

EPISODES = st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=12)


@given(st.lists(EPISODES, min_size=1, max_size=4))
def test_windows_are_the_steps_of_eligible_episodes_in_order(datasets):
    lengths = [np.array([length for length, _ in episodes], np.int64) for episodes in datasets]
    eligible = [np.array([mask for _, mask in episodes], bool) for episodes in datasets]
    index = WindowIndex(lengths, eligible)
    for dataset, episodes in enumerate(datasets):
        expected = [(e, step) for e, (length, mask) in enumerate(episodes) if mask for step in range(length)]
        assert index.windows_per_dataset[dataset] == len(expected)
        assert index.episodes_per_dataset[dataset] == len({episode for episode, _ in expected})
        window = np.arange(len(expected))
        episode, step = index.locate(np.full(len(expected), dataset), window)
        assert list(zip(episode.tolist(), step.tolist(), strict=True)) == expected


def test_one_call_may_mix_data_sets():
    index = WindowIndex([np.array([2, 3]), np.array([4])], [np.array([True, True]), np.array([True])])
    episode, step = index.locate(np.array([1, 0, 0, 1]), np.array([3, 1, 2, 0]))
    assert episode.tolist() == [0, 0, 1, 0] and step.tolist() == [3, 1, 0, 0]
