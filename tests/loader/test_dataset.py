"""StreamDataset in a plain DataLoader: the sequence of make_loader, for any number of worker processes."""

import gc
import logging
import os
import resource
import signal
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from torch.utils.data._utils.worker import WorkerInfo

from oxe_pipeline.loader.dataset import StreamDataset
from oxe_pipeline.loader.loader import make_loader
from tests.loader.conftest import batch_hash, make_episodes, open_mixture
from tests.synthetic import write_stream

OPTIONS: dict[str, Any] = {"batch_size": 8, "chunk": 3, "history": 2, "camera_dropout": 0.2, "goal_images": True}


def make_data_loader(mixture, *, workers=2, num_steps=None, start_step=0, **data_loader) -> DataLoader:
    dataset = StreamDataset(mixture, num_steps=num_steps, start_step=start_step, **OPTIONS)
    return DataLoader(dataset, batch_size=None, num_workers=workers, **data_loader)


def expected_hashes(mixture, num_steps: int, start_step: int = 0) -> list[str]:
    with make_loader(mixture, num_steps=num_steps, start_step=start_step, **OPTIONS) as loader:
        return [batch_hash(batch) for batch in loader]


def hashes(batches) -> list[str]:
    return [batch_hash(batch) for batch in batches]


def shared_mappings() -> int:
    return Path("/proc/self/maps").read_text().count("oxe_pipeline_batches")


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_a_data_loader_yields_the_batches_of_make_loader_in_order(mixture, workers):
    batches = list(make_data_loader(mixture, workers=workers, start_step=2, num_steps=9))
    assert hashes(batches) == expected_hashes(mixture, 9, start_step=2)
    with make_loader(mixture, num_steps=1, **OPTIONS) as loader:
        expected = next(loader)
    for batch in batches:
        assert type(batch) is dict and list(batch) == list(expected)
        assert {name: type(value) for name, value in batch.items()} == {n: type(v) for n, v in expected.items()}


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_that_do_not_inherit_anything_open_the_streams_themselves(mixture, method):
    loader = make_data_loader(mixture, workers=1, num_steps=3, multiprocessing_context=method)
    assert hashes(loader) == expected_hashes(mixture, 3)


@pytest.mark.filterwarnings("ignore:'pin_memory' argument")
@pytest.mark.parametrize("options", [{"prefetch_factor": 1}, {"prefetch_factor": 7}, {"pin_memory": True}])
def test_options_of_data_loader_change_nothing(mixture, options):
    assert hashes(make_data_loader(mixture, num_steps=20, **options)) == expected_hashes(mixture, 20)


@pytest.mark.skipif("worker_method" not in WorkerInfo.__annotations__, reason="this torch has no such workers")
def test_workers_that_are_threads_yield_plain_batches(mixture, monkeypatch):
    dataset = StreamDataset(mixture, num_steps=4, **OPTIONS)
    info = WorkerInfo(id=1, num_workers=2, seed=0, dataset=dataset, worker_method="thread")
    monkeypatch.setattr(torch.utils.data._utils.worker, "_worker_info", info)
    batches = list(dataset)
    assert hashes(batches) == expected_hashes(mixture, 4)[1::2]
    assert {type(batch) for batch in batches} == {dict}


def test_batches_that_are_kept_stay_what_they_were(mixture):
    kept = list(islice(make_data_loader(mixture, workers=1), 100))
    assert hashes(kept) == expected_hashes(mixture, 100)


def test_batches_outlive_their_workers(mixture):
    loader = make_data_loader(mixture, num_steps=5)
    kept = list(loader)
    del loader
    gc.collect()
    assert hashes(kept) == expected_hashes(mixture, 5)


def test_two_iterators_of_one_data_loader_do_not_mix(mixture):
    loader = make_data_loader(mixture, num_steps=8)
    expected = expected_hashes(mixture, 8)
    assert [(batch_hash(a), batch_hash(b)) for a, b in zip(loader, loader, strict=True)] == [(h, h) for h in expected]


@pytest.mark.parametrize("persistent", [False, True])
def test_an_iteration_broken_off_leaves_the_next_one_whole(mixture, persistent):
    loader = make_data_loader(mixture, num_steps=9, persistent_workers=persistent)
    expected = expected_hashes(mixture, 9)
    kept = []
    for stop in (1, 4, 9, 9):
        kept.append(list(islice(loader, stop)))
    assert [hashes(batches) for batches in kept] == [expected[:1], expected[:4], expected, expected]


