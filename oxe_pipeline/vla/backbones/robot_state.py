"""The robot's state as tokens: which steps of the history there are, and StateEncoder, one token for each of them.

Numbers go through a small MLP to the backbone's width, as PaLM-E splices them into a sentence (arXiv 2303.03378).
Besides the values it is told which slots the robot has, so that a slot that is 0 is not one that is missing.

Shape letters: B batch, T history, W slots of the state, D width.
"""

import torch
from torch import Tensor, nn

from schemas.slots import STATE_WIDTH


class StateEncoder(nn.Module):
    """States [B, T, W] and the slots that exist, bool [B, W], to [B, T, D]; masked slots have no influence."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2 * STATE_WIDTH, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, state_BTW: Tensor, mask_BW: Tensor) -> Tensor:
        features = state_features(state_BTW, mask_BW)
        # Weights stored in a smaller form are no parameters, and take values of any type.
        dtype = next((weight.dtype for weight in self.parameters()), features.dtype)
        return self.layers(features.to(dtype))


def state_features(state_BTW: Tensor, mask_BW: Tensor) -> Tensor:
    """[B, T, 2 W]: the values, 0 in slots that do not exist, and 1 for each slot that does."""
    mask_BTW = mask_BW[:, None].expand_as(state_BTW)
    return torch.cat([torch.where(mask_BTW, state_BTW, 0.0), mask_BTW.to(state_BTW.dtype)], -1)


def existing_steps(batch: dict) -> Tensor:
    """bool [B, T]: steps of the history that lie in the episode; the newest always does."""
    exists_BT = batch["history_mask"].clone()
    exists_BT[:, -1] = True
    return exists_BT
