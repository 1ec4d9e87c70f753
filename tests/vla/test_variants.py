import copy

import pytest
import torch
from torch import nn

from oxe_pipeline.vla.adapters import add_lora, merge_lora
from oxe_pipeline.vla.latency import first_sample, measure_latency, weight_bytes
from oxe_pipeline.vla.model import VLA, ModelConfig
from oxe_pipeline.vla.stored_linear import bitsandbytes_product, store_linear, store_weights
from tests.vla.batches import make_batch

LARGEST_ERROR = {"bf16": 2**-8, "int8": 0.5 / 127, "int4": 1 / 15, "nf4": (1 - 0.6961928) / 2}
"""Of a weight, relative to the largest of its block: half the widest step between two levels."""
BITS = {"bf16": 16, "int8": 8, "int4": 4, "nf4": 4}


def a_linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(96, 80)


@pytest.mark.parametrize("weights", list(BITS))
def test_stored_weights_are_off_by_half_a_level_at_most_and_take_the_bits_they_say(weights):
    linear = a_linear()
    stored = store_linear(linear, weights)
    assert isinstance(stored.weight, torch.Tensor)
    error = (stored.weight - linear.weight).abs().max() / linear.weight.abs().max()
    assert 0 < error <= LARGEST_ERROR[weights] * 1.001
    assert stored.stored.numel() * stored.stored.element_size() * 8 == BITS[weights] * 96 * 80


@pytest.mark.parametrize("weights", list(BITS))
def test_the_product_is_that_of_the_stored_weights(weights):
    linear, x = a_linear(), torch.randn(2, 5, 96, generator=torch.Generator().manual_seed(1))
    stored = store_linear(linear, weights)
    expected = x.double() @ stored.weight.double().T + linear.bias.double()
    # bf16 and int8 round the activations too: to 8 bits of mantissa, and to 127 steps of the largest.
    tolerance = {"bf16": 0.01, "int8": 0.02}.get(weights, 1e-5) * float(expected.detach().abs().max())
    assert stored(x).dtype == torch.float32
    assert (stored(x) - expected).abs().max() < tolerance


@pytest.mark.parametrize("weights", list(BITS))
def test_a_stored_layer_comes_back_from_its_state(weights):
    one = store_linear(a_linear(), weights)
    other = store_linear(nn.Linear(96, 80), weights)
    other.load_state_dict(one.state_dict())
    x = torch.randn(3, 96)
    assert torch.equal(one(x), other(x)) and torch.equal(one.weight, other.weight)


def test_a_number_of_weights_that_fills_no_whole_block_is_stored_too():
    linear = nn.Linear(7, 5, bias=False)
    for weights in BITS:
        stored = store_linear(linear, weights)
        assert stored.weight.shape == (5, 7) and stored(torch.ones(7)).shape == (5,)


def test_nf4_weights_are_laid_out_as_bitsandbytes_lays_them_out():
    bitsandbytes = pytest.importorskip("bitsandbytes")
    linear = nn.Linear(128, 96)
    theirs = bitsandbytes.nn.Linear4bit(128, 96, quant_type="nf4", compress_statistics=False)
    theirs.load_state_dict(linear.state_dict())
    theirs = theirs.to("cpu")
    ours, x = store_linear(linear, "nf4"), torch.randn(3, 128)
    assert torch.equal(ours.stored, theirs.weight.flatten())
    torch.testing.assert_close(bitsandbytes_product(ours, x, ours.bias), ours(x))


def test_layers_that_share_weights_or_are_read_past_them_stay():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.out = nn.Embedding(10, 64), nn.Linear(64, 10, bias=False)
            self.out.weight = self.tokens.weight
            self.attention, self.plain = nn.MultiheadAttention(64, 2), nn.Linear(64, 64)

    model = Mixed()
    assert store_weights(model, "int8") == 1
    assert type(model.out) is nn.Linear and model.out.weight is model.tokens.weight
    assert isinstance(model.attention.out_proj, nn.Linear) and type(model.plain) is not nn.Linear
    with pytest.raises(ValueError, match=r"weights must be one of .*is 'int3'"):
        store_weights(model, "int3")


@pytest.mark.parametrize("weights", list(BITS))
def test_a_model_with_stored_weights_predicts_and_is_smaller(weights):
    torch.manual_seed(0)
    model, batch = VLA(ModelConfig(chunk=2)).eval(), make_batch()
    small = copy.deepcopy(model)
    assert store_weights(small, weights) > 5
    assert weight_bytes(small) < 0.8 * weight_bytes(model)
    with torch.no_grad():
        torch.testing.assert_close(small(batch).loss_B, model(batch).loss_B, rtol=0.2, atol=0)
    assert small.predict(batch).shape == (4, 2, 32)


def test_merged_adapters_give_the_outputs_of_the_adapted_model():
    torch.manual_seed(0)
    model, batch = VLA(ModelConfig(chunk=2)), make_batch()
    plain = model(batch).loss_B.detach()
    add_lora(model, rank=4, alpha=8.0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    adapted = model.eval()(batch).loss_B.detach()
    assert (adapted - plain).abs().max() > 0.01, "the adapters do something"
    merged = merge_lora(copy.deepcopy(model))
    assert not any("lora" in name for name in merged.state_dict())
    torch.testing.assert_close(merged(batch).loss_B, adapted, rtol=1e-4, atol=1e-5)


def test_latency_counts_calls_of_one_sample():
    model, batch = VLA(ModelConfig()).eval(), make_batch(chunk=1)
    measured = measure_latency(model, first_sample(batch), calls=5)
    assert measured.calls == 5 and 0 < measured.median_ms <= measured.p95_ms
    assert measured.rate_hz == pytest.approx(1000 / measured.median_ms)
    with pytest.raises(ValueError, match="one sample, the batch has 4"):
        measure_latency(model, batch)


def test_weight_bytes_are_those_of_the_parameters():
    model = VLA(ModelConfig())
    assert weight_bytes(model) == 4 * model.num_parameters
