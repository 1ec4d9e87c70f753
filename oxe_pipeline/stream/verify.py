"""Checks a stream against its manifest: what a hash, a count or an offset can show. Reads every byte once.

Faults are collected, not raised, so that one run names every damaged file. It does not decode images; `images=True`
looks at the head and the end of each one.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from oxe_pipeline.quality.image_headers import image_size
from oxe_pipeline.stats.statistics import VectorStatistics
from oxe_pipeline.stream.cache import CacheOptions, FileCache
from oxe_pipeline.stream.episode_index import EpisodeIndex
from oxe_pipeline.stream.format import (
    EPISODES,
    MANIFEST,
    STATISTICS_FOLDER,
    VECTORS,
    FileEntry,
    Manifest,
    StreamError,
    hash_file,
    read_manifest,
)
from oxe_pipeline.stream.reader import Shard, map_batch
from oxe_pipeline.stream.remote import RemoteFolder, is_url, read_remote_manifest
from oxe_pipeline.stream.shard_table import ShardEntry
from schemas.slots import CAMERAS

REMEDY = "run the shard job again with --overwrite"
MAX_IMAGE_FAULTS = 10


@dataclass(kw_only=True)
class Verification:
    """What was found: `faults` in one line each, empty for a sound stream."""

    stream: str
    identity: str
    files: int = 0
    bytes: int = 0
    episodes: int = 0
    steps: int = 0
    images: int = 0
    """Images whose head and end were looked at."""
    faults: list[str] = field(default_factory=list)


def verify_stream(path: str | Path, *, images: bool = False) -> Verification:
    """Checks sizes and hashes of all files, then counts, rows, offsets, splits, cameras and statistics; with `images`,
    that every image begins and ends like a JPEG or PNG.

    Of a stream behind a URL every file is fetched, past the cache, one shard at a time. Raises StreamError when there
    is no manifest to check against.
    """
    if not is_url(path):
        return _verify(_LocalFiles(str(path).removeprefix("file://")), images)
    with tempfile.TemporaryDirectory(prefix="verify-") as temporary:
        return _verify(_RemoteFiles(str(path), Path(temporary)), images)


class _LocalFiles:
    """The files of a stream in a folder, and what is wrong with each as a whole."""

    def __init__(self, folder: str):
        self.address, self.manifest = folder, read_manifest(folder)

    def file(self, name: str) -> Path:
        return Path(self.address, name)

    def fault(self, name: str, entry: FileEntry) -> str:
        """One line, "" for a sound file."""
        file = self.file(name)
        try:
            found = hash_file(file)
        except FileNotFoundError:
            return f"{file}: absent; {REMEDY}"
        except OSError as error:
            return f"{file}: cannot be read ({error.strerror}); check the disk and who may read it, or {REMEDY}"
        if found.bytes != entry.bytes:
            return f"{file}: {found.bytes} bytes, the manifest says {entry.bytes}; {REMEDY}"
        if found.xxh3 != entry.xxh3:
            return f"{file}: content hash {found.xxh3}, the manifest says {entry.xxh3}; {REMEDY}"
        return ""


class _RemoteFiles:
    """The same behind a URL, by way of a temporary folder that holds the tables and one shard at a time."""

    def __init__(self, url: str, temporary: Path):
        once = CacheOptions(folder=temporary, attempts=3)
        self._remote = RemoteFolder(url, attempts=3, backoff_s=once.backoff_s, timeout_s=once.timeout_s)
        self.address, self.manifest = self._remote.url, read_remote_manifest(self._remote)
        self._entries = self.manifest.all_files()
        tables = sum(entry.bytes for entry in self.manifest.files.values())
        shards = [shard.steps_file.bytes + shard.images_file.bytes for shard in self.manifest.shards]
        self._cache = FileCache(replace(once, limit_bytes=tables + max(shards, default=0)))

    def file(self, name: str) -> Path:
        return self._cache.fetch(self._remote, name, self._entries[name])

    def fault(self, name: str, entry: FileEntry) -> str:
        try:
            self.file(name)
        except StreamError as error:
            return str(error)
        return ""


_Files = _LocalFiles | _RemoteFiles


def _verify(files: _Files, images: bool) -> Verification:
    manifest = files.manifest
    found = Verification(stream=files.address, identity=manifest.identity())
    episodes = _verify_tables(files, found)
    for number, entry in enumerate(manifest.shards):
        if not _damaged(files, entry.file_entries(), found) and episodes is not None:
            shard_faults = _shard_faults(files, manifest, number, entry, episodes, found, images)
            found.faults += [f"{files.address}/{name}: {fault}; {REMEDY}" for name, fault in shard_faults]
    return found


def _verify_tables(files: _Files, found: Verification) -> EpisodeIndex | None:
    """Checks everything but the shards; the episode index, if it is sound."""
    manifest = files.manifest
    damaged = _damaged(files, manifest.files, found)
    faults = [(MANIFEST, fault) for fault in _count_faults(manifest)]
    for vector in VECTORS:
        name = f"{STATISTICS_FOLDER}/{vector}.bin"
        if name not in damaged and (fault := _statistics_fault(files.file(name), manifest, vector)):
            faults.append((name, fault))
    episodes = None
    if EPISODES not in damaged:
        episodes = EpisodeIndex(files.file(EPISODES))
        found.episodes, found.steps = len(episodes), int(episodes.length.sum())
        faults += [(EPISODES, fault) for fault in _index_faults(manifest, episodes)]
    found.faults += [f"{files.address}/{name}: {fault}; {REMEDY}" for name, fault in faults]
    return episodes


def _damaged(files: _Files, entries: Mapping[str, FileEntry], found: Verification) -> set[str]:
    """Checks files as a whole; the names of those that are not sound, whose faults are noted."""
    damaged = set()
    for name, entry in entries.items():
        if fault := files.fault(name, entry):
            damaged.add(name)
            found.faults.append(fault)
        found.files, found.bytes = found.files + 1, found.bytes + entry.bytes
    return damaged


def _count_faults(manifest: Manifest) -> Iterator[str]:
    counts, bad = manifest.counts, len(manifest.quarantine)
    if counts.episodes_in != counts.episodes_out + bad:
        yield f"{counts.episodes_in} episodes in, but {counts.episodes_out} out + {bad} set aside"
    totals = {
        "episodes_out and split_episodes": (counts.episodes_out, sum(counts.split_episodes.values())),
        "episodes_out and shards": (counts.episodes_out, sum(shard.episodes for shard in manifest.shards)),
        "steps_out and split_steps": (counts.steps_out, sum(counts.split_steps.values())),
        "steps_out and shards": (counts.steps_out, sum(shard.steps for shard in manifest.shards)),
    }
    for name, (one, other) in totals.items():
        if one != other:
            yield f"{name} differ: {one} and {other}"


def _index_faults(manifest: Manifest, episodes: EpisodeIndex) -> Iterator[str]:
    counts = manifest.counts
    if len(episodes) != counts.episodes_out:
        yield f"{len(episodes)} rows for {counts.episodes_out} episodes"
    for split in {*counts.split_episodes, *episodes.split_names()}:
        chosen = episodes.split_is(split)
        found = int(chosen.sum()), int(episodes.length[chosen].sum())
        if found != (said := (counts.split_episodes.get(split, 0), counts.split_steps.get(split, 0))):
            yield f"split {split!r} has (episodes, steps) {found}, the manifest says {said}"
    for camera in CAMERAS:
        if (seen := int(episodes.has_camera(camera).sum())) != manifest.cameras.get(camera, 0):
            yield f"{seen} episodes have camera {camera}, the manifest says {manifest.cameras.get(camera, 0)}"


def _shard_faults(
    files: _Files,
    manifest: Manifest,
    number: int,
    entry: ShardEntry,
    episodes: EpisodeIndex,
    found: Verification,
    images: bool,
) -> Iterator[tuple[str, str]]:
    """(file name, fault) pairs of one shard whose files have the right hashes."""
    try:
        shard = Shard(entry, lambda name: map_batch(files.file(name)))
    except (StreamError, KeyError, pa.ArrowInvalid) as error:
        yield entry.steps_name, f"does not open ({' '.join(str(error).split())})"
        return
    mine = np.flatnonzero(episodes.shard == number)
    firsts, lengths = episodes.first_row[mine], episodes.length[mine]
    if len(mine) != entry.episodes or (firsts != np.cumsum(lengths) - lengths).any() or lengths.sum() != entry.steps:
        yield (
            entry.steps_name,
            f"its {entry.steps} rows are not the {len(mine)} episodes that {EPISODES} lays end to end",
        )
        return
    widths = {
        "action": len(manifest.action_slots),
        "state": len(manifest.state_slots),
        "action_raw": manifest.action_raw_width,
        "state_raw": manifest.state_raw_width,
    }
    for vector, width in widths.items():
        values = shard.vectors[vector]
        if values.shape != (entry.steps, width):
            yield entry.steps_name, f"{vector} is {list(values.shape)}, must be [{entry.steps}, {width}]"
        elif not np.isfinite(values).all():
            yield entry.steps_name, f"{vector} holds values that are not finite"
    has = {camera: np.repeat(episodes.has_camera(camera)[mine], lengths) for camera in CAMERAS}
    for camera in CAMERAS:
        column = shard.images.get(camera)
        if column is None:
            if has[camera].any():
                yield entry.images_name, f"camera {camera} has no column, but episodes that claim it"
            continue
        sizes = np.diff(column.offsets[: entry.steps + 1])
        if len(sizes) != entry.steps or (sizes < 0).any() or column.offsets[entry.steps] > len(column.data):
            yield entry.images_name, f"offsets of camera {camera} do not lie in its {len(column.data)} bytes"
        elif ((sizes > 0) != has[camera]).any():
            yield entry.images_name, f"camera {camera}: images and the episodes that claim it do not match"
        elif images:
            rows = np.flatnonzero(has[camera])
            found.images += len(rows)
            yield from ((entry.images_name, fault) for fault in _image_faults(column, camera, rows))


def _image_faults(column, camera: str, rows: np.ndarray) -> Iterator[str]:
    bad = 0
    for row in rows:
        try:
            image_size(bytes(column[row]))
        except ValueError as error:
            bad += 1
            if bad <= MAX_IMAGE_FAULTS:
                yield f"camera {camera}, row {row}: {error}"
    if bad > MAX_IMAGE_FAULTS:
        yield f"camera {camera}: {bad} damaged images in all"


def _statistics_fault(file: Path, manifest: Manifest, vector: str) -> str:
    try:
        summary = VectorStatistics.from_bytes(file.read_bytes()).summary()
    except ValueError as error:
        return str(error)
    return "" if summary == manifest.statistics.get(vector) else "does not hold what the manifest says of it"
