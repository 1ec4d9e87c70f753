"""Episode folders as DROID's labs write them, with images that carry their number."""

import json
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.apply_spec import apply_spec
from oxe_pipeline.ingest.droid_raw import (
    CAMERAS,
    EXTERIORS,
    LONGER_VIDEO,
    WRIST,
    annotation_files,
    find_episodes,
    read_annotations,
    read_episode,
)
from schemas.spec import load_spec
from tests.ingest.numbered_video import number_of, numbered_images
from tests.ingest.published_structure import make_episode

h5py = pytest.importorskip("h5py")
pytest.importorskip("av")

from samples.droid_layout import ANNOTATIONS, DroidEpisode, write_tree  # noqa: E402
from samples.video_file import write_video  # noqa: E402

STEPS = 10
SERIALS = {WRIST: "30000000", EXTERIORS[0]: "20000000", EXTERIORS[1]: "9000000"}
"""As text "20000000" comes before "9000000"."""


def droid_episode(*, frames: int = STEPS, seed: int = 0, **options) -> DroidEpisode:
    """The wrist's images count from 0, the first exterior's from 100, the second's from 200."""
    rng = np.random.default_rng(seed)
    images = {SERIALS[camera]: numbered_images(100 * i + np.arange(frames)) for i, camera in enumerate(CAMERAS)}
    return DroidEpisode(
        position=rng.uniform(-0.5, 0.5, (STEPS, 6)),
        gripper=rng.uniform(0, 1, STEPS),
        velocity=rng.uniform(0.1, 1, (STEPS, 6)),
        images=images,
        **options,
    )


@pytest.fixture
def tree(tmp_path) -> Path:
    """Two episodes, the first a success with sentences."""
    episodes = [droid_episode(sentences=["Put the cup down. ", "", "set down the cup"]), droid_episode(success=False)]
    write_tree(tmp_path / "raw", episodes)
    return tmp_path / "raw"


def find(root: Path):
    return list(find_episodes(root, read_annotations(root)))


def first_success(root: Path):
    return next(key for key in find(root) if "success" in key.path)


def test_episodes_come_in_order_of_their_paths_with_their_sentences(tree):
    failure, success = find(tree)
    assert failure.path == "SAMP/failure/2026-11-23/Mon_Nov_23_10:01:00_2026" and failure.sentences == ()
    assert success.path == "SAMP/success/2026-11-23/Mon_Nov_23_10:00:00_2026"
    assert success.sentences == ("Put the cup down. ", "set down the cup")
    assert [key.path for key in find_episodes(tree / "SAMP")] == [
        key.path.removeprefix("SAMP/") for key in (failure, success)
    ]


def test_flat_keys_are_those_of_the_published_copy(tree):
    ours, theirs = read_episode(first_success(tree), root=tree), make_episode("droid")
    instructions = {"language_instruction", "language_instruction_2", "language_instruction_3"}
    assert set(theirs.steps) - instructions <= set(ours.steps)
    assert instructions | {"episode_metadata/file_path"} <= set(ours.metadata)
    for name in set(theirs.steps) & set(ours.steps) - set(CAMERAS):
        assert ours.steps[name].shape[1:] == theirs.steps[name].shape[1:], name


def test_each_row_has_its_own_frame_of_each_camera(tree):
    episode = read_episode(first_success(tree), root=tree)
    for i, camera in enumerate(CAMERAS):
        assert [number_of(image) for image in episode.steps[camera]] == list(range(100 * i, 100 * i + STEPS)), camera


def test_the_spec_brings_it_to_metres_with_success_from_the_path(tree):
    written = droid_episode()
    failure, success = (apply_spec(read_episode(key, root=tree), load_spec("droid_raw")) for key in find(tree))
    assert (failure.success, success.success) == (0, 1)
    assert failure.instruction == "" and success.instruction == "put the cup down"
    assert success.alternatives == ("set down the cup",)
    np.testing.assert_allclose(success.action[:, :3], written.velocity[:, :3] * 0.075, atol=1e-6)
    np.testing.assert_allclose(success.action[:, 6], 1 - written.gripper, atol=1e-6)
    np.testing.assert_allclose(success.state[:, :3], written.position[:, :3], atol=1e-6)
    assert simplejpeg.decode_jpeg(success.images["wrist"][0]).shape == (64, 80, 3)


