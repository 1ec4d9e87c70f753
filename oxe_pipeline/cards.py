"""Data cards: what a data set is (from its spec) and what was found in it (from its stream), in Markdown.

A card is a pure function of the two, with no date and no path, so that a test can tell whether a committed card is
current.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from oxe_pipeline.inspection.facts import StreamFacts
from oxe_pipeline.stream.format import Manifest, write_whole
from schemas.dataset_spec import DatasetSpec
from schemas.slots import ACTION_NAMES, STATE_NAMES
from schemas.spec import load_spec, variant_names
from schemas.spec_parts import Channel, slot_indices

MAX_QUARANTINE_ROWS = 20
MEASURED = ("mean", "std", "min", "q01", "q99", "max")
"""Of each slot, over the train split."""
VERDICTS = ("fault", "suspect", "unknown", "ok")
"""In the order in which the audit table lists them."""


def render_card(spec: DatasetSpec, manifest: Manifest | None, facts: StreamFacts | None = None) -> str:
    """The card's text. Without a manifest it says that nothing was measured, and shows what the spec declares; `facts`
    of the same stream add image sizes, episode lengths and the most frequent instructions."""
    parts = [f"# {spec.title}", _identity(spec), _cameras(spec, manifest, facts)]
    parts += [_slots("Action", spec.action, manifest, "action"), _slots("State", spec.state, manifest, "state")]
    if manifest:
        parts += [
            _counts(spec, manifest),
            _audits(manifest),
            _lengths(facts),
            _language(manifest),
            _instructions(facts),
            _quarantine(manifest),
        ]
    else:
        parts.append(f"## Found\n\nNothing measured: no stream of this data set was at hand. {_expected(spec)}")
    parts += [_list("Choices and their reasons", spec.notes), _variants(spec), _list("Known faults", spec.known_faults)]
    return "\n\n".join(part for part in parts if part) + "\n"


def write_cards(folder: Path, cards: dict[str, str]) -> list[Path]:
    """Writes <name>.md for each card; returns the paths in the order given."""
    paths = []
    for name, text in cards.items():
        path = folder / f"{name}.md"
        write_whole(path, text.encode())
        paths.append(path)
    return paths


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    head = list(head)
    lines = [head, ["--"] * len(head), *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _identity(spec: DatasetSpec) -> str:
    rows = [
        ("name", f"`{spec.name}`"),
        ("lab", spec.lab),
        ("robot", f"{spec.robot}, {spec.arms} arm{'s' if spec.arms > 1 else ''}"),
        ("control rate", f"{spec.control_hz:g} Hz"),
        ("licence", spec.licence),
        ("citation", spec.citation),
        ("homepage", spec.homepage),
    ]
    return _table(("", ""), [row for row in rows if row[1]])


def _cameras(spec: DatasetSpec, manifest: Manifest | None, facts: StreamFacts | None) -> str:
    if not spec.cameras:
        return "## Cameras\n\nNone."
    found = {name: str(manifest.cameras.get(name, 0)) if manifest else "not measured" for name in spec.cameras}
    rows = [
        [name, f"`{camera.source}`", camera.colour, camera.flip, found[name]] for name, camera in spec.cameras.items()
    ]
    head = ["camera", "source", "stored as", "turned by", "episodes with it"]
    if facts:
        images = {c.camera: [", ".join(c.sizes), f"{c.bytes_per_image / 1e3:.1f} kB"] for c in facts.cameras}
        head += ["images", "mean image"]
        rows = [row + images.get(row[0], ["none", ""]) for row in rows]
    return "## Cameras\n\n" + _table(head, rows)


def _slots(title: str, channels: list[Channel], manifest: Manifest | None, vector: Literal["action", "state"]) -> str:
    """One row a slot with what was measured; without a manifest one row a channel, since there is nothing to add."""
    if not channels:
        return f"## {title}\n\nNone recorded: every slot is masked."
    head = ["slot", "source", "kind", "unit", "frame"]
    if manifest is None:
        rows = [
            [_slots_text(channel.slots), f"`{channel.source}`", channel.kind, channel.unit, channel.frame]
            for channel in channels
        ]
        return f"## {title}\n\n" + _table(head, rows)
    measured = manifest.statistics.get(vector, {})
    names = ACTION_NAMES if vector == "action" else STATE_NAMES
    rows = []
    for channel in channels:
        for index in slot_indices(channel.slots, vector):
            numbers = measured.get(names[index], {})
            shown = [f"{numbers[key]:.4g}" if key in numbers else "" for key in MEASURED]
            rows.append([names[index], f"`{channel.source}`", channel.kind, channel.unit, channel.frame, *shown])
    return f"## {title}\n\n" + _table([*head, *MEASURED], rows)


def _slots_text(slots: str | list[str]) -> str:
    return slots if isinstance(slots, str) else ", ".join(slots)


def _variants(spec: DatasetSpec) -> str:
    """What the spec's variants are there for: the published behaviour of other code, under names of their own."""
    rows = [(f"`{name}`", load_spec(name).notes[0]) for name in variant_names(spec.name)]
    return "## Variants\n\n" + _table(("config", "why"), rows) if rows else ""


