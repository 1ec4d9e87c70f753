"""Chunks by seconds: identities and hand-made cases."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from oxe_pipeline.loader.resample import interval_edges, resample, steps_needed

DELTA, VELOCITY = np.array([True, False, False]), np.array([False, True, False])


def resampled(source: np.ndarray, remaining: int, hz: float, chunk: int, chunk_s: float):
    """source [n, 3]: a delta, a velocity and an absolute column; as the loader pads it."""
    edges = interval_edges(np.array([hz]), chunk, chunk_s)
    rows = np.minimum(np.arange(steps_needed(edges)), remaining - 1)
    values, mask = resample(source[rows][None].astype(np.float32), np.array([remaining]), edges, DELTA, VELOCITY)
    return values[0], mask[0]


def columns(*values) -> np.ndarray:
    return np.repeat(np.array(values, float)[:, None], 3, axis=1)


def test_at_the_sources_own_rate_nothing_changes():
    source = np.random.default_rng(0).normal(size=(12, 3))
    values, mask = resampled(source, 12, 50.0, 10, 0.2)
    np.testing.assert_allclose(values, source[:10], atol=1e-6)
    assert mask.all()


def test_at_half_the_rate_deltas_add_up_velocities_average_and_targets_are_the_later_ones():
    values, mask = resampled(columns(1, 2, 3, 4), 4, 10.0, 2, 0.4)
    assert values[:, 0].tolist() == [3, 7]
    assert values[:, 1].tolist() == [1.5, 3.5]
    assert values[:, 2].tolist() == [2, 4]
    assert mask.all()


def test_at_twice_the_rate_deltas_are_shared_out_and_targets_hold():
    values, _ = resampled(columns(1, 2), 2, 5.0, 4, 0.4)
    assert values[:, 0].tolist() == [0.5, 0.5, 1, 1]
    assert values[:, 1].tolist() == [1, 1, 2, 2]
    assert values[:, 2].tolist() == [1, 1, 2, 2]


def test_a_step_that_an_interval_cuts_counts_by_its_share():
    values, _ = resampled(columns(2, 4, 6), 3, 3.0, 2, 1.0)
    np.testing.assert_allclose(values[:, 0], [2 + 4 / 2, 4 / 2 + 6], atol=1e-6)


def test_past_the_end_motion_is_zero_targets_hold_and_only_whole_intervals_count():
    values, mask = resampled(columns(1, 2, 3), 3, 10.0, 3, 0.6)
    assert mask.tolist() == [True, False, False]
    assert values[:, 0].tolist() == [3, 3, 0]
    assert values[:, 2].tolist() == [2, 3, 3]


@given(
    hz=st.sampled_from([1.0, 3.0, 5.0, 10.0, 15.0, 50.0]),
    chunk=st.integers(1, 20),
    chunk_s=st.floats(0.05, 3.0),
    seed=st.integers(0, 1000),
)
def test_the_whole_motion_of_the_chunk_is_that_of_the_source(hz, chunk, chunk_s, seed):
    length = 200
    source = np.random.default_rng(seed).normal(size=(length, 3))
    values, mask = resampled(source, length, hz, chunk, chunk_s)
    end = chunk_s * hz
    whole = int(end)
    moved = source[:whole, 0].sum() + (end - whole) * source[whole, 0]
    assert mask.all()
    np.testing.assert_allclose(values[:, 0].sum(), moved, atol=1e-3)
    np.testing.assert_allclose(
        values[:, 1].sum() * end / chunk, source[:whole, 1].sum() + (end - whole) * source[whole, 1], atol=1e-3
    )
