"""Linear layers whose weights are stored in fewer bits: bf16, int8, int4, nf4. For acting, not for training.

Only weight matrices shrink; activations, norms, embeddings and convolutions stay as they are. The forms are plain
tensors (safetensors holds them) and plain torch arithmetic, so that a variant made on one machine runs on any other:

    bf16   a rounded copy; multiplied in bf16, which is slow on CPUs without instructions for it
    int8   a scale per output channel. On a CPU activations are brought to 8 bits as well, per call, and multiplied by
           torch's int8 kernels: a half to a third of a float32 layer's time. Elsewhere weights are scaled up before
           multiplying
    int4   16 equal levels, a scale per block of 64 weights
    nf4    16 levels at the quantiles of a normal distribution (QLoRA, arXiv 2305.14314), a scale per block of 64. On a
           CUDA device bitsandbytes multiplies where it is installed: its own layout is used

What 4 bits trade away besides accuracy: without bitsandbytes the weights are unpacked at each call, which saves memory
and costs time.
"""

import importlib.util
import warnings
from collections import Counter
from functools import cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Weights = Literal["fp32", "bf16", "int8", "int4", "nf4"]
BLOCK = 64
"""Weights that share a scale in the 4-bit forms; they run along the rows of the matrix."""

# Levels of bitsandbytes' NF4, so that its kernels read these weights (bitsandbytes/functional.py).
_NF4_LEVELS = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
    *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
    *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
_LEVELS = {"int4": tuple(level / 7.5 for level in torch.arange(-7.5, 8.0).tolist()), "nf4": _NF4_LEVELS}


class Bf16Linear(nn.Module):
    """float32 in and out; the product is bf16."""

    stored: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.register_buffer("stored", linear.weight.detach().to(torch.bfloat16))
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().clone())

    @property
    def weight(self) -> Tensor:
        """[out, in] as float32, for code that reads it past the layer."""
        return self.stored.float()

    def forward(self, x: Tensor) -> Tensor:
        product = F.linear(x.to(self.stored.dtype), self.stored).to(x.dtype)
        return product if self.bias is None else product + self.bias.to(x.dtype)


class Int8Linear(nn.Module):
    """Weights in -127 .. 127, symmetric, with a scale per output channel."""

    stored: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weight = linear.weight.detach().float()
        scale = weight.abs().amax(1).clamp(min=1e-12) / 127
        self.register_buffer("stored", (weight / scale[:, None]).round().to(torch.int8))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().clone())
        self._packed = None

    @property
    def weight(self) -> Tensor:
        """[out, in] as float32, for code that reads it past the layer."""
        return self.stored.float() * self.scale[:, None]

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and _has_int8_kernels():
            return self._int8_product(x.float()).to(x.dtype)
        product = F.linear(x, self.stored.to(x.dtype)) * self.scale.to(x.dtype)
        return product if self.bias is None else product + self.bias.to(x.dtype)

    def _int8_product(self, x: Tensor) -> Tensor:
        if self._packed is None:
            zero = torch.zeros(len(self.scale), dtype=torch.int64)
            with warnings.catch_warnings():  # Newer versions of torch announce that they will drop these kernels.
                warnings.simplefilter("ignore")
                weight = torch._make_per_channel_quantized_tensor(self.stored, self.scale.double(), zero, 0)
            bias = None if self.bias is None else self.bias.float()
            self._packed = torch.ops.quantized.linear_prepack(weight, bias)
        rows = torch.ops.quantized.linear_dynamic(x.reshape(-1, x.shape[-1]).contiguous(), self._packed, True)
        return rows.unflatten(0, x.shape[:-1]) if x.ndim > 1 else rows[0]


class FourBitLinear(nn.Module):
    """Two weights a byte, each the number of a level; a scale per BLOCK of them."""

    stored: Tensor
    scale: Tensor
    levels: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear, kind: Literal["int4", "nf4"]):
        super().__init__()
        self.kind, self.shape = kind, tuple(linear.weight.shape)
        flat = F.pad(linear.weight.detach().float().flatten(), (0, -linear.weight.numel() % BLOCK))
        blocks = flat.view(-1, BLOCK)
        scale = blocks.abs().amax(1)
        self.register_buffer("levels", torch.tensor(_LEVELS[kind]))
        between = (self.levels[1:] + self.levels[:-1]) / 2
        codes = torch.bucketize(blocks / scale.clamp(min=1e-12)[:, None], between).to(torch.uint8).flatten()
        self.register_buffer("stored", (codes[0::2] << 4) | codes[1::2])
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().clone())

    @property
    def weight(self) -> Tensor:
        """[out, in] as float32."""
        codes = torch.stack([self.stored >> 4, self.stored & 15], 1).int()
        values = self.levels[codes].view(-1, BLOCK) * self.scale[:, None]
        return values.flatten()[: self.shape[0] * self.shape[1]].view(self.shape)

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if x.device.type == "cuda" and self.kind == "nf4" and self.shape[1] % BLOCK == 0 and _has_bitsandbytes():
            return bitsandbytes_product(self, x, bias)
        return F.linear(x, self.weight.to(x.dtype), bias)


def bitsandbytes_product(layer: FourBitLinear, x: Tensor, bias: Tensor | None) -> Tensor:
    """What an nf4 layer gives, by the kernels of bitsandbytes (>= 0.45): no unpacked copy of the weights is made.

    Tested with its CPU kernels; on CUDA it has not been run for want of a device.
    """
    from bitsandbytes import matmul_4bit
    from bitsandbytes.functional import QuantState

    state = QuantState(
        absmax=layer.scale,
        shape=torch.Size(layer.shape),
        dtype=x.dtype,
        blocksize=BLOCK,
        code=layer.levels,
        quant_type="nf4",
    )
    return matmul_4bit(x, layer.stored[:, None].t(), quant_state=state, bias=bias)


@cache
def _has_int8_kernels() -> bool:
    engine = "fbgemm" in torch.backends.quantized.supported_engines
    return engine and all(hasattr(torch.ops.quantized, name) for name in ("linear_prepack", "linear_dynamic"))


@cache
def _has_bitsandbytes() -> bool:
    return importlib.util.find_spec("bitsandbytes") is not None


def store_linear(linear: nn.Linear, weights: Weights) -> nn.Module:
    """The layer with its weights in that form; the layer itself for fp32."""
    if weights == "bf16":
        return Bf16Linear(linear)
    if weights == "int8":
        return Int8Linear(linear)
    if weights in ("int4", "nf4"):
        return FourBitLinear(linear, weights)
    return linear


def store_weights(model: nn.Module, weights: Weights) -> int:
    """Changes every linear layer of the model that can be into that form, in place; returns how many those were.

    Left as they are: layers that share their weight with another module (output layers tied to the embedding table),
    those inside torch's own attention, which reads their weights past them, and subclasses of Linear. ValueError for an
    unknown form.
    """
    if weights not in get_args(Weights):
        raise ValueError(f"weights must be one of {', '.join(get_args(Weights))}, is {weights!r}")
    if weights == "fp32":
        return 0
    holders = Counter(id(p) for part in model.modules() for p in part.parameters(recurse=False))
    stored = 0
    for parent in list(model.modules()):
        if isinstance(parent, nn.MultiheadAttention):
            continue
        for name, part in list(parent.named_children()):
            if type(part) is nn.Linear and holders[id(part.weight)] == 1:
                setattr(parent, name, store_linear(part, weights))
                stored += 1
    return stored
