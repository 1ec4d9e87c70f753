"""Imports torchvision beside a torch that its binary does not fit, for peers that import it and call none of it.

PyPI has torchvision for Linux only as built for CUDA. Beside a CPU build of torch its operators do not load, and then
its import fails on declaring two of them. They are declared here, without an implementation.
"""

import sys
from importlib import import_module
from typing import Any

_kept: list[Any] = []


def import_torchvision() -> None:
    """Returns with torchvision imported, its two non-maximum-suppression operators declared where they are missing."""
    try:
        import_module("torchvision")
    except RuntimeError:
        import torch

        operators = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        # Torch forgets a declaration with the object that made it.
        _kept.append(operators)
        for name in [module for module in sys.modules if module.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        import_module("torchvision")
