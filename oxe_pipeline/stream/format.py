"""What a stream is on disk: file names, the manifest, hashes. Readers, the writer and the shard job agree through here.

    manifest.json              written last; its presence is the commit of the whole stream
    episodes.parquet           one row per episode
    instructions.parquet       distinct instruction texts; episodes refer to them by row number
    statistics/<vector>.bin    mergeable statistics of action, state, action_raw, state_raw (train split)
    shards/<name>.steps.arrow  low-dimensional columns, one record batch
    shards/<name>.images.arrow one large_binary column per camera, one record batch

One record batch per file, uncompressed, so that a memory map gives every column as one contiguous buffer and a sample
is pointer arithmetic. The price: a shard is written at once, so the writer holds one in memory.
"""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import xxhash
from pydantic import Field, PrivateAttr, ValidationError
from pydantic_core import from_json

from oxe_pipeline.stream.shard_table import FILES, SHARDS_FOLDER, FileEntry, ShardTable
from schemas.operations import Model

STREAM_FORMAT = 1
MANIFEST = "manifest.json"
EPISODES = "episodes.parquet"
INSTRUCTIONS = "instructions.parquet"
STATISTICS_FOLDER = "statistics"
VECTORS = ("action", "state", "action_raw", "state_raw")
"""The float vectors of a step; `action` and `state` hold only the slots the data set has, in slot order."""
UNCOMPRESSED = pa.ipc.IpcWriteOptions(compression=None)

EPISODE_SCHEMA = pa.schema(
    [
        ("episode_id", pa.string()),
        ("shard", pa.int32()),
        ("first_row", pa.int64()),
        ("length", pa.int32()),
        ("split", pa.dictionary(pa.int8(), pa.string())),
        ("cameras", pa.uint8()),
        ("instruction_ids", pa.list_(pa.int32())),
        ("success", pa.int8()),
        ("control_hz", pa.float32()),
        ("label_raw", pa.string()),
        ("label_flags", pa.list_(pa.string())),
        ("quality_flags", pa.list_(pa.string())),
        ("source_path", pa.string()),
    ]
)
"""`shard` is the position in the manifest's list; `cameras` a bit per schemas.slots.CAMERAS; the first instruction id
is the main instruction, the rest are alternatives, an empty list means none."""


class StreamError(ValueError):
    """A stream that cannot be read as it is: where, what, and the remedy, in one line."""


@contextmanager
def reading(file: str | Path) -> Iterator[None]:
    """Raises what damaged bytes raise in Arrow, and absent or unreadable files, as StreamError naming `file`."""
    try:
        yield
    except StreamError:
        raise
    except (OSError, ValueError, pa.ArrowException, StopIteration) as error:
        raise StreamError(
            f"{file}: cannot be read ({' '.join(str(error).split())}); `python -m oxe_pipeline.verify` names every "
            "damaged file, running the shard job again replaces them"
        ) from error


class Quarantined(Model):
    """One episode set aside, with everything needed to find it again."""

    episode: str
    field: str
    reason: str


class Counts(Model):
    """in = out + quarantined, for the builder and the job together."""

    episodes_in: int
    episodes_out: int
    steps_out: int
    split_episodes: dict[str, int]
    split_steps: dict[str, int]


