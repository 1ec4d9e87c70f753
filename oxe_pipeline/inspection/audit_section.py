"""Audit verdicts, worst first: what is wrong stands open at the top of the page, what is well can be unfolded."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from oxe_pipeline.inspection.markup import Markup, foreign, number, section, table, tag
from oxe_pipeline.stream.format import Manifest

VERDICTS = {"fault": "\N{MULTIPLICATION SIGN}", "suspect": "!", "unknown": "?", "ok": "\N{CHECK MARK}"}
"""Worst first, with the sign that says it where colours cannot."""
MOST_ROWS = 200


def audit_section(manifest: Manifest) -> Markup:
    """Faults and suspicions as a table, the rest in a table to unfold."""
    audits = sorted(manifest.audits, key=lambda audit: list(VERDICTS).index(_verdict(audit)))
    if not audits:
        text = "This stream was made before audits were part of the job, or without them. Run the shard job again."
        return section("audits", "Audits", tag("p", text, class_="empty"))
    bad = [audit for audit in audits if _verdict(audit) in ("fault", "suspect")]
    rest = [audit for audit in audits if _verdict(audit) not in ("fault", "suspect")]
    shown = _table("Faults and suspicions", bad) if bad else tag("p", "No fault and no suspicion.", class_="empty")
    folded = None
    if rest:
        named = ", ".join(f"{n} {v}" for v, n in Counter(map(_verdict, rest)).items())
        folded = tag("details", tag("summary", f"Other audits: {named}"), _table("Other audits", rest))
    return section("audits", "Audits", shown, folded, note="Conventions proven on the data, not assumed. Worst first.")


def verdict_counts(manifest: Manifest) -> dict[str, int]:
    """Verdict to audits with it, worst first, those with none left out."""
    counts = Counter(map(_verdict, manifest.audits))
    return {verdict: counts[verdict] for verdict in VERDICTS if counts[verdict]}


def verdict_summary(counts: Mapping[str, int]) -> Markup:
    """One line of badges that leads to the table."""
    if not counts:
        return tag("p", tag("a", "no audits recorded", href="#audits"), class_="verdicts")
    badges = [(badge(verdict, f"{count} {verdict}"), " ") for verdict, count in counts.items()]
    return tag("p", "Audits: ", badges, tag("a", "see what was found", href="#audits"), class_="verdicts")


def badge(verdict: str, text: str = "") -> Markup:
    """A verdict as a coloured word with its sign."""
    sign = tag("span", VERDICTS[verdict], aria_hidden="true")
    return tag("span", sign, f" {text or verdict}", class_=f"badge {verdict}")


def _table(caption: str, audits: list[dict[str, Any]]) -> Markup:
    rows = [
        (
            foreign(str(audit.get("audit", ""))),
            badge(_verdict(audit)),
            tag("code", foreign(str(audit.get("subject", "")))),
            (foreign(str(audit.get("evidence", "")), most=600), _numbers(audit.get("numbers"))),
            foreign(str(audit.get("remedy", "")), most=600),
        )
        for audit in audits[:MOST_ROWS]
    ]
    more = len(audits) - len(rows)
    made = table(caption, ("audit", "verdict", "subject", "evidence", "remedy"), rows, class_="audits")
    return made if more <= 0 else tag("div", made, tag("p", f"and {more:,} more in the manifest.", class_="note"))


def _numbers(numbers: object) -> Markup | None:
    if not isinstance(numbers, Mapping) or not numbers:
        return None
    said = [f"{key} {number(value) if _is_number(value) else value}" for key, value in numbers.items()]
    return tag("div", foreign(" · ".join(said), most=600), class_="numbers")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _verdict(audit: Mapping[str, Any]) -> str:
    said = str(audit.get("verdict", "unknown"))
    return said if said in VERDICTS else "unknown"
