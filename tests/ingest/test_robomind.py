"""RoboMIND files in their published layout, through reader and specs; the real files of labels where there are."""

import json

import numpy as np
import pytest

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest import robomind
from oxe_pipeline.ingest.apply_spec import apply_spec
from oxe_pipeline.ingest.images import decode
from oxe_pipeline.ingest.robomind_labels import LabelFiles, find_label_files, labels_of
from samples.drawn import drawn_frames
from samples.robomind_layout import write_episode, write_labels
from schemas.spec import load_spec

h5py = pytest.importorskip("h5py")

FRANKA = frozenset({"h5_franka_3rgb"})
STEPS = 6


def read(root, embodiment="h5_franka_3rgb", task="10_packplate", **options):
    key = write_episode(root, embodiment, task, steps=STEPS, **options)
    embodiments = frozenset({embodiment})
    return robomind.read_episode(key, root=root, embodiments=embodiments, labels=find_label_files(root, embodiments))


def error_in(image: bytes, frame: np.ndarray) -> float:
    return np.abs(decode(image).astype(int) - frame).mean()


def test_episodes_of_one_robot_are_found_from_any_folder_above(tmp_path):
    for embodiment in ("h5_franka_3rgb", "h5_ur_1rgb"):
        write_episode(tmp_path / "benchmark1_0_release", embodiment, "10_packplate", stamp="9")
        write_episode(tmp_path / "benchmark1_0_release", embodiment, "10_packplate", stamp="10", split="val")
    below = "10_packplate/success_episodes/{}/data/trajectory.hdf5"
    for root, start in (
        (tmp_path, "benchmark1_0_release/h5_franka_3rgb/"),
        (tmp_path / "benchmark1_0_release", "h5_franka_3rgb/"),
    ):
        expected = [start + below.format(place) for place in ("train/9", "val/10")]
        assert robomind.find_episodes(root, FRANKA) == expected
    inner = tmp_path / "benchmark1_0_release" / "h5_franka_3rgb"
    assert robomind.find_episodes(inner, FRANKA) == [below.format(place) for place in ("train/9", "val/10")]


def test_what_the_leader_said_is_the_action_and_what_the_robot_did_the_state(tmp_path):
    source = read(tmp_path, split="val")
    episode = apply_spec(source, load_spec("robomind_franka"))
    assert np.allclose(episode.action[:, 7:14], source.steps["master/joint_position"][:, :7])
    assert np.allclose(episode.state[:, 10:17], source.steps["puppet/joint_position"][:, :7])
    assert (episode.split, episode.success) == ("val", 1)
    assert sorted(episode.images) == ["primary", "secondary"]


def test_the_variant_of_motion_takes_the_next_pose_against_this_one(tmp_path):
    source = read(tmp_path)
    episode = apply_spec(source, load_spec("robomind_franka_as_motion"))
    position = source.steps["puppet/end_effector"][:, :3]
    assert np.allclose(episode.action[:, :3], np.diff(position, axis=0), atol=1e-6) and len(episode) == STEPS - 1


def test_jpeg_of_true_colours_passes_and_exchanged_channels_are_put_right(tmp_path):
    source = read(tmp_path)
    episode = apply_spec(source, load_spec("robomind_franka"))
    assert episode.images["primary"] == list(source.steps["observations/rgb_images/camera_top"])
    assert error_in(episode.images["secondary"][2], drawn_frames(STEPS, height=48, width=64)[2]) < 12
    for embodiment, spec in (("h5_agilex_3rgb", "robomind_agilex"), ("h5_tienkung_gello_1rgb", "robomind_tienkung")):
        images = apply_spec(read(tmp_path, embodiment), load_spec(spec)).images["primary"]
        assert error_in(images[2], drawn_frames(STEPS, height=48, width=64)[2]) < 12


