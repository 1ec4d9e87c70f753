"""WatchedFolder: which files below a folder were opened, by whatever library, seen by the kernel (Linux inotify)."""

import ctypes
import os
import struct
from pathlib import Path

_IN_OPEN, _IN_ISDIR, _IN_NONBLOCK = 0x20, 0x40000000, 0o4000
_EVENT = struct.Struct("iIII")


class WatchedFolder:
    """Folders that are there when it is made; listing a folder is not opening a file."""

    def __init__(self, folder: Path):
        libc = ctypes.CDLL(None, use_errno=True)
        self._queue = libc.inotify_init1(_IN_NONBLOCK)
        folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
        self._folders = {
            libc.inotify_add_watch(self._queue, os.fsencode(path), _IN_OPEN): path.relative_to(folder)
            for path in folders
        }
        if self._queue < 0 or -1 in self._folders:
            raise OSError(ctypes.get_errno(), "inotify cannot watch this folder", str(folder))

    def opened(self) -> set[str]:
        """Paths of the files opened since the last call, relative to the folder."""
        try:
            events = os.read(self._queue, 1 << 16)
        except BlockingIOError:
            return set()
        found, offset = set(), 0
        while offset < len(events):
            watch, mask, _, length = _EVENT.unpack_from(events, offset)
            offset += _EVENT.size
            name = events[offset : offset + length].rstrip(b"\0").decode("utf-8", "backslashreplace")
            offset += length
            if not mask & _IN_ISDIR:
                found.add((self._folders[watch] / name).as_posix())
        return found
