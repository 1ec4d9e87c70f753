import pytest
import torch

from oxe_pipeline.vla.model import VLA, ModelConfig
from oxe_pipeline.vla.presets import preset
from tests.vla.batches import make_batch

MIXED = ((0, 1, 6), (0, 1, 2, 3, 4, 5, 6), (28, 29, 30))


@pytest.fixture(scope="module")
def model() -> VLA:
    torch.manual_seed(0)
    return VLA(ModelConfig(chunk=2, history=2)).eval()


def changed(batch: dict, **values) -> dict:
    return {**batch, **values}


def loss(model: VLA, batch: dict) -> torch.Tensor:
    with torch.no_grad():
        return model(batch).loss_B


def test_nano_has_fewer_than_a_million_parameters():
    assert 100_000 < VLA(preset("nano", chunk=8).model).num_parameters < 1_000_000


def test_values_in_masked_slots_change_no_loss(model):
    batch = make_batch(slots=MIXED, history=2)
    noise = torch.where(batch["action_mask"][:, None], batch["action"], torch.full_like(batch["action"], 0.7))
    state_noise = torch.where(batch["state_mask"][:, None], batch["state"], torch.tensor(9.0))
    assert torch.equal(loss(model, batch), loss(model, changed(batch, action=noise, state=state_noise)))


def test_steps_past_the_end_of_the_episode_change_no_loss(model):
    batch = make_batch(slots=MIXED, history=2)
    batch["action_pad_mask"][1:, 1] = False
    other = batch["action"].clone()
    other[1:, 1] = -other[1:, 1]
    assert torch.equal(loss(model, batch), loss(model, changed(batch, action=other)))
    other[0, 1] = -other[0, 1]
    after = loss(model, changed(batch, action=other))
    assert after[0] != loss(model, batch)[0], "a real step does count"


def test_a_masked_camera_has_no_influence_and_equals_an_absent_one(model):
    batch = make_batch(history=2)
    batch["image_wrist_mask"][:] = False
    reference = loss(model, batch)
    assert torch.equal(reference, loss(model, changed(batch, image_wrist=255 - batch["image_wrist"])))
    without = {name: value for name, value in batch.items() if not name.startswith("image_wrist")}
    torch.testing.assert_close(reference, loss(model, without))
    batch["image_wrist_mask"][:] = True
    assert not torch.equal(reference, loss(model, batch)), "a camera that is there does count"


def test_padded_history_has_no_influence(model):
    batch = make_batch(history=2)
    for name in ("history_mask", "image_primary_mask", "image_wrist_mask"):
        batch[name][:, 0] = False
    other = changed(batch, state=batch["state"].clone(), image_primary=batch["image_primary"].clone())
    other["state"][:, 0] = 3.0
    other["image_primary"][:, 0] = 0
    assert torch.equal(loss(model, batch), loss(model, other))


def test_a_sample_is_treated_the_same_alone_and_beside_other_robots(model):
    batch = make_batch(slots=MIXED, history=2)
    for row in range(4):
        alone = {name: value[row : row + 1] for name, value in batch.items()}
        torch.testing.assert_close(loss(model, batch)[row : row + 1], loss(model, alone), rtol=1e-4, atol=1e-5)


def test_a_history_longer_than_the_backbone_knows_is_refused():
    with pytest.raises(ValueError, match="max_history 4"):
        ModelConfig(history=5)
