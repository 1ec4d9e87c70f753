"""Two real processes that meet as torchrun would have them, against one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from oxe_pipeline.train import run as run_command
from oxe_pipeline.train_arguments import parse
from oxe_pipeline.vla.backbones.tiny import write_tiny
from oxe_pipeline.vla.backbones.vlm import VLMConfig
from oxe_pipeline.vla.checkpoint import load_checkpoint
from oxe_pipeline.vla.distributed import transformer_layers
from oxe_pipeline.vla.heads.text_tokens import TextTokensConfig
from oxe_pipeline.vla.model import VLA, ModelConfig
from oxe_pipeline.vla.presets import preset
from tests.synthetic import make_stream
from tests.vla.ranks import config_of, records, run, run_on_ranks, work_of


@pytest.fixture(scope="module")
def mixture_file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mixture")
    make_stream(folder / "one", "one", episodes=4, held_out=1)
    make_stream(folder / "two", "two", episodes=2, held_out=0, cameras=("primary",))
    path = folder / "mix.yaml"
    path.write_text("datasets:\n- {name: one, path: one, weight: 2}\n- {name: two, path: two}\n")
    return path


@pytest.fixture(scope="module")
def texts_file(tmp_path_factory) -> Path:
    from PIL import Image

    folder = tmp_path_factory.mktemp("texts")
    Image.new("RGB", (40, 40), (200, 30, 30)).save(folder / "red.png")
    lines = [
        {"prompt": f"<image>Q: what is {n}? A:", "images": ["red.png"], "target": "red " * (n + 1)} for n in range(3)
    ]
    lines.append({"prompt": "Q: and without an image? A:", "images": [], "target": "nothing"})
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def runs(mixture_file, texts_file, tmp_path_factory) -> Path:
    """Runs by one process and by two: straight ones, and ones that go on from the other's checkpoint of step 2."""
    folder = tmp_path_factory.mktemp("runs")
    nano = {kind: config_of(sharding=kind, ema_decay=0.9, keep_best=True, evaluate_every=2) for kind in ("ddp", "fsdp")}
    source = write_tiny("smolvlm", folder / "smolvlm")
    words = ModelConfig(backbone=VLMConfig(source=str(source)), head=TextTokensConfig(bins=16))
    spoken = {kind: config_of(words, sharding=kind, steps=2, batch_size=6) for kind in ("ddp", "fsdp")}
    few_texts = config_of(words, steps=3, batch_size=2, micro_batches=1)
    expert = preset("pi0", tiny=folder / "pi0").model
    flow = {kind: config_of(expert, sharding=kind, steps=2, lora_rank=4) for kind in ("ddp", "fsdp")}
    make_stream(folder / "long", "long", episodes=1, held_out=1, steps=130, image_px=8)
    long_file = folder / "long.yaml"
    long_file.write_text("datasets:\n- {name: long, path: long}\n")
    measured = {  # One rank has one batch, the other two; and one window for two ranks.
        f"{windows}_windows": config_of(steps=1, evaluate_windows=windows, sharding="fsdp") for windows in (129, 1)
    }
    halfway = Path("checkpoints") / "step_00000002"

    run(work_of(folder / "one", mixture_file, nano["ddp"]))
    for name, config in measured.items():
        run(work_of(folder / f"one_{name}", long_file, config))
    run(work_of(folder / "one_texts", mixture_file, spoken["ddp"], texts=texts_file))
    run(work_of(folder / "one_few_texts", mixture_file, few_texts, texts=texts_file))
    bf16 = config_of(sharding="fsdp", precision="bf16", steps=2)
    flow_bf16 = {kind: replace(config, precision="bf16") for kind, config in flow.items()}
    by_two = [
        *(work_of(folder / f"two_{kind}", mixture_file, config) for kind, config in nano.items()),
        *(work_of(folder / f"two_texts_{kind}", mixture_file, c, texts=texts_file) for kind, c in spoken.items()),
        *(work_of(folder / f"two_flow_{kind}", mixture_file, config) for kind, config in flow.items()),
        work_of(folder / "two_few_texts", mixture_file, few_texts, texts=texts_file),
        work_of(folder / "one_to_two", mixture_file, nano["fsdp"], resume=folder / "one" / halfway),
        work_of(folder / "two_bf16", mixture_file, bf16),
        *(work_of(folder / f"two_{name}", long_file, config) for name, config in measured.items()),
        *(work_of(folder / f"two_flow_bf16_{kind}", mixture_file, config) for kind, config in flow_bf16.items()),
    ]
    run_on_ranks(2, by_two, folder)
    run(work_of(folder / "two_to_one", mixture_file, nano["ddp"], resume=folder / "two_fsdp" / halfway))
    return folder


