"""Audits in the shard job: in the manifest, the same for any units, and with --strict a reason to stop."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs.shard import main
from oxe_pipeline.stream.format import EPISODES, MANIFEST
from oxe_pipeline.stream.reader import open_stream
from tests.ingest.tfds_sample import write_unified
from tests.quality.motions import changed, group, robot_episodes

GRIPPER = group("gripper", "action")


def run(rlds: Path, out: Path, *options: str) -> int:
    return main(["--rlds", str(rlds), "--out", str(out), "--direct_running_mode", "in_memory", *options])


def written(folder: Path, episodes) -> Path:
    for episode in episodes:
        episode.reward = np.zeros(len(episode), np.float32)
    return write_unified(folder, episodes, shards=3)


def inverted(action, state):
    action[:, GRIPPER] = 1 - action[:, GRIPPER]


@pytest.fixture(scope="module")
def good() -> list:
    return robot_episodes(24, image_px=64)


@pytest.fixture(scope="module")
def faulty_rlds(good, tmp_path_factory) -> Path:
    """The gripper's command is the wrong way round, and one episode is there twice under two ids."""
    episodes = changed(good, inverted)
    copy = dataclasses.replace(episodes[3], episode_id="f" * 16)
    return written(tmp_path_factory.mktemp("faulty"), [*episodes, copy])


@pytest.fixture(scope="module")
def faulty_stream(faulty_rlds, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("faulty_stream") / "out"
    assert run(faulty_rlds, out) == 0
    return out


def audits_of(stream: Path) -> dict[tuple[str, str], dict]:
    return {(audit["audit"], audit["subject"]): audit for audit in open_stream(stream).manifest.audits}


def test_a_sound_data_set_passes_strict_and_its_manifest_holds_every_verdict(good, tmp_path, capsys):
    rlds = written(tmp_path / "rlds", good)
    assert run(rlds, tmp_path / "out", "--strict", "suspect") == 0
    found = audits_of(tmp_path / "out")
    assert list(found) == sorted(found)
    assert {audit["verdict"] for audit in found.values()} == {"ok", "unknown"}
    for audit in ("gripper_polarity", "gripper_width"):
        assert found[audit, "arm0.gripper"]["verdict"] == "ok"
    assert found["step_flags", "episodes"]["verdict"] == "ok"
    assert "0 suspect, 0 fault" in capsys.readouterr().out


def test_a_fault_is_printed_and_committed_without_strict_and_refused_with_it(faulty_rlds, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(faulty_rlds, out, "--strict") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert "fault gripper_polarity of arm0.gripper" in error and "(op invert)" in error
    assert "duplicate_episodes" not in error and not (out / MANIFEST).exists()
    assert run(faulty_rlds, out, "--strict", "suspect") == 2
    assert "suspect duplicate_episodes" in capsys.readouterr().err and not (out / MANIFEST).exists()
    assert run(faulty_rlds, out) == 0
    printed = capsys.readouterr().out
    assert "were finished by an earlier run" in printed and "fault       gripper_polarity of arm0.gripper" in printed
    assert audits_of(out)["gripper_polarity", "arm0.gripper"]["verdict"] == "fault"
    assert run(faulty_rlds, out, "--strict") == 2, "a stream that is there already is judged too"
    assert (out / MANIFEST).exists()


def test_the_copy_carries_its_flag_and_the_first_does_not(faulty_stream):
    rows = pq.read_table(faulty_stream / EPISODES).to_pylist()
    alike = [row["quality_flags"] for row in rows if row["episode_id"] in (f"{3:016x}", "f" * 16)]
    assert alike == [[], ["duplicate"]]
    assert sum("duplicate" in row["quality_flags"] for row in rows) == 1


def test_verdicts_depend_neither_on_the_units_nor_on_how_images_are_re_encoded(faulty_rlds, faulty_stream, tmp_path):
    """Audits see the images as they were recorded."""
    options = ("--shard_mb", "1", "--images", "32x32:jpeg:50")
    assert run(faulty_rlds, tmp_path / "out", *options) == 0
    one, many = open_stream(faulty_stream).manifest, open_stream(tmp_path / "out").manifest
    assert len(many.shards) > len(one.shards) == 1 and many.audits == one.audits


def test_a_partial_copy_is_suspect_and_real_data_are_never_refused_for_it(real_data, tmp_path, capsys):
    assert run(real_data / "bridge_rlds", tmp_path / "out", "--strict") == 0
    found = audits_of(tmp_path / "out")
    alarms = {key for key, audit in found.items() if audit["verdict"] in ("suspect", "fault")}
    expected = {(name, "episodes") for name in ("declared_episodes", "expected_episodes", "step_flags")}
    assert alarms == expected, "this copy lacks a split, holds 25 episodes, and they are cut to 8 steps"
    assert found["declared_episodes", "episodes"]["numbers"]["missing_files"] == 1
