"""Window number -> episode and step, for all data sets of a mixture in one search.

Every step of an eligible episode is a window: windows that reach past an episode's end are padded by the loader, never
left out, since the last steps are where a grasp or a release is completed. An overlay narrows that to ranges of steps,
which may repeat; the arithmetic is the same, so filtering costs nothing per sample.
"""

from collections.abc import Sequence

import numpy as np

from oxe_pipeline.overlays.window_ranges import WindowRanges


class WindowIndex:
    """Cumulative eligible windows of several data sets, end to end. 20 bytes per range of steps, an episode being one
    where nothing is filtered; nothing per window."""

    def __init__(self, ranges: Sequence[WindowRanges]):
        """The ranges of each data set. Windows are counted in their order, a repeated range as often as it repeats."""
        self.episodes_per_dataset = np.array([rows.num_episodes for rows in ranges], np.int64)
        self.windows_per_dataset = np.array([rows.num_windows for rows in ranges], np.int64)
        self._dataset_start = np.cumsum(self.windows_per_dataset) - self.windows_per_dataset
        nothing = np.zeros(0, np.int32)
        self._episode = np.concatenate([*(rows.episode for rows in ranges), nothing])
        self._first_step = np.concatenate([*(rows.first_step for rows in ranges), nothing])
        self._length = np.concatenate([*(rows.end_step for rows in ranges), nothing]) - self._first_step
        repeats = np.concatenate([*(rows.repeats for rows in ranges), nothing])
        self._first_window = np.concatenate([[0], np.cumsum(self._length * repeats.astype(np.int64))])

    @classmethod
    def of_episodes(cls, lengths: Sequence[np.ndarray], eligible: Sequence[np.ndarray]) -> "WindowIndex":
        """For each data set the length [steps] int64 [E] of its episodes, and which of them may be drawn, bool [E].

        Episodes without a step are never eligible.
        """
        return cls([WindowRanges.of_episodes(*columns) for columns in zip(lengths, eligible, strict=True)])

    def windows_per_episode(self) -> tuple[np.ndarray, np.ndarray]:
        """(data set, windows per epoch) int64 [E] each, of every episode that is drawn from, data set after data
        set."""
        first_range = np.searchsorted(self._first_window, np.append(self._dataset_start, self._first_window[-1]))
        dataset = np.repeat(np.arange(len(self._dataset_start)), np.diff(first_range))
        is_next = np.append(True, np.diff(dataset).astype(bool) | np.diff(self._episode).astype(bool))
        start = np.flatnonzero(is_next[: len(dataset)])
        return dataset[start], np.diff(self._first_window[np.append(start, len(dataset))])

    def locate(self, dataset: np.ndarray, window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(episode int64 [N], step int64 [N]) of windows int64 [N], each in range(windows_per_dataset[dataset]).

        `episode` is the row in the data set's own episode index.
        """
        position = self._dataset_start[dataset] + window
        row = np.searchsorted(self._first_window, position, side="right") - 1
        step = (position - self._first_window[row]) % self._length[row]
        return self._episode[row].astype(np.int64), step + self._first_step[row]
