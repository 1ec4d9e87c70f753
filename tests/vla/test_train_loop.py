import json
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from PIL import Image, ImageChops

from oxe_pipeline.loader.augment import AugmentOptions
from oxe_pipeline.loader.loader import make_loader
from oxe_pipeline.mixture.data_identity import StateError
from oxe_pipeline.mixture.mixture import load_mixture
from oxe_pipeline.vla.backbones.tiny import write_tiny
from oxe_pipeline.vla.backbones.vlm import VLMConfig
from oxe_pipeline.vla.checkpoint import best_checkpoint, latest_checkpoint, list_checkpoints, load_checkpoint
from oxe_pipeline.vla.heads.chunk_l1 import ChunkL1Config
from oxe_pipeline.vla.heads.text_tokens import TextTokensConfig
from oxe_pipeline.vla.model import VLA, ModelConfig
from oxe_pipeline.vla.presets import preset
from oxe_pipeline.vla.text_examples import open_text_examples
from oxe_pipeline.vla.text_stream import TextStream
from oxe_pipeline.vla.train_loop import TrainingError, train
from oxe_pipeline.vla.trained import load_trained
from tests.synthetic import make_stream

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def mixture_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture")
    make_stream(folder / "one", "one", episodes=4, held_out=0)
    path = folder / "mix.yaml"
    path.write_text("datasets:\n- {name: one, path: one}\n")
    return path


def records(run) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run) -> list[float]:
    return [record["loss"] for record in records(run) if "loss" in record]


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


def test_a_model_with_weights_that_no_loss_reaches_resumes_exactly(mixture_file, tmp_path):
    """The language model's output layer, beside a head of its own."""
    config = preset("oft", tiny=tmp_path / "tiny", steps=2, batch_size=2, chunk=1, checkpoint_every=1)
    words = {"mixture_file": mixture_file, "device": CPU}
    train(config, load_mixture(mixture_file), tmp_path / "straight", **words)
    halfway = load_checkpoint(list_checkpoints(tmp_path / "straight")[0])
    assert not any("output" in name for name in halfway.training["optimizer"]["state"])
    train(config, load_mixture(mixture_file), tmp_path / "again", resume=halfway, **words)
    assert losses(tmp_path / "again") == losses(tmp_path / "straight")[1:]
    one, other = (load_checkpoint(latest_checkpoint(tmp_path / name)) for name in ("straight", "again"))
    assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)
    assert one.training["optimizer"]["state"].keys() == other.training["optimizer"]["state"].keys()


