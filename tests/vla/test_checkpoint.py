import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from oxe_pipeline.vla.checkpoint import (
    CHECKPOINT_FORMAT,
    Checkpoint,
    CheckpointError,
    best_checkpoint,
    frozen_file,
    latest_checkpoint,
    list_checkpoints,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)


def make_checkpoint(step: int, *, size: int = 8, average: bool = False, best: dict | None = None) -> Checkpoint:
    weights = {"w": torch.full((size,), float(step))}
    return Checkpoint(
        step=step,
        weights=weights,
        average={"w": weights["w"] + 0.5} if average else None,
        frozen={},
        training={"optimizer": {"moment": torch.full((size,), float(step))}, "random": {"cpu": torch.get_rng_state()}},
        state={"note": f"step {step}", "best": best or {}},
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


def test_frozen_weights_are_one_file_for_all_checkpoints_of_a_run(tmp_path):
    assert frozen_file(tmp_path) is None
    frozen = {"tower.w": torch.arange(4.0)}
    first = save_checkpoint(tmp_path, replace(make_checkpoint(5), frozen=frozen), keep=2)
    second = save_checkpoint(tmp_path, replace(make_checkpoint(10, average=True), frozen=None), keep=2)
    assert (first / "frozen.safetensors").samefile(second / "frozen.safetensors")
    third = save_checkpoint(tmp_path, replace(make_checkpoint(15), frozen=None), keep=1)
    assert list_checkpoints(tmp_path) == [third] and frozen_file(tmp_path) == third / "frozen.safetensors"
    loaded = load_checkpoint(third)
    assert torch.equal(loaded.frozen["tower.w"], frozen["tower.w"]) and loaded.weights["w"][0] == 15
    assert load_weights(third).keys() == {"w", "tower.w"}, "acting needs both"
    with open(third / "frozen.safetensors", "ab") as file:
        file.write(b"x")
    with pytest.raises(CheckpointError, match=r"frozen\.safetensors: .* bytes, should be"):
        load_checkpoint(third)


def test_where_files_cannot_be_linked_frozen_weights_are_copied(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    save_checkpoint(tmp_path, replace(make_checkpoint(5), frozen={"tower.w": torch.ones(2)}), keep=1)
    second = save_checkpoint(tmp_path, replace(make_checkpoint(10), frozen=None), keep=1)
    assert load_checkpoint(second).frozen["tower.w"].tolist() == [1, 1]


def test_a_first_checkpoint_without_the_frozen_weights_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no earlier checkpoint of this run holds its frozen weights"):
        save_checkpoint(tmp_path, replace(make_checkpoint(5), frozen=None), keep=1)
    assert not list_checkpoints(tmp_path)


def test_a_checkpoint_may_be_read_by_whom_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        folder = save_checkpoint(tmp_path, replace(make_checkpoint(3), frozen={"v": torch.ones(2)}), keep=1)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in folder.iterdir() if path.is_file()}
    assert modes == {0o640}


def test_only_the_newest_are_kept(tmp_path):
    for step in (5, 10, 100, 1000):
        save_checkpoint(tmp_path, make_checkpoint(step), keep=2)
    assert [load_checkpoint(folder).step for folder in list_checkpoints(tmp_path)] == [100, 1000]
    assert load_checkpoint(latest_checkpoint(tmp_path)).step == 1000


def test_the_best_is_kept_beside_the_newest_until_a_better_one_comes(tmp_path):
    for step, best in ((5, 5), (10, 5), (15, 5), (20, 20), (25, 20)):
        save_checkpoint(tmp_path, make_checkpoint(step, best={"step": best, "error": 1 / best}), keep=1)
        assert load_checkpoint(best_checkpoint(tmp_path)).step == best
    assert [load_checkpoint(folder).step for folder in list_checkpoints(tmp_path)] == [20, 25]
    assert load_checkpoint(latest_checkpoint(tmp_path)).step == 25


def test_a_run_that_kept_no_best_says_so(tmp_path):
    save_checkpoint(tmp_path, make_checkpoint(5), keep=1)
    with pytest.raises(CheckpointError, match=r"best\.json: cannot be read .*; train with --keep-best"):
        best_checkpoint(tmp_path)


def test_the_parts_of_a_backbone_are_in_the_checkpoint_and_their_damage_is_seen(tmp_path):
    def save_parts(folder: Path) -> None:
        (folder / "tokenizer").mkdir()
        (folder / "tokenizer" / "words.txt").write_text("red block")

    folder = save_checkpoint(tmp_path, make_checkpoint(3), keep=1, save_parts=save_parts)
    loaded = load_checkpoint(folder)
    assert (loaded.parts / "tokenizer" / "words.txt").read_text() == "red block"
    (loaded.parts / "tokenizer" / "words.txt").write_text("red")
    with pytest.raises(CheckpointError, match=r"words\.txt: 3 bytes, should be 9"):
        load_checkpoint(folder)


def test_a_checkpoint_of_an_older_format_is_refused_with_the_remedy(tmp_path):
    folder = save_checkpoint(tmp_path, make_checkpoint(3), keep=1)
    state = folder / "state.json"
    state.write_text(state.read_text().replace(f'"format": {CHECKPOINT_FORMAT}', '"format": 1'))
    with pytest.raises(CheckpointError, match=r"checkpoint format 1, this version reads .*; train anew"):
        load_checkpoint(folder)


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


def test_kill_9_in_the_middle_of_writing_leaves_whole_checkpoints(tmp_path):
    endless = (
        "import itertools, pathlib, sys; from tests.vla.test_checkpoint import make_checkpoint, save_checkpoint\n"
        "run = pathlib.Path(sys.argv[1])\n"
        "for step in itertools.count(int(sys.argv[2])):\n"
        "    checkpoint = make_checkpoint(step, size=1_000_000, best={'step': step // 3 * 3, 'error': 1.0})\n"
        "    save_checkpoint(run, checkpoint, keep=1)"
    )
    cut_short, first = 0, 3
    for number in (4, 7):
        words = [sys.executable, "-c", endless, str(tmp_path), str(first)]
        process = subprocess.Popen(words, cwd=Path(__file__).parents[2])
        while process.poll() is None and not any((tmp_path / "checkpoints").glob(f".step_{first + number:08d}*.part")):
            time.sleep(0.0005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        cut_short += any((tmp_path / "checkpoints").glob(".step_*.part"))
        for folder in (latest_checkpoint(tmp_path), best_checkpoint(tmp_path)):
            loaded = load_checkpoint(folder)
            assert (loaded.weights["w"] == loaded.step).all()
            assert (loaded.training["optimizer"]["moment"] == loaded.step).all()
        first = 3 * load_checkpoint(latest_checkpoint(tmp_path)).step
    assert cut_short, "none of the kills fell into the writing of a checkpoint"
