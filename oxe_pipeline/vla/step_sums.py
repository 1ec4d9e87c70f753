"""StepSums: what the samples of one optimiser step add up to, over micro-batches, texts and ranks.

Values stay on the device until the end of the step: one sum over the ranks and one transfer bring all of them.
"""

import resource
from collections.abc import Sequence

import torch
from torch import Tensor

from oxe_pipeline.vla.distributed import World, whole
from oxe_pipeline.vla.heads.base import HeadOutput


class StepSums:
    """Sums over the samples of one rank, until `record` adds those of the others."""

    def __init__(self, datasets: Sequence[str], dataset_B: Tensor, *, replaced: int = 0):
        """`datasets` are the mixture's names; `dataset_B` int64 [B], on the device, the one of each sample; `replaced`
        how many unreadable images others stand in for.
        """
        self._datasets, self._dataset_B, self._replaced = datasets, dataset_B, replaced
        self._losses: list[Tensor] = []
        self._metrics: dict[str, list[Tensor]] = {}
        self._text = torch.zeros(2, device=dataset_B.device, dtype=torch.float64)

    def add(self, output: HeadOutput) -> None:
        """Samples of a micro-batch, in the order of the batch."""
        self._losses.append(output.loss_B.detach())
        for name, value_B in output.metrics.items():
            self._metrics.setdefault(name, []).append(value_B.detach())

    def add_texts(self, output: HeadOutput) -> None:
        loss_B = output.loss_B.detach().double()
        self._text += torch.stack([loss_B.sum(), loss_B.new_tensor(len(loss_B))])

    @property
    def loss_B(self) -> Tensor:
        """Float [B]: this rank's losses, in the order of its batch."""
        return torch.cat(self._losses)

    def record(self, gradient_norm: Tensor, world: World) -> dict:
        """Means over all ranks' samples: loss, each metric of the head, loss_per_dataset (data sets in the batch),
        gradient_norm, with texts text_loss and text_samples, and images_replaced where there are any. Every rank must
        call this.
        """
        loss_B = self.loss_B.double()
        belongs_DB = self._dataset_B == torch.arange(len(self._datasets), device=loss_B.device)[:, None]
        counts_D, losses_D = belongs_DB.sum(1).double(), torch.where(belongs_DB, loss_B, 0.0).sum(1)
        metrics = [torch.cat(parts).double().sum() for parts in self._metrics.values()]
        replaced = self._text.new_tensor([self._replaced])
        sums = world.sum(torch.cat([losses_D, counts_D, self._text, replaced, *(value[None] for value in metrics)]))
        numbers = torch.cat([sums, whole(gradient_norm).double()[None]]).tolist()
        size = len(self._datasets)
        losses, counts, rest = numbers[:size], numbers[size : 2 * size], numbers[2 * size :]
        text_loss, texts, images_replaced = rest[:3]
        samples = sum(counts)
        record = {
            "loss": sum(losses) / samples,
            **dict(zip(self._metrics, (value / samples for value in rest[3:-1]), strict=True)),
            "loss_per_dataset": {
                name: loss / count for name, loss, count in zip(self._datasets, losses, counts, strict=True) if count
            },
            "gradient_norm": numbers[-1],
        }
        if texts:
            record |= {"text_loss": text_loss / texts, "text_samples": int(texts)}
        if images_replaced:
            record["images_replaced"] = int(images_replaced)
        return record


def memory_mb(device: torch.device) -> float:
    """The most memory used so far: of the CUDA device by tensors, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
