import copy
import json
from dataclasses import replace

import pytest
import torch

from oxe_pipeline.mixture.mixture import load_mixture
from oxe_pipeline.vla.adapters import build_model, load_weights_into, merge_lora, round_frozen, tied_names
from oxe_pipeline.vla.backbones.tiny import write_tiny
from oxe_pipeline.vla.backbones.vlm import VLMConfig
from oxe_pipeline.vla.heads.bin_tokens import BinTokensConfig
from oxe_pipeline.vla.latency import weight_bytes
from oxe_pipeline.vla.model import VLA, ModelConfig
from oxe_pipeline.vla.presets import preset
from oxe_pipeline.vla.train_loop import train
from oxe_pipeline.vla.trained import load_trained
from tests.synthetic import make_stream
from tests.vla.batches import make_batch


def trained_names(model: torch.nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_adapters_start_as_nothing_and_alone_are_trained_with_head_and_state_encoder():
    torch.manual_seed(0)
    plain = VLA(preset("nano").model)
    torch.manual_seed(0)
    adapted = build_model(preset("nano", lora_rank=4))
    batch = make_batch(chunk=1)
    torch.testing.assert_close(adapted(batch).loss_B, plain(batch).loss_B)

    names = trained_names(adapted)
    assert {name.split(".")[1] for name in names if "lora_" not in name and name.startswith("backbone.")} == {
        "state_encoder"
    }
    assert {name for name, _ in plain.named_parameters() if name.startswith("head.")} <= names
    assert all(
        f"backbone.blocks.1.{layer}.lora_A.default.weight" in names for layer in ("qkv", "out", "mlp.0", "mlp.2")
    )
    assert not any("state_encoder" in name and "lora" in name for name in names)


@pytest.mark.parametrize("name", ["openvla", "pi0"])
def test_rounded_frozen_weights_take_half_the_memory_and_train_with_the_same_numbers(name, tmp_path):
    """Under autocast: loss and every gradient to the last bit."""
    config = preset(name, tiny=tmp_path, lora_rank=4)
    torch.manual_seed(0)
    model = build_model(config)
    batch = make_batch(chunk=config.model.chunk, history=config.model.history)

    def loss_and_gradients():
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(batch).loss_B.sum()
        loss.backward()
        return loss, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    before, gradients = loss_and_gradients()
    size = weight_bytes(model)
    frozen_linear = {
        name: part.weight.nbytes
        for name, part in model.named_modules()
        if type(part) is torch.nn.Linear and not part.weight.requires_grad
    }
    rounded = round_frozen(model)
    assert 0 < rounded <= len(frozen_linear) and size - weight_bytes(model) == sum(
        frozen_linear[name] // 2 for name in frozen_linear if model.get_submodule(name).weight.dtype == torch.bfloat16
    )
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)
    after, again = loss_and_gradients()
    assert after == before and gradients.keys() == again.keys()
    assert all(torch.equal(gradients[n], again[n]) for n in gradients)


def test_text_encoders_and_tied_tables_are_not_rounded(tmp_path):
    octo = build_model(preset("octo", tiny=tmp_path / "octo"))
    assert round_frozen(octo) == 0 and all(p.dtype == torch.float32 for p in octo.parameters())
    tied = build_model(preset("pi0", tiny=tmp_path / "tied", lora_rank=2))
    round_frozen(tied)
    assert tied.backbone.tokens.weight.dtype == torch.float32


def test_merged_adapters_give_the_same_actions_from_an_ordinary_model():
    adapted = build_model(preset("nano", lora_rank=4, lora_alpha=32.0)).eval()
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    batch, merged = make_batch(chunk=1), merge_lora(copy.deepcopy(adapted))
    assert {name for name, _ in merged.named_parameters()} == {
        name for name, _ in VLA(preset("nano").model).named_parameters()
    }
    torch.testing.assert_close(merged(batch).loss_B, adapted(batch).loss_B, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(merged(batch).loss_B, VLA(preset("nano").model)(batch).loss_B)


def test_parameters_are_frozen_by_the_name_of_a_module_or_a_pattern():
    everything = {name for name, _ in VLA(preset("nano").model).named_parameters()}
    frozen = everything - trained_names(build_model(preset("nano", freeze=("backbone.blocks.0", "*.bias"))))
    assert frozen == {n for n in everything if n.startswith("backbone.blocks.0.") or n.endswith(".bias")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze": ("backbone.image_encodr.*",)}, "matches no parameter; there are backbone.image_encoder,"),
        ({"freeze": ("backbone", "head")}, "leaves nothing to train"),
    ],
)
def test_what_freezing_cannot_do_is_said(changes, message):
    with pytest.raises(ValueError, match=message):
        build_model(preset("nano", **changes))


def test_activation_checkpointing_is_refused_by_a_backbone_that_cannot(monkeypatch):
    from oxe_pipeline.vla.backbones.nano import NanoBackbone

    monkeypatch.delattr(NanoBackbone, "checkpoint_activations", raising=False)
    with pytest.raises(ValueError, match="backbone nano cannot"):
        build_model(preset("nano", activation_checkpointing=True))


@pytest.mark.parametrize("kind", ["paligemma", "llava"])
def test_a_pretrained_backbone_is_fine_tuned_by_adapters_and_loaded_without_its_source(kind, tmp_path):
    make_stream(tmp_path / "one", "one", episodes=3, held_out=0)
    mixture_file = tmp_path / "mix.yaml"
    mixture_file.write_text("datasets:\n- {name: one, path: one}\n")
    source = write_tiny(kind, tmp_path / kind)
    head = BinTokensConfig(bins=32)
    model = ModelConfig(backbone=VLMConfig(source=str(source)), head=head)
    changes = {"steps": 10, "warmup_steps": 0, "batch_size": 4, "lora_rank": 8, "learning_rate": 1e-2}
    config = replace(preset("nano", overfit_batch=True, activation_checkpointing=True, **changes), model=model)
    torch.manual_seed(config.seed)
    before = build_model(config).state_dict()
    device = torch.device("cpu")
    train(config, load_mixture(mixture_file), tmp_path / "run", mixture_file=mixture_file, device=device)

    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert records[-1]["loss"] < 0.97 * records[0]["loss"], "random frozen layers learn little; but they do"
    source.rename(tmp_path / "moved")
    loaded = load_trained(tmp_path / "run").model
    after = loaded.state_dict()
    changed = {name for name in after if "lora_A" not in name and not torch.equal(after[name], before[name])}
    assert changed and all("lora_B" in name or "projector" in name or name.startswith("head.") for name in changed)
    assert any("vision" in name for name in changed) and any("language" in name for name in changed)
    merge_lora(loaded).predict(make_batch(chunk=1))


def test_tied_weights_are_named_once_and_put_back_under_every_name():
    model = torch.nn.ModuleDict({"table": torch.nn.Embedding(3, 2), "out": torch.nn.Linear(2, 3, bias=False)})
    model["out"].weight = model["table"].weight
    assert tied_names(model) == {"out.weight": "table.weight"}
    load_weights_into(model, {"table.weight": torch.ones(3, 2)})
    assert (model["out"].weight == 1).all()


def test_weights_of_another_model_are_refused_in_one_line():
    with pytest.raises(ValueError, match="not of the model that this version builds") as caught:
        load_weights_into(torch.nn.Linear(2, 2), {"weights": torch.ones(2, 2)})
    assert "\n" not in str(caught.value) and '"weight"' in str(caught.value)
