"""The same batches whatever the layout: threads, ranks, workers, resume, a killed process. Whole batches are hashed."""

import gc
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oxe_pipeline.loader.loader import make_loader
from oxe_pipeline.mixture.data_identity import StateError
from tests.loader.conftest import batch_hash, joined, make_episodes, open_mixture
from tests.synthetic import write_stream

ROOT = Path(__file__).parents[2]
EVERYTHING: dict[str, Any] = {"chunk": 4, "history": 3, "camera_dropout": 0.3, "goal_images": True}
STEPS, BATCH = 7, 12


def hashes(loader, count=STEPS) -> list[str]:
    with loader:
        return [batch_hash(batch) for _, batch in zip(range(count), loader, strict=False)]


@pytest.fixture(scope="module")
def expected(mixture) -> list[str]:
    return hashes(make_loader(mixture, batch_size=BATCH, threads=1, prefetch=1, **EVERYTHING))


@pytest.mark.parametrize(("threads", "prefetch"), [(1, 5), (2, 1), (2, 3), (5, 2)])
def test_any_number_of_threads_makes_the_same_batches(mixture, expected, threads, prefetch):
    assert hashes(make_loader(mixture, batch_size=BATCH, threads=threads, prefetch=prefetch, **EVERYTHING)) == expected


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_slices_of_all_ranks_joined_are_the_batch_of_one_rank(mixture, expected, world_size):
    loaders = [
        make_loader(mixture, batch_size=BATCH, rank=rank, world_size=world_size, **EVERYTHING)
        for rank in range(world_size)
    ]
    for step in range(STEPS):
        parts = [next(loader) for loader in loaders]
        assert batch_hash(joined(parts)) == expected[step]


def test_resume_at_any_step_goes_on_with_the_very_next_batch_on_other_threads(mixture, expected):
    for step in range(STEPS):
        first = make_loader(mixture, batch_size=BATCH, threads=1, **EVERYTHING)
        hashes(first, step)
        state = json.loads(json.dumps(first.state_dict()))
        resumed = make_loader(mixture, batch_size=BATCH, threads=3, **EVERYTHING)
        resumed.load_state_dict(state)
        assert hashes(resumed, STEPS - step) == expected[step:]


def test_a_state_does_not_count_batches_that_were_only_made_ahead(mixture):
    with make_loader(mixture, batch_size=BATCH, prefetch=5) as loader:
        next(loader)
        time.sleep(0.2)
        assert loader.state_dict()["step"] == 1


