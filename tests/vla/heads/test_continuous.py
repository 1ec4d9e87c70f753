"""What the heads that predict numbers (chunk_l1, diffusion, flow) have in common."""

from dataclasses import replace

import pytest
import torch

from oxe_pipeline.vla.backbones.nano import NanoConfig
from oxe_pipeline.vla.backbones.octo import octo_tiny
from oxe_pipeline.vla.backbones.tiny import write_tiny
from oxe_pipeline.vla.backbones.vlm import VLMConfig
from oxe_pipeline.vla.heads.chunk_l1 import ChunkL1Config
from oxe_pipeline.vla.heads.diffusion import DiffusionConfig
from oxe_pipeline.vla.heads.flow import FlowConfig
from oxe_pipeline.vla.model import VLA, ModelConfig
from oxe_pipeline.vla.presets import preset
from oxe_pipeline.vla.records import config_from_record, config_to_record
from tests.vla.batches import make_batch

MIXED = ((0, 1, 6), (0, 1, 2, 3, 4, 5, 6), (28, 29, 30))
NANO = NanoConfig(width=32, heads=2, image_size=16)
HEADS = (
    ChunkL1Config(slots=(0, 1, 2, 3, 4, 5, 6, 28, 29, 30), hidden_width=32),
    DiffusionConfig(hidden_width=32, readouts=2, samples_per_forward=3, steps=5),
    FlowConfig(expert_width=32, expert_mlp_width=64, queries_per_head=2, steps=3),
)


@pytest.fixture(params=HEADS, ids=lambda head: head.kind, scope="module")
def model(request) -> VLA:
    torch.manual_seed(0)
    return VLA(ModelConfig(backbone=NANO, head=request.param, chunk=3, history=2)).eval()


@pytest.fixture
def batch() -> dict:
    batch = make_batch(slots=MIXED, chunk=3, history=2)
    batch["action_pad_mask"][1:, 2] = False
    return batch


def loss(model: VLA, batch: dict) -> torch.Tensor:
    with torch.no_grad():
        return model(batch).loss_B


def test_the_losses_of_a_batch_are_those_of_its_halves(model, batch):
    halves = [{name: value[rows] for name, value in batch.items()} for rows in (slice(0, 1), slice(1, 4))]
    whole, parts = loss(model, batch), torch.cat([loss(model, half) for half in halves])
    assert whole.dtype == torch.float32 and len(set(whole.tolist())) == 4
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-6)
    predicted = torch.cat([model.predict(half) for half in halves])
    torch.testing.assert_close(model.predict(batch), predicted, rtol=1e-4, atol=1e-5)


def test_neither_loss_nor_prediction_draws_from_the_global_generator(model, batch):
    state = torch.get_rng_state()
    first = loss(model, batch), model.predict(batch)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(first[0], loss(model, batch)) and torch.equal(first[1], model.predict(batch))


def test_another_number_of_the_sample_is_other_noise_where_there_is_noise(model, batch):
    other = {**batch, "g": batch["g"] + 1000}
    is_noisy = model.config.head.kind != "chunk_l1"
    assert torch.equal(loss(model, batch), loss(model, other)) != is_noisy
    assert torch.equal(model.predict(batch), model.predict(other)) != is_noisy


def test_values_in_masked_slots_and_past_the_end_have_no_influence(model, batch):
    has = batch["action_mask"][:, None] & batch["action_pad_mask"][:, :, None]
    other = {**batch, "action": torch.where(has, batch["action"], torch.tensor(7.0))}
    assert torch.equal(loss(model, batch), loss(model, other))
    other["action"][0, 2, 0] += 1.0
    assert loss(model, batch)[0] != loss(model, other)[0], "a real value does count"


def test_predictions_are_float32_0_in_masked_slots_and_ignore_the_true_action(model, batch):
    predicted = model.predict(batch)
    assert predicted.shape == (4, 3, 32) and predicted.dtype == torch.float32
    has = batch["action_mask"][:, None].expand_as(predicted)
    assert (predicted[~has] == 0).all() and (predicted[has] != 0).all()
    without = {name: value for name, value in batch.items() if name not in ("action", "action_pad_mask")}
    assert torch.equal(predicted, model.predict(without))


def test_gradients_reach_the_backbones_images_and_state(model, batch):
    model.zero_grad()
    model(batch).loss_B.sum().backward()
    backbone = model.backbone
    for part in (backbone.image_encoder.layers[0], backbone.state_encoder.layers[0], *(b.qkv for b in backbone.blocks)):
        assert part.weight.grad.abs().max() > 0
    assert all(parameter.grad is not None for parameter in model.head.parameters())


def test_under_bf16_autocast_losses_are_float32_and_nearly_the_same(model, batch):
    with torch.autocast("cpu", torch.bfloat16):
        output, predicted = model(batch), model.predict(batch)
        output.loss_B.sum().backward()
    assert output.loss_B.dtype == output.metrics["action_l1"].dtype == predicted.dtype == torch.float32
    torch.testing.assert_close(output.loss_B.detach(), loss(model, batch), rtol=0.05, atol=0.02)


def test_metrics_are_one_value_per_sample_without_a_gradient(model, batch):
    output = model(batch)
    assert output.metrics["action_l1"].shape == output.loss_B.shape == (4,)
    assert not output.metrics["action_l1"].requires_grad


def test_configurations_survive_the_way_through_a_record(model):
    config = replace(preset("nano"), model=model.config)
    assert config_from_record(config_to_record(config)) == config


@pytest.fixture(params=["octo", "paligemma"], scope="module")
def other_backbone(request, tmp_path_factory):
    if request.param == "octo":
        return octo_tiny()
    source = write_tiny("paligemma", tmp_path_factory.mktemp("models") / "paligemma")
    return VLMConfig(source=str(source), prefix_attention="bidirectional")


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.kind)
def test_on_every_kind_of_backbone_a_sample_alone_is_as_in_its_batch_and_trains_it(other_backbone, head, batch):
    torch.manual_seed(0)
    model = VLA(ModelConfig(backbone=other_backbone, head=head, chunk=3, history=2)).eval()
    batch["instruction"][1] = "pull the large red block to the left"
    alone = {name: value[:1] for name, value in batch.items()}
    torch.testing.assert_close(loss(model, alone), loss(model, batch)[:1], rtol=1e-4, atol=1e-5)
    predicted = model.predict(batch)
    assert torch.isfinite(predicted).all() and predicted[batch["action_mask"][:, None].expand_as(predicted)].all()
    torch.testing.assert_close(model.predict(alone), predicted[:1], rtol=1e-3, atol=1e-4)
    model(batch).loss_B.sum().backward()
    trained = [
        name for name, weight in model.backbone.named_parameters() if weight.grad is not None and weight.grad.any()
    ]
    assert len(trained) > 0.7 * len(list(model.backbone.parameters())), "all but what only decoding ids needs"
