"""Which action value each token is, for heads that speak one token or number per value."""

from typing import NamedTuple

import torch
from torch import Tensor

from schemas.slots import ACTION_WIDTH


class TokenLayout(NamedTuple):
    """Which action value each token of a batch is, [B, S]; samples with fewer slots are padded at the end."""

    slot: Tensor
    """int64 index of the slot, 0 to 31."""
    step: Tensor
    """int64 step of the chunk."""
    valid: Tensor
    """bool: the token exists for this sample."""


def token_layout(action_mask: Tensor, chunk: int) -> TokenLayout:
    """Layout for masks [B, 32]: all slots of step 0 in slot order, then those of step 1, ...

    ValueError for a sample without any action slot.
    """
    count_B1 = action_mask.sum(1, keepdim=True)
    if (count_B1 == 0).any():
        raise ValueError("a sample has no action slot at all: its data set's action_mask is empty")
    slots_first = torch.argsort(action_mask.logical_not().to(torch.uint8), dim=1, stable=True)
    place = torch.arange(chunk * int(count_B1.max()), device=action_mask.device).expand(len(action_mask), -1)
    slot = slots_first.gather(1, place % count_B1)
    step = place // count_B1
    return TokenLayout(slot, step.clamp(max=chunk - 1), step < chunk)


def values_of(action: Tensor, layout: TokenLayout, kept: Tensor) -> Tensor:
    """[B, S]: the value that each token is, out of actions [B, chunk, 32]; 0 where `kept` bool [B, S] is false."""
    rows = torch.arange(len(action), device=action.device)[:, None]
    return torch.where(kept, action[rows, layout.step, layout.slot], 0.0)


def actions_of(values: Tensor, layout: TokenLayout, kept: Tensor, *, chunk: int) -> Tensor:
    """Inverse of `values_of`: actions float32 [B, chunk, 32], 0 where no kept token says otherwise."""
    action = torch.zeros(len(values), chunk, ACTION_WIDTH, device=values.device)
    row, token = torch.nonzero(kept, as_tuple=True)
    action[row, layout.step[row, token], layout.slot[row, token]] = values[row, token]
    return action
