"""The language side, on tiny models of two kinds: one that reads its sentence in both directions, one causally."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oxe_pipeline.vla.backbones.attention_rules import block_attention
from oxe_pipeline.vla.backbones.language import ids_before_trailing_specials
from oxe_pipeline.vla.backbones.tiny import write_tiny
from oxe_pipeline.vla.backbones.vlm import VLMBackbone, VLMConfig
from tests.vla.batches import make_batch

PROMPT = "{images}In: {state} what to {instruction}?"


def make_backbone(source, *, attention: str, **changes) -> VLMBackbone:
    torch.manual_seed(0)
    config: dict[str, Any] = {"prompt": PROMPT, "text_length": 128, "prefix_attention": attention} | changes
    return VLMBackbone(VLMConfig(source=str(source), **config), extra_ids=0).eval()


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    return {
        attention: write_tiny(kind, folder / kind, seed=0)
        for attention, kind in (("bidirectional", "paligemma"), ("causal", "smolvlm"))
    }


@pytest.fixture(scope="module", params=["bidirectional", "causal"])
def backbone(request, sources) -> VLMBackbone:
    return make_backbone(sources[request.param], attention=request.param)


def mixed_batch() -> dict:
    """Sentences of different lengths: a sample without a wrist camera, one with a history of one step, long words."""
    batch = make_batch(history=2)
    batch["image_wrist_mask"][1] = False
    for name in ("history_mask", "image_primary_mask", "image_wrist_mask"):
        batch[name][2, 0] = False
    batch["instruction"][3] = "put the small red block on top of the other one"
    return batch


def decoded_tokens(width: int, *, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    embedding = torch.randn(4, 5, width, generator=torch.Generator().manual_seed(1)).to(dtype)
    mask = torch.ones(4, 5, dtype=torch.bool)
    mask[1, 3:] = mask[2, 1] = False
    return embedding, mask


def hidden_of(backbone: VLMBackbone, batch: dict, *, causal: bool = True) -> torch.Tensor:
    embedding, mask = decoded_tokens(backbone.width)
    size = len(batch["g"])
    with torch.no_grad():
        return backbone.encode_decode(batch, embedding[:size], mask[:size], causal=causal)


def rows(batch: dict, row: int) -> dict:
    return {name: value[row : row + 1] for name, value in batch.items()}


@given(
    real=st.lists(st.booleans(), min_size=1, max_size=8),
    opens=st.lists(st.booleans(), min_size=8, max_size=8),
    queries=st.integers(1, 8),
)
def test_the_mask_lets_a_token_see_itself_and_the_real_ones_of_its_own_and_earlier_blocks(real, opens, queries):
    length = len(real)
    queries = min(queries, length)
    mask = block_attention(torch.tensor([real]), torch.tensor(opens[:length]), queries=queries)
    for query in range(length - queries, length):
        for key in range(length):
            later = key > query and any(opens[query + 1 : key + 1])
            expected = key == query or (real[key] and not later)
            assert mask[0, query - (length - queries), key].item() == expected


@pytest.mark.parametrize("causal", [True, False])
def test_one_pass_agrees_with_decoding_after_encoding(backbone, causal):
    batch, (embedding, mask) = mixed_batch(), decoded_tokens(backbone.width)
    with torch.no_grad():
        decoded, _ = backbone.decode(embedding, mask, backbone.encode(batch), causal=causal)
    torch.testing.assert_close(hidden_of(backbone, batch, causal=causal)[mask], decoded[mask], rtol=1e-4, atol=1e-4)


def test_one_pass_agrees_with_decoding_token_by_token(backbone):
    batch, (embedding, mask) = mixed_batch(), decoded_tokens(backbone.width)
    with torch.no_grad():
        context, hidden = backbone.encode(batch), []
        for place in range(embedding.shape[1]):
            here = slice(place, place + 1)
            step, context = backbone.decode(embedding[:, here], mask[:, here], context)
            hidden.append(step)
    torch.testing.assert_close(hidden_of(backbone, batch)[mask], torch.cat(hidden, 1)[mask], rtol=1e-4, atol=1e-4)
    assert torch.equal(context.length_B, backbone.encode(batch).length_B + mask.sum(1))


def test_without_causality_a_decoded_token_sees_the_later_ones(backbone):
    batch, (embedding, mask) = mixed_batch(), decoded_tokens(backbone.width)
    other = embedding.clone()
    other[:, -1] += 1
    with torch.no_grad():
        for causal in (True, False):
            first = [backbone.encode_decode(batch, tokens, mask, causal=causal)[0, 0] for tokens in (embedding, other)]
            assert torch.equal(*first) == causal


def test_decoding_leaves_older_contexts_as_they_were(backbone):
    embedding, mask = decoded_tokens(backbone.width)
    with torch.no_grad():
        context = backbone.encode(mixed_batch())
        before = [tensor.clone() for tensor in (*context.keys, *context.values, context.mask_BP)]
        first, grown = backbone.decode(embedding, mask, context)
        backbone.decode(embedding, mask, grown)
        assert torch.equal(first, backbone.decode(embedding, mask, context)[0])
    assert all(map(torch.equal, before, (*context.keys, *context.values, context.mask_BP)))


def test_a_sample_is_read_the_same_alone_and_beside_longer_ones(backbone):
    batch, (embedding, mask) = mixed_batch(), decoded_tokens(backbone.width)
    together = hidden_of(backbone, batch)
    assert len(set(backbone.encode(batch).length_B.tolist())) > 2, "the sentences must differ in length"
    for row in range(4):
        with torch.no_grad():
            alone = backbone.encode_decode(rows(batch, row), embedding[row, None], mask[row, None])
        torch.testing.assert_close(together[row][mask[row]], alone[0][mask[row]], rtol=1e-4, atol=1e-4)


def test_a_masked_camera_has_no_influence_and_equals_an_absent_one(backbone):
    batch = make_batch(history=2)
    batch["image_wrist_mask"][:] = False
    masked = hidden_of(backbone, batch)
    assert torch.equal(masked, hidden_of(backbone, {**batch, "image_wrist": 255 - batch["image_wrist"]}))
    assert torch.equal(masked, hidden_of(backbone, {k: v for k, v in batch.items() if not k.startswith("image_wrist")}))
    batch["image_wrist_mask"][:] = True
    assert not torch.allclose(masked, hidden_of(backbone, batch)), "a camera that is there does count"


def test_padded_history_and_masked_state_slots_have_no_influence(backbone):
    batch = mixed_batch()
    other = {**batch, "state": batch["state"].clone(), "image_primary": batch["image_primary"].clone()}
    other["state"][2, 0] = 3.0
    other["state"][:, :, 10:] = 9.0
    other["image_primary"][2, 0] = 0
    assert torch.equal(hidden_of(backbone, batch), hidden_of(backbone, other))
    other["state"][2, 1, 0] += 1
    assert not torch.allclose(hidden_of(backbone, batch)[2], hidden_of(backbone, other)[2]), "the present state counts"


def test_images_of_any_sizes_are_one_call_of_the_tower(backbone):
    calls = []
    hook = backbone.vision.register_forward_hook(lambda _, __, tokens: calls.append(len(tokens)))
    backbone.encode(mixed_batch())
    hook.remove()
    assert calls == [7 + 5], "7 of the primary camera and 5 of the wrist exist, in two sizes"


def test_the_prefix_is_read_in_the_direction_that_the_configuration_says(sources):
    for attention, source in sources.items():
        backbone, batch = make_backbone(source, attention=attention), make_batch(size=1)
        other = {**batch, "instruction": ["push block 1"]}
        with torch.no_grad():
            first = [backbone.encode(each).values[-1][:, :, 0] for each in (batch, other)]
        assert torch.equal(*first) == (attention == "causal"), "the first token, of the last layer, saw the instruction"


def test_gradients_flow_through_a_contexts_keys_and_values(backbone):
    context = backbone.encode(make_batch(size=2))
    sum(tensor.square().sum() for tensor in (*context.keys, *context.values)).backward()
    for part in (backbone.vision, backbone.state_encoder, backbone.language.layers[0].self_attn.q_proj):
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in part.parameters())
    backbone.zero_grad()


def test_checkpointed_activations_change_neither_hidden_states_nor_gradients(backbone):
    batch, (embedding, mask) = mixed_batch(), decoded_tokens(backbone.width)

    def gradients() -> list[torch.Tensor]:
        backbone.zero_grad()
        context = backbone.encode(batch)
        hidden = backbone.encode_decode(batch, embedding, mask) + backbone.decode(embedding, mask, context)[0]
        (hidden.square().sum() + sum(key.square().sum() for key in context.keys)).backward()
        return [hidden.detach(), *(p.grad.clone() for p in backbone.parameters() if p.grad is not None)]

    runs, layer = [], backbone.language.layers[0].self_attn
    hook = layer.register_forward_hook(lambda *_: runs.append(1))
    backbone.train()
    plain, ran_plain = gradients(), len(runs)
    backbone.checkpoint_activations(True)
    recomputed = gradients()
    backbone.checkpoint_activations(False)
    hook.remove()
    backbone.eval().zero_grad()
    assert len(runs) - ran_plain == 2 * ran_plain, "each layer runs once more for the gradient"
    torch.testing.assert_close(plain, recomputed)


def test_it_runs_in_mixed_precision_near_the_exact_result(backbone):
    batch, (embedding, mask) = mixed_batch(), decoded_tokens(backbone.width)
    exact = hidden_of(backbone, batch)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        one_pass = backbone.encode_decode(batch, embedding, mask)
        decoded, _ = backbone.decode(embedding, mask, backbone.encode(batch))
    for hidden in (one_pass, decoded):
        assert hidden.dtype == torch.float32
        assert (hidden - exact)[mask].abs().mean() < 0.05 * exact.abs().mean() + 0.02


def test_a_model_held_in_bf16_takes_and_gives_the_dtype_of_the_embeddings(sources):
    for attention, source in sources.items():
        backbone, batch = make_backbone(source, attention=attention, dtype="bfloat16"), mixed_batch()
        for dtype in (torch.float32, torch.bfloat16):
            embedding, mask = decoded_tokens(backbone.width, dtype=dtype)
            with torch.no_grad():
                hidden, context = backbone.decode(embedding, mask, backbone.encode(batch))
                one_pass = backbone.encode_decode(batch, embedding, mask)
            assert hidden.dtype == one_pass.dtype == dtype and context.keys[0].dtype == torch.bfloat16
            assert backbone.logits(hidden).dtype == torch.bfloat16
            assert one_pass.isfinite().all()
            assert (one_pass - hidden)[mask].float().abs().mean() < 0.05


def test_keys_turned_by_rotary_at_the_position_after_the_context_are_those_of_the_model(backbone):
    """What an expert beside the layers relies on."""
    batch, (embedding, mask) = mixed_batch(), decoded_tokens(backbone.width)
    with torch.no_grad():
        context = backbone.encode(batch)
        _, grown = backbone.decode(embedding[:, :2], torch.ones_like(mask[:, :2]), context)
        layer = backbone.language.layers[0]
        raw = layer.self_attn.k_proj(layer.input_layernorm(embedding[:, :2])).unflatten(-1, (backbone.kv_heads, -1))
        cos, sin = backbone.rotary(context.length_B[:, None] + torch.arange(2), embedding)
    left, right = raw.transpose(1, 2).chunk(2, -1)
    turned = torch.cat([left, right], -1) * cos[:, None] + torch.cat([-right, left], -1) * sin[:, None]
    torch.testing.assert_close(turned, grown.keys[0][:, :, -2:], rtol=1e-4, atol=1e-5)
    assert turned.shape[-1] == backbone.head_dim and len(grown.keys) == backbone.num_layers


def test_a_batch_without_any_image_still_runs_the_tower_in_training(backbone):
    batch = {"prompt": ["say hello", "a"], "images": [[], []], "target": ["hello", "b"]}
    backbone.zero_grad()
    idle, (embedding, mask) = backbone.encode(batch), decoded_tokens(backbone.width)
    backbone.train().encode_decode(batch, embedding[:2], mask[:2]).sum().backward()
    used = {name for name, parameter in backbone.vision.named_parameters() if parameter.grad is not None}
    assert used and all(not backbone.vision.get_parameter(name).grad.any() for name in used)
    assert all(map(torch.equal, idle.keys, backbone.encode(batch).keys))
    backbone.eval().zero_grad()


def test_text_ids_are_the_tokenisers_and_a_text_comes_back_whole(backbone):
    ids = backbone.vocabulary.encode("lift the lid")
    assert ids == backbone.tokenizer("lift the lid", add_special_tokens=False)["input_ids"]
    assert backbone.vocabulary.decode([*ids, backbone.vocabulary.end_id]) == "lift the lid"
    assert backbone.vocabulary.end_id == backbone.tokenizer.eos_token_id


def test_special_ids_at_the_very_end_of_the_vocabulary_are_not_for_actions(backbone):
    from transformers import AutoTokenizer

    count = len(backbone.tokenizer)
    assert backbone.vocabulary_size <= count <= backbone.tokens.num_embeddings
    tokenizer = AutoTokenizer.from_pretrained(backbone.tokenizer.name_or_path)
    usual = ids_before_trailing_specials(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<one_more>", "<and_another>"]})
    assert len(tokenizer) == count + 2 and ids_before_trailing_specials(tokenizer) == usual


def test_a_longer_history_than_the_configuration_allows_is_refused(backbone):
    with pytest.raises(ValueError, match="history 5 is longer than this backbone's max_history 4"):
        backbone.encode(make_batch(size=1, history=5))
