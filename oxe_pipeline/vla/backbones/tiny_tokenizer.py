"""Tokenisers for tiny models: byte-level BPE trained on a few robot instructions, with a family's special tokens.

As in the published vocabularies, ids at the end stand for nothing that text contains: actions take the last of those
before the special tokens that come last.
"""

from dataclasses import dataclass
from typing import Any

MERGED_VOCABULARY = 384
"""Begin-of-vocabulary specials, bytes and merges together."""
UNUSED_IDS = 320
INSTRUCTIONS = """\
In: What action should the robot take to pick up the red block and put it in the bowl?
Out: 1 128 91 241 5 101 127
Q: what action should the robot take to open the drawer? A: 0 132 114 128 5 25 156 255
task: push the green cup to the left of the blue plate, then close the gripper
place the spoon on the towel; move the can near the sponge; turn the knob of the stove
Given <image>, the robot has the state below. Plan: 1. reach the block. 2. grasp it. 3. lift the arm.
stack the yellow cube on the white box and press the button with the wrist camera
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerFamily:
    """What tells one family's vocabulary from another's."""

    first: tuple[str, ...]
    """Special tokens at the beginning of the vocabulary."""
    last: tuple[str, ...] = ()
    """Special tokens at its end, behind the unused ids."""
    named_last: tuple[str, ...] = ()
    """Tokens before those that take the place of the unused ids: PaliGemma's places and segments."""
    begin: str | None = None
    end: str
    padding: str
    unknown: str | None = None
    begins_texts: bool = False
    """Encoding a text puts the begin token before it."""
    ends_texts: bool = False
    """... and the end token behind it."""


def make_tokenizer(family: TokenizerFamily) -> Any:
    """A PreTrainedTokenizerFast. The same every time: training counts pairs in a fixed text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=MERGED_VOCABULARY,
        special_tokens=list(family.first),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(INSTRUCTIONS.splitlines(keepends=True), trainer)
    unused = family.named_last or tuple(f"<unused{number}>" for number in range(UNUSED_IDS))
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in unused])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in family.last])
    before, behind = family.begin if family.begins_texts else None, family.end if family.ends_texts else None
    if before or behind:
        around = [token for token in (before, behind) if token]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=" ".join(token or "" for token in (before, "$A", behind)).strip(),
            special_tokens=[(token, tokenizer.token_to_id(token)) for token in around],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=family.begin,
        eos_token=family.end,
        pad_token=family.padding,
        unk_token=family.unknown,
    )
