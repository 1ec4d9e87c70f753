"""The diffusion head: a small network removes noise from a chunk of actions, step by step (Octo, arXiv 2405.12213).

Readout tokens look at the context in one pass of the backbone; their mean conditions an MLP that runs once per
denoising step, so 20 steps cost little. Where demonstrations do different things at the same sight, a sample of what
they do comes out, not an average. The price: single predictions are rougher than those of `chunk_l1`, the loss says
less about how good they are, and actions must be normalised to mean 0 and deviation 1, which the noise is made for.

Schedule, sampler, network and sizes are those of Octo's public code; the schedule is that of Nichol and Dhariwal (arXiv
2102.09672), the sampler that of Ho et al. (arXiv 2006.11239) with variance beta. Octo also trains the readouts of
earlier steps of the history; here the newest step alone has an action chunk in the batch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from oxe_pipeline.vla.context import Backbone
from oxe_pipeline.vla.heads.base import HeadOutput, counted_values, mean_counted
from oxe_pipeline.vla.noise import NoiseStream, counter_normal, counter_uniform
from schemas.slots import ACTION_WIDTH


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffusionConfig:
    kind: Literal["diffusion"] = "diffusion"
    steps: int = 20
    """Denoising steps, in training and at inference."""
    readouts: int = 1
    """Readout tokens; their hidden states are averaged, which with Octo's one token is that token itself."""
    samples_per_forward: int = 1
    """Draws of step and noise per sample in one pass: the backbone runs once, the gradient varies less."""
    hidden_width: int = 256
    blocks: int = 3
    time_width: int = 32
    clip: float = 5.0
    """Actions are cut to this on both sides, before noise comes on and after every denoising step."""

    def __post_init__(self):
        for name in ("steps", "readouts", "samples_per_forward", "hidden_width", "blocks", "time_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, is {getattr(self, name)}")
        if self.time_width % 2 or not self.clip > 0:
            raise ValueError(f"time_width {self.time_width} must be even and clip {self.clip} above 0")

    @property
    def extra_ids(self) -> int:
        return 0


