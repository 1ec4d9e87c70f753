"""Prompts, and a vocabulary for them that needs no download: one id per UTF-8 byte.

A preset states its prompt as a template in which `{instruction}` stands for the instruction, lower-cased. Bytes make
prompts some four times longer than a learnt vocabulary would, and nothing is known about words beforehand; what they
give is every language, no files, and a vocabulary of 259 ids.
"""

from oxe_pipeline.vla.context import TextVocabulary

NANO_PROMPT = "task: {instruction}\n"
NO_INSTRUCTION = "unknown"


def build_prompt(instruction: str, *, template: str = NANO_PROMPT, max_bytes: int | None = None) -> str:
    """The prompt for one instruction; "" (none given) reads as "unknown".

    With `max_bytes` the instruction, never the template around it, is cut at a character boundary so that the UTF-8
    prompt fits. ValueError for a template without `{instruction}` or one that alone is longer than `max_bytes`.
    """
    if "{instruction}" not in template:
        raise ValueError(f"prompt template {template!r} lacks {{instruction}}")
    words = (instruction.strip() or NO_INSTRUCTION).lower()
    if max_bytes is not None:
        room = max_bytes - len(template.replace("{instruction}", "").encode())
        if room < 1:
            raise ValueError(f"prompt template {template!r} leaves no room for an instruction in {max_bytes} bytes")
        words = words.encode()[:room].decode(errors="ignore")
    return template.replace("{instruction}", words)


def begin_id(vocabulary: TextVocabulary) -> int:
    """The id that an answer begins after: the newline, which is what PaliGemma sets between prompt and answer.

    A head feeds it as its first token, so prompts end without one. The end id stands in where a vocabulary has no
    newline (T5).
    """
    return (vocabulary.encode("\n") or [vocabulary.end_id])[-1]


class ByteVocabulary:
    """Ids 0-255 are bytes; then padding, begin and end."""

    PADDING, BEGIN, END = 256, 257, 258
    size = 259

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: list[int]) -> str:
        """The text again, for people to look at; special ids are left out."""
        return bytes(i for i in ids if i < 256).decode(errors="replace")

    @property
    def end_id(self) -> int:
        return self.END