def test_two_arms_stand_left_then_right(tmp_path):
    source = read(tmp_path, "h5_agilex_3rgb")
    episode = apply_spec(source, load_spec("robomind_agilex"))
    assert np.allclose(episode.action[:, 7:13], source.steps["master/joint_position_left"][:, :6])
    assert np.allclose(episode.action[:, 21:27], source.steps["master/joint_position_right"][:, :6])
    assert not episode.action_mask[[13, 27]].any()


def test_bare_pixels_among_encoded_images_come_out_in_the_same_colours(tmp_path):
    source = read(tmp_path, "h5_ur_1rgb")
    frame = drawn_frames(2, height=480, width=640)[1]
    with h5py.File(tmp_path / source.key, "a") as file:
        # OpenCV's arrays are BGR where the JPEG is an ordinary one.
        file["observations/rgb_images/camera_top"][3] = frame[..., ::-1].ravel()
    source = robomind.read_episode(
        source.key, root=tmp_path, embodiments=frozenset({"h5_ur_1rgb"}), labels=LabelFiles()
    )
    episode = apply_spec(source, load_spec("robomind_ur"))
    assert decode(episode.images["primary"][3]).shape == (480, 640, 3)
    assert error_in(episode.images["primary"][3], frame) < 4


def test_labels_of_table_and_description_with_their_dirt(tmp_path):
    task, path = "20_takecorn_2", "h5_ur_1rgb/20_takecorn_2/success_episodes/train/1014_152855/data"
    sentences = {task: ["Take the corn  out of the pot. ", "take the corn off the pot"], "39_puttomato": [" "]}
    write_labels(tmp_path, "h5_ur_1rgb", sentences, {path: "remove the corn\u200c"})
    episode = apply_spec(read(tmp_path, "h5_ur_1rgb", task), load_spec("robomind_ur"))
    assert episode.instruction == "take the corn out of the pot"
    assert episode.alternatives == ("take the corn off the pot", "remove the corn")
    assert episode.label_raw.startswith("Take the corn  out of the pot. \n")
    other = apply_spec(read(tmp_path, "h5_ur_1rgb", "39_puttomato"), load_spec("robomind_ur"))
    assert other.instruction == "" and other.alternatives == ()


def test_without_files_of_labels_there_is_no_instruction(tmp_path):
    episode = apply_spec(read(tmp_path), load_spec("robomind_franka"))
    assert (episode.instruction, episode.label_flags) == ("", ("missing",))


@pytest.mark.parametrize("name, content", [("x.csv", b"\xff\xfe\x00"), ("x.csv", b"a,b\n1,2\n"), ("x.json", b"[{]")])
def test_files_that_are_no_labels_are_data_errors(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    files = LabelFiles(instructions=name) if name == "x.csv" else LabelFiles(descriptions=(name,))
    with pytest.raises(DataError, match=r"episode e: x\.(csv|json): not what it should be"):
        labels_of("t", "e", files, root=tmp_path)
    with pytest.raises(DataError, match="leads out of the raw folder"):
        labels_of("t", "e", LabelFiles(instructions="../x.csv"), root=tmp_path)


def test_a_file_without_a_group_names_it(tmp_path):
    key = write_episode(tmp_path, "h5_franka_3rgb", "t")
    with h5py.File(tmp_path / key, "a") as file:
        del file["master"]
    with pytest.raises(DataError, match="master: no such group in the file"):
        robomind.read_episode(key, root=tmp_path, embodiments=FRANKA, labels=LabelFiles())


def test_every_real_description_belongs_to_a_task_of_the_real_table(real_data):
    root = real_data / "language" / "robomind"
    files = find_label_files(root, ["h5_ur_1rgb"])
    assert files == LabelFiles(instructions="RoboMIND_v1_2_instr.csv", descriptions=("h5_ur_1rgb.json",))
    entries = json.loads((root / "h5_ur_1rgb.json").read_text())
    for entry in entries[::50]:
        instructions, summaries = labels_of(entry["id"].split("/")[1], entry["id"], files, root=root)
        assert instructions and summaries == [entry["response"]["task_summary"]]
