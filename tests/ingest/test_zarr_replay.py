"""Replay buffers written by the zarr package itself, read by our reader: against what was written, and damaged."""

import contextlib
import json
import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.apply_spec import apply_spec, episode_id
from oxe_pipeline.ingest.images import decode
from oxe_pipeline.ingest.zarr_replay import find_episodes, read_episode
from schemas.spec import load_spec

zarr = pytest.importorskip("zarr")
pytest.importorskip("imagecodecs")

from samples import zarr_replay_layout as layout  # noqa: E402


@pytest.fixture(scope="session")
def written(tmp_path_factory) -> Path:
    """Stores of all three layouts; tests that damage one copy it."""
    root = tmp_path_factory.mktemp("zarr")
    layout.write_pusht(root / "pusht" / "pusht_cchi_v7_replay.zarr")
    layout.write_real_session(root / "real")
    layout.write_umi(root / "umi" / "dataset.zarr.zip")
    return root


def copy_of(source: Path, target: Path) -> Path:
    for file in source.rglob("*"):
        if file.is_file():
            (target / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (target / file.relative_to(source)).write_bytes(file.read_bytes())
    return target


def all_pixels(frames) -> np.ndarray:
    return np.stack(list(frames))


def test_every_episode_of_every_store_is_listed_stores_by_path(written):
    assert list(find_episodes(written)) == [
        "pusht/pusht_cchi_v7_replay.zarr/episode_0",
        "pusht/pusht_cchi_v7_replay.zarr/episode_1",
        "real/replay_buffer.zarr/episode_0",
        "real/replay_buffer.zarr/episode_1",
        "umi/dataset.zarr.zip/episode_0",
        "umi/dataset.zarr.zip/episode_1",
    ]


def test_an_episode_holds_its_own_rows_as_the_zarr_package_reads_them(written):
    store = zarr.open_group(written / "pusht" / "pusht_cchi_v7_replay.zarr", mode="r")
    episode = read_episode("pusht/pusht_cchi_v7_replay.zarr/episode_1", root=written)
    assert sorted(episode.steps) == ["data/action", "data/img", "data/keypoint", "data/n_contacts", "data/state"]
    for name in ("action", "state", "keypoint", "n_contacts"):
        np.testing.assert_array_equal(episode.steps[f"data/{name}"], store[f"data/{name}"][7:12])
    assert len(episode.steps["data/img"]) == 5
    np.testing.assert_array_equal(all_pixels(episode.steps["data/img"]), store["data/img"][7:12].astype(np.uint8))
    assert episode.metadata["episode_index"] == 1 and episode.split == ""


def test_identity_is_the_same_wherever_a_store_lies_and_however_many_episodes_follow(tmp_path):
    pixels = np.stack([layout.draw(t, side_px=32) for t in range(9)])
    for folder, count, rows in (("a", 4, 3), ("b", 9, 3), ("c", 4, 1), ("d", 9, 1)):
        lengths = [4] if count == 4 else [4, 5]
        columns = {"img": pixels[:count]}
        layout.write_replay(tmp_path / folder / "x.zarr", columns, lengths, image_rows_a_chunk=rows)
    identities = [
        read_episode("x.zarr/episode_0", root=tmp_path / folder).steps["data/img"].identity() for folder in "abcd"
    ]
    assert identities[0] == identities[1] and identities[2] == identities[3]
    other = read_episode("x.zarr/episode_1", root=tmp_path / "b").steps["data/img"].identity()
    assert other != identities[0]


def test_pusht_actions_become_the_way_to_the_target_and_images_lose_nothing(written):
    episode = apply_spec(
        read_episode("pusht/pusht_cchi_v7_replay.zarr/episode_0", root=written), load_spec("pusht_zarr")
    )
    assert np.flatnonzero(episode.action_mask).tolist() == [0, 1]
    angle = 0.3 * np.arange(8)  # the pusher goes round an ellipse
    place = np.stack([256 + 90 * np.cos(angle), 256 + 70 * np.sin(angle)], axis=1)
    np.testing.assert_allclose(episode.action[:, :2], np.diff(place, axis=0), atol=1e-4)
    np.testing.assert_allclose(episode.state[:, :2], place[:-1], atol=1e-4)
    for step, image in enumerate(episode.images["primary"]):
        assert np.abs(decode(image).astype(int) - layout.draw(step, side_px=96)).mean() < 3


def test_a_real_robots_videos_are_matched_by_time_and_its_targets_become_steps(written):
    spec = load_spec("diffusion_policy_real")
    source = read_episode("real/replay_buffer.zarr/episode_1", root=written, videos=("0", "1"))
    episode = apply_spec(source, spec)
    pose = source.steps["data/robot_eef_pose"]
    np.testing.assert_allclose(episode.action[:-1, :3], np.diff(pose[:, :3], axis=0), atol=1e-6)
    turned = Rotation.from_rotvec(pose[:, 3:])
    np.testing.assert_allclose(episode.action[:-1, 3:6], (turned[1:] * turned[:-1].inv()).as_rotvec(), atol=1e-5)
    assert np.abs(episode.action[:, 3:6]).max() < 0.5  # although the rotation vectors jump at pi
    assert sorted(episode.images) == ["primary", "secondary"]
    for step, image in enumerate(episode.images["primary"]):
        shown = layout.draw(layout.VIDEO_FRAMES_A_STEP * step, side_px=96)
        assert np.abs(decode(image).astype(int) - shown).mean() < 8


def test_a_camera_without_a_file_is_left_out_of_that_episode(written, tmp_path):
    copy_of(written / "real", tmp_path)
    (tmp_path / "videos" / "0" / "1.mp4").unlink()
    source = read_episode("replay_buffer.zarr/episode_0", root=tmp_path, videos=("0", "1"))
    assert sorted(apply_spec(source, load_spec("diffusion_policy_real")).images) == ["primary"]


def test_umi_takes_the_next_pose_and_width_as_its_action(written):
    source = read_episode("umi/dataset.zarr.zip/episode_0", root=written)
    episode = apply_spec(source, load_spec("umi"))
    place, turn = source.steps["data/robot0_eef_pos"], source.steps["data/robot0_eef_rot_axis_angle"]
    width = source.steps["data/robot0_gripper_width"]
    assert len(episode) == 5 and episode.control_hz == 59.94
    np.testing.assert_allclose(episode.action[:, :3], np.diff(place, axis=0), atol=1e-6)
    turned = Rotation.from_rotvec(turn)
    np.testing.assert_allclose(episode.action[:, 3:6], (turned[1:] * turned[:-1].inv()).as_rotvec(), atol=1e-5)
    np.testing.assert_allclose(episode.action[:, 6], np.clip(width[1:, 0] / 0.08, 0, 1), atol=1e-6)
    np.testing.assert_allclose(episode.state[:, 9], np.clip(width[:-1, 0] / 0.08, 0, 1), atol=1e-6)
    assert np.abs(decode(episode.images["wrist"][2]).astype(int) - layout.draw(2, side_px=224)).mean() < 3


def test_two_grippers_fill_two_arms(tmp_path):
    layout.write_umi(tmp_path / "d.zarr.zip", lengths=[4], robots=2)
    episode = apply_spec(read_episode("d.zarr.zip/episode_0", root=tmp_path), load_spec("umi_bimanual"))
    assert np.flatnonzero(episode.action_mask).tolist() == [*range(7), *range(14, 21)]
    np.testing.assert_allclose(episode.action[:, 14:17], episode.action[:, :3], atol=1e-5)
    assert sorted(episode.images) == ["wrist", "wrist_left"]


@pytest.mark.parametrize(
    ("ends", "why"),
    [
        ([5, 3, 12], "episode 1 would have -2 steps"),
        ([7, 7, 12], "episode 1 would have 0 steps"),
        ([], "holds no episode"),
        ([0, 12], "episode 0 would have 0 steps"),
        ([7, 2**40], "ends must rise, by"),
    ],
)
def test_ends_that_do_not_rise_are_one_bad_store(tmp_path, ends, why):
    root = zarr.open_group(tmp_path / "x.zarr", mode="w", zarr_format=2)
    root.create_array("data/action", data=np.zeros((12, 2)))
    root.create_array("meta/episode_ends", data=np.array(ends, np.int64), chunks=(4,), compressors=None)
    assert list(find_episodes(tmp_path)) == ["x.zarr"]
    with pytest.raises(DataError, match=rf"x\.zarr: meta/episode_ends: .*{why}"):
        read_episode("x.zarr", root=tmp_path)


def test_promised_ends_that_are_not_there_are_refused_at_the_first(written, tmp_path):
    copy_of(written / "pusht", tmp_path)
    store = tmp_path / "pusht_cchi_v7_replay.zarr"
    path = store / "meta" / "episode_ends" / ".zarray"
    path.write_text(json.dumps({**json.loads(path.read_text()), "shape": [2_000_000]}))
    started = time.process_time()
    with pytest.raises(DataError, match="episode_ends/1: this chunk is missing"):
        read_episode(f"{store.name}/episode_0", root=tmp_path)
    assert time.process_time() - started < 1


def test_an_array_of_another_length_than_the_last_end_is_named(tmp_path):
    layout.write_replay(tmp_path / "x.zarr", {"action": np.zeros((11, 2)), "state": np.ones((12, 2))}, [5, 7])
    with pytest.raises(DataError, match=r"x\.zarr: data/action: 11 rows, but episodes end at 12"):
        read_episode("x.zarr/episode_0", root=tmp_path)


def test_pixels_that_are_not_whole_numbers_of_0_to_255_are_refused(tmp_path):
    for name, factor in (("scaled.zarr", 1 / 255), ("large.zarr", 2.0)):
        pixels = layout.draw(0, side_px=16)[None].astype(np.float32) * factor
        layout.write_replay(tmp_path / name, {"img": pixels}, [1])
        frames = read_episode(f"{name}/episode_0", root=tmp_path).steps["data/img"]
        with pytest.raises(DataError, match="step 0: pixels are not whole numbers of 0 to 255"):
            list(frames)


def test_a_missing_chunk_is_the_fill_value_for_numbers_and_a_fault_for_images(written, tmp_path):
    copy_of(written / "pusht", tmp_path)
    store = tmp_path / "pusht_cchi_v7_replay.zarr"
    (store / "data" / "state" / "0.0").unlink()
    (store / "data" / "img" / "1.0.0.0").unlink()
    episode = read_episode(f"{store.name}/episode_0", root=tmp_path)
    assert not episode.steps["data/state"].any()
    with pytest.raises(DataError, match="data/img/1: this chunk is missing; copy the store again"):
        list(episode.steps["data/img"])


def test_links_out_of_the_raw_folder_are_refused(written, tmp_path):
    outside = copy_of(written / "pusht", tmp_path / "outside") / "pusht_cchi_v7_replay.zarr"
    raw = copy_of(outside, tmp_path / "raw" / "x.zarr")
    chunk = raw / "data" / "action" / "0.0"
    chunk.unlink()
    os.symlink(outside / "data" / "action" / "0.0", chunk)
    with pytest.raises(DataError, match="leads out of the raw folder"):
        read_episode("x.zarr/episode_0", root=tmp_path / "raw")
    os.symlink(outside, tmp_path / "raw" / "y.zarr")
    assert list(find_episodes(tmp_path / "raw")) == ["x.zarr/episode_0", "x.zarr/episode_1"]


def test_a_truncated_zip_is_one_bad_store(written, tmp_path):
    content = (written / "umi" / "dataset.zarr.zip").read_bytes()
    (tmp_path / "x.zarr.zip").write_bytes(content[: len(content) // 2])
    assert list(find_episodes(tmp_path)) == ["x.zarr.zip"]
    with pytest.raises(DataError, match=r"x\.zarr\.zip: store: not a whole zip file, copy it again"):
        read_episode("x.zarr.zip", root=tmp_path)


def test_a_folder_that_is_itself_a_store_holds_none(written):
    assert list(find_episodes(written / "pusht" / "pusht_cchi_v7_replay.zarr")) == []


def test_a_zip_of_a_folder_with_a_store_and_a_store_of_zarr_3_say_what_to_do(written, tmp_path):
    with zipfile.ZipFile(tmp_path / "pusht.zip", "w") as packed:
        for file in (written / "pusht").rglob("*"):
            packed.write(file, file.relative_to(written))
    zarr.open_group(tmp_path / "three.zarr", mode="w", zarr_format=3)
    assert list(find_episodes(tmp_path)) == ["pusht.zip", "three.zarr"]
    with pytest.raises(DataError, match=r"a folder with it \('pusht/pusht_cchi_v7_replay\.zarr'\), unpack it"):
        read_episode("pusht.zip", root=tmp_path)
    with pytest.raises(DataError, match="it is Zarr v3, save it as v2"):
        read_episode("three.zarr", root=tmp_path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_byte_anywhere_gives_an_episode_or_a_data_error(written, tmp_path_factory, data):
    root = tmp_path_factory.mktemp("damaged")
    if data.draw(st.booleans()):
        content = bytearray((written / "umi" / "dataset.zarr.zip").read_bytes())
        target = root / "x.zarr.zip"
    else:
        copy_of(written / "pusht" / "pusht_cchi_v7_replay.zarr", root / "x.zarr.zip")
        files = sorted(path for path in root.rglob("*") if path.is_file())
        target = data.draw(st.sampled_from(files))
        content = bytearray(target.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    target.write_bytes(content)
    with contextlib.suppress(DataError):
        episode = read_episode("x.zarr.zip/episode_0", root=root)
        apply_spec(episode, load_spec("umi" if "data/camera0_rgb" in episode.steps else "pusht_zarr"))


def test_the_same_episode_has_the_same_id_when_read_twice(written):
    spec = load_spec("umi")
    ids = {episode_id(read_episode("umi/dataset.zarr.zip/episode_1", root=written), spec) for _ in range(2)}
    assert len(ids) == 1
