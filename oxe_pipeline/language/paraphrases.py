"""Paraphrases that a lab wrote (or had written) for its instructions: read from a file, added as alternatives.

They go through the same cleaning rules as labels, so a file cannot bring into a stream what a label could not. Traded
away: the whole file travels with the job to every worker, so its size is bounded.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import xxhash
import yaml

from oxe_pipeline.language.clean import CleanedLabels, clean_labels
from oxe_pipeline.language.rules import comparable
from schemas.spec import Language

MAX_BYTES = 8_000_000
"""Of the file: some 10,000 instructions with ten paraphrases each."""
FLAG = "paraphrased"
CSV_HEADER = ("instruction", "paraphrase")


class ParaphraseError(ValueError):
    """A paraphrase file that cannot be used: where, what, and the remedy, in one line."""


@dataclass(frozen=True, kw_only=True)
class Paraphrases:
    """Further ways to say instructions."""

    hash: str
    """32 hexadecimal digits of xxh3_128 over the file's bytes."""
    entries: Mapping[str, tuple[str, ...]]
    """Cleaned instruction to its cleaned paraphrases, in the file's order."""
    _by_sentence: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_sentence", {comparable(text): text for text in self.entries})

    def record(self) -> dict:
        """What a stream's manifest says of the file, and what tells two jobs apart."""
        return {"xxh3": self.hash, "entries": len(self.entries)}

    def add_to(self, labels: CleanedLabels) -> tuple[CleanedLabels, tuple[str, ...]]:
        """`labels` with the paraphrases of each of its sentences behind its own alternatives, every sentence once, and
        the entries that matched. Sentences match as in rules.comparable (case and final stop do not count).

        Flags "paraphrased" where an entry matched. Adding twice changes nothing more.
        """
        own = (labels.instruction, *labels.alternatives) if labels.instruction else ()
        sentences = {comparable(text): text for text in own}
        matched = tuple(self._by_sentence[key] for key in sentences if key in self._by_sentence)
        if not matched:
            return labels, ()
        for entry in matched:
            for text in self.entries[entry]:
                sentences.setdefault(comparable(text), text)
        flags = tuple(dict.fromkeys((*labels.flags, FLAG)))
        return replace(labels, alternatives=tuple(sentences.values())[1:], flags=flags), matched


def load_paraphrases(path: str | Path) -> Paraphrases:
    """Reads .yaml, .yml or .json (instruction: list of paraphrases), or .csv (two columns, a row a paraphrase; a first
    row "instruction,paraphrase" is a heading). UTF-8.

    Both sides are cleaned by the rules for labels; instructions that then are the same sentence are one entry. Raises
    ParaphraseError, in one line, for a file that is too large, not of this form, or holds what cleaning leaves nothing
    of; OSError where it cannot be read.
    """
    path = Path(path)
    if path.suffix.lower() not in _READERS:
        raise ParaphraseError(f"{path}: not a paraphrase file; give .yaml, .yml, .json or .csv")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ParaphraseError(f"{path}: {size:,} bytes, more than {MAX_BYTES:,}; split it by data set")
    content = path.read_bytes()
    entries: dict[str, tuple[str, dict[str, str]]] = {}
    try:
        for instruction, paraphrase in _READERS[path.suffix.lower()](content.decode("utf-8-sig")):
            key, text = _cleaned(instruction), _cleaned(paraphrase)
            said = entries.setdefault(comparable(key), (key, {}))[1]
            if comparable(text) != comparable(key):
                said.setdefault(comparable(text), text)
    except (ValueError, csv.Error, yaml.YAMLError, RecursionError) as error:
        raise ParaphraseError(f"{path}: {' '.join(str(error).split())}") from None
    if not entries:
        raise ParaphraseError(f"{path}: holds no paraphrase; an entry is `open the drawer: [pull the drawer open]`")
    return Paraphrases(
        hash=xxhash.xxh3_128_hexdigest(content),
        entries={key: tuple(said.values()) for key, said in entries.values()},
    )


def _cleaned(text: object) -> str:
    """The one sentence that cleaning makes of `text`. ValueError when there is none, or are several."""
    if not isinstance(text, str):
        raise ValueError(f"{text!r:.80} is not text; quote it")
    labels = clean_labels([text], Language())
    if not labels.instruction:
        raise ValueError(f"{text!r:.80} is no instruction ({', '.join(labels.flags)}); take it out")
    if labels.alternatives:
        raise ValueError(f"{text!r:.80} is {1 + len(labels.alternatives)} sentences in one entry; make them several")
    return labels.instruction


def _pairs(content: object) -> Iterator[tuple[object, object]]:
    if not isinstance(content, dict):
        raise ValueError("must be a mapping of instructions to lists of paraphrases")
    for instruction, paraphrases in content.items():
        if not isinstance(paraphrases, list):
            raise ValueError(f"{instruction!r:.80}: its paraphrases must be a list, are {paraphrases!r:.80}")
        for paraphrase in paraphrases:
            yield instruction, paraphrase


def _yaml_pairs(text: str) -> Iterator[tuple[object, object]]:
    yield from _pairs(yaml.safe_load(text))


def _json_pairs(text: str) -> Iterator[tuple[object, object]]:
    yield from _pairs(json.loads(text))


def _csv_pairs(text: str) -> Iterator[tuple[object, object]]:
    for number, row in enumerate(csv.reader(io.StringIO(text, newline=""), strict=True), start=1):
        if not row or (number == 1 and tuple(cell.strip().lower() for cell in row) == CSV_HEADER):
            continue
        if len(row) != 2:
            raise ValueError(f"row {number} has {len(row)} columns, must be {', '.join(CSV_HEADER)}; quote commas")
        yield row[0], row[1]


_READERS = {".yaml": _yaml_pairs, ".yml": _yaml_pairs, ".json": _json_pairs, ".csv": _csv_pairs}
