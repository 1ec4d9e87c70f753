"""Values, times and images out of messages, as objects and as dicts."""

import base64
from types import SimpleNamespace as Message

import numpy as np
import pytest

from oxe_pipeline.ingest.bag_messages import image_in, numbers_in, stamp_ns, text_in, value_at
from oxe_pipeline.ingest.images import encode

PICTURE = np.random.default_rng(0).integers(0, 256, (10, 12, 3), np.uint8)


def image_message(pixels: np.ndarray, said_encoding: str, *, padding: int = 0, **changes) -> Message:
    height, width = pixels.shape[:2]
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (0, padding)), constant_values=77)
    size = {"height": height, "width": width, "step": rows.shape[1]}
    said = {"encoding": said_encoding, "data": rows.ravel(), **size}
    return Message(**(said | changes))


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "stored"),
    [
        ("rgb8", PICTURE),
        ("bgr8", PICTURE[..., ::-1]),
        ("8UC3", PICTURE[..., ::-1]),
        ("rgba8", np.dstack([PICTURE, np.full((10, 12), 9, np.uint8)])),
        ("bgra8", np.dstack([PICTURE[..., ::-1], np.full((10, 12), 9, np.uint8)])),
    ],
)
def test_raw_images_come_out_as_rgb_without_row_padding(encoding, stored, padding):
    np.testing.assert_array_equal(image_in(image_message(stored, encoding, padding=padding)), PICTURE)


def test_grey_images_have_three_equal_channels():
    grey = image_in(image_message(PICTURE[..., :1], "mono8", padding=3))
    np.testing.assert_array_equal(grey, np.repeat(PICTURE[..., :1], 3, axis=2))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"encoding": "16UC1"}, "encoding '16UC1' is not read"),
        ({"height": 2**30}, "1073741824x12 pixels"),
        ({"height": 11}, "do not hold 11x12 pixels of rgb8"),
        ({"step": 35}, "in rows of 35 do not hold"),
        ({"data": 7}, "data: is int, not bytes"),
    ],
)
def test_images_that_cannot_be_are_refused(changes, why):
    with pytest.raises(ValueError, match=why):
        image_in(image_message(PICTURE, "rgb8", **changes))


def test_compressed_images_pass_as_they_are_and_json_holds_them_as_base64():
    png = encode(PICTURE, png=True)
    assert image_in(Message(format="png", data=np.frombuffer(png, np.uint8))) == png
    assert image_in({"format": "png", "data": base64.b64encode(png).decode()}) == png
    depth = Message(format="16UC1; compressedDepth png", data=bytes(12) + png)
    with pytest.raises(ValueError, match=r"neither JPEG nor PNG \(its format says '16UC1; compressedDepth png'\)"):
        image_in(depth)
    with pytest.raises(ValueError, match="is text, but not base64"):
        image_in({"format": "png", "data": "no base64!"})


def test_paths_lead_through_objects_dicts_and_lists():
    message = Message(points=[{"positions": [1, 2, 3]}, {"positions": [4, 5, 6]}])
    assert value_at(message, "points[1].positions[0:2]") == [4, 5]
    assert value_at(message, "points[-1].positions[2]") == 6
    assert numbers_in(message, ["points[0].positions[1:]", "points[1].positions[0]"]).tolist() == [2, 3, 4]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("place", "no field 'place'"),
        ("points[7]", "the list has 1 entries"),
        ("points.x", "no field 'x'"),
        ("words[0]", "is no list"),
        ("words", "is str, not numbers"),
        ("__class__", "does not parse"),
        ("many", "4097 values in one message"),
    ],
)
def test_paths_that_lead_nowhere_say_so(path, why):
    message = Message(points=[1], words="abc", many=np.zeros(4097))
    with pytest.raises(ValueError, match=why):
        numbers_in(message, [path])


def test_values_are_picked_by_name_whatever_their_order():
    message = Message(name=["b", "c", "a"], position=np.array([2.0, 3.0, 1.0]))
    assert numbers_in(message, ["position"], ["a", "b"]).tolist() == [1, 2]
    assert numbers_in(message, ["position"], ["a", "d"]) is None
    with pytest.raises(ValueError, match="velocity has 0 values for 3 names"):
        numbers_in(Message(name=["b", "c", "a"], velocity=np.zeros(0)), ["velocity"], ["a"])


def test_stamps_of_ros_and_foxglove_are_read_and_empty_ones_are_none():
    second = 1_700_000_000
    assert stamp_ns(Message(header=Message(stamp=Message(sec=second, nanosec=5)))) == second * 10**9 + 5
    assert stamp_ns({"timestamp": {"sec": second, "nsec": 6}}) == second * 10**9 + 6
    assert stamp_ns(Message(timestamp=Message(seconds=second, nanos=7))) == second * 10**9 + 7
    assert stamp_ns(Message(header=Message(stamp=Message(sec=0, nanosec=0)))) is None
    assert stamp_ns(Message(header=Message(stamp=Message(sec=2**62, nanosec=0)))) is None
    assert stamp_ns(Message(data=1.0)) is None
    assert stamp_ns({"timestamp": "yesterday"}) is None


def test_text_is_text():
    assert text_in({"data": "open the drawer"}, "data") == "open the drawer"
    with pytest.raises(ValueError, match="data: is int, not text"):
        text_in({"data": 3}, "data")
