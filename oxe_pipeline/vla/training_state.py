"""TrainingState: all that a run changes from step to step, gathered into checkpoints and put back from them.

A checkpoint holds whole tensors by name, whatever the run was spread over, so that another number of ranks, or the
other way of sharding, goes on from it. Gathering is work of all ranks; only the first gets the result.
"""

from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from oxe_pipeline.vla.adapters import build_model, load_weights_into, round_frozen, tied_names
from oxe_pipeline.vla.checkpoint import Checkpoint
from oxe_pipeline.vla.distributed import World, transformer_layers
from oxe_pipeline.vla.model import VLA
from oxe_pipeline.vla.optimization import WeightAverage, make_optimizer, make_schedule
from oxe_pipeline.vla.train_config import TrainConfig

_WHOLE_ON_CPU = StateDictOptions(full_state_dict=True, cpu_offload=True)


@dataclass(kw_only=True, slots=True)
class TrainingState:
    """What one rank holds of it."""

    model: VLA
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    average: WeightAverage | None
    num_parameters: int
    """Of the whole model."""
    best: dict[str, Any] = field(default_factory=dict)
    """"step" and "error" of the best evaluation so far; empty before the first."""

    @property
    def acting(self) -> VLA:
        """The model to evaluate: the averaged one where there is one."""
        return self.model if self.average is None else self.average.model

    def checkpoint(self, step: int, state: dict, *, with_frozen: bool) -> Checkpoint:
        """Everything as of after `step`, on the CPU; frozen weights only where asked for: they are many, and the same
        at every step. To be called by all ranks; the content is the first one's.
        """
        fixed = {name for name, parameter in self.model.named_parameters() if not parameter.requires_grad}
        weights = unique_weights(self.model, with_frozen=with_frozen)
        frozen = {name: weights.pop(name) for name in fixed & weights.keys()} if with_frozen else None
        average = None if self.average is None else unique_weights(self.average.model)
        return Checkpoint(
            step=step,
            weights=weights,
            average=average and {name: value for name, value in average.items() if name not in fixed},
            frozen=frozen,
            training={
                "optimizer": get_optimizer_state_dict(self.model, self.optimizer, options=_WHOLE_ON_CPU),
                "schedule": self.schedule.state_dict(),
                "random": _random_state(),
            },
            state={**state, "best": self.best},
        )


def make_training_state(
    config: TrainConfig, world: World, device: torch.device, resume: Checkpoint | None
) -> TrainingState:
    """A new one, or that of a checkpoint; the model spread over the ranks as the configuration asks."""
    model = build_model(config, parts=resume.parts if resume is not None else None)
    num_parameters = model.num_parameters
    if config.precision == "bf16":
        round_frozen(model)
    if resume is not None:
        load_weights_into(model, {**(resume.frozen or {}), **resume.weights})
    average = WeightAverage(model, config.ema_decay) if config.ema_decay else None
    if average is not None and resume is not None and resume.average is not None:
        load_weights_into(average.model, {**(resume.frozen or {}), **resume.average})
    for copy in (model, average.model if average is not None else None):
        if copy is not None:
            _place(copy, config, world, device)
    optimizer = make_optimizer(model, config)
    schedule = make_schedule(optimizer, config)
    state = TrainingState(
        model=model, optimizer=optimizer, schedule=schedule, average=average, num_parameters=num_parameters
    )
    if resume is not None:
        _load_optimizer(model, optimizer, resume.training["optimizer"])
        schedule.load_state_dict(resume.training["schedule"])
        _set_random_state(resume.training["random"])
        state.best = resume.state["best"]
    return state


def _load_optimizer(model: VLA, optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Weights that no loss has reached so far (an output layer that the head goes without) have no state, as before."""
    set_optimizer_state_dict(model, optimizer, saved, options=StateDictOptions(full_state_dict=True, strict=False))
    named = dict(model.named_parameters(remove_duplicate=False))
    reached = {id(parameter) for name, parameter in named.items() if name in saved["state"]}
    for parameter in named.values():
        if id(parameter) not in reached:
            optimizer.state.pop(parameter, None)


def _place(model: VLA, config: TrainConfig, world: World, device: torch.device) -> None:
    """Compiles, shards and moves a model to the device, in place; a sharded one moves layer by layer."""
    if config.compile:
        for layer in transformer_layers(model.backbone):
            layer.compile()
    if config.sharding == "fsdp" and world.size > 1:
        world.shard(model, device, bf16=config.precision == "bf16")
    model.to(device)


def unique_weights(model: nn.Module, *, with_frozen: bool = True) -> dict[str, Tensor]:
    """All weights and buffers that are saved, whole and on the CPU, each tied one once; every rank must call this."""
    options = replace(_WHOLE_ON_CPU, ignore_frozen_params=not with_frozen)
    tied, weights = tied_names(model), cast(dict[str, Tensor], get_model_state_dict(model, options=options))
    return {name: value for name, value in weights.items() if name not in tied}


def _random_state() -> dict[str, Tensor]:
    """States of torch's generators; nothing here draws from numpy's or Python's."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_random_state(states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"].cpu())
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"].cpu())
