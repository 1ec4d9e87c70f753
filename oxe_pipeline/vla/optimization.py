"""Optimiser, learning-rate schedule and weight averaging, each a few lines around torch's own."""

import copy
import math

import torch
from torch import nn

from oxe_pipeline.vla.model import VLA
from oxe_pipeline.vla.train_config import RSQRT_STEPS, TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) over the weights that are trained; decays matrices and convolutions, not
    vectors and embedding tables.
    """
    embeddings = {id(part.weight) for part in model.modules() if isinstance(part, nn.Embedding)}
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            (decayed if parameter.ndim > 1 and id(parameter) not in embeddings else plain).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas)


def learning_rate_share(step: int, config: TrainConfig) -> float:
    """Share of the peak learning rate that optimiser step `step` (0-based) uses: linear warm-up, then the schedule."""
    if step < config.warmup_steps:
        return (step + 1) / (config.warmup_steps + 1)
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "rsqrt":
        return math.sqrt(RSQRT_STEPS / (RSQRT_STEPS + step - config.warmup_steps))
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.final_share + (1 - config.final_share) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def make_schedule(optimizer: torch.optim.Optimizer, config: TrainConfig) -> torch.optim.lr_scheduler.LambdaLR:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_share(step, config))


class WeightAverage:
    """Exponential moving average of a model's weights. The decay rises with the steps: early weights are forgotten."""

    def __init__(self, model: VLA, decay: float):
        self.decay = decay
        self.model: VLA = copy.deepcopy(model).requires_grad_(False).eval()
        """A model of the same kind that holds the average."""

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Takes in the weights after optimiser step `step` (1-based)."""
        share = 1 - min(self.decay, step / (step + 10))
        for averaged, current in zip(self.model.parameters(), model.parameters(), strict=True):
            if current.requires_grad:
                averaged.lerp_(current, share)
