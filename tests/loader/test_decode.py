"""What becomes of one encoded image: exact pixels against Pillow, odd formats, sizes, damage."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from oxe_pipeline.loader.decode import DirectJpeg, ImageError, decode_into, image_size
from oxe_pipeline.loader.resize import resize_into


def picture(height=48, width=64) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 255 // height, x * 255 // width, (x + y) % 256], -1).astype(np.uint8)


def encode(image: Image.Image, kind: str, **options) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def decode(data: bytes, height: int, width: int, **options) -> np.ndarray:
    out = np.full((height, width, 3), 77, np.uint8)
    decode_into(data, out, **options)
    return out


def test_a_jpeg_decodes_to_what_pillow_makes_of_it():
    data = encode(Image.fromarray(picture()), "JPEG", quality=95)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decode(data, 48, 64) - expected).max() <= 2
    assert image_size(data) == (48, 64)


def test_a_jpeg_lands_in_its_slice_of_the_batch_and_nowhere_else():
    batch = np.full((3, 48, 64, 3), 77, np.uint8)
    decode_into(memoryview(encode(Image.fromarray(picture()), "JPEG", quality=95)), batch[1])
    assert (batch[0] == 77).all() and (batch[2] == 77).all()
    assert np.abs(batch[1].astype(int) - picture()).mean() < 4


def test_a_png_is_exact():
    data = encode(Image.fromarray(picture()), "PNG")
    assert (decode(data, 48, 64) == picture()).all()
    assert image_size(data) == (48, 64)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_greyscale_is_repeated_over_the_channels(kind):
    grey = picture()[..., 1]
    out = decode(encode(Image.fromarray(grey), kind), 48, 64)
    assert (out[..., 0] == out[..., 1]).all() and (out[..., 1] == out[..., 2]).all()
    assert np.abs(out[..., 0].astype(int) - grey).max() <= 6


def test_sixteen_bit_grey_keeps_its_upper_byte():
    deep = (np.arange(48 * 64).reshape(48, 64) * 21).astype(np.uint16)
    out = decode(encode(Image.fromarray(deep), "PNG"), 48, 64)
    assert (out[..., 0] == (deep >> 8)).all()


def test_cmyk_and_transparency_and_palettes_become_rgb():
    image = Image.fromarray(picture())
    cmyk = decode(encode(image.convert("CMYK"), "JPEG", quality=98), 48, 64)
    assert np.abs(cmyk.astype(int) - picture()).mean() < 6
    assert (decode(encode(image.convert("RGBA"), "PNG"), 48, 64) == picture()).all()
    palette = image.convert("P")
    assert (decode(encode(palette, "PNG"), 48, 64) == np.asarray(palette.convert("RGB"))).all()


@pytest.mark.parametrize("stored", [(48, 64), (200, 150), (100, 80), (30, 40)])
def test_another_size_is_resized_as_pillow_resizes_it(stored):
    y, x = np.mgrid[: stored[0], : stored[1]] / np.array(stored)[:, None, None]
    smooth = (np.stack([y, x, (x + y) / 2], -1) * 255).astype(np.uint8)
    data = encode(Image.fromarray(smooth), "JPEG", quality=98)
    expected = np.asarray(Image.open(io.BytesIO(data)).resize((40, 32), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(decode(data, 32, 40, resize=True) - expected).max() <= 6


def test_another_size_without_resizing_is_an_error_that_names_both_sizes_and_the_remedy():
    for kind in ("JPEG", "PNG"):
        with pytest.raises(ImageError, match=r"48x64.*20x20.*image_size=\(20, 20\)"):
            decode(encode(Image.fromarray(picture()), kind), 20, 20)


@pytest.mark.parametrize("kept", [0, 3, 120])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_truncated_image_raises_image_error(kind, kept):
    with pytest.raises(ImageError):
        decode(encode(Image.fromarray(picture()), kind)[:kept], 48, 64)


def test_a_jpeg_that_lacks_only_its_end_mark_counts_as_truncated():
    with pytest.raises(ImageError, match="Premature end"):
        decode(encode(Image.fromarray(picture()), "JPEG")[:-2], 48, 64)


def test_bytes_that_are_no_image_raise_image_error():
    with pytest.raises(ImageError, match="no image"):
        decode(b"not an image", 48, 64)


def test_the_direct_way_takes_jpegs_with_the_same_header_and_nothing_else():
    plain = encode(Image.fromarray(picture()), "JPEG", quality=95)
    other = encode(Image.fromarray(picture()[::-1].copy()), "JPEG", quality=95)
    direct = DirectJpeg.like(plain, fast=False)
    assert direct is not None and direct.size == (48, 64)
    out = np.zeros((48, 64, 3), np.uint8)
    assert direct.decode(memoryview(other), out)
    np.testing.assert_array_equal(out, decode(other, 48, 64))
    refused = [
        encode(Image.fromarray(picture()), "JPEG", quality=90),
        encode(Image.fromarray(picture(64, 48)), "JPEG", quality=95),
        encode(Image.fromarray(picture()).convert("CMYK"), "JPEG", quality=95),
        encode(Image.fromarray(picture()), "PNG"),
        other[: len(other) // 2],
        b"",
    ]
    assert not any(direct.decode(memoryview(data), out) for data in refused)


def test_the_direct_way_is_not_learnt_from_what_does_not_turn_into_rgb_directly():
    image = Image.fromarray(picture())
    for data in (encode(image.convert("CMYK"), "JPEG"), encode(image, "PNG"), b"\xff\xd8\xff", b"\xff\xd8" * 20, b""):
        assert DirectJpeg.like(data, fast=False) is None
    progressive = DirectJpeg.like(encode(image, "JPEG", progressive=True), fast=False)
    assert progressive is not None and progressive.size == (48, 64)


@pytest.mark.parametrize("count", [1, 3])
def test_resizing_is_bit_identical_to_torchs_public_function(count):
    images = np.stack([np.roll(picture(), shift, axis=1) for shift in range(count)])
    outs = [np.zeros((40, 50, 3), np.uint8) for _ in range(count)]
    resize_into(images, outs)
    planes = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    expected = torch.nn.functional.interpolate(planes, (40, 50), mode="bilinear", antialias=True)
    np.testing.assert_array_equal(np.stack(outs), expected.permute(0, 2, 3, 1).numpy())
