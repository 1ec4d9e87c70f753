"""The presets: functions that return a whole TrainConfig, each after a published system.

Numbers are the published ones where there are any; where a preset cannot be its model, its text says how it differs.
All of them predict in the unified slots that a data set has, with rotations as rotation vectors.
"""

import difflib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from oxe_pipeline.loader.augment import AugmentOptions
from oxe_pipeline.vla.backbones import octo as octo_sizes
from oxe_pipeline.vla.backbones.nano import NanoConfig
from oxe_pipeline.vla.backbones.octo import OctoConfig
from oxe_pipeline.vla.backbones.towers import TowersConfig
from oxe_pipeline.vla.backbones.vlm import VLMConfig
from oxe_pipeline.vla.heads.bin_tokens import BinTokensConfig
from oxe_pipeline.vla.heads.chunk_l1 import ChunkL1Config
from oxe_pipeline.vla.heads.diffusion import DiffusionConfig
from oxe_pipeline.vla.heads.fast_tokens import FastTokensConfig
from oxe_pipeline.vla.heads.flow import FlowConfig
from oxe_pipeline.vla.heads.text_tokens import TextTokensConfig
from oxe_pipeline.vla.miniature import miniature
from oxe_pipeline.vla.model import BackboneConfig, ModelConfig
from oxe_pipeline.vla.train_config import TrainConfig

__all__ = ["PRESETS", "TrainConfig", "preset"]

PALIGEMMA = "google/paligemma-3b-pt-224"
RT2_PROMPT = "{images}Q: what action should the robot take to {instruction}? A:"
PALM_E_PROMPT = "Given {images}and state {state}, Q: how does the robot {instruction}? A:"
OFT_PROMPT = "{images}{state}In: What action should the robot take to {instruction}?\nOut:"
PI0_PROMPT = "{images}{instruction}\n"
"""Ended by PaliGemma's separator, behind which an answer begins; heads that speak tokens put it there themselves."""
PI0_FAST_PROMPT = "{images}Task: {instruction}, State: {state};"
OCTO_AUGMENT = AugmentOptions(
    crop_area=(0.8, 1.0), brightness=0.1, contrast=(0.9, 1.1), saturation=(0.9, 1.1), hue=0.05
)
"""Octo's own training also varies the crop's aspect by a tenth, and does not crop the wrist's images."""
OPENVLA_AUGMENT = AugmentOptions()
PI0_AUGMENT = AugmentOptions(
    crop_area=(0.9025, 0.9025), brightness=0.15, contrast=(0.6, 1.4), saturation=(0.5, 1.5), hue=0.0
)
"""As openpi's, whose brightness is a factor of 0.7 to 1.3 and which also turns images by up to 5 degrees; wrist cameras
are not cropped there."""
ADAM_BETAS = (0.9, 0.999)
"""torch's and optax's own, which OpenVLA, OpenVLA-OFT and Octo leave as they are."""


def nano() -> TrainConfig:
    """A VLA of under 1 M parameters from random initialisation, for CPUs, tests and first steps.

    `python -m oxe_pipeline.train --mixture mix.yaml --preset nano --steps 300 --out RUN`: about a minute on two cores
    at batch 32. Expect it to beat the mean action and the repeated previous action on a simple scripted task, not more.
    One thread computes: at this size a second one gains little where cores are idle and loses severalfold where they
    are shared, and the loader needs one too.
    """
    model = ModelConfig(backbone=NanoConfig(), head=BinTokensConfig(choice="median"))
    return TrainConfig(preset="nano", model=model, steps=300, cpu_threads=1)


def rt2() -> TrainConfig:
    """RT-2 (arXiv 2307.15818): the backbone's own words for actions, "terminate dx dy dz rx ry rz gripper" in 256 bins.

    Co-fine-tune it on images with texts: `--texts web.jsonl --text-share 0.5`. PaLI-X and PaLM-E are not public;
    PaliGemma 3B (prefix attention as it was trained) stands for them, with its own customary learning rate. It reads
    every camera, RT-2 one (`--cameras primary`); bins lie between quantiles, RT-2's between fixed bounds. Weights,
    gradients and optimiser take 47 GB, each sample worked on at once another 0.2 GB, most of it for logits over 257,216
    ids: on one accelerator of 80 GB give `--micro-batches 16`.
    """
    backbone = VLMConfig(source=PALIGEMMA, prompt=RT2_PROMPT, prefix_attention="bidirectional")
    return TrainConfig(
        preset="rt2",
        model=ModelConfig(backbone=backbone, head=TextTokensConfig()),
        steps=80_000,
        batch_size=512,
        learning_rate=2e-5,
        schedule="constant",
        warmup_steps=500,
        weight_decay=0.0,
        precision="bf16",
        activation_checkpointing=True,
        checkpoint_every=1000,
    )


