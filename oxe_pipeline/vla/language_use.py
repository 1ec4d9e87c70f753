"""Whether a trained model uses language: the same images under exchanged instructions, and what that does to actions.

A model may reach a good held-out error by looking alone, since most scenes allow one task only; nothing in the error
tells. Here each held-out window is predicted a second time with the instruction of another window of its data set. A
model that listens predicts other actions, and worse ones; how far actions move is set beside how far they move when
only the random numbers of the head change, which is nothing for heads that draw none.

What it cannot tell: that the model understands. In a data set where an instruction occurs in one scene only, a model
may know the scene by its instruction; only the error under exchanged instructions in scenes that allow both tasks
speaks of following.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from oxe_pipeline.loader.augment import AugmentOptions
from oxe_pipeline.loader.instruction_choice import chosen_instructions
from oxe_pipeline.loader.window import Samples
from oxe_pipeline.mixture.mixture import Mixture
from oxe_pipeline.vla.action_errors import ActionSpace, DistanceSum, Normalizers
from oxe_pipeline.vla.evaluate import acting, action_spaces, held_out_batches, held_out_loader, places
from oxe_pipeline.vla.model import VLA

_OTHER_NOISE = 1 << 40
"""Added to sample numbers to get other random numbers: more than any number of windows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """Of exchanged instructions on one slot, or on the mean over all slots that have a range.

    In the slot's unit; share of differing or wrong decisions where values are 0 or 1; share of the range for the mean.
    """

    change: float
    """Mean absolute change of the predicted action when the instruction is exchanged."""
    change_by_noise: float
    """The same when the instruction stays and the head draws other random numbers."""
    error: float
    """Mean absolute error with the right instruction."""
    error_exchanged: float
    """Mean absolute error with the exchanged one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LanguageResult:
    """Of one data set. With fewer than two different instructions among its held-out windows `windows` is 0."""

    dataset: str
    instructions: int
    """Different ones among the held-out windows."""
    windows: int
    mean: Effect | None = None
    """As shares of the range; None where no slot has a range."""
    slots: dict[str, tuple[str, Effect]] | None = None
    """Slot -> its unit ("1" for slots that are 0 or 1) and the effect on it."""


class _Tally:
    """Distances between predictions of one data set, and to the recorded actions."""

    def __init__(self, space: ActionSpace):
        self.space, self.windows = space, 0
        self.sums = {name: DistanceSum(space) for name in Effect.__dataclass_fields__}

    def add(self, episode: int, step: int, right: np.ndarray, exchanged: np.ndarray, noise: np.ndarray) -> None:
        """One window: three predicted chunks, normalised [chunk, 32]."""
        window = self.space.window(episode, step)
        right, exchanged, noise = (self.space.in_units(chunk, window) for chunk in (right, exchanged, noise))
        self.sums["change"].add(exchanged, right, window)
        self.sums["change_by_noise"].add(noise, right, window)
        self.sums["error"].add(right, window.target, window)
        self.sums["error_exchanged"].add(exchanged, window.target, window)
        self.windows += 1

    def result(self, instructions: int) -> LanguageResult:
        space = self.space
        if not self.windows:
            return LanguageResult(dataset=space.dataset.name, instructions=instructions, windows=0)
        per_slot = {name: total.per_slot() for name, total in self.sums.items()}
        slots = {
            name: ("1" if space.binary[i] else unit, Effect(**{key: float(v[i]) for key, v in per_slot.items()}))
            for i, (name, unit) in enumerate(zip(space.names, space.units, strict=True))
        }
        shares = {name: share for name, total in self.sums.items() if (share := total.of_range()) is not None}
        return LanguageResult(
            dataset=space.dataset.name,
            instructions=instructions,
            windows=self.windows,
            mean=Effect(**shares) if shares else None,
            slots=slots,
        )


def language_use(
    model: VLA,
    mixture: Mixture,
    normalizers: Normalizers,
    *,
    options: Mapping[str, Any] | None = None,
    augment: AugmentOptions | None = None,
    split: str = "val",
    max_windows: int | None = None,
) -> list[LanguageResult]:
    """One result per data set of the mixture, in its order: over its held-out windows that have an instruction.

    Arguments and errors as `evaluate`. Deterministic: see `exchanged_instructions`. Goal images are withheld from
    models that take them, so that the task is told by the instruction alone.
    """
    loader = held_out_loader(model, mixture, normalizers, options=options, split=split, max_windows=max_windows)
    tallies = [_Tally(space) for space in action_spaces(model, mixture, normalizers, options)]
    if loader is None:
        return [tally.result(0) for tally in tallies]
    given = held_out_instructions(mixture, loader.samples)
    other = exchanged_instructions(given, loader.samples.dataset)
    with acting(model):
        for batch in held_out_batches(model, loader, "text", augment=augment):
            exchanged = [other[g] for g in batch["g"].tolist()]
            right = _predicted(model, batch)
            swapped = _predicted(model, {**batch, "instruction": [text or "" for text in exchanged]})
            noise = _predicted(model, {**batch, "g": batch["g"] + _OTHER_NOISE})
            for row, (dataset, episode, step) in enumerate(places(batch)):
                if exchanged[row] is not None:
                    tallies[dataset].add(episode, step, right[row], swapped[row], noise[row])
    return [tally.result(_different(given, loader.samples.dataset == i)) for i, tally in enumerate(tallies)]


def held_out_instructions(mixture: Mixture, samples: Samples) -> list[str]:
    """What the held-out loader gives each sample to read."""
    return chosen_instructions(mixture.datasets, samples, seed=mixture.seed, choice="main")


def exchanged_instructions(given: list[str], dataset_N: np.ndarray) -> list[str | None]:
    """Another instruction of the same data set for each of N; None for "" and where the data set has no other.

    The different instructions of a data set in alphabetical order are paired with the order turned by half its length:
    no instruction stays, all occur, and neighbours in the alphabet, often two wordings of one task, are not paired.
    """
    texts = np.array(given, object)
    other: list[str | None] = [None] * len(given)
    for number in np.unique(dataset_N):
        here = np.flatnonzero(dataset_N == number)
        different = sorted({text for text in texts[here] if text})
        if len(different) < 2:
            continue
        turned = different[len(different) // 2 :] + different[: len(different) // 2]
        pairs = dict(zip(different, turned, strict=True))
        for place in here:
            other[place] = pairs.get(texts[place])
    return other


def _different(given: list[str], here: np.ndarray) -> int:
    return len({given[place] for place in np.flatnonzero(here)} - {""})


def _predicted(model: VLA, batch: dict) -> np.ndarray:
    predicted: torch.Tensor = model.predict(batch)
    return predicted.float().cpu().numpy()