def test_a_process_that_is_killed_goes_on_where_its_last_state_says(mixture, folders, expected, tmp_path):
    script = (
        "import json, sys; from pathlib import Path; from tests.loader.conftest import open_mixture, batch_hash\n"
        "from oxe_pipeline import make_loader\n"
        f"loader = make_loader(open_mixture([Path(p) for p in sys.argv[1:]]), batch_size={BATCH}, **{EVERYTHING})\n"
        "for batch in loader:\n"
        "    print(json.dumps([batch_hash(batch), loader.state_dict()]), flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, folders)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    lines = [json.loads(process.stdout.readline()) for _ in range(3)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert [line[0] for line in lines] == expected[:3]
    resumed = make_loader(mixture, batch_size=BATCH, **EVERYTHING)
    resumed.load_state_dict(lines[-1][1])
    assert hashes(resumed, STEPS - 3) == expected[3:]


def test_a_state_of_other_data_is_refused_with_both_identities(mixture, tmp_path):
    other = open_mixture(
        [write_stream(tmp_path / "slow", make_episodes("slow", [9, 9])), mixture.datasets[0].stream.path]
    )
    state = make_loader(other, batch_size=BATCH).state_dict()
    with pytest.raises(StateError) as refused:
        make_loader(mixture, batch_size=BATCH).load_state_dict(state)
    assert mixture.identity in str(refused.value) and other.identity in str(refused.value)


def test_a_state_of_another_seed_or_format_is_refused(mixture):
    loader = make_loader(mixture, batch_size=BATCH)
    with pytest.raises(StateError, match="seed 99"):
        loader.load_state_dict(make_loader(mixture, batch_size=BATCH, seed=99).state_dict())
    with pytest.raises(StateError, match="format 1"):
        loader.load_state_dict({**loader.state_dict(), "format": 1})


def test_the_batch_size_may_change_at_every_resume_and_no_sample_is_lost_or_repeated(mixture):
    whole = make_loader(mixture, batch_size=90, threads=1, **EVERYTHING)
    parts, state = [], whole.state_dict()
    for batch_size, steps in ((12, 2), (7, 3), (30, 1), (5, 3)):
        with make_loader(mixture, batch_size=batch_size, **EVERYTHING) as loader:
            loader.load_state_dict(json.loads(json.dumps(state)))
            parts += [next(loader) for _ in range(steps)]
            state = loader.state_dict()
    assert (state["step"], state["mixture"]["g"]) == (9, 90)
    with whole:
        assert batch_hash(joined(parts)) == batch_hash(next(whole))


def test_a_run_over_epochs_ends_with_the_last_window_and_its_ranks_share_what_is_left(folders):
    mixture = open_mixture(folders[:1])
    steps = mixture.datasets[0].num_steps
    assert mixture.samples_per_epoch() == steps and steps % BATCH
    seen = []
    for rank in range(3):
        with make_loader(
            mixture, batch_size=BATCH, rank=rank, world_size=3, num_samples=2 * steps, cameras=[]
        ) as loader:
            batches = list(loader)
            assert len(batches) == loader.num_steps == -(-2 * steps // BATCH)
        seen += [
            (g, place)
            for b in batches
            for g, *place in zip(*(b[name].tolist() for name in ("g", "episode", "step")), strict=True)
        ]
    assert sorted(g for g, _ in seen) == list(range(2 * steps))
    for epoch in (range(steps), range(steps, 2 * steps)):
        assert len({tuple(place) for g, place in seen if g in epoch}) == steps


def test_a_mixtures_epoch_is_over_when_every_data_set_was_seen_whole(mixture):
    samples = mixture.samples_per_epoch()
    sizes = [dataset.num_steps for dataset in mixture.datasets]

    def seen(count: int) -> list[int]:
        dataset, episode, step = mixture.locate(np.arange(count))
        return [len(set(zip(episode[dataset == d], step[dataset == d], strict=True))) for d in range(len(sizes))]

    assert seen(samples) == sizes
    assert seen(samples - 32) != sizes


def test_batches_hold_the_samples_that_the_mixture_names(mixture):
    with make_loader(mixture, batch_size=BATCH, start_step=3) as loader:
        batch = next(loader)
    named = mixture.samples(3 * BATCH, 4 * BATCH)
    assert batch["g"].tolist() == [sample.g for sample in named]
    assert batch["step"].tolist() == [sample.step for sample in named]
    assert [mixture.datasets[d].name for d in batch["dataset"].tolist()] == [sample.dataset for sample in named]
    for sample, dataset, episode in zip(named, batch["dataset"].tolist(), batch["episode"].tolist(), strict=True):
        assert mixture.datasets[dataset].stream.episodes.episode_id(episode) == sample.episode_id


def test_instructions_are_drawn_evenly_among_an_episodes_own(mixture):
    seen: dict[tuple[int, int], list[str]] = {}
    with make_loader(mixture, batch_size=256, cameras=[], num_steps=8) as loader:
        for batch in loader:
            for place in zip(batch["dataset"].tolist(), batch["episode"].tolist(), batch["instruction"], strict=True):
                seen.setdefault(place[:2], []).append(place[2])
    for (dataset, episode), texts in seen.items():
        ids = mixture.datasets[dataset].stream.episodes.instruction_ids(episode)
        assert set(texts) <= {mixture.datasets[dataset].stream.instructions[i] for i in ids}
        if len(ids) == 2 and len(texts) > 100:
            assert 0.3 < texts.count(texts[0]) / len(texts) < 0.7
    with make_loader(mixture, batch_size=64, cameras=[], instruction="main") as loader:
        assert not any(text.startswith("shove") for text in next(loader)["instruction"])


def test_num_steps_ends_the_stream_at_the_same_step_after_a_resume(mixture):
    assert len(hashes(make_loader(mixture, batch_size=4, num_steps=5), 100)) == 5
    assert len(hashes(make_loader(mixture, batch_size=4, num_steps=5, start_step=3), 100)) == 2


def test_counters_tell_waiting_and_realised_shares(mixture):
    with make_loader(mixture, batch_size=96, cameras=[]) as loader:
        for _ in range(3):
            next(loader)
    assert loader.wait_s > 0
    assert loader.samples_per_dataset.sum() == 3 * 96
    shares = mixture.schedule.shares_at(0)
    assert all(abs(share - shares[name]) * 288 <= 1 for name, share in loader.realised_shares().items())


def batch_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("batch")}


def test_threads_end_with_close_and_with_the_loader(mixture):
    before = batch_threads()
    loader = make_loader(mixture, batch_size=BATCH, threads=2)
    next(loader)
    assert len(batch_threads() - before) == 2
    loader.close()
    assert batch_threads() <= before
    next(loader)
    del loader
    gc.collect()
    for _ in range(100):
        if batch_threads() <= before:
            return
        time.sleep(0.05)
    raise AssertionError(f"still there: {batch_threads() - before}")


def test_memory_stays_flat_over_many_batches(mixture):
    def resident_mb() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

    with make_loader(mixture, batch_size=32, chunk=4, threads=2) as loader:
        for _ in range(300):
            next(loader)
        settled = resident_mb()
        for _ in range(1200):
            next(loader)
        # 1,200 batches of 0.2 MB of pixels each: any that stayed would show.
        assert resident_mb() - settled < 20


def test_a_kept_batch_is_not_written_to_by_later_ones(mixture):
    with make_loader(mixture, batch_size=BATCH, threads=2) as loader:
        kept = next(loader)
        before = batch_hash(kept)
        part_of_another = next(loader)["image_primary"][2:3]
        copy = part_of_another.clone()
        for _ in range(20):
            next(loader)
        assert batch_hash(kept) == before
        assert torch.equal(part_of_another, copy)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size.*0"),
        ({"batch_size": 2, "world_size": 3}, "leaves some of 3 ranks"),
        ({"batch_size": 4, "rank": 2, "world_size": 2}, "rank"),
        ({"batch_size": 4, "num_samples": -1}, "num_samples must be a whole number of 0 or more, is -1"),
        ({"batch_size": 4, "chunk": 0}, "chunk"),
        ({"batch_size": 4, "chunk_s": -1.0}, "chunk_s"),
        ({"batch_size": 4, "chunk_s": float("inf")}, "chunk_s"),
        ({"batch_size": 4, "cameras": ["wirst"]}, "wirst.*wrist"),
        ({"batch_size": 4, "cameras": ["wrist", "wrist"]}, "cameras must be different"),
        ({"batch_size": 4, "threads": 0}, "threads must be .* is 0"),
        ({"batch_size": 4, "prefetch": 0}, "prefetch must be .* is 0"),
        ({"batch_size": 4, "cameras": ["secondary"]}, "no data set of the mixture has it"),
        ({"batch_size": 4, "camera_dropout": 1.5}, "camera_dropout"),
        ({"batch_size": 4, "on_corrupt": "skip"}, "on_corrupt"),
        ({"batch_size": 4, "start_step": -1}, "start_step"),
        ({"batch_size": 4, "image_size": 0}, "image_size"),
        ({"batch_size": 4, "image_size": 64.0}, "image_size"),
        ({"batch_size": 4, "image_size": (64, 64, 3)}, "image_size"),
    ],
)
def test_wrong_arguments_fail_before_work_starts(mixture, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_loader(mixture, **arguments)


def test_running_the_loader_loads_no_tensorflow_and_no_beam(folders):
    script = (
        "import sys; from pathlib import Path; import oxe_pipeline, oxe_pipeline.loader.loader\n"
        "assert 'torch' not in sys.modules, 'importing the loader must not import torch'\n"
        "from tests.loader.conftest import open_mixture; from oxe_pipeline import StreamDataset, make_loader\n"
        "mixture = open_mixture([Path(p) for p in sys.argv[1:]])\n"
        "next(make_loader(mixture, batch_size=4)), next(iter(StreamDataset(mixture, batch_size=4)))\n"
        "heavy = {'tensorflow', 'apache_beam', 'tensorflow_datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script, *map(str, folders)], check=True, cwd=ROOT)
