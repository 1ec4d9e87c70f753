"""The sample of images: bounded, the same for any grouping, and faithful."""

import numpy as np
import pytest
import simplejpeg

from oxe_pipeline.quality import thumbnails
from oxe_pipeline.quality.thumbnails import MAX_EPISODES, Thumbnails, shrink
from tests.quality.pictures import thumbnails_of
from tests.synthetic import make_episode


@pytest.fixture(scope="module")
def episodes():
    return [make_episode(seed, steps=3, cameras=("primary",)) for seed in range(60)]


def test_any_grouping_keeps_the_same_episodes(episodes):
    whole = thumbnails_of(episodes).to_dict()
    assert len(whole) == MAX_EPISODES
    for parts in (2, 5):
        merged = Thumbnails()
        for part in range(parts):
            merged.merge(thumbnails_of(episodes[part::parts]))
        assert merged.to_dict() == whole
    assert Thumbnails.from_dict(whole).to_dict() == whole


def test_episodes_outside_the_sample_are_not_decoded(episodes, monkeypatch):
    full = thumbnails_of(episodes)
    decoded = []
    monkeypatch.setattr(thumbnails, "small_image", lambda data: decoded.append(data) or np.zeros((16, 16, 3), np.uint8))
    outside = max(episodes, key=lambda episode: thumbnails.rank(episode.episode_id))
    full.update(outside)
    assert decoded == []


@pytest.mark.parametrize(("height", "width"), [(16, 16), (37, 90), (8, 11), (480, 640)])
def test_shrinking_keeps_the_mean_of_each_part(height, width):
    rows, columns = np.mgrid[0:height, 0:width]
    picture = np.stack([255 * rows / height, 255 * columns / width, 0 * rows], axis=-1).astype(np.uint8)
    small = shrink(picture)
    assert small.shape == (16, 16, 3)
    np.testing.assert_allclose(
        small[..., 0].mean(axis=1), 255 * (np.arange(16) + 0.5) / 16, atol=255 / min(height, width, 16)
    )
    np.testing.assert_allclose(
        small[..., 1].mean(axis=0), 255 * (np.arange(16) + 0.5) / 16, atol=255 / min(height, width, 16)
    )


def test_a_damaged_image_leaves_its_camera_out(episodes):
    episode = make_episode(1, steps=3)
    episode.images["wrist"] = [b"\xff\xd8" + bytes(500)] * 3
    sample = thumbnails_of([episode])
    assert sample.cameras() == ["primary"]


def test_a_png_is_read_too():
    episode = make_episode(2, steps=2, cameras=("primary",))
    from oxe_pipeline.ingest.images import encode

    pixels = [simplejpeg.decode_jpeg(frame) for frame in episode.images["primary"]]
    jpeg = next(iter(thumbnails_of([episode]).views("primary"))).thumbnail
    episode.images["primary"] = [encode(frame, png=True) for frame in pixels]
    png = next(iter(thumbnails_of([episode]).views("primary"))).thumbnail
    np.testing.assert_allclose(png.astype(int), jpeg.astype(int), atol=6)
