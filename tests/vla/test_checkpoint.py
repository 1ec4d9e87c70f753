import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from oxe_pipeline.vla.checkpoint import (
    Checkpoint,
    CheckpointError,
    latest_checkpoint,
    list_checkpoints,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)


def make_checkpoint(step: int, *, size: int = 8, average: bool = False) -> Checkpoint:
    weights = {"w": torch.full((size,), float(step))}
    return Checkpoint(
        step=step,
        weights=weights,
        average={"w": weights["w"] + 0.5} if average else None,
        training={"optimizer": {"moment": torch.full((size,), float(step))}, "random": {"cpu": torch.get_rng_state()}},
        state={"note": f"step {step}"},
    )


def test_what_is_loaded_is_what_was_saved(tmp_path):
    saved = make_checkpoint(7, average=True)
    folder = save_checkpoint(tmp_path, saved, keep=2)
    loaded = load_checkpoint(folder)
    assert (
        loaded.step == 7 and loaded.state["note"] == "step 7" and loaded.state["versions"]["torch"] == torch.__version__
    )
    assert torch.equal(loaded.weights["w"], saved.weights["w"])
    assert torch.equal(loaded.average["w"], saved.average["w"])
    assert torch.equal(loaded.training["random"]["cpu"], saved.training["random"]["cpu"])
    assert load_weights(folder)["w"][0] == 7.5, "the averaged weights are those to act with"


def test_only_the_newest_are_kept(tmp_path):
    for step in (5, 10, 100, 1000):
        save_checkpoint(tmp_path, make_checkpoint(step), keep=2)
    assert [load_checkpoint(folder).step for folder in list_checkpoints(tmp_path)] == [100, 1000]
    assert load_checkpoint(latest_checkpoint(tmp_path)).step == 1000


def test_a_half_written_checkpoint_is_not_seen_and_cleared_away(tmp_path):
    whole = save_checkpoint(tmp_path, make_checkpoint(3), keep=2)
    half = whole.with_name(".step_00000006.123.part")
    half.mkdir()
    (half / "model.safetensors").write_bytes((whole / "model.safetensors").read_bytes()[:20])
    assert latest_checkpoint(tmp_path) == whole
    save_checkpoint(tmp_path, make_checkpoint(9), keep=2)
    assert not half.exists()


def test_a_damaged_checkpoint_is_named_with_the_remedy(tmp_path):
    folder = save_checkpoint(tmp_path, make_checkpoint(3), keep=2)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: .* bytes, should be .*; remove this checkpoint"):
        load_checkpoint(folder)


def test_no_code_in_a_checkpoint_is_run(tmp_path):
    class Intruder:
        def __reduce__(self):
            return Path.touch, (tmp_path / "intruded",)

    checkpoint = make_checkpoint(1)
    checkpoint.training["optimizer"] = Intruder()
    folder = save_checkpoint(tmp_path, checkpoint, keep=1)
    with pytest.raises(Exception, match=r"weights_only|Weights only"):
        load_checkpoint(folder)
    assert not (tmp_path / "intruded").exists()


def test_an_empty_run_has_no_checkpoint_to_resume(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint"):
        latest_checkpoint(tmp_path)


def test_kill_9_at_any_moment_leaves_a_whole_newest_checkpoint(tmp_path):
    endless = (
        "import itertools, pathlib, sys; from tests.vla.test_checkpoint import make_checkpoint, save_checkpoint\n"
        "run = pathlib.Path(sys.argv[1])\n"
        "for step in itertools.count(1): save_checkpoint(run, make_checkpoint(step, size=100_000), keep=1)"
    )
    for delay_s in (0.05, 0.13):
        process = subprocess.Popen([sys.executable, "-c", endless, str(tmp_path)], cwd=Path(__file__).parents[2])
        before = list_checkpoints(tmp_path)
        while list_checkpoints(tmp_path) == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(delay_s)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        loaded = load_checkpoint(latest_checkpoint(tmp_path))
        assert (loaded.weights["w"] == loaded.step).all() and (
            loaded.training["optimizer"]["moment"] == loaded.step
        ).all()
