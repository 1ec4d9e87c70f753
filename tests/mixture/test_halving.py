"""Shares without a period: whole samples, never more than one off, found anywhere without counting to it."""

import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxe_pipeline.mixture.halving import LEAF, HalvedShares, deal, earliest_deadline_first
from oxe_pipeline.mixture.schedule import BLOCK
from oxe_pipeline.mixture.shares import quantise

TOTAL = 1 << 40


def plan_of(weights: np.ndarray) -> HalvedShares:
    return HalvedShares(tuple(quantise(weights.tolist())))


def worst_error_in_leaf(plan: HalvedShares, leaf: int, every: int) -> float:
    """Largest |samples drawn - samples due| of any data set after each `every` samples of one leaf.

    Counts the data sets that `locate` gives; what came before the leaf is taken from `counts_before`.
    """
    counts, first = np.array(plan.counts, object), leaf * LEAF
    dataset, _ = plan.locate(np.arange(first, first + LEAF))
    one_hot = np.zeros((LEAF, len(counts)), np.int64)
    one_hot[np.arange(LEAF), dataset] = 1
    drawn = one_hot.reshape(-1, every, len(counts)).sum(1).cumsum(0)
    total = int(counts.sum())
    error_before = [int(n) * total - first * int(c) for n, c in zip(plan.counts_before(first), counts, strict=True)]
    error_before = np.array([error / total for error in error_before])
    due = np.arange(every, LEAF + 1, every)[:, None] * (counts / total).astype(np.float64)
    return float(np.abs(error_before + drawn - due).max())


@given(st.integers(1, 60), st.integers(0, 2**32 - 1), st.integers(0, 10**8))
@settings(max_examples=15, deadline=None)
def test_no_block_boundary_is_more_than_a_sample_off_for_weights_over_six_decades(datasets, seed, leaf):
    plan = plan_of(10 ** np.random.default_rng(seed).uniform(-6, 0, datasets))
    assert worst_error_in_leaf(plan, leaf, BLOCK) <= 1 + 1e-9


@pytest.mark.parametrize("datasets", [2, 30, 3000])
@pytest.mark.parametrize("rare", [1e-6, 1e-3])
def test_rare_data_sets_of_equal_weight_do_not_all_come_at_once(datasets, rare):
    weights = np.full(datasets, rare)
    weights[0] = 0.7310585786300049
    for leaf in (0, 1, 777):
        assert worst_error_in_leaf(plan_of(weights), leaf, BLOCK) <= 1 + 1e-9


def test_three_thousand_data_sets_of_any_weight_are_at_most_a_sample_off():
    plan = plan_of(np.random.default_rng(0).uniform(1e-6, 1, 3000))
    for leaf in (0, 12_345_678):
        assert worst_error_in_leaf(plan, leaf, BLOCK) <= 1 + 1e-9


@given(st.lists(st.floats(1e-6, 1), min_size=2, max_size=12), st.integers(0, 10**12))
@settings(max_examples=30, deadline=None)
def test_every_draw_of_a_data_set_comes_once_and_in_order(weights, g):
    plan = plan_of(np.array(weights))
    numbers = np.arange(g, g + LEAF)
    dataset, k = plan.locate(numbers)
    before, after = plan.counts_before(g), plan.counts_before(g + LEAF)
    for d in range(len(weights)):
        assert k[dataset == d].tolist() == list(range(before[d], after[d]))


def test_the_counts_at_the_longest_stretch_are_the_due_rounded():
    plan = plan_of(np.array([1.0, 1e-3, 1e-6]))
    stretch = LEAF
    while stretch * plan.counts[2] < sum(plan.counts):
        stretch *= 2
    for number in (0, 1, 2, 1000, 10**6 + 1):
        g = number * stretch
        for had, count in zip(plan.counts_before(g).tolist(), plan.counts, strict=True):
            assert abs(had - Fraction(g * count, sum(plan.counts))) < 1


def test_scattered_sample_numbers_are_the_same_as_all_in_a_row():
    plan = plan_of(np.array([0.3141592653589793, 0.001, 1.0]))
    row = plan.locate(np.arange(5 * LEAF))
    scattered = np.random.default_rng(0).integers(0, 5 * LEAF, 500)
    for whole, part in zip(row, plan.locate(scattered), strict=True):
        assert (whole[scattered] == part).all()


def test_the_order_never_changes():
    plan = HalvedShares((700_000_000_001, 300_000_000_007, 0, 99_511_627_768))
    dataset, k = plan.locate(np.arange(24))
    assert dataset.tolist() == [0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 3, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 3, 0, 0]
    assert k.tolist() == [0, 1, 0, 2, 3, 1, 4, 5, 2, 6, 0, 7, 8, 3, 9, 10, 4, 11, 12, 5, 13, 1, 14, 15]
    dataset, k = plan.locate(np.array([65535, 65536, 10**6, 10**12, 10**15]))
    assert dataset.tolist() == [1, 0, 1, 0, 3]
    assert k.tolist() == [17881, 41723, 272848, 636646291242, 90505298219795]
    assert plan.counts_before(10**15).tolist() == [636646291241960, 272848410538245, 0, 90505298219795]


def test_a_data_set_without_weight_is_never_drawn_and_a_pickled_plan_is_the_same():
    plan = pickle.loads(pickle.dumps(HalvedShares((TOTAL - 10**9, 0, 10**9))))
    assert plan.counts_before(10**9)[1] == 0
    assert plan.shares().tolist() == pytest.approx([1 - 10**9 / TOTAL, 0, 10**9 / TOTAL])


def test_what_is_dealt_lies_within_bounds_and_goes_to_those_most_behind():
    error = np.array([-30, -60, -90, 20])
    added = deal(error, 2, np.zeros(4, np.int64), np.ones(4, np.int64), [slice(0, 4)], 100)
    assert added.tolist() == [0, 1, 1, 0]


def test_more_than_can_be_dealt_without_harm_goes_to_those_for_whom_it_is_least():
    error = np.array([10, 60, 30])
    added = deal(error, 2, np.zeros(3, np.int64), np.ones(3, np.int64), [slice(0, 1), slice(1, 3)], 100)
    assert added.tolist() == [1, 0, 1]


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6)), min_size=1, max_size=12))
def test_all_deadlines_are_met_where_some_order_meets_them(windows):
    release = np.array([start for start, _ in windows])
    deadline = release + [length for _, length in windows]
    jobs = np.arange(len(windows))
    place_of_job = np.argsort(earliest_deadline_first(release, deadline, jobs))
    meets = (place_of_job <= deadline).all()
    # By Hall's theorem an order exists if no span of places is wanted by more jobs than it has places, counting places
    # from 0 to the number of jobs; jobs may go before their release here, so only deadlines bind.
    possible = all((deadline < due).sum() <= due for due in range(1, len(windows) + 1))
    if meets:
        assert possible
    if possible and (release == 0).all():
        assert meets
