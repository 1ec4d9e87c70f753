"""SharedBuffers: carries batches from a DataLoader worker to its consumer without copying their pixels.

By itself torch sends each tensor of a batch in shared memory made for it: tens of megabytes of page faults and zeroing
in the worker, faults again in the consumer, and a descriptor per tensor. Here the worker decodes into buffers that both
sides keep mapped, and what goes through the pipe is where in them each tensor lies. The price is that the memory of as
many batches as are under way stays with a worker for as long as it lives.
"""

import math
import os
import uuid
import weakref
from collections.abc import Callable
from multiprocessing import active_children
from multiprocessing.reduction import DupFd, ForkingPickler
from typing import Any, NamedTuple

import numpy as np
import torch

from oxe_pipeline.loader.buffer_file import FREE, LENT, MAX_BUFFERS, BufferFile
from oxe_pipeline.loader.buffer_lease import lease

_ALIGNMENT_BYTES = 64
_IDLE_BATCHES = 100
"""A buffer that was not needed for so many batches gives its memory back: the consumer had kept batches for a while."""


class SharedBuffers:
    """The worker's side, in the place of a BufferPool: for each batch `begin`, `take` its images, `share` it.

    There are as many buffers as batches of this worker are under way or kept by the consumer; it never waits for one.
    For one thread, and one batch at a time.
    """

    def __init__(self) -> None:
        self.key = f"{os.getpid()}-{uuid.uuid4().hex}"
        self._file: BufferFile | None = None
        self._unsent: _SentFile | None = None
        self._current: _Buffer | None = None
        self._shown_here: set[int] = set()
        self._num_batches = 0
        self._last_used: list[int] = []
        self._has_memory: set[int] = set()
        ForkingPickler.register(SharedBatch, _reduce)

    def begin(self) -> None:
        """Chooses the buffer of the next batch. Raises MemoryError when the machine has no memory for one more."""
        self._current = self._next_buffer(self._file) if self._file else None

    def take(self, shape: tuple[int, ...]) -> torch.Tensor:
        """uint8 tensor of `shape`, content undefined: in the buffer if it has room, else (the first batch) outside."""
        buffer, num_bytes = self._current, math.prod(shape)
        start = buffer.room(num_bytes) if buffer and num_bytes else None
        if buffer is None or start is None:
            return torch.empty(shape, dtype=torch.uint8)
        return buffer.tensor(TensorPlace(start, shape, torch.uint8))

    def share(self, batch: dict, on_arrival: Callable[[], None] | None = None) -> "SharedBatch":
        """The batch as it is to be given to DataLoader; `on_arrival` will be called in the consumer's process.

        The first batch tells the size of the buffers; tensors of a later one that do not fit go torch's way.
        """
        if self._file is None:
            tensors = [value for value in batch.values() if isinstance(value, torch.Tensor)]
            self._file = BufferFile.create(max(1, sum(_aligned(tensor.nbytes) for tensor in tensors)))
            self._unsent = _SentFile(DupFd(self._file.fd), os.getpid(), self._file.buffer_bytes)
            self.begin()
        buffer, self._current = self._current, None
        return SharedBatch(batch, self, buffer, on_arrival)

    def lend(self, number: int) -> "_SentFile | None":
        """Marks a buffer as the consumer's. Returns the file when it is the first: the consumer has to map it."""
        assert self._file is not None, "a buffer is of a file"
        self._file.flags[number] = LENT
        unsent, self._unsent = self._unsent, None
        return unsent

    def _next_buffer(self, file: BufferFile) -> "_Buffer | None":
        """The lowest that neither side shows, so that those seldom needed fall idle; None when all are shown."""
        self._num_batches += 1
        free = [n for n in range(len(self._last_used)) if n not in self._shown_here and file.flags[n] == FREE]
        if not free:
            if len(self._last_used) == MAX_BUFFERS:
                return None
            free = [len(self._last_used)]
            self._last_used.append(0)
        number, *others = free
        if number not in self._has_memory:
            file.reserve(number)
            self._has_memory.add(number)
        self._last_used[number] = self._num_batches
        for other in others:
            if other in self._has_memory and self._num_batches - self._last_used[other] > _IDLE_BATCHES:
                file.discard(other)
                self._has_memory.remove(other)
        shown = file.buffer(number)
        self._shown_here.add(number)
        weakref.finalize(shown, self._shown_here.discard, number).atexit = False
        return _Buffer(number, shown)


