"""Variants of a trained model for deployment: adapters merged, weights in fewer bits. Made, then written.

A variant is a checkpoint for acting: `load_trained` reads it like any other, evaluation and serving need not know. Its
state.json names under "variant" what it was made from, how, and what was measured beside the original.
"""

import copy
from dataclasses import replace
from pathlib import Path

from oxe_pipeline.vla.adapters import merge_lora
from oxe_pipeline.vla.checkpoint import read_state, save_for_acting
from oxe_pipeline.vla.records import config_to_record
from oxe_pipeline.vla.stored_linear import Weights, store_weights
from oxe_pipeline.vla.trained import TrainedModel
from oxe_pipeline.vla.training_state import unique_weights


def make_variant(original: TrainedModel, *, merge: bool = False, weights: Weights = "fp32") -> TrainedModel:
    """A copy of the model with its adapters merged and its linear layers' weights in that form, on the same device.

    ValueError for a merge without adapters, for fewer bits with adapters that stay (they would be rounded apart from
    what they correct), for fewer bits where no linear layer can take them, and for a variant that would be none.
    """
    adapted = original.config.lora_rank > 0
    if merge and not adapted:
        raise ValueError(f"{original.folder} has no adapters to merge; leave --merge-lora out")
    if not merge and weights == "fp32":
        raise ValueError("this would be the original again; give --merge-lora or --weights")
    if adapted and not merge:
        raise ValueError(f"{original.folder} has adapters: merge them before their weights are rounded (--merge-lora)")
    model, config = copy.deepcopy(original.model), original.config
    if merge:
        merge_lora(model)
        config = replace(config, lora_rank=0, freeze=())
    if weights != "fp32" and not store_weights(model, weights):
        raise ValueError(f"{original.folder}: no linear layer whose weights could be stored as {weights}")
    return replace(original, model=model.requires_grad_(False).eval(), config=config)


def write_variant(
    out: Path, variant: TrainedModel, *, source: TrainedModel, merged: bool, weights: Weights, measured: dict
) -> None:
    """Writes a variant that `make_variant` made from `source` to the folder `out`, new or empty, whole or not at all.

    `measured` is JSON: the comparison with the original. ValueError for a folder with something in it.
    """
    check_out(out)
    state = {
        name: value
        for name, value in read_state(source.folder).items()
        if name in ("step", "mixture", "normalizers", "image_size", "num_parameters")
    }
    state["config"] = config_to_record(variant.config)
    state["variant"] = {
        "source": str(source.folder.resolve()),
        "merged_lora": merged,
        "weights": weights,
        "device": measured["device"],
        "measured": measured,
    }
    save_for_acting(out, unique_weights(variant.model), state, save_parts=variant.model.save_parts)


def check_out(out: Path) -> None:
    """ValueError for a folder with something in it."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out {out} is not empty; name a new folder")
