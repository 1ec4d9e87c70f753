"""Charts draw what they are given: heights, places and gaps, read back from the SVG."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from oxe_pipeline.inspection.charts import HEIGHT, MOST_POINTS, WIDTH, histogram_chart, line_chart, thinned
from oxe_pipeline.inspection.histograms import BINS, histogram
from tests.inspection.html_reading import PageReader


def points_of(svg: str) -> list[list[tuple[int, int]]]:
    found = [attributes["points"] for attributes in PageReader(svg.encode()).all("polyline")]
    return [[tuple(map(int, point.split(","))) for point in points.split()] for points in found]


def test_bars_are_as_high_as_their_counts_are_large():
    values = np.repeat([0.0, 0.5, 1.0], [100, 50, 2]).astype(np.float32)
    svg = histogram_chart(histogram(values, {}), label="x")
    heights = [int(height) for height in re.findall(r"v-(\d+)", svg)]
    assert heights[0] == HEIGHT - 8 and heights[1] == (HEIGHT - 8) / 2
    assert 0 < heights[2] < 10, "a few values are drawn, however many others there are"


def test_marks_stand_where_their_values_are():
    values = np.linspace(0, 1, 200, dtype=np.float32)
    svg = histogram_chart(histogram(values, {}), label="x", marks={"q01": 0.25, "mean": 0.5, "q99": 0.75})
    band = PageReader(svg.encode()).all("rect")[0]
    assert (band["x"], band["width"]) == (str(WIDTH // 4), str(WIDTH // 2))
    assert [line["x1"] for line in PageReader(svg.encode()).all("line")] == ["250", "750", "500"]


def test_a_line_goes_from_the_bottom_left_to_the_top_right():
    (line,) = points_of(line_chart(np.array([[0.0], [1.0], [2.0]]), low=0.0, high=2.0, label="x"))
    (x0, y0), (x1, y1), (x2, y2) = line
    assert (x0, x1, x2) == (0, WIDTH // 2, WIDTH) and y0 > y1 > y2 and y0 - y1 == y1 - y2


def test_a_value_that_is_not_finite_interrupts_its_line():
    lines = points_of(line_chart(np.array([[0.0], [1.0], [np.nan], [0.5], [np.inf]]), low=0.0, high=1.0, label="x"))
    assert [len(line) for line in lines] == [2, 2]


def test_the_chart_says_in_words_what_it_shows():
    reader = PageReader(histogram_chart(histogram(np.zeros(0, np.float32), {}), label="a < b").encode())
    assert reader.all("svg")[0]["aria-label"] == "a < b" and reader.all("svg")[0]["role"] == "img"


@given(hnp.arrays(np.float32, st.integers(1, 5000), elements=st.floats(-1e3, 1e3, width=32)))
def test_thinning_keeps_the_ends_and_every_extreme(values):
    kept = thinned(values)
    assert len(kept) <= MOST_POINTS and kept[0] == 0 and kept[-1] == len(values) - 1
    assert (np.diff(kept) > 0).all()
    assert values[kept].max() == values.max() and values[kept].min() == values.min()


@pytest.mark.parametrize("count", [1, 5, BINS])
def test_the_same_values_give_the_same_bytes(count):
    values = np.random.default_rng(count).random(count).astype(np.float32)
    assert histogram_chart(histogram(values, {}), label="x") == histogram_chart(histogram(values, {}), label="x")
