"""Training on one batch whose samples come again under new numbers, as an episode's do in a run: with new noise."""

import torch

from oxe_pipeline.vla.model import VLA


def repeated(batch: dict, times: int) -> dict:
    """Every sample `times` times."""
    return {
        name: value * times if isinstance(value, list) else torch.cat([value] * times) for name, value in batch.items()
    }


def fit_with_fresh_noise(model: VLA, batch: dict, *, steps: int, peak: float) -> float:
    """The mean loss before the last step, at a learning rate that rises to `peak` and falls to nearly 0; the model is
    left in evaluation mode.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=steps, pct_start=0.1)
    model.train()
    for step in range(steps):
        loss = model({**batch, "g": torch.arange(len(batch["g"])) + len(batch["g"]) * step}).loss_B.mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()
    return loss.item()
