"""Order, boundedness and errors of the pool, with real processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from builders.ordered_pool import IN_FLIGHT_PER_PROCESS, WorkerDied, ordered_map
from tests.builders.toy_lab import CRASHING, read_toy_episode, square

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_items(processes):
    assert list(ordered_map(square, range(20), processes=processes)) == [n * n for n in range(20)]


def test_no_more_items_are_taken_than_may_be_in_flight():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    results = ordered_map(square, items(), processes=2)
    for consumed in range(5):
        next(results)
        assert len(taken) <= consumed + 2 * IN_FLIGHT_PER_PROCESS
    results.close()


@pytest.mark.parametrize("processes", [1, 2])
def test_nothing_is_taken_beyond_what_is_wanted(processes):
    taken, got = [], []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    for result in ordered_map(square, items(), processes=processes, wanted=lambda: 3 - len(got)):
        got.append(result)
    assert got == [0, 1, 4] and taken == [0, 1, 2]


@pytest.mark.parametrize("processes", [1, 2])
def test_an_exception_reaches_the_caller(processes):
    results = ordered_map(square, [1, -2, 3], processes=processes)
    assert next(results) == 1
    with pytest.raises(ValueError, match="negative: -2"):
        next(results)


def test_a_process_that_dies_is_an_error_that_names_what_was_in_flight():
    items = [1, 2, CRASHING, *range(4, 20)]
    with pytest.raises(WorkerDied, match=r"at one of these: .*3000") as caught:
        list(ordered_map(read_toy_episode, items, processes=2))
    assert CRASHING in caught.value.items and len(caught.value.items) <= 2 * IN_FLIGHT_PER_PROCESS


def test_worker_processes_load_no_tensorflow():
    code = "import sys, builders.conversion, builders.oxe.records; print([m for m in sys.modules if 'tensorflow' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
