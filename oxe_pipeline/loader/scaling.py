"""Normalisation of a batch whose rows come from different data sets: each row by its own data set's Normalizer."""

from collections.abc import Sequence

import numpy as np

from oxe_pipeline.stats.normalizer import Normalizer, NormalizerConfig
from oxe_pipeline.stream.reader import Stream
from schemas.slots import ACTION_NAMES, STATE_NAMES

_NAMES = {"action": ACTION_NAMES, "state": STATE_NAMES}


def slot_mask(stream: Stream, vector: str) -> np.ndarray:
    """bool [32] of "action" or [40] of "state": the slots that the stream's data set has."""
    mask = np.zeros(len(_NAMES[vector]), bool)
    mask[stream.manifest.action_slots if vector == "action" else stream.manifest.state_slots] = True
    return mask


def stream_normalizer(stream: Stream, vector: str, config: NormalizerConfig | None = None) -> Normalizer:
    """The Normalizer of all slots of "action" [32] or "state" [40], from the manifest's statistics of the train
    split."""
    return Normalizer.from_summary(
        stream.manifest.statistics[vector], _NAMES[vector], slot_mask(stream, vector), config
    )


class BatchScaling:
    """The Normalizers of a mixture's data sets as tables [D, width], applied to a whole batch at once.

    The same numbers as `Normalizer.forward` row by row.
    """

    def __init__(self, normalizers: Sequence[Normalizer]):
        self.offset = np.stack([n.offset for n in normalizers])
        self.scale = np.stack([n.scale for n in normalizers])
        self._clip = normalizers[0].config.clip
        self._normalised = np.stack([n.normalised for n in normalizers])

    def apply(self, values: np.ndarray, dataset: np.ndarray, factor: np.ndarray | None = None) -> np.ndarray:
        """Normalises float32 [B, T, width] in place and returns it; `dataset` int64 [B] chooses the row of the tables.

        `factor` [B, width], where given, multiplies offset and scale: the statistics of a sum of that many steps.
        """
        offset, scale = self.offset[dataset], self.scale[dataset]
        if factor is not None:
            offset, scale = (offset * factor).astype(np.float32), (scale * factor).astype(np.float32)
        values -= offset[:, None]
        values /= scale[:, None]
        if self._clip is not None:
            clipped = np.clip(values, -self._clip, self._clip)
            np.copyto(values, clipped, where=self._normalised[dataset][:, None])
        return values
