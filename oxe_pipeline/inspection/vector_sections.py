"""Histograms of every slot of a vector, group by group, with the exact statistics of the train split as marks."""

from collections.abc import Mapping

import numpy as np

from oxe_pipeline.inspection.charts import histogram_chart
from oxe_pipeline.inspection.histograms import Histogram, histogram
from oxe_pipeline.inspection.markup import Markup, definitions, joined, number, section, share, tag
from oxe_pipeline.inspection.report import Report
from oxe_pipeline.inspection.slots import SlotFacts, group_title, grouped, shown_unit, vector_slots

_TITLES = {"action": "Action", "state": "State"}
_RAW_TITLES = {"action_raw": "The source's own action vector", "state_raw": "The source's own state vector"}
_MARKS = ("min", "q01", "mean", "q99", "max")


def vector_section(report: Report, vector: str, values: Mapping[str, np.ndarray]) -> Markup:
    """Histograms of "action" or "state", and its raw vector to unfold. `values`: vector -> float32 [N, width]."""
    slots, raw = vector_slots(report, vector), f"{vector}_raw"
    steps = "train steps" if report.stream.episodes.split_is("train").any() else "steps"
    note = (
        f"Bars: {len(values[vector]):,} {steps}, evenly spaced over {report.looked_into}. "
        "Shaded: q01 to q99; line: mean; both over all train steps."
    )
    body = [_group(group, values[vector]) for group in grouped(slots)]
    if not slots:
        body = [tag("p", "No slot is filled: every one is masked.", class_="empty")]
    if raw_slots := vector_slots(report, raw):
        named = _raw_sources(report, raw)
        summary = tag("summary", f"{_RAW_TITLES[raw]}: {len(raw_slots)} wide{named}")
        body.append(tag("details", summary, _group(raw_slots, values[raw]), open=not slots))
    return section(vector, _TITLES[vector], body, note=note)


def _group(slots: list[SlotFacts], values: np.ndarray) -> Markup:
    first = slots[0]
    said = [f"[{shown_unit(slots)}]", first.kind, f"from {first.source}" if first.source else ""]
    about = tag("span", " · ".join(part for part in said if part), class_="about")
    cells = [_cell(slot, values[:, slot.column]) for slot in slots]
    return joined(tag("h3", group_title(first.group), about), tag("div", cells, class_="slots"))


def _cell(slot: SlotFacts, values: np.ndarray) -> Markup:
    found = histogram(values, slot.numbers)
    if not len(values):
        return tag("div", tag("h4", slot.label), tag("p", "no steps", class_="empty"), class_="slot")
    label = f"Histogram of {slot.name}, {number(found.low)} to {number(found.high)} {slot.unit}"
    marks = [(mark, number(slot.numbers[mark])) for mark in _MARKS if mark in slot.numbers]
    return tag(
        "div",
        tag("h4", slot.label),
        histogram_chart(found, label=label, marks=dict(slot.numbers)),
        tag("div", tag("span", number(found.low)), tag("span", number(found.high)), class_="x-axis"),
        definitions(marks, class_="marks"),
        _outside(found, len(values)),
        class_="slot",
    )


def _outside(found: Histogram, total: int) -> Markup | None:
    """What the axis does not show, in words."""
    said = [
        f"{count:,} ({share(count, total)}) {where}"
        for count, where in (
            (found.below, "further left"),
            (found.above, "further right"),
            (found.not_finite, "not finite"),
        )
        if count
    ]
    said = ["constant", *said] if found.is_constant else said
    return tag("p", "; ".join(said), class_="outside") if said else None


def _raw_sources(report: Report, raw: str) -> str:
    if report.spec is None:
        return ""
    keys = report.spec.action_raw if raw == "action_raw" else report.spec.state_raw
    return f", from {', '.join(keys)}" if keys else ""
