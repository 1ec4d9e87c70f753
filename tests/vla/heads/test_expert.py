"""The action expert against what it must equal: the backbone's own layers, where it is given their weights."""

from typing import Any

import pytest
import torch

from oxe_pipeline.vla.backbones.tiny import write_tiny
from oxe_pipeline.vla.backbones.vlm import VLMBackbone, VLMConfig
from oxe_pipeline.vla.heads.expert import ActionExpert
from oxe_pipeline.vla.heads.flow import FlowConfig
from oxe_pipeline.vla.model import VLA, ModelConfig
from tests.vla.batches import make_batch


@pytest.fixture(scope="module")
def tiny_paligemma(tmp_path_factory) -> VLMConfig:
    source = write_tiny("paligemma", tmp_path_factory.mktemp("models") / "paligemma")
    return VLMConfig(source=str(source), prefix_attention="bidirectional")


def expert_with_weights_of(backbone: Any) -> ActionExpert:
    settings = backbone.language.config
    expert = ActionExpert(
        backbone,
        width=backbone.width,
        mlp_width=settings.intermediate_size,
        queries_per_head=settings.num_attention_heads // settings.num_key_value_heads,
    )
    layers: Any = zip(expert.layers, backbone.language.layers, strict=True)
    with torch.no_grad():
        for mine, theirs in layers:
            mine.norm_attention.weight.copy_(1 + theirs.input_layernorm.weight)
            mine.norm_mlp.weight.copy_(1 + theirs.post_attention_layernorm.weight)
            attention, mlp = theirs.self_attn, theirs.mlp
            pairs = (
                (mine.query, attention.q_proj),
                (mine.key, attention.k_proj),
                (mine.value, attention.v_proj),
                (mine.out, attention.o_proj),
                (mine.gate, mlp.gate_proj),
                (mine.up, mlp.up_proj),
                (mine.down, mlp.down_proj),
            )
            for linear, other in pairs:
                linear.weight.copy_(other.weight)
        expert.norm_out.weight.copy_(1 + backbone.language.norm.weight)
    return expert


def test_with_gemmas_weights_it_is_gemma(tiny_paligemma):
    """Norms, rotation by position, grouped queries, masks and MLP all have to be right for this."""
    backbone = VLMBackbone(tiny_paligemma, extra_ids=0).eval()
    batch = make_batch(size=2)
    batch["instruction"] = ["push", "pull the large red block to the left"]
    tokens = torch.randn(2, 3, backbone.width, generator=torch.Generator().manual_seed(0))
    every = torch.ones(2, 3, 3, dtype=torch.bool)
    with torch.no_grad():
        context = backbone.encode(batch)
        assert context.length_B[0] != context.length_B[1], "the sample behind padding must stand at its own positions"
        for own, causal in ((every, False), (every.tril(), True)):
            expected, _ = backbone.decode(tokens, every[:, 0], context, causal=causal)
            actual = expert_with_weights_of(backbone)(backbone, context, tokens, own)
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_flow_on_paligemma_trains_the_backbone_and_predicts(tiny_paligemma):
    torch.manual_seed(0)
    head = FlowConfig(expert_width=32, expert_mlp_width=64, queries_per_head=2, steps=2)
    model = VLA(ModelConfig(backbone=tiny_paligemma, head=head, chunk=3))
    batch = make_batch(size=2, chunk=3)
    model(batch).loss_B.sum().backward()
    language = model.backbone.language
    for part in (*(layer.self_attn.k_proj for layer in language.layers), language.layers[0].mlp.down_proj):
        assert part.weight.grad.abs().max() > 0
    assert model.head.place is None, "rotation tells places"
    predicted = model.eval().predict(batch)
    assert predicted.shape == (2, 3, 32) and torch.isfinite(predicted).all()
