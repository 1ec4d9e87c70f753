"""A picture to look at has the pixels a batch would have; where there is none, the reason is said."""

import struct

import numpy as np
import pytest
import simplejpeg

from oxe_pipeline.loader.decode import ImageError
from oxe_pipeline.loader.stored_image import ABSENT, UNREADABLE, stored_image
from oxe_pipeline.stream.reader import open_stream
from tests.synthetic import make_episode, write_stream


def png_of(width: int, height: int) -> bytes:
    """A PNG that promises a size and holds nothing."""
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", width, height, 8, 2, 0, 0, 0) + bytes(4)


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """A sound episode, one without wrist camera, and one whose images are no images."""
    broken = make_episode(2, steps=3)
    broken.images["primary"] = [b"no image", broken.images["primary"][1][:40], png_of(65_000, 65_000)]
    made = [make_episode(0, image_px=20), make_episode(1, cameras=("primary",)), broken]
    return open_stream(write_stream(tmp_path_factory.mktemp("s"), made))


def test_pixels_are_the_decoders_own(stream):
    picture = stored_image(stream, 0, 3, "wrist")
    expected = simplejpeg.decode_jpeg(bytes(stream.image(0, 3, "wrist")))
    assert picture.size == (20, 20) and np.array_equal(np.asarray(picture), expected)


def test_a_lost_camera_is_said(stream):
    with pytest.raises(ImageError, match=f"^{ABSENT}$"):
        stored_image(stream, 1, 0, "wrist")


@pytest.mark.parametrize("step", [0, 1, 2], ids=["no image", "cut short", "header of 12 GB"])
def test_damaged_images_are_said_and_cost_nothing(stream, step):
    with pytest.raises(ImageError, match=f"^{UNREADABLE}$"):
        stored_image(stream, 2, step, "primary")
