"""The keyed permutation of range(n): a bijection that looks like a shuffle."""

import math
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from oxe_pipeline.mixture.permutation import MAX_N, permute

WORD = 2**64 - 1


def reference(index: int, n: int, key: int) -> int:
    """The same network in plain integers, one index at a time, with a real modulo instead of the wrap-around trick."""
    a = math.isqrt(n - 1) + 1 if n > 1 else 1
    b = -(-n // a)

    def scaled(half: int, number: int, modulus: int) -> int:
        word = (key + (number + 1) * 0xA0761D6478BD642F & WORD) ^ half
        word = word * 0xBF58476D1CE4E5B9 & WORD
        word ^= word >> 32
        word = word * 0x94D049BB133111EB & WORD
        return (word >> 25) * modulus >> 39

    while True:
        left, right = divmod(index, b)
        for number in range(8):
            if number % 2 == 0:
                left = (left + scaled(right, number, a)) % a
            else:
                right = (right + scaled(left, number, b)) % b
        index = left * b + right
        if index < n:
            return index


@given(n=st.integers(1, 5000), key=st.integers(0, WORD))
def test_every_index_is_reached_exactly_once(n, key):
    index = np.arange(n)
    permuted = permute(index, n, np.uint64(key))
    assert sorted(permuted.tolist()) == index.tolist()


@given(n=st.integers(1, MAX_N), key=st.integers(0, WORD), data=st.data())
@settings(max_examples=200)
def test_any_length_agrees_with_plain_integer_arithmetic(n, key, data):
    index = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=5))
    permuted = permute(index, n, np.uint64(key))
    assert permuted.tolist() == [reference(i, n, key) for i in index]


def test_one_call_may_mix_lengths_and_keys():
    index, n, key = np.array([3, 3, 0, 10**9]), np.array([4, 50, 1, 2**40]), np.array([1, 2, 3, 4], np.uint64)
    assert permute(index, n, key).tolist() == [
        reference(*each) for each in zip(*(a.tolist() for a in (index, n, key)), strict=True)
    ]
    assert permute(index[:, None], 2**40, key).shape == (4, 4)


def test_permutations_never_change():
    assert permute(np.arange(20), 20, 12345).tolist() == [
        19, 15, 7, 0, 13, 18, 2, 3, 10, 1, 6, 9, 12, 8, 17, 14, 16, 11, 5, 4,
    ]  # fmt: skip
    assert permute([0, 1, 10**9], 10**9 + 7, 1).tolist() == [813377367, 398032424, 324446878]
    assert permute([0, 2**48 - 1], 2**48, np.uint64(WORD)).tolist() == [249005869561670, 180739926041879]


def test_different_keys_give_different_orders():
    orders = {tuple(permute(np.arange(64), 64, np.uint64(key)).tolist()) for key in range(2000)}
    assert len(orders) == 2000


@pytest.mark.parametrize("n", [2, 3, 4])
def test_every_order_of_a_few_is_equally_likely(n):
    trials = 6000
    keys = np.random.default_rng(0).integers(0, 2**64, trials, np.uint64)
    orders = permute(np.arange(n), n, keys[:, None])
    found = Counter(map(tuple, orders.tolist()))
    assert stats.chisquare([found[order] for order in permutations(range(n))]).pvalue > 1e-4


@pytest.mark.parametrize("n", [10, 97, 1000])
def test_every_place_is_equally_likely_for_an_index(n):
    keys = np.arange(n * 50, dtype=np.uint64)
    for index in (0, n // 2, n - 1):
        assert stats.chisquare(np.bincount(permute(index, n, keys), minlength=n)).pvalue > 1e-4


@pytest.mark.parametrize("n", [1000, 65_536, 1_000_003, 2**40])
def test_neighbours_are_scattered(n):
    """Serial correlation at several lags, and uniform gaps between neighbours, as a random shuffle has them."""
    index = np.arange(min(n, 50_000))
    place = permute(index, n, 2024) / n
    for lag in (1, 2, 7, math.isqrt(n) if n < 10**9 else 31):
        assert abs(np.corrcoef(place[:-lag], place[lag:])[0, 1]) < 5 / np.sqrt(len(index) - lag)
        gaps = (place[lag:] - place[:-lag]) % 1
        assert stats.chisquare(np.histogram(gaps, 16, (0, 1))[0]).pvalue > 1e-4


@pytest.mark.parametrize(
    ("index", "n", "message"),
    [(5, 5, "index 5 is not"), (-1, 5, "index -1"), (0, 0, "n must be"), (0, 2**48 + 1, "n must be")],
)
def test_what_is_out_of_range_is_refused(index, n, message):
    with pytest.raises(ValueError, match=message):
        permute(index, n, 0)