def test_a_run_with_adapters_in_bf16_keeps_its_frozen_weights_once_and_resumes_exactly(mixture_file, tmp_path):
    changes = {"steps": 3, "batch_size": 2, "chunk": 1, "checkpoint_every": 1, "precision": "bf16"}
    config = preset("openvla", tiny=tmp_path / "tiny", lora_rank=4, **changes)
    words = {"mixture_file": mixture_file, "device": CPU}
    train(config, load_mixture(mixture_file), tmp_path / "straight", **words)
    folders = list_checkpoints(tmp_path / "straight")
    first, last = (folder / "frozen.safetensors" for folder in folders)
    assert first.samefile(last)
    halfway = load_checkpoint(folders[0])
    assert all("lora_" in name or not name.startswith("backbone.language.") for name in halfway.weights)
    bf16 = {name for name, value in halfway.frozen.items() if value.dtype == torch.bfloat16}
    assert bf16 and all(name.endswith(("base_layer.weight", "output.weight")) for name in bf16)
    train(config, load_mixture(mixture_file), tmp_path / "again", resume=halfway, **words)
    assert losses(tmp_path / "again") == losses(tmp_path / "straight")[2:]
    one, other = (load_trained(tmp_path / name).model.state_dict() for name in ("straight", "again"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_each_metric_of_the_head_and_what_the_step_cost_are_recorded(mixture_file, tmp_path):
    first, *_ = records(run_nano(mixture_file, tmp_path))
    assert {"loss", "token_accuracy", "loss_per_dataset", "gradient_norm", "learning_rate"} < first.keys()
    assert 0 <= first["wait_share"] <= 1 and first["samples_per_s"] > 0 and first["memory_mb"] > 50
    assert first["loss_per_dataset"]["one"] == pytest.approx(first["loss"])


def test_heads_without_token_accuracy_train_and_are_evaluated(mixture_file, tmp_path):
    make_stream(tmp_path / "held", "held", episodes=3, held_out=1)
    (tmp_path / "mix.yaml").write_text("datasets:\n- {name: held, path: held}\n")
    config = preset("nano", steps=2, batch_size=4, chunk=2)
    config = replace(config, model=replace(config.model, head=ChunkL1Config()))
    run = tmp_path / "run"
    train(config, load_mixture(tmp_path / "mix.yaml"), run, mixture_file=tmp_path / "mix.yaml", device=CPU)
    *steps, held_out = records(run)
    assert len(steps) == 2 and "token_accuracy" not in steps[0] and held_out["held_out"]["held"]["windows"] > 0


def test_one_batch_again_and_again_is_learnt_by_heart_and_goes_on_after_a_stop(mixture_file, tmp_path):
    changes = {"steps": 80, "batch_size": 4, "chunk": 1, "checkpoint_every": 40, "overfit_batch": True}
    run = run_nano(mixture_file, tmp_path / "run", **changes)
    seen = records(run)
    assert {tuple(record["samples"]) for record in seen} == {(0, 4)} and "held_out" not in seen[-1]
    assert seen[0]["loss"] > 4 and seen[-1]["loss"] < 0.1

    resume = load_checkpoint(run / "checkpoints" / "step_00000040")
    config = preset("nano", **{**changes, "steps": 45})
    train(config, load_mixture(mixture_file), tmp_path / "again", mixture_file=mixture_file, device=CPU, resume=resume)
    assert [r["samples"] for r in records(tmp_path / "again")] == [[0, 4]] * 5
    assert records(tmp_path / "again")[0]["loss"] == seen[40]["loss"]


def test_images_are_augmented_by_sample_whatever_the_micro_batches(mixture_file, tmp_path):
    plain = losses(run_nano(mixture_file, tmp_path / "plain"))
    augmented = losses(run_nano(mixture_file, tmp_path / "whole", augment=AugmentOptions()))
    pieces = losses(run_nano(mixture_file, tmp_path / "pieces", augment=AugmentOptions(), micro_batches=3))
    assert pieces == pytest.approx(augmented, rel=1e-4) and augmented[0] != pytest.approx(plain[0], rel=1e-5)


def test_the_first_batch_is_shown_as_it_is_trained_on(mixture_file, tmp_path):
    for name, options in (("plain", None), ("augmented", AugmentOptions(brightness=1.0))):
        config = preset("octo", tiny=tmp_path / f"{name}_tiny", steps=1, batch_size=6, history=1, augment=options)
        train(config, load_mixture(mixture_file), tmp_path / name, mixture_file=mixture_file, device=CPU)
    plain, augmented = (Image.open(tmp_path / name / "first_batch.png") for name in ("plain", "augmented"))
    assert plain.size == augmented.size and plain.width > 3 * 176
    assert ImageChops.difference(plain, augmented).getbbox() is not None
    text = (tmp_path / "plain" / "first_batch.txt").read_text()
    assert "image_goal" in text and "push block" in text and "normalised actions: share of values" in text


@pytest.mark.parametrize("mode", ["mean_std", "min_max", "none"])
def test_the_normaliser_of_the_configuration_is_that_of_batches_and_checkpoint(mode, mixture_file, tmp_path):
    run = run_nano(mixture_file, tmp_path, normalizer=mode, steps=1)
    saved = load_trained(run).normalizers["one"]["action"]
    statistics = load_mixture(mixture_file).datasets[0].stream.manifest.statistics["action"]
    numbers = statistics["arm0.eef_position_delta.y"]
    expected = {
        "mean_std": (numbers["mean"], numbers["std"]),
        "min_max": ((numbers["max"] + numbers["min"]) / 2, (numbers["max"] - numbers["min"]) / 2),
        "none": (0.0, 1.0),
    }[mode]
    assert (saved.offset[1], saved.scale[1]) == pytest.approx(expected, rel=1e-5)
    with make_loader(
        load_mixture(mixture_file), batch_size=6, chunk=2, normalizer=saved.config, image_size=8
    ) as loader:
        action = next(loader)["action"][:, :, 1]
    shown = next(line for line in (run / "first_batch.txt").read_text().splitlines() if "eef_position_delta.y" in line)
    inside = float((action.abs() <= 1).double().mean())
    assert sum(float(word.rstrip("%")) for word in shown.split()[2:6]) / 100 == pytest.approx(inside, abs=0.01)


def test_the_best_checkpoint_is_that_of_the_smallest_held_out_error(tmp_path):
    make_stream(tmp_path / "held", "held", episodes=3, held_out=2)
    mixture_file = tmp_path / "mix.yaml"
    mixture_file.write_text("datasets:\n- {name: held, path: held}\n")
    changes = {"steps": 5, "evaluate_every": 1, "checkpoint_every": 5, "keep_checkpoints": 1, "keep_best": True}
    run = run_nano(mixture_file, tmp_path / "run", warmup_steps=0, learning_rate=0.02, **changes)
    errors = {r["step"]: r["held_out"]["held"]["error_of_range"] for r in records(run) if "held_out" in r}
    assert len(errors) == 5
    best = min(errors, key=errors.get)
    assert load_checkpoint(best_checkpoint(run)).step == best
    assert json.loads((run / "best.json").read_text()) == {"step": best, "error": errors[best]}
    assert {load_checkpoint(folder).step for folder in list_checkpoints(run)} == {best, 5}


def test_compiled_layers_keep_the_names_of_their_weights(mixture_file, tmp_path):
    plain = run_nano(mixture_file, tmp_path / "plain", steps=1)
    with torch.compiler.set_stance("force_eager"):  # Compiling takes a minute.
        compiled = run_nano(mixture_file, tmp_path / "compiled", steps=1, compile=True, ema_decay=0.9)
    assert losses(compiled) == losses(plain)
    one, other = (load_checkpoint(latest_checkpoint(run)) for run in (plain, compiled))
    assert one.weights.keys() == other.weights.keys() == other.average.keys()


def test_data_without_held_out_episodes_cannot_have_a_best_checkpoint(mixture_file, tmp_path):
    with pytest.raises(ValueError, match="keep_best: no data set of the mixture has a held-out episode"):
        run_nano(mixture_file, tmp_path, keep_best=True, evaluate_every=1)


def test_a_model_that_reads_no_texts_refuses_them(mixture_file, tmp_path):
    (tmp_path / "texts.jsonl").write_text('{"prompt": "Q: 1+1? A:", "images": [], "target": "2"}\n')
    texts = TextStream(open_text_examples(tmp_path / "texts.jsonl"), share=0.5, batch_size=6, seed=0)
    words = (preset("nano", batch_size=6), load_mixture(mixture_file), tmp_path / "run")
    with closing(texts), pytest.raises(ValueError, match="backbone nano with head bin_tokens does not learn texts"):
        train(*words, mixture_file=mixture_file, device=CPU, texts=texts)


@pytest.fixture(scope="module")
def texts_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    Image.new("RGB", (40, 40), (200, 30, 30)).save(folder / "red.png")
    line = '{"prompt": "<image>Q: which colour? A:", "images": ["red.png"], "target": "red"}\n'
    (folder / "texts.jsonl").write_text(line + line.replace("which", "what"))
    return folder / "texts.jsonl"


def speaking(tmp_path, **changes):
    """A configuration of a model that learns texts, and what makes its TextStream."""
    source = tmp_path / "smolvlm"
    if not source.exists():
        write_tiny("smolvlm", source)
    model = ModelConfig(backbone=VLMConfig(source=str(source)), head=TextTokensConfig(bins=16))
    return replace(preset("nano", batch_size=4, checkpoint_every=1, **changes), model=model)


def stream_of(texts_file, share=0.5):
    return closing(TextStream(open_text_examples(texts_file), share=share, batch_size=4, seed=0))


def test_a_text_weighs_as_much_as_a_robot_sample_in_the_gradient(mixture_file, texts_file, tmp_path):
    config = speaking(tmp_path, steps=1, micro_batches=2)
    with stream_of(texts_file) as texts:
        words = {"mixture_file": mixture_file, "device": CPU, "texts": texts}
        train(config, load_mixture(mixture_file), tmp_path / "run", **words)
    record = records(tmp_path / "run")[0]

    torch.manual_seed(config.seed)
    model = VLA(config.model)
    options = config.batch_options(image_size=model.backbone.image_size)
    with stream_of(texts_file) as texts, make_loader(load_mixture(mixture_file), batch_size=4, **options) as loader:
        robot, text = model(next(loader)).loss_B, model(texts.batch(0)).loss_B
    assert len(robot) == len(text) == record["text_samples"] == 4
    assert record["loss"] == pytest.approx(robot.mean().item(), rel=1e-4)
    assert record["text_loss"] == pytest.approx(text.mean().item(), rel=1e-4)
    torch.cat([robot, text]).mean().backward()
    gradients = [parameter.grad.norm() for parameter in model.parameters() if parameter.grad is not None]
    assert record["gradient_norm"] == pytest.approx(torch.stack(gradients).norm().item(), rel=1e-4)


def test_a_run_goes_on_only_with_its_own_texts(mixture_file, texts_file, tmp_path):
    mixture, run = load_mixture(mixture_file), tmp_path / "run"
    words = {"mixture_file": mixture_file, "device": CPU}
    with stream_of(texts_file) as texts:
        train(speaking(tmp_path, steps=1), mixture, run, texts=texts, **words)
        checkpoint = load_checkpoint(latest_checkpoint(run))
        with pytest.raises(StateError, match="was trained on texts; give the same --texts"):
            train(speaking(tmp_path, steps=2), mixture, run, resume=checkpoint, **words)
        with stream_of(texts_file, share=0.25) as other, pytest.raises(StateError, match="share"):
            train(speaking(tmp_path, steps=2), mixture, run, texts=other, resume=checkpoint, **words)
        train(speaking(tmp_path, steps=2), mixture, run, texts=texts, resume=checkpoint, **words)
        train(speaking(tmp_path, steps=2), mixture, tmp_path / "straight", texts=texts, **words)
    runs = (run, tmp_path / "straight")
    again, straight = ([r["text_loss"] for r in records(folder) if "loss" in r] for folder in runs)
    assert len(again) == 2 and again == straight


def test_metrics_are_sent_to_wandb_under_their_steps_and_the_same_run_goes_on(mixture_file, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = run_nano(mixture_file, tmp_path, steps=1, wandb="arm")
    named = (run / "wandb_run.txt").read_text()
    checkpoint = load_checkpoint(latest_checkpoint(run))
    config = preset("nano", steps=2, batch_size=6, chunk=2, wandb="arm")
    train(config, load_mixture(mixture_file), run, mixture_file=mixture_file, device=CPU, resume=checkpoint)
    assert (run / "wandb_run.txt").read_text() == named and list((run / "wandb").glob(f"offline-run-*-{named}"))
