"""Which tokens may see which: by rules between named groups of tokens (Octo), or by blocks in a row (pi0).

Octo's rules (arXiv 2405.12213): a sequence is a list of groups, tokens of one origin at one step. A rule names, for
each kind of reader, whose tokens it reads; always at its own step or an earlier one, so no rule can look ahead. Adding
an input or a readout is adding a group: the rest of the sequence is computed as before, which is what lets Octo be
fine-tuned with new ones.

Blocks (pi0, arXiv 2410.24164) are enough where tokens only follow one another: context first, then what is decoded.

Shape letters: B batch, P context tokens, S decoded tokens, L = P + S, Q queries, N tokens.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch
from torch import Tensor

BEFORE_ALL_STEPS = -1
OWN = "="
"""In a rule: groups of the reader's own name."""

Rules = Mapping[str, tuple[str, ...]]
"""Pattern of a reader's name -> patterns of the names it reads. The first pattern that fits a reader counts."""

OCTO_RULES: Rules = {
    "task_*": ("task_*",),
    "obs_*": ("task_*", "obs_*"),
    "readout_*": ("task_*", "obs_*", OWN),
}
"""As in octo/model/octo_module.py: nobody reads readouts but those of the same name, so that they change nothing."""


class TokenGroup(NamedTuple):
    name: str
    step: int
    """Of the history, oldest first; BEFORE_ALL_STEPS for what belongs to no step."""
    num_tokens: int


def attention_mask(groups: Sequence[TokenGroup], rules: Rules, *, device: torch.device | str = "cpu") -> Tensor:
    """bool [N, N] for the N tokens of the groups, in their order: row i may see column j.

    ValueError for a group that no rule is about.
    """
    allowed = torch.tensor([[_reads(reader, read, rules) for read in groups] for reader in groups])
    group_N = torch.repeat_interleave(torch.tensor([group.num_tokens for group in groups])).to(device)
    return allowed.to(device)[group_N][:, group_N]


def visible_tokens(groups: Sequence[TokenGroup], rules: Rules, real_BN: Tensor) -> Tensor:
    """bool [B, N, N]: the rules between real tokens. Every token sees itself, which keeps its softmax finite."""
    itself_NN = torch.eye(real_BN.shape[1], dtype=torch.bool, device=real_BN.device)
    return (attention_mask(groups, rules, device=real_BN.device) & real_BN[:, None]) | itself_NN


def block_attention(real_BL: Tensor, opens_block_L: Tensor, *, queries: int | None = None) -> Tensor:
    """bool [B, Q, L]: what each of the last `queries` (default: all) of L tokens may see.

    Tokens lie in blocks; `opens_block_L` is true where a new one starts. A token sees its own block and those before
    it: all false is bidirectional, all true is causal (the cumulative mask of pi0, openpi's `make_attn_mask`). Tokens
    that are not real are seen by nobody but themselves, which keeps the softmax of their own row finite.
    """
    length = len(opens_block_L)
    first = length - (length if queries is None else queries)
    block_L = opens_block_L.cumsum(0)
    itself_QL = torch.eye(length, dtype=torch.bool, device=real_BL.device)[first:]
    return (real_BL[:, None, :] & (block_L[None, :] <= block_L[first:, None])) | itself_QL


def decoded_attention(context_mask_BP: Tensor, mask_BS: Tensor, *, causal: bool) -> Tensor:
    """bool [B, S, P + S]: what each decoded token may see: the real tokens of the context, itself, and of the decoded
    ones that are real those before it (`causal`) or all."""
    opens_L = torch.cat([torch.zeros_like(context_mask_BP[0]), suffix_opens(mask_BS, causal)])
    return block_attention(torch.cat([context_mask_BP, mask_BS], 1), opens_L, queries=mask_BS.shape[1])


def suffix_opens(mask_BS: Tensor, causal: bool) -> Tensor:
    """Of decoded tokens: every one opens a block (`causal`), or only the first."""
    return torch.ones_like(mask_BS[0]) if causal else torch.arange(mask_BS.shape[1], device=mask_BS.device) == 0


def _reads(reader: TokenGroup, read: TokenGroup, rules: Rules) -> bool:
    for pattern, names in rules.items():
        if fnmatchcase(reader.name, pattern):
            named = any(read.name == reader.name if name == OWN else fnmatchcase(read.name, name) for name in names)
            return named and read.step <= reader.step
    raise ValueError(f"no attention rule for tokens {reader.name!r}; there are rules for {', '.join(rules)}")
