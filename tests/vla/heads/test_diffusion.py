import math

import pytest
import torch

from oxe_pipeline.vla.backbones.nano import NanoConfig
from oxe_pipeline.vla.heads.diffusion import DiffusionConfig, NoiseSchedule, cosine_betas
from oxe_pipeline.vla.model import VLA, ModelConfig
from tests.vla.batches import make_batch
from tests.vla.heads.fresh_noise import fit_with_fresh_noise, repeated

NANO = NanoConfig(width=32, layers=1, heads=2, image_size=16)


def test_betas_are_those_of_the_published_cosine_schedule():
    """Nichol and Dhariwal 2021, equation 17 and the sentence after it, value by value."""

    def left(t: int) -> float:
        return math.cos((t / 20 + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = cosine_betas(20)
    expected = [min(0.999, 1 - left(t + 1) / left(t)) for t in range(20)]
    torch.testing.assert_close(betas, torch.tensor(expected), rtol=1e-5, atol=1e-7)
    assert betas[-1] == torch.tensor(0.999)
    assert NoiseSchedule(20, clip=5.0).kept[9].item() == pytest.approx(left(10) / left(0), rel=1e-5)


def test_noise_comes_on_with_the_variance_that_the_schedule_leaves():
    schedule, generator = NoiseSchedule(20, clip=5.0), torch.Generator().manual_seed(0)
    values, noise = (torch.randn(20_000, generator=generator) for _ in range(2))
    for t in (0, 9, 19):
        noisy = schedule.add_noise(3.0 + 0 * values, noise, torch.tensor(t))
        assert noisy.mean().item() == pytest.approx(3 * schedule.kept[t].sqrt().item(), abs=0.03)
        assert noisy.var().item() == pytest.approx(1 - schedule.kept[t].item(), abs=0.03)
        assert schedule.add_noise(values, noise, torch.tensor(t)).var().item() == pytest.approx(1, abs=0.03)


def test_the_estimate_takes_off_what_was_put_on():
    schedule, generator = NoiseSchedule(20, clip=5.0), torch.Generator().manual_seed(0)
    values, noise = (torch.randn(4, 6, generator=generator) for _ in range(2))
    t = torch.tensor([0, 5, 10, 18])[:, None]
    estimate = schedule.estimate(schedule.add_noise(values, noise, t), noise, t)
    torch.testing.assert_close(estimate, values, rtol=1e-3, atol=1e-4)


def test_with_the_true_score_of_a_gaussian_the_sampler_gives_that_gaussian():
    """Of N(mu, 1) the noise to expect is known in closed form, and steps of variance beta are then exact, but for the
    last, which adds none: variance 1 - beta_0."""
    schedule, generator = NoiseSchedule(20, clip=50.0), torch.Generator().manual_seed(0)
    mean = torch.tensor([-1.0, 0.0, 2.0])
    draws = torch.randn(40_000, 20, 3, generator=generator)

    def expected_noise(noisy: torch.Tensor, t: int) -> torch.Tensor:
        return (1 - schedule.kept[t]).sqrt() * (noisy - schedule.kept[t].sqrt() * mean)

    sampled = schedule.sample(expected_noise, draws, torch.ones(3, dtype=torch.bool))
    torch.testing.assert_close(sampled.mean(0), mean, rtol=0, atol=0.02)
    variance = torch.full((3,), 1 - cosine_betas(20)[0].item())
    torch.testing.assert_close(sampled.var(0), variance, rtol=0.02, atol=0)


def test_with_the_true_score_of_a_point_the_sampler_ends_on_it():
    schedule, generator = NoiseSchedule(20, clip=5.0), torch.Generator().manual_seed(0)
    point = torch.tensor([-4.0, 0.3, 1.0])

    def expected_noise(noisy: torch.Tensor, t: int) -> torch.Tensor:
        return (noisy - schedule.kept[t].sqrt() * point) / (1 - schedule.kept[t]).sqrt()

    sampled = schedule.sample(expected_noise, torch.randn(9, 20, 3, generator=generator), torch.ones(3) > 0)
    torch.testing.assert_close(sampled, point.expand(9, 3), rtol=0, atol=1e-4)


def test_values_that_do_not_exist_look_in_sampling_as_in_training():
    """Per step 0 with the noise of that step on it, whatever the network says of them, and 0 in the end."""
    schedule, generator = NoiseSchedule(20, clip=5.0), torch.Generator().manual_seed(0)
    draws, exists, seen = torch.randn(20_000, 20, 2, generator=generator), torch.tensor([True, False]), {}

    def note(noisy: torch.Tensor, t: int) -> torch.Tensor:
        seen[t] = noisy[:, 1].std().item()
        return torch.full_like(noisy, 3.0)

    assert (schedule.sample(note, draws, exists)[:, 1] == 0).all()
    for t in range(20):
        in_training = schedule.add_noise(torch.zeros(20_000), draws[:, 0, 0], torch.tensor(t)).std().item()
        assert seen[t] == pytest.approx(in_training, rel=0.03)


def test_samples_stay_within_the_clip():
    torch.manual_seed(0)
    model = VLA(ModelConfig(backbone=NANO, head=DiffusionConfig(clip=0.5))).eval()
    with torch.no_grad():
        model.head.score.mlp[-1].weight *= 100
    assert model.predict(make_batch(chunk=1)).abs().max() == 0.5


def test_actions_beyond_the_clip_are_learnt_as_the_clip():
    torch.manual_seed(0)
    model, batch = VLA(ModelConfig(backbone=NANO, head=DiffusionConfig(), chunk=2)), make_batch()
    batch["action"][0, 0, 0] = 5.0
    further = {**batch, "action": batch["action"].clone()}
    further["action"][0, 0, 0] = 500.0
    with torch.no_grad():
        assert torch.equal(model(batch).loss_B, model(further).loss_B)


def test_several_draws_in_one_pass_make_the_loss_vary_less():
    torch.manual_seed(0)
    batch = repeated(make_batch(size=1), 200)
    batch["g"] = torch.arange(200)
    deviation = {}
    for draws in (1, 16):
        torch.manual_seed(0)
        head = DiffusionConfig(hidden_width=32, samples_per_forward=draws)
        with torch.no_grad():
            deviation[draws] = VLA(ModelConfig(backbone=NANO, head=head, chunk=2))(batch).loss_B.std().item()
    assert deviation[16] == pytest.approx(deviation[1] / 4, rel=0.25)


def test_a_few_steps_on_one_batch_drive_its_loss_near_zero_and_its_samples_to_the_targets():
    torch.manual_seed(0)
    head = DiffusionConfig(hidden_width=64, blocks=2, samples_per_forward=64)
    model, batch = VLA(ModelConfig(backbone=NANO, head=head, chunk=2)), make_batch(size=2)
    loss = fit_with_fresh_noise(model, batch, steps=150, peak=1e-2)
    assert loss < 0.04, "predicting no noise at all is 1"
    error = (model.predict(batch) - batch["action"])[:, :, [0, 1, 6]].abs()
    assert error.mean() < 0.08 and error.max() < 0.25


@pytest.mark.parametrize("field", ["steps", "readouts", "samples_per_forward", "hidden_width", "blocks", "time_width"])
def test_sizes_below_1_are_refused(field):
    with pytest.raises(ValueError, match=field):
        DiffusionConfig(**{field: 0})