def palm_e() -> TrainConfig:
    """PaLM-E (arXiv 2303.03378): images and the robot's state as words of a sentence, at any place of it.

    Actions are spoken as in RT-2's PaLM-E form, one rare id per bin ("symbol tuning"); plans, sub-goals and answers are
    learnt from `--texts plans.jsonl` (`python -m oxe_pipeline.robot_texts` makes some from streams). PaliGemma stands
    for PaLM and its ViT.
    """
    backbone = VLMConfig(source=PALIGEMMA, prompt=PALM_E_PROMPT, prefix_attention="bidirectional")
    model = ModelConfig(backbone=backbone, head=TextTokensConfig(numbers="symbols"))
    return replace(rt2(), preset="palm_e", model=model)


def openvla() -> TrainConfig:
    """OpenVLA (arXiv 2406.09246) fine-tuned by LoRA: DINOv2 and SigLIP fused per patch, Llama 2 7B, 256 bins.

    Published: rank 32, 5e-4, batch 16, 60 GB on one A100, with weights in bfloat16. Here weights take 16 GB: frozen
    matrices are in bfloat16 as well, trained weights in float32. Activations are computed again instead of kept, and
    the gradient is clipped, which its script does not do. For full fine-tuning as in pre-training: `--lora-rank 0
    --learning-rate 2e-5 --weight-decay 0 --batch-size 2048 --sharding fsdp` under torchrun on 64 of them. It starts
    from the towers and the language model; OpenVLA's own weights are stored by another library's names and are not
    read.
    """
    backbone = TowersConfig(image_size=224)
    head = BinTokensConfig(place_embeddings=False, smooth_init=False)
    return TrainConfig(
        preset="openvla",
        model=ModelConfig(backbone=backbone, head=head),
        steps=50_000,
        batch_size=16,
        learning_rate=5e-4,
        schedule="constant",
        warmup_steps=0,
        betas=ADAM_BETAS,
        weight_decay=0.01,
        lora_rank=32,
        precision="bf16",
        activation_checkpointing=True,
        augment=OPENVLA_AUGMENT,
        cameras=("primary",),
        checkpoint_every=1000,
    )


def oft() -> TrainConfig:
    """OpenVLA-OFT (arXiv 2502.19645): OpenVLA's backbone, all actions of a chunk in one pass, L1, state, all cameras.

    All tokens see each other, those of images and instruction too, as in its public code. Chunk 8 as for LIBERO (25 for
    ALOHA, 5 for BridgeData). Published: batch 64 over 8 GPUs, 5e-4 falling to a tenth after 100 k of 150 k steps (here:
    a cosine to a tenth). FiLM is not built.
    """
    backbone = TowersConfig(image_size=224, prompt=OFT_PROMPT, prefix_attention="bidirectional")
    return replace(
        openvla(),
        preset="oft",
        model=ModelConfig(backbone=backbone, head=ChunkL1Config(), chunk=8),
        steps=150_000,
        batch_size=64,
        schedule="cosine",
        cameras=None,
    )


def octo() -> TrainConfig:
    """Octo-Small (arXiv 2405.12213), 27 M parameters from scratch: history 2, chunk 4, diffusion, text or goal image.

    Batch 512 as in its repository (its paper says 2048), 300 k steps; T5-base reads the instruction and stays frozen.
    Mixed precision is ours: Octo computes in float32.
    """
    return TrainConfig(
        preset="octo",
        model=ModelConfig(backbone=OctoConfig(), head=DiffusionConfig(), chunk=4, history=2),
        steps=300_000,
        batch_size=512,
        normalizer="mean_std",
        augment=OCTO_AUGMENT,
        goal_images=True,
        cameras=("primary", "wrist"),
        learning_rate=3e-4,
        schedule="rsqrt",
        warmup_steps=2000,
        betas=ADAM_BETAS,
        weight_decay=0.1,
        precision="bf16",
        checkpoint_every=5000,
    )


