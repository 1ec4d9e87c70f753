"""The score is 1 for this package's order and falls for orders that keep neighbours together."""

from itertools import chain

import numpy as np
import pytest

from oxe_pipeline.mixture.mixture import Mixture
from oxe_pipeline.mixture.schedule import Schedule
from oxe_pipeline.mixture.shuffle_quality import STRETCH, shuffle_quality
from oxe_pipeline.mixture.windows import WindowIndex
from oxe_pipeline.stream.reader import open_stream
from tests.synthetic import make_episode, write_stream

LENGTHS = {"alpha": range(2, 42), "beta": [60, 1, 7, 30] * 6, "gamma": [15] * 20}
BATCH = 16


@pytest.fixture(scope="module")
def streams(tmp_path_factory):
    root = tmp_path_factory.mktemp("streams")
    opened = {}
    for name, lengths in LENGTHS.items():
        episodes = [
            make_episode(seed, dataset=name, steps=steps, cameras=(), split="val" if seed % 10 == 9 else "train")
            for seed, steps in enumerate(lengths)
        ]
        opened[name] = open_stream(write_stream(root / name, episodes, episodes_per_shard=4))
    return opened


@pytest.fixture(scope="module")
def windows() -> list[list[int]]:
    """For each data set the episode of every window of its train split, written out."""
    return [
        [episode for episode, steps in enumerate(lengths) if episode % 10 != 9 for _ in range(steps)]
        for lengths in LENGTHS.values()
    ]


class PlantedOrder(Mixture):
    """A mixture whose sample number g is the `places[g % len(places)]`-th (data set, episode), whatever its weights."""

    def plant(self, places: list[tuple[int, int]]) -> "PlantedOrder":
        self.places = np.array(places)
        return self

    def locate(self, g):
        dataset, episode = self.places[np.asarray(g) % len(self.places)].T
        return dataset, episode, np.zeros_like(episode)


def planted(streams, places: list[tuple[int, int]]) -> PlantedOrder:
    sizes = {name: stream.manifest.counts.split_steps["train"] for name, stream in streams.items()}
    return PlantedOrder(streams, Schedule.from_weights(sizes)).plant(places)


def in_sequence(windows) -> list[tuple[int, int]]:
    return [(number, episode) for number, episodes in enumerate(windows) for episode in episodes]


def shuffled_within(places: list, size: int) -> list:
    rng = np.random.default_rng(3)
    pieces = [places[start : start + size] for start in range(0, len(places), size)]
    return [piece[i] for piece in pieces for i in rng.permutation(len(piece))]


def test_what_it_compares_with_is_what_independent_draws_give(streams, windows):
    shares = {"alpha": 0.2, "beta": 0.5, "gamma": 0.3}
    found = shuffle_quality(Mixture(streams, Schedule.from_weights(shares)), BATCH)
    rng = np.random.default_rng(1)
    batches = []
    for _ in range(STRETCH * 300):
        datasets = rng.choice(3, BATCH, p=list(shares.values()))
        batches.append([(number, windows[number][rng.integers(len(windows[number]))]) for number in datasets])
    stretches = [list(chain(*batches[i : i + STRETCH])) for i in range(0, len(batches), STRETCH)]
    crowded = [sum(batch.count(place) > 1 for place in batch) / BATCH for batch in batches]
    for measure, drawn in (
        (found.episodes_per_batch, [len(set(batch)) for batch in batches]),
        (found.episodes_per_stretch, [len(set(stretch)) for stretch in stretches]),
        (found.datasets_per_batch, [len({number for number, _ in batch}) for batch in batches]),
        (found.samples_with_neighbour, crowded),
    ):
        assert measure.uniform == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / np.sqrt(len(drawn)))


