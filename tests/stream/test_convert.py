"""One unit of a shard job in several workers' hands: at once, after the job is over, and after another has begun."""

import multiprocessing
from pathlib import Path

import pytest

from oxe_pipeline.stream.claim import claim_output
from oxe_pipeline.stream.commit import commit_stream
from oxe_pipeline.stream.convert import Unit, Work, convert_unit
from oxe_pipeline.stream.format import StreamError, unfinished_name
from oxe_pipeline.stream.images import parse_images_option
from oxe_pipeline.stream.output_folder import OutputFolder
from oxe_pipeline.stream.plan import Plan, ShardOptions, make_plan
from oxe_pipeline.stream.verify import verify_stream
from tests.ingest.tfds_sample import write_unified
from tests.jobs.conftest import content
from tests.synthetic import make_episode


@pytest.fixture(scope="module")
def rlds(tmp_path_factory) -> Path:
    return write_unified(tmp_path_factory.mktemp("rlds"), [make_episode(i, image_px=160) for i in range(12)], shards=2)


def claimed(rlds: Path, out: Path, images: str = "keep") -> Plan:
    folder = OutputFolder(str(out))
    plan = make_plan(rlds, folder, ShardOptions(shard_mb=1, images=parse_images_option(images)))
    claim_output(plan, folder, overwrite=True)
    return plan


def convert_together(unit: Unit, work: Work, both_ready) -> None:
    both_ready.wait()
    convert_unit(unit, work)


def test_two_workers_at_the_same_unit_at_once_leave_one_record_and_the_bytes_of_one(rlds, tmp_path):
    plan, alone = claimed(rlds, tmp_path / "twice"), claimed(rlds, tmp_path / "once")
    fork = multiprocessing.get_context("fork")
    for unit in plan.units:
        both_ready = fork.Barrier(2)
        arguments = (unit, plan.work, both_ready)
        workers = [fork.Process(target=convert_together, args=arguments) for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0]
        convert_unit(unit, alone.work)
    assert len(plan.units) > 1
    assert content(tmp_path / "twice") == content(tmp_path / "once")


def test_writers_of_one_file_differ_in_its_unfinished_name_even_with_one_process_id(tmp_path):
    """In two containers both may be process 1."""
    names = {unfinished_name(tmp_path / "00000-000.steps.arrow") for _ in range(100)}
    assert len(names) == 100


def test_a_worker_that_comes_late_to_a_finished_stream_leaves_it_as_it_is(rlds, tmp_path):
    plan = claimed(rlds, tmp_path)
    for unit in plan.units:
        convert_unit(unit, plan.work)
    commit_stream(plan, plan.work.out, max_bad_ratio=0)
    before = content(tmp_path)
    assert convert_unit(plan.units[0], plan.work)["resumed"]
    assert content(tmp_path) == before


def test_a_worker_of_a_job_that_was_given_up_writes_nothing_into_the_folder_of_the_next(rlds, tmp_path):
    given_up = claimed(rlds, tmp_path)
    convert_unit(given_up.units[0], given_up.work)
    following = claimed(rlds, tmp_path, images="64x64:jpeg:80")
    with pytest.raises(StreamError, match="another has taken the folder"):
        convert_unit(given_up.units[1], given_up.work)
    for unit in following.units:
        convert_unit(unit, following.work)
    commit_stream(following, following.work.out, max_bad_ratio=0)
    assert verify_stream(tmp_path).faults == []


def test_what_a_worker_left_behind_after_the_commit_is_removed_by_the_next_run(rlds, tmp_path):
    plan = claimed(rlds, tmp_path)
    for unit in plan.units:
        convert_unit(unit, plan.work)
    record = (tmp_path / plan.units[0].record_name).read_bytes()
    commit_stream(plan, plan.work.out, max_bad_ratio=0)
    before = content(tmp_path)
    plan.work.out.write(plan.units[0].record_name, record)
    unfinished_name(tmp_path / "shards" / "00000-000.steps.arrow").write_bytes(b"half")
    assert claim_output(plan, plan.work.out, overwrite=False) is not None
    assert content(tmp_path) == before
