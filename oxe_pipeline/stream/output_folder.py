"""The folder a job writes to, on a local disk or behind any fsspec address (s3://, gs://, memory://).

Local files appear under their final name by rename. An object store shows an object only when it is whole, so there the
file is made in a local temporary folder and uploaded.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from oxe_pipeline.stream.format import StreamError, write_whole

BUCKET_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "az"})
"""Protocols without folders, where making one would at most create a bucket nobody asked for: a mistyped one."""


def filesystem_at(address: str):
    """(fsspec file system, path in it) of an address; no listing is remembered, for other workers write there too.

    Raises StreamError when there is no such protocol or its package is not installed.
    """
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise StreamError(f"{address}: {error}; e.g. pip install s3fs or gcsfs") from None
    filesystem.invalidate_cache()
    return filesystem, path


class OutputFolder:
    """A job's output folder by its address; names are relative, with forward slashes. Travels between processes."""

    def __init__(self, address: str):
        self.address = address.removeprefix("file://").rstrip("/") or address

    def __reduce__(self):
        return OutputFolder, (self.address,)

    def __str__(self) -> str:
        return self.address

    @property
    def local(self) -> Path | None:
        """The folder as a path, or None when it is remote."""
        return None if "://" in self.address else Path(self.address)

    @property
    def _remote(self):
        return filesystem_at(self.address)

    def _url(self, name: str) -> str:
        return str(PurePosixPath(self._remote[1], name))

    def names(self, folder: str = "") -> set[str]:
        """Names, from the output folder on, of all files below `folder` of it; empty when there is no such folder."""
        if self.local:
            return {p.relative_to(self.local).as_posix() for p in (self.local / folder).rglob("*") if not p.is_dir()}
        filesystem, root = self._remote
        start = self._url(folder)
        return (
            {path.removeprefix(root).strip("/") for path in filesystem.find(start)}
            if filesystem.exists(start)
            else set()
        )

    def size(self, name: str) -> int | None:
        """Size in bytes, or None when there is no such file."""
        try:
            return (self.local / name).stat().st_size if self.local else int(self._remote[0].size(self._url(name)))
        except FileNotFoundError:
            return None

    def read(self, name: str) -> bytes | None:
        """Content, or None when there is no such file."""
        try:
            return (self.local / name).read_bytes() if self.local else self._remote[0].cat_file(self._url(name))
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Writes a whole file; its name never shows a part of it."""
        if self.local:
            write_whole(self.local / name, content)
        else:
            self._make_parent(name)
            try:
                self._remote[0].pipe_file(self._url(name), content)
            except OSError as error:
                raise StreamError(f"{self}: cannot be written ({error}); is the bucket there, and yours?") from None

    def remove(self, name: str) -> None:
        """Removes a file; nothing happens when it is gone already."""
        if self.local:
            (self.local / name).unlink(missing_ok=True)
        elif self.size(name) is not None:
            self._remote[0].rm_file(self._url(name))

    def remove_empty_folder(self, name: str) -> None:
        """Object stores have no folders; on a disk an empty one is removed."""
        if self.local and (self.local / name).is_dir() and not any((self.local / name).iterdir()):
            (self.local / name).rmdir()

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A local folder to write files into; when the block ends well, they are in the output folder.

        For a local output it is the folder itself, so writers must rename; for a remote one a temporary folder, whose
        files are uploaded in the order of their names.
        """
        if self.local:
            yield self.local
            return
        with tempfile.TemporaryDirectory(prefix="stream-") as temporary:
            yield Path(temporary)
            for path in sorted(p for p in Path(temporary).rglob("*") if p.is_file()):
                name = path.relative_to(temporary).as_posix()
                self._make_parent(name)
                self._remote[0].put_file(str(path), self._url(name))

    def _make_parent(self, name: str) -> None:
        if self.address.partition("://")[0] not in BUCKET_STORES:
            self._remote[0].makedirs(str(PurePosixPath(self._url(name)).parent), exist_ok=True)
