"""`--tiny`: a preset in a size for two CPU cores, through the same code from file to loss as the full one."""

from dataclasses import replace
from pathlib import Path

from oxe_pipeline.vla.backbones.octo import OctoConfig, octo_tiny
from oxe_pipeline.vla.backbones.tiny import write_tiny
from oxe_pipeline.vla.backbones.towers import TowersConfig
from oxe_pipeline.vla.backbones.vlm import VLMConfig
from oxe_pipeline.vla.heads.bin_tokens import BinTokensConfig
from oxe_pipeline.vla.heads.fast_tokens import FastTokensConfig
from oxe_pipeline.vla.heads.flow import FlowConfig
from oxe_pipeline.vla.model import BackboneConfig, HeadConfig
from oxe_pipeline.vla.train_config import TrainConfig

LONGEST_CHUNK = 8
TEXT_LENGTH = 128
"""A tiny vocabulary cuts texts into small pieces."""


def miniature(config: TrainConfig, folder: Path) -> TrainConfig:
    """The run in a size for two CPU cores: the same code from file to loss, on parts of a few hundred kilobytes that
    are written to `folder`. All weights are trained, since random ones are worth no adapter. ValueError for a preset
    that is as small as that already.
    """
    model = config.model
    if isinstance(model.backbone, VLMConfig):
        backbone: BackboneConfig = replace(
            model.backbone, source=str(write_tiny("paligemma", folder / "paligemma")), text_length=TEXT_LENGTH
        )
    elif isinstance(model.backbone, TowersConfig):
        vision = tuple(str(write_tiny(kind, folder / kind)) for kind in ("dinov2", "siglip"))
        language = str(write_tiny("llama", folder / "llama"))
        backbone = replace(model.backbone, vision=vision, language=language, image_size=None, text_length=TEXT_LENGTH)
    elif isinstance(model.backbone, OctoConfig):
        backbone = octo_tiny(text=str(write_tiny("t5", folder / "t5")))
    else:
        raise ValueError(f"preset {config.preset} has no tiny form: it is that small")
    return replace(
        config,
        model=replace(model, backbone=backbone, head=_small_head(model.head), chunk=min(model.chunk, LONGEST_CHUNK)),
        steps=300,
        batch_size=32,
        learning_rate=2e-3,
        schedule="cosine",
        warmup_steps=20,
        betas=(0.9, 0.95),
        weight_decay=0.01,
        ema_decay=0.0,
        lora_rank=0,
        precision="fp32",
        activation_checkpointing=False,
        augment=None,
        checkpoint_every=100,
        cpu_threads=1,
    )


def _small_head(head: HeadConfig) -> HeadConfig:
    """With sizes for a tiny backbone; vocabularies of random weights may be given an order."""
    if isinstance(head, FlowConfig):
        return replace(head, expert_width=64, expert_mlp_width=128, queries_per_head=2)
    if isinstance(head, FastTokensConfig):
        return replace(head, vocabulary=256, place_embeddings=True, smooth_init=True)
    if isinstance(head, BinTokensConfig):
        return replace(head, smooth_init=True)
    return head
