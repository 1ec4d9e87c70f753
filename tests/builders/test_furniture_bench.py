"""builders/furniture_bench on pickles in the collector's layout, one of them empty."""

import json
from pathlib import Path

import pytest

tfds = pytest.importorskip("tensorflow_datasets")

from builders.furniture_bench.furniture_bench_dataset_builder import Builder  # noqa: E402
from builders.unified import BuildStopped, UnifiedConfig  # noqa: E402
from samples.furniture_bench_layout import write_episode  # noqa: E402
from schemas.spec import load_spec  # noqa: E402


def build(raw: Path, data_dir: Path):
    in_this_process = UnifiedConfig(name="tested", spec=load_spec("furniture_bench"), processes=1)
    builder = Builder(config=in_this_process, data_dir=data_dir)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=raw))
    return builder


def test_successes_and_failures_come_out_marked_and_an_empty_file_is_counted(tmp_path):
    raw = tmp_path / "raw"
    write_episode(raw / "low" / "lamp" / "1.pkl", furniture="lamp", image_px=32)
    write_episode(raw / "med" / "round_table" / "2.pkl", furniture="round_table", success=False, image_px=32)
    (raw / "med" / "round_table" / "3.pkl").touch()
    builder = build(raw, tmp_path / "out")
    facts = json.loads((Path(builder.data_path) / "metadata.json").read_text())
    assert (facts["episodes_in"], facts["episodes_out"]) == (3, 2)
    assert facts["quarantined"][0]["episode"] == "med/round_table/3.pkl"
    seen = {}
    for example in builder.as_dataset(split="train"):
        [instruction, *_] = [step["language_instruction"] for step in example["steps"].as_numpy_iterator()]
        seen[instruction.decode()] = int(example["episode_metadata"]["success"])
    assert seen == {"assemble lamp": 1, "assemble round table": 0}


def test_a_folder_without_pickles_stops_the_build_in_one_line(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "notes.txt").touch()
    with pytest.raises(BuildStopped, match=r"^error: .*raw: holds no \.pkl file; give the raw folder as --manual_dir$"):
        build(tmp_path / "raw", tmp_path / "out")
