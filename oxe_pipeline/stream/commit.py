"""From the units' records to the manifest: the last step of a shard job, and the one that makes its output a stream.

Records are read one after the other in the order of the units, so the manifest is the same for any runner, number of
workers and order of completion.
"""

from collections import Counter
from dataclasses import dataclass, field

from oxe_pipeline.language.report import LanguageReport
from oxe_pipeline.quality.audits import Audits
from oxe_pipeline.quality.counts import DUPLICATE_FLAG, duplicates
from oxe_pipeline.stats.statistics import VectorStatistics
from oxe_pipeline.stream.claim import remove_job_files
from oxe_pipeline.stream.convert import read_unit_record, slot_names
from oxe_pipeline.stream.finish import write_tables
from oxe_pipeline.stream.format import MANIFEST, Counts, Manifest, Quarantined, StreamError, write_manifest
from oxe_pipeline.stream.output_folder import OutputFolder
from oxe_pipeline.stream.plan import Plan
from oxe_pipeline.stream.shard_table import ShardEntry, ShardTable
from oxe_pipeline.stream.verdicts import Strictness, judge_units, refuse_verdicts
from schemas.slots import CAMERAS


class TooManyBad(StreamError):
    """More episodes had to be set aside than --max-bad-ratio allows; nothing was committed."""


@dataclass(kw_only=True)
class MergedUnits:
    """All units of a job together."""

    shards: list[ShardEntry] = field(default_factory=list)
    rows: list[dict] = field(default_factory=list)
    statistics: dict[str, VectorStatistics]
    language: LanguageReport
    audits: Audits = field(default_factory=Audits)
    duplicates: list[str] = field(default_factory=list)
    """Ids of episodes that are copies of one before them; their rows carry the flag."""
    quarantine: list[Quarantined]

    def summaries(self) -> dict[str, dict[str, dict[str, float]]]:
        """Statistics as the manifest holds them."""
        return {vector: statistics.summary() for vector, statistics in self.statistics.items()}

    def counts(self) -> Counts:
        episodes, steps = Counter[str](), Counter[str]()
        for row in self.rows:
            episodes[row["split"]] += 1
            steps[row["split"]] += row["length"]
        return Counts(
            episodes_in=len(self.rows) + len(self.quarantine),
            episodes_out=len(self.rows),
            steps_out=sum(steps.values()),
            split_episodes=dict(sorted(episodes.items())),
            split_steps=dict(sorted(steps.items())),
        )


def merge_units(plan: Plan, out: OutputFolder, max_bad_ratio: float) -> MergedUnits:
    """Reads and merges the records of all units. Raises StreamError where one is absent, where episodes are lost,
    and TooManyBad when the share of bad episodes is above the ratio (a single bad one never stops a job, unless
    the ratio is 0)."""
    merged = MergedUnits(
        statistics={vector: VectorStatistics(names) for vector, names in slot_names(plan.work.layout).items()},
        language=LanguageReport(
            plan.dataset, paraphrases=plan.work.paraphrases.entries if plan.work.paraphrases else ()
        ),
        quarantine=[
            Quarantined(episode=q["episode"], field=q["field"], reason=q["reason"]) for q in plan.builder_quarantine
        ],
    )
    for unit in plan.units:
        record = read_unit_record(out, unit, plan.work.identity)
        if record is None:
            raise StreamError(f"{out}: unit {unit.number} is not finished; run the job again, it goes on from there")
        if (found := record.episodes_out + len(record.quarantine)) < unit.episodes:
            raise StreamError(f"{out}: unit {unit.number}: {unit.episodes} episodes in, but {found} accounted for")
        for entry, rows in zip(record.shards, record.rows, strict=True):
            merged.rows += [{**row, "shard": len(merged.shards)} for row in rows]
            merged.shards.append(entry)
        for vector, statistics in record.statistics.items():
            merged.statistics[vector].merge(statistics)
        merged.language.merge(record.language)
        merged.audits.merge(record.audits)
        merged.quarantine += [Quarantined(**fault) for fault in record.quarantine]
    _stop_if_too_many_bad(plan, merged, max_bad_ratio)
    _flag_duplicates(merged)
    return merged


def _flag_duplicates(merged: MergedUnits) -> None:
    """Copies are only known when all units are together."""
    for position in duplicates([(row["episode_id"], row.pop("content")) for row in merged.rows]):
        row = merged.rows[position]
        row["quality_flags"] = sorted({*row["quality_flags"], DUPLICATE_FLAG})
        merged.duplicates.append(row["episode_id"])


def _stop_if_too_many_bad(plan: Plan, merged: MergedUnits, max_bad_ratio: float) -> None:
    bad, total = len(merged.quarantine), len(merged.quarantine) + len(merged.rows)
    if bad > max_bad_ratio * total and (bad > 1 or max_bad_ratio == 0 or not merged.rows):
        kinds = Counter(fault.field for fault in merged.quarantine).most_common(3)
        first = merged.quarantine[0]
        raise TooManyBad(
            f"{plan.dataset}: {bad} of {total} episodes are bad, more than --max-bad-ratio {max_bad_ratio:g} "
            f"({', '.join(f'{count} in {name}' for name, count in kinds)}); first: {first.episode}: {first.field}: "
            f"{first.reason}; put the data or the spec right, or raise the ratio: finished units are kept"
        )


def audited_units(
    plan: Plan, out: OutputFolder, max_bad_ratio: float, strict: Strictness = ""
) -> tuple[MergedUnits, list[dict]]:
    """All units merged, and what the audits find in them, for the manifest. Raises like `merge_units`, and AuditFailed
    for a verdict that `strict` does not let pass."""
    merged = merge_units(plan, out, max_bad_ratio)
    found = judge_units(plan, merged.audits, merged.summaries(), merged.quarantine, len(merged.rows), merged.duplicates)
    refuse_verdicts(found, strict, str(out))
    return merged, found


def commit_stream(plan: Plan, out: OutputFolder, max_bad_ratio: float, strict: Strictness = "") -> Manifest:
    """Merges the units, writes the tables, then the manifest, then removes what only the job needed.

    Raises like `audited_units`; until the manifest is there no reader accepts the folder.
    """
    merged, audits = audited_units(plan, out, max_bad_ratio, strict)
    with out.staging() as folder:
        files = write_tables(folder, merged.rows, merged.statistics)
    layout = plan.work.layout
    manifest = Manifest(
        dataset=plan.dataset,
        code_version=plan.work.code_version,
        spec=plan.spec,
        source=plan.source,
        options=plan.options,
        lab=plan.lab,
        robot=plan.robot,
        control_hz=plan.control_hz,
        action_slots=list(layout.action_slots),
        state_slots=list(layout.state_slots),
        action_raw_width=layout.action_raw_width,
        state_raw_width=layout.state_raw_width,
        cameras=_camera_episodes(merged.rows),
        counts=merged.counts(),
        quarantine=merged.quarantine,
        statistics=merged.summaries(),
        language=merged.language.to_dict(),
        audits=audits,
        files=files,
        shards=ShardTable.of(merged.shards),
    )
    with out.staging() as folder:
        write_manifest(folder, manifest)
    remove_job_files(out, keep={MANIFEST, *manifest.all_files()})
    return manifest


def _camera_episodes(rows: list[dict]) -> dict[str, int]:
    counted = {camera: sum(row["cameras"] >> bit & 1 for row in rows) for bit, camera in enumerate(CAMERAS)}
    return {camera: episodes for camera, episodes in counted.items() if episodes}
