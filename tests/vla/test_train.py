"""The command as users run it: real processes on a small real stream."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from oxe_pipeline.mixture.mixture import load_mixture
from oxe_pipeline.train import main
from oxe_pipeline.train_arguments import PRESET_NAMES
from oxe_pipeline.vla.checkpoint import latest_checkpoint, load_checkpoint
from oxe_pipeline.vla.presets import PRESETS
from oxe_pipeline.vla.trained import load_trained
from tests.synthetic import make_episode, make_stream, write_stream

ROOT = Path(__file__).parents[2]
BATCH, STEPS, EVERY = 4, 16, 4
TIMES = ("samples_per_s", "wait_share", "memory_mb")


@pytest.fixture(scope="module")
def mixture_file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mixture")
    make_stream(folder / "one", "one", episodes=6, held_out=1)
    make_stream(folder / "two", "two", episodes=4, held_out=0, cameras=("primary",))
    path = folder / "mix.yaml"
    path.write_text("seed: 5\ndatasets:\n- {name: one, path: one, weight: 2}\n- {name: two, path: two}\n")
    return path


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "oxe_pipeline.train", *map(str, words), "--device", "cpu"]


def fresh(mixture_file: Path, out: Path) -> list[object]:
    sizes = ("--steps", STEPS, "--batch-size", BATCH, "--checkpoint-every", EVERY, "--evaluate-every", EVERY)
    return ["--mixture", mixture_file, "--preset", "nano", "--out", out, "--chunk", 2, *sizes]


def finish(words: list[str]) -> subprocess.CompletedProcess:
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def finish_here(*words: object) -> None:
    """In this process: starting one takes longer than the run."""
    assert main([*map(str, words), "--device", "cpu"]) == 0


def metrics(run: Path) -> list[dict]:
    """All records, without what a clock says."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in record.items() if name not in TIMES} for record in records]


@pytest.fixture(scope="module")
def straight(mixture_file, tmp_path_factory) -> Path:
    """A run of all steps without a stop."""
    run = tmp_path_factory.mktemp("runs") / "straight"
    finish_here(*fresh(mixture_file, run))
    return run


