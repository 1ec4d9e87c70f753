"""One sequence of samples, bit for bit, whatever the ranks, workers and batch size, and however often a run is killed.

Each phase of the run is a process of its own with all of its ranks and their DataLoader workers; it is killed without
notice while it delivers, and the next phase goes on from the last state that was saved, laid out in another way. Every
sample is hashed with its images and compared with the one that an undisturbed loader delivers under its number.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from oxe_pipeline.loader.loader import make_loader
from tests.loader.exactness_run import OPTIONS, sample_hashes

ROOT = Path(__file__).parents[2]
PHASES = [
    {"world_size": 3, "workers": 0, "batch_size": 24},
    {"world_size": 2, "workers": 4, "batch_size": 16},
    {"world_size": 8, "workers": 0, "batch_size": 40},
    {"world_size": 1, "workers": 1, "batch_size": 9},
    {"world_size": 1, "workers": None, "batch_size": 30},
]
"""`workers` None: make_loader and its threads; a number: DataLoader with so many worker processes."""
SAMPLES_PER_PHASE = 400


class Undisturbed:
    """What one loader in this process delivers, as far as it is asked for: {sample number: digest}."""

    def __init__(self, mixture):
        self._loader = make_loader(mixture, batch_size=64, threads=1, **OPTIONS)
        self._found: dict[int, str] = {}

    def of(self, numbers: set[int]) -> dict[int, str]:
        with self._loader:
            while len(self._found) <= max(numbers):
                self._found.update(sample_hashes(next(self._loader)))
        return {g: self._found[g] for g in numbers}


def delivered(file: Path) -> dict[int, str]:
    """What a phase wrote before it was killed; the last line may be cut."""
    found: dict[int, str] = {}
    for line in file.read_text().splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        found.update({int(g): digest for g, digest in entry.items()})
    return found


def test_a_run_that_is_killed_and_goes_on_in_other_layouts_delivers_the_same_samples(folders, mixture, tmp_path):
    state_file, first, undisturbed = tmp_path / "state.json", 0, Undisturbed(mixture)
    for number, phase in enumerate(PHASES):
        out = tmp_path / f"phase_{number}.jsonl"
        out.touch()
        order = {**phase, "folders": list(map(str, folders)), "state": str(state_file), "out": str(out)}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.loader.exactness_run", json.dumps(order)], cwd=ROOT, start_new_session=True
        )
        try:
            until = time.monotonic() + 120
            while len(delivered(out)) < SAMPLES_PER_PHASE:
                assert process.poll() is None, f"phase {number} ended by itself"
                assert time.monotonic() < until, f"phase {number} delivers nothing"
                time.sleep(0.02)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        saved = json.loads(state_file.read_text())["mixture"]["g"]
        assert saved > first
        found = delivered(out)
        # Everything up to the saved state was delivered, by some rank, and what is known beyond it is right too.
        assert set(range(first, saved)) <= set(found)
        assert found == undisturbed.of(set(found))
        first = saved
    assert first >= SAMPLES_PER_PHASE * (len(PHASES) - 1)
