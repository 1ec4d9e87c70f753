"""The numeric columns of a batch: states and actions of several data sets in one layout, normalised and masked."""

from collections.abc import Sequence

import numpy as np

from oxe_pipeline.loader.options import BatchOptions
from oxe_pipeline.loader.resample import interval_edges, resample, steps_needed
from oxe_pipeline.loader.scaling import BatchScaling, slot_mask, stream_normalizer
from oxe_pipeline.loader.window import Samples, chunk_steps, gather, history_steps, kind_masks
from oxe_pipeline.stream.reader import Stream
from schemas.slots import ACTION_WIDTH, STATE_WIDTH


class NumericColumns:
    """Reads the columns of any samples out of the streams. Immutable after it is made; safe from many threads."""

    def __init__(self, streams: Sequence[Stream], options: BatchOptions):
        self._streams, self._options = list(streams), options
        self._slots = [np.array(stream.manifest.action_slots, np.int64) for stream in streams]
        self._state_slots = [np.array(stream.manifest.state_slots, np.int64) for stream in streams]
        self._action_mask = np.stack([slot_mask(stream, "action") for stream in streams])
        self._state_mask = np.stack([slot_mask(stream, "state") for stream in streams])
        self._action_scaling = _scaling(streams, "action", options)
        self._state_scaling = _scaling(streams, "state", options)
        kinds = [kind_masks(stream.manifest.spec) for stream in streams]
        self._delta, self._velocity = (np.stack(masks) for masks in zip(*kinds, strict=True))

    def read(self, samples: Samples) -> dict[str, np.ndarray]:
        """Every numeric entry of the batch (see `batch`), keyed by name."""
        size, options = len(samples), self._options
        state = np.zeros((size, options.history, STATE_WIDTH), np.float32)
        action = np.zeros((size, options.chunk, ACTION_WIDTH), np.float32)
        pad_mask = np.empty((size, options.chunk), bool)
        control_hz = np.empty(size, np.float32)
        steps, history_mask = history_steps(samples.step, options.history)
        for number, here in samples.by_dataset():
            stream, episode = self._streams[number], samples.episode[here]
            control_hz[here] = stream.episodes.control_hz[episode]
            _scatter(state, here, self._state_slots[number], gather(stream, "state", episode, steps[here]))
            chunk, pad_mask[here] = self._chunk(number, episode, samples.step[here])
            _scatter(action, here, self._slots[number], chunk)
        self._state_scaling.apply(state, samples.dataset)
        self._action_scaling.apply(action, samples.dataset, self._steps_per_action(samples.dataset, control_hz))
        return {
            "state": state,
            "state_mask": self._state_mask[samples.dataset],
            "history_mask": history_mask,
            "action": action,
            "action_mask": self._action_mask[samples.dataset],
            "action_pad_mask": pad_mask,
            "control_hz": control_hz,
            "dataset": samples.dataset,
            "episode": samples.episode,
            "step": samples.step,
            "g": samples.g,
        }

    def _chunk(self, number: int, episode: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Actions of one data set in units, float32 [n, chunk, A] as stored, and which exist, bool [n, chunk]."""
        stream, options, slots = self._streams[number], self._options, self._slots[number]
        delta, velocity = self._delta[number][slots], self._velocity[number][slots]
        length = stream.episodes.length[episode]
        if options.chunk_s is None:
            steps, exists = chunk_steps(step, length, options.chunk)
            chunk = gather(stream, "action", episode, steps)
            if not exists.all():
                chunk[~exists[..., None] & (delta | velocity)] = 0
            return chunk, exists
        edges = interval_edges(stream.episodes.control_hz[episode], options.chunk, options.chunk_s)
        steps, _ = chunk_steps(step, length, steps_needed(edges))
        return resample(gather(stream, "action", episode, steps), length - step, edges, delta, velocity)

    def _steps_per_action(self, dataset: np.ndarray, control_hz: np.ndarray) -> np.ndarray | None:
        """[B, 32]: how many source steps one action of the chunk sums up; None for chunks in steps (always one)."""
        if self._options.chunk_s is None:
            return None
        steps = control_hz * (self._options.chunk_s / self._options.chunk)
        return np.where(self._delta[dataset], steps[:, None], 1)


def _scaling(streams: Sequence[Stream], vector: str, options: BatchOptions) -> BatchScaling:
    return BatchScaling([stream_normalizer(stream, vector, options.normalizer) for stream in streams])


def _scatter(out: np.ndarray, rows: np.ndarray, slots: np.ndarray, values: np.ndarray) -> None:
    """out[rows[i], t, slots[j]] = values[i, t, j]."""
    out[rows[:, None, None], np.arange(out.shape[1])[:, None], slots] = values
