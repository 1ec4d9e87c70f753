import pytest
import torch

from oxe_pipeline.vla.heads.bin_tokens import BinTokensConfig
from oxe_pipeline.vla.heads.layout import token_layout
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


def test_tokens_are_laid_out_by_step_then_slot_for_each_sample():
    mask = torch.zeros(2, 32, dtype=torch.bool)
    mask[0, [6, 2]] = True
    mask[1, [0, 9, 31]] = True
    layout = token_layout(mask, chunk=2)
    assert layout.slot[0][layout.valid[0]].tolist() == [2, 6, 2, 6]
    assert layout.step[0][layout.valid[0]].tolist() == [0, 0, 1, 1]
    assert layout.slot[1].tolist() == [0, 9, 31, 0, 9, 31] and layout.valid[1].all()


def test_a_sample_without_any_action_slot_is_refused():
    with pytest.raises(ValueError, match="no action slot"):
        token_layout(torch.zeros(1, 32, dtype=torch.bool), chunk=1)


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


def test_decoding_with_the_cache_agrees_with_one_pass_over_the_decoded_tokens(model):
    batch = make_batch(slots=MIXED, history=2)
    predicted = model.predict(batch)
    with torch.no_grad():
        output = model(changed(batch, action=predicted))
    # What was chosen token by token, fed back as the truth, is chosen again at every place.
    assert output.metrics["token_accuracy"].tolist() == [1.0] * 4


def test_predictions_are_bin_centres_in_the_slots_a_sample_has_and_0_elsewhere(model):
    batch = make_batch(slots=MIXED, history=2)
    predicted = model.predict(batch)
    assert predicted.shape == (4, 2, 32) and predicted.dtype == torch.float32
    has = batch["action_mask"][:, None].expand_as(predicted)
    assert (predicted[~has] == 0).all()
    bins = (predicted[has] + 1) * 128 - 0.5
    torch.testing.assert_close(bins, bins.round())
    assert predicted[has].abs().max() <= 1 - 1 / 256


@pytest.mark.parametrize("choice", ["likeliest", "median"])
def test_decoding_never_gives_a_text_id_even_when_text_is_far_likelier(choice):
    torch.manual_seed(0)
    model = VLA(ModelConfig(head=BinTokensConfig(choice=choice))).eval()
    batch = make_batch(chunk=1)
    first = model.head.tokenizer.first_id
    with torch.no_grad():
        hidden, _ = model.backbone.decode(
            model.head.begin.expand(4, 1, -1), torch.ones(4, 1, dtype=torch.bool), model.backbone.encode(batch)
        )
        model.backbone.tokens.weight[:first] = 100 * hidden[:, 0].mean(0)
        likeliest = model.backbone.logits(hidden).argmax(-1)
    assert (likeliest < first).all(), "without the restriction text would be chosen"
    assert model.predict(batch)[:, :, :2].abs().max() < 1


def test_a_few_steps_on_one_batch_drive_its_loss_near_zero_and_its_predictions_to_the_targets():
    torch.manual_seed(0)
    model, batch = VLA(ModelConfig(chunk=1)), make_batch(size=4, chunk=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(60):
        loss = model(batch).loss_B.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    has = batch["action_mask"][:, None].expand_as(batch["action"])
    error = (model.eval().predict(batch) - batch["action"])[has].abs()
    assert error.max() <= 1 / 256 + 1e-6


def test_the_median_bin_splits_the_probability_in_half():
    head = VLA(ModelConfig(head=BinTokensConfig(choice="median"))).head
    first = head.tokenizer.first_id
    probability = torch.zeros(2, 1, head.tokenizer.vocabulary_size)
    probability[0, 0, [first + 10, first + 20, first + 30]] = torch.tensor([0.4, 0.3, 0.3])
    probability[1, 0, [first, first + 255]] = torch.tensor([0.2, 0.8])
    assert head.choose(probability.log())[:, 0].tolist() == [first + 20, first + 255]


def test_a_history_longer_than_the_backbone_knows_is_refused():
    with pytest.raises(ValueError, match="max_history 4"):
        ModelConfig(history=5)
