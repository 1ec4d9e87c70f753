"""CameraTokens: the images of one camera, with a goal image on further channels, to tokens that know their place.

Octo compares now and goal from the first convolution on, so a goal image costs no tokens; in exchange it can only be
given beside an image of its camera, and where there is none its channels are black.
"""

import torch
from torch import Tensor, nn

from oxe_pipeline.vla.backbones.image_inputs import square_pixels
from oxe_pipeline.vla.backbones.small_stem import PATCH, SmallStem

_BLACK = -1.0


class CameraTokens(nn.Module):
    """A SmallStem for images of `side` x `side` pixels, and position embeddings for every patch and age.

    `stem_features` and `stem_width` as in SmallStem. With `takes_goal` it has six channels.
    """

    def __init__(
        self,
        *,
        side: int,
        takes_goal: bool,
        stem_features: tuple[int, int, int, int],
        stem_width: int,
        width: int,
        max_history: int,
    ):
        super().__init__()
        self.side, self.takes_goal = side, takes_goal
        self.stem = SmallStem(channels=6 if takes_goal else 3, features=stem_features, width=stem_width)
        self.projection = nn.Linear(stem_width, width)
        self.position = nn.Embedding(max_history * (side // PATCH) ** 2, width)

    def forward(self, images_BTHWC: Tensor, goal_BHWC: Tensor | None, given_B: Tensor) -> Tensor:
        """[B, T, n, D] of uint8 images of any size; a sample's goal is seen where `given_B` is true."""
        history = images_BTHWC.shape[1]
        pixels_BTCXX = square_pixels(images_BTHWC.flatten(0, 1), self.side).unflatten(0, (-1, history))
        if self.takes_goal:
            goal_BTCXX = torch.full_like(pixels_BTCXX, _BLACK)
            if goal_BHWC is not None:
                goal_BTCXX = torch.where(
                    given_B[:, None, None, None, None], square_pixels(goal_BHWC, self.side)[:, None], goal_BTCXX
                )
            pixels_BTCXX = torch.cat([pixels_BTCXX, goal_BTCXX], 2)
        tokens_BTnD = self.projection(self.stem(pixels_BTCXX.flatten(0, 1))).unflatten(0, (-1, history))
        return tokens_BTnD + by_age(self.position, tokens_BTnD)


def by_age(position: nn.Embedding, tokens_BTnD: Tensor) -> Tensor:
    """[T, n, D] out of a table over ages and places: the last entry of the history is the newest, of age 0.

    ValueError for a history that is longer than the table.
    """
    _, history, count, _ = tokens_BTnD.shape
    ages = position.weight.unflatten(0, (-1, count))
    if history > len(ages):
        raise ValueError(f"history {history} is longer than this backbone's max_history {len(ages)}")
    return ages[:history].flip(0)
