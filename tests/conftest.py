"""Fixtures that several packages' tests share: the sample episodes through the real commands, once a session."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# The first example of a property often pays for an import (scipy, pyarrow); pytest-timeout bounds the time instead.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")

ROOT = Path(__file__).parent.parent
REAL_DATA = ROOT.parent / "shared" / "data"
DEMO_LABS = {"metaworld_bridge": "bridge", "metaworld_libero": "libero"}


def run_command(*words: str | Path, cwd: Path = ROOT, check: bool = True) -> subprocess.CompletedProcess:
    """Runs a command as a user would; a failure shows what it printed."""
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True)
    if check and done.returncode:
        raise AssertionError(
            f"{' '.join(map(str, words))}\nexit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
    return done


def tfds_build(builder: str, config: str, manual_dir: Path, data_dir: Path, *options: str, check: bool = True):
    """`tfds build` of one builder of this repository, as typed."""
    tfds = Path(sys.executable).with_name("tfds")
    words = (
        "build",
        ROOT / "builders" / builder,
        "--config",
        config,
        "--manual_dir",
        manual_dir,
        "--data_dir",
        data_dir,
    )
    return run_command(tfds, *words, *options, check=check)


def shard(rlds: Path, out: Path, *options: str, check: bool = True):
    """`python -m jobs.shard`, as typed."""
    return run_command(sys.executable, "-m", "jobs.shard", "--rlds", rlds, "--out", out, *options, check=check)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real episodes, which is not part of the project."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real episodes at {REAL_DATA}: this test needs data that the project may not ship")
    return REAL_DATA


@pytest.fixture(scope="session")
def demo_rlds(tmp_path_factory) -> dict[str, Path]:
    """Data set name -> unified RLDS directory, made by `tfds build` from the sample episodes of both labs."""
    data_dir = tmp_path_factory.mktemp("rlds")
    for name, builder in DEMO_LABS.items():
        tfds_build(builder, name, ROOT / "samples" / name, data_dir)
    return {name: data_dir / builder / name / "1.0.0" for name, builder in DEMO_LABS.items()}


@pytest.fixture(scope="session")
def demo_streams(demo_rlds, tmp_path_factory) -> Path:
    """Folder holding one stream per demo lab, made by `python -m jobs.shard`."""
    root = tmp_path_factory.mktemp("streams")
    for name, folder in demo_rlds.items():
        shard(folder, root / name)
    return root
