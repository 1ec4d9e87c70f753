"""The fuzzer finds what it is there to find: planted faults in a reader of text files."""

import os
import random
import signal
import time

import numpy as np
import pytest

from benchmarks.fuzz import workers
from benchmarks.fuzz.damage import damage_folder
from benchmarks.fuzz.formats import Format
from oxe_pipeline.episode import DataError

FILES = 3
INPUTS = [4, 5, 9, 12, 13, 40]
"""Of seed 3, some that show what is wanted: each dead worker costs seconds."""


def write(root) -> None:
    for number in range(FILES):
        (root / f"{number}.txt").write_text(f"{number} apples")


def open_carelessly(root, spec):
    """Follows links, takes a text for a number, hangs on nothing, dies of a NUL, and does not mind absent files."""
    return sorted(root.glob("*.txt")), read_carelessly


def read_carelessly(path):
    content = path.read_bytes() if path.is_file() else b"0 apples"
    if not content:
        while True:
            time.sleep(0.01)
    if b"\0" in content:
        os.kill(os.getpid(), signal.SIGSEGV)
    number, _, what = content.partition(b" ")
    if what[:6] != b"apples":
        raise DataError("no apples", episode=path.name, field="text")
    return int(number)


CARELESS = Format(spec="", write=write, open=open_carelessly)


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "WALL_LIMIT_S", 1)
        folder = tmp_path_factory.mktemp("fuzz")
        return list(workers.fuzz("careless", CARELESS, folder, seed=3, cpu_seconds=0, only=INPUTS))


def test_wrong_exceptions_hangs_and_crashes_are_found_and_the_next_inputs_still_tried(tried):
    outcomes = {attempt.outcome: attempt for attempt in tried}
    assert (
        outcomes.keys() >= {"same", "quarantined", "fault", "hang", "crash"}
        and [attempt.number for attempt in tried] == INPUTS
    )
    assert outcomes["crash"].damage and "ended with -11" in outcomes["crash"].reason
    assert "Segmentation fault" in outcomes["crash"].trace and "read_carelessly" in outcomes["hang"].trace


def test_a_file_opened_outside_is_a_fault(tried):
    links = [attempt for attempt in tried if attempt.damage.startswith("link_out")]
    assert links and all(attempt.reason.startswith("opened a file outside") for attempt in links)


def test_the_same_number_is_the_same_damage(tmp_path):
    def damaged(name: str) -> tuple[str, dict[str, bytes]]:
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", np.arange(9.0))
        (tmp_path / name / "b.json").write_text('{"a": [1, "x"]}')
        said = damage_folder(tmp_path / name, tmp_path / "outside", random.Random("x/1/2"))
        return said, {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}

    assert damaged("first") == damaged("second")
