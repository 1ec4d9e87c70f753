"""Batches over HTTP are those of the folder, shards come before they are needed, and only those that will be."""

import dataclasses
import logging
import threading
import time
from collections import Counter

import numpy as np
import pytest
from torch.utils.data import DataLoader

from oxe_pipeline.loader.dataset import StreamDataset
from oxe_pipeline.loader.loader import make_eval_loader, make_loader
from oxe_pipeline.loader.prefetch import Prefetcher, ShardPlan, start_prefetch
from oxe_pipeline.loader.steps import StepSamples
from oxe_pipeline.mixture.mixture import Mixture
from oxe_pipeline.mixture.schedule import Schedule
from oxe_pipeline.stream.cache import CacheOptions
from oxe_pipeline.stream.format import StreamError
from oxe_pipeline.stream.reader import open_stream
from tests.loader.conftest import batch_hash, make_episodes
from tests.stream.servers import Fault, FaultyServer, nginx
from tests.synthetic import write_stream

pytest.importorskip("aiohttp", reason="aiohttp is not installed (pip install aiohttp)")
BATCH, STEPS = 8, 12


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Streams `many` of 20 shards of one episode each, and `few` of two."""
    root = tmp_path_factory.mktemp("served")
    write_stream(root / "many", make_episodes("many", [6] * 20), episodes_per_shard=1)
    write_stream(root / "few", make_episodes("few", [5] * 8, control_hz=50.0), episodes_per_shard=4)
    return root


@pytest.fixture
def options(tmp_path):
    return CacheOptions(folder=tmp_path / "cache", attempts=2, backoff_s=0.01, renew_s=0.2)


@pytest.fixture
def server(root):
    with FaultyServer(root).running() as server:
        yield server


def mixture_of(base, options=None) -> Mixture:
    streams = {name: open_stream(f"{base}/{name}", cache=options) for name in ("many", "few")}
    return Mixture(streams, Schedule.from_weights({"many": 2, "few": 1}), seed=3)


def room_for(shards: int, root, options: CacheOptions) -> CacheOptions:
    manifest = open_stream(root / "many").manifest
    largest = max(shard.steps_file.bytes + shard.images_file.bytes for shard in manifest.shards)
    return dataclasses.replace(options, limit_bytes=shards * largest)


def hashes(batches) -> list[str]:
    return [batch_hash(batch) for _, batch in zip(range(STEPS), batches, strict=False)]


def until(condition, timeout_s=20.0) -> bool:
    end = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@pytest.fixture(scope="module")
def expected(root) -> list[str]:
    with make_loader(mixture_of(root), batch_size=BATCH, chunk=4, history=2) as loader:
        return hashes(loader)


def test_batches_over_nginx_are_those_of_the_folder(root, tmp_path, options, expected):
    with (
        nginx(root, tmp_path) as served,
        make_loader(mixture_of(served.url, options), batch_size=BATCH, chunk=4, history=2) as loader,
    ):
        assert hashes(loader) == expected


def test_so_are_they_with_a_cache_that_holds_a_few_shards_and_a_server_that_fails(root, server, options, expected):
    server.faults += [
        Fault("0006-000.images.arrow", times=1, cut_after=500),
        Fault("0004-000.images.arrow", times=1, status=503),
        Fault("0005-000.steps.arrow", times=1, flip_byte=50),
    ]
    with make_loader(
        mixture_of(server.url, room_for(4, root, options)), batch_size=BATCH, chunk=4, history=2
    ) as loader:
        assert hashes(loader) == expected
    assert not any(fault.times for fault in server.faults)


@pytest.mark.parametrize("workers", [0, 2])
def test_so_are_they_in_the_workers_of_a_data_loader(server, options, expected, workers):
    dataset = StreamDataset(mixture_of(server.url, options), batch_size=BATCH, num_steps=STEPS, chunk=4, history=2)
    assert hashes(DataLoader(dataset, batch_size=None, num_workers=workers)) == expected


def test_held_out_batches_are_those_of_the_folder(root, server, options):
    def held_out(mixture):
        return hashes(make_eval_loader(mixture, batch_size=BATCH))

    assert held_out(mixture_of(server.url, options)) == held_out(mixture_of(root))


def first_needed(mixture: Mixture, step: int, stop: int) -> list[tuple[int, int]]:
    """(data set, shard) in the order of first use, sample by sample."""
    found: list[tuple[int, int]] = []
    for dataset, episode, _ in zip(*mixture.locate(np.arange(step * BATCH, stop * BATCH)), strict=True):
        shard = int(dataset), int(mixture.datasets[dataset].stream.episodes.shard[episode])
        if shard not in found:
            found.append(shard)
    return found


def streams_of(mixture: Mixture) -> list:
    return [dataset.stream for dataset in mixture.datasets]


@pytest.mark.parametrize("step", [0, 5, 700])
def test_the_plan_is_the_order_of_need(server, options, step):
    mixture = mixture_of(server.url, options)
    plan = ShardPlan(streams_of(mixture), StepSamples(mixture, BATCH), first=step, stop=step + 40)
    assert plan.needed(step) == first_needed(mixture, step, step + 40)


def test_the_plan_never_holds_more_than_two_thirds_of_the_cache(root, server, options):
    mixture = mixture_of(server.url, room_for(8, root, options))
    plan = ShardPlan(streams_of(mixture), StepSamples(mixture, BATCH), first=0, stop=None)
    needed = plan.needed(0)
    total = sum(mixture.datasets[dataset].stream.shard_bytes(shard) for dataset, shard in needed)
    assert needed == first_needed(mixture, 0, 40)[: len(needed)]
    assert len(needed) >= 2 and total <= streams_of(mixture)[0].cache_options.limit_bytes * 2 / 3


def test_a_plan_that_has_passed_a_step_forgets_what_only_it_needed(root, server, options):
    mixture = mixture_of(server.url, options)
    plan = ShardPlan(streams_of(mixture), StepSamples(mixture, 4096), first=0, stop=20)
    plan.needed(0)
    for step in (3, 19, 20):
        left = mixture.locate(np.arange(step * 4096, 20 * 4096))[0]
        assert {dataset for dataset, _ in plan.needed(step)} == set(left.tolist())


def test_local_streams_need_no_prefetch(root, server, options):
    mixture = mixture_of(root)
    assert start_prefetch(streams_of(mixture), StepSamples(mixture, BATCH), first=0, stop=None) is None


def test_shards_are_here_before_the_loader_needs_them(root, server, options):
    mixture = mixture_of(server.url, options)
    with make_loader(mixture, batch_size=BATCH, threads=1, prefetch=1, num_steps=200) as loader:
        next(loader)
        needed = first_needed(mixture, 0, 200)
        assert len(needed) == 17, "15 of the 20 shards of `many` hold train episodes, and both of `few`"
        assert until(lambda: all(mixture.datasets[dataset].stream.is_here(shard) for dataset, shard in needed))
        sent = len(server.sent)
        for _ in loader:
            pass
        assert len(server.sent) == sent


def test_in_an_order_over_shards_each_is_fetched_once_though_few_fit(root, server, options):
    options = dataclasses.replace(room_for(6, root, options), renew_s=2)
    streams = {"many": open_stream(f"{server.url}/many", cache=options)}
    mixture = Mixture(streams, Schedule.from_weights({"many": 1}))
    for _ in make_eval_loader(mixture, batch_size=4, split="train"):
        time.sleep(0.02)
    entries = streams["many"].manifest.all_files()
    fetched = {name: server.requests_of(name) for name in entries if name.endswith("images.arrow")}
    in_split = {int(shard) for shard in streams["many"].episodes.shard[streams["many"].episodes.split_is("train")]}
    assert sorted(fetched.values()) == [0] * (20 - len(in_split)) + [1] * len(in_split)


def test_shuffled_within_pools_of_shards_an_epoch_fetches_each_shard_once_though_few_fit(root, server, options):
    options = dataclasses.replace(room_for(9, root, options), renew_s=2)
    streams = {"many": open_stream(f"{server.url}/many", cache=options)}
    mixture = Mixture(streams, Schedule.from_weights({"many": 1}), seed=5, pool_shards=3)
    steps = mixture.datasets[0].num_steps // BATCH
    with make_loader(mixture, batch_size=BATCH, threads=2, num_steps=steps) as loader:
        for _ in loader:
            time.sleep(0.05)
    fetched = Counter(name for name, _, _ in server.sent if name.endswith("images.arrow"))
    assert len(fetched) == mixture.datasets[0].num_episodes
    # The first was read at the start, too, for the size of its images.
    assert {name for name, times in fetched.items() if times > 1} <= {"/many/shards/00000-000.images.arrow"}


def test_what_cannot_be_fetched_ahead_is_told_when_it_is_needed(root, server, options, caplog):
    mixture = mixture_of(server.url, options)
    dataset, shard = last = first_needed(mixture, 0, 200)[-1]
    assert last not in first_needed(mixture, 0, 3), "the order is a function of the seed: it is needed later"
    name = mixture.datasets[dataset].stream.manifest.shards[shard].images_name
    server.faults.append(Fault(f"{mixture.datasets[dataset].name}/{name}", times=10**6, status=404))
    with make_loader(mixture, batch_size=BATCH, threads=1, prefetch=1) as loader, caplog.at_level(logging.WARNING):
        next(loader)
        assert until(lambda: "not fetched ahead" in caplog.text)
        with pytest.raises(StreamError, match=rf"{name}: absent"):
            for _ in loader:
                pass


def test_closing_does_not_wait_for_a_server_that_hangs(root, server, options):
    mixture = mixture_of(server.url, dataclasses.replace(options, timeout_s=30))
    server.faults.append(Fault("images.arrow", times=10**6, wait_s=5))
    prefetcher = Prefetcher(streams_of(mixture), StepSamples(mixture, BATCH), first=0, stop=None)
    assert until(lambda: len(list(options.folder.glob("*.part"))) > 0)
    started = time.monotonic()
    prefetcher.close()
    assert time.monotonic() - started < 3


def test_threads_end_with_the_prefetcher_that_is_forgotten(root, server, options):
    def running():
        return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch-")]

    assert until(lambda: not running())
    mixture = mixture_of(server.url, options)
    prefetcher = Prefetcher(streams_of(mixture), StepSamples(mixture, BATCH), first=0, stop=None, threads=2)
    assert len(running()) == 3
    del prefetcher
    assert until(lambda: not running())
