"""World: which part of a training job this process is, and how a model is spread over all of them.

Read from torchrun's variables once, by the command, and handed in. DDP copies the model to every rank; FSDP2 cuts every
layer into one part per rank and gathers a layer's weights only while it computes. Both add up the same gradients.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from oxe_pipeline.vla.model import VLA

ACTING_METHODS = ("predict", "generate")
"""Ways besides a call by which a model is run: these gather the weights of a sharded one, too."""


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
        """Meets the other processes; nothing to do when alone. Counts on the CPU are exchanged on the CPU."""
        if self.size > 1 and not torch.distributed.is_initialized():
            if device.type == "cuda":
                torch.cuda.set_device(device)
            torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")

    def leave(self) -> None:
        """Parts from the others, when all work is done."""
        if self.size > 1:
            torch.distributed.destroy_process_group()

    def from_leader(self, make: Callable[[], Any], device: torch.device) -> Any:
        """What `make` gives on the first rank, on all of them, or its ValueError: for what may be made only once."""
        if self.size == 1:
            return make()
        self.join(device)
        answer: list[Any] = [None]
        if self.leads:
            try:
                answer = [make()]
            except ValueError as error:
                answer = [error]
        torch.distributed.broadcast_object_list(answer)
        if isinstance(answer[0], ValueError):
            raise answer[0]
        return answer[0]

    def shard(self, model: VLA, device: torch.device, *, bf16: bool) -> None:
        """FSDP2, in place: every layer by itself, then all that lies around the layers together.

        With `bf16` layers are gathered and compute in bfloat16, and gradients are still summed in float32. What lies
        around them stays in float32 and is left to autocast. Needs several ranks with equal weights.
        """
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

        mesh = init_device_mesh(device.type, (self.size,))
        of_layers = MixedPrecisionPolicy(param_dtype=torch.bfloat16 if bf16 else None, reduce_dtype=torch.float32)
        around = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
        for layer in transformer_layers(model.backbone):
            fully_shard(layer, mesh=mesh, mp_policy=of_layers)
        fully_shard(model, mesh=mesh, mp_policy=around)
        for name in ACTING_METHODS:
            if hasattr(model, name):
                register_fsdp_forward_method(model, name)

    def replicate(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The model as it is to be called in training: averages gradients over the ranks where there are several."""
        if self.size == 1 or is_sharded(model):
            return model
        # A batch need not reach every weight: that of texts passes by the state encoder, for one.
        return nn.parallel.DistributedDataParallel(
            model, device_ids=[device] if device.type == "cuda" else None, find_unused_parameters=True
        )

    def hold_gradients(self, model: nn.Module, *, last: bool) -> AbstractContextManager:
        """Copies exchange gradients in the `last` backward pass of a step only. A sharded model does in every one:
        to hold them back, each rank would need room for the gradients of the whole model.
        """
        if isinstance(model, nn.parallel.DistributedDataParallel) and not last:
            return model.no_sync()
        return nullcontext()

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all ranks."""
        if self.size > 1:
            torch.distributed.all_reduce(value)
        return value

    def gather(self, value: Any) -> list[Any]:
        """What each rank gives, on all of them, in the order of ranks."""
        if self.size == 1:
            return [value]
        gathered = [None] * self.size
        torch.distributed.all_gather_object(gathered, value)
        return gathered

    def wait(self) -> None:
        """Returns when every rank has come here."""
        if self.size > 1:
            torch.distributed.barrier()


def transformer_layers(backbone: Any) -> list[nn.Module]:
    """The layers that a backbone is cut at, inner ones first: its `blocks_to_shard()`, or all elements of its lists of
    modules.
    """
    if hasattr(backbone, "blocks_to_shard"):
        return list(backbone.blocks_to_shard())
    lists = [part for part in backbone.modules() if isinstance(part, nn.ModuleList)]
    return list(dict.fromkeys(chain.from_iterable(reversed(lists))))


def is_sharded(model: nn.Module) -> bool:
    from torch.distributed.fsdp import FSDPModule

    return isinstance(model, FSDPModule)


def whole(value: Any) -> Tensor:
    """A tensor that may be cut over the ranks, as one; every rank must call this."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def release_gathered(model: nn.Module) -> None:
    """Gives back what a sharded model gathered to be evaluated, so that its parameters are the parts again."""
    if is_sharded(model):
        part: Any
        for part in model.modules():
            if is_sharded(part):
                part.reshard()
