"""Writes the stream-wide tables (episodes, instructions, statistics) that the manifest then commits."""

import io
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from oxe_pipeline.stats.statistics import VectorStatistics
from oxe_pipeline.stream.format import (
    EPISODE_SCHEMA,
    EPISODES,
    INSTRUCTIONS,
    STATISTICS_FOLDER,
    FileEntry,
    write_whole,
)


def write_tables(
    folder: Path, episode_rows: Iterable[dict], statistics: dict[str, VectorStatistics]
) -> dict[str, FileEntry]:
    """Writes episodes.parquet, instructions.parquet and statistics/*.bin; returns their entries for the manifest.

    `episode_rows` are those of ShardWriter with `shard` added, in stream order. Instruction ids are given in order of
    first appearance, so the same rows give the same bytes.
    """
    ids: dict[str, int] = {}
    rows = []
    for row in episode_rows:
        row = dict(row)
        row["instruction_ids"] = [ids.setdefault(text, len(ids)) for text in row.pop("instructions")]
        rows.append(row)
    entries = {
        EPISODES: write_whole(folder / EPISODES, _parquet(pa.Table.from_pylist(rows, EPISODE_SCHEMA))),
        INSTRUCTIONS: write_whole(
            folder / INSTRUCTIONS, _parquet(pa.table({"text": pa.array(list(ids), pa.string())}))
        ),
    }
    for vector, merged in statistics.items():
        name = f"{STATISTICS_FOLDER}/{vector}.bin"
        entries[name] = write_whole(folder / name, merged.to_bytes())
    return entries


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
