"""What cleaning found in one data set: counts per rule, labels with and without an instruction, samples, languages.

A report is small whatever the size of the data (counters, 8192 hashes, a few samples a rule), and merges in any order
or grouping to the same report, so that each worker of a job can keep its own. It changes no label: near-duplicates are
counted, never folded together. Traded away: beyond 8192 different instructions their number is an estimate.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import xxhash

from oxe_pipeline.language.clean import CleanedLabels
from oxe_pipeline.language.distinct import DistinctCount
from oxe_pipeline.language.identify import identify_language
from oxe_pipeline.language.rules import RULES, datasets_blanked_by_octo

SAMPLES_PER_FLAG = 3
MAX_SAMPLE_LETTERS = 60
MAX_UNMATCHED_SHOWN = 20
SAYS_NOTHING = frozenset(("placeholder", "spec_placeholder", "task_id"))
"""Flags of labels that are there and say nothing about the task."""

_ARTICLES = frozenset(("a", "an", "the"))


class LanguageReport:
    """Counts over the episodes of one data set. One object accumulates; nothing else holds its state."""

    def __init__(self, dataset: str = "", *, paraphrases: Iterable[str] = ()) -> None:
        """`paraphrases`: the entries of a paraphrase file, so that those which match nothing are reported."""
        self.dataset = dataset
        self.episodes = 0
        self.with_instruction = 0
        self.with_alternatives = 0
        self.with_placeholder = 0
        """Episodes one of whose labels says nothing (SAYS_NOTHING), whether another one does or not."""
        self.flags: Counter[str] = Counter()
        """Flag (a rule's name or another of CleanedLabels.flags) to episodes that carry it."""
        self.languages: Counter[str] = Counter()
        """ISO 639-1 code, or "" where it cannot be told, to episodes with an instruction."""
        self.instructions = DistinctCount()
        self.folded = DistinctCount()
        """Instructions that differ by more than case, punctuation and articles."""
        self.paraphrased: Counter[str] = Counter(dict.fromkeys(paraphrases, 0))
        """Entry of the paraphrase file to episodes that it gave alternatives to."""
        self.samples: dict[str, list[tuple[str, str, str]]] = {}
        """Flag to at most SAMPLES_PER_FLAG of (hash, raw, instruction), those with the smallest hashes."""

    def update(self, cleaned: CleanedLabels, paraphrased: Iterable[str] = ()) -> None:
        """Counts one episode; `paraphrased`: the entries of the paraphrase file that matched it."""
        self.episodes += 1
        self.paraphrased.update(paraphrased)
        self.with_placeholder += not SAYS_NOTHING.isdisjoint(cleaned.flags)
        self.flags.update(cleaned.flags)
        self.with_alternatives += bool(cleaned.alternatives)
        if cleaned.instruction:
            self.with_instruction += 1
            self.languages[identify_language(cleaned.instruction)] += 1
            for text in (cleaned.instruction, *cleaned.alternatives):
                self.instructions.add(text)
                self.folded.add(fold(text))
        if cleaned.flags and cleaned.raw:
            digest = xxhash.xxh3_64_hexdigest(cleaned.raw.encode())
            sample = (digest, cleaned.raw[:MAX_SAMPLE_LETTERS], cleaned.instruction[:MAX_SAMPLE_LETTERS])
            for flag in cleaned.flags:
                self._add_samples(flag, [sample])

    @property
    def placeholder_share(self) -> float:
        """Share of episodes with a label that says nothing, 0 to 1."""
        return self.with_placeholder / self.episodes if self.episodes else 0.0

    @property
    def near_duplicates(self) -> int | None:
        """Instructions that differ from another by case, punctuation and articles alone; None beyond exact counting."""
        if not self.instructions.is_exact:
            return None
        return self.instructions.at_least - self.folded.at_least

    def merge(self, other: "LanguageReport") -> None:
        """Adds what `other` has counted; associative and commutative. ValueError for a report of another data set."""
        if self.dataset and other.dataset and self.dataset != other.dataset:
            raise ValueError(f"language report: cannot merge {other.dataset!r} into {self.dataset!r}")
        self.dataset = self.dataset or other.dataset
        self.episodes += other.episodes
        self.with_instruction += other.with_instruction
        self.with_alternatives += other.with_alternatives
        self.with_placeholder += other.with_placeholder
        self.paraphrased.update(other.paraphrased)
        self.flags.update(other.flags)
        self.languages.update(other.languages)
        self.instructions.merge(other.instructions)
        self.folded.merge(other.folded)
        for flag, samples in other.samples.items():
            self._add_samples(flag, samples)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON-able values, mappings sorted; equal for reports of the same episodes. Inverse: from_dict,
        for which "instructions" and "folded" hold the counts' states."""
        return {
            "dataset": self.dataset,
            "episodes": self.episodes,
            "with_instruction": self.with_instruction,
            "with_alternatives": self.with_alternatives,
            "with_placeholder": self.with_placeholder,
            "placeholder_share": self.placeholder_share,
            "paraphrased": dict(sorted(self.paraphrased.items())),
            "flags": dict(sorted(self.flags.items())),
            "languages": dict(sorted(self.languages.items())),
            "unique_instructions": self.instructions.estimate,
            "unique_is_exact": self.instructions.is_exact,
            "near_duplicates": self.near_duplicates,
            "instructions": self.instructions.to_text(),
            "folded": self.folded.to_text(),
            "samples": {flag: [list(sample) for sample in self.samples[flag]] for flag in sorted(self.samples)},
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "LanguageReport":
        """Inverse of to_dict; an entry that is absent counts as nothing seen, so {} is an empty report."""
        report = cls(content.get("dataset", ""))
        report.episodes = content.get("episodes", 0)
        report.with_instruction = content.get("with_instruction", 0)
        report.with_alternatives = content.get("with_alternatives", 0)
        report.with_placeholder = content.get("with_placeholder", 0)
        report.paraphrased = Counter(content.get("paraphrased", {}))
        report.flags = Counter(content.get("flags", {}))
        report.languages = Counter(content.get("languages", {}))
        report.instructions = DistinctCount.from_text(content.get("instructions", ""))
        report.folded = DistinctCount.from_text(content.get("folded", ""))
        for flag, samples in content.get("samples", {}).items():
            report._add_samples(flag, [(digest, raw, after) for digest, raw, after in samples])
        return report

    def render(self) -> str:
        """The report as a plain text table; the same text for the same episodes."""
        return render(self)

    def _add_samples(self, flag: str, samples: list[tuple[str, str, str]]) -> None:
        self.samples[flag] = sorted({*self.samples.get(flag, []), *samples})[:SAMPLES_PER_FLAG]


def render(report: LanguageReport) -> str:
    """`report` as a plain text table: totals, then one line a rule that did something, with samples raw -> cleaned."""
    totals = [
        ("episodes", f"{report.episodes:,}"),
        ("with an instruction", _of(report.with_instruction, report.episodes)),
        ("without", _of(report.episodes - report.with_instruction, report.episodes)),
        ("with several", _of(report.with_alternatives, report.episodes)),
        ("with a placeholder", _of(report.with_placeholder, report.episodes)),
        ("different instructions", _distinct(report)),
        ("languages", ", ".join(f"{code or 'too short to tell'} {n:,}" for code, n in _by_count(report.languages))),
    ]
    lines = [f"{name:<24}{value}" for name, value in totals if value]
    if report.dataset in datasets_blanked_by_octo():
        lines.append("Octo trains this data set without its labels, as uninformative.")
    if report.flags:
        lines += ["", f"{'rule':<18}{'episodes':>9}  raw -> instruction"]
    for flag, count in _by_count(report.flags):
        shown = [f"{raw!r} -> {after!r}" for _, raw, after in report.samples.get(flag, [])] or [""]
        lines.append(f"{flag:<18}{count:>9,}  {shown[0]}".rstrip())
        lines += [f"{'':<29}{sample}" for sample in shown[1:]]
    lines += _paraphrase_lines(report)
    idle = [rule.name for rule in RULES if not report.flags[rule.name]]
    if report.episodes and idle:
        lines += ["", f"no effect: {', '.join(idle)}"]
    return "\n".join(lines) + "\n"


def fold(text: str) -> str:
    """The form in which near-duplicates are equal: words case-folded, without punctuation and articles."""
    return " ".join(word for word in re.findall(r"\w+", text.casefold()) if word not in _ARTICLES)


def _paraphrase_lines(report: LanguageReport) -> list[str]:
    if not report.paraphrased:
        return []
    unmatched = sorted(text for text, count in report.paraphrased.items() if not count)
    entries = len(report.paraphrased)
    lines = ["", f"paraphrases: {entries - len(unmatched):,} of {entries:,} entries match an instruction"]
    lines += [f"  matches nothing: {text!r:.{MAX_SAMPLE_LETTERS}}" for text in unmatched[:MAX_UNMATCHED_SHOWN]]
    if len(unmatched) > MAX_UNMATCHED_SHOWN:
        lines.append(f"  and {len(unmatched) - MAX_UNMATCHED_SHOWN:,} more")
    return lines


def _by_count(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _of(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.1%})" if whole else "0"


def _distinct(report: LanguageReport) -> str:
    if not report.instructions.is_exact:
        return f"at least {report.instructions.at_least:,}, about {report.instructions.estimate:,}"
    near = report.near_duplicates
    note = f", {near:,} of them near-duplicates (case, punctuation, articles)" if near else ""
    return f"{report.instructions.at_least:,}{note}"
