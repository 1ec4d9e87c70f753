"""Random numbers by counter: fixed for ever, uniform, and without relation between streams."""

import numpy as np
import pytest
from scipy import stats

from oxe_pipeline.mixture.counter_rng import RandomStream, bits, integers, mix64, mix64_int, name_key, uniform

GOLDEN_RATIO = 0x9E3779B97F4A7C15


def test_the_mixing_function_gives_the_published_splitmix64_sequence():
    """First outputs of SplitMix64 for seed 1234567, as printed by its reference implementation."""
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    states = [(1234567 + (i + 1) * GOLDEN_RATIO) % 2**64 for i in range(5)]
    assert mix64(np.array(states, np.uint64)).tolist() == published
    assert [mix64_int(state) for state in states] == published


def test_numbers_never_change():
    assert bits(7, np.arange(4), RandomStream.CROP).tolist() == [
        1903586007635441633,
        6564950937922796359,
        15608876514020900848,
        77676970201087826,
    ]
    assert bits(0, 10**12, RandomStream.GOAL, [0, 1, 2]).tolist() == [
        8667883026888321010,
        17298588141251080927,
        11949038351578961447,
    ]
    assert uniform(2**64 - 1, [0, 1], RandomStream.BLOCK).tolist() == [0.3510845444768531, 0.2721109255693134]
    assert integers(42, np.arange(10), RandomStream.INSTRUCTION, 5).tolist() == [1, 1, 2, 4, 4, 2, 2, 4, 3, 4]
    assert name_key("bridge_dataset") == 14685081709178246735


def test_stream_numbers_never_change():
    assert {stream.name: stream.value for stream in RandomStream} == {
        "BLOCK": 1,
        "EPOCH": 2,
        "INSTRUCTION": 3,
        "INSTRUCTION_DROP": 4,
        "CAMERA": 5,
        "CAMERA_DROP": 6,
        "STATE_DROP": 7,
        "CROP": 8,
        "COLOUR": 9,
        "GOAL": 10,
        "SUBSTITUTE": 11,
        "NOISE": 12,
        "QUESTION": 13,
    }


@pytest.mark.parametrize("stream", RandomStream)
def test_fractions_are_uniform_over_sample_numbers_and_over_lanes(stream):
    for drawn in (uniform(3, np.arange(20_000), stream), uniform(3, 99, stream, np.arange(20_000))):
        assert drawn.min() >= 0 and drawn.max() < 1
        assert stats.kstest(drawn, "uniform").pvalue > 1e-4


def test_every_bit_is_set_half_of_the_time():
    words = bits(1, np.arange(50_000), RandomStream.COLOUR)
    share = [(words >> np.uint64(bit) & np.uint64(1)).mean() for bit in range(64)]
    assert np.abs(np.array(share) - 0.5).max() < 5 * 0.5 / np.sqrt(50_000)


def test_streams_seeds_lanes_and_neighbours_are_not_correlated():
    g = np.arange(20_000)
    base = uniform(11, g, RandomStream.CROP)
    others = [
        *(uniform(11, g, stream) for stream in RandomStream if stream is not RandomStream.CROP),
        uniform(12, g, RandomStream.CROP),
        uniform(11, g, RandomStream.CROP, 1),
        uniform(11, g + 1, RandomStream.CROP),
        uniform(11, g + 2**32, RandomStream.CROP),
    ]
    for other in others:
        assert abs(np.corrcoef(base, other)[0, 1]) < 5 / np.sqrt(len(g))


def test_no_stream_repeats_another_at_a_distance():
    words = np.concatenate([bits(0, np.arange(20_000), stream, lane) for stream in RandomStream for lane in (0, 1)])
    assert len(np.unique(words)) == len(words)


def test_one_sample_number_gives_the_same_as_a_whole_batch():
    batch = uniform(5, np.arange(100), RandomStream.NOISE)
    assert [float(uniform(5, g, RandomStream.NOISE)) for g in range(100)] == batch.tolist()
    table = uniform(5, np.arange(100)[:, None], RandomStream.NOISE, np.arange(3))
    assert table.shape == (100, 3) and (table[:, 0] == batch).all()


def test_integers_reach_every_value_equally_often_and_take_a_bound_per_number():
    drawn = integers(0, np.arange(70_000), RandomStream.GOAL, 7)
    assert stats.chisquare(np.bincount(drawn, minlength=7)).pvalue > 1e-4
    high = np.array([1, 2, 3, 2**40])
    assert (integers(0, np.arange(4), RandomStream.GOAL, high) < high).all()


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="seed must be a whole number from 0 to 2\\^64-1, is -1"):
        uniform(-1, 0, RandomStream.CROP)
    with pytest.raises(ValueError, match="high must be 1 or more, is 0"):
        integers(0, [1, 2], RandomStream.GOAL, [5, 0])
