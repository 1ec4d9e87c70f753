"""The list of a manifest's shards as columns: a large data set has 100,000 of them, and it is read at every start.

A shard costs about 130 bytes of memory here, against 3 kB as objects, and a small part of the time to read. What is
traded away: an entry is made anew each time it is asked for, and in the manifest its values lie in as many lists.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, overload

import numpy as np
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from schemas.operations import Model

SHARDS_FOLDER = "shards"
FILES = ("steps", "images")
_COLUMNS = (
    "name",
    "episodes",
    "steps",
    *(f"{file}_{value}" for file in FILES for value in ("bytes", "xxh3")),
    "cameras",
)


class FileEntry(Model):
    bytes: int
    xxh3: str
    """Hexadecimal xxh3-128 of the whole file."""


class CameraBytes(Model):
    """Where one camera's image bytes lie in the shard's images file: a remote reader needs no footer to seek."""

    offset: int
    bytes: int


class ShardEntry(Model):
    name: str
    episodes: int
    steps: int
    steps_file: FileEntry
    images_file: FileEntry
    cameras: dict[str, CameraBytes]

    @property
    def steps_name(self) -> str:
        return f"{SHARDS_FOLDER}/{self.name}.steps.arrow"

    @property
    def images_name(self) -> str:
        return f"{SHARDS_FOLDER}/{self.name}.images.arrow"

    def file_entries(self) -> dict[str, FileEntry]:
        return {self.steps_name: self.steps_file, self.images_name: self.images_file}


class ShardTable(Sequence[ShardEntry]):
    """A sequence of ShardEntry; in JSON a mapping of lists, one value per shard in each. Immutable."""

    def __init__(self, columns: Mapping[str, Any]):
        """From columns as JSON gives them. ValueError says which column does not hold, and how."""
        _check_keys("", columns, _COLUMNS)
        self._name = _texts(columns["name"])
        self._counts = {column: _whole(column, columns[column], len(self)) for column in ("episodes", "steps")}
        self.file_bytes = {file: _whole(f"{file}_bytes", columns[f"{file}_bytes"], len(self)) for file in FILES}
        """"steps" and "images" -> size of the shard's file of that kind, int64 [S]."""
        self._digest = {file: _digests(f"{file}_xxh3", columns[f"{file}_xxh3"], len(self)) for file in FILES}
        self._cameras: dict[str, dict[str, np.ndarray]] = {}
        for camera, places in columns["cameras"].items():
            _check_keys(f"cameras.{camera}", places, CameraBytes.model_fields)
            self._cameras[camera] = {
                key: _whole(f"cameras.{camera}.{key}", places[key], len(self)) for key in CameraBytes.model_fields
            }

    @classmethod
    def of(cls, entries: Iterable[ShardEntry]) -> "ShardTable":
        """The same shards as columns; a camera that a shard lacks is at -1."""
        entries = list(entries)
        absent = CameraBytes(offset=-1, bytes=-1)
        cameras = sorted({camera for entry in entries for camera in entry.cameras})
        places = {camera: [entry.cameras.get(camera, absent) for entry in entries] for camera in cameras}
        return cls(
            {
                "name": [entry.name for entry in entries],
                "episodes": [entry.episodes for entry in entries],
                "steps": [entry.steps for entry in entries],
                "steps_bytes": [entry.steps_file.bytes for entry in entries],
                "steps_xxh3": [entry.steps_file.xxh3 for entry in entries],
                "images_bytes": [entry.images_file.bytes for entry in entries],
                "images_xxh3": [entry.images_file.xxh3 for entry in entries],
                "cameras": {
                    camera: {"offset": [place.offset for place in column], "bytes": [place.bytes for place in column]}
                    for camera, column in places.items()
                },
            }
        )

    def to_json(self) -> dict[str, Any]:
        """Inverse of the constructor."""
        return {
            "name": self.names(),
            **{column: values.tolist() for column, values in self._counts.items()},
            **{f"{file}_bytes": values.tolist() for file, values in self.file_bytes.items()},
            **{f"{file}_xxh3": [row.tobytes().hex() for row in digest] for file, digest in self._digest.items()},
            "cameras": {
                camera: {key: values.tolist() for key, values in places.items()}
                for camera, places in self._cameras.items()
            },
        }

    def __len__(self) -> int:
        return len(self._name)

    @overload
    def __getitem__(self, number: int) -> ShardEntry: ...
    @overload
    def __getitem__(self, number: slice) -> list[ShardEntry]: ...
    def __getitem__(self, number: int | slice) -> ShardEntry | list[ShardEntry]:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        number = range(len(self))[number]
        steps_file, images_file = (
            FileEntry(bytes=int(self.file_bytes[file][number]), xxh3=self._digest[file][number].tobytes().hex())
            for file in FILES
        )
        return ShardEntry(
            name=str(self._name[number]),
            episodes=int(self._counts["episodes"][number]),
            steps=int(self._counts["steps"][number]),
            steps_file=steps_file,
            images_file=images_file,
            cameras={
                camera: CameraBytes(offset=int(places["offset"][number]), bytes=int(places["bytes"][number]))
                for camera, places in self._cameras.items()
                if places["offset"][number] >= 0
            },
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShardTable) and self.to_json() == other.to_json()

    def names(self) -> list[str]:
        return self._name.tolist()

    def largest(self) -> ShardEntry | None:
        """The shard whose two files are the largest together; None where there is no shard."""
        return self[int(np.argmax(sum(self.file_bytes.values())))] if len(self) else None

    def file_entry(self, file_name: str) -> FileEntry:
        """The entry of a shard's file, "shards/<name>.steps.arrow"; KeyError for any other name."""
        name = file_name.removeprefix(f"{SHARDS_FOLDER}/").partition(".")[0]
        return self[self._number_of[name]].file_entries()[file_name]

    @cached_property
    def _number_of(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names())}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validated, serialization=core_schema.plain_serializer_function_ser_schema(cls.to_json)
        )

    @classmethod
    def _validated(cls, value: Any) -> "ShardTable":
        """A table, its columns, or a list of entries: what early manifests hold."""
        if isinstance(value, Sequence):
            return value if isinstance(value, cls) else cls.of(ShardEntry.model_validate(entry) for entry in value)
        return cls(value)


