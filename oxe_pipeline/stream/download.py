"""One file of a remote stream into a claimed part of the cache: piece by piece, hashed on the way, resumed, retried."""

import errno
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import xxhash

from oxe_pipeline.stream.cache_folder import CacheFolder
from oxe_pipeline.stream.format import FileEntry, StreamError
from oxe_pipeline.stream.remote import RemoteFolder

_log = logging.getLogger(__name__)


class CalledOffError(Exception):
    """The download was called off between two pieces; what has come stays for the next one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Download:
    """How one file is fetched. `run` does it, into a part that `folder.claim` gave."""

    remote: RemoteFolder
    name: str
    entry: FileEntry
    folder: CacheFolder
    attempts: int
    piece_bytes: int
    idle_s: float
    """What may go where the disk is full: files that nobody has wanted for so long; 0 for any."""
    on_disk_full: Callable[[], None]
    """Called when files were removed to go on: maps of them hold their bytes."""
    called_off: Callable[[], bool]

    def run(self, part: int) -> Path:
        """Fetches what is missing in the open file `part`, and gives it its final name, which is returned.

        Raises StreamError for bytes that stay wrong or cannot be had or written, NoRoomError as
        `CacheFolder.relieve_disk`, CalledOffError, and FileNotFoundError where somebody has removed the part.
        """
        # Its last owner may have finished it between the caller's look and claim.
        if whole := self.folder.find(self.name, self.entry):
            os.unlink(self.folder.part(self.entry))
            return whole
        for attempt in range(self.attempts):
            if attempt:
                self.remote.pause(attempt - 1)
            found = self._complete(part)
            if found == self.entry.xxh3:
                os.fsync(part)
                return self.folder.finish(self.name, self.entry, part)
            os.ftruncate(part, 0)
            _log.warning(
                "%s/%s: thrown away: content hash %s instead of %s", self.remote, self.name, found, self.entry.xxh3
            )
        raise StreamError(
            f"{self.remote}/{self.name}: content hash {found}, the manifest says {self.entry.xxh3}, {self.attempts} "
            "times; what is stored there is not what the shard job wrote: upload the stream again"
        )

    def _complete(self, part: int) -> str:
        """Content hash of the bytes that are there and those that were missing."""
        digest, size = xxhash.xxh3_128(), 0
        os.lseek(part, 0, os.SEEK_SET)
        while piece := os.read(part, self.piece_bytes):
            digest.update(piece)
            size += len(piece)
        while size < self.entry.bytes:
            if self.called_off():
                raise CalledOffError
            piece = self._piece(size, min(size + self.piece_bytes, self.entry.bytes))
            self._append(part, piece)
            digest.update(piece)
            size += len(piece)
        return digest.hexdigest()

    def _piece(self, start: int, stop: int) -> bytes:
        try:
            return self.remote.read_from(self.name, start, stop, self.entry.bytes)
        except FileNotFoundError:
            raise StreamError(f"{self.remote}/{self.name}: absent; upload the stream again") from None

    def _append(self, part: int, piece: bytes) -> None:
        left = memoryview(piece)
        while left:
            try:
                left = left[os.write(part, left) :]
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise StreamError(
                        f"{self.folder.part(self.entry)}: cannot be written ({error.strerror}) for the "
                        f"{self.entry.bytes} bytes of {self.name}; check the disk and `ulimit -f`"
                    ) from None
                self.folder.relieve_disk(self.entry, self.idle_s)
                self.on_disk_full()
