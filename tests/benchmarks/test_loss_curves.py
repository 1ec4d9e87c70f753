import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks.loss_curves import curves_svg, smoothed


def test_smoothing_keeps_the_length_and_a_straight_line():
    assert smoothed([5.0] * 7) == [5.0] * 7
    assert smoothed([1.0, 2.0, 3.0, 4.0]) == [1.5, 2.0, 3.0, 3.5]


def test_every_line_is_drawn_from_its_highest_to_its_lowest_loss_inside_its_panel():
    svg = curves_svg({"a < b": {"one": [8.0, 4.0, 2.0, 1.0], "two": [1.0, 1.0]}, "c": {"one": [3.0, 2.0]}})
    root = ElementTree.fromstring(svg)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    lines = [path.attrib["d"] for path in root.iter("{http://www.w3.org/2000/svg}path") if "fill" in path.attrib]
    curves = [[tuple(map(float, point.split())) for point in d[1:].split(" L")] for d in lines if " L" in d]
    assert [len(curve) for curve in curves] == [4, 2, 2]
    assert all(0 <= x <= width and 0 <= y <= height for curve in curves for x, y in curve)
    heights = [y for _, y in curves[0]]
    assert heights == sorted(heights), "a falling loss goes down the page"


def test_a_loss_of_0_has_no_place_on_the_axis():
    with pytest.raises(ValueError, match="above 0"):
        curves_svg({"a": {"one": [1.0, 0.0, 0.0, 0.0]}})
