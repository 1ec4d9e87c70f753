"""Pictures of samples: right image in the right cell, and a box where there is none."""

import io

import numpy as np
import pytest
from PIL import Image

from oxe_pipeline.loader.audit import drawn_samples, located
from oxe_pipeline.loader.contact_sheet import contact_sheet, picture_format, write_picture
from tests.loader.conftest import make_episodes, open_mixture
from tests.synthetic import write_stream


def sheet_of(mixture, g, **options) -> Image.Image:
    samples = located(mixture, g)
    return contact_sheet(mixture, samples, drawn_samples(mixture, samples), **options)


def number_with(mixture, name: str, first: int = 0) -> int:
    """A sample number that is drawn from data set `name`."""
    dataset, _, _ = mixture.locate(np.arange(first, first + 64))
    return first + int(np.flatnonzero([mixture.datasets[d].name == name for d in dataset])[0])


def holds(sheet: Image.Image, picture: Image.Image) -> bool:
    """Whether `picture`, brought to the sheet's scale, is somewhere in the sheet."""
    page = np.asarray(sheet).astype(int)
    wanted = np.asarray(picture.resize((176, 176), Image.Resampling.BICUBIC)).astype(int)
    height, width = (page.shape[i] - 176 + 1 for i in (0, 1))
    corners = np.argwhere(np.abs(page[:height, :width] - wanted[0, 0]).sum(-1) < 6)
    return any(np.abs(page[y : y + 176, x : x + 176] - wanted).mean() < 1 for y, x in corners)


def test_each_camera_of_the_step_is_shown(mixture):
    g = number_with(mixture, "slow")
    sheet = sheet_of(mixture, [g])
    (number,), (episode,), (step,) = mixture.locate([g])
    stream = mixture.datasets[number].stream
    for camera in ("primary", "wrist"):
        assert holds(sheet, Image.open(io.BytesIO(stream.image(episode, step, camera))))
    other = (step + 3) % stream.episodes.length[episode]
    if other != step:
        assert not holds(sheet, Image.open(io.BytesIO(stream.image(episode, other, "primary"))))


def test_a_camera_that_the_episode_lacks_is_an_empty_box(mixture):
    boxes = {}
    for name in ("slow", "fast"):
        page = np.asarray(sheet_of(mixture, [number_with(mixture, name)]))
        boxes[name] = int((page == (244, 245, 247)).all(-1).sum())
    assert boxes["slow"] == 0 and boxes["fast"] > 0.8 * 176 * 176


def test_an_unreadable_image_is_a_box_and_no_stop(tmp_path):
    episodes = make_episodes("torn", [6] * 3, cameras=("primary",))
    for episode in episodes:
        episode.images["primary"] = [data[:40] for data in episode.images["primary"]]
    mixture = open_mixture([write_stream(tmp_path / "torn", episodes)])
    assert (np.asarray(sheet_of(mixture, range(2))) == (244, 245, 247)).all(-1).sum() > 1.6 * 176 * 176


def test_more_samples_make_more_cells_and_long_texts_are_cut_to_them(mixture):
    one, many = sheet_of(mixture, [0], title="t"), sheet_of(mixture, range(9), title="many words " * 60)
    assert many.width > one.width and many.height > 2 * one.height and many.width < 2000


def test_a_training_size_stretches_images_as_the_loader_does(mixture):
    wide = np.asarray(sheet_of(mixture, [number_with(mixture, "slow")], size=(32, 64)))
    assert (wide == (244, 245, 247)).all(-1).sum() > 0.8 * 176 * 176  # Two cameras at half height leave half of each.


@pytest.mark.parametrize(("name", "kind"), [("sheet.png", "PNG"), ("sheet.JPG", "JPEG")])
def test_a_picture_is_written_in_the_format_of_its_name(tmp_path, name, kind):
    write_picture(tmp_path / name, Image.new("RGB", (8, 6)))
    written = Image.open(tmp_path / name)
    assert (written.format, written.size) == (kind, (8, 6)) and len(list(tmp_path.iterdir())) == 1


def test_another_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"sheet.bmp: a picture's name must end in .png, .jpg, .jpeg"):
        picture_format(tmp_path / "sheet.bmp")
