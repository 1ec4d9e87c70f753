"""The loader benchmark on a tiny stream: every row is there, and the ceiling decodes what it says."""

import numpy as np
import pytest

from benchmarks.ceiling import BATCH_SIZE, ceiling_rate, fast_difference
from benchmarks.loader import CEILING, main, measure
from benchmarks.scenes import encoded_scenes, make_scene_stream


def test_every_way_has_a_rate_and_a_share(tmp_path):
    folder = make_scene_stream(tmp_path / "tiny", "tiny", episodes=4, steps=10, image_px=32, seed=0)
    result = measure([folder], rounds=1, batches=2)
    assert result.ways[0].name == CEILING and result.ways[0].share == 1
    assert len(result.ways) == 7 and all(way.samples_per_s > 0 for way in result.ways)
    assert result.cameras == 2 and result.image_size == (32, 32)
    assert 0 < result.imports_mb <= result.anonymous_mb


def test_the_ceiling_fills_its_buffer_with_the_images_in_turn():
    import simplejpeg

    images = [memoryview(image) for image in encoded_scenes(3, 32)]
    buffer = np.zeros((BATCH_SIZE, 32, 32, 3), np.uint8)
    assert ceiling_rate(images, buffer, batches=1) > 0
    for number in (0, 1, 2, 63):
        np.testing.assert_array_equal(buffer[number], simplejpeg.decode_jpeg(images[number % 3], "RGB"))


def test_grey_images_decode_fast_without_a_difference_beyond_rounding():
    import simplejpeg

    flat = simplejpeg.encode_jpeg(np.full((32, 32, 3), 128, np.uint8), quality=95)
    assert fast_difference([flat]).max <= 1
    assert fast_difference(encoded_scenes(2, 64)).mean > 0.1


def test_rounds_below_one_and_folders_without_pictures_are_refused_before_any_work(tmp_path, capsys):
    for wrong, said in ((["--rounds", "0"], "1 or more"), (["--jpegs", str(tmp_path)], "no .jpg file")):
        with pytest.raises(SystemExit) as stopped:
            main(wrong)
        assert stopped.value.code == 2 and said in capsys.readouterr().err
