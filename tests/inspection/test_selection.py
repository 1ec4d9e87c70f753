"""What a report looks at is spread over the stream, random where it says so, and the same every time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxe_pipeline.inspection.selection import film_steps, random_steps, sampled_rows, select, spread
from oxe_pipeline.stream.reader import open_stream
from tests.synthetic import make_stream


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """Ten shards of four episodes, the last four episodes held out."""
    return open_stream(make_stream(tmp_path_factory.mktemp("s"), "alpha", episodes=36, held_out=4, image_px=8))


@given(st.integers(0, 500), st.integers(1, 600))
def test_spread_takes_as_many_as_it_may_from_the_middles_of_equal_parts(count, most):
    taken = spread(count, most)
    assert len(taken) == len(set(taken.tolist())) == min(count, most)
    middles = [(part + 0.5) * count / len(taken) for part in range(len(taken))]
    assert [int(middle) for middle in middles] == taken.tolist()


@given(st.integers(1, 3000), st.integers(1, 12))
def test_film_steps_hold_first_and_last_and_never_repeat(length, frames):
    steps = film_steps(length, frames).tolist()
    assert steps[0] == 0 and steps == sorted(set(steps)) and len(steps) == min(length, frames)
    assert steps[-1] == (length - 1 if frames > 1 else 0)


def test_only_the_chosen_shards_are_drawn_from_and_all_their_episodes_come_once(stream):
    selection = select(stream, seed=0, shards=3)
    assert selection.shards.tolist() == [1, 5, 8]
    expected = [e for e in range(40) if e // 4 in (1, 5, 8)]
    assert sorted(selection.episodes.tolist()) == expected and selection.episodes.tolist() != expected


def test_a_seed_decides(stream):
    first, again, other = (select(stream, seed=seed, shards=99) for seed in (1, 1, 2))
    assert first.episodes.tolist() == again.episodes.tolist() != other.episodes.tolist()
    assert len(first.shards) == len(stream.manifest.shards)


def test_a_random_step_lies_in_its_episode_and_reaches_all_of_them(stream):
    episodes = np.arange(40)
    drawn = np.array([random_steps(stream, episodes, seed=seed) for seed in range(200)])
    assert (drawn >= 0).all() and (drawn < stream.episodes.length).all()
    assert {int(step) for step in drawn[:, 0]} == set(range(12))
    assert np.array_equal(random_steps(stream, episodes[3:9], seed=7), drawn[7, 3:9])


def test_rows_are_train_steps_alone_and_evenly_spaced(stream):
    selection = select(stream, seed=0, shards=99)
    everything = sampled_rows(stream, selection, most=10**6)
    held_out = {(int(stream.episodes.shard[e]), int(stream.episodes.first_row[e])) for e in range(36, 40)}
    assert sum(map(len, everything.values())) == stream.manifest.counts.split_steps["train"]
    assert not held_out & {(shard, row) for shard, rows in everything.items() for row in rows.tolist()}
    few = sampled_rows(stream, selection, most=50)
    assert sum(map(len, few.values())) == 50
    assert {len(rows) for shard, rows in few.items() if shard < 9} <= {5, 6}
    assert all(set(rows.tolist()) <= set(everything[shard].tolist()) for shard, rows in few.items())
