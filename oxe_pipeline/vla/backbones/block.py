"""Block: the pre-norm transformer layer of the backbones that are trained from scratch.

Shape letters: B batch, P past tokens, S tokens, D width, H heads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Attention and an MLP, each behind a LayerNorm, that attends to given keys and values besides its own."""

    def __init__(self, width: int, *, heads: int, mlp_ratio: int):
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_ratio * width), nn.GELU(), nn.Linear(mlp_ratio * width, width))

    def forward(self, x_BSD: Tensor, mask: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """Output [B, S, D], and keys and values of `past` and x together, each [B, H, P+S, D/H].

        `mask` is bool and broadcasts to [B, H, S, P+S]: what each token sees.
        """
        heads = self.qkv(self.norm_attention(x_BSD)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)
        if past is not None:
            key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x_BSD = x_BSD + self.out(attended.transpose(1, 2).flatten(2))
        return x_BSD + self.mlp(self.norm_mlp(x_BSD)), key, value
