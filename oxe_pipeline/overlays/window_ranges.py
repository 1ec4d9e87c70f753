"""Which windows of a stream may be drawn, and how often: ranges of steps, not a flag per step.

A filter keeps stretches of episodes, so ranges cost some bytes per stretch where flags would cost a byte per step, and
one search finds the step of a window. Only where a window may *start* is said here: what it reads before and after that
step is the whole episode's, filtered steps included.
"""

from dataclasses import dataclass

import numpy as np

MAX_REPEATS = 1000
"""Of one step in an epoch. Weights that need more are meant as something else, mostly as probabilities."""


@dataclass(frozen=True, slots=True)
class WindowRanges:
    """Rows in the order of episode and step, int32 [R] each. `episode` is the row in the stream's episode index."""

    episode: np.ndarray
    first_step: np.ndarray
    end_step: np.ndarray
    """Exclusive."""
    repeats: np.ndarray
    """How often each window of the range comes in one epoch of the data set; 1 or more."""

    @staticmethod
    def of_episodes(length: np.ndarray, eligible: np.ndarray) -> "WindowRanges":
        """Every step of the episodes that `eligible` bool [E] marks, once; `length` [steps] int [E]. Episodes without
        a step have no range."""
        episode = np.flatnonzero(eligible & (length >= 1)).astype(np.int32)
        end_step = length[episode].astype(np.int32)
        return WindowRanges(episode, np.zeros_like(episode), end_step, np.ones_like(episode))

    @staticmethod
    def of_steps(repeats: np.ndarray, length: np.ndarray) -> "WindowRanges":
        """From how often each step comes, int [sum(length)] with 0 for never, of episodes of `length` int [E] steps
        that lie end to end."""
        first, end = runs(repeats, length)
        kept = repeats[first] > 0
        first, end = first[kept], end[kept]
        start = np.cumsum(length) - length
        episode = np.repeat(np.arange(len(length)), length)[first]
        columns = (episode, first - start[episode], end - start[episode], repeats[first])
        return WindowRanges(*(np.asarray(column, np.int32) for column in columns))

    def __len__(self) -> int:
        return len(self.episode)

    @property
    def num_steps(self) -> int:
        """Different windows."""
        return int((self.end_step - self.first_step).sum(dtype=np.int64))

    @property
    def num_windows(self) -> int:
        """Windows per epoch: each step as often as it is repeated."""
        return int(self.windows_per_range().sum())

    def windows_per_range(self) -> np.ndarray:
        """int64 [R]: windows per epoch of each range."""
        return (self.end_step - self.first_step).astype(np.int64) * self.repeats

    @property
    def num_episodes(self) -> int:
        """Different episodes."""
        return int(np.count_nonzero(np.diff(self.episode)) + 1) if len(self) else 0

    def within(self, eligible: np.ndarray) -> "WindowRanges":
        """The ranges of the episodes that `eligible` bool [E] marks."""
        kept = eligible[self.episode]
        return WindowRanges(self.episode[kept], self.first_step[kept], self.end_step[kept], self.repeats[kept])


def runs(values: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(first, end) int64 [R] each: the longest stretches of equal neighbours in `values` [sum(length)] that lie within
    one episode; `end` is exclusive. Together they cover everything, in order."""
    total = len(values)
    starts = np.zeros(total + 1, bool)
    starts[1:total] = values[1:] != values[:-1]
    starts[np.cumsum(length) - length] = True
    edges = np.append(np.flatnonzero(starts[:total]), total)
    return edges[:-1], edges[1:]