@pytest.mark.parametrize("batch_size", [1, 16, 256])
def test_this_order_is_as_mixed_as_independent_draws(streams, batch_size):
    found = shuffle_quality(Mixture(streams, Schedule.from_weights({"alpha": 1, "beta": 2, "gamma": 3})), batch_size)
    assert 0.97 < found.score < 1.1 and found.batches >= STRETCH
    if batch_size == 1:
        assert found.episodes_per_batch.drawn == found.datasets_per_batch.drawn == 1
        assert found.samples_with_neighbour.drawn == found.samples_with_neighbour.uniform == 0


def test_an_order_as_recorded_scores_low_in_everything(streams, windows):
    found = shuffle_quality(planted(streams, in_sequence(windows)), BATCH)
    assert found.score < 0.3
    assert found.episodes_per_batch.ratio < 0.3 and found.datasets_per_batch.ratio < 0.6
    assert found.samples_with_neighbour.drawn > 0.8 > 2 * found.samples_with_neighbour.uniform


def test_clumps_that_a_single_batch_hides_show_over_ten(streams, windows):
    """Six windows of each of some episodes, mixed among themselves: a small shuffle buffer."""
    rng = np.random.default_rng(0)
    episodes = [*dict.fromkeys(in_sequence(windows))]
    episodes = [episodes[i] for i in rng.permutation(len(episodes))]
    order = shuffled_within([place for place in episodes for _ in range(6)], 20 * 6)
    found = shuffle_quality(planted(streams, order), 4)
    assert found.episodes_per_batch.ratio > 0.85
    assert found.score == found.episodes_per_stretch.ratio < 0.75


def test_the_larger_the_shuffle_the_higher_the_score(streams, windows):
    scores = [
        shuffle_quality(planted(streams, shuffled_within(in_sequence(windows), size)), BATCH).score
        for size in (1, 64, 256, 10**6)
    ]
    assert scores == sorted(scores) and scores[0] < 0.5 and scores[-1] > 0.97


def test_shuffling_within_few_shards_scores_lower_the_fewer_they_are(streams):
    schedule = Schedule.from_weights({"alpha": 1, "beta": 2, "gamma": 1})
    scores = [shuffle_quality(Mixture(streams, schedule, pool_shards=n), BATCH).score for n in (1, 2, 4, None)]
    assert scores == sorted(scores) and scores[0] < 0.6 and scores[-1] > 0.97


def test_weights_that_change_are_held_against_the_weights_of_their_time(streams):
    schedule = Schedule.from_mapping({0: {"alpha": 1}, 480: {"alpha": 1, "beta": 9}, 960: {"gamma": 1}})
    found = shuffle_quality(Mixture(streams, schedule), BATCH)
    assert 0.97 < found.score < 1.1
    assert 1 < found.datasets_per_batch.uniform < 2


def test_it_is_the_same_every_time_and_hardly_hangs_on_the_seed(streams):
    mixture = Mixture(streams, Schedule.from_weights({"alpha": 1, "beta": 1}), seed=4)
    assert shuffle_quality(mixture, BATCH) == shuffle_quality(mixture, BATCH)
    other = shuffle_quality(mixture.with_seed(5), BATCH)
    assert other != shuffle_quality(mixture, BATCH)
    assert other.score == pytest.approx(shuffle_quality(mixture, BATCH).score, abs=0.03)


def test_a_batch_size_below_one_is_refused(streams):
    with pytest.raises(ValueError, match="batch_size must be 1 or more, is 0"):
        shuffle_quality(Mixture(streams, Schedule.from_weights({"alpha": 1})), 0)


def test_windows_per_episode_are_those_that_locating_every_window_finds():
    rng = np.random.default_rng(2)
    lengths = [rng.integers(0, 5, size) for size in (7, 0, 3, 1, 6)]
    index = WindowIndex.of_episodes(lengths, [rng.random(len(length)) < 0.7 for length in lengths])
    expected = []
    for number, windows in enumerate(index.windows_per_dataset):
        episode, _ = index.locate(np.full(windows, number), np.arange(windows))
        expected += [(number, int(count)) for count in np.bincount(episode) if count]
    assert list(zip(*(column.tolist() for column in index.windows_per_episode()), strict=True)) == expected
