"""The folder of the cache on disk: which files are in it, who may write one, which go first when room is needed.

All processes of the host share it without a service of their own. Locks are the kernel's (flock), so that a kill at any
moment leaves nothing locked.

    <hash>.arrow         a whole file; its mtime says when it was last wanted
    <hash>.<bytes>.part  a download, locked while it is under way; it counts with its final size
    folder.lock          held for the milliseconds in which room is made

Other files in the folder are neither counted nor touched.
"""

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oxe_pipeline.stream.format import FileEntry, StreamError

_OURS = re.compile(r"[0-9a-f]{32}(?:\.(?P<bytes>\d+)\.part|\.\w+)")


class NoRoomError(Exception):
    """Room can be made only by removing what is wanted."""


class CacheFolder:
    """A folder that holds at most `limit_bytes`, downloads under way included. Has no state but what is on disk."""

    def __init__(self, path: Path, limit_bytes: int):
        self.path, self.limit_bytes = path, limit_bytes

    def whole(self, name: str, entry: FileEntry) -> Path:
        """Where the whole file is, or will be. Equal files of several streams share it."""
        return self.path / f"{entry.xxh3}{Path(name).suffix}"

    def part(self, entry: FileEntry) -> Path:
        """Where its bytes are collected."""
        return self.path / f"{entry.xxh3}.{entry.bytes}.part"

    def find(self, name: str, entry: FileEntry) -> Path | None:
        """The file if it is here, now the most recently wanted; its size is checked, its hash was on arrival."""
        path, now_ns = self.whole(name, entry), time.time_ns()
        try:
            # Not the kernel's own time, which stands still for milliseconds: the order of marks is the order of need.
            os.utime(path, ns=(now_ns, now_ns))
            if path.stat().st_size == entry.bytes:
                return path
            path.unlink(missing_ok=True)
        except OSError:
            # Absent, or not ours to read: whoever then claims it fetches it anew or is told why not.
            pass
        return None

    @contextmanager
    def claim(self, entry: FileEntry, idle_s: float) -> Iterator[int | None]:
        """The part file, open and locked, with room for the rest of it; None when another is downloading it.

        Raises NoRoomError when room cannot be made of files that nobody has wanted for `idle_s`.
        """
        part = self.part(entry)
        with self._lock():
            file = self._opened(part)
            # The part may have become the whole file between open and lock.
            mine = _try_lock(file) and _is_at(file, part)
            has_room = mine and self._remove(self._used() - self.limit_bytes, idle_s)
            if mine and not has_room and not os.fstat(file).st_size:
                part.unlink()
        try:
            if mine and not has_room:
                raise NoRoomError
            yield file if mine else None
        finally:
            # Not by closing alone: a child forked in the meantime holds the same open file.
            fcntl.flock(file, fcntl.LOCK_UN)
            os.close(file)

    def finish(self, name: str, entry: FileEntry, file: int) -> Path:
        """Gives a claimed part, open as `file`, its final name, as wanted now.

        Under the lock: who counts files sees one of the two. Raises FileNotFoundError where somebody has emptied the
        folder, even when another has begun a part of the same name since.
        """
        part, whole, now_ns = self.part(entry), self.whole(name, entry), time.time_ns()
        with self._lock():
            if not _is_at(file, part):
                raise FileNotFoundError(part)
            os.utime(part, ns=(now_ns, now_ns))
            os.replace(part, whole)
        return whole

    def wait_for_other(self, entry: FileEntry) -> None:
        """Returns when nobody is downloading the file any more."""
        try:
            with open(self.part(entry), "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                fcntl.flock(file, fcntl.LOCK_UN)
        except FileNotFoundError:
            pass

    def relieve_disk(self, entry: FileEntry, idle_s: float) -> None:
        """On a disk that is full below the limit, since others write to it: removes files worth one such file.

        Fewer where there are no more. Raises NoRoomError when nobody can be sent away for a prefetch (`idle_s` > 0),
        StreamError when the cache is empty.
        """
        with self._lock():
            if self._remove(entry.bytes, idle_s, all_or_nothing=False):
                return
        if idle_s:
            raise NoRoomError
        free = shutil.disk_usage(self.path).free
        raise StreamError(
            f"{self.path}: the disk is full ({free} bytes free, a file of {entry.bytes} under way, nothing left in the "
            "cache to remove); free some of it, or set the folder of CacheOptions (--cache-dir) to another disk"
        )

    @contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from None
        lock = self._opened(self.path / "folder.lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)

    def _opened(self, path: Path) -> int:
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: OSError) -> StreamError:
        return StreamError(
            f"{self.path}: cannot be used as cache ({error.strerror}); set another folder in CacheOptions (--cache-dir)"
        )

    def _used(self) -> int:
        return sum(size for _, size, _ in self._content())

    def _content(self) -> list[tuple[int, int, Path]]:
        """(mtime in ns, bytes, path) of all files, least recently wanted first; a part counts with its final size."""
        found = []
        for item in os.scandir(self.path):
            if ours := _OURS.fullmatch(item.name):
                try:
                    status = item.stat()
                except FileNotFoundError:
                    continue
                found.append((status.st_mtime_ns, int(ours["bytes"] or status.st_size), Path(item.path)))
        return sorted(found)

    def _remove(self, excess: int, idle_s: float, *, all_or_nothing: bool = True) -> bool:
        """Removes files worth `excess` bytes that nobody has wanted for `idle_s`, least recently wanted first.

        False, and nothing is removed, where there are not enough of them (or, not `all_or_nothing`, none).
        """
        newest_ns = time.time_ns() - int(idle_s * 1e9)
        left, victims = excess, []
        for mtime_ns, size, path in self._content() if excess > 0 else ():
            if left <= 0 or (idle_s and mtime_ns > newest_ns):
                break
            is_part = path.suffix == ".part"
            lock = _lock_of_abandoned(path) if is_part else None
            if not is_part or lock is not None:
                victims.append((path, lock))
                left -= size
        removing = left <= 0 or (bool(victims) and not all_or_nothing)
        for path, lock in victims:
            if removing:
                path.unlink(missing_ok=True)
            if lock is not None:
                os.close(lock)
        return removing


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _lock_of_abandoned(part: Path) -> int | None:
    """A lock on a download that nobody is working at, or None."""
    try:
        file = os.open(part, os.O_RDWR)
    except FileNotFoundError:
        return None
    if _try_lock(file):
        return file
    os.close(file)
    return None
