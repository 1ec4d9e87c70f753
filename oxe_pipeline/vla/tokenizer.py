"""Actions as tokens: 256 equal bins over the normalised range [-1, 1], one token id per bin.

These are 256 real bins. OpenVLA's tokeniser (openvla, `prismatic/vla/action_tokenizer.py`) speaks of 256 but lays 256
bin *edges*, which leaves 255 intervals, folds the topmost value back by a clip, and sends ids through text and back.
Here an edge lies at every multiple of 2/256, and ids never become text. (RT-2's way, bins that are spelled as numbers,
has the same bins: heads/text_tokens.py.)

What it trades away: anything finer than half a bin (1/256 of half the range), and everything outside [-1, 1]. With
quantile normalisation the range is q01 to q99 of the train split, so about 2 % of the values are clipped to the
outermost bin. Slots that normalisation passes through in [0, 1] (gripper, terminate) use the upper half of the bins.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

ACTION_BINS = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class ActionTokenizer:
    """Normalised values to token ids `first_id` ... `first_id + bins - 1` and back."""

    first_id: int
    """The id of the lowest bin. Action ids are the last of a vocabulary; 0 makes the ids the bins' own numbers."""
    bins: int = ACTION_BINS

    def encode(self, values: "Tensor") -> "Tensor":
        """int64 ids of float values of any shape. Values outside [-1, 1] take the outermost bin; NaN: ValueError."""
        import torch

        if torch.isnan(values).any():
            raise ValueError(
                "a normalised action is NaN and has no token; look at the data set's statistics and quality report"
            )
        scaled = (values.double().clamp(-1.0, 1.0) + 1.0) * (self.bins / 2)
        return scaled.long().clamp(max=self.bins - 1) + self.first_id

    def decode(self, ids: "Tensor") -> "Tensor":
        """float32 bin centres in (-1, 1); off by at most half a bin, 1/bins. ValueError for an id that is no action."""
        bins = ids - self.first_id
        if ((bins < 0) | (bins >= self.bins)).any():
            worst = int(ids[(bins < 0) | (bins >= self.bins)].flatten()[0])
            last = self.first_id + self.bins - 1
            raise ValueError(f"token id {worst} is no action; those are {self.first_id} to {last}")
        return (bins.float() + 0.5) * (2.0 / self.bins) - 1.0
