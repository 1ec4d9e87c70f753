"""TrainedModel: a model out of a checkpoint, with what is needed to act on real units. Evaluation and serving start
here.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from oxe_pipeline.stats.normalizer import Normalizer
from oxe_pipeline.vla.adapters import build_model, load_weights_into
from oxe_pipeline.vla.checkpoint import latest_checkpoint, load_weights, parts_folder, read_state
from oxe_pipeline.vla.model import VLA
from oxe_pipeline.vla.records import config_from_record
from oxe_pipeline.vla.stored_linear import store_weights
from oxe_pipeline.vla.train_config import TrainConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedModel:
    model: VLA
    """In evaluation mode, with the averaged weights where the run kept them."""
    config: TrainConfig
    normalizers: dict[str, dict[str, Normalizer]]
    """Data set -> "action" and "state" -> the Normalizer it was trained with, over all 32 or 40 slots."""
    step: int
    folder: Path
    """The checkpoint."""
    mixture_file: Path


def load_trained(run: Path, *, device: torch.device | str = "cpu") -> TrainedModel:
    """The newest checkpoint of a run folder, or the checkpoint folder itself. CheckpointError for one that does not
    hold.
    """
    folder = latest_checkpoint(Path(run))
    state = read_state(folder)
    config = config_from_record(state["config"])
    model = build_model(replace(config, activation_checkpointing=False), parts=parts_folder(folder))
    store_weights(model, state.get("variant", {}).get("weights", "fp32"))
    load_weights_into(model, load_weights(folder))
    return TrainedModel(
        model=model.to(device).eval(),
        config=config,
        normalizers={
            dataset: {vector: Normalizer.from_dict(record) for vector, record in vectors.items()}
            for dataset, vectors in state["normalizers"].items()
        },
        step=state["step"],
        folder=folder,
        mixture_file=Path(state["mixture"]["file"]),
    )
