"""What a shard job is going to do, decided before it starts: units of work, column layout, and the job's identity.

A plan is a pure function of the input directory and the options. Runner, number of workers and addresses are no part of
it, so any machine comes to the same shards under the same names.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import xxhash

from oxe_pipeline.episode import DataError, Episode
from oxe_pipeline.ingest.rlds import RldsDirectory
from oxe_pipeline.language.paraphrases import Paraphrases
from oxe_pipeline.provenance import code_version
from oxe_pipeline.stream.convert import UNIT_FORMAT, InputFile, Unit, Work, unit_episodes
from oxe_pipeline.stream.format import StreamError, canonical_json
from oxe_pipeline.stream.images import KEEP_IMAGES, ImageRecipe
from oxe_pipeline.stream.input_folder import InputFolder
from oxe_pipeline.stream.output_folder import OutputFolder
from oxe_pipeline.stream.writer import ColumnLayout
from schemas.dataset_spec import DatasetSpec
from schemas.spec import SpecError, load_spec, load_spec_file, published_spec
from schemas.spec_parts import nearest

FINGERPRINT_BYTES = 1 << 16
"""Read from each end of an input file to tell it from another of the same name and size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardOptions:
    """The options that change what is written."""

    images: ImageRecipe = KEEP_IMAGES
    shard_mb: int = 256
    """Shards are closed before they would grow beyond this many 10^6 bytes; a longer episode makes a larger one."""
    splits: tuple[str, ...] = ()
    """Splits of the input directory to read; () means all that are present."""
    paraphrases: Paraphrases | None = None
    """Further ways to say instructions, from --paraphrases."""
    check_data: bool = False
    """Verify the checksum of every TFRecord; no part of the job's identity, since it changes nothing in sound data."""

    def record(self) -> dict:
        return {
            "images": str(self.images),
            "shard_mb": self.shard_mb,
            "splits": list(self.splits),
            "paraphrases": self.paraphrases.record() if self.paraphrases else None,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Everything a job needs to know; `work` is what a worker needs."""

    work: Work
    units: tuple[Unit, ...]
    dataset: str
    lab: str
    robot: str
    control_hz: float
    spec: dict
    source: dict
    options: dict
    missing: dict[str, list[str]]
    """Split to the names of its declared files that are not there."""
    step_keys: tuple[str, ...]
    """Flat keys of a step in the input."""
    builder_quarantine: tuple[dict, ...]
    """Episodes that the builder of the input set aside: {split, episode, field, reason}."""

    @property
    def input_bytes(self) -> int:
        return sum(unit.bytes for unit in self.units)


def job_identity(*, spec: dict, source: dict, options: dict, code: str) -> str:
    """32 hexadecimal digits: equal when a job would write the same bytes."""
    content = {"format": UNIT_FORMAT, "spec": spec, "source": source, "options": options, "code": code}
    return xxhash.xxh3_128_hexdigest(canonical_json(content).encode())


def make_plan(rlds: str | Path, out: OutputFolder, options: ShardOptions, spec: str = "") -> Plan:
    """Looks at an RLDS directory, unified or published, on a disk or behind an fsspec address, and lays out the job.

    `spec` is needed for a published data set whose name has no spec of its own: the name of a shipped one or a YAML
    file. Raises RldsError, SpecError or StreamError, in one line each, for an input that cannot be converted.
    """
    if options.shard_mb < 1:
        raise StreamError(f"--shard_mb {options.shard_mb}: must be at least 1")
    source = InputFolder(rlds)
    with source.outline(FINGERPRINT_BYTES) as directory:
        return _plan(source, directory, out, options, spec)


def _plan(source: InputFolder, directory: RldsDirectory, out: OutputFolder, options: ShardOptions, spec: str) -> Plan:
    applied = None if directory.is_unified else _published_spec(directory, source.address, spec)
    files = _input_files(directory, options, applied)
    units = _group(files, options.shard_mb * 1_000_000)
    record = _source_record(directory, files)
    first = _first_episode(source, applied, files)
    said = _spec_record(applied, directory, first.dataset)
    work = Work(
        identity=job_identity(spec=said, source=record, options=options.record(), code=code_version()),
        code_version=code_version(),
        rlds=source.address,
        spec=applied,
        layout=ColumnLayout.of(first),
        images=options.images,
        check_data=options.check_data,
        shard_bytes=options.shard_mb * 1_000_000,
        declared_episodes=sum(file.episodes for file in files),
        out=out,
        paraphrases=options.paraphrases,
    )
    chosen = {file.rlds_split for file in files}
    return Plan(
        work=work,
        units=units,
        dataset=first.dataset,
        lab=first.lab,
        robot=first.robot,
        control_hz=first.control_hz,
        spec=said,
        source=record,
        options=options.record(),
        missing={name: split.missing for name, split in directory.splits.items() if split.missing},
        step_keys=tuple(sorted(directory.features.step_leaves())),
        builder_quarantine=tuple(q for q in directory.metadata.get("quarantined", []) if q.get("split") in chosen),
    )


def _published_spec(directory: RldsDirectory, address: str, spec: str) -> DatasetSpec:
    """The spec that is asked for, else the one for the data set's name, or for the folders <name>/<version>."""
    if spec.endswith((".yaml", ".yml")):
        return load_spec_file(spec)
    folder, version = PurePosixPath(address).parts[-2:]
    try:
        return published_spec(spec) if spec else published_spec(directory.name, folder, version)
    except SpecError as error:
        remedy = "" if spec else "; or say which with --spec"
        raise SpecError(f"{directory.path} is not unified RLDS, so it needs a spec: {error}{remedy}") from None


def _spec_record(applied: DatasetSpec | None, directory: RldsDirectory, dataset: str) -> dict:
    """The spec as it was applied: by this job, or by the builder, which left it in metadata.json."""
    if applied is None and "spec" in directory.metadata:
        return directory.metadata["spec"]
    try:
        spec = applied or load_spec(dataset)
    except SpecError:
        return {}
    return spec.model_dump(mode="json", exclude_defaults=True, by_alias=True)


def _input_files(directory: RldsDirectory, options: ShardOptions, spec: DatasetSpec | None) -> list[InputFile]:
    """Present files of the chosen splits, in order of split name and file number."""
    for name in options.splits:
        if name not in directory.splits:
            raise StreamError(f"--split {name}: no such split in {directory.path}{nearest(name, directory.splits)}")
    present = sorted(name for name, split in directory.splits.items() if split.files)
    chosen = [name for name in present if not options.splits or name in options.splits]
    if not chosen:
        wanted = ", ".join(options.splits) or "any split"
        raise StreamError(f"{directory.path}: no file of {wanted} is there; copy the data set again")
    # A published data set that has only `train` holds nothing out; then the hash of the episode decides.
    ours = spec.split.names if spec else {}
    from_source = any(ours.get(name, name) != "train" for name in present)
    files = []
    for name in chosen:
        split = directory.splits[name]
        for path in split.files:
            size = path.stat().st_size
            files.append(
                InputFile(
                    name=path.name,
                    rlds_split=name,
                    source_split=name if from_source else "",
                    episodes=split.lengths[path.name],
                    bytes=size,
                    fingerprint=_fingerprint(path, size),
                )
            )
    return files


def _fingerprint(path: Path, size: int) -> str:
    with open(path, "rb") as file:
        digest = xxhash.xxh3_64(file.read(FINGERPRINT_BYTES))
        file.seek(max(0, size - FINGERPRINT_BYTES))
        digest.update(file.read(FINGERPRINT_BYTES))
    return digest.hexdigest()


def _group(files: list[InputFile], unit_bytes: int) -> tuple[Unit, ...]:
    """Neighbouring files of one split until they reach the size of a shard; a larger file is a unit by itself."""
    groups: list[list[InputFile]] = []
    for file in files:
        fits = groups and groups[-1][0].rlds_split == file.rlds_split
        if fits and sum(f.bytes for f in groups[-1]) + file.bytes <= unit_bytes:
            groups[-1].append(file)
        else:
            groups.append([file])
    return tuple(Unit(number=number, files=tuple(group)) for number, group in enumerate(groups))


def _source_record(directory: RldsDirectory, files: list[InputFile]) -> dict:
    splits: dict[str, int] = {}
    for file in files:
        splits[file.rlds_split] = splits.get(file.rlds_split, 0) + file.episodes
    listing = [[file.name, file.bytes, file.episodes, file.fingerprint] for file in files]
    return {
        "name": directory.name,
        "config": directory.config,
        "version": directory.version,
        "splits": splits,
        "files_hash": xxhash.xxh3_128_hexdigest(canonical_json(listing).encode()),
    }


def _first_episode(source: InputFolder, spec: DatasetSpec | None, files: list[InputFile]) -> Episode:
    """The first good episode: it says what the columns hold, for all shards alike."""
    first_fault: DataError | None = None
    for file in files:
        with source.opened([file.name]) as directory:
            for episode in unit_episodes(directory, spec, Unit(number=0, files=(file,))):
                if isinstance(episode, Episode):
                    return episode
                first_fault = first_fault or episode
    raise StreamError(f"{source.address}: no episode can be converted; the first fault: {first_fault}")
