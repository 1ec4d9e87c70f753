"""How long one prediction takes, and how much memory a model's weights take: what a robot's control loop asks for."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from oxe_pipeline.vla.evaluate import acting
from oxe_pipeline.vla.model import VLA

_WARM_UP = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """Of `VLA.predict` for one observation whose images are decoded and on the device."""

    median_ms: float
    p95_ms: float
    calls: int

    @property
    def rate_hz(self) -> float:
        """Predictions per second, one after the other; each gives a whole chunk of actions."""
        return 1000 / self.median_ms


def measure_latency(model: VLA, sample: dict, *, calls: int = 30) -> Latency:
    """Times `calls` predictions of a batch of one after a few to warm up. Wall clock: other work on the machine shows.

    `sample` in the loader's form, on the model's device. ValueError unless it holds one sample.
    """
    if len(sample["g"]) != 1:
        raise ValueError(f"latency is that of one sample, the batch has {len(sample['g'])}")
    waits = sample["g"].device.type == "cuda"
    took_ms = []
    with acting(model):
        for call in range(_WARM_UP + calls):
            started = time.perf_counter()
            model.predict(sample)
            if waits:
                torch.cuda.synchronize()
            if call >= _WARM_UP:
                took_ms.append(1000 * (time.perf_counter() - started))
    return Latency(median_ms=float(np.median(took_ms)), p95_ms=float(np.quantile(took_ms, 0.95)), calls=calls)


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and saved buffers, shared ones once."""
    return sum(tensor.untyped_storage().nbytes() for tensor in {v.data_ptr(): v for v in _saved(model)}.values())


def _saved(model: nn.Module) -> list[torch.Tensor]:
    return list(model.state_dict().values())


def first_sample(batch: dict) -> dict:
    """A batch of the first sample alone."""
    return {name: value if isinstance(value, str) else value[:1] for name, value in batch.items()}
