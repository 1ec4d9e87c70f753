"""The floor plan holds: imports run downwards, light modules stay light, no file outgrows a reader."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("schemas", "oxe_pipeline", "builders", "jobs")
READERS = {"ingest": 1, "language": 1, "quality": 1, "stats": 1}
LEVEL = {**READERS, "stream": 2, "overlays": 3, "mixture": 4, "loader": 5, "inspection": 6, "vla": 6}
BUILD_ONLY = {"tensorflow", "tensorflow_datasets", "apache_beam"}


def python_files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_is_below_them(package):
    above = {"schemas": {"oxe_pipeline", "builders", "jobs"}, "oxe_pipeline": {"builders", "jobs"}}.get(package, set())
    for path in python_files(package):
        tops = {name.split(".")[0] for name in imported_modules(path)}
        assert not tops & above, f"{path.relative_to(ROOT)} imports {tops & above}"


def test_stages_of_the_pipeline_import_only_stages_below_them():
    for path in python_files("oxe_pipeline"):
        stage = path.relative_to(ROOT / "oxe_pipeline").parts[0]
        if stage not in LEVEL:
            continue
        for name in imported_modules(path):
            parts = name.split(".")
            if parts[0] == "oxe_pipeline" and len(parts) > 1 and parts[1] in LEVEL:
                assert LEVEL[parts[1]] <= LEVEL[stage], f"{path.relative_to(ROOT)} imports {name}, which is above it"


def test_training_side_never_names_tensorflow_or_beam():
    for stage in ("stream", "mixture", "loader", "vla", "stats", "language"):
        for path in python_files(f"oxe_pipeline/{stage}"):
            tops = {name.split(".")[0] for name in imported_modules(path)}
            assert not tops & BUILD_ONLY, f"{path.relative_to(ROOT)} imports {tops & BUILD_ONLY}"


def test_no_file_is_longer_than_500_lines():
    for package in (*PACKAGES, "tests", "benchmarks", "samples"):
        for path in python_files(package):
            assert len(path.read_text().splitlines()) <= 500, path.relative_to(ROOT)


def test_importing_the_package_is_fast_and_loads_no_framework():
    code = (
        "import time, sys; t = time.perf_counter(); import oxe_pipeline; t = time.perf_counter() - t; "
        "from oxe_pipeline import load_mixture, open_stream, make_loader; print(t, "
        "*[m for m in ('torch', 'tensorflow', 'apache_beam', 'scipy') if m in sys.modules])"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
        for _ in range(3)
    ]
    words = [run.stdout.split() for run in runs]
    assert all(word[1:] == [] for word in words), f"loaded at import: {words[0][1:]}"
    assert min(float(word[0]) for word in words) < 0.5
