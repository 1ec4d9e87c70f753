"""Opens a stream and hands out its columns as memory-mapped numpy views: no copy, no buffer, nothing held in memory.

Only the episode index is read at once (tens of bytes per episode); shards are mapped on first use, and any number of
processes on a host share the page cache. A stream behind a URL is the same, from files in the host's cache.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from oxe_pipeline.stats.statistics import VectorStatistics
from oxe_pipeline.stream.cache import CacheOptions, file_cache
from oxe_pipeline.stream.episode_index import EpisodeIndex
from oxe_pipeline.stream.format import (
    EPISODES,
    INSTRUCTIONS,
    STATISTICS_FOLDER,
    VECTORS,
    Manifest,
    StreamError,
    read_manifest,
    reading,
)
from oxe_pipeline.stream.presence import check_files
from oxe_pipeline.stream.remote import RemoteFolder, is_url, read_remote_manifest
from oxe_pipeline.stream.shard_table import ShardEntry

_ARROW_FILE = b"ARROW1\0\0"
"""How an Arrow IPC file begins; what follows, up to its footer, is an Arrow IPC stream."""

Opened = TypeVar("Opened")


@dataclass(frozen=True, slots=True)
class ImageColumn:
    """The encoded images of one camera of one shard: image i is data[offsets[i]:offsets[i+1]]; empty where absent."""

    offsets: np.ndarray
    data: memoryview

    def __getitem__(self, row: int) -> memoryview:
        return self.data[self.offsets[row] : self.offsets[row + 1]]


class Shard:
    """One shard, memory-mapped. `vectors[name]` is float32 [N, width]; `images[camera]` an ImageColumn."""

    def __init__(self, entry: ShardEntry, batch_of: Callable[[str], pa.RecordBatch]):
        """`batch_of` maps the record batch of a file by its name in the manifest, e.g. `map_batch`."""
        steps = batch_of(entry.steps_name)
        self.vectors: dict[str, np.ndarray] = {name: _matrix(steps.column(name)) for name in VECTORS}
        self.reward: np.ndarray = np.from_dlpack(steps.column("reward"))
        self.images: dict[str, ImageColumn] = {}
        if entry.cameras:
            images = batch_of(entry.images_name)
            for camera in entry.cameras:
                _, offsets, data = images.column(camera).buffers()
                # Arrow's buffers say they are signed, which compares unequal to any bytes and no decoder takes.
                self.images[camera] = ImageColumn(np.frombuffer(offsets, np.int64), memoryview(data).cast("B"))


def map_batch(path: Path) -> pa.RecordBatch:
    """The one record batch of a file, memory-mapped; StreamError when it cannot be read."""
    with reading(path):
        file = pa.memory_map(str(path))
        if file.read(len(_ARROW_FILE)) != _ARROW_FILE:
            raise pa.ArrowInvalid("not an Arrow file")
        # Not ipc.open_file, which has the footer read by another thread and takes twice as long.
        return pa.ipc.open_stream(file).read_next_batch()


def _matrix(column: pa.Array) -> np.ndarray:
    """Inverse of format.fixed_size_list: float32 [N, width], a view."""
    if pa.types.is_null(column.type):
        return np.empty((len(column), 0), np.float32)
    width = column.type.list_size
    return np.from_dlpack(column.values).reshape(len(column), width)


class Stream:
    """An open stream. Cheap to pickle: it travels as its path and is opened again on the other side."""

    is_remote = False

    def __init__(self, path: str | Path):
        folder = Path(path)
        manifest = read_manifest(folder)
        check_files(folder, manifest)
        self._begin(folder, manifest, EpisodeIndex(folder / EPISODES))

    def _begin(self, path: Path | str, manifest: Manifest, episodes: EpisodeIndex) -> None:
        self.path = path
        """The folder: a Path, or the URL as str."""
        self.manifest = manifest
        self.identity: str = manifest.identity()
        self.name: str = manifest.dataset
        self.episodes = episodes
        self._shards: dict[int, Shard] = {}

    def __reduce__(self):
        return Stream, (self.path,)

    @property
    def num_steps(self) -> int:
        return int(self.episodes.length.sum())

    def shard(self, number: int) -> Shard:
        """The shard at a position of the manifest's list, mapped on first use. Safe from several threads."""
        if number not in self._shards:
            self._shards[number] = Shard(self.manifest.shards[number], self._batch)
        return self._shards[number]

    def _batch(self, name: str) -> pa.RecordBatch:
        return map_batch(self.file(name))

    def file(self, name: str) -> Path:
        """Where a file of the stream, by its name in the manifest, lies on this machine."""
        return Path(self.path, name)

    @cached_property
    def instructions(self) -> list[str]:
        """Distinct instruction texts; EpisodeIndex.instruction_ids points into it."""
        # In this thread: one of Arrow's that has just begun aborts a process that ends at that moment.
        with reading(f"{self.path}/{INSTRUCTIONS}"):
            file = pq.ParquetFile(pa.BufferReader(self._content(INSTRUCTIONS)), pre_buffer=False)
            return file.read(use_threads=False).column("text").to_pylist()

    def instruction(self, episode: int, choice: int = 0) -> str:
        """The main instruction (choice 0) or an alternative of an episode; "" where there is none."""
        ids = self.episodes.instruction_ids(episode)
        return self.instructions[ids[choice]] if len(ids) else ""

    def vector(self, name: str, episode: int) -> np.ndarray:
        """float32 [T, width] of one of VECTORS for a whole episode; a read-only view."""
        first, length = self.episodes.first_row[episode], self.episodes.length[episode]
        return self.shard(self.episodes.shard[episode]).vectors[name][first : first + length]

    def image(self, episode: int, step: int, camera: str) -> memoryview:
        """The encoded image; zero bytes long where the episode lacks the camera."""
        column = self.shard(self.episodes.shard[episode]).images.get(camera)
        return column[self.episodes.first_row[episode] + step] if column else memoryview(b"")

    def statistics(self, vector: str) -> VectorStatistics:
        """Mergeable statistics of one of VECTORS over the train split."""
        name = f"{STATISTICS_FOLDER}/{vector}.bin"
        with reading(f"{self.path}/{name}"):
            return VectorStatistics.from_bytes(self._content(name))

    def _content(self, name: str) -> bytes:
        return self.file(name).read_bytes()


