"""Reads an RLDS directory, as TFDS writes it, without TensorFlow: episodes with their images still encoded.

Straight from features.json with protobuf and numpy; many times faster than going through TFDS (`python -m
benchmarks.reader` measures both in one run). The price: no tf.data graph, and only the feature classes that robot data
uses. A split whose files are absent is reported, not fatal: partial copies are common.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from oxe_pipeline.episode import DataError, Episode, SourceEpisode
from oxe_pipeline.ingest.example_proto import ExampleError, parse_example
from oxe_pipeline.ingest.features_json import Features, RldsError, read_features, read_json
from oxe_pipeline.ingest.leaf_values import leaf_value
from oxe_pipeline.ingest.raw_folder import inside
from oxe_pipeline.ingest.record_files import read_records
from oxe_pipeline.ingest.unified_rlds import is_unified, unified_episode

INFO = "dataset_info.json"
FEATURES = "features.json"
METADATA = "metadata.json"
FILE_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
MAX_EPISODES_A_FILE = 1 << 20
FILE_FORMATS = ("tfrecord", "array_record", "parquet")


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitFiles:
    """The shard files of one split, in order."""

    files: list[Path]
    """Those that are present."""
    lengths: dict[str, int]
    """File name to the number of episodes that dataset_info.json declares; absent files included."""
    missing: list[str]
    """Names of declared files that are not there."""

    @property
    def num_examples(self) -> int:
        """Episodes declared for the files that are present."""
        return sum(self.lengths[file.name] for file in self.files)


class RldsDirectory:
    """One version of one TFDS data set on disk.

    `path` is the version folder (the one with dataset_info.json), or a folder above it with one data set and version in
    it. Raises RldsError for anything else, for a file format that TFDS has but this reader has not, and for no `steps`.
    """

    def __init__(self, path: str | Path):
        self.path = find_version_folder(path)
        self._info = _mapping(self.path / INFO)
        self.name: str = self._info.get("name", "")
        self.config: str = self._info.get("configName", "")
        self.version: str = self._info.get("version", "")
        self.features: Features = read_features(self.path / FEATURES)
        try:
            self.splits: dict[str, SplitFiles] = {
                split["name"]: self._split_files(split) for split in self._info.get("splits", [])
            }
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise RldsError(f"{self.path / INFO}: not as TFDS writes it ({reason}); copy the file again") from None

    @cached_property
    def metadata(self) -> dict:
        """metadata.json: what the builder left beside the data; {} where there is none."""
        path = self.path / METADATA
        return _mapping(path) if path.is_file() else {}

    @property
    def is_unified(self) -> bool:
        """Whether the data are in this pipeline's unified layout (schemas/rlds.py)."""
        return is_unified(self.features)

    def _split_files(self, split: dict) -> SplitFiles:
        try:
            lengths = [int(length) for length in split.get("shardLengths", [])]
        except (ValueError, OverflowError) as error:
            raise RldsError(f"{self.path / INFO}: shardLengths: {error}; copy the file again") from None
        if any(not 0 <= length <= MAX_EPISODES_A_FILE for length in lengths):
            raise RldsError(
                f"{self.path / INFO}: shardLengths are from 0 to {MAX_EPISODES_A_FILE}; copy the file again"
            )
        suffix = self._info.get("fileFormat") or "tfrecord"
        if suffix not in FILE_FORMATS:
            raise RldsError(
                f"{self.path / INFO}: file format {suffix!r} is not read; there are {', '.join(FILE_FORMATS)}"
            )
        template = split.get("filepathTemplate") or FILE_TEMPLATE
        names = [_shard_name(template, self.name, split["name"], suffix, i, len(lengths)) for i in range(len(lengths))]
        try:
            files = [inside(self.path, self.path / name, self.name) for name in names]
        except DataError as error:
            raise RldsError(f"{self.path / INFO}: split {split['name']!r}: {error.field}: {error.reason}") from None
        return SplitFiles(
            files=[file for file in files if file.is_file()],
            lengths=dict(zip(names, lengths, strict=True)),
            missing=[file.name for file in files if not file.is_file()],
        )

    def read_source(self, file: str | Path, split: str = "") -> Iterator[SourceEpisode]:
        """Every episode of one shard file, in the source's own keys and conventions.

        Step keys are flat ("observation/image_0"): numbers as arrays [T, ...] (read-only where no copy was needed),
        text and images as lists of T bytes. Episode-level values are in `metadata` under their flat key. Raises
        DataError at the first record that cannot be read; to go on after a bad one, use `records` and `source_episode`.
        """
        for number, record in enumerate(self.records(file)):
            yield self.source_episode(record, episode_key(file, number), split)

    def read_unified(self, file: str | Path) -> Iterator[Episode]:
        """Every episode of one shard file of a unified data set; raises like `read_source`."""
        for source in self.read_source(file):
            yield unified_episode(source)

    def records(self, file: str | Path, *, check_data: bool = False) -> Iterator[bytes]:
        """The serialised episodes of one shard file; see record_files.read_records."""
        return read_records(file, check_data=check_data)

    def declared_records(
        self, file: str | Path, episodes: int, *, check_data: bool = False
    ) -> Iterator[tuple[str, bytes | DataError]]:
        """(episode_key, record) of the `episodes` that dataset_info.json declares for a shard file, and of any beyond.

        What a file that is cut short or damaged no longer holds comes as a DataError, one an episode, so that whoever
        counts what came in and what was set aside loses none.
        """
        file = Path(file)
        number, lost = -1, "the file ends before the episodes that dataset_info.json declares"
        try:
            for number, record in enumerate(self.records(file, check_data=check_data)):
                yield episode_key(file, number), record
        except DataError as fault:
            lost = fault.reason.replace(str(file), file.name)
            episodes = max(episodes, number + 2)
        for absent in range(number + 1, episodes):
            key = episode_key(file, absent)
            yield key, DataError(lost, dataset=self.name, episode=key, field="record")

    def source_episode(self, record: bytes, key: str, split: str = "") -> SourceEpisode:
        """One serialised episode. DataError, naming the field, when it does not hold what features.json declares."""
        try:
            values = parse_example(record)
            steps = {name: leaf_value(leaf, values) for name, leaf in self._step_leaves.items()}
            metadata = {name: leaf_value(leaf, values) for name, leaf in self._episode_leaves.items()}
        except ExampleError as error:
            raise DataError(str(error), dataset=self.name, episode=key, field="record") from None
        lengths = {name: len(column) for name, column in steps.items()}
        if len(set(lengths.values())) > 1:
            first = next(iter(lengths))
            other = next(name for name in lengths if lengths[name] != lengths[first])
            reason = f"{lengths[other]} steps, but {first} has {lengths[first]}"
            raise DataError(reason, dataset=self.name, episode=key, field=other)
        return SourceEpisode(key=key, source_path=key, steps=steps, metadata=metadata, split=split)

    @cached_property
    def _step_leaves(self):
        return self.features.step_leaves()

    @cached_property
    def _episode_leaves(self):
        return self.features.episode_leaves()


