import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from oxe_pipeline.distill import main
from oxe_pipeline.loader.augment import AugmentOptions
from oxe_pipeline.loader.loader import make_loader
from oxe_pipeline.loader.scaling import stream_normalizer
from oxe_pipeline.mixture.mixture import load_mixture
from oxe_pipeline.train import main as train_main
from oxe_pipeline.vla.backbones.nano import NanoConfig
from oxe_pipeline.vla.checkpoint import latest_checkpoint, load_checkpoint
from oxe_pipeline.vla.comparison import compare
from oxe_pipeline.vla.distill import Teacher
from oxe_pipeline.vla.heads.bin_tokens import BinTokensConfig, softened_divergence
from oxe_pipeline.vla.model import VLA, ModelConfig
from oxe_pipeline.vla.presets import preset
from oxe_pipeline.vla.train_loop import train
from oxe_pipeline.vla.trained import TrainedModel, load_trained
from tests.vla.batches import make_batch
from tests.vla.choosing import choosing_stream

CPU = torch.device("cpu")
STUDENT = NanoConfig(width=32, image_size=32)


@pytest.fixture(scope="module")
def mixture_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("choosing")
    choosing_stream(folder / "choose", episodes=100, held_out=16)
    path = folder / "mix.yaml"
    path.write_text("seed: 3\ndatasets:\n- {name: choose, path: choose}\n")
    return path


def trained_nano(mixture_file, run, *, steps: int, backbone: NanoConfig, teacher=None, **changes) -> TrainedModel:
    config = preset("nano", **{"steps": steps, "batch_size": 16, "evaluate_windows": 1, **changes})
    config = replace(config, model=replace(config.model, backbone=backbone))
    mixture = load_mixture(mixture_file)
    made = Teacher(teacher, config, mixture) if teacher is not None else None
    train(config, mixture, run, mixture_file=mixture_file, device=CPU, teacher=made)
    return load_trained(run)


@pytest.fixture(scope="module")
def teacher(mixture_file, tmp_path_factory) -> TrainedModel:
    backbone = NanoConfig(width=64, image_size=32)
    return trained_nano(mixture_file, tmp_path_factory.mktemp("teacher"), steps=150, backbone=backbone, chunk=2)


def a_batch(mixture_file, config, *, size: int = 6) -> dict:
    with make_loader(
        load_mixture(mixture_file), batch_size=size, threads=1, **config.batch_options(image_size=32)
    ) as loader:
        return next(loader)


def test_a_student_comes_nearer_to_its_teacher_than_an_untrained_one_and_beats_the_mean_action(
    teacher, mixture_file, tmp_path
):
    how = {"backbone": STUDENT, "learning_rate": 4e-3}
    untrained = trained_nano(mixture_file, tmp_path / "untrained", steps=1, **how)
    student = trained_nano(mixture_file, tmp_path / "student", steps=150, teacher=teacher, **how)
    mixture = load_mixture(mixture_file)
    (before,) = compare({"teacher": teacher, "student": untrained}, mixture).datasets
    measured = compare({"teacher": teacher, "student": student}, mixture)
    (after,) = measured.datasets
    assert after.difference_of_range < 0.6 * before.difference_of_range
    assert after.errors_of_range["student"] < 0.8 * after.errors_of_range["mean_action"]
    assert measured.models["student"].weight_bytes < 0.5 * measured.models["teacher"].weight_bytes


def test_a_teacher_that_was_trained_on_crops_is_shown_the_middle_of_images(teacher, mixture_file, monkeypatch):
    seen = []
    predict = teacher.model.predict
    monkeypatch.setattr(teacher.model, "predict", lambda batch: seen.append(batch["image_primary"]) or predict(batch))
    config, cropping = preset("nano"), AugmentOptions(crop_area=(0.25, 0.25), image_size=16)
    mixture, batch = load_mixture(mixture_file), a_batch(mixture_file, config)
    for augment in (None, cropping):
        Teacher(replace(teacher, config=replace(teacher.config, augment=augment)), config, mixture)(batch)
    whole, middle = seen
    assert whole.shape[2:4] == (32, 32) and torch.equal(middle, whole[:, :, 8:24, 8:24])


def test_the_actions_taught_are_the_teachers_predictions_in_the_students_normalisation(teacher, mixture_file):
    config = preset("nano", normalizer="mean_std")
    mixture, batch = load_mixture(mixture_file), a_batch(mixture_file, config)
    taught = Teacher(teacher, config, mixture)(batch)
    assert "teacher_logits" not in taught, "bins of different values"
    own = a_batch(mixture_file, teacher.config)
    expected = teacher.normalizers["choose"]["action"].inverse(teacher.model.predict(own)[:, :1].numpy())
    back = stream_normalizer(mixture.datasets[0].stream, "action", config.normalizer_config).inverse(
        taught["action"].numpy()
    )
    has = batch["action_mask"].numpy()[:, None]
    np.testing.assert_allclose(back[has], expected[has], rtol=1e-4, atol=1e-5)
    unchanged = {name for name in batch if name != "action"}
    assert all(torch.equal(batch[n], taught[n]) for n in unchanged if isinstance(batch[n], torch.Tensor))


