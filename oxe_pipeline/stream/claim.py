"""Whose an output folder is before a shard job touches it: nobody's, this job's, another job's, or something else's.

The marker, job.json, is written first and says which job is at work; the manifest, written last, replaces it. Between
the two a second run of the same job goes on where the first stopped.
"""

import json
import re
from collections.abc import Set as AbstractSet

from oxe_pipeline.stream.convert import MARKER, identity_at_work
from oxe_pipeline.stream.format import MANIFEST, Manifest, StreamError, parse_manifest
from oxe_pipeline.stream.output_folder import OutputFolder
from oxe_pipeline.stream.plan import Plan, job_identity

_JOB_FILE = re.compile(
    r"units/\d+\.json|shards/\d+-\d+\.(steps|images)\.arrow|statistics/\w+\.bin"
    rf"|episodes\.parquet|instructions\.parquet|{re.escape(MARKER)}|{re.escape(MANIFEST)}"
)
_UNFINISHED = re.compile(r"(?P<folder>(?:.*/)?)\.(?P<file>.+)\.[0-9a-f]+\.part")
"""How stream.format.unfinished_name names a file that is being written."""


def claim_output(plan: Plan, out: OutputFolder, *, overwrite: bool) -> Manifest | None:
    """Makes the folder this job's, and returns None; or the manifest, when this very job has finished there before.

    Raises StreamError, having changed nothing, for a folder that holds something else, or the output of a job with
    other input or options unless `overwrite` is given.
    """
    if out.local and out.local.exists() and not out.local.is_dir():
        raise StreamError(f"{out}: is a file; choose another --out")
    names = out.names()
    if MANIFEST in names:
        manifest = read_output_manifest(out)
        if manifest_job_identity(manifest) == plan.work.identity and not overwrite:
            if all(out.size(name) == entry.bytes for name, entry in manifest.all_files().items()):
                remove_job_files(out, keep={MANIFEST, *manifest.all_files()})
                return manifest
        elif not overwrite:
            raise StreamError(f"{out}: holds {_difference(manifest, plan)}; choose another --out, or give --overwrite")
        remove_job_files(out, first=MANIFEST)
    elif MARKER in names:
        if identity_at_work(out) != plan.work.identity:
            if not overwrite:
                raise StreamError(
                    f"{out}: holds the unfinished output of a job with other input, options or code; run that job "
                    "again, choose another --out, or give --overwrite"
                )
            remove_job_files(out)
        for name in names:
            if _UNFINISHED.fullmatch(name):
                out.remove(name)
    elif names:
        raise StreamError(f"{out}: not empty (it holds {sorted(names)[0]}) and no stream; choose another --out")
    out.write(MARKER, json.dumps({"identity": plan.work.identity}).encode())
    return None


def manifest_job_identity(manifest: Manifest) -> str:
    """Identity of the job that wrote a stream: equal to that of a plan that would write it again."""
    return job_identity(
        spec=manifest.spec, source=manifest.source, options=manifest.options, code=manifest.code_version
    )


def remove_job_files(out: OutputFolder, *, keep: AbstractSet[str] = frozenset(), first: str = "") -> None:
    """Removes every file a shard job writes, finished or not, but those in `keep`; `first` goes before all others."""
    if first:
        out.remove(first)
    for name in sorted(out.names() - keep):
        finished = _UNFINISHED.sub(r"\g<folder>\g<file>", name)
        if _JOB_FILE.fullmatch(finished):
            out.remove(name)
    for folder in ("units", "shards", "statistics"):
        out.remove_empty_folder(folder)


def _difference(manifest: Manifest, plan: Plan) -> str:
    """What tells the stream that is there from the one the plan would write, shortest first."""
    if manifest.dataset != plan.dataset:
        return f"a stream of {manifest.dataset}, not of {plan.dataset}"
    for name, wanted in plan.options.items():
        if (found := manifest.options.get(name)) != wanted:
            return f"a stream made with {name} {found!r}, not {wanted!r}"
    if manifest.source != plan.source:
        return f"a stream of other files of {plan.dataset}"
    if manifest.spec != plan.spec:
        return f"a stream of {plan.dataset} made with another spec"
    return f"a stream made by version {manifest.code_version} of this package"


def read_output_manifest(out: OutputFolder) -> Manifest:
    """The manifest in an output folder, local or remote; StreamError when absent, damaged or of a newer format."""
    content = out.read(MANIFEST)
    if content is None:
        raise StreamError(f"{out}: {MANIFEST} is gone; another job has taken the folder, or it was emptied")
    return parse_manifest(content, f"{out}/{MANIFEST}")
