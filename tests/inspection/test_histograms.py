"""Histograms count as numpy does, and lose nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from oxe_pipeline.inspection.histograms import BINS, axis, histogram, sampled_vectors, whole_number_histogram
from oxe_pipeline.inspection.selection import select
from oxe_pipeline.stream.reader import open_stream
from tests.synthetic import make_stream

FLOATS = st.floats(-1e6, 1e6, width=32) | st.sampled_from([np.nan, np.inf, -np.inf])


@given(hnp.arrays(np.float32, st.integers(0, 200), elements=FLOATS))
def test_nothing_is_lost(values):
    found = histogram(values, {})
    finite = values[np.isfinite(values)]
    assert found.counts.sum() + found.below + found.above == len(finite)
    assert found.not_finite == len(values) - len(finite)
    assert found.below == (finite < found.low).sum() and found.above == (finite > found.high).sum()


@pytest.mark.parametrize("seed", range(5))
def test_counts_are_those_of_numpy(seed):
    values = np.random.default_rng(seed).normal(3, 2, 10_000).astype(np.float32)
    found = histogram(values, {})
    expected, _ = np.histogram(values.astype(np.float64), bins=BINS, range=(found.low, found.high))
    # A value on the border of two bins may be rounded into either.
    assert np.abs(np.cumsum(found.counts) - np.cumsum(expected)).max() <= 1
    assert found.counts.sum() == expected.sum()


def test_an_outlier_does_not_squeeze_the_axis():
    values = np.concatenate([np.linspace(0, 1, 1000), [1e6]]).astype(np.float32)
    found = histogram(values, {"min": 0.0, "q01": 0.01, "q99": 0.99, "max": 1e6})
    assert (found.low, found.above) == (0.0, 1) and 1 < found.high < 2


def test_the_axis_comes_from_the_exact_statistics_where_there_are_some():
    assert axis(np.array([0.5]), {"min": -1.0, "q01": -1.0, "q99": 1.0, "max": 1.0}) == (-1.0, 1.0)
    assert axis(np.zeros(0), {}) == (0.0, 0.0)


def test_a_slot_that_hardly_ever_moves_shows_its_whole_range():
    values = np.array([0.0] * 999 + [1.0], np.float32)
    found = histogram(values, {"min": 0.0, "q01": 0.0, "q99": 0.0, "max": 1.0})
    assert (found.low, found.high) == (0.0, 1.0) and found.counts[0] == 999 and found.counts[-1] == 1


def test_a_constant_is_one_bar():
    found = histogram(np.full(7, 2.5, np.float32), {})
    assert found.is_constant and np.count_nonzero(found.counts) == 1 and found.counts.max() == 7


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=200))
def test_bars_of_whole_numbers_are_equally_wide_and_lose_nothing(lengths):
    values = np.array(lengths)
    found = whole_number_histogram(values)
    bins = len(found.counts)
    width = int(found.high) // bins
    assert bins <= BINS and width * bins == found.high
    expected = [sum(start <= value < start + width for value in lengths) for start in range(0, width * bins, width)]
    assert found.counts.tolist() == expected
    assert found.above == len(lengths) - sum(expected) <= len(lengths) * 0.02


def test_sampled_vectors_are_the_streams_own_values(tmp_path):
    stream = open_stream(make_stream(tmp_path, "alpha", episodes=9, held_out=1, image_px=8))
    values = sampled_vectors(stream, select(stream, seed=0, shards=9), ("action", "state"), most=10**6)
    expected = np.concatenate([stream.vector("action", e) for e in range(9)])
    assert np.array_equal(values["action"], expected)
    assert values["state"].shape == (len(expected), 10)