def episode_key(file: str | Path, number: int) -> str:
    """How an episode of an RLDS directory is named: shard file and position in it; free of machine and folder."""
    return f"{Path(file).name}#{number}"


def find_version_folder(path: str | Path) -> Path:
    """The one folder with dataset_info.json at or below `path` (data_dir/name[/config]/version)."""
    path = Path(path)
    if not path.is_dir():
        raise RldsError(f"{path}: no such folder; give the folder that `tfds build` wrote")
    if (path / INFO).is_file():
        return path
    found = {info.parent for depth in ("*", "*/*", "*/*/*") for info in path.glob(f"{depth}/{INFO}")}
    below = sorted(folder for folder in found if folder.resolve().is_relative_to(path.resolve()))
    if not below:
        raise RldsError(f"{path}: no {INFO} in it or below it; give the folder that `tfds build` wrote")
    if len(below) > 1:
        raise RldsError(
            f"{path}: holds {len(below)} data sets ({', '.join(map(str, below[:4]))} ...); name one of them"
        )
    return below[0]


def _shard_name(template: str, dataset: str, split: str, suffix: str, shard: int, shards: int) -> str:
    """The file's name by TFDS's template. Not str.format, whose templates can look into objects and ask for gigabytes
    of padding."""
    words = {
        "DATASET": dataset,
        "SPLIT": split,
        "FILEFORMAT": suffix,
        "SHARD_INDEX": f"{shard:05d}",
        "NUM_SHARDS": f"{shards:05d}",
        "SHARD_X_OF_Y": f"{shard:05d}-of-{shards:05d}",
    }
    return re.sub(r"\{(\w*)\}", lambda word: words[word[1]], template)


def _mapping(path: Path) -> dict:
    content = read_json(path)
    if not isinstance(content, dict):
        raise RldsError(f"{path}: holds no mapping; copy the file again")
    return content
