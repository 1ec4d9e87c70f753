"""Which of an episode's instructions a sample gets: a function of (seed, g), so that it can be told without a batch."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from oxe_pipeline.loader.window import Samples
from oxe_pipeline.mixture.counter_rng import RandomStream, uniform
from oxe_pipeline.mixture.mixture import MixtureDataset


def chosen_instructions(
    datasets: Sequence[MixtureDataset], samples: Samples, *, seed: int, choice: Literal["any", "main"]
) -> list[str]:
    """One text per sample, "" where its episode has none.

    "any" draws evenly among the episode's instructions from RandomStream.INSTRUCTION of (seed, g); "main" takes the
    first.
    """
    share = np.zeros(len(samples)) if choice == "main" else uniform(seed, samples.g, RandomStream.INSTRUCTION)
    texts = np.empty(len(samples), object)
    for number in np.unique(samples.dataset).tolist():
        here = samples.dataset == number
        stream = datasets[number].stream
        ids = stream.episodes.instruction_at(samples.episode[here], share[here])
        texts[here] = [stream.instructions[i] if i >= 0 else "" for i in ids.tolist()]
    return texts.tolist()
