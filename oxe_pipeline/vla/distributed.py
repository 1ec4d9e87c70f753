"""World: which part of a training job this process is. Read from torchrun's variables once, by the command, and handed
in.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    rank: int = 0
    local_rank: int = 0
    size: int = 1

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "World":
        """The world that `torchrun` describes in RANK, LOCAL_RANK and WORLD_SIZE; one process without them."""
        return cls(
            rank=int(environment.get("RANK", 0)),
            local_rank=int(environment.get("LOCAL_RANK", 0)),
            size=int(environment.get("WORLD_SIZE", 1)),
        )

    @property
    def leads(self) -> bool:
        """Whether this process writes metrics and checkpoints."""
        return self.rank == 0

    def join(self, device: torch.device) -> None:
        """Meets the other processes; nothing to do when alone."""
        if self.size > 1 and not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")

    def replicate(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The model as it is to be called in training: averages gradients over the ranks where there are several."""
        if self.size == 1:
            return model
        devices = [device] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=devices)

    def hold_gradients(self, model: nn.Module, *, last: bool) -> AbstractContextManager:
        """Gradients are exchanged in the backward pass of the `last` micro-batch only."""
        if isinstance(model, nn.parallel.DistributedDataParallel) and not last:
            return model.no_sync()
        return nullcontext()

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all ranks."""
        if self.size > 1:
            torch.distributed.all_reduce(value)
        return value

    def wait(self) -> None:
        """Returns when every rank has come here."""
        if self.size > 1:
            torch.distributed.barrier()