def _check_keys(where: str, found: Any, expected: Collection[str]) -> None:
    if not isinstance(found, Mapping) or set(found) != set(expected):
        listed = ", ".join(found) if isinstance(found, Mapping) else type(found).__name__
        raise ValueError(f"{where}: expected columns {', '.join(expected)}, found {listed}".removeprefix(": "))


def _texts(values: Any) -> np.ndarray:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError("name: expected a list of texts")
    return np.array(values, np.str_)


def _whole(column: str, values: Any, shards: int) -> np.ndarray:
    """int64 [S]."""
    if not isinstance(values, list) or len(values) != shards:
        raise ValueError(f"{column}: expected a list of {shards}, one per name")
    array = np.array(values) if values else np.zeros(0, np.int64)
    if array.dtype.kind != "i" or array.ndim != 1:
        raise ValueError(f"{column}: expected whole numbers")
    return array.astype(np.int64, copy=False)


def _digests(column: str, values: Any, shards: int) -> np.ndarray:
    """uint8 [S, 16] of hexadecimal texts."""
    try:
        digits = bytes.fromhex("".join(values))
    except (TypeError, ValueError):
        raise ValueError(f"{column}: expected hexadecimal texts") from None
    if len(values) != shards or len(digits) != 16 * shards:
        raise ValueError(f"{column}: expected {shards} hashes of 32 digits, one per name")
    return np.frombuffer(digits, np.uint8).reshape(shards, 16)
