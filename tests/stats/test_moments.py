import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from oxe_pipeline.stats.moments import Moments

FLOATS = st.floats(-1e6, 1e6, width=32)
TABLES = st_np.arrays(np.float32, st.tuples(st.integers(1, 40), st.just(3)), elements=FLOATS)


def moments_of(*pieces: np.ndarray, mask=None) -> Moments:
    moments = Moments.empty(3)
    for piece in pieces:
        moments.update(piece, mask)
    return moments


def assert_describes(moments: Moments, table: np.ndarray) -> None:
    table = table.astype(np.float64)
    reach = np.abs(table).max() + 1
    assert moments.count.tolist() == [len(table)] * 3
    np.testing.assert_allclose(moments.mean, table.mean(0), rtol=1e-12, atol=1e-12 * reach)
    np.testing.assert_allclose(moments.std(), table.std(0), rtol=1e-9, atol=1e-8 * reach)
    np.testing.assert_array_equal(moments.minimum, table.min(0))
    np.testing.assert_array_equal(moments.maximum, table.max(0))


@given(table=TABLES, cut=st.integers(0, 40))
def test_pieces_give_what_numpy_computes_over_all_rows(table, cut):
    assert_describes(moments_of(table[:cut], table[cut:]), table)


@given(first=TABLES, second=TABLES, third=TABLES)
def test_merging_in_either_grouping_gives_the_moments_of_all(first, second, third):
    left, tail = moments_of(first), moments_of(second)
    left.merge(moments_of(second))
    left.merge(moments_of(third))
    tail.merge(moments_of(third))
    right = moments_of(first)
    right.merge(tail)
    everything = np.concatenate([first, second, third])
    assert_describes(left, everything)
    assert_describes(right, everything)


def test_a_large_mean_does_not_swallow_a_small_spread():
    table = 1e4 + np.random.default_rng(0).normal(0, 1e-2, (1000, 3))
    np.testing.assert_allclose(moments_of(table[:300], table[300:]).std(), table.std(0), rtol=1e-9)


def test_masked_columns_are_left_as_they_were():
    table = np.arange(12.0).reshape(4, 3)
    moments = moments_of(table, mask=np.array([True, False, True]))
    assert moments.count.tolist() == [4, 0, 4]
    assert (moments.minimum[1], moments.maximum[1], moments.mean[1], moments.m2[1]) == (np.inf, -np.inf, 0, 0)
    moments.update(table + 1, np.array([False, True, False]))
    assert moments.count.tolist() == [4, 4, 4]
    assert moments.mean.tolist() == [4.5, 6.5, 6.5]


def test_merging_with_nothing_changes_nothing():
    table = np.arange(12.0).reshape(4, 3)
    moments = moments_of(table)
    moments.merge(Moments.empty(3))
    assert_describes(moments, table)
    empty = Moments.empty(3)
    empty.merge(moments_of(table))
    assert_describes(empty, table)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e6 + 0.1])
def test_a_column_that_never_changes_has_deviation_exactly_zero(value):
    assert moments_of(np.full((7, 3), value), np.full((5, 3), value)).std().tolist() == [0, 0, 0]
