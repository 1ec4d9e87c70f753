"""Streams of any size that take next to no disk: a valid manifest, index and tables; shards that are holes.

Both files of every shard are real ones, whose zeros are left out as holes: batches can be made from them, without
images. Everything that grows with a data set is thus there in full: episodes, shards, files to look for. Hashes are
invented (nothing would be learned from hashing zeros), so `verify` refuses these streams.
"""

import io
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from oxe_pipeline.mixture.config import DatasetEntry, MixtureConfig, write_config
from oxe_pipeline.stats.statistics import VectorStatistics
from oxe_pipeline.stream.format import (
    EPISODE_SCHEMA,
    EPISODES,
    INSTRUCTIONS,
    SHARDS_FOLDER,
    STATISTICS_FOLDER,
    UNCOMPRESSED,
    VECTORS,
    Counts,
    FileEntry,
    Manifest,
    camera_bits,
    fixed_size_list,
    hash_file,
    write_manifest,
    write_whole,
)
from oxe_pipeline.stream.shard_table import CameraBytes, ShardEntry, ShardTable
from schemas.slots import ACTION_NAMES, STATE_NAMES
from schemas.spec import load_spec

CAMERAS = ("primary", "wrist")
EPISODES_PER_SHARD, STEPS_PER_SHARD = 10, 10_000
IMAGE_BYTES = 12_800
"""Of one camera and step: 10,000 steps of two cameras then make a shard of the default size, 256 MB."""
_BLOCK = 4096


@dataclass(frozen=True, kw_only=True)
class SparseFile:
    """A file of which only the blocks that are not zero are stored."""

    size: int
    blocks: dict[int, bytes]
    """Offset -> content."""

    @staticmethod
    def like(path: Path) -> "SparseFile":
        content = np.fromfile(path, np.uint8)
        padded = np.concatenate([content, np.zeros(-len(content) % _BLOCK, np.uint8)]).reshape(-1, _BLOCK)
        offsets = (np.flatnonzero(padded.any(axis=1)) * _BLOCK).tolist()
        return SparseFile(
            size=len(content), blocks={offset: content[offset : offset + _BLOCK].tobytes() for offset in offsets}
        )

    def write(self, path: Path) -> None:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.truncate(file, self.size)
        for offset, block in self.blocks.items():
            os.pwrite(file, block, offset)
        os.close(file)


@dataclass(frozen=True, kw_only=True)
class StreamParts:
    """What is the same in every stream of a run and made once."""

    steps: SparseFile
    images: SparseFile
    statistics: dict[str, VectorStatistics]
    spec: dict

    @staticmethod
    def make() -> "StreamParts":
        names = {
            "action": ACTION_NAMES[:7],
            "state": STATE_NAMES[:10],
            "action_raw": [f"action_raw.{i}" for i in range(7)],
            "state_raw": [f"state_raw.{i}" for i in range(8)],
        }
        rng = np.random.default_rng(0)
        statistics = {vector: VectorStatistics(names[vector]) for vector in VECTORS}
        for merged in statistics.values():
            merged.update(rng.normal(0, 1, (200, len(merged.names))).astype(np.float32))
        with tempfile.TemporaryDirectory() as folder:
            steps, images = Path(folder) / "steps.arrow", Path(folder) / "images.arrow"
            vectors = {name: fixed_size_list(np.zeros((STEPS_PER_SHARD, len(of)))) for name, of in names.items()}
            _write_batch(steps, {**vectors, "reward": pa.array(np.zeros(STEPS_PER_SHARD, np.float32))})
            # Images of no bytes, and a column nobody reads that is as large as they would be.
            filler = pa.py_buffer(bytes(STEPS_PER_SHARD * len(CAMERAS) * IMAGE_BYTES))
            width = pa.binary(len(CAMERAS) * IMAGE_BYTES)
            empty = pa.array([b""] * STEPS_PER_SHARD, pa.large_binary())
            _write_batch(
                images,
                {**dict.fromkeys(CAMERAS, empty), "": pa.Array.from_buffers(width, STEPS_PER_SHARD, [None, filler])},
            )
            return StreamParts(
                steps=SparseFile.like(steps),
                images=SparseFile.like(images),
                statistics=statistics,
                spec=load_spec("bridge_dataset").model_dump(),
            )


def _write_batch(path: Path, columns: dict[str, pa.Array]) -> None:
    batch = pa.record_batch(list(columns.values()), names=list(columns))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema, options=UNCOMPRESSED) as out:
        out.write_batch(batch)


def make_sparse_mixture(folder: Path, *, datasets: int, episodes: int, seed: int = 0) -> Path:
    """Streams of together `episodes` episodes of 1,000 steps in the mean (rounded to whole shards), as equal in size as
    may be, with weights from 0.001 to 1, below `folder`; returns the path of their mixture file."""
    rng, parts = np.random.default_rng(seed), StreamParts.make()
    shards = max(datasets, round(episodes / EPISODES_PER_SHARD))
    entries = []
    for number in range(datasets):
        own = shards // datasets + (number < shards % datasets)
        path = make_sparse_stream(folder / f"set_{number:04d}", own, parts, rng)
        weight = round(float(10 ** rng.uniform(-3, 0)), 4)
        entries.append(DatasetEntry(name=path.name, path=str(path), weight=weight))
    write_config(folder / "mix.yaml", MixtureConfig(name="sparse", datasets=entries))
    return folder / "mix.yaml"


