"""A small unified RLDS data set of several files, and what a folder holds: for every test of the shard job."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from tests.ingest.tfds_sample import write_unified
from tests.synthetic import make_episode

EPISODES, FILES = 24, 4


def episodes():
    made = [
        make_episode(i, steps=6 + i % 5, image_px=160, split="val" if i % 6 == 5 else "train") for i in range(EPISODES)
    ]
    for episode in made:
        episode.reward = np.zeros(len(episode), np.float32)
    return made


def content(folder: Path) -> dict[str, str]:
    """Name to hash of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="session")
def rlds(tmp_path_factory) -> Path:
    return write_unified(tmp_path_factory.mktemp("rlds"), episodes(), shards=FILES)
