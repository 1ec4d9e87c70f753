"""Mixture over real streams: every number leads to a real step, and a state means the very same samples."""

import json
import pickle
from collections import Counter

import numpy as np
import pytest

from oxe_pipeline.mixture.config import MixtureConfig, MixtureConfigError
from oxe_pipeline.mixture.data_identity import StateError
from oxe_pipeline.mixture.mixture import load_mixture
from oxe_pipeline.mixture.shares import WeightError
from oxe_pipeline.stream.format import StreamError
from oxe_pipeline.stream.reader import open_stream
from tests.synthetic import make_stream


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("streams")
    make_stream(root / "alpha", "alpha", episodes=6, steps=9)
    make_stream(root / "beta", "beta", episodes=3, steps=5)
    make_stream(root / "no_val", "no_val", episodes=2, held_out=0)
    return root


def config(root, *names, **options) -> MixtureConfig:
    entries = [{"name": name, "path": str(root / name), "weight": weight} for name, weight in names]
    return MixtureConfig.model_validate({"datasets": entries, **options})


@pytest.fixture
def mixture(root):
    return load_mixture(config(root, ("beta", 0.5), ("alpha", 1), seed=5))


def test_every_train_step_of_every_data_set_comes_once_per_epoch(root, mixture):
    dataset, episode, step = mixture.locate(np.arange(32 * 40))
    epoch = mixture.epochs(np.arange(32 * 40))
    for number, name in enumerate(("alpha", "beta")):
        episodes = open_stream(root / name).episodes
        train = np.flatnonzero(episodes.split_is("train"))
        expected = Counter((e, s) for e in train.tolist() for s in range(episodes.length[e]))
        for full in (0, 1, 2):
            here = (dataset == number) & (epoch == full)
            assert Counter(zip(episode[here].tolist(), step[here].tolist(), strict=True)) == expected
        assert mixture.datasets[number].name == name
        assert mixture.datasets[number].num_steps == sum(expected.values())
        assert mixture.datasets[number].num_episodes == len(train)


def test_samples_lead_back_to_the_source_episode_and_step(mixture):
    dataset, episode, step = mixture.locate(np.arange(70, 90))
    for position, sample in enumerate(mixture.samples(70, 90)):
        assert sample.g == 70 + position and sample.step == step[position]
        stream = mixture.datasets[dataset[position]].stream
        assert sample.dataset == mixture.datasets[dataset[position]].name
        assert stream.episodes.episode_id(episode[position]) == sample.episode_id
        # The synthetic streams write the step number into the first action slot.
        assert stream.vector("action", episode[position])[sample.step, 0] == sample.step


def test_a_pickled_mixture_draws_the_same(mixture):
    g = np.arange(200)
    copy = pickle.loads(pickle.dumps(mixture))
    assert all((a == b).all() for a, b in zip(copy.locate(g), mixture.locate(g), strict=True))
    assert copy.identity == mixture.identity


def test_a_mixture_file_opens_with_paths_relative_to_it(root, tmp_path, mixture):
    (root / "mix.yaml").write_text(
        "{seed: 5, datasets: [{name: alpha, path: alpha}, {name: beta, path: beta, weight: 0.5}]}"
    )
    opened = load_mixture(root / "mix.yaml")
    assert opened.samples(0, 50) == mixture.samples(0, 50)


def test_another_split_may_be_drawn_from_and_leaves_out_what_lacks_it(root):
    chosen = config(root, ("alpha", 1), ("no_val", 1))
    held_out = load_mixture(chosen, split="val")
    assert {sample.dataset for sample in held_out.samples(0, 100)} == {"alpha"}
    assert held_out.identity != load_mixture(chosen).identity
    with pytest.raises(WeightError, match="no data set of the mixture has an episode in split 'test'"):
        load_mixture(chosen, split="test")


def test_balance_gives_shares_by_train_steps(root):
    mixture = load_mixture(config(root, ("alpha", 1), ("beta", 2), balance=True))
    steps = {dataset.name: dataset.num_steps for dataset in mixture.datasets}
    total = steps["alpha"] + 2 * steps["beta"]
    assert mixture.schedule.shares_at(0) == {"alpha": steps["alpha"] / total, "beta": 2 * steps["beta"] / total}