def assert_same(found: list[dict], expected: list[dict]) -> None:
    """Equal numbers to 1e-5, whatever a clock or a memory gauge says."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one["step"] == other["step"] and one.keys() == other.keys()
        for name in one.keys() - {"samples_per_s", "wait_share", "memory_mb", "held_out"}:
            assert one[name] == pytest.approx(other[name], rel=1e-5, abs=1e-6), (one["step"], name)


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_ranks_make_the_optimisation_of_one(kind, runs):
    assert_same(records(runs / f"two_{kind}"), records(runs / "one"))


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_ranks_measure_the_same_held_out_errors_and_keep_the_same_weights(kind, runs):
    one, two = (
        [r["held_out"]["one"]["error_of_range"] for r in records(runs / name) if "held_out" in r]
        for name in ("one", f"two_{kind}")
    )
    assert len(one) == 2 and two == pytest.approx(one, rel=0.02)
    one, two = (load_checkpoint(runs / name / "checkpoints" / "step_00000004") for name in ("one", f"two_{kind}"))
    for which in ("weights", "average"):
        mine, theirs = getattr(one, which), getattr(two, which)
        assert mine.keys() == theirs.keys()
        for name in mine:
            # Adam divides by tiny gradients: rounding of 1e-9 in a gradient may move a weight by a part of a step.
            torch.testing.assert_close(theirs[name], mine[name], rtol=0, atol=2e-4)


@pytest.mark.parametrize("windows", [129, 1])
def test_ranks_share_the_held_out_windows_and_all_are_counted_once(windows, runs):
    one, two = (records(runs / f"{ranks}_{windows}_windows")[-1]["held_out"]["long"] for ranks in ("one", "two"))
    assert one["windows"] == two["windows"] == windows
    assert {name: pytest.approx(value, rel=1e-3) for name, value in one.items()} == two


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_texts_beside_robot_samples_count_the_same_on_any_number_of_ranks(kind, runs):
    found, expected = records(runs / f"two_texts_{kind}"), records(runs / "one_texts")
    assert_same(found, expected)
    assert [record.get("text_samples") for record in expected[:2]] == [2, 3]


def test_a_rank_may_be_without_a_text(runs):
    found, expected = records(runs / "two_few_texts"), records(runs / "one_few_texts")
    assert_same(found, expected)
    assert [record.get("text_samples") for record in expected[:3]] == [None, 1, 1]


def test_adapters_and_an_expert_beside_the_layers_can_be_sharded(runs):
    """The expert reads keys of the last layer, whose output nobody reads: its weights must still be gathered."""
    assert_same(records(runs / "two_flow_fsdp"), records(runs / "two_flow_ddp"))


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_adapters_beside_frozen_weights_in_bf16_train_close_to_float32(kind, runs):
    full, half = (
        [r["loss"] for r in records(runs / f"two_flow{name}_{kind}") if "loss" in r] for name in ("", "_bf16")
    )
    assert half == pytest.approx(full, rel=0.02) and half != full
    kept = load_checkpoint(runs / f"two_flow_bf16_{kind}" / "checkpoints" / "step_00000002").frozen
    assert {value.dtype for value in kept.values()} == {torch.float32, torch.bfloat16}


@pytest.mark.parametrize("name", ["one_to_two", "two_to_one"])
def test_a_run_goes_on_with_the_same_losses_on_another_number_of_ranks(name, runs):
    straight = [record for record in records(runs / "one") if record["step"] > 2]
    assert_same(records(runs / name), straight)


def test_sharded_bf16_trains_close_to_float32(runs):
    full, half = ([r["loss"] for r in records(runs / name) if "loss" in r][:2] for name in ("one", "two_bf16"))
    assert half == pytest.approx(full, rel=0.02) and half != full


def test_the_layers_of_a_backbone_are_found_inner_lists_first():
    model = VLA(preset("nano").model)
    assert transformer_layers(model.backbone) == list(model.backbone.blocks)
    inner = nn.ModuleList([nn.Linear(1, 1)])
    outer = nn.Module()
    outer.towers = nn.ModuleList([nn.Sequential(inner[0]), nn.Module()])
    outer.towers[1].layers = inner
    found = transformer_layers(outer)
    assert found.index(inner[0]) < found.index(outer.towers[1])


def test_a_batch_with_too_few_samples_for_the_ranks_leaves_nothing_behind(mixture_file, tmp_path):
    words = ["--mixture", str(mixture_file), "--out", str(tmp_path / "run"), "--device", "cpu", "--batch-size", "1"]
    for rank in "01":
        with pytest.raises(ValueError, match="gives one of 2 ranks 0 samples"):
            run_command(parse(words, description=""), {"WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank})
    assert not (tmp_path / "run").exists()
