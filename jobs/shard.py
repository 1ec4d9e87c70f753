"""`python -m jobs.shard --rlds ADDRESS --out ADDRESS [any Beam option]`: RLDS to a stream, on Apache Beam.

The graph is Create(units) -> Reshuffle -> convert -> collect -> commit. Units are input files; image bytes go from file
to file inside one worker and never through a shuffle, so memory per worker is one output shard and the same graph runs
on a laptop and on a cluster. Without a --runner it runs here, in several processes when the input is large. A stopped
job goes on where it was.
"""

import argparse
import difflib
import logging
import os
import sys
from typing import TYPE_CHECKING

from jobs.progress import Progress
from oxe_pipeline.ingest.features_json import RldsError
from oxe_pipeline.language.paraphrases import load_paraphrases
from oxe_pipeline.stream.claim import claim_output, read_output_manifest
from oxe_pipeline.stream.commit import audited_units, commit_stream
from oxe_pipeline.stream.convert import convert_unit, read_unit_record
from oxe_pipeline.stream.format import MANIFEST, Manifest, StreamError
from oxe_pipeline.stream.images import parse_images_option
from oxe_pipeline.stream.output_folder import OutputFolder
from oxe_pipeline.stream.plan import Plan, ShardOptions, make_plan
from oxe_pipeline.stream.verdicts import Strictness, refuse_verdicts, verdict_lines
from schemas.spec import SpecError

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.fn_runner.FnApiRunner"
"""What Beam calls DirectRunner first tries to download another runner from the internet; this one is in the package."""

PARALLEL_FROM_BYTES = 2_000_000_000
"""Input from which worker processes pay: starting them takes about as long as converting this much in one."""


class JobFailed(RuntimeError):
    """The runner gave up: a worker died, a step failed too often, or the job service is out of reach."""


