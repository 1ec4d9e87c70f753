"""The shard job as typed: the same stream for any runner, stopped or not, and every bad input in one line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jobs.shard import main, with_local_defaults
from oxe_pipeline.stream.format import MANIFEST
from oxe_pipeline.stream.output_folder import OutputFolder
from oxe_pipeline.stream.plan import ShardOptions, make_plan
from oxe_pipeline.stream.reader import open_stream
from oxe_pipeline.stream.verify import verify_stream
from schemas.slots import ACTION_NAMES, STATE_NAMES
from tests.conftest import ROOT, shard
from tests.ingest.tfds_sample import write_unified
from tests.jobs.conftest import EPISODES, FILES, content, episodes


@pytest.fixture(scope="module")
def stream(rlds, tmp_path_factory) -> Path:
    """Made in one process, without a stop, with shards so small that there are several."""
    out = tmp_path_factory.mktemp("out") / "stream"
    assert run(rlds, out) == 0
    return out


def run(rlds, out, *options) -> int:
    return main(
        ["--rlds", str(rlds), "--out", str(out), "--shard_mb", "1", "--direct_running_mode", "in_memory", *options]
    )


def test_the_stream_holds_every_episode_bit_for_bit(stream):
    opened = open_stream(stream)
    assert verify_stream(stream, images=True).faults == []
    ids = [opened.episodes.episode_id(i) for i in range(len(opened.episodes))]
    assert sorted(ids) == [f"{i:016x}" for i in range(EPISODES)]
    for original in episodes():
        number = ids.index(original.episode_id)
        np.testing.assert_array_equal(opened.vector("action", number), original.action[:, original.action_mask])
        np.testing.assert_array_equal(opened.vector("state", number), original.state[:, original.state_mask])
        np.testing.assert_array_equal(opened.vector("action_raw", number), original.action_raw)
        np.testing.assert_array_equal(opened.vector("state_raw", number), original.state_raw)
        for camera, frames in original.images.items():
            assert [bytes(opened.image(number, t, camera)) for t in range(len(original))] == frames
        assert opened.instruction(number) == original.instruction


def test_statistics_are_of_the_train_split_alone(stream):
    opened = open_stream(stream)
    train = [e for e in episodes() if e.split == "train"]
    names = {
        "action": ACTION_NAMES[:7],
        "state": STATE_NAMES[:10],
        "action_raw": [f"action_raw.{i}" for i in range(7)],
        "state_raw": [f"state_raw.{i}" for i in range(8)],
    }
    for vector, columns in names.items():
        values = np.concatenate([getattr(e, vector) for e in train])[:, : len(columns)].astype(np.float64)
        summary = [opened.manifest.statistics[vector][column] for column in columns]
        assert [s["count"] for s in summary] == [len(values)] * values.shape[1]
        np.testing.assert_allclose([s["mean"] for s in summary], values.mean(0), atol=1e-9)
        np.testing.assert_allclose([s["std"] for s in summary], values.std(0), rtol=1e-9)
        assert [s["max"] for s in summary] == values.max(0).tolist()


def test_shards_are_no_larger_than_asked_and_files_are_grouped_up_to_that_size(rlds, stream, tmp_path):
    shards = open_stream(stream).manifest.shards
    assert len(shards) > 1
    assert all(entry.images_file.bytes < 1.2e6 for entry in shards)
    assert run(rlds, tmp_path / "one", "--shard_mb", "100") == 0
    (entry,) = open_stream(tmp_path / "one").manifest.shards
    assert entry.episodes == EPISODES


def test_several_processes_write_the_same_stream_to_the_last_byte(rlds, stream, tmp_path):
    out = tmp_path / "out"
    shard(rlds, out, "--shard_mb", "1", "--direct_running_mode", "multi_processing", "--direct_num_workers", "2")
    assert content(out) == content(stream)


def test_a_job_killed_on_its_way_shows_no_stream_and_its_rerun_ends_with_the_same_one(rlds, tmp_path):
    # Images are enlarged only so that a unit takes long enough to be killed in the middle of the next one.
    options = ["--shard_mb", "1", "--images", "640x640:jpeg:95", "--direct_running_mode", "in_memory"]
    out = tmp_path / "out"
    command = [sys.executable, "-m", "jobs.shard", "--rlds", rlds, "--out", out, *options]
    job = subprocess.Popen([str(word) for word in command], cwd=ROOT, start_new_session=True)
    units = out / "units"
    deadline = time.monotonic() + 120
    while not (units.is_dir() and any(units.glob("[0-9]*.json"))) and time.monotonic() < deadline:
        time.sleep(0.001)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    assert not (out / MANIFEST).exists(), "the job was over before it could be killed"
    finished = {path.name for path in units.glob("[0-9]*.json")}
    assert finished
    before = {p: p.stat().st_mtime_ns for p in (out / "shards").glob("[0-9]*") if f"{p.name[:5]}.json" in finished}
    done = shard(rlds, out, *options)
    assert f"{len(finished)} of" in done.stdout
    assert {p: p.stat().st_mtime_ns for p in before} == before, "finished units were converted again"
    assert run(rlds, tmp_path / "uninterrupted", *options) == 0
    assert content(out) == content(tmp_path / "uninterrupted")


def test_a_second_run_finds_its_stream_and_leaves_it(rlds, stream, capsys):
    before = content(stream)
    assert run(rlds, stream) == 0
    assert "already complete" in capsys.readouterr().out
    assert content(stream) == before


def test_other_options_are_refused_and_overwrite_replaces(rlds, stream, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(rlds, out) == 0
    capsys.readouterr()
    assert run(rlds, out, "--images", "jpeg:60") == 2
    error = capsys.readouterr().err
    assert "'keep'" in error and "'jpeg:60'" in error and "--overwrite" in error
    assert content(out) == content(stream)
    assert run(rlds, out, "--images", "64x64:jpeg:60:crop", "--overwrite") == 0
    opened = open_stream(out)
    assert opened.manifest.options["images"] == "64x64:jpeg:60:crop"
    assert verify_stream(out, images=True).faults == []


def test_a_stream_that_lost_a_file_is_made_again(rlds, stream, tmp_path):
    out = tmp_path / "out"
    assert run(rlds, out) == 0
    (out / "episodes.parquet").unlink()
    assert run(rlds, out) == 0
    assert content(out) == content(stream)


def test_an_object_store_receives_the_same_stream(rlds, stream, tmp_path):
    import fsspec

    address = "memory://bucket/stream"
    assert main(["--rlds", str(rlds), "--out", address, "--shard_mb", "1", "--direct_running_mode", "in_memory"]) == 0
    filesystem = fsspec.filesystem("memory")
    filesystem.get("/bucket/stream", str(tmp_path / "copy"), recursive=True)
    assert content(tmp_path / "copy") == content(stream)


def with_faults(folder: Path, bad: int) -> Path:
    made = episodes()
    for episode in made[:bad]:
        frames = episode.images["wrist"]
        frames[-1] = frames[-1][:-30]
    return write_unified(folder, made, shards=FILES)


def test_a_bad_episode_is_set_aside_and_counted(tmp_path):
    rlds = with_faults(tmp_path, bad=1)
    assert run(rlds, tmp_path / "out") == 0
    manifest = open_stream(tmp_path / "out").manifest
    assert manifest.counts.episodes_in == EPISODES and manifest.counts.episodes_out == EPISODES - 1
    (fault,) = manifest.quarantine
    assert "images[wrist]" in fault.field and "truncated" in fault.reason and fault.episode.endswith("#0")
    assert verify_stream(tmp_path / "out").faults == []


def test_too_many_bad_episodes_stop_the_job_and_a_higher_ratio_goes_on_from_there(tmp_path, capsys):
    rlds = with_faults(tmp_path, bad=3)
    capsys.readouterr()
    assert run(rlds, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert f"3 of {EPISODES} episodes are bad" in error and "images[wrist]" in error
    assert not (tmp_path / "out" / MANIFEST).exists()
    assert run(rlds, tmp_path / "out", "--max-bad-ratio", "0.2") == 0
    assert f"{FILES} of {FILES} units were finished" in capsys.readouterr().out
    assert len(open_stream(tmp_path / "out").manifest.quarantine) == 3


def test_episodes_lost_with_the_end_of_a_file_are_counted(tmp_path):
    rlds = write_unified(tmp_path, episodes(), shards=FILES)
    file = sorted(rlds.glob("*tfrecord*"))[1]
    file.write_bytes(file.read_bytes()[:-10])
    assert run(rlds, tmp_path / "out") == 0
    manifest = open_stream(tmp_path / "out").manifest
    assert manifest.counts.episodes_in == EPISODES == manifest.counts.episodes_out + 1
    (fault,) = manifest.quarantine
    assert fault.episode == f"{file.name}#5" and "at byte" in fault.reason and "cut short" in fault.reason
    assert str(tmp_path) not in json.dumps(manifest.model_dump())


def test_bit_rot_inside_an_image_is_found_when_checksums_are_asked_for(tmp_path):
    rlds = write_unified(tmp_path, episodes(), shards=FILES)
    file = sorted(rlds.glob("*tfrecord*"))[0]
    damaged = bytearray(file.read_bytes())
    image = damaged.rindex(b"\xff\xd8\xff") + 700  # inside the last episode's last image
    damaged[image] ^= 1
    file.write_bytes(damaged)
    assert run(rlds, tmp_path / "unchecked") == 0
    assert open_stream(tmp_path / "unchecked").manifest.quarantine == []
    assert run(rlds, tmp_path / "checked", "--check_data") == 0
    (fault,) = open_stream(tmp_path / "checked").manifest.quarantine
    assert fault.episode == f"{file.name}#5" and "checksum" in fault.reason


def test_real_published_episodes_become_a_stream_through_their_spec(real_data, tmp_path, capsys):
    assert run(real_data / "bridge_rlds", tmp_path / "out") == 0
    assert "'val'" in capsys.readouterr().out
    opened = open_stream(tmp_path / "out")
    assert opened.manifest.counts.episodes_in == 25
    assert verify_stream(tmp_path / "out", images=True).faults == []
    assert set(opened.manifest.counts.split_episodes) <= {"train", "val"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--images", "png"], "--images 'png'"),
        (["--shard_mb", "0"], "--shard_mb 0"),
        (["--max_bad_ratio", "nan"], "--max_bad_ratio nan: must be 0 to 1"),
        (["--split", "trian"], "did you mean train"),
        (["--shard_bm", "3"], "did you mean --shard_mb"),
        (["--runner", "NoSuchRunner"], "NoSuchRunner"),
        (["--rlds", "/nowhere"], "no such folder"),
        (["--rlds", str(ROOT / "schemas")], "dataset_info.json"),
        (["--out", str(ROOT)], "not empty"),
        (["--out", str(ROOT / "README.md")], "README.md: is a file"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_2_before_anything_is_written(rlds, tmp_path, capsys, options, expected):
    assert run(rlds, tmp_path / "out", *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and expected in error
    assert not (tmp_path / "out").exists()


def test_a_manifest_of_a_newer_format_is_not_touched(rlds, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / MANIFEST).write_text('{"format": 99}')
    assert run(rlds, out) == 2
    assert "format 99" in capsys.readouterr().err
    assert (out / MANIFEST).read_text() == '{"format": 99}'


def test_beam_options_pass_through_and_only_what_was_not_said_is_added(rlds, tmp_path):
    plan = make_plan(rlds, OutputFolder(str(tmp_path)), ShardOptions(shard_mb=1))
    assert len(plan.units) > 1
    assert with_local_defaults(["--runner", "PortableRunner", "--job_endpoint=x"], plan) == [
        "--runner", "PortableRunner", "--job_endpoint=x",
    ]  # fmt: skip
    direct = with_local_defaults(["--runner=DirectRunner", "--direct_num_workers=3"], plan)
    assert direct[0] == "--direct_num_workers=3" and direct[-1].endswith("FnApiRunner")
    assert "--direct_running_mode" not in with_local_defaults([], plan)