class Manifest(Model):
    """Everything a reader must know before it touches a shard. Holds no time and no path of the writing machine."""

    format: Literal[1] = 1
    dataset: str
    code_version: str
    spec: dict
    """The data set's spec as it was applied."""
    source: dict
    """Name, version and split sizes of the RLDS directory, and the hash of its file list."""
    options: dict
    """The job's options that change the bytes written: images, splits ..."""
    lab: str
    robot: str
    control_hz: float
    action_slots: list[int]
    state_slots: list[int]
    """Slot indices held by the `action` and `state` columns, ascending; all other slots are masked."""
    action_raw_width: int
    state_raw_width: int
    cameras: dict[str, int]
    """Camera to the number of episodes that have it."""
    counts: Counts
    quarantine: list[Quarantined]
    statistics: dict[str, dict[str, dict[str, float]]]
    """Vector -> slot name -> count, mean, std, min, max, q01, q99 over the train split."""
    language: dict
    audits: list[dict] = Field(default_factory=list)
    """What each audit found, as Finding.to_dict of oxe_pipeline/quality/finding.py; empty where none was run."""
    files: dict[str, FileEntry]
    shards: ShardTable
    _identity: str = PrivateAttr("")
    """Of the bytes it was read from, where it was."""

    def identity(self) -> str:
        """32 hexadecimal digits: the hash of the manifest's own bytes, in which all content hashes are. Equal data,
        equal identity."""
        return self._identity or xxhash.xxh3_128_hexdigest(self.to_bytes())

    def to_bytes(self) -> bytes:
        """The content of manifest.json. The same manifest gives the same bytes."""
        return json.dumps(self.model_dump(), indent=1, ensure_ascii=False, sort_keys=True).encode()

    def all_files(self) -> dict[str, FileEntry]:
        """Every file of the stream but the manifest itself."""
        entries = dict(self.files)
        for shard in self.shards:
            entries.update(shard.file_entries())
        return entries

    def file_entry(self, name: str) -> FileEntry:
        """One of `all_files`; KeyError for a name that is none of them."""
        return self.files[name] if name in self.files else self.shards.file_entry(name)

    def file_sizes(self) -> tuple[list[str], list[int]]:
        """Name and bytes of every file of `all_files`; a hundred times faster for a large data set."""
        names, sizes = list(self.files), [entry.bytes for entry in self.files.values()]
        for kind in FILES:
            names += [f"{SHARDS_FOLDER}/{name}.{kind}.arrow" for name in self.shards.names()]
            sizes += self.shards.file_bytes[kind].tolist()
        return names, sizes


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: the same value gives the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def hash_file(path: str | Path) -> FileEntry:
    """Size and content hash of a file, read in 4 MiB pieces."""
    digest, size = xxhash.xxh3_128(), 0
    with open(path, "rb") as file:
        while piece := file.read(4 << 20):
            digest.update(piece)
            size += len(piece)
    return FileEntry(bytes=size, xxh3=digest.hexdigest())


def unfinished_name(path: Path) -> Path:
    """A name beside `path` for a file that is being written, free of any other writer's: on a shared disk two workers
    can be at the same file at once, in containers where both have the same process id."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")


def write_whole(path: str | Path, content: bytes) -> FileEntry:
    """Writes `content` under a temporary name and renames: the final name never shows a partial file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = unfinished_name(path)
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return FileEntry(bytes=len(content), xxh3=xxhash.xxh3_128_hexdigest(content))


def write_manifest(folder: str | Path, manifest: Manifest) -> None:
    """Commits a stream: to be called when every other file is in place."""
    write_whole(Path(folder) / MANIFEST, manifest.to_bytes())


def read_manifest(folder: str | Path) -> Manifest:
    """The manifest of a stream; StreamError when there is none, it is damaged, or of a newer format."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        state = (
            "an unfinished stream (its job has not committed; run it again)" if _is_unfinished(folder) else "no stream"
        )
        raise StreamError(f"{folder}: {state}: {MANIFEST} is missing; make one with `python -m jobs.shard`")
    return parse_manifest(path.read_bytes(), str(path))


def parse_manifest(text: bytes, where: str) -> Manifest:
    """The manifest in `text`, which was read from `where`; StreamError when it is damaged or of a newer format."""
    try:
        content = from_json(text)
        found = content.get("format")
    except (ValueError, AttributeError) as error:
        raise StreamError(f"{where}: not a manifest ({error}); run the shard job again") from None
    if found != STREAM_FORMAT:
        newer = isinstance(found, int) and found > STREAM_FORMAT
        remedy = "update this package" if newer else "run the shard job again"
        raise StreamError(f"{where}: stream format {found!r}, this version reads {STREAM_FORMAT}; {remedy}")
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise StreamError(
            f"{where}: {key}: {fault['msg'].removeprefix('Value error, ')}; run the shard job again"
        ) from None
    manifest._identity = xxhash.xxh3_128_hexdigest(text)
    return manifest


def _is_unfinished(folder: str | Path) -> bool:
    return (Path(folder) / SHARDS_FOLDER).is_dir()


def camera_bits(cameras) -> int:
    """Cameras an episode has, as a bit set in the order of schemas.slots.CAMERAS."""
    from schemas.slots import CAMERAS

    return int(sum(1 << CAMERAS.index(camera) for camera in cameras))


def fixed_size_list(array: np.ndarray) -> pa.Array:
    """float32 [N, width] as an Arrow fixed-size list, without a copy. A vector that the data set lacks, of width 0,
    becomes N nulls: Arrow has no list of no values."""
    if array.shape[1] == 0:
        return pa.nulls(len(array))
    flat = pa.array(np.ascontiguousarray(array, np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, array.shape[1])