def _counts(spec: DatasetSpec, manifest: Manifest) -> str:
    counts = manifest.counts
    bad = counts.episodes_in - counts.episodes_out
    text = (
        f"## Found\n\n{counts.episodes_in} episodes in = {counts.episodes_out} out + {bad} quarantined; "
        f"{counts.steps_out} steps, {counts.steps_out / max(1, counts.episodes_out):.1f} an episode. {_expected(spec)}"
    )
    rows = [(split, episodes, counts.split_steps[split]) for split, episodes in sorted(counts.split_episodes.items())]
    return text + "\n\n" + _table(("split", "episodes", "steps"), rows)


def _expected(spec: DatasetSpec) -> str:
    """One sentence. The source's splits need not be ours, so the two are not set side by side."""
    if not spec.expected_episodes:
        return "The source declares no number of episodes."
    declared = ", ".join(f"{episodes} {split}" for split, episodes in sorted(spec.expected_episodes.items()))
    return f"Episodes declared by the source: {declared}."


def _lengths(facts: StreamFacts | None) -> str:
    if facts is None or facts.lengths is None:
        return ""
    lengths = facts.lengths
    shown = (lengths.minimum, lengths.q05, lengths.median, lengths.mean, lengths.q95, lengths.maximum)
    row = [*(f"{steps:.6g}" for steps in shown), f"{lengths.duration_s / 3600:.4g} h"]
    head = ("shortest", "q05", "median", "mean", "q95", "longest", "all together")
    outcomes = ", ".join(f"{name} {count}" for name, count in facts.outcomes.items() if count)
    return f"## Episode lengths\n\nIn steps. Outcomes: {outcomes}.\n\n" + _table(head, [row])


def _audits(manifest: Manifest) -> str:
    """What was proven on the data, faults first; empty for a stream that was made without audits."""
    if not manifest.audits:
        return ""
    rows = [
        (audit["verdict"], audit["audit"], audit["subject"], audit["evidence"], audit["remedy"])
        for audit in sorted(manifest.audits, key=lambda audit: VERDICTS.index(audit["verdict"]))
    ]
    return "## Audits\n\n" + _table(("verdict", "audit", "subject", "evidence", "remedy"), rows)


def _language(manifest: Manifest) -> str:
    from oxe_pipeline.language.report import LanguageReport

    return "## Labels\n\n```\n" + LanguageReport.from_dict(manifest.language).render().rstrip() + "\n```"


def _instructions(facts: StreamFacts | None) -> str:
    if facts is None or not facts.instructions:
        return ""
    rows = [
        (_one_line(found.text), found.episodes, _one_line("; ".join(found.alternatives)))
        for found in facts.instructions
    ]
    title = f"The most frequent of {facts.num_instructions} instructions, and alternatives of one episode each:"
    return f"{title}\n\n" + _table(("instruction", "episodes", "alternatives"), rows)


def _one_line(text: str) -> str:
    """Text of a data set for a cell: without line breaks and without HTML."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")


def _quarantine(manifest: Manifest) -> str:
    if not manifest.quarantine:
        return "## Quarantine\n\nEmpty."
    rows = [tuple(map(_one_line, (q.episode, q.field, q.reason))) for q in manifest.quarantine[:MAX_QUARANTINE_ROWS]]
    more = len(manifest.quarantine) - len(rows)
    tail = f"\n\nand {more} more in the manifest." if more > 0 else ""
    return "## Quarantine\n\n" + _table(("episode", "field", "reason"), rows) + tail


def _list(title: str, lines: list[str]) -> str:
    return f"## {title}\n\n" + "\n".join(f"- {line}" for line in lines) if lines else ""
