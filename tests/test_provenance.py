"""The code version changes with the code that decides about values, and with nothing else."""

import subprocess
import sys
from pathlib import Path

import oxe_pipeline
from oxe_pipeline.provenance import code_version, deciding_files

ROOT = Path(oxe_pipeline.__file__).parent
WITHOUT_INFLUENCE = {"provenance", "stream.claim", "stream.input_folder", "stream.output_folder"}
"""Modules of the shard job that decide where and when something is read and written, not what."""


def test_all_that_the_shard_job_runs_decides_or_is_named_here():
    code = (
        "import sys, jobs.shard, oxe_pipeline.language.identify; "
        "print(*(m for m in sys.modules if m.startswith('oxe_pipeline.')))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    names = {str(file.relative_to(ROOT))[:-3].replace("/", ".") for file in deciding_files() if ROOT in file.parents}
    modules = {module.removeprefix("oxe_pipeline.") for module in loaded}
    packages = {module for module in modules if (ROOT / module.replace(".", "/")).is_dir()}
    assert modules - packages <= names | WITHOUT_INFLUENCE


def test_reading_a_stream_does_not_decide_about_values():
    names = {file.name for file in deciding_files() if file.parent.name == "stream"}
    assert "reader.py" not in names and "convert.py" in names
    assert len(code_version().split("+")[1]) == 8
