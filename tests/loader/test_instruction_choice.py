"""Which instruction a sample gets."""

import numpy as np

from oxe_pipeline.loader.audit import located
from oxe_pipeline.loader.instruction_choice import chosen_instructions
from tests.loader.conftest import make_episodes, open_mixture
from tests.synthetic import write_stream


def test_alternatives_are_drawn_evenly_and_anew_for_each_sample_number(mixture):
    samples = located(mixture, np.arange(2000))
    texts = chosen_instructions(mixture.datasets, samples, seed=mixture.seed, choice="any")
    chosen: dict[tuple, list[str]] = {}
    for number, episode, text in zip(samples.dataset.tolist(), samples.episode.tolist(), texts, strict=True):
        chosen.setdefault((number, episode), []).append(text)
    # Synthetic episodes of odd number have two instructions.
    for (_, episode), of_episode in chosen.items():
        assert (
            set(of_episode) == {f"push block {episode}", f"shove block {episode}"}
            if episode % 2
            else {f"push block {episode}"}
        )
        if episode % 2:
            shoved = np.mean([text.startswith("shove") for text in of_episode])
            assert abs(shoved - 0.5) < 4 * 0.5 / np.sqrt(len(of_episode))


def test_another_seed_chooses_otherwise_and_the_same_seed_the_same(mixture):
    samples = located(mixture, np.arange(500))
    first, again, other = (
        chosen_instructions(mixture.datasets, samples, seed=seed, choice="any") for seed in (3, 3, 4)
    )
    assert first == again != other


def test_main_is_the_first_one_and_none_is_an_empty_text(tmp_path):
    episodes = make_episodes("some", [6] * 6, cameras=())
    episodes[2].instruction, episodes[2].alternatives = "", ()
    mixture = open_mixture([write_stream(tmp_path / "some", episodes)])
    samples = located(mixture, np.arange(64))
    texts = chosen_instructions(mixture.datasets, samples, seed=1, choice="main")
    assert texts == ["" if episode == 2 else f"push block {episode}" for episode in samples.episode.tolist()]
    assert "" in texts and "push block 1" in texts
