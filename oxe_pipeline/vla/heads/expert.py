"""The action expert: a slim transformer beside a backbone, layer by layer (pi0, arXiv 2410.24164).

Layer i of the expert attends to the keys and values that layer i of the backbone left in the Context, besides those of
its own tokens. It has weights and a width of its own, so ten passes of it cost less than one of the backbone, and
actions need not be squeezed into what a language model's layers expect. The price: heads of keys and their width are
the backbone's, and an expert fits no other backbone than that.

Shape letters: B batch, P context tokens, S own tokens, W width, H heads of keys and values, G queries per head, K width
of a key.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oxe_pipeline.vla.context import Backbone, Context

_EPSILON = 1e-6
"""Gemma's, in its norms."""


class ActionExpert(nn.Module):
    """One layer per layer of the backbone; see the module's text."""

    def __init__(self, backbone: Backbone, *, width: int, mlp_width: int, queries_per_head: int):
        super().__init__()
        self.layers = nn.ModuleList(
            ExpertLayer(
                width=width,
                mlp_width=mlp_width,
                heads=backbone.kv_heads,
                key_width=backbone.head_dim,
                queries_per_head=queries_per_head,
            )
            for _ in range(backbone.num_layers)
        )
        self.norm_out = nn.RMSNorm(width, eps=_EPSILON)

    def forward(self, backbone: Backbone, context: Context, tokens_BSW: Tensor, own_BSS: Tensor) -> Tensor:
        """[B, S, W]. Every token sees the whole context; of the expert's own tokens, query q sees those where
        own_BSS[:, q] is true.

        Token i stands at position `context.length_B + i` where the backbone rotates its keys by position.
        """
        count = tokens_BSW.shape[1]
        mask = torch.cat([context.mask_BP[:, None].expand(-1, count, -1), own_BSS], -1)[:, None]
        rotary, rotation = rotary_of(backbone), None
        if rotary is not None:
            rotation = rotary(context.length_B[:, None] + torch.arange(count, device=tokens_BSW.device), tokens_BSW)
        x = tokens_BSW
        for layer, key, value in zip(self.layers, context.keys, context.values, strict=True):
            x = layer(x, key, value, mask, rotation)
        return self.norm_out(x)


class ExpertLayer(nn.Module):
    """A pre-norm layer in the manner of Gemma: RMS norms, gated MLP, no biases, grouped queries."""

    def __init__(self, *, width: int, mlp_width: int, heads: int, key_width: int, queries_per_head: int):
        super().__init__()
        self.key_width = key_width
        self.norm_attention, self.norm_mlp = (nn.RMSNorm(width, eps=_EPSILON) for _ in range(2))
        self.query = nn.Linear(width, heads * queries_per_head * key_width, bias=False)
        self.key, self.value = (nn.Linear(width, heads * key_width, bias=False) for _ in range(2))
        self.out = nn.Linear(heads * queries_per_head * key_width, width, bias=False)
        self.gate, self.up = (nn.Linear(width, mlp_width, bias=False) for _ in range(2))
        self.down = nn.Linear(mlp_width, width, bias=False)

    def forward(
        self, x_BSW: Tensor, key_BHPK: Tensor, value_BHPK: Tensor, mask: Tensor, rotation: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """[B, S, W]; `mask` bool [B, 1, S, P + S]."""
        normed = self.norm_attention(x_BSW)
        query, key, value = (
            projection(normed).unflatten(-1, (-1, self.key_width)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        if rotation is not None:
            query, key = rotate(query, *rotation), rotate(key, *rotation)
        # A backbone may hold its weights, and so its keys, in another precision.
        key = torch.cat([key_BHPK.to(value.dtype), key.to(value.dtype)], 2)
        attended = F.scaled_dot_product_attention(
            query.to(value.dtype),
            key,
            torch.cat([value_BHPK.to(value.dtype), value], 2),
            attn_mask=mask,
            enable_gqa=True,
        )
        x_BSW = x_BSW + self.out(attended.transpose(1, 2).flatten(2))
        normed = self.norm_mlp(x_BSW)
        return x_BSW + self.down(F.gelu(self.gate(normed), approximate="tanh") * self.up(normed))


def rotary_of(backbone: Backbone) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    """What rotates keys by position as those of the backbone's contexts are; None where they are not."""
    return getattr(backbone, "rotary", None)


def rotate(x_BHSK: Tensor, cos_BSK: Tensor, sin_BSK: Tensor) -> Tensor:
    """Rotary positions (Su et al., arXiv 2104.09864), element k paired with k + K/2 as transformers has it."""
    first, second = x_BHSK.chunk(2, -1)
    return x_BHSK * cos_BSK[:, None] + torch.cat([-second, first], -1) * sin_BSK[:, None]
