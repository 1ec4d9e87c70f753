"""Weights that may change during a run, without a sample being lost or repeated: a list of segments, each with a plan.

In a new segment each data set's count of samples goes on from where the last one left it, so its epochs do too. A
change takes effect at a multiple of BLOCK, the first one at or after the number asked for: only whole blocks are
shuffled, so nothing that was already drawn changes when a segment is appended.

A segment also makes up for the fractions of a sample by which the one before it ended off, so that errors do not add up
over many changes. Only a data set that loses its weight keeps its last one, which the others bear: where data sets come
and go, an error may exceed one sample, though not two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

import numpy as np

from oxe_pipeline.mixture.chairman import MAX_PERIOD, SharePlan
from oxe_pipeline.mixture.halving import HalvedShares
from oxe_pipeline.mixture.shares import MAX_TOTAL, WeightError, exact, quantise

BLOCK = 32
"""Samples within which the order of the data sets is shuffled. A batch of a multiple of 32 holds each data set's share
to less than one sample either way; a longer block would mix no better and hold shares less tightly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """From sample number `start` on, data set i of the schedule gets counts[i] of every sum(counts) samples."""

    start: int
    counts: tuple[int, ...]


class Schedule:
    """Which data set each sample number goes to, and its how-many-eth sample it is. Immutable.

    `names` are the data sets of all segments, sorted: the order in which they were listed has no influence.
    """

    def __init__(self, names: Sequence[str], segments: Sequence[Segment]):
        self.names = tuple(names)
        self.segments = tuple(segments)
        if list(self.names) != sorted(set(self.names)):
            raise ValueError("names of a schedule must be sorted and different")
        starts = [segment.start for segment in self.segments]
        if not starts or starts[0] != 0 or any(b <= a for a, b in pairwise(starts)):
            raise WeightError(f"segments must start at 0 and ascend, they start at {starts}")
        if any(start % BLOCK for start in starts):
            raise WeightError(f"segments must start at multiples of {BLOCK}, they start at {starts}")
        self._starts = np.array(starts, np.int64)
        self._mixes = np.array([sum(count > 0 for count in segment.counts) > 1 for segment in self.segments])
        self.plans: list[SharePlan | HalvedShares] = []
        self._drawn_before = np.zeros((len(starts), len(self.names)), np.int64)
        ahead = [Fraction(0)] * len(self.names)
        for number, segment in enumerate(self.segments):
            plan = share_plan(segment.counts, ahead)
            self.plans.append(plan)
            if number + 1 < len(starts):
                length, total = starts[number + 1] - segment.start, sum(segment.counts)
                drawn = plan.counts_before(length)
                self._drawn_before[number + 1] = self._drawn_before[number] + drawn
                ahead = [
                    had + int(n) - Fraction(length * count, total)
                    for had, n, count in zip(ahead, drawn, segment.counts, strict=True)
                ]

    @classmethod
    def from_weights(cls, weights: Mapping[str, float | Fraction]) -> "Schedule":
        """One segment for ever. WeightError as in shares.quantise."""
        return cls.from_mapping({0: weights})

    @classmethod
    def from_mapping(cls, weights_from: Mapping[int, Mapping[str, float | Fraction]]) -> "Schedule":
        """{sample number: {data set: weight}}; must hold 0. A data set that a segment does not name has weight 0 there.

        Raises WeightError for bad weights, a missing 0, or two changes within one block.
        """
        if 0 not in weights_from:
            raise WeightError(
                f"the schedule starts at {min(weights_from, default=None)}; say the weights from 0 on too"
            )
        names = sorted({name for weights in weights_from.values() for name in weights})
        segments: list[Segment] = []
        for start in sorted(weights_from):
            segment = Segment(start=block_start(start), counts=_counts(weights_from[start], names))
            if segments and segments[-1].start == segment.start:
                raise WeightError(f"two changes of weights within {BLOCK} samples at {start}; set them further apart")
            segments.append(segment)
        return cls(names, segments)

    def reweighted(self, g: int, weights: Mapping[str, float | Fraction]) -> "Schedule":
        """This schedule with other weights from sample number `g` on (rounded up to a block), later segments dropped.

        `weights` may name data sets that are new. What comes before `g` stays as it is, sample for sample.
        """
        start = block_start(g)
        names = sorted({*self.names, *weights})
        kept = [
            Segment(start=segment.start, counts=tuple(_by_name(self.names, segment.counts).get(n, 0) for n in names))
            for segment in self.segments
            if segment.start < start
        ]
        return Schedule(names, [*kept, Segment(start=start, counts=_counts(weights, names))])

    def locate(self, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(data set int32 [N], k int64 [N]) of sample numbers g int64 [N] >= 0, before blocks are shuffled.

        `data set` indexes `names`; the sample is that data set's k-th since the start of the run, from 0.
        """
        segment_of = np.searchsorted(self._starts, g, side="right") - 1
        dataset, k = np.empty(g.shape, np.int32), np.empty(g.shape, np.int64)
        for number in np.unique(segment_of):
            here = segment_of == number
            dataset[here], k[here] = self.plans[number].locate(g[here] - self._starts[number])
        return dataset, k + self._drawn_before[segment_of, dataset]

    def mixes(self, g: np.ndarray) -> np.ndarray:
        """bool [N]: whether several data sets are drawn from in the segment of each sample number."""
        return self._mixes[np.searchsorted(self._starts, g, side="right") - 1]

    def drawn_before(self, g: int) -> np.ndarray:
        """int64 [D]: samples of each data set below `g`, before blocks are shuffled; exact at multiples of BLOCK."""
        number = int(np.searchsorted(self._starts, g, side="right")) - 1
        return self._drawn_before[number] + self.plans[number].counts_before(g - int(self._starts[number]))

    def shares_at(self, g: int) -> dict[str, float]:
        """Data set to its share of the samples, in the segment that sample number `g` is in."""
        number = int(np.searchsorted(self._starts, g, side="right")) - 1
        return dict(zip(self.names, self.plans[number].shares().tolist(), strict=True))

    def weights_from(self, g: int) -> dict[int, dict[str, int]]:
        """{sample number: {data set: whole-number weight}} from `g` on (rounded up to a block), that number first.

        Data sets at 0 are left out.
        """
        start = block_start(g)
        reached = [segment for segment in self.state() if segment["start"] <= start][-1]
        later = {segment["start"]: segment["counts"] for segment in self.state() if segment["start"] > start}
        return {start: reached["counts"], **later}

    def agrees_before(self, other: "Schedule", g: int) -> bool:
        """Whether both schedules give the same samples below `g`."""
        return _prefix(self, g) == _prefix(other, g)

    def state(self) -> list[dict]:
        """As JSON: per segment its start and the whole-number proportion of each data set that has one."""
        return [
            {"start": s.start, "counts": {n: c for n, c in _by_name(self.names, s.counts).items() if c}}
            for s in self.segments
        ]

    @classmethod
    def from_state(cls, state: list[dict]) -> "Schedule":
        """The schedule that `state` gave; exact, since it holds whole numbers."""
        return cls.from_mapping({segment["start"]: segment["counts"] for segment in state})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and self.state() == other.state()


def block_start(g: int) -> int:
    """The first multiple of BLOCK at or after `g`; WeightError for a negative number."""
    if g < 0:
        raise WeightError(f"a schedule cannot change weights at sample number {g}; numbers start at 0")
    return -(-g // BLOCK) * BLOCK


def parse_weights(text: str) -> dict[str, float]:
    """The weights in a=1,b=0.5 as {"a": 1.0, "b": 0.5}; a name alone means 1. WeightError where it does not parse."""
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not name:
            raise WeightError(f"weights {text!r} have an empty part; write name=weight,name=weight")
        if name in weights:
            raise WeightError(f"weights {text!r} name data set {name} twice; keep one of them")
        try:
            weights[name] = float(value) if equals else 1.0
            exact(weights[name])
        except ValueError:
            raise WeightError(f"weight {value!r} of data set {name} is not a number; write one such as 0.5") from None
        if weights[name] < 0:
            raise WeightError(f"weight {value} of data set {name} is negative; weights are 0 or more")
    return weights


def parse_schedule(text: str) -> dict[int, dict[str, float]]:
    """The changes in 0: a=1,b=1; 50000: a=2,b=1 as {0: {...}, 50000: {...}}. WeightError where it does not parse."""
    weights_from: dict[int, dict[str, float]] = {}
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        start, colon, weights = part.partition(":")
        if not colon or not start.strip().isdecimal():
            raise WeightError(f"schedule part {part!r} does not parse; write it as 50000: a=2,b=1")
        if int(start) in weights_from:
            raise WeightError(f"schedule {text!r} says the weights from {int(start)} on twice; keep one of them")
        weights_from[int(start)] = parse_weights(weights)
    if not weights_from:
        raise WeightError("the schedule is empty; write it as 0: a=1,b=1; 50000: a=2,b=1")
    return weights_from


def share_plan(counts: Sequence[int], ahead: Sequence[Fraction] | None = None) -> SharePlan | HalvedShares:
    """Who gets which place when data set d gets counts[d] of every sum(counts): a table where it is short enough.

    `ahead`: samples by which each data set is ahead of its share when this begins, which need not sum to 0.
    """
    if ahead and any(error for error, count in zip(ahead, counts, strict=True) if count):
        return _halved(*_making_up(counts, ahead))
    if sum(counts) <= MAX_PERIOD:
        return SharePlan.from_counts(counts)
    return _halved(tuple(counts))


@lru_cache(maxsize=16)
def _halved(counts: tuple[int, ...], ahead: tuple[int, ...] | None = None) -> HalvedShares:
    return HalvedShares(counts, ahead)


def _making_up(counts: Sequence[int], ahead: Sequence[Fraction]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The same proportion in the finest parts, and the errors of those that have a share in such parts, summing to 0.

    What the others keep, those with a share have to bear, each by its share.
    """
    scale = MAX_TOTAL // sum(counts)
    fine = [count * scale for count in counts]
    total = sum(fine)
    borne = sum(error for error, count in zip(ahead, counts, strict=True) if count)
    parts = [
        round((error - borne * Fraction(count, total)) * total) if count else 0
        for error, count in zip(ahead, fine, strict=True)
    ]
    parts[fine.index(max(fine))] -= sum(parts)
    return tuple(fine), tuple(parts)


def _counts(weights: Mapping[str, float | Fraction], names: list[str]) -> tuple[int, ...]:
    return tuple(quantise([weights.get(name, 0) for name in names], names))


def _by_name(names: Sequence[str], counts: Sequence[int]) -> dict[str, int]:
    return dict(zip(names, counts, strict=True))


def _prefix(schedule: Schedule, g: int) -> list[dict]:
    return [segment for segment in schedule.state() if segment["start"] < max(g, 1)]
