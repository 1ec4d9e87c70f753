"""Window number -> episode and step, for all data sets of a mixture in one search.

Every step of an eligible episode is a window: windows that reach past an episode's end are padded by the loader, never
left out, since the last steps are where a grasp or a release is completed.
"""

from collections.abc import Sequence

import numpy as np


class WindowIndex:
    """Cumulative eligible windows of several data sets, end to end. 16 bytes per eligible episode."""

    def __init__(self, lengths: Sequence[np.ndarray], eligible: Sequence[np.ndarray]):
        """For each data set the length [steps] int64 [E] of its episodes, and which of them may be drawn, bool [E].

        Episodes without a step are never eligible.
        """
        rows = [np.flatnonzero(mask & (length >= 1)) for length, mask in zip(lengths, eligible, strict=True)]
        kept = [length[row] for length, row in zip(lengths, rows, strict=True)]
        self.episodes_per_dataset = np.array([len(row) for row in rows], np.int64)
        self.windows_per_dataset = np.array([int(length.sum()) for length in kept], np.int64)
        self._episode = np.concatenate([*rows, np.zeros(0, np.int64)])
        ends = np.cumsum(np.concatenate([*kept, np.zeros(0, np.int64)]), dtype=np.int64)
        self._first_window = np.concatenate([[0], ends])
        self._dataset_start = np.cumsum(self.windows_per_dataset) - self.windows_per_dataset

    def locate(self, dataset: np.ndarray, window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(episode int64 [N], step int64 [N]) of windows int64 [N], each in range(windows_per_dataset[dataset]).

        `episode` is the row in the data set's own episode index.
        """
        position = self._dataset_start[dataset] + window
        row = np.searchsorted(self._first_window, position, side="right") - 1
        return self._episode[row], position - self._first_window[row]