def octo_base() -> TrainConfig:
    """Octo-Base: the same with 93 M parameters."""
    config = octo()
    return replace(config, preset="octo_base", model=replace(config.model, backbone=octo_sizes.octo_base()))


def pi0() -> TrainConfig:
    """pi0 (arXiv 2410.24164): PaliGemma and an action expert of 300 M that removes noise by flow matching, chunk 50.

    Batch, schedule and average are those of openpi's default. It starts from PaliGemma: openpi's weights are not read.
    Weights, their average, gradients and optimiser take 65 GB: give `--micro-batches 8` on one accelerator of 80 GB, or
    `--sharding fsdp` on several.
    """
    backbone = VLMConfig(source=PALIGEMMA, prompt=PI0_PROMPT, prefix_attention="bidirectional")
    return TrainConfig(
        preset="pi0",
        model=ModelConfig(backbone=backbone, head=FlowConfig(), chunk=50),
        steps=30_000,
        batch_size=32,
        normalizer="mean_std",
        learning_rate=2.5e-5,
        warmup_steps=1000,
        weight_decay=1e-10,
        ema_decay=0.99,
        precision="bf16",
        activation_checkpointing=True,
        augment=PI0_AUGMENT,
        checkpoint_every=1000,
    )


def pi0_fast() -> TrainConfig:
    """pi0-FAST (arXiv 2501.09747): PaliGemma speaks a chunk as compressed frequencies, 1024 ids learnt from the data.

    A chunk of one second is published; here 10 steps, give `--chunk` for other rates. The state is one token made of
    its numbers, where openpi spells their bins.
    """
    backbone = VLMConfig(source=PALIGEMMA, prompt=PI0_FAST_PROMPT, prefix_attention="bidirectional")
    return replace(
        pi0(),
        preset="pi0_fast",
        model=ModelConfig(
            backbone=backbone, head=FastTokensConfig(place_embeddings=False, smooth_init=False), chunk=10
        ),
        normalizer="quantile",
    )


PRESETS: dict[str, Callable[[], TrainConfig]] = {
    make.__name__: make for make in (nano, rt2, palm_e, openvla, oft, octo, octo_base, pi0, pi0_fast)
}


def preset(
    name: str,
    *,
    tiny: Path | None = None,
    backbone: str | None = None,
    chunk: int | None = None,
    history: int | None = None,
    **changes: Any,
) -> TrainConfig:
    """The preset of that name with the given fields changed; None leaves a field as it is.

    `backbone` is the Hub name or directory of another pretrained backbone: the towers and the language model of
    `openvla` and `oft` with commas between, the text encoder of `octo`. `tiny` is a new folder, to which miniatures of
    the pretrained parts with random weights are written; the run is then made to fit them (see `miniature`). ValueError
    with the nearest names for an unknown preset, and for values that do not hold.
    """
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=3, cutoff=0.6) or sorted(PRESETS)
        raise ValueError(f"no preset {name!r}; did you mean {', '.join(close)}?")
    config = PRESETS[name]()
    if tiny is not None and backbone is not None:
        raise ValueError("tiny makes a backbone of its own: leave one of tiny and backbone out")
    if backbone is not None:
        config = replace(config, model=replace(config.model, backbone=_from_source(config, backbone)))
    if tiny is not None:
        config = miniature(config, tiny)
    shape: dict[str, Any] = {
        key: value for key, value in {"chunk": chunk, "history": history}.items() if value is not None
    }
    given = {key: value for key, value in changes.items() if value is not None}
    return replace(config, model=replace(config.model, **shape), **given)


def _from_source(config: TrainConfig, source: str) -> BackboneConfig:
    parts = config.model.backbone
    if isinstance(parts, VLMConfig):
        return replace(parts, source=source)
    if isinstance(parts, TowersConfig):
        *vision, language = source.split(",")
        if not vision:
            raise ValueError(f"backbone {source!r}: give the vision towers and the language model, commas between")
        return replace(parts, vision=tuple(vision), language=language)
    if isinstance(parts, OctoConfig):
        return replace(parts, text=source)
    raise ValueError(f"preset {config.preset} is trained from random weights: it takes no other backbone")
