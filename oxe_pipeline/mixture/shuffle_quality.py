"""Shuffle quality as a number: how many episodes and data sets meet in a batch, against a uniform independent draw.

A batch whose samples come from few episodes says the same thing many times over, and its gradient is worth that much
less. What an order achieves is counted on batches spread over a pass through the mixture; what drawing each sample
independently of all others would achieve, with the same shares, is known in closed form: of things with probabilities
p_i, n draws meet sum(1 - (1 - p_i)^n) on average. Their ratio is the score: 1 is as good as independent draws; an order
that keeps neighbours together to read less scores lower. Slightly above 1 is usual, since here no step comes twice
before every other has come once. Counting a part of the batches leaves an error of some per mille in the score.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from oxe_pipeline.mixture.mixture import Mixture

STRETCH = 10
"""Batches in a row over which episodes are counted together: an order may hide its clumps from a single batch."""
_STRETCHES = 16
_MOST_SAMPLES = 1 << 22
_BELOW_ONE = 1 - 2**-53


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """A mean over the batches looked at, and what independent draws would give in expectation."""

    drawn: float
    uniform: float

    @property
    def ratio(self) -> float:
        return self.drawn / self.uniform


@dataclass(frozen=True, kw_only=True, slots=True)
class ShuffleQuality:
    """How well an order of samples is mixed, at one batch size."""

    batch_size: int
    batches: int
    """Batches looked at, in stretches of STRETCH."""
    episodes_per_batch: Measure
    episodes_per_stretch: Measure
    datasets_per_batch: Measure
    samples_with_neighbour: Measure
    """Share, 0 .. 1, of samples that have another sample of the same episode in their batch; lower is better."""

    @property
    def score(self) -> float:
        """The lowest ratio of the three counts: 1 is as good as independent draws, 0.5 meets half as much."""
        return min(self.episodes_per_batch.ratio, self.episodes_per_stretch.ratio, self.datasets_per_batch.ratio)


def shuffle_quality(mixture: Mixture, batch_size: int) -> ShuffleQuality:
    """Counts up to 16 stretches of 10 batches, evenly spread over as many samples as the mixture has windows.

    The same for the same mixture, seed and batch size. Costs some tens of bytes per episode while it runs, and nothing
    per window. ValueError for a batch size below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more, is {batch_size}")
    uniform = _UniformDraw(mixture)
    first_row = np.cumsum([0, *(len(dataset.stream.episodes) for dataset in mixture.datasets)])
    batches: list[tuple[Measure, Measure, Measure]] = []
    stretches: list[Measure] = []
    for start in _stretch_starts(mixture, batch_size):
        rows_of_stretch: list[np.ndarray] = []
        draws = Counter[int]()
        for number in range(start, start + STRETCH):
            dataset, episode, _ = mixture.locate(np.arange(number * batch_size, (number + 1) * batch_size))
            rows, counts = np.unique(first_row[dataset] + episode, return_counts=True)
            segment = uniform.segment_of(number * batch_size)
            batches.append(
                (
                    Measure(drawn=len(rows), uniform=uniform.episodes(((segment, batch_size),))),
                    Measure(drawn=len(np.unique(dataset)), uniform=uniform.datasets(segment, batch_size)),
                    Measure(
                        drawn=int(counts[counts > 1].sum()) / batch_size,
                        uniform=uniform.with_neighbour(segment, batch_size),
                    ),
                )
            )
            rows_of_stretch.append(rows)
            draws[segment] += batch_size
        stretches.append(
            Measure(
                drawn=len(np.unique(np.concatenate(rows_of_stretch))), uniform=uniform.episodes(tuple(draws.items()))
            )
        )
    episodes, datasets, neighbours = (_mean(column) for column in zip(*batches, strict=True))
    return ShuffleQuality(
        batch_size=batch_size,
        batches=len(batches),
        episodes_per_batch=episodes,
        episodes_per_stretch=_mean(stretches),
        datasets_per_batch=datasets,
        samples_with_neighbour=neighbours,
    )


class _UniformDraw:
    """Expectations of drawing each sample independently: a data set by its share, then one of its windows evenly."""

    def __init__(self, mixture: Mixture):
        self._schedule, self._names = mixture.schedule, [dataset.name for dataset in mixture.datasets]
        self._starts = [segment.start for segment in mixture.schedule.segments]
        self._dataset_of_episode, windows = mixture.windows_per_episode()
        total = np.array([dataset.num_steps for dataset in mixture.datasets])
        self._share_in_dataset = windows / total[self._dataset_of_episode]
        # Weights change seldom, so that nearly every batch asks the same, and an answer may take a million episodes.
        self.episodes = cache(self._episodes)
        self.datasets = cache(self._datasets)
        self.with_neighbour = cache(self._with_neighbour)

    def segment_of(self, g: int) -> int:
        """The number of the schedule's segment that sample number `g` is in."""
        return bisect_right(self._starts, g) - 1

    def _episodes(self, draws: tuple[tuple[int, int], ...]) -> float:
        """Different episodes among samples of which `draws` = ((segment, number of samples), ...) says where they are
        drawn."""
        log_missed = sum(samples * _log_missed(self._episode_shares(segment)) for segment, samples in draws)
        return float(-np.expm1(log_missed).sum())

    def _datasets(self, segment: int, samples: int) -> float:
        return float(-np.expm1(samples * _log_missed(self._dataset_shares(segment))).sum())

    def _with_neighbour(self, segment: int, samples: int) -> float:
        shares = self._episode_shares(segment)
        return float(-(shares * np.expm1((samples - 1) * _log_missed(shares))).sum())

    def _episode_shares(self, segment: int) -> np.ndarray:
        return self._dataset_shares(segment)[self._dataset_of_episode] * self._share_in_dataset

    def _dataset_shares(self, segment: int) -> np.ndarray:
        shares = self._schedule.shares_at(self._starts[segment])
        return np.array([shares.get(name, 0.0) for name in self._names])


def _log_missed(share: np.ndarray) -> np.ndarray:
    """Logarithm of the probability that one draw is something else."""
    return np.log1p(-np.minimum(share, _BELOW_ONE))


def _stretch_starts(mixture: Mixture, batch_size: int) -> Iterator[int]:
    """Numbers of the batches at which to start counting: one at random in each of equal parts of a pass."""
    stretches = max(1, min(_STRETCHES, _MOST_SAMPLES // (STRETCH * batch_size)))
    windows = sum(dataset.num_steps for dataset in mixture.datasets)
    part = max(STRETCH, windows // (stretches * batch_size))
    offsets = np.random.default_rng(mixture.seed).integers(0, part - STRETCH + 1, stretches)
    return (number * part + int(offset) for number, offset in enumerate(offsets))


def _mean(measures: Sequence[Measure]) -> Measure:
    return Measure(
        drawn=float(np.mean([measure.drawn for measure in measures])),
        uniform=float(np.mean([measure.uniform for measure in measures])),
    )
