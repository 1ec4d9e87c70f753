"""Files of remote streams, kept whole on a disk of this host: fetched once, checked on arrival, bounded in bytes.

A killed download goes on where it stopped, and a file has its final name only when its hash is right. A file that a
process has mapped may be removed under it: the map stays valid on Linux, but the disk gets its bytes back only when the
map goes. So streams drop their maps every `renew_s`, which is also how the cache learns what is still wanted.
"""

import os
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol

from oxe_pipeline.stream.cache_folder import CacheFolder, NoRoomError
from oxe_pipeline.stream.download import CalledOffError, Download
from oxe_pipeline.stream.format import FileEntry, StreamError
from oxe_pipeline.stream.remote import RemoteFolder

_IDLE_RENEWALS = 3
"""A file that nobody has wanted for so many renewals makes room for a prefetch; a reader who waits takes any."""
_POLL_S = 0.05


def default_cache_folder() -> Path:
    """oxe_pipeline/streams in the user's cache folder, as the XDG base directory specification places it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "oxe_pipeline" / "streams"


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheOptions:
    """Where remote streams are kept on this host, and how patiently they are fetched. Ranks of a host share one."""

    folder: Path = field(default_factory=default_cache_folder)
    """On a local disk: network file systems may lack locks and are slow to map."""
    limit_bytes: int = 50 * 10**9
    """Downloads under way included. Should hold the shards that are in use at a time; see docs/remote.md."""
    attempts: int = 5
    """Requests for one piece, and downloads of a file that arrives with a wrong hash, before it is an error."""
    backoff_s: float = 0.5
    """Wait before the second attempt; doubles with each, to 30 s at most, times a jitter of 0.5 to 1.5."""
    timeout_s: float = 60.0
    """For one piece; for a whole file where the server knows no ranges."""
    piece_bytes: int = 4 << 20
    """Bytes of one request: the most that a cut connection costs."""
    renew_s: float = 10.0
    """How often readers say again which files they use: the grain of "least recently used"."""

    def __post_init__(self):
        for name in ("limit_bytes", "attempts", "piece_bytes", "timeout_s", "renew_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be more than 0, is {getattr(self, name)!r}")
        if not self.backoff_s >= 0:
            raise ValueError(f"backoff_s must be 0 or more, is {self.backoff_s!r}")
        object.__setattr__(self, "folder", Path(self.folder).expanduser().absolute())


def _never() -> bool:
    return False


class MapsFiles(Protocol):
    """What has mapped files of the cache."""

    def drop_maps(self) -> None: ...


class FileCache:
    """The cache as this process sees it. Safe from many threads; holds nothing that must not pass through a fork."""

    def __init__(self, options: CacheOptions):
        self.options = options
        self.renew_at_s = 0.0
        """When (time.monotonic) maps are to be dropped."""
        self._folder = CacheFolder(options.folder, options.limit_bytes)
        self._mapping: weakref.WeakSet[MapsFiles] = weakref.WeakSet()

    def watch(self, holder: MapsFiles) -> None:
        """From now on `renew` calls `holder.drop_maps()`."""
        self._mapping.add(holder)

    def renew(self) -> None:
        """Drops all maps of this process: what is in use is asked for again, and so known to be in use."""
        self.renew_at_s = time.monotonic() + self.options.renew_s
        for holder in list(self._mapping):
            holder.drop_maps()

    def find(self, name: str, entry: FileEntry) -> Path | None:
        """The file if it is here; it counts as wanted now."""
        return self._folder.find(name, entry)

    def fetch(self, remote: RemoteFolder, name: str, entry: FileEntry) -> Path:
        """The file, downloaded if it is not here; one that another thread or process is downloading is waited for.

        It may be removed again at any time: who finds it gone asks again. Raises StreamError naming the URL or the
        cache folder, the values and the remedy.
        """
        while (path := self.find(name, entry)) is None:
            self.check_fits(str(remote), entry.bytes)
            try:
                with self._folder.claim(entry, idle_s=0) as part:
                    if part is not None:
                        return self._download(remote, name, entry, 0, _never).run(part)
            except NoRoomError:  # downloads under way take it all; they will end
                time.sleep(_POLL_S)
            except FileNotFoundError:  # somebody emptied the folder in the meantime
                continue
            else:
                self._folder.wait_for_other(entry)
        return path

    def prefetch(
        self, remote: RemoteFolder, name: str, entry: FileEntry, *, called_off: Callable[[], bool] = _never
    ) -> bool:
        """Brings the file here; whether it is, or is on its way by another.

        False where only files wanted lately could make room, or when `called_off`, which is asked between pieces, says
        so. Raises StreamError as `fetch` does.
        """
        if self.find(name, entry):
            return True
        idle_s = _IDLE_RENEWALS * self.options.renew_s
        try:
            with self._folder.claim(entry, idle_s) as part:
                if part is not None:
                    self._download(remote, name, entry, idle_s, called_off).run(part)
        except (NoRoomError, CalledOffError, FileNotFoundError):  # the last where somebody emptied the folder
            return False
        return True

    def check_fits(self, what: str, size_bytes: int) -> None:
        """StreamError when `what`, to be had all at once, is larger than the limit."""
        if size_bytes > self.options.limit_bytes:
            raise StreamError(
                f"{what}: {size_bytes} bytes are needed at a time, the cache {self.options.folder} is limited to "
                f"{self.options.limit_bytes}; raise limit_bytes of CacheOptions (--cache-gb)"
            )

    def _download(
        self, remote: RemoteFolder, name: str, entry: FileEntry, idle_s: float, called_off: Callable[[], bool]
    ) -> Download:
        return Download(
            remote=remote,
            name=name,
            entry=entry,
            folder=self._folder,
            attempts=self.options.attempts,
            piece_bytes=self.options.piece_bytes,
            idle_s=idle_s,
            on_disk_full=self.renew,
            called_off=called_off,
        )


@cache
def file_cache(options: CacheOptions) -> FileCache:
    """The one FileCache of this process for these options: all streams share its renewals."""
    return FileCache(options)
