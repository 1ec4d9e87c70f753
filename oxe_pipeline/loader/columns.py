"""The numeric columns of a batch: states and actions of several data sets in one layout, normalised and masked."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from oxe_pipeline.loader.options import BatchOptions
from oxe_pipeline.loader.resample import interval_edges, resample, steps_needed
from oxe_pipeline.loader.scaling import BatchScaling, slot_mask, stream_normalizer
from oxe_pipeline.loader.window import DatasetPart, Samples, chunk_steps, history_steps, kind_masks
from oxe_pipeline.stream.reader import Stream
from schemas.slots import ACTION_WIDTH, STATE_WIDTH


class NumericColumns:
    """Reads the columns of any samples out of the streams. Immutable after it is made; safe from many threads."""

    def __init__(self, streams: Sequence[Stream], options: BatchOptions):
        self._streams, self._options = list(streams), options
        self._slots = [np.array(stream.manifest.action_slots, np.int64) for stream in streams]
        self._action_runs = [_runs(stream.manifest.action_slots) for stream in streams]
        self._state_runs = [_runs(stream.manifest.state_slots) for stream in streams]
        self._action_mask = np.stack([slot_mask(stream, "action") for stream in streams])
        self._state_mask = np.stack([slot_mask(stream, "state") for stream in streams])
        self._action_scaling = _scaling(streams, "action", options)
        self._state_scaling = _scaling(streams, "state", options)
        kinds = [kind_masks(stream.manifest.spec) for stream in streams]
        self._delta, self._velocity = (np.stack(masks) for masks in zip(*kinds, strict=True))
        self._moving = self._delta | self._velocity

    def read(self, samples: Samples, parts: Sequence[DatasetPart]) -> dict[str, np.ndarray]:
        """Every numeric entry of the batch (see `batch`), keyed by name; `parts` are `dataset_parts` of the samples."""
        size, options, dataset = len(samples), self._options, samples.dataset
        state = np.zeros((size, options.history, STATE_WIDTH), np.float32)
        action = np.zeros((size, options.chunk, ACTION_WIDTH), np.float32)
        pad_mask = np.empty((size, options.chunk), bool)
        control_hz = np.empty(size, np.float32)
        steps, history_mask = history_steps(samples.step, options.history)
        for part in parts:
            control_hz[part.here] = self._streams[part.dataset].episodes.control_hz[part.episode]
            _scatter(state, part.here, self._state_runs[part.dataset], part.gather("state", steps[part.here]))
            chunk, exists = self._timed_chunk(part, options.chunk_s) if options.chunk_s else self._chunk(part)
            _scatter(action, part.here, self._action_runs[part.dataset], chunk)
            pad_mask[part.here] = exists
        if options.chunk_s is None and not pad_mask.all():
            action[~pad_mask[..., None] & self._moving[dataset][:, None]] = 0
        self._state_scaling.apply(state, dataset)
        self._action_scaling.apply(action, dataset, self._steps_per_action(dataset, control_hz))
        return {
            "state": state,
            "state_mask": self._state_mask[dataset],
            "history_mask": history_mask,
            "action": action,
            "action_mask": self._action_mask[dataset],
            "action_pad_mask": pad_mask,
            "control_hz": control_hz,
            "dataset": dataset,
            "episode": samples.episode,
            "step": samples.step,
            "g": samples.g,
        }

    def _chunk(self, part: DatasetPart) -> tuple[np.ndarray, np.ndarray]:
        """Recorded actions in units, float32 [n, chunk, A] as stored, the last one held; and which exist, bool [n,
        chunk]."""
        steps, exists = chunk_steps(part.step, part.length, self._options.chunk)
        return part.gather("action", steps), exists

    def _timed_chunk(self, part: DatasetPart, chunk_s: float) -> tuple[np.ndarray, np.ndarray]:
        """The same by `chunk_s`: motion is zero past the episode's end."""
        slots = self._slots[part.dataset]
        rate_hz = self._streams[part.dataset].episodes.control_hz[part.episode]
        edges = interval_edges(rate_hz, self._options.chunk, chunk_s)
        steps, _ = chunk_steps(part.step, part.length, steps_needed(edges))
        delta, velocity = self._delta[part.dataset][slots], self._velocity[part.dataset][slots]
        return resample(part.gather("action", steps), part.length - part.step, edges, delta, velocity)

    def _steps_per_action(self, dataset: np.ndarray, control_hz: np.ndarray) -> np.ndarray | None:
        """[B, 32]: how many source steps one action of the chunk sums up; None for chunks in steps (always one)."""
        if self._options.chunk_s is None:
            return None
        steps = control_hz * (self._options.chunk_s / self._options.chunk)
        return np.where(self._delta[dataset], steps[:, None], 1)


def _scaling(streams: Sequence[Stream], vector: str, options: BatchOptions) -> BatchScaling:
    return BatchScaling([stream_normalizer(stream, vector, options.normalizer) for stream in streams])


def _runs(slots: Sequence[int]) -> list[tuple[slice, slice]]:
    """Ascending slots as (slots, columns) of each unbroken run: slices are copied five times as fast as index lists."""
    cuts = [0, *(np.flatnonzero(np.diff(slots) != 1) + 1).tolist(), len(slots)] if len(slots) else []
    return [(slice(slots[a], slots[b - 1] + 1), slice(a, b)) for a, b in pairwise(cuts)]


def _scatter(out: np.ndarray, here: np.ndarray, runs: list[tuple[slice, slice]], values: np.ndarray) -> None:
    """out[here[i], t, slot of j] = values[i, t, j]."""
    for slots, columns in runs:
        out[here, :, slots] = values[:, :, columns]