def test_a_state_is_small_json_and_fits_only_the_mixture_it_is_of(root, mixture):
    state = json.loads(json.dumps(mixture.state_dict(96)))
    assert len(json.dumps(state)) < 600
    mixture.check_state(state)
    with pytest.raises(StateError, match="saved with seed 5, this mixture has seed 6"):
        mixture.with_seed(6).check_state(state)
    with pytest.raises(StateError, match="split 'train', this mixture draws from 'val'"):
        load_mixture(config(root, ("beta", 0.5), ("alpha", 1), seed=5), split="val").check_state(state)
    with pytest.raises(StateError, match=r"no state of a mixture: datasets, .* missing"):
        mixture.check_state({"g": 0})
    with pytest.raises(StateError, match="saved with pool_shards None, this mixture has 2; use the same"):
        load_mixture(config(root, ("beta", 0.5), ("alpha", 1), seed=5, pool_shards=2)).check_state(state)
    with pytest.raises(StateError, match="order version 0"):
        mixture.check_state({**state, "order_version": 0})


def test_a_state_over_other_data_is_refused_with_both_identities(root, tmp_path, mixture):
    state = mixture.state_dict(96)
    make_stream(tmp_path / "beta", "beta", episodes=4, steps=5)
    other = config(root, ("alpha", 1)).datasets + config(tmp_path, ("beta", 0.5)).datasets
    changed = load_mixture(MixtureConfig(datasets=other, seed=5))
    with pytest.raises(StateError, match="data set beta differs") as raised:
        changed.check_state(state)
    for identity in (open_stream(root / "beta").identity, open_stream(tmp_path / "beta").identity):
        assert identity in str(raised.value)
    with pytest.raises(StateError, match=r"data set beta differs.*none of that name"):
        load_mixture(config(root, ("alpha", 1), seed=5)).continued(state)


def test_weights_may_change_at_a_resume_without_touching_what_was_drawn(root, mixture):
    state = mixture.state_dict(96)
    changed = load_mixture(config(root, ("alpha", 0.5), ("beta", 1), ("no_val", 1), seed=5))
    with pytest.raises(StateError, match="weights before sample 96 differ"):
        changed.check_state(state)
    continued = changed.continued(state)
    continued.check_state(state)
    assert continued.samples(0, 96) == mixture.samples(0, 96)
    assert continued.schedule.shares_at(96) == {"alpha": 0.2, "beta": 0.4, "no_val": 0.4}
    assert mixture.reweighted(96, {"beta": 1}).samples(0, 96) == mixture.samples(0, 96)


def test_a_resume_with_the_same_weights_goes_on_as_if_nothing_had_happened(root, mixture):
    state = mixture.state_dict(100)
    fresh = load_mixture(config(root, ("alpha", 2), ("beta", 1))).continued(state)
    assert fresh.seed == 5
    assert fresh.samples(100, 400) == mixture.samples(100, 400)


def test_a_resume_after_a_change_of_weights_keeps_that_change(mixture):
    changed = mixture.reweighted(64, {"alpha": 1, "beta": 3})
    continued = mixture.reweighted(0, {"alpha": 1, "beta": 3}).continued(changed.state_dict(500))
    assert continued.samples(0, 700) == changed.samples(0, 700)


def test_a_resume_with_a_new_schedule_takes_on_its_later_changes_too(mixture):
    state = mixture.state_dict(100)
    planned = mixture.reweighted(0, {"alpha": 1, "beta": 3}).reweighted(1000, {"beta": 1})
    continued = planned.continued(state)
    assert continued.samples(0, 128) == mixture.samples(0, 128)
    assert continued.schedule.shares_at(128) == {"alpha": 0.25, "beta": 0.75}
    assert continued.schedule.shares_at(1024) == {"alpha": 0, "beta": 1}
    assert planned.continued(continued.state_dict(500)).samples(0, 1200) == continued.samples(0, 1200)


def test_streams_that_cannot_be_opened_are_named(root, tmp_path):
    with pytest.raises(MixtureConfigError, match="data set alpha has no path"):
        load_mixture(MixtureConfig.model_validate({"datasets": [{"name": "alpha"}]}))
    with pytest.raises(StreamError, match="no stream"):
        load_mixture(config(tmp_path, ("nothing", 1)))


def test_a_pooled_mixture_shows_every_window_once_and_few_shards_at_a_time(root):
    pooled = load_mixture(config(root, ("alpha", 1), seed=5, pool_shards=1))
    stream = pooled.datasets[0].stream
    steps = pooled.datasets[0].num_steps
    _, episode, step = pooled.locate(np.arange(steps))
    assert len(set(zip(episode.tolist(), step.tolist(), strict=True))) == steps
    shard_changes = np.count_nonzero(np.diff(stream.episodes.shard[episode]))
    assert shard_changes == len(np.unique(stream.episodes.shard[episode])) - 1
