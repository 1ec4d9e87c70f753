"""Bags of all three containers, written by another library, against the motion that they record; then damaged ones."""

import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.apply_spec import apply_spec
from oxe_pipeline.ingest.bag import find_episodes, read_episode
from oxe_pipeline.ingest.images import decode
from schemas.spec import DatasetSpec, load_spec
from tests.conftest import ROOT

pytest.importorskip("rosbags")
pytest.importorskip("mcap")

from samples import rosbag_layout as layout

REAL = ROOT.parent / "shared" / "data" / "rosbag1"
SPEC = load_spec("rosbag_arm")
KEYS: dict[layout.Kind, str] = {"ros1": "arm.bag", "sqlite3": "arm_db3", "mcap": "arm_mcap"}
FIRST_S = 1 / layout.Rates().joints_hz
"""The first message of the joints holds the gripper alone, so everything is known from the second on."""


def spec_with(**layout) -> DatasetSpec:
    """The sample's spec with another `bag`; columns given as None are left out."""
    said = SPEC.model_dump(mode="json", by_alias=True)
    columns = said["bag"]["columns"] | layout.pop("columns", {})
    said["bag"] |= {**layout, "columns": {name: column for name, column in columns.items() if column}}
    return DatasetSpec.model_validate(said)


@pytest.fixture(scope="session")
def bags(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("bags")
    for kind, key in KEYS.items():
        layout.write_bag(root / key, kind)
    return root


@pytest.fixture(scope="session", params=sorted(KEYS))
def source(request, bags):
    return read_episode(KEYS[request.param], root=bags, spec=SPEC)


def step_times() -> np.ndarray:
    return FIRST_S + np.arange(19) / 10


def last_sample(time_s: float, rate_hz: float) -> float:
    """The time of the last message of an even column at or before a time."""
    return np.floor(time_s * rate_hz + 1e-6) / rate_hz


def test_every_container_is_found_by_its_path(bags):
    assert list(find_episodes(bags, SPEC)) == ["arm.bag", "arm_db3", "arm_mcap"]


def test_observations_are_the_last_ones_before_the_step(source):
    np.testing.assert_allclose(source.steps["time_s"], np.arange(19) / 10)
    for step, time_s in enumerate(step_times()):
        place = layout.position_at(last_sample(time_s, 100))
        np.testing.assert_allclose(source.steps["observation/eef_pose"][step, :3], place)


def test_joints_are_picked_by_name_out_of_messages_that_hold_them_all(source):
    for step, time_s in enumerate(step_times()):
        number = round(last_sample(time_s, 50) * 50)
        number -= number % 5 == 0  # each fifth message holds the gripper alone
        expected = [layout.joints_at(number / 50)[f"joint{k}"] for k in range(1, 8)]
        np.testing.assert_allclose(source.steps["observation/joint_position"][step], expected)


def test_commands_are_the_last_ones_before_the_next_step(source):
    for step, time_s in enumerate(step_times()):
        sent = last_sample(time_s + 0.1 - 1e-6, 40)
        np.testing.assert_allclose(source.steps["action/target_pose"][step, :3], layout.position_at(sent + 0.1))
    closes_s = layout.GRIPPER_CLOSES_S + layout.LATE_NS / layout.NS  # without a stamp, the time of receipt counts
    expected = [0.0 if closes_s < time_s + 0.1 else 1.0 for time_s in step_times()]
    assert source.steps["action/gripper"][:, 0].tolist() == expected and 0.0 < np.mean(expected) < 1.0


def test_images_are_the_last_ones_seen_compressed_ones_byte_for_byte(source):
    compressed, raw = list(source.steps["observation/image"]), list(source.steps["observation/wrist_image"])
    for step, time_s in enumerate(step_times()):
        expected = layout.picture_at(last_sample(time_s, 15))
        assert np.abs(decode(compressed[step]).astype(int) - expected).mean() < 3
        np.testing.assert_array_equal(raw[step], layout.picture_at(last_sample(time_s, 12.5), wrist=True))
    assert compressed[0][:2] == b"\xff\xd8"


def test_the_instruction_is_a_topic_and_the_clock_of_each_column_is_told(source):
    assert source.metadata["instruction"] == "put the cup on the plate"
    assert source.metadata["clock/observation/image"] == "stamp"
    assert source.metadata["clock/action/gripper"] == "receipt"


def test_one_recording_has_one_id_in_all_containers_and_becomes_an_episode(bags):
    episodes = [apply_spec(read_episode(key, root=bags, spec=SPEC), SPEC) for key in KEYS.values()]
    assert len({episode.episode_id for episode in episodes}) == 1
    assert episodes[0].instruction == "put the cup on the plate"
    assert sorted(episodes[0].images) == ["primary", "wrist"]


@pytest.mark.parametrize("kind", ["sqlite3", "mcap"])
def test_a_file_of_a_ros_2_folder_alone_is_the_same_episode(bags, tmp_path, kind, source):
    [file] = [file for file in (bags / KEYS[kind]).iterdir() if file.suffix != ".yaml"]
    (tmp_path / file.name).write_bytes(file.read_bytes())
    assert list(find_episodes(tmp_path, SPEC)) == [file.name]
    alone = read_episode(file.name, root=tmp_path, spec=SPEC)
    np.testing.assert_array_equal(alone.steps["observation/eef_pose"], source.steps["observation/eef_pose"])


def test_a_clock_makes_each_of_its_messages_a_step_and_uneven_ones_are_flagged(bags):
    image = SPEC.bag.columns["observation/image"].model_dump(mode="json") | {"max_age_s": 0.1}
    clocked = spec_with(clock="observation/image", columns={"observation/image": image})
    with pytest.raises(DataError, match="clock observation/image runs at 15 Hz, the spec says 10; leave `clock` out"):
        read_episode("arm.bag", root=bags, spec=clocked)
    right_rate = clocked.model_copy(update={"control_hz": 15.0})
    source = read_episode("arm.bag", root=bags, spec=right_rate)
    np.testing.assert_allclose(np.diff(source.steps["time_s"]), 1 / 15, atol=1e-6)
    assert source.quality_flags == ()
    nearly = clocked.model_copy(update={"control_hz": 12.6})
    assert read_episode("arm.bag", root=bags, spec=nearly).quality_flags == ()
    columns = {
        "observation/wrist_image": None,
        "observation/joint_position": SPEC.bag.columns["observation/joint_position"].model_dump(mode="json")
        | {"max_age_s": 0.2},
    }
    by_joints = spec_with(clock="observation/joint_position", columns=columns).model_copy(update={"control_hz": 50.0})
    assert read_episode("arm.bag", root=bags, spec=by_joints).quality_flags == ("timestamps_uneven",)


def test_a_gap_sets_the_bag_aside_or_cuts_it_as_the_spec_says(tmp_path):
    # Joints come every 0.2 s, but not at 0 s, 1 s, 2 s ..., where a message holds the gripper alone.
    layout.write_bag(tmp_path / "x.bag", "ros1", rates=layout.Rates(joints_hz=5), seconds=4.0)
    said = {name: column.model_dump(mode="json") for name, column in SPEC.bag.columns.items()}
    columns = {
        "observation/finger_width": said["observation/finger_width"] | {"max_age_s": None},
        "observation/joint_position": said["observation/joint_position"] | {"max_age_s": 0.25},
    }
    with pytest.raises(
        DataError,
        match=r"x\.bag: bag: a gap of 0\.30 s in observation/joint_position, 0\.70 s after the first step",
    ):
        read_episode("x.bag", root=tmp_path, spec=spec_with(columns=columns))
    cut = spec_with(on_gap="cut", columns=columns)
    assert list(find_episodes(tmp_path, cut)) == [f"x.bag#{number}" for number in range(4)]
    for number in range(4):
        episode = apply_spec(read_episode(f"x.bag#{number}", root=tmp_path, spec=cut), cut)
        assert len(episode) == 8
        np.testing.assert_allclose(episode.state[:, 0], 0.3 + 0.1 * (number + 0.2 + np.arange(8) / 10), atol=2e-3)
        assert sorted(episode.images) == ["primary", "wrist"]
    with pytest.raises(DataError, match="holds 4 episodes"):
        read_episode("x.bag#4", root=tmp_path, spec=cut)


def test_a_topic_that_says_when_it_records_makes_several_episodes(bags):
    gripper_open = {"topics": ["/gripper/command"], "fields": ["data"], "max_age_s": None}
    recorded = spec_with(recording=gripper_open)
    assert list(find_episodes(bags, recorded))[:2] == ["arm.bag#0", "arm_db3#0"]
    source = read_episode("arm.bag#0", root=bags, spec=recorded)
    # Open from 0.004 s to 0.804 s: steps at 0.02 s to 0.72 s, of which the last has no next one.
    assert len(source.steps["time_s"]) == 7
    assert len(list(source.steps["observation/wrist_image"])) == len(source.steps["time_s"])


@pytest.mark.parametrize("kind", sorted(KEYS))
def test_missing_topics_are_named_with_the_nearest_and_optional_ones_are_left_out(tmp_path, kind):
    layout.write_bag(tmp_path / KEYS[kind], kind, without=("/target_pose", "/wrist_camera/image_raw", "/task"))
    with pytest.raises(
        DataError, match="column action/target_pose needs the topic /target_pose; did you mean /eef_pose"
    ):
        read_episode(KEYS[kind], root=tmp_path, spec=SPEC)
    as_target = SPEC.bag.columns["action/target_pose"].model_dump(mode="json") | {"topics": ["/eef_pose"]}
    spec = spec_with(columns={"action/target_pose": as_target})
    episode = apply_spec(read_episode(KEYS[kind], root=tmp_path, spec=spec), spec)
    assert sorted(episode.images) == ["primary"] and episode.instruction == ""


def test_fields_that_are_not_there_are_named(bags):
    wrong = {"topics": ["/eef_pose"], "fields": ["pose.place.x"]}
    spec = spec_with(columns={"observation/eef_pose": wrong})
    with pytest.raises(
        DataError, match=r"/eef_pose: message 0: no field 'place' \(of pose\.place\.x\); there are posit"
    ):
        read_episode("arm.bag", root=bags, spec=spec)


def test_stamps_of_another_clock_give_way_to_the_time_of_receipt(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "LATE_NS", 3600 * layout.NS)
    layout.write_bag(tmp_path / "x.bag", "ros1")
    source = read_episode("x.bag", root=tmp_path, spec=SPEC)
    assert {value for key, value in source.metadata.items() if key.startswith("clock/")} == {"receipt"}
    assert len(source.steps["time_s"]) == 19


def test_stamps_from_after_their_receipt_are_of_another_clock(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "LATE_NS", -layout.NS // 5)
    layout.write_bag(tmp_path / "x.bag", "ros1")
    source = read_episode("x.bag", root=tmp_path, spec=SPEC)
    assert {value for key, value in source.metadata.items() if key.startswith("clock/")} == {"receipt"}


def test_a_column_that_ends_early_is_flagged_because_it_ends_the_episode(bags, source):
    assert source.quality_flags == ()
    gripper = SPEC.bag.columns["action/gripper"].model_dump(mode="json")
    spec = spec_with(columns={"action/gripper": gripper | {"max_age_s": 0.85}})
    shortened = read_episode("arm.bag", root=bags, spec=spec)
    assert len(shortened.steps["time_s"]) == 16  # the last command, of 0.804 s, holds until 1.654 s of 2
    assert shortened.quality_flags == ("recording_partly_used",)


def test_what_metadata_yaml_says_beside_the_format_is_passed_on(bags, tmp_path):
    layout.write_bag(tmp_path / "x", "sqlite3")
    file = tmp_path / "x" / "metadata.yaml"
    file.write_text(file.read_text() + "task: wipe the table\n")
    assert read_episode("x", root=tmp_path, spec=SPEC).metadata["task"] == "wipe the table"


@pytest.mark.parametrize("kind", sorted(KEYS))
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_bag_cut_short_is_a_data_error_in_one_line(bags, tmp_path, kind, share):
    source = bags / KEYS[kind]
    files = [source] if source.is_file() else list(source.iterdir())
    for file in files:
        content = file.read_bytes()
        cut = content if file.suffix == ".yaml" else content[: int(len(content) * share)]
        (tmp_path / file.name).write_bytes(cut)
    keys = list(find_episodes(tmp_path.parent, SPEC))
    [key] = [key for key in keys if key.startswith(tmp_path.name)]
    with pytest.raises(DataError) as caught:
        apply_spec(read_episode(key, root=tmp_path.parent, spec=SPEC), SPEC)
    assert "\n" not in str(caught.value) and key in str(caught.value)


def test_whole_bags_that_are_compressed_and_files_elsewhere_are_refused(bags, tmp_path):
    layout.write_bag(tmp_path / "x", "sqlite3")
    file = tmp_path / "x" / "metadata.yaml"
    said = file.read_text()
    file.write_text(said.replace("compression_mode: ''", "compression_mode: file"))
    with pytest.raises(DataError, match="compressed as a whole; write it again without, with ros2 bag convert"):
        read_episode("x", root=tmp_path, spec=SPEC)
    file.write_text(said)
    [database] = (tmp_path / "x").glob("*.db3")
    database.unlink()
    os.symlink(next((bags / "arm_db3").glob("*.db3")), database)
    with pytest.raises(DataError, match="leads out of the raw folder"):
        read_episode("x", root=tmp_path, spec=SPEC)
    file.write_text(said.replace(database.name, "other.db3"))
    with pytest.raises(DataError, match=r"metadata\.yaml names other\.db3, which is not there"):
        read_episode("x", root=tmp_path, spec=SPEC)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_byte_anywhere_gives_an_episode_or_a_data_error(bags, tmp_path_factory, data):
    root = tmp_path_factory.mktemp("damaged")
    kind = data.draw(st.sampled_from(sorted(KEYS)))
    source = bags / KEYS[kind]
    for file in [source] if source.is_file() else sorted(source.iterdir()):
        content = bytearray(file.read_bytes())
        for _ in range(data.draw(st.integers(0, 5))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        target = root / "x.bag" if source.is_file() else root / "x" / file.name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(content)
    with contextlib.suppress(DataError):
        apply_spec(read_episode("x.bag" if source.is_file() else "x", root=root, spec=SPEC), SPEC)


@pytest.mark.skipif(not REAL.is_dir(), reason="real ROS 1 bags are not at ../shared/data/rosbag1")
def test_real_poses_become_the_motion_from_sample_to_sample():
    spec = load_spec("pose_demonstrations")
    assert list(find_episodes(REAL, spec)) == ["demo.bag", "rot_hor.bag"]
    times_ns, positions, quaternions = read_poses(REAL / "demo.bag")
    episode = apply_spec(read_episode("demo.bag", root=REAL, spec=spec), spec)
    samples = [0]
    while (tick := times_ns[0] + len(samples) * 50_000_000) <= times_ns[-1]:
        samples.append(max(number for number, time_ns in enumerate(times_ns) if time_ns <= tick))
    assert len(episode) == len(samples) - 1 == 583  # 29.15 s at 20 Hz
    np.testing.assert_allclose(episode.action[:, :3], np.diff(positions[samples], axis=0), atol=1e-6)
    turned = Rotation.from_quat(quaternions[samples])
    np.testing.assert_allclose(episode.action[:, 3:6], (turned[1:] * turned[:-1].inv()).as_rotvec(), atol=1e-5)


def read_poses(path: Path) -> tuple[list[int], np.ndarray, np.ndarray]:
    from rosbags.highlevel import AnyReader

    times_ns, positions, quaternions = [], [], []
    with AnyReader([path]) as reader:
        for connection, time_ns, raw in reader.messages():
            pose: Any = reader.deserialize(raw, connection.msgtype)
            times_ns.append(time_ns)
            positions.append([pose.position.x, pose.position.y, pose.position.z])
            quaternions.append([pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w])
    return times_ns, np.array(positions), np.array(quaternions)
