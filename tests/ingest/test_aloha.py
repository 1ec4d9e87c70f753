"""ALOHA files of every kind, written in the recorder's layout, through reader and spec."""

import numpy as np
import pytest

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.aloha import find_episodes, read_episode
from oxe_pipeline.ingest.apply_spec import apply_spec
from oxe_pipeline.ingest.images import decode
from samples.aloha_layout import write_episode
from samples.drawn import drawn_frames
from schemas.slots import ACTION_GROUPS, STATE_GROUPS
from schemas.spec import load_spec

h5py = pytest.importorskip("h5py")

STEPS = 12


def write(root, name="open_the_cabinet/episode_0.hdf5", **options):
    write_episode(root / name, steps=STEPS, **options)
    return read_episode(name, root=root)


def difference(image: bytes, frame: np.ndarray) -> float:
    return np.abs(decode(image).astype(int) - frame).mean()


def slots(vector, groups, name):
    return vector[:, list(groups[name].indices)]


def test_episodes_are_ordered_by_number_and_mirrored_ones_and_features_left_out(tmp_path):
    names = [
        "b/episode_10",
        "b/episode_9",
        "a/train/episode_0",
        "a/mirror_episode_0",
        "a/episode_0_features",
        "a/stats",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.hdf5").touch()
    episodes, others = find_episodes(tmp_path)
    assert episodes == ["a/train/episode_0.hdf5", "b/episode_9.hdf5", "b/episode_10.hdf5"]
    assert others == ["a/episode_0_features.hdf5", "a/mirror_episode_0.hdf5", "a/stats.hdf5"]


def test_an_action_goes_to_the_observation_that_shows_its_moment(tmp_path):
    source = write(tmp_path)
    episode = apply_spec(source, load_spec("aloha"))
    with h5py.File(tmp_path / source.key) as file:
        action, qpos = file["action"][()], file["observations/qpos"][()]
    # As ACT loads real data: observation t beside action t-1.
    assert np.array_equal(slots(episode.action, ACTION_GROUPS, "arm0.joint_position")[:, :6], action[:-1, :6])
    assert np.array_equal(slots(episode.action, ACTION_GROUPS, "arm1.joint_position")[:, :6], action[:-1, 7:13])
    assert np.array_equal(slots(episode.state, STATE_GROUPS, "arm0.joint_position")[:, :6], qpos[1:, :6])
    assert np.array_equal(episode.state_raw, qpos[1:]) and np.array_equal(episode.action_raw, action[:-1])
    frames = drawn_frames(STEPS, height=48, width=64)
    assert all(difference(episode.images["primary"][t], frames[t + 1]) < 4 for t in range(STEPS - 1))


def test_the_seventh_joint_is_masked_and_grippers_are_cut_to_0_and_1(tmp_path):
    episode = apply_spec(write(tmp_path), load_spec("aloha"))
    seventh = [ACTION_GROUPS[f"{arm}.joint_position"].indices[6] for arm in ("arm0", "arm1")]
    assert not episode.action_mask[seventh].any()
    grippers = np.concatenate([slots(episode.action, ACTION_GROUPS, f"{arm}.gripper") for arm in ("arm0", "arm1")], 1)
    assert grippers.min() >= 0 and grippers.max() <= 1 and episode.state_raw[:, 6].min() < 0
    assert episode.instruction == "open the cabinet"


def test_simulated_rows_stay_as_they_are(tmp_path):
    source = write(tmp_path, sim=True)
    episode = apply_spec(source, load_spec("aloha_sim"))
    assert len(episode) == STEPS and list(episode.images) == ["primary"]
    assert np.array_equal(episode.action_raw, source.steps["action"])


def test_padded_jpeg_of_exchanged_channels_comes_out_in_true_colours(tmp_path):
    source = write(tmp_path, compressed=True, mobile=True)
    episode = apply_spec(source, load_spec("mobile_aloha"))
    for view, camera in enumerate(("primary", "wrist_left", "wrist")):
        frames = drawn_frames(STEPS, height=48, width=64, view=view)
        assert difference(episode.images[camera][4], frames[5]) < 12, camera
        assert difference(episode.images[camera][4], frames[5][..., ::-1]) > 20, camera


def test_the_variant_of_true_colours_passes_bytes_on(tmp_path):
    source = write(tmp_path, compressed=True, mobile=True)
    episode = apply_spec(source, load_spec("mobile_aloha_as_rgb"))
    stored = list(source.steps["observations/images/cam_high.jpeg"])
    assert episode.images["primary"] == stored[1:]
    assert all(image.endswith(b"\xff\xd9") for image in stored)


def test_the_base_fills_its_forward_and_turning_speed(tmp_path):
    episode = apply_spec(write(tmp_path, compressed=True, mobile=True), load_spec("mobile_aloha"))
    base = ACTION_GROUPS["base_velocity"].indices
    assert episode.action_mask[list(base)].tolist() == [True, False, True]
    assert np.allclose(episode.action[:, base[0]], np.linspace(0, 0.3, STEPS)[:-1])
    assert np.allclose(episode.action[:, base[2]], np.linspace(-0.1, 0.1, STEPS)[:-1], atol=1e-7)


@pytest.mark.parametrize("compressed, spec", [(True, "mobile_aloha_as_pixels"), (False, "mobile_aloha")])
def test_pixels_are_never_taken_for_jpeg_nor_jpeg_for_pixels(tmp_path, compressed, spec):
    source = write(tmp_path, compressed=compressed, mobile=True)
    with pytest.raises(DataError, match=r"no such key in the source; did you mean observations/images/cam_high"):
        apply_spec(source, load_spec(spec))


def test_compress_len_of_another_length_does_no_harm(tmp_path):
    write(tmp_path, compressed=True, mobile=True)
    path = tmp_path / "open_the_cabinet" / "episode_0.hdf5"
    with h5py.File(path, "a") as file:
        del file["compress_len"]
        file["compress_len"] = np.zeros((3, STEPS + 50), np.float32)
    episode = apply_spec(read_episode("open_the_cabinet/episode_0.hdf5", root=tmp_path), load_spec("mobile_aloha"))
    assert len(episode) == STEPS - 1


def test_a_folder_of_a_split_is_no_task(tmp_path):
    source = write(tmp_path, "fold_the_towel/val/episode_3.hdf5")
    assert (source.split, source.metadata["task_folder"]) == ("val", "fold_the_towel")
    source = write(tmp_path / "put_X_into_pot", "episode_3.hdf5")
    assert (source.split, source.metadata["task_folder"]) == ("", "put_X_into_pot")


def test_columns_of_different_length_are_named(tmp_path):
    write(tmp_path)
    with h5py.File(tmp_path / "open_the_cabinet" / "episode_0.hdf5", "a") as file:
        del file["action"]
        file["action"] = np.zeros((STEPS - 1, 14), np.float32)
    with pytest.raises(DataError, match="12 steps, but action has 11"):
        apply_spec(read_episode("open_the_cabinet/episode_0.hdf5", root=tmp_path), load_spec("aloha"))
