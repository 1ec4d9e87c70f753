import json
from dataclasses import replace

import pytest
import torch

from oxe_pipeline.mixture.mixture import load_mixture
from oxe_pipeline.vla.checkpoint import latest_checkpoint, list_checkpoints, load_checkpoint
from oxe_pipeline.vla.presets import preset
from oxe_pipeline.vla.train_loop import TrainingError, train
from tests.synthetic import make_stream

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def mixture_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture")
    make_stream(folder / "one", "one", episodes=4, held_out=0)
    path = folder / "mix.yaml"
    path.write_text("datasets:\n- {name: one, path: one}\n")
    return path


def losses(run) -> list[float]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [record["loss"] for record in records if "loss" in record]


def run_nano(mixture_file, run, **changes):
    config = preset("nano", **{"steps": 3, "batch_size": 6, "chunk": 2, **changes})
    train(config, load_mixture(mixture_file), run, mixture_file=mixture_file, device=CPU)
    return run


def test_micro_batches_change_memory_and_not_the_optimisation(mixture_file, tmp_path):
    whole = run_nano(mixture_file, tmp_path / "whole")
    pieces = run_nano(mixture_file, tmp_path / "pieces", micro_batches=4)
    assert losses(pieces) == pytest.approx(losses(whole), rel=1e-4)


def test_the_same_run_twice_has_the_same_losses_to_the_last_bit(mixture_file, tmp_path):
    one, other = (losses(run_nano(mixture_file, tmp_path / name)) for name in ("one", "other"))
    assert one == other and len(set(one)) == 3
    assert losses(run_nano(mixture_file, tmp_path / "seed", seed=1)) != one


def test_averaged_weights_are_kept_beside_the_trained_ones_and_resumed(mixture_file, tmp_path):
    straight = run_nano(mixture_file, tmp_path / "straight", ema_decay=0.9, steps=4)
    run = run_nano(mixture_file, tmp_path / "run", ema_decay=0.9, steps=4, checkpoint_every=2, keep_checkpoints=2)
    halfway = load_checkpoint(run / "checkpoints" / "step_00000002")
    assert any(not torch.equal(halfway.average[name], halfway.weights[name]) for name in halfway.weights)
    config = preset("nano", steps=4, batch_size=6, chunk=2, ema_decay=0.9)
    mixture = load_mixture(mixture_file)
    train(config, mixture, tmp_path / "run", mixture_file=mixture_file, device=CPU, resume=halfway)
    one, other = (load_checkpoint(latest_checkpoint(folder)) for folder in (run, straight))
    assert all(torch.equal(one.average[name], other.average[name]) for name in one.average)


def test_bf16_trains_close_to_float32(mixture_file, tmp_path):
    full = losses(run_nano(mixture_file, tmp_path / "fp32"))
    half = losses(run_nano(mixture_file, tmp_path / "bf16", precision="bf16"))
    assert half == pytest.approx(full, rel=0.02) and half != full


def test_a_loss_that_is_not_finite_stops_the_run_and_names_step_and_samples(mixture_file, tmp_path):
    with pytest.raises(TrainingError) as caught:
        run_nano(mixture_file, tmp_path, learning_rate=1e37, warmup_steps=0)
    message = str(caught.value)
    assert message.startswith("step 2: loss nan, gradient norm nan; samples: ")
    for sample in load_mixture(mixture_file).samples(6, 12):
        assert f"{sample.dataset} episode {sample.episode_id} step {sample.step}" in message
    assert len(losses(tmp_path)) == 1 and not list_checkpoints(tmp_path)


def test_a_run_resumes_with_a_larger_number_of_steps(mixture_file, tmp_path):
    run_nano(mixture_file, tmp_path, steps=2, schedule="constant")
    checkpoint = load_checkpoint(latest_checkpoint(tmp_path))
    config = replace(preset("nano", batch_size=6, chunk=2, schedule="constant"), steps=4)
    train(config, load_mixture(mixture_file), tmp_path, mixture_file=mixture_file, device=CPU, resume=checkpoint)
    straight = run_nano(mixture_file, tmp_path / "straight", steps=4, schedule="constant")
    assert losses(tmp_path) == losses(straight)
