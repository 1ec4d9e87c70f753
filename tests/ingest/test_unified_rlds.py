"""Unified RLDS written by the builders' side through TFDS and read back by the reader's side: the same episodes."""

import dataclasses

import numpy as np

from oxe_pipeline.ingest.rlds import RldsDirectory
from tests.ingest.tfds_sample import write_unified
from tests.synthetic import make_episode


def assert_equal(ours, theirs):
    for field in dataclasses.fields(theirs):
        mine, other = getattr(ours, field.name), getattr(theirs, field.name)
        if isinstance(other, np.ndarray):
            assert mine.dtype == other.dtype, field.name
            np.testing.assert_array_equal(mine, other, err_msg=field.name)
        else:
            assert mine == other, field.name


def test_a_unified_data_set_reads_back_as_the_episodes_that_were_written(tmp_path):
    episodes = [
        make_episode(0, steps=3),
        make_episode(1, steps=1, cameras=("secondary",), split="val"),
        make_episode(2, steps=2, cameras=()),
    ]
    for episode in episodes:
        steps = len(episode)
        episode.reward = np.linspace(0, 1, steps, dtype=np.float32)
        episode.discount = np.ones(steps, np.float32)
        episode.label_flags = ("mojibake", "whitespace")[: steps - 1]
        episode.is_terminal = steps != 2
    episodes[2].instruction, episodes[2].success = "", -1
    directory = RldsDirectory(write_unified(tmp_path, episodes))
    assert directory.is_unified
    (file,) = directory.splits["train"].files
    read = list(directory.read_unified(file))
    assert len(read) == len(episodes)
    for ours, theirs in zip(read, episodes, strict=True):
        assert_equal(ours, theirs)


def test_a_published_data_set_is_not_taken_for_a_unified_one(real_data):
    assert not RldsDirectory(real_data / "bridge_rlds").is_unified
