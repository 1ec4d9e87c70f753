"""The work of one unit of a shard job: some input files become stream shards, statistics, a language report and counts.

A unit runs in any process on any machine and holds one output shard in memory. What it did is written last, as a small
record under units/; a later run that finds the record, with the same job identity, skips the unit. The record, not the
runner, carries the results: a job's memory does not grow with the number of its units.

Runners start a unit twice when they doubt its worker, and a worker whose job was given up does not hear of it. So two
workers may be at one unit at once (they write the same bytes, each under a name of its own, and rename), and a worker
looks whether the folder is still its job's before each file it puts there.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from oxe_pipeline.episode import DataError, Episode
from oxe_pipeline.ingest.apply_spec import apply_spec
from oxe_pipeline.ingest.rlds import RldsDirectory
from oxe_pipeline.ingest.unified_rlds import unified_episode
from oxe_pipeline.language.clean import CleanedLabels
from oxe_pipeline.language.paraphrases import Paraphrases
from oxe_pipeline.language.report import LanguageReport
from oxe_pipeline.provenance import code_version
from oxe_pipeline.quality.audits import Audits, measure
from oxe_pipeline.quality.checks import check_episode
from oxe_pipeline.quality.step_flags import misplaced
from oxe_pipeline.stats.statistics import VectorStatistics
from oxe_pipeline.stream.format import MANIFEST, VECTORS, StreamError, canonical_json
from oxe_pipeline.stream.images import ImageRecipe, encode_images
from oxe_pipeline.stream.input_folder import InputFolder
from oxe_pipeline.stream.output_folder import OutputFolder
from oxe_pipeline.stream.shard_table import ShardEntry
from oxe_pipeline.stream.writer import ColumnLayout, ShardWriter
from schemas.slots import ACTION_NAMES, STATE_NAMES
from schemas.spec import DatasetSpec

UNIT_FORMAT = 2
UNITS_FOLDER = "units"
MARKER = "job.json"
"""Says whose the output folder is, from before the first unit until the manifest is there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InputFile:
    name: str
    rlds_split: str
    source_split: str
    """What the source says about the split, or "" where a hash of the episode decides."""
    episodes: int
    """As declared by dataset_info.json."""
    bytes: int
    fingerprint: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    number: int
    files: tuple[InputFile, ...]

    @property
    def record_name(self) -> str:
        return f"{UNITS_FOLDER}/{self.number:05d}.json"

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def episodes(self) -> int:
        return sum(file.episodes for file in self.files)


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What all units of a job have in common."""

    identity: str
    """Of the job; a record with another identity is not taken up."""
    code_version: str
    """Of the machine that started the job; workers must run the same."""
    rlds: str
    """The version folder; every worker must be able to read it under this path or address."""
    spec: DatasetSpec | None
    """Applied to published RLDS; None for unified RLDS, where the builder has done it."""
    layout: ColumnLayout
    images: ImageRecipe
    check_data: bool
    """Verify the checksums of the input's records."""
    shard_bytes: int
    declared_episodes: int
    """Of all units together."""
    out: OutputFolder
    paraphrases: Paraphrases | None = None
    """Further ways to say instructions, which become alternatives."""


@dataclass(kw_only=True)
class UnitRecord:
    """What one unit did. JSON on disk."""

    shards: list[ShardEntry] = field(default_factory=list)
    rows: list[list[dict]] = field(default_factory=list)
    """Per shard, the rows of ShardWriter.episode_rows, each with `content`: a hash by which a copy is known."""
    statistics: dict[str, VectorStatistics] = field(default_factory=dict)
    language: LanguageReport = field(default_factory=LanguageReport)
    audits: Audits = field(default_factory=Audits)
    quarantine: list[dict] = field(default_factory=list)
    """{episode, field, reason} of each episode that was set aside."""

    @property
    def episodes_out(self) -> int:
        return sum(map(len, self.rows))

    def to_bytes(self, identity: str) -> bytes:
        content = {
            "format": UNIT_FORMAT,
            "identity": identity,
            "shards": [shard.model_dump() for shard in self.shards],
            "rows": self.rows,
            "statistics": {vector: statistics.to_record() for vector, statistics in self.statistics.items()},
            "language": self.language.to_dict(),
            "audits": self.audits.to_dict(),
            "quarantine": self.quarantine,
        }
        return canonical_json(content).encode()


