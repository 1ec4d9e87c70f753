"""BufferFile: memory that a DataLoader worker and its consumer both map, divided into buffers of one batch each.

It is an anonymous memory file (memfd, so Linux only): it is not on /dev/shm, whose size containers limit, and the
kernel frees it with the last process that maps it, however that ends. The file is sparse. Buffers that are not in use
cost address space only, so that one mapping and a fixed number of descriptors do for any number of batches under way.
"""

import mmap
import os
import weakref

import numpy as np

MAX_BUFFERS = 64
"""Per worker. Few consumers keep so many batches; those that do get the rest by torch's own transport."""
FREE, LENT = 0, 1


class BufferFile:
    """One process's mapping of a file of MAX_BUFFERS buffers of `buffer_bytes` each; it owns the descriptor `fd`."""

    def __init__(self, fd: int, buffer_bytes: int):
        self.fd, self.buffer_bytes = fd, buffer_bytes
        weakref.finalize(self, os.close, fd)
        self._pitch_bytes = _whole_pages(buffer_bytes)
        try:
            self._mapped = mmap.mmap(fd, _file_bytes(buffer_bytes))
        except OSError as error:
            raise _no_memory(_file_bytes(buffer_bytes), error) from None
        self.flags = np.frombuffer(self._mapped, np.uint8, MAX_BUFFERS)
        """FREE or LENT for each buffer. Only the worker lends what is free, only the consumer frees what is lent."""

    @classmethod
    def create(cls, buffer_bytes: int) -> "BufferFile":
        """A new file; its buffers are free and have no memory as yet. Raises MemoryError."""
        fd = os.memfd_create("oxe_pipeline_batches", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, _file_bytes(buffer_bytes))
        except OSError as error:
            os.close(fd)
            raise _no_memory(_file_bytes(buffer_bytes), error) from None
        return cls(fd, buffer_bytes)

    def buffer(self, number: int) -> np.ndarray:
        """uint8 [buffer_bytes], a new array each time.

        Everything that is made from it holds it: it is not itself a view of an array, which numpy would hold instead.
        """
        return np.frombuffer(self._mapped, np.uint8, self.buffer_bytes, self._start(number))

    def reserve(self, number: int) -> None:
        """Gives a buffer its memory. Raises MemoryError, where a first write without memory would end the process."""
        try:
            os.posix_fallocate(self.fd, self._start(number), self._pitch_bytes)
        except OSError as error:
            raise _no_memory(self._pitch_bytes, error) from None

    def discard(self, number: int) -> None:
        """Hands a free buffer's memory back to the machine, for both sides; `reserve` it before its next use."""
        self._mapped.madvise(mmap.MADV_REMOVE, self._start(number), self._pitch_bytes)

    def _start(self, number: int) -> int:
        return _whole_pages(MAX_BUFFERS) + number * self._pitch_bytes


def _file_bytes(buffer_bytes: int) -> int:
    return _whole_pages(MAX_BUFFERS) + MAX_BUFFERS * _whole_pages(buffer_bytes)


def _whole_pages(num_bytes: int) -> int:
    return -(-num_bytes // mmap.PAGESIZE) * mmap.PAGESIZE


def _no_memory(num_bytes: int, error: OSError) -> MemoryError:
    return MemoryError(
        f"no {num_bytes / 1e6:.1f} MB of shared memory for batches ({error.strerror}); "
        "use fewer workers, a smaller batch or prefetch_factor, or keep fewer batches"
    )
