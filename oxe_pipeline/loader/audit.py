"""Which samples an optimiser step is made of, told from the order alone: no image is read, no batch is made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from oxe_pipeline.loader.instruction_choice import chosen_instructions
from oxe_pipeline.loader.window import Samples
from oxe_pipeline.mixture.mixture import Mixture


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawnSample:
    """One sample as training got it, with all that leads back to its source."""

    g: int
    """Sample number, from 0."""
    dataset: str
    epoch: int
    """How often the data set had been seen whole before; 0 in its first pass."""
    episode_id: str
    step: int
    """Of the episode, from 0."""
    num_steps: int
    """Of the episode."""
    instruction: str
    """The one that was chosen; "" where the episode has none."""
    source_path: str
    """Raw file or folder that the episode was built from, as its builder wrote it."""


def located(mixture: Mixture, g: Sequence[int] | np.ndarray) -> Samples:
    """Where sample numbers g int [N] lie."""
    numbers = np.asarray(g, np.int64)
    return Samples(numbers, *mixture.locate(numbers))


def drawn_samples(
    mixture: Mixture, samples: Samples, *, instruction: Literal["any", "main"] = "any"
) -> list[DrawnSample]:
    """What the loader delivers for `samples` of `mixture`, in their order; `instruction` as in BatchOptions."""
    epochs = mixture.epochs(samples.g).tolist()
    texts = chosen_instructions(mixture.datasets, samples, seed=mixture.seed, choice=instruction)
    places = zip(
        *(column.tolist() for column in (samples.g, samples.dataset, samples.episode, samples.step)), strict=True
    )
    rows = []
    for (g, number, episode, step), epoch, text in zip(places, epochs, texts, strict=True):
        episodes = mixture.datasets[number].stream.episodes
        rows.append(
            DrawnSample(
                g=g,
                dataset=mixture.datasets[number].name,
                epoch=epoch,
                episode_id=episodes.episode_id(episode),
                step=step,
                num_steps=int(episodes.length[episode]),
                instruction=text,
                source_path=episodes.source_path(episode),
            )
        )
    return rows
