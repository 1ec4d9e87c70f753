"""The stations joined, by the commands a user types: what goes in at one end comes out at the other."""

import hashlib
import json
import shutil
import sys

import numpy as np
import pytest

from oxe_pipeline.mix import main as mix
from oxe_pipeline.stream.format import read_manifest
from oxe_pipeline.stream.reader import open_stream
from oxe_pipeline.train import main as train
from oxe_pipeline.verify import main as verify
from tests.conftest import ROOT, run_command, shard, tfds_build


def digests(images) -> set[str]:
    return {hashlib.sha256(image).hexdigest() for image in images}


def test_image_bytes_are_the_same_in_the_raw_folder_and_in_the_stream(demo_streams):
    stream = open_stream(demo_streams / "metaworld_bridge")
    raw = digests(path.read_bytes() for path in (ROOT / "samples" / "metaworld_bridge").rglob("im_*.jpg"))
    carried = digests(
        bytes(stream.image(episode, step, camera))
        for episode in range(len(stream.episodes))
        for step in range(stream.episodes.length[episode])
        for camera in ("primary", "secondary")
        if stream.episodes.has_camera(camera)[episode]
    )
    assert carried and carried <= raw


@pytest.mark.parametrize("name", ["metaworld_bridge", "metaworld_libero"])
def test_demo_streams_are_sound_in_every_hash_count_and_image(demo_streams, name, capsys):
    assert verify([str(demo_streams / name), "--images"]) == 0
    assert ": sound; identity " in capsys.readouterr().out


def test_an_episode_that_the_builder_set_aside_is_counted_in_the_manifest(tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(ROOT / "samples" / "metaworld_bridge", raw)
    spoilt = sorted(raw.rglob("im_3.jpg"))[0]
    spoilt.write_bytes(spoilt.read_bytes()[:-200])
    tfds_build("bridge", "metaworld_bridge", raw, tmp_path / "rlds")
    shard(tmp_path / "rlds" / "bridge" / "metaworld_bridge" / "1.0.0", tmp_path / "stream")
    manifest = read_manifest(tmp_path / "stream")
    assert (manifest.counts.episodes_in, manifest.counts.episodes_out) == (36, 35)
    (fault,) = manifest.quarantine
    assert spoilt.parent.parent.name in fault.episode and "image" in fault.field


def test_real_bridge_episodes_go_from_published_rlds_to_a_training_step(real_data, tmp_path, capsys):
    tfds_build("oxe", "bridge_dataset", real_data / "bridge_rlds", tmp_path / "rlds")
    shard(tmp_path / "rlds" / "oxe" / "bridge_dataset" / "1.0.0", tmp_path / "streams" / "bridge_dataset")
    assert verify([str(tmp_path / "streams" / "bridge_dataset"), "--images"]) == 0

    stream = open_stream(tmp_path / "streams" / "bridge_dataset")
    assert stream.manifest.counts.episodes_in == 25
    action = np.concatenate([stream.vector("action", episode) for episode in range(len(stream.episodes))])
    assert np.abs(action[:, :3]).max() < 0.15, "a WidowX does not move further than this in 0.2 s [m]"
    assert np.abs(action[:, 3:6]).max() < 1.0, "nor turn further [rad]"
    assert set(np.unique(action[:, 6])) <= {0.0, 1.0}

    mixture_file, out = tmp_path / "mix.yaml", tmp_path / "run"
    words = ["--root", str(tmp_path / "streams"), "--weights", "bridge_dataset=1", "--out", str(mixture_file)]
    assert mix(words) == 0
    assert train(["--mixture", str(mixture_file), "--steps", "2", "--batch-size", "8", "--out", str(out)]) == 0
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records if "loss" in record]
    assert len(losses) == 2 and all(np.isfinite(losses))
    capsys.readouterr()
    report = run_command(sys.executable, "-m", "oxe_pipeline.eval", out)
    assert "arm0.eef_rotation_delta.x" in report.stdout and " rad " in report.stdout


def test_unified_rlds_of_the_samples_opens_with_plain_tfds_and_shows_sane_values(demo_rlds):
    tfds = pytest.importorskip("tensorflow_datasets")
    for folder in demo_rlds.values():
        builder = tfds.builder_from_directory(folder)
        episode = next(iter(tfds.as_numpy(builder.as_dataset(split="train[:1]"))))
        steps = list(episode["steps"])
        mask = episode["episode_metadata"]["action_mask"]
        assert steps[0]["is_first"] and steps[-1]["is_last"] and len(steps) > 3
        assert all(np.abs(step["action"][~mask]).max() == 0 for step in steps)
        assert all(step["observation"]["image_primary"].std() > 10 for step in steps)
        assert steps[0]["language_instruction"].decode().isprintable()
