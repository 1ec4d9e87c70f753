"""What the audit tells is what the loader delivers."""

import pytest

from oxe_pipeline.loader.audit import drawn_samples, located
from oxe_pipeline.loader.loader import make_loader


@pytest.mark.parametrize("instruction", ["any", "main"])
def test_every_field_is_the_one_of_the_delivered_batch(mixture, instruction):
    batch_size, step = 24, 7
    with make_loader(mixture, batch_size=batch_size, image_size=16, start_step=step, instruction=instruction) as loader:
        batch = next(loader)
    samples = located(mixture, range(step * batch_size, (step + 1) * batch_size))
    rows = drawn_samples(mixture, samples, instruction=instruction)
    assert [row.instruction for row in rows] == batch["instruction"]
    assert len(set(batch["instruction"])) > 2
    for i, row in enumerate(rows):
        dataset = mixture.datasets[batch["dataset"][i]]
        episodes, episode = dataset.stream.episodes, int(batch["episode"][i])
        assert (row.g, row.dataset, row.step) == (batch["g"][i], dataset.name, batch["step"][i])
        assert row.episode_id == episodes.episode_id(episode) and row.source_path == episodes.source_path(episode)
        assert row.num_steps == episodes.length[episode] > row.step


def test_an_epoch_holds_every_step_of_its_data_set_once(mixture):
    rows = drawn_samples(mixture, located(mixture, range(3000)))
    for dataset in mixture.datasets:
        of = [row for row in rows if row.dataset == dataset.name]
        last = max(row.epoch for row in of)
        assert last >= 3
        for epoch in range(last - 1):  # The last two may go on after the samples looked at.
            places = [(row.episode_id, row.step) for row in of if row.epoch == epoch]
            assert len(places) == len(set(places)) == dataset.num_steps