class SharedBatch(dict):
    """A batch in the worker: a dict like any other, also to a `collate_fn`, until DataLoader pickles it for the way.

    The consumer gets a plain dict of plain tensors with the same content. Deep copies and other pickles are plain too.
    """

    def __init__(
        self, batch: dict, buffers: SharedBuffers, buffer: "_Buffer | None", on_arrival: Callable[[], None] | None
    ):
        super().__init__(batch)
        self.buffers, self.buffer, self.on_arrival = buffers, buffer, on_arrival

    def __copy__(self) -> "SharedBatch":
        # DataLoader's default_convert sends a shallow copy in place of the batch.
        return SharedBatch(self, self.buffers, self.buffer, self.on_arrival)

    def __reduce__(self):
        return dict, (dict(self),)


class TensorPlace(NamedTuple):
    """Where in a buffer a tensor lies."""

    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype


class _SentFile(NamedTuple):
    descriptor: Any
    worker_pid: int
    buffer_bytes: int


class _Buffer:
    """A buffer while the worker fills it. It holds the array whose end tells that the worker is done with it."""

    def __init__(self, number: int, shown: np.ndarray):
        self.number, self.is_lent = number, False
        self._shown, self._address = shown, shown.ctypes.data
        self._used_bytes = 0

    def room(self, num_bytes: int) -> int | None:
        """Takes so many bytes: where they start, or None if there are not as many left."""
        start = self._used_bytes
        if start + num_bytes > len(self._shown):
            return None
        self._used_bytes = _aligned(start + num_bytes)
        return start

    def tensor(self, place: TensorPlace) -> torch.Tensor:
        return _tensor(self._shown, place)

    def place(self, value: object) -> object:
        """Where a tensor lies in the buffer, copied there if it was elsewhere; anything that cannot, as it is."""
        if type(value) is not torch.Tensor or value.layout is not torch.strided or value.device.type != "cpu":
            return value
        if not value.numel() or value.requires_grad:
            return value
        start = value.data_ptr() - self._address
        if value.is_contiguous() and 0 <= start < len(self._shown):
            return TensorPlace(start, tuple(value.shape), value.dtype)
        room = self.room(value.nbytes)
        if room is None:
            return value
        place = TensorPlace(room, tuple(value.shape), value.dtype)
        self.tensor(place).copy_(value)
        return place


def _reduce(batch: SharedBatch):
    buffer = batch.buffer
    if buffer is None or buffer.is_lent:
        return _arrive, (dict(batch), batch.on_arrival)
    buffer.is_lent = True
    values = {name: buffer.place(value) for name, value in batch.items()}
    sent_file = batch.buffers.lend(buffer.number)
    return _receive, (batch.buffers.key, sent_file, buffer.number, values, batch.on_arrival)


_mapped_files: dict[str, BufferFile] = {}
"""In the consumer: the files of its workers, by `SharedBuffers.key`, until the worker's Process object is collected."""


def _receive(
    key: str, sent_file: _SentFile | None, number: int, values: dict, on_arrival: Callable[[], None] | None
) -> dict:
    if sent_file is not None:
        _map(key, sent_file)
    shown = lease(_mapped_files[key], number)
    batch = {name: _tensor(shown, value) if isinstance(value, TensorPlace) else value for name, value in values.items()}
    return _arrive(batch, on_arrival)


def _arrive(batch: dict, on_arrival: Callable[[], None] | None) -> dict:
    if on_arrival:
        on_arrival()
    return batch


def _map(key: str, sent_file: _SentFile) -> None:
    _mapped_files[key] = BufferFile(sent_file.descriptor.detach(), sent_file.buffer_bytes)
    for process in active_children():
        if process.pid == sent_file.worker_pid:
            weakref.finalize(process, _mapped_files.pop, key, None)


def _tensor(shown: np.ndarray, place: TensorPlace) -> torch.Tensor:
    count = math.prod(place.shape)
    return torch.frombuffer(shown, dtype=place.dtype, count=count, offset=place.start).view(place.shape)


def _aligned(num_bytes: int) -> int:
    return -(-num_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
