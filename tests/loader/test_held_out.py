"""Held-out windows: each once, in the same order every time, however many ranks there are."""

import numpy as np
import pytest

from oxe_pipeline.loader.loader import make_eval_loader
from tests.loader.conftest import batch_hash, joined


def test_held_out_windows_come_once_in_fixed_order_and_start_anew(mixture):
    loader = make_eval_loader(mixture, batch_size=5, chunk=2)
    batches = list(loader)
    places = [
        place
        for b in batches
        for place in zip(b["dataset"].tolist(), b["episode"].tolist(), b["step"].tolist(), strict=True)
    ]
    expected = [
        (d, episode, step)
        for d, dataset in enumerate(mixture.datasets)
        for episode in np.flatnonzero(dataset.stream.episodes.split_is("val")).tolist()
        for step in range(int(dataset.stream.episodes.length[episode]))
    ]
    assert places == expected
    assert len(loader) == len(batches)
    assert [batch_hash(batch) for batch in loader] == [batch_hash(batch) for batch in batches]


def test_ranks_share_the_held_out_windows(mixture):
    whole = joined(list(make_eval_loader(mixture, batch_size=100)))
    parts = [b for rank in range(3) for b in make_eval_loader(mixture, batch_size=2, rank=rank, world_size=3)]
    assert batch_hash(joined(parts)) == batch_hash(whole)
    with pytest.raises(ValueError, match="rank must be from 0 to world_size-1 = 1, is 2"):
        make_eval_loader(mixture, batch_size=2, rank=2, world_size=2)


def test_held_out_windows_can_be_limited_evenly(mixture):
    batches = list(make_eval_loader(mixture, batch_size=100, max_windows_per_dataset=5))
    dataset, step = batches[0]["dataset"].numpy(), batches[0]["step"].numpy()
    assert np.bincount(dataset).tolist() == [5, 5]
    assert len(set(step[dataset == 0].tolist())) == 5
    with pytest.raises(ValueError, match="split 'test'"):
        make_eval_loader(mixture, batch_size=5, split="test")
    with pytest.raises(ValueError, match=r"threads must be .* is 0"):
        make_eval_loader(mixture, batch_size=5, threads=0)
