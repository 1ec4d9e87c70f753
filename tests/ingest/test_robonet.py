"""RoboNet files in both encodings and both channel orders, and damaged ones."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.apply_spec import apply_spec
from oxe_pipeline.ingest.images import decode
from oxe_pipeline.ingest.robonet import find_episodes, read_episode
from schemas.spec import load_spec

h5py = pytest.importorskip("h5py")
pytest.importorskip("av")

from samples.robonet_layout import pictures, write_episode  # noqa: E402

SPEC = load_spec("robonet_raw")


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
@pytest.mark.parametrize("encoding", ["mp4", "jpg"])
def test_images_come_out_in_true_colours_whatever_the_encoder_took_them_for(tmp_path, encoding, image_format):
    state = write_episode(tmp_path / "a.hdf5", encoding=encoding, image_format=image_format)
    episode = apply_spec(read_episode("a.hdf5", root=tmp_path), SPEC)
    assert len(episode) == 5 and sorted(episode.images) == ["primary", "secondary"]
    for camera, name in enumerate(("primary", "secondary")):
        for seen, image in zip(pictures(6, camera), episode.images[name], strict=False):
            assert np.abs(decode(image).astype(int) - seen).mean() < 6
    np.testing.assert_allclose(episode.state[:, :3], state[:5, :3], atol=1e-6)
    np.testing.assert_allclose(episode.action[:, :3], np.diff(state[:, :3], axis=0), atol=1e-6)
    np.testing.assert_allclose(episode.action[:, 5], 0.1, atol=1e-6)
    assert episode.action[:, 6].tolist() == [1, 1, 1, 0, 0]  # closed once the next state is
    assert np.flatnonzero(episode.action_mask).tolist() == [0, 1, 2, 5, 6]


def test_jpegs_that_are_right_pass_byte_for_byte(tmp_path):
    write_episode(tmp_path / "a.hdf5", encoding="jpg", image_format="BGR")
    with h5py.File(tmp_path / "a.hdf5") as file:
        stored = [file[f"env/cam0_video/frame{t}"][()].tobytes() for t in range(5)]
    assert apply_spec(read_episode("a.hdf5", root=tmp_path), SPEC).images["primary"] == stored


def test_the_shortest_of_states_images_and_actions_decides(tmp_path):
    write_episode(tmp_path / "a.hdf5", states=7, action_width=5, cameras=1)
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        file["env/cam0_video/frames"].attrs["T"] = 5
    source = read_episode("a.hdf5", root=tmp_path)
    assert {key: len(column) for key, column in source.steps.items()} == {
        "state": 4, "state_full": 4, "action": 4, "action_full": 4, "gripper": 4, "cam0": 4,
    }  # fmt: skip
    assert sorted(apply_spec(source, SPEC).images) == ["primary"]
    assert source.metadata["robot"] == "sawyer"


def test_the_same_video_has_the_same_identity_wherever_it_lies(tmp_path):
    write_episode(tmp_path / "a.hdf5")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "b.hdf5").write_bytes((tmp_path / "a.hdf5").read_bytes())
    assert find_episodes(tmp_path) == ["a.hdf5", "below/b.hdf5"]
    ids = {apply_spec(read_episode(path, root=tmp_path), SPEC).episode_id for path in find_episodes(tmp_path)}
    assert len(ids) == 1


def remove(name: str):
    return lambda file: file.__delitem__(name)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (remove("env/state"), "no such array in the file: state"),
        (remove("policy"), "no such group in the file: policy"),
        (remove("env/low_bound"), "no such array in the file: low_bound"),
        (remove("env/cam1_video"), "no such array in the file: cam1_video/frames"),
        (lambda file: file["env"].attrs.update(n_cams=0), "n_cams: 0 cameras"),
        (lambda file: file["env"].attrs.update(n_cams="many"), "attribute n_cams: cannot be read"),
        (lambda file: file["env"].attrs.update(cam_encoding="gif"), "cam_encoding: is 'gif'; mp4 and jpg are read"),
        (lambda file: file["env/cam0_video/frames"].attrs.update(image_format="YUV"), "image_format: is 'YUV'"),
        (lambda file: file["env/cam0_video/frames"].attrs.update(T=-3), "images in one episode are not sane"),
        (lambda file: file["env/cam0_video/frames"].write_direct(np.zeros(file["env/cam0_video/frames"].shape, "u1")),
         "not a whole video"),
    ],
)  # fmt: skip
def test_files_that_lack_something_say_what(tmp_path, change, why):
    write_episode(tmp_path / "a.hdf5")
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        change(file)
    with pytest.raises(DataError, match=why) as caught:
        apply_spec(read_episode("a.hdf5", root=tmp_path), SPEC)
    assert "\n" not in str(caught.value)


def test_a_video_with_fewer_images_than_it_says_is_named(tmp_path):
    write_episode(tmp_path / "a.hdf5", cameras=1)
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        file["env/cam0_video/frames"].attrs["T"] = 50
        del file["env/state"], file["policy/actions"]
        file["env/state"], file["policy/actions"] = np.zeros((50, 5)), np.zeros((49, 4))
    with pytest.raises(DataError, match=r"env/cam0_video/frames: frames\.mp4: frames 0 to 49 are wanted of 6"):
        apply_spec(read_episode("a.hdf5", root=tmp_path), SPEC)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_byte_anywhere_gives_an_episode_or_a_data_error(tmp_path, whole_file, data):
    content = bytearray(whole_file)
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "a.hdf5").write_bytes(content)
    with contextlib.suppress(DataError):
        apply_spec(read_episode("a.hdf5", root=tmp_path), SPEC)


@pytest.fixture(scope="session")
def whole_file(tmp_path_factory) -> bytes:
    path: Path = tmp_path_factory.mktemp("robonet") / "a.hdf5"
    write_episode(path, states=3, cameras=1)
    return path.read_bytes()
