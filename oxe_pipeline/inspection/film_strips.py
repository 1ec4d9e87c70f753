"""Episodes as film strips: frames from first to last, what the episode is, and its action and state over time."""

import numpy as np
import pyarrow as pa

from oxe_pipeline.inspection.charts import LINES, line_chart
from oxe_pipeline.inspection.markup import LINE_BREAK, Markup, definitions, foreign, number, section, tag
from oxe_pipeline.inspection.report import Report
from oxe_pipeline.inspection.selection import film_steps
from oxe_pipeline.inspection.slots import SlotFacts, group_title, grouped, shown_unit, shown_vector, vector_slots
from oxe_pipeline.inspection.thumbnails import Thumbnails
from oxe_pipeline.stream.reader import Stream

_OUTCOMES = {1: "success", 0: "failure", -1: "unknown"}


def film_strips(report: Report, thumbnails: Thumbnails) -> Markup:
    """Some random episodes in the order of the stream. Raises BudgetSpent."""
    chosen = np.sort(report.selection.episodes[: report.options.episodes]).tolist()
    if not chosen:
        return section("episodes", "Episodes", tag("p", "The stream holds no episode.", class_="empty"))
    note = (
        f"{len(chosen)} of {len(report.stream.episodes):,} episodes, drawn at random (seed {report.options.seed}) from "
        f"{report.looked_into}. The last frame is the last step."
    )
    details = _detail_columns(report.stream)
    return section("episodes", "Episodes", [_episode(report, thumbnails, e, details) for e in chosen], note=note)


def _detail_columns(stream: Stream) -> dict[str, pa.Array]:
    """Columns of the episode index that only this page reads."""
    return {name: stream.episodes.column(name) for name in ("label_flags", "quality_flags", "label_raw", "split")}


def _episode(report: Report, thumbnails: Thumbnails, episode: int, columns: dict[str, pa.Array]) -> Markup:
    stream = report.stream
    index = stream.episodes
    length, rate_hz = int(index.length[episode]), float(index.control_hz[episode])
    instruction = stream.instruction(episode)
    title = foreign(instruction) if instruction else tag("em", "no instruction")
    others = [stream.instructions[i] for i in index.instruction_ids(episode)[1:]]
    details = {name: column[episode].as_py() for name, column in columns.items()}
    flags = [*details["label_flags"], *details["quality_flags"]]
    raw = details["label_raw"] or ""
    about = definitions(
        [
            ("length", f"{length:,} steps, {length / rate_hz:.1f} s at {rate_hz:g} Hz"),
            ("outcome", _OUTCOMES[int(index.success[episode])]),
            ("split", details["split"]),
            ("id", tag("code", foreign(index.episode_id(episode)))),
            ("source", tag("code", foreign(index.source_path(episode)))),
            ("also said", foreign("; ".join(others)) if others else None),
            ("raw label", foreign(LINE_BREAK.join(raw.splitlines())) if raw != instruction else None),
            ("flags", [(tag("span", foreign(flag), class_="flag"), " ") for flag in flags] if flags else None),
        ],
        class_="about-episode",
    )
    steps = film_steps(length, report.options.frames).tolist()
    strips = [_strip(report, thumbnails, episode, steps, camera, rate_hz) for camera in report.manifest.cameras]
    heading = tag("h3", tag("span", f"{episode}", class_="episode-number"), title)
    return tag("article", heading, about, strips, _plots(report, episode, rate_hz), class_="episode")


def _strip(
    report: Report, thumbnails: Thumbnails, episode: int, steps: list[int], camera: str, rate_hz: float
) -> Markup:
    if not report.stream.episodes.has_camera(camera)[episode]:
        return tag("p", f"{camera}: not in this episode", class_="empty")
    shots = [
        thumbnails.figure(
            *(report.stream, episode, step, camera),
            caption=f"{step / rate_hz:.1f} s",
            alt=f"{camera} camera, episode {episode}, step {step}",
        )
        for step in steps
    ]
    return tag("div", tag("h4", camera), tag("div", shots, class_="film"), class_="strip")


def _plots(report: Report, episode: int, rate_hz: float) -> Markup:
    plots = []
    for vector in (shown_vector(report, "action"), shown_vector(report, "state")):
        values_TC = report.stream.vector(vector, episode)
        for group in grouped(vector_slots(report, vector)):
            for start in range(0, len(group), LINES):
                part = group[start : start + LINES]
                plots.append(_plot(vector, part, values_TC[:, [slot.column for slot in part]], rate_hz))
    return tag("div", plots, class_="plots")


def _plot(vector: str, slots: list[SlotFacts], values_TC: np.ndarray, rate_hz: float) -> Markup:
    """One group of slots over time, with its own scale, since groups have different units."""
    low, high = _scale(slots, values_TC)
    group, unit = group_title(slots[0].group), shown_unit(slots)
    title = group if vector.endswith("_raw") else f"{vector}: {group}"
    key = [tag("span", tag("span", "", class_=f"key c{i}"), slot.label, class_="entry") for i, slot in enumerate(slots)]
    chart = line_chart(
        values_TC, low=low, high=high, label=f"{title} over time, {number(low)} to {number(high)} {unit}"
    )
    duration_s = (len(values_TC) - 1) / rate_hz
    return tag(
        "div",
        tag(
            "div", tag("span", title, class_="plot-title"), tag("span", f"[{unit}]", class_="unit"), class_="plot-head"
        ),
        tag("div", key if len(slots) > 1 else None, class_="keys"),
        tag("div", [tag("span", number(end)) for end in dict.fromkeys((high, low))], class_="y-axis"),
        chart,
        tag("div", tag("span", "0"), tag("span", f"{duration_s:.1f} s"), class_="x-axis"),
        class_="plot",
    )


def _scale(slots: list[SlotFacts], values_TC: np.ndarray) -> tuple[float, float]:
    """Least and greatest finite value; a gripper has its whole way from 0 to 1, so that still and moving look it."""
    finite = values_TC[np.isfinite(values_TC)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    return (min(low, 0.0), max(high, 1.0)) if slots[0].group.endswith(".gripper") else (low, high)
