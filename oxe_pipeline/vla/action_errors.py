"""Action errors in real units: what a data set's slots are called and measured in, and running sums over windows.

Everything that compares actions (evaluation, the test of language, variants beside their original) counts here, so that
their numbers mean the same: metres and radians per slot, wrong decisions for slots that are 0 or 1, and one figure per
data set, the mean over slots as a share of the slot's range. That range is q01..q99 of the train split whatever the
model was normalised with, so that runs with different normalisation compare.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from oxe_pipeline.loader.resample import interval_edges, resample, steps_needed
from oxe_pipeline.loader.scaling import stream_normalizer
from oxe_pipeline.loader.window import kind_masks
from oxe_pipeline.mixture.mixture import Mixture, MixtureDataset
from oxe_pipeline.stats.normalizer import Normalizer, NormalizerConfig, is_passed_through
from schemas.slots import ACTION_NAMES, slot_unit
from schemas.spec_parts import slot_indices

Normalizers = Mapping[str, Mapping[str, Normalizer]]
"""Data set -> "action" and "state" -> the Normalizer that the model was trained with."""


class Window(NamedTuple):
    """The recorded actions after one step of an episode: what a predicted chunk is held against."""

    target: np.ndarray
    """float64 [n, S] in units, n <= chunk: those that exist."""
    previous: np.ndarray
    """float64 [S]: the action before, the mean action at an episode's first step."""
    steps: np.ndarray
    """[S]: recorded steps that one action of the chunk sums up; 1 for chunks in steps."""


class ActionSpace:
    """The S action slots of one data set, and the way from a model's normalised chunks to their units.

    `chunk_s` as in BatchOptions: targets then are the recorded actions summed up over its intervals, as in training.
    """

    def __init__(self, dataset: MixtureDataset, normalizer: Normalizer, *, chunk: int, chunk_s: float | None = None):
        manifest = dataset.stream.manifest
        self.dataset, self.normalizer, self.chunk, self.chunk_s = dataset, normalizer, chunk, chunk_s
        self.slots = np.array(manifest.action_slots)
        self.names = [ACTION_NAMES[slot] for slot in self.slots]
        self.units = [action_units(dataset)[name] for name in self.names]
        self.binary = np.array([is_passed_through(name) for name in self.names])
        self.mean = np.array([manifest.statistics["action"][name]["mean"] for name in self.names])
        self._delta, self._velocity = (mask[self.slots] for mask in kind_masks(manifest.spec))
        ranges = stream_normalizer(dataset.stream, "action")
        self.scaled = ranges.normalised[self.slots]
        """bool [S]: slots that have a range; not those that are 0 or 1."""
        self.range = 2 * ranges.scale[self.slots].astype(np.float64)
        """[S], in units: q01..q99 of the train split, widened where that is next to nothing."""

    def window(self, episode: int, step: int) -> Window:
        """What was recorded from `step` on, straight from the stream."""
        actions = self.dataset.stream.vector("action", episode).astype(np.float64)
        target, steps = actions[step : step + self.chunk], np.ones(len(self.slots))
        if self.chunk_s is not None:
            rate_hz = float(self.dataset.stream.episodes.control_hz[episode])
            steps[self._delta] = rate_hz * self.chunk_s / self.chunk
            target = self._resampled(actions[step:], rate_hz, self.chunk_s)
        return Window(target, (actions[step - 1] if step else self.mean) * steps, steps)

    def in_units(self, predicted: np.ndarray, window: Window) -> np.ndarray:
        """float64 [n, S]: those of a normalised chunk [chunk, 32] that the window has a recorded action for."""
        own = predicted[: len(window.target), self.slots].astype(np.float64)
        return (own * self.normalizer.scale[self.slots] + self.normalizer.offset[self.slots]) * window.steps

    def distance(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Absolute difference in units; for slots that are 0 or 1 whether they fall on different sides of one half."""
        return np.where(self.binary, (one > 0.5) != (other > 0.5), np.abs(one - other))

    def _resampled(self, actions: np.ndarray, rate_hz: float, chunk_s: float) -> np.ndarray:
        """The whole intervals of the chunk that lie inside the episode, whose `actions` from now on are given."""
        edges = interval_edges(np.array([rate_hz]), self.chunk, chunk_s)
        held = actions[np.minimum(np.arange(max(steps_needed(edges), 1)), len(actions) - 1)]
        values, exists = resample(held[None], np.array([len(actions)]), edges, self._delta, self._velocity)
        return values[0, : int(exists.sum())].astype(np.float64)


class DistanceSum:
    """Running sums of distances between actions, by position in the chunk and slot."""

    def __init__(self, space: ActionSpace):
        self._space = space
        self._total = np.zeros((space.chunk, len(space.slots)))
        self._shares = np.zeros(space.chunk)
        self._count = np.zeros(space.chunk)

    def add(self, one: np.ndarray, other: np.ndarray, window: Window) -> None:
        """Two actions in units, [n, S] each, of the first n steps of a chunk."""
        space, distance = self._space, self._space.distance(one, other)
        self._total[: len(one)] += distance
        if space.scaled.any():
            self._shares[: len(one)] += (distance / (space.range * window.steps))[:, space.scaled].mean(1)
        self._count[: len(one)] += 1

    @property
    def sums(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What was added up so far."""
        return self._total, self._shares, self._count

    def add_sums(self, sums: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        """What another one of the same data set has added up."""
        for own, other in zip(self.sums, sums, strict=True):
            own += other

    def per_slot(self) -> np.ndarray:
        """[S]: mean over all steps; for slots that are 0 or 1 the share that differs."""
        return self._total.sum(0) / max(1.0, self._count.sum())

    def of_range(self) -> float | None:
        """Mean over all steps and scaled slots, as a share of the slot's range; None where no slot has a range."""
        return float(self._shares.sum() / max(1.0, self._count.sum())) if self._space.scaled.any() else None

    def of_range_by_position(self) -> tuple[float, ...] | None:
        """The same for each position in the chunk that any window has, the first action first."""
        if not self._space.scaled.any():
            return None
        reached = self._count > 0
        return tuple((self._shares[reached] / self._count[reached]).tolist())


def action_units(dataset: MixtureDataset) -> dict[str, str]:
    """Action slot name -> unit; "source" where the data set's spec says that no source states it."""
    units = {name: slot_unit(name) for name in ACTION_NAMES}
    for channel in dataset.stream.manifest.spec.get("action", []):
        if channel.get("unit", "source") == "source":
            units.update({ACTION_NAMES[slot]: "source" for slot in slot_indices(channel["slots"], "action")})
    return units


def check_normalizers(mixture: Mixture, normalizers: Normalizers) -> NormalizerConfig:
    """How the mixture is to be normalised for a model that was trained with `normalizers`.

    ValueError for a data set that was not trained on, or whose stream's statistics are no longer those of training: its
    inputs would be scaled otherwise than the model knows them.
    """
    for dataset in mixture.datasets:
        if dataset.name not in normalizers:
            raise ValueError(f"data set {dataset.name} was not trained on; there are {', '.join(sorted(normalizers))}")
        for vector, normalizer in normalizers[dataset.name].items():
            if stream_normalizer(dataset.stream, vector, normalizer.config).to_dict() != normalizer.to_dict():
                raise ValueError(
                    f"data set {dataset.name}: the {vector} statistics of {dataset.stream.path} differ from those of "
                    "the training run; evaluate on the stream it was trained on"
                )
    return normalizers[mixture.datasets[0].name]["action"].config
