"""Presets at their full size, on torch's meta device: shapes fit each other, and sizes are the published ones."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from oxe_pipeline.vla.adapters import add_lora, round_frozen
from oxe_pipeline.vla.backbones.tiny import write_tiny
from oxe_pipeline.vla.heads.chunk_l1 import ChunkL1Config
from oxe_pipeline.vla.model import VLA
from oxe_pipeline.vla.presets import preset

SO400M: dict[str, Any] = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "patch_size": 14,
    "image_size": 224,
}
DINOV2_LARGE: dict[str, Any] = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
GEMMA_2B: dict[str, Any] = {
    "model_type": "gemma",
    "hidden_size": 2048,
    "intermediate_size": 16384,
    "num_hidden_layers": 18,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "vocab_size": 257_216,
}


def paligemma_3b(image_id: int) -> Any:
    vision = {"model_type": "siglip_vision_model", "vision_use_head": False, **SO400M}
    return transformers.PaliGemmaConfig(
        vision_config=vision, text_config=GEMMA_2B, image_token_index=image_id, projection_dim=2048
    )


def write_parts(kind: str, folder: Path, config: Any = None) -> Path:
    """A folder as `save_parts` writes it: the tiny model's tokeniser and image settings, and the published sizes."""
    write_tiny(kind, folder)
    (folder / "model.safetensors").unlink()
    if config is None:
        config = paligemma_3b(json.loads((folder / "config.json").read_text())["image_token_index"])
    config.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> dict[str, Path]:
    """Kind of backbone to its parts."""
    root = tmp_path_factory.mktemp("full_size")
    dinov2 = transformers.Dinov2WithRegistersConfig(**DINOV2_LARGE, image_size=518, patch_size=14)
    write_parts("dinov2", root / "towers" / "vision_0", dinov2)
    write_parts("siglip", root / "towers" / "vision_1", transformers.SiglipConfig(vision_config=SO400M))
    write_parts("llama", root / "towers" / "language", transformers.LlamaConfig())  # Its defaults are 7B's.
    t5_base = transformers.T5Config(vocab_size=32_128, d_model=768, d_ff=3072, num_layers=12, num_heads=12)
    return {
        "vlm": write_parts("paligemma", root / "vlm"),
        "towers": root / "towers",
        "octo": write_parts("t5", root / "octo", t5_base),
    }


def full_size(name: str, parts: dict[str, Path]) -> VLA:
    model = preset(name).model
    if name == "oft":
        model = replace(model, head=ChunkL1Config(slots=tuple(range(7))))  # One arm's, as in LIBERO.
    with torch.device("meta"):
        return VLA(model, parts=parts[model.backbone.kind])


def test_openvla_with_adapters_takes_the_memory_that_the_documentation_says(parts):
    with torch.device("meta"):
        model = full_size("openvla", parts)
        add_lora(model, rank=32, alpha=16.0)
    assert sum(weight.nbytes for weight in model.parameters()) == pytest.approx(30.4e9, rel=5e-3)
    round_frozen(model)
    trained = sum(weight.nbytes for weight in model.parameters() if weight.requires_grad)
    frozen = sum(weight.nbytes for weight in model.parameters() if not weight.requires_grad)
    assert trained + frozen == pytest.approx(15.9e9, rel=5e-3) and frozen == pytest.approx(15.1e9, rel=5e-3)
    assert 3 * trained == pytest.approx(2.2e9, rel=2e-2), "with Adam's two moments, at each checkpoint"


@pytest.mark.parametrize(
    ("name", "trained", "head"),
    [
        ("pi0", 3.24e9, 3.15e8),
        ("oft", 7.67e9, 1.51e8),
        ("octo", 2.72e7, 1.78e6),
        ("octo_base", 9.31e7, 1.86e6),
    ],
)
def test_a_preset_has_the_parameters_of_the_model_it_is_named_after(name, trained, head, parts):
    model = full_size(name, parts)
    assert sum(weight.numel() for weight in model.parameters() if weight.requires_grad) == pytest.approx(
        trained, rel=5e-3
    )
    assert sum(weight.numel() for weight in model.head.parameters()) == pytest.approx(head, rel=3e-2)
