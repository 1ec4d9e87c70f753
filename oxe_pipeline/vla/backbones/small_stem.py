"""SmallStem: images to patch tokens by a few strided convolutions (Xiao et al. 2021, arXiv 2106.14881), as Octo has it.

Four 3 x 3 convolutions of stride 2 with standardised weights, GroupNorm and ReLU, then a linear map of every position:
one token per 16 x 16 pixels (`SmallStem16` of octo/model/components/vit_encoders.py). Early convolutions train faster
from scratch than cutting an image into patches, and cost more operations at the full resolution.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

PATCH = 16
"""Side in pixels of what one token stands for."""


class StandardisedConv(nn.Conv2d):
    """A convolution whose weights are brought to mean 0 and deviation 1 per output channel before each use."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.float()
        deviation = weight.std((1, 2, 3), correction=0, keepdim=True)
        weight = (weight - weight.mean((1, 2, 3), keepdim=True)) / (deviation + 1e-5)
        return F.conv2d(x, weight.to(x.dtype), self.bias, self.stride, self.padding)


class SmallStem(nn.Module):
    """[N, channels, X, X], pixels in [-1, 1], to [N, (X/16)^2, width]: row by row."""

    def __init__(self, *, channels: int, features: tuple[int, int, int, int], width: int):
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((channels, *features), features, strict=False):
            layers += [
                StandardisedConv(before, after, 3, stride=2, padding=1),
                nn.GroupNorm(math.gcd(32, after), after, eps=1e-6),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers)
        self.embedding = nn.Linear(features[-1], width)

    def forward(self, pixels_NCXX: Tensor) -> Tensor:
        return self.embedding(self.layers(pixels_NCXX).flatten(2).transpose(1, 2))
