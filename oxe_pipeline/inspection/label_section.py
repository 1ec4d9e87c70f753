"""Instructions as training will read them, and what cleaning did to the labels they came from."""

from oxe_pipeline.inspection.markup import LINE_BREAK, Markup, definitions, foreign, joined, section, share, table, tag
from oxe_pipeline.inspection.report import Report
from oxe_pipeline.language.report import MAX_SAMPLE_LETTERS, LanguageReport

_SHOWN_ALTERNATIVES = 3
_BAR_REM = 5.0
"""Width of the longest bar."""


def label_section(report: Report) -> Markup:
    """The most frequent instructions, then the language report of the job."""
    return section("labels", "Labels", _totals(report), _instructions(report), _rules(report))


def _instructions(report: Report) -> Markup:
    found, total = report.facts.instructions, report.manifest.counts.episodes_out
    if not found:
        return tag("p", "No episode has an instruction.", class_="empty")
    peak = found[0].episodes
    rows = []
    for instruction in found:
        shown = "; ".join(instruction.alternatives[:_SHOWN_ALTERNATIVES])
        more = len(instruction.alternatives) - _SHOWN_ALTERNATIVES
        bar = tag("span", "", class_="bar", style=f"width:{_BAR_REM * instruction.episodes / peak:.2f}rem")
        rows.append(
            (
                foreign(instruction.text),
                f"{instruction.episodes:,}",
                (bar, tag("span", share(instruction.episodes, total), class_="bar-text")),
                (foreign(shown), f" and {more} more" if more > 0 else None),
            )
        )
    different = report.facts.num_instructions
    caption = (
        f"The {len(rows)} most frequent of {different:,} instructions" if different > len(rows) else "Instructions"
    )
    head = ("instruction", "episodes", "share", "alternatives of the first of these episodes")
    return table(caption, head, rows, numeric=(1,), class_="instructions")


def _totals(report: Report) -> Markup:
    language = LanguageReport.from_dict(report.manifest.language)
    if not language.episodes:
        return tag("p", "The manifest holds no language report.", class_="empty")
    languages = sorted(language.languages.items(), key=lambda item: (-item[1], item[0]))
    distinct = language.instructions
    counted = f"{distinct.at_least:,}" if distinct.is_exact else f"about {distinct.estimate:,}"
    near = language.near_duplicates
    return definitions(
        [
            ("with an instruction", _of(language.with_instruction, language.episodes)),
            ("without", _of(language.episodes - language.with_instruction, language.episodes)),
            ("with alternatives", _of(language.with_alternatives, language.episodes)),
            (
                "saying nothing",
                _of(language.with_placeholder, language.episodes) if language.with_placeholder else None,
            ),
            ("different texts", counted + (f", {near:,} near-duplicates" if near else "")),
            ("languages", ", ".join(f"{code or 'too short to tell'} {n:,}" for code, n in languages)),
        ],
        class_="pairs",
    )


def _rules(report: Report) -> Markup | None:
    language = LanguageReport.from_dict(report.manifest.language)
    rows = []
    for flag, count in sorted(language.flags.items(), key=lambda item: (-item[1], item[0])):
        samples = [
            tag("div", _sample(raw), tag("span", " → ", class_="arrow"), _sample(after) if after else tag("em", "none"))
            for _, raw, after in language.samples.get(flag, [])
        ]
        rows.append((tag("code", foreign(flag)), f"{count:,}", joined(samples)))
    if not rows:
        return None
    return table("What cleaning did", ("rule or flag", "episodes", "before → after"), rows, numeric=(1,))


def _sample(text: str) -> Markup:
    """The report keeps the beginning of long texts."""
    shown = LINE_BREAK.join(text.splitlines())
    return foreign(f"{shown}…" if len(text) == MAX_SAMPLE_LETTERS else shown)


def _of(part: int, whole: int) -> str:
    return f"{part:,} ({share(part, whole)})"
