"""The RLDS folder a shard job reads, on a disk that every worker mounts or behind any fsspec address (s3://, gs://).

Behind an address a worker copies the files of its unit to a temporary folder and reads them there. The price: that much
local disk for each unit at work, and conversion begins when the first unit's files are here whole. Planning copies the
JSON files and both ends of the data files.
"""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from oxe_pipeline.ingest.features_json import RldsError
from oxe_pipeline.ingest.rlds import INFO, RldsDirectory
from oxe_pipeline.stream.format import StreamError
from oxe_pipeline.stream.output_folder import filesystem_at
from schemas.spec import SpecError


class InputFolder:
    """One version of one RLDS data set by its address. Each method yields it as an RldsDirectory on a local disk."""

    def __init__(self, address: str | Path):
        self._address = str(address).removeprefix("file://").rstrip("/") or str(address)
        self._remote = "://" in self._address

    @property
    def address(self) -> str:
        """What a worker elsewhere is told: the absolute path of the version folder, or the address as it is."""
        return self._address if self._remote else str(RldsDirectory(self._address).path.resolve())

    @contextmanager
    def outline(self, end_bytes: int) -> Iterator[RldsDirectory]:
        """All files under their names and with their sizes; of data files behind an address only the first and the last
        `end_bytes` are there, the rest reads as zeros. Raises RldsError where there is no RLDS folder."""
        if not self._remote:
            yield RldsDirectory(self._address)
            return
        with self._temporary() as folder:
            sizes = {name: size for name, size in self._listing().items() if not name.endswith(".json")}
            for name, size, (head, tail) in zip(sizes, sizes.values(), self._ends(sizes, end_bytes), strict=True):
                with open(folder / name, "wb") as file:
                    file.write(head)
                    file.seek(size - len(tail))
                    file.write(tail)
            yield RldsDirectory(folder)

    @contextmanager
    def opened(self, names: Iterable[str]) -> Iterator[RldsDirectory]:
        """The folder with the named data files whole; behind an address others are absent. Raises like `outline`."""
        if not self._remote:
            yield RldsDirectory(self._address)
            return
        with self._temporary() as folder:
            filesystem, root = filesystem_at(self._address)
            for name in names:
                filesystem.get_file(str(PurePosixPath(root, name)), str(folder / name))
            yield RldsDirectory(folder)

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        """A temporary folder with the JSON files in it, which errors name by the address it stands for."""
        listing = self._listing()
        if INFO not in listing:
            raise RldsError(f"{self._address}: no {INFO} in it; give the version folder that `tfds build` wrote")
        filesystem, root = filesystem_at(self._address)
        with tempfile.TemporaryDirectory(prefix="rlds-") as temporary:
            for name in listing:
                if name.endswith(".json"):
                    filesystem.get_file(str(PurePosixPath(root, name)), f"{temporary}/{name}")
            try:
                yield Path(temporary)
            except (RldsError, SpecError, StreamError) as error:
                raise type(error)(str(error).replace(temporary, self._address)) from None

    def _listing(self) -> dict[str, int]:
        """Name to size in bytes of the files right in the folder, by name; empty when there is no such folder."""
        filesystem, root = filesystem_at(self._address)
        try:
            entries = filesystem.ls(root, detail=True)
        except FileNotFoundError:
            return {}
        files = {PurePosixPath(entry["name"]).name: int(entry["size"]) for entry in entries if entry["type"] == "file"}
        return dict(sorted(files.items()))

    def _ends(self, sizes: dict[str, int], end_bytes: int) -> list[tuple[bytes, bytes]]:
        """The first and the last `end_bytes` of each file, all asked for at once."""
        filesystem, root = filesystem_at(self._address)
        paths = [str(PurePosixPath(root, name)) for name in sizes]
        heads = [(0, min(end_bytes, size)) for size in sizes.values()]
        tails = [(max(0, size - end_bytes), size) for size in sizes.values()]
        starts, stops = zip(*heads, *tails, strict=True) if sizes else ((), ())
        parts = filesystem.cat_ranges(paths * 2, list(starts), list(stops), on_error="raise")
        return list(zip(parts[: len(paths)], parts[len(paths) :], strict=True))
