"""Thumbnails keep the shape of their image, stay small, and stop at the budget."""

import base64
import io

import pytest
from PIL import Image

from oxe_pipeline.inspection.thumbnails import FINENESSES, BudgetSpent, Fineness, Thumbnails
from oxe_pipeline.stream.reader import open_stream
from tests.inspection.html_reading import PageReader
from tests.synthetic import make_episode, write_stream

WORDS = {"caption": "0.5 s", "alt": "primary camera"}


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """One episode with images of 200x100, one with images of 32x32."""
    wide, small = make_episode(0, steps=2, cameras=("primary",)), make_episode(1, steps=2, cameras=("primary",))
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((200, 100)).save(buffer, "PNG")
    wide.images["primary"] = [buffer.getvalue()] * 2
    return open_stream(write_stream(tmp_path_factory.mktemp("s"), [wide, small]))


def test_the_longer_side_is_cut_to_size_and_smaller_images_are_left(stream):
    thumbnails = Thumbnails(fineness=Fineness(edge_px=50, quality=80), budget_bytes=100_000)
    for episode, size in ((0, (50, 25)), (1, (32, 32))):
        (image,) = PageReader(thumbnails.figure(stream, episode, 0, "primary", **WORDS).encode()).all("img")
        picture = Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2])))
        assert picture.size == size == (int(image["width"]), int(image["height"]))
        assert picture.mode == "RGB" and image["alt"] == "primary camera"


def test_every_byte_counts_against_the_budget(stream):
    thumbnails = Thumbnails(fineness=FINENESSES[0], budget_bytes=10**6)
    figure = thumbnails.figure(stream, 0, 0, "primary", **WORDS)
    used = thumbnails.spent_bytes
    assert 0 < used < len(figure)
    exact = Thumbnails(fineness=FINENESSES[0], budget_bytes=2 * used - 1)
    exact.figure(stream, 0, 0, "primary", **WORDS)
    with pytest.raises(BudgetSpent):
        exact.figure(stream, 0, 1, "primary", **WORDS)


def test_each_fineness_is_smaller_than_the_one_before(stream):
    sizes = []
    for fineness in FINENESSES:
        thumbnails = Thumbnails(fineness=fineness, budget_bytes=10**6)
        thumbnails.figure(stream, 0, 0, "primary", **WORDS)
        sizes.append(thumbnails.spent_bytes)
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < sizes[0] / 2
