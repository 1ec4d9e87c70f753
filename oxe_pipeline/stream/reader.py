"""Opens a stream and hands out its columns as memory-mapped numpy views: no copy, no buffer, nothing held in memory.

Only the episode index is read at once (tens of bytes per episode); shards are mapped on first use, and any number of
processes on a host share the page cache.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from oxe_pipeline.stats.statistics import VectorStatistics
from oxe_pipeline.stream.episode_index import EpisodeIndex
from oxe_pipeline.stream.format import (
    EPISODES,
    INSTRUCTIONS,
    STATISTICS_FOLDER,
    VECTORS,
    Manifest,
    StreamError,
    read_manifest,
)


@dataclass(frozen=True, slots=True)
class ImageColumn:
    """The encoded images of one camera of one shard: image i is data[offsets[i]:offsets[i+1]]; empty where absent."""

    offsets: np.ndarray
    data: memoryview

    def __getitem__(self, row: int) -> memoryview:
        return self.data[self.offsets[row] : self.offsets[row + 1]]


class Shard:
    """One shard, memory-mapped. `vectors[name]` is float32 [N, width]; `images[camera]` an ImageColumn."""

    def __init__(self, steps_path: Path, images_path: Path, cameras: list[str]):
        steps = _map_batch(steps_path)
        self.vectors: dict[str, np.ndarray] = {name: _matrix(steps.column(name)) for name in VECTORS}
        self.reward: np.ndarray = steps.column("reward").to_numpy()
        self.images: dict[str, ImageColumn] = {}
        if cameras:
            images = _map_batch(images_path)
            for camera in cameras:
                _, offsets, data = images.column(camera).buffers()
                # Arrow's buffers say they are signed, which compares unequal to any bytes and no decoder takes.
                self.images[camera] = ImageColumn(np.frombuffer(offsets, np.int64), memoryview(data).cast("B"))


def _map_batch(path: Path) -> pa.RecordBatch:
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    except (OSError, pa.ArrowInvalid) as error:
        raise StreamError(
            f"{path}: cannot be read ({error}); `python -m oxe_pipeline.verify` names every damaged file, "
            "running the shard job again replaces them"
        ) from None


def _matrix(column: pa.Array) -> np.ndarray:
    """Inverse of format.fixed_size_list: float32 [N, width], a view."""
    if pa.types.is_null(column.type):
        return np.empty((len(column), 0), np.float32)
    width = column.type.list_size
    return column.values.to_numpy().reshape(len(column), width)


class Stream:
    """An open stream. Cheap to pickle: it travels as its path and is opened again on the other side."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.manifest: Manifest = read_manifest(self.path)
        self.identity: str = self.manifest.identity()
        self.name: str = self.manifest.dataset
        for name, entry in self.manifest.all_files().items():
            file = self.path / name
            if not file.is_file() or file.stat().st_size != entry.bytes:
                found = f"{file.stat().st_size} bytes" if file.is_file() else "absent"
                raise StreamError(f"{file}: {found}, the manifest says {entry.bytes} bytes; run the shard job again")
        self.episodes = EpisodeIndex(self.path / EPISODES)
        self._shards: dict[int, Shard] = {}

    def __reduce__(self):
        return Stream, (self.path,)

    @property
    def num_steps(self) -> int:
        return int(self.episodes.length.sum())

    def shard(self, number: int) -> Shard:
        """The shard at a position of the manifest's list, mapped on first use. Safe from several threads."""
        if number not in self._shards:
            entry = self.manifest.shards[number]
            self._shards[number] = Shard(
                self.path / entry.steps_name, self.path / entry.images_name, list(entry.cameras)
            )
        return self._shards[number]

    @cached_property
    def instructions(self) -> list[str]:
        """Distinct instruction texts; EpisodeIndex.instruction_ids points into it."""
        return pq.read_table(self.path / INSTRUCTIONS).column("text").to_pylist()

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
        return VectorStatistics.from_bytes((self.path / STATISTICS_FOLDER / f"{vector}.bin").read_bytes())


def open_stream(path: str | Path) -> Stream:
    """Opens the stream in a directory.

    Checks the manifest and the presence and size of every file (not the hashes: `python -m oxe_pipeline.verify` does).
    Raises StreamError for a missing or unfinished stream, a damaged one, or one of a newer format.
    """
    return Stream(path)
