"""CALVIN in its real layout, written by samples/calvin_layout.py, against the frame files themselves."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest import calvin
from oxe_pipeline.ingest.apply_spec import apply_spec
from oxe_pipeline.ingest.calvin_index import Segment, find_split_folders, language_windows, play
from oxe_pipeline.ingest.images import decode
from samples.calvin_layout import Window, write_split, write_windows
from schemas.slots import ACTION_GROUPS, STATE_GROUPS
from schemas.spec import load_spec

TRAINING = "task_D_D/training"
WINDOWS = [
    Window(start=60, end=68, sentence="lift the blue block", task="lift_blue_block_table"),
    Window(start=60, end=68, sentence="Grasp the blue block, then lift it.", task="lift_blue_block_table"),
    Window(start=64, end=72, sentence="push the block left", task="push_blue_block_left"),
    Window(start=101, end=104, sentence="turn on the led light", task="turn_on_led"),
    Window(start=70, end=74, sentence="out of the recording", task="x"),
    Window(start=90, end=91, sentence="between the recordings", task="x"),
    Window(start=103, end=103, sentence="nothing", task="x"),
]


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("calvin")
    write_split(root / TRAINING, [(60, 72), (100, 104)], WINDOWS)
    write_split(root / "task_D_D" / "validation", [(0, 2)], [Window(start=0, end=2, sentence="go", task="x")], seed=1)
    return root


@pytest.fixture
def copy(raw, tmp_path) -> Path:
    """One that a test may damage."""
    shutil.copytree(raw / TRAINING, tmp_path / TRAINING)
    return tmp_path


def frames(root: Path, numbers) -> list[dict]:
    return [dict(np.load(root / TRAINING / f"episode_{number:07d}.npz")) for number in numbers]


def slots(episode, group: str) -> np.ndarray:
    groups, vector = (ACTION_GROUPS, episode.action) if group in ACTION_GROUPS else (STATE_GROUPS, episode.state)
    return vector[:, list(groups[group].indices)]


def test_windows_are_episodes_with_all_that_was_said_and_none_is_listed_twice(raw):
    assert find_split_folders(raw) == [TRAINING, "task_D_D/validation"]
    assert find_split_folders(raw / TRAINING) == [""]
    found = {str(segment): segment for segment in language_windows(raw, TRAINING)}
    assert len(found) == 6
    first = found[f"{TRAINING}/0000060-0000067"]
    assert (first.first, first.stop, first.split) == (60, 68, "training")
    assert first.labels == ("lift the blue block", "Grasp the blue block, then lift it.")
    assert first.tasks == ("lift_blue_block_table",)
    flagged = [name for name, segment in found.items() if segment.flags == ("overlapping_window",)]
    assert [name[-15:] for name in flagged] == ["0000060-0000067", "0000064-0000071"]
    assert [segment.split for segment in language_windows(raw, "task_D_D/validation")] == ["validation"]


def test_windows_that_cannot_be_episodes_say_why_when_they_are_read(raw):
    reasons = {}
    for segment in language_windows(raw, TRAINING):
        try:
            calvin.read_episode(segment, root=raw)
        except DataError as error:
            reasons[segment.first] = error.reason
    outside = "does not lie inside one recording of ep_start_end_ids.npy"
    assert reasons == {
        70: f"the window 70 to 74 {outside}",
        90: f"the window 90 to 91 {outside}",
        103: "the window 103 to 103 holds no step",
    }


def test_a_window_is_its_frames_with_the_motion_to_the_next_pose(raw):
    segment = language_windows(raw, TRAINING)[0]
    episode = apply_spec(calvin.read_episode(segment, root=raw), load_spec("calvin"))
    rows = frames(raw, range(60, 69))
    assert len(episode) == 8 and episode.split == "train" and episode.success == 1 and episode.is_terminal
    assert episode.instruction == "lift the blue block"
    assert episode.alternatives == ("grasp the blue block, then lift it",)
    poses = np.array([row["robot_obs"] for row in rows])
    np.testing.assert_allclose(slots(episode, "arm0.eef_position_delta"), np.diff(poses[:, :3], axis=0), atol=1e-6)
    turns = Rotation.from_euler("xyz", poses[:, 3:6])
    expected = (turns[1:] * turns[:-1].inv()).as_rotvec()
    np.testing.assert_allclose(slots(episode, "arm0.eef_rotation_delta"), expected, atol=1e-6)
    np.testing.assert_allclose(slots(episode, "arm0.eef_position"), poses[:-1, :3], atol=1e-6)
    joints = list(STATE_GROUPS["arm0.joint_position"].indices)
    np.testing.assert_allclose(episode.state[:, joints], poses[:-1, 7:14], atol=1e-6)
    np.testing.assert_allclose(
        slots(episode, "arm0.eef_rotation_6d"),
        turns.as_matrix()[:-1].transpose(0, 2, 1)[:, :2].reshape(-1, 6),
        atol=1e-6,
    )
    raw_actions = np.array([[*row["rel_actions"], *row["actions"]] for row in rows[:-1]])
    np.testing.assert_allclose(episode.action_raw, raw_actions, atol=1e-6)
    for step, row in enumerate(rows[:-1]):
        for camera, name in (("primary", "rgb_static"), ("wrist", "rgb_gripper")):
            pixels = decode(episode.images[camera][step]).astype(int)
            assert pixels.shape == row[name].shape and np.abs(pixels - row[name]).mean() < 2
            assert abs(pixels[:8, :8].mean() - row[name][0, 0, 0]) < 2  # the picture of this very frame


def test_the_gripper_opens_where_the_command_is_plus_one(raw):
    (segment,) = [piece for piece in play(raw, TRAINING) if piece.first == 60]
    episode = apply_spec(calvin.read_episode(segment, root=raw), load_spec("calvin_play"))
    commands = [row["actions"][6] for row in frames(raw, range(60, 73))]
    assert set(commands) == {-1.0, 1.0}
    assert slots(episode, "arm0.gripper").ravel().tolist()[:13] == [float(command > 0) for command in commands]


def test_the_variant_gives_calvins_own_relative_actions(raw):
    source = calvin.read_episode(language_windows(raw, TRAINING)[0], root=raw)
    episode = apply_spec(source, load_spec("calvin_as_rel_actions"))
    told = np.array([row["rel_actions"] for row in frames(raw, range(60, 68))])
    assert np.abs(told[:, :6]).max() <= 1
    np.testing.assert_allclose(slots(episode, "arm0.eef_position_delta"), told[:, :3] * 0.02, atol=1e-7)
    np.testing.assert_allclose(slots(episode, "arm0.eef_rotation_delta"), told[:, 3:6] * 0.05, atol=1e-7)


def test_play_is_every_recorded_frame_once_without_label_or_outcome(raw, monkeypatch):
    pieces = play(raw, TRAINING)
    assert [(piece.first, piece.stop) for piece in pieces] == [(60, 73), (100, 105)]
    episode = apply_spec(calvin.read_episode(pieces[1], root=raw), load_spec("calvin_play"))
    assert (len(episode), episode.instruction, episode.success, episode.is_terminal) == (5, "", -1, False)
    monkeypatch.setattr("oxe_pipeline.ingest.calvin_index.PLAY_STEPS", 5)
    assert [(piece.first, piece.stop) for piece in play(raw, TRAINING)] == [(60, 65), (65, 70), (70, 73), (100, 105)]


def test_pixels_too_many_to_hold_are_read_one_at_a_time_to_the_same_episode(raw, monkeypatch):
    segment = language_windows(raw, TRAINING)[0]
    held = apply_spec(calvin.read_episode(segment, root=raw), load_spec("calvin"))
    monkeypatch.setattr(calvin, "HELD_BYTES", 0)
    source = calvin.read_episode(segment, root=raw)
    assert isinstance(source.steps["rgb_static"], calvin.NpzFrames)
    streamed = apply_spec(source, load_spec("calvin"))
    assert streamed.images == held.images
    assert np.array_equal(streamed.action, held.action)


def test_missing_damaged_and_odd_frames_are_named(copy):
    segment = language_windows(copy, TRAINING)[0]
    folder = copy / TRAINING
    (folder / "episode_0000063.npz").unlink()
    (folder / "episode_0000065.npz").unlink()
    with pytest.raises(DataError, match=r"0000063\.npz: 2 of 8 frame files are missing, the first is this"):
        calvin.read_episode(segment, root=copy)
    for number in (63, 65):
        shutil.copy(folder / "episode_0000062.npz", folder / f"episode_{number:07d}.npz")
    (folder / "episode_0000064.npz").write_bytes((folder / "episode_0000064.npz").read_bytes()[:3000])
    with pytest.raises(DataError, match=r"0000060-0000067: episode_0000064\.npz: damaged, copy it again"):
        calvin.read_episode(segment, root=copy)
    whole = dict(np.load(folder / "episode_0000062.npz"))
    np.savez(folder / "episode_0000064.npz", **{**whole, "rgb_static": whole["rgb_static"][:100]})
    with pytest.raises(DataError, match=r"0000064\.npz: rgb_static is uint8 \[100, 200, 3\], in the first frame"):
        calvin.read_episode(segment, root=copy)
    np.savez(folder / "episode_0000060.npz", **{**whole, "robot_obs": np.zeros((15, 1000))})
    with pytest.raises(DataError, match=r"robot_obs must be \[15\] numbers, is float64 \[15, 1000\]"):
        calvin.read_episode(segment, root=copy)
    np.savez(folder / "episode_0000060.npz", **{name: whole[name] for name in whole if name != "rgb_gripper"})
    with pytest.raises(DataError, match=r"no array 'rgb_gripper' in the file; there are actions"):
        calvin.read_episode(segment, root=copy)


def shared(levels: int) -> list:
    """One list inside another 2^levels times: small in a file, endless in print."""
    made: list = []
    for _ in range(levels):
        made = [made, made]
    return made


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (Evil(), r"needs the class builtins\.print, which is not numpy"),
        ({"language": {"ann": [Evil()], "task": [""]}, "info": {"indx": [(0, 1)]}}, r"needs the class builtins\.print"),
        ({"language": {"ann": ["a"], "task": []}, "info": {"indx": [(60, 64)]}}, "1 windows, 1 labels and 0 tasks"),
        ({"language": {"ann": ["a"], "task": ["b"]}, "info": {"indx": [(60, 64.5)]}}, "float is no frame number"),
        ({"language": {"ann": ["a"], "task": ["b"]}, "info": {"indx": [60]}}, "must be a dict with language/ann"),
        ({"language": {"ann": ["a"], "task": ["b"]}, "info": {"indx": [(shared(40), 64)]}}, "list is no frame number"),
        ({"language": {"ann": [shared(40)], "task": ["b"]}, "info": {"indx": [(60, 64)]}}, "list is no label"),
        ({"language": {"ann": [7], "task": ["b"]}, "info": {"indx": [(60, 64)]}}, "int is no label"),
        ({"info": {}}, r"must be a dict with language/ann, .* \('language'\)"),
        ("text", "must be a dict"),
    ],
)
def test_an_index_that_is_not_calvins_is_refused_and_nothing_in_it_is_run(copy, capsys, content, reason):
    np.save(copy / TRAINING / "lang_annotations" / "auto_lang_ann.npy", np.array(content, dtype=object))
    with pytest.raises(DataError, match=reason) as caught:
        language_windows(copy, TRAINING)
    assert "auto_lang_ann.npy" in str(caught.value) and "\n" not in str(caught.value)
    assert "executed" not in capsys.readouterr().out


def test_absent_and_damaged_index_files_say_what_to_do(copy):
    folder = copy / TRAINING
    shutil.rmtree(folder / "lang_annotations")
    with pytest.raises(DataError, match="no language windows; the config calvin_play takes the recordings whole"):
        language_windows(copy, TRAINING)
    write_windows(folder / "lang_paraphrase-MiniLM-L3-v2", WINDOWS[:1])
    assert len(language_windows(copy, TRAINING)) == 1
    for runs in (
        np.zeros((2, 3), int),
        np.array([[5, 2]]),
        np.array([[0, 10**9]]),
        np.zeros((1, 2)),
        np.zeros((0, 2), int),
    ):
        np.save(folder / "ep_start_end_ids.npy", runs)
        with pytest.raises(DataError, match=r"ep_start_end_ids\.npy: (must be whole numbers|holds ranges)"):
            play(copy, TRAINING)


@settings(max_examples=150)
@given(data=st.data())
def test_any_damage_to_the_window_file_is_a_data_error_or_still_gives_segments(tmp_path_factory, raw, data):
    whole = (raw / TRAINING / "lang_annotations" / "auto_lang_ann.npy").read_bytes()
    content = bytearray(whole[: data.draw(st.sampled_from([None, 50, 130, 400]))])
    for place in data.draw(st.lists(st.integers(0, 900), max_size=6)):
        content[place % len(content)] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.getbasetemp() / "fuzzed" / "lang_annotations"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(raw / TRAINING / "ep_start_end_ids.npy", folder.parent)
    (folder / "auto_lang_ann.npy").write_bytes(content)
    try:
        segments = language_windows(folder.parents[1], "fuzzed")
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert all(
            isinstance(segment, Segment) and pickle.loads(pickle.dumps(segment)) == segment for segment in segments
        )
