"""Tiny models of three families in the vlm backbone, each against the family's own forward pass in transformers."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from oxe_pipeline.vla.backbones.image_inputs import ImageInputs
from oxe_pipeline.vla.backbones.tiny import write_tiny
from oxe_pipeline.vla.backbones.vlm import VLMBackbone, VLMConfig
from oxe_pipeline.vla.model import BACKBONES, VLA, ModelConfig
from tests.vla.batches import make_batch

ATTENTION = {"paligemma": "bidirectional", "smolvlm": "causal", "llava": "causal"}
TEMPLATE = "{images}pick {instruction}\n"


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    found = {kind: write_tiny(kind, folder / kind, seed=0) for kind in ATTENTION}
    return found | {"paligemma2": write_paligemma2(folder / "paligemma2")}


def write_paligemma2(folder):
    """PaliGemma with Gemma 2, whose attention scores and logits are capped and every other layer has a window."""
    from transformers import AutoConfig

    settings = AutoConfig.from_pretrained(write_tiny("paligemma", folder, seed=0))
    text = settings.text_config.to_dict() | {"model_type": "gemma2", "query_pre_attn_scalar": 16}
    text |= {"attn_logit_softcapping": 0.5, "final_logit_softcapping": 0.5, "initializer_range": 0.2}
    torch.manual_seed(0)
    changed = type(settings)(**settings.to_dict() | {"text_config": text})
    AutoModelForImageTextToText.from_config(changed).save_pretrained(folder)
    return folder


def config(sources, kind: str, **changes) -> VLMConfig:
    fields: dict[str, Any] = {
        "prompt": TEMPLATE,
        "text_length": 128,
        "prefix_attention": ATTENTION[kind.rstrip("2")],
    } | changes
    return VLMConfig(source=str(sources[kind]), **fields)


def make_backbone(sources, kind: str, **changes) -> VLMBackbone:
    torch.manual_seed(0)
    return VLMBackbone(config(sources, kind, **changes), extra_ids=0).eval()


def text_batch() -> dict:
    images = torch.randint(0, 256, (3, 40, 30, 3), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    return {
        "prompt": ["<image>what is it?", "compare <image> with <image>", "say hello"],
        "images": [[images[0]], [images[1], images[2][:20]], []],
        "target": ["a cup", "the first is red", "hello"],
    }


def hidden_of(backbone: VLMBackbone, batch: dict, size: int) -> torch.Tensor:
    embedding = torch.randn(size, 3, backbone.width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return backbone.encode_decode(batch, embedding, torch.ones(size, 3, dtype=torch.bool))


def own_inputs(source, model, batch: dict, instruction: str) -> dict:
    """What the family's own processor makes of a sample's two images and its instruction."""
    images = [batch["image_primary"][0, 0], batch["image_wrist"][0, 0]]
    if model.config.model_type != "smolvlm":
        text = f"<image><image>pick {instruction}" + ("\n" if model.config.model_type == "llava" else "")
        processor = AutoProcessor.from_pretrained(source, backend="pil")
        made = processor(images=[image.numpy() for image in images], text=text, return_tensors="pt")
        return {name: value for name, value in made.items() if name != "labels"}
    # Its processor wants torchvision; this is what it writes for whole images.
    image = (
        "<fake_token_around_image><global-img>" + "<image>" * model.model.image_seq_len + "<fake_token_around_image>"
    )
    tokenizer = AutoTokenizer.from_pretrained(source)
    ids = tokenizer(f"<|im_start|>{image}{image}pick {instruction}\n", return_tensors="pt")["input_ids"]
    pixels = ImageInputs(str(source))(torch.stack(images))[None]
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}


@pytest.mark.parametrize("kind", [*ATTENTION, "paligemma2"])
def test_logits_are_those_of_the_familys_own_processor_and_forward_pass(sources, kind):
    backbone = make_backbone(sources, kind)
    model = AutoModelForImageTextToText.from_pretrained(
        sources[kind], dtype=torch.float32, attn_implementation="eager"
    ).eval()
    batch, side = make_batch(size=1), backbone.image_size
    for camera in ("primary", "wrist"):
        batch[f"image_{camera}"] = torch.randint(0, 256, (1, 1, side, side, 3), dtype=torch.uint8)
    inputs = own_inputs(sources[kind], model, batch, "push block 0")
    answer = torch.tensor([backbone.vocabulary.encode("up and left")])
    sentence, length = inputs["input_ids"].shape[1], answer.shape[1]
    for name, after in (("input_ids", answer), ("attention_mask", answer != -1), ("token_type_ids", answer != -1)):
        if name in inputs:
            inputs[name] = torch.cat([inputs[name], after.long()], 1)
    with torch.no_grad():
        expected = model(**inputs).logits[:, -length:]
        hidden = backbone.encode_decode(batch, backbone.tokens(answer), torch.ones(1, length, dtype=torch.bool))
        assert backbone.encode(batch).length_B.item() == sentence
    torch.testing.assert_close(backbone.logits(hidden), expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 1e-3, "the tiny model must say something"


@pytest.mark.parametrize("kind", ATTENTION)
def test_every_image_has_an_influence_and_every_weight_belongs_to_one_module(sources, kind):
    backbone, batch = make_backbone(sources, kind), make_batch()
    other = {**batch, "image_wrist": 255 - batch["image_wrist"]}
    assert not torch.allclose(hidden_of(backbone, batch, 4), hidden_of(backbone, other, 4))
    addresses = [value.data_ptr() for value in backbone.state_dict().values() if value.numel()]
    assert len(addresses) == len(set(addresses)), "safetensors stores no tensor twice"


@pytest.mark.parametrize("kind", ATTENTION)
def test_prompts_with_images_at_any_place_are_read_each_as_if_it_were_alone(sources, kind):
    backbone, batch = make_backbone(sources, kind), text_batch()
    together = hidden_of(backbone, batch, 3)
    embedding = torch.randn(3, 3, backbone.width, generator=torch.Generator().manual_seed(1))
    for row in range(3):
        alone = {name: value[row : row + 1] for name, value in batch.items()}
        with torch.no_grad():
            hidden = backbone.encode_decode(alone, embedding[row, None], torch.ones(1, 3, dtype=torch.bool))
        torch.testing.assert_close(together[row, None], hidden, rtol=1e-4, atol=1e-4)
    assert backbone.prompt(batch, 1) == "compare <image> with <image>"


def test_a_prompt_is_shown_as_it_is_read(sources):
    backbone = make_backbone(sources, "smolvlm", prompt="{images}{state}pick {instruction}!")
    batch = {**make_batch(), "instruction": ["The BLOCK"] * 4}
    batch["image_wrist_mask"][1] = False
    assert backbone.prompt(batch, 0) == "<image primary><image wrist><state>pick the block!"
    assert backbone.prompt(batch, 1) == "<image primary><state>pick the block!"


@pytest.mark.parametrize("kind", ATTENTION)
def test_a_backbone_made_of_its_parts_and_given_the_weights_is_the_same(sources, kind, tmp_path):
    backbone = make_backbone(sources, kind)
    tmp_path.mkdir(exist_ok=True)
    backbone.save_parts(tmp_path)
    assert not list(tmp_path.glob("*.safetensors")), "weights lie in the checkpoint"
    again = VLMBackbone(config({kind: "a/name-that-is-nowhere"}, kind), extra_ids=0, parts=tmp_path).eval()
    again.load_state_dict(backbone.state_dict())
    batch = make_batch()
    assert torch.equal(hidden_of(backbone, batch, 4), hidden_of(again, batch, 4))
    assert again.prompt(batch, 2) == backbone.prompt(batch, 2) and again.image_size == backbone.image_size


def test_the_loss_reaches_vision_language_and_state(sources):
    torch.manual_seed(0)
    backbone = config(sources, "smolvlm", prompt="{images}{state}" + TEMPLATE.removeprefix("{images}"))
    model = VLA(ModelConfig(backbone=backbone, chunk=1))
    model(make_batch(chunk=1)).loss_B.mean().backward()
    for part in (model.backbone.vision, model.backbone.language, model.backbone.state_encoder):
        without = [name for name, parameter in part.named_parameters() if parameter.grad is None]
        assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in part.parameters())
        assert not without, f"no gradient for {without}"


def test_the_model_knows_it_by_the_kind_vlm():
    assert BACKBONES["vlm"] == (VLMConfig, VLMBackbone)


@pytest.mark.parametrize(
    ("field", "value"),
    [("prefix_attention", "full"), ("dtype", "float16"), ("max_history", 0), ("text_length", 0)],
)
def test_a_setting_that_does_not_hold_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=field):
        VLMConfig(**{field: value})


def test_models_that_it_cannot_feed_are_refused_by_name(tmp_path):
    from transformers import LlamaConfig, Qwen2_5_VLConfig

    rotation = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    qwen = Qwen2_5_VLConfig(text_config={"rope_parameters": rotation})
    for settings, says in ((qwen, "three-dimensional positions"), (LlamaConfig(), "no model of images")):
        settings.save_pretrained(tmp_path)
        with pytest.raises(ValueError, match=says):
            VLMBackbone(VLMConfig(source=str(tmp_path)), extra_ids=0)
