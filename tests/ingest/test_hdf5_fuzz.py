"""Damaged bytes in files of every HDF5 layout: what comes out is an episode or a DataError, never anything else."""

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest import agibot, aloha, hdf5_demo, maniskill, robomind
from oxe_pipeline.ingest.apply_spec import apply_spec
from oxe_pipeline.ingest.robomind_labels import LabelFiles
from samples import aloha_layout, maniskill_layout, robomimic_layout, robomind_layout
from schemas.spec import load_spec

pytest.importorskip("h5py")

INPUTS = 12
"""Per layout: enough to meet a lost conversion of an error, a few seconds in all."""
ROBOT = "h5_ur_1rgb"


def pixels(root: Path):
    aloha_layout.write_episode(root / "t" / "episode_0.hdf5", steps=3, height=16, width=16)
    return root / "t" / "episode_0.hdf5", "aloha", partial(aloha.read_episode, "t/episode_0.hdf5", root=root)


def padded_jpeg(root: Path):
    aloha_layout.write_episode(
        root / "t" / "episode_0.hdf5", steps=3, height=16, width=16, compressed=True, mobile=True
    )
    return root / "t" / "episode_0.hdf5", "mobile_aloha", partial(aloha.read_episode, "t/episode_0.hdf5", root=root)


def jpeg_of_own_length(root: Path):
    key = robomind_layout.write_episode(root, ROBOT, "t", steps=3)
    read = partial(robomind.read_episode, key, root=root, embodiments=frozenset({ROBOT}), labels=LabelFiles())
    return root / key, "robomind_ur", read


def gzip_pixels(root: Path):
    maniskill_layout.write_file(root / "a.h5", steps=3)
    return root / "a.h5", "maniskill3_ee_delta", partial(listed, maniskill, root)


def masks_and_attributes(root: Path):
    robomimic_layout.write_file(root / "a.h5", steps=3, demos=[0])
    return root / "a.h5", "robomimic", partial(listed, hdf5_demo, root)


def listed(reader, root: Path):
    """The one episode, through the list of episodes, which must not fail itself."""
    keys = list(reader.find_episodes(root))
    return reader.read_episode(keys[0], root=root)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Cut, or with some bytes in one to eight places exchanged."""
    if rng.random() < 0.15:
        return content[: rng.randrange(len(content))]
    changed = bytearray(content)
    for _ in range(rng.choice((1, 2, 8))):
        place = rng.randrange(len(changed) - 8)
        changed[place : place + rng.choice((1, 2, 8))] = rng.choice((b"\xff", b"\0", rng.randbytes(4)))
    return bytes(changed)


@pytest.mark.parametrize("layout", [pixels, padded_jpeg, jpeg_of_own_length, gzip_pixels, masks_and_attributes])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numbers made absurd by damage overflow on their way to float32
def test_damage_is_a_data_error_or_is_not_noticed(tmp_path, layout: Callable):
    path, name, read = layout(tmp_path)
    spec, content, rng = load_spec(name), path.read_bytes(), random.Random(7)
    assert len(apply_spec(read(), spec)) >= 2
    refused = 0
    for _ in range(INPUTS):
        path.write_bytes(damaged(content, rng))
        try:
            apply_spec(read(), spec)
        except DataError:
            refused += 1
    assert refused


@pytest.mark.parametrize("key", ["1/1", "1/1#0"])
def test_an_agibot_file_of_zeros_is_a_data_error(tmp_path, key):
    path = tmp_path / "proprio_stats" / "1" / "1" / "proprio_stats.h5"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(1000))
    (tmp_path / "task_info").mkdir()
    (tmp_path / "task_info" / "task_1.json").write_text(
        '[{"episode_id": 1, "label_info": {"action_config": [{"start_frame": 0, "end_frame": 9, "action_text": "x"}]}}]'
    )
    with pytest.raises(DataError, match="not a whole HDF5 file"):
        agibot.read_episode(key, root=tmp_path, cameras=())
