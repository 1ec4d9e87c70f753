"""The consumer's hold on a buffer of a BufferFile: when does nobody look at it any more?

In this process the collector tells. A child that is forked meanwhile sees the same memory, and its end has to be waited
for: one pipe for each fork that happens while batches are held, and nothing otherwise.
"""

import os
import threading
import weakref
from collections import deque
from functools import cache
from multiprocessing.connection import Connection, Pipe

import numpy as np

from oxe_pipeline.loader.buffer_file import FREE, BufferFile


def lease(file: BufferFile, number: int) -> np.ndarray:
    """A lent buffer, uint8 [buffer_bytes]. It is free as soon as nothing made from this array is left.

    If this process was forked in between, it is free once the children have ended too, which the next lease notices.
    """
    _watch_forks()
    _free_what_children_held()
    held = _Lease(file, number)
    _held.add(held)
    shown = file.buffer(number)
    weakref.finalize(shown, _end, held).atexit = False
    return shown


class _Lease:
    __slots__ = ("file", "forks", "number")

    def __init__(self, file: BufferFile, number: int):
        self.file, self.number = file, number
        self.forks: list[_Fork] = []

    def free(self) -> None:
        self.file.flags[self.number] = FREE


class _Fork:
    """A pipe that only the forked child, and its children, can write to: it is at its end when they all are."""

    reader: Connection | None = None
    writer: Connection | None = None

    def is_over(self) -> bool:
        return self.reader is not None and self.reader.poll()


_held: set[_Lease] = set()
_held_by_children: deque[_Lease] = deque()
_sweeping = threading.Lock()
_forking = threading.local()
_pipes_of_this_child: list[_Fork] = []


def _end(held: _Lease) -> None:
    # The collector calls this in any thread at any place, so no lock. What a child inherits has its own fork among its
    # forks, and that is never over as long as it can ask: only the process that took the lease frees the buffer.
    _held.discard(held)
    if held.forks:
        _held_by_children.append(held)
    else:
        held.free()


def _free_what_children_held() -> None:
    if _held_by_children:
        with _sweeping:
            for _ in range(len(_held_by_children)):
                held = _held_by_children.popleft()
                if all(fork.is_over() for fork in held.forks):
                    held.free()
                else:
                    _held_by_children.append(held)


@cache
def _watch_forks() -> None:
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)


def _before_fork() -> None:
    _forking.fork = None
    if _held:
        _forking.fork = fork = _Fork()
        # Before the pipe is there: should no descriptor be left for it, these buffers are never used again.
        for held in tuple(_held):
            held.forks.append(fork)
        fork.reader, fork.writer = Pipe(duplex=False)


def _after_in_parent() -> None:
    fork = getattr(_forking, "fork", None)
    if fork and fork.writer:
        fork.writer.close()


def _after_in_child() -> None:
    _held.clear()
    _held_by_children.clear()
    fork = getattr(_forking, "fork", None)
    if fork:
        _pipes_of_this_child.append(fork)
