import json
from dataclasses import replace

import pytest
import torch

from oxe_pipeline.eval import main as evaluate_main
from oxe_pipeline.export import main
from oxe_pipeline.mixture.mixture import load_mixture
from oxe_pipeline.train import main as train_main
from oxe_pipeline.vla.backbones.nano import NanoConfig
from oxe_pipeline.vla.comparison import compare
from oxe_pipeline.vla.evaluate import evaluate
from oxe_pipeline.vla.presets import preset
from oxe_pipeline.vla.stored_linear import Int8Linear
from oxe_pipeline.vla.train_loop import train
from oxe_pipeline.vla.trained import load_trained
from tests.synthetic import make_stream
from tests.vla.batches import make_batch

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def mixture_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture")
    make_stream(folder / "held", "held", episodes=4, held_out=2)
    path = folder / "mix.yaml"
    path.write_text("datasets:\n- {name: held, path: held}\n")
    return path


def trained_run(mixture_file, run, **changes):
    config = preset("nano", **{"steps": 3, "batch_size": 4, "evaluate_windows": 1, **changes})
    config = replace(config, model=replace(config.model, backbone=NanoConfig(width=64, image_size=32)))
    train(config, load_mixture(mixture_file), run, mixture_file=mixture_file, device=CPU)
    return run


@pytest.fixture(scope="module")
def run(mixture_file, tmp_path_factory):
    return trained_run(mixture_file, tmp_path_factory.mktemp("run"), ema_decay=0.5)


@pytest.fixture(scope="module")
def adapted_run(mixture_file, tmp_path_factory):
    return trained_run(mixture_file, tmp_path_factory.mktemp("adapted"), lora_rank=2, learning_rate=0.05)


def test_an_int8_variant_is_measured_printed_written_and_read_back(run, tmp_path, capsys):
    out = tmp_path / "int8"
    assert main([str(run), "--out", str(out), "--weights", "int8", "--max-windows", "6"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("original", "variant", "Hz", "MB", "arm0.eef_position_delta.x", "% wrong", "mean action", "written"):
        assert words in shown
    original, variant = load_trained(run), load_trained(out)
    assert any(isinstance(part, Int8Linear) for part in variant.model.modules())
    assert variant.step == original.step and variant.mixture_file == original.mixture_file
    assert (out / "model.safetensors").stat().st_size < 0.7 * (original.folder / "average.safetensors").stat().st_size
    record = json.loads((out / "state.json").read_text())["variant"]
    assert record["weights"] == "int8" and record["device"] == "cpu" and record["source"] == str(original.folder)
    assert evaluate_main([str(out), "--max-windows", "4"]) == 0, "evaluation reads it like any run"


def test_what_the_written_variant_does_is_what_was_measured(run, mixture_file, tmp_path, capsys):
    assert main([str(run), "--out", str(tmp_path / "int4"), "--weights", "int4", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    original, variant, mixture = load_trained(run), load_trained(tmp_path / "int4"), load_mixture(mixture_file)
    for name, trained in (("original", original), ("variant", variant)):
        (result,) = evaluate(trained.model, mixture, trained.normalizers)
        assert record["datasets"][0]["errors_of_range"][name] == pytest.approx(result.error_of_range["model"])
        assert record["datasets"][0]["errors_of_range"]["mean_action"] == pytest.approx(
            result.error_of_range["mean_action"]
        )
    sizes = {name: figures["weight_bytes"] for name, figures in record["models"].items()}
    assert sizes["variant"] < 0.6 * sizes["original"]


def test_merged_adapters_leave_an_ordinary_model_with_the_same_actions(adapted_run, tmp_path, capsys):
    out = tmp_path / "merged"
    assert main([str(adapted_run), "--out", str(out), "--merge-lora", "--max-error-growth", "0.001", "--json"]) == 0
    slots = json.loads(capsys.readouterr().out)["datasets"][0]["slots"]
    assert all(slot["difference"] == pytest.approx(0, abs=1e-3) for slot in slots)
    original, merged = load_trained(adapted_run), load_trained(out)
    assert merged.config.lora_rank == 0 and not any("lora" in name for name in merged.model.state_dict())
    batch = make_batch(chunk=1)
    with torch.no_grad():
        torch.testing.assert_close(merged.model(batch).loss_B, original.model(batch).loss_B, rtol=1e-4, atol=1e-4)


def test_a_variant_that_is_worse_than_allowed_is_not_written(run, tmp_path, capsys):
    out = tmp_path / "worse"
    words = [str(run), "--out", str(out), "--weights", "nf4", "--max-windows", "6"]
    assert main([*words, "--max-error-growth=-0.5"]) == 2
    printed = capsys.readouterr()
    assert "original" in printed.out, "the table is printed all the same"
    assert "more than -50.0%; nothing was written" in printed.err and not out.exists()


def test_what_does_not_hold_gets_one_line_and_leaves_nothing_behind(run, adapted_run, tmp_path, capsys):
    out = tmp_path / "out"
    for words, message in (
        ([run], "this would be the original again"),
        ([run, "--merge-lora"], "has no adapters to merge"),
        ([adapted_run, "--weights", "int8"], "merge them before their weights are rounded (--merge-lora)"),
        ([tmp_path / "nowhere", "--weights", "int8"], "no checkpoint"),
        ([run, "--weights", "int8", "--max-windows", "0"], "limited to 1 or more"),
    ):
        assert main([*map(str, words), "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1
        assert not out.exists()
    assert main([str(run), "--out", str(run), "--weights", "int8"]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_training_does_not_go_on_from_a_variant(run, tmp_path, capsys):
    assert main([str(run), "--out", str(tmp_path / "bf16"), "--weights", "bf16", "--max-windows", "2", "--json"]) == 0
    assert train_main(["--out", str(tmp_path / "bf16"), "--resume", "--steps", "9"]) == 2
    assert "made for acting; training goes on from the run" in capsys.readouterr().err


def test_error_growth_compares_the_means_of_shares_of_range(run, mixture_file):
    trained = load_trained(run)
    measured = compare({"one": trained, "same": trained}, load_mixture(mixture_file), max_windows=3)
    assert measured.error_growth == 0
    (result,) = measured.datasets
    assert result.windows == 3 and result.difference_of_range == 0
    assert all(slot.largest_difference == 0 for slot in result.slots)
