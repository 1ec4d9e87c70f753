"""builders/lerobot on folders that the sample script writes: own spec files, partial copies, what stops a build."""

import json
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import yaml

from tests.conftest import ROOT, tfds_build

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("av")

from builders.lerobot.lerobot_dataset_builder import Builder  # noqa: E402
from builders.unified import BuildStopped, UnifiedConfig  # noqa: E402
from samples.lerobot_layout import main as write_sample  # noqa: E402
from schemas.spec import DATASETS_FOLDER, load_spec  # noqa: E402

SPEC = "metaworld_lerobot"


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """Three of the recorded sample episodes as a folder of version 3.0, two in a file."""
    folder = tmp_path_factory.mktemp("lerobot") / "raw"
    assert write_sample(["--out", str(folder), "--episodes", "3"]) == 0
    return folder


def own_spec(folder: Path, **changes) -> Path:
    content = yaml.safe_load((DATASETS_FOLDER / f"{SPEC}.yaml").read_text()) | {"name": "mylab"} | changes
    path = folder / "mylab.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def prepare(builder: Builder, raw: Path) -> Builder:
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=raw))
    return builder


def test_a_spec_of_ones_own_is_built_by_the_command_as_typed(tmp_path, raw):
    tfds_build("lerobot", str(own_spec(tmp_path)), raw, tmp_path / "out")
    folder = tmp_path / "out" / "lerobot" / "mylab" / "1.0.0"
    facts = json.loads((folder / "metadata.json").read_text())
    assert (facts["dataset"], facts["episodes_in"], facts["episodes_out"]) == ("mylab", 3, 3)
    assert (facts["episodes_declared"], facts["episodes_not_copied"]) == (3, 0)
    episodes = {
        example["episode_metadata"]["source_path"].numpy().decode(): list(example["steps"].as_numpy_iterator())
        for example in tfds.builder_from_directory(folder).as_dataset(split="train")
    }
    file = "data/chunk-000/file-{:03d}.parquet#episode_{:06d}"
    assert set(episodes) == {file.format(0, 0), file.format(0, 1), file.format(1, 2)}
    # The very scenes that the raw sample episodes show, after one pass of video and one of JPEG.
    stored = ROOT / "samples/metaworld_bridge/metaworld/tabletop/open_drawer/00/2026-11-23_10-00-00/raw/traj_group0"
    steps = episodes[file.format(0, 1)]
    for t in (0, len(steps) - 1):
        shown = simplejpeg.decode_jpeg((stored / f"traj1/images0/im_{t}.jpg").read_bytes()).astype(int)
        assert np.abs(steps[t]["observation"]["image_primary"] - shown).mean() < 6


def test_a_partial_copy_is_built_and_counted(tmp_path, raw):
    part = tmp_path / "part"
    for path in raw.rglob("*"):
        if path.is_file() and path.name != "file-001.mp4":
            (part / path.relative_to(raw)).parent.mkdir(parents=True, exist_ok=True)
            (part / path.relative_to(raw)).write_bytes(path.read_bytes())
    config = UnifiedConfig(name="tested", spec=load_spec(SPEC), processes=1)
    builder = prepare(Builder(config=config, data_dir=tmp_path / "out"), part)
    facts = json.loads((Path(builder.data_path) / "metadata.json").read_text())
    assert (facts["episodes_in"], facts["episodes_out"], facts["episodes_not_copied"]) == (2, 2, 1)
    assert facts["first_absent_file"] == "videos/observation.images.front/chunk-000/file-001.mp4"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"control_hz": 30}, r"meta/info\.json says 5 fps, the spec says control_hz 30; put right the one"),
        ({"action_raw": ["actions"]}, r"has no feature 'actions', which the spec names; did you mean action"),
        ({"language": {"sources": ["tasks"]}}, r"has no feature 'tasks', .*did you mean task"),
    ],
)
def test_a_spec_that_does_not_fit_the_folder_stops_before_work_starts(tmp_path, raw, changes, reason):
    builder = Builder(config=str(own_spec(tmp_path, **changes)), data_dir=tmp_path / "out")
    with pytest.raises(BuildStopped, match=f"^error: .*{reason}"):
        prepare(builder, raw)


def test_a_spec_file_that_does_not_hold_stops_in_one_line(tmp_path):
    path = own_spec(tmp_path, contrl_hz=5)
    with pytest.raises(BuildStopped, match=r"^error: .*mylab\.yaml: contrl_hz: unknown key; did you mean control_hz"):
        Builder(config=str(path), data_dir=tmp_path / "out")


def test_a_folder_that_is_not_lerobots_stops_in_one_line(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "notes.txt").write_text("nothing here")
    builder = Builder(config=SPEC, data_dir=tmp_path / "out")
    with pytest.raises(BuildStopped, match=r"^error: .*meta/info\.json.*give the folder that holds meta/, data/"):
        prepare(builder, tmp_path / "raw")
