"""RECON's HDF5 files, in the layout of samples/gnm_layout.py."""

from pathlib import Path

import numpy as np
import pytest

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.apply_spec import apply_spec
from oxe_pipeline.ingest.recon import find_episodes, read_episode
from samples.gnm_layout import make_drive, write_recon
from schemas.slots import ACTION_GROUPS
from schemas.spec import load_spec
from tests.ingest.test_gnm import expected_velocity

h5py = pytest.importorskip("h5py")

KEY = "recon_release/jackal_2019-07-01.hdf5"
DRIVE = make_drive(10, seed=3)


@pytest.fixture
def raw(tmp_path) -> Path:
    (tmp_path / "recon_release").mkdir()
    write_recon(tmp_path / KEY, DRIVE)
    return tmp_path


def test_a_recording_comes_with_its_jpegs_untouched_and_the_motion_between_poses(raw):
    assert list(find_episodes(raw)) == [KEY]
    episode = apply_spec(read_episode(KEY, root=raw), load_spec("recon"))
    moved = episode.action[:, list(ACTION_GROUPS["base_velocity"].indices)]
    np.testing.assert_allclose(moved, expected_velocity(DRIVE.position, DRIVE.yaw, 4), atol=1e-5)
    with h5py.File(raw / KEY) as file:
        for camera, name in (("primary", "rgb_left"), ("secondary", "rgb_right")):
            assert episode.images[camera] == [bytes(file[f"images/{name}"][step]) for step in range(9)]
        commands = np.column_stack([file["commands/linear_velocity"], file["commands/angular_velocity"]])
    np.testing.assert_allclose(episode.action_raw, commands[:-1], atol=1e-6)
    assert (episode.quality_flags, episode.success) == ((), -1)


def test_a_collision_is_flagged_and_a_second_camera_may_be_absent(raw):
    write_recon(raw / "b.hdf5", DRIVE, collided=True)
    with h5py.File(raw / "b.hdf5", "a") as file:
        del file["images/rgb_right"]
    episode = apply_spec(read_episode("b.hdf5", root=raw), load_spec("recon"))
    assert (episode.quality_flags, list(episode.images)) == (("collision",), ["primary"])


def without(name):
    def change(file):
        del file[name]

    return change


def replaced(name, values):
    def change(file):
        del file[name]
        file[name] = values

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without("images/rgb_left"), "no such array in the file: images/rgb_left"),
        (without("jackal"), "no such array in the file: jackal/position"),
        (replaced("jackal/position", np.zeros((10, 2))), r"must be numbers \[T, 3\], is float64 \[10, 2\]"),
        (replaced("jackal/yaw", np.zeros((9, 1))), "steps, but jackal/position has 10"),
        (replaced("jackal/yaw", np.full((10, 1), np.nan)), "nan"),
        (replaced("jackal/yaw", np.array([b"x"] * 10)), r"must be numbers \[T, 1\]"),
        (replaced("images/rgb_left", np.uint8(7)), "images/rgb_left: is a single value"),
        (replaced("collision/any", np.zeros((10, 1), bool)), ""),
    ],
)
def test_columns_that_do_not_fit_are_named(raw, change, reason):
    with h5py.File(raw / KEY, "a") as file:
        change(file)
    if not reason:
        assert len(apply_spec(read_episode(KEY, root=raw), load_spec("recon"))) == 9
        return
    with pytest.raises(DataError, match=reason):
        apply_spec(read_episode(KEY, root=raw), load_spec("recon"))


@pytest.mark.parametrize("share", [0.0, 0.4, 0.95])
def test_a_file_that_does_not_open_is_one_bad_episode(raw, share):
    content = (raw / KEY).read_bytes()
    (raw / KEY).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"jackal_2019-07-01\.hdf5: file: not a whole HDF5 file"):
        read_episode(KEY, root=raw)
