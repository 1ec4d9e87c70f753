"""Mixtures that draw through overlays: what is drawn, how often, and that a state knows which overlay it was."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from oxe_pipeline.loader.held_out import held_out_samples
from oxe_pipeline.mixture.config import MixtureConfig, MixtureConfigError
from oxe_pipeline.mixture.data_identity import StateError
from oxe_pipeline.mixture.mixture import load_mixture
from oxe_pipeline.mixture.shares import WeightError
from oxe_pipeline.overlays.make_overlay import OverlayRules, make_overlay
from oxe_pipeline.overlays.overlay import OverlayError, overlay_path, write_overlay
from oxe_pipeline.stream.reader import open_stream
from tests.stream.servers import FaultyServer
from tests.synthetic import make_stream

TRIPLED, HALVED = f"{1:016x}", f"{2:016x}"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("streams")
    for name, episodes, steps in (("alpha", 6, 9), ("beta", 3, 5)):
        stream = open_stream(make_stream(root / name, name, episodes=episodes, steps=steps, held_out=2))
        rules = {
            "long": OverlayRules(min_steps=steps - 2),
            "uneven": OverlayRules(weights={"w": {TRIPLED: Fraction(3), HALVED: Fraction(1, 2)}}),
            "val_only": OverlayRules(keep_episodes={"k": (f"{episodes:016x}",)}),
        }
        for overlay, asked in rules.items():
            write_overlay(overlay_path(stream.path, overlay), make_overlay(stream, overlay, asked))
    return root


def config(root, overlay="", **options) -> MixtureConfig:
    entries = [
        {"name": "alpha", "path": str(root / "alpha"), "overlay": overlay},
        {"name": "beta", "path": str(root / "beta"), "weight": 0.5},
    ]
    return MixtureConfig.model_validate({"datasets": entries, "seed": 5, **options})


def expected_windows(root, times_of_episode) -> Counter:
    """(episode, step) of alpha's train split to how often it comes in an epoch."""
    episodes = open_stream(root / "alpha").episodes
    train = np.flatnonzero(episodes.split_is("train")).tolist()
    return Counter({(e, s): n for e in train if (n := times_of_episode(e)) for s in range(episodes.length[e])})


@pytest.mark.parametrize(
    ("overlay", "times_of_episode"),
    [
        ("long", lambda episode: int(9 - episode % 5 >= 7)),
        ("uneven", lambda episode: {1: 6, 2: 1}.get(episode, 2)),
    ],
)
def test_each_window_comes_exactly_as_often_as_the_overlay_says_in_every_epoch(root, overlay, times_of_episode):
    mixture = load_mixture(config(root, overlay))
    expected = expected_windows(root, times_of_episode)
    alpha, beta = mixture.datasets
    assert (alpha.overlay, alpha.num_steps) == (overlay, expected.total())
    assert alpha.num_episodes == len({episode for episode, _ in expected})
    whole = expected_windows(root, lambda episode: 1)
    assert (alpha.split_steps, alpha.split_episodes) == (whole.total(), 6)
    assert (beta.overlay, beta.num_steps) == ("", beta.split_steps)
    g = np.arange(32 * 30)
    dataset, episode, step = mixture.locate(g)
    epoch = mixture.epochs(g)
    for full in (0, 1):
        here = (dataset == 0) & (epoch == full)
        assert Counter(zip(episode[here].tolist(), step[here].tolist(), strict=True)) == expected


def test_an_overlay_of_one_data_set_leaves_the_others_sample_for_sample(root):
    g = np.arange(2000)
    plain, filtered = (load_mixture(config(root, overlay)).locate(g) for overlay in ("", "long"))
    assert (plain[0] == filtered[0]).all()
    beta = plain[0] == 1
    assert all((a[beta] == b[beta]).all() for a, b in zip(plain, filtered, strict=True))
    assert any((a[~beta] != b[~beta]).any() for a, b in zip(plain, filtered, strict=True))


def test_weights_by_size_follow_what_can_be_drawn(root):
    for overlay in ("", "long", "uneven"):
        mixture = load_mixture(config(root, overlay, balance=True))
        alpha, beta = (dataset.num_steps for dataset in mixture.datasets)
        assert mixture.schedule.shares_at(0)["alpha"] == pytest.approx(alpha / (alpha + beta / 2), rel=1e-12)