def make_sparse_stream(folder: Path, shards: int, parts: StreamParts, rng: np.random.Generator) -> Path:
    """A stream of `shards` shards of 10 episodes; one episode in fifty is held out, one in three has an alternative
    instruction."""
    (folder / SHARDS_FOLDER).mkdir(parents=True)
    episodes = shards * EPISODES_PER_SHARD
    length = np.tile(np.linspace(550, 1450, EPISODES_PER_SHARD).astype(np.int32), (shards, 1))
    length = rng.permuted(length, axis=1)
    held_out = np.arange(episodes) % 50 == 49
    texts = max(1, episodes // 10)
    files = {
        EPISODES: _write_parquet(folder / EPISODES, _episode_table(length, held_out, texts, rng)),
        INSTRUCTIONS: _write_parquet(
            folder / INSTRUCTIONS, pa.table({"text": [f"put object {i} into drawer {i % 7}" for i in range(texts)]})
        ),
    }
    for vector, statistics in parts.statistics.items():
        name = f"{STATISTICS_FOLDER}/{vector}.bin"
        files[name] = write_whole(folder / name, statistics.to_bytes())
    steps = {"train": int(length.ravel()[~held_out].sum()), "val": int(length.ravel()[held_out].sum())}
    write_manifest(
        folder,
        Manifest(
            dataset=folder.name,
            code_version="benchmark",
            spec=parts.spec,
            source={},
            options={},
            lab="none",
            robot="none",
            control_hz=10.0,
            action_slots=list(range(7)),
            state_slots=list(range(10)),
            action_raw_width=7,
            state_raw_width=8,
            cameras=dict.fromkeys(CAMERAS, episodes),
            counts=Counts(
                episodes_in=episodes,
                episodes_out=episodes,
                steps_out=sum(steps.values()),
                split_episodes={"train": int((~held_out).sum()), "val": int(held_out.sum())},
                split_steps=steps,
            ),
            quarantine=[],
            statistics={vector: statistics.summary() for vector, statistics in parts.statistics.items()},
            language={},
            files=files,
            shards=ShardTable.of(_write_shards(folder, shards, parts, rng)),
        ),
    )
    return folder


def _episode_table(length: np.ndarray, held_out: np.ndarray, texts: int, rng: np.random.Generator) -> pa.Table:
    """episodes.parquet for lengths int32 [shards, episodes per shard]."""
    episodes = length.size
    numbers = np.arange(episodes)
    alternatives = numbers % 3 == 0
    offsets = np.concatenate([[0], np.cumsum(1 + alternatives)]).astype(np.int32)
    empty = pa.ListArray.from_arrays(np.zeros(episodes + 1, np.int32), pa.array([], pa.string()))
    ids = [f"{i:016x}" for i in numbers.tolist()]
    columns = {
        "episode_id": ids,
        "shard": np.repeat(np.arange(len(length), dtype=np.int32), length.shape[1]),
        "first_row": (np.cumsum(length, axis=1) - length).ravel(),
        "length": length.ravel(),
        "split": pa.DictionaryArray.from_arrays(held_out.astype(np.int8), ["train", "val"]),
        "cameras": np.full(episodes, camera_bits(CAMERAS), np.uint8),
        "instruction_ids": pa.ListArray.from_arrays(offsets, rng.integers(0, texts, offsets[-1]).astype(np.int32)),
        "success": np.ones(episodes, np.int8),
        "control_hz": np.full(episodes, 10, np.float32),
        "label_raw": pa.array([""] * episodes),
        "label_flags": empty,
        "quality_flags": empty,
        "source_path": [f"episode_{i}" for i in ids],
    }
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in EPISODE_SCHEMA})


def _write_shards(folder: Path, shards: int, parts: StreamParts, rng: np.random.Generator) -> Iterator[ShardEntry]:
    image_bytes = STEPS_PER_SHARD * IMAGE_BYTES
    for number in range(shards):
        entry = ShardEntry(
            name=f"{number:05d}-000",
            episodes=EPISODES_PER_SHARD,
            steps=STEPS_PER_SHARD,
            steps_file=FileEntry(bytes=parts.steps.size, xxh3=rng.bytes(16).hex()),
            images_file=FileEntry(bytes=parts.images.size, xxh3=rng.bytes(16).hex()),
            cameras={c: CameraBytes(offset=2048 + i * image_bytes, bytes=image_bytes) for i, c in enumerate(CAMERAS)},
        )
        parts.steps.write(folder / entry.steps_name)
        parts.images.write(folder / entry.images_name)
        yield entry


def _write_parquet(path: Path, table: pa.Table) -> FileEntry:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    write_whole(path, sink.getvalue())
    return hash_file(path)
