import pytest
import torch

from oxe_pipeline.vla.backbones.nano import NanoConfig
from oxe_pipeline.vla.heads.chunk_l1 import ChunkL1Config, used_slots
from oxe_pipeline.vla.model import VLA, ModelConfig
from tests.vla.batches import make_batch
from tests.vla.heads.fresh_noise import fit_with_fresh_noise

NANO = NanoConfig(width=32, layers=1, heads=2, image_size=16)


def make_model(*slots: int, chunk: int = 2) -> VLA:
    torch.manual_seed(0)
    return VLA(ModelConfig(backbone=NANO, head=ChunkL1Config(slots=slots), chunk=chunk)).eval()


def test_the_loss_is_the_mean_absolute_error_of_the_prediction():
    model, batch = make_model(0, 1, 6, 20), make_batch(slots=((0, 1, 6), (20,)))
    batch["action_pad_mask"][1, 1] = False
    error = (model.predict(batch) - batch["action"]).abs()
    expected = [error[0, :, [0, 1, 6]].mean(), error[1, 0, 20], error[2, :, [0, 1, 6]].mean(), error[3, :, 20].mean()]
    with torch.no_grad():
        torch.testing.assert_close(model(batch).loss_B, torch.stack(expected))


def test_a_slot_that_a_sample_lacks_is_out_of_its_sight():
    """What the token of a missing slot says changes nothing; what that of a present slot says changes everything."""
    model, batch = make_model(0, 1, 6, 20), make_batch(slots=((0, 1, 6), (0, 1, 6, 20)))
    before = model.predict(batch)
    with torch.no_grad():
        model.head.slot.weight[3] *= -2.0
    after = model.predict(batch)
    assert torch.equal(before[::2], after[::2])
    assert (before[1::2] != after[1::2])[:, :, [0, 1, 6, 20]].all()


def test_every_value_is_predicted_in_sight_of_later_steps_and_slots():
    model, batch = make_model(0, 1, 6), make_batch()
    before = model.predict(batch)
    with torch.no_grad():
        model.head.step.weight[1] *= -2.0
    assert (before != model.predict(batch))[:, 0, [0, 1, 6]].all()


def test_used_slots_are_those_that_any_data_set_has():
    masks = torch.zeros(3, 32, dtype=torch.bool)
    masks[0, [0, 6]] = masks[2, [6, 31]] = True
    assert used_slots(masks.tolist()) == used_slots(masks.numpy()) == (0, 6, 31)


def test_a_batch_with_slots_that_the_model_was_not_made_for_is_refused_by_name():
    with pytest.raises(ValueError, match=r"arm0\.gripper; set `slots`"):
        make_model(0, 1).predict(make_batch())


@pytest.mark.parametrize("slots", [(), (1, 0), (0, 0), (-1, 2), (3, 32)])
def test_slots_that_are_no_ascending_slot_numbers_are_refused(slots):
    with pytest.raises(ValueError, match="ascending"):
        ChunkL1Config(slots=slots)


def test_a_few_steps_on_one_batch_drive_its_loss_near_zero_and_its_predictions_to_the_targets():
    model, batch = make_model(0, 1, 6), make_batch()
    first = model(batch).loss_B.mean().item()
    last = fit_with_fresh_noise(model, batch, steps=100, peak=3e-3)
    assert last < 0.02 < 0.3 < first
    error = (model.predict(batch) - batch["action"])[:, :, [0, 1, 6]].abs()
    assert error.mean() < 0.02 and error.max() < 0.06
