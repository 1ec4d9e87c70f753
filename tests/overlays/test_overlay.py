"""Overlay files: what is written reads back, and nothing else is taken for an overlay of this stream."""

import numpy as np
import pyarrow as pa
import pytest

from oxe_pipeline.overlays.make_overlay import OverlayRules, make_overlay
from oxe_pipeline.overlays.overlay import (
    Overlay,
    OverlayError,
    overlay_names,
    overlay_path,
    ranges_identity,
    read_header,
    read_overlay,
    write_overlay,
)
from oxe_pipeline.overlays.window_ranges import WindowRanges
from oxe_pipeline.stream.reader import open_stream
from oxe_pipeline.stream.verify import verify_stream
from tests.synthetic import make_stream


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    return open_stream(make_stream(tmp_path_factory.mktemp("streams") / "alpha", "alpha", episodes=6))


@pytest.fixture
def overlay(stream) -> Overlay:
    return make_overlay(stream, "long", OverlayRules(min_steps=11))


def read(path, stream) -> Overlay:
    return read_overlay(path, stream.identity, stream.episodes.length)


def with_ranges(overlay: Overlay, *columns) -> Overlay:
    """The overlay with other ranges, its hash right."""
    ranges = WindowRanges(*(np.array(column, np.int32) for column in columns))
    header = overlay.header.model_copy(update={"identity": ranges_identity(overlay.header.stream, ranges)})
    return Overlay(header=header, ranges=ranges)


def test_an_overlay_reads_back_equal_and_the_same_overlay_gives_the_same_bytes(stream, overlay, tmp_path):
    for name in ("one.arrow", "two.arrow"):
        write_overlay(tmp_path / name, make_overlay(stream, "long", OverlayRules(min_steps=11)))
    back = read(tmp_path / "one.arrow", stream)
    assert back.header == overlay.header
    for column in ("episode", "first_step", "end_step", "repeats"):
        assert (getattr(back.ranges, column) == getattr(overlay.ranges, column)).all()
    assert (tmp_path / "one.arrow").read_bytes() == (tmp_path / "two.arrow").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.arrow", "two.arrow"]


def test_identity_is_what_is_drawn_and_not_what_it_is_called(stream, overlay):
    assert make_overlay(stream, "other", OverlayRules(min_steps=11)).header.identity == overlay.header.identity
    assert make_overlay(stream, "long", OverlayRules(min_steps=10)).header.identity != overlay.header.identity
    assert ranges_identity("another stream", overlay.ranges) != overlay.header.identity


def test_an_overlay_of_another_stream_is_refused_with_both_identities(stream, overlay, tmp_path):
    write_overlay(tmp_path / "long.arrow", overlay)
    other = open_stream(make_stream(tmp_path / "beta", "alpha", episodes=5))
    with pytest.raises(OverlayError, match=r"make it again: python -m oxe_pipeline.overlay") as raised:
        read(tmp_path / "long.arrow", other)
    assert stream.identity in str(raised.value) and other.identity in str(raised.value)


def test_every_byte_of_the_ranges_is_guarded_by_the_hash(stream, overlay, tmp_path):
    path = tmp_path / "long.arrow"
    write_overlay(path, overlay)
    content = path.read_bytes()
    for name in ("episode", "first_step", "end_step", "repeats"):
        values = getattr(overlay.ranges, name).astype("<i4").tobytes()
        if name == "first_step":  # all zero: not to be told from padding
            continue
        place = content.index(values)
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(OverlayError, match="damaged: its content does not match its hash"):
            read(path, stream)


@pytest.mark.parametrize("cut", [0, 10, 500, -1])
def test_a_file_that_is_cut_short_or_something_else_is_refused(stream, overlay, tmp_path, cut):
    path = tmp_path / "long.arrow"
    write_overlay(path, overlay)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(OverlayError, match="is no overlay of format 1") as raised:
        read(path, stream)
    assert "\n" not in str(raised.value)


def test_an_arrow_file_without_a_header_is_no_overlay(stream, tmp_path):
    table = pa.table({"episode": pa.array([0], pa.int32())})
    with pa.ipc.new_file(str(tmp_path / "x.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(OverlayError, match="is no overlay"):
        read_header(tmp_path / "x.arrow")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([99], [0], [1], [1]), "names an episode outside the stream's 7"),
        (([-1], [0], [1], [1]), "names an episode outside"),
        (([0], [0], [99], [1]), "names steps that their episodes lack"),
        (([0], [-1], [1], [1]), "names steps that their episodes lack"),
        (([0], [2], [2], [1]), "has an empty range"),
        (([0], [0], [1], [0]), "repeats outside 1 to 1000"),
        (([0], [0], [1], [1001]), "repeats outside 1 to 1000"),
        (([0, 0], [0, 1], [2, 3], [1, 1]), "overlap or are not in order"),
        (([1, 0], [0, 0], [2, 3], [1, 1]), "overlap or are not in order"),
    ],
)
def test_ranges_that_do_not_fit_the_stream_are_refused(stream, overlay, tmp_path, columns, message):
    write_overlay(tmp_path / "bad.arrow", with_ranges(overlay, *columns))
    with pytest.raises(OverlayError, match=message):
        read(tmp_path / "bad.arrow", stream)


def test_names_and_paths(tmp_path, overlay):
    assert overlay_path(tmp_path, "no_idle") == tmp_path / "overlays" / "no_idle.arrow"
    with pytest.raises(OverlayError, match=r"'../x' is no name of an overlay"):
        overlay_path(tmp_path, "../x")
    for name in ("b", "a"):
        write_overlay(overlay_path(tmp_path, name), overlay)
    assert overlay_names(tmp_path) == ["a", "b"] and overlay_names(tmp_path / "nowhere") == []
    write_overlay(overlay_path(tmp_path, "no_idle"), overlay)
    with pytest.raises(OverlayError, match="no such overlay; did you mean no_idle"):
        read_header(overlay_path(tmp_path, "noidle"))


def test_a_stream_with_overlays_stays_what_it_was(stream, overlay):
    write_overlay(overlay_path(stream.path, "long"), overlay)
    again = open_stream(stream.path)
    assert again.identity == stream.identity and not verify_stream(stream.path).faults
