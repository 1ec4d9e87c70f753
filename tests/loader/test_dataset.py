"""StreamDataset in a plain DataLoader: the sequence of make_loader, for any number of worker processes."""

import logging
from typing import Any

import pytest
from torch.utils.data import DataLoader

from oxe_pipeline.loader.dataset import StreamDataset
from oxe_pipeline.loader.loader import make_loader
from tests.loader.conftest import batch_hash

OPTIONS: dict[str, Any] = {"batch_size": 8, "chunk": 3, "history": 2, "camera_dropout": 0.2}


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_data_loader_yields_the_batches_of_make_loader_in_order(mixture, workers):
    with make_loader(mixture, num_steps=7, start_step=2, **OPTIONS) as loader:
        expected = [batch_hash(batch) for batch in loader]
    dataset = StreamDataset(mixture, num_steps=7, start_step=2, **OPTIONS)
    assert [batch_hash(batch) for batch in DataLoader(dataset, batch_size=None, num_workers=workers)] == expected


def test_workers_that_are_spawned_open_the_streams_themselves(mixture):
    dataset = StreamDataset(mixture, num_steps=2, **OPTIONS)
    loader = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context="spawn")
    with make_loader(mixture, num_steps=2, **OPTIONS) as expected:
        assert [batch_hash(batch) for batch in loader] == [batch_hash(batch) for batch in expected]


def test_wrong_arguments_fail_in_the_process_that_gives_them(mixture):
    with pytest.raises(ValueError, match="wirst"):
        StreamDataset(mixture, batch_size=4, cameras=["wirst"])


def test_substitutions_are_logged(tmp_path, caplog):
    from tests.loader.conftest import make_episodes, open_mixture
    from tests.synthetic import write_stream

    episodes = make_episodes("damaged", [3])
    episodes[0].images["wrist"][1] = b"no image"
    mixture = open_mixture([write_stream(tmp_path / "damaged", episodes)])
    with caplog.at_level(logging.WARNING):
        list(StreamDataset(mixture, batch_size=9, num_steps=1, on_corrupt="substitute"))
    assert "damaged" in caplog.text and "wrist" in caplog.text