def test_a_run_killed_and_resumed_is_the_run_that_was_never_stopped(straight, mixture_file, tmp_path):
    run = tmp_path / "killed"
    words, quiet = command(*fresh(mixture_file, run)), subprocess.DEVNULL
    process = subprocess.Popen(words, cwd=ROOT, stderr=quiet, env={**os.environ, "OMP_NUM_THREADS": "1"})
    log = run / "metrics.jsonl"
    while process.poll() is None and not (log.is_file() and log.read_text().count('"samples"') > STEPS // 2):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the process ended before it could be killed"
    stopped_at = load_checkpoint(latest_checkpoint(run)).step
    assert 0 < stopped_at < STEPS and len(metrics(run)) < len(metrics(straight))

    finish_here("--out", run, "--resume")
    assert metrics(run) == metrics(straight)
    one, other = (load_checkpoint(latest_checkpoint(folder)) for folder in (run, straight))
    assert one.step == other.step == STEPS
    assert one.weights.keys() == other.weights.keys()
    assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


def test_each_step_trains_on_the_samples_its_metrics_name(straight, mixture_file):
    steps = [record for record in metrics(straight) if "samples" in record]
    assert [record["samples"] for record in steps] == [[BATCH * i, BATCH * (i + 1)] for i in range(STEPS)]
    mixture = load_mixture(mixture_file)
    for record in steps:
        assert set(record["loss_per_dataset"]) == {sample.dataset for sample in mixture.samples(*record["samples"])}


def test_the_run_folder_holds_what_its_reader_needs(straight):
    trained = load_trained(straight)
    assert trained.step == STEPS and trained.config.model.chunk == 2 and trained.config.batch_size == BATCH
    assert set(trained.normalizers) == {"one", "two"} and set(trained.normalizers["one"]) == {"action", "state"}
    first_batch = (straight / "first_batch.txt").read_text()
    assert "image_primary" in first_batch and "task: " in first_batch and "arm0.gripper" in first_batch
    held_out = [record["held_out"] for record in metrics(straight) if "held_out" in record]
    assert len(held_out) == STEPS // EVERY and set(held_out[0]) == {"one"}


def test_the_trainer_and_the_evaluation_never_load_tensorflow(mixture_file, tmp_path):
    check = (
        "import sys; from oxe_pipeline import eval, train\n"
        "assert train.main(sys.argv[2:]) == 0 and eval.main([sys.argv[1]]) == 0\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "assert 'torch' in loaded and not loaded & {'tensorflow', 'tensorflow_datasets', 'apache_beam', 'keras'}"
    )
    words = ["--mixture", str(mixture_file), "--out", str(tmp_path / "run"), "--steps", "1", "--batch-size", "2"]
    finish([sys.executable, "-c", check, str(tmp_path / "run"), *words])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--preset", "nanoo"], "no preset 'nanoo'; did you mean nano?"),
        (["--steps", "0"], "steps must be a whole number of 1 or more, is 0"),
        (["--batch-size", "-1"], "batch_size must be"),
        (["--history", "9"], "max_history 4"),
        (["--batch-size", "4", "--micro-batches", "5"], "4 samples, fewer than micro_batches 5"),
        (["--mixture", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["--resume"], "no checkpoint"),
        (["--freeze", "backbone.image_encodr"], "matches no parameter; there are backbone.image_encoder"),
        (["--tiny"], "preset nano has no tiny form"),
        (["--backbone", "some/model"], "preset nano is trained from random weights"),
        (
            ["--texts", "nowhere.jsonl"],
            "head bin_tokens learns no texts; leave them out, or use --preset rt2 or palm_e",
        ),
        (["--preset", "rt2", "--tiny", "--texts", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--preset", "octo", "--tiny", "--freeze", "heed"], "'heed' matches no parameter"),
        (["--keep-best"], "give evaluate_every as well"),
        (["--cameras", "front"], "'front' is unknown"),
        (["--cameras", "wrist_left"], "no data set of the mixture has a camera wrist_left"),
    ],
)
def test_wrong_arguments_get_one_line_and_leave_nothing_behind(words, message, mixture_file, tmp_path, capsys):
    out = tmp_path / "run"
    given = ["--mixture", str(mixture_file)] if "--mixture" not in words else []
    assert main([*given, "--out", str(out), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not out.exists()


def test_a_missing_package_is_told_before_anything_is_written(mixture_file, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main(["--mixture", str(mixture_file), "--out", str(tmp_path / "run"), "--wandb", "arm"]) == 2
    assert "pip install wandb, or leave --wandb out" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_a_false_start_in_an_empty_folder_leaves_it_empty_for_the_next_attempt(mixture_file, tmp_path):
    words = ["--mixture", str(mixture_file), "--out", str(tmp_path), "--preset", "octo", "--tiny", "--freeze", "heed"]
    assert main(words) == 2 and not any(tmp_path.iterdir())


def test_the_help_names_every_preset():
    assert set(PRESET_NAMES) == set(PRESETS)


def test_a_run_stopped_by_hand_says_how_to_go_on(mixture_file, tmp_path, capsys):
    run = tmp_path / "run"

    def stop() -> None:
        log = run / "metrics.jsonl"
        while not (log.is_file() and log.read_text().count('"samples"') >= 3):
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    words = ["--mixture", str(mixture_file), "--out", str(run), "--steps", "100000", "--batch-size", "2"]
    threading.Thread(target=stop, daemon=True).start()
    assert main([*words, "--checkpoint-every", "2"]) == 130
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "stopped" in line]
    newest = latest_checkpoint(run)
    assert line == f"stopped; give --out {run} --resume to go on from {newest.name}"
    assert main(["--out", str(run), "--resume", "--steps", str(load_checkpoint(newest).step + 1)]) == 0


def test_texts_that_cannot_be_used_are_told_and_their_share_is_known_on_resume(mixture_file, tmp_path, capsys):
    good = '{"prompt": "Q: 1+1? A:", "target": "2"}\n'
    (tmp_path / "texts.jsonl").write_text(25 * good + '{"prompt": "Q: 1+2? A:"}\n')
    texts, run = ["--texts", str(tmp_path / "texts.jsonl")], tmp_path / "run"
    words = ["--mixture", str(mixture_file), "--out", str(run), "--preset", "rt2", "--tiny", "--batch-size", "3"]
    assert main([*words, *texts, "--text-share", "0.25", "--steps", "1", "--checkpoint-every", "1"]) == 0
    told = capsys.readouterr().err
    assert "texts: 1 of 26 set aside, the first: texts.jsonl: line 26: target: must be a text, is missing\n" in told
    assert main(["--out", str(run), "--resume", *texts, "--steps", "2"]) == 0
    assert [record["text_samples"] for record in metrics(run) if "loss" in record] == [1, 1]


def test_an_unreadable_image_stops_training_or_is_replaced_as_asked(tmp_path, capsys):
    folder = make_stream(tmp_path / "spoilt", "spoilt", episodes=2, steps=4)
    for path in folder.rglob("*.images.arrow"):
        path.write_bytes(path.read_bytes().replace(b"\xff\xd8\xff", b"\0\0\0", 1))
    mixture_file = tmp_path / "mix.yaml"
    mixture_file.write_text("datasets:\n- {name: spoilt, path: spoilt}\n")
    words = ["--mixture", str(mixture_file), "--steps", "2", "--batch-size", "8"]
    assert main([*words, "--out", str(tmp_path / "stopped")]) == 2
    error = capsys.readouterr().err
    assert "spoilt: episode episode_0" in error and "--on-corrupt substitute" in error
    assert main([*words, "--out", str(tmp_path / "run"), "--on-corrupt", "substitute"]) == 0
    assert sum(record.get("images_replaced", 0) for record in metrics(tmp_path / "run")) > 0


def test_a_folder_with_something_in_it_is_refused_and_left_alone(mixture_file, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["--mixture", str(mixture_file), "--out", str(tmp_path)]) == 2
    assert "is not empty; name a new folder, or give --resume" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_what_the_run_has_settled_cannot_be_changed_on_resume(straight, capsys):
    assert main(["--out", str(straight), "--resume", "--batch-size", "8"]) == 2
    assert "--batch-size is settled by the run" in capsys.readouterr().err
    assert main(["--out", str(straight), "--resume"]) == 2
    assert f"has done all of its {STEPS} steps" in capsys.readouterr().err


def test_options_reach_the_configuration_and_how_it_is_computed_may_change_on_resume(mixture_file, tmp_path):
    run = tmp_path / "run"
    words = ["--mixture", mixture_file, "--out", run, "--device", "cpu", "--batch-size", 4, "--steps", 1, "--augment"]
    words += ["--schedule", "rsqrt", "--normalizer", "min_max", "--lora-rank", 2, "--cameras", "wrist", "primary"]
    assert main([str(word) for word in words]) == 0
    config = load_trained(run).config
    assert (config.schedule, config.normalizer, config.lora_rank) == ("rsqrt", "min_max", 2)
    assert config.cameras == ("wrist", "primary") and config.augment is not None and config.micro_batches == 1
    again = ["--out", run, "--resume", "--device", "cpu", "--steps", 2, "--micro-batches", 2, "--sharding", "fsdp"]
    assert main([str(word) for word in again]) == 0
    config = load_trained(run).config
    assert (config.micro_batches, config.sharding, config.lora_rank) == (2, "fsdp", 2)


def test_data_without_an_action_slot_are_refused_by_name_before_anything_is_written(tmp_path, capsys):
    episode = make_episode(0, dataset="hand", steps=6)
    write_stream(tmp_path / "hand", [replace(episode, action=0 * episode.action, action_mask=~np.ones(32, bool))])
    mixture = tmp_path / "mix.yaml"
    mixture.write_text("seed: 5\ndatasets:\n- {name: hand, path: hand}\n")
    assert main(["--mixture", str(mixture), "--out", str(tmp_path / "run")]) == 2
    assert "no action slot in hand: nothing to learn there" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
