"""States of a loader: which sample they lead to, in whatever order they are loaded."""

import pytest

from oxe_pipeline.loader.loader import make_loader
from oxe_pipeline.mixture.data_identity import StateError


def test_an_older_state_may_be_loaded_after_a_newer_one(mixture):
    before = make_loader(mixture, batch_size=4, start_step=10).state_dict()
    with make_loader(mixture, batch_size=8, threads=1) as loader:
        loader.load_state_dict(before)
        next(loader)
        older, expected = loader.state_dict(), next(loader)["g"].tolist()
        newer = loader.state_dict()
        loader.load_state_dict(newer)
        loader.load_state_dict(older)
        assert next(loader)["g"].tolist() == expected == list(range(48, 56))


def test_a_loader_that_ends_before_the_state_has_ended_and_keeps_its_place(mixture):
    state = make_loader(mixture, batch_size=4, start_step=25).state_dict()
    with make_loader(mixture, batch_size=8, num_samples=50, threads=1) as loader:
        loader.load_state_dict(state)
        assert list(loader) == []
        assert loader.g == 100 and loader.state_dict()["mixture"] == state["mixture"]


def test_what_is_no_state_of_a_loader_is_refused_by_name(mixture):
    loader = make_loader(mixture, batch_size=4)
    with pytest.raises(StateError, match="no state of a loader: mixture, step missing"):
        loader.load_state_dict({"format": 2})
    state = loader.state_dict()
    del state["mixture"]["pool_shards"]
    with pytest.raises(StateError, match="no state of a mixture: pool_shards missing"):
        loader.load_state_dict(state)