def test_a_forked_child_may_look_at_a_batch_for_as_long_as_it_likes(mixture):
    batches = iter(make_data_loader(mixture, workers=1))
    batch = next(batches)
    expected = batch_hash(batch)
    wait, go = os.pipe()
    child = os.fork()
    if not child:
        os.close(go)
        os.read(wait, 1)
        os._exit(int(batch_hash(batch) != expected))
    del batch
    for _ in range(20):
        next(batches)
    os.write(go, b"1")
    assert os.waitpid(child, 0)[1] == 0
    os.close(wait), os.close(go)


def test_a_killed_worker_is_reported_and_what_it_delivered_stays(mixture):
    batches = iter(make_data_loader(mixture))
    kept = [next(batches) for _ in range(4)]
    os.kill(batches._workers[1].pid, signal.SIGKILL)  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        for _ in range(20):
            next(batches)
    assert hashes(kept) == expected_hashes(mixture, 4)


def test_memory_and_descriptors_stay_where_they_are(mixture):
    batches = iter(make_data_loader(mixture))

    def after(count: int) -> tuple[int, int]:
        hashes(islice(batches, count))
        resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
        return resident_pages * resource.getpagesize(), len(os.listdir("/proc/self/fd"))

    before_bytes, before_descriptors = after(100)
    after_bytes, after_descriptors = after(200)
    assert after_descriptors == before_descriptors
    batch_bytes = sum(value.nbytes for value in next(batches).values() if isinstance(value, torch.Tensor))
    assert after_bytes < before_bytes + 20 * batch_bytes, "200 batches more"


def test_nothing_stays_mapped_when_the_iterator_and_its_batches_are_gone(mixture):
    gc.collect()
    before = shared_mappings(), len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        batches = iter(make_data_loader(mixture))
        kept = [next(batches) for _ in range(5)]
        assert shared_mappings() > before[0]
        del batches, kept
    gc.collect()
    assert (shared_mappings(), len(os.listdir("/proc/self/fd"))) == before


def _limit_files(_: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


def test_a_worker_without_memory_raises_in_the_consumer(mixture):
    with pytest.raises(MemoryError, match="shared memory for batches"):
        next(iter(make_data_loader(mixture, worker_init_fn=_limit_files)))


def _halve(batch: dict) -> dict:
    batch["state"] = batch["state"] / 2
    return batch


def _only_g(batch: dict) -> tuple:
    return batch["g"], batch["image_primary"][:, -1]


def test_a_collate_function_is_given_a_dict_of_tensors(mixture):
    with make_loader(mixture, num_steps=6, **OPTIONS) as loader:
        expected = list(loader)
    halved = list(make_data_loader(mixture, num_steps=6, collate_fn=_halve))
    assert hashes(halved) == [batch_hash({**batch, "state": batch["state"] / 2}) for batch in expected]
    for batch, (g, image) in zip(expected, make_data_loader(mixture, num_steps=6, collate_fn=_only_g), strict=True):
        assert torch.equal(g, batch["g"]) and torch.equal(image, batch["image_primary"][:, -1])


def test_wrong_arguments_fail_in_the_process_that_gives_them(mixture):
    with pytest.raises(ValueError, match="wirst"):
        StreamDataset(mixture, batch_size=4, cameras=["wirst"])


@pytest.fixture
def damaged(tmp_path) -> StreamDataset:
    """Two batches of all nine steps of three episodes each, one image of them unreadable."""
    episodes = make_episodes("damaged", [3, 3, 3])
    episodes[0].images["wrist"][1] = b"no image"
    mixture = open_mixture([write_stream(tmp_path / "damaged", episodes)])
    return StreamDataset(mixture, batch_size=9, num_steps=2, on_corrupt="substitute")


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_substitutions_are_counted_where_the_batches_arrive(damaged, workers):
    list(DataLoader(damaged, batch_size=None, num_workers=workers))
    assert damaged.num_substituted == 2


def test_substitutions_are_logged(damaged, caplog):
    with caplog.at_level(logging.WARNING):
        list(damaged)
    assert "damaged" in caplog.text and "wrist" in caplog.text