class RemoteStream(Stream):
    """A stream behind a URL, whose files are fetched whole into this host's cache when they are first needed.

    Maps of shards are dropped every `renew_s` seconds and made again from the cache on the next use (milliseconds), so
    that files which the cache has removed give their bytes back. Travels as URL, options and identity.
    """

    is_remote = True

    def __init__(self, url: str, cache: CacheOptions | None = None, identity: str = ""):
        self.cache_options = cache or CacheOptions()
        options = self.cache_options
        self._remote = RemoteFolder(
            url, attempts=options.attempts, backoff_s=options.backoff_s, timeout_s=options.timeout_s
        )
        self._cache = file_cache(options)
        manifest = read_remote_manifest(self._remote)
        self._entry = manifest.file_entry
        # Mapped, since the index reads its texts later, when the cache may have removed the file.
        index = EpisodeIndex(self._opened(EPISODES, pa.memory_map), f"{self._remote}/{EPISODES}")
        self._begin(self._remote.url, manifest, index)
        if identity and self.identity != identity:
            raise StreamError(
                f"{url}: changed while it was read: it was stream {identity} and is {self.identity}; start again"
            )
        if largest := manifest.shards.largest():
            self._cache.check_fits(f"{url}, shard {largest.name}", largest.steps_file.bytes + largest.images_file.bytes)
        self._cache.watch(self)

    def __reduce__(self):
        return RemoteStream, (self.path, self.cache_options, self.identity)

    def shard(self, number: int) -> Shard:
        """The shard at a position of the manifest's list; waits until it is here. Safe from several threads.

        Raises StreamError naming URL or cache folder, what went wrong, and the remedy.
        """
        if time.monotonic() > self._cache.renew_at_s:
            self._cache.renew()
        shard = self._shards.get(number)
        if shard is None:
            shard = self._shards[number] = Shard(self.manifest.shards[number], self._batch)
        return shard

    def file(self, name: str) -> Path:
        """A file of the stream, fetched if it is not here. The cache may remove it again at any time."""
        return self._cache.fetch(self._remote, name, self._entry(name))

    def shard_bytes(self, number: int) -> int:
        """Bytes that a shard takes in the cache."""
        return sum(int(sizes[number]) for sizes in self.manifest.shards.file_bytes.values())

    def is_here(self, number: int) -> bool:
        """Whether a shard is in the cache; if so, it counts as wanted now."""
        files = self.manifest.shards[number].file_entries()
        return all([self._cache.find(name, entry) is not None for name, entry in files.items()])

    def prefetch(self, number: int, *, called_off: Callable[[], bool]) -> bool:
        """Brings a shard into the cache; whether it is there or on its way by another.

        False where only files wanted lately could make room, or when `called_off` says so, which is asked between
        pieces. Raises StreamError as `shard`.
        """
        files = self.manifest.shards[number].file_entries()
        return all(
            self._cache.prefetch(self._remote, name, entry, called_off=called_off) for name, entry in files.items()
        )

    def drop_maps(self) -> None:
        """Lets go of all mapped shards; views that are still held keep theirs."""
        self._shards = {}

    def _batch(self, name: str) -> pa.RecordBatch:
        while True:
            try:
                return map_batch(self.file(name))
            except StreamError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise

    def _opened(self, name: str, opener: Callable[[str], Opened]) -> Opened:
        """What `opener` makes of a file, which the cache may remove before it is opened: then it is fetched again."""
        while True:
            with suppress(FileNotFoundError):
                return opener(str(self.file(name)))

    def _content(self, name: str) -> bytes:
        return self._opened(name, lambda path: Path(path).read_bytes())


def open_stream(path: str | Path, *, cache: CacheOptions | None = None) -> Stream:
    """Opens the stream in a directory or behind a URL that fsspec knows (https://, s3://, gs:// ...).

    A directory is mapped as it is; its manifest and the presence and size of every file are checked (not the hashes:
    `python -m oxe_pipeline.verify` does). Of a URL, manifest and index are fetched now, shards when they are needed,
    into the folder that `cache` names (default: CacheOptions()); each is hash-checked on arrival. Raises StreamError
    for a missing or unfinished stream, a damaged one, or one of a newer format.
    """
    if is_url(path):
        return RemoteStream(str(path), cache)
    return Stream(str(path).removeprefix("file://"))