def test_taught_distributions_are_the_teachers_given_the_actions_taught(teacher, mixture_file):
    config = preset("nano", chunk=1)
    taught = Teacher(teacher, config, load_mixture(mixture_file))(a_batch(mixture_file, config))
    logits = taught["teacher_logits"]
    assert logits.shape == (6, 1, 256), "the first of the two steps that the teacher speaks"
    head = teacher.model.head
    first = head.tokenizer.first_id
    full = torch.nn.functional.pad(logits, (first, 0), value=float("-inf"))
    chosen = head.tokenizer.decode(head.choose(full))
    torch.testing.assert_close(chosen, taught["action"][:, 0][taught["action_mask"]].view(6, 1))


def test_a_share_of_samples_keeps_its_recorded_action_whatever_the_batch(teacher, mixture_file):
    config = preset("nano")
    mixture, batch = load_mixture(mixture_file), a_batch(mixture_file, config, size=64)
    mixed = Teacher(teacher, config, mixture, label_share=0.5)(batch)["action"]
    kept = (mixed == batch["action"]).all(2).all(1)
    assert 16 < int(kept.sum()) < 48
    piece = {name: value[10:20] for name, value in batch.items()}
    assert torch.equal(Teacher(teacher, config, mixture, label_share=0.5)(piece)["action"], mixed[10:20])
    assert torch.equal(Teacher(teacher, config, mixture, label_share=1.0)(batch)["action"], batch["action"])


def test_the_divergence_is_that_of_the_softened_distributions():
    generator = torch.Generator().manual_seed(0)
    logits, taught = torch.randn(2, 2, 3, 5, generator=generator)
    p, q = (np.exp(x.numpy() / 2) / np.exp(x.numpy() / 2).sum(-1, keepdims=True) for x in (taught, logits))
    np.testing.assert_allclose(softened_divergence(logits, taught), 4 * (p * np.log(p / q)).sum(-1), rtol=1e-4)
    assert softened_divergence(taught, taught).abs().max() < 1e-6


def test_taught_distributions_pull_the_students_towards_them():
    torch.manual_seed(0)
    model, batch = VLA(ModelConfig(backbone=STUDENT, head=BinTokensConfig(bins=16))), make_batch(chunk=1)
    batch["teacher_logits"] = 3 * torch.randn(4, 5, 16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def divergence() -> torch.Tensor:
        logits, _, counted = model.head.action_logits(model.backbone, batch)
        return softened_divergence(logits, batch["teacher_logits"][:, :3])[counted].mean()

    before = divergence().item()
    for _ in range(40):
        optimizer.zero_grad()
        model(batch).loss_B.mean().backward()
        optimizer.step()
    assert divergence().item() < 0.7 * before


def test_what_a_student_cannot_be_taught_is_refused(teacher, mixture_file):
    mixture = load_mixture(mixture_file)
    with pytest.raises(ValueError, match=r"chunk 3 is longer than the teacher's 2; give --chunk 2 or less"):
        Teacher(teacher, preset("nano", chunk=3), mixture)
    with pytest.raises(ValueError, match=r"the teacher's actions last one recorded step, the student's 0\.4 s"):
        Teacher(teacher, preset("nano", chunk=2, chunk_s=0.8), mixture)
    with pytest.raises(ValueError, match="choose was not trained on"):
        Teacher(replace(teacher, normalizers={}), preset("nano"), mixture)


def losses(run: Path) -> list[float]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [record["loss"] for record in records if "loss" in record]


def test_the_command_leaves_an_ordinary_run_that_resumes_as_if_never_stopped(teacher, mixture_file, tmp_path, capsys):
    words = ["--mixture", str(mixture_file), "--batch-size", "4", "--checkpoint-every", "2", "--evaluate-windows", "1"]
    words += ["--max-windows", "2", "--device", "cpu", "--schedule", "constant"]
    straight, run = tmp_path / "straight", tmp_path / "run"
    named = [str(teacher.folder), *words, "--mix-labels", "0.25"]
    assert main([*named, "--out", str(straight), "--steps", "4"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "beside its teacher" in shown and "teacher student mean action" in shown.replace("│ ", "").replace("┃ ", "")
    assert main([*named, "--out", str(run), "--steps", "2"]) == 0
    assert load_checkpoint(latest_checkpoint(run)).state["teacher"]["label_share"] == 0.25

    assert train_main(["--out", str(run), "--resume", "--steps", "4", "--device", "cpu"]) == 2
    assert "resume it with `python -m oxe_pipeline.distill`" in capsys.readouterr().err
    assert main(["--out", str(run), "--resume", "--steps", "4", "--device", "cpu", "--max-windows", "2"]) == 0
    assert losses(run) == losses(straight) and len(losses(run)) == 4
    assert load_trained(run).step == 4


def test_the_command_wants_a_teacher_and_writes_nothing_without(mixture_file, tmp_path, capsys):
    words = ["--mixture", str(mixture_file), "--steps", "1", "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert "name the run of the teacher" in capsys.readouterr().err
    assert main([str(tmp_path / "nowhere"), *words]) == 2
    assert "no checkpoint" in capsys.readouterr().err and not (tmp_path / "run").exists()