def test_a_state_is_refused_under_another_overlay_with_both_identities(root):
    mixtures = {overlay: load_mixture(config(root, overlay)) for overlay in ("", "long", "uneven")}
    assert len({mixture.identity for mixture in mixtures.values()}) == 3
    stream = open_stream(root / "alpha").identity
    for saved, mixture in mixtures.items():
        state = mixture.state_dict(96)
        for overlay, other in mixtures.items():
            if overlay == saved:
                other.check_state(state)
                assert other.continued(state).samples(96, 200) == mixture.samples(96, 200)
                continue
            with pytest.raises(StateError, match=r"data set alpha differs: .*; name the same overlay") as raised:
                other.check_state(state)
            for part in (mixture.identity, other.identity, f"stream {stream}", *overlay_identities(mixture, other)):
                assert part in str(raised.value)
            with pytest.raises(StateError, match="data set alpha differs"):
                other.continued(state)


def overlay_identities(*mixtures) -> list[str]:
    """As a state holds them, behind the stream's; "" for none."""
    return [mixture.state_dict(0)["datasets"]["alpha"].partition("+")[2] for mixture in mixtures]


def test_reweighting_and_another_seed_keep_the_overlay(root):
    mixture = load_mixture(config(root, "long"))
    for changed in (mixture.with_seed(6), mixture.reweighted(64, {"alpha": 1})):
        assert changed.identity == mixture.identity and changed.datasets == mixture.datasets
        drawn = {sample.episode_id for sample in changed.samples(0, 500) if sample.dataset == "alpha"}
        assert drawn == {f"{episode:016x}" for episode in (0, 1, 2, 5)}


def test_held_out_windows_are_the_same_under_any_overlay(root):
    plain, filtered = (held_out_samples(load_mixture(config(root, overlay)), "val") for overlay in ("", "long"))
    assert (plain.episode == filtered.episode).all() and (plain.step == filtered.step).all()


def test_an_overlay_may_lie_anywhere_and_go_by_its_path(root, tmp_path):
    source = overlay_path(root / "alpha", "long")
    (tmp_path / "mine.arrow").write_bytes(source.read_bytes())
    by_path = load_mixture(config(root, str(tmp_path / "mine.arrow")))
    assert by_path.identity == load_mixture(config(root, "long")).identity


def test_a_stream_behind_a_url_takes_an_overlay_from_a_local_file(root, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with FaultyServer(root).running() as server:
        remote = config(root, str(overlay_path(root / "alpha", "long")))
        remote.datasets[0] = remote.datasets[0].model_copy(update={"path": f"{server.url}/alpha"})
        assert load_mixture(remote).samples(0, 200) == load_mixture(config(root, "long")).samples(0, 200)
        remote.datasets[0] = remote.datasets[0].model_copy(update={"overlay": "long"})
        with pytest.raises(MixtureConfigError, match=r"/alpha is a URL, where overlay 'long' is not looked for; give"):
            load_mixture(remote)


def test_an_overlay_that_leaves_nothing_of_the_split_is_refused_unless_its_weight_is_0(root):
    with pytest.raises(
        WeightError, match="alpha has a weight, but overlay val_only leaves nothing of its split 'train'"
    ):
        load_mixture(config(root, "val_only"))
    entries = [
        {**entry.model_dump(), "weight": float(entry.name == "beta")} for entry in config(root, "val_only").datasets
    ]
    unweighted = load_mixture(MixtureConfig.model_validate({"datasets": entries}))
    assert {sample.dataset for sample in unweighted.samples(0, 64)} == {"beta"}
    held_out = load_mixture(config(root, "val_only", split="val"))
    assert {sample.dataset for sample in held_out.samples(0, 64)} == {"alpha", "beta"}


def test_overlays_that_cannot_be_used_are_named(root, tmp_path):
    with pytest.raises(OverlayError, match="no such overlay; did you mean long"):
        load_mixture(config(root, "lnog"))
    with pytest.raises(OverlayError, match="was made for stream"):
        load_mixture(config(root, str(overlay_path(root / "beta", "long"))))
    with pytest.raises(MixtureConfigError, match=r"data set alpha: overlay s3://bucket/long\.arrow is a URL"):
        load_mixture(config(root, "s3://bucket/long.arrow"))
    with pytest.raises(OverlayError, match="is no name of an overlay"):
        load_mixture(config(root, "folder/long"))
