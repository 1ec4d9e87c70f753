"""One stream as one self-contained HTML page: to be opened, mailed, printed, and read in five years.

Nothing is loaded from anywhere and no script runs: a policy in the page itself forbids both, so that a label with
markup in it could do nothing even if it were not escaped. The same stream and options give the same bytes: there is no
date and no path of a machine in it.
"""

from pathlib import Path

from oxe_pipeline.inspection.audit_section import audit_section
from oxe_pipeline.inspection.episode_sections import length_section, quarantine_section
from oxe_pipeline.inspection.film_strips import film_strips
from oxe_pipeline.inspection.header import header, provenance
from oxe_pipeline.inspection.histograms import sampled_vectors
from oxe_pipeline.inspection.label_section import label_section
from oxe_pipeline.inspection.markup import Markup, foreign, megabytes, section, tag
from oxe_pipeline.inspection.pictures_section import camera_section, contact_sheets
from oxe_pipeline.inspection.report import InspectOptions, Report, make_report
from oxe_pipeline.inspection.thumbnails import FINENESSES, BudgetSpent, Thumbnails
from oxe_pipeline.inspection.vector_sections import vector_section
from oxe_pipeline.stream.format import VECTORS
from oxe_pipeline.stream.reader import Stream

STYLE = Path(__file__).with_name("page.css")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_CONTENTS = {
    "audits": "Audits",
    "pictures": "Contact sheets",
    "episodes": "Episodes",
    "action": "Action",
    "state": "State",
    "lengths": "Lengths",
    "labels": "Labels",
    "cameras": "Cameras",
    "quarantine": "Quarantine",
    "choices": "Choices and faults",
    "provenance": "Provenance",
}


class PageTooLarge(ValueError):
    """What was asked for does not fit the page's limit of bytes."""


def render_page(stream: Stream, options: InspectOptions | None = None) -> bytes:
    """The page, UTF-8, at most options.most_bytes long: images are made smaller until they fit. Deterministic.

    Raises PageTooLarge where the smallest do not fit either, StreamError for shards that cannot be read.
    """
    options = options or InspectOptions()
    report = make_report(stream, options)
    rest = _measured_sections(report)
    room = options.most_bytes - sum(len(part.encode()) for part in rest.values())
    for fineness in FINENESSES:
        thumbnails = Thumbnails(fineness=fineness, budget_bytes=room)
        try:
            pictures = {
                "pictures": contact_sheets(report, thumbnails),
                "episodes": film_strips(report, thumbnails),
            }
        except BudgetSpent:
            continue
        page = _document(report, {**rest, **pictures}).encode()
        if len(page) <= options.most_bytes:
            return page
    raise PageTooLarge(
        f"{stream.name}: {options.episodes} film strips and {options.images} images per camera do not fit a page of "
        f"{megabytes(options.most_bytes)}; ask for fewer --episodes or --images, or a larger --max-mb"
    )


def _measured_sections(report: Report) -> dict[str, Markup]:
    """Everything but the images, by anchor."""
    values = sampled_vectors(report.stream, report.selection, VECTORS, most=report.options.rows)
    return {
        "audits": audit_section(report.manifest),
        "action": vector_section(report, "action", values),
        "state": vector_section(report, "state", values),
        "lengths": length_section(report),
        "labels": label_section(report),
        "cameras": camera_section(report),
        "quarantine": quarantine_section(report),
        "choices": _choices(report),
        "provenance": section("provenance", "Provenance", provenance(report)),
    }


def _choices(report: Report) -> Markup:
    """What the spec says about decisions taken and faults known."""
    spec = report.spec
    if spec is None:
        text = "The manifest holds no spec that this version can read."
        return section("choices", "Choices and known faults", tag("p", text, class_="empty"))
    lists = [
        (tag("h3", title), tag("ul", [tag("li", foreign(line, most=2000)) for line in lines]))
        for title, lines in (("Choices and their reasons", spec.notes), ("Known faults", spec.known_faults))
        if lines
    ]
    return section("choices", "Choices and known faults", lists or tag("p", "The spec names none.", class_="empty"))


def _document(report: Report, sections: dict[str, Markup]) -> str:
    shown = [name for name in _CONTENTS if sections[name]]
    links = [tag("li", tag("a", _CONTENTS[name], href=f"#{name}")) for name in shown]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{report.manifest.dataset}: stream report"),
        tag("style", Markup(STYLE.read_text(encoding="utf-8"))),
    )
    body = tag(
        "body",
        tag("a", "Skip to the report", href="#report", class_="skip"),
        header(report),
        tag("nav", tag("ul", links), aria_label="Contents"),
        tag("main", [sections[name] for name in shown], id="report"),
        tag("footer", f"Stream {report.manifest.identity()}, made by code {report.manifest.code_version}."),
    )
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"
