"""Complete model directories of a few hundred kilobytes, with random weights: `--tiny`, and the tests.

A tiny directory has what a published one has (config.json, model.safetensors, tokeniser, image settings, processor), in
the family's own classes, so that a model made from it goes the same way, file by file, as one from the Hub. It knows
nothing, and its vocabulary is a few hundred pieces of English. SmolVLM's directory has no processor: its class asks for
torchvision and num2words, and nothing here uses it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from oxe_pipeline.vla.backbones.hub import BackboneError, import_transformers, quiet
from oxe_pipeline.vla.backbones.tiny_tokenizer import TokenizerFamily, make_tokenizer

VISION: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
}
LANGUAGE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 2048,
}
IMAGE_TOKENS = 16
LLAMA = TokenizerFamily(
    first=("<unk>", "<s>", "</s>"), begin="<s>", end="</s>", padding="</s>", unknown="<unk>", begins_texts=True
)
LLAVA = TokenizerFamily(
    first=LLAMA.first,
    last=("<image>", "<pad>"),
    begin="<s>",
    end="</s>",
    padding="<pad>",
    unknown="<unk>",
    begins_texts=True,
)
SMOLVLM = TokenizerFamily(
    first=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    last=("<global-img>", "<fake_token_around_image>", "<image>", "<end_of_utterance>"),
    begin="<|im_start|>",
    end="<end_of_utterance>",
    padding="<|im_end|>",
    unknown="<|endoftext|>",
)
T5 = TokenizerFamily(
    first=("<pad>", "</s>", "<unk>"),
    last=tuple(f"<extra_id_{number}>" for number in range(100)),
    end="</s>",
    padding="<pad>",
    unknown="<unk>",
    ends_texts=True,
)


def write_tiny(kind: str, folder: Path, *, seed: int = 0) -> Path:
    """Writes the directory of a tiny model, and returns it.

    `kind`: paligemma, smolvlm, llava (image-text-to-text), llama (causal language model), siglip, dinov2 (vision
    towers of 56 px and 16 patches), t5 (text encoder). The weights depend on `seed` alone, and torch's global generator
    stays as it was. BackboneError for another kind, or a folder that is not empty.
    """
    if kind not in TINY_KINDS:
        raise BackboneError(f"no tiny {kind!r}; there are {', '.join(TINY_KINDS)}")
    if folder.exists() and any(folder.iterdir()):
        raise BackboneError(f"{folder} is not empty; name a new folder for the tiny {kind}")
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        for part in TINY_KINDS[kind](import_transformers()):
            part.save_pretrained(folder)
    return folder


def _paligemma(transformers: Any) -> tuple[Any, ...]:
    from transformers.models.paligemma.processing_paligemma import EXTRA_TOKENS

    tokenizer = make_tokenizer(
        TokenizerFamily(
            first=("<pad>", "<eos>", "<bos>", "<unk>"),
            named_last=tuple(EXTRA_TOKENS),
            last=("<image>",),
            begin="<bos>",
            end="<eos>",
            padding="<pad>",
            unknown="<unk>",
            begins_texts=True,
        )
    )
    image_processor = _siglip_images(transformers)
    image_processor.image_seq_length = IMAGE_TOKENS
    config = transformers.PaliGemmaConfig(
        vision_config={"model_type": "siglip_vision_model", "vision_use_head": False, **VISION},
        text_config={"model_type": "gemma", **_vocabulary(tokenizer), **LANGUAGE},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=LANGUAGE["hidden_size"],
    )
    processor = transformers.PaliGemmaProcessor(image_processor, tokenizer)
    return transformers.PaliGemmaForConditionalGeneration(config), tokenizer, image_processor, processor


def _smolvlm(transformers: Any) -> tuple[Any, ...]:
    tokenizer = make_tokenizer(SMOLVLM)
    scale_factor, image_size = 2, 112
    config = transformers.SmolVLMConfig(
        vision_config={"model_type": "smolvlm_vision", **VISION, "image_size": image_size},
        text_config={"model_type": "llama", **_vocabulary(tokenizer), **LANGUAGE},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        scale_factor=scale_factor,
    )
    image_processor = transformers.SmolVLMImageProcessorPil(
        size={"longest_edge": 4 * image_size}, max_image_size={"longest_edge": image_size}
    )
    return transformers.SmolVLMForConditionalGeneration(config), tokenizer, image_processor


def _llava(transformers: Any) -> tuple[Any, ...]:
    tokenizer = make_tokenizer(LLAVA)
    config = transformers.LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **VISION},
        text_config={"model_type": "llama", **_vocabulary(tokenizer), **LANGUAGE},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=IMAGE_TOKENS,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    image_processor = transformers.CLIPImageProcessorPil(**_cropped(VISION["image_size"]))
    processor = transformers.LlavaProcessor(
        image_processor,
        tokenizer,
        patch_size=VISION["patch_size"],
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    return transformers.LlavaForConditionalGeneration(config), tokenizer, image_processor, processor


def _llama(transformers: Any) -> tuple[Any, ...]:
    tokenizer = make_tokenizer(LLAMA)
    config = transformers.LlamaConfig(**_vocabulary(tokenizer), **LANGUAGE)
    return transformers.LlamaForCausalLM(config), tokenizer


def _siglip(transformers: Any) -> tuple[Any, ...]:
    """With its text side, as published: a vision tower is a part of it."""
    text = {"vocab_size": 64, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "num_hidden_layers": 1}
    text |= {key: VISION[key] for key in ("hidden_size", "intermediate_size", "num_attention_heads")}
    config = transformers.SiglipConfig(vision_config=VISION, text_config=text)
    return transformers.SiglipModel(config), _siglip_images(transformers)


def _dinov2(transformers: Any) -> tuple[Any, ...]:
    """With registers, as OpenVLA's, and with positions of larger images than its settings make (there 518 and 224 px),
    so that they are interpolated.
    """
    vision = {key: value for key, value in VISION.items() if key != "intermediate_size"} | {"image_size": 70}
    config = transformers.Dinov2WithRegistersConfig(mlp_ratio=2, num_register_tokens=4, **vision)
    image_processor = transformers.BitImageProcessorPil(
        **_cropped(VISION["image_size"], shortest_edge=64),
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    return transformers.Dinov2WithRegistersModel(config), image_processor


def _t5(transformers: Any) -> tuple[Any, ...]:
    tokenizer = make_tokenizer(T5)
    config = transformers.T5Config(
        vocab_size=_rows(len(tokenizer)),
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    return transformers.T5ForConditionalGeneration(config), tokenizer


TINY_KINDS: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "paligemma": _paligemma,
    "smolvlm": _smolvlm,
    "llava": _llava,
    "llama": _llama,
    "siglip": _siglip,
    "dinov2": _dinov2,
    "t5": _t5,
}
"""Kind to what makes its model, tokeniser, image settings and processor, in the order in which they are written."""


def _siglip_images(transformers: Any) -> Any:
    side = VISION["image_size"]
    return transformers.SiglipImageProcessorPil(size={"height": side, "width": side})


def _cropped(side: int, *, shortest_edge: int | None = None) -> dict[str, Any]:
    return {"size": {"shortest_edge": shortest_edge or side}, "crop_size": {"height": side, "width": side}}


def _vocabulary(tokenizer: Any) -> dict[str, int]:
    return {
        "vocab_size": _rows(len(tokenizer)),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _rows(ids: int) -> int:
    """Rows of the embedding table: more than there are ids, as published models have, for the sake of the hardware."""
    return -(-ids // 64) * 64
