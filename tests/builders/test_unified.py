"""The base builder with a toy lab: what it writes, what it sets aside, when it stops. Read back with plain TFDS."""

import json
import sys
from typing import ClassVar

import numpy as np
import pytest
from tqdm import tqdm

tfds = pytest.importorskip("tensorflow_datasets")

from builders.conversion import read_and_convert  # noqa: E402
from builders.examples import episode_to_example  # noqa: E402
from builders.unified import BuildStopped, UnifiedBuilder, UnifiedConfig  # noqa: E402
from oxe_pipeline.episode import DataError  # noqa: E402
from oxe_pipeline.ingest.apply_spec import apply_spec  # noqa: E402
from oxe_pipeline.ingest.rlds import RldsDirectory  # noqa: E402
from schemas.rlds import ABSENT_IMAGE  # noqa: E402
from schemas.slots import CAMERAS  # noqa: E402
from schemas.spec import DATASETS_FOLDER, load_spec  # noqa: E402
from tests.builders import toy_lab  # noqa: E402


class ToyLab(UnifiedBuilder):
    """Episodes are the numbers in `listing`."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = "Anything."
    listing: ClassVar[dict] = {}
    reader = staticmethod(toy_lab.read_toy_episode)

    def list_episodes(self, manual_dir):
        return self.listing

    def read_episode(self):
        return self.reader


@pytest.fixture
def build(tmp_path):
    """build(listing, ...) -> the builder after download_and_prepare."""
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "file").touch()

    def run(listing, *, processes=1, limit=None, file_format="tfrecord", name="out", reader=toy_lab.read_toy_episode):
        config = UnifiedConfig(name="toy", spec=toy_lab.SPEC, processes=processes)
        builder = ToyLab(data_dir=tmp_path / name, config=config, file_format=file_format)
        builder.listing, builder.reader = listing, reader
        options = tfds.download.DownloadConfig(manual_dir=raw, max_examples_per_split=limit)
        builder.download_and_prepare(download_config=options)
        return builder

    return run


def metadata(builder) -> dict:
    return json.loads((builder.data_path / "metadata.json").read_text())


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_plain_tfds_reads_back_what_was_written(build, file_format):
    builder = tfds.builder_from_directory(build({"train": range(6)}, file_format=file_format).data_path)
    if file_format == "tfrecord":
        examples = [{**e, "steps": list(e["steps"].as_numpy_iterator())} for e in builder.as_dataset(split="train")]
    else:
        examples = [{**e, "steps": list(e["steps"])} for e in builder.as_data_source(split="train")]
    assert len(examples) == 6
    for example in examples:
        steps, meta = example["steps"], example["episode_metadata"]
        number = int(steps[0]["action"][0])
        assert len(steps) == 3 + number % 3
        assert bytes(np.asarray(steps[0]["language_instruction"]).item()).decode() == f"push block {number}"
        assert [bool(step["is_first"]) for step in steps] == [True] + [False] * (len(steps) - 1)
        assert [bool(step["is_terminal"]) for step in steps] == [False] * (len(steps) - 1) + [True]
        assert [float(step["reward"]) for step in steps] == [0.0] * (len(steps) - 1) + [1.0]
        assert np.asarray(meta["action_mask"]).sum() == 3 and int(meta["action_raw_width"]) == 3
        assert np.asarray(steps[1]["observation"]["image_primary"]).shape == (16, 24, 3)
        assert np.asarray(steps[1]["observation"]["image_wrist"]).shape == (1, 1, 3)
        assert bool(meta["has_image_primary"]) and not bool(meta["has_image_wrist"])


def test_the_fast_reader_gives_back_the_same_episodes_and_image_bytes(build):
    builder = build({"train": range(5)})
    directory = RldsDirectory(builder.data_path)
    episodes = [e for file in directory.splits["train"].files for e in directory.read_unified(file)]
    assert len(episodes) == 5
    for episode in episodes:
        number = int(episode.action[0, 0])
        expected = apply_spec(toy_lab.read_toy_episode(number), toy_lab.SPEC)
        for field in ("action", "state", "action_raw", "state_raw", "action_mask", "state_mask"):
            np.testing.assert_array_equal(getattr(episode, field), getattr(expected, field))
        assert episode.images == expected.images
        for field in (
            "dataset",
            "episode_id",
            "split",
            "instruction",
            "alternatives",
            "label_raw",
            "lab",
            "control_hz",
        ):
            assert getattr(episode, field) == getattr(expected, field)


def test_the_result_does_not_depend_on_the_number_of_processes(build):
    one, two = (build({"train": range(8)}, processes=n, name=f"out{n}") for n in (1, 2))
    files = [sorted(path for path in b.data_path.iterdir() if "tfrecord" in path.name) for b in (one, two)]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]


def test_bad_episodes_are_set_aside_and_counted(build):
    numbers = [*range(50), toy_lab.BROKEN + 1, toy_lab.NOT_A_NUMBER + 2]
    found = metadata(build({"train": numbers}))
    assert (found["episodes_in"], found["episodes_out"], len(found["quarantined"])) == (52, 50, 2)
    broken, nan = sorted(found["quarantined"], key=lambda record: record["episode"])
    assert broken == {
        "dataset": "toy", "split": "train", "episode": "1001", "field": "file", "reason": "file is cut short",
    }  # fmt: skip
    assert nan["episode"] == "raw/2002" and "arm0.eef_position_delta.z is nan at step 1" in nan["reason"]


def test_the_metadata_say_with_what_the_data_were_made(build):
    found = metadata(build({"train": range(3)}))
    assert found["dataset"] == "toy" and found["spec_hash"] == toy_lab.SPEC.content_hash()
    assert found["spec"]["action"][0]["source"] == "action" and "+" in found["code_version"]


def test_one_bad_episode_never_stops_a_small_build(build):
    assert metadata(build({"train": [0, 1, toy_lab.BROKEN]}))["episodes_out"] == 2


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        ({"train": [*range(20), toy_lab.BROKEN, toy_lab.BROKEN + 1]}, "2 of 22 episodes are bad, more than 5%; first"),
        ({"train": iter([0, toy_lab.BROKEN, toy_lab.BROKEN + 1])}, "2 of 3 episodes are bad"),
        ({"train": [toy_lab.BROKEN]}, "no episode to write"),
        ({"train": []}, "no episode to write"),
    ],
)
def test_too_many_bad_episodes_stop_the_build_with_one_line_and_leave_nothing(build, tmp_path, listing, message):
    with pytest.raises(BuildStopped) as caught:
        build(listing)
    text = str(caught.value)
    assert caught.value.code == 2
    assert text.startswith("error: toy: ") and message in text and "\n" not in text
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.parent.name != ".config"]
    assert left == []


def read_without_its_package(key):
    raise ImportError("reading toys needs toybox: pip install 'oxe-pipeline[raw]'")


def test_a_package_that_is_absent_stops_the_build_with_the_line_that_installs_it(build):
    with pytest.raises(BuildStopped, match=r"^error: reading toys needs toybox: pip install 'oxe-pipeline\[raw\]'$"):
        build({"train": range(2)}, reader=read_without_its_package)


def test_a_file_that_crashes_its_process_stops_the_build_with_a_line_that_names_it(build):
    with pytest.raises(
        BuildStopped, match=r"^error: toy: a process that reads died at one of these: .*3000.* \(out of"
    ):
        build({"train": [1, 2, toy_lab.CRASHING]}, processes=2)


def test_a_config_that_does_not_exist_is_named_with_the_nearest(tmp_path):
    class Shipped(ToyLab):
        BUILDER_CONFIGS: ClassVar = [UnifiedConfig(name="toy", spec=toy_lab.SPEC)]

    with pytest.raises(
        BuildStopped, match=r"^error: shipped: no config 'toyy'; did you mean toy.*--config mylab\.yaml"
    ):
        Shipped(data_dir=tmp_path, config="toyy")


def test_an_empty_raw_folder_stops_the_build_with_one_line(tmp_path):
    builder = ToyLab(data_dir=tmp_path / "out", config=UnifiedConfig(name="toy", spec=toy_lab.SPEC))
    (tmp_path / "raw").mkdir()
    with pytest.raises(BuildStopped) as caught:
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=tmp_path / "raw"))
    assert "--manual_dir is missing, empty or not a folder. Anything." in str(caught.value)


def test_the_one_line_is_not_wiped_out_by_progress_bars(capsys):
    with tqdm(total=2, file=sys.stderr):
        BuildStopped("error: toy: stopped")
    assert "\rerror: toy: stopped\n" in capsys.readouterr().err


def test_a_path_that_is_not_utf_8_is_set_aside():
    name, fault = read_and_convert(toy_lab.read_toy_episode, toy_lab.SPEC, "caf\udce9/traj0")
    assert name == "caf\\udce9/traj0" and isinstance(fault, DataError)
    assert str(fault) == f"toy: episode {name}: path: its path is not UTF-8, which no RLDS file can hold; rename it"


def test_nothing_is_read_beyond_the_limit_of_examples(build):
    toy_lab.READ.clear()
    builder = build({"train": [toy_lab.BROKEN, *range(50)]}, limit=4, reader=toy_lab.read_and_log)
    assert toy_lab.READ == [toy_lab.BROKEN, 0, 1, 2, 3]
    assert builder.info.splits["train"].num_examples == 4


def test_source_splits_become_tfds_splits_and_the_final_split_is_in_the_metadata(build):
    builder = build({"train": range(4), "val": range(10, 12)})
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {"train": 4, "val": 2}
    directory = RldsDirectory(builder.data_path)
    episodes = [e for file in directory.splits["val"].files for e in directory.read_unified(file)]
    assert {episode.split for episode in episodes} <= {"train", "val"}


def test_an_absent_camera_is_a_tiny_png_on_every_step():
    episode = apply_spec(toy_lab.read_toy_episode(1), toy_lab.SPEC)
    example = episode_to_example(episode)
    for camera in CAMERAS[1:]:
        assert all(step["observation"][f"image_{camera}"] == ABSENT_IMAGE for step in example["steps"])
        assert example["episode_metadata"][f"has_image_{camera}"] is False
    assert len(ABSENT_IMAGE) == 69


def test_a_folder_built_otherwise_is_not_taken_for_what_was_asked(build, monkeypatch, capsys):
    build({"train": [1, 2, 3]}, limit=2)
    build({"train": [1, 2, 3]}, limit=2)
    with pytest.raises(BuildStopped):
        build({"train": [1, 2, 3]})
    assert "was built with --max_examples_per_split 2; give --overwrite for more" in capsys.readouterr().err
    monkeypatch.setattr(toy_lab, "SPEC", toy_lab.SPEC.model_copy(update={"robot": "another"}))
    with pytest.raises(BuildStopped):
        build({"train": [1, 2, 3]}, limit=2)
    assert "was built by another spec; give --overwrite" in capsys.readouterr().err


def test_a_spec_file_may_not_take_the_name_of_a_shipped_one(tmp_path, capsys):
    class TacoLab(ToyLab, skip_registration=True):
        BUILDER_CONFIGS: ClassVar = [UnifiedConfig(name="taco_play")]

    own = tmp_path / "own.yaml"
    text = (DATASETS_FOLDER / "taco_play.yaml").read_text()
    own.write_text(text)
    assert TacoLab(data_dir=tmp_path, config=str(own)).spec == load_spec("taco_play")
    own.write_text(text.replace("control_hz: 15", "control_hz: 30"))
    with pytest.raises(BuildStopped):
        TacoLab(data_dir=tmp_path, config=str(own))
    assert "'taco_play' is the name of a shipped data set; give yours another `name`" in capsys.readouterr().err
