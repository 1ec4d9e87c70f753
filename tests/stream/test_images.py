"""Re-encoding on the way into a stream: the option's grammar, sizes, aspect, and faults that name their place."""

import io

import numpy as np
import pytest
from PIL import Image

from oxe_pipeline.episode import DataError
from oxe_pipeline.stream.images import encode_image, encode_images, fit_image, parse_images_option
from tests.synthetic import make_episode


def png(pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("text", ["keep", "jpeg:95", "256x192:jpeg:90:pad", "64x64:jpeg:1:crop"])
def test_an_option_is_written_as_it_was_read(text):
    assert str(parse_images_option(text)) == text


def test_padding_is_what_a_size_without_a_fit_means():
    assert str(parse_images_option("256x256:jpeg:95")) == "256x256:jpeg:95:pad"


@pytest.mark.parametrize(
    "text", ["", "png", "jpeg", "jpeg:0", "jpeg:101", "256:jpeg:95", "2x2:jpeg:95", "jpeg:95:crop"]
)
def test_an_option_that_says_nothing_sensible_is_refused_with_its_value(text):
    with pytest.raises(ValueError, match="--images"):
        parse_images_option(text)


def test_keep_hands_on_the_very_same_episode():
    episode = make_episode(0, steps=2)
    assert encode_images(episode, parse_images_option("keep")) is episode


def test_a_png_becomes_a_jpeg_of_its_own_size_and_nearly_its_pixels():
    pixels = np.asarray(Image.linear_gradient("L").resize((48, 32)).convert("RGB"))
    encoded = encode_image(png(pixels), parse_images_option("jpeg:95"))
    decoded = Image.open(io.BytesIO(encoded))
    assert decoded.format == "JPEG" and decoded.size == (48, 32)
    assert np.abs(np.asarray(decoded).astype(int) - pixels).max() <= 6


def test_padding_keeps_everything_and_adds_black_bars_above_and_below():
    pixels = np.full((10, 20, 3), 200, np.uint8)
    fitted = fit_image(pixels, (40, 40), "pad")
    assert fitted.shape == (40, 40, 3)
    assert (fitted[:10] == 0).all() and (fitted[30:] == 0).all() and (fitted[10:30] == 200).all()


def test_cropping_fills_the_frame_from_the_middle():
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 200
    assert (fit_image(pixels, (10, 10), "crop") == 200).all()


def test_an_image_that_does_not_decode_is_a_data_error_with_camera_and_step():
    episode = make_episode(0, steps=3)
    frames = episode.images["wrist"]
    frames[1] = frames[1][:4] + b"\x00" * 20
    with pytest.raises(DataError, match=r"images\[wrist\]: step 1"):
        encode_images(episode, parse_images_option("jpeg:90"))