def test_the_published_variant_scales_larger_images_down_and_keeps_smaller_ones(tmp_path):
    large = numbered_images([5]).repeat(4, axis=1).repeat(4, axis=2).repeat(STEPS, axis=0)
    episode = droid_episode()
    episode.images[SERIALS[WRIST]] = large
    write_tree(tmp_path, [episode])
    converted = apply_spec(read_episode(find(tmp_path)[0], root=tmp_path), load_spec("droid_raw_as_published"))
    shown = simplejpeg.decode_jpeg(converted.images["wrist"][0])
    assert shown.shape == (180, 225, 3)
    assert simplejpeg.decode_jpeg(converted.images["primary"][0]).shape == (64, 80, 3)
    assert abs(shown[135, 100].astype(int) - (255, 0, 0)).max() < 12


@pytest.mark.parametrize("frames", [STEPS, STEPS - 1])
def test_a_video_one_frame_short_costs_the_last_row(tmp_path, frames):
    episode = droid_episode()
    episode.images[SERIALS[WRIST]] = numbered_images(range(frames))
    write_tree(tmp_path, [episode])
    read = read_episode(find(tmp_path)[0], root=tmp_path)
    assert {len(column) for column in read.steps.values()} == {frames}
    assert number_of(list(read.steps[EXTERIORS[0]])[-1]) == 100 + frames - 1
    assert read.steps["is_last"].tolist() == [False] * (frames - 1) + [True]
    np.testing.assert_array_equal(read.steps["observation/cartesian_position"], episode.position[:frames])


def test_a_video_two_frames_short_is_a_fault_and_a_longer_one_a_flag(tree):
    key = first_success(tree)
    video = tree / key.path / "recordings/MP4" / f"{SERIALS[WRIST]}.mp4"
    write_video(video, numbered_images(range(STEPS - 2)), rate_hz=15, codec="mpeg4")
    with pytest.raises(DataError, match=rf"{WRIST}: 8 images for 10 rows"):
        read_episode(key, root=tree)
    write_video(video, numbered_images(range(STEPS + 2)), rate_hz=15, codec="mpeg4")
    assert read_episode(key, root=tree).quality_flags == (LONGER_VIDEO,)


def test_a_missing_recording_is_a_fault_unless_the_camera_may_lack(tree):
    key = first_success(tree)
    (tree / key.path / "recordings/MP4" / f"{SERIALS[EXTERIORS[1]]}.mp4").unlink()
    with pytest.raises(DataError, match=rf"{EXTERIORS[1]}: 9000000\.mp4: no such file"):
        read_episode(key, root=tree)
    assert EXTERIORS[1] not in read_episode(key, root=tree, optional={EXTERIORS[1]}).steps
    assert EXTERIORS[1] not in read_episode(key, root=tree, cameras={WRIST}).steps


def test_stereo_files_are_never_read(tmp_path):
    write_tree(tmp_path, [droid_episode(stereo=True)])
    [key] = find(tmp_path)
    folder = tmp_path / key.path / "recordings/MP4"
    for path in folder.glob("*-stereo.mp4"):
        path.write_bytes(b"broken")
    assert len(read_episode(key, root=tmp_path).steps) > 3
    (folder / f"{SERIALS[WRIST]}.mp4").unlink()
    with pytest.raises(DataError, match="no such file"):
        read_episode(key, root=tmp_path)


