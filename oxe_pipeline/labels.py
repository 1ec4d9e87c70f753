"""`python -m oxe_pipeline.labels STREAM... | --text FILE`: what the cleaning rules did to labels, or would do.

For streams the report is the one that the shard job wrote into the manifest. With --text a lab sees before any build
what becomes of its labels; nothing is written.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from oxe_pipeline.language import LanguageReport, ParaphraseError, Paraphrases, clean_labels, load_paraphrases
from oxe_pipeline.stream.format import StreamError, read_manifest
from schemas.spec import Language, SpecError, load_spec, load_spec_file

STATES = ("instructions", "folded")
"""Entries of LanguageReport.to_dict that only merging needs: thousands of hashes."""


def main(argv: list[str] | None = None) -> int:
    """Prints the reports; 0, or 2 after one line on stderr."""
    options = _parser().parse_args(argv)
    try:
        reports = _reports(options)
    except (StreamError, SpecError, ParaphraseError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps([_public(report) for report in reports], indent=1, ensure_ascii=False))
    else:
        print("\n".join(f"{report.dataset}\n{report.render()}" for report in reports), end="")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m oxe_pipeline.labels", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("streams", nargs="*", type=Path, metavar="STREAM", help="folder of a stream")
    parser.add_argument("--text", type=Path, metavar="FILE", help="raw labels, one a line, in any encoding")
    parser.add_argument("--spec", default="", help="with --text: a shipped spec or a YAML file, for its placeholders")
    parser.add_argument("--paraphrases", type=Path, metavar="FILE", help="with --text: try a paraphrase file on it")
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    return parser


def _reports(options: argparse.Namespace) -> list[LanguageReport]:
    if bool(options.streams) == bool(options.text):
        raise StreamError("say whose labels: one or more STREAM, or --text FILE, one of the two")
    if options.streams:
        for name in ("spec", "paraphrases"):
            if getattr(options, name):
                raise StreamError(f"--{name} goes with --text; a stream's labels were cleaned when it was made")
        return [LanguageReport.from_dict(read_manifest(stream).language) for stream in options.streams]
    paraphrases = load_paraphrases(options.paraphrases) if options.paraphrases else None
    return [report_of_lines(options.text, _language(options.spec), paraphrases)]


def report_of_lines(path: Path, language: Language, paraphrases: Paraphrases | None = None) -> LanguageReport:
    """The report on a text file whose every line is the label of one episode. An empty line is a label that says
    nothing. OSError where it cannot be read."""
    report = LanguageReport(path.name, paraphrases=paraphrases.entries if paraphrases else ())
    for line in _lines(path):
        labels = clean_labels([line], language)
        if paraphrases:
            report.update(*paraphrases.add_to(labels))
        else:
            report.update(labels)
    return report


def _lines(path: Path) -> Iterator[bytes]:
    """Lines without their ending, as bytes, since one file may mix encodings; a UTF-16 file is turned into UTF-8."""
    with path.open("rb") as file:
        if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            yield from (line.encode() for line in path.read_text("utf-16", "replace").splitlines())
            return
        file.seek(0)
        for line in file:
            yield line.rstrip(b"\r\n")


def _language(spec: str) -> Language:
    if not spec:
        return Language()
    return (load_spec_file(spec) if spec.endswith((".yaml", ".yml")) else load_spec(spec)).language


def _public(report: LanguageReport) -> dict:
    content = {name: value for name, value in report.to_dict().items() if name not in STATES}
    for flag, samples in content["samples"].items():
        content["samples"][flag] = [{"raw": raw, "instruction": instruction} for _, raw, instruction in samples]
    return content


if __name__ == "__main__":
    sys.exit(main())
