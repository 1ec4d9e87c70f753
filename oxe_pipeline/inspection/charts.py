"""Charts as inline SVG: shapes only, no text, so that they may stretch with their column while all letters stay HTML.

Coordinates are whole numbers on a fixed canvas: a thousand points are a few kilobytes, and the same data give the same
bytes. Colours come from the page's style by class, so that dark screens and printers have their own.
"""

from collections.abc import Sequence

import numpy as np

from oxe_pipeline.inspection.histograms import Histogram
from oxe_pipeline.inspection.markup import Markup, tag

WIDTH, HEIGHT = 1000, 300
LINES = 7
"""Lines that one chart can tell apart by colour and dash."""
MOST_POINTS = 240


def histogram_chart(found: Histogram, *, label: str, marks: dict[str, float] | None = None) -> Markup:
    """Bars over the axis; the band from marks["q01"] to marks["q99"] and a tick at marks["mean"] where given.

    Heights are in proportion to counts, but one that is not empty is always to be seen.
    """
    peak = max(1, int(found.counts.max()))
    shapes = [*_band(found, marks or {}), *_bars(found.counts / peak), *_mean(found, marks or {})]
    return _canvas(shapes, label, "histogram")


def line_chart(columns_TC: np.ndarray, *, low: float, high: float, label: str) -> Markup:
    """One line per column of float [T, C], C <= LINES, between `low` at the bottom and `high` at the top.

    A value that is not finite interrupts its line.
    """
    zero = [_line("zero", 0, _y(0.0, low, high), WIDTH, _y(0.0, low, high))] if low < 0 < high else []
    lines = [
        tag("polyline", points=points, class_=f"line c{column % LINES}", vector_effect="non-scaling-stroke")
        for column in range(columns_TC.shape[1])
        for points in _polylines(columns_TC[:, column], low, high)
    ]
    return _canvas([*zero, *lines], label, "lines")


def thinned(values: np.ndarray, most: int = MOST_POINTS) -> np.ndarray:
    """int64 positions of at most `most` of the values [T], first and last among them, that keep every peak: of each
    of equal parts its least and its greatest."""
    if len(values) <= most:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), max(1, (most - 2) // 2) + 1).astype(np.int64)
    kept = {0, len(values) - 1}
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        part = np.nan_to_num(values[start:stop], nan=0.0)
        kept |= {start + int(part.argmin()), start + int(part.argmax())}
    return np.array(sorted(kept), np.int64)


def _polylines(values: np.ndarray, low: float, high: float) -> Sequence[str]:
    """The runs of finite values as SVG points; a run of one value is a short dash, so that it can be seen."""
    places = thinned(values)
    last = max(1, len(values) - 1)
    runs: list[list[str]] = [[]]
    for place in places.tolist():
        value = float(values[place])
        if np.isfinite(value):
            runs[-1].append(f"{round(place * WIDTH / last)},{_y(value, low, high)}")
        elif runs[-1]:
            runs.append([])
    return [" ".join(run if len(run) > 1 else [*run, _beside(run[0])]) for run in runs if run]


def _beside(point: str) -> str:
    x, _, y = point.partition(",")
    return f"{int(x) + 8},{y}"


def _y(value: float, low: float, high: float) -> int:
    inside = 0.5 if high == low else (value - low) / (high - low)
    return round(HEIGHT - 6 - inside * (HEIGHT - 12))


def _bars(heights: np.ndarray) -> list[Markup]:
    """One path for all bars: a rectangle each, with a gap of a fifth."""
    step = WIDTH / len(heights)
    parts = [
        f"M{round(i * step + step * 0.08)} {HEIGHT}v-{max(4, round(height * (HEIGHT - 8)))}"
        f"h{round(step * 0.84)}V{HEIGHT}z"
        for i, height in enumerate(heights.tolist())
        if height > 0
    ]
    return [tag("path", d="".join(parts), class_="bars")] if parts else []


def _band(found: Histogram, marks: dict[str, float]) -> list[Markup]:
    if found.is_constant or not {"q01", "q99"} <= marks.keys():
        return []
    left, right = _x(marks["q01"], found), _x(marks["q99"], found)
    edges = [_line("quantile", x, 0, x, HEIGHT) for x in (left, right)]
    return [tag("rect", x=left, y=0, width=max(1, right - left), height=HEIGHT, class_="band"), *edges]


def _mean(found: Histogram, marks: dict[str, float]) -> list[Markup]:
    if found.is_constant or "mean" not in marks:
        return []
    x = _x(marks["mean"], found)
    return [_line("mean", x, 0, x, HEIGHT)]


def _x(value: float, found: Histogram) -> int:
    return round(min(1.0, max(0.0, (value - found.low) / (found.high - found.low))) * WIDTH)


def _line(kind: str, x1: int, y1: int, x2: int, y2: int) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind, vector_effect="non-scaling-stroke")


def _canvas(shapes: Sequence[Markup], label: str, kind: str) -> Markup:
    return tag(
        "svg",
        shapes,
        class_=kind,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
    )
