import math

import pytest
import torch
from scipy import stats

from oxe_pipeline.vla.backbones.nano import NanoConfig
from oxe_pipeline.vla.heads.flow import FlowConfig, flow_times, follow, time_features
from oxe_pipeline.vla.model import VLA, ModelConfig
from tests.vla.batches import make_batch
from tests.vla.heads.fresh_noise import fit_with_fresh_noise, repeated

NANO = NanoConfig(width=32, layers=1, heads=2, image_size=16)
HEAD = FlowConfig(expert_width=64, expert_mlp_width=128, queries_per_head=1)


@pytest.fixture(scope="module")
def model() -> VLA:
    torch.manual_seed(0)
    return VLA(ModelConfig(backbone=NANO, head=HEAD, chunk=3)).eval()


def test_times_follow_the_published_beta_distribution():
    times = flow_times(torch.arange(20_000)).double().numpy()
    assert stats.kstest((times - 0.001) / 0.999, stats.beta(1.5, 1).cdf).pvalue > 1e-3
    assert times.mean() == pytest.approx(0.001 + 0.999 * 0.6, abs=0.01)
    assert times.var() == pytest.approx(0.999**2 * 1.5 / (2.5**2 * 3.5), abs=0.002)
    assert times.min() >= 0.001 and times.max() < 1


def test_time_features_are_sines_and_cosines_of_periods_from_4_ms_to_4():
    features = time_features(torch.tensor([0.0, 0.37, 1.0]), 8)
    periods = [0.004, 0.04, 0.4, 4.0]
    for row, time in zip(features.tolist(), (0.0, 0.37, 1.0), strict=True):
        expected = [wave(2 * math.pi * time / period) for wave in (math.sin, math.cos) for period in periods]
        assert row == pytest.approx(expected, abs=1e-3)


def test_the_exact_velocity_of_a_point_leads_onto_it_in_any_number_of_steps():
    point, noise = torch.tensor([0.3, -2.0]), torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    for steps in (1, 10):
        end = follow(lambda x, time_B: (x - point) / time_B[:, None], noise, steps=steps)
        torch.testing.assert_close(end, point.expand(5, 2), rtol=0, atol=1e-5)


def test_the_exact_velocity_of_a_gaussian_carries_noise_to_it():
    """x = t * noise + (1 - t) * a with a from N(mu, s^2): the expectation of noise - a given x, in closed form."""
    mean, deviation = 1.5, 0.4
    noise = torch.randn(20_000, generator=torch.Generator().manual_seed(0))

    def velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        covariance = t - (1 - t) * deviation**2
        variance = t**2 + (1 - t) ** 2 * deviation**2
        return -mean + covariance / variance * (x - (1 - t) * mean)

    end = follow(velocity, noise, steps=200)
    assert end.mean().item() == pytest.approx(mean, abs=0.01)
    assert end.std().item() == pytest.approx(deviation, rel=0.03)


def expert_tokens(model: VLA, batch: dict, noisy: torch.Tensor, exists: torch.Tensor) -> torch.Tensor:
    """What the expert makes of the state and the noisy steps, [B, 1 + chunk, W]."""
    noted = []
    hook = model.head.expert.register_forward_hook(lambda _module, _inputs, output: noted.append(output))
    with torch.no_grad():
        context = model.backbone.encode(batch)
        model.head._velocity(model.backbone, context, batch, noisy, torch.full((len(noisy),), 0.5), exists)
    hook.remove()
    return noted[0]


def test_the_state_sees_no_action_and_every_action_sees_all_that_exist(model):
    batch, exists = make_batch(chunk=3), torch.ones(4, 3, dtype=torch.bool)
    exists[0, 2] = False
    noisy = torch.randn(4, 3, 32, generator=torch.Generator().manual_seed(0)) * batch["action_mask"][:, None]
    changed = noisy.clone()
    changed[:, 2] *= -3
    before, after = (expert_tokens(model, batch, actions, exists) for actions in (noisy, changed))
    assert torch.equal(before[:, 0], after[:, 0])
    assert torch.equal(before[0, :3], after[0, :3]), "the step past the end is seen by no other"
    assert (before[1:, 1:] != after[1:, 1:]).any(-1).all()


def test_every_action_sees_the_newest_state_and_which_of_it_exists(model):
    batch = make_batch(chunk=3)
    before = model.predict(batch)
    for name, value in (("state", batch["state"] + 1.0), ("state_mask", torch.ones(4, 40, dtype=torch.bool))):
        changed = (before != model.predict({**batch, name: value}))[:, :, [0, 1, 6]]
        assert changed.any(-1).all(), name


def test_the_context_is_encoded_once_for_all_steps_of_a_prediction(model):
    calls = []
    hook = model.backbone.image_encoder.register_forward_hook(lambda *_: calls.append(1))
    model.predict(make_batch(chunk=3))
    hook.remove()
    assert len(calls) == 2, "one per camera"


def test_training_on_one_batch_drives_its_loss_near_zero_and_its_predictions_to_the_targets():
    torch.manual_seed(0)
    model, batch = VLA(ModelConfig(backbone=NANO, head=HEAD, chunk=2)), make_batch(size=2)
    loss = fit_with_fresh_noise(model, repeated(batch, 16), steps=150, peak=1e-2)
    assert loss < 0.15, "to know the action but not the noise is 1"
    error = (model.predict(batch) - batch["action"])[:, :, [0, 1, 6]].abs()
    assert error.mean() < 0.08 and error.max() < 0.25


@pytest.mark.parametrize("field", ["expert_width", "expert_mlp_width", "queries_per_head", "steps"])
def test_sizes_below_1_are_refused(field):
    with pytest.raises(ValueError, match=field):
        FlowConfig(**{field: 0})


def test_an_odd_width_is_refused():
    with pytest.raises(ValueError, match="expert_width must be even, is 63"):
        FlowConfig(expert_width=63)
