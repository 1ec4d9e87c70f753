"""Memory for the images of batches, used again when the batch that held it is gone.

A fresh array of tens of megabytes costs a page fault per 4 KB on first touch, up to a tenth of the time that decoding
into it takes. An array goes back by itself when the last tensor that shows it is collected, so a batch may be kept for
as long as one likes.
"""

import threading
import weakref
from typing import Any, Protocol

import numpy as np


class ImageMemory(Protocol):
    """Where a BatchAssembler takes the memory of its images from: a BufferPool, or SharedBuffers in a worker."""

    def take(self, shape: tuple[int, ...]) -> Any:
        """A uint8 torch tensor of `shape`, content undefined."""


class BufferPool:
    """Hands out uint8 tensors whose content is undefined. Safe from several threads.

    `keep` bounds how many free arrays of one shape are held. With `pin_memory` torch's own caching host allocator does
    all this instead: it also knows which copies to the accelerator are still under way.
    """

    def __init__(self, *, keep: int, pin_memory: bool = False):
        self._keep = keep
        self._pin_memory = pin_memory
        self._free: dict[tuple[int, ...], list[np.ndarray]] = {}
        # Re-entrant: the collector may run while it is held, and give back an array in the same thread.
        self._lock = threading.RLock()

    def take(self, shape: tuple[int, ...]):
        """A uint8 torch tensor of `shape`."""
        import torch

        if self._pin_memory:
            return torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        with self._lock:
            free = self._free.get(shape)
            array = free.pop() if free else np.empty(shape, np.uint8)
        # The tensor holds the view, and nothing else does: the view's end is the end of the tensor's storage.
        view = array[...]
        weakref.finalize(view, self._give_back, array)
        return torch.from_numpy(view)

    def _give_back(self, array: np.ndarray) -> None:
        with self._lock:
            free = self._free.setdefault(array.shape, [])
            if len(free) < self._keep:
                free.append(array)
