"""Which weights of a model are trained: low-rank adapters (LoRA, by peft), freezing by name, and the model they make.

`build_model` is the one way from a TrainConfig to a model, in training as in loading: adapters change the names of
weights, so a checkpoint fits only a model that was built the same way.
"""

import difflib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from oxe_pipeline.vla.backbones.text_encoder import T5TextEncoder
from oxe_pipeline.vla.model import VLA
from oxe_pipeline.vla.train_config import TrainConfig

INSTALL_HINT = "LoRA needs peft: pip install 'oxe-pipeline[train]'"
TRAINED_WHOLE = ("*projector*", "*connector*", "*state_encoder*")
"""Parts of a backbone that start from random weights or lie between pretrained parts: small, and trained besides the
adapters. The second and third are names in transformers' models and in ours."""


def build_model(config: TrainConfig, *, parts: Path | None = None) -> VLA:
    """The model of a configuration, with adapters, frozen weights and activation checkpointing as it asks.

    `parts` as in VLA. Random weights, those of adapters included, come from torch's global generator. ValueError for a
    pattern that freezes nothing, for a model left without a weight to train, and for what the backbone cannot do.
    """
    model = VLA(config.model, parts=parts)
    if config.lora_rank:
        add_lora(model, rank=config.lora_rank, alpha=config.lora_alpha)
    freeze(model, config.freeze)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"freeze {', '.join(config.freeze)} leaves nothing to train; freeze less")
    if config.activation_checkpointing:
        if not hasattr(model.backbone, "checkpoint_activations"):
            raise ValueError(
                f"activation_checkpointing: backbone {config.model.backbone.kind} cannot; leave it out, or use more "
                "micro_batches to save memory"
            )
        model.backbone.checkpoint_activations(True)
    return model


def add_lora(model: VLA, *, rank: int, alpha: float) -> None:
    """Puts an adapter of that rank beside every linear layer of the backbone, output layer excepted (Hu et al. 2021;
    targets and Gaussian start as in OpenVLA's fine-tuning), and freezes the backbone but for TRAINED_WHOLE.

    The head's weights stay trained; embeddings are frozen with the rest.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ImportError(INSTALL_HINT) from None
    backbone = model.backbone
    whole = [name for name, _ in backbone.named_parameters() if _matches_any(name, TRAINED_WHOLE)]
    targets = linear_layers(backbone)
    if not targets:
        raise ValueError(f"lora_rank: backbone {model.config.backbone.kind} has no linear layer; leave it out")
    backbone.requires_grad_(False)
    adapter: Any = LoraConfig(r=rank, init_lora_weights="gaussian", target_modules=targets)
    adapter.lora_alpha = alpha
    inject_adapter_in_model(adapter, backbone)
    for name in whole:
        backbone.get_parameter(name).requires_grad_(True)


def linear_layers(backbone: nn.Module) -> list[str]:
    """Names of the linear layers that adapters go to.

    Not those that are trained whole, not output layers over the vocabulary (they are, or mirror, embedding tables), and
    not those inside torch's own attention, which reads their weights past them.
    """
    excluded = {id(getattr(backbone, "output", None))}
    tables = {id(part.weight) for part in backbone.modules() if isinstance(part, nn.Embedding)}
    for part in backbone.modules():
        if isinstance(part, nn.MultiheadAttention):
            excluded.update(id(inner) for inner in part.modules())
    return [
        name
        for name, part in backbone.named_modules()
        if isinstance(part, nn.Linear)
        and id(part) not in excluded
        and id(part.weight) not in tables
        and not _matches_any(name + ".", TRAINED_WHOLE)
    ]


def merge_lora(model: nn.Module) -> nn.Module:
    """Adds every adapter into the layer it stands beside and takes it away: the same outputs from an ordinary model.

    In place; gives the model back. A model without adapters stays as it is.
    """
    adapted: list[tuple[str, Any]] = [item for item in model.named_modules() if hasattr(item[1], "lora_A")]
    for name, part in adapted:
        part.merge()
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, part.get_base_layer())
    return model


def freeze(model: nn.Module, patterns: tuple[str, ...]) -> None:
    """Stops training of every parameter whose name, or the name of a module above it, matches a pattern ("*" for any
    text). ValueError with the nearest names for a pattern that matches nothing.
    """
    names = dict(model.named_parameters())
    for pattern in patterns:
        matching = [name for name in names if any(fnmatchcase(level, pattern) for level in _levels(name))]
        if not matching:
            levels = sorted({level for name in names for level in _levels(name)})
            close = difflib.get_close_matches(pattern.strip("*."), levels, n=3, cutoff=0.3) or levels[:3]
            raise ValueError(f"freeze: {pattern!r} matches no parameter; there are {', '.join(close)}")
        for name in matching:
            names[name].requires_grad_(False)


def round_frozen(model: nn.Module) -> int:
    """Stores the frozen weight matrices of linear layers in bfloat16, in place; returns how many those were.

    For training under autocast, which rounds them so at every use: the same numbers from half the memory. Everything
    else stays: weights that are trained, embedding tables and what is tied to them, and text encoders that are run once
    per text, in float32.
    """
    apart = {id(inner) for part in model.modules() if isinstance(part, T5TextEncoder) for inner in part.modules()}
    apart |= {id(part.weight) for part in model.modules() if isinstance(part, nn.Embedding)}
    rounded = 0
    for part in model.modules():
        if type(part) is nn.Linear and not part.weight.requires_grad and not apart & {id(part), id(part.weight)}:
            part.weight.data = part.weight.data.to(torch.bfloat16)
            rounded += 1
    return rounded


def tied_names(model: nn.Module) -> dict[str, str]:
    """Name of each parameter that is another one as well (an output layer that is the embedding table) -> that one."""
    first: dict[int, str] = {}
    return {
        name: first[id(parameter)]
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if first.setdefault(id(parameter), name) != name
    }


def load_weights_into(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Puts the weights of a checkpoint, each tied one once, into a model of the same build, before it is sharded.

    ValueError for weights that do not fit.
    """
    tied = {name: weights[other] for name, other in tied_names(model).items() if other in weights}
    try:
        model.load_state_dict({**weights, **tied})
    except RuntimeError as error:
        reasons = [line.strip() for line in str(error).splitlines()[1:]]
        raise ValueError(
            f"these weights are not of the model that this version builds: {reasons[0]:.200}; use the version of the "
            "package that wrote them, or train anew"
        ) from None


def _levels(name: str) -> list[str]:
    """The name of a parameter and of each module above it: a, a.b, a.b.c."""
    words = name.split(".")
    return [".".join(words[: count + 1]) for count in range(len(words))]


def _matches_any(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
