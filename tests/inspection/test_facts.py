"""Facts read from a stream's index equal what the episodes were made of."""

from dataclasses import replace

import numpy as np
import pytest

from oxe_pipeline.inspection.facts import instruction_facts, length_facts, stream_facts
from oxe_pipeline.stream.reader import open_stream
from tests.synthetic import make_episode, write_stream

TEXTS = ["open drawer"] * 5 + ["close drawer"] * 2 + ["", "push", "close drawer"]


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """Ten episodes; the wrist camera is there in the first six, one image is larger, outcomes are mixed."""
    made = []
    for number, text in enumerate(TEXTS):
        cameras = ("primary", "wrist") if number < 6 else ("primary",)
        episode = make_episode(number, steps=3 + number, cameras=cameras, image_px=16 if number else 24)
        others = ("alternative one", "alternative two") if number == 0 else ()
        made.append(replace(episode, instruction=text, alternatives=others, success=(1, 0, -1, 1)[number % 4]))
    return open_stream(write_stream(tmp_path_factory.mktemp("facts"), made))


def test_lengths_are_those_of_numpy(stream):
    found = stream_facts(stream).lengths
    lengths = np.arange(3, 13)
    assert (found.minimum, found.maximum, found.mean, found.median) == (3, 12, lengths.mean(), np.median(lengths))
    assert (found.q05, found.q95) == pytest.approx((np.quantile(lengths, 0.05), np.quantile(lengths, 0.95)))
    assert found.duration_s == pytest.approx(lengths.sum() / 10)


def test_episodes_of_several_rates_are_timed_each_at_its_own():
    assert length_facts(np.array([10, 10]), np.array([5.0, 20.0])).duration_s == pytest.approx(2.5)
    assert length_facts(np.zeros(0, int), np.zeros(0)) is None


def test_outcomes_are_counted(stream):
    assert stream_facts(stream).outcomes == {"success": 5, "failure": 3, "unknown": 2}


def test_cameras_say_size_encoding_weight_and_where_they_are(stream):
    shards = np.arange(len(stream.manifest.shards))
    primary, wrist = stream_facts(stream, shards=shards).cameras
    assert (primary.camera, primary.episodes, primary.images_read) == ("primary", 10, 10)
    assert primary.sizes == ("16x16 JPEG", "24x24 JPEG")
    assert (wrist.camera, wrist.episodes) == ("wrist", 6)
    images = [len(stream.image(e, step, "wrist")) for e in range(6) for step in range(3 + e)]
    assert wrist.bytes_per_image == pytest.approx(np.mean(images))


def test_only_the_named_shards_are_opened(stream):
    again = open_stream(stream.path)
    assert stream_facts(again, shards=np.array([1])).cameras[0].images_read == 4
    assert set(again._shards) == {1}


def test_instructions_come_by_frequency_with_their_alternatives(stream):
    found, different = instruction_facts(stream, 2)
    assert different == 3
    assert [(item.text, item.episodes) for item in found] == [("open drawer", 5), ("close drawer", 3)]
    assert found[0].alternatives == ("alternative one", "alternative two") and found[1].alternatives == ()
