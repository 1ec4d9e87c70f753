"""Shares as whole samples where no short period holds them: any weights, any sample number, no table of the whole.

How many samples each data set has had is fixed in closed form at every multiple of a long stretch, long enough that
even the rarest data set comes once in it. What lies between is found by halving: at the middle of a stretch the counts
are set so that no data set is a whole sample ahead or behind, down to leaves of LEAF places, in which the places are
dealt by earliest deadline. A place is found in O(D log(stretch)) from nothing, and in O(1) within a leaf that is known.

At the multiples of the stretch the error is below one sample by construction. Between them the rules keep it at or
below one wherever that can be done; that it always can is not proven (Tijdeman's proof in `chairman` needs the table of
a whole period). `benchmarks/shares.py` looks for exceptions; docs/performance.md
says what it found.

Everything is integers, in units of 1/total of a sample: the same on every machine.
"""

import heapq
from functools import lru_cache
from itertools import pairwise

import numpy as np

LEAF = 1 << 16
"""Places dealt at once, in about 60 ms. Fewer would be dealt sooner, but each border constrains what lies beside it:
with 2^14 places one leaf in two thousand had a data set a few hundredths beyond one sample."""


class HalvedShares:
    """Data set d gets counts[d] of every sum(counts) samples, for ever; sum(counts) <= 2^40.

    `ahead`, in units of 1/sum(counts) of a sample: by how much each data set that has a share is ahead of it, or
    behind, when this begins; it is made up for. It sums to 0. Pickles as its arguments. Safe from several threads.
    """

    def __init__(self, counts: tuple[int, ...], ahead: tuple[int, ...] | None = None):
        self.counts = counts
        self._arguments = (counts, ahead)
        self._total = sum(counts)
        # Heaviest first, ties to the earlier data set; data sets without a share take no part.
        self._by_weight = np.array(sorted((i for i, c in enumerate(counts) if c), key=lambda i: (-counts[i], i)))
        self._weights = [counts[i] for i in self._by_weight]
        self._weight = np.array(self._weights, np.int64)
        octave = np.frexp(self._weight.astype(np.float64))[1]
        borders = [0, *(np.flatnonzero(np.diff(octave)) + 1).tolist(), len(octave)]
        self._tiers = [slice(start, stop) for start, stop in pairwise(borders)]
        self._ahead = [ahead[i] if ahead else 0 for i in self._by_weight.tolist()]
        levels = 0
        while (LEAF << levels) * self._weights[-1] < self._total + max(0, *self._ahead):
            levels += 1
        self._levels = levels
        quotients = [[divmod((LEAF << level) * w, self._total) for w in self._weights] for level in range(levels)]
        self._even = [tuple(np.array(column, np.int64) for column in zip(*level, strict=True)) for level in quotients]
        self._node = lru_cache(maxsize=128)(self._find_node)
        self._leaf = lru_cache(maxsize=8)(self._deal_leaf)

    def __reduce__(self):
        return HalvedShares, self._arguments

    def shares(self) -> np.ndarray:
        """float64 [D]: what part of all samples each data set gets."""
        return np.array(self.counts) / self._total

    def locate(self, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(data set int32 [N], k int64 [N]) of sample numbers g int64 [N]: sample g is the data set's k-th, from 0."""
        leaf, place = np.divmod(g, LEAF)
        dataset, k = np.empty(g.shape, np.int32), np.empty(g.shape, np.int64)
        for number in np.unique(leaf).tolist():
            here = leaf == number
            before, dataset_of_place, draw_of_place = self._leaf(number)
            dataset[here] = dataset_of_place[place[here]]
            k[here] = draw_of_place[place[here]] + before[dataset[here]]
        return dataset, k

    def counts_before(self, g: int) -> np.ndarray:
        """int64 [D]: how many of the samples 0 .. g-1 belong to each data set."""
        leaf, place = divmod(g, LEAF)
        before, dataset_of_place, _ = self._leaf(leaf)
        return before + np.bincount(dataset_of_place[:place], minlength=len(self.counts))

    def _find_node(self, level: int, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(drawn before, error before, drawn in it), int64 each, of stretch `number` of LEAF * 2^level places.

        Error: samples had minus samples due, in units of 1/total.
        """
        if level == self._levels:
            before, error = self._at_stretch(number)
            return before, error, self._at_stretch(number + 1)[0] - before
        before, error, drawn = self._node(level + 1, number // 2)
        base, remainder = self._even[level]
        extra = (LEAF << level) - int(base.sum())
        first_half = base + deal(error - remainder, extra, -base, drawn - base, self._tiers, self._total)
        if number % 2 == 0:
            return before, error, first_half
        return before + first_half, error - remainder + (first_half - base) * self._total, drawn - first_half

    def _at_stretch(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """(drawn before, error) at a multiple of the longest stretch.

        Each data set has had its due rounded down or up, and is due at least once per stretch: the counts never fall.
        """
        if number == 0:
            return np.zeros(len(self._weights), np.int64), np.array(self._ahead, np.int64)
        start = number * (LEAF << self._levels)
        quotients = [
            divmod(start * weight - ahead, self._total)
            for weight, ahead in zip(self._weights, self._ahead, strict=True)
        ]
        before = np.array([whole for whole, _ in quotients], np.int64)
        behind = np.array([part for _, part in quotients], np.int64)
        up = deal(-behind, start - int(before.sum()), np.zeros_like(behind), np.sign(behind), self._tiers, self._total)
        return before + up, up * self._total - behind

    def _deal_leaf(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(drawn before [D], data set of each place int32 [LEAF], its draw in the leaf int64 [LEAF])."""
        before, error, drawn = self._node(0, number)
        rank = np.repeat(np.arange(len(drawn)), drawn)
        draw = np.arange(LEAF) - np.repeat(np.cumsum(drawn) - drawn, drawn)
        ahead = error[rank] + draw * self._total
        weight = self._weight[rank]
        # Not before the place where it would put its data set a sample ahead, nor after that where it falls behind.
        release = -(-ahead // weight) - 1
        deadline = np.minimum((ahead + self._total) // weight, LEAF - 1)
        rank_of_place = earliest_deadline_first(release, np.maximum(deadline, 0), rank)
        by_rank = np.argsort(rank_of_place, kind="stable")
        draw_of_place = np.empty(LEAF, np.int64)
        draw_of_place[by_rank] = draw
        all_before = np.zeros(len(self.counts), np.int64)
        all_before[self._by_weight] = before
        return all_before, self._by_weight[rank_of_place].astype(np.int32), draw_of_place


def deal(
    error: np.ndarray, places: int, low: np.ndarray, high: np.ndarray, tiers: list[slice], total: int
) -> np.ndarray:
    """int64 [D] in low .. high, `places` in sum: what to add to each data set's count so that all errors stay small.

    `error` int64 [D], the heaviest data set first, is what each would be ahead by (in 1/total of a sample) if nothing
    were added. Everybody first gets what leaves it less than one sample behind. The rest goes tier by tier, the
    lightest first, to those most behind, as many as bring the sum of all errors so far nearest to zero: rare data sets
    that are ahead all at once could not be made up for by a few frequent ones.
    """
    added = np.clip(-error // total, low, high)
    error = error + added * total
    left = places - int(added.sum())
    owed = 0
    for number, tier in reversed(list(enumerate(tiers))):
        due = (total // 2 - owed - int(error[tier].sum())) // total if number else left
        behind = np.flatnonzero((added[tier] < high[tier]) & (error[tier] <= 0)) + tier.start
        chosen = behind[np.argsort(error[behind], kind="stable")[: max(due, 0)]]
        added[chosen] += 1
        error[chosen] += total
        left -= len(chosen)
        owed += int(error[tier].sum())
    while left:
        # Somebody has to go beyond a whole sample: those for whom it is least.
        step = 1 if left > 0 else -1
        able = np.flatnonzero(added < high if left > 0 else added > low)
        chosen = able[np.argsort(step * error[able], kind="stable")[: abs(left)]]
        added[chosen] += step
        error[chosen] += step * total
        left -= step * len(chosen)
    return added


def earliest_deadline_first(release: np.ndarray, deadline: np.ndarray, job: np.ndarray) -> np.ndarray:
    """int64 [N]: which `job` (int >= 0) is done in each of N unit places; N jobs with whole `release` and `deadline`.

    Of the jobs released the one due first goes first, ties to the lower job: meets all deadlines if that can be done at
    all. Where none is released, the next to be released goes early: no place stays empty.
    """
    order = np.argsort(release, kind="stable")
    kinds = int(job.max()) + 1
    # Deadline and job in one integer: the heap compares plain numbers.
    waiting_from, keys = release[order].tolist(), (deadline * kinds + job)[order].tolist()
    waiting: list[int] = []
    done, next_job = [], 0
    for place in range(len(keys)):
        while next_job < len(keys) and (waiting_from[next_job] <= place or not waiting):
            heapq.heappush(waiting, keys[next_job])
            next_job += 1
        done.append(heapq.heappop(waiting))
    return np.array(done, np.int64) % kinds
