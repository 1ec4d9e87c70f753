"""TrainConfig, everything a training run depends on besides its mixture, and the presets: functions that return one."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from oxe_pipeline.vla.backbones.nano import NanoConfig
from oxe_pipeline.vla.heads.bin_tokens import BinTokensConfig
from oxe_pipeline.vla.model import ModelConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Checked when made: ValueError names the field and the value."""

    preset: str
    model: ModelConfig
    steps: int
    """Optimiser steps of the whole run; the learning-rate schedule ends here."""
    batch_size: int = 32
    """Samples per optimiser step over all ranks together."""
    micro_batches: int = 1
    """Gradient accumulation: pieces in which each rank works through its part of the batch. Changes memory, not
    results.
    """
    seed: int = 0
    learning_rate: float = 2e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = 20
    final_share: float = 0.1
    """Learning rate at the end of the cosine, as a share of its peak."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    """Applied to weight matrices and convolutions only: not to biases, norms and embeddings."""
    clip_norm: float = 1.0
    """The gradient's norm is clipped to this."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: automatic mixed precision; parameters and optimiser stay float32."""
    cpu_threads: int = 0
    """Threads of torch's CPU operators; 0: torch's own choice, one per core. Numbers agree to the last bit only between
    runs with the same number of threads."""
    ema_decay: float = 0.0
    """Weights averaged exponentially over steps are kept beside the trained ones, and evaluated; 0: none."""
    evaluate_every: int = 0
    """Steps between held-out evaluations during training; 0: only after the last step."""
    evaluate_windows: int = 256
    """Held-out windows per data set in those evaluations; `python -m oxe_pipeline.eval` takes them all."""
    on_corrupt: Literal["error", "substitute"] = "error"
    """What an unreadable image does: stop the run, naming it, or be replaced by its nearest readable neighbour."""
    checkpoint_every: int = 100
    """Steps between checkpoints; one is always written after the last step."""
    keep_checkpoints: int = 2

    def __post_init__(self):
        at_least_1 = (
            "steps",
            "batch_size",
            "micro_batches",
            "evaluate_windows",
            "checkpoint_every",
            "keep_checkpoints",
        )
        for name in at_least_1:
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name} must be a whole number of 1 or more, is {getattr(self, name)!r}")
        for name in ("evaluate_every", "warmup_steps", "weight_decay", "seed", "cpu_threads"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, is {getattr(self, name)!r}")
        for name in ("learning_rate", "clip_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, is {getattr(self, name)!r}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), is {self.ema_decay!r}")
        for name, known in (
            ("schedule", ("cosine", "constant")),
            ("precision", ("fp32", "bf16")),
            ("on_corrupt", ("error", "substitute")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, is {getattr(self, name)!r}")


def nano() -> TrainConfig:
    """A VLA of under 1 M parameters from random initialisation, for CPUs, tests and first steps.

    `python -m oxe_pipeline.train --mixture mix.yaml --preset nano --steps 300 --out RUN`: about a minute on two cores
    at batch 32. Expect it to beat the mean action and the repeated previous action on a simple scripted task, not more.
    One thread computes: at this size a second one gains little where cores are idle and loses severalfold where they
    are shared, and the loader needs one too.
    """
    model = ModelConfig(backbone=NanoConfig(), head=BinTokensConfig(choice="median"))
    return TrainConfig(preset="nano", model=model, steps=300, cpu_threads=1)


PRESETS: dict[str, Callable[[], TrainConfig]] = {"nano": nano}


def preset(name: str, *, chunk: int | None = None, history: int | None = None, **changes: Any) -> TrainConfig:
    """The preset of that name with the given fields changed; None leaves a field as it is.

    ValueError with the nearest names for an unknown preset, and for values that do not hold.
    """
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=3, cutoff=0.4) or sorted(PRESETS)
        raise ValueError(f"no preset {name!r}; did you mean {', '.join(close)}?")
    config = PRESETS[name]()
    shape: dict[str, Any] = {
        key: value for key, value in {"chunk": chunk, "history": history}.items() if value is not None
    }
    given = {key: value for key, value in changes.items() if value is not None}
    return replace(config, model=replace(config.model, **shape), **given)
