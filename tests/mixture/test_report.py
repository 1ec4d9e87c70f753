"""What the report says agrees with what a draw does."""

from fractions import Fraction

import numpy as np
import pytest

from oxe_pipeline.mixture.config import MixtureConfig
from oxe_pipeline.mixture.eligible import train_steps
from oxe_pipeline.mixture.mixture import load_mixture
from oxe_pipeline.mixture.report import chunks, count_draw, draw_rows, requested_counts, share_rows
from oxe_pipeline.mixture.weights import effective_weights
from tests.synthetic import make_stream


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = tmp_path_factory.mktemp("streams")
    entries = [("alpha", 6, 1.0), ("beta", 3, 0.3), ("gamma", 2, 0.0)]
    for name, episodes, _ in entries:
        make_stream(root / name, name, episodes=episodes)
    return MixtureConfig.model_validate(
        {
            "datasets": [{"name": name, "path": str(root / name), "weight": weight} for name, _, weight in entries],
            "schedule": [{"start": 1000, "weights": {"alpha": 1, "gamma": 1}}],
        }
    )


def test_samples_per_epoch_are_where_the_last_window_is_first_seen(config):
    mixture = load_mixture(config)
    streams = {dataset.name: dataset.stream for dataset in mixture.datasets}
    rows = share_rows(mixture, config.weights_from(), effective_weights(config, train_steps(streams)))
    assert list(rows) == [0, 1024]
    alpha, beta, gamma = rows[0]
    assert (alpha.dataset, alpha.weight, alpha.share) == ("alpha", 1.0, pytest.approx(1 / 1.3))
    assert gamma.samples_per_epoch is None and gamma.epochs_per_million == 0
    epochs = mixture.epochs(np.arange(1024))
    dataset = mixture.locate(np.arange(1024))[0]
    for number, row in enumerate((alpha, beta)):
        last_of_first_epoch = np.flatnonzero((dataset == number) & (epochs == 0)).max() + 1
        assert abs(last_of_first_epoch - row.samples_per_epoch) <= 32
        assert row.epochs_per_million == pytest.approx(1e6 / row.samples_per_epoch)
        assert row.share_error < 1e-12


def test_a_draw_is_counted_beside_what_was_asked_for(config):
    mixture = load_mixture(config)
    effective = effective_weights(config, {dataset.name: dataset.num_steps for dataset in mixture.datasets})
    counts = count_draw(mixture, chunks(100_000))
    assert counts.sum() == 100_000
    rows = draw_rows(mixture, effective, counts)
    assert max(abs(row.error_samples) for row in rows) < 2  # One sample in each of the two segments at most.
    assert sum(row.realised_share for row in rows) == pytest.approx(1)


def test_requested_counts_add_up_over_segments():
    effective = {0: {"a": Fraction(1), "b": Fraction(2)}, 50: {"a": Fraction(1)}}
    assert requested_counts(effective, 160) == {"a": Fraction(64, 3) + 96, "b": Fraction(128, 3)}
    assert requested_counts(effective, 30) == {"a": 10, "b": 20}
