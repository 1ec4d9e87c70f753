"""From what the units kept to the audits of the manifest, and what --strict makes of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import ValidationError

from oxe_pipeline.quality.audits import Audits
from oxe_pipeline.quality.counts import Source, judge_counts, judge_duplicates, judge_not_finite
from oxe_pipeline.quality.declared import Declared
from oxe_pipeline.quality.finding import counted
from oxe_pipeline.stream.format import Quarantined, StreamError
from oxe_pipeline.stream.plan import Plan
from schemas.spec import DatasetSpec

Strictness = Literal["", "fault", "suspect"]
"""What stops a job: "" nothing that an audit finds, "fault" a fault, "suspect" a fault or anything suspect."""
MAX_SHOWN = 4
"""Refused verdicts that the error names in full."""


class AuditFailed(StreamError):
    """An audit came to a verdict that --strict does not let pass; nothing was committed."""


def judge_units(
    plan: Plan,
    audits: Audits,
    statistics: Mapping[str, Mapping[str, Mapping[str, float]]],
    quarantine: Sequence[Quarantined],
    episodes_out: int,
    copies: Sequence[str],
) -> list[dict]:
    """Finding.to_dict of every audit over all units, sorted by audit and subject. Pure.

    `statistics`: summaries as in the manifest. `copies`: ids of the episodes that are there already.
    """
    spec = _spec(plan.spec)
    episodes_in = episodes_out + len(quarantine)
    source = Source(
        found=episodes_in,
        set_aside_by_builder=len(plan.builder_quarantine),
        declared=sum(plan.source["splits"].values()),
        missing_files=sum(map(len, plan.missing.values())),
        expected=spec.expected_episodes if spec else {},
        splits=tuple(plan.options["splits"]),
    )
    found = [
        *audits.judge(Declared(control_hz=plan.control_hz, spec=spec, statistics=statistics), plan.step_keys),
        judge_not_finite([fault.reason for fault in quarantine], episodes_in),
        judge_duplicates(len(copies), episodes_out, copies[0] if copies else ""),
        *judge_counts(source, Counter(fault.field for fault in quarantine)),
    ]
    return [finding.to_dict() for finding in sorted(found, key=lambda f: (f.audit, f.subject))]


def _spec(content: dict) -> DatasetSpec | None:
    """None without a spec, and for one that another version of this package wrote and this one cannot read."""
    try:
        return DatasetSpec.model_validate(content) if content else None
    except ValidationError:
        return None


def refuse_verdicts(audits: Sequence[dict], strict: Strictness, where: str, *, is_committed: bool = False) -> None:
    """Raises AuditFailed, in one line, for the verdicts that `strict` does not let pass. `is_committed`: they are those
    of a stream that is there already."""
    refused = {"": (), "fault": ("fault",), "suspect": ("fault", "suspect")}[strict]
    bad = [audit for audit in audits if audit["verdict"] in refused]
    if not bad:
        return
    told = [
        f"[{number}] {bad_one['verdict']} {bad_one['audit']} of {bad_one['subject']}: {bad_one['evidence']} "
        f"{bad_one['remedy']}"
        for number, bad_one in enumerate(bad[:MAX_SHOWN], start=1)
    ]
    more = f" And {len(bad) - MAX_SHOWN} more." if len(bad) > MAX_SHOWN else ""
    ending = (
        "The stream stays as it is"
        if is_committed
        else "Nothing is committed: put the data or the spec right, or run without --strict; the stream then carries "
        "the verdicts"
    )
    raise AuditFailed(f"{where}: --strict refuses {counted(len(bad), 'verdict')}: {' '.join(told)}{more} {ending}")


def verdict_lines(audits: Sequence[dict]) -> list[str]:
    """What the job prints at its end: the totals, a line with its remedy for each fault, then each suspect, and what is
    unknown; nothing for a stream made without audits."""
    if not audits:
        return []
    totals = Counter(audit["verdict"] for audit in audits)
    shown = [a for verdict in ("fault", "suspect") for a in audits if a["verdict"] == verdict]
    together = ", ".join(f"{totals[verdict]} {verdict}" for verdict in ("ok", "suspect", "fault", "unknown"))
    lines = [f"audits      {together}"]
    lines += [
        f"{a['verdict']:<11} {a['audit']} of {a['subject']}: {a['evidence']} {a['remedy']}".rstrip() for a in shown
    ]
    if totals["unknown"]:
        unknown = (f"{audit['audit']} of {audit['subject']}" for audit in audits if audit["verdict"] == "unknown")
        lines.append(f"unknown     {', '.join(unknown)}")
    return lines
