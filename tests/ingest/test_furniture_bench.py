"""Pickles in the collector's layout: alignment, frames of the rotation, and files that are no episodes."""

import contextlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.apply_spec import apply_spec
from oxe_pipeline.ingest.furniture_bench import find_episodes, read_episode
from oxe_pipeline.ingest.images import decode
from samples.furniture_bench_layout import write_episode
from schemas.spec import load_spec

SPEC = load_spec("furniture_bench")
NAME = "low/square_table/2022-12-03-01:02:03/2022-12-03-01:02:03.pkl"


def test_actions_stand_before_the_observation_that_they_led_to(tmp_path):
    content = write_episode(tmp_path / NAME)
    assert find_episodes(tmp_path) == [NAME]
    source = read_episode(NAME, root=tmp_path)
    episode = apply_spec(source, SPEC)
    assert len(episode) == 6 and episode.success == 1
    assert (episode.instruction, source.metadata["randomness"]) == ("assemble square table", "low")
    reached = [observation["robot_state"] for observation in content["observations"]]
    for step in range(6):
        np.testing.assert_allclose(
            episode.action[step, :3], reached[step + 1]["ee_pos"] - reached[step]["ee_pos"], atol=1e-6
        )
        before, after = (Rotation.from_quat(reached[t]["ee_quat"]) for t in (step, step + 1))
        np.testing.assert_allclose(episode.action[step, 3:6], (after * before.inv()).as_rotvec(), atol=1e-5)
        front = content["observations"][step]["color_image2"].astype(int)
        assert np.abs(decode(episode.images["primary"][step]) - front).mean() < 3
        wrist = content["observations"][step]["color_image1"].astype(int)
        assert np.abs(decode(episode.images["wrist"][step]) - wrist).mean() < 3
    assert episode.action[:, 6].tolist() == [1, 1, 1, 0, 0, 0]
    np.testing.assert_allclose(episode.state[:, 9], 1 - np.arange(6) / 6, atol=1e-6)
    assert episode.reward.tolist() == [0, 0, 0, 0, 0, 1]


def test_a_failed_episode_is_kept_and_marked(tmp_path):
    write_episode(tmp_path / "a.pkl", success=False, image_px=16)
    source = read_episode("a.pkl", root=tmp_path)
    assert apply_spec(source, SPEC).success == 0 and source.metadata["randomness"] == ""


def doubled() -> list:
    """2^60 numbers that take sixty lists."""
    value = [0.0]
    for _ in range(60):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda c: c["actions"].pop(), "7 observations and 6 rewards for 5 actions"),
        (lambda c: c["observations"].clear(), "0 observations"),
        (lambda c: c.pop("rewards"), "rewards: must be a list with one entry a step, is NoneType"),
        (lambda c: c.update(actions=np.zeros((6, 7))), "actions: must be numbers [T, 8], is float64 [6, 7]"),
        (lambda c: c.update(actions=[[1.0], [1.0, 2.0]]), "actions: is not a table of numbers"),
        (lambda c: c["observations"][2].pop("robot_state"), "has no robot_state/ee_pos"),
        (lambda c: c["observations"].__setitem__(1, None), "color_image1: an image is NoneType"),
        (lambda c: c["observations"][2].update(color_image2=np.zeros((3, 8, 8))), "an image is float64 [3, 8, 8]"),
        (lambda c: c["observations"][1]["robot_state"].update(ee_quat=doubled()), "ee_quat: is not a table of numbers"),
        (lambda c: c.update(furniture=None), "must name the furniture"),
        (lambda c: c.update(success="yes"), "success: must be true or false"),
    ],
)
def test_pickles_that_hold_no_episode_say_what_they_lack(tmp_path, change, why):
    content = write_episode(tmp_path / "a.pkl", image_px=16)
    change(content)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError) as caught:
        read_episode("a.pkl", root=tmp_path)
    assert why in str(caught.value) and "\n" not in str(caught.value)


def test_empty_foreign_and_linked_files_are_refused(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "empty.pkl").touch()
    (raw / "foreign.pkl").write_bytes(pickle.dumps(Path("/")))
    write_episode(tmp_path / "outside.pkl", image_px=16)
    (raw / "linked.pkl").symlink_to(tmp_path / "outside.pkl")
    (raw / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    for name, why in (
        ("empty.pkl", "does not unpickle"),
        ("foreign.pkl", "which is not numpy"),
        ("linked.pkl", "leads out of the raw folder"),
        ("list.pkl", "holds list, must hold a dict"),
        ("absent.pkl", "no such file"),
    ):
        with pytest.raises(DataError, match=why):
            read_episode(name, root=raw)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_byte_anywhere_gives_an_episode_or_a_data_error(tmp_path, data):
    write_episode(tmp_path / "a.pkl", steps=2, image_px=8)
    content = bytearray((tmp_path / "a.pkl").read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "a.pkl").write_bytes(content)
    with contextlib.suppress(DataError):
        apply_spec(read_episode("a.pkl", root=tmp_path), SPEC)
