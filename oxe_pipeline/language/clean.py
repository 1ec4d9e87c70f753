"""Raw labels of one episode to its instruction, with the raw text kept and a flag for everything that was done to it.

Which of several labels trains a step is not chosen here but at sampling time. Cleaning is a pure function of the labels
and of the spec's language section; results are cached, because a data set repeats few labels many times.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from oxe_pipeline.language.decode import decode_label
from oxe_pipeline.language.identify import identify_language
from oxe_pipeline.language.rules import RULES, comparable
from schemas.spec import Language

MAX_PASSES = 32
"""Rules run again while they find something, as one may uncover work for another; two passes are the rule. A label of
MAX_LETTERS can be wrapped in itself about log2(MAX_LETTERS) = 13 times."""
MAX_CACHED_LETTERS = 2000
"""Labels of an episode beyond it are cleaned each time: they are rare, and the cache must stay small."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CleanedLabels:
    """What cleaning makes of the labels of one episode."""

    instruction: str
    """One line of words, or "" for no instruction."""
    alternatives: tuple[str, ...]
    """Further instructions for the same episode, each another sentence."""
    raw: str
    """The labels as found, decoded but otherwise untouched, joined by newlines."""
    flags: tuple[str, ...]
    """What was done, once each: flags of decode_label, names of RULES, and "missing" (no label at all),
    "spec_placeholder", "blank_by_spec", "duplicate", "language:xx" (not English, ISO 639-1)."""


def clean_labels(raw_labels: Sequence[object], language: Language) -> CleanedLabels:
    """Cleans the labels of one episode: main one first, others become alternatives. Deterministic; takes any object.

    With `language.blank` there is no instruction, only the raw text. Where the main label says nothing, the first that
    does takes its place.
    """
    texts, flags = decode_label(raw_labels)
    if "utf8_codes" in flags and language.encoding == "utf8_codes":
        flags = tuple(flag for flag in flags if flag != "utf8_codes")  # as declared, so nothing to tell
    clean = _clean if sum(map(len, texts)) <= MAX_CACHED_LETTERS else _clean.__wrapped__
    return clean(texts, flags, language.blank, tuple(language.placeholders))


@lru_cache(maxsize=65536)
def _clean(texts: tuple[str, ...], flags: tuple[str, ...], blank: bool, placeholders: tuple[str, ...]) -> CleanedLabels:
    raw = "\n".join(texts)
    if blank:
        return CleanedLabels(instruction="", alternatives=(), raw=raw, flags=(*flags, "blank_by_spec"))
    found = list(flags) if texts else [*flags, "missing"]
    labels = _apply_rules(texts, found)
    known = {comparable(text) for text in placeholders}
    meant = [label for label in labels if comparable(label) not in known]
    if len(meant) < len(labels):
        found.append("spec_placeholder")
    different: dict[str, str] = {}
    for label in meant:
        different.setdefault(comparable(label), label)
    if len(different) < len(meant):
        found.append("duplicate")
    labels = list(different.values())
    found += [f"language:{code}" for code in map(identify_language, labels) if code not in ("", "en")]
    return CleanedLabels(
        instruction=labels[0] if labels else "",
        alternatives=tuple(labels[1:]),
        raw=raw,
        flags=tuple(dict.fromkeys(found)),
    )


def _apply_rules(labels: Sequence[str], found: list[str]) -> list[str]:
    """The labels after RULES, run until nothing changes; names of rules that changed something go into `found`."""
    for _ in range(MAX_PASSES):
        before = list(labels)
        for rule in RULES:
            results = [rule.apply(label) for label in labels]
            if any(result != (label,) for result, label in zip(results, labels, strict=True)):
                found.append(rule.name)
            labels = [label for result in results for label in result]
        if labels == before:
            break
    return list(labels)
