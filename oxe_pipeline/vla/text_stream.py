"""Texts beside robot samples in every step, at an exact share (co-fine-tuning, RT-2): a pure function of the step.

Text number t, counted from 0 over the whole run and all ranks, is example permutation(seed, t div N)(t mod N) of N, by
the Feistel network that orders windows too: each example once per epoch, nothing stored, nothing buffered. Steps take
texts as an exact fraction falls due, so that after any number of steps their share is off by less than one sample. The
texts of a step are split among ranks as robot samples are, and one rank may have none.
"""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from fractions import Fraction
from typing import Literal

import numpy as np

from oxe_pipeline.mixture.counter_rng import RandomStream, bits, check_seed, name_key
from oxe_pipeline.mixture.data_identity import StateError
from oxe_pipeline.mixture.permutation import permute
from oxe_pipeline.vla.image_text import ImageText, ImageTexts, TextDataError

_ORDER_KEY = name_key("texts")
_THREADS = 4
_NEIGHBOURS_TRIED = 16

_Read = tuple[ImageText, str]
"""An example, and why the one that it stands for could not be read; "" where it is that one itself."""


class TextStream:
    """Batches of texts by step. Reads the next step's images while the present one is trained on.

    `share` of all samples of a step, above 0 and below 1, are texts (RT-2: 0.5 or 0.34); it is taken as the decimal
    that it is written as. `batch_size` counts the robot samples of a step, over all ranks. An unreadable image stops
    the run, or (`on_corrupt` "substitute") the next readable example stands in for its own, and that is counted.
    ValueError for values that do not hold.
    """

    def __init__(
        self,
        examples: ImageTexts,
        *,
        share: float,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        on_corrupt: Literal["error", "substitute"] = "error",
    ):
        if not 0 < share < 1:
            raise ValueError(f"the share of texts must be above 0 and below 1, is {share!r}")
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be a whole number of 1 or more, is {batch_size!r}")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be from 0 to world_size-1 = {world_size - 1}, is {rank}")
        self.examples, self.share, self.batch_size, self.seed = examples, float(share), batch_size, check_seed(seed)
        self.substitutions: dict[str, int] = {}
        """What could not be read, with how often another example was delivered in its place."""
        self._substitutes, self._rank, self._world_size = on_corrupt == "substitute", rank, world_size
        exact = Fraction(repr(self.share))
        self._per_step = batch_size * exact / (1 - exact)
        self._ahead: dict[int, list[Future[_Read]]] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="texts")

    def num_samples(self, step: int) -> int:
        """Texts in a step >= 0, over all ranks."""
        return self._first(step + 1) - self._first(step)

    def numbers(self, step: int) -> range:
        """Of the texts of a step, counted over the run: those of this rank."""
        first, count = self._first(step), self.num_samples(step)
        part = (first + rank * count // self._world_size for rank in (self._rank, self._rank + 1))
        return range(*part)

    def example_of(self, numbers: range) -> np.ndarray:
        """int64 [N]: which example each text number is."""
        number, count = np.asarray(numbers, np.int64), len(self.examples)
        key = bits(self.seed, _ORDER_KEY, RandomStream.EPOCH, number // count)
        return permute(number % count, count, key)

    def batch(self, step: int) -> dict | None:
        """This rank's texts of a step, or None where it has none: "prompt" and "target" list[str], "images" a list of
        uint8 [H, W, 3] tensors per text, "g" int64 [N] the text numbers. TextDataError for an unreadable image."""
        import torch

        begun = self._ahead.pop(step, None) or self._begin(step)
        # A step that was begun and is not the next one is not waited for.
        for future in (future for futures in self._ahead.values() for future in futures):
            future.cancel()
        self._ahead = {step + 1: self._begin(step + 1)}
        if not begun:
            return None
        read = []
        for example, unreadable in [future.result() for future in begun]:
            read.append(example)
            if unreadable:
                self.substitutions[unreadable] = self.substitutions.get(unreadable, 0) + 1
        return {
            "prompt": [example.prompt for example in read],
            "images": [[torch.from_numpy(pixels) for pixels in example.images] for example in read],
            "target": [example.target for example in read],
            "g": torch.tensor(self.numbers(step), dtype=torch.int64),
        }

    def state_dict(self) -> dict:
        """What says which texts come at which step, as JSON. The step itself is the run's."""
        return {
            "identity": self.examples.identity,
            "examples": len(self.examples),
            "share": self.share,
            "batch_size": self.batch_size,
            "seed": self.seed,
        }

    def check(self, state: Mapping) -> None:
        """StateError unless a run that saved `state` goes on with the very texts it would have had without a stop."""
        for name, own in self.state_dict().items():
            if name not in state:
                raise StateError(f"this is no state of a text stream: {name} is missing")
            if state[name] != own:
                remedy = "open the same texts" if name in ("identity", "examples") else "use the same"
                raise StateError(f"texts: the state was saved with {name} {state[name]}, this run has {own}; {remedy}")

    def close(self) -> None:
        """Ends the reading threads; no batch can be had afterwards."""
        self._ahead = {}
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _first(self, step: int) -> int:
        return int(step * self._per_step)

    def _begin(self, step: int) -> list[Future[_Read]]:
        return [self._threads.submit(self._read, number) for number in self.example_of(self.numbers(step)).tolist()]

    def _read(self, number: int) -> _Read:
        try:
            return self.examples[number], ""
        except TextDataError as error:
            if not self._substitutes:
                raise
            for later in range(number + 1, number + _NEIGHBOURS_TRIED):
                with suppress(TextDataError):
                    return self.examples[later % len(self.examples)], str(error)
            raise
