"""The head of a page: what the data set is, its figures at one glance, and the line that says how the audits went."""

from urllib.parse import urlsplit

from oxe_pipeline.inspection.audit_section import verdict_counts, verdict_summary
from oxe_pipeline.inspection.markup import Markup, definitions, foreign, joined, megabytes, tag
from oxe_pipeline.inspection.report import Report
from schemas.spec import DatasetSpec


def header(report: Report) -> Markup:
    """Title, identity, figures, counts and verdicts."""
    manifest, spec = report.manifest, report.spec
    return tag(
        "header",
        tag("p", "Stream report", class_="eyebrow"),
        tag("h1", foreign(spec.title if spec else manifest.dataset)),
        tag("p", _who(report), class_="who"),
        definitions(_figures(report), class_="figures"),
        tag("p", _balance(report), class_="balance"),
        verdict_summary(verdict_counts(manifest)),
    )


def provenance(report: Report) -> Markup:
    """Everything needed to say which stream this page is about, and to make it again."""
    manifest, spec = report.manifest, report.spec
    source = manifest.source
    of = "/".join(str(source[key]) for key in ("name", "config", "version") if source.get(key))
    options = ", ".join(f"{key} {_said(value)}" for key, value in sorted(manifest.options.items()) if value)
    return definitions(
        [
            ("Stream identity", tag("code", manifest.identity())),
            ("Spec", tag("code", f"{spec.name} {spec.content_hash()}") if spec else "none that this version reads"),
            ("Code version", tag("code", manifest.code_version)),
            ("Source", foreign(of) if of else None),
            ("Source files", tag("code", foreign(str(source["files_hash"]))) if source.get("files_hash") else None),
            ("Job options", foreign(options)),
            ("Citation", foreign(spec.citation) if spec and spec.citation else None),
            ("Homepage", _link(spec.homepage) if spec and spec.homepage else None),
        ],
        class_="pairs",
    )


def _who(report: Report) -> Markup:
    manifest, spec = report.manifest, report.spec
    words = [manifest.dataset, manifest.lab, manifest.robot, f"{manifest.control_hz:g} Hz"]
    words += [spec.licence] if spec else []
    dot = tag("span", " · ", class_="dot")
    return joined([(dot if i else None, foreign(word)) for i, word in enumerate(word for word in words if word)])


def _figures(report: Report) -> list[tuple[str, Markup | str]]:
    manifest, facts = report.manifest, report.facts
    counts = manifest.counts
    size = sum(manifest.file_sizes()[1])
    return [
        ("episodes", f"{counts.episodes_out:,}"),
        ("steps", f"{counts.steps_out:,}"),
        ("recorded", _duration(facts.lengths.duration_s if facts.lengths else 0.0)),
        ("cameras", str(len(manifest.cameras))),
        ("instructions", f"{facts.num_instructions:,}"),
        ("quarantined", f"{counts.episodes_in - counts.episodes_out:,}"),
        ("size on disk", megabytes(size)),
    ]


def _balance(report: Report) -> str:
    """in = out + quarantined, the splits, and what the source says there should be."""
    counts = report.manifest.counts
    bad = counts.episodes_in - counts.episodes_out
    splits = ", ".join(
        f"{split} {episodes:,} ({counts.split_steps.get(split, 0):,} steps)"
        for split, episodes in sorted(counts.split_episodes.items())
    )
    text = f"{counts.episodes_in:,} episodes in = {counts.episodes_out:,} out + {bad:,} quarantined. Splits: {splits}."
    return f"{text} {_declared(report.spec)}" if report.spec else text


def _declared(spec: DatasetSpec) -> str:
    if not spec.expected_episodes:
        return "The source declares no number of episodes."
    listed = ", ".join(f"{split} {episodes:,}" for split, episodes in sorted(spec.expected_episodes.items()))
    return f"Declared by the source: {listed}."


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"


def _said(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _link(address: str) -> Markup:
    """A link for a web address alone: `javascript:` and the like stay text."""
    if urlsplit(address).scheme not in ("https", "http"):
        return foreign(address)
    return tag("a", foreign(address), href=address, rel="noreferrer")
