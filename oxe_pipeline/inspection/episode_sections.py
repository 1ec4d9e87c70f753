"""What concerns episodes as a whole: how long they are, how they ended, and which were set aside and why."""

import re
from collections import Counter

from oxe_pipeline.inspection.charts import histogram_chart
from oxe_pipeline.inspection.histograms import whole_number_histogram
from oxe_pipeline.inspection.markup import Markup, definitions, foreign, number, section, table, tag
from oxe_pipeline.inspection.report import Report
from oxe_pipeline.stream.format import Quarantined

MOST_QUARANTINED = 40
_SPAN_LETTERS = 300


def length_section(report: Report) -> Markup:
    """Distribution of episode lengths, and outcomes."""
    lengths = report.facts.lengths
    if lengths is None:
        return section("lengths", "Episode lengths", tag("p", "The stream holds no episode.", class_="empty"))
    steps = report.stream.episodes.length
    found = whole_number_histogram(steps)
    marks = [
        ("shortest", f"{lengths.minimum:,}"),
        ("q05", number(lengths.q05)),
        ("median", number(lengths.median)),
        ("mean", number(lengths.mean)),
        ("q95", number(lengths.q95)),
        ("longest", f"{lengths.maximum:,}"),
    ]
    outcomes = ", ".join(f"{name} {count:,}" for name, count in report.facts.outcomes.items() if count)
    label = f"Histogram of episode lengths, {lengths.minimum} to {lengths.maximum} steps"
    chart = histogram_chart(found, label=label)
    ends = tag("div", tag("span", f"{found.low:,.0f}"), tag("span", f"{found.high:,.0f} steps"), class_="x-axis")
    further = tag("p", f"{found.above:,} longer ones not drawn", class_="outside") if found.above else None
    return section(
        "lengths",
        "Episode lengths",
        tag("div", chart, ends, definitions(marks, class_="marks"), further, class_="wide-chart"),
        tag("p", f"Outcomes: {outcomes}."),
        note=f"Steps of all {len(steps):,} episodes.",
    )


def quarantine_section(report: Report) -> Markup:
    """Reasons with counts, then the first episodes set aside."""
    quarantine = report.manifest.quarantine
    if not quarantine:
        return section("quarantine", "Quarantine", tag("p", "Empty: no episode was set aside.", class_="empty"))
    reasons = [
        (foreign(reason, most=_SPAN_LETTERS), tag("code", foreign(field)), f"{count:,}")
        for (field, reason), count in reason_counts(quarantine)[:MOST_QUARANTINED]
    ]
    rows = [
        (
            tag("code", foreign(fault.episode, most=_SPAN_LETTERS)),
            tag("code", foreign(fault.field, most=_SPAN_LETTERS)),
            foreign(fault.reason, most=_SPAN_LETTERS),
        )
        for fault in quarantine[:MOST_QUARANTINED]
    ]
    first = f"First {len(rows)} of {len(quarantine):,}" if len(quarantine) > len(rows) else f"All {len(rows):,}"
    return section(
        "quarantine",
        "Quarantine",
        table("Reasons, numbers in them written as N", ("reason", "field", "episodes"), reasons, numeric=(2,)),
        table(f"{first} episodes set aside", ("episode", "field", "reason"), rows),
        note="Episodes that were set aside: counted, never repaired in silence.",
    )


def reason_counts(quarantine: list[Quarantined]) -> list[tuple[tuple[str, str], int]]:
    """((field, reason), episodes), the most frequent first; reasons that differ in numbers alone are one."""
    counts = Counter((fault.field, re.sub(r"\d+(\.\d+)?", "N", fault.reason)) for fault in quarantine)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
