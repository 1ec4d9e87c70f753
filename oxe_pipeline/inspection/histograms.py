"""Histograms of slots over a bounded sample of steps, on an axis that outliers cannot squeeze.

The manifest's statistics are exact and of all train steps; the sample gives the shape between their marks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from oxe_pipeline.inspection.selection import Selection, sampled_rows
from oxe_pipeline.stream.reader import Stream

BINS = 48
_WIDE = 0.35
"""Of the span from q01 to q99, on either side of it: how far an axis reaches when values go on beyond."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Histogram:
    """Counts int64 [bins, BINS at most] of values between `low` and `high`, both included."""

    low: float
    high: float
    counts: np.ndarray
    below: int
    above: int
    not_finite: int

    @property
    def is_constant(self) -> bool:
        return self.low == self.high


def histogram(values: np.ndarray, numbers: Mapping[str, float]) -> Histogram:
    """Of values [N]; `numbers` are the slot's statistics of the manifest, {} where there are none.

    Values outside the axis are counted in `below` and `above`: nothing is left out in silence.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    low, high = axis(finite, numbers)
    inside = finite[(finite >= low) & (finite <= high)]
    if low == high:
        counts = np.zeros(BINS, np.int64)
        counts[BINS // 2] = len(inside)
    else:
        place = ((inside - low) / (high - low) * BINS).astype(np.int64)
        counts = np.bincount(np.minimum(place, BINS - 1), minlength=BINS)
    return Histogram(
        low=low,
        high=high,
        counts=counts,
        below=int((finite < low).sum()),
        above=int((finite > high).sum()),
        not_finite=len(values) - len(finite),
    )


def whole_number_histogram(values: np.ndarray) -> Histogram:
    """Of whole numbers [N >= 1] from 0 on, such as lengths: every bar stands for as many different numbers as any
    other, so that none is taller or lower for that. Few far ones are counted in `above`."""
    last = min(int(values.max()), int(np.quantile(values, 0.99) * (1 + _WIDE)))
    width = last // BINS + 1
    bins = last // width + 1
    inside = values[values < bins * width]
    return Histogram(
        low=0.0,
        high=float(bins * width),
        counts=np.bincount(inside // width, minlength=bins),
        below=0,
        above=len(values) - len(inside),
        not_finite=0,
    )


def axis(finite: np.ndarray, numbers: Mapping[str, float]) -> tuple[float, float]:
    """Least and greatest value of the axis: all values where they lie close, else q01 to q99 and a margin."""
    if {"min", "max", "q01", "q99"} <= numbers.keys():
        least, q01, q99, most = (float(numbers[key]) for key in ("min", "q01", "q99", "max"))
    elif len(finite):
        least, q01, q99, most = (float(value) for value in np.quantile(finite, (0, 0.01, 0.99, 1)))
    else:
        return 0.0, 0.0
    margin = _WIDE * (q99 - q01)
    if margin == 0:
        return least, most
    return max(least, q01 - margin), min(most, q99 + margin)


def sampled_vectors(stream: Stream, selection: Selection, vectors: tuple[str, ...], *, most: int) -> dict:
    """Vector name -> float32 [N, width]: the values of at most `most` steps, the same steps for every vector."""
    pieces: dict[str, list[np.ndarray]] = {vector: [] for vector in vectors}
    for number, rows in sampled_rows(stream, selection, most=most).items():
        shard = stream.shard(number)
        for vector, kept in pieces.items():
            kept.append(shard.vectors[vector][rows])
    return {vector: np.concatenate(kept) if kept else np.zeros((0, 0), np.float32) for vector, kept in pieces.items()}
