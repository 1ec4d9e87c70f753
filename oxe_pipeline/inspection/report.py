"""What the sections of a page share: the stream, its spec, what was chosen to be looked at, and the options."""

from dataclasses import dataclass

from pydantic import ValidationError

from oxe_pipeline.inspection.facts import StreamFacts, stream_facts
from oxe_pipeline.inspection.selection import Selection, select
from oxe_pipeline.stream.format import Manifest
from oxe_pipeline.stream.reader import Stream
from schemas.spec import DatasetSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class InspectOptions:
    """How much a page shows."""

    episodes: int = 6
    """Film strips."""
    images: int = 18
    """Of each camera's contact sheet."""
    frames: int = 8
    """Of a film strip, per camera."""
    rows: int = 200_000
    """Steps that histograms are drawn from."""
    shards: int = 8
    """Opened at most."""
    seed: int = 0
    most_bytes: int = 8_000_000
    """Of a page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    stream: Stream
    options: InspectOptions
    selection: Selection
    facts: StreamFacts
    spec: DatasetSpec | None
    """None where the manifest holds none that this version can read."""

    @property
    def manifest(self) -> Manifest:
        return self.stream.manifest

    @property
    def looked_into(self) -> str:
        """Which part of the stream was opened, in words."""
        opened, there = len(self.selection.shards), len(self.manifest.shards)
        return "the whole stream" if opened == there else f"{opened} of its {there:,} shards"


def make_report(stream: Stream, options: InspectOptions) -> Report:
    """Chooses what to look at and gathers the facts. Deterministic."""
    selection = select(stream, seed=options.seed, shards=options.shards)
    return Report(
        stream=stream,
        options=options,
        selection=selection,
        facts=stream_facts(stream, shards=selection.shards),
        spec=applied_spec(stream.manifest),
    )


def applied_spec(manifest: Manifest) -> DatasetSpec | None:
    """The spec that a stream was made with; None where the manifest has none, or one of another version's words."""
    try:
        return DatasetSpec.model_validate(manifest.spec)
    except ValidationError:
        return None
