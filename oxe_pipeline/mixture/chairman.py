"""Shares as whole samples: which data set each sample number goes to, so that no data set is ever a whole sample ahead
of its share or behind it, at any prefix of the stream.

This is Tijdeman's solution of the chairman assignment problem ("The chairman assignment problem", Discrete Mathematics
32, 1980): of the data sets that are not too far ahead, take the one whose turn is due first. The error is at most 1 -
1/(2D - 2) for D data sets. To find place g in O(1) the assignment is kept as a table of one period; that costs up to 4
MB and a third of a second. Weights with a longer period go by `halving`.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

MAX_PERIOD = 1 << 18
"""Longest table."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SharePlan:
    """The places of one period, repeated for ever. Made by `from_counts`; arrays are read-only."""

    period: int
    dataset_of_place: np.ndarray
    """int32 [period]."""
    draw_of_place: np.ndarray
    """int64 [period]: how many earlier places of the period belong to the same data set."""
    count_of_dataset: np.ndarray
    """int64 [D]: places of each data set in a period; sums to `period`."""

    @staticmethod
    def from_counts(counts: Sequence[int]) -> "SharePlan":
        """The plan in which data set d gets counts[d] of every sum(counts) samples. Deterministic, and cached."""
        return _plan(tuple(int(count) for count in counts))

    def shares(self) -> np.ndarray:
        """float64 [D]: what part of all samples each data set gets."""
        return self.count_of_dataset / self.period

    def locate(self, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(data set int32 [N], k int64 [N]) of sample numbers g int64 [N]: sample g is the data set's k-th, from 0."""
        cycle, place = np.divmod(g, self.period)
        dataset = self.dataset_of_place[place]
        return dataset, self.draw_of_place[place] + cycle * self.count_of_dataset[dataset]

    def counts_before(self, g: int) -> np.ndarray:
        """int64 [D]: how many of the samples 0 .. g-1 belong to each data set."""
        cycle, place = divmod(g, self.period)
        part = np.bincount(self.dataset_of_place[:place], minlength=len(self.count_of_dataset))
        return part + cycle * self.count_of_dataset


@lru_cache(maxsize=16)
def _plan(counts: tuple[int, ...]) -> SharePlan:
    count_of_dataset = np.array(counts, np.int64)
    period = int(count_of_dataset.sum())
    if not 0 < period <= MAX_PERIOD or count_of_dataset.min() < 0:
        raise ValueError(f"counts must be 0 or more and sum to 1 .. {MAX_PERIOD}, they sum to {period}")
    dataset_of_place = _assign(count_of_dataset)
    draw_of_place = np.empty(period, np.int64)
    # A stable sort groups the places of each data set in order; a place's rank in its group is its draw.
    by_dataset = np.argsort(dataset_of_place, kind="stable")
    group_start = np.cumsum(count_of_dataset) - count_of_dataset
    draw_of_place[by_dataset] = np.arange(period) - np.repeat(group_start, count_of_dataset)
    for array in (dataset_of_place, draw_of_place, count_of_dataset):
        array.flags.writeable = False
    return SharePlan(
        period=period,
        dataset_of_place=dataset_of_place,
        draw_of_place=draw_of_place,
        count_of_dataset=count_of_dataset,
    )


def _assign(counts: np.ndarray) -> np.ndarray:
    """int32 [period]: Tijdeman's assignment, as earliest deadline first over unit jobs.

    With m = 2D - 2, draw k of a data set with share c/P may not come before place t = P(k + 1/m)/c, and is due before
    place P(k + 1 - 1/m)/c (1-based places; release rounded up, deadline down: places are whole).
    """
    period, positive = int(counts.sum()), np.flatnonzero(counts)
    if len(positive) == 1:
        return np.full(period, positive[0], np.int32)
    m = 2 * len(positive) - 2
    dataset = np.repeat(positive, counts[positive])
    share = counts[dataset]
    draw = np.arange(period) - np.repeat(np.cumsum(counts) - counts, counts)
    release = -(-period * (draw * m + 1) // (share * m))
    deadline = period * (draw * m + m - 1) // (share * m)
    order = np.argsort(release, kind="stable")
    first_job = np.searchsorted(release[order], np.arange(1, period + 2)).tolist()
    # Deadline and data set in one integer: the heap compares plain numbers, and ties go to the earlier data set.
    jobs = (deadline * len(counts) + dataset)[order].tolist()
    waiting: list[int] = []
    assigned = []
    for place in range(period):
        for job in jobs[first_job[place] : first_job[place + 1]]:
            heapq.heappush(waiting, job)
        assigned.append(heapq.heappop(waiting))
    return (np.array(assigned) % len(counts)).astype(np.int32)
