import pytest
import torch

from oxe_pipeline.mixture.counter_rng import uniform
from oxe_pipeline.vla.backbones.task_condition import given_conditions
from oxe_pipeline.vla.noise import SEED, NoiseStream

COUNT = 4000


def light_batch(**values) -> dict:
    """Masks and texts alone, of many samples."""
    ones = torch.ones(COUNT, 1, dtype=torch.bool)
    batch = {
        "instruction": ["push"] * COUNT,
        "history_mask": ones,
        "image_primary_mask": ones,
        "image_goal_mask": ones[:, 0],
        "g": torch.arange(COUNT) + 10**12,
    }
    return {**batch, **values}


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.5, 1.0])
def test_one_of_two_conditions_is_kept_as_the_samples_number_decides(probability):
    batch = light_batch()
    text_B, goal_B = given_conditions(batch, goal_camera="primary", keep_goal_probability=probability)
    assert (text_B ^ goal_B).all(), "never both, never neither"
    word = uniform(SEED, batch["g"].numpy(), NoiseStream.CONDITION_DELETION)
    expected = torch.from_numpy(word) < probability
    assert torch.equal(goal_B, expected)
    assert abs(goal_B.double().mean() - probability) < 0.03


def test_what_a_sample_has_alone_is_never_taken_from_it():
    batch = light_batch()
    no_text, no_goal = torch.arange(COUNT) % 4 == 1, torch.arange(COUNT) % 4 == 2
    neither = torch.arange(COUNT) % 4 == 3
    batch["instruction"] = ["" if lacks else "push" for lacks in (no_text | neither).tolist()]
    batch["image_goal_mask"] = ~(no_goal | neither)
    text_B, goal_B = given_conditions(batch, goal_camera="primary", keep_goal_probability=0.5)
    assert not text_B[no_text].any() and goal_B[no_text].all()
    assert text_B[no_goal].all() and not goal_B[no_goal].any()
    assert not text_B[neither].any() and not goal_B[neither].any()
    both = ~(no_text | no_goal | neither)
    assert (text_B ^ goal_B)[both].all() and text_B[both].any() and goal_B[both].any()


def test_a_goal_without_an_image_of_its_camera_beside_it_does_not_count():
    batch = light_batch()
    hidden = torch.arange(COUNT) % 2 == 0
    batch["image_primary_mask"] = ~hidden[:, None]
    text_B, goal_B = given_conditions(batch, goal_camera="primary", keep_goal_probability=1.0)
    assert torch.equal(text_B, hidden) and torch.equal(goal_B, ~hidden)


@pytest.mark.parametrize(("mode", "text", "goal"), [("both", True, True), ("text", True, False), ("goal", False, True)])
@pytest.mark.parametrize("keep", [None, 0.5])
def test_the_mode_of_a_batch_decides_in_training_and_out_of_it(mode, text, goal, keep):
    text_B, goal_B = given_conditions(light_batch(task_mode=mode), goal_camera="primary", keep_goal_probability=keep)
    assert (text_B == text).all() and (goal_B == goal).all()


def test_without_a_mode_nothing_is_withheld_when_acting():
    text_B, goal_B = given_conditions(light_batch(), goal_camera="primary", keep_goal_probability=None)
    assert text_B.all() and goal_B.all()


def test_unknown_modes_and_goals_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="task_mode must be one of both, text, goal, is 'image'"):
        given_conditions(light_batch(task_mode="image"), goal_camera="primary", keep_goal_probability=None)
    with pytest.raises(ValueError, match="goal_images=True"):
        given_conditions(light_batch(task_mode="goal"), goal_camera=None, keep_goal_probability=None)
