"""Plans of several batches at once are the plans of each alone; planning ahead changes no order and hides no fault."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from oxe_pipeline.loader.batch import BatchAssembler
from oxe_pipeline.loader.batch_plan import BatchPlan, PlansAhead
from oxe_pipeline.loader.buffers import BufferPool
from oxe_pipeline.loader.options import BatchOptions
from oxe_pipeline.loader.steps import StepSamples
from oxe_pipeline.loader.window import Samples
from tests.loader.test_batch import SEED


def samples_numbered(number: int, size: int = 4) -> Samples:
    return Samples(*(np.full(size, number) for _ in range(4)))


def plan_of(number: int) -> BatchPlan:
    return BatchPlan(samples=samples_numbered(number), columns={}, instruction=[], views=[], tasks=[])


class Planner:
    """Plans nothing but numbers, and notes which it was asked for together."""

    def __init__(self, *, faulty: tuple[int, ...] = ()):
        self.groups: list[list[int]] = []
        self._faulty = faulty

    def plan(self, batches) -> list[BatchPlan]:
        numbers = [int(batch.g[0]) for batch in batches]
        self.groups.append(numbers)
        for number in numbers:
            if number in self._faulty:
                raise ValueError(f"batch {number} is damaged")
        return [plan_of(number) for number in numbers]


OPTIONS = (
    {},
    {"history": 3, "chunk": 4, "image_size": 24},
    {"goal_images": True, "camera_dropout": 0.5, "chunk_s": 0.7, "chunk": 5, "image_size": 24},
)


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "history", "goal_dropout_seconds"])
def test_batches_planned_together_are_those_planned_alone(mixture, options):
    steps = StepSamples(mixture, 7, num_samples=40)
    batches = [steps[step] for step in range(6)]
    assert [len(batch) for batch in batches] == [7, 7, 7, 7, 7, 5]
    assembler = BatchAssembler(
        mixture.datasets, BatchOptions(**{"cameras": ["primary"], **options}), seed=SEED, buffers=BufferPool(keep=2)
    )
    for together, batch in zip(assembler.plan(batches), batches, strict=True):
        (alone,) = assembler.plan([batch])
        assert together.instruction == alone.instruction and together.columns.keys() == alone.columns.keys()
        for name, column in alone.columns.items():
            np.testing.assert_array_equal(together.columns[name], column)
        for view, expected in zip(together.views, alone.views, strict=True):
            assert view.camera == expected.camera
            np.testing.assert_array_equal(view.steps, expected.steps)
            np.testing.assert_array_equal(view.mask, expected.mask)
        assert {task[0]: (bytes(task[1]), sorted(task[2])) for task in together.tasks} == {
            task[0]: (bytes(task[1]), sorted(task[2])) for task in alone.tasks
        }


def test_a_batch_of_a_group_holds_no_memory_of_its_neighbours(mixture):
    steps = StepSamples(mixture, 8)
    assembler = BatchAssembler(mixture.datasets, BatchOptions(image_size=24), seed=SEED, buffers=BufferPool(keep=2))
    plans = assembler.plan([steps[step] for step in range(8)])
    for plan in plans:
        assert all(column.base is None for column in plan.columns.values())
        assert len(pickle.dumps(plan.columns)) < 12_000


def test_groups_grow_from_one_batch_and_end_with_the_last():
    planner = Planner()
    ahead = PlansAhead(planner.plan, lambda n: samples_numbered(n, 128), stop=9)
    assert [int(ahead.take(number).samples.g[0]) for number in range(9)] == list(range(9))
    assert planner.groups == [[0], [1, 2], [3, 4, 5, 6], [7, 8]]


def test_a_worker_plans_its_own_batches_only():
    planner = Planner()
    ahead = PlansAhead(planner.plan, samples_numbered, stride=3)
    assert [int(ahead.take(number).samples.g[0]) for number in (1, 4, 7)] == [1, 4, 7]
    assert planner.groups == [[1], [4, 7]]


def test_a_fault_is_raised_at_the_batch_that_has_it_and_not_before():
    ahead = PlansAhead(Planner(faulty=(5,)).plan, samples_numbered)
    assert [int(ahead.take(number).samples.g[0]) for number in range(5)] == list(range(5))
    for _ in range(2):
        with pytest.raises(ValueError, match="batch 5 is damaged"):
            ahead.take(5)
    assert int(ahead.take(6).samples.g[0]) == 6


def test_threads_that_take_numbers_out_of_order_each_get_their_own():
    planner = Planner()
    ahead = PlansAhead(planner.plan, samples_numbered, stop=400)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: int(ahead.take(number).samples.g[0]), range(400)))
    assert found == list(range(400))
    assert sorted(number for group in planner.groups for number in group) == list(range(400))


def test_a_number_that_comes_late_is_planned_alone_and_nothing_is_left_over():
    planner = Planner()
    ahead = PlansAhead(planner.plan, samples_numbered, stop=6)
    assert [int(ahead.take(number).samples.g[0]) for number in (1, 0, 3, 2, 4, 5)] == [1, 0, 3, 2, 4, 5]
    assert sorted(number for group in planner.groups for number in group) == list(range(6))