def read_unit_record(out: OutputFolder, unit: Unit, identity: str) -> UnitRecord | None:
    """The record of a finished unit of this very job, whose shards are all there; else None."""
    content = out.read(unit.record_name)
    if content is None:
        return None
    record = json.loads(content)
    if record.get("format") != UNIT_FORMAT or record.get("identity") != identity:
        return None
    shards = [ShardEntry.model_validate(shard) for shard in record["shards"]]
    for shard in shards:
        for name, entry in shard.file_entries().items():
            if out.size(name) != entry.bytes:
                return None
    return UnitRecord(
        shards=shards,
        rows=record["rows"],
        statistics={vector: VectorStatistics.from_record(state) for vector, state in record["statistics"].items()},
        language=LanguageReport.from_dict(record["language"]),
        audits=Audits.from_dict(record["audits"]),
        quarantine=record["quarantine"],
    )


def identity_at_work(out: OutputFolder) -> str:
    """Identity of the job that the output folder belongs to until it is finished; "" when there is none."""
    try:
        return json.loads(out.read(MARKER) or b"{}").get("identity", "")
    except ValueError:
        return ""


def convert_unit(unit: Unit, work: Work) -> dict:
    """Converts one unit unless its record is there already; returns counts, for the log.

    Deterministic: the same input and options give the same bytes, on any machine and at any second attempt. A bad
    episode is set aside in the record; only faults of the machine (a full disk, say) are raised, and StreamError where
    this worker runs another version of the code than the machine that started the job, or the job is given up.
    """
    if code_version() != work.code_version:
        reason = f"this worker runs version {code_version()}, the job was started by {work.code_version}"
        raise StreamError(f"{work.out}: {reason}; install the same version on both")
    if not identity_at_work(work.out) and work.out.size(MANIFEST) is not None:
        return {"unit": unit.number, "episodes": 0, "quarantined": 0, "shards": 0, "resumed": True}
    record = read_unit_record(work.out, unit, work.identity)
    resumed = record is not None
    if record is None:
        record = _convert(unit, work)
        _require_ownership(work)
        work.out.write(unit.record_name, record.to_bytes(work.identity))
    return {
        "unit": unit.number,
        "episodes": record.episodes_out,
        "quarantined": len(record.quarantine),
        "shards": len(record.shards),
        "resumed": resumed,
    }


def unit_episodes(
    directory: RldsDirectory, spec: DatasetSpec | None, unit: Unit, *, check_data: bool = False
) -> Iterator[Episode | DataError]:
    """Every declared episode of the unit's files, in order: converted, or the fault that it is set aside for, whether
    the episode or its file is bad, so that in = out + set aside."""
    for file in unit.files:
        path = directory.path / file.name
        for key, record in directory.declared_records(path, file.episodes, check_data=check_data):
            yield record if isinstance(record, DataError) else _episode(directory, spec, record, key, file.source_split)


def _episode(
    directory: RldsDirectory, spec: DatasetSpec | None, record: bytes, key: str, split: str
) -> Episode | DataError:
    try:
        source = directory.source_episode(record, key, split)
        if spec is not None:
            return apply_spec(source, spec)
        episode = unified_episode(source)
        check_episode(episode)
        return replace(episode, quality_flags=(*episode.quality_flags, *misplaced(source.steps)))
    except DataError as fault:
        return DataError(fault.reason, dataset=directory.name, episode=key, field=fault.field)


def _require_ownership(work: Work) -> None:
    if identity_at_work(work.out) != work.identity:
        raise StreamError(f"{work.out}: this worker's job is over, or another has taken the folder; nothing written")