def cosine_betas(steps: int) -> Tensor:
    """float32 [steps]: share of the variance that each step replaces by noise, so that what is left of the signal after
    t of T steps goes as cos^2((t / T + s) / (1 + s) * pi / 2), s = 0.008; at most 0.999."""
    left = torch.cos((torch.linspace(0, 1, steps + 1, dtype=torch.float64) + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - left[1:] / left[:-1]).clamp(0, 0.999).float()


class NoiseSchedule(nn.Module):
    """Puts noise on values and takes it off again. Step t of 0 .. steps-1 is an int64 tensor of any shape."""

    def __init__(self, steps: int, *, clip: float):
        super().__init__()
        self.steps, self.clip = steps, clip
        betas = cosine_betas(steps)
        self.betas: Tensor
        self.kept: Tensor
        """Share of the variance that is still signal after each step."""
        self.register_buffer("betas", betas, persistent=False)
        self.register_buffer("kept", (1 - betas).cumprod(0), persistent=False)

    def add_noise(self, values: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Values (clipped) after step t; `t` broadcasts against them."""
        kept = self.kept[t]
        return kept.sqrt() * values.clamp(-self.clip, self.clip) + (1 - kept).sqrt() * noise

    def estimate(self, noisy: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The values (clipped) of which `noisy` is made if `noise` is what was added."""
        kept = self.kept[t]
        return ((noisy - (1 - kept).sqrt() * noise) / kept.sqrt()).clamp(-self.clip, self.clip)

    def sample(self, predict_noise: Callable[[Tensor, int], Tensor], draws: Tensor, exists: Tensor) -> Tensor:
        """Values [B, ...] out of standard normal `draws` [B, steps, ...]; 0 where `exists` is false.

        `predict_noise(noisy, t)` is the noise in `noisy` after step t; draws[:, t] is what comes on when step t is
        reached. Values that do not exist look to the network as they did in training: 0 with the noise of the step.
        """
        x = draws[:, -1]
        for t in reversed(range(self.steps)):
            beta, deviation = self.betas[t], (1 - self.kept[t]).sqrt()
            noisy = torch.where(exists, x, deviation * draws[:, t])
            x = (noisy - beta / deviation * predict_noise(noisy, t)) / (1 - beta).sqrt()
            if t > 0:
                x = x + beta.sqrt() * draws[:, t - 1]
            x = x.clamp(-self.clip, self.clip)
        return torch.where(exists, x, 0.0)


class ResidualBlock(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class ScoreNetwork(nn.Module):
    """The noise in a flat chunk, given a condition and the step: learnt Fourier features of the step, then an MLP."""

    def __init__(self, config: DiffusionConfig, *, condition_width: int, values: int):
        super().__init__()
        width, time_width = config.hidden_width, config.time_width
        self.frequencies = nn.Parameter(0.2 * torch.randn(time_width // 2))
        self.time = nn.Sequential(
            nn.Linear(time_width, 2 * time_width), nn.SiLU(), nn.Linear(2 * time_width, time_width)
        )
        self.mlp = nn.Sequential(
            nn.Linear(time_width + condition_width + values, width),
            *(ResidualBlock(width) for _ in range(config.blocks)),
            nn.SiLU(),
            nn.Linear(width, values),
        )
        for layer in (*self.time, *self.mlp):
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, condition: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
        """float32 [..., values] for a condition [..., W], noisy values [..., values] and steps [...]."""
        angle = 2 * math.pi * t[..., None].float() * self.frequencies
        time = self.time(torch.cat([angle.cos(), angle.sin()], -1))
        return self.mlp(torch.cat([time.float(), condition.float(), noisy], -1)).float()


class DiffusionHead(nn.Module):
    """See the module's text. V = chunk * 32 values are denoised together, N draws per sample."""

    def __init__(self, config: DiffusionConfig, *, backbone: Backbone, chunk: int):
        super().__init__()
        self.chunk, self.draws = chunk, config.samples_per_forward
        self.schedule = NoiseSchedule(config.steps, clip=config.clip)
        self.readout = nn.Parameter(0.02 * torch.randn(config.readouts, backbone.width))
        self.score = ScoreNetwork(config, condition_width=backbone.width, values=chunk * ACTION_WIDTH)

    def forward(self, backbone: Backbone, batch: dict) -> HeadOutput:
        """Mean squared error of the predicted noise over each sample's counted values.

        `action_l1` is the mean absolute error of the actions when the noise of the middle step is taken off in one
        stride; from the drawn steps it would tell of the noisiest alone, whose errors are a thousandfold. Octo sums the
        loss over the slots of a step instead of averaging: its losses are larger by their number.
        """
        embedding, mask_BR = self._readouts(len(batch["g"]))
        condition_BW = backbone.encode_decode(batch, embedding, mask_BR, causal=False).float().mean(1)
        counted_BV = counted_values(batch).flatten(1)
        action_B1V = torch.where(counted_BV, batch["action"].flatten(1), 0.0)[:, None]
        drawn_BN = counter_uniform(batch["g"], (self.draws,), stream=NoiseStream.DIFFUSION_TIME)
        t_BN = (drawn_BN * self.schedule.steps).long()
        noise_BNV = counter_normal(batch["g"], (self.draws, counted_BV.shape[1]), stream=NoiseStream.DIFFUSION_NOISE)
        noisy_BNV = self.schedule.add_noise(action_B1V, noise_BNV, t_BN[..., None])
        predicted_BNV = self.score(condition_BW[:, None].expand(-1, self.draws, -1), noisy_BNV, t_BN)
        counted_BNV = counted_BV[:, None].expand_as(noise_BNV)
        loss_B = mean_counted((predicted_BNV - noise_BNV) ** 2, counted_BNV)
        error_BV = self._middle_error(condition_BW, action_B1V[:, 0], noise_BNV[:, 0])
        return HeadOutput(loss_B, {"action_l1": mean_counted(error_BV, counted_BV)})

    @torch.no_grad()
    def predict(self, backbone: Backbone, batch: dict) -> Tensor:
        """Normalised chunk float32 [B, chunk, 32] within +-clip; masked slots are 0. One pass of the backbone.

        A function of the batch alone: the sample's number `g` decides its noise.
        """
        size = len(batch["g"])
        hidden, _ = backbone.decode(*self._readouts(size), backbone.encode(batch), causal=False)
        condition_BW = hidden.float().mean(1)
        has_BV = batch["action_mask"].repeat(1, self.chunk)
        shape = (self.schedule.steps, has_BV.shape[1])
        draws = counter_normal(batch["g"], shape, stream=NoiseStream.DIFFUSION_SAMPLING)

        def predict_noise(noisy_BV: Tensor, t: int) -> Tensor:
            return self.score(condition_BW, noisy_BV, torch.full((size,), t, device=noisy_BV.device))

        return self.schedule.sample(predict_noise, draws, has_BV).unflatten(1, (self.chunk, ACTION_WIDTH))

    @torch.no_grad()
    def _middle_error(self, condition_BW: Tensor, action_BV: Tensor, noise_BV: Tensor) -> Tensor:
        """Absolute error [B, V] of actions estimated from the middle step."""
        t_B = torch.full_like(action_BV[:, 0], self.schedule.steps // 2, dtype=torch.int64)
        noisy_BV = self.schedule.add_noise(action_BV, noise_BV, t_B[:, None])
        predicted_BV = self.score(condition_BW, noisy_BV, t_B)
        return (self.schedule.estimate(noisy_BV, predicted_BV, t_B[:, None]) - action_BV).abs()

    def _readouts(self, size: int) -> tuple[Tensor, Tensor]:
        """Embeddings [B, R, W] and mask of the readout tokens."""
        mask = torch.ones(size, len(self.readout), dtype=torch.bool, device=self.readout.device)
        return self.readout.expand(size, -1, -1), mask