def test_idle_steps_are_kept_and_flagged_by_tens(tmp_path):
    still = droid_episode()
    still.velocity[:3] = 0
    off = droid_episode(movement_enabled=np.arange(STEPS) >= 7)
    write_tree(tmp_path, [still, off, droid_episode()])
    episodes = [read_episode(key, root=tmp_path) for key in find(tmp_path)]
    assert [episode.quality_flags for episode in episodes] == [("idle_30_percent",), ("idle_70_percent",), ()]
    assert all(len(episode.steps["action"]) == STEPS for episode in episodes)
    assert apply_spec(episodes[0], load_spec("droid_raw")).quality_flags == ("idle_30_percent",)


def test_of_several_files_of_sentences_the_latest_counts(tree):
    uuid = next(iter(json.loads((tree / ANNOTATIONS).read_text())))
    newer = {uuid: {"language_instruction1": "newer"}}
    (tree / "aggregated-annotations-010125.json").write_text(json.dumps(newer))
    assert annotation_files(tree) == [ANNOTATIONS, "aggregated-annotations-010125.json"]
    assert first_success(tree).sentences == ("newer",)
    (tree / ANNOTATIONS).write_text("{")
    with pytest.raises(DataError, match=r"030724\.json: not what it should be: Expecting property name"):
        read_annotations(tree)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda file: file.pop("action"), "action/cartesian_position: no such array in the file"),
        (lambda file: file.pop("observation/camera_type"), "no such group in the file: observation/camera_type"),
        (lambda file: file.pop(f"observation/camera_type/{SERIALS[WRIST]}"), "names 0 camera"),
        (
            lambda file: resized(file, "action/joint_velocity", (7, 7)),
            "7 rows, but action_dict/cartesian_velocity has 10",
        ),
        (
            lambda file: resized(file, "action/cartesian_velocity", (10, 5)),
            r"must be numbers \[T, 6\], is float64 \[10, 5",
        ),
        (lambda file: linked(file, "action/joint_velocity"), "is a link to another file"),
    ],
)
def test_what_is_wrong_with_the_rows_is_named(tree, change, reason):
    key = first_success(tree)
    with h5py.File(tree / key.path / "trajectory.h5", "a") as file:
        change(file)
    with pytest.raises(DataError, match=reason):
        read_episode(key, root=tree)


def resized(file, name: str, shape) -> None:
    del file[name]
    file[name] = np.zeros(shape)


def linked(file, name: str) -> None:
    del file[name]
    file[name] = h5py.ExternalLink("other.h5", "/x")


def test_a_recording_without_gripper_velocity_is_whole(tree):
    key = first_success(tree)
    with h5py.File(tree / key.path / "trajectory.h5", "a") as file:
        del file["action/gripper_velocity"]
    assert len(apply_spec(read_episode(key, root=tree), load_spec("droid_raw"))) == STEPS


def test_a_folder_without_rows_is_listed_and_reading_it_says_so(tree):
    key = first_success(tree)
    (tree / key.path / "trajectory.h5").unlink()
    with pytest.raises(DataError, match=r"trajectory\.h5: file: no such file"):
        read_episode(first_success(tree), root=tree)


def test_a_link_out_of_the_raw_folder_is_refused(tree, tmp_path):
    key = first_success(tree)
    video = tree / key.path / "recordings/MP4" / f"{SERIALS[WRIST]}.mp4"
    video.rename(tmp_path / "elsewhere.mp4")
    video.symlink_to(tmp_path / "elsewhere.mp4")
    with pytest.raises(DataError, match="leads out of the raw folder"):
        read_episode(key, root=tree)


def test_damaged_files_never_raise_anything_but_a_data_error(tree):
    key = first_success(tree)
    rng = np.random.default_rng(3)
    faults = 0
    for path in (tree / key.path / "trajectory.h5", next((tree / key.path).glob("metadata_*.json"))):
        content = path.read_bytes()
        for trial in range(60):
            damaged = bytearray(content[: len(content) * trial // 60] if trial % 4 == 0 else content)
            for place in rng.integers(0, max(len(damaged), 1), 8 if damaged else 0):
                damaged[place] = rng.integers(256)
            path.write_bytes(damaged)
            try:
                read_episode(key, root=tree)
            except DataError:
                faults += 1
        path.write_bytes(content)
    assert faults > 20