def _convert(unit: Unit, work: Work) -> UnitRecord:
    record = UnitRecord(
        statistics={vector: VectorStatistics(names) for vector, names in slot_names(work.layout).items()}
    )
    source = InputFolder(work.rlds).opened(file.name for file in unit.files)
    with source as directory, work.out.staging() as folder:
        writer = None
        for episode in unit_episodes(directory, work.spec, unit, check_data=work.check_data):
            try:
                if isinstance(episode, DataError):
                    raise episode
                as_recorded, measured = episode, measure(episode, work.declared_episodes)
                episode = replace(encode_images(episode, work.images), quality_flags=measured.flags)
                episode, matched = _with_paraphrases(episode, work.paraphrases)
                if writer and writer.image_bytes + _vector_bytes(writer) + _bytes(episode) > work.shard_bytes:
                    _close(writer, record, work)
                    writer = None
                if writer is None:
                    name = f"{unit.number:05d}-{len(record.shards):03d}"
                    writer = ShardWriter(folder=folder, name=name, layout=work.layout)
                writer.add(episode)
            except DataError as fault:
                record.quarantine.append({"episode": fault.episode, "field": fault.field, "reason": fault.reason})
                continue
            writer.episode_rows[-1]["content"] = measured.content
            record.audits.update(as_recorded, measured)
            _count(episode, matched, work.layout, record)
        if writer and writer.steps:
            _close(writer, record, work)
    return record


def slot_names(layout: ColumnLayout) -> dict[str, list[str]]:
    """Vector -> names of its columns: slot names, or action_raw.0, action_raw.1 ... for the source's own vectors."""
    return {
        "action": [ACTION_NAMES[slot] for slot in layout.action_slots],
        "state": [STATE_NAMES[slot] for slot in layout.state_slots],
        "action_raw": [f"action_raw.{i}" for i in range(layout.action_raw_width)],
        "state_raw": [f"state_raw.{i}" for i in range(layout.state_raw_width)],
    }


def _close(writer: ShardWriter, record: UnitRecord, work: Work) -> None:
    _require_ownership(work)
    record.rows.append(writer.episode_rows)
    record.shards.append(writer.close())


def _vector_bytes(writer: ShardWriter) -> int:
    layout = writer.layout
    width = len(layout.action_slots) + len(layout.state_slots) + layout.action_raw_width + layout.state_raw_width
    return 4 * width * writer.steps


def _bytes(episode: Episode) -> int:
    vectors = sum(getattr(episode, vector).nbytes for vector in VECTORS)
    return vectors + sum(len(frame) for frames in episode.images.values() for frame in frames)


def _labels(episode: Episode) -> CleanedLabels:
    return CleanedLabels(
        instruction=episode.instruction,
        alternatives=episode.alternatives,
        raw=episode.label_raw,
        flags=episode.label_flags,
    )


def _with_paraphrases(episode: Episode, paraphrases: Paraphrases | None) -> tuple[Episode, tuple[str, ...]]:
    """The episode with the paraphrases of its instructions as alternatives, and the entries that matched."""
    if paraphrases is None:
        return episode, ()
    labels, matched = paraphrases.add_to(_labels(episode))
    return replace(episode, alternatives=labels.alternatives, label_flags=labels.flags), matched


def _count(episode: Episode, matched: tuple[str, ...], layout: ColumnLayout, record: UnitRecord) -> None:
    """Adds an episode to the statistics (train alone: what is held out must not show in them) and to the report, there
    with the paraphrase entries that `matched` it."""
    if episode.split == "train":
        record.statistics["action"].update(episode.action[:, layout.action_slots])
        record.statistics["state"].update(episode.state[:, layout.state_slots])
        record.statistics["action_raw"].update(episode.action_raw)
        record.statistics["state_raw"].update(episode.state_raw)
    record.language.update(_labels(episode), matched)
