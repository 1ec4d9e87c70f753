"""Every fault that the checks promise to find, made on purpose; and that whole data pass."""

import io
from dataclasses import replace

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from oxe_pipeline.episode import DataError, SourceEpisode
from oxe_pipeline.quality.checks import check_episode, check_source
from oxe_pipeline.quality.image_headers import image_size
from tests.synthetic import make_episode

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


def jpeg(pixels=PIXELS, **options) -> bytes:
    return simplejpeg.encode_jpeg(pixels, quality=90, **options)


def pil_bytes(format: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, format=format, **options)
    return buffer.getvalue()


def source(**steps) -> SourceEpisode:
    return SourceEpisode(key="e7", source_path="p", steps=steps)


def test_columns_of_one_length_pass():
    check_source(source(action=np.zeros((5, 7)), image=[jpeg()] * 5))


def test_one_action_too_few_is_told_with_both_numbers():
    with pytest.raises(DataError, match=r"lab: episode e7: action: 4 steps, but state has 5"):
        check_source(source(state=np.zeros((5, 7)), action=np.zeros((4, 7))), "lab")


def test_an_episode_without_a_step_is_refused():
    with pytest.raises(DataError, match="action: the episode has no step"):
        check_source(source(action=np.zeros((0, 7))))


def test_an_episode_without_a_column_is_refused():
    with pytest.raises(DataError, match="no column"):
        check_source(source())


def test_a_sound_episode_passes():
    check_episode(make_episode(1))


@pytest.mark.parametrize(
    ("field", "index", "value", "message"),
    [
        ("action", (3, 6), np.nan, r"action: arm0.gripper is nan at step 3 \(1 such"),
        ("action", (0, 1), np.inf, "action: arm0.eef_position_delta.y is inf at step 0"),
        ("state", (2, 4), -np.inf, "state: arm0.eef_rotation_6d.r10 is -inf at step 2"),
        ("state_raw", (1, 5), np.nan, r"state_raw: \[5\] is nan at step 1"),
        ("action", (1, 20), 1.0, "action: holds values in masked slots"),
    ],
)
def test_a_bad_number_is_named_by_slot_and_step(field, index, value, message):
    episode = make_episode(1)
    getattr(episode, field)[index] = value
    with pytest.raises(DataError, match=message):
        check_episode(episode)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (jpeg()[:-20], "truncated JPEG: .* without an end marker"),
        (jpeg()[:10], "truncated JPEG: no frame header"),
        (b"\xff\xd8garbage that is long enough", "damaged JPEG"),
        (pil_bytes("PNG")[:-5], "truncated PNG"),
        (b"", "no bytes"),
        (b"GIF89a....", "neither JPEG nor PNG"),
        (jpeg(PIXELS[:4, :4].copy()), "4x4 pixels"),
    ],
)
def test_a_bad_image_is_named_by_camera_and_step(image, message):
    episode = make_episode(1)
    episode.images["wrist"][7] = image
    with pytest.raises(DataError, match=rf"images\[wrist\]: step 7: {message}"):
        check_episode(episode)


def test_a_camera_with_an_image_too_few_is_refused():
    episode = make_episode(1)
    episode.images["wrist"].pop()
    with pytest.raises(DataError, match=r"images\[wrist\]: 11 images for 12 steps"):
        check_episode(episode)


def test_an_episode_of_no_steps_is_refused():
    episode = make_episode(1)
    empty = {name: getattr(episode, name)[:0] for name in ("action", "state", "action_raw", "state_raw")}
    with pytest.raises(DataError, match="no step"):
        check_episode(replace(episode, **empty, images={}))


@pytest.mark.parametrize(
    "data",
    [
        jpeg(),
        jpeg() + b"\0" * 16,
        jpeg(colorsubsampling="420"),
        pil_bytes("JPEG", progressive=True, exif=b"Exif\0\0" + b"x" * 500),
        pil_bytes("PNG"),
    ],
    ids=["jpeg", "padded jpeg", "4:2:0", "progressive with exif", "png"],
)
def test_the_size_is_read_from_the_header(data):
    assert image_size(data) == (48, 64)


def test_a_data_error_survives_pickling():
    import pickle

    error = DataError("why", dataset="d", episode="e", field="f")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.field) == (str(error), "f")