def main(argv: list[str] | None = None) -> int:
    """Runs the job; 0 when the stream is there, 2 with one line on stderr when something must be put right first, 1
    when the runner gave up on the way, after what it had to say."""
    parser = _parser()
    options, beam_options = parser.parse_known_args(argv)
    try:
        _refuse_misspelt(beam_options, parser)
        if not 0 <= options.max_bad_ratio <= 1:
            raise StreamError(f"--max_bad_ratio {options.max_bad_ratio}: must be 0 to 1")
        out = OutputFolder(options.out)
        shard_options = ShardOptions(
            images=parse_images_option(options.images),
            shard_mb=options.shard_mb,
            splits=tuple(options.split),
            paraphrases=load_paraphrases(options.paraphrases) if options.paraphrases else None,
            check_data=options.check_data,
        )
        plan = make_plan(options.rlds, out, shard_options, options.spec)
        pipeline_options = checked_pipeline_options(with_local_defaults(beam_options, plan))
        manifest = claim_output(plan, out, overwrite=options.overwrite)
        if manifest is not None:
            refuse_verdicts(manifest.audits, options.strict, str(out), is_committed=True)
            print(f"{out}: already complete, with the same input and options; nothing to do")
        else:
            manifest = run_job(plan, out, pipeline_options, options.max_bad_ratio, options.strict)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the units that are finished", file=sys.stderr)
        return 130
    except JobFailed as failure:
        logging.getLogger(__name__).error("the runner's own account:", exc_info=failure.__cause__)
        print(f"error: {failure}", file=sys.stderr)
        return 1
    except (RldsError, SpecError, StreamError, ValueError, ImportError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(summary(manifest, plan, out))
    return 0


def checked_pipeline_options(beam_options: list[str]) -> "PipelineOptions":
    """Beam's own view of its options. ValueError for a runner it does not know, before anything is written."""
    try:
        from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
        from apache_beam.runners import create_runner
    except ImportError as error:
        raise ImportError(f"{error.name} is missing; the shard job needs the [build] extra of this package") from error

    options = PipelineOptions(beam_options)
    create_runner(options.view_as(StandardOptions).runner)
    return options


def run_job(
    plan: Plan,
    out: OutputFolder,
    pipeline_options: "PipelineOptions",
    max_bad_ratio: float,
    strict: Strictness = "",
) -> Manifest:
    """Runs the graph on the runner that the Beam options name, and returns the manifest it committed.

    Raises StreamError (TooManyBad and AuditFailed among them) when units ran but the stream could not be committed, and
    JobFailed when the runner did not come to the end.
    """
    if finished := count_finished(plan, out):
        print(f"{out}: {finished} of {len(plan.units)} units were finished by an earlier run and are kept")
    for split, names in plan.missing.items():
        print(f"{plan.dataset}: split {split!r}: {len(names)} declared file(s) are absent, first {names[0]}; going on")
    try:
        with Progress(plan, out):
            run_graph(plan, out, pipeline_options, max_bad_ratio, strict)
    except Exception as error:  # every runner has exceptions of its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        kept = f"{count_finished(plan, out)} of {len(plan.units)} units are finished"
        raise JobFailed(f"{out}: the runner gave up ({reason}); {kept}, the same command goes on from there") from error
    if out.size(MANIFEST) is None:
        # The graph leaves a stream that may not be committed alone; the reason is in the units' records.
        audited_units(plan, out, max_bad_ratio, strict)
    return read_output_manifest(out)


def count_finished(plan: Plan, out: OutputFolder) -> int:
    """Units of this very job whose record and shards are in the output folder."""
    return sum(read_unit_record(out, unit, plan.work.identity) is not None for unit in plan.units)


def run_graph(
    plan: Plan,
    out: OutputFolder,
    pipeline_options: "PipelineOptions",
    max_bad_ratio: float,
    strict: Strictness = "",
) -> None:
    """Builds the pipeline and waits until it is done."""
    import apache_beam as beam

    with beam.Pipeline(options=pipeline_options) as pipeline:
        _ = (
            pipeline
            | "Units" >> beam.Create(plan.units)
            | "Spread" >> beam.Reshuffle()
            | "Convert" >> beam.Map(convert_unit, plan.work)
            | "Collect" >> beam.combiners.ToList().without_defaults()
            | "Commit" >> beam.Map(commit_if_sound, plan, out, max_bad_ratio, strict)
        )


def commit_if_sound(
    unit_counts: list[dict], plan: Plan, out: OutputFolder, max_bad_ratio: float, strict: Strictness = ""
) -> str:
    """Commits the stream and says so; with a StreamError nothing is committed and the error is the result, because a
    runner would try a step that raises again and bury the reason."""
    try:
        manifest = commit_stream(plan, out, max_bad_ratio, strict)
    except StreamError as error:
        return f"not committed: {error}"
    return f"{len(unit_counts)} units, {manifest.counts.episodes_out} episodes"


def with_local_defaults(beam_options: list[str], plan: Plan) -> list[str]:
    """Beam options with what a run on this machine needs: the built-in runner, and a process a core for a large input.

    Whatever the user says about runner, mode and workers is left as it is.
    """
    said = {option.partition("=")[0].lstrip("-"): number for number, option in enumerate(beam_options)}
    options = list(beam_options)
    if "runner" in said:
        number = said["runner"]
        inline = "=" in options[number]
        runner = options[number].partition("=")[2] if inline else "".join(options[number + 1 : number + 2])
        if runner not in ("DirectRunner", "SwitchingDirectRunner"):
            return options
        options[number : number + (1 if inline else 2)] = []
    options += ["--runner", LOCAL_RUNNER]
    workers = min(len(plan.units), len(os.sched_getaffinity(0)))
    large = workers > 1 and plan.input_bytes >= PARALLEL_FROM_BYTES
    if large and not said.keys() & {"direct_running_mode", "direct_num_workers"}:
        options += ["--direct_running_mode", "multi_processing", "--direct_num_workers", str(workers)]
    return options


def summary(manifest: Manifest, plan: Plan, out: OutputFolder) -> str:
    """The final table."""
    counts = manifest.counts
    size = sum(entry.bytes for entry in manifest.all_files().values())
    splits = ", ".join(f"{name} {n:,}" for name, n in counts.split_episodes.items())
    rows = [
        ("stream", str(out)),
        ("data set", manifest.dataset),
        (
            "episodes",
            f"{counts.episodes_in:,} in = {counts.episodes_out:,} out + {len(manifest.quarantine):,} set aside",
        ),
        ("of these", splits),
        ("steps", f"{counts.steps_out:,}"),
        ("cameras", ", ".join(f"{camera} {n:,}" for camera, n in manifest.cameras.items()) or "none"),
        ("shards", f"{len(manifest.shards):,}, {size / 1e6:,.1f} MB from {plan.input_bytes / 1e6:,.1f} MB"),
        ("identity", manifest.identity()),
    ]
    if entries := manifest.language.get("paraphrased", {}):
        unmatched = [text for text, episodes in entries.items() if not episodes]
        told = f"; {len(unmatched):,} match nothing, first {unmatched[0]!r}" if unmatched else ""
        rows.append(("paraphrases", f"{len(entries) - len(unmatched):,} of {len(entries):,} entries match{told}"))
    lines = [f"{name:<11} {value}" for name, value in rows]
    lines += [f"set aside   {fault.episode}: {fault.field}: {fault.reason}" for fault in manifest.quarantine[:5]]
    return "\n".join(lines + verdict_lines(manifest.audits))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.shard", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--rlds", required=True, help="folder or fsspec address of RLDS, built here or published")
    parser.add_argument(
        "--out", required=True, help="folder or fsspec address of the stream; must be empty or this job's"
    )
    parser.add_argument("--images", default="keep", help="keep (default), jpeg:95, or 256x256:jpeg:95[:pad|:crop]")
    parser.add_argument("--shard_mb", "--shard-mb", type=int, default=256, help="size of a shard in MB (default 256)")
    parser.add_argument("--split", nargs="*", default=[], help="splits of the input to read (default: all)")
    parser.add_argument(
        "--paraphrases", default="", help=".yaml, .json or .csv: further ways to say instructions (docs/labels.md)"
    )
    parser.add_argument("--spec", default="", help="name of a shipped spec or a YAML file, for published RLDS")
    parser.add_argument(
        "--max_bad_ratio", "--max-bad-ratio", type=float, default=0.05,
        help="stop without a stream when more than this share of episodes is bad (default 0.05)",
    )  # fmt: skip
    parser.add_argument(
        "--strict", nargs="?", const="fault", default="", choices=("fault", "suspect"),
        help="stop without a stream when an audit finds a fault, or (--strict suspect) anything suspect",
    )  # fmt: skip
    parser.add_argument(
        "--check_data", "--check-data", action="store_true", help="verify the checksum of every TFRecord (slow)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace another job's stream in --out")
    return parser


def _refuse_misspelt(beam_options: list[str], parser: argparse.ArgumentParser) -> None:
    """Beam goes on after a mere warning at an option nobody knows, so one that is nearly ours is refused here."""
    ours = [text for action in parser._actions for text in action.option_strings if text.startswith("--")]
    for option in beam_options:
        name = option.partition("=")[0]
        if close := difflib.get_close_matches(name, ours, n=1, cutoff=0.8):
            raise StreamError(f"{name}: unknown option; did you mean {close[0]}?")


def _show_warnings() -> None:
    """Beam's warnings on stderr, but for the one at import that says its own optional Google client is absent."""
    logging.basicConfig(level=logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: not record.getMessage().startswith("apitools not found"))


if __name__ == "__main__":
    _show_warnings()
    sys.exit(main())
