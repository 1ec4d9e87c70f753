"""Training on one batch over and over: what every head must be able to learn by heart."""

import torch

from oxe_pipeline.vla.backbones.nano import NanoConfig
from oxe_pipeline.vla.model import VLA

SMALL_NANO = NanoConfig(width=64, image_size=32)


def fit_one_batch(model: VLA, batch: dict, *, steps: int, learning_rate: float = 2e-3) -> float:
    """The mean loss before the last of `steps` steps of AdamW; the model is left in evaluation mode."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    model.train()
    for _ in range(steps):
        loss = model(batch).loss_B.mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    return loss.item()


def with_one_camera(batch: dict) -> dict:
    """Without the wrist's, for speed: most of a tiny model's time goes into images."""
    return {name: value for name, value in batch.items() if not name.startswith("image_wrist")}
